/* SPDX-License-Identifier: MIT */
#include "mem.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sigbus.h"

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

int vhc_mem_create(struct vhc_mem **out)
{
	struct vhc_mem *mem = calloc(1, sizeof(*mem));

	if (!mem)
		return -ENOMEM;
	atomic_init(&mem->refs, 1);
	*out = mem;
	return 0;
}

void vhc_mem_release(struct vhc_mem *mem)
{
	if (!mem || atomic_fetch_sub_explicit(&mem->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < mem->count; i++) {
		struct mem_region *region = &mem->regions[i];

		sigbus_unguard(region->guard);
		munmap((void *)(uintptr_t)region->map, region->map_size);
	}
	free(mem->regions);
	free(mem);
}

int vhc_mem_faulted(const struct vhc_mem *mem)
{
	return mem_faulted(mem);
}

/* Whether [a, a + a_len) and [b, b + b_len) share a byte; neither wraps. */
static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b ? b - a < a_len : a - b < b_len;
}

static int check_region(const struct vhc_mem *mem, const struct mem_region *new)
{
	if (new->size == 0 || new->gpa > UINT64_MAX - new->size ||
	    new->user_addr > UINT64_MAX - new->size)
		return -EINVAL;
	if (mem->count == VHC_MEM_MAX_REGIONS)
		return -ENOSPC;
	for (uint32_t i = 0; i < mem->count; i++) {
		const struct mem_region *old = &mem->regions[i];

		if (overlap(old->gpa, old->size, new->gpa, new->size) ||
		    overlap(old->user_addr, old->size, new->user_addr, new->size))
			return -EINVAL;
	}
	return 0;
}

/*
 * Finds the page size of a file and refuses what must not be mapped: a file
 * that ends before the region, one that is not regular, and one on FUSE, where
 * the peer could make a page fault, and so a reactor, wait forever.
 */
static int check_file(int fd, uint64_t offset, uint64_t size, uint64_t *page_size)
{
	struct stat file;
	struct statfs system;

	if (fstat(fd, &file) || fstatfs(fd, &system))
		return -errno;
	if (!S_ISREG(file.st_mode) || system.f_type == FUSE_SUPER_MAGIC)
		return -EINVAL;
	if (offset > (uint64_t)file.st_size || size > (uint64_t)file.st_size - offset)
		return -EINVAL;
	*page_size = system.f_type == HUGETLBFS_MAGIC ? (uint64_t)system.f_bsize
						      : (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

/* Maps whole pages around the region: hugetlbfs maps from multiples of its page size only. */
static int map_region(struct mem_region *region, int fd, uint64_t offset, uint64_t page_size)
{
	uint64_t before = offset & (page_size - 1);
	uint64_t length = (before + region->size + page_size - 1) & ~(page_size - 1);
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
			(off_t)(offset - before));

	if (at == MAP_FAILED)
		return -errno;
	/* A guest's memory has no place in a core dump of this process. */
	madvise(at, length, MADV_DONTDUMP);
	region->map = (uint64_t)(uintptr_t)at;
	region->map_size = length;
	region->host = region->map + before;
	return 0;
}

static void insert_region(struct vhc_mem *mem, const struct mem_region *region)
{
	uint32_t at = mem->count;

	while (at > 0 && mem->regions[at - 1].gpa > region->gpa)
		at--;
	memmove(&mem->regions[at + 1], &mem->regions[at],
		(mem->count - at) * sizeof(*mem->regions));
	mem->regions[at] = *region;
	mem->count++;
}

int vhc_mem_add_region(struct vhc_mem *mem, uint64_t gpa, uint64_t size, uint64_t user_addr,
		       int32_t fd, uint64_t offset)
{
	struct mem_region region = {.gpa = gpa, .size = size, .user_addr = user_addr};
	uint64_t page_size = 0;
	int result = check_region(mem, &region);

	if (result == 0)
		result = check_file(fd, offset, size, &page_size);
	if (result)
		return result;

	struct mem_region *regions =
	    realloc(mem->regions, (mem->count + 1) * sizeof(*mem->regions));

	if (!regions)
		return -ENOMEM;
	mem->regions = regions;
	result = map_region(&region, fd, offset, page_size);
	if (result)
		return result;
	region.guard = sigbus_guard(region.map, region.map_size, page_size, &mem->faulted);
	if (!region.guard) {
		munmap((void *)(uintptr_t)region.map, region.map_size);
		return -ENOMEM;
	}
	insert_region(mem, &region);
	return 0;
}

/* The region that holds gpa, or NULL. */
static const struct mem_region *find_region(const struct vhc_mem *mem, uint64_t gpa)
{
	uint32_t low = 0;
	uint32_t high = mem->count;

	/* Ends with `low` at the first region that starts beyond gpa. */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (mem->regions[middle].gpa <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return NULL;

	const struct mem_region *region = &mem->regions[low - 1];

	return gpa - region->gpa < region->size ? region : NULL;
}

void *mem_find(const struct vhc_mem *mem, struct mem_cache *cache, uint64_t gpa, uint64_t len)
{
	const struct mem_region *region = find_region(mem, gpa);

	if (!region || len > region->size - (gpa - region->gpa))
		return NULL;
	*cache = (struct mem_cache){
	    .gpa = region->gpa,
	    .size = region->size,
	    .host = region->host,
	    .near = region->size > MEM_NEAR ? region->size - MEM_NEAR : 0,
	};
	return (void *)(uintptr_t)(region->host + (gpa - region->gpa));
}

uint64_t mem_piece(const struct vhc_mem *mem, uint64_t gpa, uint64_t len, uint64_t *host)
{
	const struct mem_region *region = find_region(mem, gpa);

	if (!region)
		return 0;

	uint64_t offset = gpa - region->gpa;

	*host = region->host + offset;
	return region->size - offset < len ? region->size - offset : len;
}

int vhc_mem_translate(const struct vhc_mem *mem, uint64_t gpa, uint64_t len, struct vhc_iov *iov,
		      uint32_t max)
{
	uint32_t n = 0;

	while (len > 0) {
		uint64_t host = 0;
		uint64_t part = mem_piece(mem, gpa, len, &host);

		if (part == 0)
			return -EFAULT;
		if (n == max)
			return -E2BIG;
		iov[n++] = (struct vhc_iov){.addr = host, .len = part};
		/* Cannot wrap: no region reaches 2^64. */
		gpa += part;
		len -= part;
	}
	return (int)n;
}

int vhc_mem_translate_user(const struct vhc_mem *mem, uint64_t user_addr, uint64_t len,
			   uint64_t *addr)
{
	for (uint32_t i = 0; i < mem->count; i++) {
		const struct mem_region *region = &mem->regions[i];
		uint64_t offset = user_addr - region->user_addr;

		if (offset < region->size && len <= region->size - offset) {
			*addr = region->host + offset;
			return 0;
		}
	}
	return -EFAULT;
}
