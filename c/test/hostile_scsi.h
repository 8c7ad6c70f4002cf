/* SPDX-License-Identifier: MIT */
/* Random cases of a virtio-scsi device's three kinds of ring. */
#ifndef VHC_HOSTILE_SCSI_H
#define VHC_HOSTILE_SCSI_H

#include "hostile_scsi_run.h"

/* ---- Control rings: each request goes up as it is
 * ------------------------------------ */

static inline bool control_up_is_right(const struct up *up, const struct command *c)
{
	struct vhc_request_info rest = up->info;
	static const struct vhc_request_info zeroes;
	rest.out_len = rest.in_len = rest.copied = 0;
	return CHECK_EQ(up->status, 0) && CHECK_EQ(up->info.out_len, c->out_len) &&
	       CHECK_EQ(up->info.in_len, c->in_len) &&
	       CHECK(!memcmp(&rest, &zeroes, sizeof(rest))) && brings_the_data(up, c, 0, false);
}

static inline void complete_raw(struct gen *g, struct command *c)
{
	c->state = IS_DONE;
	c->len = below(g, (uint32_t)c->in_len + 1);
	vhc_request_complete_raw(c->request, c->len);
}

static inline bool run_control_clean(struct gen *g)
{
	uint32_t good = 0;
	for (uint32_t i = 0; i < sim.n; i++) {
		struct command *c = &sim.commands[i];
		c->state = c->good ? IS_UP : IS_DONE;
		good += c->good;
	}
	neighbour_begin(&fuzz.neighbour);
	ring_show(&fuzz.rig.ring);
	RIG_AWAIT(&fuzz.rig, fuzz.rig.ring.broken || used_now() + scsi.num_ups >= sim.n);
	if (!CHECK_EQ(scsi.num_ups, good) || !used_are_right())
		return false;
	for (uint32_t i = 0, up = 0; i < sim.n; i++) {
		struct command *c = &sim.commands[i];
		if (!c->good)
			continue;
		if (!control_up_is_right(&scsi.ups[up], c))
			return false;
		c->request = scsi.ups[up++].request;
	}
	scsi.num_ups = 0;
	while (count_state(IS_DONE) < sim.n) {
		struct command *c = &sim.commands[below(g, sim.n)];
		if (c->state == IS_DONE)
			continue;
		if (one_in(g, 2))
			check_data_read(g, c);
		if (one_in(g, 2))
			check_data_written(g, c);
		complete_raw(g, c);
	}
	sim.went_up += good;
	RIG_AWAIT(&fuzz.rig, fuzz.rig.ring.broken || used_now() >= sim.n);
	return check_ok && used_are_right() && neighbour_end(&fuzz.neighbour, &fuzz.rig) &&
	       memory_is_the_models();
}

/* ---- Event rings: buffers are kept until there is an event
 * ------------------------------ */

#define MISSED VIRTIO_SCSI_T_EVENTS_MISSED

static struct {
	uint32_t taken; /* of the case's chains */
	bool missed;
} events;

/* One that is too short for an event goes back, with the event that means nothing or as it was. */
static inline bool model_short(struct command *c)
{
	static uint8_t nothing[16];
	uint32_t len = UINT32_MAX;
	RIG_AWAIT(&fuzz.rig, fuzz.rig.ring.broken || used_now() > events.taken);
	if (!CHECK(used_length(c->head, events.taken + 1, &len)) ||
	    !CHECK(len == 0 || len == c->in_len))
		return false;
	model_gather(&fuzz.model, &c->chain, true, 0, nothing, len);
	return true;
}

/* Puts an event in the next buffer that has room for it. Returns whether there
 * was one. */
static inline bool model_event(struct virtio_scsi_event event)
{
	event.event |= events.missed ? MISSED : 0;
	while (events.taken < sim.n) {
		struct command *c = &sim.commands[events.taken];
		const bool fits = c->good && c->in_len >= sizeof(event);
		c->state = IS_DONE;
		c->len = 0;
		if (c->good && !fits && !model_short(c))
			return false;
		events.taken++;
		if (!fits)
			continue;
		model_gather(&fuzz.model, &c->chain, true, 0, (uint8_t *)&event, sizeof(event));
		c->len = sizeof(event);
		events.missed = false;
		return true;
	}
	events.missed = true;
	return false;
}

static inline bool event_used_are_right(void)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	RIG_AWAIT(&fuzz.rig, ring->broken || used_now() >= events.taken);
	if (!CHECK(!ring->broken) || !CHECK_EQ(used_now(), events.taken))
		return false;
	for (uint32_t i = 0; i < events.taken; i++) {
		const struct command *c = &sim.commands[i];
		const struct ring_use use = ring_used_at(ring, (uint16_t)(ring->used_seen + i));
		if (!CHECK_EQ(use.head, c->head) ||
		    (!(c->good && c->in_len < 16) && !CHECK_EQ(use.len, c->len)))
			return false;
	}
	return true;
}

static inline bool send_event(struct gen *g)
{
	const struct virtio_scsi_event event = {.event = 1 + below(g, 3),
						.lun = {1, (uint8_t)below(g, 256), 0x40},
						.reason = (uint32_t)gen_random(g)};
	const int sent =
	    vhc_reactor_send_event(fuzz.rig.reactor, fuzz.rig.ring.handle, (const uint8_t *)&event);
	return CHECK_EQ(sent, model_event(event)) && event_used_are_right();
}

static inline bool run_event_clean(struct gen *g)
{
	const struct virtio_scsi_event none = {0};
	events.taken = 0;
	for (uint32_t i = 0; i < sim.n; i++)
		sim.commands[i].state = IS_UP;
	neighbour_begin(&fuzz.neighbour);
	ring_show(&fuzz.rig.ring);
	/* It takes buffers of its own accord only to tell of what was lost. */
	if (events.missed)
		model_event(none);
	if (!event_used_are_right() || !neighbour_end(&fuzz.neighbour, &fuzz.rig) ||
	    !CHECK_EQ(used_now(), events.taken))
		return false;
	while (events.taken < sim.n) {
		if (!send_event(g))
			return false;
		sim.events++;
	}
	for (uint32_t i = one_in(g, 4) ? 1 + below(g, 2) : 0; i > 0; i--) {
		if (!send_event(g))
			return false;
	}
	return memory_is_the_models();
}

/* ---- What is not compared
 * ------------------------------------------------------------------ */

/* Outside of buffers nothing may change, whatever happens; inside anything may.
 */
static inline bool nothing_else_changed(void)
{
	static uint8_t may[MEMORY];
	const uint8_t *was = fuzz.model.memory, *is = fuzz.rig.memory;
	memset(may, 0, sizeof(may));
	memset(may + USED_AT, 1, RING_AREA - USED_AT);
	if (fuzz.rig.ring.packed)
		memset(may, 1, fuzz.rig.ring.size * 16);
	for (uint32_t i = 0; i < sim.n; i++) {
		const struct model_chain *chain = &sim.commands[i].chain;
		for (uint32_t p = 0; sim.commands[i].good && p < chain->count; p++) {
			const struct model_piece *piece = &chain->pieces[p];
			for (uint64_t n = 0; piece->in && n < piece->len; n++)
				may[rig_at(&fuzz.rig, piece->gpa + n) - fuzz.rig.memory] = 1;
		}
	}
	for (uint32_t i = 0; i < MEMORY; i++) {
		if (!may[i] && was[i] != is[i]) {
			fprintf(stderr, "byte %u of the memory: ", i);
			return CHECK_EQ(is[i], was[i]);
		}
	}
	return true;
}

static inline bool each_came_back_once(void)
{
	uint32_t len;
	bool ok = CHECK_EQ(used_now(), sim.n);
	for (uint32_t i = 0; i < sim.n; i++)
		ok = ok && CHECK(used_length(sim.commands[i].head, sim.n, &len));
	return ok;
}

/* As much of everything at once as can be. */
static inline bool run_scsi_wild(struct gen *g, bool disturbed, bool orderly)
{
	struct hostile_rig *rig = &fuzz.rig;
	const bool is_event = rig->ring.kind == EVENT_RING;
	const uint8_t event[16] = {1};
	neighbour_begin(&fuzz.neighbour);
	ring_show(&rig->ring);
	if (disturbed)
		disturb(g);
	for (uint32_t i = rig->ring.kind == REQUEST_RING ? below(g, 6) : 0; i > 0; i--)
		control_by_chance(g);
	for (uint32_t i = is_event ? 1 + below(g, 2 * MAX_CHAINS) : 0; i > 0; i--)
		CHECK(vhc_reactor_send_event(rig->reactor, rig->ring.handle, event) >= 0);
	vhc_eventfd_signal(rig->ring.kick);
	/* Some are stopped in the middle of it all. */
	const bool early = one_in(g, 8);
	if (!is_event && !early)
		RIG_AWAIT(rig, at_rest(&rig->ring));
	if (!neighbour_end(&fuzz.neighbour, rig) || !check_ok)
		return false;
	if (!orderly || is_event || early)
		return is_event || early || breaks_if_it_must();
	return CHECK(!rig->ring.broken) && each_came_back_once() && nothing_else_changed();
}

/* ---- A case
 * ---------------------------------------------------------------------------------
 */

/* Makes the requests of a kind of ring. */
static inline void (*scsi_body(enum ring_kind kind))(struct gen *, struct gen_request *)
{
	return kind == BLK_RING	      ? gen_blk_body
	       : kind == REQUEST_RING ? gen_scsi_body
	       : kind == CONTROL_RING ? gen_control_body
				      : gen_event_body;
}

static inline uint32_t count_bad(void)
{
	uint32_t bad = 0;
	for (uint32_t i = 0; i < sim.n; i++)
		bad += !sim.commands[i].good;
	return bad;
}

static inline bool run_random_scsi(struct gen *g)
{
	const enum ring_kind kind = fuzz.rig.ring.kind;
	const bool chaos = one_in(g, 8), disturbed = one_in(g, 16);
	uint16_t heads[MAX_CHAINS];
	g->body = scsi_body(kind);
	if (chaos || disturbed)
		scsi_by_chance(gen_random(g));
	else if (kind == REQUEST_RING)
		change_units(g);
	uint32_t n = gen_requests(g, heads);
	const bool bad_ring = gen_bad_ring(g);
	snapshot();
	n = offered_heads(heads, n);
	sim_begin(heads, n);
	const bool overlap = chains_overlap(heads, n);
	struct hostile_ring *ring = &fuzz.rig.ring;
	fuzz.disturbed = disturbed;
	ring->vague |= disturbed || overlap;
	scsi.stray = disturbed || bad_ring || overlap || ring->vague;
	fuzz.was_wild = chaos || scsi.stray || sim.vague;
	if (fuzz.was_wild) {
		if (!scsi.chance)
			scsi_by_chance(gen_random(g));
		fuzz.wild[kind]++;
		return run_scsi_wild(g, disturbed, !scsi.stray);
	}
	count_clean();
	if (n == 0)
		return true;
	if (kind == EVENT_RING)
		return run_event_clean(g);
	const uint64_t malformed = rig_malformed(&fuzz.rig) + count_bad();
	return (kind == REQUEST_RING ? run_scsi_clean(g) : run_control_clean(g)) &&
	       CHECK_EQ(rig_malformed(&fuzz.rig), malformed);
}

/* The sizes and the logical units that a ring has. */
static inline void scsi_before_ring(struct gen *g)
{
	static const uint32_t cdb_sizes[] = {6, 7, 10, 12, 16, 31, 64, 260};
	static const uint32_t sense_sizes[] = {0, 1, 18, 252};
	fuzz.rig.scsi = (struct vhc_scsi_config){
	    .cdb_size = one_in(g, 2) ? 32 : cdb_sizes[below(g, 8)],
	    .sense_size = one_in(g, 2) ? 96 : sense_sizes[below(g, 4)],
	};
	fuzz.rig.take = scsi_take;
	fuzz.rig.act = scsi_act;
	scsi.chance = NULL;
	scsi.stray = false;
	atomic_store(&scsi.flaky->polls, 0);
	scsi.num_ups = 0;
	scsi.num_aborted = 0;
	memset(scsi.idles, 0, sizeof(scsi.idles));
	events.missed = false;
	for (uint32_t u = 0; u < UNITS; u++) {
		scsi.units[u].attached = false;
		scsi.units[u].holds = scsi.units[u].idles = 0;
		unit_set_gates(&scsi.units[u], 0, 0);
	}
}

/* Where a ring has to have stopped that has given all back. */
static inline uint32_t stopped_at(struct hostile_ring *ring)
{
	const uint16_t used = ring_used_idx(ring);
	return ring->packed ? place_bits(ring->reach) * 0x10001u : used;
}

/* Ends a ring, whatever is still up or held. What was taken has come back then.
 */
static inline void scsi_stop_ring(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	if (!rig->ring.handle)
		return;
	if (!scsi.chance)
		scsi_by_chance(rig->ring.id);
	rig_stop_ring(rig);
	if (!rig->ring.broken && !scsi.stray && rig->ring.kind != BLK_RING) {
		CHECK_EQ(stopped_at(&rig->ring), rig->ring.base);
		CHECK_EQ(scsi.num_ups, 0);
	}
	if (!rig->ring.broken)
		CHECK_EQ(rig->stats->inflight, 0);
}

static inline void scsi_after_start(struct gen *g)
{
	for (uint32_t u = 0; u < UNITS && fuzz.rig.ring.kind == REQUEST_RING; u++) {
		if (!one_in(g, 8))
			unit_attach(&scsi.units[u]);
	}
}

#endif
