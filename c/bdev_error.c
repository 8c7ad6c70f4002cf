/* SPDX-License-Identifier: MIT */
/* A bdev that fails, keeps, or falsifies what it is asked, by rules (error_rules.h). */
#include <errno.h>
#include <stdlib.h>

#include "error_rules.h"
#include "falsify.h"
#include "stack.h"

struct error_bdev {
	struct stack_bdev stack;
	struct error_rules rules;
	atomic_uint resumes; /* calls of vhc_bdev_error_resume */
	atomic_uint hanging; /* requests that do */
};

/* Requests in the order they came, chained by io->backend. */
struct hanging {
	struct io *first; /* or NULL */
	struct io *last;
};

struct error_channel {
	struct stack_channel stack;
	struct error_view view;
	struct hanging hanging;
	uint64_t depth;	  /* requests that the base has */
	uint32_t resumes; /* that it has followed */
};

static struct error_channel *channel_of(struct bdev_channel *channel)
{
	return (struct error_channel *)channel;
}

static struct error_bdev *bdev_of(const struct error_channel *error)
{
	return (struct error_bdev *)error->stack.channel.bdev;
}

static bool is_hasty(const struct error_channel *error)
{
	return atomic_load_explicit(&bdev_of(error)->stack.hasty, memory_order_acquire);
}

/* ---- Ends ---- */

static void fail(struct error_channel *error, struct io *io, int32_t result)
{
	error->stack.channel.inflight--;
	io->result = result;
	io_complete(io);
}

static void done(struct stack_channel *stack, struct child *child)
{
	struct error_channel *error = (struct error_channel *)stack;

	error->depth--;
	falsify_end(child);
	stack_finish(stack, child, child->io.result);
}

/* ---- Requests ---- */

static struct io *next_of(const struct io *io)
{
	return (struct io *)(uintptr_t)io->backend;
}

static void append(struct hanging *list, struct io *io)
{
	io->backend = 0;
	if (list->first)
		list->last->backend = (uintptr_t)io;
	else
		list->first = io;
	list->last = io;
}

static void hang(struct error_channel *error, struct io *io)
{
	append(&error->hanging, io);
	atomic_fetch_add(&bdev_of(error)->hanging, 1);
}

/* A child for a request that goes on, or NULL: it has ended. */
static struct child *pass_on(struct error_channel *error, struct io *io,
			     const struct vhc_error_rule *rule)
{
	struct child *child = stack_take(&error->stack, io);

	if (!child) {
		fail(error, io, -ENOMEM);
		return NULL;
	}
	if (rule && !falsify_begin(child, rule)) {
		stack_finish(&error->stack, child, -ENOMEM);
		return NULL;
	}
	return child;
}

/* What becomes of a request: a child for the base, or NULL, as it has ended or hangs. */
static struct child *treat(struct error_channel *error, struct io *io)
{
	const struct vhc_error_rule *rule =
	    error_rules_match(&bdev_of(error)->rules, &error->view, io, error->depth);

	switch (rule ? rule->kind : VHC_ERROR_NONE) {
	case VHC_ERROR_FAILURE:
		fail(error, io, -EIO);
		return NULL;
	case VHC_ERROR_NOMEM:
		fail(error, io, -ENOMEM);
		return NULL;
	case VHC_ERROR_PENDING:
		if (is_hasty(error))
			fail(error, io, -EIO);
		else
			hang(error, io);
		return NULL;
	default:
		return pass_on(error, io, rule);
	}
}

static void pass(struct error_channel *error, struct io *const *ios, uint32_t n)
{
	struct io *children[STACK_CHUNK];
	uint32_t num = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct child *child = treat(error, ios[i]);

		if (!child)
			continue;
		children[num++] = &child->io;
		error->depth++;
	}
	stack_submit(&error->stack, children, num);
}

static void error_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	channel->inflight += n;
	for (uint32_t at = 0; at < n; at += STACK_CHUNK)
		pass(channel_of(channel), ios + at, n - at < STACK_CHUNK ? n - at : STACK_CHUNK);
}

/* Lets go of those that hang: on to the base, as if they came now, or to an error. */
static uint32_t error_poll(struct bdev_channel *channel)
{
	struct error_channel *error = channel_of(channel);
	struct error_bdev *bdev = bdev_of(error);
	const uint32_t resumes = atomic_load_explicit(&bdev->resumes, memory_order_acquire);
	const bool hasty = is_hasty(error);
	struct io *io = error->hanging.first;
	uint32_t n = 0;

	if (resumes == error->resumes && !(hasty && io))
		return 0;
	error->resumes = resumes;
	error->hanging.first = NULL;
	for (; io; n++) {
		struct io *next = next_of(io);

		atomic_fetch_sub(&bdev->hanging, 1);
		if (hasty)
			fail(error, io, -EIO);
		else
			pass(error, &io, 1);
		io = next;
	}
	return n;
}

static void error_cancel(struct bdev_channel *channel, struct lane *lane,
			 const struct io_pick *pick)
{
	struct error_channel *error = channel_of(channel);
	struct io *io = error->hanging.first, *next;
	struct hanging picked = {0};

	error->hanging.first = NULL;
	for (; io; io = next) {
		next = next_of(io);
		append(io_is_picked(pick, io) ? &picked : &error->hanging, io);
	}
	for (io = picked.first; io; io = next) {
		next = next_of(io);
		atomic_fetch_sub(&bdev_of(error)->hanging, 1);
		fail(error, io, -ECANCELED);
	}
	stack_cancel(channel, lane, pick);
}

/* ---- Life ---- */

static int error_open(struct vhc_bdev *bdev, struct bdev_channel *base, struct bdev_channel **out)
{
	struct error_channel *error = calloc(1, sizeof(*error));
	int result = error ? stack_open_held(&error->stack, bdev, base, done) : -ENOMEM;

	if (result) {
		free(error);
		return result;
	}
	error->resumes = atomic_load(&bdev_of(error)->resumes);
	*out = &error->stack.channel;
	return 0;
}

static void error_close(struct bdev_channel *channel)
{
	struct error_channel *error = channel_of(channel);

	stack_close_held(&error->stack);
	free(error);
}

static void error_destroy(struct vhc_bdev *bdev)
{
	struct error_bdev *error = (struct error_bdev *)bdev;

	error_rules_destroy(&error->rules);
	stack_bdev_destroy(&error->stack);
}

static const struct bdev_ops error_ops = {
    .name = "error",
    .channel_open = error_open,
    .channel_close = error_close,
    .submit = error_submit,
    .let_go = stack_let_go,
    .cancel = error_cancel,
    .poll = error_poll,
    .resize = stack_resize,
    .extent = stack_extent,
    .set_holding = stack_bdev_set_holding,
    .destroy = error_destroy,
};

int vhc_bdev_error_create(struct vhc_bdev *base, struct vhc_bdev **out)
{
	struct error_bdev *error = calloc(1, sizeof(*error));

	if (!error)
		return -ENOMEM;
	stack_bdev_init(&error->stack, &error_ops, base);
	error_rules_init(&error->rules);
	*out = &error->stack.bdev;
	return 0;
}

int vhc_bdev_error_inject(struct vhc_bdev *bdev, uint32_t ops, const struct vhc_error_rule *rule)
{
	if (bdev->ops != &error_ops || ops >> ERROR_OPS || rule->kind > VHC_ERROR_NOMEM ||
	    rule->len > UINT64_MAX - rule->offset)
		return -EINVAL;
	if (rule->kind == VHC_ERROR_CORRUPT && (rule->corrupt_value - 1) > 0xfe)
		return -EINVAL;
	error_rules_set(&((struct error_bdev *)bdev)->rules, ops, rule);
	return 0;
}

int vhc_bdev_error_resume(struct vhc_bdev *bdev)
{
	struct error_bdev *error = (struct error_bdev *)bdev;

	if (bdev->ops != &error_ops)
		return -EINVAL;
	error_rules_drop(&error->rules, VHC_ERROR_PENDING);
	atomic_fetch_add(&error->resumes, 1);
	stack_bdev_wake(&error->stack);
	return 0;
}

int64_t vhc_bdev_error_left(const struct vhc_bdev *bdev, uint32_t op)
{
	if (bdev->ops != &error_ops || op >= ERROR_OPS)
		return -EINVAL;
	return error_rules_left(&((const struct error_bdev *)bdev)->rules, op);
}

int64_t vhc_bdev_error_hanging(const struct vhc_bdev *bdev)
{
	if (bdev->ops != &error_ops)
		return -EINVAL;
	return atomic_load(&((const struct error_bdev *)bdev)->hanging);
}
