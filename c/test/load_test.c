/* SPDX-License-Identifier: MIT */
/* Loads against a device that obeys, and against one that does not; of either kind. */
#include "load_rig.h"

static void reads_the_size_once(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, 0));
	CHECK_EQ(run(&rig), 0);
	const struct vhc_op_stats *reads = &rig.stats->op[VHC_OP_READ];
	CHECK_EQ(reads->count, DISK_BLOCKS);
	CHECK_EQ(reads->bytes, DISK_BLOCKS * BLOCK);
	CHECK_EQ(reads->errors, 0);
	CHECK_EQ(histogram_total(reads), DISK_BLOCKS);
	CHECK(reads->latency_ns > 0);
	CHECK_EQ(rig.stats->op[VHC_OP_WRITE].count, 0);
	CHECK_EQ(rig.stats->inflight, 0);
	CHECK(rig.result.elapsed_ns > 0);
	CHECK(rig.result.cpu_ns > 0);
	rig_down(&rig);
}

static void writes_every_block(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, INDIRECT));
	rig.config.rw = VHC_LOAD_WRITE;
	CHECK_EQ(run(&rig), 0);
	for (uint32_t i = 0; i < DISK_BLOCKS; i++)
		CHECK(rig.disk.written[i]);
	CHECK_EQ(rig.stats->op[VHC_OP_WRITE].count, DISK_BLOCKS);
	rig_down(&rig);
}

static void stays_in_its_range(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, 0));
	rig.config.rw = VHC_LOAD_RANDWRITE;
	rig.config.offset = 8 * BLOCK;
	rig.config.size = 16 * BLOCK;
	rig.config.ios = 1000;
	CHECK_EQ(run(&rig), 0);
	for (uint32_t i = 0; i < DISK_BLOCKS; i++)
		CHECK_EQ(rig.disk.written[i], i >= 8 && i < 24);
	rig_down(&rig);
}

static void keeps_the_mix(void)
{
	static const uint32_t mixes[] = {0, 70, 100};
	for (int i = 0; i < 3; i++) {
		struct rig rig;
		REQUIRE(rig_up(&rig, 1, 0));
		rig.config.rw = VHC_LOAD_RANDRW;
		rig.config.rwmix_read = mixes[i];
		rig.config.ios = 10000;
		CHECK_EQ(run(&rig), 0);
		uint64_t reads = rig.stats->op[VHC_OP_READ].count;
		CHECK_EQ(reads + rig.stats->op[VHC_OP_WRITE].count, 10000);
		CHECK(reads + 300 >= mixes[i] * 100 && reads <= mixes[i] * 100 + 300);
		CHECK(mixes[i] != 0 || reads == 0);
		CHECK(mixes[i] != 100 || reads == 10000);
		rig_down(&rig);
	}
}

/* Modes, ring features and several rings. */
static void runs_every_way(void)
{
	static const uint64_t features[] = {0, INDIRECT, EVENT_IDX, EVENT_IDX | INDIRECT};
	for (int i = 0; i < 16; i++) {
		struct rig rig;
		REQUIRE(rig_up(&rig, i & 4 ? 3 : 1, features[i & 3]));
		rig.config.mode = i & 8 ? VHC_MODE_INTERRUPT : VHC_MODE_POLL;
		rig.config.rw = VHC_LOAD_RANDRW;
		rig.config.rwmix_read = 50;
		rig.config.iodepth = 10;
		rig.config.ios = 2000;
		rig.config.verify = 1;
		CHECK_EQ(run(&rig), 0);
		CHECK_EQ(rig.stats->op[VHC_OP_READ].count + rig.stats->op[VHC_OP_WRITE].count,
			 2000);
		CHECK(rig.result.verified >= 64);
		CHECK_EQ(rig.result.verify_errors, 0);
		rig_down(&rig);
		/* One that polls is never called. */
		CHECK(i & 8 || rig.disk.calls == 0);
	}
}

static void sleeps_until_it_is_called(void)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct rig rig;
		REQUIRE(rig_up(&rig, 1, event_idx ? EVENT_IDX : 0));
		atomic_store(&rig.disk.lazy, true);
		rig.config.mode = VHC_MODE_INTERRUPT;
		CHECK_EQ(run(&rig), 0);
		CHECK_EQ(rig.stats->op[VHC_OP_READ].count, DISK_BLOCKS);
		rig_down(&rig);
		CHECK_EQ(rig.disk.calls, DISK_BLOCKS);
	}
}

static void ends_with_its_time(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, EVENT_IDX));
	for (int mode = VHC_MODE_POLL; mode <= VHC_MODE_INTERRUPT; mode++) {
		rig.config.runtime_ns = 30000000;
		rig.config.mode = (uint32_t)mode;
		CHECK_EQ(run(&rig), 0);
		CHECK(rig.result.elapsed_ns >= 30000000);
		CHECK(rig.result.elapsed_ns < 10000000000u);
	}
	CHECK(rig.stats->op[VHC_OP_READ].count > 0);
	rig_down(&rig);
}

static void a_stop_ends_it(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 2, 0));
	rig.config.runtime_ns = UINT64_MAX / 2;
	rig.config.mode = VHC_MODE_INTERRUPT;
	for (int i = 0; i < 2; i++) {
		struct vhc_load *load = start(&rig);
		REQUIRE(load);
		CHECK_EQ(vhc_load_start(load), -EALREADY);
		vhc_load_stop(load);
		CHECK_EQ(await_done(&rig), 0);
		vhc_load_release(load);
		rig.config.mode = VHC_MODE_POLL;
	}
	/* Release alone does it too. */
	struct vhc_load *load = start(&rig);
	REQUIRE(load);
	vhc_load_release(load);
	CHECK_EQ(await_done(&rig), 0);
	rig_down(&rig);
}

static void leaves_its_rings_usable(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 2, INDIRECT));
	rig.config.iodepth = ring_size;
	for (int i = 0; i < 5; i++)
		CHECK_EQ(run(&rig), 0);
	CHECK_EQ(((struct vhc_driver_ring *)rig.rings[0])->num_free, ring_size);
	CHECK_EQ(rig.stats->op[VHC_OP_READ].count, 5 * DISK_BLOCKS);
	rig_down(&rig);
}

static void refuses_rings_in_use(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, INDIRECT));
	rig.config.iodepth = ring_size;
	struct vhc_driver_ring *ring = (struct vhc_driver_ring *)rig.rings[0];
	const struct vhc_iov iov = {.addr = rig.config.buffers, .len = 1};
	int head = driver_ring_build(ring, &iov, 0, 1, 0, true);
	REQUIRE(head >= 0);
	struct vhc_load *load;
	REQUIRE_EQ(vhc_load_create(rig.upcalls, &rig.config, rig.rings, 1, &load), 0);
	CHECK_EQ(vhc_load_start(load), -ENOSPC);
	CHECK_EQ(ring->num_free, ring_size - 1);
	driver_ring_drop(ring, (uint16_t)head);
	CHECK_EQ(vhc_load_start(load), 0);
	CHECK_EQ(await_done(&rig), 0);
	vhc_load_release(load);
	rig_down(&rig);
}

/* ---- Verify ---------------------------------------------------------------------- */

static void verify_accepts_what_is_right(void)
{
	static const uint32_t kinds[] = {VHC_LOAD_WRITE, VHC_LOAD_RANDWRITE, VHC_LOAD_RANDRW};
	for (int i = 0; i < 3; i++) {
		struct rig rig;
		REQUIRE(rig_up(&rig, 2, INDIRECT));
		rig.config.rw = kinds[i];
		rig.config.rwmix_read = 50;
		rig.config.verify = 1;
		rig.config.ios = i == 0 ? 0 : 20000; /* generations go round 255 */
		CHECK_EQ(run(&rig), 0);
		CHECK(rig.result.verified >= DISK_BLOCKS);
		CHECK_EQ(rig.result.verify_errors, 0);
		CHECK_EQ(rig.stats->op[VHC_OP_READ].count + rig.stats->op[VHC_OP_WRITE].count,
			 i == 0 ? DISK_BLOCKS : 20000);
		rig_down(&rig);
	}
}

static void verify_reads_an_earlier_load(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, 0));
	rig.config.verify = 1;
	rig.config.rw = VHC_LOAD_WRITE;
	CHECK_EQ(run(&rig), 0);
	rig.config.rw = VHC_LOAD_RANDREAD;
	rig.config.ios = 500;
	CHECK_EQ(run(&rig), 0);
	CHECK_EQ(rig.result.verified, 500);
	CHECK_EQ(rig.result.verify_errors, 0);
	rig.config.seed++;
	CHECK_EQ(run(&rig), 0);
	CHECK_EQ(rig.result.verify_errors, 500);
	rig_down(&rig);
}

static void verify_finds(enum fake_fault fault, uint32_t rw, uint64_t ios)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, 0));
	rig.config.verify = 1;
	rig.config.rw = rw;
	rig.config.ios = ios;
	atomic_store(&rig.disk.fault, fault);
	CHECK_EQ(run(&rig), 0);
	CHECK(rig.result.verify_errors > 0);
	CHECK(rig.result.first_bad < rig.config.size && rig.result.first_bad % BLOCK == 0);
	rig_down(&rig);
}

static void verify_finds_what_is_wrong(void)
{
	verify_finds(FAKE_FLIP_BIT, VHC_LOAD_WRITE, 0);
	verify_finds(FAKE_DROP_WRITES, VHC_LOAD_RANDWRITE, 500);
	verify_finds(FAKE_MISPLACE, VHC_LOAD_WRITE, 0);
	verify_finds(FAKE_NO_DATA, VHC_LOAD_RANDRW, 500);
	verify_finds(FAKE_NO_DATA, VHC_LOAD_READ, 0);
}

static void verify_names_the_block(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, 0));
	rig.config.verify = 1;
	rig.config.rw = VHC_LOAD_WRITE;
	CHECK_EQ(run(&rig), 0);
	rig.disk.bytes[37 * BLOCK + 99] ^= 1;
	rig.config.rw = VHC_LOAD_READ;
	CHECK_EQ(run(&rig), 0);
	CHECK_EQ(rig.result.verify_errors, 1);
	CHECK_EQ(rig.result.first_bad, 37 * BLOCK);
	rig_down(&rig);
}

/* ---- Devices that fail ------------------------------------------------------------- */

static void counts_failures(void)
{
	static const int faults[] = {FAKE_FAIL, FAKE_NO_STATUS, FAKE_BAD_TARGET};
	for (uint32_t i = 0; i < 2 + device; i++) {
		struct rig rig;
		REQUIRE(rig_up(&rig, 1, 0));
		atomic_store(&rig.disk.fault, faults[i]);
		CHECK_EQ(run(&rig), 0);
		CHECK_EQ(rig.stats->op[VHC_OP_READ].errors, DISK_BLOCKS);
		CHECK_EQ(rig.stats->op[VHC_OP_READ].count, DISK_BLOCKS);
		CHECK_EQ(rig.stats->op[VHC_OP_READ].bytes, 0);
		rig_down(&rig);
	}
}

static void a_broken_ring_ends_it(void)
{
	static const int faults[] = {FAKE_UNKNOWN_HEAD, FAKE_INDEX_TOO_FAR, FAKE_SAME_HEAD};
#ifdef __SANITIZE_THREAD__
	/* A device that writes where it must not, or returns what it still works on, is a data
	 * race. */
	const int n = packed ? 2 : 4;
#else
	const int n = 6;
#endif
	for (int i = 0; i < n; i++) {
		struct rig rig;
		REQUIRE(rig_up(&rig, 1, EVENT_IDX));
		rig.config.mode = i & 1 ? VHC_MODE_INTERRUPT : VHC_MODE_POLL;
		atomic_store(&rig.disk.fault, faults[i / 2]);
		/* A head that is offered again at once may come back at once. */
		rig.config.ios = packed && faults[i / 2] == FAKE_SAME_HEAD ? rig.config.iodepth : 0;
		CHECK_EQ(run(&rig), -EPROTO);
		rig_down(&rig);
	}
}

static void a_silent_device_is_left(void)
{
	for (int mode = VHC_MODE_POLL; mode <= VHC_MODE_INTERRUPT; mode++) {
		struct rig rig;
		REQUIRE(rig_up(&rig, 2, EVENT_IDX));
		rig.config.mode = (uint32_t)mode;
		rig.config.runtime_ns = 1000000;
		atomic_store(&rig.disk.fault, FAKE_SILENT);
		struct vhc_load *load = start(&rig);
		REQUIRE(load);
		vhc_load_stop(load);
		CHECK_EQ(await_done(&rig), -ETIMEDOUT);
		vhc_load_release(load);
		rig_down(&rig);
	}
}

/* ---- Creation ------------------------------------------------------------------------ */

static void refuses(const struct rig *rig, const struct vhc_load_config *config, int line)
{
	struct vhc_load *load;
	int rc = vhc_load_create(rig->upcalls, config, rig->rings, rig->num_rings, &load);
	check_equal(rc, -EINVAL, "refused", __FILE__, line);
	if (rc == 0)
		vhc_load_release(load);
}

#define REFUSES(change)                                                                            \
	do {                                                                                       \
		struct vhc_load_config c = rig.config;                                             \
		change;                                                                            \
		refuses(&rig, &c, __LINE__);                                                       \
	} while (0)

static void refuses_what_cannot_be(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, 0));
	REFUSES(c.block_size = 0);
	REFUSES(c.block_size = 513);
	REFUSES(c.block_size = 1u << 31);
	REFUSES(c.iodepth = 0);
	REFUSES(c.iodepth = ring_size / 3 + 1);
	REFUSES(c.iodepth = UINT32_MAX);
	REFUSES(c.size = 0);
	REFUSES(c.size = BLOCK + 512);
	REFUSES(c.offset = 100);
	REFUSES(c.offset = UINT64_MAX - 511);
	REFUSES(c.rw = 5);
	REFUSES(c.rwmix_read = 101);
	REFUSES(c.verify = 2);
	REFUSES((c.verify = 1, c.size = 3 * BLOCK));
	REFUSES(c.mode = VHC_MODE_ADAPTIVE);
	REFUSES(c.cpu = -2);
	REFUSES(c.cpu = 1 << 20);
	REFUSES(c.stats = 0);
	REFUSES(c.buffers = 0);
	REFUSES(c.buffers += 512);
	REFUSES(c.buffers_len = (uint64_t)vhc_load_buffer_bytes(device, BLOCK, 4, 1) - 1);
	REFUSES(c.device = 2);
	struct vhc_load *load;
	const uint64_t twice[] = {rig.rings[0], rig.rings[0]}, none[] = {0};
	CHECK_EQ(vhc_load_create(rig.upcalls, &rig.config, twice, 2, &load), -EINVAL);
	CHECK_EQ(vhc_load_create(rig.upcalls, &rig.config, none, 1, &load), -EINVAL);
	CHECK_EQ(vhc_load_create(rig.upcalls, &rig.config, rig.rings, 0, &load), -EINVAL);
	CHECK_EQ(vhc_load_buffer_bytes(device, 100, 1, 1), -EINVAL);
	CHECK_EQ(vhc_load_buffer_bytes(2, BLOCK, 1, 1), -EINVAL);
	CHECK(vhc_load_buffer_bytes(device, BLOCK, 32, 4) >= 4 * 32 * (BLOCK + 17));
	rig_down(&rig);
}

/* ---- SCSI alone ---------------------------------------------------------------------- */

static void refuses_what_is_no_scsi_disk(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, 0));
	REFUSES(c.lba_size = 0);
	REFUSES(c.lba_size = 256);
	REFUSES(c.lba_size = 1000);
	REFUSES(c.lba_size = 2 * BLOCK);
	REFUSES(c.lba_size = 131072);
	REFUSES((c.lba_size = 4096, c.offset = 512));
	REFUSES(c.address = VHC_LUN_ADDRESS(256, 0));
	REFUSES(c.address = VHC_LUN_ADDRESS(0, 256));
	CHECK(vhc_load_buffer_bytes(VHC_LOAD_SCSI, BLOCK, 64, 1) >= 64 * (BLOCK + 51 + 108));
	rig_down(&rig);
}

/* Logical blocks of a size, `begin` bytes into the device; whether 16 bytes are needed. */
static void addresses(uint32_t lba_size, uint64_t begin, bool wide)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 2, INDIRECT));
	rig.disk.lba_size = rig.config.lba_size = lba_size;
	rig.disk.begin = rig.config.offset = begin;
	rig.config.rw = VHC_LOAD_RANDRW;
	rig.config.rwmix_read = 50;
	rig.config.ios = 2000;
	rig.config.verify = 1;
	CHECK_EQ(run(&rig), 0);
	CHECK_EQ(rig.stats->op[VHC_OP_READ].errors + rig.stats->op[VHC_OP_WRITE].errors, 0);
	CHECK_EQ(rig.stats->op[VHC_OP_READ].count + rig.stats->op[VHC_OP_WRITE].count, 2000);
	CHECK(rig.result.verified >= DISK_BLOCKS / 2);
	CHECK_EQ(rig.result.verify_errors, 0);
	CHECK_EQ(atomic_load(&rig.disk.wide) > 0, wide);
	rig_down(&rig);
}

static void addresses_the_whole_disk(void)
{
	const uint64_t two_tib = UINT64_C(1) << 41;
	addresses(512, 0, false);
	addresses(4096, 0, false);
	addresses(1024, 40 * BLOCK, false);
	addresses(512, two_tib - (DISK_BLOCKS + 1) * BLOCK, false);
	addresses(512, two_tib, true);
	addresses(512, two_tib - 20 * BLOCK, true);
	addresses(4096, two_tib, false);
	addresses(4096, UINT64_C(1) << 60, true);
}

/* A request of 64 MiB has more blocks than READ (10) can say. */
static void reads_what_is_long(void)
{
	struct rig rig;
	REQUIRE(rig_up(&rig, 1, 0));
	fake_disk_stop(&rig.disk);
	rig.config.block_size = 64 << 20;
	rig.config.size = 128 << 20;
	rig.config.iodepth = 1;
	rig.config.buffers_len =
	    (uint64_t)vhc_load_buffer_bytes(VHC_LOAD_SCSI, rig.config.block_size, 1, 1);
	free((void *)rig.config.buffers);
	rig.config.buffers = (uint64_t)aligned_alloc(4096, rig.config.buffers_len);
	fake_disk_start(&rig.disk, rig.config.block_size, rig.config.size);
	CHECK_EQ(run(&rig), 0);
	CHECK_EQ(rig.stats->op[VHC_OP_READ].bytes, rig.config.size);
	CHECK_EQ(atomic_load(&rig.disk.wide), 2);
	rig_down(&rig);
}

static void releases_all_it_took(void)
{
	int before = check_open_fds();
	struct rig rig;
	struct vhc_load *load;
	REQUIRE(rig_up(&rig, 2, 0));
	REQUIRE_EQ(vhc_load_create(rig.upcalls, &rig.config, rig.rings, 2, &load), 0);
	vhc_load_release(load);
	CHECK_EQ(run(&rig), 0);
	rig_down(&rig);
	CHECK_EQ(check_open_fds(), before);
}

static void loads(void)
{
	RUN(reads_the_size_once);
	RUN(writes_every_block);
	RUN(stays_in_its_range);
	RUN(keeps_the_mix);
	RUN(runs_every_way);
	RUN(sleeps_until_it_is_called);
	RUN(ends_with_its_time);
	RUN(a_stop_ends_it);
	RUN(leaves_its_rings_usable);
	RUN(refuses_rings_in_use);
	RUN(verify_accepts_what_is_right);
	RUN(verify_reads_an_earlier_load);
	RUN(verify_finds_what_is_wrong);
	RUN(verify_names_the_block);
	RUN(counts_failures);
	RUN(a_broken_ring_ends_it);
	RUN(a_silent_device_is_left);
	RUN(refuses_what_cannot_be);
	RUN(releases_all_it_took);
}

static void of_format(bool is_packed, uint32_t size)
{
	const char *name = is_packed ? "packed" : "split";
	packed = is_packed;
	ring_size = size;
	printf("# virtio-blk, %s rings of %u\n", name, size);
	device = VHC_LOAD_BLK;
	loads();
	printf("# virtio-scsi, %s rings of %u\n", name, size);
	device = VHC_LOAD_SCSI;
	loads();
	RUN(refuses_what_is_no_scsi_disk);
	RUN(addresses_the_whole_disk);
	RUN(reads_what_is_long);
}

int main(void)
{
	of_format(false, 32);
	of_format(true, 31);
	return check_report();
}
