/* SPDX-License-Identifier: MIT */
/* Guest memory: translating what a guest names to what this process may touch. */
#ifndef VHC_MEM_H
#define VHC_MEM_H

#include <stdatomic.h>
#include <stdbool.h>

#include "mapping.h"
#include "mem_index.h"
#include "vhostctl.h"

/* A region, shared by all tables that were cloned with it. */
struct mem_region {
	atomic_uint refs;
	atomic_bool caught; /* its faults are somebody else's: see vhc_mem_catch_faults */
	uint64_t gpa;
	uint64_t size;
	uint64_t user_addr;
	struct mapping mapping;
};

/* What a table and its clones have in common. */
struct mem_family {
	atomic_uint refs;
	atomic_bool faulted; /* set by the SIGBUS handler */
};

/* A table of regions, or a view of one. It does not change once a ring has it. */
struct vhc_mem {
	atomic_uint refs;
	struct mem_index by_gpa; /* a view: by iova. To addresses here */
	const atomic_bool *faulted;

	/* A view's: of which table. */
	struct vhc_mem *table;

	/* A table's. */
	struct mem_index by_user; /* to addresses here */
	struct mem_index by_host; /* addresses here, to guest-physical ones */
	struct mem_region **regions;
	struct mem_family *family;
};

/*
 * The range that answered last, copied. Each ring keeps its own, so that
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

/*
 * Looks len bytes (not 0) at gpa up, into the cache if one range holds them. NULL if
 * none does, or a view does not let them be both read and written.
 */
void *mem_find(const struct vhc_mem *mem, struct mem_cache *cache, uint64_t gpa, uint64_t len);

/*
 * Writes the address of the byte at gpa and returns how many of len bytes (not 0)
 * from there its range holds; 0 if it is in none that allows access (VHC_MEM_*). They
 * are all in one region.
 */
uint64_t mem_reach(const struct vhc_mem *mem, uint64_t gpa, uint64_t len, uint64_t access,
		   uint64_t *host);

/*
 * Writes the guest-physical address of memory at an address here, also for a view.
 * Returns false if it is in no region. What one call of mem_reach, mem_find or
 * vhc_mem_translate_user gave is contiguous in guest-physical memory too.
 */
bool mem_gpa_of(const struct vhc_mem *mem, uint64_t host, uint64_t *gpa);

/* Whether gpas are I/O virtual addresses, of which some may be shown later. */
static inline bool mem_is_view(const struct vhc_mem *mem)
{
	return mem->table;
}

/*
 * Whether len bytes (not 0) at gpa lie in the cached range. Nothing overflows:
 * the offset is below the size, and a length of 0 wraps and is too much.
 */
static inline bool mem_cached(const struct mem_cache *cache, uint64_t gpa, uint64_t len)
{
	uint64_t offset = gpa - cache->gpa;

	return __builtin_expect(offset < cache->size && len - 1 < cache->size - offset, 1);
}

/*
 * Whether the bytes at gpa, up to MEM_NEAR of them, lie in the cached range. It
 * may say no where mem_cached says yes: for the last MEM_NEAR bytes of a range.
 */
static inline bool mem_near(const struct mem_cache *cache, uint64_t gpa)
{
	return __builtin_expect(gpa - cache->gpa < cache->near, 1);
}

/* Address here of gpa, which is in the cached range. */
static inline void *mem_cached_at(const struct mem_cache *cache, uint64_t gpa)
{
	return (void *)(uintptr_t)(gpa - cache->gpa + cache->host);
}

/* Address here of len bytes (not 0) at gpa, or NULL: see mem_find. */
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
	return atomic_load_explicit(mem->faulted, memory_order_relaxed);
}

#endif
