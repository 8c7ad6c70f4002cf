/* SPDX-License-Identifier: MIT */
/*
 * What an I/O costs the device: driver and device in one thread, 4 KiB reads.
 *
 *	io_path null|malloc direct|indirect [depth [ios]]
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
#include "test/guest.h"
#include "tick.h"

#define RING_SIZE 1024u
#define MAX_DEPTH 256u
#define DISK_BYTES (UINT64_C(256) << 20)

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

/* Keeps `depth` requests in the ring until ios are done; returns how many failed. */
static uint64_t drive(struct guest *guest, struct queue *queue, const uint16_t *heads,
		      uint32_t depth, uint64_t ios)
{
	uint64_t done = 0;
	uint64_t failed = 0;

	while (done < ios) {
		struct vring_used_elem used;

		for (uint32_t i = 0; i < depth; i++) {
			guest_header(guest, i)->sector = next_random() % (DISK_BYTES / 4096) * 8;
			guest_offer(guest, heads[i]);
		}
		guest_publish(guest);
		for (uint32_t taken = 0; taken < depth;)
			taken += queue_poll(queue);
		for (uint32_t i = 0; guest_used(guest, &used); i++) {
			failed += used.len != 4097 || *guest_status(guest, i) != VIRTIO_BLK_S_OK;
			done++;
		}
	}
	return failed;
}

static int run(struct guest *guest, struct queue *queue, bool indirect, uint32_t depth,
	       uint64_t ios)
{
	uint16_t heads[MAX_DEPTH];
	uint64_t start;
	uint64_t failed;

	for (uint32_t i = 0; i < depth; i++)
		heads[i] = guest_request(guest, i, indirect, VIRTIO_BLK_T_IN, 0, 4096);
	start = tick_now();
	failed = drive(guest, queue, heads, depth, ios);
	printf("%.1f ns per I/O, %llu failed, %llu counted\n",
	       (double)tick_to_ns(tick_now() - start) / (double)ios, (unsigned long long)failed,
	       (unsigned long long)guest->stats->op[VHC_OP_READ].count);
	return failed > 0;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "null";
	bool indirect = argc > 2 && strcmp(argv[2], "indirect") == 0;
	uint32_t depth = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 32;
	uint64_t ios = argc > 4 ? strtoull(argv[4], NULL, 10) : 1000000;
	struct vhc_blk_config config = {0};
	struct queue *late = NULL;
	struct bdev_channel *channel;
	struct queue *queue;
	struct vhc_blk *blk;
	struct guest guest;
	uint64_t bdev_stats;

	config.bdev = (uint64_t)(uintptr_t)make_disk(kind);
	config.features = UINT64_C(1) << VIRTIO_BLK_F_FLUSH;
	if (depth == 0 || depth > MAX_DEPTH || !config.bdev || !guest_create(&guest, RING_SIZE) ||
	    vhc_blk_create(&config, &blk) || vhc_stats_alloc(&bdev_stats)) {
		fprintf(stderr, "io_path: cannot set up\n");
		return 1;
	}
	queue = queue_create(guest_ring(&guest, GUEST_INDIRECT | GUEST_EVENT_IDX), blk,
			     (struct vhc_stats *)(uintptr_t)bdev_stats, &late);
	if (!queue || blk->bdev->ops->channel_open(blk->bdev, &channel)) {
		fprintf(stderr, "io_path: cannot set up\n");
		return 1;
	}
	queue_set_channel(queue, channel);
	return run(&guest, queue, indirect, depth, ios);
}
