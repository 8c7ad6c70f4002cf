/* SPDX-License-Identifier: MIT */
/*
 * One thread that accepts connections and reads messages from them.
 *
 * A mutex guards everything and nothing blocks under it, so the control thread
 * changes connections in place; epoll events carry ids, which are never reused,
 * so an event for what has gone in the meantime finds nothing.
 */
#include "vhostctl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peers.h"

#define EVENTS 32
#define RETRY_MS 1	/* until upcalls that found the ring full are tried again */
#define PAUSE_MS 100	/* until a listener that could not accept tries again */
#define MESSAGE_MS 3000 /* from a message's first byte to its last */

/* ---- The thread ---- */

static void pause_listener(struct vhc_transport *t, struct peer *peer)
{
	peer_interest(t, peer, EPOLL_CTL_MOD, false);
	peer_set_due(t, peer, PAUSE_MS);
}

static void handle_due(struct vhc_transport *t)
{
	const uint64_t now = now_ms();
	/* From the end, since a peer may go. */
	for (uint32_t i = t->num_peers; i-- > 0 && t->num_due;) {
		struct peer *peer = t->peers[i];
		if (!peer->due_ms || peer->due_ms > now)
			continue;
		if (!peer->listens) {
			peer_close(t, peer, -ETIMEDOUT);
			continue;
		}
		peer_set_due(t, peer, 0);
		peer_interest(t, peer, EPOLL_CTL_MOD, true);
	}
}

static void accept_one(struct vhc_transport *t, struct peer *listener)
{
	int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		/* Out of descriptors or memory: the connection stays in the backlog. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			pause_listener(t, listener);
		return;
	}
	struct peer *peer = NULL;
	if (peers_add(t, fd, false, &peer) < 0) {
		close(fd);
		return;
	}
	peer->listener = listener->id;
	peer_post(t, peer, VHC_UPCALL_ACCEPTED);
	if (peer->pending)
		pause_listener(t, listener);
}

/*
 * Half a message may not be left lying: it can hold descriptors, even the
 * peer's own end, which would keep the connection open for ever.
 */
static void receive(struct vhc_transport *t, struct peer *peer)
{
	int result = message_receive(peer->in, peer->fd);
	if (result < 0) {
		peer_close(t, peer, result == -EPIPE ? 0 : result);
	} else if (result > 0) {
		peer_set_due(t, peer, 0);
		peer_interest(t, peer, EPOLL_CTL_MOD, false);
		peer_post(t, peer, VHC_UPCALL_MESSAGE);
	} else if (!peer->due_ms && peer->in->got) {
		peer_set_due(t, peer, MESSAGE_MS);
	}
}

static void handle(struct vhc_transport *t, const struct epoll_event *event)
{
	struct peer *peer = peers_find(t, (uint32_t)event->data.u64);
	if (!peer)
		return;
	if (peer->listens)
		accept_one(t, peer);
	else if (event->events & EPOLLIN)
		receive(t, peer);
	else /* hung up while its message is being answered, or before its first */
		peer_close(t, peer, 0);
}

static void drain_wake(const struct vhc_transport *t)
{
	uint64_t value;
	ssize_t n = read(t->wake_fd, &value, sizeof(value));
	(void)n;
}

/* How long to sleep: for ever, unless something is to be tried again or may come too late. */
static int timeout_ms(const struct vhc_transport *t)
{
	if (t->num_pending)
		return RETRY_MS;
	if (!t->num_due)
		return -1;
	uint64_t now = now_ms(), first = UINT64_MAX;
	for (uint32_t i = 0; i < t->num_peers; i++)
		if (t->peers[i]->due_ms && t->peers[i]->due_ms < first)
			first = t->peers[i]->due_ms;
	return now < first ? (int)(first - now) : 0;
}

static void turn(struct vhc_transport *t, const struct epoll_event *events, int n)
{
	if (t->num_pending)
		peers_retry(t);
	if (t->num_due)
		handle_due(t);
	for (int i = 0; i < n; i++) {
		if (events[i].data.u64 == WAKE_ID)
			drain_wake(t);
		else
			handle(t, &events[i]);
	}
}

static void *run(void *arg)
{
	struct vhc_transport *t = arg;
	struct epoll_event events[EVENTS];
	pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		int timeout = timeout_ms(t);
		pthread_mutex_unlock(&t->lock);
		int n = epoll_wait(t->epoll_fd, events, EVENTS, timeout);
		pthread_mutex_lock(&t->lock);
		turn(t, events, n);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* ---- Control ---- */

/* Signals are for the runtime's threads; what a fault raises stays deliverable. */
static int start_thread(struct vhc_transport *t)
{
	sigset_t blocked, old;
	sigfillset(&blocked);
	sigdelset(&blocked, SIGBUS);
	sigdelset(&blocked, SIGSEGV);
	sigdelset(&blocked, SIGFPE);
	sigdelset(&blocked, SIGILL);
	pthread_sigmask(SIG_SETMASK, &blocked, &old);
	int err = pthread_create(&t->thread, NULL, run, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		pthread_setname_np(t->thread, "vhc-transport");
	return -err;
}

static int open_fds(struct vhc_transport *t)
{
	t->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (t->epoll_fd < 0)
		return -errno;
	t->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (t->wake_fd < 0)
		return -errno;
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_ID};
	return epoll_ctl(t->epoll_fd, EPOLL_CTL_ADD, t->wake_fd, &event) < 0 ? -errno : 0;
}

static void close_fds(struct vhc_transport *t)
{
	if (t->wake_fd >= 0)
		close(t->wake_fd);
	if (t->epoll_fd >= 0)
		close(t->epoll_fd);
}

int vhc_transport_create(struct vhc_upcalls *upcalls, struct vhc_transport **out)
{
	struct vhc_transport *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->next_id = WAKE_ID + 1;
	t->upcalls = upcalls;
	t->epoll_fd = t->wake_fd = -1;
	pthread_mutex_init(&t->lock, NULL);
	int err = open_fds(t);
	if (!err)
		err = start_thread(t);
	if (err) {
		close_fds(t);
		pthread_mutex_destroy(&t->lock);
		free(t);
		return err;
	}
	upcalls_ref(upcalls);
	*out = t;
	return 0;
}

/* Duplicates fd, makes it non-blocking and adds it. Returns the id. */
static int adopt(struct vhc_transport *t, int32_t fd, bool listens)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return -errno;
	int flags = fcntl(own, F_GETFL);
	int err = flags < 0 || fcntl(own, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
	struct peer *peer = NULL;
	pthread_mutex_lock(&t->lock);
	if (!err)
		err = peers_add(t, own, listens, &peer);
	int id = err ? err : (int)peer->id;
	pthread_mutex_unlock(&t->lock);
	if (err)
		close(own);
	return id;
}

int vhc_transport_listen(struct vhc_transport *transport, int32_t fd)
{
	int listens = 0;
	socklen_t len = sizeof(listens);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0)
		return -errno;
	if (!listens)
		return -EINVAL;
	return adopt(transport, fd, true);
}

int vhc_transport_connect(struct vhc_transport *transport, int32_t fd)
{
	return adopt(transport, fd, false);
}

int vhc_transport_next(struct vhc_transport *transport, uint32_t id)
{
	pthread_mutex_lock(&transport->lock);
	const struct peer *peer = peers_find(transport, id);
	int result = -ENOENT;
	/* One whose message still waits for room has not delivered it yet. */
	if (peer && !peer->listens)
		result = peer->pending ? 0 : peer_interest(transport, peer, EPOLL_CTL_MOD, true);
	pthread_mutex_unlock(&transport->lock);
	return result;
}

int vhc_transport_send(struct vhc_transport *transport, uint32_t id, const uint8_t *message,
		       uint32_t len, const int32_t *fds, uint32_t num_fds)
{
	pthread_mutex_lock(&transport->lock);
	struct peer *peer = peers_find(transport, id);
	int result = -ENOENT;
	if (peer && !peer->listens)
		result = message_send(peer->fd, message, len, fds, num_fds);
	/* Perhaps part of it went: nothing that follows would make sense to the peer. */
	if (result == -EPIPE)
		peer_close(transport, peer, -EPIPE);
	pthread_mutex_unlock(&transport->lock);
	return result;
}

int vhc_transport_close(struct vhc_transport *transport, uint32_t id)
{
	pthread_mutex_lock(&transport->lock);
	struct peer *peer = peers_find(transport, id);
	if (peer && peer->listens)
		peers_forget(transport, peer);
	else if (peer)
		peer_close(transport, peer, 0);
	pthread_mutex_unlock(&transport->lock);
	return peer ? 0 : -ENOENT;
}

int vhc_transport_take(struct vhc_transport *transport, uint32_t id)
{
	pthread_mutex_lock(&transport->lock);
	struct peer *peer = peers_find(transport, id);
	int result = peer ? peers_take(transport, peer) : -ENOENT;
	pthread_mutex_unlock(&transport->lock);
	return result;
}

void vhc_transport_release(struct vhc_transport *transport)
{
	pthread_mutex_lock(&transport->lock);
	transport->stop = true;
	transport_wake(transport);
	pthread_mutex_unlock(&transport->lock);
	pthread_join(transport->thread, NULL);
	while (transport->num_peers)
		peers_forget(transport, transport->peers[transport->num_peers - 1]);
	free(transport->peers);
	close_fds(transport);
	pthread_mutex_destroy(&transport->lock);
	vhc_upcalls_release(transport->upcalls);
	free(transport);
}
