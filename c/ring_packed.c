/* SPDX-License-Identifier: MIT */
#include "ring_packed.h"

#include <stdlib.h>

#define WRAP_BIT (1u << VRING_PACKED_EVENT_F_WRAP_CTR)
#define FLAGS (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)

_Static_assert(sizeof(struct vring_packed_desc) == 16, "virtio 2.8.13");
_Static_assert(offsetof(struct vring_packed_desc, len) == 8, "len, id and flags are one number");
_Static_assert(sizeof(struct vring_packed_desc_event) == 4, "virtio 2.8.14");

/* ---- Positions ---- */

/* Goes on by at most size descriptors. */
static inline void advance(struct inflight_position *at, uint32_t count, uint32_t size)
{
	uint32_t index = at->index + count;

	if (index >= size) {
		index -= size;
		at->wrap = !at->wrap;
	}
	at->index = (uint16_t)index;
}

static uint16_t pack_position(struct inflight_position at)
{
	return (uint16_t)(at.index | (at.wrap ? WRAP_BIT : 0));
}

static bool read_position(uint32_t bits, uint32_t size, struct inflight_position *out)
{
	out->index = bits & (WRAP_BIT - 1);
	out->wrap = bits & WRAP_BIT;
	return out->index < size;
}

/* ---- Life ---- */

int packed_init(struct vhc_ring *ring, uint32_t base)
{
	struct packed *packed = &ring->packed;
	const uint32_t size = ring->size;

	if (!read_position(base & UINT16_MAX, size, &packed->look) ||
	    !read_position(base >> 16, size, &packed->used))
		return -EINVAL;
	packed->entries = calloc(size, sizeof(*packed->entries));
	packed->chains = calloc(size, sizeof(*packed->chains));
	packed->puts = calloc(size, sizeof(*packed->puts));
	if (!packed->entries || !packed->chains || !packed->puts)
		return -ENOMEM;
	for (uint32_t i = 0; i < size; i++)
		packed->entries[i].next = (uint16_t)(i + 1);
	packed->num_free = size;
	ring->desc = packed->entries;
	return 0;
}

void packed_free(struct vhc_ring *ring)
{
	free(ring->packed.entries);
	free(ring->packed.chains);
	free(ring->packed.puts);
}

struct inflight_position packed_after_puts(const struct vhc_ring *ring)
{
	const struct packed *packed = &ring->packed;
	struct inflight_position at = packed->used;

	for (uint32_t i = 0; i < packed->num_puts; i++)
		advance(&at, packed_count(packed->puts[i]), ring->size);
	return at;
}

uint32_t packed_base(const struct vhc_ring *ring)
{
	const struct packed *packed = &ring->packed;
	struct inflight_position next = packed->look;
	uint32_t back = 0;

	for (uint32_t i = 0; i < packed->num_ahead; i++)
		back += packed_count(
		    packed->chains[packed->ahead[(packed->ahead_at + i) % RING_AHEAD]]);
	/* Back is on by the rest of a lap, and another lap on. */
	advance(&next, ring->size - back, ring->size);
	next.wrap = !next.wrap;
	return pack_position(next) | (uint32_t)pack_position(packed_after_puts(ring)) << 16;
}

/* ---- Chains from the driver ---- */

/* Where a look at the ring has come: what `struct packed` has, at hand. */
struct look {
	const struct vring_packed_desc *from; /* descriptor to look at next */
	const struct vring_packed_desc *end;
	uint32_t wanted; /* its bits, if it is the device's */
	uint32_t size;
	uint32_t room; /* descriptors that there may yet be */
	uint32_t free; /* first free entry */
};

/* How a descriptor of the device's has its bits in a lap. */
static inline uint32_t wanted_bits(bool wrap)
{
	return wrap ? PACKED_AVAIL : PACKED_USED;
}

/* Copies a descriptor to an entry, but for its link, and goes on. Returns all but its address. */
static inline uint64_t copy_desc(struct look *look, struct vring_desc *entry)
{
	const uint64_t rest = ring_read64(&look->from->len);

	entry->addr = ring_read64(&look->from->addr);
	entry->len = (uint32_t)rest;
	entry->flags = (uint16_t)(rest >> 48 & FLAGS);
	if (++look->from == look->end) {
		look->from -= look->size;
		look->wanted ^= PACKED_AVAIL | PACKED_USED;
	}
	return rest;
}

/* Copies a chain to entries from look->free on. Returns false if it is too long. */
static inline bool copy_chain(struct packed *packed, struct look *look)
{
	packed_chain *chain = &packed->chains[look->free];
	uint32_t at = look->free;
	uint32_t count = 1;

	for (;; count++) {
		struct vring_desc *entry = &packed->entries[at];
		uint64_t rest;

		if (__builtin_expect(count > look->room, 0))
			return false;
		rest = copy_desc(look, entry);
		if (!(rest >> 48 & VRING_DESC_F_NEXT)) {
			*chain = packed_chain_of(rest >> 32 & UINT16_MAX, count, at);
			look->free = entry->next;
			break;
		}
		at = entry->next;
	}
	look->room -= count;
	return true;
}

uint32_t packed_look(struct vhc_ring *ring, uint32_t max)
{
	struct packed *packed = &ring->packed;
	struct look look = {.from = &packed->ring[packed->look.index],
			    .end = packed->ring + ring->size,
			    .wanted = wanted_bits(packed->look.wrap),
			    .size = ring->size,
			    .room = packed->num_free,
			    .free = packed->free};
	uint32_t n = packed->num_ahead;

	for (; n < max; n++) {
		uint32_t slot = look.free;
		uint32_t flags = __atomic_load_n(&look.from->flags, __ATOMIC_ACQUIRE);

		if ((flags & (PACKED_AVAIL | PACKED_USED)) != look.wanted)
			break;
		if (!copy_chain(packed, &look)) {
			ring_break(ring, -EPROTO, VHC_BREAK_CHAIN_LONG);
			break;
		}
		packed->ahead[(packed->ahead_at + n) % RING_AHEAD] = (uint16_t)slot;
		/* What was copied counts from here on. */
		packed->look.index = (uint16_t)(look.from - packed->ring);
		packed->look.wrap = look.wanted == wanted_bits(true);
		packed->num_free = look.room;
		packed->free = (uint16_t)look.free;
		packed->num_ahead = n + 1;
	}
	return n < max ? n : max;
}

uint16_t packed_adopt(struct vhc_ring *ring, const struct vring_packed_desc *descs, uint16_t count)
{
	struct packed *packed = &ring->packed;
	const uint16_t slot = packed->free;
	uint16_t at = slot;

	for (uint32_t i = 0; i < count; i++) {
		struct vring_desc *entry = &packed->entries[at];

		entry->addr = descs[i].addr;
		entry->len = descs[i].len;
		/* Linked as it was found, whatever its flags say of that. */
		entry->flags = descs[i].flags & (VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT);
		if (i + 1u < count) {
			entry->flags |= VRING_DESC_F_NEXT;
			at = entry->next;
		}
	}
	packed->free = packed->entries[at].next;
	packed->chains[slot] = packed_chain_of(descs[count - 1].id, count, at);
	packed->num_free -= count;
	advance(&packed->look, count, ring->size);
	return slot;
}

uint16_t packed_descs(const struct vhc_ring *ring, uint16_t slot, struct vring_packed_desc *out)
{
	const packed_chain chain = ring->packed.chains[slot];
	const uint16_t count = (uint16_t)packed_count(chain);
	const struct vring_desc *entry = &ring->packed.entries[slot];

	for (uint32_t i = 0; i < count; i++) {
		out[i] = (struct vring_packed_desc){.addr = entry->addr,
						    .len = entry->len,
						    .id = (uint16_t)(chain >> 32),
						    .flags = entry->flags};
		if (i + 1u < count)
			entry = &ring->packed.entries[entry->next];
	}
	return count;
}

/* ---- Used descriptors ---- */

/* The device's bits in a lap, where they lie in what packed_show stores. */
static inline uint64_t used_bits(bool wrap)
{
	return wrap ? (uint64_t)(PACKED_AVAIL | PACKED_USED) << 48 : 0;
}

/* A used descriptor but for its address: length, id and flags. */
static inline uint64_t used_desc(packed_chain put, uint64_t bits)
{
	const uint64_t write = (uint64_t)VRING_DESC_F_WRITE << 48;

	return (put & UINT64_C(0xffffffffffff)) | bits | ((uint32_t)put > 0 ? write : 0);
}

/* Where they lie in a descriptor. */
static inline uint64_t *rest_of(const struct packed *packed, uint32_t index)
{
	return (uint64_t *)(void *)&packed->ring[index].len;
}

uint32_t packed_show(struct vhc_ring *ring)
{
	struct packed *packed = &ring->packed;
	const packed_chain *puts = packed->puts;
	const packed_chain *end = puts + packed->num_puts;
	const uint32_t size = ring->size;
	const uint32_t first = packed->used.index;
	const uint64_t first_desc = used_desc(*puts, used_bits(packed->used.wrap));
	uint64_t bits = used_bits(packed->used.wrap);
	uint32_t at = first;
	uint32_t total = 0;

	for (;;) {
		uint32_t count = packed_count(*puts);

		total += count;
		at += count;
		if (at >= size) {
			at -= size;
			bits ^= used_bits(true);
		}
		if (++puts == end)
			break;
		__atomic_store_n(rest_of(packed, at), used_desc(*puts, bits), __ATOMIC_RELAXED);
	}
	if (ring->call_fd < 0)
		__atomic_store_n(rest_of(packed, first), first_desc, __ATOMIC_RELEASE);
	else
		__atomic_store_n(rest_of(packed, first), first_desc, __ATOMIC_SEQ_CST);
	packed->used = (struct inflight_position){.index = (uint16_t)at, .wrap = bits != 0};
	packed->num_puts = 0;
	packed->num_free += total;
	return total;
}

uint32_t packed_show_each(struct vhc_ring *ring)
{
	struct packed *packed = &ring->packed;
	uint32_t total = 0;

	for (uint32_t i = 0; i < packed->num_puts; i++) {
		uint64_t *to = rest_of(packed, packed->used.index);
		uint64_t desc = used_desc(packed->puts[i], used_bits(packed->used.wrap));
		uint32_t count = packed_count(packed->puts[i]);
		struct inflight_position shown = packed->used;

		advance(&packed->used, count, ring->size);
		inflight_step_packed(ring->inflight, shown, packed->used);
		__atomic_store_n(to, desc, __ATOMIC_RELEASE);
		total += count;
	}
	inflight_settle_packed(ring->inflight, packed->used);
	packed->num_puts = 0;
	packed->num_free += total;
	/* The driver's event structure is read after the last of them. */
	atomic_thread_fence(memory_order_seq_cst);
	return total;
}

/* ---- Notifications ---- */

/* A structure's two fields as one number, which is how both sides read and write it. */
static inline uint32_t *whole(struct vring_packed_desc_event *event)
{
	return (uint32_t *)(void *)event;
}

bool packed_wants_call(struct vhc_ring *ring, uint32_t count)
{
	struct packed *packed = &ring->packed;
	uint32_t event = __atomic_load_n(whole(packed->driver), __ATOMIC_SEQ_CST);
	uint32_t flags = event >> 16 & 3;
	struct inflight_position wanted;
	int32_t before;

	if (flags != VRING_PACKED_EVENT_FLAG_DESC || !ring->event_idx)
		return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	if (!ring->called) {
		ring->called = true;
		return true;
	}
	/* How many descriptors ago the device was there: this lap or, on the other counter, the
	 * last. */
	read_position(event & UINT16_MAX, ring->size, &wanted);
	before = (int32_t)packed->used.index - wanted.index;
	if (wanted.wrap != packed->used.wrap)
		before += (int32_t)ring->size;
	return before > 0 && (uint32_t)before <= count;
}

static void ask(struct vhc_ring *ring, uint32_t flags, uint16_t position)
{
	__atomic_store_n(whole(ring->packed.device), flags << 16 | position, __ATOMIC_SEQ_CST);
}

bool packed_arm(struct vhc_ring *ring)
{
	const struct packed *packed = &ring->packed;

	if (ring->event_idx)
		ask(ring, VRING_PACKED_EVENT_FLAG_DESC, pack_position(packed->look));
	else
		ask(ring, VRING_PACKED_EVENT_FLAG_ENABLE, 0);
	return packed->num_ahead > 0 || packed_waits(packed, __ATOMIC_SEQ_CST);
}

void packed_disarm(struct vhc_ring *ring)
{
	ask(ring, VRING_PACKED_EVENT_FLAG_DISABLE, 0);
}
