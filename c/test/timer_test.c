/* SPDX-License-Identifier: MIT */
/*
 * Reactors that wake by themselves: a backend whose requests end at a moment, with
 * nothing that signals it; as the kernel is, and as one without epoll_pwait2 would be.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tick.h"
#include "vm.h"

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

#define MS UINT64_C(1000000)

/* ---- A backend that ends each request a while after it came ---- */

struct later {
	struct vhc_bdev bdev;
	struct bdev_channel channel;
	uint64_t ticks; /* how long after */
	struct io *io;	/* one at a time */
	atomic_uint polls;
	atomic_uint early; /* calls of poll before its time */
};

static int later_open(struct vhc_bdev *bdev, struct bdev_channel *base, struct bdev_channel **out)
{
	struct later *later = (struct later *)bdev;

	(void)base;
	later->channel = (struct bdev_channel){.bdev = bdev, .event_fd = -1};
	*out = &later->channel;
	return 0;
}

static void later_close(struct bdev_channel *channel)
{
	(void)channel;
}

static void later_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	struct later *later = (struct later *)channel->bdev;

	REQUIRE_EQ(n, 1);
	later->io = ios[0];
	channel->inflight = 1;
	channel->due = tick_now() + later->ticks;
}

static uint32_t later_poll(struct bdev_channel *channel)
{
	struct later *later = (struct later *)channel->bdev;

	atomic_fetch_add(&later->polls, 1);
	if (tick_now() < channel->due) {
		atomic_fetch_add(&later->early, 1);
		return 0;
	}
	channel->inflight = 0;
	channel->due = 0;
	later->io->result = 0;
	io_complete(later->io);
	return 1;
}

static const struct bdev_ops later_ops = {.name = "later",
					  .channel_open = later_open,
					  .channel_close = later_close,
					  .submit = later_submit,
					  .poll = later_poll};

/* ---- Rings on it ---- */

struct bench {
	struct rig rig;
	struct vm vm;
	struct later later;
};

static void bench_create(struct bench *bench, uint32_t mode, uint64_t ns)
{
	bench->later = (struct later){.ticks = tick_from_ns(ns)};
	bdev_init(&bench->later.bdev, &later_ops, 512, BLOCKS);
	bdev_ref(&bench->later.bdev); /* so that it is never destroyed */
	REQUIRE(rig_create(&bench->rig, mode));
	REQUIRE(vm_create(&bench->vm, 1, 0, &bench->later.bdev));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(bench->rig.reactor, bench->vm.ring, bench->vm.blk, 0),
		   0);
}

static void bench_destroy(struct bench *bench)
{
	CHECK(stop(&bench->rig, &bench->vm, 1) >= 0);
	vm_destroy(&bench->vm);
	rig_destroy(&bench->rig);
}

/* One request; how long it took. */
static uint64_t ask(struct bench *bench)
{
	uint64_t start = tick_now();

	vm_offer(&bench->vm, 1);
	CHECK_EQ(vm_wait(&bench->vm, 1), 1);
	return tick_to_ns(tick_now() - start);
}

/* Asleep it costs a few turns of the loop, and wakes when it is time and not before. */
static void wakes_when_due(void)
{
	static const uint32_t modes[] = {VHC_MODE_INTERRUPT, VHC_MODE_ADAPTIVE};

	for (uint32_t i = 0; i < 2; i++) {
		struct bench bench;
		uint64_t loops;

		bench_create(&bench, modes[i], 200 * MS);
		CHECK(EVENTUALLY(counter(&bench.rig.stats->polled) == 0));
		loops = counter(&bench.rig.stats->loops);
		CHECK(ask(&bench) >= 199 * MS);
		CHECK(EVENTUALLY(counter(&bench.rig.stats->polled) == 0));
		/* An adaptive one polls for 50 µs before it sleeps; for 200 ms it would be
		 * millions. */
		CHECK(counter(&bench.rig.stats->loops) - loops < 20000);
		CHECK(atomic_load(&bench.later.polls) < 10);
		bench_destroy(&bench);
	}
}

/* Of many short sleeps the best is as short as asked: not rounded to a millisecond. */
static void wakes_precisely(void)
{
	uint64_t best = UINT64_MAX;
	struct bench bench;

	bench_create(&bench, VHC_MODE_INTERRUPT, 100000);
	for (uint32_t i = 0; i < 100; i++) {
		uint64_t ns = ask(&bench);

		best = ns < best ? ns : best;
	}
	CHECK(best >= 100000 && best < 800000);
	bench_destroy(&bench);
}

/* One that never sleeps compares ticks, and calls poll once. */
static void polls_when_due(void)
{
	struct bench bench;

	bench_create(&bench, VHC_MODE_POLL, 20 * MS);
	for (uint32_t i = 1; i <= 3; i++) {
		CHECK(ask(&bench) >= 19 * MS);
		CHECK_EQ(atomic_load(&bench.later.polls), i);
	}
	CHECK_EQ(atomic_load(&bench.later.early), 0);
	bench_destroy(&bench);
}

/* What is due in a while holds nothing else up: kicks of another ring, mail. */
static void hears_before_it_is_due(void)
{
	struct bench bench;
	struct vm other;

	bench_create(&bench, VHC_MODE_INTERRUPT, 1500 * MS);
	REQUIRE(vm_create(&other, 2, 0, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(bench.rig.reactor, other.ring, other.blk, 0), 0);
	vm_offer(&bench.vm, 1);
	for (uint32_t i = 0; i < 20; i++) {
		vm_offer(&other, 1);
		CHECK_EQ(vm_wait(&other, 1), 1);
	}
	CHECK(stop(&bench.rig, &other, 2) >= 0);
	CHECK_EQ(atomic_load(&bench.later.polls), 0);
	CHECK_EQ(vm_wait(&bench.vm, 1), 1);
	vm_destroy(&other);
	bench_destroy(&bench);
}

/* A stop waits for what is due, asleep. */
static void drains_when_due(void)
{
	struct bench bench;

	bench_create(&bench, VHC_MODE_ADAPTIVE, 50 * MS);
	vm_offer(&bench.vm, 1);
	CHECK(EVENTUALLY(counter(&bench.vm.guest.stats->inflight) == 1));
	CHECK_EQ(stop(&bench.rig, &bench.vm, 1), 1);
	CHECK_EQ(vm_wait(&bench.vm, 1), 1);
	vm_destroy(&bench.vm);
	rig_destroy(&bench.rig);
}

/* ---- A kernel without epoll_pwait2 ---- */

static void forbid_pwait2(void)
{
	struct sock_filter code[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	REQUIRE_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	REQUIRE_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	REQUIRE(syscall(SYS_epoll_pwait2, -1, NULL, 0, NULL, NULL, 0) < 0 && errno == ENOSYS);
}

/* In this thread, and those that it makes from now on. */
static void does_without_pwait2(void)
{
	int before;

	forbid_pwait2();
	before = check_open_fds();
	wakes_when_due();
	wakes_precisely();
	polls_when_due();
	hears_before_it_is_due();
	drains_when_due();
	CHECK_EQ(check_open_fds(), before);
}

int main(void)
{
	RUN(wakes_when_due);
	RUN(wakes_precisely);
	RUN(polls_when_due);
	RUN(hears_before_it_is_due);
	RUN(drains_when_due);
	RUN(does_without_pwait2);
	return check_report();
}
