/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup_fixture - a folder, a repository in memory, and what a backup of one into the other says.
 */
#ifndef PXARFS_TESTS_BACKUP_FIXTURE_H
#define PXARFS_TESTS_BACKUP_FIXTURE_H

#include "client/backup/backup.h"
#include "tests/support/lib/repo_memory.h"
#include "tests/support/lib/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MESSAGES_SIZE = 4096 };

struct fixture {
	struct store folder;
	struct repo *repo;
	struct backup_params params;
	struct backup_spec specs[3];
	struct backup *backup; /* of the last run */
	struct err err;
	char messages[MESSAGES_SIZE]; /* of it: a line each, with its kind's number */
	atomic_bool stop;
};

static inline void keep_message(void *arg, enum backup_message kind, const char *text)
{
	struct fixture *f = arg;
	size_t used = strlen(f->messages);

	snprintf(f->messages + used, sizeof(f->messages) - used, "%d %s\n", (int)kind, text);
}

static inline void add_spec(struct fixture *f, const char *name, const char *path)
{
	static _Thread_local char texts[8][PATH_MAX + 64];
	static _Thread_local unsigned next;
	char *text = texts[next++ % 8];
	struct err err = ERR_INIT;

	snprintf(text, sizeof(texts[0]), "%s:%s", name, path);
	assert_int_equal(backup_spec_parse(text, &f->specs[f->params.spec_count++], &err), 0);
}

/* With an empty folder and no specs. */
static inline struct fixture *fixture_new(const char *group)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	store_folder(&f->folder);
	f->repo = repo_memory_new();
	f->params = (struct backup_params){
		.repo = f->repo,
		.name.time = 1000,
		.owner = "root@pam",
		.specs = f->specs,
		.mode = BACKUP_MODE_DATA,
		.chunk_size_avg = 64 << 10,
		.thread_count = 2,
		.entries_max = WALK_ENTRIES_MAX_DEFAULT,
		.message = keep_message,
		.message_arg = f,
		.stop = &f->stop,
	};
	assert_int_equal(snapshot_group_parse(group, "", &f->params.name.group, NULL), 0);
	return f;
}

static inline int tear_down(void **state)
{
	struct fixture *f = *state;

	backup_free(f->backup);
	repo_free(f->repo);
	store_remove(&f->folder);
	free(f);
	return 0;
}

static inline struct snapshot_name snapshot_at(const struct fixture *f, int64_t time)
{
	struct snapshot_name name = f->params.name;

	name.time = time;
	return name;
}

static inline bool has_snapshot(struct fixture *f, int64_t time)
{
	const struct snapshot_name name = snapshot_at(f, time);
	size_t size;

	return repo_memory_file(f->repo, &name, MANIFEST_BLOB_NAME, &size) != NULL;
}

/* As the command does it. */
static inline int run_at(struct fixture *f, int64_t time)
{
	int rc;

	backup_free(steal(&f->backup));
	f->params.name.time = time;
	f->err = (struct err)ERR_INIT;
	f->messages[0] = '\0';
	rc = backup_spec_check(f->specs, f->params.spec_count, &f->err);
	if (rc == 0)
		rc = backup_new(&f->backup, &f->params, &f->err);
	return rc < 0 ? rc : backup_run(f->backup, &f->err);
}

static inline void run_well(struct fixture *f, int64_t time)
{
	if (run_at(f, time) != 0)
		fail_msg("%s", f->err.text);
}

#endif
