/* SPDX-License-Identifier: MIT */
/* Bdevs that stack on others: what arrives at the base, what comes back, and when. */
#include "stack_rig.h"

/* ---- Passing through ---- */

/* A part of a bdev, seen through it and as a whole. */
static void pass_through(enum base kind)
{
	const uint64_t first = 64, offset = first * BLOCK, len = 16384;
	const uint64_t ranges[][2] = {{4096, 4096}, {12288, 4096}};
	struct vhc_bdev *base = make_base(kind);
	struct disk disk, whole;
	struct vhc_bdev *part;

	CHECK_EQ(vhc_bdev_passthru_create(base, first, BLOCKS - first + 1, &part), -EINVAL);
	CHECK_EQ(vhc_bdev_passthru_create(base, 0, 0, &part), -EINVAL);
	CHECK_EQ(vhc_bdev_passthru_create(base, first, 256, &part), 0);
	if (!start(&disk, part))
		return;
	fill(disk.data, len);
	CHECK_EQ(disk_rw(&disk, OUT, 0, disk.data, len), OK);
	disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, ranges, 2, 0);
	CHECK_EQ(disk_run(&disk), 0);
	disk_add_ranges(&disk, VIRTIO_BLK_T_WRITE_ZEROES, ranges, 1, 0);
	CHECK_EQ(disk_run(&disk), 0);
	disk_add_flush(&disk);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK_EQ(disk_rw(&disk, IN, 256 * BLOCK, disk.data, 512), IOERR);
	memset(disk.data, 0xee, len);
	CHECK_EQ(disk_rw(&disk, IN, 0, disk.data, len), OK);
	for (uint64_t i = 0; i < len; i += 511)
		CHECK_EQ(disk.data[i], i / 4096 % 2 ? 0 : pattern(i));
	end(&disk, part);
	if (!start(&whole, base))
		return;
	CHECK_EQ(disk_rw(&whole, IN, offset, whole.data, len), OK);
	for (uint64_t i = 0; i < len; i += 511)
		CHECK_EQ(whole.data[i], i / 4096 % 2 ? 0 : pattern(i));
	end(&whole, base);
}

static void passes_through_null(void)
{
	struct vhc_bdev *bdev = make_part(make_base(NULL_BASE), 0, BLOCKS);
	struct disk disk;

	if (!start(&disk, bdev))
		return;
	CHECK_EQ(disk_rw(&disk, IN, 0, disk.data, 4096), OK);
	end(&disk, bdev);
}

static void passes_through_malloc(void)
{
	pass_through(MALLOC_BASE);
}

static void passes_through_memory_file(void)
{
	pass_through(MEMORY_FILE_BASE);
}

static void passes_through_file(void)
{
	pass_through(FILE_BASE);
}

static void passes_extents_and_size(void)
{
	struct vhc_bdev *base = make_base(MALLOC_BASE), *part;
	struct vhc_extent extent;
	struct disk disk;

	CHECK_EQ(vhc_bdev_passthru_create(base, 64, 256, &part), 0);
	if (!start(&disk, part))
		return;
	CHECK_EQ(disk_rw(&disk, OUT, 8192, disk.data, 4096), OK);
	CHECK_EQ(vhc_bdev_extent(part, 0, &extent), 0);
	CHECK(extent.len == 8192 && !extent.mapped);
	CHECK_EQ(vhc_bdev_extent(part, 8192, &extent), 0);
	CHECK(extent.len == 4096 && extent.mapped);
	CHECK_EQ(vhc_bdev_extent(part, 12288, &extent), 0);
	CHECK(extent.len == 256 * BLOCK - 12288 && !extent.mapped);
	CHECK_EQ(vhc_bdev_extent(part, 256 * BLOCK, &extent), -ERANGE);
	CHECK_EQ(vhc_bdev_resize(part, BLOCKS - 63), -ENOSPC);
	CHECK_EQ(vhc_bdev_resize(part, BLOCKS - 64), 0);
	CHECK_EQ(disk_rw(&disk, IN, (BLOCKS - 65) * BLOCK, disk.data, 512), OK);
	end(&disk, part);
	vhc_bdev_release(base);
}

/* A stack of four, with parts below: ranges are as they were when they come back. */
static void stacks_deeply(void)
{
	struct vhc_bdev *bdev = make_part(make_base(MALLOC_BASE), 128, 1024);
	const uint64_t range[][2] = {{0, 4096}};
	struct disk disk;

	bdev = make_error(make_delay(make_part(bdev, 64, 512), 0, 0));
	if (!start(&disk, bdev))
		return;
	for (int i = 0; i < 3; i++) {
		memset(disk.data, 0x77, 8192);
		CHECK_EQ(disk_rw(&disk, OUT, 0, disk.data, 8192), OK);
		disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, range, 1, 0);
		CHECK_EQ(disk_run(&disk), 0);
		CHECK_EQ(disk_rw(&disk, IN, 0, disk.data, 8192), OK);
		CHECK(disk.data[4095] == 0 && disk.data[4096] == 0x77);
	}
	end(&disk, bdev);
}

/* What is asked of a base is counted there, with what failed. */
static void counts_for_the_base(void)
{
	struct vhc_bdev *base = make_error(make_base(MALLOC_BASE)), *top;
	struct vhc_stats *stats;
	struct disk disk;
	uint64_t address;

	CHECK_EQ(vhc_stats_alloc(&address), 0);
	stats = vhc_pointer(address);
	CHECK_EQ(vhc_bdev_set_stats(base, VHC_MAX_REACTORS, address), -EINVAL);
	CHECK_EQ(vhc_bdev_set_stats(base, 0, address), 0);
	inject(base, OP(READ), (struct vhc_error_rule){.kind = VHC_ERROR_FAILURE, .num = 2});
	top = make_delay(base, 0, 0);
	if (!start(&disk, top))
		return;
	for (uint32_t i = 0; i < 100; i++)
		disk_add(&disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk.data, 4096}, 1);
	CHECK_EQ(disk_run(&disk), 2);
	CHECK_EQ(disk_rw(&disk, OUT, 0, disk.data, 8192), OK);
	CHECK_EQ(counter(&stats->op[VHC_OP_READ].count), 100);
	CHECK_EQ(counter(&stats->op[VHC_OP_READ].bytes), 98 * 4096);
	CHECK_EQ(counter(&stats->op[VHC_OP_READ].errors), 2);
	CHECK(counter(&stats->op[VHC_OP_READ].latency_ns) > 0);
	CHECK_EQ(counter(&stats->op[VHC_OP_WRITE].bytes), 8192);
	end(&disk, top);
	vhc_stats_free(address);
}

/* ---- Delays ---- */

static void delay(enum base kind)
{
	struct vhc_bdev *bdev = make_delay(make_base(kind), 30 * MS, 5 * MS);
	uint64_t before = now_ns();
	struct disk disk;

	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_NUM_DELAYS, 0), -EINVAL);
	CHECK_EQ(vhc_bdev_delay_set(bdev, 0, VHC_MAX_DELAY_NS + 1), -EINVAL);
	if (!start(&disk, bdev))
		return;
	for (uint32_t i = 0; i < 200; i++)
		disk_add(&disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk.data, 4096}, 1);
	CHECK_EQ(disk_run(&disk), 0);
	/* All at the same time, not one after the other. */
	CHECK(now_ns() - before >= 30 * MS && now_ns() - before < 200 * 30 * MS);
	before = now_ns();
	CHECK_EQ(disk_rw(&disk, OUT, 0, disk.data, 4096), OK);
	CHECK(now_ns() - before >= 5 * MS);
	/* Those under way keep what they had; those that come are quicker, and overtake. */
	disk_add(&disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk.data, 4096}, 1);
	before = now_ns();
	vhc_driver_ring_kick(disk.driver);
	nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_DELAY_AVG_READ, 0), 0);
	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_DELAY_P99_READ, 0), 0);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK(now_ns() - before >= 30 * MS);
	end(&disk, bdev);
}

static void delays_malloc(void)
{
	delay(MALLOC_BASE);
}

static void delays_file(void)
{
	delay(FILE_BASE);
}

/* Waits for left answers, each for so long; how many did not come. */
static uint32_t collect(struct disk *disk, uint32_t left, int patience_ms)
{
	uint64_t token;
	uint32_t len;

	do {
		while (left && vhc_driver_ring_get(disk->driver, &token, &len) == 1)
			left--;
	} while (left && vhc_driver_ring_wait(disk->driver, patience_ms));
	return left;
}

/* One of a hundred is of the other kind: of 12000, from 60 to 180 (5.5 sigma). */
static void one_in_a_hundred(void)
{
	struct vhc_bdev *bdev = make_delay(make_base(NULL_BASE), 0, 0);
	uint32_t slow = 0;
	struct disk disk;

	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_DELAY_P99_READ, VHC_MAX_DELAY_NS), 0);
	if (!start(&disk, bdev))
		return;
	for (uint32_t round = 0; round < 40; round++) {
		uint32_t left;

		for (uint32_t i = 0; i < 300; i++)
			disk_add(&disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk.data, 512}, 1);
		vhc_driver_ring_kick(disk.driver);
		left = collect(&disk, 300, 20);
		slow += left;
		vhc_bdev_set_holding(bdev, 0);
		CHECK_EQ(collect(&disk, left, DISK_PATIENCE_MS), 0);
		vhc_bdev_set_holding(bdev, 1);
		disk.used = 0;
	}
	CHECK(slow >= 60 && slow <= 180);
	end(&disk, bdev);
}

int main(void)
{
	RUN(passes_through_null);
	RUN(passes_through_malloc);
	RUN(passes_through_memory_file);
	RUN(passes_through_file);
	RUN(passes_extents_and_size);
	RUN(stacks_deeply);
	RUN(counts_for_the_base);
	RUN(delays_malloc);
	RUN(delays_file);
	RUN(one_in_a_hundred);
	return check_report();
}
