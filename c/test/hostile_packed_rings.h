/* SPDX-License-Identifier: MIT */
/* What it takes more than one chain of a packed ring to show. */
#ifndef VHC_HOSTILE_PACKED_RINGS_H
#define VHC_HOSTILE_PACKED_RINGS_H

#include "hostile_scsi_cases.h"

static inline bool packed_ring(enum ring_kind kind, uint32_t size, uint64_t features)
{
	struct gen g = {.rig = &fuzz.rig, .random = 1};
	scsi_before_ring(&g);
	if (!rig_start_ring(&fuzz.rig, kind, size, PACKED | INDIRECT | features, WRAP_BIT))
		return false;
	memset(fuzz.rig.memory + RING_AREA, 0xaa, MEMORY - RING_AREA);
	return true;
}

/* The device has been woken and has had time to look. */
static inline void let_it_look(void)
{
	neighbour_begin(&fuzz.neighbour);
	vhc_eventfd_signal(fuzz.rig.ring.kick);
	CHECK(neighbour_end(&fuzz.neighbour, &fuzz.rig));
}

/* Descriptors of the round before, used ones, and those of the next round. */
static void what_is_not_available_stays(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	REQUIRE(packed_ring(BLK_RING, 5, 0));
	for (int round = 0; round < 12; round++) {
		ring_begin_case(&rig->ring);
		const struct ring_place at = rig->ring.next;
		struct vring_packed_desc *first = &rig->ring.ring[at.at];
		for (uint32_t whose = 0; whose < 4; whose++) {
			const uint16_t flags =
			    (uint16_t)((whose & 1 ? AVAIL_FLAG : 0) | (whose & 2 ? USED_FLAG : 0));
			if (flags == flags_available(at))
				continue;
			rig->ring.next = at;
			rig->ring.holds = false;
			three(rig, 0, 0, 1);
			__atomic_store_n(&first->flags, flags | N, __ATOMIC_SEQ_CST);
			let_it_look();
			CHECK(!rig->ring.broken);
			CHECK_EQ(first->flags, flags | N);
		}
		a_good_request_still_passes();
	}
	rig_stop_ring(rig);
}

/* A driver that uses an ID twice gets it back twice. */
static void an_id_may_be_used_twice(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	REQUIRE(packed_ring(BLK_RING, 16, EVENT_IDX));
	a_good_request_still_passes();
	ring_begin_case(&rig->ring);
	for (uint32_t i = 0; i < 5; i++) {
		const uint16_t head = rig->ring.next.at;
		three(rig, 8, 8, 8);
		packed_offered(&rig->ring, head, 3, 8);
	}
	CHECK(run_offered(NULL, NULL));
	for (uint16_t i = 0; i < 5; i++)
		CHECK_EQ(ring_used_at(&rig->ring, rig->ring.used_seen + i).len, 513);
	a_good_request_still_passes();
	rig_stop_ring(rig);
}

/* The smallest rings go round, with tables where a request has no room. */
static void goes_round_small_rings(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	for (uint32_t size = 1; size < 8; size++) {
		REQUIRE(packed_ring(BLK_RING, size, size & 1 ? EVENT_IDX : 0));
		for (int i = 0; i < 40 && check_ok; i++) {
			start_over();
			if (size < 3)
				indirect(rig, TABLE, 48, I, 0);
			else
				good_read(rig);
			CHECK(run_offered(NULL, NULL));
			CHECK_EQ(*rig_at(rig, STATUS), VIRTIO_BLK_S_OK);
		}
		rig_stop_ring(rig);
		CHECK_EQ(stopped_at(&rig->ring), rig->ring.base);
	}
}

static inline void raw_requests(uint32_t n, uint32_t count)
{
	struct hostile_rig *rig = &fuzz.rig;
	for (; n > 0; n--) {
		const uint16_t head = rig->ring.next.at;
		for (uint32_t i = 0; i < count; i++)
			P(rig, STATUS, 1, i + 1 < count ? W | N : W, head);
		packed_offered(&rig->ring, head, count, head);
	}
	ring_show(&rig->ring);
}

/* What is up occupies its descriptors: the ring can be full, and no more than that. */
static void no_more_is_in_flight_than_the_ring_holds(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	for (uint32_t more = 0; more < 2; more++) {
		REQUIRE(packed_ring(CONTROL_RING, 16, 0));
		raw_requests(2, 5);
		RIG_AWAIT(rig, scsi.num_ups == 2);
		raw_requests(1, 6);
		RIG_AWAIT(rig, scsi.num_ups == 3);
		if (more) {
			raw_requests(1, 1);
			RIG_AWAIT(rig, rig->ring.broken);
			CHECK_EQ(rig->ring.broken_status, -EPROTO);
		} else {
			let_it_look();
			CHECK(!rig->ring.broken);
			while (scsi.num_ups > 0)
				vhc_request_complete_raw(scsi.ups[--scsi.num_ups].request, 1);
			RIG_AWAIT(rig, ring_used_idx(&rig->ring) == 3);
			ring_begin_case(&rig->ring);
			raw_requests(1, 16);
			RIG_AWAIT(rig, scsi.num_ups == 1);
		}
		scsi_stop_ring();
	}
}

/* A chain that goes on over one that is up. */
static void a_chain_may_not_overtake(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	REQUIRE(packed_ring(CONTROL_RING, 8, 0));
	raw_requests(1, 3);
	RIG_AWAIT(rig, scsi.num_ups == 1);
	for (uint32_t i = 0; i < 5; i++)
		P(rig, STATUS, 1, W | N, 9);
	ring_show(&rig->ring);
	RIG_AWAIT(rig, rig->ring.broken);
	CHECK_EQ(rig->ring.broken_status, -EPROTO);
	says_broken(&rig->ring);
	scsi_stop_ring();
}

static inline void run_packed_rings(void)
{
	RUN(data_of_packed_is_lost);
	RUN(packed_ring_is_lost);
	RUN(what_is_not_available_stays);
	RUN(an_id_may_be_used_twice);
	RUN(goes_round_small_rings);
	RUN(no_more_is_in_flight_than_the_ring_holds);
	RUN(a_chain_may_not_overtake);
}

#endif
