/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snaps - the snapshots of a repository mount that are open, and the archives in them.
 *
 * A snapshot is opened, and so locked against removal, when somebody enters it; what it holds
 * when that is entered.  Both are closed when nobody has used them for `idle_ms`; earlier,
 * longest unused first, when there are more than `open_max` snapshots, or indexes of more than
 * `bytes_max`.  Opened again it must be what it was: a snapshot that was removed and made anew
 * under the same name is another one, and the old one's numbers mean nothing any more.
 *
 *	closed --(a load: a request waits for it)--> open --(idle, too many, gone)--> closed
 *
 * What is closed is first taken out, so that nobody finds it, and then freed by the keeper, a
 * thread of its own: freeing waits for loads.  The keeper also tells the kernel which names have
 * gone (that waits for requests that are in the folder), discards them, and lists the groups that
 * somebody went into again.
 *
 * Owner:   snaps_free() after snaps_stop(), snaps_join() and fetch_stop().
 * Threads: any number, but for the end.  Lock order: ours, then the tree's.
 * Limits:  inode.h says how many archives can be entered in the life of a mount; then -ENFILE.
 */
#ifndef PXARFS_SNAPS_H
#define PXARFS_SNAPS_H

#include "fuse/mount.h"
#include "fuse/repo_tree.h"

enum {
	SNAPS_OPEN_MAX = 100,
	SNAPS_IDLE_MS = 5 * 60 * 1000,
	SNAPS_BYTES_MAX = 8 << 20,
	SNAPS_FILES_MAX = 1024, /* of one snapshot */
};

struct snaps;

struct snaps_params {
	struct repo *repo;
	struct fetch *fetch;
	const struct crypt_key *key; /* NULL: none; lent */
	const char *ns;
	const struct snapshot_name *snapshot; /* NULL: all of the namespace */
	unsigned refresh_ms;
	size_t readahead_bytes;
	unsigned open_max, idle_ms;
	size_t bytes_max;
};

int snaps_new(struct snaps **out, const struct snaps_params *params, struct err *err);
void snaps_free(struct snaps *s);
DEFINE_AUTO_PTR(snaps)

/* Start the keeper, who tells `mount->told`.  NULL: there is no kernel to tell. */
int snaps_start(struct snaps *s, struct mount *mount, struct err *err);

/* The keeper begins nothing new, and no count of links tells the kernel more. */
void snaps_stop(struct snaps *s);

/* Whether the keeper has ended, within `wait_ms`; after snaps_stop(). */
bool snaps_join(struct snaps *s, unsigned wait_ms);

/* Loads that hang in the repository fail soon. */
void snaps_abort(struct snaps *s);

struct repo_tree *snaps_tree(struct snaps *s);

/* Wait, blocking, until it is known that there is something to show.  -EAGAIN: each of the two
 * listings that it takes has `wait_ms`, and one goes on longer. */
int snaps_prove(struct snaps *s, unsigned wait_ms, struct err *err);

/* Whether the files of a snapshot have become its node's children.  -EAGAIN: wait for *want;
 * -ESTALE. */
int snaps_has_files(struct snaps *s, struct node *snapshot, struct fetch_want *want,
		    struct err *err);

/* An archive or image, held until shown_let_go(); its archive is NULL where it is an image.
 * -EAGAIN: wait for *want and ask again, -ESTALE.  What else can be wrong with it comes from
 * the wait. */
int snaps_enter(struct snaps *s, struct node *file, struct shown **out, struct fetch_want *want,
		struct err *err);

/* The archive that has this slot; NULL: none, or it was discarded. */
struct node *snaps_at(struct snaps *s, uint32_t slot);

/* The slot of an archive of so many bytes: one that it keeps, but for a larger one if it was
 * given while the size was not known.  -E2BIG; -ENFILE. */
int snaps_slot(struct snaps *s, struct node *archive, uint64_t size, uint32_t *slot,
	       struct err *err);

/* An image's bytes. */
struct stream *snaps_image(struct shown *shown);

enum { SNAPS_BLOB_SIZE, SNAPS_BLOB_CONTENT }; /* what of a blob is to be loaded */

/* Whether a blob's size is known, which it is once it was read.  -EAGAIN. */
int snaps_blob_size(struct snaps *s, struct node *blob, uint64_t *size,
		    struct fetch_want *want);

/* Its content, of the size that is known and is not 0, for fetch_get(). */
void snaps_blob_want(struct snaps *s, struct node *blob, struct fetch_want *want);

struct snaps_stats {
	uint64_t opened; /* snapshots, since the mount */
	size_t snapshots, archives; /* open now; images are archives here */
	size_t bytes; /* of indexes */
	size_t nodes; /* of the tree */
};
void snaps_stats(struct snaps *s, struct snaps_stats *out);

/* Close what is to be closed at this time (of CLOCK_MONOTONIC); as the keeper does. */
void snaps_close_idle(struct snaps *s, uint64_t now_ms);

/* Tell the kernel what has gone, and discard that; as the keeper does.  One thread at a time.  Whether
 * some of it is still in use. */
bool snaps_discard_gone(struct snaps *s);

#endif
