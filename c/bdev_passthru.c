/* SPDX-License-Identifier: MIT */
/* A bdev that shows another, or a part of one. */
#include <errno.h>
#include <stdlib.h>

#include "stack.h"

struct passthru {
	struct vhc_bdev bdev;
	uint64_t offset; /* bytes */
};

static uint64_t offset_of(const struct stack_channel *stack)
{
	return ((const struct passthru *)stack->channel.bdev)->offset;
}

static bool has_ranges(const struct io *io)
{
	return io->op == VHC_OP_UNMAP || io->op == VHC_OP_WRITE_ZEROES;
}

/* The parent's own ranges are moved while the base has the child: no others are needed. */
static void move_ranges(const struct io *io, uint64_t by)
{
	for (uint32_t i = 0; by && i < io->iovcnt; i++)
		io->ranges[i].offset += by;
}

static void done(struct stack_channel *stack, struct child *child)
{
	if (has_ranges(&child->io))
		move_ranges(&child->io, -offset_of(stack));
	stack_finish(stack, child, child->io.result);
}

static void pass(struct stack_channel *stack, struct io *const *ios, uint32_t n)
{
	struct io *children[STACK_CHUNK];
	uint32_t num = 0;

	stack->channel.inflight += n;
	for (uint32_t i = 0; i < n; i++) {
		struct child *child = stack_take(stack, ios[i]);

		if (!child) {
			stack->channel.inflight--;
			ios[i]->result = -ENOMEM;
			io_complete(ios[i]);
			continue;
		}
		child->io.offset += offset_of(stack);
		if (has_ranges(&child->io))
			move_ranges(&child->io, offset_of(stack));
		children[num++] = &child->io;
	}
	stack_submit(stack, children, num);
}

static void passthru_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	for (uint32_t at = 0; at < n; at += STACK_CHUNK)
		pass((struct stack_channel *)channel, ios + at,
		     n - at < STACK_CHUNK ? n - at : STACK_CHUNK);
}

static int passthru_open(struct vhc_bdev *bdev, struct bdev_channel *base,
			 struct bdev_channel **out)
{
	struct stack_channel *stack = calloc(1, sizeof(*stack));
	int result = stack ? stack_open(stack, bdev, base, done) : -ENOMEM;

	if (result) {
		free(stack);
		return result;
	}
	stack->channel.sync = base->sync;
	*out = &stack->channel;
	return 0;
}

static void passthru_close(struct bdev_channel *channel)
{
	struct stack_channel *stack = (struct stack_channel *)channel;

	stack_close(stack);
	free(stack);
}

static int passthru_resize(struct vhc_bdev *bdev, uint64_t num_blocks)
{
	const struct passthru *passthru = (const struct passthru *)bdev;

	return stack_resize(bdev, num_blocks + passthru->offset / bdev->block_size);
}

static int passthru_extent(struct vhc_bdev *bdev, uint64_t offset, uint64_t end,
			   struct vhc_extent *out)
{
	uint64_t start = ((const struct passthru *)bdev)->offset;

	return stack_extent(bdev, start + offset, start + end, out);
}

static void passthru_destroy(struct vhc_bdev *bdev)
{
	free(bdev);
}

static const struct bdev_ops passthru_ops = {
    .name = "passthru",
    .channel_open = passthru_open,
    .channel_close = passthru_close,
    .submit = passthru_submit,
    .let_go = stack_let_go,
    .cancel = stack_cancel,
    .resize = passthru_resize,
    .extent = passthru_extent,
    .destroy = passthru_destroy,
};

int vhc_bdev_passthru_create(struct vhc_bdev *base, uint64_t first_block, uint64_t num_blocks,
			     struct vhc_bdev **out)
{
	const uint64_t has = atomic_load(&base->num_blocks);
	struct passthru *passthru;

	if (num_blocks == 0 || first_block > has || num_blocks > has - first_block)
		return -EINVAL;
	passthru = calloc(1, sizeof(*passthru));
	if (!passthru)
		return -ENOMEM;
	bdev_init(&passthru->bdev, &passthru_ops, base->block_size, num_blocks);
	bdev_set_base(&passthru->bdev, base);
	passthru->offset = first_block * base->block_size;
	*out = &passthru->bdev;
	return 0;
}
