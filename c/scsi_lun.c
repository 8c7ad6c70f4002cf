/* SPDX-License-Identifier: MIT */
/* Logical units, as their owner sees them. */
#include <errno.h>
#include <stdlib.h>

#include "scsi.h"

static uint8_t write_flags(int32_t writeback)
{
	return writeback ? 0 : IO_DURABLE;
}

int vhc_lun_create(const struct vhc_lun_config *config, struct vhc_lun **out)
{
	struct vhc_lun *lun;

	if (!config->bdev || config->read_gate > VHC_GATE_CONFLICT ||
	    config->write_gate > VHC_GATE_CONFLICT)
		return -EINVAL;
	lun = calloc(1, sizeof(*lun));
	if (!lun)
		return -ENOMEM;
	lun->bdev = (struct vhc_bdev *)(uintptr_t)config->bdev;
	lun->block_shift = (uint32_t)__builtin_ctz(lun->bdev->block_size);
	lun->max_blocks = config->max_blocks;
	lun->max_unmap = config->max_unmap;
	lun->max_write_same = config->max_write_same;
	atomic_init(&lun->read_gate, (uint8_t)config->read_gate);
	atomic_init(&lun->write_gate, (uint8_t)config->write_gate);
	atomic_init(&lun->write_flags, write_flags((int32_t)config->writeback));
	atomic_init(&lun->refs, 1);
	bdev_ref(lun->bdev);
	*out = lun;
	return 0;
}

void lun_ref(struct vhc_lun *lun)
{
	atomic_fetch_add_explicit(&lun->refs, 1, memory_order_relaxed);
}

void vhc_lun_release(struct vhc_lun *lun)
{
	if (!lun || atomic_fetch_sub_explicit(&lun->refs, 1, memory_order_acq_rel) != 1)
		return;
	vhc_bdev_release(lun->bdev);
	free(lun);
}

void vhc_lun_set_gates(struct vhc_lun *lun, uint32_t read_gate, uint32_t write_gate)
{
	atomic_store_explicit(&lun->read_gate, (uint8_t)read_gate, memory_order_release);
	atomic_store_explicit(&lun->write_gate, (uint8_t)write_gate, memory_order_release);
}

void vhc_lun_set_writeback(struct vhc_lun *lun, int32_t writeback)
{
	atomic_store_explicit(&lun->write_flags, write_flags(writeback), memory_order_release);
}
