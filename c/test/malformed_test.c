/* SPDX-License-Identifier: MIT */
/* Requests of which the device can make nothing: each is counted, few are told of. */
#include <errno.h>

#include "event_queue.h"
#include "packed_guest.h"
#include "queue.h"
#include "upcall.h"
#include "vm.h"

#define ENTRIES 512u /* more than a chain may have pieces */
#define MANY 300u
#define ID 7u

/* ---- A queue of any kind, over a ring of either format, without a reactor ---- */

struct bench {
	struct packed_guest pg;
	bool packed;
	struct vhc_ring *ring;
	struct vhc_blk *blk;
	struct queue *queue;
	struct queue_outbox outbox;
	struct reader reader;
};

static struct bench bench;

static struct queue *make_queue(enum queue_kind kind)
{
	const struct vhc_scsi_config sizes = {.cdb_size = 32, .sense_size = 96};

	switch (kind) {
	case QUEUE_BLK:
		return queue_create_blk(bench.ring, bench.blk, NULL, &bench.outbox);
	case QUEUE_SCSI:
		return queue_create_scsi(bench.ring, &sizes, &bench.outbox);
	case QUEUE_RAW:
		return queue_create_raw(bench.ring, &bench.outbox);
	default:
		return queue_create_event(bench.ring, &bench.outbox);
	}
}

static bool bench_open(enum queue_kind kind, bool packed)
{
	const uint64_t features = packed ? GUEST_PACKED : 0;
	const struct vhc_blk_config blk = {0};
	struct vhc_ring_config config;

	memset(&bench, 0, sizeof(bench));
	if (!packed_guest_create(&bench.pg, ENTRIES) || !reader_open(&bench.reader) ||
	    vhc_blk_create(&blk, &bench.blk))
		return false;
	bench.packed = packed;
	config = guest_ring_config(&bench.pg.guest, features);
	config.base = packed ? VHC_RING_BASE_PACKED : 0;
	config.id = ID;
	if (vhc_ring_create(&config, &bench.ring))
		return false;
	bench.queue = make_queue(kind);
	return bench.queue != NULL;
}

static void bench_close(void)
{
	queue_destroy(bench.queue);
	vhc_ring_release(bench.ring);
	vhc_blk_release(bench.blk);
	reader_close(&bench.reader);
	guest_destroy(&bench.pg.guest);
}

/* Offers a chain: of a split ring from its first descriptor on. */
static void offer(const struct vring_desc *chain, uint32_t n)
{
	struct guest *guest = &bench.pg.guest;

	if (bench.packed) {
		packed_offer(&bench.pg, chain, n, 5);
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		guest->desc[i] = chain[i];
		if (i + 1 < n)
			guest->desc[i].flags |= VRING_DESC_F_NEXT;
		guest->desc[i].next = (uint16_t)(i + 1);
	}
	guest_offer(guest, 0);
	guest_publish(guest);
}

static bool came_back(uint32_t len)
{
	struct vring_used_elem used;

	return (bench.packed ? packed_used(&bench.pg, &used)
			     : guest_used(&bench.pg.guest, &used)) &&
	       used.len == len;
}

static void serve(void)
{
	const uint8_t event[EVENT_BYTES] = {1};

	if (bench.queue->kind == QUEUE_EVENT)
		event_queue_send(bench.queue, event);
	else
		CHECK_EQ(queue_poll(bench.queue), 1);
}

/* As a reactor that looks at what is to be told. */
static bool tell(void)
{
	if (!bench.outbox.telling)
		return true;
	if (!queue_tell(bench.queue, bench.reader.upcalls))
		return false;
	bench.outbox.telling = NULL;
	bench.queue->is_telling = false;
	return true;
}

/* ---- What can be wrong ---- */

static struct vring_desc piece(uint64_t at, uint32_t len, uint16_t flags)
{
	return (struct vring_desc){GUEST_GPA + GUEST_DATA + at, len, flags, 0};
}

static uint32_t elsewhere(struct vring_desc *chain)
{
	chain[0] = (struct vring_desc){GUEST_GPA + GUEST_BYTES, 64, VRING_DESC_F_WRITE, 0};
	return 1;
}

static uint32_t backwards(struct vring_desc *chain)
{
	chain[0] = piece(0, 64, VRING_DESC_F_WRITE);
	chain[1] = piece(4096, 64, 0);
	return 2;
}

static uint32_t many_pieces(struct vring_desc *chain)
{
	for (uint32_t i = 0; i < MANY; i++)
		chain[i] = piece(i, 1, VRING_DESC_F_WRITE);
	return MANY;
}

static uint32_t no_answer(struct vring_desc *chain)
{
	chain[0] = piece(0, 64, 0);
	return 1;
}

static uint32_t short_header(struct vring_desc *chain)
{
	chain[0] = piece(0, 8, 0);
	chain[1] = piece(4096, 512, VRING_DESC_F_WRITE);
	return 2;
}

static const struct {
	uint32_t (*build)(struct vring_desc *chain);
	int why;
	bool of_requests; /* not of chains of which all is data */
	uint32_t blk_len; /* a status is written if there is room for it alone */
} kinds[] = {
    {elsewhere, -EFAULT, false, 0},   {backwards, -ELOOP, false, 0},
    {many_pieces, -E2BIG, false, 0},  {no_answer, -EPROTO, true, 0},
    {short_header, -EPROTO, true, 1},
};

static void tells_of(uint32_t kind, uint64_t before)
{
	static struct vring_desc chain[MANY];
	const bool is_blk = bench.queue->kind == QUEUE_BLK;
	const struct vhc_upcall *up;

	offer(chain, kinds[kind].build(chain));
	serve();
	CHECK(came_back(is_blk ? kinds[kind].blk_len : 0));
	CHECK_EQ(bench.pg.guest.stats->malformed, before + 1);
	CHECK_EQ(bench.pg.guest.stats->op[VHC_OP_OTHER].errors, before + 1);
	CHECK(tell());
	up = reader_next(&bench.reader, 0);
	REQUIRE(up);
	CHECK_EQ(up->type, VHC_UPCALL_MALFORMED);
	CHECK_EQ(up->id, ID);
	CHECK_EQ(up->status, kinds[kind].why);
	CHECK(bench.packed ? up->arg < ENTRIES : up->arg == 0);
	/* As if a second had gone by. */
	CHECK(bench.queue->malformed.next > bench.queue->batch_start);
	bench.queue->malformed.next = 0;
}

/* Every kind of queue, both formats, everything that can be wrong. */
static void each_is_counted_and_told(void)
{
	for (uint32_t i = QUEUE_BLK; i <= QUEUE_EVENT; i++) {
		for (uint32_t packed = 0; packed < 2; packed++) {
			const bool has_headers = i == QUEUE_BLK || i == QUEUE_SCSI;
			uint64_t count = 0;

			REQUIRE(bench_open((enum queue_kind)i, packed));
			for (uint32_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
				if (has_headers || !kinds[k].of_requests)
					tells_of(k, count++);
			bench_close();
		}
	}
}

/* However many there are, one is told of, until a second has gone by. */
static void a_second_has_one(void)
{
	struct vring_desc chain[1];
	const struct vhc_upcall *up;
	const uint64_t begin = now_ms();
	uint64_t told = 0;

	REQUIRE(bench_open(QUEUE_BLK, false));
	for (uint32_t i = 0; i < 1000; i++) {
		offer(chain, elsewhere(chain));
		serve();
		CHECK(came_back(0));
		CHECK(tell());
		while ((up = reader_next(&bench.reader, 0)))
			told += up->type == VHC_UPCALL_MALFORMED;
	}
	CHECK_EQ(bench.pg.guest.stats->malformed, 1000);
	CHECK(told >= 1 && told <= 1 + (now_ms() - begin) / 1000);
	bench_close();
}

/* A reader that is late gets it later, and nothing is posted in its place meanwhile. */
static void a_full_ring_is_waited_for(void)
{
	const struct upcall_event other = {.type = VHC_UPCALL_IO_DONE};
	struct vring_desc chain[1];
	const struct vhc_upcall *up;
	uint32_t others = 0;

	REQUIRE(bench_open(QUEUE_RAW, false));
	while (!upcall_post(bench.reader.upcalls, &other, NULL, 0, NULL, 0))
		others++;
	for (uint32_t i = 0; i < 3; i++) {
		offer(chain, elsewhere(chain));
		serve();
		CHECK(!tell());
	}
	for (uint32_t i = 0; i < others; i++) {
		up = reader_next(&bench.reader, 0);
		CHECK(up && up->type == VHC_UPCALL_IO_DONE);
	}
	CHECK(reader_next(&bench.reader, 0) == NULL);
	CHECK(tell());
	up = reader_next(&bench.reader, 0);
	CHECK(up && up->type == VHC_UPCALL_MALFORMED && up->status == -EFAULT);
	CHECK(reader_next(&bench.reader, 0) == NULL);
	CHECK_EQ(bench.pg.guest.stats->malformed, 3);
	bench_close();
}

/* A ring that is popped by hand counts them too; its caller knows of each. */
static void by_hand_they_are_counted(void)
{
	struct vring_desc chain[2];
	struct vhc_chain popped;

	REQUIRE(bench_open(QUEUE_RAW, false));
	offer(chain, backwards(chain));
	CHECK_EQ(vhc_ring_pop(bench.ring, &popped), -ELOOP);
	CHECK_EQ(vhc_ring_push(bench.ring, popped.head, 0), 0);
	CHECK_EQ(bench.pg.guest.stats->malformed, 1);
	bench_close();
}

/* On a reactor: the ring goes on, and what is good counts as nothing else. */
static void a_reactor_goes_on(void)
{
	const struct vhc_upcall *up;
	struct rig rig;
	struct vm vm;

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE(vm_create(&vm, ID, 0, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	guest_desc(&vm.guest, 60, vm.guest.memory, 16, VRING_DESC_F_NEXT, 60);
	guest_offer(&vm.guest, 60);
	vm_offer(&vm, 3);
	CHECK_EQ(vm_wait(&vm, 3), 3);
	up = reader_next(&rig.reader, PATIENCE_MS);
	CHECK(up && up->type == VHC_UPCALL_MALFORMED && up->id == ID && up->status == -ELOOP &&
	      up->arg == 60);
	vm_offer(&vm, 3);
	CHECK_EQ(vm_wait(&vm, 3), 3);
	CHECK_EQ(counter(&vm.guest.stats->malformed), 1);
	/* Told once: the next upcall is that of the stop. */
	CHECK_EQ(stop(&rig, &vm, ID), 7);
	vm_destroy(&vm);
	rig_destroy(&rig);
}

int main(void)
{
	RUN(each_is_counted_and_told);
	RUN(a_second_has_one);
	RUN(a_full_ring_is_waited_for);
	RUN(by_hand_they_are_counted);
	RUN(a_reactor_goes_on);
	return check_report();
}
