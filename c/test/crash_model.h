/* SPDX-License-Identifier: MIT */
/*
 * A device's side of a ring, as simple as it can be, that uses an in-flight region as
 * inflight.h has it: what the crash test finds here is the region's fault.
 */
#ifndef VHC_CRASH_MODEL_H
#define VHC_CRASH_MODEL_H

#include "crash_driver.h"
#include "inflight.h"

struct model_put {
	uint16_t id, count;
	uint32_t len;
};

struct model {
	uint8_t *memory;
	uint32_t size;
	bool packed;
	struct inflight *inflight;
	/* What a predecessor left, heads or slots: taken before anything else. */
	uint16_t recovered[CRASH_MAX_SIZE];
	uint32_t num_recovered, next_recovered;
	/* Split: free-running. */
	uint16_t next_avail, next_used;
	/* Packed. Of a chain by slot: its descriptors. */
	struct inflight_position avail, used;
	struct vring_packed_desc descs[CRASH_MAX_SIZE][CRASH_MAX_PIECES];
	uint16_t counts[CRASH_MAX_SIZE];
	bool busy[CRASH_MAX_SIZE];
	struct model_put puts[CRASH_MAX_SIZE];
	uint32_t num_puts;
};

static inline struct inflight_position model_after(const struct model *m,
						   struct inflight_position at, uint32_t count)
{
	if (at.index + count < m->size)
		return (struct inflight_position){(uint16_t)(at.index + count), at.wrap};
	return (struct inflight_position){(uint16_t)(at.index + count - m->size), !at.wrap};
}

static inline uint16_t model_slot(struct model *m)
{
	uint16_t slot = 0;

	while (m->busy[slot])
		slot++;
	m->busy[slot] = true;
	return slot;
}

/* Recovers. Returns 0 or an error. */
static inline int model_start(struct model *m)
{
	struct inflight_chain chains[CRASH_MAX_SIZE];
	struct vring_packed_desc descs[CRASH_MAX_SIZE];
	const struct vring_packed_desc *at = descs;
	int n;

	if (!m->packed) {
		m->next_used = ((struct vring_used *)(m->memory + CRASH_USED))->idx;
		n = inflight_recover_split(m->inflight, m->next_used, m->recovered);
		m->num_recovered = n > 0 ? (uint32_t)n : 0;
		m->next_avail = (uint16_t)(m->next_used + m->num_recovered);
		return n < 0 ? n : 0;
	}
	m->used = (struct inflight_position){0, true};
	n = inflight_recover_packed(m->inflight, (struct vring_packed_desc *)m->memory, &m->used,
				    chains, descs);
	m->avail = m->used;
	for (int i = 0; i < n; i++) {
		uint16_t slot = model_slot(m);

		memcpy(m->descs[slot], at, chains[i].count * sizeof(*at));
		at += chains[i].count;
		m->counts[slot] = chains[i].count;
		m->avail = model_after(m, m->avail, chains[i].count);
		m->recovered[m->num_recovered++] = slot;
		inflight_bind(m->inflight, slot, chains[i].entry);
	}
	return n < 0 ? n : 0;
}

/* The slot of the next chain offered, or -1. */
static inline int model_take_packed(struct model *m)
{
	const struct vring_packed_desc *ring = (const struct vring_packed_desc *)m->memory;
	uint16_t flags = __atomic_load_n(&ring[m->avail.index].flags, __ATOMIC_ACQUIRE);
	bool avail = flags & PACKED_AVAIL, used = flags & PACKED_USED;
	uint16_t slot, n = 0;

	if (avail != m->avail.wrap || used == m->avail.wrap)
		return -1;
	slot = model_slot(m);
	do {
		m->descs[slot][n] = ring[m->avail.index];
		m->avail = model_after(m, m->avail, 1);
	} while (m->descs[slot][n++].flags & VRING_DESC_F_NEXT && n < CRASH_MAX_PIECES);
	m->counts[slot] = n;
	inflight_mark_packed(m->inflight, slot, m->descs[slot], n);
	return slot;
}

static inline int model_take_split(struct model *m)
{
	const struct vring_avail *avail = (const struct vring_avail *)(m->memory + CRASH_AVAIL);
	uint16_t head;

	if (__atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE) == m->next_avail)
		return -1;
	head = avail->ring[m->next_avail++ % m->size];
	if (!inflight_any(m->inflight))
		inflight_begin_split(m->inflight,
				     ((struct vring_used *)(m->memory + CRASH_USED))->idx);
	inflight_mark_split(m->inflight, head);
	return head;
}

/* Where the slot of the driver is that a chain's first descriptor leads to. */
static inline struct crash_slot *model_find(const struct model *m, uint64_t gpa)
{
	uint64_t offset = gpa - CRASH_GPA - CRASH_SLOTS;

	return (struct crash_slot *)(m->memory + CRASH_SLOTS + offset / CRASH_SLOT * CRASH_SLOT);
}

/* Takes a chain: 1, or 0 if there is none. */
static inline int model_pop(struct model *m, uint32_t *head, struct crash_slot **slot)
{
	int got;

	if (m->next_recovered < m->num_recovered)
		got = m->recovered[m->next_recovered++];
	else
		got = m->packed ? model_take_packed(m) : model_take_split(m);
	if (got < 0)
		return 0;
	*head = (uint32_t)got;
	*slot = model_find(m, m->packed ? m->descs[got][0].addr
					: ((struct vring_desc *)m->memory)[got].addr);
	return 1;
}

static inline void model_push(struct model *m, uint32_t head, uint32_t len)
{
	struct vring_used *used = (struct vring_used *)(m->memory + CRASH_USED);

	inflight_put(m->inflight, (uint16_t)head);
	if (!m->packed) {
		used->ring[m->next_used++ % m->size] =
		    (struct vring_used_elem){.id = head, .len = len};
		return;
	}
	m->puts[m->num_puts++] = (struct model_put){
	    .id = m->descs[head][m->counts[head] - 1].id, .count = m->counts[head], .len = len};
	m->busy[head] = false;
}

static inline void model_store(struct model *m, struct inflight_position at,
			       const struct model_put *put)
{
	struct vring_packed_desc *desc = (struct vring_packed_desc *)m->memory + at.index;
	uint16_t flags =
	    (uint16_t)((at.wrap ? PACKED_AVAIL | PACKED_USED : 0) | VRING_DESC_F_WRITE);

	__atomic_store_n((uint64_t *)&desc->len,
			 put->len | (uint64_t)put->id << 32 | (uint64_t)flags << 48,
			 __ATOMIC_RELEASE);
}

static inline void model_signal_packed(struct model *m)
{
	struct inflight_position first = m->used;

	if (m->num_puts == 0)
		return;
	m->used = model_after(m, first, m->puts[0].count);
	for (uint32_t i = 1; i < m->num_puts; i++)
		m->used = model_after(m, m->used, m->puts[i].count);
	inflight_announce_packed(m->inflight, m->used);

	struct inflight_position at = model_after(m, first, m->puts[0].count);

	for (uint32_t i = 1; i < m->num_puts; i++) {
		model_store(m, at, &m->puts[i]);
		at = model_after(m, at, m->puts[i].count);
	}
	model_store(m, first, &m->puts[0]);
	inflight_settle_packed(m->inflight, m->used);
	m->num_puts = 0;
}

/* Shows the driver what was put. */
static inline void model_signal(struct model *m)
{
	struct vring_used *used = (struct vring_used *)(m->memory + CRASH_USED);

	if (m->packed) {
		model_signal_packed(m);
		return;
	}
	__atomic_store_n(&used->idx, m->next_used, __ATOMIC_RELEASE);
	inflight_settle_split(m->inflight, m->next_used);
}

#endif
