/* SPDX-License-Identifier: MIT */
/*
 * The driver side of a virtqueue, split (virtio 2.7) or packed (2.8), as hot code
 * sees it.
 *
 * A chain is built once and named by its head; it may then be offered, used and
 * offered again without being built again. The device is not trusted: nothing it
 * can write (the descriptors included) is believed.
 */
#ifndef VHC_DRIVER_RING_H
#define VHC_DRIVER_RING_H

#include "driver_ring_packed.h"
#include "driver_ring_split.h"

void driver_ring_ref(struct vhc_driver_ring *ring);

/*
 * Builds a chain without offering it. A kept chain is the caller's until
 * driver_ring_drop. Returns its head; -ENOSPC, -EINVAL.
 */
int driver_ring_build(struct vhc_driver_ring *ring, const struct vhc_iov *iov, uint32_t num_out,
		      uint32_t num_in, uint64_t token, bool kept);

/* Frees the descriptors of a chain that is not in flight. */
void driver_ring_drop(struct vhc_driver_ring *ring, uint16_t head);

/*
 * Changes piece n (under VHC_DRIVER_RING_INDIRECT) of a chain that is not in flight:
 * where it is (the ring's delta is added), its length, and whether the device writes
 * it.
 */
static inline void driver_ring_set_piece(struct vhc_driver_ring *ring, uint16_t head, uint32_t n,
					 struct vhc_iov iov, bool write)
{
	const uint64_t gpa = iov.addr + ring->gpa_delta;
	if (ring->packed)
		driver_packed_set_piece(ring, head, n, gpa, (uint32_t)iov.len, write);
	else
		driver_split_set_piece(ring, head, n, gpa, (uint32_t)iov.len, write);
}

/*
 * Asks for a call at the next used chain, or asks for none. Arming returns true
 * if chains are used already: then do not sleep.
 */
bool driver_ring_arm(struct vhc_driver_ring *ring);
void driver_ring_disarm(struct vhc_driver_ring *ring);

/* Empties the call descriptor after poll(2) found it readable. */
void driver_ring_take_call(struct vhc_driver_ring *ring);

/*
 * The steps of each request. Those that end in _as are for a ring that the caller
 * knows to be packed or not: a loop then asks once.
 */

static inline void driver_ring_offer_as(struct vhc_driver_ring *ring, bool packed, uint16_t head)
{
	ring->chains[head].in_flight = true;
	ring->in_flight++;
	if (packed)
		driver_packed_offer(ring, head);
	else
		driver_split_offer(ring, head);
}

/* Puts a chain in the ring; the device sees it at driver_ring_publish. */
static inline void driver_ring_offer(struct vhc_driver_ring *ring, uint16_t head)
{
	driver_ring_offer_as(ring, ring->packed, head);
}

static inline bool driver_ring_publish_as(struct vhc_driver_ring *ring, bool packed)
{
	return packed ? driver_packed_publish(ring) : driver_split_publish(ring);
}

/* Shows the device what was offered; kicks it if it wants that and returns true if it did. */
static inline bool driver_ring_publish(struct vhc_driver_ring *ring)
{
	return driver_ring_publish_as(ring, ring->packed);
}

/* How many used chains wait, at most (0: none does), or -EPROTO. */
static inline int driver_ring_ready_as(struct vhc_driver_ring *ring, bool packed)
{
	return packed ? driver_packed_ready(ring) : driver_split_ready(ring);
}

/*
 * Takes one of the used chains that driver_ring_ready_as counted. Returns its head;
 * -EAGAIN: packed, there is none any more; -EPROTO.
 */
static inline int driver_ring_take_as(struct vhc_driver_ring *ring, bool packed, uint32_t *len)
{
	return packed ? driver_packed_take(ring, len) : driver_split_take(ring, len);
}

#endif
