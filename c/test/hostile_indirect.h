/* SPDX-License-Identifier: MIT */
/* Cases of indirect tables, and of buffers that lie on the ring. */
#ifndef VHC_HOSTILE_INDIRECT_H
#define VHC_HOSTILE_INDIRECT_H

#include "hostile_build.h"

/* ---- Indirect tables
 * -------------------------------------------------------------------------------- */

CASE(indirect_good)
{
	indirect(rig, TABLE, 48, I, 0);
}
CASE(indirect_writable)
{
	indirect(rig, TABLE, 48, I | W, 0);
}
CASE(indirect_with_room_to_spare)
{
	indirect(rig, TABLE, 1600, I, 0);
}
CASE(indirect_not_negotiated)
{
	indirect(rig, TABLE, 48, I, 0);
}
CASE(indirect_and_next)
{
	indirect(rig, TABLE, 48, I | N, 1);
}
CASE(indirect_empty)
{
	indirect(rig, TABLE, 0, I, 0);
}
CASE(indirect_half_an_entry)
{
	indirect(rig, TABLE, 8, I, 0);
}
CASE(indirect_entry_and_a_half)
{
	indirect(rig, TABLE, 56, I, 0);
}
CASE(indirect_huge)
{
	indirect(rig, TABLE, UINT32_MAX - 15, I, 0);
}
CASE(indirect_outside)
{
	indirect(rig, 0x800000, 48, I, 0);
}
CASE(indirect_half_outside)
{
	indirect(rig, END_OF_B - 16, 48, I, 0);
}
CASE(indirect_address_overflows)
{
	indirect(rig, UINT64_MAX - 15, 48, I, 0);
}
CASE(indirect_too_short_for_next)
{
	indirect(rig, TABLE, 32, I, 0);
}

CASE(indirect_unaligned)
{
	indirect(rig, TABLE, 48, I, 0);
	memmove(rig_at(rig, TABLE + 3), rig_at(rig, TABLE), 48);
	rig->ring.desc[0].addr = TABLE + 3;
}

CASE(indirect_over_two_regions)
{
	indirect(rig, GPA_B - 24, 48, I, 0);
	memcpy(rig_at(rig, GPA_B - 24), rig_at(rig, TABLE), 24);
	memcpy(rig_at(rig, GPA_B), rig_at(rig, TABLE + 24), 24);
}

CASE(indirect_in_indirect)
{
	indirect(rig, TABLE, 48, I, 0);
	T(4, TABLE, 48, I, 0);
	D(0, TABLE + 64, 16, I, 0);
}

CASE(indirect_in_the_middle_of_indirect)
{
	indirect(rig, TABLE, 48, I, 0);
	T(1, TABLE, 48, I | N, 2);
}

CASE(indirect_is_the_ring)
{
	indirect(rig, GPA_A, CASE_SIZE * 16, I, 0);
}

CASE(indirect_loop)
{
	indirect(rig, TABLE, 48, I, 0);
	T(2, DATA, 512, N | W, 1);
}

CASE(indirect_after_direct)
{
	indirect(rig, TABLE, 48, I, 0);
	D(3, HDR, 16, N, 4);
	D(4, TABLE + 16, 32, I, 0);
	T(1, DATA, 512, N | W, 1);
	rig->ring.avail->ring[(uint16_t)(rig->ring.avail_next - 1) % CASE_SIZE] = 3;
}

static inline void long_table(struct hostile_rig *rig, uint16_t data)
{
	header(rig, VIRTIO_BLK_T_IN, 0);
	T(0, HDR, 16, N, 1);
	for (uint16_t i = 1; i <= data; i++)
		T(i, DATA + i * 8u, i % 64 ? 8 : 8, N | W, i + 1);
	T(data + 1, STATUS, 1, W, 0);
	D(0, TABLE, (data + 2u) * 16, I, 0);
	OFFER(0);
}

CASE(indirect_of_256_data)
{
	long_table(rig, 256);
}
CASE(indirect_of_257_data)
{
	long_table(rig, 257);
}
CASE(indirect_of_400_data)
{
	long_table(rig, 400);
}

/* ---- Buffers on top of the ring -----------------------------------------------------------------
 */

CASE(data_over_descriptors)
{
	request(rig, VIRTIO_BLK_T_IN, 0, GPA_A, 512);
}
CASE(data_over_available)
{
	request(rig, VIRTIO_BLK_T_IN, 0, GPA_A + AVAIL_AT, 512);
}
CASE(data_over_used)
{
	request(rig, VIRTIO_BLK_T_IN, 0, GPA_A + USED_AT, 512);
}
CASE(data_from_used)
{
	request(rig, VIRTIO_BLK_T_OUT, 0, GPA_A + USED_AT, 512);
}

CASE(status_over_available_index)
{
	bare(rig, VIRTIO_BLK_T_FLUSH, 0);
	rig->ring.desc[1].addr = GPA_A + AVAIL_AT + 3;
}

CASE(status_over_used_index)
{
	bare(rig, VIRTIO_BLK_T_FLUSH, 0);
	rig->ring.desc[1].addr = GPA_A + USED_AT + 2;
}

CASE(status_over_its_own_table)
{
	indirect(rig, TABLE, 48, I, 0);
	T(2, TABLE + 44, 1, W, 0);
}

#endif
