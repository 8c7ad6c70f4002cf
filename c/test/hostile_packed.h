/* SPDX-License-Identifier: MIT */
/* Cases of packed rings by name: those that split rings have too, and their own. */
#ifndef VHC_HOSTILE_PACKED_H
#define VHC_HOSTILE_PACKED_H

#include "hostile_cases.h"

/* The next descriptor of the ring, whatever its flags say of whose it is. */
static inline void raw(struct hostile_rig *rig, uint64_t gpa, uint32_t len, uint32_t flags,
		       uint16_t id)
{
	packed_write(&rig->ring, (struct vring_packed_desc){
				     .addr = gpa, .len = len, .id = id, .flags = (uint16_t)flags});
}

/* The next descriptor of the ring, available. */
static inline void P(struct hostile_rig *rig, uint64_t gpa, uint32_t len, uint16_t flags,
		     uint16_t id)
{
	raw(rig, gpa, len, flags | flags_available(rig->ring.next), id);
}

/* A good read of a sector. */
static inline void three(struct hostile_rig *rig, uint16_t first, uint16_t second, uint16_t third)
{
	header(rig, VIRTIO_BLK_T_IN, 3);
	P(rig, HDR, 16, N, first);
	P(rig, DATA, 512, N | W, second);
	P(rig, STATUS, 1, W, third);
}

/* ---- IDs and flags -------------------------------------------------------------------- */

CASE(id_is_0)
{
	three(rig, 1, 2, 0);
}
CASE(id_is_the_greatest)
{
	three(rig, 0, 0, 0xffff);
}
/* Whose they are, only the first says. */
CASE(others_are_not_available)
{
	header(rig, VIRTIO_BLK_T_IN, 3);
	P(rig, HDR, 16, N, 7);
	const uint16_t other = flags_available(rig->ring.next) ^ WHOSE_FLAGS;
	raw(rig, DATA, 512, N | W | other, 7);
	raw(rig, STATUS, 1, W | other, 7);
}
CASE(flags_that_mean_nothing)
{
	header(rig, VIRTIO_BLK_T_IN, 3);
	P(rig, HDR, 16, N | 0x7f78, 7);
	P(rig, DATA, 512, N | W | 0x7f78, 7);
	P(rig, STATUS, 1, W | 0x7f78, 7);
}

/* ---- Chains that do not end ------------------------------------------------------------- */

static inline void many(struct hostile_rig *rig, uint32_t n)
{
	header(rig, VIRTIO_BLK_T_IN, 3);
	for (uint32_t i = 0; i < n; i++)
		P(rig, HDR, i ? 0 : 16, N, 9);
}

CASE(next_all_round)
{
	many(rig, rig->ring.size);
}
/* The driver goes on over what it showed itself. */
CASE(next_beyond_all_round)
{
	many(rig, rig->ring.size + 3);
}
CASE(next_without_end)
{
	many(rig, 1);
	for (uint32_t i = 1; i < rig->ring.size; i++)
		rig->ring.ring[place_after(&rig->ring, rig->ring.next, i - 1).at].flags |= N;
}
CASE(as_long_as_the_ring)
{
	header(rig, VIRTIO_BLK_T_IN, 2);
	P(rig, HDR, 16, N, 5);
	for (uint32_t i = 2; i < rig->ring.size; i++)
		P(rig, DATA + i * 512u, i < 10 ? 512 : 0, N | W, 5);
	P(rig, STATUS, 1, W, 5);
}
CASE(good_and_then_without_end)
{
	three(rig, 0, 0, 1);
	many(rig, rig->ring.size - 2);
}

/* ---- Tables ------------------------------------------------------------------------------ */

/* In a table only WRITE means anything, and order links (2.8.7). */
CASE(table_of_odd_flags)
{
	header(rig, VIRTIO_BLK_T_IN, 3);
	T(0, HDR, 16, 0xffff & ~W, 0xffff);
	T(1, DATA, 512, I | N | W, 0);
	T(2, STATUS, 1, N | W | WHOSE_FLAGS, 1);
	D(0, TABLE, 48, I, 0);
	OFFER(0);
}
CASE(table_in_a_table)
{
	indirect(rig, TABLE, 48, I, 0);
	T(1, TABLE, 48, I | N, 2);
}
CASE(table_of_one)
{
	T(0, STATUS, 1, W, 0);
	D(0, TABLE, 16, I, 0);
	OFFER(0);
}
CASE(table_of_two)
{
	header(rig, VIRTIO_BLK_T_FLUSH, 0);
	T(0, HDR, 16, 0, 0);
	T(1, STATUS, 1, W, 0);
	D(0, TABLE, 32, I, 0);
	OFFER(0);
}
CASE(table_after_direct)
{
	header(rig, VIRTIO_BLK_T_IN, 3);
	T(0, DATA, 512, W, 0);
	T(1, STATUS, 1, W, 0);
	P(rig, HDR, 16, N, 3);
	P(rig, TABLE, 32, I, 3);
}
CASE(table_before_direct)
{
	header(rig, VIRTIO_BLK_T_IN, 3);
	T(0, HDR, 16, 0, 0);
	P(rig, TABLE, 16, I | N, 3);
	P(rig, STATUS, 1, W, 3);
}
CASE(table_in_the_middle)
{
	header(rig, VIRTIO_BLK_T_IN, 3);
	T(0, DATA, 512, W, 0);
	P(rig, HDR, 16, N, 3);
	P(rig, TABLE, 16, I | N, 3);
	P(rig, STATUS, 1, W, 3);
}
CASE(table_is_the_ring)
{
	indirect(rig, GPA_A, rig->ring.size * 16, I, 0);
}

/* ---- Event structures --------------------------------------------------------------------- */

static inline void driver_event(struct hostile_rig *rig, uint16_t off_wrap, uint16_t flags)
{
	const struct vring_packed_desc_event event = {.off_wrap = off_wrap, .flags = flags};
	memcpy(rig->memory + AVAIL_AT, &event, sizeof(event));
}

CASE(driver_event_reserved)
{
	driver_event(rig, 0, 3);
	three(rig, 0, 0, 1);
}
CASE(driver_event_all_ones)
{
	driver_event(rig, 0xffff, 0xffff);
	three(rig, 0, 0, 1);
}
CASE(driver_event_out_of_the_ring)
{
	driver_event(rig, 0x7fff, VRING_PACKED_EVENT_FLAG_DESC);
	three(rig, 0, 0, 1);
}
CASE(device_event_all_ones)
{
	*rig->ring.device_event = UINT32_MAX;
	three(rig, 0, 0, 1);
}

static const struct hostile_case packed_cases[] = {
    GIVES(good_read, OK, 4097),
    GIVES(good_write, OK, 1),
    GIVES(good_flush, OK, 1),
    GIVES(flush_with_sector, OK, 1),
    GIVES(last_sector, OK, 513),
    GIVES(data_at_odd_address, OK, 513),
    GIVES(data_over_two_regions, OK, 1025),
    GIVES(data_near_end_of_addresses, OK, 1),
    GIVES(header_byte_by_byte, OK, 1),
    GIVES(header_in_two_halves, OK, 513),
    GIVES(header_with_data, OK, 1),
    GIVES(status_with_data, OK, 513),
    GIVES(status_after_empty_piece, OK, 513),
    GIVES(whole_ring_in_a_chain, OK, 4097),
    GIVES(unknown_descriptor_flags, OK, 513),
    SURVIVES(status_over_header),

    GIVES(id_is_0, OK, 513),
    GIVES(id_is_the_greatest, OK, 513),
    GIVES(others_are_not_available, OK, 513),
    GIVES(flags_that_mean_nothing, OK, 513),
    BREAKS(next_all_round, 0),
    BREAKS(next_beyond_all_round, 0),
    BREAKS(next_without_end, 0),
    GIVES(as_long_as_the_ring, OK, 4097),
    SURVIVES(good_and_then_without_end),

    GIVES(read_into_readable, IOERR, 1),
    GIVES(write_from_writable, IOERR, 1),
    GIVES(header_writable, IOERR, 1),
    MALFORMED(status_readable),
    MALFORMED(status_of_write_readable),
    MALFORMED(readable_after_writable),

    GIVES(data_of_no_length, IOERR, 1),
    GIVES(write_of_no_length, IOERR, 1),
    GIVES(data_one_byte_short, IOERR, 1),
    GIVES(data_one_byte_long, IOERR, 1),
    MALFORMED(data_of_4_gib),
    MALFORMED(data_of_2_gib),
    MALFORMED(data_past_the_memory),
    MALFORMED(data_at_0),
    MALFORMED(data_below_the_memory),
    MALFORMED(data_in_no_region),
    MALFORMED(address_overflows),
    MALFORMED(address_overflows_to_memory),
    MALFORMED(address_is_a_pointer_here),
    MALFORMED(address_is_a_user_address),
    GIVES(header_missing_a_byte, IOERR, 1),
    GIVES(header_empty, IOERR, 1),
    MALFORMED(header_outside),
    MALFORMED(status_missing),
    MALFORMED(status_empty),
    MALFORMED(status_outside),
    MALFORMED(empty_descriptor),

    GIVES(indirect_good, OK, 513),
    GIVES(indirect_writable, OK, 513),
    GIVES(indirect_unaligned, OK, 513),
    GIVES(indirect_over_two_regions, OK, 513),
    GIVES(indirect_of_256_data, OK, 2049),
    MALFORMED(indirect_of_257_data),
    MALFORMED(indirect_of_400_data),
    {"indirect_not_negotiated", indirect_not_negotiated, RETURNED, MODEL_NO_STATUS, 0, EVENT_IDX},
    MALFORMED(indirect_with_room_to_spare),
    MALFORMED(indirect_and_next),
    MALFORMED(indirect_empty),
    MALFORMED(indirect_half_an_entry),
    MALFORMED(indirect_entry_and_a_half),
    MALFORMED(indirect_huge),
    MALFORMED(indirect_outside),
    MALFORMED(indirect_half_outside),
    MALFORMED(indirect_address_overflows),
    MALFORMED(indirect_in_indirect),
    GIVES(table_of_odd_flags, OK, 513),
    GIVES(table_in_a_table, IOERR, 1),
    GIVES(table_of_one, IOERR, 1),
    GIVES(table_of_two, OK, 1),
    MALFORMED(table_after_direct),
    MALFORMED(table_before_direct),
    MALFORMED(table_in_the_middle),
    SURVIVES(table_is_the_ring),

    GIVES(driver_event_reserved, OK, 513),
    GIVES(driver_event_all_ones, OK, 513),
    GIVES(driver_event_out_of_the_ring, OK, 513),
    GIVES(device_event_all_ones, OK, 513),

    GIVES(sector_at_the_end, IOERR, 1),
    GIVES(sector_crosses_the_end, IOERR, 1),
    GIVES(sector_overflows, IOERR, 1),
    GIVES(sector_overflows_in_bytes, IOERR, 1),
    GIVES(more_than_the_disk, IOERR, 1),
    GIVES(type_scsi_command, UNSUPP, 1),
    GIVES(type_all_ones, UNSUPP, 1),
    GIVES(id_of_20, OK, 21),
    GIVES(id_in_10, OK, 11),
    GIVES(id_in_0, OK, 1),
    GIVES(discard_good, OK, 1),
    GIVES(discard_nothing, IOERR, 1),
    GIVES(discard_too_many_segments, IOERR, 1),
    GIVES(zeroes_good, OK, 1),
    GIVES(zeroes_partly_past_the_end, IOERR, 1),

    SURVIVES(data_over_descriptors),
    SURVIVES(data_over_available),
    SURVIVES(data_over_used),
    SURVIVES(data_from_used),
    SURVIVES(status_over_available_index),
    SURVIVES(status_over_used_index),
    SURVIVES(status_over_its_own_table),
};
#define NUM_PACKED_CASES (sizeof(packed_cases) / sizeof(packed_cases[0]))

#endif
