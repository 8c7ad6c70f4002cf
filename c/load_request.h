/* SPDX-License-Identifier: MIT */
/*
 * The requests of a load, as each kind of device wants them. They are built once;
 * what differs from use to use is where on the device, and now and then whether
 * they read or write.
 */
#ifndef VHC_LOAD_REQUEST_H
#define VHC_LOAD_REQUEST_H

#include <endian.h>
#include <linux/virtio_blk.h>
#include <stddef.h>
#include <string.h>

#include "load.h"

/* Bytes from slot to slot. */
#define LOAD_BLK_HEADER_STEP 16u
#define LOAD_BLK_STATUS_STEP 1u
/*
 * A command and its response follow each other, so that all that both sides write
 * of a request that ends well, 63 bytes, lies in one cache line.
 */
#define LOAD_SCSI_STEP 192u

/* struct virtio_scsi_req_cmd and virtio_scsi_resp_cmd, with the default sizes. */
#define LOAD_SCSI_CDB 19u /* offset of the CDB */
#define LOAD_SCSI_HEADER_SIZE (LOAD_SCSI_CDB + 32u)
#define LOAD_SCSI_STATUS 10u /* offset of status, and then response */
#define LOAD_SCSI_RESPONSE_SIZE (12u + 96u)

static inline uint8_t *load_header(const struct vhc_load *load, const struct load_ring *on,
				   uint32_t i)
{
	return on->headers + (size_t)i * load->header_step;
}

/* The byte of a virtio-blk status, or all of a virtio-scsi response. */
static inline uint8_t *load_status(const struct vhc_load *load, const struct load_ring *on,
				   uint32_t i)
{
	return on->status + (size_t)i * load->status_step;
}

static inline void load_set_block(const struct vhc_load *load, const struct load_ring *on,
				  uint32_t i, uint64_t block)
{
	const uint64_t unit = load->first_unit + block * load->units;
	uint8_t *header = load_header(load, on, i);
	if (!load->is_scsi) {
		((struct virtio_blk_outhdr *)header)->sector = unit;
	} else if (!load->is_wide) {
		const uint32_t lba = htobe32((uint32_t)unit);
		memcpy(header + LOAD_SCSI_CDB + 2, &lba, sizeof(lba));
	} else {
		const uint64_t lba = htobe64(unit);
		memcpy(header + LOAD_SCSI_CDB + 2, &lba, sizeof(lba));
	}
}

/* Whether the device says that the request failed. */
static inline bool load_failed(const struct vhc_load *load, const struct load_ring *on, uint32_t i)
{
	const uint8_t *status = load_status(load, on, i);
	uint16_t both;
	if (!load->is_scsi)
		return *status != VIRTIO_BLK_S_OK;
	memcpy(&both, status + LOAD_SCSI_STATUS, sizeof(both));
	return both != 0; /* GOOD, VIRTIO_SCSI_S_OK */
}

/* Makes it look failed until the device has said something. */
static inline void load_spoil_status(const struct vhc_load *load, const struct load_ring *on,
				     uint32_t i)
{
	uint8_t *status = load_status(load, on, i);
	if (load->is_scsi)
		memset(status + LOAD_SCSI_STATUS, UINT8_MAX, 2);
	else
		*status = UINT8_MAX;
}

/* Fills in how the load's requests look, from its configuration. */
void load_request_shape(struct vhc_load *load);

/* Builds the chain of slot i, for neither direction yet. Returns its head; driver_ring_build's. */
int load_request_build(const struct vhc_load *load, const struct load_ring *on, uint32_t i);

/* Makes slot i read or write. */
void load_request_set_op(const struct vhc_load *load, struct load_ring *on, uint32_t i, uint8_t op);

#endif
