/* SPDX-License-Identifier: MIT */
/* A guest with one ring of a virtio-scsi device on a reactor, and its reader, for tests. */
#ifndef VHC_TEST_SCSI_VM_H
#define VHC_TEST_SCSI_VM_H

#include "scsi_guest.h"
#include "vm.h"

#define UNIT VHC_LUN_ADDRESS(3, 5)
#define RING_ID 9u

struct scsi_vm {
	struct rig rig;
	struct guest guest;
	struct vhc_ring *ring;
	struct vhc_lun *lun;
	struct vhc_stats *bdev_stats;
	struct slow slow;
	int kick_fd, call_fd, err_fd;
};

static const struct vhc_scsi_config default_sizes = {.cdb_size = 32, .sense_size = 96};

static inline struct vhc_lun_config unit_config(struct vhc_bdev *bdev)
{
	return (struct vhc_lun_config){
	    .bdev = (uint64_t)(uintptr_t)bdev,
	    .writeback = 1,
	    .max_blocks = 1024,
	    .max_unmap = 1024,
	    .max_write_same = 1024,
	};
}

static inline int start_scsi(struct scsi_vm *vm)
{
	return vhc_reactor_start_scsi_ring(vm->rig.reactor, vm->ring, &default_sizes);
}

static inline int attach(struct scsi_vm *vm, uint32_t address)
{
	return vhc_reactor_attach_lun(vm->rig.reactor, vm->ring, address, vm->lun,
				      (uint64_t)(uintptr_t)vm->bdev_stats);
}

/* A ring that does not run yet, and a slow disk. */
static inline bool scsi_vm_open(struct scsi_vm *vm, uint32_t mode, uint64_t features)
{
	struct vhc_ring_config config;
	struct vhc_lun_config unit;
	uint64_t stats;

	*vm = (struct scsi_vm){0};
	vm->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->err_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!rig_create(&vm->rig, mode) || !guest_create(&vm->guest, 4 * SIZE) ||
	    vhc_stats_alloc(&stats))
		return false;
	vm->bdev_stats = (struct vhc_stats *)(uintptr_t)stats;
	config = guest_ring_config(&vm->guest, features);
	config.kick_fd = vm->kick_fd;
	config.call_fd = vm->call_fd;
	config.err_fd = vm->err_fd;
	config.id = RING_ID;
	slow_init(&vm->slow, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	unit = unit_config(&vm->slow.bdev);
	return vhc_ring_create(&config, &vm->ring) == 0 && vhc_lun_create(&unit, &vm->lun) == 0;
}

/* One that runs, with the slow disk at UNIT. */
static inline bool scsi_vm_create(struct scsi_vm *vm, uint32_t mode, uint64_t features)
{
	return scsi_vm_open(vm, mode, features) && start_scsi(vm) == 0 && attach(vm, UNIT) == 0;
}

/* Puts another disk at UNIT, of which it takes the caller's reference. */
static inline bool use_disk(struct scsi_vm *vm, const struct vhc_lun_config *config)
{
	if (vhc_reactor_detach_lun(vm->rig.reactor, vm->ring, UNIT))
		return false;
	vhc_lun_release(vm->lun);
	if (vhc_lun_create(config, &vm->lun))
		return false;
	vhc_bdev_release((struct vhc_bdev *)(uintptr_t)config->bdev);
	return attach(vm, UNIT) == 0;
}

/* The next upcall, which is to be of a type. */
static inline const struct vhc_upcall *next_upcall(struct scsi_vm *vm, uint32_t type)
{
	const struct vhc_upcall *up = reader_next(&vm->rig.reader, PATIENCE_MS);

	if (!up) {
		CHECK_EQ(0, type);
		return NULL;
	}
	return CHECK_EQ(up->type, type) ? up : NULL;
}

static inline bool nothing_told(struct scsi_vm *vm)
{
	return reader_next(&vm->rig.reader, 20) == NULL;
}

static inline void stop_scsi(struct scsi_vm *vm)
{
	const struct vhc_upcall *up;

	CHECK_EQ(vhc_reactor_stop_ring(vm->rig.reactor, vm->ring), 0);
	up = next_upcall(vm, VHC_UPCALL_RING_STOPPED);
	CHECK(up && up->id == RING_ID);
}

/* After the ring has stopped. */
static inline void scsi_vm_close(struct scsi_vm *vm)
{
	rig_destroy(&vm->rig);
	vhc_ring_release(vm->ring);
	vhc_lun_release(vm->lun);
	CHECK_EQ(vm->bdev_stats->inflight, 0);
	vhc_stats_free((uint64_t)(uintptr_t)vm->bdev_stats);
	guest_destroy(&vm->guest);
	close(vm->slow.event_fd);
	close(vm->kick_fd);
	close(vm->call_fd);
	close(vm->err_fd);
}

static inline void scsi_vm_destroy(struct scsi_vm *vm)
{
	stop_scsi(vm);
	scsi_vm_close(vm);
}

/* ---- Requests ---- */

static inline void kick(struct scsi_vm *vm, uint16_t head)
{
	guest_offer(&vm->guest, head);
	guest_publish(&vm->guest);
	eventfd_write(vm->kick_fd, 1);
}

/* A command's slot, for UNIT. */
static inline uint8_t *command(struct scsi_vm *vm, uint32_t i)
{
	return guest_set_command(&vm->guest, i, UNIT >> 16, UNIT & 0xff)->cdb;
}

/* Sends what slot i has, with so much data. */
static inline void send_slot(struct scsi_vm *vm, uint32_t i, uint32_t out, uint32_t in)
{
	kick(vm, guest_chain(&vm->guest, i, false, out, in));
}

static inline void send_read(struct scsi_vm *vm, uint32_t i, uint32_t lba)
{
	guest_cdb_10(command(vm, i), 0x28, lba, 1);
	send_slot(vm, i, 0, 512);
}

static inline void send_write(struct scsi_vm *vm, uint32_t i, uint32_t lba)
{
	guest_cdb_10(command(vm, i), 0x2a, lba, 1);
	send_slot(vm, i, 512, 0);
}

/* TEST UNIT READY, which goes up. */
static inline void send_test(struct scsi_vm *vm, uint32_t i)
{
	command(vm, i);
	send_slot(vm, i, 0, 0);
}

/* Waits for a used element. */
static inline bool wait_used(struct scsi_vm *vm, struct vring_used_elem *used)
{
	return EVENTUALLY(guest_used(&vm->guest, used));
}

/* Waits for slot i to come back, with len bytes written. */
static inline bool came_back(struct scsi_vm *vm, uint32_t i, uint32_t len)
{
	struct vring_used_elem used = {0};

	return CHECK(wait_used(vm, &used)) && CHECK_EQ(used.id, 4 * i) && CHECK_EQ(used.len, len);
}

static inline bool is_quiet(struct scsi_vm *vm)
{
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	return __atomic_load_n(&vm->guest.used->idx, __ATOMIC_ACQUIRE) == vm->guest.last_used;
}

/* Whether a response says so. */
static inline bool responded(struct scsi_vm *vm, uint32_t i, uint8_t response, uint8_t status,
			     uint32_t residual)
{
	const struct virtio_scsi_cmd_resp *at = guest_response(&vm->guest, i);

	return CHECK_EQ(at->response, response) && CHECK_EQ(at->status, status) &&
	       CHECK_EQ(at->resid, residual) && CHECK_EQ(at->status_qualifier, 0);
}

/* The next upcall, a request; its handle. */
static inline uint64_t next_request(struct scsi_vm *vm, int32_t status,
				    struct vhc_request_info *info)
{
	const struct vhc_upcall *up = next_upcall(vm, VHC_UPCALL_REQUEST);

	if (!up || !CHECK_EQ(up->status, status) || !CHECK_EQ(up->id, RING_ID))
		return 0;
	memcpy(info, up->data, sizeof(*info));
	CHECK_EQ(up->len, sizeof(*info) + info->copied);
	return up->arg;
}

static inline void complete(uint64_t request, uint8_t response, uint8_t status, uint32_t residual)
{
	const struct vhc_scsi_result result = {
	    .response = response, .status = status, .residual = residual};

	vhc_request_complete(request, &result);
}

#endif
