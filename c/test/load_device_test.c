/* SPDX-License-Identifier: MIT */
/*
 * Loads against the real device, of either kind, over rings of either format and many
 * sizes: what was written is read back, rings stop and go on elsewhere, in-flight
 * regions are kept or not.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "check.h"
#include "reader.h"

#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)
#define PACKED (UINT64_C(1) << VIRTIO_F_RING_PACKED)
#define GPA UINT64_C(0x40000000)
#define ADDRESS VHC_LUN_ADDRESS(2, 3)
#define RINGS 2u
#define BLOCK 1024u
#define DISK_BYTES (1u << 20)
#define PATIENCE_MS 60000

/* What a world is made of. */
struct shape {
	uint32_t device; /* enum vhc_load_device */
	uint64_t features;
	uint32_t size; /* of the rings */
	uint32_t mode; /* of the load */
	bool tracked;  /* with in-flight regions */
};

/* A device with its rings, and the driver's side of them in memory that both see. */
struct world {
	struct shape shape;
	struct reader reader;
	struct vhc_reactor *reactor;
	struct vhc_pages disk, memory, region;
	struct vhc_bdev *bdev;
	struct vhc_blk *blk;
	struct vhc_lun *lun;
	struct vhc_inflight *inflight;
	struct vhc_ring *device[RINGS];
	uint64_t driver[RINGS];
	uint32_t base[RINGS];
	struct vhc_driver_ring_layout layout;
	struct vhc_stats *stats, *ring_stats[RINGS];
	int kick[RINGS], call[RINGS];
};

static struct vhc_stats *new_stats(void)
{
	uint64_t addr = 0;
	CHECK_EQ(vhc_stats_alloc(&addr), 0);
	return (struct vhc_stats *)addr;
}

static uint32_t depth(const struct world *world)
{
	return world->shape.features & INDIRECT ? world->shape.size : world->shape.size / 3;
}

/* ---- The device -------------------------------------------------------------------------- */

static int make_target(struct world *world)
{
	const struct vhc_blk_config blk = {.bdev = (uint64_t)world->bdev};
	const struct vhc_lun_config lun = {
	    .bdev = (uint64_t)world->bdev, .writeback = 1, .max_blocks = 1024};
	return world->shape.device == VHC_LOAD_BLK ? vhc_blk_create(&blk, &world->blk)
						   : vhc_lun_create(&lun, &world->lun);
}

static int serve(struct world *world, struct vhc_ring *ring)
{
	static const struct vhc_scsi_config sizes = {.cdb_size = 32, .sense_size = 96};
	if (world->blk)
		return vhc_reactor_start_blk_ring(world->reactor, ring, world->blk, 0);
	int rc = vhc_reactor_start_scsi_ring(world->reactor, ring, &sizes);
	return rc ? rc : vhc_reactor_attach_lun(world->reactor, ring, ADDRESS, world->lun, 0);
}

static int make_inflight(struct world *world)
{
	struct vhc_inflight_config config = {
	    .num_queues = RINGS,
	    .queue_size = world->shape.size,
	    .packed = world->shape.features & PACKED ? 1 : 0,
	};
	config.size =
	    (uint64_t)vhc_inflight_bytes(config.num_queues, config.queue_size, config.packed);
	int rc = vhc_pages_alloc(config.size, 4096, -1, -1, VHC_PAGES_SHARED, &world->region);
	config.fd = world->region.fd;
	return rc ? rc : vhc_inflight_create(&config, &world->inflight);
}

/* Gives ring i to the reactor, where it was stopped. */
static bool start_ring(struct world *world, uint32_t i)
{
	const uint64_t at = world->memory.addr + world->layout.bytes * i;
	struct vhc_mem *mem;
	if (!CHECK_EQ(vhc_mem_create(&mem), 0))
		return false;
	CHECK_EQ(vhc_mem_add_region(mem, GPA, world->memory.size, world->memory.addr,
				    world->memory.fd, 0),
		 0);
	const struct vhc_ring_config config = {
	    .mem = (uint64_t)mem,
	    .features = world->shape.features,
	    .desc = at,
	    .avail = at + world->layout.avail,
	    .used = at + world->layout.used,
	    .stats = (uint64_t)world->ring_stats[i],
	    .inflight = (uint64_t)world->inflight,
	    .log_used = UINT64_MAX,
	    .size = world->shape.size,
	    .base = world->base[i],
	    .index = i,
	    .kick_fd = world->kick[i],
	    .call_fd = world->call[i],
	    .err_fd = -1,
	    .id = i,
	};
	bool ok = CHECK_EQ(vhc_ring_create(&config, &world->device[i]), 0);
	vhc_mem_release(mem);
	return ok && CHECK_EQ(serve(world, world->device[i]), 0);
}

static bool start_rings(struct world *world)
{
	for (uint32_t i = 0; i < RINGS; i++) {
		if (!start_ring(world, i))
			return false;
	}
	return true;
}

static void stop_rings(struct world *world)
{
	for (uint32_t i = 0; i < RINGS; i++) {
		CHECK_EQ(vhc_reactor_stop_ring(world->reactor, world->device[i]), 0);
		const struct vhc_upcall *up = reader_next(&world->reader, PATIENCE_MS);
		REQUIRE(up && up->type == VHC_UPCALL_RING_STOPPED && up->id == i);
		world->base[i] = (uint32_t)up->arg;
		vhc_ring_release(world->device[i]);
		/* Nothing is in flight: what is taken next is what is used next. */
		if (world->shape.features & PACKED)
			CHECK_EQ(world->base[i] >> 16, world->base[i] & UINT16_MAX);
	}
}

/* ---- The driver -------------------------------------------------------------------------- */

static bool make_driver(struct world *world)
{
	const struct shape *shape = &world->shape;
	if (!CHECK_EQ(vhc_driver_ring_layout(shape->size, shape->features, &world->layout), 0))
		return false;
	const int64_t buffers =
	    vhc_load_buffer_bytes(shape->device, BLOCK, VHC_RING_MAX_SIZE / 64, RINGS);
	if (!CHECK_EQ(vhc_pages_alloc(world->layout.bytes * RINGS + (uint64_t)buffers, 4096, -1, -1,
				      VHC_PAGES_SHARED, &world->memory),
		      0))
		return false;
	for (uint32_t i = 0; i < RINGS; i++) {
		world->kick[i] = vhc_eventfd();
		world->call[i] = vhc_eventfd();
		world->ring_stats[i] = new_stats();
		world->base[i] = shape->features & PACKED ? VHC_RING_BASE_PACKED : 0;
		const struct vhc_driver_ring_config config = {
		    .addr = world->memory.addr + world->layout.bytes * i,
		    .features = shape->features,
		    .gpa_delta = GPA - world->memory.addr,
		    .size = shape->size,
		    .kick_fd = world->kick[i],
		    .call_fd = world->call[i],
		};
		if (!CHECK_EQ(vhc_driver_ring_create(&config,
						     (struct vhc_driver_ring **)&world->driver[i]),
			      0))
			return false;
	}
	return true;
}

/* Runs a verifying load to its end. */
static void run_load(struct world *world, uint32_t rw, uint64_t ios)
{
	const uint64_t rings = world->layout.bytes * RINGS;
	const struct vhc_load_config config = {
	    .stats = (uint64_t)world->stats,
	    .buffers = world->memory.addr + rings,
	    .buffers_len = world->memory.size - rings,
	    .gpa_delta = GPA - world->memory.addr,
	    .size = DISK_BYTES,
	    .ios = ios,
	    .seed = 11,
	    .rw = rw,
	    .block_size = BLOCK,
	    .iodepth = depth(world),
	    .rwmix_read = 50,
	    .verify = 1,
	    .mode = world->shape.mode,
	    .cpu = -1,
	    .id = 99,
	    .device = world->shape.device,
	    .address = ADDRESS,
	    .lba_size = 512,
	};
	struct vhc_load *load;
	struct vhc_load_result result;
	REQUIRE_EQ(vhc_load_create(world->reader.upcalls, &config, world->driver, RINGS, &load), 0);
	CHECK_EQ(vhc_load_start(load), 0);
	const struct vhc_upcall *up = reader_next(&world->reader, PATIENCE_MS);
	CHECK(up && up->type == VHC_UPCALL_LOAD_DONE && up->status == 0);
	vhc_load_result(load, &result);
	CHECK(result.verified > 0);
	CHECK_EQ(result.verify_errors, 0);
	vhc_load_release(load);
}

/* ---- All of it --------------------------------------------------------------------------- */

static bool world_up(struct world *world, const struct shape *shape)
{
	const struct vhc_reactor_config reactor = {.cpu = -1, .mode = VHC_MODE_ADAPTIVE};
	uint64_t stats;
	*world = (struct world){.shape = *shape, .stats = new_stats()};
	return CHECK(reader_open(&world->reader)) &&
	       CHECK_EQ(vhc_pages_alloc(DISK_BYTES, 4096, -1, -1, 0, &world->disk), 0) &&
	       CHECK_EQ(vhc_bdev_malloc_create(&world->disk, 512, DISK_BYTES / 512, &world->bdev),
			0) &&
	       CHECK_EQ(make_target(world), 0) &&
	       CHECK_EQ(
		   vhc_reactor_create(world->reader.upcalls, &reactor, &world->reactor, &stats),
		   0) &&
	       (!shape->tracked || CHECK_EQ(make_inflight(world), 0)) && make_driver(world);
}

static void world_down(struct world *world)
{
	CHECK_EQ(vhc_reactor_release(world->reactor), 0);
	for (uint32_t i = 0; i < RINGS; i++) {
		vhc_driver_ring_release((struct vhc_driver_ring *)world->driver[i]);
		vhc_stats_free((uint64_t)world->ring_stats[i]);
		vhc_fd_close(world->kick[i]);
		vhc_fd_close(world->call[i]);
	}
	if (world->blk)
		vhc_blk_release(world->blk);
	if (world->lun)
		vhc_lun_release(world->lun);
	if (world->inflight) {
		vhc_inflight_release(world->inflight);
		vhc_pages_free(&world->region);
	}
	vhc_bdev_release(world->bdev);
	vhc_stats_free((uint64_t)world->stats);
	vhc_pages_free(&world->memory);
	reader_close(&world->reader);
}

/* Writes all, stops, goes on from there and reads it, stops, mixes. */
static void run_shape(const struct shape *shape)
{
	struct world world;
	REQUIRE(world_up(&world, shape));
	REQUIRE(start_rings(&world));
	run_load(&world, VHC_LOAD_WRITE, 0);
	stop_rings(&world);
	REQUIRE(check_ok && start_rings(&world));
	run_load(&world, VHC_LOAD_RANDREAD, 500);
	stop_rings(&world);
	REQUIRE(check_ok && start_rings(&world));
	run_load(&world, VHC_LOAD_RANDRW, 777);
	stop_rings(&world);
	const uint64_t reads = world.stats->op[VHC_OP_READ].count;
	CHECK_EQ(reads + world.stats->op[VHC_OP_WRITE].count, DISK_BYTES / BLOCK + 500 + 777);
	CHECK_EQ(world.stats->op[VHC_OP_READ].errors + world.stats->op[VHC_OP_WRITE].errors, 0);
	world_down(&world);
}

/* Every combination of features, for each of the sizes in turn. */
static void run_sizes(struct shape shape, const uint32_t *sizes, uint32_t num_sizes)
{
	static const uint64_t features[] = {0, INDIRECT, EVENT_IDX, EVENT_IDX | INDIRECT};
	const uint64_t format = shape.features;
	for (uint32_t i = 0; i < 2 * num_sizes && check_ok; i++) {
		shape.features = format | features[i % 4];
		shape.size = sizes[i / 2];
		shape.mode = i / 4 % 2 ? VHC_MODE_INTERRUPT : VHC_MODE_POLL;
		run_shape(&shape);
		/* And the other two. */
		shape.features = format | features[(i + 2) % 4];
		shape.mode = i / 4 % 2 ? VHC_MODE_POLL : VHC_MODE_INTERRUPT;
		run_shape(&shape);
	}
	if (!check_ok)
		fprintf(stderr, "device %u, features %#llx, size %u, mode %u, tracked %d\n",
			shape.device, (unsigned long long)shape.features, shape.size, shape.mode,
			shape.tracked);
}

static const uint32_t split_sizes[] = {4, 16, 64, 256};
static const uint32_t packed_sizes[] = {3, 4, 7, 33, 100, 256};

static void split(uint32_t device, bool tracked)
{
	const struct shape shape = {.device = device, .tracked = tracked};
	run_sizes(shape, split_sizes, sizeof(split_sizes) / sizeof(split_sizes[0]));
}

static void packed(uint32_t device, bool tracked)
{
	const struct shape shape = {.device = device, .features = PACKED, .tracked = tracked};
	run_sizes(shape, packed_sizes, sizeof(packed_sizes) / sizeof(packed_sizes[0]));
}

static void split_blk(void)
{
	split(VHC_LOAD_BLK, false);
}

static void split_scsi(void)
{
	split(VHC_LOAD_SCSI, false);
}

static void packed_blk(void)
{
	packed(VHC_LOAD_BLK, false);
}

static void packed_scsi(void)
{
	packed(VHC_LOAD_SCSI, false);
}

static void tracked_split_blk(void)
{
	split(VHC_LOAD_BLK, true);
}

static void tracked_split_scsi(void)
{
	split(VHC_LOAD_SCSI, true);
}

static void tracked_packed_blk(void)
{
	packed(VHC_LOAD_BLK, true);
}

static void tracked_packed_scsi(void)
{
	packed(VHC_LOAD_SCSI, true);
}

int main(void)
{
	const int fds = check_open_fds();
	RUN(split_blk);
	RUN(split_scsi);
	RUN(packed_blk);
	RUN(packed_scsi);
	RUN(tracked_split_blk);
	RUN(tracked_split_scsi);
	RUN(tracked_packed_blk);
	RUN(tracked_packed_scsi);
	if (!CHECK_EQ(check_open_fds(), fds))
		check_failed++;
	return check_report();
}
