/* SPDX-License-Identifier: MIT */
/* What devices say is mapped: what was written and not unmapped since. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "disk.h"

#define KIB UINT64_C(1024)
#define SIZE (UINT64_C(1) << 20)
#define FEATURES (UINT64_C(1) << VIRTIO_BLK_F_DISCARD | UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES)

/* A disk and what is written to it; extents are read by the control thread meanwhile. */
struct rig {
	struct disk disk;
	struct vhc_bdev *bdev;
	uint64_t size;
	int fd; /* a file's */
};

static bool rig_malloc(struct rig *rig, uint32_t block_size, uint64_t page_size, uint32_t flags)
{
	struct vhc_pages pages;
	*rig = (struct rig){.size = SIZE, .fd = -1};
	return CHECK_EQ(vhc_pages_alloc(SIZE, page_size, -1, -1, flags, &pages), 0) &&
	       CHECK_EQ(vhc_bdev_malloc_create(&pages, block_size, SIZE / block_size, &rig->bdev),
			0) &&
	       CHECK_EQ(disk_open(&rig->disk, rig->bdev, VHC_MODE_ADAPTIVE, FEATURES), 0);
}

/* A file on tmpfs, or on disk if that is possible here. */
static bool rig_file(struct rig *rig, uint32_t block_size, bool in_memory)
{
	*rig = (struct rig){.size = SIZE};
	rig->fd = in_memory ? memfd_create("extent_test", MFD_CLOEXEC)
			    : open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	const struct vhc_file_config config = {.fd = rig->fd,
					       .direct_fd = -1,
					       .block_size = block_size,
					       .num_blocks = SIZE / block_size};
	return CHECK(rig->fd >= 0) && CHECK_EQ(ftruncate(rig->fd, (off_t)SIZE), 0) &&
	       CHECK_EQ(vhc_bdev_file_create(&config, &rig->bdev), 0) &&
	       CHECK_EQ(disk_open(&rig->disk, rig->bdev, VHC_MODE_ADAPTIVE, FEATURES), 0);
}

static void rig_down(struct rig *rig)
{
	disk_close(&rig->disk);
	vhc_bdev_release(rig->bdev);
	if (rig->fd >= 0)
		close(rig->fd);
}

static void write_bytes(struct rig *rig, uint64_t offset, uint64_t len)
{
	memset(rig->disk.data, 0x5a, len);
	CHECK_EQ(disk_rw(&rig->disk, VIRTIO_BLK_T_OUT, offset, rig->disk.data, len),
		 VIRTIO_BLK_S_OK);
}

static void clear(struct rig *rig, uint32_t type, uint32_t flags, uint64_t offset, uint64_t len)
{
	const uint64_t range[1][2] = {{offset, len}};
	disk_add_ranges(&rig->disk, type, range, 1, flags);
	CHECK_EQ(disk_run(&rig->disk), 0);
}

/* Whether the device is mapped just where a list says: offset and end of each run, then 0, 0. */
static bool mapped_is(struct rig *rig, const uint64_t (*runs)[2])
{
	const uint64_t size = rig->size;
	struct vhc_extent extent = {0};
	for (uint64_t at = 0; at < size; at += extent.len) {
		if (!CHECK_EQ(vhc_bdev_extent(rig->bdev, at, &extent), 0) ||
		    !CHECK(extent.len > 0 && extent.len <= size - at))
			return false;
		while ((*runs)[1] && (*runs)[1] <= at)
			runs++;
		const bool mapped = (*runs)[1] && at >= (*runs)[0];
		const uint64_t stop = mapped ? (*runs)[1] : (*runs)[1] ? (*runs)[0] : size;
		if (!CHECK_EQ(extent.mapped, mapped) || !CHECK(at + extent.len <= stop)) {
			fprintf(stderr, "at %llu: %llu bytes\n", (unsigned long long)at,
				(unsigned long long)extent.len);
			return false;
		}
	}
	return true;
}

#define MAPPED(...) CHECK(mapped_is(&rig, (const uint64_t[][2]){__VA_ARGS__ __VA_OPT__(, ){0, 0}}))

static void null_is_mapped(void)
{
	struct vhc_bdev *bdev;
	struct vhc_extent extent = {0};
	REQUIRE_EQ(vhc_bdev_null_create(512, 100, &bdev), 0);
	CHECK_EQ(vhc_bdev_extent(bdev, 0, &extent), 0);
	CHECK(extent.len == 51200 && extent.mapped == 1 && extent.reserved == 0);
	CHECK_EQ(vhc_bdev_extent(bdev, 50688, &extent), 0);
	CHECK(extent.len == 512 && extent.mapped == 1);
	CHECK_EQ(vhc_bdev_extent(bdev, 51200, &extent), -ERANGE);
	CHECK_EQ(vhc_bdev_extent(bdev, UINT64_MAX - 511, &extent), -ERANGE);
	CHECK_EQ(vhc_bdev_extent(bdev, 511, &extent), -ERANGE);
	vhc_bdev_release(bdev);
}

/* Writes and unmaps that end within pages, for each kind of memory. */
static void malloc_follows(uint64_t page_size, uint32_t flags)
{
	struct rig rig;
	REQUIRE(rig_malloc(&rig, 512, page_size, flags));
	MAPPED();
	write_bytes(&rig, 4096, 512);
	MAPPED({4096, 8192});
	write_bytes(&rig, 8192 + 3584, 1024); /* over the border of two pages */
	MAPPED({4096, 16384});
	clear(&rig, VIRTIO_BLK_T_DISCARD, 0, 4608, 3584); /* covers no page */
	MAPPED({4096, 16384});
	clear(&rig, VIRTIO_BLK_T_DISCARD, 0, 4608, 8192); /* covers one */
	MAPPED({4096, 8192}, {12288, 16384});
	write_bytes(&rig, 64 * KIB, 64 * KIB);
	clear(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 0, 64 * KIB, 4096); /* are written */
	MAPPED({4096, 8192}, {12288, 16384}, {64 * KIB, 128 * KIB});
	clear(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 0, 192 * KIB, 512);
	clear(&rig, VIRTIO_BLK_T_WRITE_ZEROES, 1, 64 * KIB, 8192); /* may be unmapped */
	MAPPED({4096, 8192}, {12288, 16384}, {72 * KIB, 128 * KIB}, {192 * KIB, 196 * KIB});
	clear(&rig, VIRTIO_BLK_T_DISCARD, 0, 0, SIZE);
	MAPPED();
	write_bytes(&rig, SIZE - 512, 512);
	MAPPED({SIZE - 4096, SIZE});
	rig_down(&rig);
}

static void malloc_of_each_kind(void)
{
	struct vhc_pages pages;
	malloc_follows(4096, 0);
	malloc_follows(4096, VHC_PAGES_SHARED);
	malloc_follows(0, VHC_PAGES_FALLBACK);
	/* Reserved hugepages are kept, and unmapped all the same. */
	if (vhc_pages_alloc(SIZE, 2 << 20, -1, -1, 0, &pages) == 0) {
		vhc_pages_free(&pages);
		malloc_follows(2 << 20, 0);
	} else {
		printf("# no hugepages to be had\n");
	}
}

/* A block of several pages is mapped if one of them is. */
static void malloc_of_large_blocks(void)
{
	struct rig rig;
	struct vhc_extent extent = {0};
	REQUIRE(rig_malloc(&rig, 65536, 4096, 0));
	MAPPED();
	write_bytes(&rig, 128 * KIB, 64 * KIB);
	MAPPED({128 * KIB, 192 * KIB});
	CHECK_EQ(vhc_bdev_extent(rig.bdev, 4096, &extent), -ERANGE);
	clear(&rig, VIRTIO_BLK_T_DISCARD, 0, 64 * KIB, 128 * KIB);
	MAPPED();
	rig_down(&rig);
}

static void malloc_grows_and_moves(void)
{
	struct rig rig;
	struct vhc_pages pages;
	struct vhc_extent extent = {0};
	const uint8_t *data;
	REQUIRE(rig_malloc(&rig, 512, 4096, 0));
	write_bytes(&rig, 40960, 8192);
	disk_close(&rig.disk);
	/* The run up to the end follows the end. */
	CHECK_EQ(vhc_bdev_resize(rig.bdev, 44544 / 512), 0);
	CHECK_EQ(vhc_bdev_extent(rig.bdev, 40960, &extent), 0);
	CHECK(extent.mapped == 1 && extent.len == 3584);
	CHECK_EQ(vhc_bdev_extent(rig.bdev, 44544, &extent), -ERANGE);
	CHECK_EQ(vhc_bdev_resize(rig.bdev, SIZE / 512), 0);
	REQUIRE_EQ(vhc_pages_alloc(2 * SIZE, 4096, -1, -1, 0, &pages), 0);
	data = vhc_pointer(pages.addr);
	CHECK_EQ(vhc_bdev_malloc_move(rig.bdev, &pages, 2 * SIZE / 512), 0);
	CHECK(data[40959] == 0 && data[40960] == 0x5a && data[49151] == 0x5a && data[49152] == 0);
	rig.size = 2 * SIZE;
	MAPPED({40960, 49152});
	CHECK_EQ(vhc_bdev_extent(rig.bdev, SIZE, &extent), 0);
	CHECK(extent.mapped == 0 && extent.len == SIZE);
	vhc_bdev_release(rig.bdev);
}

/* Longer than what one call looks at: its parts follow one another. */
static void malloc_beyond_a_call(void)
{
	const uint64_t size = UINT64_C(6) << 30;
	struct vhc_bdev *bdev;
	struct vhc_pages pages;
	struct vhc_extent extent = {0};
	uint64_t at = 0, parts = 0;
	REQUIRE_EQ(vhc_pages_alloc(size, 4096, -1, -1, 0, &pages), 0);
	REQUIRE_EQ(vhc_bdev_malloc_create(&pages, 512, size / 512, &bdev), 0);
	for (; at < size && vhc_bdev_extent(bdev, at, &extent) == 0 && extent.len; parts++) {
		CHECK_EQ(extent.mapped, 0);
		at += extent.len;
	}
	CHECK(at == size && parts == 2);
	vhc_bdev_release(bdev);
}

/* Files whose system keeps pages of 4 KiB; others may have larger holes. */
static void file_follows(bool in_memory)
{
	struct rig rig;
	REQUIRE(rig_file(&rig, 512, in_memory));
	MAPPED();
	write_bytes(&rig, 64 * KIB, 64 * KIB);
	MAPPED({64 * KIB, 128 * KIB});
	write_bytes(&rig, 0, 4096);
	write_bytes(&rig, SIZE - 4096, 4096);
	MAPPED({0, 4096}, {64 * KIB, 128 * KIB}, {SIZE - 4096, SIZE});
	clear(&rig, VIRTIO_BLK_T_DISCARD, 0, 72 * KIB, 8192);
	MAPPED({0, 4096}, {64 * KIB, 72 * KIB}, {80 * KIB, 128 * KIB}, {SIZE - 4096, SIZE});
	clear(&rig, VIRTIO_BLK_T_DISCARD, 0, 0, SIZE);
	MAPPED();
	rig_down(&rig);
}

static void file_on_disk(void)
{
	file_follows(false);
}

static void file_in_memory(void)
{
	file_follows(true);
}

/* Blocks that are backed in part, at either end of a run of data. */
static void file_of_large_blocks(void)
{
	struct rig rig;
	struct vhc_extent extent = {0};
	const uint8_t byte = 1;
	REQUIRE(rig_file(&rig, 16384, true));
	CHECK_EQ(pwrite(rig.fd, &byte, 1, 20480), 1);
	CHECK_EQ(pwrite(rig.fd, &byte, 1, 65536 + 12288), 1);
	MAPPED({16384, 32768}, {65536, 81920});
	/* The file ends within a block that the device had when it was made. */
	CHECK_EQ(ftruncate(rig.fd, 70000), 0);
	CHECK_EQ(vhc_bdev_extent(rig.bdev, 32768, &extent), 0);
	CHECK(extent.mapped == 0 && extent.len >= 32768);
	CHECK_EQ(ftruncate(rig.fd, (off_t)SIZE), 0);
	rig_down(&rig);
}

/* From the middle of a page on, and up to the end. */
static void file_of_small_blocks(void)
{
	struct rig rig;
	struct vhc_extent extent = {0};
	REQUIRE(rig_file(&rig, 512, true));
	CHECK_EQ(pwrite(rig.fd, "data", 4, 0), 4);
	CHECK_EQ(vhc_bdev_extent(rig.bdev, 512, &extent), 0);
	CHECK(extent.mapped == 1 && extent.len == 3584);
	CHECK_EQ(vhc_bdev_extent(rig.bdev, 4096, &extent), 0);
	CHECK(extent.mapped == 0 && extent.len == SIZE - 4096);
	CHECK_EQ(vhc_bdev_extent(rig.bdev, SIZE, &extent), -ERANGE);
	rig_down(&rig);
}

int main(void)
{
	int fds = check_open_fds();
	RUN(null_is_mapped);
	RUN(malloc_of_each_kind);
	RUN(malloc_of_large_blocks);
	RUN(malloc_grows_and_moves);
	RUN(malloc_beyond_a_call);
	RUN(file_on_disk);
	RUN(file_in_memory);
	RUN(file_of_large_blocks);
	RUN(file_of_small_blocks);
	check_ok = true;
	if (!CHECK_EQ(check_open_fds(), fds))
		check_failed++;
	return check_report();
}
