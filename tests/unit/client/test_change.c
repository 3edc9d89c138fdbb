/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/change.h"

#include "archive/encoder.h"
#include "tests/support/lib/repo_fill.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { CHUNK = 256, DAY = 86400 };

/* --- an older archive, in memory --- */

struct bench {
	struct repo *repo;
	struct snapshot_name name;
	struct manifest *manifest;
	struct repo_reader *reader;
	struct wbuf meta, notes;
	struct encoder *encoder;
	struct metadata entry;
	struct change_params params;
	struct change *change;
};

static int put_meta(void *arg, const void *data, size_t size, struct err *err)
{
	(void)err;
	return wbuf_put(arg, data, size);
}

static int drop(void *arg, const void *data, size_t size, struct err *err)
{
	(void)arg;
	(void)data;
	(void)size;
	(void)err;
	return 0;
}

static void note(void *arg, const char *text)
{
	wbuf_printf(arg, "%s\n", text);
}

static void encode_begin(struct bench *b, bool split)
{
	const struct encoder_params params = {
		.meta = { put_meta, &b->meta },
		.payload = { split ? drop : NULL, NULL },
	};

	metadata_init(&b->entry);
	b->entry.mode = PXAR_MODE_DIRECTORY | 0755;
	assert_int_equal(encoder_new(&b->encoder, &params, &b->entry, NULL), 0);
}

static void dir_begin(struct bench *b, const char *name)
{
	b->entry.mode = PXAR_MODE_DIRECTORY | 0755;
	assert_int_equal(encoder_dir_begin(b->encoder, name, &b->entry, NULL), 0);
}

static void dir_end(struct bench *b)
{
	assert_int_equal(encoder_dir_end(b->encoder, NULL), 0);
}

/* A file whose mtime is DAY and `size` nanoseconds. */
static uint64_t file(struct bench *b, const char *name, uint64_t size)
{
	uint64_t offset;

	b->entry.mode = PXAR_MODE_REGULAR | 0644;
	b->entry.mtime_sec = DAY;
	b->entry.mtime_nsec = (uint32_t)size;
	assert_int_equal(encoder_file_begin(b->encoder, name, &b->entry, size, &offset, NULL), 0);
	for (; size; size--)
		assert_int_equal(encoder_file_write(b->encoder, "x", 1, NULL), 0);
	assert_int_equal(encoder_file_end(b->encoder, NULL), 0);
	return offset;
}

/*
 *	/a 10   /b/f 20   /b/g/h 30   /b/i 40   /b/j -> /b/f   /c (symlink)   /d/   /k -> /b/f
 *	/z 50
 */
static void encode_tree(struct bench *b)
{
	uint64_t f;

	file(b, "a", 10);
	dir_begin(b, "b");
	f = file(b, "f", 20);
	dir_begin(b, "g");
	file(b, "h", 30);
	dir_end(b);
	file(b, "i", 40);
	assert_int_equal(encoder_hardlink(b->encoder, "j", "b/f", f, NULL), 0);
	dir_end(b);
	b->entry.mode = PXAR_MODE_SYMLINK | 0777;
	assert_int_equal(encoder_symlink(b->encoder, "c", &b->entry, "t", NULL), 0);
	dir_begin(b, "d");
	dir_end(b);
	assert_int_equal(encoder_hardlink(b->encoder, "k", "b/f", f, NULL), 0);
	file(b, "z", 50);
}

static void store(struct bench *b, const char *name)
{
	assert_int_equal(encoder_finish(b->encoder, NULL), 0);
	repo_fill_stream(b->repo, &b->name, b->manifest, name, b->meta.data, b->meta.size, CHUNK);
	repo_fill_stream(b->repo, &b->name, b->manifest, "root.ppxar.didx", "nothing", 7, CHUNK);
	repo_fill_manifest(b->repo, &b->name, b->manifest);
	assert_int_equal(repo_read(b->repo, &b->name, &b->reader, NULL), 0);
	b->params = (struct change_params){
		.reader = b->reader,
		.manifest = b->manifest,
		.archive_name = name,
		.note = note,
		.note_arg = &b->notes,
	};
}

static int set_up(void **state)
{
	static struct bench b;

	b = (struct bench){
		.repo = repo_memory_new(),
		.name = repo_fill_name(),
		.meta = WBUF_INIT(1 << 20),
		.notes = WBUF_INIT(1 << 20),
	};
	b.manifest = manifest_new("host", "test", b.name.time);
	*state = &b;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *b = *state;

	change_free(b->change);
	repo_reader_free(b->reader);
	encoder_free(b->encoder);
	metadata_release(&b->entry);
	wbuf_release(&b->meta);
	wbuf_release(&b->notes);
	manifest_free(b->manifest);
	repo_free(b->repo);
	return 0;
}

static void open_tree(struct bench *b)
{
	struct err err = ERR_INIT;

	encode_begin(b, true);
	encode_tree(b);
	store(b, "root.mpxar.didx");
	if (change_new(&b->change, &b->params, &err) < 0)
		fail_msg("%s", err.text);
}

/* The live file as it was made above; its offset, or 0 when it counts as changed. */
static uint64_t find_as(struct bench *b, const char *name, struct stat st)
{
	uint64_t offset = 0;

	if (!change_find(b->change, name, &st, &offset))
		return 0;
	assert_true(offset != 0);
	return offset;
}

static struct stat live(off_t size)
{
	return (struct stat){ .st_mode = S_IFREG | 0600, .st_size = size,
			      .st_mtim = { .tv_sec = DAY, .tv_nsec = size },
			      .st_ctim = { .tv_sec = 2 * DAY } };
}

static uint64_t find(struct bench *b, const char *name, off_t size)
{
	return find_as(b, name, live(size));
}

enum { AT_A = 16, AT_F = AT_A + 26, AT_H = AT_F + 36, AT_I = AT_H + 46, AT_Z = AT_I + 56 };

static void finds_what_is_the_same(void **state)
{
	struct bench *b = *state;

	open_tree(b);
	assert_int_equal(find(b, "a", 10), AT_A);
	change_dir_begin(b->change, "b");
	assert_int_equal(find(b, "f", 20), AT_F);
	change_dir_begin(b->change, "g");
	assert_int_equal(find(b, "h", 30), AT_H);
	change_dir_end(b->change);
	assert_int_equal(find(b, "i", 40), AT_I);
	change_dir_end(b->change);
	change_dir_begin(b->change, "d");
	change_dir_end(b->change);
	assert_int_equal(find(b, "z", 50), AT_Z);
	assert_int_equal(b->notes.size, 0);
}

static void passes_over_what_is_gone_and_what_is_new(void **state)
{
	struct bench *b = *state;

	open_tree(b);
	assert_int_equal(find(b, "0new", 10), 0);
	change_dir_begin(b->change, "aa");
	assert_int_equal(find(b, "f", 20), 0);
	change_dir_begin(b->change, "g");
	assert_int_equal(find(b, "h", 30), 0);
	change_dir_end(b->change);
	change_dir_end(b->change);
	change_dir_begin(b->change, "b");
	assert_int_equal(find(b, "e", 20), 0);
	assert_int_equal(find(b, "i", 40), AT_I); /* f, and g with what is in it, are gone */
	assert_int_equal(find(b, "k", 50), 0);
	change_dir_end(b->change);
	assert_int_equal(find(b, "z", 50), AT_Z);
	assert_int_equal(find(b, "zz", 50), 0);
}

static void leaves_folders_that_were_not_looked_through(void **state)
{
	struct bench *b = *state;

	open_tree(b);
	change_dir_begin(b->change, "b");
	change_dir_begin(b->change, "g");
	change_dir_end(b->change);
	change_dir_end(b->change);
	assert_int_equal(find(b, "z", 50), AT_Z);
}

static void types_that_changed_are_not_the_same(void **state)
{
	struct bench *b = *state;

	open_tree(b);
	change_dir_begin(b->change, "a"); /* was a file */
	assert_int_equal(find(b, "a", 10), 0);
	change_dir_end(b->change);
	assert_int_equal(find(b, "b", 20), 0); /* was a folder */
	assert_int_equal(find(b, "c", 1), 0);
	change_dir_begin(b->change, "c");
	change_dir_end(b->change);
	assert_int_equal(find(b, "z", 50), AT_Z);
}

static void size_and_mtime_decide(void **state)
{
	struct bench *b = *state;
	struct stat st = live(10);

	open_tree(b);
	st.st_mode = S_IFREG | 04777;
	st.st_uid = 7;
	assert_int_equal(find_as(b, "a", st), AT_A);
	assert_int_equal(find_as(b, "a", st), AT_A);
	st.st_mtim.tv_nsec++;
	assert_int_equal(find_as(b, "a", st), 0);
	st = live(10);
	st.st_mtim.tv_sec--;
	assert_int_equal(find_as(b, "a", st), 0);
	st = live(10);
	st.st_size++;
	assert_int_equal(find_as(b, "a", st), 0);
}

static void ctime_decides_when_asked_to(void **state)
{
	struct bench *b = *state;
	struct stat st = live(10);

	open_tree(b);
	change_free(b->change);
	b->params.detect_ctime = true;
	b->params.since = 2 * DAY + 1;
	assert_int_equal(change_new(&b->change, &b->params, NULL), 0);
	assert_int_equal(find_as(b, "a", st), AT_A);
	st.st_ctim.tv_sec++;
	assert_int_equal(find_as(b, "a", st), 0);
}

static void further_names_lead_to_the_content(void **state)
{
	struct bench *b = *state;

	open_tree(b);
	change_dir_begin(b->change, "b");
	assert_int_equal(find(b, "j", 20), AT_F);
	change_dir_end(b->change);
	assert_int_equal(find(b, "k", 20), AT_F);
	assert_int_equal(find(b, "k", 21), 0);
}

static void damage_is_told_once_and_nothing_is_unchanged_from_there_on(void **state)
{
	struct bench *b = *state;
	struct repo_memory_fault fault = { .match = { .call = REPO_MEMORY_GET_CHUNK },
					   .damage = REPO_MEMORY_FLIP,
					   .value = 30 };
	const char *newline;

	encode_begin(b, true);
	encode_tree(b);
	for (int i = 0; i < 30; i++) {
		char name[30];

		snprintf(name, sizeof(name), "z%d", 100 + i);
		file(b, name, (uint64_t)i);
	}
	store(b, "root.mpxar.didx");
	assert_int_equal(change_new(&b->change, &b->params, NULL), 0);
	assert_int_equal(find(b, "a", 10), AT_A);
	repo_memory_add_fault(b->repo, &fault);
	for (int i = 0; i < 30; i++) {
		char name[30];

		snprintf(name, sizeof(name), "z%d", 100 + i);
		change_dir_begin(b->change, name);
		change_dir_end(b->change);
		find(b, name, i);
	}
	assert_int_equal(find(b, "z130", 30), 0);
	change_dir_begin(b->change, "zz");
	assert_int_equal(find(b, "z130", 30), 0);
	change_dir_end(b->change);
	if (b->notes.size) { /* it may have been read ahead in time */
		wbuf_put_u8(&b->notes, 0);
		newline = strchr((const char *)b->notes.data, '\n');
		assert_non_null(newline);
		assert_int_equal(newline[1], 0);
	}
}

static void every_damaged_chunk_is_survived(void **state)
{
	struct bench *b = *state;

	open_tree(b);
	for (size_t skip = 0; skip < 12; skip++) {
		const struct repo_memory_fault fault = {
			.match = { .call = REPO_MEMORY_GET_CHUNK },
			.damage = skip % 2 ? REPO_MEMORY_FAIL : REPO_MEMORY_FLIP,
			.value = skip % 2 ? EIO : 20,
			.skip = skip,
		};
		struct err err = ERR_INIT;

		change_free(steal(&b->change));
		repo_memory_heal(b->repo);
		repo_memory_add_fault(b->repo, &fault);
		if (change_new(&b->change, &b->params, &err) < 0) {
			assert_true(err.text[0]);
			continue;
		}
		find(b, "a", 10);
		change_dir_begin(b->change, "b");
		find(b, "f", 20);
		find(b, "j", 20);
		change_dir_end(b->change);
		find(b, "k", 20);
		find(b, "z", 50);
	}
}

static void refuses_single_streams_and_what_is_not_there(void **state)
{
	struct bench *b = *state;
	struct err err = ERR_INIT;

	encode_begin(b, false);
	encode_tree(b);
	store(b, "root.pxar.didx");
	assert_int_equal(change_new(&b->change, &b->params, &err), -EOPNOTSUPP);
	b->params.archive_name = "other.mpxar.didx";
	assert_int_equal(change_new(&b->change, &b->params, &err), -ENOENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(finds_what_is_the_same),
		TEST(passes_over_what_is_gone_and_what_is_new),
		TEST(leaves_folders_that_were_not_looked_through),
		TEST(types_that_changed_are_not_the_same),
		TEST(size_and_mtime_decide),
		TEST(ctime_decides_when_asked_to),
		TEST(further_names_lead_to_the_content),
		TEST(damage_is_told_once_and_nothing_is_unchanged_from_there_on),
		TEST(every_damaged_chunk_is_survived),
		TEST(refuses_single_streams_and_what_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
