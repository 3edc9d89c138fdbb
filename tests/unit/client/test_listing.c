/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/listing.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

/* Standard output, caught: what was printed since, NUL-terminated. */
static int caught_fd, kept_fd;

static int catch_output(void **state)
{
	(void)state;
	fflush(stdout);
	kept_fd = dup(STDOUT_FILENO);
	caught_fd = memfd_create("stdout", MFD_CLOEXEC);
	return kept_fd < 0 || caught_fd < 0 || dup2(caught_fd, STDOUT_FILENO) < 0;
}

static int release_output(void **state)
{
	(void)state;
	fflush(stdout);
	close(caught_fd);
	return dup2(kept_fd, STDOUT_FILENO) < 0 || close(kept_fd);
}

static void take_output(char *out, size_t size)
{
	ssize_t n;

	fflush(stdout);
	n = pread(caught_fd, out, size - 1, 0);
	assert_true(n >= 0);
	out[n] = '\0';
	assert_int_equal(ftruncate(caught_fd, 0), 0);
	assert_int_equal(lseek(caught_fd, 0, SEEK_SET), 0);
}

static void assert_printed(const char *expected)
{
	char text[4096];

	take_output(text, sizeof(text));
	assert_string_equal(text, expected);
}

static const struct listing_row file = {
	.mode = PXAR_MODE_REGULAR | 0644,
	.size = 5,
	.mtime_sec = -2,
	.mtime_nsec = 500000000,
	.uid = 4000000000,
	.gid = 7,
};

static void json_row_has_what_applies(void **state)
{
	struct listing_row device = { .mode = PXAR_MODE_CHAR | 0600,
				      .device_major = 1,
				      .device_minor = 3 };
	struct listing_row link = { .mode = PXAR_MODE_SYMLINK | 0777, .size = 1 };
	struct listing_row again = file;
	struct listing l;

	(void)state;
	again.is_hardlink = true;
	listing_init(&l, LISTING_JSON, false);
	listing_print(&l, &again, "a", "d/a", NULL);
	listing_print(&l, &device, "b", "d/b", NULL);
	listing_print(&l, &link, "c", "d/c", "x");
	listing_finish(&l);
	assert_printed("[\n"
		       "{\"path\": \"d/a\", \"type\": \"file\", \"mode\": \"100644\", "
		       "\"uid\": 4000000000, \"gid\": 7, \"mtime\": -2, "
		       "\"mtime_nsec\": 500000000, \"size\": 5, \"hardlink\": true},\n"
		       "{\"path\": \"d/b\", \"type\": \"char\", \"mode\": \"20600\", \"uid\": 0, "
		       "\"gid\": 0, \"mtime\": 0, \"mtime_nsec\": 0, \"rdev\": [1, 3]},\n"
		       "{\"path\": \"d/c\", \"type\": \"symlink\", \"mode\": \"120777\", "
		       "\"uid\": 0, \"gid\": 0, \"mtime\": 0, \"mtime_nsec\": 0, "
		       "\"target\": \"x\"}\n]\n");
}

static void json_of_nothing_is_an_empty_array(void **state)
{
	struct listing l;

	(void)state;
	listing_init(&l, LISTING_JSON, false);
	listing_finish(&l);
	assert_printed("[]\n");
}

/* Names, how JSON has them, how a terminal gets them. */
static const struct {
	const char *name, *json, *escaped;
} names[] = {
	{ "plain", "plain", "plain" },
	{ "a\"b\\c", "a\\\"b\\\\c", "a\"b\\134c" },
	{ "\n\x1b[1m\x7f", "\\u000a\\u001b[1m\\u007f", "\\012\\033[1m\\177" },
	{ "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80",
	  "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80" },
	{ "\xc2\x9b", "\\u009b", "\\302\\233" }, /* a C1 control: CSI */
	{ "\xff\xfe", "\\udcff\\udcfe", "\\377\\376" },
	{ "\xc3", "\\udcc3", "\\303" }, /* cut short */
	{ "\xe2\x82", "\\udce2\\udc82", "\\342\\202" },
	{ "\xc0\xaf", "\\udcc0\\udcaf", "\\300\\257" }, /* too long a form */
	{ "\xe0\x80\x80", "\\udce0\\udc80\\udc80", "\\340\\200\\200" },
	{ "\xf0\x80\x80\x80", "\\udcf0\\udc80\\udc80\\udc80", "\\360\\200\\200\\200" },
	{ "\xed\xa0\x80", "\\udced\\udca0\\udc80", "\\355\\240\\200" }, /* a surrogate */
	{ "\xf4\x90\x80\x80", "\\udcf4\\udc90\\udc80\\udc80", "\\364\\220\\200\\200" },
	{ "\x80x", "\\udc80x", "\\200x" },
};

static void every_name_survives(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char text[512], wanted[256];
		struct listing l;

		listing_init(&l, LISTING_JSON, false);
		listing_print(&l, &file, "", names[i].name, NULL);
		take_output(text, sizeof(text));
		snprintf(wanted, sizeof(wanted), "[\n{\"path\": \"%s\", ", names[i].json);
		assert_memory_equal(text, wanted, strlen(wanted));

		listing_init(&l, LISTING_SHORT, false);
		l.escapes = false;
		listing_print(&l, &file, names[i].name, "", NULL);
		snprintf(wanted, sizeof(wanted), "%s\n", names[i].name);
		assert_printed(wanted);
		l.escapes = true;
		listing_print_name(&l, names[i].name);
		assert_printed(names[i].escaped);
	}
}

static void long_form_shows_modes_as_ls_does(void **state)
{
	static const struct {
		uint64_t mode;
		const char *text;
	} modes[] = {
		{ PXAR_MODE_REGULAR | 0, "---------- " },
		{ PXAR_MODE_REGULAR | 04755, "-rwsr-xr-x " },
		{ PXAR_MODE_REGULAR | 06644, "-rwSr-Sr-- " },
		{ PXAR_MODE_DIRECTORY | 01777, "drwxrwxrwt " },
		{ PXAR_MODE_DIRECTORY | 03776, "drwxrwsrwT " },
		{ PXAR_MODE_SYMLINK | 0777, "lrwxrwxrwx " },
		{ PXAR_MODE_BLOCK | 0660, "brw-rw---- " },
		{ PXAR_MODE_FIFO | 0600, "prw------- " },
		{ PXAR_MODE_SOCKET | 0600, "srw------- " },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		struct listing_row row = { .mode = modes[i].mode };
		struct listing l;
		char text[256];

		listing_init(&l, LISTING_LONG, true);
		listing_print(&l, &row, "x", "x", NULL);
		take_output(text, sizeof(text));
		assert_memory_equal(text, modes[i].text, 11);
		row.has_acl = true;
		listing_print(&l, &row, "x", "x", NULL);
		take_output(text, sizeof(text));
		assert_int_equal(text[10], '+');
	}
}

static void long_form_aligns_what_was_measured(void **state)
{
	struct listing_row device = { .mode = PXAR_MODE_BLOCK | 0600,
				      .device_major = 4000000000,
				      .device_minor = 17 };
	struct listing l;

	(void)state;
	setenv("TZ", "UTC", 1);
	listing_init(&l, LISTING_LONG, true);
	listing_measure(&l, &file);
	listing_measure(&l, &device);
	listing_print(&l, &file, "a", "a", "t");
	listing_print(&l, &device, "b", "b", NULL);
	assert_printed("-rw-r--r--  4000000000 7              5 1969-12-31 23:59 a -> t\n"
		       "brw-------  0          0 4000000000, 17 1970-01-01 00:00 b\n");
}

static void long_form_survives_any_time(void **state)
{
	struct listing_row row = file;
	struct listing l;
	char text[256];

	(void)state;
	listing_init(&l, LISTING_LONG, true);
	for (unsigned i = 0; i < 64; i++) {
		row.mtime_sec = (int64_t)(UINT64_MAX << i);
		listing_print(&l, &row, "x", "x", NULL);
		row.mtime_sec = (int64_t)(UINT64_MAX >> (i + 1 < 64 ? i + 1 : 63));
		listing_print(&l, &row, "x", "x", NULL);
		take_output(text, sizeof(text));
		assert_non_null(strstr(text, " x\n"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(json_row_has_what_applies, catch_output,
						release_output),
		cmocka_unit_test_setup_teardown(json_of_nothing_is_an_empty_array, catch_output,
						release_output),
		cmocka_unit_test_setup_teardown(every_name_survives, catch_output, release_output),
		cmocka_unit_test_setup_teardown(long_form_shows_modes_as_ls_does, catch_output,
						release_output),
		cmocka_unit_test_setup_teardown(long_form_aligns_what_was_measured, catch_output,
						release_output),
		cmocka_unit_test_setup_teardown(long_form_survives_any_time, catch_output,
						release_output),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
