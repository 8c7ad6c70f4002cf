/* SPDX-License-Identifier: MIT */
/*
 * Bdevs that stack on another: for each request that they are given they make one of
 * their own, a child, to what they stack on, and see how it ends. What a base is asked
 * so is counted in its statistics.
 */
#ifndef VHC_STACK_H
#define VHC_STACK_H

#include <pthread.h>

#include "io.h"
#include "lane.h"

/* Children that a pool grows by, and that are submitted together. */
#define STACK_CHUNK 64u

struct child {
	struct io io;
	struct io *parent;  /* NULL while it is free */
	struct child *next; /* free; else its bdev's to use */
	uint64_t due;	    /* delay's: tick; 0: it does not wait */
	/* error's: what becomes of the data. */
	struct iovec *iov; /* of a corrupt write */
	uint64_t corrupt_offset;
	uint8_t corrupt_value; /* 0: nothing */
	uint8_t byte;
};

struct stack_channel {
	struct bdev_channel channel;
	struct lane lane; /* the children's */
	/* The base has ended a child, which is the filter's to give back. */
	void (*done)(struct stack_channel *channel, struct child *child);
	struct child *free;
	struct child_chunk *chunks;
	struct stack_channel *next; /* of the stack_bdev's */
	uint32_t num_children;	    /* there are */
};

/* A bdev that keeps requests waiting of its own will. */
struct stack_bdev {
	struct vhc_bdev bdev;
	pthread_mutex_t lock; /* of the list */
	struct stack_channel *channels;
	atomic_bool hasty; /* it must not: see vhc_bdev_set_holding */
};

void stack_bdev_init(struct stack_bdev *stack, const struct bdev_ops *ops, struct vhc_bdev *base);
void stack_bdev_destroy(struct stack_bdev *stack);

/* Has every channel polled that has requests. Thread: any. */
void stack_bdev_wake(struct stack_bdev *stack);

/* ops->set_holding of such a bdev. */
void stack_bdev_set_holding(struct vhc_bdev *bdev, bool holding);

/*
 * Sets up a channel of zeroes, or tears it down; the memory is the caller's. It is
 * polled for nothing: what that takes is the caller's to add. Errors: -ENOMEM.
 */
int stack_open(struct stack_channel *stack, struct vhc_bdev *bdev, struct bdev_channel *base,
	       void (*done)(struct stack_channel *channel, struct child *child));
void stack_close(struct stack_channel *stack);

/* The same of a stack_bdev: its channel has an event_fd that stack_bdev_wake signals. */
int stack_open_held(struct stack_channel *stack, struct vhc_bdev *bdev, struct bdev_channel *base,
		    void (*done)(struct stack_channel *channel, struct child *child));
void stack_close_held(struct stack_channel *stack);

/* Makes a child that asks what the parent does. NULL without memory. */
struct child *stack_take(struct stack_channel *stack, struct io *parent);
void stack_give(struct stack_channel *stack, struct child *child);

/* Submits up to STACK_CHUNK children to the base. */
void stack_submit(struct stack_channel *stack, struct io *const *children, uint32_t n);

/* io_complete of a child. */
void stack_end(struct io *io);

/* Gives a child back and ends its parent with a result; the channel has one request less. */
void stack_finish(struct stack_channel *stack, struct child *child, int32_t result);

/* Calls `found` for each child whose parent is picked, which it must not end. */
void stack_pick(struct stack_channel *stack, const struct io_pick *pick,
		void (*found)(struct child *child));

/* ops->let_go and ops->cancel of one that keeps nothing waiting itself. */
void stack_let_go(struct bdev_channel *channel, struct lane *lane, const struct io_pick *pick);
void stack_cancel(struct bdev_channel *channel, struct lane *lane, const struct io_pick *pick);

/* ops->resize of a bdev that has as many blocks as its base, from its start. */
int stack_resize(struct vhc_bdev *bdev, uint64_t num_blocks);
/* ops->extent of the same. */
int stack_extent(struct vhc_bdev *bdev, uint64_t offset, uint64_t end, struct vhc_extent *out);

#endif
