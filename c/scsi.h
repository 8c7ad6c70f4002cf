/* SPDX-License-Identifier: MIT */
/*
 * virtio-scsi commands that are executed without asking (virtio 5.6.6.1, SBC-3):
 * what they are, and what logical units let them do. No ring is known here.
 */
#ifndef VHC_SCSI_H
#define VHC_SCSI_H

#include "io.h"
#include "lane.h"
#include "ring.h"

/* struct virtio_scsi_cmd_req, with the CDB at its end. */
#define SCSI_TAG 8u
#define SCSI_ATTR 16u
#define SCSI_CDB 19u
#define SCSI_HEADER_MAX (SCSI_CDB + VHC_SCSI_MAX_CDB)
/* struct virtio_scsi_cmd_resp, up to its sense data. */
#define SCSI_RESPONSE 12u

#define SCSI_SIMPLE 0u
#define SCSI_ORDERED 1u
#define SCSI_HEAD 2u

#define SCSI_STATUS_CONDITION_MET 0x04u
#define SCSI_STATUS_CONFLICT 0x18u

/* No logical unit has this address. */
#define SCSI_NOWHERE UINT32_MAX

struct vhc_lun {
	struct vhc_bdev *bdev;
	_Atomic uint8_t read_gate; /* enum vhc_gate */
	_Atomic uint8_t write_gate;
	_Atomic uint8_t write_flags; /* IO_DURABLE or 0: what a write gets */
	uint32_t block_shift;
	uint32_t max_blocks;
	uint32_t max_unmap;
	uint32_t max_write_same;
	atomic_uint refs;
};

void lun_ref(struct vhc_lun *lun);

/* A command that may be executed, as its CDB has it. */
struct scsi_command {
	uint8_t op;	   /* enum vhc_op */
	uint8_t flags;	   /* IO_DURABLE, IO_MAY_UNMAP as the CDB asks for them */
	bool no_data;	   /* WRITE SAME: without a block of data */
	uint64_t lba;	   /* not UNMAP */
	uint64_t blocks;   /* not UNMAP */
	uint32_t list_len; /* UNMAP: of its parameters */
};

enum scsi_verdict {
	SCSI_EXECUTE,
	SCSI_ASK,
	SCSI_CONFLICT,
};

/* Reads a CDB and asks the gates. command is filled in for SCSI_EXECUTE only. */
enum scsi_verdict scsi_decide(const struct vhc_lun *lun, const uint8_t *cdb, uint32_t cdb_len,
			      struct scsi_command *command);

/* Whether a command writes plain data: all its data-out belongs on the medium. */
bool scsi_is_write(uint8_t opcode);

/* VHC_LUN_ADDRESS of the 8 bytes that name a logical unit, or SCSI_NOWHERE (virtio 5.6.6.1). */
static inline uint32_t scsi_address(uint64_t lun)
{
	uint32_t target = lun >> 8 & 0xff;
	uint32_t number = lun >> 24 & 0xff;

	/* Peripheral or flat space addressing, one level, up to 255. */
	if ((lun & UINT64_C(0xffffffff00bf00ff)) != 1)
		return SCSI_NOWHERE;
	return VHC_LUN_ADDRESS(target, number);
}

static inline bool scsi_in_range(uint64_t num_blocks, uint64_t lba, uint64_t blocks)
{
	return lba <= num_blocks && blocks <= num_blocks - lba;
}

/* What a batch's requests are held to, of the logical unit that was named last. */
struct scsi_fast {
	uint64_t lun; /* the 8 bytes that name it */
	struct lane *lane;
	uint64_t num_blocks;
	/* Most blocks of a command: MEM_NEAR and the device have them. 0: its gate is shut. */
	uint32_t max_read;
	uint32_t max_write;
	uint32_t block_shift;
	uint32_t write_flags;
};

/* A header from its task attribute on, as far as the second byte of the CDB, as one number. */
#define SCSI_START(attr, opcode, bits)                                                             \
	((uint64_t)(attr) | (uint64_t)(opcode) << 24 | (uint64_t)(bits) << 32)

/* Where a READ or WRITE goes. */
struct scsi_extent {
	uint64_t lba;
	uint64_t blocks;
};

/* Reads it from a (10), or a (16). Returns false if a group number or control byte is set. */
static inline bool scsi_extent_10(const uint8_t *cdb, struct scsi_extent *out)
{
	uint64_t rest = __builtin_bswap64(ring_read64(cdb + 2));

	if (rest & 0xff0000ff)
		return false;
	*out = (struct scsi_extent){.lba = rest >> 32, .blocks = (uint16_t)(rest >> 8)};
	return true;
}

static inline bool scsi_extent_16(const uint8_t *cdb, struct scsi_extent *out)
{
	uint64_t rest = __builtin_bswap64(ring_read64(cdb + 8));

	if (rest & 0xffff)
		return false;
	*out = (struct scsi_extent){.lba = __builtin_bswap64(ring_read64(cdb + 2)),
				    .blocks = (uint32_t)(rest >> 16)};
	return true;
}

/*
 * The same for the (10) of an opcode or its (16), as start says, without bits in
 * byte 1 but for those that may be set. Returns false for anything else, too.
 */
static inline bool scsi_read_extent(const uint8_t *cdb, uint64_t start, uint32_t opcode,
				    uint32_t may, struct scsi_extent *out)
{
	start &= SCSI_START(0xff, 0xff, 0xff & ~may);
	if (__builtin_expect(start == SCSI_START(SCSI_SIMPLE, opcode, 0), 1))
		return scsi_extent_10(cdb, out);
	return start == SCSI_START(SCSI_SIMPLE, opcode + 0x60, 0) && scsi_extent_16(cdb, out);
}

/* Fills in one piece of data, if it is as long as the CDB says, and on the device. */
static inline bool scsi_set_data(const struct scsi_fast *fast, const struct scsi_extent *at,
				 uint32_t max, void *data, uint32_t len, struct io *io)
{
	/* None wraps, and is too many; the device has as many as there may be. */
	if (at->blocks - 1 >= max || at->blocks << fast->block_shift != len ||
	    at->lba > fast->num_blocks - at->blocks)
		return false;
	io->offset = at->lba << fast->block_shift;
	io->len = len;
	io->iov = io->inline_iov;
	io->inline_iov[0] = (struct iovec){.iov_base = data, .iov_len = len};
	return true;
}

/*
 * Reads the command that nearly all are: a READ or WRITE (10, 16) of task
 * attribute SIMPLE with its header, its data and its response in a descriptor
 * each, the data as long as the CDB says, for the logical unit that was named
 * last. Returns false if it is any other or there is anything odd about it.
 */
static inline bool scsi_read_triple(const struct scsi_fast *fast, uint32_t response_len,
				    const struct ring_triple *triple, struct io *io)
{
	const uint8_t *header = triple->first;
	uint64_t start = ring_read64(header + SCSI_ATTR);
	struct scsi_extent at;

	if (triple->in) {
		if (triple->len != response_len ||
		    !scsi_read_extent(header + SCSI_CDB, start, 0x28, 0x10, &at) ||
		    !scsi_set_data(fast, &at, fast->max_read, triple->last, triple->last_len, io))
			return false;
		io->kind = io_kind(VHC_OP_READ, 0, 1);
		io->status = triple->middle;
		fast->lane->counts[VHC_OP_READ]++;
		fast->lane->bytes[VHC_OP_READ] += triple->last_len;
	} else {
		if (triple->last_len != response_len ||
		    !scsi_read_extent(header + SCSI_CDB, start, 0x2a, 0x18, &at) ||
		    !scsi_set_data(fast, &at, fast->max_write, triple->middle, triple->len, io))
			return false;
		/* FUA. */
		io->kind = io_kind(VHC_OP_WRITE,
				   (uint8_t)(fast->write_flags | (start >> 35 & IO_DURABLE)), 1);
		io->status = triple->last;
		fast->lane->counts[VHC_OP_WRITE]++;
		fast->lane->bytes[VHC_OP_WRITE] += triple->len;
	}
	io->lane = fast->lane;
	return true;
}
_Static_assert(IO_DURABLE == 1, "FUA is shifted to it");

#endif
