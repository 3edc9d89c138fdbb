/* SPDX-License-Identifier: Apache-2.0 */
/*
 * previous - the group's last snapshot, as far as a backup can use it.
 *
 * Whatever is wrong with it costs time, not the backup: a message says what, and the rest goes
 * on as if there were none.
 *
 * Owner:   embedded; zero is none; release with previous_release(), before the writer session.
 * Threads: one.
 */
#ifndef PXARFS_PREVIOUS_H
#define PXARFS_PREVIOUS_H

#include "archive/didx.h"
#include "archive/fidx.h"
#include "client/backup/backup.h"
#include "client/backup/change.h"
#include "client/backup/known.h"

struct previous {
	const struct backup_params *params;
	struct repo_writer *writer; /* NULL: a dry run */
	struct known_set *known; /* where its chunks are entered; borrowed */
	struct repo_reader *reader; /* open in a dry run, otherwise once content is compared */
	bool exists;
	struct snapshot_name name;
	struct manifest *manifest; /* NULL: there is none, or it is not usable */
	bool distrusted; /* damage was met: what it has is not to be taken for stored */
	bool knows_names; /* from the manifest, usable or not */
	enum archive_names names;
};

/* Look for it: what the writer session says, or in a dry run (NULL) the newest snapshot.  The
 * writer and the set are lent.  Fails only with the repository. */
int previous_open(struct previous *p, const struct backup_params *params,
		  struct repo_writer *writer, struct known_set *known, struct err *err);
void previous_release(struct previous *p);

/* The archive of that name, in either convention of split archives; a legacy one is of no use
 * to a split one, as its chunks are cut elsewhere.  False: none. */
bool previous_find_archive(const struct previous *p, const char *name,
			   struct archive_name *out);

/* One of its indexes, as long as the file is held. */
struct previous_index {
	struct repo_file file;
	struct didx ix;
	struct fidx image; /* instead, for one */
	bool usable;
};

void previous_index_load(struct previous *p, const char *name, bool is_image,
			 struct previous_index *out);

static inline void previous_index_release(struct previous_index *ix)
{
	repo_file_release(&ix->file);
}
DEFINE_AUTO_STRUCT(previous_index)

/* Its archive, to compare files with.  `began`: when its index was opened, since 1970; a snapshot's
 * own time may be made up.  *out stays NULL, and a message says why, when every file has to be
 * read.  `spec_name` is for messages.  -ENOMEM, -ECANCELED. */
int previous_compare(struct previous *p, const char *spec_name,
		     const struct archive_name *archive, int64_t began, struct change **out,
		     struct err *err);

/* The same when there is no such archive: only the message. */
void previous_explain(const struct previous *p, const char *spec_name);

#endif
