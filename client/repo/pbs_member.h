/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_member - one member of an object that a server gave.
 *
 * Trust:   answers are hostile: true says that it is there, of its type and within its bounds; else
 *          `*out` is as it was.
 */
#ifndef PXARFS_PBS_MEMBER_H
#define PXARFS_PBS_MEMBER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A string without NUL that fits into `size` bytes with its end. */
bool pbs_member_text(const json_t *object, const char *member, char *out, size_t size);

/* An integer from `min` to `max`. */
bool pbs_member_integer(const json_t *object, const char *member, int64_t min, int64_t max,
			int64_t *out);

#endif
