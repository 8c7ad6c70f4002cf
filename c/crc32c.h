/* SPDX-License-Identifier: MIT */
/* CRC-32C (Castagnoli, RFC 3720 B.4), with the processor's instruction where it has one. */
#ifndef VHC_CRC32C_H
#define VHC_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 to begin) over len bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The same without special instructions. */
uint32_t crc32c_table(uint32_t crc, const void *data, size_t len);

#endif
