/* SPDX-License-Identifier: MIT */
/* A file on one reactor: its io_uring, and the requests that wait to enter it. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "file.h"
#include "file_map.h"
#include "iov.h"

#define REAP 32u	  /* completions taken at a time */
#define PREFETCH_AHEAD 2u /* requests */

static struct file_channel *channel_of(struct bdev_channel *base)
{
	return (struct file_channel *)base;
}

/* ---- Opening and closing ---- */

/* Completions are worked off when the reactor asks, where the kernel can do that. */
static int init_ring(struct io_uring *ring)
{
	static const unsigned flags[] = {
	    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	    0,
	};
	int err = -EINVAL;
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]) && err == -EINVAL; i++)
		err = io_uring_queue_init(FILE_OPS, ring, flags[i]);
	return err;
}

static int open_ring(struct file_channel *channel)
{
	const int files[] = {channel->file->fd, channel->file->direct_fd};
	int err = init_ring(&channel->ring);
	if (err)
		return err;
	err = io_uring_register_files(&channel->ring, files, 2);
	if (!err)
		err = io_uring_register_eventfd(&channel->ring, channel->base.event_fd);
	if (err)
		io_uring_queue_exit(&channel->ring);
	return err;
}

static int make_bounces(struct file_channel *channel)
{
	if (channel->file->direct_fd < 0)
		return 0;
	void *pool = mmap(NULL, FILE_BOUNCES * FILE_BOUNCE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pool == MAP_FAILED)
		return -ENOMEM;
	channel->bounces = pool;
	for (uint32_t i = 0; i < FILE_BOUNCES; i++)
		channel->free_bounces[i] = channel->bounces + i * FILE_BOUNCE_SIZE;
	channel->num_free_bounces = FILE_BOUNCES;
	return 0;
}

static void free_channel(struct file_channel *channel)
{
	if (channel->base.event_fd >= 0)
		close(channel->base.event_fd);
	if (channel->bounces)
		munmap(channel->bounces, FILE_BOUNCES * FILE_BOUNCE_SIZE);
	free(channel);
}

int file_channel_open(struct vhc_bdev *bdev, struct bdev_channel *base, struct bdev_channel **out)
{
	struct file_channel *channel = calloc(1, sizeof(*channel));
	(void)base;
	if (!channel)
		return -ENOMEM;
	channel->base.bdev = bdev;
	channel->file = (struct file_bdev *)bdev;
	channel->base.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	int err = channel->base.event_fd < 0 ? -errno : make_bounces(channel);
	if (!err)
		err = open_ring(channel);
	if (err) {
		free_channel(channel);
		return err;
	}
	for (uint32_t i = FILE_OPS; i-- > 0;) {
		channel->ops[i].next = channel->free_ops;
		channel->free_ops = &channel->ops[i];
	}
	*out = &channel->base;
	return 0;
}

void file_channel_close(struct bdev_channel *base)
{
	struct file_channel *channel = channel_of(base);
	if (channel->file->worker)
		file_worker_settle(channel->file->worker);
	io_uring_queue_exit(&channel->ring);
	free_channel(channel);
}

/* ---- Requests that need no waiting ---- */

/* Moves the data by plain calls; on tmpfs they only copy. */
static int32_t copy_now(const struct file_bdev *file, const struct io *io)
{
	struct iovec window[FILE_OP_IOV];
	const struct iovec *iov = io->iov;
	int count = io->iovcnt;
	for (uint64_t done = 0;;) {
		off_t at = (off_t)(io->offset + done);
		ssize_t n = io->op == VHC_OP_READ ? preadv(file->fd, iov, count, at)
						  : pwritev(file->fd, iov, count, at);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0) /* the file has been cut short */
			return -EIO;
		done += n > 0 ? (uint64_t)n : 0;
		if (done >= io->len)
			return 0;
		count = (int)iov_window(io->iov, io->iovcnt, done, window, FILE_OP_IOV);
		iov = window;
	}
}

/* A file on tmpfs: there is no waiting, only copying. */
static int32_t end_in_memory(const struct file_bdev *file, const struct io *io)
{
	if (io->op == VHC_OP_FLUSH) {
		file_map_touch(file->map);
		return 0;
	}
	if (file_map_copy(file->map, io))
		return 0;
	int32_t result = copy_now(file, io);
	if (!result && io->op == VHC_OP_WRITE)
		file_map_filled(file->map, io->offset, io->len);
	return result;
}

/* Whether the page cache had all of it. */
static bool read_cached(const struct file_bdev *file, const struct io *io)
{
	ssize_t n = preadv2(file->fd, io->iov, io->iovcnt, (off_t)io->offset, RWF_NOWAIT);
	return n >= 0 && (uint64_t)n == io->len;
}

/* Ends a request that need not enter the ring: true, with its result set. */
static bool end_now(const struct file_bdev *file, struct io *io)
{
	io->result = 0;
	if (file->readonly && io->op != VHC_OP_READ && io->op != VHC_OP_FLUSH) {
		io->result = -EROFS;
		return true;
	}
	if (file->in_memory && io->op != VHC_OP_UNMAP && io->op != VHC_OP_WRITE_ZEROES) {
		io->result = end_in_memory(file, io);
		return true;
	}
	return io->op == VHC_OP_READ && file->nowait && read_cached(file, io);
}

/* ---- The ring ---- */

/* Gives the kernel what was prepared, with one call. */
static void push(struct file_channel *channel)
{
	while (io_uring_sq_ready(&channel->ring)) {
		if (io_uring_submit(&channel->ring) > 0)
			continue;
		/* Short of memory: poll tries again, and the reactor is not to sleep. */
		eventfd_write(channel->base.event_fd, 1);
		return;
	}
}

static void wait_turn(struct file_channel *channel, struct io *io)
{
	io->backend = 0;
	if (channel->waiting_tail)
		channel->waiting_tail->backend = (uintptr_t)io;
	else
		channel->waiting_head = io;
	channel->waiting_tail = io;
}

static void start_waiting(struct file_channel *channel)
{
	struct io *io = channel->waiting_head;
	while (io) {
		struct io *next = (struct io *)(uintptr_t)io->backend;
		if (!file_op_start(channel, io))
			break;
		io = next;
	}
	channel->waiting_head = io;
	if (!io)
		channel->waiting_tail = NULL;
}

void file_submit(struct bdev_channel *base, struct io *const *ios, uint32_t n)
{
	struct file_channel *channel = channel_of(base);
	for (uint32_t i = 0; i < n; i++) {
		if (i + PREFETCH_AHEAD < n)
			file_map_prefetch(channel->file->map, ios[i + PREFETCH_AHEAD]);
		if (end_now(channel->file, ios[i])) {
			io_complete(ios[i]);
			continue;
		}
		base->inflight++;
		if (channel->waiting_head || !file_op_start(channel, ios[i]))
			wait_turn(channel, ios[i]);
	}
	push(channel);
}

static uint32_t reap_ring(struct file_channel *channel)
{
	struct io_uring_cqe *cqes[REAP];
	uint32_t ended = 0;
	unsigned n;
	while ((n = io_uring_peek_batch_cqe(&channel->ring, cqes, REAP)) > 0) {
		for (unsigned i = 0; i < n; i++)
			ended += file_op_continue(io_uring_cqe_get_data(cqes[i]), cqes[i]->res);
		io_uring_cq_advance(&channel->ring, n);
	}
	return ended;
}

static uint32_t reap_worker(struct file_channel *channel)
{
	uint32_t ended = 0;
	if (!atomic_load_explicit(&channel->discarded, memory_order_relaxed))
		return 0;
	struct file_op *op = atomic_exchange(&channel->discarded, NULL);
	while (op) {
		struct file_op *next = op->next; /* before its end, which chains it elsewhere */
		ended += file_op_continue(op, op->result);
		op = next;
	}
	return ended;
}

uint32_t file_poll(struct bdev_channel *base)
{
	struct file_channel *channel = channel_of(base);
	uint32_t ended = reap_ring(channel) + reap_worker(channel);
	if (ended && channel->waiting_head)
		start_waiting(channel);
	push(channel);
	return ended;
}
