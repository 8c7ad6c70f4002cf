/* SPDX-License-Identifier: MIT */
/* The backends of a reactor's rings: one channel to each. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "reactor.h"

int reactor_get_channel(struct vhc_reactor *reactor, struct vhc_bdev *bdev,
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
	of->users++;
	*out = of;
	return 0;
}

static void forget_busy(struct vhc_reactor *reactor, struct reactor_channel *of)
{
	struct reactor_channel **at = &reactor->busy_channels;

	while (*at && *at != of)
		at = &(*at)->next_busy;
	if (*at)
		*at = of->next_busy;
}

void reactor_put_channel(struct vhc_reactor *reactor, struct reactor_channel *of)
{
	struct reactor_channel **at = &reactor->channels;

	if (--of->users > 0)
		return;
	while (*at != of)
		at = &(*at)->next;
	*at = of->next;
	forget_busy(reactor, of);
	if (of->channel->event_fd >= 0)
		epoll_ctl(reactor->epoll_fd, EPOLL_CTL_DEL, of->channel->event_fd, NULL);
	of->channel->bdev->ops->channel_close(of->channel);
	free(of);
}

/* Whether a channel has nothing to look for until a later moment. */
static bool rests(const struct bdev_channel *channel, uint64_t now)
{
	return channel->event_fd < 0 && now < channel->due;
}

bool reactor_poll_channels(struct vhc_reactor *reactor, uint64_t now)
{
	struct reactor_channel **at = &reactor->busy_channels;
	struct reactor_channel *of;
	bool work = false;

	while ((of = *at)) {
		if (!rests(of->channel, now))
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

/* Has a channel polled that was left with requests in flight. */
void reactor_note_busy(struct vhc_reactor *reactor, struct reactor_channel *of)
{
	if (!of || of->busy || of->channel->inflight == 0)
		return;
	of->busy = true;
	of->next_busy = reactor->busy_channels;
	reactor->busy_channels = of;
}
