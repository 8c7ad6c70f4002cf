/* SPDX-License-Identifier: MIT */
/* Rings of which each request goes up as it is. */
#include "queue_batch.h"
#include "task.h"

static uint32_t raw_queue_poll(struct queue *queue)
{
	struct ring_head heads[QUEUE_BATCH];
	uint32_t n = batch_begin(queue, heads);

	if (n == 0)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		struct io *io = &queue->ios[heads[i].index];
		struct task *task = task_of(queue, io);

		int result = task_read(queue, io, NULL);

		if (result == -ENXIO) {
			n = batch_cut(queue, heads, i, n);
			break;
		}
		if (result) {
			task_refuse(queue, io, result);
			continue;
		}
		task->taken = queue->batch_start;
		task_up(queue, task, 0);
	}
	batch_end(queue, heads, n);
	return n;
}

struct queue *queue_create_raw(struct vhc_ring *ring, struct queue_outbox *outbox)
{
	struct queue *queue = queue_alloc(ring, QUEUE_RAW, outbox);

	if (queue)
		queue->poll = raw_queue_poll;
	return queue;
}
