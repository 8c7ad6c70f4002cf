/* SPDX-License-Identifier: MIT */
/*
 * The logical units of a virtio-scsi device, and the part of TypeScript: what
 * comes up is kept here until a case, or chance, decides what becomes of it.
 */
#ifndef VHC_HOSTILE_SCSI_RIG_H
#define VHC_HOSTILE_SCSI_RIG_H

#include <linux/virtio_scsi.h>

#include "hostile_flaky.h"
#include "hostile_run.h"

#define UNITS 3u
#define UNIT_BYTES (32 * KIB)
#define FLAKY_UNIT 2u /* on a disk that fails where it ends */
#define FLAKY_GOOD (UNIT_BYTES - 6 * 512)
#define MAX_BLOCKS 40u
#define MAX_UNMAP 50u
#define MAX_SAME 30u
#define CMD_HEADER 19u /* of struct virtio_scsi_req_cmd, before the CDB */
#define CMD_RESPONSE 12u
#define MAX_UPS 320u

enum {
	READ_GATE,
	WRITE_GATE
};

/* A logical unit, and what the model knows of it. */
struct unit {
	uint32_t address, block_size;
	struct vhc_pages pages;
	struct vhc_bdev *bdev;
	struct vhc_lun *lun;
	/* On the ring that runs. */
	bool attached;
	uint32_t holds;
	uint32_t gates[2];
	uint32_t idles;		  /* LUN_IDLE upcalls to come */
	uint8_t disk[UNIT_BYTES]; /* the model's */
};

/* A request that came up and is ours. */
struct up {
	uint64_t request;
	int status;
	uint32_t len; /* of what came with it */
	struct vhc_request_info info;
	uint8_t data[VHC_MSG_MAX + 16];
};

struct scsi {
	struct unit units[UNITS];
	struct flaky *flaky;
	struct up ups[MAX_UPS];
	uint32_t num_ups;
	uint32_t idles[UNITS + 1]; /* LUN_IDLE upcalls that came, by unit; the last:
				      of others */
	uint32_t num_aborted, last_cookie;
	int last_aborted;
	struct gen *chance; /* what decides while nothing is compared; NULL: the case does */
	struct gen own;
	bool stray; /* buffers or indices of the ring are not to be relied on */
};

static struct scsi scsi;

static inline bool scsi_unit_up(struct unit *unit, uint32_t address, uint32_t block_size)
{
	*unit = (struct unit){.address = address, .block_size = block_size};
	if (!CHECK_EQ(vhc_pages_alloc(UNIT_BYTES, 4096, -1, -1, 0, &unit->pages), 0))
		return false;
	if (unit == &scsi.units[FLAKY_UNIT]) {
		scsi.flaky = flaky_create((uint8_t *)unit->pages.addr, UNIT_BYTES, FLAKY_GOOD);
		unit->bdev = &scsi.flaky->bdev;
	} else if (!CHECK_EQ(vhc_bdev_malloc_create(&unit->pages, block_size,
						    UNIT_BYTES / block_size, &unit->bdev),
			     0)) {
		return false;
	}
	const struct vhc_lun_config config = {
	    .bdev = (uint64_t)unit->bdev,
	    .writeback = 1,
	    .max_blocks = MAX_BLOCKS,
	    .max_unmap = MAX_UNMAP,
	    .max_write_same = MAX_SAME,
	};
	return CHECK_EQ(vhc_lun_create(&config, &unit->lun), 0);
}

static inline bool scsi_up(void)
{
	return scsi_unit_up(&scsi.units[0], VHC_LUN_ADDRESS(0, 0), 512) &&
	       scsi_unit_up(&scsi.units[1], VHC_LUN_ADDRESS(3, 7), 4096) &&
	       scsi_unit_up(&scsi.units[2], VHC_LUN_ADDRESS(255, 255), 512);
}

static inline void scsi_down(void)
{
	for (uint32_t i = 0; i < UNITS; i++) {
		vhc_lun_release(scsi.units[i].lun);
		vhc_bdev_release(scsi.units[i].bdev);
	}
	vhc_pages_free(&scsi.units[FLAKY_UNIT].pages);
}

static inline bool unit_attach(struct unit *unit)
{
	unit->attached = true;
	unit->holds = 0;
	return CHECK_EQ(vhc_reactor_attach_lun(fuzz.rig.reactor, fuzz.rig.ring.handle,
					       unit->address, unit->lun, 0),
			0);
}

static inline void unit_set_gates(struct unit *unit, uint32_t read_gate, uint32_t write_gate)
{
	unit->gates[READ_GATE] = read_gate;
	unit->gates[WRITE_GATE] = write_gate;
	vhc_lun_set_gates(unit->lun, read_gate, write_gate);
}

static inline struct unit *unit_at(uint32_t address)
{
	for (uint32_t i = 0; i < UNITS; i++) {
		if (scsi.units[i].address == address)
			return &scsi.units[i];
	}
	return NULL;
}

/* ---- Upcalls
 * ---------------------------------------------------------------------- */

static inline void take_request(const struct vhc_upcall *upcall)
{
	struct up *up = &scsi.ups[scsi.num_ups];
	if (!CHECK(scsi.num_ups < MAX_UPS) || !CHECK(upcall->len >= sizeof(up->info)) ||
	    !CHECK(upcall->len <= sizeof(upcall->data)) || !CHECK(upcall->arg != 0))
		return;
	scsi.num_ups++;
	up->request = upcall->arg;
	up->status = upcall->status;
	memcpy(&up->info, upcall->data, sizeof(up->info));
	up->len = upcall->len - (uint32_t)sizeof(up->info);
	memcpy(up->data, upcall->data + sizeof(up->info), up->len);
	CHECK_EQ(up->info.copied, up->len);
}

static inline void scsi_take(const struct vhc_upcall *upcall)
{
	if (upcall->type == VHC_UPCALL_REQUEST) {
		take_request(upcall);
	} else if (upcall->type == VHC_UPCALL_LUN_IDLE) {
		const struct unit *unit = unit_at((uint32_t)upcall->arg);
		scsi.idles[unit ? (uint32_t)(unit - scsi.units) : UNITS]++;
	} else if (upcall->type == VHC_UPCALL_ABORTED) {
		scsi.num_aborted++;
		scsi.last_cookie = (uint32_t)upcall->arg;
		scsi.last_aborted = upcall->status;
	} else {
		CHECK_EQ(upcall->type, VHC_UPCALL_REQUEST);
	}
}

static inline void drop_up(uint32_t i)
{
	scsi.ups[i] = scsi.ups[--scsi.num_ups];
}

/* ---- Answers by chance
 * ---------------------------------------------------------------- */

static inline struct vhc_scsi_result random_result(struct gen *g, uint64_t in_len)
{
	struct vhc_scsi_result result = {
	    .response = one_in(g, 4) ? below(g, 10) : 0,
	    .status = one_in(g, 2)  ? 2
		      : below(g, 2) ? 0
				    : below(g, 256),
	    .residual = (uint32_t)gen_random(g),
	    .written = in_len && one_in(g, 2) ? below(g, (uint32_t)in_len + 1) : 0,
	    .sense_len = one_in(g, 2) ? 0 : below(g, VHC_SCSI_MAX_SENSE + 1),
	};
	for (uint32_t i = 0; i < result.sense_len; i++)
		result.sense[i] = (uint8_t)gen_random(g);
	return result;
}

/* Touches the data as a command might, past its end too. */
static inline void touch_data(struct gen *g, const struct up *up)
{
	uint8_t bytes[600];
	uint64_t offset = below(g, 9000);
	uint32_t len = below(g, sizeof(bytes) + 1);
	memset(bytes, 0x77, sizeof(bytes));
	int n = one_in(g, 2) ? vhc_request_read(up->request, offset, bytes, len)
			     : vhc_request_write(up->request, offset, bytes, len);
	CHECK(n >= 0 && (uint32_t)n <= len);
}

static inline void answer_up(struct gen *g, const struct up *up)
{
	if (one_in(g, 4))
		touch_data(g, up);
	if (fuzz.rig.ring.kind == CONTROL_RING) {
		vhc_request_complete_raw(up->request,
					 up->info.in_len < KIB ? (uint32_t)up->info.in_len : 1);
		return;
	}
	if (up->status == 0 && one_in(g, 3)) {
		vhc_request_execute(up->request, below(g, 2), VHC_EXECUTE_HELD, below(g, 64) * 512,
				    below(g, 20) * 512);
		return;
	}
	const struct vhc_scsi_result result =
	    random_result(g, up->info.in_len < KIB ? up->info.in_len : KIB);
	vhc_request_complete(up->request, &result);
}

/* Ends all holds, wherever they come from. */
static inline void resume_by_chance(struct gen *g)
{
	struct unit *unit = &scsi.units[below(g, UNITS)];
	vhc_reactor_resume_lun(fuzz.rig.reactor, fuzz.rig.ring.handle, unit->address);
}

/* What control threads do, at any moment. */
static inline void control_by_chance(struct gen *g)
{
	struct vhc_reactor *reactor = fuzz.rig.reactor;
	struct vhc_ring *ring = fuzz.rig.ring.handle;
	struct unit *unit = &scsi.units[below(g, UNITS)];
	struct vhc_abort abort = {.tag = below(g, 4),
				  .flags = below(g, 8),
				  .address = unit->address,
				  .response = VIRTIO_SCSI_S_RESET};
	int result = 0;
	switch (below(g, 6)) {
	case 0:
		result = vhc_reactor_hold_lun(reactor, ring, unit->address);
		break;
	case 1:
		result = vhc_reactor_detach_lun(reactor, ring, unit->address);
		break;
	case 2:
		result = vhc_reactor_attach_lun(reactor, ring, unit->address, unit->lun, 0);
		break;
	case 3:
		result = vhc_reactor_abort(reactor, ring, &abort);
		break;
	case 4:
		vhc_lun_set_gates(unit->lun, below(g, 3), below(g, 3));
		break;
	default:
		vhc_lun_set_writeback(unit->lun, below(g, 2) != 0);
	}
	CHECK(result == 0 || result == -ENOENT || result == -EEXIST || result == -EBUSY);
}

/* Between upcalls, while chance decides: nothing that came up stays here for
 * ever. */
static inline void scsi_act(void)
{
	struct gen *g = scsi.chance;
	if (!g)
		return;
	while (scsi.num_ups > 0 && !one_in(g, 8)) {
		const uint32_t i = below(g, scsi.num_ups);
		answer_up(g, &scsi.ups[i]);
		drop_up(i);
	}
	if (fuzz.rig.ring.kind != REQUEST_RING || !fuzz.rig.ring.running)
		return;
	if (one_in(g, 4))
		resume_by_chance(g);
}

/* Leaves what follows to chance. */
static inline void scsi_by_chance(uint64_t seed)
{
	scsi.own = (struct gen){.rig = &fuzz.rig, .random = seed};
	atomic_store(&scsi.flaky->polls, below(&scsi.own, 200));
	scsi.chance = &scsi.own;
}

#endif
