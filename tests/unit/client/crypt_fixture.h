/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small tree, a repository in memory, two keys, and backups of the one into the other: for
 * the tests of encrypted and signed backups.
 */
#ifndef PXARFS_TESTS_CRYPT_FIXTURE_H
#define PXARFS_TESTS_CRYPT_FIXTURE_H

#include "archive/manifest_sign.h"
#include "client/backup/backup.h"
#include "client/read/archive_open.h"
#include "tests/support/lib/repo_memory.h"
#include "tests/support/lib/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { MESSAGES_SIZE = 4096, FIXTURE_READ_SIZE = 1 << 20 };

struct crypt_fixture {
	struct store tree;
	struct repo *repo;
	struct crypt_key *key, *other;
	struct backup_params params;
	struct backup_spec specs[3];
	struct wbuf wrapped;
	struct backup *backup; /* of the last run */
	struct err err;
	char messages[MESSAGES_SIZE];
};

static inline void fixture_message(void *arg, enum backup_message kind, const char *text)
{
	struct crypt_fixture *f = arg;
	size_t used = strlen(f->messages);

	(void)kind;
	snprintf(f->messages + used, sizeof(f->messages) - used, "%s\n", text);
}

static inline struct snapshot_name fixture_name(int64_t time)
{
	struct snapshot_name name = { .time = time };
	struct err err = ERR_INIT;

	assert_int_equal(snapshot_group_parse("host/test", "", &name.group, &err), 0);
	return name;
}

static inline void fixture_add_spec(struct crypt_fixture *f, const char *name, const char *path)
{
	static char texts[4][PATH_MAX + 64];
	static unsigned next;
	char *text = texts[next++ % 4];
	struct err err = ERR_INIT;

	snprintf(text, sizeof(texts[0]), "%s:%s", name, path);
	assert_int_equal(backup_spec_parse(text, &f->specs[f->params.spec_count++], &err), 0);
}

static inline struct crypt_key *fixture_key(uint8_t first)
{
	uint8_t bytes[CRYPT_KEY_SIZE];
	struct crypt_key *key;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(first + i);
	assert_int_equal(crypt_key_new(&key, bytes, &err), 0);
	return key;
}

static inline int fixture_set_up(void **state)
{
	struct crypt_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	store_folder(&f->tree);
	store_mkdir(&f->tree, "root");
	store_mkdir(&f->tree, "root/folder-of-secrets");
	store_write(&f->tree, "root/folder-of-secrets/first-name", "first plain words\n");
	store_write(&f->tree, "root/second-name", "second plain words\n");
	store_write(&f->tree, "x.conf", "key = value\n");
	f->repo = repo_memory_new();
	f->key = fixture_key(0);
	f->other = fixture_key(100);
	wbuf_init(&f->wrapped, 4096);
	f->params = (struct backup_params){
		.repo = f->repo,
		.owner = "root@pam",
		.specs = f->specs,
		.mode = BACKUP_MODE_DATA,
		.chunk_size_avg = 64 << 10,
		.crypt_mode = CRYPT_MODE_ENCRYPT,
		.key = f->key,
		.thread_count = 2,
		.entries_max = WALK_ENTRIES_MAX_DEFAULT,
		.message = fixture_message,
		.message_arg = f,
	};
	fixture_add_spec(f, "root.pxar", store_path(&f->tree, "root"));
	fixture_add_spec(f, "etc.conf", store_path(&f->tree, "x.conf"));
	*state = f;
	return 0;
}

static inline int fixture_tear_down(void **state)
{
	struct crypt_fixture *f = *state;

	backup_free(f->backup);
	repo_free(f->repo);
	crypt_key_free(f->key);
	crypt_key_free(f->other);
	wbuf_release(&f->wrapped);
	store_remove(&f->tree);
	free(f);
	return 0;
}

static inline void fixture_use(struct crypt_fixture *f, enum crypt_mode mode,
			       const struct crypt_key *key)
{
	f->params.crypt_mode = mode;
	f->params.key = key;
}

static inline void fixture_run(struct crypt_fixture *f, int64_t time)
{
	backup_free(f->backup);
	f->backup = NULL;
	f->err = (struct err)ERR_INIT;
	f->messages[0] = '\0';
	f->params.name = fixture_name(time);
	if (backup_new(&f->backup, &f->params, &f->err) < 0 || backup_run(f->backup, &f->err) < 0)
		fail_msg("%s", f->err.text);
}

static inline const uint8_t *fixture_file(struct crypt_fixture *f, int64_t time,
					  const char *name, size_t *size)
{
	const struct snapshot_name snapshot = fixture_name(time);
	const void *data = repo_memory_file(f->repo, &snapshot, name, size);

	assert_non_null(data);
	return data;
}

static inline struct didx fixture_index(struct crypt_fixture *f, int64_t time, const char *name)
{
	struct didx ix = { 0 };
	size_t size;
	const void *data = fixture_file(f, time, name, &size);

	assert_int_equal(didx_open(&ix, data, size, NULL), 0);
	return ix;
}

static inline struct digest fixture_digest(const struct didx *ix, size_t i)
{
	struct digest digest;
	uint64_t begin, end;

	didx_chunk(ix, i, &begin, &end, &digest);
	return digest;
}

/* The stored form of a chunk. */
static inline void fixture_chunk(struct crypt_fixture *f, int64_t time,
				 const struct digest *digest, struct wbuf *out)
{
	const struct snapshot_name name = fixture_name(time);
	AUTO(repo_reader) struct repo_reader *reader = NULL;

	assert_int_equal(repo_read(f->repo, &name, &reader, NULL), 0);
	assert_int_equal(repo_reader_get_chunk(reader, digest, out, NULL), 0);
}

/* Both streams to their ends, as somebody does who reads the snapshot with `key`. */
static inline int fixture_read(struct crypt_fixture *f, int64_t time,
			       const struct crypt_key *key, struct err *err)
{
	const struct snapshot_name name = fixture_name(time);
	AUTO(chunk_cache) struct chunk_cache *cache = chunk_cache_new(1 << 20);
	AUTO(fetch) struct fetch *fetch = fetch_new(cache, 1);
	AUTO(repo_reader) struct repo_reader *reader = NULL;
	AUTO(archive) struct archive *archive = NULL;
	AUTO(free) uint8_t *data = malloc(FIXTURE_READ_SIZE);
	struct stream *payload;
	int rc = repo_read(f->repo, &name, &reader, err);

	assert_true(cache && fetch && data);
	if (rc == 0)
		rc = archive_open(&archive, fetch, reader, key, "root.pxar", err);
	if (rc < 0)
		return rc;
	reader = NULL; /* the archive's now */
	rc = read_at_exact(stream_read_at(archive_meta(archive)), data,
			   (size_t)stream_size(archive_meta(archive)), 0, err);
	if (rc == 0)
		rc = archive_payload(archive, &payload, err);
	if (rc == 0)
		rc = read_at_exact(stream_read_at(payload), data, (size_t)stream_size(payload), 0,
				   err);
	return rc;
}

#endif
