// SPDX-License-Identifier: MIT
// What c/include/vhostctl.h defines, by its names without "VHC_".

export const PAGES_PLAIN = 0;
export const PAGES_THP = 1;
export const PAGES_HUGETLB = 2;
export const PAGES_SHARED = 1;
export const PAGES_FALLBACK = 2;
export const MEM_MAX_REGIONS = 512;
export const MEM_MAX_PIECES = 65536;
export const MEM_READ = 1;
export const MEM_WRITE = 2;
export const INFLIGHT_MAX_QUEUES = 1024;
export const RING_MAX_SIZE = 32768;
export const RING_BASE_PACKED = 0x8000_8000;
export const FILE_READONLY = 1;
export const FILE_BLOCK_DEVICE = 2;
export const BLK_READONLY = 1;
export const MODE_ADAPTIVE = 0;
export const MODE_POLL = 1;
export const MODE_INTERRUPT = 2;

export const UPCALL_ACCEPTED = 1;
export const UPCALL_MESSAGE = 2;
export const UPCALL_CLOSED = 3;
export const UPCALL_RING_STOPPED = 4;
export const UPCALL_RING_BROKEN = 5;
export const UPCALL_LOAD_DONE = 6;
export const UPCALL_REQUEST = 7;
export const UPCALL_LUN_IDLE = 8;
export const UPCALL_ABORTED = 9;
export const UPCALL_IO_DONE = 10;
export const UPCALL_IOTLB_MISS = 11;
export const UPCALL_MALFORMED = 12;

export const BREAK_AVAIL_INDEX = 1;
export const BREAK_HEAD_RANGE = 2;
export const BREAK_HEAD_TWICE = 3;
export const BREAK_CHAIN_LONG = 4;
export const BREAK_USED_FULL = 5;
export const BREAK_MEMORY = 6;
export const BREAK_LOG = 7;
export const BREAK_CALL = 8;

export const DAMAGE_VERSION = 1;
export const DAMAGE_DESC_NUM = 2;
export const DAMAGE_BATCH = 3;
export const DAMAGE_INFLIGHT = 4;
export const DAMAGE_USED = 5;
export const DAMAGE_FREE = 6;
export const DAMAGE_CHAIN = 7;

export const OP_READ = 0;
export const OP_WRITE = 1;
export const OP_FLUSH = 2;
export const OP_UNMAP = 3;
export const OP_WRITE_ZEROES = 4;
export const TRACE_MIN_SIZE = 64;
export const TRACE_MAX_SIZE = 65536;
export const TRACE_NOWHERE = 0xffff_ffff;
export const TRACE_UP = 1;
export const TRACE_QUIET = 2;
export const IO_DURABLE = 1;
export const IO_MAY_UNMAP = 2;
export const EXECUTE_DURABLE = 1;
export const EXECUTE_HELD = 2;

export const GATE_RUN = 0;
export const GATE_ASK = 1;
export const GATE_CONFLICT = 2;
export const ABORT_ALL_LUNS = 1;
export const ABORT_BY_TAG = 2;
export const ABORT_QUERY = 4;
export const SCSI_TARGETS = 256;
export const SCSI_LUNS = 256;
export const SCSI_MAX_CDB = 260;

export const LOAD_BLK = 0;
export const LOAD_SCSI = 1;
