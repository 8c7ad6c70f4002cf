/* SPDX-License-Identifier: MIT */
/*
 * A healthy ring on the same reactor, with a disk and memory of its own. It has
 * a request in flight during each hostile case, and what that brings is checked.
 */
#ifndef VHC_HOSTILE_NEIGHBOUR_H
#define VHC_HOSTILE_NEIGHBOUR_H

#include "hostile_rig.h"

#define NEIGHBOUR_SIZE 8u
#define NEIGHBOUR_SLOTS (DISK_SECTORS / 8) /* of 4 KiB */

struct neighbour {
	struct vhc_pages disk, memory;
	struct vhc_bdev *bdev;
	struct vhc_blk *blk;
	struct vhc_ring *device;
	struct vhc_driver_ring *driver;
	struct vhc_stats *stats;
	int kick, call;
	struct virtio_blk_outhdr *header;
	uint8_t *data, *status;
	uint64_t round;
	uint8_t wrote[NEIGHBOUR_SLOTS]; /* what each 4 KiB of the disk is filled with */
};

static inline bool neighbour_rings(struct neighbour *n, struct hostile_rig *rig)
{
	struct vhc_driver_ring_layout layout;
	struct vhc_mem *mem;
	if (vhc_driver_ring_layout(NEIGHBOUR_SIZE, 0, &layout) || vhc_mem_create(&mem))
		return false;
	bool ok = CHECK_EQ(vhc_mem_add_region(mem, n->memory.addr, n->memory.size, n->memory.addr,
					      n->memory.fd, 0),
			   0);
	const struct vhc_ring_config device = {
	    .mem = (uint64_t)mem,
	    .features = EVENT_IDX | INDIRECT,
	    .desc = n->memory.addr,
	    .avail = n->memory.addr + layout.avail,
	    .used = n->memory.addr + layout.used,
	    .stats = (uint64_t)n->stats,
	    .size = NEIGHBOUR_SIZE,
	    .kick_fd = n->kick,
	    .call_fd = n->call,
	    .err_fd = -1,
	    .id = NEIGHBOUR_ID,
	};
	const struct vhc_driver_ring_config driver = {
	    .addr = n->memory.addr,
	    .features = device.features,
	    .size = NEIGHBOUR_SIZE,
	    .kick_fd = n->kick,
	    .call_fd = n->call,
	};
	ok = ok && CHECK_EQ(vhc_ring_create(&device, &n->device), 0) &&
	     CHECK_EQ(vhc_driver_ring_create(&driver, &n->driver), 0) &&
	     CHECK_EQ(vhc_reactor_start_blk_ring(rig->reactor, n->device, n->blk, 0), 0);
	vhc_mem_release(mem);
	return ok;
}

static inline bool neighbour_up(struct neighbour *n, struct hostile_rig *rig)
{
	uint64_t stats;
	*n = (struct neighbour){.kick = vhc_eventfd(), .call = vhc_eventfd()};
	if (!disk_up(&n->disk, &n->bdev, &n->blk) || !CHECK_EQ(vhc_stats_alloc(&stats), 0) ||
	    !CHECK_EQ(vhc_pages_alloc(64 * KIB, 4096, -1, -1, VHC_PAGES_SHARED, &n->memory), 0))
		return false;
	n->stats = (struct vhc_stats *)stats;
	uint8_t *free_area = (uint8_t *)n->memory.addr + 32 * KIB;
	n->header = (struct virtio_blk_outhdr *)free_area;
	n->status = free_area + 16;
	n->data = free_area + 4 * KIB;
	return neighbour_rings(n, rig);
}

/* Starts a write or a read of 4 KiB. */
static inline void neighbour_begin(struct neighbour *n)
{
	uint32_t slot = (uint32_t)(n->round / 2 * 7 % NEIGHBOUR_SLOTS);
	bool write = n->round % 2 == 0;
	if (write)
		n->wrote[slot]++;
	memset(n->data, write ? n->wrote[slot] : 0xee, 4 * KIB);
	*n->status = 0xff;
	*n->header = (struct virtio_blk_outhdr){.type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
						.sector = (uint64_t)slot * 8};
	const struct vhc_iov iov[] = {
	    {(uint64_t)n->header, 16}, {(uint64_t)n->data, 4 * KIB}, {(uint64_t)n->status, 1}};
	CHECK_EQ(vhc_driver_ring_add(n->driver, iov, write ? 2 : 1, write ? 1 : 2, n->round), 0);
	vhc_driver_ring_kick(n->driver);
}

/* Waits for it; false if it did not go as it should. */
static inline bool neighbour_end(struct neighbour *n, struct hostile_rig *rig)
{
	uint64_t token = 0;
	uint32_t len = 0;
	int rc = 0;
	RIG_AWAIT(rig, (rc = vhc_driver_ring_get(n->driver, &token, &len)) != 0);
	uint32_t slot = (uint32_t)(n->round / 2 * 7 % NEIGHBOUR_SLOTS);
	bool read = n->round % 2;
	bool ok = CHECK_EQ(rc, 1) && CHECK_EQ(token, n->round) &&
		  CHECK_EQ(*n->status, VIRTIO_BLK_S_OK) && CHECK_EQ(len, read ? 4 * KIB + 1 : 1);
	n->round++;
	const uint8_t *d = n->data;
	return ok && CHECK(d[0] == n->wrote[slot] && !memcmp(d, d + 1, 4 * KIB - 1));
}

static inline void neighbour_down(struct neighbour *n, struct hostile_rig *rig)
{
	CHECK_EQ(vhc_reactor_stop_ring(rig->reactor, n->device), 0);
	RIG_AWAIT(rig, rig->neighbour_stopped);
	CHECK(!rig->neighbour_broken);
	vhc_driver_ring_release(n->driver);
	vhc_ring_release(n->device);
	vhc_blk_release(n->blk);
	vhc_bdev_release(n->bdev);
	vhc_stats_free((uint64_t)n->stats);
	vhc_pages_free(&n->memory);
	close(n->kick);
	close(n->call);
}

#endif
