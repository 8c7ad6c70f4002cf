/* SPDX-License-Identifier: MIT */
/*
 * The device's side of a packed virtqueue (virtio 2.8). Both sides write the one
 * descriptor ring, and a descriptor's flags say, with the wrap counters, whose it is:
 * they are read with acquire and stored with release. Each side's event suppression
 * structure is read and written whole. Where one side stores and then reads what the
 * other stores, both accesses are sequentially consistent.
 */
#ifndef VHC_RING_PACKED_H
#define VHC_RING_PACKED_H

#include "ring_state.h"

#define PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED (1u << VRING_PACKED_DESC_F_USED)

/* Makes the entries, and has the ring go on at base. Errors: -EINVAL (base), -ENOMEM. */
int packed_init(struct vhc_ring *ring, uint32_t base);
void packed_free(struct vhc_ring *ring);

/* Where it goes on, as VHC_RING_BASE. */
uint32_t packed_base(const struct vhc_ring *ring);

/* Whether the descriptor to look at next is the device's; and what it holds may be read then. */
static inline bool packed_waits(const struct packed *packed, int order)
{
	const uint16_t wanted = packed->look.wrap ? PACKED_AVAIL : PACKED_USED;
	uint16_t flags = __atomic_load_n(&packed->ring[packed->look.index].flags, order);

	return (flags & (PACKED_AVAIL | PACKED_USED)) == wanted;
}

/*
 * Looks at chains, up to max (at most RING_AHEAD) that wait. Returns how many do. A
 * chain of more descriptors than can be offered breaks the ring.
 */
uint32_t packed_look(struct vhc_ring *ring, uint32_t max);

/* Takes n chains of those that were looked at. Returns n. */
static inline uint32_t packed_take(struct vhc_ring *ring, struct ring_head *heads, uint32_t n)
{
	struct packed *packed = &ring->packed;
	uint8_t *taken = ring->taken;
	uint32_t at = packed->ahead_at;
	uint8_t take = ring->take;

	for (uint32_t i = 0; i < n; i++) {
		uint16_t slot = packed->ahead[(at + i) % RING_AHEAD];

		taken[slot] = take;
		heads[i] = (struct ring_head){.first = &packed->entries[slot], .index = slot};
	}
	packed->ahead_at = at + n;
	packed->num_ahead -= n;
	ring->next_avail += (uint16_t)n;
	return n;
}

static inline void packed_untake(struct vhc_ring *ring, const struct ring_head *heads, uint32_t n)
{
	/* What is ahead are those that were taken last: they are still in their places. */
	for (uint32_t i = 0; i < n; i++)
		ring->taken[heads[i].index] = 0;
	ring->packed.ahead_at -= n;
	ring->packed.num_ahead += n;
	ring->next_avail -= (uint16_t)n;
}

/* Keeps a used descriptor for packed_show. Its chain's entries are free to be used again. */
static inline void packed_put(struct vhc_ring *ring, size_t head, uint32_t len)
{
	struct packed *packed = &ring->packed;
	const packed_chain chain = packed->chains[head];

	packed->puts[packed->num_puts++] = (chain & ~(packed_chain)UINT32_MAX) | len;
	packed->entries[(uint16_t)chain].next = packed->free;
	packed->free = (uint16_t)head;
	ring->next_used++;
	ring->taken[head] = 0;
}

/* Copies a chain, of count descriptors that there is room for, to entries; its slot. */
uint16_t packed_adopt(struct vhc_ring *ring, const struct vring_packed_desc *descs, uint16_t count);

/* The descriptors of a chain that was taken, or put since it was; how many. */
uint16_t packed_descs(const struct vhc_ring *ring, uint16_t slot, struct vring_packed_desc *out);

/* Where the device goes on once what was put is shown. */
struct inflight_position packed_after_puts(const struct vhc_ring *ring);

/*
 * Shows what was put one after the other, for ring->inflight to know of each that was
 * never marked. Returns how many descriptors.
 */
uint32_t packed_show_each(struct vhc_ring *ring);

/*
 * Shows the driver what was put since the last time: all but the first, and then the
 * first with one store, so that it sees all at once. Returns how many descriptors.
 */
uint32_t packed_show(struct vhc_ring *ring);

/* Whether the driver wants to be called for the last `advance` descriptors (virtio 2.8.10). */
bool packed_wants_call(struct vhc_ring *ring, uint32_t advance);

/* Asks for a kick for the next chain; or for none. */
bool packed_arm(struct vhc_ring *ring);
void packed_disarm(struct vhc_ring *ring);

#endif
