/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_browse - look into a snapshot's archive without mounting it: ls.
 */
#include "archive/base/grow.h"
#include "client/cmd/browse.h"
#include "client/cmd/cmd.h"
#include "client/cmd/keys.h"
#include "client/cmd/listing.h"
#include "client/repo/archive_name.h"

#include <errno.h>
#include <string.h>

/* A member, kept until its folder is sorted and printed. */
struct item {
	struct listing_row row;
	size_t name_begin, target_begin; /* in ls.texts; target 0: none */
	uint64_t dir_end, entry_offset;
};

/* A folder yet to be printed.  They come depth first, so the path at hand still begins with that of
 * its parent then: paths of their own would take, where a long one has many folders behind it, much
 * more memory than the archive. */
struct pending {
	char *name; /* what was asked for: its whole path */
	size_t parent_size; /* of the parent's path, in ls.dir_path */
	uint64_t dir_end, entry_offset;
};

struct ls {
	struct browse browse;
	struct listing listing;
	bool recursive;
	bool has_printed; /* a folder, so the next is set off by an empty line */
	struct item *items; /* of the folder at hand */
	size_t count, capacity;
	struct wbuf texts;
	struct pending *stack; /* the next one last */
	size_t stack_count, stack_capacity;
	struct wbuf dir_path; /* of the folder at hand, with its NUL */
	struct wbuf path; /* of the member at hand */
};

static void ls_release(struct ls *ls)
{
	for (size_t i = 0; i < ls->stack_count; i++)
		free(ls->stack[i].name);
	free(ls->stack);
	free(ls->items);
	wbuf_release(&ls->texts);
	wbuf_release(&ls->dir_path);
	wbuf_release(&ls->path);
	browse_release(&ls->browse);
}
DEFINE_AUTO_STRUCT(ls)

static const char *text_at(const struct ls *ls, size_t begin)
{
	return (const char *)ls->texts.data + begin;
}

static const char *item_target(const struct ls *ls, const struct item *item)
{
	return item->target_begin ? text_at(ls, item->target_begin) : NULL;
}

static bool is_symlink(const struct tree_entry *e)
{
	return (e->meta.mode & PXAR_MODE_TYPE) == PXAR_MODE_SYMLINK;
}

/* Keep the entry at hand. */
static int add_item(struct ls *ls)
{
	const struct tree_entry *e = &ls->browse.entry;
	struct item *item;

	if (grow(&ls->items, &ls->capacity, ls->count + 1, SIZE_MAX, sizeof(*ls->items)) < 0)
		return -ENOMEM;
	item = &ls->items[ls->count];
	*item = (struct item){ .name_begin = ls->texts.size,
			       .dir_end = e->dir_end,
			       .entry_offset = e->entry_offset };
	listing_row_of(e, &item->row);
	wbuf_put(&ls->texts, e->name.data, e->name.size);
	if (is_symlink(e)) {
		item->target_begin = ls->texts.size;
		wbuf_put(&ls->texts, e->text.data, e->text.size);
	}
	ls->count++;
	return ls->texts.failed;
}

static int compare_names(const void *a, const void *b, void *arg)
{
	const struct item *ia = a, *ib = b;

	return strcmp(text_at(arg, ia->name_begin), text_at(arg, ib->name_begin));
}

/* Nearly every archive has its members sorted already. */
static void sort_items(struct ls *ls)
{
	for (size_t i = 1; i < ls->count; i++)
		if (compare_names(&ls->items[i - 1], &ls->items[i], ls) > 0) {
			qsort_r(ls->items, ls->count, sizeof(*ls->items), compare_names, ls);
			return;
		}
}

static void print_heading(struct ls *ls, const char *path)
{
	if (ls->listing.format == LISTING_JSON || !ls->recursive)
		return;
	printf(ls->has_printed ? "\n/" : "/");
	listing_print_name(&ls->listing, path);
	printf(":\n");
	ls->has_printed = true;
}

static int print_item(struct ls *ls, const struct item *item, const char *path, struct err *err)
{
	const char *name = text_at(ls, item->name_begin), *shown = name;

	if (ls->listing.format == LISTING_JSON) { /* nobody else shows it */
		int rc = browse_join(&ls->path, path, name, err);

		if (rc < 0)
			return rc;
		shown = (const char *)ls->path.data;
	}
	listing_print(&ls->listing, &item->row, name, shown, item_target(ls, item));
	return 0;
}

static int print_items(struct ls *ls, const char *path, struct err *err)
{
	int rc = 0;

	if (ls->listing.format == LISTING_LONG) {
		ls->listing.widths = (struct listing_widths){ 0 };
		for (size_t i = 0; i < ls->count; i++)
			listing_measure(&ls->listing, &ls->items[i].row);
	}
	for (size_t i = 0; i < ls->count && rc == 0; i++)
		rc = print_item(ls, &ls->items[i], path, err);
	return rc;
}

/* The folder `name` of the one whose path is the first `parent_size` bytes of the path at hand. */
static int push(struct ls *ls, const char *name, size_t parent_size, uint64_t dir_end,
		uint64_t entry_offset)
{
	char *copy;

	if (grow(&ls->stack, &ls->stack_capacity, ls->stack_count + 1, SIZE_MAX,
		 sizeof(*ls->stack)) < 0)
		return -ENOMEM;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	ls->stack[ls->stack_count++] =
		(struct pending){ copy, parent_size, dir_end, entry_offset };
	return 0;
}

/* The folder's sub-folders come next, in order. */
static int push_items(struct ls *ls, const char *path)
{
	size_t path_size = strlen(path);
	int rc = 0;

	for (size_t i = ls->count; i-- > 0 && rc == 0;) {
		const struct item *item = &ls->items[i];

		if (item->dir_end)
			rc = push(ls, text_at(ls, item->name_begin), path_size, item->dir_end,
				  item->entry_offset);
	}
	return rc;
}

static int list_dir(struct ls *ls, const char *path, const struct tree_dir *dir, struct err *err)
{
	AUTO(browse_dir) struct browse_dir d = { 0 };
	int rc = 0;

	print_heading(ls, path);
	if (!browse_dir_open(&ls->browse, dir, path, &d))
		return 0;
	ls->count = 0;
	wbuf_clear(&ls->texts);
	while (rc == 0 && browse_dir_next(&ls->browse, &d, path))
		rc = add_item(ls);
	if (rc < 0)
		return rc;
	sort_items(ls);
	rc = print_items(ls, path, err);
	if (rc == 0 && ls->recursive)
		rc = push_items(ls, path);
	return rc;
}

/* Make the path at hand that of a folder that was kept. */
static int go_to(struct ls *ls, const struct pending *next, struct err *err)
{
	ls->dir_path.size = next->parent_size;
	return browse_append(&ls->dir_path, next->name, err);
}

static int list_next(struct ls *ls, struct err *err)
{
	struct pending next = ls->stack[--ls->stack_count];
	AUTO(free) char *name = next.name;
	const char *path;
	struct tree_dir dir;
	int rc = go_to(ls, &next, err);

	if (rc < 0)
		return rc;
	path = (const char *)ls->dir_path.data;
	ls->browse.entry.dir_end = next.dir_end;
	ls->browse.entry.entry_offset = next.entry_offset;
	return browse_enter(&ls->browse, path, &dir) ? list_dir(ls, path, &dir, err) : 0;
}

/* "/a//./b/" -> "a/b" */
static int clean_path(const char *path, struct wbuf *out, struct err *err)
{
	wbuf_clear(out);
	while (*(path += strspn(path, "/"))) {
		size_t size = strcspn(path, "/");

		if (size != 1 || *path != '.') {
			if (out->size)
				wbuf_put_u8(out, '/');
			wbuf_put(out, path, size);
		}
		path += size;
	}
	if (wbuf_put_u8(out, 0) < 0)
		return err_set(err, -out->failed, "path too long");
	return 0;
}

static int list_path(struct ls *ls, const char *typed, struct err *err)
{
	struct tree_entry *e = &ls->browse.entry;
	const char *path;
	struct listing_row row;
	struct tree_dir dir;
	int rc = clean_path(typed, &ls->path, err);

	if (rc == 0)
		rc = tree_path(ls->browse.tree, ls->browse.meta, typed, e, &dir, err);
	if (rc)
		return err_wrap(err, rc, "%s", archive_display_name(ls->browse.archive));
	path = (const char *)ls->path.data;
	if (metadata_is_directory(&e->meta)) {
		rc = push(ls, path, 0, dir.end, dir.entry_offset);
		while (rc == 0 && ls->stack_count)
			rc = list_next(ls, err);
		return rc;
	}
	listing_row_of(e, &row);
	listing_measure(&ls->listing, &row);
	listing_print(&ls->listing, &row, typed, path, is_symlink(e) ? tree_entry_target(e) : NULL);
	return 0;
}

static int list_archive(struct ls *ls, struct archive *archive, enum listing_format format,
			bool numeric_ids, const char *path, struct err *err)
{
	int rc = browse_init(&ls->browse, archive, err);

	wbuf_init(&ls->texts, SIZE_MAX / 2);
	wbuf_init(&ls->dir_path, BROWSE_PATH_SIZE_MAX);
	wbuf_init(&ls->path, BROWSE_PATH_SIZE_MAX);
	if (rc < 0)
		return rc;
	listing_init(&ls->listing, format, numeric_ids);
	rc = list_path(ls, path, err);
	listing_finish(&ls->listing);
	return rc;
}

/* --- the command --- */

struct options {
	const char *repository, *ns;
	bool json, is_long, is_recursive, numeric_ids;
	enum listing_format format;
	struct keys_options keys;
};

static int run_ls(const struct options *o, struct repo *repo, const char *snapshot,
		  const char *name, const char *path, bool *is_damaged, struct err *err)
{
	AUTO(chunk_cache) struct chunk_cache *cache = chunk_cache_new(BROWSE_CACHE_SIZE);
	AUTO(fetch) struct fetch *fetch = cache ? fetch_new(cache, BROWSE_THREAD_COUNT) : NULL;
	AUTO(repo_reader) struct repo_reader *reader = NULL;
	AUTO(crypt_key) struct crypt_key *key = NULL;
	AUTO(archive) struct archive *archive = NULL;
	AUTO(ls) struct ls ls = { .recursive = o->is_recursive };
	struct snapshot_name which;
	int rc = fetch ? repo_resolve(repo, snapshot, o->ns, &which, err) : -ENOMEM;

	if (rc == 0)
		rc = repo_read(repo, &which, &reader, err);
	if (rc == 0)
		rc = keys_given(&o->keys, &key, err);
	if (rc == 0)
		rc = keys_open_archive(&archive, fetch, reader, &key, name, err);
	if (rc < 0)
		return rc;
	reader = NULL; /* the archive's now */
	rc = list_archive(&ls, archive, o->format, o->numeric_ids, path, err);
	*is_damaged = ls.browse.is_damaged;
	return rc;
}

static int ls_run(const struct cmd *self, int argc, char **argv)
{
	struct options o = { 0 };
	const struct opt table[] = {
		CMD_OPT_REPOSITORY(o.repository),
		CMD_OPT_NS(o.ns),
		KEYS_OPT_READ(o.keys),
		{ "long", 'l', OPT_FLAG, &o.is_long, NULL,
		  "mode, owner, group, size, time of change and link target too" },
		{ "recursive", 'R', OPT_FLAG, &o.is_recursive, NULL, "folders within folders too" },
		{ "numeric-ids", 0, OPT_FLAG, &o.numeric_ids, NULL,
		  "numbers instead of the names that owner and group have here" },
		CMD_OPT_OUTPUT_FORMAT(o.json),
		{ 0 },
	};
	AUTO(repo) struct repo *repo = NULL;
	struct err err = ERR_INIT;
	bool is_damaged = false;
	char **args;
	size_t count;
	int rc, status = opts_parse(self, table, argc, argv, 2, 3, &args, &count);

	if (status >= 0)
		return status;
	if (keys_check(&o.keys, &err) < 0)
		return opts_usage(self, "%s", err.text);
	status = opts_check(self, cmd_check_snapshot, args[0]);
	if (status < 0)
		status = opts_check(self, archive_name_check, args[1]);
	if (status < 0)
		status = cmd_open_repository(self, o.repository, &repo);
	if (status >= 0)
		return status;
	repo->warning = cmd_warn;
	o.format = o.json ? LISTING_JSON : o.is_long ? LISTING_LONG : LISTING_SHORT;
	rc = run_ls(&o, repo, args[0], args[1], count > 2 ? args[2] : "/", &is_damaged, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	return is_damaged ? EXIT_FAILED : EXIT_DONE;
}

const struct cmd cmd_ls = {
	.name = "ls",
	.synopsis = "SNAPSHOT ARCHIVE [PATH]",
	.summary = "List a folder of an archive without mounting it",
	.description = "Reads the archive's metadata alone.  SNAPSHOT is TYPE/ID/TIME,\n"
		       "TYPE/ID/latest or TYPE/ID, ARCHIVE is X.pxar.  Names are sorted; with -l a\n"
		       "'+' behind the mode stands for an ACL.",
	.run = ls_run,
};
