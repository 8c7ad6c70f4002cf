/* SPDX-License-Identifier: MIT */
/* The driver's side of a packed virtqueue (virtio 2.8): what runs once per request. */
#ifndef VHC_DRIVER_RING_PACKED_H
#define VHC_DRIVER_RING_PACKED_H

#include "driver_ring_state.h"

/* Flags, where `rest` has them. */
#define PACKED_FLAG(bit) (UINT64_C(1) << (48 + (bit)))
#define PACKED_WRITE ((uint64_t)VRING_DESC_F_WRITE << 48)
#define PACKED_AVAIL PACKED_FLAG(VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED PACKED_FLAG(VRING_PACKED_DESC_F_USED)

/* What driver_ring.c has of either format: see driver_ring.h. */
void driver_packed_layout(uint32_t size, struct vhc_driver_ring_layout *out);
int driver_packed_place(struct vhc_driver_ring *ring, uint64_t addr);
uint16_t driver_packed_build(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			     uint32_t num_out, uint32_t num, bool indirect);
void driver_packed_set_piece(struct vhc_driver_ring *ring, uint16_t head, uint32_t n, uint64_t gpa,
			     uint32_t len, bool write);
bool driver_packed_arm(struct vhc_driver_ring *ring);
void driver_packed_disarm(struct vhc_driver_ring *ring);

/* Whether the device wants a kick for descriptor `event` of those added, of which the last is
 * before next_avail. */
bool driver_packed_event_met(const struct vhc_driver_ring *ring, uint16_t event, uint16_t added);

/*
 * Writes a chain's descriptors, but not the flags of the first that is not published
 * yet: until they are there, the device looks at none of them.
 */
static inline void driver_packed_offer(struct vhc_driver_ring *ring, uint16_t head)
{
	struct driver_packed *p = &ring->of_packed;
	union driver_packed_desc *desc = p->desc;
	const uint32_t size = ring->size;
	uint32_t next = p->next_avail, left = ring->chains[head].count;
	union driver_packed_desc flags = {.rest = p->avail_flags};
	bool hold = p->added == 0;
	p->added += (uint16_t)left;
	for (;;) {
		const union driver_packed_desc d = {.both = p->chains[head].both | flags.both};
		if (hold) {
			p->held_at = (uint16_t)next;
			p->held = d.parts.flags;
			desc[next].addr = d.addr;
			desc[next].parts.len = d.parts.len;
			desc[next].parts.id = d.parts.id;
			hold = false;
		} else {
			desc[next] = d;
		}
		if (++next == size) {
			next = 0;
			flags.rest ^= PACKED_AVAIL | PACKED_USED;
		}
		if (--left == 0)
			break;
		head = ring->next[head];
	}
	p->next_avail = (uint16_t)next;
	p->avail_flags = flags.rest;
}

/* True if the device wants a kick for the descriptors added (virtio 2.8.10). */
static inline bool driver_packed_wants_kick(const struct vhc_driver_ring *ring, uint16_t added)
{
	const uint32_t event = __atomic_load_n(ring->of_packed.device_event, __ATOMIC_SEQ_CST);
	const uint32_t flags = event >> 16 & 3;
	if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
		return false;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !ring->event_idx)
		return true;
	return driver_packed_event_met(ring, (uint16_t)event, added);
}

static inline bool driver_packed_publish(struct vhc_driver_ring *ring)
{
	struct driver_packed *p = &ring->of_packed;
	const uint16_t added = p->added;
	if (added == 0)
		return false;
	p->added = 0;
	p->published += added;
	/* Sequentially consistent: the device's wish must not be read before this is seen. */
	__atomic_store_n(&p->desc[p->held_at].parts.flags, p->held, __ATOMIC_SEQ_CST);
	return driver_ring_told(ring, driver_packed_wants_kick(ring, added));
}

/* The rest of the next used descriptor, if the device has used one. */
static inline bool driver_packed_used(const struct driver_packed *p, uint64_t *rest)
{
	*rest = __atomic_load_n(&p->desc[p->next_used].rest, __ATOMIC_SEQ_CST);
	return ((*rest ^ p->used_flags) & (PACKED_AVAIL | PACKED_USED)) == 0;
}

/* How many more may be taken at most. */
static inline int driver_packed_ready(struct vhc_driver_ring *ring)
{
	uint64_t rest;
	if (ring->broken)
		return -EPROTO;
	if (!driver_packed_used(&ring->of_packed, &rest))
		return 0;
	return ring->in_flight == 0 ? driver_ring_break(ring) : (int)ring->in_flight;
}

static inline int driver_packed_take(struct vhc_driver_ring *ring, uint32_t *len)
{
	struct driver_packed *p = &ring->of_packed;
	uint64_t rest;
	if (!driver_packed_used(p, &rest))
		return -EAGAIN;
	const uint16_t head = (uint16_t)(rest >> 32);
	const uint32_t count = head < ring->size ? ring->chains[head].count : 0;
	/* More than it was shown cannot come back. */
	if (count > p->published || !driver_ring_returned(ring, head))
		return driver_ring_break(ring);
	p->published -= count;
	/* Without the flag, the length is nothing. */
	*len = rest & PACKED_WRITE ? (uint32_t)rest : 0;
	const uint32_t at = p->next_used + count;
	p->next_used = (uint16_t)at;
	if (at >= ring->size) {
		p->next_used = (uint16_t)(at - ring->size);
		p->used_flags ^= PACKED_AVAIL | PACKED_USED;
	}
	return head;
}

#endif
