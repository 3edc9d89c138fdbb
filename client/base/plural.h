/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plural - the ending of a word that stands behind a number: "1 file", "2 files", "0 files".
 *
 * Threads: any.
 */
#ifndef PXARFS_PLURAL_H
#define PXARFS_PLURAL_H

#include <stdint.h>

static inline const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* Of "entry". */
static inline const char *plural_y(uint64_t n)
{
	return n == 1 ? "y" : "ies";
}

#endif
