/* SPDX-License-Identifier: MIT */
/* The dirty log, for rings. */
#ifndef VHC_LOG_H
#define VHC_LOG_H

#include "vhostctl.h"

/* One more owner; vhc_log_release is its end. */
void log_ref(struct vhc_log *log);

/*
 * As vhc_log_mark. To be called after the writes that it marks, also those of other
 * threads and of the kernel, which have ended: whoever finds the mark finds them.
 */
int log_mark(struct vhc_log *log, uint64_t gpa, uint64_t len);

/* Signals the log's eventfd, if it has one: once after many marks. */
void log_signal(struct vhc_log *log);

#endif
