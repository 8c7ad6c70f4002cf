/* SPDX-License-Identifier: MIT */
/* The logical units attached to a queue: found by address, held, told to be idle. */
#include <errno.h>
#include <stdlib.h>

#include "scsi_queue.h"
#include "upcall.h"

struct lane_target {
	struct lane *luns[VHC_SCSI_LUNS];
};

struct lane_table {
	struct lane_target *targets[VHC_SCSI_TARGETS];
};

static uint32_t target_of(uint32_t address)
{
	return address >> 16;
}

static uint32_t lun_of(uint32_t address)
{
	return address & UINT16_MAX;
}

static bool is_valid(uint32_t address)
{
	return target_of(address) < VHC_SCSI_TARGETS && lun_of(address) < VHC_SCSI_LUNS;
}

struct lane *scsi_lane(const struct queue *queue, uint32_t address)
{
	const struct lane_target *target;

	if (!queue->lanes || !is_valid(address))
		return NULL;
	target = queue->lanes->targets[target_of(address)];
	return target ? target->luns[lun_of(address)] : NULL;
}

struct lane *scsi_next_lane(const struct queue *queue, const struct lane *after)
{
	uint32_t at = after ? after->address + 1 : 0;

	for (; queue->lanes && target_of(at) < VHC_SCSI_TARGETS;
	     at = VHC_LUN_ADDRESS(target_of(at) + 1, 0)) {
		if (!queue->lanes->targets[target_of(at)])
			continue;
		for (; lun_of(at) < VHC_SCSI_LUNS; at++)
			if (scsi_lane(queue, at))
				return scsi_lane(queue, at);
	}
	return NULL;
}

/* ---- Coming and going ---- */

/* Where an address has its lane. NULL without memory. */
static struct lane **place(struct queue *queue, uint32_t address)
{
	struct lane_target **target;

	if (!queue->lanes)
		queue->lanes = calloc(1, sizeof(*queue->lanes));
	if (!queue->lanes)
		return NULL;
	target = &queue->lanes->targets[target_of(address)];
	if (!*target)
		*target = calloc(1, sizeof(**target));
	return *target ? &(*target)->luns[lun_of(address)] : NULL;
}

int scsi_add_lane(struct queue *queue, uint32_t address, struct vhc_lun *lun,
		  struct vhc_stats *stats, struct lane **out)
{
	struct lane **at;
	struct lane *lane;

	if (!is_valid(address))
		return -EINVAL;
	at = place(queue, address);
	if (!at)
		return -ENOMEM;
	if (*at)
		return -EEXIST;
	lane = calloc(1, sizeof(*lane));
	if (!lane)
		return -ENOMEM;
	lane->queue = queue;
	lane->address = address;
	lane->stats = stats;
	lane->response_len = queue->tasks->response_len;
	lane->waiting_end = &lane->waiting;
	lane->lun = lun;
	lun_ref(lun);
	*at = lane;
	*out = lane;
	return 0;
}

static void free_lane(struct lane *lane)
{
	vhc_lun_release(lane->lun);
	free(lane);
}

/* No notice will come for those that have not gone up yet. */
static void forget_held(struct queue *queue, uint32_t address)
{
	for (struct task *task = queue->tasks->up; task; task = task->next)
		if (task->address == address)
			task->held = false;
}

void scsi_remove_lane(struct queue *queue, struct lane *lane)
{
	struct task *task = lane->waiting;

	*place(queue, lane->address) = NULL;
	forget_held(queue, lane->address);
	while (task) {
		struct task *next = task->next;

		scsi_dispatch(queue, task);
		task = next;
	}
	lane->detached = true;
	if (!lane->noticed)
		free_lane(lane);
}

void scsi_queue_free(struct queue *queue)
{
	struct lane *lane;

	abort_free_all(queue);
	while ((lane = queue->noticed)) {
		queue->noticed = lane->next_noticed;
		if (lane->detached)
			free_lane(lane);
	}
	if (!queue->lanes)
		return;
	for (uint32_t target = 0; target < VHC_SCSI_TARGETS; target++) {
		struct lane_target *of = queue->lanes->targets[target];

		for (uint32_t lun = 0; of && lun < VHC_SCSI_LUNS; lun++)
			if (of->luns[lun])
				free_lane(of->luns[lun]);
		free(of);
	}
	free(queue->lanes);
	queue->lanes = NULL;
}

/* ---- Holding ---- */

void scsi_hold(struct lane *lane)
{
	lane->holds++;
	lane->notices++;
	scsi_check_idle(lane);
}

void scsi_wait(struct lane *lane, struct task *task)
{
	task->next = NULL;
	*lane->waiting_end = task;
	lane->waiting_end = &task->next;
}

void scsi_run_waiting(struct lane *lane)
{
	struct io *ios[QUEUE_BATCH];
	struct task *task;
	uint32_t n = 0;

	/* One of them may hold the lane again. */
	while (lane->holds == 0 && (task = lane->waiting)) {
		lane->waiting = task->next;
		if (!lane->waiting)
			lane->waiting_end = &lane->waiting;
		if (scsi_dispatch(lane->queue, task))
			ios[n++] = task->io;
		if (n == QUEUE_BATCH) {
			lane_submit(lane, ios, n);
			n = 0;
		}
	}
	if (n > 0)
		lane_submit(lane, ios, n);
}

void scsi_resume(struct lane *lane)
{
	lane->holds--;
	scsi_run_waiting(lane);
}

/* ---- Telling ---- */

void scsi_check_idle(struct lane *lane)
{
	struct queue *queue = lane->queue;

	if (lane->notices == 0 || lane->inflight > 0)
		return;
	if (!lane->noticed) {
		lane->noticed = true;
		lane->next_noticed = queue->noticed;
		queue->noticed = lane;
	}
	queue_make_tell(queue);
}

void scsi_owe_notice(struct queue *queue, uint32_t address)
{
	struct lane *lane = scsi_lane(queue, address);

	if (!lane)
		return;
	lane->notices++;
	scsi_check_idle(lane);
}

static bool tell_idle(struct queue *queue, struct vhc_upcalls *upcalls)
{
	struct lane *lane;

	while ((lane = queue->noticed)) {
		const struct upcall_event event = {
		    .type = VHC_UPCALL_LUN_IDLE, .id = queue->ring->id, .arg = lane->address};

		for (; lane->notices > 0; lane->notices--)
			if (upcall_post(upcalls, &event, NULL, 0, NULL, 0))
				return false;
		queue->noticed = lane->next_noticed;
		lane->noticed = false;
		if (lane->detached)
			free_lane(lane);
	}
	return true;
}

bool scsi_tell(struct queue *queue, struct vhc_upcalls *upcalls)
{
	bool told = tasks_tell(queue, upcalls);

	told &= tell_idle(queue, upcalls);
	return abort_tell(queue, upcalls) && told;
}
