/* SPDX-License-Identifier: MIT */
#include "inflight_region.h"

#define REGION_ALIGNMENT 64u

/* ---- The buffer ---- */

static uint64_t region_bytes(uint32_t queue_size, bool packed)
{
	uint64_t bytes =
	    packed ? sizeof(struct packed_region) + queue_size * sizeof(struct packed_entry)
		   : sizeof(struct split_region) + queue_size * sizeof(struct split_entry);

	return (bytes + REGION_ALIGNMENT - 1) & ~(uint64_t)(REGION_ALIGNMENT - 1);
}

int64_t vhc_inflight_bytes(uint32_t num_queues, uint32_t queue_size, uint32_t packed)
{
	if (num_queues == 0 || num_queues > VHC_INFLIGHT_MAX_QUEUES || queue_size == 0 ||
	    queue_size > VHC_RING_MAX_SIZE || packed > 1)
		return -EINVAL;
	return (int64_t)(num_queues * region_bytes(queue_size, packed));
}

int vhc_inflight_create(const struct vhc_inflight_config *config, struct vhc_inflight **out)
{
	int64_t bytes = vhc_inflight_bytes(config->num_queues, config->queue_size, config->packed);

	if (bytes < 0 || config->size < (uint64_t)bytes || config->offset % REGION_ALIGNMENT)
		return -EINVAL;

	struct vhc_inflight *inflight = calloc(1, sizeof(*inflight));

	if (!inflight)
		return -ENOMEM;
	atomic_init(&inflight->refs, 1);
	inflight->num_queues = config->num_queues;
	inflight->queue_size = config->queue_size;
	inflight->packed = config->packed;

	int result = mapping_create(&inflight->map, config->fd, config->offset, config->size,
				    &inflight->faulted);

	if (result) {
		free(inflight);
		return result;
	}
	*out = inflight;
	return 0;
}

void vhc_inflight_release(struct vhc_inflight *inflight)
{
	if (!inflight || atomic_fetch_sub_explicit(&inflight->refs, 1, memory_order_acq_rel) != 1)
		return;
	mapping_destroy(&inflight->map);
	free(inflight);
}

/* ---- One ring's region ---- */

int inflight_open(struct vhc_inflight *of, uint32_t index, uint32_t size, bool packed,
		  struct inflight **out)
{
	if (packed != of->packed || index >= of->num_queues || size == 0 || size > of->queue_size)
		return -EINVAL;

	struct inflight *inflight = calloc(1, sizeof(*inflight));

	if (!inflight)
		return -ENOMEM;
	atomic_fetch_add_explicit(&of->refs, 1, memory_order_relaxed);
	inflight->of = of;
	inflight->size = size;
	inflight->is_packed = packed;
	inflight->put = calloc(size, sizeof(*inflight->put));
	inflight->chains = packed ? calloc(size, sizeof(*inflight->chains)) : NULL;
	inflight->next = packed ? calloc(of->queue_size, sizeof(*inflight->next)) : NULL;
	if (!inflight->put || (packed && (!inflight->chains || !inflight->next))) {
		inflight_close(inflight);
		return -ENOMEM;
	}

	uint64_t at = of->map.host + index * region_bytes(of->queue_size, packed);

	if (packed)
		inflight->packed = (volatile struct packed_region *)(uintptr_t)at;
	else
		inflight->split = (volatile struct split_region *)(uintptr_t)at;
	*out = inflight;
	return 0;
}

void inflight_close(struct inflight *inflight)
{
	if (!inflight)
		return;
	vhc_inflight_release(inflight->of);
	free(inflight->put);
	free(inflight->chains);
	free(inflight->next);
	free(inflight);
}

bool inflight_any(const struct inflight *inflight)
{
	return inflight->marked > 0;
}

void inflight_put(struct inflight *inflight, uint16_t head)
{
	/* A driver that was shown more than its ring holds is on its own. */
	if (inflight->num_put == inflight->size)
		return;
	if (!inflight->is_packed)
		region_put_split(inflight, head);
	else if (inflight->chains[head].head != NO_ENTRY)
		inflight->put[inflight->num_put++] = inflight->chains[head];
}

/* ---- Recovery ---- */

uint32_t vhc_inflight_damage(const struct vhc_inflight *inflight)
{
	return inflight->damage;
}

int region_damaged(struct inflight *inflight, enum vhc_damage damage)
{
	inflight->of->damage = damage;
	return -EPROTO;
}

int region_check(struct inflight *inflight, uint64_t features, uint16_t version, uint16_t desc_num)
{
	if (version != REGION_VERSION || features != 0)
		return region_damaged(inflight, VHC_DAMAGE_VERSION);
	if (desc_num < inflight->size || desc_num > inflight->of->queue_size)
		return region_damaged(inflight, VHC_DAMAGE_DESC_NUM);
	inflight->entries = desc_num;
	return 0;
}

static int by_counter(const void *a, const void *b)
{
	const struct found *x = a;
	const struct found *y = b;

	if (x->counter != y->counter)
		return x->counter < y->counter ? -1 : 1;
	return x->entry < y->entry ? -1 : x->entry > y->entry;
}

void region_sort(struct inflight *inflight, struct found *found, uint32_t n)
{
	qsort(found, n, sizeof(*found), by_counter);
	inflight->counter = n > 0 ? found[n - 1].counter + 1 : 0;
	inflight->marked = n;
}
