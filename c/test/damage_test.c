/* SPDX-License-Identifier: MIT */
/* What is said of in-flight regions that no device left behind so: which fields cannot be. */
#include <errno.h>

#include "inflight_buffer.h"

#define ENTRIES 8u

/* Recovers a region of ENTRIES as a successor does, whose ring may be smaller. */
static int recover(struct buffer *b, uint16_t used_idx)
{
	struct vring_packed_desc ring[ENTRIES] = {0}, descs[ENTRIES];
	struct inflight_position used = {0, true};
	struct inflight_chain chains[ENTRIES];
	uint16_t heads[ENTRIES];

	return b->packed ? inflight_recover_packed(b->inflight, ring, &used, chains, descs)
			 : inflight_recover_split(b->inflight, used_idx, heads);
}

/* A region in which a chain of two (packed) or one is in flight, and another was put. */
static bool open_used(struct buffer *b, bool packed)
{
	const struct vring_packed_desc two[2] = {{.flags = VRING_DESC_F_NEXT}};

	if (!buffer_create(b, ENTRIES, packed) || recover(b, 0) != 0)
		return false;
	for (uint16_t i = 0; i < 2; i++)
		if (packed)
			inflight_mark_packed(b->inflight, i, two, 2);
		else
			inflight_mark_split(b->inflight, i);
	inflight_put(b->inflight, 1);
	if (packed)
		inflight_announce_packed(b->inflight, (struct inflight_position){2, true});
	return true;
}

/* ---- Split ---- */

static void split_version(struct spec_split *region)
{
	region->version = 2;
}

static void split_features(struct spec_split *region)
{
	region->features = 1;
}

static void split_more_entries(struct spec_split *region)
{
	region->desc_num = ENTRIES + 1;
}

static void split_fewer_entries(struct spec_split *region)
{
	region->desc_num = ENTRIES - 1;
}

static void split_last_batch(struct spec_split *region)
{
	region->last_batch_head = ENTRIES;
}

static const struct {
	void (*spoil)(struct spec_split *region);
	uint32_t damage;
} split_cases[] = {
    {split_version, VHC_DAMAGE_VERSION},       {split_features, VHC_DAMAGE_VERSION},
    {split_more_entries, VHC_DAMAGE_DESC_NUM}, {split_fewer_entries, VHC_DAMAGE_DESC_NUM},
    {split_last_batch, VHC_DAMAGE_BATCH},
};

static void tells_of_split(void)
{
	for (size_t i = 0; i < sizeof(split_cases) / sizeof(split_cases[0]); i++) {
		struct buffer b;

		REQUIRE(open_used(&b, false));
		CHECK_EQ(vhc_inflight_damage(b.of), 0);
		split_cases[i].spoil(b.split);
		REQUIRE(reopen(&b));
		CHECK_EQ(recover(&b, 1), -EPROTO);
		CHECK_EQ(vhc_inflight_damage(b.of), split_cases[i].damage);
		buffer_destroy(&b);
	}
}

/* The ring is smaller than the region: an entry beyond it cannot have been taken. */
static void tells_of_an_entry_too_many(void)
{
	struct buffer b;

	REQUIRE(open_used(&b, false));
	b.split->desc[ENTRIES - 1].inflight = 1;
	b.size = ENTRIES - 1;
	REQUIRE(reopen(&b));
	CHECK_EQ(recover(&b, 1), -EPROTO);
	CHECK_EQ(vhc_inflight_damage(b.of), VHC_DAMAGE_INFLIGHT);
	buffer_destroy(&b);
}

/* ---- Packed ---- */

static void packed_version(struct spec_packed *region)
{
	region->version = 9;
}

static void packed_entries(struct spec_packed *region)
{
	region->desc_num = ENTRIES + 1;
}

static void packed_used(struct spec_packed *region)
{
	region->used_idx = ENTRIES;
}

static void packed_old_used(struct spec_packed *region)
{
	region->old_used_idx = ENTRIES;
}

static void packed_free(struct spec_packed *region)
{
	region->desc[5].next = 4;
}

static void packed_num(struct spec_packed *region)
{
	region->desc[0].num = 0;
}

static void packed_last(struct spec_packed *region)
{
	region->desc[0].last = 3;
}

static void packed_next(struct spec_packed *region)
{
	region->desc[0].next = ENTRIES;
}

static const struct {
	void (*spoil)(struct spec_packed *region);
	uint32_t damage;
} packed_cases[] = {
    {packed_version, VHC_DAMAGE_VERSION}, {packed_entries, VHC_DAMAGE_DESC_NUM},
    {packed_used, VHC_DAMAGE_USED},	  {packed_old_used, VHC_DAMAGE_USED},
    {packed_free, VHC_DAMAGE_FREE},	  {packed_num, VHC_DAMAGE_CHAIN},
    {packed_last, VHC_DAMAGE_CHAIN},	  {packed_next, VHC_DAMAGE_CHAIN},
};

static void tells_of_packed(void)
{
	for (size_t i = 0; i < sizeof(packed_cases) / sizeof(packed_cases[0]); i++) {
		struct buffer b;

		REQUIRE(open_used(&b, true));
		packed_cases[i].spoil(b.packed_region);
		REQUIRE(reopen(&b));
		CHECK_EQ(recover(&b, 0), -EPROTO);
		CHECK_EQ(vhc_inflight_damage(b.of), packed_cases[i].damage);
		buffer_destroy(&b);
	}
}

static void tells_of_chains_too_many(void)
{
	struct buffer b;

	REQUIRE(open_used(&b, true));
	b.packed_region->used_idx = b.packed_region->old_used_idx = 0;
	b.packed_region->free_head = b.packed_region->old_free_head = ENTRIES;
	for (uint32_t i = 0; i < ENTRIES; i++)
		b.packed_region->desc[i].inflight = 1;
	b.size = ENTRIES - 1;
	REQUIRE(reopen(&b));
	CHECK_EQ(recover(&b, 0), -EPROTO);
	CHECK_EQ(vhc_inflight_damage(b.of), VHC_DAMAGE_INFLIGHT);
	buffer_destroy(&b);
}

/* What is whole is read, and says nothing. */
static void says_nothing_of_what_is_whole(void)
{
	for (int packed = 0; packed < 2; packed++) {
		struct buffer b;

		REQUIRE(open_used(&b, packed));
		REQUIRE(reopen(&b));
		CHECK(recover(&b, 1) >= 0);
		CHECK_EQ(vhc_inflight_damage(b.of), 0);
		buffer_destroy(&b);
	}
}

int main(void)
{
	RUN(tells_of_split);
	RUN(tells_of_an_entry_too_many);
	RUN(tells_of_packed);
	RUN(tells_of_chains_too_many);
	RUN(says_nothing_of_what_is_whole);
	return check_report();
}
