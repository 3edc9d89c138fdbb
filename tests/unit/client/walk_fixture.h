/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_fixture - a tree on a real file system, walked into memory.
 *
 * Each test makes a tree below a folder of its own, which is the working directory while it
 * runs, archives it and looks at what came out.  `hook` is called before each write to the
 * metadata stream: there a test changes the tree under the walk's feet.
 */
#ifndef PXARFS_TESTS_WALK_FIXTURE_H
#define PXARFS_TESTS_WALK_FIXTURE_H

#include "archive/tree.h"
#include "client/fs/walk.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

struct fixture {
	char dir[64];
	struct wbuf meta, payload, warnings, events;
	size_t piece_max; /* largest write to the payload stream */
	struct walk_params params;
	struct walk_stats stats;
	struct match_list patterns;
	struct err err;
	size_t lost;
	void (*hook)(struct fixture *x, const void *data, size_t size);
	bool hooked;
	int sink_fails;
};

static inline int put_meta(void *arg, const void *data, size_t size, struct err *err)
{
	struct fixture *x = arg;

	if (x->sink_fails)
		return err_set(err, -x->sink_fails, "the sink is full");
	if (x->hook)
		x->hook(x, data, size);
	return wbuf_put(&x->meta, data, size);
}

static inline int put_payload(void *arg, const void *data, size_t size, struct err *err)
{
	struct fixture *x = arg;

	(void)err;
	if (size > x->piece_max)
		x->piece_max = size;
	return wbuf_put(&x->payload, data, size);
}

static inline void on_warning(void *arg, bool lost, const char *message)
{
	struct fixture *x = arg;

	x->lost += lost;
	wbuf_printf(&x->warnings, "%s\n", message);
}

static inline int set_up(void **state)
{
	static struct fixture x;

	x = (struct fixture){
		.dir = "/tmp/test-walk-XXXXXX",
		.meta = WBUF_INIT(256 << 20),
		.payload = WBUF_INIT(256 << 20),
		.warnings = WBUF_INIT(1 << 20),
		.events = WBUF_INIT(1 << 20),
	};
	x.params = (struct walk_params){
		.source = x.dir,
		.patterns = &x.patterns,
		.entries_max = WALK_ENTRIES_MAX_DEFAULT,
		.split = true,
		.encoder = { .meta = { put_meta, &x }, .payload = { put_payload, &x } },
		.warn = on_warning,
		.warn_arg = &x,
	};
	assert_non_null(mkdtemp(x.dir));
	assert_int_equal(chmod(x.dir, 0755), 0);
	assert_int_equal(chdir(x.dir), 0);
	*state = &x;
	return 0;
}

static inline int tear_down(void **state)
{
	struct fixture *x = *state;
	char command[200];

	snprintf(command, sizeof(command), "umount -l %s/mnt* 2>/dev/null; "
		 "rm -rf --one-file-system %s", x->dir, x->dir);
	assert_int_equal(chdir("/"), 0);
	assert_true(system(command) == 0);
	match_list_release(&x->patterns);
	wbuf_release(&x->meta);
	wbuf_release(&x->payload);
	wbuf_release(&x->warnings);
	wbuf_release(&x->events);
	return 0;
}

static inline void make_file(const char *path, const char *text)
{
	AUTO(file) FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
}

static inline void make_dir(const char *path)
{
	assert_int_equal(mkdir(path, 0755), 0);
}

static inline void make_socket(const char *path)
{
	AUTO(fd) int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (const void *)&address, sizeof(address)), 0);
}

static inline int run(struct fixture *x)
{
	int rc = walk_encode(&x->params, &x->stats, &x->err);

	wbuf_put_u8(&x->warnings, '\0');
	x->warnings.size--;
	assert_int_equal(x->lost, x->stats.skipped);
	return rc;
}

static inline void run_well(struct fixture *x)
{
	int rc = run(x);

	if (rc != 0)
		fail_msg("%s", err_text(&x->err, rc));
}

static inline bool has_warning(const struct fixture *x, const char *text)
{
	return strstr((const char *)x->warnings.data, text) != NULL;
}

/* 0, or -ENOENT. */
static inline int look_up(const struct fixture *x, const char *path, struct tree_entry *e)
{
	struct read_at_memory m;
	struct tree tree;

	read_at_memory_init(&m, x->meta.data, x->meta.size);
	assert_int_equal(tree_open(&tree, &m.base, NULL), 0);
	return tree_path(&tree, &m.base, path, e, NULL, NULL);
}

static inline void assert_archived(const struct fixture *x, const char *path, uint64_t mode)
{
	AUTO(tree_entry) struct tree_entry e;

	tree_entry_init(&e);
	if (look_up(x, path, &e) < 0)
		fail_msg("%s should be in the archive", path);
	assert_int_equal(e.meta.mode & PXAR_MODE_TYPE, mode);
}

static inline void assert_left_out(const struct fixture *x, const char *path)
{
	AUTO(tree_entry) struct tree_entry e;

	tree_entry_init(&e);
	if (look_up(x, path, &e) != -ENOENT)
		fail_msg("%s should not be in the archive", path);
}

static inline void assert_content(const struct fixture *x, const char *path, const void *text,
			   size_t size)
{
	AUTO(tree_entry) struct tree_entry e;

	tree_entry_init(&e);
	assert_int_equal(look_up(x, path, &e), 0);
	assert_int_equal(e.content_size, size);
	assert_true(e.content_offset + 16 + size <= x->payload.size);
	assert_memory_equal(x->payload.data + e.content_offset + 16, text, size);
}

/* The process shall get no further descriptor; what it may have otherwise. */
static inline struct rlimit take_descriptors_away(void)
{
	struct rlimit old, none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){ .rlim_cur = 1, .rlim_max = old.rlim_max }; /* standard input */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return old;
}

static inline void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
