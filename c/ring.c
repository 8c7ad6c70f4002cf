/* SPDX-License-Identifier: MIT */
#include "ring.h"

#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "notify.h"
#include "stats.h"

/* ---- Chains ---- */

/* Where a chain is being followed, and what of it has been mapped. */
struct walk {
	const ring_table_desc *table; /* the ring's, or an indirect one */
	uint32_t entries;	      /* of the table */
	uint32_t left;		      /* descriptors that the chain may yet have */
	struct iovec *at;	      /* where the next piece goes */
	struct iovec *end;
};

/* Adds a descriptor's memory to the pieces: none, one, or one for each region it lies in. */
static int map_desc(struct vhc_ring *ring, struct ring_desc desc, struct walk *walk)
{
	uint64_t gpa = desc.addr;
	uint64_t len = desc.len;

	/* So that ring_map_triple knows this region next time. */
	if (len > 0)
		mem_at(ring->mem, &ring->cache, gpa, len);
	while (len > 0) {
		uint64_t host = 0;
		uint64_t part = mem_piece(ring->mem, gpa, len, &host);

		if (part == 0)
			return -EFAULT;
		if (walk->at == walk->end)
			return -E2BIG;
		*walk->at++ = (struct iovec){.iov_base = (void *)(uintptr_t)host, .iov_len = part};
		gpa += part;
		len -= part;
	}
	return 0;
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
		uint64_t part = mem_piece(ring->mem, gpa, len, &host);

		if (part == 0)
			return -EFAULT;
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
 * it in the chain. A driver is to keep such a chain to the ring's size too, but
 * Linux keeps to SEG_MAX alone.
 */
static int enter_table(struct vhc_ring *ring, struct walk *walk, struct ring_desc *desc)
{
	const ring_table_desc *table;

	if (walk->table != ring->desc || !ring->indirect || (desc->tail & VRING_DESC_F_NEXT) ||
	    desc->len == 0 || desc->len % sizeof(*table))
		return -ELOOP;
	table = mem_at(ring->mem, &ring->cache, desc->addr, desc->len);
	if (!table) {
		int result = gather_table(ring, *desc);

		if (result)
			return result;
		table = ring->gathered;
	}
	walk->table = table;
	walk->entries = desc->len / sizeof(*table);
	walk->left = VHC_CHAIN_MAX_IOV;
	*desc = ring_read_desc(table);
	return desc->tail & VRING_DESC_F_INDIRECT ? -ELOOP : 0;
}

/* Goes on to the next descriptor, which there is, in the chain. */
static int step(struct vhc_ring *ring, struct walk *walk, struct ring_desc *desc)
{
	uint32_t next = desc->tail >> 16;

	if (next >= walk->entries || --walk->left == 0)
		return -ELOOP;
	*desc = ring_read_desc(&walk->table[next]);
	return desc->tail & VRING_DESC_F_INDIRECT ? enter_table(ring, walk, desc) : 0;
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
	return result;
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

/* Translates one of the ring's parts and holds it to its alignment here, where it counts. */
static int map_part(const struct vhc_mem *mem, uint64_t user_addr, uint64_t len, uint64_t align,
		    uint64_t *addr)
{
	int result = vhc_mem_translate_user(mem, user_addr, len, addr);

	if (result)
		return result;
	return user_addr % align || *addr % align ? -EINVAL : 0;
}

static int map_parts(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	const uint64_t size = config->size;
	const uint64_t event = ring->event_idx ? sizeof(uint16_t) : 0;
	uint64_t desc, avail, used;
	int result = map_part(ring->mem, config->desc, size * sizeof(struct vring_desc), 16, &desc);

	if (result == 0)
		result = map_part(ring->mem, config->avail, 4 + size * 2 + event, 2, &avail);
	if (result == 0)
		result = map_part(ring->mem, config->used,
				  4 + size * sizeof(struct vring_used_elem) + event, 4, &used);
	if (result)
		return result;
	ring->desc = (const struct vring_desc *)(uintptr_t)desc;
	ring->avail = (struct vring_avail *)(uintptr_t)avail;
	ring->used = (struct vring_used *)(uintptr_t)used;
	ring->used_event = &ring->avail->ring[size];
	ring->avail_event = (uint16_t *)&ring->used->ring[size];
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

static int ring_init(struct vhc_ring *ring, const struct vhc_ring_config *config)
{
	int result;

	ring->size = config->size;
	ring->mask = config->size - 1;
	ring->event_idx = config->features >> VIRTIO_RING_F_EVENT_IDX & 1;
	ring->indirect = config->features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
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
	result = map_parts(ring, config);
	if (result == 0)
		result = dup_fds(ring, config);
	if (result)
		return result;
	ring->next_avail = (uint16_t)config->base;
	/* What the driver has been shown before, by us or by whom we follow. */
	ring->next_used = __atomic_load_n(&ring->used->idx, __ATOMIC_ACQUIRE);
	ring->published = ring->next_used;
	return 0;
}

int vhc_ring_create(const struct vhc_ring_config *config, struct vhc_ring **out)
{
	struct vhc_ring *ring;
	int result;

	if (config->size == 0 || config->size > VHC_RING_MAX_SIZE ||
	    (config->size & (config->size - 1)) || config->base > UINT16_MAX || !config->mem ||
	    !config->stats)
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
		ring->broken = -EPROTO;
	if (!ring->broken && ring_available(ring) == 0)
		return 0;
	if (ring->broken || ring_take(ring, &head, 1) == 0) {
		ring_signal_error(ring);
		return ring->broken;
	}
	chain->head = head.index;
	result = ring_map(ring, chain->head, iov, VHC_CHAIN_MAX_IOV, &mapped);
	if (result)
		return result;
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

int vhc_ring_base(const struct vhc_ring *ring)
{
	return ring->next_avail;
}
