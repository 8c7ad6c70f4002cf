/* SPDX-License-Identifier: MIT */
/* CDBs of commands that are executed without asking: SBC-3, section 5. */
#include "scsi.h"

enum opcode {
	READ_6 = 0x08,
	WRITE_6 = 0x0a,
	READ_10 = 0x28,
	WRITE_10 = 0x2a,
	SYNCHRONIZE_CACHE_10 = 0x35,
	WRITE_SAME_10 = 0x41,
	UNMAP = 0x42,
	READ_16 = 0x88,
	WRITE_16 = 0x8a,
	SYNCHRONIZE_CACHE_16 = 0x91,
	WRITE_SAME_16 = 0x93,
	READ_12 = 0xa8,
	WRITE_12 = 0xaa,
};

/* Bits of byte 1. */
#define FUA 0x08u
#define DPO 0x10u
#define SAME_UNMAP 0x08u
#define SAME_NO_DATA 0x01u

bool scsi_is_write(uint8_t opcode)
{
	return opcode == WRITE_6 || opcode == WRITE_10 || opcode == WRITE_12 || opcode == WRITE_16;
}

static uint64_t big_endian(const uint8_t *at, uint32_t bytes)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

/* Where a CDB of a group has what nearly all in that group have. */
struct layout {
	uint8_t len;
	uint8_t lba_len; /* from byte 2 on */
	uint8_t blocks;
	uint8_t blocks_len;
	uint8_t group;
};

static const struct layout *layout_of(uint8_t opcode)
{
	static const struct layout layouts[8] = {
	    [1] = {.len = 10, .lba_len = 4, .blocks = 7, .blocks_len = 2, .group = 6},
	    [2] = {.len = 10, .lba_len = 4, .blocks = 7, .blocks_len = 2, .group = 6},
	    [4] = {.len = 16, .lba_len = 8, .blocks = 10, .blocks_len = 4, .group = 14},
	    [5] = {.len = 12, .lba_len = 4, .blocks = 6, .blocks_len = 4, .group = 10},
	};

	return &layouts[opcode >> 5];
}

/* READ and WRITE (6), of which 0 blocks are 256. */
static bool decode_6(const uint8_t *cdb, uint32_t cdb_len, struct scsi_command *command)
{
	if (cdb_len < 6 || (cdb[1] & 0xe0) || cdb[5])
		return false;
	command->op = cdb[0] == READ_6 ? VHC_OP_READ : VHC_OP_WRITE;
	command->lba = big_endian(cdb + 1, 3);
	command->blocks = cdb[4] ? cdb[4] : 256;
	return true;
}

/* Takes what byte 1 asks for; false if it is anything odd. */
static bool decode_bits(uint8_t opcode, uint8_t bits, struct scsi_command *command)
{
	uint8_t known = 0;

	switch (opcode) {
	case READ_10:
	case READ_12:
	case READ_16:
		command->op = VHC_OP_READ;
		known = DPO;
		break;
	case WRITE_10:
	case WRITE_12:
	case WRITE_16:
		command->op = VHC_OP_WRITE;
		command->flags = bits & FUA ? IO_DURABLE : 0;
		known = DPO | FUA;
		break;
	case SYNCHRONIZE_CACHE_10:
	case SYNCHRONIZE_CACHE_16:
		command->op = VHC_OP_FLUSH;
		break;
	case UNMAP:
		command->op = VHC_OP_UNMAP;
		break;
	case WRITE_SAME_10:
	case WRITE_SAME_16:
		command->op = VHC_OP_WRITE_ZEROES;
		command->flags = bits & SAME_UNMAP ? IO_MAY_UNMAP : 0;
		command->no_data = bits & SAME_NO_DATA;
		known = opcode == WRITE_SAME_16 ? SAME_UNMAP | SAME_NO_DATA : SAME_UNMAP;
		break;
	default:
		return false;
	}
	return (bits & ~known) == 0;
}

static bool decode(const uint8_t *cdb, uint32_t cdb_len, struct scsi_command *command)
{
	const struct layout *layout = layout_of(cdb[0]);

	*command = (struct scsi_command){0};
	if (cdb[0] == READ_6 || cdb[0] == WRITE_6)
		return decode_6(cdb, cdb_len, command);
	if (layout->len == 0 || cdb_len < layout->len || cdb[layout->group] ||
	    cdb[layout->len - 1] || !decode_bits(cdb[0], cdb[1], command))
		return false;
	command->lba = big_endian(cdb + 2, layout->lba_len);
	command->blocks = big_endian(cdb + layout->blocks, layout->blocks_len);
	if (command->op == VHC_OP_UNMAP) {
		/* It has no LBA: these bytes are reserved. */
		if (command->lba)
			return false;
		command->list_len = (uint32_t)command->blocks;
	}
	return true;
}

/* Whether the logical unit has it all, and lets it be done at once. */
static bool allowed(const struct vhc_lun *lun, const struct scsi_command *command)
{
	uint64_t num_blocks = atomic_load_explicit(&lun->bdev->num_blocks, memory_order_relaxed);
	uint64_t most = UINT64_MAX;

	switch (command->op) {
	case VHC_OP_READ:
	case VHC_OP_WRITE:
		most = IO_MAX_BYTES >> lun->block_shift;
		if (most > lun->max_blocks)
			most = lun->max_blocks;
		break;
	case VHC_OP_WRITE_ZEROES:
		most = lun->max_write_same;
		break;
	case VHC_OP_FLUSH:
		return command->lba < num_blocks &&
		       scsi_in_range(num_blocks, command->lba, command->blocks);
	default: /* UNMAP: its parameters are yet to be read */
		return true;
	}
	return command->blocks > 0 && command->blocks <= most &&
	       scsi_in_range(num_blocks, command->lba, command->blocks);
}

enum scsi_verdict scsi_decide(const struct vhc_lun *lun, const uint8_t *cdb, uint32_t cdb_len,
			      struct scsi_command *command)
{
	const _Atomic uint8_t *gate = &lun->write_gate;
	uint8_t state;

	if (!decode(cdb, cdb_len, command))
		return SCSI_ASK;
	if (command->op == VHC_OP_READ)
		gate = &lun->read_gate;
	state = atomic_load_explicit(gate, memory_order_relaxed);
	if (state == VHC_GATE_CONFLICT)
		return SCSI_CONFLICT;
	if (state != VHC_GATE_RUN || !allowed(lun, command))
		return SCSI_ASK;
	if (command->op == VHC_OP_WRITE || command->op == VHC_OP_WRITE_ZEROES)
		command->flags |= atomic_load_explicit(&lun->write_flags, memory_order_relaxed);
	return SCSI_EXECUTE;
}
