/* SPDX-License-Identifier: MIT */
/*
 * Random requests with structure: a good one, cut into pieces, with a few things
 * wrong in them.
 */
#ifndef VHC_HOSTILE_RANDOM_H
#define VHC_HOSTILE_RANDOM_H

#include "hostile_model.h"

#define MAX_CHAINS 12u
#define MAX_PIECES 40u

struct gen_request;

struct gen {
	struct hostile_rig *rig;
	void (*body)(struct gen *g, struct gen_request *r); /* makes a good request, or nearly */
	uint64_t random;
	uint32_t cursor[3]; /* what is given out of each region */
	uint16_t ids[256];  /* descriptors in random order; those before next_id are used */
	uint32_t next_id;
};

struct gen_piece {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
};

/* A request before it is linked. */
struct gen_request {
	struct gen_piece pieces[MAX_PIECES + 8];
	uint32_t count;
	uint8_t out[64 * KIB + 64];
	uint32_t out_len, in_len;
	uint32_t out_cut, in_cut; /* where drivers begin another piece */
};

/* splitmix64 */
static inline uint64_t gen_random(struct gen *g)
{
	uint64_t z = g->random += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static inline uint32_t below(struct gen *g, uint32_t n)
{
	return (uint32_t)((gen_random(g) >> 32) * n >> 32);
}

static inline bool one_in(struct gen *g, uint32_t n)
{
	return below(g, n) == 0;
}

/* Memory that no other piece has, or anywhere at all once there is none. */
static inline uint64_t gen_place(struct gen *g, uint32_t len)
{
	uint32_t first = below(g, 10) < 1 ? 2 : below(g, 2);
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t r = (first + i) % 3;
		uint32_t at = g->cursor[r] + (one_in(g, 2) ? below(g, 64) : 0);
		if (at + len > regions[r].size)
			continue;
		g->cursor[r] = at + len;
		return regions[r].gpa + at;
	}
	return GPA_A + RING_AREA + below(g, 32 * KIB);
}

/* ---- Requests
 * ---------------------------------------------------------------------- */

static inline uint64_t gen_sector(struct gen *g)
{
	switch (below(g, 12)) {
	case 0:
		return DISK_SECTORS - below(g, 3);
	case 1:
		return gen_random(g) >> below(g, 64);
	case 2:
		return UINT64_MAX - below(g, 16);
	default:
		return below(g, DISK_SECTORS);
	}
}

static inline uint32_t gen_data_len(struct gen *g)
{
	switch (below(g, 16)) {
	case 0:
		return 0;
	case 1:
		return below(g, 2048);
	case 2:
		return (1 + below(g, 40)) * 512;
	default:
		return (1 + below(g, 8)) * 512;
	}
}

static inline void gen_segments(struct gen *g, struct gen_request *r)
{
	uint32_t n = below(g, 8) ? 1 + below(g, MAX_SEGMENTS) : below(g, 9);
	for (uint32_t i = 0; i < n; i++) {
		const struct virtio_blk_discard_write_zeroes s = {
		    .sector = gen_sector(g),
		    .num_sectors = one_in(g, 16) ? (uint32_t)gen_random(g) : below(g, 20),
		    .flags = one_in(g, 16)  ? (uint32_t)gen_random(g)
			     : one_in(g, 4) ? 1
					    : 0,
		};
		memcpy(r->out + r->out_len, &s, sizeof(s));
		r->out_len += sizeof(s);
	}
	if (one_in(g, 16))
		r->out_len -= below(g, 16);
}

static inline void gen_blk_body(struct gen *g, struct gen_request *r)
{
	static const uint32_t types[] = {0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 4, 8, 11, 11, 13, 13};
	struct virtio_blk_outhdr h = {.type = types[below(g, 16)], .sector = gen_sector(g)};
	if (one_in(g, 20))
		h.type = (uint32_t)gen_random(g) >> below(g, 32);
	memcpy(r->out, &h, sizeof(h));
	r->out_len = sizeof(h);
	r->in_len = 1;
	r->out_cut = sizeof(h);
	if (h.type == VIRTIO_BLK_T_IN) {
		r->in_len += gen_data_len(g);
	} else if (h.type == VIRTIO_BLK_T_OUT) {
		r->out_len += gen_data_len(g);
		memset(r->out + sizeof(h), (int)gen_random(g), r->out_len - sizeof(h));
	} else if (h.type == VIRTIO_BLK_T_GET_ID) {
		r->in_len += below(g, 40);
	} else {
		gen_segments(g, r);
	}
	r->in_cut = r->in_len - 1;
}

/* Cuts len bytes into pieces; first is where the usual cut is. */
static inline void gen_cut(struct gen *g, struct gen_request *r, uint32_t len, uint32_t first,
			   uint16_t flags)
{
	uint32_t style = below(g, 8);
	for (uint32_t done = 0; done < len && r->count < MAX_PIECES;) {
		uint32_t left = len - done, n = left;
		if (style == 0)
			n = 1 + below(g, left); /* anywhere */
		else if (style == 1 && done < 16)
			n = 1; /* byte by byte */
		else if (style > 2 && done < first)
			n = first - done;
		if (r->count + 1 == MAX_PIECES || n > left)
			n = left;
		r->pieces[r->count++] = (struct gen_piece){gen_place(g, n), n, flags};
		done += n;
	}
}

/* Writes what the device is to read into the readable pieces. */
static inline void gen_fill(struct gen *g, const struct gen_request *r)
{
	uint32_t done = 0;
	for (uint32_t i = 0; i < r->count; i++) {
		const struct gen_piece *p = &r->pieces[i];
		uint32_t at = 0;
		if (p->flags & VRING_DESC_F_WRITE || model_find(p->gpa, p->len, &at) < p->len)
			continue;
		memcpy(g->rig->memory + at, r->out + done, p->len);
		done += p->len;
	}
}

/* ---- What goes wrong in pieces
 * ------------------------------------------------------------- */

static inline void gen_bad_len(struct gen *g, struct gen_piece *p)
{
	const uint32_t lens[] = {0,	     1,		 511, UINT32_MAX, 1u << 31, p->len + 1,
				 p->len - 1, 2 * p->len, 16,  15,	  65536,    131072};
	p->len = one_in(g, 8) ? (uint32_t)gen_random(g) : lens[below(g, 12)];
}

static inline void gen_bad_address(struct gen *g, struct gen_piece *p)
{
	const struct hostile_region *region = &regions[below(g, 3)];
	const uint64_t addresses[] = {
	    0,
	    UINT64_MAX - below(g, 1024),
	    region->gpa + region->size - below(g, 600),
	    region->gpa - below(g, 600),
	    GPA_A + below(g, RING_AREA), /* on the ring */
	    p->gpa ^ UINT64_C(1) << below(g, 64),
	    GPA_B - below(g, p->len + 1), /* across two regions */
	    gen_random(g),
	};
	p->gpa = addresses[below(g, 8)];
}

static inline void gen_bad_piece(struct gen *g, struct gen_request *r)
{
	uint32_t i = below(g, r->count), j = below(g, r->count);
	struct gen_piece kept = r->pieces[i];
	switch (below(g, 8)) {
	case 0: /* missing */
		memmove(&r->pieces[i], &r->pieces[i + 1], (--r->count - i) * sizeof(kept));
		break;
	case 1: /* wrong direction */
		r->pieces[i].flags ^= VRING_DESC_F_WRITE;
		break;
	case 2: /* wrong order */
		r->pieces[i] = r->pieces[j];
		r->pieces[j] = kept;
		break;
	case 3: /* twice */
		r->pieces[r->count++] = kept;
		break;
	case 4: /* an empty one between */
		memmove(&r->pieces[i + 1], &r->pieces[i], (r->count++ - i) * sizeof(kept));
		r->pieces[i].len = 0;
		break;
	case 5:
	case 6:
		gen_bad_len(g, &r->pieces[i]);
		break;
	default:
		gen_bad_address(g, &r->pieces[i]);
	}
}

/* ---- A case
 * -----------------------------------------------------------------------------------------
 */

/* Each case has its own random numbers, so that it can be replayed alone. */
static inline uint64_t gen_seed(uint64_t seed, uint64_t n)
{
	return seed * 0x2545f4914f6cdd1du + n * 0x9fb21c651e98df25u;
}

static inline void gen_begin(struct gen *g, struct hostile_rig *rig, uint64_t seed, uint64_t n)
{
	*g = (struct gen){.rig = rig, .body = gen_blk_body, .random = gen_seed(seed, n)};
	g->cursor[0] = RING_AREA;
	for (uint32_t i = 0; i < rig->ring.size; i++) {
		uint32_t j = below(g, i + 1);
		g->ids[i] = g->ids[j];
		g->ids[j] = (uint16_t)i;
	}
}

#endif
