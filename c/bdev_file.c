/* SPDX-License-Identifier: MIT */
/* A file or a block device as a disk. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "file.h"
#include "file_map.h"

static bool has_blocks(const struct file_bdev *file, uint64_t num_blocks)
{
	off_t size = lseek(file->fd, 0, SEEK_END);
	return size >= 0 && num_blocks <= (uint64_t)size / file->bdev.block_size;
}

static int resize(struct vhc_bdev *bdev, uint64_t num_blocks)
{
	return has_blocks((struct file_bdev *)bdev, num_blocks) ? 0 : -ENOSPC;
}

/* Where there is data, or a hole, from offset on; INT64_MAX: nowhere. */
static int64_t seek(int fd, uint64_t offset, int whence)
{
	off_t at = lseek(fd, (off_t)offset, whence);
	if (at >= 0)
		return at;
	return errno == ENXIO ? INT64_MAX : -errno;
}

static int extent(struct vhc_bdev *bdev, uint64_t offset, uint64_t end, struct vhc_extent *out)
{
	const int fd = ((struct file_bdev *)bdev)->fd;
	const uint64_t block = bdev->block_size;
	const int64_t data = seek(fd, offset, SEEK_DATA);
	int64_t next = INT64_MAX;
	/* What knows no holes, as block devices, has none. */
	if (data < 0)
		return data == -EINVAL || data == -EOPNOTSUPP ? 0 : -EIO;
	/* A block with data in it is mapped, and so is the one in which data ends. */
	const bool mapped = (uint64_t)data - offset < block;
	if (mapped)
		next = seek(fd, (uint64_t)data, SEEK_HOLE);
	if (next < 0)
		return -EIO;
	uint64_t stop =
	    mapped ? ((uint64_t)next + block - 1) / block * block : (uint64_t)data / block * block;
	if (stop == offset) /* the data has gone in between */
		stop += block;
	*out = (struct vhc_extent){.len = (stop < end ? stop : end) - offset, .mapped = mapped};
	return 0;
}

static void destroy(struct vhc_bdev *bdev)
{
	struct file_bdev *file = (struct file_bdev *)bdev;
	file_map_release(file->map);
	if (file->worker)
		file_worker_release(file->worker);
	if (file->fd >= 0)
		close(file->fd);
	if (file->direct_fd >= 0)
		close(file->direct_fd);
	free(file);
}

static const struct bdev_ops file_ops = {
    .name = "file",
    .channel_open = file_channel_open,
    .channel_close = file_channel_close,
    .submit = file_submit,
    .poll = file_poll,
    .resize = resize,
    .extent = extent,
    .destroy = destroy,
};

/* Whether there is io_uring, and it may be used. */
static int probe_ring(void)
{
	struct io_uring ring;
	int err = io_uring_queue_init(1, &ring, 0);
	if (!err)
		io_uring_queue_exit(&ring);
	return err == -EPERM ? -ENOSYS : err;
}

static bool is_in_memory(int fd)
{
	struct statfs fs;
	return fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

/* Whether a read can be tried without waiting; that nothing is cached is an answer too. */
static bool knows_nowait(int fd)
{
	uint8_t byte;
	struct iovec iov = {&byte, 1};
	return preadv2(fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

static int dup_fd(int fd, int *out)
{
	*out = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return *out < 0 ? -errno : 0;
}

/* Takes direct_fd over if its wants can be met; what the bounce buffers cannot is buffered. */
static int set_direct(struct file_bdev *file, int direct_fd)
{
	int err = vhc_file_alignment(direct_fd, &file->align);
	if (err || file->in_memory || file->align.offset > FILE_BOUNCE_SIZE)
		return err;
	return dup_fd(direct_fd, &file->direct_fd);
}

static int set_up(struct file_bdev *file, const struct vhc_file_config *config)
{
	int err = dup_fd(config->fd, &file->fd);
	if (!err)
		err = probe_ring();
	if (!err && !has_blocks(file, config->num_blocks))
		err = -EINVAL;
	if (err)
		return err;
	file->in_memory = is_in_memory(file->fd);
	if (file->in_memory)
		file->map = file_map_create(file->fd, config->num_blocks * config->block_size,
					    !file->readonly);
	if (config->direct_fd >= 0)
		err = set_direct(file, config->direct_fd);
	file->nowait = !file->in_memory && file->direct_fd < 0 && knows_nowait(file->fd);
	if (!err && (config->flags & VHC_FILE_BLOCK_DEVICE) && !file->readonly)
		err = file_worker_create(file->fd, &file->worker);
	return err;
}

int vhc_bdev_file_create(const struct vhc_file_config *config, struct vhc_bdev **out)
{
	if (!bdev_shape_valid(config->block_size, config->num_blocks))
		return -EINVAL;
	struct file_bdev *file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->fd = file->direct_fd = -1;
	file->readonly = config->flags & VHC_FILE_READONLY;
	bdev_init(&file->bdev, &file_ops, config->block_size, config->num_blocks);
	int err = set_up(file, config);
	if (err)
		destroy(&file->bdev);
	else
		*out = &file->bdev;
	return err;
}
