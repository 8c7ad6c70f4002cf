/* SPDX-License-Identifier: MIT */
/*
 * The reactor's thread. Once round the loop: mail, kicks (now and then), every
 * polled ring, every channel with requests in flight, what they completed; and
 * with nothing left to poll, sleep.
 *
 * Kick and completion eventfds are waited for edge-triggered and never read:
 * each signal is an event of its own, whatever the counter, and a read could be
 * made to block by the peer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "notify.h"
#include "reactor.h"
#include "stats.h"
#include "tick.h"

#define MAX_EVENTS 64
/* Milliseconds between attempts to post upcalls that did not fit. */
#define RETRY_MS 1

/* 0 for a moment after now: `now` is when the turn began. */
static uint64_t ticks_since(uint64_t moment, uint64_t now)
{
	return now > moment ? now - moment : 0;
}

/* ---- Polled and armed rings ---- */

static void start_polling(struct vhc_reactor *reactor, struct queue *queue)
{
	ring_disarm(queue->ring);
	queue->state = QUEUE_POLLED;
	queue->last_work = tick_now();
	queue->next = reactor->polled;
	reactor->polled = queue;
	reactor->num_polled++;
}

/* Wakes an armed ring; others are awake or past it. */
static void wake_queue(struct vhc_reactor *reactor, struct queue *queue)
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

/* Asks a ring's driver for a kick. Returns false if there is work after all. */
static bool arm_queue(struct vhc_reactor *reactor, struct queue *queue)
{
	if (ring_arm(queue->ring)) {
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
	ring_signal_error(queue->ring);
	queue->state = QUEUE_BROKEN;
	queue->next = reactor->broken;
	reactor->broken = queue;
}

/* Has a channel polled that was left with requests in flight. */
static void note_busy(struct vhc_reactor *reactor, struct reactor_channel *of)
{
	if (!of || of->busy || of->channel->inflight == 0)
		return;
	of->busy = true;
	of->next_busy = reactor->busy_channels;
	reactor->busy_channels = of;
}

static bool poll_queues(struct vhc_reactor *reactor, uint64_t now)
{
	struct queue **at = &reactor->polled;
	struct queue *queue;
	bool work = false;

	while ((queue = *at)) {
		bool leaves = false;

		if (queue_poll(queue) > 0) {
			note_busy(reactor, queue->reactor_channel);
			queue->last_work = now;
			work = true;
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

/* ---- Channels ---- */

/* Finds or opens the reactor's channel to a bdev. */
static int get_channel(struct vhc_reactor *reactor, struct vhc_bdev *bdev,
		       struct reactor_channel **out)
{
	struct reactor_channel *of = reactor->channels;
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	int result;

	while (of && of->channel->bdev != bdev)
		of = of->next;
	if (!of) {
		of = calloc(1, sizeof(*of));
		if (!of)
			return -ENOMEM;
		result = bdev->ops->channel_open(bdev, &of->channel);
		if (result == 0 && of->channel->event_fd >= 0 &&
		    epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, of->channel->event_fd, &event)) {
			result = -errno;
			bdev->ops->channel_close(of->channel);
		}
		if (result) {
			free(of);
			return result;
		}
		of->next = reactor->channels;
		reactor->channels = of;
	}
	of->queues++;
	*out = of;
	return 0;
}

static void put_channel(struct vhc_reactor *reactor, struct reactor_channel *of)
{
	struct reactor_channel **at = &reactor->channels;

	if (--of->queues > 0)
		return;
	while (*at != of)
		at = &(*at)->next;
	*at = of->next;
	if (of->channel->event_fd >= 0)
		epoll_ctl(reactor->epoll_fd, EPOLL_CTL_DEL, of->channel->event_fd, NULL);
	of->channel->bdev->ops->channel_close(of->channel);
	free(of);
}

static bool poll_channels(struct vhc_reactor *reactor)
{
	struct reactor_channel **at = &reactor->busy_channels;
	struct reactor_channel *of;
	bool work = false;

	while ((of = *at)) {
		work |= of->channel->bdev->ops->poll(of->channel) > 0;
		if (of->channel->inflight > 0) {
			at = &of->next_busy;
			continue;
		}
		*at = of->next_busy;
		of->busy = false;
	}
	return work;
}

/*
 * Publishes what channels completed. Its driver is likely to have more to ask
 * then, so an armed ring is worth polling again.
 */
static void publish_late(struct vhc_reactor *reactor)
{
	struct queue *queue;

	while ((queue = reactor->late)) {
		reactor->late = queue->next_late;
		queue->is_late = false;
		if (queue->state == QUEUE_BROKEN)
			continue;
		queue_publish(queue);
		if (reactor->mode != VHC_MODE_INTERRUPT || queue->ring->broken)
			wake_queue(reactor, queue);
	}
}

/* ---- Stopping ---- */

static void unlink_queue(struct queue **at, const struct queue *queue)
{
	while (*at && *at != queue)
		at = &(*at)->next;
	if (*at)
		*at = queue->next;
}

/* Stops taking from a ring, whatever it does now. */
static void stop_queue(struct vhc_reactor *reactor, struct reactor_message *message)
{
	struct queue *queue = message->queue;

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
	queue->state = QUEUE_DRAINING;
	queue->stop = message;
	queue->next = reactor->draining;
	reactor->draining = queue;
}

/*
 * Says that a ring has stopped, or says so later. The count goes first: whoever
 * hears of it may release the reactor.
 */
static bool post_stopped(struct vhc_reactor *reactor, struct reactor_message *message)
{
	atomic_fetch_sub(&reactor->num_queues, 1);
	if (upcall_post(reactor->upcalls, &message->event, NULL, 0, NULL, 0)) {
		atomic_fetch_add(&reactor->num_queues, 1);
		return false;
	}
	free(message);
	return true;
}

/* Gives a drained ring back: after the upcall nothing here refers to it. */
static void finish_queue(struct vhc_reactor *reactor, struct queue *queue)
{
	struct reactor_message *message = queue->stop;
	struct vhc_ring *ring = queue->ring;

	message->event = (struct upcall_event){
	    .type = VHC_UPCALL_RING_STOPPED, .id = ring->id, .arg = ring->next_avail};
	if (queue->reactor_channel)
		put_channel(reactor, queue->reactor_channel);
	atomic_store(&ring->running, false);
	queue_destroy(queue);
	if (!post_stopped(reactor, message)) {
		message->next = reactor->unposted;
		reactor->unposted = message;
	}
}

static void finish_drained(struct vhc_reactor *reactor)
{
	struct queue **at = &reactor->draining;
	struct queue *queue;

	while ((queue = *at)) {
		if (queue_inflight(queue) > 0) {
			at = &queue->next;
			continue;
		}
		*at = queue->next;
		finish_queue(reactor, queue);
	}
}

/* Posts what is to be told; what does not fit stays for the next time round. */
static void post_upcalls(struct vhc_reactor *reactor)
{
	struct queue *queue;
	struct reactor_message *message;

	while ((queue = reactor->broken)) {
		const struct upcall_event event = {.type = VHC_UPCALL_RING_BROKEN,
						   .id = queue->ring->id,
						   .status = queue->ring->broken};

		if (upcall_post(reactor->upcalls, &event, NULL, 0, NULL, 0))
			return;
		reactor->broken = queue->next;
	}
	while ((message = reactor->unposted)) {
		struct reactor_message *next = message->next;

		if (!post_stopped(reactor, message))
			return;
		reactor->unposted = next;
	}
}

/* ---- Mail ---- */

static int start_queue(struct vhc_reactor *reactor, struct queue *queue)
{
	struct vhc_ring *ring = queue->ring;
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = queue};
	int result = 0;

	if (queue->blk->bdev)
		result = get_channel(reactor, queue->blk->bdev, &queue->reactor_channel);
	if (result)
		return result;
	if (ring->kick_fd >= 0 &&
	    epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, ring->kick_fd, &event)) {
		result = -errno;
		if (queue->reactor_channel)
			put_channel(reactor, queue->reactor_channel);
		return result;
	}
	if (queue->reactor_channel)
		queue_set_channel(queue, queue->reactor_channel->channel);
	start_polling(reactor, queue);
	return 0;
}

static int run_message(struct vhc_reactor *reactor, struct reactor_message *message)
{
	switch (message->request) {
	case REACTOR_START_RING:
		return start_queue(reactor, message->queue);
	case REACTOR_STOP_RING:
		stop_queue(reactor, message);
		return 0;
	default:
		reactor->exit = true;
		return 0;
	}
}

static void answer(struct vhc_reactor *reactor, struct reactor_message *message, int result)
{
	pthread_mutex_lock(&reactor->lock);
	message->result = result;
	message->done = true;
	pthread_cond_broadcast(&reactor->answered);
	pthread_mutex_unlock(&reactor->lock);
}

static void read_mail(struct vhc_reactor *reactor)
{
	struct reactor_message *message;

	pthread_mutex_lock(&reactor->lock);
	message = reactor->inbox;
	reactor->inbox = NULL;
	reactor->inbox_end = &reactor->inbox;
	atomic_store_explicit(&reactor->mail, false, memory_order_relaxed);
	pthread_mutex_unlock(&reactor->lock);
	while (message) {
		struct reactor_message *next = message->next;
		bool waits = message->request != REACTOR_STOP_RING;
		int result = run_message(reactor, message);

		/* After this the message may be gone: it is on its poster's stack. */
		if (waits)
			answer(reactor, message, result);
		message = next;
	}
}

/* ---- Waiting ---- */

static void wait_events(struct vhc_reactor *reactor, int timeout_ms)
{
	struct epoll_event events[MAX_EVENTS];
	int n = epoll_wait(reactor->epoll_fd, events, MAX_EVENTS, timeout_ms);

	/* The timer that guards signals: there is none to guard now. */
	if (n < 0)
		notify_guard_rest();
	for (int i = 0; i < n; i++) {
		struct queue *queue = events[i].data.ptr;

		if (!queue) /* mail or a channel: the loop looks at those itself */
			continue;
		queue->kicked = true;
		wake_queue(reactor, queue);
	}
}

/* Whether requests are in flight that only polling, or polling for a while yet, will end. */
static bool must_poll_channels(const struct vhc_reactor *reactor, uint64_t now)
{
	for (const struct reactor_channel *of = reactor->busy_channels; of; of = of->next_busy)
		if (of->channel->event_fd < 0 || reactor->mode == VHC_MODE_POLL ||
		    ticks_since(reactor->last_work, now) < reactor->spin_ticks)
			return true;
	return false;
}

static bool may_sleep(const struct vhc_reactor *reactor, uint64_t now)
{
	/* Mail's event may have been taken already; then its flag was set before. */
	return !reactor->polled && !reactor->exit && reactor->mode != VHC_MODE_POLL &&
	       !atomic_load_explicit(&reactor->mail, memory_order_acquire) &&
	       !must_poll_channels(reactor, now);
}

static void show_stats(struct vhc_reactor *reactor, uint64_t now)
{
	struct vhc_reactor_stats *stats = reactor->stats;

	stats_add(&stats->busy_ns, tick_to_ns(reactor->busy_ticks));
	stats_add(&stats->idle_ns, tick_to_ns(reactor->idle_ticks));
	stats_add(&stats->loops, reactor->loops);
	stats_set(&stats->rings, atomic_load_explicit(&reactor->num_queues, memory_order_relaxed));
	stats_set(&stats->polled, reactor->num_polled);
	reactor->busy_ticks = 0;
	reactor->idle_ticks = 0;
	reactor->loops = 0;
	reactor->next_stats = now + reactor->stats_ticks;
}

/*
 * Sleeps until a kick, a completion or mail. All armed rings were looked at
 * after they were armed, and an event since then ends the sleep at once.
 */
static uint64_t sleep_reactor(struct vhc_reactor *reactor, uint64_t now)
{
	bool retry = reactor->broken || reactor->unposted;
	uint64_t end;
	uint64_t slept;

	show_stats(reactor, now);
	wait_events(reactor, retry ? RETRY_MS : -1);
	end = tick_now();
	slept = tick_to_ns(end - now);
	stats_add(&reactor->stats->idle_ns, slept);
	stats_add(&reactor->stats->sleep_ns, slept);
	stats_add(&reactor->stats->wakeups, 1);
	return end;
}

/* ---- The loop ---- */

static bool turn(struct vhc_reactor *reactor, uint64_t now)
{
	bool work;

	if (__builtin_expect(atomic_load_explicit(&reactor->mail, memory_order_acquire), 0))
		read_mail(reactor);
	if (reactor->num_armed > 0 && now >= reactor->next_check) {
		wait_events(reactor, 0);
		reactor->next_check = now + reactor->check_ticks;
	}
	work = poll_queues(reactor, now);
	work |= poll_channels(reactor);
	publish_late(reactor);
	if (__builtin_expect(reactor->draining != NULL, 0))
		finish_drained(reactor);
	if (__builtin_expect(reactor->broken || reactor->unposted, 0))
		post_upcalls(reactor);
	return work;
}

static void run(struct vhc_reactor *reactor)
{
	uint64_t now = tick_now();

	while (!reactor->exit) {
		uint64_t start = now;
		bool work = turn(reactor, start);

		now = tick_now();
		reactor->loops++;
		if (work) {
			reactor->busy_ticks += now - start;
			reactor->last_work = now;
		} else {
			reactor->idle_ticks += now - start;
		}
		if (now >= reactor->next_stats)
			show_stats(reactor, now);
		if (!work && may_sleep(reactor, now))
			now = sleep_reactor(reactor, now);
	}
}

static void report_up(struct vhc_reactor *reactor, int result)
{
	pthread_mutex_lock(&reactor->lock);
	reactor->up = true;
	reactor->up_result = result;
	pthread_cond_broadcast(&reactor->answered);
	pthread_mutex_unlock(&reactor->lock);
}

void *reactor_main(void *argument)
{
	struct vhc_reactor *reactor = argument;
	char name[16];
	int result = notify_guard_create();

	snprintf(name, sizeof(name), "vhc-reactor-%u", reactor->number % 1000);
	pthread_setname_np(pthread_self(), name);
	stats_set(&reactor->stats->tid, (uint64_t)syscall(SYS_gettid));
	report_up(reactor, result);
	if (result == 0)
		run(reactor);
	notify_guard_release();
	return NULL;
}
