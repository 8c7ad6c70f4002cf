/* SPDX-License-Identifier: MIT */
/* A load's life: checks, memory, thread, result. */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "load_request.h"
#include "upcall.h"

#define MAX_RINGS 1024u
#define MAX_BLOCK (64u << 20)
#define MAX_LBA_SIZE 65536u
#define POST_RETRY_NS 1000000

static uint64_t pages(uint64_t bytes)
{
	return (bytes + 4095) & ~UINT64_C(4095);
}

/* Where a ring's answers lie: behind each header, or behind all of them. */
static uint64_t status_offset(uint32_t device, uint32_t iodepth)
{
	return device == VHC_LOAD_SCSI ? LOAD_SCSI_HEADER_SIZE
				       : (uint64_t)iodepth * LOAD_BLK_HEADER_STEP;
}

/* A ring's headers and answers. */
static uint64_t control_bytes(uint32_t device, uint32_t iodepth)
{
	const uint32_t step =
	    device == VHC_LOAD_SCSI ? LOAD_SCSI_STEP : LOAD_BLK_HEADER_STEP + LOAD_BLK_STATUS_STEP;
	return pages((uint64_t)iodepth * step);
}

static bool shape_is_valid(uint32_t device, uint32_t block_size, uint32_t iodepth,
			   uint32_t num_rings)
{
	return device <= VHC_LOAD_SCSI && block_size > 0 && block_size % 512 == 0 &&
	       block_size <= MAX_BLOCK && iodepth > 0 && iodepth <= VHC_RING_MAX_SIZE &&
	       num_rings > 0 && num_rings <= MAX_RINGS;
}

static uint64_t ring_bytes(uint32_t device, uint32_t block_size, uint32_t iodepth)
{
	return control_bytes(device, iodepth) + pages((uint64_t)block_size * iodepth);
}

int64_t vhc_load_buffer_bytes(uint32_t device, uint32_t block_size, uint32_t iodepth,
			      uint32_t num_rings)
{
	if (!shape_is_valid(device, block_size, iodepth, num_rings))
		return -EINVAL;
	return (int64_t)(ring_bytes(device, block_size, iodepth) * num_rings);
}

/* ---- Creation ------------------------------------------------------------------------ */

static bool range_is_valid(const struct vhc_load_config *c, uint32_t num_rings)
{
	uint64_t requests = (uint64_t)c->iodepth * num_rings;
	if (c->size == 0 || c->size % c->block_size || c->offset % 512 ||
	    c->offset + c->size < c->offset)
		return false;
	/* With verify each request in flight has a block of its own. */
	return !c->verify || c->size / c->block_size >= requests;
}

/* That it can be addressed, and in logical blocks. */
static bool disk_is_valid(const struct vhc_load_config *c)
{
	const uint32_t lba = c->lba_size;
	if (c->device == VHC_LOAD_BLK)
		return true;
	return lba >= 512 && lba <= MAX_LBA_SIZE && (lba & (lba - 1)) == 0 &&
	       c->block_size % lba == 0 && c->offset % lba == 0 &&
	       c->address >> 16 < VHC_SCSI_TARGETS && (uint16_t)c->address < VHC_SCSI_LUNS;
}

static bool config_is_valid(const struct vhc_load_config *c, uint32_t num_rings)
{
	return shape_is_valid(c->device, c->block_size, c->iodepth, num_rings) &&
	       disk_is_valid(c) && c->stats && c->buffers && c->buffers % 4096 == 0 &&
	       c->buffers_len >= ring_bytes(c->device, c->block_size, c->iodepth) * num_rings &&
	       range_is_valid(c, num_rings) && c->rw <= VHC_LOAD_RANDRW && c->rwmix_read <= 100 &&
	       c->verify <= 1 && (c->mode == VHC_MODE_POLL || c->mode == VHC_MODE_INTERRUPT) &&
	       c->cpu >= -1 && c->cpu < CPU_SETSIZE;
}

static bool ring_is_valid(const struct vhc_driver_ring *ring, const struct vhc_load_config *c)
{
	uint32_t needed = ring->indirect ? c->iodepth : c->iodepth * LOAD_PIECES;
	return needed <= ring->size && ring->size >= LOAD_PIECES &&
	       (c->mode == VHC_MODE_POLL || ring->call_fd >= 0);
}

static bool rings_are_valid(const uint64_t *rings, uint32_t num_rings,
			    const struct vhc_load_config *config)
{
	for (uint32_t i = 0; i < num_rings; i++) {
		if (!rings[i] || !ring_is_valid((struct vhc_driver_ring *)rings[i], config))
			return false;
		for (uint32_t j = 0; j < i; j++) {
			if (rings[j] == rings[i])
				return false;
		}
	}
	return true;
}

static int add_ring(struct vhc_load *load, struct load_ring *on, struct vhc_driver_ring *ring,
		    uint8_t *memory)
{
	const struct vhc_load_config *c = &load->config;
	on->headers = memory;
	on->status = memory + status_offset(c->device, c->iodepth);
	on->data = memory + control_bytes(c->device, c->iodepth);
	on->slots = calloc(c->iodepth, sizeof(*on->slots));
	if (!on->slots)
		return -ENOMEM;
	on->ring = ring;
	driver_ring_ref(ring);
	return 0;
}

static void set_up(struct vhc_load *load)
{
	const struct vhc_load_config *c = &load->config;
	load->stats = (struct vhc_stats *)c->stats;
	load->blocks = c->size / c->block_size;
	load->random = c->seed;
	load->is_random = c->rw >= VHC_LOAD_RANDREAD;
	load->is_mixed = c->rw == VHC_LOAD_RANDRW;
	load->first_op = load_writes(load) ? VHC_OP_WRITE : VHC_OP_READ;
	load->read_below = ((uint64_t)c->rwmix_read << 32) / 100;
	load->last_latency[0] = UINT64_MAX;
	load_request_shape(load);
}

static int allocate(struct vhc_load *load, const uint64_t *rings, uint32_t num_rings)
{
	const struct vhc_load_config *c = &load->config;
	load->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (load->wake_fd < 0)
		return -errno;
	load->rings = calloc(num_rings, sizeof(*load->rings));
	load->calls = calloc(num_rings + 1, sizeof(*load->calls));
	load->known = c->verify ? calloc(load->blocks, sizeof(*load->known)) : NULL;
	if (!load->rings || !load->calls || (c->verify && !load->known))
		return -ENOMEM;
	uint8_t *memory = (uint8_t *)c->buffers;
	for (; load->num_rings < num_rings; load->num_rings++) {
		uint32_t i = load->num_rings;
		struct vhc_driver_ring *ring = (struct vhc_driver_ring *)rings[i];
		int rc = add_ring(load, &load->rings[i], ring,
				  memory + ring_bytes(c->device, c->block_size, c->iodepth) * i);
		if (rc)
			return rc;
		load->calls[i] = (struct pollfd){.fd = ring->call_fd, .events = POLLIN};
	}
	load->calls[num_rings] = (struct pollfd){.fd = load->wake_fd, .events = POLLIN};
	return 0;
}

static void free_load(struct vhc_load *load)
{
	for (uint32_t i = 0; i < load->num_rings; i++) {
		vhc_driver_ring_release(load->rings[i].ring);
		free(load->rings[i].slots);
	}
	if (load->wake_fd >= 0)
		close(load->wake_fd);
	if (load->upcalls)
		vhc_upcalls_release(load->upcalls);
	free(load->rings);
	free(load->calls);
	free(load->known);
	free(load);
}

int vhc_load_create(struct vhc_upcalls *upcalls, const struct vhc_load_config *config,
		    const uint64_t *rings, uint32_t num_rings, struct vhc_load **out)
{
	if (!upcalls || !config_is_valid(config, num_rings) ||
	    !rings_are_valid(rings, num_rings, config))
		return -EINVAL;
	struct vhc_load *load = calloc(1, sizeof(*load));
	if (!load)
		return -ENOMEM;
	load->config = *config;
	set_up(load);
	int rc = allocate(load, rings, num_rings);
	if (rc) {
		free_load(load);
		return rc;
	}
	load->upcalls = upcalls;
	upcalls_ref(upcalls);
	*out = load;
	return 0;
}

/* ---- The chains of its slots ------------------------------------------------------------ */

static int build_chain(struct vhc_load *load, struct load_ring *on, uint32_t i)
{
	int head = load_request_build(load, on, i);
	if (head < 0)
		return head;
	on->slots[i].head = (uint16_t)head;
	on->slots[i].op = VHC_OP_OTHER; /* neither: the first use sets the direction */
	on->slots[i].data = on->data + (uint64_t)i * load->config.block_size;
	on->slots[i].next = i + 1 < load->config.iodepth ? i + 1 : LOAD_NO_SLOT;
	return 0;
}

/* What plain writes write: anything that does not compress or repeat. */
static void fill_data(struct vhc_load *load, struct load_ring *on)
{
	uint64_t random = ~load->config.seed;
	uint64_t words = (uint64_t)load->config.block_size * load->config.iodepth / sizeof(random);
	for (uint64_t i = 0; i < words; i++)
		((uint64_t *)on->data)[i] = load_random(&random);
}

static int build_chains(struct vhc_load *load, struct load_ring *on)
{
	if (on->ring->in_flight > 0)
		return -EBUSY;
	for (uint32_t i = 0; i < load->config.iodepth; i++) {
		int rc = build_chain(load, on, i);
		if (rc)
			return rc;
	}
	fill_data(load, on);
	on->waiting = 0;
	return 0;
}

/* Chains that were given up stay the device's; the ring frees them if they come back. */
static void drop_chains(struct load_ring *on, uint32_t iodepth)
{
	for (uint32_t i = 0; i < iodepth && on->slots[i].data; i++) {
		struct driver_chain *chain = &on->ring->chains[on->slots[i].head];
		if (chain->in_flight)
			chain->kept = false;
		else
			driver_ring_drop(on->ring, on->slots[i].head);
		on->slots[i].data = NULL;
	}
}

static void drop_all_chains(struct vhc_load *load)
{
	for (uint32_t i = 0; i < load->num_rings; i++)
		drop_chains(&load->rings[i], load->config.iodepth);
}

/* ---- The thread -------------------------------------------------------------------------- */

static void post_done(struct vhc_load *load, int status)
{
	const struct upcall_event event = {
	    .type = VHC_UPCALL_LOAD_DONE, .id = load->config.id, .status = status};
	const struct timespec pause = {.tv_nsec = POST_RETRY_NS};
	/* Whoever releases the load may be the reader that a full ring waits for. */
	while (upcall_post(load->upcalls, &event, NULL, 0, NULL, 0) == -EAGAIN &&
	       !atomic_load(&load->releasing))
		nanosleep(&pause, NULL);
}

static void *load_thread(void *arg)
{
	struct vhc_load *load = arg;
	int status = load_run(load);
	drop_all_chains(load);
	struct timespec cpu;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
	load->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
	post_done(load, status);
	return NULL;
}

static int start_thread(struct vhc_load *load)
{
	pthread_attr_t attr;
	if (pthread_attr_init(&attr))
		return -EAGAIN;
	if (load->config.cpu >= 0) {
		cpu_set_t cpus;
		CPU_ZERO(&cpus);
		CPU_SET(load->config.cpu, &cpus);
		pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus);
	}
	/* Signals are the program's, not this thread's. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&load->thread, &attr, load_thread, load);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -rc;
}

int vhc_load_start(struct vhc_load *load)
{
	if (load->thread_runs)
		return -EALREADY;
	for (uint32_t i = 0; i < load->num_rings; i++) {
		int rc = build_chains(load, &load->rings[i]);
		if (rc) {
			drop_all_chains(load);
			return rc;
		}
	}
	int rc = start_thread(load);
	if (rc)
		drop_all_chains(load);
	load->thread_runs = rc == 0;
	return rc;
}

void vhc_load_stop(struct vhc_load *load)
{
	const uint64_t one = 1;
	atomic_store(&load->stop, true);
	/* It can only fail if it is readable already. */
	(void)!write(load->wake_fd, &one, sizeof(one));
}

int vhc_load_result(const struct vhc_load *load, struct vhc_load_result *out)
{
	*out = (struct vhc_load_result){
	    .elapsed_ns = load->elapsed_ns,
	    .verified = load->verified,
	    .verify_errors = load->verify_errors,
	    .first_bad = load->first_bad,
	    .cpu_ns = load->cpu_ns,
	};
	return 0;
}

void vhc_load_release(struct vhc_load *load)
{
	if (load->thread_runs) {
		atomic_store(&load->releasing, true);
		vhc_load_stop(load);
		pthread_join(load->thread, NULL);
	}
	free_load(load);
}
