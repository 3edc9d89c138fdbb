/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/chunk_store.h"

/* What is stored, and for whom. */
struct chunk {
	struct repo_writer *writer; /* NULL: dry run */
	struct upload_worker *worker;
	const void *data;
	size_t size;
	struct upload_stats *stats;
	const struct digest *digest;
};

static void count_new(const struct chunk *c)
{
	atomic_fetch_add(&c->stats->new_chunks, 1);
	atomic_fetch_add(&c->stats->new_bytes, c->size);
}

static void count_reused(const struct chunk *c)
{
	atomic_fetch_add(&c->stats->reused_chunks, 1);
	atomic_fetch_add(&c->stats->reused_bytes, c->size);
}

static int put(const struct chunk *c, struct err *err)
{
	const size_t bytes = BLOB_ENCODED_SIZE_MAX(c->size);
	struct upload_worker *w = c->worker;
	bool duplicate = false;
	int rc = upload_pool_output_begin(w, bytes);

	if (rc < 0)
		err_set(err, -rc, "out of memory");
	if (rc == 0)
		rc = blob_encode(w->codec, c->data, c->size, true, &w->output, err);
	/* Before it is there, as whoever reads the journal asks for it anyway: so nothing that is there
	 * is ever missing in it. */
	if (rc == 0)
		journal_add(upload_pool_journal(w->pool), c->digest);
	if (rc == 0)
		rc = repo_writer_put_chunk(c->writer, c->digest, w->output.data, w->output.size,
					   c->size, &duplicate, err);
	if (rc == 0) {
		atomic_fetch_add(&c->stats->stored_bytes, w->output.size);
		atomic_fetch_add(&c->stats->duplicates, duplicate);
	}
	upload_pool_output_end(w, bytes);
	return rc;
}

/* A claimed chunk: 0 when it is in the repository now. */
static int store_claimed(const struct chunk *c, enum known known, struct err *err)
{
	int rc = -ENOENT;

	if (known == KNOWN_BEFORE)
		rc = c->writer ? repo_writer_reuse_chunk(c->writer, c->digest, err) : 0;
	if (rc == 0) {
		count_reused(c);
		return 0;
	}
	if (rc != -ENOENT)
		return rc;
	rc = c->writer ? put(c, err) : 0;
	if (rc == 0)
		count_new(c);
	return rc;
}

int chunk_store_digested(struct repo_writer *writer, struct upload_worker *worker,
			 const void *data, size_t size, struct upload_stats *stats,
			 const struct digest *digest, struct err *err)
{
	const struct chunk c = { writer, worker, data, size, stats, digest };
	struct known_set *set = upload_pool_known(worker->pool);
	enum known known;
	int rc = known_claim(set, digest, &known);

	if (rc < 0)
		return err_set(err, -rc, "out of memory");
	if (known == KNOWN_STORED) {
		count_reused(&c);
		return 0;
	}
	rc = store_claimed(&c, known, err);
	known_settle(set, digest, rc == 0);
	return rc;
}

int chunk_store(struct repo_writer *writer, struct upload_worker *worker, const void *data,
		size_t size, struct upload_stats *stats, struct digest *digest, struct err *err)
{
	crypt_digest(worker->digest, worker->key, data, size, digest);
	return chunk_store_digested(writer, worker, data, size, stats, digest, err);
}

int chunk_store_index(struct repo_writer *writer, struct repo_index *index, size_t size,
		      const struct digest *digest, struct upload_stats *stats, struct err *err)
{
	int rc = index ? repo_index_add(writer, index, size, digest, err) : 0;

	if (rc == 0) {
		atomic_fetch_add(&stats->chunks, 1);
		atomic_fetch_add(&stats->bytes, size);
	}
	return rc;
}

int chunk_store_reuse(struct repo_writer *writer, struct known_set *set,
		      const struct digest *digest, struct err *err)
{
	enum known known;
	int rc = known_claim(set, digest, &known);

	if (rc < 0)
		return err_set(err, -rc, "out of memory");
	if (known == KNOWN_STORED)
		return 0;
	rc = writer ? repo_writer_reuse_chunk(writer, digest, err) : 0;
	known_settle(set, digest, rc == 0);
	return rc;
}
