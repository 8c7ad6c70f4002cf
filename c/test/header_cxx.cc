/* SPDX-License-Identifier: MIT */
/* Compiled to see that the header is C++ as well, with C names for its functions. */
#include "vhostctl.h"

extern "C" uint32_t (*const header_version)(void);
extern "C" uint32_t (*const header_version)(void) = vhc_abi_version;
