/* SPDX-License-Identifier: MIT */
#include "sigbus.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK_GUARDS 128u

/*
 * Written under guard_lock, read by the handler without one: `version` is odd
 * while the fields change, and `end` is 0 in a free guard.
 */
struct sigbus_guard {
	atomic_uint version;
	_Atomic uint64_t start;
	_Atomic uint64_t end;
	_Atomic uint64_t page_size;
	_Atomic(atomic_bool *) faulted;
};

/* Chunks are never freed: the handler may be walking them. */
struct chunk {
	struct chunk *next;
	struct sigbus_guard guards[CHUNK_GUARDS];
};

static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct chunk *) chunks;
static struct sigaction previous;

/* Copies a guard whole; 0 if it was changing, and then it is not the one that faulted. */
static int guard_read(const struct sigbus_guard *guard, uint64_t *start, uint64_t *end,
		      uint64_t *page_size, atomic_bool **faulted)
{
	unsigned version = atomic_load(&guard->version);

	*start = atomic_load(&guard->start);
	*end = atomic_load(&guard->end);
	*page_size = atomic_load(&guard->page_size);
	*faulted = atomic_load(&guard->faulted);
	return version % 2 == 0 && atomic_load(&guard->version) == version;
}

/*
 * Replaces everything from the page of the fault to the end of its mapping: a
 * file that ends before this page has none of the later ones either. The raw
 * system call is safe in a handler, under sanitizers too.
 */
static int heal(uint64_t fault)
{
	for (struct chunk *chunk = atomic_load(&chunks); chunk; chunk = chunk->next) {
		for (uint32_t i = 0; i < CHUNK_GUARDS; i++) {
			uint64_t start, end, page_size;
			atomic_bool *faulted;

			if (!guard_read(&chunk->guards[i], &start, &end, &page_size, &faulted) ||
			    fault < start || fault >= end)
				continue;

			/* First: who reads the new pages and then the flag must find it set. */
			atomic_store(faulted, true);

			uint64_t from = fault & ~(page_size - 1);
			long at = syscall(SYS_mmap, from, end - from, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
					  -1, 0L);

			if (at != (long)from)
				return 0;
			return 1;
		}
	}
	return 0;
}

/* Somebody else's fault: what would have happened without us. */
static void chain(int signal, siginfo_t *info, void *context)
{
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(signal, info, context);
	} else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(signal);
	} else if (previous.sa_handler == SIG_DFL || info->si_code > 0) {
		struct sigaction fallback = {.sa_handler = SIG_DFL};

		/* A fault repeats on return; a signal that was sent has to be sent again. */
		sigaction(signal, &fallback, NULL);
		if (info->si_code <= 0)
			raise(signal);
	}
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	int saved = errno;

	if (info->si_code <= 0 || !heal((uint64_t)(uintptr_t)info->si_addr))
		chain(signal, info, context);
	errno = saved;
}

static void install(void)
{
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};

	action.sa_sigaction = on_sigbus;
	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, NULL, &previous);
	sigaction(SIGBUS, &action, NULL);
}

/* Finds a free guard, in a new chunk if need be. */
static struct sigbus_guard *take(void)
{
	for (struct chunk *chunk = atomic_load(&chunks); chunk; chunk = chunk->next)
		for (uint32_t i = 0; i < CHUNK_GUARDS; i++)
			if (atomic_load(&chunk->guards[i].end) == 0)
				return &chunk->guards[i];

	struct chunk *chunk = calloc(1, sizeof(*chunk));

	if (!chunk)
		return NULL;
	chunk->next = atomic_load(&chunks);
	atomic_store(&chunks, chunk);
	return &chunk->guards[0];
}

static void guard_write(struct sigbus_guard *guard, uint64_t start, uint64_t end,
			uint64_t page_size, atomic_bool *faulted)
{
	atomic_fetch_add(&guard->version, 1);
	atomic_store(&guard->start, start);
	atomic_store(&guard->end, end);
	atomic_store(&guard->page_size, page_size);
	atomic_store(&guard->faulted, faulted);
	atomic_fetch_add(&guard->version, 1);
}

struct sigbus_guard *sigbus_guard(uint64_t addr, uint64_t size, uint64_t page_size,
				  atomic_bool *faulted)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install);
	pthread_mutex_lock(&guard_lock);

	struct sigbus_guard *guard = take();

	if (guard)
		guard_write(guard, addr, addr + size, page_size, faulted);
	pthread_mutex_unlock(&guard_lock);
	return guard;
}

void sigbus_unguard(struct sigbus_guard *guard)
{
	pthread_mutex_lock(&guard_lock);
	guard_write(guard, 0, 0, 0, NULL);
	pthread_mutex_unlock(&guard_lock);
}
