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
/* What the allocation map tells apart. */
#define PAGE 4096u
/* Pages of the map looked at in one call: 4 GiB of the disk. */
#define MAX_SCAN (1u << 20)

struct malloc_bdev {
	struct vhc_bdev bdev;
	struct vhc_pages pages;
	uint8_t *data;
	/*
	 * By page: whether it was written since it was last unmapped. A page that is set may hold
	 * zeroes; one that is clear holds nothing else. So a write copies and then sets, and an
	 * unmap clears and then zeroes.
	 */
	_Atomic uint8_t *map;
	bool keeps_pages;     /* reserved hugepages: see drop_pages */
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

/* ---- The allocation map ---- */

static void map_written(const struct malloc_bdev *disk, uint64_t offset, uint64_t len)
{
	const uint64_t last = (offset + len - 1) / PAGE;

	/*
	 * The copy must be seen before the map is looked at, or an unmap on another reactor could
	 * come between. Where pages are dropped, the system stops this processor for that itself.
	 */
	if (disk->keeps_pages)
		atomic_thread_fence(memory_order_seq_cst);
	/* Stored to only if need be: reactors share its lines. */
	for (uint64_t page = offset / PAGE; page <= last; page++)
		if (!atomic_load_explicit(&disk->map[page], memory_order_relaxed))
			atomic_store_explicit(&disk->map[page], 1, memory_order_release);
}

/* Only what covers a page empties it. */
static void map_unmapped(const struct malloc_bdev *disk, uint64_t offset, uint64_t len)
{
	const uint64_t end = (offset + len) / PAGE;

	for (uint64_t page = (offset + PAGE - 1) / PAGE; page < end; page++)
		if (atomic_load_explicit(&disk->map[page], memory_order_relaxed))
			atomic_exchange(&disk->map[page], 0);
}

static bool has_written(const struct malloc_bdev *disk, uint64_t first, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		if (atomic_load_explicit(&disk->map[first + i], memory_order_acquire))
			return true;
	return false;
}

static int malloc_extent(struct vhc_bdev *bdev, uint64_t offset, uint64_t end,
			 struct vhc_extent *out)
{
	const struct malloc_bdev *disk = (const struct malloc_bdev *)bdev;
	/* Steps of whole blocks and of whole pages. */
	const uint64_t pages = bdev->block_size > PAGE ? bdev->block_size / PAGE : 1;
	const uint64_t begin = offset / PAGE / pages * pages;
	const uint64_t limit = (end + PAGE - 1) / PAGE;
	const bool mapped = has_written(disk, begin, pages);
	uint64_t page = begin + pages;

	while (page < limit && page - begin < MAX_SCAN && has_written(disk, page, pages) == mapped)
		page += pages;
	*out = (struct vhc_extent){.len = (page < limit ? page * PAGE : end) - offset,
				   .mapped = mapped};
	return 0;
}

/* ---- Requests ---- */

/*
 * Gives whole pages back to the system. Reserved hugepages are kept: once given
 * back they may be gone when the disk needs them.
 */
static bool drop_pages(const struct malloc_bdev *disk, uint8_t *at, uint64_t len)
{
	if (disk->keeps_pages)
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
	const bool unmap = io->op == VHC_OP_UNMAP || (io->flags & IO_MAY_UNMAP);

	for (uint32_t i = 0; i < io->iovcnt; i++) {
		const struct io_range *range = &io->ranges[i];

		if (unmap)
			map_unmapped(disk, range->offset, range->len);
		zero(disk, range, unmap);
		if (!unmap)
			map_written(disk, range->offset, range->len);
	}
}

static void execute(const struct malloc_bdev *disk, const struct io *io)
{
	switch (io->op) {
	case VHC_OP_READ:
	case VHC_OP_WRITE:
		iov_copy(io->iov, io->iovcnt, 0, disk->data + io->offset, io->len,
			 io->op == VHC_OP_READ);
		if (io->op == VHC_OP_WRITE)
			map_written(disk, io->offset, io->len);
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
	free(disk->map);
	free(disk);
}

static const struct bdev_ops malloc_ops = {
    .name = "malloc",
    .channel_open = malloc_channel_open,
    .channel_close = malloc_channel_close,
    .submit = malloc_submit,
    .resize = malloc_resize,
    .extent = malloc_extent,
    .destroy = malloc_destroy,
};

/* A map of pages that nobody has written. */
static _Atomic uint8_t *map_create(const struct vhc_pages *pages, uint32_t block_size)
{
	/* To the end of the last block, so that blocks can be looked at whole. */
	return calloc(pages->size / PAGE + block_size / PAGE + 1, 1);
}

static void take_pages(struct malloc_bdev *disk, const struct vhc_pages *pages,
		       _Atomic uint8_t *map)
{
	disk->pages = *pages;
	disk->data = (uint8_t *)(uintptr_t)pages->addr;
	disk->keeps_pages = pages->kind == VHC_PAGES_HUGETLB;
	disk->map = map;
}

int vhc_bdev_malloc_create(const struct vhc_pages *pages, uint32_t block_size, uint64_t num_blocks,
			   struct vhc_bdev **out)
{
	struct malloc_bdev *disk;
	_Atomic uint8_t *map;

	if (!bdev_shape_valid(block_size, num_blocks) || num_blocks > pages->size / block_size)
		return -EINVAL;
	disk = calloc(1, sizeof(*disk));
	map = map_create(pages, block_size);
	if (!disk || !map) {
		free(disk);
		free(map);
		return -ENOMEM;
	}
	bdev_init(&disk->bdev, &malloc_ops, block_size, num_blocks);
	take_pages(disk, pages, map);
	atomic_init(&disk->channels, 0);
	*out = &disk->bdev;
	return 0;
}

/* Copies what was written of a disk to fresh pages, which are zero. */
static void copy_disk(const struct malloc_bdev *disk, uint8_t *to, _Atomic uint8_t *map,
		      uint64_t len)
{
	for (uint64_t at = 0; at < len; at += PAGE) {
		if (!has_written(disk, at / PAGE, 1))
			continue;
		memcpy(to + at, disk->data + at, len - at < PAGE ? len - at : PAGE);
		atomic_store_explicit(&map[at / PAGE], 1, memory_order_relaxed);
	}
}

int vhc_bdev_malloc_move(struct vhc_bdev *bdev, const struct vhc_pages *pages, uint64_t num_blocks)
{
	struct malloc_bdev *disk = (struct malloc_bdev *)bdev;
	uint64_t old_blocks = atomic_load(&bdev->num_blocks);
	_Atomic uint8_t *map;

	if (bdev->ops != &malloc_ops || !bdev_shape_valid(bdev->block_size, num_blocks) ||
	    num_blocks > pages->size / bdev->block_size)
		return -EINVAL;
	if (atomic_load(&disk->channels) > 0)
		return -EBUSY;
	map = map_create(pages, bdev->block_size);
	if (!map)
		return -ENOMEM;
	copy_disk(disk, (uint8_t *)(uintptr_t)pages->addr, map,
		  (old_blocks < num_blocks ? old_blocks : num_blocks) * bdev->block_size);
	vhc_pages_free(&disk->pages);
	free(disk->map);
	take_pages(disk, pages, map);
	atomic_store(&bdev->num_blocks, num_blocks);
	return 0;
}
