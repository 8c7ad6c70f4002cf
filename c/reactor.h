/* SPDX-License-Identifier: MIT */
/*
 * A reactor's inside. What control threads call is in reactor.c (its life and
 * mailbox) and reactor_rings.c; what its own thread does, in reactor_loop.c (the
 * loop), reactor_mail.c (what it is asked), reactor_queues.c (rings that are
 * polled, asleep, broken, stopping), reactor_channels.c (backends) and
 * reactor_timer.c (how long it sleeps).
 */
#ifndef VHC_REACTOR_H
#define VHC_REACTOR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>

#include "io.h"
#include "queue.h"
#include "upcall.h"

struct abort_job;
struct direct_io;
struct task;

enum queue_state {
	QUEUE_POLLED,	/* on the polled list, kicks suppressed */
	QUEUE_ARMED,	/* on no list: its kick wakes it */
	QUEUE_BROKEN,	/* on the broken list until stopped, or on none once that was told */
	QUEUE_DRAINING, /* on the draining list: nothing more is taken */
};

enum reactor_request {
	/* Their posters wait for `done`. */
	REACTOR_START_RING,
	REACTOR_ATTACH_LUN,
	REACTOR_RESUME_LUN,
	REACTOR_DETACH_LUN,
	REACTOR_SEND_EVENT,
	REACTOR_SET_MEM,
	REACTOR_SET_COALESCING,
	REACTOR_SET_TRACE,
	REACTOR_CANCEL_IO,
	REACTOR_EXIT,
	/* Nobody waits for these: they are the reactor's to free. */
	REACTOR_STOP_RING,
	REACTOR_HOLD_LUN,
	REACTOR_ABORT,
	REACTOR_DIRECT_IO,
};

/* One in the mailbox. */
struct reactor_message {
	struct reactor_message *next;
	enum reactor_request request;
	bool done;
	int result;
	struct vhc_ring *ring; /* all about rings; of those nobody waits for, a reference */
	struct queue *queue;   /* START_RING */
	uint32_t address;      /* ..._LUN */
	struct vhc_lun *lun;   /* ATTACH_LUN */
	struct vhc_stats *bdev_stats;
	const uint8_t *event_data; /* SEND_EVENT */
	struct vhc_mem *mem;	   /* SET_MEM, as the next two */
	struct ring_table *table;
	bool refuse;
	uint64_t delay_base_ns; /* SET_COALESCING, as the next */
	uint64_t iops_threshold;
	struct vhc_trace *trace;   /* SET_TRACE, or NULL */
	struct abort_job *job;	   /* ABORT */
	struct direct_io *direct;  /* DIRECT_IO: it has this message in it */
	uint32_t io;		   /* CANCEL_IO: its id */
	struct upcall_event event; /* STOP_RING, HOLD_LUN: what is said at the end */
};

/* The one channel of this reactor to a bdev, for all rings on it. */
struct reactor_channel {
	struct reactor_channel *next;
	struct reactor_channel *next_busy;
	bool busy; /* linked to the reactor's busy ones */
	struct bdev_channel *channel;
	struct reactor_channel *base; /* of the bdev that its bdev stacks on, or NULL */
	uint32_t users;		      /* lanes, I/O without a ring, channels stacked on it */
};

struct vhc_reactor {
	/* The reactor thread's alone. */
	struct queue *polled;
	struct queue *broken; /* whose upcall is yet to be posted */
	struct queue *draining;
	struct queue_outbox outbox;
	struct reactor_channel *channels;
	struct reactor_channel *busy_channels; /* with requests in flight: idle ones cost nothing */
	struct reactor_message *unposted;      /* whose upcall did not fit in the ring */
	struct direct_io *under_way;	       /* I/O without a ring */
	struct direct_io *done;		       /* such that has ended */
	struct direct_io **done_end;
	uint32_t num_polled;
	uint32_t num_armed;
	bool exit;
	bool timer_set;	     /* timer_fd may yet expire */
	uint64_t last_work;  /* tick */
	uint64_t next_check; /* tick at which a busy reactor looks at its descriptors */
	uint64_t next_stats; /* tick at which it shows its statistics */
	uint64_t busy_ticks; /* not yet shown */
	uint64_t idle_ticks;
	uint64_t loops;
	struct vhc_reactor_stats *stats;

	/* Constant while it runs. */
	uint32_t mode;
	uint32_t index;
	uint64_t spin_ticks;
	uint64_t check_ticks;
	uint64_t stats_ticks;
	int epoll_fd;
	int wake_fd;
	int timer_fd; /* -1: epoll waits to the nanosecond by itself */
	struct vhc_upcalls *upcalls;
	pthread_t thread;
	uint32_t number;

	/* Shared with control threads. */
	atomic_uint num_queues;
	atomic_uint num_ios; /* without a ring */
	atomic_bool mail;
	pthread_mutex_t lock; /* of the mailbox, and of `done` and `result` in messages */
	pthread_cond_t answered;
	struct reactor_message *inbox;
	struct reactor_message **inbox_end;
	struct task *answers; /* requests that their readers answered */
	struct task **answers_end;
	bool up; /* the thread has begun, or failed to */
	int up_result;
};

/* ---- For control threads: reactor.c ---- */

void reactor_post(struct vhc_reactor *reactor, struct reactor_message *message);
int reactor_post_and_wait(struct vhc_reactor *reactor, struct reactor_message *message);

/* Gives a task back to its queue, with what its reader decided. */
void reactor_answer(struct vhc_reactor *reactor, struct task *task);

/* ---- The thread's ---- */

/* Its main function; its argument is the reactor. */
void *reactor_main(void *argument);

/* 0 for a moment after now: `now` is when the turn began. */
static inline uint64_t ticks_since(uint64_t moment, uint64_t now)
{
	return now > moment ? now - moment : 0;
}

/* reactor_mail.c */
void reactor_read_mail(struct vhc_reactor *reactor);
/* Posts the upcalls of messages that did not fit before, as far as they do now. */
void reactor_post_unposted(struct vhc_reactor *reactor);

/* reactor_queues.c */
int reactor_start_queue(struct vhc_reactor *reactor, struct queue *queue);
/* Wakes an armed ring; others are awake or past it. */
void reactor_wake_queue(struct vhc_reactor *reactor, struct queue *queue);
/* Stops taking from a ring, whatever it does now; takes the message over. */
void reactor_stop_queue(struct vhc_reactor *reactor, struct reactor_message *message);
bool reactor_poll_queues(struct vhc_reactor *reactor, uint64_t now);
/* Has channels polled that a queue's lanes have left with requests in flight. */
void reactor_note_touched(struct vhc_reactor *reactor, struct queue *queue);
void reactor_publish_late(struct vhc_reactor *reactor);
/* Sends the calls of coalesced rings that are due. */
void reactor_send_due(struct vhc_reactor *reactor, uint64_t now);
/* Returns whether it found work. */
bool reactor_finish_drained(struct vhc_reactor *reactor);
/* Post what queues have to tell; what does not fit stays for the next time round. */
void reactor_tell(struct vhc_reactor *reactor);
void reactor_tell_broken(struct vhc_reactor *reactor);

/* reactor_channels.c */
/* Finds or opens the reactor's channel to a bdev, and those to what it stacks on. */
int reactor_get_channel(struct vhc_reactor *reactor, struct vhc_bdev *bdev,
			struct reactor_channel **out);
void reactor_put_channel(struct vhc_reactor *reactor, struct reactor_channel *of);
/* Has a channel polled that was left with requests in flight, and those under it. */
void reactor_note_busy(struct vhc_reactor *reactor, struct reactor_channel *of);
/* Polls channels with requests in flight but for those that are not due yet. */
bool reactor_poll_channels(struct vhc_reactor *reactor, uint64_t now);

/* reactor_timer.c */
#define REACTOR_FOREVER UINT64_MAX
/* Makes what reactor_wait needs; timer_fd is the caller's to close. Errors: -EMFILE, -ENOMEM. */
int reactor_open_timer(struct vhc_reactor *reactor);
/* Has the calling thread's sleeps end when they should. */
void reactor_use_timer(void);
/* epoll_wait for so many nanoseconds: 0 does not wait, REACTOR_FOREVER has no end. */
int reactor_wait(struct vhc_reactor *reactor, struct epoll_event *events, int max, uint64_t ns);
/* The tick at which a sleep has to end though nothing signals; UINT64_MAX: none. */
uint64_t reactor_next_due(const struct vhc_reactor *reactor);

#endif
