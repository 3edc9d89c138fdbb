/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_table - which inodes with several names are in the archive already, and where.
 *
 * Owner:   embedded; zero is empty; release with link_table_release().
 * Cost:    about 50 bytes and the path for each inode, until the archive is done.
 */
#ifndef PXARFS_LINK_TABLE_H
#define PXARFS_LINK_TABLE_H

#include "archive/base/wbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The place of an inode whose first name was met, but is yet to be archived. */
#define LINK_TABLE_PENDING UINT64_MAX

/* When one is gone, its number is given to another: then the time of its birth is another one. */
struct link_table_inode {
	uint64_t dev, ino;
	uint64_t birth; /* 0: unknown, so it may be any */
};

struct link_table_slot {
	struct link_table_inode inode;
	uint64_t filename_offset;
	size_t path_end; /* in paths, behind the NUL; 0: free */
	size_t path_size; /* with the NUL */
};

struct link_table {
	struct link_table_slot *slots;
	size_t count, capacity; /* a power of two */
	struct wbuf paths;
};

void link_table_release(struct link_table *t);
DEFINE_AUTO_STRUCT(link_table)

/* The first name of an inode; `*path` is borrowed until the table next changes. */
bool link_table_find(const struct link_table *t, const struct link_table_inode *inode,
		     const char **path, uint64_t *filename_offset);

/* Remember an inode, or another place of it; one that had its number is forgotten.  -ENOMEM. */
int link_table_put(struct link_table *t, const struct link_table_inode *inode, const char *path,
		   uint64_t filename_offset);

#endif
