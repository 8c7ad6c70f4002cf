/* SPDX-License-Identifier: MIT */
/* Unix sockets: listening, connecting, pairs. */
#include "vhostctl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

static int set_path(struct sockaddr_un *addr, const char *path)
{
	size_t len = strlen(path);
	if (len == 0)
		return -EINVAL;
	if (len >= sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(addr->sun_path, path, len + 1);
	return 0;
}

static int open_socket(int type_flags)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
	return fd < 0 ? -errno : fd;
}

/*
 * bind makes the file with the descriptor's mode less the umask: fchmod first,
 * so that it is never more open than asked, and chmod after, for what the umask
 * took away. Nobody can connect before listen.
 */
static int bind_with_mode(int fd, const struct sockaddr_un *addr, mode_t mode)
{
	if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return -errno;
	if (chmod(addr->sun_path, mode) == 0 && listen(fd, BACKLOG) == 0)
		return 0;
	int err = -errno;
	unlink(addr->sun_path);
	return err;
}

int vhc_socket_listen(const char *path, uint32_t mode)
{
	struct sockaddr_un addr;
	int err = set_path(&addr, path);
	if (err)
		return err;
	int fd = open_socket(SOCK_NONBLOCK);
	if (fd < 0)
		return fd;
	err = bind_with_mode(fd, &addr, mode & 0777);
	if (!err)
		return fd;
	close(fd);
	return err;
}

int vhc_socket_connect(const char *path)
{
	struct sockaddr_un addr;
	int err = set_path(&addr, path);
	if (err)
		return err;
	/* Non-blocking: a listener that does not accept is -EAGAIN, not a caller that hangs. */
	int fd = open_socket(SOCK_NONBLOCK);
	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int vhc_socket_pair(int32_t fds[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

int vhc_socket_peer_uid(int32_t fd, uint32_t *uid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -errno;
	/* A TCP socket answers too, with nobody. */
	if (len != sizeof(peer) || peer.pid == 0)
		return -EINVAL;
	*uid = peer.uid;
	return 0;
}
