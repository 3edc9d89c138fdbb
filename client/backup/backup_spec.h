/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup_spec - what a user wants to have backed up: "NAME.TYPE:PATH".
 *
 *	NAME.pxar:DIRECTORY    an archive of the tree
 *	NAME.conf:FILE, NAME.log:FILE    the whole file, as one blob
 *	NAME.img:FILE|DEVICE   an image of it, in chunks of fixed size
 *
 * NAME is made of letters, digits, "_" and "-"; PATH is all that follows the first colon.
 */
#ifndef PXARFS_BACKUP_SPEC_H
#define PXARFS_BACKUP_SPEC_H

#include "archive/base/err.h"
#include "client/repo/archive_name.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	/* Longer ones would not fit once ".meta.didx" stands behind them. */
	BACKUP_SPEC_NAME_SIZE_MAX = ARCHIVE_NAME_SIZE_MAX - 16,
};

enum backup_spec_type {
	BACKUP_SPEC_ARCHIVE, /* .pxar */
	BACKUP_SPEC_BLOB, /* .conf, .log */
	BACKUP_SPEC_IMAGE, /* .img */
};

struct backup_spec {
	enum backup_spec_type type;
	char name[BACKUP_SPEC_NAME_SIZE_MAX + 1]; /* "root.pxar" */
	const char *path; /* borrowed from the text */
	uint64_t image_size; /* of an image, once it is checked */
};

/* -EINVAL: not of this form. */
int backup_spec_parse(const char *text, struct backup_spec *out, struct err *err);

/* -EINVAL: two have the same name. */
int backup_spec_distinct(const struct backup_spec *specs, size_t count, struct err *err);

/* Look at all sources before anything else is done: they must exist and be of the right kind.
 * -EINVAL, -E2BIG, or what stat says. */
int backup_spec_check(struct backup_spec *specs, size_t count, struct err *err);

#endif
