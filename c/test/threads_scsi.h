/* SPDX-License-Identifier: MIT */
/*
 * Rings of virtio-scsi devices under load while this thread does what TypeScript
 * does: answers commands, holds, aborts, attaches and detaches logical units; and
 * another sets gates, which any may.
 */
#ifndef VHC_THREADS_SCSI_H
#define VHC_THREADS_SCSI_H

#include <linux/virtio_scsi.h>

#include "threads_world.h"

#define BAD_TARGETS (1u << 0) /* what comes up ends in BAD_TARGET, else it is executed */

struct scsi_events {
	uint32_t idle[LANES], aborts[LANES];
	uint64_t requests, aborted; /* of all lanes */
	uint32_t flags;
	/* I/O without a ring, one at a time. */
	bool io_done;
	int io_status;
};

static inline uint64_t be(const uint8_t *bytes, uint32_t n)
{
	uint64_t value = 0;
	for (uint32_t i = 0; i < n; i++)
		value = value << 8 | bytes[i];
	return value;
}

/* ---- Answers ------------------------------------------------------------------------- */

static inline void end_request(uint64_t request, uint32_t response, uint32_t written)
{
	const struct vhc_scsi_result result = {.response = response, .written = written};
	vhc_request_complete(request, &result);
}

/* Reads or writes a whole block of the data, at the offset that the command names. */
static inline void answer(struct scsi_events *events, struct lane *lane, uint64_t request,
			  const struct vhc_request_info *info)
{
	const bool read = info->cdb[0] == 0x28;
	const uint64_t offset = be(info->cdb + 2, 4) * 512;
	CHECK(read || info->cdb[0] == 0x2a);
	CHECK_EQ(read ? info->in_len : info->out_len, BLOCK);
	CHECK_EQ(be(info->cdb + 7, 2), BLOCK / 512);
	CHECK(offset >= lane->offset && offset < lane->offset + LANE_BLOCKS * BLOCK);
	events->requests++;
	if (events->flags & BAD_TARGETS)
		end_request(request, VIRTIO_SCSI_S_BAD_TARGET, 0);
	else
		vhc_request_execute(request, read ? VHC_OP_READ : VHC_OP_WRITE,
				    events->requests % 2 ? VHC_EXECUTE_HELD | VHC_EXECUTE_DURABLE
							 : VHC_EXECUTE_HELD,
				    offset, BLOCK);
}

static inline void scsi_take(struct world *world, struct lane *lane,
			     const struct vhc_upcall *upcall)
{
	struct scsi_events *events = world->scsi;
	struct vhc_request_info info;
	const uint32_t i = lane->id - 1;
	switch (upcall->type) {
	case VHC_UPCALL_REQUEST:
		memcpy(&info, upcall->data, sizeof(info));
		/* One that was told to be executed met a unit that was gone. */
		if (upcall->status)
			end_request(upcall->arg, VIRTIO_SCSI_S_BAD_TARGET, 0);
		else
			answer(events, lane, upcall->arg, &info);
		break;
	case VHC_UPCALL_LUN_IDLE:
		CHECK_EQ(upcall->arg, ADDRESS);
		events->idle[i]++;
		break;
	case VHC_UPCALL_ABORTED:
		CHECK_EQ(upcall->arg, 55);
		CHECK(upcall->status >= 0);
		events->aborts[i]++;
		events->aborted += (uint32_t)upcall->status;
		break;
	default:
		CHECK_EQ(upcall->type, VHC_UPCALL_IO_DONE);
		events->io_done = true;
		events->io_status = upcall->status;
	}
}

/* ---- The world ------------------------------------------------------------------------- */

static inline void scsi_up(struct world *world, struct scsi_events *events, const uint32_t *modes,
			   uint32_t num_lanes, bool file)
{
	*events = (struct scsi_events){0};
	world_up(world, modes, num_lanes, file);
	const struct vhc_lun_config config = {
	    .bdev = (uint64_t)world->bdev,
	    .writeback = 1,
	    .max_blocks = 1024,
	    .max_unmap = 1024,
	    .max_write_same = 1024,
	};
	REQUIRE_EQ(vhc_lun_create(&config, &world->lun), 0);
	world->scsi = events;
	attach_all(world);
}

static inline void scsi_down(struct world *world)
{
	stop_loads(world);
	detach_all(world);
	world_down(world);
}

static inline uint64_t all_failures(const struct world *world)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < world->num_lanes; i++)
		n += failures(&world->lanes[i]);
	return n;
}

static inline void hold_and_await(struct world *world, uint32_t i)
{
	struct lane *lane = &world->lanes[i];
	const uint32_t before = world->scsi->idle[i];
	CHECK_EQ(vhc_reactor_hold_lun(lane->reactor, lane->device, ADDRESS), 0);
	AWAIT(world, world->scsi->idle[i] > before);
	CHECK_EQ(world->scsi->idle[i], before + 1);
}

static inline void resume(struct lane *lane)
{
	CHECK_EQ(vhc_reactor_resume_lun(lane->reactor, lane->device, ADDRESS), 0);
}

/* ---- What happens at once ----------------------------------------------------------------- */

static void scsi_in_every_mode(void)
{
	for (uint32_t i = 0; i < 6; i++) {
		const uint32_t modes[REACTORS] = {i % 3, (i + i / 3) % 3};
		struct world world;
		struct scsi_events events;
		scsi_up(&world, &events, modes, 2, i % 2);
		start_loads(&world, i, 1000, true);
		for (uint32_t n = 0; n < 2; n++)
			end_load(&world, &world.lanes[n]);
		CHECK_EQ(all_failures(&world), 0);
		CHECK_EQ(events.requests, 0);
		detach_all(&world);
		world_down(&world);
	}
}

struct switcher {
	struct vhc_lun *lun;
	atomic_bool stop;
};

/* Gates may be set by any thread at any time. */
static void *set_gates(void *arg)
{
	struct switcher *switcher = arg;
	for (uint32_t i = 0; !atomic_load(&switcher->stop); i++) {
		vhc_lun_set_gates(switcher->lun, i % 2, i / 2 % 2);
		vhc_lun_set_writeback(switcher->lun, i % 3 != 0);
		usleep(50);
	}
	vhc_lun_set_gates(switcher->lun, VHC_GATE_RUN, VHC_GATE_RUN);
	return NULL;
}

/* Commands are executed here and there in turns; the data is right all the same. */
static void scsi_commands_go_up(bool file)
{
	struct world world;
	struct scsi_events events;
	scsi_up(&world, &events, mixed, 2, file);
	struct switcher switcher = {.lun = world.lun};
	pthread_t thread;
	start_loads(&world, 0, 0, true);
	REQUIRE_EQ(pthread_create(&thread, NULL, set_gates, &switcher), 0);
	await_requests(&world, 1500);
	AWAIT(&world, events.requests > 200);
	atomic_store(&switcher.stop, true);
	pthread_join(thread, NULL);
	CHECK_EQ(all_failures(&world), 0);
	scsi_down(&world);
}

static void scsi_requests_are_answered_under_load(void)
{
	scsi_commands_go_up(false);
	scsi_commands_go_up(true);
}

/* While a logical unit is held nothing of it is executed. */
static void scsi_units_are_held_under_load(void)
{
	struct world world;
	struct scsi_events events;
	scsi_up(&world, &events, adaptive, 2, true);
	start_loads(&world, 1, 0, true);
	for (uint32_t i = 0; i < 40; i++) {
		struct lane *lane = &world.lanes[i % 2];
		await_requests(&world, 10);
		hold_and_await(&world, i % 2);
		if (i % 4 == 1)
			hold_and_await(&world, i % 2);
		uint64_t before = counter(&lane->ring_stats->op[VHC_OP_READ].count) +
				  counter(&lane->ring_stats->op[VHC_OP_WRITE].count);
		usleep(300);
		CHECK_EQ(counter(&lane->ring_stats->op[VHC_OP_READ].count) +
			     counter(&lane->ring_stats->op[VHC_OP_WRITE].count),
			 before);
		if (i % 4 == 1)
			resume(lane);
		resume(lane);
		CHECK_EQ(vhc_reactor_resume_lun(lane->reactor, lane->device, ADDRESS), -ENOENT);
	}
	CHECK_EQ(all_failures(&world), 0);
	CHECK_EQ(events.requests, 0);
	scsi_down(&world);
}

/* What waits ends at once, what is in the backend when that is done; each is counted once. */
static void scsi_aborts_under_load(bool file)
{
	struct world world;
	struct scsi_events events;
	scsi_up(&world, &events, mixed, 2, file);
	start_loads(&world, 0, 0, false);
	for (uint32_t i = 0; i < 60; i++) {
		struct lane *lane = &world.lanes[i % 2];
		const struct vhc_abort abort = {
		    .flags = i % 3 ? 0 : VHC_ABORT_ALL_LUNS,
		    .address = ADDRESS,
		    .response = i % 5 ? VIRTIO_SCSI_S_ABORTED : VIRTIO_SCSI_S_RESET,
		    .cookie = 55,
		};
		const uint32_t before = events.aborts[i % 2];
		await_requests(&world, 5);
		if (i % 4 < 2) {
			hold_and_await(&world, i % 2);
			usleep(200);
		}
		CHECK_EQ(vhc_reactor_abort(lane->reactor, lane->device, &abort), 0);
		AWAIT(&world, events.aborts[i % 2] > before);
		if (i % 4 < 2)
			resume(lane);
	}
	CHECK(events.aborted > 0);
	AWAIT(&world, all_failures(&world) == events.aborted);
	await_requests(&world, 20);
	CHECK_EQ(all_failures(&world), events.aborted);
	scsi_down(&world);
}

static void scsi_commands_are_aborted_under_load(void)
{
	scsi_aborts_under_load(false);
	scsi_aborts_under_load(true);
}

/* A logical unit goes and comes back: without it, commands go up. */
static void scsi_units_come_and_go_under_load(void)
{
	struct world world;
	struct scsi_events events;
	scsi_up(&world, &events, mixed, 2, true);
	start_loads(&world, 1, 0, false);
	for (uint32_t i = 0; i < 20; i++) {
		struct lane *lane = &world.lanes[i % 2];
		const uint64_t requests = events.requests;
		await_requests(&world, 10);
		events.flags = BAD_TARGETS;
		hold_and_await(&world, i % 2);
		CHECK_EQ(vhc_reactor_detach_lun(lane->reactor, lane->device, ADDRESS), 0);
		CHECK_EQ(vhc_reactor_detach_lun(lane->reactor, lane->device, ADDRESS), -ENOENT);
		AWAIT(&world, events.requests > requests + 5);
		CHECK_EQ(vhc_reactor_attach_lun(lane->reactor, lane->device, ADDRESS, world.lun, 0),
			 0);
		CHECK_EQ(vhc_reactor_attach_lun(lane->reactor, lane->device, ADDRESS, world.lun, 0),
			 -EEXIST);
	}
	AWAIT(&world, all_failures(&world) == events.requests);
	scsi_down(&world);
}

/* Rings stop and move with commands up, waiting and in the backend. */
static void scsi_rings_move_under_load(void)
{
	struct world world;
	struct scsi_events events;
	scsi_up(&world, &events, adaptive, 2, true);
	struct switcher switcher = {.lun = world.lun};
	pthread_t thread;
	start_loads(&world, 0, 0, true);
	REQUIRE_EQ(pthread_create(&thread, NULL, set_gates, &switcher), 0);
	for (uint32_t i = 0; i < 24; i++) {
		struct lane *lane = &world.lanes[i % 2];
		await_requests(&world, 15);
		detach(&world, lane);
		attach(&world, lane, i / 2);
	}
	atomic_store(&switcher.stop, true);
	pthread_join(thread, NULL);
	CHECK_EQ(all_failures(&world), 0);
	scsi_down(&world);
}

/* I/O of whoever answers, beside that of the ring. */
static void scsi_io_without_a_ring(void)
{
	struct world world;
	struct scsi_events events;
	struct vhc_pages pages;
	scsi_up(&world, &events, mixed, 1, true);
	REQUIRE_EQ(vhc_pages_alloc(BLOCK, 4096, -1, -1, 0, &pages), 0);
	start_loads(&world, 1, 0, true);
	for (uint32_t i = 0; i < 100; i++) {
		static const uint32_t ops[] = {VHC_OP_WRITE, VHC_OP_READ, VHC_OP_FLUSH,
					       VHC_OP_WRITE_ZEROES, VHC_OP_UNMAP};
		const uint32_t op = ops[i % 5];
		const struct vhc_io_config io = {
		    .bdev = (uint64_t)world.bdev,
		    .addr = pages.addr,
		    .offset = op == VHC_OP_FLUSH ? 0 : (DISK_BLOCKS - 1) * BLOCK,
		    .len = op == VHC_OP_FLUSH ? 0 : BLOCK,
		    .op = op,
		    .flags = op == VHC_OP_WRITE ? VHC_IO_DURABLE : 0,
		    .id = world.lanes[0].id,
		};
		uint8_t *data = (uint8_t *)pages.addr;
		memset(data, op == VHC_OP_WRITE ? (int)i : 0x11, BLOCK);
		events.io_done = false;
		REQUIRE_EQ(vhc_io_submit(world.reactors[i % REACTORS], &io), 0);
		AWAIT(&world, events.io_done);
		CHECK_EQ(events.io_status, 0);
		if (op == VHC_OP_READ)
			CHECK(data[0] == (uint8_t)(i - 1) && data[BLOCK - 1] == (uint8_t)(i - 1));
	}
	scsi_down(&world);
	vhc_pages_free(&pages);
}

static inline void run_scsi(void)
{
	RUN(scsi_in_every_mode);
	RUN(scsi_requests_are_answered_under_load);
	RUN(scsi_units_are_held_under_load);
	RUN(scsi_commands_are_aborted_under_load);
	RUN(scsi_units_come_and_go_under_load);
	RUN(scsi_rings_move_under_load);
	RUN(scsi_io_without_a_ring);
}

#endif
