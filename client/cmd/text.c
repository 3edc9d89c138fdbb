/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/text.h"

#include <stdint.h>
#include <stdio.h>

size_t text_utf8_length(const unsigned char *p)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 :
			*p < 0xf5 ? 4 : 0;
	uint32_t c;

	if (length <= 1)
		return length;
	c = *p & (0xffu >> (length + 1));
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < smallest[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return length;
}

bool text_is_control(const unsigned char *p)
{
	return *p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0);
}

void text_print_escaped(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	while (*p) {
		size_t n = text_utf8_length(p);

		if (n == 0 || text_is_control(p) || *p == '\\') {
			for (size_t end = n ? n : 1; end > 0; end--)
				printf("\\%03o", *p++);
		} else {
			fwrite_unlocked(p, 1, n, stdout);
			p += n;
		}
	}
}

void text_blank_non_utf8(char *text)
{
	unsigned char *p = (unsigned char *)text;

	while (*p) {
		size_t n = text_utf8_length(p);

		if (n == 0)
			*p = '?';
		p += n ? n : 1;
	}
}

void text_blank_controls(char *text)
{
	for (; *text; text++) {
		if (!text_is_control((const unsigned char *)text))
			continue;
		if (*(unsigned char *)text == 0xc2)
			*text++ = '?';
		*text = '?';
	}
}
