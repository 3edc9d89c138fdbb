/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/backup_archive.h"

#include "archive/chunker.h"

static int open_stream(const struct backup_target *t, struct backup_stream *s,
		       size_t chunk_size_avg, const struct didx *previous, struct upload **out,
		       struct err *err)
{
	const struct upload_params params = {
		.writer = t->writer,
		.index_name = s->name,
		.chunk_size_avg = chunk_size_avg,
		.suggestions = s->kind == BACKUP_STREAM_PAYLOAD,
		.stats = &s->stats,
		.stop = t->stop,
	};
	AUTO(upload) struct upload *u = NULL;
	int rc = upload_new(&u, t->pool, &params, err);

	if (rc == 0 && previous)
		rc = upload_know_index(u, previous, err);
	if (rc < 0)
		return rc;
	*out = steal(&u);
	return 0;
}

/* --- catalog --- */

struct backup_catalog {
	struct upload *upload;
	struct catalog_writer writer;
	struct backup_stream *stream;
};

int backup_catalog_new(struct backup_catalog **out, const struct backup_target *target,
		       struct backup_stream *stream, struct err *err)
{
	AUTO(backup_catalog) struct backup_catalog *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(err, ENOMEM, "out of memory");
	c->stream = stream;
	rc = open_stream(target, stream, CHUNKER_AVG_SIZE_CATALOG, NULL, &c->upload, err);
	if (rc == 0)
		rc = catalog_writer_init(&c->writer, upload_write, c->upload, err);
	if (rc < 0)
		return rc;
	*out = steal(&c);
	return 0;
}

int backup_catalog_finish(struct backup_catalog *c, struct err *err)
{
	int rc = catalog_writer_finish(&c->writer, err);

	if (rc == 0)
		rc = upload_end(c->upload, err);
	if (rc == 0)
		rc = upload_finish(c->upload, &c->stream->size, &c->stream->csum, err);
	return rc < 0 ? err_wrap(err, rc, "upload failed") : 0;
}

void backup_catalog_free(struct backup_catalog *c)
{
	if (!c)
		return;
	upload_free(c->upload);
	catalog_writer_release(&c->writer);
	free(c);
}

/* --- the streams of one archive --- */

/* At most two, metadata first: what a failure is put together from. */
struct pair {
	struct upload *uploads[2]; /* NULL: there is none */
	struct backup_stream *streams[2]; /* NULL: not to be finished with the archive */
};

static bool any_failed_first(const struct pair *p)
{
	return (p->uploads[0] && upload_failed_first(p->uploads[0])) ||
	       (p->uploads[1] && upload_failed_first(p->uploads[1]));
}

/* Both uploads after a failure anywhere: their own reasons, joined.  0 when they have none. */
static int join_failures(const struct pair *p, struct err *err)
{
	struct err errs[2] = { ERR_INIT, ERR_INIT };
	int rcs[2] = { 0 };
	struct digest csum;
	uint64_t size;

	for (int i = 0; i < 2; i++)
		if (p->uploads[i])
			upload_abort(p->uploads[i]);
	for (int i = 0; i < 2; i++) {
		if (p->uploads[i])
			rcs[i] = upload_finish(p->uploads[i], &size, &csum, &errs[i]);
		if (rcs[i] == -ECANCELED)
			rcs[i] = 0;
	}
	if (rcs[0] && rcs[1])
		return err_set(err, -rcs[0], "upload failed: %s - %s", err_text(&errs[0], rcs[0]),
			       err_text(&errs[1], rcs[1]));
	if (rcs[0] || rcs[1]) {
		int i = rcs[0] ? 0 : 1;

		return err_set(err, -rcs[i], "upload failed: %s", err_text(&errs[i], rcs[i]));
	}
	return 0;
}

/* The walk or the streams' end returned `rc` and its message: say what was the cause. */
static int explain_failure(const struct pair *p, bool walk_failed, int rc, struct err *err)
{
	/* A stream that failed has ended the walk, by its own sink or by that of the other one
	 * (which knows no more than that it was stopped); or the walk has failed by itself. */
	bool upload_first = !walk_failed || rc == -ECANCELED || any_failed_first(p);
	struct err uploads_err = ERR_INIT;
	int uploads_rc = join_failures(p, &uploads_err);

	if (!uploads_rc || !upload_first)
		return rc;
	*err = uploads_err;
	return uploads_rc;
}

/* Both are waited for even when one fails: the other may have something to tell, too. */
static int end_streams(const struct pair *p, struct err *err)
{
	int rc = 0;

	for (int i = 0; i < 2 && rc == 0; i++)
		if (p->streams[i])
			rc = upload_end(p->uploads[i], err);
	if (rc < 0)
		return rc;
	for (int i = 0; i < 2; i++) {
		int one = p->streams[i] ? upload_finish(p->uploads[i], &p->streams[i]->size,
							&p->streams[i]->csum, err) :
					  0;

		rc = rc ? rc : one;
	}
	return rc;
}

/* Where the payload goes: straight up, or by way of what splices older chunks in. */
static int connect_payload(const struct backup_archive *a, struct upload *payload,
			   struct walk_params *walk, struct splice **splice, struct err *err)
{
	const struct splice_params params = {
		.change = a->change,
		.old = a->previous_payload,
		.padding_percent_max = a->padding_percent_max,
		.payload = payload,
		.stats = &a->payload->splice,
	};
	int rc;

	walk->encoder.payload = (struct encoder_sink){ upload_write, payload };
	walk->encoder.suggest_cut = upload_suggest_cut;
	walk->encoder.suggest_arg = payload;
	walk->reserve = upload_reserve;
	walk->reserve_arg = payload;
	if (!a->change)
		return 0;
	rc = splice_new(splice, &params, err);
	if (rc < 0)
		return rc;
	walk->encoder.payload = (struct encoder_sink){ splice_write, *splice };
	walk->encoder.reuse_counts_content = true;
	walk->reuse = splice_hooks(*splice);
	return 0;
}

static int walk_into(const struct backup_archive *a, const struct pair *p, struct err *err)
{
	struct walk_params walk = *a->walk;
	struct catalog_writer *catalog = a->catalog ? &a->catalog->writer : NULL;
	AUTO(splice) struct splice *splice = NULL;
	int rc = 0;

	walk.split = a->payload != NULL;
	walk.stop = a->target.stop;
	walk.encoder.meta = (struct encoder_sink){ upload_write, p->uploads[0] };
	if (walk.split)
		rc = connect_payload(a, p->uploads[1], &walk, &splice, err);
	if (rc == 0 && catalog) {
		walk.observer = (struct walk_observer){ catalog_writer_dir_begin,
							catalog_writer_dir_end,
							catalog_writer_entry, catalog };
		rc = catalog_writer_dir_begin(catalog, a->meta->name, err);
	}
	if (rc == 0)
		rc = walk_encode(&walk, a->walk_stats, err);
	if (rc == 0 && catalog)
		rc = catalog_writer_dir_end(catalog, err);
	return rc;
}

int backup_archive_run(const struct backup_archive *a, struct err *err)
{
	AUTO(upload) struct upload *meta = NULL;
	AUTO(upload) struct upload *payload = NULL;
	struct pair pair;
	int rc = open_stream(&a->target, a->meta, a->chunk_size_avg, a->previous_meta, &meta, err);

	if (rc == 0 && a->payload)
		rc = open_stream(&a->target, a->payload, a->chunk_size_avg, a->previous_payload,
				 &payload, err);
	if (rc < 0)
		return rc;
	pair = (struct pair){
		.uploads = { meta, a->catalog ? a->catalog->upload : payload },
		.streams = { a->meta, a->payload },
	};
	rc = walk_into(a, &pair, err);
	if (rc < 0)
		return explain_failure(&pair, true, rc, err);
	rc = end_streams(&pair, err);
	return rc < 0 ? explain_failure(&pair, false, rc, err) : 0;
}
