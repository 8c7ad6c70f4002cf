/* SPDX-License-Identifier: MIT */
/*
 * Assertions for C tests. A test is a function; main runs them by name:
 *
 *	static void adds(void) { CHECK_EQ(1 + 1, 2); }
 *	int main(void) { RUN(adds); return check_report(); }
 *
 * CHECK* note a failure and go on; REQUIRE* leave the (void) function.
 */
#ifndef VHC_CHECK_H
#define VHC_CHECK_H

#include <dirent.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int check_passed, check_failed;
static atomic_bool check_ok; /* CHECK may be used in threads */

#define CHECK(condition) check_true((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQ(a, b) check_equal((long long)(a), (long long)(b), #a " == " #b, __FILE__, __LINE__)
#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!CHECK(condition))                                                             \
			return;                                                                    \
	} while (0)
#define REQUIRE_EQ(a, b)                                                                           \
	do {                                                                                       \
		if (!CHECK_EQ(a, b))                                                               \
			return;                                                                    \
	} while (0)
#define RUN(test) check_run(#test, test)

static inline bool check_true(bool condition, const char *text, const char *file, int line)
{
	if (!condition) {
		fprintf(stderr, "%s:%d: failed: %s\n", file, line, text);
		check_ok = false;
	}
	return condition;
}

static inline bool check_equal(long long a, long long b, const char *text, const char *file,
			       int line)
{
	if (a != b) {
		fprintf(stderr, "%s:%d: failed: %s (%lld, %lld)\n", file, line, text, a, b);
		check_ok = false;
	}
	return a == b;
}

static inline void check_run(const char *name, void (*test)(void))
{
	check_ok = true;
	test();
	if (check_ok)
		check_passed++;
	else
		check_failed++;
	printf("%s %s\n", check_ok ? "ok" : "not ok", name);
	fflush(stdout);
}

/* Prints the totals; the result is main's. No test at all is a failure. */
static inline int check_report(void)
{
	printf("%d passed, %d failed\n", check_passed, check_failed);
	return check_failed == 0 && check_passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* How many descriptors this process has open: the same before and after if none leaks. */
static inline int check_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	if (!dir)
		return -1;
	int n = 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* True once fd is readable (or hung up), false if that takes timeout_ms. */
static inline bool check_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, timeout_ms) == 1;
}

#endif
