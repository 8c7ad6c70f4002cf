/* SPDX-License-Identifier: MIT */
/* A reactor's inside: reactor.c has what control threads call, reactor_loop.c what its own does. */
#ifndef VHC_REACTOR_H
#define VHC_REACTOR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "io.h"
#include "queue.h"
#include "upcall.h"

enum queue_state {
	QUEUE_POLLED,	/* on the polled list, kicks suppressed */
	QUEUE_ARMED,	/* on no list: its kick wakes it */
	QUEUE_BROKEN,	/* on the broken list until stopped, or on none once that was told */
	QUEUE_DRAINING, /* on the draining list: nothing more is taken */
};

enum reactor_request {
	REACTOR_START_RING,
	REACTOR_STOP_RING,
	REACTOR_EXIT,
};

/* One in the mailbox. The poster waits for `done`, but for STOP_RING: that one is freed. */
struct reactor_message {
	struct reactor_message *next;
	enum reactor_request request;
	struct queue *queue;
	bool done;
	int result;
	struct upcall_event event; /* STOP_RING: what is said at the end */
};

/* The one channel of this reactor to a bdev, for all rings on it. */
struct reactor_channel {
	struct reactor_channel *next;
	struct reactor_channel *next_busy;
	bool busy; /* linked to the reactor's busy ones */
	struct bdev_channel *channel;
	uint32_t queues;
};

struct vhc_reactor {
	/* The reactor thread's alone. */
	struct queue *polled;
	struct queue *broken; /* whose upcall is yet to be posted */
	struct queue *draining;
	struct queue *late; /* with completions to publish */
	struct reactor_channel *channels;
	struct reactor_channel *busy_channels; /* with requests in flight: idle ones cost nothing */
	struct reactor_message *unposted;      /* stops whose upcall did not fit in the ring */
	uint32_t num_polled;
	uint32_t num_armed;
	bool exit;
	uint64_t last_work;  /* tick */
	uint64_t next_check; /* tick at which a busy reactor looks at its descriptors */
	uint64_t next_stats; /* tick at which it shows its statistics */
	uint64_t busy_ticks; /* not yet shown */
	uint64_t idle_ticks;
	uint64_t loops;
	struct vhc_reactor_stats *stats;

	/* Constant while it runs. */
	uint32_t mode;
	uint64_t spin_ticks;
	uint64_t check_ticks;
	uint64_t stats_ticks;
	int epoll_fd;
	int wake_fd;
	struct vhc_upcalls *upcalls;
	pthread_t thread;
	uint32_t number;

	/* Shared with control threads. */
	atomic_uint num_queues;
	atomic_bool mail;
	pthread_mutex_t lock; /* of the mailbox, and of `done` and `result` in messages */
	pthread_cond_t answered;
	struct reactor_message *inbox;
	struct reactor_message **inbox_end;
	bool up; /* the thread has begun, or failed to */
	int up_result;
};

/* The thread's main function; its argument is the reactor. */
void *reactor_main(void *argument);

#endif
