/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking after a datastore on a server: what is forgotten, noted, protected, logged; its namespaces.
 *
 * The server says why it refuses in words only: what its status leaves open is asked for.
 */
#include "client/repo/repo_pbs_priv.h"

#include "client/repo/pbs_member.h"

#include <errno.h>
#include <string.h>

#define STORE "/admin/datastore/{store}"

enum { STATUS_REFUSED = 400, STATUS_FORBIDDEN = 403 };

static struct repo_pbs *self(struct repo *r)
{
	return (struct repo_pbs *)r;
}

static int call(struct repo *r, const char *method, const char *path, json_t *params,
		json_t **data, int *status, struct err *err)
{
	int rc = pbs_rest_call(self(r)->rest, method, path, params, data, status, err);

	return rc < 0 ? err_wrap(err, rc, "%s", r->spelling) : 0;
}

/* A call without a result, with one parameter more; `value` is taken over. */
static int change(struct repo *r, const char *method, const char *path, json_t *params,
		  const char *member, json_t *value, int *status, struct err *err)
{
	if (json_object_set_new(params, member, value) < 0) {
		json_decref(params);
		return err_set(err, ENOMEM, "out of memory");
	}
	return call(r, method, path, params, NULL, status, err);
}

/* --- why something was refused --- */

struct found {
	int64_t time; /* wanted; 0: any */
	bool is_there, is_protected;
};

static int look(void *arg, const struct repo_snapshot_info *info)
{
	struct found *f = arg;

	if (f->time == 0 || info->name.time == f->time) {
		f->is_there = true;
		f->is_protected = f->is_protected || info->is_protected;
	}
	return 0;
}

/* Of a snapshot that a call refused with status 400: -ENOENT, -EPERM (it is protected), or -EBUSY,
 * and then the server's text stays. */
static int explain(struct repo *r, const struct snapshot_name *name, int rc, struct err *err)
{
	struct found f = { .time = name->time };
	char path[SNAPSHOT_PATH_SIZE];

	if (repo_pbs_list_snapshots(r, &name->group, look, &f, NULL) < 0)
		return rc;
	snapshot_path(name, path, sizeof(path));
	if (!f.is_there)
		return err_set(err, ENOENT, "%s: there is no snapshot %s", r->spelling, path);
	if (f.is_protected)
		return err_set(err, EPERM, "%s: snapshot %s is protected", r->spelling, path);
	return -EBUSY;
}

/* For calls to which protection does not matter. */
static int check_there(struct repo *r, const struct snapshot_name *name, int status, int rc,
		       struct err *err)
{
	struct err why = ERR_INIT;

	if (rc == 0 || status != STATUS_REFUSED || explain(r, name, rc, &why) != -ENOENT)
		return rc;
	if (err)
		*err = why;
	return -ENOENT;
}

/* --- forgetting --- */

static int forget(struct repo *r, const struct snapshot_name *name, struct err *err)
{
	int status;
	int rc = call(r, "DELETE", STORE "/snapshots", repo_pbs_snapshot_params(name), NULL,
		      &status, err);

	return rc < 0 && status == STATUS_REFUSED ? explain(r, name, rc, err) : rc;
}

static int forget_group(struct repo *r, const struct snapshot_group *group, struct err *err)
{
	int status;
	int rc = call(r, "DELETE", STORE "/groups", repo_pbs_group_params(group), NULL, &status,
		      err);

	if (rc == 0 || status != STATUS_REFUSED)
		return rc;
	struct found f = { .time = 0 };
	if (repo_pbs_list_snapshots(r, group, look, &f, NULL) < 0)
		return rc;
	return f.is_protected ? -EPERM : f.is_there ? -EBUSY : -ENOENT;
}

/* --- notes --- */

static int take_notes(struct repo *r, const char *path, json_t *params, struct wbuf *out,
		      int *status, struct err *err)
{
	AUTO(json) json_t *notes = NULL;
	int rc = call(r, "GET", path, params, &notes, status, err);

	if (rc < 0)
		return rc;
	if (!json_is_string(notes))
		return err_set(err, EPROTO, "%s: the server's notes are no text", r->spelling);
	rc = wbuf_put(out, json_string_value(notes), json_string_length(notes));
	return rc < 0 ? err_set(err, -rc, "%s: the notes are too long", r->spelling) : 0;
}

static int give_notes(struct repo *r, const char *path, json_t *params, const char *notes,
		      int *status, struct err *err)
{
	*status = 0;
	if (json_text_is_utf8(notes, strlen(notes)))
		return change(r, "PUT", path, params, "notes", json_string(notes), status, err);
	json_decref(params);
	return err_set(err, EINVAL, "the notes are not UTF-8");
}

static int get_notes(struct repo *r, const struct snapshot_name *name, struct wbuf *out,
		     struct err *err)
{
	int status;
	int rc = take_notes(r, STORE "/notes", repo_pbs_snapshot_params(name), out, &status, err);

	return check_there(r, name, status, rc, err);
}

static int set_notes(struct repo *r, const struct snapshot_name *name, const char *notes,
		     struct err *err)
{
	int status;
	int rc = give_notes(r, STORE "/notes", repo_pbs_snapshot_params(name), notes, &status, err);

	return check_there(r, name, status, rc, err);
}

/* For calls about a group: -ENOENT, if it is not in the list. */
static int check_group_there(struct repo *r, const struct snapshot_group *group, int status, int rc,
			     struct err *err)
{
	struct found f = { .time = 0 };
	char path[SNAPSHOT_PATH_SIZE];

	if (rc == 0 || status != STATUS_REFUSED ||
	    repo_pbs_list_snapshots(r, group, look, &f, NULL) < 0 || f.is_there)
		return rc;
	snapshot_group_path(group, path, sizeof(path));
	return err_set(err, ENOENT, "%s: there is no group %s", r->spelling, path);
}

static int get_group_notes(struct repo *r, const struct snapshot_group *group, struct wbuf *out,
			   struct err *err)
{
	int status;
	int rc = take_notes(r, STORE "/group-notes", repo_pbs_group_params(group), out, &status, err);

	return check_group_there(r, group, status, rc, err);
}

static int set_group_notes(struct repo *r, const struct snapshot_group *group, const char *notes,
			   struct err *err)
{
	int status;
	int rc = give_notes(r, STORE "/group-notes", repo_pbs_group_params(group), notes, &status,
			    err);

	return check_group_there(r, group, status, rc, err);
}

/* --- the log --- */

/* False also when it cannot be told. */
static bool has_log(struct repo *r, const struct snapshot_name *name)
{
	AUTO(json) json_t *files = NULL;
	char file[sizeof(REPO_CLIENT_LOG)];
	const json_t *row;
	size_t i;

	if (call(r, "GET", STORE "/files", repo_pbs_snapshot_params(name), &files, NULL, NULL) < 0)
		return false;
	json_array_foreach(files, i, row)
		if (pbs_member_text(row, "filename", file, sizeof(file)) &&
		    strcmp(file, REPO_CLIENT_LOG) == 0)
			return true;
	return false;
}

int repo_pbs_put_log(struct repo *r, const struct snapshot_name *name, const void *data,
		     size_t size, struct err *err)
{
	char path[SNAPSHOT_PATH_SIZE];
	int status;
	int rc = pbs_rest_upload(self(r)->rest, STORE "/upload-backup-log",
				 repo_pbs_snapshot_params(name), data, size, &status, err);

	if (rc == 0)
		return 0;
	err_wrap(err, rc, "%s", r->spelling);
	if (status == STATUS_REFUSED && has_log(r, name)) {
		snapshot_path(name, path, sizeof(path));
		return err_set(err, EEXIST, "%s: %s: %s: there is one already", r->spelling, path,
			       REPO_CLIENT_LOG);
	}
	/* Only the owner may; of a group that is not there nobody is. */
	if (status == STATUS_FORBIDDEN)
		status = STATUS_REFUSED;
	return check_there(r, name, status, rc, err);
}

/* --- protection --- */

static int get_protected(struct repo *r, const struct snapshot_name *name, bool *is_protected,
			 struct err *err)
{
	AUTO(json) json_t *value = NULL;
	int status;
	int rc = call(r, "GET", STORE "/protected", repo_pbs_snapshot_params(name), &value,
		      &status, err);

	if (rc < 0)
		return check_there(r, name, status, rc, err);
	if (!json_is_boolean(value))
		return err_set(err, EPROTO, "%s: the server does not say whether it is protected",
			       r->spelling);
	*is_protected = json_is_true(value);
	return 0;
}

static int set_protected(struct repo *r, const struct snapshot_name *name, bool is_protected,
			 struct err *err)
{
	int status;
	int rc = change(r, "PUT", STORE "/protected", repo_pbs_snapshot_params(name), "protected",
			json_boolean(is_protected), &status, err);

	if (rc == 0 || status != STATUS_REFUSED)
		return rc;
	return check_there(r, name, status, rc, err) == -ENOENT ? -ENOENT : -EBUSY;
}

/* --- namespaces --- */

/* The namespace of the first `size` bytes of `ns`, whose parent is there; it may be there, too. */
static int make_one(struct repo *r, const char *ns, size_t size, int *status, struct err *err)
{
	const char *slash = memrchr(ns, '/', size), *name = slash ? slash + 1 : ns;
	json_t *params = json_pack("{s:s%}", "name", name, (size_t)(ns + size - name));

	if (slash)
		json_object_set_new(params, "parent", json_stringn(ns, (size_t)(slash - ns)));
	return call(r, "POST", STORE "/namespace", params, NULL, status, err);
}

/* Back to one that can be made, as its parent is there, and forth again: who may make namespaces in
 * `prod` need not be allowed to make `prod`, not even when it is there. */
static int make_ns(struct repo *r, const char *ns, struct err *err)
{
	size_t end = strlen(ns);
	int status, rc = end ? make_one(r, ns, end, &status, err) : 0;

	while (rc < 0 && status == STATUS_REFUSED && memchr(ns, '/', end)) {
		end = (size_t)((const char *)memrchr(ns, '/', end) - ns);
		rc = make_one(r, ns, end, &status, err);
	}
	while (rc == 0 && ns[end]) {
		end += 1 + strcspn(ns + end + 1, "/");
		rc = make_one(r, ns, end, &status, err);
	}
	return rc;
}

static int ignore_ns(void *arg, const char *ns)
{
	(void)arg;
	(void)ns;
	return 0;
}

static int remove_ns(struct repo *r, const char *ns, bool with_groups, struct err *err)
{
	int status;
	/* The server is content with a namespace that is not there. */
	int rc = repo_list_ns(r, ns, ignore_ns, NULL, err);

	if (rc < 0)
		return rc;
	rc = change(r, "DELETE", STORE "/namespace", json_pack("{s:s}", "ns", ns), "delete-groups",
		    json_boolean(with_groups), &status, err);
	if (rc == 0 || status != STATUS_REFUSED)
		return rc;
	return with_groups ? -EBUSY :
			     err_set(err, ENOTEMPTY, "%s: namespace %s is not empty", r->spelling, ns);
}

/* --- space --- */

static int space(struct repo *r, struct repo_space *out, struct err *err)
{
	AUTO(json) json_t *data = NULL;
	int64_t total, used, available;
	int rc = call(r, "GET", STORE "/status", NULL, &data, NULL, err);

	if (rc < 0)
		return rc;
	if (!pbs_member_integer(data, "total", 0, INT64_MAX, &total) ||
	    !pbs_member_integer(data, "used", 0, INT64_MAX, &used) ||
	    !pbs_member_integer(data, "avail", 0, INT64_MAX, &available))
		return err_set(err, EPROTO, "%s: the server's status lacks sizes", r->spelling);
	*out = (struct repo_space){ (uint64_t)total, (uint64_t)used, (uint64_t)available };
	return 0;
}

const struct repo_care_ops REPO_PBS_CARE = {
	.forget = forget,
	.forget_group = forget_group,
	.get_notes = get_notes,
	.set_notes = set_notes,
	.get_group_notes = get_group_notes,
	.set_group_notes = set_group_notes,
	.get_protected = get_protected,
	.set_protected = set_protected,
	.make_ns = make_ns,
	.remove_ns = remove_ns,
	.space = space,
};
