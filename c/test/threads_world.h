/* SPDX-License-Identifier: MIT */
/* Reactors, rings and loads on them, for threads_test.c. */
#ifndef VHC_THREADS_WORLD_H
#define VHC_THREADS_WORLD_H

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
#define ADDRESS VHC_LUN_ADDRESS(7, 9)

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
	struct vhc_mem *mem; /* of which its rings are made; NULL: a new one for each */
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
	/* Of a virtio-scsi device; NULL: of a virtio-blk one. */
	struct vhc_lun *lun;
	struct scsi_events *scsi;
};

static inline void scsi_take(struct world *world, struct lane *lane,
			     const struct vhc_upcall *upcall);

/* ---- Events ------------------------------------------------------------------- */

static inline void take_upcall(struct world *world, const struct vhc_upcall *upcall)
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
		} else if (world->scsi) {
			scsi_take(world, lane, upcall);
		}
	}
}

static inline void pump(struct world *world)
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

static inline uint64_t counter(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* ---- Rings ---------------------------------------------------------------------- */

static inline struct vhc_stats *new_stats(void)
{
	uint64_t addr = 0;
	CHECK_EQ(vhc_stats_alloc(&addr), 0);
	return (struct vhc_stats *)addr;
}

static inline int serve(const struct world *world, struct lane *lane)
{
	static const struct vhc_scsi_config sizes = {.cdb_size = 32, .sense_size = 96};
	if (world->lun)
		return vhc_reactor_start_scsi_ring(lane->reactor, lane->device, &sizes);
	return vhc_reactor_start_blk_ring(lane->reactor, lane->device, world->blk, 0);
}

static inline struct vhc_mem *new_table(const struct lane *lane)
{
	struct vhc_mem *mem = NULL;
	CHECK_EQ(vhc_mem_create(&mem), 0);
	CHECK_EQ(
	    vhc_mem_add_region(mem, GPA, lane->memory.size, lane->memory.addr, lane->memory.fd, 0),
	    0);
	return mem;
}

/* Makes a ring over a new memory table, or the lane's, and gives it to a reactor. */
static inline void attach(struct world *world, struct lane *lane, uint32_t reactor)
{
	struct vhc_driver_ring_layout layout;
	struct vhc_mem *mem = lane->mem ? lane->mem : new_table(lane);
	vhc_driver_ring_layout(RING_SIZE, 0, &layout);
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
	if (!lane->mem)
		vhc_mem_release(mem);
	lane->reactor = world->reactors[reactor % REACTORS];
	CHECK_EQ(serve(world, lane), 0);
	CHECK_EQ(serve(world, lane), -EBUSY);
	if (world->lun)
		CHECK_EQ(
		    vhc_reactor_attach_lun(lane->reactor, lane->device, ADDRESS, world->lun, 0), 0);
}

static inline void detach(struct world *world, struct lane *lane)
{
	lane->stopped = false;
	CHECK_EQ(vhc_reactor_stop_ring(lane->reactor, lane->device), 0);
	AWAIT(world, lane->stopped);
	vhc_ring_release(lane->device);
}

static inline void attach_all(struct world *world)
{
	for (uint32_t i = 0; i < world->num_lanes; i++)
		attach(world, &world->lanes[i], i);
}

static inline void detach_all(struct world *world)
{
	for (uint32_t i = 0; i < world->num_lanes; i++)
		detach(world, &world->lanes[i]);
}

static inline void lane_up(struct lane *lane, uint32_t i)
{
	struct vhc_driver_ring_layout layout;
	vhc_driver_ring_layout(RING_SIZE, 0, &layout);
	*lane = (struct lane){
	    .id = i + 1,
	    .offset = (uint64_t)i * LANE_BLOCKS * BLOCK,
	    .kick = vhc_eventfd(),
	    .call = vhc_eventfd(),
	    .stats = new_stats(),
	    .ring_stats = new_stats(),
	};
	uint64_t bytes =
	    layout.bytes + (uint64_t)vhc_load_buffer_bytes(VHC_LOAD_SCSI, BLOCK, DEPTH, 1);
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

static inline void lane_down(struct lane *lane)
{
	vhc_driver_ring_release(lane->driver);
	vhc_stats_free((uint64_t)lane->stats);
	vhc_stats_free((uint64_t)lane->ring_stats);
	vhc_pages_free(&lane->memory);
	close(lane->kick);
	close(lane->call);
}

/* ---- Loads ------------------------------------------------------------------------- */

static inline void start_load(struct world *world, struct lane *lane, uint32_t mode, uint64_t ios,
			      bool verify)
{
	struct vhc_driver_ring_layout layout;
	vhc_driver_ring_layout(RING_SIZE, 0, &layout);
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
	    .device = world->lun ? VHC_LOAD_SCSI : VHC_LOAD_BLK,
	    .address = ADDRESS,
	    .lba_size = 512,
	};
	const uint64_t ring = (uint64_t)lane->driver;
	lane->done = false;
	REQUIRE_EQ(vhc_load_create(world->upcalls, &config, &ring, 1, &lane->load), 0);
	CHECK_EQ(vhc_load_start(lane->load), 0);
}

static inline void start_loads(struct world *world, uint32_t mode, uint64_t ios, bool verify)
{
	for (uint32_t i = 0; i < world->num_lanes; i++)
		start_load(world, &world->lanes[i], (mode + i) % 2 + 1, ios, verify);
}

static inline uint64_t requests(const struct lane *lane)
{
	return counter(&lane->stats->op[VHC_OP_READ].count) +
	       counter(&lane->stats->op[VHC_OP_WRITE].count);
}

static inline uint64_t failures(const struct lane *lane)
{
	return counter(&lane->stats->op[VHC_OP_READ].errors) +
	       counter(&lane->stats->op[VHC_OP_WRITE].errors);
}

static inline void await_requests(struct world *world, uint64_t more)
{
	for (uint32_t i = 0; i < world->num_lanes; i++) {
		uint64_t goal = requests(&world->lanes[i]) + more;
		AWAIT(world, requests(&world->lanes[i]) >= goal);
	}
}

static inline void end_load(struct world *world, struct lane *lane)
{
	struct vhc_load_result result;
	AWAIT(world, lane->done);
	CHECK_EQ(lane->status, 0);
	CHECK_EQ(vhc_load_result(lane->load, &result), 0);
	CHECK_EQ(result.verify_errors, 0);
	CHECK(requests(lane) > 0);
	vhc_load_release(lane->load);
}

static inline void stop_loads(struct world *world)
{
	for (uint32_t i = 0; i < world->num_lanes; i++)
		vhc_load_stop(world->lanes[i].load);
	for (uint32_t i = 0; i < world->num_lanes; i++)
		end_load(world, &world->lanes[i]);
}

/* ---- The world ----------------------------------------------------------------------- */

static inline struct vhc_blk *new_blk(const struct world *world)
{
	const struct vhc_blk_config config = {.bdev = (uint64_t)world->bdev,
					      .features = BLK_FEATURES};
	struct vhc_blk *blk = NULL;
	CHECK_EQ(vhc_blk_create(&config, &blk), 0);
	return blk;
}

static inline void disk_up(struct world *world)
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

static inline void world_up(struct world *world, const uint32_t modes[REACTORS], uint32_t num_lanes,
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

static inline void world_down(struct world *world)
{
	for (uint32_t i = 0; i < REACTORS; i++)
		CHECK_EQ(vhc_reactor_release(world->reactors[i]), 0);
	for (uint32_t i = 0; i < world->num_lanes; i++)
		lane_down(&world->lanes[i]);
	vhc_blk_release(world->blk);
	if (world->lun)
		vhc_lun_release(world->lun);
	vhc_bdev_release(world->bdev);
	vhc_upcalls_release(world->upcalls);
	close(world->info.fd);
	if (world->file >= 0)
		close(world->file);
	CHECK_EQ(check_open_fds(), world->fds);
}

static const uint32_t adaptive[REACTORS] = {VHC_MODE_ADAPTIVE, VHC_MODE_ADAPTIVE};
static const uint32_t mixed[REACTORS] = {VHC_MODE_ADAPTIVE, VHC_MODE_INTERRUPT};

#endif
