/* SPDX-License-Identifier: MIT */
/*
 * A disk as a driver has it, for tests of backends: a bdev behind virtio-blk on
 * a reactor of its own, and the driver's side of one ring in the calling thread.
 */
#ifndef VHC_TEST_DISK_H
#define VHC_TEST_DISK_H

#include <linux/virtio_blk.h>
#include <string.h>

#include "check.h"
#include "reader.h"

#define DISK_MEMORY (64u << 20)
#define DISK_DATA (4u << 20) /* offset of the part for data */
#define DISK_RING 1024u
#define DISK_SLOTS 512u
#define DISK_PATIENCE_MS 20000

struct disk_slot {
	struct virtio_blk_outhdr header;
	struct virtio_blk_discard_write_zeroes segments[4];
	uint8_t status;
};

struct disk {
	struct reader reader;
	struct vhc_pages pages;
	struct vhc_mem *mem;
	struct vhc_ring *ring;
	struct vhc_blk *blk;
	struct vhc_reactor *reactor;
	struct vhc_driver_ring *driver;
	struct disk_slot *slots; /* DISK_SLOTS of them, in shared memory */
	uint8_t *data;		 /* shared memory for data */
	uint64_t stats;
	uint32_t used; /* slots, since the last disk_run */
	int kick_fd, call_fd;
};

static inline int disk_make_ring(struct disk *disk)
{
	struct vhc_driver_ring_layout layout;
	int err = vhc_driver_ring_layout(DISK_RING, 0, &layout);
	if (err < 0)
		return err;
	struct vhc_driver_ring_config driver = {
	    .addr = disk->pages.addr,
	    .size = DISK_RING,
	    .kick_fd = disk->kick_fd,
	    .call_fd = disk->call_fd,
	};
	struct vhc_ring_config ring = {
	    .mem = (uintptr_t)disk->mem,
	    .desc = disk->pages.addr,
	    .avail = disk->pages.addr + layout.avail,
	    .used = disk->pages.addr + layout.used,
	    .stats = disk->stats,
	    .size = DISK_RING,
	    .kick_fd = disk->kick_fd,
	    .call_fd = disk->call_fd,
	    .err_fd = -1,
	    .id = 1,
	};
	disk->slots = vhc_pointer(disk->pages.addr + (layout.bytes + 4095) / 4096 * 4096);
	disk->data = vhc_pointer(disk->pages.addr + DISK_DATA);
	err = vhc_driver_ring_create(&driver, &disk->driver);
	return err ? err : vhc_ring_create(&ring, &disk->ring);
}

/* Serves bdev in mode; features: those of virtio-blk. Returns 0 or the first error. */
static inline int disk_open(struct disk *disk, struct vhc_bdev *bdev, uint32_t mode,
			    uint64_t features)
{
	struct vhc_reactor_config reactor = {.cpu = -1, .mode = mode};
	struct vhc_blk_config blk = {
	    .bdev = (uintptr_t)bdev,
	    .features = features,
	    .max_discard_sectors = UINT32_MAX,
	    .max_discard_segments = 4,
	    .max_write_zeroes_sectors = UINT32_MAX,
	    .max_write_zeroes_segments = 4,
	};
	uint64_t reactor_stats;
	int err = -1;
	*disk = (struct disk){.kick_fd = vhc_eventfd(), .call_fd = vhc_eventfd()};
	if (!reader_open(&disk->reader) || (err = vhc_stats_alloc(&disk->stats)) ||
	    (err = vhc_pages_alloc(DISK_MEMORY, 4096, -1, -1, VHC_PAGES_SHARED, &disk->pages)) ||
	    (err = vhc_mem_create(&disk->mem)) ||
	    (err = vhc_mem_add_region(disk->mem, disk->pages.addr, DISK_MEMORY, disk->pages.addr,
				      disk->pages.fd, 0)) ||
	    (err = disk_make_ring(disk)) || (err = vhc_blk_create(&blk, &disk->blk)) ||
	    (err = vhc_reactor_create(disk->reader.upcalls, &reactor, &disk->reactor,
				      &reactor_stats)))
		return err;
	return vhc_reactor_start_blk_ring(disk->reactor, disk->ring, disk->blk, 0);
}

static inline void disk_close(struct disk *disk)
{
	CHECK_EQ(vhc_reactor_stop_ring(disk->reactor, disk->ring), 0);
	const struct vhc_upcall *up = reader_next(&disk->reader, DISK_PATIENCE_MS);
	CHECK(up && up->type == VHC_UPCALL_RING_STOPPED);
	CHECK_EQ(vhc_reactor_release(disk->reactor), 0);
	vhc_driver_ring_release(disk->driver);
	vhc_ring_release(disk->ring);
	vhc_blk_release(disk->blk);
	vhc_mem_release(disk->mem);
	vhc_pages_free(&disk->pages);
	vhc_stats_free(disk->stats);
	reader_close(&disk->reader);
	vhc_fd_close(disk->kick_fd);
	vhc_fd_close(disk->call_fd);
}

static inline void disk_send(struct disk *disk, const struct vhc_iov *pieces, uint32_t out,
			     uint32_t in)
{
	CHECK_EQ(vhc_driver_ring_add(disk->driver, pieces, out, in, disk->used), 0);
	disk->used++;
}

static inline struct disk_slot *disk_slot(struct disk *disk, uint32_t type, uint64_t sector)
{
	struct disk_slot *slot = &disk->slots[disk->used];
	slot->header = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	slot->status = 0xff;
	return slot;
}

/* Adds a read (VIRTIO_BLK_T_IN) or write of pieces of memory; offset in bytes. */
static inline void disk_add(struct disk *disk, uint32_t type, uint64_t offset,
			    const struct vhc_iov *data, uint32_t count)
{
	struct vhc_iov pieces[40];
	struct disk_slot *slot = disk_slot(disk, type, offset / 512);
	const bool in = type == VIRTIO_BLK_T_IN;
	pieces[0] = (struct vhc_iov){(uintptr_t)&slot->header, sizeof(slot->header)};
	for (uint32_t i = 0; i < count; i++)
		pieces[i + 1] = data[i];
	pieces[count + 1] = (struct vhc_iov){(uintptr_t)&slot->status, 1};
	disk_send(disk, pieces, in ? 1 : 1 + count, in ? 1 + count : 1);
}

/* Adds a DISCARD or WRITE_ZEROES of count ranges, given in bytes as offset and length. */
static inline void disk_add_ranges(struct disk *disk, uint32_t type, const uint64_t (*ranges)[2],
				   uint32_t count, uint32_t flags)
{
	struct disk_slot *slot = disk_slot(disk, type, 0);
	for (uint32_t i = 0; i < count; i++)
		slot->segments[i] = (struct virtio_blk_discard_write_zeroes){
		    .sector = ranges[i][0] / 512,
		    .num_sectors = (uint32_t)(ranges[i][1] / 512),
		    .flags = flags};
	const struct vhc_iov pieces[] = {
	    {(uintptr_t)&slot->header, sizeof(slot->header)},
	    {(uintptr_t)slot->segments, count * sizeof(slot->segments[0])},
	    {(uintptr_t)&slot->status, 1},
	};
	disk_send(disk, pieces, 2, 1);
}

static inline void disk_add_flush(struct disk *disk)
{
	struct disk_slot *slot = disk_slot(disk, VIRTIO_BLK_T_FLUSH, 0);
	const struct vhc_iov pieces[] = {
	    {(uintptr_t)&slot->header, sizeof(slot->header)},
	    {(uintptr_t)&slot->status, 1},
	};
	disk_send(disk, pieces, 1, 1);
}

/*
 * Waits for all that was added. Returns how many did not end in VIRTIO_BLK_S_OK,
 * or -1 if something was not answered. Statuses stay in slots.
 */
static inline int disk_run(struct disk *disk)
{
	uint32_t left = disk->used;
	uint64_t token;
	uint32_t len;
	int failed = 0;
	vhc_driver_ring_kick(disk->driver);
	while (left) {
		if (vhc_driver_ring_get(disk->driver, &token, &len) == 1) {
			failed += disk->slots[token].status != VIRTIO_BLK_S_OK;
			left--;
		} else if (!vhc_driver_ring_wait(disk->driver, DISK_PATIENCE_MS)) {
			return -1;
		}
	}
	disk->used = 0;
	return failed;
}

/* One read or write of one piece of memory. Returns its status, or -1. */
static inline int disk_rw(struct disk *disk, uint32_t type, uint64_t offset, void *data,
			  uint64_t len)
{
	const struct vhc_iov piece = {(uintptr_t)data, len};
	disk_add(disk, type, offset, &piece, 1);
	return disk_run(disk) < 0 ? -1 : disk->slots[0].status;
}

#endif
