/* SPDX-License-Identifier: MIT */
/* virtio-scsi commands as a guest of guest.h writes them, in slots of 8 KiB like its blk requests.
 */
#ifndef VHC_TEST_SCSI_GUEST_H
#define VHC_TEST_SCSI_GUEST_H

#include <linux/virtio_scsi.h>

#include "guest.h"

#define SCSI_GUEST_HEADER 51u /* with a CDB of 32 bytes */
#define SCSI_GUEST_RESPONSE 108u

static inline struct virtio_scsi_cmd_req *guest_command(const struct guest *guest, uint32_t i)
{
	return (struct virtio_scsi_cmd_req *)(guest->memory + GUEST_DATA + (uint64_t)i * 8192);
}

static inline struct virtio_scsi_cmd_resp *guest_response(const struct guest *guest, uint32_t i)
{
	return (struct virtio_scsi_cmd_resp *)(guest->memory + GUEST_DATA + (uint64_t)i * 8192 +
					       64);
}

/* A header for target and LUN, SIMPLE, with a CDB of zeroes and no tag. */
static inline struct virtio_scsi_cmd_req *guest_set_command(const struct guest *guest, uint32_t i,
							    uint8_t target, uint8_t lun)
{
	struct virtio_scsi_cmd_req *header = guest_command(guest, i);

	memset(header, 0, sizeof(*header));
	header->lun[0] = 1;
	header->lun[1] = target;
	header->lun[2] = 0x40;
	header->lun[3] = lun;
	header->tag = i;
	memset(guest_response(guest, i), 0xff, SCSI_GUEST_RESPONSE);
	return header;
}

static inline void guest_put32(uint8_t *at, uint64_t value)
{
	for (int i = 3; i >= 0; i--, value >>= 8)
		at[i] = (uint8_t)value;
}

static inline void guest_cdb_10(uint8_t *cdb, uint8_t opcode, uint32_t lba, uint16_t blocks)
{
	cdb[0] = opcode;
	guest_put32(cdb + 2, lba);
	cdb[7] = (uint8_t)(blocks >> 8);
	cdb[8] = (uint8_t)blocks;
}

static inline void guest_cdb_16(uint8_t *cdb, uint8_t opcode, uint64_t lba, uint32_t blocks)
{
	cdb[0] = opcode;
	guest_put32(cdb + 2, lba >> 32);
	guest_put32(cdb + 6, lba);
	guest_put32(cdb + 10, blocks);
}

/*
 * Offers what the slot has as a chain of header, data-out if any, response and
 * data-in if any, in four descriptors from 4 * i on or in a table. Data of either
 * direction is the slot's. Returns its head.
 */
static inline uint16_t guest_chain(struct guest *guest, uint32_t i, bool indirect, uint32_t out,
				   uint32_t in)
{
	struct vring_desc *chain = guest->desc + 4 * (uint64_t)i;
	uint16_t base = (uint16_t)(4 * i);
	uint16_t n = 0;

	if (indirect)
		chain = (struct vring_desc *)((uint8_t *)guest_command(guest, i) + 256);
	chain[n++] = (struct vring_desc){.addr = guest_gpa(guest, guest_command(guest, i)),
					 .len = SCSI_GUEST_HEADER};
	if (out > 0)
		chain[n++] =
		    (struct vring_desc){.addr = guest_gpa(guest, guest_data(guest, i)), .len = out};
	chain[n++] = (struct vring_desc){.addr = guest_gpa(guest, guest_response(guest, i)),
					 .len = SCSI_GUEST_RESPONSE,
					 .flags = VRING_DESC_F_WRITE};
	if (in > 0)
		chain[n++] = (struct vring_desc){.addr = guest_gpa(guest, guest_data(guest, i)),
						 .len = in,
						 .flags = VRING_DESC_F_WRITE};
	for (uint16_t at = 0; at + 1 < n; at++) {
		chain[at].flags |= VRING_DESC_F_NEXT;
		chain[at].next = (uint16_t)((indirect ? 0 : base) + at + 1);
	}
	if (indirect)
		guest_desc(guest, base, chain, n * (uint32_t)sizeof(*chain), VRING_DESC_F_INDIRECT,
			   0);
	return base;
}

#endif
