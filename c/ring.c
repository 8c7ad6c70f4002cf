/* SPDX-License-Identifier: MIT */
#include "ring.h"

#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "notify.h"
#include "ring_log.h"
#include "ring_track.h"
#include "stats.h"

/* ---- Chains ---- */

/* Where a chain is being followed, and what of it has been mapped. */
struct walk {
	const ring_table_desc *table; /* the ring's, or an indirect one */
	uint32_t entries;	      /* of the table */
	bool in_list;		      /* of a packed table: the descriptors follow each other */
	uint32_t left;		      /* descriptors that the chain may yet have */
	struct iovec *at;	      /* where the next piece goes */
	struct iovec *end;
};

/* What is not there costs the chain; or, of a view, is asked for, unless that was in vain. */
static int missing(struct vhc_ring *ring, uint64_t gpa, uint32_t access)
{
	bool in_vain = ring->refused && ring->wanted.iova == gpa;

	ring->refused = false;
	if (in_vain || !mem_is_view(ring->mem))
		return -EFAULT;
	ring->wanted = (struct ring_miss){.iova = gpa, .access = access};
	return -ENXIO;
}

/* Adds a descriptor's memory to the pieces: none, one, or one for each region it lies in. */
static int map_desc(struct vhc_ring *ring, struct ring_desc desc, struct walk *walk)
{
	const uint32_t access = desc.tail & VRING_DESC_F_WRITE ? VHC_MEM_WRITE : VHC_MEM_READ;
	uint64_t gpa = desc.addr;
	uint64_t len = desc.len;

	/* So that ring_map_triple knows this region next time, unless all is to be noted. */
	if (len > 0 && !ring->log)
		mem_at(ring->mem, &ring->cache, gpa, len);
	while (len > 0) {
		uint64_t host = 0;
		uint64_t part = mem_reach(ring->mem, gpa, len, access, &host);

		if (part == 0)
			return missing(ring, gpa, access);
		if (walk->at == walk->end)
			return -E2BIG;
		*walk->at++ = (struct iovec){.iov_base = (void *)(uintptr_t)host, .iov_len = part};
		gpa += part;
		len -= part;
	}
	return 0;
}

/* A descriptor of a table; of a packed one as it would be in a split one (virtio 2.8.7). */
static struct ring_desc read_desc(const struct walk *walk, uint32_t index)
{
	struct ring_desc desc = ring_read_desc(&walk->table[index]);

	if (!walk->in_list)
		return desc;
	desc.tail = desc.tail >> 16 & VRING_DESC_F_WRITE;
	if (index + 1 < walk->entries)
		desc.tail |= VRING_DESC_F_NEXT | (index + 1) << 16;
	return desc;
}

/* Copies an indirect table that lies in several regions. */
static int gather_table(struct vhc_ring *ring, struct ring_desc desc)
{
	uint8_t *to = (uint8_t *)ring->gathered;
	uint64_t gpa = desc.addr;
	uint64_t len = desc.len;

	if (len > sizeof(struct vring_desc[VHC_CHAIN_MAX_IOV]))
		return -E2BIG;
	while (len > 0) {
		uint64_t host = 0;
		uint64_t part = mem_reach(ring->mem, gpa, len, VHC_MEM_READ, &host);

		if (part == 0)
			return missing(ring, gpa, VHC_MEM_READ);
		memcpy(to, (const void *)(uintptr_t)host, part);
		to += part;
		gpa += part;
		len -= part;
	}
	return 0;
}

/*
 * Follows an indirect descriptor to the first one of its table (virtio
 * 2.7.5.3): whole descriptors, at least one, no table in it, and nothing after
 * it in the chain; of a packed ring nothing before it either. A driver is to keep
 * such a chain to the ring's size too, but Linux keeps to SEG_MAX alone.
 */
static int enter_table(struct vhc_ring *ring, struct walk *walk, struct ring_desc *desc)
{
	struct mem_cache unused = {0};
	const ring_table_desc *table;

	if (walk->table != ring->desc || !ring->indirect || (desc->tail & VRING_DESC_F_NEXT) ||
	    desc->len == 0 || desc->len % sizeof(*table))
		return -ELOOP;
	table = mem_at(ring->mem, ring->log ? &unused : &ring->cache, desc->addr, desc->len);
	if (!table) {
		int result = gather_table(ring, *desc);

		if (result)
			return result;
		table = ring->gathered;
	}
	walk->table = table;
	walk->entries = desc->len / sizeof(*table);
	walk->left = VHC_CHAIN_MAX_IOV;
	walk->in_list = ring->is_packed;
	*desc = read_desc(walk, 0);
	return desc->tail & VRING_DESC_F_INDIRECT ? -ELOOP : 0;
}

/* Goes on to the next descriptor, which there is, in the chain. */
static int step(struct vhc_ring *ring, struct walk *walk, struct ring_desc *desc)
{
	uint32_t next = desc->tail >> 16;

	if (next >= walk->entries || --walk->left == 0)
		return -ELOOP;
	*desc = read_desc(walk, next);
	if (!(desc->tail & VRING_DESC_F_INDIRECT))
		return 0;
	return ring->is_packed ? -ELOOP : enter_table(ring, walk, desc);
}

int ring_map(struct vhc_ring *ring, uint32_t head, struct iovec *iov, uint32_t max,
	     struct ring_chain *chain)
{
	struct walk walk = {.table = ring->desc,
			    .entries = ring->size,
			    .left = ring->size,
			    .at = iov,
			    .end = iov + max};
	struct ring_desc desc = ring_read_desc(&walk.table[head]);
	bool in = false;
	int result = 0;

	*chain = (struct ring_chain){0};
	if (desc.tail & VRING_DESC_F_INDIRECT)
		result = enter_table(ring, &walk, &desc);
	while (result == 0) {
		if (in && !(desc.tail & VRING_DESC_F_WRITE))
			return -ELOOP;
		in = desc.tail & VRING_DESC_F_WRITE;
		result = map_desc(ring, desc, &walk);
		if (in) {
			chain->in_len += desc.len;
			chain->num_in = (uint32_t)(walk.at - iov) - chain->num_out;
		} else {
			chain->out_len += desc.len;
			chain->num_out = (uint32_t)(walk.at - iov);
		}
		if (!(desc.tail & VRING_DESC_F_NEXT))
			break;
		if (result == 0)
			result = step(ring, &walk, &desc);
	}
	if (__builtin_expect(ring->log != NULL, 0))
		ring_log_note(ring, head, iov + chain->num_out, result ? 0 : chain->num_in);
	return result;
}

__attribute__((noinline)) bool ring_map_packed_triple(const struct vhc_ring *ring,
						      const struct ring_head *head,
						      uint32_t first_len, uint32_t last_len,
						      struct ring_triple *out)
{
	const struct mem_cache *cache = &ring->cache;
	const uint32_t write = VRING_DESC_F_WRITE << 16;
	const struct ring_desc whole = ring_read_desc(head->first);
	struct ring_desc desc[3];

	if (!ring->is_packed || !ring->indirect ||
	    (whole.tail & UINT16_MAX) != VRING_DESC_F_INDIRECT ||
	    whole.len != sizeof(struct vring_packed_desc[3]) || !mem_near(cache, whole.addr))
		return false;
	for (uint32_t i = 0; i < 3; i++) {
		const ring_table_desc *table = mem_cached_at(cache, whole.addr);

		desc[i] = ring_read_desc(&table[i]);
		if (!mem_near(cache, desc[i].addr))
			return false;
	}
	if ((desc[0].tail & write) || desc[0].len != first_len || !(desc[2].tail & write))
		return false;
	if (last_len > 0 && (desc[2].len != last_len || desc[1].len - 1 >= MEM_NEAR))
		return false;
	*out = (struct ring_triple){.first = mem_cached_at(cache, desc[0].addr),
				    .middle = mem_cached_at(cache, desc[1].addr),
				    .last = mem_cached_at(cache, desc[2].addr),
				    .len = desc[1].len,
				    .last_len = desc[2].len,
				    .in = desc[1].tail & write};
	return true;
}

/* ---- Life ---- */

int ring_call(struct vhc_ring *ring)
{
	return notify(ring->call_fd);
}

void ring_signal_error(struct vhc_ring *ring)
{
	if (ring->err_fd >= 0)
		notify(ring->err_fd);
}

static void ring_free(struct vhc_ring *ring)
{
	if (ring->kick_fd >= 0)
		close(ring->kick_fd);
	if (ring->call_fd >= 0)
		close(ring->call_fd);
	if (ring->err_fd >= 0)
		close(ring->err_fd);
	vhc_mem_release(ring->owned_mem);
	ring_forget_retired(ring);
	ring_track_free(ring);
	ring_log_free(ring);
	packed_free(ring);
	vhc_trace_release(ring->trace);
	free(ring->gathered);
	free(ring->taken);
	free(ring);
}

void ring_ref(struct vhc_ring *ring)
{
	atomic_fetch_add_explicit(&ring->refs, 1, memory_order_relaxed);
}

void vhc_ring_release(struct vhc_ring *ring)
{
	if (ring && atomic_fetch_sub_explicit(&ring->refs, 1, memory_order_acq_rel) == 1)
		ring_free(ring);
}

/* Translates an address of the configuration: of a view, an I/O virtual one. */
static int translate(const struct vhc_mem *mem, uint64_t at, uint64_t len, uint32_t access,
		     uint64_t *host)
{
	if (!mem_is_view(mem))
		return vhc_mem_translate_user(mem, at, len, host);
	return mem_reach(mem, at, len, access, host) == len ? 0 : -EFAULT;
}

/* Finds one of the ring's parts and holds it to its alignment here, where it counts. */
static int map_part(struct vhc_ring *ring, uint32_t number, uint64_t at, uint64_t len,
		    uint64_t align, uint32_t access)
{
	struct ring_part *part = &ring->parts[number];
	int result = translate(ring->mem, at, len, access, &part->host);

	part->len = len;
	if (result)
		return result;
	return at % align || part->host % align ? -EINVAL : 0;
}

static void *part_at(const struct vhc_ring *ring, uint32_t number)
{
	return (void *)(uintptr_t)ring->parts[number].host;
}

static int map_split(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	const uint64_t size = config->size;
	const uint64_t event = ring->event_idx ? sizeof(uint16_t) : 0;
	int result =
	    map_part(ring, 0, config->desc, size * sizeof(struct vring_desc), 16, VHC_MEM_READ);

	if (result == 0)
		result = map_part(ring, 1, config->avail, 4 + size * 2 + event, 2, VHC_MEM_READ);
	if (result == 0)
		result = map_part(ring, 2, config->used,
				  4 + size * sizeof(struct vring_used_elem) + event, 4,
				  VHC_MEM_READ | VHC_MEM_WRITE);
	if (result)
		return result;
	ring->desc = part_at(ring, 0);
	ring->avail = part_at(ring, 1);
	ring->used = part_at(ring, 2);
	ring->used_event = &ring->avail->ring[size];
	ring->avail_event = (uint16_t *)&ring->used->ring[size];
	return 0;
}

static int map_packed(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	const uint64_t bytes = config->size * sizeof(struct vring_packed_desc);
	const uint64_t event = sizeof(struct vring_packed_desc_event);
	int result = map_part(ring, 0, config->desc, bytes, 16, VHC_MEM_READ | VHC_MEM_WRITE);

	if (result == 0)
		result = map_part(ring, 1, config->avail, event, 4, VHC_MEM_READ);
	if (result == 0)
		result = map_part(ring, 2, config->used, event, 4, VHC_MEM_WRITE);
	if (result)
		return result;
	ring->packed.ring = part_at(ring, 0);
	ring->packed.driver = part_at(ring, 1);
	ring->packed.device = part_at(ring, 2);
	return 0;
}

static int dup_fds(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	int result = notify_dup(config->kick_fd, 0, &ring->kick_fd);

	if (result == 0)
		result = notify_dup(config->call_fd, 1, &ring->call_fd);
	if (result == 0)
		result = notify_dup(config->err_fd, 0, &ring->err_fd);
	return result;
}

/* What the driver has been shown before, by us or by whom we follow, and what it offered then. */
static int begin_split(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	ring->next_avail = (uint16_t)config->base;
	ring->next_used = __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);
	ring->published = ring->next_used;
	ring->resumed = ring->next_used || ring->next_avail;
	return 0;
}

static int begin_packed(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	static const struct vring_packed_desc untouched;

	/* After whole laps the base is what it was: then the ring shows it. */
	ring->resumed =
	    config->base != VHC_RING_BASE_PACKED ||
	    memcmp(&ring->packed.ring[ring->size - 1], &untouched, sizeof(untouched)) != 0;
	return packed_init(ring, config->base);
}

static int ring_init(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	int result;

	ring->size = config->size;
	ring->mask = config->size - 1;
	ring->is_packed = config->features >> VIRTIO_F_RING_PACKED & 1;
	ring->take = RING_TAKEN | (ring->is_packed ? RING_PACKED : 0);
	ring->event_idx = config->features >> VIRTIO_RING_F_EVENT_IDX & 1;
	ring->indirect = config->features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	ring->table_flags = ring->indirect && !ring->is_packed ? VRING_DESC_F_INDIRECT : UINT32_MAX;
	ring->id = config->id;
	ring->features = config->features;
	ring->stats = (struct vhc_stats *)(uintptr_t)config->stats;
	ring->owned_mem = (struct vhc_mem *)(uintptr_t)config->mem;
	ring->mem = ring->owned_mem;
	mem_ref(ring->owned_mem);
	ring->taken = calloc(config->size, 1);
	ring->gathered = calloc(VHC_CHAIN_MAX_IOV, sizeof(*ring->gathered));
	if (!ring->taken || !ring->gathered)
		return -ENOMEM;
	result = ring->is_packed ? map_packed(ring, config) : map_split(ring, config);
	if (result == 0)
		result = dup_fds(ring, config);
	if (result == 0)
		result = ring->is_packed ? begin_packed(ring, config) : begin_split(ring, config);
	if (result == 0 && config->log)
		result = ring_log_init(ring, config);
	if (result == 0 && config->inflight)
		result = ring_recover(ring, config);
	ring->offset = ring->next_avail - ring->next_used - (uint16_t)ring->again.left;
	ring->plain = ring->take == RING_TAKEN && !ring->inflight && !mem_is_view(ring->mem);
	return result;
}

static bool config_valid(const struct vhc_ring_config *config)
{
	const bool packed = config->features >> VIRTIO_F_RING_PACKED & 1;

	if (config->size == 0 || config->size > VHC_RING_MAX_SIZE || !config->mem || !config->stats)
		return false;
	return packed || (!(config->size & (config->size - 1)) && config->base <= UINT16_MAX);
}

int vhc_ring_create(const struct vhc_ring_config *config, struct vhc_ring **out)
{
	struct vhc_ring *ring;
	int result;

	if (!config_valid(config))
		return -EINVAL;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	atomic_init(&ring->refs, 1);
	ring->kick_fd = ring->call_fd = ring->err_fd = -1;
	result = ring_init(ring, config);
	if (result) {
		ring_free(ring);
		return result;
	}
	*out = ring;
	return 0;
}

/* ---- One request at a time ---- */

int vhc_ring_pop(struct vhc_ring *ring, struct vhc_chain *chain)
{
	struct iovec iov[VHC_CHAIN_MAX_IOV];
	struct ring_chain mapped;
	struct ring_head head;
	int result;

	if (mem_faulted(ring->mem))
		ring_break(ring, -EPROTO, VHC_BREAK_MEMORY);
	if (!ring->broken && ring_look(ring, 1) > 0)
		ring_take(ring, &head, 1);
	else if (!ring->broken)
		return 0;
	if (ring->broken) {
		ring_signal_error(ring);
		return ring->broken;
	}
	ring_end_batch(ring, &head, 1);
	chain->head = head.index;
	result = ring_map(ring, chain->head, iov, VHC_CHAIN_MAX_IOV, &mapped);
	if (result) {
		stats_add(&ring->stats->malformed, 1);
		/* Nobody is asked for it here. */
		return result == -ENXIO ? -EFAULT : result;
	}
	chain->num_out = mapped.num_out;
	chain->num_in = mapped.num_in;
	chain->out_len = mapped.out_len;
	chain->in_len = mapped.in_len;
	for (uint32_t i = 0; i < mapped.num_out + mapped.num_in; i++)
		chain->iov[i] = (struct vhc_iov){.addr = (uint64_t)(uintptr_t)iov[i].iov_base,
						 .len = iov[i].iov_len};
	return 1;
}

int vhc_ring_push(struct vhc_ring *ring, uint32_t head, uint32_t len)
{
	if (head >= ring->size || !ring->taken[head])
		return -EINVAL;
	ring_put(ring, head, len);
	return 0;
}

int vhc_ring_signal(struct vhc_ring *ring)
{
	if (ring->published == ring->next_used)
		return 0;
	if (!ring_publish(ring)) {
		stats_add(&ring->stats->calls_suppressed, 1);
		return 0;
	}
	stats_add(&ring->stats->calls, 1);
	return ring_call(ring) ? 0 : 1;
}

int vhc_ring_notify(struct vhc_ring *ring, int32_t enable)
{
	if (enable)
		return ring_arm(ring);
	ring_disarm(ring);
	return 0;
}

uint32_t vhc_ring_base(const struct vhc_ring *ring)
{
	return ring->is_packed ? packed_base(ring) : ring->next_avail;
}
