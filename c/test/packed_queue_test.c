/* SPDX-License-Identifier: MIT */
/* Every kind of queue over packed rings: requests that end in any order, stops and starts. */
#include "packed_guest.h"

#include <errno.h>

#include "queue.h"
#include "scsi_vm.h"

#define ID 4u
#define SLOTS 24u

/* ---- A disk in memory that ends what it is asked in any order, some at once ---- */

struct shuffler {
	struct vhc_bdev bdev;
	struct bdev_channel channel;
	uint8_t bytes[BLOCKS * 512];
	struct io *ios[SIZE]; /* as many as any ring here has */
	uint64_t asked;
	uint64_t random;
	atomic_int result; /* of all that end */
};

static uint32_t shuffler_random(struct shuffler *shuffler)
{
	shuffler->random ^= shuffler->random << 13;
	shuffler->random ^= shuffler->random >> 7;
	shuffler->random ^= shuffler->random << 17;
	return (uint32_t)(shuffler->random >> 32);
}

static int shuffler_open(struct vhc_bdev *bdev, struct bdev_channel *base,
			 struct bdev_channel **out)
{
	struct shuffler *shuffler = (struct shuffler *)bdev;

	(void)base;
	shuffler->channel =
	    (struct bdev_channel){.bdev = bdev, .event_fd = -1, .sync = !bdev->ops->poll};
	*out = &shuffler->channel;
	return 0;
}

static void shuffler_close(struct bdev_channel *channel)
{
	(void)channel;
}

static void shuffler_end(struct shuffler *shuffler, struct io *io)
{
	uint8_t *at = shuffler->bytes + io->offset;

	io->result = atomic_load(&shuffler->result);
	for (uint32_t i = 0; i < io->iovcnt && io->result == 0; i++) {
		if (io->op == VHC_OP_READ)
			memcpy(io->iov[i].iov_base, at, io->iov[i].iov_len);
		else
			memcpy(at, io->iov[i].iov_base, io->iov[i].iov_len);
		at += io->iov[i].iov_len;
	}
	io_complete(io);
}

static void shuffler_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	struct shuffler *shuffler = (struct shuffler *)channel->bdev;

	shuffler->asked += n;
	for (uint32_t i = 0; i < n; i++) {
		if (shuffler_random(shuffler) % 4 == 0)
			shuffler_end(shuffler, ios[i]);
		else
			shuffler->ios[channel->inflight++] = ios[i];
	}
}

static uint32_t shuffler_poll(struct bdev_channel *channel)
{
	struct shuffler *shuffler = (struct shuffler *)channel->bdev;
	uint32_t n = 0;

	while (channel->inflight > 0 && shuffler_random(shuffler) % 4) {
		uint32_t i = shuffler_random(shuffler) % channel->inflight;
		struct io *io = shuffler->ios[i];

		shuffler->ios[i] = shuffler->ios[--channel->inflight];
		shuffler_end(shuffler, io);
		n++;
	}
	return n;
}

static const struct bdev_ops shuffler_ops = {.name = "shuffler",
					     .channel_open = shuffler_open,
					     .channel_close = shuffler_close,
					     .submit = shuffler_submit,
					     .poll = shuffler_poll};
static const struct bdev_ops prompt_ops = {
    .name = "prompt", .channel_open = shuffler_open, .channel_close = shuffler_close};

static void prompt_submit(struct bdev_channel *channel, struct io *const *ios, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		shuffler_end((struct shuffler *)channel->bdev, ios[i]);
}

/* ---- A guest with a packed ring on a reactor ---- */

static struct pvm {
	struct packed_guest pg;
	struct shuffler disk;
	struct bdev_ops ops;
	struct rig rig;
	struct vhc_ring *ring;
	struct vhc_blk *blk;
	struct vhc_lun *lun;
	uint64_t features;
	int kick_fd, call_fd;
} vm;

static bool make_ring(uint32_t base)
{
	struct vhc_ring_config config = packed_guest_config(&vm.pg, vm.features);

	config.base = base;
	config.kick_fd = vm.kick_fd;
	config.call_fd = vm.call_fd;
	config.id = ID;
	return CHECK_EQ(vhc_ring_create(&config, &vm.ring), 0);
}

static bool vm_open(uint32_t size, uint64_t features, uint32_t mode, bool prompt)
{
	struct vhc_blk_config blk = {.bdev = (uint64_t)(uintptr_t)&vm.disk.bdev,
				     .features = UINT64_C(1) << VIRTIO_BLK_F_FLUSH};
	struct vhc_lun_config unit;

	vm.features = features;
	vm.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm.ops = prompt ? prompt_ops : shuffler_ops;
	if (prompt)
		vm.ops.submit = prompt_submit;
	vm.disk = (struct shuffler){.random = 4711 + size};
	bdev_init(&vm.disk.bdev, &vm.ops, 512, BLOCKS);
	unit = unit_config(&vm.disk.bdev);
	return rig_create(&vm.rig, mode) && packed_guest_create(&vm.pg, size) &&
	       vhc_blk_create(&blk, &vm.blk) == 0 && vhc_lun_create(&unit, &vm.lun) == 0 &&
	       make_ring(VHC_RING_BASE_PACKED);
}

/* Stops the ring; where it goes on. */
static uint32_t vm_stop(void)
{
	const struct vhc_upcall *up;

	CHECK_EQ(vhc_reactor_stop_ring(vm.rig.reactor, vm.ring), 0);
	up = reader_next(&vm.rig.reader, PATIENCE_MS);
	if (!CHECK(up && up->type == VHC_UPCALL_RING_STOPPED && up->id == ID))
		return 0;
	CHECK_EQ(up->arg, vhc_ring_base(vm.ring));
	return (uint32_t)up->arg;
}

static void vm_free(void)
{
	rig_destroy(&vm.rig);
	vhc_ring_release(vm.ring);
	vhc_blk_release(vm.blk);
	vhc_lun_release(vm.lun);
	guest_destroy(&vm.pg.guest);
	close(vm.kick_fd);
	close(vm.call_fd);
}

static void vm_close(void)
{
	vm_stop();
	vm_free();
}

static int start_blk(void)
{
	return vhc_reactor_start_blk_ring(vm.rig.reactor, vm.ring, vm.blk, 0);
}

/* Kicks as the device asks for it (virtio 2.8.10), after offering descriptors from `from` on. */
static void kick_from(uint32_t from, bool wrap)
{
	uint32_t event = __atomic_load_n((uint32_t *)vm.pg.device, __ATOMIC_SEQ_CST);
	uint32_t flags = event >> 16;
	bool wanted = flags == VRING_PACKED_EVENT_FLAG_ENABLE;

	while (flags == VRING_PACKED_EVENT_FLAG_DESC &&
	       (from != vm.pg.next || wrap != vm.pg.wrap)) {
		wanted |= (event & UINT16_MAX) == packed_position(from, wrap);
		if (++from == vm.pg.size) {
			from = 0;
			wrap = !wrap;
		}
	}
	if (wanted)
		eventfd_write(vm.kick_fd, 1);
}

/* Waits for a used descriptor; asks for a call with what the format has, in turn. */
static bool wait_used_packed(struct vring_used_elem *used)
{
	static uint32_t turn;
	uint64_t count;

	while (!packed_used(&vm.pg, used)) {
		if (turn++ % 2 && (vm.features & GUEST_EVENT_IDX))
			packed_ask(&vm.pg, VRING_PACKED_EVENT_FLAG_DESC, vm.pg.used,
				   vm.pg.used_wrap);
		else
			packed_ask(&vm.pg, VRING_PACKED_EVENT_FLAG_ENABLE, 0, false);
		if (packed_used(&vm.pg, used))
			return true;
		if (!CHECK(check_readable(vm.call_fd, PATIENCE_MS)))
			return false;
		CHECK(read(vm.call_fd, &count, sizeof(count)) > 0);
		packed_ask(&vm.pg, VRING_PACKED_EVENT_FLAG_DISABLE, 0, false);
	}
	return true;
}

/* ---- Block requests, against a model of the disk ---- */

static struct model {
	uint8_t blocks[SLOTS][512]; /* each slot has a block of its own */
	bool writes[SLOTS];
	bool busy[SLOTS];
	uint32_t num_busy;
} model;

static uint32_t next_random(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

static bool offer_block(uint32_t i, bool indirect)
{
	struct vring_desc chain[3];
	bool writes = next_random() % 2;
	uint32_t n = indirect ? 1 : 3;

	if (model.busy[i] || n > vm.pg.num_free)
		return false;
	packed_request(&vm.pg.guest, i, indirect, writes ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
		       i * 7, 512, chain);
	memset(guest_data(&vm.pg.guest, i), 0xee, 512);
	for (uint32_t k = 0; k < 512 && writes; k++)
		model.blocks[i][k] = guest_data(&vm.pg.guest, i)[k] = (uint8_t)next_random();
	model.writes[i] = writes;
	model.busy[i] = true;
	model.num_busy++;
	packed_offer(&vm.pg, chain, n, (uint16_t)i);
	return true;
}

static bool end_block(void)
{
	struct vring_used_elem used;

	if (!wait_used_packed(&used) || !CHECK(used.id < SLOTS) || !CHECK(model.busy[used.id]))
		return false;
	CHECK_EQ(used.len, model.writes[used.id] ? 1 : 513);
	CHECK_EQ(*guest_status(&vm.pg.guest, used.id), VIRTIO_BLK_S_OK);
	CHECK_EQ(memcmp(guest_data(&vm.pg.guest, used.id), model.blocks[used.id], 512), 0);
	model.busy[used.id] = false;
	model.num_busy--;
	return check_ok;
}

static void run_blocks(uint32_t rounds, bool mixed)
{
	for (uint32_t i = 0; i < rounds && check_ok; i++) {
		uint32_t from = vm.pg.next;
		bool wrap = vm.pg.wrap;
		uint32_t burst = 1 + next_random() % 8;

		for (uint32_t k = 0; k < burst; k++)
			offer_block(next_random() % SLOTS, mixed && next_random() % 2);
		kick_from(from, wrap);
		while (model.num_busy > next_random() % 12 && end_block())
			;
	}
	while (model.num_busy > 0 && end_block())
		;
}

static void serve_blocks(uint32_t mode, uint64_t features, bool prompt)
{
	static const uint32_t sizes[] = {3, 4, 5, 16, 61, 100, 1024};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && check_ok; i++) {
		memset(&model, 0, sizeof(model));
		REQUIRE(vm_open(sizes[i], features, mode, prompt));
		REQUIRE_EQ(start_blk(), 0);
		run_blocks(150, features & GUEST_INDIRECT);
		vm_close();
	}
}

static void serves_blocks_at_once(void)
{
	serve_blocks(VHC_MODE_ADAPTIVE, 0, true);
	serve_blocks(VHC_MODE_INTERRUPT, GUEST_EVENT_IDX | GUEST_INDIRECT, true);
}

static void serves_blocks_in_any_order(void)
{
	serve_blocks(VHC_MODE_INTERRUPT, 0, false);
	serve_blocks(VHC_MODE_ADAPTIVE, GUEST_EVENT_IDX, false);
	serve_blocks(VHC_MODE_ADAPTIVE, GUEST_EVENT_IDX | GUEST_INDIRECT, false);
}

/* Requests are offered while the ring stops; the next one goes on from where it says. */
static void goes_on_after_a_stop(void)
{
	memset(&model, 0, sizeof(model));
	REQUIRE(vm_open(29, GUEST_EVENT_IDX, VHC_MODE_ADAPTIVE, false));
	for (uint32_t i = 0; i < 60 && check_ok; i++) {
		uint32_t from = vm.pg.next;
		bool wrap = vm.pg.wrap;

		REQUIRE_EQ(start_blk(), 0);
		for (uint32_t k = 0; k < SLOTS; k++)
			offer_block(k, false);
		kick_from(from, wrap);
		while (next_random() % 8 && model.num_busy > 0 && end_block())
			;
		/* The same object goes on, or another. */
		if (i % 2) {
			uint32_t base = vm_stop();

			vhc_ring_release(vm.ring);
			REQUIRE(make_ring(base));
		} else {
			vm_stop();
		}
	}
	REQUIRE_EQ(start_blk(), 0);
	while (model.num_busy > 0 && end_block())
		;
	vm_close();
}

/* Half of what waits is taken: what was only looked at is the next one's. */
static void leaves_what_it_did_not_take(void)
{
	struct queue_outbox outbox = {0};
	struct bdev_channel *channel;
	struct queue *queue;

	memset(&model, 0, sizeof(model));
	REQUIRE(vm_open(80, 0, VHC_MODE_ADAPTIVE, true));
	vm.disk.bdev.ops->channel_open(&vm.disk.bdev, NULL, &channel);
	for (uint32_t k = 0; k < SLOTS; k++)
		CHECK(offer_block(k, false));
	queue = queue_create_blk(vm.ring, vm.blk, NULL, &outbox);
	REQUIRE(queue);
	queue_set_channel(queue, channel);
	CHECK_EQ(queue_poll(queue), 16);
	CHECK_EQ(vhc_ring_base(vm.ring), 0x80308030u);
	queue_destroy(queue);
	vhc_ring_release(vm.ring);
	REQUIRE(make_ring(0x80308030u));
	REQUIRE_EQ(start_blk(), 0);
	while (model.num_busy > 0 && end_block())
		;
	vm_close();
}

/* The driver of a ring that was served before is called once, also after whole laps. */
static void calls_a_driver_again(void)
{
	struct vring_desc chain[3];
	struct vring_used_elem used;
	uint64_t count;

	REQUIRE(vm_open(3, 0, VHC_MODE_ADAPTIVE, true));
	packed_ask(&vm.pg, VRING_PACKED_EVENT_FLAG_DISABLE, 0, false);
	REQUIRE_EQ(start_blk(), 0);
	CHECK(!check_readable(vm.call_fd, 20));
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t n = packed_request(&vm.pg.guest, 0, false, VIRTIO_BLK_T_IN, 0, 512, chain);

		packed_offer(&vm.pg, chain, n, 0);
		eventfd_write(vm.kick_fd, 1);
		CHECK(EVENTUALLY(packed_used(&vm.pg, &used)));
	}
	CHECK_EQ(vm_stop(), VHC_RING_BASE_PACKED);
	vhc_ring_release(vm.ring);
	REQUIRE(make_ring(VHC_RING_BASE_PACKED));
	CHECK(!check_readable(vm.call_fd, 0));
	REQUIRE_EQ(start_blk(), 0);
	CHECK(check_readable(vm.call_fd, PATIENCE_MS));
	CHECK_EQ(read(vm.call_fd, &count, sizeof(count)), sizeof(count));
	CHECK_EQ(count, 1);
	vm_close();
}

/* A ring that breaks says so, and stops when it is asked to. */
static void breaks_and_stops(void)
{
	const struct vhc_upcall *up;

	REQUIRE(vm_open(4, 0, VHC_MODE_ADAPTIVE, false));
	REQUIRE_EQ(start_blk(), 0);
	for (uint32_t i = 0; i < 4; i++)
		vm.pg.ring[i].flags = VRING_DESC_F_NEXT | packed_guest_avail(true);
	eventfd_write(vm.kick_fd, 1);
	up = reader_next(&vm.rig.reader, PATIENCE_MS);
	CHECK(up && up->type == VHC_UPCALL_RING_BROKEN && up->status == -EPROTO);
	CHECK(up && up->arg == VHC_BREAK_CHAIN_LONG);
	vm_close();
}

/* ---- SCSI ---- */

static int start_unit(void)
{
	int result = vhc_reactor_start_scsi_ring(vm.rig.reactor, vm.ring, &default_sizes);

	return result ? result : vhc_reactor_attach_lun(vm.rig.reactor, vm.ring, UNIT, vm.lun, 0);
}

static void send_command(uint32_t i, bool indirect, uint32_t out, uint32_t in)
{
	struct vring_desc chain[4];
	uint32_t n = packed_command(&vm.pg.guest, i, indirect, out, in, chain);

	packed_offer(&vm.pg, chain, n, (uint16_t)(1000 + i));
	eventfd_write(vm.kick_fd, 1);
}

static uint8_t *cdb_of(uint32_t i)
{
	return guest_set_command(&vm.pg.guest, i, UNIT >> 16, UNIT & 0xff)->cdb;
}

/* The next upcall, which is to be a request; its handle. */
static uint64_t next_task(int32_t status, struct vhc_request_info *info)
{
	const struct vhc_upcall *up = reader_next(&vm.rig.reader, PATIENCE_MS);

	if (!CHECK(up && up->type == VHC_UPCALL_REQUEST) || !CHECK_EQ(up->status, status))
		return 0;
	memcpy(info, up->data, sizeof(*info));
	return up->arg;
}

static bool command_ended(uint32_t i, uint32_t len, uint8_t status)
{
	struct vring_used_elem used = {0};

	return CHECK(EVENTUALLY(packed_used(&vm.pg, &used))) && CHECK_EQ(used.id, 1000 + i) &&
	       CHECK_EQ(used.len, len) && CHECK_EQ(guest_response(&vm.pg.guest, i)->status, status);
}

static void serves_commands(void)
{
	for (uint32_t i = 0; i < 8 && check_ok; i++) {
		bool indirect = i & 1, prompt = i & 2;

		REQUIRE(vm_open(i & 4 ? 7 : 33, GUEST_INDIRECT, VHC_MODE_ADAPTIVE, prompt));
		REQUIRE_EQ(start_unit(), 0);
		for (uint32_t k = 0; k < 30 && check_ok; k++) {
			guest_cdb_10(cdb_of(k), 0x2a, k, 1);
			memset(guest_data(&vm.pg.guest, k), (int)k + 1, 512);
			send_command(k, indirect, 512, 0);
			CHECK(command_ended(k, 12, 0));
			guest_cdb_10(cdb_of(k), 0x28, k, 1);
			memset(guest_data(&vm.pg.guest, k), 0, 512);
			send_command(k, indirect, 0, 512);
			CHECK(command_ended(k, SCSI_GUEST_RESPONSE + 512, 0));
			CHECK_EQ(guest_data(&vm.pg.guest, k)[511], k + 1);
		}
		vm_close();
	}
}

/*
 * A command that fails is read again to go up: from the copy, since others that ended
 * before it are in its place in the ring.
 */
static void failures_go_up(void)
{
	struct vhc_request_info info;
	uint64_t request;

	for (int prompt = 0; prompt < 2 && check_ok; prompt++) {
		REQUIRE(vm_open(5, 0, VHC_MODE_ADAPTIVE, prompt));
		REQUIRE_EQ(start_unit(), 0);
		for (uint32_t k = 0; k < 10 && check_ok; k++) {
			const struct vhc_scsi_result failed = {.status = 2, .residual = 512};

			atomic_store(&vm.disk.result, -EIO);
			guest_cdb_10(cdb_of(k), 0x28, k, 1);
			send_command(k, false, 0, 512);
			request = next_task(-EIO, &info);
			REQUIRE(request);
			CHECK_EQ(info.tag, k);
			CHECK_EQ(info.in_len, 512);
			CHECK_EQ(info.cdb[5], k);
			vhc_request_complete(request, &failed);
			CHECK(command_ended(k, 12, 2));
		}
		atomic_store(&vm.disk.result, 0);
		vm_close();
	}
}

/* ---- Requests that go up, and events ---- */

static void sends_requests_up(void)
{
	struct vhc_request_info info;
	struct vring_used_elem used = {0};
	uint64_t requests[3];

	REQUIRE(vm_open(6, 0, VHC_MODE_ADAPTIVE, true));
	REQUIRE_EQ(vhc_reactor_start_raw_ring(vm.rig.reactor, vm.ring), 0);
	for (uint32_t lap = 0; lap < 7 && check_ok; lap++) {
		for (uint32_t i = 0; i < 3; i++) {
			uint8_t *data = guest_data(&vm.pg.guest, i);
			const struct vring_desc chain[] = {
			    {guest_gpa(&vm.pg.guest, data), 8, 0, 0},
			    {guest_gpa(&vm.pg.guest, data + 8), 8, VRING_DESC_F_WRITE, 0}};

			memset(data, (int)(lap + i), 8);
			packed_offer(&vm.pg, chain, 2, (uint16_t)i);
			eventfd_write(vm.kick_fd, 1);
			requests[i] = next_task(0, &info);
			REQUIRE(requests[i]);
			CHECK_EQ(info.out_len, 8);
			CHECK_EQ(info.in_len, 8);
		}
		/* Out of order: the ring's places of the others are overwritten. */
		for (uint32_t i = 3; i-- > 0;) {
			uint8_t buf[8];

			CHECK_EQ(vhc_request_read(requests[i], 0, buf, 8), 8);
			CHECK_EQ(buf[7], lap + i);
			CHECK_EQ(vhc_request_write(requests[i], 0, buf, 8), 8);
			vhc_request_complete_raw(requests[i], i);
			CHECK(EVENTUALLY(packed_used(&vm.pg, &used)));
			CHECK_EQ(used.id, i);
			CHECK_EQ(used.len, i);
			CHECK_EQ(guest_data(&vm.pg.guest, i)[15], lap + i);
		}
	}
	vm_close();
}

static void sends_events(void)
{
	static const uint8_t event[16] = {1, 0, 0, 0, 1, 3, 0x40, 5, 0, 0, 0, 0, 2};

	REQUIRE(vm_open(3, GUEST_EVENT_IDX, VHC_MODE_ADAPTIVE, true));
	REQUIRE_EQ(vhc_reactor_start_event_ring(vm.rig.reactor, vm.ring), 0);
	for (uint32_t i = 0; i < 10 && check_ok; i++) {
		uint8_t *data = guest_data(&vm.pg.guest, i);
		const struct vring_desc chain = {guest_gpa(&vm.pg.guest, data), 16,
						 VRING_DESC_F_WRITE, 0};
		struct vring_used_elem used = {0};
		uint32_t missed = i % 3 == 0 ? 0x80000000u : 0;

		if (missed)
			CHECK_EQ(vhc_reactor_send_event(vm.rig.reactor, vm.ring, event), 0);
		packed_offer(&vm.pg, &chain, 1, (uint16_t)i);
		eventfd_write(vm.kick_fd, 1);
		if (!missed)
			CHECK_EQ(vhc_reactor_send_event(vm.rig.reactor, vm.ring, event), 1);
		CHECK(EVENTUALLY(packed_used(&vm.pg, &used)));
		CHECK_EQ(used.id, i);
		CHECK_EQ(used.len, 16);
		CHECK_EQ(*(const uint32_t *)data, missed ? missed : 1);
	}
	vm_close();
}

/* ---- Anything at all in the ring ---- */

/* A descriptor of which anything may be wrong. */
static void scribble_at(uint32_t index)
{
	static const uint32_t likely_lengths[] = {0, 1, 16, 32, 48, 512};
	struct vring_packed_desc *desc = &vm.pg.ring[index];
	uint16_t flags = (uint16_t)(next_random() % 8) & (next_random() % 2 ? 3 : 7);

	desc->addr = GUEST_GPA + GUEST_DATA + next_random() % 8192;
	if (next_random() % 8 == 0)
		desc->addr = next_random() % 2 ? 0 : guest_gpa(&vm.pg.guest, vm.pg.ring);
	desc->len = next_random() % 3 ? likely_lengths[next_random() % 6] : next_random();
	desc->id = (uint16_t)next_random();
	flags |=
	    next_random() % 8 ? packed_guest_avail(vm.pg.wrap) : (uint16_t)(next_random() & 0x8080);
	__atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
}

/* What a driver may write where the device looks next, or anywhere; mostly nearly right. */
static void scribble(void)
{
	struct packed_guest *pg = &vm.pg;
	uint32_t i = next_random() % SLOTS;
	struct vring_desc chain[3];

	*(uint32_t *)pg->driver = next_random();
	if (next_random() % 8) {
		uint32_t n = packed_request(&pg->guest, i, next_random() % 2,
					    next_random() % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT,
					    i, 512, chain);

		packed_offer(pg, chain, n, (uint16_t)next_random());
	} else {
		scribble_at(next_random() % 2 ? pg->next : next_random() % pg->size);
	}
	pg->wrap ^= next_random() % 64 == 0;
}

/* A ring with some of what makes it other than plain. */
static bool odd_ring(struct vhc_inflight **inflight, struct vhc_log **log, int fd)
{
	struct vhc_inflight_config region = {
	    .fd = fd, .size = 8192, .num_queues = 1, .queue_size = 64, .packed = 1};
	struct vhc_ring_config config = packed_guest_config(&vm.pg, vm.features);

	*inflight = NULL;
	*log = NULL;
	if (next_random() % 2 && CHECK_EQ(vhc_inflight_create(&region, inflight), 0))
		config.inflight = (uint64_t)(uintptr_t)*inflight;
	if (next_random() % 4 == 0 && CHECK_EQ(vhc_log_create(fd, 8192, 8192, -1, log), 0))
		config.log = (uint64_t)(uintptr_t)*log;
	config.log_used = guest_gpa(&vm.pg.guest, vm.pg.device);
	config.base = (next_random() % vm.pg.size) * 0x10001u | (next_random() % 2) * 0x80008000u;
	config.call_fd = vm.call_fd;
	return CHECK_EQ(vhc_ring_create(&config, &vm.ring), 0);
}

/* Serves what there is; then no descriptor may have got lost, or be there twice. */
static void serve_anything(struct bdev_channel *channel, bool blk)
{
	struct queue_outbox outbox = {0};
	struct queue *queue = blk ? queue_create_blk(vm.ring, vm.blk, NULL, &outbox)
				  : queue_create_event(vm.ring, &outbox);
	const struct packed *packed = &vm.ring->packed;
	uint32_t ahead = 0;

	REQUIRE(queue);
	if (blk)
		queue_set_channel(queue, channel);
	for (uint32_t i = 0; i < 30 && !vm.ring->broken; i++) {
		scribble();
		queue->missed = true;
		queue_poll(queue);
		if (vm.ops.poll)
			shuffler_poll(channel);
		queue_publish(queue);
		if (next_random() % 4 == 0 && ring_arm(vm.ring))
			ring_disarm(vm.ring);
	}
	while (channel->inflight > 0)
		shuffler_poll(channel);
	queue_publish(queue);
	CHECK_EQ(queue_inflight(queue), 0);
	for (uint32_t i = 0; i < packed->num_ahead; i++)
		ahead += packed_count(
		    packed->chains[packed->ahead[(packed->ahead_at + i) % RING_AHEAD]]);
	CHECK_EQ(packed->num_free + ahead, vm.pg.size);
	queue_destroy(queue);
}

static void survives_anything(void)
{
	int fd = memfd_create("odd", MFD_CLOEXEC);
	uint32_t broken = 0, whole = 0;
	uint64_t asked = 0;

	REQUIRE(fd >= 0 && ftruncate(fd, 16384) == 0);
	for (uint32_t i = 0; i < 3000 && check_ok; i++) {
		struct vhc_inflight *inflight;
		struct bdev_channel *channel;
		struct vhc_log *log;

		if (i % 100 == 0) {
			REQUIRE(vm_open(61, GUEST_INDIRECT | (i % 200 ? GUEST_EVENT_IDX : 0),
					VHC_MODE_ADAPTIVE, i % 300 == 0));
			vm.disk.bdev.ops->channel_open(&vm.disk.bdev, NULL, &channel);
			vhc_ring_release(vm.ring);
		}
		channel = &vm.disk.channel;
		packed_guest_reset(&vm.pg, 1 + next_random() % 61);
		CHECK_EQ(ftruncate(fd, 0) | ftruncate(fd, 16384), 0);
		REQUIRE(odd_ring(&inflight, &log, fd));
		serve_anything(channel, next_random() % 8);
		broken += vm.ring->broken != 0;
		whole += vm.ring->broken == 0;
		vhc_inflight_release(inflight);
		vhc_log_release(log);
		vhc_ring_release(vm.ring);
		if (i % 100 == 99) {
			vm.ring = NULL;
			asked += vm.disk.asked;
			vm_free();
		}
	}
	CHECK(broken > 100 && whole > 100 && asked > 100);
	close(fd);
}

int main(void)
{
	RUN(serves_blocks_at_once);
	RUN(serves_blocks_in_any_order);
	RUN(goes_on_after_a_stop);
	RUN(leaves_what_it_did_not_take);
	RUN(calls_a_driver_again);
	RUN(breaks_and_stops);
	RUN(serves_commands);
	RUN(failures_go_up);
	RUN(sends_requests_up);
	RUN(sends_events);
	RUN(survives_anything);
	return check_report();
}
