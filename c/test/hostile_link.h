/* SPDX-License-Identifier: MIT */
/*
 * Random chains: requests linked with the ring's descriptors, with a few things wrong
 * in how they are linked, or in the ring.
 */
#ifndef VHC_HOSTILE_LINK_H
#define VHC_HOSTILE_LINK_H

#include "hostile_random.h"

/* ---- Linking
 * -----------------------------------------------------------------------------------
 */

static inline void gen_link(struct vring_desc *d, const struct gen_piece *p, bool last,
			    uint16_t next)
{
	*d = (struct vring_desc){
	    .addr = p->gpa,
	    .len = p->len,
	    .flags = (uint16_t)(p->flags | (last ? 0 : VRING_DESC_F_NEXT)),
	    .next = next,
	};
}

static inline void gen_bad_link(struct gen *g, struct vring_desc *d, uint32_t entries)
{
	switch (below(g, 6)) {
	case 0:
		d->next = (uint16_t)gen_random(g);
		break;
	case 1:
		d->next = (uint16_t)below(g, entries + 2);
		break;
	case 2:
		d->flags ^= VRING_DESC_F_NEXT;
		break;
	case 3:
		d->flags |= (uint16_t)(gen_random(g) & ~7u); /* flags that mean nothing */
		break;
	case 4:
		d->flags ^= VRING_DESC_F_INDIRECT;
		break;
	default:
		d->flags = (uint16_t)gen_random(g);
	}
}

/* Makes entries what they are in a packed ring's table, where most of it means nothing. */
static inline void gen_pack_table(struct gen *g, struct vring_desc *table, uint32_t entries)
{
	for (uint32_t i = 0; i < entries; i++) {
		const struct vring_packed_desc d = {
		    .addr = table[i].addr,
		    .len = table[i].len,
		    .id = (uint16_t)gen_random(g),
		    .flags = (uint16_t)(one_in(g, 4) ? (gen_random(g) & ~VRING_DESC_F_WRITE) |
							   (table[i].flags & VRING_DESC_F_WRITE)
						     : table[i].flags),
		};
		memcpy(&table[i], &d, sizeof(d));
	}
}

/* Pieces from `from` on into an indirect table, described by d. */
static inline void gen_table(struct gen *g, const struct gen_request *r, uint32_t from,
			     struct vring_desc *d)
{
	struct vring_desc table[MAX_PIECES + 8 + 4];
	/* All entries of a packed ring's table count, and in their order. */
	const bool packed = g->rig->ring.packed;
	uint32_t n = r->count - from, entries = n + (packed && !one_in(g, 16) ? 0 : below(g, 4));
	bool backwards = !packed && one_in(g, 4); /* entry 0 comes first all the same */
	memset(table, 0xff, sizeof(table));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = backwards && i ? n - i : i;
		uint32_t next = backwards ? n - i - 1 : i + 1;
		gen_link(&table[at], &r->pieces[from + i], i + 1 == n, (uint16_t)next);
	}
	if (one_in(g, 16))
		gen_bad_link(g, &table[below(g, n)], entries);
	*d = (struct vring_desc){.addr = gen_place(g, entries * 16),
				 .len = entries * 16,
				 .flags = VRING_DESC_F_INDIRECT};
	if (packed)
		gen_pack_table(g, table, entries);
	uint32_t at = 0;
	if (model_find(d->addr, d->len, &at) == d->len)
		memcpy(g->rig->memory + at, table, d->len);
	struct gen_piece p = {d->addr, d->len, d->flags};
	if (one_in(g, 32)) {
		one_in(g, 2) ? gen_bad_len(g, &p) : gen_bad_address(g, &p);
		d->addr = p.gpa;
		d->len = p.len;
	}
	if (one_in(g, 32))
		d->flags |= (uint16_t)(1 + below(g, 3)); /* with NEXT, WRITE or both */
}

/* Links the pieces with the ring's descriptors, some or all of them in a table.
 */
static inline bool gen_chain(struct gen *g, const struct gen_request *r, uint16_t *head)
{
	struct hostile_ring *ring = &g->rig->ring;
	bool table = one_in(g, 2);
	uint32_t direct = !table ? r->count : one_in(g, 4) ? below(g, r->count) : 0;
	uint32_t needed = direct + table;
	if (g->next_id + needed > ring->size)
		return false;
	const uint16_t *ids = &g->ids[g->next_id];
	g->next_id += needed;
	*head = ids[0];
	for (uint32_t i = 0; i < direct; i++)
		gen_link(&ring->desc[ids[i]], &r->pieces[i], i + 1 == needed,
			 i + 1 < needed ? ids[i + 1] : 0);
	if (table)
		gen_table(g, r, direct, &ring->desc[ids[direct]]);
	if (one_in(g, 16))
		gen_bad_link(g, &ring->desc[ids[below(g, needed)]], ring->size);
	return true;
}

/* ---- Linking in a packed ring ----------------------------------------------------------- */

/* Flags of a descriptor that is no chain's first, or the first's but for whose it is. */
static inline uint16_t gen_bad_flags(struct gen *g, uint16_t flags, bool first)
{
	const uint16_t others = (uint16_t)~WHOSE_FLAGS;
	switch (below(g, 5)) {
	case 0:
		return flags ^ VRING_DESC_F_NEXT;
	case 1:
		return flags ^ VRING_DESC_F_INDIRECT;
	case 2:
		return flags | (gen_random(g) & others & ~7u);
	case 3:
		return (uint16_t)((flags & WHOSE_FLAGS) | (gen_random(g) & others));
	default:
		return first && !one_in(g, 4) ? flags : flags ^ (gen_random(g) & WHOSE_FLAGS);
	}
}

/* Writes the pieces to the ring's next descriptors, all or some of them in a table. */
static inline bool gen_packed_chain(struct gen *g, const struct gen_request *r)
{
	struct hostile_ring *ring = &g->rig->ring;
	const bool table = one_in(g, 2);
	const uint32_t direct = !table ? r->count : one_in(g, 8) ? below(g, r->count) : 0;
	const uint32_t needed = direct + table;
	const uint32_t bad = one_in(g, 16) ? below(g, needed) : UINT32_MAX;
	const uint16_t id = one_in(g, 64) ? 5 : (uint16_t)gen_random(g);
	if (g->next_id + needed > ring->size)
		return false;
	g->next_id += needed;
	for (uint32_t i = 0; i < needed; i++) {
		struct vring_desc d;
		if (i < direct)
			gen_link(&d, &r->pieces[i], i + 1 == needed, 0);
		else
			gen_table(g, r, direct, &d);
		d.flags = (uint16_t)((d.flags & ~WHOSE_FLAGS) | flags_available(ring->next));
		packed_write(ring,
			     (struct vring_packed_desc){
				 .addr = d.addr,
				 .len = d.len,
				 .id = i + 1 == needed ? id : (uint16_t)gen_random(g),
				 .flags = i == bad ? gen_bad_flags(g, d.flags, i == 0) : d.flags,
			     });
	}
	return true;
}

/* Writes over the ring where the device does not look yet. */
static inline void gen_scribble(struct gen *g)
{
	struct hostile_ring *ring = &g->rig->ring;
	for (uint32_t i = 1 + below(g, 8); i > 0; i--) {
		const uint32_t at = below(g, ring->size);
		uint8_t *bytes = (uint8_t *)&ring->ring[at];
		if (at != ring->reach.at)
			bytes[below(g, 16)] = (uint8_t)gen_random(g);
	}
}

static inline void gen_bad_packed_ring(struct gen *g)
{
	struct hostile_ring *ring = &g->rig->ring;
	const uint64_t event = gen_random(g);
	if (one_in(g, 8)) /* when to call it: the device takes it for what it may be */
		memcpy(g->rig->memory + AVAIL_AT, &event, 4);
	switch (below(g, 50)) {
	case 0:
		ring->held ^= gen_random(g) & WHOSE_FLAGS;
		break;
	case 1:
		gen_scribble(g);
		break;
	case 2:
		for (uint32_t i = 0; i < ring->size; i++)
			ring->ring[i].id = 77;
		break;
	case 3:
		for (uint32_t i = 0; i < ring->size; i++) {
			if (i != ring->reach.at)
				ring->ring[i].flags |= VRING_DESC_F_NEXT;
		}
		break;
	default:
		break;
	}
}

/* ---- A case's chains --------------------------------------------------------------------- */

static inline bool gen_request(struct gen *g, uint16_t *head)
{
	static struct gen_request r;
	r.count = 0;
	r.out_len = r.in_len = 0;
	g->body(g, &r);
	gen_cut(g, &r, r.out_len, r.out_cut, 0);
	gen_cut(g, &r, r.in_len, r.in_cut, VRING_DESC_F_WRITE);
	if (r.count == 0)
		return false;
	gen_fill(g, &r);
	for (uint32_t i = below(g, 5) < 3 ? 0 : 1 + below(g, 3); i > 0 && r.count > 1; i--)
		gen_bad_piece(g, &r);
	return g->rig->ring.packed ? gen_packed_chain(g, &r) : gen_chain(g, &r, head);
}

/* Offers up to MAX_CHAINS requests; heads gets theirs. Returns how many. */
static inline uint32_t gen_requests(struct gen *g, uint16_t *heads)
{
	uint32_t want = one_in(g, 2) ? 1 : 1 + below(g, MAX_CHAINS), n = 0;
	for (; n < want && gen_request(g, &heads[n]); n++) {
		if (!g->rig->ring.packed)
			ring_offer(&g->rig->ring, heads[n]);
	}
	return n;
}

/*
 * Now and then the available ring itself is wrong: true. Of a packed ring the model
 * tells what comes of it, so that is as good as any case.
 */
static inline bool gen_bad_ring(struct gen *g)
{
	struct hostile_ring *ring = &g->rig->ring;
	if (ring->packed) {
		gen_bad_packed_ring(g);
		return false;
	}
	switch (below(g, 200)) {
	case 0:
		ring->avail_next += (uint16_t)gen_random(g);
		return true;
	case 1:
		ring->avail_next += (uint16_t)below(g, ring->size * 2);
		return true;
	case 2:
		ring_offer(ring, (uint16_t)gen_random(g));
		return true;
	case 3:
		ring_offer(ring, (uint16_t)below(g, ring->size));
		return true;
	default:
		return false;
	}
}

#endif
