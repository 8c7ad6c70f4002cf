/* SPDX-License-Identifier: MIT */
/* virtio-scsi commands that are executed: from what a guest writes to a disk and back. */
#include <errno.h>

#include "scsi.h"
#include "scsi_vm.h"

#define DISK_BYTES (BLOCKS * 512u)
#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE

static struct vhc_bdev *ram_disk(void)
{
	struct vhc_pages pages;
	struct vhc_bdev *bdev;

	if (vhc_pages_alloc(DISK_BYTES, 4096, -1, -1, 0, &pages) ||
	    vhc_bdev_malloc_create(&pages, 512, BLOCKS, &bdev))
		return NULL;
	for (uint32_t i = 0; i < DISK_BYTES; i++)
		((uint8_t *)(uintptr_t)pages.addr)[i] = (uint8_t)(i / 512 + 1);
	return bdev;
}

static bool ram_vm(struct scsi_vm *vm)
{
	struct vhc_bdev *disk = ram_disk();
	struct vhc_lun_config config = unit_config(disk);

	return disk && scsi_vm_create(vm, VHC_MODE_ADAPTIVE, GUEST_INDIRECT) &&
	       use_disk(vm, &config);
}

/* ---- What is executed, by CDB ---- */

struct cdb_case {
	const char *name;
	uint8_t cdb[16];
	enum scsi_verdict verdict;
	struct scsi_command command;
};

#define COMMAND(...)                                                                               \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

/* On a disk of 2048 blocks, with limits of 1024. */
/* clang-format off */
static const struct cdb_case cdb_cases[] = {
    {"READ (6)", {0x08, 0, 1, 2, 3, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_READ, .lba = 258, .blocks = 3)},
    {"READ (6) of 256", {0x08, 0, 0, 0, 0, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_READ, .blocks = 256)},
    {"READ (6), reserved bits", {0x08, 0x20, 0, 0, 1, 0}, SCSI_ASK, {0}},
    {"READ (6), beyond", {0x08, 0x1f, 0xff, 0xff, 1, 0}, SCSI_ASK, {0}},
    {"READ (6), control", {0x08, 0, 0, 0, 1, 4}, SCSI_ASK, {0}},
    {"WRITE (6)", {0x0a, 0, 0, 5, 1, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_WRITE, .lba = 5, .blocks = 1)},
    {"READ (10)", {0x28, 0, 0, 0, 7, 0xff, 0, 0, 1, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_READ, .lba = 2047, .blocks = 1)},
    {"READ (10), beyond", {0x28, 0, 0, 0, 7, 0xff, 0, 0, 2, 0}, SCSI_ASK, {0}},
    {"READ (10), far beyond", {0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0}, SCSI_ASK, {0}},
    {"READ (10) of none", {0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0}, SCSI_ASK, {0}},
    {"READ (10), DPO", {0x28, 0x10, 0, 0, 0, 0, 0, 0, 1, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_READ, .blocks = 1)},
    {"READ (10), FUA", {0x28, 0x08, 0, 0, 0, 0, 0, 0, 1, 0}, SCSI_ASK, {0}},
    {"READ (10), RDPROTECT", {0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0}, SCSI_ASK, {0}},
    {"READ (10), group", {0x28, 0, 0, 0, 0, 0, 1, 0, 1, 0}, SCSI_ASK, {0}},
    {"READ (10), NACA", {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4}, SCSI_ASK, {0}},
    {"READ (10), too many", {0x28, 0, 0, 0, 0, 0, 0, 4, 1, 0}, SCSI_ASK, {0}},
    {"WRITE (10), FUA", {0x2a, 0x18, 0, 0, 0, 1, 0, 0, 1, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_WRITE, .flags = IO_DURABLE, .lba = 1, .blocks = 1)},
    {"WRITE (10), EBP", {0x2a, 0x04, 0, 0, 0, 1, 0, 0, 1, 0}, SCSI_ASK, {0}},
    {"READ (12)", {0xa8, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_READ, .lba = 9, .blocks = 2)},
    {"READ (12), huge", {0xa8, 0, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0, 0}, SCSI_ASK, {0}},
    {"WRITE (12)", {0xaa, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_WRITE, .lba = 9, .blocks = 2)},
    {"READ (16)", {0x88, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 4, 0, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_READ, .lba = 257, .blocks = 4)},
    {"READ (16), far beyond", {0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4, 0, 0}, SCSI_ASK, {0}},
    {"WRITE (16)", {0x8a, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 4, 0, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_WRITE, .lba = 257, .blocks = 4)},
    {"SYNCHRONIZE CACHE (10)", {0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_FLUSH, .lba = 0)},
    {"SYNCHRONIZE CACHE (10), IMMED", {0x35, 2, 0, 0, 0, 0, 0, 0, 0, 0}, SCSI_ASK, {0}},
    {"SYNCHRONIZE CACHE (10), beyond", {0x35, 0, 0, 0, 8, 0, 0, 0, 0, 0}, SCSI_ASK, {0}},
    {"SYNCHRONIZE CACHE (16)", {0x91, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 7, 0xff, 0, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_FLUSH, .lba = 1, .blocks = 2047)},
    {"SYNCHRONIZE CACHE (16), beyond", {0x91, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 8, 0, 0, 0}, SCSI_ASK, {0}},
    {"UNMAP", {0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_UNMAP, .blocks = 24, .list_len = 24)},
    {"UNMAP, ANCHOR", {0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0}, SCSI_ASK, {0}},
    {"UNMAP, reserved", {0x42, 0, 0, 0, 1, 0, 0, 0, 24, 0}, SCSI_ASK, {0}},
    {"WRITE SAME (10)", {0x41, 8, 0, 0, 0, 1, 0, 0, 2, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_WRITE_ZEROES, .flags = IO_MAY_UNMAP, .lba = 1, .blocks = 2)},
    {"WRITE SAME (10), bit 0", {0x41, 1, 0, 0, 0, 1, 0, 0, 2, 0}, SCSI_ASK, {0}},
    {"WRITE SAME (10), ANCHOR", {0x41, 0x10, 0, 0, 0, 1, 0, 0, 2, 0}, SCSI_ASK, {0}},
    {"WRITE SAME (10) to the end", {0x41, 0, 0, 0, 0, 1, 0, 0, 0, 0}, SCSI_ASK, {0}},
    {"WRITE SAME (16), NDOB", {0x93, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0}, SCSI_EXECUTE, COMMAND(VHC_OP_WRITE_ZEROES, 0, true, 1, 2, 0)},
    {"WRITE SAME (16), too many", {0x93, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4, 1, 0, 0}, SCSI_ASK, {0}},
    {"TEST UNIT READY", {0}, SCSI_ASK, {0}},
    {"INQUIRY", {0x12, 0, 0, 0, 36, 0}, SCSI_ASK, {0}},
    {"VERIFY (10)", {0x2f, 0, 0, 0, 0, 0, 0, 0, 1, 0}, SCSI_ASK, {0}},
    {"vendor's", {0xff, 1}, SCSI_ASK, {0}},
    {"reserved group", {0x60, 1}, SCSI_ASK, {0}},
};
/* clang-format on */

static void decides_by_cdb(void)
{
	struct vhc_lun_config config = unit_config(null_disk());
	struct vhc_lun *lun;

	REQUIRE_EQ(vhc_lun_create(&config, &lun), 0);
	for (size_t i = 0; i < sizeof(cdb_cases) / sizeof(cdb_cases[0]); i++) {
		const struct cdb_case *of = &cdb_cases[i];
		struct scsi_command command;
		enum scsi_verdict verdict = scsi_decide(lun, of->cdb, 16, &command);
		bool same =
		    verdict != SCSI_EXECUTE ||
		    (command.op == of->command.op && command.flags == of->command.flags &&
		     command.no_data == of->command.no_data && command.lba == of->command.lba &&
		     command.blocks == of->command.blocks &&
		     command.list_len == of->command.list_len);

		check_true(verdict == of->verdict && same, of->name, __FILE__, __LINE__);
	}
	vhc_lun_release(lun);
	vhc_bdev_release((struct vhc_bdev *)(uintptr_t)config.bdev);
}

/* A CDB that does not fit in what the driver sends is never read beyond it. */
static void decides_by_cdb_size(void)
{
	struct vhc_lun_config config = unit_config(null_disk());
	struct scsi_command command;
	uint8_t cdb[16] = {0};
	struct vhc_lun *lun;

	REQUIRE_EQ(vhc_lun_create(&config, &lun), 0);
	guest_cdb_10(cdb, 0x28, 0, 1);
	CHECK_EQ(scsi_decide(lun, cdb, 9, &command), SCSI_ASK);
	CHECK_EQ(scsi_decide(lun, cdb, 10, &command), SCSI_EXECUTE);
	guest_cdb_16(cdb, 0x88, 0, 1);
	CHECK_EQ(scsi_decide(lun, cdb, 15, &command), SCSI_ASK);
	CHECK_EQ(scsi_decide(lun, cdb, 16, &command), SCSI_EXECUTE);
	vhc_lun_release(lun);
	vhc_bdev_release((struct vhc_bdev *)(uintptr_t)config.bdev);
}

static void obeys_gates(void)
{
	struct vhc_lun_config config = unit_config(null_disk());
	struct scsi_command command;
	uint8_t cdb[16] = {0};
	struct vhc_lun *lun;

	config.writeback = 0;
	REQUIRE_EQ(vhc_lun_create(&config, &lun), 0);
	guest_cdb_10(cdb, 0x2a, 0, 1);
	CHECK_EQ(scsi_decide(lun, cdb, 16, &command), SCSI_EXECUTE);
	CHECK_EQ(command.flags, IO_DURABLE);
	vhc_lun_set_writeback(lun, 1);
	CHECK_EQ(scsi_decide(lun, cdb, 16, &command), SCSI_EXECUTE);
	CHECK_EQ(command.flags, 0);
	vhc_lun_set_gates(lun, VHC_GATE_RUN, VHC_GATE_CONFLICT);
	CHECK_EQ(scsi_decide(lun, cdb, 16, &command), SCSI_CONFLICT);
	cdb[0] = 0x28;
	CHECK_EQ(scsi_decide(lun, cdb, 16, &command), SCSI_EXECUTE);
	vhc_lun_set_gates(lun, VHC_GATE_ASK, VHC_GATE_RUN);
	CHECK_EQ(scsi_decide(lun, cdb, 16, &command), SCSI_ASK);
	vhc_lun_release(lun);
	vhc_bdev_release((struct vhc_bdev *)(uintptr_t)config.bdev);
	config.read_gate = 3;
	CHECK_EQ(vhc_lun_create(&config, &lun), -EINVAL);
	config = (struct vhc_lun_config){0};
	CHECK_EQ(vhc_lun_create(&config, &lun), -EINVAL);
}

static void knows_addresses(void)
{
	static const struct {
		uint8_t lun[8];
		uint32_t address;
	} cases[] = {
	    {{1, 3, 0, 5}, VHC_LUN_ADDRESS(3, 5)},
	    {{1, 255, 0x40, 255}, VHC_LUN_ADDRESS(255, 255)},
	    {{1, 0, 0, 0}, 0},
	    {{0}, SCSI_NOWHERE},
	    {{0xc1, 1}, SCSI_NOWHERE},
	    {{1, 3, 0x41, 5}, SCSI_NOWHERE},
	    {{1, 3, 0x80, 5}, SCSI_NOWHERE},
	    {{1, 3, 0, 5, 1}, SCSI_NOWHERE},
	    {{1, 3, 0, 5, 0, 0, 0, 1}, SCSI_NOWHERE},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_EQ(scsi_address(ring_read64(cases[i].lun)), cases[i].address);
}

/* ---- Whole commands ---- */

static void reads_and_writes(void)
{
	struct scsi_vm vm;

	REQUIRE(ram_vm(&vm));
	for (uint32_t indirect = 0; indirect < 2; indirect++) {
		uint8_t *data = guest_data(&vm.guest, 0);

		guest_cdb_10(command(&vm, 0), 0x28, 7, 2);
		kick(&vm, guest_chain(&vm.guest, 0, indirect, 0, 1024));
		REQUIRE(came_back(&vm, 0, 108 + 1024));
		CHECK(responded(&vm, 0, 0, 0, 0));
		CHECK_EQ(data[0], 8);
		CHECK_EQ(data[1023], 9);
		memset(data, 0xee, 512);
		guest_cdb_16(command(&vm, 0), 0x8a, 20, 1);
		kick(&vm, guest_chain(&vm.guest, 0, indirect, 512, 0));
		REQUIRE(came_back(&vm, 0, 12));
		CHECK(responded(&vm, 0, 0, 0, 0));
		guest_cdb_16(command(&vm, 0), 0x88, 20, 1);
		kick(&vm, guest_chain(&vm.guest, 0, indirect, 0, 512));
		REQUIRE(came_back(&vm, 0, 108 + 512));
		CHECK_EQ(data[511], 0xee);
	}
	CHECK_EQ(counter(&vm.guest.stats->op[VHC_OP_READ].count), 4);
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_READ].bytes), 2 * (1024 + 512));
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_WRITE].bytes), 1024);
	scsi_vm_destroy(&vm);
}

/* Buffers longer than the transfer: the rest is the residual, and stays as it is. */
static void tells_residuals(void)
{
	struct scsi_vm vm;
	uint8_t *data;

	REQUIRE(ram_vm(&vm));
	data = guest_data(&vm.guest, 0);
	memset(data, 0xaa, 4096);
	guest_cdb_10(command(&vm, 0), 0x28, 7, 1);
	send_slot(&vm, 0, 0, 4000);
	REQUIRE(came_back(&vm, 0, 108 + 512));
	CHECK(responded(&vm, 0, 0, 0, 4000 - 512));
	CHECK_EQ(data[511], 8);
	CHECK_EQ(data[512], 0xaa);
	guest_cdb_10(command(&vm, 0), 0x2a, 7, 1);
	send_slot(&vm, 0, 700, 0);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(responded(&vm, 0, 0, 0, 700 - 512));
	/* No data at all is asked for. */
	guest_cdb_10(command(&vm, 0), 0x35, 0, 0);
	send_slot(&vm, 0, 0, 100);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(responded(&vm, 0, 0, 0, 100));
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_FLUSH].count), 1);
	scsi_vm_destroy(&vm);
}

/* virtio 1: header, response and data may be split anywhere. */
static void takes_any_layout(void)
{
	struct scsi_vm vm;
	struct guest *guest;
	uint8_t *header, *in;
	struct vring_used_elem used;

	REQUIRE(ram_vm(&vm));
	guest = &vm.guest;
	header = (uint8_t *)guest_command(guest, 0);
	in = guest_data(guest, 0);
	/* The header in bytes, response and data in one piece. */
	guest_cdb_10(command(&vm, 0), 0x28, 3, 1);
	for (uint32_t i = 0; i < 51; i++)
		guest_desc(guest, i, header + i, 1, NEXT, (uint16_t)(i + 1));
	guest_desc(guest, 51, in, 108 + 600, WRITE, 0);
	memset(in, 0xff, 1000);
	kick(&vm, 0);
	REQUIRE(wait_used(&vm, &used));
	CHECK_EQ(used.len, 108 + 512);
	CHECK_EQ(in[4], 88);
	CHECK_EQ(in[11], 0);
	CHECK_EQ(in[12], 0xff);
	CHECK_EQ(in[108], 4);
	CHECK_EQ(in[108 + 511], 4);
	CHECK_EQ(in[108 + 512], 0xff);
	/* Header with the first data-out, the response in single bytes. */
	guest_cdb_10(command(&vm, 0), 0x2a, 40, 1);
	memset(header + 51, 0x5a, 13);
	memset(in, 0xff, 2000);
	memset(in + 1000, 0x5b, 499);
	guest_desc(guest, 0, header, 64, NEXT, 1);
	guest_desc(guest, 1, in + 1000, 499, NEXT, 2);
	for (uint32_t i = 2; i < 110; i++)
		guest_desc(guest, i, in + i - 2, 1, WRITE | NEXT, (uint16_t)(i + 1));
	guest->desc[109].flags = WRITE;
	kick(&vm, 0);
	REQUIRE(wait_used(&vm, &used));
	CHECK_EQ(used.len, 12);
	for (uint32_t i = 0; i < 12; i++)
		CHECK_EQ(in[i], 0);
	guest_cdb_10(command(&vm, 1), 0x28, 40, 1);
	kick(&vm, guest_chain(guest, 1, true, 0, 512));
	REQUIRE(came_back(&vm, 1, 108 + 512));
	CHECK_EQ(guest_data(guest, 1)[12], 0x5a);
	CHECK_EQ(guest_data(guest, 1)[13], 0x5b);
	scsi_vm_destroy(&vm);
}

/* Data in many pieces, among them as many as there may be. */
static void takes_many_pieces(void)
{
	struct scsi_vm vm;
	struct vring_used_elem used;

	REQUIRE(ram_vm(&vm));
	for (uint32_t pieces = 2; pieces <= 256; pieces += 127) {
		struct vring_desc *table = (struct vring_desc *)guest_data(&vm.guest, 8);
		uint8_t *data = guest_data(&vm.guest, 16);

		guest_cdb_10(command(&vm, 0), 0x28, 5, (uint16_t)pieces);
		table[0] = (struct vring_desc){guest_gpa(&vm.guest, guest_command(&vm.guest, 0)),
					       51, NEXT, 1};
		table[1] = (struct vring_desc){guest_gpa(&vm.guest, guest_response(&vm.guest, 0)),
					       108, NEXT | WRITE, 2};
		for (uint16_t i = 0; i < pieces; i++)
			table[2 + i] = (struct vring_desc){guest_gpa(&vm.guest, data + i * 1024u),
							   512, NEXT | WRITE, (uint16_t)(3 + i)};
		table[1 + pieces].flags = WRITE;
		guest_desc(&vm.guest, 0, table, (2 + pieces) * 16, VRING_DESC_F_INDIRECT, 0);
		kick(&vm, 0);
		REQUIRE(wait_used(&vm, &used));
		CHECK_EQ(used.len, 108 + pieces * 512);
		CHECK(responded(&vm, 0, 0, 0, 0));
		for (uint32_t i = 0; i < pieces; i++)
			CHECK_EQ(data[i * 1024 + 511], (uint8_t)(6 + i));
	}
	scsi_vm_destroy(&vm);
}

static void refuses_short_chains(void)
{
	static const uint32_t lens[][2] = {{50, 108}, {51, 107}, {51, 0}, {0, 108}, {1, 1}};
	struct scsi_vm vm;
	struct vring_used_elem used;
	const struct vhc_upcall *up;
	uint32_t told = 0;

	REQUIRE(ram_vm(&vm));
	command(&vm, 0);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		guest_desc(&vm.guest, 0, guest_command(&vm.guest, 0), lens[i][0], NEXT, 1);
		guest_desc(&vm.guest, 1, guest_response(&vm.guest, 0), lens[i][1], WRITE, 0);
		kick(&vm, 0);
		REQUIRE(wait_used(&vm, &used));
		CHECK_EQ(used.len, 0);
		CHECK_EQ(guest_response(&vm.guest, 0)->response, 0xff);
	}
	CHECK_EQ(counter(&vm.guest.stats->op[VHC_OP_OTHER].errors), 5);
	CHECK_EQ(counter(&vm.guest.stats->malformed), 5);
	/* One a second, and this may take some. */
	while ((up = reader_next(&vm.rig.reader, 20))) {
		CHECK(up->type == VHC_UPCALL_MALFORMED && up->status == -EPROTO);
		told++;
	}
	CHECK(told >= 1 && told <= 5);
	scsi_vm_destroy(&vm);
}

static void unmaps(void)
{
	struct scsi_vm vm;
	uint8_t *list, *cdb;

	REQUIRE(ram_vm(&vm));
	list = guest_data(&vm.guest, 0);
	memset(list, 0, 4096);
	cdb = command(&vm, 0);
	cdb[0] = 0x42;
	cdb[8] = 8 + 3 * 16;
	list[1] = 6 + 3 * 16;
	list[3] = 3 * 16;
	list[8 + 7] = 10; /* blocks 10 and 11; none; 100 */
	list[8 + 11] = 2;
	list[40 + 7] = 100;
	list[40 + 11] = 1;
	send_slot(&vm, 0, 8 + 3 * 16, 0);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(responded(&vm, 0, 0, 0, 0));
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_UNMAP].bytes), 3 * 512);
	guest_cdb_10(command(&vm, 0), 0x28, 10, 3);
	send_slot(&vm, 0, 0, 1536);
	REQUIRE(came_back(&vm, 0, 108 + 1536));
	CHECK_EQ(guest_data(&vm.guest, 0)[0], 0);
	CHECK_EQ(guest_data(&vm.guest, 0)[1023], 0);
	CHECK_EQ(guest_data(&vm.guest, 0)[1024], 13);
	/* Only empty ranges: nothing to do. */
	cdb = command(&vm, 0);
	cdb[0] = 0x42;
	cdb[8] = 24;
	memset(list, 0, 24);
	list[1] = 22;
	list[3] = 16;
	send_slot(&vm, 0, 30, 0);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(responded(&vm, 0, 0, 0, 6));
	scsi_vm_destroy(&vm);
}

/* As many ranges as fit, beside pieces that lie in the request or in an array. */
static void unmaps_many_ranges(void)
{
	struct scsi_vm vm;
	uint32_t bytes = 8 + 256 * 16;
	uint8_t *list, *cdb;

	REQUIRE(ram_vm(&vm));
	list = guest_data(&vm.guest, 0);
	memset(list, 0, bytes);
	list[0] = (uint8_t)((bytes - 2) >> 8);
	list[1] = (uint8_t)(bytes - 2);
	list[2] = 256 * 16 >> 8;
	for (uint32_t i = 0; i < 256; i++) {
		guest_put32(list + 8 + i * 16 + 4, i * 2);
		list[8 + i * 16 + 11] = 1;
	}
	cdb = command(&vm, 0);
	cdb[0] = 0x42;
	cdb[7] = (uint8_t)(bytes >> 8);
	cdb[8] = (uint8_t)bytes;
	send_slot(&vm, 0, bytes, 0);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(responded(&vm, 0, 0, 0, 0));
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_UNMAP].bytes), 256 * 512);
	scsi_vm_destroy(&vm);
}

static void writes_same(void)
{
	struct vhc_request_info info;
	struct scsi_vm vm;
	uint64_t request;

	REQUIRE(ram_vm(&vm));
	memset(guest_data(&vm.guest, 0), 0, 512);
	guest_cdb_10(command(&vm, 0), 0x41, 4, 3);
	send_slot(&vm, 0, 512, 0);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(responded(&vm, 0, 0, 0, 0));
	CHECK_EQ(counter(&vm.bdev_stats->op[VHC_OP_WRITE_ZEROES].bytes), 3 * 512);
	/* Of anything else it goes up, and so does one without its block. */
	guest_data(&vm.guest, 0)[511] = 1;
	guest_cdb_10(command(&vm, 0), 0x41, 4, 3);
	send_slot(&vm, 0, 512, 0);
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	CHECK_EQ(info.copied, 512);
	complete(request, 0, 0, 0);
	REQUIRE(came_back(&vm, 0, 12));
	guest_cdb_10(command(&vm, 0), 0x41, 4, 3);
	send_slot(&vm, 0, 511, 0);
	request = next_request(&vm, 0, &info);
	REQUIRE(request);
	complete(request, 0, 0, 0);
	REQUIRE(came_back(&vm, 0, 12));
	scsi_vm_destroy(&vm);
}

static void ends_in_conflict(void)
{
	struct scsi_vm vm;

	REQUIRE(ram_vm(&vm));
	vhc_lun_set_gates(vm.lun, VHC_GATE_RUN, VHC_GATE_CONFLICT);
	send_write(&vm, 0, 3);
	REQUIRE(came_back(&vm, 0, 12));
	CHECK(responded(&vm, 0, 0, 0x18, 512));
	send_read(&vm, 1, 3);
	REQUIRE(came_back(&vm, 1, 108 + 512));
	CHECK_EQ(counter(&vm.guest.stats->op[VHC_OP_OTHER].errors), 1);
	scsi_vm_destroy(&vm);
}

/* Several logical units in one batch, and their order in each. */
static void tells_units_apart(void)
{
	struct vhc_lun_config config = unit_config(ram_disk());
	struct scsi_vm vm;
	struct vhc_lun *other;

	REQUIRE(ram_vm(&vm));
	REQUIRE_EQ(vhc_lun_create(&config, &other), 0);
	vhc_bdev_release((struct vhc_bdev *)(uintptr_t)config.bdev);
	REQUIRE_EQ(
	    vhc_reactor_attach_lun(vm.rig.reactor, vm.ring, VHC_LUN_ADDRESS(0, 255), other, 0), 0);
	CHECK_EQ(attach(&vm, UNIT), -EEXIST);
	CHECK_EQ(attach(&vm, VHC_LUN_ADDRESS(256, 0)), -EINVAL);
	CHECK_EQ(attach(&vm, VHC_LUN_ADDRESS(0, 256)), -EINVAL);
	for (uint32_t i = 0; i < 32; i++) {
		guest_cdb_10(guest_set_command(&vm.guest, i, i % 2 ? 3 : 0, i % 2 ? 5 : 255)->cdb,
			     0x2a, 9, 1);
		memset(guest_data(&vm.guest, i), (int)i, 512);
		guest_offer(&vm.guest, guest_chain(&vm.guest, i, false, 512, 0));
	}
	guest_publish(&vm.guest);
	eventfd_write(vm.kick_fd, 1);
	for (uint32_t i = 0; i < 32; i++) {
		struct vring_used_elem used;

		REQUIRE(wait_used(&vm, &used));
		CHECK_EQ(used.len, 12);
	}
	for (uint32_t i = 0; i < 2; i++) {
		guest_cdb_10(guest_set_command(&vm.guest, i, i ? 3 : 0, i ? 5 : 255)->cdb, 0x28, 9,
			     1);
		send_slot(&vm, i, 0, 512);
		REQUIRE(came_back(&vm, i, 108 + 512));
		CHECK_EQ(guest_data(&vm.guest, i)[0], 30 + i);
	}
	vhc_lun_release(other);
	scsi_vm_destroy(&vm);
}

int main(void)
{
	RUN(decides_by_cdb);
	RUN(decides_by_cdb_size);
	RUN(obeys_gates);
	RUN(knows_addresses);
	RUN(reads_and_writes);
	RUN(tells_residuals);
	RUN(takes_any_layout);
	RUN(takes_many_pieces);
	RUN(refuses_short_chains);
	RUN(unmaps);
	RUN(unmaps_many_ranges);
	RUN(writes_same);
	RUN(ends_in_conflict);
	RUN(tells_units_apart);
	return check_report();
}
