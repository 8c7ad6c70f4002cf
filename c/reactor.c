/* SPDX-License-Identifier: MIT */
#include "reactor.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "task.h"
#include "tick.h"

#define DEFAULT_SPIN_NS 50000u
#define CHECK_NS 20000u
#define STATS_NS 1000000u

/* ---- Mailbox ---- */

/* Never fails: the counter would have to reach 2^64 - 1. */
static void wake(struct vhc_reactor *reactor)
{
	eventfd_write(reactor->wake_fd, 1);
}

void reactor_post(struct vhc_reactor *reactor, struct reactor_message *message)
{
	message->next = NULL;
	pthread_mutex_lock(&reactor->lock);
	*reactor->inbox_end = message;
	reactor->inbox_end = &message->next;
	atomic_store_explicit(&reactor->mail, true, memory_order_release);
	pthread_mutex_unlock(&reactor->lock);
	wake(reactor);
}

int reactor_post_and_wait(struct vhc_reactor *reactor, struct reactor_message *message)
{
	reactor_post(reactor, message);
	pthread_mutex_lock(&reactor->lock);
	while (!message->done)
		pthread_cond_wait(&reactor->answered, &reactor->lock);
	pthread_mutex_unlock(&reactor->lock);
	return message->result;
}

void reactor_answer(struct vhc_reactor *reactor, struct task *task)
{
	bool first;

	task->next = NULL;
	pthread_mutex_lock(&reactor->lock);
	first = !reactor->answers;
	*reactor->answers_end = task;
	reactor->answers_end = &task->next;
	atomic_store_explicit(&reactor->mail, true, memory_order_release);
	/* Of those behind the first the reactor hears with it. */
	if (first)
		wake(reactor);
	pthread_mutex_unlock(&reactor->lock);
}

/* ---- Life ---- */

/* Faults are for their handlers; all other signals are for threads that expect them. */
static void reactor_sigmask(sigset_t *set)
{
	static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};

	sigfillset(set);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(set, faults[i]);
}

static int start_thread(struct vhc_reactor *reactor, int cpu)
{
	pthread_attr_t attr;
	sigset_t signals;
	cpu_set_t *cpus = NULL;
	int result = pthread_attr_init(&attr);

	if (result)
		return -result;
	reactor_sigmask(&signals);
	result = pthread_attr_setsigmask_np(&attr, &signals);
	if (result == 0 && cpu >= 0) {
		cpus = CPU_ALLOC(cpu + 1);
		result = cpus ? 0 : ENOMEM;
	}
	if (result == 0 && cpus) {
		CPU_ZERO_S(CPU_ALLOC_SIZE(cpu + 1), cpus);
		CPU_SET_S(cpu, CPU_ALLOC_SIZE(cpu + 1), cpus);
		result = pthread_attr_setaffinity_np(&attr, CPU_ALLOC_SIZE(cpu + 1), cpus);
	}
	if (result == 0)
		result = pthread_create(&reactor->thread, &attr, reactor_main, reactor);
	CPU_FREE(cpus);
	pthread_attr_destroy(&attr);
	return -result;
}

static int open_fds(struct vhc_reactor *reactor)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	reactor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	reactor->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (reactor->epoll_fd < 0 || reactor->wake_fd < 0 ||
	    epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, reactor->wake_fd, &event))
		return -errno;
	return reactor_open_timer(reactor);
}

static void reactor_free(struct vhc_reactor *reactor)
{
	if (reactor->epoll_fd >= 0)
		close(reactor->epoll_fd);
	if (reactor->wake_fd >= 0)
		close(reactor->wake_fd);
	if (reactor->timer_fd >= 0)
		close(reactor->timer_fd);
	vhc_stats_free((uint64_t)(uintptr_t)reactor->stats);
	vhc_upcalls_release(reactor->upcalls);
	pthread_cond_destroy(&reactor->answered);
	pthread_mutex_destroy(&reactor->lock);
	free(reactor);
}

static struct vhc_reactor *reactor_alloc(struct vhc_upcalls *upcalls,
					 const struct vhc_reactor_config *config)
{
	static atomic_uint numbers;
	struct vhc_reactor *reactor = calloc(1, sizeof(*reactor));

	if (!reactor)
		return NULL;
	reactor->mode = config->mode;
	reactor->index = config->index;
	reactor->spin_ticks = tick_from_ns(config->spin_ns ? config->spin_ns : DEFAULT_SPIN_NS);
	if (config->mode == VHC_MODE_INTERRUPT)
		reactor->spin_ticks = 0;
	reactor->check_ticks = tick_from_ns(CHECK_NS);
	reactor->stats_ticks = tick_from_ns(STATS_NS);
	reactor->number = atomic_fetch_add(&numbers, 1);
	reactor->epoll_fd = reactor->wake_fd = reactor->timer_fd = -1;
	reactor->inbox_end = &reactor->inbox;
	reactor->answers_end = &reactor->answers;
	reactor->done_end = &reactor->done;
	pthread_mutex_init(&reactor->lock, NULL);
	pthread_cond_init(&reactor->answered, NULL);
	reactor->upcalls = upcalls;
	upcalls_ref(upcalls);
	return reactor;
}

/* Waits until the thread has made what it needs; its result. */
static int wait_until_up(struct vhc_reactor *reactor)
{
	int result;

	pthread_mutex_lock(&reactor->lock);
	while (!reactor->up)
		pthread_cond_wait(&reactor->answered, &reactor->lock);
	result = reactor->up_result;
	pthread_mutex_unlock(&reactor->lock);
	if (result)
		pthread_join(reactor->thread, NULL);
	return result;
}

int vhc_reactor_create(struct vhc_upcalls *upcalls, const struct vhc_reactor_config *config,
		       struct vhc_reactor **out, uint64_t *stats_addr)
{
	struct vhc_reactor *reactor;
	uint64_t stats = 0;
	int result;

	if (config->mode > VHC_MODE_INTERRUPT || config->cpu < -1 ||
	    config->index >= VHC_MAX_REACTORS)
		return -EINVAL;
	reactor = reactor_alloc(upcalls, config);
	if (!reactor)
		return -ENOMEM;
	result = vhc_stats_alloc(&stats);
	reactor->stats = (struct vhc_reactor_stats *)(uintptr_t)stats;
	if (result == 0)
		result = open_fds(reactor);
	if (result == 0)
		result = start_thread(reactor, config->cpu);
	if (result == 0)
		result = wait_until_up(reactor);
	if (result) {
		reactor_free(reactor);
		return result;
	}
	*out = reactor;
	*stats_addr = stats;
	return 0;
}

int vhc_reactor_release(struct vhc_reactor *reactor)
{
	struct reactor_message message = {.request = REACTOR_EXIT};

	if (!reactor)
		return 0;
	if (atomic_load(&reactor->num_queues) > 0 || atomic_load(&reactor->num_ios) > 0)
		return -EBUSY;
	reactor_post_and_wait(reactor, &message);
	pthread_join(reactor->thread, NULL);
	reactor_free(reactor);
	return 0;
}
