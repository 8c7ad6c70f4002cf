/* SPDX-License-Identifier: MIT */
/* Guests whose rings a reactor serves, and a backend that ends requests when told to, for tests. */
#ifndef VHC_TEST_VM_H
#define VHC_TEST_VM_H

#include <sys/eventfd.h>
#include <time.h>

#include "guest.h"
#include "reactor.h"
#include "reader.h"

#define SIZE 64u
#define PATIENCE_MS 10000
#define BLOCKS 2048u

/* ---- A backend that ends what it is asked when it is told to ---- */

struct slow {
	struct vhc_bdev bdev;
	struct bdev_channel channel;
	int event_fd;
	atomic_uint opened;
	atomic_uint closed;
	atomic_uint asked;
	atomic_uint allowed; /* how many may have ended in all */
	atomic_int result;   /* of those that end */
	uint32_t ended;
	struct io *ios[SIZE];
};

static inline int slow_open(struct vhc_bdev *bdev, struct bdev_channel *base,
			    struct bdev_channel **out)
{
	struct slow *slow = (struct slow *)bdev;

	(void)base;
	slow->channel = (struct bdev_channel){.bdev = bdev, .event_fd = slow->event_fd};
	atomic_fetch_add(&slow->opened, 1);
	*out = &slow->channel;
	return 0;
}

static inline void slow_close(struct bdev_channel *channel)
{
	atomic_fetch_add(&((struct slow *)channel->bdev)->closed, 1);
}

static inline void slow_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	struct slow *slow = (struct slow *)channel->bdev;

	for (uint32_t i = 0; i < n; i++)
		slow->ios[(atomic_load(&slow->asked) + i) % SIZE] = ios[i];
	channel->inflight += n;
	atomic_fetch_add(&slow->asked, n);
}

static inline uint32_t slow_poll(struct bdev_channel *channel)
{
	struct slow *slow = (struct slow *)channel->bdev;
	uint32_t n = 0;

	while (slow->ended < atomic_load(&slow->asked) &&
	       slow->ended < atomic_load(&slow->allowed)) {
		struct io *io = slow->ios[slow->ended++ % SIZE];

		io->result = atomic_load(&slow->result);
		channel->inflight--;
		io_complete(io);
		n++;
	}
	return n;
}

static const struct bdev_ops slow_ops = {.name = "slow",
					 .channel_open = slow_open,
					 .channel_close = slow_close,
					 .submit = slow_submit,
					 .poll = slow_poll};

static inline void slow_init(struct slow *slow, int event_fd)
{
	*slow = (struct slow){.event_fd = event_fd};
	bdev_init(&slow->bdev, &slow_ops, 512, BLOCKS);
}

/* Lets n more requests end, and says so as a device does. */
static inline void slow_allow(struct slow *slow, uint32_t n)
{
	atomic_fetch_add(&slow->allowed, n);
	if (slow->event_fd >= 0)
		eventfd_write(slow->event_fd, 1);
}

/* ---- A guest whose ring a reactor serves ---- */

struct vm {
	struct guest guest;
	struct vhc_ring *ring;
	struct vhc_blk *blk;
	int kick_fd, call_fd, err_fd;
};

static inline struct vhc_bdev *null_disk(void)
{
	struct vhc_bdev *bdev = NULL;

	return vhc_bdev_null_create(512, BLOCKS, &bdev) ? NULL : bdev;
}

/* Takes the caller's reference to bdev over. */
static inline bool vm_create(struct vm *vm, uint32_t id, uint64_t features, struct vhc_bdev *bdev)
{
	struct vhc_blk_config blk = {.bdev = (uint64_t)(uintptr_t)bdev,
				     .features = UINT64_C(1) << VIRTIO_BLK_F_FLUSH};
	struct vhc_ring_config config;

	vm->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!guest_create(&vm->guest, SIZE) || vhc_blk_create(&blk, &vm->blk))
		return false;
	if (bdev)
		vhc_bdev_release(bdev);
	config = guest_ring_config(&vm->guest, features);
	config.kick_fd = vm->kick_fd;
	config.call_fd = vm->call_fd;
	config.err_fd = vm->err_fd;
	config.id = id;
	return vhc_ring_create(&config, &vm->ring) == 0;
}

static inline void vm_destroy(struct vm *vm)
{
	vhc_ring_release(vm->ring);
	vhc_blk_release(vm->blk);
	guest_destroy(&vm->guest);
	close(vm->kick_fd);
	close(vm->call_fd);
	close(vm->err_fd);
}

static inline uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Looks at a condition again and again until it holds; false if it never does. */
#define EVENTUALLY(condition)                                                                      \
	({                                                                                         \
		uint64_t deadline_ = now_ms() + PATIENCE_MS;                                       \
		bool holds_;                                                                       \
		while (!(holds_ = (condition)) && now_ms() < deadline_)                            \
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);                    \
		holds_;                                                                            \
	})

/* Kicks as a driver does: when the device asked for it. */
static inline bool vm_kick(struct vm *vm)
{
	if (__atomic_load_n(&vm->guest.used->flags, __ATOMIC_SEQ_CST) & VRING_USED_F_NO_NOTIFY)
		return false;
	eventfd_write(vm->kick_fd, 1);
	return true;
}

static inline void vm_offer(struct vm *vm, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		guest_offer(&vm->guest,
			    guest_request(&vm->guest, i, false, VIRTIO_BLK_T_IN, 8, 4096));
	guest_publish(&vm->guest);
	vm_kick(vm);
}

/* Waits for a call, if there is nothing yet, and takes what was used; how many. */
static inline uint32_t vm_wait(struct vm *vm, uint32_t n)
{
	struct vring_used_elem used;
	uint32_t done = 0;
	uint64_t count;

	while (done < n) {
		if (guest_used(&vm->guest, &used))
			done += used.len == 4097;
		else if (!check_readable(vm->call_fd, PATIENCE_MS) ||
			 read(vm->call_fd, &count, sizeof(count)) < 0)
			break;
	}
	return done;
}

struct rig {
	struct reader reader;
	struct vhc_reactor *reactor;
	const struct vhc_reactor_stats *stats;
};

static inline bool rig_create(struct rig *rig, uint32_t mode)
{
	struct vhc_reactor_config config = {.cpu = -1, .mode = mode};
	uint64_t stats = 0;

	if (!reader_open(&rig->reader) ||
	    vhc_reactor_create(rig->reader.upcalls, &config, &rig->reactor, &stats))
		return false;
	rig->stats = (const struct vhc_reactor_stats *)(uintptr_t)stats;
	return true;
}

static inline void rig_destroy(struct rig *rig)
{
	CHECK_EQ(vhc_reactor_release(rig->reactor), 0);
	reader_close(&rig->reader);
}

static inline uint64_t counter(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* Stops a ring and waits until it has; its next available index, or -1. */
static inline int64_t stop(struct rig *rig, struct vm *vm, uint32_t id)
{
	const struct vhc_upcall *upcall;

	if (!CHECK_EQ(vhc_reactor_stop_ring(rig->reactor, vm->ring), 0))
		return -1;
	upcall = reader_next(&rig->reader, PATIENCE_MS);
	if (!upcall || upcall->type != VHC_UPCALL_RING_STOPPED || upcall->id != id)
		return -1;
	return (int64_t)upcall->arg;
}

#endif
