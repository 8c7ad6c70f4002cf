/* SPDX-License-Identifier: MIT */
#include "ring_track.h"

#include <stdlib.h>

#include "ring_log.h"
#include "ring_packed.h"
#include "ring_split.h"

/* ---- A predecessor's chains ---- */

static void keep(struct vhc_ring *ring, uint16_t head)
{
	ring->taken[head] = ring->take | RING_TRACKED;
	ring->again.heads[ring->again.left++] = head;
}

static int recover_split(struct vhc_ring *ring)
{
	uint16_t *heads = calloc(ring->size, sizeof(*heads));
	int n = heads ? inflight_recover_split(ring->inflight, ring->next_used, heads) : -ENOMEM;

	for (int i = 0; i < n; i++)
		keep(ring, heads[i]);
	free(heads);
	/* All that came before the first of them was completed, and so was what came between. */
	if (n > 0)
		ring->next_avail = ring->next_used + (uint16_t)n;
	return n < 0 ? n : 0;
}

static int adopt(struct vhc_ring *ring, const struct inflight_chain *chains, int n,
		 const struct vring_packed_desc *descs)
{
	for (int i = 0; i < n; i++) {
		uint16_t slot = packed_adopt(ring, descs, chains[i].count);

		inflight_bind(ring->inflight, slot, chains[i].entry);
		keep(ring, slot);
		descs += chains[i].count;
	}
	ring->next_avail = ring->next_used + (uint16_t)n;
	return 0;
}

static int recover_packed(struct vhc_ring *ring)
{
	struct packed *packed = &ring->packed;
	struct inflight_chain *chains = calloc(ring->size, sizeof(*chains));
	int n = -ENOMEM;

	ring->again.descs = calloc(ring->size, sizeof(*ring->again.descs));
	if (chains && ring->again.descs)
		n = inflight_recover_packed(ring->inflight, packed->ring, &packed->used, chains,
					    ring->again.descs);
	/* It may have taken used descriptors back that nobody was shown. */
	if (n >= 0 && ring->log)
		ring_log_descs(ring);
	packed->look = packed->used;
	/* Where the front end says that it begins it did not, and the driver may wait. */
	ring->resumed |= n > 0 || packed->used.index > 0 || !packed->used.wrap;
	n = n < 0 ? n : adopt(ring, chains, n, ring->again.descs);
	free(chains);
	return n;
}

int ring_recover(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	int result = inflight_open((struct vhc_inflight *)(uintptr_t)config->inflight,
				   config->index, ring->size, ring->is_packed, &ring->inflight);

	if (result)
		return result;
	ring->again.heads = calloc(ring->size, sizeof(*ring->again.heads));
	if (!ring->again.heads)
		return -ENOMEM;
	return ring->is_packed ? recover_packed(ring) : recover_split(ring);
}

void ring_track_free(struct vhc_ring *ring)
{
	inflight_close(ring->inflight);
	free(ring->again.heads);
	free(ring->again.descs);
}

/* ---- Chains that are taken ---- */

static void mark(struct vhc_ring *ring, uint16_t head)
{
	if (ring->is_packed)
		inflight_mark_packed(ring->inflight, head, ring->again.descs,
				     packed_descs(ring, head, ring->again.descs));
	else
		inflight_mark_split(ring->inflight, head);
}

/* A driver that offers again what was not shown to it yet could put more than there is. */
static bool too_many_put(struct vhc_ring *ring)
{
	if ((uint16_t)(ring->next_used - ring->published) <= ring->size)
		return false;
	ring_break(ring, -EPROTO, VHC_BREAK_USED_FULL);
	return true;
}

/*
 * Whether what was put are just these chains, in the order in which they were taken. A
 * packed ring's used descriptors take the places of chains in that order: any other
 * would overwrite one that is nowhere else yet.
 */
static bool put_in_turn(const struct vhc_ring *ring, const struct ring_head *heads, uint32_t n)
{
	const struct packed *packed = &ring->packed;

	if (!ring->is_packed)
		return true;
	if (packed->num_puts != n)
		return false;
	for (uint32_t i = 0; i < n; i++)
		/* Buffer and count, which are above the length. */
		if ((packed->puts[i] ^ packed->chains[heads[i].index]) >> 32)
			return false;
	return true;
}

/*
 * Until something of a batch is published a successor finds all of it in the ring again.
 * So one that ends whole and in turn, with none in flight beside it, needs no marks.
 */
void ring_track(struct vhc_ring *ring, const struct ring_head *heads, uint32_t n)
{
	struct inflight *inflight = ring->inflight;
	bool any = inflight_any(inflight);

	/* A predecessor's are marked. */
	if (ring->again.taking ||
	    (!any && ring_inflight(ring) == 0 && put_in_turn(ring, heads, n)) || too_many_put(ring))
		return;
	if (!any && !ring->is_packed)
		inflight_begin_split(inflight, ring->published);
	for (uint32_t i = 0; i < n; i++)
		mark(ring, (uint16_t)heads[i].index);
	for (uint32_t i = 0; i < n; i++) {
		uint16_t head = (uint16_t)heads[i].index;

		if (ring->taken[head])
			ring->taken[head] |= RING_TRACKED;
		else
			inflight_put(inflight, head);
	}
}

/* ---- Chains that are put ---- */

void ring_track_put(struct vhc_ring *ring, uint16_t head)
{
	if ((uint16_t)(ring->next_used - ring->published) < ring->size)
		inflight_put(ring->inflight, head);
	else
		ring_break(ring, -EPROTO, VHC_BREAK_USED_FULL);
}

static uint32_t show_split(struct vhc_ring *ring)
{
	split_show(ring);
	if (inflight_any(ring->inflight))
		inflight_settle_split(ring->inflight, ring->next_used);
	return 0;
}

uint32_t ring_track_show(struct vhc_ring *ring)
{
	struct inflight *inflight = ring->inflight;
	uint32_t count;

	if (!ring->is_packed)
		return show_split(ring);
	if (!inflight_any(inflight))
		return packed_show_each(ring);
	inflight_announce_packed(inflight, packed_after_puts(ring));
	count = packed_show(ring);
	inflight_settle_packed(inflight, ring->packed.used);
	return count;
}
