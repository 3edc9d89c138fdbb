/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry - what a walk has found out about one entry, until it is encoded.
 *
 * Owner:   embedded; entry_init(), entry_release().  Meant to be filled again and again: memory
 *          is kept, unless it is much.
 */
#ifndef PXARFS_ENTRY_H
#define PXARFS_ENTRY_H

#include "client/fs/meta_read.h"

enum entry_kind {
	ENTRY_DIR, /* its members follow, then ... */
	ENTRY_DIR_END,
	ENTRY_FILE,
	ENTRY_SYMLINK,
	ENTRY_DEVICE,
	ENTRY_SPECIAL,
};

struct entry {
	enum entry_kind kind;
	struct wbuf text; /* the name with its NUL, then a symlink's target with its own */
	size_t target; /* in text */
	struct stat st; /* as the folder's listing had it; a folder's own */
	struct meta_features features; /* folders: what its file system can hold */

	/* Filled in unless it is a file that is yet to be opened. */
	struct metadata meta;

	/* Files */
	uint64_t birth; /* of the inode (struct listing_more) */
	bool is_unchanged; /* its payload is in the previous archive, ... */
	uint64_t old_payload_offset; /* ... here */
	bool is_counted; /* somebody decides whether that is reused */
};

void entry_init(struct entry *e);
void entry_release(struct entry *e);

/* Begin a new one; -ENOMEM. */
int entry_set(struct entry *e, enum entry_kind kind, const char *name, const struct stat *st);
int entry_set_target(struct entry *e, const char *target);

/* What it takes beside itself. */
size_t entry_bytes(const struct entry *e);

static inline const char *entry_name(const struct entry *e)
{
	return (const char *)e->text.data;
}

static inline const char *entry_target(const struct entry *e)
{
	return (const char *)e->text.data + e->target;
}

#endif
