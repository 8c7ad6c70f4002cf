/* SPDX-License-Identifier: MIT */
/* The reader's side of the upcall ring, one at a time, for tests. */
#ifndef VHC_TEST_READER_H
#define VHC_TEST_READER_H

#include <unistd.h>

#include "check.h"
#include "vhostctl.h"

struct reader {
	struct vhc_upcalls *upcalls;
	struct vhc_upcalls_info info;
	const struct vhc_upcall *slots;
	uint32_t next; /* slot; free-running */
	uint32_t held; /* 1 once a slot was taken: it is given back with the next */
};

static inline bool reader_open(struct reader *reader)
{
	*reader = (struct reader){0};
	if (vhc_upcalls_create(&reader->upcalls, &reader->info) < 0)
		return false;
	reader->slots = vhc_pointer(reader->info.slots);
	return true;
}

/* The next upcall, or NULL if none comes within ms. It stays until the next call. */
static inline const struct vhc_upcall *reader_next(struct reader *reader, int ms)
{
	char bytes[64];
	for (;;) {
		int ready = vhc_upcalls_advance(reader->upcalls, reader->held);
		reader->held = ready > 0;
		if (ready)
			return &reader->slots[reader->next++ % VHC_UPCALL_SLOTS];
		if (!check_readable(reader->info.fd, ms) ||
		    read(reader->info.fd, bytes, sizeof(bytes)) <= 0)
			return NULL;
	}
}

static inline void reader_close(struct reader *reader)
{
	vhc_upcalls_release(reader->upcalls);
	close(reader->info.fd);
}

#endif
