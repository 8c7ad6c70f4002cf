/* SPDX-License-Identifier: MIT */
/* What all backends share, and the one that does nothing. */
#include <errno.h>
#include <stdlib.h>

#include "io.h"

bool bdev_shape_valid(uint32_t block_size, uint64_t num_blocks)
{
	return block_size >= 512 && block_size <= BDEV_MAX_BLOCK_SIZE &&
	       (block_size & (block_size - 1)) == 0 && num_blocks > 0 &&
	       num_blocks <= INT64_MAX / block_size;
}

void bdev_init(struct vhc_bdev *bdev, const struct bdev_ops *ops, uint32_t block_size,
	       uint64_t num_blocks)
{
	bdev->ops = ops;
	atomic_init(&bdev->refs, 1);
	bdev->block_size = block_size;
	atomic_init(&bdev->num_blocks, num_blocks);
	bdev->base = NULL;
	bdev->stats = NULL;
	bdev->num_stats = 0;
	bdev->qos = NULL;
	atomic_init(&bdev->limited, false);
}

void bdev_set_base(struct vhc_bdev *bdev, struct vhc_bdev *base)
{
	bdev_ref(base);
	bdev->base = base;
}

void bdev_ref(struct vhc_bdev *bdev)
{
	atomic_fetch_add_explicit(&bdev->refs, 1, memory_order_relaxed);
}

void vhc_bdev_release(struct vhc_bdev *bdev)
{
	while (bdev && atomic_fetch_sub_explicit(&bdev->refs, 1, memory_order_acq_rel) == 1) {
		struct vhc_bdev *base = bdev->base;

		free(bdev->stats);
		if (bdev->qos)
			bdev->qos->ops->destroy(bdev->qos);
		bdev->ops->destroy(bdev);
		bdev = base;
	}
}

int vhc_bdev_set_stats(struct vhc_bdev *bdev, uint32_t reactor_index, uint64_t stats_addr)
{
	const uint32_t num = reactor_index + 1;

	if (reactor_index >= VHC_MAX_REACTORS)
		return -EINVAL;
	if (num > bdev->num_stats) {
		struct vhc_stats **stats = realloc(bdev->stats, num * sizeof(struct vhc_stats *));

		if (!stats)
			return -ENOMEM;
		while (bdev->num_stats < num)
			stats[bdev->num_stats++] = NULL;
		bdev->stats = stats;
	}
	bdev->stats[reactor_index] = (struct vhc_stats *)(uintptr_t)stats_addr;
	return 0;
}

struct vhc_stats *bdev_stats(const struct vhc_bdev *bdev, uint32_t reactor_index)
{
	return reactor_index < bdev->num_stats ? bdev->stats[reactor_index] : NULL;
}

int vhc_bdev_resize(struct vhc_bdev *bdev, uint64_t num_blocks)
{
	int result;

	if (!bdev_shape_valid(bdev->block_size, num_blocks))
		return -EINVAL;
	result = bdev->ops->resize(bdev, num_blocks);
	if (result == 0)
		atomic_store_explicit(&bdev->num_blocks, num_blocks, memory_order_release);
	return result;
}

int vhc_bdev_extent(struct vhc_bdev *bdev, uint64_t offset, struct vhc_extent *out)
{
	const uint64_t blocks = atomic_load_explicit(&bdev->num_blocks, memory_order_acquire);
	const uint64_t end = blocks * bdev->block_size;
	struct vhc_extent extent = {.len = end - offset, .mapped = 1};

	if (offset >= end || offset % bdev->block_size)
		return -ERANGE;
	if (bdev->ops->extent) {
		int result = bdev->ops->extent(bdev, offset, end, &extent);

		if (result)
			return result;
	}
	*out = extent;
	return 0;
}

/* ---- null ---- */

static int null_channel_open(struct vhc_bdev *bdev, struct bdev_channel *base,
			     struct bdev_channel **out)
{
	struct bdev_channel *channel = calloc(1, sizeof(*channel));

	(void)base;
	if (!channel)
		return -ENOMEM;
	channel->bdev = bdev;
	channel->event_fd = -1;
	channel->sync = true;
	*out = channel;
	return 0;
}

static void null_channel_close(struct bdev_channel *channel)
{
	free(channel);
}

static void null_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	(void)channel;
	for (uint32_t i = 0; i < n; i++) {
		ios[i]->result = 0;
		io_complete(ios[i]);
	}
}

static int null_resize(struct vhc_bdev *bdev, uint64_t num_blocks)
{
	(void)bdev;
	(void)num_blocks;
	return 0;
}

static void null_destroy(struct vhc_bdev *bdev)
{
	free(bdev);
}

static const struct bdev_ops null_ops = {
    .name = "null",
    .channel_open = null_channel_open,
    .channel_close = null_channel_close,
    .submit = null_submit,
    .resize = null_resize,
    .destroy = null_destroy,
};

int vhc_bdev_null_create(uint32_t block_size, uint64_t num_blocks, struct vhc_bdev **out)
{
	struct vhc_bdev *bdev;

	if (!bdev_shape_valid(block_size, num_blocks))
		return -EINVAL;
	bdev = calloc(1, sizeof(*bdev));
	if (!bdev)
		return -ENOMEM;
	bdev_init(bdev, &null_ops, block_size, num_blocks);
	*out = bdev;
	return 0;
}
