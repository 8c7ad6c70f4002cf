/* SPDX-License-Identifier: MIT */
/*
 * The device's side of a ring in a few lines, for tests of the driver's side: it
 * follows the specification (virtio 2.7 and 2.8) step by step and shares no code
 * with the device side. It believes the driver.
 */
#ifndef VHC_FAKE_RING_H
#define VHC_FAKE_RING_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <string.h>

#include "vhostctl.h"

#define FAKE_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define FAKE_USED (1u << VRING_PACKED_DESC_F_USED)
#define FAKE_MAX_PIECES 64u

/* A place in a packed ring. */
struct fake_position {
	uint16_t at;
	bool wrap;
};

struct fake_ring {
	bool packed, event_idx;
	uint32_t size;
	int kick_fd, call_fd;
	/* Split. */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t taken;
	/* Packed. */
	struct vring_packed_desc *ring;
	uint32_t *driver_event, *device_event; /* struct vring_packed_desc_event */
	struct fake_position next_avail, next_used;
};

struct fake_chain {
	uint16_t head;	/* or buffer ID */
	uint16_t count; /* packed: descriptors of the ring */
	uint32_t num;
	struct vring_desc pieces[FAKE_MAX_PIECES]; /* as the driver wrote them; packed: no `next` */
};

static inline struct fake_ring fake_ring_at(uint64_t addr, uint32_t size, uint64_t features,
					    int kick_fd, int call_fd)
{
	struct vhc_driver_ring_layout layout;
	vhc_driver_ring_layout(size, features, &layout);
	return (struct fake_ring){
	    .packed = features >> VIRTIO_F_RING_PACKED & 1,
	    .event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1,
	    .size = size,
	    .kick_fd = kick_fd,
	    .call_fd = call_fd,
	    .desc = (struct vring_desc *)addr,
	    .avail = (struct vring_avail *)(addr + layout.avail),
	    .used = (struct vring_used *)(addr + layout.used),
	    .ring = (struct vring_packed_desc *)addr,
	    .driver_event = (uint32_t *)(addr + layout.avail),
	    .device_event = (uint32_t *)(addr + layout.used),
	    .next_avail = {0, true},
	    .next_used = {0, true},
	};
}

static inline struct fake_position fake_after(const struct fake_ring *ring, struct fake_position p,
					      uint32_t n)
{
	for (; n > 0; n--) {
		if (++p.at == ring->size)
			p = (struct fake_position){0, !p.wrap};
	}
	return p;
}

/* ---- Taking -------------------------------------------------------------------------- */

static inline bool fake_waits(const struct fake_ring *ring)
{
	if (!ring->packed)
		return __atomic_load_n(&ring->avail->idx, __ATOMIC_SEQ_CST) != ring->taken;
	const uint16_t flags =
	    __atomic_load_n(&ring->ring[ring->next_avail.at].flags, __ATOMIC_SEQ_CST);
	return !(flags & FAKE_AVAIL) == !ring->next_avail.wrap &&
	       !(flags & FAKE_USED) == ring->next_avail.wrap;
}

static inline bool fake_take_split(struct fake_ring *ring, struct fake_chain *chain)
{
	const struct vring_desc *table = ring->desc;
	uint16_t at = ring->avail->ring[ring->taken++ % ring->size];
	chain->head = at;
	if (table[at].flags & VRING_DESC_F_INDIRECT) {
		table = (const struct vring_desc *)table[at].addr;
		at = 0;
	}
	while (chain->num < FAKE_MAX_PIECES) {
		const struct vring_desc *piece = &chain->pieces[chain->num++];
		chain->pieces[chain->num - 1] = table[at];
		if (!(piece->flags & VRING_DESC_F_NEXT))
			return true;
		at = piece->next;
	}
	return false;
}

static inline void fake_add_piece(struct fake_chain *chain, const struct vring_packed_desc *d)
{
	chain->pieces[chain->num++] =
	    (struct vring_desc){.addr = d->addr, .len = d->len, .flags = d->flags};
}

/* Order links the descriptors, in the ring and in tables; the last one has the ID. */
static inline bool fake_take_packed(struct fake_ring *ring, struct fake_chain *chain)
{
	const struct vring_packed_desc *d;
	do {
		d = &ring->ring[ring->next_avail.at];
		/* All flags are set in all descriptors of a list (2.8.6). */
		if (!(d->flags & FAKE_AVAIL) != !ring->next_avail.wrap ||
		    !(d->flags & FAKE_USED) != ring->next_avail.wrap ||
		    chain->num == FAKE_MAX_PIECES)
			return false;
		if (!(d->flags & VRING_DESC_F_INDIRECT))
			fake_add_piece(chain, d);
		ring->next_avail = fake_after(ring, ring->next_avail, 1);
		chain->count++;
	} while (d->flags & VRING_DESC_F_NEXT);
	chain->head = d->id;
	const struct vring_packed_desc *table = (const struct vring_packed_desc *)d->addr;
	for (uint32_t i = 0; d->flags & VRING_DESC_F_INDIRECT && i < d->len / 16; i++) {
		if (table[i].flags & ~VRING_DESC_F_WRITE || chain->num == FAKE_MAX_PIECES)
			return false;
		fake_add_piece(chain, &table[i]);
	}
	return true;
}

/* Takes a chain that waits. False if it is not as a driver has to write it. */
static inline bool fake_take(struct fake_ring *ring, struct fake_chain *chain)
{
	chain->head = chain->count = 0;
	chain->num = 0;
	return ring->packed ? fake_take_packed(ring, chain) : fake_take_split(ring, chain);
}

/* ---- Returning ----------------------------------------------------------------------- */

/* Writes a used descriptor of a packed ring: len, ID and flags at once, as the driver reads them.
 */
static inline void fake_put_packed(struct fake_ring *ring, struct fake_position at, uint16_t id,
				   uint32_t len)
{
	const uint64_t flags =
	    (at.wrap ? FAKE_AVAIL | FAKE_USED : 0) | (len ? VRING_DESC_F_WRITE : 0);
	__atomic_store_n((uint64_t *)&ring->ring[at.at].len, len | (uint64_t)id << 32 | flags << 48,
			 __ATOMIC_SEQ_CST);
}

/* Whether the driver wants a call when the used index goes from old to idx. */
static inline bool fake_wants_call_split(const struct fake_ring *ring, uint16_t idx, uint16_t old)
{
	if (!ring->event_idx)
		return !(__atomic_load_n(&ring->avail->flags, __ATOMIC_SEQ_CST) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	return vring_need_event(__atomic_load_n(&ring->avail->ring[ring->size], __ATOMIC_SEQ_CST),
				idx, old);
}

/* Whether the driver wants a call when count descriptors from `at` on are used. */
static inline bool fake_wants_call_packed(const struct fake_ring *ring, struct fake_position at,
					  uint32_t count)
{
	const uint32_t event = __atomic_load_n(ring->driver_event, __ATOMIC_SEQ_CST);
	if (event >> 16 != VRING_PACKED_EVENT_FLAG_DESC)
		return event >> 16 == VRING_PACKED_EVENT_FLAG_ENABLE;
	for (; count > 0; count--, at = fake_after(ring, at, 1)) {
		if ((at.at | (uint32_t)at.wrap << 15) == (event & UINT16_MAX))
			return true;
	}
	return false;
}

/* Whether it wants a call when the chain is returned next. */
static inline bool fake_wants_call(const struct fake_ring *ring, const struct fake_chain *chain)
{
	if (ring->packed)
		return fake_wants_call_packed(ring, ring->next_used, chain->count);
	return fake_wants_call_split(ring, ring->used->idx + 1, ring->used->idx);
}

/* Returns a head n times over. */
static inline void fake_return_split(struct fake_ring *ring, uint32_t id, uint32_t len, uint32_t n)
{
	uint16_t idx = ring->used->idx;
	for (; n > 0; n--, idx++) {
		/* Atomic, because one that misbehaves writes where the driver reads. */
		__atomic_store_n(&ring->used->ring[idx % ring->size].id, id, __ATOMIC_RELAXED);
		__atomic_store_n(&ring->used->ring[idx % ring->size].len, len, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&ring->used->idx, idx, __ATOMIC_SEQ_CST);
}

/* Returns a chain. True if the driver wants a call for that. */
static inline bool fake_return_chain(struct fake_ring *ring, const struct fake_chain *chain,
				     uint32_t len)
{
	const struct fake_position at = ring->next_used;
	if (!ring->packed) {
		fake_return_split(ring, chain->head, len, 1);
		return fake_wants_call_split(ring, ring->used->idx, ring->used->idx - 1);
	}
	fake_put_packed(ring, at, chain->head, len);
	ring->next_used = fake_after(ring, at, chain->count);
	return fake_wants_call_packed(ring, at, chain->count);
}

/* ---- Kicks --------------------------------------------------------------------------- */

/* Asks for a kick at the next chain; true if one waits already. */
static inline bool fake_arm_ring(struct fake_ring *ring)
{
	const struct fake_position at = ring->next_avail;
	if (!ring->packed)
		__atomic_store_n((uint16_t *)&ring->used->ring[ring->size], ring->taken,
				 __ATOMIC_SEQ_CST);
	else if (ring->event_idx)
		__atomic_store_n(ring->device_event,
				 at.at | (uint32_t)at.wrap << 15 |
				     VRING_PACKED_EVENT_FLAG_DESC << 16,
				 __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(ring->device_event, VRING_PACKED_EVENT_FLAG_ENABLE << 16,
				 __ATOMIC_SEQ_CST);
	return fake_waits(ring);
}

#endif
