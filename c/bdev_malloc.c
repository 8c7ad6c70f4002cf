/* SPDX-License-Identifier: MIT */
/* A RAM disk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io.h"
#include "iov.h"

/* Measured: the first lines of a block, two requests ahead; more is slower. */
#define PREFETCH_AHEAD 2u
#define PREFETCH_LINES 6u
#define CACHE_LINE 64u

struct malloc_bdev {
	struct vhc_bdev bdev;
	struct vhc_pages pages;
	uint8_t *data;
	atomic_uint channels; /* open ones: the data must not move under them */
};

struct malloc_channel {
	struct bdev_channel channel;
	struct malloc_bdev *disk;
};

static int malloc_channel_open(struct vhc_bdev *bdev, struct bdev_channel **out)
{
	struct malloc_bdev *disk = (struct malloc_bdev *)bdev;
	struct malloc_channel *channel = calloc(1, sizeof(*channel));

	if (!channel)
		return -ENOMEM;
	channel->channel.bdev = bdev;
	channel->channel.event_fd = -1;
	channel->disk = disk;
	atomic_fetch_add(&disk->channels, 1);
	*out = &channel->channel;
	return 0;
}

static void malloc_channel_close(struct bdev_channel *base)
{
	struct malloc_channel *channel = (struct malloc_channel *)base;

	atomic_fetch_sub(&channel->disk->channels, 1);
	free(channel);
}

/*
 * Gives whole pages back to the system. Reserved hugepages are kept: once given
 * back they may be gone when the disk needs them.
 */
static bool drop_pages(const struct malloc_bdev *disk, uint8_t *at, uint64_t len)
{
	if (disk->pages.kind == VHC_PAGES_HUGETLB)
		return false;
	return madvise(at, len, disk->pages.fd >= 0 ? MADV_REMOVE : MADV_DONTNEED) == 0;
}

static void zero(const struct malloc_bdev *disk, const struct io_range *range, bool unmap)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uint8_t *start = disk->data + range->offset;
	uint8_t *end = start + range->len;
	uint8_t *first = (uint8_t *)(((uintptr_t)start + page - 1) & ~(page - 1));
	uint8_t *last = (uint8_t *)((uintptr_t)end & ~(page - 1));

	if (!unmap || first >= last || !drop_pages(disk, first, (uint64_t)(last - first))) {
		memset(start, 0, range->len);
		return;
	}
	memset(start, 0, (size_t)(first - start));
	memset(last, 0, (size_t)(end - last));
}

static void zero_ranges(const struct malloc_bdev *disk, const struct io *io)
{
	for (uint32_t i = 0; i < io->iovcnt; i++)
		zero(disk, &io->ranges[i], io->op == VHC_OP_UNMAP || (io->flags & IO_MAY_UNMAP));
}

static void execute(const struct malloc_bdev *disk, const struct io *io)
{
	switch (io->op) {
	case VHC_OP_READ:
	case VHC_OP_WRITE:
		iov_copy(io->iov, io->iovcnt, 0, disk->data + io->offset, io->len,
			 io->op == VHC_OP_READ);
		break;
	case VHC_OP_UNMAP:
	case VHC_OP_WRITE_ZEROES:
		zero_ranges(disk, io);
		break;
	default: /* FLUSH: memory is as durable as it gets */
		break;
	}
}

static void prefetch(const struct malloc_bdev *disk, const struct io *io)
{
	const uint8_t *at;

	prefetch_write(io->status);
	if (io->op != VHC_OP_READ)
		return;
	at = disk->data + io->offset;
	for (uint32_t line = 0; line < PREFETCH_LINES; line++)
		__builtin_prefetch(at + (size_t)line * CACHE_LINE);
}

static void malloc_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	const struct malloc_bdev *disk = ((struct malloc_channel *)channel)->disk;

	for (uint32_t i = 0; i < n && i < PREFETCH_AHEAD; i++)
		prefetch(disk, ios[i]);
	for (uint32_t i = 0; i < n; i++) {
		if (i + PREFETCH_AHEAD < n)
			prefetch(disk, ios[i + PREFETCH_AHEAD]);
		execute(disk, ios[i]);
		ios[i]->result = 0;
		io_complete(ios[i]);
	}
}

static int malloc_resize(struct vhc_bdev *bdev, uint64_t num_blocks)
{
	const struct malloc_bdev *disk = (struct malloc_bdev *)bdev;

	return num_blocks > disk->pages.size / bdev->block_size ? -ENOSPC : 0;
}

static void malloc_destroy(struct vhc_bdev *bdev)
{
	struct malloc_bdev *disk = (struct malloc_bdev *)bdev;

	vhc_pages_free(&disk->pages);
	free(disk);
}

static const struct bdev_ops malloc_ops = {
    .name = "malloc",
    .channel_open = malloc_channel_open,
    .channel_close = malloc_channel_close,
    .submit = malloc_submit,
    .resize = malloc_resize,
    .destroy = malloc_destroy,
};

int vhc_bdev_malloc_create(const struct vhc_pages *pages, uint32_t block_size, uint64_t num_blocks,
			   struct vhc_bdev **out)
{
	struct malloc_bdev *disk;

	if (!bdev_shape_valid(block_size, num_blocks) || num_blocks > pages->size / block_size)
		return -EINVAL;
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return -ENOMEM;
	bdev_init(&disk->bdev, &malloc_ops, block_size, num_blocks);
	disk->pages = *pages;
	disk->data = (uint8_t *)(uintptr_t)pages->addr;
	atomic_init(&disk->channels, 0);
	*out = &disk->bdev;
	return 0;
}

/* Copies a disk to fresh pages, which are zero: a zero page need not be touched. */
static void copy_disk(uint8_t *to, const uint8_t *from, uint64_t len)
{
	static const uint8_t zeroes[4096];

	for (uint64_t at = 0; at < len; at += sizeof(zeroes)) {
		size_t part = len - at < sizeof(zeroes) ? len - at : sizeof(zeroes);

		if (memcmp(from + at, zeroes, part) != 0)
			memcpy(to + at, from + at, part);
	}
}

int vhc_bdev_malloc_move(struct vhc_bdev *bdev, const struct vhc_pages *pages, uint64_t num_blocks)
{
	struct malloc_bdev *disk = (struct malloc_bdev *)bdev;
	uint64_t old_blocks = atomic_load(&bdev->num_blocks);

	if (bdev->ops != &malloc_ops || !bdev_shape_valid(bdev->block_size, num_blocks) ||
	    num_blocks > pages->size / bdev->block_size)
		return -EINVAL;
	if (atomic_load(&disk->channels) > 0)
		return -EBUSY;
	copy_disk((uint8_t *)(uintptr_t)pages->addr, disk->data,
		  (old_blocks < num_blocks ? old_blocks : num_blocks) * bdev->block_size);
	vhc_pages_free(&disk->pages);
	disk->pages = *pages;
	disk->data = (uint8_t *)(uintptr_t)pages->addr;
	atomic_store(&bdev->num_blocks, num_blocks);
	return 0;
}
