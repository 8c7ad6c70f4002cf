/* SPDX-License-Identifier: MIT */
/*
 * Blocks that can be told apart: each says where it belongs, who wrote it and
 * when, so that lost, misplaced, torn and stale writes all show.
 */
#include <string.h>

#include "crc32c.h"
#include "load.h"

#define MAGIC 0x6c746374736f6876u /* "vhostctl" */

/* The head of a block; pseudo-random bytes follow. */
struct stamp {
	uint64_t magic;
	uint64_t offset; /* bytes from the start of the device */
	uint64_t seed;
	uint32_t generation; /* how often the load wrote it, 1..255 and round */
	uint32_t crc;	     /* of the rest: what is before it and what follows */
};

static uint64_t device_offset(const struct vhc_load *load, uint64_t block)
{
	return load->config.offset + block * load->config.block_size;
}

static uint32_t block_crc(const uint8_t *data, uint32_t len)
{
	uint32_t crc = crc32c(0, data, offsetof(struct stamp, crc));
	return crc32c(crc, data + sizeof(struct stamp), len - sizeof(struct stamp));
}

uint64_t load_verify_claim(struct vhc_load *load, uint64_t block)
{
	/* Ends: there are no fewer blocks than slots. */
	while (load->known[block].busy)
		block = block + 1 < load->blocks ? block + 1 : 0;
	load->known[block].busy = true;
	return block;
}

uint64_t load_verify_claim_written(struct vhc_load *load)
{
	while (load->known[load->next_block].generation == 0)
		load->next_block++;
	load->known[load->next_block].busy = true;
	return load->next_block++;
}

uint64_t load_verify_count(const struct vhc_load *load)
{
	uint64_t n = 0;
	for (uint64_t i = 0; i < load->blocks; i++)
		n += load->known[i].generation != 0;
	return n;
}

static void write_block(const struct vhc_load *load, const struct load_slot *slot)
{
	uint8_t *data = slot->data;
	uint32_t len = load->config.block_size;
	struct stamp stamp = {
	    .magic = MAGIC,
	    .offset = device_offset(load, slot->block),
	    .seed = load->config.seed,
	    .generation = slot->generation,
	};
	uint64_t random = stamp.offset ^ stamp.seed ^ (uint64_t)stamp.generation << 56;
	for (uint32_t at = sizeof(stamp); at < len; at += sizeof(random)) {
		uint64_t word = load_random(&random);
		memcpy(data + at, &word, sizeof(word));
	}
	memcpy(data, &stamp, sizeof(stamp));
	stamp.crc = block_crc(data, len);
	memcpy(data, &stamp, sizeof(stamp));
}

static bool block_is_right(const struct vhc_load *load, const struct load_slot *slot)
{
	const uint8_t *data = slot->data;
	struct stamp stamp;
	memcpy(&stamp, data, sizeof(stamp));
	return stamp.magic == MAGIC && stamp.offset == device_offset(load, slot->block) &&
	       stamp.seed == load->config.seed &&
	       (slot->generation == 0 || stamp.generation == slot->generation) &&
	       stamp.crc == block_crc(data, load->config.block_size);
}

void load_verify_prepare(struct vhc_load *load, struct load_slot *slot)
{
	uint8_t known = load->known[slot->block].generation;
	if (slot->op == VHC_OP_READ) {
		slot->generation = known;
		/* What the last read left here must not pass for what this one brings. */
		memset(slot->data, 0, sizeof(struct stamp));
		return;
	}
	slot->generation = known == UINT8_MAX ? 1 : known + 1;
	write_block(load, slot);
}

static void count_check(struct vhc_load *load, const struct load_slot *slot, bool right)
{
	atomic_fetch_add_explicit(&load->verified, 1, memory_order_relaxed);
	if (right)
		return;
	if (atomic_fetch_add_explicit(&load->verify_errors, 1, memory_order_relaxed) == 0)
		atomic_store_explicit(&load->first_bad, device_offset(load, slot->block),
				      memory_order_relaxed);
}

void load_verify_finish(struct vhc_load *load, struct load_slot *slot, bool failed)
{
	struct load_block *block = &load->known[slot->block];
	block->busy = false;
	if (slot->op == VHC_OP_WRITE) {
		block->generation = failed ? 0 : slot->generation;
		return;
	}
	/* A mixed load meets blocks that it has not written; a reading one expects its seed's. */
	if (slot->generation == 0 && load_writes(load))
		return;
	if (!failed)
		count_check(load, slot, block_is_right(load, slot));
	else if (load->readback)
		count_check(load, slot, false);
}
