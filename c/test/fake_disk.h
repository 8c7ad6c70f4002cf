/* SPDX-License-Identifier: MIT */
/*
 * A virtio-blk or virtio-scsi device of a few lines for tests of the driver side:
 * it reads requests by the specification (virtio 5.2.6, 5.6.6.1),
 * shares no code with the device side, and can be told to misbehave.
 */
#ifndef VHC_FAKE_DISK_H
#define VHC_FAKE_DISK_H

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <linux/virtio_scsi.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_ring.h"

#define FAKE_DISK_RINGS 4

enum fake_fault {
	FAKE_NONE,
	FAKE_FLIP_BIT,	    /* reads come with one bit wrong */
	FAKE_DROP_WRITES,   /* after the first of a block, writes are lost */
	FAKE_MISPLACE,	    /* writes go one block further */
	FAKE_FAIL,	    /* every request ends in IOERR, or CHECK CONDITION */
	FAKE_BAD_TARGET,    /* SCSI: every request ends in that response */
	FAKE_NO_STATUS,	    /* the status byte is not written */
	FAKE_NO_DATA,	    /* reads bring nothing */
	FAKE_SILENT,	    /* nothing is returned */
	FAKE_UNKNOWN_HEAD,  /* used.id out of range */
	FAKE_SAME_HEAD,	    /* each head is returned twice */
	FAKE_INDEX_TOO_FAR, /* the used index jumps */
};

struct fake_disk {
	struct fake_ring rings[FAKE_DISK_RINGS];
	uint32_t num_rings;
	uint8_t *bytes;
	bool *written; /* by block, for FAKE_DROP_WRITES */
	uint64_t size;
	uint64_t begin; /* SCSI: where on the device these bytes are */
	uint32_t block_size;
	uint32_t lba_size;		  /* SCSI; 0: a virtio-blk device */
	uint32_t address;		  /* SCSI: VHC_LUN_ADDRESS of the one disk */
	uint64_t calls;			  /* sent; read it after fake_disk_stop */
	uint64_t served[FAKE_DISK_RINGS]; /* requests; likewise */
	atomic_int fault;
	atomic_bool lazy; /* returns nothing before the driver wants to be called for it */
	atomic_bool stop;
	atomic_int unaligned; /* requests that were not what a load makes */
	atomic_int wide;      /* SCSI: commands of 16 bytes */
	pthread_t thread;
};

struct fake_request {
	uint64_t at; /* byte on the device */
	uint8_t *data, *status;
	uint32_t len;
	bool read, data_writable;
};

static inline bool fake_parse_blk(const struct vring_desc *piece, struct fake_request *request)
{
	const struct virtio_blk_outhdr *header = (const struct virtio_blk_outhdr *)piece[0].addr;
	*request = (struct fake_request){
	    .data = (uint8_t *)piece[1].addr,
	    .len = piece[1].len,
	    .data_writable = piece[1].flags & VRING_DESC_F_WRITE,
	    .status = (uint8_t *)piece[2].addr,
	};
	if (piece[0].len != 16 || piece[2].len != 1 || !(piece[2].flags & VRING_DESC_F_WRITE) ||
	    (piece[0].flags & VRING_DESC_F_WRITE))
		return false;
	request->at = header->sector * 512;
	request->read = header->type == VIRTIO_BLK_T_IN;
	return request->read || header->type == VIRTIO_BLK_T_OUT;
}

static inline uint64_t fake_big_endian(const uint8_t *bytes, uint32_t n)
{
	uint64_t value = 0;
	for (uint32_t i = 0; i < n; i++)
		value = value << 8 | bytes[i];
	return value;
}

/* READ and WRITE (10) and (16) with nothing set but address and length. */
static inline bool fake_parse_cdb(struct fake_disk *disk, const uint8_t *cdb,
				  struct fake_request *request)
{
	const bool wide = cdb[0] == 0x88 || cdb[0] == 0x8a;
	const uint64_t lba = fake_big_endian(cdb + 2, wide ? 8 : 4);
	const uint64_t count = wide ? fake_big_endian(cdb + 10, 4) : fake_big_endian(cdb + 7, 2);
	request->read = cdb[0] == 0x28 || cdb[0] == 0x88;
	request->at = lba * disk->lba_size - disk->begin;
	atomic_fetch_add(&disk->wide, wide);
	for (uint32_t i = wide ? 14 : 9; i < 32; i++) {
		if (cdb[i])
			return false;
	}
	return (request->read || cdb[0] == 0x2a || cdb[0] == 0x8a) && cdb[1] == 0 &&
	       (wide || cdb[6] == 0) && count * disk->lba_size == request->len;
}

/* Data is before the response in a write, after it in a read. */
static inline bool fake_parse_scsi(struct fake_disk *disk, const struct vring_desc *piece,
				   struct fake_request *request)
{
	const uint8_t *header = (const uint8_t *)piece[0].addr;
	const bool read = piece[1].flags & VRING_DESC_F_WRITE;
	const struct vring_desc *data = &piece[read ? 2 : 1], *response = &piece[read ? 1 : 2];
	const uint8_t lun[8] = {1, (uint8_t)(disk->address >> 16), 0x40, (uint8_t)disk->address};
	*request = (struct fake_request){
	    .data = (uint8_t *)data->addr,
	    .len = data->len,
	    .data_writable = read,
	    .status = (uint8_t *)response->addr,
	};
	return piece[0].len == 51 && !(piece[0].flags & VRING_DESC_F_WRITE) &&
	       (piece[2].flags & VRING_DESC_F_WRITE) && response->len == 108 &&
	       !memcmp(header, lun, 8) && !header[16] && !header[17] && !header[18] &&
	       fake_parse_cdb(disk, header + 19, request);
}

static inline bool fake_parse(struct fake_disk *disk, const struct fake_chain *chain,
			      struct fake_request *request)
{
	return chain->num == 3 && (disk->lba_size ? fake_parse_scsi(disk, chain->pieces, request)
						  : fake_parse_blk(chain->pieces, request));
}

static inline void fake_answer(const struct fake_disk *disk, const struct fake_request *r, bool ok)
{
	if (!disk->lba_size) {
		*r->status = ok ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
		return;
	}
	struct virtio_scsi_cmd_resp response = {.status = ok ? 0 : 2};
	if (atomic_load(&disk->fault) == FAKE_BAD_TARGET) {
		response.status = 0;
		response.response = VIRTIO_SCSI_S_BAD_TARGET;
	}
	memcpy(r->status, &response, 12);
}

static inline void fake_write(struct fake_disk *disk, const struct fake_request *r, uint64_t at)
{
	int fault = atomic_load(&disk->fault);
	uint64_t block = at / disk->block_size;
	if (fault == FAKE_DROP_WRITES && disk->written[block])
		return;
	if (fault == FAKE_MISPLACE)
		at = (at + disk->block_size) % disk->size;
	disk->written[block] = true;
	memcpy(disk->bytes + at, r->data, r->len);
}

static inline void fake_execute(struct fake_disk *disk, const struct fake_request *r)
{
	int fault = atomic_load(&disk->fault);
	uint64_t at = r->at;
	bool read = r->read;
	if (r->data_writable != read || at > disk->size || r->len != disk->block_size ||
	    r->len > disk->size - at) {
		atomic_fetch_add(&disk->unaligned, 1);
		fake_answer(disk, r, false);
		return;
	}
	if (!read)
		fake_write(disk, r, at);
	else if (fault != FAKE_NO_DATA)
		memcpy(r->data, disk->bytes + at, r->len);
	if (read && fault == FAKE_FLIP_BIT)
		r->data[r->len - 1] ^= 4;
	if (fault != FAKE_NO_STATUS)
		fake_answer(disk, r, fault != FAKE_FAIL);
}

/* Returns what it must not, where the fault says so. True if it did. */
static inline bool fake_misbehave(struct fake_ring *ring, const struct fake_chain *chain, int fault)
{
	const uint32_t n = fault == FAKE_SAME_HEAD ? 2 : fault == FAKE_INDEX_TOO_FAR ? 1001 : 1;
	const uint16_t head =
	    (uint16_t)(fault == FAKE_UNKNOWN_HEAD ? ring->size + chain->head : chain->head);
	if (head == chain->head && n == 1)
		return false;
	if (!ring->packed) {
		fake_return_split(ring, head, 1, n);
		return true;
	}
	if (n > 1)
		fake_put_packed(ring, fake_after(ring, ring->next_used, chain->count),
				fault == FAKE_SAME_HEAD ? head : UINT16_MAX, 1);
	fake_put_packed(ring, ring->next_used, head, 1);
	return true;
}

static inline void fake_return(struct fake_disk *disk, struct fake_ring *ring,
			       const struct fake_chain *chain)
{
	int fault = atomic_load(&disk->fault);
	if (fault == FAKE_SILENT)
		return;
	/* What the driver asked for then holds, though it may wake by itself right after. */
	bool wanted = false;
	while (atomic_load(&disk->lazy) && !(wanted = fake_wants_call(ring, chain)) &&
	       !atomic_load(&disk->stop))
		usleep(20);
	bool call = fake_misbehave(ring, chain, fault) || fake_return_chain(ring, chain, 1);
	if ((call || wanted) && ring->call_fd >= 0) {
		disk->calls++;
		vhc_eventfd_signal(ring->call_fd);
	}
}

static inline bool fake_serve(struct fake_disk *disk, struct fake_ring *ring)
{
	uint32_t n = 0;
	/* Not for ever: other rings wait. */
	for (; n < ring->size && fake_waits(ring); n++) {
		struct fake_chain chain;
		struct fake_request request;
		if (fake_take(ring, &chain) && fake_parse(disk, &chain, &request))
			fake_execute(disk, &request);
		else
			atomic_fetch_add(&disk->unaligned, 1);
		disk->served[ring - disk->rings]++;
		fake_return(disk, ring, &chain);
	}
	return n > 0;
}

/* Asks each ring for a kick; true if one has work already. */
static inline bool fake_arm(struct fake_disk *disk)
{
	bool work = false;
	for (uint32_t i = 0; i < disk->num_rings; i++)
		work |= fake_arm_ring(&disk->rings[i]);
	return work;
}

static inline void *fake_thread(void *arg)
{
	struct fake_disk *disk = arg;
	while (!atomic_load(&disk->stop)) {
		bool worked = false;
		for (uint32_t i = 0; i < disk->num_rings; i++)
			worked |= fake_serve(disk, &disk->rings[i]);
		if (worked || fake_arm(disk))
			continue;
		struct pollfd kicks[FAKE_DISK_RINGS];
		for (uint32_t i = 0; i < disk->num_rings; i++)
			kicks[i] = (struct pollfd){.fd = disk->rings[i].kick_fd, .events = POLLIN};
		poll(kicks, disk->num_rings, 20);
		for (uint32_t i = 0; i < disk->num_rings; i++) {
			uint64_t count;
			(void)!read(kicks[i].fd, &count, sizeof(count));
		}
	}
	return NULL;
}

static inline void fake_add_ring(struct fake_disk *disk, uint64_t addr, uint32_t size,
				 uint64_t features, int kick_fd, int call_fd)
{
	disk->rings[disk->num_rings++] = fake_ring_at(addr, size, features, kick_fd, call_fd);
}

static inline void fake_disk_start(struct fake_disk *disk, uint32_t block_size, uint64_t size)
{
	disk->block_size = block_size;
	disk->size = size;
	disk->bytes = calloc(1, size);
	disk->written = calloc(size / block_size, sizeof(bool));
	atomic_store(&disk->stop, false);
	pthread_create(&disk->thread, NULL, fake_thread, disk);
}

static inline void fake_disk_stop(struct fake_disk *disk)
{
	atomic_store(&disk->stop, true);
	vhc_eventfd_signal(disk->rings[0].kick_fd);
	pthread_join(disk->thread, NULL);
	free(disk->bytes);
	free(disk->written);
}

#endif
