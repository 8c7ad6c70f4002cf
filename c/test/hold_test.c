/* SPDX-License-Identifier: MIT */
/* Logical units held, resumed, detached, and requests aborted, with I/O in flight. */
#include <errno.h>

#include "scsi_vm.h"

#define OTHER VHC_LUN_ADDRESS(3, 6)

static int hold(struct scsi_vm *vm)
{
	return vhc_reactor_hold_lun(vm->rig.reactor, vm->ring, UNIT);
}

static int resume(struct scsi_vm *vm)
{
	return vhc_reactor_resume_lun(vm->rig.reactor, vm->ring, UNIT);
}

static bool is_idle(struct scsi_vm *vm)
{
	const struct vhc_upcall *up = next_upcall(vm, VHC_UPCALL_LUN_IDLE);

	return up && CHECK_EQ(up->arg, UNIT) && CHECK_EQ(up->id, RING_ID);
}

static void send_ordered(struct scsi_vm *vm, uint32_t i)
{
	guest_cdb_10(command(vm, i), 0x2a, 0, 1);
	guest_command(&vm->guest, i)->task_attr = 1;
	send_slot(vm, i, 512, 0);
}

/* ---- Holding ---- */

static void holds_until_resumed(void)
{
	struct scsi_vm vm;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	slow_allow(&vm.slow, 10);
	CHECK_EQ(resume(&vm), -ENOENT);
	CHECK_EQ(hold(&vm), 0);
	CHECK(is_idle(&vm));
	CHECK_EQ(hold(&vm), 0);
	CHECK(is_idle(&vm));
	send_read(&vm, 0, 1);
	send_write(&vm, 1, 1);
	CHECK(is_quiet(&vm));
	CHECK_EQ(resume(&vm), 0);
	CHECK(is_quiet(&vm));
	CHECK_EQ(atomic_load(&vm.slow.asked), 0);
	CHECK_EQ(resume(&vm), 0);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	REQUIRE(came_back(&vm, 1, 12));
	CHECK_EQ(resume(&vm), -ENOENT);
	CHECK(nothing_told(&vm));
	scsi_vm_destroy(&vm);
}

/* Idle is told when what was in flight has ended, and requests that are up do not count. */
static void tells_when_idle(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t request;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	send_test(&vm, 5);
	request = next_request(&vm, 0, &info);
	send_read(&vm, 0, 1);
	send_read(&vm, 1, 1);
	CHECK(EVENTUALLY(atomic_load(&vm.slow.asked) == 2));
	CHECK_EQ(vhc_reactor_detach_lun(vm.rig.reactor, vm.ring, UNIT), -EBUSY);
	CHECK_EQ(hold(&vm), 0);
	CHECK_EQ(hold(&vm), 0);
	slow_allow(&vm.slow, 1);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	CHECK(nothing_told(&vm));
	slow_allow(&vm.slow, 1);
	CHECK(is_idle(&vm));
	CHECK(is_idle(&vm));
	REQUIRE(came_back(&vm, 1, 108 + 512));
	complete(request, 0, 0, 0);
	REQUIRE(came_back(&vm, 5, 12));
	CHECK_EQ(resume(&vm), 0);
	CHECK_EQ(resume(&vm), 0);
	scsi_vm_destroy(&vm);
}

/* ASK and CONFLICT are not executed, and do not wait; gates are asked again after it. */
static void holds_only_what_is_executed(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t request;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	CHECK_EQ(hold(&vm), 0);
	CHECK(is_idle(&vm));
	send_test(&vm, 0);
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	complete(request, 0, 0, 0);
	REQUIRE(came_back(&vm, 0, 12));
	send_write(&vm, 1, 1);
	CHECK(is_quiet(&vm));
	vhc_lun_set_gates(vm.lun, VHC_GATE_RUN, VHC_GATE_CONFLICT);
	CHECK_EQ(resume(&vm), 0);
	REQUIRE(came_back(&vm, 1, 12));
	CHECK(responded(&vm, 1, 0, 0x18, 512));
	scsi_vm_destroy(&vm);
}

/* A command is executed on demand when its logical unit is resumed, or at once if so asked. */
static void execution_waits_too(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t first, second;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	slow_allow(&vm.slow, 10);
	vhc_lun_set_gates(vm.lun, VHC_GATE_ASK, VHC_GATE_ASK);
	send_read(&vm, 0, 1);
	send_read(&vm, 1, 1);
	first = next_request(&vm, 0, &info);
	second = next_request(&vm, 0, &info);
	CHECK_EQ(hold(&vm), 0);
	CHECK(is_idle(&vm));
	vhc_request_execute(first, VHC_OP_READ, 0, 0, 512);
	CHECK(is_quiet(&vm));
	vhc_request_execute(second, VHC_OP_READ, VHC_EXECUTE_HELD, 0, 512);
	REQUIRE(came_back(&vm, 1, 108 + 512));
	CHECK_EQ(resume(&vm), 0);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	scsi_vm_destroy(&vm);
}

/* An address without a logical unit is idle. */
static void nothing_is_idle(void)
{
	const struct vhc_upcall *up;
	struct scsi_vm vm;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	CHECK_EQ(vhc_reactor_hold_lun(vm.rig.reactor, vm.ring, OTHER), 0);
	up = next_upcall(&vm, VHC_UPCALL_LUN_IDLE);
	CHECK(up && up->arg == OTHER);
	CHECK_EQ(vhc_reactor_resume_lun(vm.rig.reactor, vm.ring, OTHER), -ENOENT);
	CHECK_EQ(vhc_reactor_detach_lun(vm.rig.reactor, vm.ring, OTHER), -ENOENT);
	scsi_vm_destroy(&vm);
}

/* ---- ORDERED ---- */

/* Before it, everything ends; after it, nothing begins; and so for the next one. */
static void keeps_order(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t request;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	send_write(&vm, 0, 0);
	CHECK(EVENTUALLY(atomic_load(&vm.slow.asked) == 1));
	send_ordered(&vm, 1);
	send_write(&vm, 2, 0);
	send_ordered(&vm, 3);
	send_write(&vm, 4, 0);
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	CHECK_EQ(info.tag, 1);
	CHECK_EQ(info.held, 1);
	CHECK(nothing_told(&vm));
	slow_allow(&vm.slow, 1);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(is_idle(&vm));
	/* It fails, and is not held a second time for that. */
	atomic_store(&vm.slow.result, -EIO);
	slow_allow(&vm.slow, 1);
	vhc_request_execute(request, VHC_OP_WRITE, VHC_EXECUTE_HELD, 0, 512);
	REQUIRE_EQ(next_request(&vm, -EIO, &info), request);
	CHECK_EQ(info.held, 0);
	atomic_store(&vm.slow.result, 0);
	complete(request, 0, 2, 512);
	REQUIRE(came_back(&vm, 1, 12));
	CHECK(is_quiet(&vm));
	CHECK_EQ(resume(&vm), 0);
	/* The second waits for what came before it. */
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	CHECK_EQ(info.tag, 3);
	CHECK_EQ(info.held, 1);
	CHECK_EQ(atomic_load(&vm.slow.asked), 3);
	slow_allow(&vm.slow, 1);
	REQUIRE(came_back(&vm, 2, 12));
	CHECK(is_idle(&vm));
	complete(request, 0, 0, 0);
	REQUIRE(came_back(&vm, 3, 12));
	slow_allow(&vm.slow, 1);
	CHECK_EQ(resume(&vm), 0);
	REQUIRE(came_back(&vm, 4, 12));
	scsi_vm_destroy(&vm);
}

/* All of it in one batch that the reactor finds together. */
static void keeps_order_in_a_batch(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t request;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	for (uint32_t i = 0; i < 8; i++) {
		guest_cdb_10(command(&vm, i), 0x2a, i, 1);
		guest_command(&vm.guest, i)->task_attr = i == 4;
		guest_offer(&vm.guest, guest_chain(&vm.guest, i, false, 512, 0));
	}
	guest_publish(&vm.guest);
	eventfd_write(vm.kick_fd, 1);
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	CHECK_EQ(info.tag, 4);
	CHECK_EQ(atomic_load(&vm.slow.asked), 4);
	CHECK(nothing_told(&vm));
	slow_allow(&vm.slow, 4);
	CHECK(is_idle(&vm));
	CHECK_EQ(atomic_load(&vm.slow.asked), 4);
	complete(request, 0, 0, 0);
	slow_allow(&vm.slow, 3);
	CHECK_EQ(resume(&vm), 0);
	for (uint32_t i = 0; i < 8; i++) {
		struct vring_used_elem used;

		REQUIRE(wait_used(&vm, &used));
	}
	scsi_vm_destroy(&vm);
}

/* ---- Detaching ---- */

static void detaching_sends_up(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t executed;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	send_test(&vm, 0);
	executed = next_request(&vm, 0, &info);
	CHECK_EQ(hold(&vm), 0);
	CHECK(is_idle(&vm));
	vhc_request_execute(executed, VHC_OP_READ, 0, 0, 0);
	send_read(&vm, 1, 0);
	send_ordered(&vm, 2);
	CHECK(is_quiet(&vm));
	CHECK_EQ(vhc_reactor_detach_lun(vm.rig.reactor, vm.ring, UNIT), 0);
	CHECK_EQ(atomic_load(&vm.slow.closed), 1);
	for (uint32_t i = 0; i < 3; i++) {
		uint64_t request = next_request(&vm, i == 0 ? -ENODEV : 0, &info);

		REQUIRE(request);
		CHECK_EQ(info.tag, i);
		CHECK_EQ(info.held, 0);
		complete(request, 3, 0, 0);
		REQUIRE(came_back(&vm, i, 12));
	}
	CHECK(nothing_told(&vm));
	/* Attached again, it is not held. */
	slow_allow(&vm.slow, 1);
	CHECK_EQ(attach(&vm, UNIT), 0);
	send_read(&vm, 1, 0);
	REQUIRE(came_back(&vm, 1, 108 + 512));
	scsi_vm_destroy(&vm);
}

/* A ring that is stopped while held ends what waits once it is resumed. */
static void stops_when_resumed(void)
{
	struct scsi_vm vm;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	slow_allow(&vm.slow, 1);
	CHECK_EQ(hold(&vm), 0);
	CHECK(is_idle(&vm));
	send_read(&vm, 0, 0);
	CHECK(is_quiet(&vm));
	CHECK_EQ(vhc_reactor_stop_ring(vm.rig.reactor, vm.ring), 0);
	CHECK(nothing_told(&vm));
	CHECK_EQ(resume(&vm), 0);
	CHECK(next_upcall(&vm, VHC_UPCALL_RING_STOPPED));
	REQUIRE(came_back(&vm, 0, 108 + 512));
	CHECK_EQ(resume(&vm), -ENOENT);
	scsi_vm_close(&vm);
}

/* ---- Aborting ---- */

static int abort_with(struct scsi_vm *vm, uint32_t flags, uint64_t tag, uint32_t cookie)
{
	const struct vhc_abort config = {.tag = tag,
					 .flags = flags,
					 .address = UNIT,
					 .response = flags & VHC_ABORT_ALL_LUNS ? 4 : 2,
					 .cookie = cookie};

	return vhc_reactor_abort(vm->rig.reactor, vm->ring, &config);
}

static bool aborted(struct scsi_vm *vm, uint32_t cookie, int32_t count)
{
	const struct vhc_upcall *up = next_upcall(vm, VHC_UPCALL_ABORTED);

	return up && CHECK_EQ(up->arg, cookie) && CHECK_EQ(up->status, count) &&
	       CHECK_EQ(up->id, RING_ID);
}

/* What the device works on ends as aborted when it lets go of it; then it is told. */
static void aborts_what_is_executed(void)
{
	struct scsi_vm vm;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	send_read(&vm, 0, 0);
	guest_cdb_10(command(&vm, 1), 0x2a, 0, 1);
	send_slot(&vm, 1, 600, 0);
	send_read(&vm, 2, 0);
	CHECK(EVENTUALLY(atomic_load(&vm.slow.asked) == 3));
	CHECK_EQ(abort_with(&vm, VHC_ABORT_BY_TAG | VHC_ABORT_QUERY, 1, 7), 0);
	CHECK(aborted(&vm, 7, 1));
	CHECK_EQ(abort_with(&vm, VHC_ABORT_BY_TAG, 77, 8), 0);
	CHECK(aborted(&vm, 8, 0));
	CHECK_EQ(abort_with(&vm, VHC_ABORT_BY_TAG, 1, 9), 0);
	CHECK(nothing_told(&vm));
	/* A second one, of all, is not done before the first is. */
	CHECK_EQ(abort_with(&vm, VHC_ABORT_ALL_LUNS, 0, 10), 0);
	slow_allow(&vm.slow, 1);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(responded(&vm, 0, 4, 0, 512));
	CHECK(nothing_told(&vm));
	slow_allow(&vm.slow, 1);
	REQUIRE(came_back(&vm, 1, 12));
	CHECK(responded(&vm, 1, 2, 0, 600));
	CHECK(aborted(&vm, 9, 1));
	CHECK(nothing_told(&vm));
	atomic_store(&vm.slow.result, -EIO);
	slow_allow(&vm.slow, 1);
	REQUIRE(came_back(&vm, 2, 12));
	CHECK(responded(&vm, 2, 4, 0, 512));
	CHECK(aborted(&vm, 10, 3));
	/* The heads are as new. */
	atomic_store(&vm.slow.result, 0);
	slow_allow(&vm.slow, 1);
	send_read(&vm, 1, 0);
	REQUIRE(came_back(&vm, 1, 108 + 512));
	scsi_vm_destroy(&vm);
}

/* What waits ends at once; what is up is its reader's. */
static void aborts_what_waits(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t up, executed;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	send_test(&vm, 0);
	up = next_request(&vm, 0, &info);
	send_test(&vm, 1);
	executed = next_request(&vm, 0, &info);
	CHECK_EQ(hold(&vm), 0);
	CHECK(is_idle(&vm));
	send_read(&vm, 2, 0);
	send_write(&vm, 3, 0);
	CHECK(is_quiet(&vm));
	/* Answers given before the call are seen by it. */
	vhc_request_execute(executed, VHC_OP_READ, 0, 0, 0);
	CHECK_EQ(abort_with(&vm, 0, 0, 5), 0);
	REQUIRE(came_back(&vm, 2, 12));
	CHECK(responded(&vm, 2, 2, 0, 512));
	REQUIRE(came_back(&vm, 3, 12));
	REQUIRE(came_back(&vm, 1, 12));
	CHECK(responded(&vm, 1, 2, 0, 0));
	CHECK(aborted(&vm, 5, 3));
	complete(up, 2, 0, 0);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK_EQ(resume(&vm), 0);
	slow_allow(&vm.slow, 1);
	send_read(&vm, 0, 0);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	scsi_vm_destroy(&vm);
}

/* Those that wait for room in the upcall ring end too, and with an ORDERED one its hold. */
static void aborts_what_has_not_gone_up(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t requests[16];

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	slow_allow(&vm.slow, 10);
	for (uint32_t i = 0; i < 18; i++)
		send_test(&vm, i);
	send_ordered(&vm, 18);
	send_read(&vm, 19, 0);
	CHECK(EVENTUALLY(counter(&vm.guest.stats->inflight) == 20));
	CHECK_EQ(abort_with(&vm, VHC_ABORT_BY_TAG, 18, 1), 0);
	REQUIRE(came_back(&vm, 18, 12));
	REQUIRE(came_back(&vm, 19, 108 + 512));
	CHECK_EQ(abort_with(&vm, 0, 0, 2), 0);
	REQUIRE(came_back(&vm, 16, 12));
	CHECK(responded(&vm, 16, 2, 0, 0));
	REQUIRE(came_back(&vm, 17, 12));
	for (uint32_t i = 0; i < 16; i++) {
		requests[i] = next_request(&vm, 0, &info);
		REQUIRE(requests[i]);
	}
	CHECK(aborted(&vm, 1, 1));
	CHECK(aborted(&vm, 2, 2));
	for (uint32_t i = 0; i < 16; i++) {
		complete(requests[i], 0, 0, 0);
		REQUIRE(came_back(&vm, i, 12));
	}
	CHECK(nothing_told(&vm));
	scsi_vm_destroy(&vm);
}

/* A ring that stops is the last that is heard of it. */
static void stopping_ends_aborts(void)
{
	struct scsi_vm vm;

	REQUIRE(scsi_vm_create(&vm, VHC_MODE_ADAPTIVE, 0));
	send_read(&vm, 0, 0);
	CHECK(EVENTUALLY(atomic_load(&vm.slow.asked) == 1));
	CHECK_EQ(hold(&vm), 0);
	CHECK_EQ(abort_with(&vm, 0, 0, 3), 0);
	CHECK_EQ(vhc_reactor_stop_ring(vm.rig.reactor, vm.ring), 0);
	slow_allow(&vm.slow, 1);
	for (;;) {
		const struct vhc_upcall *up = reader_next(&vm.rig.reader, PATIENCE_MS);

		REQUIRE(up);
		if (up->type == VHC_UPCALL_RING_STOPPED)
			break;
	}
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(nothing_told(&vm));
	CHECK_EQ(abort_with(&vm, 0, 0, 3), -ENOENT);
	scsi_vm_close(&vm);
}

int main(void)
{
	RUN(holds_until_resumed);
	RUN(tells_when_idle);
	RUN(holds_only_what_is_executed);
	RUN(execution_waits_too);
	RUN(nothing_is_idle);
	RUN(keeps_order);
	RUN(keeps_order_in_a_batch);
	RUN(detaching_sends_up);
	RUN(stops_when_resumed);
	RUN(aborts_what_is_executed);
	RUN(aborts_what_waits);
	RUN(aborts_what_has_not_gone_up);
	RUN(stopping_ends_aborts);
	return check_report();
}
