/* SPDX-License-Identifier: MIT */
/*
 * When the requests of a load are due that makes so many a second: evenly spaced, as
 * fio's rate_iops with its linear process. One that could not be made in time, since
 * the device or the machine was late, is made as soon as it can, so that the rate is
 * kept; but what is more than LOAD_RATE_LATE_NS late is left out. (fio makes up for all.)
 */
#ifndef VHC_LOAD_RATE_H
#define VHC_LOAD_RATE_H

#include <stdint.h>

#define LOAD_RATE_LATE_NS UINT64_C(100000000)

/* Of one load, whose thread alone uses it. */
struct load_rate {
	uint64_t period;   /* ticks from request to request, times 2^20 */
	uint64_t next;	   /* tick at which one is due, but for: */
	uint64_t fraction; /* of a tick, times 2^20: so much later */
	uint64_t late;	   /* ticks: LOAD_RATE_LATE_NS */
};

/* Begins at a tick, at which the first is due, with so many a second: 1 to UINT32_MAX. */
void load_rate_start(struct load_rate *rate, uint32_t per_second, uint64_t now);

/* Takes what is due, at most max of them. Returns how many. */
uint64_t load_rate_take(struct load_rate *rate, uint64_t now, uint64_t max);

/* Ticks from now until one is due. */
static inline uint64_t load_rate_wait(const struct load_rate *rate, uint64_t now)
{
	const int64_t ticks = (int64_t)(rate->next + (rate->fraction > 0) - now);
	return ticks > 0 ? (uint64_t)ticks : 0;
}

#endif
