/* SPDX-License-Identifier: MIT */
#include "direct.h"

#include <errno.h>
#include <stdlib.h>

#include "reactor.h"
#include "tick.h"

struct direct_io {
	struct reactor_message message; /* the way to the reactor */
	struct direct_io *next;		/* under way, or done */
	struct direct_io **at;		/* which leads to it while it is under way */
	struct vhc_reactor *reactor;
	struct vhc_bdev *bdev;
	struct lane lane;
	uint32_t id;
	bool apart; /* its channel is given back, and it is counted */
	struct io io;
};

/* ---- Asking for it ---- */

static int check(const struct vhc_io_config *config, const struct vhc_bdev *bdev)
{
	uint64_t size =
	    atomic_load_explicit(&bdev->num_blocks, memory_order_relaxed) * bdev->block_size;
	bool data = config->op == VHC_OP_READ || config->op == VHC_OP_WRITE;

	if (config->op >= VHC_OP_OTHER || (config->flags & ~(VHC_IO_DURABLE | VHC_IO_MAY_UNMAP)))
		return -EINVAL;
	if (config->op == VHC_OP_FLUSH)
		return config->len ? -EINVAL : 0;
	if (config->len == 0 || (data && (config->len > IO_MAX_BYTES || !config->addr)) ||
	    (config->offset | config->len) & (bdev->block_size - 1))
		return -EINVAL;
	if (config->offset > size || config->len > size - config->offset)
		return -ERANGE;
	return 0;
}

static void fill(struct io *io, const struct vhc_io_config *config)
{
	bool writes = config->op == VHC_OP_WRITE || config->op == VHC_OP_WRITE_ZEROES;

	io->op = (uint8_t)config->op;
	if (writes && (config->flags & VHC_IO_DURABLE))
		io->flags |= IO_DURABLE;
	if (config->op == VHC_OP_WRITE_ZEROES && (config->flags & VHC_IO_MAY_UNMAP))
		io->flags |= IO_MAY_UNMAP;
	io->iov = io->inline_iov;
	if (config->op == VHC_OP_FLUSH)
		return;
	io->iovcnt = 1;
	io->offset = config->offset;
	io->len = config->len;
	if (config->op == VHC_OP_READ || config->op == VHC_OP_WRITE)
		io->iov[0] = (struct iovec){.iov_base = (void *)(uintptr_t)config->addr,
					    .iov_len = config->len};
	else
		io->ranges[0] = (struct io_range){.offset = config->offset, .len = config->len};
}

int vhc_io_submit(struct vhc_reactor *reactor, const struct vhc_io_config *config)
{
	struct vhc_bdev *bdev = (struct vhc_bdev *)(uintptr_t)config->bdev;
	struct direct_io *direct;
	int result = check(config, bdev);

	if (result)
		return result;
	direct = aligned_alloc(64, (sizeof(*direct) + 63) / 64 * 64);
	if (!direct)
		return -ENOMEM;
	*direct = (struct direct_io){.reactor = reactor, .bdev = bdev, .id = config->id};
	direct->message.request = REACTOR_DIRECT_IO;
	direct->message.direct = direct;
	direct->lane.end = LANE_DIRECT;
	direct->lane.stats = (struct vhc_stats *)(uintptr_t)config->stats;
	direct->io.lane = &direct->lane;
	fill(&direct->io, config);
	bdev_ref(bdev);
	atomic_fetch_add(&reactor->num_ios, 1);
	reactor_post(reactor, &direct->message);
	return 0;
}

int vhc_io_cancel(struct vhc_reactor *reactor, uint32_t id)
{
	struct reactor_message message = {.request = REACTOR_CANCEL_IO, .io = id};

	return reactor_post_and_wait(reactor, &message);
}

/* ---- Doing it ---- */

static void link_under_way(struct direct_io *direct)
{
	struct direct_io **first = &direct->reactor->under_way;

	direct->next = *first;
	direct->at = first;
	if (*first)
		(*first)->at = &direct->next;
	*first = direct;
}

static void unlink_under_way(struct direct_io *direct)
{
	*direct->at = direct->next;
	if (direct->next)
		direct->next->at = direct->at;
}

void direct_submit(struct vhc_reactor *reactor, struct direct_io *direct)
{
	struct io *io = &direct->io;
	int result = reactor_get_channel(reactor, direct->bdev, &direct->lane.reactor_channel);

	io->start = tick_now();
	link_under_way(direct);
	lane_count_inflight(direct->lane.stats, 1);
	if (result) {
		io->result = result;
		direct_end(io);
		return;
	}
	direct->lane.channel = direct->lane.reactor_channel->channel;
	direct->lane.channel->bdev->ops->submit(direct->lane.channel, &io, 1);
	reactor_note_busy(reactor, direct->lane.reactor_channel);
}

void direct_end(struct io *io)
{
	struct direct_io *direct =
	    (struct direct_io *)((uint8_t *)io - offsetof(struct direct_io, io));
	struct vhc_reactor *reactor = direct->reactor;

	unlink_under_way(direct);
	direct->next = NULL;
	*reactor->done_end = direct;
	reactor->done_end = &direct->next;
}

int direct_cancel(struct vhc_reactor *reactor, uint32_t id)
{
	struct direct_io *direct = reactor->under_way;
	struct io_pick pick = {0};

	while (direct && direct->id != id)
		direct = direct->next;
	if (!direct)
		return -ENOENT;
	pick.from = &direct->lane;
	channel_cancel(direct->lane.channel, &direct->lane, &pick);
	return 0;
}

/* Not where it ended: that may be in the midst of polling the channel. */
static void take_apart(struct vhc_reactor *reactor, struct direct_io *direct)
{
	if (direct->apart)
		return;
	direct->apart = true;
	lane_count_inflight(direct->lane.stats, -1);
	lane_count_one(direct->lane.stats, &direct->io, tick_to_ns(tick_now() - direct->io.start));
	if (direct->lane.reactor_channel)
		reactor_put_channel(reactor, direct->lane.reactor_channel);
	vhc_bdev_release(direct->bdev);
}

void direct_finish(struct vhc_reactor *reactor)
{
	struct direct_io *direct;

	while ((direct = reactor->done)) {
		const struct upcall_event event = {
		    .type = VHC_UPCALL_IO_DONE, .id = direct->id, .status = direct->io.result};

		take_apart(reactor, direct);
		/* The count goes first: whoever hears of it may release the reactor. */
		atomic_fetch_sub(&reactor->num_ios, 1);
		if (upcall_post(reactor->upcalls, &event, NULL, 0, NULL, 0)) {
			atomic_fetch_add(&reactor->num_ios, 1);
			return;
		}
		reactor->done = direct->next;
		if (!reactor->done)
			reactor->done_end = &reactor->done;
		free(direct);
	}
}
