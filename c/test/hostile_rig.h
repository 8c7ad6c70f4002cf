/* SPDX-License-Identifier: MIT */
/* A device on a reactor, its memory and disk, and the ring that it is given. */
#ifndef VHC_HOSTILE_RIG_H
#define VHC_HOSTILE_RIG_H

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "hostile_ring.h"

#define KIB 1024u
#define MEMORY (240 * KIB)
#define RING_AREA (12 * KIB) /* the ring's parts lie at the start of the first region */
#define AVAIL_AT (8 * KIB)
#define USED_AT (9 * KIB)
#define DISK_SECTORS 128u
#define DISK_BYTES (DISK_SECTORS * 512)
#define MAX_SECTORS 64u /* of a discard or write zeroes segment */
#define MAX_SEGMENTS 4u
#define SERIAL "hostile-serial-00020"
#define CASE_SLACK 16u /* entries behind a packed ring's own table, as memory has them */

#define F(bit) (UINT64_C(1) << (bit))
#define BLK_FEATURES                                                                               \
	(F(VIRTIO_BLK_F_FLUSH) | F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES) |          \
	 F(VIRTIO_F_VERSION_1))
#define INDIRECT F(VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT_IDX F(VIRTIO_RING_F_EVENT_IDX)
#define PACKED F(VIRTIO_F_RING_PACKED)

/*
 * Two regions that adjoin for the guest though not here, and one near the end
 * of addresses. The first is large enough for the device's short cuts.
 */
struct hostile_region {
	uint64_t gpa;
	uint32_t at; /* in the memory */
	uint32_t size;
};
static const struct hostile_region regions[3] = {
    {0x100000, 0, 160 * KIB},
    {0x100000 + 160 * KIB, 160 * KIB, 64 * KIB},
    {UINT64_MAX - 32 * KIB + 1, 224 * KIB, 16 * KIB},
};
#define GPA_A regions[0].gpa
#define GPA_B regions[1].gpa
#define GPA_C regions[2].gpa
#define USER_BASE UINT64_C(0x7f0000000000)

struct hostile_rig {
	int memfd;
	uint8_t *memory;
	struct vhc_upcalls *upcalls;
	struct vhc_upcalls_info upcalls_info;
	uint32_t unread, next_slot;
	struct vhc_reactor *reactor;
	struct vhc_pages pages; /* the disk's */
	struct vhc_bdev *bdev;
	struct vhc_blk *blk;
	struct vhc_stats *stats;
	struct hostile_ring ring;
	struct vhc_inflight *inflight; /* of the next ring, or NULL */
	uint32_t inflight_index;
	void (*meddle)(void); /* writes where it should not, all the time; or NULL */
	uint32_t next_id;
	bool neighbour_stopped, neighbour_broken;
	struct vhc_scsi_config scsi; /* of the next request ring */
	/* The part of TypeScript: other upcalls of the ring, and what is done between
	 * them. */
	void (*take)(const struct vhc_upcall *upcall);
	void (*act)(void);
};

#define NEIGHBOUR_ID UINT32_MAX /* the healthy ring's, see hostile_neighbour.h */

static uint64_t hang_seed, hang_case;
static void (*hang_more)(void); /* says what was waited for; the process is at its end */

/* A hang is a failure: the process ends with the case that hung. */
static void on_hang(int signal)
{
	(void)signal;
	char text[100];
	int n = snprintf(text, sizeof(text), "hang: --seed %llu --replay %llu\n",
			 (unsigned long long)hang_seed, (unsigned long long)hang_case);
	(void)!write(STDERR_FILENO, text, (size_t)n);
	if (hang_more)
		hang_more();
	_exit(3);
}

static inline uint8_t *rig_at(struct hostile_rig *rig, uint64_t gpa)
{
	for (int i = 0; i < 3; i++) {
		if (gpa - regions[i].gpa < regions[i].size)
			return rig->memory + regions[i].at + (gpa - regions[i].gpa);
	}
	fprintf(stderr, "test uses address %#llx\n", (unsigned long long)gpa);
	abort();
}

/* ---- Events
 * ------------------------------------------------------------------- */

static inline void rig_take_upcall(struct hostile_rig *rig, const struct vhc_upcall *upcall)
{
	struct hostile_ring *ring = &rig->ring;
	if (upcall->id == NEIGHBOUR_ID) {
		rig->neighbour_stopped |= upcall->type == VHC_UPCALL_RING_STOPPED;
		rig->neighbour_broken |= upcall->type == VHC_UPCALL_RING_BROKEN;
	}
	if (upcall->id != ring->id)
		return;
	if (upcall->type == VHC_UPCALL_RING_BROKEN) {
		ring->broken = true;
		ring->broken_status = upcall->status;
	} else if (upcall->type == VHC_UPCALL_RING_STOPPED) {
		ring->stopped = true;
		ring->base = (uint32_t)upcall->arg;
	} else if (upcall->type == VHC_UPCALL_MALFORMED) {
		const int why = upcall->status;
		CHECK(why == -EFAULT || why == -E2BIG || why == -ELOOP || why == -EPROTO);
		CHECK(upcall->arg < MAX_RING);
		ring->malformed_told++;
	} else if (rig->take) {
		rig->take(upcall);
	} else {
		CHECK_EQ(upcall->type, 0);
	}
}

static inline void rig_pump(struct hostile_rig *rig)
{
	const struct vhc_upcall *slots = (const struct vhc_upcall *)rig->upcalls_info.slots;
	int n = vhc_upcalls_advance(rig->upcalls, rig->unread);
	rig->unread = (uint32_t)n;
	for (int i = 0; i < n; i++)
		rig_take_upcall(rig, &slots[rig->next_slot++ % VHC_UPCALL_SLOTS]);
	char bytes[16];
	if (n == 0)
		(void)!read(rig->upcalls_info.fd, bytes, sizeof(bytes));
	if (rig->act)
		rig->act();
	if (rig->meddle)
		rig->meddle();
}

/* Waits for a condition; the alarm ends a wait that takes too long. */
#define RIG_AWAIT(rig, condition)                                                                  \
	do {                                                                                       \
		alarm(30);                                                                         \
		while (!(condition)) {                                                             \
			rig_pump(rig);                                                             \
			sched_yield();                                                             \
		}                                                                                  \
	} while (0)

/* ---- The ring
 * --------------------------------------------------------------------- */

/* The table of regions as the device has it; the ring keeps it alive. */
static inline struct vhc_mem *rig_share(struct hostile_rig *rig)
{
	struct vhc_mem *mem;
	if (vhc_mem_create(&mem))
		return NULL;
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(vhc_mem_add_region(mem, regions[i].gpa, regions[i].size,
					    USER_BASE + regions[i].at, rig->memfd, regions[i].at),
			 0);
	}
	return mem;
}

/* Lays an empty ring out. base: where its indices start, or its place and wrap counter. */
static inline void ring_lay_out(struct hostile_rig *rig, uint32_t size, uint16_t base)
{
	static struct vring_desc own[MAX_RING + CASE_SLACK];
	struct hostile_ring *ring = &rig->ring;
	memset(rig->memory, 0, RING_AREA);
	memset(own, 0, sizeof(own));
	ring->size = size;
	ring->packed = ring->features & PACKED;
	ring->desc = ring->packed ? own : (struct vring_desc *)rig->memory;
	ring->avail = (struct vring_avail *)(rig->memory + AVAIL_AT);
	ring->used = (struct vring_used *)(rig->memory + USED_AT);
	ring->ring = (struct vring_packed_desc *)rig->memory;
	ring->device_event = (uint32_t *)(rig->memory + USED_AT);
	if (ring->packed)
		packed_begin(ring, (struct ring_place){(uint16_t)((base & ~WRAP_BIT) % size),
						       base & WRAP_BIT});
	else
		ring->avail->idx = ring->used->idx = ring->avail_next = ring->used_seen = base;
}

/* Where it begins, as struct vhc_ring_config has it. */
static inline uint32_t ring_start(const struct hostile_ring *ring)
{
	return ring->packed ? place_bits(ring->reach) * 0x10001u : ring->used_seen;
}

static inline int ring_serve(struct hostile_rig *rig)
{
	struct vhc_ring *handle = rig->ring.handle;
	switch (rig->ring.kind) {
	case BLK_RING:
		return vhc_reactor_start_blk_ring(rig->reactor, handle, rig->blk, 0);
	case REQUEST_RING:
		return vhc_reactor_start_scsi_ring(rig->reactor, handle, &rig->scsi);
	case CONTROL_RING:
		return vhc_reactor_start_raw_ring(rig->reactor, handle);
	default:
		return vhc_reactor_start_event_ring(rig->reactor, handle);
	}
}

static inline struct vhc_ring_config ring_config(const struct hostile_rig *rig,
						 const struct vhc_mem *mem, uint32_t base)
{
	const struct hostile_ring *ring = &rig->ring;
	return (struct vhc_ring_config){
	    .mem = (uint64_t)mem,
	    .features = ring->features,
	    .desc = USER_BASE,
	    .avail = USER_BASE + AVAIL_AT,
	    .used = USER_BASE + USED_AT,
	    .stats = (uint64_t)rig->stats,
	    .inflight = (uint64_t)rig->inflight,
	    .log_used = UINT64_MAX,
	    .size = ring->size,
	    .base = base,
	    .index = rig->inflight_index,
	    .kick_fd = ring->kick,
	    .call_fd = ring->call,
	    .err_fd = ring->err,
	    .id = ring->id,
	};
}

/* Lays a ring out that rig_create_ring makes. */
static inline void rig_new_ring(struct hostile_rig *rig, enum ring_kind kind, uint32_t size,
				uint64_t features, uint16_t base)
{
	struct hostile_ring *ring = &rig->ring;
	*ring = (struct hostile_ring){.kind = kind, .id = ++rig->next_id, .features = features};
	ring->malformed_before = rig->stats->malformed;
	ring->kick = vhc_eventfd();
	ring->call = vhc_eventfd();
	ring->err = vhc_eventfd();
	ring_lay_out(rig, size, base);
	rig->stats->inflight = 0; /* a ring that broke leaves what it was */
}

/* Makes the device's side of it: vhc_ring_create's result. */
static inline int rig_create_ring(struct hostile_rig *rig, uint32_t base)
{
	struct vhc_mem *mem = rig_share(rig);
	const struct vhc_ring_config config = ring_config(rig, mem, base);
	const int result = vhc_ring_create(&config, &rig->ring.handle);
	vhc_mem_release(mem);
	return result;
}

/* Makes a ring (up to MAX_RING entries) and gives it to the reactor. */
static inline bool rig_start_ring(struct hostile_rig *rig, enum ring_kind kind, uint32_t size,
				  uint64_t features, uint16_t base)
{
	struct hostile_ring *ring = &rig->ring;
	rig_new_ring(rig, kind, size, features, base);
	if (!CHECK_EQ(rig_create_ring(rig, ring_start(ring)), 0))
		return false;
	ring->running = CHECK_EQ(ring_serve(rig), 0);
	return ring->running;
}

/* Malformed requests that the device has counted since the ring was made. */
static inline uint64_t rig_malformed(const struct hostile_rig *rig)
{
	return __atomic_load_n(&rig->stats->malformed, __ATOMIC_ACQUIRE) -
	       rig->ring.malformed_before;
}

/* The first is told of at once, and none more than once. */
static inline void check_malformed_told(const struct hostile_rig *rig, uint64_t before_stop)
{
	const struct hostile_ring *ring = &rig->ring;
	CHECK(before_stop == 0 || ring->malformed_told > 0);
	CHECK(ring->malformed_told <= rig_malformed(rig));
}

static inline void rig_stop_ring(struct hostile_rig *rig)
{
	struct hostile_ring *ring = &rig->ring;
	if (!ring->id || ring->kick < 0)
		return;
	const uint64_t malformed = rig_malformed(rig);
	if (ring->running) {
		CHECK_EQ(vhc_reactor_stop_ring(rig->reactor, ring->handle), 0);
		RIG_AWAIT(rig, ring->stopped);
		check_malformed_told(rig, malformed);
	}
	if (ring->handle)
		vhc_ring_release(ring->handle);
	close(ring->kick);
	close(ring->call);
	close(ring->err);
	ring->running = false;
	ring->handle = NULL;
	ring->kick = -1;
}

/* ---- The device
 * ---------------------------------------------------------------------- */

static inline bool disk_up(struct vhc_pages *pages, struct vhc_bdev **bdev, struct vhc_blk **blk)
{
	if (!CHECK_EQ(vhc_pages_alloc(DISK_BYTES, 4096, -1, -1, 0, pages), 0) ||
	    !CHECK_EQ(vhc_bdev_malloc_create(pages, 512, DISK_SECTORS, bdev), 0))
		return false;
	struct vhc_blk_config config = {
	    .bdev = (uint64_t)*bdev,
	    .features = BLK_FEATURES,
	    .max_discard_sectors = MAX_SECTORS,
	    .max_discard_segments = MAX_SEGMENTS,
	    .max_write_zeroes_sectors = MAX_SECTORS,
	    .max_write_zeroes_segments = MAX_SEGMENTS,
	};
	memcpy(config.serial, SERIAL, sizeof(config.serial));
	return CHECK_EQ(vhc_blk_create(&config, blk), 0);
}

static inline bool rig_up(struct hostile_rig *rig)
{
	const struct vhc_reactor_config config = {.cpu = -1, .mode = VHC_MODE_ADAPTIVE};
	uint64_t reactor_stats, stats;
	*rig = (struct hostile_rig){0};
	signal(SIGALRM, on_hang);
	rig->memfd = memfd_create("hostile", MFD_CLOEXEC);
	if (!CHECK_EQ(ftruncate(rig->memfd, MEMORY), 0))
		return false;
	rig->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, rig->memfd, 0);
	if (!CHECK(rig->memory != MAP_FAILED) || !CHECK_EQ(vhc_stats_alloc(&stats), 0) ||
	    !CHECK_EQ(vhc_upcalls_create(&rig->upcalls, &rig->upcalls_info), 0) ||
	    !disk_up(&rig->pages, &rig->bdev, &rig->blk))
		return false;
	rig->stats = (struct vhc_stats *)stats;
	return CHECK_EQ(vhc_reactor_create(rig->upcalls, &config, &rig->reactor, &reactor_stats),
			0);
}

static inline void rig_down(struct hostile_rig *rig)
{
	CHECK_EQ(vhc_reactor_release(rig->reactor), 0);
	vhc_blk_release(rig->blk);
	vhc_bdev_release(rig->bdev);
	vhc_upcalls_release(rig->upcalls);
	close(rig->upcalls_info.fd);
	vhc_stats_free((uint64_t)rig->stats);
	munmap(rig->memory, MEMORY);
	close(rig->memfd);
	alarm(0);
}

#endif
