/* SPDX-License-Identifier: MIT */
/* Ranges of addresses that do not overlap, in order, and what each stands for. */
#ifndef VHC_MEM_INDEX_H
#define VHC_MEM_INDEX_H

#include <stdbool.h>
#include <stdint.h>

struct mem_range {
	uint64_t start;
	uint64_t size;	 /* not 0; start + size does not wrap */
	uint64_t to;	 /* what `start` stands for */
	uint64_t access; /* VHC_MEM_* that is allowed */
};

struct mem_index {
	struct mem_range *ranges;
	uint32_t count;
	uint32_t room;
};

/* Position of the first range that starts beyond `at`. */
uint32_t mem_index_above(const struct mem_index *index, uint64_t at);

/* The range that holds `at`, or NULL. */
const struct mem_range *mem_index_find(const struct mem_index *index, uint64_t at);

/* Whether a range shares a byte with start..start+size, which does not wrap. */
bool mem_index_overlaps(const struct mem_index *index, uint64_t start, uint64_t size);

/* Makes room for so many more. Errors: -ENOMEM. */
int mem_index_reserve(struct mem_index *index, uint32_t more);

/* Puts n ranges, for which there is room, in the place of those from position low to high - 1. */
void mem_index_splice(struct mem_index *index, uint32_t low, uint32_t high,
		      const struct mem_range *ranges, uint32_t n);

/* The same for one more range, that overlaps no other; and for none instead of the one at start. */
void mem_index_add(struct mem_index *index, struct mem_range range);
void mem_index_remove(struct mem_index *index, uint64_t start);

/* Makes `to`, which is zeroed, equal to `from`. Errors: -ENOMEM. */
int mem_index_copy(const struct mem_index *from, struct mem_index *to);

#endif
