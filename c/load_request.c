/* SPDX-License-Identifier: MIT */
#include "load_request.h"

/* READ and WRITE of 10 and of 16 bytes. */
#define READ_10 0x28u
#define WRITE_10 0x2au
#define READ_16 0x88u
#define WRITE_16 0x8au

void load_request_shape(struct vhc_load *load)
{
	const struct vhc_load_config *c = &load->config;
	load->is_scsi = c->device == VHC_LOAD_SCSI;
	const uint32_t unit = load->is_scsi ? c->lba_size : 512;
	load->units = c->block_size / unit;
	load->first_unit = c->offset / unit;
	/* The short commands have 32 bits for the address and 16 for the length. */
	load->is_wide = (c->offset + c->size) / unit > UINT32_MAX || load->units > UINT16_MAX;
	load->header_step = load->is_scsi ? LOAD_SCSI_STEP : LOAD_BLK_HEADER_STEP;
	load->status_step = load->is_scsi ? LOAD_SCSI_STEP : LOAD_BLK_STATUS_STEP;
}

/* ---- Building --------------------------------------------------------------------- */

/* All of a command but for its opcode and address. */
static void fill_command(const struct vhc_load *load, const struct load_ring *on, uint32_t i)
{
	const uint32_t address = load->config.address;
	const uint64_t tag = htole64((uint64_t)(on - load->rings) << 32 | i);
	uint8_t *header = load_header(load, on, i), *cdb = header + LOAD_SCSI_CDB;
	memset(header, 0, LOAD_SCSI_HEADER_SIZE);
	header[0] = 1;
	header[1] = (uint8_t)(address >> 16);
	header[2] = 0x40; /* flat addressing, as Linux has it */
	header[3] = (uint8_t)address;
	memcpy(header + 8, &tag, sizeof(tag));
	if (load->is_wide) {
		const uint32_t len = htobe32((uint32_t)load->units);
		memcpy(cdb + 10, &len, sizeof(len));
	} else {
		const uint16_t len = htobe16((uint16_t)load->units);
		memcpy(cdb + 7, &len, sizeof(len));
	}
}

static uint8_t *data_of(const struct vhc_load *load, const struct load_ring *on, uint32_t i)
{
	return on->data + (uint64_t)i * load->config.block_size;
}

int load_request_build(const struct vhc_load *load, const struct load_ring *on, uint32_t i)
{
	/* The ring adds its own delta. */
	const uint64_t delta = load->config.gpa_delta - on->ring->gpa_delta;
	const struct vhc_iov iov[LOAD_PIECES] = {
	    {(uint64_t)load_header(load, on, i) + delta,
	     load->is_scsi ? LOAD_SCSI_HEADER_SIZE : sizeof(struct virtio_blk_outhdr)},
	    {(uint64_t)data_of(load, on, i) + delta, load->config.block_size},
	    {(uint64_t)load_status(load, on, i) + delta,
	     load->is_scsi ? LOAD_SCSI_RESPONSE_SIZE : 1},
	};
	int head = driver_ring_build(on->ring, iov, 2, 1, i, true);
	if (head < 0)
		return head;
	if (load->is_scsi)
		fill_command(load, on, i);
	else
		memset(load_header(load, on, i), 0, sizeof(struct virtio_blk_outhdr));
	load_spoil_status(load, on, i);
	return head;
}

/* ---- Directions ---------------------------------------------------------------------- */

static void set_piece(struct vring_desc *desc, uint64_t addr, uint32_t len, uint16_t flags)
{
	desc->addr = addr;
	desc->len = len;
	desc->flags = flags;
}

/* Data comes before the response if it is written, and after it if it is read. */
static void set_scsi_op(const struct vhc_load *load, const struct load_ring *on, uint32_t i,
			bool read)
{
	const uint64_t delta = load->config.gpa_delta;
	const uint64_t data = (uint64_t)data_of(load, on, i) + delta;
	const uint64_t response = (uint64_t)load_status(load, on, i) + delta;
	const uint32_t len = load->config.block_size;
	struct vring_desc *second = driver_ring_piece(on->ring, on->slots[i].head, 1);
	struct vring_desc *third = driver_ring_piece(on->ring, on->slots[i].head, 2);
	uint8_t *cdb = load_header(load, on, i) + LOAD_SCSI_CDB;
	if (read) {
		cdb[0] = load->is_wide ? READ_16 : READ_10;
		set_piece(second, response, LOAD_SCSI_RESPONSE_SIZE,
			  VRING_DESC_F_NEXT | VRING_DESC_F_WRITE);
		set_piece(third, data, len, VRING_DESC_F_WRITE);
	} else {
		cdb[0] = load->is_wide ? WRITE_16 : WRITE_10;
		set_piece(second, data, len, VRING_DESC_F_NEXT);
		set_piece(third, response, LOAD_SCSI_RESPONSE_SIZE, VRING_DESC_F_WRITE);
	}
}

void load_request_set_op(const struct vhc_load *load, struct load_ring *on, uint32_t i, uint8_t op)
{
	struct load_slot *slot = &on->slots[i];
	const bool read = op == VHC_OP_READ;
	slot->op = op;
	if (load->is_scsi) {
		set_scsi_op(load, on, i, read);
		return;
	}
	((struct virtio_blk_outhdr *)load_header(load, on, i))->type =
	    read ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
	slot->data->flags = VRING_DESC_F_NEXT | (read ? VRING_DESC_F_WRITE : 0);
}
