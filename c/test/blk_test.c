/* SPDX-License-Identifier: MIT */
/* virtio-blk requests: from what a guest writes to what a backend is asked, and back. */
#include <errno.h>

#include "spy.h"

static void reads_and_writes(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	for (uint32_t indirect = 0; indirect < 2; indirect++) {
		uint16_t head = guest_request(&rig.guest, 0, indirect, VIRTIO_BLK_T_IN, 8, 4096);
		REQUIRE(serve(&rig, head));
		CHECK_EQ(*guest_status(&rig.guest, 0), VIRTIO_BLK_S_OK);
		CHECK_EQ(rig.used.len, 4097);
		CHECK_EQ(rig.spy.last.op, VHC_OP_READ);
		CHECK_EQ(rig.spy.last.offset, 4096);
		CHECK_EQ(rig.spy.last.len, 4096);
		CHECK_EQ(rig.spy.last.iovcnt, 1);
		head = guest_request(&rig.guest, 1, indirect, VIRTIO_BLK_T_OUT, 3, 1024);
		REQUIRE(serve(&rig, head));
		CHECK_EQ(*guest_status(&rig.guest, 1), VIRTIO_BLK_S_OK);
		CHECK_EQ(rig.used.len, 1);
		CHECK_EQ(rig.spy.last.op, VHC_OP_WRITE);
		CHECK_EQ(rig.spy.last.offset, 1536);
		CHECK_EQ(rig.spy.last.len, 1024);
	}
	CHECK_EQ(rig.spy.asked, 4);
	rig_destroy(&rig);
}

/* ANY_LAYOUT: the parts of a request may be cut anywhere (virtio 2.7.4). */
static void takes_any_layout(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	uint8_t *at = guest_data(&rig.guest, 0);
	/* Each byte of the header alone, data with the status. */
	*(struct virtio_blk_outhdr *)at =
	    (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = 2};
	for (uint16_t i = 0; i < 16; i++)
		guest_desc(&rig.guest, i, at + i, 1, NEXT, (uint16_t)(i + 1));
	guest_desc(&rig.guest, 16, at + 512, 513, WRITE, 0);
	at[1024] = 0xff;
	REQUIRE(serve(&rig, 0));
	CHECK_EQ(at[1024], VIRTIO_BLK_S_OK);
	CHECK_EQ(rig.used.len, 513);
	CHECK_EQ(rig.spy.last.offset, 1024);
	CHECK_EQ(rig.spy.last.len, 512);
	/* The header with data after it in one descriptor, the rest in another. */
	*(struct virtio_blk_outhdr *)at =
	    (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_OUT, .sector = 5};
	guest_desc(&rig.guest, 0, at, 116, NEXT, 1);
	guest_desc(&rig.guest, 1, at + 1024, 412, NEXT, 2);
	guest_desc(&rig.guest, 2, at + 3000, 1, WRITE, 0);
	REQUIRE(serve(&rig, 0));
	CHECK_EQ(at[3000], VIRTIO_BLK_S_OK);
	CHECK_EQ(rig.spy.last.len, 512);
	CHECK_EQ(rig.spy.last.iovcnt, 2);
	CHECK_EQ(rig.spy.last.iov[0].iov_len, 100);
	CHECK_EQ(rig.spy.last.iov[1].iov_len, 412);
	rig_destroy(&rig);
}

/* As many pieces as fit, several such requests at once. */
static void takes_many_pieces(void)
{
	struct rig rig;
	const uint32_t pieces = 256;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	for (uint32_t r = 0; r < 4; r++) {
		struct vring_desc *table = (struct vring_desc *)guest_data(&rig.guest, 10 + 2 * r);
		*guest_header(&rig.guest, r) = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_OUT};
		table[0] = (struct vring_desc){guest_gpa(&rig.guest, guest_header(&rig.guest, r)),
					       16, NEXT, 1};
		for (uint32_t i = 0; i < pieces; i++)
			table[1 + i] = (struct vring_desc){
			    guest_gpa(&rig.guest, guest_data(&rig.guest, 0) + i * 2), 2, NEXT,
			    (uint16_t)(i + 2)};
		table[1 + pieces] = (struct vring_desc){
		    guest_gpa(&rig.guest, guest_status(&rig.guest, r)), 1, WRITE, 0};
		*guest_status(&rig.guest, r) = 0xff;
		guest_desc(&rig.guest, r, table, (2 + pieces) * 16, VRING_DESC_F_INDIRECT, 0);
		guest_offer(&rig.guest, (uint16_t)r);
	}
	guest_publish(&rig.guest);
	CHECK_EQ(queue_poll(rig.queue), 4);
	for (uint32_t r = 0; r < 4; r++)
		CHECK_EQ(*guest_status(&rig.guest, r), VIRTIO_BLK_S_OK);
	CHECK_EQ(rig.spy.last.iovcnt, pieces);
	CHECK_EQ(rig.queue->free_large, rig.queue->num_large);
	rig_destroy(&rig);
}

static void checks_ranges(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	static const uint32_t types[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(request(&rig, types[i], BLOCKS - 8), VIRTIO_BLK_S_OK);
		CHECK_EQ(request(&rig, types[i], BLOCKS - 7), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(rig.used.len, 1);
		CHECK_EQ(request(&rig, types[i], BLOCKS), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(request(&rig, types[i], UINT64_MAX), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(request(&rig, types[i], UINT64_MAX - 7), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(request(&rig, types[i], UINT64_C(1) << 55), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(request_len(&rig, types[i], 0, 511), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(request_len(&rig, types[i], 0, 513), VIRTIO_BLK_S_IOERR);
		CHECK_EQ(request_len(&rig, types[i], 0, 0), VIRTIO_BLK_S_IOERR);
	}
	CHECK_EQ(rig.spy.asked, 2);
	CHECK_EQ(rig.guest.stats->op[VHC_OP_READ].errors, 8);
	CHECK_EQ(rig.guest.stats->op[VHC_OP_READ].count, 9);
	CHECK_EQ(rig.guest.stats->op[VHC_OP_WRITE].errors, 8);
	CHECK_EQ(rig.bdev_stats->op[VHC_OP_READ].count, 1);
	rig_destroy(&rig);
}

static void holds_to_large_blocks(void)
{
	struct rig rig;

	REQUIRE(rig_create_blocks(&rig, ALL_FEATURES, 4096));
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, 8), VIRTIO_BLK_S_OK);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, 1), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request_len(&rig, VIRTIO_BLK_T_OUT, 8, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, BLOCKS - 8), VIRTIO_BLK_S_OK);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, BLOCKS), VIRTIO_BLK_S_IOERR);
	rig_destroy(&rig);
}

/* A resize is seen by the next request. */
static void follows_the_capacity(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, BLOCKS), VIRTIO_BLK_S_IOERR);
	atomic_store(&rig.spy.bdev.num_blocks, BLOCKS + 8);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, BLOCKS), VIRTIO_BLK_S_OK);
	rig_destroy(&rig);
}

static void passes_errors_on(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	rig.spy.result = -EIO;
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(rig.used.len, 1);
	rig.spy.result = -EOPNOTSUPP;
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_FLUSH, 0), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(rig.guest.stats->op[VHC_OP_READ].errors, 1);
	CHECK_EQ(rig.guest.stats->op[VHC_OP_READ].bytes, 0);
	CHECK_EQ(rig.bdev_stats->op[VHC_OP_FLUSH].errors, 1);
	rig_destroy(&rig);
}

static void counts(void)
{
	struct rig rig;
	uint64_t buckets = 0;
	uint32_t n;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	for (uint32_t i = 0; i < 100; i++)
		guest_offer(&rig.guest,
			    guest_request(&rig.guest, i, false, VIRTIO_BLK_T_IN, 8 * i, 4096));
	guest_publish(&rig.guest);
	/* A full batch, then half of what waits, then the few that are left. */
	CHECK_EQ(queue_poll(rig.queue), QUEUE_BATCH);
	CHECK_EQ(queue_poll(rig.queue), (100 - QUEUE_BATCH) / 2);
	while ((n = queue_poll(rig.queue)) > 0)
		CHECK(n <= QUEUE_BATCH_MIN);
	const struct vhc_op_stats *op = &rig.guest.stats->op[VHC_OP_READ];
	CHECK_EQ(op->count, 100);
	CHECK_EQ(op->bytes, 409600);
	CHECK_EQ(op->errors, 0);
	CHECK(op->latency_ns > 0);
	for (uint32_t i = 0; i < VHC_HIST_BUCKETS; i++)
		buckets += op->hist[i];
	CHECK_EQ(buckets, 100);
	CHECK_EQ(rig.guest.stats->batches, 4);
	CHECK_EQ(rig.guest.stats->inflight, 0);
	CHECK_EQ(rig.bdev_stats->op[VHC_OP_READ].count, 100);
	rig_destroy(&rig);
}

static void flushes_and_identifies(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	/* Header and status alone; the sector means nothing. */
	*guest_header(&rig.guest, 0) =
	    (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_FLUSH, .sector = UINT64_MAX};
	guest_desc(&rig.guest, 0, guest_header(&rig.guest, 0), 16, NEXT, 1);
	guest_desc(&rig.guest, 1, guest_status(&rig.guest, 0), 1, WRITE, 0);
	REQUIRE(serve(&rig, 0));
	CHECK_EQ(*guest_status(&rig.guest, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(rig.spy.last.op, VHC_OP_FLUSH);
	CHECK_EQ(request_len(&rig, VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
	CHECK(memcmp(guest_data(&rig.guest, 0), "serial-of-20-bytes-x", 20) == 0);
	CHECK_EQ(rig.used.len, 21);
	memset(guest_data(&rig.guest, 0), '.', 64);
	CHECK_EQ(request_len(&rig, VIRTIO_BLK_T_GET_ID, 0, 6), VIRTIO_BLK_S_OK);
	CHECK(memcmp(guest_data(&rig.guest, 0), "serial.", 7) == 0);
	CHECK_EQ(rig.used.len, 7);
	CHECK_EQ(request_len(&rig, VIRTIO_BLK_T_GET_ID, 0, 64), VIRTIO_BLK_S_OK);
	CHECK_EQ(guest_data(&rig.guest, 0)[20], '.');
	CHECK_EQ(rig.guest.stats->op[VHC_OP_OTHER].count, 3);
	CHECK_EQ(rig.guest.stats->op[VHC_OP_OTHER].errors, 0);
	rig_destroy(&rig);
}

static void refuses_unknown_types(void)
{
	static const uint32_t types[] = {2, 3, 5, 10, 14, 15, 16, 99, 0x80000000, 0x80000001};
	struct rig rig;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		CHECK_EQ(request(&rig, types[i], 0), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(rig.spy.asked, 0);
	rig_destroy(&rig);
}

static int segments(struct rig *rig, uint32_t type,
		    const struct virtio_blk_discard_write_zeroes *list, uint32_t n)
{
	memcpy(guest_data(&rig->guest, 0), list, n * sizeof(*list));
	return request_len(rig, type, 0, n * (uint32_t)sizeof(*list));
}

static int segment(struct rig *rig, uint32_t type, uint64_t sector, uint32_t sectors,
		   uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes one = {sector, sectors, flags};

	return segments(rig, type, &one, 1);
}

static void discards_and_zeroes(void)
{
	struct rig rig;
	struct virtio_blk_discard_write_zeroes list[16] = {{0}};

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	for (uint32_t i = 0; i < 16; i++)
		list[i] = (struct virtio_blk_discard_write_zeroes){i * 10, i == 3 ? 0 : 4, 0};
	CHECK_EQ(segments(&rig, VIRTIO_BLK_T_DISCARD, list, 16), VIRTIO_BLK_S_OK);
	CHECK_EQ(rig.spy.last.op, VHC_OP_UNMAP);
	CHECK_EQ(rig.spy.last.iovcnt, 15); /* an empty one asks for nothing */
	CHECK_EQ(rig.spy.last.len, 15 * 2048);
	CHECK_EQ(rig.spy.ranges[3].offset, 40 * 512);
	CHECK_EQ(rig.spy.ranges[3].len, 2048);
	CHECK_EQ(rig.queue->free_large, rig.queue->num_large);
	CHECK_EQ(segments(&rig, VIRTIO_BLK_T_WRITE_ZEROES, list, 2), VIRTIO_BLK_S_OK);
	CHECK_EQ(rig.spy.last.op, VHC_OP_WRITE_ZEROES);
	CHECK_EQ(rig.spy.last.flags & IO_MAY_UNMAP, 0);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 1), VIRTIO_BLK_S_OK);
	CHECK_EQ(rig.spy.last.flags & IO_MAY_UNMAP, IO_MAY_UNMAP);
	/* Not every segment allows it: then none. */
	list[1].flags = 1;
	CHECK_EQ(segments(&rig, VIRTIO_BLK_T_WRITE_ZEROES, list, 2), VIRTIO_BLK_S_OK);
	CHECK_EQ(rig.spy.last.flags & IO_MAY_UNMAP, 0);
	rig.spy.asked = 0;
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, 5, 0, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(rig.spy.asked, 0);
	rig_destroy(&rig);
}

static void refuses_bad_segments(void)
{
	struct rig rig;
	struct virtio_blk_discard_write_zeroes list[32] = {{0}};

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, 0, 8, 1), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, 0, 8, 2), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 2), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0x80000001), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, 0, 257, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, 0, 256, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 0, 129, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, BLOCKS - 8, 9, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, UINT64_MAX, 8, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(segments(&rig, VIRTIO_BLK_T_DISCARD, list, 17), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(segments(&rig, VIRTIO_BLK_T_WRITE_ZEROES, list, 9), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(segments(&rig, VIRTIO_BLK_T_DISCARD, list, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request_len(&rig, VIRTIO_BLK_T_DISCARD, 0, 15), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request_len(&rig, VIRTIO_BLK_T_DISCARD, 0, 24), VIRTIO_BLK_S_IOERR);
	/* A bad one among good ones; an unknown flag counts more than a bad range. */
	list[0].num_sectors = 8;
	list[1] = (struct virtio_blk_discard_write_zeroes){BLOCKS, 8, 0};
	CHECK_EQ(segments(&rig, VIRTIO_BLK_T_DISCARD, list, 2), VIRTIO_BLK_S_IOERR);
	list[2] = (struct virtio_blk_discard_write_zeroes){0, 8, 4};
	CHECK_EQ(segments(&rig, VIRTIO_BLK_T_DISCARD, list, 3), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(rig.spy.asked, 1);
	CHECK_EQ(rig.queue->free_large, rig.queue->num_large);
	rig_destroy(&rig);
}

static void needs_negotiation(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, FEATURE(FLUSH)));
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	CHECK_EQ(rig.spy.asked, 0);
	rig_destroy(&rig);
}

static void check_readonly(uint64_t features, uint32_t flags)
{
	struct vhc_blk_config config;
	struct rig rig = {0};

	bdev_init(&rig.spy.bdev, &spy_ops, 512, BLOCKS);
	config = config_of(&rig, features);
	config.flags = flags;
	REQUIRE(rig_open(&rig, &config));
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_OUT, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(segment(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(rig.spy.asked, 0);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_FLUSH, 0), VIRTIO_BLK_S_OK);
	rig_destroy(&rig);
}

static void readonly_writes_nothing(void)
{
	check_readonly(ALL_FEATURES, VHC_BLK_READONLY);
	check_readonly(ALL_FEATURES | FEATURE(RO), 0);
}

static bool durable(struct rig *rig, uint32_t type)
{
	if (type == VIRTIO_BLK_T_OUT)
		CHECK_EQ(request(rig, type, 0), VIRTIO_BLK_S_OK);
	else
		CHECK_EQ(segment(rig, type, 0, 8, 0), VIRTIO_BLK_S_OK);
	return rig->spy.last.flags & IO_DURABLE;
}

static void follows_the_cache_mode(void)
{
	struct rig rig;

	/* Write-back if the driver can flush, else each write is durable (virtio 5.2.6.2). */
	REQUIRE(rig_create(&rig, ALL_FEATURES));
	CHECK(!durable(&rig, VIRTIO_BLK_T_OUT));
	CHECK(!durable(&rig, VIRTIO_BLK_T_WRITE_ZEROES));
	/* Not the driver's to change without CONFIG_WCE. */
	vhc_blk_set_writeback(rig.blk, 0);
	CHECK(!durable(&rig, VIRTIO_BLK_T_OUT));
	rig_destroy(&rig);
	REQUIRE(rig_create(&rig, FEATURE(WRITE_ZEROES)));
	CHECK(durable(&rig, VIRTIO_BLK_T_OUT));
	CHECK(durable(&rig, VIRTIO_BLK_T_WRITE_ZEROES));
	rig_destroy(&rig);
	REQUIRE(rig_create(&rig, ALL_FEATURES | FEATURE(CONFIG_WCE)));
	CHECK(!durable(&rig, VIRTIO_BLK_T_OUT));
	vhc_blk_set_writeback(rig.blk, 0);
	CHECK(durable(&rig, VIRTIO_BLK_T_OUT));
	CHECK(durable(&rig, VIRTIO_BLK_T_WRITE_ZEROES));
	vhc_blk_set_writeback(rig.blk, 1);
	CHECK(!durable(&rig, VIRTIO_BLK_T_OUT));
	rig_destroy(&rig);
}

static void survives_broken_requests(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, ALL_FEATURES));
	uint8_t *at = guest_data(&rig.guest, 0);
	/* Nothing to write a status to. */
	guest_desc(&rig.guest, 0, at, 16, NEXT, 1);
	guest_desc(&rig.guest, 1, at + 512, 512, 0, 0);
	REQUIRE(serve(&rig, 0));
	CHECK_EQ(rig.used.len, 0);
	/* No header, half a header. */
	at[100] = 0xff;
	guest_desc(&rig.guest, 0, at + 100, 1, WRITE, 0);
	REQUIRE(serve(&rig, 0));
	CHECK_EQ(at[100], VIRTIO_BLK_S_IOERR);
	CHECK_EQ(rig.used.len, 1);
	at[100] = 0xff;
	guest_desc(&rig.guest, 0, at, 15, NEXT, 1);
	guest_desc(&rig.guest, 1, at + 100, 1, WRITE, 0);
	REQUIRE(serve(&rig, 0));
	CHECK_EQ(at[100], VIRTIO_BLK_S_IOERR);
	/* A malformed chain. */
	guest_desc(&rig.guest, 0, at, 16, NEXT, 0);
	REQUIRE(serve(&rig, 0));
	CHECK_EQ(rig.used.len, 0);
	/* Only a status where a read wants data. */
	*(struct virtio_blk_outhdr *)at = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN};
	guest_desc(&rig.guest, 0, at, 16, NEXT, 1);
	at[100] = 0xff;
	REQUIRE(serve(&rig, 0));
	CHECK_EQ(at[100], VIRTIO_BLK_S_IOERR);
	CHECK_EQ(rig.guest.stats->op[VHC_OP_OTHER].errors, 4);
	CHECK_EQ(rig.spy.asked, 0);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, 0), VIRTIO_BLK_S_OK);
	rig_destroy(&rig);
}

static void without_a_bdev_all_fails(void)
{
	struct vhc_blk_config config;
	struct rig rig = {0};

	bdev_init(&rig.spy.bdev, &spy_ops, 512, BLOCKS);
	config = config_of(&rig, ALL_FEATURES);
	config.bdev = 0;
	REQUIRE(rig_open(&rig, &config));
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_OUT, 0), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_FLUSH, 0), VIRTIO_BLK_S_IOERR);
	rig_destroy(&rig);
}

/* A backend that ends requests later, in another order, holding large ones. */
static void completes_later(void)
{
	struct vhc_blk_config config;
	struct rig rig = {0};

	bdev_init(&rig.spy.bdev, &async_spy_ops, 512, BLOCKS);
	rig.spy.hold = true;
	config = config_of(&rig, ALL_FEATURES);
	REQUIRE(rig_open(&rig, &config));
	for (uint32_t i = 0; i < 3; i++)
		guest_offer(&rig.guest,
			    guest_request(&rig.guest, i, false, VIRTIO_BLK_T_IN, 8 * i, 4096));
	guest_publish(&rig.guest);
	CHECK_EQ(queue_poll(rig.queue), 3);
	CHECK(!guest_used(&rig.guest, &rig.used));
	CHECK_EQ(queue_inflight(rig.queue), 3);
	CHECK_EQ(rig.guest.stats->inflight, 3);
	CHECK_EQ(rig.bdev_stats->inflight, 3);
	for (int i = 2; i >= 0; i--)
		io_complete(rig.spy.held[i]);
	CHECK(rig.outbox.late == rig.queue);
	CHECK_EQ(queue_inflight(rig.queue), 0);
	CHECK_EQ(rig.bdev_stats->inflight, 0);
	CHECK(!guest_used(&rig.guest, &rig.used));
	queue_publish(rig.queue);
	for (uint32_t i = 3; i > 0; i--) {
		REQUIRE(guest_used(&rig.guest, &rig.used));
		CHECK_EQ(rig.used.id, 3 * (i - 1));
		CHECK_EQ(rig.used.len, 4097);
	}
	CHECK_EQ(rig.guest.stats->op[VHC_OP_READ].count, 3);
	CHECK_EQ(rig.guest.stats->op[VHC_OP_READ].bytes, 3 * 4096);
	CHECK_EQ(rig.guest.stats->inflight, 0);
	rig_destroy(&rig);
}

/* More large requests than there are large arrays: the rest waits in the ring. */
static void waits_for_room(void)
{
	struct vhc_blk_config config;
	struct rig rig = {0};
	uint32_t taken = 0;
	uint32_t n;

	bdev_init(&rig.spy.bdev, &async_spy_ops, 512, BLOCKS);
	rig.spy.hold = true;
	config = config_of(&rig, ALL_FEATURES);
	REQUIRE(rig_open(&rig, &config));
	/* Five pieces each, in tables that all name the same memory. */
	struct vring_desc *table = (struct vring_desc *)guest_data(&rig.guest, 0);
	*guest_header(&rig.guest, 0) = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN};
	for (uint16_t i = 0; i < 6; i++)
		table[i] =
		    (struct vring_desc){guest_gpa(&rig.guest, guest_data(&rig.guest, 1)), 512,
					i < 5 ? NEXT | WRITE : WRITE, (uint16_t)(i + 1)};
	table[0] =
	    (struct vring_desc){guest_gpa(&rig.guest, guest_header(&rig.guest, 0)), 16, NEXT, 1};
	table[5].addr = guest_gpa(&rig.guest, guest_status(&rig.guest, 0));
	table[5].len = 1;
	for (uint16_t i = 0; i < 400; i++) {
		guest_desc(&rig.guest, i, table, 6 * 16, VRING_DESC_F_INDIRECT, 0);
		guest_offer(&rig.guest, i);
	}
	guest_publish(&rig.guest);
	while ((n = queue_poll(rig.queue)) > 0)
		taken += n;
	CHECK_EQ(taken, QUEUE_LARGE_MAX);
	for (uint32_t i = 0; i < rig.spy.num_held; i++)
		io_complete(rig.spy.held[i]);
	rig.spy.num_held = 0;
	while ((n = queue_poll(rig.queue)) > 0)
		taken += n;
	CHECK_EQ(taken, 400);
	for (uint32_t i = 0; i < rig.spy.num_held; i++)
		io_complete(rig.spy.held[i]);
	queue_publish(rig.queue);
	for (n = 0; guest_used(&rig.guest, &rig.used); n++)
		CHECK_EQ(rig.used.len, 4 * 512 + 1);
	CHECK_EQ(n, 400);
	CHECK_EQ(rig.queue->free_large, rig.queue->num_large);
	rig_destroy(&rig);
}

static void refuses_bad_configs(void)
{
	struct vhc_blk_config config = {.max_discard_segments = BLK_MAX_SEGMENTS + 1};
	struct vhc_blk *blk = NULL;

	CHECK_EQ(vhc_blk_create(&config, &blk), -EINVAL);
	config = (struct vhc_blk_config){.max_write_zeroes_segments = BLK_MAX_SEGMENTS + 1};
	CHECK_EQ(vhc_blk_create(&config, &blk), -EINVAL);
	CHECK(blk == NULL);
}

static void checks_shapes_of_disks(void)
{
	struct vhc_bdev *bdev = NULL;

	CHECK_EQ(vhc_bdev_null_create(511, 8, &bdev), -EINVAL);
	CHECK_EQ(vhc_bdev_null_create(256, 8, &bdev), -EINVAL);
	CHECK_EQ(vhc_bdev_null_create(1536, 8, &bdev), -EINVAL);
	CHECK_EQ(vhc_bdev_null_create(512, 0, &bdev), -EINVAL);
	CHECK_EQ(vhc_bdev_null_create(512, UINT64_MAX, &bdev), -EINVAL);
	CHECK(bdev == NULL);
	REQUIRE_EQ(vhc_bdev_null_create(4096, 8, &bdev), 0);
	CHECK_EQ(vhc_bdev_resize(bdev, 0), -EINVAL);
	CHECK_EQ(vhc_bdev_resize(bdev, 16), 0);
	CHECK_EQ(atomic_load(&bdev->num_blocks), 16);
	vhc_bdev_release(bdev);
}

int main(void)
{
	RUN(reads_and_writes);
	RUN(takes_any_layout);
	RUN(takes_many_pieces);
	RUN(checks_ranges);
	RUN(holds_to_large_blocks);
	RUN(follows_the_capacity);
	RUN(passes_errors_on);
	RUN(counts);
	RUN(flushes_and_identifies);
	RUN(refuses_unknown_types);
	RUN(discards_and_zeroes);
	RUN(refuses_bad_segments);
	RUN(needs_negotiation);
	RUN(readonly_writes_nothing);
	RUN(follows_the_cache_mode);
	RUN(survives_broken_requests);
	RUN(without_a_bdev_all_fails);
	RUN(completes_later);
	RUN(waits_for_room);
	RUN(refuses_bad_configs);
	RUN(checks_shapes_of_disks);
	return check_report();
}
