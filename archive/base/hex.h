/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hex - bytes as lower-case hexadecimal text and back.
 */
#ifndef PXARFS_BASE_HEX_H
#define PXARFS_BASE_HEX_H

#include <stddef.h>
#include <stdint.h>

/* Writes 2 * size digits and a NUL. */
void hex_encode(const uint8_t *bytes, size_t size, char *out);

/* Reads exactly 2 * size digits of either case; -EBADMSG when one is none.  Looks at nothing
 * behind them. */
int hex_decode(const char *text, uint8_t *out, size_t size);

#endif
