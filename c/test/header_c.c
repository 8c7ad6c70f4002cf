/* SPDX-License-Identifier: MIT */
/* Compiled to see that the header stands alone in strict C11 and keeps its promises. */
#include "vhostctl.h"

_Static_assert((VHC_HIST_MAX_BITS - VHC_HIST_SHIFT + 1) << VHC_HIST_SHIFT == VHC_HIST_BUCKETS,
	       "a bucket for every latency");
_Static_assert(VHC_OP_OTHER + 1 == VHC_NUM_OPS, "a place for every operation");
_Static_assert(sizeof(((struct vhc_upcall *)0)->data) >= VHC_MSG_MAX + 12, "room for a message");
_Static_assert(sizeof(struct vhc_upcall) % 8 == 0, "slots are an array");
_Static_assert(VHC_MSG_MAX_FDS * 4 == sizeof(((struct vhc_upcall *)0)->fds), "room for them");
