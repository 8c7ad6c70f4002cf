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

/* A writer holds a reference; vhc_upcalls_release gives it back. Thread: any. */
void upcalls_ref(struct vhc_upcalls *upcalls);

#endif
