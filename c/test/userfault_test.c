/* SPDX-License-Identifier: MIT */
/* Faults that somebody else serves, as in post-copy migration: in this process and in the kernel.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "mem.h"

#define PAGE UINT64_C(4096)
#define PAGES 16u
#define USER UINT64_C(0x7000000)

/* The migration's side: it has the memory too, and puts pages in when they are asked for. */
struct source {
	int fd;	    /* userfaultfd */
	int memory; /* the file */
	int stop;
	uint64_t host; /* of the region, in the faulting process */
	uint32_t served;
};

/* Puts the page in by way of the file, as QEMU does in its own memory, and wakes who waits. */
static void serve_page(struct source *source, uint64_t addr)
{
	struct uffdio_range range = {.start = addr & ~(PAGE - 1), .len = PAGE};
	uint64_t page = (range.start - source->host) / PAGE;
	char text[16] = "";

	snprintf(text, sizeof(text), "page %u", (unsigned)page);
	CHECK_EQ(pwrite(source->memory, text, sizeof(text), (off_t)(page * PAGE)), sizeof(text));
	CHECK_EQ(ioctl(source->fd, UFFDIO_WAKE, &range), 0);
	source->served++;
}

static void *serve(void *arg)
{
	struct source *source = arg;
	struct uffd_msg message;
	struct pollfd fds[2] = {{.fd = source->fd, .events = POLLIN},
				{.fd = source->stop, .events = POLLIN}};

	while (poll(fds, 2, 10000) > 0 && !fds[1].revents)
		if (read(source->fd, &message, sizeof(message)) == (ssize_t)sizeof(message) &&
		    message.event == UFFD_EVENT_PAGEFAULT)
			serve_page(source, message.arg.pagefault.address);
	return NULL;
}

struct rig {
	struct vhc_mem *mem;
	struct source source;
	pthread_t thread;
};

/* False, and nothing to clean up, where nobody may catch faults. */
static bool rig_up(struct rig *rig)
{
	struct source *source = &rig->source;

	*source = (struct source){.fd = vhc_userfault_open()};
	if (source->fd == -EPERM || source->fd == -ENOSYS) {
		printf("# userfaultfd cannot be had\n");
		return false;
	}
	source->memory = memfd_create("userfault_test", MFD_CLOEXEC);
	source->stop = eventfd(0, EFD_CLOEXEC);
	CHECK(source->fd >= 0 && ftruncate(source->memory, (off_t)(PAGES * PAGE)) == 0);
	CHECK_EQ(vhc_mem_create(&rig->mem), 0);
	CHECK_EQ(vhc_mem_add_region(rig->mem, 0, PAGES * PAGE, USER, source->memory, 0), 0);
	CHECK_EQ(vhc_mem_translate_user(rig->mem, USER, 1, &source->host), 0);
	CHECK_EQ(vhc_mem_catch_faults(rig->mem, source->fd), 0);
	return CHECK_EQ(pthread_create(&rig->thread, NULL, serve, source), 0);
}

static void rig_down(struct rig *rig)
{
	CHECK_EQ(vhc_eventfd_signal(rig->source.stop), 0);
	pthread_join(rig->thread, NULL);
	vhc_mem_release(rig->mem);
	close(rig->source.fd);
	close(rig->source.memory);
	close(rig->source.stop);
}

static void accesses_wait(void)
{
	struct rig rig;
	char text[16];

	if (!rig_up(&rig))
		return;
	vhc_copy_out(rig.source.host + 3 * PAGE, (uint8_t *)text, sizeof(text));
	CHECK(strcmp(text, "page 3") == 0);
	/* One that came without being asked for is no fault. */
	CHECK_EQ(pwrite(rig.source.memory, "early", 6, 5 * PAGE), 6);
	vhc_copy_out(rig.source.host + 5 * PAGE, (uint8_t *)text, sizeof(text));
	CHECK(strcmp(text, "early") == 0);
	CHECK_EQ(vhc_mem_faulted(rig.mem), 0);
	rig_down(&rig);
	CHECK_EQ(rig.source.served, 1);
}

/* What a disk's I/O does: the kernel is who touches the page. */
static void system_calls_wait(void)
{
	struct rig rig;
	char text[16] = "";
	int file = memfd_create("disk", MFD_CLOEXEC);

	if (!rig_up(&rig))
		return;
	CHECK_EQ(pwrite(file, (const void *)(uintptr_t)(rig.source.host + 7 * PAGE), 7, 0), 7);
	CHECK_EQ(pread(file, text, 7, 0), 7);
	CHECK(strcmp(text, "page 7") == 0);
	CHECK_EQ(pread(file, (void *)(uintptr_t)(rig.source.host + 8 * PAGE + 7), 7, 0), 7);
	CHECK(memcmp((const void *)(uintptr_t)(rig.source.host + 8 * PAGE), "page 8\0page 7", 14) ==
	      0);
	rig_down(&rig);
	CHECK_EQ(rig.source.served, 2);
	close(file);
}

/* Pages that were touched before the region was caught are looked for again. */
static void mapped_pages_stay_if_they_are_there(void)
{
	struct rig rig;
	uint8_t byte = 0;

	if (!rig_up(&rig))
		return;
	vhc_copy_out(rig.source.host, &byte, 1);
	CHECK_EQ(byte, 'p');
	CHECK_EQ(vhc_mem_catch_faults(rig.mem, rig.source.fd), 0);
	vhc_copy_out(rig.source.host, &byte, 1);
	CHECK_EQ(byte, 'p');
	rig_down(&rig);
	CHECK_EQ(rig.source.served, 1);
}

/* The control plane never waits for a page: it may be who has to fetch it. */
static void the_node_is_told_without_a_fault(void)
{
	struct rig rig;
	uint8_t byte = 0;

	if (!rig_up(&rig))
		return;
	CHECK_EQ(vhc_mem_node(rig.mem, USER), -1);
	vhc_copy_out(rig.source.host, &byte, 1);
	CHECK_EQ(byte, 'p');
	CHECK(vhc_mem_node(rig.mem, USER) >= 0);
	rig_down(&rig);
	CHECK_EQ(rig.source.served, 1);
}

/* With the descriptor's last owner the waiting ends: a front end that dies holds nobody up. */
static void nobody_waits_for_who_is_gone(void)
{
	struct rig rig;
	uint8_t byte = 1;

	if (!rig_up(&rig))
		return;
	CHECK_EQ(vhc_eventfd_signal(rig.source.stop), 0);
	pthread_join(rig.thread, NULL);
	close(rig.source.fd);
	vhc_copy_out(rig.source.host + 9 * PAGE, &byte, 1);
	CHECK_EQ(byte, 0);
	vhc_mem_release(rig.mem);
	close(rig.source.memory);
	close(rig.source.stop);
}

static void refuses_what_is_no_userfaultfd(void)
{
	struct rig rig;

	if (!rig_up(&rig))
		return;
	CHECK_EQ(vhc_mem_catch_faults(rig.mem, -1), -EBADF);
	CHECK(vhc_mem_catch_faults(rig.mem, rig.source.memory) < 0);
	rig_down(&rig);
}

static void leaks_nothing(void)
{
	int before = check_open_fds();

	accesses_wait();
	CHECK_EQ(check_open_fds(), before);
}

int main(void)
{
	RUN(accesses_wait);
	RUN(system_calls_wait);
	RUN(mapped_pages_stay_if_they_are_there);
	RUN(the_node_is_told_without_a_fault);
	RUN(nobody_waits_for_who_is_gone);
	RUN(refuses_what_is_no_userfaultfd);
	RUN(leaks_nothing);
	return check_report();
}
