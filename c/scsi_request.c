/* SPDX-License-Identifier: MIT */
/* Commands of any shape: to their lane, into its waiting list, or up. */
#include <linux/virtio_scsi.h>
#include <string.h>

#include "scsi_queue.h"
#include "tick.h"

/* Parameters of UNMAP (SBC-3 5.28.2): a header, and descriptors of as many bytes as a range. */
#define UNMAP_HEADER 8u
#define UNMAP_DESCRIPTOR 16u
#define UNMAP_MAX 256u
#define UNMAP_BYTES (UNMAP_HEADER + UNMAP_MAX * UNMAP_DESCRIPTOR)

static uint32_t read16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

/* ---- What a command becomes for the backend ---- */

static void set_residual(struct task *task, uint64_t transferred)
{
	uint64_t left = task->out_len + task->in_len - transferred;

	task->residual = left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
}

static int prepare_data(struct task *task, uint32_t op, uint8_t flags, uint64_t offset,
			uint64_t len)
{
	struct io *io = task->io;
	bool read = op == VHC_OP_READ;

	if (len > (read ? task->in_len : task->out_len))
		return -ERANGE;
	set_residual(task, len);
	io->op = (uint8_t)op;
	io->flags |= flags;
	io->offset = offset;
	io->len = len;
	io->iov = read ? task->iov + task->num_out + task->num_response : task->iov;
	if (len == 0)
		return 0;
	io->iovcnt = (uint16_t)task_trim(task, io->iov, len);
	return 1;
}

/* Whether the first len bytes of data-out are 0. They are looked at only, never used. */
static bool is_zero(const struct task *task, uint64_t len)
{
	for (const struct iovec *piece = task->iov; len > 0; piece++) {
		size_t part = piece->iov_len < len ? piece->iov_len : len;
		const uint8_t *at = piece->iov_base;
		uint8_t any = 0;

		for (size_t i = 0; i < part; i++)
			any |= at[i];
		if (any)
			return false;
		len -= part;
	}
	return true;
}

static int prepare_same(const struct vhc_lun *lun, struct task *task,
			const struct scsi_command *command)
{
	uint64_t data = command->no_data ? 0 : UINT64_C(1) << lun->block_shift;
	struct io *io = task->io;
	struct iovec *room;

	if (task->out_len < data || !is_zero(task, data))
		return -EINVAL;
	room = task_room(io, 1);
	if (!room)
		return -ENOMEM;
	set_residual(task, data);
	io->op = VHC_OP_WRITE_ZEROES;
	io->flags |= command->flags;
	io->ranges = (struct io_range *)room;
	io->iovcnt = 1;
	io->offset = command->lba << lun->block_shift;
	io->len = command->blocks << lun->block_shift;
	io->ranges[0] = (struct io_range){.offset = io->offset, .len = io->len};
	return 1;
}

/* Turns descriptors of UNMAP into ranges. Returns how many, or -EINVAL if any is odd. */
static int read_ranges(const struct vhc_lun *lun, const uint8_t *at, uint32_t count,
		       struct io_range *ranges, uint64_t *len)
{
	uint64_t num_blocks = atomic_load_explicit(&lun->bdev->num_blocks, memory_order_relaxed);
	uint64_t total = 0;
	int n = 0;

	for (uint32_t i = 0; i < count; i++, at += UNMAP_DESCRIPTOR) {
		uint64_t lba = __builtin_bswap64(ring_read64(at));
		uint64_t blocks = __builtin_bswap32(ring_read32(at + 8));

		total += blocks;
		if (!scsi_in_range(num_blocks, lba, blocks) || total > lun->max_unmap ||
		    ring_read32(at + 12))
			return -EINVAL;
		if (blocks > 0)
			ranges[n++] = (struct io_range){.offset = lba << lun->block_shift,
							.len = blocks << lun->block_shift};
	}
	*len = total << lun->block_shift;
	return n;
}

static int prepare_unmap(const struct vhc_lun *lun, struct task *task,
			 const struct scsi_command *command)
{
	uint8_t list[UNMAP_BYTES];
	uint32_t len = command->list_len;
	struct io *io = task->io;
	struct iovec *room;
	uint32_t count;
	int n;

	if (len < UNMAP_HEADER + UNMAP_DESCRIPTOR || len > sizeof(list) || len > task->out_len)
		return -EINVAL;
	task_read_out(task, 0, list, len);
	if (read16(list) != len - 2 || read16(list + 2) != len - UNMAP_HEADER ||
	    (len - UNMAP_HEADER) % UNMAP_DESCRIPTOR || ring_read32(list + 4))
		return -EINVAL;
	count = (len - UNMAP_HEADER) / UNMAP_DESCRIPTOR;
	room = task_room(io, count);
	if (!room)
		return -ENOMEM;
	n = read_ranges(lun, list + UNMAP_HEADER, count, (struct io_range *)room, &io->len);
	if (n < 0)
		return n;
	set_residual(task, len);
	io->op = VHC_OP_UNMAP;
	io->ranges = (struct io_range *)room;
	io->iovcnt = (uint16_t)n;
	io->offset = n > 0 ? io->ranges[0].offset : 0;
	return n > 0;
}

int scsi_prepare(const struct lane *lane, struct task *task, const struct scsi_command *command)
{
	const struct vhc_lun *lun = lane->lun;
	struct io *io = task->io;

	switch (command->op) {
	case VHC_OP_READ:
	case VHC_OP_WRITE:
		return prepare_data(task, command->op, command->flags,
				    command->lba << lun->block_shift,
				    command->blocks << lun->block_shift);
	case VHC_OP_UNMAP:
		return prepare_unmap(lun, task, command);
	case VHC_OP_WRITE_ZEROES:
		return prepare_same(lun, task, command);
	default:
		set_residual(task, 0);
		io->op = VHC_OP_FLUSH;
		io->iovcnt = 0;
		io->offset = 0;
		io->len = 0;
		return 1;
	}
}

int scsi_prepare_wish(const struct lane *lane, struct task *task)
{
	const struct task_wish *wish = &task->wish;
	const struct vhc_bdev *bdev = lane->lun->bdev;
	uint64_t blocks = atomic_load_explicit(&bdev->num_blocks, memory_order_relaxed);
	uint64_t size = blocks * bdev->block_size;
	uint8_t flags = 0;

	if ((wish->op != VHC_OP_READ && wish->op != VHC_OP_WRITE) ||
	    (wish->offset | wish->len) & (bdev->block_size - 1) || wish->len > IO_MAX_BYTES ||
	    !scsi_in_range(size, wish->offset, wish->len))
		return -ERANGE;
	if (wish->op == VHC_OP_WRITE) {
		flags = atomic_load_explicit(&lane->lun->write_flags, memory_order_relaxed);
		if (wish->flags & VHC_EXECUTE_DURABLE)
			flags |= IO_DURABLE;
	}
	return prepare_data(task, wish->op, flags, wish->offset, wish->len);
}

/* ---- Where a command goes ---- */

void scsi_answer(struct queue *queue, struct task *task, uint8_t response, uint8_t status,
		 uint64_t residual)
{
	struct virtio_scsi_cmd_resp answer = {
	    .resid = residual < UINT32_MAX ? (uint32_t)residual : UINT32_MAX,
	    .status = status,
	    .response = response,
	};

	task_write_response(task, 0, &answer, SCSI_RESPONSE);
	task->told = (struct task_told){.response = response, .status = status};
	task_finish(queue, task, SCSI_RESPONSE, task->counts_as, response || status);
}

/* Both directions take a feature (virtio 5.6.6.1.1). */
static bool has_odd_data(const struct queue *queue, const struct task *task)
{
	return task->out_len > 0 && task->in_len > 0 &&
	       !(queue->ring->features >> VIRTIO_SCSI_F_INOUT & 1);
}

/* Gives a prepared task to its lane. Returns false if it has ended instead. */
static bool accept(struct queue *queue, struct lane *lane, struct task *task, int prepared)
{
	struct io *io = task->io;

	task->counts_as = io->op;
	if (prepared == 0) {
		io->result = 0;
		scsi_answer(queue, task, VIRTIO_SCSI_S_OK, 0, task->residual);
		return false;
	}
	io->lane = lane;
	io->start = tick_now();
	return true;
}

static bool dispatch_wish(struct queue *queue, struct lane *lane, struct task *task)
{
	int prepared;

	if (lane->holds > 0 && !(task->wish.flags & VHC_EXECUTE_HELD)) {
		scsi_wait(lane, task);
		return false;
	}
	prepared = scsi_prepare_wish(lane, task);
	if (prepared >= 0)
		return accept(queue, lane, task, prepared);
	task_up(queue, task, prepared);
	return false;
}

/* ORDERED: all before it ends first, and nothing after it begins. */
static void dispatch_ordered(struct queue *queue, struct lane *lane, struct task *task)
{
	if (lane->holds > 0) {
		scsi_wait(lane, task);
		return;
	}
	/* Its notice is owed as soon as its reader knows of it. */
	lane->holds++;
	task->held = true;
	task_up(queue, task, 0);
}

static bool dispatch_command(struct queue *queue, struct lane *lane, struct task *task)
{
	struct scsi_command command;
	enum scsi_verdict verdict = SCSI_ASK;
	int prepared;

	if ((task->attr == SCSI_SIMPLE || task->attr == SCSI_HEAD) && !has_odd_data(queue, task))
		verdict = scsi_decide(lane->lun, task->cdb, queue->tasks->cdb_size, &command);
	if (verdict == SCSI_CONFLICT) {
		scsi_answer(queue, task, VIRTIO_SCSI_S_OK, SCSI_STATUS_CONFLICT,
			    task->out_len + task->in_len);
		return false;
	}
	if (verdict == SCSI_EXECUTE && lane->holds > 0) {
		scsi_wait(lane, task);
		return false;
	}
	prepared = verdict == SCSI_EXECUTE ? scsi_prepare(lane, task, &command) : -EINVAL;
	if (prepared >= 0)
		return accept(queue, lane, task, prepared);
	task_up(queue, task, 0);
	return false;
}

bool scsi_dispatch(struct queue *queue, struct task *task)
{
	struct lane *lane = scsi_lane(queue, task->address);

	if (!lane) {
		task_up(queue, task, task->wished ? -ENODEV : 0);
		return false;
	}
	if (task->wished)
		return dispatch_wish(queue, lane, task);
	if (task->attr != SCSI_ORDERED)
		return dispatch_command(queue, lane, task);
	dispatch_ordered(queue, lane, task);
	return false;
}

void scsi_go_on(struct queue *queue, struct task *task)
{
	if (scsi_dispatch(queue, task))
		lane_submit(task->io->lane, &task->io, 1);
}

void scsi_execute(struct queue *queue, struct task *task)
{
	task->wished = true;
	task->held = false;
	scsi_go_on(queue, task);
}

void scsi_read_header(const struct queue *queue, struct task *task, const uint8_t *header)
{
	memcpy(task->lun, header, sizeof(task->lun));
	task->address = scsi_address(ring_read64(header));
	task->attr = header[SCSI_ATTR];
	memcpy(task->cdb, header + SCSI_CDB, queue->tasks->cdb_size);
}

int scsi_read_any(struct queue *queue, struct io *io)
{
	uint8_t header[SCSI_HEADER_MAX];
	struct task *task = task_of(queue, io);

	int result = task_read(queue, io, header);

	if (result == -ENXIO)
		return result;
	if (result) {
		task_refuse(queue, io, result);
		return 0;
	}
	task->taken = queue->batch_start;
	task->abort = NULL;
	scsi_read_header(queue, task, header);
	queue->tasks->tags[queue_head(queue, io)] = ring_read64(header + SCSI_TAG);
	/* Where the backend may prefetch. */
	io->status = task->iov[task->num_out].iov_base;
	return scsi_dispatch(queue, task);
}
