/* SPDX-License-Identifier: MIT */
/*
 * Runs cases of a request ring beside the model: it offers chains, sees what was
 * executed and what came up, does what TypeScript and its controllers do (in any
 * order), and has the model do the same.
 */
#ifndef VHC_HOSTILE_SCSI_RUN_H
#define VHC_HOSTILE_SCSI_RUN_H

#include "hostile_scsi_sim.h"

/* ---- What may happen to those that are not done
 * ---------------------------------------------- */

static inline bool check_data_read(struct gen *g, const struct command *c)
{
	static uint8_t got[1200], want[1200];
	const uint64_t offset = below(g, (uint32_t)c->out_len + 20);
	const uint32_t len = below(g, sizeof(got));
	const uint64_t left = offset < c->out_len ? c->out_len - offset : 0;
	const uint32_t expected = len < left ? len : (uint32_t)left;
	const int n = vhc_request_read(c->request, offset, got, len);
	model_gather(&fuzz.model, &c->chain, false, out_skip() + offset, want, expected);
	return CHECK_EQ(n, expected) && CHECK(!memcmp(got, want, expected));
}

static inline bool check_data_written(struct gen *g, const struct command *c)
{
	static uint8_t bytes[1200];
	const uint64_t offset = below(g, (uint32_t)c->in_len + 20);
	const uint32_t len = below(g, sizeof(bytes));
	const uint64_t left = offset < c->in_len ? c->in_len - offset : 0;
	const uint32_t expected = len < left ? len : (uint32_t)left;
	memset(bytes, (int)gen_random(g), sizeof(bytes));
	const int n = vhc_request_write(c->request, offset, bytes, len);
	model_gather(&fuzz.model, &c->chain, true, in_skip() + offset, bytes, expected);
	return CHECK_EQ(n, expected);
}

static inline void complete(struct gen *g, struct command *c)
{
	const struct vhc_scsi_result result = random_result(g, c->in_len);
	vhc_request_complete(c->request, &result);
	model_respond(c, &result);
}

/* A range that is in the device and in the buffer, or one that is not. */
static inline bool told_range(struct gen *g, const struct command *c, struct disk_io *io)
{
	const uint32_t size = c->unit ? c->unit->block_size : 512;
	const uint64_t there = io->op == VHC_OP_READ ? c->in_len : c->out_len;
	const uint32_t all = UNIT_BYTES / size;
	io->blocks = 1 + below(g, one_in(g, 8)	 ? all + 3
				  : there / size ? (uint32_t)(there / size)
						 : 1);
	io->lba = one_in(g, 8) ? below(g, all + 2) : below(g, all);
	io->transfer = io->blocks * size;
	return c->unit && c->unit->attached && in_unit(c->unit, io->lba, io->blocks) &&
	       io->transfer <= there;
}

static inline void execute(struct gen *g, struct command *c)
{
	struct disk_io io = {.op = one_in(g, 2) ? VHC_OP_READ : VHC_OP_WRITE};
	const uint32_t held = below(g, 2) ? VHC_EXECUTE_HELD : 0;
	const bool good = told_range(g, c, &io);
	const bool here = c->unit && c->unit->attached;
	const bool waits = here && c->unit->holds && !held;
	/* When it is told that it cannot be, while it would wait, is the device's
	 * business. */
	if (waits && !good)
		return;
	vhc_request_execute(c->request, io.op, held | (one_in(g, 2) ? VHC_EXECUTE_DURABLE : 0),
			    io.lba * (c->unit ? c->unit->block_size : 512), io.transfer);
	if (!good) {
		sim_up(c, here ? -ERANGE : -ENODEV, false);
	} else if (waits) {
		c->told = true;
		c->told_io = io;
		sim_wait(c);
	} else {
		sim_io(c, &io);
	}
}

static inline void answer_one(struct gen *g)
{
	struct command *c = &sim.commands[below(g, sim.n)];
	if (c->state != IS_UP || !c->request)
		return;
	if (one_in(g, 3))
		check_data_read(g, c);
	if (one_in(g, 3))
		check_data_written(g, c);
	if (c->status == 0 && one_in(g, 3))
		execute(g, c);
	else
		complete(g, c);
}

static inline void resume_one(struct gen *g)
{
	struct unit *unit = &scsi.units[below(g, UNITS)];
	const bool can = unit->attached && unit->holds;
	const int result =
	    vhc_reactor_resume_lun(fuzz.rig.reactor, fuzz.rig.ring.handle, unit->address);
	CHECK_EQ(result, can ? 0 : -ENOENT);
	if (can)
		sim_resume(unit);
}

/* It holds once the device says so. */
static inline void hold(struct unit *unit)
{
	const uint32_t u = unit_index(unit);
	CHECK_EQ(vhc_reactor_hold_lun(fuzz.rig.reactor, fuzz.rig.ring.handle, unit->address), 0);
	unit->holds += unit->attached;
	unit->idles++;
	RIG_AWAIT(&fuzz.rig, scsi.idles[u] >= unit->idles);
}

static inline void hold_one(struct gen *g)
{
	hold(&scsi.units[below(g, UNITS)]);
}

static inline void abort_some(struct gen *g)
{
	const struct command *c = &sim.commands[below(g, sim.n)];
	const struct vhc_abort abort = {
	    .tag = c->good ? tag_of(c) : 0,
	    .flags = one_in(g, 4) ? below(g, 8) : VHC_ABORT_BY_TAG,
	    .address = c->unit ? c->unit->address : scsi.units[0].address,
	    .response = one_in(g, 2) ? VIRTIO_SCSI_S_ABORTED : VIRTIO_SCSI_S_RESET,
	    .cookie = ++sim.next_cookie,
	};
	const uint32_t before = scsi.num_aborted;
	if (!settle()) /* the disk has nothing left to do */
		return;
	CHECK_EQ(vhc_reactor_abort(fuzz.rig.reactor, fuzz.rig.ring.handle, &abort), 0);
	const uint32_t count = sim_abort(&abort);
	RIG_AWAIT(&fuzz.rig, scsi.num_aborted > before);
	CHECK_EQ(scsi.num_aborted, before + 1);
	CHECK_EQ(scsi.last_cookie, abort.cookie);
	CHECK_EQ(scsi.last_aborted, (int)count);
	sim.aborted += count;
}

static inline void detach_one(struct gen *g)
{
	struct unit *unit = &scsi.units[below(g, UNITS)];
	const bool can = unit->attached;
	if (!settle())
		return;
	CHECK_EQ(vhc_reactor_detach_lun(fuzz.rig.reactor, fuzz.rig.ring.handle, unit->address),
		 can ? 0 : -ENOENT);
	if (can)
		sim_detach(unit);
}

static inline void act_once(struct gen *g)
{
	const uint32_t act = below(g, 32);
	if (act < 18)
		answer_one(g);
	else if (act < 26)
		resume_one(g);
	else if (act < 29)
		abort_some(g);
	else if (act < 30)
		hold_one(g);
	else if (act < 31 && one_in(g, 4))
		detach_one(g);
}

/* Acts at random until nothing is left. */
static inline bool act_until_done(struct gen *g)
{
	uint32_t acts = 0;
	while (count_state(IS_DONE) < sim.n && check_ok) {
		if (acts++ < 200) {
			act_once(g);
		} else { /* enough of holds */
			resume_one(g);
			answer_one(g);
		}
		if ((sim.num_rising || one_in(g, 4)) && !settle())
			return false;
	}
	return check_ok && settle();
}

/* ---- A case
 * ----------------------------------------------------------------------------------
 */

/* Between cases, nothing waits: then gates may change, and logical units come
 * back. */
static inline void change_units(struct gen *g)
{
	for (uint32_t u = 0; u < UNITS; u++) {
		struct unit *unit = &scsi.units[u];
		if (!unit->attached && one_in(g, 2))
			unit_attach(unit);
		while (unit->attached && unit->holds && !one_in(g, 4)) {
			CHECK_EQ(vhc_reactor_resume_lun(fuzz.rig.reactor, fuzz.rig.ring.handle,
							unit->address),
				 0);
			unit->holds--;
		}
		if (one_in(g, 4))
			unit_set_gates(unit, one_in(g, 5) ? below(g, 3) : 0,
				       one_in(g, 5) ? below(g, 3) : 0);
		if (one_in(g, 6))
			hold(unit);
	}
}

static inline void sim_begin(const uint16_t *heads, uint32_t n)
{
	bool ordered[UNITS] = {false};
	sim.n = n;
	sim.vague = false;
	sim.num_rising = scsi.num_ups = 0;
	for (uint32_t u = 0; u < UNITS; u++) {
		sim.num_waiting[u] = 0;
		memcpy(scsi.units[u].disk, (const void *)scsi.units[u].pages.addr, UNIT_BYTES);
	}
	for (uint32_t i = 0; i < n; i++) {
		model_read_command(&sim.commands[i], heads[i]);
		sim.vague |= is_vague(&sim.commands[i], ordered);
	}
}

/* Whether the device sent a command up that it may; not because its disk failed it. */
static inline bool is_among_ups(const struct command *c)
{
	for (uint32_t i = 0; i < scsi.num_ups; i++) {
		if (c->good && scsi.ups[i].info.tag == tag_of(c) && !scsi.ups[i].status)
			return true;
	}
	return false;
}

/* How many of the commands will show at once, done or up, for all that is
 * known. */
static inline uint32_t showing(void)
{
	uint32_t holds[UNITS], count = 0;
	struct disk_io io;
	for (uint32_t u = 0; u < UNITS; u++)
		holds[u] = scsi.units[u].holds;
	for (uint32_t i = 0; i < sim.n; i++) {
		struct command *c = &sim.commands[i];
		struct unit *unit = c->good ? model_unit(c) : NULL;
		const bool ordered = unit && attr_of(c) == 1;
		if (unit && holds[unit_index(unit)] &&
		    (ordered || (!goes_up(judge(c, &io)) && gate_of(unit, &io) != VHC_GATE_ASK)))
			continue;
		count++;
		if (ordered)
			holds[unit_index(unit)]++;
	}
	return count;
}

static inline bool run_scsi_clean(struct gen *g)
{
	const uint32_t show = showing();
	neighbour_begin(&fuzz.neighbour);
	ring_show(&fuzz.rig.ring);
	/* Those that wait show in the statistics alone. */
	RIG_AWAIT(&fuzz.rig, fuzz.rig.ring.broken || (used_now() + scsi.num_ups >= show &&
						      used_now() + inflight_now() >= sim.n));
	for (uint32_t i = 0; i < sim.n; i++)
		sim_take(&sim.commands[i], is_among_ups(&sim.commands[i]));
	return settle() && act_until_done(g) && neighbour_end(&fuzz.neighbour, &fuzz.rig) &&
	       memory_is_the_models() && disks_are_the_models();
}

#endif
