/* SPDX-License-Identifier: MIT */
/* Parts of scattered data. */
#ifndef VHC_IOV_H
#define VHC_IOV_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "copy.h"

/* Describes the data of iov from byte skip on, in at most max pieces. Returns how many. */
static inline uint32_t iov_window(const struct iovec *iov, uint32_t count, uint64_t skip,
				  struct iovec *out, uint32_t max)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < count && n < max; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		out[n].iov_base = (uint8_t *)iov[i].iov_base + skip;
		out[n++].iov_len = iov[i].iov_len - skip;
		skip = 0;
	}
	return n;
}

/* Copies len bytes between buf and the data of iov from byte skip on. */
static inline void iov_copy(const struct iovec *iov, uint32_t count, uint64_t skip, uint8_t *buf,
			    uint64_t len, bool to_iov)
{
	for (uint32_t i = 0; i < count && len; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		uint8_t *at = (uint8_t *)iov[i].iov_base + skip;
		uint64_t n = iov[i].iov_len - skip;
		if (n > len)
			n = len;
		if (to_iov)
			copy_prefetched(at, buf, n);
		else
			memcpy(buf, at, n);
		buf += n;
		len -= n;
		skip = 0;
	}
}

/* Whether every piece starts and ends at multiples of the powers of two. */
static inline bool iov_aligned(const struct iovec *iov, uint32_t count, uint64_t memory,
			       uint64_t len)
{
	uintptr_t bits = 0;
	for (uint32_t i = 0; i < count; i++)
		bits |= ((uintptr_t)iov[i].iov_base & (memory - 1)) | (iov[i].iov_len & (len - 1));
	return bits == 0;
}

#endif
