/* SPDX-License-Identifier: MIT */
/* The writers' side of the upcall ring; the reader's is in vhostctl.h. */
#ifndef VHC_UPCALL_H
#define VHC_UPCALL_H

#include "vhostctl.h"

struct upcall_event {
	uint32_t type; /* enum vhc_upcall_type */
	uint32_t id;
	int32_t status;
	uint64_t arg;
};

/*
 * Copies an upcall to the ring and wakes the reader if it sleeps. Takes over the
 * descriptors on success only. Returns 0, or -EAGAIN when the ring is full: the
 * caller keeps the event and tries again later. Never blocks, never allocates.
 * len <= sizeof(vhc_upcall.data), num_fds <= VHC_MSG_MAX_FDS. Thread: any.
 */
int upcall_post(struct vhc_upcalls *upcalls, const struct upcall_event *event, const void *data,
		uint32_t len, const int32_t *fds, uint32_t num_fds);

/*
 * The same, but keeps its hands off the last `spare` free slots, and tells which
 * it took, in a count that runs freely.
 */
int upcall_post_sparing(struct vhc_upcalls *upcalls, const struct upcall_event *event,
			const void *data, uint32_t len, uint32_t spare, uint32_t *slot);

/* Slots that the reader has given back, in the same count. Thread: any. */
uint32_t upcalls_read(const struct vhc_upcalls *upcalls);

/* Whether n slots seem to be free: a look, before work is done for nothing. Thread: any. */
int upcalls_have(const struct vhc_upcalls *upcalls, uint32_t n);

/* A writer holds a reference; vhc_upcalls_release gives it back. Thread: any. */
void upcalls_ref(struct vhc_upcalls *upcalls);

#endif
