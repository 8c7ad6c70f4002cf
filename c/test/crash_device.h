/* SPDX-License-Identifier: MIT */
/* The devices that are killed: what runs in the child. */
#ifndef VHC_CRASH_DEVICE_H
#define VHC_CRASH_DEVICE_H

#include "crash_hand.h"
#include "crash_reactor.h"

enum crash_device {
	DEVICE_MODEL,	/* crash_model.h */
	DEVICE_RING,	/* vhc_ring_pop, vhc_ring_push, vhc_ring_signal */
	DEVICE_NOW,	/* a block queue whose disk ends each request in its batch */
	DEVICE_LATE,	/* one that ends some of them then, others when it likes */
	DEVICE_REACTOR, /* the former in a reactor; these are not stopped, but killed at any time */
	DEVICE_REACTOR_LATE, /* the latter */
	DEVICE_REACTOR_RAW,  /* requests go up and are answered by another thread */
	NUM_DEVICES,
};

static const char *const crash_device_names[NUM_DEVICES] = {
    [DEVICE_MODEL] = "a model",
    [DEVICE_RING] = "a ring by hand",
    [DEVICE_NOW] = "a queue",
    [DEVICE_LATE] = "a queue whose disk takes its time",
    [DEVICE_REACTOR] = "a reactor",
    [DEVICE_REACTOR_LATE] = "a reactor whose disk takes its time",
    [DEVICE_REACTOR_RAW] = "a reactor whose requests go up",
};

static inline void crash_device(struct crash_world *w, uint64_t seed)
{
	switch (w->shape.device) {
	case DEVICE_MODEL:
	case DEVICE_RING:
		hand_device(w, seed, w->shape.device == DEVICE_MODEL);
		break;
	case DEVICE_NOW:
	case DEVICE_LATE:
		queue_device(w, seed, w->shape.device == DEVICE_NOW);
		break;
	default:
		reactor_device(w, seed, w->shape.device == DEVICE_REACTOR_RAW,
			       w->shape.device == DEVICE_REACTOR);
		break;
	}
}

static inline bool crash_device_lives(enum crash_device device)
{
	return device >= DEVICE_REACTOR;
}

/* The step that shows the driver what has ended. */
static inline enum crash_op crash_device_shows(enum crash_device device)
{
	return device == DEVICE_NOW || device == DEVICE_LATE ? OP_LAST : OP_SIGNAL;
}

#endif
