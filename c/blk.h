/* SPDX-License-Identifier: MIT */
/* virtio-blk requests (virtio 1.2, 5.2.6): from a chain to an io and back. */
#ifndef VHC_BLK_H
#define VHC_BLK_H

#include <linux/virtio_blk.h>

#include "io.h"
#include "ring.h"

/* Most segments of a DISCARD or WRITE_ZEROES: they are ranges in one array of pieces. */
#define BLK_MAX_SEGMENTS 256u

struct vhc_blk {
	struct vhc_bdev *bdev; /* NULL: gone */
	bool readonly;
	bool discard;		     /* negotiated */
	bool write_zeroes;	     /* negotiated */
	bool config_wce;	     /* negotiated */
	_Atomic uint8_t write_flags; /* IO_DURABLE or 0: what a write gets */
	struct vhc_blk_config config;
	atomic_uint refs;
};

/* A request that was answered without the backend. */
struct blk_answer {
	uint32_t op;	  /* enum vhc_op it counts as */
	uint32_t written; /* bytes, for the used element */
	int32_t result;	  /* 0 or -errno, as a backend's would be */
	bool error;
};

#define BLK_HEADER_SIZE sizeof(struct virtio_blk_outhdr)
#define BLK_SECTOR_SHIFT 9u

/* What requests are held to, read once for a batch. */
struct blk_limits {
	uint64_t capacity; /* bytes */
	uint64_t sectors;
	uint64_t partial; /* the bits that a whole number of blocks does not have */
};

static inline struct blk_limits blk_limits(const struct vhc_blk *blk)
{
	const struct vhc_bdev *bdev = blk->bdev;
	uint64_t blocks;

	if (!bdev)
		return (struct blk_limits){0};
	blocks = atomic_load_explicit(&bdev->num_blocks, memory_order_relaxed);
	return (struct blk_limits){.capacity = blocks * bdev->block_size,
				   .sectors = blocks * bdev->block_size >> BLK_SECTOR_SHIFT,
				   .partial = bdev->block_size - 1};
}

/*
 * Reads the request in a chain whose pieces are at io->iov. Returns true with
 * io filled in for the backend, but for queue and start; or false with what
 * was answered, the status byte being written.
 */
bool blk_parse(const struct vhc_blk *blk, const struct blk_limits *limits, struct io *io,
	       const struct ring_chain *chain, struct blk_answer *answer);

/*
 * Whether len bytes from a sector on lie on the device in whole blocks. Nothing
 * wraps: the sector is below the capacity before it is turned into bytes.
 */
static inline bool blk_range_valid(const struct blk_limits *limits, uint64_t sector, uint64_t len)
{
	uint64_t offset = sector << BLK_SECTOR_SHIFT;

	return ((offset | len) & limits->partial) == 0 && sector <= limits->sectors &&
	       len <= limits->capacity - offset;
}

/*
 * Reads the request that nearly all are: a read, or a write that may be made,
 * with its header, its data and its status in a descriptor each. Returns false
 * if it is any other or there is anything wrong with it: blk_parse tells.
 */
static inline bool blk_parse_triple(const struct vhc_blk *blk, const struct blk_limits *limits,
				    const struct ring_triple *triple, struct io *io)
{
	uint32_t type = ring_read32(triple->first);
	uint64_t sector = ring_read64((const uint8_t *)triple->first + 8);
	uint64_t len = triple->len;

	if (!blk_range_valid(limits, sector, len))
		return false;
	if (triple->in) {
		if (type != VIRTIO_BLK_T_IN)
			return false;
		io->kind = io_kind(VHC_OP_READ, 0, 1);
	} else {
		if (type != VIRTIO_BLK_T_OUT || blk->readonly)
			return false;
		io->kind = io_kind(
		    VHC_OP_WRITE, atomic_load_explicit(&blk->write_flags, memory_order_relaxed), 1);
	}
	io->offset = sector << BLK_SECTOR_SHIFT;
	io->len = len;
	io->iov = io->inline_iov;
	io->inline_iov[0] = (struct iovec){.iov_base = triple->middle, .iov_len = len};
	io->status = triple->last;
	return true;
}

/* The status of a request that the backend ended. */
static inline uint8_t blk_status(int32_t result)
{
	if (__builtin_expect(result == 0, 1))
		return VIRTIO_BLK_S_OK;
	return result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

void blk_ref(struct vhc_blk *blk);

#endif
