/* SPDX-License-Identifier: MIT */
/* The rings of a reactor: polled, asleep, broken, stopping. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "reactor.h"
#include "scsi_queue.h"
#include "tick.h"

/* ---- Polled and armed rings ---- */

static void start_polling(struct vhc_reactor *reactor, struct queue *queue)
{
	ring_disarm(queue->ring);
	queue->state = QUEUE_POLLED;
	queue->stalled = false;
	queue->last_work = tick_now();
	queue->next = reactor->polled;
	reactor->polled = queue;
	reactor->num_polled++;
}

void reactor_wake_queue(struct vhc_reactor *reactor, struct queue *queue)
{
	if (queue->state != QUEUE_ARMED)
		return;
	reactor->num_armed--;
	start_polling(reactor, queue);
}

/* Whether a ring without work is to stop being polled. */
static bool is_idle(const struct vhc_reactor *reactor, const struct queue *queue, uint64_t now)
{
	return reactor->mode != VHC_MODE_POLL && queue->ring->kick_fd >= 0 &&
	       ticks_since(queue->last_work, now) >= reactor->spin_ticks;
}

/*
 * Asks a ring's driver for a kick. Returns false if there is work after all. Of
 * a ring that can take nothing now no kick is wanted: it is woken when it can.
 */
static bool arm_queue(struct vhc_reactor *reactor, struct queue *queue)
{
	queue->stalled = queue_ignores_chains(queue);
	if (!queue->stalled && ring_arm(queue->ring)) {
		ring_disarm(queue->ring);
		return false;
	}
	queue->state = QUEUE_ARMED;
	reactor->num_armed++;
	return true;
}

static void forget_kicks(struct vhc_reactor *reactor, struct queue *queue)
{
	if (queue->ring->kick_fd >= 0)
		epoll_ctl(reactor->epoll_fd, EPOLL_CTL_DEL, queue->ring->kick_fd, NULL);
}

/* Takes a corrupt ring out of service; it has left the polled list. */
static void break_queue(struct vhc_reactor *reactor, struct queue *queue)
{
	forget_kicks(reactor, queue);
	coalesce_set(queue, 0, 0);
	ring_signal_error(queue->ring);
	queue->state = QUEUE_BROKEN;
	queue->next = reactor->broken;
	reactor->broken = queue;
}

void reactor_note_touched(struct vhc_reactor *reactor, struct queue *queue)
{
	struct lane *lane;

	while ((lane = queue->touched)) {
		queue->touched = lane->next_touched;
		lane->touched = false;
		reactor_note_busy(reactor, lane->reactor_channel);
	}
}

bool reactor_poll_queues(struct vhc_reactor *reactor, uint64_t now)
{
	struct queue **at = &reactor->polled;
	struct queue *queue;
	bool work = false;

	while ((queue = *at)) {
		bool leaves = false;

		if (queue_poll(queue) > 0) {
			reactor_note_touched(reactor, queue);
			queue->last_work = now;
			work = true;
		} else if (__builtin_expect(mem_faulted(queue->ring->mem), 0)) {
			/* A packed ring that is gone reads like one with nothing in it. */
			ring_break(queue->ring, -EFAULT, VHC_BREAK_MEMORY);
		} else if (is_idle(reactor, queue, now)) {
			leaves = arm_queue(reactor, queue);
		}
		if (__builtin_expect(queue->ring->broken != 0, 0)) {
			reactor->num_armed -= queue->state == QUEUE_ARMED;
			leaves = true;
		}
		if (!leaves) {
			at = &queue->next;
			continue;
		}
		*at = queue->next;
		reactor->num_polled--;
		if (queue->ring->broken)
			break_queue(reactor, queue);
	}
	return work;
}

/*
 * Publishes what was completed outside of batches. Its driver is likely to have
 * more to ask then, so an armed ring is worth polling again.
 */
void reactor_publish_late(struct vhc_reactor *reactor)
{
	struct queue *queue;

	while ((queue = reactor->outbox.late)) {
		reactor->outbox.late = queue->next_late;
		queue->is_late = false;
		if (queue->state == QUEUE_BROKEN)
			continue;
		queue_publish(queue);
		/* Whoever answered it may have found nothing behind its memory. */
		if (__builtin_expect(mem_faulted(queue->ring->mem), 0))
			ring_break(queue->ring, -EFAULT, VHC_BREAK_MEMORY);
		if (reactor->mode != VHC_MODE_INTERRUPT || queue->stalled || queue->ring->broken)
			reactor_wake_queue(reactor, queue);
	}
}

void reactor_send_due(struct vhc_reactor *reactor, uint64_t now)
{
	struct queue *queue;

	while ((queue = reactor->outbox.coalesced.first) && queue->coalesce.due <= now) {
		coalesce_send(queue, now);
		if (__builtin_expect(queue->ring->broken != 0, 0))
			reactor_wake_queue(reactor, queue);
	}
}

/* ---- Starting ---- */

static int open_lane(struct vhc_reactor *reactor, struct queue *queue)
{
	struct lane *lane = &queue->own;
	int result;

	if (!queue->blk || !queue->blk->bdev)
		return 0;
	result = reactor_get_channel(reactor, queue->blk->bdev, &lane->reactor_channel);
	if (result == 0)
		queue_set_channel(queue, lane->reactor_channel->channel);
	return result;
}

int reactor_start_queue(struct vhc_reactor *reactor, struct queue *queue)
{
	struct vhc_ring *ring = queue->ring;
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = queue};
	int result = open_lane(reactor, queue);

	if (result)
		return result;
	if (ring->kick_fd >= 0 &&
	    epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, ring->kick_fd, &event)) {
		result = -errno;
		if (queue->own.reactor_channel)
			reactor_put_channel(reactor, queue->own.reactor_channel);
		return result;
	}
	queue_call_again(queue);
	start_polling(reactor, queue);
	return 0;
}

/* ---- Stopping ---- */

static void unlink_queue(struct queue **at, const struct queue *queue)
{
	while (*at && *at != queue)
		at = &(*at)->next;
	if (*at)
		*at = queue->next;
}

static void unlink_telling(struct queue **at, const struct queue *queue)
{
	while (*at && *at != queue)
		at = &(*at)->next_telling;
	if (*at)
		*at = queue->next_telling;
}

/* What is held back of a ring that stops goes on: whoever stops it waits for that. */
static void let_go(struct vhc_reactor *reactor, struct queue *queue)
{
	lane_let_go(&queue->own);
	reactor_note_busy(reactor, queue->own.reactor_channel);
	for (struct lane *lane = scsi_next_lane(queue, NULL); lane;
	     lane = scsi_next_lane(queue, lane)) {
		lane_let_go(lane);
		reactor_note_busy(reactor, lane->reactor_channel);
	}
}

void reactor_stop_queue(struct vhc_reactor *reactor, struct reactor_message *message)
{
	struct queue *queue = message->ring->queue;

	switch (queue->state) {
	case QUEUE_POLLED:
		unlink_queue(&reactor->polled, queue);
		reactor->num_polled--;
		forget_kicks(reactor, queue);
		break;
	case QUEUE_ARMED:
		reactor->num_armed--;
		forget_kicks(reactor, queue);
		break;
	default:
		unlink_queue(&reactor->broken, queue);
		break;
	}
	coalesce_set(queue, 0, 0);
	let_go(reactor, queue);
	queue->state = QUEUE_DRAINING;
	queue->stop = message;
	queue->next = reactor->draining;
	reactor->draining = queue;
}

static void put_lanes(struct vhc_reactor *reactor, struct queue *queue)
{
	if (queue->own.reactor_channel)
		reactor_put_channel(reactor, queue->own.reactor_channel);
	for (struct lane *lane = scsi_next_lane(queue, NULL); lane;
	     lane = scsi_next_lane(queue, lane))
		reactor_put_channel(reactor, lane->reactor_channel);
}

/* Gives a drained ring back: after the upcall nothing here refers to it. */
static void finish_queue(struct vhc_reactor *reactor, struct queue *queue)
{
	struct reactor_message *message = queue->stop;
	struct vhc_ring *ring = queue->ring;

	message->event = (struct upcall_event){
	    .type = VHC_UPCALL_RING_STOPPED, .id = ring->id, .arg = vhc_ring_base(ring)};
	/* Of a broken ring nothing was published any more. */
	stats_set(&queue->stats->inflight, 0);
	put_lanes(reactor, queue);
	unlink_telling(&reactor->outbox.telling, queue);
	ring->queue = NULL;
	atomic_store(&ring->running, false);
	queue_destroy(queue);
	vhc_ring_release(ring);
	message->next = reactor->unposted;
	reactor->unposted = message;
}

/* Whether all that a ring took has ended; a broken one keeps what a predecessor took. */
static bool is_drained(const struct queue *queue)
{
	return queue_inflight(queue) == 0 && (queue->ring->again.left == 0 || queue->ring->broken);
}

bool reactor_finish_drained(struct vhc_reactor *reactor)
{
	struct queue **at = &reactor->draining;
	struct queue *queue;
	bool work = false;

	while ((queue = *at)) {
		if (queue_drain(queue) > 0) {
			reactor_note_touched(reactor, queue);
			let_go(reactor, queue);
			work = true;
		}
		if (!is_drained(queue)) {
			at = &queue->next;
			continue;
		}
		*at = queue->next;
		finish_queue(reactor, queue);
	}
	return work;
}

/* ---- Telling ---- */

void reactor_tell(struct vhc_reactor *reactor)
{
	struct queue **at = &reactor->outbox.telling;
	struct queue *queue;

	while ((queue = *at)) {
		if (!queue_tell(queue, reactor->upcalls)) {
			at = &queue->next_telling;
			continue;
		}
		*at = queue->next_telling;
		queue->is_telling = false;
	}
}

void reactor_tell_broken(struct vhc_reactor *reactor)
{
	struct queue *queue;

	while ((queue = reactor->broken)) {
		const struct upcall_event event = {.type = VHC_UPCALL_RING_BROKEN,
						   .id = queue->ring->id,
						   .status = queue->ring->broken,
						   .arg = queue->ring->reason};

		if (upcall_post(reactor->upcalls, &event, NULL, 0, NULL, 0))
			return;
		reactor->broken = queue->next;
	}
}
