/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_text - JSON text to and from jansson's values: bounded on the way in, and on the way
 * out to the byte as the server writes it.
 *
 * Layout:  archive/FORMAT.md, "Manifest".
 * Trust:   text is hostile: its nesting and its count of values are bounded before jansson
 *          sees it, members given twice are refused.
 */
#ifndef PXARFS_JSON_TEXT_H
#define PXARFS_JSON_TEXT_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <jansson.h>
#include <stdbool.h>

enum {
	JSON_TEXT_DEPTH_MAX = 127, /* as the server's parser */
	JSON_TEXT_VALUE_COUNT_MAX = 1 << 20, /* members and elements, some 100 bytes each */
};

static inline void json_cleanup(json_t **p)
{
	int saved = errno;

	json_decref(*p);
	errno = saved;
}

/* Exactly one value in UTF-8; strings may hold NUL, member names not.  -EBADMSG (the message
 * says where), -ENOMEM.  *out is owned by the caller: AUTO(json) or json_decref(). */
int json_text_decode(const void *text, size_t size, json_t **out, struct err *err);

/* Whether a JSON string can hold it. */
bool json_text_is_utf8(const void *text, size_t size);

/* Append the pretty form: indent of two spaces, members sorted by the bytes of their names,
 * `{}` and `[]` when empty, no newline at the end.  -E2BIG, -ENOMEM: out->failed. */
int json_text_pretty(const json_t *value, struct wbuf *out);

/* Append the canonical form that signatures are made over: as above, but without any white
 * space. */
int json_text_canonical(const json_t *value, struct wbuf *out);

#endif
