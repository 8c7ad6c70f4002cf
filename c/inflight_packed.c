/* SPDX-License-Identifier: MIT */
/* Regions of packed rings. */
#include "inflight_region.h"

static union packed_used packed_used(struct inflight_position used, struct inflight_position old)
{
	return (union packed_used){
	    .used_idx = used.index,
	    .old_used_idx = old.index,
	    .used_wrap_counter = used.wrap,
	    .old_used_wrap_counter = old.wrap,
	};
}

static void set_used(struct inflight *inflight, struct inflight_position used,
		     struct inflight_position old)
{
	inflight->packed->used = packed_used(used, old).word;
}

static void init_packed(struct inflight *inflight, struct inflight_position used)
{
	volatile struct packed_region *region = inflight->packed;
	uint32_t n = inflight->of->queue_size;

	for (uint32_t i = 0; i < n; i++) {
		region->desc[i].inflight = 0;
		region->desc[i].next = (uint16_t)(i + 1);
		inflight->next[i] = (uint16_t)(i + 1);
	}
	region->features = 0;
	region->desc_num = (uint16_t)n;
	region->free_head = 0;
	region->old_free_head = 0;
	set_used(inflight, used, used);
	region->version = REGION_VERSION;
	inflight->entries = n;
	inflight->free_head = 0;
	inflight->used = used;
}

/* ---- Recovery ---- */

/* What the driver's and the device's bits of a descriptor's flags say together. */
#define PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED (1u << VRING_PACKED_DESC_F_USED)

/* As the driver makes a descriptor available, and as the device makes it used. */
static uint32_t available_bits(bool wrap)
{
	return wrap ? PACKED_AVAIL : PACKED_USED;
}

static uint32_t used_bits(bool wrap)
{
	return wrap ? PACKED_AVAIL | PACKED_USED : 0;
}

static uint32_t ring_bits(const struct vring_packed_desc *desc)
{
	return *(const volatile uint16_t *)&desc->flags & (PACKED_AVAIL | PACKED_USED);
}

/*
 * Of a batch that was announced and not shown, all but the first may have been written:
 * they must not look used once the driver comes there. Goes round at most once.
 */
static void take_back(const struct inflight *inflight, struct vring_packed_desc *ring,
		      struct inflight_position from, uint16_t to)
{
	do {
		struct vring_packed_desc *desc = &ring[from.index];

		if (ring_bits(desc) == used_bits(from.wrap))
			*(volatile uint16_t *)&desc->flags = (uint16_t)available_bits(from.wrap);
		if (++from.index == inflight->size) {
			from.index = 0;
			from.wrap = !from.wrap;
		}
	} while (from.index != to);
}

/* Goes forward or back to where the ring is. Returns the head of the list of free entries. */
static int settle_announced(struct inflight *inflight, struct vring_packed_desc *ring)
{
	volatile struct packed_region *region = inflight->packed;
	union packed_used word = {.word = region->used};
	struct inflight_position new = {word.used_idx, word.used_wrap_counter};
	struct inflight_position old = {word.old_used_idx, word.old_used_wrap_counter};

	if (new.index >= inflight->size || old.index >= inflight->size)
		return region_damaged(inflight, VHC_DAMAGE_USED);
	if (new.index != old.index || new.wrap != old.wrap) {
		if (ring_bits(&ring[old.index]) != available_bits(old.wrap)) {
			uint16_t head = region->free_head;

			region->old_free_head = head;
			set_used(inflight, new, new);
			inflight->used = new;
			return head;
		}
		take_back(inflight, ring, old, new.index);
	}

	uint16_t head = region->old_free_head;

	region->free_head = head;
	set_used(inflight, old, old);
	inflight->used = old;
	return head;
}

/* What inflight->next says of entries in no chain during the recovery; else the next one. */
#define ENTRY_FREE (NO_ENTRY - 1)
#define ENTRY_UNKNOWN (NO_ENTRY - 2)

static int walk_free(struct inflight *inflight, uint16_t at)
{
	for (uint32_t i = 0; i < inflight->entries; i++)
		inflight->next[i] = ENTRY_UNKNOWN;
	while (at < inflight->entries) {
		if (inflight->next[at] != ENTRY_UNKNOWN)
			return region_damaged(inflight, VHC_DAMAGE_FREE);
		inflight->next[at] = ENTRY_FREE;
		inflight->packed->desc[at].inflight = 0;
		at = inflight->packed->desc[at].next;
	}
	return 0;
}

/* Finds the heads; in their order then. Returns how many. */
static int find_heads(struct inflight *inflight, struct found *found)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < inflight->entries; i++) {
		volatile struct packed_entry *entry = &inflight->packed->desc[i];

		if (inflight->next[i] == ENTRY_FREE || !entry->inflight)
			continue;
		if (n == inflight->size)
			return region_damaged(inflight, VHC_DAMAGE_INFLIGHT);
		found[n++] = (struct found){.counter = entry->counter, .entry = i};
	}
	region_sort(inflight, found, n);
	return (int)n;
}

/* Copies the chain that begins at entry `at`. room: for so many descriptors. Returns how many. */
static int copy_chain(struct inflight *inflight, uint16_t at, uint32_t room,
		      struct vring_packed_desc *descs)
{
	uint16_t num = inflight->packed->desc[at].num;
	uint16_t last = inflight->packed->desc[at].last;

	if (num == 0 || num > room)
		return region_damaged(inflight, VHC_DAMAGE_CHAIN);
	for (uint32_t i = 0; i < num; i++) {
		volatile struct packed_entry *entry = &inflight->packed->desc[at];
		uint16_t next = i + 1u < num ? entry->next : NO_ENTRY;

		if (inflight->next[at] != ENTRY_UNKNOWN || (i + 1u < num) != (at != last) ||
		    (i + 1u < num && next >= inflight->entries))
			return region_damaged(inflight, VHC_DAMAGE_CHAIN);
		inflight->next[at] = next;
		descs[i] = (struct vring_packed_desc){
		    .addr = entry->addr, .len = entry->len, .id = entry->id, .flags = entry->flags};
		at = next;
	}
	return num;
}

/*
 * Makes a list of all entries that no chain has: also of those that were on none. From
 * the last on, so that at no time a list leads into a chain.
 */
static void rebuild_free(struct inflight *inflight)
{
	volatile struct packed_region *region = inflight->packed;
	uint16_t head = (uint16_t)inflight->entries;

	for (uint32_t i = inflight->entries; i-- > 0;) {
		if (inflight->next[i] != ENTRY_FREE && inflight->next[i] != ENTRY_UNKNOWN)
			continue;
		region->desc[i].inflight = 0;
		region->desc[i].next = head;
		inflight->next[i] = head;
		head = (uint16_t)i;
	}
	inflight->free_head = head;
	region->free_head = head;
	region->old_free_head = head;
}

static int find_packed(struct inflight *inflight, struct inflight_chain *chains,
		       struct vring_packed_desc *descs)
{
	struct found *found = calloc(inflight->size, sizeof(*found));
	uint32_t room = inflight->size;
	int result = -ENOMEM;
	int n = found ? find_heads(inflight, found) : result;

	for (int i = 0; i < n; i++) {
		chains[i].entry = (uint16_t)found[i].entry;
		result = copy_chain(inflight, chains[i].entry, room, descs);
		if (result < 0) {
			n = result;
			break;
		}
		chains[i].count = (uint16_t)result;
		descs += result;
		room -= (uint32_t)result;
	}
	free(found);
	if (n >= 0)
		rebuild_free(inflight);
	return n;
}

int inflight_recover_packed(struct inflight *inflight, struct vring_packed_desc *ring,
			    struct inflight_position *used, struct inflight_chain *chains,
			    struct vring_packed_desc *descs)
{
	volatile struct packed_region *region = inflight->packed;
	uint16_t version = region->version;
	int result;

	if (version == 0) {
		init_packed(inflight, *used);
		return 0;
	}
	result = region_check(inflight, region->features, version, region->desc_num);
	if (result == 0)
		result = settle_announced(inflight, ring);
	if (result >= 0)
		result = walk_free(inflight, (uint16_t)result);
	if (result == 0)
		result = find_packed(inflight, chains, descs);
	if (result >= 0)
		*used = inflight->used;
	return result;
}

void inflight_bind(struct inflight *inflight, uint16_t slot, uint16_t entry)
{
	uint16_t last = entry;

	while (inflight->next[last] != NO_ENTRY)
		last = inflight->next[last];
	inflight->chains[slot] = (struct span){.head = entry, .last = last};
}

/* ---- While the ring runs ---- */

void inflight_mark_packed(struct inflight *inflight, uint16_t slot,
			  const struct vring_packed_desc *descs, uint16_t count)
{
	volatile struct packed_region *region = inflight->packed;
	struct span *chain = &inflight->chains[slot];
	uint16_t head = inflight->free_head;
	uint16_t at = head;

	chain->head = NO_ENTRY;
	for (uint32_t i = 0; i < count; i++) {
		volatile struct packed_entry *entry = &region->desc[at];

		/* A driver that has more in flight than its ring holds is on its own. */
		if (at >= inflight->entries)
			return;
		entry->addr = descs[i].addr;
		entry->len = descs[i].len;
		entry->id = descs[i].id;
		entry->flags = descs[i].flags;
		chain->last = at;
		at = inflight->next[at];
	}
	chain->head = head;
	region->desc[head].last = chain->last;
	region->desc[head].num = count;
	region->desc[head].counter = inflight->counter++;
	region->desc[head].inflight = 1;
	/* Until the last of these stores all that is rolled back. */
	region->free_head = at;
	region->old_free_head = at;
	inflight->free_head = at;
	inflight->marked++;
	in_order();
}

/*
 * Only here entries are freed, so that what is marked between put and publish is not
 * mixed up with them.
 */
void inflight_announce_packed(struct inflight *inflight, struct inflight_position used)
{
	volatile struct packed_region *region = inflight->packed;

	in_order();
	for (uint32_t i = 0; i < inflight->num_put; i++) {
		const struct span *chain = &inflight->put[i];

		region->desc[chain->last].next = inflight->free_head;
		inflight->next[chain->last] = inflight->free_head;
		inflight->free_head = chain->head;
	}
	region->free_head = inflight->free_head;
	set_used(inflight, used, inflight->used);
	in_order();
}

void inflight_settle_packed(struct inflight *inflight, struct inflight_position used)
{
	volatile struct packed_region *region = inflight->packed;

	in_order();
	for (uint32_t i = 0; i < inflight->num_put; i++)
		region->desc[inflight->put[i].head].inflight = 0;
	region->old_free_head = inflight->free_head;
	set_used(inflight, used, used);
	inflight->used = used;
	inflight->marked -= inflight->num_put;
	inflight->num_put = 0;
	in_order();
}

void inflight_step_packed(struct inflight *inflight, struct inflight_position shown,
			  struct inflight_position used)
{
	in_order();
	set_used(inflight, used, shown);
	in_order();
}
