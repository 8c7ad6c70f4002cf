/* SPDX-License-Identifier: MIT */
/* Cases of request rings by name, each with what must come of it. */
#ifndef VHC_HOSTILE_SCSI_CASES_H
#define VHC_HOSTILE_SCSI_CASES_H

#include "hostile_scsi_odd.h"

enum scsi_outcome {
	EXECUTED,
	GOES_UP,
	EMPTY,	   /* used with no length: no response could be written */
	RING_ENDS, /* broken */
};

struct scsi_case {
	const char *name;
	void (*build)(struct hostile_rig *rig);
	enum scsi_outcome outcome;
	uint32_t len;	   /* executed */
	uint32_t residual; /* executed */
};

#define RUNS(build, len, residual)                                                                 \
	{                                                                                          \
#build, build, EXECUTED, len, residual                                             \
	}
#define ASKS(build)                                                                                \
	{                                                                                          \
#build, build, GOES_UP, 0, 0                                                       \
	}
#define FAILS(build)                                                                               \
	{                                                                                          \
#build, build, EMPTY, 0, 0                                                         \
	}
#define ENDS(build)                                                                                \
	{                                                                                          \
#build, build, RING_ENDS, 0, 0                                                     \
	}

static const struct scsi_case scsi_cases[] = {
    RUNS(scsi_read, 108 + 1024, 0),
    RUNS(scsi_write, 12, 0),
    RUNS(scsi_read_6, 108 + 512, 0),
    RUNS(scsi_read_12, 108 + 512, 0),
    RUNS(scsi_read_16, 108 + 512, 0),
    RUNS(scsi_last_block, 108 + 512, 0),
    RUNS(scsi_head_of_queue, 108 + 512, 0),
    RUNS(scsi_write_with_fua, 12, 0),
    RUNS(scsi_peripheral_lun, 108 + 512, 0),
    RUNS(scsi_response_with_data, 108 + 512, 0),
    RUNS(scsi_header_with_data, 12, 0),
    RUNS(scsi_header_byte_by_byte, 108 + 512, 0),
    RUNS(scsi_response_byte_by_byte, 108 + 512, 0),
    RUNS(scsi_response_over_two_regions, 108 + 512, 0),
    RUNS(scsi_data_in_256_pieces, 108 + 2048, 0),
    RUNS(scsi_all_in_odd_pieces, 108 + 1024, 0),
    RUNS(scsi_empty_pieces, 108 + 512, 0),
    RUNS(scsi_indirect, 108 + 512, 0),
    RUNS(scsi_long_buffer, 108 + 512, 100),
    RUNS(scsi_long_write_buffer, 12, 512),
    RUNS(scsi_synchronize, 12, 0),
    RUNS(scsi_unmap, 12, 0),
    RUNS(scsi_unmap_of_256, 12, 0),
    RUNS(scsi_same, 12, 0),
    RUNS(scsi_same_without_data, 12, 0),

    FAILS(scsi_no_chain),
    FAILS(scsi_header_only),
    FAILS(scsi_header_short),
    FAILS(scsi_header_writable),
    FAILS(scsi_response_only),
    FAILS(scsi_response_short),
    FAILS(scsi_response_readable),
    FAILS(scsi_response_outside),
    FAILS(scsi_data_outside),
    FAILS(scsi_data_of_4_gib),
    FAILS(scsi_data_in_257_pieces),
    FAILS(scsi_loop),
    FAILS(scsi_next_out_of_range),
    FAILS(scsi_readable_after_writable),
    FAILS(scsi_indirect_in_indirect),

    ASKS(scsi_inquiry),
    ASKS(scsi_inquiry_of_no_target),
    ASKS(scsi_report_luns_well_known),
    ASKS(scsi_lun_of_no_format),
    ASKS(scsi_lun_with_a_tail),
    ASKS(scsi_lun_beyond_255),
    ASKS(scsi_ordered),
    ASKS(scsi_aca),
    ASKS(scsi_no_attribute),
    ASKS(scsi_read_with_fua),
    ASKS(scsi_read_with_protection),
    ASKS(scsi_read_with_naca),
    ASKS(scsi_read_past_the_end),
    ASKS(scsi_read_overflows),
    ASKS(scsi_read_of_too_much),
    ASKS(scsi_short_buffer),
    ASKS(scsi_no_buffer),
    ASKS(scsi_read_from_readable),
    ASKS(scsi_write_to_writable),
    ASKS(scsi_both_directions),
    ASKS(scsi_synchronize_at_once),
    ASKS(scsi_unmap_disagrees),
    ASKS(scsi_unmap_past_the_end),
    ASKS(scsi_unmap_of_too_much),
    ASKS(scsi_unmap_of_257),
    ASKS(scsi_unmap_with_anchor),
    ASKS(scsi_same_of_ones),
    ASKS(scsi_same_to_the_end),
    ASKS(scsi_same_of_half_a_block),
    ASKS(scsi_all_ones),

    ENDS(scsi_head_out_of_range),
    ENDS(scsi_index_too_far),
    ENDS(scsi_same_head_twice),
};
#define NUM_SCSI_CASES (sizeof(scsi_cases) / sizeof(scsi_cases[0]))

/* ---- Running them
 * ------------------------------------------------------------------------ */

static uint64_t scsi_case_format; /* of the rings of cases by name: 0 or PACKED */

static inline void scsi_case_ring(enum ring_kind kind)
{
	struct gen g = {.rig = &fuzz.rig, .random = 1};
	scsi_before_ring(&g);
	fuzz.rig.scsi = (struct vhc_scsi_config){.cdb_size = 32, .sense_size = 96};
	REQUIRE(rig_start_ring(&fuzz.rig, kind, CASE_SIZE, INDIRECT | scsi_case_format,
			       scsi_case_format ? WRAP_BIT + 9 : 0));
	for (uint32_t u = 0; u < UNITS && kind == REQUEST_RING; u++) {
		memset((void *)scsi.units[u].pages.addr, (int)u + 1, UNIT_BYTES);
		unit_attach(&scsi.units[u]);
	}
	memset(fuzz.rig.memory + RING_AREA, 0xaa, MEMORY - RING_AREA);
}

/* The next case meets a ring without descriptors. */
static inline void scsi_start_over(void)
{
	struct hostile_ring *ring = &fuzz.rig.ring;
	ring_begin_case(ring);
	memset(ring->desc, 0, 16 * ring->size);
}

static inline void scsi_run_one(struct gen *g, uint16_t head)
{
	snapshot();
	CHECK_EQ(offered_heads(&head, 1), 1);
	sim_begin(&head, 1);
	CHECK(!sim.vague);
	CHECK(run_scsi_clean(g));
}

static inline void a_good_command_still_passes(struct gen *g)
{
	scsi_start_over();
	while (scsi.units[0].holds) /* by an ORDERED command */
		resume_one(g);
	scsi_read(&fuzz.rig);
	scsi_run_one(g, 0);
	CHECK_EQ(sim.commands[0].len, 108 + 1024);
}

/* The model and the table were thought up apart: they must agree. */
static inline void check_outcome(const struct scsi_case *c, uint64_t executed, uint64_t ups)
{
	const struct virtio_scsi_cmd_resp *response =
	    (const struct virtio_scsi_cmd_resp *)rig_at(&fuzz.rig, RESPONSE);
	CHECK_EQ(sim.went_up - ups > 0, c->outcome == GOES_UP);
	if (c->outcome == EMPTY)
		CHECK_EQ(sim.commands[0].len, 0);
	if (c->outcome != EXECUTED)
		return;
	CHECK_EQ(sim.executed - executed, 1);
	CHECK_EQ(sim.commands[0].len, c->len);
	if (c->build != scsi_response_over_two_regions)
		CHECK_EQ(response->resid, c->residual);
}

static inline void run_scsi_case(const struct scsi_case *c)
{
	struct gen g = {.rig = &fuzz.rig, .random = 7};
	scsi_case_ring(REQUEST_RING);
	a_good_command_still_passes(&g);
	scsi_start_over();
	const uint64_t executed = sim.executed, ups = sim.went_up;
	c->build(&fuzz.rig);
	if (c->outcome == RING_ENDS) {
		scsi_by_chance(1);
		CHECK(run_offered(NULL, NULL));
		CHECK_EQ(fuzz.rig.ring.broken_status, -EPROTO);
		says_broken(&fuzz.rig.ring);
	} else {
		scsi_run_one(&g, 0);
		check_outcome(c, executed, ups);
		a_good_command_still_passes(&g);
	}
	scsi_stop_ring();
}

/* Memory goes away under a request that is up: its reader notices nothing, the
 * ring breaks. */
static void memory_is_lost_while_up(void)
{
	struct hostile_rig *rig = &fuzz.rig;
	uint8_t bytes[64];
	const struct vhc_scsi_result result = {.status = 2, .sense_len = 18, .written = 36};
	scsi_case_ring(REQUEST_RING);
	scsi_inquiry(rig);
	neighbour_begin(&fuzz.neighbour);
	ring_show(&rig->ring);
	RIG_AWAIT(rig, scsi.num_ups > 0);
	REQUIRE_EQ(ftruncate(rig->memfd, 0), 0);
	CHECK(vhc_request_read(scsi.ups[0].request, 0, bytes, sizeof(bytes)) >= 0);
	CHECK(vhc_request_write(scsi.ups[0].request, 0, bytes, sizeof(bytes)) >= 0);
	vhc_request_complete(scsi.ups[0].request, &result);
	scsi.num_ups = 0;
	vhc_eventfd_signal(rig->ring.kick);
	RIG_AWAIT(rig, rig->ring.broken);
	CHECK(neighbour_end(&fuzz.neighbour, rig));
	says_broken(&rig->ring);
	scsi_stop_ring();
	REQUIRE_EQ(ftruncate(rig->memfd, MEMORY), 0);
}

/* What can only be said of one format. */
static inline bool is_of_split_rings(const struct scsi_case *c)
{
	return c->outcome == RING_ENDS || c->build == scsi_loop ||
	       c->build == scsi_next_out_of_range || c->build == scsi_indirect_in_indirect;
}

/* Cases, and run_named_rings after them, on rings of a format: 0 or PACKED. */
static inline void run_named_scsi(uint64_t format)
{
	size_t n = 0;
	scsi_case_format = format;
	for (size_t i = 0; i < NUM_SCSI_CASES; i++) {
		const struct scsi_case *c = &scsi_cases[i];
		if (format && is_of_split_rings(c))
			continue;
		n++;
		check_ok = true;
		run_scsi_case(c);
		if (!check_ok)
			fprintf(stderr, "not ok %s\n", c->name);
		*(check_ok ? &check_passed : &check_failed) += 1;
	}
	printf("%zu named cases of virtio-scsi on %s rings\n", n, format ? "packed" : "split");
	RUN(memory_is_lost_while_up);
	sim.executed = sim.went_up = sim.waited = sim.aborted = 0;
}

#endif
