/* SPDX-License-Identifier: MIT */
/*
 * What an I/O costs the device: driver and device in one thread, 4 KiB reads.
 *
 *	io_path null|malloc direct|indirect [depth [ios [blk|scsi [WITH...]]]]
 *
 * with packed: a packed ring; inflight: requests tracked for a restart; log: writes
 * logged for a migration; trace: the last 256 requests recorded
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
#include "test/packed_guest.h"
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
	bool packed;
	bool inflight;
	bool log;
	bool trace;
	uint32_t depth;
	uint64_t ios;
	struct guest *guest;
	struct packed_guest pg; /* with the guest, of either kind of ring */
	struct queue_outbox outbox;
	struct queue *queue;
	uint16_t heads[MAX_DEPTH];
	struct vring_desc chains[MAX_DEPTH][4]; /* packed */
	uint32_t lengths[MAX_DEPTH];
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

/* A region for a ring of its own. */
static bool add_inflight(struct run *run, struct vhc_ring_config *config)
{
	struct vhc_inflight_config region = {
	    .num_queues = 1, .queue_size = RING_SIZE, .packed = run->packed};
	struct vhc_inflight *inflight;

	region.size = (uint64_t)vhc_inflight_bytes(1, RING_SIZE, run->packed);
	region.fd = memfd_create("inflight", MFD_CLOEXEC);
	if (region.fd < 0 || ftruncate(region.fd, (off_t)region.size) ||
	    vhc_inflight_create(&region, &inflight))
		return false;
	config->inflight = (uint64_t)(uintptr_t)inflight;
	return true;
}

static bool add_log(struct run *run, struct vhc_ring_config *config)
{
	uint64_t bytes = (GUEST_GPA + GUEST_BYTES) / 4096 / 8;
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct vhc_log *log;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) || vhc_log_create(fd, 0, bytes, -1, &log))
		return false;
	config->log = (uint64_t)(uintptr_t)log;
	config->log_used = guest_gpa(run->guest, run->guest->used);
	return true;
}

static bool add_trace(struct vhc_ring *ring)
{
	struct vhc_trace *trace;

	if (vhc_trace_create(256, &trace) || vhc_ring_set_trace(ring, trace))
		return false;
	vhc_trace_release(trace);
	return true;
}

static struct vhc_ring *make_ring(struct run *run)
{
	const uint64_t features = GUEST_INDIRECT | GUEST_EVENT_IDX;
	struct vhc_ring_config config = run->packed ? packed_guest_config(&run->pg, features)
						    : guest_ring_config(run->guest, features);
	struct vhc_ring *ring = NULL;

	if ((run->inflight && !add_inflight(run, &config)) || (run->log && !add_log(run, &config)))
		return NULL;
	if (vhc_ring_create(&config, &ring) || (run->trace && !add_trace(ring)))
		return NULL;
	return ring;
}

static bool make_guest(struct run *run)
{
	run->guest = &run->pg.guest;
	return run->packed ? packed_guest_create(&run->pg, RING_SIZE)
			   : guest_create(run->guest, RING_SIZE);
}

static bool make_device(struct run *run, const char *kind)
{
	struct vhc_bdev *bdev = make_disk(kind);
	struct bdev_channel *channel;
	struct vhc_ring *ring;
	struct vhc_stats *stats;
	uint64_t addr;

	if (!bdev || !make_guest(run) || vhc_stats_alloc(&addr) ||
	    bdev->ops->channel_open(bdev, NULL, &channel))
		return false;
	ring = make_ring(run);
	stats = (struct vhc_stats *)(uintptr_t)addr;
	if (!ring)
		return false;
	run->queue = run->scsi ? make_scsi(run, ring, bdev, stats, channel)
			       : make_blk(run, ring, bdev, stats, channel);
	return run->queue != NULL;
}

/* ---- The driver ---- */

/* Writes request i; split: to the table, packed: to its chain. */
static void make_request(struct run *run, uint32_t i)
{
	struct guest *guest = run->guest;

	if (run->scsi)
		guest_cdb_10(guest_set_command(guest, i, 0, 0)->cdb, 0x28, 0, 8);
	if (run->packed && run->scsi)
		run->lengths[i] = packed_command(guest, i, run->indirect, 0, 4096, run->chains[i]);
	else if (run->packed)
		run->lengths[i] = packed_request(guest, i, run->indirect, VIRTIO_BLK_T_IN, 0, 4096,
						 run->chains[i]);
	else if (run->scsi)
		run->heads[i] = guest_chain(guest, i, run->indirect, 0, 4096);
	else
		run->heads[i] = guest_request(guest, i, run->indirect, VIRTIO_BLK_T_IN, 0, 4096);
}

static void offer(struct run *run, uint32_t i)
{
	if (run->packed)
		packed_offer(&run->pg, run->chains[i], run->lengths[i], (uint16_t)i);
	else
		guest_offer(run->guest, run->heads[i]);
}

static bool next_used(struct run *run, struct vring_used_elem *used)
{
	return run->packed ? packed_used(&run->pg, used) : guest_used(run->guest, used);
}

static void aim(struct run *run, uint32_t i)
{
	uint32_t sector = next_random() % (DISK_BYTES / 4096) * 8;

	if (run->scsi)
		guest_put32(guest_command(run->guest, i)->cdb + 2, sector);
	else
		guest_header(run->guest, i)->sector = sector;
}

static bool succeeded(struct run *run, uint32_t i, uint32_t written)
{
	const struct virtio_scsi_cmd_resp *response = guest_response(run->guest, i);

	if (run->scsi)
		return written == SCSI_GUEST_RESPONSE + 4096 && !response->response &&
		       !response->status && !response->resid;
	return written == 4097 && *guest_status(run->guest, i) == VIRTIO_BLK_S_OK;
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
			offer(run, i);
		}
		if (!run->packed)
			guest_publish(run->guest);
		for (uint32_t taken = 0; taken < run->depth;)
			taken += queue_poll(run->queue);
		for (uint32_t i = 0; next_used(run, &used); i++) {
			failed += !succeeded(run, i, used.len);
			done++;
		}
	}
	return failed;
}

static bool says(int argc, char **argv, const char *word)
{
	for (int i = 5; i < argc; i++)
		if (strcmp(argv[i], word) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static struct run run;
	uint64_t start, failed;

	run.indirect = argc > 2 && strcmp(argv[2], "indirect") == 0;
	run.depth = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 32;
	run.ios = argc > 4 ? strtoull(argv[4], NULL, 10) : 1000000;
	run.scsi = says(argc, argv, "scsi");
	run.packed = says(argc, argv, "packed");
	run.inflight = says(argc, argv, "inflight");
	run.log = says(argc, argv, "log");
	run.trace = says(argc, argv, "trace");
	if (run.depth == 0 || run.depth > (run.scsi ? RING_SIZE / 4 : MAX_DEPTH) ||
	    !make_device(&run, argc > 1 ? argv[1] : "null")) {
		fprintf(stderr, "io_path: cannot set up\n");
		return 1;
	}
	for (uint32_t i = 0; i < run.depth; i++)
		make_request(&run, i);
	start = tick_now();
	failed = drive(&run);
	printf("%.1f ns per I/O, %llu failed, %llu counted\n",
	       (double)tick_to_ns(tick_now() - start) / (double)run.ios, (unsigned long long)failed,
	       (unsigned long long)run.guest->stats->op[VHC_OP_READ].count);
	return failed > 0;
}
