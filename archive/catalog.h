/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalog - the older listing of single-stream archives (catalog.pcat1): read and write.
 *
 * The root has one directory for each archive, named as its index ("root.pxar.didx"); that
 * directory's members are those of the archive's root.
 *
 * Layout:  archive/FORMAT.md, "Catalog".
 * Owner:   readers are plain data that borrow the bytes; release a writer with
 *          catalog_writer_release().
 * Threads: a catalog may be read by any number, each with its own catalog_dir or walk; a writer
 *          has one owner at a time.
 * Trust:   the bytes are hostile: a directory lies before the one that names it, so there is
 *          no cycle, and a walk that meets more entries than the bytes can hold is refused.
 */
#ifndef PXARFS_CATALOG_H
#define PXARFS_CATALOG_H

#include "archive/base/cursor.h"
#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stddef.h>
#include <stdint.h>

#define CATALOG_INDEX_NAME "catalog.pcat1.didx"

enum {
	CATALOG_NAME_SIZE_MAX = 4095,
	CATALOG_DEPTH_MAX = 65536, /* nested directories */
};

extern const uint8_t CATALOG_MAGIC[8];

/* --- reading --- */

struct catalog {
	const uint8_t *data;
	size_t size;
	uint64_t root; /* offset of the root directory */
};

/* -EBADMSG: no catalog, or its end is missing.  Directories are checked as they are read. */
int catalog_open(struct catalog *out, const void *data, size_t size, struct err *err);

struct catalog_entry {
	char type; /* 'd', or 'f', 'l', 'h', 'b', 'c', 'p', 's' */
	char name[CATALOG_NAME_SIZE_MAX + 1];
	uint64_t dir; /* 'd': offset of the directory */
	uint64_t size; /* 'f' */
	int64_t mtime; /* 'f': Unix seconds */
};

/* A directory being read. */
struct catalog_dir {
	struct cursor entries;
	uint64_t offset;
	uint64_t entries_left;
};

/* The directory at `offset`: catalog.root, or an entry's `dir`. */
int catalog_dir_open(const struct catalog *c, uint64_t offset, struct catalog_dir *out,
		     struct err *err);

/* The next entry, in archive order.  1: there are no more; -EBADMSG: damaged. */
int catalog_dir_next(struct catalog_dir *dir, struct catalog_entry *out, struct err *err);

/* What a walk reports; each returns 0 or a negative errno that ends the walk. */
struct catalog_visitor {
	int (*dir_begin)(void *arg, const char *name, struct err *err);
	int (*dir_end)(void *arg, struct err *err);
	int (*entry)(void *arg, char type, const char *name, uint64_t size, int64_t mtime,
		     struct err *err);
	void *arg;
};

/* Everything below the directory at `offset`, depth first, in archive order. */
int catalog_walk(const struct catalog *c, uint64_t offset, const struct catalog_visitor *visitor,
		 struct err *err);

/* --- writing --- */

/* Takes the catalog's bytes in order. */
typedef int (*catalog_sink)(void *arg, const void *data, size_t size, struct err *err);

struct catalog_level;
struct catalog_writer {
	catalog_sink sink;
	void *sink_arg;
	uint64_t offset; /* bytes written so far */
	struct catalog_level *levels; /* the root and the open directories, memory kept */
	struct wbuf block; /* the directory being written */
	size_t depth; /* of open directories, the root not counted */
	size_t level_count;
};

int catalog_writer_init(struct catalog_writer *w, catalog_sink sink, void *sink_arg,
			struct err *err);
void catalog_writer_release(struct catalog_writer *w);
DEFINE_AUTO_STRUCT(catalog_writer)

/*
 * Entries in archive order; `writer` is the struct catalog_writer, so that these fit a
 * catalog_visitor and the observer of client/fs/walk.h.  `size` and `mtime` count for 'f' only.
 * Memory: the entries of the open directories.
 */
int catalog_writer_dir_begin(void *writer, const char *name, struct err *err);
int catalog_writer_dir_end(void *writer, struct err *err);
int catalog_writer_entry(void *writer, char type, const char *name, uint64_t size, int64_t mtime,
			 struct err *err);

/* All directories are ended: write the root. */
int catalog_writer_finish(struct catalog_writer *w, struct err *err);

#endif
