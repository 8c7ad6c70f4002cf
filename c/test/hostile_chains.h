/* SPDX-License-Identifier: MIT */
/* Cases whose chains are odd or malformed, whatever they ask for. */
#ifndef VHC_HOSTILE_CHAINS_H
#define VHC_HOSTILE_CHAINS_H

#include "hostile_build.h"

/* ---- Well formed, in all the shapes that are allowed ------------------------------- */

CASE(good_read)
{
	request(rig, VIRTIO_BLK_T_IN, 5, DATA, 4096);
}
CASE(good_write)
{
	request(rig, VIRTIO_BLK_T_OUT, 5, DATA, 4096);
}
CASE(good_flush)
{
	bare(rig, VIRTIO_BLK_T_FLUSH, 0);
}
CASE(flush_with_sector)
{
	bare(rig, VIRTIO_BLK_T_FLUSH, 7);
}
CASE(last_sector)
{
	request(rig, VIRTIO_BLK_T_IN, DISK_SECTORS - 1, DATA, 512);
}
CASE(data_at_odd_address)
{
	request(rig, VIRTIO_BLK_T_IN, 1, DATA + 1, 512);
}
CASE(data_over_two_regions)
{
	request(rig, VIRTIO_BLK_T_IN, 0, GPA_B - 300, 1024);
}
CASE(data_near_end_of_addresses)
{
	request(rig, VIRTIO_BLK_T_OUT, 0, GPA_C + 8 * KIB, 8192);
}

CASE(header_byte_by_byte)
{
	header(rig, VIRTIO_BLK_T_FLUSH, 0);
	for (uint16_t i = 0; i < 16; i++)
		T(i, HDR + i, 1, N, i + 1);
	T(16, STATUS, 1, W, 0);
	D(0, TABLE, 17 * 16, I, 0);
	OFFER(0);
}

CASE(header_in_two_halves)
{
	header(rig, VIRTIO_BLK_T_IN, 2);
	D(0, HDR, 7, N, 5);
	D(5, HDR + 7, 9, N, 3);
	D(3, DATA, 512, N | W, 4);
	D(4, STATUS, 1, W, 0);
	OFFER(0);
}

CASE(header_with_data)
{
	header(rig, VIRTIO_BLK_T_OUT, 2);
	D(0, HDR, 16 + 512, N, 1);
	D(1, STATUS, 1, W, 0);
	OFFER(0);
}

CASE(status_with_data)
{
	header(rig, VIRTIO_BLK_T_IN, 2);
	D(0, HDR, 16, N, 1);
	D(1, STATUS - 512, 513, W, 0);
	OFFER(0);
}

CASE(status_after_empty_piece)
{
	header(rig, VIRTIO_BLK_T_IN, 2);
	D(0, HDR, 16, N, 1);
	D(1, 0, 0, N, 2);
	D(2, DATA, 512, N | W, 3);
	D(3, STATUS, 1, N | W, 4);
	D(4, UINT64_MAX, 0, W, 0);
	OFFER(0);
}

CASE(whole_ring_in_a_chain)
{
	header(rig, VIRTIO_BLK_T_IN, 2);
	D(0, HDR, 16, N, 1);
	for (uint16_t i = 1; i < CASE_SIZE - 1; i++)
		D(i, DATA + i * 512u, i < 9 ? 512 : 0, N | W, i + 1);
	D(CASE_SIZE - 1, STATUS, 1, W, 0);
	OFFER(0);
}

CASE(unknown_descriptor_flags)
{
	request(rig, VIRTIO_BLK_T_IN, 5, DATA, 512);
	for (int i = 0; i < 3; i++)
		rig->ring.desc[i].flags |= 0xfff8;
}

CASE(status_over_header)
{
	header(rig, VIRTIO_BLK_T_FLUSH, 0);
	D(0, HDR, 16, N, 1);
	D(1, HDR, 1, W, 0);
	OFFER(0);
}

/* ---- Heads and indices ------------------------------------------------------------------ */

CASE(head_just_out_of_range)
{
	OFFER(CASE_SIZE);
}
CASE(head_far_out_of_range)
{
	OFFER(0xffff);
}
/* Each entry names another chain, which is good for an answer. */
static inline void distinct_heads(struct hostile_rig *rig)
{
	for (uint16_t i = 0; i < CASE_SIZE; i++)
		rig->ring.avail->ring[i] = i;
}

CASE(index_one_too_far)
{
	distinct_heads(rig);
	rig->ring.avail_next += CASE_SIZE + 1;
}
CASE(index_far_ahead)
{
	distinct_heads(rig);
	rig->ring.avail_next += 0x8000;
}
CASE(index_goes_back)
{
	rig->ring.avail_next--;
}

CASE(same_head_twice)
{
	request(rig, VIRTIO_BLK_T_IN, 5, DATA, 512);
	OFFER(0);
}

CASE(ring_full_of_one_head)
{
	request(rig, VIRTIO_BLK_T_IN, 5, DATA, 512);
	for (uint32_t i = 1; i < CASE_SIZE; i++)
		OFFER(0);
}

CASE(head_in_the_middle_of_another)
{
	request(rig, VIRTIO_BLK_T_IN, 5, DATA, 512);
	OFFER(1);
}

/* ---- Links ---------------------------------------------------------------------------------- */

CASE(loop_to_itself)
{
	header(rig, VIRTIO_BLK_T_IN, 0);
	D(0, HDR, 16, N, 0);
	OFFER(0);
}

CASE(loop_of_two)
{
	header(rig, VIRTIO_BLK_T_IN, 0);
	D(0, HDR, 16, N, 1);
	D(1, DATA, 512, N | W, 2);
	D(2, DATA, 512, N | W, 1);
	OFFER(0);
}

CASE(loop_of_empty_pieces)
{
	D(0, HDR, 0, N, 1);
	D(1, HDR, 0, N, 0);
	OFFER(0);
}

/* What lies behind the table looks like the rest of a good chain. */
static inline void next_behind_the_table(struct hostile_rig *rig, uint16_t first, uint16_t second)
{
	header(rig, VIRTIO_BLK_T_IN, 0);
	D(0, HDR, 16, N, first);
	D(first, DATA, 512, N | W, second);
	D(second, STATUS, 1, W, 0);
	OFFER(0);
}

CASE(next_just_out_of_range)
{
	next_behind_the_table(rig, CASE_SIZE, 2);
}

CASE(second_next_out_of_range)
{
	next_behind_the_table(rig, 1, CASE_SIZE);
}

CASE(next_far_out_of_range)
{
	header(rig, VIRTIO_BLK_T_FLUSH, 0);
	D(0, HDR, 16, N, 0xffff);
	OFFER(0);
}

/* ---- Directions --------------------------------------------------------------------------------
 */

CASE(read_into_readable)
{
	request(rig, VIRTIO_BLK_T_IN, 5, DATA, 512);
	rig->ring.desc[1].flags = N;
}

CASE(write_from_writable)
{
	request(rig, VIRTIO_BLK_T_OUT, 5, DATA, 512);
	rig->ring.desc[1].flags = N | W;
}

CASE(header_writable)
{
	request(rig, VIRTIO_BLK_T_IN, 5, DATA, 512);
	rig->ring.desc[0].flags = N | W;
}

CASE(status_readable)
{
	request(rig, VIRTIO_BLK_T_IN, 5, DATA, 512);
	rig->ring.desc[2].flags = 0;
}

CASE(status_of_write_readable)
{
	request(rig, VIRTIO_BLK_T_OUT, 5, DATA, 512);
	rig->ring.desc[2].flags = 0;
}

CASE(readable_after_writable)
{
	header(rig, VIRTIO_BLK_T_OUT, 5);
	D(0, STATUS, 1, N | W, 1);
	D(1, HDR, 16, N, 2);
	D(2, DATA, 512, 0, 0);
	OFFER(0);
}

/* ---- Lengths and addresses ----------------------------------------------------------------------
 */

CASE(data_of_no_length)
{
	request(rig, VIRTIO_BLK_T_IN, 0, DATA, 0);
}
CASE(write_of_no_length)
{
	request(rig, VIRTIO_BLK_T_OUT, 0, DATA, 0);
}
CASE(data_one_byte_short)
{
	request(rig, VIRTIO_BLK_T_IN, 0, DATA, 511);
}
CASE(data_one_byte_long)
{
	request(rig, VIRTIO_BLK_T_OUT, 0, DATA, 513);
}
CASE(data_of_4_gib)
{
	request(rig, VIRTIO_BLK_T_IN, 0, DATA, UINT32_MAX);
}
CASE(data_of_2_gib)
{
	request(rig, VIRTIO_BLK_T_OUT, 0, DATA, 1u << 31);
}
CASE(data_past_the_memory)
{
	request(rig, VIRTIO_BLK_T_IN, 0, END_OF_B - 511, 512);
}
CASE(data_at_0)
{
	request(rig, VIRTIO_BLK_T_IN, 0, 0, 512);
}
CASE(data_below_the_memory)
{
	request(rig, VIRTIO_BLK_T_OUT, 0, GPA_A - 1, 512);
}
CASE(data_in_no_region)
{
	request(rig, VIRTIO_BLK_T_IN, 0, 0x800000, 512);
}
CASE(address_overflows)
{
	request(rig, VIRTIO_BLK_T_IN, 0, UINT64_MAX - 511, 1024);
}
CASE(address_overflows_to_memory)
{
	request(rig, VIRTIO_BLK_T_IN, 0, GPA_C + 15 * KIB, UINT32_MAX - 511);
}
CASE(address_is_a_pointer_here)
{
	request(rig, VIRTIO_BLK_T_IN, 0, (uint64_t)rig->memory + 0x5000, 512);
}
CASE(address_is_a_user_address)
{
	request(rig, VIRTIO_BLK_T_IN, 0, USER_BASE + 0x5000, 512);
}

CASE(header_missing_a_byte)
{
	bare(rig, VIRTIO_BLK_T_FLUSH, 0);
	rig->ring.desc[0].len = 15;
}

CASE(header_empty)
{
	bare(rig, VIRTIO_BLK_T_FLUSH, 0);
	rig->ring.desc[0].len = 0;
}

CASE(header_outside)
{
	bare(rig, VIRTIO_BLK_T_FLUSH, 0);
	rig->ring.desc[0].addr = END_OF_B - 8;
}

CASE(status_missing)
{
	header(rig, VIRTIO_BLK_T_FLUSH, 0);
	D(0, HDR, 16, 0, 0);
	OFFER(0);
}

CASE(status_empty)
{
	bare(rig, VIRTIO_BLK_T_FLUSH, 0);
	rig->ring.desc[1].len = 0;
}

CASE(status_outside)
{
	bare(rig, VIRTIO_BLK_T_FLUSH, 0);
	rig->ring.desc[1].addr = END_OF_B;
}

CASE(empty_descriptor)
{
	D(0, 0, 0, 0, 0);
	OFFER(0);
}

#endif
