/* SPDX-License-Identifier: MIT */
/* Receiving one vhost-user message from a stream socket, piece by piece. */
#ifndef VHC_MESSAGE_H
#define VHC_MESSAGE_H

#include "vhostctl.h"

/* Request, flags and size, 32 bits each; size bytes of payload follow. */
#define MESSAGE_HEADER 12u

/* A message as far as it has come. Its descriptors are its own until taken. */
struct message {
	uint32_t got; /* bytes in data */
	uint32_t num_fds;
	int32_t fds[VHC_MSG_MAX_FDS];
	uint8_t data[MESSAGE_HEADER + VHC_MSG_MAX];
};

/*
 * Reads what there is, to the end of the message and not beyond. Returns 1 when
 * it is whole, 0 when more must come (non-blocking).
 * Errors: -EPIPE (the peer hung up between messages), -EPROTO (inside one),
 * -EMSGSIZE (payload too long), -E2BIG (too many descriptors), -EMFILE (this
 * process has no room for them); recvmsg(2)'s.
 */
int message_receive(struct message *message, int fd);

/* Closes its descriptors and makes it empty. */
void message_reset(struct message *message);

/*
 * Sends len bytes, whole or not at all, without blocking and without SIGPIPE.
 * Errors: -EAGAIN; -EPIPE (hung up, or broken off: the connection is of no more
 * use); -EINVAL (no bytes, more than VHC_MSG_MAX_FDS); sendmsg(2)'s.
 */
int message_send(int fd, const uint8_t *data, uint32_t len, const int32_t *fds, uint32_t num_fds);

#endif
