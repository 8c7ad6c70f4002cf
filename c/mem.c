/* SPDX-License-Identifier: MIT */
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Life ---- */

static struct vhc_mem *new_mem(void)
{
	struct vhc_mem *mem = calloc(1, sizeof(*mem));

	if (mem)
		atomic_init(&mem->refs, 1);
	return mem;
}

static void join(struct vhc_mem *mem, struct mem_family *family)
{
	atomic_fetch_add_explicit(&family->refs, 1, memory_order_relaxed);
	mem->family = family;
	mem->faulted = &family->faulted;
}

int vhc_mem_create(struct vhc_mem **out)
{
	struct vhc_mem *mem = new_mem();
	struct mem_family *family = calloc(1, sizeof(*family));

	if (!mem || !family) {
		free(mem);
		free(family);
		return -ENOMEM;
	}
	join(mem, family);
	*out = mem;
	return 0;
}

int vhc_mem_create_view(struct vhc_mem *mem, struct vhc_mem **out)
{
	struct vhc_mem *view;

	if (mem_is_view(mem))
		return -EINVAL;
	view = new_mem();
	if (!view)
		return -ENOMEM;
	mem_ref(mem);
	view->table = mem;
	view->faulted = mem->faulted;
	*out = view;
	return 0;
}

/* Drops one reference of any kind; whether it was the last. */
static bool drop(atomic_uint *refs)
{
	return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

static void release_region(struct mem_region *region)
{
	if (!drop(&region->refs))
		return;
	mapping_destroy(&region->mapping);
	free(region);
}

void vhc_mem_release(struct vhc_mem *mem)
{
	if (!mem || !drop(&mem->refs))
		return;
	/* The guards of the regions point to the family. */
	for (uint32_t i = 0; i < mem->by_user.count; i++)
		release_region(mem->regions[i]);
	if (mem->family && drop(&mem->family->refs))
		free(mem->family);
	vhc_mem_release(mem->table);
	free(mem->by_gpa.ranges);
	free(mem->by_user.ranges);
	free(mem->by_host.ranges);
	free(mem->regions);
	free(mem);
}

/* Gives a new table all regions of `from`. */
static int copy_regions(const struct vhc_mem *from, struct vhc_mem *to)
{
	uint32_t count = from->by_user.count;
	int result = mem_index_copy(&from->by_host, &to->by_host);

	to->regions = calloc(count + 1, sizeof(struct mem_region *));
	if (result || !to->regions)
		return -ENOMEM;
	/* Last: it says how many there are to release. */
	result = mem_index_copy(&from->by_user, &to->by_user);
	for (uint32_t i = 0; i < count && result == 0; i++) {
		to->regions[i] = from->regions[i];
		atomic_fetch_add_explicit(&to->regions[i]->refs, 1, memory_order_relaxed);
	}
	return result;
}

int vhc_mem_clone(const struct vhc_mem *mem, struct vhc_mem **out)
{
	struct vhc_mem *clone = new_mem();
	int result;

	if (!clone)
		return -ENOMEM;
	if (mem_is_view(mem)) {
		mem_ref(mem->table);
		clone->table = mem->table;
		clone->faulted = mem->faulted;
	} else {
		join(clone, mem->family);
	}
	result = mem_index_copy(&mem->by_gpa, &clone->by_gpa);
	if (result == 0 && !mem_is_view(mem))
		result = copy_regions(mem, clone);
	if (result) {
		vhc_mem_release(clone);
		return result;
	}
	*out = clone;
	return 0;
}

int vhc_mem_faulted(const struct vhc_mem *mem)
{
	return mem_faulted(mem);
}

/* ---- Regions ---- */

static int check_region(const struct vhc_mem *mem, const struct mem_region *new)
{
	if (mem_is_view(mem) || new->size == 0 || new->gpa > UINT64_MAX - new->size ||
	    new->user_addr > UINT64_MAX - new->size)
		return -EINVAL;
	if (mem->by_user.count == VHC_MEM_MAX_REGIONS)
		return -ENOSPC;
	if (mem_index_overlaps(&mem->by_gpa, new->gpa, new->size) ||
	    mem_index_overlaps(&mem->by_user, new->user_addr, new->size))
		return -EINVAL;
	return 0;
}

static int reserve_region(struct vhc_mem *mem)
{
	struct mem_region **regions =
	    realloc(mem->regions, (mem->by_user.count + 1) * sizeof(*regions));

	if (!regions)
		return -ENOMEM;
	mem->regions = regions;
	if (mem_index_reserve(&mem->by_gpa, 1) || mem_index_reserve(&mem->by_user, 1) ||
	    mem_index_reserve(&mem->by_host, 1))
		return -ENOMEM;
	return 0;
}

/* There is room for it. */
static void insert_region(struct vhc_mem *mem, struct mem_region *region)
{
	const uint64_t host = region->mapping.host;
	const uint64_t size = region->size;
	const uint64_t access = VHC_MEM_READ | VHC_MEM_WRITE;

	mem->regions[mem->by_user.count] = region;
	mem_index_add(&mem->by_gpa, (struct mem_range){region->gpa, size, host, access});
	mem_index_add(&mem->by_user, (struct mem_range){region->user_addr, size, host, access});
	mem_index_add(&mem->by_host, (struct mem_range){host, size, region->gpa, access});
}

int vhc_mem_add_region(struct vhc_mem *mem, uint64_t gpa, uint64_t size, uint64_t user_addr,
		       int32_t fd, uint64_t offset)
{
	const struct mem_region new = {.refs = 1, .gpa = gpa, .size = size, .user_addr = user_addr};
	struct mem_region *region;
	int result = check_region(mem, &new);

	if (result == 0)
		result = reserve_region(mem);
	if (result)
		return result;
	region = malloc(sizeof(*region));
	if (!region)
		return -ENOMEM;
	*region = new;
	result = mapping_create(&region->mapping, fd, offset, size, &mem->family->faulted);
	if (result) {
		free(region);
		return result;
	}
	insert_region(mem, region);
	return 0;
}

int vhc_mem_remove_region(struct vhc_mem *mem, uint64_t gpa, uint64_t size, uint64_t user_addr)
{
	for (uint32_t i = 0; i < mem->by_user.count; i++) {
		struct mem_region *region = mem->regions[i];

		if (region->gpa != gpa || region->size != size || region->user_addr != user_addr)
			continue;
		mem_index_remove(&mem->by_gpa, gpa);
		mem_index_remove(&mem->by_host, region->mapping.host);
		mem_index_remove(&mem->by_user, user_addr);
		mem->regions[i] = mem->regions[mem->by_user.count];
		release_region(region);
		return 0;
	}
	return -ENOENT;
}

/* ---- Translation ---- */

void *mem_find(const struct vhc_mem *mem, struct mem_cache *cache, uint64_t gpa, uint64_t len)
{
	const struct mem_range *range = mem_index_find(&mem->by_gpa, gpa);

	if (!range || len > range->size - (gpa - range->start) ||
	    range->access != (VHC_MEM_READ | VHC_MEM_WRITE))
		return NULL;
	*cache = (struct mem_cache){
	    .gpa = range->start,
	    .size = range->size,
	    .host = range->to,
	    .near = range->size > MEM_NEAR ? range->size - MEM_NEAR : 0,
	};
	return (void *)(uintptr_t)(range->to + (gpa - range->start));
}

uint64_t mem_reach(const struct vhc_mem *mem, uint64_t gpa, uint64_t len, uint64_t access,
		   uint64_t *host)
{
	const struct mem_range *range = mem_index_find(&mem->by_gpa, gpa);

	if (!range || (access & ~range->access))
		return 0;

	uint64_t offset = gpa - range->start;

	*host = range->to + offset;
	return range->size - offset < len ? range->size - offset : len;
}

bool mem_gpa_of(const struct vhc_mem *mem, uint64_t host, uint64_t *gpa)
{
	const struct vhc_mem *table = mem->table ? mem->table : mem;
	const struct mem_range *range = mem_index_find(&table->by_host, host);

	if (!range)
		return false;
	*gpa = range->to + (host - range->start);
	return true;
}

int vhc_mem_translate(const struct vhc_mem *mem, uint64_t gpa, uint64_t len, struct vhc_iov *iov,
		      uint32_t max)
{
	uint32_t n = 0;

	while (len > 0) {
		uint64_t host = 0;
		uint64_t part = mem_reach(mem, gpa, len, 0, &host);

		if (part == 0)
			return -EFAULT;
		if (n == max)
			return -E2BIG;
		iov[n++] = (struct vhc_iov){.addr = host, .len = part};
		/* Cannot wrap: no range reaches 2^64. */
		gpa += part;
		len -= part;
	}
	return (int)n;
}

int vhc_mem_translate_user(const struct vhc_mem *mem, uint64_t user_addr, uint64_t len,
			   uint64_t *addr)
{
	const struct vhc_mem *table = mem->table ? mem->table : mem;
	const struct mem_range *range = mem_index_find(&table->by_user, user_addr);

	if (!range || len > range->size - (user_addr - range->start))
		return -EFAULT;
	*addr = range->to + (user_addr - range->start);
	return 0;
}
