/* SPDX-License-Identifier: MIT */
/* Coalescing by hand, without a reactor: the rule, what is held back, what is asked when it is
 * sent.
 */
#include "coalesce.h"

#include "packed_guest.h"
#include "tick.h"
#include "vm.h"

#define US UINT64_C(1000)
#define HOUR_NS UINT64_C(3600000000000)
#define BASE_NS (50 * US)

static void follows_the_rule(void)
{
	CHECK_EQ(coalesce_delay(50 * US, 60000, 0), 0);
	CHECK_EQ(coalesce_delay(50 * US, 60000, 60000), 0);
	CHECK_EQ(coalesce_delay(50 * US, 60000, 66000), 5 * US);
	CHECK_EQ(coalesce_delay(50 * US, 60000, 120000), 50 * US);
	CHECK_EQ(coalesce_delay(50 * US, 60000, 300000), 200 * US);
	CHECK_EQ(coalesce_delay(0, 60000, 300000), 0);
	/* No longer than the rate is known for, whatever the numbers. */
	CHECK_EQ(coalesce_delay(50 * US, 100, 100000), COALESCE_INTERVAL_NS);
	CHECK_EQ(coalesce_delay(1000000 * US, 60000, 60060), 1000 * US);
	CHECK_EQ(coalesce_delay(UINT64_MAX, 1, UINT64_MAX), COALESCE_INTERVAL_NS);
}

/* ---- A ring that is served by hand, with a guest of either format ---- */

struct hand {
	struct packed_guest pg; /* split: its guest alone */
	bool packed;
	struct queue_outbox outbox;
	struct vhc_blk *blk;
	struct vhc_ring *ring;
	struct queue *queue;
	int call_fd;
};

static bool hand_create(struct hand *hand, bool packed, uint64_t features)
{
	struct vhc_bdev *bdev = null_disk();
	struct vhc_blk_config blk = {.bdev = (uint64_t)(uintptr_t)bdev};
	struct vhc_ring_config config;

	*hand = (struct hand){.packed = packed};
	hand->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (packed ? !packed_guest_create(&hand->pg, SIZE) : !guest_create(&hand->pg.guest, SIZE))
		return false;
	config = packed ? packed_guest_config(&hand->pg, features)
			: guest_ring_config(&hand->pg.guest, features);
	config.call_fd = hand->call_fd;
	if (vhc_ring_create(&config, &hand->ring) || vhc_blk_create(&blk, &hand->blk))
		return false;
	vhc_bdev_release(bdev);
	hand->queue = queue_create_blk(hand->ring, hand->blk, NULL, &hand->outbox);
	return hand->queue != NULL;
}

static void hand_destroy(struct hand *hand)
{
	CHECK(!hand->outbox.coalesced.first || hand->outbox.coalesced.first != hand->queue);
	queue_destroy(hand->queue);
	vhc_ring_release(hand->ring);
	vhc_blk_release(hand->blk);
	guest_destroy(&hand->pg.guest);
	close(hand->call_fd);
}

/* The driver offers n chains of a descriptor each. */
static void offer(struct hand *hand, uint32_t n)
{
	struct guest *guest = &hand->pg.guest;

	for (uint32_t i = 0; i < n; i++) {
		const struct vring_desc desc = {guest_gpa(guest, guest_status(guest, i)), 1,
						VRING_DESC_F_WRITE, 0};

		if (hand->packed) {
			packed_offer(&hand->pg, &desc, 1, (uint16_t)i);
		} else {
			guest_desc(guest, i, guest_status(guest, i), 1, VRING_DESC_F_WRITE, 0);
			guest_offer(guest, (uint16_t)i);
		}
	}
	if (!hand->packed)
		guest_publish(guest);
}

/* The device takes and ends n of them, and publishes that. */
static void end(struct hand *hand, uint32_t n)
{
	struct ring_head heads[SIZE];

	REQUIRE(ring_look(hand->ring, n) >= n);
	REQUIRE_EQ(ring_take(hand->ring, heads, n), n);
	for (uint32_t i = 0; i < n; i++)
		ring_put(hand->ring, heads[i].index, 1);
	queue_publish(hand->queue);
}

/* The driver takes what was used; how many. */
static uint32_t take(struct hand *hand)
{
	struct vring_used_elem used;
	uint32_t n = 0;

	while (hand->packed ? packed_used(&hand->pg, &used) : guest_used(&hand->pg.guest, &used))
		n++;
	return n;
}

/* How often the driver was called since the last time. */
static uint64_t calls(const struct hand *hand)
{
	uint64_t count;

	return read(hand->call_fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/* As if its rate had been high: the next call is far off. */
static void make_busy(struct hand *hand)
{
	const uint64_t now = tick_now();

	coalesce_set(hand->queue, BASE_NS, 100);
	hand->queue->coalesce.next_call = now + tick_from_ns(HOUR_NS);
	hand->queue->coalesce.delay = tick_from_ns(HOUR_NS);
	/* Never measured anew in a test: the interval has not begun. */
	hand->queue->coalesce.since = now;
}

/* Publishes n, put off. A thread that stood still for 10 ms begins again. */
static void hold(struct hand *hand, uint32_t n)
{
	for (int i = 0; i < 100 && !hand->queue->coalesce.due; i++) {
		make_busy(hand);
		offer(hand, n);
		end(hand, n);
		CHECK_EQ(take(hand), n);
		if (!hand->queue->coalesce.due)
			calls(hand);
	}
	CHECK(hand->queue->coalesce.due > 0);
}

static void for_both(void (*test)(struct hand *hand), uint64_t features)
{
	struct hand hand;

	for (int packed = 0; packed < 2; packed++) {
		REQUIRE(hand_create(&hand, packed, features));
		test(&hand);
		hand_destroy(&hand);
	}
}

/* ---- What is put off ---- */

static void put_off(struct hand *hand)
{
	const struct vhc_stats *stats = hand->pg.guest.stats;

	offer(hand, 3);
	end(hand, 3);
	CHECK_EQ(calls(hand), 1);
	CHECK_EQ(stats->calls_delayed, 0);
	take(hand);
	hold(hand, 2);
	CHECK_EQ(calls(hand), 0);
	CHECK(stats->calls_delayed > 0);
	CHECK(hand->outbox.coalesced.first == hand->queue);
	/* It is sent once, for all. */
	coalesce_send(hand->queue, tick_now());
	CHECK_EQ(calls(hand), 1);
	CHECK(!hand->outbox.coalesced.first && !hand->outbox.coalesced.last);
	CHECK_EQ(hand->queue->coalesce.due, 0);
}

static void puts_calls_off(void)
{
	for_both(put_off, 0);
}

/* A driver that looks by itself when the call is sent gets none; one that looked before does. */
static void asked_late(struct hand *hand)
{
	const struct vhc_stats *stats = hand->pg.guest.stats;
	uint64_t suppressed;

	for (int quiet = 0; quiet < 2; quiet++) {
		if (hand->packed)
			packed_ask(&hand->pg, quiet ? 0 : VRING_PACKED_EVENT_FLAG_DISABLE, 0, true);
		else
			__atomic_store_n(&hand->pg.guest.avail->flags,
					 quiet ? 0 : VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_SEQ_CST);
		hold(hand, 2);
		if (hand->packed)
			packed_ask(&hand->pg, quiet ? VRING_PACKED_EVENT_FLAG_DISABLE : 0, 0, true);
		else
			__atomic_store_n(&hand->pg.guest.avail->flags,
					 quiet ? VRING_AVAIL_F_NO_INTERRUPT : 0, __ATOMIC_SEQ_CST);
		suppressed = stats->calls_suppressed;
		coalesce_send(hand->queue, tick_now());
		CHECK_EQ(calls(hand), quiet ? 0 : 1);
		CHECK_EQ(stats->calls_suppressed - suppressed, quiet);
		/* One that wants none does not make the next that it wants wait. */
		CHECK_EQ(hand->queue->coalesce.next_call > tick_now() + tick_from_ns(HOUR_NS / 2),
			 1);
	}
}

static void asks_when_it_sends(void)
{
	for_both(asked_late, 0);
}

/* ---- Event indices ---- */

/* Has the driver ask for a call once the device has passed the next but `ahead` completions. */
static void ask_at(struct hand *hand, int32_t ahead)
{
	struct packed_guest *pg = &hand->pg;

	if (hand->packed) {
		int32_t at = (int32_t)pg->used + ahead;
		bool wrap = pg->used_wrap;

		if (at >= (int32_t)pg->size || at < 0) {
			at += at < 0 ? (int32_t)pg->size : -(int32_t)pg->size;
			wrap = !wrap;
		}
		packed_ask(pg, VRING_PACKED_EVENT_FLAG_DESC, (uint32_t)at, wrap);
	} else {
		__atomic_store_n(pg->guest.used_event, (uint16_t)(pg->guest.last_used + ahead),
				 __ATOMIC_SEQ_CST);
	}
}

/* Holds three batches of 5 back, with the index `ahead` of where they begin; the calls in the end.
 */
static uint64_t calls_for(struct hand *hand, int32_t ahead)
{
	ask_at(hand, ahead);
	for (;;) {
		uint64_t before;

		hold(hand, 5);
		before = hand->queue->coalesce.due;
		for (int i = 0; i < 2; i++) {
			offer(hand, 5);
			end(hand, 5);
			CHECK_EQ(take(hand), 5);
		}
		if (hand->queue->coalesce.due == before)
			break;
		/* It stood still, and called: again, from here. */
		coalesce_set(hand->queue, 0, 0);
		calls(hand);
		ask_at(hand, ahead);
	}
	CHECK_EQ(calls(hand), 0);
	CHECK_EQ(hand->queue->coalesce.unasked, 15);
	coalesce_send(hand->queue, tick_now());
	return calls(hand);
}

static void knows_what_it_passed(struct hand *hand)
{
	/* The first of a ring is always told. */
	ask_at(hand, -1);
	offer(hand, 5);
	end(hand, 5);
	CHECK_EQ(calls(hand), 1);
	take(hand);
	/* Several laps, so that positions wrap. */
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(calls_for(hand, -1), 0);
		CHECK_EQ(calls_for(hand, 0), 1);
		CHECK_EQ(calls_for(hand, 7), 1);
		CHECK_EQ(calls_for(hand, 14), 1);
		CHECK_EQ(calls_for(hand, 15), 0);
	}
}

static void keeps_event_indices(void)
{
	for_both(knows_what_it_passed, GUEST_EVENT_IDX);
}

/* So many that an index comes round: it tells rather than not. */
static void tells_after_a_round(void)
{
	struct hand hand;

	REQUIRE(hand_create(&hand, false, GUEST_EVENT_IDX));
	ask_at(&hand, -1);
	hold(&hand, 1);
	hand.queue->coalesce.unasked += UINT16_MAX;
	coalesce_send(hand.queue, tick_now());
	CHECK_EQ(calls(&hand), 1);
	hand_destroy(&hand);
}

/* ---- Settings ---- */

/* What was due is sent when the setting changes, and when it is turned off. */
static void changed(struct hand *hand)
{
	hold(hand, 2);
	coalesce_set(hand->queue, 2 * BASE_NS, 200);
	CHECK_EQ(calls(hand), 1);
	CHECK_EQ(hand->queue->coalesce.due, 0);
	hold(hand, 2);
	coalesce_set(hand->queue, 0, 0);
	CHECK_EQ(calls(hand), 1);
	CHECK(!hand->outbox.coalesced.first);
	offer(hand, 2);
	end(hand, 2);
	CHECK_EQ(calls(hand), 1);
	/* Nothing was due. */
	coalesce_set(hand->queue, BASE_NS, 100);
	CHECK_EQ(calls(hand), 0);
}

static void sends_before_a_change(void)
{
	for_both(changed, 0);
}

/* A driver that polls has nobody to call, and no timer. */
static void leaves_polling_drivers_alone(void)
{
	struct hand hand;

	REQUIRE(hand_create(&hand, false, 0));
	close(hand.ring->call_fd);
	hand.ring->call_fd = -1;
	coalesce_set(hand.queue, BASE_NS, 100);
	CHECK_EQ(hand.queue->coalesce.base_ns, 0);
	hand_destroy(&hand);
}

/* ---- The order in which they are due ---- */

static void orders_what_is_due(void)
{
	static const uint32_t hours[] = {3, 1, 4, 2, 5};
	struct queue_outbox outbox = {0};
	struct hand hands[5];

	for (uint32_t i = 0; i < 5; i++) {
		REQUIRE(hand_create(&hands[i], i % 2, 0));
		hands[i].queue->outbox = &outbox;
		while (!hands[i].queue->coalesce.due) {
			make_busy(&hands[i]);
			hands[i].queue->coalesce.next_call += hours[i] * tick_from_ns(HOUR_NS);
			offer(&hands[i], 1);
			end(&hands[i], 1);
			take(&hands[i]);
		}
	}
	/* Out of the middle, the end and the front, and in order then. */
	for (uint32_t hour = 3, n = 5; n > 0; n--) {
		uint64_t last = 0;
		uint32_t seen = 0;

		for (struct queue *q = outbox.coalesced.first; q; q = q->coalesce.next, seen++) {
			CHECK(q->coalesce.due > last);
			last = q->coalesce.due;
			CHECK(q->coalesce.next ? q->coalesce.next->coalesce.previous == q
					       : outbox.coalesced.last == q);
		}
		CHECK_EQ(seen, n);
		for (uint32_t i = 0; i < 5; i++)
			if (hours[i] == hour)
				coalesce_set(hands[i].queue, 0, 0);
		hour = hour == 3 ? 5 : hour == 5 ? 1 : hour == 1 ? 2 : 4;
	}
	CHECK(!outbox.coalesced.first && !outbox.coalesced.last);
	for (uint32_t i = 0; i < 5; i++)
		hand_destroy(&hands[i]);
}

int main(void)
{
	RUN(follows_the_rule);
	RUN(puts_calls_off);
	RUN(asks_when_it_sends);
	RUN(keeps_event_indices);
	RUN(tells_after_a_round);
	RUN(sends_before_a_change);
	RUN(leaves_polling_drivers_alone);
	RUN(orders_what_is_due);
	return check_report();
}
