/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text - hostile text that is to be shown: where its characters end, and which of them a
 * terminal would obey.
 */
#ifndef PXARFS_TEXT_H
#define PXARFS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* The length of the UTF-8 character at `p`, shortest form and no surrogate; 0: there is none.
 * The NUL that ends a text ends every search for a continuation. */
size_t text_utf8_length(const unsigned char *p);

/* Is the character at `p` a control character, the C1 set in UTF-8 (c2 80..9f) included? */
bool text_is_control(const unsigned char *p);

/* Print to standard output: control characters, backslashes and what is not UTF-8 as "\ooo". */
void text_print_escaped(const char *text);

/* Each byte that is not part of UTF-8 becomes '?'. */
void text_blank_non_utf8(char *text);

/* Control characters become '?', each of their bytes. */
void text_blank_controls(char *text);

#endif
