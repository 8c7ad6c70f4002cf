/* SPDX-License-Identifier: MIT */
/*
 * One request to a file, step by step. An op has at most one entry in the
 * io_uring, or is at the worker; each answer leads to its next step or its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "file.h"
#include "file_map.h"
#include "iov.h"

/* Never written to, but not constant either: it takes no room in the library. */
#define ZEROES_SIZE 65536u
static _Alignas(4096) uint8_t zeroes[ZEROES_SIZE];

static const struct io_range *range_of(const struct file_op *op)
{
	return &op->io->ranges[op->range];
}

/* ---- Taking and giving back what an op holds ---- */

static struct file_op *take_op(struct file_channel *channel, struct io *io)
{
	struct file_op *op = channel->free_ops;
	channel->free_ops = op->next;
	op->io = io;
	op->channel = channel;
	op->result = 0;
	op->range = 0;
	op->done = 0;
	op->bounce = NULL;
	op->file = FILE_BUFFERED;
	return op;
}

static void drop_bounce(struct file_op *op)
{
	struct file_channel *channel = op->channel;
	if (op->bounce)
		channel->free_bounces[channel->num_free_bounces++] = op->bounce;
	op->bounce = NULL;
}

static bool end(struct file_op *op, int32_t result)
{
	struct file_channel *channel = op->channel;
	struct io *io = op->io;
	drop_bounce(op);
	op->next = channel->free_ops;
	channel->free_ops = op;
	channel->base.inflight--;
	io->result = result;
	io_complete(io);
	return true;
}

/* ---- Asking the kernel ---- */

/* There is an entry for each op. */
static struct io_uring_sqe *get_sqe(struct file_op *op)
{
	return io_uring_get_sqe(&op->channel->ring);
}

/* Completes an entry that was prepared: its file is an index of the registered ones. */
static void ask(struct file_op *op, struct io_uring_sqe *sqe, enum file_step step)
{
	op->step = step;
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, op);
}

static void ask_sync(struct file_op *op)
{
	struct io_uring_sqe *sqe = get_sqe(op);
	io_uring_prep_fsync(sqe, FILE_BUFFERED, IORING_FSYNC_DATASYNC);
	ask(op, sqe, FILE_SYNC);
}

/* Describes what is left of the data, or as much as fits. Returns the pieces. */
static uint32_t describe(struct file_op *op, const struct iovec **iov)
{
	const struct io *io = op->io;
	uint64_t left = io->len - op->done;
	*iov = op->done || op->bounce ? op->iov : io->iov;
	if (op->bounce) {
		op->iov[0].iov_base = op->bounce;
		op->iov[0].iov_len = left < FILE_BOUNCE_SIZE ? left : FILE_BOUNCE_SIZE;
		return 1;
	}
	if (!op->done)
		return io->iovcnt;
	return iov_window(io->iov, io->iovcnt, op->done, op->iov, FILE_OP_IOV);
}

static void ask_data(struct file_op *op)
{
	const struct io *io = op->io;
	const uint64_t offset = io->offset + op->done;
	const struct iovec *iov;
	const uint32_t count = describe(op, &iov);
	struct io_uring_sqe *sqe = get_sqe(op);
	if (io->op == VHC_OP_READ) {
		io_uring_prep_readv(sqe, op->file, iov, count, offset);
	} else {
		if (op->bounce)
			iov_copy(io->iov, io->iovcnt, op->done, op->bounce, iov->iov_len, false);
		io_uring_prep_writev(sqe, op->file, iov, count, offset);
		sqe->rw_flags = io->flags & IO_DURABLE ? RWF_DSYNC : 0;
	}
	ask(op, sqe, FILE_DATA);
}

static void ask_zeroes(struct file_op *op)
{
	struct io_uring_sqe *sqe = get_sqe(op);
	uint64_t left = range_of(op)->len - op->done;
	uint32_t n = 0;
	while (left && n < FILE_OP_IOV) {
		uint64_t len = left < ZEROES_SIZE ? left : ZEROES_SIZE;
		op->iov[n++] = (struct iovec){zeroes, len};
		left -= len;
	}
	io_uring_prep_writev(sqe, FILE_BUFFERED, op->iov, n, range_of(op)->offset + op->done);
	ask(op, sqe, FILE_ZEROES);
}

/* Only a hole gives space back, and only where that is allowed is there to be one. */
static bool punches(const struct io *io)
{
	return io->op == VHC_OP_UNMAP || (io->flags & IO_MAY_UNMAP);
}

static void ask_falloc(struct file_op *op)
{
	const int kind = punches(op->io) ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	const struct io_range *range = range_of(op);
	struct io_uring_sqe *sqe = get_sqe(op);
	if (punches(op->io))
		file_map_emptied(op->channel->file->map, range->offset, range->len);
	io_uring_prep_fallocate(sqe, FILE_BUFFERED, kind | FALLOC_FL_KEEP_SIZE,
				(off_t)range->offset, (off_t)range->len);
	ask(op, sqe, FILE_FALLOC);
}

/* ---- Ranges ---- */

/* Whether it has proved useless to ask for op's kind of fallocate. */
static atomic_bool *refusal(const struct file_op *op)
{
	struct file_bdev *file = op->channel->file;
	return punches(op->io) ? &file->no_punch_hole : &file->no_zero_range;
}

/* Begins with the current range, or with what follows the last one. */
static bool do_range(struct file_op *op)
{
	const struct io *io = op->io;
	const bool refused = atomic_load_explicit(refusal(op), memory_order_relaxed);
	op->done = 0;
	if (op->range == io->iovcnt || (refused && io->op == VHC_OP_UNMAP)) {
		if (!(io->flags & IO_DURABLE))
			return end(op, 0);
		ask_sync(op);
	} else if (refused) {
		ask_zeroes(op);
	} else {
		ask_falloc(op);
	}
	return false;
}

static bool after_falloc(struct file_op *op, int32_t result)
{
	if (result == -EOPNOTSUPP) {
		atomic_store_explicit(refusal(op), true, memory_order_relaxed);
		return do_range(op);
	}
	/* A range that the device cannot zero as it lies, in blocks of its own. */
	if (result == -EINVAL && op->io->op == VHC_OP_WRITE_ZEROES) {
		ask_zeroes(op);
		return false;
	}
	if (result < 0 && result != -EINVAL)
		return end(op, result);
	op->range++;
	return do_range(op);
}

static bool after_zeroes(struct file_op *op, int32_t result)
{
	if (result <= 0)
		return end(op, result ? result : -EIO);
	op->done += (uint32_t)result;
	if (op->done < range_of(op)->len) {
		ask_zeroes(op);
		return false;
	}
	file_map_filled(op->channel->file->map, range_of(op)->offset, range_of(op)->len);
	op->range++;
	return do_range(op);
}

/* ---- Data ---- */

/* Leaves direct I/O: it wants an alignment that this request, or its rest, has not. */
static bool go_buffered(struct file_op *op)
{
	drop_bounce(op);
	op->file = FILE_BUFFERED;
	ask_data(op);
	return false;
}

static bool after_data(struct file_op *op, int32_t result)
{
	struct io *io = op->io;
	if (result == -EINVAL && op->file == FILE_DIRECT)
		return go_buffered(op);
	if (result <= 0) /* nothing: the file has been cut short */
		return end(op, result ? result : -EIO);
	if (op->bounce && io->op == VHC_OP_READ)
		iov_copy(io->iov, io->iovcnt, op->done, op->bounce, (uint32_t)result, true);
	op->done += (uint32_t)result;
	if (op->done >= io->len)
		return end(op, 0);
	if (op->file == FILE_DIRECT && op->done % op->channel->file->align.offset)
		return go_buffered(op);
	ask_data(op);
	return false;
}

/* Whether data can go to direct_fd, perhaps through a bounce buffer. */
static bool can_be_direct(const struct file_bdev *file, const struct io *io)
{
	return file->direct_fd >= 0 && ((io->offset | io->len) & (file->align.offset - 1)) == 0;
}

static bool start_data(struct file_channel *channel, struct io *io)
{
	const struct file_bdev *file = channel->file;
	const bool direct = can_be_direct(file, io);
	const bool bounce =
	    direct && !iov_aligned(io->iov, io->iovcnt, file->align.memory, file->align.offset);
	if (bounce && !channel->num_free_bounces)
		return false;
	struct file_op *op = take_op(channel, io);
	if (direct)
		op->file = FILE_DIRECT;
	if (bounce)
		op->bounce = channel->free_bounces[--channel->num_free_bounces];
	ask_data(op);
	return true;
}

/* ---- The interface ---- */

bool file_op_start(struct file_channel *channel, struct io *io)
{
	if (!channel->free_ops)
		return false;
	if (io->op == VHC_OP_READ || io->op == VHC_OP_WRITE)
		return start_data(channel, io);
	struct file_op *op = take_op(channel, io);
	if (io->op == VHC_OP_FLUSH) {
		ask_sync(op);
	} else if (io->op == VHC_OP_UNMAP && channel->file->worker) {
		op->step = FILE_DISCARD;
		file_worker_push(channel->file->worker, op);
	} else {
		do_range(op);
	}
	return true;
}

/* Interrupted, or the kernel was short of something: the same again. */
static bool again(struct file_op *op)
{
	if (op->step == FILE_DATA)
		ask_data(op);
	else if (op->step == FILE_FALLOC)
		ask_falloc(op);
	else if (op->step == FILE_ZEROES)
		ask_zeroes(op);
	else
		ask_sync(op);
	return false;
}

bool file_op_continue(struct file_op *op, int32_t result)
{
	if (result == -EINTR || result == -EAGAIN)
		return again(op);
	switch (op->step) {
	case FILE_DATA:
		return after_data(op, result);
	case FILE_FALLOC:
		return after_falloc(op, result);
	case FILE_ZEROES:
		return after_zeroes(op, result);
	default:
		return end(op, result < 0 ? result : 0);
	}
}
