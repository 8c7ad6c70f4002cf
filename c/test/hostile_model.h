/* SPDX-License-Identifier: MIT */
/*
 * What a device must do with a chain, by virtio 1.2 (2.7.5, 2.8.6, 2.8.7, 5.2.6): a
 * model that is slow, plain and shares no code with the device. It works on copies of the
 * memory and the disk, which must then equal the device's.
 */
#ifndef VHC_HOSTILE_MODEL_H
#define VHC_HOSTILE_MODEL_H

#include "hostile_rig.h"

#define MODEL_MAX_PIECES VHC_CHAIN_MAX_IOV
#define MODEL_NO_STATUS 256 /* the status byte is not written */

struct model_piece {
	uint64_t gpa;
	uint64_t len;
	bool in; /* device-writable */
};

struct model_chain {
	struct model_piece pieces[640]; /* a ring of 256 and an indirect table */
	uint32_t count;
	uint64_t out_len, in_len;
	struct model_piece table; /* the indirect table, if len > 0 */
};

struct model_answer {
	int status;
	uint32_t len; /* of the used element */
};

struct model {
	uint8_t memory[MEMORY];
	uint8_t disk[DISK_BYTES];
	uint32_t size;
	bool packed;
	bool indirect;
	uint32_t malformed; /* chains that were none, or too short for a request */
	bool discarded;	    /* parts of the disk may be zero or not */
};

/* ---- Memory ------------------------------------------------------------------- */

/* Where the first of len bytes at gpa is, and how many of them lie there; 0: nowhere. */
static inline uint64_t model_find(uint64_t gpa, uint64_t len, uint32_t *at)
{
	for (int i = 0; i < 3; i++) {
		uint64_t offset = gpa - regions[i].gpa;
		if (gpa < regions[i].gpa || offset >= regions[i].size)
			continue;
		*at = regions[i].at + (uint32_t)offset;
		return len < regions[i].size - offset ? len : regions[i].size - offset;
	}
	return 0;
}

/* The number of regions that the range lies in, 0 if it is not all shared. */
static inline uint32_t model_parts(uint64_t gpa, uint64_t len)
{
	uint32_t parts = 0, at;
	while (len > 0) {
		uint64_t n = model_find(gpa, len, &at);
		if (n == 0)
			return 0;
		gpa += n;
		len -= n;
		parts++;
	}
	return parts;
}

static inline void model_copy(struct model *m, uint64_t gpa, void *buffer, uint64_t len, bool write)
{
	uint8_t *bytes = buffer;
	while (len > 0) {
		uint32_t at = 0;
		uint64_t n = model_find(gpa, len, &at);
		if (write)
			memcpy(m->memory + at, bytes, n);
		else
			memcpy(bytes, m->memory + at, n);
		gpa += n;
		len -= n;
		bytes += n;
	}
}

/* ---- Chains ----------------------------------------------------------------------- */

static inline bool model_add(struct model_chain *c, const struct vring_desc *d, uint32_t *parts)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	/* 2.7.4.2: what the device reads comes before what it writes. */
	if (!in && c->count > 0 && c->pieces[c->count - 1].in)
		return false;
	if (d->len > 0) {
		uint32_t n = model_parts(d->addr, d->len);
		*parts += n;
		if (n == 0 || *parts > MODEL_MAX_PIECES)
			return false;
	}
	/* An empty piece is kept: it has a direction too. */
	c->pieces[c->count++] = (struct model_piece){d->addr, d->len, in};
	*(in ? &c->in_len : &c->out_len) += d->len;
	return true;
}

static inline uint32_t model_limit(const struct model *m)
{
	return m->size > MODEL_MAX_PIECES ? m->size : MODEL_MAX_PIECES;
}

/*
 * Whether d may name an indirect table. One that lies in several regions may not
 * be longer than a chain: no driver has a use for it.
 */
static inline bool model_table(const struct model *m, const struct vring_desc *d)
{
	uint32_t parts = model_parts(d->addr, d->len);
	return m->indirect && !(d->flags & VRING_DESC_F_NEXT) && d->len % 16 == 0 && parts > 0 &&
	       (parts == 1 || d->len / 16 <= model_limit(m));
}

/* Follows a chain of a split ring; false if it is malformed. */
static inline bool model_walk_split(struct model *m, uint16_t head, struct model_chain *c)
{
	uint64_t table = GPA_A;
	uint32_t entries = m->size, limit = m->size, steps = 0, parts = 0;
	struct vring_desc d;
	*c = (struct model_chain){0};
	model_copy(m, table + 16 * (uint64_t)head, &d, 16, false);
	for (;;) {
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (c->table.len || !model_table(m, &d))
				return false;
			table = d.addr;
			entries = d.len / 16;
			limit = model_limit(m);
			steps = 0;
			c->table = (struct model_piece){d.addr, d.len, false};
			model_copy(m, table, &d, 16, false);
			if (d.flags & VRING_DESC_F_INDIRECT)
				return false;
		}
		if (!model_add(c, &d, &parts))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		if (d.next >= entries || ++steps >= limit)
			return false;
		model_copy(m, table + 16 * (uint64_t)d.next, &d, 16, false);
	}
}

/* A packed ring's descriptor as a split one's, without `next`. */
static inline struct vring_desc model_packed_desc(struct model *m, uint64_t gpa)
{
	struct vring_packed_desc d;
	model_copy(m, gpa, &d, 16, false);
	return (struct vring_desc){.addr = d.addr, .len = d.len, .flags = d.flags};
}

/* All of a table is the chain; of its flags only WRITE means anything. */
static inline bool model_walk_table(struct model *m, const struct vring_desc *outer,
				    struct model_chain *c, uint32_t *parts)
{
	if (!model_table(m, outer) || outer->len / 16 > model_limit(m))
		return false;
	c->table = (struct model_piece){outer->addr, outer->len, false};
	for (uint32_t i = 0; i < outer->len / 16; i++) {
		const struct vring_desc d = model_packed_desc(m, outer->addr + 16 * (uint64_t)i);
		if (!model_add(c, &d, parts))
			return false;
	}
	return true;
}

/* The same for a packed ring: head is where the chain begins. It ends, as model_parse found. */
static inline bool model_walk_packed(struct model *m, uint16_t head, struct model_chain *c)
{
	uint32_t parts = 0;
	*c = (struct model_chain){0};
	for (bool first = true;; first = false) {
		const struct vring_desc d = model_packed_desc(m, GPA_A + 16 * (uint64_t)head);
		if (d.flags & VRING_DESC_F_INDIRECT)
			return first && model_walk_table(m, &d, c, &parts);
		if (!model_add(c, &d, &parts))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		head = (uint16_t)((head + 1u) % m->size);
	}
}

/* Follows a chain; false if it is malformed. */
static inline bool model_walk(struct model *m, uint16_t head, struct model_chain *c)
{
	return m->packed ? model_walk_packed(m, head, c) : model_walk_split(m, head, c);
}

/* Copies len bytes from byte `skip` of the pieces of one direction on. */
static inline void model_gather(struct model *m, const struct model_chain *c, bool in,
				uint64_t skip, uint8_t *bytes, uint64_t len)
{
	for (uint32_t i = 0; i < c->count && len > 0; i++) {
		const struct model_piece *p = &c->pieces[i];
		if (p->in != in)
			continue;
		uint64_t from = skip < p->len ? skip : p->len;
		uint64_t n = p->len - from < len ? p->len - from : len;
		model_copy(m, p->gpa + from, bytes, n, in);
		skip -= from;
		bytes += n;
		len -= n;
	}
}

/* ---- What a packed ring offers ------------------------------------------------------ */

/* What the device finds from a place on. */
struct model_offers {
	struct ring_offer all[RING_OFFERS];
	uint32_t count;
	uint32_t descriptors;
	bool breaks; /* the next chain has more descriptors than can be in flight */
	bool vague;  /* too many, or used ones cannot be told from them */
};

/* Takes the chain that begins at a place. */
static inline void model_parse_chain(struct model *m, const struct hostile_ring *ring,
				     struct ring_place *place, struct model_offers *out)
{
	struct ring_offer *offer = &out->all[out->count];
	struct vring_packed_desc d;
	*offer = (struct ring_offer){.head = place->at};
	do {
		if (out->descriptors++ == m->size) {
			out->breaks = true;
			return;
		}
		model_copy(m, GPA_A + 16 * (uint64_t)place->at, &d, 16, false);
		out->vague |= (d.flags & WHOSE_FLAGS) == flags_used(*place);
		*place = place_after(ring, *place, 1);
		offer->count++;
	} while (d.flags & VRING_DESC_F_NEXT);
	offer->id = d.id;
	for (uint32_t i = 0; i < out->count; i++)
		out->vague |= out->all[i].id == d.id;
	out->count++;
}

/* All chains that the device finds from where the driver's case began. */
static inline void model_parse(struct model *m, const struct hostile_ring *ring,
			       struct model_offers *out)
{
	struct ring_place place = ring->reach;
	*out = (struct model_offers){0};
	while (!out->breaks) {
		const struct vring_desc d = model_packed_desc(m, GPA_A + 16 * (uint64_t)place.at);
		if ((d.flags & WHOSE_FLAGS) != flags_available(place))
			return;
		if (out->count == RING_OFFERS) {
			out->vague = true;
			return;
		}
		model_parse_chain(m, ring, &place, out);
	}
}

/* ---- Requests --------------------------------------------------------------------- */

static inline bool model_range(uint64_t sector, uint64_t count)
{
	return sector <= DISK_SECTORS && count <= DISK_SECTORS - sector;
}

static inline struct model_answer model_data(struct model *m, const struct model_chain *c,
					     uint64_t sector, bool read)
{
	uint64_t len = read ? c->in_len - 1 : c->out_len - 16;
	if (len == 0 || len % 512 || !model_range(sector, len / 512))
		return (struct model_answer){VIRTIO_BLK_S_IOERR, 1};
	uint8_t *disk = m->disk + sector * 512;
	model_gather(m, c, read, read ? 0 : 16, disk, len);
	return (struct model_answer){VIRTIO_BLK_S_OK, read ? (uint32_t)len + 1 : 1};
}

static inline int model_segment(const struct virtio_blk_discard_write_zeroes *s, bool zeroes)
{
	if (s->flags & (zeroes ? ~1u : ~0u))
		return VIRTIO_BLK_S_UNSUPP;
	return s->num_sectors <= MAX_SECTORS && model_range(s->sector, s->num_sectors)
		   ? VIRTIO_BLK_S_OK
		   : VIRTIO_BLK_S_IOERR;
}

/* Checks all segments before it does any; a flag it does not know outweighs the rest. */
static inline struct model_answer model_ranges(struct model *m, const struct model_chain *c,
					       bool zeroes)
{
	struct virtio_blk_discard_write_zeroes segments[MAX_SEGMENTS];
	uint64_t len = c->out_len - 16;
	int status = VIRTIO_BLK_S_OK;
	if (len == 0 || len % 16 || len > sizeof(segments))
		return (struct model_answer){VIRTIO_BLK_S_IOERR, 1};
	model_gather(m, c, false, 16, (uint8_t *)segments, len);
	for (uint32_t i = 0; i < len / 16 && status != VIRTIO_BLK_S_UNSUPP; i++) {
		int verdict = model_segment(&segments[i], zeroes);
		status = verdict ? verdict : status;
	}
	for (uint32_t i = 0; i < len / 16 && status == VIRTIO_BLK_S_OK; i++) {
		m->discarded |= !zeroes && segments[i].num_sectors;
		memset(m->disk + segments[i].sector * 512, 0,
		       (uint64_t)segments[i].num_sectors * 512);
	}
	return (struct model_answer){status, 1};
}

static inline struct model_answer model_id(struct model *m, const struct model_chain *c)
{
	uint8_t serial[20];
	uint64_t n = c->in_len - 1 < sizeof(serial) ? c->in_len - 1 : sizeof(serial);
	memcpy(serial, SERIAL, sizeof(serial));
	model_gather(m, c, true, 0, serial, n);
	return (struct model_answer){VIRTIO_BLK_S_OK, (uint32_t)n + 1};
}

static inline struct model_answer model_request(struct model *m, const struct model_chain *c)
{
	struct virtio_blk_outhdr header;
	if (c->out_len < sizeof(header)) {
		m->malformed++;
		return (struct model_answer){VIRTIO_BLK_S_IOERR, 1};
	}
	model_gather(m, c, false, 0, (uint8_t *)&header, sizeof(header));
	switch (header.type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		return model_data(m, c, header.sector, header.type == VIRTIO_BLK_T_IN);
	case VIRTIO_BLK_T_FLUSH:
		return (struct model_answer){VIRTIO_BLK_S_OK, 1};
	case VIRTIO_BLK_T_GET_ID:
		return model_id(m, c);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return model_ranges(m, c, header.type == VIRTIO_BLK_T_WRITE_ZEROES);
	default:
		return (struct model_answer){VIRTIO_BLK_S_UNSUPP, 1};
	}
}

/* What becomes of a chain that was followed; the memory and the disk change with it. */
static inline struct model_answer model_execute(struct model *m, const struct model_chain *c,
						bool well_formed)
{
	if (!well_formed || c->in_len == 0) {
		m->malformed++;
		return (struct model_answer){MODEL_NO_STATUS, 0};
	}
	struct model_answer answer = model_request(m, c);
	uint8_t status = (uint8_t)answer.status;
	model_gather(m, c, true, c->in_len - 1, &status, 1);
	return answer;
}

#endif
