/* SPDX-License-Identifier: MIT */
/* Ending requests before their time, for task management (virtio 5.6.6.2). */
#include <linux/virtio_scsi.h>
#include <stdlib.h>
#include <string.h>

#include "scsi_queue.h"
#include "tick.h"
#include "trace.h"
#include "upcall.h"

static bool concerns(const struct abort_job *job, uint32_t address, uint64_t tag)
{
	const struct vhc_abort *config = &job->config;

	return ((config->flags & VHC_ABORT_ALL_LUNS) || config->address == address) &&
	       (!(config->flags & VHC_ABORT_BY_TAG) || config->tag == tag);
}

static bool concerns_task(const struct queue *queue, const struct abort_job *job,
			  const struct task *task)
{
	return concerns(job, task->address, queue->tasks->tags[queue_head(queue, task->io)]);
}

/* ---- What waits ---- */

static void end_task(struct queue *queue, const struct abort_job *job, struct task *task)
{
	struct lane *lane = scsi_lane(queue, task->address);

	if (task->held && lane)
		lane->holds--;
	scsi_answer(queue, task, (uint8_t)job->config.response, 0, task->out_len + task->in_len);
}

/* Ends those of a list that it concerns, or counts them; the list stays linked either way. */
static void end_list(struct queue *queue, struct abort_job *job, struct task **list,
		     struct task ***list_end)
{
	struct task **at = list;
	struct task *task;

	while ((task = *at)) {
		bool concerned = concerns_task(queue, job, task);

		job->count += concerned;
		if (!concerned || (job->config.flags & VHC_ABORT_QUERY)) {
			at = &task->next;
			continue;
		}
		*at = task->next;
		end_task(queue, job, task);
	}
	*list_end = at;
}

static void end_waiting(struct queue *queue, struct abort_job *job)
{
	end_list(queue, job, &queue->tasks->up, &queue->tasks->up_end);
	for (struct lane *lane = scsi_next_lane(queue, NULL); lane;
	     lane = scsi_next_lane(queue, lane))
		end_list(queue, job, &lane->waiting, &lane->waiting_end);
}

/* Lets commands go on that waited for one that has ended. */
static void run_waiting(struct queue *queue)
{
	for (struct lane *lane = scsi_next_lane(queue, NULL); lane;
	     lane = scsi_next_lane(queue, lane))
		scsi_run_waiting(lane);
}

/* ---- What the backend has ---- */

static void mark(struct abort_job *job, struct task *task)
{
	job->count++;
	if (job->config.flags & VHC_ABORT_QUERY)
		return;
	if (task->abort) {
		/* Another job ends it: this one is not done before that. */
		if ((int32_t)(task->abort->serial - job->after) > 0)
			job->after = task->abort->serial;
		return;
	}
	task->abort = job;
	job->left++;
}

static void mark_executed(struct queue *queue, struct abort_job *job)
{
	for (uint32_t head = 0; head < queue->ring->size; head++) {
		const struct io *io = &queue->ios[head];
		struct task *task = &queue->tasks->by_head[head];

		if (queue->ring->taken[head] && io->lane != &queue->own &&
		    concerns(job, io->lane->address, queue->tasks->tags[head]))
			mark(job, task);
	}
}

static bool is_marked(const struct io *io)
{
	return task_of(io->lane->queue, io)->abort != NULL;
}

/* What no disk works on ends at once: what is held back, hangs or is delayed. */
static void end_held(struct queue *queue)
{
	for (struct lane *lane = scsi_next_lane(queue, NULL); lane;
	     lane = scsi_next_lane(queue, lane))
		lane_cancel(lane, is_marked);
}

void abort_end(struct queue *queue, struct io *io, struct task *task)
{
	struct virtio_scsi_cmd_resp answer = {.response = (uint8_t)task->abort->config.response};

	if (--task->abort->left == 0)
		queue_make_tell(queue);
	task->abort = NULL;
	if (io->flags & IO_TASK) {
		task->counts_as = io->op;
		scsi_answer(queue, task, answer.response, 0, task->out_len + task->in_len);
		return;
	}
	answer.resid = (uint32_t)io->len;
	memcpy(io->status, &answer, SCSI_RESPONSE);
	ring_put(queue->ring, queue_head(queue, io), SCSI_RESPONSE);
	stats_count(queue->stats, io->op, 1, 0, 1, tick_to_ns(tick_now() - io->start));
	if (queue->ring->trace)
		trace_aborted(queue, io, answer.response);
	queue_make_late(queue);
}

/* ---- Jobs ---- */

void abort_begin(struct queue *queue, struct abort_job *job)
{
	struct abort_job **at = &queue->tasks->aborts;

	job->serial = queue->tasks->next_abort++;
	/* Before all there are: it waits for none of them. */
	job->after = (*at ? (*at)->serial : job->serial) - 1;
	job->next = NULL;
	while (*at)
		at = &(*at)->next;
	*at = job;
	end_waiting(queue, job);
	mark_executed(queue, job);
	if (job->left > 0)
		end_held(queue);
	run_waiting(queue);
	queue_make_tell(queue);
}

void abort_free_all(struct queue *queue)
{
	struct abort_job *job;

	if (!queue->tasks)
		return;
	while ((job = queue->tasks->aborts)) {
		queue->tasks->aborts = job->next;
		free(job);
	}
}

/* Whether all that it was to end has ended. `first` is the oldest job that is left. */
static bool is_done(const struct abort_job *first, const struct abort_job *job)
{
	return job->left == 0 && (int32_t)(job->after - first->serial) < 0;
}

bool abort_tell(struct queue *queue, struct vhc_upcalls *upcalls)
{
	struct abort_job **at = &queue->tasks->aborts;
	struct abort_job *job;

	while ((job = *at)) {
		const struct upcall_event event = {.type = VHC_UPCALL_ABORTED,
						   .id = queue->ring->id,
						   .status = (int32_t)job->count,
						   .arg = job->config.cookie};

		if (!is_done(queue->tasks->aborts, job)) {
			at = &job->next;
			continue;
		}
		if (upcall_post(upcalls, &event, NULL, 0, NULL, 0))
			return false;
		*at = job->next;
		free(job);
	}
	return true;
}
