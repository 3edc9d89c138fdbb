/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a repository on a server, and what it lists. */
#include "client/repo/pbs_row.h"
#include "client/repo/repo_pbs_priv.h"

#include <string.h>

static struct repo_pbs *self(struct repo *r)
{
	return (struct repo_pbs *)r;
}

/* --- parameters --- */

json_t *repo_pbs_group_params(const struct snapshot_group *group)
{
	json_t *params = json_pack("{s:s,s:s}", "backup-type", group->type, "backup-id", group->id);

	if (params && group->ns[0])
		json_object_set_new(params, "ns", json_string(group->ns));
	return params;
}

json_t *repo_pbs_snapshot_params(const struct snapshot_name *name)
{
	json_t *params = repo_pbs_group_params(&name->group);

	if (params)
		json_object_set_new(params, "backup-time", json_integer(name->time));
	return params;
}

/* --- listing --- */

typedef int row_visit(void *arg, const json_t *row, struct err *err);

/* GET a list, and call `visit` for each row. */
static int each_row(struct repo *r, const char *path, json_t *params, row_visit *visit, void *arg,
		    int *status, struct err *err)
{
	AUTO(json) json_t *rows = NULL;
	int rc = pbs_rest_call(self(r)->rest, "GET", path, params, &rows, status, err);
	const json_t *row;
	size_t i;

	if (rc < 0)
		return err_wrap(err, rc, "%s", r->spelling);
	if (!json_is_array(rows))
		return err_set(err, EPROTO, "%s: %s: no list", r->spelling, path);
	for (i = 0; rc == 0 && i < json_array_size(rows); i++) {
		row = json_array_get(rows, i);
		rc = visit(arg, row, err);
	}
	return rc;
}

static int bad_row(const struct repo *r, const char *what, struct err *err)
{
	return err_set(err, EPROTO, "%s: the server lists %s that is none", r->spelling, what);
}

struct ns_list {
	struct repo *repo;
	repo_ns_visit *visit;
	void *arg;
	const char *parent;
	bool has_parent;
};

static int visit_ns(void *arg, const json_t *row, struct err *err)
{
	struct ns_list *l = arg;
	char ns[SNAPSHOT_NS_SIZE_MAX + 1];
	size_t n = strlen(l->parent);

	if (!pbs_row_ns(row, ns))
		return bad_row(l->repo, "a namespace", err);
	if (strcmp(ns, l->parent) == 0)
		return 0;
	if (n && (strncmp(ns, l->parent, n) != 0 || ns[n] != '/'))
		return bad_row(l->repo, "a namespace below another", err);
	return l->visit(l->arg, ns);
}

static int ignore_row(void *arg, const json_t *row, struct err *err)
{
	(void)arg;
	(void)row;
	(void)err;
	return 0;
}

/* The list of namespaces begins with the parent even when there is none of that name; the
 * groups of one that does not exist are refused. */
static int check_ns(struct repo *r, const char *ns, struct err *err)
{
	int status, rc;

	if (!ns[0])
		return 0;
	rc = each_row(r, "/admin/datastore/{store}/groups", json_pack("{s:s}", "ns", ns), ignore_row,
		      NULL, &status, err);
	if (rc < 0 && (status == 400 || status == 404))
		return err_set(err, ENOENT, "%s: there is no namespace %s", r->spelling, ns);
	return rc;
}

static int list_ns(struct repo *r, const char *ns, repo_ns_visit *visit, void *arg,
		   struct err *err)
{
	char parent[SNAPSHOT_NS_SIZE_MAX + 1];
	struct ns_list l = { .repo = r, .visit = visit, .arg = arg, .parent = parent };
	int rc = snapshot_ns_parse(ns, parent, err);

	if (rc == 0)
		rc = check_ns(r, parent, err);
	if (rc < 0)
		return rc;
	return each_row(r, "/admin/datastore/{store}/namespace",
			parent[0] ? json_pack("{s:s}", "parent", parent) : NULL, visit_ns, &l, NULL,
			err);
}

struct group_list {
	struct repo *repo;
	repo_group_visit *visit;
	void *arg;
	struct repo_group_info info;
};

static int visit_group(void *arg, const json_t *row, struct err *err)
{
	struct group_list *l = arg;
	struct repo_group_info *info = &l->info;

	if (!pbs_row_group(row, info))
		return bad_row(l->repo, "a group", err);
	/* What a failed first backup has left. */
	return info->backup_count == 0 ? 0 : l->visit(l->arg, info);
}

static int list_groups(struct repo *r, const char *ns, repo_group_visit *visit, void *arg,
		       struct err *err)
{
	struct group_list l = { .repo = r, .visit = visit, .arg = arg };
	int status, rc = snapshot_ns_parse(ns, l.info.group.ns, err);

	if (rc < 0)
		return rc;
	rc = each_row(r, "/admin/datastore/{store}/groups", ns[0] ? json_pack("{s:s}", "ns", ns) : NULL,
		      visit_group, &l, &status, err);
	if (rc < 0 && ns[0] && (status == 400 || status == 404))
		return err_set(err, ENOENT, "%s: there is no namespace %s", r->spelling, ns);
	return rc;
}

struct snapshot_list {
	struct repo *repo;
	repo_snapshot_visit *visit;
	void *arg;
	const struct snapshot_group *group;
	struct repo_snapshot_info info;
};

static int visit_snapshot(void *arg, const json_t *row, struct err *err)
{
	struct snapshot_list *l = arg;
	struct repo_snapshot_info *info = &l->info;

	if (!pbs_row_snapshot(row, info) ||
	    snapshot_group_compare(&info->name.group, l->group) != 0)
		return bad_row(l->repo, "a snapshot", err);
	return l->visit(l->arg, info);
}

int repo_pbs_list_snapshots(struct repo *r, const struct snapshot_group *group,
			    repo_snapshot_visit *visit, void *arg, struct err *err)
{
	struct snapshot_list l = { .repo = r, .visit = visit, .arg = arg, .group = group };
	int status, rc;

	l.info.name.group = *group;
	rc = each_row(r, "/admin/datastore/{store}/snapshots", repo_pbs_group_params(group),
		      visit_snapshot, &l, &status, err);
	/* A namespace that is not there has no groups. */
	return rc == -EINVAL && status == 400 && group->ns[0] ? 0 : rc;
}

/* --- opening --- */

static enum archive_names default_names(struct repo *r)
{
	(void)r;
	return ARCHIVE_NAMES_PBS;
}

static void pbs_free(struct repo *r)
{
	struct repo_pbs *p = self(r);

	pbs_rest_free(p->rest);
	free(p->base.spelling);
	free(p);
}

static const struct repo_ops OPS = {
	.care = &REPO_PBS_CARE,
	.list_ns = list_ns,
	.list_groups = list_groups,
	.list_snapshots = repo_pbs_list_snapshots,
	.read = repo_pbs_read,
	.write = repo_pbs_write,
	.put_log = repo_pbs_put_log,
	.default_names = default_names,
	.free = pbs_free,
};

int repo_pbs_open(const char *spelling, struct repo **out, struct err *err)
{
	struct pbs_name name;
	struct repo_pbs *p;
	int rc = pbs_name_parse(spelling, &name, err);

	if (rc < 0)
		return rc;
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(err, ENOMEM, "out of memory");
	p->base.ops = &OPS;
	AUTO(repo) struct repo *owned = &p->base;
	p->base.spelling = strdup(spelling);
	if (!p->base.spelling)
		return err_set(err, ENOMEM, "out of memory");
	rc = pbs_rest_new(&p->rest, &name, err);
	if (rc == 0)
		*out = steal(&owned);
	return rc;
}
