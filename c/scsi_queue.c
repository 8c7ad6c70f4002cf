/* SPDX-License-Identifier: MIT */
/* Batches of virtio-scsi requests. */
#include "scsi_queue.h"

#include <string.h>

#include "copy.h"
#include "queue_batch.h"

/* Shorter ones are not read in place: what of them is looked at for nothing is shared memory. */
#define FAST_CDB 16u

static uint32_t most_blocks(const struct vhc_lun *lun, const _Atomic uint8_t *gate,
			    uint64_t num_blocks)
{
	uint32_t most = MEM_NEAR >> lun->block_shift;

	if (atomic_load_explicit(gate, memory_order_relaxed) != VHC_GATE_RUN)
		return 0;
	if (most > lun->max_blocks)
		most = lun->max_blocks;
	return most < num_blocks ? most : (uint32_t)num_blocks;
}

/* Looks up the logical unit that a header names. Whatever is odd about it shows as shut gates. */
static struct scsi_fast look_up(const struct queue *queue, uint64_t name)
{
	struct lane *lane = scsi_lane(queue, scsi_address(name));
	const struct vhc_lun *lun;
	uint64_t num_blocks;

	if (!lane || lane->holds > 0 || queue->tasks->cdb_size < FAST_CDB)
		return (struct scsi_fast){.lun = name};
	lun = lane->lun;
	num_blocks = atomic_load_explicit(&lun->bdev->num_blocks, memory_order_relaxed);
	return (struct scsi_fast){
	    .lun = name,
	    .lane = lane,
	    .num_blocks = num_blocks,
	    .max_read = most_blocks(lun, &lun->read_gate, num_blocks),
	    .max_write = most_blocks(lun, &lun->write_gate, num_blocks),
	    .block_shift = lun->block_shift,
	    .write_flags = atomic_load_explicit(&lun->write_flags, memory_order_relaxed),
	};
}

/* A batch as it is read. */
struct batch {
	struct scsi_fast fast;
	uint32_t header_len;
	uint32_t response_len;
	uint64_t *tags;
	uint32_t lanes; /* at least as many as its requests are for */
};

/* Reads a request where it lies. Returns false if it takes scsi_read_any. */
static inline bool read_triple(const struct ring_triple *triple, uint32_t head, struct batch *batch,
			       const struct queue *queue, struct io *io)
{
	uint64_t name = ring_read64(triple->first);

	if (__builtin_expect(name != batch->fast.lun, 0)) {
		batch->fast = look_up(queue, name);
		batch->lanes++;
	}
	if (!scsi_read_triple(&batch->fast, batch->response_len, triple, io))
		return false;
	/* A line of its own for each request, as a rule: fetched while the others are read. */
	prefetch_write(io->status);
	batch->tags[head] = ring_read64((const uint8_t *)triple->first + SCSI_TAG);
	return true;
}

static inline bool read_plain(const struct vhc_ring *ring, const struct ring_head *head,
			      struct batch *batch, const struct queue *queue, struct io *io)
{
	struct ring_triple triple;

	return ring_map_triple(ring, head, batch->header_len, 0, &triple) &&
	       read_triple(&triple, head->index, batch, queue, io);
}

/* The rest: see scsi_read_any. */
__attribute__((noinline)) static int read_other(struct queue *queue, const struct ring_head *head,
						struct batch *batch, struct io *io)
{
	struct ring_triple triple;
	int result;

	if (ring_map_packed_triple(queue->ring, head, batch->header_len, 0, &triple) &&
	    read_triple(&triple, head->index, batch, queue, io))
		return 1;
	result = scsi_read_any(queue, io);
	/* It may have held its logical unit: look again. */
	batch->fast = (struct scsi_fast){0};
	batch->lanes += result > 0;
	return result;
}

/* Reads a batch's requests. Returns how many are to be submitted, at ios. */
static inline uint32_t read_requests(struct queue *queue, const struct ring_head *heads,
				     uint32_t *n, struct io **ios, uint32_t *lanes)
{
	const struct tasks *tasks = queue->tasks;
	const struct vhc_ring *ring = queue->ring;
	const struct ring_head *end = heads + *n;
	struct io *const slots = queue->ios;
	struct batch batch = {.header_len = tasks->header_len,
			      .response_len = tasks->response_len,
			      .tags = tasks->tags};
	struct io **at = ios;

	for (const struct ring_head *head = heads; head < end; head++) {
		struct io *io = &slots[head->index];

		if (__builtin_expect(!read_plain(ring, head, &batch, queue, io), 0)) {
			int result = read_other(queue, head, &batch, io);

			if (result == 0)
				continue;
			if (result < 0) {
				*n = batch_cut(queue, heads, (uint32_t)(head - heads), *n);
				break;
			}
		}
		*at++ = io;
	}
	*lanes = batch.lanes;
	return (uint32_t)(at - ios);
}

/* Takes those of the first one's lane out of ios, in their order. Returns how many there are. */
static uint32_t take_lane(struct io **ios, uint32_t *n, struct io **out)
{
	const struct lane *lane = ios[0]->lane;
	uint32_t taken = 0;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < *n; i++) {
		if (ios[i]->lane == lane)
			out[taken++] = ios[i];
		else
			ios[kept++] = ios[i];
	}
	*n = kept;
	return taken;
}

static void submit_to(struct lane *lane, struct io *const *ios, uint32_t n)
{
	for (uint32_t i = 0; i < n && !lane->sync; i++)
		ios[i]->start = lane->queue->batch_start;
	lane_submit(lane, ios, n);
}

/* Submits requests lane by lane. Returns how many lanes there were, at lanes. */
static uint32_t submit(struct io **ios, uint32_t n, struct lane **lanes)
{
	uint32_t num_lanes = 0;

	while (n > 0) {
		struct io *group[QUEUE_BATCH];
		uint32_t count = take_lane(ios, &n, group);

		lanes[num_lanes++] = group[0]->lane;
		submit_to(group[0]->lane, group, count);
	}
	return num_lanes;
}

static uint32_t scsi_queue_poll(struct queue *queue)
{
	struct ring_head heads[QUEUE_BATCH];
	struct io *ios[QUEUE_BATCH];
	struct lane *lanes[QUEUE_BATCH];
	uint32_t n = batch_begin(queue, heads);
	uint32_t accepted;
	uint32_t num_lanes;
	uint64_t ns;

	if (n == 0)
		return 0;
	accepted = read_requests(queue, heads, &n, ios, &num_lanes);
	if (accepted > 0 && num_lanes == 1) {
		lanes[0] = ios[0]->lane;
		submit_to(lanes[0], ios, accepted);
	} else {
		num_lanes = submit(ios, accepted, lanes);
	}
	ns = batch_end(queue, heads, n);
	for (uint32_t i = 0; i < num_lanes; i++)
		if (lanes[i]->sync)
			lane_count_batch(lanes[i], queue->stats, ns);
	return n;
}

struct queue *queue_create_scsi(struct vhc_ring *ring, const struct vhc_scsi_config *config,
				struct queue_outbox *outbox)
{
	struct queue *queue = queue_alloc(ring, QUEUE_SCSI, outbox);
	struct tasks *tasks;

	if (!queue)
		return NULL;
	queue->poll = scsi_queue_poll;
	tasks = queue->tasks;
	tasks->cdb_size = config->cdb_size;
	tasks->sense_size = config->sense_size;
	tasks->header_len = SCSI_CDB + config->cdb_size;
	tasks->response_len = SCSI_RESPONSE + config->sense_size;
	return queue;
}
