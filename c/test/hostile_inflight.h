/* SPDX-License-Identifier: MIT */
/*
 * In-flight regions (vhost-user, "Inflight I/O tracking"): of a healthy ring, whoever
 * writes on them meanwhile; of a predecessor that left requests to do again; and with
 * contents that nobody left.
 */
#ifndef VHC_HOSTILE_INFLIGHT_H
#define VHC_HOSTILE_INFLIGHT_H

#include "hostile_blk.h"
#include "hostile_scsi.h"
#include "inflight_spec.h"

#define REGION_BYTES (64 * KIB)
#define REGION_QUEUES 3u

/* The buffer of the ring that runs, if it is tracked. */
static struct {
	int fd;
	uint8_t *bytes;
	struct vhc_inflight_config config;
	uint32_t index;
	struct gen chance; /* for what is written on it while the ring runs */
	uint64_t tracked, recovered, checked, refused, accepted;
} region;

static inline bool region_up(void)
{
	region.fd = memfd_create("region", MFD_CLOEXEC);
	if (!CHECK_EQ(ftruncate(region.fd, REGION_BYTES), 0))
		return false;
	region.bytes = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, region.fd, 0);
	return CHECK(region.bytes != MAP_FAILED);
}

static inline void region_down(void)
{
	munmap(region.bytes, REGION_BYTES);
	close(region.fd);
}

/* The part of the ring that runs. */
static inline void *region_part(void)
{
	const int64_t each = vhc_inflight_bytes(1, region.config.queue_size, region.config.packed);
	return region.bytes + region.config.offset + (uint64_t)each * region.index;
}

/* Has the next ring, of a format and so many entries, be tracked. */
static inline bool track(struct gen *g, uint64_t features, uint32_t size)
{
	const bool packed = features & PACKED;
	const uint32_t queues = 1 + below(g, REGION_QUEUES);
	const uint32_t queue_size = size + (one_in(g, 2) ? 0 : below(g, 100));
	region.config = (struct vhc_inflight_config){
	    .offset = 64 * below(g, 200),
	    .size = (uint64_t)vhc_inflight_bytes(queues, queue_size, packed),
	    .fd = region.fd,
	    .num_queues = queues,
	    .queue_size = queue_size,
	    .packed = packed,
	};
	region.index = fuzz.rig.inflight_index = below(g, queues);
	memset(region.bytes, 0, REGION_BYTES);
	region.tracked++;
	return CHECK_EQ(vhc_inflight_create(&region.config, &fuzz.rig.inflight), 0);
}

static inline void untrack(void)
{
	vhc_inflight_release(fuzz.rig.inflight);
	fuzz.rig.inflight = NULL;
	fuzz.rig.meddle = NULL;
}

/* Writes on the region: the device does not read it while it runs. */
static inline void meddle_with_region(void)
{
	struct gen *g = &region.chance;
	uint8_t *bytes = region.bytes + region.config.offset;
	for (uint32_t i = below(g, 8); i > 0; i--)
		__atomic_store_n(&bytes[below(g, (uint32_t)region.config.size)],
				 (uint8_t)gen_random(g), __ATOMIC_RELAXED);
}

static inline void region_is_not_safe(struct gen *g)
{
	region.chance.random = gen_random(g);
	fuzz.rig.meddle = meddle_with_region;
}

/* What another back end would find: nothing in flight, and the ring where it is. */
static inline bool nothing_is_in_flight(struct hostile_ring *ring)
{
	static uint64_t copy[REGION_BYTES / 8];
	static uint16_t heads[MAX_RING + 100];
	struct spec_split *split = (struct spec_split *)copy;
	struct spec_packed *packed = (struct spec_packed *)copy;
	memcpy(copy, region_part(),
	       (uint64_t)vhc_inflight_bytes(1, region.config.queue_size, region.config.packed));
	if (!ring->packed)
		return CHECK_EQ(spec_reconnect_split(split, ring_used_idx(ring), heads), 0);
	return CHECK_EQ(spec_reconnect_packed(packed, ring->ring, heads), 0) &&
	       CHECK_EQ(packed->used_idx, ring->reach.at) &&
	       CHECK_EQ(packed->used_wrap_counter, ring->reach.wrap);
}

/* Ends the ring, and its tracking. */
static inline void stop_tracked_ring(void)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	const bool running = ring->handle && ring->running;
	if (running)
		scsi_stop_ring();
	else
		rig_stop_ring(&fuzz.rig);
	if (running && fuzz.rig.inflight && !fuzz.rig.meddle && !ring->broken && !ring->vague &&
	    !fuzz.was_wild) {
		region.checked++;
		nothing_is_in_flight(ring);
	}
	untrack();
}

/* ---- A predecessor's requests -------------------------------------------------------- */

static inline void leave_split(struct gen *g, const uint16_t *heads, uint32_t n)
{
	struct spec_split *r = region_part();
	uint64_t counter = gen_random(g) >> 1;
	r->version = 1;
	r->desc_num = (uint16_t)region.config.queue_size;
	r->used_idx = fuzz.rig.ring.used_seen;
	r->last_batch_head = (uint16_t)below(g, fuzz.rig.ring.size);
	for (uint32_t i = 0; i < n; i++) {
		r->desc[heads[i]].inflight = 1;
		r->desc[heads[i]].counter = counter;
		counter += 1 + below(g, 3);
	}
}

/* Entries from a place on, in turn, for each chain; the rest are free. */
static inline void leave_packed(struct gen *g, uint32_t n)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	const struct vring_packed_desc *shown = (const struct vring_packed_desc *)fuzz.model.memory;
	struct spec_packed *r = region_part();
	uint64_t counter = gen_random(g) >> 1;
	uint16_t at = 0;
	r->version = 1;
	r->desc_num = (uint16_t)region.config.queue_size;
	r->used_idx = r->old_used_idx = ring->reach.at;
	r->used_wrap_counter = r->old_used_wrap_counter = ring->reach.wrap;
	for (uint32_t i = 0; i < n; i++) {
		const struct ring_offer *offer = &ring->offers[i];
		struct spec_desc_packed *head = &r->desc[at];
		*head = (struct spec_desc_packed){
		    .inflight = 1,
		    .num = offer->count,
		    .last = (uint16_t)(at + offer->count - 1),
		    .counter = counter,
		};
		counter += 1 + below(g, 3);
		for (uint32_t k = 0; k < offer->count; k++, at++) {
			const struct vring_packed_desc *d = &shown[(offer->head + k) % ring->size];
			r->desc[at].addr = d->addr;
			r->desc[at].len = d->len;
			r->desc[at].id = d->id;
			r->desc[at].flags = d->flags;
			r->desc[at].next = (uint16_t)(at + 1);
		}
	}
	r->free_head = r->old_free_head = at;
	for (; at < region.config.queue_size; at++)
		r->desc[at].next = (uint16_t)(at + 1);
}

/*
 * Chains that were offered, of which a predecessor took the first and completed none:
 * they come back as all others do. Leaves the ring running, if it began.
 */
static inline bool run_recovered(struct gen *g, uint32_t size, uint64_t features, uint16_t base)
{
	struct hostile_rig *rig = &fuzz.rig;
	struct hostile_ring *ring = &rig->ring;
	uint16_t heads[MAX_CHAINS];
	struct model_answer answers[MAX_CHAINS];
	struct gen own;
	rig_new_ring(rig, BLK_RING, size, features, base);
	gen_begin(&own, rig, gen_random(g), 0);
	uint32_t n = gen_requests(&own, heads);
	snapshot();
	n = offered_heads(heads, n);
	ring->vague |= chains_overlap(heads, n);
	if (ring->vague || n == 0)
		return true;
	const uint32_t taken = below(g, n + 1);
	if (ring->packed)
		leave_packed(g, taken);
	else
		leave_split(g, heads, taken);
	for (uint32_t i = 0; i < n; i++)
		answers[i] = model_head(heads[i]);
	ring_show(ring);
	/* Where the front end has the device go on is worked out anew. */
	const uint32_t garbage =
	    ring->packed ? below(g, size) | below(g, size) << 16 : (uint16_t)gen_random(g);
	if (!CHECK_EQ(rig_create_ring(rig, taken ? garbage : ring_start(ring)), 0))
		return false;
	neighbour_begin(&fuzz.neighbour);
	ring->running = CHECK_EQ(ring_serve(rig), 0);
	RIG_AWAIT(rig, at_rest(ring));
	region.recovered++;
	return neighbour_end(&fuzz.neighbour, rig) && answers_are_the_models(heads, answers, n);
}

/* ---- Contents that nobody left ---------------------------------------------------------- */

static inline void any_bytes(struct gen *g, uint8_t *at, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		at[i] = (uint8_t)gen_random(g);
}

static inline uint16_t any_entry(struct gen *g)
{
	const uint32_t n = region.config.queue_size;
	return (uint16_t)(one_in(g, 40) ? gen_random(g) : below(g, n + 1));
}

static inline void any_split(struct gen *g)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	struct spec_split *r = region_part();
	const uint32_t often = 1 + below(g, 30);
	r->version = 1;
	r->desc_num = (uint16_t)region.config.queue_size;
	r->used_idx = (uint16_t)(ring->used_seen - below(g, 5));
	r->last_batch_head = any_entry(g);
	for (uint32_t i = 0; i < region.config.queue_size; i++) {
		r->desc[i].inflight = (uint8_t)(one_in(g, often) ? gen_random(g) : 0);
		r->desc[i].next = any_entry(g);
		r->desc[i].counter = one_in(g, 2) ? below(g, 4) : gen_random(g);
	}
}

static inline void any_packed_entry(struct gen *g, struct spec_desc_packed *entry)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	const struct vring_packed_desc *d = &ring->ring[below(g, ring->size)];
	*entry = (struct spec_desc_packed){
	    .inflight = one_in(g, 8),
	    .next = any_entry(g),
	    .last = any_entry(g),
	    .num = one_in(g, 2) ? 1 : (uint16_t)below(g, 5),
	    .counter = one_in(g, 2) ? below(g, 4) : gen_random(g),
	    .id = d->id,
	    .flags = one_in(g, 8) ? (uint16_t)gen_random(g) : d->flags,
	    .len = d->len,
	    .addr = d->addr,
	};
}

/* A free list of all that is in no chain, or of some of it; and chains of one. */
static inline void any_packed(struct gen *g)
{
	const struct hostile_ring *ring = &fuzz.rig.ring;
	struct spec_packed *r = region_part();
	const bool good_list = !one_in(g, 3);
	uint16_t free_head = (uint16_t)region.config.queue_size;
	r->version = 1;
	r->desc_num = (uint16_t)region.config.queue_size;
	r->used_idx = r->old_used_idx = ring->reach.at;
	r->used_wrap_counter = r->old_used_wrap_counter = ring->reach.wrap;
	if (one_in(g, 4))
		r->used_idx = (uint16_t)below(g, ring->size + 1);
	if (one_in(g, 4))
		r->old_used_wrap_counter = (uint8_t)gen_random(g);
	for (uint32_t i = region.config.queue_size; i-- > 0;) {
		any_packed_entry(g, &r->desc[i]);
		if (!good_list)
			continue;
		if (r->desc[i].inflight && i < ring->size) {
			r->desc[i].num = 1;
			r->desc[i].last = (uint16_t)i;
		} else {
			r->desc[i].inflight = 0;
			r->desc[i].next = free_head;
			free_head = (uint16_t)i;
		}
	}
	r->free_head = r->old_free_head = good_list ? free_head : any_entry(g);
}

/* Spoils a few fields of what a predecessor left. */
static inline void spoil_split(struct gen *g)
{
	struct spec_split *r = region_part();
	for (uint32_t i = 1 + below(g, 3); i > 0; i--) {
		struct spec_desc_split *entry = &r->desc[below(g, fuzz.rig.ring.size)];
		switch (below(g, 6)) {
		case 0:
			entry->inflight ^= 1;
			break;
		case 1:
			entry->next = any_entry(g);
			break;
		case 2:
			entry->counter = gen_random(g);
			break;
		case 3:
			r->last_batch_head = any_entry(g);
			break;
		case 4:
			r->used_idx -= (uint16_t)below(g, one_in(g, 2) ? 4 : 65536);
			break;
		default:
			r->desc_num = any_entry(g);
		}
	}
}

static inline void spoil_packed(struct gen *g)
{
	struct spec_packed *r = region_part();
	for (uint32_t i = 1 + below(g, 3); i > 0; i--) {
		const uint32_t most = one_in(g, 2) ? fuzz.rig.ring.size : 8;
		const uint32_t last = region.config.queue_size - 1;
		const uint32_t at = below(g, most);
		struct spec_desc_packed *entry = &r->desc[at < last ? at : last];
		switch (below(g, 8)) {
		case 0:
			entry->inflight ^= 1;
			break;
		case 1:
		case 2:
			entry->next = any_entry(g);
			break;
		case 3:
			entry->last = any_entry(g);
			break;
		case 4:
			entry->num = (uint16_t)(one_in(g, 4) ? gen_random(g) : below(g, 6));
			break;
		case 5:
			r->old_free_head = any_entry(g);
			break;
		case 6:
			r->old_used_idx = any_entry(g);
			break;
		default:
			r->used_wrap_counter ^= 1;
		}
	}
}

static inline void any_region(struct gen *g, const uint16_t *heads, uint32_t n)
{
	uint8_t *bytes = region.bytes + region.config.offset;
	const uint32_t size = (uint32_t)region.config.size;
	switch (below(g, 10)) {
	case 0:
		any_bytes(g, bytes, size);
		return;
	case 1:
		any_bytes(g, bytes, size);
		memset(region_part(), 0, 8); /* features */
		break;
	case 2: /* all zeroes, and then some */
		break;
	case 3:
		fuzz.rig.ring.packed ? any_packed(g) : any_split(g);
		break;
	default:
		fuzz.rig.ring.packed ? leave_packed(g, n) : leave_split(g, heads, n);
		fuzz.rig.ring.packed ? spoil_packed(g) : spoil_split(g);
		return;
	}
	for (uint32_t i = one_in(g, 2) ? 0 : below(g, 8); i > 0; i--)
		bytes[below(g, one_in(g, 2) ? 48 : size)] = (uint8_t)gen_random(g);
}

/* What becomes of the ring is nobody's business; of all else there is. */
static inline void run_on_any_region(struct gen *g)
{
	struct hostile_rig *rig = &fuzz.rig;
	rig->ring.vague = scsi.stray = fuzz.was_wild = true;
	neighbour_begin(&fuzz.neighbour);
	rig->ring.running = CHECK_EQ(ring_serve(rig), 0);
	if (!rig->ring.running)
		return;
	scsi_after_start(g);
	scsi_by_chance(gen_random(g));
	if (one_in(g, 2))
		region_is_not_safe(g);
	if (one_in(g, 4))
		disturb(g);
	for (uint32_t i = rig->ring.kind == REQUEST_RING ? below(g, 4) : 0; i > 0; i--)
		control_by_chance(g);
	vhc_eventfd_signal(rig->ring.kick);
	/* Many are stopped while they still do what was left. */
	for (uint32_t i = one_in(g, 2) ? 0 : below(g, 20); i > 0; i--)
		rig_pump(rig);
	CHECK(neighbour_end(&fuzz.neighbour, rig));
}

/* A ring that begins on anything, beside what its driver offers. */
static inline void start_on_any_region(struct gen *g, enum ring_kind kind, uint32_t size,
				       uint64_t features)
{
	struct hostile_rig *rig = &fuzz.rig;
	uint16_t heads[MAX_CHAINS];
	struct gen own;
	if (!track(g, features, size))
		return;
	scsi_before_ring(g);
	rig_new_ring(rig, kind, size, features, (uint16_t)gen_random(g));
	gen_begin(&own, rig, gen_random(g), 0);
	own.body = scsi_body(kind);
	uint32_t n = gen_requests(&own, heads);
	gen_bad_ring(&own);
	snapshot();
	n = offered_heads(heads, n);
	const uint32_t base = ring_start(&rig->ring);
	any_region(g, heads, below(g, n + 1));
	ring_show(&rig->ring);
	const int result = rig_create_ring(rig, base);
	if (result) {
		CHECK_EQ(result, -EPROTO);
		region.refused++;
	} else {
		region.accepted++;
		run_on_any_region(g);
	}
	stop_tracked_ring();
}

#endif
