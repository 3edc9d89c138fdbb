/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descend - from an inode number to its folder and its names: down from the root.
 *
 * A number is a place in the stream (inode.h), and a folder's members lie between its start and
 * its table.  So in each folder the member that leads on is the last one that begins before the
 * place: a binary search in the sorted slots, then one head is parsed.  What is found exists in
 * the tree, and is what was given out under that number.
 *
 * Cost: a step for each folder on the way; the folders go through dir_cache.
 */
#ifndef PXARFS_DESCEND_H
#define PXARFS_DESCEND_H

#include "fuse/dir_cache.h"

struct mount;
struct shown;

enum {
	DESCEND_DEPTH_MAX = 4096, /* folders, one in the other */
	DESCEND_PATH_SIZE_MAX = 64 << 10,
	DESCEND_NAME_SIZE = 512,
};

/* What it works with, all of it the caller's. */
struct descend {
	struct dir_cache *folders;
	const struct tree *tree;
	uint32_t slot; /* of the archive's inode numbers */
	struct stream_view *meta;
	struct tree_window *window;
	struct tree_entry *entry; /* the last member that was looked at */
	struct wbuf *path; /* set to "/NAME/NAME...", not terminated; NULL: of no interest */
};

/*
 * The folder that has the member with inode number `number`, with a reference, and which member
 * it is; d->entry is that member.  The root of the archive has none: -ENOENT.  -ENOENT, too:
 * nothing in the tree has that number.  -EAGAIN as in read_at.h: run it again from the start.
 * -EBADMSG; -ENOMEM; -E2BIG from dir_cache_read(), or over DESCEND_DEPTH_MAX.
 */
int descend_to(struct descend *d, uint64_t number, struct folder **out, size_t *index,
	       struct err *err);

/* For a message: the path of `number` from the root of the archive, as far as that can be told
 * from what is in memory, without waiting for a byte; else "inode NUMBER".  Of a long path the
 * end is given. */
void descend_name(struct mount *m, struct shown *shown, uint64_t number,
		  char out[DESCEND_NAME_SIZE]);

#endif
