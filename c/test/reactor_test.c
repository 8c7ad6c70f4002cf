/* SPDX-License-Identifier: MIT */
/* Reactors: rings started, served, put to sleep, broken and stopped. */
#include <errno.h>
#include <fcntl.h>

#include "upcall.h"
#include "vm.h"

static void serve_in(uint32_t mode, uint64_t features)
{
	struct rig rig;
	struct vm vm;

	REQUIRE(rig_create(&rig, mode));
	REQUIRE(vm_create(&vm, 7, features, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	for (uint32_t i = 0; i < 50; i++) {
		vm_offer(&vm, 1 + i % 16);
		if (features & GUEST_EVENT_IDX)
			eventfd_write(vm.kick_fd, 1);
		__atomic_store_n(vm.guest.used_event, vm.guest.last_used, __ATOMIC_SEQ_CST);
		REQUIRE_EQ(vm_wait(&vm, 1 + i % 16), 1 + i % 16);
	}
	CHECK_EQ(stop(&rig, &vm, 7), vm.guest.next_avail);
	CHECK_EQ(counter(&vm.guest.stats->op[VHC_OP_READ].count), vm.guest.next_avail);
	vm_destroy(&vm);
	rig_destroy(&rig);
}

static void serves_adaptively(void)
{
	serve_in(VHC_MODE_ADAPTIVE, 0);
	serve_in(VHC_MODE_ADAPTIVE, GUEST_EVENT_IDX);
}

static void serves_polling(void)
{
	serve_in(VHC_MODE_POLL, 0);
}

static void serves_interrupts(void)
{
	serve_in(VHC_MODE_INTERRUPT, 0);
	serve_in(VHC_MODE_INTERRUPT, GUEST_EVENT_IDX);
}

/* An idle ring asks for kicks, the reactor sleeps, and a kick wakes it. */
static void sleeps_when_idle(void)
{
	struct rig rig;
	struct vm vm;

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE(vm_create(&vm, 1, 0, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	CHECK_EQ(counter(&rig.stats->rings) <= 1, 1);
	for (int i = 0; i < 20; i++) {
		uint64_t wakeups;

		CHECK(EVENTUALLY(__atomic_load_n(&vm.guest.used->flags, __ATOMIC_SEQ_CST) == 0));
		CHECK(EVENTUALLY(counter(&rig.stats->polled) == 0));
		wakeups = counter(&rig.stats->wakeups);
		vm_offer(&vm, 2);
		CHECK_EQ(vm_wait(&vm, 2), 2);
		CHECK(EVENTUALLY(counter(&rig.stats->wakeups) > wakeups));
	}
	/* A batch may be found between arming and sleeping: not each has a kick of its own. */
	CHECK(EVENTUALLY(counter(&vm.guest.stats->kicks) > 0));
	CHECK(EVENTUALLY(counter(&vm.guest.stats->kicks) +
			     counter(&vm.guest.stats->kicks_suppressed) ==
			 counter(&vm.guest.stats->batches)));
	CHECK(EVENTUALLY(counter(&rig.stats->sleep_ns) > 0));
	CHECK(stop(&rig, &vm, 1) >= 0);
	vm_destroy(&vm);
	rig_destroy(&rig);
}

/* A kick descriptor is not needed: the ring is polled then. */
static void polls_without_kicks(void)
{
	struct vhc_ring_config config;
	struct rig rig;
	struct vm vm;

	REQUIRE(rig_create(&rig, VHC_MODE_INTERRUPT));
	REQUIRE(vm_create(&vm, 1, 0, null_disk()));
	vhc_ring_release(vm.ring);
	config = guest_ring_config(&vm.guest, 0);
	config.call_fd = vm.call_fd;
	config.id = 1;
	REQUIRE_EQ(vhc_ring_create(&config, &vm.ring), 0);
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	for (int i = 0; i < 5; i++) {
		guest_offer(&vm.guest,
			    guest_request(&vm.guest, 0, false, VIRTIO_BLK_T_IN, 8, 4096));
		guest_publish(&vm.guest);
		CHECK_EQ(vm_wait(&vm, 1), 1);
	}
	CHECK(stop(&rig, &vm, 1) >= 0);
	vm_destroy(&vm);
	rig_destroy(&rig);
}

/* What waits in the ring when it starts is served without a kick; so is what waits when stopped
 * and started again. */
static void serves_what_waits(void)
{
	struct rig rig;
	struct vm vm;

	REQUIRE(rig_create(&rig, VHC_MODE_INTERRUPT));
	REQUIRE(vm_create(&vm, 1, 0, null_disk()));
	for (int i = 0; i < 3; i++) {
		for (uint32_t j = 0; j < 4; j++)
			guest_offer(&vm.guest,
				    guest_request(&vm.guest, j, false, VIRTIO_BLK_T_IN, 8, 4096));
		guest_publish(&vm.guest);
		REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
		CHECK_EQ(vm_wait(&vm, 4), 4);
		CHECK_EQ(stop(&rig, &vm, 1), 4 * (i + 1));
	}
	vm_destroy(&vm);
	rig_destroy(&rig);
}

static void refuses_misuse(void)
{
	struct rig rig, other;
	struct vm vm;

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE) && rig_create(&other, VHC_MODE_ADAPTIVE));
	REQUIRE(vm_create(&vm, 1, 0, null_disk()));
	CHECK_EQ(vhc_reactor_stop_ring(rig.reactor, vm.ring), -ENOENT);
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	CHECK_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), -EBUSY);
	CHECK_EQ(vhc_reactor_start_blk_ring(other.reactor, vm.ring, vm.blk, 0), -EBUSY);
	CHECK_EQ(vhc_reactor_stop_ring(other.reactor, vm.ring), -ENOENT);
	CHECK_EQ(vhc_reactor_release(rig.reactor), -EBUSY);
	CHECK(stop(&rig, &vm, 1) >= 0);
	CHECK_EQ(vhc_reactor_stop_ring(rig.reactor, vm.ring), -ENOENT);
	vm_destroy(&vm);
	rig_destroy(&rig);
	rig_destroy(&other);
}

static void refuses_bad_configs(void)
{
	struct vhc_reactor *reactor = NULL;
	struct vhc_reactor_config config = {.cpu = -1, .mode = 3};
	struct reader reader;
	uint64_t stats;
	int before;

	REQUIRE(reader_open(&reader));
	before = check_open_fds();
	CHECK_EQ(vhc_reactor_create(reader.upcalls, &config, &reactor, &stats), -EINVAL);
	config = (struct vhc_reactor_config){.cpu = -2};
	CHECK_EQ(vhc_reactor_create(reader.upcalls, &config, &reactor, &stats), -EINVAL);
	config = (struct vhc_reactor_config){.cpu = 4000};
	CHECK_EQ(vhc_reactor_create(reader.upcalls, &config, &reactor, &stats), -EINVAL);
	CHECK(reactor == NULL);
	CHECK_EQ(check_open_fds(), before);
	reader_close(&reader);
}

static void runs_on_its_processor(void)
{
	struct vhc_reactor_config config = {.cpu = 0};
	struct vhc_reactor *reactor;
	struct reader reader;
	cpu_set_t cpus;
	uint64_t stats;

	REQUIRE(reader_open(&reader));
	REQUIRE_EQ(vhc_reactor_create(reader.upcalls, &config, &reactor, &stats), 0);
	CPU_ZERO(&cpus);
	pid_t tid = (pid_t)counter(&((struct vhc_reactor_stats *)(uintptr_t)stats)->tid);
	CHECK_EQ(sched_getaffinity(tid, sizeof(cpus), &cpus), 0);
	CHECK_EQ(CPU_COUNT(&cpus), 1);
	CHECK(CPU_ISSET(0, &cpus));
	CHECK_EQ(vhc_reactor_release(reactor), 0);
	reader_close(&reader);
}

/* A corrupt ring is told of once, on both ways, and hurts no other. */
static void breaks_only_the_bad_ring(void)
{
	const struct vhc_upcall *upcall;
	struct rig rig;
	struct vm good, bad;

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE(vm_create(&good, 1, 0, null_disk()) && vm_create(&bad, 2, 0, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, good.ring, good.blk, 0), 0);
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, bad.ring, bad.blk, 0), 0);
	guest_offer(&bad.guest, SIZE);
	guest_publish(&bad.guest);
	eventfd_write(bad.kick_fd, 1);
	CHECK(check_readable(bad.err_fd, PATIENCE_MS));
	upcall = reader_next(&rig.reader, PATIENCE_MS);
	REQUIRE(upcall != NULL);
	CHECK_EQ(upcall->type, VHC_UPCALL_RING_BROKEN);
	CHECK_EQ(upcall->id, 2);
	CHECK_EQ(upcall->status, -EPROTO);
	CHECK_EQ(upcall->arg, VHC_BREAK_HEAD_RANGE);
	for (int i = 0; i < 5; i++) {
		eventfd_write(bad.kick_fd, 1);
		vm_offer(&good, 3);
		CHECK_EQ(vm_wait(&good, 3), 3);
	}
	/* Told once: the next upcalls are those of the stops. */
	CHECK_EQ(stop(&rig, &bad, 2), 0);
	CHECK_EQ(stop(&rig, &good, 1), 15);
	vm_destroy(&good);
	vm_destroy(&bad);
	rig_destroy(&rig);
}

static void offer_too_many(struct guest *guest)
{
	guest->next_avail = SIZE + 1;
}

static void offer_twice(struct guest *guest)
{
	guest_request(guest, 0, false, VIRTIO_BLK_T_IN, 8, 4096);
	guest_offer(guest, 0);
	guest_offer(guest, 0);
}

static void tells_why(void (*offer)(struct guest *guest), enum vhc_break_reason why)
{
	const struct vhc_upcall *upcall;
	struct rig rig;
	struct vm vm;

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE(vm_create(&vm, 1, 0, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	offer(&vm.guest);
	guest_publish(&vm.guest);
	eventfd_write(vm.kick_fd, 1);
	upcall = reader_next(&rig.reader, PATIENCE_MS);
	REQUIRE(upcall != NULL);
	CHECK_EQ(upcall->type, VHC_UPCALL_RING_BROKEN);
	CHECK_EQ(upcall->arg, why);
	CHECK(stop(&rig, &vm, 1) >= 0);
	vm_destroy(&vm);
	rig_destroy(&rig);
}

/* Each way to corrupt a ring is told as what it is. */
static void tells_the_reason(void)
{
	tells_why(offer_too_many, VHC_BREAK_AVAIL_INDEX);
	tells_why(offer_twice, VHC_BREAK_HEAD_TWICE);
}

static void breaks_when_memory_goes(void)
{
	const struct vhc_upcall *upcall;
	struct rig rig;
	struct vm vm;

	REQUIRE(rig_create(&rig, VHC_MODE_POLL));
	REQUIRE(vm_create(&vm, 3, 0, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	vm_offer(&vm, 1);
	CHECK_EQ(vm_wait(&vm, 1), 1);
	CHECK_EQ(ftruncate(vm.guest.fd, 0), 0);
	upcall = reader_next(&rig.reader, PATIENCE_MS);
	REQUIRE(upcall != NULL);
	CHECK_EQ(upcall->type, VHC_UPCALL_RING_BROKEN);
	CHECK_EQ(upcall->id, 3);
	CHECK_EQ(upcall->status, -EFAULT);
	CHECK_EQ(upcall->arg, VHC_BREAK_MEMORY);
	CHECK(stop(&rig, &vm, 3) >= 0);
	vm_destroy(&vm);
	rig_destroy(&rig);
}

/* A stop waits for what is in flight, and nothing new is taken meanwhile. */
static void drains(void)
{
	struct slow slow;
	struct rig rig;
	struct vm vm;
	const struct vhc_upcall *upcall;

	slow_init(&slow, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	bdev_ref(&slow.bdev);
	REQUIRE(vm_create(&vm, 1, 0, &slow.bdev));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	vm_offer(&vm, 5);
	REQUIRE(EVENTUALLY(atomic_load(&slow.asked) == 5));
	slow_allow(&slow, 2);
	CHECK_EQ(vm_wait(&vm, 2), 2);
	REQUIRE_EQ(vhc_reactor_stop_ring(rig.reactor, vm.ring), 0);
	CHECK_EQ(vhc_reactor_stop_ring(rig.reactor, vm.ring), -EALREADY);
	CHECK(reader_next(&rig.reader, 20) == NULL);
	guest_offer(&vm.guest, guest_request(&vm.guest, 6, false, VIRTIO_BLK_T_IN, 8, 4096));
	guest_publish(&vm.guest);
	eventfd_write(vm.kick_fd, 1);
	slow_allow(&slow, 10);
	upcall = reader_next(&rig.reader, PATIENCE_MS);
	REQUIRE(upcall != NULL);
	CHECK_EQ(upcall->type, VHC_UPCALL_RING_STOPPED);
	CHECK_EQ(upcall->arg, 5);
	CHECK_EQ(vm_wait(&vm, 3), 3);
	CHECK_EQ(atomic_load(&slow.asked), 5);
	CHECK_EQ(atomic_load(&slow.opened), 1);
	CHECK_EQ(atomic_load(&slow.closed), 1);
	vm_destroy(&vm);
	rig_destroy(&rig);
	close(slow.event_fd);
}

/* Sleeps while requests are in flight, if their end will wake it; else polls for it. */
static void waits_for_completions(bool events, uint32_t mode)
{
	struct slow slow;
	struct rig rig;
	struct vm vm;

	slow_init(&slow, events ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1);
	REQUIRE(rig_create(&rig, mode));
	bdev_ref(&slow.bdev);
	REQUIRE(vm_create(&vm, 1, 0, &slow.bdev));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	for (uint32_t i = 1; i <= 20; i++) {
		uint64_t sleeps = counter(&rig.stats->wakeups);

		vm_offer(&vm, 1);
		REQUIRE(EVENTUALLY(atomic_load(&slow.asked) == i));
		if (events && i % 2)
			CHECK(EVENTUALLY(counter(&rig.stats->polled) == 0));
		slow_allow(&slow, 1);
		CHECK_EQ(vm_wait(&vm, 1), 1);
		if (events && i % 2)
			CHECK(EVENTUALLY(counter(&rig.stats->wakeups) > sleeps));
	}
	CHECK_EQ(stop(&rig, &vm, 1), 20);
	vm_destroy(&vm);
	rig_destroy(&rig);
	if (events)
		close(slow.event_fd);
}

static void completions_wake_it(void)
{
	waits_for_completions(true, VHC_MODE_ADAPTIVE);
	waits_for_completions(true, VHC_MODE_INTERRUPT);
}

static void completions_are_polled_for(void)
{
	waits_for_completions(false, VHC_MODE_ADAPTIVE);
	waits_for_completions(false, VHC_MODE_INTERRUPT);
}

/* Rings on one bdev share a channel, which lives as long as one of them. */
static void shares_channels(void)
{
	struct slow slow;
	struct rig rig;
	struct vm vms[3];

	slow_init(&slow, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	for (uint32_t i = 0; i < 3; i++) {
		bdev_ref(&slow.bdev);
		REQUIRE(vm_create(&vms[i], i, 0, &slow.bdev));
		REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vms[i].ring, vms[i].blk, 0), 0);
	}
	CHECK_EQ(atomic_load(&slow.opened), 1);
	for (uint32_t i = 0; i < 3; i++) {
		CHECK_EQ(atomic_load(&slow.closed), 0);
		CHECK(stop(&rig, &vms[i], i) >= 0);
		vm_destroy(&vms[i]);
	}
	CHECK_EQ(atomic_load(&slow.closed), 1);
	rig_destroy(&rig);
	close(slow.event_fd);
}

/*
 * A peer that makes its call descriptor block, and fills it, stops neither the
 * reactor nor the other ring: its own ring breaks.
 */
static void cannot_be_made_to_hang(void)
{
	const struct vhc_upcall *upcall;
	struct rig rig;
	struct vm good, bad;

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE(vm_create(&good, 1, 0, null_disk()) && vm_create(&bad, 2, 0, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, good.ring, good.blk, 0), 0);
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, bad.ring, bad.blk, 0), 0);
	CHECK_EQ(fcntl(bad.call_fd, F_SETFL, 0), 0);
	CHECK_EQ(eventfd_write(bad.call_fd, UINT64_MAX - 1), 0);
	vm_offer(&bad, 1);
	upcall = reader_next(&rig.reader, PATIENCE_MS);
	REQUIRE(upcall != NULL);
	CHECK_EQ(upcall->type, VHC_UPCALL_RING_BROKEN);
	CHECK_EQ(upcall->id, 2);
	CHECK_EQ(upcall->status, -EPROTO);
	CHECK_EQ(upcall->arg, VHC_BREAK_CALL);
	vm_offer(&good, 4);
	CHECK_EQ(vm_wait(&good, 4), 4);
	CHECK(stop(&rig, &bad, 2) >= 0);
	CHECK(stop(&rig, &good, 1) >= 0);
	vm_destroy(&good);
	vm_destroy(&bad);
	rig_destroy(&rig);
}

/* A full call descriptor that does not block says what there is to say. */
static void full_calls_are_calls(void)
{
	struct rig rig;
	struct vm vm;
	struct vring_used_elem used;

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE(vm_create(&vm, 1, 0, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	CHECK_EQ(eventfd_write(vm.call_fd, UINT64_MAX - 1), 0);
	vm_offer(&vm, 1);
	CHECK(EVENTUALLY(guest_used(&vm.guest, &used)));
	CHECK(stop(&rig, &vm, 1) >= 0);
	vm_destroy(&vm);
	rig_destroy(&rig);
}

/*
 * QEMU changes a ring's call descriptor when the driver may use it already: what
 * was put before is told again, though the driver asks for no call.
 */
static void a_second_start_calls(void)
{
	struct rig rig;
	struct vm vm;
	struct vring_used_elem used;
	uint64_t count;

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE(vm_create(&vm, 1, 0, null_disk()));
	__atomic_store_n(&vm.guest.avail->flags, VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_SEQ_CST);
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	vm_offer(&vm, 1);
	CHECK(EVENTUALLY(guest_used(&vm.guest, &used)));
	CHECK(stop(&rig, &vm, 1) >= 0);
	CHECK(!check_readable(vm.call_fd, 0));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
	CHECK(check_readable(vm.call_fd, PATIENCE_MS));
	CHECK_EQ(read(vm.call_fd, &count, sizeof(count)), sizeof(count));
	CHECK_EQ(count, 1);
	CHECK(stop(&rig, &vm, 1) >= 0);
	vm_destroy(&vm);
	rig_destroy(&rig);
}

/* With the upcall ring full the reactor goes on, and tells when there is room. */
static void upcalls_wait_for_room(void)
{
	const struct upcall_event filler = {.type = VHC_UPCALL_LOAD_DONE, .id = 99};
	const struct vhc_upcall *upcall;
	struct rig rig;
	struct vm good, bad;
	uint32_t fillers = 0;

	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	REQUIRE(vm_create(&good, 1, 0, null_disk()) && vm_create(&bad, 2, 0, null_disk()));
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, good.ring, good.blk, 0), 0);
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, bad.ring, bad.blk, 0), 0);
	while (upcall_post(rig.reader.upcalls, &filler, NULL, 0, NULL, 0) == 0)
		fillers++;
	guest_offer(&bad.guest, SIZE);
	guest_publish(&bad.guest);
	eventfd_write(bad.kick_fd, 1);
	CHECK(check_readable(bad.err_fd, PATIENCE_MS));
	vm_offer(&good, 2);
	CHECK_EQ(vm_wait(&good, 2), 2);
	CHECK_EQ(vhc_reactor_stop_ring(rig.reactor, good.ring), 0);
	/* Stopped, but nobody heard: it is still the reactor's to tell. */
	CHECK_EQ(vhc_reactor_release(rig.reactor), -EBUSY);
	for (uint32_t i = 0; i < fillers; i++) {
		upcall = reader_next(&rig.reader, PATIENCE_MS);
		REQUIRE(upcall != NULL);
		CHECK_EQ(upcall->id, 99);
	}
	bool broken = false, stopped = false;
	for (int i = 0; i < 2; i++) {
		upcall = reader_next(&rig.reader, PATIENCE_MS);
		REQUIRE(upcall != NULL);
		broken |= upcall->type == VHC_UPCALL_RING_BROKEN && upcall->id == 2;
		stopped |= upcall->type == VHC_UPCALL_RING_STOPPED && upcall->id == 1;
	}
	CHECK(broken && stopped);
	CHECK(stop(&rig, &bad, 2) >= 0);
	vm_destroy(&good);
	vm_destroy(&bad);
	rig_destroy(&rig);
}

static void leaks_nothing(void)
{
	int before = check_open_fds();

	for (int i = 0; i < 20; i++) {
		struct rig rig;
		struct vm vm;

		REQUIRE(rig_create(&rig, (uint32_t)i % 3));
		REQUIRE(vm_create(&vm, 1, 0, null_disk()));
		REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, vm.ring, vm.blk, 0), 0);
		vm_offer(&vm, 1);
		CHECK_EQ(vm_wait(&vm, 1), 1);
		CHECK(stop(&rig, &vm, 1) >= 0);
		vm_destroy(&vm);
		rig_destroy(&rig);
	}
	CHECK_EQ(check_open_fds(), before);
}

int main(void)
{
	RUN(serves_adaptively);
	RUN(serves_polling);
	RUN(serves_interrupts);
	RUN(sleeps_when_idle);
	RUN(polls_without_kicks);
	RUN(serves_what_waits);
	RUN(refuses_misuse);
	RUN(refuses_bad_configs);
	RUN(runs_on_its_processor);
	RUN(breaks_only_the_bad_ring);
	RUN(tells_the_reason);
	RUN(breaks_when_memory_goes);
	RUN(drains);
	RUN(completions_wake_it);
	RUN(completions_are_polled_for);
	RUN(shares_channels);
	RUN(cannot_be_made_to_hang);
	RUN(full_calls_are_calls);
	RUN(a_second_start_calls);
	RUN(upcalls_wait_for_room);
	RUN(leaks_nothing);
	return check_report();
}
