/* SPDX-License-Identifier: MIT */
/* Page faults that somebody else serves (post-copy migration). */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mem.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

/*
 * A descriptor that also catches faults in system calls, which the data plane makes
 * with guest memory all the time: by the system call with the right to it, else by
 * the device file.
 */
static int open_any(void)
{
	const int flags = O_CLOEXEC | O_NONBLOCK;
	int fd = (int)syscall(SYS_userfaultfd, flags);
	int error = errno;
	int device;

	if (fd >= 0)
		return fd;
	device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return -error;
	fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
	error = errno;
	close(device);
	return fd < 0 ? -error : fd;
}

int vhc_userfault_open(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = open_any();
	int error;

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) == 0)
		return fd;
	error = errno;
	close(fd);
	return -error;
}

static int catch_region(struct mem_region *region, int fd)
{
	struct mapping *map = &region->mapping;
	void *at = (void *)(uintptr_t)map->map;
	struct uffdio_register range = {.range = {.start = map->map, .len = map->map_size},
					.mode = UFFDIO_REGISTER_MODE_MISSING};

	/* A page that was looked at before is not missing here, though it may be there. */
	madvise(at, map->map_size, MADV_NOHUGEPAGE);
	if (madvise(at, map->map_size, MADV_DONTNEED) || ioctl(fd, UFFDIO_REGISTER, &range))
		return -errno;
	atomic_store(&region->caught, true);
	return 0;
}

int vhc_mem_catch_faults(struct vhc_mem *mem, int32_t fd)
{
	int result = 0;

	for (uint32_t i = 0; i < mem->by_user.count && result == 0; i++)
		result = catch_region(mem->regions[i], fd);
	return result;
}
