/* SPDX-License-Identifier: MIT */
/* The RAM disk: what is written is read, what is unmapped is zero, and it can grow and move. */
#include <errno.h>

#include "guest.h"
#include "queue.h"

#define SIZE 16u
#define DISK_BYTES (UINT64_C(1) << 20)

struct rig {
	struct guest guest;
	struct vhc_pages pages;
	struct vhc_bdev *bdev;
	struct vhc_blk *blk;
	struct vhc_ring *ring;
	struct queue *queue;
	struct queue_outbox outbox;
	struct bdev_channel *channel;
};

static bool rig_create(struct rig *rig, uint64_t page_size, uint32_t flags)
{
	struct vhc_blk_config config = {
	    .features = UINT64_C(1) << VIRTIO_BLK_F_DISCARD |
			UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES |
			UINT64_C(1) << VIRTIO_BLK_F_FLUSH,
	    .max_discard_sectors = UINT32_MAX,
	    .max_discard_segments = 4,
	    .max_write_zeroes_sectors = UINT32_MAX,
	    .max_write_zeroes_segments = 4,
	};

	*rig = (struct rig){0};
	if (vhc_pages_alloc(DISK_BYTES, page_size, -1, -1, flags | VHC_PAGES_FALLBACK,
			    &rig->pages) ||
	    vhc_bdev_malloc_create(&rig->pages, 512, DISK_BYTES / 512, &rig->bdev))
		return false;
	config.bdev = (uint64_t)(uintptr_t)rig->bdev;
	if (!guest_create(&rig->guest, SIZE) || vhc_blk_create(&config, &rig->blk))
		return false;
	rig->ring = guest_ring(&rig->guest, 0);
	rig->queue = queue_create_blk(rig->ring, rig->blk, NULL, &rig->outbox);
	if (!rig->queue || rig->bdev->ops->channel_open(rig->bdev, NULL, &rig->channel))
		return false;
	queue_set_channel(rig->queue, rig->channel);
	return true;
}

static void rig_destroy(struct rig *rig)
{
	if (rig->channel)
		rig->bdev->ops->channel_close(rig->channel);
	queue_destroy(rig->queue);
	vhc_ring_release(rig->ring);
	vhc_blk_release(rig->blk);
	vhc_bdev_release(rig->bdev);
	guest_destroy(&rig->guest);
}

/* One request with 4 KiB or less; its status. */
static int request(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len)
{
	struct vring_used_elem used;

	guest_offer(&rig->guest, guest_request(&rig->guest, 0, false, type, sector, len));
	guest_publish(&rig->guest);
	queue_poll(rig->queue);
	return guest_used(&rig->guest, &used) ? *guest_status(&rig->guest, 0) : -1;
}

static void write_sectors(struct rig *rig, uint64_t sector, uint32_t n, uint8_t value)
{
	for (uint32_t i = 0; i < n; i++) {
		memset(guest_data(&rig->guest, 0), value, 512);
		CHECK_EQ(request(rig, VIRTIO_BLK_T_OUT, sector + i, 512), VIRTIO_BLK_S_OK);
	}
}

/* Whether n sectors all hold value. */
static bool holds(struct rig *rig, uint64_t sector, uint32_t n, uint8_t value)
{
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *data = guest_data(&rig->guest, 0);

		memset(guest_data(&rig->guest, 0), ~value, 512);
		if (request(rig, VIRTIO_BLK_T_IN, sector + i, 512) != VIRTIO_BLK_S_OK)
			return false;
		for (uint32_t j = 0; j < 512; j++)
			if (data[j] != value)
				return false;
	}
	return true;
}

static int clear(struct rig *rig, uint32_t type, uint64_t sector, uint32_t n, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes segment = {sector, n, flags};

	memcpy(guest_data(&rig->guest, 0), &segment, sizeof(segment));
	return request(rig, type, 0, sizeof(segment));
}

static void reads_what_was_written(void)
{
	struct rig rig;

	REQUIRE(rig_create(&rig, 4096, 0));
	CHECK(holds(&rig, 0, 8, 0));
	for (uint64_t sector = 0; sector < 32; sector++)
		write_sectors(&rig, sector * 64, 1, (uint8_t)(sector + 1));
	for (uint64_t sector = 0; sector < 32; sector++)
		CHECK(holds(&rig, sector * 64, 1, (uint8_t)(sector + 1)));
	write_sectors(&rig, DISK_BYTES / 512 - 1, 1, 9);
	CHECK(holds(&rig, DISK_BYTES / 512 - 1, 1, 9));
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_FLUSH, 0, 512), VIRTIO_BLK_S_OK);
	rig_destroy(&rig);
}

/* Ranges that start and end within pages, on memory of each kind. */
static void clears(uint64_t page_size, uint32_t flags)
{
	static const struct {
		uint32_t type;
		uint32_t flags;
	} ways[] = {{VIRTIO_BLK_T_DISCARD, 0},
		    {VIRTIO_BLK_T_WRITE_ZEROES, 0},
		    {VIRTIO_BLK_T_WRITE_ZEROES, 1}};
	struct rig rig;

	REQUIRE(rig_create(&rig, page_size, flags));
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		write_sectors(&rig, 0, 64, 5);
		CHECK_EQ(clear(&rig, ways[i].type, 3, 2, ways[i].flags), VIRTIO_BLK_S_OK);
		CHECK(holds(&rig, 0, 3, 5) && holds(&rig, 3, 2, 0) && holds(&rig, 5, 3, 5));
		CHECK_EQ(clear(&rig, ways[i].type, 13, 40, ways[i].flags), VIRTIO_BLK_S_OK);
		CHECK(holds(&rig, 12, 1, 5));
		CHECK(holds(&rig, 13, 40, 0));
		CHECK(holds(&rig, 53, 11, 5));
		write_sectors(&rig, 20, 1, 6);
		CHECK(holds(&rig, 20, 1, 6));
	}
	CHECK_EQ(clear(&rig, VIRTIO_BLK_T_DISCARD, 0, DISK_BYTES / 512, 0), VIRTIO_BLK_S_OK);
	CHECK(holds(&rig, 0, 64, 0));
	rig_destroy(&rig);
}

static void clears_plain_pages(void)
{
	clears(4096, 0);
}

static void clears_shared_pages(void)
{
	clears(4096, VHC_PAGES_SHARED);
}

static void clears_large_pages(void)
{
	clears(0, 0);
	clears(2 << 20, 0);
}

static void gives_memory_back(void)
{
	struct rig rig;
	unsigned char there[DISK_BYTES / 4096];
	uint32_t resident = 0;

	REQUIRE(rig_create(&rig, 4096, 0));
	memset((void *)(uintptr_t)rig.pages.addr, 1, DISK_BYTES);
	CHECK_EQ(clear(&rig, VIRTIO_BLK_T_DISCARD, 8, DISK_BYTES / 512 - 16, 0), VIRTIO_BLK_S_OK);
	CHECK_EQ(mincore((void *)(uintptr_t)rig.pages.addr, DISK_BYTES, there), 0);
	for (size_t i = 0; i < sizeof(there); i++)
		resident += there[i] & 1;
	CHECK_EQ(resident, 2);
	rig_destroy(&rig);
}

static void grows_and_moves(void)
{
	struct rig rig;
	struct vhc_pages larger;

	REQUIRE(rig_create(&rig, 4096, 0));
	write_sectors(&rig, 100, 1, 7);
	CHECK_EQ(vhc_bdev_resize(rig.bdev, rig.pages.size / 512 + 1), -ENOSPC);
	CHECK_EQ(vhc_bdev_resize(rig.bdev, 64), 0);
	CHECK_EQ(request(&rig, VIRTIO_BLK_T_IN, 64, 512), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(vhc_bdev_resize(rig.bdev, DISK_BYTES / 512), 0);
	REQUIRE_EQ(vhc_pages_alloc(2 * DISK_BYTES, 4096, -1, -1, VHC_PAGES_FALLBACK, &larger), 0);
	CHECK_EQ(vhc_bdev_malloc_move(rig.bdev, &larger, DISK_BYTES * 2 / 512), -EBUSY);
	rig.bdev->ops->channel_close(rig.channel);
	CHECK_EQ(vhc_bdev_malloc_move(rig.bdev, &larger, DISK_BYTES * 4 / 512), -EINVAL);
	CHECK_EQ(vhc_bdev_malloc_move(rig.bdev, &larger, DISK_BYTES * 2 / 512), 0);
	REQUIRE_EQ(rig.bdev->ops->channel_open(rig.bdev, NULL, &rig.channel), 0);
	queue_set_channel(rig.queue, rig.channel);
	CHECK(holds(&rig, 100, 1, 7));
	CHECK(holds(&rig, 99, 1, 0));
	write_sectors(&rig, DISK_BYTES * 2 / 512 - 1, 1, 8);
	CHECK(holds(&rig, DISK_BYTES * 2 / 512 - 1, 1, 8));
	rig_destroy(&rig);
}

static struct vhc_extent extent_at(const struct rig *rig, uint64_t offset)
{
	struct vhc_extent extent = {0};

	CHECK_EQ(vhc_bdev_extent(rig->bdev, offset, &extent), 0);
	return extent;
}

/* What is copied beforehand, and what changes after that. */
static void moves_what_was_copied_before(void)
{
	struct rig rig;
	struct vhc_pages to;

	REQUIRE(rig_create(&rig, 4096, 0));
	REQUIRE_EQ(vhc_pages_alloc(DISK_BYTES, 4096, -1, -1, VHC_PAGES_SHARED, &to), 0);
	for (uint64_t page = 0; page < 8; page++)
		write_sectors(&rig, page * 8, 8, (uint8_t)(page + 1));
	CHECK_EQ(vhc_bdev_malloc_copy(rig.bdev, &to, 0, 4 * 4096), 4);
	CHECK_EQ(vhc_bdev_malloc_copy(rig.bdev, &to, 4 * 4096, DISK_BYTES - 4 * 4096), 4);
	CHECK_EQ(vhc_bdev_malloc_copy(rig.bdev, &to, 0, DISK_BYTES), 0);
	write_sectors(&rig, 0, 1, 77);				       /* a part of a page */
	CHECK_EQ(clear(&rig, VIRTIO_BLK_T_DISCARD, 8, 8, 0), 0);       /* a page */
	CHECK_EQ(clear(&rig, VIRTIO_BLK_T_DISCARD, 18, 2, 0), 0);      /* a part of one */
	CHECK_EQ(clear(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 26, 2, 0), 0); /* likewise */
	write_sectors(&rig, 800, 8, 9);				       /* one that was empty */
	CHECK_EQ(clear(&rig, VIRTIO_BLK_T_DISCARD, 32, 8, 0), 0);
	write_sectors(&rig, 33, 1, 78); /* emptied, and not empty again */
	CHECK_EQ(vhc_bdev_malloc_copy(rig.bdev, &to, 0, 4096), 1);
	write_sectors(&rig, 1, 1, 79);
	rig.bdev->ops->channel_close(rig.channel);
	CHECK_EQ(vhc_bdev_malloc_move(rig.bdev, &to, DISK_BYTES / 512), 0);
	REQUIRE_EQ(rig.bdev->ops->channel_open(rig.bdev, NULL, &rig.channel), 0);
	queue_set_channel(rig.queue, rig.channel);
	CHECK(holds(&rig, 0, 1, 77) && holds(&rig, 1, 1, 79) && holds(&rig, 2, 6, 1));
	CHECK(holds(&rig, 8, 8, 0));
	CHECK(holds(&rig, 16, 2, 3) && holds(&rig, 18, 2, 0) && holds(&rig, 20, 4, 3));
	CHECK(holds(&rig, 24, 2, 4) && holds(&rig, 26, 2, 0) && holds(&rig, 28, 4, 4));
	CHECK(holds(&rig, 32, 1, 0) && holds(&rig, 33, 1, 78) && holds(&rig, 34, 6, 0));
	for (uint64_t page = 5; page < 8; page++)
		CHECK(holds(&rig, page * 8, 8, (uint8_t)(page + 1)));
	CHECK(holds(&rig, 800, 8, 9));
	CHECK_EQ(extent_at(&rig, 0).len, 4096);
	CHECK_EQ(extent_at(&rig, 0).mapped, 1);
	CHECK_EQ(extent_at(&rig, 4096).mapped, 0);
	rig_destroy(&rig);
}

/* A copy that comes to nothing, and another to the same place. */
static void forgets_a_copy(void)
{
	struct rig rig;
	struct vhc_pages to;

	REQUIRE(rig_create(&rig, 4096, 0));
	REQUIRE_EQ(vhc_pages_alloc(DISK_BYTES, 4096, -1, -1, 0, &to), 0);
	write_sectors(&rig, 0, 8, 5);
	CHECK_EQ(vhc_bdev_malloc_copy(rig.bdev, &to, 0, DISK_BYTES), 1);
	CHECK_EQ(vhc_bdev_malloc_copy(rig.bdev, &to, 0, 0), 0);
	memset((void *)(uintptr_t)to.addr, 0, DISK_BYTES);
	CHECK_EQ(vhc_bdev_malloc_copy(rig.bdev, &to, 100, 4096), -EINVAL);
	CHECK_EQ(vhc_bdev_malloc_copy(rig.bdev, &to, 0, 100), -EINVAL);
	CHECK_EQ(vhc_bdev_malloc_copy(rig.bdev, &to, DISK_BYTES, 4096), -EINVAL);
	rig.bdev->ops->channel_close(rig.channel);
	CHECK_EQ(vhc_bdev_malloc_move(rig.bdev, &to, DISK_BYTES / 512), 0);
	REQUIRE_EQ(rig.bdev->ops->channel_open(rig.bdev, NULL, &rig.channel), 0);
	queue_set_channel(rig.queue, rig.channel);
	CHECK(holds(&rig, 0, 8, 5));
	rig_destroy(&rig);
}

/* As another process would make the same disk of the same pages. */
static void is_made_again_of_its_pages(void)
{
	struct rig rig;
	struct vhc_pages again, file;
	struct vhc_bdev *bdev;
	struct vhc_extent extent = {0};

	REQUIRE(rig_create(&rig, 4096, VHC_PAGES_SHARED));
	REQUIRE_EQ(vhc_pages_alloc(4096, 4096, -1, -1, VHC_PAGES_SHARED, &file), 0);
	write_sectors(&rig, 8, 8, 5);
	CHECK_EQ(vhc_bdev_malloc_save_map(rig.bdev, file.fd), 0);
	REQUIRE_EQ(vhc_pages_adopt(&rig.pages, &again), 0);
	REQUIRE_EQ(vhc_bdev_malloc_create(&again, 512, DISK_BYTES / 512, &bdev), 0);
	CHECK_EQ(vhc_bdev_malloc_load_map(bdev, file.fd), 0);
	CHECK_EQ(((uint8_t *)(uintptr_t)again.addr)[4096], 5);
	CHECK_EQ(vhc_bdev_extent(bdev, 4096, &extent), 0);
	CHECK_EQ(extent.len, 4096);
	CHECK_EQ(extent.mapped, 1);
	CHECK_EQ(vhc_bdev_malloc_load_map(bdev, rig.pages.fd), 0); /* any bytes will do */
	vhc_bdev_release(bdev);
	REQUIRE_EQ(vhc_bdev_null_create(512, 8, &bdev), 0);
	CHECK_EQ(vhc_bdev_malloc_save_map(bdev, file.fd), -EINVAL);
	CHECK_EQ(vhc_bdev_malloc_load_map(bdev, file.fd), -EINVAL);
	CHECK_EQ(vhc_bdev_malloc_copy(bdev, &file, 0, 0), -EINVAL);
	vhc_bdev_release(bdev);
	int empty = memfd_create("empty", MFD_CLOEXEC);
	CHECK_EQ(vhc_bdev_malloc_load_map(rig.bdev, empty), -EINVAL);
	close(empty);
	vhc_pages_free(&file);
	rig_destroy(&rig);
}

static void refuses_bad_shapes(void)
{
	struct vhc_bdev *bdev = NULL;
	struct vhc_pages pages;

	REQUIRE_EQ(vhc_pages_alloc(DISK_BYTES, 4096, -1, -1, 0, &pages), 0);
	CHECK_EQ(vhc_bdev_malloc_create(&pages, 512, DISK_BYTES / 512 + 1, &bdev), -EINVAL);
	CHECK_EQ(vhc_bdev_malloc_create(&pages, 500, 10, &bdev), -EINVAL);
	CHECK_EQ(vhc_bdev_malloc_create(&pages, 512, 0, &bdev), -EINVAL);
	CHECK_EQ(vhc_bdev_malloc_create(&pages, 512, UINT64_MAX, &bdev), -EINVAL);
	CHECK(bdev == NULL);
	REQUIRE_EQ(vhc_bdev_null_create(512, 8, &bdev), 0);
	CHECK_EQ(vhc_bdev_malloc_move(bdev, &pages, 8), -EINVAL);
	vhc_bdev_release(bdev);
	CHECK_EQ(vhc_pages_free(&pages), 0);
}

int main(void)
{
	RUN(reads_what_was_written);
	RUN(clears_plain_pages);
	RUN(clears_shared_pages);
	RUN(clears_large_pages);
	RUN(gives_memory_back);
	RUN(grows_and_moves);
	RUN(moves_what_was_copied_before);
	RUN(forgets_a_copy);
	RUN(is_made_again_of_its_pages);
	RUN(refuses_bad_shapes);
	return check_report();
}
