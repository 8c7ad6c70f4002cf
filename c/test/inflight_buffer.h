/* SPDX-License-Identifier: MIT */
/* A buffer of two in-flight regions at an offset, of which the second is used, for tests. */
#ifndef VHC_TEST_INFLIGHT_BUFFER_H
#define VHC_TEST_INFLIGHT_BUFFER_H

#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "inflight.h"
#include "inflight_spec.h"

#define MAX_SIZE 64u
#define OFFSET 192u
#define AVAIL 0x80u
#define USED 0x8000u

struct buffer {
	int fd;
	uint64_t len;
	uint32_t size;
	bool packed;
	uint8_t *bytes; /* the file, as a peer has it */
	union {		/* the second region there */
		struct spec_split *split;
		struct spec_packed *packed_region;
		uint8_t *region;
	};
	uint64_t region_len;
	struct vhc_inflight *of;
	struct inflight *inflight;
};

static inline bool reopen(struct buffer *b)
{
	inflight_close(b->inflight);
	b->inflight = NULL;
	return inflight_open(b->of, 1, b->size, b->packed, &b->inflight) == 0;
}

static inline bool buffer_create(struct buffer *b, uint32_t size, bool packed)
{
	int64_t bytes = vhc_inflight_bytes(2, size, packed);

	*b = (struct buffer){.size = size, .packed = packed, .len = OFFSET + (uint64_t)bytes};
	b->fd = memfd_create("inflight_test", MFD_CLOEXEC);
	if (b->fd < 0 || ftruncate(b->fd, (off_t)b->len))
		return false;
	b->bytes = mmap(NULL, b->len, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	b->region_len = (uint64_t)bytes / 2;
	b->region = b->bytes + OFFSET + b->region_len;

	struct vhc_inflight_config config = {
	    .offset = OFFSET,
	    .size = (uint64_t)bytes,
	    .fd = b->fd,
	    .num_queues = 2,
	    .queue_size = size,
	    .packed = packed,
	};

	return vhc_inflight_create(&config, &b->of) == 0 && reopen(b);
}

static inline void buffer_destroy(struct buffer *b)
{
	inflight_close(b->inflight);
	vhc_inflight_release(b->of);
	munmap(b->bytes, b->len);
	close(b->fd);
}

#endif
