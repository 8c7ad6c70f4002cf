/* SPDX-License-Identifier: MIT */
/* The cheapest clock of the processor: what the I/O path measures time with. */
#ifndef VHC_TICK_H
#define VHC_TICK_H

#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/*
 * Nanoseconds per tick, times 2^32; ticks per nanosecond, times 2^32. Measured
 * when the library is loaded.
 */
extern uint64_t tick_ns_scale;
extern uint64_t tick_per_ns_scale;

/* Now, in ticks since an unnamed moment; comparable between threads. Never 0. */
static inline uint64_t tick_now(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#elif defined(__aarch64__)
	uint64_t ticks;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
#else
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

static inline uint64_t tick_to_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * tick_ns_scale) >> 32);
}

static inline uint64_t tick_from_ns(uint64_t ns)
{
	return (uint64_t)(((unsigned __int128)ns * tick_per_ns_scale) >> 32);
}

/* How ticks lie on CLOCK_MONOTONIC, as measured from when the library was loaded until now. */
struct tick_clock {
	uint64_t tick; /* now */
	uint64_t ns;   /* the same */
	uint64_t scale;
};

void tick_clock_read(struct tick_clock *clock);

/* The moment of a tick since the library was loaded, in nanoseconds of CLOCK_MONOTONIC. */
static inline uint64_t tick_clock_ns(const struct tick_clock *clock, uint64_t tick)
{
	int64_t ticks = (int64_t)(tick - clock->tick);

	return clock->ns + (uint64_t)(int64_t)(((__int128)ticks * (int64_t)clock->scale) >> 32);
}

#endif
