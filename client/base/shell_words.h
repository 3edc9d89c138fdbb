/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shell_words - cut a command line into words as a shell would, without being one: quotes,
 * backslashes and comments mean what they mean there; nothing is expanded, and no character
 * beside those is special.
 */
#ifndef PXARFS_SHELL_WORDS_H
#define PXARFS_SHELL_WORDS_H

#include "archive/base/cleanup.h"
#include "archive/base/err.h"

#include <stddef.h>

/* Embedded; released with shell_words_release(). */
struct shell_words {
	char **items; /* NULL behind the last one, as execve() wants it */
	size_t count;
	char *text; /* what the items point into */
};

/* -EINVAL: a quote that nobody closes. */
int shell_words_split(struct shell_words *w, const char *text, struct err *err);
void shell_words_release(struct shell_words *w);
DEFINE_AUTO_STRUCT(shell_words)

#endif
