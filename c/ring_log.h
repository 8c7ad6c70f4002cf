/* SPDX-License-Identifier: MIT */
/* Rings whose writes are logged for a migration: guest memory, and the ring itself. */
#ifndef VHC_RING_LOG_H
#define VHC_RING_LOG_H

#include "ring_state.h"

/* Errors: -ENOMEM. */
int ring_log_init(struct vhc_ring *ring, const struct vhc_ring_config *config);
void ring_log_free(struct vhc_ring *ring);

/* Keeps the pieces that the device may write of a chain until it is put. */
void ring_log_note(struct vhc_ring *ring, uint32_t head, const struct iovec *iov, uint32_t n);

/*
 * Marks what was written: of a chain that is put; of the ring, by publishing chains from
 * `old` on, or descriptors from `from` on; by asking for kicks or for none. What the
 * log has no place for breaks the ring.
 */
void ring_log_chain(struct vhc_ring *ring, size_t head);
void ring_log_published(struct vhc_ring *ring, uint16_t old, struct inflight_position from);
void ring_log_asked(struct vhc_ring *ring);

/* Of all of a packed ring's descriptors. */
void ring_log_descs(struct vhc_ring *ring);

#endif
