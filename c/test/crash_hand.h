/* SPDX-License-Identifier: MIT */
/* A device that takes requests one by one, and ends them in any order, some late. */
#ifndef VHC_CRASH_HAND_H
#define VHC_CRASH_HAND_H

#include "crash_model.h"
#include "crash_ring.h"

struct hand {
	struct crash_world *world;
	bool is_model;
	struct model model;
	struct vhc_ring *ring;
	uint64_t random, last_number;
	uint32_t lazy; /* how seldom it shows what has ended */
	uint32_t pending, unshown;
	uint32_t heads[CRASH_MAX_SIZE];
	struct crash_slot *slots[CRASH_MAX_SIZE];
};

static inline void hand_create(struct hand *h)
{
	struct crash_world *w = h->world;
	struct model *model = &h->model;
	struct vhc_inflight *of;
	int result;

	if (!h->is_model) {
		h->ring = crash_create_ring(w);
		return;
	}
	of = crash_open_buffer(w);
	model->memory = w->memory;
	model->size = w->shape.size;
	model->packed = w->shape.packed;
	if (inflight_open(of, 1, w->shape.size, w->shape.packed, &model->inflight))
		crash_device_wrong(w, "no region");
	crash_point(w, OP_CREATE);
	result = model_start(model);
	if (result)
		crash_device_wrong(w, "the region is refused: %d", result);
}

static inline bool hand_take(struct hand *h, uint32_t *head, struct crash_slot **slot)
{
	static struct vhc_chain chain;
	int result;

	if (h->is_model)
		return model_pop(&h->model, head, slot);
	result = vhc_ring_pop(h->ring, &chain);
	if (result < 0)
		crash_device_wrong(h->world, "a chain is refused: %d", result);
	if (result && (chain.out_len != 16 || chain.in_len != CRASH_DATA + 1))
		crash_device_wrong(h->world, "a chain of %llu bytes out, %llu in",
				   (unsigned long long)chain.out_len,
				   (unsigned long long)chain.in_len);
	*head = chain.head;
	*slot = (struct crash_slot *)(uintptr_t)chain.iov[0].addr;
	return result;
}

static inline bool hand_pop(struct hand *h)
{
	struct crash_slot *slot;
	uint32_t head;

	crash_point(h->world, OP_POP);
	if (!hand_take(h, &head, &slot))
		return false;
	crash_in_turn(h->world, slot->header.sector, &h->last_number);
	h->heads[h->pending] = head;
	h->slots[h->pending++] = slot;
	return true;
}

/* Ends any of those that were taken. */
static inline void hand_push(struct hand *h)
{
	uint32_t i = crash_random(&h->random, h->pending);
	uint32_t len = crash_execute(h->slots[i]);

	crash_point(h->world, OP_PUSH);
	if (h->is_model)
		model_push(&h->model, h->heads[i], len);
	else if (vhc_ring_push(h->ring, h->heads[i], len))
		crash_device_wrong(h->world, "a chain cannot be put");
	h->unshown++;
	h->pending--;
	h->heads[i] = h->heads[h->pending];
	h->slots[i] = h->slots[h->pending];
}

static inline void hand_signal(struct hand *h)
{
	crash_point(h->world, OP_SIGNAL);
	if (h->is_model)
		model_signal(&h->model);
	else
		vhc_ring_signal(h->ring);
	h->unshown = 0;
}

static inline void hand_device(struct crash_world *w, uint64_t seed, bool is_model)
{
	static struct hand hand;
	bool more = true;

	hand.world = w;
	hand.is_model = is_model;
	hand.random = seed * 2 + 1;
	hand.lazy = 1 + crash_random(&hand.random, 8);
	hand_create(&hand);
	for (;;) {
		if (hand.pending < w->shape.size && crash_random(&hand.random, 2))
			more = hand_pop(&hand);
		else if (hand.pending > 0 && crash_random(&hand.random, 3))
			hand_push(&hand);
		else if (hand.unshown > 0 && crash_random(&hand.random, hand.lazy) == 0)
			hand_signal(&hand);
		if (!more && hand.pending == 0 && hand.unshown == 0 && !hand_pop(&hand))
			crash_point_idle(w);
	}
}

#endif
