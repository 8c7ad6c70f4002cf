/* SPDX-License-Identifier: MIT */
/*
 * Pacing under a clock of the test's own: reactors that poll, that sleep, that are late;
 * rings with many requests and rings with one. What was let go is compared with what a
 * limit allows in any window of time, however short or long.
 */
#include "check.h"
#include "pace.h"
#include "tick.h"

#define US (PACE_NS * 1000)
#define SECOND (1000 * PACE_MS)
#define FLOWS 8u
#define MAX_GONE 400000u

/* A ring: it has `depth` requests under way, each a while after the one before has ended. */
struct ring {
	struct pace_flow flow;
	uint32_t bytes;
	uint32_t depth; /* 0: as many as can go */
	bool write;
	uint64_t pause; /* from the end of a request to the next */
	uint64_t late;	/* its reactor wakes up to so much late; 0: it polls */
	uint64_t wake;	/* moment */
	uint32_t waiting;
	uint64_t arrivals[4]; /* of a ring with a depth: when each comes, or came */
	uint64_t ios;
	uint64_t total;
};

struct gone {
	uint64_t moment;
	uint64_t bytes;
	bool write;
};

struct world {
	struct pace pace;
	struct ring rings[FLOWS];
	uint32_t num;
	uint64_t now;
	uint64_t seed;
	struct gone *gone;
	uint32_t num_gone;
};

static uint64_t draw(struct world *world, uint64_t below)
{
	world->seed = world->seed * 6364136223846793005u + 1442695040888963407u;
	return below ? (world->seed >> 33) % below : 0;
}

static void world_create(struct world *world, uint64_t start)
{
	*world = (struct world){.now = start, .seed = 7};
	world->gone = malloc(MAX_GONE * sizeof(*world->gone));
}

static void add_ring(struct world *world, struct ring ring)
{
	ring.wake = world->now;
	for (uint32_t i = 0; i < ring.depth; i++)
		ring.arrivals[i] = world->now;
	world->rings[world->num++] = ring;
}

/* The request of a ring that has come first, if one has. */
static uint64_t *first_arrival(struct ring *ring, uint64_t now)
{
	uint64_t *first = NULL;

	for (uint32_t i = 0; i < ring->depth; i++)
		if (!pace_after(ring->arrivals[i], now) &&
		    (!first || pace_after(*first, ring->arrivals[i])))
			first = &ring->arrivals[i];
	return first;
}

static void let_go(struct world *world, struct ring *ring)
{
	ring->ios++;
	ring->total += ring->bytes;
	if (world->num_gone < MAX_GONE)
		world->gone[world->num_gone++] =
		    (struct gone){.moment = world->now, .bytes = ring->bytes, .write = ring->write};
}

/* When the next request of a ring without any now comes. */
static uint64_t next_arrival(const struct ring *ring)
{
	uint64_t next = ring->arrivals[0];

	for (uint32_t i = 1; i < ring->depth; i++)
		if (pace_after(next, ring->arrivals[i]))
			next = ring->arrivals[i];
	return next;
}

/* What a reactor does with a ring when it looks at it. */
static void look(struct world *world, struct ring *ring)
{
	uint64_t again = world->now;

	for (;;) {
		uint64_t *arrival = first_arrival(ring, world->now);
		struct pace_request request = {
		    .bytes = ring->bytes, .write = ring->write, .arrival = world->now};

		if (ring->depth && !arrival) {
			pace_wait(&world->pace, &ring->flow, false);
			ring->wake = next_arrival(ring) + 1;
			return;
		}
		request.arrival = arrival ? *arrival : world->now - SECOND;
		if (!pace_take(&world->pace, &ring->flow, &request, world->now, &again))
			break;
		let_go(world, ring);
		if (arrival)
			*arrival = world->now + ring->pause;
	}
	pace_wait(&world->pace, &ring->flow, true);
	CHECK(pace_after(again, world->now));
	if (ring->late == 0)
		ring->wake = world->now + 5 * US;
	else
		ring->wake = again + draw(world, ring->late);
}

static void run(struct world *world, uint64_t time)
{
	const uint64_t end = world->now + time;

	for (;;) {
		struct ring *next = &world->rings[0];

		for (uint32_t i = 1; i < world->num; i++)
			if (pace_after(next->wake, world->rings[i].wake))
				next = &world->rings[i];
		if (pace_after(next->wake, end))
			break;
		if (pace_after(next->wake, world->now))
			world->now = next->wake;
		look(world, next);
	}
	world->now = end;
}

/* ---- What is allowed ---- */

/*
 * By how much what went exceeds limit * time in the worst of all windows, without the
 * last request of each: in the unit of the limit.
 */
static double excess(const struct world *world, enum pace_limit kind, double limit)
{
	double gone = 0, least = 1e300, worst = 0;

	for (uint32_t i = 0; i < world->num_gone; i++) {
		const struct gone *of = &world->gone[i];
		double seconds = (double)(of->moment - world->gone[0].moment) / (double)SECOND;
		double ahead = gone - limit * seconds;

		if (kind == (of->write ? PACE_READ_BYTES : PACE_WRITE_BYTES))
			continue;
		if (ahead < least)
			least = ahead;
		if (ahead - least > worst)
			worst = ahead - least;
		gone += kind == PACE_IOS ? 1 : (double)of->bytes;
	}
	return worst;
}

static double sum(const struct world *world, enum pace_limit kind)
{
	double all = 0;

	for (uint32_t i = 0; i < world->num_gone; i++) {
		const struct gone *of = &world->gone[i];

		if (kind == (of->write ? PACE_READ_BYTES : PACE_WRITE_BYTES))
			continue;
		all += kind == PACE_IOS ? 1 : (double)of->bytes;
	}
	return all;
}

/* Not more than allowed in any window; rounding of costs is far below a thousandth. */
static bool within(const struct world *world, enum pace_limit kind, uint64_t limit)
{
	double allowed = (double)limit * ((double)PACE_LATE / (double)SECOND);
	double worst = excess(world, kind, (double)limit * 1.0005);

	if (worst <= allowed + 1e-6)
		return true;
	fprintf(stderr, "%f of %f\n", worst, allowed);
	return false;
}

static void set(struct world *world, enum pace_limit kind, uint64_t limit)
{
	uint64_t limits[PACE_LIMITS] = {0};

	limits[kind] = limit;
	pace_set(&world->pace, limits, world->now);
}

/* At least 98% of the limit in so many seconds, and never more than it allows. */
static bool exact(const struct world *world, enum pace_limit kind, uint64_t limit, double seconds)
{
	bool enough = sum(world, kind) >= 0.98 * (double)limit * seconds - 1;

	if (!enough)
		fprintf(stderr, "%f of %f\n", sum(world, kind), (double)limit * seconds);
	return within(world, kind, limit) && enough;
}

static bool alike(const struct world *world, uint64_t a, uint64_t b, double tolerance)
{
	double more = (double)(a > b ? a : b), less = (double)(a > b ? b : a);

	if (less >= more * (1 - tolerance) - 2)
		return true;
	fprintf(stderr, "%f and %f at seed %lu\n", less, more, (unsigned long)world->seed);
	return false;
}

/* ---- One ring ---- */

static void keeps_to_each_limit(void)
{
	static const uint64_t limits[] = {1, 10, 333, 1000, 20000, 100000};
	static const uint64_t late[] = {0, 100 * US, 3 * PACE_MS};

	for (uint32_t i = 0; i < 6; i++)
		for (uint32_t j = 0; j < 3; j++) {
			struct world world;

			world_create(&world, 0);
			set(&world, PACE_IOS, limits[i]);
			add_ring(&world, (struct ring){.bytes = 4096, .late = late[j]});
			run(&world, 2 * SECOND);
			CHECK(exact(&world, PACE_IOS, limits[i], 2));
			free(world.gone);
		}
}

static void counts_bytes(void)
{
	static const uint32_t sizes[] = {512, 4096, 65536, 1u << 20};
	static const enum pace_limit kinds[] = {PACE_BYTES, PACE_READ_BYTES, PACE_WRITE_BYTES};

	for (uint32_t i = 0; i < 4; i++)
		for (uint32_t j = 0; j < 3; j++) {
			struct world world;

			world_create(&world, 0);
			set(&world, kinds[j], 50u << 20);
			add_ring(&world, (struct ring){.bytes = sizes[i],
						       .late = 200 * US,
						       .write = kinds[j] == PACE_WRITE_BYTES});
			run(&world, 2 * SECOND);
			CHECK(exact(&world, kinds[j], 50u << 20, 2));
			free(world.gone);
		}
}

/* The cost of a small request is no whole number of anything: it must not add up. */
static void adds_up_small_costs(void)
{
	static const uint64_t limit = UINT64_C(40) << 30;
	struct pace pace = {0};
	struct pace_flow flow = {0};
	struct pace_request request = {.bytes = 512};
	uint64_t limits[PACE_LIMITS] = {[PACE_BYTES] = limit};
	uint64_t again, now = SECOND, bytes = 0;

	pace_set(&pace, limits, now);
	for (uint32_t i = 0; i < 200; i++, now += 50 * US)
		for (request.arrival = now - 50 * US;
		     pace_take(&pace, &flow, &request, now, &again);)
			bytes += request.bytes;
	CHECK((double)bytes > 0.98 * (double)limit * 0.00995);
	CHECK((double)bytes < 1.02 * (double)limit * 0.00995);
}

/* One request after the other, each after a pause, on a reactor that wakes late. */
static void shallow_rings_get_all(void)
{
	struct world world;

	world_create(&world, 0);
	set(&world, PACE_IOS, 5000);
	add_ring(&world,
		 (struct ring){.bytes = 4096, .depth = 1, .pause = 60 * US, .late = 150 * US});
	run(&world, 2 * SECOND);
	CHECK(exact(&world, PACE_IOS, 5000, 2));
	free(world.gone);
}

/* Who was away has no credit but for 2 ms. */
static void saves_nothing_up(void)
{
	struct world world;

	world_create(&world, 0);
	set(&world, PACE_IOS, 1000);
	add_ring(&world,
		 (struct ring){.bytes = 512, .depth = 4, .pause = 200 * PACE_MS, .late = 1});
	run(&world, 2 * SECOND);
	CHECK(excess(&world, PACE_IOS, 1000) <= 2.001);
	free(world.gone);
}

/* A reactor that sleeps through half a second has lost what went by, but for 10 ms. */
static void catches_up_little(void)
{
	struct world world;

	world_create(&world, 0);
	set(&world, PACE_IOS, 1000);
	add_ring(&world, (struct ring){.bytes = 512, .late = 1});
	run(&world, 100 * PACE_MS);
	world.rings[0].wake += 500 * PACE_MS;
	run(&world, SECOND);
	CHECK(within(&world, PACE_IOS, 1000));
	CHECK(sum(&world, PACE_IOS) > 590 && sum(&world, PACE_IOS) < 630);
	free(world.gone);
}

/* ---- Several limits ---- */

static void keeps_to_all_limits(void)
{
	const uint64_t limits[PACE_LIMITS] = {2000, 40u << 20, 10u << 20, 60u << 20};
	struct world world;

	world_create(&world, 0);
	pace_set(&world.pace, limits, world.now);
	add_ring(&world, (struct ring){.bytes = 65536, .late = 100 * US});
	add_ring(&world, (struct ring){.bytes = 65536, .late = 100 * US, .write = true});
	add_ring(&world, (struct ring){.bytes = 4096, .depth = 4, .pause = 50 * US, .late = 0});
	run(&world, 2 * SECOND);
	for (uint32_t i = 0; i < PACE_LIMITS; i++)
		CHECK(within(&world, i, limits[i]));
	CHECK(sum(&world, PACE_READ_BYTES) >= 2 * 0.98 * (double)limits[PACE_READ_BYTES]);
	CHECK(sum(&world, PACE_BYTES) >= 2 * 0.97 * (double)limits[PACE_BYTES]);
	free(world.gone);
}

/* Who waits for one limit takes nothing of another. */
static void limits_do_not_mix(void)
{
	const uint64_t limits[PACE_LIMITS] = {
	    [PACE_READ_BYTES] = 1u << 20, [PACE_WRITE_BYTES] = 50u << 20};
	struct world world;

	world_create(&world, 0);
	pace_set(&world.pace, limits, world.now);
	add_ring(&world, (struct ring){.bytes = 4096, .late = 100 * US});
	add_ring(&world, (struct ring){.bytes = 4096, .late = 100 * US, .write = true});
	add_ring(&world,
		 (struct ring){
		     .bytes = 4096, .late = 100 * US, .write = true, .depth = 1, .pause = 10 * US});
	run(&world, 2 * SECOND);
	CHECK(exact(&world, PACE_READ_BYTES, 1u << 20, 2));
	CHECK(exact(&world, PACE_WRITE_BYTES, 50u << 20, 2));
	free(world.gone);
}

/* ---- Fairness ---- */

/* Equal shares for a ring that polls, some that sleep, and one that has one request at a time. */
static void shares_equally(void)
{
	static const uint64_t limits[] = {100, 2000, 50000};

	for (uint32_t i = 0; i < 3; i++) {
		struct world world;

		world_create(&world, 0);
		set(&world, PACE_IOS, limits[i]);
		add_ring(&world, (struct ring){.bytes = 4096, .late = 0});
		add_ring(&world, (struct ring){.bytes = 4096, .late = 60 * US});
		add_ring(&world, (struct ring){.bytes = 4096, .late = 300 * US});
		if (limits[i] <= 2000)
			add_ring(&world,
				 (struct ring){
				     .bytes = 4096, .late = 60 * US, .depth = 1, .pause = 50 * US});
		run(&world, 4 * SECOND);
		CHECK(exact(&world, PACE_IOS, limits[i], 4));
		for (uint32_t j = 1; j < world.num; j++)
			CHECK(alike(&world, world.rings[0].ios, world.rings[j].ios, 0.06));
		free(world.gone);
	}
}

/*
 * Where bytes are what is short, it is bytes that are shared: not 256 times as many to who asks
 * for as many at a time.
 */
static void shares_bytes(void)
{
	struct world world;

	world_create(&world, 0);
	set(&world, PACE_BYTES, 100u << 20);
	add_ring(&world, (struct ring){.bytes = 1u << 20, .late = 60 * US});
	add_ring(&world, (struct ring){.bytes = 4096, .late = 60 * US});
	add_ring(&world, (struct ring){.bytes = 65536, .late = 0});
	run(&world, 4 * SECOND);
	CHECK(exact(&world, PACE_BYTES, 100u << 20, 4));
	CHECK(alike(&world, world.rings[0].total, world.rings[1].total, 0.5));
	CHECK(alike(&world, world.rings[0].total, world.rings[2].total, 0.5));
	free(world.gone);
}

/* A ring that could have more than its share, but does not ask for it, leaves it to others. */
static void leaves_nothing_unused(void)
{
	struct world world;

	world_create(&world, 0);
	set(&world, PACE_IOS, 10000);
	add_ring(&world, (struct ring){.bytes = 4096, .late = 60 * US});
	add_ring(&world,
		 (struct ring){.bytes = 4096, .late = 60 * US, .depth = 1, .pause = 2 * PACE_MS});
	run(&world, 2 * SECOND);
	CHECK(exact(&world, PACE_IOS, 10000, 2));
	CHECK(world.rings[1].ios > 800);
	free(world.gone);
}

/* ---- Changes ---- */

static void changes_at_once(void)
{
	struct world world;

	world_create(&world, 0);
	set(&world, PACE_IOS, 1);
	add_ring(&world, (struct ring){.bytes = 4096, .late = 60 * US});
	run(&world, SECOND / 2);
	CHECK_EQ(world.num_gone, 1);
	set(&world, PACE_IOS, 1000);
	world.rings[0].wake = world.now; /* as a channel is woken */
	run(&world, SECOND);
	CHECK(world.num_gone >= 980 && world.num_gone <= 1012);
	set(&world, PACE_IOS, 10);
	world.num_gone = 0;
	run(&world, SECOND);
	CHECK(world.num_gone >= 9 && world.num_gone <= 11);
	set(&world, PACE_IOS, 0);
	world.rings[0].depth = 1;
	world.rings[0].pause = 100 * US;
	world.rings[0].arrivals[0] = world.now;
	world.rings[0].wake = world.now;
	world.num_gone = 0;
	run(&world, SECOND);
	CHECK(world.num_gone >= 9990);
	free(world.gone);
}

/* What was used up at one price is owed at the next. */
static void changes_pay_nobodys_debts(void)
{
	struct world world;

	world_create(&world, 0);
	set(&world, PACE_BYTES, 100u << 20);
	add_ring(&world, (struct ring){.bytes = 50u << 20, .late = 1});
	run(&world, PACE_MS);
	CHECK_EQ(world.num_gone, 1);
	for (uint32_t i = 0; i < 100; i++) {
		set(&world, PACE_BYTES, (i & 1 ? 100u : 200u) << 20);
		world.rings[0].wake = world.now;
		run(&world, PACE_MS);
	}
	CHECK_EQ(world.num_gone, 1);
	free(world.gone);
}

static void charges_what_could_not_wait(void)
{
	const struct pace_request request = {.bytes = 4096, .arrival = SECOND};
	const uint64_t limits[PACE_LIMITS] = {[PACE_IOS] = 10};
	struct pace_flow flow = {0};
	struct pace pace = {0};
	uint64_t again;

	pace_set(&pace, limits, SECOND);
	for (uint32_t i = 0; i < 5; i++)
		pace_charge(&pace, &request, SECOND);
	CHECK(!pace_take(&pace, &flow, &request, SECOND, &again));
	CHECK(again >= SECOND + 490 * PACE_MS && again <= SECOND + 500 * PACE_MS);
	for (uint32_t i = 0; i < 500; i++)
		pace_charge(&pace, &request, SECOND);
	CHECK(!pace_take(&pace, &flow, &request, SECOND, &again));
	CHECK(again <= SECOND + PACE_DEBT);
	CHECK(pace_take(&pace, &flow, &request, again, &again));
}

/* Moments wrap: a clock that is about to goes on as any other. */
static void goes_on_when_moments_wrap(void)
{
	static const uint64_t starts[] = {0 - SECOND / 2, (UINT64_C(1) << 63) - SECOND / 2};

	for (uint32_t i = 0; i < 2; i++) {
		struct world world;

		world_create(&world, starts[i]);
		set(&world, PACE_IOS, 1000);
		add_ring(&world, (struct ring){.bytes = 4096, .late = 60 * US});
		add_ring(&world, (struct ring){.bytes = 4096, .late = 0});
		run(&world, SECOND);
		CHECK(exact(&world, PACE_IOS, 1000, 1));
		CHECK(alike(&world, world.rings[0].ios, world.rings[1].ios, 0.06));
		free(world.gone);
	}
}

/* ---- Whatever there is ---- */

static void random_worlds(void)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		uint64_t limits[PACE_LIMITS] = {0};
		struct world world;

		world_create(&world, 0);
		world.seed = seed;
		limits[draw(&world, PACE_LIMITS)] = (1 + draw(&world, 64)) << 20;
		if (draw(&world, 2))
			limits[PACE_BYTES] = (1 + draw(&world, 64)) << 20;
		limits[PACE_IOS] = draw(&world, 2) ? 1 + draw(&world, 50000) : 0;
		pace_set(&world.pace, limits, world.now);
		for (uint64_t n = 1 + draw(&world, FLOWS); n > 0; n--)
			add_ring(&world, (struct ring){.bytes = 512u << draw(&world, 12),
						       .depth = (uint32_t)draw(&world, 5),
						       .write = draw(&world, 2),
						       .pause = (1 + draw(&world, 2000)) * US,
						       .late = draw(&world, 2000) * US});
		for (uint32_t i = 0; i < world.num; i++)
			if (world.rings[i].depth == 0 && limits[PACE_IOS] + limits[PACE_BYTES] == 0)
				world.rings[i].depth = 1;
		run(&world, SECOND / 2);
		for (uint32_t i = 0; i < PACE_LIMITS; i++)
			CHECK(limits[i] == 0 || within(&world, i, limits[i]));
		free(world.gone);
	}
}

int main(void)
{
	RUN(keeps_to_each_limit);
	RUN(counts_bytes);
	RUN(adds_up_small_costs);
	RUN(shallow_rings_get_all);
	RUN(saves_nothing_up);
	RUN(catches_up_little);
	RUN(keeps_to_all_limits);
	RUN(limits_do_not_mix);
	RUN(shares_equally);
	RUN(shares_bytes);
	RUN(leaves_nothing_unused);
	RUN(changes_at_once);
	RUN(changes_pay_nobodys_debts);
	RUN(charges_what_could_not_wait);
	RUN(goes_on_when_moments_wrap);
	RUN(random_worlds);
	return check_report();
}
