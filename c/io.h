/* SPDX-License-Identifier: MIT */
/* One request on its way from a ring through a backend and back. */
#ifndef VHC_IO_H
#define VHC_IO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "vhostctl.h"

struct lane;

#define IO_INLINE_IOV 4u
/* A chain's pieces, two of which may be cut in two. */
#define IO_LARGE_IOV (VHC_CHAIN_MAX_IOV + 2u)

/* Most data of a READ or WRITE: what every system call moves whole. */
#define IO_MAX_BYTES (1u << 30)

/* WRITE, WRITE_ZEROES: must be durable when it completes (write-through). */
#define IO_DURABLE (1u << 0)
/* WRITE_ZEROES may give the space back to the system. */
#define IO_MAY_UNMAP (1u << 1)

/* Its pieces or ranges are in an array of their own (io_large_iov). */
#define IO_LARGE (1u << 2)

/* The frontend's: there is more about it in its task (task.h). */
#define IO_TASK (1u << 3)

/* A range of the device, in bytes; UNMAP and WRITE_ZEROES have iovcnt of them. */
struct io_range {
	uint64_t offset;
	uint64_t len;
};
_Static_assert(sizeof(struct io_range) == sizeof(struct iovec), "they share the array");
_Static_assert(sizeof(struct vhc_iov) == sizeof(struct iovec), "they share the array");

/* An op, flags and iovcnt as they lie in struct io, to be set with one store. */
static inline uint32_t io_kind(uint8_t op, uint8_t flags, uint16_t iovcnt)
{
	return op | (uint32_t)flags << 8 | (uint32_t)iovcnt << 16;
}

/*
 * A slot of the queue's array, two cache lines. The frontend fills it in,
 * checked: backends never see a range outside the device, an empty one, or one
 * that is not a multiple of its block.
 */
struct io {
	union {
		struct {
			uint8_t op;	 /* enum vhc_op */
			uint8_t flags;	 /* IO_* */
			uint16_t iovcnt; /* pieces of data, or ranges: 1..VHC_CHAIN_MAX_IOV;
					    FLUSH: 0 */
		};
		uint32_t kind; /* the three together: see io_kind */
	};
	int32_t result;	 /* 0 or -errno, set by the backend before io_complete */
	uint64_t offset; /* bytes from the start of the device; of ranges, the first's; FLUSH: 0 */
	uint64_t len;	 /* bytes in all; FLUSH: 0 */
	union {
		struct iovec *iov;	 /* READ, WRITE */
		struct io_range *ranges; /* UNMAP, WRITE_ZEROES */
	};
	struct lane *lane;
	uint64_t start;	  /* tick at which it was taken, or submitted if that was later */
	uint64_t backend; /* the backend's to use while it has the request */
	uint8_t
	    *status; /* the frontend's: where the status goes, or NULL; backends may prefetch it */
	struct iovec inline_iov[IO_INLINE_IOV];
};

/* Ends a request: to be called once for each, on the reactor thread that submitted it. */
void io_complete(struct io *io);

/* Points a request that has only its inline pieces at an array of IO_LARGE_IOV. */
void io_large_iov(struct io *io);

/* When a channel is due for which only its base's ends are something to do. */
#define CHANNEL_NEVER_DUE UINT64_MAX

/* A backend's state on one reactor: no lock is ever needed in it. */
struct bdev_channel {
	struct vhc_bdev *bdev;
	uint32_t inflight; /* submitted and not completed; the backend counts */
	int event_fd;	   /* signalled at each completion, waited for edge-triggered and never
			      read by the reactor; -1: none, the channel is polled */
	bool sync;	   /* every request ends within submit: they are counted in batches */
	/*
	 * While inflight > 0: tick at which poll wants to be called though nothing signals, and
	 * without event_fd not before. 0: none.
	 */
	uint64_t due;

	/* The reactor's, set after channel_open. */
	struct bdev_channel *base; /* to the bdev that this one stacks on, or NULL */
	struct vhc_stats *stats;   /* of a bdev that others stack on, on this reactor, or NULL */
};

/* Which requests are meant: those that come from a lane, through whatever stacks there are. */
struct io_pick {
	const struct lane *from;
	/* Of those: it sees the requests as that lane has them. NULL: all. */
	bool (*wanted)(const struct io *io);
};

bool io_is_picked(const struct io_pick *pick, const struct io *io);

struct bdev_ops {
	const char *name;
	bool in_front; /* of its base: whoever asks for a channel to that gets one to this */
	/*
	 * Both run on the reactor's thread. base: its channel to the bdev's base, open as
	 * long as this one; NULL for a bdev that stacks on none.
	 */
	int (*channel_open)(struct vhc_bdev *bdev, struct bdev_channel *base,
			    struct bdev_channel **out);
	void (*channel_close)(struct bdev_channel *channel);
	/* Takes n requests; each ends in io_complete, now or from poll. */
	void (*submit)(struct bdev_channel *channel, struct io *const *ios, uint32_t n);
	/*
	 * Ends what has finished; called while inflight > 0. Returns how many. NULL: there is
	 * nothing to do, as all ends within submit, or when the base ends it.
	 */
	uint32_t (*poll)(struct bdev_channel *channel);
	/*
	 * Has picked ones of the requests that were submitted with a lane go on at once, if a
	 * limit holds them back here or in what the channel's bdev stacks on: their ring is being
	 * stopped. NULL: nothing is held back.
	 */
	void (*let_go)(struct bdev_channel *channel, struct lane *lane, const struct io_pick *pick);
	/*
	 * Ends such requests, in -ECANCELED, if they are held back, hang or wait here or in what
	 * the channel's bdev stacks on; what a disk works on goes on. NULL: as above.
	 */
	void (*cancel)(struct bdev_channel *channel, struct lane *lane, const struct io_pick *pick);
	int (*resize)(struct vhc_bdev *bdev, uint64_t num_blocks);
	/* As vhc_bdev_extent, of a device that ends at byte `end`; NULL: all is mapped. */
	int (*extent)(struct vhc_bdev *bdev, uint64_t offset, uint64_t end, struct vhc_extent *out);
	/* As vhc_bdev_set_holding; NULL: it keeps nothing waiting. */
	void (*set_holding)(struct vhc_bdev *bdev, bool holding);
	void (*destroy)(struct vhc_bdev *bdev);
};

/* The head of every backend's own struct. */
struct vhc_bdev {
	const struct bdev_ops *ops;
	atomic_uint refs;
	uint32_t block_size; /* a power of two, 512 or more */
	_Atomic uint64_t num_blocks;
	struct vhc_bdev *base;	  /* a reference to what it stacks on, or NULL */
	struct vhc_stats **stats; /* by reactor: see vhc_bdev_set_stats */
	uint32_t num_stats;
	struct vhc_bdev *qos; /* what is in front of it while `limited`; NULL: it never was */
	atomic_bool limited;
};

/* Largest block a backend may have. */
#define BDEV_MAX_BLOCK_SIZE 65536u

/*
 * Whether a device can have this shape: block size a power of two in
 * 512..BDEV_MAX_BLOCK_SIZE, at least one block, all of it below 2^63 bytes.
 */
bool bdev_shape_valid(uint32_t block_size, uint64_t num_blocks);

void bdev_init(struct vhc_bdev *bdev, const struct bdev_ops *ops, uint32_t block_size,
	       uint64_t num_blocks);
void bdev_ref(struct vhc_bdev *bdev);

/* Where channels to a bdev lead: itself, or what limits it. Thread: any. */
static inline struct vhc_bdev *bdev_front(struct vhc_bdev *bdev)
{
	return atomic_load_explicit(&bdev->limited, memory_order_acquire) ? bdev->qos : bdev;
}

/* ops->let_go and ops->cancel of a channel that may have none. */
static inline void channel_let_go(struct bdev_channel *channel, struct lane *lane,
				  const struct io_pick *pick)
{
	if (channel->bdev->ops->let_go)
		channel->bdev->ops->let_go(channel, lane, pick);
}

static inline void channel_cancel(struct bdev_channel *channel, struct lane *lane,
				  const struct io_pick *pick)
{
	if (channel->bdev->ops->cancel)
		channel->bdev->ops->cancel(channel, lane, pick);
}

/* Makes a bdev that bdev_init made one that stacks on base, of which it takes a reference. */
void bdev_set_base(struct vhc_bdev *bdev, struct vhc_bdev *base);

/* The page that was set for a reactor, or NULL. */
struct vhc_stats *bdev_stats(const struct vhc_bdev *bdev, uint32_t reactor_index);

#endif
