/* SPDX-License-Identifier: MIT */
/* The driver side of a packed virtqueue: what does not run once per request. */
#include "driver_ring_packed.h"

#include <stdlib.h>

#define EVENT_WRAP (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

void driver_packed_layout(uint32_t size, struct vhc_driver_ring_layout *out)
{
	const uint64_t event = sizeof(struct vring_packed_desc_event);
	out->avail = driver_ring_align(sizeof(struct vring_packed_desc) * (uint64_t)size);
	out->used = driver_ring_align(out->avail + event);
	out->bytes = driver_ring_align(out->used + event) +
		     sizeof(struct vring_packed_desc) * VHC_DRIVER_RING_INDIRECT * (uint64_t)size;
}

int driver_packed_place(struct vhc_driver_ring *ring, uint64_t addr)
{
	struct driver_packed *p = &ring->of_packed;
	struct vhc_driver_ring_layout layout;
	p->chains = calloc(ring->size, sizeof(*p->chains));
	if (!p->chains)
		return -ENOMEM;
	driver_packed_layout(ring->size, &layout);
	p->desc = (union driver_packed_desc *)addr;
	p->driver_event = (uint32_t *)(addr + layout.avail);
	p->device_event = (const uint32_t *)(addr + layout.used);
	p->tables = (union driver_packed_desc *)(addr + driver_ring_align(layout.used + 4));
	/* Both wrap counters begin with 1. */
	p->avail_flags = PACKED_AVAIL;
	p->used_flags = PACKED_AVAIL | PACKED_USED;
	return 0;
}

/* ---- Chains ---------------------------------------------------------------- */

static uint64_t describe_rest(uint64_t len, uint16_t head, uint32_t flags)
{
	return (uint32_t)len | (uint64_t)head << 32 | (uint64_t)flags << 48;
}

/* In a table, order links the pieces, and no flag but WRITE means anything (2.8.7). */
static uint16_t build_indirect(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			       uint32_t num_out, uint32_t num)
{
	struct driver_packed *p = &ring->of_packed;
	uint16_t head = driver_ring_take_free(ring);
	union driver_packed_desc *table = &p->tables[head * VHC_DRIVER_RING_INDIRECT];
	for (uint32_t i = 0; i < num; i++) {
		table[i].addr = iov[i].addr + ring->gpa_delta;
		table[i].rest = describe_rest(iov[i].len, 0, i >= num_out ? VRING_DESC_F_WRITE : 0);
	}
	p->chains[head].addr = (uint64_t)table + ring->gpa_delta;
	p->chains[head].rest = describe_rest(num * sizeof(*table), head, VRING_DESC_F_INDIRECT);
	return head;
}

static uint16_t build_direct(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			     uint32_t num_out, uint32_t num)
{
	uint16_t head = ring->first_free;
	for (uint32_t i = 0; i < num; i++) {
		union driver_packed_desc *desc =
		    &ring->of_packed.chains[driver_ring_take_free(ring)];
		desc->addr = iov[i].addr + ring->gpa_delta;
		desc->rest = describe_rest(iov[i].len, head,
					   (i >= num_out ? VRING_DESC_F_WRITE : 0) |
					       (i + 1 < num ? VRING_DESC_F_NEXT : 0));
	}
	return head;
}

uint16_t driver_packed_build(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			     uint32_t num_out, uint32_t num, bool indirect)
{
	return indirect ? build_indirect(ring, iov, num_out, num)
			: build_direct(ring, iov, num_out, num);
}

void driver_packed_set_piece(struct vhc_driver_ring *ring, uint16_t head, uint32_t n, uint64_t gpa,
			     uint32_t len, bool write)
{
	const struct driver_chain *chain = &ring->chains[head];
	const uint32_t at = driver_ring_piece(ring, head, n);
	const uint64_t flags = write ? VRING_DESC_F_WRITE : 0;
	union driver_packed_desc *desc =
	    chain->in_table ? &ring->of_packed.tables[at] : &ring->of_packed.chains[at];
	desc->addr = gpa;
	if (chain->in_table)
		desc->rest = describe_rest(len, 0, flags);
	else
		desc->rest = describe_rest(len, head,
					   flags | (n + 1 < chain->count ? VRING_DESC_F_NEXT : 0));
}

/* ---- Notifications ------------------------------------------------------------ */

bool driver_packed_event_met(const struct vhc_driver_ring *ring, uint16_t event, uint16_t added)
{
	const struct driver_packed *p = &ring->of_packed;
	const bool wrap = p->avail_flags & PACKED_AVAIL;
	int32_t at = event & ~EVENT_WRAP;
	/* With the other wrap counter, it is one of the round before. */
	if (wrap != ((event & EVENT_WRAP) != 0))
		at -= (int32_t)ring->size;
	return at < p->next_avail && at >= p->next_avail - added;
}

static void set_event(struct driver_packed *p, uint16_t off_wrap, uint16_t flags)
{
	__atomic_store_n(p->driver_event, off_wrap | (uint32_t)flags << 16, __ATOMIC_SEQ_CST);
}

bool driver_packed_arm(struct vhc_driver_ring *ring)
{
	struct driver_packed *p = &ring->of_packed;
	uint64_t rest;
	if (ring->event_idx)
		set_event(p, p->next_used | (p->used_flags ? EVENT_WRAP : 0),
			  VRING_PACKED_EVENT_FLAG_DESC);
	else
		set_event(p, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
	/* Sequentially consistent after the store: one of the two sides sees the other. */
	return driver_packed_used(p, &rest);
}

void driver_packed_disarm(struct vhc_driver_ring *ring)
{
	set_event(&ring->of_packed, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
}
