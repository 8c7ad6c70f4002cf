/* SPDX-License-Identifier: MIT */
/*
 * Rings behind an IOMMU: memory that is missing is asked for once, the ring waits for it
 * and for nothing else, and then goes on as if it had been there. Also tables that are
 * replaced under requests in flight.
 */
#include <errno.h>

#include "packed_guest.h"
#include "scsi_vm.h"

#define PAGE 4096u
#define ENTRIES 256u
#define IOVA (UINT64_C(1) << 40) /* of the guest's first byte */
#define ID 4u
#define RW (VHC_MEM_READ | VHC_MEM_WRITE)

static struct iommu {
	struct packed_guest pg;
	struct guest *guest;
	bool packed;
	struct vhc_mem *view; /* as the ring has it */
	struct rig rig;
	struct slow slow;
	struct vhc_ring *ring;
	int kick_fd;
	uint32_t num_refused; /* told of */
} vm;

static struct vhc_ring_config ring_config(void)
{
	struct vhc_ring_config config = vm.packed ? packed_guest_config(&vm.pg, GUEST_INDIRECT)
						  : guest_ring_config(vm.guest, GUEST_INDIRECT);

	config.features |= UINT64_C(1) << VIRTIO_F_ACCESS_PLATFORM;
	config.mem = (uint64_t)(uintptr_t)vm.view;
	config.desc += IOVA - GUEST_USER;
	config.avail += IOVA - GUEST_USER;
	config.used += IOVA - GUEST_USER;
	config.kick_fd = vm.kick_fd;
	config.id = ID;
	return config;
}

static int show(struct vhc_mem *view, const void *at, uint64_t len, uint32_t access)
{
	uint64_t offset = (uint64_t)((const uint8_t *)at - vm.guest->memory) / PAGE * PAGE;

	return vhc_mem_show(view, IOVA + offset, len, GUEST_USER + offset, access);
}

/* A view with the ring in it, and nothing else. */
static bool vm_open(bool packed)
{
	struct vhc_ring_config config;

	vm = (struct iommu){.packed = packed, .guest = &vm.pg.guest};
	vm.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	slow_init(&vm.slow, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (!(packed ? packed_guest_create(&vm.pg, ENTRIES) : guest_create(vm.guest, ENTRIES)) ||
	    !rig_create(&vm.rig, VHC_MODE_ADAPTIVE) ||
	    vhc_mem_create_view(vm.guest->mem, &vm.view) ||
	    show(vm.view, vm.guest->memory, GUEST_DATA, RW))
		return false;
	config = ring_config();
	return CHECK_EQ(vhc_ring_create(&config, &vm.ring), 0);
}

static bool vm_stop(void)
{
	const struct vhc_upcall *up;

	CHECK_EQ(vhc_reactor_stop_ring(vm.rig.reactor, vm.ring), 0);
	up = reader_next(&vm.rig.reader, PATIENCE_MS);
	return up && CHECK_EQ(up->type, VHC_UPCALL_RING_STOPPED);
}

/* After the ring has stopped. */
static void vm_close(void)
{
	rig_destroy(&vm.rig);
	vhc_ring_release(vm.ring);
	vhc_mem_release(vm.view);
	guest_destroy(vm.guest);
	close(vm.slow.event_fd);
	close(vm.kick_fd);
}

/* The next upcall is that this is missing, but for those that what was refused is told by. */
static bool misses(const void *at, uint32_t access)
{
	const struct vhc_upcall *up = reader_next(&vm.rig.reader, PATIENCE_MS);
	uint64_t offset = (uint64_t)((const uint8_t *)at - vm.guest->memory);

	for (; up && up->type == VHC_UPCALL_MALFORMED;
	     up = reader_next(&vm.rig.reader, PATIENCE_MS)) {
		CHECK_EQ(up->status, -EFAULT);
		vm.num_refused++;
	}

	return CHECK(up) && CHECK_EQ(up->type, VHC_UPCALL_IOTLB_MISS) && CHECK_EQ(up->id, ID) &&
	       CHECK_EQ(up->arg, IOVA + offset) && CHECK_EQ(up->status, access);
}

static bool nothing_up(void)
{
	return reader_next(&vm.rig.reader, 10) == NULL;
}

/* Gives the ring a view with one page more, or less. */
static void swap(const void *at, uint32_t access, int32_t refuse)
{
	uint64_t offset = (uint64_t)((const uint8_t *)at - vm.guest->memory) / PAGE * PAGE;
	struct vhc_mem *view;

	REQUIRE_EQ(vhc_mem_clone(vm.view, &view), 0);
	if (access)
		CHECK_EQ(show(view, at, PAGE, access), 0);
	else if (!refuse)
		CHECK_EQ(vhc_mem_hide(view, IOVA + offset, PAGE), 0);
	CHECK_EQ(vhc_reactor_set_mem(vm.rig.reactor, vm.ring, view, refuse), 0);
	vhc_mem_release(vm.view);
	vm.view = view;
}

/* ---- Requests ---- */

/* Offers a chain of which the addresses are I/O virtual ones. */
static void offer(const struct vring_desc *chain, uint32_t n, uint32_t i)
{
	struct vring_desc moved[4];

	for (uint32_t k = 0; k < n; k++) {
		moved[k] = chain[k];
		moved[k].addr += IOVA - GUEST_GPA;
		if (!vm.packed) {
			moved[k].next = (uint16_t)(4 * i + k + 1);
			moved[k].flags |= k + 1 < n ? VRING_DESC_F_NEXT : 0;
			vm.guest->desc[4 * i + k] = moved[k];
		}
	}
	if (vm.packed) {
		packed_offer(&vm.pg, moved, n, (uint16_t)i);
	} else {
		guest_offer(vm.guest, (uint16_t)(4 * i));
		guest_publish(vm.guest);
	}
	eventfd_write(vm.kick_fd, 1);
}

static int next_used(uint32_t *len)
{
	struct vring_used_elem used = {0};

	if (!(vm.packed ? packed_used(&vm.pg, &used) : guest_used(vm.guest, &used)))
		return -1;
	*len = used.len;
	return (int)(vm.packed ? used.id : used.id / 4);
}

/* A block request whose header and status are in a page, its data in the next. */
static void offer_read(uint32_t i, uint32_t len)
{
	struct vring_desc chain[3];

	packed_request(vm.guest, i, false, VIRTIO_BLK_T_IN, i * 8, len, chain);
	offer(chain, 3, i);
}

static bool ended(uint32_t i, uint32_t len, uint8_t status)
{
	uint32_t written = 0;
	int id = -1;

	EVENTUALLY((id = next_used(&written)) >= 0);
	return CHECK_EQ(id, i) && CHECK_EQ(written, len) &&
	       CHECK_EQ(*guest_status(vm.guest, i), status);
}

static struct vhc_blk *make_blk(struct vhc_bdev *bdev)
{
	struct vhc_blk_config config = {.bdev = (uint64_t)(uintptr_t)bdev,
					.features = UINT64_C(1) << VIRTIO_BLK_F_FLUSH};
	struct vhc_blk *blk = NULL;

	return vhc_blk_create(&config, &blk) ? NULL : blk;
}

static bool start_blk(struct vhc_bdev *bdev)
{
	struct vhc_blk *blk = make_blk(bdev);
	int result = blk ? vhc_reactor_start_blk_ring(vm.rig.reactor, vm.ring, blk, 0) : -ENOMEM;

	vhc_blk_release(blk);
	return CHECK_EQ(result, 0);
}

static void asks_for_what_is_missing(bool packed, bool slow)
{
	struct vhc_bdev *disk = null_disk();
	uint64_t loops;

	REQUIRE(vm_open(packed));
	atomic_store(&vm.slow.allowed, 1000);
	REQUIRE(start_blk(slow ? &vm.slow.bdev : disk));
	vhc_bdev_release(disk);
	/* The first of three misses; those behind it wait. */
	for (uint32_t i = 0; i < 3; i++)
		offer_read(i, 4096);
	REQUIRE(misses(guest_header(vm.guest, 0), VHC_MEM_READ));
	CHECK(nothing_up());
	/* It sleeps, kicked or not. */
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	loops = counter(&vm.rig.stats->loops);
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	CHECK(counter(&vm.rig.stats->loops) - loops < 10);
	swap(guest_header(vm.guest, 0), RW, 0);
	REQUIRE(misses(guest_data(vm.guest, 0), VHC_MEM_WRITE));
	/* May be read: that is not enough. */
	swap(guest_data(vm.guest, 0), VHC_MEM_READ, 0);
	REQUIRE(misses(guest_data(vm.guest, 0), VHC_MEM_WRITE));
	swap(guest_data(vm.guest, 0), VHC_MEM_WRITE, 0);
	CHECK(ended(0, 4097, VIRTIO_BLK_S_OK));
	REQUIRE(misses(guest_header(vm.guest, 1), VHC_MEM_READ));
	swap(guest_header(vm.guest, 1), RW, 0);
	REQUIRE(misses(guest_data(vm.guest, 1), VHC_MEM_WRITE));
	/* Refused: that request alone ends, and is not answered as nothing of it is known. */
	swap(guest_data(vm.guest, 1), 0, 1);
	CHECK(ended(1, 0, 0xff));
	REQUIRE(misses(guest_header(vm.guest, 2), VHC_MEM_READ));
	CHECK_EQ(vm.num_refused, 1);
	CHECK(nothing_up());
	/* One that waits does not keep a ring from being stopped. */
	REQUIRE(vm_stop());
	CHECK_EQ(vhc_ring_base(vm.ring), packed ? 0x80068006u : 2);
	REQUIRE(start_blk(&vm.slow.bdev));
	REQUIRE(vm_stop());
	vm_close();
}

/* What was refused when nothing waited any more is asked for when it is wanted again. */
static void refuses_too_late(bool packed)
{
	struct vhc_bdev *disk = null_disk();

	REQUIRE(vm_open(packed));
	REQUIRE(start_blk(disk));
	vhc_bdev_release(disk);
	offer_read(0, 4096);
	REQUIRE(misses(guest_header(vm.guest, 0), VHC_MEM_READ));
	swap(guest_header(vm.guest, 0), RW, 0);
	REQUIRE(misses(guest_data(vm.guest, 0), VHC_MEM_WRITE));
	swap(guest_data(vm.guest, 0), VHC_MEM_WRITE, 0);
	CHECK(ended(0, 4097, VIRTIO_BLK_S_OK));
	swap(guest_data(vm.guest, 0), 0, 0);
	swap(guest_data(vm.guest, 0), 0, 1);
	offer_read(0, 4096);
	REQUIRE(misses(guest_data(vm.guest, 0), VHC_MEM_WRITE));
	swap(guest_data(vm.guest, 0), VHC_MEM_WRITE, 0);
	CHECK(ended(0, 4097, VIRTIO_BLK_S_OK));
	REQUIRE(vm_stop());
	vm_close();
}

static void late_refusals(void)
{
	refuses_too_late(false);
	refuses_too_late(true);
}

static void misses_of_block_rings(void)
{
	for (int i = 0; i < 4 && check_ok; i++)
		asks_for_what_is_missing(i & 1, i & 2);
}

/* What came before the one that misses goes its way. */
static void others_go_on(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		REQUIRE(vm_open(packed));
		REQUIRE_EQ(show(vm.view, guest_header(vm.guest, 0), 8 * 8192, RW), 0);
		for (uint32_t i = 0; i < 10; i++)
			offer_read(i, 4096);
		REQUIRE(start_blk(&vm.slow.bdev));
		REQUIRE(misses(guest_header(vm.guest, 8), VHC_MEM_READ));
		CHECK_EQ(atomic_load(&vm.slow.asked), 8);
		slow_allow(&vm.slow, 5);
		for (uint32_t i = 0; i < 5; i++)
			CHECK(ended(i, 4097, VIRTIO_BLK_S_OK));
		/* Another table while three are in flight; the old one is theirs until they end. */
		for (uint32_t i = 8; i < 10; i++) {
			swap(guest_header(vm.guest, i), RW, 0);
			REQUIRE(misses(guest_data(vm.guest, i), VHC_MEM_WRITE));
			swap(guest_data(vm.guest, i), RW, 0);
			if (i == 8)
				REQUIRE(misses(guest_header(vm.guest, 9), VHC_MEM_READ));
		}
		slow_allow(&vm.slow, 5);
		for (uint32_t i = 5; i < 10; i++)
			CHECK(ended(i, 4097, VIRTIO_BLK_S_OK));
		CHECK(nothing_up());
		REQUIRE(vm_stop());
		vm_close();
	}
}

/* In an indirect table, and the table itself; in the second page of a piece. */
static void misses_anywhere_in_a_chain(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		struct vhc_bdev *disk = null_disk();
		uint8_t *table;

		REQUIRE(vm_open(packed));
		REQUIRE(start_blk(disk));
		vhc_bdev_release(disk);
		table = guest_data(vm.guest, 20) - 16;
		for (uint32_t lap = 0; lap < 2; lap++) {
			struct vring_desc chain[3];

			/* Of 8 KiB, into the next slot; the table lies in two pages. */
			packed_request(vm.guest, 0, false, VIRTIO_BLK_T_IN, 0, 8192, chain);
			for (uint32_t k = 0; k < 3; k++) {
				chain[k].addr += IOVA - GUEST_GPA;
				chain[k].next = (uint16_t)(k + 1);
				chain[k].flags |= !packed && k < 2 ? VRING_DESC_F_NEXT : 0;
			}
			if (packed)
				chain[0] = packed_table(vm.guest, table, chain, 3);
			else
				memcpy(table, chain, sizeof(chain));
			chain[0] = (struct vring_desc){guest_gpa(vm.guest, table), 48,
						       VRING_DESC_F_INDIRECT, 0};
			offer(chain, 1, 0);
			if (lap == 0) {
				REQUIRE(misses(table, VHC_MEM_READ));
				swap(table, VHC_MEM_READ, 0);
				REQUIRE(misses(table + 16, VHC_MEM_READ));
				swap(table + 16, VHC_MEM_READ, 0);
				REQUIRE(misses(guest_header(vm.guest, 0), VHC_MEM_READ));
				swap(guest_header(vm.guest, 0), RW, 0);
				REQUIRE(misses(guest_data(vm.guest, 0), VHC_MEM_WRITE));
				swap(guest_data(vm.guest, 0), RW, 0);
				REQUIRE(misses(guest_data(vm.guest, 0) + PAGE, VHC_MEM_WRITE));
				swap(guest_data(vm.guest, 0) + PAGE, RW, 0);
			}
			CHECK(ended(0, 8193, VIRTIO_BLK_S_OK));
		}
		/* What is hidden again is missed again, also where it was used last. */
		swap(guest_data(vm.guest, 0), 0, 0);
		offer_read(0, 512);
		REQUIRE(misses(guest_data(vm.guest, 0), VHC_MEM_WRITE));
		swap(guest_data(vm.guest, 0), RW, 0);
		CHECK(ended(0, 513, VIRTIO_BLK_S_OK));
		REQUIRE(vm_stop());
		vm_close();
	}
}

/* ---- The other kinds of ring ---- */

static void misses_of_scsi_rings(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		struct vhc_bdev *disk = null_disk();
		struct vhc_lun_config unit = unit_config(disk);
		struct vhc_lun *lun = NULL;

		REQUIRE(vm_open(packed));
		REQUIRE_EQ(vhc_lun_create(&unit, &lun), 0);
		vhc_bdev_release(disk);
		REQUIRE_EQ(vhc_reactor_start_scsi_ring(vm.rig.reactor, vm.ring, &default_sizes), 0);
		REQUIRE_EQ(vhc_reactor_attach_lun(vm.rig.reactor, vm.ring, UNIT, lun, 0), 0);
		for (uint32_t i = 0; i < 6 && check_ok; i++) {
			struct vring_desc chain[4];
			uint32_t len = 0;
			int id = -1;

			guest_cdb_10(guest_set_command(vm.guest, i, UNIT >> 16, UNIT & 0xff)->cdb,
				     0x28, i, 1);
			offer(chain, packed_command(vm.guest, i, false, 0, 512, chain), i);
			REQUIRE(misses(guest_command(vm.guest, i), VHC_MEM_READ));
			swap(guest_command(vm.guest, i), RW, 0);
			REQUIRE(misses(guest_data(vm.guest, i), VHC_MEM_WRITE));
			swap(guest_data(vm.guest, i), i % 2 ? RW : 0, i % 2 == 0);
			CHECK(EVENTUALLY((id = next_used(&len)) >= 0));
			CHECK_EQ(id, i);
			CHECK_EQ(len, i % 2 ? SCSI_GUEST_RESPONSE + 512 : 0);
		}
		REQUIRE(vm_stop());
		vhc_lun_release(lun);
		vm_close();
	}
}

static void offer_buffer(uint32_t i)
{
	const struct vring_desc chain = {guest_gpa(vm.guest, guest_data(vm.guest, i)), 16,
					 VRING_DESC_F_WRITE, 0};

	offer(&chain, 1, i);
}

static void misses_of_raw_rings(void)
{
	for (int packed = 0; packed < 2 && check_ok; packed++) {
		const struct vhc_upcall *up;
		uint32_t len = 0;

		REQUIRE(vm_open(packed));
		REQUIRE_EQ(vhc_reactor_start_raw_ring(vm.rig.reactor, vm.ring), 0);
		offer_buffer(0);
		REQUIRE(misses(guest_data(vm.guest, 0), VHC_MEM_WRITE));
		swap(guest_data(vm.guest, 0), RW, 0);
		up = reader_next(&vm.rig.reader, PATIENCE_MS);
		REQUIRE(up && up->type == VHC_UPCALL_REQUEST);
		vhc_request_complete_raw(up->arg, 16);
		CHECK(EVENTUALLY(next_used(&len) == 0));
		CHECK_EQ(len, 16);
		REQUIRE(vm_stop());
		vm_close();
	}
}

/* An event whose buffer misses is missed, and that is told of once the buffer is there. */
static void misses_of_event_rings(void)
{
	static const uint8_t event[16] = {1};

	for (int packed = 0; packed < 2 && check_ok; packed++) {
		uint32_t len = 0;

		REQUIRE(vm_open(packed));
		REQUIRE_EQ(vhc_reactor_start_event_ring(vm.rig.reactor, vm.ring), 0);
		offer_buffer(0);
		CHECK_EQ(vhc_reactor_send_event(vm.rig.reactor, vm.ring, event), 0);
		REQUIRE(misses(guest_data(vm.guest, 0), VHC_MEM_WRITE));
		CHECK(nothing_up());
		swap(guest_data(vm.guest, 0), RW, 0);
		CHECK(EVENTUALLY(next_used(&len) == 0));
		CHECK_EQ(*(const uint32_t *)guest_data(vm.guest, 0), 0x80000000u);
		REQUIRE(vm_stop());
		vm_close();
	}
}

/* ---- Rings and tables ---- */

static void a_ring_has_to_be_shown(void)
{
	struct vhc_ring *ring = NULL;
	struct vhc_ring_config config;

	REQUIRE(vm_open(false));
	config = ring_config();
	CHECK_EQ(vhc_mem_hide(vm.view, config.used, PAGE), 0);
	CHECK_EQ(vhc_ring_create(&config, &ring), -EFAULT);
	CHECK_EQ(show(vm.view, vm.guest->used, PAGE, VHC_MEM_READ), 0);
	CHECK_EQ(vhc_ring_create(&config, &ring), -EFAULT);
	CHECK_EQ(show(vm.view, vm.guest->used, PAGE, RW), 0);
	CHECK_EQ(vhc_ring_create(&config, &ring), 0);
	vhc_ring_release(ring);
	vm_close();
}

/* A table to which a region was added while requests are in flight; and one removed. */
static void tables_of_rings_are_replaced(void)
{
	const uint64_t more = GUEST_GPA + 2 * GUEST_BYTES;
	struct vhc_mem *without, *with, *none;
	struct vm plain;
	struct rig rig;
	struct slow slow;

	slow_init(&slow, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	REQUIRE(rig_create(&rig, VHC_MODE_ADAPTIVE));
	bdev_ref(&slow.bdev);
	REQUIRE(vm_create(&plain, 1, 0, &slow.bdev));
	without = plain.guest.mem;
	CHECK_EQ(vhc_reactor_set_mem(rig.reactor, plain.ring, without, 0), -ENOENT);
	REQUIRE_EQ(vhc_reactor_start_blk_ring(rig.reactor, plain.ring, plain.blk, 0), 0);
	REQUIRE_EQ(vhc_mem_create(&none), 0);
	CHECK_EQ(vhc_reactor_set_mem(rig.reactor, plain.ring, none, 0), -EFAULT);
	vhc_mem_release(none);
	for (uint32_t i = 0; i < 100 && check_ok; i++) {
		uint8_t *status;

		REQUIRE_EQ(vhc_mem_clone(without, &with), 0);
		REQUIRE_EQ(vhc_mem_add_region(with, more, GUEST_BYTES / 2,
					      GUEST_USER + 2 * GUEST_BYTES, plain.guest.fd,
					      GUEST_BYTES / 2),
			   0);
		CHECK_EQ(vhc_reactor_set_mem(rig.reactor, plain.ring, with, 0), 0);
		vhc_mem_release(with);
		/* Data and status in the new region: the second half of the old one. */
		status = plain.guest.memory + GUEST_BYTES / 2 + i;
		*status = 0xff;
		guest_offer(&plain.guest,
			    guest_request(&plain.guest, i % 8, false, VIRTIO_BLK_T_IN, 8, 4096));
		plain.guest.desc[3 * (i % 8) + 1].addr = more + 4096;
		plain.guest.desc[3 * (i % 8) + 2].addr = more + i;
		guest_publish(&plain.guest);
		vm_kick(&plain);
		CHECK(EVENTUALLY(atomic_load(&slow.asked) == i + 1));
		/* The region goes while the request is in flight; its memory does not. */
		CHECK_EQ(vhc_reactor_set_mem(rig.reactor, plain.ring, without, 0), 0);
		slow_allow(&slow, 1);
		CHECK_EQ(vm_wait(&plain, 1), 1);
		CHECK_EQ(*status, VIRTIO_BLK_S_OK);
	}
	CHECK_EQ(stop(&rig, &plain, 1), 100);
	rig_destroy(&rig);
	vm_destroy(&plain);
	close(slow.event_fd);
}

int main(void)
{
	RUN(late_refusals);
	RUN(misses_of_block_rings);
	RUN(others_go_on);
	RUN(misses_anywhere_in_a_chain);
	RUN(misses_of_scsi_rings);
	RUN(misses_of_raw_rings);
	RUN(misses_of_event_rings);
	RUN(a_ring_has_to_be_shown);
	RUN(tables_of_rings_are_replaced);
	return check_report();
}
