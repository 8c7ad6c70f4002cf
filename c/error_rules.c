/* SPDX-License-Identifier: MIT */
#include "error_rules.h"

void error_rules_init(struct error_rules *rules)
{
	pthread_mutex_init(&rules->lock, NULL);
}

void error_rules_destroy(struct error_rules *rules)
{
	pthread_mutex_destroy(&rules->lock);
}

/* ---- Setting ---- */

static uint64_t pack(uint32_t version, uint32_t left)
{
	return (uint64_t)version << 32 | left;
}

/* Under the lock. What was left of the rule before is void with the new version. */
static void set_one(struct error_rules *rules, uint32_t op, const struct vhc_error_rule *rule,
		    uint32_t version)
{
	rules->rule[op] = *rule;
	atomic_store(&rules->drawn[op], 0);
	atomic_store(&rules->left[op], pack(version, rule->kind ? rule->num : 0));
}

void error_rules_set(struct error_rules *rules, uint32_t ops, const struct vhc_error_rule *rule)
{
	pthread_mutex_lock(&rules->lock);

	uint32_t version = atomic_load(&rules->version) + 1;

	for (uint32_t op = 0; op < ERROR_OPS; op++)
		if (ops & 1u << op)
			set_one(rules, op, rule, version);
	atomic_store(&rules->version, version);
	pthread_mutex_unlock(&rules->lock);
}

void error_rules_drop(struct error_rules *rules, uint32_t kind)
{
	const struct vhc_error_rule none = {0};

	pthread_mutex_lock(&rules->lock);

	uint32_t version = atomic_load(&rules->version) + 1;

	for (uint32_t op = 0; op < ERROR_OPS; op++)
		if (rules->rule[op].kind == kind)
			set_one(rules, op, &none, version);
	atomic_store(&rules->version, version);
	pthread_mutex_unlock(&rules->lock);
}

uint32_t error_rules_left(const struct error_rules *rules, uint32_t op)
{
	return (uint32_t)atomic_load(&rules->left[op]);
}

/* ---- Going by them ---- */

static void take_view(struct error_rules *rules, struct error_view *view)
{
	pthread_mutex_lock(&rules->lock);
	for (uint32_t op = 0; op < ERROR_OPS; op++) {
		view->rule[op] = rules->rule[op];
		view->set_by[op] = (uint32_t)(atomic_load(&rules->left[op]) >> 32);
	}
	view->version = atomic_load(&rules->version);
	pthread_mutex_unlock(&rules->lock);
}

static bool overlaps(const struct vhc_error_rule *rule, uint64_t offset, uint64_t len)
{
	return offset < rule->offset + rule->len && rule->offset < offset + len;
}

/* Whether a request touches the bytes that a rule is for; a flush has none. */
static bool in_range(const struct vhc_error_rule *rule, const struct io *io)
{
	if (rule->len == 0)
		return true;
	if (io->op == VHC_OP_FLUSH)
		return false;
	if (io->op == VHC_OP_READ || io->op == VHC_OP_WRITE)
		return overlaps(rule, io->offset, io->len);
	for (uint32_t i = 0; i < io->iovcnt; i++)
		if (overlaps(rule, io->ranges[i].offset, io->ranges[i].len))
			return true;
	return false;
}

/* The nth number of a seed: splitmix64 (Steele, Lea, Flood), of which each can be had alone. */
static uint32_t draw(uint64_t seed, uint64_t n)
{
	uint64_t z = seed + (n + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ z >> 31) >> 32);
}

static bool by_chance(struct error_rules *rules, const struct vhc_error_rule *rule, uint32_t op)
{
	if (rule->chance == 0)
		return true;
	return draw(rule->seed, atomic_fetch_add_explicit(&rules->drawn[op], 1,
							  memory_order_relaxed)) < rule->chance;
}

/* Takes one off what is left, unless nothing is, or the rule is another by now. */
static bool count_off(struct error_rules *rules, uint32_t op, uint32_t version)
{
	uint64_t left = atomic_load_explicit(&rules->left[op], memory_order_relaxed);

	do {
		if (left >> 32 != version || (uint32_t)left == 0)
			return false;
	} while (!atomic_compare_exchange_weak(&rules->left[op], &left, left - 1));
	return true;
}

const struct vhc_error_rule *error_rules_match(struct error_rules *rules, struct error_view *view,
					       const struct io *io, uint64_t depth)
{
	const uint32_t op = io->op;
	const struct vhc_error_rule *rule = &view->rule[op];

	if (atomic_load_explicit(&rules->version, memory_order_acquire) != view->version)
		take_view(rules, view);
	if (op >= ERROR_OPS || rule->kind == VHC_ERROR_NONE || depth < rule->queue_depth ||
	    error_rules_left(rules, op) == 0 || !in_range(rule, io) ||
	    !by_chance(rules, rule, op) || !count_off(rules, op, view->set_by[op]))
		return NULL;
	return rule;
}
