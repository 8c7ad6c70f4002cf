/* SPDX-License-Identifier: MIT */
/*
 * A bdev whose reads and writes take a while: of a hundred, one takes what 99 in a
 * hundred stay below, the others the average. What the base ended sooner waits in a
 * heap, by the moment at which it is to end, and the channel is due at the first.
 */
#include <errno.h>
#include <stdlib.h>

#include "stack.h"
#include "tick.h"

struct delay_bdev {
	struct stack_bdev stack;
	_Atomic uint64_t ticks[VHC_NUM_DELAYS]; /* by enum vhc_delay */
};

struct delay_channel {
	struct stack_channel stack;
	uint64_t random;
	struct child **heap; /* those that the base has ended; the first is due first */
	uint32_t num_waiting;
	uint32_t room;
};

static struct delay_channel *channel_of(struct bdev_channel *channel)
{
	return (struct delay_channel *)channel;
}

static bool is_hasty(const struct delay_channel *delay)
{
	const struct stack_bdev *of = (const struct stack_bdev *)delay->stack.channel.bdev;

	return atomic_load_explicit(&of->hasty, memory_order_relaxed);
}

/* ---- Those that wait ---- */

static void swap(struct child **a, struct child **b)
{
	struct child *child = *a;

	*a = *b;
	*b = child;
}

/* The room was made when the request was submitted. */
static void heap_add(struct delay_channel *delay, struct child *child)
{
	struct child **heap = delay->heap;
	uint32_t at = delay->num_waiting++;

	heap[at] = child;
	for (; at > 0 && heap[at]->due < heap[(at - 1) / 2]->due; at = (at - 1) / 2)
		swap(&heap[at], &heap[(at - 1) / 2]);
}

static struct child *heap_take(struct delay_channel *delay)
{
	struct child **heap = delay->heap;
	struct child *first = heap[0];
	uint32_t n = --delay->num_waiting;

	heap[0] = heap[n];
	for (uint32_t at = 0, next; (next = 2 * at + 1) < n; at = next) {
		if (next + 1 < n && heap[next + 1]->due < heap[next]->due)
			next++;
		if (heap[at]->due <= heap[next]->due)
			break;
		swap(&heap[at], &heap[next]);
	}
	return first;
}

static void set_due(struct delay_channel *delay)
{
	delay->stack.channel.due = delay->num_waiting ? delay->heap[0]->due : CHANNEL_NEVER_DUE;
}

static bool make_room(struct delay_channel *delay)
{
	struct child **heap;

	if (delay->room >= delay->stack.num_children)
		return true;
	heap = realloc(delay->heap, delay->stack.num_children * sizeof(struct child *));
	if (!heap)
		return false;
	delay->heap = heap;
	delay->room = delay->stack.num_children;
	return true;
}

/* ---- Requests ---- */

static bool is_rare(struct delay_channel *delay)
{
	/* xorshift64* (Vigna). */
	delay->random ^= delay->random >> 12;
	delay->random ^= delay->random << 25;
	delay->random ^= delay->random >> 27;
	return ((delay->random * UINT64_C(2685821657736338717)) >> 32) % 100 == 0;
}

/* When a request is to end that is submitted now. */
static uint64_t due_of(struct delay_channel *delay, const struct io *io, uint64_t now)
{
	const struct delay_bdev *of = (const struct delay_bdev *)delay->stack.channel.bdev;
	bool rare = is_rare(delay);
	enum vhc_delay which;

	if (io->op == VHC_OP_READ)
		which = rare ? VHC_DELAY_P99_READ : VHC_DELAY_AVG_READ;
	else if (io->op == VHC_OP_WRITE)
		which = rare ? VHC_DELAY_P99_WRITE : VHC_DELAY_AVG_WRITE;
	else
		return 0;
	return now + atomic_load_explicit(&of->ticks[which], memory_order_relaxed);
}

static void done(struct stack_channel *stack, struct child *child)
{
	struct delay_channel *delay = (struct delay_channel *)stack;

	if (child->due == 0 || child->due <= tick_now() || is_hasty(delay)) {
		stack_finish(stack, child, child->io.result);
		return;
	}
	heap_add(delay, child);
	set_due(delay);
}

static void pass(struct delay_channel *delay, struct io *const *ios, uint32_t n)
{
	struct stack_channel *stack = &delay->stack;
	struct io *children[STACK_CHUNK];
	uint64_t now = tick_now();
	uint32_t num = 0;

	stack->channel.inflight += n;
	for (uint32_t i = 0; i < n; i++) {
		struct child *child = stack_take(stack, ios[i]);

		if (child && !make_room(delay)) {
			stack_finish(stack, child, -ENOMEM);
			continue;
		}
		if (!child) {
			stack->channel.inflight--;
			ios[i]->result = -ENOMEM;
			io_complete(ios[i]);
			continue;
		}
		child->due = due_of(delay, ios[i], now);
		children[num++] = &child->io;
	}
	stack_submit(stack, children, num);
}

static void delay_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	for (uint32_t at = 0; at < n; at += STACK_CHUNK)
		pass(channel_of(channel), ios + at, n - at < STACK_CHUNK ? n - at : STACK_CHUNK);
}

static uint32_t delay_poll(struct bdev_channel *channel)
{
	struct delay_channel *delay = channel_of(channel);
	uint32_t ended = 0;

	if (delay->num_waiting == 0)
		return 0;

	/* What ends leads to more: that has its turn next time. */
	uint64_t until = is_hasty(delay) ? UINT64_MAX : tick_now();

	for (uint32_t n = delay->num_waiting; n > 0 && delay->num_waiting; n--) {
		struct child *child;

		if (delay->heap[0]->due > until)
			break;
		child = heap_take(delay);
		ended++;
		stack_finish(&delay->stack, child, child->io.result);
	}
	set_due(delay);
	return ended;
}

/* Takes those that need not wait any more out of the heap. Returns the first; `next` chains them.
 */
static struct child *take_undue(struct delay_channel *delay)
{
	const uint32_t n = delay->num_waiting;
	struct child *first = NULL;

	delay->num_waiting = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct child *child = delay->heap[i];

		if (child->due) {
			heap_add(delay, child);
			continue;
		}
		child->next = first;
		first = child;
	}
	set_due(delay);
	return first;
}

static void hurry(struct child *child)
{
	child->due = 0;
}

static void delay_cancel(struct bdev_channel *channel, struct lane *lane,
			 const struct io_pick *pick)
{
	struct delay_channel *delay = channel_of(channel);
	struct child *child;

	/* Also those that the base still has: they are not to wait when it ends them. */
	stack_pick(&delay->stack, pick, hurry);
	stack_cancel(channel, lane, pick);
	child = take_undue(delay);
	while (child) {
		struct child *next = child->next;

		stack_finish(&delay->stack, child, -ECANCELED);
		child = next;
	}
}

/* ---- Life ---- */

static int delay_open(struct vhc_bdev *bdev, struct bdev_channel *base, struct bdev_channel **out)
{
	struct delay_channel *delay = calloc(1, sizeof(*delay));
	int result = delay ? stack_open_held(&delay->stack, bdev, base, done) : -ENOMEM;

	if (result) {
		free(delay);
		return result;
	}
	delay->random = tick_now() | 1;
	delay->stack.channel.due = CHANNEL_NEVER_DUE;
	*out = &delay->stack.channel;
	return 0;
}

static void delay_close(struct bdev_channel *channel)
{
	struct delay_channel *delay = channel_of(channel);

	stack_close_held(&delay->stack);
	free(delay->heap);
	free(delay);
}

static void delay_destroy(struct vhc_bdev *bdev)
{
	stack_bdev_destroy((struct stack_bdev *)bdev);
}

static const struct bdev_ops delay_ops = {
    .name = "delay",
    .channel_open = delay_open,
    .channel_close = delay_close,
    .submit = delay_submit,
    .let_go = stack_let_go,
    .cancel = delay_cancel,
    .poll = delay_poll,
    .resize = stack_resize,
    .extent = stack_extent,
    .set_holding = stack_bdev_set_holding,
    .destroy = delay_destroy,
};

int vhc_bdev_delay_create(struct vhc_bdev *base, struct vhc_bdev **out)
{
	struct delay_bdev *delay = calloc(1, sizeof(*delay));

	if (!delay)
		return -ENOMEM;
	stack_bdev_init(&delay->stack, &delay_ops, base);
	*out = &delay->stack.bdev;
	return 0;
}

int vhc_bdev_delay_set(struct vhc_bdev *bdev, uint32_t which, uint64_t ns)
{
	struct delay_bdev *delay = (struct delay_bdev *)bdev;

	if (bdev->ops != &delay_ops || which >= VHC_NUM_DELAYS || ns > VHC_MAX_DELAY_NS)
		return -EINVAL;
	atomic_store_explicit(&delay->ticks[which], tick_from_ns(ns), memory_order_relaxed);
	return 0;
}
