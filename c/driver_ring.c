/* SPDX-License-Identifier: MIT */
/* The driver side of a virtqueue: what does not run once per request. */
#include "driver_ring.h"

#include <fcntl.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u

int vhc_driver_ring_layout(uint32_t size, uint64_t features, struct vhc_driver_ring_layout *out)
{
	const bool packed = features >> VIRTIO_F_RING_PACKED & 1;
	if (size == 0 || size > VHC_RING_MAX_SIZE || (!packed && (size & (size - 1))))
		return -EINVAL;
	if (packed)
		driver_packed_layout(size, out);
	else
		driver_split_layout(size, out);
	out->bytes = (out->bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	return 0;
}

static void free_ring(struct vhc_driver_ring *ring)
{
	if (ring->kick_fd >= 0)
		close(ring->kick_fd);
	if (ring->call_fd >= 0)
		close(ring->call_fd);
	if (ring->packed)
		free(ring->of_packed.chains);
	free(ring->chains);
	free(ring->next);
	free(ring);
}

static int duplicate(int fd, int *out)
{
	*out = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd >= 0 && *out < 0 ? -errno : 0;
}

static int place(struct vhc_driver_ring *ring, uint64_t addr)
{
	if (ring->packed)
		return driver_packed_place(ring, addr);
	driver_split_place(ring, addr);
	return 0;
}

static int fill_in(struct vhc_driver_ring *ring, const struct vhc_driver_ring_config *config)
{
	ring->size = ring->num_free = config->size;
	ring->gpa_delta = config->gpa_delta;
	ring->stats = (struct vhc_stats *)config->stats;
	ring->packed = config->features >> VIRTIO_F_RING_PACKED & 1;
	ring->event_idx = config->features >> VIRTIO_RING_F_EVENT_IDX & 1;
	ring->indirect = config->features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	ring->chains = calloc(ring->size, sizeof(*ring->chains));
	ring->next = calloc(ring->size, sizeof(*ring->next));
	if (!ring->chains || !ring->next)
		return -ENOMEM;
	for (uint32_t i = 0; i < ring->size; i++)
		ring->next[i] = (uint16_t)(i + 1);
	int rc = place(ring, config->addr);
	if (rc == 0)
		rc = duplicate(config->kick_fd, &ring->kick_fd);
	return rc ? rc : duplicate(config->call_fd, &ring->call_fd);
}

int vhc_driver_ring_create(const struct vhc_driver_ring_config *config,
			   struct vhc_driver_ring **out)
{
	struct vhc_driver_ring_layout layout;
	int rc = vhc_driver_ring_layout(config->size, config->features, &layout);
	if (rc)
		return rc;
	if (config->addr == 0 || config->addr % PAGE)
		return -EINVAL;
	struct vhc_driver_ring *ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	ring->kick_fd = ring->call_fd = -1;
	atomic_init(&ring->refs, 1);
	rc = fill_in(ring, config);
	if (rc) {
		free_ring(ring);
		return rc;
	}
	driver_ring_disarm(ring);
	*out = ring;
	return 0;
}

void driver_ring_ref(struct vhc_driver_ring *ring)
{
	atomic_fetch_add_explicit(&ring->refs, 1, memory_order_relaxed);
}

void vhc_driver_ring_release(struct vhc_driver_ring *ring)
{
	if (atomic_fetch_sub_explicit(&ring->refs, 1, memory_order_acq_rel) == 1)
		free_ring(ring);
}

/* ---- Chains ---------------------------------------------------------------- */

int driver_ring_build(struct vhc_driver_ring *ring, const struct vhc_iov *iov, uint32_t num_out,
		      uint32_t num_in, uint64_t token, bool kept)
{
	uint64_t num = (uint64_t)num_out + num_in;
	if (num == 0 || num > ring->size)
		return -EINVAL;
	for (uint32_t i = 0; i < num; i++) {
		if (iov[i].len == 0 || iov[i].len > UINT32_MAX)
			return -EINVAL;
	}
	bool indirect = ring->indirect && num > 1 && num <= VHC_DRIVER_RING_INDIRECT;
	uint32_t count = indirect ? 1 : (uint32_t)num;
	if (count > ring->num_free)
		return -ENOSPC;
	uint16_t head = ring->packed
			    ? driver_packed_build(ring, iov, num_out, (uint32_t)num, indirect)
			    : driver_split_build(ring, iov, num_out, (uint32_t)num, indirect);
	ring->chains[head] = (struct driver_chain){
	    .token = token,
	    .count = (uint16_t)count,
	    .in_table = indirect ? (uint8_t)num : 0,
	    .kept = kept,
	};
	return head;
}

void driver_ring_drop(struct vhc_driver_ring *ring, uint16_t head)
{
	uint16_t count = ring->chains[head].count;
	uint16_t last = head;
	for (uint16_t i = 1; i < count; i++)
		last = ring->next[last];
	ring->next[last] = ring->first_free;
	ring->first_free = head;
	ring->num_free += count;
	ring->chains[head].count = 0;
}

int vhc_driver_ring_add(struct vhc_driver_ring *ring, const struct vhc_iov *iov, uint32_t num_out,
			uint32_t num_in, uint64_t token)
{
	int head = driver_ring_build(ring, iov, num_out, num_in, token, false);
	if (head < 0)
		return head;
	driver_ring_offer(ring, (uint16_t)head);
	return 0;
}

int vhc_driver_ring_kick(struct vhc_driver_ring *ring)
{
	return driver_ring_publish(ring);
}

int vhc_driver_ring_get(struct vhc_driver_ring *ring, uint64_t *token, uint32_t *len)
{
	int n = driver_ring_ready_as(ring, ring->packed);
	if (n <= 0)
		return n;
	int head = driver_ring_take_as(ring, ring->packed, len);
	if (head < 0)
		return head == -EAGAIN ? 0 : head;
	*token = ring->chains[head].token;
	if (!ring->chains[head].kept)
		driver_ring_drop(ring, (uint16_t)head);
	return 1;
}

/* ---- Notifications ------------------------------------------------------------ */

void driver_ring_notify(struct vhc_driver_ring *ring)
{
	uint64_t one = 1;
	/* EAGAIN: the counter is full, so a kick is pending anyway. */
	while (ring->kick_fd >= 0 && write(ring->kick_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

bool driver_ring_arm(struct vhc_driver_ring *ring)
{
	ring->armed = true;
	bool ready = ring->packed ? driver_packed_arm(ring) : driver_split_arm(ring);
	return ready || ring->broken;
}

void driver_ring_disarm(struct vhc_driver_ring *ring)
{
	ring->armed = false;
	if (ring->packed)
		driver_packed_disarm(ring);
	else
		driver_split_disarm(ring);
}

void driver_ring_take_call(struct vhc_driver_ring *ring)
{
	uint64_t count;
	while (read(ring->call_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	if (ring->stats)
		stats_add(&ring->stats->calls, 1);
}

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Sleeps until a call comes or a moment has passed. */
static void sleep_for_call(struct vhc_driver_ring *ring, int64_t timeout_ms)
{
	if (ring->call_fd < 0) {
		usleep(50);
		return;
	}
	struct pollfd call = {.fd = ring->call_fd, .events = POLLIN};
	if (poll(&call, 1, (int)timeout_ms) > 0)
		driver_ring_take_call(ring);
}

int vhc_driver_ring_wait(struct vhc_driver_ring *ring, int32_t timeout_ms)
{
	int64_t deadline = now_ms() + timeout_ms;
	bool ready = driver_ring_arm(ring);
	for (;;) {
		int64_t left = deadline - now_ms();
		if (ready || left <= 0)
			break;
		sleep_for_call(ring, left);
		ready = driver_ring_arm(ring);
	}
	driver_ring_disarm(ring);
	return ready;
}
