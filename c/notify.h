/* SPDX-License-Identifier: MIT */
/*
 * Signalling descriptors that a peer gave us. They are made non-blocking, but
 * the peer shares that flag and can clear it, fill the descriptor, and so make
 * a write wait. No check beforehand closes that race, so a thread that must not
 * hang guards itself: while it signals descriptors a timer interrupts it every
 * NOTIFY_GUARD_NS, and a write that is interrupted was one that waited.
 */
#ifndef VHC_NOTIFY_H
#define VHC_NOTIFY_H

#include <stdint.h>

#define NOTIFY_GUARD_NS 10000000u

/* Whether fd is a descriptor to signal: an eventfd, or with pipes also a pipe. */
int notify_check(int fd, int pipes);

/* A close-on-exec duplicate of fd, made non-blocking; -1 for -1. Errors: -EINVAL, -EMFILE. */
int notify_dup(int fd, int pipes, int *out);

/* Makes and ends the calling thread's guard. Errors: -EAGAIN, -ENOMEM. */
int notify_guard_create(void);
void notify_guard_release(void);

/* Stops the guard's timer, for a thread about to sleep; the next notify starts it. */
void notify_guard_rest(void);

/*
 * Adds 1 to an eventfd, or writes that to a pipe. One that is full already
 * says what is to be said, and one whose reader is gone has nobody to tell:
 * both are success. Errors: -EPROTO (it waited).
 */
int notify(int fd);

#endif
