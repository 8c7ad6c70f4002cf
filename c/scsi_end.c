/* SPDX-License-Identifier: MIT */
/* What becomes of commands that the backend let go of. */
#include <linux/virtio_scsi.h>

#include "scsi_queue.h"
#include "tick.h"
#include "trace.h"

/* A failed command that was read in place becomes a task: it goes up as any other does. */
static int read_again(struct queue *queue, struct io *io)
{
	uint8_t header[SCSI_HEADER_MAX];
	struct task *task = task_of(queue, io);
	uint64_t taken = io->start;

	int result = task_read(queue, io, header);

	if (result)
		return result;
	task->taken = taken;
	scsi_read_header(queue, task, header);
	return 0;
}

static void end_failed(struct queue *queue, struct io *io, int32_t result)
{
	struct task *task = task_of(queue, io);
	uint8_t op = io->op;
	int again = io->flags & IO_TASK ? 0 : read_again(queue, io);

	if (again) {
		/* What the IOMMU has withdrawn since is asked for no more. */
		task_refuse(queue, io, again == -ENXIO ? -EFAULT : again);
		return;
	}
	task->counts_as = op;
	task->held = false;
	task_up(queue, task, result);
}

static void end_well(struct lane *lane, struct io *io)
{
	struct queue *queue = lane->queue;
	struct task *task = task_of(queue, io);

	if (io->flags & IO_TASK) {
		struct virtio_scsi_cmd_resp answer = {.resid = task->residual};

		task_write_response(task, 0, &answer, SCSI_RESPONSE);
		task_finish(queue, task, scsi_used(lane, io), io->op, false);
		return;
	}
	scsi_end_plain(lane, io, false);
	lane_count_one(queue->stats, io, tick_to_ns(tick_now() - io->start));
	if (queue->ring->trace)
		trace_ended(queue, io);
	queue_make_late(queue);
}

/* Counts what the backend did: for itself, and no longer among its batch. */
static void count_backend(struct lane *lane, const struct io *io)
{
	if (lane->sync && !(io->flags & IO_TASK)) {
		lane->counts[io->op]--;
		lane->bytes[io->op] -= io->len;
		lane_count_one(lane->stats, io, tick_to_ns(tick_now() - lane->queue->batch_start));
		return;
	}
	lane_count_one(lane->stats, io, tick_to_ns(tick_now() - io->start));
}

void scsi_end(struct lane *lane, struct io *io)
{
	struct queue *queue = lane->queue;
	struct task *task = task_of(queue, io);

	count_backend(lane, io);
	if (lane->sync) {
		io->start = queue->batch_start;
	} else {
		lane->inflight--;
		lane_count_inflight(lane->stats, -1);
	}
	if (queue->tasks->aborts && task->abort)
		abort_end(queue, io, task);
	else if (io->result)
		end_failed(queue, io, io->result);
	else
		end_well(lane, io);
	if (lane->notices > 0)
		scsi_check_idle(lane);
}
