/* SPDX-License-Identifier: MIT */
/* How the cases of the hostile driver write their descriptors. */
#ifndef VHC_HOSTILE_BUILD_H
#define VHC_HOSTILE_BUILD_H

#include "hostile_model.h"

#define CASE_SIZE 16u /* entries of the ring */
#define HDR (GPA_A + 0x4000)
#define DATA (GPA_A + 0x5000)
#define STATUS (GPA_A + 0x7000)
#define TABLE (GPA_A + 0x8000)
#define SEGMENTS (GPA_A + 0xa000)
#define END_OF_B (GPA_B + 64 * KIB)

#define N VRING_DESC_F_NEXT
#define W VRING_DESC_F_WRITE
#define I VRING_DESC_F_INDIRECT

/* Writes an entry of the ring's table, or of an indirect one in the ring's format. */
static inline void put(struct hostile_rig *rig, uint64_t table, uint32_t i, uint64_t gpa,
		       uint32_t len, uint16_t flags, uint16_t next)
{
	const struct vring_desc d = {.addr = gpa, .len = len, .flags = flags, .next = next};
	const struct vring_packed_desc p = {.addr = gpa, .len = len, .id = next, .flags = flags};
	if (table == GPA_A)
		rig->ring.desc[i] = d;
	else
		memcpy(rig_at(rig, table + 16 * (uint64_t)i),
		       rig->ring.packed ? (const void *)&p : &d, sizeof(d));
}

#define D(i, gpa, len, flags, next) put(rig, GPA_A, i, gpa, len, flags, next)
#define T(i, gpa, len, flags, next) put(rig, TABLE, i, gpa, len, flags, next)
#define OFFER(head) ring_offer(&rig->ring, head)
#define CASE(name) static inline void name(struct hostile_rig *rig)

static inline void header(struct hostile_rig *rig, uint32_t type, uint64_t sector)
{
	const struct virtio_blk_outhdr h = {.type = type, .sector = sector};
	memcpy(rig_at(rig, HDR), &h, sizeof(h));
}

static inline void segment(struct hostile_rig *rig, uint32_t i, uint64_t sector, uint32_t count,
			   uint32_t flags)
{
	const struct virtio_blk_discard_write_zeroes s = {
	    .sector = sector, .num_sectors = count, .flags = flags};
	memcpy(rig_at(rig, SEGMENTS + 16 * (uint64_t)i), &s, sizeof(s));
}

/* Header, data and status in a piece each. */
static inline void request(struct hostile_rig *rig, uint32_t type, uint64_t sector, uint64_t data,
			   uint32_t len)
{
	header(rig, type, sector);
	D(0, HDR, 16, N, 1);
	D(1, data, len, (uint16_t)(N | (type & VIRTIO_BLK_T_OUT ? 0 : W)), 2);
	D(2, STATUS, 1, W, 0);
	OFFER(0);
}

/* Header and status only. */
static inline void bare(struct hostile_rig *rig, uint32_t type, uint64_t sector)
{
	header(rig, type, sector);
	D(0, HDR, 16, N, 1);
	D(1, STATUS, 1, W, 0);
	OFFER(0);
}

/* A good read of a sector in the indirect table; flags are the outer descriptor's. */
static inline void indirect(struct hostile_rig *rig, uint64_t table, uint32_t len, uint16_t flags,
			    uint16_t next)
{
	header(rig, VIRTIO_BLK_T_IN, 3);
	T(0, HDR, 16, N, 1);
	T(1, DATA, 512, N | W, 2);
	T(2, STATUS, 1, W, 0);
	D(0, table, len, flags, next);
	OFFER(0);
}

#endif
