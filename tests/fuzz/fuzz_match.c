/* SPDX-License-Identifier: Apache-2.0 */
/* The first line is a path, the rest a .pxarexclude file; each of its lines is tried as a
 * pattern of a command line too. */
#include "archive/match.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_as_pattern(const char *text, size_t size, const char *path)
{
	AUTO(match_list) struct match_list l = { 0 };
	AUTO(free) char *pattern = strndup(text, size);

	if (pattern && match_list_add(&l, pattern, NULL) == 0)
		match_list_apply(&l, path, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *end = text + size;
	const char *line = size ? memchr(text, '\n', size) : NULL;
	AUTO(match_list) struct match_list l = { 0 };
	AUTO(wbuf) struct wbuf recorded = WBUF_INIT(1 << 20);
	AUTO(free) char *path = NULL;
	struct err err = ERR_INIT;
	size_t bad;

	if (!line)
		return 0;
	path = strndup(text, (size_t)(line - text));
	if (!path)
		return 0;
	line++;
	if (match_list_add_file(&l, "d", line, (size_t)(end - line), &bad, &err) == 0) {
		match_list_apply(&l, path, false);
		match_list_text(&l, &recorded);
	}
	while (line < end) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		const char *line_end = newline ? newline : end;

		try_as_pattern(line, (size_t)(line_end - line), path);
		line = line_end + 1;
	}
	return 0;
}
