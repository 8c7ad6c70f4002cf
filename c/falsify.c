/* SPDX-License-Identifier: MIT */
#include "falsify.h"

#include <stdlib.h>

/* The byte at an offset of the data of a request, or NULL. */
static uint8_t *byte_at(const struct io *io, uint64_t offset)
{
	for (uint32_t i = 0; i < io->iovcnt; i++) {
		if (offset < io->iov[i].iov_len)
			return (uint8_t *)io->iov[i].iov_base + offset;
		offset -= io->iov[i].iov_len;
	}
	return NULL;
}

/*
 * Has the base write another byte than the guest's, whose buffer stays as it is: the
 * data before it, the byte, the data behind. Returns false without memory, which only
 * a write that is to be falsified takes.
 */
static bool replace_byte(struct child *child, const struct vhc_error_rule *rule)
{
	const struct io *io = child->parent;
	const uint8_t *byte = byte_at(io, rule->corrupt_offset);
	uint64_t skip = rule->corrupt_offset;
	bool replaced = false;
	uint32_t n = 0;

	if (!byte)
		return true;
	child->iov = calloc(io->iovcnt + 2u, sizeof(struct iovec));
	if (!child->iov)
		return false;
	child->byte = *byte ^ (uint8_t)rule->corrupt_value;
	for (uint32_t i = 0; i < io->iovcnt; i++) {
		const struct iovec *iov = &io->iov[i];
		uint8_t *at = iov->iov_base;

		if (replaced || skip >= iov->iov_len) {
			child->iov[n++] = *iov;
			skip -= replaced ? 0 : iov->iov_len;
			continue;
		}
		if (skip > 0)
			child->iov[n++] = (struct iovec){at, skip};
		child->iov[n++] = (struct iovec){&child->byte, 1};
		if (skip + 1 < iov->iov_len)
			child->iov[n++] = (struct iovec){at + skip + 1, iov->iov_len - skip - 1};
		replaced = true;
	}
	child->io.iov = child->iov;
	child->io.iovcnt = (uint16_t)n;
	return true;
}

bool falsify_begin(struct child *child, const struct vhc_error_rule *rule)
{
	if (child->io.op == VHC_OP_WRITE && !replace_byte(child, rule))
		return false;
	child->corrupt_offset = rule->corrupt_offset;
	child->corrupt_value = (uint8_t)rule->corrupt_value;
	return true;
}

void falsify_end(struct child *child)
{
	uint8_t *byte;

	if (child->corrupt_value && child->io.op == VHC_OP_READ && child->io.result == 0) {
		byte = byte_at(&child->io, child->corrupt_offset);
		if (byte)
			*byte ^= child->corrupt_value;
	}
	free(child->iov);
}
