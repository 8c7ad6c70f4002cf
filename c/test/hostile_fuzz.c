/* SPDX-License-Identifier: MIT */
/*
 * The hostile driver. A device on a reactor is given every malformed chain that
 * could be thought of, each with what must come of it, then random ones, some
 * changed under its hands. It must do exactly what the model does and touch
 * nothing else; a healthy ring on the same reactor must never notice.
 *
 *	hostile_fuzz [--count N] [--seed N] [--replay N]
 */
#include <pthread.h>

#include "hostile_cases.h"
#include "hostile_neighbour.h"
#include "hostile_random.h"

#define DEFAULT_COUNT 100000u
#define CASES_PER_RING 32u

struct fuzz {
	struct hostile_rig rig;
	struct neighbour neighbour;
	struct model model;
	uint64_t clean, wild, broken; /* cases: compared with the model; not; rings broken */
	bool was_wild;		      /* the last: the ring's indices say nothing any more */
};

static struct fuzz fuzz;

/* ---- Running what was offered ------------------------------------------------------ */

/* True when the device has nothing left to do: it has used all, or given the ring up. */
static bool at_rest(const struct hostile_ring *ring)
{
	uint16_t avail = __atomic_load_n(&ring->avail->idx, __ATOMIC_SEQ_CST);
	return ring->broken || ring_used_idx(ring) == avail;
}

static bool run_offered(void (*meanwhile)(void *), void *arg)
{
	struct hostile_rig *rig = &fuzz.rig;
	neighbour_begin(&fuzz.neighbour);
	ring_show(&rig->ring, rig->ring.avail_next);
	if (meanwhile) {
		meanwhile(arg);
		vhc_eventfd_signal(rig->ring.kick);
	}
	RIG_AWAIT(rig, at_rest(&rig->ring));
	return neighbour_end(&fuzz.neighbour, rig);
}

/* A ring that broke has said so on its err descriptor. */
static bool says_broken(const struct hostile_ring *ring)
{
	return CHECK(ring->broken_status < 0) && CHECK(check_readable(ring->err, 0));
}

/* ---- Comparing with the model ---------------------------------------------------------- */

static void snapshot(void)
{
	struct model *m = &fuzz.model;
	m->size = fuzz.rig.ring.size;
	m->indirect = fuzz.rig.ring.features & INDIRECT;
	m->discarded = false;
	memcpy(m->memory, fuzz.rig.memory, MEMORY);
	/* The index is about to be shown. */
	((struct vring_avail *)(m->memory + AVAIL_AT))->idx = fuzz.rig.ring.avail_next;
	memcpy(m->disk, (const void *)fuzz.rig.pages.addr, DISK_BYTES);
}

static struct model_answer model_head(uint16_t head)
{
	static struct model_chain chain;
	bool well_formed = model_walk(&fuzz.model, head, &chain);
	return model_execute(&fuzz.model, &chain, well_formed);
}

static bool same_bytes(uint32_t from, uint32_t to)
{
	if (!memcmp(fuzz.model.memory + from, fuzz.rig.memory + from, to - from))
		return true;
	for (uint32_t i = from; i < to; i++) {
		if (fuzz.model.memory[i] != fuzz.rig.memory[i]) {
			fprintf(stderr, "byte %u of the memory: ", i);
			return CHECK_EQ(fuzz.rig.memory[i], fuzz.model.memory[i]);
		}
	}
	return CHECK(!"the memory changes still");
}

/* Beside buffers the device may write the used ring alone. */
static bool memory_is_the_models(void)
{
	const struct model *m = &fuzz.model;
	return m->discarded ||
	       (same_bytes(0, USED_AT) && same_bytes(RING_AREA, MEMORY) &&
		CHECK(!memcmp(m->disk, (const void *)fuzz.rig.pages.addr, DISK_BYTES)));
}

/* Finds the used element of a head among those since the last look, and takes its length. */
static bool used_length(uint16_t head, uint32_t n, uint32_t *len)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	for (uint32_t i = 0; i < n; i++) {
		const struct vring_used_elem *used =
		    &ring->used->ring[(uint16_t)(ring->used_seen + i) % ring->size];
		if (used->id == head) {
			*len = used->len;
			return true;
		}
	}
	return false;
}

static bool answers_are_the_models(const uint16_t *heads, const struct model_answer *answers,
				   uint32_t n)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	if (!CHECK(!ring->broken) ||
	    !CHECK_EQ((uint16_t)(ring_used_idx(ring) - ring->used_seen), n))
		return false;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = 0;
		if (!CHECK(used_length(heads[i], n, &len)) || !CHECK_EQ(len, answers[i].len))
			return false;
	}
	return memory_is_the_models();
}

/* ---- Cases by name --------------------------------------------------------------------------- */

/* The next request meets a ring without descriptors. */
static void start_over(void)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	ring->avail_next = ring->avail->idx;
	ring->used_seen = ring_used_idx(ring);
	memset(ring->desc, 0, 16 * ring->size);
	*rig_at(&fuzz.rig, STATUS) = 0xaa;
}

static void a_good_request_still_passes(void)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	start_over();
	good_read(&fuzz.rig);
	CHECK(run_offered(NULL, NULL));
	CHECK(!ring->broken);
	CHECK_EQ(*rig_at(&fuzz.rig, STATUS), VIRTIO_BLK_S_OK);
	CHECK_EQ(ring->used->ring[ring->used_seen % ring->size].len, 4097);
}

static void check_returned(const struct hostile_case *c)
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

static void run_case(const struct hostile_case *c)
{
	struct hostile_rig *rig = &fuzz.rig;
	REQUIRE(rig_start_ring(rig, CASE_SIZE, c->features, 0));
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

/* The status of a case is where STATUS is, but for one that has it elsewhere. */
static void run_named_cases(void)
{
	for (size_t i = 0; i < NUM_HOSTILE_CASES; i++) {
		const struct hostile_case *c = &hostile_cases[i];
		check_ok = true;
		run_case(c);
		if (!check_ok)
			fprintf(stderr, "not ok %s\n", c->name);
		*(check_ok ? &check_passed : &check_failed) += 1;
	}
	printf("%zu named cases\n", NUM_HOSTILE_CASES);
}

/* ---- Memory that goes away ----------------------------------------------------------------------
 */

static void shrink(void *arg)
{
	CHECK_EQ(ftruncate(fuzz.rig.memfd, *(const off_t *)arg), 0);
}

/* Touching what the peer took away breaks the ring (by SIGBUS), and nothing else. */
static void lost_memory(off_t left, uint16_t used_before)
{
	struct hostile_rig *rig = &fuzz.rig;
	REQUIRE(rig_start_ring(rig, CASE_SIZE, INDIRECT, 0));
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

static void data_is_lost(void)
{
	lost_memory(4 * KIB * 4, 3); /* the ring stays, header and data go */
}

static void ring_is_lost(void)
{
	lost_memory(0, 3);
}

/* ---- Random cases
 * -------------------------------------------------------------------------------- */

struct span {
	uint64_t gpa, len;
	bool in;
};

struct spans {
	struct span all[2048];
	uint32_t count;
};

static void add_span(struct spans *s, uint64_t gpa, uint64_t len, bool in)
{
	if (len > 0 && s->count < 2048)
		s->all[s->count++] = (struct span){gpa, len, in};
}

static void add_chain(struct spans *s, uint16_t head)
{
	static struct model_chain chain;
	if (!model_walk(&fuzz.model, head, &chain))
		return;
	add_span(s, chain.table.gpa, chain.table.len, false);
	for (uint32_t i = 0; i < chain.count; i++)
		add_span(s, chain.pieces[i].gpa, chain.pieces[i].len, chain.pieces[i].in);
}

/* Whether what the chains do depends on their order, or they write on the ring. */
static bool chains_overlap(const uint16_t *heads, uint32_t n)
{
	static struct spans s;
	s.count = 0;
	add_span(&s, GPA_A, USED_AT, false);
	add_span(&s, GPA_A + USED_AT, RING_AREA - USED_AT, true);
	for (uint32_t i = 0; i < n; i++)
		add_chain(&s, heads[i]);
	for (uint32_t i = 0; i < s.count; i++) {
		const struct span *a = &s.all[i];
		for (uint32_t j = 0; a->in && j < s.count; j++) {
			const struct span *b = &s.all[j];
			if (i != j && a->gpa - b->gpa < b->len)
				return true;
			if (i != j && b->gpa - a->gpa < a->len)
				return true;
		}
	}
	return s.count == 2048;
}

/* Flips bytes of the ring and of the buffers behind it while the device reads them. */
static void disturb(void *arg)
{
	struct gen *g = arg;
	uint8_t *memory = fuzz.rig.memory;
	for (uint32_t i = 1 + below(g, 200); i > 0; i--) {
		uint32_t at = below(g, one_in(g, 2) ? USED_AT : 40 * KIB);
		if (at >= USED_AT && at < RING_AREA)
			continue; /* the used ring tells us how far the device is */
		__atomic_store_n(&memory[at], (uint8_t)gen_random(g), __ATOMIC_RELAXED);
	}
}

static bool run_random(struct gen *g)
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
		fuzz.wild++;
		return run_offered(disturbed ? disturb : NULL, g);
	}
	fuzz.clean++;
	for (uint32_t i = 0; i < n; i++)
		answers[i] = model_head(heads[i]);
	ring->used_seen = ring_used_idx(ring);
	return run_offered(NULL, NULL) && answers_are_the_models(heads, answers, n);
}

static bool start_random_ring(struct gen *g)
{
	uint32_t size = 1u << below(g, 9);
	uint64_t features = (one_in(g, 4) ? 0 : INDIRECT) | (one_in(g, 2) ? 0 : EVENT_IDX);
	return rig_start_ring(&fuzz.rig, size, features, (uint16_t)gen_random(g));
}

/* Brings the ring into a state to go on from, or makes a new one. */
static bool next_ring(struct gen *g, bool anew)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	if (ring->broken) {
		fuzz.broken++;
		says_broken(ring);
	}
	if (ring->broken || fuzz.was_wild || anew) {
		rig_stop_ring(&fuzz.rig);
		return start_random_ring(g);
	}
	ring->avail_next = ring->avail->idx;
	ring->used_seen = ring_used_idx(ring);
	return true;
}

static void random_cases(uint64_t seed, uint64_t first, uint64_t count)
{
	struct gen g = {.random = seed};
	/* A replay begins with the ring that the case had. */
	uint64_t begin = first - first % CASES_PER_RING;
	hang_seed = seed;
	for (uint32_t i = 0; i < MEMORY; i++)
		fuzz.rig.memory[i] = (uint8_t)gen_random(&g);
	for (uint64_t n = begin; n < first + count && check_ok; n++) {
		hang_case = n;
		g.random = gen_seed(seed, ~n);
		if (!next_ring(&g, n % CASES_PER_RING == 0))
			break;
		gen_begin(&g, &fuzz.rig, seed, n);
		if (!run_random(&g) || !check_ok) {
			fprintf(stderr, "not ok: --seed %llu --replay %llu\n",
				(unsigned long long)seed, (unsigned long long)n);
			check_ok = false;
		}
		*(check_ok ? &check_passed : &check_failed) += n >= first;
	}
	if (fuzz.rig.ring.handle)
		rig_stop_ring(&fuzz.rig);
	printf("%llu random cases compared, %llu wild, %llu rings broken\n",
	       (unsigned long long)fuzz.clean, (unsigned long long)fuzz.wild,
	       (unsigned long long)fuzz.broken);
}

static uint64_t option(int argc, char **argv, const char *name, uint64_t otherwise)
{
	for (int i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], name))
			return strtoull(argv[i + 1], NULL, 0);
	}
	return otherwise;
}

int main(int argc, char **argv)
{
	uint64_t seed = option(argc, argv, "--seed", 1);
	uint64_t replay = option(argc, argv, "--replay", UINT64_MAX);
	uint64_t count = option(argc, argv, "--count", DEFAULT_COUNT);
	int fds = check_open_fds();
	check_ok = true;
	if (!rig_up(&fuzz.rig) || !neighbour_up(&fuzz.neighbour, &fuzz.rig))
		return EXIT_FAILURE;
	if (replay == UINT64_MAX) {
		run_named_cases();
		RUN(data_is_lost);
		RUN(ring_is_lost);
	}
	check_ok = true;
	random_cases(seed, replay == UINT64_MAX ? 0 : replay, replay == UINT64_MAX ? count : 1);
	neighbour_down(&fuzz.neighbour, &fuzz.rig);
	rig_down(&fuzz.rig);
	check_ok = true;
	if (!CHECK_EQ(check_open_fds(), fds))
		check_failed++;
	return check_report();
}
