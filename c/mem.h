/* SPDX-License-Identifier: MIT */
/* Guest memory: translating what a guest names to what this process may touch. */
#ifndef VHC_MEM_H
#define VHC_MEM_H

#include <stdatomic.h>
#include <stdbool.h>

#include "vhostctl.h"

struct sigbus_guard;

struct mem_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t user_addr;
	uint64_t host; /* address of its first byte here */
	uint64_t map;  /* what was mapped: whole pages around it */
	uint64_t map_size;
	struct sigbus_guard *guard;
};

/* Does not change once a ring has it, but for `faulted`. */
struct vhc_mem {
	atomic_uint refs;
	atomic_bool faulted; /* set by the SIGBUS handler */
	uint32_t count;
	struct mem_region *regions; /* by gpa */
};

/*
 * The region that answered last, copied. Each ring keeps its own, so that
 * nearly every translation is one comparison and no shared line is touched.
 */
struct mem_cache {
	uint64_t gpa;
	uint64_t size; /* 0: nothing cached */
	uint64_t host;
	uint64_t near; /* MEM_NEAR less than size, or 0 */
};

/* Most bytes that can be looked up with one comparison: see mem_near. */
#define MEM_NEAR 65536u

/* Looks len bytes (not 0) at gpa up in the table, into the cache if one region holds them. */
void *mem_find(const struct vhc_mem *mem, struct mem_cache *cache, uint64_t gpa, uint64_t len);

/*
 * Writes the address of the byte at gpa and returns how many of len bytes (not
 * 0) from there its region holds; 0 if it is in none.
 */
uint64_t mem_piece(const struct vhc_mem *mem, uint64_t gpa, uint64_t len, uint64_t *host);

/*
 * Whether len bytes (not 0) at gpa lie in the cached region. Nothing overflows:
 * the offset is below the size, and a length of 0 wraps and is too much.
 */
static inline bool mem_cached(const struct mem_cache *cache, uint64_t gpa, uint64_t len)
{
	uint64_t offset = gpa - cache->gpa;

	return __builtin_expect(offset < cache->size && len - 1 < cache->size - offset, 1);
}

/*
 * Whether the bytes at gpa, up to MEM_NEAR of them, lie in the cached region. It
 * may say no where mem_cached says yes: for the last MEM_NEAR bytes of a region.
 */
static inline bool mem_near(const struct mem_cache *cache, uint64_t gpa)
{
	return __builtin_expect(gpa - cache->gpa < cache->near, 1);
}

/* Address here of gpa, which is in the cached region. */
static inline void *mem_cached_at(const struct mem_cache *cache, uint64_t gpa)
{
	return (void *)(uintptr_t)(gpa - cache->gpa + cache->host);
}

/* Address here of len bytes (not 0) at gpa, or NULL unless they lie in one region. */
static inline void *mem_at(const struct vhc_mem *mem, struct mem_cache *cache, uint64_t gpa,
			   uint64_t len)
{
	if (mem_cached(cache, gpa, len))
		return mem_cached_at(cache, gpa);
	return mem_find(mem, cache, gpa, len);
}

/* One more owner; vhc_mem_release is its end. */
static inline void mem_ref(struct vhc_mem *mem)
{
	atomic_fetch_add_explicit(&mem->refs, 1, memory_order_relaxed);
}

static inline bool mem_faulted(const struct vhc_mem *mem)
{
	return atomic_load_explicit(&mem->faulted, memory_order_relaxed);
}

#endif
