/* SPDX-License-Identifier: MIT */
#include "tick.h"

/* How long the two clocks are compared: 1 ms gives them to 1 part in 10,000. */
#define CALIBRATION_NS 1000000u

uint64_t tick_ns_scale;
uint64_t tick_per_ns_scale;

struct moment {
	uint64_t tick;
	uint64_t ns;
};

/* When the library was loaded. */
static struct moment loaded;

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Reads both clocks; of several readings the one that was disturbed least. */
static struct moment read_both(void)
{
	struct moment best = {0, 0};
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 8; i++) {
		uint64_t before = tick_now();
		uint64_t ns = monotonic_ns();
		uint64_t spread = tick_now() - before;

		if (spread < least) {
			least = spread;
			best = (struct moment){.tick = before + spread / 2, .ns = ns};
		}
	}
	return best;
}

__attribute__((constructor)) static void tick_calibrate(void)
{
	struct moment start = read_both();
	struct moment end;

	while (monotonic_ns() - start.ns < CALIBRATION_NS)
		;
	end = read_both();

	uint64_t ns = end.ns - start.ns;
	uint64_t ticks = end.tick - start.tick;

	loaded = start;
	tick_ns_scale = (uint64_t)(((unsigned __int128)ns << 32) / ticks);
	tick_per_ns_scale = (uint64_t)(((unsigned __int128)ticks << 32) / ns);
}

/* The longer it was, the better the scale is known. */
void tick_clock_read(struct tick_clock *clock)
{
	struct moment now = read_both();

	*clock = (struct tick_clock){.tick = now.tick, .ns = now.ns};
	clock->scale =
	    (uint64_t)(((unsigned __int128)(now.ns - loaded.ns) << 32) / (now.tick - loaded.tick));
}
