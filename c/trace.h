/* SPDX-License-Identifier: MIT */
/*
 * The last requests of a ring, with the time of each step. The thread that runs the
 * ring writes, whoever likes reads, and neither waits for the other: a record is
 * announced before it is written, so that a reader knows what it may have read torn.
 *
 * A record has what is a request's own, and the number of an entry of times. What a
 * backend ended in its batch shares one of those; any other request has its own. The
 * entry is filled in on: what was put is published later, and called for later still.
 *
 * Each place that calls these has looked whether the ring has a trace.
 */
#ifndef VHC_TRACE_H
#define VHC_TRACE_H

#include "queue.h"
#include "tick.h"

struct task;

/* What is one request's, in words that are written whole. */
struct trace_slot {
	uint64_t offset;
	uint64_t len;
	uint64_t how;  /* the first word of struct io: op, flags, pieces, result */
	uint64_t who;  /* head << 32 | number of the entry of times */
	uint64_t tag;  /* a SCSI ring's */
	uint64_t told; /* if it has IO_TASK, see trace.c */
};

/* Ticks; 0: not yet, or not known. */
struct trace_times {
	uint64_t kicked;
	uint64_t taken;
	uint64_t submitted;
	uint64_t completed;
	uint64_t published;
	uint64_t called;  /* TRACE_NO_CALL: none was wanted */
	uint64_t address; /* of the logical unit: requests that share an entry share a lane */
	uint64_t reserved;
};

#define TRACE_NO_CALL 1u

/* Of a request that may not end in its batch; it is of the one that was taken then. */
struct trace_flight {
	uint64_t taken;
	uint64_t kicked;
	uint64_t submitted;
};

struct vhc_trace {
	/* Readers look at these. */
	uint64_t begun; /* records that are written, or are being so */
	uint64_t ended; /* records that are written */
	uint32_t mask;
	struct trace_slot *slots;
	struct trace_times *times;

	/* The writer's alone. */
	uint64_t num_times;				/* entries that are written */
	uint64_t shown;					/* of those, published */
	uint64_t told;					/* of those, called for, or not to be */
	uint64_t kick;					/* tick at which the last one was seen */
	struct trace_flight flights[VHC_RING_MAX_SIZE]; /* by head; pages unused take no memory */

	atomic_uint refs;
};

void trace_ref(struct vhc_trace *trace);

/* A batch that a kick announced was taken. */
void trace_kicked(const struct queue *queue, const struct ring_head *heads, uint32_t n);

/* Submits to a lane's backend, and records those of its requests that end at once. */
void trace_submit(struct lane *lane, struct io *const *ios, uint32_t n);

/* A request without a task was ended by a backend, in its own time. */
void trace_ended(const struct queue *queue, const struct io *io);

/* The same, but the driver was told something else: VIRTIO_SCSI_S_*. */
void trace_aborted(const struct queue *queue, const struct io *io, uint8_t response);

/* A request never got as far as a backend. op: enum vhc_op; result: 0 or -errno. */
void trace_refused(const struct queue *queue, const struct io *io, uint32_t op, int32_t result);

/* A task was put. */
void trace_task(const struct queue *queue, const struct task *task, uint32_t op);

/* What was put was published. */
void trace_published(struct vhc_trace *trace);

/* For all that was published the driver was called, or wants no call. */
void trace_told(struct vhc_trace *trace, bool called);

/* A kick was seen. Of any queue. */
static inline void trace_kick(const struct queue *queue)
{
	if (queue->ring->trace)
		queue->ring->trace->kick = tick_now();
}

#endif
