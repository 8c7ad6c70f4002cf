/* SPDX-License-Identifier: MIT */
#include "file_map.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "iov.h"
#include "sigbus.h"

/* Pages whose presence is asked for at once: 2 MiB, and one line of bits. */
#define CHUNK_PAGES 512u
#define BITS 64u
#define PREFETCH_LINES 6u
#define CACHE_LINE 64u

/*
 * The bits are hints between threads: one that is wrongly set costs a page of
 * memory, one that is wrongly clear costs a system call.
 */
struct file_map {
	uint8_t *addr;
	uint64_t size;
	int fd;
	uint32_t page_shift;
	atomic_bool faulted; /* the file was cut short under the map: it is of no more use */
	atomic_bool written; /* since the last touch */
	struct sigbus_guard *guard;
	uint64_t bitmap_bytes;
	_Atomic uint64_t *present; /* a bit for each page that is there */
	_Atomic uint64_t *asked;   /* a bit for each chunk whose bits are filled in */
};

/* ---- Bits ---- */

static bool test_bit(const _Atomic uint64_t *bits, uint64_t n)
{
	return atomic_load_explicit(&bits[n / BITS], memory_order_relaxed) >> (n % BITS) & 1;
}

static void set_bits(_Atomic uint64_t *word, uint64_t mask)
{
	if (~atomic_load_explicit(word, memory_order_relaxed) & mask)
		atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
}

static void clear_bits(_Atomic uint64_t *word, uint64_t mask)
{
	if (atomic_load_explicit(word, memory_order_relaxed) & mask)
		atomic_fetch_and_explicit(word, ~mask, memory_order_relaxed);
}

/* Sets or clears the bits from first to before end, a word at a time. */
static void change_bits(_Atomic uint64_t *bits, uint64_t first, uint64_t end,
			void (*change)(_Atomic uint64_t *, uint64_t))
{
	while (first < end) {
		uint64_t n = BITS - first % BITS;
		if (n > end - first)
			n = end - first;
		change(&bits[first / BITS], (~UINT64_C(0) >> (BITS - n)) << (first % BITS));
		first += n;
	}
}

/* Asks the kernel which pages of a chunk are there and sets their bits. */
static void ask_chunk(struct file_map *map, uint64_t chunk)
{
	unsigned char there[CHUNK_PAGES];
	const uint64_t first = chunk * CHUNK_PAGES, left = (map->size >> map->page_shift) - first;
	const uint64_t count = left < CHUNK_PAGES ? left : CHUNK_PAGES;
	if (mincore(map->addr + (first << map->page_shift), count << map->page_shift, there) == 0)
		for (uint64_t i = 0; i < count; i++)
			if (there[i] & 1)
				change_bits(map->present, first + i, first + i + 1, set_bits);
	change_bits(map->asked, chunk, chunk + 1, set_bits);
}

static bool has_pages(struct file_map *map, uint64_t offset, uint64_t len)
{
	const uint64_t last = (offset + len - 1) >> map->page_shift;
	for (uint64_t p = offset >> map->page_shift; p <= last; p++) {
		if (__builtin_expect(test_bit(map->present, p), 1))
			continue;
		if (test_bit(map->asked, p / CHUNK_PAGES))
			return false;
		ask_chunk(map, p / CHUNK_PAGES);
		if (!test_bit(map->present, p))
			return false;
	}
	return true;
}

/* ---- Making ---- */

static void *map_zeroes(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return at == MAP_FAILED ? NULL : at;
}

static bool set_up(struct file_map *map, bool writable)
{
	const uint64_t page = UINT64_C(1) << map->page_shift;
	void *at = mmap(NULL, map->size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
			map->fd, 0);
	if (at == MAP_FAILED)
		return false;
	map->addr = at;
	/* Room for a bit more than the pages, in whole words; the chunks' bits are after it. */
	const uint64_t words = map->size / page / BITS + 1;
	map->bitmap_bytes = (words + words / CHUNK_PAGES + 1) * sizeof(uint64_t);
	map->present = map_zeroes(map->bitmap_bytes);
	if (!map->present)
		return false;
	map->asked = map->present + words;
	map->guard = sigbus_guard((uintptr_t)map->addr, map->size, page, &map->faulted);
	madvise(map->addr, map->size, MADV_DONTDUMP);
	return map->guard != NULL;
}

struct file_map *file_map_create(int fd, uint64_t size, bool writable)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct file_map *map = calloc(1, sizeof(*map));
	if (!map)
		return NULL;
	map->fd = fd;
	map->page_shift = (uint32_t)__builtin_ctzll(page);
	map->size = (size + page - 1) & ~(page - 1);
	if (set_up(map, writable))
		return map;
	file_map_release(map);
	return NULL;
}

void file_map_release(struct file_map *map)
{
	if (!map)
		return;
	file_map_touch(map);
	if (map->guard)
		sigbus_unguard(map->guard);
	if (map->addr)
		munmap(map->addr, map->size);
	if (map->present)
		munmap(map->present, map->bitmap_bytes);
	free(map);
}

/* ---- Using ---- */

static bool covers(const struct file_map *map, uint64_t offset, uint64_t len)
{
	return map && offset <= map->size && len <= map->size - offset &&
	       !atomic_load_explicit(&map->faulted, memory_order_relaxed);
}

bool file_map_copy(struct file_map *map, const struct io *io)
{
	const bool read = io->op == VHC_OP_READ;
	if (!covers(map, io->offset, io->len) || !has_pages(map, io->offset, io->len))
		return false;
	iov_copy(io->iov, io->iovcnt, 0, map->addr + io->offset, io->len, read);
	if (!read && !atomic_load_explicit(&map->written, memory_order_relaxed))
		atomic_store_explicit(&map->written, true, memory_order_relaxed);
	/* A fault, on any thread, sets the flag before it takes the file's pages away. */
	atomic_thread_fence(memory_order_acquire);
	return !atomic_load_explicit(&map->faulted, memory_order_relaxed);
}

void file_map_prefetch(const struct file_map *map, const struct io *io)
{
	prefetch_write(io->status);
	if (io->op != VHC_OP_READ || !covers(map, io->offset, io->len))
		return;
	/* To where nothing is mapped it does nothing. */
	for (uint32_t line = 0; line < PREFETCH_LINES; line++)
		__builtin_prefetch(map->addr + io->offset + (size_t)line * CACHE_LINE);
}

/* The page after the one that byte n - 1 is in. */
static uint64_t page_end(const struct file_map *map, uint64_t n)
{
	return (n + (UINT64_C(1) << map->page_shift) - 1) >> map->page_shift;
}

void file_map_filled(struct file_map *map, uint64_t offset, uint64_t len)
{
	if (covers(map, offset, len))
		change_bits(map->present, offset >> map->page_shift, page_end(map, offset + len),
			    set_bits);
}

void file_map_emptied(struct file_map *map, uint64_t offset, uint64_t len)
{
	if (covers(map, offset, len))
		change_bits(map->present, offset >> map->page_shift, page_end(map, offset + len),
			    clear_bits);
}

void file_map_touch(struct file_map *map)
{
	static const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	if (map && atomic_exchange(&map->written, false))
		futimens(map->fd, now);
}
