/* SPDX-License-Identifier: MIT */
/* Rings of a virtio-blk device: its cases by name, and its random ones. */
#ifndef VHC_HOSTILE_BLK_H
#define VHC_HOSTILE_BLK_H

#include "hostile_packed.h"
#include "hostile_run.h"

/* ---- Cases by name
 * ---------------------------------------------------------------------------
 */

/* The next request meets a ring without descriptors. */
static inline void start_over(void)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	ring_begin_case(ring);
	memset(ring->desc, 0, 16 * ring->size);
	*rig_at(&fuzz.rig, STATUS) = 0xaa;
}

static inline void a_good_request_still_passes(void)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	start_over();
	good_read(&fuzz.rig);
	CHECK(run_offered(NULL, NULL));
	CHECK(!ring->broken);
	CHECK_EQ(*rig_at(&fuzz.rig, STATUS), VIRTIO_BLK_S_OK);
	CHECK_EQ(ring_used_at(ring, ring->used_seen).len, 4097);
}

static inline void check_returned(const struct hostile_case *c)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	const uint16_t head =
	    ring->packed ? ring->offers[0].head : ring->avail->ring[ring->used_seen % ring->size];
	const struct model_answer answer = model_head(head);
	/* The model and the table were thought up apart: they must agree. */
	CHECK_EQ(answer.status, c->status);
	CHECK_EQ(answer.len, c->len);
	CHECK(answers_are_the_models(&head, &answer, 1));
	if (c->status != MODEL_NO_STATUS)
		CHECK_EQ(*rig_at(&fuzz.rig, STATUS), c->status);
}

/* base: where the ring begins. */
static inline void run_case(const struct hostile_case *c, uint64_t features, uint32_t size,
			    uint16_t base)
{
	struct hostile_rig *rig = &fuzz.rig;
	REQUIRE(rig_start_ring(rig, BLK_RING, size, c->features | features, base));
	memset(rig->memory + RING_AREA, 0xaa, MEMORY - RING_AREA);
	/* A device that has served this driver before takes shorter ways. */
	a_good_request_still_passes();
	start_over();
	c->build(rig);
	snapshot();
	rig->ring.vague |= c->outcome == ANY;
	CHECK(run_offered(NULL, NULL));
	if (c->outcome == RETURNED)
		check_returned(c);
	if (c->outcome == BROKEN) {
		CHECK_EQ(rig->ring.broken_status, -EPROTO);
		CHECK_EQ((uint16_t)(ring_used_idx(&rig->ring) - rig->ring.used_seen), c->len);
	}
	if (rig->ring.broken)
		says_broken(&rig->ring);
	else if (!rig->ring.vague)
		a_good_request_still_passes();
	rig_stop_ring(rig);
}

/* The status of a case is where STATUS is, but for one that has it elsewhere.
 */
static inline void run_cases(const struct hostile_case *cases, size_t n, uint64_t features,
			     uint32_t size, uint16_t base)
{
	for (size_t i = 0; i < n; i++) {
		check_ok = true;
		run_case(&cases[i], features, size, base);
		if (!check_ok)
			fprintf(stderr, "not ok %s, ring of %u, base %#x\n", cases[i].name, size,
				base);
		*(check_ok ? &check_passed : &check_failed) += 1;
	}
}

static inline void run_named_blk(void)
{
	run_cases(hostile_cases, NUM_HOSTILE_CASES, 0, CASE_SIZE, 0);
	/* At the ring's beginning; and over its end, as which no power of two is. */
	run_cases(packed_cases, NUM_PACKED_CASES, PACKED, CASE_SIZE, WRAP_BIT);
	run_cases(packed_cases, NUM_PACKED_CASES, PACKED, 19, 14);
	printf("%zu named cases of virtio-blk, %zu on packed rings\n", NUM_HOSTILE_CASES,
	       NUM_PACKED_CASES);
}

/* ---- Memory that goes away
 * ----------------------------------------------------------------------
 */

static inline void shrink(void *arg)
{
	CHECK_EQ(ftruncate(fuzz.rig.memfd, *(const off_t *)arg), 0);
}

/* Touching what the peer took away breaks the ring (by SIGBUS), and nothing
 * else. */
static inline void lost_memory(off_t left, uint16_t used_before, uint64_t features)
{
	struct hostile_rig *rig = &fuzz.rig;
	REQUIRE(rig_start_ring(rig, BLK_RING, CASE_SIZE, INDIRECT | features, 0));
	for (uint16_t i = 0; i < used_before; i++)
		a_good_request_still_passes();
	ring_begin_case(&rig->ring);
	good_write(rig);
	shrink(&left);
	neighbour_begin(&fuzz.neighbour);
	if (left > 0)
		ring_show(&rig->ring);
	else
		vhc_eventfd_signal(rig->ring.kick);
	RIG_AWAIT(rig, rig->ring.broken);
	CHECK(neighbour_end(&fuzz.neighbour, rig));
	says_broken(&rig->ring);
	rig_stop_ring(rig);
	REQUIRE_EQ(ftruncate(rig->memfd, MEMORY), 0);
}

static inline void data_is_lost(void)
{
	lost_memory(4 * KIB * 4, 3, 0); /* the ring stays, header and data go */
}

static inline void ring_is_lost(void)
{
	lost_memory(0, 3, 0);
}

static inline void data_of_packed_is_lost(void)
{
	lost_memory(4 * KIB * 4, 3, PACKED);
}

static inline void packed_ring_is_lost(void)
{
	lost_memory(0, 3, PACKED);
}

/* ---- Random cases
 * ---------------------------------------------------------------------- */

static inline bool run_random_blk(struct gen *g)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	uint16_t heads[MAX_CHAINS];
	struct model_answer answers[MAX_CHAINS];
	uint32_t n = gen_requests(g, heads);
	bool wild = gen_bad_ring(g);
	bool disturbed = one_in(g, 16);
	snapshot();
	n = offered_heads(heads, n);
	fuzz.disturbed = disturbed;
	ring->vague |= disturbed || (ring->packed && chains_overlap(heads, n));
	fuzz.was_wild = wild || disturbed || ring->vague || chains_overlap(heads, n);
	if (fuzz.was_wild) {
		fuzz.wild[BLK_RING]++;
		return run_offered(disturbed ? disturb : NULL, g) && breaks_if_it_must();
	}
	count_clean();
	for (uint32_t i = 0; i < n; i++)
		answers[i] = model_head(heads[i]);
	const uint64_t malformed = rig_malformed(&fuzz.rig) + fuzz.model.malformed;
	return run_offered(NULL, NULL) && answers_are_the_models(heads, answers, n) &&
	       CHECK_EQ(rig_malformed(&fuzz.rig), malformed);
}

#endif
