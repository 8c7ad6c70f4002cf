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
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "direct.h"
#include "notify.h"
#include "reactor.h"
#include "stats.h"
#include "tick.h"
#include "trace.h"

#define MAX_EVENTS 64
/* Between attempts to post upcalls that did not fit. */
#define RETRY_NS 1000000u

/* ---- Waiting ---- */

static void wait_events(struct vhc_reactor *reactor, uint64_t ns)
{
	struct epoll_event events[MAX_EVENTS];
	int n = reactor_wait(reactor, events, MAX_EVENTS, ns);

	/* The timer that guards signals: there is none to guard now. */
	if (n < 0)
		notify_guard_rest();
	for (int i = 0; i < n; i++) {
		struct queue *queue = events[i].data.ptr;

		if (!queue) /* mail or a channel: the loop looks at those itself */
			continue;
		queue->kicked = true;
		trace_kick(queue);
		reactor_wake_queue(reactor, queue);
	}
}

/*
 * Whether requests are in flight that only polling, or polling for a while yet, will
 * end. What is due later is polled for then.
 */
static bool must_poll_channels(const struct vhc_reactor *reactor, uint64_t now)
{
	for (const struct reactor_channel *of = reactor->busy_channels; of; of = of->next_busy)
		if ((of->channel->event_fd < 0 && of->channel->due <= now) ||
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

/* Whether there is something to tell that did not fit in the upcall ring. */
static bool has_upcalls(const struct vhc_reactor *reactor)
{
	return reactor->broken || reactor->unposted || reactor->outbox.telling || reactor->done;
}

/* Nanoseconds until something is to be done that nothing signals. */
static uint64_t sleep_time(const struct vhc_reactor *reactor, uint64_t now)
{
	uint64_t due = reactor_next_due(reactor);
	uint64_t ns = REACTOR_FOREVER;

	if (due != UINT64_MAX)
		ns = due > now ? tick_to_ns(due - now) : 0;
	return has_upcalls(reactor) && ns > RETRY_NS ? RETRY_NS : ns;
}

/*
 * Sleeps until a kick, a completion, mail, or what is due. All armed rings were
 * looked at after they were armed, and an event since then ends the sleep at once.
 */
static uint64_t sleep_reactor(struct vhc_reactor *reactor, uint64_t now)
{
	uint64_t end;
	uint64_t slept;

	show_stats(reactor, now);
	wait_events(reactor, sleep_time(reactor, now));
	end = tick_now();
	slept = tick_to_ns(end - now);
	stats_add(&reactor->stats->idle_ns, slept);
	stats_add(&reactor->stats->sleep_ns, slept);
	stats_add(&reactor->stats->wakeups, 1);
	return end;
}

/* ---- The loop ---- */

/* Posts what is to be told; what does not fit stays for the next time round. */
static void post_upcalls(struct vhc_reactor *reactor)
{
	reactor_tell_broken(reactor);
	reactor_tell(reactor);
	direct_finish(reactor);
	reactor_post_unposted(reactor);
}

static bool turn(struct vhc_reactor *reactor, uint64_t now)
{
	bool work;

	if (__builtin_expect(atomic_load_explicit(&reactor->mail, memory_order_acquire), 0))
		reactor_read_mail(reactor);
	if (reactor->num_armed > 0 && now >= reactor->next_check) {
		wait_events(reactor, 0);
		reactor->next_check = now + reactor->check_ticks;
	}
	work = reactor_poll_queues(reactor, now);
	work |= reactor_poll_channels(reactor, now);
	reactor_publish_late(reactor);
	if (__builtin_expect(reactor->outbox.coalesced.first != NULL, 0))
		reactor_send_due(reactor, now);
	if (__builtin_expect(reactor->draining != NULL, 0))
		work |= reactor_finish_drained(reactor);
	if (__builtin_expect(has_upcalls(reactor), 0))
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
	reactor_use_timer();
	report_up(reactor, result);
	if (result == 0)
		run(reactor);
	notify_guard_release();
	return NULL;
}
