/* SPDX-License-Identifier: MIT */
/*
 * The loop of a load: takes all that a ring has used, makes as many new
 * requests, shows them at once. It must cost less than what it measures: one
 * reading of the clock a batch, no division, no descriptor written twice.
 */
#include "load_request.h"
#include "stats.h"
#include "tick.h"

#define BATCH 256
#define SPINS_BEFORE_PAUSE 4096u /* a pause instruction lasts as long as a short request */
#define SPINS_PER_LOOK 256u	 /* at the clock, while nothing comes back */
#define STOP_NS 1000000000u	 /* what is in flight for so long after a stop is given up */

/* What one batch adds to the statistics. Index: VHC_OP_READ, VHC_OP_WRITE. */
struct tally {
	uint64_t count[2], errors[2], latency_ns[2];
};

/* A request that came back, to be counted when its successor is on its way. */
struct finished {
	uint64_t ticks;
	uint8_t op;
	bool failed;
};

bool load_writes(const struct vhc_load *load)
{
	return load->config.rw != VHC_LOAD_READ && load->config.rw != VHC_LOAD_RANDREAD;
}

/* ---- Making requests ------------------------------------------------------------ */

static inline uint64_t next_in_sequence(struct vhc_load *load)
{
	uint64_t block = load->next_block++;
	if (load->next_block == load->blocks)
		load->next_block = 0;
	return block;
}

static inline uint64_t pick_block(struct vhc_load *load)
{
	uint64_t block =
	    load->is_random
		? (uint64_t)((unsigned __int128)load_random(&load->random) * load->blocks >> 64)
		: next_in_sequence(load);
	return load->known ? load_verify_claim(load, block) : block;
}

static inline uint8_t pick_op(struct vhc_load *load)
{
	if (!load->is_mixed)
		return load->first_op;
	return load_random(&load->random) >> 32 < load->read_below ? VHC_OP_READ : VHC_OP_WRITE;
}

/* Makes slot i the next request, if there is to be one. */
static inline bool prepare(struct vhc_load *load, struct load_ring *on, uint32_t i, uint64_t now)
{
	if (load->left == 0)
		return false;
	load->left--;
	struct load_slot *slot = &on->slots[i];
	uint8_t op = load->readback ? VHC_OP_READ : pick_op(load);
	slot->block = load->readback ? load_verify_claim_written(load) : pick_block(load);
	slot->submitted = now;
	if (slot->op != op)
		load_request_set_op(load, on, i, op);
	load_set_block(load, on, i, slot->block);
	if (load->known) {
		/* Else it is left as it was: writing it would cost the device a cache miss. */
		load_spoil_status(load, on, i);
		load_verify_prepare(load, slot);
	}
	return true;
}

/* Offers one of a ring's slots that wait, if one does and there is to be a request. */
static bool offer_one(struct vhc_load *load, struct load_ring *on, uint64_t now)
{
	uint32_t i = on->waiting;
	if (i == LOAD_NO_SLOT || !prepare(load, on, i, now))
		return false;
	on->waiting = on->slots[i].next;
	driver_ring_offer(on->ring, on->slots[i].head);
	load->inflight++;
	return true;
}

static void fill(struct vhc_load *load, struct load_ring *on)
{
	uint64_t now = tick_now();
	while (offer_one(load, on, now))
		;
	driver_ring_publish(on->ring);
}

/* With a rate: makes the requests that are due, as far as slots wait, of all rings in turn. */
static void offer_due(struct vhc_load *load, uint64_t now)
{
	uint64_t most = load_slots(load) - load->inflight;
	if (load->config.runtime_ns && tick_to_ns(now - load->started) >= load->config.runtime_ns)
		return;
	load->left = load_rate_take(&load->rate, now, most < load->later ? most : load->later);
	if (load->left == 0)
		return;
	load->later -= load->left;
	while (load->left > 0) {
		offer_one(load, &load->rings[load->turn], now);
		load->turn = load->turn + 1 < load->num_rings ? load->turn + 1 : 0;
	}
	for (uint32_t i = 0; i < load->num_rings; i++)
		driver_ring_publish(load->rings[i].ring);
}

/* A chain came back and makes no request now. Never inlined: it would cost those that do. */
static __attribute__((noinline)) void put_aside(struct vhc_load *load, struct load_ring *on,
						uint16_t head)
{
	const uint32_t i = (uint32_t)on->ring->chains[head].token;
	on->slots[i].next = on->waiting;
	on->waiting = i;
	load->inflight--;
}

/* ---- Taking them back --------------------------------------------------------------- */

static inline void record_latency(struct vhc_load *load, const struct finished *request,
				  struct tally *tally)
{
	/* Requests come and go in batches, so most have the latency of the one before. */
	if (request->ticks != load->last_latency[0]) {
		load->last_latency[0] = request->ticks;
		load->last_latency[1] = tick_to_ns(request->ticks);
		load->last_bucket = stats_bucket(load->last_latency[1]);
	}
	tally->latency_ns[request->op] += load->last_latency[1];
	stats_add(&load->stats->op[request->op].hist[load->last_bucket], 1);
}

static inline struct finished finish(struct vhc_load *load, struct load_ring *on, uint32_t i,
				     uint64_t now)
{
	struct load_slot *slot = &on->slots[i];
	bool failed = load_failed(load, on, i);
	if (load->known)
		load_verify_finish(load, slot, failed);
	return (struct finished){.ticks = now - slot->submitted, .op = slot->op, .failed = failed};
}

static inline void add_up(struct vhc_load *load, const struct tally *tally)
{
	for (uint32_t op = VHC_OP_READ; op <= VHC_OP_WRITE; op++) {
		if (tally->count[op] == 0)
			continue;
		struct vhc_op_stats *stats = &load->stats->op[op];
		uint64_t good = tally->count[op] - tally->errors[op];
		stats_add(&stats->count, tally->count[op]);
		stats_add(&stats->bytes, good * load->config.block_size);
		stats_add(&stats->errors, tally->errors[op]);
		stats_add(&stats->latency_ns, tally->latency_ns[op]);
	}
	stats_add(&load->stats->batches, 1);
	stats_set(&load->stats->inflight, load->inflight);
}

/* Ends the making of requests when the time is over or a stop was asked for. */
static inline void check_limits(struct vhc_load *load, uint64_t now)
{
	uint64_t elapsed = tick_to_ns(now - load->started);
	if (!load->readback) {
		atomic_store_explicit(&load->elapsed_ns, elapsed, memory_order_relaxed);
		if (load->config.runtime_ns && elapsed >= load->config.runtime_ns)
			load->left = load->later = 0;
	}
	if (!atomic_load_explicit(&load->stop, memory_order_relaxed))
		return;
	load->left = load->later = 0;
	if (load->stopped == 0)
		load->stopped = now;
}

static void count(struct vhc_load *load, const struct finished *requests, int n)
{
	struct tally tally = {0};
	for (int i = 0; i < n; i++) {
		tally.count[requests[i].op]++;
		tally.errors[requests[i].op] += requests[i].failed;
		record_latency(load, &requests[i], &tally);
	}
	add_up(load, &tally);
}

static inline __attribute__((always_inline)) int serve_as(struct vhc_load *load,
							  struct load_ring *on, bool packed)
{
	struct vhc_driver_ring *ring = on->ring;
	struct finished requests[BATCH];
	int n = driver_ring_ready_as(ring, packed);
	if (n <= 0)
		return n;
	if (n > BATCH)
		n = BATCH;
	uint64_t now = tick_now();
	int done = 0;
	for (; done < n; done++) {
		uint32_t len;
		int head = driver_ring_take_as(ring, packed, &len);
		if (packed && head == -EAGAIN)
			break;
		if (head < 0)
			return head;
		uint32_t i = (uint32_t)ring->chains[head].token;
		requests[done] = finish(load, on, i, now);
		if (prepare(load, on, i, now))
			driver_ring_offer_as(ring, packed, (uint16_t)head);
		else
			put_aside(load, on, (uint16_t)head);
	}
	driver_ring_publish_as(ring, packed);
	if (!load->readback)
		count(load, requests, done);
	check_limits(load, now);
	return done;
}

/* Turns round what the device has done on a ring. Returns how many, or -EPROTO. */
static int serve(struct vhc_load *load, struct load_ring *on)
{
	return on->ring->packed ? serve_as(load, on, true) : serve_as(load, on, false);
}

/* ---- Waiting ---------------------------------------------------------------------------- */

static void spin(struct vhc_load *load)
{
	if (load->idle_spins < SPINS_BEFORE_PAUSE)
		return;
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Nothing has come back. Returns -ETIMEDOUT when it is not worth waiting any more. */
static int idle(struct vhc_load *load)
{
	load->idle_spins++;
	if (load->config.mode == VHC_MODE_INTERRUPT)
		load_sleep(load);
	else
		spin(load);
	if (load->config.mode == VHC_MODE_POLL && load->idle_spins % SPINS_PER_LOOK)
		return 0;
	uint64_t now = tick_now();
	check_limits(load, now);
	return load->stopped && tick_to_ns(now - load->stopped) > STOP_NS ? -ETIMEDOUT : 0;
}

/* Serves all rings once, or waits. Returns 0, -EPROTO or -ETIMEDOUT. */
static inline int turn_round(struct vhc_load *load)
{
	int served = 0;
	for (uint32_t i = 0; i < load->num_rings && !load->asleep; i++) {
		int n = serve(load, &load->rings[i]);
		if (n < 0)
			return n;
		served += n;
	}
	if (served == 0)
		return idle(load);
	load->idle_spins = 0;
	return 0;
}

/* As many requests as go, num in all. */
static int run_free(struct vhc_load *load, uint64_t num)
{
	int rc = 0;
	load->left = num;
	for (uint32_t i = 0; i < load->num_rings; i++)
		fill(load, &load->rings[i]);
	while (load->inflight > 0 && rc == 0)
		rc = turn_round(load);
	return rc;
}

static int run_paced(struct vhc_load *load, uint64_t num)
{
	int rc = 0;
	load->later = num;
	load_rate_start(&load->rate, load->config.rate, load->started);
	while ((load->inflight > 0 || load->later > 0) && rc == 0) {
		offer_due(load, tick_now());
		rc = turn_round(load);
	}
	if (load->asleep)
		load_wake(load);
	return rc;
}

int load_run(struct vhc_load *load)
{
	uint64_t limit = load->config.runtime_ns ? UINT64_MAX : load->blocks;
	uint64_t num = load->config.ios ? load->config.ios : limit;
	load_sleep_prepare(load);
	load->started = tick_now();
	int rc = load->config.rate ? run_paced(load, num) : run_free(load, num);
	if (rc || !load->known || !load_writes(load) || load->stopped)
		return rc;
	load->readback = true;
	load->next_block = 0;
	return run_free(load, load_verify_count(load));
}
