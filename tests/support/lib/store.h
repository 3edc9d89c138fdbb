/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store - datastores and folders for tests, below $TMPDIR, removed at the end.
 *
 * All of these fail the running cmocka test when something goes wrong.
 */
#ifndef PXARFS_TESTS_STORE_H
#define PXARFS_TESTS_STORE_H

#include <limits.h>
#include <stdbool.h>

struct store {
	char path[PATH_MAX];
};

/* An empty folder of its own. */
void store_folder(struct store *s);

/* Unpack a golden datastore ("tests/golden/datastore.tar"). */
void store_unpack(struct store *s, const char *tar);

/* Remove it and all that is in it. */
void store_remove(struct store *s);

/* PATH/FORMAT..., in one of a few static buffers. */
const char *store_path(const struct store *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

void store_write(const struct store *s, const char *name, const char *text);
void store_mkdir(const struct store *s, const char *name);
bool store_exists(const struct store *s, const char *name);

/* How many entries a folder has, "." and ".." left out. */
int store_count(const struct store *s, const char *name);

#endif
