/* SPDX-License-Identifier: Apache-2.0 */
/*
 * emit - the entries of a walk into an encoder: opens and reads files, keeps hard links
 * together, tells the observer, counts.
 *
 * Entries come in the order of the archive, perhaps some time after the walk has met them:
 * whatever has to be opened then is found again by its path.
 *
 * Owner:   embedded; emit_init(), then emit_begin(); emit_release().
 */
#ifndef PXARFS_EMIT_H
#define PXARFS_EMIT_H

#include "client/fs/entry.h"
#include "client/fs/levels.h"
#include "client/fs/link_table.h"
#include "client/fs/report.h"
#include "client/fs/walk.h"

struct emit {
	const struct walk_params *params;
	struct walk_stats *stats;
	struct report *report;
	struct encoder *encoder;
	struct levels dirs; /* that are open in the archive */
	size_t left_out; /* folders below one that could not be encoded */
	struct link_table links;
	struct metadata meta; /* of the file at hand */
	uint8_t *piece;
	struct err *why; /* of the last failure */
};

enum {
	EMIT_TYPE_CHANGED = 1, /* it is not a file any more */
	EMIT_LEFT_OUT = 2, /* a folder that cannot be encoded; said so already */
};

/* `params`, `stats`, `report` and `why` are borrowed.  -ENOMEM. */
int emit_init(struct emit *e, const struct walk_params *params, struct walk_stats *stats,
	      struct report *report, struct err *why);
void emit_release(struct emit *e);

/* The archive begins; `fd` is the root's, borrowed for the call. */
int emit_begin(struct emit *e, int fd, const struct entry *root);

/* The next entry.  `dir_fd` is the folder it lies in, -1: to be found by the path.  Only with
 * the former are the positive answers given. */
int emit_entry(struct emit *e, const struct entry *entry, int dir_fd);

/* The root is complete. */
int emit_finish(struct emit *e);

/* A further name of an inode that was met before. */
bool emit_is_link(const struct emit *e, const struct entry *file);

/* This file is the first name of its inode, and will be emitted later.  -ENOMEM. */
int emit_expect_link(struct emit *e, const struct entry *file);

#endif
