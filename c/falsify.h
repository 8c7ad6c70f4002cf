/* SPDX-License-Identifier: MIT */
/* Another byte in what a request reads or writes, for the error bdev. */
#ifndef VHC_FALSIFY_H
#define VHC_FALSIFY_H

#include "stack.h"

/*
 * Has the base write another byte, or notes that one is to be read as another. Returns false
 * without memory, which only a write that is to be falsified takes.
 */
bool falsify_begin(struct child *child, const struct vhc_error_rule *rule);

/* The base has ended it, falsified or not: changes what was read, frees what that took. */
void falsify_end(struct child *child);

#endif
