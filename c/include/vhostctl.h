/* SPDX-License-Identifier: MIT */
/*
 * libvhostctl: the data plane of vhostctl, as primitives that each work alone
 * and as reactors that run them together.
 *
 * Conventions, for every function unless its comment says otherwise
 * - Result: 0 or a count on success, -errno on failure; errno itself is not
 *   part of the interface. Void functions cannot fail.
 * - Handles are pointers to opaque structs, written to `out` on success only.
 *   A create call gives the caller one reference; the matching release call
 *   takes it back. Objects that use others hold references of their own, so
 *   handles may be released in any order.
 * - Descriptors passed in stay the caller's: what is kept is duplicated.
 * - Memory passed in is used during the call only.
 * - Units: bytes, nanoseconds, 512-byte sectors only where "sector" is said.
 * - Addresses of this process cross as uint64_t inside structs.
 *   "gpa" is a guest-physical address; "user address" is one in the front
 *   end's address space, as vhost-user's SET_MEM_TABLE and SET_VRING_ADDR use.
 * - Threads: "control" functions may be called from any thread, but by one at
 *   a time for one handle; "any" functions at any time from any thread.
 *
 * Specifications: virtio 1.2 ("virtio"), QEMU's docs/interop/vhost-user.rst
 * ("vhost-user").
 */
#ifndef VHOSTCTL_H
#define VHOSTCTL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define VHC_API __attribute__((visibility("default")))
#else
#define VHC_API
#endif

/* ---- ABI ---------------------------------------------------------------- */

/* Raised by one with every change that breaks a caller. */
#define VHC_ABI_VERSION 4

/* Returns VHC_ABI_VERSION as the library was built. Thread: any. */
VHC_API uint32_t vhc_abi_version(void);

/*
 * Writes the size in bytes of the n-th public struct, in the order of their
 * definition in this header, to sizes[n], for at most max of them.
 * Returns how many public structs there are. Thread: any.
 */
VHC_API int vhc_abi_sizes(uint32_t *sizes, uint32_t max);

/* ---- Descriptors and memory of this process ------------------------------ */

/* Closes fd. Errors: -EBADF. Thread: any. */
VHC_API int vhc_fd_close(int32_t fd);

/*
 * Locks the file behind fd against other open files of it (flock(2), exclusive)
 * until fd is closed. Errors: -EAGAIN (another has it), -EBADF. Thread: any.
 */
VHC_API int vhc_fd_lock(int32_t fd);

/*
 * Writes what fd takes of len bytes at once, whether or not it is non-blocking; to a
 * pipe at most PIPE_BUF of them, and then all or nothing. Returns how many. A hang-up
 * is -EPIPE; SIGPIPE must be ignored, unless fd is a socket.
 * Errors: -EAGAIN (none), write(2)'s. Thread: any.
 */
VHC_API int vhc_fd_try_write(int32_t fd, const uint8_t *data, uint32_t len);

/*
 * Makes an eventfd (non-blocking, close-on-exec). Returns the descriptor, which
 * is the caller's. Errors: -EMFILE, -ENFILE. Thread: any.
 */
VHC_API int vhc_eventfd(void);

/* Adds 1 to eventfd fd (kick, call). Errors: -EBADF, -EAGAIN. Thread: any. */
VHC_API int vhc_eventfd_signal(int32_t fd);

/*
 * Takes what eventfd fd was given. Returns 1, or 0 if that was nothing, or somebody
 * else has taken it. Errors: -EBADF. Thread: any.
 */
VHC_API int vhc_eventfd_take(int32_t fd);

/*
 * Copies len bytes between buf and address addr of this process. The caller
 * answers for addr being mapped. Thread: any.
 */
VHC_API void vhc_copy_out(uint64_t addr, uint8_t *buf, uint32_t len);
VHC_API void vhc_copy_in(uint64_t addr, const uint8_t *buf, uint32_t len);

/*
 * Returns addr as a pointer, for runtimes that build views of memory from
 * pointers. Use only for memory that is never unmapped. Thread: any.
 */
VHC_API void *vhc_pointer(uint64_t addr);

/* ---- Pages: hugepages, transparent hugepages, plain pages ---------------- */

enum vhc_pages_kind {
	VHC_PAGES_PLAIN = 0,   /* pages of the base size */
	VHC_PAGES_THP = 1,     /* base pages, with transparent hugepages advised */
	VHC_PAGES_HUGETLB = 2, /* reserved hugepages of page_size */
};

/* Flags of vhc_pages_alloc. */
#define VHC_PAGES_SHARED (1u << 0)   /* back with a memfd that can be sent to a peer */
#define VHC_PAGES_FALLBACK (1u << 1) /* take smaller pages rather than fail */

struct vhc_pages {
	uint64_t addr;	    /* where they are mapped */
	uint64_t size;	    /* bytes, rounded up to page_size */
	uint64_t page_size; /* bytes: what was got, not what was asked for */
	int32_t fd;	    /* memfd or hugetlbfs file behind them; -1 if private */
	int32_t node;	    /* NUMA node asked for, or -1 */
	uint32_t kind;	    /* enum vhc_pages_kind: what was got */
	uint32_t reserved;
};

/*
 * Maps size bytes (rounded up to page_size) of zeroed memory.
 * page_size: 0 for transparent hugepages, else the base page size, 2 MiB, 1 GiB
 *   or what other size the kernel has.
 * node: NUMA node to bind to, or -1.
 * file_fd: -1, or a file on a hugetlbfs mount to take the pages from.
 * With VHC_PAGES_FALLBACK, hugetlb falls back to transparent hugepages and
 * those to plain pages; out->kind says which it is. Without it no pages of the
 * size are -ENOMEM. Reserved hugepages are faulted in here, so that running
 * out fails here and not at first use. A memfd is sealed against being resized;
 * what file_fd held is lost.
 * Errors: -EINVAL (size 0, unknown page_size or node), -ENOMEM, -EMFILE, -EPERM
 * (a node, where a container forbids mbind).
 * Thread: any. Ownership: end with vhc_pages_free.
 */
VHC_API int vhc_pages_alloc(uint64_t size, uint64_t page_size, int32_t node, int32_t file_fd,
			    uint32_t flags, struct vhc_pages *out);

/*
 * Maps memory that another process has by vhc_pages_alloc with VHC_PAGES_SHARED and
 * sent here: `theirs` is what that call gave it, with the descriptor that came (which
 * is duplicated); its addr does not matter. What is in the memory stays.
 * Errors: -EINVAL (the descriptor is no memory of that size and page_size, or may be
 * shrunk), -EBADF, -ENOMEM, -EMFILE. Thread: any. Ownership: as vhc_pages_alloc.
 */
VHC_API int vhc_pages_adopt(const struct vhc_pages *theirs, struct vhc_pages *out);

/* Unmaps pages and closes their descriptor. Thread: any. */
VHC_API int vhc_pages_free(const struct vhc_pages *pages);

/* ---- Guest memory --------------------------------------------------------- */

/*
 * A table of regions that a front end shared, or (vhc_mem_create_view) of what an
 * IOMMU lets a device see of such a table. Regions do not overlap.
 */
struct vhc_mem;

#define VHC_MEM_MAX_REGIONS 512u

/* A piece of memory of this process; the layout of struct iovec. */
struct vhc_iov {
	uint64_t addr;
	uint64_t len;
};

/* Makes an empty table. Errors: -ENOMEM. Thread: any. */
VHC_API int vhc_mem_create(struct vhc_mem **out);

/*
 * Makes a table with all that mem has, for another region to be added or removed
 * while rings use mem. What both have is mapped once, and a fault in it is found
 * in both (vhc_mem_faulted). Errors: -ENOMEM. Thread: any.
 */
VHC_API int vhc_mem_clone(const struct vhc_mem *mem, struct vhc_mem **out);

/*
 * Maps size bytes of fd at offset as gpa..gpa+size and as user address
 * user_addr..user_addr+size. To be called before the table is given to a ring.
 * Errors: -EINVAL (size 0, overflow, a file shorter than the region, overlap),
 * -ENOSPC (VHC_MEM_MAX_REGIONS), -ENOMEM, -EACCES, -EBADF. Thread: control.
 */
VHC_API int vhc_mem_add_region(struct vhc_mem *mem, uint64_t gpa, uint64_t size, uint64_t user_addr,
			       int32_t fd, uint64_t offset);

/*
 * Takes the region that was added with these three out of the table. Its memory is
 * unmapped when no table has it any more. Errors: -ENOENT. Thread: control, before
 * the table is given to a ring.
 */
VHC_API int vhc_mem_remove_region(struct vhc_mem *mem, uint64_t gpa, uint64_t size,
				  uint64_t user_addr);

/* What a device may do with memory that its IOMMU shows it. */
#define VHC_MEM_READ (1u << 0)
#define VHC_MEM_WRITE (1u << 1)

/*
 * Makes an empty view of mem: a table whose gpas are I/O virtual addresses, for
 * rings of a device with VIRTIO_F_ACCESS_PLATFORM (vhost-user, "IOMMU support").
 * It is cloned like any other table. Errors: -EINVAL (mem is a view), -ENOMEM.
 * Thread: any.
 */
VHC_API int vhc_mem_create_view(struct vhc_mem *mem, struct vhc_mem **out);

/*
 * Shows size bytes at a user address of the view's table as iova..iova+size, with
 * access (VHC_MEM_*). What the view had there is replaced. Errors: -EINVAL (not a
 * view, size 0, overflow, no access), -EFAULT (not wholly in the table), -ENOSPC
 * (more than VHC_MEM_MAX_PIECES pieces), -ENOMEM. Thread: control, before the view
 * is given to a ring.
 */
VHC_API int vhc_mem_show(struct vhc_mem *view, uint64_t iova, uint64_t size, uint64_t user_addr,
			 uint32_t access);
#define VHC_MEM_MAX_PIECES 65536u

/*
 * Takes what the view shows of iova..iova+size away, of larger pieces that part; more
 * of them if there is no room for what is left on both sides.
 * Errors: -EINVAL (not a view, size 0, overflow). Thread: as vhc_mem_show.
 */
VHC_API int vhc_mem_hide(struct vhc_mem *view, uint64_t iova, uint64_t size);

/*
 * Returns the NUMA node of the memory at a user address, or -1 if that cannot be
 * told (no memory there yet). Errors: -EFAULT. Thread: any.
 */
VHC_API int vhc_mem_node(const struct vhc_mem *mem, uint64_t user_addr);

/*
 * Opens a userfaultfd for vhc_mem_catch_faults. Returns the descriptor, which is
 * the caller's. Errors: -EPERM, -ENOSYS. Thread: any.
 */
VHC_API int vhc_userfault_open(void);

/*
 * Has accesses to pages of the table that are not there yet wait for whoever
 * serves userfaultfd fd (vhost-user, POSTCOPY_LISTEN), until its last duplicate is
 * closed: to be closed first when the peer is gone, since a reactor may wait. Errors:
 * ioctl(2)'s of UFFDIO_REGISTER. Thread: control.
 */
VHC_API int vhc_mem_catch_faults(struct vhc_mem *mem, int32_t fd);

/*
 * Translates len bytes at gpa to at most max pieces of this process's memory,
 * crossing regions where they adjoin. Returns the number of pieces.
 * Errors: -EFAULT (not wholly in the table, overflow), -E2BIG (more than max
 * pieces). Thread: any.
 */
VHC_API int vhc_mem_translate(const struct vhc_mem *mem, uint64_t gpa, uint64_t len,
			      struct vhc_iov *iov, uint32_t max);

/*
 * Translates len bytes at a user address, which must lie in one region, to an
 * address of this process. Errors: -EFAULT. Thread: any.
 */
VHC_API int vhc_mem_translate_user(const struct vhc_mem *mem, uint64_t user_addr, uint64_t len,
				   uint64_t *addr);

/*
 * Returns 1 once a region proved to have no memory behind it (the peer shrank
 * its file: SIGBUS was caught and private zero pages put in its place), else 0.
 * Rings on such a table break. Thread: any.
 */
VHC_API int vhc_mem_faulted(const struct vhc_mem *mem);

/* Drops the caller's reference; the last one unmaps. Thread: any. */
VHC_API void vhc_mem_release(struct vhc_mem *mem);

/* ---- Statistics ------------------------------------------------------------ */

enum vhc_op {
	VHC_OP_READ = 0,
	VHC_OP_WRITE = 1,
	VHC_OP_FLUSH = 2,
	VHC_OP_UNMAP = 3,
	VHC_OP_WRITE_ZEROES = 4,
	VHC_OP_OTHER = 5, /* identification, unknown and malformed requests */
};
#define VHC_NUM_OPS 6u

/*
 * Latency histogram, log-linear: values below 2^VHC_HIST_SHIFT ns have a bucket
 * each; above, each power of two is divided into 2^VHC_HIST_SHIFT buckets, so
 * a bucket is at most 1/32 (3.2%) of its value wide. For value v >= 32 with
 * e = floor(log2 v): index = (e - 4) * 32 + ((v >> (e - 5)) & 31).
 * Values of 2^VHC_HIST_MAX_BITS ns (18 minutes) and more count in the last one.
 */
#define VHC_HIST_SHIFT 5u
#define VHC_HIST_MAX_BITS 40u
#define VHC_HIST_BUCKETS 1152u /* (40 - 5 + 1) * 32 */

struct vhc_op_stats {
	uint64_t count;	     /* requests completed, failed ones included */
	uint64_t bytes;	     /* of data, in requests that succeeded */
	uint64_t errors;     /* requests that failed */
	uint64_t latency_ns; /* sum; from taking the request to publishing its end */
	uint64_t hist[VHC_HIST_BUCKETS];
};

/*
 * A page of statistics: one for each ring, one for each (bdev, reactor), one
 * for each load. It has one writer thread at a time; readers elsewhere may see
 * a request counted in one field and not yet in the next. Counters only grow.
 */
struct vhc_stats {
	uint64_t kicks;		   /* notifications received (device) or sent (driver) */
	uint64_t kicks_suppressed; /* batches found (device) or offered (driver) without one */
	uint64_t calls;		   /* notifications sent (device) or received (driver) */
	uint64_t calls_suppressed; /* batches published without one, as the driver asked */
	uint64_t batches;	   /* batches of requests taken */
	uint64_t busy_ns;	   /* time in batches */
	uint64_t inflight;	   /* requests taken and not yet completed; of a bdev, those
				      that it did not end in the batch they came in */
	uint64_t calls_delayed; /* batches whose notification was put off, or sent with another's */
	struct vhc_op_stats op[VHC_NUM_OPS];
	uint64_t malformed; /* requests of which the device could make nothing: see
			       VHC_UPCALL_MALFORMED; in `op` they count as others that failed */
};

struct vhc_reactor_stats {
	uint64_t busy_ns;  /* in loops that found work */
	uint64_t idle_ns;  /* in loops that found none, and asleep */
	uint64_t sleep_ns; /* the part of idle_ns spent asleep */
	uint64_t loops;	   /* times round */
	uint64_t wakeups;  /* sleeps ended */
	uint64_t rings;	   /* rings owned */
	uint64_t polled;   /* rings of them being polled, not armed */
	uint64_t tid;	   /* kernel thread id */
};

/*
 * Takes a zeroed struct vhc_stats from an arena that stays mapped for the life
 * of the process and writes its address: a view of it never dangles.
 * Errors: -ENOMEM (4096 in use). Thread: any.
 */
VHC_API int vhc_stats_alloc(uint64_t *addr);

/* Gives a page back, to be zeroed and used again. Thread: any. */
VHC_API void vhc_stats_free(uint64_t addr);

/* ---- Traces: the last requests of a ring ------------------------------------------ */

/* Records of a ring's last requests, with the time of each step. Referenced. */
struct vhc_trace;

/* Records that a trace can have: a power of two. */
#define VHC_TRACE_MIN_SIZE 64u
#define VHC_TRACE_MAX_SIZE 65536u

#define VHC_TRACE_NOWHERE UINT32_MAX /* no logical unit */
#define VHC_TRACE_UP (1u << 0)	     /* went up, to be answered from outside */
#define VHC_TRACE_QUIET (1u << 1)    /* the driver wanted no call */

/*
 * A request that has ended. Times are nanoseconds of CLOCK_MONOTONIC; 0: it did not
 * happen, is yet to, or was before the trace began.
 */
struct vhc_trace_record {
	uint64_t number;    /* of the request, since the trace began: from 0 on, in the order
			       in which they ended */
	uint64_t offset;    /* bytes; of several ranges, of the first */
	uint64_t len;	    /* bytes, of all ranges */
	uint64_t tag;	    /* SCSI */
	uint64_t kicked;    /* the kick that announced it was seen */
	uint64_t taken;	    /* from the ring */
	uint64_t submitted; /* to the backend, last */
	uint64_t completed; /* by the backend, or by who answered it */
	uint64_t published; /* the driver can see its end */
	uint64_t called;    /* the driver was called */
	uint32_t batch;	    /* the same for requests of which all times are one */
	uint32_t op;	    /* enum vhc_op */
	int32_t result;	    /* 0, or -errno of the backend or of what was wrong with it */
	uint32_t head;	    /* of its chain; packed: the slot that it was copied to */
	uint32_t address;   /* SCSI: VHC_LUN_ADDRESS, or VHC_TRACE_NOWHERE */
	uint32_t flags;	    /* VHC_TRACE_* */
	uint8_t opcode;	    /* SCSI, of commands that are no plain read or write */
	uint8_t status;	    /* SCSI: what the driver was told, as the next four */
	uint8_t response;   /* VIRTIO_SCSI_S_* */
	uint8_t sense_key;
	uint8_t asc;
	uint8_t ascq;
	uint8_t reserved[2];
};

/*
 * Makes an empty trace of `size` records. Errors: -EINVAL (no power of two from
 * VHC_TRACE_MIN_SIZE to VHC_TRACE_MAX_SIZE), -ENOMEM. Thread: any.
 */
VHC_API int vhc_trace_create(uint32_t size, struct vhc_trace **out);

/*
 * Copies the last records, up to max, oldest first, and the time of now. Takes no
 * lock: records that are overwritten meanwhile are left out. Returns how many there
 * are. Thread: any.
 */
VHC_API int vhc_trace_read(const struct vhc_trace *trace, struct vhc_trace_record *records,
			   uint32_t max, uint64_t *now);

/* Thread: any. */
VHC_API void vhc_trace_release(struct vhc_trace *trace);

/* ---- Dirty log: what migration has to copy again --------------------------------- */

/*
 * A bitmap that a front end shares (vhost-user, "Migration"): a bit for each 4 KiB
 * of guest-physical memory, from address 0 on.
 */
struct vhc_log;

/*
 * Maps size bytes of fd at offset as a log. signal_fd: -1, or an eventfd that is
 * signalled after the log has changed (SET_LOG_FD); it is duplicated.
 * Errors: -EINVAL (size 0, overflow, not a regular file or shorter than that),
 * -EBADF, -ENOMEM, -EACCES, -EMFILE. Thread: any.
 */
VHC_API int vhc_log_create(int32_t fd, uint64_t offset, uint64_t size, int32_t signal_fd,
			   struct vhc_log **out);

/*
 * Marks len bytes (0: none) at gpa as written, what is beyond the log's end aside.
 * Returns 0, or -ERANGE if there was such a part. Thread: any.
 */
VHC_API int vhc_log_mark(struct vhc_log *log, uint64_t gpa, uint64_t len);

/* Drops the caller's reference; the last one unmaps. Thread: any. */
VHC_API void vhc_log_release(struct vhc_log *log);

/* ---- In-flight regions: what a restart has to do again ----------------------------- */

/*
 * The buffer in which a back end keeps which requests it has taken, so that its
 * successor completes them after a crash (vhost-user, "Inflight I/O tracking"):
 * a region for each ring, in the specification's layout.
 */
struct vhc_inflight;

struct vhc_inflight_config {
	uint64_t offset;     /* bytes into fd, a multiple of 64 */
	uint64_t size;	     /* bytes to use from there */
	int32_t fd;	     /* a regular file, as vhc_pages_alloc makes */
	uint32_t num_queues; /* 1..VHC_INFLIGHT_MAX_QUEUES */
	uint32_t queue_size; /* most entries that a ring has: 1..VHC_RING_MAX_SIZE */
	uint32_t packed;     /* 1: the rings are packed, 0: split */
};

#define VHC_INFLIGHT_MAX_QUEUES 1024u

/* Bytes that so many rings need. Errors: -EINVAL (see above). Thread: any. */
VHC_API int64_t vhc_inflight_bytes(uint32_t num_queues, uint32_t queue_size, uint32_t packed);

/*
 * Maps a buffer. What is in it is not believed: it is looked at when a ring is
 * created on it. Errors: -EINVAL (too small, a shorter file, not a regular one),
 * -EBADF, -EACCES, -ENOMEM. Thread: any.
 */
VHC_API int vhc_inflight_create(const struct vhc_inflight_config *config,
				struct vhc_inflight **out);

/* Drops the caller's reference. Thread: any. */
VHC_API void vhc_inflight_release(struct vhc_inflight *inflight);

/* What is wrong with a ring's region: the fields that say what cannot be. */
enum vhc_damage {
	VHC_DAMAGE_VERSION = 1,	 /* version, features: no such region is known here */
	VHC_DAMAGE_DESC_NUM = 2, /* desc_num: fewer than the ring has, or more than fit */
	VHC_DAMAGE_BATCH = 3,	 /* split: last_batch_head, next: beyond the entries */
	VHC_DAMAGE_INFLIGHT = 4, /* inflight: of an entry that the ring does not have; packed: of
				    more entries than it has */
	VHC_DAMAGE_USED = 5,	 /* packed: used_idx, old_used_idx: beyond the ring */
	VHC_DAMAGE_FREE = 6,	 /* packed: free_head, next: a list that goes round in a circle */
	VHC_DAMAGE_CHAIN = 7, /* packed: num, last, next: no chain, or one with another's entries */
};

/*
 * Why vhc_ring_create last said -EPROTO about a region of the buffer: enum vhc_damage; 0: it
 * never did. Thread: control.
 */
VHC_API uint32_t vhc_inflight_damage(const struct vhc_inflight *inflight);

/* ---- Rings, device side ---------------------------------------------------- */

/* A split or packed virtqueue as the device sees it (virtio 2.7, 2.8). */
struct vhc_ring;

#define VHC_RING_MAX_SIZE 32768u
#define VHC_CHAIN_MAX_IOV 258u /* 256 data segments and two headers */

struct vhc_ring_config {
	uint64_t mem;	   /* struct vhc_mem *; a view if ACCESS_PLATFORM was negotiated */
	uint64_t features; /* negotiated virtio features; RING_PACKED, INDIRECT_DESC, EVENT_IDX and
			      ACCESS_PLATFORM matter */
	uint64_t desc;	   /* user address (ACCESS_PLATFORM: iova, as all three) of the descriptor
			      table or, packed, ring, 16-byte aligned */
	uint64_t avail;	   /* of the available ring, 2-byte aligned; packed: of the driver event
			      suppression structure, 4-byte aligned */
	uint64_t used;	   /* of the used ring, or the device event suppression structure, 4-byte
			      aligned */
	uint64_t stats;	   /* struct vhc_stats * of this ring, from vhc_stats_alloc */
	uint64_t inflight; /* struct vhc_inflight *, or 0: nothing is tracked */
	uint64_t log;	   /* struct vhc_log *, or 0: what is written is not logged */
	uint64_t log_used; /* guest address as which `used` is logged; UINT64_MAX: it is not */
	uint32_t size;	   /* entries, up to VHC_RING_MAX_SIZE; split: a power of two */
	uint32_t base;	   /* as VHC_RING_BASE: where the device goes on */
	uint32_t index;	   /* of the ring, in `inflight` */
	int32_t kick_fd;   /* eventfd; -1: the ring is polled */
	int32_t call_fd;   /* eventfd or pipe; -1: the driver polls */
	int32_t err_fd;	   /* eventfd; -1: none */
	uint32_t id;	   /* comes back in upcalls */
	uint32_t reserved;
};

/*
 * Where a ring goes on, as SET_VRING_BASE and GET_VRING_BASE have it. Split: the next
 * available index, 0..65535. Packed: in bits 0..14 the position of the next descriptor
 * to take, in bit 15 the wrap counter there; in bits 16..30 and 31 the same of the
 * next used descriptor. A packed ring begins at VHC_RING_BASE_PACKED.
 */
#define VHC_RING_BASE_PACKED 0x80008000u

/* A chain taken from the available ring, checked and translated. */
struct vhc_chain {
	uint32_t head;	  /* names it in vhc_ring_push; split: index of its first descriptor */
	uint32_t num_out; /* leading pieces of iov that the device reads */
	uint32_t num_in;  /* pieces after them that the device writes */
	uint32_t reserved;
	uint64_t out_len; /* bytes in the former */
	uint64_t in_len;  /* bytes in the latter */
	struct vhc_iov iov[VHC_CHAIN_MAX_IOV];
};

/*
 * Checks and maps a ring. It runs when given to a reactor, or by hand with the
 * calls below, never both.
 * With `inflight`, a region that nobody used yet (version 0) is initialized; in one
 * that was used, requests that were taken and not completed come first, in the order
 * in which they were taken, and `base` is worked out from it.
 * Errors: -EINVAL (size, alignment, base, index, an in-flight region for fewer
 * entries), -EFAULT (an address outside mem), -EPROTO (an in-flight region that
 * contradicts itself or the ring: see vhc_inflight_damage), -ENOMEM, -EMFILE. Thread: control.
 */
VHC_API int vhc_ring_create(const struct vhc_ring_config *config, struct vhc_ring **out);

/*
 * Takes the next available chain. Returns 1, or 0 if there is none.
 * Errors: -EPROTO (the ring is corrupt and stays broken; virtio 2.7.5),
 * -EFAULT, -E2BIG, -ELOOP (this chain is malformed: chain->head is set, push it
 * with length 0). Thread: control.
 */
VHC_API int vhc_ring_pop(struct vhc_ring *ring, struct vhc_chain *chain);

/*
 * Returns a chain to the driver, with len bytes written. Not visible before
 * vhc_ring_signal. Errors: -EINVAL (head not taken). Thread: control.
 */
VHC_API int vhc_ring_push(struct vhc_ring *ring, uint32_t head, uint32_t len);

/*
 * Publishes what was pushed and notifies the driver if it wants that. Returns 1
 * if it was notified, 0 if not. Thread: control.
 */
VHC_API int vhc_ring_signal(struct vhc_ring *ring);

/* Asks for (1) or suppresses (0) kicks. Returns 1 if chains wait. Thread: control. */
VHC_API int vhc_ring_notify(struct vhc_ring *ring, int32_t enable);

/* Where it goes on, as VHC_RING_BASE, with all that was taken pushed. Thread: control, ring not
 * running. */
VHC_API uint32_t vhc_ring_base(const struct vhc_ring *ring);

/*
 * Has a ring, running or not, write its requests to a trace that no other ring has, or
 * to none (NULL). Returns when nothing more is written to the one before. A trace can
 * be given on to a ring's successor. Errors: none. Thread: control.
 */
VHC_API int vhc_ring_set_trace(struct vhc_ring *ring, struct vhc_trace *trace);

/* Drops the caller's reference. A ring that runs is to be stopped first. Thread: control. */
VHC_API void vhc_ring_release(struct vhc_ring *ring);

/* ---- Rings, driver side ----------------------------------------------------- */

/* A split or packed virtqueue as the driver sees it. Its memory is the caller's. */
struct vhc_driver_ring;

struct vhc_driver_ring_config {
	uint64_t addr;	    /* of layout.bytes zeroed bytes, 4096-aligned */
	uint64_t features;  /* negotiated: RING_PACKED, EVENT_IDX, INDIRECT_DESC */
	uint64_t stats;	    /* struct vhc_stats *, or 0 */
	uint64_t gpa_delta; /* added to an address of this process to get its gpa */
	uint32_t size;	    /* entries: a power of two; packed: any */
	int32_t kick_fd;    /* eventfd the device sleeps on */
	int32_t call_fd;    /* eventfd the device signals; -1: polled */
	uint32_t reserved;
};

/* Chains of 2 to so many pieces go into an indirect table if that was negotiated. */
#define VHC_DRIVER_RING_INDIRECT 8u

struct vhc_driver_ring_layout {
	uint64_t avail; /* offset of the available ring, or driver event suppression structure */
	uint64_t used;	/* offset of the used ring, or device event suppression structure */
	uint64_t bytes; /* in all, with the indirect tables behind the used ring */
};

/*
 * Where the parts of a ring of size entries lie from config.addr, of the format that
 * features say (RING_PACKED). The device must see all of them: the indirect tables
 * are among them. Errors: -EINVAL (size). Thread: any.
 */
VHC_API int vhc_driver_ring_layout(uint32_t size, uint64_t features,
				   struct vhc_driver_ring_layout *out);

/* Errors: -EINVAL (size, addr), -ENOMEM, -EMFILE, -EBADF. Thread: control. */
VHC_API int vhc_driver_ring_create(const struct vhc_driver_ring_config *config,
				   struct vhc_driver_ring **out);

/*
 * Offers a chain of num_out device-readable and then num_in device-writable
 * pieces. Not visible before vhc_driver_ring_kick. token comes back when the
 * chain is used. With INDIRECT_DESC negotiated, chains of 2 to
 * VHC_DRIVER_RING_INDIRECT pieces take one descriptor, others one a piece.
 * Errors: -ENOSPC (no free descriptors), -EINVAL (no piece, more than the ring
 * has, an empty piece, one of 4 GiB and more). Thread: control.
 */
VHC_API int vhc_driver_ring_add(struct vhc_driver_ring *ring, const struct vhc_iov *iov,
				uint32_t num_out, uint32_t num_in, uint64_t token);

/*
 * Publishes what was added and kicks if the device wants it: returns 1 if it
 * did. Thread: control.
 */
VHC_API int vhc_driver_ring_kick(struct vhc_driver_ring *ring);

/*
 * Takes a used chain. Returns 1 with its token and written length, or 0.
 * Errors: -EPROTO (the device returned what it was not given; the ring stays
 * broken). Thread: control.
 */
VHC_API int vhc_driver_ring_get(struct vhc_driver_ring *ring, uint64_t *token, uint32_t *len);

/*
 * Waits until the device has used a chain or timeout_ms has passed. Returns 1
 * or 0. Thread: control; it blocks.
 */
VHC_API int vhc_driver_ring_wait(struct vhc_driver_ring *ring, int32_t timeout_ms);

/* Drops the caller's reference. The memory stays the caller's. Thread: control. */
VHC_API void vhc_driver_ring_release(struct vhc_driver_ring *ring);

/* ---- Upcalls: what C tells TypeScript ----------------------------------------- */

enum vhc_upcall_type {
	VHC_UPCALL_ACCEPTED = 1,     /* id: listener; arg: the new connection's id */
	VHC_UPCALL_MESSAGE = 2,	     /* id: connection; data, fds: one whole message */
	VHC_UPCALL_CLOSED = 3,	     /* id: connection; status: 0 or -errno; the last of this id */
	VHC_UPCALL_RING_STOPPED = 4, /* id: ring; arg: where it goes on, as VHC_RING_BASE */
	VHC_UPCALL_RING_BROKEN = 5,  /* id: ring; status: -errno, as vhc_ring_pop's; arg: enum
					vhc_break_reason. It stays the reactor's until stopped */
	VHC_UPCALL_LOAD_DONE = 6,    /* id: load; status: 0, -EPROTO (a ring is broken) or
					-ETIMEDOUT (see vhc_load_stop) */
	VHC_UPCALL_REQUEST = 7,	    /* id: ring; arg: the request; data: struct vhc_request_info and
				       then the beginning of its data; status: 0, or -errno if it was
				       executed and failed */
	VHC_UPCALL_LUN_IDLE = 8,    /* id: ring; arg: VHC_LUN_ADDRESS: see vhc_reactor_hold_lun */
	VHC_UPCALL_ABORTED = 9,	    /* id: ring; arg: see vhc_reactor_abort; status: how many */
	VHC_UPCALL_IO_DONE = 10,    /* id: the I/O's; status: 0 or -errno */
	VHC_UPCALL_IOTLB_MISS = 11, /* id: ring; arg: iova; status: VHC_MEM_* that is wanted there.
				       The ring takes nothing more until vhc_reactor_set_mem */
	VHC_UPCALL_MALFORMED = 12,  /* id: ring; arg: the head of a chain that was no request;
				       status: -EFAULT (memory that is not the guest's), -E2BIG (too
				       many pieces), -ELOOP (descriptors that are no chain) or
				       -EPROTO (too short for a header or an answer). For the first
				       of a ring that runs, then about once a second at most while
				       there are more: vhc_stats.malformed counts all */
};

/* What broke a ring. */
enum vhc_break_reason {
	VHC_BREAK_AVAIL_INDEX = 1, /* split: more chains are available than the ring has entries */
	VHC_BREAK_HEAD_RANGE = 2,  /* split: a chain begins beyond the descriptor table */
	VHC_BREAK_HEAD_TWICE = 3,  /* split: a chain is available that the device has already */
	VHC_BREAK_CHAIN_LONG = 4, /* packed: a chain of more descriptors than the driver has left */
	VHC_BREAK_USED_FULL = 5,  /* more chains were returned than the driver can have offered */
	VHC_BREAK_MEMORY = 6,	  /* there is nothing any more behind shared memory: it was cut */
	VHC_BREAK_LOG = 7,	  /* the device wrote where the dirty log does not reach */
	VHC_BREAK_CALL = 8,	  /* the descriptor for calls was made to block */
};

#define VHC_MSG_MAX 4096u /* bytes of a message's payload */
#define VHC_MSG_MAX_FDS 32u
#define VHC_UPCALL_SLOTS 256u

/* A slot of the upcall ring. Descriptors in it are the reader's to close. */
struct vhc_upcall {
	uint32_t type;
	uint32_t id;
	int32_t status;
	uint32_t len; /* bytes of data */
	uint64_t arg;
	uint32_t num_fds;
	uint32_t reserved;
	int32_t fds[VHC_MSG_MAX_FDS];
	uint8_t data[VHC_MSG_MAX + 16];
};

struct vhc_upcalls;

struct vhc_upcalls_info {
	uint64_t slots; /* address of VHC_UPCALL_SLOTS struct vhc_upcall, never unmapped */
	int32_t fd;	/* pipe: readable when upcalls wait; the caller's to read and close */
	uint32_t reserved;
};

/* Makes an upcall ring: many writers, one reader. Errors: -ENOMEM, -EMFILE. Thread: any. */
VHC_API int vhc_upcalls_create(struct vhc_upcalls **out, struct vhc_upcalls_info *info);

/*
 * Gives back the first `consumed` slots of those last reported and returns how
 * many consecutive slots are now ready; the first follows the last one given
 * back, modulo VHC_UPCALL_SLOTS. When it returns 0, the next upcall writes a
 * byte to the pipe. A full ring holds its writers back; none is lost.
 * Thread: one reader.
 */
VHC_API int vhc_upcalls_advance(struct vhc_upcalls *upcalls, uint32_t consumed);

/* Drops the caller's reference. Writers must be gone. Thread: control. */
VHC_API void vhc_upcalls_release(struct vhc_upcalls *upcalls);

/* ---- Transport: messages with descriptors over Unix sockets -------------------- */

/*
 * Listens on a Unix socket at path with permission bits mode. A file already at
 * path is -EADDRINUSE. Returns the descriptor, which is the caller's.
 * Errors: bind(2)'s. Thread: any (mode is set with umask unaffected).
 */
VHC_API int vhc_socket_listen(const char *path, uint32_t mode);

/* Connects to a Unix socket. Returns the descriptor. Errors: connect(2)'s. Thread: any. */
VHC_API int vhc_socket_connect(const char *path);

/*
 * Makes a connected pair, for the back-end channel of vhost-user
 * (SET_BACKEND_REQ_FD) and for tests. Thread: any.
 */
VHC_API int vhc_socket_pair(int32_t fds[2]);

/*
 * Writes the user id of the process that connected Unix socket fd, as it was
 * then. Errors: -EBADF, -ENOTSOCK, -EINVAL (not a connected Unix socket).
 * Thread: any.
 */
VHC_API int vhc_socket_peer_uid(int32_t fd, uint32_t *uid);

/* One thread that reads messages from many connections. */
struct vhc_transport;

/* Starts the thread. Errors: -ENOMEM, -EMFILE, -EAGAIN. Thread: any. */
VHC_API int vhc_transport_create(struct vhc_upcalls *upcalls, struct vhc_transport **out);

/*
 * Accepts connections on listening socket fd: VHC_UPCALL_ACCEPTED for each.
 * Returns its id (> 0). Errors: -EBADF, -EINVAL (it does not listen), -ENOMEM.
 * Thread: control.
 */
VHC_API int vhc_transport_listen(struct vhc_transport *transport, int32_t fd);

/*
 * Takes over connected socket fd (duplicated) as if it had been accepted, but
 * without the upcall. Returns its id. Thread: control.
 */
VHC_API int vhc_transport_connect(struct vhc_transport *transport, int32_t fd);

/*
 * Lets connection id deliver its next message. A connection delivers one, then
 * waits for this call; a new one waits for it too, so there is at most one
 * unanswered message for each connection in the upcall ring. A hang-up is told at
 * once, also while a message is being answered. VHC_UPCALL_CLOSED has status 0 for
 * a hang-up between messages, else -EPROTO (inside one), -ETIMEDOUT (half a
 * message for 3 s), -EMSGSIZE (payload over VHC_MSG_MAX), -E2BIG (more than
 * VHC_MSG_MAX_FDS descriptors), -EMFILE (no room here for them), -EPIPE (it does
 * not take an answer), or recvmsg(2)'s.
 * Errors: -ENOENT. Thread: control.
 */
VHC_API int vhc_transport_next(struct vhc_transport *transport, uint32_t id);

/*
 * Sends one message, whole or not at all, with descriptors (which stay the
 * caller's). Errors: -ENOENT, -EAGAIN (the peer does not read), -EPIPE.
 * Thread: control.
 */
VHC_API int vhc_transport_send(struct vhc_transport *transport, uint32_t id, const uint8_t *message,
			       uint32_t len, const int32_t *fds, uint32_t num_fds);

/*
 * Closes connection or listener id; a connection's VHC_UPCALL_CLOSED follows.
 * Errors: -ENOENT. Thread: control.
 */
VHC_API int vhc_transport_close(struct vhc_transport *transport, uint32_t id);

/*
 * Takes connection or listener id out and returns its descriptor, which is the caller's.
 * Nothing is lost: what the other end has sent, or who has connected, waits in the
 * socket. What was posted before is the last of this id.
 * Errors: -ENOENT (also of a connection whose VHC_UPCALL_CLOSED is on its way), -EBUSY
 * (part of a message was read, or a message or a listener's VHC_UPCALL_ACCEPTED finds
 * no room). Thread: control.
 */
VHC_API int vhc_transport_take(struct vhc_transport *transport, uint32_t id);

/* Closes everything and ends the thread. Thread: control. */
VHC_API void vhc_transport_release(struct vhc_transport *transport);

/* ---- Backends ------------------------------------------------------------------ */

/* A block device: what executes reads, writes, flushes, unmaps and zeroes. */
struct vhc_bdev;

/* A device of num_blocks blocks that reads as it finds and forgets writes. */
VHC_API int vhc_bdev_null_create(uint32_t block_size, uint64_t num_blocks, struct vhc_bdev **out);

/*
 * A RAM disk in pages, which it takes over on success (release frees them).
 * UNMAP gives memory back to the system where whole pages allow it.
 * Errors: -EINVAL (pages smaller than the disk, block size), -ENOMEM. Thread: any.
 */
VHC_API int vhc_bdev_malloc_create(const struct vhc_pages *pages, uint32_t block_size,
				   uint64_t num_blocks, struct vhc_bdev **out);

struct vhc_file_config {
	int32_t fd;	     /* regular file or block device, opened without O_DIRECT */
	int32_t direct_fd;   /* the same opened with O_DIRECT, or -1: buffered */
	uint32_t block_size; /* logical, 512 or more */
	uint32_t flags;
	uint64_t num_blocks;
};
#define VHC_FILE_READONLY (1u << 0)
#define VHC_FILE_BLOCK_DEVICE (1u << 1) /* else a regular file */

/* What direct_fd's I/O must be aligned to, in bytes. */
struct vhc_file_align {
	uint32_t memory;
	uint32_t offset;
};

/*
 * Finds the alignment that O_DIRECT descriptor fd wants (statx, or by trying).
 * Errors: -EINVAL (it does no direct I/O), -EBADF. Thread: any.
 */
VHC_API int vhc_file_alignment(int32_t fd, struct vhc_file_align *out);

/*
 * A file or block device through io_uring. Buffered reads that the page cache
 * holds are answered at once; a file on tmpfs is mapped and copied from. Buffers
 * that direct I/O cannot take are bounced; requests whose offset or length it
 * cannot take (blocks smaller than the file's alignment) go through fd instead.
 * Errors: -EINVAL (shape, a file shorter than num_blocks, direct_fd without
 * O_DIRECT), -EBADF, -ENOTTY (not a block device), -ENOMEM, -EMFILE, -ENOSYS (no
 * io_uring). Thread: any.
 */
VHC_API int vhc_bdev_file_create(const struct vhc_file_config *config, struct vhc_bdev **out);

/*
 * Sets the number of blocks, seen by the next request. The backend must have
 * them: a RAM disk refuses more than its pages hold (-ENOSPC). To shrink, stop
 * the rings first. Thread: control.
 */
VHC_API int vhc_bdev_resize(struct vhc_bdev *bdev, uint64_t num_blocks);

/*
 * Moves a RAM disk to larger pages, taken over on success. No ring may run on
 * it. Errors: -EINVAL (not a RAM disk, pages too small), -EBUSY. Thread: control.
 */
VHC_API int vhc_bdev_malloc_move(struct vhc_bdev *bdev, const struct vhc_pages *pages,
				 uint64_t num_blocks);

/*
 * Copies, while rings run, what was written of a RAM disk from offset on, len bytes,
 * to other pages, which are zero at first and stay the caller's. A move to the same
 * pages then copies only what has changed since, and so does another call. Returns how
 * many pages of 4 KiB were copied. With len 0: forgets what was copied; to be called
 * before pages that the disk did not move to are freed.
 * Errors: -EINVAL (not a RAM disk; offset or len not multiples of 4096, not in both
 * pages, len too large for the result), -ENOMEM, -ENOSYS (the system lacks
 * membarrier(2)). Thread: control.
 */
VHC_API int vhc_bdev_malloc_copy(struct vhc_bdev *bdev, const struct vhc_pages *pages,
				 uint64_t offset, uint64_t len);

/*
 * Writes to fd, from its start, which pages of a RAM disk were written (see
 * vhc_bdev_extent), for vhc_bdev_malloc_load_map of a disk made of the same pages,
 * which have the data but not that. No ring may run on it. Errors: -EINVAL (not a RAM
 * disk; there is less in fd), write(2)'s, read(2)'s. Thread: control.
 */
VHC_API int vhc_bdev_malloc_save_map(struct vhc_bdev *bdev, int32_t fd);
VHC_API int vhc_bdev_malloc_load_map(struct vhc_bdev *bdev, int32_t fd);

/* A run of a device that is all backed by storage, or all not and reads as zeroes. */
struct vhc_extent {
	uint64_t len;	 /* bytes: whole blocks, up to the end of the device */
	uint32_t mapped; /* 1 or 0 */
	uint32_t reserved;
};

/*
 * Tells what is at byte offset, a multiple of the block size: holes of files, pages
 * of a RAM disk that nobody wrote or that were unmapped. A block that is backed in
 * part is mapped. The run may be followed by another like it. Errors: -ERANGE
 * (beyond the end), -EIO. Thread: any.
 */
VHC_API int vhc_bdev_extent(struct vhc_bdev *bdev, uint64_t offset, struct vhc_extent *out);

/* What a bdev may do a second, of all who use it together; 0: there is no such limit. */
struct vhc_qos_limits {
	uint64_t ios;	      /* reads and writes */
	uint64_t bytes;	      /* read and written */
	uint64_t read_bytes;  /* read */
	uint64_t write_bytes; /* written */
};
/* Most that each can be. */
#define VHC_QOS_MAX (UINT64_C(1) << 50)

/*
 * Sets the limits of a bdev. In any time of s seconds no more begins than limit *
 * (s + 0.01) and one request; those who use it share what there is. Other limits for a
 * bdev that has some take effect at once, also for what waits, and so does their end. The
 * first, and that a bdev without any is reached directly again, is so for rings started,
 * logical units attached, and I/O submitted after that. FLUSH, UNMAP and WRITE_ZEROES are
 * not limited. Requests of a ring that is stopped no longer wait, but count; an abort
 * ends those that wait. Errors: -ERANGE (more than VHC_QOS_MAX), -ENOMEM. Thread: control.
 */
VHC_API int vhc_bdev_set_qos(struct vhc_bdev *bdev, const struct vhc_qos_limits *limits);

/*
 * Bdevs that stack on another, their base, of which they hold a reference. Requests,
 * extents and failures go through them; vhc_bdev_resize gives them blocks that the base
 * has. What no rule or delay is for costs them a copy of its description.
 */

/*
 * A bdev that shows num_blocks of base from first_block on. Errors: -EINVAL (base has
 * not those), -ENOMEM. Thread: control.
 */
VHC_API int vhc_bdev_passthru_create(struct vhc_bdev *base, uint64_t first_block,
				     uint64_t num_blocks, struct vhc_bdev **out);

/* Latencies: one request in a hundred takes P99, the others AVG. */
enum vhc_delay {
	VHC_DELAY_AVG_READ = 0,
	VHC_DELAY_P99_READ = 1,
	VHC_DELAY_AVG_WRITE = 2,
	VHC_DELAY_P99_WRITE = 3,
};
#define VHC_NUM_DELAYS 4u
#define VHC_MAX_DELAY_NS UINT64_C(86400000000000) /* a day */

/* A bdev whose reads and writes end later. It has no delays at first. Thread: control. */
VHC_API int vhc_bdev_delay_create(struct vhc_bdev *base, struct vhc_bdev **out);

/*
 * Has reads or writes end ns after they were submitted, or with the base if that is
 * later: those that are submitted from now on. Errors: -EINVAL (not a delay bdev, which,
 * ns above VHC_MAX_DELAY_NS). Thread: any.
 */
VHC_API int vhc_bdev_delay_set(struct vhc_bdev *bdev, uint32_t which, uint64_t ns);

enum vhc_error_kind {
	VHC_ERROR_NONE = 0,
	VHC_ERROR_FAILURE = 1, /* ends with -EIO, the base untouched */
	VHC_ERROR_PENDING = 2, /* hangs until vhc_bdev_error_resume */
	VHC_ERROR_CORRUPT = 3, /* a byte of the data, read or written, is another; others pass */
	VHC_ERROR_NOMEM = 4,   /* ends with -ENOMEM, the base untouched */
};

/* What happens to the next `num` requests of an operation that all of this is true of. */
struct vhc_error_rule {
	uint64_t queue_depth;	 /* so many or more of its channel are with the base */
	uint64_t offset;	 /* bytes: it touches any of these; a flush touches none */
	uint64_t len;		 /* 0: anywhere */
	uint64_t seed;		 /* chance: of the sequence that decides */
	uint64_t corrupt_offset; /* CORRUPT: of the byte in the data; beyond it: none */
	uint32_t kind;		 /* enum vhc_error_kind; NONE takes the rule away */
	uint32_t num;
	uint32_t chance;	/* of 2^32, decided for one request after the other; 0: always */
	uint32_t corrupt_value; /* CORRUPT: 1..255, what the byte is XORed with */
};

/* A bdev that does to requests what rules say. It has none at first. Thread: control. */
VHC_API int vhc_bdev_error_create(struct vhc_bdev *base, struct vhc_bdev **out);

/*
 * Sets the rule of each operation in ops, bits 1 << enum vhc_op, in place of the one
 * before, while requests go on; num is kept exactly, whatever reactors they come from.
 * Errors: -EINVAL (not an error bdev, ops, rule). Thread: any.
 */
VHC_API int vhc_bdev_error_inject(struct vhc_bdev *bdev, uint32_t ops,
				  const struct vhc_error_rule *rule);

/*
 * Takes PENDING rules away and has what hangs go on, as if it were submitted now.
 * Errors: -EINVAL (not an error bdev). Thread: any.
 */
VHC_API int vhc_bdev_error_resume(struct vhc_bdev *bdev);

/* How many requests the rule of an operation is still for; how many hang. Thread: any. */
VHC_API int64_t vhc_bdev_error_left(const struct vhc_bdev *bdev, uint32_t op);
VHC_API int64_t vhc_bdev_error_hanging(const struct vhc_bdev *bdev);

/*
 * With holding 0, has bdev, not what it stacks on, keep nothing waiting of its own will:
 * what hangs, or would, fails, and delays end at once; so that rings can be stopped.
 * 1: as before. Thread: any.
 */
VHC_API void vhc_bdev_set_holding(struct vhc_bdev *bdev, int32_t holding);

/*
 * Has a bdev stack on another base, with the same blocks at the same place. No ring may
 * run on it. Errors: -EINVAL (it stacks on none, another block size). Thread: control.
 */
VHC_API int vhc_bdev_rebase(struct vhc_bdev *bdev, struct vhc_bdev *base);

/*
 * Has the reactor of that index (vhc_reactor_config) count in a struct vhc_stats * what
 * bdevs that stack on this one ask of it. The page outlives the bdev's use; 0: none.
 * To be set before a ring uses the bdev. Errors: -EINVAL (index), -ENOMEM. Thread: control.
 */
VHC_API int vhc_bdev_set_stats(struct vhc_bdev *bdev, uint32_t reactor_index, uint64_t stats_addr);

/*
 * Drops the caller's reference; the last one closes, and drops that to the bdev that it
 * stacks on. Thread: control.
 */
VHC_API void vhc_bdev_release(struct vhc_bdev *bdev);

/* ---- virtio-blk ------------------------------------------------------------------ */

/* The request side of a virtio-blk device (virtio 5.2.6). */
struct vhc_blk;

struct vhc_blk_config {
	uint64_t bdev;	   /* struct vhc_bdev *; 0: gone, every request ends in IOERR */
	uint64_t features; /* negotiated: FLUSH, DISCARD, WRITE_ZEROES, CONFIG_WCE, RO matter */
	uint32_t flags;
	uint32_t max_discard_sectors; /* limits that the configuration space shows, enforced */
	uint32_t max_discard_segments;
	uint32_t max_write_zeroes_sectors;
	uint32_t max_write_zeroes_segments;
	uint8_t serial[20]; /* GET_ID's answer, zero-padded */
};
#define VHC_BLK_READONLY (1u << 0)

/* Errors: -EINVAL, -ENOMEM. Thread: any. */
VHC_API int vhc_blk_create(const struct vhc_blk_config *config, struct vhc_blk **out);

/*
 * Write-back (1) or write-through (0) cache, virtio 5.2.5.2: in write-through
 * each write is durable when it completes. Seen by the next request. Thread: any.
 */
VHC_API void vhc_blk_set_writeback(struct vhc_blk *blk, int32_t writeback);

/* Drops the caller's reference. Thread: any. */
VHC_API void vhc_blk_release(struct vhc_blk *blk);

/* ---- virtio-scsi ----------------------------------------------------------------- */

/*
 * The request rings of a virtio-scsi device (virtio 5.6.6.1). Reads, writes and
 * the like that have nothing odd about them are executed here; every other
 * command goes up as a VHC_UPCALL_REQUEST, and is answered with
 * vhc_request_complete or vhc_request_execute. No sense data is made here.
 *
 * Executed are, with a control byte and protection bits of 0, of task attribute
 * SIMPLE or HEAD OF QUEUE, in whole blocks of a device that has them, if the
 * logical unit's gate is open and the data buffer of the direction is there and
 * as long as the transfer or longer:
 * READ (6, 10, 12, 16) without FUA; WRITE (6, 10, 12, 16); SYNCHRONIZE CACHE (10,
 * 16) without IMMED; UNMAP; WRITE SAME (10, 16) without ANCHOR, of zeroes.
 */

#define VHC_SCSI_TARGETS 256u
#define VHC_SCSI_LUNS 256u /* of a target */
#define VHC_SCSI_MAX_CDB 260u
#define VHC_SCSI_MAX_SENSE 252u

/* Names a logical unit of a connection: target and LUN, each below 256. */
#define VHC_LUN_ADDRESS(target, lun) ((uint32_t)(target) << 16 | (uint32_t)(lun))

/* The sizes that the driver set in the configuration space (virtio 5.6.4). */
struct vhc_scsi_config {
	uint32_t cdb_size;   /* 6..VHC_SCSI_MAX_CDB */
	uint32_t sense_size; /* 0..VHC_SCSI_MAX_SENSE */
};

/* A logical unit as one connection (I_T nexus) sees it. */
struct vhc_lun;

enum vhc_gate {
	VHC_GATE_RUN = 0,      /* execute */
	VHC_GATE_ASK = 1,      /* a VHC_UPCALL_REQUEST for each command */
	VHC_GATE_CONFLICT = 2, /* end in RESERVATION CONFLICT */
};

struct vhc_lun_config {
	uint64_t bdev; /* struct vhc_bdev * */
	uint32_t read_gate;
	uint32_t write_gate;	 /* also of all that unmaps or zeroes */
	uint32_t writeback;	 /* 1: a write is durable when it completes only with FUA */
	uint32_t max_blocks;	 /* of a READ or WRITE; more goes up */
	uint32_t max_unmap;	 /* blocks of one UNMAP in all; more goes up */
	uint32_t max_write_same; /* blocks of one WRITE SAME; more goes up, and so does 0 */
};

/* Errors: -EINVAL, -ENOMEM. Thread: any. */
VHC_API int vhc_lun_create(const struct vhc_lun_config *config, struct vhc_lun **out);

/*
 * Sets the gates (enum vhc_gate). Requests that a ring takes after a call on the
 * result of which they depend obey them. Thread: any.
 */
VHC_API void vhc_lun_set_gates(struct vhc_lun *lun, uint32_t read_gate, uint32_t write_gate);

/* Sets writeback, as in the configuration. Seen by the next request. Thread: any. */
VHC_API void vhc_lun_set_writeback(struct vhc_lun *lun, int32_t writeback);

/* Drops the caller's reference. Thread: any. */
VHC_API void vhc_lun_release(struct vhc_lun *lun);

/* ---- Requests that are answered from outside ---------------------------------------- */

/*
 * What a VHC_UPCALL_REQUEST says. On a SCSI request ring the lengths are those
 * of data-out and data-in, and of data-out as much as fits follows in the
 * upcall, unless the command is a plain write; on a raw ring they are all that
 * the device reads and writes of the chain, of the former as much as fits
 * follows too, and the rest of the struct is 0.
 * A request is its reader's until it is completed or executed.
 */
struct vhc_request_info {
	uint64_t out_len;
	uint64_t in_len;
	uint64_t tag;
	uint8_t lun[8];
	uint32_t task_attr;
	uint32_t cdb_len; /* bytes of cdb: what the configuration says */
	uint32_t copied;  /* bytes of data that follow this struct */
	uint32_t held;	  /* 1: ORDERED, and its logical unit is held for it on its ring */
	uint8_t cdb[264];
};

/*
 * Copies up to len bytes from offset on of the data that the device reads (of
 * data-out, on a SCSI ring). Returns how many. Thread: the request's reader.
 */
VHC_API int vhc_request_read(uint64_t request, uint64_t offset, uint8_t *buf, uint32_t len);

/* The same to the data that the device writes (to data-in). Thread: the request's reader. */
VHC_API int vhc_request_write(uint64_t request, uint64_t offset, const uint8_t *buf, uint32_t len);

/* The end of a command: struct virtio_scsi_cmd_resp, in the order of use. */
struct vhc_scsi_result {
	uint32_t response; /* VIRTIO_SCSI_S_* */
	uint32_t status;   /* SAM status */
	uint32_t residual;
	uint32_t written; /* bytes of data-in, for the used element */
	uint32_t sense_len;
	uint8_t sense[VHC_SCSI_MAX_SENSE];
};

/*
 * Completes a command of a SCSI ring. The request is gone then. Errors: none.
 * Thread: the request's reader.
 */
VHC_API void vhc_request_complete(uint64_t request, const struct vhc_scsi_result *result);

/* Completes a request of a raw ring, with so many bytes written. Thread: the request's reader. */
VHC_API void vhc_request_complete_raw(uint64_t request, uint32_t written);

#define VHC_EXECUTE_DURABLE (1u << 0) /* WRITE: on stable storage when it completes */
#define VHC_EXECUTE_HELD (1u << 1)    /* also while the logical unit is held */

/*
 * Executes a read or write of len bytes at offset of the logical unit's device,
 * with the data buffers of a command of a SCSI ring, whatever its gates; without
 * VHC_EXECUTE_HELD it may wait there as long as the logical unit is held. Then it
 * completes with GOOD, or comes back up with a status: -ERANGE (not in the device,
 * not whole blocks, not in the buffers, or more than 1 GiB), -ENODEV (no logical
 * unit is attached for its address), or the device's. op: VHC_OP_READ or
 * VHC_OP_WRITE. Thread: the request's reader.
 */
VHC_API void vhc_request_execute(uint64_t request, uint32_t op, uint32_t flags, uint64_t offset,
				 uint64_t len);

/* ---- Reactors ---------------------------------------------------------------------- */

enum vhc_reactor_mode {
	VHC_MODE_ADAPTIVE = 0,	/* polls while there is work, then sleeps */
	VHC_MODE_POLL = 1,	/* never sleeps */
	VHC_MODE_INTERRUPT = 2, /* never spins */
};

/* A thread that owns rings and runs them. */
struct vhc_reactor;

struct vhc_reactor_config {
	int32_t cpu;	  /* processor to pin to, or -1 */
	uint32_t mode;	  /* enum vhc_reactor_mode */
	uint64_t spin_ns; /* adaptive: how long to poll without work before sleeping; 0: default */
	uint32_t index;	  /* its number among the caller's reactors: see vhc_bdev_set_stats */
	uint32_t reserved;
};
/* Indices are less. */
#define VHC_MAX_REACTORS 4096u

/*
 * Starts a reactor. stats_addr gets the address of its struct vhc_reactor_stats,
 * which is never unmapped. Errors: -EINVAL (no such cpu, mode or index), -ENOMEM,
 * -EMFILE, -EAGAIN. Thread: any.
 */
VHC_API int vhc_reactor_create(struct vhc_upcalls *upcalls, const struct vhc_reactor_config *config,
			       struct vhc_reactor **out, uint64_t *stats_addr);

/*
 * Gives ring to the reactor, to be served by blk; returns when the reactor has
 * it. bdev_stats: struct vhc_stats * that counts the requests of blk's bdev on
 * this reactor, or 0. Errors: -EBUSY (the ring runs), -EMFILE, -ENOMEM, -EPERM
 * (kick_fd cannot be waited for). Thread: control.
 */
VHC_API int vhc_reactor_start_blk_ring(struct vhc_reactor *reactor, struct vhc_ring *ring,
				       struct vhc_blk *blk, uint64_t bdev_stats);

/*
 * The same for a request ring of a virtio-scsi device. It has no logical units
 * at first: commands go up until one is attached for their address. Errors: as
 * above, -EINVAL (config). Thread: control.
 */
VHC_API int vhc_reactor_start_scsi_ring(struct vhc_reactor *reactor, struct vhc_ring *ring,
					const struct vhc_scsi_config *config);

/*
 * The same for a ring of which each request goes up as it is, to be answered
 * with vhc_request_complete_raw. Thread: control.
 */
VHC_API int vhc_reactor_start_raw_ring(struct vhc_reactor *reactor, struct vhc_ring *ring);

/*
 * The same for a ring of buffers for events (virtio 5.6.6.3): chains are taken
 * only to send an event in. Thread: control.
 */
VHC_API int vhc_reactor_start_event_ring(struct vhc_reactor *reactor, struct vhc_ring *ring);

/*
 * Sends 16 bytes, a struct virtio_scsi_event, in the next buffer of an event
 * ring. Returns 1; or 0 if there is no buffer: then the next event, or an empty
 * one as soon as there is a buffer, has VIRTIO_SCSI_T_EVENTS_MISSED set.
 * Errors: -ENOENT (not an event ring of this reactor). Thread: control.
 */
VHC_API int vhc_reactor_send_event(struct vhc_reactor *reactor, struct vhc_ring *ring,
				   const uint8_t *event);

/*
 * Has a SCSI ring execute commands for address (VHC_LUN_ADDRESS) on lun.
 * bdev_stats: as above. Errors: -ENOENT (not a SCSI ring of this reactor),
 * -EEXIST, -EINVAL (address), -EMFILE, -ENOMEM. Thread: control.
 */
VHC_API int vhc_reactor_attach_lun(struct vhc_reactor *reactor, struct vhc_ring *ring,
				   uint32_t address, struct vhc_lun *lun, uint64_t bdev_stats);

/*
 * Has commands for address that would be executed wait. VHC_UPCALL_LUN_IDLE says,
 * once for each call, that none is being executed (those that went up are their
 * readers' and do not count); it also comes, though nothing is held, if no logical
 * unit is attached there. Calls nest. A command of task attribute ORDERED goes up
 * with its logical unit held on its ring, as by a call, upcall included, which
 * comes after the command's; on a held logical unit it waits for its turn.
 * Answers given before the call are taken before it. Errors: -ENOENT (not a SCSI
 * ring of this reactor), -ENOMEM. Thread: control.
 */
VHC_API int vhc_reactor_hold_lun(struct vhc_reactor *reactor, struct vhc_ring *ring,
				 uint32_t address);

/* Takes one hold back; the last one lets commands go on. Errors: -ENOENT. Thread: control. */
VHC_API int vhc_reactor_resume_lun(struct vhc_reactor *reactor, struct vhc_ring *ring,
				   uint32_t address);

/*
 * Ends attach_lun, and all holds. Commands that wait go up. Errors: -ENOENT,
 * -EBUSY (some is being executed: hold it first). Thread: control.
 */
VHC_API int vhc_reactor_detach_lun(struct vhc_reactor *reactor, struct vhc_ring *ring,
				   uint32_t address);

#define VHC_ABORT_ALL_LUNS (1u << 0) /* whatever address */
#define VHC_ABORT_BY_TAG (1u << 1)   /* only the request with this tag */
#define VHC_ABORT_QUERY (1u << 2)    /* only count them */

struct vhc_abort {
	uint64_t tag;
	uint32_t flags;
	uint32_t address;  /* VHC_LUN_ADDRESS */
	uint32_t response; /* VIRTIO_SCSI_S_* that they end with: ABORTED, RESET */
	uint32_t cookie;   /* comes back as the upcall's arg */
};

/*
 * Ends requests of a SCSI ring that are executed or wait here, also for room in
 * the upcall ring; those that went up are their readers'. What waits ends at once;
 * what the device works on, when the device lets go of it. VHC_UPCALL_ABORTED comes
 * when all have ended, and after the upcall of each request that went up before.
 * Answers given before the call are taken before it. Errors: -ENOENT (not a SCSI
 * ring of this reactor), -ENOMEM. Thread: control.
 */
VHC_API int vhc_reactor_abort(struct vhc_reactor *reactor, struct vhc_ring *ring,
			      const struct vhc_abort *abort);

/*
 * Has a ring use another table from its next request on, which has all that requests
 * in flight use; the ring's own parts stay where they are. Ends the wait after
 * VHC_UPCALL_IOTLB_MISS: with refuse (1), the request that missed ends as one does
 * whose memory is not there. The table before is kept until those requests have ended.
 * Errors: -ENOENT (not this reactor's), -EFAULT (the ring's own parts are not in mem,
 * where they were), -ENOMEM. Thread: control.
 */
VHC_API int vhc_reactor_set_mem(struct vhc_reactor *reactor, struct vhc_ring *ring,
				struct vhc_mem *mem, int32_t refuse);

/* I/O without a ring, for whoever answers requests. */
struct vhc_io_config {
	uint64_t bdev;	 /* struct vhc_bdev * */
	uint64_t stats;	 /* struct vhc_stats * of the bdev on this reactor, or 0 */
	uint64_t addr;	 /* READ, WRITE: data, in memory that stays mapped until it is done */
	uint64_t offset; /* bytes */
	uint64_t len;	 /* bytes; FLUSH: 0 */
	uint32_t op;	 /* enum vhc_op, but for OTHER */
	uint32_t flags;	 /* VHC_IO_* */
	uint32_t id;	 /* comes back in VHC_UPCALL_IO_DONE */
	uint32_t reserved;
};
#define VHC_IO_DURABLE (1u << 0)   /* WRITE, WRITE_ZEROES: on stable storage when it is done */
#define VHC_IO_MAY_UNMAP (1u << 1) /* WRITE_ZEROES may give space back */

/*
 * Keeps the calls of a running ring apart: with delay_base_ns = D > 0, T = iops_threshold
 * > 0 and R requests of the ring ending in a second, by D * (R - T) / T nanoseconds, and
 * not at all while R <= T. R is measured anew every 10 ms, which is also the longest
 * delay. Whether the driver wants a call is asked when it is sent. What is due is sent
 * first, and the setting begins with a rate of 0. A D of 0, as a ring starts with, calls
 * after each batch; a ring without call_fd is left alone.
 * Errors: -EINVAL (T is 0 and D is not), -ENOENT (not this reactor's). Thread: control.
 */
VHC_API int vhc_reactor_set_coalescing(struct vhc_reactor *reactor, struct vhc_ring *ring,
				       uint64_t delay_base_ns, uint64_t iops_threshold);

/*
 * Submits one I/O on the reactor. Errors: -EINVAL (op, empty or not whole
 * blocks, more than 1 GiB to read or write), -ERANGE (not in the device),
 * -ENOMEM. Thread: any.
 */
VHC_API int vhc_io_submit(struct vhc_reactor *reactor, const struct vhc_io_config *config);

/*
 * Ends the I/O that was submitted with an id, in -ECANCELED, if it hangs, is delayed or waits
 * under a limit; what a disk works on goes on. VHC_UPCALL_IO_DONE says when it has ended.
 * Errors: -ENOENT (there is none, or it has ended). Thread: control.
 */
VHC_API int vhc_io_cancel(struct vhc_reactor *reactor, uint32_t id);

/*
 * Asks the reactor to take no more from ring, let what is in flight end, and
 * give it back: VHC_UPCALL_RING_STOPPED says when, and is the last of the ring:
 * what a hold or abort has not told by then it will not. Requests that went up
 * or are held keep the ring until they have ended. Errors: -ENOENT (not this
 * reactor's), -EALREADY (asked already), -ENOMEM. Thread: control.
 */
VHC_API int vhc_reactor_stop_ring(struct vhc_reactor *reactor, struct vhc_ring *ring);

/* Stops the thread. Errors: -EBUSY (it owns rings, or I/O). Thread: control. */
VHC_API int vhc_reactor_release(struct vhc_reactor *reactor);

/* ---- Loads: the driver side in bulk ---------------------------------------------------- */

enum vhc_load_rw {
	VHC_LOAD_READ = 0,
	VHC_LOAD_WRITE = 1,
	VHC_LOAD_RANDREAD = 2,
	VHC_LOAD_RANDWRITE = 3,
	VHC_LOAD_RANDRW = 4,
};

enum vhc_load_device {
	VHC_LOAD_BLK = 0,
	VHC_LOAD_SCSI = 1, /* with CDBs of 32 and sense data of 96 bytes, the defaults */
};

/*
 * One thread that keeps request rings of a virtio-blk or virtio-scsi device full, or
 * makes requests at a rate.
 */
struct vhc_load;

struct vhc_load_config {
	uint64_t stats;	      /* struct vhc_stats *: requests as the driver sees them */
	uint64_t buffers;     /* address of memory shared with the device, 4096-aligned */
	uint64_t buffers_len; /* bytes: vhc_load_buffer_bytes() at least */
	uint64_t gpa_delta;   /* added to an address there to get its gpa */
	uint64_t offset;      /* first byte of the device to use */
	uint64_t size;	      /* bytes from there to use, a multiple of block_size */
	uint64_t ios;	      /* stop after so many requests; 0: no limit */
	uint64_t runtime_ns;  /* stop after so long; 0: no limit */
	uint64_t seed;	      /* of the offsets and the data */
	uint32_t rw;	      /* enum vhc_load_rw */
	uint32_t block_size;  /* bytes a request, a multiple of 512, up to 64 MiB */
	uint32_t iodepth;     /* requests in flight on each ring */
	uint32_t rwmix_read;  /* percent of reads in randrw */
	uint32_t verify;      /* 1: write blocks with a crc32c and check what is read */
	uint32_t mode;	      /* VHC_MODE_POLL or VHC_MODE_INTERRUPT */
	int32_t cpu;	      /* processor to pin to, or -1 */
	uint32_t id;	      /* comes back in VHC_UPCALL_LOAD_DONE */
	uint32_t device;      /* enum vhc_load_device */
	uint32_t address;     /* SCSI: VHC_LUN_ADDRESS of the disk */
	uint32_t lba_size;    /* SCSI: bytes of a logical block; block_size is a multiple */
	uint32_t rate;	      /* requests a second of all rings; 0: as many as go */
};

struct vhc_load_result {
	uint64_t elapsed_ns;	/* without verify's reading back */
	uint64_t verified;	/* blocks read back and checked */
	uint64_t verify_errors; /* blocks that differed */
	uint64_t first_bad;	/* byte offset of the first of them */
	uint64_t cpu_ns;	/* processor time of the thread, once it is done */
};

/* Bytes of shared memory that a load of this shape needs. Errors: -EINVAL. Thread: any. */
VHC_API int64_t vhc_load_buffer_bytes(uint32_t device, uint32_t block_size, uint32_t iodepth,
				      uint32_t num_rings);

/*
 * Makes a load over num_rings rings whose handles are at rings. Without ios and
 * runtime_ns it makes as many requests as the size has blocks.
 * With a rate, requests are evenly spaced in time, and the rings have them in turn. One
 * that is due while all of iodepth are in flight is made later, up to 100 ms: what is
 * later is left out.
 * With verify, a load that writes reads back and checks at the end all that it
 * wrote, unless it was stopped (that part is in no statistics, and has no rate); randrw also
 * checks reads of what it wrote before. A read load expects each block to come
 * from an earlier load of the same seed, offset and block_size. Verify
 * needs 2 bytes a block, and as many blocks as there are requests in flight.
 * Errors: -EINVAL (each limit above, a ring too small for iodepth, a ring
 * without call_fd in interrupt mode), -ENOMEM, -EMFILE. Thread: any.
 */
VHC_API int vhc_load_create(struct vhc_upcalls *upcalls, const struct vhc_load_config *config,
			    const uint64_t *rings, uint32_t num_rings, struct vhc_load **out);

/*
 * Starts it. The rings are its own until VHC_UPCALL_LOAD_DONE. Errors: -EALREADY,
 * -EBUSY (chains are in flight), -ENOSPC (descriptors are in use), -EINVAL (no such
 * cpu), -EAGAIN. Thread: control.
 */
VHC_API int vhc_load_start(struct vhc_load *load);

/*
 * Asks it to end soon; VHC_UPCALL_LOAD_DONE comes as ever. What the device has
 * not returned a second later is given up: the status is -ETIMEDOUT, and the
 * rings are to be made anew. Thread: any.
 */
VHC_API void vhc_load_stop(struct vhc_load *load);

/* Its result so far. Thread: any. */
VHC_API int vhc_load_result(const struct vhc_load *load, struct vhc_load_result *out);

/* Ends it if it runs, waits for it, frees it. Thread: control. */
VHC_API void vhc_load_release(struct vhc_load *load);

#ifdef __cplusplus
}
#endif
#endif
