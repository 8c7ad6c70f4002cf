/* SPDX-License-Identifier: MIT */
#include "event_queue.h"

#include <linux/virtio_scsi.h>
#include <string.h>

#include "iov.h"
#include "queue_batch.h"

_Static_assert(sizeof(struct virtio_scsi_event) == EVENT_BYTES, "virtio 5.6.6.3");

/*
 * Puts an event in a buffer. Returns 1, or 0 if it does not fit: what there is of the
 * buffer gets the event that means nothing then (VIRTIO_SCSI_T_NO_EVENT), as for an
 * event of NULL; or -ENXIO if the buffer is not there yet.
 */
static int fill(struct queue *queue, const struct ring_head *head, const void *event)
{
	static const uint8_t no_event[EVENT_BYTES];
	struct iovec iov[VHC_CHAIN_MAX_IOV];
	struct ring_chain chain;
	uint32_t len = 0;
	bool fits = false;
	int result = ring_map(queue->ring, head->index, iov, VHC_CHAIN_MAX_IOV, &chain);

	if (result == -ENXIO)
		return result;
	/* Known to a successor before anything is written: there may be others in flight. */
	ring_end_batch(queue->ring, head, 1);
	if (result == 0) {
		fits = event && chain.in_len >= EVENT_BYTES;
		len = chain.in_len < EVENT_BYTES ? (uint32_t)chain.in_len : EVENT_BYTES;
		iov_copy(iov + chain.num_out, chain.num_in, 0,
			 (uint8_t *)(uintptr_t)(fits ? event : no_event), len, true);
	} else {
		queue_malformed(queue, head->index, result);
	}
	ring_put(queue->ring, head->index, len);
	stats_count(queue->stats, VHC_OP_OTHER, 1, 0, !fits,
		    tick_to_ns(tick_now() - queue->batch_start));
	return fits;
}

/* Takes a buffer and fills it. Returns as `fill`, and -EAGAIN if there is none. */
static int fill_next(struct queue *queue, const void *event)
{
	struct vhc_ring *ring = queue->ring;
	struct ring_head head;
	int result;

	if (ring_look(ring, 1) == 0 || ring_take(ring, &head, 1) == 0)
		return -EAGAIN;
	result = fill(queue, &head, event);
	if (result == -ENXIO)
		batch_cut(queue, &head, 0, 1);
	return result;
}

/* Takes buffers until one fits: at most as many as the ring has. */
static bool deliver(struct queue *queue, const struct virtio_scsi_event *event)
{
	int result = 0;

	queue->batch_start = tick_now();
	for (uint32_t i = 0; i < queue->ring->size && result == 0; i++)
		result = fill_next(queue, event);
	if (result > 0)
		queue->missed = false;
	batch_end(queue, NULL, 0);
	return result > 0;
}

uint32_t event_queue_return(struct queue *queue)
{
	uint32_t n = 0;

	queue->batch_start = tick_now();
	while (queue->ring->again.left > 0 && fill_next(queue, NULL) == 0)
		n++;
	batch_end(queue, NULL, 0);
	return n;
}

int event_queue_send(struct queue *queue, const uint8_t event[EVENT_BYTES])
{
	struct virtio_scsi_event copy;

	if (queue->ring->broken)
		return 0;
	memcpy(&copy, event, sizeof(copy));
	if (queue->missed)
		copy.event |= VIRTIO_SCSI_T_EVENTS_MISSED;
	if (deliver(queue, &copy))
		return 1;
	queue->missed = true;
	return 0;
}

/* Tells of events missed as soon as there is a buffer; otherwise buffers are left alone. */
static uint32_t event_queue_poll(struct queue *queue)
{
	const struct virtio_scsi_event event = {.event = VIRTIO_SCSI_T_EVENTS_MISSED |
							 VIRTIO_SCSI_T_NO_EVENT};

	if (!queue->missed || ring_look(queue->ring, 1) == 0)
		return 0;
	return deliver(queue, &event);
}

struct queue *queue_create_event(struct vhc_ring *ring, struct queue_outbox *outbox)
{
	struct queue *queue = queue_alloc(ring, QUEUE_EVENT, outbox);

	if (queue)
		queue->poll = event_queue_poll;
	return queue;
}
