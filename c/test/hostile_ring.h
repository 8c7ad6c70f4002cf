/* SPDX-License-Identifier: MIT */
/*
 * A ring in memory, of either format, that the test writes as a hostile driver would:
 * byte by byte, with no driver code between.
 *
 * Cases write their chains as a split ring's table, and offer heads. Of a packed ring
 * (virtio 2.8) that table is the test's own: when they are shown, chains are written
 * to the ring descriptor by descriptor. A head of a packed ring is, from then on, the
 * position of a chain's first descriptor.
 */
#ifndef VHC_HOSTILE_RING_H
#define VHC_HOSTILE_RING_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vhostctl.h"

#define MAX_RING 256u	/* entries */
#define RING_LOG 1024u	/* used chains that are remembered */
#define RING_OFFERS 64u /* chains of a packed ring that a case may offer */

#define AVAIL_FLAG (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED_FLAG (1u << VRING_PACKED_DESC_F_USED)
#define WHOSE_FLAGS (AVAIL_FLAG | USED_FLAG)
#define WRAP_BIT (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

/* What a ring is served as. */
enum ring_kind {
	BLK_RING,
	REQUEST_RING, /* of a virtio-scsi device */
	CONTROL_RING, /* each request goes up as it is */
	EVENT_RING,
	NUM_RING_KINDS,
};

/* A place in a packed ring. */
struct ring_place {
	uint16_t at;
	bool wrap;
};

/* A chain in a packed ring. */
struct ring_offer {
	uint16_t head, count, id;
	bool used;
};

/* A chain that came back. */
struct ring_use {
	uint32_t head; /* UINT32_MAX: not one that is known */
	uint32_t len;
	struct ring_place place; /* packed: of the used descriptor */
	uint16_t id, flags;
};

struct hostile_ring {
	struct vhc_ring *handle;
	enum ring_kind kind;
	uint32_t id, size;
	uint64_t features;
	struct vring_desc *desc; /* packed: the test's own */
	struct vring_avail *avail;
	struct vring_used *used;
	int kick, call, err;
	uint16_t avail_next; /* split: entries made available */
	uint16_t used_seen;  /* chains that had come back when the case began */
	bool running, broken, stopped;
	int broken_status;
	uint64_t malformed_before; /* vhc_stats.malformed when it was made */
	uint32_t malformed_told;   /* upcalls about those */
	uint32_t base;		   /* where it stopped */

	/* Packed. */
	bool packed;
	bool vague;	 /* what the device takes for chains depends on when it looks */
	bool must_break; /* what it finds is no chain that there can be */
	struct vring_packed_desc *ring;
	uint32_t *device_event;
	struct ring_place next;	 /* where the driver's next descriptor goes */
	struct ring_place reach; /* where the next used one will be */
	uint16_t held;		 /* flags of the first descriptor that is not shown */
	uint16_t held_at;
	bool holds;
	uint16_t heads[RING_OFFERS]; /* in desc, offered and not written */
	uint32_t num_heads;
	struct ring_offer offers[RING_OFFERS]; /* of this case */
	uint32_t num_offers;
	uint32_t num_back; /* of them that came back */
	uint16_t used_idx; /* all that came back, as a split ring counts them */
	struct ring_use log[RING_LOG];
};

/* ---- Packed rings --------------------------------------------------------------------- */

static inline struct ring_place place_after(const struct hostile_ring *ring, struct ring_place p,
					    uint32_t n)
{
	for (; n > 0; n--) {
		if (++p.at >= ring->size)
			p = (struct ring_place){0, !p.wrap};
	}
	return p;
}

static inline uint32_t place_bits(struct ring_place p)
{
	return p.at | (p.wrap ? WRAP_BIT : 0);
}

static inline uint16_t flags_available(struct ring_place p)
{
	return p.wrap ? AVAIL_FLAG : USED_FLAG;
}

static inline uint16_t flags_used(struct ring_place p)
{
	return p.wrap ? WHOSE_FLAGS : 0;
}

/* The ring's memory as a driver leaves it that got to a place with nothing in flight. */
static inline void packed_begin(struct hostile_ring *ring, struct ring_place place)
{
	for (uint16_t i = 0; i < ring->size; i++) {
		/* The last to come by has used it. */
		const struct ring_place last = {i, i < place.at ? place.wrap : !place.wrap};
		ring->ring[i] = (struct vring_packed_desc){.flags = flags_used(last)};
	}
	ring->next = ring->reach = place;
}

/* Writes a descriptor; its flags are complete. The first that is not shown has its flags kept. */
static inline void packed_write(struct hostile_ring *ring, struct vring_packed_desc d)
{
	struct vring_packed_desc *to = &ring->ring[ring->next.at];
	if (!ring->holds) {
		ring->held = d.flags;
		ring->held_at = ring->next.at;
		ring->holds = true;
		d.flags = to->flags;
	}
	*to = d;
	ring->next = place_after(ring, ring->next, 1);
}

static inline void packed_offered(struct hostile_ring *ring, uint16_t head, uint32_t count,
				  uint16_t id)
{
	if (ring->num_offers < RING_OFFERS)
		ring->offers[ring->num_offers++] =
		    (struct ring_offer){.head = head, .count = (uint16_t)count, .id = id};
}

/* Copies a chain of the test's table to the ring. Its last descriptor has the ID. */
static inline void packed_copy(struct hostile_ring *ring, uint16_t from)
{
	const uint16_t head = ring->next.at;
	const uint16_t id = (uint16_t)(0x4100 + from);
	for (uint32_t count = 1; count <= ring->size; count++) {
		const struct vring_desc *d = &ring->desc[from];
		const bool last = !(d->flags & VRING_DESC_F_NEXT);
		packed_write(ring, (struct vring_packed_desc){
				       .addr = d->addr,
				       .len = d->len,
				       .id = last ? id : (uint16_t)~id,
				       .flags = (uint16_t)((d->flags & ~WHOSE_FLAGS) |
							   flags_available(ring->next)),
				   });
		if (last) {
			packed_offered(ring, head, count, id);
			return;
		}
		from = d->next;
	}
}

/* Writes what was offered to the ring. */
static inline void packed_commit(struct hostile_ring *ring)
{
	for (uint32_t i = 0; i < ring->num_heads; i++)
		packed_copy(ring, ring->heads[i]);
	ring->num_heads = 0;
}

static inline bool packed_is_used(const struct hostile_ring *ring, uint64_t rest)
{
	return (rest >> 48 & WHOSE_FLAGS) == flags_used(ring->reach);
}

static inline struct ring_offer *packed_find(struct hostile_ring *ring, uint16_t id)
{
	for (uint32_t i = 0; i < ring->num_offers; i++) {
		struct ring_offer *offer = &ring->offers[i];
		if (!offer->used && offer->id == id)
			return offer;
	}
	return NULL;
}

/* Reads used descriptors, of no more chains than there are. */
static inline void packed_read_used(struct hostile_ring *ring)
{
	while (ring->num_back < ring->num_offers) {
		uint64_t *at = (uint64_t *)&ring->ring[ring->reach.at].len;
		const uint64_t rest = __atomic_load_n(at, __ATOMIC_ACQUIRE);
		if (!packed_is_used(ring, rest))
			return;
		struct ring_offer *offer = packed_find(ring, (uint16_t)(rest >> 32));
		ring->log[ring->used_idx++ % RING_LOG] = (struct ring_use){
		    .head = offer ? offer->head : UINT32_MAX,
		    .len = rest >> 48 & VRING_DESC_F_WRITE ? (uint32_t)rest : 0,
		    .place = ring->reach,
		    .id = (uint16_t)(rest >> 32),
		    .flags = (uint16_t)(rest >> 48),
		};
		ring->num_back++;
		if (offer)
			offer->used = true;
		ring->reach = place_after(ring, ring->reach, offer ? offer->count : 1);
	}
}

/*
 * Whether the device has asked for a kick and has nothing in flight: since ring_show
 * had it ask for none, it has looked at the ring, and found nothing more. (Or, once in
 * a very long while, is about to look: a case then ends early.)
 */
static inline bool packed_is_quiet(const struct hostile_ring *ring, const struct vhc_stats *stats)
{
	const uint32_t event = __atomic_load_n(ring->device_event, __ATOMIC_ACQUIRE);
	return (event >> 16 & 3) != VRING_PACKED_EVENT_FLAG_DISABLE &&
	       __atomic_load_n(&stats->inflight, __ATOMIC_ACQUIRE) == 0;
}

/* ---- Either format -------------------------------------------------------------------- */

/* How many chains have come back in all, as an index. */
static inline uint16_t ring_used_idx(struct hostile_ring *ring)
{
	if (!ring->packed)
		return __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);
	packed_read_used(ring);
	return ring->used_idx;
}

/* The n-th of them. */
static inline struct ring_use ring_used_at(const struct hostile_ring *ring, uint16_t n)
{
	if (ring->packed)
		return ring->log[n % RING_LOG];
	const struct vring_used_elem *used = &ring->used->ring[n % ring->size];
	return (struct ring_use){.head = used->id, .len = used->len};
}

/* A new case begins: all that was offered has come back. */
static inline void ring_begin_case(struct hostile_ring *ring)
{
	ring->used_seen = ring_used_idx(ring);
	if (!ring->packed) {
		ring->avail_next = ring->avail->idx;
		return;
	}
	ring->next = ring->reach;
	ring->num_heads = ring->num_offers = ring->num_back = 0;
	ring->holds = ring->vague = ring->must_break = false;
}

/* Offers a head, not yet visible. */
static inline void ring_offer(struct hostile_ring *ring, uint16_t head)
{
	if (!ring->packed)
		ring->avail->ring[ring->avail_next++ % ring->size] = head;
	else if (ring->num_heads < RING_OFFERS)
		ring->heads[ring->num_heads++] = head;
}

/* Makes all visible that was offered. */
static inline void ring_show(struct hostile_ring *ring)
{
	if (!ring->packed) {
		__atomic_store_n(&ring->avail->idx, ring->avail_next, __ATOMIC_SEQ_CST);
	} else {
		packed_commit(ring);
		if (ring->holds)
			__atomic_store_n(&ring->ring[ring->held_at].flags, ring->held,
					 __ATOMIC_SEQ_CST);
		ring->holds = false;
		if (ring->vague) /* for packed_is_quiet */
			__atomic_store_n(ring->device_event, VRING_PACKED_EVENT_FLAG_DISABLE << 16,
					 __ATOMIC_SEQ_CST);
	}
	vhc_eventfd_signal(ring->kick);
}

#endif
