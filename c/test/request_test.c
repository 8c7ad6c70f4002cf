/* SPDX-License-Identifier: MIT */
/* Requests that go up, and come back completed or to be executed. */
#include <errno.h>
#include <sys/mman.h>

#include "scsi_vm.h"

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A command that is not executed: what comes up, and its end with sense data. */
static void goes_up_and_ends(void)
{
	struct vhc_scsi_result result = {
	    .status = 2, .residual = 7, .sense_len = 200, .sense = {0x70, 0, 5}};
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t request;
	uint8_t *cdb;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, GUEST_INDIRECT));
	cdb = command(&vm, 2);
	cdb[0] = 0x12;
	cdb[4] = 36;
	cdb[31] = 0x77;
	guest_command(&vm.guest, 2)->tag = UINT64_C(0x123456789abcdef0);
	guest_command(&vm.guest, 2)->task_attr = 2;
	send_slot(&vm, 2, 0, 255);
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	CHECK_EQ(info.out_len, 0);
	CHECK_EQ(info.in_len, 255);
	CHECK_EQ(info.tag, UINT64_C(0x123456789abcdef0));
	CHECK_EQ(info.lun[1], 3);
	CHECK_EQ(info.task_attr, 2);
	CHECK_EQ(info.cdb_len, 32);
	CHECK_EQ(info.copied, 0);
	CHECK_EQ(info.held, 0);
	CHECK_EQ(info.cdb[0], 0x12);
	CHECK_EQ(info.cdb[31], 0x77);
	CHECK_EQ(counter(&vm.guest.stats->inflight), 1);
	CHECK_EQ(vhc_request_write(request, 250, (const uint8_t *)"abcdefgh", 8), 5);
	CHECK_EQ(vhc_request_write(request, 255, (const uint8_t *)"a", 1), 0);
	CHECK_EQ(vhc_request_write(request, UINT64_MAX, (const uint8_t *)"a", 1), 0);
	vhc_request_complete(request, &result);
	/* Sense data is cut to what the configuration has room for. */
	REQUIRE(came_back(&vm, 2, 12 + 96));
	CHECK(responded(&vm, 2, 0, 2, 7));
	CHECK_EQ(guest_response(&vm.guest, 2)->sense_len, 96);
	CHECK_EQ(guest_response(&vm.guest, 2)->sense[0], 0x70);
	CHECK_EQ(memcmp(guest_data(&vm.guest, 2) + 250, "abcde", 5), 0);
	CHECK_EQ(counter(&vm.guest.stats->op[VHC_OP_OTHER].errors), 1);
	scsi_vm_destroy(&vm);
}

/* Data-out comes along as far as it fits, but not a plain write's. */
static void brings_data_along(void)
{
	uint8_t copy[600];
	struct vhc_request_info info;
	const struct vhc_upcall *up;
	struct scsi_vm vm;
	uint64_t request;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, GUEST_INDIRECT));
	for (uint32_t i = 0; i < 4096; i++)
		guest_data(&vm.guest, 0)[i] = (uint8_t)(i / 16);
	command(&vm, 0)[0] = 0x5f;
	send_slot(&vm, 0, 4096, 0);
	up = next_upcall(&vm, VHC_UPCALL_REQUEST);
	REQUIRE(up);
	memcpy(&info, up->data, sizeof(info));
	CHECK_EQ(up->len, VHC_MSG_MAX);
	CHECK_EQ(info.copied, VHC_MSG_MAX - sizeof(info));
	CHECK_EQ(up->data[sizeof(info) + 32], 2);
	CHECK_EQ(vhc_request_read(up->arg, 3800, copy, 600), 296);
	CHECK_EQ(copy[295], 255);
	complete(up->arg, 0, 0, 0);
	REQUIRE(came_back(&vm, 0, 12));
	guest_cdb_10(command(&vm, 0), 0x2a, BLOCKS, 8);
	send_slot(&vm, 0, 4096, 0);
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	CHECK_EQ(info.copied, 0);
	CHECK_EQ(info.out_len, 4096);
	complete(request, 1, 0, 0);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(responded(&vm, 0, 1, 0, 0));
	scsi_vm_destroy(&vm);
}

/* Odd attributes, addresses without a logical unit, data in both directions. */
static void asks_about_what_is_odd(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t request;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, GUEST_INDIRECT));
	for (uint32_t i = 0; i < 6; i++) {
		struct virtio_scsi_cmd_req *header;

		guest_cdb_10(command(&vm, i), 0x28, 0, 1);
		header = guest_command(&vm.guest, i);
		if (i < 2)
			header->task_attr = (uint8_t)(3 + i);
		else if (i == 2)
			header->lun[3] = 6;
		else if (i == 3)
			header->lun[0] = 0xc1;
		send_slot(&vm, i, i == 4 ? 512 : 0, i == 5 ? 511 : 512);
		request = next_request(&vm, 0, &info);
		REQUIRE(request);
		complete(request, 9, 0, 0);
		REQUIRE(came_back(&vm, i, 12));
	}
	CHECK_EQ(atomic_load(&vm.slow.asked), 0);
	scsi_vm_destroy(&vm);
}

/* A command that fails in the backend goes up with that, whole again. */
static void failures_go_up(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t request;
	uint8_t byte;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, GUEST_INDIRECT));
	atomic_store(&vm.slow.result, -EIO);
	slow_allow(&vm.slow, 3);
	/* Read in place; read into a task, with a buffer that was cut down. */
	send_read(&vm, 0, 3);
	request = next_request(&vm, -EIO, &info);
	REQUIRE(request);
	CHECK_EQ(info.in_len, 512);
	CHECK_EQ(info.cdb[5], 3);
	CHECK_EQ(info.tag, 0);
	complete(request, 0, 2, 512);
	REQUIRE(came_back(&vm, 0, 12));
	guest_cdb_10(command(&vm, 1), 0x2a, 4, 1);
	guest_data(&vm.guest, 1)[799] = 0x42;
	send_slot(&vm, 1, 800, 0);
	request = next_request(&vm, -EIO, &info);
	REQUIRE(request);
	CHECK_EQ(info.out_len, 800);
	CHECK_EQ(info.tag, 1);
	CHECK_EQ(vhc_request_read(request, 799, &byte, 1), 1);
	CHECK_EQ(byte, 0x42);
	/* Tried again: it fails again, and then it does not. */
	vhc_request_execute(request, VHC_OP_WRITE, 0, 4 * 512, 512);
	request = next_request(&vm, -EIO, &info);
	REQUIRE(request);
	atomic_store(&vm.slow.result, 0);
	slow_allow(&vm.slow, 1);
	vhc_request_execute(request, VHC_OP_WRITE, 0, 4 * 512, 512);
	REQUIRE(came_back(&vm, 1, 12));
	CHECK(responded(&vm, 1, 0, 0, 288));
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_WRITE].errors), 2);
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_WRITE].count), 3);
	CHECK_EQ(counter(&vm.guest.stats->op[VHC_OP_WRITE].count), 1);
	scsi_vm_destroy(&vm);
}

/* A synchronous backend's failures, in a batch with others. */
static void failures_of_batches_go_up(void)
{
	struct vhc_request_info info;
	struct vhc_lun_config config;
	struct vhc_bdev *disk;
	struct scsi_vm vm;
	uint64_t request;
	char name[] = "/tmp/request_test.XXXXXX";
	int fd = mkstemp(name);

	unlink(name);
	REQUIRE(fd >= 0 && ftruncate(fd, BLOCKS * 512) == 0);
	struct vhc_file_config file = {.fd = fd,
				       .direct_fd = -1,
				       .block_size = 512,
				       .num_blocks = BLOCKS,
				       .flags = VHC_FILE_READONLY};
	REQUIRE_EQ(vhc_bdev_file_create(&file, &disk), 0);
	close(fd);
	config = unit_config(disk);
	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, GUEST_INDIRECT));
	REQUIRE(use_disk(&vm, &config));
	send_write(&vm, 0, 3);
	request = next_request(&vm, -EROFS, &info);
	REQUIRE(request);
	complete(request, 0, 2, 512);
	REQUIRE(came_back(&vm, 0, 12));
	send_read(&vm, 1, 3);
	REQUIRE(came_back(&vm, 1, 108 + 512));
	scsi_vm_destroy(&vm);
}

static void executes_on_demand(void)
{
	struct vhc_lun_config config = unit_config(null_disk());
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t request;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, GUEST_INDIRECT));
	REQUIRE(use_disk(&vm, &config));
	vhc_lun_set_gates(vm.lun, VHC_GATE_ASK, VHC_GATE_ASK);
	guest_cdb_10(command(&vm, 0), 0x28, 0, 2);
	send_slot(&vm, 0, 0, 1024);
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	/* What cannot be comes back. */
	vhc_request_execute(request, VHC_OP_READ, 0, BLOCKS * 512, 512);
	REQUIRE_EQ(next_request(&vm, -ERANGE, &info), request);
	vhc_request_execute(request, VHC_OP_READ, 0, 0, 1536);
	REQUIRE_EQ(next_request(&vm, -ERANGE, &info), request);
	vhc_request_execute(request, VHC_OP_READ, 0, 0, 100);
	REQUIRE_EQ(next_request(&vm, -ERANGE, &info), request);
	vhc_request_execute(request, VHC_OP_WRITE, 0, 0, 512);
	REQUIRE_EQ(next_request(&vm, -ERANGE, &info), request);
	vhc_request_execute(request, VHC_OP_FLUSH, 0, 0, 0);
	REQUIRE_EQ(next_request(&vm, -ERANGE, &info), request);
	vhc_request_execute(request, VHC_OP_READ, 0, UINT64_MAX - 511, 512);
	REQUIRE_EQ(next_request(&vm, -ERANGE, &info), request);
	vhc_request_execute(request, VHC_OP_READ, 0, 0, 512);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	CHECK(responded(&vm, 0, 0, 0, 512));
	CHECK_EQ(counter(&vm.guest.stats->op[VHC_OP_READ].count), 1);
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_READ].bytes), 512);
	/* Nothing to move; and no logical unit any more. */
	send_read(&vm, 1, 0);
	request = next_request(&vm, 0, &info);
	vhc_request_execute(request, VHC_OP_READ, 0, 0, 0);
	REQUIRE(came_back(&vm, 1, 12));
	CHECK(responded(&vm, 1, 0, 0, 512));
	send_read(&vm, 2, 0);
	request = next_request(&vm, 0, &info);
	CHECK_EQ(vhc_reactor_detach_lun(vm.rig.reactor, vm.ring, UNIT), 0);
	vhc_request_execute(request, VHC_OP_READ, 0, 0, 512);
	REQUIRE_EQ(next_request(&vm, -ENODEV, &info), request);
	complete(request, 3, 0, 0);
	REQUIRE(came_back(&vm, 2, 12));
	scsi_vm_destroy(&vm);
}

/* So many of a ring's are unread at most; the rest waits, in order, and nothing spins. */
static void waits_for_its_reader(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t requests[SIZE];
	uint64_t before;
	int ready;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, GUEST_INDIRECT));
	for (uint32_t i = 0; i < SIZE; i++)
		send_test(&vm, i);
	CHECK(EVENTUALLY(counter(&vm.guest.stats->inflight) == SIZE));
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	ready = vhc_upcalls_advance(vm.rig.reader.upcalls, 0);
	CHECK_EQ(ready, 16);
	before = cpu_ns();
	nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
	CHECK(cpu_ns() - before < 50000000);
	for (uint32_t i = 0; i < SIZE; i++) {
		requests[i] = next_request(&vm, 0, &info);
		REQUIRE(requests[i]);
		CHECK_EQ(info.tag, i);
	}
	/* Answered in another order. */
	for (uint32_t i = SIZE; i-- > 0;)
		complete(requests[i], 0, 0, 0);
	for (uint32_t i = SIZE; i-- > 0;)
		REQUIRE(came_back(&vm, i, 12));
	scsi_vm_destroy(&vm);
}

/* Requests leave room in the upcall ring to others. */
static void leaves_room(void)
{
	enum {
		VMS = 14
	};
	struct scsi_vm vms[VMS];
	struct rig *rig = &vms[0].rig;
	const struct vhc_upcall *up;
	uint32_t ended = 0;
	int ready;

	for (uint32_t v = 0; v < VMS; v++) {
		REQUIRE(scsi_vm_open(&vms[v], VHC_MODE_ADAPTIVE, GUEST_INDIRECT));
		REQUIRE_EQ(vhc_reactor_start_scsi_ring(rig->reactor, vms[v].ring, &default_sizes),
			   0);
		for (uint32_t i = 0; i < 20; i++)
			send_test(&vms[v], i);
	}
	nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	ready = vhc_upcalls_advance(rig->reader.upcalls, 0);
	CHECK_EQ(ready, VHC_UPCALL_SLOTS - 64);
	while (ended < VMS * 20) {
		up = reader_next(&rig->reader, PATIENCE_MS);
		REQUIRE(up && up->type == VHC_UPCALL_REQUEST);
		complete(up->arg, 0, 0, 0);
		ended++;
	}
	for (uint32_t v = 0; v < VMS; v++) {
		CHECK_EQ(vhc_reactor_stop_ring(rig->reactor, vms[v].ring), 0);
		up = reader_next(&rig->reader, PATIENCE_MS);
		CHECK(up && up->type == VHC_UPCALL_RING_STOPPED);
	}
	for (uint32_t v = VMS; v-- > 0;)
		scsi_vm_close(&vms[v]);
}

/* Large requests that are up take all arrays: the ring sleeps until one is answered. */
static void sleeps_without_arrays(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t requests[4 * SIZE];
	uint64_t before;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, GUEST_INDIRECT));
	for (uint32_t i = 0; i < 4 * SIZE; i++) {
		struct vring_desc *table =
		    (struct vring_desc *)(vm.guest.memory + GUEST_DATA + i * 8192 + 512);
		uint8_t *base = vm.guest.memory + GUEST_DATA + i * 8192;

		guest_set_command(&vm.guest, i, 3, 5);
		for (uint16_t d = 0; d < 7; d++)
			table[d] = (struct vring_desc){
			    guest_gpa(&vm.guest, d ? base + 4096 + d * 8 : base), d ? 8 : 51,
			    VRING_DESC_F_NEXT, (uint16_t)(d + 1)};
		table[7] = (struct vring_desc){guest_gpa(&vm.guest, base + 64), 108,
					       VRING_DESC_F_WRITE, 0};
		guest_desc(&vm.guest, i, table, 8 * 16, VRING_DESC_F_INDIRECT, 0);
		guest_offer(&vm.guest, (uint16_t)i);
	}
	guest_publish(&vm.guest);
	eventfd_write(vm.kick_fd, 1);
	for (uint32_t i = 0; i < 4 * SIZE; i++) {
		requests[i] = next_request(&vm, 0, &info);
		REQUIRE(requests[i]);
		CHECK_EQ(info.out_len, 48);
	}
	before = cpu_ns();
	nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
	CHECK(cpu_ns() - before < 50000000);
	for (uint32_t i = 0; i < 4 * SIZE; i++)
		complete(requests[i], 0, 0, 0);
	for (uint32_t i = 0; i < 4 * SIZE; i++) {
		struct vring_used_elem used;

		REQUIRE(wait_used(&vm, &used));
		CHECK_EQ(used.len, 12);
	}
	scsi_vm_destroy(&vm);
}

/* A ring that is stopped waits for what is up, and one that broke does no harm. */
static void stops_with_requests_up(void)
{
	for (uint32_t broken = 0; broken < 2; broken++) {
		struct vhc_request_info info;
		const struct vhc_upcall *up;
		struct scsi_vm vm;
		uint64_t request;

		REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
		send_test(&vm, 0);
		request = next_request(&vm, 0, &info);
		REQUIRE(request);
		if (broken) {
			kick(&vm, 0);
			REQUIRE(next_upcall(&vm, VHC_UPCALL_RING_BROKEN));
		}
		CHECK_EQ(vhc_reactor_stop_ring(vm.rig.reactor, vm.ring), 0);
		CHECK(nothing_told(&vm));
		CHECK_EQ(vhc_request_write(request, 0, (const uint8_t *)"x", 1), 0);
		complete(request, 0, 0, 0);
		up = next_upcall(&vm, VHC_UPCALL_RING_STOPPED);
		CHECK(up && up->arg == 1);
		CHECK_EQ(vhc_reactor_hold_lun(vm.rig.reactor, vm.ring, UNIT), -ENOENT);
		scsi_vm_close(&vm);
	}
}

/* Memory that is gone when a request is answered breaks the ring, and nothing else. */
static void survives_lost_memory(void)
{
	struct vhc_request_info info;
	const struct vhc_upcall *up;
	struct scsi_vm vm;
	uint64_t request;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	command(&vm, 0)[0] = 0x12;
	send_slot(&vm, 0, 0, 512);
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	REQUIRE_EQ(ftruncate(vm.guest.fd, GUEST_DATA), 0);
	CHECK_EQ(vhc_request_write(request, 0, (const uint8_t *)"data", 4), 4);
	complete(request, 0, 0, 0);
	up = next_upcall(&vm, VHC_UPCALL_RING_BROKEN);
	CHECK(up && up->status == -EFAULT);
	scsi_vm_destroy(&vm);
}

static void serves_raw_rings(void)
{
	struct vhc_request_info info;
	const struct vhc_upcall *up;
	struct vring_used_elem used;
	struct scsi_vm vm;
	uint8_t *data;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_INTERRUPT, GUEST_INDIRECT));
	REQUIRE_EQ(vhc_reactor_start_raw_ring(vm.rig.reactor, vm.ring), 0);
	CHECK_EQ(vhc_reactor_start_raw_ring(vm.rig.reactor, vm.ring), -EBUSY);
	CHECK_EQ(attach(&vm, UNIT), -ENOENT);
	data = guest_data(&vm.guest, 0);
	data[2] = 0x33;
	guest_desc(&vm.guest, 0, data, 3, VRING_DESC_F_NEXT, 1);
	guest_desc(&vm.guest, 1, data + 100, 5, VRING_DESC_F_WRITE, 0);
	kick(&vm, 0);
	up = next_upcall(&vm, VHC_UPCALL_REQUEST);
	REQUIRE(up);
	memcpy(&info, up->data, sizeof(info));
	CHECK_EQ(info.out_len, 3);
	CHECK_EQ(info.in_len, 5);
	CHECK_EQ(info.cdb_len, 0);
	CHECK_EQ(info.copied, 3);
	CHECK_EQ(up->data[sizeof(info) + 2], 0x33);
	CHECK_EQ(vhc_request_write(up->arg, 1, (const uint8_t *)"zzzzzz", 6), 4);
	vhc_request_complete_raw(up->arg, 5);
	REQUIRE(wait_used(&vm, &used));
	CHECK_EQ(used.len, 5);
	CHECK_EQ(data[104], 'z');
	/* One that cannot be mapped does not go up. */
	guest_desc(&vm.guest, 0, data, 3, VRING_DESC_F_NEXT, 0);
	kick(&vm, 0);
	REQUIRE(wait_used(&vm, &used));
	CHECK_EQ(used.len, 0);
	up = next_upcall(&vm, VHC_UPCALL_MALFORMED);
	CHECK(up && up->status == -ELOOP && up->id == RING_ID);
	stop_scsi(&vm);
	scsi_vm_close(&vm);
}

static void refuses_bad_sizes(void)
{
	static const struct vhc_scsi_config bad[] = {{5, 96}, {261, 96}, {32, 253}};
	struct scsi_vm vm;

	REQUIRE(scsi_vm_open(&vm, VHC_MODE_INTERRUPT, 0));
	for (size_t i = 0; i < 3; i++)
		CHECK_EQ(vhc_reactor_start_scsi_ring(vm.rig.reactor, vm.ring, &bad[i]), -EINVAL);
	scsi_vm_close(&vm);
}

/* The shortest and the longest headers and sense data that a driver may choose. */
static void takes_other_sizes(void)
{
	static const struct vhc_scsi_config sizes[] = {{6, 0}, {12, 18}, {260, 252}};

	for (size_t i = 0; i < 3; i++) {
		struct vhc_scsi_result result = {.status = 2, .sense_len = 252};
		struct vhc_request_info info;
		struct vring_used_elem used;
		struct scsi_vm vm;
		uint64_t request;
		uint8_t *header, *in;

		REQUIRE(scsi_vm_open(&vm, VHC_MODE_ADAPTIVE, 0));
		REQUIRE_EQ(vhc_reactor_start_scsi_ring(vm.rig.reactor, vm.ring, &sizes[i]), 0);
		slow_allow(&vm.slow, 1);
		REQUIRE_EQ(attach(&vm, UNIT), 0);
		header = (uint8_t *)guest_set_command(&vm.guest, 0, 3, 5);
		in = guest_data(&vm.guest, 0);
		header[19] = 0x08;
		header[23] = 1;
		guest_desc(&vm.guest, 0, header, 19 + sizes[i].cdb_size, VRING_DESC_F_NEXT, 1);
		guest_desc(&vm.guest, 1, in, 12 + sizes[i].sense_size,
			   VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
		guest_desc(&vm.guest, 2, in + 1024, 512, VRING_DESC_F_WRITE, 0);
		kick(&vm, 0);
		REQUIRE(wait_used(&vm, &used));
		CHECK_EQ(used.len, 12 + sizes[i].sense_size + 512);
		header[19] = 0x00;
		kick(&vm, 0);
		request = next_request(&vm, 0, &info);
		REQUIRE(request);
		CHECK_EQ(info.cdb_len, sizes[i].cdb_size);
		vhc_request_complete(request, &result);
		REQUIRE(wait_used(&vm, &used));
		CHECK_EQ(used.len, 12 + sizes[i].sense_size);
		CHECK_EQ(*(uint32_t *)in, sizes[i].sense_size);
		scsi_vm_destroy(&vm);
	}
}

int main(void)
{
	RUN(goes_up_and_ends);
	RUN(brings_data_along);
	RUN(asks_about_what_is_odd);
	RUN(failures_go_up);
	RUN(failures_of_batches_go_up);
	RUN(executes_on_demand);
	RUN(waits_for_its_reader);
	RUN(leaves_room);
	RUN(sleeps_without_arrays);
	RUN(stops_with_requests_up);
	RUN(survives_lost_memory);
	RUN(serves_raw_rings);
	RUN(refuses_bad_sizes);
	RUN(takes_other_sizes);
	return check_report();
}
