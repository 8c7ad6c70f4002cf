/* SPDX-License-Identifier: MIT */
/* Rings of buffers for events (virtio 5.6.6.3). */
#ifndef VHC_EVENT_QUEUE_H
#define VHC_EVENT_QUEUE_H

#include "queue.h"

#define EVENT_BYTES 16u /* struct virtio_scsi_event */

/*
 * Sends an event in the next buffer. Returns 1; or 0 if there is none, and then
 * has queue->missed set until one can be told of that.
 */
int event_queue_send(struct queue *queue, const uint8_t event[EVENT_BYTES]);

/* Returns the buffers that a predecessor took, with no event in them; how many. */
uint32_t event_queue_return(struct queue *queue);

#endif
