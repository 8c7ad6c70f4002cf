/* SPDX-License-Identifier: MIT */
/*
 * Requests in the hands of whoever reads upcalls: the only code that touches a
 * queue's memory on another thread than the reactor's. A request's task is its
 * reader's until it is answered.
 */
#include <linux/virtio_scsi.h>
#include <string.h>

#include "reactor.h"
#include "scsi.h"
#include "task.h"

static struct task *task_at(uint64_t request)
{
	const struct io *io = (const struct io *)(uintptr_t)request;

	return task_of(io->lane->queue, io);
}

static const struct queue *queue_of(const struct task *task)
{
	return task->io->lane->queue;
}

int vhc_request_read(uint64_t request, uint64_t offset, uint8_t *buf, uint32_t len)
{
	return (int)task_read_out(task_at(request), offset, buf, len < INT32_MAX ? len : INT32_MAX);
}

int vhc_request_write(uint64_t request, uint64_t offset, const uint8_t *buf, uint32_t len)
{
	return (int)task_write_in(task_at(request), offset, buf, len < INT32_MAX ? len : INT32_MAX);
}

static void answer(struct task *task, enum task_answer kind)
{
	task->answer = (uint8_t)kind;
	reactor_answer(queue_of(task)->ring->reactor, task);
}

/* Bytes for the used element: all up to the last that was written. */
static uint32_t used_bytes(const struct task *task, uint32_t sense_len, uint32_t written)
{
	if (written == 0)
		return SCSI_RESPONSE + sense_len;
	return queue_of(task)->tasks->response_len +
	       (written < task->in_len ? written : (uint32_t)task->in_len);
}

/* Sense data of either format (SPC-4 4.5); what there is none of stays 0. */
static void keep_sense(struct task_told *told, const uint8_t *sense, uint32_t len)
{
	bool descriptors = len > 0 && (sense[0] & 0x7e) == 0x72;
	uint32_t key = descriptors ? 1 : 2;
	uint32_t asc = descriptors ? 2 : 12;

	if (len <= asc + 1)
		return;
	told->sense_key = sense[key] & 0x0f;
	told->asc = sense[asc];
	told->ascq = sense[asc + 1];
}

void vhc_request_complete(uint64_t request, const struct vhc_scsi_result *result)
{
	struct task *task = task_at(request);
	uint32_t sense_len = result->sense_len;
	struct virtio_scsi_cmd_resp response = {
	    .resid = result->residual,
	    .status = (uint8_t)result->status,
	    .response = (uint8_t)result->response,
	};

	if (sense_len > queue_of(task)->tasks->sense_size)
		sense_len = queue_of(task)->tasks->sense_size;
	if (sense_len > sizeof(result->sense))
		sense_len = sizeof(result->sense);
	response.sense_len = sense_len;
	task_write_response(task, 0, &response, SCSI_RESPONSE);
	task_write_response(task, SCSI_RESPONSE, result->sense, sense_len);
	task->told = (struct task_told){.response = response.response, .status = response.status};
	keep_sense(&task->told, result->sense, sense_len);
	task->used = used_bytes(task, sense_len, result->written);
	task->error = response.response != VIRTIO_SCSI_S_OK ||
		      (response.status && response.status != SCSI_STATUS_CONDITION_MET);
	answer(task, TASK_COMPLETE);
}

void vhc_request_complete_raw(uint64_t request, uint32_t written)
{
	struct task *task = task_at(request);

	task->used = written < task->in_len ? written : (uint32_t)task->in_len;
	task->error = false;
	answer(task, TASK_COMPLETE);
}

void vhc_request_execute(uint64_t request, uint32_t op, uint32_t flags, uint64_t offset,
			 uint64_t len)
{
	struct task *task = task_at(request);

	task->wish = (struct task_wish){.op = op, .flags = flags, .offset = offset, .len = len};
	answer(task, TASK_EXECUTE);
}
