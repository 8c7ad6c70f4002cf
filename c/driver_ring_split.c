/* SPDX-License-Identifier: MIT */
/* The driver side of a split virtqueue: what does not run once per request. */
#include "driver_ring_split.h"

static uint64_t tables_offset(uint32_t size, uint64_t used)
{
	return driver_ring_align(used + sizeof(struct vring_used) +
				 sizeof(struct vring_used_elem) * size + sizeof(uint16_t));
}

void driver_split_layout(uint32_t size, struct vhc_driver_ring_layout *out)
{
	out->avail = driver_ring_align(sizeof(struct vring_desc) * (uint64_t)size);
	out->used = driver_ring_align(out->avail + sizeof(struct vring_avail) +
				      sizeof(uint16_t) * size + sizeof(uint16_t));
	out->bytes = tables_offset(size, out->used) +
		     sizeof(struct vring_desc) * VHC_DRIVER_RING_INDIRECT * (uint64_t)size;
}

void driver_split_place(struct vhc_driver_ring *ring, uint64_t addr)
{
	struct driver_split *s = &ring->of_split;
	struct vhc_driver_ring_layout layout;
	driver_split_layout(ring->size, &layout);
	struct vring_avail *avail = (struct vring_avail *)(addr + layout.avail);
	struct vring_used *used = (struct vring_used *)(addr + layout.used);
	s->desc = (struct vring_desc *)addr;
	s->avail_flags = &avail->flags;
	s->avail_idx = &avail->idx;
	s->avail_ring = avail->ring;
	s->used_event = &avail->ring[ring->size];
	s->used_flags = &used->flags;
	s->used_idx = &used->idx;
	s->used_ring = used->ring;
	s->avail_event = (const uint16_t *)&used->ring[ring->size];
	s->tables = (struct vring_desc *)(addr + tables_offset(ring->size, layout.used));
}

/* ---- Chains ---------------------------------------------------------------- */

static struct vring_desc describe(const struct vhc_driver_ring *ring, const struct vhc_iov *iov,
				  uint32_t i, uint32_t num_out, uint32_t num)
{
	return (struct vring_desc){
	    .addr = iov[i].addr + ring->gpa_delta,
	    .len = (uint32_t)iov[i].len,
	    .flags = (uint16_t)((i >= num_out ? VRING_DESC_F_WRITE : 0) |
				(i + 1 < num ? VRING_DESC_F_NEXT : 0)),
	    .next = (uint16_t)(i + 1 < num ? i + 1 : 0),
	};
}

static uint16_t build_indirect(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			       uint32_t num_out, uint32_t num)
{
	uint16_t head = driver_ring_take_free(ring);
	struct vring_desc *table = &ring->of_split.tables[head * VHC_DRIVER_RING_INDIRECT];
	for (uint32_t i = 0; i < num; i++)
		table[i] = describe(ring, iov, i, num_out, num);
	ring->of_split.desc[head] = (struct vring_desc){
	    .addr = (uint64_t)table + ring->gpa_delta,
	    .len = (uint32_t)(num * sizeof(*table)),
	    .flags = VRING_DESC_F_INDIRECT,
	};
	return head;
}

static uint16_t build_direct(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			     uint32_t num_out, uint32_t num)
{
	struct vring_desc *desc = ring->of_split.desc;
	uint16_t head = ring->first_free;
	for (uint32_t i = 0; i < num; i++) {
		uint16_t at = driver_ring_take_free(ring);
		desc[at] = describe(ring, iov, i, num_out, num);
		if (i + 1 < num)
			desc[at].next = ring->first_free;
	}
	return head;
}

uint16_t driver_split_build(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			    uint32_t num_out, uint32_t num, bool indirect)
{
	return indirect ? build_indirect(ring, iov, num_out, num)
			: build_direct(ring, iov, num_out, num);
}

void driver_split_set_piece(struct vhc_driver_ring *ring, uint16_t head, uint32_t n, uint64_t gpa,
			    uint32_t len, bool write)
{
	const struct driver_chain *chain = &ring->chains[head];
	const uint32_t at = driver_ring_piece(ring, head, n);
	const uint32_t last = (chain->in_table ? chain->in_table : chain->count) - 1u;
	struct vring_desc *desc =
	    chain->in_table ? &ring->of_split.tables[at] : &ring->of_split.desc[at];
	desc->addr = gpa;
	desc->len = len;
	desc->flags =
	    (uint16_t)((write ? VRING_DESC_F_WRITE : 0) | (n < last ? VRING_DESC_F_NEXT : 0));
}

/* ---- Notifications ------------------------------------------------------------ */

static void set_event(struct driver_split *s, uint16_t event)
{
	s->event = event;
	__atomic_store_n(s->used_event, event, __ATOMIC_SEQ_CST);
}

void driver_split_quiet(struct vhc_driver_ring *ring)
{
	set_event(&ring->of_split, ring->of_split.last_used + 0x8000);
}

bool driver_split_arm(struct vhc_driver_ring *ring)
{
	struct driver_split *s = &ring->of_split;
	if (ring->event_idx)
		set_event(s, s->last_used);
	else
		__atomic_store_n(s->avail_flags, 0, __ATOMIC_SEQ_CST);
	/* Sequentially consistent after the store: one of the two sides sees the other. */
	return __atomic_load_n(s->used_idx, __ATOMIC_SEQ_CST) != s->last_used;
}

void driver_split_disarm(struct vhc_driver_ring *ring)
{
	driver_split_quiet(ring);
	if (!ring->event_idx)
		__atomic_store_n(ring->of_split.avail_flags, VRING_AVAIL_F_NO_INTERRUPT,
				 __ATOMIC_RELAXED);
}
