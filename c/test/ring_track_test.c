/* SPDX-License-Identifier: MIT */
/*
 * Rings with an in-flight region: what a successor finds and does first. That nothing is
 * lost wherever a process is killed is crash_test's.
 */
#include <errno.h>

#include "packed_guest.h"
#include "queue.h"
#include "vm.h"

#define ENTRIES 16u
#define ID 4u

static struct world {
	struct packed_guest pg;
	struct guest *guest;
	bool packed;
	int fd;
	uint8_t *region; /* as the peer sees it */
	uint64_t bytes;
	struct vhc_inflight *inflight;
	struct vhc_ring *ring;
} world;

static bool make_ring(uint32_t base)
{
	struct vhc_ring_config config =
	    world.packed ? packed_guest_config(&world.pg, 0) : guest_ring_config(world.guest, 0);

	config.base = base;
	config.inflight = (uint64_t)(uintptr_t)world.inflight;
	config.id = ID;
	world.ring = NULL;
	return CHECK_EQ(vhc_ring_create(&config, &world.ring), 0);
}

static bool world_open(bool packed)
{
	struct vhc_inflight_config config = {
	    .num_queues = 1, .queue_size = ENTRIES, .packed = packed};

	world = (struct world){.packed = packed, .guest = &world.pg.guest};
	world.bytes = (uint64_t)vhc_inflight_bytes(1, ENTRIES, packed);
	world.fd = memfd_create("inflight", MFD_CLOEXEC);
	if (world.fd < 0 || ftruncate(world.fd, (off_t)world.bytes))
		return false;
	world.region = mmap(NULL, world.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, world.fd, 0);
	config.fd = world.fd;
	config.size = world.bytes;
	return world.region != MAP_FAILED &&
	       CHECK_EQ(vhc_inflight_create(&config, &world.inflight), 0) &&
	       (packed ? packed_guest_create(&world.pg, ENTRIES)
		       : guest_create(world.guest, ENTRIES)) &&
	       make_ring(packed ? VHC_RING_BASE_PACKED : 0);
}

static void world_close(void)
{
	vhc_ring_release(world.ring);
	vhc_inflight_release(world.inflight);
	guest_destroy(world.guest);
	munmap(world.region, world.bytes);
	close(world.fd);
}

/* A crash: what the ring kept is gone, and another is made with what the front end knows. */
static bool crash(void)
{
	vhc_ring_release(world.ring);
	/* Of a packed ring it knows nothing newer. */
	return make_ring(world.packed ? VHC_RING_BASE_PACKED : world.guest->used->idx);
}

/* Offers a chain of two descriptors with 8 bytes each way; number i of those there may be. */
static void offer(uint16_t i)
{
	uint8_t *data = guest_data(world.guest, i);
	const struct vring_desc chain[] = {
	    {guest_gpa(world.guest, data), 8, 0, 0},
	    {guest_gpa(world.guest, data + 8), 16, VRING_DESC_F_WRITE, 0}};

	memset(data, i, 24);
	if (world.packed) {
		packed_offer(&world.pg, chain, 2, i);
		return;
	}
	guest_desc(world.guest, 2u * i, data, 8, VRING_DESC_F_NEXT, (uint16_t)(2 * i + 1));
	guest_desc(world.guest, 2u * i + 1, data + 8, 16, VRING_DESC_F_WRITE, 0);
	guest_offer(world.guest, (uint16_t)(2 * i));
	guest_publish(world.guest);
}

/* The next used chain's number, or -1. */
static int next_used(uint32_t *len)
{
	struct vring_used_elem used = {0};

	if (!(world.packed ? packed_used(&world.pg, &used) : guest_used(world.guest, &used)))
		return -1;
	*len = used.len;
	return (int)(world.packed ? used.id : used.id / 2);
}

/* Takes a chain that is to be number i; its head. */
static uint32_t take(uint8_t i)
{
	struct vhc_chain chain;
	uint8_t byte = 0xff;

	if (!CHECK_EQ(vhc_ring_pop(world.ring, &chain), 1))
		return UINT32_MAX;
	CHECK_EQ(chain.out_len, 8);
	CHECK_EQ(chain.in_len, 16);
	vhc_copy_out(chain.iov[0].addr, &byte, 1);
	CHECK_EQ(byte, i);
	return chain.head;
}

static void give(uint32_t head, uint32_t len)
{
	CHECK_EQ(vhc_ring_push(world.ring, head, len), 0);
	vhc_ring_signal(world.ring);
}

static void recover_by_hand(bool packed)
{
	uint32_t heads[5], len = 0;
	struct vhc_chain chain;

	REQUIRE(world_open(packed));
	for (uint8_t i = 0; i < 5; i++)
		offer(i);
	for (uint8_t i = 0; i < 5; i++)
		heads[i] = take(i);
	give(heads[3], 3);
	give(heads[1], 1);
	CHECK_EQ(next_used(&len), 3);
	CHECK_EQ(next_used(&len), 1);
	/* A third that was put and not shown. */
	CHECK_EQ(vhc_ring_push(world.ring, heads[2], 2), 0);
	offer(5);
	REQUIRE(crash());
	/* Those that were taken, in their order, and then the rest. */
	heads[0] = take(0);
	heads[2] = take(2);
	heads[4] = take(4);
	heads[1] = take(5);
	CHECK_EQ(vhc_ring_pop(world.ring, &chain), 0);
	give(heads[4], 4);
	CHECK_EQ(next_used(&len), 4);
	CHECK_EQ(len, 4);
	REQUIRE(crash());
	REQUIRE(crash());
	give(take(0), 0);
	give(take(2), 2);
	give(take(5), 5);
	CHECK_EQ(next_used(&len), 0);
	CHECK_EQ(next_used(&len), 2);
	CHECK_EQ(next_used(&len), 5);
	CHECK_EQ(next_used(&len), -1);
	CHECK_EQ(vhc_ring_base(world.ring), packed ? 0x800c800cu : 6);
	REQUIRE(crash());
	CHECK_EQ(vhc_ring_pop(world.ring, &chain), 0);
	CHECK_EQ(vhc_ring_base(world.ring), packed ? 0x800c800cu : 6);
	world_close();
}

static void a_split_successor_goes_on(void)
{
	recover_by_hand(false);
}

static void a_packed_successor_goes_on(void)
{
	recover_by_hand(true);
}

/* A crash before anything was ever completed: the first chain has head 0. */
static void the_first_chain_is_not_forgotten(void)
{
	for (int packed = 0; packed < 2; packed++) {
		uint32_t len;

		REQUIRE(world_open(packed));
		offer(0);
		take(0);
		REQUIRE(crash());
		REQUIRE(crash());
		give(take(0), 7);
		CHECK_EQ(next_used(&len), 0);
		CHECK_EQ(len, 7);
		world_close();
	}
}

/* ---- Queues ---- */

static struct rig rig;

static bool raw_open(bool packed)
{
	return world_open(packed) && rig_create(&rig, VHC_MODE_ADAPTIVE);
}

static void raw_close(void)
{
	rig_destroy(&rig);
	world_close();
}

static bool stopped(uint32_t *base)
{
	const struct vhc_upcall *up = reader_next(&rig.reader, PATIENCE_MS);

	if (!up || !CHECK_EQ(up->type, VHC_UPCALL_RING_STOPPED))
		return false;
	*base = (uint32_t)up->arg;
	return true;
}

static uint64_t next_raw(uint8_t i)
{
	const struct vhc_upcall *up = reader_next(&rig.reader, PATIENCE_MS);
	uint8_t byte = 0xff;

	if (!up || !CHECK_EQ(up->type, VHC_UPCALL_REQUEST))
		return 0;
	CHECK_EQ(vhc_request_read(up->arg, 0, &byte, 1), 1);
	CHECK_EQ(byte, i);
	return up->arg;
}

/* A ring that is stopped at once ends what its predecessor took, and takes nothing new. */
static void a_stop_waits_for_what_was_taken(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		uint32_t base = 0, len;
		uint64_t requests[2];

		REQUIRE(raw_open(packed));
		for (uint8_t i = 0; i < 3; i++)
			offer(i);
		for (uint8_t i = 0; i < 2; i++)
			take(i);
		REQUIRE(crash());
		REQUIRE_EQ(vhc_reactor_start_raw_ring(rig.reactor, world.ring), 0);
		CHECK_EQ(vhc_reactor_stop_ring(rig.reactor, world.ring), 0);
		for (uint8_t i = 0; i < 2; i++)
			requests[i] = next_raw(i);
		/* The third came up only if it was taken before the stop came. */
		vhc_request_complete_raw(requests[1], 1);
		vhc_request_complete_raw(requests[0], 2);
		if (__atomic_load_n(&world.guest->stats->inflight, __ATOMIC_RELAXED) > 2)
			vhc_request_complete_raw(next_raw(2), 3);
		REQUIRE(stopped(&base));
		CHECK(EVENTUALLY(next_used(&len) == 1));
		CHECK_EQ(next_used(&len), 0);
		raw_close();
	}
}

/* Requests in flight on a queue are found again; also when others ended in their batch. */
static void queues_mark_what_is_left(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		struct queue_outbox outbox = {0};
		struct queue *queue;

		REQUIRE(world_open(packed));
		queue = queue_create_raw(world.ring, &outbox);
		REQUIRE(queue);
		for (uint8_t i = 0; i < 4; i++)
			offer(i);
		CHECK_EQ(queue_poll(queue), 4);
		/* They would go up now. */
		queue_destroy(queue);
		REQUIRE(crash());
		for (uint8_t i = 0; i < 4; i++)
			give(take(i), 0);
		world_close();
	}
}

/* A batch that ends whole leaves nothing in the region but, packed, where the ring is. */
static void whole_batches_are_not_marked(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		uint32_t stride = packed ? 32 : 16, len;
		struct queue_outbox outbox = {0};
		struct vhc_blk_config config = {0};
		struct vhc_blk *blk;
		struct queue *queue;

		REQUIRE(world_open(packed));
		REQUIRE_EQ(vhc_blk_create(&config, &blk), 0);
		queue = queue_create_blk(world.ring, blk, NULL, &outbox);
		REQUIRE(queue);
		for (uint32_t lap = 0; lap < 9; lap++) {
			for (uint8_t i = 0; i < 4; i++)
				offer(i);
			CHECK_EQ(queue_poll(queue), 4);
			for (uint8_t i = 0; i < 4; i++)
				CHECK_EQ(next_used(&len), i);
		}
		for (uint32_t i = 0; i < ENTRIES; i++)
			CHECK_EQ(world.region[(packed ? 32 : 16) + i * stride], 0);
		queue_destroy(queue);
		vhc_blk_release(blk);
		REQUIRE(crash());
		CHECK_EQ(vhc_ring_base(world.ring), packed ? 0x80088008u : 36);
		world_close();
	}
}

/* A buffer for events that was taken is used for the next event, or goes back with none. */
static void events_use_what_was_taken(void)
{
	static const uint8_t event[16] = {1, 2, 3};

	for (int packed = 0; packed < 2 && check_ok; packed++) {
		uint32_t base = 0, len = 0;

		REQUIRE(raw_open(packed));
		for (uint8_t i = 0; i < 4; i++)
			offer(i);
		for (uint8_t i = 0; i < 3; i++)
			take(i);
		REQUIRE(crash());
		REQUIRE_EQ(vhc_reactor_start_event_ring(rig.reactor, world.ring), 0);
		CHECK_EQ(vhc_reactor_send_event(rig.reactor, world.ring, event), 1);
		CHECK_EQ(next_used(&len), 0);
		CHECK_EQ(guest_data(world.guest, 0)[10], 3);
		CHECK_EQ(vhc_reactor_stop_ring(rig.reactor, world.ring), 0);
		REQUIRE(stopped(&base));
		for (int i = 1; i < 3; i++) {
			CHECK_EQ(next_used(&len), i);
			CHECK_EQ(len, 16);
			CHECK_EQ(*(const uint32_t *)(guest_data(world.guest, (uint32_t)i) + 8), 0);
		}
		CHECK_EQ(next_used(&len), -1);
		CHECK_EQ(base, packed ? 0x80068006u : 3);
		raw_close();
	}
}

/* ---- Drivers that cheat ---- */

/* Offers again and again what was put and not shown to it yet. */
static void offering_again_breaks(void)
{
	uint32_t head, n = 0;
	struct vhc_chain chain;

	REQUIRE(world_open(false));
	offer(7);
	head = take(7);
	while (vhc_ring_push(world.ring, head, 0) == 0 && n++ < 10 * ENTRIES) {
		guest_offer(world.guest, 14);
		guest_publish(world.guest);
		if (vhc_ring_pop(world.ring, &chain) != 1)
			break;
	}
	CHECK_EQ(vhc_ring_pop(world.ring, &chain), -EPROTO);
	vhc_ring_signal(world.ring);
	world_close();
}

static void refuses_a_region_of_another_ring(void)
{
	REQUIRE(world_open(true));
	struct vhc_ring_config config = packed_guest_config(&world.pg, 0);
	struct vhc_ring *ring = NULL;
	config.inflight = (uint64_t)(uintptr_t)world.inflight;
	config.index = 1;
	CHECK_EQ(vhc_ring_create(&config, &ring), -EINVAL);
	config.index = 0;
	config.size = ENTRIES + 1;
	CHECK_EQ(vhc_ring_create(&config, &ring), -EINVAL);
	config.size = ENTRIES;
	config.features &= ~GUEST_PACKED;
	config.base = 0;
	CHECK_EQ(vhc_ring_create(&config, &ring), -EINVAL);
	world_close();
}

int main(void)
{
	RUN(a_split_successor_goes_on);
	RUN(a_packed_successor_goes_on);
	RUN(the_first_chain_is_not_forgotten);
	RUN(a_stop_waits_for_what_was_taken);
	RUN(queues_mark_what_is_left);
	RUN(whole_batches_are_not_marked);
	RUN(events_use_what_was_taken);
	RUN(offering_again_breaks);
	RUN(refuses_a_region_of_another_ring);
	return check_report();
}
