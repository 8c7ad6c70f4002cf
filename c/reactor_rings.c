/* SPDX-License-Identifier: MIT */
/* What control threads ask of a reactor about rings. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "reactor.h"
#include "scsi_queue.h"
#include "trace.h"

/* ---- Starting and stopping ---- */

static int start(struct vhc_reactor *reactor, struct vhc_ring *ring, struct queue *queue)
{
	struct reactor_message message = {
	    .request = REACTOR_START_RING, .ring = ring, .queue = queue};
	int result;

	if (!queue)
		return -ENOMEM;
	ring->reactor = reactor;
	ring->kind = queue->kind;
	ring->queue = queue;
	ring->stopping = false;
	atomic_store(&ring->running, true);
	atomic_fetch_add(&reactor->num_queues, 1);
	result = reactor_post_and_wait(reactor, &message);
	if (result) {
		atomic_fetch_sub(&reactor->num_queues, 1);
		ring->queue = NULL;
		atomic_store(&ring->running, false);
		queue_destroy(queue);
	}
	return result;
}

int vhc_reactor_start_blk_ring(struct vhc_reactor *reactor, struct vhc_ring *ring,
			       struct vhc_blk *blk, uint64_t bdev_stats)
{
	if (atomic_load(&ring->running))
		return -EBUSY;
	return start(reactor, ring,
		     queue_create_blk(ring, blk, (struct vhc_stats *)(uintptr_t)bdev_stats,
				      &reactor->outbox));
}

int vhc_reactor_start_scsi_ring(struct vhc_reactor *reactor, struct vhc_ring *ring,
				const struct vhc_scsi_config *config)
{
	if (config->cdb_size < 6 || config->cdb_size > VHC_SCSI_MAX_CDB ||
	    config->sense_size > VHC_SCSI_MAX_SENSE)
		return -EINVAL;
	if (atomic_load(&ring->running))
		return -EBUSY;
	return start(reactor, ring, queue_create_scsi(ring, config, &reactor->outbox));
}

int vhc_reactor_start_raw_ring(struct vhc_reactor *reactor, struct vhc_ring *ring)
{
	if (atomic_load(&ring->running))
		return -EBUSY;
	return start(reactor, ring, queue_create_raw(ring, &reactor->outbox));
}

int vhc_reactor_start_event_ring(struct vhc_reactor *reactor, struct vhc_ring *ring)
{
	if (atomic_load(&ring->running))
		return -EBUSY;
	return start(reactor, ring, queue_create_event(ring, &reactor->outbox));
}

static bool owns(const struct vhc_reactor *reactor, const struct vhc_ring *ring)
{
	return atomic_load(&ring->running) && ring->reactor == reactor;
}

static bool owns_kind(const struct vhc_reactor *reactor, const struct vhc_ring *ring,
		      enum queue_kind kind)
{
	return owns(reactor, ring) && ring->kind == kind;
}

/* A message that nobody waits for. NULL without memory. */
static struct reactor_message *new_message(enum reactor_request request, struct vhc_ring *ring)
{
	struct reactor_message *message = calloc(1, sizeof(*message));

	if (!message)
		return NULL;
	message->request = request;
	message->ring = ring;
	ring_ref(ring);
	return message;
}

int vhc_reactor_stop_ring(struct vhc_reactor *reactor, struct vhc_ring *ring)
{
	struct reactor_message *message;

	if (!owns(reactor, ring))
		return -ENOENT;
	if (ring->stopping)
		return -EALREADY;
	message = new_message(REACTOR_STOP_RING, ring);
	if (!message)
		return -ENOMEM;
	ring->stopping = true;
	reactor_post(reactor, message);
	return 0;
}

/* ---- Logical units ---- */

int vhc_reactor_attach_lun(struct vhc_reactor *reactor, struct vhc_ring *ring, uint32_t address,
			   struct vhc_lun *lun, uint64_t bdev_stats)
{
	struct reactor_message message = {
	    .request = REACTOR_ATTACH_LUN,
	    .ring = ring,
	    .address = address,
	    .lun = lun,
	    .bdev_stats = (struct vhc_stats *)(uintptr_t)bdev_stats,
	};

	return owns_kind(reactor, ring, QUEUE_SCSI) ? reactor_post_and_wait(reactor, &message)
						    : -ENOENT;
}

int vhc_reactor_resume_lun(struct vhc_reactor *reactor, struct vhc_ring *ring, uint32_t address)
{
	struct reactor_message message = {
	    .request = REACTOR_RESUME_LUN, .ring = ring, .address = address};

	return owns_kind(reactor, ring, QUEUE_SCSI) ? reactor_post_and_wait(reactor, &message)
						    : -ENOENT;
}

int vhc_reactor_detach_lun(struct vhc_reactor *reactor, struct vhc_ring *ring, uint32_t address)
{
	struct reactor_message message = {
	    .request = REACTOR_DETACH_LUN, .ring = ring, .address = address};

	return owns_kind(reactor, ring, QUEUE_SCSI) ? reactor_post_and_wait(reactor, &message)
						    : -ENOENT;
}

int vhc_reactor_hold_lun(struct vhc_reactor *reactor, struct vhc_ring *ring, uint32_t address)
{
	struct reactor_message *message;

	if (!owns_kind(reactor, ring, QUEUE_SCSI))
		return -ENOENT;
	message = new_message(REACTOR_HOLD_LUN, ring);
	if (!message)
		return -ENOMEM;
	message->address = address;
	reactor_post(reactor, message);
	return 0;
}

int vhc_reactor_abort(struct vhc_reactor *reactor, struct vhc_ring *ring,
		      const struct vhc_abort *abort)
{
	struct reactor_message *message;

	if (!owns_kind(reactor, ring, QUEUE_SCSI))
		return -ENOENT;
	message = new_message(REACTOR_ABORT, ring);
	if (!message)
		return -ENOMEM;
	message->job = calloc(1, sizeof(*message->job));
	if (!message->job) {
		vhc_ring_release(ring);
		free(message);
		return -ENOMEM;
	}
	message->job->config = *abort;
	reactor_post(reactor, message);
	return 0;
}

/* ---- Events ---- */

int vhc_reactor_send_event(struct vhc_reactor *reactor, struct vhc_ring *ring, const uint8_t *event)
{
	struct reactor_message message = {
	    .request = REACTOR_SEND_EVENT, .ring = ring, .event_data = event};

	return owns_kind(reactor, ring, QUEUE_EVENT) ? reactor_post_and_wait(reactor, &message)
						     : -ENOENT;
}

/* ---- Traces ---- */

int vhc_ring_set_trace(struct vhc_ring *ring, struct vhc_trace *trace)
{
	struct reactor_message message = {
	    .request = REACTOR_SET_TRACE, .ring = ring, .trace = trace};
	struct vhc_trace *before = ring->trace;

	if (trace)
		trace_ref(trace);
	if (atomic_load(&ring->running))
		reactor_post_and_wait(ring->reactor, &message);
	else
		ring->trace = trace;
	vhc_trace_release(before);
	return 0;
}

/* ---- Memory ---- */

int vhc_reactor_set_mem(struct vhc_reactor *reactor, struct vhc_ring *ring, struct vhc_mem *mem,
			int32_t refuse)
{
	struct reactor_message message = {
	    .request = REACTOR_SET_MEM, .ring = ring, .mem = mem, .refuse = refuse};
	int result;

	if (!owns(reactor, ring))
		return -ENOENT;
	message.table = malloc(sizeof(*message.table));
	if (!message.table)
		return -ENOMEM;
	result = reactor_post_and_wait(reactor, &message);
	if (result)
		free(message.table);
	return result;
}

/* ---- Coalescing ---- */

int vhc_reactor_set_coalescing(struct vhc_reactor *reactor, struct vhc_ring *ring,
			       uint64_t delay_base_ns, uint64_t iops_threshold)
{
	struct reactor_message message = {.request = REACTOR_SET_COALESCING,
					  .ring = ring,
					  .delay_base_ns = delay_base_ns,
					  .iops_threshold = iops_threshold};

	if (delay_base_ns > 0 && iops_threshold == 0)
		return -EINVAL;
	return owns(reactor, ring) ? reactor_post_and_wait(reactor, &message) : -ENOENT;
}
