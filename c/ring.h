/* SPDX-License-Identifier: MIT */
/*
 * The device's side of a virtqueue, as inline steps that a reactor strings together
 * in batches: look, take, map, put, publish, arm. What depends on the format is in
 * ring_split.h and ring_packed.h, what is done rarely in ring.c; nothing else
 * touches the layout of a ring in guest memory.
 */
#ifndef VHC_RING_H
#define VHC_RING_H

#include "ring_packed.h"
#include "ring_split.h"
#include "ring_state.h"

/*
 * Maps the chain that starts with the descriptor at head to at most max (> 0)
 * pieces: first those that the device reads, then those that it writes. A
 * descriptor of length 0, which virtio does not forbid, adds none.
 * Errors cost this chain only: -ELOOP (badly linked, more descriptors than the
 * ring or VHC_CHAIN_MAX_IOV in a table, indirect where it must not be,
 * device-readable after device-writable), -EFAULT (memory that is not shared),
 * -E2BIG (more than max), -ENXIO (ring->wanted is missing, and may be shown yet).
 */
int ring_map(struct vhc_ring *ring, uint32_t head, struct iovec *iov, uint32_t max,
	     struct ring_chain *chain);

/* The steps below for rings that are not plain. */
uint32_t ring_look_any(struct vhc_ring *ring, uint32_t max);
uint32_t ring_take_any(struct vhc_ring *ring, struct ring_head *heads, uint32_t n);
void ring_put_any(struct vhc_ring *ring, size_t head, uint32_t len);
bool ring_publish_any(struct vhc_ring *ring);
bool ring_arm_any(struct vhc_ring *ring);
void ring_disarm_any(struct vhc_ring *ring);

/*
 * Chains that wait to be taken: up to max, at most RING_AHEAD, or more if counting
 * them is for nothing. 0 may be because the ring is broken.
 */
static inline uint32_t ring_look(struct vhc_ring *ring, uint32_t max)
{
	return __builtin_expect(ring->plain, 1) ? split_look(ring) : ring_look_any(ring, max);
}

/*
 * Takes the next n chains, of those that ring_look counted. Returns how many it
 * took: if fewer, the ring is broken.
 */
static inline uint32_t ring_take(struct vhc_ring *ring, struct ring_head *heads, uint32_t n)
{
	return __builtin_expect(ring->plain, 1) ? split_take(ring, heads, n)
						: ring_take_any(ring, heads, n);
}

/*
 * Gives the last n chains of those that were taken last back, as if they had not been
 * taken: nothing was put since.
 */
void ring_untake(struct vhc_ring *ring, const struct ring_head *heads, uint32_t n);

/*
 * After the chains of a batch were taken, and what of them ended at once was put: what
 * has to be known of them after a crash. For rings that are not plain.
 */
void ring_end_batch(struct vhc_ring *ring, const struct ring_head *heads, uint32_t n);

/*
 * Has the ring use another table, of which it takes a reference; `table` is to keep the
 * one before. Errors: -EFAULT (the ring's own parts are not in it, where they were).
 */
int ring_set_mem(struct vhc_ring *ring, struct vhc_mem *mem, struct ring_table *table);

/*
 * Looks at the first descriptors of chains and starts to fetch what they point
 * to: headers, or indirect tables and then the headers behind those. Goes on to
 * the tables of three descriptors that lie in the region that answered last.
 */
static inline void ring_peek(const struct vhc_ring *ring, struct ring_head *heads, uint32_t n)
{
	const struct mem_cache cache = ring->cache;
	const uint32_t indirect = ring->table_flags;
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
 * ring_map_triple for a packed ring's table of three, which ring_peek lets alone. Of
 * their flags only WRITE counts (virtio 2.8.7).
 */
bool ring_map_packed_triple(const struct vhc_ring *ring, const struct ring_head *head,
			    uint32_t first_len, uint32_t last_len, struct ring_triple *out);

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
	uint8_t bits = ring->taken[head];

	if (__builtin_expect(bits == RING_TAKEN, 1))
		split_put(ring, head, len);
	else if (__builtin_expect(bits == (RING_TAKEN | RING_PACKED), 1))
		packed_put(ring, head, len);
	else
		ring_put_any(ring, head, len);
}

/* ring_put for a chain that is known to be RING_TAKEN and nothing else, or may be any. */
static inline void ring_put_as(struct vhc_ring *ring, size_t head, uint32_t len, bool plain)
{
	if (plain)
		split_put(ring, head, len);
	else
		ring_put(ring, head, len);
}

/*
 * Shows the driver at once what was put since the last time, of which there is
 * some. Returns whether it wants to be called.
 */
static inline bool ring_publish(struct vhc_ring *ring)
{
	uint16_t old = ring->published;

	if (__builtin_expect(!ring->plain, 0))
		return ring_publish_any(ring);
	ring->published = ring->next_used;
	split_show(ring);
	return ring->call_fd >= 0 && split_wants_call(ring, old);
}

/*
 * The two steps of ring_publish apart, of any ring. The first returns how much was
 * shown: chains, or a packed ring's descriptors. The second takes all of that since it
 * was called last, or since ring_publish was.
 */
uint32_t ring_show(struct vhc_ring *ring);
bool ring_wants_call(struct vhc_ring *ring, uint32_t shown);

/*
 * Asks to be kicked for the next chain. Returns whether chains wait already, for
 * which no kick may come.
 */
static inline bool ring_arm(struct vhc_ring *ring)
{
	return __builtin_expect(ring->plain, 1) ? split_arm(ring) : ring_arm_any(ring);
}

/* Asks not to be kicked. */
static inline void ring_disarm(struct vhc_ring *ring)
{
	if (__builtin_expect(ring->plain, 1))
		split_disarm(ring);
	else
		ring_disarm_any(ring);
}

/* Drops the tables that were replaced. */
void ring_forget_retired(struct vhc_ring *ring);

/* Calls the driver. Errors: -EPROTO (the peer made its descriptor block). */
int ring_call(struct vhc_ring *ring);

/* Tells the peer, through err_fd, that the ring is broken. */
void ring_signal_error(struct vhc_ring *ring);

void ring_ref(struct vhc_ring *ring);

#endif
