/* SPDX-License-Identifier: MIT */
/* Rings with an in-flight region: what of their chains is written there, and when. */
#ifndef VHC_RING_TRACK_H
#define VHC_RING_TRACK_H

#include "ring_state.h"

/*
 * Opens the ring's region, and finds what a predecessor left. Errors: inflight_open's
 * and inflight_recover_split's; see vhc_ring_create.
 */
int ring_recover(struct vhc_ring *ring, const struct vhc_ring_config *config);
void ring_track_free(struct vhc_ring *ring);

/* Marks the chains of a batch, if a crash could leave the ring without them. */
void ring_track(struct vhc_ring *ring, const struct ring_head *heads, uint32_t n);

/* A marked chain is about to be put. */
void ring_track_put(struct vhc_ring *ring, uint16_t head);

/* Shows the driver what was put. Returns how many descriptors, of a packed ring. */
uint32_t ring_track_show(struct vhc_ring *ring);

#endif
