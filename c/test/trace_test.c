/* SPDX-License-Identifier: MIT */
/* Traces: what is recorded of which request, and reading while it is written. */
#include <errno.h>
#include <pthread.h>

#include "packed_guest.h"
#include "queue.h"
#include "scsi_vm.h"
#include "trace.h"

#define TRACE_SIZE 64u
#define RING_ENTRIES 256u

/* ---- A queue over a ring of either format, without a reactor ---- */

struct line {
	struct packed_guest pg;
	struct guest *guest;
	bool packed;
	struct vhc_ring *ring;
	struct vhc_blk *blk;
	struct queue_outbox outbox;
	struct queue *queue;
	struct bdev_channel *channel;
	struct vhc_trace *trace;
	struct vhc_trace_record records[TRACE_SIZE];
};

static bool line_create(struct line *line, bool packed, struct vhc_bdev *bdev)
{
	struct vhc_blk_config blk = {.bdev = (uint64_t)(uintptr_t)bdev,
				     .features = UINT64_C(1) << VIRTIO_BLK_F_FLUSH |
						 UINT64_C(1) << VIRTIO_BLK_F_DISCARD,
				     .max_discard_sectors = 1000,
				     .max_discard_segments = 4};

	*line = (struct line){.packed = packed, .guest = &line->pg.guest};
	if (!(packed ? packed_guest_create(&line->pg, RING_ENTRIES)
		     : guest_create(line->guest, RING_ENTRIES)) ||
	    vhc_blk_create(&blk, &line->blk) ||
	    bdev->ops->channel_open(bdev, NULL, &line->channel) ||
	    vhc_trace_create(TRACE_SIZE, &line->trace))
		return false;
	line->ring = packed ? packed_guest_ring(&line->pg, GUEST_INDIRECT)
			    : guest_ring(line->guest, GUEST_INDIRECT);
	if (!line->ring || vhc_ring_set_trace(line->ring, line->trace))
		return false;
	line->queue = queue_create_blk(line->ring, line->blk, NULL, &line->outbox);
	if (line->queue)
		queue_set_channel(line->queue, line->channel);
	return line->queue != NULL;
}

static void line_destroy(struct line *line)
{
	queue_destroy(line->queue);
	line->channel->bdev->ops->channel_close(line->channel);
	vhc_ring_release(line->ring);
	vhc_blk_release(line->blk);
	vhc_trace_release(line->trace);
	guest_destroy(line->guest);
}

/* Offers request i. */
static void offer(struct line *line, uint32_t i, uint32_t type, uint64_t sector, uint32_t len)
{
	struct vring_desc chain[4];

	if (line->packed) {
		uint32_t n = packed_request(line->guest, i, false, type, sector, len, chain);

		packed_offer(&line->pg, chain, n, (uint16_t)i);
		return;
	}
	guest_offer(line->guest, guest_request(line->guest, i, false, type, sector, len));
	guest_publish(line->guest);
}

/* Runs what was offered; returns how many records there are then. */
static int run(struct line *line)
{
	struct vring_used_elem used;
	uint64_t now;

	while (queue_poll(line->queue) > 0)
		;
	while (line->packed ? packed_used(&line->pg, &used) : guest_used(line->guest, &used))
		;
	return vhc_trace_read(line->trace, line->records, TRACE_SIZE, &now);
}

static void check_order(const struct vhc_trace_record *record)
{
	CHECK(record->taken > 0);
	CHECK(record->submitted >= record->taken);
	CHECK(record->completed >= record->submitted);
	CHECK(record->published >= record->completed);
}

static void check_sync(bool packed)
{
	static struct line line;
	struct vhc_bdev *bdev = null_disk();

	REQUIRE(line_create(&line, packed, bdev));
	offer(&line, 0, VIRTIO_BLK_T_IN, 8, 4096);
	offer(&line, 1, VIRTIO_BLK_T_OUT, 16, 512);
	REQUIRE_EQ(run(&line), 2);
	CHECK_EQ(line.records[0].op, VHC_OP_READ);
	CHECK_EQ(line.records[0].offset, 4096);
	CHECK_EQ(line.records[0].len, 4096);
	CHECK_EQ(line.records[0].result, 0);
	CHECK_EQ(line.records[0].address, VHC_TRACE_NOWHERE);
	CHECK_EQ(line.records[1].op, VHC_OP_WRITE);
	CHECK_EQ(line.records[1].offset, 8192);
	CHECK_EQ(line.records[1].len, 512);
	CHECK_EQ(line.records[1].number, 1);
	/* One batch, of which the driver is told once. */
	CHECK_EQ(line.records[0].batch, line.records[1].batch);
	check_order(&line.records[0]);
	CHECK(line.records[0].called >= line.records[0].published ||
	      (line.records[0].flags & VHC_TRACE_QUIET));
	vhc_bdev_release(bdev);
	line_destroy(&line);
}

static void records_split_requests(void)
{
	check_sync(false);
}

static void records_packed_requests(void)
{
	check_sync(true);
}

static void records_what_is_refused(void)
{
	static struct line line;
	struct vhc_bdev *bdev = null_disk();

	REQUIRE(line_create(&line, false, bdev));
	offer(&line, 0, VIRTIO_BLK_T_IN, UINT64_C(1) << 40, 512);
	offer(&line, 1, 77, 0, 512);
	offer(&line, 2, VIRTIO_BLK_T_GET_ID, 0, 20);
	REQUIRE_EQ(run(&line), 3);
	CHECK_EQ(line.records[0].op, VHC_OP_READ);
	CHECK_EQ(line.records[0].offset, UINT64_C(1) << 49);
	CHECK_EQ(line.records[0].len, 512);
	CHECK_EQ(line.records[0].result, -EIO);
	CHECK_EQ(line.records[0].submitted, 0);
	CHECK_EQ(line.records[1].op, VHC_OP_OTHER);
	CHECK_EQ(line.records[1].result, -EOPNOTSUPP);
	CHECK_EQ(line.records[2].op, VHC_OP_OTHER);
	CHECK_EQ(line.records[2].result, 0);
	CHECK(line.records[0].batch != line.records[1].batch);
	CHECK(line.records[0].published > 0);
	vhc_bdev_release(bdev);
	line_destroy(&line);
}

/* The last ones stay, in their order, with the times of their batches. */
static void keeps_the_last(void)
{
	static struct line line;
	struct vhc_bdev *bdev = null_disk();
	uint64_t now;
	int n = 0;

	REQUIRE(line_create(&line, false, bdev));
	for (uint32_t i = 0; i < 1000; i++) {
		offer(&line, i % 32, VIRTIO_BLK_T_IN, i, 512);
		if (i % 7 == 6)
			n = run(&line);
	}
	n = run(&line);
	REQUIRE_EQ(n, TRACE_SIZE);
	for (int i = 0; i < n; i++) {
		uint64_t number = 1000 - TRACE_SIZE + (uint64_t)i;

		CHECK_EQ(line.records[i].number, number);
		CHECK_EQ(line.records[i].offset, number * 512);
		CHECK_EQ(line.records[i].batch, number / 7);
		check_order(&line.records[i]);
	}
	CHECK_EQ(vhc_trace_read(line.trace, line.records, 3, &now), 3);
	CHECK_EQ(line.records[2].number, 999);
	CHECK(now >= line.records[2].published);
	vhc_bdev_release(bdev);
	line_destroy(&line);
}

/* A backend that takes its time: each request has its own times. */
static void records_late_requests(void)
{
	static struct line line;
	static struct slow slow;
	uint64_t now;

	slow_init(&slow, -1);
	REQUIRE(line_create(&line, false, &slow.bdev));
	offer(&line, 0, VIRTIO_BLK_T_IN, 8, 512);
	offer(&line, 1, VIRTIO_BLK_T_IN, 16, 512);
	CHECK_EQ(run(&line), 0);
	slow_allow(&slow, 1);
	CHECK_EQ(slow.bdev.ops->poll(line.queue->own.channel), 1);
	REQUIRE_EQ(vhc_trace_read(line.trace, line.records, TRACE_SIZE, &now), 1);
	CHECK_EQ(line.records[0].published, 0);
	CHECK_EQ(line.records[0].called, 0);
	CHECK(!(line.records[0].flags & VHC_TRACE_QUIET));
	queue_publish(line.queue);
	slow_allow(&slow, 1);
	CHECK_EQ(slow.bdev.ops->poll(line.queue->own.channel), 1);
	queue_publish(line.queue);
	REQUIRE_EQ(run(&line), 2);
	check_order(&line.records[0]);
	check_order(&line.records[1]);
	CHECK_EQ(line.records[0].taken, line.records[1].taken);
	CHECK(line.records[1].completed > line.records[0].published);
	line_destroy(&line);
}

static void checks_its_size(void)
{
	struct vhc_trace *trace;

	CHECK_EQ(vhc_trace_create(0, &trace), -EINVAL);
	CHECK_EQ(vhc_trace_create(32, &trace), -EINVAL);
	CHECK_EQ(vhc_trace_create(100, &trace), -EINVAL);
	CHECK_EQ(vhc_trace_create(VHC_TRACE_MAX_SIZE * 2, &trace), -EINVAL);
	vhc_trace_release(NULL);
}

/* ---- SCSI, on a reactor ---- */

static void records_commands(void)
{
	static struct vhc_trace_record records[TRACE_SIZE];
	static struct scsi_vm vm;
	struct vhc_request_info info;
	struct vring_used_elem used;
	struct vhc_trace *trace;
	uint64_t request, now;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	REQUIRE_EQ(vhc_trace_create(TRACE_SIZE, &trace), 0);
	/* While it runs. */
	REQUIRE_EQ(vhc_ring_set_trace(vm.ring, trace), 0);
	slow_allow(&vm.slow, 2);
	send_read(&vm, 0, 2);
	CHECK(wait_used(&vm, &used));
	send_test(&vm, 1);
	request = next_request(&vm, 0, &info);
	REQUIRE(request != 0);
	complete(request, 0, 2, 0);
	CHECK(wait_used(&vm, &used));
	CHECK_EQ(vhc_ring_set_trace(vm.ring, NULL), 0);
	send_read(&vm, 2, 4);
	CHECK(wait_used(&vm, &used));
	REQUIRE_EQ(vhc_trace_read(trace, records, TRACE_SIZE, &now), 2);
	CHECK_EQ(records[0].op, VHC_OP_READ);
	CHECK_EQ(records[0].offset, 1024);
	CHECK_EQ(records[0].flags & VHC_TRACE_UP, 0);
	CHECK(records[0].address != VHC_TRACE_NOWHERE);
	CHECK_EQ(records[1].address, records[0].address);
	check_order(&records[0]);
	CHECK_EQ(records[1].op, VHC_OP_OTHER);
	CHECK_EQ(records[1].flags & VHC_TRACE_UP, VHC_TRACE_UP);
	CHECK_EQ(records[1].status, 2);
	CHECK_EQ(records[1].submitted, 0);
	CHECK(records[1].completed > records[1].taken);
	CHECK(records[1].published >= records[1].completed);
	vhc_trace_release(trace);
	scsi_vm_destroy(&vm);
}

/* ---- Reading while it is written ---- */

static atomic_bool over;

/* Each record says which one it is by its offset: what was torn would show. */
static void *read_all(void *argument)
{
	static struct vhc_trace_record records[TRACE_SIZE];
	const struct vhc_trace *trace = argument;
	uint64_t seen = 0;
	uint64_t now;

	while (!atomic_load(&over)) {
		int n = vhc_trace_read(trace, records, TRACE_SIZE, &now);

		for (int i = 0; i < n; i++) {
			CHECK_EQ(records[i].offset / 512, records[i].number % 1024);
			CHECK_EQ(records[i].len, 512);
			CHECK(records[i].completed >= records[i].submitted);
			CHECK(i == 0 || records[i].number > records[i - 1].number);
			CHECK(i == 0 || records[i].taken >= records[i - 1].taken);
		}
		seen += (uint64_t)n;
	}
	CHECK(seen > 0);
	return NULL;
}

static void reads_what_is_written(void)
{
	static struct line line;
	struct vhc_bdev *bdev = null_disk();
	struct vring_used_elem used;
	pthread_t reader;
	uint64_t number = 0;

	REQUIRE(line_create(&line, false, bdev));
	atomic_store(&over, false);
	REQUIRE_EQ(pthread_create(&reader, NULL, read_all, line.trace), 0);
	for (uint32_t round = 0; round < 20000; round++) {
		for (uint32_t i = 0; i <= round % 8; i++)
			offer(&line, i, VIRTIO_BLK_T_IN, number++ % 1024, 512);
		queue_poll(line.queue);
		while (guest_used(line.guest, &used))
			;
	}
	atomic_store(&over, true);
	pthread_join(reader, NULL);
	CHECK_EQ(line.trace->ended, number);
	vhc_bdev_release(bdev);
	line_destroy(&line);
}

int main(void)
{
	RUN(records_split_requests);
	RUN(records_packed_requests);
	RUN(records_what_is_refused);
	RUN(keeps_the_last);
	RUN(records_late_requests);
	RUN(checks_its_size);
	RUN(records_commands);
	RUN(reads_what_is_written);
	return check_report();
}
