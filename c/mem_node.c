/* SPDX-License-Identifier: MIT */
/* On which NUMA node memory is. */
#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mem.h"

/* Whether a fault of memory at a user address might wait for a peer. */
static bool faults_wait(const struct vhc_mem *table, uint64_t user_addr)
{
	for (uint32_t i = 0; i < table->by_user.count; i++) {
		const struct mem_region *region = table->regions[i];

		if (user_addr - region->user_addr < region->size)
			return atomic_load(&region->caught);
	}
	return true;
}

/* Of a page that is mapped already. */
static int node_of_mapped(uint64_t addr)
{
	void *pages[1] = {(void *)(uintptr_t)addr};
	int node = -1;

	if (syscall(SYS_move_pages, 0, 1ul, pages, NULL, &node, 0) || node < 0)
		return -1;
	return node;
}

int vhc_mem_node(const struct vhc_mem *mem, uint64_t user_addr)
{
	const struct vhc_mem *table = mem_is_view(mem) ? mem->table : mem;
	uint64_t addr;
	int node = -1;
	int result = vhc_mem_translate_user(mem, user_addr, 1, &addr);

	if (result)
		return result;
	if (faults_wait(table, user_addr))
		return node_of_mapped(addr);
	/* Maps the page, as the ring would; and what a peer cut off is no SIGBUS here. */
	if (syscall(SYS_get_mempolicy, &node, NULL, 0ul, addr, MPOL_F_NODE | MPOL_F_ADDR))
		return -1;
	return node;
}
