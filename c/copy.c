/* SPDX-License-Identifier: MIT */
#include "copy.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#define STEP 128u

/* Loads from and stores to any address. */
typedef uint64_t __attribute__((vector_size(32), aligned(1), may_alias)) vector;

/* Copies whole steps; returns how many bytes they were. */
__attribute__((target("avx2"))) static size_t copy_steps(uint8_t *to, const uint8_t *from, size_t n)
{
	size_t done = 0;

	for (; n - done >= STEP; done += STEP) {
		const vector *in = (const vector *)(from + done);
		vector *out = (vector *)(to + done);
		const vector a = in[0], b = in[1], c = in[2], d = in[3];

		out[0] = a;
		out[1] = b;
		out[2] = c;
		out[3] = d;
	}
	return done;
}

static int has_vectors(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
static size_t copy_steps(uint8_t *to, const uint8_t *from, size_t n)
{
	(void)to;
	(void)from;
	(void)n;
	return 0;
}

static int has_vectors(void)
{
	return 0;
}
#endif

void copy_prefetched(void *to, const void *from, size_t n)
{
	size_t done = has_vectors() ? copy_steps(to, from, n) : 0;

	memcpy((uint8_t *)to + done, (const uint8_t *)from + done, n - done);
}
