/* SPDX-License-Identifier: MIT */
#include "trace.h"

#include <stdlib.h>
#include <string.h>

#include "scsi.h"
#include "task.h"

/* Kept out of who calls it, whose way without a trace would be the longer for it. */
#define APART __attribute__((noinline))

/* ---- Life ---- */

static void trace_free(struct vhc_trace *trace)
{
	free(trace->slots);
	free(trace->times);
	free(trace);
}

int vhc_trace_create(uint32_t size, struct vhc_trace **out)
{
	struct vhc_trace *trace;

	if (size < VHC_TRACE_MIN_SIZE || size > VHC_TRACE_MAX_SIZE || (size & (size - 1)))
		return -EINVAL;
	trace = calloc(1, sizeof(*trace));
	if (!trace)
		return -ENOMEM;
	trace->mask = size - 1;
	trace->slots = calloc(size, sizeof(*trace->slots));
	trace->times = aligned_alloc(64, size * sizeof(*trace->times));
	if (!trace->slots || !trace->times) {
		trace_free(trace);
		return -ENOMEM;
	}
	memset(trace->times, 0, size * sizeof(*trace->times));
	atomic_init(&trace->refs, 1);
	*out = trace;
	return 0;
}

void trace_ref(struct vhc_trace *trace)
{
	atomic_fetch_add_explicit(&trace->refs, 1, memory_order_relaxed);
}

void vhc_trace_release(struct vhc_trace *trace)
{
	if (trace && atomic_fetch_sub_explicit(&trace->refs, 1, memory_order_acq_rel) == 1)
		trace_free(trace);
}

/* ---- Words that others read meanwhile ---- */

/* After it was announced, for all who see the value. */
static inline void put(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Announces n records at most. Returns the number of the first. */
static inline uint64_t begin(struct vhc_trace *trace, uint32_t n)
{
	uint64_t first = trace->ended;

	__atomic_store_n(&trace->begun, first + n, __ATOMIC_RELAXED);
	return first;
}

/* Those before number `end` are written. */
static inline void finish(struct vhc_trace *trace, uint64_t end)
{
	__atomic_store_n(&trace->begun, end, __ATOMIC_RELAXED);
	put(&trace->ended, end);
}

/* Writes an entry of times. Returns its number, for records of which there is one at least. */
static uint32_t add_times(struct vhc_trace *trace, const struct trace_times *times)
{
	struct trace_times *entry = &trace->times[trace->num_times & trace->mask];

	put(&entry->kicked, times->kicked);
	put(&entry->taken, times->taken);
	put(&entry->submitted, times->submitted);
	put(&entry->completed, times->completed);
	put(&entry->published, 0);
	put(&entry->called, 0);
	put(&entry->address, times->address);
	return (uint32_t)trace->num_times++;
}

/*
 * What a task has beside: VHC_TRACE_* in the first byte, then opcode, status, response,
 * sense key, additional sense code and qualifier.
 */
static uint64_t told_word(const struct task_told *told, uint8_t opcode, uint8_t flags)
{
	return flags | (uint64_t)opcode << 8 | (uint64_t)told->status << 16 |
	       (uint64_t)told->response << 24 | (uint64_t)told->sense_key << 32 |
	       (uint64_t)told->asc << 40 | (uint64_t)told->ascq << 48;
}

/* ---- Records ---- */

static inline uint64_t how(uint8_t op, uint8_t flags, int32_t result)
{
	return io_kind(op, flags, 0) | (uint64_t)(uint32_t)result << 32;
}

static inline uint64_t who(const struct queue *queue, const struct io *io, uint32_t entry)
{
	return (uint64_t)queue_head(queue, io) << 32 | entry;
}

/* Records one request, with an entry of its own; `as` has all but `who` and `tag`. */
static void record_one(const struct queue *queue, const struct io *io,
		       const struct trace_times *times, const struct trace_slot *as)
{
	struct vhc_trace *trace = queue->ring->trace;
	uint64_t number = begin(trace, 1);
	struct trace_slot *slot = &trace->slots[number & trace->mask];

	put(&slot->offset, as->offset);
	put(&slot->len, as->len);
	put(&slot->how, as->how);
	put(&slot->who, who(queue, io, add_times(trace, times)));
	put(&slot->tag, queue->kind == QUEUE_SCSI ? queue->tasks->tags[queue_head(queue, io)] : 0);
	put(&slot->told, as->told);
	finish(trace, number + 1);
}

/*
 * Writes records from `number` on, all with that entry. Returns the number after the
 * last. It is what each request of a fast backend pays for.
 */
static inline uint64_t write_slots(const struct queue *queue, struct io *const *ios,
				   struct io *const *end, uint64_t number, uint32_t entry)
{
	struct trace_slot *const slots = queue->ring->trace->slots;
	const uint64_t mask = queue->ring->trace->mask;
	const uint64_t *tags = queue->kind == QUEUE_SCSI ? queue->tasks->tags : NULL;
	const struct io *const first = queue->ios;

	for (; ios < end; ios++) {
		const struct io *io = *ios;
		const uint64_t head = (uint64_t)(io - first);
		struct trace_slot *slot = &slots[number & mask];

		if (__builtin_expect(io->flags & IO_TASK, 0))
			continue;
		put(&slot->offset, io->offset);
		put(&slot->len, io->len);
		put(&slot->how, io->kind | (uint64_t)(uint32_t)io->result << 32);
		put(&slot->who, head << 32 | entry);
		if (tags)
			put(&slot->tag, tags[head]);
		number++;
	}
	return number;
}

/* Records what of a batch a synchronous backend ended, but for tasks: they are put later. */
static void record_batch(const struct lane *lane, struct io *const *ios, uint32_t n,
			 uint64_t submitted)
{
	const struct queue *queue = lane->queue;
	struct vhc_trace *trace = queue->ring->trace;
	const bool scsi = queue->kind == QUEUE_SCSI;
	const struct trace_times times = {.kicked = queue->kicked ? trace->kick : 0,
					  .taken = queue->batch_start,
					  .submitted = submitted,
					  .completed = tick_now(),
					  .address = scsi ? lane->address : VHC_TRACE_NOWHERE};
	struct io *const *end = ios + n;
	uint64_t number;
	uint32_t entry;

	while (ios < end && ((*ios)->flags & IO_TASK))
		ios++;
	if (ios == end)
		return;
	number = begin(trace, (uint32_t)(end - ios));
	entry = add_times(trace, &times);
	finish(trace, write_slots(queue, ios, end, number, entry));
}

/* ---- Requests in flight ---- */

APART void trace_kicked(const struct queue *queue, const struct ring_head *heads, uint32_t n)
{
	struct vhc_trace *trace = queue->ring->trace;

	for (uint32_t i = 0; i < n; i++)
		trace->flights[heads[i].index] =
		    (struct trace_flight){.taken = queue->batch_start, .kicked = trace->kick};
}

static void note_submitted(const struct queue *queue, const struct io *io, uint64_t now)
{
	struct trace_flight *flight = &queue->ring->trace->flights[queue_head(queue, io)];
	uint64_t taken = io->flags & IO_TASK ? task_of(queue, io)->taken : queue->batch_start;

	if (flight->taken != taken)
		*flight = (struct trace_flight){.taken = taken};
	flight->submitted = now;
}

APART void trace_submit(struct lane *lane, struct io *const *ios, uint32_t n)
{
	const struct queue *queue = lane->queue;
	uint64_t now = tick_now();

	for (uint32_t i = 0; i < n && (!lane->sync || queue->kind == QUEUE_SCSI); i++)
		if (!lane->sync || (ios[i]->flags & IO_TASK))
			note_submitted(queue, ios[i], now);
	lane->channel->bdev->ops->submit(lane->channel, ios, n);
	if (lane->sync)
		record_batch(lane, ios, n, now);
}

/* The times of a request that was taken then and has just ended. */
static struct trace_times times_of(const struct queue *queue, const struct io *io, uint64_t taken)
{
	const struct trace_flight *flight = &queue->ring->trace->flights[queue_head(queue, io)];
	struct trace_times times = {
	    .taken = taken, .completed = tick_now(), .address = VHC_TRACE_NOWHERE};

	if (flight->taken == taken) {
		times.kicked = flight->kicked;
		times.submitted = flight->submitted;
	}
	return times;
}

APART void trace_ended(const struct queue *queue, const struct io *io)
{
	struct trace_times times = times_of(queue, io, io->start);
	const struct trace_slot as = {
	    .offset = io->offset, .len = io->len, .how = how(io->op, 0, io->result)};

	if (queue->kind == QUEUE_SCSI)
		times.address = io->lane->address;
	record_one(queue, io, &times, &as);
}

APART void trace_aborted(const struct queue *queue, const struct io *io, uint8_t response)
{
	struct trace_times times = times_of(queue, io, io->start);
	const struct task_told told = {.response = response};
	const struct trace_slot as = {.offset = io->offset,
				      .len = io->len,
				      .how = how(io->op, IO_TASK, io->result),
				      .told = told_word(&told, 0, 0)};

	times.address = io->lane->address;
	record_one(queue, io, &times, &as);
}

APART void trace_refused(const struct queue *queue, const struct io *io, uint32_t op,
			 int32_t result)
{
	const struct trace_times times = times_of(queue, io, queue->batch_start);
	struct trace_slot as = {.how = how((uint8_t)op, 0, result)};

	if (op == VHC_OP_READ || op == VHC_OP_WRITE) {
		as.offset = io->offset;
		as.len = io->len;
	}
	record_one(queue, io, &times, &as);
}

APART void trace_task(const struct queue *queue, const struct task *task, uint32_t op)
{
	const struct io *io = task->io;
	struct trace_times times = times_of(queue, io, task->taken);
	struct trace_slot as = {
	    .len = task->out_len + task->in_len,
	    .how = how((uint8_t)op, IO_TASK, task->was_up ? task->status : 0),
	    .told = told_word(&task->told, queue->kind == QUEUE_SCSI ? task->cdb[0] : 0,
			      task->was_up ? VHC_TRACE_UP : 0),
	};

	if (op != VHC_OP_OTHER) {
		as.offset = io->offset;
		as.len = io->len;
	}
	if (queue->kind == QUEUE_SCSI)
		times.address = task->address;
	record_one(queue, io, &times, &as);
}

/* ---- What comes after ---- */

/* Entries from number `from` on that were not overwritten since: the first of them. */
static uint64_t first_left(const struct vhc_trace *trace, uint64_t from)
{
	const uint64_t size = (uint64_t)trace->mask + 1;

	return trace->num_times - from > size ? trace->num_times - size : from;
}

APART void trace_published(struct vhc_trace *trace)
{
	uint64_t now = tick_now();

	for (uint64_t at = first_left(trace, trace->shown); at < trace->num_times; at++)
		put(&trace->times[at & trace->mask].published, now);
	trace->shown = trace->num_times;
}

APART void trace_told(struct vhc_trace *trace, bool called)
{
	uint64_t word = called ? tick_now() : TRACE_NO_CALL;

	for (uint64_t at = first_left(trace, trace->told); at < trace->shown; at++)
		put(&trace->times[at & trace->mask].called, word);
	trace->told = trace->shown;
}
