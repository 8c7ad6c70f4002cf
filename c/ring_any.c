/* SPDX-License-Identifier: MIT */
/* The steps of rings that are not plain: packed, tracked, logged, behind an IOMMU. */
#include <stdlib.h>

#include "ring.h"
#include "ring_log.h"
#include "ring_track.h"

/* ---- From the driver ---- */

__attribute__((noinline)) uint32_t ring_look_any(struct vhc_ring *ring, uint32_t max)
{
	if (ring->waits)
		return 0;
	if (ring->again.left > 0)
		return ring->again.left < max ? ring->again.left : max;
	return ring->is_packed ? packed_look(ring, max) : split_look(ring);
}

static uint32_t take_again(struct vhc_ring *ring, struct ring_head *heads, uint32_t n)
{
	struct ring_recovered *again = &ring->again;

	for (uint32_t i = 0; i < n; i++) {
		uint16_t head = again->heads[again->at++];

		heads[i] = (struct ring_head){.first = &ring->desc[head], .index = head};
	}
	again->left -= n;
	return n;
}

__attribute__((noinline)) uint32_t ring_take_any(struct vhc_ring *ring, struct ring_head *heads,
						 uint32_t n)
{
	ring->again.taking = ring->again.left > 0;
	if (ring->again.taking)
		return take_again(ring, heads, n);
	if (ring->is_packed)
		return packed_take(ring, heads, n);
	n = split_take(ring, heads, n);
	for (uint32_t i = 0; i < n && ring->take != RING_TAKEN; i++)
		ring->taken[heads[i].index] = ring->take;
	return n;
}

void ring_untake(struct vhc_ring *ring, const struct ring_head *heads, uint32_t n)
{
	if (ring->again.taking) {
		ring->again.at -= n;
		ring->again.left += n;
	} else if (ring->is_packed) {
		packed_untake(ring, heads, n);
	} else {
		split_untake(ring, heads, n);
	}
}

void ring_end_batch(struct vhc_ring *ring, const struct ring_head *heads, uint32_t n)
{
	if (ring->inflight)
		ring_track(ring, heads, n);
}

/* ---- Back to the driver ---- */

void ring_forget_retired(struct vhc_ring *ring)
{
	struct ring_table *table;

	while ((table = ring->retired)) {
		ring->retired = table->next;
		vhc_mem_release(table->mem);
		free(table);
	}
}

__attribute__((noinline)) void ring_put_any(struct vhc_ring *ring, size_t head, uint32_t len)
{
	uint8_t bits = ring->taken[head];

	if (bits & RING_LOGGED)
		ring_log_chain(ring, head);
	if (bits & RING_TRACKED)
		ring_track_put(ring, (uint16_t)head);
	if ((bits & RING_OLD) && --ring->num_old == 0)
		ring_forget_retired(ring);
	if (bits & RING_PACKED)
		packed_put(ring, head, len);
	else
		split_put(ring, head, len);
}

uint32_t ring_show(struct vhc_ring *ring)
{
	struct inflight_position from = ring->packed.used;
	uint16_t old = ring->published;
	uint32_t count = 0;

	if (ring->inflight)
		count = ring_track_show(ring);
	else if (ring->is_packed)
		count = packed_show(ring);
	else
		split_show(ring);
	ring->published = ring->next_used;
	if (ring->log)
		ring_log_published(ring, old, from);
	return ring->is_packed ? count : (uint16_t)(ring->published - old);
}

bool ring_wants_call(struct vhc_ring *ring, uint32_t shown)
{
	if (ring->call_fd < 0)
		return false;
	/* What was passed longer than a lap ago was passed by the driver as well. */
	if (ring->is_packed)
		return packed_wants_call(ring, shown < ring->size ? shown : ring->size);
	if (shown > UINT16_MAX)
		ring->called = false; /* the event index may have been passed more than once */
	return split_wants_call(ring, (uint16_t)(ring->published - shown));
}

__attribute__((noinline)) bool ring_publish_any(struct vhc_ring *ring)
{
	return ring_wants_call(ring, ring_show(ring));
}

/* ---- Kicks ---- */

bool ring_arm_any(struct vhc_ring *ring)
{
	bool waiting = ring->is_packed ? packed_arm(ring) : split_arm(ring);

	if (ring->log)
		ring_log_asked(ring);
	return waiting || ring->again.left > 0;
}

void ring_disarm_any(struct vhc_ring *ring)
{
	if (ring->is_packed)
		packed_disarm(ring);
	else
		split_disarm(ring);
	if (ring->log)
		ring_log_asked(ring);
}

/* ---- Another table ---- */

/* Whether a table has all of a part of the ring, where it is mapped. */
static bool has_part(const struct vhc_mem *mem, const struct ring_part *part)
{
	uint64_t first, last;

	return mem_gpa_of(mem, part->host, &first) &&
	       mem_gpa_of(mem, part->host + part->len - 1, &last) && last - first == part->len - 1;
}

int ring_set_mem(struct vhc_ring *ring, struct vhc_mem *mem, struct ring_table *table)
{
	for (uint32_t i = 0; i < 3; i++)
		if (!has_part(mem, &ring->parts[i]))
			return -EFAULT;
	*table = (struct ring_table){.next = ring->retired, .mem = ring->owned_mem};
	ring->retired = table;
	mem_ref(mem);
	ring->owned_mem = mem;
	ring->mem = mem;
	ring->cache = (struct mem_cache){0};
	ring->num_old = 0;
	for (uint32_t head = 0; head < ring->size; head++) {
		if (ring->taken[head] == 0)
			continue;
		ring->taken[head] |= RING_OLD;
		ring->num_old++;
	}
	if (ring->num_old == 0)
		ring_forget_retired(ring);
	return 0;
}
