/* SPDX-License-Identifier: MIT */
/*
 * A device in a process of its own that is killed at an instruction chosen by chance, and
 * the next one on the same memory. The parent is the driver, and the child's tracer: it
 * lets it run to some step of a request, then from instruction to instruction, plays the
 * driver between two of those, and kills it.
 */
#ifndef VHC_CRASH_WORLD_H
#define VHC_CRASH_WORLD_H

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash_driver.h"
#include "crash_spec.h"

/* Steps of a device: where it can be stopped. */
enum crash_op {
	OP_NONE,
	OP_CREATE,
	OP_POP,
	OP_PUSH,
	OP_SIGNAL,
	OP_QUEUE,
	OP_LAST,
	OP_CHANNEL,
	OP_LATE,
	OP_IDLE,
	NUM_OPS,
};

static const char *const crash_op_names[NUM_OPS] = {"none",  "create", "pop",	  "push", "signal",
						    "queue", "last",   "channel", "late", "idle"};

/* Shared by both processes. */
struct crash_control {
	volatile int64_t countdown; /* steps to the next stop, */
	volatile uint32_t wanted;   /* which comes at one of this kind; OP_NONE: at any */
	volatile uint32_t op;	    /* the step that runs */
	volatile uint32_t steps;    /* begun by this device */
	volatile bool idle;	    /* it stopped because it has nothing to do */
	char wrong[160];	    /* what the device finds wrong; empty: nothing */
};

struct crash_shape {
	uint32_t size;
	bool packed, indirect, event_idx;
	uint32_t device; /* enum crash_device */
};

struct crash_world {
	struct crash_shape shape;
	int fd, inflight_fd;
	uint8_t *memory;
	uint8_t *inflight; /* the region */
	uint64_t inflight_bytes;
	struct crash_copy copy;
	struct crash_control *control;
	struct crash_driver driver;
	enum crash_op shows; /* the step that shows the driver what has ended */
	void (*device)(struct crash_world *world, uint64_t seed); /* does not return */
	pid_t pid;
	uint64_t random;
	uint64_t devices; /* so far */
	uint32_t kills[NUM_OPS];
};

static inline bool crash_fail(const struct crash_world *w, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "# %s, %u entries%s%s: device %llu, step %s: ",
		w->shape.packed ? "packed" : "split", w->shape.size,
		w->shape.indirect ? ", indirect" : "", w->shape.event_idx ? ", event_idx" : "",
		(unsigned long long)w->devices, crash_op_names[w->control->op]);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return false;
}

static inline uint8_t *crash_map(int fd, uint64_t bytes)
{
	void *at;

	if (fd < 0 || ftruncate(fd, (off_t)bytes))
		return NULL;
	at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return at == MAP_FAILED ? NULL : at;
}

/* Memory, region and driver as at the very beginning. */
static inline void crash_reset(struct crash_world *w, uint64_t seed)
{
	crash_driver_init(&w->driver, w->memory, w->shape.size, w->shape.packed, w->shape.indirect,
			  seed);
	memset(w->inflight, 0, w->inflight_bytes);
	w->random = seed * 2 + 1;
	w->devices = 0;
}

/* The same once more, to see what is in it. */
static inline bool crash_create_copy(struct crash_world *w)
{
	int fd = memfd_create("crash_copy", MFD_CLOEXEC);
	struct vhc_inflight_config config = {.size = w->inflight_bytes,
					     .fd = fd,
					     .num_queues = 2,
					     .queue_size = w->shape.size,
					     .packed = w->shape.packed};
	uint8_t *at = crash_map(fd, w->inflight_bytes);

	w->copy = (struct crash_copy){.bytes = w->inflight_bytes / 2,
				      .region = at + w->inflight_bytes / 2,
				      .size = w->shape.size,
				      .packed = w->shape.packed};
	if (!at || vhc_inflight_create(&config, &w->copy.of))
		return false;
	close(fd);
	return true;
}

static inline bool crash_world_create(struct crash_world *w, struct crash_shape shape,
				      void (*device)(struct crash_world *, uint64_t), uint64_t seed)
{
	*w = (struct crash_world){.shape = shape, .device = device};
	w->inflight_bytes = (uint64_t)vhc_inflight_bytes(2, shape.size, shape.packed);
	w->fd = memfd_create("crash_memory", MFD_CLOEXEC);
	w->inflight_fd = memfd_create("crash_inflight", MFD_CLOEXEC);
	w->memory = crash_map(w->fd, CRASH_BYTES);
	w->inflight = crash_map(w->inflight_fd, w->inflight_bytes);
	w->control = mmap(NULL, sizeof(*w->control), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!w->memory || !w->inflight || w->control == MAP_FAILED || !crash_create_copy(w))
		return false;
	crash_reset(w, seed);
	return true;
}

static inline void crash_world_destroy(struct crash_world *w)
{
	munmap(w->memory, CRASH_BYTES);
	munmap(w->inflight, w->inflight_bytes);
	munmap(w->control, sizeof(*w->control));
	munmap(w->copy.region - w->copy.bytes, w->inflight_bytes);
	vhc_inflight_release(w->copy.of);
	close(w->fd);
	close(w->inflight_fd);
}

/* ---- The device's side ---- */

static inline void crash_stop_here(void)
{
#if defined(__x86_64__)
	__asm__ volatile("int3");
#else
	raise(SIGTRAP);
#endif
}

/* The step op begins. */
static inline void crash_point(struct crash_world *w, enum crash_op op)
{
	struct crash_control *control = w->control;

	control->op = op;
	control->steps++;
	if (control->countdown-- <= 0 && (control->wanted == OP_NONE || control->wanted == op))
		crash_stop_here();
}

/* There is nothing to do: until the driver has offered something. */
static inline void crash_point_idle(struct crash_world *w)
{
	w->control->op = OP_IDLE;
	w->control->steps++;
	w->control->idle = true;
	crash_stop_here();
}

__attribute__((noreturn, format(printf, 2, 3))) static inline void
crash_device_wrong(struct crash_world *w, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(w->control->wrong, sizeof(w->control->wrong), format, args);
	va_end(args);
	_exit(1);
}

/* Requests come in the order in which they were offered, those of a predecessor first. */
static inline void crash_in_turn(struct crash_world *w, uint64_t number, uint64_t *last)
{
	if (number <= *last)
		crash_device_wrong(w, "request %llu after %llu", (unsigned long long)number,
				   (unsigned long long)*last);
	*last = number;
}

/* ---- The parent's side ---- */

static inline bool crash_wait(struct crash_world *w)
{
	int status;

	if (waitpid(w->pid, &status, 0) != w->pid)
		return crash_fail(w, "it cannot be waited for");
	if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP)
		return true;
	if (WIFSTOPPED(status)) {
		crash_fail(w, "signal %d", WSTOPSIG(status));
		/* A sanitizer has something to say. */
		ptrace(PTRACE_CONT, w->pid, NULL, WSTOPSIG(status));
		waitpid(w->pid, &status, 0);
	}
	if (WIFEXITED(status))
		crash_fail(w, "%s", w->control->wrong[0] ? w->control->wrong : "it ended");
	w->pid = 0;
	return false;
}

/* Starts a device, which the parent follows step by step if it is traced. */
static inline bool crash_start(struct crash_world *w, int64_t countdown, enum crash_op wanted,
			       bool traced)
{
	w->control->countdown = countdown;
	w->control->wanted = wanted;
	w->control->steps = 0;
	w->control->op = OP_NONE;
	w->control->idle = false;
	w->control->wrong[0] = 0;
	w->devices++;
	fflush(NULL);
	w->pid = fork();
	if (w->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (traced && ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			crash_device_wrong(w, "it cannot be traced");
		alarm(60);
		w->device(w, w->random + w->devices);
		_exit(2);
	}
	return w->pid > 0;
}

/* Starts one that stops after so many steps, at one of the kind that is wanted. */
static inline bool crash_spawn(struct crash_world *w, int64_t countdown, enum crash_op wanted)
{
	return crash_start(w, countdown, wanted, true) && crash_wait(w);
}

static inline bool crash_go_on(struct crash_world *w, int64_t countdown, enum crash_op wanted)
{
	w->control->countdown = countdown;
	w->control->wanted = wanted;
	w->control->idle = false;
	return ptrace(PTRACE_CONT, w->pid, NULL, NULL) == 0 && crash_wait(w);
}

static inline bool crash_step(struct crash_world *w)
{
	return ptrace(PTRACE_SINGLESTEP, w->pid, NULL, NULL) == 0 && crash_wait(w);
}

static inline bool crash_reap_checked(struct crash_world *w)
{
	return crash_reap(&w->driver) || crash_fail(w, "%s", w->driver.wrong);
}

/* Kills the device and looks at what it did. */
static inline bool crash_kill(struct crash_world *w)
{
	int status;

	w->kills[w->control->op]++;
	kill(w->pid, SIGKILL);
	waitpid(w->pid, &status, 0);
	w->pid = 0;
	if (!crash_same_as_spec(&w->copy, w->memory, w->inflight + w->copy.bytes))
		return crash_fail(w, "another back end would find something else");
	return crash_reap_checked(w);
}

/* After a failure: no child stays. */
static inline void crash_clean_up(struct crash_world *w)
{
	if (w->pid <= 0)
		return;
	kill(w->pid, SIGKILL);
	waitpid(w->pid, NULL, 0);
	w->pid = 0;
}

/* The driver takes what there is and offers something. */
static inline bool crash_drive(struct crash_world *w, uint32_t most)
{
	if (!crash_reap_checked(w))
		return false;
	for (uint32_t n = 1 + crash_random(&w->random, most); n > 0 && crash_offer(&w->driver); n--)
		;
	return true;
}

#define CRASH_FOREVER (INT64_C(1) << 60)

/* A device, not killed before everything that was offered has ended. */
static inline bool crash_drain(struct crash_world *w)
{
	uint64_t ended = w->driver.ended;

	if (!crash_spawn(w, CRASH_FOREVER, OP_NONE))
		return false;
	while (w->control->idle) {
		if (!crash_reap_checked(w))
			return false;
		if (w->driver.outstanding == 0)
			return crash_kill(w);
		if (w->driver.ended == ended)
			return crash_fail(w, "%u requests are lost", w->driver.outstanding);
		ended = w->driver.ended;
		if (!crash_go_on(w, CRASH_FOREVER, OP_NONE))
			return false;
	}
	return crash_fail(w, "it stopped");
}

/* Up to n instructions, with the driver at work in between. */
static inline bool crash_walk(struct crash_world *w, uint32_t n)
{
	w->control->countdown = CRASH_FOREVER;
	while (n-- > 0) {
		if (!crash_step(w))
			return false;
		if (crash_random(&w->random, 64) == 0 && !crash_drive(w, w->shape.size))
			return false;
	}
	return true;
}

/* A device that dies somewhere. */
static inline bool crash_round(struct crash_world *w)
{
	static const uint32_t walks[] = {16, 64, 256, 1024};

	if (crash_random(&w->random, 3) && !crash_drive(w, w->shape.size))
		return false;
	if (!crash_spawn(w, crash_random(&w->random, crash_random(&w->random, 3) ? 40 : 3),
			 crash_random(&w->random, 2) ? w->shows : OP_NONE))
		return false;
	for (;;) {
		bool idle = w->control->idle;

		if (!idle &&
		    !crash_walk(w, crash_random(&w->random, walks[crash_random(&w->random, 4)])))
			return false;
		if (crash_random(&w->random, idle ? 16 : 2) == 0)
			return crash_kill(w);
		if ((idle || crash_random(&w->random, 2)) && !crash_drive(w, w->shape.size))
			return false;
		if (!crash_go_on(w, crash_random(&w->random, 40),
				 crash_random(&w->random, 2) ? w->shows : OP_NONE))
			return false;
	}
}

#endif
