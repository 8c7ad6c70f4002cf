/* SPDX-License-Identifier: MIT */
/*
 * The device's side of a split virtqueue (virtio 2.7), as inline steps.
 *
 * Order between the two sides comes from avail->idx (acquire here, release in
 * the driver) and used->idx (the reverse). Where one side stores and then reads
 * what the other stores (used->idx and used_event, avail_event and avail->idx)
 * both accesses are sequentially consistent, so that at least one side sees the
 * other's.
 */
#ifndef VHC_RING_SPLIT_H
#define VHC_RING_SPLIT_H

#include "ring_state.h"

/* Chains offered and not taken. More than the ring holds breaks the ring. */
static inline uint32_t split_look(struct vhc_ring *ring)
{
	uint16_t waiting = __atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE) - ring->next_avail;

	if (__builtin_expect(waiting > ring->size, 0)) {
		ring_break(ring, -EPROTO, VHC_BREAK_AVAIL_INDEX);
		return 0;
	}
	return waiting;
}

/*
 * Takes the next n chains, of those that were counted, and starts to fetch their
 * descriptors. Returns how many it took: fewer if a head is beyond the table or
 * already the device's, which breaks the ring.
 */
static inline uint32_t split_take(struct vhc_ring *ring, struct ring_head *heads, uint32_t n)
{
	const struct vring_desc *table = ring->desc;
	const uint16_t *from = ring->avail->ring;
	uint8_t *taken = ring->taken;
	struct ring_head *at = heads;
	struct ring_head *end = heads + n;
	uint32_t next = ring->next_avail;
	uint32_t mask = ring->mask;

	for (; at < end; at++) {
		uint32_t index = __atomic_load_n(&from[next & mask], __ATOMIC_RELAXED);

		if (__builtin_expect(index > mask || taken[index], 0)) {
			ring_break(ring, -EPROTO,
				   index > mask ? VHC_BREAK_HEAD_RANGE : VHC_BREAK_HEAD_TWICE);
			break;
		}
		__builtin_prefetch(&table[index]);
		taken[index] = RING_TAKEN;
		at->first = &table[index];
		at->index = index;
		at->in_table = 0;
		next++;
	}
	ring->next_avail = (uint16_t)next;
	return (uint32_t)(at - heads);
}

static inline void split_untake(struct vhc_ring *ring, const struct ring_head *heads, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		ring->taken[heads[i].index] = 0;
	ring->next_avail -= (uint16_t)n;
}

static inline void split_put(struct vhc_ring *ring, size_t head, uint32_t len)
{
	uint32_t at = ring->next_used & ring->mask;

	ring->next_used++;
	ring->used->ring[at] = (struct vring_used_elem){.id = (uint32_t)head, .len = len};
	ring->taken[head] = 0;
}

/* Shows the driver what was put since the last time, with one store. */
static inline void split_show(struct vhc_ring *ring)
{
	if (ring->call_fd < 0)
		__atomic_store_n(&ring->used->idx, ring->next_used, __ATOMIC_RELEASE);
	else
		__atomic_store_n(&ring->used->idx, ring->next_used, __ATOMIC_SEQ_CST);
}

/* Whether the driver wants to be called: virtio 2.7.7.2 (EVENT_IDX) or 2.7.7.1. */
static inline bool split_wants_call(struct vhc_ring *ring, uint16_t old)
{
	if (!ring->event_idx)
		return !(__atomic_load_n(&ring->avail->flags, __ATOMIC_SEQ_CST) &
			 VRING_AVAIL_F_NO_INTERRUPT);

	uint16_t event = __atomic_load_n(ring->used_event, __ATOMIC_SEQ_CST);

	if (__builtin_expect(!ring->called, 0)) {
		ring->called = true;
		return true;
	}
	return vring_need_event(event, ring->next_used, old);
}

/* Asks for a kick for the next chain (virtio 2.7.10). */
static inline bool split_arm(struct vhc_ring *ring)
{
	if (ring->event_idx)
		__atomic_store_n(ring->avail_event, ring->next_avail, __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(&ring->used->flags, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&ring->avail->idx, __ATOMIC_SEQ_CST) != ring->next_avail;
}

/*
 * With EVENT_IDX there is nothing to write: an event
 * index that has been passed asks for nothing until 65,536 chains later.
 */
static inline void split_disarm(struct vhc_ring *ring)
{
	if (!ring->event_idx)
		__atomic_store_n(&ring->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

#endif
