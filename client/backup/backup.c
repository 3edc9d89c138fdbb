/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/backup.h"

#include "archive/manifest_sign.h"
#include "archive/master_key.h"
#include "client/backup/backup_image.h"
#include "client/backup/blob_file.h"
#include "client/backup/previous.h"
#include "client/base/clock.h"
#include "client/fs/content.h"
#include "client/repo/repo_rate.h"

#include <assert.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/stat.h>

struct backup {
	const struct backup_params *params;
	struct backup_stream *streams; /* in the order of the manifest */
	size_t stream_count;
	struct walk_stats *walks; /* one for each spec */
	atomic_uint_fast64_t bytes_expected;
	uint64_t elapsed_ms;

	/* While it runs: */
	struct upload_pool *pool;
	struct journal *journal; /* NULL: there is none */
	bool leaves_doubt; /* in the journal */
	struct repo_writer *writer; /* NULL: a dry run */
	struct backup_catalog *catalog;
	struct blob_codec *codec; /* has the key when blobs are encrypted */
	struct blob_codec *plain_codec; /* what is never encrypted: the manifest, the wrapped key */
	struct digest_ctx *digest;

	struct previous previous;
	bool compared; /* an archive with that one's */
	enum archive_names names;
};

__attribute__((format(printf, 3, 4))) static void say(const struct backup *b,
						      enum backup_message kind,
						      const char *format, ...)
{
	char text[ERR_TEXT_SIZE + 256];
	va_list ap;

	if (!b->params->message)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	b->params->message(b->params->message_arg, kind, text);
}

static bool is_stopped(const struct backup *b)
{
	return b->params->stop && atomic_load_explicit(b->params->stop, memory_order_relaxed);
}

/* What chunks and blobs are encrypted with; NULL: they are not. */
static const struct crypt_key *data_key(const struct backup_params *p)
{
	return p->crypt_mode == CRYPT_MODE_ENCRYPT ? p->key : NULL;
}

/* --- what there was before --- */

/* How much an archive or image will have, if it is about as large as it was.  False: it is new,
 * nobody knows. */
static bool expected_size(const struct backup *b, const struct backup_spec *spec, uint64_t *size)
{
	const struct manifest_file *file;
	struct archive_name names;

	if (spec->type == BACKUP_SPEC_IMAGE) {
		*size = spec->image_size;
		return true;
	}
	if (spec->type != BACKUP_SPEC_ARCHIVE || !previous_find_archive(&b->previous, spec->name, &names))
		return false;
	file = manifest_find(b->previous.manifest, names.meta);
	*size = file ? file->size : 0;
	file = names.payload[0] ? manifest_find(b->previous.manifest, names.payload) : NULL;
	*size += file ? file->size : 0;
	return true;
}

static void expect_as_before(struct backup *b)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < b->params->spec_count; i++) {
		uint64_t size;

		if (!expected_size(b, &b->params->specs[i], &size))
			return;
		sum += size;
	}
	atomic_store(&b->bytes_expected, sum);
}

static void decide_names(struct backup *b)
{
	if (b->params->names_given)
		b->names = b->params->names;
	else if (b->previous.knows_names)
		b->names = b->previous.names;
	else
		b->names = repo_default_names(b->params->repo);
}

/* --- session --- */

static int open_session(struct backup *b, struct err *err)
{
	const struct repo_writer_params params = { .name = b->params->name,
						   .owner = b->params->owner,
						   .no_cache = b->params->no_cache };
	const struct repo_rate rate = { b->params->rate, b->params->burst, b->params->stop };
	int rc = 0;

	if (!b->params->dry_run)
		rc = repo_write(b->params->repo, &params, &b->writer, err);
	if (rc == 0 && b->writer && rate.rate)
		rc = repo_rate_limit(&b->writer, &rate, err);
	if (rc == 0)
		rc = previous_open(&b->previous, b->params, b->writer,
				   upload_pool_known(b->pool), err);
	if (rc < 0)
		return rc;
	decide_names(b);
	expect_as_before(b);
	return 0;
}

/* --- archives --- */

static void on_walk_warning(void *arg, bool lost, const char *message)
{
	say(arg, lost ? BACKUP_MESSAGE_LOST : BACKUP_MESSAGE_WARNING, "%s", message);
}

static struct walk_params walk_params_of(struct backup *b, const struct backup_spec *spec)
{
	const struct backup_params *p = b->params;

	return (struct walk_params){
		.source = spec->path,
		.patterns = p->patterns,
		.include_devs = p->include_devs,
		.include_dev_count = p->include_dev_count,
		.all_file_systems = p->all_file_systems,
		.entries_max = p->entries_max,
		.skip_e2big_xattr = p->skip_e2big_xattr,
		.skip_read_errors = p->skip_read_errors,
		.warn = on_walk_warning,
		.warn_arg = b,
	};
}

static struct backup_target target_of(const struct backup *b)
{
	return (struct backup_target){ b->pool, b->writer, b->params->stop };
}

/* The catalog comes behind all that was asked for. */
static int ensure_catalog(struct backup *b, struct err *err)
{
	struct backup_stream *stream = b->streams;
	const struct backup_target target = target_of(b);

	if (b->catalog)
		return 0;
	while (stream->kind != BACKUP_STREAM_CATALOG)
		stream++;
	snprintf(stream->name, sizeof(stream->name), "%s", CATALOG_INDEX_NAME);
	return backup_catalog_new(&b->catalog, &target, stream, err);
}

static int run_archive(struct backup *b, size_t spec_index, struct backup_stream *streams,
		       struct err *err)
{
	const struct backup_spec *spec = &b->params->specs[spec_index];
	const bool split = b->params->mode != BACKUP_MODE_LEGACY;
	const struct walk_params walk = walk_params_of(b, spec);
	AUTO(previous_index) struct previous_index meta = { 0 };
	AUTO(previous_index) struct previous_index payload = { 0 };
	AUTO(change) struct change *change = NULL;
	struct archive_name previous = { 0 }, names;
	int rc = archive_name_make(spec->name, split, b->names, &names, err);

	if (rc == 0 && !split)
		rc = ensure_catalog(b, err);
	if (rc < 0)
		return rc;
	if (previous_find_archive(&b->previous, spec->name, &previous)) {
		previous_index_load(&b->previous, previous.meta, false, &meta);
		previous_index_load(&b->previous, previous.payload, false, &payload);
	} else {
		previous_explain(&b->previous, spec->name);
	}
	if (b->params->mode == BACKUP_MODE_METADATA && meta.usable && payload.usable)
		rc = previous_compare(&b->previous, spec->name, &previous, meta.ix.ctime, &change,
				      err);
	if (rc < 0)
		return rc;
	if (b->previous.distrusted && !change)
		meta.usable = payload.usable = false;
	b->compared = b->compared || change;
	/* The payload's entry stands before the metadata's in the manifest. */
	struct backup_archive archive = {
		.target = target_of(b),
		.chunk_size_avg = b->params->chunk_size_avg,
		.walk = &walk,
		.walk_stats = &b->walks[spec_index],
		.meta = split ? &streams[1] : &streams[0],
		.payload = split ? &streams[0] : NULL,
		.previous_meta = meta.usable ? &meta.ix : NULL,
		.previous_payload = payload.usable ? &payload.ix : NULL,
		.change = change,
		.padding_percent_max = b->params->padding_percent_max,
		.catalog = b->catalog,
	};
	memcpy(archive.meta->name, names.meta, sizeof(names.meta));
	if (archive.payload)
		memcpy(archive.payload->name, names.payload, sizeof(names.payload));
	return backup_archive_run(&archive, err);
}

/* --- images --- */

/* What a source gives counts as one spec's, as what a walk gives. */
struct image_warning {
	struct backup *b;
	struct walk_stats *stats;
};

static void on_image_warning(void *arg, bool lost, const char *message)
{
	const struct image_warning *w = arg;

	if (lost)
		atomic_fetch_add(&w->stats->skipped, 1);
	say(w->b, lost ? BACKUP_MESSAGE_LOST : BACKUP_MESSAGE_WARNING, "%s", message);
}

static int run_image(struct backup *b, size_t spec_index, struct backup_stream *s,
		     struct err *err)
{
	const struct backup_spec *spec = &b->params->specs[spec_index];
	struct image_warning warning = { b, &b->walks[spec_index] };
	AUTO(previous_index) struct previous_index previous = { 0 };

	snprintf(s->name, sizeof(s->name), "%s.fidx", spec->name);
	previous_index_load(&b->previous, s->name, true, &previous);

	const struct backup_image image = {
		.target = target_of(b),
		.path = spec->path,
		.stream = s,
		.previous = previous.usable ? &previous.image : NULL,
		.skip_read_errors = b->params->skip_read_errors,
		.warn = on_image_warning,
		.warn_arg = &warning,
	};
	int rc = backup_image_run(&image, err);

	return rc < 0 ? err_wrap(err, rc, "%s", spec->name) : 0;
}

/* --- blobs --- */

static int put_blob(struct backup *b, struct backup_stream *s, struct blob_codec *codec,
		    const struct wbuf *plain, bool compress, struct err *err)
{
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(BLOB_DATA_SIZE_MAX));
	int rc = blob_encode(codec, plain->data, plain->size, compress, &stored, err);

	if (rc == 0 && b->writer)
		rc = repo_writer_put_blob(b->writer, s->name, stored.data, stored.size, err);
	if (rc < 0)
		return rc;
	digest_ctx_of(b->digest, stored.data, stored.size, &s->csum);
	s->size = stored.size;
	atomic_store(&s->stats.bytes, plain->size);
	atomic_store(&s->stats.new_bytes, plain->size);
	atomic_store(&s->stats.stored_bytes, stored.size);
	return 0;
}

static int run_blob(struct backup *b, const struct backup_spec *spec, struct backup_stream *s,
		    struct err *err)
{
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(BLOB_FILE_ROOM);
	int rc = blob_file_read(spec->path, &plain, err);

	snprintf(s->name, sizeof(s->name), "%s.blob", spec->name);
	if (rc == 0)
		rc = put_blob(b, s, b->codec, &plain, true, err);
	return rc < 0 ? err_wrap(err, rc, "%s", spec->name) : 0;
}

static bool has_wrapped_key(const struct backup_params *p)
{
	return p->wrapped_key && p->wrapped_key->size;
}

/* The last of the files.  It is encrypted in its own way, so only wrapped in a blob. */
static int run_wrapped_key(struct backup *b, struct err *err)
{
	struct backup_stream *s = &b->streams[b->stream_count - 1];
	int rc;

	snprintf(s->name, sizeof(s->name), "%s", MASTER_KEY_BLOB_NAME);
	rc = put_blob(b, s, b->plain_codec, b->params->wrapped_key, false, err);
	return rc < 0 ? err_wrap(err, rc, "%s", s->name) : 0;
}

/* --- manifest --- */

static int list_files(const struct backup *b, struct manifest *m,
		      struct manifest_upload_stats *stats, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < b->stream_count && rc == 0; i++) {
		const struct backup_stream *s = &b->streams[i];

		rc = manifest_add_file(m, s->name, s->size, &s->csum, b->params->crypt_mode, err);
		if (s->kind == BACKUP_STREAM_BLOB) {
			stats->size += s->size;
			continue;
		}
		stats->count += s->stats.new_chunks;
		stats->size += s->stats.new_bytes;
		stats->compressed_size += s->stats.stored_bytes;
		stats->duplicates += s->stats.duplicates;
	}
	return rc;
}

static int encode_manifest(const struct backup *b, const struct manifest *m, struct wbuf *out,
			   struct err *err)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	int rc = manifest_encode(m, &text, err);

	wbuf_clear(out);
	return rc < 0 ? rc : blob_encode(b->plain_codec, text.data, text.size, true, out, err);
}

/* Such files look as if they had not changed, or will when their mtime is set back: the next backup
 * must not trust their content. */
static int tell_the_next(const struct backup *b, struct manifest *m, struct err *err)
{
	bool lost = false, shrunk = false;
	int rc = 0;

	for (size_t i = 0; i < b->params->spec_count; i++) {
		lost = lost || b->walks[i].damaged;
		shrunk = shrunk || b->walks[i].shrunk;
	}
	if (lost)
		rc = manifest_set_lost_content(m, err);
	if (rc == 0 && shrunk)
		rc = manifest_set_shrunk_content(m, err);
	return rc;
}

/* The statistics count every blob that came in, the manifest too, as the client sends it:
 * without the statistics.  So it is encoded twice. */
static int finish_snapshot(const struct backup *b, struct err *err)
{
	const struct snapshot_name *name = &b->params->name;
	AUTO(manifest) struct manifest *m =
		manifest_new(name->group.type, name->group.id, name->time);
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(MANIFEST_SIZE_MAX));
	struct manifest_upload_stats stats = { 0 };
	int rc;

	if (!m)
		return err_set(err, ENOMEM, "out of memory");
	rc = list_files(b, m, &stats, err);
	if (rc == 0)
		rc = tell_the_next(b, m, err);
	if (rc == 0 && b->params->notes)
		rc = manifest_set_notes(m, b->params->notes, err);
	if (rc == 0 && b->params->key)
		rc = manifest_sign(m, b->params->key, err);
	if (rc == 0)
		rc = encode_manifest(b, m, &blob, err);
	stats.size += blob.size;
	if (rc == 0)
		rc = manifest_set_upload_stats(m, &stats, err);
	if (rc == 0)
		rc = encode_manifest(b, m, &blob, err);
	if (rc == 0 && b->writer)
		rc = repo_writer_finish(b->writer, blob.data, blob.size, err);
	return rc;
}

/* --- the whole --- */

static int run_spec(struct backup *b, size_t i, struct backup_stream *streams, struct err *err)
{
	const struct backup_spec *spec = &b->params->specs[i];

	switch (spec->type) {
	case BACKUP_SPEC_BLOB:
		return run_blob(b, spec, streams, err);
	case BACKUP_SPEC_IMAGE:
		return run_image(b, i, streams, err);
	default:
		return run_archive(b, i, streams, err);
	}
}

static size_t streams_of(const struct backup *b, const struct backup_spec *spec)
{
	return spec->type == BACKUP_SPEC_ARCHIVE && b->params->mode != BACKUP_MODE_LEGACY ? 2 : 1;
}

static int run_specs(struct backup *b, struct err *err)
{
	struct backup_stream *next = b->streams;

	for (size_t i = 0; i < b->params->spec_count; i++) {
		int rc;

		if (is_stopped(b))
			return err_set(err, ECANCELED, "interrupted");
		rc = run_spec(b, i, next, err);
		if (rc < 0)
			return rc;
		next += streams_of(b, &b->params->specs[i]);
	}
	if (b->catalog) {
		int rc = backup_catalog_finish(b->catalog, err);

		if (rc < 0)
			return rc;
	}
	return has_wrapped_key(b->params) ? run_wrapped_key(b, err) : 0;
}

/* One a core, and one more, as some wait for the disk. */
static unsigned default_threads(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 2;
	n = CPU_COUNT(&set) + 1;
	return n > BACKUP_THREADS_MAX ? BACKUP_THREADS_MAX : (unsigned)n;
}

static int zstd_level(const struct backup_params *p)
{
	return p->compression == 0		     ? BLOB_ZSTD_LEVEL :
	       p->compression == BACKUP_UNCOMPRESSED ? 0 :
						       p->compression;
}

/* The session is ours, so the group's journal is nobody else's.  A server wants each chunk anew
 * that is in no snapshot: there is nothing to remember. */
static int open_journal(struct backup *b, struct err *err)
{
	const struct backup_params *p = b->params;
	long count;

	if (p->dry_run || !p->journal_folder || !p->repo->ops->reuses_any_chunk)
		return 0;
	b->journal = journal_open(p->journal_folder, p->repo->spelling, &p->name.group,
				  data_key(p));
	if (!b->journal)
		return 0;
	count = journal_load(b->journal, upload_pool_known(b->pool));
	if (count < 0)
		return err_set(err, ENOMEM, "out of memory");
	if (journal_is_doubted(b->journal) && repo_writer_distrust(b->writer))
		say(b, BACKUP_MESSAGE_INFO,
		    "the last backup failed: what it may have stored is looked at");
	if (count > 0)
		say(b, BACKUP_MESSAGE_INFO,
		    "going on with an interrupted backup, which has stored %ld chunks", count);
	upload_pool_set_journal(b->pool, b->journal);
	return 0;
}

static int run_session(struct backup *b, struct err *err)
{
	unsigned threads = b->params->thread_count ? b->params->thread_count : default_threads();
	int rc = upload_pool_new(&b->pool, threads, BACKUP_BYTES_MAX, data_key(b->params), err);

	if (rc < 0)
		return rc;
	upload_pool_set_level(b->pool, zstd_level(b->params));
	rc = open_session(b, err);
	if (rc == 0)
		rc = open_journal(b, err);
	if (rc == 0)
		rc = run_specs(b, err);
	if (rc == 0 && is_stopped(b))
		rc = -ECANCELED;
	return rc;
}

/* Whether chunks that were stored may be on no disk: it was perhaps the store's that failed, or was
 * pulled out. */
static bool may_have_lost(int error)
{
	return content_is_damage(error) || error == EROFS || error == ENODEV || error == ESTALE ||
	       error == ENOTCONN;
}

static int run(struct backup *b, struct err *err)
{
	int rc = run_session(b, err);
	const bool finishes = rc == 0;

	if (finishes)
		rc = finish_snapshot(b, err);
	if (!b->journal)
		return rc;
	if (rc == 0)
		journal_finish(b->journal);
	else
		b->leaves_doubt = rc != -ECANCELED && (finishes || may_have_lost(-rc));
	return rc;
}

/* Threads first, then what they use. */
static void end_session(struct backup *b)
{
	backup_catalog_free(steal(&b->catalog));
	upload_pool_free(steal(&b->pool));
	if (b->leaves_doubt)
		journal_doubt(b->journal);
	b->leaves_doubt = false;
	journal_free(steal(&b->journal));
	previous_release(&b->previous);
	repo_writer_free(steal(&b->writer));
}

int backup_run(struct backup *b, struct err *err)
{
	const int64_t begun_ms = clock_now_ms();
	int rc = run(b, err);

	end_session(b);
	b->elapsed_ms = clock_now_ms() - begun_ms;
	if (rc == -ECANCELED && is_stopped(b))
		return err_set(err, ECANCELED, "interrupted");
	return rc;
}

static void name_kinds(struct backup *b)
{
	const struct backup_params *p = b->params;
	struct backup_stream *s = b->streams;
	bool legacy_archive = false;

	for (size_t i = 0; i < p->spec_count; i++) {
		if (p->specs[i].type == BACKUP_SPEC_BLOB) {
			s++->kind = BACKUP_STREAM_BLOB;
		} else if (p->specs[i].type == BACKUP_SPEC_IMAGE) {
			s++->kind = BACKUP_STREAM_IMAGE;
		} else if (p->mode == BACKUP_MODE_LEGACY) {
			s++->kind = BACKUP_STREAM_SINGLE;
			legacy_archive = true;
		} else {
			s++->kind = BACKUP_STREAM_PAYLOAD;
			s++->kind = BACKUP_STREAM_META;
		}
	}
	if (legacy_archive)
		s++->kind = BACKUP_STREAM_CATALOG;
	if (has_wrapped_key(p))
		s++->kind = BACKUP_STREAM_BLOB;
	b->stream_count = (size_t)(s - b->streams);
}

int backup_new(struct backup **out, const struct backup_params *params, struct err *err)
{
	AUTO(backup) struct backup *b = calloc(1, sizeof(*b));

	assert((params->crypt_mode == CRYPT_MODE_NONE) == !params->key);
	if (!b)
		return err_set(err, ENOMEM, "out of memory");
	b->params = params;
	/* Two for each archive, the catalog, the wrapped key. */
	b->streams = calloc(2 * params->spec_count + 2, sizeof(*b->streams));
	b->walks = calloc(params->spec_count + 1, sizeof(*b->walks));
	b->codec = blob_codec_new();
	b->plain_codec = blob_codec_new();
	b->digest = digest_ctx_new();
	if (!b->streams || !b->walks || !b->codec || !b->plain_codec || !b->digest)
		return err_set(err, ENOMEM, "out of memory");
	blob_codec_set_key(b->codec, data_key(params));
	blob_codec_set_level(b->codec, zstd_level(params), false);
	name_kinds(b);
	*out = steal(&b);
	return 0;
}

void backup_free(struct backup *b)
{
	if (!b)
		return;
	end_session(b);
	blob_codec_free(b->codec);
	blob_codec_free(b->plain_codec);
	digest_ctx_free(b->digest);
	free(b->streams);
	free(b->walks);
	free(b);
}

void backup_progress(struct backup *b, struct backup_progress *out)
{
	*out = (struct backup_progress){ .bytes_expected = atomic_load(&b->bytes_expected) };
	for (size_t i = 0; i < b->stream_count; i++) {
		struct upload_stats *s = &b->streams[i].stats;

		out->bytes += atomic_load_explicit(&s->bytes, memory_order_relaxed);
		out->new_bytes += atomic_load_explicit(&s->new_bytes, memory_order_relaxed);
		out->reused_bytes += atomic_load_explicit(&s->reused_bytes, memory_order_relaxed);
	}
	for (size_t i = 0; i < b->params->spec_count; i++) {
		struct walk_stats *w = &b->walks[i];

		out->entries += atomic_load_explicit(&w->entries, memory_order_relaxed);
		out->files += atomic_load_explicit(&w->files, memory_order_relaxed);
		out->links += atomic_load_explicit(&w->links, memory_order_relaxed);
		out->reused_files +=
			atomic_load_explicit(&w->reused_files, memory_order_relaxed);
		out->reused_file_bytes +=
			atomic_load_explicit(&w->reused_bytes, memory_order_relaxed);
		out->opened_files += atomic_load_explicit(&w->opened, memory_order_relaxed);
		out->read_bytes += atomic_load_explicit(&w->bytes, memory_order_relaxed);
		out->skipped += atomic_load_explicit(&w->skipped, memory_order_relaxed);
	}
}

size_t backup_stream_count(const struct backup *b)
{
	return b->stream_count;
}

const struct backup_stream *backup_stream(const struct backup *b, size_t i)
{
	return &b->streams[i];
}

enum archive_names backup_names(const struct backup *b)
{
	return b->names;
}

const struct snapshot_name *backup_previous(const struct backup *b)
{
	return b->previous.exists ? &b->previous.name : NULL;
}

bool backup_compared(const struct backup *b)
{
	return b->compared;
}

uint64_t backup_elapsed_ms(const struct backup *b)
{
	return b->elapsed_ms;
}
