/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_archive_list - archives as plain files: list.
 */
#include "archive/base/grow.h"
#include "client/cmd/browse.h"
#include "client/cmd/cmd.h"
#include "client/cmd/listing.h"

#include <errno.h>
#include <string.h>

/* A folder that is being listed, with those above it below it on the stack. */
struct frame {
	struct browse_dir dir;
	size_t path_size; /* of the folder's own path */
};

struct list {
	struct browse browse;
	struct listing listing;
	struct frame *stack;
	size_t depth, capacity;
	struct wbuf path; /* "/a/b" and NUL; "" is the root */
};

static void list_release(struct list *l)
{
	while (l->depth)
		browse_dir_release(&l->stack[--l->depth].dir);
	free(l->stack);
	wbuf_release(&l->path);
	browse_release(&l->browse);
}
DEFINE_AUTO_STRUCT(list)

/* The path without the slash in front. */
static const char *list_path(const struct list *l)
{
	const char *path = (const char *)l->path.data;

	return *path ? path + 1 : path;
}

/* Make the path that of member `name` of the folder on top. */
static int set_path(struct list *l, size_t dir_path_size, const char *name)
{
	l->path.size = dir_path_size;
	if (name) {
		wbuf_put_u8(&l->path, '/');
		wbuf_put_text(&l->path, name);
	}
	return wbuf_put_u8(&l->path, 0);
}

static void print_entry(struct list *l)
{
	const struct tree_entry *e = &l->browse.entry;
	bool is_symlink = (e->meta.mode & PXAR_MODE_TYPE) == PXAR_MODE_SYMLINK;
	const char *path = (const char *)l->path.data;
	struct listing_row row;

	listing_row_of(e, &row);
	if (l->listing.format == LISTING_LONG)
		listing_measure(&l->listing, &row);
	listing_print(&l->listing, &row, *path ? path : "/", list_path(l),
		      is_symlink ? tree_entry_target(e) : NULL);
}

/* Put a folder on top whose path is the one at hand. */
static int push(struct list *l, const struct tree_dir *dir)
{
	int rc = grow(&l->stack, &l->capacity, l->depth + 1, PXAR_DEPTH_MAX, sizeof(*l->stack));

	if (rc < 0)
		return rc;
	if (browse_dir_open(&l->browse, dir, list_path(l), &l->stack[l->depth].dir))
		l->stack[l->depth++].path_size = l->path.size - 1;
	return 0;
}

/* The next member of the folder on top, or the end of it. */
static int step(struct list *l)
{
	struct frame *top = &l->stack[l->depth - 1];
	struct tree_dir sub;
	int rc = set_path(l, top->path_size, NULL);

	if (rc < 0)
		return rc;
	if (!browse_dir_next(&l->browse, &top->dir, list_path(l))) {
		browse_dir_release(&top->dir);
		l->depth--;
		return 0;
	}
	rc = set_path(l, top->path_size, tree_entry_name(&l->browse.entry));
	if (rc < 0)
		return rc;
	print_entry(l);
	if (metadata_is_directory(&l->browse.entry.meta) &&
	    browse_enter(&l->browse, list_path(l), &sub))
		rc = push(l, &sub);
	return rc;
}

static int list_archive(struct list *l, struct err *err)
{
	struct browse *b = &l->browse;
	struct tree_dir root;
	struct err damage = ERR_INIT;
	int rc = tree_dir_open(b->tree, b->meta, b->tree->meta_size, &root, err);

	if (rc == 0)
		rc = set_path(l, 0, NULL);
	if (rc < 0)
		return rc;
	rc = tree_dir_entry(b->tree, b->meta, &root, &b->entry, &damage);
	if (rc == 0)
		print_entry(l);
	else
		browse_report(b, NULL, NULL, &damage, rc);
	rc = push(l, &root);
	while (rc == 0 && l->depth)
		rc = step(l);
	if (rc == -E2BIG)
		return err_set(err, E2BIG, "/%.64s...: folders nested too deep", list_path(l));
	return rc;
}

/* The rows to come are not known: widths for most, widened by those that need more. */
static const struct listing_widths first_widths = { .owner = 8, .group = 8, .size = 10 };

static int run_list(const char *file, enum listing_format format, bool numeric_ids,
		    bool *is_damaged, struct err *err)
{
	AUTO(chunk_cache) struct chunk_cache *cache = chunk_cache_new(BROWSE_CACHE_SIZE);
	AUTO(fetch) struct fetch *fetch = cache ? fetch_new(cache, BROWSE_THREAD_COUNT) : NULL;
	AUTO(archive) struct archive *archive = NULL;
	AUTO(list) struct list l = { .path = WBUF_INIT(BROWSE_PATH_SIZE_MAX) };
	int rc = fetch ? archive_open_file(&archive, fetch, file, err) : -ENOMEM;

	if (rc == 0)
		rc = browse_init(&l.browse, archive, err);
	if (rc < 0)
		return rc;
	listing_init(&l.listing, format, numeric_ids);
	l.listing.widths = first_widths;
	rc = list_archive(&l, err);
	listing_finish(&l.listing);
	*is_damaged = l.browse.is_damaged;
	return rc < 0 ? err_wrap(err, rc, "%s", file) : 0;
}

static int list_run(const struct cmd *self, int argc, char **argv)
{
	bool json = false, is_long = false, numeric_ids = false;
	const struct opt table[] = {
		{ "long", 'l', OPT_FLAG, &is_long, NULL,
		  "mode, owner, group, size, time of change and link target too" },
		{ "numeric-ids", 0, OPT_FLAG, &numeric_ids, NULL,
		  "numbers instead of the names that owner and group have here" },
		CMD_OPT_OUTPUT_FORMAT(json),
		{ 0 },
	};
	struct err err = ERR_INIT;
	bool is_damaged = false;
	char **args;
	size_t count;
	int rc, status = opts_parse(self, table, argc, argv, 1, 1, &args, &count);

	if (status >= 0)
		return status;
	rc = run_list(args[0], json ? LISTING_JSON : is_long ? LISTING_LONG : LISTING_SHORT,
		      numeric_ids, &is_damaged, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	return is_damaged ? EXIT_FAILED : EXIT_DONE;
}

const struct cmd cmd_list = {
	.name = "list",
	.synopsis = "FILE",
	.summary = "List what an archive file holds, in its own order",
	.description = "FILE is a .pxar or .mpxar; the .ppxar is not needed.",
	.run = list_run,
};
