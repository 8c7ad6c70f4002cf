/* SPDX-License-Identifier: MIT */
#include "ring_log.h"

#include <stdlib.h>

#include "log.h"

/* Memory that a chain writes, as the guest has it. */
struct piece {
	uint64_t gpa;
	uint64_t len;
};

struct ring_log {
	struct vhc_log *log;
	bool used;	   /* the ring itself is logged too */
	uint64_t used_gpa; /* of the used ring, or of the device's event structure */
	uint64_t desc_gpa; /* packed: of the descriptors */
	uint16_t *counts;  /* by head */
	struct piece (*pieces)[VHC_CHAIN_MAX_IOV];
};

int ring_log_init(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	struct ring_log *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	ring->log = log;
	ring->take |= RING_LOGGED;
	log->log = (struct vhc_log *)(uintptr_t)config->log;
	log_ref(log->log);
	log->used = config->log_used != UINT64_MAX;
	log->used_gpa = config->log_used;
	log->counts = calloc(ring->size, sizeof(*log->counts));
	/* Of most chains nothing is touched but the beginning. */
	log->pieces = calloc(ring->size, sizeof(*log->pieces));
	if (!log->counts || !log->pieces)
		return -ENOMEM;
	/* The ring was found in this table: it has an address in it. */
	mem_gpa_of(ring->mem, ring->parts[0].host, &log->desc_gpa);
	return 0;
}

void ring_log_free(struct vhc_ring *ring)
{
	struct ring_log *log = ring->log;

	if (!log)
		return;
	vhc_log_release(log->log);
	free(log->counts);
	free(log->pieces);
	free(log);
}

static void mark(struct vhc_ring *ring, uint64_t gpa, uint64_t len)
{
	if (log_mark(ring->log->log, gpa, len))
		ring_break(ring, -EFAULT, VHC_BREAK_LOG);
}

/* ---- Guest memory ---- */

void ring_log_note(struct vhc_ring *ring, uint32_t head, const struct iovec *iov, uint32_t n)
{
	struct piece *pieces = ring->log->pieces[head];

	/* Now: by the time it is put, another table may have another address for it. */
	for (uint32_t i = 0; i < n; i++) {
		mem_gpa_of(ring->mem, (uint64_t)(uintptr_t)iov[i].iov_base, &pieces[i].gpa);
		pieces[i].len = iov[i].iov_len;
	}
	ring->log->counts[head] = (uint16_t)n;
}

void ring_log_chain(struct vhc_ring *ring, size_t head)
{
	const struct piece *pieces = ring->log->pieces[head];

	for (uint32_t i = 0; i < ring->log->counts[head]; i++)
		mark(ring, pieces[i].gpa, pieces[i].len);
	ring->log->counts[head] = 0;
}

/* ---- The ring ---- */

/* Marks entries from one index to before another, of a ring of entries at gpa. */
static void mark_entries(struct vhc_ring *ring, uint64_t gpa, uint64_t bytes, uint32_t from,
			 uint32_t to)
{
	if (from < to) {
		mark(ring, gpa + from * bytes, (to - from) * bytes);
		return;
	}
	mark(ring, gpa + from * bytes, (ring->size - from) * bytes);
	mark(ring, gpa, to * bytes);
}

void ring_log_published(struct vhc_ring *ring, uint16_t old, struct inflight_position from)
{
	const struct ring_log *log = ring->log;

	if (log->used && ring->is_packed) {
		mark_entries(ring, log->desc_gpa, sizeof(struct vring_packed_desc), from.index,
			     ring->packed.used.index);
	} else if (log->used) {
		mark_entries(ring, log->used_gpa + offsetof(struct vring_used, ring),
			     sizeof(struct vring_used_elem), old & ring->mask,
			     ring->published & ring->mask);
		mark(ring, log->used_gpa + offsetof(struct vring_used, idx), sizeof(uint16_t));
	}
	log_signal(log->log);
}

void ring_log_asked(struct vhc_ring *ring)
{
	const struct ring_log *log = ring->log;
	const uint64_t end = offsetof(struct vring_used, ring) +
			     ring->size * (uint64_t)sizeof(struct vring_used_elem);

	if (!log->used)
		return;
	if (ring->is_packed)
		mark(ring, log->used_gpa, sizeof(struct vring_packed_desc_event));
	else if (ring->event_idx)
		mark(ring, log->used_gpa + end, sizeof(uint16_t));
	else
		mark(ring, log->used_gpa, sizeof(uint16_t));
	log_signal(log->log);
}

void ring_log_descs(struct vhc_ring *ring)
{
	if (ring->log->used)
		mark(ring, ring->log->desc_gpa, ring->parts[0].len);
}
