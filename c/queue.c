/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

#include "direct.h"
#include "event_queue.h"
#include "queue_batch.h"
#include "scsi_queue.h"
#include "stack.h"
#include "task.h"
#include "tick.h"
#include "trace.h"
#include "upcall.h"

/* ---- Life ---- */

static bool alloc_arrays(struct queue *queue)
{
	const uint32_t size = queue->ring->size;

	queue->num_large = size < QUEUE_LARGE_MAX ? size : QUEUE_LARGE_MAX;
	queue->ios = aligned_alloc(64, size * sizeof(*queue->ios));
	queue->large = calloc(queue->num_large, sizeof(struct iovec[IO_LARGE_IOV]));
	if (queue->kind == QUEUE_SCSI || queue->kind == QUEUE_RAW) {
		queue->tasks = tasks_create(size);
		if (!queue->tasks)
			return false;
	}
	return queue->ios && queue->large;
}

static void free_arrays(struct queue *queue)
{
	tasks_destroy(queue->tasks);
	free(queue->ios);
	free(queue->large);
	free(queue);
}

struct queue *queue_alloc(struct vhc_ring *ring, enum queue_kind kind, struct queue_outbox *outbox)
{
	struct queue *queue = calloc(1, sizeof(*queue));

	if (!queue)
		return NULL;
	queue->ring = ring;
	queue->kind = (uint8_t)kind;
	if (!alloc_arrays(queue)) {
		free_arrays(queue);
		return NULL;
	}
	memset(queue->ios, 0, ring->size * sizeof(*queue->ios));
	queue->own.queue = queue;
	for (uint32_t i = 0; i < ring->size; i++)
		queue->ios[i].lane = &queue->own;
	while (queue->free_large < queue->num_large) {
		queue->large_stack[queue->free_large] = (uint16_t)queue->free_large;
		queue->free_large++;
	}
	queue->stats = ring->stats;
	queue->outbox = outbox;
	ring_ref(ring);
	return queue;
}

void queue_destroy(struct queue *queue)
{
	scsi_queue_free(queue);
	vhc_ring_release(queue->ring);
	vhc_blk_release(queue->blk);
	free_arrays(queue);
}

/* ---- Large requests ---- */

void io_large_iov(struct io *io)
{
	struct queue *queue = io->lane->queue;

	if (io->flags & IO_LARGE)
		return;
	io->flags |= IO_LARGE;
	io->iov = &queue->large[(size_t)queue->large_stack[--queue->free_large] * IO_LARGE_IOV];
}

/* ---- What the reactor is to look at ---- */

void queue_make_late(struct queue *queue)
{
	if (queue->is_late)
		return;
	queue->is_late = true;
	queue->next_late = queue->outbox->late;
	queue->outbox->late = queue;
}

void queue_make_tell(struct queue *queue)
{
	if (queue->is_telling)
		return;
	queue->is_telling = true;
	queue->next_telling = queue->outbox->telling;
	queue->outbox->telling = queue;
}

bool queue_ignores_chains(const struct queue *queue)
{
	if (queue->ring->waits)
		return true;
	if (queue->kind == QUEUE_EVENT)
		return !queue->missed;
	return queue->free_large == 0;
}

/* ---- Memory that is not there yet ---- */

__attribute__((noinline)) uint32_t batch_cut(struct queue *queue, const struct ring_head *heads,
					     uint32_t n, uint32_t taken)
{
	ring_untake(queue->ring, heads + n, taken - n);
	queue->ring->waits = true;
	queue->misses = true;
	queue_make_tell(queue);
	return n;
}

/* ---- Requests of which nothing can be made ---- */

/* How often they are told of at most: a guest must not keep the control plane busy. */
#define MALFORMED_NS 1000000000u

__attribute__((noinline)) void queue_malformed(struct queue *queue, size_t head, int error)
{
	struct malformed *malformed = &queue->malformed;

	stats_add(&queue->stats->malformed, 1);
	if (malformed->owed || queue->batch_start < malformed->next)
		return;
	*malformed = (struct malformed){.next = queue->batch_start + tick_from_ns(MALFORMED_NS),
					.head = (uint32_t)head,
					.error = error,
					.owed = true};
	queue_make_tell(queue);
}

/* Guests cause them as they like: the last slots are left to others, as by requests. */
static bool tell_malformed(struct queue *queue, struct vhc_upcalls *upcalls)
{
	const struct upcall_event event = {.type = VHC_UPCALL_MALFORMED,
					   .id = queue->ring->id,
					   .status = queue->malformed.error,
					   .arg = queue->malformed.head};
	uint32_t slot;

	if (queue->malformed.owed &&
	    upcall_post_sparing(upcalls, &event, NULL, 0, TASKS_SPARE, &slot))
		return false;
	queue->malformed.owed = false;
	return true;
}

/* ---- Telling ---- */

bool queue_tell(struct queue *queue, struct vhc_upcalls *upcalls)
{
	bool told = tell_malformed(queue, upcalls);
	const struct ring_miss *wanted = &queue->ring->wanted;
	const struct upcall_event event = {.type = VHC_UPCALL_IOTLB_MISS,
					   .id = queue->ring->id,
					   .status = (int32_t)wanted->access,
					   .arg = wanted->iova};

	if (queue->misses && upcall_post(upcalls, &event, NULL, 0, NULL, 0))
		return false;
	queue->misses = false;
	return (!queue->tasks || scsi_tell(queue, upcalls)) && told;
}

/* ---- Completion ---- */

/*
 * Counts a request of a backend that ends them in its own time, and sees to it
 * that the reactor publishes it soon.
 */
static void count_later(struct lane *lane, const struct io *io)
{
	struct queue *queue = lane->queue;
	uint64_t ns = tick_to_ns(tick_now() - io->start);

	lane->inflight--;
	lane_count_inflight(lane->stats, -1);
	queue_release_iov(queue, io);
	lane_count_one(queue->stats, io, ns);
	lane_count_one(lane->stats, io, ns);
	if (__builtin_expect(queue->ring->trace != NULL, 0))
		trace_ended(queue, io);
	queue_make_late(queue);
}

/* Takes a request back out of its batch's successes. */
static void count_failure(struct lane *lane, const struct io *io)
{
	lane->bytes[io->op] -= io->len;
	lane->errors[io->op]++;
}

/* All of the request is read first: the status may lie anywhere, as far as the compiler knows. */
static inline void end_blk(struct queue *queue, const struct io *io, int32_t result, bool plain)
{
	uint32_t data = io->op == VHC_OP_READ ? (uint32_t)io->len : 0;
	size_t head = queue_head(queue, io);

	*io->status = blk_status(result);
	ring_put_as(queue->ring, head, result == 0 ? data + 1 : 1, plain);
}

/* The rarer ends. */
__attribute__((noinline)) static void end_later(struct lane *lane, struct io *io)
{
	switch (lane->end) {
	case LANE_BLK_NOW_ANY:
		end_blk(lane->queue, io, io->result, false);
		count_failure(lane, io);
		break;
	case LANE_BLK_LATER:
		end_blk(lane->queue, io, io->result, false);
		count_later(lane, io);
		break;
	case LANE_DIRECT:
		direct_end(io);
		break;
	case LANE_STACK:
		stack_end(io);
		break;
	default:
		scsi_end(lane, io);
		break;
	}
}

void io_complete(struct io *io)
{
	struct lane *lane = io->lane;
	int32_t result = io->result;

	if (__builtin_expect(lane->end == LANE_BLK_NOW, 1)) {
		end_blk(lane->queue, io, result, true);
		if (__builtin_expect(result != 0, 0))
			count_failure(lane, io);
	} else if (__builtin_expect(lane->end == LANE_SCSI_NOW && scsi_is_plain(io), 1)) {
		scsi_end_plain(lane, io, true);
	} else if (__builtin_expect(lane->end == LANE_BLK_NOW_ANY && result == 0, 1)) {
		end_blk(lane->queue, io, 0, false);
	} else if (__builtin_expect(lane->end == LANE_SCSI_NOW_ANY && scsi_is_plain(io), 1)) {
		scsi_end_plain(lane, io, false);
	} else {
		end_later(lane, io);
	}
}

__attribute__((noinline)) void queue_call(struct queue *queue)
{
	stats_add(&queue->stats->calls, 1);
	if (ring_call(queue->ring))
		ring_break(queue->ring, -EPROTO, VHC_BREAK_CALL);
	if (queue->ring->trace)
		trace_told(queue->ring->trace, true);
}

void queue_publish(struct queue *queue)
{
	struct vhc_ring *ring = queue->ring;
	bool wanted;

	stats_set(&queue->stats->inflight, queue_inflight(queue));
	if (ring->published == ring->next_used)
		return;
	if (__builtin_expect(queue->coalesce.base_ns != 0, 0)) {
		coalesce_publish(queue);
		return;
	}
	wanted = ring_publish(ring);
	if (__builtin_expect(ring->trace != NULL, 0))
		trace_published(ring->trace);
	if (!wanted) {
		stats_add(&queue->stats->calls_suppressed, 1);
		if (__builtin_expect(ring->trace != NULL, 0))
			trace_told(ring->trace, false);
		return;
	}
	queue_call(queue);
}

void queue_call_again(struct queue *queue)
{
	const struct vhc_ring *ring = queue->ring;

	if (ring->call_fd >= 0 && (ring->resumed || ring->next_used || ring->next_avail))
		queue_call(queue);
}

uint32_t queue_drain(struct queue *queue)
{
	if (queue->ring->again.left == 0 || queue->ring->broken)
		return 0;
	return queue->kind == QUEUE_EVENT ? event_queue_return(queue) : queue->poll(queue);
}

/* Kept whole: it is what a profile of the device's side counts (bench/io_path.c). */
__attribute__((noinline)) uint32_t queue_poll(struct queue *queue)
{
	return queue->poll(queue);
}
