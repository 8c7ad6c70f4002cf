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

/* A piece in shared memory, as the ring is told of it: the ring adds its own delta. */
static struct vhc_iov piece(const struct vhc_load *load, const struct load_ring *on, uint8_t *at,
			    uint64_t len)
{
	const uint64_t delta = load->config.gpa_delta - on->ring->gpa_delta;
	return (struct vhc_iov){(uint64_t)at + delta, len};
}

static struct vhc_iov status_iov(const struct vhc_load *load, const struct load_ring *on,
				 uint32_t i)
{
	return piece(load, on, load_status(load, on, i),
		     load->is_scsi ? LOAD_SCSI_RESPONSE_SIZE : 1);
}

int load_request_build(const struct vhc_load *load, const struct load_ring *on, uint32_t i)
{
	const uint32_t header =
	    load->is_scsi ? LOAD_SCSI_HEADER_SIZE : sizeof(struct virtio_blk_outhdr);
	const struct vhc_iov iov[LOAD_PIECES] = {
	    piece(load, on, load_header(load, on, i), header),
	    piece(load, on, on->data + (uint64_t)i * load->config.block_size,
		  load->config.block_size),
	    status_iov(load, on, i),
	};
	int head = driver_ring_build(on->ring, iov, 2, 1, i, true);
	if (head < 0)
		return head;
	if (load->is_scsi)
		fill_command(load, on, i);
	else
		memset(load_header(load, on, i), 0, header);
	load_spoil_status(load, on, i);
	return head;
}

/* ---- Directions ---------------------------------------------------------------------- */

/* Data comes before the response if it is written, and after it if it is read. */
static void set_scsi_op(const struct vhc_load *load, const struct load_ring *on, uint32_t i,
			bool read)
{
	const struct vhc_iov data = piece(load, on, on->slots[i].data, load->config.block_size);
	const struct vhc_iov response = status_iov(load, on, i);
	const uint16_t head = on->slots[i].head;
	uint8_t *cdb = load_header(load, on, i) + LOAD_SCSI_CDB;
	cdb[0] = read ? (load->is_wide ? READ_16 : READ_10) : (load->is_wide ? WRITE_16 : WRITE_10);
	driver_ring_set_piece(on->ring, head, 1, read ? response : data, read);
	driver_ring_set_piece(on->ring, head, 2, read ? data : response, true);
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
	driver_ring_set_piece(on->ring, slot->head, 1,
			      piece(load, on, slot->data, load->config.block_size), read);
}
