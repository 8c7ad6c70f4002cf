/* SPDX-License-Identifier: MIT */
/* Cases of request rings that the device has no answer to, or not one of its own. */
#ifndef VHC_HOSTILE_SCSI_ODD_H
#define VHC_HOSTILE_SCSI_ODD_H

#include "hostile_scsi_build.h"

/* ---- No command at all
 * ----------------------------------------------------------------- */

CASE(scsi_no_chain)
{
	D(0, 0, 0, 0, 0);
	OFFER(0);
}
CASE(scsi_header_only)
{
	read_of(rig, 1, 512);
	D(0, HDR, HEADER, 0, 0);
}
CASE(scsi_header_short)
{
	read_of(rig, 1, 512);
	rig->ring.desc[0].len = HEADER - 1;
}
CASE(scsi_header_writable)
{
	read_of(rig, 1, 512);
	rig->ring.desc[0].flags |= W;
}
CASE(scsi_response_only)
{
	D(0, RESPONSE, ROOM, W, 0);
	OFFER(0);
}
CASE(scsi_response_short)
{
	no_data(rig);
	COMMAND(0x00);
	rig->ring.desc[1].len = ROOM - 1;
}
CASE(scsi_response_readable)
{
	scsi_write(rig);
	rig->ring.desc[2].flags = 0;
}
CASE(scsi_response_outside)
{
	read_of(rig, 1, 512);
	rig->ring.desc[1].addr = 0x800000;
}
CASE(scsi_data_outside)
{
	read_of(rig, 1, 512);
	rig->ring.desc[2].addr = END_OF_B - 511;
}
CASE(scsi_data_of_4_gib)
{
	read_of(rig, 1, UINT32_MAX);
}
CASE(scsi_data_in_257_pieces)
{
	scsi_data_in_256_pieces(rig);
	T(257, DATA, 8, N | W, 258);
	T(258, DATA, 8, W, 0);
	D(0, TABLE, 259 * 16, I, 0);
}
CASE(scsi_loop)
{
	read_of(rig, 1, 512);
	rig->ring.desc[2].flags = N | W;
	rig->ring.desc[2].next = 1;
}
CASE(scsi_next_out_of_range)
{
	read_of(rig, 1, 512);
	rig->ring.desc[1].next = CASE_SIZE;
}
CASE(scsi_readable_after_writable)
{
	scsi_write(rig);
	rig->ring.desc[0].flags |= W;
}
CASE(scsi_indirect_in_indirect)
{
	scsi_indirect(rig);
	T(1, TABLE, 48, I, 0);
}

/* ---- Not for the device to answer
 * --------------------------------------------------------- */

CASE(scsi_inquiry)
{
	COMMAND(0x12, 0, 0, 0, 96);
	data_in(rig, 96);
}
CASE(scsi_inquiry_of_no_target)
{
	scsi_inquiry(rig);
	*in_header(rig, 1) = 99;
}
CASE(scsi_report_luns_well_known)
{
	COMMAND(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 96);
	*in_header(rig, 0) = 0xc1;
	*in_header(rig, 1) = 1;
	*in_header(rig, 2) = 0;
	data_in(rig, 96);
}
CASE(scsi_lun_of_no_format)
{
	read_of(rig, 1, 512);
	*in_header(rig, 0) = 0;
}
CASE(scsi_lun_with_a_tail)
{
	read_of(rig, 1, 512);
	*in_header(rig, 7) = 1;
}
CASE(scsi_lun_beyond_255)
{
	read_of(rig, 1, 512);
	*in_header(rig, 2) = 0x41;
}
CASE(scsi_ordered)
{
	read_of(rig, 1, 512);
	*in_header(rig, 16) = 1;
}
CASE(scsi_aca)
{
	read_of(rig, 1, 512);
	*in_header(rig, 16) = 3;
}
CASE(scsi_no_attribute)
{
	read_of(rig, 1, 512);
	*in_header(rig, 16) = 0x80;
}
CASE(scsi_read_with_fua)
{
	COMMAND(0x28, 8, 0, 0, 0, 5, 0, 0, 1);
	data_in(rig, 512);
}
CASE(scsi_read_with_protection)
{
	COMMAND(0x28, 0x20, 0, 0, 0, 5, 0, 0, 1);
	data_in(rig, 512);
}
CASE(scsi_read_with_naca)
{
	COMMAND(0x28, 0, 0, 0, 0, 5, 0, 0, 1, 4);
	data_in(rig, 512);
}
CASE(scsi_read_past_the_end)
{
	COMMAND(0x28, 0, 0, 0, 0, UNIT_BYTES / 512 - 1, 0, 0, 2);
	data_in(rig, 1024);
}
CASE(scsi_read_overflows)
{
	COMMAND(0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2);
	data_in(rig, 1024);
}
CASE(scsi_read_of_too_much)
{
	read_of(rig, MAX_BLOCKS + 1, 0x6000);
}
CASE(scsi_short_buffer)
{
	read_of(rig, 2, 1023);
}
CASE(scsi_no_buffer)
{
	COMMAND(0x28, 0, 0, 0, 0, 5, 0, 0, 1);
	no_data(rig);
}
CASE(scsi_read_from_readable)
{
	COMMAND(0x28, 0, 0, 0, 0, 5, 0, 0, 1);
	data_out(rig, 512);
}
CASE(scsi_write_to_writable)
{
	COMMAND(0x2a, 0, 0, 0, 0, 5, 0, 0, 1);
	data_in(rig, 512);
}
CASE(scsi_both_directions)
{
	COMMAND(0x28, 0, 0, 0, 0, 5, 0, 0, 1);
	D(0, HDR, HEADER + 1, N, 1);
	D(1, RESPONSE, ROOM, N | W, 2);
	D(2, DATA, 512, W, 0);
	OFFER(0);
}
CASE(scsi_synchronize_at_once)
{
	COMMAND(0x35, 2);
	no_data(rig);
}
CASE(scsi_unmap_disagrees)
{
	unmap_of(rig, 2, 2);
	rig_at(rig, DATA)[3] = 16;
}
CASE(scsi_unmap_past_the_end)
{
	unmap_of(rig, 2, 2);
	rig_at(rig, DATA)[8 + 7] = UNIT_BYTES / 512 - 1;
}
CASE(scsi_unmap_of_too_much)
{
	unmap_of(rig, 8, MAX_UNMAP / 8 + 1);
}
CASE(scsi_unmap_of_257)
{
	unmap_of(rig, 257, 1);
}
CASE(scsi_unmap_with_anchor)
{
	unmap_of(rig, 1, 1);
	*in_header(rig, CMD_HEADER + 1) = 1;
}
CASE(scsi_same_of_ones)
{
	same(rig, 9, 512, 1);
}
CASE(scsi_same_to_the_end)
{
	same(rig, 0, 512, 0);
}
CASE(scsi_same_of_half_a_block)
{
	same(rig, 9, 256, 0);
}
CASE(scsi_all_ones)
{
	memset(rig_at(rig, HDR), 0xff, HEADER);
	data_in(rig, 512);
}

/* ---- Rings that are corrupt
 * ----------------------------------------------------------------- */

CASE(scsi_head_out_of_range)
{
	OFFER(CASE_SIZE);
}
CASE(scsi_index_too_far)
{
	rig->ring.avail_next += CASE_SIZE + 1;
}
/* The first of them is up when the second is met. */
CASE(scsi_same_head_twice)
{
	scsi_inquiry(rig);
	OFFER(0);
}

#endif
