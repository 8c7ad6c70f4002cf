/* SPDX-License-Identifier: MIT */
/*
 * The file backend, in parts: bdev_file.c makes the device, file_channel.c runs
 * its io_uring on one reactor, file_op.c takes one request through its steps,
 * file_worker.c does what can only be done by blocking, file_map.c copies
 * what is in memory already.
 */
#ifndef VHC_FILE_H
#define VHC_FILE_H

#include <liburing.h>

#include "io.h"

/* Requests that one channel has in the kernel at once; more wait their turn. */
#define FILE_OPS 256u
/* Pieces of data that an op can describe by itself. */
#define FILE_OP_IOV 16u
/* Buffers for what direct I/O cannot take as it is; a longer request goes in pieces. */
#define FILE_BOUNCES 16u
#define FILE_BOUNCE_SIZE 131072u

/* Indices of the registered files, for IOSQE_FIXED_FILE. */
#define FILE_BUFFERED 0
#define FILE_DIRECT 1

struct file_worker;
struct file_map;

struct file_bdev {
	struct vhc_bdev bdev;
	int fd;
	int direct_fd;		     /* -1: none */
	struct vhc_file_align align; /* direct_fd's */
	bool readonly;
	bool in_memory;		   /* tmpfs: there is no waiting, only copying */
	bool nowait;		   /* reads can be tried in the page cache */
	atomic_bool no_zero_range; /* learned from the first try */
	atomic_bool no_punch_hole;
	struct file_worker *worker; /* a writable block device's */
	struct file_map *map;	    /* a tmpfs file's, or NULL */
};

/* What an op has asked the kernel, or a thread, for. */
enum file_step {
	FILE_DATA,    /* read or write */
	FILE_FALLOC,  /* fallocate of one range */
	FILE_ZEROES,  /* zeroes written to one range */
	FILE_DISCARD, /* BLKDISCARD of all ranges, on the worker */
	FILE_SYNC,    /* fdatasync */
};

/* A request under way. */
struct file_op {
	struct io *io;
	struct file_channel *channel;
	struct file_op *next; /* in the list that has it */
	uint8_t step;	      /* enum file_step */
	uint8_t file;	      /* FILE_BUFFERED or FILE_DIRECT */
	int32_t result;
	uint32_t range;	 /* of the ranges: the one being done */
	uint64_t done;	 /* bytes of the data, or of that range */
	uint8_t *bounce; /* NULL: not needed */
	struct iovec iov[FILE_OP_IOV];
};

struct file_channel {
	struct bdev_channel base;
	struct file_bdev *file;
	struct io_uring ring;
	struct file_op *free_ops;
	struct io *waiting_head; /* requests without an op, chained by io->backend */
	struct io *waiting_tail;
	uint8_t *bounces; /* the pool, NULL without direct I/O */
	uint8_t *free_bounces[FILE_BOUNCES];
	uint32_t num_free_bounces;
	struct file_op *_Atomic discarded; /* what the worker has ended */
	struct file_op ops[FILE_OPS];
};

/* Runs on the reactor: see bdev_ops. */
int file_channel_open(struct vhc_bdev *bdev, struct bdev_channel *base, struct bdev_channel **out);
void file_channel_close(struct bdev_channel *channel);
void file_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n);
uint32_t file_poll(struct bdev_channel *channel);

/* Takes io's first step. False: no op or no bounce buffer is free. */
bool file_op_start(struct file_channel *channel, struct io *io);

/* Goes on after the kernel or the worker answered. True: it has ended, and op is free again. */
bool file_op_continue(struct file_op *op, int32_t result);

/*
 * A thread that discards ranges of block device fd. Its answer is in
 * channel->discarded, and then channel->base.event_fd is signalled.
 */
int file_worker_create(int fd, struct file_worker **out);
void file_worker_push(struct file_worker *worker, struct file_op *op);
/* Waits until the worker touches no channel that has nothing in flight. */
void file_worker_settle(struct file_worker *worker);
void file_worker_release(struct file_worker *worker);

#endif
