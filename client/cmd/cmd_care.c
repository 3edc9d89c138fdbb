/* SPDX-License-Identifier: Apache-2.0 */
/* Looking after snapshots: forget, notes, protect, upload-log. */
#include "archive/base/cleanup.h"
#include "archive/json_text.h"
#include "archive/manifest.h"
#include "client/backup/blob_file.h"
#include "client/cmd/cmd.h"
#include "client/cmd/keys.h"
#include "client/cmd/log.h"
#include "client/cmd/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int open_repo(const struct cmd *self, const char *repository, struct repo **out)
{
	int status = cmd_open_repository(self, repository, out);

	if (status < 0)
		(*out)->warning = cmd_warn;
	return status;
}

/* What is locked is not told by whom: a server does not say, either. */
static int failed(const struct err *err, int rc)
{
	int status = cmd_failed(err, rc);

	if (rc == -EBUSY)
		log_info("a mount keeps what it shows, one of all snapshots for five minutes after "
			 "the last look; a backup keeps its group, and the last snapshot of it: "
			 "unmount, or try again later");
	return status;
}

/* --- forget --- */

/* Who forgets "the newest" by mistake has lost it: the time must be said. */
static int check_forgotten(const char *text, struct err *err)
{
	struct snapshot_name name;
	bool latest;
	int rc = snapshot_parse(text, NULL, &name, &latest, err);

	if (rc == 0 && latest)
		rc = err_set(err, EINVAL, "'%s': say which snapshot, as TYPE/ID/TIME; --group forgets "
			     "all of a group", text);
	return rc;
}

static int forget_snapshot(struct repo *repo, const char *text, const char *ns, struct err *err)
{
	struct snapshot_name name;
	bool latest;
	int rc = snapshot_parse(text, ns, &name, &latest, err);

	return rc < 0 ? rc : repo_forget(repo, &name, err);
}

static int forget_group(struct repo *repo, const char *text, const char *ns, struct err *err)
{
	struct snapshot_group group;
	int rc = snapshot_group_parse(text, ns, &group, err);

	return rc < 0 ? rc : repo_forget_group(repo, &group, err);
}

static int run_forget(const struct cmd *self, int argc, char **argv)
{
	const char *repository = NULL, *ns = "";
	AUTO(repo) struct repo *repo = NULL;
	struct err err = ERR_INIT;
	bool groups = false;
	char **args;
	size_t count;
	const struct opt table[] = {
		CMD_OPT_REPOSITORY(repository),
		CMD_OPT_NS(ns),
		{ "group", 0, OPT_FLAG, &groups, NULL,
		  "the arguments are groups, TYPE/ID: forget each with all its snapshots" },
		{ 0 },
	};
	int status = opts_parse(self, table, argc, argv, 1, SIZE_MAX, &args, &count);

	for (size_t i = 0; status < 0 && i < count; i++)
		status = opts_check(self, groups ? cmd_check_group : check_forgotten, args[i]);
	if (status < 0)
		status = open_repo(self, repository, &repo);
	if (status >= 0)
		return status;
	status = EXIT_DONE;
	for (size_t i = 0; i < count; i++) {
		int rc = groups ? forget_group(repo, args[i], ns, &err) :
				  forget_snapshot(repo, args[i], ns, &err);
		if (rc < 0)
			status = failed(&err, rc);
	}
	return status;
}

const struct cmd cmd_forget = {
	.name = "forget",
	.synopsis = "SNAPSHOT...",
	.summary = "Remove snapshots",
	.description = "SNAPSHOT is TYPE/ID/TIME.  What is protected, being written, being read or\n"
		       "built upon by a running backup is not removed, and the exit status is 1.  A\n"
		       "group goes with its last snapshot.  Chunks stay until garbage collection.",
	.run = run_forget,
};

/* --- what the others have in common --- */

struct target {
	const char *repository, *ns;
	bool json, is_group;
	struct repo *repo;
	struct snapshot_name name; /* of a group: its first member alone */
};

static void target_release(struct target *t)
{
	repo_free(t->repo);
}
DEFINE_AUTO_STRUCT(target)

#define TARGET_OPTS(t) CMD_OPT_REPOSITORY((t).repository), CMD_OPT_NS((t).ns)

/* -1, or an exit status. */
static int target_open(const struct cmd *self, struct target *t, const char *snapshot)
{
	struct err err = ERR_INIT;
	int status = opts_check(self, t->is_group ? cmd_check_group : cmd_check_snapshot, snapshot);

	if (status < 0)
		status = open_repo(self, t->repository, &t->repo);
	if (status >= 0)
		return status;
	int rc = t->is_group ? snapshot_group_parse(snapshot, t->ns, &t->name.group, &err) :
			       repo_resolve(t->repo, snapshot, t->ns, &t->name, &err);
	return rc < 0 ? cmd_failed(&err, rc) : -1;
}

/* No option more than the others have. */
static const struct opt no_option = { 0 };

/* A command that changes something of the snapshot that is its argument; -1 to go on, or an exit
 * status. */
static int target_change(const struct cmd *self, struct target *t, const struct opt *option,
			 int argc, char **argv)
{
	const struct opt table[] = { TARGET_OPTS(*t), *option, { 0 } };
	char **args;
	size_t count;
	int status = opts_parse(self, table, argc, argv, 1, 1, &args, &count);

	return status >= 0 ? status : target_open(self, t, args[0]);
}

/* One that shows something. */
static int target_show(const struct cmd *self, struct target *t, const struct opt *option, int argc,
		       char **argv)
{
	const struct opt table[] = { TARGET_OPTS(*t), CMD_OPT_OUTPUT_FORMAT(t->json), *option,
				     { 0 } };
	char **args;
	size_t count;
	int status = opts_parse(self, table, argc, argv, 1, 1, &args, &count);

	return status >= 0 ? status : target_open(self, t, args[0]);
}

static int done(int rc, const struct err *err)
{
	return rc < 0 ? failed(err, rc) : EXIT_DONE;
}

/* --- notes --- */

#define OPT_GROUP(t) \
	{ "group", 0, OPT_FLAG, &(t).is_group, NULL, "the argument is a group, TYPE/ID: its own notes" }

static int set_notes(const struct target *t, const char *text, struct err *err)
{
	return t->is_group ? repo_set_group_notes(t->repo, &t->name.group, text, err) :
			     repo_set_notes(t->repo, &t->name, text, err);
}

/* A group's notes are a file that anybody may have written.  NUL is text, too. */
static int make_utf8(struct wbuf *text)
{
	if (wbuf_put_u8(text, '\0') < 0)
		return text->failed;
	for (size_t i = 0; i < text->size; i += strlen((const char *)text->data + i) + 1)
		text_blank_non_utf8((char *)text->data + i);
	text->size--;
	return 0;
}

/* What a terminal would obey becomes '?'; of UTF-8 with room for a NUL behind it. */
static void make_harmless(struct wbuf *text)
{
	for (uint8_t *p = text->data, *end = p + text->size; p < end; p++) {
		if (!text_is_control(p) || *p == '\n' || *p == '\t')
			continue;
		if (*p == 0xc2)
			*p++ = '?';
		*p = '?';
	}
}

/* As it is, with a line's end if it has none. */
static int print_text(struct wbuf *text)
{
	if (isatty(STDOUT_FILENO)) {
		if (make_utf8(text) < 0)
			return cmd_failed(NULL, text->failed);
		make_harmless(text);
	}
	if (text->size == 0)
		return EXIT_DONE;
	fwrite(text->data, 1, text->size, stdout);
	if (text->data[text->size - 1] != '\n')
		putchar('\n');
	return EXIT_DONE;
}

static int run_notes_show(const struct cmd *self, int argc, char **argv)
{
	AUTO(target) struct target t = { .ns = "" };
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	const struct opt group = OPT_GROUP(t);
	struct err err = ERR_INIT;
	int status = target_show(self, &t, &group, argc, argv);

	if (status >= 0)
		return status;
	int rc = t.is_group ? repo_get_group_notes(t.repo, &t.name.group, &text, &err) :
			      repo_get_notes(t.repo, &t.name, &text, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	if (!t.json)
		return print_text(&text);
	rc = make_utf8(&text);
	if (rc < 0)
		return cmd_failed(NULL, rc);
	AUTO(json) json_t *value = json_stringn((const char *)text.data, text.size);
	return value ? cmd_print_json(value) : cmd_failed(NULL, -ENOMEM);
}

static int run_notes_set(const struct cmd *self, int argc, char **argv)
{
	AUTO(target) struct target t = { .ns = "" };
	const struct opt table[] = { TARGET_OPTS(t), OPT_GROUP(t), { 0 } };
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	int status = opts_parse(self, table, argc, argv, 2, 2, &args, &count);

	if (status < 0)
		status = opts_check(self, cmd_check_notes, args[1]);
	if (status < 0)
		status = target_open(self, &t, args[0]);
	return status >= 0 ? status : done(set_notes(&t, args[1], &err), &err);
}

static int run_notes_clear(const struct cmd *self, int argc, char **argv)
{
	AUTO(target) struct target t = { .ns = "" };
	const struct opt group = OPT_GROUP(t);
	struct err err = ERR_INIT;
	int status = target_change(self, &t, &group, argc, argv);

	return status >= 0 ? status : done(set_notes(&t, "", &err), &err);
}

static const struct cmd notes_commands[] = {
	{ "notes show", "SNAPSHOT", "Show the notes of a snapshot or group", NULL, run_notes_show },
	{ "notes set", "SNAPSHOT TEXT", "Replace the notes of a snapshot or group",
	  "The first line of TEXT is shown beside the snapshot by the server and its clients.",
	  run_notes_set },
	{ "notes clear", "SNAPSHOT", "Remove the notes of a snapshot or group", NULL, run_notes_clear },
};

static int run_notes(const struct cmd *self, int argc, char **argv)
{
	return cmd_run_family(self, notes_commands,
			      sizeof(notes_commands) / sizeof(notes_commands[0]), NULL, argc, argv);
}

const struct cmd cmd_notes = {
	.name = "notes",
	.synopsis = "COMMAND",
	.summary = "Show and change the notes of snapshots and groups",
	.run = run_notes,
};

/* --- protect --- */

static int run_protect_show(const struct cmd *self, int argc, char **argv)
{
	AUTO(target) struct target t = { .ns = "" };
	struct err err = ERR_INIT;
	bool is_protected;
	int status = target_show(self, &t, &no_option, argc, argv);

	if (status >= 0)
		return status;
	int rc = repo_get_protected(t.repo, &t.name, &is_protected, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	puts(is_protected ? "true" : "false"); /* the same in JSON */
	return EXIT_DONE;
}

static int set_protected(const struct cmd *self, int argc, char **argv, bool is_protected)
{
	AUTO(target) struct target t = { .ns = "" };
	struct err err = ERR_INIT;
	int status = target_change(self, &t, &no_option, argc, argv);

	return status >= 0 ? status :
			     done(repo_set_protected(t.repo, &t.name, is_protected, &err), &err);
}

static int run_protect_set(const struct cmd *self, int argc, char **argv)
{
	return set_protected(self, argc, argv, true);
}

static int run_protect_clear(const struct cmd *self, int argc, char **argv)
{
	return set_protected(self, argc, argv, false);
}

static const struct cmd protect_commands[] = {
	{ "protect show", "SNAPSHOT", "Show whether a snapshot is protected",
	  "Prints true or false.", run_protect_show },
	{ "protect set", "SNAPSHOT", "Protect a snapshot: nothing removes it any more", NULL,
	  run_protect_set },
	{ "protect clear", "SNAPSHOT", "Protect a snapshot no longer", NULL, run_protect_clear },
};

static int run_protect(const struct cmd *self, int argc, char **argv)
{
	return cmd_run_family(self, protect_commands,
			      sizeof(protect_commands) / sizeof(protect_commands[0]), NULL, argc,
			      argv);
}

const struct cmd cmd_protect = {
	.name = "protect",
	.synopsis = "COMMAND",
	.summary = "Keep snapshots from being removed",
	.run = run_protect,
};

/* --- upload-log --- */

/* As a backup stores a file; nothing signs it. */
static int encode_log(const char *path, const struct keys_options *keys, struct wbuf *out,
		      struct err *err)
{
	AUTO(keys_choice) struct keys_choice choice = { .key = NULL };
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(BLOB_FILE_ROOM);
	int rc = codec ? 0 : err_set(err, ENOMEM, "out of memory");

	if (rc == 0)
		rc = keys_for_blob(keys, &choice, err);
	if (rc == 0)
		rc = blob_file_read(path, &plain, err);
	if (rc < 0)
		return rc;
	blob_codec_set_key(codec, choice.mode == CRYPT_MODE_ENCRYPT ? choice.key : NULL);
	rc = blob_encode(codec, plain.data, plain.size, true, out, err);
	return rc < 0 ? err_wrap(err, rc, "%s", path) : 0;
}

static int run_upload_log(const struct cmd *self, int argc, char **argv)
{
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(BLOB_DATA_SIZE_MAX));
	AUTO(target) struct target t = { .ns = "" };
	struct keys_options keys = { 0 };
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	const struct opt table[] = { TARGET_OPTS(t), KEYS_OPT_BLOB(keys), { 0 } };
	int status = opts_parse(self, table, argc, argv, 2, 2, &args, &count);

	if (status >= 0)
		return status;
	if (keys_check(&keys, &err) < 0)
		return opts_usage(self, "%s", err.text);
	status = target_open(self, &t, args[0]);
	if (status >= 0)
		return status;
	int rc = encode_log(args[1], &keys, &blob, &err);
	if (rc == 0)
		rc = repo_put_log(t.repo, &t.name, blob.data, blob.size, &err);
	return done(rc, &err);
}

const struct cmd cmd_upload_log = {
	.name = "upload-log",
	.synopsis = "SNAPSHOT FILE",
	.summary = "Store a log beside a snapshot",
	.description = "FILE becomes the snapshot's client.log, encrypted when there is a key and the\n"
		       "mode is encrypt.  A snapshot has one log at most: it is never replaced.",
	.run = run_upload_log,
};
