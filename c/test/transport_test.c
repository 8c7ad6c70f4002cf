/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "check.h"
#include "message.h"
#include "reader.h"

#define PATIENCE_MS 10000
#define QUIET_MS 30 /* how long nothing is waited for */

static struct reader reader;
static struct vhc_transport *transport;
static char directory[64], path[80];
static int fds_before, listen_fd;
static uint32_t listener;

static void set_up(void)
{
	fds_before = check_open_fds();
	strcpy(directory, "/tmp/vhc-transport-XXXXXX");
	REQUIRE(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	REQUIRE(reader_open(&reader));
	REQUIRE_EQ(vhc_transport_create(reader.upcalls, &transport), 0);
	listen_fd = vhc_socket_listen(path, 0600);
	REQUIRE(listen_fd >= 0);
	listener = (uint32_t)vhc_transport_listen(transport, listen_fd);
}

/* Every test ends with as many descriptors as it began with. */
static void tear_down(void)
{
	vhc_transport_release(transport);
	reader_close(&reader);
	close(listen_fd);
	unlink(path);
	rmdir(directory);
	CHECK_EQ(check_open_fds(), fds_before);
}

static const struct vhc_upcall *expect(uint32_t type, uint32_t id)
{
	static const struct vhc_upcall none;
	const struct vhc_upcall *up = reader_next(&reader, PATIENCE_MS);
	CHECK(up != NULL);
	if (!up)
		return &none;
	CHECK_EQ(up->type, type);
	CHECK_EQ(up->id, id);
	return up;
}

static void expect_closed(uint32_t id, int32_t status)
{
	CHECK_EQ(expect(VHC_UPCALL_CLOSED, id)->status, status);
}

/* Connects; *fd is the peer's end. Returns the connection's id. */
static uint32_t connect_peer(int *fd)
{
	*fd = vhc_socket_connect(path);
	CHECK(*fd >= 0);
	return (uint32_t)expect(VHC_UPCALL_ACCEPTED, listener)->arg;
}

static uint32_t build(uint8_t *out, uint32_t request, uint32_t size)
{
	const uint32_t header[3] = {request, 1, size};
	memcpy(out, header, sizeof(header));
	for (uint32_t i = 0; i < size && i < VHC_MSG_MAX; i++)
		out[MESSAGE_HEADER + i] = (uint8_t)(request + i);
	return MESSAGE_HEADER + size;
}

static void send_message(int fd, uint32_t request, uint32_t size, const int *fds, uint32_t num_fds)
{
	uint8_t data[MESSAGE_HEADER + VHC_MSG_MAX];
	uint32_t len = build(data, request, size);
	CHECK_EQ(message_send(fd, data, len, fds, num_fds), 0);
}

static void expect_message(uint32_t id, uint32_t request, uint32_t size, uint32_t num_fds)
{
	uint8_t data[MESSAGE_HEADER + VHC_MSG_MAX];
	const struct vhc_upcall *up = expect(VHC_UPCALL_MESSAGE, id);
	uint32_t len = build(data, request, size);
	CHECK_EQ(up->num_fds, num_fds);
	CHECK_EQ(up->len, len);
	if (up->len == len)
		CHECK_EQ(memcmp(up->data, data, len), 0);
	for (uint32_t i = 0; i < up->num_fds; i++) {
		CHECK_EQ(fcntl(up->fds[i], F_GETFD), FD_CLOEXEC);
		vhc_fd_close(up->fds[i]);
	}
}

static void messages_come_one_at_a_time(void)
{
	int fd, sent[VHC_MSG_MAX_FDS];
	set_up();
	uint32_t id = connect_peer(&fd);
	for (uint32_t i = 0; i < VHC_MSG_MAX_FDS; i++)
		sent[i] = fd;
	send_message(fd, 1, 0, NULL, 0);
	send_message(fd, 2, VHC_MSG_MAX, sent, VHC_MSG_MAX_FDS);
	send_message(fd, 3, 8, sent, 1);
	CHECK(!reader_next(&reader, QUIET_MS)); /* a new connection waits to be asked */
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	expect_message(id, 1, 0, 0);
	CHECK(!reader_next(&reader, QUIET_MS));
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	expect_message(id, 2, VHC_MSG_MAX, VHC_MSG_MAX_FDS);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	expect_message(id, 3, 8, 1);
	close(fd);
	expect_closed(id, 0);
	CHECK_EQ(vhc_transport_next(transport, id), -ENOENT);
	tear_down();
}

static void a_message_in_single_bytes(void)
{
	uint8_t data[MESSAGE_HEADER + 20];
	int fd;
	set_up();
	uint32_t id = connect_peer(&fd);
	uint32_t len = build(data, 9, 20);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	for (uint32_t i = 0; i < len; i++) /* a descriptor with every other byte */
		CHECK_EQ(message_send(fd, data + i, 1, &fd, i & 1), 0);
	expect_message(id, 9, 20, len / 2);
	close(fd);
	expect_closed(id, 0);
	tear_down();
}

static void cut_off(uint32_t bytes, int32_t status)
{
	uint8_t data[MESSAGE_HEADER + 20];
	int fd;
	uint32_t id = connect_peer(&fd);
	int sent = vhc_eventfd();
	build(data, 9, 20);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	if (bytes)
		CHECK_EQ(message_send(fd, data, bytes, &sent, 1), 0);
	close(sent);
	close(fd);
	expect_closed(id, status);
}

static void cut_off_messages(void)
{
	set_up();
	cut_off(0, 0);
	cut_off(1, -EPROTO);
	cut_off(MESSAGE_HEADER - 1, -EPROTO);
	cut_off(MESSAGE_HEADER, -EPROTO);
	cut_off(MESSAGE_HEADER + 19, -EPROTO);
	tear_down();
}

/* Half a message that holds the peer's own end: no hang-up will ever be seen. */
static void half_a_message_is_not_waited_for_for_ever(void)
{
	uint8_t data[MESSAGE_HEADER + 20];
	int fd;
	set_up();
	uint32_t id = connect_peer(&fd);
	build(data, 9, 20);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	CHECK_EQ(message_send(fd, data, 20, &fd, 1), 0);
	close(fd);
	expect_closed(id, -ETIMEDOUT);
	tear_down();
}

static void too_long_a_message(void)
{
	uint8_t data[MESSAGE_HEADER];
	const uint32_t sizes[] = {VHC_MSG_MAX + 1, UINT32_MAX, UINT32_MAX - 11};
	set_up();
	for (int i = 0; i < 3; i++) {
		int fd;
		uint32_t id = connect_peer(&fd);
		build(data, 1, 0);
		memcpy(data + 8, &sizes[i], 4);
		CHECK_EQ(vhc_transport_next(transport, id), 0);
		CHECK_EQ(message_send(fd, data, sizeof(data), &fd, 1), 0);
		expect_closed(id, -EMSGSIZE);
		close(fd);
	}
	tear_down();
}

/* More in one go than message_send would send. */
static void send_many_fds(int fd, const void *data, size_t len, int num_fds)
{
	char control[CMSG_SPACE(64 * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)data, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
	msg.msg_controllen = CMSG_SPACE((size_t)num_fds * sizeof(int));
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN((size_t)num_fds * sizeof(int));
	for (int i = 0; i < num_fds; i++)
		memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fd, sizeof(int));
	CHECK_EQ(sendmsg(fd, &msg, MSG_NOSIGNAL), len);
}

static void too_many_descriptors(void)
{
	uint8_t data[MESSAGE_HEADER + 4];
	int fd;
	set_up();
	uint32_t id = connect_peer(&fd);
	build(data, 1, 4);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	send_many_fds(fd, data, sizeof(data), VHC_MSG_MAX_FDS + 1); /* the kernel cuts them short */
	expect_closed(id, -E2BIG);
	close(fd);
	id = connect_peer(&fd);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	send_many_fds(fd, data, 8, 20); /* two halves of a message */
	send_many_fds(fd, data + 8, 8, 13);
	expect_closed(id, -E2BIG);
	close(fd);
	tear_down();
}

static void hang_up_is_seen_while_a_message_is_held(void)
{
	int fd;
	set_up();
	uint32_t id = connect_peer(&fd);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	send_message(fd, 1, 4, NULL, 0);
	expect_message(id, 1, 4, 0);
	int queued = vhc_eventfd();
	send_message(fd, 2, 4, &queued, 1);
	close(queued);
	close(fd);
	expect_closed(id, 0);
	CHECK_EQ(vhc_transport_send(transport, id, (const uint8_t *)"x", 1, NULL, 0), -ENOENT);
	id = connect_peer(&fd); /* and before the first is asked for */
	close(fd);
	expect_closed(id, 0);
	tear_down();
}

/* A peer that has said all it has to say may still want to hear. */
static void half_closed_peer_is_answered(void)
{
	uint8_t data[MESSAGE_HEADER + 4];
	int fd;
	set_up();
	uint32_t id = connect_peer(&fd);
	send_message(fd, 1, 4, NULL, 0);
	send_message(fd, 2, 4, NULL, 0);
	shutdown(fd, SHUT_WR);
	for (uint32_t i = 1; i <= 2; i++) {
		CHECK_EQ(vhc_transport_next(transport, id), 0);
		expect_message(id, i, 4, 0);
		build(data, i, 4);
		CHECK_EQ(vhc_transport_send(transport, id, data, sizeof(data), NULL, 0), 0);
		CHECK_EQ(recv(fd, data, sizeof(data), 0), sizeof(data));
	}
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	expect_closed(id, 0);
	close(fd);
	tear_down();
}

static void send_delivers_descriptors(void)
{
	struct message in = {0};
	uint8_t data[MESSAGE_HEADER + 4];
	int fd;
	set_up();
	uint32_t id = connect_peer(&fd);
	uint32_t len = build(data, 5, 4);
	CHECK_EQ(vhc_transport_send(transport, id, data, len, &fd, 1), 0);
	CHECK_EQ(message_receive(&in, fd), 1);
	CHECK_EQ(in.got, len);
	CHECK_EQ(in.num_fds, 1);
	message_reset(&in);
	CHECK_EQ(vhc_transport_send(transport, id, data, 0, NULL, 0), -EINVAL);
	CHECK_EQ(vhc_transport_send(transport, id, data, len, &fd, 33), -EINVAL);
	const int bad = -1;
	CHECK_EQ(vhc_transport_send(transport, id, data, len, &bad, 1), -EBADF);
	CHECK_EQ(vhc_transport_send(transport, listener, data, len, NULL, 0), -ENOENT);
	close(fd);
	expect_closed(id, 0);
	tear_down();
}

/* Whole messages until there is no room, and then not a part of one. */
static void send_to_a_peer_that_does_not_read(void)
{
	struct message in = {0};
	uint8_t data[MESSAGE_HEADER + 4000];
	int fd, result, sent = 0, received = 0;
	set_up();
	uint32_t id = connect_peer(&fd);
	uint32_t len = build(data, 5, 4000);
	while ((result = vhc_transport_send(transport, id, data, len, NULL, 0)) == 0)
		sent++;
	CHECK_EQ(result, -EAGAIN);
	CHECK(sent > 0);
	for (; message_receive(&in, fd) == 1; received++) {
		CHECK_EQ(memcmp(in.data, data, len), 0);
		message_reset(&in);
	}
	CHECK_EQ(received, sent);
	CHECK_EQ(in.got, 0);
	CHECK_EQ(vhc_transport_send(transport, id, data, len, NULL, 0), 0);
	close(fd);
	expect_closed(id, 0);
	tear_down();
}

static void close_tells_the_peer(void)
{
	int fd, pair[2];
	char byte;
	set_up();
	uint32_t id = connect_peer(&fd);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	CHECK_EQ(message_send(fd, (const uint8_t *)"part", 4, &fd, 1), 0);
	CHECK_EQ(vhc_transport_close(transport, id), 0);
	expect_closed(id, 0);
	CHECK_EQ(vhc_transport_close(transport, id), -ENOENT);
	CHECK(check_readable(fd, PATIENCE_MS));
	CHECK(recv(fd, &byte, 1, 0) <= 0);
	close(fd);

	/* One that was given to the transport, whose giver keeps his descriptor. */
	REQUIRE_EQ(vhc_socket_pair(pair), 0);
	id = (uint32_t)vhc_transport_connect(transport, pair[0]);
	CHECK_EQ(vhc_transport_close(transport, id), 0);
	expect_closed(id, 0);
	CHECK(check_readable(pair[1], PATIENCE_MS));
	CHECK_EQ(recv(pair[1], &byte, 1, 0), 0);
	CHECK(!reader_next(&reader, QUIET_MS));
	close(pair[0]);
	close(pair[1]);

	CHECK_EQ(vhc_transport_close(transport, listener), 0);
	close(listen_fd);
	listen_fd = -1;
	CHECK_EQ(vhc_socket_connect(path), -ECONNREFUSED);
	tear_down();
}

#define MANY 300 /* more than the upcall ring holds */

static void many_connections(void)
{
	static int peers[MANY];
	static uint32_t ids[MANY];
	set_up();
	for (int i = 0; i < MANY; i++) {
		ids[i] = connect_peer(&peers[i]);
		CHECK_EQ(vhc_transport_next(transport, ids[i]), 0);
		CHECK(i == 0 || ids[i] > ids[i - 1]);
	}
	/* Nobody reads meanwhile: what does not fit must wait and not be lost. */
	for (int i = 0; i < MANY; i++)
		send_message(peers[i], 1, 4, &peers[i], 1);
	struct timespec pause = {.tv_nsec = 20000000};
	nanosleep(&pause, NULL);
	uint64_t seen = 0;
	for (int i = 0; i < MANY; i++) {
		const struct vhc_upcall *up = reader_next(&reader, PATIENCE_MS);
		REQUIRE(up);
		CHECK_EQ(up->type, VHC_UPCALL_MESSAGE);
		CHECK_EQ(up->num_fds, 1);
		seen += up->id;
		vhc_fd_close(up->fds[0]);
	}
	for (int i = 0; i < MANY; i++) {
		seen -= ids[i];
		close(peers[i]);
	}
	CHECK_EQ(seen, 0);
	for (int i = 0; i < MANY; i++) {
		const struct vhc_upcall *up = reader_next(&reader, PATIENCE_MS);
		REQUIRE(up);
		CHECK_EQ(up->type, VHC_UPCALL_CLOSED);
	}
	tear_down();
}

static void release_with_everything_open(void)
{
	int fd, other;
	set_up();
	uint32_t id = connect_peer(&fd);
	connect_peer(&other);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	send_message(fd, 1, 4, &fd, 1);
	close(fd);
	/* The message, with its descriptor, may or may not have come: neither leaks. */
	vhc_transport_release(transport);
	close(other);
	reader_close(&reader);
	close(listen_fd);
	unlink(path);
	rmdir(directory);
	CHECK_EQ(check_open_fds(), fds_before);
}

/* Out of descriptors: the listener pauses, does not spin, and comes back. */
static void out_of_descriptors(void)
{
	struct rlimit old, tight;
	set_up();
	int fd = vhc_socket_connect(path); /* before the limit, accepted at the earliest after */
	uint32_t id = (uint32_t)expect(VHC_UPCALL_ACCEPTED, listener)->arg;
	int extra = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	REQUIRE_EQ(getpeername(fd, (struct sockaddr *)&addr, &len), 0);
	REQUIRE_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = (rlim_t)extra + 1;
	REQUIRE_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
	REQUIRE_EQ(connect(extra, (struct sockaddr *)&addr, len), 0);
	struct timespec start, end;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	CHECK(!reader_next(&reader, 250));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	CHECK(end.tv_sec == start.tv_sec && end.tv_nsec - start.tv_nsec < 100000000);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
	uint32_t late = (uint32_t)expect(VHC_UPCALL_ACCEPTED, listener)->arg;
	CHECK(late > id);
	close(fd);
	close(extra);
	reader_next(&reader, PATIENCE_MS);
	reader_next(&reader, PATIENCE_MS);
	tear_down();
}

/* What waits in the socket is for whoever reads it next. */
static void a_connection_is_taken_out_between_two_messages(void)
{
	uint8_t data[MESSAGE_HEADER + 8];
	int fd;
	set_up();
	uint32_t id = connect_peer(&fd);
	CHECK_EQ(vhc_transport_next(transport, id), 0);
	send_message(fd, 1, 8, NULL, 0);
	expect_message(id, 1, 8, 0);
	send_message(fd, 2, 8, &fd, 1); /* not asked for yet */
	int taken = vhc_transport_take(transport, id);
	REQUIRE(taken >= 0);
	CHECK_EQ(vhc_transport_take(transport, id), -ENOENT);
	CHECK_EQ(vhc_transport_next(transport, id), -ENOENT);
	CHECK(!reader_next(&reader, QUIET_MS));
	uint32_t again = (uint32_t)vhc_transport_connect(transport, taken);
	close(taken);
	CHECK(again != id);
	CHECK_EQ(vhc_transport_next(transport, again), 0);
	expect_message(again, 2, 8, 1);
	CHECK_EQ(vhc_transport_next(transport, again), 0);
	build(data, 3, 8);
	CHECK_EQ(message_send(fd, data, 5, NULL, 0), 0);
	int busy = vhc_transport_take(transport, again);
	for (int i = 0; busy >= 0 && i < PATIENCE_MS; i++) { /* it had not been read yet */
		again = (uint32_t)vhc_transport_connect(transport, busy);
		close(busy);
		vhc_transport_next(transport, again);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		busy = vhc_transport_take(transport, again);
	}
	CHECK_EQ(busy, -EBUSY);
	CHECK_EQ(message_send(fd, data + 5, sizeof(data) - 5, NULL, 0), 0);
	expect_message(again, 3, 8, 0);
	close(fd);
	expect_closed(again, 0);
	CHECK_EQ(vhc_transport_take(transport, again), -ENOENT);
	tear_down();
}

static void a_listener_is_taken_out(void)
{
	set_up();
	int taken = vhc_transport_take(transport, listener);
	REQUIRE(taken >= 0);
	int fd = vhc_socket_connect(path); /* it waits */
	CHECK(fd >= 0);
	CHECK(!reader_next(&reader, QUIET_MS));
	listener = (uint32_t)vhc_transport_listen(transport, taken);
	close(taken);
	uint32_t id = (uint32_t)expect(VHC_UPCALL_ACCEPTED, listener)->arg;
	close(fd);
	expect_closed(id, 0);
	tear_down();
}

static void sockets(void)
{
	struct stat st;
	char name[200];
	set_up();
	CHECK_EQ(vhc_socket_listen(path, 0600), -EADDRINUSE);
	snprintf(name, sizeof(name), "%s/%0120d", directory, 0);
	CHECK_EQ(vhc_socket_listen(name, 0600), -ENAMETOOLONG);
	CHECK_EQ(vhc_socket_connect(name), -ENAMETOOLONG);
	CHECK_EQ(vhc_socket_connect(""), -EINVAL);
	snprintf(name, sizeof(name), "%s/absent", directory);
	CHECK_EQ(vhc_socket_connect(name), -ENOENT);
	mode_t mask = umask(077);
	int fd = vhc_socket_listen(name, 0666);
	CHECK(fd >= 0);
	CHECK_EQ(stat(name, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0666);
	CHECK_EQ(umask(mask), 077);
	unlink(name);
	CHECK_EQ(vhc_transport_listen(transport, -1), -EBADF);
	CHECK_EQ(vhc_transport_connect(transport, -1), -EBADF);
	int not_listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_EQ(vhc_transport_listen(transport, not_listening), -EINVAL);
	close(not_listening);
	close(fd);
	tear_down();
}

int main(void)
{
	RUN(messages_come_one_at_a_time);
	RUN(a_message_in_single_bytes);
	RUN(cut_off_messages);
	RUN(half_a_message_is_not_waited_for_for_ever);
	RUN(too_long_a_message);
	RUN(too_many_descriptors);
	RUN(hang_up_is_seen_while_a_message_is_held);
	RUN(half_closed_peer_is_answered);
	RUN(send_delivers_descriptors);
	RUN(send_to_a_peer_that_does_not_read);
	RUN(close_tells_the_peer);
	RUN(many_connections);
	RUN(release_with_everything_open);
	RUN(out_of_descriptors);
	RUN(a_connection_is_taken_out_between_two_messages);
	RUN(a_listener_is_taken_out);
	RUN(sockets);
	return check_report();
}
