/* SPDX-License-Identifier: MIT */
/* The error bdev: which requests fail or are falsified, and no other. */
#include <pthread.h>

#include "stack_rig.h"

/* ---- Errors ---- */

/* Rounds of reads by four reactors, which share a rule for fewer: exactly so many fail. */
#define REACTORS 4
#define RULES 40u

static struct vhc_bdev *shared;
static atomic_bool over;
static atomic_uint failures;

static void *read_on(void *argument)
{
	struct disk *disk = argument;

	while (!atomic_load(&over)) {
		for (uint32_t i = 0; i < 32; i++)
			disk_add(disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk->data, 512}, 1);
		atomic_fetch_add(&failures, (unsigned)disk_run(disk));
	}
	return NULL;
}

static void counts_exactly(void)
{
	static struct disk disks[REACTORS];
	pthread_t threads[REACTORS];
	uint32_t expected = 0;

	shared = make_error(make_base(MALLOC_BASE));
	for (int i = 0; i < REACTORS; i++)
		REQUIRE(start(&disks[i], shared));
	for (int i = 0; i < REACTORS; i++)
		pthread_create(&threads[i], NULL, read_on, &disks[i]);
	for (uint32_t i = 0; i < RULES; i++) {
		const struct vhc_error_rule rule = {.kind = VHC_ERROR_FAILURE, .num = 3 + i % 5};

		inject(shared, OP(READ) | OP(WRITE), rule);
		expected += rule.num;
		while (vhc_bdev_error_left(shared, VHC_OP_READ) > 0)
			nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
	}
	/* Those that count far more than come change while they are counted. */
	for (uint32_t i = 0; i < RULES; i++)
		inject(shared, OP(WRITE),
		       (struct vhc_error_rule){.kind = i % 5, .num = 1u << 30, .corrupt_value = 1});
	atomic_store(&over, true);
	for (int i = 0; i < REACTORS; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(atomic_load(&failures), expected);
	CHECK_EQ(vhc_bdev_error_left(shared, VHC_OP_OTHER), -EINVAL);
	for (int i = 0; i < REACTORS; i++)
		disk_close(&disks[i]);
	vhc_bdev_release(shared);
}

static void fails_by_operation(void)
{
	struct vhc_bdev *bdev = make_error(make_base(MALLOC_BASE));
	const uint64_t range[][2] = {{0, 4096}};
	struct vhc_error_rule bad = {.kind = VHC_ERROR_CORRUPT, .num = 1};
	struct disk disk;

	CHECK_EQ(vhc_bdev_error_inject(bdev, OP(READ), &bad), -EINVAL);
	bad = (struct vhc_error_rule){.kind = 5};
	CHECK_EQ(vhc_bdev_error_inject(bdev, OP(READ), &bad), -EINVAL);
	bad.kind = VHC_ERROR_FAILURE;
	CHECK_EQ(vhc_bdev_error_inject(bdev, 1u << VHC_OP_OTHER, &bad), -EINVAL);
	if (!start(&disk, bdev))
		return;
	inject(bdev, OP(FLUSH) | OP(UNMAP) | OP(WRITE_ZEROES) | OP(WRITE),
	       (struct vhc_error_rule){.kind = VHC_ERROR_FAILURE, .num = 1});
	CHECK_EQ(disk_rw(&disk, IN, 0, disk.data, 512), OK);
	disk_add_flush(&disk);
	disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, range, 1, 0);
	disk_add_ranges(&disk, VIRTIO_BLK_T_WRITE_ZEROES, range, 1, 0);
	disk_add(&disk, OUT, 0, &(struct vhc_iov){(uintptr_t)disk.data, 512}, 1);
	CHECK_EQ(disk_run(&disk), 4);
	/* Each rule was for one. */
	disk_add_flush(&disk);
	disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, range, 1, 0);
	disk_add_ranges(&disk, VIRTIO_BLK_T_WRITE_ZEROES, range, 1, 0);
	disk_add(&disk, OUT, 0, &(struct vhc_iov){(uintptr_t)disk.data, 512}, 1);
	CHECK_EQ(disk_run(&disk), 0);
	inject(bdev, OP(READ), (struct vhc_error_rule){.kind = VHC_ERROR_NOMEM, .num = 1});
	CHECK_EQ(disk_rw(&disk, IN, 0, disk.data, 512), IOERR);
	CHECK_EQ(disk_rw(&disk, IN, 0, disk.data, 512), OK);
	end(&disk, bdev);
}

static void fails_by_place(void)
{
	struct vhc_bdev *bdev = make_error(make_base(MALLOC_BASE));
	const uint64_t before[][2] = {{0, 4096}}, across[][2] = {{0, 4096}, {8192, 8192}};
	struct disk disk;

	if (!start(&disk, bdev))
		return;
	inject(bdev, 0x1f,
	       (struct vhc_error_rule){
		   .kind = VHC_ERROR_FAILURE, .num = 100, .offset = 12288, .len = 512});
	CHECK_EQ(disk_rw(&disk, IN, 8192, disk.data, 4096), OK);
	CHECK_EQ(disk_rw(&disk, IN, 12288 + 512, disk.data, 4096), OK);
	CHECK_EQ(disk_rw(&disk, IN, 8192, disk.data, 4608), IOERR);
	CHECK_EQ(disk_rw(&disk, OUT, 12288, disk.data, 512), IOERR);
	disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, before, 1, 0);
	CHECK_EQ(disk_run(&disk), 0);
	disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, across, 2, 0);
	CHECK_EQ(disk_run(&disk), 1);
	disk_add_flush(&disk);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK_EQ(vhc_bdev_error_left(bdev, VHC_OP_READ), 99);
	end(&disk, bdev);
}

/* Which of 64 requests fail, as bits. */
static uint64_t drawn(struct disk *disk, struct vhc_bdev *bdev, uint64_t seed)
{
	uint64_t bits = 0;

	inject(bdev, OP(READ),
	       (struct vhc_error_rule){
		   .kind = VHC_ERROR_FAILURE, .num = 1000, .chance = 1u << 30, .seed = seed});
	for (int i = 0; i < 64; i++)
		bits = bits << 1 | (disk_rw(disk, IN, 0, disk->data, 512) != OK);
	return bits;
}

static void fails_by_chance(void)
{
	struct vhc_bdev *bdev = make_error(make_base(MALLOC_BASE));
	struct disk disk;
	uint64_t bits;

	if (!start(&disk, bdev))
		return;
	bits = drawn(&disk, bdev, 7);
	CHECK_EQ(drawn(&disk, bdev, 7), bits);
	CHECK(drawn(&disk, bdev, 8) != bits);
	CHECK(__builtin_popcountll(bits) > 4 && __builtin_popcountll(bits) < 32);
	end(&disk, bdev);
}

static void fails_by_depth(void)
{
	struct vhc_bdev *bdev = make_error(make_delay(make_base(MALLOC_BASE), 20 * MS, 0));
	struct disk disk;

	if (!start(&disk, bdev))
		return;
	inject(bdev, OP(READ),
	       (struct vhc_error_rule){.kind = VHC_ERROR_FAILURE, .num = 100, .queue_depth = 4});
	for (int i = 0; i < 10; i++)
		disk_add(&disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk.data, 512}, 1);
	CHECK_EQ(disk_run(&disk), 6);
	end(&disk, bdev);
}

/* The byte at an offset of data in pieces is another: in what is read, and in what is written. */
static void corrupt(enum base kind)
{
	/* Ends and middles of pieces, and past the end. */
	static const uint64_t places[] = {0, 1, 511, 512, 1000, 1535, 1536, 4095, 4096};
	struct vhc_bdev *bdev = make_error(make_base(kind));
	struct disk disk;

	if (!start(&disk, bdev))
		return;
	fill(disk.data, 8192);
	for (size_t n = 0; n < sizeof(places) / sizeof(places[0]); n++) {
		const uint64_t at = places[n];
		const uint8_t expected = pattern(at) ^ 0x81;
		const struct vhc_iov pieces[] = {{(uintptr_t)disk.data, 512},
						 {(uintptr_t)disk.data + 512, 1024},
						 {(uintptr_t)disk.data + 1536, 2560}};

		inject(bdev, OP(WRITE),
		       (struct vhc_error_rule){.kind = VHC_ERROR_CORRUPT,
					       .num = 1,
					       .corrupt_offset = at,
					       .corrupt_value = 0x81});
		disk_add(&disk, OUT, 0, pieces, 3);
		CHECK_EQ(disk_run(&disk), 0);
		for (uint64_t i = 0; i < 4096; i++)
			REQUIRE_EQ(disk.data[i], pattern(i)); /* the guest's own is as it was */
		CHECK_EQ(disk_rw(&disk, IN, 0, disk.data + 8192, 4096), OK);
		for (uint64_t i = 0; i < 4096; i++)
			REQUIRE_EQ(disk.data[8192 + i], i == at ? expected : pattern(i));
		CHECK_EQ(disk_rw(&disk, OUT, 0, disk.data, 4096), OK);
		inject(bdev, OP(READ),
		       (struct vhc_error_rule){.kind = VHC_ERROR_CORRUPT,
					       .num = 1,
					       .corrupt_offset = at,
					       .corrupt_value = 0x81});
		disk_add(&disk, IN, 0, pieces, 3);
		CHECK_EQ(disk_run(&disk), 0);
		for (uint64_t i = 0; i < 4096; i++)
			REQUIRE_EQ(disk.data[i], i == at ? expected : pattern(i));
		fill(disk.data, 4096);
	}
	end(&disk, bdev);
}

static void corrupts_malloc(void)
{
	corrupt(MALLOC_BASE);
}

static void corrupts_file(void)
{
	corrupt(FILE_BASE);
}

/* A bdev moves to another base, as when something is put in front of that. */
static void changes_its_base(void)
{
	struct vhc_bdev *base = make_base(MALLOC_BASE), *error, *top;
	struct disk disk;

	CHECK_EQ(vhc_bdev_error_create(base, &error), 0);
	CHECK_EQ(vhc_bdev_passthru_create(base, 0, BLOCKS, &top), 0);
	CHECK_EQ(vhc_bdev_rebase(base, error), -EINVAL);
	CHECK_EQ(vhc_bdev_rebase(top, error), 0);
	inject(error, OP(READ), (struct vhc_error_rule){.kind = VHC_ERROR_FAILURE, .num = 1});
	if (!start(&disk, top))
		return;
	CHECK_EQ(disk_rw(&disk, IN, 0, disk.data, 4096), IOERR);
	end(&disk, top);
	vhc_bdev_release(error);
	vhc_bdev_release(base);
}

int main(void)
{
	RUN(counts_exactly);
	RUN(fails_by_operation);
	RUN(fails_by_place);
	RUN(fails_by_chance);
	RUN(fails_by_depth);
	RUN(corrupts_malloc);
	RUN(corrupts_file);
	RUN(changes_its_base);
	return check_report();
}
