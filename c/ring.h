/* SPDX-License-Identifier: MIT */
/*
 * The device's side of a split virtqueue (virtio 2.7), as inline steps that a
 * reactor strings together in batches. Everything that touches the layout of
 * the ring in guest memory is in this file: take, map, put, publish, arm.
 *
 * Order between the two sides comes from avail->idx (acquire here, release in
 * the driver) and used->idx (the reverse). Where one side stores and then reads
 * what the other stores (used->idx and used_event, avail_event and avail->idx)
 * both accesses are sequentially consistent, so that at least one side sees the
 * other's.
 */
#ifndef VHC_RING_H
#define VHC_RING_H

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "virtio 1 is little-endian");

struct vhc_ring {
	/* Used for each batch or request. */
	const struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t *used_event;  /* EVENT_IDX: where the driver says when to call it */
	uint16_t *avail_event; /* EVENT_IDX: where the device says when to kick it */
	uint8_t *taken;	       /* for each head, whether the device has it */
	const struct vhc_mem *mem;
	struct mem_cache cache;
	uint32_t size;
	uint32_t mask;
	uint16_t next_avail; /* next available index to take */
	uint16_t next_used;  /* used index to fill in next */
	uint16_t published;  /* used index that the driver sees */
	bool event_idx;
	bool indirect;
	bool called;	 /* published at least once: `published` means something to EVENT_IDX */
	int32_t call_fd; /* -1: the driver polls */

	/* Used at most once in a while. */
	int32_t kick_fd;
	int32_t err_fd;
	uint32_t id;
	uint64_t features;	     /* negotiated */
	int broken;		     /* -EPROTO once corrupt: nothing more is taken */
	struct vring_desc *gathered; /* an indirect table that lies in several regions */
	struct vhc_stats *stats;
	struct vhc_mem *owned_mem; /* mem, as the reference to give back */
	atomic_uint refs;

	/* How it runs. `running` is cleared by the reactor, the next three are for control calls.
	 */
	atomic_bool running;
	bool stopping;
	uint8_t kind; /* enum queue_kind */
	struct vhc_reactor *reactor;
	struct queue *queue; /* the reactor's; NULL once it has stopped */
};

/* A chain's pieces, apart from where they are: see struct vhc_chain. */
struct ring_chain {
	uint32_t num_out;
	uint32_t num_in;
	uint64_t out_len;
	uint64_t in_len;
};

/* A descriptor, copied. */
struct ring_desc {
	uint64_t addr;
	uint32_t len;
	uint32_t tail; /* flags, and above them next, as they lie in memory */
};

/*
 * Maps the chain that starts with the descriptor at head to at most max (> 0)
 * pieces: first those that the device reads, then those that it writes. A
 * descriptor of length 0, which virtio does not forbid, adds none.
 * Errors cost this chain only: -ELOOP (badly linked, more descriptors than the
 * ring or VHC_CHAIN_MAX_IOV in a table, indirect where it must not be,
 * device-readable after device-writable), -EFAULT (memory that is not shared),
 * -E2BIG (more than max).
 */
int ring_map(struct vhc_ring *ring, uint32_t head, struct iovec *iov, uint32_t max,
	     struct ring_chain *chain);

/* Guest memory at an address of any alignment, read exactly once. */
typedef struct vring_desc __attribute__((aligned(1))) ring_table_desc;
typedef uint64_t __attribute__((aligned(1), may_alias)) ring_u64;
typedef uint32_t __attribute__((aligned(1), may_alias)) ring_u32;

static inline uint64_t ring_read64(const void *at)
{
	return *(const volatile ring_u64 *)at;
}

static inline uint32_t ring_read32(const void *at)
{
	return *(const volatile ring_u32 *)at;
}

/* The only way a descriptor is read: it may change right after. */
static inline struct ring_desc ring_read_desc(const ring_table_desc *at)
{
	/* By offset: an indirect table may have any alignment. */
	const uint8_t *bytes = (const uint8_t *)at;

	return (struct ring_desc){
	    .addr = ring_read64(bytes + offsetof(struct vring_desc, addr)),
	    .len = ring_read32(bytes + offsetof(struct vring_desc, len)),
	    .tail = ring_read32(bytes + offsetof(struct vring_desc, flags)),
	};
}

/* Chains offered and not taken. More than the ring holds is -EPROTO: the ring breaks. */
static inline int ring_available(struct vhc_ring *ring)
{
	uint16_t waiting = __atomic_load_n(&ring->avail->idx, __ATOMIC_ACQUIRE) - ring->next_avail;

	if (__builtin_expect(waiting > ring->size, 0))
		return ring->broken = -EPROTO;
	return waiting;
}

/* A chain that was taken. */
struct ring_head {
	const ring_table_desc *first; /* its first descriptor, as far as ring_peek went */
	uint32_t index;
	uint32_t in_table; /* 1: `first` begins an indirect table of three descriptors */
};

/*
 * Takes the next n chains, of those that ring_available counted, and starts to
 * fetch their descriptors. Returns how many it took: fewer if a head is beyond
 * the table or already the device's, which breaks the ring.
 */
static inline uint32_t ring_take(struct vhc_ring *ring, struct ring_head *heads, uint32_t n)
{
	const struct vring_desc *table = ring->desc;
	const uint16_t *from = ring->avail->ring;
	uint8_t *taken = ring->taken;
	struct ring_head *at = heads;
	struct ring_head *end = heads + n;
	uint32_t next = ring->next_avail;
	uint32_t mask = ring->mask;

	for (; at < end; at++) {
		uint32_t index = __atomic_load_n(&from[next & mask], __ATOMIC_RELAXED);

		if (__builtin_expect(index > mask || taken[index], 0)) {
			ring->broken = -EPROTO;
			break;
		}
		__builtin_prefetch(&table[index]);
		taken[index] = 1;
		at->first = &table[index];
		at->index = index;
		at->in_table = 0;
		next++;
	}
	ring->next_avail = (uint16_t)next;
	return (uint32_t)(at - heads);
}

/*
 * Looks at the first descriptors of chains and starts to fetch what they point
 * to: headers, or indirect tables and then the headers behind those. Goes on to
 * the tables of three descriptors that lie in the region that answered last.
 */
static inline void ring_peek(const struct vhc_ring *ring, struct ring_head *heads, uint32_t n)
{
	const struct mem_cache cache = ring->cache;
	const uint32_t indirect = ring->indirect ? VRING_DESC_F_INDIRECT : UINT32_MAX;
	bool any = false;

	for (struct ring_head *head = heads; head < heads + n; head++) {
		uint64_t addr = ring_read64(&head->first->addr);

		if (!mem_near(&cache, addr))
			continue;
		__builtin_prefetch(mem_cached_at(&cache, addr));
		if ((ring_read32(&head->first->flags) & UINT16_MAX) != indirect)
			continue;
		if (ring_read32(&head->first->len) != sizeof(struct vring_desc[3]))
			continue;
		head->first = mem_cached_at(&cache, addr);
		head->in_table = 1;
		any = true;
	}
	for (struct ring_head *head = heads; head < heads + n && any; head++) {
		uint64_t addr;

		if (!head->in_table)
			continue;
		addr = ring_read64(&head->first->addr);
		if (mem_near(&cache, addr))
			__builtin_prefetch(mem_cached_at(&cache, addr));
	}
}

/* A chain of three descriptors: one that the device reads, one either way, one it writes. */
struct ring_triple {
	const void *first;
	void *middle;
	void *last;
	uint32_t len; /* of the middle one */
	uint32_t last_len;
	bool in; /* the device writes the middle one */
};

/* A descriptor but for its address, as one number; shifted up by 16, without `next`. */
#define RING_REST(len, flags, next)                                                                \
	((uint64_t)(len) | (uint64_t)(flags) << 32 | (uint64_t)(next) << 48)

/*
 * Maps the chain that nearly all are: a triple, with ends of known length, all
 * in the region that answered last, direct or in a table that ring_peek found.
 * With a last_len of 0 it may be any, and so may the middle one's, both of which
 * the caller then holds to 1..MEM_NEAR; else the middle one's is that. Returns false if it is any
 * other or there is anything wrong with it: then ring_map tells.
 */
static inline bool ring_map_triple(const struct vhc_ring *ring, const struct ring_head *head,
				   uint32_t first_len, uint32_t last_len, struct ring_triple *out)
{
	const uint32_t link = VRING_DESC_F_NEXT;
	const uint32_t write = VRING_DESC_F_WRITE;
	const struct mem_cache *cache = &ring->cache;
	const ring_table_desc *first = head->first;
	const ring_table_desc *middle, *last;
	uint64_t first_addr, middle_addr, last_addr;
	uint32_t tail, len;

	if (head->in_table) {
		/* In a table the descriptors follow each other, in all drivers known. */
		middle = first + 1;
		last = first + 2;
		tail = ring_read32(&middle->flags);
		if (ring_read64(&first->len) != RING_REST(first_len, link, 1) ||
		    (tail & ~write) != (link | 2u << 16))
			return false;
	} else {
		uint64_t rest = ring_read64(&first->len);

		if (rest << 16 != RING_REST(first_len, link, 0) << 16 || rest >> 48 >= ring->size)
			return false;
		middle = &ring->desc[rest >> 48];
		tail = ring_read32(&middle->flags);
		if ((tail & UINT16_MAX & ~write) != link || tail >> 16 >= ring->size)
			return false;
		last = &ring->desc[tail >> 16];
	}
	first_addr = ring_read64(&first->addr);
	middle_addr = ring_read64(&middle->addr);
	last_addr = ring_read64(&last->addr);
	len = ring_read32(&middle->len);
	if (last_len > 0) {
		if (ring_read64(&last->len) << 16 != RING_REST(last_len, write, 0) << 16 ||
		    len - 1 >= MEM_NEAR)
			return false;
	} else {
		last_len = ring_read32(&last->len);
		if ((uint16_t)ring_read32(&last->flags) != write)
			return false;
	}
	if (!mem_near(cache, first_addr) || !mem_near(cache, middle_addr) ||
	    !mem_near(cache, last_addr))
		return false;
	*out = (struct ring_triple){.first = mem_cached_at(cache, first_addr),
				    .middle = mem_cached_at(cache, middle_addr),
				    .last = mem_cached_at(cache, last_addr),
				    .len = len,
				    .last_len = last_len,
				    .in = tail & write};
	return true;
}

/* Returns a chain, with len bytes written. The driver sees it at ring_publish. */
static inline void ring_put(struct vhc_ring *ring, size_t head, uint32_t len)
{
	uint32_t at = ring->next_used & ring->mask;

	ring->next_used++;
	ring->used->ring[at] = (struct vring_used_elem){.id = (uint32_t)head, .len = len};
	ring->taken[head] = 0;
}

/*
 * Shows the driver what was put since the last time, with one store. Returns
 * whether it wants to be called: virtio 2.7.7.2 (EVENT_IDX) or 2.7.7.1.
 */
static inline bool ring_publish(struct vhc_ring *ring)
{
	uint16_t old = ring->published;
	uint16_t new = ring->next_used;

	ring->published = new;
	if (ring->call_fd < 0) {
		__atomic_store_n(&ring->used->idx, new, __ATOMIC_RELEASE);
		return false;
	}
	__atomic_store_n(&ring->used->idx, new, __ATOMIC_SEQ_CST);
	if (!ring->event_idx)
		return !(__atomic_load_n(&ring->avail->flags, __ATOMIC_SEQ_CST) &
			 VRING_AVAIL_F_NO_INTERRUPT);

	uint16_t event = __atomic_load_n(ring->used_event, __ATOMIC_SEQ_CST);

	if (__builtin_expect(!ring->called, 0)) {
		ring->called = true;
		return true;
	}
	return vring_need_event(event, new, old);
}

/*
 * Asks to be kicked for the next chain (virtio 2.7.10). Returns whether chains
 * wait already, for which no kick may come.
 */
static inline bool ring_arm(struct vhc_ring *ring)
{
	if (ring->event_idx)
		__atomic_store_n(ring->avail_event, ring->next_avail, __ATOMIC_SEQ_CST);
	else
		__atomic_store_n(&ring->used->flags, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&ring->avail->idx, __ATOMIC_SEQ_CST) != ring->next_avail;
}

/*
 * Asks not to be kicked. With EVENT_IDX there is nothing to write: an event
 * index that has been passed asks for nothing until 65,536 chains later.
 */
static inline void ring_disarm(struct vhc_ring *ring)
{
	if (!ring->event_idx)
		__atomic_store_n(&ring->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
}

/* Calls the driver. Errors: -EPROTO (the peer made its descriptor block). */
int ring_call(struct vhc_ring *ring);

/* Tells the peer, through err_fd, that the ring is broken. */
void ring_signal_error(struct vhc_ring *ring);

void ring_ref(struct vhc_ring *ring);

#endif
