/* SPDX-License-Identifier: MIT */
/* Coalesced rings on a reactor: whatever happens, no driver waits for a call that never comes. */
#include <errno.h>
#include <fcntl.h>

#include "vm.h"

/* Above 100 requests a second calls are 10 ms apart, the most there is. */
#define BASE_NS UINT64_C(1000000000)
#define THRESHOLD 100

struct busy {
	struct rig rig;
	struct vm vm;
};

static bool busy_create(struct busy *busy, uint32_t mode, uint64_t features)
{
	return rig_create(&busy->rig, mode) && vm_create(&busy->vm, 1, features, null_disk()) &&
	       vhc_reactor_start_blk_ring(busy->rig.reactor, busy->vm.ring, busy->vm.blk, 0) == 0;
}

static void busy_destroy(struct busy *busy)
{
	vm_destroy(&busy->vm);
	rig_destroy(&busy->rig);
}

static int set(struct busy *busy, uint64_t base_ns, uint64_t threshold)
{
	return vhc_reactor_set_coalescing(busy->rig.reactor, busy->vm.ring, base_ns, threshold);
}

static bool called(const struct vm *vm)
{
	uint64_t count;

	return read(vm->call_fd, &count, sizeof(count)) == sizeof(count);
}

/* One request, whose end the driver sees by looking; with EVENT_IDX it asks for a call first. */
static void poll_one(struct vm *vm)
{
	struct vring_used_elem used;

	__atomic_store_n(vm->guest.used_event, vm->guest.last_used, __ATOMIC_SEQ_CST);
	guest_offer(&vm->guest, guest_request(&vm->guest, 0, false, VIRTIO_BLK_T_IN, 8, 4096));
	guest_publish(&vm->guest);
	eventfd_write(vm->kick_fd, 1);
	CHECK(EVENTUALLY(guest_used(&vm->guest, &used)));
}

/*
 * Requests until one's call is put off. What was sent before is forgotten, so that the
 * next call is that one.
 */
static void until_delayed(struct busy *busy)
{
	const uint64_t *delayed = &busy->vm.guest.stats->calls_delayed;
	uint64_t before;

	do {
		called(&busy->vm);
		before = counter(delayed);
		poll_one(&busy->vm);
	} while (counter(delayed) == before);
}

/* ---- Due calls ---- */

static void arrives_in(uint32_t mode, uint64_t features)
{
	struct busy busy;

	REQUIRE(busy_create(&busy, mode, features));
	REQUIRE_EQ(set(&busy, BASE_NS, THRESHOLD), 0);
	for (int i = 0; i < 20; i++) {
		until_delayed(&busy);
		/* Nobody asks for anything any more: the reactor wakes by itself. */
		CHECK(check_readable(busy.vm.call_fd, PATIENCE_MS));
	}
	CHECK_EQ(busy.vm.ring->broken, 0);
	CHECK(stop(&busy.rig, &busy.vm, 1) >= 0);
	busy_destroy(&busy);
}

static void due_calls_arrive(void)
{
	arrives_in(VHC_MODE_INTERRUPT, 0);
	arrives_in(VHC_MODE_ADAPTIVE, 0);
	arrives_in(VHC_MODE_ADAPTIVE, GUEST_EVENT_IDX);
	arrives_in(VHC_MODE_POLL, GUEST_EVENT_IDX);
}

/* At a high rate most batches share calls; below the threshold each has its own. */
static void calls_are_fewer(void)
{
	const struct vhc_stats *stats;
	uint64_t before;
	struct busy busy;

	REQUIRE(busy_create(&busy, VHC_MODE_ADAPTIVE, 0));
	stats = busy.vm.guest.stats;
	REQUIRE_EQ(set(&busy, BASE_NS, UINT32_MAX), 0);
	for (int i = 0; i < 500; i++)
		poll_one(&busy.vm);
	CHECK(EVENTUALLY(counter(&stats->calls) == 500));
	CHECK_EQ(counter(&stats->calls_delayed), 0);
	REQUIRE_EQ(set(&busy, BASE_NS, THRESHOLD), 0);
	until_delayed(&busy);
	before = counter(&stats->calls);
	for (int i = 0; i < 2000; i++)
		poll_one(&busy.vm);
	CHECK(counter(&stats->calls) - before < 1000);
	CHECK(counter(&stats->calls_delayed) > 1000);
	CHECK(stop(&busy.rig, &busy.vm, 1) >= 0);
	busy_destroy(&busy);
}

/* A driver that waits for its calls alone gets all it asks for while settings change. */
static void changes_while_it_runs(void)
{
	static const uint64_t bases[] = {0, 1000, BASE_NS, 20000, BASE_NS, 0};
	struct busy busy;

	REQUIRE(busy_create(&busy, VHC_MODE_ADAPTIVE, 0));
	for (uint32_t i = 0; i < 60; i++) {
		REQUIRE_EQ(set(&busy, bases[i % 6], THRESHOLD), 0);
		for (uint32_t j = 0; j < 5; j++) {
			vm_offer(&busy.vm, 1 + j);
			REQUIRE_EQ(vm_wait(&busy.vm, 1 + j), 1 + j);
		}
	}
	CHECK(stop(&busy.rig, &busy.vm, 1) >= 0);
	busy_destroy(&busy);
}

/* ---- What ends the wait before it is due ---- */

static void a_change_calls(void)
{
	struct busy busy;

	REQUIRE(busy_create(&busy, VHC_MODE_INTERRUPT, 0));
	REQUIRE_EQ(set(&busy, BASE_NS, THRESHOLD), 0);
	for (int i = 0; i < 10; i++) {
		until_delayed(&busy);
		REQUIRE_EQ(i % 2 ? set(&busy, 0, 0) : set(&busy, BASE_NS / 2, THRESHOLD), 0);
		CHECK(called(&busy.vm));
		REQUIRE_EQ(set(&busy, BASE_NS, THRESHOLD), 0);
	}
	CHECK(stop(&busy.rig, &busy.vm, 1) >= 0);
	busy_destroy(&busy);
}

static void a_stop_calls(void)
{
	struct busy busy;

	REQUIRE(busy_create(&busy, VHC_MODE_INTERRUPT, 0));
	for (int i = 0; i < 10; i++) {
		REQUIRE_EQ(set(&busy, BASE_NS, THRESHOLD), 0);
		until_delayed(&busy);
		REQUIRE(stop(&busy.rig, &busy.vm, 1) >= 0);
		CHECK(called(&busy.vm));
		REQUIRE_EQ(
		    vhc_reactor_start_blk_ring(busy.rig.reactor, busy.vm.ring, busy.vm.blk, 0), 0);
	}
	CHECK(stop(&busy.rig, &busy.vm, 1) >= 0);
	busy_destroy(&busy);
}

/* So does what breaks a ring: what came before it is good. */
static void a_break_calls(void)
{
	const struct vhc_upcall *upcall;
	struct busy busy;

	REQUIRE(busy_create(&busy, VHC_MODE_INTERRUPT, 0));
	REQUIRE_EQ(set(&busy, BASE_NS, THRESHOLD), 0);
	until_delayed(&busy);
	guest_offer(&busy.vm.guest, SIZE);
	guest_publish(&busy.vm.guest);
	eventfd_write(busy.vm.kick_fd, 1);
	upcall = reader_next(&busy.rig.reader, PATIENCE_MS);
	REQUIRE(upcall && upcall->type == VHC_UPCALL_RING_BROKEN);
	CHECK(called(&busy.vm));
	/* It is not coalesced again. */
	CHECK_EQ(set(&busy, BASE_NS, THRESHOLD), 0);
	CHECK(stop(&busy.rig, &busy.vm, 1) >= 0);
	busy_destroy(&busy);
}

/* Memory that is added does not touch what is due. */
static void other_memory_keeps_calls(void)
{
	struct busy busy;

	REQUIRE(busy_create(&busy, VHC_MODE_INTERRUPT, 0));
	REQUIRE_EQ(set(&busy, BASE_NS, THRESHOLD), 0);
	for (int i = 0; i < 5; i++) {
		until_delayed(&busy);
		REQUIRE_EQ(
		    vhc_reactor_set_mem(busy.rig.reactor, busy.vm.ring, busy.vm.guest.mem, 0), 0);
		CHECK(check_readable(busy.vm.call_fd, PATIENCE_MS));
	}
	CHECK(stop(&busy.rig, &busy.vm, 1) >= 0);
	busy_destroy(&busy);
}

/* A peer that makes its descriptor block is found out when the call is due, asleep. */
static void a_call_that_blocks_breaks(void)
{
	const struct vhc_upcall *upcall;
	struct busy busy;
	int flags;

	REQUIRE(busy_create(&busy, VHC_MODE_INTERRUPT, 0));
	flags = fcntl(busy.vm.call_fd, F_GETFL);
	REQUIRE_EQ(set(&busy, BASE_NS, THRESHOLD), 0);
	until_delayed(&busy);
	called(&busy.vm);
	CHECK_EQ(eventfd_write(busy.vm.call_fd, UINT64_MAX - 1), 0);
	REQUIRE_EQ(fcntl(busy.vm.call_fd, F_SETFL, flags & ~O_NONBLOCK), 0);
	/* If the call went out in the meantime, the next one meets it. */
	poll_one(&busy.vm);
	upcall = reader_next(&busy.rig.reader, PATIENCE_MS);
	CHECK(upcall && upcall->type == VHC_UPCALL_RING_BROKEN);
	REQUIRE_EQ(fcntl(busy.vm.call_fd, F_SETFL, flags), 0);
	CHECK(stop(&busy.rig, &busy.vm, 1) >= 0);
	busy_destroy(&busy);
}

/* ---- Many rings ---- */

/* Each of the rings of a reactor gets its own; none keeps another from its. */
static void many_rings(void)
{
	struct rig rig;
	struct vm vms[12];

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	for (uint32_t i = 0; i < 12; i++) {
		REQUIRE(vm_create(&vms[i], i, 0, null_disk()));
		REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vms[i].ring, vms[i].blk, 0), 0);
		REQUIRE_EQ(vhc_reactor_set_coalescing(rig.reactor, vms[i].ring, BASE_NS >> (2 * i),
						      THRESHOLD),
			   0);
	}
	for (uint32_t round = 0; round < 60; round++) {
		for (uint32_t i = 0; i < 12; i++)
			vm_offer(&vms[i], 1 + (round + i) % 8);
		for (uint32_t i = 0; i < 12; i++)
			REQUIRE_EQ(vm_wait(&vms[i], 1 + (round + i) % 8), 1 + (round + i) % 8);
	}
	for (uint32_t i = 0; i < 12; i++) {
		CHECK(stop(&rig, &vms[i], i) >= 0);
		vm_destroy(&vms[i]);
	}
	rig_destroy(&rig);
}

static void refuses_misuse(void)
{
	struct rig other;
	struct busy busy;

	REQUIRE(busy_create(&busy, VHC_MODE_ADAPTIVE, 0));
	REQUIRE(rig_create(&other, VHC_MODE_ADAPTIVE));
	CHECK_EQ(set(&busy, BASE_NS, 0), -EINVAL);
	CHECK_EQ(vhc_reactor_set_coalescing(other.reactor, busy.vm.ring, BASE_NS, THRESHOLD),
		 -ENOENT);
	CHECK(stop(&busy.rig, &busy.vm, 1) >= 0);
	CHECK_EQ(set(&busy, BASE_NS, THRESHOLD), -ENOENT);
	rig_destroy(&other);
	busy_destroy(&busy);
}

int main(void)
{
	RUN(due_calls_arrive);
	RUN(calls_are_fewer);
	RUN(changes_while_it_runs);
	RUN(a_change_calls);
	RUN(a_stop_calls);
	RUN(a_break_calls);
	RUN(other_memory_keeps_calls);
	RUN(a_call_that_blocks_breaks);
	RUN(many_rings);
	RUN(refuses_misuse);
	return check_report();
}
