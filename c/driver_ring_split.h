/* SPDX-License-Identifier: MIT */
/* The driver's side of a split virtqueue (virtio 2.7): what runs once per request. */
#ifndef VHC_DRIVER_RING_SPLIT_H
#define VHC_DRIVER_RING_SPLIT_H

#include "driver_ring_state.h"

/* What driver_ring.c has of either format: see driver_ring.h. */
void driver_split_layout(uint32_t size, struct vhc_driver_ring_layout *out);
void driver_split_place(struct vhc_driver_ring *ring, uint64_t addr);
uint16_t driver_split_build(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			    uint32_t num_out, uint32_t num, bool indirect);
void driver_split_set_piece(struct vhc_driver_ring *ring, uint16_t head, uint32_t n, uint64_t gpa,
			    uint32_t len, bool write);
bool driver_split_arm(struct vhc_driver_ring *ring);
void driver_split_disarm(struct vhc_driver_ring *ring);

/* The device need not call: moves used_event out of its way. */
void driver_split_quiet(struct vhc_driver_ring *ring);

static inline void driver_split_offer(struct vhc_driver_ring *ring, uint16_t head)
{
	struct driver_split *s = &ring->of_split;
	s->avail_ring[s->next_avail++ & (ring->size - 1)] = head;
}

/* True if the device wants a kick for what was published since old (virtio 2.7.10). */
static inline bool driver_split_wants_kick(const struct vhc_driver_ring *ring, uint16_t old)
{
	const struct driver_split *s = &ring->of_split;
	if (!ring->event_idx)
		return !(__atomic_load_n(s->used_flags, __ATOMIC_SEQ_CST) & VRING_USED_F_NO_NOTIFY);
	uint16_t event = __atomic_load_n(s->avail_event, __ATOMIC_SEQ_CST);
	return vring_need_event(event, s->published, old);
}

static inline bool driver_split_publish(struct vhc_driver_ring *ring)
{
	struct driver_split *s = &ring->of_split;
	uint16_t old = s->published;
	if (s->next_avail == old)
		return false;
	s->published = s->next_avail;
	/* Sequentially consistent: the device's wish must not be read before this is seen. */
	__atomic_store_n(s->avail_idx, s->published, __ATOMIC_SEQ_CST);
	return driver_ring_told(ring, driver_split_wants_kick(ring, old));
}

static inline int driver_split_ready(struct vhc_driver_ring *ring)
{
	struct driver_split *s = &ring->of_split;
	uint16_t used = __atomic_load_n(s->used_idx, __ATOMIC_ACQUIRE);
	uint16_t n = used - s->last_used;
	if (n == 0)
		return ring->broken ? -EPROTO : 0;
	return n > ring->in_flight || ring->broken ? driver_ring_break(ring) : n;
}

static inline int driver_split_take(struct vhc_driver_ring *ring, uint32_t *len)
{
	struct driver_split *s = &ring->of_split;
	const struct vring_used_elem *used = &s->used_ring[s->last_used & (ring->size - 1)];
	uint32_t head = __atomic_load_n(&used->id, __ATOMIC_RELAXED);
	if (!driver_ring_returned(ring, head))
		return driver_ring_break(ring);
	*len = __atomic_load_n(&used->len, __ATOMIC_RELAXED);
	s->last_used++;
	/* used_event lies still while calls are not wanted: before the index meets it, move it. */
	if ((uint16_t)(s->event - s->last_used) < 0x4000 && !ring->armed)
		driver_split_quiet(ring);
	return (int)head;
}

#endif
