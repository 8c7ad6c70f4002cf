/* SPDX-License-Identifier: MIT */
/* In-flight regions: their layout, what a successor finds, and contents that nobody wrote. */
#include "inflight_buffer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* xorshift */
static uint64_t state = 88172645463325252u;

static uint32_t chance(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 20) % below;
}

/* ---- Buffers ---- */

static void bytes_of_buffers(void)
{
	CHECK_EQ(vhc_inflight_bytes(1, 1, 0), 64);
	CHECK_EQ(vhc_inflight_bytes(1, 3, 0), 64);
	CHECK_EQ(vhc_inflight_bytes(1, 4, 0), 128);
	CHECK_EQ(vhc_inflight_bytes(4, 128, 0), 4 * 2112);
	CHECK_EQ(vhc_inflight_bytes(1, 1, 1), 64);
	CHECK_EQ(vhc_inflight_bytes(1, 2, 1), 128);
	CHECK_EQ(vhc_inflight_bytes(4, 128, 1), 4 * 4160);
	CHECK_EQ(vhc_inflight_bytes(1024, 32768, 1), 1024ll * (32768 * 32 + 64));
	CHECK_EQ(vhc_inflight_bytes(0, 128, 0), -EINVAL);
	CHECK_EQ(vhc_inflight_bytes(1025, 128, 0), -EINVAL);
	CHECK_EQ(vhc_inflight_bytes(1, 0, 0), -EINVAL);
	CHECK_EQ(vhc_inflight_bytes(1, 32769, 0), -EINVAL);
	CHECK_EQ(vhc_inflight_bytes(1, 128, 2), -EINVAL);
}

static int try_create(struct vhc_inflight_config config)
{
	struct vhc_inflight *of = NULL;
	int result = vhc_inflight_create(&config, &of);

	vhc_inflight_release(of);
	return result;
}

static void refuses_bad_buffers(void)
{
	int fds = check_open_fds();
	int pipes[2], file = memfd_create("inflight_test", MFD_CLOEXEC);
	struct vhc_inflight_config good = {
	    .size = 4224, .fd = file, .num_queues = 2, .queue_size = 128};
	struct vhc_inflight_config config = good;

	REQUIRE(file >= 0 && ftruncate(file, 8192) == 0 && pipe(pipes) == 0);
	CHECK_EQ(try_create(good), 0);
	config.size = 4223;
	CHECK_EQ(try_create(config), -EINVAL);
	config = good;
	config.packed = 1;
	CHECK_EQ(try_create(config), -EINVAL);
	config = good;
	config.offset = 8192 - 4224 + 64;
	CHECK_EQ(try_create(config), -EINVAL);
	config.offset = UINT64_MAX - 63;
	CHECK_EQ(try_create(config), -EINVAL);
	config.offset = 8;
	CHECK_EQ(try_create(config), -EINVAL);
	config.offset = 64;
	CHECK_EQ(try_create(config), 0);
	config.size = UINT64_MAX;
	CHECK_EQ(try_create(config), -EINVAL);
	config = good;
	config.fd = pipes[0];
	CHECK_EQ(try_create(config), -EINVAL);
	config.fd = -1;
	CHECK_EQ(try_create(config), -EBADF);

	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	config.fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK_EQ(try_create(config), -EACCES);
	close(config.fd);
	close(pipes[0]);
	close(pipes[1]);
	close(file);
	CHECK_EQ(check_open_fds(), fds);
}

static void refuses_bad_rings(void)
{
	struct buffer b;
	struct inflight *inflight;

	REQUIRE(buffer_create(&b, 8, false));
	CHECK_EQ(inflight_open(b.of, 2, 8, false, &inflight), -EINVAL);
	CHECK_EQ(inflight_open(b.of, 0, 9, false, &inflight), -EINVAL);
	CHECK_EQ(inflight_open(b.of, 0, 0, false, &inflight), -EINVAL);
	CHECK_EQ(inflight_open(b.of, 0, 8, true, &inflight), -EINVAL);
	inflight_close(NULL);
	vhc_inflight_release(NULL);
	/* The buffer lives as long as a ring's part of it. */
	vhc_inflight_release(b.of);
	uint16_t heads[8];
	CHECK_EQ(inflight_recover_split(b.inflight, 0, heads), 0);
	CHECK_EQ(b.split->version, 1);
	inflight_close(b.inflight);
	munmap(b.bytes, b.len);
	close(b.fd);
}

/* ---- Layouts ---- */

static void layout_of_split(void)
{
	struct buffer b;
	uint16_t heads[8];

	REQUIRE(buffer_create(&b, 8, false));
	memset(b.region + 16, 0xaa, 8 * 16); /* whatever was there */
	CHECK_EQ(inflight_recover_split(b.inflight, 65530, heads), 0);
	CHECK_EQ(b.split->features, 0);
	CHECK_EQ(b.split->version, 1);
	CHECK_EQ(b.split->desc_num, 8);
	CHECK_EQ(b.split->used_idx, 65530);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(b.split->desc[i].inflight, 0);
	CHECK(!inflight_any(b.inflight));

	inflight_begin_split(b.inflight, 65534);
	CHECK_EQ(b.split->used_idx, 65534);
	inflight_mark_split(b.inflight, 5);
	inflight_mark_split(b.inflight, 0);
	inflight_mark_split(b.inflight, 7);
	CHECK(inflight_any(b.inflight));
	CHECK_EQ(b.split->desc[5].inflight, 1);
	CHECK_EQ(b.split->desc[0].inflight, 1);
	CHECK_EQ(b.split->desc[7].inflight, 1);
	CHECK_EQ(b.split->desc[0].counter, b.split->desc[5].counter + 1);
	CHECK_EQ(b.split->desc[7].counter, b.split->desc[5].counter + 2);
	inflight_put(b.inflight, 7);
	inflight_put(b.inflight, 5);
	CHECK_EQ(b.split->last_batch_head, 5);
	CHECK_EQ(b.split->desc[5].next, 7);
	CHECK_EQ(b.split->desc[5].inflight, 1);
	inflight_settle_split(b.inflight, 0);
	CHECK_EQ(b.split->used_idx, 0);
	CHECK_EQ(b.split->desc[5].inflight, 0);
	CHECK_EQ(b.split->desc[7].inflight, 0);
	CHECK_EQ(b.split->desc[0].inflight, 1);
	CHECK(inflight_any(b.inflight));
	inflight_put(b.inflight, 0);
	CHECK(inflight_any(b.inflight));
	CHECK_EQ(b.split->desc[0].next, 5);
	inflight_settle_split(b.inflight, 1);
	CHECK(!inflight_any(b.inflight));
	/* Nothing outside. */
	for (uint64_t i = 0; i < OFFSET + b.region_len; i++)
		CHECK_EQ(b.bytes[i], 0);
	buffer_destroy(&b);
}

static void layout_of_packed(void)
{
	struct buffer b;
	struct vring_packed_desc ring[5] = {0}, descs[5];
	struct inflight_chain chains[5];
	struct inflight_position used = {.index = 3, .wrap = false};

	REQUIRE(buffer_create(&b, 5, true));
	memset(b.region + 32, 0xaa, 5 * 32);
	CHECK_EQ(inflight_recover_packed(b.inflight, ring, &used, chains, descs), 0);

	const struct spec_packed *region = b.packed_region;

	CHECK_EQ(used.index, 3);
	CHECK_EQ(region->version, 1);
	CHECK_EQ(region->desc_num, 5);
	CHECK_EQ(region->used_idx, 3);
	CHECK_EQ(region->old_used_idx, 3);
	CHECK_EQ(region->used_wrap_counter, 0);
	CHECK_EQ(region->old_used_wrap_counter, 0);
	CHECK_EQ(region->free_head, 0);
	CHECK_EQ(region->old_free_head, 0);

	const struct vring_packed_desc two[2] = {
	    {.addr = 0x1234567890, .len = 77, .id = 40000, .flags = AVAIL | 1},
	    {.addr = 0x10, .len = 1, .id = 9, .flags = AVAIL | 2}};

	inflight_mark_packed(b.inflight, 4, two, 2);
	inflight_mark_packed(b.inflight, 0, two + 1, 1);
	CHECK_EQ(region->free_head, 3);
	CHECK_EQ(region->old_free_head, 3);
	CHECK_EQ(region->desc[0].inflight, 1);
	CHECK_EQ(region->desc[0].num, 2);
	CHECK_EQ(region->desc[0].last, 1);
	CHECK_EQ(region->desc[0].next, 1);
	CHECK_EQ(region->desc[0].addr, 0x1234567890);
	CHECK_EQ(region->desc[0].len, 77);
	CHECK_EQ(region->desc[0].id, 40000);
	CHECK_EQ(region->desc[0].flags, AVAIL | 1);
	CHECK_EQ(region->desc[1].inflight, 0);
	CHECK_EQ(region->desc[1].id, 9);
	CHECK_EQ(region->desc[2].inflight, 1);
	CHECK_EQ(region->desc[2].num, 1);
	CHECK_EQ(region->desc[2].last, 2);
	CHECK_EQ(region->desc[2].counter, region->desc[0].counter + 1);

	inflight_put(b.inflight, 4);
	inflight_announce_packed(b.inflight, (struct inflight_position){0, true});
	CHECK_EQ(region->free_head, 0);
	CHECK_EQ(region->old_free_head, 3);
	CHECK_EQ(region->desc[1].next, 3);
	CHECK_EQ(region->used_idx, 0);
	CHECK_EQ(region->old_used_idx, 3);
	CHECK_EQ(region->used_wrap_counter, 1);
	CHECK_EQ(region->old_used_wrap_counter, 0);
	CHECK_EQ(region->desc[0].inflight, 1);
	inflight_settle_packed(b.inflight, (struct inflight_position){0, true});
	CHECK_EQ(region->desc[0].inflight, 0);
	CHECK_EQ(region->desc[2].inflight, 1);
	CHECK_EQ(region->old_free_head, 0);
	CHECK_EQ(region->old_used_idx, 0);
	CHECK_EQ(region->old_used_wrap_counter, 1);
	for (uint64_t i = 0; i < OFFSET + b.region_len; i++)
		CHECK_EQ(b.bytes[i], 0);
	buffer_destroy(&b);
}

/* ---- Contents that nobody wrote ---- */

/* What a ring leaves behind that dies at some moment. */
static void plant(struct buffer *b)
{
	struct vring_packed_desc ring[MAX_SIZE] = {0}, descs[MAX_SIZE] = {0};
	struct inflight_chain chains[MAX_SIZE];
	struct inflight_position used = {(uint16_t)chance(b->size), true};
	uint16_t heads[MAX_SIZE];

	b->split->version = 0;
	if (!b->packed) {
		inflight_recover_split(b->inflight, (uint16_t)chance(65536), heads);
		for (uint32_t i = 0; i < b->size && chance(8); i++)
			inflight_mark_split(b->inflight, (uint16_t)i);
		for (uint32_t i = 0; i < b->size && chance(3); i++)
			inflight_put(b->inflight, (uint16_t)i);
		return;
	}
	inflight_recover_packed(b->inflight, ring, &used, chains, descs);
	for (uint32_t room = b->size, slot = 0; room > 0 && chance(8); slot++) {
		uint32_t count = 1 + chance(room);

		inflight_mark_packed(b->inflight, (uint16_t)slot, descs, (uint16_t)count);
		room -= count;
		if (chance(4) == 0)
			inflight_put(b->inflight, (uint16_t)slot);
	}
	if (chance(2))
		inflight_announce_packed(b->inflight, used);
}

/* Any bytes, or what was there with a few changed, behind a header that lets them be read. */
static void scribble(struct buffer *b)
{
	uint32_t n = chance(4) == 0 ? (uint32_t)b->region_len : chance(6);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = n < b->region_len ? chance((uint32_t)b->region_len) : i;
		/* Mostly small numbers: they are what may be taken for an index. */
		b->region[at] =
		    (uint8_t)(chance(3) ? chance(4) ? chance(b->size + 1) : 0 : chance(256));
	}
	if (chance(16)) {
		b->split->features = 0;
		b->split->version = 1;
		b->split->desc_num = (uint16_t)b->size;
	}
}

static int fuzz_split(struct buffer *b)
{
	uint16_t heads[MAX_SIZE];
	uint64_t seen = 0;
	uint16_t used = (uint16_t)chance(65536);
	int n = inflight_recover_split(b->inflight, used, heads);

	if (n < 0)
		return CHECK_EQ(n, -EPROTO) ? 0 : -1;
	for (int i = 0; i < n; i++) {
		if (!CHECK(heads[i] < b->size && !(seen >> heads[i] & 1)))
			return -1;
		seen |= UINT64_C(1) << heads[i];
	}
	CHECK_EQ(inflight_any(b->inflight), n > 0);
	for (int i = 0; i < 40; i++) {
		uint16_t head = (uint16_t)chance(b->size);

		if (chance(8) == 0)
			scribble(b);
		if (chance(3) == 0)
			inflight_settle_split(b->inflight, used++);
		else if (chance(2))
			inflight_mark_split(b->inflight, head);
		else
			inflight_put(b->inflight, head);
	}
	return 1;
}

static int fuzz_packed(struct buffer *b)
{
	struct vring_packed_desc ring[MAX_SIZE], descs[MAX_SIZE];
	struct inflight_chain chains[MAX_SIZE];
	struct inflight_position used = {(uint16_t)chance(b->size), chance(2)};
	uint64_t seen = 0;
	uint32_t sum = 0;

	for (uint32_t i = 0; i < b->size; i++)
		ring[i].flags = (uint16_t)((chance(2) ? AVAIL : 0) | (chance(2) ? USED : 0));

	int n = inflight_recover_packed(b->inflight, ring, &used, chains, descs);

	if (n < 0)
		return CHECK_EQ(n, -EPROTO) ? 0 : -1;
	if (!CHECK(used.index < b->size))
		return -1;
	for (int i = 0; i < n; i++) {
		if (!CHECK(chains[i].entry < b->size && !(seen >> chains[i].entry & 1)))
			return -1;
		seen |= UINT64_C(1) << chains[i].entry;
		sum += chains[i].count;
		inflight_bind(b->inflight, (uint16_t)i, chains[i].entry);
	}
	if (!CHECK(sum <= b->size))
		return -1;
	CHECK_EQ(inflight_any(b->inflight), n > 0);
	for (int i = 0; i < 40; i++) {
		if (chance(8) == 0)
			scribble(b);
		uint16_t slot = (uint16_t)chance(b->size);

		if (chance(3) == 0) {
			inflight_announce_packed(b->inflight, used);
			inflight_settle_packed(b->inflight, used);
		} else if (n <= (int)slot && chance(2)) {
			inflight_mark_packed(b->inflight, slot, descs, 1);
			n = n > slot ? n : slot + 1;
		} else if (n > (int)slot) {
			/* Also twice: more than a ring can have. */
			inflight_put(b->inflight, slot);
		}
	}
	return 1;
}

static void fuzz(bool packed, uint32_t rounds)
{
	int good = 0, bad = 0;

	for (uint32_t size = 1; size <= MAX_SIZE; size = size * 2 + packed) {
		struct buffer b;

		REQUIRE(buffer_create(&b, size, packed));
		for (uint32_t i = 0; i < rounds / 7; i++) {
			if (chance(4)) {
				REQUIRE(reopen(&b));
				plant(&b);
			}
			scribble(&b);
			REQUIRE(reopen(&b));

			int result = packed ? fuzz_packed(&b) : fuzz_split(&b);

			REQUIRE(result >= 0);
			good += result == 1;
			bad += result == 0;
		}
		buffer_destroy(&b);
	}
	/* Both happen, and not by chance. */
	CHECK(good > (int)rounds / 50);
	CHECK(bad > (int)rounds / 50);
	printf("# %s: %d read, %d refused\n", packed ? "packed" : "split", good, bad);
}

/* The peer takes the file away: its own recovery is lost, nothing else. */
static void survives_a_shrunk_file(void)
{
	struct vring_packed_desc ring[8] = {0}, descs[8] = {0};
	struct inflight_chain chains[8];
	struct inflight_position used = {0, true};
	uint16_t heads[8];
	struct buffer b;

	REQUIRE(buffer_create(&b, 8, false));
	CHECK_EQ(inflight_recover_split(b.inflight, 0, heads), 0);
	CHECK_EQ(ftruncate(b.fd, 0), 0);
	inflight_mark_split(b.inflight, 7);
	inflight_put(b.inflight, 7);
	inflight_settle_split(b.inflight, 1);
	CHECK(!inflight_any(b.inflight));
	buffer_destroy(&b);

	REQUIRE(buffer_create(&b, 8, true));
	CHECK_EQ(ftruncate(b.fd, 0), 0);
	CHECK_EQ(inflight_recover_packed(b.inflight, ring, &used, chains, descs), 0);
	inflight_mark_packed(b.inflight, 3, descs, 2);
	inflight_put(b.inflight, 3);
	inflight_announce_packed(b.inflight, used);
	inflight_settle_packed(b.inflight, used);
	CHECK(!inflight_any(b.inflight));
	buffer_destroy(&b);
}

static uint32_t fuzz_rounds = 40000;

static void any_bytes_split(void)
{
	fuzz(false, fuzz_rounds);
}

static void any_bytes_packed(void)
{
	fuzz(true, fuzz_rounds);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		fuzz_rounds = (uint32_t)atoi(argv[1]);
	RUN(bytes_of_buffers);
	RUN(refuses_bad_buffers);
	RUN(refuses_bad_rings);
	RUN(layout_of_split);
	RUN(layout_of_packed);
	RUN(survives_a_shrunk_file);
	RUN(any_bytes_split);
	RUN(any_bytes_packed);
	return check_report();
}
