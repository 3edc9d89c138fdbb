/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/chunker.h"
#include "archive/json_text.h"
#include "archive/master_key.h"
#include "client/backup/backup.h"
#include "client/base/plural.h"
#include "client/cmd/cmd.h"
#include "client/cmd/keys.h"
#include "client/cmd/log.h"
#include "client/cmd/losses.h"
#include "client/cmd/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#define DEFAULT_OWNER "root@pam"

/* Memory of at least this size goes back to the system when it is freed: lists of names, of very
 * large folders, would otherwise stay beside what comes after them. */
enum { MMAP_SIZE_MIN = 1 << 20 };

#define NOT_GIVEN UINT64_MAX /* a number */

struct settings {
	const char *repository, *ns, *id, *type, *mode, *names;
	const char *time, *rate, *burst, *on_read_error, *notes;
	uint64_t chunk_size_kib, entries_max, padding_limit, threads, compression;
	struct opt_list excludes, include_devs;
	bool all_file_systems, skip_lost_and_found, skip_e2big_xattr, dry_run, json;
	bool detect_ctime, create_ns, no_cache;
	struct keys_options keys;
};

static void settings_release(struct settings *s)
{
	opt_list_release(&s->excludes);
	opt_list_release(&s->include_devs);
}
DEFINE_AUTO_STRUCT(settings)

/* What settings become once they are checked. */
struct job {
	struct settings settings;
	struct backup_params params;
	struct backup_spec *specs;
	struct match_list patterns;
	struct keys_choice keys;
	struct wbuf wrapped_key; /* for the master key */
	struct progress *progress;
	struct losses losses;
	char repository[REPO_NAME_SIZE]; /* the one that is meant */
	char *journal_folder;
};

static void job_release(struct job *j)
{
	settings_release(&j->settings);
	match_list_release(&j->patterns);
	keys_choice_release(&j->keys);
	wbuf_release(&j->wrapped_key);
	losses_release(&j->losses);
	free(j->journal_folder);
	free(j->specs);
}
DEFINE_AUTO_STRUCT(job)

/* --- options --- */

static int parse_settings(const struct cmd *self, struct settings *s, int argc, char **argv,
			  char ***specs, size_t *count)
{
	const struct opt table[] = {
		CMD_OPT_REPOSITORY(s->repository),
		CMD_OPT_NS(s->ns),
		{ "backup-type", 0, OPT_STRING, &s->type, "TYPE", "host (default), vm or ct" },
		{ "backup-id", 0, OPT_STRING, &s->id, "ID",
		  "name of the group (default: this machine's, up to the first dot)" },
		{ "backup-time", 0, OPT_STRING, &s->time, "SECONDS",
		  "time of the snapshot, since 1970 (default: now)" },
		{ "create-ns", 0, OPT_FLAG, &s->create_ns, NULL,
		  "make the namespace and those it is in first" },
		{ "notes", 0, OPT_STRING, &s->notes, "TEXT",
		  "notes of the new snapshot; the first line is shown beside it" },
		{ "change-detection-mode", 0, OPT_STRING, &s->mode, "MODE",
		  "metadata (default): two streams; a file whose size and mtime are those of the "
		  "group's last snapshot is not read, unless the chunks that hold it are hardly "
		  "used any more; data: two streams, every file is read; legacy: one stream and a "
		  "catalog" },
		{ "detect-ctime", 0, OPT_FLAG, &s->detect_ctime, NULL,
		  "metadata mode: also read files whose ctime is not before the last backup's "
		  "start: finds content that was changed behind a restored mtime" },
		{ "padding-limit", 0, OPT_UINT, &s->padding_limit, "PERCENT",
		  "metadata mode: how much of the payload stream may be chunks' bytes that are no "
		  "file's any more (default: 10)" },
		{ "archive-names", 0, OPT_STRING, &s->names, "NAMES",
		  "how the two streams are named: pbs (root.mpxar, root.ppxar) or design "
		  "(root.pxar.meta, root.pxar.pld), which the official client cannot open "
		  "(default: as in the group's last snapshot, else what the repository wants)" },
		{ "chunk-size", 0, OPT_UINT, &s->chunk_size_kib, "KIB",
		  "average size of an archive's chunks: 64, 128, 256, 512, 1024, 2048 or 4096 "
		  "(default); those of images always have 4096" },
		{ "exclude", 0, OPT_LIST, &s->excludes, "PATTERN",
		  "leave out what matches; '!' before it takes it in again; may be repeated, the "
		  "last match decides" },
		{ "include-dev", 0, OPT_LIST, &s->include_devs, "PATH",
		  "also enter mount points of the file system that PATH is on; may be repeated" },
		{ "all-file-systems", 0, OPT_FLAG, &s->all_file_systems, NULL,
		  "enter every mount point but virtual file systems" },
		{ "skip-lost-and-found", 0, OPT_FLAG, &s->skip_lost_and_found, NULL,
		  "leave out everything called lost+found" },
		{ "entries-max", 0, OPT_UINT, &s->entries_max, "COUNT",
		  "give up when the folders on one path hold more entries (default: 1048576)" },
		{ "skip-e2big-xattr", 0, OPT_FLAG, &s->skip_e2big_xattr, NULL,
		  "leave out extended attributes that the file system says are too large" },
		{ "on-read-error", 0, OPT_STRING, &s->on_read_error, "ACTION",
		  "fail (default), or skip: go on with zeros for what cannot be read, list it at "
		  "the end, exit status 3" },
		{ "threads", 0, OPT_UINT, &s->threads, "COUNT",
		  "threads that digest, compress and store, at most 64; 0 (default): one a core and "
		  "one, at most 16" },
		{ "compression", 0, OPT_UINT, &s->compression, "LEVEL",
		  "level of zstd: 1 (default, as the official client) to 19; 0: none" },
		{ "rate", 0, OPT_STRING, &s->rate, "SIZE",
		  "store at most so many bytes a second: 10M is 10,000,000, 10Mi 10,485,760" },
		{ "burst", 0, OPT_STRING, &s->burst, "SIZE",
		  "with --rate: after a rest, so many at once; 0: none (default: those of a second)" },
		{ "no-cache", 0, OPT_FLAG, &s->no_cache, NULL,
		  "a server whose datastore is on S3 does not put new chunks into its own cache" },
		{ "dry-run", 0, OPT_FLAG, &s->dry_run, NULL,
		  "read what a backup would read, store nothing, say what would be stored" },
		KEYS_OPT_WRITE(s->keys),
		CMD_OPT_OUTPUT_FORMAT(s->json),
		{ 0 },
	};

	return opts_parse(self, table, argc, argv, 1, SIZE_MAX, specs, count);
}

static bool is_chunk_size(uint64_t kib)
{
	return kib >= CHUNKER_AVG_SIZE_MIN >> 10 && kib <= CHUNKER_AVG_SIZE_MAX >> 10 &&
	       (kib & (kib - 1)) == 0;
}

static bool take_mode(const char *text, struct backup_params *p)
{
	static const char *const modes[] = { [BACKUP_MODE_LEGACY] = "legacy",
					     [BACKUP_MODE_DATA] = "data",
					     [BACKUP_MODE_METADATA] = "metadata" };

	p->mode = BACKUP_MODE_METADATA;
	p->mode_given = text != NULL;
	for (size_t i = 0; text && i < sizeof(modes) / sizeof(modes[0]); i++) {
		p->mode = (enum backup_mode)i;
		if (strcmp(text, modes[i]) == 0)
			return true;
	}
	return !text;
}

/* The choices among words; -1, or an exit status. */
static int take_words(const struct cmd *self, struct job *j)
{
	const struct settings *s = &j->settings;
	struct backup_params *p = &j->params;
	struct err err = ERR_INIT;

	if (!take_mode(s->mode, p))
		return opts_usage(self, "--change-detection-mode is metadata, data or legacy, not "
				  "'%s'", s->mode);
	if (s->padding_limit > 100 && s->padding_limit != NOT_GIVEN)
		return opts_usage(self, "--padding-limit is a percentage, 0 to 100");
	if (p->mode != BACKUP_MODE_METADATA && (s->detect_ctime || s->padding_limit != NOT_GIVEN))
		return opts_usage(self, "--detect-ctime and --padding-limit need "
				  "--change-detection-mode metadata");
	if (p->mode == BACKUP_MODE_LEGACY && s->names)
		return opts_usage(self, "--archive-names is of split archives, not of "
				  "--change-detection-mode legacy");
	if (s->names && strcmp(s->names, "pbs") != 0 && strcmp(s->names, "design") != 0)
		return opts_usage(self, "--archive-names is pbs or design, not '%s'", s->names);
	p->names_given = s->names != NULL;
	p->names = s->names && strcmp(s->names, "pbs") == 0 ? ARCHIVE_NAMES_PBS :
							       ARCHIVE_NAMES_DESIGN;
	if (!is_chunk_size(s->chunk_size_kib))
		return opts_usage(self, "--chunk-size is 64, 128, 256, 512, 1024, 2048 or 4096");
	if (s->all_file_systems && s->include_devs.count)
		return opts_usage(self, "--all-file-systems and --include-dev exclude each other");
	if (keys_check(&s->keys, &err) < 0)
		return opts_usage(self, "%s", err.text);
	return s->notes ? opts_check(self, cmd_check_notes, s->notes) : -1;
}

static int take_rate(const struct cmd *self, struct job *j)
{
	const struct settings *s = &j->settings;
	struct backup_params *p = &j->params;

	if (s->burst && !s->rate)
		return opts_usage(self, "--burst needs --rate");
	if (s->rate && !cmd_parse_size(s->rate, &p->rate))
		return opts_usage(self, "--rate: '%s' is no number of bytes", s->rate);
	if (s->rate && p->rate == 0)
		return opts_usage(self, "--rate is at least 1 byte a second; without it there is "
				  "no limit");
	p->burst = p->rate;
	if (s->burst && !cmd_parse_size(s->burst, &p->burst))
		return opts_usage(self, "--burst: '%s' is no number of bytes", s->burst);
	return -1;
}

/* How it is done. */
static int take_effort(const struct cmd *self, struct job *j)
{
	const struct settings *s = &j->settings;
	struct backup_params *p = &j->params;

	if (s->threads > UPLOAD_POOL_THREADS_MAX)
		return opts_usage(self, "--threads is at most %d", UPLOAD_POOL_THREADS_MAX);
	if (s->compression > BLOB_ZSTD_LEVEL_MAX)
		return opts_usage(self, "--compression is 0 to %d", BLOB_ZSTD_LEVEL_MAX);
	if (s->on_read_error && strcmp(s->on_read_error, "fail") != 0 &&
	    strcmp(s->on_read_error, "skip") != 0)
		return opts_usage(self, "--on-read-error is fail or skip, not '%s'",
				  s->on_read_error);
	p->thread_count = (unsigned)s->threads;
	p->compression = s->compression ? (int)s->compression : BACKUP_UNCOMPRESSED;
	p->skip_read_errors = s->on_read_error && strcmp(s->on_read_error, "skip") == 0;
	return take_rate(self, j);
}

/* The name of the new snapshot. */
static int take_name(const struct cmd *self, struct job *j)
{
	const struct settings *s = &j->settings;
	struct snapshot_name *name = &j->params.name;
	char group[SNAPSHOT_ID_SIZE_MAX + 16], text[SNAPSHOT_TIME_TEXT_SIZE];
	struct err err = ERR_INIT;
	uint64_t seconds = (uint64_t)time(NULL);
	struct utsname host;
	int rc;

	if (uname(&host) < 0)
		host.nodename[0] = '\0';
	host.nodename[strcspn(host.nodename, ".")] = '\0';
	snprintf(group, sizeof(group), "%s/%s", s->type, s->id ? s->id : host.nodename);
	rc = snapshot_group_parse(group, s->ns, &name->group, &err);
	if (rc < 0)
		return opts_usage(self, "%s", err_text(&err, rc));
	if (s->time && opts_parse_uint(s->time, &seconds) < 0)
		return opts_usage(self, "--backup-time: '%s' is not a number", s->time);
	name->time = (int64_t)seconds;
	if (name->time < 0 || snapshot_time_format(name->time, text) < 0)
		return opts_usage(self, "--backup-time: not a time of this era");
	return -1;
}

static int take_specs(const struct cmd *self, struct job *j, char **texts, size_t count)
{
	struct err err = ERR_INIT;

	j->specs = calloc(count, sizeof(*j->specs));
	if (!j->specs)
		return cmd_failed(NULL, -ENOMEM);
	for (size_t i = 0; i < count; i++)
		if (backup_spec_parse(texts[i], &j->specs[i], &err) < 0)
			return opts_usage(self, "%s", err.text);
	if (backup_spec_distinct(j->specs, count, &err) < 0)
		return opts_usage(self, "%s", err.text);
	j->params.specs = j->specs;
	j->params.spec_count = count;
	return -1;
}

/* What a server alone has, and what it alone has not. */
static int take_repository(const struct cmd *self, struct job *j)
{
	const struct snapshot_group *g = &j->params.name.group;
	int status = cmd_find_repository(self, j->settings.repository, j->repository);
	bool is_directory = status < 0 && repo_name_directory(j->repository);

	if (status >= 0)
		return status;
	if (is_directory && j->settings.no_cache)
		return opts_usage(self, "--no-cache is for a server's datastore: a directory has no "
				  "cache");
	if (!is_directory && strcmp(g->type, "host") == 0 && strcmp(g->id, "benchmark") == 0)
		return opts_usage(self, "a server keeps nothing of the group host/benchmark");
	return -1;
}

static void on_message(void *arg, enum backup_message kind, const char *text)
{
	struct job *j = arg;

	if (kind == BACKUP_MESSAGE_LOST)
		losses_add(&j->losses, text);
	progress_message(j->progress,
			 kind == BACKUP_MESSAGE_INFO ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, text);
}

static void on_repo_warning(void *arg, const char *text)
{
	on_message(arg, BACKUP_MESSAGE_WARNING, text);
}

/* Below $XDG_CACHE_HOME or ~/.cache; NULL: nowhere. */
static char *journal_folder(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char *out = NULL;
	int n = -1;

	if (cache && cache[0] == '/')
		n = asprintf(&out, "%s/pxarfs/journal", cache);
	else if (home && home[0] == '/')
		n = asprintf(&out, "%s/.cache/pxarfs/journal", home);
	return n < 0 ? NULL : out;
}

static void take_rest(struct job *j)
{
	const struct settings *s = &j->settings;
	struct backup_params *p = &j->params;

	p->owner = DEFAULT_OWNER;
	p->notes = s->notes;
	p->chunk_size_avg = (size_t)s->chunk_size_kib << 10;
	p->dry_run = s->dry_run;
	p->no_cache = s->no_cache;
	p->patterns = &j->patterns;
	p->include_devs = s->include_devs.items;
	p->include_dev_count = s->include_devs.count;
	p->all_file_systems = s->all_file_systems;
	p->entries_max = s->entries_max;
	p->skip_e2big_xattr = s->skip_e2big_xattr;
	p->detect_ctime = s->detect_ctime;
	p->padding_percent_max = s->padding_limit == NOT_GIVEN ? REUSE_PADDING_PERCENT_DEFAULT :
								  (unsigned)s->padding_limit;
	j->journal_folder = journal_folder();
	p->journal_folder = j->journal_folder;
	p->message = on_message;
	p->message_arg = j;
	p->stop = &cmd_stop_requested;
}

/* -1 to go on, or an exit status. */
static int job_init(const struct cmd *self, struct job *j, int argc, char **argv)
{
	char **texts;
	size_t count;
	int status;

	j->settings = (struct settings){ .ns = "",
					 .type = "host",
					 .compression = BLOB_ZSTD_LEVEL,
					 .chunk_size_kib = CHUNKER_AVG_SIZE_DEFAULT >> 10,
					 .entries_max = WALK_ENTRIES_MAX_DEFAULT,
					 .padding_limit = NOT_GIVEN };
	status = parse_settings(self, &j->settings, argc, argv, &texts, &count);
	if (status < 0)
		status = take_words(self, j);
	if (status < 0)
		status = take_effort(self, j);
	if (status < 0)
		status = cmd_take_patterns(self, &j->settings.excludes,
					   j->settings.skip_lost_and_found, &j->patterns);
	if (status < 0)
		status = take_name(self, j);
	if (status < 0)
		status = take_specs(self, j, texts, count);
	if (status < 0)
		status = take_repository(self, j);
	take_rest(j);
	return status;
}

/* --- keys --- */

static void tell_key(const struct job *j)
{
	char fingerprint[CRYPT_FINGERPRINT_SHORT_SIZE];

	if (!j->keys.key)
		return;
	crypt_fingerprint_short(crypt_key_fingerprint(j->keys.key), fingerprint);
	log_info("%s with key %s%s",
		 j->keys.mode == CRYPT_MODE_ENCRYPT ? "encrypting and signing" : "signing",
		 fingerprint, j->wrapped_key.size ? ", which the master key can recover" : "");
}

static int take_keys(struct job *j, struct err *err)
{
	struct backup_params *p = &j->params;
	char now[KEYFILE_TIME_SIZE];
	int rc = keys_for_backup(&j->settings.keys, &j->keys, err);

	keys_now(now);
	if (rc == 0 && j->keys.master_pem.size)
		rc = master_key_wrap(j->keys.master_pem.data, j->keys.master_pem.size, j->keys.key,
				     j->keys.created, now, &j->wrapped_key, err);
	if (rc < 0)
		return rc;
	p->crypt_mode = j->keys.mode;
	p->key = j->keys.key;
	p->wrapped_key = &j->wrapped_key;
	tell_key(j);
	return 0;
}

/* --- summary --- */

/* "5.123 GiB (1400)": bytes in so many chunks. */
static void format_part(uint64_t bytes, uint64_t chunks, char *out, size_t size)
{
	char text[32];

	cmd_format_size(bytes, text, sizeof(text));
	snprintf(out, size, "%s (%" PRIu64 ")", text, chunks);
}

static void print_stream(const struct backup_stream *s, int name_width, bool dry_run)
{
	char bytes[32], new[64] = "", reused[64] = "", stored[32];

	cmd_format_size(s->stats.bytes, bytes, sizeof(bytes));
	cmd_format_size(s->stats.stored_bytes, stored, sizeof(stored));
	if (dry_run && s->kind != BACKUP_STREAM_BLOB)
		snprintf(stored, sizeof(stored), "?"); /* nothing was compressed */
	if (s->kind == BACKUP_STREAM_BLOB) {
		printf("%-*s  %11s  %7s  %-20s  %-20s  %11s\n", name_width, s->name, bytes, "", "",
		       "", stored);
		return;
	}
	format_part(s->stats.new_bytes, s->stats.new_chunks, new, sizeof(new));
	format_part(s->stats.reused_bytes, s->stats.reused_chunks, reused, sizeof(reused));
	printf("%-*s  %11s  %7" PRIu64 "  %-20s  %-20s  %11s  %6.1f s\n", name_width, s->name,
	       bytes, s->stats.chunks, new, reused, stored, (double)s->stats.elapsed_ms / 1000);
}

/* All payloads together. */
struct reuse_sum {
	uint64_t padding_bytes, partial_chunks, injected_bytes, injected_chunks, payload_bytes;
};

static struct reuse_sum sum_reuse(const struct backup *b)
{
	struct reuse_sum sum = { 0 };

	for (size_t i = 0; i < backup_stream_count(b); i++) {
		const struct backup_stream *s = backup_stream(b, i);

		if (s->kind != BACKUP_STREAM_PAYLOAD)
			continue;
		sum.padding_bytes += s->splice.padding_bytes;
		sum.partial_chunks += s->splice.partial_chunks;
		sum.injected_bytes += s->stats.injected_bytes;
		sum.injected_chunks += s->stats.injected_chunks;
		sum.payload_bytes += s->stats.bytes;
	}
	return sum;
}

/* What was not read because it has not changed; nothing when there was nothing to compare
 * with. */
static void print_reuse(const struct backup *b, const struct backup_progress *end)
{
	const struct reuse_sum sum = sum_reuse(b);
	const uint64_t read_files = end->files - end->reused_files;
	char reused[32], read[32], padding[32];

	if (!backup_compared(b))
		return;
	cmd_format_size(end->reused_file_bytes, reused, sizeof(reused));
	cmd_format_size(end->read_bytes, read, sizeof(read));
	cmd_format_size(sum.padding_bytes, padding, sizeof(padding));
	printf("Unchanged and not read: %" PRIu64 " file%s, %s; read: %" PRIu64 " file%s, %s\n",
	       end->reused_files, plural(end->reused_files), reused, read_files,
	       plural(read_files), read);
	printf("Taken over: %" PRIu64 " chunk%s, %" PRIu64 " of them used in part; padding %s, "
	       "%.1f %% of the payload\n",
	       sum.injected_chunks, plural(sum.injected_chunks), sum.partial_chunks, padding,
	       sum.payload_bytes ? 100.0 * (double)sum.padding_bytes / (double)sum.payload_bytes :
				   0.0);
}

static bool has_archive(const struct job *j)
{
	for (size_t i = 0; i < j->params.spec_count; i++)
		if (j->specs[i].type == BACKUP_SPEC_ARCHIVE)
			return true;
	return false;
}

static void print_text(const struct job *j, struct backup *b, const char *snapshot)
{
	struct backup_progress end;
	int width = 4;

	for (size_t i = 0; i < backup_stream_count(b); i++) {
		int n = (int)strlen(backup_stream(b, i)->name);

		width = n > width ? n : width;
	}
	backup_progress(b, &end);
	printf("%s%s\n", j->settings.dry_run ? "Dry run, nothing was stored: " : "Snapshot ",
	       snapshot);
	printf("%-*s  %11s  %7s  %-20s  %-20s  %11s  %8s\n", width, "FILE", "BYTES", "CHUNKS",
	       "NEW (CHUNKS)", "REUSED (CHUNKS)", "COMPRESSED", "TIME");
	for (size_t i = 0; i < backup_stream_count(b); i++)
		print_stream(backup_stream(b, i), width, j->settings.dry_run);
	print_reuse(b, &end);
	if (has_archive(j))
		printf("%" PRIu64 " entr%s, %" PRIu64 " file%s", end.entries,
		       plural_y(end.entries), end.files, plural(end.files));
	if (end.links)
		printf(", %" PRIu64 " hard link%s", end.links, plural(end.links));
	if (end.skipped)
		printf(", %" PRIu64 " SKIPPED", end.skipped);
	printf("%s%.1f s\n", has_archive(j) ? "; " : "", (double)backup_elapsed_ms(b) / 1000);
}

static json_t *stream_json(const struct backup_stream *s)
{
	static const char *const kinds[] = { "archive", "metadata", "payload", "catalog", "image",
					     "blob" };
	const struct upload_stats *st = &s->stats;

	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "filename", s->name, "kind", kinds[s->kind],
			 "bytes", (json_int_t)st->bytes, "chunks", (json_int_t)st->chunks,
			 "new-bytes", (json_int_t)st->new_bytes,
			 "new-chunks", (json_int_t)st->new_chunks,
			 "reused-bytes", (json_int_t)st->reused_bytes,
			 "reused-chunks", (json_int_t)st->reused_chunks,
			 "injected-bytes", (json_int_t)st->injected_bytes,
			 "injected-chunks", (json_int_t)st->injected_chunks,
			 "padding-bytes", (json_int_t)s->splice.padding_bytes,
			 "compressed-bytes", (json_int_t)st->stored_bytes,
			 "duplicate-chunks", (json_int_t)st->duplicates,
			 "elapsed-ms", (json_int_t)st->elapsed_ms);
}

/* NULL: no key. */
static const char *fingerprint_of(const struct job *j, char out[CRYPT_FINGERPRINT_TEXT_SIZE])
{
	if (!j->keys.key)
		return NULL;
	crypt_fingerprint_text(crypt_key_fingerprint(j->keys.key), out);
	return out;
}

/* What was read of the source, and what was not. */
static json_t *reading_json(const struct backup *b, const struct backup_progress *end)
{
	const struct reuse_sum sum = sum_reuse(b);

	return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "compared", backup_compared(b),
			 "opened-files", (json_int_t)end->opened_files,
			 "read-files", (json_int_t)(end->files - end->reused_files),
			 "read-bytes", (json_int_t)end->read_bytes,
			 "unchanged-files", (json_int_t)end->reused_files,
			 "unchanged-bytes", (json_int_t)end->reused_file_bytes,
			 "injected-chunks", (json_int_t)sum.injected_chunks,
			 "injected-bytes", (json_int_t)sum.injected_bytes,
			 "partial-chunks", (json_int_t)sum.partial_chunks,
			 "padding-bytes", (json_int_t)sum.padding_bytes);
}

static int print_json(const struct job *j, struct backup *b, const char *snapshot)
{
	const struct snapshot_name *name = &j->params.name;
	struct backup_progress end;
	char fingerprint[CRYPT_FINGERPRINT_TEXT_SIZE];
	AUTO(json) json_t *root = NULL;
	json_t *streams = json_array();

	for (size_t i = 0; i < backup_stream_count(b); i++)
		json_array_append_new(streams, stream_json(backup_stream(b, i)));
	backup_progress(b, &end);
	root = json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:s, s:s*, s:o, s:o, s:I, s:I, s:I, s:I, s:I}",
			 "snapshot", snapshot, "ns", name->group.ns,
			 "backup-type", name->group.type, "backup-id", name->group.id,
			 "backup-time", (json_int_t)name->time, "dry-run", j->settings.dry_run,
			 "crypt-mode", crypt_mode_text(j->keys.mode), "fingerprint",
			 fingerprint_of(j, fingerprint),
			 "files", streams, "reading", reading_json(b, &end),
			 "entries", (json_int_t)end.entries,
			 "regular-files", (json_int_t)end.files,
			 "hard-links", (json_int_t)end.links,
			 "skipped", (json_int_t)end.skipped,
			 "elapsed-ms", (json_int_t)backup_elapsed_ms(b));
	return root ? cmd_print_json(root) : cmd_failed(NULL, -ENOMEM);
}

static int print_summary(const struct job *j, struct backup *b)
{
	char snapshot[SNAPSHOT_PATH_SIZE];

	snapshot_path(&j->params.name, snapshot, sizeof(snapshot));
	if (j->settings.json)
		return print_json(j, b, snapshot);
	print_text(j, b, snapshot);
	return EXIT_DONE;
}

/* --- the command --- */

/* Once for each group: from then on it is no news. */
static void tell_names(const struct backup *b)
{
	if (backup_previous(b))
		return;
	for (size_t i = 0; i < backup_stream_count(b); i++) {
		const struct backup_stream *s = backup_stream(b, i);

		if (s->kind != BACKUP_STREAM_PAYLOAD || backup_names(b) != ARCHIVE_NAMES_DESIGN)
			continue;
		log_info("the official client cannot open archives under these names (%s); "
			 "--archive-names pbs makes ones that it can", s->name);
		return;
	}
}

/* One try at the snapshot that the parameters name. */
static int make_snapshot(struct job *j, struct backup **out, struct err *err)
{
	int rc = backup_new(out, &j->params, err);

	if (rc < 0)
		return rc;
	j->progress = progress_start(*out);
	rc = backup_run(*out, err);
	progress_stop(steal(&j->progress));
	return rc;
}

/* A snapshot is named by a second, and the group's last one may be of this one: wait for the next,
 * unless the time was given. */
static bool take_next_second(struct job *j)
{
	const struct timespec next = { .tv_sec = j->params.name.time + 1 };
	int64_t late = (int64_t)time(NULL) - j->params.name.time;

	if (j->settings.time || late < 0 || late > 1)
		return false;
	while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &next, NULL) == EINTR &&
	       !atomic_load(&cmd_stop_requested))
		;
	j->params.name.time = next.tv_sec;
	return true;
}

static int run_job(struct job *j)
{
	AUTO(repo) struct repo *repo = NULL;
	AUTO(backup) struct backup *b = NULL;
	struct backup_progress end;
	struct err err = ERR_INIT;
	int rc = backup_spec_check(j->specs, j->params.spec_count, &err);

	if (rc == 0)
		rc = take_keys(j, &err);
	if (rc == 0)
		rc = repo_open(j->repository, &repo, &err);
	if (rc)
		return cmd_failed(&err, rc);
	repo->warning = on_repo_warning;
	repo->warning_arg = j;
	repo->stop = &cmd_stop_requested;
	j->params.repo = repo;
	if (j->settings.create_ns && !j->settings.dry_run)
		rc = repo_make_ns(repo, j->settings.ns, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	cmd_stop_on_signals(SA_RESTART);
	rc = make_snapshot(j, &b, &err);
	if (rc == -EEXIST && take_next_second(j)) {
		backup_free(steal(&b));
		err = (struct err)ERR_INIT;
		rc = make_snapshot(j, &b, &err);
	}
	if (rc < 0)
		return cmd_failed(&err, rc);
	int status = print_summary(j, b);
	tell_names(b);
	losses_print(&j->losses);
	backup_progress(b, &end);
	return end.skipped ? EXIT_INCOMPLETE : status;
}

static int run(const struct cmd *self, int argc, char **argv)
{
	AUTO(job) struct job j = { .wrapped_key = WBUF_INIT(KEYFILE_SIZE_MAX),
				   .losses = LOSSES_INIT };
	int status = job_init(self, &j, argc, argv);

	mallopt(M_MMAP_THRESHOLD, MMAP_SIZE_MIN);
	return status < 0 ? run_job(&j) : status;
}

const struct cmd cmd_backup = {
	.name = "backup",
	.synopsis = "NAME.pxar:FOLDER|NAME.img:DEVICE|NAME.conf:FILE|NAME.log:FILE...",
	.summary = "Make a snapshot of folders, devices and files",
	.description = "A folder becomes an archive NAME.pxar, a block device or a file an image\n"
		       "NAME.img, a file a blob NAME.conf or NAME.log.  What the group's last\n"
		       "snapshot holds already is not stored again.  A missing namespace is made,\n"
		       "but not in the datastore of a server: there it must exist, or be asked for.",
	.run = run,
};
