/* SPDX-License-Identifier: MIT */
/* I/O without a ring: vhc_io_submit, vhc_io_cancel. */
#ifndef VHC_DIRECT_H
#define VHC_DIRECT_H

#include "io.h"

struct vhc_reactor;
struct direct_io;

/* Submits it, on the reactor's thread. */
void direct_submit(struct vhc_reactor *reactor, struct direct_io *direct);

/* Does what vhc_io_cancel says, on the reactor's thread. */
int direct_cancel(struct vhc_reactor *reactor, uint32_t id);

/* Notes that the backend ended it: it goes to the reactor's list of those that are done. */
void direct_end(struct io *io);

/* Takes those that are done apart, and posts their upcalls as far as they fit. */
void direct_finish(struct vhc_reactor *reactor);

#endif
