/* SPDX-License-Identifier: MIT */
/* A virtqueue as the driver has it: what both formats need, and what each one does. */
#ifndef VHC_DRIVER_RING_STATE_H
#define VHC_DRIVER_RING_STATE_H

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "stats.h"
#include "vhostctl.h"

#define DRIVER_RING_ALIGN 128u /* the two sides write different pairs of cache lines */

/* What the driver remembers of a chain, by its head. */
struct driver_chain {
	uint64_t token;
	uint16_t count;	  /* descriptors of the ring that it has; 0: there is none */
	uint8_t in_table; /* pieces in its indirect table; 0: it has none */
	bool kept;	  /* its user offers it again: getting it does not free it */
	bool in_flight;
};

/* virtio 2.7. A head is the index of a descriptor, which the device reads in its place. */
struct driver_split {
	struct vring_desc *desc;
	uint16_t *avail_flags, *avail_idx, *avail_ring, *used_event;
	const uint16_t *used_flags, *used_idx, *avail_event;
	const struct vring_used_elem *used_ring;
	struct vring_desc *tables; /* VHC_DRIVER_RING_INDIRECT for each descriptor */
	uint16_t next_avail;	   /* what the next offer takes */
	uint16_t published;	   /* what the device was told */
	uint16_t last_used;
	uint16_t event; /* what used_event holds */
};

/* A descriptor of a packed ring: struct vring_packed_desc, or its last three fields in one. */
union driver_packed_desc {
	struct {
		uint64_t addr;
		uint64_t rest; /* len, above it id, above that flags */
	};
	struct vring_packed_desc parts;
	uint64_t both __attribute__((vector_size(16)));
} __attribute__((may_alias));

_Static_assert(sizeof(union driver_packed_desc) == sizeof(struct vring_packed_desc), "as in 2.8");

/* virtio 2.8. A head is a buffer ID; the ring's descriptors are written at each offer. */
struct driver_packed {
	union driver_packed_desc *desc;
	uint32_t *driver_event; /* struct vring_packed_desc_event: when the device is to call */
	const uint32_t *device_event;
	union driver_packed_desc *tables; /* VHC_DRIVER_RING_INDIRECT for each buffer ID */

	/* The chains, without flags of availability. Here, where the device cannot write. */
	union driver_packed_desc *chains;
	uint64_t avail_flags; /* of a descriptor that is made available now, as in `rest` */
	uint64_t used_flags;  /* of the next used one */
	uint16_t held;	      /* flags of the first descriptor not published: written last */
	uint16_t held_at;
	uint16_t next_avail; /* where the next descriptor goes */
	uint16_t next_used;  /* where the next used one will be */
	uint16_t added;	     /* descriptors offered and not published */
	uint32_t published;  /* descriptors published and not used */
};

struct vhc_driver_ring {
	struct driver_chain *chains; /* by head */
	uint16_t *next;		     /* the free list, and the rest of each chain */
	struct vhc_stats *stats;
	uint64_t gpa_delta;
	uint32_t size;
	uint32_t num_free; /* descriptors that no chain has, in flight or not */
	uint32_t in_flight;
	uint16_t first_free;
	bool packed, event_idx, indirect;
	bool armed;  /* calls are wanted */
	bool broken; /* the device returned what it was not given */
	int kick_fd, call_fd;
	atomic_uint refs;
	union {
		struct driver_split of_split;
		struct driver_packed of_packed;
	};
};

static inline uint64_t driver_ring_align(uint64_t offset)
{
	return (offset + DRIVER_RING_ALIGN - 1) & ~(uint64_t)(DRIVER_RING_ALIGN - 1);
}

/* Writes the kick descriptor. */
void driver_ring_notify(struct vhc_driver_ring *ring);

/* Takes the first free descriptor or, packed, buffer ID; there is one. */
static inline uint16_t driver_ring_take_free(struct vhc_driver_ring *ring)
{
	uint16_t i = ring->first_free;
	ring->first_free = ring->next[i];
	ring->num_free--;
	return i;
}

/* Which descriptor, of the ring or of the chain's indirect table, is piece n of a chain. */
static inline uint32_t driver_ring_piece(const struct vhc_driver_ring *ring, uint16_t head,
					 uint32_t n)
{
	if (ring->chains[head].in_table)
		return head * VHC_DRIVER_RING_INDIRECT + n;
	while (n--)
		head = ring->next[head];
	return head;
}

static inline int driver_ring_break(struct vhc_driver_ring *ring)
{
	ring->broken = true;
	return -EPROTO;
}

/* The device has returned head: is it one that it had? */
static inline bool driver_ring_returned(struct vhc_driver_ring *ring, uint32_t head)
{
	if (head >= ring->size || !ring->chains[head].in_flight)
		return false;
	ring->chains[head].in_flight = false;
	ring->in_flight--;
	return true;
}

/* Counts what a publication has come to. */
static inline bool driver_ring_told(struct vhc_driver_ring *ring, bool kick)
{
	if (kick)
		driver_ring_notify(ring);
	if (ring->stats)
		stats_add(kick ? &ring->stats->kicks : &ring->stats->kicks_suppressed, 1);
	return kick;
}

#endif
