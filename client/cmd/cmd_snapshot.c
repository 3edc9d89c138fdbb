/* SPDX-License-Identifier: Apache-2.0 */
/* Making a datastore, and what is in one: init, snapshots, files. */
#include "archive/base/ckd.h"
#include "archive/base/cleanup.h"
#include "archive/base/grow.h"
#include "archive/blob.h"
#include "archive/json_text.h"
#include "archive/manifest_sign.h"
#include "client/cmd/cmd.h"
#include "client/cmd/keys.h"
#include "client/cmd/log.h"
#include "client/cmd/text.h"
#include "client/repo/repo_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- init --- */

static int run_init(const struct cmd *self, int argc, char **argv)
{
	struct err err = ERR_INIT;
	bool full = false;
	char **args;
	size_t count;
	const struct opt table[] = {
		{ "full", 0, OPT_FLAG, &full, NULL, "make all 65,536 chunk folders now" },
		{ 0 },
	};
	int status = opts_parse(self, table, argc, argv, 1, 1, &args, &count);

	if (status >= 0)
		return status;
	const char *directory = repo_name_directory(args[0]);
	/* As a repository the word would be a server's datastore. */
	if (!directory && strpbrk(args[0], ":@") && !strchr(args[0], '/'))
		return opts_usage(self, "'%s' is a server's datastore, which is made there; for a "
				  "folder of that name say ./%s", args[0], args[0]);
	if (!directory)
		directory = args[0];
	int rc = repo_dir_init(directory, full, &err);
	if (rc == 0 && !repo_name_directory(args[0]))
		log_info("%s: made; as a repository it is spelled ./%s", args[0], args[0]);
	return rc < 0 ? cmd_failed(&err, rc) : EXIT_DONE;
}

const struct cmd cmd_init = {
	.name = "init",
	.synopsis = "DIRECTORY",
	.summary = "Make a datastore in an empty directory",
	.description =
		"DIRECTORY is made if it is missing; hidden files and lost+found may be in it.\n"
		"\n"
		"A Proxmox Backup server adopts a directory only with all chunk folders (--full)\n"
		"and when it belongs to its user: chown -R backup:backup DIRECTORY.",
	.run = run_init,
};

/* --- what a snapshot holds, in the words of the server's REST interface --- */

static json_t *file_row(const char *name, uint64_t size, const char *crypt_mode)
{
	return json_pack("{s:s, s:I, s:s}", "filename", name, "size", (json_int_t)size,
			 "crypt-mode", crypt_mode);
}

/* With a key, also prove that it has made the manifest. */
static int read_manifest(struct repo_reader *reader, const struct crypt_key *key,
			 struct manifest **out, size_t *blob_size, struct err *err)
{
	AUTO(repo_file) struct repo_file blob = { 0 };
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	int rc = repo_reader_get_file(reader, MANIFEST_BLOB_NAME, &blob, err);

	if (rc < 0)
		return rc;
	rc = manifest_decode_blob(blob.data, blob.size, &text, out, err);
	if (rc == 0 && key)
		rc = manifest_check_key(*out, text.data, text.size, key, err);
	*blob_size = blob.size;
	return rc ? err_wrap(err, rc, MANIFEST_BLOB_NAME) : 0;
}

static int load_manifest(struct repo *repo, const struct snapshot_name *name,
			 struct manifest **out, size_t *blob_size, struct err *err)
{
	AUTO(repo_reader) struct repo_reader *reader = NULL;
	int rc = repo_read(repo, name, &reader, err);

	return rc < 0 ? rc : read_manifest(reader, NULL, out, blob_size, err);
}

/* As far as JSON can say it. */
static void add_size(uint64_t *sum, uint64_t size)
{
	if (ckd_add(sum, *sum, size) || *sum > INT64_MAX)
		*sum = INT64_MAX;
}

/* The files a manifest lists, and itself; `*sum` is the size of all. */
static json_t *file_rows(const struct manifest *m, size_t blob_size, uint64_t *sum)
{
	AUTO(json) json_t *rows = json_array();

	*sum = blob_size;
	for (size_t i = 0; i < m->file_count; i++) {
		const struct manifest_file *f = &m->files[i];

		add_size(sum, f->size);
		if (json_array_append_new(rows, file_row(f->name, f->size,
							 crypt_mode_text(f->crypt_mode))) < 0)
			return NULL;
	}
	if (json_array_append_new(rows, file_row(MANIFEST_BLOB_NAME, blob_size,
						 m->signature ? "sign-only" : "none")) < 0)
		return NULL;
	return steal(&rows);
}

static int add_notes(json_t *row, const json_t *unprotected)
{
	const char *notes = json_string_value(json_object_get(unprotected, "notes"));

	if (!notes || !notes[0])
		return 0;
	return json_object_set_new(row, "comment", json_stringn(notes, strcspn(notes, "\n")));
}

/* Whatever the manifest says beyond the name. */
static int add_manifest(json_t *row, const struct manifest *m, size_t blob_size)
{
	json_t *verification = json_object_get(m->unprotected, "verify_state");
	uint64_t sum;
	int rc = json_object_set_new(row, "files", file_rows(m, blob_size, &sum));

	if (rc == 0)
		rc = json_object_set_new(row, "size", json_integer((json_int_t)sum));
	if (rc == 0 && m->key_fingerprint)
		rc = json_object_set_new(row, "fingerprint", json_string(m->key_fingerprint));
	if (rc == 0 && verification)
		rc = json_object_set(row, "verification", verification);
	return rc == 0 ? add_notes(row, m->unprotected) : rc;
}

/* --- snapshots --- */

struct snapshot_row {
	struct snapshot_name name;
	bool is_protected;
	char owner[sizeof(((struct repo_group_info *)NULL)->owner)];
	json_t *told; /* what the repository's list says of its manifest; NULL: nothing */
};

struct snapshot_rows {
	struct repo *repo;
	struct snapshot_row *rows;
	size_t count, capacity;
	const char *only_type, *only_id; /* NULL: all */
	char owner[sizeof(((struct repo_group_info *)NULL)->owner)]; /* of the group at hand */
	struct err err;
};

/* The files with a size: others are in no manifest. */
static int tell_files(json_t *rows, const json_t *files, bool is_manifest, uint64_t *sum)
{
	const json_t *file;
	size_t i;
	int rc = 0;

	json_array_foreach(files, i, file) {
		const char *name = json_string_value(json_object_get(file, "filename"));
		const char *mode = json_string_value(json_object_get(file, "crypt-mode"));
		const json_t *found = json_object_get(file, "size");
		uint64_t size = (uint64_t)json_integer_value(found);

		if (!found || (strcmp(name, MANIFEST_BLOB_NAME) == 0) != is_manifest)
			continue;
		add_size(sum, size);
		if (!mode)
			mode = crypt_mode_text(CRYPT_MODE_NONE);
		rc |= json_array_append_new(rows, file_row(name, size, mode));
	}
	return rc;
}

/* Of a server's row what add_manifest() takes of a manifest.  NULL: no memory. */
static json_t *tell(const json_t *row)
{
	static const char *const members[] = { "comment", "fingerprint", "verification" };
	AUTO(json) json_t *out = json_pack("{s:[]}", "files");
	const json_t *files = json_object_get(row, "files");
	json_t *rows = json_object_get(out, "files");
	uint64_t sum = 0;
	int rc = tell_files(rows, files, false, &sum);

	rc |= tell_files(rows, files, true, &sum); /* which comes last, as in file_rows() */
	rc |= json_object_set_new(out, "size", json_integer((json_int_t)sum));
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		json_t *value = json_object_get(row, members[i]);

		if (value)
			rc |= json_object_set(out, members[i], value);
	}
	return rc == 0 ? steal(&out) : NULL;
}

static int add_snapshot(void *arg, const struct repo_snapshot_info *info)
{
	struct snapshot_rows *l = arg;

	if (!info->finished) /* a backup in progress, or one that died */
		return 0;
	if (grow(&l->rows, &l->capacity, l->count + 1, SIZE_MAX, sizeof(*l->rows)) < 0)
		return err_set(&l->err, ENOMEM, "out of memory");
	struct snapshot_row *row = &l->rows[l->count++];
	row->name = info->name;
	row->is_protected = info->is_protected;
	row->told = info->row ? tell(info->row) : NULL;
	memcpy(row->owner, l->owner, sizeof(row->owner));
	return info->row && !row->told ? err_set(&l->err, ENOMEM, "out of memory") : 0;
}

static int add_group(void *arg, const struct repo_group_info *info)
{
	struct snapshot_rows *l = arg;

	if (l->only_id && (strcmp(info->group.type, l->only_type) != 0 ||
			   strcmp(info->group.id, l->only_id) != 0))
		return 0;
	memcpy(l->owner, info->owner, sizeof(l->owner));
	return repo_list_snapshots(l->repo, &info->group, add_snapshot, l, &l->err);
}

static int compare_rows(const void *a, const void *b)
{
	const struct snapshot_row *x = a, *y = b;

	return snapshot_compare(&x->name, &y->name);
}

/* An owner is what somebody wrote into a file; an error may quote a path or end in half a
 * character. */
static int add_text(json_t *row, const char *member, const char *found)
{
	char text[ERR_TEXT_SIZE];

	snprintf(text, sizeof(text), "%s", found);
	text_blank_non_utf8(text);
	return json_object_set_new(row, member, json_string(text));
}

/* One snapshot as the server lists it; with a damaged manifest "error" says so.  NULL: no
 * memory. */
static json_t *snapshot_json(struct repo *repo, const struct snapshot_row *row, int *rc,
			     struct err *err)
{
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(json) json_t *json = NULL;
	size_t blob_size = 0;

	json = json_pack("{s:s, s:s, s:I, s:b}", "backup-type", row->name.group.type, "backup-id",
			 row->name.group.id, "backup-time", (json_int_t)row->name.time,
			 "protected", row->is_protected);
	if (!json)
		return NULL;
	if (row->owner[0] && add_text(json, "owner", row->owner) < 0)
		return NULL;
	if (row->told)
		return json_object_update(json, row->told) < 0 ? NULL : steal(&json);
	*rc = load_manifest(repo, &row->name, &m, &blob_size, err);
	if (*rc == 0)
		return add_manifest(json, m, blob_size) < 0 ? NULL : steal(&json);
	if (add_text(json, "error", err_text(err, *rc)) < 0 ||
	    json_object_set_new(json, "files", json_array()) < 0)
		return NULL;
	return steal(&json);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names users type, sorted; halves of one archive are one name. */
static void print_file_names(const json_t *files)
{
	size_t count = json_array_size(files), used = 0;
	AUTO(free) char(*shown)[ARCHIVE_NAME_SIZE_MAX + 1] = calloc(count + 1, sizeof(*shown));
	AUTO(free) const char **sorted = calloc(count + 1, sizeof(*sorted));

	if (!shown || !sorted)
		return;
	for (size_t i = 0; i < count; i++) {
		const json_t *name = json_object_get(json_array_get(files, i), "filename");

		sorted[used] = shown[used];
		used += archive_name_display(json_string_value(name), shown[used]);
	}
	qsort(sorted, used, sizeof(*sorted), compare_names);
	for (size_t i = 0; i < used; i++) {
		printf("%s", i ? " " : "");
		cmd_print_name(sorted[i]);
	}
}

/* The crypt mode that all files have, leaving out the manifest itself, which comes last. */
static const char *common_mode(const json_t *files)
{
	const char *first = crypt_mode_text(CRYPT_MODE_NONE);

	for (size_t i = 0; i + 1 < json_array_size(files); i++) {
		const char *mode = json_string_value(
			json_object_get(json_array_get(files, i), "crypt-mode"));

		if (i > 0 && strcmp(mode, first) != 0)
			return "mixed";
		first = mode;
	}
	return first;
}

/* It may quote the manifest, which must not make rows of its own. */
static void print_error(const char *error)
{
	char line[ERR_TEXT_SIZE];

	snprintf(line, sizeof(line), "%s", error);
	text_blank_controls(line);
	cmd_print_name(line);
}

/* `error`: what is wrong with its manifest, or NULL. */
static void print_snapshot(const struct snapshot_row *row, const json_t *json, const char *error,
			   int width)
{
	char name[SNAPSHOT_PATH_SIZE], size[32] = "-";

	snapshot_path(&row->name, name, sizeof(name));
	if (!error)
		cmd_format_size((uint64_t)json_integer_value(json_object_get(json, "size")), size,
				sizeof(size));
	printf("%-*s  %12s  %-9s  %-9s  ", width, name, size, row->is_protected ? "protected" : "",
	       error ? "" : common_mode(json_object_get(json, "files")));
	if (error)
		print_error(error);
	else
		print_file_names(json_object_get(json, "files"));
	putchar('\n');
}

static int manifest_failed(const struct snapshot_row *row, const char *error)
{
	char name[SNAPSHOT_PATH_SIZE];

	snapshot_path(&row->name, name, sizeof(name));
	log_error("%s: %s", name, error);
	return EXIT_FAILED;
}

static int name_width(const struct snapshot_rows *l)
{
	size_t width = 0;

	for (size_t i = 0; i < l->count; i++) {
		char name[SNAPSHOT_PATH_SIZE];

		snapshot_path(&l->rows[i].name, name, sizeof(name));
		if (strlen(name) > width)
			width = strlen(name);
	}
	return (int)width;
}

static int print_snapshots(struct snapshot_rows *l, bool as_json)
{
	AUTO(json) json_t *all = json_array();
	int width = name_width(l), status = EXIT_DONE;

	if (l->count > 1)
		qsort(l->rows, l->count, sizeof(*l->rows), compare_rows);
	for (size_t i = 0; i < l->count; i++) {
		struct err err = ERR_INIT;
		int rc = 0;
		AUTO(json) json_t *row = snapshot_json(l->repo, &l->rows[i], &rc, &err);
		const char *error = rc < 0 ? err_text(&err, rc) : NULL;

		if (!row || !all)
			return cmd_failed(NULL, -ENOMEM);
		if (rc == -ENOENT) /* removed meanwhile */
			continue;
		if (error)
			status = manifest_failed(&l->rows[i], error);
		if (!as_json)
			print_snapshot(&l->rows[i], row, error, width);
		else if (json_array_append(all, row) < 0)
			return cmd_failed(NULL, -ENOMEM);
	}
	if (as_json && cmd_print_json(all) != EXIT_DONE)
		return EXIT_FAILED;
	return status;
}

/* Warnings of reading without a lock are of no use here, so none are asked for. */
static int list_snapshots(struct repo *repo, const char *ns, const char *group, bool as_json)
{
	struct snapshot_rows l = { .repo = repo, .err = ERR_INIT };
	struct snapshot_group only;
	int rc = group ? snapshot_group_parse(group, ns, &only, &l.err) : 0;

	if (group) {
		l.only_type = only.type;
		l.only_id = only.id;
	}
	if (rc == 0)
		rc = repo_list_groups(repo, ns, add_group, &l, &l.err);
	int status = rc < 0 ? cmd_failed(&l.err, rc) : print_snapshots(&l, as_json);
	for (size_t i = 0; i < l.count; i++)
		json_decref(l.rows[i].told);
	free(l.rows);
	return status;
}

static int run_snapshots(const struct cmd *self, int argc, char **argv)
{
	const char *repository = NULL, *ns = "";
	bool as_json = false;
	AUTO(repo) struct repo *repo = NULL;
	char **args;
	size_t count;
	const struct opt table[] = {
		CMD_OPT_REPOSITORY(repository),
		CMD_OPT_NS(ns),
		CMD_OPT_OUTPUT_FORMAT(as_json),
		{ 0 },
	};
	int status = opts_parse(self, table, argc, argv, 0, 1, &args, &count);

	if (status < 0 && count > 0)
		status = opts_check(self, cmd_check_group, args[0]);
	if (status < 0)
		status = cmd_open_repository(self, repository, &repo);
	if (status >= 0)
		return status;
	return list_snapshots(repo, ns, count > 0 ? args[0] : NULL, as_json);
}

const struct cmd cmd_snapshots = {
	.name = "snapshots",
	.synopsis = "[GROUP]",
	.summary = "List the snapshots of a namespace or group",
	.description = "GROUP is TYPE/ID, as in host/web1.  Backups that are not finished are not\n"
		       "listed.  The columns are name, size, protection, crypt mode (none, sign-only,\n"
		       "encrypt or mixed) and files.\n"
		       "\n"
		       "A snapshot whose manifest is damaged is listed with what is wrong, and the\n"
		       "exit status is 1.",
	.run = run_snapshots,
};

/* --- files --- */

static int compare_files(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;

	return strcmp(json_string_value(json_object_get(x, "filename")),
		      json_string_value(json_object_get(y, "filename")));
}

/* A copy sorted by name. */
static json_t *sorted_files(const json_t *files)
{
	size_t count = json_array_size(files);
	AUTO(free) json_t **rows = calloc(count + 1, sizeof(json_t *));
	AUTO(json) json_t *sorted = json_array();

	if (!rows || !sorted)
		return NULL;
	for (size_t i = 0; i < count; i++)
		rows[i] = json_array_get(files, i);
	qsort(rows, count, sizeof(*rows), compare_files);
	for (size_t i = 0; i < count; i++)
		if (json_array_append(sorted, rows[i]) < 0)
			return NULL;
	return steal(&sorted);
}

static void print_files(const json_t *files)
{
	int width = 0;
	size_t i;
	const json_t *row;

	json_array_foreach(files, i, row) {
		size_t n = json_string_length(json_object_get(row, "filename"));

		if ((int)n > width)
			width = (int)n;
	}
	json_array_foreach(files, i, row) {
		const char *name = json_string_value(json_object_get(row, "filename"));
		char size[32];

		if (!json_object_get(row, "size")) {
			puts(name);
			continue;
		}
		cmd_format_size((uint64_t)json_integer_value(json_object_get(row, "size")), size,
				sizeof(size));
		printf("%-*s  %12s  %s\n", width, name, size,
		       json_string_value(json_object_get(row, "crypt-mode")));
	}
}

/* The log comes after the manifest, so no more than its name is said, as a server does. */
static int add_log(json_t *rows, struct err *err)
{
	int rc = json_array_append_new(rows, json_pack("{s:s}", "filename", REPO_CLIENT_LOG));

	return rc < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* What the list of a server tells of a snapshot. */
struct told_files {
	int64_t time;
	json_t *rows; /* NULL: nothing */
};

static int find_told(void *arg, const struct repo_snapshot_info *info)
{
	AUTO(json) json_t *told = NULL;
	struct told_files *t = arg;
	const json_t *file;
	size_t i;

	if (info->name.time != t->time || !info->row || t->rows)
		return 0;
	told = tell(info->row);
	if (!told)
		return -ENOMEM;
	t->rows = json_incref(json_object_get(told, "files"));
	json_array_foreach(json_object_get(info->row, "files"), i, file) {
		const char *name = json_string_value(json_object_get(file, "filename"));

		if (strcmp(name, REPO_CLIENT_LOG) == 0 && !json_object_get(file, "size"))
			return add_log(t->rows, NULL);
	}
	return 0;
}

/* NULL: it must be read. */
static json_t *told_files(struct repo *repo, const struct snapshot_name *name)
{
	struct told_files t = { .time = name->time };

	if (repo_list_snapshots(repo, &name->group, find_told, &t, NULL) == 0)
		return t.rows;
	json_decref(t.rows);
	return NULL;
}

static int read_files(struct repo *repo, const struct snapshot_name *name, const struct crypt_key *key,
		      json_t **out, struct err *err)
{
	AUTO(repo_reader) struct repo_reader *reader = NULL;
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(json) json_t *rows = NULL;
	size_t blob_size;
	uint64_t sum;
	int rc = repo_read(repo, name, &reader, err);

	if (rc == 0)
		rc = read_manifest(reader, key, &m, &blob_size, err);
	if (rc < 0)
		return rc;
	rows = file_rows(m, blob_size, &sum);
	rc = rows ? repo_reader_has_file(reader, REPO_CLIENT_LOG, err) : -ENOMEM;
	if (rc == 1)
		rc = add_log(rows, err);
	if (rc == 0)
		*out = steal(&rows);
	return rc;
}

/* What a key is to prove the manifest must say itself. */
static int list_files(struct repo *repo, const char *ns, const char *snapshot,
		      const struct keys_options *keys, bool as_json)
{
	AUTO(crypt_key) struct crypt_key *key = NULL;
	AUTO(json) json_t *files = NULL;
	struct snapshot_name name;
	struct err err = ERR_INIT;
	int rc = repo_resolve(repo, snapshot, ns, &name, &err);

	if (rc == 0)
		rc = keys_given(keys, &key, &err);
	if (rc == 0 && !key)
		files = told_files(repo, &name);
	if (rc == 0 && !files)
		rc = read_files(repo, &name, key, &files, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	AUTO(json) json_t *sorted = sorted_files(files);
	if (!sorted)
		return cmd_failed(NULL, -ENOMEM);
	if (as_json)
		return cmd_print_json(sorted);
	print_files(sorted);
	return EXIT_DONE;
}

static int run_files(const struct cmd *self, int argc, char **argv)
{
	const char *repository = NULL, *ns = "";
	bool as_json = false;
	struct keys_options keys = { 0 };
	AUTO(repo) struct repo *repo = NULL;
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	const struct opt table[] = {
		CMD_OPT_REPOSITORY(repository),
		CMD_OPT_NS(ns),
		{ "keyfile", 0, OPT_STRING, &keys.keyfile, "FILE",
		  "first prove that this key has signed what is listed" },
		{ "keyfd", 0, OPT_STRING, &keys.keyfd, "FD",
		  "the same with a key from an open descriptor" },
		CMD_OPT_OUTPUT_FORMAT(as_json),
		{ 0 },
	};
	int status = opts_parse(self, table, argc, argv, 1, 1, &args, &count);

	if (status >= 0)
		return status;
	if (keys_check(&keys, &err) < 0)
		return opts_usage(self, "%s", err.text);
	status = opts_check(self, cmd_check_snapshot, args[0]);
	if (status < 0)
		status = cmd_open_repository(self, repository, &repo);
	if (status >= 0)
		return status;
	return list_files(repo, ns, args[0], &keys, as_json);
}

const struct cmd cmd_files = {
	.name = "files",
	.synopsis = "SNAPSHOT",
	.summary = "List the files of a snapshot",
	.description = "SNAPSHOT is TYPE/ID/TIME, or TYPE/ID/latest or TYPE/ID for the newest.  The\n"
		       "last column is the crypt mode: none, sign-only or encrypt.  No key is needed,\n"
		       "but without one the manifest is believed as it is.",
	.run = run_files,
};
