/* SPDX-License-Identifier: MIT */
/* A part of a file that a peer shared, mapped so that the peer cannot hurt us with it. */
#ifndef VHC_MAPPING_H
#define VHC_MAPPING_H

#include <stdatomic.h>
#include <stdint.h>

struct sigbus_guard;

struct mapping {
	uint64_t host; /* address of its first byte here */
	uint64_t map;  /* what was mapped: whole pages around it */
	uint64_t map_size;
	struct sigbus_guard *guard;
};

/*
 * Maps size bytes (not 0) of fd at offset to read and write. What the peer cuts off
 * later reads as zeros, and *faulted, which outlives the mapping, is set.
 * Errors: -EINVAL (not a regular file, on FUSE, shorter than that), -EBADF, -EACCES,
 * -ENOMEM. Thread: any.
 */
int mapping_create(struct mapping *mapping, int fd, uint64_t offset, uint64_t size,
		   atomic_bool *faulted);

/* To be called when no thread touches it any more. */
void mapping_destroy(struct mapping *mapping);

#endif
