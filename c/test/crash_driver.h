/* SPDX-License-Identifier: MIT */
/*
 * The driver of a ring whose device dies again and again: by hand, by the
 * specification, in memory that outlives the device. It holds the device to what it
 * was promised: each request that it offers ends exactly once, executed.
 */
#ifndef VHC_CRASH_DRIVER_H
#define VHC_CRASH_DRIVER_H

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "vhostctl.h"

#define CRASH_MAX_SIZE 256u
#define CRASH_BYTES UINT64_C(0x80000)
#define CRASH_AVAIL 0x4000u
#define CRASH_USED 0x8000u
#define CRASH_SLOTS 0x10000u
#define CRASH_SLOT 1024u
#define CRASH_GPA UINT64_C(0x40000000)
#define CRASH_USER UINT64_C(0x7f0000000000)
#define CRASH_MAX_PIECES 5u
#define CRASH_DATA 512u

#define PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED (1u << VRING_PACKED_DESC_F_USED)

/* xorshift: what happens depends on the seed alone, and on where the device is killed. */
static inline uint32_t crash_random(uint64_t *state, uint32_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 20) % below;
}

/* A request of no type that there is: it is refused at once, while others wait. */
#define CRASH_ODD 77u

/* A read of one block, whose number is that of the request. */
struct crash_slot {
	struct virtio_blk_outhdr header;
	uint8_t padding[48]; /* the status follows the data: it may be in the same piece */
	uint64_t data[CRASH_DATA / 8]; /* a good device leaves the request's number here */
	uint8_t status;
	uint8_t padding2[63];
	uint8_t table[CRASH_MAX_PIECES * 16];
};
_Static_assert(sizeof(struct crash_slot) <= CRASH_SLOT, "slot");

struct crash_request {
	uint64_t number;
	uint32_t descs; /* it takes of the ring; 0: not in flight */
	uint16_t head;	/* split */
};

struct crash_driver {
	uint8_t *memory;
	uint32_t size;
	bool packed, indirect;
	uint32_t pieces; /* of each request; 0: any number */
	uint64_t random;
	uint64_t next_number, ended;
	uint32_t outstanding, free_descs;
	uint32_t num_free; /* slots */
	uint16_t free_slots[CRASH_MAX_SIZE];
	struct crash_request requests[CRASH_MAX_SIZE]; /* by slot */
	/* Split. */
	uint16_t free_heads[CRASH_MAX_SIZE]; /* descriptors */
	uint16_t slot_of[CRASH_MAX_SIZE];    /* by head */
	uint16_t next_avail, last_used;
	/* Packed. */
	uint16_t avail_at, used_at;
	bool avail_wrap, used_wrap;
	char wrong[160]; /* what the device did; empty: nothing */
};

static inline struct crash_slot *crash_slot(const struct crash_driver *d, uint32_t slot)
{
	return (struct crash_slot *)(d->memory + CRASH_SLOTS + slot * CRASH_SLOT);
}

static inline uint64_t crash_gpa(const struct crash_driver *d, const void *at)
{
	return CRASH_GPA + (uint64_t)((const uint8_t *)at - d->memory);
}

/* Begins anew, with zeroed memory. */
static inline void crash_driver_init(struct crash_driver *d, uint8_t *memory, uint32_t size,
				     bool packed, bool indirect, uint64_t seed)
{
	*d = (struct crash_driver){.memory = memory,
				   .size = size,
				   .packed = packed,
				   .indirect = indirect,
				   .random = seed * 2 + 1,
				   .next_number = 1,
				   .free_descs = size,
				   .num_free = size,
				   .avail_wrap = true,
				   .used_wrap = true};
	memset(memory, 0, CRASH_BYTES);
	for (uint32_t i = 0; i < size; i++)
		d->free_slots[i] = d->free_heads[i] = (uint16_t)i;
}

struct crash_piece {
	uint64_t gpa;
	uint32_t len;
	bool in;
};

/* The header, the data in 1..3 pieces, and the status apart or with the last of them. */
static inline uint32_t crash_pieces(struct crash_driver *d, uint32_t slot, uint32_t n,
				    struct crash_piece *piece)
{
	struct crash_slot *at = crash_slot(d, slot);
	const uint64_t data = crash_gpa(d, at->data);
	const uint32_t parts = n == 2 ? 1 : n - 2;

	piece[0] = (struct crash_piece){crash_gpa(d, &at->header), 16, false};
	for (uint32_t i = 0; i < parts; i++)
		piece[1 + i] = (struct crash_piece){data + 128 * i, 128, true};
	piece[parts].len = CRASH_DATA - 128 * (parts - 1);
	if (n == 2)
		piece[1].len++;
	else
		piece[n - 1] = (struct crash_piece){crash_gpa(d, &at->status), 1, true};
	return n;
}

/* ---- Split ---- */

static inline uint16_t crash_flags(const struct crash_piece *piece, bool last)
{
	return (uint16_t)((piece->in ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
}

static inline uint16_t crash_split_chain(struct crash_driver *d, const struct crash_piece *piece,
					 uint32_t n)
{
	struct vring_desc *table = (struct vring_desc *)d->memory;
	uint16_t at[CRASH_MAX_PIECES];

	/* Any of those that are free. */
	for (uint32_t i = 0; i < n; i++) {
		uint32_t pick = crash_random(&d->random, d->free_descs);

		at[i] = d->free_heads[pick];
		d->free_heads[pick] = d->free_heads[--d->free_descs];
	}
	for (uint32_t i = 0; i < n; i++)
		table[at[i]] = (struct vring_desc){.addr = piece[i].gpa,
						   .len = piece[i].len,
						   .flags = crash_flags(&piece[i], i + 1 == n),
						   .next = i + 1 < n ? at[i + 1] : 0};
	return at[0];
}

static inline void crash_split_table(struct crash_slot *slot, const struct crash_piece *piece,
				     uint32_t n)
{
	struct vring_desc *table = (struct vring_desc *)slot->table;

	for (uint32_t i = 0; i < n; i++)
		table[i] = (struct vring_desc){.addr = piece[i].gpa,
					       .len = piece[i].len,
					       .flags = crash_flags(&piece[i], i + 1 == n),
					       .next = (uint16_t)(i + 1)};
}

static inline void crash_split_offer(struct crash_driver *d, uint32_t slot,
				     const struct crash_piece *piece, uint32_t n)
{
	struct vring_avail *avail = (struct vring_avail *)(d->memory + CRASH_AVAIL);
	uint16_t head = crash_split_chain(d, piece, n);

	if (n == 1)
		((struct vring_desc *)d->memory)[head].flags = VRING_DESC_F_INDIRECT;
	d->slot_of[head] = (uint16_t)slot;
	d->requests[slot].head = head;
	avail->ring[d->next_avail % d->size] = head;
	__atomic_store_n(&avail->idx, ++d->next_avail, __ATOMIC_SEQ_CST);
}

/* Frees the descriptors of a chain. */
static inline void crash_split_free(struct crash_driver *d, uint32_t slot)
{
	const struct vring_desc *table = (const struct vring_desc *)d->memory;
	uint16_t at = d->requests[slot].head;

	for (uint32_t i = 0; i < d->requests[slot].descs; i++) {
		d->free_heads[d->free_descs++] = at;
		at = table[at].next;
	}
}

/* ---- Packed ---- */

static inline void crash_packed_table(struct crash_slot *slot, const struct crash_piece *piece,
				      uint32_t n)
{
	struct vring_packed_desc *table = (struct vring_packed_desc *)slot->table;

	for (uint32_t i = 0; i < n; i++)
		table[i] =
		    (struct vring_packed_desc){.addr = piece[i].gpa,
					       .len = piece[i].len,
					       .flags = piece[i].in ? VRING_DESC_F_WRITE : 0};
}

/* The flags of the first descriptor last. */
static inline void crash_packed_offer(struct crash_driver *d, uint32_t slot,
				      const struct crash_piece *piece, uint32_t n, bool indirect)
{
	struct vring_packed_desc *ring = (struct vring_packed_desc *)d->memory;
	struct vring_packed_desc *first = &ring[d->avail_at];
	uint16_t first_flags = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct vring_packed_desc *desc = &ring[d->avail_at];
		uint16_t flags =
		    indirect ? VRING_DESC_F_INDIRECT : crash_flags(&piece[i], i + 1 == n);

		flags |= d->avail_wrap ? PACKED_AVAIL : PACKED_USED;
		desc->addr = piece[i].gpa;
		desc->len = piece[i].len;
		/* Only the last one's counts. */
		desc->id = (uint16_t)(i + 1 == n ? slot * 3 + 7 : 0xffff);
		if (i == 0)
			first_flags = flags;
		else
			desc->flags = flags;
		if (++d->avail_at == d->size) {
			d->avail_at = 0;
			d->avail_wrap = !d->avail_wrap;
		}
	}
	__atomic_store_n(&first->flags, first_flags, __ATOMIC_SEQ_CST);
	d->free_descs -= n;
}

/* ---- Both ---- */

/* Offers a request; false if there is no room. */
static inline bool crash_offer(struct crash_driver *d)
{
	struct crash_piece piece[CRASH_MAX_PIECES];
	uint32_t n = d->pieces ? d->pieces : 2 + crash_random(&d->random, CRASH_MAX_PIECES - 1);
	bool indirect = d->indirect && crash_random(&d->random, d->pieces ? 8 : 2);
	uint32_t pick, slot;

	if (!indirect && n > d->size)
		n = 2;
	if (d->free_descs < (indirect ? 1 : n))
		return false;
	pick = crash_random(&d->random, d->num_free);
	slot = d->free_slots[pick];
	d->free_slots[pick] = d->free_slots[--d->num_free];

	struct crash_slot *at = crash_slot(d, slot);

	memset(at, 0xee, sizeof(*at));
	at->header = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = d->next_number};
	if (crash_random(&d->random, 4) == 0)
		at->header.type = CRASH_ODD;
	crash_pieces(d, slot, n, piece);
	if (indirect) {
		if (d->packed)
			crash_packed_table(at, piece, n);
		else
			crash_split_table(at, piece, n);
		piece[0] = (struct crash_piece){crash_gpa(d, at->table), n * 16, false};
		n = 1;
	}
	d->requests[slot].number = d->next_number++;
	d->requests[slot].descs = n;
	d->outstanding++;
	if (d->packed)
		crash_packed_offer(d, slot, piece, n, indirect);
	else
		crash_split_offer(d, slot, piece, n);
	return true;
}

/* Takes a used element: 1 with the slot and length, 0, or -1 if it makes no sense. */
static inline int crash_get_split(struct crash_driver *d, uint32_t *slot, uint32_t *len)
{
	const struct vring_used *used = (const struct vring_used *)(d->memory + CRASH_USED);
	uint16_t idx = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
	uint32_t id;

	if (idx == d->last_used)
		return 0;
	if ((uint16_t)(idx - d->last_used) > d->outstanding)
		return -1;
	id = used->ring[d->last_used % d->size].id;
	*len = used->ring[d->last_used++ % d->size].len;
	if (id >= d->size)
		return -1;
	*slot = d->slot_of[id];
	return d->requests[*slot].head == id ? 1 : -1;
}

static inline int crash_get_packed(struct crash_driver *d, uint32_t *slot, uint32_t *len)
{
	const struct vring_packed_desc *desc =
	    (const struct vring_packed_desc *)d->memory + d->used_at;
	uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);
	bool avail = flags & PACKED_AVAIL, used = flags & PACKED_USED;

	if (avail != used || used != d->used_wrap || d->outstanding == 0)
		return 0;
	if (desc->id < 7 || (desc->id - 7) % 3 || (desc->id - 7u) / 3 >= d->size)
		return -1;
	*slot = (desc->id - 7u) / 3;
	*len = desc->len;
	d->used_at = (uint16_t)(d->used_at + d->requests[*slot].descs);
	if (d->used_at >= d->size) {
		d->used_at = (uint16_t)(d->used_at - d->size);
		d->used_wrap = !d->used_wrap;
	}
	return 1;
}

static inline bool crash_wrong(struct crash_driver *d, const char *what, uint32_t slot)
{
	snprintf(d->wrong, sizeof(d->wrong), "%s: slot %u, request %llu, %u in flight", what, slot,
		 (unsigned long long)d->requests[slot].number, d->outstanding);
	return false;
}

/* How a request ended, which had this length written; NULL if as it should. */
static inline const char *crash_check_end(const struct crash_driver *d, uint32_t slot, uint32_t len)
{
	const struct crash_slot *at = crash_slot(d, slot);
	const bool odd = at->header.type == CRASH_ODD;

	if (d->requests[slot].descs == 0)
		return "ended twice";
	if (at->status != (odd ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_OK))
		return "ended, and not executed";
	if (len != (odd ? 1 : CRASH_DATA + 1))
		return "a wrong length";
	if (!odd && at->data[0] != d->requests[slot].number)
		return "another request's data";
	return NULL;
}

/* Takes what the device has used. False if it did wrong. */
static inline bool crash_reap(struct crash_driver *d)
{
	uint32_t slot = 0, len = 0;
	int got;

	while ((got = d->packed ? crash_get_packed(d, &slot, &len)
				: crash_get_split(d, &slot, &len)) > 0) {
		struct crash_request *request = &d->requests[slot];
		const char *wrong = crash_check_end(d, slot, len);

		if (wrong)
			return crash_wrong(d, wrong, slot);
		if (d->packed)
			d->free_descs += request->descs;
		else
			crash_split_free(d, slot);
		request->descs = 0;
		d->free_slots[d->num_free++] = (uint16_t)slot;
		d->outstanding--;
		d->ended++;
	}
	return got == 0 || crash_wrong(d, "a used element that makes no sense", slot);
}

/* The device's: does what a request asks for. Returns how many bytes are written. */
static inline uint32_t crash_execute(struct crash_slot *slot)
{
	if (slot->header.type == CRASH_ODD) {
		slot->status = VIRTIO_BLK_S_UNSUPP;
		return 1;
	}
	slot->data[0] = slot->header.sector;
	slot->status = VIRTIO_BLK_S_OK;
	return CRASH_DATA + 1;
}

#endif
