/* SPDX-License-Identifier: MIT */
/*
 * Whether another back end, which does what the specification says, would go on with a
 * dead device's region as our own does.
 */
#ifndef VHC_CRASH_SPEC_H
#define VHC_CRASH_SPEC_H

#include "crash_driver.h"
#include "inflight.h"
#include "inflight_spec.h"

/* A region to try it on, second of two in a file of its own. */
struct crash_copy {
	struct vhc_inflight *of;
	uint8_t *region;
	uint64_t bytes;
	uint32_t size;
	bool packed;
};

static inline bool crash_spec_split(const struct crash_copy *copy, struct inflight *ours,
				    struct spec_split *theirs, const uint8_t *memory)
{
	const uint16_t idx = ((const struct vring_used *)(memory + CRASH_USED))->idx;
	uint16_t a[CRASH_MAX_SIZE], b[CRASH_MAX_SIZE];
	int n = spec_reconnect_split(theirs, idx, a);

	(void)copy;
	return inflight_recover_split(ours, idx, b) == n && !memcmp(a, b, (size_t)n * 2);
}

static inline bool crash_spec_packed(const struct crash_copy *copy, struct inflight *ours,
				     struct spec_packed *theirs, const uint8_t *memory)
{
	struct vring_packed_desc ring[CRASH_MAX_SIZE], descs[CRASH_MAX_SIZE];
	struct inflight_chain chains[CRASH_MAX_SIZE];
	struct inflight_position used = {0, true};
	uint16_t heads[CRASH_MAX_SIZE];
	bool same;
	int n;

	/* A batch that goes all round the ring cannot be told from none there. */
	if (theirs->used_idx == theirs->old_used_idx &&
	    theirs->used_wrap_counter != theirs->old_used_wrap_counter)
		return true;
	memcpy(ring, memory, copy->size * sizeof(*ring));
	n = spec_reconnect_packed(theirs, ring, heads);
	same = inflight_recover_packed(ours, ring, &used, chains, descs) == n &&
	       used.index == theirs->used_idx && used.wrap == theirs->used_wrap_counter;
	for (int i = 0; i < n && same; i++)
		same = chains[i].entry == heads[i] && chains[i].count == theirs->desc[heads[i]].num;
	return same;
}

/* memory, region: of a ring whose device is dead. */
static inline bool crash_same_as_spec(const struct crash_copy *copy, const uint8_t *memory,
				      const uint8_t *region)
{
	static uint64_t theirs[(32 + 32 * CRASH_MAX_SIZE) / 8];
	struct inflight *ours = NULL;
	bool same;

	/* It was not begun. */
	if (((const struct spec_split *)region)->version == 0)
		return true;
	memcpy(theirs, region, copy->bytes < sizeof(theirs) ? copy->bytes : sizeof(theirs));
	memcpy(copy->region, region, copy->bytes);
	if (inflight_open(copy->of, 1, copy->size, copy->packed, &ours))
		return false;
	same = copy->packed ? crash_spec_packed(copy, ours, (struct spec_packed *)theirs, memory)
			    : crash_spec_split(copy, ours, (struct spec_split *)theirs, memory);
	inflight_close(ours);
	return same;
}

#endif
