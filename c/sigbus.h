/* SPDX-License-Identifier: MIT */
/*
 * The SIGBUS guard. A peer can shrink a file that it shared; touching the lost
 * part then raises SIGBUS here. The guard puts private zero pages in its place
 * and raises a flag, so that the access goes on and the device can be broken at
 * leisure.
 */
#ifndef VHC_SIGBUS_H
#define VHC_SIGBUS_H

#include <stdatomic.h>
#include <stdint.h>

struct sigbus_guard;

/*
 * Guards size bytes mapped at addr in pages of page_size: a fault there sets
 * *faulted. The handler is installed at the first call and chains to the one
 * it found. Returns NULL without memory. Thread: any.
 */
struct sigbus_guard *sigbus_guard(uint64_t addr, uint64_t size, uint64_t page_size,
				  atomic_bool *faulted);

/* To be called before the memory is unmapped, when no thread touches it any more. */
void sigbus_unguard(struct sigbus_guard *guard);

#endif
