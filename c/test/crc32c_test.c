/* SPDX-License-Identifier: MIT */
#include "crc32c.h"

#include <string.h>

#include "check.h"

/* RFC 3720 B.4. */
static void known_answers(void)
{
	uint8_t data[32];
	memset(data, 0, sizeof(data));
	CHECK_EQ(crc32c(0, data, sizeof(data)), 0x8a9136aa);
	memset(data, 0xff, sizeof(data));
	CHECK_EQ(crc32c(0, data, sizeof(data)), 0x62a8ab43);
	for (uint8_t i = 0; i < sizeof(data); i++)
		data[i] = i;
	CHECK_EQ(crc32c(0, data, sizeof(data)), 0x46dd794e);
	CHECK_EQ(crc32c_table(0, data, sizeof(data)), 0x46dd794e);
	CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283);
	CHECK_EQ(crc32c_table(0, "123456789", 9), 0xe3069283);
	CHECK_EQ(crc32c(0, data, 0), 0);
}

static void instruction_and_table_agree(void)
{
	uint8_t data[300];
	uint32_t state = 1;
	for (size_t i = 0; i < sizeof(data); i++) {
		state = state * 1664525 + 1013904223;
		data[i] = (uint8_t)(state >> 24);
	}
	for (size_t from = 0; from < 9; from++) {
		for (size_t len = 0; from + len <= sizeof(data); len += 7)
			CHECK_EQ(crc32c(from * 77, data + from, len),
				 crc32c_table(from * 77, data + from, len));
	}
}

static void continues(void)
{
	const char *text = "the quick brown fox jumps over the lazy dog";
	uint32_t whole = crc32c(0, text, strlen(text));
	for (size_t cut = 0; cut <= strlen(text); cut++)
		CHECK_EQ(crc32c(crc32c(0, text, cut), text + cut, strlen(text) - cut), whole);
}

int main(void)
{
	RUN(known_answers);
	RUN(instruction_and_table_agree);
	RUN(continues);
	return check_report();
}
