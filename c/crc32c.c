/* SPDX-License-Identifier: MIT */
#include "crc32c.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

/* The remainders of four bits: small enough to stay cached beside the data. */
static const uint32_t remainders[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t crc32c_table(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	crc = ~crc;
	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		crc = crc >> 4 ^ remainders[crc & 15];
		crc = crc >> 4 ^ remainders[crc & 15];
	}
	return ~crc;
}

#if defined(__x86_64__)
static int have_instruction(void)
{
	return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *bytes,
								 size_t len)
{
	uint64_t state = ~crc;
	for (; len >= 8; bytes += 8, len -= 8) {
		uint64_t word;
		memcpy(&word, bytes, sizeof(word));
		state = _mm_crc32_u64(state, word);
	}
	while (len--)
		state = _mm_crc32_u8((uint32_t)state, *bytes++);
	return ~(uint32_t)state;
}
#elif defined(__aarch64__)
static int have_instruction(void)
{
	return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

__attribute__((target("+crc"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *bytes,
							       size_t len)
{
	crc = ~crc;
	for (; len >= 8; bytes += 8, len -= 8) {
		uint64_t word;
		memcpy(&word, bytes, sizeof(word));
		crc = __crc32cd(crc, word);
	}
	while (len--)
		crc = __crc32cb(crc, *bytes++);
	return ~crc;
}
#else
static int have_instruction(void)
{
	return 0;
}

static uint32_t by_instruction(uint32_t crc, const uint8_t *bytes, size_t len)
{
	return crc32c_table(crc, bytes, len);
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	return have_instruction() ? by_instruction(crc, data, len) : crc32c_table(crc, data, len);
}
