/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "vhostctl.h"

#define MIB (1ull << 20)

static const char *const nr_hugepages = "/proc/sys/vm/nr_hugepages";

static long read_number(const char *path)
{
	long n = -1;
	FILE *file = fopen(path, "r");
	if (!file)
		return -1;
	if (fscanf(file, "%ld", &n) != 1)
		n = -1;
	fclose(file);
	return n;
}

static bool write_number(const char *path, long n)
{
	FILE *file = fopen(path, "w");
	if (!file)
		return false;
	fprintf(file, "%ld\n", n);
	return fclose(file) == 0;
}

/* Zeroed, writable to the last byte, and what it says it is. */
static void check_usable(const struct vhc_pages *pages)
{
	uint8_t *p = vhc_pointer(pages->addr);
	CHECK_EQ(pages->size % pages->page_size, 0);
	CHECK_EQ(p[0] | p[pages->size / 2] | p[pages->size - 1], 0);
	p[0] = p[pages->size / 2] = p[pages->size - 1] = 1;
	struct stat st;
	if (pages->fd >= 0) {
		CHECK_EQ(fstat(pages->fd, &st), 0);
		CHECK_EQ(st.st_size, pages->size);
	}
}

static void plain(void)
{
	struct vhc_pages pages;
	int fds = check_open_fds();
	REQUIRE_EQ(vhc_pages_alloc(5000, (uint64_t)getpagesize(), -1, -1, 0, &pages), 0);
	CHECK_EQ(pages.kind, VHC_PAGES_PLAIN);
	CHECK_EQ(pages.page_size, getpagesize());
	CHECK_EQ(pages.fd, -1);
	CHECK_EQ(pages.node, -1);
	check_usable(&pages);
	CHECK_EQ(vhc_pages_free(&pages), 0);
	CHECK_EQ(check_open_fds(), fds);
}

static void shared_can_be_mapped_by_a_peer_but_not_shrunk(void)
{
	struct vhc_pages pages;
	int fds = check_open_fds();
	REQUIRE_EQ(vhc_pages_alloc(MIB, 4096, -1, -1, VHC_PAGES_SHARED, &pages), 0);
	REQUIRE(pages.fd >= 0);
	check_usable(&pages);
	uint8_t *peer = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, pages.fd, 0);
	REQUIRE(peer != MAP_FAILED);
	peer[4096] = 77;
	CHECK_EQ(((uint8_t *)vhc_pointer(pages.addr))[4096], 77);
	munmap(peer, MIB);
	CHECK_EQ(ftruncate(pages.fd, 0), -1);
	CHECK_EQ(fcntl(pages.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	CHECK_EQ(vhc_pages_free(&pages), 0);
	CHECK_EQ(check_open_fds(), fds);
}

/* Whatever the kernel's settings: never an answer of THP without one. */
static void transparent(void)
{
	struct vhc_pages pages;
	REQUIRE_EQ(vhc_pages_alloc(8 * MIB, 0, -1, -1, VHC_PAGES_FALLBACK, &pages), 0);
	CHECK_EQ(pages.addr % (2 * MIB), 0);
	CHECK_EQ(pages.page_size, getpagesize());
	unsigned char resident[512] = {0};
	((volatile uint8_t *)vhc_pointer(pages.addr))[2 * MIB] = 1;
	void *at = vhc_pointer(pages.addr + 2 * MIB);
	REQUIRE_EQ(mincore(at, 512 * (size_t)getpagesize(), resident), 0);
	if (pages.kind == VHC_PAGES_THP)
		CHECK(resident[511] & 1);
	else
		CHECK_EQ(pages.kind, VHC_PAGES_PLAIN);
	check_usable(&pages);
	vhc_pages_free(&pages);

	int result = vhc_pages_alloc(8 * MIB, 0, -1, -1, 0, &pages);
	if (result == 0) {
		CHECK_EQ(pages.kind, VHC_PAGES_THP);
		vhc_pages_free(&pages);
	} else {
		CHECK_EQ(result, -ENOMEM);
	}
	/* There is no hugepage in 64 KiB. */
	CHECK_EQ(vhc_pages_alloc(65536, 0, -1, -1, 0, &pages), -ENOMEM);
}

static void hugetlb_falls_back(void)
{
	struct vhc_pages pages;
	int fds = check_open_fds();
	/* No machine has reserved more memory than it has. */
	const uint64_t much =
	    ((uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)getpagesize() / MIB + 2) * MIB;
	CHECK_EQ(vhc_pages_alloc(much, 2 * MIB, -1, -1, 0, &pages), -ENOMEM);
	REQUIRE_EQ(
	    vhc_pages_alloc(much, 2 * MIB, -1, -1, VHC_PAGES_SHARED | VHC_PAGES_FALLBACK, &pages),
	    0);
	CHECK(pages.kind != VHC_PAGES_HUGETLB);
	CHECK_EQ(pages.page_size, getpagesize());
	CHECK(pages.fd >= 0);
	CHECK_EQ(vhc_pages_free(&pages), 0);
	CHECK_EQ(check_open_fds(), fds);
}

static void use_reserved(void)
{
	struct vhc_pages pages, more;
	REQUIRE_EQ(vhc_pages_alloc(3 * MIB, 2 * MIB, -1, -1, VHC_PAGES_SHARED, &pages), 0);
	CHECK_EQ(pages.kind, VHC_PAGES_HUGETLB);
	CHECK_EQ(pages.page_size, 2 * MIB);
	CHECK_EQ(pages.size, 4 * MIB);
	CHECK_EQ(pages.addr % (2 * MIB), 0);
	check_usable(&pages);
	CHECK_EQ(vhc_pages_alloc(1ull << 40, 2 * MIB, -1, -1, 0, &more), -ENOMEM);
	vhc_pages_free(&pages);

	REQUIRE_EQ(vhc_pages_alloc(2 * MIB, 2 * MIB, -1, -1, 0, &pages), 0);
	CHECK_EQ(pages.kind, VHC_PAGES_HUGETLB);
	CHECK_EQ(pages.fd, -1);
	check_usable(&pages);
	vhc_pages_free(&pages);
}

/* A memfd of hugepages is a file on hugetlbfs like any other. */
static void use_hugetlbfs_file(void)
{
	struct vhc_pages pages;
	int fd = memfd_create("hugetlbfs", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	REQUIRE(fd >= 0);
	CHECK_EQ(vhc_pages_alloc(2 * MIB, 1024 * MIB, -1, fd, 0, &pages), -EINVAL);
	CHECK_EQ(vhc_pages_alloc(1ull << 40, 2 * MIB, -1, fd, 0, &pages), -ENOMEM);
	for (int round = 0; round < 2; round++) { /* the second finds what the first wrote */
		CHECK_EQ(vhc_pages_alloc(3 * MIB, 0, -1, fd, 0, &pages), 0);
		CHECK_EQ(pages.kind, VHC_PAGES_HUGETLB);
		CHECK_EQ(pages.page_size, 2 * MIB);
		check_usable(&pages);
		vhc_pages_free(&pages);
	}
	close(fd);
}

/* Reserves two hugepages if it may, and takes them back in any case. */
static void hugetlb(void)
{
	long before = read_number(nr_hugepages);
	if (before < 0 || !write_number(nr_hugepages, before + 2)) {
		printf("# no permission to reserve hugepages\n");
		return;
	}
	int fds = check_open_fds();
	if (read_number(nr_hugepages) == before + 2) {
		use_reserved();
		use_hugetlbfs_file();
	} else {
		printf("# no memory to reserve hugepages in\n");
	}
	CHECK_EQ(check_open_fds(), fds);
	CHECK(write_number(nr_hugepages, before));
	CHECK_EQ(read_number(nr_hugepages), before);
}

static void arguments(void)
{
	struct vhc_pages pages;
	CHECK_EQ(vhc_pages_alloc(0, 4096, -1, -1, 0, &pages), -EINVAL);
	CHECK_EQ(vhc_pages_alloc(UINT64_MAX, 4096, -1, -1, 0, &pages), -EINVAL);
	CHECK_EQ(vhc_pages_alloc(MIB, 512, -1, -1, 0, &pages), -EINVAL);
	CHECK_EQ(vhc_pages_alloc(MIB, 3 * MIB, -1, -1, 0, &pages), -EINVAL);
	CHECK_EQ(vhc_pages_alloc(MIB, 8192, -1, -1, 0, &pages), -EINVAL);
	CHECK_EQ(vhc_pages_alloc(MIB, 4096, -2, -1, 0, &pages), -EINVAL);
	CHECK_EQ(vhc_pages_alloc(MIB, 4096, 1023, -1, 0, &pages), -EINVAL);
	CHECK_EQ(vhc_pages_alloc(MIB, 4096, 5000, -1, 0, &pages), -EINVAL);
	int fd = memfd_create("not hugetlbfs", MFD_CLOEXEC);
	CHECK_EQ(vhc_pages_alloc(MIB, 2 * MIB, -1, fd, 0, &pages), -EINVAL);
	close(fd);
}

static void node(void)
{
	struct vhc_pages pages;
	int result = vhc_pages_alloc(MIB, 4096, 0, -1, 0, &pages);
	if (result == -EPERM) { /* a container's system call filter */
		printf("# mbind is not permitted\n");
		return;
	}
	REQUIRE_EQ(result, 0);
	CHECK_EQ(pages.node, 0);
	check_usable(&pages);
	vhc_pages_free(&pages);
}

/* As another process would, with the descriptor that it was sent. */
static void adopt(uint64_t page_size)
{
	struct vhc_pages pages, theirs, again;
	int fds = check_open_fds();
	if (vhc_pages_alloc(4 * MIB, page_size, -1, -1, VHC_PAGES_SHARED, &pages) < 0) {
		printf("# no pages of %llu bytes\n", (unsigned long long)page_size);
		return;
	}
	((uint8_t *)vhc_pointer(pages.addr))[MIB] = 5;
	theirs = pages;
	theirs.addr = 0;
	REQUIRE_EQ(vhc_pages_adopt(&theirs, &again), 0);
	CHECK(again.addr != pages.addr && again.fd != pages.fd);
	CHECK_EQ(again.size, pages.size);
	CHECK_EQ(again.kind, pages.kind);
	((uint8_t *)vhc_pointer(pages.addr))[2 * MIB] = 6;
	CHECK_EQ(vhc_pages_free(&pages), 0);
	CHECK_EQ(((uint8_t *)vhc_pointer(again.addr))[MIB], 5);
	CHECK_EQ(((uint8_t *)vhc_pointer(again.addr))[2 * MIB], 6);
	CHECK_EQ(vhc_pages_free(&again), 0);
	CHECK_EQ(check_open_fds(), fds);
}

static void adopted_pages_have_what_they_had(void)
{
	adopt(4096);
	adopt(2 * MIB);
}

static void what_is_no_shared_memory_is_not_adopted(void)
{
	struct vhc_pages pages, theirs, out;
	int fds = check_open_fds();
	REQUIRE_EQ(vhc_pages_alloc(MIB, 4096, -1, -1, VHC_PAGES_SHARED, &pages), 0);
	theirs = pages;
	theirs.size = 2 * MIB;
	CHECK_EQ(vhc_pages_adopt(&theirs, &out), -EINVAL);
	theirs = pages;
	theirs.size = 5000;
	CHECK_EQ(vhc_pages_adopt(&theirs, &out), -EINVAL);
	theirs = pages;
	theirs.page_size = 2 * MIB;
	CHECK_EQ(vhc_pages_adopt(&theirs, &out), -EINVAL);
	theirs = pages;
	theirs.kind = VHC_PAGES_HUGETLB;
	CHECK_EQ(vhc_pages_adopt(&theirs, &out), -EINVAL);
	theirs.kind = 77;
	CHECK_EQ(vhc_pages_adopt(&theirs, &out), -EINVAL);
	theirs = pages;
	theirs.fd = -1;
	CHECK_EQ(vhc_pages_adopt(&theirs, &out), -EBADF);
	/* One that its owner may shrink under us. */
	theirs.fd = memfd_create("unsealed", MFD_CLOEXEC);
	CHECK_EQ(ftruncate(theirs.fd, MIB), 0);
	CHECK_EQ(vhc_pages_adopt(&theirs, &out), -EINVAL);
	close(theirs.fd);
	vhc_pages_free(&pages);
	CHECK_EQ(check_open_fds(), fds);
}

int main(void)
{
	RUN(plain);
	RUN(shared_can_be_mapped_by_a_peer_but_not_shrunk);
	RUN(transparent);
	RUN(hugetlb_falls_back);
	RUN(hugetlb);
	RUN(arguments);
	RUN(node);
	RUN(adopted_pages_have_what_they_had);
	RUN(what_is_no_shared_memory_is_not_adopted);
	return check_report();
}
