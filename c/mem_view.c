/* SPDX-License-Identifier: MIT */
/*
 * Views: what an IOMMU shows a device of a table. A view is a cache, as the IOTLB
 * that it stands for: it may forget more than it has to, but never show too much.
 */
#include "mem.h"

#include <errno.h>
#include <stdlib.h>

/* New ranges of a view, in order. */
struct parts {
	struct mem_range *ranges;
	uint32_t count;
	struct mem_range *last; /* NULL: there is none yet */
};

/* Whether `next` goes on where `last` ends, in one region: see mem_gpa_of. */
static bool joins(const struct vhc_mem *view, const struct mem_range *last,
		  const struct mem_range *next)
{
	if (last->start + last->size != next->start || last->to + last->size != next->to ||
	    last->access != next->access)
		return false;

	const struct mem_range *region = mem_index_find(&view->table->by_host, next->to);

	return region && region->start != next->to;
}

static void push(const struct vhc_mem *view, struct parts *parts, struct mem_range range)
{
	if (parts->last && joins(view, parts->last, &range)) {
		parts->last->size += range.size;
	} else {
		parts->last = &parts->ranges[parts->count++];
		*parts->last = range;
	}
}

/* The part of a range from `start` on that is before `end`. */
static struct mem_range cut(const struct mem_range *range, uint64_t start, uint64_t end)
{
	return (struct mem_range){.start = start,
				  .size = end - start,
				  .to = range->to + (start - range->start),
				  .access = range->access};
}

/* The user addresses from user_addr on, as what they are in the table. */
static int collect(const struct vhc_mem *view, struct mem_range show, uint64_t user_addr,
		   struct parts *parts)
{
	while (show.size > 0) {
		const struct mem_range *region = mem_index_find(&view->table->by_user, user_addr);
		struct mem_range part = show;
		uint64_t offset;

		if (!region)
			return -EFAULT;
		offset = user_addr - region->start;
		part.to = region->to + offset;
		if (part.size > region->size - offset)
			part.size = region->size - offset;
		push(view, parts, part);
		show.start += part.size;
		show.size -= part.size;
		user_addr += part.size;
	}
	return 0;
}

/* Puts `shown` (perhaps nothing) in the place of what the view has from start to end. */
static int replace(struct vhc_mem *view, uint64_t start, uint64_t end, const struct parts *shown)
{
	struct mem_index *index = &view->by_gpa;
	struct mem_range ranges[VHC_MEM_MAX_REGIONS + 2];
	struct parts parts = {.ranges = ranges};
	uint32_t low = start > 0 ? mem_index_above(index, start - 1) : 0;
	uint32_t high = mem_index_above(index, end);
	uint32_t count;
	int result = 0;

	/* With those that only touch it, to be joined to it: nobody else does. */
	if (low > 0 && index->ranges[low - 1].start + index->ranges[low - 1].size >= start)
		low--;
	if (low < high && index->ranges[low].start < start)
		push(view, &parts, cut(&index->ranges[low], index->ranges[low].start, start));
	for (uint32_t i = 0; i < shown->count; i++)
		push(view, &parts, shown->ranges[i]);
	if (low < high) {
		const struct mem_range *last = &index->ranges[high - 1];

		if (last->start + last->size > end)
			push(view, &parts, cut(last, end, last->start + last->size));
	}
	count = index->count - (high - low) + parts.count;
	if (count > VHC_MEM_MAX_PIECES)
		result = -ENOSPC;
	else if (parts.count > high - low)
		result = mem_index_reserve(index, parts.count - (high - low));
	if (result && shown->count > 0)
		return result;
	/* What is to be hidden must go: if there is no room for what is left on both sides, one. */
	if (result)
		parts.count = 1;
	mem_index_splice(index, low, high, ranges, parts.count);
	return 0;
}

static bool wraps(uint64_t start, uint64_t size)
{
	return size == 0 || start > UINT64_MAX - size;
}

int vhc_mem_show(struct vhc_mem *view, uint64_t iova, uint64_t size, uint64_t user_addr,
		 uint32_t access)
{
	struct mem_range ranges[VHC_MEM_MAX_REGIONS];
	struct parts parts = {.ranges = ranges};
	const struct mem_range show = {.start = iova, .size = size, .access = access};
	int result;

	if (!mem_is_view(view) || wraps(iova, size) || wraps(user_addr, size) || access == 0 ||
	    access > (VHC_MEM_READ | VHC_MEM_WRITE))
		return -EINVAL;
	result = collect(view, show, user_addr, &parts);
	return result ? result : replace(view, iova, iova + size, &parts);
}

int vhc_mem_hide(struct vhc_mem *view, uint64_t iova, uint64_t size)
{
	const struct parts none = {.count = 0};

	if (!mem_is_view(view) || wraps(iova, size))
		return -EINVAL;
	return replace(view, iova, iova + size, &none);
}
