/* SPDX-License-Identifier: MIT */
/*
 * The transport's connections and listeners. All of it is to be called with the
 * transport's lock held.
 */
#ifndef VHC_PEERS_H
#define VHC_PEERS_H

#include <pthread.h>
#include <stdbool.h>

#include "message.h"
#include "upcall.h"

#define WAKE_ID 0u /* the eventfd's in epoll; no peer has it */

/* A connection or a listener. */
struct peer {
	uint32_t id;
	int fd; /* -1: closed, and CLOSED waits for room in the ring */
	int32_t status;
	uint32_t listener; /* a connection's, if it was accepted */
	bool listens;
	uint64_t due_ms;    /* when a paused listener goes on, or half a message is too late */
	uint32_t pending;   /* type of the upcall that waits for room; 0: none */
	struct message *in; /* a connection's */
};

struct vhc_transport {
	pthread_mutex_t lock;
	pthread_t thread;
	struct vhc_upcalls *upcalls;
	int epoll_fd;
	int wake_fd;
	bool stop;
	uint32_t next_id;
	struct peer **peers; /* sorted by id */
	uint32_t num_peers;
	uint32_t max_peers;
	uint32_t num_pending; /* peers with an upcall that waits */
	uint32_t num_due;     /* peers with a due_ms */
};

/* The open peer of that id, or NULL. */
struct peer *peers_find(const struct vhc_transport *t, uint32_t id);

/* Makes a peer of fd, which it takes over on success. Listeners start readable. */
int peers_add(struct vhc_transport *t, int fd, bool listens, struct peer **out);

/* Closes the peer and frees it. */
void peers_forget(struct vhc_transport *t, struct peer *peer);

/* As vhc_transport_take; the peer is freed on success. */
int peers_take(struct vhc_transport *t, struct peer *peer);

/* Has epoll report when it can be read, or only when it hangs up. op: EPOLL_CTL_ADD, _MOD. */
int peer_interest(const struct vhc_transport *t, const struct peer *peer, int op, bool readable);

/* Sets when the peer is to be looked at though nothing happens; after_ms 0: never. */
void peer_set_due(struct vhc_transport *t, struct peer *peer, uint64_t after_ms);

/* Posts an upcall, or leaves it to be tried again. Frees a peer that has said CLOSED. */
void peer_post(struct vhc_transport *t, struct peer *peer, uint32_t type);

/* Closes a connection's socket now; its CLOSED upcall follows. It may be freed. */
void peer_close(struct vhc_transport *t, struct peer *peer, int32_t status);

/* Tries again what peer_post left. */
void peers_retry(struct vhc_transport *t);

/* Ends the thread's sleep. */
void transport_wake(const struct vhc_transport *t);

/* Milliseconds on the clock that due_ms is on. */
uint64_t now_ms(void);

#endif
