/* SPDX-License-Identifier: MIT */
/*
 * Requests whose pieces are kept apart by what they are for, so that they can
 * wait, go up to be answered from outside, and come back. Of a task that is up
 * everything is its reader's; else all of it is the reactor thread's.
 */
#ifndef VHC_TASK_H
#define VHC_TASK_H

#include "queue.h"

/* A ring's REQUEST upcalls that the reader may have before it. */
#define TASKS_UNREAD 16u
/* Slots of the upcall ring that requests leave to others. */
#define TASKS_SPARE 64u

struct abort_job;

enum task_answer {
	TASK_COMPLETE, /* `used` and `error` say how */
	TASK_EXECUTE,  /* `wish` says what */
};

/* What vhc_request_execute asked for. */
struct task_wish {
	uint32_t op;
	uint32_t flags;
	uint64_t offset;
	uint64_t len;
};

/* What the driver was told, for a trace. */
struct task_told {
	uint8_t response; /* VIRTIO_SCSI_S_* */
	uint8_t status;
	uint8_t sense_key;
	uint8_t asc;
	uint8_t ascq;
};

struct task {
	struct io *io;
	struct task *next; /* in the list that has it */

	/* Data-out, response and data-in, in this order at iov; the header is gone from it. */
	struct iovec *iov;
	uint16_t num_out;
	uint16_t num_response;
	uint16_t num_in;
	uint64_t out_len;
	uint64_t in_len;
	struct iovec *trimmed; /* piece of which the backend sees less, or NULL */
	size_t trimmed_len;    /* of it, whole */

	uint64_t taken;	   /* tick */
	int32_t status;	   /* to go up with */
	bool held;	   /* ORDERED: its lane is held for it */
	bool wished;	   /* it is executed because of `wish` */
	bool was_up;	   /* once at least */
	uint8_t counts_as; /* enum vhc_op, in the ring's statistics */
	bool error;	   /* so it is answered */
	uint8_t answer;	   /* enum task_answer */
	struct task_told told;
	uint32_t used;	   /* bytes written, for the used element */
	uint32_t residual; /* SCSI: if it ends in GOOD */
	struct task_wish wish;
	struct abort_job *abort; /* that ends it, instead of the backend's result */

	/* SCSI: its header. */
	uint32_t address; /* VHC_LUN_ADDRESS, or SCSI_NOWHERE */
	uint8_t lun[8];
	uint8_t attr;
	uint8_t cdb[264];
};

struct tasks {
	struct task *by_head;
	uint64_t *tags; /* SCSI: by head, also of requests that have no task */
	uint32_t cdb_size;
	uint32_t sense_size;
	uint32_t header_len; /* of what comes before data-out; raw: 0 */
	uint32_t response_len;
	struct task *up; /* to go up, in the order they came */
	struct task **up_end;
	uint32_t num_posted;
	uint32_t unread[TASKS_UNREAD]; /* the slots of the last upcalls */
	struct abort_job *aborts;      /* in the order they came */
	uint32_t next_abort;
};

struct tasks *tasks_create(uint32_t size);
void tasks_destroy(struct tasks *tasks);

static inline struct task *task_of(const struct queue *queue, const struct io *io)
{
	return &queue->tasks->by_head[queue_head(queue, io)];
}

/*
 * Maps the chain of a request and takes the header from it, which is copied.
 * Errors: ring_map's (-ENXIO: nothing has been done), -E2BIG also without a free array; -EPROTO
 * (too short for header or response).
 */
int task_read(struct queue *queue, struct io *io, uint8_t *header);

/* Room for n entries behind a task's pieces, which it may move; NULL: there is none. */
struct iovec *task_room(struct io *io, uint32_t n);

/* Cuts pieces, of a task, down to len bytes, of which they have as many. Returns how many. */
uint32_t task_trim(struct task *task, struct iovec *iov, uint64_t len);

/* Puts a request back with an answer that is written already. */
void task_finish(struct queue *queue, struct task *task, uint32_t used, uint32_t op, bool error);

/* Puts a request back of which nothing could be made, because of `error` (-errno). */
void task_refuse(struct queue *queue, struct io *io, int error);

/* Has a request go up with a status; the backend has let go of it. */
void task_up(struct queue *queue, struct task *task, int32_t status);

/* Posts what goes up as far as it fits. Returns whether nothing is left. */
bool tasks_tell(struct queue *queue, struct vhc_upcalls *upcalls);

/* Data of a task, by window. They return how much they copied. */
uint32_t task_read_out(const struct task *task, uint64_t offset, uint8_t *buf, uint64_t len);
uint32_t task_write_in(const struct task *task, uint64_t offset, const uint8_t *buf, uint64_t len);
void task_write_response(const struct task *task, uint32_t offset, const void *buf, uint32_t len);

#endif
