/* SPDX-License-Identifier: MIT */
/* A RAM disk. */
#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
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

/* Any but the first: it was written. A write makes it PAGE_WRITTEN, whatever it was. */
enum page_state {
	PAGE_EMPTY = 0,
	PAGE_WRITTEN = 1,
	PAGE_COPIED = 2,  /* and not written since it was copied to `copy` */
	PAGE_COPYING = 3, /* and not written since that began */
};

struct malloc_bdev {
	struct vhc_bdev bdev;
	struct vhc_pages pages;
	uint8_t *data;
	/*
	 * By page: whether it was written since it was last unmapped (enum page_state). A page that
	 * was may hold zeroes; another holds nothing else. So a write copies and then sets, and an
	 * unmap clears and then zeroes.
	 */
	_Atomic uint8_t *map;
	uint8_t *copy;	      /* where vhc_bdev_malloc_copy copies to, or NULL */
	uint8_t *copied;      /* by page: whether it was copied there */
	bool keeps_pages;     /* reserved hugepages: see drop_pages */
	atomic_uint channels; /* open ones: the data must not move under them */
};

struct malloc_channel {
	struct bdev_channel channel;
	struct malloc_bdev *disk;
};

static int malloc_channel_open(struct vhc_bdev *bdev, struct bdev_channel *base,
			       struct bdev_channel **out)
{
	struct malloc_bdev *disk = (struct malloc_bdev *)bdev;
	struct malloc_channel *channel = calloc(1, sizeof(*channel));

	(void)base;
	if (!channel)
		return -ENOMEM;
	channel->channel.bdev = bdev;
	channel->channel.event_fd = -1;
	channel->channel.sync = true;
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
		if (atomic_load_explicit(&disk->map[page], memory_order_relaxed) != PAGE_WRITTEN)
			atomic_store_explicit(&disk->map[page], PAGE_WRITTEN, memory_order_release);
}

/* Only what covers a page empties it. */
static void map_unmapped(const struct malloc_bdev *disk, uint64_t offset, uint64_t len)
{
	const uint64_t end = (offset + len) / PAGE;

	for (uint64_t page = (offset + PAGE - 1) / PAGE; page < end; page++)
		if (atomic_load_explicit(&disk->map[page], memory_order_relaxed))
			atomic_exchange(&disk->map[page], 0);
}

/*
 * A page of which a part was zeroed: it is what it was, but a copy of it is not. Where pages are
 * kept, the zeroes must be seen before the map is looked at, as in map_written; where they are
 * dropped the system saw to it.
 */
static void map_changed(const struct malloc_bdev *disk, uint64_t page)
{
	uint8_t state = disk->keeps_pages
			    ? atomic_fetch_or(&disk->map[page], 0)
			    : atomic_load_explicit(&disk->map[page], memory_order_relaxed);

	while (state > PAGE_WRITTEN &&
	       !atomic_compare_exchange_weak(&disk->map[page], &state, PAGE_WRITTEN))
		;
}

static void map_edges_changed(const struct malloc_bdev *disk, uint64_t offset, uint64_t len)
{
	map_changed(disk, offset / PAGE);
	map_changed(disk, (offset + len - 1) / PAGE);
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
		if (unmap)
			map_edges_changed(disk, range->offset, range->len);
		else
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
	free(disk->copied);
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

/* To the end of the last block, so that blocks can be looked at whole. */
static uint64_t map_bytes(const struct vhc_pages *pages, uint32_t block_size)
{
	return pages->size / PAGE + block_size / PAGE + 1;
}

/* A map of pages that nobody has written. */
static _Atomic uint8_t *map_create(const struct vhc_pages *pages, uint32_t block_size)
{
	return calloc(map_bytes(pages, block_size), 1);
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

/* ---- Moving ---- */

/* Has every store that another thread made before it looked at the map be seen here. */
static int wait_for_stores(void)
{
	static atomic_bool registered;

	if (!atomic_load(&registered) &&
	    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) < 0)
		return -errno;
	atomic_store(&registered, true);
	return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) < 0 ? -errno : 0;
}

static bool change_state(struct malloc_bdev *disk, uint64_t page, uint8_t from, uint8_t to)
{
	return atomic_compare_exchange_strong(&disk->map[page], &from, to);
}

/* Forgets what was copied. */
static void copy_end(struct malloc_bdev *disk)
{
	const uint64_t pages = disk->pages.size / PAGE;

	for (uint64_t page = 0; disk->copy && page < pages; page++)
		change_state(disk, page, PAGE_COPIED, PAGE_WRITTEN);
	free(disk->copied);
	disk->copied = disk->copy = NULL;
}

static int copy_begin(struct malloc_bdev *disk, uint8_t *to)
{
	if (disk->copy == to)
		return 0;
	copy_end(disk);
	disk->copied = calloc(disk->pages.size / PAGE, 1);
	if (!disk->copied)
		return -ENOMEM;
	disk->copy = to;
	return 0;
}

int vhc_bdev_malloc_copy(struct vhc_bdev *bdev, const struct vhc_pages *pages, uint64_t offset,
			 uint64_t len)
{
	struct malloc_bdev *disk = (struct malloc_bdev *)bdev;
	const uint64_t first = offset / PAGE, end = (offset + len) / PAGE;
	int count = 0, err;

	if (bdev->ops != &malloc_ops || offset % PAGE || len % PAGE || len > INT32_MAX ||
	    offset > disk->pages.size || len > disk->pages.size - offset ||
	    offset + len > pages->size)
		return -EINVAL;
	if (!len) {
		copy_end(disk);
		return 0;
	}
	err = copy_begin(disk, (uint8_t *)(uintptr_t)pages->addr);
	if (err)
		return err;
	for (uint64_t page = first; page < end; page++)
		change_state(disk, page, PAGE_WRITTEN, PAGE_COPYING);
	err = wait_for_stores();
	for (uint64_t page = first; page < end; page++) {
		if (err) {
			change_state(disk, page, PAGE_COPYING, PAGE_WRITTEN);
		} else if (atomic_load(&disk->map[page]) == PAGE_COPYING) {
			disk->copied[page] = 1;
			memcpy(disk->copy + page * PAGE, disk->data + page * PAGE, PAGE);
			/* Unless it was written meanwhile: then it is copied again. */
			change_state(disk, page, PAGE_COPYING, PAGE_COPIED);
			count++;
		}
	}
	return err ? err : count;
}

/*
 * Copies what was written of a disk to other pages, which are zero but for what
 * vhc_bdev_malloc_copy has put there.
 */
static void copy_disk(const struct malloc_bdev *disk, uint8_t *to, _Atomic uint8_t *map,
		      uint64_t len)
{
	const uint8_t *copied = disk->copy == to ? disk->copied : NULL;

	for (uint64_t at = 0, page = 0; at < len; at += PAGE, page++) {
		const uint8_t state = atomic_load_explicit(&disk->map[page], memory_order_acquire);
		const uint64_t n = len - at < PAGE ? len - at : PAGE;

		if (state != PAGE_EMPTY)
			atomic_store_explicit(&map[page], PAGE_WRITTEN, memory_order_relaxed);
		if (state == PAGE_EMPTY && copied && copied[page])
			memset(to + at, 0, n);
		else if (state == PAGE_WRITTEN)
			memcpy(to + at, disk->data + at, n);
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
	if (disk->copy != (uint8_t *)(uintptr_t)pages->addr)
		copy_end(disk);
	copy_disk(disk, (uint8_t *)(uintptr_t)pages->addr, map,
		  (old_blocks < num_blocks ? old_blocks : num_blocks) * bdev->block_size);
	vhc_pages_free(&disk->pages);
	free(disk->map);
	free(disk->copied);
	disk->copied = disk->copy = NULL;
	take_pages(disk, pages, map);
	atomic_store(&bdev->num_blocks, num_blocks);
	return 0;
}

int vhc_bdev_malloc_save_map(struct vhc_bdev *bdev, int32_t fd)
{
	const struct malloc_bdev *disk = (struct malloc_bdev *)bdev;
	uint64_t at = 0, end;

	if (bdev->ops != &malloc_ops)
		return -EINVAL;
	end = map_bytes(&disk->pages, bdev->block_size);
	while (at < end) {
		ssize_t n = pwrite(fd, (const uint8_t *)disk->map + at, end - at, (off_t)at);

		if (n < 0)
			return -errno;
		at += (uint64_t)n;
	}
	return 0;
}

int vhc_bdev_malloc_load_map(struct vhc_bdev *bdev, int32_t fd)
{
	const struct malloc_bdev *disk = (struct malloc_bdev *)bdev;
	uint64_t at = 0, end;

	if (bdev->ops != &malloc_ops)
		return -EINVAL;
	end = map_bytes(&disk->pages, bdev->block_size);
	while (at < end) {
		ssize_t n = pread(fd, (uint8_t *)disk->map + at, end - at, (off_t)at);

		if (n <= 0)
			return n < 0 ? -errno : -EINVAL;
		at += (uint64_t)n;
	}
	return 0;
}
