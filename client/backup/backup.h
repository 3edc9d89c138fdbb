/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup - one backup, from options to the finished snapshot.
 *
 * Archives and blobs are taken one after another, in the order given; each archive's streams
 * run in parallel (upload.h).  Whatever fails, nothing of the snapshot stays; chunks that were
 * stored in vain are collected later.
 *
 * A backup that was interrupted is gone on with when it is repeated: chunks that it has stored, and
 * that are still there, are neither compressed nor stored again.  Not on a server, which takes no
 * chunk for known that is in no index of the last snapshot.
 *
 * Of the last snapshot only that is reused which was made in the same way: its manifest must have
 * our key's fingerprint and signature (or none, when there is no key), and the archive our crypt
 * mode.  Otherwise everything is read and stored anew, and a message says why.
 *
 * Owner:   free with backup_free(); the parameters and what they point to outlive it.
 * Threads: backup_run() on one; backup_progress() from any other meanwhile.
 * Errors:  -ECANCELED: `stop` was set ("interrupted").
 */
#ifndef PXARFS_BACKUP_H
#define PXARFS_BACKUP_H

#include "archive/crypt.h"
#include "archive/manifest.h"
#include "archive/match.h"
#include "client/backup/backup_archive.h"
#include "client/backup/backup_spec.h"
#include "client/repo/repo.h"

enum {
	BACKUP_BYTES_MAX = 120 << 20, /* rings and outputs at the largest chunk size */
	BACKUP_THREADS_MAX = 16,
	BACKUP_UNCOMPRESSED = -1,
};

enum backup_mode {
	BACKUP_MODE_LEGACY, /* one stream an archive, and a catalog */
	BACKUP_MODE_DATA, /* two streams, every file read */
	BACKUP_MODE_METADATA, /* two streams; files that have not changed are not read */
};

enum backup_message {
	BACKUP_MESSAGE_INFO,
	BACKUP_MESSAGE_WARNING,
	BACKUP_MESSAGE_LOST, /* data is missing from the archive */
};

struct backup_params {
	struct repo *repo;
	struct snapshot_name name;
	const char *owner; /* of a new group */
	const char *notes; /* NULL: none */
	const struct backup_spec *specs; /* checked */
	size_t spec_count;
	enum backup_mode mode;
	bool mode_given; /* say so when METADATA has nothing to compare with */
	bool detect_ctime; /* METADATA: changed is also what has a ctime after the last backup's start */
	unsigned padding_percent_max; /* METADATA: of a payload stream, for chunks used in part */
	bool names_given; /* else `names` is found: previous snapshot's, repository's */
	enum archive_names names;
	size_t chunk_size_avg;
	bool no_cache; /* repo_writer_params */
	bool dry_run; /* walk and cut everything, store nothing */
	unsigned thread_count; /* 0: one a core and one, BACKUP_THREADS_MAX at most */
	int compression; /* a level of zstd; 0: the default, BACKUP_UNCOMPRESSED: none */
	const char *journal_folder; /* client/backup/journal.h; NULL: no journal */
	uint64_t rate, burst; /* stored bytes a second (client/repo/repo_rate.h); 0: no limit */

	/* With mode none there is no key, with any other there is one: it encrypts what is stored
	 * or signs the manifest alone. */
	enum crypt_mode crypt_mode;
	const struct crypt_key *key;
	const struct wbuf *wrapped_key; /* `key`, by master_key_wrap(); NULL or empty: none */

	/* The walk's (client/fs/walk.h). */
	const struct match_list *patterns;
	const char *const *include_devs;
	size_t include_dev_count;
	bool all_file_systems;
	uint64_t entries_max;
	bool skip_e2big_xattr;

	bool skip_read_errors; /* zeros for what cannot be read, and go on */

	void (*message)(void *arg, enum backup_message kind, const char *text); /* any thread */
	void *message_arg;
	const atomic_bool *stop; /* may be NULL */
};

struct backup;
int backup_new(struct backup **out, const struct backup_params *params, struct err *err);
void backup_free(struct backup *b);
DEFINE_AUTO_PTR(backup)

int backup_run(struct backup *b, struct err *err);

struct backup_progress {
	uint64_t bytes; /* of all streams, as far as they are indexed */
	uint64_t new_bytes, reused_bytes; /* together a little more than that */
	uint64_t entries, files, links, skipped;
	uint64_t reused_files, reused_file_bytes; /* of those files: their content was not read */
	uint64_t opened_files, read_bytes; /* of the source */
	uint64_t bytes_expected; /* going by the previous snapshot; 0: not known */
};
void backup_progress(struct backup *b, struct backup_progress *out);

/* After a successful run: the snapshot's files in the order of the manifest, and the rest. */
size_t backup_stream_count(const struct backup *b);
const struct backup_stream *backup_stream(const struct backup *b, size_t i);
enum archive_names backup_names(const struct backup *b);
const struct snapshot_name *backup_previous(const struct backup *b); /* NULL: none */
bool backup_compared(const struct backup *b); /* with it: some archive's content */
uint64_t backup_elapsed_ms(const struct backup *b);

#endif
