/* SPDX-License-Identifier: MIT */
#include "stack.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "stats.h"
#include "tick.h"

struct child_chunk {
	struct child children[STACK_CHUNK];
	struct child_chunk *next;
};

/* ---- The pool ---- */

static int grow(struct stack_channel *stack)
{
	struct child_chunk *chunk = aligned_alloc(64, (sizeof(*chunk) + 63) / 64 * 64);

	if (!chunk)
		return -ENOMEM;
	for (uint32_t i = 0; i < STACK_CHUNK; i++)
		stack_give(stack, &chunk->children[i]);
	chunk->next = stack->chunks;
	stack->chunks = chunk;
	stack->num_children += STACK_CHUNK;
	return 0;
}

struct child *stack_take(struct stack_channel *stack, struct io *parent)
{
	struct child *child;

	if (!stack->free && grow(stack))
		return NULL;
	child = stack->free;
	stack->free = child->next;
	child->parent = parent;
	child->corrupt_value = 0;
	child->iov = NULL;
	child->io.kind =
	    io_kind(parent->op, parent->flags & (IO_DURABLE | IO_MAY_UNMAP), parent->iovcnt);
	child->io.offset = parent->offset;
	child->io.len = parent->len;
	child->io.iov = parent->iov;
	child->io.lane = &stack->lane;
	child->io.status = parent->status;
	return child;
}

void stack_give(struct stack_channel *stack, struct child *child)
{
	child->parent = NULL;
	child->next = stack->free;
	stack->free = child;
}

/* ---- Coming and going ---- */

int stack_open(struct stack_channel *stack, struct vhc_bdev *bdev, struct bdev_channel *base,
	       void (*done)(struct stack_channel *channel, struct child *child))
{
	stack->channel.bdev = bdev;
	stack->channel.event_fd = -1;
	stack->channel.base = base;
	stack->lane.end = LANE_STACK;
	stack->done = done;
	return grow(stack);
}

void stack_close(struct stack_channel *stack)
{
	struct child_chunk *chunk;

	while ((chunk = stack->chunks)) {
		stack->chunks = chunk->next;
		free(chunk);
	}
}

int stack_open_held(struct stack_channel *stack, struct vhc_bdev *bdev, struct bdev_channel *base,
		    void (*done)(struct stack_channel *channel, struct child *child))
{
	struct stack_bdev *of = (struct stack_bdev *)bdev;
	int result = stack_open(stack, bdev, base, done);

	if (result)
		return result;
	stack->channel.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (stack->channel.event_fd < 0) {
		result = -errno;
		stack_close(stack);
		return result;
	}
	pthread_mutex_lock(&of->lock);
	stack->next = of->channels;
	of->channels = stack;
	pthread_mutex_unlock(&of->lock);
	return 0;
}

void stack_close_held(struct stack_channel *stack)
{
	struct stack_bdev *of = (struct stack_bdev *)stack->channel.bdev;
	struct stack_channel **at = &of->channels;

	pthread_mutex_lock(&of->lock);
	while (*at != stack)
		at = &(*at)->next;
	*at = stack->next;
	pthread_mutex_unlock(&of->lock);
	close(stack->channel.event_fd);
	stack_close(stack);
}

/* ---- Requests ---- */

void stack_submit(struct stack_channel *stack, struct io *const *children, uint32_t n)
{
	struct bdev_channel *base = stack->channel.base;
	uint64_t now;

	if (n == 0)
		return;
	if (base->stats) {
		now = tick_now();
		for (uint32_t i = 0; i < n; i++)
			children[i]->start = now;
		lane_count_inflight(base->stats, n);
	}
	base->bdev->ops->submit(base, children, n);
}

void stack_end(struct io *io)
{
	struct child *child = (struct child *)io;
	struct stack_channel *stack =
	    (struct stack_channel *)((uint8_t *)io->lane - offsetof(struct stack_channel, lane));
	struct vhc_stats *stats = stack->channel.base->stats;

	if (stats) {
		uint64_t now = tick_now();

		lane_count_inflight(stats, -1);
		lane_count_one(stats, io, now > io->start ? tick_to_ns(now - io->start) : 0);
	}
	stack->done(stack, child);
}

void stack_finish(struct stack_channel *stack, struct child *child, int32_t result)
{
	struct io *parent = child->parent;

	stack_give(stack, child);
	stack->channel.inflight--;
	parent->result = result;
	io_complete(parent);
}

/* ---- Picked ones ---- */

bool io_is_picked(const struct io_pick *pick, const struct io *io)
{
	while (io->lane->end == LANE_STACK)
		io = ((const struct child *)io)->parent;
	return io->lane == pick->from && (!pick->wanted || pick->wanted(io));
}

void stack_pick(struct stack_channel *stack, const struct io_pick *pick,
		void (*found)(struct child *child))
{
	for (struct child_chunk *chunk = stack->chunks; chunk; chunk = chunk->next)
		for (uint32_t i = 0; i < STACK_CHUNK; i++) {
			struct child *child = &chunk->children[i];

			if (child->parent && io_is_picked(pick, child->parent))
				found(child);
		}
}

/* The base knows all children by one lane, whosever parents they have. */
void stack_let_go(struct bdev_channel *channel, struct lane *lane, const struct io_pick *pick)
{
	(void)lane;
	channel_let_go(channel->base, &((struct stack_channel *)channel)->lane, pick);
}

void stack_cancel(struct bdev_channel *channel, struct lane *lane, const struct io_pick *pick)
{
	(void)lane;
	channel_cancel(channel->base, &((struct stack_channel *)channel)->lane, pick);
}

/* ---- The device ---- */

int stack_resize(struct vhc_bdev *bdev, uint64_t num_blocks)
{
	uint64_t has = atomic_load_explicit(&bdev->base->num_blocks, memory_order_acquire);

	return num_blocks > has ? -ENOSPC : 0;
}

int stack_extent(struct vhc_bdev *bdev, uint64_t offset, uint64_t end, struct vhc_extent *out)
{
	int result = vhc_bdev_extent(bdev->base, offset, out);

	if (result == 0 && out->len > end - offset)
		out->len = end - offset;
	return result;
}

int vhc_bdev_rebase(struct vhc_bdev *bdev, struct vhc_bdev *base)
{
	struct vhc_bdev *before = bdev->base;

	if (!before || base->block_size != bdev->block_size)
		return -EINVAL;
	if (before == base)
		return 0;
	bdev_set_base(bdev, base);
	vhc_bdev_release(before);
	return 0;
}

void vhc_bdev_set_holding(struct vhc_bdev *bdev, int32_t holding)
{
	if (bdev->ops->set_holding)
		bdev->ops->set_holding(bdev, holding != 0);
}

/* ---- Those that keep requests waiting ---- */

void stack_bdev_init(struct stack_bdev *stack, const struct bdev_ops *ops, struct vhc_bdev *base)
{
	bdev_init(&stack->bdev, ops, base->block_size, atomic_load(&base->num_blocks));
	bdev_set_base(&stack->bdev, base);
	pthread_mutex_init(&stack->lock, NULL);
	atomic_init(&stack->hasty, false);
}

void stack_bdev_destroy(struct stack_bdev *stack)
{
	pthread_mutex_destroy(&stack->lock);
	free(stack);
}

void stack_bdev_wake(struct stack_bdev *stack)
{
	pthread_mutex_lock(&stack->lock);
	for (const struct stack_channel *at = stack->channels; at; at = at->next)
		eventfd_write(at->channel.event_fd, 1);
	pthread_mutex_unlock(&stack->lock);
}

void stack_bdev_set_holding(struct vhc_bdev *bdev, bool holding)
{
	struct stack_bdev *stack = (struct stack_bdev *)bdev;

	atomic_store(&stack->hasty, !holding);
	if (!holding)
		stack_bdev_wake(stack);
}
