/* SPDX-License-Identifier: MIT */
/* How the cases of request rings are built, and those that are executed. */
#ifndef VHC_HOSTILE_SCSI_BUILD_H
#define VHC_HOSTILE_SCSI_BUILD_H

#include "hostile_build.h"
#include "hostile_scsi.h"

#define RESPONSE STATUS
#define HEADER 51u
#define ROOM 108u /* of a response */

/* The header of a command for the first logical unit, whose CDB begins with the
 * bytes given. */
static inline void command(struct hostile_rig *rig, const uint8_t *cdb, uint32_t len)
{
	uint8_t *header = rig_at(rig, HDR);
	memset(header, 0, HEADER);
	header[0] = 1;
	header[2] = 0x40;
	header[8] = 77;
	memcpy(header + CMD_HEADER, cdb, len);
}

#define COMMAND(...)                                                                               \
	do {                                                                                       \
		const uint8_t bytes_[] = {__VA_ARGS__};                                            \
		command(rig, bytes_, sizeof(bytes_));                                              \
	} while (0)

static inline uint8_t *in_header(struct hostile_rig *rig, uint32_t at)
{
	return rig_at(rig, HDR + at);
}

/* Header, response and data to be written to, in a piece each. */
static inline void data_in(struct hostile_rig *rig, uint32_t len)
{
	D(0, HDR, HEADER, N, 1);
	D(1, RESPONSE, ROOM, N | W, 2);
	D(2, DATA, len, W, 0);
	OFFER(0);
}

/* Header, data to be read and response. */
static inline void data_out(struct hostile_rig *rig, uint32_t len)
{
	D(0, HDR, HEADER, N, 1);
	D(1, DATA, len, N, 2);
	D(2, RESPONSE, ROOM, W, 0);
	OFFER(0);
}

static inline void no_data(struct hostile_rig *rig)
{
	D(0, HDR, HEADER, N, 1);
	D(1, RESPONSE, ROOM, W, 0);
	OFFER(0);
}

/* READ (10) of blocks from 5 on. */
static inline void read_of(struct hostile_rig *rig, uint8_t blocks, uint32_t len)
{
	COMMAND(0x28, 0, 0, 0, 0, 5, 0, 0, blocks);
	data_in(rig, len);
}

/* ---- Executed
 * ----------------------------------------------------------------------- */

CASE(scsi_read)
{
	read_of(rig, 2, 1024);
}
CASE(scsi_write)
{
	COMMAND(0x2a, 0, 0, 0, 0, 9, 0, 0, 2);
	data_out(rig, 1024);
}
CASE(scsi_read_6)
{
	COMMAND(0x08, 0, 0, 7, 1);
	data_in(rig, 512);
}
CASE(scsi_read_12)
{
	COMMAND(0xa8, 0, 0, 0, 0, 7, 0, 0, 0, 1);
	data_in(rig, 512);
}
CASE(scsi_read_16)
{
	COMMAND(0x88, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1);
	data_in(rig, 512);
}
CASE(scsi_last_block)
{
	COMMAND(0x28, 0, 0, 0, 0, UNIT_BYTES / 512 - 1, 0, 0, 1);
	data_in(rig, 512);
}
CASE(scsi_head_of_queue)
{
	read_of(rig, 1, 512);
	*in_header(rig, 16) = 2;
}
CASE(scsi_write_with_fua)
{
	COMMAND(0x2a, 8, 0, 0, 0, 9, 0, 0, 1);
	data_out(rig, 512);
}
CASE(scsi_peripheral_lun)
{
	read_of(rig, 1, 512);
	*in_header(rig, 2) = 0;
}
CASE(scsi_response_with_data)
{
	read_of(rig, 1, 512);
	D(1, RESPONSE, ROOM + 512, W, 0);
}
CASE(scsi_header_with_data)
{
	COMMAND(0x2a, 0, 0, 0, 0, 9, 0, 0, 1);
	D(0, HDR, HEADER + 512, N, 1);
	D(1, RESPONSE, ROOM, W, 0);
	OFFER(0);
}
CASE(scsi_header_byte_by_byte)
{
	read_of(rig, 1, 512);
	for (uint16_t i = 0; i < HEADER; i++)
		T(i, HDR + i, 1, N, i + 1);
	T(HEADER, RESPONSE, ROOM, N | W, HEADER + 1);
	T(HEADER + 1, DATA, 512, W, 0);
	D(0, TABLE, (HEADER + 2) * 16, I, 0);
}
CASE(scsi_response_byte_by_byte)
{
	read_of(rig, 1, 512);
	T(0, HDR, HEADER, N, 1);
	for (uint16_t i = 0; i < ROOM; i++)
		T(1 + i, RESPONSE + i, 1, N | W, i + 2);
	T(1 + ROOM, DATA, 512, W, 0);
	D(0, TABLE, (ROOM + 2) * 16, I, 0);
}
CASE(scsi_response_over_two_regions)
{
	read_of(rig, 1, 512);
	D(1, GPA_B - 7, ROOM, N | W, 2);
}
CASE(scsi_data_in_256_pieces)
{
	read_of(rig, 4, 2048);
	T(0, HDR, HEADER, N, 1);
	T(1, RESPONSE, ROOM, N | W, 2);
	for (uint16_t i = 2; i < 258; i++)
		T(i, DATA + i * 8u, 8, i == 257 ? W : N | W, i + 1);
	D(0, TABLE, 258 * 16, I, 0);
}
/* No border of a piece is one of a part. */
CASE(scsi_all_in_odd_pieces)
{
	COMMAND(0x28, 0, 0, 0, 0, 5, 0, 0, 2);
	D(0, HDR, 20, N, 1);
	D(1, HDR + 20, HEADER - 20, N, 2);
	D(2, RESPONSE, 5, N | W, 3);
	D(3, RESPONSE + 5, ROOM - 5 + 300, N | W, 4);
	D(4, DATA, 1024 - 300, W, 0);
	OFFER(0);
}
CASE(scsi_empty_pieces)
{
	COMMAND(0x28, 0, 0, 0, 0, 5, 0, 0, 1);
	D(0, 0, 0, N, 1);
	D(1, HDR, HEADER, N, 2);
	D(2, 0, 0, N | W, 3);
	D(3, RESPONSE, ROOM, N | W, 4);
	D(4, UINT64_MAX, 0, N | W, 5);
	D(5, DATA, 512, W, 0);
	OFFER(0);
}
CASE(scsi_indirect)
{
	read_of(rig, 1, 512);
	T(0, HDR, HEADER, N, 1);
	T(1, RESPONSE, ROOM, N | W, 2);
	T(2, DATA, 512, W, 0);
	D(0, TABLE, 48, I, 0);
}
CASE(scsi_long_buffer)
{
	read_of(rig, 1, 612);
}
CASE(scsi_long_write_buffer)
{
	COMMAND(0x2a, 0, 0, 0, 0, 9, 0, 0, 1);
	data_out(rig, 1024);
}
CASE(scsi_synchronize)
{
	COMMAND(0x35);
	no_data(rig);
}

/* UNMAP of n descriptors, each of so many blocks from 3 times its number on. */
static inline void unmap_of(struct hostile_rig *rig, uint32_t n, uint8_t blocks)
{
	uint8_t *list = rig_at(rig, DATA);
	const uint32_t len = 8 + n * 16;
	COMMAND(0x42, 0, 0, 0, 0, 0, 0, (uint8_t)(len >> 8), (uint8_t)len);
	memset(list, 0, len);
	put_be(list, len - 2, 2);
	put_be(list + 2, len - 8, 2);
	for (uint32_t i = 0; i < n; i++) {
		list[8 + i * 16 + 7] = (uint8_t)(i * 3 % 60);
		list[8 + i * 16 + 11] = i < 8 ? blocks : 0;
	}
	data_out(rig, len);
}
CASE(scsi_unmap)
{
	unmap_of(rig, 2, 2);
}
CASE(scsi_unmap_of_256)
{
	unmap_of(rig, 256, 1);
}

static inline void same(struct hostile_rig *rig, uint8_t blocks, uint32_t len, uint8_t value)
{
	COMMAND(0x41, 0, 0, 0, 0, 4, 0, 0, blocks);
	memset(rig_at(rig, DATA), value, len);
	data_out(rig, len);
}
CASE(scsi_same)
{
	same(rig, 9, 512, 0);
}
CASE(scsi_same_without_data)
{
	COMMAND(0x93, 1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9);
	no_data(rig);
}

#endif
