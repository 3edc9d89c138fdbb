/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err - a message for a person, carried beside a negative errno.
 *
 * A function that can fail returns 0 or a negative errno; one that has something to tell
 * takes a `struct err *` as its last argument, which may be NULL.  Who detects a fault calls
 * err_set() and says what was expected and found; who knows the name of the thing adds it
 * once on the way up with err_wrap().  Only client/cmd and fuse print.
 *
 * Owner:   the caller, usually on the stack; needs no release and no memory.
 * Threads: one owner at a time.
 */
#ifndef PXARFS_BASE_ERR_H
#define PXARFS_BASE_ERR_H

#include <stddef.h>

enum { ERR_TEXT_SIZE = 1024 };

struct err {
	char text[ERR_TEXT_SIZE]; /* NUL-terminated; the end is cut off when too long */
};

#define ERR_INIT { .text = "" }

/* Replace the message.  `code` is a positive errno; returns -code. */
int err_set(struct err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "FORMAT: " before the message; returns `rc` (a negative errno) unchanged.  With an
 * empty message the text of the errno stands in for it. */
int err_wrap(struct err *err, int rc, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* err_set() with the text of errno appended: "FORMAT: No such file or directory". */
int err_sys(struct err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#if defined(__clang_analyzer__) && !defined(ERR_C)
/* What the static analyser cannot see from here: all three return a negative number. */
static inline int err_negative(int rc)
{
	if (rc >= 0)
		__builtin_unreachable();
	return rc;
}

#define err_set(err, code, ...) (err_set(err, code, __VA_ARGS__), err_negative(-(code)))
#define err_wrap(err, rc, ...) (err_wrap(err, rc, __VA_ARGS__), err_negative(rc))
#define err_sys(err, code, ...) (err_sys(err, code, __VA_ARGS__), err_negative(-(code)))
#endif

/* The message, or the errno's own text when nobody left one.  Lives as long as `err`. */
const char *err_text(const struct err *err, int rc);

#endif
