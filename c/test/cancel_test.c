/* SPDX-License-Identifier: MIT */
/*
 * Requests that hang, are delayed, or wait under a limit somewhere in a stack: a driver
 * that aborts them has them back at once, and no limit below keeps a ring from stopping. The
 * same for I/O without a ring.
 */
#include <errno.h>

#include "scsi_vm.h"

#define READ_BIT (1u << VHC_OP_READ)

static int limit(struct vhc_bdev *bdev, uint64_t bytes)
{
	const struct vhc_qos_limits limits = {.bytes = bytes};

	return vhc_bdev_set_qos(bdev, &limits);
}

/* One read goes, and the next would in minutes. */
#define STOPPED 1u

/* The next level of a stack; it takes the reference to base over. */
static struct vhc_bdev *on(struct vhc_bdev *base, int result, struct vhc_bdev *bdev)
{
	CHECK_EQ(result, 0);
	vhc_bdev_release(base);
	return bdev;
}

static struct vhc_bdev *error_on(struct vhc_bdev *base)
{
	struct vhc_bdev *bdev = NULL;
	int result = vhc_bdev_error_create(base, &bdev);

	return on(base, result, bdev);
}

static struct vhc_bdev *part_on(struct vhc_bdev *base, uint64_t first)
{
	struct vhc_bdev *bdev = NULL;
	int result = vhc_bdev_passthru_create(base, first, BLOCKS - 64, &bdev);

	return on(base, result, bdev);
}

static struct vhc_bdev *delay_on(struct vhc_bdev *base, uint64_t read_ns)
{
	struct vhc_bdev *bdev = NULL;
	int result = vhc_bdev_delay_create(base, &bdev);

	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_DELAY_AVG_READ, read_ns), 0);
	CHECK_EQ(vhc_bdev_delay_set(bdev, VHC_DELAY_P99_READ, read_ns), 0);
	return on(base, result, bdev);
}

static void let_hang(struct vhc_bdev *error, uint32_t num)
{
	const struct vhc_error_rule rule = {.kind = VHC_ERROR_PENDING, .num = num};

	CHECK_EQ(vhc_bdev_error_inject(error, READ_BIT, &rule), 0);
}

/* ---- Aborting ---- */

static int abort_with(struct scsi_vm *vm, uint32_t flags, uint64_t tag)
{
	const struct vhc_abort config = {
	    .tag = tag, .flags = flags, .address = UNIT, .response = 2, .cookie = 7};

	return vhc_reactor_abort(vm->rig.reactor, vm->ring, &config);
}

static bool aborted(struct scsi_vm *vm, int32_t count)
{
	const struct vhc_upcall *up = next_upcall(vm, VHC_UPCALL_ABORTED);

	return up && CHECK_EQ(up->status, count);
}

/* Requests n to end - 1 have come back, in any order, as aborted. */
static bool all_aborted(struct scsi_vm *vm, uint32_t n, uint32_t end)
{
	struct vring_used_elem used;

	for (uint32_t i = n; i < end; i++)
		if (!CHECK(wait_used(vm, &used)))
			return false;
	for (uint32_t i = n; i < end; i++)
		if (!responded(vm, i, 2, 0, 512))
			return false;
	return true;
}

/* A ring with what stacks on its slow disk, which it releases. */
static bool open_stack(struct scsi_vm *vm, struct vhc_bdev *top)
{
	struct vhc_lun_config unit = unit_config(top);

	vhc_lun_release(vm->lun);
	if (vhc_lun_create(&unit, &vm->lun))
		return false;
	vhc_bdev_release(top);
	return start_scsi(vm) == 0 && attach(vm, UNIT) == 0;
}

/* What is under stacks, of which one takes a reference. */
static struct vhc_bdev *slow_base(struct scsi_vm *vm)
{
	bdev_ref(&vm->slow.bdev);
	return &vm->slow.bdev;
}

static void aborts_what_hangs(void)
{
	struct vhc_bdev *error;
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_INTERRUPT, 0));
	slow_allow(&vm.slow, 100);
	error = error_on(slow_base(&vm));
	REQUIRE(open_stack(&vm, part_on(delay_on(error, 0), 64)));
	let_hang(error, 4);
	for (uint32_t i = 0; i < 4; i++)
		send_read(&vm, i, 0);
	CHECK(EVENTUALLY(vhc_bdev_error_hanging(error) == 4));
	CHECK_EQ(abort_with(&vm, VHC_ABORT_BY_TAG, 9), 0);
	CHECK(aborted(&vm, 0));
	CHECK(is_quiet(&vm));
	CHECK_EQ(abort_with(&vm, VHC_ABORT_BY_TAG, 1), 0);
	CHECK(aborted(&vm, 1));
	REQUIRE(came_back(&vm, 1, 12));
	CHECK(responded(&vm, 1, 2, 0, 512));
	CHECK(is_quiet(&vm));
	CHECK_EQ(vhc_bdev_error_hanging(error), 3);
	/* One of those that stay is the last in the list: another goes behind it. */
	let_hang(error, 1);
	send_read(&vm, 1, 0);
	CHECK(EVENTUALLY(vhc_bdev_error_hanging(error) == 4));
	CHECK_EQ(abort_with(&vm, VHC_ABORT_BY_TAG, 3), 0);
	CHECK(aborted(&vm, 1));
	REQUIRE(came_back(&vm, 3, 12));
	CHECK_EQ(abort_with(&vm, 0, 0), 0);
	CHECK(aborted(&vm, 3));
	CHECK(all_aborted(&vm, 0, 3));
	CHECK_EQ(vhc_bdev_error_hanging(error), 0);
	CHECK_EQ(atomic_load(&vm.slow.asked), 0);
	CHECK_EQ(vhc_bdev_error_resume(error), 0);
	send_read(&vm, 0, 0);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	scsi_vm_destroy(&vm);
}

/* What the disk has is its until it ends it; what only a delay keeps ends at once. */
static void aborts_what_is_delayed(void)
{
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_INTERRUPT, 0));
	REQUIRE(open_stack(&vm,
			   delay_on(delay_on(slow_base(&vm), VHC_MAX_DELAY_NS), VHC_MAX_DELAY_NS)));
	for (uint32_t i = 0; i < 5; i++)
		send_read(&vm, i, 0);
	slow_allow(&vm.slow, 4);
	CHECK(EVENTUALLY(atomic_load(&vm.slow.asked) == 5));
	CHECK(is_quiet(&vm));
	CHECK_EQ(abort_with(&vm, VHC_ABORT_BY_TAG, 2), 0);
	CHECK(aborted(&vm, 1));
	REQUIRE(came_back(&vm, 2, 12));
	CHECK(responded(&vm, 2, 2, 0, 512));
	CHECK(is_quiet(&vm));
	CHECK_EQ(abort_with(&vm, 0, 0), 0);
	CHECK(all_aborted(&vm, 0, 3));
	CHECK(responded(&vm, 3, 2, 0, 512));
	CHECK(nothing_told(&vm));
	slow_allow(&vm.slow, 1);
	REQUIRE(came_back(&vm, 4, 12));
	CHECK(responded(&vm, 4, 2, 0, 512));
	CHECK(aborted(&vm, 4));
	scsi_vm_destroy(&vm);
}

/* Four levels, a limit at the top and one at the bottom, which all but one wait for. */
static void aborts_what_waits_below(void)
{
	struct vhc_bdev *top, *error;
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	slow_allow(&vm.slow, 100);
	REQUIRE_EQ(limit(&vm.slow.bdev, STOPPED), 0);
	error = error_on(slow_base(&vm));
	top = part_on(delay_on(error, 0), 32);
	REQUIRE_EQ(limit(top, STOPPED), 0);
	REQUIRE(open_stack(&vm, top));
	for (uint32_t i = 0; i < 6; i++)
		send_read(&vm, i, 0);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	CHECK_EQ(abort_with(&vm, 0, 0), 0);
	CHECK(aborted(&vm, 5));
	CHECK(all_aborted(&vm, 1, 6));
	CHECK_EQ(atomic_load(&vm.slow.asked), 1);
	/* Those that passed the upper limit, and are not the first there. */
	CHECK_EQ(limit(top, VHC_QOS_MAX), 0);
	for (uint32_t i = 0; i < 6; i++)
		send_read(&vm, i, 0);
	CHECK(is_quiet(&vm));
	CHECK_EQ(abort_with(&vm, 0, 0), 0);
	CHECK(aborted(&vm, 6));
	CHECK(all_aborted(&vm, 0, 6));
	CHECK_EQ(atomic_load(&vm.slow.asked), 1);
	CHECK_EQ(limit(&vm.slow.bdev, VHC_QOS_MAX), 0);
	send_read(&vm, 0, 0);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	scsi_vm_destroy(&vm);
	/* The slow disk is nobody's to release. */
	vm.slow.bdev.qos->ops->destroy(vm.slow.bdev.qos);
}

/* ---- Letting go ---- */

#define DEPTH 16u

/* Two rings of one reactor on one stack, over a limit: the one that stops has all of its own. */
static void lets_go_of_its_own(void)
{
	struct vhc_bdev *base = null_disk(), *top;
	struct vring_used_elem used;
	struct vm vms[2];
	struct rig rig;

	REQUIRE(base && limit(base, STOPPED) == 0);
	bdev_ref(base);
	top = part_on(delay_on(error_on(base), 0), 32);
	REQUIRE_EQ(limit(top, VHC_QOS_MAX), 0);
	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	for (uint32_t i = 0; i < 2; i++) {
		bdev_ref(top);
		REQUIRE(vm_create(&vms[i], i, 0, top));
		REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vms[i].ring, vms[i].blk, 0), 0);
	}
	vm_offer(&vms[0], 1);
	CHECK_EQ(vm_wait(&vms[0], 1), 1);
	vm_offer(&vms[0], DEPTH);
	vm_offer(&vms[1], DEPTH);
	for (uint32_t i = 0; i < 2; i++)
		CHECK(EVENTUALLY(counter(&vms[i].guest.stats->inflight) == DEPTH));
	CHECK_EQ(stop(&rig, &vms[0], 0), DEPTH + 1);
	CHECK_EQ(vm_wait(&vms[0], DEPTH), DEPTH);
	CHECK(!guest_used(&vms[1].guest, &used));
	CHECK_EQ(stop(&rig, &vms[1], 1), DEPTH);
	CHECK_EQ(vm_wait(&vms[1], DEPTH), DEPTH);
	for (uint32_t i = 0; i < 2; i++)
		vm_destroy(&vms[i]);
	rig_destroy(&rig);
	vhc_bdev_release(top);
	vhc_bdev_release(base);
}

/* ---- Without a ring ---- */

static void cancels_without_a_ring(void)
{
	static uint8_t data[3][512];
	struct vhc_bdev *error;
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
	slow_allow(&vm.slow, 100);
	error = error_on(slow_base(&vm));
	let_hang(error, 3);
	for (uint32_t i = 0; i < 3; i++) {
		const struct vhc_io_config config = {.bdev = (uint64_t)(uintptr_t)error,
						     .addr = (uint64_t)(uintptr_t)data[i],
						     .len = 512,
						     .op = VHC_OP_READ,
						     .id = 20 + i};

		CHECK_EQ(vhc_io_submit(vm.rig.reactor, &config), 0);
	}
	CHECK_EQ(vhc_io_cancel(vm.rig.reactor, 23), -ENOENT);
	for (uint32_t i = 1; i < 4; i++) {
		const struct vhc_upcall *up;

		CHECK_EQ(vhc_io_cancel(vm.rig.reactor, 20 + i % 3), 0);
		up = next_upcall(&vm, VHC_UPCALL_IO_DONE);
		CHECK(up && up->id == 20 + i % 3 && up->status == -ECANCELED);
		CHECK(nothing_told(&vm));
		CHECK_EQ(vhc_bdev_error_hanging(error), 3 - i);
		CHECK_EQ(vhc_io_cancel(vm.rig.reactor, 20 + i % 3), -ENOENT);
	}
	vhc_bdev_release(error);
	scsi_vm_close(&vm);
}

int main(void)
{
	RUN(aborts_what_hangs);
	RUN(aborts_what_is_delayed);
	RUN(aborts_what_waits_below);
	RUN(lets_go_of_its_own);
	RUN(cancels_without_a_ring);
	return check_report();
}
