/* SPDX-License-Identifier: MIT */
/*
 * What must become of a command, by virtio 1.2 (5.6.6.1), SBC-3 and vhostctl.h:
 * executed, or up. As plain as can be, and no code of the device's.
 */
#ifndef VHC_HOSTILE_SCSI_MODEL_H
#define VHC_HOSTILE_SCSI_MODEL_H

#include "hostile_scsi_rig.h"

enum verdict {
	MUST_GO_UP,
	GOES_UP_BY_DATA, /* too, but it may wait first: only its data says so */
	MUST_EXECUTE,
	MAY_EXECUTE, /* it may go up as well */
};

static inline bool goes_up(enum verdict verdict)
{
	return verdict == MUST_GO_UP || verdict == GOES_UP_BY_DATA;
}

/* What a command asks the disk for. */
struct disk_io {
	uint32_t op; /* enum vhc_op */
	uint64_t lba, blocks;
	uint64_t transfer; /* bytes of the data buffers */
	uint32_t num_ranges;
	struct {
		uint64_t lba, blocks;
	} ranges[256]; /* UNMAP */
};

enum command_state {
	WAITS, /* its logical unit is held */
	IS_UP,
	IS_DONE,
};

struct command {
	struct model_chain chain;
	bool good; /* well formed, and long enough */
	uint16_t head;
	uint64_t out_len, in_len; /* of the data */
	uint8_t header[CMD_HEADER + VHC_SCSI_MAX_CDB];
	enum command_state state;
	uint32_t len; /* done: of the used element */
	struct unit *unit;
	/* Up. */
	uint64_t request; /* 0: not seen here yet */
	int status;
	bool held;
	bool was_up; /* an ORDERED command waits until it goes up, then no more */
	/* It waits to be executed for whoever answered. */
	bool told;
	struct disk_io told_io;
};

static inline uint64_t be(const uint8_t *bytes, uint32_t n)
{
	uint64_t value = 0;
	for (uint32_t i = 0; i < n; i++)
		value = value << 8 | bytes[i];
	return value;
}

static inline uint8_t *cdb_of(struct command *c)
{
	return c->header + CMD_HEADER;
}

static inline uint64_t tag_of(const struct command *c)
{
	uint64_t tag;
	memcpy(&tag, c->header + 8, 8);
	return tag;
}

static inline uint8_t attr_of(const struct command *c)
{
	return c->header[16];
}

/* ---- The chain
 * ---------------------------------------------------------------------- */

/* Where the data begins in what the device reads, and in what it writes. */
static inline uint32_t out_skip(void)
{
	return fuzz.rig.ring.kind == REQUEST_RING ? CMD_HEADER + fuzz.rig.scsi.cdb_size : 0;
}

static inline uint32_t in_skip(void)
{
	return fuzz.rig.ring.kind == REQUEST_RING ? CMD_RESPONSE + fuzz.rig.scsi.sense_size : 0;
}

static inline void model_read_command(struct command *c, uint16_t head)
{
	struct model *m = &fuzz.model;
	const uint32_t out = out_skip(), in = in_skip();
	*c = (struct command){.head = head};
	c->good =
	    model_walk(m, head, &c->chain) && c->chain.out_len >= out && c->chain.in_len >= in;
	if (!c->good)
		return;
	c->out_len = c->chain.out_len - out;
	c->in_len = c->chain.in_len - in;
	model_gather(m, &c->chain, false, 0, c->header, out);
}

/* The logical unit of an address in the one format that there is, if it is
 * attached. */
static inline struct unit *model_unit(const struct command *c)
{
	static const uint8_t zeroes[4];
	const uint8_t *lun = c->header;
	if (lun[0] != 1 || (lun[2] != 0 && lun[2] != 0x40) || memcmp(lun + 4, zeroes, 4) != 0)
		return NULL;
	struct unit *unit = unit_at(VHC_LUN_ADDRESS(lun[1], lun[3]));
	return unit && unit->attached ? unit : NULL;
}

/* ---- CDBs
 * -----------------------------------------------------------------------------
 */

/* Where a command has its fields. */
struct layout {
	uint8_t opcode;
	uint32_t op;
	uint8_t size; /* of the CDB; the last byte is the control byte */
	uint8_t lba_at, lba_len, count_at, count_len, group_at;
	uint8_t known; /* bits of byte 1 that do not send it up */
	uint8_t maybe; /* bits of byte 1 that may: hints, and what is obsolete */
};

static const struct layout layouts[] = {
    {0x08, VHC_OP_READ, 6, 1, 3, 4, 1, 0, 0x1f, 0},
    {0x0a, VHC_OP_WRITE, 6, 1, 3, 4, 1, 0, 0x1f, 0},
    {0x28, VHC_OP_READ, 10, 2, 4, 7, 2, 6, 0x10, 0x10},
    {0x2a, VHC_OP_WRITE, 10, 2, 4, 7, 2, 6, 0x18, 0x10},
    {0xa8, VHC_OP_READ, 12, 2, 4, 6, 4, 10, 0x10, 0x10},
    {0xaa, VHC_OP_WRITE, 12, 2, 4, 6, 4, 10, 0x18, 0x10},
    {0x88, VHC_OP_READ, 16, 2, 8, 10, 4, 14, 0x10, 0x10},
    {0x8a, VHC_OP_WRITE, 16, 2, 8, 10, 4, 14, 0x18, 0x10},
    {0x35, VHC_OP_FLUSH, 10, 2, 4, 7, 2, 6, 0x04, 0x04},
    {0x91, VHC_OP_FLUSH, 16, 2, 8, 10, 4, 14, 0x04, 0x04},
    {0x42, VHC_OP_UNMAP, 10, 2, 4, 7, 2, 6, 0, 0},
    {0x41, VHC_OP_WRITE_ZEROES, 10, 2, 4, 7, 2, 6, 0x08, 0},
    {0x93, VHC_OP_WRITE_ZEROES, 16, 2, 8, 10, 4, 14, 0x09, 0},
};

static inline const struct layout *find_layout(uint8_t opcode)
{
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		if (layouts[i].opcode == opcode)
			return &layouts[i];
	}
	return NULL;
}

static inline bool in_unit(const struct unit *unit, uint64_t lba, uint64_t blocks)
{
	const uint64_t all = UNIT_BYTES / unit->block_size;
	return lba <= all && blocks <= all - lba;
}

static inline enum verdict judge_data(struct command *c, struct disk_io *io)
{
	const uint64_t there = io->op == VHC_OP_READ ? c->in_len : c->out_len;
	if (!in_unit(c->unit, io->lba, io->blocks) || io->blocks > MAX_BLOCKS)
		return MUST_GO_UP;
	io->transfer = io->blocks * c->unit->block_size;
	if (io->transfer > there)
		return GOES_UP_BY_DATA;
	return io->blocks ? MUST_EXECUTE : MAY_EXECUTE;
}

/* One block of zeroes, or none at all (NDOB). */
static inline enum verdict judge_same(struct command *c, struct disk_io *io)
{
	static uint8_t block[4096];
	const bool no_data = cdb_of(c)[0] == 0x93 && (cdb_of(c)[1] & 1);
	if (!in_unit(c->unit, io->lba, io->blocks) || io->blocks == 0 || io->blocks > MAX_SAME)
		return MUST_GO_UP;
	if (no_data)
		return c->out_len || c->in_len ? MAY_EXECUTE : MUST_EXECUTE;
	io->transfer = c->unit->block_size;
	if (c->out_len < io->transfer)
		return GOES_UP_BY_DATA;
	model_gather(&fuzz.model, &c->chain, false, out_skip(), block, io->transfer);
	for (uint64_t i = 0; i < io->transfer; i++) {
		if (block[i])
			return GOES_UP_BY_DATA;
	}
	return MUST_EXECUTE;
}

/* Takes the descriptors of a list of len bytes; false if one is not in the
 * device. */
static inline bool read_ranges(const struct command *c, const uint8_t *list, uint64_t len,
			       struct disk_io *io)
{
	uint64_t total = 0;
	for (uint64_t at = 8; at < len; at += 16) {
		const uint64_t lba = be(list + at, 8), blocks = be(list + at + 8, 4);
		if (!in_unit(c->unit, lba, blocks))
			return false;
		total += blocks;
		io->ranges[io->num_ranges].lba = lba;
		io->ranges[io->num_ranges++].blocks = blocks;
	}
	return total <= MAX_UNMAP;
}

static inline enum verdict judge_unmap(struct command *c, struct disk_io *io)
{
	static uint8_t list[8 + 257 * 16];
	const uint64_t len = io->blocks; /* of the parameter list */
	enum verdict verdict = MAY_EXECUTE;
	io->transfer = len;
	io->blocks = 0;
	if (be(cdb_of(c) + 2, 4))
		return MUST_GO_UP;
	if (len == 0)
		return MAY_EXECUTE;
	if (len < 8 || len > c->out_len || len > 8 + 256 * 16)
		return GOES_UP_BY_DATA;
	model_gather(&fuzz.model, &c->chain, false, out_skip(), list, len);
	if (be(list, 2) != len - 2 || be(list + 2, 2) != len - 8 || (len - 8) % 16 ||
	    !read_ranges(c, list, len, io))
		return GOES_UP_BY_DATA;
	for (uint32_t i = 0; i < io->num_ranges; i++)
		verdict = io->ranges[i].blocks ? MUST_EXECUTE : verdict;
	for (uint64_t at = 8; at < len; at += 16) {
		if (be(list + at + 12, 4))
			verdict = MAY_EXECUTE;
	}
	return be(list + 4, 4) ? MAY_EXECUTE : verdict;
}

static inline enum verdict judge_kind(struct command *c, const struct layout *l, struct disk_io *io)
{
	switch (l->op) {
	case VHC_OP_READ:
	case VHC_OP_WRITE:
		return judge_data(c, io);
	case VHC_OP_FLUSH:
		io->transfer = 0;
		if (!in_unit(c->unit, io->lba, io->blocks))
			return MUST_GO_UP;
		/* None from the end on: SBC-3 has it both ways. */
		return in_unit(c->unit, io->lba, 1) ? MUST_EXECUTE : MAY_EXECUTE;
	case VHC_OP_UNMAP:
		return judge_unmap(c, io);
	default:
		return judge_same(c, io);
	}
}

/* A command for a logical unit that is attached. */
static inline enum verdict judge(struct command *c, struct disk_io *io)
{
	const uint8_t *cdb = cdb_of(c);
	const struct layout *l = find_layout(cdb[0]);
	*io = (struct disk_io){0};
	if (!l || l->size > fuzz.rig.scsi.cdb_size || cdb[l->size - 1] ||
	    (attr_of(c) != 0 && attr_of(c) != 2))
		return MUST_GO_UP;
	if (c->out_len && c->in_len && !(fuzz.rig.ring.features & F(VIRTIO_SCSI_F_INOUT)))
		return MUST_GO_UP;
	io->op = l->op;
	io->lba = be(cdb + l->lba_at, l->lba_len);
	io->blocks = be(cdb + l->count_at, l->count_len);
	if (l->size == 6) {
		io->lba &= 0x1fffff;
		io->blocks = io->blocks ? io->blocks : 256;
	}
	if (cdb[1] & ~l->known || (l->group_at && cdb[l->group_at]))
		return MUST_GO_UP;
	enum verdict verdict = judge_kind(c, l, io);
	return verdict == MUST_EXECUTE && (cdb[1] & l->maybe) ? MAY_EXECUTE : verdict;
}

static inline uint32_t gate_of(const struct unit *unit, const struct disk_io *io)
{
	return unit->gates[io->op == VHC_OP_READ ? READ_GATE : WRITE_GATE];
}

/* ---- What they do
 * ------------------------------------------------------------------------ */

static inline void model_respond(struct command *c, const struct vhc_scsi_result *result)
{
	const uint32_t room = fuzz.rig.scsi.sense_size;
	const uint32_t sense = result->sense_len < room ? result->sense_len : room;
	const struct virtio_scsi_cmd_resp head = {.sense_len = sense,
						  .resid = result->residual,
						  .status = (uint8_t)result->status,
						  .response = (uint8_t)result->response};
	uint8_t bytes[CMD_RESPONSE + VHC_SCSI_MAX_SENSE];
	memcpy(bytes, &head, CMD_RESPONSE);
	memcpy(bytes + CMD_RESPONSE, result->sense, sense);
	model_gather(&fuzz.model, &c->chain, true, 0, bytes, CMD_RESPONSE + sense);
	c->state = IS_DONE;
	c->len = CMD_RESPONSE + (result->written ? room + result->written : sense);
}

static inline void model_end(struct command *c, uint32_t response, uint32_t status,
			     uint64_t transferred, uint64_t written)
{
	const struct vhc_scsi_result result = {
	    .response = response,
	    .status = status,
	    .residual = (uint32_t)(c->out_len + c->in_len - transferred),
	    .written = (uint32_t)written,
	};
	model_respond(c, &result);
}

/* Whether the disk fails it; it does nothing of it then. */
static inline bool model_fails(const struct command *c, const struct disk_io *io)
{
	const uint64_t good = FLAKY_GOOD / 512;
	if (c->unit != &scsi.units[FLAKY_UNIT] || io->op == VHC_OP_FLUSH)
		return false;
	for (uint32_t i = 0; i < io->num_ranges; i++) {
		if (io->ranges[i].blocks && io->ranges[i].lba + io->ranges[i].blocks > good)
			return true;
	}
	return io->op != VHC_OP_UNMAP && io->blocks && io->lba + io->blocks > good;
}

static inline void model_io(struct command *c, const struct disk_io *io)
{
	const uint32_t size = c->unit->block_size;
	uint8_t *at = c->unit->disk + io->lba * size;
	if (io->op == VHC_OP_READ)
		model_gather(&fuzz.model, &c->chain, true, in_skip(), at, io->transfer);
	else if (io->op == VHC_OP_WRITE)
		model_gather(&fuzz.model, &c->chain, false, out_skip(), at, io->transfer);
	else if (io->op == VHC_OP_WRITE_ZEROES)
		memset(at, 0, io->blocks * size);
	for (uint32_t i = 0; i < io->num_ranges; i++)
		memset(c->unit->disk + io->ranges[i].lba * size, 0, io->ranges[i].blocks * size);
	model_end(c, 0, 0, io->transfer, io->op == VHC_OP_READ ? io->transfer : 0);
}

#endif
