/* SPDX-License-Identifier: MIT */
/*
 * A device that dies at any instruction: nothing that its driver offered is lost, and
 * nothing ends twice. crash_test [--count KILLS] [--points PER_STEP] [--seed N]
 */
#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "crash_device.h"

#ifdef __SANITIZE_THREAD__
static uint32_t kills = 100; /* a fork takes its time there */
#else
static uint32_t kills = 400; /* in all */
#endif
static uint32_t points = 3; /* of each step, when they are walked through */
static uint64_t seed = 1;

static const struct crash_shape shapes[] = {
    {.size = 2},
    {.size = 4, .indirect = true},
    {.size = 16, .event_idx = true},
    {.size = 256, .indirect = true, .event_idx = true},
    {.size = 2, .packed = true},
    {.size = 3, .packed = true, .indirect = true},
    {.size = 7, .packed = true, .event_idx = true},
    {.size = 16, .packed = true, .indirect = true, .event_idx = true},
    {.size = 255, .packed = true},
};
#define NUM_SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* Many devices, one after the other, of one ring; now and then one may finish. */
static bool run_shape(struct crash_world *w, uint32_t rounds)
{
	bool lives = crash_device_lives(w->shape.device);

	for (uint32_t i = 1; i <= rounds; i++) {
		if (!(lives ? crash_live_round(w) : crash_round(w)))
			return false;
		if (i % 16 && i < rounds)
			continue;
		if (!(lives ? crash_live_drain(w) : crash_drain(w)))
			return false;
		w->driver.pieces = crash_random(&w->random, 2) ? 2 + w->driver.indirect : 0;
	}
	return true;
}

static void killed_by_chance(enum crash_device device, uint32_t rounds)
{
	uint32_t by_op[NUM_OPS] = {0};
	uint64_t ended = 0;

	for (uint32_t i = 0; i < NUM_SHAPES; i++) {
		struct crash_shape shape = shapes[i];
		struct crash_world w;

		shape.device = device;
		REQUIRE(crash_world_create(&w, shape, crash_device, seed + i));
		w.shows = crash_device_shows(device);
		CHECK(run_shape(&w, rounds));
		crash_clean_up(&w);
		for (uint32_t op = 0; op < NUM_OPS; op++)
			by_op[op] += w.kills[op];
		ended += w.driver.ended;
		crash_world_destroy(&w);
	}
	printf("# %s: %llu requests; killed in", crash_device_names[device],
	       (unsigned long long)ended);
	for (uint32_t op = 0; op < NUM_OPS; op++)
		if (by_op[op] > 0)
			printf(" %s %u", crash_op_names[op], by_op[op]);
	printf("\n");
	CHECK(ended > rounds);
}

/* A step of a device, always the same one: what comes first depends on the seed alone. */
struct step {
	uint32_t before; /* devices that died, on the same ring */
	int64_t countdown;
	enum crash_op wanted;
	uint32_t points; /* instructions of it to try */
};

/*
 * Runs a device to a step, goes on for up to n instructions of it, and kills it; the next
 * one finishes. Returns how many instructions it were, or -1.
 */
static int kill_at(struct crash_world *w, const struct step *step, int n)
{
	uint32_t steps;
	int i;

	crash_reset(w, seed);
	for (uint32_t k = 0; k < step->before; k++) {
		if (!crash_drive(w, w->shape.size) || !crash_spawn(w, 7 + k, OP_NONE) ||
		    !crash_kill(w))
			return -1;
	}
	if (!crash_drive(w, w->shape.size) || !crash_spawn(w, step->countdown, step->wanted))
		return -1;
	steps = w->control->steps;
	w->control->countdown = CRASH_FOREVER;
	for (i = 0; i < n && w->control->steps == steps && !w->control->idle; i++) {
		if (!crash_step(w))
			return -1;
	}
	return crash_kill(w) && crash_drain(w) ? i : -1;
}

/* Each instruction of a step, or as many of them as there is time for. Returns how many, or -1. */
static int walk_step(struct crash_world *w, const struct step *step)
{
	int all = kill_at(w, step, INT32_MAX);
	int stride = all / (int)step->points + 1;
	int n = 0;

	for (int at = all / 2 % stride; at < all; at += stride, n++) {
		if (kill_at(w, step, at) != at)
			return -1;
	}
	return all < 0 ? -1 : n;
}

/* Step by step, from the ring's creation on; and then more closely where ends are shown. */
static struct step choose_step(enum crash_device device, uint32_t i, uint32_t steps)
{
	struct step step = {.before = i % 3, .countdown = i, .points = points};

	if (i < steps)
		return step;
	step.countdown = (i - steps) * 3;
	step.wanted = crash_device_shows(device);
	step.points = 10 * points;
	return step;
}

static void killed_at_each(enum crash_device device, uint32_t steps)
{
	uint64_t instructions = 0;

	for (uint32_t packed = 0; packed < 2; packed++) {
		struct crash_world w;
		struct crash_shape shape = {
		    .size = 8, .packed = packed, .indirect = true, .device = device};

		REQUIRE(crash_world_create(&w, shape, crash_device, seed));
		for (uint32_t i = 0; i < steps + 4; i++) {
			struct step step = choose_step(device, i, steps);
			int result = walk_step(&w, &step);

			if (!CHECK(result >= 0)) {
				crash_clean_up(&w);
				return;
			}
			instructions += (uint32_t)result;
		}
		crash_world_destroy(&w);
	}
	printf("# %s: %llu instructions\n", crash_device_names[device],
	       (unsigned long long)instructions);
}

static uint32_t rounds_of(uint32_t devices)
{
	return (kills / devices + NUM_SHAPES - 1) / NUM_SHAPES;
}

static void model_by_chance(void)
{
	killed_by_chance(DEVICE_MODEL, rounds_of(NUM_DEVICES));
}

static void model_at_each_instruction(void)
{
	killed_at_each(DEVICE_MODEL, 14);
}

static void ring_by_chance(void)
{
	killed_by_chance(DEVICE_RING, rounds_of(NUM_DEVICES));
}

static void ring_at_each_instruction(void)
{
	killed_at_each(DEVICE_RING, 14);
}

static void queue_by_chance(void)
{
	killed_by_chance(DEVICE_NOW, rounds_of(NUM_DEVICES));
}

static void queue_at_each_instruction(void)
{
	killed_at_each(DEVICE_NOW, 8);
}

static void late_queue_by_chance(void)
{
	killed_by_chance(DEVICE_LATE, rounds_of(NUM_DEVICES));
}

static void late_queue_at_each_instruction(void)
{
	killed_at_each(DEVICE_LATE, 14);
}

static void reactor_at_any_time(void)
{
	killed_by_chance(DEVICE_REACTOR, rounds_of(NUM_DEVICES));
}

static void late_reactor_at_any_time(void)
{
	killed_by_chance(DEVICE_REACTOR_LATE, rounds_of(NUM_DEVICES));
}

static void raw_reactor_at_any_time(void)
{
	killed_by_chance(DEVICE_REACTOR_RAW, rounds_of(NUM_DEVICES));
}

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--count"))
			kills = (uint32_t)strtoul(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--points"))
			points = (uint32_t)strtoul(argv[i + 1], NULL, 0);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 0);
	}
	RUN(model_by_chance);
	RUN(model_at_each_instruction);
	RUN(ring_by_chance);
	RUN(ring_at_each_instruction);
	RUN(queue_by_chance);
	RUN(queue_at_each_instruction);
	RUN(late_queue_by_chance);
	RUN(late_queue_at_each_instruction);
	RUN(reactor_at_any_time);
	RUN(late_reactor_at_any_time);
	RUN(raw_reactor_at_any_time);
	return check_report();
}
