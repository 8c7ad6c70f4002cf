/* SPDX-License-Identifier: MIT */
/* Regions of split rings. */
#include "inflight_region.h"

static void init_split(struct inflight *inflight, uint16_t used_idx)
{
	volatile struct split_region *region = inflight->split;

	inflight->entries = inflight->of->queue_size;
	for (uint32_t i = 0; i < inflight->entries; i++) {
		region->desc[i].inflight = 0;
		region->desc[i].next = 0;
		region->desc[i].counter = 0;
	}
	region->features = 0;
	region->desc_num = (uint16_t)inflight->entries;
	region->last_batch_head = 0;
	region->used_idx = used_idx;
	region->version = REGION_VERSION;
}

/*
 * The chains of the last batch were shown to the driver, and then came the crash.
 * When nothing was marked for a while, used_idx lags behind: what is cleared here
 * then was not set.
 */
static int settle_last_batch(struct inflight *inflight, uint16_t used_idx)
{
	volatile struct split_region *region = inflight->split;
	uint16_t n = used_idx - region->used_idx;
	uint16_t at = region->last_batch_head;

	for (uint32_t i = 0; i < n && i < inflight->entries; i++) {
		if (at >= inflight->entries)
			return region_damaged(inflight, VHC_DAMAGE_BATCH);
		region->desc[at].inflight = 0;
		at = region->desc[at].next;
	}
	region->used_idx = used_idx;
	return 0;
}

static int find_split(struct inflight *inflight, uint16_t *heads)
{
	struct found *found = calloc(inflight->size, sizeof(*found));
	uint32_t n = 0;

	if (!found)
		return -ENOMEM;
	for (uint32_t i = 0; i < inflight->entries; i++) {
		volatile struct split_entry *entry = &inflight->split->desc[i];

		if (!entry->inflight)
			continue;
		if (i >= inflight->size) {
			free(found);
			return region_damaged(inflight, VHC_DAMAGE_INFLIGHT);
		}
		found[n++] = (struct found){.counter = entry->counter, .entry = i};
	}
	region_sort(inflight, found, n);
	for (uint32_t i = 0; i < n; i++)
		heads[i] = (uint16_t)found[i].entry;
	free(found);
	return (int)n;
}

int inflight_recover_split(struct inflight *inflight, uint16_t used_idx, uint16_t *heads)
{
	volatile struct split_region *region = inflight->split;
	uint16_t version = region->version;
	int result;

	if (version == 0) {
		init_split(inflight, used_idx);
		return 0;
	}
	result = region_check(inflight, region->features, version, region->desc_num);
	if (result == 0)
		result = settle_last_batch(inflight, used_idx);
	return result ? result : find_split(inflight, heads);
}

void inflight_begin_split(struct inflight *inflight, uint16_t used_idx)
{
	in_order();
	inflight->split->used_idx = used_idx;
	in_order();
}

void inflight_mark_split(struct inflight *inflight, uint16_t head)
{
	volatile struct split_entry *entry = &inflight->split->desc[head];

	entry->counter = inflight->counter++;
	entry->inflight = 1;
	inflight->marked++;
	in_order();
}

void region_put_split(struct inflight *inflight, uint16_t head)
{
	volatile struct split_region *region = inflight->split;

	region->desc[head].next = inflight->last_batch_head;
	region->last_batch_head = head;
	inflight->last_batch_head = head;
	inflight->put[inflight->num_put++] = (struct span){.head = head};
	in_order();
}

void inflight_settle_split(struct inflight *inflight, uint16_t used_idx)
{
	volatile struct split_region *region = inflight->split;

	in_order();
	for (uint32_t i = 0; i < inflight->num_put; i++)
		region->desc[inflight->put[i].head].inflight = 0;
	region->used_idx = used_idx;
	inflight->marked -= inflight->num_put;
	inflight->num_put = 0;
	in_order();
}
