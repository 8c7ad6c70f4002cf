/* SPDX-License-Identifier: MIT */
/*
 * In-flight regions, for inflight*.c: how they lie in memory, and what is known of them
 * here. Split and packed regions have a file each.
 */
#ifndef VHC_INFLIGHT_REGION_H
#define VHC_INFLIGHT_REGION_H

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include "inflight.h"
#include "mapping.h"

#define REGION_VERSION 1u

/* ---- Layouts: DescStateSplit and so on of the specification ---- */

struct split_entry {
	uint8_t inflight;
	uint8_t padding[5];
	uint16_t next; /* put before this one */
	uint64_t counter;
};

struct split_region {
	uint64_t features;
	uint16_t version; /* 0: nobody used it yet */
	uint16_t desc_num;
	uint16_t last_batch_head; /* put last */
	uint16_t used_idx;	  /* up to where chains put are settled */
	struct split_entry desc[];
};

struct packed_entry {
	uint8_t inflight;
	uint8_t padding;
	uint16_t next; /* of the chain, or of the list of free entries */
	uint16_t last;
	uint16_t num;
	uint64_t counter;
	uint16_t id;
	uint16_t flags;
	uint32_t len;
	uint64_t addr;
};

/* Where the device goes on: announced, and settled. */
union packed_used {
	struct {
		uint16_t used_idx;
		uint16_t old_used_idx;
		uint8_t used_wrap_counter;
		uint8_t old_used_wrap_counter;
		uint8_t padding[2];
	};
	uint64_t word;
};

struct packed_region {
	uint64_t features;
	uint16_t version;
	uint16_t desc_num;
	uint16_t free_head;
	uint16_t old_free_head;
	uint64_t used; /* union packed_used: a crash must not part its fields */
	uint64_t padding;
	struct packed_entry desc[];
};

_Static_assert(sizeof(struct split_entry) == 16 && sizeof(struct split_region) == 16, "layout");
_Static_assert(sizeof(struct packed_entry) == 32 && sizeof(struct packed_region) == 32, "layout");
_Static_assert(sizeof(union packed_used) == 8 && offsetof(struct packed_region, used) == 16,
	       "layout");

struct vhc_inflight {
	atomic_uint refs;
	atomic_bool faulted; /* the peer shrank the file: only its own recovery is lost */
	uint32_t num_queues;
	uint32_t queue_size;
	bool packed;
	uint32_t damage; /* enum vhc_damage that was found last, or 0 */
	struct mapping map;
};

/* Entries of a packed chain: those between the two are linked. Split: only the head. */
struct span {
	uint16_t head;
	uint16_t last;
};

#define NO_ENTRY UINT16_MAX

struct inflight {
	union {
		volatile struct split_region *split;
		volatile struct packed_region *packed;
	};
	uint64_t counter; /* of the next chain */
	uint32_t marked;  /* with those that are put and not settled */
	uint32_t num_put;
	uint32_t size;	  /* of the ring */
	uint32_t entries; /* of the region */
	bool is_packed;
	uint16_t last_batch_head;      /* split */
	uint16_t free_head;	       /* packed; `entries`: none is free */
	struct inflight_position used; /* packed: settled */
	struct span *put;	       /* and not settled, in order: `size` at most */
	struct span *chains;	       /* packed: by slot; NO_ENTRY: it is not tracked */
	uint16_t *next;		       /* packed: of free entries and within chains */
	struct vhc_inflight *of;
};

/*
 * Keeps the compiler from moving the ring's own accesses, which are not volatile, past
 * the region's.
 */
static inline void in_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

/* Notes what is wrong with a region; -EPROTO. */
int region_damaged(struct inflight *inflight, enum vhc_damage damage);

/* Whether a region that was used can be read: 0, with the number of its entries, or -EPROTO. */
int region_check(struct inflight *inflight, uint64_t features, uint16_t version, uint16_t desc_num);

/* A chain that a predecessor left. */
struct found {
	uint64_t counter;
	uint32_t entry;
};

/* Sorts them in the order in which they were taken, and counts on from there. */
void region_sort(struct inflight *inflight, struct found *found, uint32_t n);

/* inflight_put's. */
void region_put_split(struct inflight *inflight, uint16_t head);

#endif
