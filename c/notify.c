/* SPDX-License-Identifier: MIT */
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct guard {
	timer_t timer;
	bool exists;
	bool running;
};

static _Thread_local struct guard guard;

/* Nothing to do: what matters is that the system call returns. */
static void on_guard(int signal)
{
	(void)signal;
}

/* A real-time signal that nobody handles, from the top: runtimes take the low ones. */
static int guard_signal;

static void choose_signal(void)
{
	struct sigaction action = {.sa_handler = on_guard}; /* no SA_RESTART */

	sigemptyset(&action.sa_mask);
	for (int signal = SIGRTMAX; signal >= SIGRTMIN; signal--) {
		struct sigaction old;

		if (sigaction(signal, NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) &&
		    old.sa_handler == SIG_DFL && sigaction(signal, &action, NULL) == 0) {
			guard_signal = signal;
			return;
		}
	}
}

int notify_guard_create(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID};
	sigset_t set;

	pthread_once(&once, choose_signal);
	if (guard_signal == 0)
		return -EAGAIN;
	event.sigev_signo = guard_signal;
	event._sigev_un._tid = (int)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &event, &guard.timer))
		return -errno;
	sigemptyset(&set);
	sigaddset(&set, guard_signal);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	guard.exists = true;
	guard.running = false;
	return 0;
}

void notify_guard_release(void)
{
	if (guard.exists)
		timer_delete(guard.timer);
	guard.exists = false;
}

static void guard_set(bool running)
{
	struct timespec period = {.tv_nsec = running ? NOTIFY_GUARD_NS : 0};
	struct itimerspec timer = {.it_value = period, .it_interval = period};

	timer_settime(guard.timer, 0, &timer, NULL);
	guard.running = running;
}

void notify_guard_rest(void)
{
	if (guard.exists && guard.running)
		guard_set(false);
}

int notify(int fd)
{
	const uint64_t one = 1;

	if (guard.exists && !guard.running)
		guard_set(true);
	if (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		return -EPROTO;
	return 0;
}

int notify_check(int fd, int pipes)
{
	struct stat file;

	if (fstat(fd, &file))
		return -errno;
	/* An eventfd has no file type at all; user-mode-linux calls its sockets pipes. */
	if ((file.st_mode & S_IFMT) == 0 ||
	    (pipes && (S_ISFIFO(file.st_mode) || S_ISSOCK(file.st_mode))))
		return 0;
	return -EINVAL;
}

int notify_dup(int fd, int pipes, int *out)
{
	int copy;
	int flags;
	int result;

	*out = -1;
	if (fd < 0)
		return 0;
	result = notify_check(fd, pipes);
	if (result)
		return result;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -errno;
	flags = fcntl(copy, F_GETFL);
	if (flags < 0 || fcntl(copy, F_SETFL, flags | O_NONBLOCK)) {
		result = -errno;
		close(copy);
		return result;
	}
	*out = copy;
	return 0;
}
