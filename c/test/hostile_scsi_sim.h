/* SPDX-License-Identifier: MIT */
/*
 * What the commands of a case are at, by the model: executed, waiting, or up;
 * and whether the device has them there too.
 */
#ifndef VHC_HOSTILE_SCSI_SIM_H
#define VHC_HOSTILE_SCSI_SIM_H

#include "hostile_scsi_random.h"

struct sim {
	struct command commands[MAX_CHAINS];
	uint32_t n;
	struct command *waiting[UNITS][MAX_CHAINS]; /* in the order they came */
	uint32_t num_waiting[UNITS];
	struct command *rising[MAX_CHAINS]; /* up, and not yet seen, in that order */
	uint32_t num_rising;
	uint32_t next_cookie;
	bool vague; /* what must come of a command depends on what the device thinks
		       of it */
	uint64_t executed, went_up, waited, aborted, failed, events; /* for the totals */
};

static struct sim sim;

/* ---- The model's side
 * --------------------------------------------------------------- */

static inline uint32_t unit_index(const struct unit *unit)
{
	return (uint32_t)(unit - scsi.units);
}

static inline void sim_up(struct command *c, int status, bool held)
{
	c->state = IS_UP;
	c->was_up = true;
	c->status = status;
	c->held = held;
	sim.rising[sim.num_rising++] = c;
	sim.went_up++;
}

static inline void sim_wait(struct command *c)
{
	const uint32_t u = unit_index(c->unit);
	c->state = WAITS;
	sim.waiting[u][sim.num_waiting[u]++] = c;
	sim.waited++;
}

/* The disk does it, or fails: then it goes up, with that. */
static inline void sim_io(struct command *c, const struct disk_io *io)
{
	sim.executed++;
	sim.failed += model_fails(c, io);
	if (model_fails(c, io))
		sim_up(c, -EIO, false);
	else
		model_io(c, io);
}

/* Executes a command, or ends it as the gate has it. Up: the device may have
 * that too. */
static inline void sim_execute(struct command *c, const struct disk_io *io, enum verdict verdict)
{
	const uint32_t gate = gate_of(c->unit, io);
	if (gate == VHC_GATE_ASK || goes_up(verdict)) {
		sim_up(c, 0, false);
	} else if (gate == VHC_GATE_CONFLICT) {
		model_end(c, 0, 0x18, 0, 0);
	} else {
		sim_io(c, io);
	}
}

static inline void sim_ordered(struct command *c)
{
	c->unit->holds++;
	c->unit->idles++;
	sim_up(c, 0, true);
}

/* The device takes it from the ring. went_up: what it did with one that it may
 * do both with. */
static inline void sim_take(struct command *c, bool went_up)
{
	struct disk_io io;
	if (!c->good) {
		c->state = IS_DONE;
		c->len = 0;
		return;
	}
	c->unit = model_unit(c);
	if (!c->unit) {
		sim_up(c, 0, false);
		return;
	}
	const bool ordered = attr_of(c) == 1;
	const enum verdict verdict = ordered ? MUST_EXECUTE : judge(c, &io);
	const bool up = !ordered && (goes_up(verdict) || (verdict == MAY_EXECUTE && went_up) ||
				     gate_of(c->unit, &io) == VHC_GATE_ASK);
	if (up)
		sim_up(c, 0, false);
	else if (c->unit->holds)
		sim_wait(c);
	else if (ordered)
		sim_ordered(c);
	else
		sim_execute(c, &io, verdict);
}

/* Whether what becomes of it cannot be told beforehand, nor seen at once. */
static inline bool is_vague(struct command *c, bool *ordered)
{
	struct disk_io io;
	const struct unit *unit = c->good ? c->unit = model_unit(c) : NULL;
	if (!unit)
		return false;
	if (attr_of(c) == 1) {
		ordered[unit_index(unit)] = true;
		return false;
	}
	const enum verdict verdict = judge(c, &io);
	const bool waits = unit->holds || ordered[unit_index(unit)];
	/* Before a gate that ends it, the device may look at what it asks for or not,
	 * and wait. */
	if (gate_of(unit, &io) == VHC_GATE_CONFLICT)
		return verdict != MUST_EXECUTE || waits;
	return (verdict == MAY_EXECUTE || verdict == GOES_UP_BY_DATA) && waits;
}

static inline void sim_run_waiting(struct command *c)
{
	struct disk_io io;
	if (c->told) {
		c->told = false;
		sim_io(c, &c->told_io);
	} else if (attr_of(c) == 1 && !c->was_up) {
		sim_ordered(c);
	} else {
		const enum verdict verdict = judge(c, &io);
		sim_execute(c, &io, verdict);
	}
}

static inline struct command *pop_waiting(uint32_t u, uint32_t i)
{
	struct command *c = sim.waiting[u][i];
	sim.num_waiting[u]--;
	memmove(&sim.waiting[u][i], &sim.waiting[u][i + 1],
		(sim.num_waiting[u] - i) * sizeof(struct command *));
	return c;
}

static inline void sim_resume(struct unit *unit)
{
	const uint32_t u = unit_index(unit);
	unit->holds--;
	while (unit->holds == 0 && sim.num_waiting[u] > 0)
		sim_run_waiting(pop_waiting(u, 0));
}

static inline void sim_detach(struct unit *unit)
{
	const uint32_t u = unit_index(unit);
	unit->attached = false;
	unit->holds = 0;
	while (sim.num_waiting[u] > 0) {
		struct command *c = pop_waiting(u, 0);
		sim_up(c, c->told ? -ENODEV : 0, false);
		c->told = false;
	}
}

static inline uint32_t sim_abort(const struct vhc_abort *abort)
{
	uint32_t count = 0;
	for (uint32_t u = 0; u < UNITS; u++) {
		if (!(abort->flags & VHC_ABORT_ALL_LUNS) && scsi.units[u].address != abort->address)
			continue;
		for (uint32_t i = 0; i < sim.num_waiting[u];) {
			struct command *c = sim.waiting[u][i];
			if ((abort->flags & VHC_ABORT_BY_TAG) && tag_of(c) != abort->tag) {
				i++;
				continue;
			}
			count++;
			if (abort->flags & VHC_ABORT_QUERY)
				i++;
			else
				model_end(pop_waiting(u, i), abort->response, 0, 0, 0);
		}
	}
	return count;
}

/* ---- The device's side
 * ------------------------------------------------------------------- */

static inline uint32_t count_state(enum command_state state)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < sim.n; i++)
		count += sim.commands[i].state == state;
	return count;
}

static inline uint32_t used_now(void)
{
	return (uint16_t)(ring_used_idx(&fuzz.rig.ring) - fuzz.rig.ring.used_seen);
}

/* Requests that the device has taken and not ended. */
static inline uint32_t inflight_now(void)
{
	return (uint32_t)__atomic_load_n(&fuzz.rig.stats->inflight, __ATOMIC_ACQUIRE);
}

/* All that the model says must have shown has, or more. */
static inline bool settled(void)
{
	const uint32_t done = count_state(IS_DONE);
	uint32_t idles = 0, seen = 0;
	for (uint32_t u = 0; u < UNITS; u++) {
		idles += scsi.units[u].idles;
		seen += scsi.idles[u];
	}
	return fuzz.rig.ring.broken ||
	       (used_now() + scsi.num_ups >= done + sim.num_rising && seen >= idles &&
		(used_now() > done || inflight_now() == sim.n - done));
}

static inline bool is_plain_write(uint8_t opcode)
{
	return opcode == 0x0a || opcode == 0x2a || opcode == 0xaa || opcode == 0x8a;
}

/* What comes with a request: as much of data-out as fits. */
static inline bool brings_the_data(const struct up *up, const struct command *c, uint64_t skip,
				   bool none)
{
	static uint8_t data[VHC_MSG_MAX + 16];
	const uint64_t out_len = up->info.out_len;
	if (none)
		return CHECK_EQ(up->len, 0);
	if (!CHECK(up->len <= out_len) ||
	    !CHECK(up->len == out_len || up->len + sizeof(up->info) >= VHC_MSG_MAX))
		return false;
	model_gather(&fuzz.model, &c->chain, false, skip, data, up->len);
	return CHECK(!memcmp(data, up->data, up->len));
}

static inline bool up_is_right(const struct up *up, struct command *c)
{
	const struct vhc_request_info *info = &up->info;
	const uint32_t cdb_size = fuzz.rig.scsi.cdb_size;
	uint8_t cdb[sizeof(info->cdb)] = {0};
	memcpy(cdb, cdb_of(c), cdb_size);
	return CHECK_EQ(up->status, c->status) && CHECK_EQ(info->out_len, c->out_len) &&
	       CHECK_EQ(info->in_len, c->in_len) && CHECK_EQ(info->tag, tag_of(c)) &&
	       CHECK(!memcmp(info->lun, c->header, 8)) && CHECK_EQ(info->task_attr, attr_of(c)) &&
	       CHECK_EQ(info->cdb_len, cdb_size) && CHECK_EQ(info->held, c->held) &&
	       CHECK(!memcmp(info->cdb, cdb, sizeof(cdb))) &&
	       brings_the_data(up, c, CMD_HEADER + cdb_size, is_plain_write(cdb[0]));
}

/* The command that came up: the next, unless the disk took its time to fail one. */
static inline struct command *take_rising(const struct up *up)
{
	uint32_t at = 0;
	bool in_order = true;
	for (uint32_t i = 0; i < sim.num_rising; i++)
		in_order &= sim.rising[i]->status != -EIO;
	while (!in_order && at + 1 < sim.num_rising && tag_of(sim.rising[at]) != up->info.tag)
		at++;
	struct command *c = sim.rising[at];
	memmove(&sim.rising[at], &sim.rising[at + 1],
		(--sim.num_rising - at) * sizeof(struct command *));
	return c;
}

/* What came up is what must have come, in that order. */
static inline bool ups_are_right(void)
{
	if (!CHECK_EQ(scsi.num_ups, sim.num_rising))
		return false;
	for (uint32_t i = 0; i < scsi.num_ups; i++) {
		struct command *c = take_rising(&scsi.ups[i]);
		if (!up_is_right(&scsi.ups[i], c))
			return false;
		if (c->request)
			CHECK_EQ(scsi.ups[i].request, c->request);
		c->request = scsi.ups[i].request;
	}
	scsi.num_ups = 0;
	return true;
}

static inline bool used_are_right(void)
{
	if (!CHECK(!fuzz.rig.ring.broken) || !CHECK_EQ(used_now(), count_state(IS_DONE)))
		return false;
	for (uint32_t i = 0; i < sim.n; i++) {
		const struct command *c = &sim.commands[i];
		uint32_t len = UINT32_MAX;
		const bool used = used_length(c->head, used_now(), &len);
		if (!CHECK_EQ(used, c->state == IS_DONE) || (used && !CHECK_EQ(len, c->len)))
			return false;
	}
	return true;
}

static inline bool idles_are_right(void)
{
	bool ok = CHECK_EQ(scsi.idles[UNITS], 0);
	for (uint32_t u = 0; u < UNITS; u++)
		ok &= CHECK_EQ(scsi.idles[u], scsi.units[u].idles);
	return ok;
}

/* For a hang: what each command is at, by the model. */
static inline void sim_print(void)
{
	static const char *const states[] = {"waits", "up", "done"};
	fprintf(stderr, "%s; used %u, up here %u, to come %u; chance %d, broken %d\n",
		sim.vague ? "vague" : "clear", used_now(), scsi.num_ups, sim.num_rising,
		scsi.chance != NULL, fuzz.rig.ring.broken);
	for (uint32_t i = 0; i < sim.n; i++) {
		const struct command *c = &sim.commands[i];
		fprintf(stderr,
			"head %u: %s, good %d, opcode %#x, attr %u, unit %d, out %llu, in %llu, "
			"status %d, LBA bytes %#llx, byte 1 %#x\n",
			c->head, states[c->state], c->good, c->header[CMD_HEADER], attr_of(c),
			c->unit ? (int)unit_index(c->unit) : -1, (unsigned long long)c->out_len,
			(unsigned long long)c->in_len, c->status,
			(unsigned long long)be(c->header + CMD_HEADER + 2, 8),
			c->header[CMD_HEADER + 1]);
	}
	for (uint32_t u = 0; u < UNITS; u++)
		fprintf(stderr, "unit %u: attached %d, holds %u, idle %u of %u, gates %u %u\n", u,
			scsi.units[u].attached, scsi.units[u].holds, scsi.idles[u],
			scsi.units[u].idles, scsi.units[u].gates[0], scsi.units[u].gates[1]);
}

static inline bool settle(void)
{
	RIG_AWAIT(&fuzz.rig, settled());
	return used_are_right() && ups_are_right() && idles_are_right();
}

static inline bool disks_are_the_models(void)
{
	bool ok = true;
	for (uint32_t u = 0; u < UNITS; u++)
		ok &= CHECK(!memcmp(scsi.units[u].disk, (const void *)scsi.units[u].pages.addr,
				    UNIT_BYTES));
	return ok;
}

#endif
