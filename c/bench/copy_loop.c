/* SPDX-License-Identifier: MIT */
/*
 * The physical bound of a RAM disk: one thread that copies random blocks out of
 * an array into the buffers of so many requests, and does nothing else.
 *
 *	copy_loop [--size BYTES] [--bs BYTES] [--depth N] [--cpu N] [--time MS] [--write]
 *
 * Prints {"iops":…,"bytes_per_second":…,"pages":…} as JSON.
 */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tick.h"
#include "vhostctl.h"

#define COPIES_PER_LOOK 256u /* at the clock */

struct options {
	uint64_t size, block_size, depth, milliseconds;
	int cpu;
	bool write;
};

static uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

static struct options parse(int argc, char **argv)
{
	struct options o = {
	    .size = 1u << 30, .block_size = 4096, .depth = 32, .milliseconds = 1000, .cpu = -1};
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--write")) {
			o.write = true;
			continue;
		}
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(argv[i], "--size"))
			o.size = strtoull(value, NULL, 0);
		else if (!strcmp(argv[i], "--bs"))
			o.block_size = strtoull(value, NULL, 0);
		else if (!strcmp(argv[i], "--depth"))
			o.depth = strtoull(value, NULL, 0);
		else if (!strcmp(argv[i], "--cpu"))
			o.cpu = atoi(value);
		else if (!strcmp(argv[i], "--time"))
			o.milliseconds = strtoull(value, NULL, 0);
		i++;
	}
	return o;
}

static void pin(int cpu)
{
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (cpu >= 0 && sched_setaffinity(0, sizeof(cpus), &cpus))
		perror("copy_loop: cpu");
}

/* Copies until the time is over; returns the nanoseconds it took. */
static uint64_t run(const struct options *o, uint8_t *disk, uint8_t *buffers, uint64_t *copies)
{
	uint64_t blocks = o->size / o->block_size, random = 88172645463325252u, slot = 0;
	uint64_t start = tick_now(), end = start + tick_from_ns(o->milliseconds * 1000000), now;
	do {
		for (uint32_t i = 0; i < COPIES_PER_LOOK; i++) {
			uint64_t block =
			    (uint64_t)((unsigned __int128)random_next(&random) * blocks >> 64);
			uint8_t *at = disk + block * o->block_size;
			uint8_t *buffer = buffers + slot * o->block_size;
			memcpy(o->write ? at : buffer, o->write ? buffer : at, o->block_size);
			slot = slot + 1 == o->depth ? 0 : slot + 1;
		}
		*copies += COPIES_PER_LOOK;
		now = tick_now();
	} while (now < end);
	return tick_to_ns(now - start);
}

int main(int argc, char **argv)
{
	static const char *const kinds[] = {"4K", "thp", "hugetlb"};
	struct options o = parse(argc, argv);
	struct vhc_pages disk, buffers;
	uint64_t copies = 0;
	if (o.block_size == 0 || o.size < o.block_size || o.depth == 0) {
		fprintf(stderr, "copy_loop: size, bs and depth do not fit\n");
		return 2;
	}
	pin(o.cpu);
	/* The pages that a malloc bdev gets. */
	if (vhc_pages_alloc(o.size, 0, -1, -1, VHC_PAGES_FALLBACK, &disk) ||
	    vhc_pages_alloc(o.depth * o.block_size, 0, -1, -1, VHC_PAGES_FALLBACK, &buffers)) {
		fprintf(stderr, "copy_loop: no memory\n");
		return 1;
	}
	memset((void *)disk.addr, 0x5a, disk.size);
	memset((void *)buffers.addr, 0xa5, buffers.size);
	uint64_t ns = run(&o, (uint8_t *)disk.addr, (uint8_t *)buffers.addr, &copies);
	double iops = (double)copies * 1e9 / (double)ns;
	printf("{\"iops\":%.0f,\"bytes_per_second\":%.0f,\"pages\":\"%s\"}\n", iops,
	       iops * (double)o.block_size, kinds[disk.kind]);
	vhc_pages_free(&disk);
	vhc_pages_free(&buffers);
	return 0;
}
