/* SPDX-License-Identifier: MIT */
/* vhost-user messages on a stream socket (vhost-user, "Message Specification"). */
#include "message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_BYTES (VHC_MSG_MAX_FDS * sizeof(int))

union control {
	struct cmsghdr align;
	char space[CMSG_SPACE(FDS_BYTES)];
};

/* Bytes that the message has in all, as far as is known; 0 if too many. */
static uint32_t whole_size(const struct message *message)
{
	uint32_t size;
	if (message->got < MESSAGE_HEADER)
		return MESSAGE_HEADER;
	memcpy(&size, message->data + 2 * sizeof(size), sizeof(size));
	return size > VHC_MSG_MAX ? 0 : MESSAGE_HEADER + size;
}

/* Adds a descriptor, or closes it if there is no room. */
static int add_fd(struct message *message, int fd)
{
	if (message->num_fds < VHC_MSG_MAX_FDS) {
		message->fds[message->num_fds++] = fd;
		return 0;
	}
	close(fd);
	return -E2BIG;
}

/* Takes every descriptor that came, whatever else is wrong: each is ours to close. */
static int take_fds(struct message *message, struct msghdr *msg)
{
	int err = 0;
	uint32_t came = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++, came++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (add_fd(message, fd) < 0)
				err = -E2BIG;
		}
	}
	/* Cut short with room left: the process may not open so many. */
	if (!err && (msg->msg_flags & MSG_CTRUNC))
		err = came < VHC_MSG_MAX_FDS ? -EMFILE : -E2BIG;
	return err;
}

/* One recvmsg. Returns bytes, or -errno. */
static ssize_t receive_some(struct message *message, int fd, uint32_t len)
{
	union control control;
	struct iovec iov = {message->data + message->got, len};
	struct msghdr msg = {
	    .msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control),
	};
	ssize_t n;
	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	int err = take_fds(message, &msg);
	return err ? err : n;
}

int message_receive(struct message *message, int fd)
{
	for (;;) {
		uint32_t whole = whole_size(message);
		if (!whole)
			return -EMSGSIZE;
		if (message->got == whole)
			return 1;
		ssize_t n = receive_some(message, fd, whole - message->got);
		if (n == -EAGAIN)
			return 0;
		/* A peer that goes with our answer unread is a reset; it is gone all the same. */
		if (n == 0 || n == -ECONNRESET)
			return message->got ? -EPROTO : -EPIPE;
		if (n < 0)
			return (int)n;
		message->got += (uint32_t)n;
	}
}

void message_reset(struct message *message)
{
	for (uint32_t i = 0; i < message->num_fds; i++)
		close(message->fds[i]);
	message->num_fds = 0;
	message->got = 0;
}

static void attach_fds(struct msghdr *msg, union control *control, const int32_t *fds, uint32_t n)
{
	memset(control, 0, sizeof(*control));
	msg->msg_control = control;
	msg->msg_controllen = CMSG_SPACE(n * sizeof(*fds));
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(*fds));
	memcpy(CMSG_DATA(c), fds, n * sizeof(*fds));
}

int message_send(int fd, const uint8_t *data, uint32_t len, const int32_t *fds, uint32_t num_fds)
{
	if (len == 0 || num_fds > VHC_MSG_MAX_FDS)
		return -EINVAL;
	union control control;
	struct iovec iov = {(void *)(uintptr_t)data, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (num_fds)
		attach_fds(&msg, &control, fds, num_fds);
	ssize_t n;
	do
		n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return (uint32_t)n == len ? 0 : -EPIPE;
}
