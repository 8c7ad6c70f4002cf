/* SPDX-License-Identifier: MIT */
/* What direct I/O on a descriptor must be aligned to. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhostctl.h"

/* Blocks that file systems and disks have. */
#define MIN_ALIGN 512u
#define MAX_ALIGN 65536u
#define USUAL_ALIGN 4096u

/* Asks the kernel (since 6.1, and not for every file system): 1 if it says, 0 if not. */
static int ask(int fd, struct vhc_file_align *out)
{
#ifdef STATX_DIOALIGN
	struct statx stx;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0)
		return errno == EBADF ? -EBADF : 0;
	if (!(stx.stx_mask & STATX_DIOALIGN))
		return 0;
	if (!stx.stx_dio_mem_align || !stx.stx_dio_offset_align)
		return -EINVAL;
	out->memory = stx.stx_dio_mem_align;
	out->offset = stx.stx_dio_offset_align;
	return 1;
#else
	(void)fd;
	(void)out;
	return 0;
#endif
}

static bool reads(int fd, uint8_t *buffer, uint32_t len)
{
	return pread(fd, buffer, len, 0) >= 0;
}

/* Finds both by reading the start of the file in ever larger units. */
static int try(int fd, struct vhc_file_align *out)
{
	/* Of an empty file any read succeeds. */
	off_t size = lseek(fd, 0, SEEK_END);
	*out = (struct vhc_file_align){.memory = USUAL_ALIGN, .offset = USUAL_ALIGN};
	if (size < (off_t)MIN_ALIGN)
		return size < 0 ? -EINVAL : 0;
	uint8_t *buffer = aligned_alloc(MAX_ALIGN, 2 * MAX_ALIGN);
	if (!buffer)
		return -ENOMEM;
	uint32_t offset = MIN_ALIGN;
	while (offset <= MAX_ALIGN && !reads(fd, buffer, offset))
		offset *= 2;
	uint32_t memory = MIN_ALIGN;
	while (memory < offset && !reads(fd, buffer + memory, offset))
		memory *= 2;
	free(buffer);
	*out = (struct vhc_file_align){.memory = memory, .offset = offset};
	return offset <= MAX_ALIGN ? 0 : -EINVAL;
}

int vhc_file_alignment(int32_t fd, struct vhc_file_align *out)
{
	struct vhc_file_align got;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	if (!(flags & O_DIRECT))
		return -EINVAL;
	int result = ask(fd, &got);
	if (result == 0)
		result = try(fd, &got);
	if (result >= 0)
		*out = got;
	return result < 0 ? result : 0;
}
