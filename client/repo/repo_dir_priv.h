/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_dir_priv - what the files of repo_dir share; nobody else includes it (tests of the
 * locking redirect the server's paths with repo_dir_open_on()).
 */
#ifndef PXARFS_REPO_DIR_PRIV_H
#define PXARFS_REPO_DIR_PRIV_H

#include "client/repo/repo_dir.h"
#include "client/repo/repo_dir_host.h"
#include "client/repo/repo_dir_lock.h"

#define REPO_DIR_OWN_LOCKS ".pxarfs/locks"
#define REPO_DIR_CHUNKS ".chunks"
#define REPO_DIR_PROTECTED ".protected"
#define REPO_DIR_OWNER "owner"
#define REPO_DIR_NOTES "notes"

enum {
	REPO_DIR_CHUNKS_MODE = 0750,
	REPO_DIR_CHUNK_SIZE_MIN = 13, /* a stored chunk, one plain byte in it */
	REPO_DIR_CHUNK_SIZE_MAX = (16 << 20) + 44,
};

struct repo_dir {
	struct repo base; /* first: the interface casts */
	int root_fd;
	int chunks_fd; /* O_PATH: readers need no right to list it */
	struct repo_dir_locks locks; /* whose owner is that of every file we make */
	char store[REPO_DIR_HOST_STORE_SIZE_MAX + 1]; /* registered under this name; "": not */
	char no_lock[ERR_TEXT_SIZE]; /* why readers cannot lock; "": they can */
	char no_write[ERR_TEXT_SIZE]; /* why nothing may be written; "": it may */
};

/* As repo_dir_open(), on a machine whose server's files lie elsewhere; `host` must live as
 * long as the repository. */
int repo_dir_open_on(const char *path, const struct repo_dir_host *host, struct repo **out,
		     struct err *err);

/* Is there a finished snapshot (its manifest) in the folder? */
bool repo_dir_is_finished(int dir_fd, const char *snapshot_path);

/* First line of a group's owner file, blanks at its end cut off; "" when there is no such line
 * or it does not fit. */
void repo_dir_read_owner(int group_fd, char *out, size_t size);

/* Open the folder of a snapshot, locked shared.  A lock that cannot be had for lack of
 * permission is a warning, not an error.  -ENOENT: no such snapshot, or it is not finished;
 * -EBUSY. */
int repo_dir_open_snapshot(struct repo_dir *d, const struct snapshot_name *name, int *fd,
			   struct repo_dir_lock *lock, struct err *err);

/* A whole file of a snapshot's folder. */
int repo_dir_get_file(int snapshot_fd, const char *name, struct repo_file *out,
		      struct err *err);

/* repo_dir_care.c; and struct repo_ops: put_log. */
extern const struct repo_care_ops REPO_DIR_CARE;
int repo_dir_put_log(struct repo *r, const struct snapshot_name *name, const void *data,
		     size_t size, struct err *err);

/* Why nothing may be written: -EACCES; 0: it may. */
int repo_dir_check_writable(const struct repo_dir *d, struct err *err);

/* struct repo_ops: read and write. */
int repo_dir_read(struct repo *r, const struct snapshot_name *name, struct repo_reader **out,
		  struct err *err);
int repo_dir_write(struct repo *r, const struct repo_writer_params *params,
		   struct repo_writer **out, struct err *err);

#endif
