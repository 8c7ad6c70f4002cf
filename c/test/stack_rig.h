/* SPDX-License-Identifier: MIT */
/* Bdevs that stack on one of each kind, as a driver has them, for tests. */
#ifndef VHC_TEST_STACK_RIG_H
#define VHC_TEST_STACK_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>

#include "disk.h"

#define SIZE (UINT64_C(1) << 20)
#define BLOCK 512u
#define BLOCKS (SIZE / BLOCK)
#define FEATURES                                                                                   \
	(UINT64_C(1) << VIRTIO_BLK_F_DISCARD | UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES |          \
	 UINT64_C(1) << VIRTIO_BLK_F_FLUSH)
#define IN VIRTIO_BLK_T_IN
#define OUT VIRTIO_BLK_T_OUT
#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define MS UINT64_C(1000000)
#define OP(name) (1u << VHC_OP_##name)

enum base {
	NULL_BASE,
	MALLOC_BASE,
	MEMORY_FILE_BASE,
	FILE_BASE
};

static inline struct vhc_bdev *make_base(enum base kind)
{
	struct vhc_bdev *bdev = NULL;
	struct vhc_pages pages;
	struct vhc_file_config config = {
	    .direct_fd = -1, .block_size = BLOCK, .num_blocks = BLOCKS};

	if (kind == NULL_BASE) {
		CHECK_EQ(vhc_bdev_null_create(BLOCK, BLOCKS, &bdev), 0);
		return bdev;
	}
	if (kind == MALLOC_BASE) {
		CHECK_EQ(vhc_pages_alloc(SIZE, 4096, -1, -1, 0, &pages), 0);
		CHECK_EQ(vhc_bdev_malloc_create(&pages, BLOCK, BLOCKS, &bdev), 0);
		return bdev;
	}
	config.fd = kind == MEMORY_FILE_BASE
			? memfd_create("stack_test", MFD_CLOEXEC)
			: open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	CHECK(config.fd >= 0);
	CHECK_EQ(ftruncate(config.fd, (off_t)SIZE), 0);
	CHECK_EQ(vhc_bdev_file_create(&config, &bdev), 0);
	vhc_fd_close(config.fd);
	return bdev;
}

/* Drops base: what stacks on it keeps it. */
static inline struct vhc_bdev *make_error(struct vhc_bdev *base)
{
	struct vhc_bdev *bdev = NULL;

	CHECK_EQ(vhc_bdev_error_create(base, &bdev), 0);
	vhc_bdev_release(base);
	return bdev;
}

static inline struct vhc_bdev *make_delay(struct vhc_bdev *base, uint64_t read_ns,
					  uint64_t write_ns)
{
	struct vhc_bdev *bdev = NULL;

	CHECK_EQ(vhc_bdev_delay_create(base, &bdev), 0);
	vhc_bdev_release(base);
	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_DELAY_AVG_READ, read_ns), 0);
	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_DELAY_P99_READ, read_ns), 0);
	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_DELAY_AVG_WRITE, write_ns), 0);
	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_DELAY_P99_WRITE, write_ns), 0);
	return bdev;
}

static inline struct vhc_bdev *make_part(struct vhc_bdev *base, uint64_t first, uint64_t num)
{
	struct vhc_bdev *bdev = NULL;

	CHECK_EQ(vhc_bdev_passthru_create(base, first, num, &bdev), 0);
	vhc_bdev_release(base);
	return bdev;
}

static inline void inject(struct vhc_bdev *bdev, uint32_t ops, struct vhc_error_rule rule)
{
	CHECK_EQ(vhc_bdev_error_inject(bdev, ops, &rule), 0);
}

static inline bool start(struct disk *disk, struct vhc_bdev *bdev)
{
	return CHECK_EQ(disk_open(disk, bdev, VHC_MODE_ADAPTIVE, FEATURES), 0);
}

/* Closes the disk and drops the bdev. */
static inline void end(struct disk *disk, struct vhc_bdev *bdev)
{
	disk_close(disk);
	vhc_bdev_release(bdev);
}

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline bool eventually_hang(struct vhc_bdev *bdev, int64_t n)
{
	for (int i = 0; i < 100000 && vhc_bdev_error_hanging(bdev) != n; i++)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	return vhc_bdev_error_hanging(bdev) == n;
}

static inline uint64_t counter(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 9) * 7 + 1);
}

static inline void fill(uint8_t *data, uint64_t len)
{
	for (uint64_t i = 0; i < len; i++)
		data[i] = pattern(i);
}

#endif
