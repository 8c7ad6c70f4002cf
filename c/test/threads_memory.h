/* SPDX-License-Identifier: MIT */
/* Memory that comes and goes while rings run, for threads_test.c. */
#ifndef VHC_THREADS_MEMORY_H
#define VHC_THREADS_MEMORY_H

#include "threads_world.h"

#define CHANGES 250u /* of a test, of which there are four */
#define SPARE_GPA UINT64_C(0x80000000)
#define SPARE_SIZE 8192u
#define SPARES 8u

/* The part of a lane's memory in which the buffers are, but for the first of them. */
static inline uint64_t buffers_at(void)
{
	struct vhc_driver_ring_layout layout;
	vhc_driver_ring_layout(RING_SIZE, 0, &layout);
	return (layout.bytes + 4095) / 4096 * 4096 + 4096;
}

static inline void add_part(struct vhc_mem *mem, const struct lane *lane, uint64_t from,
			    uint64_t to)
{
	CHECK_EQ(vhc_mem_add_region(mem, GPA + from, to - from, lane->memory.addr + from,
				    lane->memory.fd, from),
		 0);
}

/* A table of two regions, with the ring in the one and most buffers in the other. */
static inline struct vhc_mem *split_table(const struct lane *lane)
{
	struct vhc_mem *mem = NULL;
	CHECK_EQ(vhc_mem_create(&mem), 0);
	add_part(mem, lane, 0, buffers_at());
	add_part(mem, lane, buffers_at(), lane->memory.size);
	return mem;
}

/* Unmaps the buffers, which requests in flight use, and maps them anew. */
static inline void change_buffers(struct vhc_mem *mem, const struct lane *lane)
{
	const uint64_t at = buffers_at();
	CHECK_EQ(
	    vhc_mem_remove_region(mem, GPA + at, lane->memory.size - at, lane->memory.addr + at),
	    0);
	add_part(mem, lane, at, lane->memory.size);
}

/* Plugs a region, or unplugs the one in its slot. */
static inline void change_spare(struct vhc_mem *mem, const struct lane *lane, uint32_t slot)
{
	const uint64_t gpa = SPARE_GPA + (uint64_t)slot * SPARE_SIZE;
	if (vhc_mem_remove_region(mem, gpa, SPARE_SIZE, gpa))
		CHECK_EQ(vhc_mem_add_region(mem, gpa, SPARE_SIZE, gpa, lane->memory.fd, 0), 0);
}

typedef void (*give_table)(struct world *, struct lane *, struct vhc_mem *);

/* As all that changes a ring: it is stopped, changed and started. */
static inline void give_by_a_stop(struct world *world, struct lane *lane, struct vhc_mem *mem)
{
	detach(world, lane);
	lane->mem = mem;
	attach(world, lane, lane->id);
}

/* Between two batches of a ring that goes on. */
static inline void give_by_a_swap(struct world *world, struct lane *lane, struct vhc_mem *mem)
{
	(void)world;
	CHECK_EQ(vhc_reactor_set_mem(lane->reactor, lane->device, mem, 0), 0);
	lane->mem = mem;
}

static inline void change_memory(struct world *world, struct lane *lane, uint32_t i,
				 give_table give)
{
	struct vhc_mem *old = lane->mem;
	struct vhc_mem *new = NULL;
	REQUIRE_EQ(vhc_mem_clone(old, &new), 0);
	change_spare(new, lane, i / 4 % SPARES);
	if (i % 4 == 3)
		change_buffers(new, lane);
	give(world, lane, new);
	vhc_mem_release(old);
	CHECK_EQ(vhc_mem_faulted(new), 0);
}

static inline void memory_changes(bool file, give_table give)
{
	struct world world;
	world_up(&world, mixed, 2, file);
	for (uint32_t i = 0; i < 2; i++)
		world.lanes[i].mem = split_table(&world.lanes[i]);
	attach_all(&world);
	start_loads(&world, 1, 0, true);
	for (uint32_t i = 0; i < CHANGES; i++) {
		struct lane *lane = &world.lanes[i % 2];
		uint64_t before = requests(lane);
		change_memory(&world, lane, i / 2, give);
		AWAIT(&world, requests(lane) >= before + 2 * DEPTH);
	}
	stop_loads(&world);
	for (uint32_t i = 0; i < 2; i++)
		CHECK_EQ(failures(&world.lanes[i]), 0);
	detach_all(&world);
	for (uint32_t i = 0; i < 2; i++)
		vhc_mem_release(world.lanes[i].mem);
	world_down(&world);
}

static void memory_changes_under_load(void)
{
	memory_changes(false, give_by_a_stop);
	memory_changes(true, give_by_a_stop);
}

static void memory_is_swapped_under_load(void)
{
	memory_changes(false, give_by_a_swap);
	memory_changes(true, give_by_a_swap);
}

static inline void run_memory(void)
{
	RUN(memory_changes_under_load);
	RUN(memory_is_swapped_under_load);
}

#endif
