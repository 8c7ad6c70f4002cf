/* SPDX-License-Identifier: MIT */
/* Reading a trace while it is written. */
#include "trace.h"

/* Keeps what is read after it from being read before it. */
static inline uint64_t get(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Whether record `number` was whole while it was copied, which was before this. */
static bool is_whole(const struct vhc_trace *trace, uint64_t number)
{
	return get(&trace->begun) <= number + trace->mask + 1;
}

static void copy_told(uint64_t told, struct vhc_trace_record *record)
{
	record->flags = (uint8_t)told;
	record->opcode = (uint8_t)(told >> 8);
	record->status = (uint8_t)(told >> 16);
	record->response = (uint8_t)(told >> 24);
	record->sense_key = (uint8_t)(told >> 32);
	record->asc = (uint8_t)(told >> 40);
	record->ascq = (uint8_t)(told >> 48);
}

static void copy_slot(const struct trace_slot *slot, struct vhc_trace_record *record)
{
	uint64_t how = get(&slot->how);
	uint64_t who = get(&slot->who);

	record->offset = get(&slot->offset);
	record->len = get(&slot->len);
	record->op = (uint8_t)how;
	record->result = (int32_t)(how >> 32);
	record->batch = (uint32_t)who;
	record->head = (uint32_t)(who >> 32);
	record->tag = get(&slot->tag);
	if (how >> 8 & IO_TASK)
		copy_told(get(&slot->told), record);
}

/* Still in ticks. */
static void copy_times(const struct trace_times *times, struct vhc_trace_record *record)
{
	record->kicked = get(&times->kicked);
	record->taken = get(&times->taken);
	record->submitted = get(&times->submitted);
	record->completed = get(&times->completed);
	record->published = get(&times->published);
	record->called = get(&times->called);
	record->address = (uint32_t)get(&times->address);
	if (record->called == TRACE_NO_CALL) {
		record->called = 0;
		record->flags |= VHC_TRACE_QUIET;
	}
}

static void convert(const struct tick_clock *clock, struct vhc_trace_record *record)
{
	uint64_t *const times[] = {&record->kicked,    &record->taken,	   &record->submitted,
				   &record->completed, &record->published, &record->called};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (*times[i])
			*times[i] = tick_clock_ns(clock, *times[i]);
}

int vhc_trace_read(const struct vhc_trace *trace, struct vhc_trace_record *records, uint32_t max,
		   uint64_t *now)
{
	const uint64_t size = (uint64_t)trace->mask + 1;
	uint64_t end = get(&trace->ended);
	uint64_t most = max < size ? max : size;
	struct tick_clock clock;
	int n = 0;

	for (uint64_t number = end > most ? end - most : 0; number < end; number++) {
		struct vhc_trace_record *record = &records[n];

		*record = (struct vhc_trace_record){.number = number};
		copy_slot(&trace->slots[number & trace->mask], record);
		copy_times(&trace->times[record->batch & trace->mask], record);
		n += is_whole(trace, number);
	}
	tick_clock_read(&clock);
	for (int i = 0; i < n; i++)
		convert(&clock, &records[i]);
	*now = clock.ns;
	return n;
}
