/* SPDX-License-Identifier: MIT */
/* Requests on their way up, as far as there is room for them. */
#include <string.h>

#include "scsi_queue.h"
#include "task.h"
#include "upcall.h"

#define MAX_COPIED (VHC_MSG_MAX - sizeof(struct vhc_request_info))

struct request_upcall {
	struct vhc_request_info info;
	uint8_t data[MAX_COPIED];
};
_Static_assert(sizeof(struct request_upcall) == VHC_MSG_MAX, "info and data fit in a slot");

static void describe_command(const struct queue *queue, const struct task *task,
			     struct vhc_request_info *info)
{
	info->tag = queue->tasks->tags[queue_head(queue, task->io)];
	memcpy(info->lun, task->lun, sizeof(info->lun));
	info->task_attr = task->attr;
	info->cdb_len = queue->tasks->cdb_size;
	info->held = task->held;
	memcpy(info->cdb, task->cdb, sizeof(info->cdb));
}

/* Whether the reader has read so many of the ring's requests that it may have another. */
static bool may_post(const struct tasks *tasks, const struct vhc_upcalls *upcalls)
{
	uint32_t slot;

	if (tasks->num_posted < TASKS_UNREAD)
		return true;
	slot = tasks->unread[tasks->num_posted % TASKS_UNREAD];
	/* Not among those filled and not given back; however long ago that was. */
	return slot - upcalls_read(upcalls) >= VHC_UPCALL_SLOTS;
}

static bool post(struct queue *queue, struct task *task, struct vhc_upcalls *upcalls)
{
	const struct upcall_event event = {.type = VHC_UPCALL_REQUEST,
					   .id = queue->ring->id,
					   .status = task->status,
					   .arg = (uint64_t)(uintptr_t)task->io};
	struct tasks *tasks = queue->tasks;
	struct request_upcall upcall;
	uint32_t slot;

	if (!may_post(tasks, upcalls) || !upcalls_have(upcalls, TASKS_SPARE + 1))
		return false;
	memset(&upcall.info, 0, sizeof(upcall.info));
	upcall.info.out_len = task->out_len;
	upcall.info.in_len = task->in_len;
	if (queue->kind == QUEUE_SCSI)
		describe_command(queue, task, &upcall.info);
	if (queue->kind != QUEUE_SCSI || !scsi_is_write(task->cdb[0]))
		upcall.info.copied = task_read_out(task, 0, upcall.data, MAX_COPIED);
	if (upcall_post_sparing(upcalls, &event, &upcall,
				(uint32_t)sizeof(upcall.info) + upcall.info.copied, TASKS_SPARE,
				&slot))
		return false;
	/* From here on the task is its reader's. */
	tasks->unread[tasks->num_posted % TASKS_UNREAD] = slot;
	/* At the bound it starts over there: may_post only asks whether it was reached. */
	if (++tasks->num_posted == 2 * TASKS_UNREAD)
		tasks->num_posted = TASKS_UNREAD;
	return true;
}

bool tasks_tell(struct queue *queue, struct vhc_upcalls *upcalls)
{
	struct tasks *tasks = queue->tasks;
	struct task *task;

	while ((task = tasks->up)) {
		struct task *next = task->next;
		bool held = task->held;
		uint32_t address = task->address;

		if (!post(queue, task, upcalls))
			return false;
		tasks->up = next;
		if (!next)
			tasks->up_end = &tasks->up;
		if (held)
			scsi_owe_notice(queue, address);
	}
	return true;
}
