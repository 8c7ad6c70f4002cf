/* SPDX-License-Identifier: MIT */
#include "load_rate.h"

#include "tick.h"

#define SHIFT 20
#define NS_PER_SECOND UINT64_C(1000000000)

void load_rate_start(struct load_rate *rate, uint32_t per_second, uint64_t now)
{
	const uint64_t second = tick_from_ns(NS_PER_SECOND) << SHIFT;
	*rate = (struct load_rate){
	    .period = second / per_second + (second % per_second != 0),
	    .next = now,
	    .late = tick_from_ns(LOAD_RATE_LATE_NS),
	};
}

uint64_t load_rate_take(struct load_rate *rate, uint64_t now, uint64_t max)
{
	if (load_rate_wait(rate, now) > 0 || max == 0)
		return 0;
	if (now - rate->next > rate->late) {
		rate->next = now - rate->late;
		rate->fraction = 0;
	}
	uint64_t due = (((now - rate->next) << SHIFT) - rate->fraction) / rate->period + 1;
	if (due > max)
		due = max;
	const uint64_t passed = rate->fraction + due * rate->period;
	rate->next += passed >> SHIFT;
	rate->fraction = passed & ((UINT64_C(1) << SHIFT) - 1);
	return due;
}
