/* SPDX-License-Identifier: MIT */
#include "peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void transport_wake(const struct vhc_transport *t)
{
	const uint64_t one = 1;
	ssize_t n = write(t->wake_fd, &one, sizeof(one));
	(void)n; /* it fails only when it is readable already */
}

/* Index of the first peer whose id is not below id. */
static uint32_t position(const struct vhc_transport *t, uint32_t id)
{
	uint32_t low = 0, high = t->num_peers;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (t->peers[mid]->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct peer *peers_find(const struct vhc_transport *t, uint32_t id)
{
	uint32_t i = position(t, id);
	if (i == t->num_peers || t->peers[i]->id != id || t->peers[i]->fd < 0)
		return NULL;
	return t->peers[i];
}

int peer_interest(const struct vhc_transport *t, const struct peer *peer, int op, bool readable)
{
	/* Without EPOLLIN a hang-up is still reported. */
	struct epoll_event event = {.events = readable ? EPOLLIN : 0, .data.u64 = peer->id};
	return epoll_ctl(t->epoll_fd, op, peer->fd, &event) < 0 ? -errno : 0;
}

static int make_room(struct vhc_transport *t)
{
	if (t->next_id == INT32_MAX)
		return -ENOSPC;
	if (t->num_peers < t->max_peers)
		return 0;
	uint32_t max = t->max_peers ? 2 * t->max_peers : 16;
	struct peer **peers = realloc(t->peers, max * sizeof(struct peer *));
	if (!peers)
		return -ENOMEM;
	t->peers = peers;
	t->max_peers = max;
	return 0;
}

static struct peer *new_peer(int fd, bool listens)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	peer->fd = fd;
	peer->listens = listens;
	if (!listens)
		peer->in = calloc(1, sizeof(*peer->in));
	if (listens || peer->in)
		return peer;
	free(peer);
	return NULL;
}

int peers_add(struct vhc_transport *t, int fd, bool listens, struct peer **out)
{
	int err = make_room(t);
	if (err)
		return err;
	struct peer *peer = new_peer(fd, listens);
	if (!peer)
		return -ENOMEM;
	peer->id = t->next_id;
	err = peer_interest(t, peer, EPOLL_CTL_ADD, listens);
	if (err) {
		free(peer->in);
		free(peer);
		return err;
	}
	t->next_id++;
	t->peers[t->num_peers++] = peer;
	*out = peer;
	return 0;
}

/*
 * Ends the peer's socket. The one who gave us a connection may have kept its
 * descriptor, which neither the other end nor the epoll set is to hang on.
 */
static void close_socket(const struct vhc_transport *t, struct peer *peer)
{
	epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, peer->fd, NULL);
	if (!peer->listens)
		shutdown(peer->fd, SHUT_RDWR);
	close(peer->fd);
	peer->fd = -1;
}

void peer_set_due(struct vhc_transport *t, struct peer *peer, uint64_t after_ms)
{
	if (peer->due_ms)
		t->num_due--;
	peer->due_ms = after_ms ? now_ms() + after_ms : 0;
	if (after_ms)
		t->num_due++;
}

/* Closes the peer and drops what it had received. */
static void shut(struct vhc_transport *t, struct peer *peer)
{
	if (peer->fd >= 0)
		close_socket(t, peer);
	if (peer->in)
		message_reset(peer->in);
	peer_set_due(t, peer, 0);
	if (peer->pending)
		t->num_pending--;
	peer->pending = 0;
}

void peers_forget(struct vhc_transport *t, struct peer *peer)
{
	uint32_t i = position(t, peer->id);
	shut(t, peer);
	t->num_peers--;
	memmove(&t->peers[i], &t->peers[i + 1], (t->num_peers - i) * sizeof(struct peer *));
	free(peer->in);
	free(peer);
}

/* Whether a connection of this listener is still to be announced. */
static bool has_unannounced(const struct vhc_transport *t, const struct peer *listener)
{
	for (uint32_t i = 0; i < t->num_peers && t->num_pending; i++)
		if (t->peers[i]->pending == VHC_UPCALL_ACCEPTED &&
		    t->peers[i]->listener == listener->id)
			return true;
	return false;
}

static bool is_between_messages(const struct peer *peer)
{
	return !peer->pending && peer->in->got == 0;
}

int peers_take(struct vhc_transport *t, struct peer *peer)
{
	if (peer->listens ? has_unannounced(t, peer) : !is_between_messages(peer))
		return -EBUSY;
	int fd = peer->fd;
	epoll_ctl(t->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	peer->fd = -1; /* neither closed nor shut down with the peer */
	peers_forget(t, peer);
	return fd;
}

/* ---- Upcalls ---- */

static int post_type(struct vhc_transport *t, struct peer *peer, uint32_t type)
{
	struct upcall_event event = {.type = type, .id = peer->id, .status = peer->status};
	if (type == VHC_UPCALL_ACCEPTED) {
		event.id = peer->listener;
		event.arg = peer->id;
	}
	if (type != VHC_UPCALL_MESSAGE)
		return upcall_post(t->upcalls, &event, NULL, 0, NULL, 0);
	struct message *in = peer->in;
	int err = upcall_post(t->upcalls, &event, in->data, in->got, in->fds, in->num_fds);
	if (!err)
		in->num_fds = in->got = 0; /* the reader has the descriptors now */
	return err;
}

void peer_post(struct vhc_transport *t, struct peer *peer, uint32_t type)
{
	if (post_type(t, peer, type) < 0) {
		if (!peer->pending) {
			t->num_pending++;
			transport_wake(t); /* it may sleep without a timeout */
		}
		peer->pending = type;
		return;
	}
	if (peer->pending)
		t->num_pending--;
	peer->pending = 0;
	if (type == VHC_UPCALL_CLOSED)
		peers_forget(t, peer);
}

void peers_retry(struct vhc_transport *t)
{
	/* From the end, since a peer may go; each has one upcall, so their order is free. */
	for (uint32_t i = t->num_peers; i-- > 0 && t->num_pending;)
		if (t->peers[i]->pending)
			peer_post(t, t->peers[i], t->peers[i]->pending);
}

void peer_close(struct vhc_transport *t, struct peer *peer, int32_t status)
{
	/* Of one that was never announced nobody waits to hear the end. */
	if (peer->pending == VHC_UPCALL_ACCEPTED) {
		peers_forget(t, peer);
		return;
	}
	shut(t, peer);
	peer->status = status;
	peer_post(t, peer, VHC_UPCALL_CLOSED);
}
