/* SPDX-License-Identifier: MIT */
/*
 * Everything that runs at once, for the thread sanitizer: reactors in each mode,
 * loads, rings that are stopped, moved and given new memory, disks that are
 * taken away, put back and resized, and readers of the statistics, all under
 * I/O whose data is checked.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "driver_ring.h"

#define REACTORS 2u
#define LANES 4u
#define BLOCK 4096u
#define LANE_BLOCKS 64u
#define DISK_BLOCKS (LANES * LANE_BLOCKS)
#define DEPTH 8u
#define RING_SIZE 32u
#define FEATURES                                                                                   \
	(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX | UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)
#define BLK_FEATURES (UINT64_C(1) << 9 | UINT64_C(1) << 11 | FEATURES) /* FLUSH, CONFIG_WCE */
#define GPA UINT64_C(0x40000000)

/*
 * A ring, its driver, and a load on a part of the disk that is its own: two
 * reactors never touch the same block, since the order that the driver gives
 * them is not one that the sanitizer sees.
 */
struct lane {
	struct vhc_pages memory;
	struct vhc_ring *device;
	struct vhc_driver_ring *driver;
	struct vhc_reactor *reactor;
	struct vhc_load *load;
	struct vhc_stats *stats, *ring_stats;
	uint64_t offset; /* on the disk */
	uint32_t id;
	int kick, call;
	uint16_t base;
	bool stopped, done;
	int status;
};

struct world {
	struct vhc_upcalls *upcalls;
	struct vhc_upcalls_info info;
	uint32_t unread, next;
	struct vhc_reactor *reactors[REACTORS];
	const struct vhc_reactor_stats *reactor_stats[REACTORS];
	struct vhc_bdev *bdev;
	struct vhc_blk *blk;
	struct lane lanes[LANES];
	uint32_t num_lanes;
	int file; /* -1: a RAM disk */
	int fds;
};

/* ---- Events ------------------------------------------------------------------- */

static void take_upcall(struct world *world, const struct vhc_upcall *upcall)
{
	for (uint32_t i = 0; i < world->num_lanes; i++) {
		struct lane *lane = &world->lanes[i];
		if (lane->id != upcall->id)
			continue;
		CHECK(upcall->type != VHC_UPCALL_RING_BROKEN);
		if (upcall->type == VHC_UPCALL_RING_STOPPED) {
			lane->stopped = true;
			lane->base = (uint16_t)upcall->arg;
		} else if (upcall->type == VHC_UPCALL_LOAD_DONE) {
			lane->done = true;
			lane->status = upcall->status;
		}
	}
}

static void pump(struct world *world)
{
	const struct vhc_upcall *slots = (const struct vhc_upcall *)world->info.slots;
	char bytes[16];
	world->unread = (uint32_t)vhc_upcalls_advance(world->upcalls, world->unread);
	for (uint32_t i = 0; i < world->unread; i++)
		take_upcall(world, &slots[world->next++ % VHC_UPCALL_SLOTS]);
	if (world->unread == 0 && check_readable(world->info.fd, 1))
		(void)!read(world->info.fd, bytes, sizeof(bytes));
}

/* A wait that takes a minute ends the process with a failure. */
#define AWAIT(world, condition)                                                                    \
	do {                                                                                       \
		alarm(60);                                                                         \
		while (!(condition))                                                               \
			pump(world);                                                               \
		alarm(0);                                                                          \
	} while (0)

static uint64_t counter(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* ---- Rings ---------------------------------------------------------------------- */

static struct vhc_stats *new_stats(void)
{
	uint64_t addr = 0;
	CHECK_EQ(vhc_stats_alloc(&addr), 0);
	return (struct vhc_stats *)addr;
}

/* Makes a ring over a new memory table and gives it to a reactor. */
static void attach(struct world *world, struct lane *lane, uint32_t reactor)
{
	struct vhc_driver_ring_layout layout;
	struct vhc_mem *mem;
	vhc_driver_ring_layout(RING_SIZE, &layout);
	REQUIRE_EQ(vhc_mem_create(&mem), 0);
	CHECK_EQ(
	    vhc_mem_add_region(mem, GPA, lane->memory.size, lane->memory.addr, lane->memory.fd, 0),
	    0);
	const struct vhc_ring_config config = {
	    .mem = (uint64_t)mem,
	    .features = FEATURES,
	    .desc = lane->memory.addr,
	    .avail = lane->memory.addr + layout.avail,
	    .used = lane->memory.addr + layout.used,
	    .stats = (uint64_t)lane->ring_stats,
	    .size = RING_SIZE,
	    .base = lane->base,
	    .kick_fd = lane->kick,
	    .call_fd = lane->call,
	    .err_fd = -1,
	    .id = lane->id,
	};
	CHECK_EQ(vhc_ring_create(&config, &lane->device), 0);
	vhc_mem_release(mem);
	lane->reactor = world->reactors[reactor % REACTORS];
	CHECK_EQ(vhc_reactor_start_ring(lane->reactor, lane->device, world->blk, 0), 0);
	CHECK_EQ(vhc_reactor_start_ring(lane->reactor, lane->device, world->blk, 0), -EBUSY);
}

static void detach(struct world *world, struct lane *lane)
{
	lane->stopped = false;
	CHECK_EQ(vhc_reactor_stop_ring(lane->reactor, lane->device), 0);
	AWAIT(world, lane->stopped);
	vhc_ring_release(lane->device);
}

static void attach_all(struct world *world)
{
	for (uint32_t i = 0; i < world->num_lanes; i++)
		attach(world, &world->lanes[i], i);
}

static void detach_all(struct world *world)
{
	for (uint32_t i = 0; i < world->num_lanes; i++)
		detach(world, &world->lanes[i]);
}

static void lane_up(struct lane *lane, uint32_t i)
{
	struct vhc_driver_ring_layout layout;
	vhc_driver_ring_layout(RING_SIZE, &layout);
	*lane = (struct lane){
	    .id = i + 1,
	    .offset = (uint64_t)i * LANE_BLOCKS * BLOCK,
	    .kick = vhc_eventfd(),
	    .call = vhc_eventfd(),
	    .stats = new_stats(),
	    .ring_stats = new_stats(),
	};
	uint64_t bytes = layout.bytes + (uint64_t)vhc_load_buffer_bytes(BLOCK, DEPTH, 1);
	REQUIRE_EQ(vhc_pages_alloc(bytes, 4096, -1, -1, VHC_PAGES_SHARED, &lane->memory), 0);
	const struct vhc_driver_ring_config config = {
	    .addr = lane->memory.addr,
	    .features = FEATURES,
	    .gpa_delta = GPA - lane->memory.addr,
	    .size = RING_SIZE,
	    .kick_fd = lane->kick,
	    .call_fd = lane->call,
	};
	CHECK_EQ(vhc_driver_ring_create(&config, &lane->driver), 0);
}

static void lane_down(struct lane *lane)
{
	vhc_driver_ring_release(lane->driver);
	vhc_stats_free((uint64_t)lane->stats);
	vhc_stats_free((uint64_t)lane->ring_stats);
	vhc_pages_free(&lane->memory);
	close(lane->kick);
	close(lane->call);
}

/* ---- Loads ------------------------------------------------------------------------- */

static void start_load(struct world *world, struct lane *lane, uint32_t mode, uint64_t ios,
		       bool verify)
{
	struct vhc_driver_ring_layout layout;
	vhc_driver_ring_layout(RING_SIZE, &layout);
	const struct vhc_load_config config = {
	    .stats = (uint64_t)lane->stats,
	    .buffers = lane->memory.addr + layout.bytes,
	    .buffers_len = lane->memory.size - layout.bytes,
	    .gpa_delta = GPA - lane->memory.addr,
	    .offset = lane->offset,
	    .size = LANE_BLOCKS * BLOCK,
	    .ios = ios,
	    .runtime_ns = ios ? 0 : UINT64_C(600000000000),
	    .seed = lane->id,
	    .rw = VHC_LOAD_RANDRW,
	    .block_size = BLOCK,
	    .iodepth = DEPTH,
	    .rwmix_read = 50,
	    .verify = verify,
	    .mode = mode,
	    .cpu = -1,
	    .id = lane->id,
	};
	const uint64_t ring = (uint64_t)lane->driver;
	lane->done = false;
	REQUIRE_EQ(vhc_load_create(world->upcalls, &config, &ring, 1, &lane->load), 0);
	CHECK_EQ(vhc_load_start(lane->load), 0);
}

static void start_loads(struct world *world, uint32_t mode, uint64_t ios, bool verify)
{
	for (uint32_t i = 0; i < world->num_lanes; i++)
		start_load(world, &world->lanes[i], (mode + i) % 2 + 1, ios, verify);
}

static uint64_t requests(const struct lane *lane)
{
	return counter(&lane->stats->op[VHC_OP_READ].count) +
	       counter(&lane->stats->op[VHC_OP_WRITE].count);
}

static uint64_t failures(const struct lane *lane)
{
	return counter(&lane->stats->op[VHC_OP_READ].errors) +
	       counter(&lane->stats->op[VHC_OP_WRITE].errors);
}

static void await_requests(struct world *world, uint64_t more)
{
	for (uint32_t i = 0; i < world->num_lanes; i++) {
		uint64_t goal = requests(&world->lanes[i]) + more;
		AWAIT(world, requests(&world->lanes[i]) >= goal);
	}
}

static void end_load(struct world *world, struct lane *lane)
{
	struct vhc_load_result result;
	AWAIT(world, lane->done);
	CHECK_EQ(lane->status, 0);
	CHECK_EQ(vhc_load_result(lane->load, &result), 0);
	CHECK_EQ(result.verify_errors, 0);
	CHECK(requests(lane) > 0);
	vhc_load_release(lane->load);
}

static void stop_loads(struct world *world)
{
	for (uint32_t i = 0; i < world->num_lanes; i++)
		vhc_load_stop(world->lanes[i].load);
	for (uint32_t i = 0; i < world->num_lanes; i++)
		end_load(world, &world->lanes[i]);
}

/* ---- The world ----------------------------------------------------------------------- */

static struct vhc_blk *new_blk(const struct world *world)
{
	const struct vhc_blk_config config = {.bdev = (uint64_t)world->bdev,
					      .features = BLK_FEATURES};
	struct vhc_blk *blk = NULL;
	CHECK_EQ(vhc_blk_create(&config, &blk), 0);
	return blk;
}

static void disk_up(struct world *world)
{
	struct vhc_pages pages;
	const uint64_t bytes = DISK_BLOCKS * BLOCK;
	if (world->file < 0) {
		REQUIRE_EQ(vhc_pages_alloc(bytes, 4096, -1, -1, 0, &pages), 0);
		CHECK_EQ(vhc_bdev_malloc_create(&pages, 512, bytes / 512, &world->bdev), 0);
	} else {
		const struct vhc_file_config config = {.fd = world->file,
						       .direct_fd = -1,
						       .block_size = 512,
						       .num_blocks = bytes / 512};
		REQUIRE_EQ(ftruncate(world->file, (off_t)bytes), 0);
		CHECK_EQ(vhc_bdev_file_create(&config, &world->bdev), 0);
	}
	world->blk = new_blk(world);
}

static void world_up(struct world *world, const uint32_t modes[REACTORS], uint32_t num_lanes,
		     bool file)
{
	*world = (struct world){.fds = check_open_fds(), .num_lanes = num_lanes, .file = -1};
	if (file)
		world->file = memfd_create("threads", MFD_CLOEXEC);
	REQUIRE_EQ(vhc_upcalls_create(&world->upcalls, &world->info), 0);
	for (uint32_t i = 0; i < REACTORS; i++) {
		const struct vhc_reactor_config config = {.cpu = -1, .mode = modes[i]};
		uint64_t stats = 0;
		CHECK_EQ(vhc_reactor_create(world->upcalls, &config, &world->reactors[i], &stats),
			 0);
		world->reactor_stats[i] = (const struct vhc_reactor_stats *)stats;
	}
	disk_up(world);
	for (uint32_t i = 0; i < num_lanes; i++)
		lane_up(&world->lanes[i], i);
}

static void world_down(struct world *world)
{
	for (uint32_t i = 0; i < REACTORS; i++)
		CHECK_EQ(vhc_reactor_release(world->reactors[i]), 0);
	for (uint32_t i = 0; i < world->num_lanes; i++)
		lane_down(&world->lanes[i]);
	vhc_blk_release(world->blk);
	vhc_bdev_release(world->bdev);
	vhc_upcalls_release(world->upcalls);
	close(world->info.fd);
	if (world->file >= 0)
		close(world->file);
	CHECK_EQ(check_open_fds(), world->fds);
}

static const uint32_t adaptive[REACTORS] = {VHC_MODE_ADAPTIVE, VHC_MODE_ADAPTIVE};
static const uint32_t mixed[REACTORS] = {VHC_MODE_ADAPTIVE, VHC_MODE_INTERRUPT};

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
	vhc_driver_ring_layout(RING_SIZE, &layout);
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
	return check_report();
}
