/* SPDX-License-Identifier: MIT */
/* Rings whose writes are logged: each page that the device wrote is marked, and no other. */
#include <errno.h>

#include "packed_guest.h"
#include "scsi_vm.h"

#define PAGE 4096u
#define PAGES (GUEST_BYTES / PAGE)
#define FIRST_PAGE (GUEST_GPA / PAGE)
#define LOG_BYTES ((GUEST_GPA + GUEST_BYTES) / PAGE / 8)
#define ENTRIES 1024u
/* The used ring begins in the middle of a page, so that it lies in three. */
#define USED_OFFSET UINT64_C(0xa0800)

static struct logged {
	struct packed_guest pg;
	struct guest *guest;
	bool packed;
	uint64_t features;
	struct vhc_log *log;
	uint8_t *bits;
	int fd;
	struct vhc_ring *ring;
	uint8_t *before; /* the guest's memory, when the log was last cleared */
} world;

static bool open_log(uint64_t bytes)
{
	world.fd = memfd_create("log", MFD_CLOEXEC);
	if (world.fd < 0 || ftruncate(world.fd, (off_t)LOG_BYTES))
		return false;
	world.bits = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, world.fd, 0);
	world.before = malloc(GUEST_BYTES);
	return world.bits != MAP_FAILED && world.before &&
	       CHECK_EQ(vhc_log_create(world.fd, 0, bytes, -1, &world.log), 0);
}

static struct vhc_ring_config logged_config(void)
{
	struct vhc_ring_config config = world.packed
					    ? packed_guest_config(&world.pg, world.features)
					    : guest_ring_config(world.guest, world.features);

	config.log = (uint64_t)(uintptr_t)world.log;
	config.used = GUEST_USER + USED_OFFSET;
	config.log_used = GUEST_GPA + USED_OFFSET;
	config.id = RING_ID;
	return config;
}

static bool world_make(bool packed, uint64_t features, uint64_t log_bytes)
{
	struct guest *guest = &world.pg.guest;

	world = (struct logged){.packed = packed, .features = features, .guest = guest};
	if (!(packed ? packed_guest_create(&world.pg, ENTRIES) : guest_create(guest, ENTRIES)) ||
	    !open_log(log_bytes))
		return false;
	guest->used = (struct vring_used *)(guest->memory + USED_OFFSET);
	guest->avail_event = (uint16_t *)&guest->used->ring[ENTRIES];
	world.pg.device = (struct vring_packed_desc_event *)guest->used;
	return true;
}

static bool world_open(bool packed, uint64_t features)
{
	struct vhc_ring_config config;

	if (!world_make(packed, features, LOG_BYTES))
		return false;
	config = logged_config();
	return CHECK_EQ(vhc_ring_create(&config, &world.ring), 0);
}

static void world_close(void)
{
	vhc_ring_release(world.ring);
	vhc_log_release(world.log);
	guest_destroy(world.guest);
	munmap(world.bits, LOG_BYTES);
	free(world.before);
	close(world.fd);
}

/* ---- The log ---- */

static void clear_log(void)
{
	memset(world.bits, 0, LOG_BYTES);
	memcpy(world.before, world.guest->memory, GUEST_BYTES);
}

static bool is_marked(uint64_t page)
{
	page += FIRST_PAGE;
	return world.bits[page / 8] >> (page % 8) & 1;
}

/* How many pages are marked. */
static uint32_t num_marked(void)
{
	uint32_t n = 0;

	for (uint64_t i = 0; i < LOG_BYTES; i++)
		n += (uint32_t)__builtin_popcount(world.bits[i]);
	return n;
}

static bool marked_at(const void *at)
{
	return is_marked((uint64_t)((const uint8_t *)at - world.guest->memory) / PAGE);
}

/* Compares all of memory with what it was: every page that differs is to be marked. */
static uint32_t num_missed(void)
{
	uint32_t missed = 0;

	for (uint64_t page = 0; page < PAGES; page++)
		if (memcmp(world.before + page * PAGE, world.guest->memory + page * PAGE, PAGE) &&
		    !is_marked(page))
			missed++;
	return missed;
}

/* ---- One request at a time ---- */

/* Offers a chain; its descriptors are in number order for a split ring. */
static void offer(const struct vring_desc *chain, uint32_t n)
{
	if (world.packed) {
		packed_offer(&world.pg, chain, n, 0);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		world.guest->desc[i] = chain[i];
		world.guest->desc[i].next = (uint16_t)(i + 1);
		world.guest->desc[i].flags |= i + 1 < n ? VRING_DESC_F_NEXT : 0;
	}
	guest_offer(world.guest, 0);
	guest_publish(world.guest);
}

static bool next_used(struct vring_used_elem *used)
{
	return world.packed ? packed_used(&world.pg, used) : guest_used(world.guest, used);
}

static uint8_t *page_at(uint32_t i)
{
	return world.guest->memory + GUEST_DATA + (uint64_t)i * PAGE;
}

static void marks_what_a_chain_writes(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		struct vring_used_elem used = {0};
		struct vhc_chain chain;

		REQUIRE(world_open(packed, 0));
		const struct vring_desc descs[] = {
		    {guest_gpa(world.guest, page_at(0)), PAGE, 0, 0},
		    {guest_gpa(world.guest, page_at(2) + 4095), 2, VRING_DESC_F_WRITE, 0},
		    {guest_gpa(world.guest, page_at(10)), 3 * PAGE, VRING_DESC_F_WRITE, 0},
		    {guest_gpa(world.guest, page_at(20) + 5), 1, VRING_DESC_F_WRITE, 0}};
		offer(descs, 4);
		clear_log();
		REQUIRE_EQ(vhc_ring_pop(world.ring, &chain), 1);
		/* Before it is put nothing need be there: the writes are yet to come. */
		CHECK_EQ(num_marked(), 0);
		CHECK_EQ(vhc_ring_push(world.ring, chain.head, 7), 0);
		for (uint32_t i = 0; i < 24; i++)
			CHECK_EQ(marked_at(page_at(i)),
				 i == 2 || i == 3 || (i >= 10 && i < 13) || i == 20);
		CHECK_EQ(num_marked(), 6);
		vhc_ring_signal(world.ring);
		CHECK(next_used(&used));
		/* The used element, or the used descriptor. */
		CHECK_EQ(num_marked(), 7);
		CHECK(marked_at(packed ? (void *)world.pg.ring : (void *)world.guest->used));
		CHECK_EQ(num_missed(), 0);
		world_close();
	}
}

/* A malformed chain is not written, nor is one without anything to write. */
static void marks_nothing_that_is_not_written(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		struct vhc_chain chain;

		REQUIRE(world_open(packed, 0));
		const struct vring_desc bad[] = {
		    {guest_gpa(world.guest, page_at(0)), PAGE, VRING_DESC_F_WRITE, 0},
		    {0x10, 8, VRING_DESC_F_WRITE, 0}};
		const struct vring_desc out = {guest_gpa(world.guest, page_at(1)), PAGE, 0, 0};
		for (int i = 0; i < 2; i++) {
			clear_log();
			offer(i ? &out : bad, i ? 1 : 2);
			CHECK_EQ(vhc_ring_pop(world.ring, &chain), i ? 1 : -EFAULT);
			CHECK_EQ(vhc_ring_push(world.ring, chain.head, 0), 0);
			CHECK_EQ(num_marked(), 0);
			vhc_ring_signal(world.ring);
			CHECK_EQ(num_marked(), 1);
		}
		world_close();
	}
}

/* Batches over several pages of the ring, and round its end. */
static void marks_the_ring_all_round(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		REQUIRE(world_open(packed, 0));
		const struct vring_desc out = {guest_gpa(world.guest, page_at(1)), 8, 0, 0};
		for (uint32_t lap = 0; lap < 40 && check_ok; lap++) {
			uint32_t n = 1 + lap * 331 % ENTRIES;
			struct vring_used_elem used = {0};
			struct vhc_chain chain;

			for (uint32_t i = 0; i < n; i++) {
				if (!packed)
					world.guest->desc[i] = out;
				if (packed)
					packed_offer(&world.pg, &out, 1, (uint16_t)i);
				else
					guest_offer(world.guest, (uint16_t)i);
			}
			guest_publish(world.guest);
			clear_log();
			for (uint32_t i = 0; i < n; i++) {
				CHECK_EQ(vhc_ring_pop(world.ring, &chain), 1);
				CHECK_EQ(vhc_ring_push(world.ring, chain.head, 0), 0);
			}
			vhc_ring_signal(world.ring);
			CHECK_EQ(num_missed(), 0);
			/* Three pages of used ring, four of descriptors. */
			CHECK(num_marked() <= (packed ? 4 : 3));
			if (n < 100)
				CHECK(num_marked() <= 3);
			for (uint32_t i = 0; i < n; i++)
				CHECK(next_used(&used));
		}
		world_close();
	}
}

static void marks_what_it_asks_for(void)
{
	for (int i = 0; i < 4 && check_ok; i++) {
		bool packed = i & 1;
		uint64_t features = i & 2 ? GUEST_EVENT_IDX : 0;

		REQUIRE(world_open(packed, features));
		clear_log();
		vhc_ring_notify(world.ring, 1);
		CHECK_EQ(num_marked(), 1);
		CHECK(marked_at(packed || !features ? (void *)world.guest->used
						    : (void *)world.guest->avail_event));
		clear_log();
		vhc_ring_notify(world.ring, 0);
		CHECK_EQ(num_missed(), 0);
		world_close();
	}
}

static void leaves_a_ring_out_that_is_not_logged(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		struct vhc_ring_config config;
		struct vhc_chain chain;

		REQUIRE(world_make(packed, 0, LOG_BYTES));
		config = logged_config();
		config.log_used = UINT64_MAX;
		REQUIRE_EQ(vhc_ring_create(&config, &world.ring), 0);
		const struct vring_desc in = {guest_gpa(world.guest, page_at(1)), 8,
					      VRING_DESC_F_WRITE, 0};
		clear_log();
		offer(&in, 1);
		CHECK_EQ(vhc_ring_pop(world.ring, &chain), 1);
		CHECK_EQ(vhc_ring_push(world.ring, chain.head, 8), 0);
		vhc_ring_signal(world.ring);
		vhc_ring_notify(world.ring, 1);
		CHECK_EQ(num_marked(), 1);
		CHECK(marked_at(page_at(1)));
		world_close();
	}
}

/* What the log has no place for would be lost: the ring is not to go on. */
static void breaks_beyond_the_log(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		struct vhc_ring_config config;
		struct vhc_chain chain;

		/* As far as the data goes that the first chain writes. */
		REQUIRE(world_make(packed, 0, (FIRST_PAGE + 0x100 + 8) / 8));
		config = logged_config();
		REQUIRE_EQ(vhc_ring_create(&config, &world.ring), 0);
		for (uint32_t i = 0; i < 2; i++) {
			const struct vring_desc in = {guest_gpa(world.guest, page_at(7)),
						      i ? PAGE + 1 : PAGE, VRING_DESC_F_WRITE, 0};

			offer(&in, 1);
			CHECK_EQ(vhc_ring_pop(world.ring, &chain), 1);
			CHECK_EQ(vhc_ring_push(world.ring, chain.head, 8), 0);
			vhc_ring_signal(world.ring);
			CHECK_EQ(vhc_ring_pop(world.ring, &chain), i ? -EFAULT : 0);
		}
		world_close();
	}
}

/* ---- Queues: memory compared as a whole ---- */

static struct rig rig;

/* Offers request i, whose slot holds what its kind needs. */
static void offer_slot(const struct vring_desc *chain, uint32_t n, uint32_t i)
{
	if (world.packed) {
		packed_offer(&world.pg, chain, n, (uint16_t)i);
		return;
	}
	for (uint32_t k = 0; k < n; k++) {
		struct vring_desc *desc = &world.guest->desc[4 * i + k];

		*desc = chain[k];
		desc->next = (uint16_t)(4 * i + k + 1);
		desc->flags |= k + 1 < n ? VRING_DESC_F_NEXT : 0;
	}
	guest_offer(world.guest, (uint16_t)(4 * i));
}

static bool stop_ring(void)
{
	const struct vhc_upcall *up;

	CHECK_EQ(vhc_reactor_stop_ring(rig.reactor, world.ring), 0);
	up = reader_next(&rig.reader, PATIENCE_MS);
	return CHECK(up && up->type == VHC_UPCALL_RING_STOPPED);
}

/* Shows what was offered: the driver's own write, which nobody logs. */
static void publish(void)
{
	const uint8_t *avail = (const uint8_t *)world.guest->avail;

	guest_publish(world.guest);
	memcpy(world.before + (avail - world.guest->memory), avail, PAGE);
}

/* Takes n used chains, of which each page that was written is to be marked. */
static void check_used(uint32_t n)
{
	struct vring_used_elem used = {0};

	while (n-- > 0)
		REQUIRE(EVENTUALLY(next_used(&used)));
	REQUIRE(stop_ring());
	CHECK_EQ(num_missed(), 0);
}

/* A disk of twos. */
static struct vhc_bdev *twos(struct vhc_pages *pages)
{
	struct vhc_bdev *bdev = NULL;

	if (vhc_pages_alloc(BLOCKS * 512, 4096, -1, -1, 0, pages))
		return NULL;
	memset((void *)(uintptr_t)pages->addr, 2, BLOCKS * 512);
	return vhc_bdev_malloc_create(pages, 512, BLOCKS, &bdev) ? NULL : bdev;
}

#define REQUESTS 40u

static void blocks(bool packed, uint64_t features)
{
	struct vhc_blk_config config = {.features = UINT64_C(1) << VIRTIO_BLK_F_FLUSH};
	struct vhc_pages pages;
	struct vhc_bdev *bdev = twos(&pages);
	struct vhc_blk *blk;

	config.bdev = (uint64_t)(uintptr_t)bdev;
	REQUIRE(world_open(packed, features) && rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE_EQ(vhc_blk_create(&config, &blk), 0);
	vhc_bdev_release(bdev);
	for (uint32_t i = 0; i < REQUESTS; i++) {
		struct vring_desc chain[3];
		uint32_t n = packed_request(world.guest, i, false,
					    i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, i * 8,
					    i % 3 ? 4096 : 512, chain);

		offer_slot(chain, n, i);
	}
	guest_publish(world.guest);
	clear_log();
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, world.ring, blk, 0), 0);
	check_used(REQUESTS);
	/* Headers and statuses have a page for themselves: all of those, and of half the data. */
	for (uint32_t i = 0; i < REQUESTS; i++) {
		CHECK(marked_at(guest_status(world.guest, i)));
		CHECK_EQ(marked_at(guest_data(world.guest, i)), i % 2 == 0);
		CHECK_EQ(*guest_status(world.guest, i), VIRTIO_BLK_S_OK);
	}
	rig_destroy(&rig);
	vhc_blk_release(blk);
	world_close();
}

static void logs_blocks(void)
{
	for (int i = 0; i < 4 && check_ok; i++)
		blocks(i & 1, i & 2 ? GUEST_EVENT_IDX : 0);
}

static void commands(bool packed)
{
	struct vhc_pages pages;
	struct vhc_bdev *bdev = twos(&pages);
	struct vhc_lun_config unit = unit_config(bdev);
	struct vhc_lun *lun;

	REQUIRE(world_open(packed, 0) && rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE_EQ(vhc_lun_create(&unit, &lun), 0);
	vhc_bdev_release(bdev);
	REQUIRE_EQ(vhc_reactor_start_scsi_ring(rig.reactor, world.ring, &default_sizes), 0);
	REQUIRE_EQ(vhc_reactor_attach_lun(rig.reactor, world.ring, UNIT, lun, 0), 0);
	/* A packed ring is served as soon as there is something in it. */
	if (packed)
		clear_log();
	for (uint32_t i = 0; i < REQUESTS; i++) {
		struct vring_desc chain[4];
		uint8_t *cdb = guest_set_command(world.guest, i, UNIT >> 16, UNIT & 0xff)->cdb;
		bool write = i % 2;
		uint32_t n;

		guest_cdb_10(cdb, write ? 0x2a : 0x28, i, 1);
		n = packed_command(world.guest, i, false, write ? 512 : 0, write ? 0 : 512, chain);
		offer_slot(chain, n, i);
	}
	if (!packed)
		clear_log();
	publish();
	check_used(REQUESTS);
	for (uint32_t i = 0; i < REQUESTS; i++) {
		CHECK(marked_at(guest_response(world.guest, i)));
		CHECK_EQ(marked_at(guest_data(world.guest, i)), i % 2 == 0);
		CHECK_EQ(guest_response(world.guest, i)->status, 0);
	}
	rig_destroy(&rig);
	vhc_lun_release(lun);
	world_close();
}

static void logs_commands(void)
{
	commands(false);
	commands(true);
}

/* What is written from outside, long after the request was taken. */
static void logs_answers_and_events(void)
{
	static const uint8_t event[16] = {9, 9};

	for (int i = 0; i < 4 && check_ok; i++) {
		bool events = i & 2;

		REQUIRE(world_open(i & 1, 0) && rig_create(&rig, VHC_MODE_ADAPTIVE));
		const struct vring_desc chain[] = {
		    {guest_gpa(world.guest, page_at(0)), 8, 0, 0},
		    {guest_gpa(world.guest, page_at(5)), 16, VRING_DESC_F_WRITE, 0}};
		offer_slot(chain, 2, 0);
		clear_log();
		publish();
		if (events) {
			REQUIRE_EQ(vhc_reactor_start_event_ring(rig.reactor, world.ring), 0);
			CHECK_EQ(vhc_reactor_send_event(rig.reactor, world.ring, event), 1);
		} else {
			const struct vhc_upcall *up;

			REQUIRE_EQ(vhc_reactor_start_raw_ring(rig.reactor, world.ring), 0);
			up = reader_next(&rig.reader, PATIENCE_MS);
			REQUIRE(up && up->type == VHC_UPCALL_REQUEST);
			CHECK_EQ(vhc_request_write(up->arg, 0, event, 16), 16);
			CHECK(!marked_at(page_at(5)));
			vhc_request_complete_raw(up->arg, 16);
		}
		check_used(1);
		CHECK(marked_at(page_at(5)));
		CHECK_EQ(page_at(5)[1], 9);
		rig_destroy(&rig);
		world_close();
	}
}

int main(void)
{
	RUN(marks_what_a_chain_writes);
	RUN(marks_nothing_that_is_not_written);
	RUN(marks_the_ring_all_round);
	RUN(marks_what_it_asks_for);
	RUN(leaves_a_ring_out_that_is_not_logged);
	RUN(breaks_beyond_the_log);
	RUN(logs_blocks);
	RUN(logs_commands);
	RUN(logs_answers_and_events);
	return check_report();
}
