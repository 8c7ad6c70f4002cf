/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "mapping.h"
#include "notify.h"

#define LOG_PAGE 4096u /* VHOST_LOG_PAGE */

struct vhc_log {
	atomic_uint refs;
	int signal_fd;	/* -1: none */
	uint64_t pages; /* that it has bits for */
	struct mapping map;
	atomic_bool faulted; /* nobody asks: marks that a peer cuts off are its own loss */
	atomic_bool muted;   /* its eventfd blocked */
};

int vhc_log_create(int32_t fd, uint64_t offset, uint64_t size, int32_t signal_fd,
		   struct vhc_log **out)
{
	struct vhc_log *log;
	int result;

	if (size == 0 || size > UINT64_MAX / 8)
		return -EINVAL;
	log = calloc(1, sizeof(*log));
	if (!log)
		return -ENOMEM;
	atomic_init(&log->refs, 1);
	log->pages = size * 8;
	result = notify_dup(signal_fd, 0, &log->signal_fd);
	if (result == 0)
		result = mapping_create(&log->map, fd, offset, size, &log->faulted);
	if (result) {
		if (log->signal_fd >= 0)
			close(log->signal_fd);
		free(log);
		return result;
	}
	*out = log;
	return 0;
}

void log_ref(struct vhc_log *log)
{
	atomic_fetch_add_explicit(&log->refs, 1, memory_order_relaxed);
}

void vhc_log_release(struct vhc_log *log)
{
	if (!log || atomic_fetch_sub_explicit(&log->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (log->signal_fd >= 0)
		close(log->signal_fd);
	mapping_destroy(&log->map);
	free(log);
}

/*
 * Sets bits of a byte, whether or not they are set: to find out first would take a
 * fence that is no cheaper, since the peer clears a bit and then reads the page.
 */
static void set_bits(uint8_t *byte, uint32_t first, uint32_t last)
{
	uint8_t bits = (uint8_t)((2u << last) - (1u << first));

	__atomic_fetch_or(byte, bits, __ATOMIC_SEQ_CST);
}

/* Sets all bits of whole bytes, which takes no more than stores, by words as soon as may be. */
static void set_bytes(uint8_t *at, uint8_t *end)
{
	for (; at < end && (uintptr_t)at % sizeof(uint64_t); at++)
		__atomic_store_n(at, UINT8_MAX, __ATOMIC_RELEASE);
	for (; end - at >= (ptrdiff_t)sizeof(uint64_t); at += sizeof(uint64_t))
		__atomic_store_n((uint64_t *)(void *)at, UINT64_MAX, __ATOMIC_RELEASE);
	for (; at < end; at++)
		__atomic_store_n(at, UINT8_MAX, __ATOMIC_RELEASE);
}

int log_mark(struct vhc_log *log, uint64_t gpa, uint64_t len)
{
	if (len == 0)
		return 0;

	uint64_t first = gpa / LOG_PAGE;
	uint64_t last = (len - 1 > UINT64_MAX - gpa ? UINT64_MAX : gpa + (len - 1)) / LOG_PAGE;
	uint8_t *bytes = (uint8_t *)(uintptr_t)log->map.host;
	int result = 0;

	if (first >= log->pages)
		return -ERANGE;
	if (last >= log->pages) {
		last = log->pages - 1;
		result = -ERANGE;
	}
	if (first / 8 == last / 8) {
		set_bits(&bytes[first / 8], first % 8, last % 8);
		return result;
	}
	set_bits(&bytes[first / 8], first % 8, 7);
	set_bytes(&bytes[first / 8 + 1], &bytes[last / 8]);
	set_bits(&bytes[last / 8], 0, last % 8);
	return result;
}

int vhc_log_mark(struct vhc_log *log, uint64_t gpa, uint64_t len)
{
	return log_mark(log, gpa, len);
}

void log_signal(struct vhc_log *log)
{
	if (log->signal_fd < 0 || atomic_load_explicit(&log->muted, memory_order_relaxed))
		return;
	/* Who makes us wait is not waited for again. */
	if (notify(log->signal_fd))
		atomic_store_explicit(&log->muted, true, memory_order_relaxed);
}
