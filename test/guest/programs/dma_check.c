/* SPDX-License-Identifier: MIT */
/*
 * dma_check DISK BLOCKS SLOTS: finds memory that a disk wrote and somebody forgot.
 *
 * Writes BLOCKS blocks of 4 KiB, each with content of its own, then reads them at
 * random into SLOTS pages of memory, which nothing but the disk ever writes. At a
 * line on standard input it compares every page with the block that was read into
 * it last, prints how many it read since the last time and how many pages differ,
 * and goes on; at the end of the input it ends.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK 4096u
#define NOTHING UINT32_MAX

static uint64_t seed = 88172645463325252u;

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t word(uint32_t block, uint32_t at)
{
	return (block + 1) * UINT64_C(0x9e3779b97f4a7c15) + at;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void write_blocks(int fd, uint32_t blocks, uint64_t *page)
{
	for (uint32_t block = 0; block < blocks; block++) {
		for (uint32_t i = 0; i < BLOCK / 8; i++)
			page[i] = word(block, i);
		if (pwrite(fd, page, BLOCK, (off_t)block * BLOCK) != BLOCK)
			die("write");
	}
}

static uint32_t differing(const uint64_t *pages, const uint32_t *holds, uint32_t slots)
{
	uint32_t n = 0;

	for (uint32_t slot = 0; slot < slots; slot++) {
		const uint64_t *page = pages + (size_t)slot * (BLOCK / 8);
		int differs = 0;

		for (uint32_t i = 0; i < BLOCK / 8 && holds[slot] != NOTHING; i++)
			differs |= page[i] != word(holds[slot], i);
		n += differs;
	}
	return n;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;

	uint32_t blocks = (uint32_t)atoi(argv[2]);
	uint32_t slots = (uint32_t)atoi(argv[3]);
	int fd = open(argv[1], O_RDWR | O_DIRECT);
	/* One more, to write from. */
	uint64_t *pages = mmap(NULL, ((size_t)slots + 1) * BLOCK, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	uint32_t *holds = malloc(slots * sizeof(*holds));
	struct pollfd input = {.fd = 0, .events = POLLIN};
	uint64_t reads = 0;
	char line[64];

	if (fd < 0 || pages == MAP_FAILED || !holds)
		die(argv[1]);
	for (uint32_t slot = 0; slot < slots; slot++)
		holds[slot] = NOTHING;
	write_blocks(fd, blocks, pages + (size_t)slots * (BLOCK / 8));
	for (;;) {
		uint32_t slot = (uint32_t)(random64() % slots);
		uint32_t block = (uint32_t)(random64() % blocks);

		if (poll(&input, 1, 0) > 0) {
			if (read(0, line, sizeof(line)) <= 0)
				return 0;
			printf("%" PRIu64 " reads, %u differ\n", reads, differing(pages, holds, slots));
			fflush(stdout);
			reads = 0;
		}
		if (pread(fd, pages + (size_t)slot * (BLOCK / 8), BLOCK, (off_t)block * BLOCK) !=
		    BLOCK)
			die("read");
		holds[slot] = block;
		reads++;
	}
}
