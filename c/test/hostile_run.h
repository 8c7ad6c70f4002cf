/* SPDX-License-Identifier: MIT */
/* How a case is run, and how what came of it is compared with the model. */
#ifndef VHC_HOSTILE_RUN_H
#define VHC_HOSTILE_RUN_H

#include "hostile_link.h"
#include "hostile_neighbour.h"

struct fuzz {
	struct hostile_rig rig;
	struct neighbour neighbour;
	struct model model;
	/* Cases by kind: compared with the model; not; rings broken. */
	uint64_t clean[NUM_RING_KINDS], wild[NUM_RING_KINDS], broken[NUM_RING_KINDS];
	uint64_t packed[NUM_RING_KINDS]; /* of the first, those on packed rings */
	bool disturbed;			 /* the case: its memory changes while it runs */
	bool was_wild;			 /* the last: the ring's indices say nothing any more */
};

static struct fuzz fuzz;

/* ---- Running what was offered
 * ------------------------------------------------------ */

/* Whether the ring has to break, as nothing changes what has it do so. */
static inline bool must_break(const struct hostile_ring *ring)
{
	return ring->must_break && !fuzz.disturbed;
}

/* True when the device has nothing left to do: it has used all, or given the ring up. */
static inline bool at_rest(struct hostile_ring *ring)
{
	if (ring->broken)
		return true;
	if (!ring->packed)
		return ring_used_idx(ring) == __atomic_load_n(&ring->avail->idx, __ATOMIC_SEQ_CST);
	if (ring->vague)
		return !must_break(ring) && packed_is_quiet(ring, fuzz.rig.stats);
	ring_used_idx(ring);
	return ring->num_back == ring->num_offers;
}

static inline bool run_offered(void (*meanwhile)(void *), void *arg)
{
	struct hostile_rig *rig = &fuzz.rig;
	neighbour_begin(&fuzz.neighbour);
	ring_show(&rig->ring);
	if (meanwhile) {
		meanwhile(arg);
		vhc_eventfd_signal(rig->ring.kick);
	}
	RIG_AWAIT(rig, at_rest(&rig->ring));
	return neighbour_end(&fuzz.neighbour, rig);
}

/* Counts a case that is compared with the model. */
static inline void count_clean(void)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	fuzz.clean[ring->kind]++;
	fuzz.packed[ring->kind] += ring->packed;
}

/* A ring that broke has said so on its err descriptor. */
static inline bool says_broken(const struct hostile_ring *ring)
{
	return CHECK(ring->broken_status < 0) && CHECK(check_readable(ring->err, 0));
}

static inline bool breaks_if_it_must(void)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	return !must_break(ring) || CHECK_EQ(ring->broken_status, -EPROTO);
}

/* ---- Comparing with the model
 * ---------------------------------------------------------- */

/* What a packed ring offers is what the device will find there, whatever was meant. */
static inline void read_offers(void)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	static struct model_offers found;
	model_parse(&fuzz.model, ring, &found);
	memcpy(ring->offers, found.all, sizeof(found.all));
	ring->num_offers = found.count;
	ring->vague = found.vague || found.breaks || found.count > MAX_CHAINS;
	ring->must_break = found.breaks && found.count == 0;
}

static inline void snapshot(void)
{
	struct model *m = &fuzz.model;
	struct hostile_ring *ring = &fuzz.rig.ring;
	if (ring->packed)
		packed_commit(ring);
	m->size = ring->size;
	m->packed = ring->packed;
	m->indirect = ring->features & INDIRECT;
	m->discarded = false;
	m->malformed = 0;
	memcpy(m->memory, fuzz.rig.memory, MEMORY);
	memcpy(m->disk, (const void *)fuzz.rig.pages.addr, DISK_BYTES);
	/* This is about to be shown. */
	if (!ring->packed)
		((struct vring_avail *)(m->memory + AVAIL_AT))->idx = ring->avail_next;
	else if (ring->holds)
		((struct vring_packed_desc *)m->memory)[ring->held_at].flags = ring->held;
	if (ring->packed)
		read_offers();
}

/* The heads of what was offered, of which the test meant n. Returns how many there are. */
static inline uint32_t offered_heads(uint16_t *heads, uint32_t n)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	if (!ring->packed)
		return n;
	for (n = 0; n < ring->num_offers && n < MAX_CHAINS; n++)
		heads[n] = ring->offers[n].head;
	return n;
}

static inline struct model_answer model_head(uint16_t head)
{
	static struct model_chain chain;
	bool well_formed = model_walk(&fuzz.model, head, &chain);
	return model_execute(&fuzz.model, &chain, well_formed);
}

static inline bool same_bytes(uint32_t from, uint32_t to)
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

/* Has the model write the used descriptors of a packed ring, in the order in which they came. */
static inline bool model_uses(void)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	bool ok = true;
	for (uint16_t i = ring->used_seen; ring->packed && i != ring_used_idx(ring); i++) {
		const struct ring_use use = ring_used_at(ring, i);
		struct vring_packed_desc *d =
		    &((struct vring_packed_desc *)fuzz.model.memory)[use.place.at];
		const uint16_t write = use.len ? VRING_DESC_F_WRITE : 0;
		ok = ok && CHECK_EQ(use.flags, flags_used(use.place) | write);
		d->len = use.len;
		d->id = use.id;
		d->flags = use.flags;
	}
	return ok;
}

/* Beside buffers the device may write the used ring alone, or its event structure. */
static inline bool memory_is_the_models(void)
{
	const struct model *m = &fuzz.model;
	const uint32_t behind = fuzz.rig.ring.packed ? USED_AT + 4 : RING_AREA;
	return m->discarded ||
	       (model_uses() && same_bytes(0, USED_AT) && same_bytes(behind, MEMORY) &&
		CHECK(!memcmp(m->disk, (const void *)fuzz.rig.pages.addr, DISK_BYTES)));
}

/* Finds the used element of a head among those since the last look, and takes
 * its length. */
static inline bool used_length(uint16_t head, uint32_t n, uint32_t *len)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	for (uint32_t i = 0; i < n; i++) {
		const struct ring_use use = ring_used_at(ring, (uint16_t)(ring->used_seen + i));
		if (use.head == head) {
			*len = use.len;
			return true;
		}
	}
	return false;
}

static inline bool answers_are_the_models(const uint16_t *heads, const struct model_answer *answers,
					  uint32_t n)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
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

/* ---- Chains that meet
 * ---------------------------------------------------------------- */

struct span {
	uint64_t gpa, len;
	bool in;
};

struct spans {
	struct span all[2048];
	uint32_t count;
};

static inline void add_span(struct spans *s, uint64_t gpa, uint64_t len, bool in)
{
	if (len > 0 && s->count < 2048)
		s->all[s->count++] = (struct span){gpa, len, in};
}

static inline void add_chain(struct spans *s, uint16_t head)
{
	static struct model_chain chain;
	if (!model_walk(&fuzz.model, head, &chain))
		return;
	add_span(s, chain.table.gpa, chain.table.len, false);
	for (uint32_t i = 0; i < chain.count; i++)
		add_span(s, chain.pieces[i].gpa, chain.pieces[i].len, chain.pieces[i].in);
}

/* Whether what the chains do depends on their order, or they write on the ring.
 */
static inline bool chains_overlap(const uint16_t *heads, uint32_t n)
{
	static struct spans s;
	s.count = 0;
	/* The device writes on a packed ring. */
	add_span(&s, GPA_A, USED_AT, fuzz.rig.ring.packed);
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

/* Flips bytes of the ring and of the buffers behind it while the device reads
 * them. */
static inline void disturb(void *arg)
{
	struct gen *g = arg;
	uint8_t *memory = fuzz.rig.memory;
	for (uint32_t i = 1 + below(g, 200); i > 0; i--) {
		uint32_t at = below(g, one_in(g, 2) ? USED_AT : 40 * KIB);
		if (at >= USED_AT && at < RING_AREA)
			continue; /* that tells us how far the device is */
		__atomic_store_n(&memory[at], (uint8_t)gen_random(g), __ATOMIC_RELAXED);
	}
}

#endif
