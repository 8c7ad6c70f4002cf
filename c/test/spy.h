/* SPDX-License-Identifier: MIT */
/* A backend that remembers what it is asked, behind a queue on a guest, for tests of requests. */
#ifndef VHC_TEST_SPY_H
#define VHC_TEST_SPY_H

#include "blk.h"
#include "guest.h"
#include "queue.h"

#define SIZE 512u
#define BLOCKS 1024u /* of 512 bytes: half a MiB */
#define FEATURE(bit) (UINT64_C(1) << VIRTIO_BLK_F_##bit)
#define ALL_FEATURES (FEATURE(FLUSH) | FEATURE(DISCARD) | FEATURE(WRITE_ZEROES))

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE

/* A backend that remembers what it was last asked and answers as it is told. */
struct spy {
	struct vhc_bdev bdev;
	struct bdev_channel channel;
	uint32_t asked;
	struct io last;
	struct io_range ranges[VHC_CHAIN_MAX_IOV];
	int32_t result;
	bool hold; /* asynchronous: keeps what it is asked until spy_end */
	struct io *held[SIZE];
	uint32_t num_held;
};

static inline int spy_open(struct vhc_bdev *bdev, struct bdev_channel *base,
			   struct bdev_channel **out)
{
	struct spy *spy = (struct spy *)bdev;

	(void)base;
	spy->channel =
	    (struct bdev_channel){.bdev = bdev, .event_fd = -1, .sync = !bdev->ops->poll};
	*out = &spy->channel;
	return 0;
}

static inline void spy_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	struct spy *spy = (struct spy *)channel->bdev;

	for (uint32_t i = 0; i < n; i++) {
		spy->asked++;
		spy->last = *ios[i];
		if (ios[i]->op == VHC_OP_UNMAP || ios[i]->op == VHC_OP_WRITE_ZEROES)
			memcpy(spy->ranges, ios[i]->ranges,
			       ios[i]->iovcnt * sizeof(struct io_range));
		ios[i]->result = spy->result;
		if (spy->hold)
			spy->held[spy->num_held++] = ios[i];
		else
			io_complete(ios[i]);
	}
}

static inline uint32_t spy_poll(struct bdev_channel *channel)
{
	(void)channel;
	return 0;
}

static const struct bdev_ops spy_ops = {
    .name = "spy", .channel_open = spy_open, .submit = spy_submit};
static const struct bdev_ops async_spy_ops = {
    .name = "spy", .channel_open = spy_open, .submit = spy_submit, .poll = spy_poll};

/* A guest, its queue on a spy, and the last answer. */
struct rig {
	struct guest guest;
	struct spy spy;
	struct vhc_blk *blk;
	struct vhc_ring *ring;
	struct queue *queue;
	struct queue_outbox outbox;
	struct vhc_stats *bdev_stats;
	struct vring_used_elem used;
};

static inline struct vhc_blk_config config_of(struct rig *rig, uint64_t features)
{
	return (struct vhc_blk_config){.bdev = (uint64_t)(uintptr_t)&rig->spy.bdev,
				       .features = features,
				       .max_discard_sectors = 256,
				       .max_discard_segments = 16,
				       .max_write_zeroes_sectors = 128,
				       .max_write_zeroes_segments = 8,
				       .serial = "serial-of-20-bytes-x"};
}

static inline bool rig_open(struct rig *rig, const struct vhc_blk_config *config)
{
	struct bdev_channel *channel;
	uint64_t bdev_stats;

	if (!guest_create(&rig->guest, SIZE) || vhc_blk_create(config, &rig->blk) ||
	    vhc_stats_alloc(&bdev_stats))
		return false;
	rig->bdev_stats = (struct vhc_stats *)(uintptr_t)bdev_stats;
	rig->ring = guest_ring(&rig->guest, GUEST_INDIRECT);
	if (!rig->ring)
		return false;
	rig->queue = queue_create_blk(rig->ring, rig->blk, rig->bdev_stats, &rig->outbox);
	if (!rig->queue)
		return false;
	if (config->bdev && rig->spy.bdev.ops->channel_open(&rig->spy.bdev, NULL, &channel) == 0)
		queue_set_channel(rig->queue, channel);
	return true;
}

static inline bool rig_create_blocks(struct rig *rig, uint64_t features, uint32_t block_size)
{
	struct vhc_blk_config config;

	*rig = (struct rig){0};
	bdev_init(&rig->spy.bdev, &spy_ops, block_size, BLOCKS * 512 / block_size);
	config = config_of(rig, features);
	return rig_open(rig, &config);
}

static inline bool rig_create(struct rig *rig, uint64_t features)
{
	return rig_create_blocks(rig, features, 512);
}

static inline void rig_destroy(struct rig *rig)
{
	queue_destroy(rig->queue);
	vhc_ring_release(rig->ring);
	vhc_blk_release(rig->blk);
	CHECK_EQ(rig->bdev_stats->inflight, 0);
	vhc_stats_free((uint64_t)(uintptr_t)rig->bdev_stats);
	guest_destroy(&rig->guest);
}

/* Offers a chain, serves it, and returns whether it came back. */
static inline bool serve(struct rig *rig, uint16_t head)
{
	guest_offer(&rig->guest, head);
	guest_publish(&rig->guest);
	CHECK_EQ(queue_poll(rig->queue), 1);
	return guest_used(&rig->guest, &rig->used) && rig->used.id == head;
}

/* Serves a request in three descriptors; its status, or -1 if it was lost. */
static inline int request_len(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len)
{
	if (!serve(rig, guest_request(&rig->guest, 0, false, type, sector, len)))
		return -1;
	return *guest_status(&rig->guest, 0);
}

static inline int request(struct rig *rig, uint32_t type, uint64_t sector)
{
	return request_len(rig, type, sector, 4096);
}

#endif
