/* SPDX-License-Identifier: MIT */
/* The driver side of a split ring, against its memory as virtio 2.7 describes it. */
#include "driver_ring.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)
#define DELTA UINT64_C(0x1000000000)

/* A ring and its memory as the device sees it. */
struct rig {
	struct vhc_driver_ring *ring;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t *avail_event, *used_event;
	void *memory;
	struct vhc_stats *stats;
	uint32_t size;
	int kick, call;
};

static bool rig_up(struct rig *rig, uint32_t size, uint64_t features)
{
	struct vhc_driver_ring_layout layout;
	uint64_t stats;
	if (!CHECK_EQ(vhc_driver_ring_layout(size, 0, &layout), 0) ||
	    !CHECK_EQ(vhc_stats_alloc(&stats), 0))
		return false;
	rig->memory = aligned_alloc(4096, layout.bytes);
	memset(rig->memory, 0, layout.bytes);
	rig->size = size;
	rig->desc = rig->memory;
	rig->avail = (struct vring_avail *)((uint8_t *)rig->memory + layout.avail);
	rig->used = (struct vring_used *)((uint8_t *)rig->memory + layout.used);
	rig->used_event = &rig->avail->ring[size];
	rig->avail_event = (uint16_t *)&rig->used->ring[size];
	rig->stats = (struct vhc_stats *)stats;
	rig->kick = vhc_eventfd();
	rig->call = vhc_eventfd();
	const struct vhc_driver_ring_config config = {
	    .addr = (uint64_t)rig->memory,
	    .features = features,
	    .stats = stats,
	    .gpa_delta = DELTA,
	    .size = size,
	    .kick_fd = rig->kick,
	    .call_fd = rig->call,
	};
	return CHECK_EQ(vhc_driver_ring_create(&config, &rig->ring), 0);
}

static void rig_down(struct rig *rig)
{
	vhc_driver_ring_release(rig->ring);
	vhc_stats_free((uint64_t)rig->stats);
	close(rig->kick);
	close(rig->call);
	free(rig->memory);
}

static void use(struct rig *rig, uint32_t id, uint32_t len)
{
	rig->used->ring[rig->used->idx % rig->size] =
	    (struct vring_used_elem){.id = id, .len = len};
	__atomic_store_n(&rig->used->idx, rig->used->idx + 1, __ATOMIC_SEQ_CST);
}

static uint16_t offered(const struct rig *rig, uint16_t at)
{
	return rig->avail->ring[at % rig->size];
}

static const struct vhc_iov pieces[] = {
    {0x10000, 16}, {0x20000, 4096}, {0x30000, 1}, {0x40000, 5},	 {0x50000, 6},
    {0x60000, 7},  {0x70000, 8},    {0x80000, 9}, {0x90000, 10},
};

static void layout_has_no_overlap(void)
{
	struct vhc_driver_ring_layout layout;
	for (uint32_t size = 1; size <= VHC_RING_MAX_SIZE; size *= 2) {
		REQUIRE_EQ(vhc_driver_ring_layout(size, 0, &layout), 0);
		CHECK(layout.avail >= 16 * (uint64_t)size);
		CHECK(layout.used >= layout.avail + 6 + 2 * (uint64_t)size);
		CHECK(layout.bytes >= layout.used + 6 + 8 * (uint64_t)size +
					  16 * VHC_DRIVER_RING_INDIRECT * (uint64_t)size);
		CHECK(layout.avail % 2 == 0 && layout.used % 4 == 0 && layout.bytes % 4096 == 0);
	}
	CHECK_EQ(vhc_driver_ring_layout(0, 0, &layout), -EINVAL);
	CHECK_EQ(vhc_driver_ring_layout(3, 0, &layout), -EINVAL);
	CHECK_EQ(vhc_driver_ring_layout(2 * VHC_RING_MAX_SIZE, 0, &layout), -EINVAL);
}

static void refuses_bad_memory(void)
{
	struct vhc_driver_ring *ring;
	struct vhc_driver_ring_config config = {.addr = 4096 + 16, .size = 4, .kick_fd = -1};
	CHECK_EQ(vhc_driver_ring_create(&config, &ring), -EINVAL);
	config.addr = 0;
	CHECK_EQ(vhc_driver_ring_create(&config, &ring), -EINVAL);
}

static void builds_direct_chains(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 8, 0));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 2, 1, 7), 0);
	CHECK_EQ(rig.avail->idx, 0);
	vhc_driver_ring_kick(rig.ring);
	CHECK_EQ(rig.avail->idx, 1);

	uint16_t at = offered(&rig, 0);
	for (int i = 0; i < 3; i++) {
		const struct vring_desc *d = &rig.desc[at];
		CHECK_EQ(d->addr, pieces[i].addr + DELTA);
		CHECK_EQ(d->len, pieces[i].len);
		CHECK_EQ(d->flags, i == 0 ? 1 : i == 1 ? 1 : 2);
		at = d->next;
	}
	rig_down(&rig);
}

static void builds_indirect_chains(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 8, INDIRECT));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 2, 1), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 3, 5, 2), 0);
	for (int i = 0; i < 6; i++)
		CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 1, 3), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 0, 3), -ENOSPC);
	vhc_driver_ring_kick(rig.ring);

	for (uint16_t n = 0; n < 2; n++) {
		const struct vring_desc *d = &rig.desc[offered(&rig, n)];
		CHECK_EQ(d->flags, VRING_DESC_F_INDIRECT);
		CHECK_EQ(d->len, 16 * (n ? 8 : 3));
		const struct vring_desc *table = (const struct vring_desc *)(d->addr - DELTA);
		CHECK((uint8_t *)table > (uint8_t *)&rig.used->ring[rig.size]);
		CHECK_EQ(table[1].addr, pieces[1].addr + DELTA);
		CHECK_EQ(table[1].flags, n ? 1 : 3);
		CHECK_EQ(table[1].next, 2);
		CHECK_EQ(table[n ? 7 : 2].flags, 2);
	}
	rig_down(&rig);
}

/* One piece needs no table, and more than a table holds go into the ring. */
static void other_lengths_are_direct(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 16, INDIRECT));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 0, 1), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 8, 1, 2), 0);
	vhc_driver_ring_kick(rig.ring);
	CHECK_EQ(rig.desc[offered(&rig, 0)].flags, 0);
	CHECK_EQ(rig.desc[offered(&rig, 1)].flags, VRING_DESC_F_NEXT);
	CHECK_EQ(rig.ring->num_free, 16 - 10);

	uint64_t token;
	uint32_t len;
	use(&rig, offered(&rig, 1), 1);
	CHECK_EQ(vhc_driver_ring_get(rig.ring, &token, &len), 1);
	CHECK_EQ(token, 2);
	CHECK_EQ(rig.ring->num_free, 16 - 1);
	rig_down(&rig);
}

static void refuses_bad_chains(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 4, 0));
	const struct vhc_iov empty = {0x1000, 0}, huge = {0x1000, UINT64_C(1) << 32};
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 0, 0, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 3, 2, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, &empty, 1, 0, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, &huge, 1, 0, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, UINT32_MAX, 1, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 2, 1, 0), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 1, 0), -ENOSPC);
	CHECK_EQ(rig.ring->num_free, 1);
	rig_down(&rig);
}

/* Out of order, round the ring many times and the indices round 2^16. */
static void tokens_come_back(void)
{
	struct rig rig;
	uint64_t token;
	uint32_t len;
	REQUIRE(rig_up(&rig, 8, EVENT_IDX));
	for (uint32_t round = 0; round < 70000; round++) {
		REQUIRE_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 1, 2 * round), 0);
		REQUIRE_EQ(vhc_driver_ring_add(rig.ring, pieces, 2, 1, 2 * round + 1), 0);
		vhc_driver_ring_kick(rig.ring);
		use(&rig, offered(&rig, (uint16_t)(2 * round + 1)), round);
		use(&rig, offered(&rig, (uint16_t)(2 * round)), 5);
		REQUIRE_EQ(vhc_driver_ring_get(rig.ring, &token, &len), 1);
		REQUIRE_EQ(token, 2 * round + 1);
		REQUIRE_EQ(len, round);
		REQUIRE_EQ(vhc_driver_ring_get(rig.ring, &token, &len), 1);
		REQUIRE_EQ(token, 2 * round);
		REQUIRE_EQ(vhc_driver_ring_get(rig.ring, &token, &len), 0);
	}
	CHECK_EQ(rig.ring->num_free, 8);
	rig_down(&rig);
}

static void bad_device(void (*misbehave)(struct rig *))
{
	struct rig rig;
	uint64_t token;
	uint32_t len;
	REQUIRE(rig_up(&rig, 8, 0));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 2, 1), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 2, 2), 0);
	vhc_driver_ring_kick(rig.ring);
	misbehave(&rig);
	int rc;
	for (int i = 0; (rc = vhc_driver_ring_get(rig.ring, &token, &len)) > 0; i++)
		REQUIRE(i < 2);
	CHECK_EQ(rc, -EPROTO);
	/* It stays broken. */
	CHECK_EQ(vhc_driver_ring_get(rig.ring, &token, &len), -EPROTO);
	CHECK_EQ(vhc_driver_ring_wait(rig.ring, 0), 1);
	rig_down(&rig);
}

static void return_unknown(struct rig *rig)
{
	use(rig, 8, 0);
}

static void return_huge(struct rig *rig)
{
	use(rig, UINT32_MAX, 0);
}

static void return_middle(struct rig *rig)
{
	use(rig, rig->desc[offered(rig, 0)].next, 0);
}

static void return_twice(struct rig *rig)
{
	use(rig, offered(rig, 0), 0);
	use(rig, offered(rig, 0), 0);
}

static void return_too_many(struct rig *rig)
{
	rig->used->idx = 3;
}

static void step_back(struct rig *rig)
{
	rig->used->idx = UINT16_MAX;
}

static void breaks_on_what_was_not_given(void)
{
	bad_device(return_unknown);
	bad_device(return_huge);
	bad_device(return_middle);
	bad_device(return_twice);
	bad_device(return_too_many);
	bad_device(step_back);
}

/* The device may write all of the ring's memory: nothing there leads the driver astray. */
static void believes_no_descriptor(void)
{
	struct rig rig;
	uint64_t token;
	uint32_t len;
	REQUIRE(rig_up(&rig, 8, 0));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 2, 1), 0);
	vhc_driver_ring_kick(rig.ring);
	uint16_t head = offered(&rig, 0);
	memset(rig.desc, 0xff, sizeof(*rig.desc) * rig.size);
	use(&rig, head, 1);
	CHECK_EQ(vhc_driver_ring_get(rig.ring, &token, &len), 1);
	CHECK_EQ(rig.ring->num_free, 8);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 0, 1), 0);
	rig_down(&rig);
}

static bool kicked(struct rig *rig)
{
	uint64_t count;
	return read(rig->kick, &count, sizeof(count)) == sizeof(count);
}

static void kicks_as_flags_say(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 8, 0));
	CHECK_EQ(vhc_driver_ring_kick(rig.ring), 0);
	CHECK(!kicked(&rig));
	vhc_driver_ring_add(rig.ring, pieces, 1, 0, 0);
	CHECK_EQ(vhc_driver_ring_kick(rig.ring), 1);
	CHECK(kicked(&rig));
	rig.used->flags = VRING_USED_F_NO_NOTIFY;
	vhc_driver_ring_add(rig.ring, pieces, 1, 0, 0);
	CHECK_EQ(vhc_driver_ring_kick(rig.ring), 0);
	CHECK(!kicked(&rig));
	CHECK_EQ(rig.stats->kicks, 1);
	CHECK_EQ(rig.stats->kicks_suppressed, 1);
	rig_down(&rig);
}

static void kicks_as_event_says(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 8, EVENT_IDX));
	rig.used->flags = VRING_USED_F_NO_NOTIFY; /* means nothing with EVENT_IDX */
	*rig.avail_event = 1;
	vhc_driver_ring_add(rig.ring, pieces, 1, 0, 0); /* entry 0: not awaited */
	CHECK_EQ(vhc_driver_ring_kick(rig.ring), 0);
	vhc_driver_ring_add(rig.ring, pieces, 1, 0, 0); /* entries 1, 2: 1 is */
	vhc_driver_ring_add(rig.ring, pieces, 1, 0, 0);
	CHECK_EQ(vhc_driver_ring_kick(rig.ring), 1);
	vhc_driver_ring_add(rig.ring, pieces, 1, 0, 0); /* 3: was told */
	CHECK_EQ(vhc_driver_ring_kick(rig.ring), 0);
	CHECK(kicked(&rig));
	rig_down(&rig);
}

static bool wants_call(const struct rig *rig, bool event_idx, uint16_t old)
{
	if (event_idx)
		return vring_need_event(*rig->used_event, rig->used->idx, old);
	return !(rig->avail->flags & VRING_AVAIL_F_NO_INTERRUPT);
}

/* While it polls, the driver wants no call, whatever the index, many times round. */
static void wants_no_calls_while_polling(void)
{
	struct rig rig;
	uint64_t token;
	uint32_t len;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		REQUIRE(rig_up(&rig, 4, event_idx ? EVENT_IDX : 0));
		for (uint32_t i = 0; i < 150000; i++) {
			vhc_driver_ring_add(rig.ring, pieces, 1, 0, i);
			vhc_driver_ring_kick(rig.ring);
			uint16_t old = rig.used->idx;
			use(&rig, offered(&rig, (uint16_t)i), 0);
			REQUIRE(!wants_call(&rig, event_idx, old));
			REQUIRE_EQ(vhc_driver_ring_get(rig.ring, &token, &len), 1);
		}
		rig_down(&rig);
	}
}

struct late_device {
	struct rig *rig;
	bool event_idx;
	atomic_bool called;
};

/* Waits until the driver asks for a call, then uses the chain. */
static void *use_late(void *arg)
{
	struct late_device *device = arg;
	struct rig *rig = device->rig;
	if (device->event_idx) {
		while (__atomic_load_n(rig->used_event, __ATOMIC_SEQ_CST) != 0)
			usleep(100);
	} else {
		while (__atomic_load_n(&rig->avail->flags, __ATOMIC_SEQ_CST))
			usleep(100);
	}
	use(rig, offered(rig, 0), 3);
	vhc_eventfd_signal(rig->call);
	return NULL;
}

static void wait_sleeps_until_the_call(void)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct rig rig;
		uint64_t token;
		uint32_t len;
		pthread_t thread;
		REQUIRE(rig_up(&rig, 4, event_idx ? EVENT_IDX : 0));
		vhc_driver_ring_add(rig.ring, pieces, 1, 0, 42);
		vhc_driver_ring_kick(rig.ring);
		struct late_device device = {.rig = &rig, .event_idx = event_idx};
		REQUIRE_EQ(pthread_create(&thread, NULL, use_late, &device), 0);
		CHECK_EQ(vhc_driver_ring_wait(rig.ring, 10000), 1);
		pthread_join(thread, NULL);
		CHECK_EQ(vhc_driver_ring_get(rig.ring, &token, &len), 1);
		CHECK_EQ(token, 42);
		CHECK_EQ(len, 3);
		CHECK_EQ(rig.stats->calls <= 1, 1);
		CHECK(!wants_call(&rig, event_idx, rig.used->idx - 1));
		rig_down(&rig);
	}
}

static void wait_gives_up(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 4, 0));
	CHECK_EQ(vhc_driver_ring_wait(rig.ring, 0), 0);
	vhc_eventfd_signal(rig.call); /* a call without a reason */
	CHECK_EQ(vhc_driver_ring_wait(rig.ring, 5), 0);
	CHECK_EQ(rig.stats->calls, 1);
	rig_down(&rig);
}

static void closes_its_descriptors(void)
{
	int before = check_open_fds();
	struct rig rig;
	REQUIRE(rig_up(&rig, 4, 0));
	driver_ring_ref(rig.ring);
	vhc_driver_ring_release(rig.ring);
	CHECK_EQ(check_open_fds(), before + 4);
	rig_down(&rig);
	CHECK_EQ(check_open_fds(), before);
}

int main(void)
{
	RUN(layout_has_no_overlap);
	RUN(refuses_bad_memory);
	RUN(builds_direct_chains);
	RUN(builds_indirect_chains);
	RUN(other_lengths_are_direct);
	RUN(refuses_bad_chains);
	RUN(tokens_come_back);
	RUN(breaks_on_what_was_not_given);
	RUN(believes_no_descriptor);
	RUN(kicks_as_flags_say);
	RUN(kicks_as_event_says);
	RUN(wants_no_calls_while_polling);
	RUN(wait_sleeps_until_the_call);
	RUN(wait_gives_up);
	RUN(closes_its_descriptors);
	return check_report();
}
