/* SPDX-License-Identifier: MIT */
/* The cases of the hostile driver by name, each with what must come of it. */
#ifndef VHC_HOSTILE_CASES_H
#define VHC_HOSTILE_CASES_H

#include "hostile_chains.h"
#include "hostile_indirect.h"
#include "hostile_requests.h"

enum hostile_outcome {
	RETURNED, /* the request, with a status and a length */
	BROKEN,	  /* the ring, after `len` chains were returned */
	ANY,	  /* one of the two: it depends on what the device reads first */
};

struct hostile_case {
	const char *name;
	void (*build)(struct hostile_rig *rig);
	enum hostile_outcome outcome;
	int status;
	uint32_t len;
	uint64_t features;
};

#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP
#define GIVES(build, status, len)                                                                  \
	{                                                                                          \
#build, build, RETURNED, status, len, INDIRECT                                     \
	}
#define MALFORMED(build)                                                                           \
	{                                                                                          \
#build, build, RETURNED, MODEL_NO_STATUS, 0, INDIRECT                              \
	}
#define BREAKS(build, after)                                                                       \
	{                                                                                          \
#build, build, BROKEN, 0, after, INDIRECT                                          \
	}
#define SURVIVES(build)                                                                            \
	{                                                                                          \
#build, build, ANY, 0, 0, INDIRECT                                                 \
	}

static const struct hostile_case hostile_cases[] = {
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

    BREAKS(head_just_out_of_range, 0),
    BREAKS(head_far_out_of_range, 0),
    BREAKS(index_one_too_far, 0),
    BREAKS(index_far_ahead, 0),
    BREAKS(index_goes_back, 0),
    BREAKS(same_head_twice, 1),
    BREAKS(ring_full_of_one_head, 1),
    SURVIVES(head_in_the_middle_of_another),

    MALFORMED(loop_to_itself),
    MALFORMED(loop_of_two),
    MALFORMED(loop_of_empty_pieces),
    MALFORMED(next_just_out_of_range),
    MALFORMED(second_next_out_of_range),
    MALFORMED(next_far_out_of_range),

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
    GIVES(indirect_with_room_to_spare, OK, 513),
    GIVES(indirect_unaligned, OK, 513),
    GIVES(indirect_over_two_regions, OK, 513),
    GIVES(indirect_after_direct, OK, 513),
    GIVES(indirect_of_256_data, OK, 2049),
    MALFORMED(indirect_of_257_data),
    MALFORMED(indirect_of_400_data),
    {"indirect_not_negotiated", indirect_not_negotiated, RETURNED, MODEL_NO_STATUS, 0, EVENT_IDX},
    MALFORMED(indirect_and_next),
    MALFORMED(indirect_empty),
    MALFORMED(indirect_half_an_entry),
    MALFORMED(indirect_entry_and_a_half),
    MALFORMED(indirect_huge),
    MALFORMED(indirect_outside),
    MALFORMED(indirect_half_outside),
    MALFORMED(indirect_address_overflows),
    MALFORMED(indirect_too_short_for_next),
    MALFORMED(indirect_in_indirect),
    MALFORMED(indirect_in_the_middle_of_indirect),
    MALFORMED(indirect_is_the_ring),
    MALFORMED(indirect_loop),

    GIVES(sector_at_the_end, IOERR, 1),
    GIVES(sector_crosses_the_end, IOERR, 1),
    GIVES(sector_overflows, IOERR, 1),
    GIVES(sector_overflows_in_bytes, IOERR, 1),
    GIVES(more_than_the_disk, IOERR, 1),
    GIVES(type_scsi_command, UNSUPP, 1),
    GIVES(type_flush_out, UNSUPP, 1),
    GIVES(type_secure_erase, UNSUPP, 1),
    GIVES(type_with_barrier, UNSUPP, 1),
    GIVES(type_all_ones, UNSUPP, 1),
    GIVES(id_of_20, OK, 21),
    GIVES(id_in_10, OK, 11),
    GIVES(id_in_0, OK, 1),
    GIVES(id_in_4096, OK, 21),

    GIVES(discard_good, OK, 1),
    GIVES(discard_nothing, IOERR, 1),
    GIVES(discard_part_of_a_segment, IOERR, 1),
    GIVES(discard_segment_and_a_byte, IOERR, 1),
    GIVES(discard_too_many_segments, IOERR, 1),
    GIVES(discard_past_the_end, IOERR, 1),
    GIVES(discard_overflows, IOERR, 1),
    GIVES(discard_huge, IOERR, 1),
    GIVES(discard_over_the_limit, IOERR, 1),
    GIVES(discard_with_unmap_flag, UNSUPP, 1),
    GIVES(discard_with_unknown_flag, UNSUPP, 1),
    GIVES(zeroes_good, OK, 1),
    GIVES(zeroes_with_unmap, OK, 1),
    GIVES(zeroes_with_unknown_flag, UNSUPP, 1),
    GIVES(zeroes_partly_past_the_end, IOERR, 1),

    SURVIVES(data_over_descriptors),
    SURVIVES(data_over_available),
    SURVIVES(data_over_used),
    SURVIVES(data_from_used),
    SURVIVES(status_over_available_index),
    SURVIVES(status_over_used_index),
    SURVIVES(status_over_its_own_table),
};
#define NUM_HOSTILE_CASES (sizeof(hostile_cases) / sizeof(hostile_cases[0]))

#endif
