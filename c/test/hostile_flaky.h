/* SPDX-License-Identifier: MIT */
/*
 * A disk that ends requests in its own time, in their order, and fails those that
 * touch its last blocks: what a backend does to a device, at will.
 */
#ifndef VHC_HOSTILE_FLAKY_H
#define VHC_HOSTILE_FLAKY_H

#include <string.h>

#include "io.h"

#define FLAKY_INFLIGHT 256u

struct flaky {
	struct vhc_bdev bdev;
	uint8_t *data;
	uint64_t good;	   /* bytes; what lies beyond fails */
	atomic_uint polls; /* that a request takes */
};

struct flaky_channel {
	struct bdev_channel base;
	struct io *ios[FLAKY_INFLIGHT];
	uint32_t first, polled;
};

static inline int flaky_open(struct vhc_bdev *bdev, struct bdev_channel *base,
			     struct bdev_channel **out)
{
	(void)base;
	struct flaky_channel *channel = calloc(1, sizeof(*channel));
	if (!channel)
		return -ENOMEM;
	channel->base.bdev = bdev;
	channel->base.event_fd = -1;
	*out = &channel->base;
	return 0;
}

static inline void flaky_close(struct bdev_channel *channel)
{
	free(channel);
}

static inline void flaky_submit(struct bdev_channel *base, struct io *const *ios, uint32_t n)
{
	struct flaky_channel *channel = (struct flaky_channel *)base;
	for (uint32_t i = 0; i < n; i++)
		channel->ios[(channel->first + base->inflight++) % FLAKY_INFLIGHT] = ios[i];
}

static inline void flaky_copy(const struct flaky *disk, const struct io *io)
{
	uint8_t *at = disk->data + io->offset;
	uint64_t left = io->len;
	for (uint32_t i = 0; i < io->iovcnt && left; i++) {
		const uint64_t n = io->iov[i].iov_len < left ? io->iov[i].iov_len : left;
		if (io->op == VHC_OP_READ)
			memcpy(io->iov[i].iov_base, at, n);
		else
			memcpy(at, io->iov[i].iov_base, n);
		at += n;
		left -= n;
	}
}

static inline int flaky_execute(const struct flaky *disk, const struct io *io)
{
	const bool ranges = io->op == VHC_OP_UNMAP || io->op == VHC_OP_WRITE_ZEROES;
	if (io->op == VHC_OP_FLUSH)
		return 0;
	if (!ranges && io->offset + io->len > disk->good)
		return -EIO;
	for (uint32_t i = 0; ranges && i < io->iovcnt; i++) {
		if (io->ranges[i].offset + io->ranges[i].len > disk->good)
			return -EIO;
	}
	for (uint32_t i = 0; ranges && i < io->iovcnt; i++)
		memset(disk->data + io->ranges[i].offset, 0, io->ranges[i].len);
	if (!ranges)
		flaky_copy(disk, io);
	return 0;
}

static inline uint32_t flaky_poll(struct bdev_channel *base)
{
	struct flaky_channel *channel = (struct flaky_channel *)base;
	struct flaky *disk = (struct flaky *)base->bdev;
	if (channel->polled++ < atomic_load(&disk->polls))
		return 0;
	channel->polled = 0;
	struct io *io = channel->ios[channel->first];
	channel->first = (channel->first + 1) % FLAKY_INFLIGHT;
	base->inflight--;
	io->result = flaky_execute(disk, io);
	io_complete(io);
	return 1;
}

static inline void flaky_destroy(struct vhc_bdev *bdev)
{
	free(bdev);
}

static const struct bdev_ops flaky_ops = {
    .name = "flaky",
    .channel_open = flaky_open,
    .channel_close = flaky_close,
    .submit = flaky_submit,
    .poll = flaky_poll,
    .destroy = flaky_destroy,
};

/* Over memory that is the caller's. */
static inline struct flaky *flaky_create(uint8_t *data, uint64_t bytes, uint64_t good)
{
	struct flaky *disk = calloc(1, sizeof(*disk));
	if (!disk)
		return NULL;
	bdev_init(&disk->bdev, &flaky_ops, 512, bytes / 512);
	disk->data = data;
	disk->good = good;
	return disk;
}

#endif
