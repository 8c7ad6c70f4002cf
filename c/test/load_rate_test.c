/* SPDX-License-Identifier: MIT */
/*
 * Loads that make so many requests a second: the schedule under a clock of the test's
 * own, and loads on a device, by bounds that hold on a machine however busy: none is
 * made before it is due, and all are made.
 */
#include "load_rate.h"

#include "load_rig.h"
#include "tick.h"

#define SECOND UINT64_C(1000000000)

/* ---- The schedule -------------------------------------------------------------------- */

static const uint32_t rates[] = {1, 7, 1000, 60000, 333333, 1000000, 1000000000, UINT32_MAX};
#define NUM_RATES (sizeof(rates) / sizeof(rates[0]))

/* How many are due from the first on until so many ticks later, both included. */
static uint64_t expected(uint32_t rate, uint64_t ticks)
{
	return (uint64_t)((unsigned __int128)ticks * rate / tick_from_ns(SECOND)) + 1;
}

static bool is_near(uint64_t value, uint64_t wanted)
{
	/* A tick is longer than the shortest periods, and the period is rounded up. */
	const uint64_t least = wanted - wanted / 10000;
	return CHECK(value <= wanted) && CHECK(value + 5 >= least);
}

static void spaces_evenly(void)
{
	for (uint32_t i = 0; i < NUM_RATES; i++) {
		uint64_t random = i, begin = load_random(&random), now = begin, taken = 0;
		struct load_rate rate;
		load_rate_start(&rate, rates[i], begin);
		for (int step = 0; step < 20000 && check_ok; step++) {
			taken += load_rate_take(&rate, now, UINT64_MAX);
			is_near(taken, expected(rates[i], now - begin));
			now += load_random(&random) % tick_from_ns(LOAD_RATE_LATE_NS);
		}
	}
}

/* Who sleeps until the next is due gets one then, and none before. */
static void tells_when_one_is_due(void)
{
	for (uint32_t i = 0; rates[i] <= 1000000; i++) {
		struct load_rate rate;
		uint64_t now = 1000;
		load_rate_start(&rate, rates[i], now);
		CHECK_EQ(load_rate_wait(&rate, now), 0);
		CHECK_EQ(load_rate_take(&rate, now, 9), 1);
		for (uint64_t n = 1; n < 1000; n++) {
			now += load_rate_wait(&rate, now) - 1;
			CHECK_EQ(load_rate_take(&rate, now, 9), 0);
			CHECK_EQ(load_rate_wait(&rate, now), 1);
			CHECK_EQ(load_rate_take(&rate, ++now, 9), 1);
		}
		is_near(1000, expected(rates[i], now - 1000));
	}
}

static void makes_up_for_a_while_only(void)
{
	const uint64_t late = tick_from_ns(LOAD_RATE_LATE_NS);
	struct load_rate rate;
	uint64_t now = 5;
	load_rate_start(&rate, 1000, now);
	load_rate_take(&rate, now, 1);
	/* As late as it may be: what was due meanwhile, and what is due now. */
	now += late;
	is_near(load_rate_take(&rate, now, UINT64_MAX), 100);
	/* A minute later than that. */
	now += 600 * late;
	is_near(load_rate_take(&rate, now, UINT64_MAX), 101);
	CHECK_EQ(load_rate_take(&rate, now, UINT64_MAX), 0);
	now += late;
	is_near(load_rate_take(&rate, now, UINT64_MAX), 100);
}

static void what_is_not_taken_stays_due(void)
{
	struct load_rate rate;
	uint64_t now = 5;
	load_rate_start(&rate, 1000, now);
	now += tick_from_ns(SECOND / 20) + 1;
	CHECK_EQ(load_rate_take(&rate, now, 0), 0);
	CHECK_EQ(load_rate_take(&rate, now, 20), 20);
	CHECK_EQ(load_rate_wait(&rate, now), 0);
	is_near(load_rate_take(&rate, now, 100), 31);
	CHECK(load_rate_wait(&rate, now) > 0);
}

/* ---- Loads ----------------------------------------------------------------------------- */

static bool in_every_mode(struct rig *rig, void (*each)(struct rig *rig))
{
	for (uint32_t i = 0; i < 4; i++) {
		if (!rig_up(rig, i & 1 ? 3 : 1, INDIRECT | EVENT_IDX))
			return false;
		rig->config.mode = i & 2 ? VHC_MODE_INTERRUPT : VHC_MODE_POLL;
		rig->config.iodepth = ring_size / 2;
		each(rig);
		rig_down(rig);
	}
	return true;
}

/* Fewer than there are slots: each ring has its turn. */
static void run_some(struct rig *rig)
{
	rig->config.rw = VHC_LOAD_RANDRW;
	rig->config.rwmix_read = 50;
	rig->config.verify = 1;
	rig->config.iodepth = 16 / rig->num_rings;
	rig->config.rate = 1000;
	rig->config.ios = 15;
	CHECK_EQ(run(rig), 0);
	CHECK_EQ(rig->stats->op[VHC_OP_READ].count + rig->stats->op[VHC_OP_WRITE].count, 15);
	CHECK_EQ(rig->stats->inflight, 0);
	CHECK(rig->result.elapsed_ns >= 14 * SECOND / 1000);
	CHECK_EQ(rig->result.verify_errors, 0);
	CHECK(rig->result.verified > 0);
}

static void makes_none_too_early(void)
{
	struct rig rig;
	REQUIRE(in_every_mode(&rig, run_some));
}

static void rings_take_turns(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 3, INDIRECT));
	rig.config.rate = 5000;
	rig.config.iodepth = 10;
	rig.config.ios = 30;
	CHECK_EQ(run(&rig), 0);
	rig_down(&rig);
	for (uint32_t i = 0; i < 3; i++)
		CHECK_EQ(rig.disk.served[i], 10);
}

/*
 * What comes back is taken after a call, not when the next is made: here the device
 * returns one at a time and does not call, and the load looks after 100 ms by itself.
 */
static void takes_after_a_call(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, INDIRECT | EVENT_IDX));
	const int call_fd = rig.disk.rings[0].call_fd;
	rig.disk.rings[0].call_fd = -1;
	atomic_store(&rig.disk.lazy, true);
	rig.config.mode = VHC_MODE_INTERRUPT;
	rig.config.rate = 1000;
	rig.config.ios = 3;
	CHECK_EQ(run(&rig), 0);
	CHECK_EQ(rig.stats->op[VHC_OP_READ].count, 3);
	CHECK(rig.result.elapsed_ns >= 3 * SECOND / 10);
	rig_down(&rig);
	close(call_fd);
}

/* More than the device can: then as fast as it goes. */
static void run_fast(struct rig *rig)
{
	rig->config.rw = VHC_LOAD_RANDRW;
	rig->config.rwmix_read = 50;
	rig->config.verify = 1;
	rig->config.rate = UINT32_MAX;
	rig->config.ios = 2000;
	CHECK_EQ(run(rig), 0);
	CHECK_EQ(rig->stats->op[VHC_OP_READ].count + rig->stats->op[VHC_OP_WRITE].count, 2000);
	CHECK_EQ(rig->result.verify_errors, 0);
}

static void goes_as_fast_as_it_can(void)
{
	struct rig rig;
	REQUIRE(in_every_mode(&rig, run_fast));
}

/* It ends with its time though nothing comes back by then, and makes none that is due later. */
static void run_for_a_while(struct rig *rig)
{
	rig->config.rate = 100;
	rig->config.runtime_ns = 25000000;
	CHECK_EQ(run(rig), 0);
	CHECK(rig->stats->op[VHC_OP_READ].count >= 1);
	CHECK(rig->stats->op[VHC_OP_READ].count <= 3);
	CHECK(rig->result.elapsed_ns >= rig->config.runtime_ns);
	/* Who has nothing to do sleeps. */
	CHECK(rig->config.mode == VHC_MODE_POLL || rig->result.cpu_ns < rig->result.elapsed_ns / 2);
}

static void ends_with_its_time(void)
{
	struct rig rig;
	REQUIRE(in_every_mode(&rig, run_for_a_while));
}

static void run_until_stopped(struct rig *rig)
{
	rig->config.rate = 1;
	rig->config.runtime_ns = UINT64_MAX / 2;
	struct vhc_load *load = start(rig);
	REQUIRE(load);
	vhc_load_stop(load);
	CHECK_EQ(await_done(rig), 0);
	vhc_load_release(load);
	CHECK(rig->stats->op[VHC_OP_READ].count <= 1 + ANSWER_MS / 1000);
}

static void a_stop_ends_it(void)
{
	struct rig rig;
	REQUIRE(in_every_mode(&rig, run_until_stopped));
}

static void a_silent_device_is_left(void)
{
	for (int mode = VHC_MODE_POLL; mode <= VHC_MODE_INTERRUPT; mode++) {
		struct rig rig;
		REQUIRE(rig_up(&rig, 1, EVENT_IDX));
		rig.config.mode = (uint32_t)mode;
		rig.config.rate = 1000000;
		rig.config.ios = 1000000;
		atomic_store(&rig.disk.fault, FAKE_SILENT);
		struct vhc_load *load = start(&rig);
		REQUIRE(load);
		usleep(100000);
		vhc_load_stop(load);
		CHECK_EQ(await_done(&rig), -ETIMEDOUT);
		vhc_load_result(load, &rig.result);
		/* What is due finds no slot, and is nothing to wake up for. */
		CHECK(mode == VHC_MODE_POLL || rig.result.cpu_ns < SECOND / 20);
		vhc_load_release(load);
		rig_down(&rig);
	}
}

static void loads(void)
{
	RUN(makes_none_too_early);
	RUN(rings_take_turns);
	RUN(takes_after_a_call);
	RUN(goes_as_fast_as_it_can);
	RUN(ends_with_its_time);
	RUN(a_stop_ends_it);
}

int main(void)
{
	RUN(spaces_evenly);
	RUN(tells_when_one_is_due);
	RUN(makes_up_for_a_while_only);
	RUN(what_is_not_taken_stays_due);
	for (uint32_t i = 0; i < 4; i++) {
		packed = i & 1;
		device = i & 2 ? VHC_LOAD_SCSI : VHC_LOAD_BLK;
		ring_size = packed ? 31 : 32;
		printf("# virtio-%s, %s rings\n", i & 2 ? "scsi" : "blk",
		       packed ? "packed" : "split");
		loads();
	}
	RUN(a_silent_device_is_left);
	return check_report();
}
