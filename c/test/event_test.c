/* SPDX-License-Identifier: MIT */
/* Event rings, and I/O without a ring. */
#include <errno.h>

#include "scsi_vm.h"

static const uint8_t event[16] = {1, 0, 0, 0, 1, 3, 0x40, 5, 0, 0, 0, 0, 2};

static int send(struct scsi_vm *vm)
{
	return vhc_reactor_send_event(vm->rig.reactor, vm->ring, event);
}

static void offer_buffer(struct scsi_vm *vm, uint32_t i, uint32_t len, uint16_t flags)
{
	memset(guest_data(&vm->guest, i), 0xff, 64);
	guest_desc(&vm->guest, 4 * i, guest_data(&vm->guest, i), len, flags, 0);
	kick(vm, (uint16_t)(4 * i));
}

static void sends_events(void)
{
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	CHECK_EQ(send(&vm), -ENOENT);
	REQUIRE_EQ(vhc_reactor_start_event_ring(vm.rig.reactor, vm.ring), 0);
	for (uint32_t i = 0; i < 4; i++)
		offer_buffer(&vm, i, 16, VRING_DESC_F_WRITE);
	CHECK(is_quiet(&vm));
	CHECK_EQ(attach(&vm, UNIT), -ENOENT);
	CHECK_EQ(vhc_reactor_hold_lun(vm.rig.reactor, vm.ring, UNIT), -ENOENT);
	CHECK_EQ(send(&vm), 1);
	REQUIRE(came_back(&vm, 0, 16));
	CHECK_EQ(memcmp(guest_data(&vm.guest, 0), event, 16), 0);
	CHECK_EQ(send(&vm), 1);
	REQUIRE(came_back(&vm, 1, 16));
	CHECK(is_quiet(&vm));
	scsi_vm_destroy(&vm);
}

/* A ring with buffers in it does not keep its reactor awake. */
static void sleeps_with_buffers(void)
{
	struct scsi_vm vm;
	uint64_t loops;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	REQUIRE_EQ(vhc_reactor_start_event_ring(vm.rig.reactor, vm.ring), 0);
	offer_buffer(&vm, 0, 16, VRING_DESC_F_WRITE);
	/* Past the time for which it is polled, and long enough for that to be shown. */
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	loops = counter(&vm.rig.stats->loops);
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	CHECK(counter(&vm.rig.stats->loops) - loops < 10);
	CHECK_EQ(send(&vm), 1);
	REQUIRE(came_back(&vm, 0, 16));
	scsi_vm_destroy(&vm);
}

/* virtio 5.6.6.3: the next event, or an empty one as soon as there is a buffer, says so. */
static void tells_of_missed_events(void)
{
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	REQUIRE_EQ(vhc_reactor_start_event_ring(vm.rig.reactor, vm.ring), 0);
	CHECK_EQ(send(&vm), 0);
	CHECK_EQ(send(&vm), 0);
	CHECK(EVENTUALLY(counter(&vm.rig.stats->polled) == 0));
	offer_buffer(&vm, 0, 16, VRING_DESC_F_WRITE);
	REQUIRE(came_back(&vm, 0, 16));
	CHECK_EQ(*(uint32_t *)guest_data(&vm.guest, 0), 0x80000000u);
	CHECK_EQ(guest_data(&vm.guest, 0)[4], 0);
	/* Once. */
	offer_buffer(&vm, 1, 16, VRING_DESC_F_WRITE);
	CHECK(is_quiet(&vm));
	CHECK_EQ(send(&vm), 1);
	REQUIRE(came_back(&vm, 1, 16));
	CHECK_EQ(memcmp(guest_data(&vm.guest, 1), event, 16), 0);
	scsi_vm_destroy(&vm);
}

/* Buffers that no event fits in are put back, and the next is taken. */
static void passes_bad_buffers(void)
{
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	REQUIRE_EQ(vhc_reactor_start_event_ring(vm.rig.reactor, vm.ring), 0);
	offer_buffer(&vm, 0, 15, VRING_DESC_F_WRITE);
	offer_buffer(&vm, 1, 16, 0);
	offer_buffer(&vm, 2, 64, VRING_DESC_F_WRITE);
	CHECK_EQ(send(&vm), 1);
	REQUIRE(came_back(&vm, 0, 15));
	CHECK_EQ(guest_data(&vm.guest, 0)[14], 0);
	CHECK_EQ(guest_data(&vm.guest, 0)[15], 0xff);
	REQUIRE(came_back(&vm, 1, 0));
	REQUIRE(came_back(&vm, 2, 16));
	CHECK_EQ(guest_data(&vm.guest, 2)[16], 0xff);
	/* Only a bad one: missed. */
	offer_buffer(&vm, 0, 3, VRING_DESC_F_WRITE);
	CHECK_EQ(send(&vm), 0);
	REQUIRE(came_back(&vm, 0, 3));
	offer_buffer(&vm, 1, 16, VRING_DESC_F_WRITE);
	REQUIRE(came_back(&vm, 1, 16));
	CHECK_EQ(*(uint32_t *)guest_data(&vm.guest, 1), 0x80000000u);
	scsi_vm_destroy(&vm);
}

/* A corrupt ring shows when an event is sent. */
static void breaks(void)
{
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	REQUIRE_EQ(vhc_reactor_start_event_ring(vm.rig.reactor, vm.ring), 0);
	CHECK(EVENTUALLY(counter(&vm.rig.stats->polled) == 0));
	kick(&vm, 60000);
	CHECK_EQ(send(&vm), 0);
	CHECK(next_upcall(&vm, VHC_UPCALL_RING_BROKEN));
	CHECK_EQ(send(&vm), 0);
	scsi_vm_destroy(&vm);
}

/* ---- I/O without a ring ---- */

static bool io_done(struct scsi_vm *vm, uint32_t id, int32_t status)
{
	const struct vhc_upcall *up = next_upcall(vm, VHC_UPCALL_IO_DONE);

	return up && CHECK_EQ(up->id, id) && CHECK_EQ(up->status, status);
}

static struct vhc_io_config io_config(struct vhc_bdev *bdev, uint32_t op, uint64_t offset,
				      uint64_t len)
{
	return (struct vhc_io_config){.bdev = (uint64_t)(uintptr_t)bdev,
				      .op = op,
				      .offset = offset,
				      .len = len,
				      .id = 100 + op};
}

static void reads_and_writes_directly(void)
{
	static uint8_t data[1024];
	struct vhc_pages pages;
	struct vhc_io_config config;
	struct vhc_bdev *disk;
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	REQUIRE_EQ(vhc_pages_alloc(BLOCKS * 512, 4096, -1, -1, 0, &pages), 0);
	REQUIRE_EQ(vhc_bdev_malloc_create(&pages, 512, BLOCKS, &disk), 0);
	memset(data, 0x61, sizeof(data));
	for (uint32_t op = VHC_OP_WRITE;; op = VHC_OP_READ) {
		config = io_config(disk, op, 512, 1024);
		config.addr = (uint64_t)(uintptr_t)data;
		config.stats = (uint64_t)(uintptr_t)vm.bdev_stats;
		REQUIRE_EQ(vhc_io_submit(vm.rig.reactor, &config), 0);
		REQUIRE(io_done(&vm, 100 + op, 0));
		if (op == VHC_OP_READ)
			break;
		memset(data, 0, sizeof(data));
		config = io_config(disk, VHC_OP_WRITE_ZEROES, 1024, 512);
		config.flags = VHC_IO_MAY_UNMAP | VHC_IO_DURABLE;
		REQUIRE_EQ(vhc_io_submit(vm.rig.reactor, &config), 0);
		REQUIRE(io_done(&vm, 100 + VHC_OP_WRITE_ZEROES, 0));
	}
	CHECK_EQ(data[511], 0x61);
	CHECK_EQ(data[512], 0);
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_READ].bytes), 1024);
	config = io_config(disk, VHC_OP_FLUSH, 0, 0);
	REQUIRE_EQ(vhc_io_submit(vm.rig.reactor, &config), 0);
	REQUIRE(io_done(&vm, 100 + VHC_OP_FLUSH, 0));
	config = io_config(disk, VHC_OP_UNMAP, 0, BLOCKS * 512);
	REQUIRE_EQ(vhc_io_submit(vm.rig.reactor, &config), 0);
	REQUIRE(io_done(&vm, 100 + VHC_OP_UNMAP, 0));
	vhc_bdev_release(disk);
	scsi_vm_close(&vm);
}

/* The channel is there as long as it takes, and the reactor cannot go before. */
static void waits_for_the_device(void)
{
	static uint8_t data[512];
	struct vhc_io_config config;
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	config = io_config(&vm.slow.bdev, VHC_OP_READ, 0, 512);
	config.addr = (uint64_t)(uintptr_t)data;
	for (uint32_t i = 0; i < 2; i++)
		REQUIRE_EQ(vhc_io_submit(vm.rig.reactor, &config), 0);
	CHECK(EVENTUALLY(atomic_load(&vm.slow.asked) == 2));
	CHECK_EQ(vhc_reactor_release(vm.rig.reactor), -EBUSY);
	slow_allow(&vm.slow, 1);
	CHECK(io_done(&vm, 100, 0));
	CHECK_EQ(atomic_load(&vm.slow.closed), 0);
	atomic_store(&vm.slow.result, -EIO);
	slow_allow(&vm.slow, 1);
	CHECK(io_done(&vm, 100, -EIO));
	CHECK_EQ(atomic_load(&vm.slow.opened), 1);
	CHECK_EQ(atomic_load(&vm.slow.closed), 1);
	scsi_vm_close(&vm);
}

static void refuses_bad_io(void)
{
	static uint8_t data[512];
	struct vhc_bdev *disk = null_disk();
	static const struct {
		uint32_t op;
		uint64_t offset, len;
		int result;
	} cases[] = {
	    {VHC_OP_READ, BLOCKS * 512, 512, -ERANGE},
	    {VHC_OP_READ, UINT64_MAX - 511, 512, -ERANGE},
	    {VHC_OP_READ, 0, UINT64_C(1) << 31, -EINVAL},
	    {VHC_OP_UNMAP, 0, UINT64_C(1) << 31, -ERANGE},
	    {VHC_OP_READ, 0, 0, -EINVAL},
	    {VHC_OP_READ, 1, 512, -EINVAL},
	    {VHC_OP_READ, 0, 100, -EINVAL},
	    {VHC_OP_FLUSH, 0, 512, -EINVAL},
	    {VHC_OP_OTHER, 0, 512, -EINVAL},
	};
	struct vhc_io_config config;
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		config = io_config(disk, cases[i].op, cases[i].offset, cases[i].len);
		config.addr = (uint64_t)(uintptr_t)data;
		CHECK_EQ(vhc_io_submit(vm.rig.reactor, &config), cases[i].result);
	}
	config = io_config(disk, VHC_OP_READ, 0, 512);
	CHECK_EQ(vhc_io_submit(vm.rig.reactor, &config), -EINVAL);
	vhc_bdev_release(disk);
	scsi_vm_close(&vm);
}

int main(void)
{
	RUN(sends_events);
	RUN(sleeps_with_buffers);
	RUN(tells_of_missed_events);
	RUN(passes_bad_buffers);
	RUN(breaks);
	RUN(reads_and_writes_directly);
	RUN(waits_for_the_device);
	RUN(refuses_bad_io);
	return check_report();
}
