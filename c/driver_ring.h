/* SPDX-License-Identifier: MIT */
/*
 * The driver side of a split virtqueue (virtio 2.7), as hot code sees it.
 *
 * A chain is built once and named by its head; it may then be offered, used and
 * offered again without its descriptors being written again. The device is not
 * trusted: nothing it can write (the descriptors included) is believed.
 */
#ifndef VHC_DRIVER_RING_H
#define VHC_DRIVER_RING_H

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "stats.h"
#include "vhostctl.h"

/* What the driver remembers of the chain that starts at a descriptor. */
struct driver_chain {
	uint64_t token;
	uint16_t count; /* descriptors of the ring that it has; 0: none starts here */
	bool indirect;	/* its pieces are in its indirect table */
	bool kept;	/* its user offers it again: getting it does not free it */
	bool in_flight;
};

struct vhc_driver_ring {
	struct vring_desc *desc;
	uint16_t *avail_flags, *avail_idx, *avail_ring, *used_event;
	const uint16_t *used_flags, *used_idx, *avail_event;
	const struct vring_used_elem *used_ring;
	struct vring_desc *tables; /* VHC_DRIVER_RING_INDIRECT for each descriptor */

	struct driver_chain *chains; /* by head */
	uint16_t *next;		     /* the free list, and the rest of each chain */
	uint64_t gpa_delta;
	struct vhc_stats *stats;
	uint32_t size;
	uint32_t num_free;
	uint32_t in_flight;
	uint16_t first_free;
	uint16_t next_avail; /* what the next offer takes */
	uint16_t published;  /* what the device was told */
	uint16_t last_used;
	uint16_t event; /* what used_event holds */
	bool event_idx, indirect;
	bool armed;  /* calls are wanted */
	bool broken; /* the device returned what it was not given */
	int kick_fd, call_fd;
	atomic_uint refs;
};

void driver_ring_ref(struct vhc_driver_ring *ring);

/*
 * Writes the descriptors of a chain without offering it. A kept chain is the
 * caller's until driver_ring_drop. Returns its head; -ENOSPC, -EINVAL.
 */
int driver_ring_build(struct vhc_driver_ring *ring, const struct vhc_iov *iov, uint32_t num_out,
		      uint32_t num_in, uint64_t token, bool kept);

/* Frees the descriptors of a chain that is not in flight. */
void driver_ring_drop(struct vhc_driver_ring *ring, uint16_t head);

/* The descriptor of piece n (under VHC_DRIVER_RING_INDIRECT) of a chain. */
struct vring_desc *driver_ring_piece(struct vhc_driver_ring *ring, uint16_t head, uint32_t n);

/*
 * Asks for a call at the next used chain, or asks for none. Arming returns true
 * if chains are used already: then do not sleep.
 */
bool driver_ring_arm(struct vhc_driver_ring *ring);
void driver_ring_disarm(struct vhc_driver_ring *ring);

/* Empties the call descriptor after poll(2) found it readable. */
void driver_ring_take_call(struct vhc_driver_ring *ring);

/* The device need not call: moves used_event out of its way. */
void driver_ring_quiet(struct vhc_driver_ring *ring);

/* Writes the kick descriptor. */
void driver_ring_notify(struct vhc_driver_ring *ring);

/* Puts a chain in the available ring; the device sees it at driver_ring_publish. */
static inline void driver_ring_offer(struct vhc_driver_ring *ring, uint16_t head)
{
	ring->chains[head].in_flight = true;
	ring->in_flight++;
	ring->avail_ring[ring->next_avail++ & (ring->size - 1)] = head;
}

/* True if the device wants a kick for what was published since old (virtio 2.7.10). */
static inline bool driver_ring_wants_kick(const struct vhc_driver_ring *ring, uint16_t old)
{
	if (!ring->event_idx)
		return !(__atomic_load_n(ring->used_flags, __ATOMIC_SEQ_CST) &
			 VRING_USED_F_NO_NOTIFY);
	uint16_t event = __atomic_load_n(ring->avail_event, __ATOMIC_SEQ_CST);
	return vring_need_event(event, ring->published, old);
}

/* Shows the device what was offered; kicks it if it wants that and returns true if it did. */
static inline bool driver_ring_publish(struct vhc_driver_ring *ring)
{
	uint16_t old = ring->published;
	if (ring->next_avail == old)
		return false;
	ring->published = ring->next_avail;
	/* Sequentially consistent: the device's wish must not be read before this is seen. */
	__atomic_store_n(ring->avail_idx, ring->published, __ATOMIC_SEQ_CST);
	bool kick = driver_ring_wants_kick(ring, old);
	if (kick)
		driver_ring_notify(ring);
	if (ring->stats)
		stats_add(kick ? &ring->stats->kicks : &ring->stats->kicks_suppressed, 1);
	return kick;
}

/* How many used chains wait, or -EPROTO. */
static inline int driver_ring_ready(struct vhc_driver_ring *ring)
{
	uint16_t used = __atomic_load_n(ring->used_idx, __ATOMIC_ACQUIRE);
	uint16_t n = used - ring->last_used;
	if (n == 0)
		return ring->broken ? -EPROTO : 0;
	if (n > ring->in_flight || ring->broken) {
		ring->broken = true;
		return -EPROTO;
	}
	return n;
}

/* Takes one of the used chains that driver_ring_ready counted. Returns its head, or -EPROTO. */
static inline int driver_ring_take(struct vhc_driver_ring *ring, uint32_t *len)
{
	const struct vring_used_elem *used = &ring->used_ring[ring->last_used & (ring->size - 1)];
	uint32_t head = __atomic_load_n(&used->id, __ATOMIC_RELAXED);
	if (head >= ring->size || !ring->chains[head].in_flight) {
		ring->broken = true;
		return -EPROTO;
	}
	*len = __atomic_load_n(&used->len, __ATOMIC_RELAXED);
	ring->chains[head].in_flight = false;
	ring->in_flight--;
	ring->last_used++;
	/* used_event lies still while calls are not wanted: before the index meets it, move it. */
	if ((uint16_t)(ring->event - ring->last_used) < 0x4000 && !ring->armed)
		driver_ring_quiet(ring);
	return (int)head;
}

#endif
