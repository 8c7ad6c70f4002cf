/* SPDX-License-Identifier: MIT */
/*
 * Devices with a reactor, that are killed at any moment while their driver goes on: a
 * block device; and one whose requests go up, and are answered by another thread.
 */
#ifndef VHC_CRASH_REACTOR_H
#define VHC_CRASH_REACTOR_H

#include <time.h>

#include "crash_queue.h"
#include "reader.h"

/* ---- In the child ---- */

struct crash_answers {
	uint64_t random, last_number;
	uint32_t pending;
	uint64_t requests[CRASH_MAX_SIZE];
	struct virtio_blk_outhdr headers[CRASH_MAX_SIZE];
};

/* Executes and ends one of those that wait. */
static inline void crash_answer(struct crash_answers *a)
{
	uint32_t i = crash_random(&a->random, a->pending);
	struct crash_slot slot = {.header = a->headers[i]};
	uint32_t len = crash_execute(&slot);

	vhc_request_write(a->requests[i], 0, (const uint8_t *)slot.data, len - 1);
	vhc_request_write(a->requests[i], CRASH_DATA, &slot.status, 1);
	vhc_request_complete_raw(a->requests[i], len);
	a->pending--;
	a->requests[i] = a->requests[a->pending];
	a->headers[i] = a->headers[a->pending];
}

static inline void crash_note_request(struct crash_world *w, struct crash_answers *a,
				      const struct vhc_upcall *upcall)
{
	struct virtio_blk_outhdr header;

	if (upcall->type != VHC_UPCALL_REQUEST ||
	    upcall->len < sizeof(struct vhc_request_info) + sizeof(header))
		crash_device_wrong(w, "upcall %u, status %d", upcall->type, upcall->status);
	memcpy(&header, upcall->data + sizeof(struct vhc_request_info), sizeof(header));
	crash_in_turn(w, header.sector, &a->last_number);
	a->requests[a->pending] = upcall->arg;
	a->headers[a->pending++] = header;
}

__attribute__((noreturn)) static inline void crash_answer_all(struct crash_world *w,
							      struct reader *reader, uint64_t seed)
{
	static struct crash_answers answers;

	answers.random = seed * 2 + 1;
	for (;;) {
		const struct vhc_upcall *upcall = reader_next(reader, answers.pending ? 0 : 1000);

		if (upcall)
			crash_note_request(w, &answers, upcall);
		if (answers.pending > 0 && (!upcall || crash_random(&answers.random, 2)))
			crash_answer(&answers);
	}
}

static inline void reactor_device(struct crash_world *w, uint64_t seed, bool raw, bool now)
{
	static struct crash_disk disk;
	const struct vhc_blk_config blk_config = {.bdev = (uint64_t)(uintptr_t)&disk.bdev};
	const struct vhc_reactor_config config = {.cpu = -1, .mode = VHC_MODE_ADAPTIVE};
	struct vhc_ring *ring = crash_create_ring(w);
	struct vhc_reactor *reactor = NULL;
	struct vhc_blk *blk = NULL;
	struct reader reader;
	uint64_t stats;

	crash_disk_init(&disk, w, seed, now);
	if (!reader_open(&reader) || vhc_blk_create(&blk_config, &blk) ||
	    vhc_reactor_create(reader.upcalls, &config, &reactor, &stats))
		crash_device_wrong(w, "no reactor");
	if (raw ? vhc_reactor_start_raw_ring(reactor, ring)
		: vhc_reactor_start_blk_ring(reactor, ring, blk, 0))
		crash_device_wrong(w, "the ring does not start");
	crash_answer_all(w, &reader, seed);
}

/* ---- In the parent ---- */

static inline uint64_t crash_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The driver at work while the device lives: for so long, or until it is done. */
static inline bool crash_live(struct crash_world *w, uint64_t us, bool drain)
{
	const uint64_t end = crash_now_us() + us;

	while (crash_now_us() < end) {
		if (waitpid(w->pid, NULL, WNOHANG) != 0) {
			w->pid = 0;
			return crash_fail(w, "%s", w->control->wrong);
		}
		if (drain ? !crash_reap_checked(w) : !crash_drive(w, w->shape.size))
			return false;
		if (drain && w->driver.outstanding == 0)
			return crash_kill(w);
		usleep(crash_random(&w->random, 4) * 10);
	}
	if (drain)
		return crash_fail(w, "%u requests are lost", w->driver.outstanding);
	return crash_kill(w);
}

static inline bool crash_live_round(struct crash_world *w)
{
	return crash_start(w, CRASH_FOREVER, OP_NONE, false) &&
	       crash_live(w, crash_random(&w->random, 6000), false);
}

static inline bool crash_live_drain(struct crash_world *w)
{
	return crash_start(w, CRASH_FOREVER, OP_NONE, false) && crash_live(w, 5000000, true);
}

#endif
