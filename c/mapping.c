/* SPDX-License-Identifier: MIT */
#include "mapping.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sigbus.h"

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

/*
 * Finds the page size of a file and refuses what must not be mapped: a file
 * that ends before the part, one that is not regular, and one on FUSE, where
 * the peer could make a page fault, and so a reactor, wait forever.
 */
static int check_file(int fd, uint64_t offset, uint64_t size, uint64_t *page_size)
{
	struct stat file;
	struct statfs system;

	if (fstat(fd, &file) || fstatfs(fd, &system))
		return -errno;
	if (!S_ISREG(file.st_mode) || system.f_type == FUSE_SUPER_MAGIC)
		return -EINVAL;
	if (offset > (uint64_t)file.st_size || size > (uint64_t)file.st_size - offset)
		return -EINVAL;
	*page_size = system.f_type == HUGETLBFS_MAGIC ? (uint64_t)system.f_bsize
						      : (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int mapping_create(struct mapping *mapping, int fd, uint64_t offset, uint64_t size,
		   atomic_bool *faulted)
{
	uint64_t page_size = 0;
	int result = check_file(fd, offset, size, &page_size);

	if (result)
		return result;

	/* Whole pages around it: hugetlbfs maps from multiples of its page size only. */
	uint64_t before = offset & (page_size - 1);
	uint64_t length = (before + size + page_size - 1) & ~(page_size - 1);
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
			(off_t)(offset - before));

	if (at == MAP_FAILED)
		return -errno;
	/* A guest's memory has no place in a core dump of this process. */
	madvise(at, length, MADV_DONTDUMP);
	mapping->map = (uint64_t)(uintptr_t)at;
	mapping->map_size = length;
	mapping->host = mapping->map + before;
	mapping->guard = sigbus_guard(mapping->map, length, page_size, faulted);
	if (mapping->guard)
		return 0;
	munmap(at, length);
	return -ENOMEM;
}

void mapping_destroy(struct mapping *mapping)
{
	sigbus_unguard(mapping->guard);
	munmap((void *)(uintptr_t)mapping->map, mapping->map_size);
}
