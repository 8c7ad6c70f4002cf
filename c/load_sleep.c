/* SPDX-License-Identifier: MIT */
/* How a load sleeps in interrupt mode: until a call, a stop, or a request is due. */
#include <sys/prctl.h>
#include <time.h>

#include "driver_ring.h"
#include "load.h"
#include "tick.h"

#define LONGEST_NS 100000000u /* a call may be lost with the device that owes it */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Until something is to be done that no call tells of. */
static uint64_t longest_ns(const struct vhc_load *load)
{
	const uint64_t now = tick_now(), runtime = load->config.runtime_ns;
	uint64_t ns = LONGEST_NS;
	if (load->later == 0)
		return ns;
	if (runtime) {
		const uint64_t elapsed = tick_to_ns(now - load->started);
		ns = least(ns, elapsed < runtime ? runtime - elapsed : 0);
	}
	if (load->inflight == load_slots(load))
		return ns;
	/* Rounded up: a tick too early would be a sleep more. */
	const uint64_t wait = load_rate_wait(&load->rate, now);
	return wait ? least(ns, tick_to_ns(wait) + 1) : 0;
}

void load_sleep_prepare(const struct vhc_load *load)
{
	/* By default the kernel adds up to 50 us, to wake up for several things at once. */
	if (load->config.rate && load->config.mode == VHC_MODE_INTERRUPT)
		prctl(PR_SET_TIMERSLACK, 1);
}

static bool arm(struct vhc_load *load)
{
	bool ready = false;
	if (load->asleep)
		return false;
	for (uint32_t i = 0; i < load->num_rings; i++)
		ready |= driver_ring_arm(load->rings[i].ring);
	load->asleep = tick_now();
	return ready;
}

void load_wake(struct vhc_load *load)
{
	load->asleep = 0;
	for (uint32_t i = 0; i < load->num_rings; i++)
		driver_ring_disarm(load->rings[i].ring);
}

void load_sleep(struct vhc_load *load)
{
	const bool ready = arm(load);
	const struct timespec longest = {.tv_nsec = ready ? 0 : (long)longest_ns(load)};
	/* wake_fd stays readable once a stop was asked for, so it is then left out. */
	nfds_t fds = load->num_rings + (load->stopped == 0);
	int n = ppoll(load->calls, fds, &longest, NULL);
	for (uint32_t i = 0; i < load->num_rings && n > 0; i++) {
		if (load->calls[i].revents)
			driver_ring_take_call(load->rings[i].ring);
	}
	if (n > 0 || ready || tick_to_ns(tick_now() - load->asleep) >= LONGEST_NS)
		load_wake(load);
}
