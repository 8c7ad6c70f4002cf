/* SPDX-License-Identifier: MIT */
/*
 * Aborts at any moment, of requests anywhere in a stack of limits, faults and delays: each
 * request comes back once, and what an abort was about before it is told of.
 */
#include <errno.h>

#include "scsi_vm.h"

#define ROUNDS 2000u

/* xorshift */
static uint64_t state = 88172645463325252u;

static uint32_t chance(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 20) % below;
}

struct world {
	struct scsi_vm vm;
	struct vhc_bdev *error;
	bool sent[SIZE]; /* and not back */
	uint32_t good;
	uint32_t aborted;
};

static void limit(struct vhc_bdev *bdev, uint64_t ios)
{
	const struct vhc_qos_limits limits = {.ios = ios};

	CHECK_EQ(vhc_bdev_set_qos(bdev, &limits), 0);
}

/* From above: a limit, a part, a delay, faults, a part, a limit, the disk. */
static struct vhc_bdev *make_stack(struct world *world)
{
	struct vhc_bdev *base = &world->vm.slow.bdev, *part, *delay, *top;

	limit(base, 20000);
	CHECK_EQ(vhc_bdev_passthru_create(base, 8, BLOCKS - 8, &part), 0);
	CHECK_EQ(vhc_bdev_error_create(part, &world->error), 0);
	CHECK_EQ(vhc_bdev_delay_create(world->error, &delay), 0);
	CHECK_EQ(vhc_bdev_delay_set(delay, VHC_DELAY_AVG_READ, 200000), 0);
	CHECK_EQ(vhc_bdev_delay_set(delay, VHC_DELAY_P99_READ, VHC_MAX_DELAY_NS), 0);
	CHECK_EQ(vhc_bdev_passthru_create(delay, 8, BLOCKS - 16, &top), 0);
	limit(top, 30000);
	vhc_bdev_release(part);
	vhc_bdev_release(delay);
	return top;
}

/* One read of four. */
static void let_hang(struct world *world)
{
	const struct vhc_error_rule rule = {
	    .kind = VHC_ERROR_PENDING, .num = 1u << 30, .chance = 1u << 30};

	CHECK_EQ(vhc_bdev_error_inject(world->error, 1u << VHC_OP_READ, &rule), 0);
}

static bool open_world(struct world *world)
{
	struct vhc_lun_config unit;

	*world = (struct world){0};
	if (!scsi_vm_open(&world->vm, VHC_MODE_ADAPTIVE, 0))
		return false;
	slow_allow(&world->vm.slow, 1u << 30);
	unit = unit_config(make_stack(world));
	let_hang(world);
	vhc_lun_release(world->vm.lun);
	if (vhc_lun_create(&unit, &world->vm.lun))
		return false;
	vhc_bdev_release((struct vhc_bdev *)(uintptr_t)unit.bdev);
	return start_scsi(&world->vm) == 0 && attach(&world->vm, UNIT) == 0;
}

/* Takes what has come back: each was sent, and is there once. */
static void collect(struct world *world)
{
	struct vring_used_elem used;

	while (guest_used(&world->vm.guest, &used)) {
		const uint32_t i = used.id / 4;
		const uint8_t response = guest_response(&world->vm.guest, i)->response;

		REQUIRE(i < SIZE && world->sent[i]);
		world->sent[i] = false;
		CHECK(response == 0 || response == 2);
		world->good += response == 0;
		world->aborted += response == 2;
	}
}

static void abort_some(struct world *world, bool all, uint32_t tag)
{
	const struct vhc_abort config = {.tag = tag,
					 .flags = all ? 0 : VHC_ABORT_BY_TAG,
					 .address = UNIT,
					 .response = 2,
					 .cookie = 7};

	CHECK_EQ(vhc_reactor_abort(world->vm.rig.reactor, world->vm.ring, &config), 0);
	REQUIRE(next_upcall(&world->vm, VHC_UPCALL_ABORTED));
	collect(world);
	for (uint32_t i = 0; i < SIZE; i++)
		CHECK(!world->sent[i] || (!all && i != tag));
}

static void aborts_anywhere(void)
{
	struct world world;

	REQUIRE(open_world(&world));
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < SIZE; i++)
			if (!world.sent[i] && chance(4) == 0) {
				world.sent[i] = true;
				send_read(&world.vm, i, chance(1024));
			}
		if (chance(8) == 0)
			nanosleep(&(struct timespec){.tv_nsec = (long)chance(300000)}, NULL);
		if (chance(16) == 0) {
			CHECK_EQ(vhc_bdev_error_resume(world.error), 0);
			let_hang(&world);
		}
		collect(&world);
		abort_some(&world, chance(16) == 0, chance(SIZE));
	}
	abort_some(&world, true, 0);
	CHECK_EQ(vhc_bdev_error_hanging(world.error), 0);
	CHECK(world.good > ROUNDS / 10 && world.aborted > ROUNDS);
	printf("# %u answered, %u aborted\n", world.good, world.aborted);
	scsi_vm_destroy(&world.vm);
	vhc_bdev_release(world.error);
	/* The slow disk is nobody's to release. */
	world.vm.slow.bdev.qos->ops->destroy(world.vm.slow.bdev.qos);
}

int main(void)
{
	RUN(aborts_anywhere);
	return check_report();
}
