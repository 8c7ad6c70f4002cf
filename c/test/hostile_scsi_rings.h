/* SPDX-License-Identifier: MIT */
/* Cases of control and event rings, and of what takes more than a chain, one by one. */
#ifndef VHC_HOSTILE_SCSI_RINGS_H
#define VHC_HOSTILE_SCSI_RINGS_H

#include "hostile_scsi_cases.h"

static inline uint32_t used_len_at(uint32_t i)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	return ring_used_at(ring, (uint16_t)(ring->used_seen + i)).len;
}

static inline int send_one(uint32_t event)
{
	const struct virtio_scsi_event e = {.event = event, .lun = {1, 2, 0x40, 3}, .reason = 9};
	return vhc_reactor_send_event(fuzz.rig.reactor, fuzz.rig.ring.handle, (const uint8_t *)&e);
}

static inline struct virtio_scsi_event event_at(uint64_t gpa)
{
	struct virtio_scsi_event e;
	memcpy(&e, rig_at(&fuzz.rig, gpa), sizeof(e));
	return e;
}

static void event_buffers_wait(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	scsi_case_ring(EVENT_RING);
	D(0, DATA, 16, W, 0);
	D(1, DATA + 64, 100, W, 0);
	OFFER(0);
	OFFER(1);
	neighbour_begin(&fuzz.neighbour);
	ring_show(&rig->ring);
	CHECK(neighbour_end(&fuzz.neighbour, rig));
	CHECK_EQ(used_now(), 0);
	CHECK_EQ(send_one(1), 1);
	RIG_AWAIT(rig, used_now() == 1);
	CHECK_EQ(used_len_at(0), 16);
	CHECK(event_at(DATA).event == 1 && event_at(DATA).reason == 9);
	CHECK_EQ(event_at(DATA + 64).event, 0xaaaaaaaa);
	CHECK_EQ(send_one(3), 1);
	RIG_AWAIT(rig, used_now() == 2);
	CHECK_EQ(used_len_at(1), 16);
	CHECK_EQ(event_at(DATA + 64).event, 3);
	scsi_stop_ring();
}

static void events_missed_are_told_of(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	scsi_case_ring(EVENT_RING);
	CHECK_EQ(send_one(1), 0);
	CHECK_EQ(send_one(1), 0);
	for (uint16_t i = 0; i < 3; i++) {
		D(i, DATA + i * 16u, 16, W, 0);
		OFFER(i);
	}
	/* The device tells of it as soon as there is a buffer, and takes no other. */
	ring_show(&rig->ring);
	RIG_AWAIT(rig, used_now() == 1);
	CHECK_EQ(event_at(DATA).event, MISSED);
	CHECK(event_at(DATA).reason == 0 && event_at(DATA).lun[0] == 0);
	CHECK_EQ(send_one(2), 1);
	RIG_AWAIT(rig, used_now() == 2);
	CHECK_EQ(event_at(DATA + 16).event, 2);
	CHECK_EQ(event_at(DATA + 32).event, 0xaaaaaaaa);
	scsi_stop_ring();
}

/* What holds no event goes back, and the next has it. */
static void event_buffers_that_do_not_do(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	scsi_case_ring(EVENT_RING);
	D(0, DATA, 16, 0, 0);
	D(1, DATA + 16, 15, W, 0);
	D(2, 0x800000, 16, W, 0);
	/* A loop; or, as a packed ring has none, a table that is nowhere. */
	D(3, DATA + 48, 16, rig->ring.packed ? I : N | W, 3);
	D(4, DATA + 64, 0, W, 0);
	D(5, DATA + 80, 7, N | W, 6);
	D(6, DATA + 96, 20, W, 0);
	for (uint16_t i = 0; i < 6; i++)
		OFFER(i);
	ring_show(&rig->ring);
	CHECK_EQ(send_one(1), 1);
	RIG_AWAIT(rig, used_now() == 6);
	for (uint32_t i = 0; i < 5; i++)
		CHECK(used_len_at(i) == 0 || (i == 1 && used_len_at(i) == 15));
	CHECK_EQ(used_len_at(5), 16);
	CHECK(*rig_at(rig, DATA) == 0xaa && *rig_at(rig, DATA + 80) == 1);
	CHECK_EQ(*rig_at(rig, DATA + 96 + 9), 0xaa);
	CHECK_EQ(send_one(1), 0);
	scsi_stop_ring();
}

static void event_ring_is_corrupt(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	scsi_case_ring(EVENT_RING);
	if (rig->ring.packed)
		next_all_round(rig);
	else
		OFFER(CASE_SIZE);
	ring_show(&rig->ring);
	CHECK_EQ(send_one(1), 0);
	RIG_AWAIT(rig, rig->ring.broken);
	CHECK_EQ(rig->ring.broken_status, -EPROTO);
	says_broken(&rig->ring);
	scsi_stop_ring();
}

static void event_for_another_kind_of_ring(void)
{
	scsi_case_ring(CONTROL_RING);
	CHECK_EQ(send_one(1), -ENOENT);
	CHECK_EQ(
	    vhc_reactor_attach_lun(fuzz.rig.reactor, fuzz.rig.ring.handle, 0, scsi.units[0].lun, 0),
	    -ENOENT);
	const int held = vhc_reactor_hold_lun(fuzz.rig.reactor, fuzz.rig.ring.handle, 0);
	CHECK(held == 0 || held == -ENOENT);
	scsi_stop_ring();
}

/* A task management function in the pieces that a driver may choose, and its answer. */
static void control_requests_go_up(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	uint8_t bytes[40];
	scsi_case_ring(CONTROL_RING);
	for (uint32_t i = 0; i < 24; i++)
		*rig_at(rig, HDR + i) = (uint8_t)i;
	D(0, HDR, 1, N, 1);
	D(1, HDR + 1, 23, N, 2);
	D(2, STATUS, 1, W, 0);
	OFFER(0);
	D(3, 0x800000, 24, N, 4); /* nowhere */
	D(4, STATUS + 1, 1, W, 0);
	OFFER(3);
	D(5, HDR, 0, N, 6); /* nothing in it */
	D(6, STATUS + 2, 1, W, 0);
	OFFER(5);
	ring_show(&rig->ring);
	RIG_AWAIT(rig, scsi.num_ups == 2 && used_now() == 1);
	CHECK_EQ(used_len_at(0), 0);
	CHECK(scsi.ups[0].info.out_len == 24 && scsi.ups[0].info.in_len == 1);
	CHECK(scsi.ups[1].info.out_len == 0 && scsi.ups[1].info.in_len == 1);
	CHECK_EQ(vhc_request_read(scsi.ups[0].request, 0, bytes, 40), 24);
	CHECK_EQ(vhc_request_read(scsi.ups[0].request, 25, bytes, 40), 0);
	CHECK_EQ(vhc_request_read(scsi.ups[0].request, UINT64_MAX, bytes, 40), 0);
	CHECK(bytes[0] == 0 && bytes[23] == 23);
	bytes[0] = 10;
	CHECK_EQ(vhc_request_write(scsi.ups[0].request, 0, bytes, 40), 1);
	CHECK_EQ(vhc_request_write(scsi.ups[0].request, UINT64_MAX, bytes, 40), 0);
	vhc_request_complete_raw(scsi.ups[1].request, 0);
	vhc_request_complete_raw(scsi.ups[0].request, 1);
	scsi.num_ups = 0;
	RIG_AWAIT(rig, used_now() == 3);
	CHECK(used_len_at(1) + used_len_at(2) == 1);
	CHECK_EQ(*rig_at(rig, STATUS), 10);
	CHECK_EQ(*rig_at(rig, STATUS + 1), 0xaa);
	scsi_stop_ring();
}

/* A command that the disk failed in part of its buffer comes up with all of that. */
static void failed_commands_keep_their_data(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	uint8_t bytes[1024];
	scsi_case_ring(REQUEST_RING);
	COMMAND(0x2a, 0, 0, 0, 0, FLAKY_GOOD / 512, 0, 0, 1);
	memset(rig_at(rig, DATA), 0x42, sizeof(bytes));
	*in_header(rig, 1) = *in_header(rig, 3) = 255; /* the unit whose disk fails */
	data_out(rig, sizeof(bytes));
	for (int i = 0; i < 2; i++) {
		ring_show(&rig->ring);
		RIG_AWAIT(rig, scsi.num_ups == 1);
		CHECK_EQ(scsi.ups[0].status, -EIO);
		CHECK_EQ(scsi.ups[0].info.out_len, sizeof(bytes));
		memset(bytes, 0, sizeof(bytes));
		CHECK_EQ(vhc_request_read(scsi.ups[0].request, 0, bytes, sizeof(bytes)), 1024);
		CHECK(bytes[0] == 0x42 && !memcmp(bytes, bytes + 1, sizeof(bytes) - 1));
		scsi.num_ups = 0;
		if (i == 0) /* the same again, now by whoever has it */
			vhc_request_execute(scsi.ups[0].request, VHC_OP_WRITE, 0, FLAKY_GOOD, 512);
	}
	const struct vhc_scsi_result result = {.status = 2};
	vhc_request_complete(scsi.ups[0].request, &result);
	RIG_AWAIT(rig, used_now() == 1);
	scsi_stop_ring();
}

static inline void run_named_rings(void)
{
	RUN(event_buffers_wait);
	RUN(events_missed_are_told_of);
	RUN(event_buffers_that_do_not_do);
	RUN(event_ring_is_corrupt);
	RUN(event_for_another_kind_of_ring);
	RUN(control_requests_go_up);
	RUN(failed_commands_keep_their_data);
}

#endif
