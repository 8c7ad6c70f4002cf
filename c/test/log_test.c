/* SPDX-License-Identifier: MIT */
/* The dirty log: which bits a write sets, what is beyond its end, who clears it meanwhile. */
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define PAGE UINT64_C(4096)
#define BYTES 64u
#define PAGES (BYTES * 8)
#define OFFSET 5u /* so that no word of the log is aligned */

struct rig {
	int fd;
	uint8_t *bytes; /* of the log, as the front end maps it */
	struct vhc_log *log;
};

static bool rig_up(struct rig *rig)
{
	uint8_t *at;

	rig->fd = memfd_create("log_test", MFD_CLOEXEC);
	if (rig->fd < 0 || ftruncate(rig->fd, 4096))
		return false;
	at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, rig->fd, 0);
	rig->bytes = at + OFFSET;
	return at != MAP_FAILED && vhc_log_create(rig->fd, OFFSET, BYTES, -1, &rig->log) == 0;
}

static void rig_down(struct rig *rig)
{
	vhc_log_release(rig->log);
	munmap(rig->bytes - OFFSET, 4096);
	close(rig->fd);
}

/* Whether exactly the pages first to last - 1 are marked, and nothing beside the log. */
static bool only_marked(const struct rig *rig, uint64_t first, uint64_t last)
{
	const uint8_t *file = rig->bytes - OFFSET;

	for (uint32_t i = 0; i < PAGES; i++)
		if ((rig->bytes[i / 8] >> i % 8 & 1) != (i >= first && i < last))
			return false;
	for (uint32_t i = 0; i < 4096; i++)
		if ((i < OFFSET || i >= OFFSET + BYTES) && file[i])
			return false;
	return true;
}

static void marks_each_run(void)
{
	struct rig rig;
	bool good = true;

	REQUIRE(rig_up(&rig));
	for (uint64_t first = 0; first < PAGES; first++) {
		for (uint64_t last = first + 1; last <= PAGES; last++) {
			/* A byte of the first page to a byte of the last. */
			const uint64_t gpa = first * PAGE + 4095;
			const uint64_t len = (last - 1 - first) * PAGE;
			int result = vhc_log_mark(rig.log, gpa, len < 2 ? 1 : len - 4094);

			good = good && result == 0 && only_marked(&rig, first, last);
			memset(rig.bytes, 0, BYTES);
		}
	}
	CHECK(good);
	rig_down(&rig);
}

static void keeps_what_is_marked(void)
{
	struct rig rig;

	REQUIRE(rig_up(&rig));
	CHECK_EQ(vhc_log_mark(rig.log, 3 * PAGE, PAGE), 0);
	CHECK_EQ(vhc_log_mark(rig.log, 5 * PAGE, 1), 0);
	CHECK_EQ(vhc_log_mark(rig.log, 4 * PAGE + 7, 0), 0);
	CHECK_EQ(rig.bytes[0], 1 << 3 | 1 << 5);
	CHECK_EQ(vhc_log_mark(rig.log, 4 * PAGE - 1, 2), 0);
	CHECK(only_marked(&rig, 3, 6));
	rig_down(&rig);
}

static void marks_what_is_inside_of_a_run(void)
{
	struct rig rig;

	REQUIRE(rig_up(&rig));
	CHECK_EQ(vhc_log_mark(rig.log, PAGES * PAGE, 1), -ERANGE);
	CHECK_EQ(vhc_log_mark(rig.log, UINT64_MAX, 1), -ERANGE);
	CHECK_EQ(vhc_log_mark(rig.log, UINT64_MAX, UINT64_MAX), -ERANGE);
	CHECK(only_marked(&rig, 0, 0));
	CHECK_EQ(vhc_log_mark(rig.log, (PAGES - 9) * PAGE, 9 * PAGE + 1), -ERANGE);
	CHECK(only_marked(&rig, PAGES - 9, PAGES));
	CHECK_EQ(vhc_log_mark(rig.log, PAGE, UINT64_MAX), -ERANGE);
	CHECK(only_marked(&rig, 1, PAGES));
	CHECK_EQ(vhc_log_mark(rig.log, 0, PAGES * PAGE), 0);
	CHECK(only_marked(&rig, 0, PAGES));
	rig_down(&rig);
}

static void refuses_bad_files(void)
{
	struct vhc_log *log = NULL;
	int fd = memfd_create("log_test", MFD_CLOEXEC);
	int pipe_fds[2];

	REQUIRE(fd >= 0 && ftruncate(fd, 4096) == 0 && pipe(pipe_fds) == 0);
	CHECK_EQ(vhc_log_create(fd, 0, 0, -1, &log), -EINVAL);
	CHECK_EQ(vhc_log_create(fd, 0, 4097, -1, &log), -EINVAL);
	CHECK_EQ(vhc_log_create(fd, 4096, 1, -1, &log), -EINVAL);
	CHECK_EQ(vhc_log_create(fd, UINT64_MAX, 2, -1, &log), -EINVAL);
	CHECK_EQ(vhc_log_create(fd, 0, UINT64_MAX, -1, &log), -EINVAL);
	CHECK_EQ(vhc_log_create(-1, 0, 64, -1, &log), -EBADF);
	CHECK_EQ(vhc_log_create(pipe_fds[0], 0, 64, -1, &log), -EINVAL);
	CHECK_EQ(vhc_log_create(fd, 0, 64, pipe_fds[1], &log), -EINVAL);
	CHECK(log == NULL);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	close(fd);
}

static void survives_a_shrunk_file(void)
{
	struct rig rig;

	REQUIRE(rig_up(&rig));
	CHECK_EQ(ftruncate(rig.fd, 0), 0);
	CHECK_EQ(vhc_log_mark(rig.log, 0, PAGES * PAGE), 0);
	CHECK_EQ(vhc_log_mark(rig.log, 0, 1), 0);
	rig_down(&rig);
}

static void signals(void)
{
	int fd = memfd_create("log_test", MFD_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC);
	struct vhc_log *log = NULL;

	REQUIRE(fd >= 0 && event >= 0 && ftruncate(fd, 4096) == 0);
	REQUIRE_EQ(vhc_log_create(fd, 0, 64, event, &log), 0);
	log_ref(log);
	vhc_log_release(log);
	CHECK(!check_readable(event, 0));
	log_signal(log);
	CHECK(check_readable(event, 0));
	vhc_log_release(log);
	close(event);
	close(fd);
}

/* ---- Marks while somebody clears them ---- */

#define ROUNDS 20000u
#define WRITERS 2u
#define PATIENCE_S 10 /* after which a mark is lost */

/* Pages whose marks are in one byte, a number in each, and what migration has copied. */
struct race {
	struct rig rig;
	atomic_uint from[WRITERS];
	atomic_uint to[WRITERS];
	atomic_uint lost;
};

struct writer {
	struct race *race;
	uint32_t index;
};

/* What migration does: takes marks away, and copies the pages that they were for. */
static void copy_marked(struct race *race)
{
	uint8_t bits = __atomic_exchange_n(race->rig.bytes, 0, __ATOMIC_SEQ_CST);

	for (uint32_t i = 0; i < WRITERS; i++)
		if (bits >> i & 1)
			atomic_store(&race->to[i],
				     atomic_load_explicit(&race->from[i], memory_order_relaxed));
}

/* Both migrate, so that they need not wait for a third. */
static bool await_copy(struct race *race, uint32_t index, uint32_t number)
{
	const time_t end = time(NULL) + PATIENCE_S;

	for (uint32_t i = 1; atomic_load(&race->to[index]) != number; i++) {
		copy_marked(race);
		if (i % 64 == 0)
			sched_yield();
		if (i % 65536 == 0 && (time(NULL) > end || atomic_load(&race->lost)))
			return false;
	}
	return true;
}

static void *write_and_mark(void *arg)
{
	const struct writer *writer = arg;
	struct race *race = writer->race;

	for (uint32_t round = 1; round <= ROUNDS; round++) {
		atomic_store_explicit(&race->from[writer->index], round, memory_order_relaxed);
		log_mark(race->rig.log, writer->index * PAGE, 1);
		if (!await_copy(race, writer->index, round)) {
			atomic_fetch_add(&race->lost, 1);
			break;
		}
	}
	return NULL;
}

static void loses_no_mark(void)
{
	static struct race race;
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];

	REQUIRE(rig_up(&race.rig));
	for (uint32_t i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){.race = &race, .index = i};
		REQUIRE_EQ(pthread_create(&threads[i], NULL, write_and_mark, &writers[i]), 0);
	}
	for (uint32_t i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(race.lost, 0);
	CHECK_EQ(race.to[0], ROUNDS);
	CHECK_EQ(race.to[1], ROUNDS);
	rig_down(&race.rig);
}

static void leaks_nothing(void)
{
	int before = check_open_fds();
	struct rig rig;

	REQUIRE(rig_up(&rig));
	rig_down(&rig);
	signals();
	refuses_bad_files();
	CHECK_EQ(check_open_fds(), before);
}

int main(void)
{
	RUN(marks_each_run);
	RUN(keeps_what_is_marked);
	RUN(marks_what_is_inside_of_a_run);
	RUN(refuses_bad_files);
	RUN(survives_a_shrunk_file);
	RUN(signals);
	RUN(loses_no_mark);
	RUN(leaks_nothing);
	return check_report();
}
