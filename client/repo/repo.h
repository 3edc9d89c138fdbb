/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo - a repository: where snapshots live.  The interface that every backend implements.
 *
 * A *reader session* gives the files of one snapshot (blobs, indexes) and chunks by digest.  A
 * *writer session* makes one new snapshot: it gives the previous snapshot's files, takes
 * chunks, index entries and blobs, and ends with repo_writer_finish() or leaves no trace but
 * chunks that garbage collection takes.  Chunks cross this interface in their stored form
 * (archive/blob.h), so keys never reach a backend.
 *
 * Owner:   sessions are freed with their _free(), before the repository.
 * Threads: a repository and a reader session may be used by any number of threads at once.  A
 *          writer session too, but each index by one thread at a time.
 * Errors:  -ENOENT: no such snapshot or file; -ECANCELED after repo_reader_abort(); -EIO and
 *          others from the source.  Messages name the thing.
 *
 * A new backend is one new file: it fills the four tables below and repo_name.c learns its
 * spelling.  tests/support/lib/repo_conformance.h is what it must pass.
 */
#ifndef PXARFS_REPO_H
#define PXARFS_REPO_H

#include "archive/base/digest.h"
#include "archive/base/err.h"
#include "archive/base/wbuf.h"
#include "archive/manifest.h"
#include "client/repo/archive_name.h"
#include "client/repo/snapshot.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	REPO_FILE_SIZE_MAX = 1 << 30, /* an index or blob file we are willing to hold */
};

/* The log of whoever made a snapshot: stored after its end, so no manifest lists it. */
#define REPO_CLIENT_LOG "client.log.blob"

/* A whole index or blob file, read only.  Release with repo_file_release(). */
struct repo_file {
	const uint8_t *data;
	size_t size;
	void (*release)(struct repo_file *f); /* NULL: nothing to release */
};

static inline void repo_file_release(struct repo_file *f)
{
	if (f->release)
		f->release(f);
	*f = (struct repo_file){ 0 };
}
DEFINE_AUTO_STRUCT(repo_file)

struct repo_group_info {
	struct snapshot_group group;
	int64_t last_backup; /* time of the newest finished snapshot, 0: none */
	size_t backup_count;
	char owner[256]; /* "" when unreadable */
};

struct repo_snapshot_info {
	struct snapshot_name name;
	bool finished; /* has a manifest */
	bool is_protected;
	/* A finished one's row in the list of a server, as client/repo/pbs_row.h has it: what its manifest
	 * says is there.  Lent for the call; NULL: the manifest is to be read. */
	const json_t *row;
};

/* Receives one row; a negative return ends the listing and becomes its result. */
typedef int repo_group_visit(void *arg, const struct repo_group_info *info);
typedef int repo_snapshot_visit(void *arg, const struct repo_snapshot_info *info);
typedef int repo_ns_visit(void *arg, const char *ns);

/* --- reader session --- */

struct repo_reader;

struct repo_reader_ops {
	int (*get_file)(struct repo_reader *r, const char *name, struct repo_file *out,
			struct err *err);
	int (*has_file)(struct repo_reader *r, const char *name,
			struct err *err); /* 0 or -ENOENT; NULL: get_file tells */
	int (*get_chunk)(struct repo_reader *r, const struct digest *digest, struct wbuf *out,
			 struct err *err);
	int (*get_chunk_of_size)(struct repo_reader *r, const struct digest *digest, void *to,
				 size_t size, struct err *err); /* NULL: never */
	void (*abort)(struct repo_reader *r);
	void (*free)(struct repo_reader *r);
};

struct repo_reader {
	const struct repo_reader_ops *ops;
};

/* The whole file `name` ("index.json.blob", "root.mpxar.didx") of the snapshot. */
int repo_reader_get_file(struct repo_reader *r, const char *name, struct repo_file *out,
			 struct err *err);

/* Whether there is such a file: 1 or 0. */
int repo_reader_has_file(struct repo_reader *r, const char *name, struct err *err);

/* Append the stored form of a chunk to `out` (whose size_max bounds it), a chunk of an index that was
 * got in this session: a server gives no others.  Not verified: that is the fetcher's business. */
int repo_reader_get_chunk(struct repo_reader *r, const struct digest *digest,
			  struct wbuf *out, struct err *err);

/* The same, straight to where it shall be, if its stored form has exactly `size` bytes and the backend
 * knows that beforehand.  Else 1: use repo_reader_get_chunk().  `to` is undefined unless 0. */
int repo_reader_get_chunk_of_size(struct repo_reader *r, const struct digest *digest, void *to,
				  size_t size, struct err *err);

/* Make calls in progress and to come fail with -ECANCELED soon.  May be called from any
 * thread; the session must still be freed. */
void repo_reader_abort(struct repo_reader *r);
void repo_reader_free(struct repo_reader *r);
DEFINE_AUTO_PTR(repo_reader)

/* --- writer session --- */

struct repo_writer;
struct repo_index;

struct repo_writer_ops {
	const struct snapshot_name *(*previous)(struct repo_writer *w);
	int (*get_previous)(struct repo_writer *w, const char *name, struct repo_file *out,
			    struct err *err);
	int (*reuse_chunk)(struct repo_writer *w, const struct digest *digest, struct err *err);
	void (*distrust)(struct repo_writer *w); /* NULL: nothing can be done */
	int (*put_chunk)(struct repo_writer *w, const struct digest *digest, const void *data,
			 size_t size, size_t plain_size, bool *duplicate, struct err *err);
	/* `image_size` 0: a dynamic index */
	int (*index_open)(struct repo_writer *w, const char *name, uint64_t image_size,
			  struct repo_index **out, struct err *err);
	int (*index_add)(struct repo_index *ix, uint64_t chunk_size,
			 const struct digest *digest, struct err *err);
	int (*index_close)(struct repo_index *ix, uint64_t *size, struct digest *csum,
			   struct err *err);
	int (*put_blob)(struct repo_writer *w, const char *name, const void *data, size_t size,
			struct err *err);
	int (*finish)(struct repo_writer *w, const void *manifest_blob, size_t size,
		      struct err *err);
	void (*free)(struct repo_writer *w);
};

struct repo_writer {
	const struct repo_writer_ops *ops;
};

struct repo_writer_params {
	struct snapshot_name name; /* the snapshot to make */
	const char *owner; /* for a new group: "root@pam"; a server takes the login's instead */
	bool no_cache; /* a server with an S3 datastore shall not keep new chunks at hand */
};

/* The newest finished snapshot of the group, locked against removal; NULL: none usable. */
const struct snapshot_name *repo_writer_previous(struct repo_writer *w);

/* A file of the previous snapshot; its index's chunks may then be reused. */
int repo_writer_get_previous(struct repo_writer *w, const char *name, struct repo_file *out,
			     struct err *err);

/* Keep a chunk that the repository is believed to hold: marks it as in use.  -ENOENT: it is
 * not there (any more), so put it. */
int repo_writer_reuse_chunk(struct repo_writer *w, const struct digest *digest,
			    struct err *err);

/* Some of what is stored was found damaged: from here on a chunk that is put takes the place of one
 * that is there, unless that is whole.  False: the repository cannot do that. */
bool repo_writer_distrust(struct repo_writer *w);

/* Store a chunk in its stored form.  `*duplicate` (may be NULL): it was there already. */
int repo_writer_put_chunk(struct repo_writer *w, const struct digest *digest, const void *data,
			  size_t size, size_t plain_size, bool *duplicate, struct err *err);

/* Begin the dynamic index `name` ("root.mpxar.didx"), or the fixed index ("disk.img.fidx") of an
 * image of `image_size` bytes, at least one, in chunks of FIDX_CHUNK_SIZE.  Chunks are added in
 * order, each after it was put or reused.  repo_index_close() frees the index whatever it
 * returns, and gives what the manifest says of it: an index without chunks, or without all
 * of an image's, is refused.  An index that is not closed goes with the session. */
int repo_writer_index_open(struct repo_writer *w, const char *name, struct repo_index **out,
			   struct err *err);
int repo_writer_index_open_fixed(struct repo_writer *w, const char *name, uint64_t image_size,
				 struct repo_index **out, struct err *err);
int repo_index_add(struct repo_writer *w, struct repo_index *ix, uint64_t chunk_size,
		   const struct digest *digest, struct err *err);
int repo_index_close(struct repo_writer *w, struct repo_index *ix, uint64_t *size,
		     struct digest *csum, struct err *err);

/* Store a blob file (stored form) under `name`. */
int repo_writer_put_blob(struct repo_writer *w, const char *name, const void *data, size_t size,
			 struct err *err);

/* Make the snapshot appear, whole and durable: the manifest comes last.  Afterwards only
 * repo_writer_free() is allowed. */
int repo_writer_finish(struct repo_writer *w, const void *manifest_blob, size_t size,
		       struct err *err);

/* Ends the session; without a successful repo_writer_finish() nothing of it stays. */
void repo_writer_free(struct repo_writer *w);
DEFINE_AUTO_PTR(repo_writer)

/* --- repository --- */

struct repo;

struct repo_space {
	uint64_t total, used, available; /* bytes */
};

/* Looking after what is there. */
struct repo_care_ops {
	int (*forget)(struct repo *r, const struct snapshot_name *name, struct err *err);
	int (*forget_group)(struct repo *r, const struct snapshot_group *group, struct err *err);
	int (*get_notes)(struct repo *r, const struct snapshot_name *name, struct wbuf *out,
			 struct err *err);
	int (*set_notes)(struct repo *r, const struct snapshot_name *name, const char *notes,
			 struct err *err);
	int (*get_group_notes)(struct repo *r, const struct snapshot_group *group, struct wbuf *out,
			       struct err *err);
	int (*set_group_notes)(struct repo *r, const struct snapshot_group *group,
			       const char *notes, struct err *err);
	int (*get_protected)(struct repo *r, const struct snapshot_name *name, bool *is_protected,
			     struct err *err);
	int (*set_protected)(struct repo *r, const struct snapshot_name *name, bool is_protected,
			     struct err *err);
	int (*make_ns)(struct repo *r, const char *ns, struct err *err);
	int (*remove_ns)(struct repo *r, const char *ns, bool with_groups, struct err *err);
	int (*space)(struct repo *r, struct repo_space *out, struct err *err);
};

struct repo_ops {
	int (*list_ns)(struct repo *r, const char *ns, repo_ns_visit *visit, void *arg,
		       struct err *err);
	int (*list_groups)(struct repo *r, const char *ns, repo_group_visit *visit, void *arg,
			   struct err *err);
	int (*list_snapshots)(struct repo *r, const struct snapshot_group *group,
			      repo_snapshot_visit *visit, void *arg, struct err *err);
	int (*read)(struct repo *r, const struct snapshot_name *name, struct repo_reader **out,
		    struct err *err);
	int (*write)(struct repo *r, const struct repo_writer_params *params,
		     struct repo_writer **out, struct err *err); /* NULL: read only */
	int (*put_log)(struct repo *r, const struct snapshot_name *name, const void *data,
		       size_t size, struct err *err); /* NULL: read only */
	const struct repo_care_ops *care; /* NULL: read only */
	enum archive_names (*default_names)(struct repo *r);
	/* repo_writer_reuse_chunk() finds every chunk that is stored, not only those of indexes
	 * that repo_writer_get_previous() gave. */
	bool reuses_any_chunk;
	void (*free)(struct repo *r);
};

/* Takes a message for a person about something that did not stop the work: "snapshot ... is
 * read without a lock".  Called from any thread that uses the repository or a session of it. */
typedef void repo_warning(void *arg, const char *message);

struct repo {
	const struct repo_ops *ops;
	char *spelling; /* as the user gave it, for messages; from malloc */
	repo_warning *warning; /* NULL: warnings are dropped; set before the first session */
	void *warning_arg;
	/* Once it is true, calls of sessions that wait for a server fail with -ECANCELED, within some
	 * seconds; but for repo_writer_finish(), of which nobody could tell what became.  NULL: nothing
	 * stops them; set before the first session. */
	const atomic_bool *stop;
};

/* For backends. */
void repo_warn(struct repo *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool repo_is_stopped(const struct repo *r);

/* Opened by spelling (client/repo/repo_name.h); the sessions must be gone. */
void repo_free(struct repo *r);
DEFINE_AUTO_PTR(repo)

/* Child namespaces of `ns` at every depth; not `ns` itself.  -ENOENT: no namespace `ns`. */
int repo_list_ns(struct repo *r, const char *ns, repo_ns_visit *visit, void *arg,
		 struct err *err);

/* Groups of one namespace (-ENOENT: there is none of that name), and snapshots of one group
 * (an unknown group has none), finished or not, in no particular order. */
int repo_list_groups(struct repo *r, const char *ns, repo_group_visit *visit, void *arg,
		     struct err *err);
int repo_list_snapshots(struct repo *r, const struct snapshot_group *group,
			repo_snapshot_visit *visit, void *arg, struct err *err);

/* Parse what a user typed (snapshot_parse()) and resolve "latest" to the newest finished
 * snapshot.  -ENOENT: no such group, or nothing finished in it.  An explicit time is not
 * looked up: repo_read() says when there is no such snapshot. */
int repo_resolve(struct repo *r, const char *text, const char *ns, struct snapshot_name *out,
		 struct err *err);

/* -ENOENT: no such snapshot, or it is not finished.  -EBUSY: it is being removed. */
int repo_read(struct repo *r, const struct snapshot_name *name, struct repo_reader **out,
	      struct err *err);

/* -EBUSY: another backup of the group is running, or a garbage collection; -EEXIST: there is
 * such a snapshot, or a newer one; -EACCES: the group belongs to someone else. */
int repo_write(struct repo *r, const struct repo_writer_params *params,
	       struct repo_writer **out, struct err *err);

/* The names that new split archives get here when nobody says otherwise and the group's last
 * snapshot has none. */
enum archive_names repo_default_names(struct repo *r);

/* --- looking after what is there --- */

/* Remove a snapshot, finished or not; its chunks stay until garbage collection.  A group goes
 * with its last snapshot.  -ENOENT; -EPERM: it is protected; -EBUSY: someone writes, reads
 * or builds on it. */
int repo_forget(struct repo *r, const struct snapshot_name *name, struct err *err);

/* Remove a group and all its snapshots.  -ENOENT; -EPERM or -EBUSY: what is protected or in use
 * has stayed, and the group too, all else is gone. */
int repo_forget_group(struct repo *r, const struct snapshot_group *group, struct err *err);

/* Append the notes of a finished snapshot, UTF-8; nothing when there are none. */
int repo_get_notes(struct repo *r, const struct snapshot_name *name, struct wbuf *out,
		   struct err *err);

/* Replace them; "" takes them away.  Signatures stay valid.  -EINVAL: not UTF-8. */
int repo_set_notes(struct repo *r, const struct snapshot_name *name, const char *notes,
		   struct err *err);

/* The same of a group.  -ENOENT: there is no such group; -EBUSY: a backup of it is running (a
 * directory's notes are not replaced then). */
int repo_get_group_notes(struct repo *r, const struct snapshot_group *group, struct wbuf *out,
			 struct err *err);
int repo_set_group_notes(struct repo *r, const struct snapshot_group *group, const char *notes,
			 struct err *err);

/* A protected snapshot is not removed by anyone.  -EBUSY: it is being read or written. */
int repo_get_protected(struct repo *r, const struct snapshot_name *name, bool *is_protected,
		       struct err *err);
int repo_set_protected(struct repo *r, const struct snapshot_name *name, bool is_protected,
		       struct err *err);

/* Add the log (stored form) to a snapshot, as its REPO_CLIENT_LOG.  It is never replaced:
 * -EEXIST: there is one.  -ENOENT: no such snapshot (a directory's must be finished); -EBADMSG:
 * no blob, or a damaged one; -E2BIG. */
int repo_put_log(struct repo *r, const struct snapshot_name *name, const void *data, size_t size,
		 struct err *err);

/* Make a namespace and its parents, unless they are there. */
int repo_make_ns(struct repo *r, const char *ns, struct err *err);

/* Remove a namespace (not the root) and those below it.  Without `with_groups` only if no group
 * was ever in them: -ENOTEMPTY; with it as repo_forget_group() has it.  -ENOENT. */
int repo_remove_ns(struct repo *r, const char *ns, bool with_groups, struct err *err);

/* Of the file system that the repository is on; zeros when whoever asks may not know. */
int repo_space(struct repo *r, struct repo_space *out, struct err *err);

#endif
