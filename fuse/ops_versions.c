/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TYPE/ID/.versions/ARCHIVE/PATH/ - the versions of a file through time, the path first.
 *
 * Each folder here stands for a path, and lists the snapshots of the group in which what is
 * there is not what it was in the one before: by type, mode, owner, time, size, target,
 * attributes, as a backup decides whether a file has changed.  A version of a file is that file,
 * with the number it has in its archive; one of a folder is a link to it, because a folder
 * can be in one place only.  Any snapshot that has the path can be looked up, and so can
 * whatever lies below it in any snapshot; a folder here is made by its look-up.
 *
 * It goes through the snapshots one after the other.  For each it opens the archive and walks
 * the path, as far as that takes chunks which the one before has not: the cache knows chunks by
 * digest.  What is behind a request is behind it for good when it runs again.  A snapshot that
 * cannot be read is listed, and its look-up fails: it may hold another version.
 *
 * Cookies: 0, 1 and 2 as anywhere, TIME + 2 behind the version of that time, COOKIE_END behind
 * the last one.
 */
#include "fuse/ops_repo.h"

#include "archive/base/digest.h"
#include "client/cmd/log.h"
#include "fuse/inode.h"
#include "fuse/reply.h"

#include <errno.h>
#include <string.h>

#define COOKIE_END (UINT64_C(1) << 62)

enum {
	PATH_SIZE_MAX = 64 << 10,
	DEPTH_MAX = 4096,
};

static struct repo_tree *tree_of(const struct request *rq)
{
	return snaps_tree(rq->mount->snaps);
}

/* --- which path --- */

/* What a folder stands for. */
struct place {
	struct node *group, *archive; /* the folder ".versions/ARCHIVE", NULL: ".versions" */
	struct wbuf path; /* inside the archive, NUL-terminated */
	unsigned depth; /* components of it */
};

static void place_release(struct place *p)
{
	wbuf_release(&p->path);
}
DEFINE_AUTO_STRUCT(place)

/* The components are behind the archive's folder, outermost first. */
static int put_path(struct place *p, const struct node *node)
{
	const struct node *steps[DEPTH_MAX];

	for (; node != p->archive; node = node->parent) {
		if (p->depth == DEPTH_MAX)
			return -ENAMETOOLONG;
		steps[p->depth++] = node;
	}
	for (unsigned i = p->depth; i-- > 0;) {
		wbuf_put_text(&p->path, steps[i]->name);
		wbuf_put_u8(&p->path, i ? '/' : '\0');
	}
	if (p->depth == 0)
		wbuf_put_u8(&p->path, '\0');
	return p->path.failed == -E2BIG ? -ENAMETOOLONG : p->path.failed;
}

static int find_place(struct node *folder, struct place *out)
{
	struct node *node = folder;

	wbuf_init(&out->path, PATH_SIZE_MAX);
	for (; node->kind == NODE_VERSIONS; node = node->parent)
		if (node->parent->kind == NODE_VERSIONS)
			out->archive = node;
	out->group = node;
	return out->archive ? put_path(out, folder) : 0;
}

/* --- one snapshot --- */

static struct node *find_child(struct request *rq, const struct node *parent, const char *name)
{
	struct node *node;

	repo_tree_lock(tree_of(rq));
	node = repo_tree_child(tree_of(rq), parent, name);
	repo_tree_unlock(tree_of(rq));
	return node;
}

/* Done with this snapshot: its archive may be closed. */
static void leave(struct request *rq)
{
	request_hide(rq);
	rq->failure = 0;
}

/* What lies at the path in a snapshot, into rq->entry.  -ENOENT: nothing does.  Failed waits come
 * here, too, so that other snapshots can be looked at.  What was waited for may be of another one than
 * is next now: the group may have been listed again meanwhile. */
static int look(struct request *rq, struct node *snapshot, const char *archive_name,
		const char *path, const struct tree **tree)
{
	struct node *archive;
	int rc;

	rq->takes_failure = true;
	if (rq->scan_id != snapshot->id)
		leave(rq);
	rq->scan_id = snapshot->id;
	if (rq->failure)
		return rq->failure;
	rc = snaps_has_files(rq->mount->snaps, snapshot, &rq->want, &rq->err);
	if (rc < 0)
		return ops_repo_or_fetch(rq, rc);
	archive = find_child(rq, snapshot, archive_name);
	if (!archive || archive->kind != NODE_ARCHIVE)
		return -ENOENT;
	rc = ops_repo_open(rq, archive, tree);
	if (rc == 0)
		rc = tree_path(*tree, &rq->meta.base, path, &rq->entry, NULL, &rq->err);
	return rc == -ENOTDIR || rc == -EINVAL ? -ENOENT : rc;
}

static void put_acls(struct digest_ctx *ctx, const struct metadata_acl_list *list)
{
	digest_ctx_update(ctx, &list->count, sizeof(list->count));
	digest_ctx_update(ctx, list->items, list->count * sizeof(list->items[0]));
}

/* All that tells versions apart.  A folder's size and an item's place in the archive do not. */
static int describe_version(const struct tree_entry *e, struct digest *out)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	const struct metadata *m = &e->meta;
	const uint64_t numbers[] = { m->mode, m->flags, m->uid, m->gid, (uint64_t)m->mtime_sec,
				     m->mtime_nsec, e->content_size, e->device_major,
				     e->device_minor, m->has_acl_group_obj, m->acl_group_obj,
				     m->has_acl_default, m->acl_default.user_obj,
				     m->acl_default.group_obj, m->acl_default.other,
				     m->acl_default.mask, m->has_fcaps, m->has_quota_projid,
				     m->quota_projid, m->xattr_count,
				     e->is_hardlink ? 0 : e->text.size };

	if (!ctx)
		return -ENOMEM;
	digest_ctx_begin(ctx);
	digest_ctx_update(ctx, numbers, sizeof(numbers));
	if (!e->is_hardlink) /* then the text is the target's path */
		digest_ctx_update(ctx, e->text.data, e->text.size);
	digest_ctx_update(ctx, m->bytes.data, m->bytes.size);
	put_acls(ctx, &m->acl_users);
	put_acls(ctx, &m->acl_groups);
	put_acls(ctx, &m->acl_default_users);
	put_acls(ctx, &m->acl_default_groups);
	digest_ctx_end(ctx, out);
	return 0;
}

/* The snapshot of the group that is next in time behind `time`, or before it. */
static struct node *next_snapshot(struct request *rq, const struct node *group, int64_t time,
				  bool back)
{
	struct node *found = NULL;

	repo_tree_lock(tree_of(rq));
	for (struct node *i = group->first; i; i = i->next) {
		int64_t t = i->u.snapshot.time;

		if (i->kind != NODE_SNAPSHOT || (back ? t >= time : t <= time))
			continue;
		if (!found || (back ? t > found->u.snapshot.time : t < found->u.snapshot.time))
			found = i;
	}
	repo_tree_unlock(tree_of(rq));
	return found;
}

/* --- a look-up --- */

/* From a folder at `depth` below an archive's up to its group, and down to the folder meant. */
static int put_link_text(struct wbuf *out, const struct place *p, const struct node *snapshot)
{
	for (unsigned i = 0; i < p->depth + 2; i++)
		wbuf_put_text(out, "../");
	wbuf_printf(out, "%s/%s%s%s", snapshot->name, p->archive->name, p->depth ? "/" : "",
		    (const char *)p->path.data);
	wbuf_put_u8(out, '\0');
	return out->failed;
}

static int describe_link(struct request *rq, struct node *folder, const struct place *p,
			 const struct node *snapshot, struct fuse_entry_param *out)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(SESSION_TARGET_SIZE_MAX + 1);
	struct node *link = NULL;
	bool is_gone;

	if (put_link_text(&text, p, snapshot) < 0)
		return -ENAMETOOLONG;
	repo_tree_lock(tree_of(rq));
	is_gone = folder->is_gone || snapshot->is_gone;
	if (!is_gone)
		link = repo_tree_child(tree_of(rq), folder, snapshot->name);
	if (!is_gone && !link)
		link = repo_tree_add(tree_of(rq), folder, NODE_LINK, snapshot->name,
				     (const char *)text.data);
	if (link) {
		link->mtime_ns = snapshot->mtime_ns;
		ops_repo_stat(rq, link, out);
	}
	repo_tree_unlock(tree_of(rq));
	repo_tree_trim_versions(tree_of(rq), link);
	if (is_gone)
		return -ESTALE;
	return link ? 0 : -ENOMEM;
}

/* The version of a snapshot.  -ENOENT: the path is not in it. */
static int describe_time(struct request *rq, struct node *folder, const struct place *p,
			 struct node *snapshot, struct fuse_entry_param *out)
{
	const struct tree *tree;
	int rc = look(rq, snapshot, p->archive->name, (const char *)p->path.data, &tree);

	if (rc < 0)
		return rc;
	if (metadata_is_directory(&rq->entry.meta))
		return describe_link(rq, folder, p, snapshot, out);
	rc = ops_describe(rq, tree, out);
	repo_tree_lock(tree_of(rq));
	out->entry_timeout = repo_tree_timeout(tree_of(rq), snapshot);
	repo_tree_unlock(tree_of(rq));
	return rc;
}

/* A folder for an archive or a path, which is there in some snapshot. */
static int describe_folder(struct request *rq, struct node *folder, const char *name,
			   struct fuse_entry_param *out)
{
	struct node *child;
	bool is_gone;

	repo_tree_lock(tree_of(rq));
	is_gone = folder->is_gone;
	child = repo_tree_child(tree_of(rq), folder, name);
	if (!child)
		child = repo_tree_add(tree_of(rq), folder, NODE_VERSIONS, name, NULL);
	if (child)
		ops_repo_stat(rq, child, out);
	repo_tree_unlock(tree_of(rq));
	repo_tree_trim_versions(tree_of(rq), child);
	if (is_gone)
		return -ESTALE;
	return child ? 0 : -ENOMEM;
}

/* Whether the path is there in any snapshot, the newest first. */
static int find_anywhere(struct request *rq, const struct place *p, const char *archive,
			 const char *path)
{
	struct node *snapshot;
	const struct tree *tree;

	while ((snapshot = next_snapshot(rq, p->group, rq->scan_time, true))) {
		int rc = look(rq, snapshot, archive, path, &tree);

		if (rc == 0 || rc == -EAGAIN || rc == -ECANCELED || rc == -ENFILE || rc == -ENOMEM)
			return rc;
		leave(rq);
		rq->scan_time = snapshot->u.snapshot.time;
		if (rc != -ENOENT && rc != -ESTALE)
			rq->scan_failure = rc;
	}
	return rq->scan_failure ? rq->scan_failure : -ENOENT;
}

static bool is_archive_name(const char *name)
{
	size_t size = strlen(name);

	return size > 5 && strcmp(name + size - 5, ".pxar") == 0;
}

static int lookup_path(struct request *rq, struct node *folder, struct place *p,
		       struct fuse_entry_param *out)
{
	const char *name = (const char *)rq->name.data;
	int rc;

	if (!p->archive && !is_archive_name(name))
		return -ENOENT;
	if (find_child(rq, folder, name))
		return describe_folder(rq, folder, name, out);
	if (p->archive) {
		p->path.size--; /* its NUL */
		if (p->depth)
			wbuf_put_u8(&p->path, '/');
		wbuf_put(&p->path, name, rq->name.size);
		if (p->path.failed)
			return -ENAMETOOLONG;
	}
	rc = find_anywhere(rq, p, p->archive ? p->archive->name : name,
			   p->archive ? (const char *)p->path.data : "");
	return rc < 0 ? rc : describe_folder(rq, folder, name, out);
}

int ops_versions_lookup(struct request *rq, struct node *folder)
{
	AUTO(place) struct place p = { 0 };
	struct fuse_entry_param e;
	struct node *snapshot;
	int rc = find_place(folder, &p);

	if (rc < 0)
		return rc;
	snapshot = p.archive ? find_child(rq, p.group, (const char *)rq->name.data) : NULL;
	rc = -ENOENT;
	if (snapshot && snapshot->kind == NODE_SNAPSHOT)
		rc = describe_time(rq, folder, &p, snapshot, &e);
	else
		rc = lookup_path(rq, folder, &p, &e);
	if (rc == 0)
		reply_entry(rq, &e);
	return rc;
}

/* --- listing --- */

static uint64_t cookie_of(int64_t time)
{
	return (uint64_t)time + OPS_REPO_DOTS_COUNT;
}

/* The row of the version found last; false: the answer is full.  Without attributes: these need
 * a count of links that the walk over all snapshots would start in each of them. */
static bool put_version(struct request *rq, uint64_t cookie)
{
	struct fuse_entry_param e = { .attr.st_ino = INODE_UNKNOWN,
				      .attr.st_mode = rq->found_type };

	char name[SNAPSHOT_TIME_TEXT_SIZE];

	if (rq->found_time && (snapshot_time_format(rq->found_time, name) < 0 ||
			       !ops_put_row(rq, name, &e, cookie)))
		return false;
	rq->found_time = 0;
	return true;
}

/* A version is put down when the next one is found, or none: so that the last row can say that
 * there is nothing behind it, and nobody goes through all snapshots to learn that. */
static bool find_version(struct request *rq, const struct node *snapshot, bool is_readable)
{
	if (!put_version(rq, cookie_of(rq->found_time)))
		return false;
	rq->found_time = snapshot->u.snapshot.time;
	rq->found_type = 0;
	if (is_readable)
		rq->found_type = metadata_is_directory(&rq->entry.meta) ?
					 S_IFLNK :
					 (mode_t)(rq->entry.meta.mode & PXAR_MODE_TYPE);
	return true;
}

/* One more snapshot: 0, or 1 when the answer is full.  -EAGAIN and others. */
static int list_snapshot(struct request *rq, const struct place *p, struct node *snapshot)
{
	bool is_first = rq->offset == cookie_of(snapshot->u.snapshot.time);
	const struct tree *tree;
	struct digest version;
	int rc = look(rq, snapshot, p->archive->name, (const char *)p->path.data, &tree);

	if (rc == -EAGAIN || rc == -ECANCELED || rc == -ENFILE || rc == -ENOMEM)
		return rc;
	if (rc == 0)
		rc = describe_version(&rq->entry, &version);
	if (rc == -ENOMEM)
		return rc;
	if (rc == 0 && rq->has_version && digest_equal(&version, &rq->version)) {
		leave(rq);
		return 0;
	}
	/* `is_first`: it was listed by the answer before */
	if (!is_first && rc != -ENOENT && rc != -ESTALE && !find_version(rq, snapshot, rc == 0)) {
		leave(rq);
		return 1;
	}
	if (rc == 0) {
		rq->version = version;
		rq->has_version = true;
	} else if (rc != -ENOENT && rc != -ESTALE && !is_first) {
		log_warn("%s/%s, %s: %s", snapshot->name, p->archive->name,
			 (const char *)p->path.data, err_text(&rq->err, rc));
	}
	leave(rq);
	return 0;
}

static int list_times(struct request *rq, const struct place *p)
{
	struct node *snapshot;

	/* The last one that was listed is looked at again, to tell whether the next differs. */
	if (rq->scan_time == INT64_MAX)
		rq->scan_time = (int64_t)rq->offset - OPS_REPO_DOTS_COUNT - 1;
	while ((snapshot = next_snapshot(rq, p->group, rq->scan_time, false))) {
		int rc = list_snapshot(rq, p, snapshot);

		if (rc != 0)
			return rc < 0 ? rc : 0;
		rq->scan_time = snapshot->u.snapshot.time;
	}
	put_version(rq, COOKIE_END);
	return 0;
}

/* ".versions" itself: the archives of the newest snapshot. */
static int list_archives(struct request *rq, const struct place *p)
{
	struct node *snapshot = next_snapshot(rq, p->group, INT64_MAX, true), *node = NULL;
	int rc = snapshot ? snaps_has_files(rq->mount->snaps, snapshot, &rq->want, &rq->err) : 0;

	if (rc < 0 || !snapshot)
		return ops_repo_or_fetch(rq, rc);
	repo_tree_lock(tree_of(rq));
	while ((node = repo_tree_after(tree_of(rq), snapshot,
				       rq->offset - OPS_REPO_DOTS_COUNT))) {
		struct fuse_entry_param e = { .attr.st_ino = INODE_UNKNOWN,
					      .attr.st_mode = S_IFDIR };

		if (node->kind == NODE_ARCHIVE &&
		    !ops_put_row(rq, node->name, &e, node->id + OPS_REPO_DOTS_COUNT))
			break;
		rq->offset = node->id + OPS_REPO_DOTS_COUNT;
	}
	repo_tree_unlock(tree_of(rq));
	return 0;
}

int ops_versions_list(struct request *rq, struct node *folder)
{
	AUTO(place) struct place p = { 0 };
	int rc = find_place(folder, &p);

	if (rc < 0)
		return rc;
	if (!rq->out.size && !wbuf_reserve(&rq->out, rq->size))
		return -ENOMEM;
	for (; rq->offset < OPS_REPO_DOTS_COUNT; rq->offset++)
		if (!ops_put_dots(rq, rq->offset))
			break;
	if (rq->offset < COOKIE_END)
		rc = p.archive ? list_times(rq, &p) : list_archives(rq, &p);
	if (rc == 0)
		reply_bytes(rq, rq->out.data, rq->out.size);
	return rc;
}
