/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/browse.h"

#include "client/base/plural.h"
#include "client/cmd/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* After so many failures in a row it is not single members that are damaged but a chunk. */
enum { FAILURES_MAX = 8 };

/* Of a path and of a name in a message, which has room for what is wrong with them, too. */
enum { PART_SIZE_MAX = 1000, SHOWN_SIZE = 2 * (PART_SIZE_MAX + 5) };

int browse_init(struct browse *b, struct archive *archive, struct err *err)
{
	*b = (struct browse){ .archive = archive };
	tree_window_init(&b->window);
	tree_entry_init(&b->entry);
	b->meta = stream_read_at(archive_meta(archive));
	return archive_tree(archive, &b->tree, err);
}

void browse_release(struct browse *b)
{
	tree_window_release(&b->window);
	tree_entry_release(&b->entry);
}

/* `begin` and the text, "..." and the end of a long one.  Returns the length. */
static size_t put_end(char *out, const char *begin, const char *text)
{
	size_t size = strlen(text);
	bool is_long = size > PART_SIZE_MAX;

	return (size_t)sprintf(out, "%s%s%s", begin, is_long ? "..." : "",
			       is_long ? text + size - PART_SIZE_MAX : text);
}

/* "/PATH/NAME"; either may be NULL. */
static const char *put_path(char out[SHOWN_SIZE], const char *path, const char *name)
{
	size_t used = put_end(out, "/", path ? path : "");

	if (name)
		put_end(out + used, used > 1 ? "/" : "", name);
	return out;
}

void browse_report(struct browse *b, const char *path, const char *name, const struct err *err,
		   int rc)
{
	char shown[SHOWN_SIZE];

	b->is_damaged = true;
	log_error("%s: %s: %s", archive_display_name(b->archive), put_path(shown, path, name),
		  err_text(err, rc));
}

bool browse_dir_open(struct browse *b, const struct tree_dir *dir, const char *path,
		     struct browse_dir *out)
{
	AUTO(browse_dir) struct browse_dir d = { .dir = *dir };
	struct err err = ERR_INIT;
	int rc;

	d.slots = calloc((size_t)dir->member_count + 1, sizeof(*d.slots));
	rc = d.slots ? tree_dir_slots(b->tree, b->meta, dir, d.slots, &err) : -ENOMEM;
	if (rc < 0) {
		browse_report(b, path, NULL, &err, rc);
		return false;
	}
	*out = d;
	d.slots = NULL;
	return true;
}

void browse_dir_release(struct browse_dir *d)
{
	free(d->slots);
	d->slots = NULL;
}

static int read_member(struct browse *b, const struct browse_dir *d, size_t i, struct err *err)
{
	return tree_window_member(&b->window, b->tree, b->meta, &d->dir, d->slots,
				  (size_t)d->dir.member_count, i, &b->entry, err);
}

/* Between a member that cannot be read and the next that can there may lie a chunk full of
 * them, each of which would cost a fetch: find the end of the gap by doubled steps, then
 * halves. */
static size_t next_readable(struct browse *b, const struct browse_dir *d, size_t bad)
{
	size_t count = (size_t)d->dir.member_count, good = count, step = 1;

	while (bad + step < count) {
		if (read_member(b, d, bad + step, NULL) == 0) {
			good = bad + step;
			break;
		}
		bad += step;
		step *= 2;
	}
	while (good - bad > 1) {
		size_t middle = bad + (good - bad) / 2;

		if (read_member(b, d, middle, NULL) == 0)
			good = middle;
		else
			bad = middle;
	}
	return good;
}

static void skip_unreadable(struct browse *b, struct browse_dir *d, const char *path)
{
	size_t good = next_readable(b, d, d->next - 1);
	char shown[SHOWN_SIZE];

	if (good > d->next)
		log_error("%s: %s: %zu more member%s cannot be read",
			  archive_display_name(b->archive), put_path(shown, path, NULL),
			  good - d->next, plural(good - d->next));
	d->next = good;
	d->failures = 0;
}

bool browse_dir_next(struct browse *b, struct browse_dir *d, const char *path)
{
	while (d->next < d->dir.member_count) {
		struct err err = ERR_INIT;
		int rc = read_member(b, d, d->next++, &err);

		if (rc == 0) {
			d->failures = 0;
			return true;
		}
		browse_report(b, path, b->entry.name.size ? tree_entry_name(&b->entry) : NULL, &err,
			      rc);
		if (++d->failures == FAILURES_MAX)
			skip_unreadable(b, d, path);
	}
	return false;
}

bool browse_enter(struct browse *b, const char *path, struct tree_dir *out)
{
	struct err err = ERR_INIT;
	int rc = tree_member_dir(b->tree, b->meta, &b->entry, out, &err);

	if (rc < 0)
		browse_report(b, path, NULL, &err, rc);
	return rc == 0;
}

int browse_join(struct wbuf *out, const char *path, const char *name, struct err *err)
{
	wbuf_clear(out);
	wbuf_put_text(out, path);
	return browse_append(out, name, err);
}

int browse_append(struct wbuf *out, const char *name, struct err *err)
{
	if (out->size)
		wbuf_put_u8(out, '/');
	wbuf_put_text(out, name);
	if (wbuf_put_u8(out, 0) < 0)
		return err_set(err, -out->failed, out->failed == -E2BIG ? "path too long" :
									  "out of memory");
	return 0;
}
