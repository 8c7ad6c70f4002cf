/* SPDX-License-Identifier: MIT */
/* The error bdev's requests that hang: until they are resumed, or nothing may hang any more. */
#include "stack_rig.h"

static void hangs_until_resumed(void)
{
	struct vhc_bdev *bdev = make_error(make_base(MALLOC_BASE));
	struct disk disk;
	uint64_t token;
	uint32_t len;

	if (!start(&disk, bdev))
		return;
	fill(disk.data, 4096);
	inject(bdev, OP(WRITE), (struct vhc_error_rule){.kind = VHC_ERROR_PENDING, .num = 5});
	for (int i = 0; i < 3; i++)
		disk_add(&disk, OUT, (uint64_t)i * 4096,
			 &(struct vhc_iov){(uintptr_t)disk.data, 4096}, 1);
	vhc_driver_ring_kick(disk.driver);
	CHECK(eventually_hang(bdev, 3));
	/* Others pass meanwhile. */
	disk_add(&disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk.data + 8192, 4096}, 1);
	vhc_driver_ring_kick(disk.driver);
	while (vhc_driver_ring_get(disk.driver, &token, &len) == 0)
		REQUIRE(vhc_driver_ring_wait(disk.driver, DISK_PATIENCE_MS));
	CHECK_EQ(token, 3);
	CHECK_EQ(disk.data[8192], 0);
	CHECK_EQ(vhc_bdev_error_resume(bdev), 0);
	disk.used = 3;
	CHECK_EQ(disk_run(&disk), 0);
	CHECK_EQ(vhc_bdev_error_hanging(bdev), 0);
	CHECK_EQ(vhc_bdev_error_left(bdev, VHC_OP_WRITE), 0);
	CHECK_EQ(disk_rw(&disk, IN, 8192, disk.data + 8192, 4096), OK);
	CHECK_EQ(memcmp(disk.data, disk.data + 8192, 4096), 0);
	end(&disk, bdev);
}

/* A ring that is stopped waits for what hangs, until nothing may hang any more. */
static void lets_go(void)
{
	struct vhc_bdev *bdev = make_delay(make_error(make_base(MALLOC_BASE)), 0, VHC_MAX_DELAY_NS);
	struct disk disk;

	if (!start(&disk, bdev))
		return;
	disk_add(&disk, OUT, 0, &(struct vhc_iov){(uintptr_t)disk.data, 4096}, 1);
	vhc_driver_ring_kick(disk.driver);
	CHECK(!vhc_driver_ring_wait(disk.driver, 20));
	vhc_bdev_set_holding(bdev, 0);
	CHECK_EQ(disk_run(&disk), 0);
	/* Nothing waits as long as that is so. */
	CHECK_EQ(disk_rw(&disk, OUT, 0, disk.data, 4096), OK);
	end(&disk, bdev);
}

static void fails_what_hangs(void)
{
	struct vhc_bdev *error = make_error(make_base(MALLOC_BASE)), *bdev;
	struct disk disk;

	CHECK_EQ(vhc_bdev_passthru_create(error, 0, BLOCKS, &bdev), 0);
	if (!start(&disk, bdev))
		return;
	inject(error, OP(READ), (struct vhc_error_rule){.kind = VHC_ERROR_PENDING, .num = 5});
	disk_add(&disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk.data, 4096}, 1);
	disk_add(&disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk.data, 4096}, 1);
	vhc_driver_ring_kick(disk.driver);
	CHECK(eventually_hang(error, 2));
	CHECK_EQ(vhc_reactor_stop_ring(disk.reactor, disk.ring), 0);
	CHECK(!reader_next(&disk.reader, 20));
	vhc_bdev_set_holding(error, 0);
	CHECK_EQ(disk_run(&disk), 2);
	CHECK(reader_next(&disk.reader, DISK_PATIENCE_MS)->type == VHC_UPCALL_RING_STOPPED);
	CHECK_EQ(vhc_reactor_start_blk_ring(disk.reactor, disk.ring, disk.blk, 0), 0);
	/* What would hang fails, and hangs again once it may. */
	CHECK_EQ(disk_rw(&disk, IN, 0, disk.data, 4096), IOERR);
	vhc_bdev_set_holding(error, 1);
	disk_add(&disk, IN, 0, &(struct vhc_iov){(uintptr_t)disk.data, 4096}, 1);
	vhc_driver_ring_kick(disk.driver);
	CHECK(eventually_hang(error, 1));
	CHECK_EQ(vhc_bdev_error_resume(error), 0);
	CHECK_EQ(disk_run(&disk), 0);
	end(&disk, bdev);
	vhc_bdev_release(error);
}

int main(void)
{
	RUN(hangs_until_resumed);
	RUN(lets_go);
	RUN(fails_what_hangs);
	return check_report();
}
