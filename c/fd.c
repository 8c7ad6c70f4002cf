/* SPDX-License-Identifier: MIT */
/* Descriptors and memory of this process, for runtimes that cannot reach them. */
#include "vhostctl.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

int vhc_fd_close(int32_t fd)
{
	/* Linux has closed it even when it says EINTR. */
	return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

int vhc_fd_lock(int32_t fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

int vhc_fd_try_write(int32_t fd, const uint8_t *data, uint32_t len)
{
	struct pollfd room = {.fd = fd, .events = POLLOUT};
	ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK) {
		if (poll(&room, 1, 0) == 0)
			return -EAGAIN;
		n = write(fd, data, len);
	}
	return n < 0 ? -errno : (int)n;
}

int vhc_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int vhc_eventfd_signal(int32_t fd)
{
	const uint64_t one = 1;
	return write(fd, &one, sizeof(one)) < 0 ? -errno : 0;
}

int vhc_eventfd_take(int32_t fd)
{
	uint64_t value;
	if (read(fd, &value, sizeof(value)) == sizeof(value))
		return 1;
	return errno == EAGAIN ? 0 : -errno;
}

void vhc_copy_out(uint64_t addr, uint8_t *buf, uint32_t len)
{
	if (len)
		memcpy(buf, (const void *)(uintptr_t)addr, len);
}

void vhc_copy_in(uint64_t addr, const uint8_t *buf, uint32_t len)
{
	if (len)
		memcpy((void *)(uintptr_t)addr, buf, len);
}

void *vhc_pointer(uint64_t addr)
{
	return (void *)(uintptr_t)addr;
}
