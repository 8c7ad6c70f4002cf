/* SPDX-License-Identifier: MIT */
/*
 * The hostile driver. A device on a reactor is given every malformed chain that
 * could be thought of, each with what must come of it, then random ones, some
 * changed under its hands, on rings of virtio-blk and of virtio-scsi, split and
 * packed, some of them tracked in a region that may hold anything. It must do exactly
 * what the model does and touch nothing else; a healthy ring on the same reactor must
 * never notice.
 *
 *	hostile_fuzz [--count N] [--seed N] [--replay N]
 */
#include <pthread.h>

#include "hostile_blk.h"
#include "hostile_inflight.h"
#include "hostile_packed_rings.h"
#include "hostile_scsi_rings.h"

#define DEFAULT_COUNT 100000u
#define CASES_PER_RING 32u

/* The kinds of ring that follow one another. */
static const enum ring_kind kinds[] = {BLK_RING,     REQUEST_RING, REQUEST_RING, CONTROL_RING,
				       REQUEST_RING, BLK_RING,	   EVENT_RING,	 REQUEST_RING};
static const char *const kind_names[NUM_RING_KINDS] = {"virtio-blk", "SCSI request", "SCSI control",
						       "SCSI event"};

/* One in four rings is tracked; some of them have a region that somebody writes on. */
static bool track_some(struct gen *g, uint64_t features, uint32_t size)
{
	if (!one_in(g, 4))
		return true;
	if (!track(g, features, size))
		return false;
	if (one_in(g, 3))
		region_is_not_safe(g);
	return true;
}

static bool start_random_ring(struct gen *g, enum ring_kind kind)
{
	uint64_t features = (one_in(g, 4) ? 0 : INDIRECT) | (one_in(g, 2) ? 0 : EVENT_IDX) |
			    (one_in(g, 2) ? 0 : PACKED);
	uint32_t size = 1u << below(g, 9);
	if (features & PACKED && one_in(g, 2))
		size = 1 + below(g, size);
	features |= one_in(g, 2) ? F(VIRTIO_SCSI_F_INOUT) : 0;
	if (one_in(g, 6))
		start_on_any_region(g, kind, size, features);
	scsi_before_ring(g);
	fuzz.was_wild = false;
	if (kind == BLK_RING && one_in(g, 3)) {
		if (!track(g, features, size) ||
		    !run_recovered(g, size, features, (uint16_t)gen_random(g)))
			return false;
		if (fuzz.rig.ring.running)
			return true;
		stop_tracked_ring();
	}
	if (!track_some(g, features, size))
		return false;
	if (!rig_start_ring(&fuzz.rig, kind, size, features, (uint16_t)gen_random(g)))
		return false;
	scsi_after_start(g);
	return true;
}

/* Brings the ring into a state to go on from, or makes a new one. */
static bool next_ring(struct gen *g, enum ring_kind kind, bool anew)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	if (ring->broken) {
		fuzz.broken[ring->kind]++;
		says_broken(ring);
	}
	if (ring->broken || fuzz.was_wild || anew) {
		stop_tracked_ring();
		if (!start_random_ring(g, kind))
			return false;
	}
	ring_begin_case(ring);
	return true;
}

static bool run_random(struct gen *g)
{
	return fuzz.rig.ring.kind == BLK_RING ? run_random_blk(g) : run_random_scsi(g);
}

static void report(void)
{
	for (uint32_t kind = 0; kind < NUM_RING_KINDS; kind++)
		printf("%s: %llu random cases compared, %llu of them on packed rings, %llu wild, "
		       "%llu rings broken\n",
		       kind_names[kind], (unsigned long long)fuzz.clean[kind],
		       (unsigned long long)fuzz.packed[kind], (unsigned long long)fuzz.wild[kind],
		       (unsigned long long)fuzz.broken[kind]);
	printf("in-flight regions: %llu, %llu with requests to do again, %llu found empty; "
	       "hostile: %llu refused, %llu not\n",
	       (unsigned long long)region.tracked, (unsigned long long)region.recovered,
	       (unsigned long long)region.checked, (unsigned long long)region.refused,
	       (unsigned long long)region.accepted);
	printf("SCSI: %llu executed, %llu went up, %llu waited, %llu aborted, %llu failed, "
	       "%llu events\n",
	       (unsigned long long)sim.executed, (unsigned long long)sim.went_up,
	       (unsigned long long)sim.waited, (unsigned long long)sim.aborted,
	       (unsigned long long)sim.failed, (unsigned long long)sim.events);
}

/* A run of any length has met all that there is to meet: it does not pass by
 * doing nothing. */
static void check_reach(uint64_t count)
{
	if (count < 20000)
		return;
	for (uint32_t kind = 0; kind < NUM_RING_KINDS; kind++) {
		CHECK(fuzz.clean[kind] > count / 20);
		CHECK(fuzz.packed[kind] > count / 50);
		CHECK(fuzz.wild[kind] > count / 400);
	}
	CHECK(fuzz.broken[BLK_RING] > 0 && fuzz.broken[REQUEST_RING] > 0);
	CHECK(region.recovered > count / 200);
	CHECK(region.checked > count / 1000);
	CHECK(region.refused > count / 100);
	CHECK(region.accepted > count / 150);
	CHECK(sim.executed > count / 12);
	CHECK(sim.went_up > count / 4);
	CHECK(sim.waited > count / 80);
	CHECK(sim.aborted > count / 1000);
	CHECK(sim.failed > count / 1000);
	CHECK(sim.events > count / 50);
	*(check_ok ? &check_passed : &check_failed) += 1;
}

static void random_cases(uint64_t seed, uint64_t first, uint64_t count)
{
	struct gen g = {.random = seed};
	/* A replay begins with the ring that the case had. */
	uint64_t begin = first - first % CASES_PER_RING;
	hang_seed = seed;
	for (uint32_t i = 0; i < MEMORY; i++)
		fuzz.rig.memory[i] = (uint8_t)gen_random(&g);
	for (uint64_t n = begin; n < first + count && check_ok; n++) {
		const enum ring_kind kind =
		    kinds[n / CASES_PER_RING % (sizeof(kinds) / sizeof(kinds[0]))];
		hang_case = n;
		g.random = gen_seed(seed, ~n);
		const bool ready = next_ring(&g, kind, n % CASES_PER_RING == 0) && check_ok;
		gen_begin(&g, &fuzz.rig, seed, n);
		if (!ready || !run_random(&g) || !check_ok) {
			fprintf(stderr, "not ok: --seed %llu --replay %llu (%s)\n",
				(unsigned long long)seed, (unsigned long long)n, kind_names[kind]);
			if (kind != BLK_RING)
				sim_print();
			check_ok = false;
		}
		*(check_ok ? &check_passed : &check_failed) += n >= first;
	}
	stop_tracked_ring();
	report();
	if (check_ok)
		check_reach(count);
}

static uint64_t option(int argc, char **argv, const char *name, uint64_t otherwise)
{
	for (int i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], name))
			return strtoull(argv[i + 1], NULL, 0);
	}
	return otherwise;
}

static void run_named(void)
{
	run_named_blk();
	RUN(data_is_lost);
	RUN(ring_is_lost);
	run_named_scsi(0);
	run_named_rings();
	run_named_scsi(PACKED);
	run_named_rings();
	run_packed_rings();
}

int main(int argc, char **argv)
{
	uint64_t seed = option(argc, argv, "--seed", 1);
	uint64_t replay = option(argc, argv, "--replay", UINT64_MAX);
	uint64_t count = option(argc, argv, "--count", DEFAULT_COUNT);
	int fds = check_open_fds();
	check_ok = true;
	hang_more = sim_print;
	if (!rig_up(&fuzz.rig) || !region_up() || !neighbour_up(&fuzz.neighbour, &fuzz.rig) ||
	    !scsi_up())
		return EXIT_FAILURE;
	if (replay == UINT64_MAX)
		run_named();
	check_ok = true;
	random_cases(seed, replay == UINT64_MAX ? 0 : replay, replay == UINT64_MAX ? count : 1);
	region_down();
	scsi_down();
	neighbour_down(&fuzz.neighbour, &fuzz.rig);
	rig_down(&fuzz.rig);
	check_ok = true;
	if (!CHECK_EQ(check_open_fds(), fds))
		check_failed++;
	return check_report();
}
