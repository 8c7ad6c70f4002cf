/* SPDX-License-Identifier: MIT */
/* A thread for BLKDISCARD, which takes its time and has no asynchronous form everywhere. */
#include <errno.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "file.h"

struct file_worker {
	int fd;
	uint32_t sector; /* the device's: whole ones can be discarded */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct file_op *head;
	struct file_op **tail;
	bool stop;
};

/* Discards the whole sectors in the range. That a device cannot is no failure: it is a hint. */
static int discard(const struct file_worker *worker, const struct io_range *range)
{
	const uint64_t mask = worker->sector - 1;
	uint64_t start = (range->offset + mask) & ~mask;
	uint64_t end = (range->offset + range->len) & ~mask;
	if (start >= end)
		return 0;
	uint64_t span[2] = {start, end - start};
	if (ioctl(worker->fd, BLKDISCARD, span) == 0 || errno == EOPNOTSUPP)
		return 0;
	return -errno;
}

static int32_t discard_all(const struct file_worker *worker, const struct io *io)
{
	int err = 0;
	for (uint32_t i = 0; i < io->iovcnt && !err; i++)
		err = discard(worker, &io->ranges[i]);
	return err == -EINTR || err == -EAGAIN ? -EIO : err;
}

/* Under the lock, so that file_worker_settle waits for the signal as well. */
static void give_back(struct file_op *op)
{
	struct file_channel *channel = op->channel;
	op->next = atomic_load(&channel->discarded);
	while (!atomic_compare_exchange_weak(&channel->discarded, &op->next, op))
		;
	eventfd_write(channel->base.event_fd, 1);
}

static void *run(void *arg)
{
	struct file_worker *worker = arg;
	pthread_mutex_lock(&worker->lock);
	while (!worker->stop) {
		struct file_op *op = worker->head;
		if (!op) {
			pthread_cond_wait(&worker->more, &worker->lock);
			continue;
		}
		worker->head = op->next;
		if (!op->next)
			worker->tail = &worker->head;
		pthread_mutex_unlock(&worker->lock);
		op->result = discard_all(worker, op->io);
		pthread_mutex_lock(&worker->lock);
		give_back(op);
	}
	pthread_mutex_unlock(&worker->lock);
	return NULL;
}

void file_worker_push(struct file_worker *worker, struct file_op *op)
{
	op->next = NULL;
	pthread_mutex_lock(&worker->lock);
	*worker->tail = op;
	worker->tail = &op->next;
	pthread_cond_signal(&worker->more);
	pthread_mutex_unlock(&worker->lock);
}

void file_worker_settle(struct file_worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	pthread_mutex_unlock(&worker->lock);
}

static int start_thread(struct file_worker *worker)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = pthread_create(&worker->thread, NULL, run, worker);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		pthread_setname_np(worker->thread, "vhc-discard");
	return -err;
}

int file_worker_create(int fd, struct file_worker **out)
{
	int sector;
	if (ioctl(fd, BLKSSZGET, &sector) < 0)
		return -errno;
	struct file_worker *worker = calloc(1, sizeof(*worker));
	if (!worker)
		return -ENOMEM;
	worker->fd = fd;
	worker->sector = (uint32_t)sector;
	worker->tail = &worker->head;
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->more, NULL);
	int err = start_thread(worker);
	if (!err)
		*out = worker;
	else
		free(worker);
	return err;
}

void file_worker_release(struct file_worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	worker->stop = true;
	pthread_cond_signal(&worker->more);
	pthread_mutex_unlock(&worker->lock);
	pthread_join(worker->thread, NULL);
	pthread_cond_destroy(&worker->more);
	pthread_mutex_destroy(&worker->lock);
	free(worker);
}
