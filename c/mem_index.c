/* SPDX-License-Identifier: MIT */
#include "mem_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Without a branch to predict: who asks by turns is no slower than who asks for one thing. */
uint32_t mem_index_above(const struct mem_index *index, uint64_t at)
{
	const struct mem_range *from = index->ranges;

	if (index->count == 0)
		return 0;
	for (uint32_t left = index->count; left > 1;) {
		uint32_t half = left / 2;

		from += from[half].start <= at ? half : 0;
		left -= half;
	}
	return (uint32_t)(from - index->ranges) + (from->start <= at);
}

const struct mem_range *mem_index_find(const struct mem_index *index, uint64_t at)
{
	uint32_t above = mem_index_above(index, at);

	if (above == 0)
		return NULL;

	const struct mem_range *range = &index->ranges[above - 1];

	return at - range->start < range->size ? range : NULL;
}

bool mem_index_overlaps(const struct mem_index *index, uint64_t start, uint64_t size)
{
	/* The last one that starts before the end is the only one that can reach in. */
	uint32_t above = mem_index_above(index, start + (size - 1));

	if (above == 0)
		return false;

	const struct mem_range *range = &index->ranges[above - 1];

	return range->start >= start || start - range->start < range->size;
}

int mem_index_reserve(struct mem_index *index, uint32_t more)
{
	uint32_t room = index->room > 0 ? index->room : 8;
	struct mem_range *ranges;

	if (more <= index->room - index->count)
		return 0;
	while (room < index->count + more)
		room *= 2;
	ranges = realloc(index->ranges, room * sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	index->ranges = ranges;
	index->room = room;
	return 0;
}

void mem_index_splice(struct mem_index *index, uint32_t low, uint32_t high,
		      const struct mem_range *ranges, uint32_t n)
{
	struct mem_range *at = index->ranges + low;

	if (low == high && n == 0)
		return;
	memmove(at + n, index->ranges + high, (index->count - high) * sizeof(*at));
	if (n > 0)
		memcpy(at, ranges, n * sizeof(*at));
	index->count += n - (high - low);
}

void mem_index_add(struct mem_index *index, struct mem_range range)
{
	uint32_t at = mem_index_above(index, range.start);

	mem_index_splice(index, at, at, &range, 1);
}

void mem_index_remove(struct mem_index *index, uint64_t start)
{
	uint32_t above = mem_index_above(index, start);

	mem_index_splice(index, above - 1, above, NULL, 0);
}

int mem_index_copy(const struct mem_index *from, struct mem_index *to)
{
	if (from->count == 0)
		return 0;

	int result = mem_index_reserve(to, from->count);

	if (result == 0)
		mem_index_splice(to, 0, 0, from->ranges, from->count);
	return result;
}
