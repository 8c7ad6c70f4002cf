/* SPDX-License-Identifier: MIT */
/*
 * A guest for tests of the device side: memory in a memfd and a split ring in
 * it that is written by hand, so that it can be written wrongly.
 */
#ifndef VHC_TEST_GUEST_H
#define VHC_TEST_GUEST_H

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "vhostctl.h"

#define GUEST_GPA UINT64_C(0x100000)	    /* of the first byte */
#define GUEST_USER UINT64_C(0x7f0000000000) /* the same in the front end */
#define GUEST_BYTES (UINT64_C(8) << 20)
#define GUEST_DATA UINT64_C(0x100000) /* offset where data may go; the ring is below */

#define GUEST_EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define GUEST_INDIRECT (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

struct guest {
	int fd;
	uint8_t *memory;
	struct vhc_mem *mem;
	uint64_t stats_addr;
	struct vhc_stats *stats;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t *used_event;
	uint16_t *avail_event;
	uint32_t size;
	uint16_t next_avail; /* what the next offer takes */
	uint16_t last_used;  /* what the next guest_used reads */
};

static inline uint64_t guest_gpa(const struct guest *guest, const void *at)
{
	return GUEST_GPA + (uint64_t)((const uint8_t *)at - guest->memory);
}

/* Maps the memory and lays the ring out in it: table, avail and used on pages of their own. */
static inline bool guest_create(struct guest *guest, uint32_t size)
{
	*guest = (struct guest){.size = size};
	guest->fd = memfd_create("guest", MFD_CLOEXEC);
	if (guest->fd < 0 || ftruncate(guest->fd, (off_t)GUEST_BYTES))
		return false;
	guest->memory = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, guest->fd, 0);
	if (guest->memory == MAP_FAILED || vhc_mem_create(&guest->mem) ||
	    vhc_mem_add_region(guest->mem, GUEST_GPA, GUEST_BYTES, GUEST_USER, guest->fd, 0) ||
	    vhc_stats_alloc(&guest->stats_addr))
		return false;
	guest->stats = (struct vhc_stats *)(uintptr_t)guest->stats_addr;
	guest->desc = (struct vring_desc *)guest->memory;
	guest->avail = (struct vring_avail *)(guest->memory + 0x80000);
	guest->used = (struct vring_used *)(guest->memory + 0xa0000);
	guest->used_event = &guest->avail->ring[size];
	guest->avail_event = (uint16_t *)&guest->used->ring[size];
	return true;
}

static inline void guest_destroy(struct guest *guest)
{
	vhc_mem_release(guest->mem);
	vhc_stats_free(guest->stats_addr);
	munmap(guest->memory, GUEST_BYTES);
	close(guest->fd);
}

static inline struct vhc_ring_config guest_ring_config(const struct guest *guest, uint64_t features)
{
	return (struct vhc_ring_config){
	    .mem = (uint64_t)(uintptr_t)guest->mem,
	    .features = features,
	    .desc = GUEST_USER,
	    .avail = GUEST_USER + 0x80000,
	    .used = GUEST_USER + 0xa0000,
	    .stats = guest->stats_addr,
	    .size = guest->size,
	    .kick_fd = -1,
	    .call_fd = -1,
	    .err_fd = -1,
	};
}

/* A ring without descriptors for notifications; NULL if that failed. */
static inline struct vhc_ring *guest_ring(const struct guest *guest, uint64_t features)
{
	struct vhc_ring_config config = guest_ring_config(guest, features);
	struct vhc_ring *ring = NULL;

	return vhc_ring_create(&config, &ring) == 0 ? ring : NULL;
}

static inline void guest_desc(struct guest *guest, uint32_t i, const void *at, uint32_t len,
			      uint16_t flags, uint16_t next)
{
	guest->desc[i] = (struct vring_desc){
	    .addr = guest_gpa(guest, at), .len = len, .flags = flags, .next = next};
}

/* Puts a head in the available ring; guest_publish shows it. */
static inline void guest_offer(struct guest *guest, uint16_t head)
{
	__atomic_store_n(&guest->avail->ring[guest->next_avail++ % guest->size], head,
			 __ATOMIC_RELAXED);
}

static inline void guest_publish(struct guest *guest)
{
	__atomic_store_n(&guest->avail->idx, guest->next_avail, __ATOMIC_SEQ_CST);
}

/* Takes a used element; false if there is none. */
static inline bool guest_used(struct guest *guest, struct vring_used_elem *out)
{
	if (__atomic_load_n(&guest->used->idx, __ATOMIC_ACQUIRE) == guest->last_used)
		return false;
	*out = guest->used->ring[guest->last_used++ % guest->size];
	return true;
}

/* Addresses of a block request's parts for slot i, in the data area: 8 KiB a slot. */
static inline struct virtio_blk_outhdr *guest_header(const struct guest *guest, uint32_t i)
{
	return (struct virtio_blk_outhdr *)(guest->memory + GUEST_DATA + (uint64_t)i * 8192);
}

static inline uint8_t *guest_status(const struct guest *guest, uint32_t i)
{
	return guest->memory + GUEST_DATA + (uint64_t)i * 8192 + 64;
}

static inline uint8_t *guest_data(const struct guest *guest, uint32_t i)
{
	return guest->memory + GUEST_DATA + (uint64_t)i * 8192 + 4096;
}

/*
 * Writes a request of 4 KiB or less as three descriptors from 3 * i on, or as a
 * table in the slot that descriptor i refers to. Returns its head.
 */
static inline uint16_t guest_request(struct guest *guest, uint32_t i, bool indirect, uint32_t type,
				     uint64_t sector, uint32_t len)
{
	struct vring_desc *chain = guest->desc + 3 * (uint64_t)i;
	uint16_t base = (uint16_t)(3 * i);
	uint16_t in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;

	*guest_header(guest, i) = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	*guest_status(guest, i) = 0xff;
	if (indirect) {
		chain =
		    (struct vring_desc *)(guest->memory + GUEST_DATA + (uint64_t)i * 8192 + 128);
		guest_desc(guest, i, chain, 3 * sizeof(*chain), VRING_DESC_F_INDIRECT, 0);
		base = 0;
	}
	chain[0] = (struct vring_desc){guest_gpa(guest, guest_header(guest, i)), 16,
				       VRING_DESC_F_NEXT, (uint16_t)(base + 1)};
	chain[1] = (struct vring_desc){
	    guest_gpa(guest, guest_data(guest, i)), len,
	    (uint16_t)(VRING_DESC_F_NEXT | (in ? VRING_DESC_F_WRITE : 0)), (uint16_t)(base + 2)};
	chain[2] =
	    (struct vring_desc){guest_gpa(guest, guest_status(guest, i)), 1, VRING_DESC_F_WRITE, 0};
	return indirect ? (uint16_t)i : base;
}

#endif
