/* SPDX-License-Identifier: MIT */
/*
 * What a successor must know of a ring after a crash (vhost-user, "Inflight I/O
 * tracking"): the part of a struct vhc_inflight that one ring writes.
 *
 * The buffer is shared with the peer, who may write anything to it at any time. So
 * it is read once, by the recover functions, which check all that they find; from
 * then on it is only written, and what has to be known again is kept here.
 *
 * A crash may come between any two instructions. Stores become visible in the order
 * in which the code makes them (they are volatile; no fence is needed against the
 * end of the own process).
 *
 * Only requests that outlive the batch that took them need be marked: until
 * something of a batch is published, a successor finds all of it in the ring again.
 */
#ifndef VHC_INFLIGHT_H
#define VHC_INFLIGHT_H

#include <linux/virtio_ring.h>
#include <stdbool.h>

#include "vhostctl.h"

struct inflight;

/* A packed ring's position: VHC_RING_BASE's halves have one each. */
struct inflight_position {
	uint16_t index; /* of a descriptor */
	bool wrap;	/* the wrap counter there */
};

/* A chain that a predecessor took and did not complete. */
struct inflight_chain {
	uint16_t entry; /* of the region: for inflight_bind */
	uint16_t count; /* descriptors */
};

/*
 * Opens the region of ring number index, which has size entries. Holds a reference
 * to `of`. Errors: -EINVAL (packed is not what `of` is for, no such ring, more
 * entries than it is for), -ENOMEM.
 */
int inflight_open(struct vhc_inflight *of, uint32_t index, uint32_t size, bool packed,
		  struct inflight **out);

/* Also of NULL. */
void inflight_close(struct inflight *inflight);

/* ---- Once, at the start ---- */

/*
 * Split: begins a region that nobody used yet; or finds what a predecessor left,
 * given the used ring's index now. heads (room for size) gets the heads of chains to
 * do again, all below size, each once, in the order in which they were taken; they
 * are marked. Returns how many; -EPROTO: another version, or another number of
 * entries, than this one can read, or contents that nobody wrote; -ENOMEM.
 */
int inflight_recover_split(struct inflight *inflight, uint16_t used_idx, uint16_t *heads);

/*
 * Packed: the same. used: where the front end says that the device goes on; it gets
 * where it really does, if the region was used. descs (room for size) gets copies of
 * the chains' descriptors, one chain after the other, in the order of chains (room
 * for size), which are marked and are to be bound. There are at most size descriptors
 * in all. ring: the descriptor ring, whose flags are looked at; of a batch that the
 * predecessor had not shown yet, those descriptors that it had written already are
 * made available again. Returns how many chains; -EPROTO: as above, or lists that
 * contradict each other; -ENOMEM.
 */
int inflight_recover_packed(struct inflight *inflight, struct vring_packed_desc *ring,
			    struct inflight_position *used, struct inflight_chain *chains,
			    struct vring_packed_desc *descs);

/* Packed: gives a recovered chain the slot by which it is known from now on. */
void inflight_bind(struct inflight *inflight, uint16_t slot, uint16_t entry);

/* ---- While the ring runs ---- */

/* Whether chains are marked, or were put and not settled. */
bool inflight_any(const struct inflight *inflight);

/*
 * Split: before the first of chains is marked while there are none: what the driver
 * was shown since the last one was settled had no marks.
 */
void inflight_begin_split(struct inflight *inflight, uint16_t used_idx);

/* Marks a chain as taken. In the order in which they were taken. */
void inflight_mark_split(struct inflight *inflight, uint16_t head);
void inflight_mark_packed(struct inflight *inflight, uint16_t slot,
			  const struct vring_packed_desc *descs, uint16_t count);

/*
 * A marked chain (head or slot) is put back: it will be among the next that are
 * published. In the order in which they are put.
 */
void inflight_put(struct inflight *inflight, uint16_t head);

/* Split: after the used ring's index was stored: the chains put are settled. */
void inflight_settle_split(struct inflight *inflight, uint16_t used_idx);

/*
 * Packed: before the store that makes the chains put visible, all at once, and after
 * it. used: where the device goes on then.
 */
void inflight_announce_packed(struct inflight *inflight, struct inflight_position used);
void inflight_settle_packed(struct inflight *inflight, struct inflight_position used);

/*
 * Packed, with nothing put: before the store of one used descriptor of a chain that
 * was never marked, after which the device goes on at `used`; what comes before
 * `shown` has been stored. After the last of them the ring is settled as above.
 */
void inflight_step_packed(struct inflight *inflight, struct inflight_position shown,
			  struct inflight_position used);

#endif
