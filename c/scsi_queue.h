/* SPDX-License-Identifier: MIT */
/*
 * virtio-scsi request queues: commands on their way to the lane of their logical
 * unit, or up; and what a reactor does with the lanes. All on its thread.
 */
#ifndef VHC_SCSI_QUEUE_H
#define VHC_SCSI_QUEUE_H

#include "scsi.h"
#include "task.h"

/* ---- Requests ---- */

/*
 * Reads a command of any shape. Returns 1 if it is ready to be submitted to io->lane;
 * 0 if it is where it belongs; -ENXIO if it is about memory that is not there yet.
 */
int scsi_read_any(struct queue *queue, struct io *io);

/* Keeps what a header says but its tag, which a request keeps from the first time on. */
void scsi_read_header(const struct queue *queue, struct task *task, const uint8_t *header);

/* scsi_read_any for one that was read before and may go on now. */
bool scsi_dispatch(struct queue *queue, struct task *task);

/* Dispatches a task outside of a batch, and submits it if it is ready. */
void scsi_go_on(struct queue *queue, struct task *task);

/* Executes what vhc_request_execute asked for; or refuses, or has it wait. */
void scsi_execute(struct queue *queue, struct task *task);

/* Readies a task for its lane. Returns 1, 0 (nothing to do: GOOD), or -errno. */
int scsi_prepare(const struct lane *lane, struct task *task, const struct scsi_command *command);
int scsi_prepare_wish(const struct lane *lane, struct task *task);

/* Answers a task without the backend: a response of VIRTIO_SCSI_S_*, and a status. */
void scsi_answer(struct queue *queue, struct task *task, uint8_t response, uint8_t status,
		 uint64_t residual);

/* What a READ or WRITE that ended well has written, for the used element. */
static inline uint32_t scsi_used(const struct lane *lane, const struct io *io)
{
	return io->op == VHC_OP_READ ? lane->response_len + (uint32_t)io->len : SCSI_RESPONSE;
}

/* A request of a synchronous lane that ends as nearly all do. */
static inline bool scsi_is_plain(const struct io *io)
{
	return io->result == 0 && !(io->flags & IO_TASK);
}

/* GOOD: no sense data, no residual, and both bytes 0. */
static inline void scsi_write_good(uint8_t *response)
{
	__builtin_memset(response, 0, SCSI_RESPONSE);
}

/* plain: as ring_put_as. */
static inline void scsi_end_plain(struct lane *lane, const struct io *io, bool plain)
{
	struct queue *queue = lane->queue;
	uint32_t used = scsi_used(lane, io);
	size_t head = queue_head(queue, io);

	scsi_write_good(io->status);
	ring_put_as(queue->ring, head, used, plain);
}

/* Any other end of a request on a lane. */
void scsi_end(struct lane *lane, struct io *io);

/* ---- Lanes ---- */

/* The lane of an address, or NULL. */
struct lane *scsi_lane(const struct queue *queue, uint32_t address);

/* Makes a lane, without a channel yet. Errors: -EINVAL, -EEXIST, -ENOMEM. */
int scsi_add_lane(struct queue *queue, uint32_t address, struct vhc_lun *lun,
		  struct vhc_stats *stats, struct lane **out);

/* Takes a lane away on which nothing is executed; what waits goes up. */
void scsi_remove_lane(struct queue *queue, struct lane *lane);

/* The lane after one, in the order of addresses; the first after NULL. NULL: there is none. */
struct lane *scsi_next_lane(const struct queue *queue, const struct lane *after);

/* Frees what is left of lanes and aborts. For any kind of queue. */
void scsi_queue_free(struct queue *queue);

/* Holds a lane, and owes a notice for it. */
void scsi_hold(struct lane *lane);

/* Takes a hold back; scsi_run_waiting lets commands go on if it was the last one. */
void scsi_resume(struct lane *lane);
void scsi_run_waiting(struct lane *lane);

/* Has a command wait for its lane. */
void scsi_wait(struct lane *lane, struct task *task);

/* Owes a LUN_IDLE upcall for the lane of an address, if there still is one. */
void scsi_owe_notice(struct queue *queue, uint32_t address);

/* Has what is owed be told, if the lane is idle. */
void scsi_check_idle(struct lane *lane);

/* Posts upcalls that are owed, as far as they fit. Returns whether none is left. */
bool scsi_tell(struct queue *queue, struct vhc_upcalls *upcalls);

/* ---- Aborts ---- */

struct abort_job {
	struct abort_job *next;
	struct vhc_abort config;
	uint32_t serial;
	uint32_t after; /* requests that it waits for may be those of jobs up to this one */
	uint32_t left;	/* requests that a backend has yet to let go of */
	uint32_t count;
};

/* Begins a job, which it takes over. */
void abort_begin(struct queue *queue, struct abort_job *job);

/* Answers a request that the backend let go of as its job says. */
void abort_end(struct queue *queue, struct io *io, struct task *task);

/* Frees jobs that nobody is told of any more. */
void abort_free_all(struct queue *queue);

/* Posts the upcalls of jobs that are done. Returns whether none is left. */
bool abort_tell(struct queue *queue, struct vhc_upcalls *upcalls);

#endif
