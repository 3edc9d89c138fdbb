/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/previous.h"

#include "archive/manifest_sign.h"

#include <stdarg.h>
#include <string.h>

__attribute__((format(printf, 3, 4))) static void say(const struct previous *p,
						      enum backup_message kind,
						      const char *format, ...)
{
	char text[ERR_TEXT_SIZE + 256];
	va_list ap;

	if (!p->params->message)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	p->params->message(p->params->message_arg, kind, text);
}

/* --- manifest --- */

static int get_file(const struct previous *p, const char *name, struct repo_file *out,
		    struct err *err)
{
	return p->writer ? repo_writer_get_previous(p->writer, name, out, err) :
			   repo_reader_get_file(p->reader, name, out, err);
}

static int check_manifest(const struct previous *p, const struct manifest *m,
			  const struct wbuf *text, struct err *err)
{
	if (m->verify_state && strcmp(m->verify_state, "failed") == 0)
		return err_set(err, EBADMSG, "its last verification failed");
	if (p->params->key && !manifest_has_key(m))
		return err_set(err, ENOKEY, "it was made without a key");
	return manifest_check_key(m, text->data, text->size, p->params->key, err);
}

/* Only how archives are named is taken from a manifest that cannot be trusted. */
static int read_manifest(struct previous *p, struct manifest **out, struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(manifest) struct manifest *m = NULL;
	int rc = get_file(p, MANIFEST_BLOB_NAME, &file, err);

	if (rc == 0)
		rc = manifest_decode_blob(file.data, file.size, &text, &m, err);
	if (rc)
		return rc;
	p->knows_names = archive_name_convention(m, &p->names);
	rc = check_manifest(p, m, &text, err);
	if (rc == 0)
		*out = steal(&m);
	return rc;
}

/* Without a usable manifest the backup goes on as if it were the first. */
static void load_manifest(struct previous *p)
{
	struct err err = ERR_INIT;
	int rc = read_manifest(p, &p->manifest, &err);

	if (rc < 0)
		say(p, BACKUP_MESSAGE_WARNING, "the previous snapshot is not used: %s",
		    err_text(&err, rc));
}

/* --- session --- */

/* A dry run looks at the newest snapshot as any reader does; a group without one is new. */
static int find_newest(struct previous *p, struct err *err)
{
	const struct snapshot_group *g = &p->params->name.group;
	struct repo *repo = p->params->repo;
	char text[sizeof(g->type) + sizeof(g->id) + 1];
	int rc;

	snprintf(text, sizeof(text), "%s/%s", g->type, g->id);
	rc = repo_resolve(repo, text, g->ns, &p->name, err);
	if (rc == 0)
		rc = repo_read(repo, &p->name, &p->reader, err);
	p->exists = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}

int previous_open(struct previous *p, const struct backup_params *params,
		  struct repo_writer *writer, struct known_set *known, struct err *err)
{
	const struct snapshot_name *name = writer ? repo_writer_previous(writer) : NULL;
	int rc = 0;

	*p = (struct previous){
		.params = params, .writer = writer, .known = known, .exists = name != NULL
	};
	if (name)
		p->name = *name;
	if (!writer)
		rc = find_newest(p, err);
	if (rc == 0 && p->exists)
		load_manifest(p);
	return rc;
}

void previous_release(struct previous *p)
{
	repo_reader_free(steal(&p->reader));
	manifest_free(steal(&p->manifest));
}

/* --- archives and indexes --- */

/* Chunks of another crypt mode are not what this backup would store. */
static int check_mode(const struct previous *p, const struct manifest_file *file,
		      struct err *err)
{
	if (file->crypt_mode == p->params->crypt_mode)
		return 0;
	return err_set(err, EKEYREJECTED, "its crypt mode is %s, not %s",
		       crypt_mode_text(file->crypt_mode), crypt_mode_text(p->params->crypt_mode));
}

static int open_index(const struct previous *p, const char *name, struct previous_index *out,
		      struct err *err)
{
	int rc = didx_open(&out->ix, out->file.data, out->file.size, err);

	return rc < 0 ? rc : manifest_check(p->manifest, name, out->ix.size, &out->ix.csum, err);
}

static int open_image(const struct previous *p, const char *name, struct previous_index *out,
		      struct err *err)
{
	int rc = fidx_open(&out->image, out->file.data, out->file.size, err);

	return rc < 0 ? rc :
			manifest_check(p->manifest, name, out->image.size, &out->image.csum, err);
}

/* A missing or damaged one costs time, not the backup. */
void previous_index_load(struct previous *p, const char *name, bool is_image,
			 struct previous_index *out)
{
	const struct manifest_file *file = p->manifest ? manifest_find(p->manifest, name) : NULL;
	struct err err = ERR_INIT;
	int rc;

	if (!file)
		return;
	rc = check_mode(p, file, &err);
	if (rc == 0)
		rc = get_file(p, name, &out->file, &err);
	if (rc == 0)
		rc = is_image ? open_image(p, name, out, &err) :
				open_index(p, name, out, &err);
	if (rc < 0)
		say(p, BACKUP_MESSAGE_WARNING, "the previous %s is not used: %s", name,
		    err_text(&err, rc));
	out->usable = rc == 0;
}

bool previous_find_archive(const struct previous *p, const char *name,
			   struct archive_name *out)
{
	const bool split = p->params->mode != BACKUP_MODE_LEGACY;
	struct archive_name single;
	struct err err = ERR_INIT;

	if (!p->manifest)
		return false;
	if (!split) {
		if (archive_name_make(name, false, p->names, &single, &err) < 0)
			return false;
		*out = single;
		return manifest_find(p->manifest, single.meta) != NULL;
	}
	return archive_name_find(p->manifest, name, out, &err) == 0 && out->payload[0];
}

/* --- comparing --- */

/* Chunks of it are damaged, so what this snapshot has in common with it is stored anew from here on.
 * What stands for a damaged chunk has not been taken over yet, as the entries in it are still to come;
 * unless the chunk has nothing but a part of a folder's table, which is only read when it was written. */
static void distrust(struct previous *p)
{
	p->distrusted = true;
	if (!p->writer)
		return;
	if (repo_writer_distrust(p->writer))
		known_forget(p->known);
	else
		say(p, BACKUP_MESSAGE_LOST,
		    "damaged chunks that this snapshot has in common with the previous one stay "
		    "damaged: have the server verify that one, then back up again");
}

static void on_change_note(void *arg, const char *text)
{
	struct previous *p = arg;

	say(p, BACKUP_MESSAGE_WARNING,
	    "the previous snapshot is damaged, files are read from here on: %s", text);
	distrust(p);
}

static int open_change(struct previous *p, const struct archive_name *archive, int64_t began,
		       struct change **out, struct err *err)
{
	struct change_params params = {
		.manifest = p->manifest,
		.key = p->params->crypt_mode == CRYPT_MODE_ENCRYPT ? p->params->key : NULL,
		.archive_name = archive->meta,
		.detect_ctime = p->params->detect_ctime || p->manifest->shrunk_content,
		.since = began < p->name.time ? began : p->name.time,
		.note = on_change_note,
		.note_arg = p,
	};
	int rc = 0;

	if (!p->reader)
		rc = repo_read(p->params->repo, &p->name, &p->reader, err);
	params.reader = p->reader;
	return rc < 0 ? rc : change_new(out, &params, err);
}

int previous_compare(struct previous *p, const char *spec_name,
		     const struct archive_name *archive, int64_t began, struct change **out,
		     struct err *err)
{
	struct err why = ERR_INIT;
	int rc;

	if (p->manifest->lost_content) {
		say(p, BACKUP_MESSAGE_INFO,
		    "%s: every file is read: of some the last backup could not read all", spec_name);
		return 0;
	}
	rc = open_change(p, archive, began, out, &why);
	if (rc == -ENOMEM || rc == -ECANCELED) {
		*err = why;
		return rc;
	}
	if (rc < 0)
		say(p, BACKUP_MESSAGE_WARNING, "%s: every file is read: %s", spec_name,
		    err_text(&why, rc));
	if (rc < 0)
		distrust(p);
	return 0;
}

void previous_explain(const struct previous *p, const char *spec_name)
{
	if (p->params->mode != BACKUP_MODE_METADATA)
		return;
	if (p->manifest)
		say(p, BACKUP_MESSAGE_INFO,
		    "%s: every file is read: the last snapshot has no such archive in two streams",
		    spec_name);
	else if (p->params->mode_given && !p->exists)
		say(p, BACKUP_MESSAGE_INFO, "%s: every file is read: there is no last snapshot",
		    spec_name);
}
