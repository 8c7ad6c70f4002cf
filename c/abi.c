/* SPDX-License-Identifier: MIT */
/* What a caller checks before it trusts its own idea of the layouts. */
#include "vhostctl.h"

uint32_t vhc_abi_version(void)
{
	return VHC_ABI_VERSION;
}

int vhc_abi_sizes(uint32_t *sizes, uint32_t max)
{
	static const uint32_t all[] = {
	    sizeof(struct vhc_pages),
	    sizeof(struct vhc_iov),
	    sizeof(struct vhc_op_stats),
	    sizeof(struct vhc_stats),
	    sizeof(struct vhc_reactor_stats),
	    sizeof(struct vhc_trace_record),
	    sizeof(struct vhc_inflight_config),
	    sizeof(struct vhc_ring_config),
	    sizeof(struct vhc_chain),
	    sizeof(struct vhc_driver_ring_config),
	    sizeof(struct vhc_driver_ring_layout),
	    sizeof(struct vhc_upcall),
	    sizeof(struct vhc_upcalls_info),
	    sizeof(struct vhc_file_config),
	    sizeof(struct vhc_file_align),
	    sizeof(struct vhc_extent),
	    sizeof(struct vhc_qos_limits),
	    sizeof(struct vhc_error_rule),
	    sizeof(struct vhc_blk_config),
	    sizeof(struct vhc_scsi_config),
	    sizeof(struct vhc_lun_config),
	    sizeof(struct vhc_request_info),
	    sizeof(struct vhc_scsi_result),
	    sizeof(struct vhc_reactor_config),
	    sizeof(struct vhc_abort),
	    sizeof(struct vhc_io_config),
	    sizeof(struct vhc_load_config),
	    sizeof(struct vhc_load_result),
	};
	const uint32_t n = sizeof(all) / sizeof(all[0]);
	for (uint32_t i = 0; i < n && i < max; i++)
		sizes[i] = all[i];
	return (int)n;
}
