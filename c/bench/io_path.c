/* SPDX-License-Identifier: MIT */
/*
 * What an I/O costs the device: driver and device in one thread, 4 KiB reads.
 *
 *	io_path null|malloc direct|indirect [depth [ios [blk|scsi]]]
 *
 * prints nanoseconds per I/O for both sides together. For the instructions of
 * the device alone, a figure that repeats, count them in its poll function and
 * divide by the number of I/Os:
 *
 *	valgrind --tool=callgrind --toggle-collect=queue_poll \
 *		--callgrind-out-file=/dev/null io_path null direct 32 100000
 */
#include <stdio.h>

#include "queue.h"
#include "scsi_queue.h"
#include "test/scsi_guest.h"
#include "tick.h"

#define RING_SIZE 1024u
#define MAX_DEPTH 256u
#define DISK_BYTES (UINT64_C(256) << 20)
#define DISK_ADDRESS VHC_LUN_ADDRESS(0, 0)

/* A run: a device, and a driver that keeps depth requests in its ring. */
struct run {
	bool scsi;
	bool indirect;
	uint32_t depth;
	uint64_t ios;
	struct guest guest;
	struct queue_outbox outbox;
	struct queue *queue;
	uint16_t heads[MAX_DEPTH];
};

static uint32_t next_random(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

static struct vhc_bdev *make_disk(const char *kind)
{
	struct vhc_bdev *bdev = NULL;
	struct vhc_pages pages;

	if (strcmp(kind, "null") == 0)
		return vhc_bdev_null_create(512, DISK_BYTES / 512, &bdev) ? NULL : bdev;
	if (vhc_pages_alloc(DISK_BYTES, 0, -1, -1, VHC_PAGES_FALLBACK, &pages))
		return NULL;
	memset((void *)(uintptr_t)pages.addr, 1, DISK_BYTES);
	return vhc_bdev_malloc_create(&pages, 512, DISK_BYTES / 512, &bdev) ? NULL : bdev;
}

/* ---- The device ---- */

static struct queue *make_blk(struct run *run, struct vhc_ring *ring, struct vhc_bdev *bdev,
			      struct vhc_stats *stats, struct bdev_channel *channel)
{
	struct vhc_blk_config config = {.bdev = (uint64_t)(uintptr_t)bdev,
					.features = UINT64_C(1) << VIRTIO_BLK_F_FLUSH};
	struct queue *queue;
	struct vhc_blk *blk;

	if (vhc_blk_create(&config, &blk))
		return NULL;
	queue = queue_create_blk(ring, blk, stats, &run->outbox);
	if (queue)
		queue_set_channel(queue, channel);
	return queue;
}

static struct queue *make_scsi(struct run *run, struct vhc_ring *ring, struct vhc_bdev *bdev,
			       struct vhc_stats *stats, struct bdev_channel *channel)
{
	const struct vhc_scsi_config config = {.cdb_size = 32, .sense_size = 96};
	const struct vhc_lun_config unit = {
	    .bdev = (uint64_t)(uintptr_t)bdev, .writeback = 1, .max_blocks = UINT32_MAX};
	struct queue *queue = queue_create_scsi(ring, &config, &run->outbox);
	struct vhc_lun *lun;
	struct lane *lane;

	if (!queue || vhc_lun_create(&unit, &lun) ||
	    scsi_add_lane(queue, DISK_ADDRESS, lun, stats, &lane))
		return NULL;
	lane_set_channel(lane, channel);
	return queue;
}

static bool make_device(struct run *run, const char *kind)
{
	struct vhc_bdev *bdev = make_disk(kind);
	struct bdev_channel *channel;
	struct vhc_ring *ring;
	struct vhc_stats *stats;
	uint64_t addr;

	if (!bdev || !guest_create(&run->guest, RING_SIZE) || vhc_stats_alloc(&addr) ||
	    bdev->ops->channel_open(bdev, &channel))
		return false;
	ring = guest_ring(&run->guest, GUEST_INDIRECT | GUEST_EVENT_IDX);
	stats = (struct vhc_stats *)(uintptr_t)addr;
	if (!ring)
		return false;
	run->queue = run->scsi ? make_scsi(run, ring, bdev, stats, channel)
			       : make_blk(run, ring, bdev, stats, channel);
	return run->queue != NULL;
}

/* ---- The driver ---- */

static uint16_t make_request(struct run *run, uint32_t i)
{
	if (!run->scsi)
		return guest_request(&run->guest, i, run->indirect, VIRTIO_BLK_T_IN, 0, 4096);
	guest_cdb_10(guest_set_command(&run->guest, i, 0, 0)->cdb, 0x28, 0, 8);
	return guest_chain(&run->guest, i, run->indirect, 0, 4096);
}

static void aim(struct run *run, uint32_t i)
{
	uint32_t sector = next_random() % (DISK_BYTES / 4096) * 8;

	if (run->scsi)
		guest_put32(guest_command(&run->guest, i)->cdb + 2, sector);
	else
		guest_header(&run->guest, i)->sector = sector;
}

static bool succeeded(struct run *run, uint32_t i, uint32_t written)
{
	const struct virtio_scsi_cmd_resp *response = guest_response(&run->guest, i);

	if (run->scsi)
		return written == SCSI_GUEST_RESPONSE + 4096 && !response->response &&
		       !response->status && !response->resid;
	return written == 4097 && *guest_status(&run->guest, i) == VIRTIO_BLK_S_OK;
}

/* Returns how many failed. */
static uint64_t drive(struct run *run)
{
	uint64_t done = 0;
	uint64_t failed = 0;

	while (done < run->ios) {
		struct vring_used_elem used;

		for (uint32_t i = 0; i < run->depth; i++) {
			aim(run, i);
			guest_offer(&run->guest, run->heads[i]);
		}
		guest_publish(&run->guest);
		for (uint32_t taken = 0; taken < run->depth;)
			taken += queue_poll(run->queue);
		for (uint32_t i = 0; guest_used(&run->guest, &used); i++) {
			failed += !succeeded(run, i, used.len);
			done++;
		}
	}
	return failed;
}

int main(int argc, char **argv)
{
	struct run run = {
	    .indirect = argc > 2 && strcmp(argv[2], "indirect") == 0,
	    .depth = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 32,
	    .ios = argc > 4 ? strtoull(argv[4], NULL, 10) : 1000000,
	    .scsi = argc > 5 && strcmp(argv[5], "scsi") == 0,
	};
	uint64_t start, failed;

	if (run.depth == 0 || run.depth > (run.scsi ? RING_SIZE / 4 : MAX_DEPTH) ||
	    !make_device(&run, argc > 1 ? argv[1] : "null")) {
		fprintf(stderr, "io_path: cannot set up\n");
		return 1;
	}
	for (uint32_t i = 0; i < run.depth; i++)
		run.heads[i] = make_request(&run, i);
	start = tick_now();
	failed = drive(&run);
	printf("%.1f ns per I/O, %llu failed, %llu counted\n",
	       (double)tick_to_ns(tick_now() - start) / (double)run.ios, (unsigned long long)failed,
	       (unsigned long long)run.guest.stats->op[VHC_OP_READ].count);
	return failed > 0;
}
