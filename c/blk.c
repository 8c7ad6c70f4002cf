/* SPDX-License-Identifier: MIT */
#include "blk.h"

#include <stdlib.h>
#include <string.h>

#define SEGMENT_SIZE sizeof(struct virtio_blk_discard_write_zeroes)
_Static_assert(BLK_HEADER_SIZE == 16 && SEGMENT_SIZE == 16, "virtio 5.2.6");
_Static_assert(BLK_MAX_SEGMENTS <= VHC_CHAIN_MAX_IOV, "ranges fit where pieces do");

/* A request as it lies in its chain; the pieces are what remains beside header and status. */
struct request {
	uint32_t type;
	uint64_t sector;
	struct iovec *out; /* data that the device reads */
	uint32_t num_out;
	uint64_t out_len;
	struct iovec *in; /* data that the device writes */
	uint32_t num_in;
	uint64_t in_len;
};

int vhc_blk_create(const struct vhc_blk_config *config, struct vhc_blk **out)
{
	struct vhc_blk *blk;
	uint64_t features = config->features;

	if (config->max_discard_segments > BLK_MAX_SEGMENTS ||
	    config->max_write_zeroes_segments > BLK_MAX_SEGMENTS)
		return -EINVAL;
	blk = calloc(1, sizeof(*blk));
	if (!blk)
		return -ENOMEM;
	blk->config = *config;
	blk->bdev = (struct vhc_bdev *)(uintptr_t)config->bdev;
	blk->readonly = (config->flags & VHC_BLK_READONLY) || (features >> VIRTIO_BLK_F_RO & 1);
	blk->discard = features >> VIRTIO_BLK_F_DISCARD & 1;
	blk->write_zeroes = features >> VIRTIO_BLK_F_WRITE_ZEROES & 1;
	blk->config_wce = features >> VIRTIO_BLK_F_CONFIG_WCE & 1;
	/* Write-back if the driver can flush (virtio 5.2.5.2). */
	atomic_init(&blk->write_flags, features >> VIRTIO_BLK_F_FLUSH & 1 ? 0 : IO_DURABLE);
	atomic_init(&blk->refs, 1);
	if (blk->bdev)
		bdev_ref(blk->bdev);
	*out = blk;
	return 0;
}

void blk_ref(struct vhc_blk *blk)
{
	atomic_fetch_add_explicit(&blk->refs, 1, memory_order_relaxed);
}

void vhc_blk_release(struct vhc_blk *blk)
{
	if (!blk || atomic_fetch_sub_explicit(&blk->refs, 1, memory_order_acq_rel) != 1)
		return;
	vhc_bdev_release(blk->bdev);
	free(blk);
}

void vhc_blk_set_writeback(struct vhc_blk *blk, int32_t writeback)
{
	if (blk->config_wce)
		atomic_store_explicit(&blk->write_flags, writeback ? 0 : IO_DURABLE,
				      memory_order_relaxed);
}

/* ---- Pieces ---- */

/* Moves len bytes from the front of the pieces to `to`; they have as many. */
static void take_front(struct iovec **iov, uint32_t *n, void *to, size_t len)
{
	uint8_t *at = to;

	while (len > 0) {
		struct iovec *first = *iov;
		size_t part = first->iov_len < len ? first->iov_len : len;

		memcpy(at, first->iov_base, part);
		at += part;
		len -= part;
		first->iov_base = (uint8_t *)first->iov_base + part;
		first->iov_len -= part;
		if (first->iov_len == 0) {
			++*iov;
			--*n;
		}
	}
}

/* Copies len bytes to the pieces, or what they have room for; returns how much. */
static size_t scatter(const struct iovec *iov, uint32_t n, const void *from, size_t len)
{
	size_t done = 0;

	for (uint32_t i = 0; i < n && done < len; i++) {
		size_t part = iov[i].iov_len < len - done ? iov[i].iov_len : len - done;

		memcpy(iov[i].iov_base, (const uint8_t *)from + done, part);
		done += part;
	}
	return done;
}

/* Takes the status byte, the last that the device writes. There is at least one. */
static uint8_t *take_status(struct request *request)
{
	struct iovec *last = &request->in[request->num_in - 1];

	request->in_len--;
	if (--last->iov_len == 0)
		request->num_in--;
	return (uint8_t *)last->iov_base + last->iov_len;
}

/* Takes the header, wherever it is split. There are at least as many bytes. */
static void take_header(struct request *request)
{
	uint8_t copy[BLK_HEADER_SIZE];
	const void *at = copy;

	if (__builtin_expect(request->out->iov_len == BLK_HEADER_SIZE, 1)) {
		at = request->out->iov_base;
		request->out++;
		request->num_out--;
	} else {
		take_front(&request->out, &request->num_out, copy, BLK_HEADER_SIZE);
	}
	request->out_len -= BLK_HEADER_SIZE;
	request->type = (uint32_t)ring_read64(at);
	request->sector = ring_read64((const uint8_t *)at + 8);
}

/* ---- Requests ---- */

static bool answer_with(const struct io *io, uint8_t status, uint32_t data, uint32_t op,
			struct blk_answer *answer)
{
	bool error = status != VIRTIO_BLK_S_OK;

	*io->status = status;
	*answer = (struct blk_answer){.op = op, .written = data + 1, .error = error};
	if (error)
		answer->result = status == VIRTIO_BLK_S_UNSUPP ? -EOPNOTSUPP : -EIO;
	return false;
}

static bool fail(const struct io *io, uint32_t op, struct blk_answer *answer)
{
	return answer_with(io, VIRTIO_BLK_S_IOERR, 0, op, answer);
}

static bool unsupported(const struct io *io, uint32_t op, struct blk_answer *answer)
{
	return answer_with(io, VIRTIO_BLK_S_UNSUPP, 0, op, answer);
}

/* IN and OUT. Requests without data are the driver's error, like ones of half a sector. */
static inline bool parse_data(const struct blk_limits *limits, struct io *io, uint32_t op,
			      uint64_t sector, struct iovec *iov, uint32_t n, uint64_t len,
			      struct blk_answer *answer)
{
	io->offset = sector << BLK_SECTOR_SHIFT;
	io->len = len;
	/* A length of 0 wraps, and so is too much. */
	if (__builtin_expect(len - 1 >= IO_MAX_BYTES || !blk_range_valid(limits, sector, len), 0))
		return fail(io, op, answer);
	io->op = (uint8_t)op;
	io->iov = iov;
	io->iovcnt = (uint16_t)n;
	return true;
}

/* The ranges of a DISCARD or WRITE_ZEROES, and how they are limited. */
struct range_rule {
	uint32_t op;
	uint32_t max_segments;
	uint32_t max_sectors;
	uint32_t known_flags;
};

/*
 * Checks one segment. An unknown flag is UNSUPP whatever else is wrong (virtio
 * 5.2.6.2); an empty segment is allowed and adds no range.
 */
static uint8_t parse_segment(const struct blk_limits *limits, const struct range_rule *rule,
			     const struct virtio_blk_discard_write_zeroes *segment)
{
	if (segment->flags & ~rule->known_flags)
		return VIRTIO_BLK_S_UNSUPP;
	if (segment->num_sectors > rule->max_sectors ||
	    !blk_range_valid(limits, segment->sector,
			     (uint64_t)segment->num_sectors << BLK_SECTOR_SHIFT))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

static bool parse_ranges(const struct blk_limits *limits, struct request *request, struct io *io,
			 const struct range_rule *rule, struct blk_answer *answer)
{
	struct virtio_blk_discard_write_zeroes segments[BLK_MAX_SEGMENTS];
	uint64_t count = request->out_len / SEGMENT_SIZE;
	uint8_t status = VIRTIO_BLK_S_OK;
	bool may_unmap = true;

	if (count == 0 || request->out_len % SEGMENT_SIZE || count > rule->max_segments)
		return fail(io, rule->op, answer);
	take_front(&request->out, &request->num_out, segments, request->out_len);
	io->op = (uint8_t)rule->op;
	io->len = 0;
	io->iovcnt = 0;
	if (count > IO_INLINE_IOV)
		io_large_iov(io);
	for (uint64_t i = 0; i < count && status != VIRTIO_BLK_S_UNSUPP; i++) {
		const struct virtio_blk_discard_write_zeroes *segment = &segments[i];
		uint8_t verdict = parse_segment(limits, rule, segment);
		uint64_t len = (uint64_t)segment->num_sectors << BLK_SECTOR_SHIFT;

		if (verdict != VIRTIO_BLK_S_OK) {
			status = verdict;
		} else if (len > 0) {
			io->ranges[io->iovcnt++] = (struct io_range){
			    .offset = segment->sector << BLK_SECTOR_SHIFT, .len = len};
			io->len += len;
			may_unmap &= segment->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		}
	}
	if (status != VIRTIO_BLK_S_OK || io->iovcnt == 0)
		return answer_with(io, status, 0, rule->op, answer);
	io->offset = io->ranges[0].offset;
	/* One flag for all: unmapping is a permission, so it takes every segment's. */
	if (rule->op == VHC_OP_WRITE_ZEROES && may_unmap)
		io->flags |= IO_MAY_UNMAP;
	return true;
}

static bool parse_discard(const struct vhc_blk *blk, const struct blk_limits *limits,
			  struct request *request, struct io *io, struct blk_answer *answer)
{
	const struct range_rule rule = {
	    .op = VHC_OP_UNMAP,
	    .max_segments = blk->config.max_discard_segments,
	    .max_sectors = blk->config.max_discard_sectors,
	};

	if (!blk->discard)
		return unsupported(io, rule.op, answer);
	if (blk->readonly)
		return fail(io, rule.op, answer);
	return parse_ranges(limits, request, io, &rule, answer);
}

static bool parse_write_zeroes(const struct vhc_blk *blk, const struct blk_limits *limits,
			       struct request *request, struct io *io, struct blk_answer *answer)
{
	const struct range_rule rule = {
	    .op = VHC_OP_WRITE_ZEROES,
	    .max_segments = blk->config.max_write_zeroes_segments,
	    .max_sectors = blk->config.max_write_zeroes_sectors,
	    .known_flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
	};

	if (!blk->write_zeroes)
		return unsupported(io, rule.op, answer);
	if (blk->readonly)
		return fail(io, rule.op, answer);
	io->flags |= atomic_load_explicit(&blk->write_flags, memory_order_relaxed);
	return parse_ranges(limits, request, io, &rule, answer);
}

/* Everything but IN and OUT. The sector of a FLUSH means nothing to the device. */
static bool parse_other(const struct vhc_blk *blk, const struct blk_limits *limits,
			struct request *request, struct io *io, struct blk_answer *answer)
{
	switch (request->type) {
	case VIRTIO_BLK_T_FLUSH:
		io->op = VHC_OP_FLUSH;
		io->iovcnt = 0;
		io->offset = 0;
		io->len = 0;
		return true;
	case VIRTIO_BLK_T_GET_ID:
		return answer_with(io, VIRTIO_BLK_S_OK,
				   (uint32_t)scatter(request->in, request->num_in,
						     blk->config.serial,
						     sizeof(blk->config.serial)),
				   VHC_OP_OTHER, answer);
	case VIRTIO_BLK_T_DISCARD:
		return parse_discard(blk, limits, request, io, answer);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return parse_write_zeroes(blk, limits, request, io, answer);
	default:
		return unsupported(io, VHC_OP_OTHER, answer);
	}
}

bool blk_parse(const struct vhc_blk *blk, const struct blk_limits *limits, struct io *io,
	       const struct ring_chain *chain, struct blk_answer *answer)
{
	struct request request = {
	    .out = io->iov,
	    .num_out = chain->num_out,
	    .out_len = chain->out_len,
	    .in = io->iov + chain->num_out,
	    .num_in = chain->num_in,
	    .in_len = chain->in_len,
	};

	if (__builtin_expect(request.num_in == 0, 0)) {
		/* Nowhere to put a status: the chain goes back empty. */
		*answer = (struct blk_answer){.op = VHC_OP_OTHER, .error = true, .result = -EPROTO};
		return false;
	}
	io->status = take_status(&request);
	io->flags &= IO_LARGE;
	if (__builtin_expect(request.out_len < BLK_HEADER_SIZE || !blk->bdev, 0)) {
		fail(io, VHC_OP_OTHER, answer);
		if (request.out_len < BLK_HEADER_SIZE)
			answer->result = -EPROTO;
		return false;
	}
	take_header(&request);
	if (request.type == VIRTIO_BLK_T_IN)
		return parse_data(limits, io, VHC_OP_READ, request.sector, request.in,
				  request.num_in, request.in_len, answer);
	if (request.type != VIRTIO_BLK_T_OUT)
		return parse_other(blk, limits, &request, io, answer);
	io->offset = request.sector << BLK_SECTOR_SHIFT;
	io->len = request.out_len;
	if (blk->readonly)
		return fail(io, VHC_OP_WRITE, answer);
	io->flags |= atomic_load_explicit(&blk->write_flags, memory_order_relaxed);
	return parse_data(limits, io, VHC_OP_WRITE, request.sector, request.out, request.num_out,
			  request.out_len, answer);
}
