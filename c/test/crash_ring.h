/* SPDX-License-Identifier: MIT */
/* The ring of a device that is killed, as a front end has it made. */
#ifndef VHC_CRASH_RING_H
#define VHC_CRASH_RING_H

#include "crash_world.h"

static inline struct vhc_inflight *crash_open_buffer(struct crash_world *w)
{
	struct vhc_inflight_config config = {.size = w->inflight_bytes,
					     .fd = w->inflight_fd,
					     .num_queues = 2,
					     .queue_size = w->shape.size,
					     .packed = w->shape.packed};
	struct vhc_inflight *of = NULL;

	if (vhc_inflight_create(&config, &of))
		crash_device_wrong(w, "no buffer");
	return of;
}

static inline uint64_t crash_features(const struct crash_shape *shape)
{
	return (shape->packed ? UINT64_C(1) << VIRTIO_F_RING_PACKED : 0) |
	       (shape->indirect ? UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC : 0) |
	       (shape->event_idx ? UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX : 0);
}

/*
 * As QEMU does for a device that died: what is in the used ring is where a split one goes
 * on, and of a packed one it knows no more than it did at the start.
 */
static inline uint32_t crash_base(const struct crash_world *w)
{
	const struct vring_used *used = (const struct vring_used *)(w->memory + CRASH_USED);

	return w->shape.packed ? VHC_RING_BASE_PACKED : used->idx;
}

static inline struct vhc_ring *crash_create_ring(struct crash_world *w)
{
	struct vhc_ring_config config = {
	    .features = crash_features(&w->shape),
	    .desc = CRASH_USER,
	    .avail = CRASH_USER + CRASH_AVAIL,
	    .used = CRASH_USER + CRASH_USED,
	    .inflight = (uint64_t)(uintptr_t)crash_open_buffer(w),
	    .size = w->shape.size,
	    .base = crash_base(w),
	    .index = 1,
	    .kick_fd = -1,
	    .call_fd = w->shape.event_idx ? vhc_eventfd() : -1,
	    .err_fd = -1,
	};
	struct vhc_mem *mem = NULL;
	struct vhc_ring *ring = NULL;
	int result;

	if (vhc_mem_create(&mem) ||
	    vhc_mem_add_region(mem, CRASH_GPA, CRASH_BYTES, CRASH_USER, w->fd, 0) ||
	    vhc_stats_alloc(&config.stats))
		crash_device_wrong(w, "no memory");
	config.mem = (uint64_t)(uintptr_t)mem;
	crash_point(w, OP_CREATE);
	result = vhc_ring_create(&config, &ring);
	if (result)
		crash_device_wrong(w, "no ring: %d", result);
	return ring;
}

#endif
