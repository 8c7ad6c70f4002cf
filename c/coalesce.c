/* SPDX-License-Identifier: MIT */
#include "coalesce.h"

#include "queue.h"
#include "tick.h"
#include "trace.h"

#define NS_PER_SECOND UINT64_C(1000000000)

/* ---- The rule ---- */

uint64_t coalesce_delay(uint64_t base_ns, uint64_t threshold, uint64_t rate)
{
	unsigned __int128 delay;

	if (rate <= threshold)
		return 0;
	delay = (unsigned __int128)base_ns * (rate - threshold) / threshold;
	return delay < COALESCE_INTERVAL_NS ? (uint64_t)delay : COALESCE_INTERVAL_NS;
}

/* At the end of an interval: what was put off in it is not put off any longer. */
static void measure(struct coalesce *of, uint64_t now)
{
	uint64_t ns = tick_to_ns(now - of->since);
	uint64_t rate;

	if (ns < COALESCE_INTERVAL_NS)
		return;
	rate = (uint64_t)((unsigned __int128)of->requests * NS_PER_SECOND / ns);
	of->delay = tick_from_ns(coalesce_delay(of->base_ns, of->threshold, rate));
	of->next_call = now;
	of->since = now;
	of->requests = 0;
}

/* ---- Calls that were put off ---- */

/* Delays of a reactor's rings are alike: the place is at the end, or close to it. */
static void put_off(struct queue *queue)
{
	struct coalesced *list = &queue->outbox->coalesced;
	struct coalesce *of = &queue->coalesce;
	struct queue *before = list->last;

	of->due = of->next_call;
	while (before && before->coalesce.due > of->due)
		before = before->coalesce.previous;
	of->previous = before;
	of->next = before ? before->coalesce.next : list->first;
	*(before ? &before->coalesce.next : &list->first) = queue;
	*(of->next ? &of->next->coalesce.previous : &list->last) = queue;
}

static void take_back(struct queue *queue)
{
	struct coalesced *list = &queue->outbox->coalesced;
	struct coalesce *of = &queue->coalesce;

	if (!of->due)
		return;
	*(of->previous ? &of->previous->coalesce.next : &list->first) = of->next;
	*(of->next ? &of->next->coalesce.previous : &list->last) = of->previous;
	of->due = 0;
}

void coalesce_send(struct queue *queue, uint64_t now)
{
	struct coalesce *of = &queue->coalesce;
	uint32_t unasked = of->unasked;

	take_back(queue);
	of->unasked = 0;
	if (ring_wants_call(queue->ring, unasked)) {
		of->next_call = now + of->delay;
		queue_call(queue);
	} else {
		stats_add(&queue->stats->calls_suppressed, 1);
		if (queue->ring->trace)
			trace_told(queue->ring->trace, false);
	}
}

/* Never inlined: what it needs of registers would cost those who have it off. */
__attribute__((noinline)) void coalesce_publish(struct queue *queue)
{
	struct coalesce *of = &queue->coalesce;
	uint64_t now = tick_now();

	of->requests += (uint16_t)(queue->ring->next_used - queue->ring->published);
	of->unasked += ring_show(queue->ring);
	if (queue->ring->trace)
		trace_published(queue->ring->trace);
	measure(of, now);
	if (now >= of->next_call) {
		coalesce_send(queue, now);
		return;
	}
	stats_add(&queue->stats->calls_delayed, 1);
	if (!of->due)
		put_off(queue);
}

void coalesce_set(struct queue *queue, uint64_t base_ns, uint64_t threshold)
{
	uint64_t now = tick_now();

	if (queue->coalesce.due)
		coalesce_send(queue, now);
	queue->coalesce = (struct coalesce){.base_ns = queue->ring->call_fd < 0 ? 0 : base_ns,
					    .threshold = threshold,
					    .since = now};
}
