/* SPDX-License-Identifier: MIT */
/* A block queue that is served in rounds, as a reactor does, and a disk for it. */
#ifndef VHC_CRASH_QUEUE_H
#define VHC_CRASH_QUEUE_H

#include "crash_ring.h"
#include "queue.h"

/* A block reads as its number. */
struct crash_disk {
	struct vhc_bdev bdev;
	struct bdev_channel channel;
	struct crash_world *world;
	uint64_t random, last_number;
	uint32_t at_once; /* ends so many of four in their batch */
	struct io *ios[CRASH_MAX_SIZE];
};

static inline int crash_disk_open(struct vhc_bdev *bdev, struct bdev_channel *base,
				  struct bdev_channel **out)
{
	struct crash_disk *disk = (struct crash_disk *)bdev;

	(void)base;
	disk->channel =
	    (struct bdev_channel){.bdev = bdev, .event_fd = -1, .sync = !bdev->ops->poll};
	*out = &disk->channel;
	return 0;
}

static inline void crash_disk_end(struct crash_disk *disk, struct io *io, enum crash_op op)
{
	const uint64_t number = io->offset / 512;

	if (io->op != VHC_OP_READ || io->len != CRASH_DATA)
		crash_device_wrong(disk->world, "not the driver's request");
	memcpy(io->iov[0].iov_base, &number, 8);
	io->result = 0;
	crash_point(disk->world, op);
	io_complete(io);
}

static inline void crash_disk_submit(struct bdev_channel *channel, struct io *const *ios,
				     uint32_t n)
{
	struct crash_disk *disk = (struct crash_disk *)channel->bdev;

	for (uint32_t i = 0; i < n; i++) {
		crash_in_turn(disk->world, ios[i]->offset / 512, &disk->last_number);
		/* After the last one comes the end of the batch. */
		if (crash_random(&disk->random, 4) < disk->at_once) {
			crash_disk_end(disk, ios[i], i + 1 == n ? OP_LAST : OP_PUSH);
			continue;
		}
		disk->ios[channel->inflight++] = ios[i];
		if (i + 1 == n)
			crash_point(disk->world, OP_LAST);
	}
}

/* Ends some of those that it has, or none. */
static inline uint32_t crash_disk_poll(struct bdev_channel *channel)
{
	struct crash_disk *disk = (struct crash_disk *)channel->bdev;
	uint32_t n = crash_random(&disk->random, channel->inflight + 1);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t pick = crash_random(&disk->random, channel->inflight);
		struct io *io = disk->ios[pick];

		disk->ios[pick] = disk->ios[--channel->inflight];
		crash_disk_end(disk, io, OP_PUSH);
	}
	return n;
}

static const struct bdev_ops crash_now_ops = {
    .name = "now", .channel_open = crash_disk_open, .submit = crash_disk_submit};
static const struct bdev_ops crash_late_ops = {.name = "late",
					       .channel_open = crash_disk_open,
					       .submit = crash_disk_submit,
					       .poll = crash_disk_poll};

static inline void crash_disk_init(struct crash_disk *disk, struct crash_world *w, uint64_t seed,
				   bool now)
{
	disk->world = w;
	disk->random = seed * 2 + 1;
	disk->at_once = now ? 4 : crash_random(&disk->random, 4);
	bdev_init(&disk->bdev, now ? &crash_now_ops : &crash_late_ops, 512, UINT64_C(1) << 40);
}

static inline struct queue *crash_create_queue(struct crash_world *w, struct crash_disk *disk,
					       struct queue_outbox *outbox)
{
	const struct vhc_blk_config config = {.bdev = (uint64_t)(uintptr_t)&disk->bdev};
	struct vhc_blk *blk = NULL;
	struct queue *queue;

	if (vhc_blk_create(&config, &blk))
		crash_device_wrong(w, "no block device");
	queue = queue_create_blk(crash_create_ring(w), blk, NULL, outbox);
	if (!queue)
		crash_device_wrong(w, "no queue");
	queue_set_channel(queue, &disk->channel);
	return queue;
}

/* Once round, as reactor_loop.c has it. Returns whether there was something to do. */
static inline bool crash_queue_turn(struct crash_world *w, struct queue *queue,
				    struct bdev_channel *channel)
{
	bool work;

	crash_point(w, OP_QUEUE);
	work = queue_poll(queue) > 0;
	if (queue->ring->broken)
		crash_device_wrong(w, "the ring is broken: %d", queue->ring->broken);
	queue->touched = NULL;
	queue->own.touched = false;
	if (channel->inflight > 0) {
		crash_point(w, OP_CHANNEL);
		channel->bdev->ops->poll(channel);
		work = true;
	}
	if (queue->is_late) {
		queue->outbox->late = NULL;
		queue->is_late = false;
		crash_point(w, OP_LATE);
		queue_publish(queue);
	}
	return work;
}

static inline void queue_device(struct crash_world *w, uint64_t seed, bool now)
{
	static struct crash_disk disk;
	static struct queue_outbox outbox;
	struct bdev_channel *channel;
	struct queue *queue;

	crash_disk_init(&disk, w, seed, now);
	crash_disk_open(&disk.bdev, NULL, &channel);
	queue = crash_create_queue(w, &disk, &outbox);
	for (;;) {
		if (!crash_queue_turn(w, queue, channel))
			crash_point_idle(w);
	}
}

#endif
