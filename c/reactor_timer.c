/* SPDX-License-Identifier: MIT */
/*
 * How long a reactor sleeps: until something is due. epoll_pwait2 waits to the
 * nanosecond; before Linux 5.11, or where a sandbox knows no such call, a timer
 * among the descriptors ends the sleep.
 */
#include <errno.h>
#include <linux/time_types.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "reactor.h"
#include "tick.h"

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* everywhere: the C library's headers are older */
#endif

#define NS_PER_SECOND UINT64_C(1000000000)

static int pwait2(int epoll_fd, struct epoll_event *events, int max,
		  const struct __kernel_timespec *timeout)
{
	return (int)syscall(SYS_epoll_pwait2, epoll_fd, events, max, timeout, NULL, 0);
}

int reactor_open_timer(struct vhc_reactor *reactor)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	const struct __kernel_timespec now = {0};

	/* No sandbox lets it pass for one descriptor and not for another. */
	if (pwait2(reactor->epoll_fd, &event, 1, &now) >= 0)
		return 0;
	reactor->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (reactor->timer_fd < 0 ||
	    epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, reactor->timer_fd, &event))
		return -errno;
	return 0;
}

void reactor_use_timer(void)
{
	/* The kernel adds 50 µs to each sleep of a thread that does not say otherwise. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

/* As epoll_wait. The timer is never read: to set it again takes the expiry back. */
static int wait_with_timer(struct vhc_reactor *reactor, struct epoll_event *events, int max,
			   uint64_t ns)
{
	const bool wanted = ns != REACTOR_FOREVER;
	struct itimerspec timer = {0};

	if (wanted) {
		timer.it_value.tv_sec = (time_t)(ns / NS_PER_SECOND);
		timer.it_value.tv_nsec = (long)(ns % NS_PER_SECOND);
	}
	if (wanted || reactor->timer_set)
		timerfd_settime(reactor->timer_fd, 0, &timer, NULL);
	reactor->timer_set = wanted;
	return epoll_wait(reactor->epoll_fd, events, max, -1);
}

int reactor_wait(struct vhc_reactor *reactor, struct epoll_event *events, int max, uint64_t ns)
{
	struct __kernel_timespec timeout;

	if (ns == 0)
		return epoll_wait(reactor->epoll_fd, events, max, 0);
	if (reactor->timer_fd >= 0)
		return wait_with_timer(reactor, events, max, ns);
	if (ns == REACTOR_FOREVER)
		return epoll_wait(reactor->epoll_fd, events, max, -1);
	timeout.tv_sec = (int64_t)(ns / NS_PER_SECOND);
	timeout.tv_nsec = (int64_t)(ns % NS_PER_SECOND);
	return pwait2(reactor->epoll_fd, events, max, &timeout);
}

uint64_t reactor_next_due(const struct vhc_reactor *reactor)
{
	const struct queue *first = reactor->outbox.coalesced.first;
	uint64_t next = first ? first->coalesce.due : UINT64_MAX;

	for (const struct reactor_channel *of = reactor->busy_channels; of; of = of->next_busy)
		if (of->channel->due && of->channel->due < next)
			next = of->channel->due;
	return next;
}
