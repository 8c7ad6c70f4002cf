/* SPDX-License-Identifier: MIT */
/* The backends of a reactor's rings: one channel to each, and to each that those stack on. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "reactor.h"

/* ---- Coming and going ---- */

static int find_channel(struct vhc_reactor *reactor, struct vhc_bdev *bdev,
			struct reactor_channel **out);

static int open_base(struct vhc_reactor *reactor, const struct vhc_bdev *bdev,
		     struct reactor_channel *of)
{
	if (!bdev->base)
		return 0;
	return find_channel(reactor, bdev->ops->in_front ? bdev->base : bdev_front(bdev->base),
			    &of->base);
}

/* Opens the channel itself, on that of its base. */
static int open_channel(struct vhc_reactor *reactor, struct vhc_bdev *bdev,
			struct reactor_channel *of)
{
	struct bdev_channel *base = of->base ? of->base->channel : NULL;
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	int result = bdev->ops->channel_open(bdev, base, &of->channel);

	if (result)
		return result;
	of->channel->base = base;
	of->channel->stats = bdev_stats(bdev->ops->in_front ? bdev->base : bdev, reactor->index);
	if (of->channel->event_fd >= 0 &&
	    epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, of->channel->event_fd, &event)) {
		result = -errno;
		bdev->ops->channel_close(of->channel);
	}
	return result;
}

/* Finds or opens the channel to a bdev, past what limits it. */
static int find_channel(struct vhc_reactor *reactor, struct vhc_bdev *bdev,
			struct reactor_channel **out)
{
	struct reactor_channel *of = reactor->channels;
	int result;

	while (of && of->channel->bdev != bdev)
		of = of->next;
	if (!of) {
		of = calloc(1, sizeof(*of));
		if (!of)
			return -ENOMEM;
		result = open_base(reactor, bdev, of);
		if (result == 0)
			result = open_channel(reactor, bdev, of);
		if (result) {
			if (of->base)
				reactor_put_channel(reactor, of->base);
			free(of);
			return result;
		}
		of->next = reactor->channels;
		reactor->channels = of;
	}
	of->users++;
	*out = of;
	return 0;
}

int reactor_get_channel(struct vhc_reactor *reactor, struct vhc_bdev *bdev,
			struct reactor_channel **out)
{
	return find_channel(reactor, bdev_front(bdev), out);
}

static void forget_busy(struct vhc_reactor *reactor, struct reactor_channel *of)
{
	struct reactor_channel **at = &reactor->busy_channels;

	while (*at && *at != of)
		at = &(*at)->next_busy;
	if (*at)
		*at = of->next_busy;
}

static void close_channel(struct vhc_reactor *reactor, struct reactor_channel *of)
{
	struct reactor_channel **at = &reactor->channels;

	while (*at != of)
		at = &(*at)->next;
	*at = of->next;
	forget_busy(reactor, of);
	if (of->channel->event_fd >= 0)
		epoll_ctl(reactor->epoll_fd, EPOLL_CTL_DEL, of->channel->event_fd, NULL);
	of->channel->bdev->ops->channel_close(of->channel);
	free(of);
}

void reactor_put_channel(struct vhc_reactor *reactor, struct reactor_channel *of)
{
	while (of && --of->users == 0) {
		struct reactor_channel *base = of->base;

		close_channel(reactor, of);
		of = base;
	}
}

/* ---- Polling ---- */

void reactor_note_busy(struct vhc_reactor *reactor, struct reactor_channel *of)
{
	for (; of; of = of->base) {
		if (of->busy || of->channel->inflight == 0 || !of->channel->bdev->ops->poll)
			continue;
		of->busy = true;
		of->next_busy = reactor->busy_channels;
		reactor->busy_channels = of;
	}
}

/* Whether a channel has something to look for now. */
static bool wants_poll(const struct bdev_channel *channel, uint64_t now)
{
	return channel->inflight > 0 && (channel->event_fd >= 0 || now >= channel->due);
}

/* The list is made anew meanwhile: what one ends may leave its base, or itself, with more. */
bool reactor_poll_channels(struct vhc_reactor *reactor, uint64_t now)
{
	struct reactor_channel *of = reactor->busy_channels;
	bool work = false;

	reactor->busy_channels = NULL;
	while (of) {
		struct reactor_channel *next = of->next_busy;

		of->busy = false;
		if (wants_poll(of->channel, now))
			work |= of->channel->bdev->ops->poll(of->channel) > 0;
		reactor_note_busy(reactor, of);
		of = next;
	}
	return work;
}
