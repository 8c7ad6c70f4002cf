/* SPDX-License-Identifier: MIT */
/* Random requests of a virtio-scsi device's rings: good ones, with a few things
 * wrong. */
#ifndef VHC_HOSTILE_SCSI_RANDOM_H
#define VHC_HOSTILE_SCSI_RANDOM_H

#include "hostile_scsi_model.h"

static inline void put_be(uint8_t *at, uint64_t value, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		at[i] = (uint8_t)(value >> 8 * (n - 1 - i));
}

static inline uint64_t gen_lba(struct gen *g, const struct unit *unit, uint32_t blocks)
{
	const uint32_t all = UNIT_BYTES / unit->block_size;
	switch (below(g, 48)) {
	case 0:
		return all - below(g, 3);
	case 1:
		return gen_random(g) >> below(g, 64);
	case 2:
		return UINT64_MAX - below(g, 16);
	case 3:
		return all - blocks + 1;
	default:
		return below(g, all - (blocks < all ? blocks : all) + 1);
	}
}

/* The length of a buffer for so many bytes: mostly that. */
static inline uint32_t gen_buffer(struct gen *g, uint32_t bytes)
{
	switch (below(g, 32)) {
	case 0:
		return below(g, bytes + 1);
	case 1:
		return bytes + below(g, 600);
	case 2:
		return bytes > 0 ? bytes - 1 : 1;
	default:
		return bytes;
	}
}

/* Data of nothing but one byte: the model and the device must agree on what a
 * zero block is. */
static inline void gen_data_out(struct gen *g, struct gen_request *r, uint32_t len, uint8_t value)
{
	memset(r->out + r->out_len, value, len);
	if (len && one_in(g, 16))
		r->out[r->out_len + below(g, len)] ^= 1;
	r->out_len += len;
}

static inline void gen_fields(struct gen *g, uint8_t *cdb, const struct layout *l, uint64_t lba,
			      uint64_t count)
{
	cdb[0] = l->opcode;
	put_be(cdb + l->lba_at, lba, l->lba_len);
	if (l->size == 6)
		cdb[1] &= 0x1f;
	put_be(cdb + l->count_at, count, l->count_len);
	if (one_in(g, 32))
		cdb[1] |= (uint8_t)(1u << below(g, 8));
	if (one_in(g, 64))
		cdb[l->size - 1] = (uint8_t)gen_random(g);
	if (one_in(g, 64))
		cdb[below(g, l->size)] = (uint8_t)gen_random(g);
}

static inline void gen_unmap(struct gen *g, struct gen_request *r, const struct unit *unit,
			     uint8_t *cdb)
{
	const uint32_t n = one_in(g, 32) ? below(g, 300) : below(g, 5);
	uint8_t *list = r->out + r->out_len;
	const uint32_t len = 8 + n * 16;
	memset(list, 0, len);
	put_be(list, one_in(g, 16) ? below(g, len + 20) : len - 2, 2);
	put_be(list + 2, one_in(g, 16) ? below(g, len + 20) : len - 8, 2);
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t blocks = one_in(g, 4) ? 0 : below(g, 12);
		put_be(list + 8 + i * 16, gen_lba(g, unit, blocks), 8);
		put_be(list + 16 + i * 16, one_in(g, 16) ? (uint32_t)gen_random(g) : blocks, 4);
	}
	if (n && one_in(g, 32))
		list[8 + below(g, n * 16)] = (uint8_t)gen_random(g);
	gen_fields(g, cdb, find_layout(0x42), 0, one_in(g, 16) ? gen_buffer(g, len) : len);
	r->out_len += one_in(g, 16) ? gen_buffer(g, len) : len;
}

static inline void gen_disk_command(struct gen *g, struct gen_request *r, const struct unit *unit,
				    uint8_t *cdb)
{
	static const uint8_t opcodes[] = {0x28, 0x28, 0x28, 0x28, 0x2a, 0x2a, 0x2a,
					  0x2a, 0x08, 0x0a, 0xa8, 0xaa, 0x88, 0x8a,
					  0x35, 0x91, 0x42, 0x42, 0x41, 0x93};
	const struct layout *l = find_layout(opcodes[below(g, sizeof(opcodes))]);
	const uint32_t most = 4096 / unit->block_size;
	const uint32_t blocks = one_in(g, 24) ? below(g, 2 * MAX_BLOCKS) : 1 + below(g, most);
	const uint32_t bytes = blocks * unit->block_size;
	if (l->op == VHC_OP_UNMAP) {
		gen_unmap(g, r, unit, cdb);
		return;
	}
	gen_fields(g, cdb, l, gen_lba(g, unit, blocks), blocks);
	if (l->op == VHC_OP_READ)
		r->in_len += gen_buffer(g, bytes < 20 * KIB ? bytes : 20 * KIB);
	else if (l->op == VHC_OP_WRITE)
		gen_data_out(g, r, gen_buffer(g, bytes < 20 * KIB ? bytes : 20 * KIB),
			     (uint8_t)gen_random(g));
	else if (l->op == VHC_OP_WRITE_ZEROES && !(cdb[0] == 0x93 && (cdb[1] |= below(g, 2)) & 1))
		gen_data_out(g, r, gen_buffer(g, unit->block_size), one_in(g, 8));
}

/* Any other command, with data in any direction. */
static inline void gen_odd_command(struct gen *g, struct gen_request *r, uint8_t *cdb)
{
	static const uint8_t opcodes[] = {0x00, 0x03, 0x12, 0x1a, 0x25,
					  0x55, 0x5f, 0x89, 0x9e, 0xa0};
	for (uint32_t i = 0; i < fuzz.rig.scsi.cdb_size; i++)
		cdb[i] = one_in(g, 2) ? (uint8_t)gen_random(g) : 0;
	if (one_in(g, 2))
		cdb[0] = opcodes[below(g, sizeof(opcodes))];
	if (one_in(g, 2))
		gen_data_out(g, r, below(g, one_in(g, 8) ? 9000 : 200), (uint8_t)gen_random(g));
	if (one_in(g, 2))
		r->in_len += below(g, one_in(g, 8) ? 9000 : 300);
}

static inline void gen_scsi_body(struct gen *g, struct gen_request *r)
{
	const struct vhc_scsi_config *sizes = &fuzz.rig.scsi;
	const struct unit *unit = &scsi.units[below(g, UNITS)];
	uint8_t cdb[VHC_SCSI_MAX_CDB] = {0};
	const uint64_t tag = scsi.chance ? below(g, 4) : gen_random(g);
	r->out_cut = r->out_len = CMD_HEADER + sizes->cdb_size;
	r->in_cut = r->in_len = CMD_RESPONSE + sizes->sense_size;
	memset(r->out, 0, CMD_HEADER);
	r->out[0] = 1;
	r->out[1] = (uint8_t)(unit->address >> 16);
	r->out[2] = one_in(g, 8) ? 0 : 0x40;
	r->out[3] = (uint8_t)unit->address;
	memcpy(r->out + 8, &tag, 8);
	if (one_in(g, 24))
		r->out[below(g, 8)] ^= (uint8_t)(1u << below(g, 8));
	if (one_in(g, 12))
		r->out[16] = (uint8_t)(one_in(g, 8) ? gen_random(g) : below(g, 4));
	if (one_in(g, 32))
		r->out[17 + below(g, 2)] = (uint8_t)gen_random(g);
	if (one_in(g, 8))
		gen_odd_command(g, r, cdb);
	else
		gen_disk_command(g, r, unit, cdb);
	memcpy(r->out + CMD_HEADER, cdb, sizes->cdb_size);
	if (one_in(g, 48)) /* a buffer in the other direction too */
		one_in(g, 2) ? (r->in_len += 1 + below(g, 600)) : (r->out_len += 1 + below(g, 600));
	if (one_in(g, 48))
		r->out_len -= below(g, r->out_len + 1);
	if (one_in(g, 48))
		r->in_len -= below(g, r->in_len + 1);
}

/* ---- Other rings
 * -------------------------------------------------------------------------- */

static inline void gen_control_body(struct gen *g, struct gen_request *r)
{
	r->out_cut = 4;
	for (uint32_t i = below(g, one_in(g, 16) ? 9000 : 40); i > 0; i--)
		r->out[r->out_len++] = (uint8_t)gen_random(g);
	r->in_len = r->in_cut = one_in(g, 16) ? below(g, 9000) : below(g, 8);
}

static inline void gen_event_body(struct gen *g, struct gen_request *r)
{
	r->out_len = one_in(g, 16) ? below(g, 40) : 0;
	memset(r->out, 0x33, r->out_len);
	r->in_len = one_in(g, 8) ? below(g, 20) : 16 + (one_in(g, 4) ? below(g, 100) : 0);
	r->in_cut = r->in_len;
}

#endif
