/* SPDX-License-Identifier: MIT */
/* The driver side of a packed ring, against its memory as virtio 2.8 describes it. */
#include "driver_ring.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "fake_ring.h"

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)
#define PACKED (UINT64_C(1) << VIRTIO_F_RING_PACKED)
#define DELTA UINT64_C(0x1000000000)

/* A ring, its memory as the device sees it, and a device. */
struct rig {
	struct vhc_driver_ring *ring;
	struct fake_ring device;
	struct vring_packed_desc *desc;
	struct vring_packed_desc_event *driver_event, *device_event;
	uint8_t *memory;
	struct vhc_driver_ring_layout layout;
	struct vhc_stats *stats;
	uint32_t size;
};

/* delta: what the driver adds to addresses; a fake device follows tables only without one. */
static bool rig_up(struct rig *rig, uint32_t size, uint64_t features, uint64_t delta)
{
	uint64_t stats;
	*rig = (struct rig){.size = size};
	if (!CHECK_EQ(vhc_driver_ring_layout(size, PACKED, &rig->layout), 0) ||
	    !CHECK_EQ(vhc_stats_alloc(&stats), 0))
		return false;
	rig->memory = aligned_alloc(4096, rig->layout.bytes);
	memset(rig->memory, 0, rig->layout.bytes);
	rig->stats = (struct vhc_stats *)stats;
	rig->desc = (struct vring_packed_desc *)rig->memory;
	rig->driver_event = (struct vring_packed_desc_event *)(rig->memory + rig->layout.avail);
	rig->device_event = (struct vring_packed_desc_event *)(rig->memory + rig->layout.used);
	const struct vhc_driver_ring_config config = {
	    .addr = (uint64_t)rig->memory,
	    .features = features | PACKED,
	    .stats = stats,
	    .gpa_delta = delta,
	    .size = size,
	    .kick_fd = vhc_eventfd(),
	    .call_fd = vhc_eventfd(),
	};
	rig->device =
	    fake_ring_at(config.addr, size, config.features, config.kick_fd, config.call_fd);
	return CHECK_EQ(vhc_driver_ring_create(&config, &rig->ring), 0);
}

static void rig_down(struct rig *rig)
{
	vhc_driver_ring_release(rig->ring);
	vhc_stats_free((uint64_t)rig->stats);
	close(rig->device.kick_fd);
	close(rig->device.call_fd);
	free(rig->memory);
}

/* Gets a used chain's token and length into the rig's reader: what vhc_driver_ring_get says. */
static int get(struct rig *rig, uint64_t *token, uint32_t *len)
{
	*token = UINT64_MAX;
	*len = UINT32_MAX;
	return vhc_driver_ring_get(rig->ring, token, len);
}

static const struct vhc_iov pieces[] = {
    {0x10000, 16}, {0x20000, 4096}, {0x30000, 1}, {0x40000, 5},	 {0x50000, 6},
    {0x60000, 7},  {0x70000, 8},    {0x80000, 9}, {0x90000, 10},
};

static uint32_t next_random(void)
{
	static uint64_t state = 88172645463325252u;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

/* ---- Memory -------------------------------------------------------------------------- */

static void layout_has_no_overlap(void)
{
	struct vhc_driver_ring_layout layout;
	for (uint32_t size = 1; size <= VHC_RING_MAX_SIZE; size++) {
		REQUIRE_EQ(vhc_driver_ring_layout(size, PACKED | EVENT_IDX, &layout), 0);
		REQUIRE(layout.avail >= 16 * (uint64_t)size && layout.avail % 4 == 0);
		REQUIRE(layout.used >= layout.avail + 4 && layout.used % 4 == 0);
		REQUIRE(layout.bytes >=
			layout.used + 4 + 16 * VHC_DRIVER_RING_INDIRECT * (uint64_t)size);
		REQUIRE(layout.bytes % 4096 == 0);
	}
	CHECK_EQ(vhc_driver_ring_layout(0, PACKED, &layout), -EINVAL);
	CHECK_EQ(vhc_driver_ring_layout(VHC_RING_MAX_SIZE + 1, PACKED, &layout), -EINVAL);
}

static void refuses_bad_memory(void)
{
	struct vhc_driver_ring *ring;
	struct vhc_driver_ring_config config = {
	    .addr = 4096 + 16, .features = PACKED, .size = 3, .kick_fd = -1};
	CHECK_EQ(vhc_driver_ring_create(&config, &ring), -EINVAL);
	config.addr = 0;
	CHECK_EQ(vhc_driver_ring_create(&config, &ring), -EINVAL);
}

/* ---- Chains -------------------------------------------------------------------------- */

static void check_desc(const struct vring_packed_desc *d, uint32_t i, uint16_t flags)
{
	CHECK_EQ(d->addr, pieces[i].addr + DELTA);
	CHECK_EQ(d->len, pieces[i].len);
	CHECK_EQ(d->flags, flags);
}

static void writes_direct_chains(void)
{
	struct rig rig;
	const uint16_t here = FAKE_AVAIL, next = FAKE_USED; /* in this round, in the next */
	REQUIRE(rig_up(&rig, 5, 0, DELTA));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 2, 1, 7), 0);
	CHECK(!fake_waits(&rig.device));
	vhc_driver_ring_kick(rig.ring);
	CHECK(fake_waits(&rig.device));
	check_desc(&rig.desc[0], 0, here | VRING_DESC_F_NEXT);
	check_desc(&rig.desc[1], 1, here | VRING_DESC_F_NEXT);
	check_desc(&rig.desc[2], 2, here | VRING_DESC_F_WRITE);
	struct fake_chain chain;
	uint64_t token;
	uint32_t len;
	CHECK(fake_take(&rig.device, &chain));
	fake_return_chain(&rig.device, &chain, 9);
	CHECK_EQ(get(&rig, &token, &len), 1);
	CHECK(token == 7 && len == 9);

	/* The next goes over the ring's end. */
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 0, 4, 8), 0);
	vhc_driver_ring_kick(rig.ring);
	check_desc(&rig.desc[3], 0, here | VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
	check_desc(&rig.desc[4], 1, here | VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
	check_desc(&rig.desc[0], 2, next | VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
	check_desc(&rig.desc[1], 3, next | VRING_DESC_F_WRITE);
	rig_down(&rig);
}

static void shows_a_batch_at_once(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 8, 0, DELTA));
	for (int i = 0; i < 4; i++)
		CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 1, 0), 0);
	CHECK_EQ(rig.desc[0].flags, 0);
	CHECK_EQ(rig.desc[2].flags, FAKE_AVAIL | VRING_DESC_F_NEXT);
	vhc_driver_ring_kick(rig.ring);
	CHECK_EQ(rig.desc[0].flags, FAKE_AVAIL | VRING_DESC_F_NEXT);
	/* IDs differ, as long as they are in flight. */
	for (int i = 0; i < 4; i++) {
		for (int j = 0; j < i; j++)
			CHECK(rig.desc[2 * i + 1].id != rig.desc[2 * j + 1].id);
	}
	rig_down(&rig);
}

static void writes_indirect_chains(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 7, INDIRECT, DELTA));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 2, 1), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 3, 4, 2), 0);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 1, 3), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 0, 3), -ENOSPC);
	vhc_driver_ring_kick(rig.ring);
	for (uint32_t n = 0; n < 2; n++) {
		const struct vring_packed_desc *d = &rig.desc[n];
		CHECK_EQ(d->flags, FAKE_AVAIL | VRING_DESC_F_INDIRECT);
		CHECK_EQ(d->len, 16 * (n ? 7 : 3));
		const struct vring_packed_desc *table =
		    (const struct vring_packed_desc *)(d->addr - DELTA);
		CHECK((uint8_t *)table >= rig.memory + rig.layout.used + 4);
		CHECK((uint8_t *)&table[8] <= rig.memory + rig.layout.bytes);
		for (uint32_t i = 0; i < d->len / 16; i++)
			check_desc(&table[i], i, i >= (n ? 3 : 1) ? VRING_DESC_F_WRITE : 0);
	}
	rig_down(&rig);
}

/* One piece needs no table, and more than a table holds go into the ring. */
static void other_lengths_are_direct(void)
{
	struct rig rig;
	uint64_t token;
	uint32_t len;
	struct fake_chain chain;
	REQUIRE(rig_up(&rig, 16, INDIRECT, DELTA));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 0, 1), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 8, 1, 2), 0);
	vhc_driver_ring_kick(rig.ring);
	CHECK_EQ(rig.desc[0].flags, FAKE_AVAIL);
	CHECK_EQ(rig.desc[1].flags, FAKE_AVAIL | VRING_DESC_F_NEXT);
	CHECK_EQ(rig.ring->num_free, 16 - 10);
	CHECK(fake_take(&rig.device, &chain));
	CHECK(fake_take(&rig.device, &chain));
	CHECK_EQ(chain.count, 9);
	fake_return_chain(&rig.device, &chain, 1);
	CHECK_EQ(get(&rig, &token, &len), 1);
	CHECK_EQ(token, 2);
	CHECK_EQ(rig.ring->num_free, 16 - 1);
	rig_down(&rig);
}

static void refuses_bad_chains(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 3, 0, DELTA));
	const struct vhc_iov empty = {0x1000, 0}, huge = {0x1000, UINT64_C(1) << 32};
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 0, 0, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 3, 1, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, &empty, 1, 0, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, &huge, 1, 0, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, UINT32_MAX, 1, 0), -EINVAL);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 1, 0), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 1, 0), -ENOSPC);
	CHECK_EQ(rig.ring->num_free, 1);
	rig_down(&rig);
}

static void pieces_can_be_changed(void)
{
	for (int indirect = 0; indirect < 2; indirect++) {
		struct rig rig;
		uint64_t token;
		uint32_t len;
		struct fake_chain chain;
		REQUIRE(rig_up(&rig, 5, indirect ? INDIRECT : 0, 0));
		CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 0, 0), 0);
		int head = driver_ring_build(rig.ring, pieces, 2, 1, 1, true);
		REQUIRE(head >= 0);
		for (uint32_t i = 1; i < 20; i++) {
			const bool in = i & 1;
			const struct vhc_iov second = {0x5000 + i, i}, third = {0x6000 + i, 2 * i};
			driver_ring_set_piece(rig.ring, (uint16_t)head, 1, second, in);
			driver_ring_set_piece(rig.ring, (uint16_t)head, 2, third, true);
			driver_ring_offer(rig.ring, (uint16_t)head);
			driver_ring_publish(rig.ring);
			if (i == 1)
				REQUIRE(fake_take(&rig.device, &chain) && chain.num == 1);
			REQUIRE(fake_take(&rig.device, &chain));
			REQUIRE_EQ(chain.num, 3);
			CHECK_EQ(chain.pieces[0].addr, pieces[0].addr);
			CHECK(chain.pieces[1].addr == second.addr && chain.pieces[1].len == i);
			CHECK_EQ(chain.pieces[1].flags & VRING_DESC_F_WRITE,
				 in ? VRING_DESC_F_WRITE : 0);
			CHECK(chain.pieces[2].addr == third.addr && chain.pieces[2].len == 2 * i);
			CHECK(chain.pieces[2].flags & VRING_DESC_F_WRITE);
			fake_return_chain(&rig.device, &chain, 1);
			CHECK_EQ(get(&rig, &token, &len), 1);
		}
		driver_ring_drop(rig.ring, (uint16_t)head);
		CHECK_EQ(rig.ring->num_free, 4);
		rig_down(&rig);
	}
}

/* ---- Round and round ----------------------------------------------------------------- */

struct expected {
	uint64_t token;
	uint32_t num, num_out, len;
	bool in_flight;
};

/* What a chain of the device is, by the first address of its pieces: its number. */
static void check_taken(const struct fake_chain *chain, const struct expected *e)
{
	CHECK(e->in_flight);
	CHECK_EQ(chain->num, e->num);
	for (uint32_t i = 0; i < chain->num; i++) {
		CHECK_EQ(chain->pieces[i].addr >> 8, e->token);
		CHECK_EQ(chain->pieces[i].addr & 0xff, i);
		CHECK_EQ(chain->pieces[i].len, i + 1);
		CHECK_EQ(!(chain->pieces[i].flags & VRING_DESC_F_WRITE), i < e->num_out);
	}
}

/* Chains of random lengths come back in random order, with what they went with. */
static void goes_round(uint32_t size, uint64_t features, uint32_t rounds)
{
	struct rig rig;
	static struct expected table[64];
	static struct fake_chain taken[64];
	uint32_t num_taken = 0, in_flight = 0;
	uint64_t token = 1, got;
	uint32_t len;
	int rc;
	memset(table, 0, sizeof(table));
	REQUIRE(rig_up(&rig, size, features, 0));
	while (token < rounds && check_ok) {
		struct vhc_iov iov[12];
		struct expected *e = &table[token % 64];
		const uint32_t most = size < 12 ? size : 12;
		for (uint32_t more = next_random() % 4; more > 0 && !e->in_flight; more--) {
			*e = (struct expected){.token = token, .num = 1 + next_random() % most};
			e->num_out = next_random() % (e->num + 1);
			for (uint32_t i = 0; i < e->num; i++)
				iov[i] = (struct vhc_iov){token << 8 | i, i + 1};
			rc = vhc_driver_ring_add(rig.ring, iov, e->num_out, e->num - e->num_out,
						 token);
			REQUIRE(rc == 0 || rc == -ENOSPC);
			if (rc)
				break;
			e->in_flight = true;
			in_flight++;
			e = &table[++token % 64];
		}
		vhc_driver_ring_kick(rig.ring);
		while (fake_waits(&rig.device) && next_random() % 4) {
			REQUIRE(fake_take(&rig.device, &taken[num_taken]));
			check_taken(&taken[num_taken],
				    &table[(taken[num_taken].pieces[0].addr >> 8) % 64]);
			num_taken++;
		}
		while (num_taken > 0 && next_random() % 3) {
			const uint32_t i = next_random() % num_taken;
			e = &table[(taken[i].pieces[0].addr >> 8) % 64];
			e->len = next_random() % 3 ? next_random() : 0;
			fake_return_chain(&rig.device, &taken[i], e->len);
			taken[i] = taken[--num_taken];
		}
		while ((rc = get(&rig, &got, &len)) == 1) {
			e = &table[got % 64];
			REQUIRE(e->in_flight && e->token == got);
			REQUIRE_EQ(len, e->len);
			e->in_flight = false;
			in_flight--;
		}
		REQUIRE_EQ(rc, 0);
		REQUIRE_EQ(rig.ring->in_flight, in_flight);
	}
	rig_down(&rig);
}

static void goes_round_at_any_size(void)
{
	static const uint32_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 12, 13, 31, 33, 100, 256, 1000};
	for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		goes_round(sizes[i], 0, 3000);
		goes_round(sizes[i], INDIRECT | EVENT_IDX, 3000);
	}
	goes_round(VHC_RING_MAX_SIZE, EVENT_IDX, 20000);
	goes_round(VHC_RING_MAX_SIZE - 1, EVENT_IDX, 20000);
}

/* All of the greatest ring in flight at once, in one chain and in as many as can be. */
static void fills_the_greatest_ring(void)
{
	struct rig rig;
	static struct vhc_iov iov[VHC_RING_MAX_SIZE];
	uint64_t token;
	uint32_t len;
	REQUIRE(rig_up(&rig, VHC_RING_MAX_SIZE, EVENT_IDX, 0));
	for (uint32_t i = 0; i < VHC_RING_MAX_SIZE; i++)
		iov[i] = (struct vhc_iov){i + 1, 1};
	for (uint64_t round = 0; round < 3; round++) {
		const struct fake_position at = rig.device.next_used;
		REQUIRE_EQ(vhc_driver_ring_add(rig.ring, iov, VHC_RING_MAX_SIZE, 0, round), 0);
		vhc_driver_ring_kick(rig.ring);
		CHECK_EQ(rig.desc[VHC_RING_MAX_SIZE - 1].addr, VHC_RING_MAX_SIZE);
		fake_put_packed(&rig.device, at, rig.desc[VHC_RING_MAX_SIZE - 1].id, 0);
		rig.device.next_used = fake_after(&rig.device, at, VHC_RING_MAX_SIZE);
		REQUIRE_EQ(get(&rig, &token, &len), 1);
		REQUIRE_EQ(token, round);
		REQUIRE_EQ(get(&rig, &token, &len), 0);
	}
	for (uint32_t i = 0; i < VHC_RING_MAX_SIZE; i++)
		REQUIRE_EQ(vhc_driver_ring_add(rig.ring, iov, 1, 0, i), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, iov, 1, 0, 0), -ENOSPC);
	rig.device.next_avail = rig.device.next_used;
	vhc_driver_ring_kick(rig.ring);
	for (uint32_t i = 0; i < VHC_RING_MAX_SIZE; i++) {
		struct fake_chain chain;
		REQUIRE(fake_waits(&rig.device) && fake_take(&rig.device, &chain));
		fake_return_chain(&rig.device, &chain, 0);
	}
	CHECK(!fake_waits(&rig.device));
	for (uint32_t i = 0; i < VHC_RING_MAX_SIZE; i++) {
		REQUIRE_EQ(get(&rig, &token, &len), 1);
		REQUIRE_EQ(token, i);
	}
	CHECK_EQ(get(&rig, &token, &len), 0);
	rig_down(&rig);
}

/* Without WRITE a used descriptor's length means nothing (2.8.5). */
static void a_length_needs_its_flag(void)
{
	struct rig rig;
	uint64_t token;
	uint32_t len;
	struct fake_chain chain;
	REQUIRE(rig_up(&rig, 3, 0, DELTA));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 1, 1), 0);
	vhc_driver_ring_kick(rig.ring);
	CHECK(fake_take(&rig.device, &chain));
	rig.desc[0].len = 1234;
	rig.desc[0].id = chain.head;
	rig.desc[0].flags = FAKE_AVAIL | FAKE_USED | VRING_DESC_F_NEXT;
	CHECK_EQ(get(&rig, &token, &len), 1);
	CHECK_EQ(len, 0);
	rig_down(&rig);
}

/* ---- Devices that are not to be trusted ---------------------------------------------- */

static void bad_device(void (*misbehave)(struct rig *, const struct fake_chain *))
{
	struct rig rig;
	uint64_t token;
	uint32_t len;
	struct fake_chain chains[2];
	REQUIRE(rig_up(&rig, 7, 0, DELTA));
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 2, 1), 0);
	CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 2, 2), 0);
	vhc_driver_ring_kick(rig.ring);
	CHECK(fake_take(&rig.device, &chains[0]) && fake_take(&rig.device, &chains[1]));
	misbehave(&rig, chains);
	int rc;
	for (int i = 0; (rc = get(&rig, &token, &len)) > 0; i++)
		REQUIRE(i < 2);
	CHECK_EQ(rc, -EPROTO);
	/* It stays broken. */
	CHECK_EQ(get(&rig, &token, &len), -EPROTO);
	CHECK_EQ(vhc_driver_ring_wait(rig.ring, 0), 1);
	rig_down(&rig);
}

static void return_unknown(struct rig *rig, const struct fake_chain *chains)
{
	(void)chains;
	fake_put_packed(&rig->device, rig->device.next_used, 7, 0);
}

static void return_huge(struct rig *rig, const struct fake_chain *chains)
{
	(void)chains;
	fake_put_packed(&rig->device, rig->device.next_used, UINT16_MAX, 0);
}

/* An ID of descriptors that it has, but of no chain. */
static void return_middle(struct rig *rig, const struct fake_chain *chains)
{
	uint16_t id = 0;
	while (id == chains[0].head || id == chains[1].head)
		id++;
	fake_put_packed(&rig->device, rig->device.next_used, id, 0);
}

static void return_twice(struct rig *rig, const struct fake_chain *chains)
{
	fake_return_chain(&rig->device, &chains[0], 0);
	fake_return_chain(&rig->device, &chains[0], 0);
}

static void return_too_many(struct rig *rig, const struct fake_chain *chains)
{
	fake_return_chain(&rig->device, &chains[0], 0);
	fake_return_chain(&rig->device, &chains[1], 0);
	fake_return_chain(&rig->device, &chains[1], 0);
}

/* Offered, but not shown to it. */
static void return_too_early(struct rig *rig, const struct fake_chain *chains)
{
	uint64_t token;
	uint32_t len;
	fake_return_chain(&rig->device, &chains[0], 0);
	fake_return_chain(&rig->device, &chains[1], 0);
	CHECK_EQ(get(rig, &token, &len), 1);
	CHECK_EQ(get(rig, &token, &len), 1);
	CHECK_EQ(vhc_driver_ring_add(rig->ring, pieces, 1, 0, 2), 0);
	for (uint16_t id = 0; id < rig->size; id++) {
		if (rig->ring->chains[id].in_flight)
			fake_put_packed(&rig->device, rig->device.next_used, id, 0);
	}
}

static void breaks_on_what_was_not_given(void)
{
	bad_device(return_unknown);
	bad_device(return_huge);
	bad_device(return_middle);
	bad_device(return_twice);
	bad_device(return_too_many);
	bad_device(return_too_early);
}

/* Only both flags with the round's value make a used descriptor. */
static void takes_no_other_flags_for_used(void)
{
	struct rig rig;
	uint64_t token;
	uint32_t len;
	REQUIRE(rig_up(&rig, 2, 0, DELTA));
	for (int round = 0; round < 4; round++) {
		const bool wrap = rig.device.next_used.wrap;
		struct fake_chain chain;
		CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 0, 1), 0);
		vhc_driver_ring_kick(rig.ring);
		CHECK(fake_take(&rig.device, &chain));
		struct vring_packed_desc *d = &rig.desc[rig.device.next_used.at];
		for (uint32_t flags = 0; flags < 1u << 16; flags += 0x80) {
			d->flags = (uint16_t)flags;
			const bool used =
			    !(flags & FAKE_AVAIL) == !wrap && !(flags & FAKE_USED) == !wrap;
			if (!used)
				REQUIRE_EQ(get(&rig, &token, &len), 0);
			REQUIRE_EQ(driver_ring_ready_as(rig.ring, true), used);
		}
		fake_return_chain(&rig.device, &chain, 0);
		CHECK_EQ(get(&rig, &token, &len), 1);
	}
	rig_down(&rig);
}

/* The device may write all of the ring's memory: nothing there leads the driver astray. */
static void believes_no_descriptor(void)
{
	struct rig rig;
	uint64_t token;
	uint32_t len;
	struct fake_chain chain;
	REQUIRE(rig_up(&rig, 8, 0, 0));
	int kept = driver_ring_build(rig.ring, pieces, 1, 2, 5, true);
	REQUIRE(kept >= 0);
	for (int round = 0; round < 20; round++) {
		driver_ring_offer(rig.ring, (uint16_t)kept);
		vhc_driver_ring_kick(rig.ring);
		REQUIRE(fake_take(&rig.device, &chain));
		REQUIRE_EQ(chain.num, 3);
		for (uint32_t i = 0; i < 3; i++)
			CHECK_EQ(chain.pieces[i].addr, pieces[i].addr);
		const struct fake_position at = rig.device.next_used;
		for (uint32_t i = 1; i < 8; i++) {
			struct vring_packed_desc *d = &rig.desc[fake_after(&rig.device, at, i).at];
			memset(d, next_random() & 0x7f ? (int)next_random() : 0xff, 14);
		}
		fake_return_chain(&rig.device, &chain, 1);
		REQUIRE_EQ(get(&rig, &token, &len), 1);
		REQUIRE_EQ(token, 5);
		CHECK_EQ(rig.ring->num_free, 5);
	}
	rig_down(&rig);
}

/* ---- Notifications ------------------------------------------------------------------- */

static bool kicked(struct rig *rig)
{
	uint64_t count;
	return read(rig->device.kick_fd, &count, sizeof(count)) == sizeof(count);
}

static void kicks_as_flags_say(void)
{
	/* With DESC, which means nothing without EVENT_IDX, and what is reserved: rather one
	 * more. */
	static const bool wants[] = {true, false, true, true};
	struct rig rig;
	REQUIRE(rig_up(&rig, 8, 0, DELTA));
	CHECK_EQ(vhc_driver_ring_kick(rig.ring), 0);
	CHECK(!kicked(&rig));
	for (uint16_t flags = 0; flags < 4; flags++) {
		rig.device_event->flags = flags;
		rig.device_event->off_wrap = 5;
		vhc_driver_ring_add(rig.ring, pieces, 1, 0, 0);
		CHECK_EQ(vhc_driver_ring_kick(rig.ring), wants[flags]);
		CHECK_EQ(kicked(&rig), wants[flags]);
	}
	CHECK_EQ(rig.stats->kicks, 3);
	CHECK_EQ(rig.stats->kicks_suppressed, 1);
	rig_down(&rig);
}

/* Brings the ring to a position, with nothing in flight. */
static void advance(struct rig *rig, struct fake_position to)
{
	uint64_t token;
	uint32_t len;
	while (rig->device.next_used.at != to.at || rig->device.next_used.wrap != to.wrap) {
		struct fake_chain chain;
		vhc_driver_ring_add(rig->ring, pieces, 1, 0, 0);
		vhc_driver_ring_kick(rig->ring);
		REQUIRE(fake_take(&rig->device, &chain));
		fake_return_chain(&rig->device, &chain, 0);
		REQUIRE_EQ(get(rig, &token, &len), 1);
	}
}

/* Every position, number of descriptors added there, and descriptor asked for. */
static void kicks_as_event_says(uint32_t size)
{
	for (uint32_t n = 0; n < 2 * size * size * size * 2; n++) {
		struct rig rig;
		const uint32_t added = 1 + n / (4 * size * size);
		const uint32_t begin = n / (2 * size) % (2 * size);
		const struct fake_position from = {(uint16_t)(begin % size), begin < size};
		const struct fake_position event = {(uint16_t)(n % size), n / size % 2};
		bool wants = false;
		REQUIRE(rig_up(&rig, size, EVENT_IDX, DELTA));
		rig.device_event->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
		advance(&rig, from);
		rig.device_event->off_wrap = (uint16_t)(event.at | event.wrap << 15);
		rig.device_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
		for (uint32_t i = 0; i < added; i++) {
			const struct fake_position at = fake_after(&rig.device, from, i);
			CHECK_EQ(vhc_driver_ring_add(rig.ring, pieces, 1, 0, 0), 0);
			wants |= at.at == event.at && at.wrap == event.wrap;
		}
		REQUIRE_EQ(vhc_driver_ring_kick(rig.ring), wants);
		rig_down(&rig);
	}
}

static void kicks_as_events_say(void)
{
	kicks_as_event_says(1);
	kicks_as_event_says(2);
	kicks_as_event_says(5);
}

/* While it polls, the driver wants no call. */
static void wants_no_calls_while_polling(void)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct rig rig;
		uint64_t token;
		uint32_t len;
		REQUIRE(rig_up(&rig, 3, event_idx ? EVENT_IDX : 0, DELTA));
		for (uint32_t i = 0; i < 1000; i++) {
			struct fake_chain chain;
			vhc_driver_ring_add(rig.ring, pieces, 1, 1, i);
			vhc_driver_ring_kick(rig.ring);
			REQUIRE(fake_take(&rig.device, &chain));
			REQUIRE(!fake_return_chain(&rig.device, &chain, 0));
			REQUIRE_EQ(get(&rig, &token, &len), 1);
		}
		rig_down(&rig);
	}
}

/* A sleeper wants a call at the next used descriptor, wherever that is. */
static void arms_where_it_is(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 3, EVENT_IDX, DELTA));
	for (uint32_t i = 0; i < 12; i++) {
		uint64_t token;
		uint32_t len;
		struct fake_chain chain;
		vhc_driver_ring_add(rig.ring, pieces, 1, i % 2, i);
		vhc_driver_ring_kick(rig.ring);
		REQUIRE(fake_take(&rig.device, &chain));
		CHECK(!driver_ring_arm(rig.ring));
		CHECK_EQ(rig.driver_event->flags, VRING_PACKED_EVENT_FLAG_DESC);
		CHECK_EQ(rig.driver_event->off_wrap,
			 rig.device.next_used.at | rig.device.next_used.wrap << 15);
		CHECK(fake_return_chain(&rig.device, &chain, 0));
		CHECK(driver_ring_arm(rig.ring));
		driver_ring_disarm(rig.ring);
		CHECK_EQ(rig.driver_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
		REQUIRE_EQ(get(&rig, &token, &len), 1);
	}
	rig_down(&rig);
}

/* Waits until the driver asks for a call, then uses the chain. */
static void *use_late(void *arg)
{
	struct rig *rig = arg;
	struct fake_chain chain;
	fake_take(&rig->device, &chain);
	while (!fake_wants_call(&rig->device, &chain))
		usleep(100);
	fake_return_chain(&rig->device, &chain, 3);
	vhc_eventfd_signal(rig->device.call_fd);
	return NULL;
}

static void wait_sleeps_until_the_call(void)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct rig rig;
		uint64_t token;
		uint32_t len;
		pthread_t thread;
		REQUIRE(rig_up(&rig, 4, event_idx ? EVENT_IDX : 0, DELTA));
		vhc_driver_ring_add(rig.ring, pieces, 1, 0, 42);
		vhc_driver_ring_kick(rig.ring);
		REQUIRE_EQ(pthread_create(&thread, NULL, use_late, &rig), 0);
		CHECK_EQ(vhc_driver_ring_wait(rig.ring, 10000), 1);
		pthread_join(thread, NULL);
		CHECK_EQ(get(&rig, &token, &len), 1);
		CHECK_EQ(token, 42);
		CHECK_EQ(len, 3);
		CHECK(rig.stats->calls <= 1);
		CHECK_EQ(rig.driver_event->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
		rig_down(&rig);
	}
}

static void wait_gives_up(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 4, 0, DELTA));
	CHECK_EQ(vhc_driver_ring_wait(rig.ring, 0), 0);
	vhc_eventfd_signal(rig.device.call_fd); /* a call without a reason */
	CHECK_EQ(vhc_driver_ring_wait(rig.ring, 5), 0);
	CHECK_EQ(rig.stats->calls, 1);
	rig_down(&rig);
}

int main(void)
{
	RUN(layout_has_no_overlap);
	RUN(refuses_bad_memory);
	RUN(writes_direct_chains);
	RUN(shows_a_batch_at_once);
	RUN(writes_indirect_chains);
	RUN(other_lengths_are_direct);
	RUN(refuses_bad_chains);
	RUN(pieces_can_be_changed);
	RUN(goes_round_at_any_size);
	RUN(fills_the_greatest_ring);
	RUN(a_length_needs_its_flag);
	RUN(breaks_on_what_was_not_given);
	RUN(takes_no_other_flags_for_used);
	RUN(believes_no_descriptor);
	RUN(kicks_as_flags_say);
	RUN(kicks_as_events_say);
	RUN(wants_no_calls_while_polling);
	RUN(arms_where_it_is);
	RUN(wait_sleeps_until_the_call);
	RUN(wait_gives_up);
	return check_report();
}
