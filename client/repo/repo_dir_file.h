/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_dir_file - files and folders inside a datastore directory: made with the modes and the
 * owner that the server wants, replaced whole, read with a bound.
 *
 * Every name is relative to a directory descriptor and its last component is never followed
 * when it is a symbolic link.  Messages begin with that name; the caller puts the rest of the
 * path before it.
 *
 * Layout:  archive/FORMAT.md, "Datastore", "Writing into a datastore".
 * Threads: any number.
 */
#ifndef PXARFS_REPO_DIR_FILE_H
#define PXARFS_REPO_DIR_FILE_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
	REPO_DIR_FILE_NAME_MAX = 255,
	REPO_DIR_FILE_TMP_SUFFIX_SIZE = 11, /* ".tmp_XXXXXX" */
	REPO_DIR_FILE_MODE = 0644,
	REPO_DIR_FOLDER_MODE = 0755,
};

/* Who shall own what is made; `set` false: whoever makes it. */
struct repo_dir_owner {
	bool set;
	bool if_possible; /* no server relies on it: what cannot be given away is left */
	uid_t uid;
	gid_t gid;
};

/* The owner of the folder `root_fd`, if root makes things in another's. */
struct repo_dir_owner repo_dir_owner_of(int root_fd);

/* Give the file or folder `fd` to its owner.  Errno is set for -1. */
int repo_dir_owner_give(int fd, const struct repo_dir_owner *o);

/* Make one folder of exactly `mode`.  `*made` (may be NULL): it was not there before. */
int repo_dir_file_mkdir(int at, const char *name, mode_t mode, const struct repo_dir_owner *o,
			bool *made, struct err *err);

/* Make every missing folder of `path`, each REPO_DIR_FOLDER_MODE. */
int repo_dir_file_mkdir_all(int at, const char *path, const struct repo_dir_owner *o,
			    struct err *err);

/* Open a folder for reading.  `*fd` is the caller's.  -ENOENT, -ENOTDIR (also for a symbolic
 * link), others of openat(). */
int repo_dir_file_open_dir(int at, const char *path, int *fd, struct err *err);

/* fsync of a folder, where the file system can. */
int repo_dir_file_sync_dir(int fd, struct err *err);

/* Open a regular file for reading, of at most `size_max` bytes; -EBADMSG: something else,
 * -E2BIG. */
int repo_dir_file_open(int at, const char *name, size_t size_max, int *fd, size_t *size,
		       struct err *err);

/* Read exactly `size` bytes from offset 0; -EBADMSG: the file is shorter. */
int repo_dir_file_read_fd(int fd, void *data, size_t size, struct err *err);

/* Append a whole regular file of at most `size_max` bytes. */
int repo_dir_file_read(int at, const char *name, size_t size_max, struct wbuf *out,
		       struct err *err);

/* A file being written under a temporary name; embedded.  repo_dir_file_tmp_release() removes
 * it unless it got its final name. */
struct repo_dir_file_tmp {
	int at, fd; /* `at` is borrowed */
	char name[REPO_DIR_FILE_NAME_MAX + 1]; /* "" once renamed */
};
#define REPO_DIR_FILE_TMP_INIT { .at = -1, .fd = -1 }

/* Create "STEM.tmp_XXXXXX" (X random), REPO_DIR_FILE_MODE.  No message for -ENOENT: the
 * folder is missing. */
int repo_dir_file_tmp_open(struct repo_dir_file_tmp *t, int at, const char *stem,
			   const struct repo_dir_owner *o, struct err *err);
int repo_dir_file_tmp_write(struct repo_dir_file_tmp *t, const void *data, size_t size,
			    struct err *err);
/* The same for the whole of a file that nobody reads soon: what is large goes past the page
 * cache, its last block apart, where the file system can do so from where `data` lies (the
 * beginning of a page suits all). */
int repo_dir_file_tmp_write_through(struct repo_dir_file_tmp *t, const void *data, size_t size,
				    struct err *err);
/* fsync (if `sync`), close, rename over `name`. */
int repo_dir_file_tmp_commit(struct repo_dir_file_tmp *t, const char *name, bool sync,
			     struct err *err);
void repo_dir_file_tmp_release(struct repo_dir_file_tmp *t);
DEFINE_AUTO_STRUCT(repo_dir_file_tmp)

/* The four in one, for a file whose last extension gives way to the temporary one. */
int repo_dir_file_replace(int at, const char *name, const void *data, size_t size,
			  const struct repo_dir_owner *o, struct err *err);

/* The same for a name that must be free.  -EEXIST: there is such a file, and it stays. */
int repo_dir_file_create(int at, const char *name, const void *data, size_t size,
			 const struct repo_dir_owner *o, struct err *err);

/* rename() in one folder, to a name that must be free; a negative errno without a message:
 * -EEXIST. */
int repo_dir_file_rename_new(int at, const char *from, const char *to);

/* Remove a folder of files.  A folder inside it is not removed and makes it fail. */
int repo_dir_file_remove_dir(int at, const char *path, struct err *err);

/* Six characters of [A-Za-z0-9], different each time. */
void repo_dir_file_random(char out[7]);

#endif
