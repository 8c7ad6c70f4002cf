/* SPDX-License-Identifier: MIT */
/* Memory in hugepages, transparent hugepages or plain pages. */
#include "vhostctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* What a transparent hugepage covers, where there are any worth having. */
#define THP_SIZE (2ull << 20)
#define MAX_NODES 1024

static uint64_t base_page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t round_up(uint64_t size, uint64_t to)
{
	return (size + to - 1) & ~(to - 1);
}

static int bind_to_node(void *addr, uint64_t size, int32_t node)
{
	unsigned long mask[MAX_NODES / (8 * sizeof(unsigned long))] = {0};
	const unsigned bits = 8 * sizeof(mask[0]);
	if (node < 0)
		return 0;
	mask[(unsigned)node / bits] = 1ul << ((unsigned)node % bits);
	/* The kernel takes one bit less than it is told. */
	if (syscall(SYS_mbind, addr, size, MPOL_BIND, mask, MAX_NODES + 1ul, 0) == 0)
		return 0;
	/* A kernel without NUMA has a node 0 all the same. */
	return errno == ENOSYS && node == 0 ? 0 : -errno;
}

/*
 * A memfd that can be sent to a peer. It is sealed, so that the peer cannot
 * shrink it under us.
 */
static int open_memfd(uint64_t size, unsigned flags)
{
	int fd = memfd_create("vhostctl", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	int err = -errno;
	close(fd);
	return err;
}

/* ---- Reserved hugepages ---- */

/* Page size of a file on hugetlbfs, 0 for any other. */
static uint64_t hugetlbfs_page_size(int fd)
{
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0 || fs.f_type != HUGETLBFS_MAGIC)
		return 0;
	return (uint64_t)fs.f_bsize;
}

/* Maps the file and faults it in on its node: later there is only SIGBUS to say no. */
static int map_hugetlb(int fd, struct vhc_pages *out)
{
	void *addr = mmap(NULL, out->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED)
		return -errno;
	int err = bind_to_node(addr, out->size, out->node);
	if (!err && madvise(addr, out->size, MADV_POPULATE_WRITE) < 0)
		err = errno == EINVAL ? -ENOSYS : -ENOMEM;
	if (err) {
		munmap(addr, out->size);
		return err;
	}
	madvise(addr, out->size, MADV_DONTDUMP);
	out->addr = (uintptr_t)addr;
	return 0;
}

static int alloc_hugetlbfs(int file_fd, struct vhc_pages *out)
{
	int fd = fcntl(file_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* To nothing first: what the file held would not be zeroes. */
	int err = ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)out->size) < 0 ? -errno : 0;
	if (!err)
		err = map_hugetlb(fd, out);
	if (!err) {
		out->fd = fd;
		return 0;
	}
	if (ftruncate(fd, 0) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int alloc_huge_memfd(bool shared, struct vhc_pages *out)
{
	unsigned log2 = (unsigned)__builtin_ctzll(out->page_size);
	int fd = open_memfd(out->size, MFD_HUGETLB | log2 << MFD_HUGE_SHIFT);
	if (fd < 0)
		return fd == -ENODEV ? -EINVAL : fd;
	int err = map_hugetlb(fd, out);
	if (err || !shared)
		close(fd);
	else
		out->fd = fd;
	return err;
}

static int alloc_huge(uint64_t size, int file_fd, bool shared, struct vhc_pages *out)
{
	out->size = round_up(size, out->page_size);
	out->kind = VHC_PAGES_HUGETLB;
	return file_fd >= 0 ? alloc_hugetlbfs(file_fd, out) : alloc_huge_memfd(shared, out);
}

/* ---- Base pages, transparent hugepages among them ---- */

/* Maps fd (or, with -1, private memory) at an address that hugepages can start at. */
static void *map_aligned(uint64_t size, int fd)
{
	const uint64_t span = size + THP_SIZE;
	uint8_t *low =
	    mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (low == MAP_FAILED)
		return NULL;
	uint8_t *start = low + (round_up((uintptr_t)low, THP_SIZE) - (uintptr_t)low);
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	if (mmap(start, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
		munmap(low, span);
		return NULL;
	}
	if (start > low)
		munmap(low, (size_t)(start - low));
	munmap(start + size, (size_t)(low + span - start - size));
	return start;
}

/*
 * Asks for transparent hugepages and finds out whether they come: settings,
 * limits and fragmentation all have a say, so one byte is touched and the rest
 * of its hugepage looked at.
 */
static bool get_thp(void *addr, uint64_t size)
{
	unsigned char resident[THP_SIZE / 4096];
	if (size < THP_SIZE || madvise(addr, size, MADV_HUGEPAGE) < 0)
		return false;
	*(volatile uint8_t *)addr = 0;
	if (mincore(addr, THP_SIZE, resident) < 0)
		return false;
	return resident[THP_SIZE / base_page_size() - 1] & 1;
}

static int alloc_base(uint64_t size, bool want_thp, bool shared, struct vhc_pages *out)
{
	out->page_size = base_page_size();
	out->size = round_up(size, out->page_size);
	int fd = shared ? open_memfd(out->size, 0) : -1;
	if (shared && fd < 0)
		return fd;
	void *addr = map_aligned(out->size, fd);
	int err = addr ? bind_to_node(addr, out->size, out->node) : -ENOMEM;
	if (err) {
		if (addr)
			munmap(addr, out->size);
		if (fd >= 0)
			close(fd);
		return err;
	}
	madvise(addr, out->size, MADV_DONTDUMP);
	out->addr = (uintptr_t)addr;
	out->fd = fd;
	out->kind = want_thp && get_thp(addr, out->size) ? VHC_PAGES_THP : VHC_PAGES_PLAIN;
	return 0;
}

/* ---- The interface ---- */

static bool is_power_of_two(uint64_t n)
{
	return n && (n & (n - 1)) == 0;
}

static int check_arguments(uint64_t size, uint64_t page_size, int32_t node, int32_t file_fd)
{
	if (size == 0 || size > INT64_MAX / 2 || node < -1 || node >= MAX_NODES)
		return -EINVAL;
	if (page_size > INT64_MAX / 2)
		return -EINVAL;
	if (page_size && (!is_power_of_two(page_size) || page_size < base_page_size()))
		return -EINVAL;
	if (file_fd < 0)
		return 0;
	uint64_t have = hugetlbfs_page_size(file_fd);
	return have && (page_size == 0 || page_size == have) ? 0 : -EINVAL;
}

int vhc_pages_alloc(uint64_t size, uint64_t page_size, int32_t node, int32_t file_fd,
		    uint32_t flags, struct vhc_pages *out)
{
	const bool shared = flags & VHC_PAGES_SHARED, fallback = flags & VHC_PAGES_FALLBACK;
	int err = check_arguments(size, page_size, node, file_fd);
	if (err)
		return err;
	if (file_fd >= 0)
		page_size = hugetlbfs_page_size(file_fd);
	struct vhc_pages got = {.page_size = page_size, .fd = -1, .node = node};
	if (page_size > base_page_size()) {
		err = alloc_huge(size, file_fd, shared, &got);
		if (err && fallback)
			err = alloc_base(size, true, shared, &got);
	} else {
		err = alloc_base(size, page_size == 0, shared, &got);
	}
	if (!err && page_size == 0 && !fallback && got.kind != VHC_PAGES_THP) {
		vhc_pages_free(&got);
		return -ENOMEM;
	}
	if (!err)
		*out = got;
	return err;
}

/* Whether fd has all of the pages, of that kind, and nobody can take any away. */
static bool has_pages(int fd, const struct vhc_pages *theirs)
{
	struct stat st;
	uint64_t huge = hugetlbfs_page_size(fd);
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < theirs->size)
		return false;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return false;
	return theirs->page_size == (huge ? huge : base_page_size()) &&
	       (theirs->kind == VHC_PAGES_HUGETLB) == (huge != 0) &&
	       theirs->size % theirs->page_size == 0;
}

/* Maps them, and has them hugepages again if that is what they were. */
static void *map_theirs(int fd, const struct vhc_pages *theirs)
{
	if (theirs->kind != VHC_PAGES_HUGETLB) {
		void *addr = map_aligned(theirs->size, fd);
		if (addr && theirs->kind == VHC_PAGES_THP)
			madvise(addr, theirs->size, MADV_HUGEPAGE);
		return addr;
	}
	void *addr = mmap(NULL, theirs->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return addr == MAP_FAILED ? NULL : addr;
}

int vhc_pages_adopt(const struct vhc_pages *theirs, struct vhc_pages *out)
{
	if (check_arguments(theirs->size, theirs->page_size, theirs->node, -1) ||
	    theirs->kind > VHC_PAGES_HUGETLB)
		return -EINVAL;
	int fd = fcntl(theirs->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	void *addr = NULL;
	int err = has_pages(fd, theirs) ? 0 : -EINVAL;
	if (!err && !(addr = map_theirs(fd, theirs)))
		err = -ENOMEM;
	if (err) {
		close(fd);
		return err;
	}
	madvise(addr, theirs->size, MADV_DONTDUMP);
	*out = *theirs;
	out->addr = (uintptr_t)addr;
	out->fd = fd;
	return 0;
}

int vhc_pages_free(const struct vhc_pages *pages)
{
	int err = munmap((void *)(uintptr_t)pages->addr, pages->size) < 0 ? -errno : 0;
	if (pages->fd >= 0)
		close(pages->fd);
	return err;
}
