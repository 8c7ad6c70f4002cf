/* SPDX-License-Identifier: MIT */
/* The device's side of a split ring, one request at a time, against a hand-written guest. */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include "guest.h"

#define SIZE 16u

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

/* A guest with its ring, and what the ring answered last. */
struct rig {
	struct guest guest;
	struct vhc_ring *ring;
	struct vhc_chain chain;
};

static bool rig_create(struct rig *rig, uint64_t features)
{
	if (!guest_create(&rig->guest, SIZE))
		return false;
	rig->ring = guest_ring(&rig->guest, features);
	return rig->ring != NULL;
}

static void rig_destroy(struct rig *rig)
{
	vhc_ring_release(rig->ring);
	guest_destroy(&rig->guest);
}

/* Offers one chain and takes it. */
static int offer(struct rig *rig, uint16_t head)
{
	guest_offer(&rig->guest, head);
	guest_publish(&rig->guest);
	return vhc_ring_pop(rig->ring, &rig->chain);
}

/* Returns the chain that was taken, as a device does with a malformed one. */
static void give_back(struct rig *rig)
{
	struct vring_used_elem used = {.id = SIZE};

	CHECK_EQ(vhc_ring_push(rig->ring, rig->chain.head, 0), 0);
	vhc_ring_signal(rig->ring);
	CHECK(guest_used(&rig->guest, &used));
	CHECK_EQ(used.id, rig->chain.head);
	CHECK_EQ(used.len, 0);
}

static void pops_and_pushes(void)
{
	struct rig rig;
	struct vring_used_elem used;

	REQUIRE(rig_create(&rig, 0));
	uint8_t *data = guest_data(&rig.guest, 0);
	CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), 0);
	guest_desc(&rig.guest, 5, data, 100, NEXT, 2);
	guest_desc(&rig.guest, 2, data + 200, 50, NEXT | WRITE, 9);
	guest_desc(&rig.guest, 9, data + 300, 1, WRITE, 0);
	REQUIRE_EQ(offer(&rig, 5), 1);
	CHECK_EQ(rig.chain.head, 5);
	CHECK_EQ(rig.chain.num_out, 1);
	CHECK_EQ(rig.chain.num_in, 2);
	CHECK_EQ(rig.chain.out_len, 100);
	CHECK_EQ(rig.chain.in_len, 51);
	CHECK_EQ(rig.chain.iov[1].len, 50);
	vhc_copy_in(rig.chain.iov[1].addr, (const uint8_t *)"hello", 5);
	CHECK(memcmp(data + 200, "hello", 5) == 0);
	CHECK_EQ(vhc_ring_push(rig.ring, 5, 51), 0);
	CHECK(!guest_used(&rig.guest, &used));
	vhc_ring_signal(rig.ring);
	REQUIRE(guest_used(&rig.guest, &used));
	CHECK_EQ(used.id, 5);
	CHECK_EQ(used.len, 51);
	CHECK_EQ(vhc_ring_push(rig.ring, 5, 51), -EINVAL);
	CHECK_EQ(vhc_ring_push(rig.ring, SIZE, 51), -EINVAL);
	CHECK_EQ(vhc_ring_base(rig.ring), 1);
	rig_destroy(&rig);
}

static void follows_indirect_tables(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, GUEST_INDIRECT));
	uint8_t *data = guest_data(&rig.guest, 0);
	struct vring_desc *table = (struct vring_desc *)(data + 512);
	table[0] = (struct vring_desc){guest_gpa(&rig.guest, data), 16, NEXT, 2};
	table[2] = (struct vring_desc){guest_gpa(&rig.guest, data + 16), 32, WRITE, 0};
	guest_desc(&rig.guest, 3, table, 3 * sizeof(*table), INDIRECT, 0);
	REQUIRE_EQ(offer(&rig, 3), 1);
	CHECK_EQ(rig.chain.num_out, 1);
	CHECK_EQ(rig.chain.in_len, 32);
	give_back(&rig);
	/* The write flag of the descriptor that refers to a table means nothing (2.7.5.3.2). */
	guest_desc(&rig.guest, 3, table, 3 * sizeof(*table), INDIRECT | WRITE, 0);
	CHECK_EQ(offer(&rig, 3), 1);
	give_back(&rig);
	/* Normal descriptors may come before one that refers to a table. */
	guest_desc(&rig.guest, 1, data, 4, NEXT, 3);
	REQUIRE_EQ(offer(&rig, 1), 1);
	CHECK_EQ(rig.chain.num_out, 2);
	CHECK_EQ(rig.chain.out_len, 20);
	give_back(&rig);
	rig_destroy(&rig);
}

/* Tables may be longer than the ring, and lie at any address. */
static void follows_long_tables(void)
{
	struct rig rig;
	uint32_t n = VHC_CHAIN_MAX_IOV;

	REQUIRE(rig_create(&rig, GUEST_INDIRECT));
	uint8_t *data = guest_data(&rig.guest, 0);
	uint8_t *table = data + 64 * 1024 + 3;
	for (uint32_t i = 0; i < n; i++) {
		struct vring_desc desc = {guest_gpa(&rig.guest, data + i), 1,
					  (uint16_t)(i < n - 1 ? NEXT : WRITE), (uint16_t)(i + 1)};
		memcpy(table + i * sizeof(desc), &desc, sizeof(desc));
	}
	guest_desc(&rig.guest, 0, table, n * 16, INDIRECT, 0);
	REQUIRE_EQ(offer(&rig, 0), 1);
	CHECK_EQ(rig.chain.num_out, n - 1);
	CHECK_EQ(rig.chain.num_in, 1);
	give_back(&rig);
	/* One more, though the table ends there. */
	uint16_t flags = NEXT;
	memcpy(table + (n - 1) * 16 + 12, &flags, 2);
	CHECK_EQ(offer(&rig, 0), -ELOOP);
	give_back(&rig);
	rig_destroy(&rig);
}

/* A table that lies in two regions, and data that does, in a guest with two. */
static void crosses_regions(void)
{
	struct guest guest;
	struct vhc_mem *mem;
	struct vhc_ring *ring = NULL;
	struct vhc_chain chain;

	REQUIRE(guest_create(&guest, SIZE));
	uint64_t half = GUEST_BYTES / 2;
	REQUIRE_EQ(vhc_mem_create(&mem), 0);
	REQUIRE_EQ(vhc_mem_add_region(mem, GUEST_GPA, half, GUEST_USER, guest.fd, 0), 0);
	REQUIRE_EQ(
	    vhc_mem_add_region(mem, GUEST_GPA + half, half, GUEST_USER + half, guest.fd, half), 0);
	struct vhc_ring_config config = guest_ring_config(&guest, GUEST_INDIRECT);
	config.mem = (uint64_t)(uintptr_t)mem;
	REQUIRE_EQ(vhc_ring_create(&config, &ring), 0);
	struct vring_desc *table = (struct vring_desc *)(guest.memory + half - 8);
	struct vring_desc first = {GUEST_GPA + half - 100, 300, NEXT, 1};
	struct vring_desc second = {GUEST_GPA + half + 4096, 5, WRITE, 0};
	memcpy(table, &first, sizeof(first));
	memcpy(table + 1, &second, sizeof(second));
	guest_desc(&guest, 0, table, 2 * sizeof(*table), INDIRECT, 0);
	guest_offer(&guest, 0);
	guest_publish(&guest);
	REQUIRE_EQ(vhc_ring_pop(ring, &chain), 1);
	CHECK_EQ(chain.num_out, 2);
	CHECK_EQ(chain.iov[0].len, 100);
	CHECK_EQ(chain.iov[1].len, 200);
	CHECK_EQ(chain.in_len, 5);
	vhc_ring_release(ring);
	vhc_mem_release(mem);
	guest_destroy(&guest);
}

/* A chain that costs only itself: descriptor 0 and a table, written before it is offered. */
struct malformed {
	const char *what;
	int error;
	struct vring_desc desc[3];
	struct vring_desc table[3];
};

#define AT (GUEST_GPA + GUEST_DATA)
#define TABLE (AT + 1024)

static const struct malformed malformed[] = {
    {"loop on itself", -ELOOP, {{AT, 8, NEXT, 0}}, {{0}}},
    {"loop of two", -ELOOP, {{AT, 8, NEXT, 1}, {AT, 8, NEXT, 0}}, {{0}}},
    {"loop of nothing", -ELOOP, {{AT, 0, NEXT, 0}}, {{0}}},
    {"next beyond the ring", -ELOOP, {{AT, 8, NEXT, SIZE}}, {{0}}},
    {"next far beyond", -ELOOP, {{AT, 8, NEXT, 0xffff}}, {{0}}},
    {"read after write", -ELOOP, {{AT, 8, NEXT | WRITE, 1}, {AT, 8, 0, 0}}, {{0}}},
    {"read after empty write", -ELOOP, {{AT, 0, NEXT | WRITE, 1}, {AT, 8, 0, 0}}, {{0}}},
    {"nowhere", -EFAULT, {{0x10, 8, 0, 0}}, {{0}}},
    {"the end of memory", -EFAULT, {{GUEST_GPA + GUEST_BYTES - 4, 8, 0, 0}}, {{0}}},
    {"address overflow", -EFAULT, {{UINT64_MAX - 3, 8, 0, 0}}, {{0}}},
    {"huge length", -EFAULT, {{AT, UINT32_MAX, WRITE, 0}}, {{0}}},
    {"second nowhere", -EFAULT, {{AT, 8, NEXT, 1}, {0x10, 8, WRITE, 0}}, {{0}}},
    {"table and next", -ELOOP, {{TABLE, 16, INDIRECT | NEXT, 1}}, {{AT, 8, 0, 0}}},
    {"table of nothing", -ELOOP, {{TABLE, 0, INDIRECT, 0}}, {{AT, 8, 0, 0}}},
    {"table of half", -ELOOP, {{TABLE, 24, INDIRECT, 0}}, {{AT, 8, 0, 0}}},
    {"table nowhere", -EFAULT, {{0x10, 16, INDIRECT, 0}}, {{AT, 8, 0, 0}}},
    {"table beyond memory", -EFAULT, {{GUEST_GPA + GUEST_BYTES - 16, 32, INDIRECT, 0}}, {{0}}},
    {"table far beyond", -E2BIG, {{TABLE, 0xfffffff0, INDIRECT, 0}}, {{AT, 8, 0, 0}}},
    {"table in a table", -ELOOP, {{TABLE, 48, INDIRECT, 0}}, {{TABLE, 16, INDIRECT, 0}}},
    {"table later in a table",
     -ELOOP,
     {{TABLE, 48, INDIRECT, 0}},
     {{AT, 8, NEXT, 1}, {TABLE, 16, INDIRECT, 0}}},
    {"next beyond the table", -ELOOP, {{TABLE, 16, INDIRECT, 0}}, {{AT, 8, NEXT, 1}}},
    {"loop in a table", -ELOOP, {{TABLE, 48, INDIRECT, 0}}, {{AT, 1, NEXT, 1}, {AT, 1, NEXT, 0}}},
    {"read after write in a table",
     -ELOOP,
     {{TABLE, 48, INDIRECT, 0}},
     {{AT, 8, NEXT | WRITE, 1}, {AT, 8, 0, 0}}},
};

static void malformed_chains_cost_themselves(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, GUEST_INDIRECT));
	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
		const struct malformed *of = &malformed[i];
		int result;

		memcpy(rig.guest.desc, of->desc, sizeof(of->desc));
		memcpy(rig.guest.memory + GUEST_DATA + 1024, of->table, sizeof(of->table));
		result = offer(&rig, 0);
		if (!CHECK_EQ(result, of->error))
			fprintf(stderr, "  in: %s\n", of->what);
		give_back(&rig);
	}
	/* And the ring still works. */
	guest_desc(&rig.guest, 0, guest_data(&rig.guest, 0), 8, WRITE, 0);
	CHECK_EQ(offer(&rig, 0), 1);
	rig_destroy(&rig);
}

static void indirect_has_to_be_negotiated(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, 0));
	guest_desc(&rig.guest, 0, guest_data(&rig.guest, 0), 16, INDIRECT, 0);
	CHECK_EQ(offer(&rig, 0), -ELOOP);
	rig_destroy(&rig);
}

static void empty_descriptors_add_nothing(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, 0));
	guest_desc(&rig.guest, 0, guest_data(&rig.guest, 0), 8, NEXT, 1);
	rig.guest.desc[1] = (struct vring_desc){UINT64_MAX, 0, NEXT, 2};
	guest_desc(&rig.guest, 2, guest_data(&rig.guest, 0), 4, WRITE, 0);
	REQUIRE_EQ(offer(&rig, 0), 1);
	CHECK_EQ(rig.chain.num_out, 1);
	CHECK_EQ(rig.chain.num_in, 1);
	rig_destroy(&rig);
}

static void a_head_beyond_the_table_breaks(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, 0));
	CHECK_EQ(offer(&rig, SIZE), -EPROTO);
	CHECK_EQ(offer(&rig, 0), -EPROTO);
	CHECK_EQ(vhc_ring_base(rig.ring), 0);
	rig_destroy(&rig);
}

static void a_head_taken_twice_breaks(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, 0));
	guest_desc(&rig.guest, 0, guest_data(&rig.guest, 0), 8, WRITE, 0);
	CHECK_EQ(offer(&rig, 0), 1);
	CHECK_EQ(offer(&rig, 0), -EPROTO);
	rig_destroy(&rig);
}

static void an_index_that_jumps_breaks(void)
{
	struct vhc_ring_config config;
	struct rig rig;
	int err = eventfd(0, EFD_CLOEXEC);

	REQUIRE(guest_create(&rig.guest, SIZE));
	config = guest_ring_config(&rig.guest, 0);
	config.err_fd = err;
	REQUIRE_EQ(vhc_ring_create(&config, &rig.ring), 0);
	rig.guest.next_avail = SIZE + 1;
	guest_publish(&rig.guest);
	CHECK(!check_readable(err, 0));
	CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), -EPROTO);
	CHECK(check_readable(err, 0));
	rig_destroy(&rig);
	close(err);
}

/* Indices are 16 bits wide and wrap. */
static void wraps(void)
{
	struct vhc_ring_config config;
	struct rig rig;

	REQUIRE(guest_create(&rig.guest, SIZE));
	config = guest_ring_config(&rig.guest, 0);
	config.base = 65530;
	rig.guest.next_avail = 65530;
	rig.guest.last_used = rig.guest.used->idx = 65533;
	guest_publish(&rig.guest);
	REQUIRE_EQ(vhc_ring_create(&config, &rig.ring), 0);
	for (uint32_t i = 0; i < 20; i++) {
		guest_desc(&rig.guest, i % SIZE, guest_data(&rig.guest, 0), 8, WRITE, 0);
		CHECK_EQ(offer(&rig, (uint16_t)(i % SIZE)), 1);
		give_back(&rig);
	}
	CHECK_EQ(vhc_ring_base(rig.ring), 14);
	rig_destroy(&rig);
}

/* Uses n chains and signals once; whether the driver was called. */
static bool called_after(struct rig *rig, int call_fd, uint32_t n)
{
	uint64_t count;

	for (uint32_t i = 0; i < n; i++) {
		guest_desc(&rig->guest, 0, guest_data(&rig->guest, 0), 8, WRITE, 0);
		CHECK_EQ(offer(rig, 0), 1);
		CHECK_EQ(vhc_ring_push(rig->ring, 0, 0), 0);
	}
	bool said = vhc_ring_signal(rig->ring) == 1;
	bool came = read(call_fd, &count, sizeof(count)) == sizeof(count);
	CHECK_EQ(said, came);
	return came;
}

static bool rig_with_call(struct rig *rig, uint64_t features, int *call_fd)
{
	struct vhc_ring_config config;

	*call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (*call_fd < 0 || !guest_create(&rig->guest, SIZE))
		return false;
	config = guest_ring_config(&rig->guest, features);
	config.call_fd = *call_fd;
	return vhc_ring_create(&config, &rig->ring) == 0;
}

static void calls_unless_told_not_to(void)
{
	struct rig rig;
	int call_fd;

	REQUIRE(rig_with_call(&rig, 0, &call_fd));
	CHECK(called_after(&rig, call_fd, 1));
	CHECK(called_after(&rig, call_fd, 3));
	rig.guest.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	CHECK(!called_after(&rig, call_fd, 1));
	rig.guest.avail->flags = 0;
	CHECK(called_after(&rig, call_fd, 1));
	CHECK_EQ(rig.guest.stats->calls, 3);
	CHECK_EQ(rig.guest.stats->calls_suppressed, 1);
	/* Nothing new, nothing to say. */
	CHECK_EQ(vhc_ring_signal(rig.ring), 0);
	rig_destroy(&rig);
	close(call_fd);
}

static void calls_at_the_used_event(void)
{
	struct rig rig;
	int call_fd;

	REQUIRE(rig_with_call(&rig, GUEST_EVENT_IDX, &call_fd));
	/* The first time there is nothing to compare with: better once too often. */
	*rig.guest.used_event = 100;
	CHECK(called_after(&rig, call_fd, 1));	/* used index 1 */
	CHECK(!called_after(&rig, call_fd, 1)); /* 2 */
	*rig.guest.used_event = 2;
	CHECK(called_after(&rig, call_fd, 1)); /* 3: the event is passed */
	*rig.guest.used_event = 6;
	CHECK(!called_after(&rig, call_fd, 3)); /* 6: not yet */
	CHECK(called_after(&rig, call_fd, 4));	/* 10: passed in a batch */
	CHECK(!called_after(&rig, call_fd, 1));
	/* avail->flags means nothing with EVENT_IDX. */
	*rig.guest.used_event = 11;
	rig.guest.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	CHECK(called_after(&rig, call_fd, 1));
	rig_destroy(&rig);
	close(call_fd);
}

static void asks_for_kicks(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, 0));
	CHECK_EQ(vhc_ring_notify(rig.ring, 0), 0);
	CHECK_EQ(rig.guest.used->flags, VRING_USED_F_NO_NOTIFY);
	CHECK_EQ(vhc_ring_notify(rig.ring, 1), 0);
	CHECK_EQ(rig.guest.used->flags, 0);
	guest_offer(&rig.guest, 0);
	guest_publish(&rig.guest);
	CHECK_EQ(vhc_ring_notify(rig.ring, 1), 1);
	rig_destroy(&rig);
	REQUIRE(rig_create(&rig, GUEST_EVENT_IDX));
	guest_desc(&rig.guest, 0, guest_data(&rig.guest, 0), 8, WRITE, 0);
	CHECK_EQ(offer(&rig, 0), 1);
	CHECK_EQ(*rig.guest.avail_event, 0);
	CHECK_EQ(vhc_ring_notify(rig.ring, 1), 0);
	CHECK_EQ(*rig.guest.avail_event, 1);
	CHECK_EQ(rig.guest.used->flags, 0);
	rig_destroy(&rig);
}

static int create_result(const struct vhc_ring_config *config)
{
	struct vhc_ring *ring = NULL;
	int result = vhc_ring_create(config, &ring);

	vhc_ring_release(ring);
	return result;
}

static void refuses_bad_configs(void)
{
	struct guest guest;
	int file;

	REQUIRE(guest_create(&guest, SIZE));
	const struct vhc_ring_config good = guest_ring_config(&guest, GUEST_EVENT_IDX);
	struct vhc_ring_config bad = good;
	CHECK_EQ(create_result(&good), 0);
#define REFUSED(field, value, error)                                                               \
	bad = good;                                                                                \
	bad.field = value;                                                                         \
	CHECK_EQ(create_result(&bad), error)
	REFUSED(size, 0, -EINVAL);
	REFUSED(size, 15, -EINVAL);
	REFUSED(size, 65536, -EINVAL);
	REFUSED(base, 65536, -EINVAL);
	REFUSED(desc, GUEST_USER + 8, -EINVAL);
	REFUSED(avail, GUEST_USER + 1, -EINVAL);
	REFUSED(used, GUEST_USER + 2, -EINVAL);
	REFUSED(desc, GUEST_USER + GUEST_BYTES - 16, -EFAULT);
	REFUSED(used, GUEST_USER + GUEST_BYTES - 4 - 8 * SIZE, -EFAULT);
	REFUSED(avail, 0x1000, -EFAULT);
	REFUSED(mem, 0, -EINVAL);
	REFUSED(stats, 0, -EINVAL);
	file = guest.fd;
	REFUSED(kick_fd, file, -EINVAL);
	REFUSED(call_fd, file, -EINVAL);
	REFUSED(err_fd, file, -EINVAL);
	guest_destroy(&guest);
}

static void breaks_when_memory_goes(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, 0));
	guest_desc(&rig.guest, 0, guest_data(&rig.guest, 0), 8, WRITE, 0);
	CHECK_EQ(offer(&rig, 0), 1);
	CHECK_EQ(ftruncate(rig.guest.fd, 0), 0);
	/* Finds zeroes in place of the avail ring; then knows why. */
	vhc_ring_pop(rig.ring, &rig.chain);
	CHECK_EQ(vhc_ring_pop(rig.ring, &rig.chain), -EPROTO);
	CHECK_EQ(vhc_mem_faulted(rig.guest.mem), 1);
	rig_destroy(&rig);
}

static void keeps_its_own_references(void)
{
	struct rig rig;
	int before = check_open_fds();

	REQUIRE(rig_create(&rig, 0));
	guest_desc(&rig.guest, 0, guest_data(&rig.guest, 0), 8, WRITE, 0);
	vhc_mem_release(rig.guest.mem);
	CHECK_EQ(offer(&rig, 0), 1);
	rig.guest.mem = NULL;
	rig_destroy(&rig);
	CHECK_EQ(check_open_fds(), before);
}

int main(void)
{
	RUN(pops_and_pushes);
	RUN(follows_indirect_tables);
	RUN(follows_long_tables);
	RUN(crosses_regions);
	RUN(malformed_chains_cost_themselves);
	RUN(indirect_has_to_be_negotiated);
	RUN(empty_descriptors_add_nothing);
	RUN(a_head_beyond_the_table_breaks);
	RUN(a_head_taken_twice_breaks);
	RUN(an_index_that_jumps_breaks);
	RUN(wraps);
	RUN(calls_unless_told_not_to);
	RUN(calls_at_the_used_event);
	RUN(asks_for_kicks);
	RUN(refuses_bad_configs);
	RUN(breaks_when_memory_goes);
	RUN(keeps_its_own_references);
	return check_report();
}
