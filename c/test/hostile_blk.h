/* SPDX-License-Identifier: MIT */
/* Rings of a virtio-blk device: its cases by name, and its random ones. */
#ifndef VHC_HOSTILE_BLK_H
#define VHC_HOSTILE_BLK_H

#include "hostile_cases.h"
#include "hostile_run.h"

/* ---- Cases by name
 * ---------------------------------------------------------------------------
 */

/* The next request meets a ring without descriptors. */
static inline void start_over(void)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	ring->avail_next = ring->avail->idx;
	ring->used_seen = ring_used_idx(ring);
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
	CHECK_EQ(ring->used->ring[ring->used_seen % ring->size].len, 4097);
}

static inline void check_returned(const struct hostile_case *c)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	const uint16_t head = ring->avail->ring[ring->used_seen % ring->size];
	const struct model_answer answer = model_head(head);
	/* The model and the table were thought up apart: they must agree. */
	CHECK_EQ(answer.status, c->status);
	CHECK_EQ(answer.len, c->len);
	CHECK(answers_are_the_models(&head, &answer, 1));
	if (c->status != MODEL_NO_STATUS)
		CHECK_EQ(*rig_at(&fuzz.rig, STATUS), c->status);
}

static inline void run_case(const struct hostile_case *c)
{
	struct hostile_rig *rig = &fuzz.rig;
	REQUIRE(rig_start_ring(rig, BLK_RING, CASE_SIZE, c->features, 0));
	memset(rig->memory + RING_AREA, 0xaa, MEMORY - RING_AREA);
	/* A device that has served this driver before takes shorter ways. */
	a_good_request_still_passes();
	start_over();
	c->build(rig);
	snapshot();
	CHECK(run_offered(NULL, NULL));
	if (c->outcome == RETURNED)
		check_returned(c);
	if (c->outcome == BROKEN) {
		CHECK_EQ(rig->ring.broken_status, -EPROTO);
		CHECK_EQ((uint16_t)(ring_used_idx(&rig->ring) - rig->ring.used_seen), c->len);
	}
	if (rig->ring.broken)
		says_broken(&rig->ring);
	else
		a_good_request_still_passes();
	rig_stop_ring(rig);
}

/* The status of a case is where STATUS is, but for one that has it elsewhere.
 */
static inline void run_named_blk(void)
{
	for (size_t i = 0; i < NUM_HOSTILE_CASES; i++) {
		const struct hostile_case *c = &hostile_cases[i];
		check_ok = true;
		run_case(c);
		if (!check_ok)
			fprintf(stderr, "not ok %s\n", c->name);
		*(check_ok ? &check_passed : &check_failed) += 1;
	}
	printf("%zu named cases of virtio-blk\n", NUM_HOSTILE_CASES);
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
static inline void lost_memory(off_t left, uint16_t used_before)
{
	struct hostile_rig *rig = &fuzz.rig;
	REQUIRE(rig_start_ring(rig, BLK_RING, CASE_SIZE, INDIRECT, 0));
	for (uint16_t i = 0; i < used_before; i++)
		a_good_request_still_passes();
	rig->ring.avail_next = rig->ring.avail->idx;
	good_write(rig);
	ring_show(&rig->ring, rig->ring.avail_next - 1);
	shrink(&left);
	neighbour_begin(&fuzz.neighbour);
	if (left > 0)
		ring_show(&rig->ring, rig->ring.avail_next);
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
	lost_memory(4 * KIB * 4, 3); /* the ring stays, header and data go */
}

static inline void ring_is_lost(void)
{
	lost_memory(0, 3);
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
	fuzz.was_wild = wild || disturbed || chains_overlap(heads, n);
	if (fuzz.was_wild) {
		fuzz.wild[BLK_RING]++;
		return run_offered(disturbed ? disturb : NULL, g);
	}
	fuzz.clean[BLK_RING]++;
	for (uint32_t i = 0; i < n; i++)
		answers[i] = model_head(heads[i]);
	ring->used_seen = ring_used_idx(ring);
	return run_offered(NULL, NULL) && answers_are_the_models(heads, answers, n);
}

#endif
