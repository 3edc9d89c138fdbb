/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo.h"

#include "archive/base/cleanup.h"
#include "archive/blob.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* --- reader session --- */

int repo_reader_get_file(struct repo_reader *r, const char *name, struct repo_file *out,
			 struct err *err)
{
	return r->ops->get_file(r, name, out, err);
}

int repo_reader_has_file(struct repo_reader *r, const char *name, struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	int rc = r->ops->has_file ? r->ops->has_file(r, name, err) :
				    repo_reader_get_file(r, name, &file, err);

	if (rc == -ENOENT)
		return 0;
	return rc == 0 ? 1 : rc;
}

int repo_reader_get_chunk(struct repo_reader *r, const struct digest *digest, struct wbuf *out,
			  struct err *err)
{
	return r->ops->get_chunk(r, digest, out, err);
}

int repo_reader_get_chunk_of_size(struct repo_reader *r, const struct digest *digest, void *to,
				  size_t size, struct err *err)
{
	return r->ops->get_chunk_of_size ? r->ops->get_chunk_of_size(r, digest, to, size, err) :
					   1;
}

void repo_reader_abort(struct repo_reader *r)
{
	r->ops->abort(r);
}

void repo_reader_free(struct repo_reader *r)
{
	if (r)
		r->ops->free(r);
}

/* --- writer session --- */

const struct snapshot_name *repo_writer_previous(struct repo_writer *w)
{
	return w->ops->previous(w);
}

int repo_writer_get_previous(struct repo_writer *w, const char *name, struct repo_file *out,
			     struct err *err)
{
	return w->ops->get_previous(w, name, out, err);
}

int repo_writer_reuse_chunk(struct repo_writer *w, const struct digest *digest,
			    struct err *err)
{
	return w->ops->reuse_chunk(w, digest, err);
}

bool repo_writer_distrust(struct repo_writer *w)
{
	if (!w->ops->distrust)
		return false;
	w->ops->distrust(w);
	return true;
}

int repo_writer_put_chunk(struct repo_writer *w, const struct digest *digest, const void *data,
			  size_t size, size_t plain_size, bool *duplicate, struct err *err)
{
	return w->ops->put_chunk(w, digest, data, size, plain_size, duplicate, err);
}

int repo_writer_index_open(struct repo_writer *w, const char *name, struct repo_index **out,
			   struct err *err)
{
	return w->ops->index_open(w, name, 0, out, err);
}

int repo_writer_index_open_fixed(struct repo_writer *w, const char *name, uint64_t image_size,
				 struct repo_index **out, struct err *err)
{
	if (image_size == 0)
		return err_set(err, EINVAL, "%s: an empty image cannot be stored", name);
	return w->ops->index_open(w, name, image_size, out, err);
}

int repo_index_add(struct repo_writer *w, struct repo_index *ix, uint64_t chunk_size,
		   const struct digest *digest, struct err *err)
{
	return w->ops->index_add(ix, chunk_size, digest, err);
}

int repo_index_close(struct repo_writer *w, struct repo_index *ix, uint64_t *size,
		     struct digest *csum, struct err *err)
{
	return w->ops->index_close(ix, size, csum, err);
}

int repo_writer_put_blob(struct repo_writer *w, const char *name, const void *data, size_t size,
			 struct err *err)
{
	return w->ops->put_blob(w, name, data, size, err);
}

int repo_writer_finish(struct repo_writer *w, const void *manifest_blob, size_t size,
		       struct err *err)
{
	return w->ops->finish(w, manifest_blob, size, err);
}

void repo_writer_free(struct repo_writer *w)
{
	if (w)
		w->ops->free(w);
}

/* --- repository --- */

void repo_free(struct repo *r)
{
	if (r)
		r->ops->free(r);
}

void repo_warn(struct repo *r, const char *format, ...)
{
	struct err message;
	va_list ap;

	if (!r->warning)
		return;
	va_start(ap, format);
	vsnprintf(message.text, sizeof(message.text), format, ap);
	va_end(ap);
	r->warning(r->warning_arg, message.text);
}

bool repo_is_stopped(const struct repo *r)
{
	return r->stop && atomic_load(r->stop);
}

int repo_list_ns(struct repo *r, const char *ns, repo_ns_visit *visit, void *arg,
		 struct err *err)
{
	return r->ops->list_ns(r, ns, visit, arg, err);
}

int repo_list_groups(struct repo *r, const char *ns, repo_group_visit *visit, void *arg,
		     struct err *err)
{
	return r->ops->list_groups(r, ns, visit, arg, err);
}

int repo_list_snapshots(struct repo *r, const struct snapshot_group *group,
			repo_snapshot_visit *visit, void *arg, struct err *err)
{
	return r->ops->list_snapshots(r, group, visit, arg, err);
}

static int newest_finished(void *arg, const struct repo_snapshot_info *info)
{
	int64_t *newest = arg;

	if (info->finished && info->name.time > *newest)
		*newest = info->name.time;
	return 0;
}

int repo_resolve(struct repo *r, const char *text, const char *ns, struct snapshot_name *out,
		 struct err *err)
{
	struct snapshot_name s;
	bool latest;
	int rc = snapshot_parse(text, ns, &s, &latest, err);

	if (rc == 0 && latest)
		rc = repo_list_snapshots(r, &s.group, newest_finished, &s.time, err);
	if (rc < 0)
		return rc;
	if (s.time == 0)
		return err_set(err, ENOENT, "%s: no finished snapshot of group %s/%s%s%s",
			       r->spelling, s.group.type, s.group.id,
			       s.group.ns[0] ? " in namespace " : "", s.group.ns);
	*out = s;
	return 0;
}

int repo_read(struct repo *r, const struct snapshot_name *name, struct repo_reader **out,
	      struct err *err)
{
	return r->ops->read(r, name, out, err);
}

int repo_write(struct repo *r, const struct repo_writer_params *params,
	       struct repo_writer **out, struct err *err)
{
	if (!r->ops->write)
		return err_set(err, EROFS, "%s: this kind of repository is read only", r->spelling);
	return r->ops->write(r, params, out, err);
}

enum archive_names repo_default_names(struct repo *r)
{
	return r->ops->default_names(r);
}

/* --- looking after what is there --- */

static int no_care(const struct repo *r, struct err *err)
{
	return err_set(err, EROFS, "%s: this kind of repository is read only", r->spelling);
}

int repo_forget(struct repo *r, const struct snapshot_name *name, struct err *err)
{
	return r->ops->care ? r->ops->care->forget(r, name, err) : no_care(r, err);
}

int repo_forget_group(struct repo *r, const struct snapshot_group *group, struct err *err)
{
	return r->ops->care ? r->ops->care->forget_group(r, group, err) : no_care(r, err);
}

int repo_get_notes(struct repo *r, const struct snapshot_name *name, struct wbuf *out, struct err *err)
{
	return r->ops->care ? r->ops->care->get_notes(r, name, out, err) : no_care(r, err);
}

int repo_set_notes(struct repo *r, const struct snapshot_name *name, const char *notes, struct err *err)
{
	return r->ops->care ? r->ops->care->set_notes(r, name, notes, err) : no_care(r, err);
}

int repo_get_group_notes(struct repo *r, const struct snapshot_group *group, struct wbuf *out,
			 struct err *err)
{
	return r->ops->care ? r->ops->care->get_group_notes(r, group, out, err) : no_care(r, err);
}

int repo_set_group_notes(struct repo *r, const struct snapshot_group *group, const char *notes,
			 struct err *err)
{
	return r->ops->care ? r->ops->care->set_group_notes(r, group, notes, err) : no_care(r, err);
}

int repo_get_protected(struct repo *r, const struct snapshot_name *name, bool *is_protected, struct err *err)
{
	return r->ops->care ? r->ops->care->get_protected(r, name, is_protected, err) : no_care(r, err);
}

int repo_set_protected(struct repo *r, const struct snapshot_name *name, bool is_protected, struct err *err)
{
	return r->ops->care ? r->ops->care->set_protected(r, name, is_protected, err) : no_care(r, err);
}

int repo_put_log(struct repo *r, const struct snapshot_name *name, const void *data, size_t size,
		 struct err *err)
{
	int rc;

	if (!r->ops->put_log)
		return no_care(r, err);
	if (size > BLOB_ENCODED_SIZE_MAX(BLOB_DATA_SIZE_MAX))
		return err_set(err, E2BIG, "%s: %zu bytes are too many for a blob",
			       REPO_CLIENT_LOG, size);
	rc = blob_verify_crc(data, size, err);
	if (rc < 0)
		return err_wrap(err, rc, "%s", REPO_CLIENT_LOG);
	return r->ops->put_log(r, name, data, size, err);
}

int repo_make_ns(struct repo *r, const char *ns, struct err *err)
{
	char checked[SNAPSHOT_NS_SIZE_MAX + 1];
	int rc = snapshot_ns_parse(ns, checked, err);

	if (rc < 0)
		return rc;
	return r->ops->care ? r->ops->care->make_ns(r, checked, err) : no_care(r, err);
}

int repo_remove_ns(struct repo *r, const char *ns, bool with_groups, struct err *err)
{
	char checked[SNAPSHOT_NS_SIZE_MAX + 1];
	int rc = snapshot_ns_parse(ns, checked, err);

	if (rc == 0 && !checked[0])
		rc = err_set(err, EINVAL, "the root namespace cannot be removed");
	if (rc < 0)
		return rc;
	return r->ops->care ? r->ops->care->remove_ns(r, checked, with_groups, err) :
			      no_care(r, err);
}

int repo_space(struct repo *r, struct repo_space *out, struct err *err)
{
	return r->ops->care ? r->ops->care->space(r, out, err) : no_care(r, err);
}
