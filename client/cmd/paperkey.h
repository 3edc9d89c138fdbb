/* SPDX-License-Identifier: Apache-2.0 */
/*
 * paperkey - a key to print: text or HTML, with QR codes.
 *
 * Layout:  archive/FORMAT.md, "Paper keys".
 */
#ifndef PXARFS_PAPERKEY_H
#define PXARFS_PAPERKEY_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stdbool.h>

/* Append the page for the content of a key file, or of a PEM private key.  `subject` may be
 * NULL.  -EBADMSG: neither. */
int paperkey_make(const void *key, size_t size, const char *subject, bool html,
		  struct wbuf *out, struct err *err);

#endif
