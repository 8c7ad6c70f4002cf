/* SPDX-License-Identifier: MIT */
/* Cases of good chains that ask for what cannot be. */
#ifndef VHC_HOSTILE_REQUESTS_H
#define VHC_HOSTILE_REQUESTS_H

#include "hostile_build.h"

/* ---- Requests
 * ----------------------------------------------------------------------------------------- */

CASE(sector_at_the_end)
{
	request(rig, VIRTIO_BLK_T_IN, DISK_SECTORS, DATA, 512);
}
CASE(sector_crosses_the_end)
{
	request(rig, VIRTIO_BLK_T_OUT, DISK_SECTORS - 1, DATA, 1024);
}
CASE(sector_overflows)
{
	request(rig, VIRTIO_BLK_T_IN, UINT64_MAX, DATA, 512);
}
CASE(sector_overflows_in_bytes)
{
	request(rig, VIRTIO_BLK_T_OUT, UINT64_C(1) << 55, DATA, 512);
}
CASE(more_than_the_disk)
{
	request(rig, VIRTIO_BLK_T_IN, 0, GPA_B - KIB, DISK_BYTES + 512);
}
CASE(type_scsi_command)
{
	request(rig, 2, 0, DATA, 512);
}
CASE(type_flush_out)
{
	request(rig, 5, 0, DATA, 512);
}
CASE(type_secure_erase)
{
	bare(rig, 14, 0);
}
CASE(type_with_barrier)
{
	request(rig, 0x80000000, 0, DATA, 512);
}
CASE(type_all_ones)
{
	bare(rig, UINT32_MAX, 0);
}

CASE(id_of_20)
{
	request(rig, VIRTIO_BLK_T_GET_ID, 0, DATA, 20);
}
CASE(id_in_10)
{
	request(rig, VIRTIO_BLK_T_GET_ID, 0, DATA, 10);
}
CASE(id_in_0)
{
	bare(rig, VIRTIO_BLK_T_GET_ID, 0);
}
CASE(id_in_4096)
{
	request(rig, VIRTIO_BLK_T_GET_ID, 0, DATA, 4096);
}

/* Discard and write zeroes: len bytes of segments. */
static inline void ranges(struct hostile_rig *rig, uint32_t type, uint32_t len)
{
	request(rig, type, 0, SEGMENTS, len);
}

CASE(discard_good)
{
	segment(rig, 0, 8, 8, 0);
	segment(rig, 1, 0, 0, 0);
	ranges(rig, VIRTIO_BLK_T_DISCARD, 32);
}

CASE(discard_nothing)
{
	bare(rig, VIRTIO_BLK_T_DISCARD, 0);
}

CASE(discard_part_of_a_segment)
{
	segment(rig, 0, 0, 1, 0);
	ranges(rig, VIRTIO_BLK_T_DISCARD, 15);
}

CASE(discard_segment_and_a_byte)
{
	segment(rig, 0, 0, 1, 0);
	ranges(rig, VIRTIO_BLK_T_DISCARD, 17);
}

CASE(discard_too_many_segments)
{
	for (uint32_t i = 0; i <= MAX_SEGMENTS; i++)
		segment(rig, i, i, 1, 0);
	ranges(rig, VIRTIO_BLK_T_DISCARD, (MAX_SEGMENTS + 1) * 16);
}

CASE(discard_past_the_end)
{
	segment(rig, 0, DISK_SECTORS - 1, 2, 0);
	ranges(rig, VIRTIO_BLK_T_DISCARD, 16);
}

CASE(discard_overflows)
{
	segment(rig, 0, UINT64_MAX, 2, 0);
	ranges(rig, VIRTIO_BLK_T_DISCARD, 16);
}

CASE(discard_huge)
{
	segment(rig, 0, 0, UINT32_MAX, 0);
	ranges(rig, VIRTIO_BLK_T_DISCARD, 16);
}

CASE(discard_over_the_limit)
{
	segment(rig, 0, 0, MAX_SECTORS + 1, 0);
	ranges(rig, VIRTIO_BLK_T_DISCARD, 16);
}

CASE(discard_with_unmap_flag)
{
	segment(rig, 0, 0, 1, 1);
	ranges(rig, VIRTIO_BLK_T_DISCARD, 16);
}

CASE(discard_with_unknown_flag)
{
	segment(rig, 0, DISK_SECTORS, 1, 0);
	segment(rig, 1, 0, 1, 0x80000000);
	ranges(rig, VIRTIO_BLK_T_DISCARD, 32);
}

CASE(zeroes_good)
{
	segment(rig, 0, 3, 5, 0);
	segment(rig, 1, 20, 64, 0);
	ranges(rig, VIRTIO_BLK_T_WRITE_ZEROES, 32);
}

CASE(zeroes_with_unmap)
{
	segment(rig, 0, 0, 64, 1);
	ranges(rig, VIRTIO_BLK_T_WRITE_ZEROES, 16);
}

CASE(zeroes_with_unknown_flag)
{
	segment(rig, 0, 0, 1, 2);
	ranges(rig, VIRTIO_BLK_T_WRITE_ZEROES, 16);
}

/* The first segment is good, but nothing is done unless all are. */
CASE(zeroes_partly_past_the_end)
{
	segment(rig, 0, 0, 8, 0);
	segment(rig, 1, DISK_SECTORS, 1, 0);
	ranges(rig, VIRTIO_BLK_T_WRITE_ZEROES, 32);
}

#endif
