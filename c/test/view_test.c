/* SPDX-License-Identifier: MIT */
/* Views of guest memory: what an IOMMU shows, piece by piece, against a model of pages. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "mem.h"

#define PAGE UINT64_C(4096)
#define REGION_PAGES 16u
#define REGIONS 4u
#define USER UINT64_C(0x700000000000)
#define GPA UINT64_C(0x100000000)
#define READ VHC_MEM_READ
#define WRITE VHC_MEM_WRITE
#define BOTH (VHC_MEM_READ | VHC_MEM_WRITE)

/* Regions that adjoin in user addresses, with all guest addresses apart and in reverse. */
static uint64_t gpa_of_region(uint32_t i)
{
	return GPA + (uint64_t)(REGIONS - i) * 0x1000000;
}

struct rig {
	int fd;
	struct vhc_mem *table;
	struct vhc_mem *view;
};

static bool rig_up(struct rig *rig)
{
	const uint64_t size = REGION_PAGES * PAGE;

	rig->fd = memfd_create("view_test", MFD_CLOEXEC);
	if (rig->fd < 0 || ftruncate(rig->fd, (off_t)(REGIONS * size)) ||
	    vhc_mem_create(&rig->table))
		return false;
	for (uint32_t i = 0; i < REGIONS; i++)
		if (vhc_mem_add_region(rig->table, gpa_of_region(i), size, USER + i * size, rig->fd,
				       i * size))
			return false;
	return vhc_mem_create_view(rig->table, &rig->view) == 0;
}

static void rig_down(struct rig *rig)
{
	vhc_mem_release(rig->table);
	vhc_mem_release(rig->view);
	close(rig->fd);
}

static uint64_t reach(const struct vhc_mem *view, uint64_t iova, uint64_t len, uint64_t access)
{
	uint64_t host;

	return mem_reach(view, iova, len, access, &host);
}

static uint64_t user_to_host(const struct rig *rig, uint64_t user_addr)
{
	uint64_t host = 0;

	CHECK_EQ(vhc_mem_translate_user(rig->table, user_addr, 1, &host), 0);
	return host;
}

static void shows_and_hides(void)
{
	struct rig rig;
	uint64_t host = 0, gpa = 0;

	REQUIRE(rig_up(&rig));
	CHECK(mem_is_view(rig.view) && !mem_is_view(rig.table));
	CHECK_EQ(reach(rig.view, 0, 1, 0), 0);
	CHECK_EQ(vhc_mem_show(rig.view, 0, 4 * PAGE, USER + PAGE + 8, READ), 0);
	CHECK_EQ(mem_reach(rig.view, 5, 10, READ, &host), 10);
	CHECK_EQ(host, user_to_host(&rig, USER + PAGE + 13));
	CHECK(mem_gpa_of(rig.view, host, &gpa));
	CHECK_EQ(gpa, gpa_of_region(0) + PAGE + 13);
	CHECK_EQ(reach(rig.view, 4 * PAGE - 1, 10, READ), 1);
	CHECK_EQ(reach(rig.view, 4 * PAGE, 1, READ), 0);

	/* A hole of one byte. */
	CHECK_EQ(vhc_mem_hide(rig.view, PAGE, 1), 0);
	CHECK_EQ(reach(rig.view, 0, 4 * PAGE, READ), PAGE);
	CHECK_EQ(reach(rig.view, PAGE, 1, READ), 0);
	CHECK_EQ(mem_reach(rig.view, PAGE + 1, 4 * PAGE, READ, &host), 3 * PAGE - 1);
	CHECK_EQ(host, user_to_host(&rig, USER + 2 * PAGE + 9));
	CHECK_EQ(vhc_mem_hide(rig.view, 0, UINT64_MAX), 0);
	CHECK_EQ(rig.view->by_gpa.count, 0);
	CHECK_EQ(vhc_mem_hide(rig.view, 0, UINT64_MAX), 0);
	rig_down(&rig);
}

static void checks_access(void)
{
	struct rig rig;
	struct mem_cache cache = {0};

	REQUIRE(rig_up(&rig));
	CHECK_EQ(vhc_mem_show(rig.view, 0, PAGE, USER, READ), 0);
	CHECK_EQ(vhc_mem_show(rig.view, PAGE, PAGE, USER + PAGE, WRITE), 0);
	CHECK_EQ(vhc_mem_show(rig.view, 2 * PAGE, PAGE, USER + 2 * PAGE, BOTH), 0);
	CHECK_EQ(reach(rig.view, 0, PAGE, READ), PAGE);
	CHECK_EQ(reach(rig.view, 0, PAGE, WRITE), 0);
	CHECK_EQ(reach(rig.view, PAGE, PAGE, READ), 0);
	CHECK_EQ(reach(rig.view, PAGE, PAGE, WRITE), PAGE);
	CHECK_EQ(reach(rig.view, 2 * PAGE, PAGE, BOTH), PAGE);
	/* The cache is asked for no access: it has what allows any. */
	CHECK(mem_at(rig.view, &cache, 0, 1) == NULL);
	CHECK(mem_at(rig.view, &cache, PAGE, 1) == NULL);
	CHECK(mem_at(rig.view, &cache, 2 * PAGE, 1) != NULL);
	CHECK(mem_cached(&cache, 2 * PAGE, PAGE));
	CHECK_EQ(reach(rig.table, gpa_of_region(0), 1, BOTH), 1);
	rig_down(&rig);
}

static void refuses_what_is_no_piece(void)
{
	const uint64_t all = REGIONS * REGION_PAGES * PAGE;
	struct rig rig;
	struct vhc_mem *none = NULL;

	REQUIRE(rig_up(&rig));
	CHECK_EQ(vhc_mem_show(rig.table, 0, PAGE, USER, BOTH), -EINVAL);
	CHECK_EQ(vhc_mem_hide(rig.table, 0, PAGE), -EINVAL);
	CHECK_EQ(vhc_mem_create_view(rig.view, &none), -EINVAL);
	CHECK_EQ(vhc_mem_add_region(rig.view, 0, PAGE, 0, rig.fd, 0), -EINVAL);
	CHECK_EQ(vhc_mem_remove_region(rig.view, gpa_of_region(0), REGION_PAGES * PAGE, USER),
		 -ENOENT);
	CHECK_EQ(vhc_mem_show(rig.view, 0, 0, USER, BOTH), -EINVAL);
	CHECK_EQ(vhc_mem_show(rig.view, 0, PAGE, USER, 0), -EINVAL);
	CHECK_EQ(vhc_mem_show(rig.view, 0, PAGE, USER, 4), -EINVAL);
	CHECK_EQ(vhc_mem_show(rig.view, UINT64_MAX, PAGE, USER, BOTH), -EINVAL);
	CHECK_EQ(vhc_mem_show(rig.view, 0, UINT64_MAX, USER, BOTH), -EINVAL);
	CHECK_EQ(vhc_mem_hide(rig.view, 0, 0), -EINVAL);
	CHECK_EQ(vhc_mem_hide(rig.view, 1, UINT64_MAX), -EINVAL);
	CHECK_EQ(vhc_mem_show(rig.view, 0, PAGE, USER - 1, BOTH), -EFAULT);
	CHECK_EQ(vhc_mem_show(rig.view, 0, all + 1, USER, BOTH), -EFAULT);
	CHECK_EQ(vhc_mem_show(rig.view, 0, 2, USER + all - 1, BOTH), -EFAULT);
	CHECK_EQ(rig.view->by_gpa.count, 0);
	CHECK_EQ(vhc_mem_show(rig.view, 0, all, USER, BOTH), 0);
	CHECK_EQ(rig.view->by_gpa.count, REGIONS);
	rig_down(&rig);
}

static void clones_of_views_are_apart(void)
{
	struct rig rig;
	struct vhc_mem *clone = NULL;

	REQUIRE(rig_up(&rig));
	CHECK_EQ(vhc_mem_show(rig.view, 0, PAGE, USER, BOTH), 0);
	REQUIRE_EQ(vhc_mem_clone(rig.view, &clone), 0);
	CHECK_EQ(vhc_mem_show(clone, PAGE, PAGE, USER + PAGE, BOTH), 0);
	CHECK_EQ(vhc_mem_hide(rig.view, 0, 100), 0);
	CHECK_EQ(reach(clone, 0, 3 * PAGE, BOTH), 2 * PAGE);
	CHECK_EQ(reach(rig.view, 0, 1, BOTH), 0);
	CHECK_EQ(reach(rig.view, 100, 2 * PAGE, BOTH), PAGE - 100);
	vhc_mem_release(clone);
	rig_down(&rig);
}

/*
 * As many pieces as there may be. Then nothing can be shown, and what is hidden is
 * hidden all the same, with more than was asked for.
 */
static void keeps_to_its_size(void)
{
	struct rig rig;
	struct vhc_mem *view;

	REQUIRE(rig_up(&rig));
	view = rig.view;
	for (uint64_t i = 0; i < VHC_MEM_MAX_PIECES; i++)
		if (vhc_mem_show(view, i * 2 * PAGE, PAGE, USER, BOTH))
			break;
	CHECK_EQ(view->by_gpa.count, VHC_MEM_MAX_PIECES);
	CHECK_EQ(vhc_mem_show(view, PAGE, 1, USER, BOTH), -ENOSPC);
	CHECK_EQ(vhc_mem_show(view, 100, 1, USER, READ), -ENOSPC);
	CHECK_EQ(reach(view, 0, 2 * PAGE, BOTH), PAGE);
	CHECK_EQ(vhc_mem_hide(view, 2 * PAGE + 100, 1), 0);
	CHECK_EQ(view->by_gpa.count, VHC_MEM_MAX_PIECES);
	CHECK_EQ(reach(view, 2 * PAGE, PAGE, BOTH), 100);
	CHECK_EQ(reach(view, 2 * PAGE + 100, 1, BOTH), 0);
	CHECK_EQ(reach(view, 4 * PAGE, PAGE, BOTH), PAGE);
	/* In the place of another there is room. */
	CHECK_EQ(vhc_mem_show(view, 0, PAGE, USER + PAGE, READ), 0);
	CHECK_EQ(reach(view, 0, PAGE, READ), PAGE);
	rig_down(&rig);
}

/* ---- Against a model ---- */

#define SPACE 96u /* quarter pages of I/O virtual addresses */
#define UNIT (PAGE / 4)

/* What each unit is shown as: 0, or a user address and access. */
struct model {
	uint64_t user[SPACE];
	uint32_t access[SPACE];
};

static uint32_t seed = 1;

static uint32_t random_below(uint32_t limit)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 8) % limit;
}

/* One change of both, alike. */
static void change(struct vhc_mem *view, struct model *model)
{
	uint32_t from = random_below(SPACE);
	uint32_t count = 1 + random_below(random_below(4) ? 8 : SPACE);
	uint32_t access = random_below(3) ? random_below(4) : BOTH;
	/* Often what goes on where it is, so that there is something to join. */
	uint64_t user = USER + (random_below(2) ? from : random_below(SPACE)) * UNIT;

	if (count > SPACE - from)
		count = SPACE - from;
	if (access)
		CHECK_EQ(vhc_mem_show(view, from * UNIT, count * UNIT, user, access), 0);
	else
		CHECK_EQ(vhc_mem_hide(view, from * UNIT, count * UNIT), 0);
	for (uint32_t i = 0; i < count; i++) {
		model->user[from + i] = access ? user + i * UNIT : 0;
		model->access[from + i] = access;
	}
}

static bool same(const struct rig *rig, const struct model *model)
{
	for (uint32_t i = 0; i < SPACE; i++) {
		uint64_t host = 0, expected = 0;
		uint64_t found = mem_reach(rig->view, i * UNIT + 1, UNIT - 1, 0, &host);

		if (!model->access[i] && found)
			return false;
		if (!model->access[i])
			continue;
		vhc_mem_translate_user(rig->table, model->user[i] + 1, 1, &expected);
		if (found != UNIT - 1 || host != expected ||
		    !reach(rig->view, i * UNIT, 1, model->access[i]) ||
		    (reach(rig->view, i * UNIT, 1, BOTH) != 0) != (model->access[i] == BOTH))
			return false;
	}
	return true;
}

/* No more ranges than the model has runs: of one access, contiguous in one region. */
static bool joined(const struct rig *rig, const struct model *model)
{
	uint32_t runs = 0;

	for (uint32_t i = 0; i < SPACE; i++) {
		bool goes_on = i > 0 && model->access[i] == model->access[i - 1] &&
			       model->user[i] == model->user[i - 1] + UNIT &&
			       (model->user[i] - USER) % (REGION_PAGES * PAGE) != 0;

		runs += model->access[i] && !goes_on;
	}
	return rig->view->by_gpa.count == runs;
}

static bool in_order(const struct mem_index *index)
{
	for (uint32_t i = 1; i < index->count; i++)
		if (index->ranges[i].start < index->ranges[i - 1].start + index->ranges[i - 1].size)
			return false;
	return true;
}

static void is_what_the_model_is(void)
{
	struct rig rig;
	struct model model = {0};

	REQUIRE(rig_up(&rig));
	for (uint32_t i = 0; i < 20000; i++) {
		change(rig.view, &model);
		REQUIRE(same(&rig, &model));
		REQUIRE(joined(&rig, &model));
		REQUIRE(in_order(&rig.view->by_gpa));
	}
	rig_down(&rig);
}

int main(void)
{
	RUN(shows_and_hides);
	RUN(checks_access);
	RUN(refuses_what_is_no_piece);
	RUN(clones_of_views_are_apart);
	RUN(keeps_to_its_size);
	RUN(is_what_the_model_is);
	return check_report();
}
