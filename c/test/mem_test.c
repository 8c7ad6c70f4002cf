/* SPDX-License-Identifier: MIT */
/* Guest memory: translation, what is refused, and memory that goes away. */
#include "mem.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)

/* Three regions: two that adjoin in guest-physical order, added out of order, and one apart. */
#define LOW_GPA UINT64_C(0)
#define HIGH_GPA (UINT64_C(4) << 30)

struct table {
	int fd;
	struct vhc_mem *mem;
};

static bool table_create(struct table *table)
{
	table->fd = memfd_create("mem_test", MFD_CLOEXEC);
	return table->fd >= 0 && ftruncate(table->fd, (off_t)(4 * MIB)) == 0 &&
	       vhc_mem_create(&table->mem) == 0 &&
	       vhc_mem_add_region(table->mem, HIGH_GPA, MIB, 0x7000000, table->fd, 2 * MIB) == 0 &&
	       vhc_mem_add_region(table->mem, LOW_GPA + MIB, MIB, 0x9000000, table->fd, MIB) == 0 &&
	       vhc_mem_add_region(table->mem, LOW_GPA, MIB, 0x8000000, table->fd, 0) == 0;
}

static void table_destroy(struct table *table)
{
	vhc_mem_release(table->mem);
	close(table->fd);
}

static int translate_one(const struct vhc_mem *mem, uint64_t gpa, uint64_t len)
{
	struct vhc_iov iov;

	return vhc_mem_translate(mem, gpa, len, &iov, 1);
}

static void translates(void)
{
	struct table table;
	struct vhc_iov iov[3];
	char text[8] = "";

	REQUIRE(table_create(&table));
	CHECK_EQ(pwrite(table.fd, "abcd", 4, 2 * MIB + 100), 4);
	CHECK_EQ(vhc_mem_translate(table.mem, HIGH_GPA + 100, 4, iov, 1), 1);
	CHECK_EQ(iov[0].len, 4);
	vhc_copy_out(iov[0].addr, (uint8_t *)text, 4);
	CHECK(strcmp(text, "abcd") == 0);
	CHECK_EQ(translate_one(table.mem, LOW_GPA, MIB), 1);
	CHECK_EQ(translate_one(table.mem, LOW_GPA, 0), 0);
	table_destroy(&table);
}

static void crosses_regions(void)
{
	struct table table;
	struct vhc_iov iov[3];

	REQUIRE(table_create(&table));
	REQUIRE_EQ(vhc_mem_translate(table.mem, LOW_GPA + MIB - 8, 24, iov, 3), 2);
	CHECK_EQ(iov[0].len, 8);
	CHECK_EQ(iov[1].len, 16);
	/* The second piece is the start of the second region, whatever lies where here. */
	CHECK_EQ(vhc_mem_translate(table.mem, LOW_GPA + MIB, 16, iov + 2, 1), 1);
	CHECK_EQ(iov[1].addr, iov[2].addr);
	CHECK_EQ(vhc_mem_translate(table.mem, LOW_GPA + MIB - 8, 24, iov, 1), -E2BIG);
	table_destroy(&table);
}

static void refuses_what_is_outside(void)
{
	struct table table;

	REQUIRE(table_create(&table));
	CHECK_EQ(translate_one(table.mem, LOW_GPA + 2 * MIB, 1), -EFAULT);
	CHECK_EQ(translate_one(table.mem, HIGH_GPA - 1, 1), -EFAULT);
	CHECK_EQ(translate_one(table.mem, HIGH_GPA - 1, 2), -EFAULT);
	CHECK_EQ(translate_one(table.mem, HIGH_GPA, MIB + 1), -EFAULT);
	CHECK_EQ(translate_one(table.mem, HIGH_GPA + MIB - 1, 1), 1);
	CHECK_EQ(translate_one(table.mem, HIGH_GPA + 1, UINT64_MAX), -EFAULT);
	CHECK_EQ(translate_one(table.mem, UINT64_MAX, 1), -EFAULT);
	CHECK_EQ(translate_one(table.mem, UINT64_MAX - 1, UINT64_MAX), -EFAULT);
	table_destroy(&table);
}

static void translates_user_addresses(void)
{
	struct table table;
	struct vhc_iov iov;
	uint64_t addr = 0;

	REQUIRE(table_create(&table));
	CHECK_EQ(vhc_mem_translate_user(table.mem, 0x7000000 + 5, MIB - 5, &addr), 0);
	CHECK_EQ(vhc_mem_translate(table.mem, HIGH_GPA + 5, 1, &iov, 1), 1);
	CHECK_EQ(addr, iov.addr);
	CHECK_EQ(vhc_mem_translate_user(table.mem, 0x7000000 + 5, MIB, &addr), -EFAULT);
	CHECK_EQ(vhc_mem_translate_user(table.mem, 0x7000000 - 1, 1, &addr), -EFAULT);
	CHECK_EQ(vhc_mem_translate_user(table.mem, 0x7000001, UINT64_MAX, &addr), -EFAULT);
	table_destroy(&table);
}

/* The cached lookup agrees with the table at every edge, and never crosses a region. */
static void caches(void)
{
	static const uint64_t edges[] = {LOW_GPA,
					 LOW_GPA + 1,
					 LOW_GPA + MIB - 1,
					 LOW_GPA + MIB,
					 LOW_GPA + 2 * MIB - 1,
					 LOW_GPA + 2 * MIB,
					 HIGH_GPA - 1,
					 HIGH_GPA,
					 HIGH_GPA + MIB - 16,
					 HIGH_GPA + MIB,
					 UINT64_MAX};
	static const uint64_t lengths[] = {1, 2, 16, 4096, MIB, MIB + 1, UINT32_MAX, UINT64_MAX};
	struct mem_cache cache = {0};
	struct table table;

	REQUIRE(table_create(&table));
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		for (size_t j = 0; j < sizeof(lengths) / sizeof(lengths[0]); j++) {
			struct vhc_iov iov = {0};
			int whole = translate_one(table.mem, edges[i], lengths[j]);
			void *at = mem_at(table.mem, &cache, edges[i], lengths[j]);

			if (whole == 1)
				vhc_mem_translate(table.mem, edges[i], lengths[j], &iov, 1);
			CHECK_EQ((uintptr_t)at, iov.addr);
			if (mem_near(&cache, edges[i]))
				CHECK(mem_cached(&cache, edges[i], MEM_NEAR));
		}
	}
	table_destroy(&table);
}

static void refuses_bad_regions(void)
{
	struct vhc_mem *mem;
	int fd = memfd_create("mem_test", MFD_CLOEXEC);
	int pipe_fds[2];

	REQUIRE(fd >= 0 && ftruncate(fd, MIB) == 0 && pipe(pipe_fds) == 0);
	REQUIRE_EQ(vhc_mem_create(&mem), 0);
	CHECK_EQ(vhc_mem_add_region(mem, 0, 0, 0, fd, 0), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, 0, MIB + 1, 0, fd, 0), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, 0, MIB, 0, fd, 4096), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, 0, MIB, 0, fd, UINT64_MAX - 4095), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, UINT64_MAX - 100, 4096, 0, fd, 0), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, 0, 4096, UINT64_MAX - 100, fd, 0), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, 0, 4096, 0, -1, 0), -EBADF);
	CHECK_EQ(vhc_mem_add_region(mem, 0, 4096, 0, pipe_fds[0], 0), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, 0x10000, 0x2000, 0x90000, fd, 0), 0);
	CHECK_EQ(vhc_mem_add_region(mem, 0x11fff, 0x1000, 0xa0000, fd, 0), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, 0xf001, 0x1000, 0xa0000, fd, 0), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, 0x20000, 0x1000, 0x91fff, fd, 0), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(mem, 0x12000, 0x1000, 0x92000, fd, 0), 0);
	vhc_mem_release(mem);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	close(fd);
}

static void takes_at_most_512_regions(void)
{
	struct vhc_mem *mem;
	int fd = memfd_create("mem_test", MFD_CLOEXEC);

	REQUIRE(fd >= 0 && ftruncate(fd, 4096) == 0);
	REQUIRE_EQ(vhc_mem_create(&mem), 0);
	for (uint64_t i = 0; i < VHC_MEM_MAX_REGIONS; i++)
		CHECK_EQ(vhc_mem_add_region(mem, i * 8192, 4096, i * 8192, fd, 0), 0);
	CHECK_EQ(vhc_mem_add_region(mem, UINT64_C(1) << 40, 4096, UINT64_C(1) << 40, fd, 0),
		 -ENOSPC);
	CHECK_EQ(translate_one(mem, 511 * 8192 + 4095, 1), 1);
	CHECK_EQ(translate_one(mem, 511 * 8192 + 4096, 1), -EFAULT);
	vhc_mem_release(mem);
	close(fd);
}

/* An offset that is no multiple of the page size: mapped from before it. */
static void maps_unaligned_offsets(void)
{
	struct vhc_mem *mem;
	struct vhc_iov iov;
	char text[8] = "";
	int fd = memfd_create("mem_test", MFD_CLOEXEC);

	REQUIRE(fd >= 0 && ftruncate(fd, 16384) == 0);
	REQUIRE_EQ(vhc_mem_create(&mem), 0);
	CHECK_EQ(pwrite(fd, "xyz", 3, 5000), 3);
	CHECK_EQ(vhc_mem_add_region(mem, 0, 4096, 0, fd, 5000), 0);
	CHECK_EQ(vhc_mem_translate(mem, 0, 3, &iov, 1), 1);
	vhc_copy_out(iov.addr, (uint8_t *)text, 3);
	CHECK(strcmp(text, "xyz") == 0);
	vhc_mem_release(mem);
	close(fd);
}

static void survives_a_shrunk_file(void)
{
	struct table table;
	struct vhc_iov iov;
	uint8_t bytes[4096];

	REQUIRE(table_create(&table));
	REQUIRE_EQ(vhc_mem_translate(table.mem, HIGH_GPA, MIB, &iov, 1), 1);
	vhc_copy_in(iov.addr, (const uint8_t *)"kept", 4);
	CHECK_EQ(vhc_mem_faulted(table.mem), 0);
	CHECK_EQ(ftruncate(table.fd, (off_t)(2 * MIB + 4096)), 0);
	memset(bytes, 1, sizeof(bytes));
	vhc_copy_out(iov.addr + 8192, bytes, sizeof(bytes));
	CHECK_EQ(bytes[0], 0);
	CHECK_EQ(bytes[4095], 0);
	CHECK_EQ(vhc_mem_faulted(table.mem), 1);
	/* Writes go nowhere, and what is left of the file is still the file. */
	vhc_copy_in(iov.addr + MIB - 4096, bytes, sizeof(bytes));
	vhc_copy_out(iov.addr, bytes, 4);
	CHECK(memcmp(bytes, "kept", 4) == 0);
	/* Lost again, before what was healed. */
	CHECK_EQ(ftruncate(table.fd, 0), 0);
	vhc_copy_out(iov.addr, bytes, 4);
	CHECK(memcmp(bytes, "\0\0\0\0", 4) == 0);
	table_destroy(&table);
}

/* ---- Clones ---- */

static uint64_t host_of(const struct vhc_mem *mem, uint64_t gpa)
{
	struct vhc_iov iov = {0};

	return vhc_mem_translate(mem, gpa, 1, &iov, 1) == 1 ? iov.addr : 0;
}

static void clones_share_their_memory(void)
{
	struct table table;
	struct vhc_mem *clone = NULL;
	uint64_t high, addr = 0;
	char text[5] = "";

	REQUIRE(table_create(&table));
	high = host_of(table.mem, HIGH_GPA);
	REQUIRE_EQ(vhc_mem_clone(table.mem, &clone), 0);
	CHECK_EQ(host_of(clone, HIGH_GPA), high);
	CHECK_EQ(vhc_mem_translate_user(clone, 0x7000000, MIB, &addr), 0);
	CHECK_EQ(addr, high);

	/* What one gets or loses, the other does not. */
	CHECK_EQ(vhc_mem_add_region(clone, 8 * MIB, MIB, 0xb000000, table.fd, 3 * MIB), 0);
	CHECK_EQ(vhc_mem_remove_region(clone, LOW_GPA, MIB, 0x8000000), 0);
	CHECK_EQ(host_of(table.mem, 8 * MIB), 0);
	CHECK(host_of(table.mem, LOW_GPA) != 0);
	CHECK_EQ(host_of(clone, LOW_GPA), 0);
	CHECK(host_of(clone, 8 * MIB) != 0);

	/* The memory outlives the table that it was added to. */
	vhc_mem_release(table.mem);
	vhc_copy_in(high, (const uint8_t *)"here", 4);
	CHECK_EQ(pread(table.fd, text, 4, 2 * MIB), 4);
	CHECK(strcmp(text, "here") == 0);
	vhc_mem_release(clone);
	close(table.fd);
}

static void removes_regions(void)
{
	struct table table;
	uint64_t addr;

	REQUIRE(table_create(&table));
	CHECK_EQ(vhc_mem_remove_region(table.mem, LOW_GPA + 4096, MIB, 0x8000000), -ENOENT);
	CHECK_EQ(vhc_mem_remove_region(table.mem, LOW_GPA, MIB - 1, 0x8000000), -ENOENT);
	CHECK_EQ(vhc_mem_remove_region(table.mem, LOW_GPA, MIB, 0x9000000), -ENOENT);
	CHECK_EQ(vhc_mem_remove_region(table.mem, LOW_GPA, MIB, 0x8000000), 0);
	CHECK_EQ(vhc_mem_remove_region(table.mem, LOW_GPA, MIB, 0x8000000), -ENOENT);
	CHECK_EQ(translate_one(table.mem, LOW_GPA, 1), -EFAULT);
	CHECK_EQ(vhc_mem_translate_user(table.mem, 0x8000000, 1, &addr), -EFAULT);
	CHECK_EQ(translate_one(table.mem, LOW_GPA + MIB, MIB), 1);
	CHECK_EQ(translate_one(table.mem, HIGH_GPA, MIB), 1);
	/* Its place is free for another. */
	CHECK_EQ(vhc_mem_add_region(table.mem, LOW_GPA, MIB, 0x8000000, table.fd, 0), 0);
	CHECK_EQ(translate_one(table.mem, LOW_GPA, 2 * MIB), -E2BIG);
	table_destroy(&table);
}

static bool is_mapped(uint64_t addr)
{
	unsigned char resident;

	return mincore((void *)(uintptr_t)addr, 4096, &resident) == 0;
}

static void unmaps_with_the_last_table(void)
{
	struct table table;
	struct vhc_mem *clone = NULL;
	uint64_t high;

	REQUIRE(table_create(&table));
	high = host_of(table.mem, HIGH_GPA);
	REQUIRE_EQ(vhc_mem_clone(table.mem, &clone), 0);
	CHECK_EQ(vhc_mem_remove_region(clone, HIGH_GPA, MIB, 0x7000000), 0);
	CHECK(is_mapped(high));
	CHECK_EQ(vhc_mem_remove_region(table.mem, HIGH_GPA, MIB, 0x7000000), 0);
	CHECK(!is_mapped(high));
	vhc_mem_release(clone);
	table_destroy(&table);
}

static void faults_are_the_familys(void)
{
	struct table table;
	struct vhc_mem *clone = NULL, *view = NULL;
	uint8_t byte = 1;

	REQUIRE(table_create(&table));
	REQUIRE_EQ(vhc_mem_clone(table.mem, &clone), 0);
	REQUIRE_EQ(vhc_mem_create_view(clone, &view), 0);
	CHECK_EQ(ftruncate(table.fd, 0), 0);
	vhc_copy_out(host_of(table.mem, HIGH_GPA), &byte, 1);
	CHECK_EQ(byte, 0);
	CHECK_EQ(vhc_mem_faulted(table.mem), 1);
	CHECK_EQ(vhc_mem_faulted(clone), 1);
	CHECK_EQ(vhc_mem_faulted(view), 1);
	/* The table goes before what is left of its memory. */
	table_destroy(&table);
	CHECK_EQ(vhc_mem_faulted(clone), 1);
	byte = 1;
	vhc_copy_out(host_of(clone, LOW_GPA), &byte, 1);
	CHECK_EQ(byte, 0);
	vhc_mem_release(clone);
	vhc_mem_release(view);
}

static void knows_guest_addresses(void)
{
	static const uint64_t gpas[] = {LOW_GPA,       LOW_GPA + MIB - 1,
					LOW_GPA + MIB, LOW_GPA + 2 * MIB - 1,
					HIGH_GPA,      HIGH_GPA + MIB - 1};
	struct table table;
	uint64_t gpa = 0;

	REQUIRE(table_create(&table));
	for (size_t i = 0; i < sizeof(gpas) / sizeof(gpas[0]); i++) {
		CHECK(mem_gpa_of(table.mem, host_of(table.mem, gpas[i]), &gpa));
		CHECK_EQ(gpa, gpas[i]);
	}
	CHECK(!mem_gpa_of(table.mem, 0, &gpa));
	CHECK(!mem_gpa_of(table.mem, (uint64_t)(uintptr_t)&table, &gpa));
	CHECK(!mem_gpa_of(table.mem, UINT64_MAX, &gpa));
	table_destroy(&table);
}

/* ---- Kinds of memory ---- */

/* Regions that begin and end inside of hugepages, if the machine has any to spare. */
static void maps_hugepages(uint64_t page_size)
{
	struct vhc_pages pages;
	struct vhc_mem *mem = NULL;
	struct vhc_iov iov;
	uint64_t gpa = 0;
	int node;

	if (vhc_pages_alloc(2 * page_size, page_size, -1, -1, VHC_PAGES_SHARED, &pages)) {
		printf("# no hugepages of %llu KiB\n", (unsigned long long)page_size / 1024);
		return;
	}
	REQUIRE_EQ(vhc_mem_create(&mem), 0);
	CHECK_EQ(vhc_mem_add_region(mem, 0, page_size, 0, pages.fd, page_size), 0);
	CHECK_EQ(vhc_mem_add_region(mem, page_size, page_size - 4096, page_size, pages.fd, 4096),
		 0);
	vhc_copy_in(pages.addr + page_size - 3, (const uint8_t *)"abc", 3);
	CHECK_EQ(vhc_mem_translate(mem, 2 * page_size - 4096 - 3, 3, &iov, 1), 1);
	CHECK(memcmp((const void *)(uintptr_t)iov.addr, "abc", 3) == 0);
	CHECK(mem_gpa_of(mem, iov.addr, &gpa));
	CHECK_EQ(gpa, 2 * page_size - 4096 - 3);
	node = vhc_mem_node(mem, 0);
	CHECK(node >= -1 && node < 1024);
	CHECK_EQ(vhc_mem_remove_region(mem, 0, page_size, 0), 0);
	vhc_mem_release(mem);
	CHECK_EQ(vhc_pages_free(&pages), 0);
}

static void maps_hugepages_of_both_sizes(void)
{
	maps_hugepages(2 * MIB);
	maps_hugepages(KIB * MIB);
}

static void tells_the_node(void)
{
	struct vhc_pages pages;
	struct vhc_mem *mem = NULL, *view = NULL;

	REQUIRE_EQ(vhc_pages_alloc(8192, 4096, 0, -1, VHC_PAGES_SHARED, &pages), 0);
	REQUIRE_EQ(vhc_mem_create(&mem), 0);
	REQUIRE_EQ(vhc_mem_create_view(mem, &view), 0);
	CHECK_EQ(vhc_mem_add_region(mem, MIB, 8192, 5 * MIB, pages.fd, 0), 0);
	CHECK_EQ(vhc_mem_node(mem, 5 * MIB + 8191), 0);
	CHECK_EQ(vhc_mem_node(view, 5 * MIB), 0);
	CHECK_EQ(vhc_mem_node(mem, 5 * MIB + 8192), -EFAULT);
	CHECK_EQ(vhc_mem_node(mem, MIB), -EFAULT);
	vhc_mem_release(view);
	vhc_mem_release(mem);
	CHECK_EQ(vhc_pages_free(&pages), 0);
}

/* How a child ends that maps guest memory and then raises SIGBUS by `act`. */
static int child_result(void (*act)(void), void (*prepare)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		struct table table;

		if (prepare)
			prepare();
		if (table_create(&table))
			act();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static void touch_lost_page(void)
{
	int fd = memfd_create("other", MFD_CLOEXEC);
	volatile char *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

	(void)at[0];
}

static void send_sigbus(void)
{
	raise(SIGBUS);
}

static void exit_7(int signal)
{
	(void)signal;
	_exit(7);
}

static void handle_sigbus(void)
{
	signal(SIGBUS, exit_7);
}

static void default_sigbus(void)
{
	signal(SIGBUS, SIG_DFL);
}

static void leaves_other_faults_alone(void)
{
	int status = child_result(touch_lost_page, default_sigbus);

	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	status = child_result(send_sigbus, default_sigbus);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	status = child_result(touch_lost_page, handle_sigbus);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	status = child_result(send_sigbus, handle_sigbus);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void leaks_nothing(void)
{
	int before = check_open_fds();

	for (int i = 0; i < 10; i++) {
		struct table table;

		REQUIRE(table_create(&table));
		table_destroy(&table);
	}
	CHECK_EQ(check_open_fds(), before);
}

int main(void)
{
	/* First: its children must find the process as it began, without the guard. */
	RUN(leaves_other_faults_alone);
	RUN(translates);
	RUN(crosses_regions);
	RUN(refuses_what_is_outside);
	RUN(translates_user_addresses);
	RUN(caches);
	RUN(refuses_bad_regions);
	RUN(takes_at_most_512_regions);
	RUN(maps_unaligned_offsets);
	RUN(survives_a_shrunk_file);
	RUN(clones_share_their_memory);
	RUN(removes_regions);
	RUN(unmaps_with_the_last_table);
	RUN(faults_are_the_familys);
	RUN(knows_guest_addresses);
	RUN(maps_hugepages_of_both_sizes);
	RUN(tells_the_node);
	RUN(leaks_nothing);
	return check_report();
}
