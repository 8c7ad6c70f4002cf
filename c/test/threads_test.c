/* SPDX-License-Identifier: MIT */
/*
 * Everything that runs at once, for the thread sanitizer: reactors in each mode,
 * loads, rings that are stopped, moved and given new memory, disks that are
 * taken away, put back and resized, readers of the statistics, and what goes up
 * and comes back on SCSI rings, all under I/O whose data is checked.
 */
#include "threads_memory.h"
#include "threads_scsi.h"

/* ---- What happens at once ---------------------------------------------------------------- */

static void every_mode(void)
{
	for (uint32_t i = 0; i < 6; i++) {
		const uint32_t modes[REACTORS] = {i % 3, (i + i / 3) % 3};
		struct world world;
		world_up(&world, modes, 2, false);
		attach_all(&world);
		start_loads(&world, i, 2000, true);
		for (uint32_t n = 0; n < 2; n++)
			end_load(&world, &world.lanes[n]);
		detach_all(&world);
		world_down(&world);
	}
}

static void rings_share_a_reactor(void)
{
	struct world world;
	world_up(&world, adaptive, LANES, false);
	for (uint32_t i = 0; i < LANES; i++)
		attach(&world, &world.lanes[i], 0);
	CHECK_EQ(vhc_reactor_release(world.reactors[0]), -EBUSY);
	start_loads(&world, 0, 1000, true);
	for (uint32_t i = 0; i < LANES; i++)
		end_load(&world, &world.lanes[i]);
	detach_all(&world);
	world_down(&world);
}

struct reader {
	const struct world *world;
	atomic_bool stop;
	uint64_t total;
};

/* What the control plane does all the time: reads pages that others write. */
static void *read_stats(void *arg)
{
	struct reader *reader = arg;
	while (!atomic_load(&reader->stop)) {
		for (uint32_t i = 0; i < reader->world->num_lanes; i++) {
			struct vhc_load_result result;
			const struct lane *lane = &reader->world->lanes[i];
			vhc_load_result(lane->load, &result);
			reader->total += requests(lane) + result.verified +
					 counter(&lane->ring_stats->batches) +
					 counter(&lane->ring_stats->inflight) +
					 counter(&lane->ring_stats->op[VHC_OP_READ].hist[200]);
		}
		for (uint32_t i = 0; i < REACTORS; i++)
			reader->total += counter(&reader->world->reactor_stats[i]->busy_ns) +
					 counter(&reader->world->reactor_stats[i]->rings);
		sched_yield();
	}
	return NULL;
}

/* Each ring goes from reactor to reactor, with a new memory table each time. */
static void move_rings(bool file)
{
	struct world world;
	struct reader reader = {.world = &world};
	pthread_t thread;
	world_up(&world, mixed, 2, file);
	attach_all(&world);
	start_loads(&world, 1, 0, true);
	REQUIRE_EQ(pthread_create(&thread, NULL, read_stats, &reader), 0);
	for (uint32_t i = 0; i < 30; i++) {
		struct lane *lane = &world.lanes[i % 2];
		detach(&world, lane);
		vhc_blk_set_writeback(world.blk, i & 4);
		attach(&world, lane, i / 2);
		await_requests(&world, 20);
	}
	atomic_store(&reader.stop, true);
	pthread_join(thread, NULL);
	stop_loads(&world);
	for (uint32_t i = 0; i < 2; i++)
		CHECK_EQ(failures(&world.lanes[i]), 0);
	CHECK(reader.total > 0);
	detach_all(&world);
	world_down(&world);
}

static void rings_move_under_load(void)
{
	move_rings(false);
}

static void rings_of_a_file_move_under_load(void)
{
	move_rings(true);
}

/* Gives the rings another disk, or none, as a hot removal does. */
static void swap_disk(struct world *world, struct vhc_bdev *bdev)
{
	struct vhc_bdev *kept = world->bdev;
	detach_all(world);
	vhc_blk_release(world->blk);
	world->bdev = bdev;
	world->blk = new_blk(world);
	world->bdev = kept;
	attach_all(world);
}

static void disk_goes_and_comes_back(bool file)
{
	struct world world;
	world_up(&world, adaptive, 2, file);
	attach_all(&world);
	start_loads(&world, 0, 0, false);
	for (int round = 0; round < 3; round++) {
		await_requests(&world, 50);
		swap_disk(&world, NULL);
		for (uint32_t i = 0; i < 2; i++) {
			uint64_t before = failures(&world.lanes[i]);
			AWAIT(&world, failures(&world.lanes[i]) >= before + 20);
		}
		swap_disk(&world, world.bdev);
		for (uint32_t i = 0; i < 2; i++) {
			const struct lane *lane = &world.lanes[i];
			uint64_t good = requests(lane) - failures(lane);
			AWAIT(&world, requests(lane) - failures(lane) >= good + 50);
		}
	}
	stop_loads(&world);
	detach_all(&world);
	world_down(&world);
}

static void disk_is_removed_under_load(void)
{
	disk_goes_and_comes_back(false);
	disk_goes_and_comes_back(true);
}

static void disk_is_resized_under_load(void)
{
	struct world world;
	const uint64_t blocks = DISK_BLOCKS * BLOCK / 512;
	world_up(&world, adaptive, 2, false);
	attach_all(&world);
	start_loads(&world, 1, 0, false);
	for (int round = 0; round < 5; round++) {
		/* To shrink, the rings are stopped; growing goes on under them. */
		detach_all(&world);
		CHECK_EQ(vhc_bdev_resize(world.bdev, 8), 0);
		attach_all(&world);
		uint64_t before = failures(&world.lanes[1]);
		AWAIT(&world, failures(&world.lanes[1]) > before);
		CHECK_EQ(vhc_bdev_resize(world.bdev, blocks), 0);
		CHECK_EQ(vhc_bdev_resize(world.bdev, blocks + 1), -ENOSPC);
		await_requests(&world, 50);
	}
	stop_loads(&world);
	detach_all(&world);
	world_down(&world);
}

/* Chains that the driver has offered so far, as an available index. */
static uint16_t offered(const struct lane *lane)
{
	struct vhc_driver_ring_layout layout;
	vhc_driver_ring_layout(RING_SIZE, 0, &layout);
	const struct vring_avail *avail = (const void *)(lane->memory.addr + layout.avail);
	return __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
}

/* A device that goes away leaves the load waiting: a stop ends it all the same. */
static void device_goes_away(void)
{
	struct world world;
	world_up(&world, adaptive, 2, false);
	attach_all(&world);
	start_loads(&world, 0, 0, false);
	await_requests(&world, 20);
	detach_all(&world);
	/* It waits for nothing before it has offered something that nobody takes. */
	for (uint32_t i = 0; i < 2; i++)
		AWAIT(&world, offered(&world.lanes[i]) != world.lanes[i].base);
	for (uint32_t i = 0; i < 2; i++)
		vhc_load_stop(world.lanes[i].load);
	for (uint32_t i = 0; i < 2; i++) {
		AWAIT(&world, world.lanes[i].done);
		CHECK_EQ(world.lanes[i].status, -ETIMEDOUT);
		vhc_load_release(world.lanes[i].load);
	}
	world_down(&world);
}

/* Reactors come and go while others work. */
static void reactors_come_and_go(void)
{
	struct world world;
	world_up(&world, adaptive, 1, false);
	attach_all(&world);
	start_loads(&world, 1, 0, true);
	for (uint32_t i = 0; i < 30; i++) {
		const struct vhc_reactor_config config = {.cpu = -1, .mode = i % 3};
		struct vhc_reactor *reactor;
		uint64_t stats;
		REQUIRE_EQ(vhc_reactor_create(world.upcalls, &config, &reactor, &stats), 0);
		struct vhc_reactor *kept = world.reactors[1];
		world.reactors[1] = reactor;
		detach(&world, &world.lanes[0]);
		attach(&world, &world.lanes[0], 1);
		await_requests(&world, 10);
		detach(&world, &world.lanes[0]);
		world.reactors[1] = kept;
		attach(&world, &world.lanes[0], 0);
		CHECK_EQ(vhc_reactor_release(reactor), 0);
	}
	stop_loads(&world);
	detach_all(&world);
	world_down(&world);
}

int main(void)
{
	RUN(every_mode);
	RUN(rings_share_a_reactor);
	RUN(rings_move_under_load);
	RUN(rings_of_a_file_move_under_load);
	RUN(disk_is_removed_under_load);
	RUN(disk_is_resized_under_load);
	RUN(device_goes_away);
	RUN(reactors_come_and_go);
	run_memory();
	run_scsi();
	return check_report();
}
