/* SPDX-License-Identifier: MIT */
/* What the device's side of a virtqueue is made of: for ring.h and what it includes. */
#ifndef VHC_RING_STATE_H
#define VHC_RING_STATE_H

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "inflight.h"
#include "mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "virtio 1 is little-endian");

/* Most chains that are looked at before they are taken. */
#define RING_AHEAD 64u

/* ring->taken, by head: 0, or the device has the chain and these say how it is put back. */
#define RING_TAKEN (1u << 0)
#define RING_PACKED (1u << 1)
#define RING_LOGGED (1u << 2)  /* what the device writes is noted in ring->log */
#define RING_TRACKED (1u << 3) /* marked in ring->inflight */
#define RING_OLD (1u << 4)     /* its pieces may be in a table that was replaced */

/*
 * A packed ring's chain, beside its descriptors: in bits 48..63 how many they are in the
 * ring, in 32..47 the buffer's id as the driver has it; both stay there when the chain
 * is put, and the written length takes the place of bits 0..15, its last entry.
 */
typedef uint64_t packed_chain;

static inline packed_chain packed_chain_of(uint32_t id, uint32_t count, uint32_t last)
{
	return (uint64_t)count << 48 | (uint64_t)id << 32 | last;
}

static inline uint32_t packed_count(packed_chain chain)
{
	return (uint32_t)(chain >> 48);
}

/*
 * What is a packed ring's alone. A chain's descriptors are copied once to entries,
 * in the form of a split ring's table, from where alone they are read afterwards:
 * used descriptors of chains that end earlier overwrite those in the ring. A free
 * entry's `next` is the one that is used after it, so that a chain is linked before
 * it is copied; its first entry is the slot by which it is known.
 */
struct packed {
	struct vring_packed_desc *ring;
	struct vring_packed_desc_event *driver; /* when the driver wants to be called */
	struct vring_packed_desc_event *device; /* when the device wants to be kicked */
	struct vring_desc *entries;
	packed_chain *chains; /* by slot */
	packed_chain *puts;   /* put and not published, with their lengths */
	uint32_t num_puts;
	uint32_t num_free;	       /* descriptors that the driver may still offer */
	uint16_t free;		       /* first free entry */
	struct inflight_position look; /* first descriptor that was not looked at */
	struct inflight_position used; /* where the next used descriptor goes */
	uint32_t ahead_at;	       /* chains looked at and not taken: from here on, */
	uint32_t num_ahead;	       /* so many */
	uint16_t ahead[RING_AHEAD];    /* slots, round and round */
};

/* Memory that an IOMMU is to show the device. */
struct ring_miss {
	uint64_t iova;
	uint32_t access; /* VHC_MEM_* */
};

/* Chains that a predecessor took and did not complete: they are taken first, and alone. */
struct ring_recovered {
	uint16_t *heads;		 /* in their order */
	struct vring_packed_desc *descs; /* packed: room for the descriptors of a chain */
	uint32_t at;
	uint32_t left;
	bool taking; /* the last that were taken are among them */
};

/* A part of the ring, where it is here. */
struct ring_part {
	uint64_t host;
	uint64_t len;
};

/* A table of memory that is to be kept. */
struct ring_table {
	struct ring_table *next;
	struct vhc_mem *mem;
};

struct ring_log;

struct vhc_ring {
	/* Used for each batch or request. */
	const struct vring_desc *desc; /* the table; packed: packed.entries */
	struct vring_avail *avail;     /* split, as the next three */
	struct vring_used *used;
	uint16_t *used_event;  /* EVENT_IDX: where the driver says when to call it */
	uint16_t *avail_event; /* EVENT_IDX: where the device says when to kick it */
	uint8_t *taken;	       /* for each head, RING_TAKEN and so on */
	const struct vhc_mem *mem;
	struct mem_cache cache;
	uint32_t size;
	uint32_t mask;	     /* split */
	uint16_t next_avail; /* chains taken; split: next available index to take */
	uint16_t next_used;  /* chains put; split: used index to fill in next */
	uint16_t published;  /* of those, what the driver sees */
	uint16_t offset;     /* next_avail - next_used with nothing in flight */
	uint8_t take;	     /* what a chain that is taken gets in `taken` */
	bool plain;	     /* split, without anything that costs more */
	bool is_packed;
	bool event_idx;
	bool indirect;
	uint32_t table_flags; /* split: of a descriptor that is all of a chain, and a table */
	bool called;	 /* published at least once: `published` means something to EVENT_IDX */
	int32_t call_fd; /* -1: the driver polls */
	struct vhc_trace *trace; /* a reference, or NULL: its requests are not recorded */
	struct packed packed;

	/* What a plain ring has not; see ring_any.c, ring_track.c, ring_log.c. */
	bool waits;		     /* for memory that its view lacks: nothing is taken */
	bool refused;		     /* the next miss at wanted.iova is not asked for */
	struct ring_miss wanted;     /* what ring_map missed last */
	struct inflight *inflight;   /* NULL: nothing is tracked */
	struct ring_recovered again; /* what a predecessor left */
	struct ring_log *log;	     /* NULL: nothing is logged */
	struct ring_table *retired;  /* tables that chains in flight may use */
	uint32_t num_old;	     /* such chains */

	/* Used at most once in a while. */
	bool resumed;		   /* it was served before this object was made */
	struct ring_part parts[3]; /* the three of struct vhc_ring_config */
	int32_t kick_fd;
	int32_t err_fd;
	uint32_t id;
	uint64_t features;	     /* negotiated */
	int broken;		     /* -EPROTO once corrupt: nothing more is taken */
	uint8_t reason;		     /* enum vhc_break_reason */
	struct vring_desc *gathered; /* an indirect table that lies in several regions */
	struct vhc_stats *stats;
	struct vhc_mem *owned_mem; /* mem, as the reference to give back */
	atomic_uint refs;

	/* How it runs. `running` is cleared by the reactor, the next three are for control calls.
	 */
	atomic_bool running;
	bool stopping;
	uint8_t kind; /* enum queue_kind */
	struct vhc_reactor *reactor;
	struct queue *queue; /* the reactor's; NULL once it has stopped */
};

/* Takes nothing more from a ring. The first reason is told; memory that is gone explains others. */
static inline void ring_break(struct vhc_ring *ring, int error, enum vhc_break_reason reason)
{
	if (ring->broken && reason != VHC_BREAK_MEMORY)
		return;
	ring->broken = error;
	ring->reason = (uint8_t)reason;
}

/* A chain's pieces, apart from where they are: see struct vhc_chain. */
struct ring_chain {
	uint32_t num_out;
	uint32_t num_in;
	uint64_t out_len;
	uint64_t in_len;
};

/* A descriptor, copied. */
struct ring_desc {
	uint64_t addr;
	uint32_t len;
	uint32_t tail; /* flags, and above them next, as they lie in memory */
};

/* Guest memory at an address of any alignment, read exactly once. */
typedef struct vring_desc __attribute__((aligned(1))) ring_table_desc;
typedef uint64_t __attribute__((aligned(1), may_alias)) ring_u64;
typedef uint32_t __attribute__((aligned(1), may_alias)) ring_u32;

static inline uint64_t ring_read64(const void *at)
{
	return *(const volatile ring_u64 *)at;
}

static inline uint32_t ring_read32(const void *at)
{
	return *(const volatile ring_u32 *)at;
}

/* The only way a descriptor is read: it may change right after. */
static inline struct ring_desc ring_read_desc(const ring_table_desc *at)
{
	/* By offset: an indirect table may have any alignment. */
	const uint8_t *bytes = (const uint8_t *)at;

	return (struct ring_desc){
	    .addr = ring_read64(bytes + offsetof(struct vring_desc, addr)),
	    .len = ring_read32(bytes + offsetof(struct vring_desc, len)),
	    .tail = ring_read32(bytes + offsetof(struct vring_desc, flags)),
	};
}

/* A chain that was taken. */
struct ring_head {
	const ring_table_desc *first; /* its first descriptor, as far as ring_peek went */
	uint32_t index;
	uint32_t in_table; /* 1: `first` begins an indirect table of three descriptors */
};

/* Chains taken and not put; a predecessor's count when they are taken again. */
static inline uint16_t ring_inflight(const struct vhc_ring *ring)
{
	return ring->next_avail - ring->next_used - ring->offset - (uint16_t)ring->again.left;
}

#endif
