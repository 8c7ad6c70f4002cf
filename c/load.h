/* SPDX-License-Identifier: MIT */
/*
 * What the parts of a load share: load.c (its life), load_run.c (the loop),
 * load_request.c (what it asks for), load_rate.c (when), load_sleep.c, load_verify.c.
 */
#ifndef VHC_LOAD_H
#define VHC_LOAD_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "driver_ring.h"
#include "load_rate.h"
#include "vhostctl.h"

#define LOAD_PIECES 3u /* of a request: header, data, status or response */

/* One of the iodepth requests of a ring. Its chain is built once; only the header changes. */
struct load_slot {
	uint64_t submitted; /* tick */
	uint64_t block;	    /* of the load's, not of the device's */
	uint8_t *data;	    /* its part of the ring's; NULL: it has no chain */
	uint16_t head;
	uint8_t op;	    /* VHC_OP_READ or VHC_OP_WRITE */
	uint8_t generation; /* verify: what is written, or is to be read; 0: not known */
	uint32_t next;	    /* while it waits: the slot after it, or LOAD_NO_SLOT */
};

#define LOAD_NO_SLOT UINT32_MAX

struct load_ring {
	struct vhc_driver_ring *ring;
	uint8_t *headers; /* these three in shared memory, by slot: see load_request.h */
	uint8_t *status;
	uint8_t *data;
	struct load_slot *slots;
	uint32_t waiting; /* the first slot that is not in flight, or LOAD_NO_SLOT */
};

/* What verify knows of a block. */
struct load_block {
	uint8_t generation; /* of what it holds; 0: not known */
	bool busy;	    /* a request on it is in flight */
};

struct vhc_load {
	struct vhc_load_config config;
	struct vhc_stats *stats;
	struct vhc_upcalls *upcalls;
	struct load_ring *rings;
	struct pollfd *calls; /* interrupt mode: those of the rings, then wake_fd */
	uint32_t num_rings;

	/* The loop's own. */
	uint64_t left;	/* requests that may be made now */
	uint64_t later; /* with a rate: those that may be made when they are due */
	struct load_rate rate;
	uint32_t turn; /* with a rate: the ring that has the next */
	uint64_t blocks;
	uint64_t next_block; /* sequential */
	uint64_t random;
	uint64_t first_unit; /* sector or logical block of the device at which it begins */
	uint64_t units;	     /* of them a block */
	uint64_t inflight;
	uint64_t started, stopped; /* ticks; stopped: when stop was seen, or 0 */
	uint64_t last_latency[2];  /* the last latency: in ticks, in ns */
	uint32_t last_bucket;
	uint64_t read_below; /* randrw: a random number of 32 bits below it makes a read */
	uint32_t idle_spins;
	uint64_t asleep; /* tick since when it waits for a call of any ring; 0: it does not */
	uint8_t header_step, status_step; /* bytes from slot to slot */
	bool is_scsi, is_wide;		  /* wide: commands of 16 bytes */
	bool is_random, is_mixed;
	bool readback; /* verify's last phase: what was written is read */
	uint8_t first_op;
	struct load_block *known; /* verify: by block; else NULL */

	/* Seen by other threads. */
	atomic_bool stop, releasing;
	_Atomic uint64_t elapsed_ns, verified, verify_errors, first_bad, cpu_ns;
	int wake_fd;
	bool thread_runs;
	pthread_t thread;
};

/* Runs the load on the calling thread. Returns 0 or -errno. */
int load_run(struct vhc_load *load);

/* All its requests, in flight or not. */
static inline uint64_t load_slots(const struct vhc_load *load)
{
	return (uint64_t)load->config.iodepth * load->num_rings;
}

/* Makes the calling thread one that load_sleep wakes up in time. */
void load_sleep_prepare(const struct vhc_load *load);

/*
 * Sleeps until a ring may have used requests, one is due, or a stop is asked for. When
 * one is due and no ring has called, the load stays asleep but for making it: what was
 * used is taken after a call, as a guest's driver does.
 */
void load_sleep(struct vhc_load *load);

/* Ends that: no ring is to call. */
void load_wake(struct vhc_load *load);

/* Whether a write load's own blocks are to be read back. */
bool load_writes(const struct vhc_load *load);

/* The next of a sequence of pseudo-random numbers (splitmix64). */
static inline uint64_t load_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/*
 * Verify. A block in flight is claimed, so that no two requests meet on it and
 * what a read must find is certain.
 */

/* Marks the first block from `block` on that is not in flight and returns it. */
uint64_t load_verify_claim(struct vhc_load *load, uint64_t block);

/* Readback: claims the next block that was written. */
uint64_t load_verify_claim_written(struct vhc_load *load);

/* How many blocks hold what this load wrote. */
uint64_t load_verify_count(const struct vhc_load *load);

/* Before a request is offered: fills in what it writes, notes what it must read. */
void load_verify_prepare(struct vhc_load *load, struct load_slot *slot);

/* After it: checks what was read. */
void load_verify_finish(struct vhc_load *load, struct load_slot *slot, bool failed);

#endif
