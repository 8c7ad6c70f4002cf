/* SPDX-License-Identifier: MIT */
/* The device's side of a packed ring, one request at a time, against a hand-written driver. */
#include "packed_guest.h"

#include <errno.h>
#include <sys/eventfd.h>

#include "ring.h"

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define AT (GUEST_GPA + GUEST_DATA)
#define TABLE (AT + 0x8000)

/* A guest with its ring, and what the ring answered last. */
static struct rig {
	struct packed_guest pg;
	struct vhc_ring *ring;
	struct vhc_chain chain;
	int call_fd;
} rig;

static bool rig_create(uint32_t size, uint64_t features)
{
	struct vhc_ring_config config;

	rig.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (rig.call_fd < 0 || !packed_guest_create(&rig.pg, size))
		return false;
	config = packed_guest_config(&rig.pg, features);
	config.call_fd = rig.call_fd;
	return vhc_ring_create(&config, &rig.ring) == 0;
}

static void rig_destroy(void)
{
	vhc_ring_release(rig.ring);
	guest_destroy(&rig.pg.guest);
	close(rig.call_fd);
}

static int offer(const struct vring_desc *chain, uint32_t n, uint16_t id)
{
	packed_offer(&rig.pg, chain, n, id);
	return vhc_ring_pop(rig.ring, &rig.chain);
}

/* Returns the chain that was taken last, as a device does with a malformed one. */
static void give_back(uint16_t id, uint32_t len)
{
	struct vring_used_elem used = {0};

	CHECK_EQ(vhc_ring_push(rig.ring, rig.chain.head, len), 0);
	vhc_ring_signal(rig.ring);
	CHECK(packed_used(&rig.pg, &used));
	CHECK_EQ(used.id, id);
	CHECK_EQ(used.len, len);
}

static uint32_t next_random(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

static void pops_and_pushes(void)
{
	const struct vring_desc chain[] = {
	    {AT, 100, 0, 0}, {AT + 200, 50, WRITE, 0}, {AT + 300, 1, WRITE, 0}};
	struct vring_packed_desc before[5];
	struct vring_used_elem used;

	REQUIRE(rig_create(5, 0));
	CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), 0);
	REQUIRE_EQ(offer(chain, 3, 777), 1);
	CHECK_EQ(rig.chain.num_out, 1);
	CHECK_EQ(rig.chain.num_in, 2);
	CHECK_EQ(rig.chain.out_len, 100);
	CHECK_EQ(rig.chain.in_len, 51);
	CHECK_EQ(rig.chain.iov[1].len, 50);
	vhc_copy_in(rig.chain.iov[1].addr, (const uint8_t *)"hello", 5);
	CHECK(memcmp(rig.pg.guest.memory + GUEST_DATA + 200, "hello", 5) == 0);
	memcpy(before, rig.pg.ring, sizeof(before));
	CHECK_EQ(vhc_ring_push(rig.ring, rig.chain.head, 51), 0);
	/* Nothing shows before it is published. */
	CHECK(memcmp(before, rig.pg.ring, sizeof(before)) == 0);
	vhc_ring_signal(rig.ring);
	REQUIRE(packed_used(&rig.pg, &used));
	CHECK_EQ(used.id, 777);
	CHECK_EQ(used.len, 51);
	CHECK_EQ(vhc_ring_push(rig.ring, rig.chain.head, 51), -EINVAL);
	CHECK_EQ(vhc_ring_push(rig.ring, 5, 51), -EINVAL);
	CHECK_EQ(vhc_ring_base(rig.ring), 0x80038003u);
	REQUIRE_EQ(offer(chain, 3, 0), 1);
	/* Taken and not put: one position has gone on, the other has not. */
	CHECK_EQ(vhc_ring_base(rig.ring), 0x80030001u);
	give_back(0, 0);
	CHECK_EQ(vhc_ring_base(rig.ring), 0x00010001u);
	rig_destroy();
}

/* ---- Many laps ---- */

#define PAGE 4096u

/* A chain in flight: what was offered, and the slot that the device knows it by. */
struct flight {
	uint32_t head;
	uint32_t len;
	uint16_t id;
	uint8_t tag;
};

/* Offers a chain of n descriptors that begins with a tag. */
static void offer_tagged(uint16_t id, uint32_t n, uint8_t tag, bool indirect)
{
	struct vring_desc chain[4];
	uint8_t *page = rig.pg.guest.memory + GUEST_DATA + id * (uint64_t)PAGE;
	struct vring_packed_desc *table = (struct vring_packed_desc *)(page + 1024);

	page[0] = tag;
	for (uint32_t i = 0; i < n; i++)
		chain[i] = (struct vring_desc){guest_gpa(&rig.pg.guest, page + i * 8), i + 1,
					       (uint16_t)(i + 1 == n ? WRITE : 0), 0};
	for (uint32_t i = 0; i < n && indirect; i++)
		table[i] = (struct vring_packed_desc){
		    .addr = chain[i].addr, .len = i + 1, .flags = chain[i].flags};
	if (indirect)
		chain[0] =
		    (struct vring_desc){guest_gpa(&rig.pg.guest, table), n * 16, INDIRECT, 0};
	packed_offer(&rig.pg, chain, indirect ? 1 : n, id);
}

/* Takes a chain, which is to be the one that was offered at that place. */
static bool take_tagged(struct flight *flight)
{
	uint8_t tag = 0;

	if (!CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), 1) || !CHECK(rig.chain.num_in == 1))
		return false;
	if (rig.chain.num_out > 0)
		vhc_copy_out(rig.chain.iov[0].addr, &tag, 1);
	flight->head = rig.chain.head;
	return CHECK(rig.chain.num_out == 0 || tag == flight->tag);
}

/* Ends any of those in flight. */
static void end_one(struct flight *flights, uint32_t *n, struct flight *ended, uint32_t *num_ended)
{
	uint32_t i = next_random() % *n;

	flights[i].len = next_random() % 3;
	CHECK_EQ(vhc_ring_push(rig.ring, flights[i].head, flights[i].len), 0);
	ended[(*num_ended)++] = flights[i];
	flights[i] = flights[--*n];
}

static void see_ended(const struct flight *ended, uint32_t *num_ended)
{
	struct vring_used_elem used;

	CHECK(!packed_used(&rig.pg, &used));
	vhc_ring_signal(rig.ring);
	for (uint32_t i = 0; i < *num_ended; i++) {
		if (!CHECK(packed_used(&rig.pg, &used)))
			break;
		CHECK_EQ(used.id, ended[i].id);
		CHECK_EQ(used.len, ended[i].len);
	}
	CHECK(!packed_used(&rig.pg, &used));
	*num_ended = 0;
}

/* Has another object go on where this one stopped. */
static bool replace_ring(uint64_t features)
{
	struct vhc_ring_config config = packed_guest_config(&rig.pg, features);

	config.base = vhc_ring_base(rig.ring);
	vhc_ring_release(rig.ring);
	rig.ring = NULL;
	return CHECK_EQ(vhc_ring_create(&config, &rig.ring), 0);
}

static void run_laps(uint32_t size, uint64_t features)
{
	struct flight flights[512];
	struct flight ended[512];
	uint32_t n = 0, num_ended = 0;

	for (uint32_t i = 0; i < 4000 && check_ok; i++) {
		uint32_t count = 1 + next_random() % (size < 4 ? size : 4);
		bool indirect = features && next_random() % 2;
		struct flight *flight = &flights[n];

		if ((indirect ? 1 : count) <= rig.pg.num_free && next_random() % 3) {
			do
				flight->id = (uint16_t)(next_random() % 600);
			while (rig.pg.counts[flight->id]);
			flight->tag = (uint8_t)next_random();
			offer_tagged(flight->id, count, flight->tag, indirect);
			n += take_tagged(flight);
		} else if (n > 0) {
			end_one(flights, &n, ended, &num_ended);
		}
		if (num_ended > 0 && next_random() % 4 == 0)
			see_ended(ended, &num_ended);
		if (n == 0 && num_ended == 0 && !replace_ring(features))
			return;
	}
}

/* Chains of all lengths, ended in any order, at sizes that are no powers of two too. */
static void wraps_at_any_size(void)
{
	static const uint32_t sizes[] = {1, 2, 3, 5, 7, 16, 63, 100, 257};

	REQUIRE(rig_create(1, 0));
	for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t size = sizes[i / 2];
		uint64_t features = i % 2 ? GUEST_INDIRECT : 0;
		struct vhc_ring_config config;

		packed_guest_reset(&rig.pg, size);
		config = packed_guest_config(&rig.pg, features);
		vhc_ring_release(rig.ring);
		rig.ring = NULL;
		REQUIRE_EQ(vhc_ring_create(&config, &rig.ring), 0);
		run_laps(size, features);
	}
	rig_destroy();
}

static void serves_the_largest_ring(void)
{
	struct vring_desc chain = {AT, 8, WRITE, 0};

	REQUIRE(rig_create(VHC_RING_MAX_SIZE, 0));
	for (uint32_t i = 0; i < VHC_RING_MAX_SIZE; i++)
		packed_offer(&rig.pg, &chain, 1, (uint16_t)i);
	for (uint32_t i = 0; i < VHC_RING_MAX_SIZE && check_ok; i++)
		CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), 1);
	CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), 0);
	for (uint32_t i = 0; i < VHC_RING_MAX_SIZE && check_ok; i++)
		CHECK_EQ(vhc_ring_push(rig.ring, i, i), 0);
	vhc_ring_signal(rig.ring);
	for (uint32_t i = 0; i < VHC_RING_MAX_SIZE && check_ok; i++) {
		struct vring_used_elem used;

		CHECK(packed_used(&rig.pg, &used));
	}
	CHECK_EQ(vhc_ring_base(rig.ring), 0);
	rig_destroy();
}

/* A buffer id is the driver's own affair: any number, also twice. */
static void takes_any_buffer_id(void)
{
	const struct vring_desc chain = {AT, 8, WRITE, 0};
	uint32_t first;

	REQUIRE(rig_create(4, 0));
	REQUIRE_EQ(offer(&chain, 1, 0xffff), 1);
	first = rig.chain.head;
	REQUIRE_EQ(offer(&chain, 1, 0xffff), 1);
	CHECK(rig.chain.head != first);
	CHECK_EQ(vhc_ring_push(rig.ring, rig.chain.head, 1), 0);
	CHECK_EQ(vhc_ring_push(rig.ring, first, 2), 0);
	vhc_ring_signal(rig.ring);
	CHECK_EQ(rig.pg.ring[0].id, 0xffff);
	CHECK_EQ(rig.pg.ring[0].len, 1);
	CHECK_EQ(rig.pg.ring[1].id, 0xffff);
	CHECK_EQ(rig.pg.ring[1].len, 2);
	rig_destroy();
}

/* ---- Chains of any shape ---- */

static void set_table(uint64_t gpa, const struct vring_packed_desc *table, uint32_t n)
{
	memcpy(rig.pg.guest.memory + (gpa - GUEST_GPA), table, n * sizeof(*table));
}

static void follows_indirect_tables(void)
{
	/* Of their flags only WRITE means anything, and the order is that in the table. */
	const struct vring_packed_desc table[] = {
	    {.addr = AT, .len = 16, .id = 9, .flags = INDIRECT | 0x8080},
	    {.addr = AT + 16, .len = 0, .flags = NEXT},
	    {.addr = AT + 32, .len = 8},
	    {.addr = AT + 64, .len = 32, .id = 1, .flags = WRITE | NEXT | INDIRECT},
	};
	const struct vring_desc chain = {TABLE, sizeof(table), INDIRECT, 0};
	const struct vring_desc written = {TABLE, sizeof(table), INDIRECT | WRITE, 0};

	REQUIRE(rig_create(3, GUEST_INDIRECT));
	set_table(TABLE, table, 4);
	for (int i = 0; i < 2; i++) {
		REQUIRE_EQ(offer(i ? &written : &chain, 1, 5), 1);
		CHECK_EQ(rig.chain.num_out, 2);
		CHECK_EQ(rig.chain.out_len, 24);
		CHECK_EQ(rig.chain.num_in, 1);
		CHECK_EQ(rig.chain.in_len, 32);
		give_back(5, 3);
	}
	rig_destroy();
}

static void follows_long_tables(void)
{
	struct vring_packed_desc table[VHC_CHAIN_MAX_IOV + 1];
	struct vring_desc chain = {TABLE + 3, VHC_CHAIN_MAX_IOV * 16, INDIRECT, 0};

	REQUIRE(rig_create(2, GUEST_INDIRECT));
	for (uint32_t i = 0; i <= VHC_CHAIN_MAX_IOV; i++)
		table[i] = (struct vring_packed_desc){
		    .addr = AT + i, .len = 1, .flags = i + 1 < VHC_CHAIN_MAX_IOV ? 0 : WRITE};
	set_table(TABLE + 3, table, VHC_CHAIN_MAX_IOV + 1);
	REQUIRE_EQ(offer(&chain, 1, 1), 1);
	CHECK_EQ(rig.chain.num_out, VHC_CHAIN_MAX_IOV - 1);
	CHECK_EQ(rig.chain.num_in, 1);
	give_back(1, 1);
	chain.len += 16;
	CHECK_EQ(offer(&chain, 1, 1), -ELOOP);
	give_back(1, 0);
	rig_destroy();
}

/* A chain that costs only itself: up to three descriptors, and a table. */
struct malformed {
	const char *what;
	int error;
	uint32_t n;
	struct vring_desc desc[3];
	struct vring_packed_desc table[3];
};

static const struct malformed malformed[] = {
    {"read after write", -ELOOP, 2, {{AT, 8, WRITE, 0}, {AT, 8, 0, 0}}, {{0}}},
    {"read after empty write", -ELOOP, 2, {{AT, 0, WRITE, 0}, {AT, 8, 0, 0}}, {{0}}},
    {"nowhere", -EFAULT, 1, {{0x10, 8, 0, 0}}, {{0}}},
    {"the end of memory", -EFAULT, 1, {{GUEST_GPA + GUEST_BYTES - 4, 8, 0, 0}}, {{0}}},
    {"address overflow", -EFAULT, 1, {{UINT64_MAX - 3, 8, 0, 0}}, {{0}}},
    {"huge length", -EFAULT, 1, {{AT, UINT32_MAX, WRITE, 0}}, {{0}}},
    {"third nowhere", -EFAULT, 3, {{AT, 8, 0, 0}, {AT, 8, 0, 0}, {0x10, 8, WRITE, 0}}, {{0}}},
    {"a table and more", -ELOOP, 2, {{TABLE, 16, INDIRECT, 0}, {AT, 8, 0, 0}}, {{AT, 8, 0, 0}}},
    {"more and a table", -ELOOP, 2, {{AT, 8, 0, 0}, {TABLE, 16, INDIRECT, 0}}, {{AT, 8, 0, 0}}},
    {"table of nothing", -ELOOP, 1, {{TABLE, 0, INDIRECT, 0}}, {{AT, 8, 0, 0}}},
    {"table of half", -ELOOP, 1, {{TABLE, 24, INDIRECT, 0}}, {{AT, 8, 0, 0}}},
    {"table nowhere", -EFAULT, 1, {{0x10, 16, INDIRECT, 0}}, {{AT, 8, 0, 0}}},
    {"table beyond", -EFAULT, 1, {{GUEST_GPA + GUEST_BYTES - 16, 32, INDIRECT, 0}}, {{0}}},
    {"table far beyond", -E2BIG, 1, {{TABLE, 0xfffffff0, INDIRECT, 0}}, {{AT, 8, 0, 0}}},
    {"read after write in a table",
     -ELOOP,
     1,
     {{TABLE, 48, INDIRECT, 0}},
     {{AT, 8, 0, WRITE}, {AT, 8, 0, 0}}},
    {"nowhere in a table",
     -EFAULT,
     1,
     {{TABLE, 48, INDIRECT, 0}},
     {{AT, 8, 0, 0}, {0x10, 8, 0, 0}}},
};

static void malformed_chains_cost_themselves(void)
{
	const struct vring_desc good = {AT, 8, WRITE, 0};

	REQUIRE(rig_create(5, GUEST_INDIRECT));
	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
		const struct malformed *of = &malformed[i];

		set_table(TABLE, of->table, 3);
		if (!CHECK_EQ(offer(of->desc, of->n, (uint16_t)i), of->error))
			fprintf(stderr, "  in: %s\n", of->what);
		give_back((uint16_t)i, 0);
	}
	CHECK_EQ(offer(&good, 1, 1), 1);
	rig_destroy();
}

static void indirect_has_to_be_negotiated(void)
{
	const struct vring_desc chain = {TABLE, 16, INDIRECT, 0};

	REQUIRE(rig_create(4, 0));
	CHECK_EQ(offer(&chain, 1, 0), -ELOOP);
	rig_destroy();
}

/* ---- Rings that break ---- */

/* Makes n descriptors available that go on for ever. */
static void offer_endless(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct vring_packed_desc *at = &rig.pg.ring[rig.pg.next];

		*at = (struct vring_packed_desc){
		    .addr = AT, .len = 8, .flags = NEXT | packed_guest_avail(rig.pg.wrap)};
		if (++rig.pg.next == rig.pg.size) {
			rig.pg.next = 0;
			rig.pg.wrap = !rig.pg.wrap;
		}
	}
}

static void an_endless_chain_breaks(void)
{
	static const uint32_t sizes[] = {1, 2, 7, 300};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		REQUIRE(rig_create(sizes[i], 0));
		offer_endless(sizes[i]);
		CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), -EPROTO);
		CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), -EPROTO);
		CHECK_EQ(vhc_ring_base(rig.ring), VHC_RING_BASE_PACKED);
		rig_destroy();
	}
}

/* More descriptors than are not the device's, the rest of which nobody put or showed yet. */
static void a_chain_over_others_breaks(void)
{
	const struct vring_desc chain[] = {{AT, 8, 0, 0}, {AT, 8, WRITE, 0}};

	for (int put = 0; put < 2; put++) {
		REQUIRE(rig_create(3, 0));
		REQUIRE_EQ(offer(chain, 2, 1), 1);
		if (put)
			CHECK_EQ(vhc_ring_push(rig.ring, rig.chain.head, 0), 0);
		CHECK_EQ(offer(chain, 2, 2), -EPROTO);
		rig_destroy();
	}
}

/* ---- Calls ---- */

/* Uses n chains of `count` descriptors each and signals once; whether the driver was called. */
static bool called_after(uint32_t n, uint32_t count)
{
	const struct vring_desc chain[] = {{AT, 8, WRITE, 0}, {AT, 8, WRITE, 0}, {AT, 8, WRITE, 0}};
	struct vring_used_elem used;
	uint64_t events;

	for (uint32_t i = 0; i < n; i++) {
		CHECK_EQ(offer(chain, count, (uint16_t)i), 1);
		CHECK_EQ(vhc_ring_push(rig.ring, rig.chain.head, 1), 0);
	}
	bool said = vhc_ring_signal(rig.ring) == 1;
	bool came = read(rig.call_fd, &events, sizeof(events)) == sizeof(events);

	for (uint32_t i = 0; i < n; i++)
		CHECK(packed_used(&rig.pg, &used));
	CHECK_EQ(said, came);
	return came;
}

static void calls_unless_told_not_to(void)
{
	REQUIRE(rig_create(5, 0));
	for (uint32_t i = 0; i < 9; i++) {
		packed_ask(&rig.pg, VRING_PACKED_EVENT_FLAG_ENABLE, 0, false);
		CHECK(called_after(1, 1));
		CHECK(called_after(2, 2));
		packed_ask(&rig.pg, VRING_PACKED_EVENT_FLAG_DISABLE, 0, false);
		CHECK(!called_after(1, 3));
		/* Not without EVENT_IDX, and nothing at all: better once too often. */
		packed_ask(&rig.pg, VRING_PACKED_EVENT_FLAG_DESC, 4, true);
		CHECK(called_after(1, 1));
		packed_ask(&rig.pg, 3, 0, true);
		CHECK(called_after(1, 1));
	}
	CHECK_EQ(rig.pg.guest.stats->calls, 36);
	CHECK_EQ(rig.pg.guest.stats->calls_suppressed, 9);
	CHECK_EQ(vhc_ring_signal(rig.ring), 0);
	rig_destroy();
}

/* Whether position (index, wrap) is among the count descriptors before where the driver is. */
static bool was_used(uint32_t index, bool wrap, uint32_t count)
{
	uint32_t at = rig.pg.used;
	bool lap = rig.pg.used_wrap;

	while (count-- > 0) {
		if (at == 0) {
			at = rig.pg.size;
			lap = !lap;
		}
		at--;
		if (at == index && lap == wrap)
			return true;
	}
	return false;
}

/* Every position, with either counter, at each step of several laps. */
static void calls_at_the_event(void)
{
	static const uint32_t sizes[] = {1, 2, 3, 5, 8};

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint32_t size = sizes[s];

		REQUIRE(rig_create(size, GUEST_EVENT_IDX));
		packed_ask(&rig.pg, VRING_PACKED_EVENT_FLAG_DESC, 0, false);
		/* The first time there is nothing to compare with: better once too often. */
		CHECK(called_after(1, 1));
		for (uint32_t i = 0; i < 4 * size * size * 2 && check_ok; i++) {
			uint32_t index = next_random() % size;
			bool wrap = next_random() % 2;
			uint32_t count = 1 + next_random() % (size < 3 ? size : 3);
			uint32_t n = 1 + next_random() % (size / count);
			bool called;

			packed_ask(&rig.pg, VRING_PACKED_EVENT_FLAG_DESC, index, wrap);
			called = called_after(n, count);
			CHECK_EQ(called, was_used(index, wrap, n * count));
		}
		packed_ask(&rig.pg, VRING_PACKED_EVENT_FLAG_DISABLE, 0, false);
		CHECK(!called_after(1, 1));
		packed_ask(&rig.pg, VRING_PACKED_EVENT_FLAG_ENABLE, 0, false);
		CHECK(called_after(1, 1));
		/* Beyond the ring there is none. */
		packed_ask(&rig.pg, VRING_PACKED_EVENT_FLAG_DESC, 0x7fff, rig.pg.used_wrap);
		CHECK(!called_after(1, 1));
		rig_destroy();
	}
}

/* ---- Kicks ---- */

static uint32_t device_says(void)
{
	return *(const uint32_t *)rig.pg.device;
}

static void asks_for_kicks(void)
{
	const struct vring_desc chain[] = {{AT, 8, 0, 0}, {AT, 8, WRITE, 0}};

	REQUIRE(rig_create(3, 0));
	CHECK_EQ(vhc_ring_notify(rig.ring, 0), 0);
	CHECK_EQ(rig.pg.device->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
	CHECK_EQ(vhc_ring_notify(rig.ring, 1), 0);
	CHECK_EQ(rig.pg.device->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
	packed_offer(&rig.pg, chain, 2, 0);
	CHECK_EQ(vhc_ring_notify(rig.ring, 1), 1);
	rig_destroy();
}

static void asks_for_kicks_where_it_is(void)
{
	const struct vring_desc chain[] = {{AT, 8, 0, 0}, {AT, 8, WRITE, 0}};

	REQUIRE(rig_create(3, GUEST_EVENT_IDX));
	for (uint32_t i = 0; i < 12; i++) {
		uint32_t wanted = (uint32_t)VRING_PACKED_EVENT_FLAG_DESC << 16 |
				  packed_position(rig.pg.next, rig.pg.wrap);

		CHECK_EQ(vhc_ring_notify(rig.ring, 1), 0);
		CHECK_EQ(device_says(), wanted);
		packed_offer(&rig.pg, chain, 2, 0);
		CHECK_EQ(vhc_ring_notify(rig.ring, 1), 1);
		CHECK_EQ(device_says(), wanted);
		CHECK_EQ(vhc_ring_notify(rig.ring, 0), 0);
		CHECK_EQ(rig.pg.device->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
		CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), 1);
		give_back(0, 0);
	}
	rig_destroy();
}

/* ---- Configurations ---- */

static int create_result(const struct vhc_ring_config *config)
{
	struct vhc_ring *ring = NULL;
	int result = vhc_ring_create(config, &ring);

	vhc_ring_release(ring);
	return result;
}

static void refuses_bad_configs(void)
{
	REQUIRE(rig_create(5, GUEST_EVENT_IDX));
	const struct vhc_ring_config good = packed_guest_config(&rig.pg, GUEST_EVENT_IDX);
	struct vhc_ring_config bad = good;
	CHECK_EQ(create_result(&good), 0);
#define REFUSED(field, value, error)                                                               \
	bad = good;                                                                                \
	bad.field = value;                                                                         \
	CHECK_EQ(create_result(&bad), error)
	REFUSED(size, 0, -EINVAL);
	REFUSED(size, VHC_RING_MAX_SIZE + 1, -EINVAL);
	REFUSED(base, 5, -EINVAL);
	REFUSED(base, 5u << 16, -EINVAL);
	REFUSED(base, UINT32_MAX, -EINVAL);
	REFUSED(desc, GUEST_USER + 8, -EINVAL);
	REFUSED(avail, GUEST_USER + 2, -EINVAL);
	REFUSED(used, GUEST_USER + 2, -EINVAL);
	REFUSED(desc, GUEST_USER + GUEST_BYTES - 64, -EFAULT);
	REFUSED(used, GUEST_USER + GUEST_BYTES, -EFAULT);
	REFUSED(avail, 0x1000, -EFAULT);
	rig_destroy();
}

static void breaks_when_memory_goes(void)
{
	const struct vring_desc chain = {AT, 8, WRITE, 0};

	REQUIRE(rig_create(4, 0));
	CHECK_EQ(offer(&chain, 1, 0), 1);
	CHECK_EQ(ftruncate(rig.pg.guest.fd, 0), 0);
	vhc_ring_pop(rig.ring, &rig.chain);
	CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), -EPROTO);
	rig_destroy();
}

int main(void)
{
	RUN(pops_and_pushes);
	RUN(wraps_at_any_size);
	RUN(serves_the_largest_ring);
	RUN(takes_any_buffer_id);
	RUN(follows_indirect_tables);
	RUN(follows_long_tables);
	RUN(malformed_chains_cost_themselves);
	RUN(indirect_has_to_be_negotiated);
	RUN(an_endless_chain_breaks);
	RUN(a_chain_over_others_breaks);
	RUN(calls_unless_told_not_to);
	RUN(calls_at_the_event);
	RUN(asks_for_kicks);
	RUN(asks_for_kicks_where_it_is);
	RUN(refuses_bad_configs);
	RUN(breaks_when_memory_goes);
	return check_report();
}
