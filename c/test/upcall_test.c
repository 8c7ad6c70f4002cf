/* SPDX-License-Identifier: MIT */
#include "upcall.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static struct vhc_upcalls *upcalls;
static struct vhc_upcalls_info info;
static const struct vhc_upcall *slots;
static uint32_t next_slot; /* the reader's */

static void open_upcalls(void)
{
	REQUIRE_EQ(vhc_upcalls_create(&upcalls, &info), 0);
	slots = vhc_pointer(info.slots);
	next_slot = 0;
}

static void close_upcalls(void)
{
	vhc_upcalls_release(upcalls);
	close(info.fd);
}

static int post(uint32_t id, uint64_t arg)
{
	struct upcall_event event = {.type = VHC_UPCALL_LOAD_DONE, .id = id, .arg = arg};
	return upcall_post(upcalls, &event, &arg, sizeof(arg), NULL, 0);
}

static void drain_pipe(void)
{
	char bytes[64];
	while (check_readable(info.fd, 0) && read(info.fd, bytes, sizeof(bytes)) > 0)
		;
}

static void carries_everything(void)
{
	int fds = check_open_fds();
	open_upcalls();
	int sent[2] = {vhc_eventfd(), vhc_eventfd()};
	struct upcall_event event = {
	    .type = VHC_UPCALL_MESSAGE, .id = 7, .status = -EIO, .arg = 1ull << 60};
	CHECK_EQ(vhc_upcalls_advance(upcalls, 0), 0);
	CHECK_EQ(upcall_post(upcalls, &event, "hello", 5, sent, 2), 0);
	CHECK(check_readable(info.fd, 0));
	REQUIRE_EQ(vhc_upcalls_advance(upcalls, 0), 1);
	CHECK_EQ(slots[0].type, VHC_UPCALL_MESSAGE);
	CHECK_EQ(slots[0].id, 7);
	CHECK_EQ(slots[0].status, -EIO);
	CHECK_EQ(slots[0].arg, 1ull << 60);
	CHECK_EQ(slots[0].len, 5);
	CHECK_EQ(memcmp(slots[0].data, "hello", 5), 0);
	CHECK_EQ(slots[0].num_fds, 2);
	CHECK_EQ(slots[0].fds[0], sent[0]);
	CHECK_EQ(slots[0].fds[1], sent[1]);
	CHECK_EQ(vhc_upcalls_advance(upcalls, 1), 0);
	vhc_fd_close(sent[0]);
	vhc_fd_close(sent[1]);
	close_upcalls();
	CHECK_EQ(check_open_fds(), fds);
}

static void wakes_only_a_reader_that_sleeps(void)
{
	open_upcalls();
	CHECK_EQ(post(1, 0), 0); /* a new ring's reader sleeps */
	CHECK(check_readable(info.fd, 0));
	drain_pipe();
	CHECK_EQ(post(2, 0), 0);
	CHECK(!check_readable(info.fd, 0));
	CHECK_EQ(vhc_upcalls_advance(upcalls, 0), 2);
	CHECK_EQ(post(3, 0), 0);
	CHECK(!check_readable(info.fd, 0));
	CHECK_EQ(vhc_upcalls_advance(upcalls, 2), 1);
	CHECK_EQ(vhc_upcalls_advance(upcalls, 1), 0);
	CHECK_EQ(post(4, 0), 0);
	CHECK(check_readable(info.fd, 0));
	close_upcalls();
}

static void full_ring_holds_back(void)
{
	open_upcalls();
	for (uint32_t i = 0; i < VHC_UPCALL_SLOTS; i++)
		REQUIRE_EQ(post(i, i), 0);
	CHECK_EQ(post(999, 0), -EAGAIN);
	CHECK_EQ(vhc_upcalls_advance(upcalls, 0), VHC_UPCALL_SLOTS);
	CHECK_EQ(post(999, 0), -EAGAIN);
	CHECK_EQ(vhc_upcalls_advance(upcalls, 2), VHC_UPCALL_SLOTS - 2);
	CHECK_EQ(post(1000, 0), 0);
	CHECK_EQ(post(1001, 0), 0);
	CHECK_EQ(post(999, 0), -EAGAIN);
	CHECK_EQ(slots[0].id, 1000);
	CHECK_EQ(slots[2].id, 2);
	/* More given back than were reported: only those. */
	CHECK_EQ(vhc_upcalls_advance(upcalls, 5000), 2);
	close_upcalls();
}

/* What was reported is the reader's to close, what was not is closed with the ring. */
static void release_closes_descriptors(void)
{
	int fds = check_open_fds();
	open_upcalls();
	struct upcall_event event = {.type = VHC_UPCALL_MESSAGE};
	int first = vhc_eventfd(), second = vhc_eventfd();
	CHECK_EQ(upcall_post(upcalls, &event, NULL, 0, &first, 1), 0);
	CHECK_EQ(vhc_upcalls_advance(upcalls, 0), 1);
	CHECK_EQ(upcall_post(upcalls, &event, NULL, 0, &second, 1), 0);
	close_upcalls();
	CHECK_EQ(check_open_fds(), fds + 1);
	CHECK_EQ(vhc_fd_close(first), 0);
	CHECK_EQ(check_open_fds(), fds);
}

static void reader_that_closed_its_pipe_harms_nobody(void)
{
	open_upcalls();
	close(info.fd);
	CHECK_EQ(post(1, 0), 0);
	vhc_upcalls_release(upcalls);
}

#define WRITERS 4
#define POSTS 3000u

static void *write_many(void *arg)
{
	uint32_t id = (uint32_t)(uintptr_t)arg;
	for (uint64_t i = 0; i < POSTS; i++)
		while (post(id, i) == -EAGAIN)
			sched_yield();
	return NULL;
}

/* Takes what is ready; checks that each writer's come in order. Returns how many. */
static uint32_t take(uint64_t expected[WRITERS])
{
	uint32_t ready = (uint32_t)vhc_upcalls_advance(upcalls, 0);
	for (uint32_t i = 0; i < ready; i++, next_slot++) {
		const struct vhc_upcall *slot = &slots[next_slot % VHC_UPCALL_SLOTS];
		uint64_t data;
		memcpy(&data, slot->data, sizeof(data));
		CHECK_EQ(slot->arg, expected[slot->id]);
		CHECK_EQ(data, slot->arg);
		expected[slot->id]++;
	}
	vhc_upcalls_advance(upcalls, ready);
	return ready;
}

static void many_writers_lose_nothing(void)
{
	pthread_t threads[WRITERS];
	uint64_t expected[WRITERS] = {0};
	uint32_t got = 0;
	open_upcalls();
	for (uintptr_t i = 0; i < WRITERS; i++)
		REQUIRE_EQ(pthread_create(&threads[i], NULL, write_many, (void *)i), 0);
	while (got < WRITERS * POSTS) {
		uint32_t n = take(expected);
		got += n;
		/* The promise under test: after an answer of 0 a byte comes. */
		if (n == 0 && vhc_upcalls_advance(upcalls, 0) == 0 && got < WRITERS * POSTS) {
			REQUIRE(check_readable(info.fd, 10000));
			drain_pipe();
		}
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < WRITERS; i++)
		CHECK_EQ(expected[i], POSTS);
	close_upcalls();
}

int main(void)
{
	RUN(carries_everything);
	RUN(wakes_only_a_reader_that_sleeps);
	RUN(full_ring_holds_back);
	RUN(release_closes_descriptors);
	RUN(reader_that_closed_its_pipe_harms_nobody);
	RUN(many_writers_lose_nothing);
	return check_report();
}
