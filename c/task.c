/* SPDX-License-Identifier: MIT */
#include "task.h"

#include <stdlib.h>
#include <string.h>

#include "iov.h"
#include "tick.h"
#include "trace.h"

struct tasks *tasks_create(uint32_t size)
{
	struct tasks *tasks = calloc(1, sizeof(*tasks));

	if (!tasks)
		return NULL;
	tasks->by_head = calloc(size, sizeof(*tasks->by_head));
	tasks->tags = calloc(size, sizeof(*tasks->tags));
	if (!tasks->by_head || !tasks->tags) {
		tasks_destroy(tasks);
		return NULL;
	}
	tasks->up_end = &tasks->up;
	return tasks;
}

void tasks_destroy(struct tasks *tasks)
{
	if (!tasks)
		return;
	free(tasks->by_head);
	free(tasks->tags);
	free(tasks);
}

/* ---- From a chain to its parts ---- */

/* Moves the pieces of a task to an array of its own. */
static void make_large(struct io *io, struct task *task)
{
	uint32_t n = task->num_out + task->num_response + task->num_in;
	const struct iovec *from = task->iov;

	io_large_iov(io);
	/* From the inline ones, of which it is no part: they cannot overlap. */
	memcpy(io->iov, from, n * sizeof(*from));
	task->iov = io->iov;
}

struct iovec *task_room(struct io *io, uint32_t n)
{
	struct task *task = task_of(io->lane->queue, io);
	uint32_t used = task->num_out + task->num_response + task->num_in;
	bool is_large = io->flags & IO_LARGE;

	if (!is_large && task->iov + used + n <= io->inline_iov + IO_INLINE_IOV)
		return task->iov + used;
	if (!is_large) {
		if (used + n > IO_LARGE_IOV || io->lane->queue->free_large == 0)
			return NULL;
		make_large(io, task);
		return task->iov + used;
	}

	const struct queue *queue = io->lane->queue;
	size_t at = (size_t)(task->iov - queue->large) % IO_LARGE_IOV;

	return at + used + n <= IO_LARGE_IOV ? task->iov + used : NULL;
}

/* Takes the header from the front; there are as many bytes. */
static void take_header(struct task *task, uint8_t *to, uint32_t len)
{
	task->out_len -= len;
	while (len > 0) {
		struct iovec *first = task->iov;
		uint32_t part = first->iov_len < len ? (uint32_t)first->iov_len : len;

		memcpy(to, first->iov_base, part);
		to += part;
		len -= part;
		first->iov_base = (uint8_t *)first->iov_base + part;
		first->iov_len -= part;
		if (first->iov_len == 0) {
			task->iov++;
			task->num_out--;
		}
	}
}

/* Cuts the pieces that the device writes into response and data-in; there are as many bytes. */
static int split_response(struct io *io, struct task *task, uint32_t len)
{
	struct iovec *piece = task->iov + task->num_out;

	task->in_len -= len;
	while (len > 0 && piece->iov_len <= len) {
		len -= (uint32_t)piece->iov_len;
		piece++;
		task->num_response++;
		task->num_in--;
	}
	if (len == 0)
		return 0;
	if (!task_room(io, 1))
		return -E2BIG;
	piece = task->iov + task->num_out + task->num_response;
	memmove(piece + 1, piece, task->num_in * sizeof(*piece));
	piece[0].iov_len = len;
	piece[1].iov_base = (uint8_t *)piece[1].iov_base + len;
	piece[1].iov_len -= len;
	task->num_response++;
	return 0;
}

int task_read(struct queue *queue, struct io *io, uint8_t *header)
{
	const struct tasks *tasks = queue->tasks;
	struct task *task = task_of(queue, io);
	struct ring_chain chain;
	int result;

	io->lane = &queue->own;
	io->flags = IO_TASK;
	io->iov = io->inline_iov;
	result =
	    ring_map(queue->ring, (uint32_t)queue_head(queue, io), io->iov, IO_INLINE_IOV, &chain);
	if (result == -E2BIG && queue->free_large > 0) {
		/* From its beginning again: nothing is kept of the first attempt. */
		io_large_iov(io);
		result = ring_map(queue->ring, (uint32_t)queue_head(queue, io), io->iov,
				  VHC_CHAIN_MAX_IOV, &chain);
	}
	if (result == -ENXIO) {
		queue_release_iov(queue, io);
		io->flags = IO_TASK;
	}
	if (result)
		return result;
	if (chain.out_len < tasks->header_len || chain.in_len < tasks->response_len)
		return -EPROTO;
	task->io = io;
	task->iov = io->iov;
	task->num_out = (uint16_t)chain.num_out;
	task->num_response = 0;
	task->num_in = (uint16_t)chain.num_in;
	task->out_len = chain.out_len;
	task->in_len = chain.in_len;
	task->trimmed = NULL;
	task->held = false;
	task->wished = false;
	task->was_up = false;
	task->told = (struct task_told){0};
	task->counts_as = VHC_OP_OTHER;
	take_header(task, header, tasks->header_len);
	return split_response(io, task, tasks->response_len);
}

uint32_t task_trim(struct task *task, struct iovec *iov, uint64_t len)
{
	uint32_t n = 1;

	while (iov->iov_len < len) {
		len -= iov->iov_len;
		iov++;
		n++;
	}
	task->trimmed = iov;
	task->trimmed_len = iov->iov_len;
	iov->iov_len = len;
	return n;
}

/* ---- Their data ---- */

static uint64_t fits(uint64_t total, uint64_t offset, uint64_t len)
{
	if (offset >= total)
		return 0;
	return len < total - offset ? len : total - offset;
}

uint32_t task_read_out(const struct task *task, uint64_t offset, uint8_t *buf, uint64_t len)
{
	len = fits(task->out_len, offset, len);
	iov_copy(task->iov, task->num_out, offset, buf, len, false);
	return (uint32_t)len;
}

uint32_t task_write_in(const struct task *task, uint64_t offset, const uint8_t *buf, uint64_t len)
{
	const struct iovec *in = task->iov + task->num_out + task->num_response;

	len = fits(task->in_len, offset, len);
	iov_copy(in, task->num_in, offset, (uint8_t *)(uintptr_t)buf, len, true);
	return (uint32_t)len;
}

void task_write_response(const struct task *task, uint32_t offset, const void *buf, uint32_t len)
{
	iov_copy(task->iov + task->num_out, task->num_response, offset, (uint8_t *)(uintptr_t)buf,
		 len, true);
}

/* ---- Back to the ring ---- */

void task_finish(struct queue *queue, struct task *task, uint32_t used, uint32_t op, bool error)
{
	struct io *io = task->io;
	uint64_t ns = tick_to_ns(tick_now() - task->taken);

	ring_put(queue->ring, queue_head(queue, io), used);
	queue_release_iov(queue, io);
	stats_count(queue->stats, op, 1, op == VHC_OP_OTHER || error ? 0 : io->len, error, ns);
	if (queue->ring->trace)
		trace_task(queue, task, op);
	queue_make_late(queue);
}

void task_refuse(struct queue *queue, struct io *io, int error)
{
	queue_malformed(queue, queue_head(queue, io), error);
	ring_put(queue->ring, queue_head(queue, io), 0);
	queue_release_iov(queue, io);
	stats_count(queue->stats, VHC_OP_OTHER, 1, 0, 1,
		    tick_to_ns(tick_now() - queue->batch_start));
	if (queue->ring->trace)
		trace_refused(queue, io, VHC_OP_OTHER, error);
	queue_make_late(queue);
}

void task_up(struct queue *queue, struct task *task, int32_t status)
{
	struct tasks *tasks = queue->tasks;
	struct io *io = task->io;

	if (task->trimmed)
		task->trimmed->iov_len = task->trimmed_len;
	task->trimmed = NULL;
	io->iov = task->iov;
	io->flags &= IO_LARGE | IO_TASK;
	io->lane = &queue->own;
	task->status = status;
	task->wished = false;
	task->was_up = true;
	task->next = NULL;
	*tasks->up_end = task;
	tasks->up_end = &task->next;
	queue_make_tell(queue);
}
