/* SPDX-License-Identifier: MIT */
/*
 * In-flight regions as the specification has them (vhost-user, "Inflight I/O tracking"):
 * its structs, and its procedure "When reconnecting", step by step as it is written. What
 * another back end would find in a region that ours left behind.
 */
#ifndef VHC_INFLIGHT_SPEC_H
#define VHC_INFLIGHT_SPEC_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct spec_desc_split {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next;
	uint64_t counter;
};

struct spec_split {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct spec_desc_split desc[];
};

struct spec_desc_packed {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next;
	uint16_t last;
	uint16_t num;
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	uint64_t addr;
};

struct spec_packed {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t free_head;
	uint16_t old_free_head;
	uint16_t used_idx;
	uint16_t old_used_idx;
	uint8_t used_wrap_counter;
	uint8_t old_used_wrap_counter;
	uint8_t padding[7];
	struct spec_desc_packed desc[];
};

/* Entries in flight, in the order of their counters; at heads. Returns how many. */
static inline int spec_reconnect_split(struct spec_split *region, uint16_t ring_idx,
				       uint16_t *heads)
{
	int n = 0;

	if (region->used_idx != ring_idx) {
		uint16_t batch = ring_idx - region->used_idx;
		uint16_t at = region->last_batch_head;

		for (uint32_t i = 0; i < batch && i < 65536; i++) {
			region->desc[at].inflight = 0;
			at = region->desc[at].next;
		}
		region->used_idx = ring_idx;
	}
	for (uint16_t i = 0; i < region->desc_num; i++) {
		int at = n;

		if (!region->desc[i].inflight)
			continue;
		for (; at > 0 && region->desc[heads[at - 1]].counter > region->desc[i].counter;
		     at--)
			heads[at] = heads[at - 1];
		heads[at] = i;
		n++;
	}
	return n;
}

static inline int spec_reconnect_packed(struct spec_packed *region,
					const struct vring_packed_desc *ring, uint16_t *heads)
{
	const uint16_t avail = 1u << VRING_PACKED_DESC_F_AVAIL;
	const uint16_t used = 1u << VRING_PACKED_DESC_F_USED;
	int n = 0;

	if (region->used_idx != region->old_used_idx) {
		const uint16_t available = region->old_used_wrap_counter ? avail : used;

		if ((ring[region->old_used_idx].flags & (avail | used)) != available) {
			region->old_free_head = region->free_head;
			region->old_used_idx = region->used_idx;
			region->old_used_wrap_counter = region->used_wrap_counter;
		}
	}
	region->free_head = region->old_free_head;
	region->used_idx = region->old_used_idx;
	region->used_wrap_counter = region->old_used_wrap_counter;
	for (uint16_t at = region->free_head; at < region->desc_num; at = region->desc[at].next)
		region->desc[at].inflight = 0;
	for (uint16_t i = 0; i < region->desc_num; i++) {
		int at = n;

		if (!region->desc[i].inflight)
			continue;
		for (; at > 0 && region->desc[heads[at - 1]].counter > region->desc[i].counter;
		     at--)
			heads[at] = heads[at - 1];
		heads[at] = i;
		n++;
	}
	return n;
}

#endif
