/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/levels.h"

#include "archive/base/grow.h"
#include "client/fs/source_open.h"

#include <fcntl.h>
#include <string.h>

int levels_init(struct levels *s)
{
	*s = (struct levels){ .path = WBUF_INIT(SIZE_MAX) };
	if (wbuf_put_u8(&s->path, '\0') < 0)
		return s->path.failed;
	s->path.size = 0;
	return 0;
}

void levels_release(struct levels *s)
{
	while (s->depth)
		levels_pop(s);
	for (size_t i = 0; i < s->capacity; i++)
		listing_release(&s->items[i].names);
	free(s->items);
	wbuf_release(&s->path);
}

/* --- the path --- */

static void path_cut(struct levels *s, size_t size)
{
	s->path.size = size;
	s->path.data[size] = '\0';
}

int levels_path_set(struct levels *s, const char *name)
{
	s->path.size = levels_top(s)->path_size;
	wbuf_put_u8(&s->path, '/');
	if (wbuf_put(&s->path, name, strlen(name) + 1) < 0)
		return s->path.failed;
	s->path.size--;
	return 0;
}

void levels_path_reset(struct levels *s)
{
	path_cut(s, levels_top(s)->path_size);
}

/* --- down --- */

/* Room for one more; a new level's list of names is empty. */
static int grow_levels(struct levels *s)
{
	size_t old = s->capacity;
	int rc = grow(&s->items, &s->capacity, s->depth + 1, SIZE_MAX, sizeof(*s->items));

	if (s->capacity > old)
		memset(s->items + old, 0, (s->capacity - old) * sizeof(*s->items));
	return rc;
}

static void close_level(struct level *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

int levels_push(struct levels *s, int fd, const struct stat *st,
		const struct meta_features *features)
{
	struct level *l;

	if (grow_levels(s) < 0) {
		close(fd);
		return -ENOMEM;
	}
	l = &s->items[s->depth++];
	*l = (struct level){
		.fd = fd,
		.dev = st->st_dev,
		.ino = st->st_ino,
		.features = *features,
		.names = l->names, /* for its memory */
		.path_size = s->path.size,
	};
	/* The root stays open, so that there is always a way back. */
	if (s->depth > LEVELS_OPEN_MAX + 1)
		close_level(&s->items[s->depth - LEVELS_OPEN_MAX - 1]);
	return 0;
}

/* --- and up --- */

void levels_pop(struct levels *s)
{
	struct level *l = levels_top(s);

	listing_clear(&l->names);
	close_level(l);
	path_cut(s, l->path_size);
	s->depth--;
}

/* `fd` (or a negative errno) when it is the directory that we know. */
static int check_level(int fd, const struct level *l)
{
	AUTO(fd) int own = fd;
	struct stat st;

	if (fd == -ENOTDIR || fd == -ELOOP)
		return -ENOENT; /* something else in its place */
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_dev == l->dev && st.st_ino == l->ino ? steal_fd(&own) : -ENOENT;
}

/* Down to level `i` by the names, from the nearest level above that is open. */
static int open_from_above(const struct levels *s, size_t i)
{
	size_t at = i;
	int fd;

	while (s->items[at].fd < 0)
		at--;
	fd = fcntl(s->items[at].fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	for (at++; at <= i && fd >= 0; at++) {
		size_t begin = s->items[at - 1].path_size + 1;
		AUTO(free) char *name =
			strndup(levels_path(s) + begin, s->items[at].path_size - begin);
		AUTO(fd) int above = fd;

		fd = name ? source_open(above, name, true, NULL) : -ENOMEM;
	}
	return check_level(fd, &s->items[i]);
}

/* Keep what was opened; 0 or why it was not. */
static int keep_level(struct level *l, int fd)
{
	l->fd = fd >= 0 ? fd : -1;
	return fd >= 0 ? 0 : fd;
}

int levels_fd(struct levels *s)
{
	struct level *l = levels_top(s);
	int rc = l->fd < 0 ? keep_level(l, open_from_above(s, s->depth - 1)) : 0;

	return rc < 0 ? rc : l->fd;
}

static int open_above(const struct level *own)
{
	int fd = openat(own->fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 ? fd : -errno;
}

int levels_reopen_parent(struct levels *s)
{
	struct level *own = levels_top(s), *parent = own - 1;

	if (parent->fd < 0 && own->fd >= 0)
		keep_level(parent, check_level(open_above(own), parent));
	return parent->fd < 0 ? keep_level(parent, open_from_above(s, s->depth - 2)) : 0;
}
