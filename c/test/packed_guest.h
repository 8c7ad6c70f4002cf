/* SPDX-License-Identifier: MIT */
/*
 * The driver's side of a packed ring (virtio 2.8) in a guest of guest.h, as plainly as
 * the specification has it: it knows nothing of the device's code, and can write
 * wrong things too.
 */
#ifndef VHC_TEST_PACKED_GUEST_H
#define VHC_TEST_PACKED_GUEST_H

#include "scsi_guest.h"

#define GUEST_PACKED (UINT64_C(1) << VIRTIO_F_RING_PACKED)
#define PACKED_GUEST_MAX 32768u

struct packed_guest {
	struct guest guest;
	struct vring_packed_desc *ring;
	struct vring_packed_desc_event *driver;
	struct vring_packed_desc_event *device;
	uint32_t size;
	uint32_t next; /* where the next chain goes */
	bool wrap;
	uint32_t used; /* where the next used descriptor will be */
	bool used_wrap;
	uint16_t counts[65536]; /* descriptors of the chain of each buffer id; 0: none */
	uint32_t num_free;
};

/* A ring without anything in it; any size. */
static inline void packed_guest_reset(struct packed_guest *pg, uint32_t size)
{
	pg->size = size;
	pg->next = pg->used = 0;
	pg->wrap = pg->used_wrap = true;
	pg->num_free = size;
	pg->guest.size = size;
	memset(pg->counts, 0, sizeof(pg->counts));
	memset(pg->ring, 0, size * sizeof(*pg->ring));
	*(uint32_t *)pg->driver = *(uint32_t *)pg->device = 0;
}

static inline bool packed_guest_create(struct packed_guest *pg, uint32_t size)
{
	if (!guest_create(&pg->guest, 16))
		return false;
	pg->ring = (struct vring_packed_desc *)pg->guest.memory;
	pg->driver = (struct vring_packed_desc_event *)pg->guest.avail;
	pg->device = (struct vring_packed_desc_event *)pg->guest.used;
	packed_guest_reset(pg, size);
	return true;
}

static inline struct vhc_ring_config packed_guest_config(const struct packed_guest *pg,
							 uint64_t features)
{
	struct vhc_ring_config config = guest_ring_config(&pg->guest, features | GUEST_PACKED);

	config.base = VHC_RING_BASE_PACKED;
	return config;
}

static inline struct vhc_ring *packed_guest_ring(const struct packed_guest *pg, uint64_t features)
{
	struct vhc_ring_config config = packed_guest_config(pg, features);
	struct vhc_ring *ring = NULL;

	return vhc_ring_create(&config, &ring) == 0 ? ring : NULL;
}

static inline uint16_t packed_guest_avail(bool wrap)
{
	return wrap ? 1u << 7 : 1u << 15;
}

/*
 * Offers n descriptors as one chain with a buffer id; their flags get what links and
 * offers them, and `next` is not looked at. All but the first are written before it.
 */
static inline void packed_offer(struct packed_guest *pg, const struct vring_desc *chain, uint32_t n,
				uint16_t id)
{
	const uint32_t first = pg->next;
	uint16_t first_flags = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct vring_packed_desc *at = &pg->ring[pg->next];
		uint16_t flags = chain[i].flags | packed_guest_avail(pg->wrap);

		if (i + 1 < n)
			flags |= VRING_DESC_F_NEXT;
		at->addr = chain[i].addr;
		at->len = chain[i].len;
		/* Only the last one's counts. */
		at->id = i + 1 < n ? (uint16_t)~id : id;
		if (i > 0)
			at->flags = flags;
		else
			first_flags = flags;
		if (++pg->next == pg->size) {
			pg->next = 0;
			pg->wrap = !pg->wrap;
		}
	}
	pg->counts[id] = (uint16_t)n;
	pg->num_free -= n;
	__atomic_store_n(&pg->ring[first].flags, first_flags, __ATOMIC_SEQ_CST);
}

/* Takes a used descriptor; false if there is none, or it is of no chain. */
static inline bool packed_used(struct packed_guest *pg, struct vring_used_elem *out)
{
	const struct vring_packed_desc *at = &pg->ring[pg->used];
	uint16_t flags = __atomic_load_n(&at->flags, __ATOMIC_ACQUIRE);
	bool avail = flags >> VRING_PACKED_DESC_F_AVAIL & 1;
	bool used = flags >> VRING_PACKED_DESC_F_USED & 1;

	if (avail != used || used != pg->used_wrap)
		return false;
	*out = (struct vring_used_elem){.id = at->id, .len = at->len};
	/* WRITE says whether anything was written (2.8.6). */
	if (!CHECK_EQ(flags >> 1 & 1, at->len > 0) || !CHECK(pg->counts[at->id] > 0))
		return false;
	pg->used += pg->counts[at->id];
	pg->num_free += pg->counts[at->id];
	pg->counts[at->id] = 0;
	if (pg->used >= pg->size) {
		pg->used -= pg->size;
		pg->used_wrap = !pg->used_wrap;
	}
	return true;
}

/* A position as event suppression structures and bases have it. */
static inline uint16_t packed_position(uint32_t index, bool wrap)
{
	return (uint16_t)(index | (wrap ? 1u << 15 : 0));
}

/* Has the driver ask for calls: VRING_PACKED_EVENT_FLAG_*, of DESC with a position. */
static inline void packed_ask(struct packed_guest *pg, uint16_t flags, uint32_t index, bool wrap)
{
	uint32_t whole = (uint32_t)flags << 16 | packed_position(index, wrap);

	__atomic_store_n((uint32_t *)pg->driver, whole, __ATOMIC_SEQ_CST);
}

/* A table of n descriptors at some place of the guest, and the descriptor of it. */
static inline struct vring_desc packed_table(const struct guest *guest, void *at,
					     const struct vring_desc *chain, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct vring_packed_desc desc = {
		    .addr = chain[i].addr, .len = chain[i].len, .flags = chain[i].flags};

		memcpy((uint8_t *)at + i * sizeof(desc), &desc, sizeof(desc));
	}
	return (struct vring_desc){guest_gpa(guest, at), n * 16, VRING_DESC_F_INDIRECT, 0};
}

/* As guest_request, to be offered as a packed chain: three descriptors, or one of a table. */
static inline uint32_t packed_request(struct guest *guest, uint32_t i, bool indirect, uint32_t type,
				      uint64_t sector, uint32_t len, struct vring_desc chain[3])
{
	uint16_t in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;

	*guest_header(guest, i) = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	*guest_status(guest, i) = 0xff;
	chain[0] = (struct vring_desc){guest_gpa(guest, guest_header(guest, i)), 16, 0, 0};
	chain[1] = (struct vring_desc){guest_gpa(guest, guest_data(guest, i)), len,
				       (uint16_t)(in ? VRING_DESC_F_WRITE : 0), 0};
	chain[2] =
	    (struct vring_desc){guest_gpa(guest, guest_status(guest, i)), 1, VRING_DESC_F_WRITE, 0};
	if (!indirect)
		return 3;
	chain[0] = packed_table(guest, (uint8_t *)guest_header(guest, i) + 128, chain, 3);
	return 1;
}

/* As guest_chain of scsi_guest.h, to be offered as a packed chain. Returns its length. */
static inline uint32_t packed_command(const struct guest *guest, uint32_t i, bool indirect,
				      uint32_t out, uint32_t in, struct vring_desc chain[4])
{
	uint32_t n = 0;

	chain[n++] =
	    (struct vring_desc){guest_gpa(guest, guest_command(guest, i)), SCSI_GUEST_HEADER, 0, 0};
	if (out > 0)
		chain[n++] = (struct vring_desc){guest_gpa(guest, guest_data(guest, i)), out, 0, 0};
	chain[n++] = (struct vring_desc){guest_gpa(guest, guest_response(guest, i)),
					 SCSI_GUEST_RESPONSE, VRING_DESC_F_WRITE, 0};
	if (in > 0)
		chain[n++] = (struct vring_desc){guest_gpa(guest, guest_data(guest, i)), in,
						 VRING_DESC_F_WRITE, 0};
	if (!indirect)
		return n;
	chain[0] = packed_table(guest, (uint8_t *)guest_command(guest, i) + 256, chain, n);
	return 1;
}

#endif
