/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_params - parameters in the paths of requests, as our client writes them: nothing is encoded.
 */
#ifndef PXARFS_TESTS_PBS_PARAMS_H
#define PXARFS_TESTS_PBS_PARAMS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* False: it is not there, or does not fit. */
static inline bool text_param(const char *path, const char *name, char *out, size_t size)
{
	size_t n = strlen(name), length;

	for (const char *p = strchr(path, '?'); p; p = strchr(p, '&')) {
		p++;
		if (strncmp(p, name, n) != 0 || p[n] != '=')
			continue;
		length = strcspn(p + n + 1, "& ");
		if (length >= size)
			return false;
		memcpy(out, p + n + 1, length);
		out[length] = '\0';
		return true;
	}
	return false;
}

/* 0: it is not there. */
static inline uint64_t number_param(const char *path, const char *name)
{
	char text[32];

	return text_param(path, name, text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
}

#endif
