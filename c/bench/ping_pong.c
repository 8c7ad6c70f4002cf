/* SPDX-License-Identifier: MIT */
/*
 * The bound of a request's round trip: one cache line that two processors hand
 * to each other.
 *
 *	ping_pong [--cpus A,B] [--time MS]
 *
 * Prints {"round_trip_ns":…} as JSON: the median of many short runs.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tick.h"

#define ROUNDS_PER_RUN 500u
#define MAX_RUNS 65536u

static _Alignas(128) _Atomic uint64_t line; /* even: ping's turn; odd: pong's */
static const uint64_t over = UINT64_MAX;

static int pin(int cpu)
{
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	return sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void *pong(void *arg)
{
	pin(*(const int *)arg);
	for (uint64_t turn = 1;; turn += 2) {
		uint64_t seen;
		while ((seen = atomic_load_explicit(&line, memory_order_acquire)) != turn) {
			if (seen == over)
				return NULL;
		}
		atomic_store_explicit(&line, turn + 1, memory_order_release);
	}
}

static uint64_t ping(uint64_t *turn)
{
	uint64_t start = tick_now();
	for (uint32_t i = 0; i < ROUNDS_PER_RUN; i++) {
		atomic_store_explicit(&line, *turn + 1, memory_order_release);
		*turn += 2;
		while (atomic_load_explicit(&line, memory_order_acquire) != *turn)
			;
	}
	return tick_to_ns(tick_now() - start);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* The median of the runs until the time is over, in nanoseconds. */
static uint64_t measure(uint64_t milliseconds)
{
	static uint64_t runs[MAX_RUNS];
	uint64_t turn = 0, end = tick_now() + tick_from_ns(milliseconds * 1000000);
	uint32_t n = 0;
	do {
		runs[n++] = ping(&turn);
	} while (n < MAX_RUNS && tick_now() < end);
	qsort(runs, n, sizeof(runs[0]), by_size);
	return runs[n / 2];
}

int main(int argc, char **argv)
{
	int cpus[2] = {0, 1};
	uint64_t milliseconds = 500;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--cpus"))
			sscanf(argv[i + 1], "%d,%d", &cpus[0], &cpus[1]);
		else if (!strcmp(argv[i], "--time"))
			milliseconds = strtoull(argv[i + 1], NULL, 0);
	}
	pthread_t thread;
	if (cpus[0] == cpus[1] || pin(cpus[0]) || pthread_create(&thread, NULL, pong, &cpus[1])) {
		fprintf(stderr, "ping_pong: needs two processors\n");
		return 1;
	}
	uint64_t ns = measure(milliseconds);
	atomic_store(&line, over);
	pthread_join(thread, NULL);
	printf("{\"round_trip_ns\":%.1f}\n", (double)ns / ROUNDS_PER_RUN);
	return 0;
}
