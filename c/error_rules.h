/* SPDX-License-Identifier: MIT */
/*
 * What an error bdev does to which requests: a rule for each operation. They are set
 * by control threads while channels go by them; a channel has a copy, which it takes
 * anew, under a lock, when they have changed. How many requests a rule is still for is
 * shared, and counted exactly.
 */
#ifndef VHC_ERROR_RULES_H
#define VHC_ERROR_RULES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "io.h"

/* Operations that there are rules for: not OTHER. */
#define ERROR_OPS 5u

struct error_rules {
	pthread_mutex_t lock;
	/* Under the lock; kind 0: none. */
	struct vhc_error_rule rule[ERROR_OPS];
	atomic_uint version;
	/*
	 * By operation: how many requests are left, in the low half, and the version that set
	 * them, in the high one, so that nothing is counted off another rule than was read.
	 */
	_Atomic uint64_t left[ERROR_OPS];
	_Atomic uint64_t drawn[ERROR_OPS]; /* requests that chance has decided about */
};

/* A channel's copy. */
struct error_view {
	struct vhc_error_rule rule[ERROR_OPS];
	uint32_t set_by[ERROR_OPS]; /* version */
	uint32_t version;
};

void error_rules_init(struct error_rules *rules);
void error_rules_destroy(struct error_rules *rules);

/* Sets the rule of each operation in ops (bits). Thread: any. */
void error_rules_set(struct error_rules *rules, uint32_t ops, const struct vhc_error_rule *rule);

/* Ends the rules of a kind. */
void error_rules_drop(struct error_rules *rules, uint32_t kind);

/* How many requests a rule is still for. */
uint32_t error_rules_left(const struct error_rules *rules, uint32_t op);

/*
 * The rule that a request falls to, counted off, or NULL. depth: how many requests of
 * the channel the base has.
 */
const struct vhc_error_rule *error_rules_match(struct error_rules *rules, struct error_view *view,
					       const struct io *io, uint64_t depth);

#endif
