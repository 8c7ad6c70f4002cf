/* SPDX-License-Identifier: MIT */
/* What a reactor is asked by control threads, on its own. */
#include <errno.h>
#include <stdlib.h>

#include "direct.h"
#include "event_queue.h"
#include "reactor.h"
#include "scsi_queue.h"

/* ---- Logical units ---- */

/* The queue of a message's ring, of the kind that was asked for; NULL: it is gone. */
static struct queue *queue_of(const struct reactor_message *message)
{
	return message->ring->queue;
}

static struct lane *lane_of(const struct reactor_message *message)
{
	const struct queue *queue = queue_of(message);

	return queue ? scsi_lane(queue, message->address) : NULL;
}

static int attach(struct vhc_reactor *reactor, const struct reactor_message *message)
{
	struct queue *queue = queue_of(message);
	struct reactor_channel *channel;
	struct lane *lane;
	int result;

	if (!queue)
		return -ENOENT;
	result = reactor_get_channel(reactor, message->lun->bdev, &channel);
	if (result)
		return result;
	result = scsi_add_lane(queue, message->address, message->lun, message->bdev_stats, &lane);
	if (result) {
		reactor_put_channel(reactor, channel);
		return result;
	}
	lane->reactor_channel = channel;
	lane_set_channel(lane, channel->channel);
	return 0;
}

static int detach(struct vhc_reactor *reactor, const struct reactor_message *message)
{
	struct lane *lane = lane_of(message);
	struct reactor_channel *channel;

	if (!lane)
		return -ENOENT;
	if (lane->inflight > 0)
		return -EBUSY;
	channel = lane->reactor_channel;
	scsi_remove_lane(lane->queue, lane);
	reactor_put_channel(reactor, channel);
	return 0;
}

static int resume(const struct reactor_message *message)
{
	struct lane *lane = lane_of(message);

	if (!lane || lane->holds == 0)
		return -ENOENT;
	scsi_resume(lane);
	return 0;
}

static void free_message(struct reactor_message *message)
{
	vhc_ring_release(message->ring);
	free(message);
}

static void post_later(struct vhc_reactor *reactor, struct reactor_message *message)
{
	message->next = reactor->unposted;
	reactor->unposted = message;
}

static void hold(struct vhc_reactor *reactor, struct reactor_message *message)
{
	struct lane *lane = lane_of(message);

	if (!lane && queue_of(message)) {
		message->event = (struct upcall_event){
		    .type = VHC_UPCALL_LUN_IDLE, .id = message->ring->id, .arg = message->address};
		post_later(reactor, message);
		return;
	}
	if (lane)
		scsi_hold(lane);
	free_message(message);
}

/* What the driver offered before it asked is concerned, whether the ring was looked at since or
 * not. */
static void take_offered(struct vhc_reactor *reactor, struct queue *queue)
{
	uint32_t n = 0;

	if (queue->state != QUEUE_POLLED && queue->state != QUEUE_ARMED)
		return;
	reactor_wake_queue(reactor, queue);
	for (uint32_t taken = 0; taken < queue->ring->size; taken += n) {
		n = queue_poll(queue);
		if (n == 0)
			return;
	}
}

static void begin_abort(struct vhc_reactor *reactor, struct reactor_message *message)
{
	struct queue *queue = queue_of(message);

	if (queue) {
		take_offered(reactor, queue);
		abort_begin(queue, message->job);
		/* What waited for an ORDERED one may have begun. */
		reactor_note_touched(reactor, queue);
	} else {
		free(message->job);
	}
	free_message(message);
}

/* ---- Events ---- */

static int send_event(struct vhc_reactor *reactor, const struct reactor_message *message)
{
	struct queue *queue = queue_of(message);
	int result;

	if (!queue)
		return -ENOENT;
	if (queue->state == QUEUE_BROKEN || queue->state == QUEUE_DRAINING)
		return 0;
	result = event_queue_send(queue, message->event_data);
	/* From now on its buffers matter, or it is to be taken out of service. */
	if (queue->missed || queue->ring->broken)
		reactor_wake_queue(reactor, queue);
	return result;
}

/* ---- Memory ---- */

static int set_mem(struct vhc_reactor *reactor, const struct reactor_message *message)
{
	struct queue *queue = queue_of(message);
	int result = queue ? ring_set_mem(message->ring, message->mem, message->table) : -ENOENT;

	if (result)
		return result;
	/* Also if the miss was not told of yet: it is looked for again. What is refused to a ring
	 * that does not wait any more it may have later. */
	message->ring->refused = message->refuse && message->ring->waits;
	message->ring->waits = false;
	queue->misses = false;
	reactor_wake_queue(reactor, queue);
	return 0;
}

/* ---- Coalescing ---- */

/* A ring that is stopping or broken calls at once, and is to go on so. */
static int set_coalescing(struct vhc_reactor *reactor, const struct reactor_message *message)
{
	struct queue *queue = queue_of(message);

	if (!queue)
		return -ENOENT;
	if (queue->state == QUEUE_BROKEN || queue->state == QUEUE_DRAINING)
		return 0;
	coalesce_set(queue, message->delay_base_ns, message->iops_threshold);
	/* What was due was sent. */
	if (queue->ring->broken)
		reactor_wake_queue(reactor, queue);
	return 0;
}

/* ---- Answers ---- */

static void take_answer(struct vhc_reactor *reactor, struct task *task)
{
	struct queue *queue = task->io->lane->queue;

	if (task->answer == TASK_EXECUTE && queue->kind == QUEUE_SCSI)
		scsi_execute(queue, task);
	else
		task_finish(queue, task, task->used, task->counts_as, task->error);
	reactor_note_touched(reactor, queue);
}

/* ---- Mail ---- */

static int run_message(struct vhc_reactor *reactor, struct reactor_message *message)
{
	switch (message->request) {
	case REACTOR_START_RING:
		return reactor_start_queue(reactor, message->queue);
	case REACTOR_ATTACH_LUN:
		return attach(reactor, message);
	case REACTOR_RESUME_LUN:
		return resume(message);
	case REACTOR_DETACH_LUN:
		return detach(reactor, message);
	case REACTOR_SEND_EVENT:
		return send_event(reactor, message);
	case REACTOR_SET_MEM:
		return set_mem(reactor, message);
	case REACTOR_SET_COALESCING:
		return set_coalescing(reactor, message);
	case REACTOR_SET_TRACE:
		message->ring->trace = message->trace;
		return 0;
	case REACTOR_CANCEL_IO:
		return direct_cancel(reactor, message->io);
	default:
		reactor->exit = true;
		return 0;
	}
}

/* What nobody waits for. The message may be gone afterwards. */
static void take_message(struct vhc_reactor *reactor, struct reactor_message *message)
{
	switch (message->request) {
	case REACTOR_STOP_RING:
		reactor_stop_queue(reactor, message);
		break;
	case REACTOR_HOLD_LUN:
		hold(reactor, message);
		break;
	case REACTOR_ABORT:
		begin_abort(reactor, message);
		break;
	default:
		direct_submit(reactor, message->direct);
		break;
	}
}

static void done(struct vhc_reactor *reactor, struct reactor_message *message, int result)
{
	pthread_mutex_lock(&reactor->lock);
	message->result = result;
	message->done = true;
	pthread_cond_broadcast(&reactor->answered);
	pthread_mutex_unlock(&reactor->lock);
}

static void handle(struct vhc_reactor *reactor, struct reactor_message *message)
{
	struct vhc_ring *ring = message->ring;
	int result;

	if (message->request >= REACTOR_STOP_RING) {
		take_message(reactor, message);
		return;
	}
	result = run_message(reactor, message);
	/* Commands that went on may be in flight now. */
	if (ring && ring->queue)
		reactor_note_touched(reactor, ring->queue);
	/* After this the message may be gone: it is on its poster's stack. */
	done(reactor, message, result);
}

void reactor_read_mail(struct vhc_reactor *reactor)
{
	struct reactor_message *message;
	struct task *task;

	pthread_mutex_lock(&reactor->lock);
	message = reactor->inbox;
	reactor->inbox = NULL;
	reactor->inbox_end = &reactor->inbox;
	task = reactor->answers;
	reactor->answers = NULL;
	reactor->answers_end = &reactor->answers;
	atomic_store_explicit(&reactor->mail, false, memory_order_relaxed);
	pthread_mutex_unlock(&reactor->lock);
	/* First: each message came after the answers that its poster gave before it. */
	while (task) {
		struct task *next = task->next;

		take_answer(reactor, task);
		task = next;
	}
	while (message) {
		struct reactor_message *next = message->next;

		handle(reactor, message);
		message = next;
	}
}

/* ---- Upcalls ---- */

/*
 * Says that a ring has stopped, or says so later. The count goes first: whoever
 * hears of it may release the reactor.
 */
static bool post(struct vhc_reactor *reactor, struct reactor_message *message)
{
	bool stopped = message->request == REACTOR_STOP_RING;

	if (stopped)
		atomic_fetch_sub(&reactor->num_queues, 1);
	if (upcall_post(reactor->upcalls, &message->event, NULL, 0, NULL, 0)) {
		if (stopped)
			atomic_fetch_add(&reactor->num_queues, 1);
		return false;
	}
	return true;
}

void reactor_post_unposted(struct vhc_reactor *reactor)
{
	struct reactor_message *message;

	while ((message = reactor->unposted)) {
		struct reactor_message *next = message->next;

		if (!post(reactor, message))
			return;
		reactor->unposted = next;
		if (message->request == REACTOR_HOLD_LUN)
			vhc_ring_release(message->ring);
		free(message);
	}
}
