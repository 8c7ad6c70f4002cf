/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "check.h"
#include "disk.h"

#define MIB (1ull << 20)
#define FILE_SIZE (16 * MIB)
#define SYS_CACHESTAT 451 /* on every architecture; not in older headers */
#define FEATURES                                                                                   \
	(1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_DISCARD |                               \
	 1ull << VIRTIO_BLK_F_WRITE_ZEROES)
#define READ VIRTIO_BLK_T_IN
#define WRITE VIRTIO_BLK_T_OUT

/* The kinds of file that a test goes over. */
enum kind {
	ON_DISK,
	DIRECT,
	IN_MEMORY
};

struct file {
	int fd, direct_fd;
	struct vhc_bdev *bdev;
};

/* A file without a name: nothing is left behind. -1 if the place does not allow it. */
static int open_file(enum kind kind, int *direct_fd)
{
	char link[64];
	*direct_fd = -1;
	if (kind == IN_MEMORY)
		return memfd_create("file_test", MFD_CLOEXEC);
	int fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 || kind == ON_DISK)
		return fd;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	*direct_fd = open(link, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (*direct_fd >= 0)
		return fd;
	close(fd);
	return -1;
}

/* False where the machine has no such file, or on failure, which is noted. */
static bool make_file(struct file *file, enum kind kind, uint32_t block_size)
{
	file->fd = open_file(kind, &file->direct_fd);
	if (file->fd < 0) {
		printf("# no file of this kind here\n");
		return false;
	}
	CHECK_EQ(ftruncate(file->fd, FILE_SIZE), 0);
	struct vhc_file_config config = {
	    .fd = file->fd,
	    .direct_fd = file->direct_fd,
	    .block_size = block_size,
	    .num_blocks = FILE_SIZE / block_size,
	};
	return CHECK_EQ(vhc_bdev_file_create(&config, &file->bdev), 0);
}

static void drop_file(struct file *file)
{
	vhc_bdev_release(file->bdev);
	close(file->fd);
	if (file->direct_fd >= 0)
		close(file->direct_fd);
}

static bool make_disk(struct disk *disk, struct file *file, enum kind kind)
{
	return make_file(file, kind, 512) &&
	       CHECK_EQ(disk_open(disk, file->bdev, VHC_MODE_ADAPTIVE, FEATURES), 0);
}

static void drop_disk(struct disk *disk, struct file *file)
{
	disk_close(disk);
	drop_file(file);
}

/* Whether len bytes of the file at offset are value. */
static bool holds(int fd, uint64_t offset, uint64_t len, uint8_t value)
{
	static uint8_t bytes[FILE_SIZE];
	if (pread(fd, bytes, len, (off_t)offset) != (ssize_t)len)
		return false;
	for (uint64_t i = 0; i < len; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

static uint32_t random32(void)
{
	static uint64_t state = 88172645463325252ull;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16);
}

/* ---- Against a model, with every alignment ---- */

#define ROUNDS 60
#define BATCH 16u
#define AREA (FILE_SIZE / BATCH) /* each request of a batch has its own, so that order is free */

struct pieces {
	struct vhc_iov iov[8];
	uint32_t count;
};

/* Cuts len bytes at data to pieces, some of odd size. */
static void cut(struct pieces *pieces, uint8_t *data, uint64_t len)
{
	pieces->count = 0;
	while (len) {
		uint64_t n = len;
		if (pieces->count < 7 && random32() % 4)
			n = random32() % 2 ? random32() % len + 1
					   : (random32() % len + 512) & ~511u;
		n = n > len ? len : n;
		pieces->iov[pieces->count++] = (struct vhc_iov){(uintptr_t)data, n};
		data += n;
		len -= n;
	}
}

/* Bytes that are nowhere else; len is a multiple of 8. */
static void fill(uint8_t *data, uint64_t len)
{
	uint64_t value = (uint64_t)random32() << 32 | random32();
	for (uint64_t i = 0; i < len; i += sizeof(value), value++)
		memcpy(data + i, &value, sizeof(value));
}

static void model_round(struct disk *disk, uint8_t *model)
{
	struct pieces pieces;
	uint64_t offset[BATCH], len[BATCH];
	uint8_t *data[BATCH];
	uint32_t type[BATCH];
	for (uint32_t i = 0; i < BATCH; i++) {
		type[i] = random32() % 2 ? READ : WRITE;
		len[i] = 512 * (1 + random32() % (random32() % 4 ? 32 : 1500));
		offset[i] = i * AREA + 512 * (random32() % ((AREA - len[i]) / 512 + 1));
		data[i] = disk->data + i * 2 * AREA + (random32() % 2 ? 0 : random32() % 4096);
		fill(data[i], len[i]);
		cut(&pieces, data[i], len[i]);
		disk_add(disk, type[i], offset[i], pieces.iov, pieces.count);
	}
	CHECK_EQ(disk_run(disk), 0);
	for (uint32_t i = 0; i < BATCH; i++) {
		if (type[i] == WRITE)
			memcpy(model + offset[i], data[i], len[i]);
		CHECK_EQ(memcmp(model + offset[i], data[i], len[i]), 0);
	}
}

static void model(enum kind kind, uint32_t mode, uint64_t features)
{
	static uint8_t bytes[FILE_SIZE], final[FILE_SIZE];
	struct disk disk;
	struct file file;
	int fds = check_open_fds();
	memset(bytes, 0, sizeof(bytes));
	if (!make_file(&file, kind, 512))
		return;
	REQUIRE_EQ(disk_open(&disk, file.bdev, mode, features), 0);
	for (int i = 0; i < ROUNDS; i++)
		model_round(&disk, bytes);
	REQUIRE_EQ(pread(file.fd, final, FILE_SIZE, 0), FILE_SIZE);
	CHECK_EQ(memcmp(bytes, final, FILE_SIZE), 0);
	drop_disk(&disk, &file);
	CHECK_EQ(check_open_fds(), fds);
}

static void buffered_reads_and_writes(void)
{
	model(ON_DISK, VHC_MODE_ADAPTIVE, FEATURES);
}

static void direct_reads_and_writes(void)
{
	model(DIRECT, VHC_MODE_ADAPTIVE, FEATURES);
}

/* Nobody polls: each completion has to wake the reactor. */
static void direct_while_the_reactor_sleeps(void)
{
	model(DIRECT, VHC_MODE_INTERRUPT, FEATURES);
}

/* Pages of the file that are not on the disk yet; -1 from a kernel that does not tell. */
static int64_t dirty_pages(int fd)
{
	struct {
		uint64_t offset, len;
	} range = {0, FILE_SIZE};
	struct {
		uint64_t cache, dirty, writeback, evicted, recently_evicted;
	} stat;
	if (syscall(SYS_CACHESTAT, fd, &range, &stat, 0) < 0)
		return -1;
	return (int64_t)(stat.dirty + stat.writeback);
}

static int64_t dirty_after_write(uint64_t features)
{
	struct disk disk;
	struct file file;
	if (!make_file(&file, ON_DISK, 512))
		return -1;
	CHECK_EQ(disk_open(&disk, file.bdev, VHC_MODE_ADAPTIVE, features), 0);
	CHECK_EQ(disk_rw(&disk, WRITE, MIB, disk.data, MIB), VIRTIO_BLK_S_OK);
	int64_t dirty = dirty_pages(file.fd);
	drop_disk(&disk, &file);
	return dirty;
}

/* Without FLUSH each write is durable by itself. */
static void write_through(void)
{
	int64_t dirty = dirty_after_write(FEATURES);
	if (dirty > 0)
		CHECK_EQ(dirty_after_write(0), 0);
	else
		printf("# this kernel or file system does not tell what is dirty\n");
	model(DIRECT, VHC_MODE_ADAPTIVE, 0);
	model(ON_DISK, VHC_MODE_ADAPTIVE, 0);
}

static void in_memory_reads_and_writes(void)
{
	model(IN_MEMORY, VHC_MODE_ADAPTIVE, FEATURES);
}

/* ---- More than fits ---- */

/* More requests than the channel has ops, all misaligned: more than it has bounce buffers. */
static void deep_and_misaligned(void)
{
	enum {
		DEPTH = 330
	};
	struct disk disk;
	struct file file;
	if (!make_disk(&disk, &file, DIRECT))
		return;
	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < DEPTH; i++) {
			uint8_t *data = disk.data + i * 16384 + 1;
			if (pass == 0)
				memset(data, (int)(i % 251 + 1), 4096);
			const struct vhc_iov piece = {(uintptr_t)data + pass * 8192, 4096};
			disk_add(&disk, pass ? READ : WRITE, i * 4096, &piece, 1);
		}
		CHECK_EQ(disk_run(&disk), 0);
	}
	for (uint32_t i = 0; i < DEPTH; i++) {
		const uint8_t *data = disk.data + i * 16384 + 1;
		CHECK_EQ(memcmp(data, data + 8192, 4096), 0);
		CHECK(holds(file.fd, i * 4096, 4096, (uint8_t)(i % 251 + 1)));
	}
	drop_disk(&disk, &file);
}

/* ---- Discard, zeroes, flush ---- */

static uint64_t allocated(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void ranges(enum kind kind)
{
	struct disk disk;
	struct file file;
	if (!make_disk(&disk, &file, kind))
		return;
	memset(disk.data, 0xaa, 8 * MIB);
	CHECK_EQ(disk_rw(&disk, WRITE, 0, disk.data, 8 * MIB), VIRTIO_BLK_S_OK);
	disk_add_flush(&disk);
	CHECK_EQ(disk_run(&disk), 0);
	uint64_t before = allocated(file.fd);
	CHECK(before >= 8 * MIB);

	const uint64_t holes[3][2] = {{0, MIB}, {2 * MIB, MIB}, {4 * MIB, 4096}};
	disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, holes, 3, 0);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK(allocated(file.fd) <= before - 2 * MIB);
	CHECK(holds(file.fd, 0, MIB, 0));
	CHECK(holds(file.fd, MIB, MIB, 0xaa));
	CHECK(holds(file.fd, 2 * MIB, MIB, 0));
	CHECK(holds(file.fd, 4 * MIB, 4096, 0));

	/* The second is longer than one write of zeroes, and starts and ends within pages. */
	const uint64_t zeroes[2][2] = {{MIB, 512}, {5 * MIB + 512, 2 * MIB}};
	before = allocated(file.fd);
	disk_add_ranges(&disk, VIRTIO_BLK_T_WRITE_ZEROES, zeroes, 2, 0);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK(holds(file.fd, MIB, 512, 0));
	CHECK(holds(file.fd, MIB + 512, MIB - 512, 0xaa));
	CHECK(holds(file.fd, 5 * MIB, 512, 0xaa));
	CHECK(holds(file.fd, 5 * MIB + 512, 2 * MIB, 0));
	CHECK(holds(file.fd, 7 * MIB + 512, MIB - 512, 0xaa));
	CHECK(allocated(file.fd) >= before); /* without UNMAP the space stays */

	const uint64_t gone[1][2] = {{5 * MIB, 3 * MIB}};
	disk_add_ranges(&disk, VIRTIO_BLK_T_WRITE_ZEROES, gone, 1,
			VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK(holds(file.fd, 5 * MIB, 3 * MIB, 0));
	CHECK(allocated(file.fd) <= before - 2 * MIB);
	drop_disk(&disk, &file);
}

static void ranges_on_disk(void)
{
	ranges(ON_DISK);
}

static void ranges_direct(void)
{
	ranges(DIRECT);
}

static void ranges_in_memory(void)
{
	ranges(IN_MEMORY);
}

/* Reading a hole does not fill it, and data that somebody else puts there is seen. */
static void sparse_file_in_memory(void)
{
	struct disk disk;
	struct file file;
	if (!make_disk(&disk, &file, IN_MEMORY))
		return;
	memset(disk.data, 1, 8192);
	CHECK_EQ(pwrite(file.fd, disk.data, 8192, 4 * MIB + 4096), 8192);
	CHECK_EQ(disk_rw(&disk, READ, 0, disk.data, FILE_SIZE), VIRTIO_BLK_S_OK);
	CHECK_EQ(disk.data[4 * MIB + 4095] | disk.data[4 * MIB + 12288], 0);
	CHECK_EQ(disk.data[4 * MIB + 4096] & disk.data[4 * MIB + 12287], 1);
	CHECK_EQ(allocated(file.fd), 8192);
	CHECK_EQ(pwrite(file.fd, "x", 1, 9 * MIB), 1);
	CHECK_EQ(disk_rw(&disk, READ, 9 * MIB, disk.data, 512), VIRTIO_BLK_S_OK);
	CHECK_EQ(disk.data[0], 'x');
	/* Discarded and read again: still a hole. */
	const uint64_t all[1][2] = {{0, FILE_SIZE}};
	disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, all, 1, 0);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK_EQ(disk_rw(&disk, READ, 0, disk.data, FILE_SIZE), VIRTIO_BLK_S_OK);
	CHECK_EQ(allocated(file.fd), 0);
	drop_disk(&disk, &file);
}

/* A copy to the map of a file does not change its time by itself. */
static void flush_in_memory_sets_the_time(void)
{
	static const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct disk disk;
	struct file file;
	struct stat st;
	if (!make_disk(&disk, &file, IN_MEMORY))
		return;
	CHECK_EQ(disk_rw(&disk, WRITE, 0, disk.data, 4096), VIRTIO_BLK_S_OK);
	CHECK_EQ(futimens(file.fd, old), 0);
	CHECK_EQ(disk_rw(&disk, WRITE, 0, disk.data, 4096), VIRTIO_BLK_S_OK);
	disk_add_flush(&disk);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK_EQ(fstat(file.fd, &st), 0);
	CHECK(st.st_mtim.tv_sec > 1000);
	drop_disk(&disk, &file);
}

/* ---- What goes wrong ---- */

static void cut_short(enum kind kind)
{
	struct disk disk;
	struct file file;
	if (!make_disk(&disk, &file, kind))
		return;
	memset(disk.data, 7, FILE_SIZE);
	CHECK_EQ(disk_rw(&disk, WRITE, 0, disk.data, FILE_SIZE), VIRTIO_BLK_S_OK);
	CHECK_EQ(disk_rw(&disk, READ, 0, disk.data, FILE_SIZE), VIRTIO_BLK_S_OK);
	REQUIRE_EQ(ftruncate(file.fd, 8 * MIB + 512), 0);
	CHECK_EQ(disk_rw(&disk, READ, 8 * MIB, disk.data, 512), VIRTIO_BLK_S_OK);
	CHECK_EQ(disk_rw(&disk, READ, 8 * MIB, disk.data, 8192), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(disk_rw(&disk, READ, 8 * MIB, disk.data + 1, 8192), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(disk_rw(&disk, READ, 12 * MIB, disk.data, 4096), VIRTIO_BLK_S_IOERR);
	disk.data[0] = 0;
	CHECK_EQ(disk_rw(&disk, READ, 0, disk.data, 4096), VIRTIO_BLK_S_OK);
	CHECK_EQ(disk.data[0], 7);
	/* And as long as before again: what is read is what is there. */
	REQUIRE_EQ(ftruncate(file.fd, FILE_SIZE), 0);
	CHECK_EQ(disk_rw(&disk, READ, 12 * MIB, disk.data, 4096), VIRTIO_BLK_S_OK);
	CHECK_EQ(disk.data[0], 0);
	memset(disk.data, 8, 8192);
	CHECK_EQ(disk_rw(&disk, WRITE, 10 * MIB, disk.data, 8192), VIRTIO_BLK_S_OK);
	CHECK(holds(file.fd, 10 * MIB, 8192, 8));
	drop_disk(&disk, &file);
}

static void file_cut_short(void)
{
	cut_short(ON_DISK);
	cut_short(DIRECT);
	cut_short(IN_MEMORY);
}

/* Without blk's own check in front of it. */
static void readonly_file(void)
{
	struct disk disk;
	struct file file;
	file.fd = open_file(ON_DISK, &file.direct_fd);
	REQUIRE(file.fd >= 0);
	REQUIRE_EQ(ftruncate(file.fd, FILE_SIZE), 0);
	struct vhc_file_config config = {.fd = file.fd,
					 .direct_fd = -1,
					 .block_size = 512,
					 .flags = VHC_FILE_READONLY,
					 .num_blocks = FILE_SIZE / 512};
	REQUIRE_EQ(vhc_bdev_file_create(&config, &file.bdev), 0);
	REQUIRE_EQ(disk_open(&disk, file.bdev, VHC_MODE_ADAPTIVE, FEATURES), 0);
	memset(disk.data, 1, 4096);
	const uint64_t range[1][2] = {{0, 4096}};
	CHECK_EQ(disk_rw(&disk, WRITE, 0, disk.data, 4096), VIRTIO_BLK_S_IOERR);
	disk_add_ranges(&disk, VIRTIO_BLK_T_WRITE_ZEROES, range, 1, 0);
	disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, range, 1, 0);
	CHECK_EQ(disk_run(&disk), 2);
	disk_add_flush(&disk);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK_EQ(disk_rw(&disk, READ, 0, disk.data, 4096), VIRTIO_BLK_S_OK);
	CHECK_EQ(disk.data[0], 0);
	drop_disk(&disk, &file);
}

static void create_and_resize(void)
{
	struct file file;
	struct vhc_bdev *bdev;
	int fds = check_open_fds();
	if (!make_file(&file, DIRECT, 4096))
		return;
	CHECK_EQ(vhc_bdev_resize(file.bdev, FILE_SIZE / 4096 + 1), -ENOSPC);
	CHECK_EQ(ftruncate(file.fd, FILE_SIZE + 4096), 0);
	CHECK_EQ(vhc_bdev_resize(file.bdev, FILE_SIZE / 4096 + 1), 0);
	struct vhc_file_config config = {
	    .fd = file.fd, .direct_fd = -1, .block_size = 512, .num_blocks = 8};
	struct vhc_file_config bad = config;
	bad.fd = -1;
	CHECK_EQ(vhc_bdev_file_create(&bad, &bdev), -EBADF);
	bad = config;
	bad.block_size = 100;
	CHECK_EQ(vhc_bdev_file_create(&bad, &bdev), -EINVAL);
	bad = config;
	bad.num_blocks = 1ull << 40;
	CHECK_EQ(vhc_bdev_file_create(&bad, &bdev), -EINVAL);
	bad = config;
	bad.direct_fd = file.fd; /* not O_DIRECT */
	CHECK_EQ(vhc_bdev_file_create(&bad, &bdev), -EINVAL);
	bad = config;
	bad.flags = VHC_FILE_BLOCK_DEVICE;
	CHECK_EQ(vhc_bdev_file_create(&bad, &bdev), -ENOTTY);
	drop_file(&file);
	CHECK_EQ(check_open_fds(), fds);
}

static void alignment(void)
{
	struct vhc_file_align align;
	int direct_fd, fd = open_file(DIRECT, &direct_fd);
	CHECK_EQ(vhc_file_alignment(-1, &align), -EBADF);
	if (fd < 0)
		return;
	CHECK_EQ(vhc_file_alignment(fd, &align), -EINVAL);
	REQUIRE_EQ(ftruncate(fd, FILE_SIZE), 0);
	REQUIRE_EQ(vhc_file_alignment(direct_fd, &align), 0);
	CHECK(align.memory > 0 && (align.memory & (align.memory - 1)) == 0);
	CHECK(align.offset >= 512 && (align.offset & (align.offset - 1)) == 0);
	/* What it says is enough. */
	uint8_t *data = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(data != MAP_FAILED);
	CHECK_EQ(pread(direct_fd, data + align.memory, align.offset, align.offset), align.offset);
	munmap(data, MIB);
	close(fd);
	close(direct_fd);
}

/* ---- A block device ---- */

/* A loop device over fd that goes with its last descriptor; -1 where that is not allowed. */
static int open_loop(int fd)
{
	char name[32];
	struct loop_config config = {.fd = (uint32_t)fd, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (control >= 0)
		close(control);
	if (number < 0)
		return -1;
	snprintf(name, sizeof(name), "/dev/loop%d", number);
	int loop = open(name, O_RDWR | O_CLOEXEC);
	if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0)
		return loop;
	if (loop >= 0)
		close(loop);
	return -1;
}

static void use_block_device(int fd, int loop)
{
	struct disk disk;
	struct vhc_bdev *bdev;
	struct vhc_file_config config = {.fd = loop,
					 .direct_fd = -1,
					 .block_size = 512,
					 .flags = VHC_FILE_BLOCK_DEVICE,
					 .num_blocks = FILE_SIZE / 512};
	REQUIRE_EQ(vhc_bdev_file_create(&config, &bdev), 0);
	REQUIRE_EQ(disk_open(&disk, bdev, VHC_MODE_INTERRUPT, FEATURES), 0);
	memset(disk.data, 0x55, 4 * MIB);
	CHECK_EQ(disk_rw(&disk, WRITE, 0, disk.data, 4 * MIB), VIRTIO_BLK_S_OK);
	disk_add_flush(&disk);
	CHECK_EQ(disk_run(&disk), 0);
	uint64_t before = allocated(fd);
	const uint64_t holes[3][2] = {{0, MIB}, {2 * MIB, MIB}, {3 * MIB + 512, 512}};
	const uint64_t zeroes[1][2] = {{MIB, 4096}};
	disk_add_ranges(&disk, VIRTIO_BLK_T_DISCARD, holes, 3, 0);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK(allocated(fd) <= before - 2 * MIB);
	disk_add_ranges(&disk, VIRTIO_BLK_T_WRITE_ZEROES, zeroes, 1, 0);
	CHECK_EQ(disk_run(&disk), 0);
	CHECK(holds(loop, MIB, 4096, 0));
	CHECK(holds(loop, MIB + 4096, MIB - 4096, 0x55));
	disk_close(&disk);
	vhc_bdev_release(bdev);
}

static void block_device(void)
{
	int direct_fd, fd = open_file(ON_DISK, &direct_fd);
	int fds = check_open_fds();
	REQUIRE(fd >= 0);
	REQUIRE_EQ(ftruncate(fd, FILE_SIZE), 0);
	int loop = open_loop(fd);
	if (loop >= 0) {
		use_block_device(fd, loop);
		close(loop);
	} else {
		printf("# no loop device to be had\n");
	}
	CHECK_EQ(check_open_fds(), fds);
	close(fd);
}

int main(void)
{
	RUN(buffered_reads_and_writes);
	RUN(direct_reads_and_writes);
	RUN(direct_while_the_reactor_sleeps);
	RUN(write_through);
	RUN(in_memory_reads_and_writes);
	RUN(deep_and_misaligned);
	RUN(ranges_on_disk);
	RUN(ranges_direct);
	RUN(ranges_in_memory);
	RUN(sparse_file_in_memory);
	RUN(flush_in_memory_sets_the_time);
	RUN(file_cut_short);
	RUN(readonly_file);
	RUN(create_and_resize);
	RUN(alignment);
	RUN(block_device);
	return check_report();
}
