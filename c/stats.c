/* SPDX-License-Identifier: MIT */
#include "stats.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define ARENA_SLOTS 4096u
/* Whole memory pages each (4, 16 or 64 KiB ones), so that freeing gives them back. */
#define SLOT_BYTES 65536u
_Static_assert(sizeof(struct vhc_stats) <= SLOT_BYTES, "a slot holds a page of statistics");
_Static_assert((VHC_HIST_MAX_BITS - VHC_HIST_SHIFT + 1) << VHC_HIST_SHIFT == VHC_HIST_BUCKETS,
	       "the last bucket ends at 2^VHC_HIST_MAX_BITS");

static pthread_mutex_t arena_lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *arena; /* address space for all slots; only used ones have memory */
static uint64_t arena_used[ARENA_SLOTS / 64];

/* Takes the first free slot, or returns ARENA_SLOTS. */
static uint32_t take_slot(void)
{
	for (uint32_t i = 0; i < ARENA_SLOTS / 64; i++) {
		if (arena_used[i] == UINT64_MAX)
			continue;

		uint32_t bit = (uint32_t)__builtin_ctzll(~arena_used[i]);

		arena_used[i] |= UINT64_C(1) << bit;
		return i * 64 + bit;
	}
	return ARENA_SLOTS;
}

static int map_arena(void)
{
	if (arena)
		return 0;

	void *at = mmap(NULL, (size_t)ARENA_SLOTS * SLOT_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return -ENOMEM;
	/* A huge page here would cost 2 MiB where one slot needs 20 KiB. */
	madvise(at, (size_t)ARENA_SLOTS * SLOT_BYTES, MADV_NOHUGEPAGE);
	arena = at;
	return 0;
}

int vhc_stats_alloc(uint64_t *addr)
{
	uint32_t slot = ARENA_SLOTS;

	pthread_mutex_lock(&arena_lock);
	if (map_arena() == 0)
		slot = take_slot();
	pthread_mutex_unlock(&arena_lock);
	if (slot == ARENA_SLOTS)
		return -ENOMEM;
	*addr = (uint64_t)(uintptr_t)(arena + (size_t)slot * SLOT_BYTES);
	return 0;
}

void vhc_stats_free(uint64_t addr)
{
	uint8_t *at = (uint8_t *)(uintptr_t)addr;

	if (!at)
		return;

	uint32_t slot = (uint32_t)((size_t)(at - arena) / SLOT_BYTES);

	/* Locked memory cannot be dropped; then it is cleared by hand. */
	if (madvise(at, SLOT_BYTES, MADV_DONTNEED))
		memset(at, 0, SLOT_BYTES);
	pthread_mutex_lock(&arena_lock);
	arena_used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
	pthread_mutex_unlock(&arena_lock);
}
