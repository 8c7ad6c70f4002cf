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
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "message.h"
#include "upcall.h"

#define EVENTS 32
#define RETRY_MS 1	/* until upcalls that found the ring full are tried again */
#define PAUSE_MS 100	/* until a listener that could not accept tries again */
#define MESSAGE_MS 3000 /* from a message's first byte to its last */
#define WAKE_ID 0u	/* the eventfd's in epoll; no peer has it */

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

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void wake(struct vhc_transport *t)
{
	const uint64_t one = 1;
	ssize_t n = write(t->wake_fd, &one, sizeof(one));
	(void)n; /* it fails only when it is readable already */
}

/* ---- The table of peers ---- */

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

/* The open peer of that id, or NULL. */
static struct peer *find(const struct vhc_transport *t, uint32_t id)
{
	uint32_t i = position(t, id);
	if (i == t->num_peers || t->peers[i]->id != id || t->peers[i]->fd < 0)
		return NULL;
	return t->peers[i];
}

static int interest(const struct vhc_transport *t, const struct peer *peer, int op, bool readable)
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

/* Makes a peer of fd, which it takes over on success. Listeners start readable. */
static int add_peer(struct vhc_transport *t, int fd, bool listens, struct peer **out)
{
	int err = make_room(t);
	if (err)
		return err;
	struct peer *peer = new_peer(fd, listens);
	if (!peer)
		return -ENOMEM;
	peer->id = t->next_id;
	err = interest(t, peer, EPOLL_CTL_ADD, listens);
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

/* Sets when the peer is to be looked at though nothing happens; after_ms 0: never. */
static void set_due(struct vhc_transport *t, struct peer *peer, uint64_t after_ms)
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
	set_due(t, peer, 0);
	if (peer->pending)
		t->num_pending--;
	peer->pending = 0;
}

static void forget(struct vhc_transport *t, struct peer *peer)
{
	uint32_t i = position(t, peer->id);
	shut(t, peer);
	t->num_peers--;
	memmove(&t->peers[i], &t->peers[i + 1], (t->num_peers - i) * sizeof(struct peer *));
	free(peer->in);
	free(peer);
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

/* Posts an upcall, or leaves it to be tried again. Frees a peer that has said CLOSED. */
static void post(struct vhc_transport *t, struct peer *peer, uint32_t type)
{
	if (post_type(t, peer, type) < 0) {
		if (!peer->pending) {
			t->num_pending++;
			wake(t); /* it may sleep without a timeout */
		}
		peer->pending = type;
		return;
	}
	if (peer->pending)
		t->num_pending--;
	peer->pending = 0;
	if (type == VHC_UPCALL_CLOSED)
		forget(t, peer);
}

static void retry_pending(struct vhc_transport *t)
{
	/* From the end, since a peer may go; each has one upcall, so their order is free. */
	for (uint32_t i = t->num_peers; i-- > 0 && t->num_pending;)
		if (t->peers[i]->pending)
			post(t, t->peers[i], t->peers[i]->pending);
}

static void close_connection(struct vhc_transport *t, struct peer *peer, int32_t status)
{
	/* Of one that was never announced nobody waits to hear the end. */
	if (peer->pending == VHC_UPCALL_ACCEPTED) {
		forget(t, peer);
		return;
	}
	shut(t, peer);
	peer->status = status;
	post(t, peer, VHC_UPCALL_CLOSED);
}

/* ---- The thread ---- */

static void pause_listener(struct vhc_transport *t, struct peer *peer)
{
	interest(t, peer, EPOLL_CTL_MOD, false);
	set_due(t, peer, PAUSE_MS);
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
			close_connection(t, peer, -ETIMEDOUT);
			continue;
		}
		set_due(t, peer, 0);
		interest(t, peer, EPOLL_CTL_MOD, true);
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
	if (add_peer(t, fd, false, &peer) < 0) {
		close(fd);
		return;
	}
	peer->listener = listener->id;
	post(t, peer, VHC_UPCALL_ACCEPTED);
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
		close_connection(t, peer, result == -EPIPE ? 0 : result);
	} else if (result > 0) {
		set_due(t, peer, 0);
		interest(t, peer, EPOLL_CTL_MOD, false);
		post(t, peer, VHC_UPCALL_MESSAGE);
	} else if (!peer->due_ms && peer->in->got) {
		set_due(t, peer, MESSAGE_MS);
	}
}

static void handle(struct vhc_transport *t, const struct epoll_event *event)
{
	struct peer *peer = find(t, (uint32_t)event->data.u64);
	if (!peer)
		return;
	if (peer->listens)
		accept_one(t, peer);
	else if (event->events & EPOLLIN)
		receive(t, peer);
	else /* hung up while its message is being answered, or before its first */
		close_connection(t, peer, 0);
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
		retry_pending(t);
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
		err = add_peer(t, own, listens, &peer);
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
	const struct peer *peer = find(transport, id);
	int result = -ENOENT;
	/* One whose message still waits for room has not delivered it yet. */
	if (peer && !peer->listens)
		result = peer->pending ? 0 : interest(transport, peer, EPOLL_CTL_MOD, true);
	pthread_mutex_unlock(&transport->lock);
	return result;
}

int vhc_transport_send(struct vhc_transport *transport, uint32_t id, const uint8_t *message,
		       uint32_t len, const int32_t *fds, uint32_t num_fds)
{
	pthread_mutex_lock(&transport->lock);
	struct peer *peer = find(transport, id);
	int result = -ENOENT;
	if (peer && !peer->listens)
		result = message_send(peer->fd, message, len, fds, num_fds);
	/* Perhaps part of it went: nothing that follows would make sense to the peer. */
	if (result == -EPIPE)
		close_connection(transport, peer, -EPIPE);
	pthread_mutex_unlock(&transport->lock);
	return result;
}

int vhc_transport_close(struct vhc_transport *transport, uint32_t id)
{
	pthread_mutex_lock(&transport->lock);
	struct peer *peer = find(transport, id);
	if (peer && peer->listens)
		forget(transport, peer);
	else if (peer)
		close_connection(transport, peer, 0);
	pthread_mutex_unlock(&transport->lock);
	return peer ? 0 : -ENOENT;
}

void vhc_transport_release(struct vhc_transport *transport)
{
	pthread_mutex_lock(&transport->lock);
	transport->stop = true;
	wake(transport);
	pthread_mutex_unlock(&transport->lock);
	pthread_join(transport->thread, NULL);
	while (transport->num_peers)
		forget(transport, transport->peers[transport->num_peers - 1]);
	free(transport->peers);
	close_fds(transport);
	pthread_mutex_destroy(&transport->lock);
	vhc_upcalls_release(transport->upcalls);
	free(transport);
}
