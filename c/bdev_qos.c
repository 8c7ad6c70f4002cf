/* SPDX-License-Identifier: MIT */
/*
 * Quality of service: a backend in front of another that holds reads and writes back
 * until its limits let them go (held.h). It is there only while a limit is set: a bdev
 * without one is reached directly (reactor_channels.c). A channel that waits asks its
 * reactor to be polled when the next one may go.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "held.h"
#include "tick.h"

/* Requests that are passed on together. */
#define BATCH 64u
/* A channel that waits looks again at least so often. */
#define LOOK_AGAIN (1000 * PACE_MS)

struct qos {
	struct vhc_bdev bdev;
	struct pace pace;
	pthread_mutex_t lock;
	struct qos_channel *channels; /* under the lock */
};

struct qos_channel {
	struct bdev_channel channel;
	struct held_lanes held;
	uint32_t changes;	  /* of limits, when it looked */
	struct qos_channel *next; /* under the lock */
};

static struct qos *qos_of(const struct bdev_channel *channel)
{
	return (struct qos *)channel->bdev;
}

static struct qos_channel *own(struct bdev_channel *channel)
{
	return (struct qos_channel *)channel;
}

/* ---- Waiting ---- */

/* Says what the channel has in flight: what it holds. */
static void note_held(struct bdev_channel *channel)
{
	channel->inflight = own(channel)->held.num_requests;
	if (channel->inflight == 0)
		channel->due = 0;
}

/* Has the channel polled at a moment, if that is before all for which it waits. */
static void wait_for(struct bdev_channel *channel, uint64_t moment, uint64_t now)
{
	uint64_t left = pace_after(moment, now) ? moment - now : 0;
	uint64_t due;

	if (left > LOOK_AGAIN)
		left = LOOK_AGAIN;
	due = tick_now() + tick_from_ns((left + PACE_NS - 1) / PACE_NS);
	if (channel->due == 0 || due < channel->due)
		channel->due = due;
}

/* ---- Requests ---- */

/* Passes requests on: they are the base's from here. */
static void pass_on(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	struct bdev_channel *base = channel->base;

	if (n > 0)
		base->bdev->ops->submit(base, ios, n);
}

static bool is_limited(const struct io *io)
{
	return io->op == VHC_OP_READ || io->op == VHC_OP_WRITE;
}

/* Whether a request may go at once: none of its kind waits before it, and the limits allow it. */
static bool may_go(struct bdev_channel *channel, const struct io *io, uint64_t now)
{
	struct held *held = &io->lane->held;
	struct pace_request request;
	uint64_t again;

	if (!is_limited(io))
		return true;
	if (held->first[io->op == VHC_OP_WRITE])
		return false;
	request = held_request(io);
	if (pace_take(&qos_of(channel)->pace, &held->flow, &request, now, &again))
		return true;
	wait_for(channel, again, now);
	return false;
}

static void qos_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	const uint64_t now = pace_moment(tick_now());
	struct io *go[BATCH];
	uint32_t num = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (!may_go(channel, ios[i], now)) {
			held_add(&own(channel)->held, ios[i]);
			channel->inflight++;
			continue;
		}
		go[num++] = ios[i];
		if (num == BATCH) {
			pass_on(channel, go, num);
			num = 0;
		}
	}
	pass_on(channel, go, num);
}

/* Takes what may go by now, and waits for the next. */
static uint32_t take_batch(struct bdev_channel *channel, struct io **ios)
{
	const uint64_t now = pace_moment(tick_now());
	uint64_t again = now + LOOK_AGAIN;
	uint32_t n = held_take_due(&own(channel)->held, now, &again, ios, BATCH);

	channel->due = 0;
	note_held(channel);
	if (channel->inflight > 0)
		wait_for(channel, again, now);
	return n;
}

static uint32_t qos_poll(struct bdev_channel *channel)
{
	const uint32_t changes = pace_changes(&qos_of(channel)->pace);
	struct io *ios[BATCH];
	uint32_t total = 0;
	uint32_t n;

	/* Its reactor may have other reasons to be awake. */
	if (tick_now() < channel->due && changes == own(channel)->changes)
		return 0;
	own(channel)->changes = changes;
	do {
		n = take_batch(channel, ios);
		pass_on(channel, ios, n);
		total += n;
	} while (n == BATCH);
	return total;
}

/* They count: what comes after them waits the longer. */
static void qos_let_go(struct bdev_channel *channel, struct lane *lane, const struct io_pick *pick)
{
	const uint64_t now = pace_moment(tick_now());
	struct io *io = held_take(&own(channel)->held, lane, pick);
	struct io *ios[BATCH];

	note_held(channel);
	while (io) {
		uint32_t n = 0;

		for (; io && n < BATCH; io = held_next(io)) {
			const struct pace_request request = held_request(io);

			pace_charge(&qos_of(channel)->pace, &request, now);
			ios[n++] = io;
		}
		pass_on(channel, ios, n);
	}
	channel_let_go(channel->base, lane, pick);
}

static void qos_cancel(struct bdev_channel *channel, struct lane *lane, const struct io_pick *pick)
{
	struct io *io = held_take(&own(channel)->held, lane, pick);

	note_held(channel);
	while (io) {
		struct io *next = held_next(io);

		io->result = -ECANCELED;
		io_complete(io);
		io = next;
	}
	channel_cancel(channel->base, lane, pick);
}

/* ---- A channel ---- */

static int qos_channel_open(struct vhc_bdev *bdev, struct bdev_channel *base,
			    struct bdev_channel **out)
{
	struct qos *qos = (struct qos *)bdev;
	struct qos_channel *channel = calloc(1, sizeof(*channel));

	(void)base; /* the reactor keeps it in the channel */
	if (!channel)
		return -ENOMEM;
	channel->channel =
	    (struct bdev_channel){.bdev = bdev, .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (channel->channel.event_fd < 0) {
		int result = -errno;

		free(channel);
		return result;
	}
	channel->held.pace = &qos->pace;
	pthread_mutex_lock(&qos->lock);
	channel->next = qos->channels;
	qos->channels = channel;
	pthread_mutex_unlock(&qos->lock);
	*out = &channel->channel;
	return 0;
}

static void qos_channel_close(struct bdev_channel *channel)
{
	struct qos *qos = qos_of(channel);
	struct qos_channel **at = &qos->channels;

	pthread_mutex_lock(&qos->lock);
	while (*at != own(channel))
		at = &(*at)->next;
	*at = own(channel)->next;
	pthread_mutex_unlock(&qos->lock);
	close(channel->event_fd);
	free(channel);
}

/* ---- Life ---- */

static void qos_destroy(struct vhc_bdev *bdev)
{
	struct qos *qos = (struct qos *)bdev;

	pthread_mutex_destroy(&qos->lock);
	free(qos);
}

static const struct bdev_ops qos_ops = {
    .name = "qos",
    .in_front = true,
    .channel_open = qos_channel_open,
    .channel_close = qos_channel_close,
    .submit = qos_submit,
    .poll = qos_poll,
    .let_go = qos_let_go,
    .cancel = qos_cancel,
    .destroy = qos_destroy,
};

static struct qos *create(const struct vhc_bdev *base)
{
	struct qos *qos = aligned_alloc(_Alignof(struct qos), sizeof(*qos));

	if (!qos)
		return NULL;
	*qos = (struct qos){.channels = NULL};
	bdev_init(&qos->bdev, &qos_ops, base->block_size, 1);
	pthread_mutex_init(&qos->lock, NULL);
	return qos;
}

/* Has all channels look again. */
static void wake(struct qos *qos)
{
	pthread_mutex_lock(&qos->lock);
	for (struct qos_channel *channel = qos->channels; channel; channel = channel->next)
		eventfd_write(channel->channel.event_fd, 1);
	pthread_mutex_unlock(&qos->lock);
}

int vhc_bdev_set_qos(struct vhc_bdev *bdev, const struct vhc_qos_limits *limits)
{
	const uint64_t values[PACE_LIMITS] = {
	    [PACE_IOS] = limits->ios,
	    [PACE_BYTES] = limits->bytes,
	    [PACE_READ_BYTES] = limits->read_bytes,
	    [PACE_WRITE_BYTES] = limits->write_bytes,
	};
	bool any = false;

	for (uint32_t i = 0; i < PACE_LIMITS; i++) {
		if (values[i] > VHC_QOS_MAX)
			return -ERANGE;
		any |= values[i] > 0;
	}
	struct qos *qos = (struct qos *)bdev->qos;

	if (!any && !qos)
		return 0;
	if (!qos) {
		qos = create(bdev);
		if (!qos)
			return -ENOMEM;
		qos->bdev.base = bdev; /* without a reference: the bdev has this */
		bdev->qos = &qos->bdev;
	}
	pace_set(&qos->pace, values, pace_moment(tick_now()));
	atomic_store_explicit(&bdev->limited, any, memory_order_release);
	wake(qos);
	return 0;
}
