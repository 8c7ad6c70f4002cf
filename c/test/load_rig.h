/* SPDX-License-Identifier: MIT */
/* A load on a disk of the test's own, of either kind, over rings of either format. */
#ifndef VHC_LOAD_RIG_H
#define VHC_LOAD_RIG_H

#include <errno.h>

#include "check.h"
#include "fake_disk.h"
#include "load.h"

#define DISK_BLOCKS 64u
#define BLOCK 4096u
#define ANSWER_MS 20000
#define EVENT_IDX (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC)

#define ADDRESS VHC_LUN_ADDRESS(17, 203)

#define PACKED (UINT64_C(1) << VIRTIO_F_RING_PACKED)

/* What every rig_up makes: enum vhc_load_device, and the format of its rings. */
static uint32_t device;
static bool packed;
static uint32_t ring_size;

/* A fake disk with rings, and what a load on them needs. */
struct rig {
	struct fake_disk disk;
	uint64_t rings[FAKE_DISK_RINGS];
	void *ring_memory[FAKE_DISK_RINGS];
	uint32_t num_rings;
	struct vhc_upcalls *upcalls;
	struct vhc_upcalls_info upcalls_info;
	uint32_t unread; /* upcalls reported and not given back */
	struct vhc_load_config config;
	struct vhc_stats *stats;
	struct vhc_load_result result;
};

static inline bool add_ring(struct rig *rig, uint64_t features)
{
	struct vhc_driver_ring_layout layout;
	features |= packed ? PACKED : 0;
	vhc_driver_ring_layout(ring_size, features, &layout);
	uint32_t i = rig->num_rings++;
	rig->ring_memory[i] = aligned_alloc(4096, layout.bytes);
	memset(rig->ring_memory[i], 0, layout.bytes);
	const struct vhc_driver_ring_config config = {
	    .addr = (uint64_t)rig->ring_memory[i],
	    .features = features,
	    .size = ring_size,
	    .kick_fd = vhc_eventfd(),
	    .call_fd = vhc_eventfd(),
	};
	fake_add_ring(&rig->disk, config.addr, ring_size, features, config.kick_fd, config.call_fd);
	return CHECK_EQ(vhc_driver_ring_create(&config, (struct vhc_driver_ring **)&rig->rings[i]),
			0);
}

static inline bool rig_up(struct rig *rig, uint32_t num_rings, uint64_t features)
{
	uint64_t stats;
	*rig = (struct rig){0};
	if (!CHECK_EQ(vhc_upcalls_create(&rig->upcalls, &rig->upcalls_info), 0) ||
	    !CHECK_EQ(vhc_stats_alloc(&stats), 0))
		return false;
	rig->stats = (struct vhc_stats *)stats;
	for (uint32_t i = 0; i < num_rings; i++) {
		if (!add_ring(rig, features))
			return false;
	}
	rig->config = (struct vhc_load_config){
	    .stats = stats,
	    .size = DISK_BLOCKS * BLOCK,
	    .seed = 7,
	    .rw = VHC_LOAD_READ,
	    .block_size = BLOCK,
	    .iodepth = 4,
	    .mode = VHC_MODE_POLL,
	    .cpu = -1,
	    .id = 9,
	    .device = device,
	};
	if (device == VHC_LOAD_SCSI) {
		rig->config.address = rig->disk.address = ADDRESS;
		rig->config.lba_size = rig->disk.lba_size = 512;
	}
	rig->config.buffers_len = 8 << 20;
	rig->config.buffers = (uint64_t)aligned_alloc(4096, rig->config.buffers_len);
	fake_disk_start(&rig->disk, BLOCK, DISK_BLOCKS * BLOCK);
	return true;
}

static inline void rig_down(struct rig *rig)
{
	fake_disk_stop(&rig->disk);
	CHECK_EQ(atomic_load(&rig->disk.unaligned), 0);
	for (uint32_t i = 0; i < rig->num_rings; i++) {
		vhc_driver_ring_release((struct vhc_driver_ring *)rig->rings[i]);
		close(rig->disk.rings[i].kick_fd);
		close(rig->disk.rings[i].call_fd);
		free(rig->ring_memory[i]);
	}
	vhc_upcalls_release(rig->upcalls);
	close(rig->upcalls_info.fd);
	vhc_stats_free((uint64_t)rig->stats);
	free((void *)rig->config.buffers);
}

/* The status of the load's end, or 1 if it does not come. */
static inline int await_done(struct rig *rig)
{
	static uint32_t next;
	const struct vhc_upcall *slots = (const struct vhc_upcall *)rig->upcalls_info.slots;
	if (rig->unread == 0)
		next = 0;
	while (vhc_upcalls_advance(rig->upcalls, rig->unread) == 0) {
		char byte;
		rig->unread = 0;
		if (!check_readable(rig->upcalls_info.fd, ANSWER_MS) ||
		    read(rig->upcalls_info.fd, &byte, 1) != 1)
			return 1;
	}
	rig->unread = 1;
	const struct vhc_upcall *upcall = &slots[next++ % VHC_UPCALL_SLOTS];
	CHECK_EQ(upcall->type, VHC_UPCALL_LOAD_DONE);
	CHECK_EQ(upcall->id, rig->config.id);
	return upcall->status;
}

static inline struct vhc_load *start(struct rig *rig)
{
	struct vhc_load *load = NULL;
	if (!CHECK_EQ(
		vhc_load_create(rig->upcalls, &rig->config, rig->rings, rig->num_rings, &load), 0))
		return NULL;
	CHECK_EQ(vhc_load_start(load), 0);
	return load;
}

/* Runs a load to its end and returns its status. */
static inline int run(struct rig *rig)
{
	struct vhc_load *load = start(rig);
	if (!load)
		return 1;
	int status = await_done(rig);
	vhc_load_result(load, &rig->result);
	vhc_load_release(load);
	return status;
}

static inline uint64_t histogram_total(const struct vhc_op_stats *op)
{
	uint64_t total = 0;
	for (uint32_t i = 0; i < VHC_HIST_BUCKETS; i++)
		total += op->hist[i];
	return total;
}

#endif
