/* SPDX-License-Identifier: MIT */
/* Counting into pages of statistics that other threads read meanwhile. */
#ifndef VHC_STATS_H
#define VHC_STATS_H

#include "vhostctl.h"

/* Bucket of a latency of ns nanoseconds: the rule in vhostctl.h. */
static inline uint32_t stats_bucket(uint64_t ns)
{
	const uint64_t max = (UINT64_C(1) << VHC_HIST_MAX_BITS) - 1;

	if (ns < (1u << VHC_HIST_SHIFT))
		return (uint32_t)ns;
	if (ns > max)
		ns = max;

	uint32_t exponent = 63u - (uint32_t)__builtin_clzll(ns);
	uint32_t low = (uint32_t)(ns >> (exponent - VHC_HIST_SHIFT)) & ((1u << VHC_HIST_SHIFT) - 1);

	return ((exponent - VHC_HIST_SHIFT + 1) << VHC_HIST_SHIFT) + low;
}

/* Counters have one writer: a plain addition that readers never see torn. */
static inline void stats_set(uint64_t *counter, uint64_t value)
{
	__atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

static inline void stats_add(uint64_t *counter, uint64_t value)
{
	stats_set(counter, *counter + value);
}

/*
 * Counts n requests of one kind that took ns nanoseconds each, moved bytes of
 * data together, and of which errors failed.
 */
static inline void stats_count(struct vhc_stats *stats, uint32_t op, uint64_t n, uint64_t bytes,
			       uint64_t errors, uint64_t ns)
{
	struct vhc_op_stats *of = &stats->op[op];

	stats_add(&of->hist[stats_bucket(ns)], n);
	stats_add(&of->latency_ns, n * ns);
	stats_add(&of->bytes, bytes);
	if (__builtin_expect(errors != 0, 0))
		stats_add(&of->errors, errors);
	stats_add(&of->count, n);
}

#endif
