/* SPDX-License-Identifier: MIT */
/* The driver side of a split virtqueue: what does not run once per request. */
#include "driver_ring.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PART_ALIGN 128u /* the two sides write different pairs of cache lines */

static uint64_t align_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

static uint64_t tables_offset(uint32_t size, uint64_t used)
{
	return align_up(used + sizeof(struct vring_used) + sizeof(struct vring_used_elem) * size +
			    sizeof(uint16_t),
			PART_ALIGN);
}

int vhc_driver_ring_layout(uint32_t size, struct vhc_driver_ring_layout *out)
{
	if (size == 0 || size > VHC_RING_MAX_SIZE || (size & (size - 1)))
		return -EINVAL;
	out->avail = align_up(sizeof(struct vring_desc) * (uint64_t)size, PART_ALIGN);
	out->used = align_up(out->avail + sizeof(struct vring_avail) + sizeof(uint16_t) * size +
				 sizeof(uint16_t),
			     PART_ALIGN);
	uint64_t tables = tables_offset(size, out->used);
	out->bytes = align_up(
	    tables + sizeof(struct vring_desc) * VHC_DRIVER_RING_INDIRECT * (uint64_t)size, 4096);
	return 0;
}

static void place(struct vhc_driver_ring *ring, uint64_t addr,
		  const struct vhc_driver_ring_layout *layout)
{
	struct vring_avail *avail = (struct vring_avail *)(addr + layout->avail);
	struct vring_used *used = (struct vring_used *)(addr + layout->used);
	ring->desc = (struct vring_desc *)addr;
	ring->avail_flags = &avail->flags;
	ring->avail_idx = &avail->idx;
	ring->avail_ring = avail->ring;
	ring->used_event = &avail->ring[ring->size];
	ring->used_flags = &used->flags;
	ring->used_idx = &used->idx;
	ring->used_ring = used->ring;
	ring->avail_event = (const uint16_t *)&used->ring[ring->size];
	ring->tables = (struct vring_desc *)(addr + tables_offset(ring->size, layout->used));
}

static void free_ring(struct vhc_driver_ring *ring)
{
	if (ring->kick_fd >= 0)
		close(ring->kick_fd);
	if (ring->call_fd >= 0)
		close(ring->call_fd);
	free(ring->chains);
	free(ring->next);
	free(ring);
}

static int duplicate(int fd, int *out)
{
	*out = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd >= 0 && *out < 0 ? -errno : 0;
}

static int fill_in(struct vhc_driver_ring *ring, const struct vhc_driver_ring_config *config,
		   const struct vhc_driver_ring_layout *layout)
{
	ring->size = ring->num_free = config->size;
	ring->gpa_delta = config->gpa_delta;
	ring->stats = (struct vhc_stats *)config->stats;
	ring->event_idx = config->features >> VIRTIO_RING_F_EVENT_IDX & 1;
	ring->indirect = config->features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	ring->chains = calloc(ring->size, sizeof(*ring->chains));
	ring->next = calloc(ring->size, sizeof(*ring->next));
	if (!ring->chains || !ring->next)
		return -ENOMEM;
	for (uint32_t i = 0; i < ring->size; i++)
		ring->next[i] = (uint16_t)(i + 1);
	place(ring, config->addr, layout);
	int rc = duplicate(config->kick_fd, &ring->kick_fd);
	return rc ? rc : duplicate(config->call_fd, &ring->call_fd);
}

int vhc_driver_ring_create(const struct vhc_driver_ring_config *config,
			   struct vhc_driver_ring **out)
{
	struct vhc_driver_ring_layout layout;
	int rc = vhc_driver_ring_layout(config->size, &layout);
	if (rc)
		return rc;
	if (config->addr == 0 || config->addr % 4096)
		return -EINVAL;
	struct vhc_driver_ring *ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	ring->kick_fd = ring->call_fd = -1;
	atomic_init(&ring->refs, 1);
	rc = fill_in(ring, config, &layout);
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

static uint16_t take_free(struct vhc_driver_ring *ring)
{
	uint16_t i = ring->first_free;
	ring->first_free = ring->next[i];
	ring->num_free--;
	return i;
}

static struct vring_desc describe(const struct vhc_driver_ring *ring, const struct vhc_iov *iov,
				  uint32_t i, uint32_t num_out, uint32_t num)
{
	return (struct vring_desc){
	    .addr = iov[i].addr + ring->gpa_delta,
	    .len = (uint32_t)iov[i].len,
	    .flags = (uint16_t)((i >= num_out ? VRING_DESC_F_WRITE : 0) |
				(i + 1 < num ? VRING_DESC_F_NEXT : 0)),
	    .next = (uint16_t)(i + 1 < num ? i + 1 : 0),
	};
}

static uint16_t build_indirect(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			       uint32_t num_out, uint32_t num)
{
	uint16_t head = take_free(ring);
	struct vring_desc *table = &ring->tables[head * VHC_DRIVER_RING_INDIRECT];
	for (uint32_t i = 0; i < num; i++)
		table[i] = describe(ring, iov, i, num_out, num);
	ring->desc[head] = (struct vring_desc){
	    .addr = (uint64_t)table + ring->gpa_delta,
	    .len = (uint32_t)(num * sizeof(*table)),
	    .flags = VRING_DESC_F_INDIRECT,
	};
	return head;
}

static uint16_t build_direct(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
			     uint32_t num_out, uint32_t num)
{
	uint16_t head = ring->first_free;
	for (uint32_t i = 0; i < num; i++) {
		uint16_t at = take_free(ring);
		ring->desc[at] = describe(ring, iov, i, num_out, num);
		if (i + 1 < num)
			ring->desc[at].next = ring->first_free;
	}
	return head;
}

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
	uint16_t head = indirect ? build_indirect(ring, iov, num_out, (uint32_t)num)
				 : build_direct(ring, iov, num_out, (uint32_t)num);
	ring->chains[head] = (struct driver_chain){
	    .token = token,
	    .count = (uint16_t)count,
	    .indirect = indirect,
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

struct vring_desc *driver_ring_piece(struct vhc_driver_ring *ring, uint16_t head, uint32_t n)
{
	if (ring->chains[head].indirect)
		return &ring->tables[head * VHC_DRIVER_RING_INDIRECT + n];
	while (n--)
		head = ring->next[head];
	return &ring->desc[head];
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
	int n = driver_ring_ready(ring);
	if (n <= 0)
		return n;
	int head = driver_ring_take(ring, len);
	if (head < 0)
		return head;
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

static void set_event(struct vhc_driver_ring *ring, uint16_t event)
{
	ring->event = event;
	__atomic_store_n(ring->used_event, event, __ATOMIC_SEQ_CST);
}

void driver_ring_quiet(struct vhc_driver_ring *ring)
{
	set_event(ring, ring->last_used + 0x8000);
}

bool driver_ring_arm(struct vhc_driver_ring *ring)
{
	ring->armed = true;
	if (ring->event_idx)
		set_event(ring, ring->last_used);
	else
		__atomic_store_n(ring->avail_flags, 0, __ATOMIC_SEQ_CST);
	/* Sequentially consistent after the store: one of the two sides sees the other. */
	return __atomic_load_n(ring->used_idx, __ATOMIC_SEQ_CST) != ring->last_used || ring->broken;
}

void driver_ring_disarm(struct vhc_driver_ring *ring)
{
	ring->armed = false;
	driver_ring_quiet(ring);
	if (!ring->event_idx)
		__atomic_store_n(ring->avail_flags, VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELAXED);
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
