/* SPDX-License-Identifier: MIT */
/* The upcall ring: many writers, one reader, one pipe to wake it. */
#include "upcall.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS VHC_UPCALL_SLOTS
#define SLOTS_BYTES (SLOTS * sizeof(struct vhc_upcall))

/* Slots outlive their ring, since a reader may still hold a view of them: they are reused. */
struct spare_slots {
	struct spare_slots *next;
};
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static struct spare_slots *spare;

struct vhc_upcalls {
	pthread_mutex_t lock;
	atomic_uint refs;
	struct vhc_upcall *slots;
	/* Both change under the lock; a look at them needs none. */
	atomic_uint head;  /* first slot not given back; free-running */
	atomic_uint tail;  /* next slot to fill; free-running */
	uint32_t reported; /* slots from head on that the reader knows of, and owns */
	bool armed;	   /* the reader waits for a byte in the pipe */
	int write_fd;
	int keep_fd; /* the pipe's reading end: as long as it is open there is no SIGPIPE */
};

static struct vhc_upcall *slots_take(void)
{
	pthread_mutex_lock(&spare_lock);
	struct spare_slots *slots = spare;
	if (slots)
		spare = slots->next;
	pthread_mutex_unlock(&spare_lock);
	if (slots)
		return (struct vhc_upcall *)slots;
	void *addr =
	    mmap(NULL, SLOTS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return addr == MAP_FAILED ? NULL : addr;
}

static void slots_give(struct vhc_upcall *addr)
{
	struct spare_slots *slots = (struct spare_slots *)addr;
	pthread_mutex_lock(&spare_lock);
	slots->next = spare;
	spare = slots;
	pthread_mutex_unlock(&spare_lock);
}

/* Makes the pipe; the reader gets a descriptor of its own, so that it may close it. */
static int open_pipe(struct vhc_upcalls *upcalls, int *read_fd)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	int own = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
	if (own < 0) {
		int err = -errno;
		close(fds[0]);
		close(fds[1]);
		return err;
	}
	upcalls->keep_fd = fds[0];
	upcalls->write_fd = fds[1];
	*read_fd = own;
	return 0;
}

int vhc_upcalls_create(struct vhc_upcalls **out, struct vhc_upcalls_info *info)
{
	struct vhc_upcalls *upcalls = calloc(1, sizeof(*upcalls));
	if (!upcalls)
		return -ENOMEM;
	int err = open_pipe(upcalls, &info->fd);
	if (err) {
		free(upcalls);
		return err;
	}
	upcalls->slots = slots_take();
	if (!upcalls->slots) {
		close(upcalls->keep_fd);
		close(upcalls->write_fd);
		close(info->fd);
		free(upcalls);
		return -ENOMEM;
	}
	pthread_mutex_init(&upcalls->lock, NULL);
	atomic_init(&upcalls->refs, 1);
	upcalls->armed = true;
	info->slots = (uintptr_t)upcalls->slots;
	info->reserved = 0;
	*out = upcalls;
	return 0;
}

static void fill(struct vhc_upcall *slot, const struct upcall_event *event, const void *data,
		 uint32_t len, const int32_t *fds, uint32_t num_fds)
{
	slot->type = event->type;
	slot->id = event->id;
	slot->status = event->status;
	slot->arg = event->arg;
	slot->len = len;
	slot->num_fds = num_fds;
	slot->reserved = 0;
	if (len)
		memcpy(slot->data, data, len);
	if (num_fds)
		memcpy(slot->fds, fds, num_fds * sizeof(*fds));
}

/* A pipe that is full is readable, so a byte that does not fit is not missed. */
static void wake(struct vhc_upcalls *upcalls)
{
	ssize_t n;
	do
		n = write(upcalls->write_fd, "", 1);
	while (n < 0 && errno == EINTR);
}

/* With the lock held. */
static int post(struct vhc_upcalls *upcalls, const struct upcall_event *event, const void *data,
		uint32_t len, const int32_t *fds, uint32_t num_fds)
{
	if (upcalls->tail - upcalls->head >= SLOTS)
		return -EAGAIN;
	fill(&upcalls->slots[upcalls->tail++ % SLOTS], event, data, len, fds, num_fds);
	if (upcalls->armed)
		wake(upcalls);
	upcalls->armed = false;
	return 0;
}

int upcall_post(struct vhc_upcalls *upcalls, const struct upcall_event *event, const void *data,
		uint32_t len, const int32_t *fds, uint32_t num_fds)
{
	pthread_mutex_lock(&upcalls->lock);
	int result = post(upcalls, event, data, len, fds, num_fds);
	pthread_mutex_unlock(&upcalls->lock);
	return result;
}

int upcall_post_sparing(struct vhc_upcalls *upcalls, const struct upcall_event *event,
			const void *data, uint32_t len, uint32_t spare, uint32_t *slot)
{
	int result = -EAGAIN;
	pthread_mutex_lock(&upcalls->lock);
	*slot = upcalls->tail;
	if (upcalls->tail - upcalls->head + spare < SLOTS)
		result = post(upcalls, event, data, len, NULL, 0);
	pthread_mutex_unlock(&upcalls->lock);
	return result;
}

uint32_t upcalls_read(const struct vhc_upcalls *upcalls)
{
	return atomic_load_explicit(&upcalls->head, memory_order_relaxed);
}

int upcalls_have(const struct vhc_upcalls *upcalls, uint32_t n)
{
	uint32_t head = upcalls_read(upcalls);
	return atomic_load_explicit(&upcalls->tail, memory_order_relaxed) - head + n <= SLOTS;
}

int vhc_upcalls_advance(struct vhc_upcalls *upcalls, uint32_t consumed)
{
	pthread_mutex_lock(&upcalls->lock);
	if (consumed > upcalls->reported)
		consumed = upcalls->reported;
	upcalls->head += consumed;
	upcalls->reported = upcalls->tail - upcalls->head;
	upcalls->armed = upcalls->reported == 0;
	int ready = (int)upcalls->reported;
	pthread_mutex_unlock(&upcalls->lock);
	return ready;
}

void upcalls_ref(struct vhc_upcalls *upcalls)
{
	atomic_fetch_add(&upcalls->refs, 1);
}

/* What the reader never heard of is nobody else's to close. */
static void close_unreported(struct vhc_upcalls *upcalls)
{
	for (uint32_t i = upcalls->head + upcalls->reported; i != upcalls->tail; i++) {
		const struct vhc_upcall *slot = &upcalls->slots[i % SLOTS];
		for (uint32_t f = 0; f < slot->num_fds; f++)
			close(slot->fds[f]);
	}
}

void vhc_upcalls_release(struct vhc_upcalls *upcalls)
{
	if (atomic_fetch_sub(&upcalls->refs, 1) != 1)
		return;
	close_unreported(upcalls);
	close(upcalls->write_fd);
	close(upcalls->keep_fd);
	slots_give(upcalls->slots);
	pthread_mutex_destroy(&upcalls->lock);
	free(upcalls);
}
