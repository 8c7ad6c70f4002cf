/* SPDX-License-Identifier: MIT */
/*
 * Limits on the way of real requests: rings on reactors, in real time. What must not be
 * exceeded is measured; how fast it goes on a busy machine is not.
 */
#include <errno.h>

#include "scsi_vm.h"
#include "tick.h"

#define DEPTH 16u

static int limit(struct vhc_bdev *bdev, uint64_t ios)
{
	const struct vhc_qos_limits limits = {.ios = ios};

	return vhc_bdev_set_qos(bdev, &limits);
}

/* A ring on a null disk with a limit; the disk stays for who limits it. */
struct world {
	struct rig rig;
	struct vm vm;
	struct vhc_bdev *bdev;
};

static bool open_world(struct world *world, uint32_t mode, uint64_t ios)
{
	world->bdev = null_disk();
	if (!world->bdev || limit(world->bdev, ios) || !rig_create(&world->rig, mode))
		return false;
	bdev_ref(world->bdev);
	return vm_create(&world->vm, 1, 0, world->bdev) &&
	       vhc_reactor_start_blk_ring(world->rig.reactor, world->vm.ring, world->vm.blk, 0) ==
		   0;
}

static void close_world(struct world *world)
{
	CHECK(stop(&world->rig, &world->vm, 1) >= 0);
	vm_destroy(&world->vm);
	rig_destroy(&world->rig);
	vhc_bdev_release(world->bdev);
}

static bool one_comes_back(struct vm *vm)
{
	struct vring_used_elem used;

	return guest_used(&vm->guest, &used) && used.len == 4097;
}

/* ---- One ring ---- */

static void keeps_to_the_limit(void)
{
	static const uint32_t modes[] = {VHC_MODE_POLL, VHC_MODE_ADAPTIVE, VHC_MODE_INTERRUPT};

	for (uint32_t i = 0; i < 3; i++) {
		struct world world;
		uint64_t start, ms;

		REQUIRE(open_world(&world, modes[i], 200));
		start = now_ms();
		for (uint32_t n = 0; n < 3; n++) {
			vm_offer(&world.vm, DEPTH);
			CHECK_EQ(vm_wait(&world.vm, DEPTH), DEPTH);
		}
		ms = now_ms() - start;
		/* 48 of them: one at once, one for the 10 ms that may be caught up. */
		CHECK(ms >= 5 * (3 * DEPTH - 1 - 2) - 1);
		close_world(&world);
	}
}

/* Asleep, it wakes for each request and no more. */
static void waits_without_turning(void)
{
	struct world world;
	uint64_t loops;

	REQUIRE(open_world(&world, VHC_MODE_INTERRUPT, 50));
	loops = counter(&world.rig.stats->loops);
	vm_offer(&world.vm, DEPTH);
	CHECK_EQ(vm_wait(&world.vm, DEPTH), DEPTH);
	CHECK(counter(&world.rig.stats->loops) - loops < 20 * DEPTH);
	close_world(&world);
}

static void counts_what_it_should(void)
{
	const struct vhc_qos_limits limits = {.write_bytes = 4096};
	struct world world;

	REQUIRE(open_world(&world, VHC_MODE_ADAPTIVE, 0));
	REQUIRE_EQ(stop(&world.rig, &world.vm, 1), 0);
	CHECK_EQ(vhc_bdev_set_qos(world.bdev, &limits), 0);
	REQUIRE_EQ(vhc_reactor_start_blk_ring(world.rig.reactor, world.vm.ring, world.vm.blk, 0),
		   0);
	/* One write goes, the next waits for a second; reads and flushes pass it. */
	for (uint32_t i = 0; i < 2; i++)
		guest_offer(&world.vm.guest,
			    guest_request(&world.vm.guest, i, false, VIRTIO_BLK_T_OUT, 8, 4096));
	guest_offer(&world.vm.guest,
		    guest_request(&world.vm.guest, 2, false, VIRTIO_BLK_T_FLUSH, 0, 0));
	for (uint32_t i = 3; i < 19; i++)
		guest_offer(&world.vm.guest,
			    guest_request(&world.vm.guest, i, false, VIRTIO_BLK_T_IN, 8, 4096));
	guest_publish(&world.vm.guest);
	vm_kick(&world.vm);
	CHECK_EQ(vm_wait(&world.vm, 16), 16);
	CHECK_EQ(*guest_status(&world.vm.guest, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(*guest_status(&world.vm.guest, 2), VIRTIO_BLK_S_OK);
	CHECK(*guest_status(&world.vm.guest, 1) != VIRTIO_BLK_S_OK);
	CHECK(EVENTUALLY(*(volatile uint8_t *)guest_status(&world.vm.guest, 1) == VIRTIO_BLK_S_OK));
	close_world(&world);
}

static void refuses_what_is_too_much(void)
{
	struct vhc_bdev *bdev = null_disk();

	REQUIRE(bdev);
	CHECK_EQ(limit(bdev, VHC_QOS_MAX + 1), -ERANGE);
	CHECK_EQ(limit(bdev, VHC_QOS_MAX), 0);
	CHECK_EQ(limit(bdev, 0), 0);
	vhc_bdev_release(bdev);
}

/* ---- Changes while requests wait ---- */

static void another_limit_is_for_what_waits(void)
{
	struct world world;

	REQUIRE(open_world(&world, VHC_MODE_INTERRUPT, 1));
	vm_offer(&world.vm, DEPTH);
	CHECK(EVENTUALLY(one_comes_back(&world.vm)));
	CHECK_EQ(limit(world.bdev, 100000), 0);
	CHECK_EQ(vm_wait(&world.vm, DEPTH - 1), DEPTH - 1);
	CHECK_EQ(limit(world.bdev, 1), 0);
	vm_offer(&world.vm, DEPTH);
	CHECK(EVENTUALLY(one_comes_back(&world.vm)));
	CHECK_EQ(limit(world.bdev, 0), 0);
	CHECK_EQ(vm_wait(&world.vm, DEPTH - 1), DEPTH - 1);
	close_world(&world);
}

/* A bdev is reached directly until its rings start again. */
static void the_first_limit_takes_a_start(void)
{
	struct world world;
	uint64_t start;

	REQUIRE(open_world(&world, VHC_MODE_ADAPTIVE, 0));
	CHECK_EQ(limit(world.bdev, 1), 0);
	vm_offer(&world.vm, DEPTH);
	CHECK_EQ(vm_wait(&world.vm, DEPTH), DEPTH);
	REQUIRE_EQ(stop(&world.rig, &world.vm, 1), DEPTH);
	CHECK_EQ(limit(world.bdev, 20), 0);
	REQUIRE_EQ(vhc_reactor_start_blk_ring(world.rig.reactor, world.vm.ring, world.vm.blk, 0),
		   0);
	start = now_ms();
	vm_offer(&world.vm, 4);
	CHECK_EQ(vm_wait(&world.vm, 4), 4);
	CHECK(now_ms() - start >= 139);
	close_world(&world);
}

static void stopping_waits_for_no_limit(void)
{
	struct world world;
	uint64_t start;

	REQUIRE(open_world(&world, VHC_MODE_ADAPTIVE, 1));
	vm_offer(&world.vm, DEPTH);
	CHECK(EVENTUALLY(one_comes_back(&world.vm)));
	start = now_ms();
	CHECK_EQ(stop(&world.rig, &world.vm, 1), DEPTH);
	CHECK(now_ms() - start < (DEPTH - 2) * 1000);
	CHECK_EQ(vm_wait(&world.vm, DEPTH - 1), DEPTH - 1);
	/* They count: the next ones wait, but for no more than a second. */
	REQUIRE_EQ(vhc_reactor_start_blk_ring(world.rig.reactor, world.vm.ring, world.vm.blk, 0),
		   0);
	CHECK_EQ(limit(world.bdev, 16), 0);
	start = now_ms();
	vm_offer(&world.vm, 2);
	CHECK_EQ(vm_wait(&world.vm, 2), 2);
	CHECK(now_ms() - start >= 49);
	close_world(&world);
}

/* ---- Logical units ---- */

static int abort_all(struct scsi_vm *vm)
{
	const struct vhc_abort config = {.address = UNIT, .response = 2, .cookie = 7};

	return vhc_reactor_abort(vm->rig.reactor, vm->ring, &config);
}

static void aborts_what_waits(void)
{
	const struct vhc_upcall *up;
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_INTERRUPT, 0));
	REQUIRE_EQ(limit(&vm.slow.bdev, 1), 0);
	REQUIRE_EQ(start_scsi(&vm), 0);
	slow_allow(&vm.slow, 100);
	REQUIRE_EQ(attach(&vm, UNIT), 0);
	for (uint32_t i = 0; i < 6; i++)
		send_read(&vm, i, 0);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	CHECK_EQ(abort_all(&vm), 0);
	up = next_upcall(&vm, VHC_UPCALL_ABORTED);
	CHECK(up && up->status == 5);
	for (uint32_t i = 1; i < 6; i++) {
		struct vring_used_elem used;

		REQUIRE(wait_used(&vm, &used));
	}
	for (uint32_t i = 1; i < 6; i++)
		CHECK(responded(&vm, i, 2, 0, 512));
	CHECK_EQ(atomic_load(&vm.slow.asked), 1);
	/* What comes after goes on as if nothing had been. */
	CHECK_EQ(limit(&vm.slow.bdev, 1000), 0);
	send_read(&vm, 0, 0);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	scsi_vm_destroy(&vm);
	/* The slow disk is nobody's to release. */
	vm.slow.bdev.qos->ops->destroy(vm.slow.bdev.qos);
}

/* ---- Several reactors ---- */

struct load {
	struct rig rig;
	struct vm vm;
	struct vhc_bdev *bdev;
	pthread_t thread;
	uint32_t depth;
	atomic_uint done;
	atomic_bool *enough;
};

static void *make_load(void *argument)
{
	struct load *load = argument;

	while (!atomic_load(load->enough)) {
		vm_offer(&load->vm, load->depth);
		if (vm_wait(&load->vm, load->depth) != load->depth)
			break;
		atomic_fetch_add(&load->done, load->depth);
	}
	return NULL;
}

static bool start_load(struct load *load, uint32_t mode, uint32_t depth)
{
	load->depth = depth;
	if (!rig_create(&load->rig, mode))
		return false;
	bdev_ref(load->bdev);
	return vm_create(&load->vm, 1, 0, load->bdev) &&
	       vhc_reactor_start_blk_ring(load->rig.reactor, load->vm.ring, load->vm.blk, 0) == 0 &&
	       pthread_create(&load->thread, NULL, make_load, load) == 0;
}

static uint32_t end_load(struct load *load)
{
	pthread_join(load->thread, NULL);
	CHECK(stop(&load->rig, &load->vm, 1) >= 0);
	vm_destroy(&load->vm);
	rig_destroy(&load->rig);
	return atomic_load(&load->done);
}

/* Three reactors, a limit for them together that changes all the time, below 2000. */
static void reactors_share_a_limit(void)
{
	static const uint32_t modes[] = {VHC_MODE_POLL, VHC_MODE_ADAPTIVE, VHC_MODE_INTERRUPT};
	static struct load loads[3];
	struct vhc_bdev *bdev = null_disk();
	atomic_bool enough = false;
	uint32_t total = 0;
	uint64_t start, ms;

	REQUIRE(bdev);
	REQUIRE_EQ(limit(bdev, 2000), 0);
	start = now_ms();
	for (uint32_t i = 0; i < 3; i++) {
		loads[i].bdev = bdev;
		loads[i].enough = &enough;
		REQUIRE(start_load(&loads[i], modes[i], 4));
	}
	for (uint32_t i = 0; i < 50; i++) {
		CHECK_EQ(limit(bdev, i % 2 ? 2000 : 1500), 0);
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	atomic_store(&enough, true);
	for (uint32_t i = 0; i < 3; i++)
		total += end_load(&loads[i]);
	ms = now_ms() - start;
	CHECK(total <= 2 * (ms + 11) + 1);
	for (uint32_t i = 0; i < 3; i++)
		CHECK(loads[i].done > 4);
	vhc_bdev_release(bdev);
}

int main(void)
{
	RUN(keeps_to_the_limit);
	RUN(waits_without_turning);
	RUN(counts_what_it_should);
	RUN(refuses_what_is_too_much);
	RUN(another_limit_is_for_what_waits);
	RUN(the_first_limit_takes_a_start);
	RUN(stopping_waits_for_no_limit);
	RUN(aborts_what_waits);
	RUN(reactors_share_a_limit);
	return check_report();
}
