/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/catalog.h"

#include "archive/base/hex.h"
#include "archive/blob.h"
#include "archive/chunker.h"
#include "archive/didx.h"
#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { TEXT_SIZE_MAX = 64 << 20 };

static const char vector_hex[] =
	"91fd60f9c46758d50100100266036e6567ac02810070047069706520046605612e7478740580e2cfaa0664"
	"05656d707479136c026c6e6403737562111201640e726f6f742e707861722e64696478213c00000000000000";

static int sink(void *arg, const void *data, size_t size, struct err *err)
{
	struct wbuf *out = arg;

	return wbuf_put(out, data, size) < 0 ? err_sys(err, -out->failed, "sink") : 0;
}

static size_t vector_bytes(uint8_t *out)
{
	size_t size = strlen(vector_hex) / 2;

	assert_int_equal(hex_decode(vector_hex, out, size), 0);
	return size;
}

/* --- a walk as text: one line each, directories in braces --- */

static int text_begin(void *arg, const char *name, struct err *err)
{
	(void)err;
	return wbuf_printf(arg, "%s{ ", name);
}

static int text_end(void *arg, struct err *err)
{
	(void)err;
	return wbuf_put_text(arg, "} ");
}

static int text_entry(void *arg, char type, const char *name, uint64_t size, int64_t mtime,
		      struct err *err)
{
	(void)err;
	if (type == 'f')
		return wbuf_printf(arg, "f:%s:%llu:%lld ", name, (unsigned long long)size,
				   (long long)mtime);
	return wbuf_printf(arg, "%c:%s ", type, name);
}

static int walk_as_text(const void *data, size_t size, struct wbuf *out, struct err *err)
{
	struct catalog_visitor visitor = { text_begin, text_end, text_entry, out };
	struct catalog c;
	int rc = catalog_open(&c, data, size, err);

	if (rc == 0)
		rc = catalog_walk(&c, c.root, &visitor, err);
	wbuf_put_u8(out, '\0');
	return rc;
}

static void check_refused(const char *blocks_hex, uint64_t root, const char *why)
{
	AUTO(wbuf) struct wbuf file = WBUF_INIT(TEXT_SIZE_MAX);
	AUTO(wbuf) struct wbuf text = WBUF_INIT(TEXT_SIZE_MAX);
	size_t size = strlen(blocks_hex) / 2;
	struct err err = ERR_INIT;
	uint8_t bytes[256];

	assert_int_equal(hex_decode(blocks_hex, bytes, size), 0);
	wbuf_put(&file, CATALOG_MAGIC, sizeof(CATALOG_MAGIC));
	wbuf_put(&file, bytes, size);
	wbuf_put_u64(&file, root);
	assert_int_equal(walk_as_text(file.data, file.size, &text, &err), -EBADMSG);
	if (!strstr(err.text, why))
		fail_msg("'%s' lacks '%s'", err.text, why);
}

static void reads_the_vector(void **state)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(TEXT_SIZE_MAX);
	uint8_t bytes[128];
	size_t size = vector_bytes(bytes);

	(void)state;
	assert_int_equal(walk_as_text(bytes, size, &text, NULL), 0);
	assert_string_equal((char *)text.data,
			    "root.pxar.didx{ f:a.txt:5:1700000000 empty{ } l:ln "
			    "sub{ f:neg:300:-1 p:pipe } } ");
}

static void writes_the_vector(void **state)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(TEXT_SIZE_MAX);
	AUTO(catalog_writer) struct catalog_writer w;
	uint8_t bytes[128];
	size_t size = vector_bytes(bytes);

	(void)state;
	assert_int_equal(catalog_writer_init(&w, sink, &out, NULL), 0);
	assert_int_equal(catalog_writer_dir_begin(&w, "root.pxar.didx", NULL), 0);
	assert_int_equal(catalog_writer_entry(&w, 'f', "a.txt", 5, 1700000000, NULL), 0);
	assert_int_equal(catalog_writer_dir_begin(&w, "empty", NULL), 0);
	assert_int_equal(catalog_writer_dir_end(&w, NULL), 0);
	assert_int_equal(catalog_writer_entry(&w, 'l', "ln", 99, 99, NULL), 0);
	assert_int_equal(catalog_writer_dir_begin(&w, "sub", NULL), 0);
	assert_int_equal(catalog_writer_entry(&w, 'f', "neg", 300, -1, NULL), 0);
	assert_int_equal(catalog_writer_entry(&w, 'p', "pipe", 0, 0, NULL), 0);
	assert_int_equal(catalog_writer_dir_end(&w, NULL), 0);
	assert_int_equal(catalog_writer_dir_end(&w, NULL), 0);
	assert_int_equal(catalog_writer_finish(&w, NULL), 0);
	assert_int_equal(out.size, size);
	assert_memory_equal(out.data, bytes, size);
}

static void keeps_numbers_of_every_size(void **state)
{
	static const int64_t mtimes[] = { 0, 1, 127, 128, 300, -1, -127, -128, -300, -16384,
					  INT64_MAX, INT64_MIN, INT64_MIN + 1 };
	static const uint64_t sizes[] = { 0, 127, 128, 16383, 16384, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(mtimes) / sizeof(mtimes[0]); i++) {
		AUTO(wbuf) struct wbuf out = WBUF_INIT(TEXT_SIZE_MAX);
		AUTO(catalog_writer) struct catalog_writer w;
		struct catalog_entry entry;
		struct catalog_dir dir;
		struct catalog c;
		uint64_t size = sizes[i % 6];

		assert_int_equal(catalog_writer_init(&w, sink, &out, NULL), 0);
		assert_int_equal(catalog_writer_entry(&w, 'f', "x", size, mtimes[i], NULL), 0);
		assert_int_equal(catalog_writer_finish(&w, NULL), 0);
		assert_int_equal(catalog_open(&c, out.data, out.size, NULL), 0);
		assert_int_equal(catalog_dir_open(&c, c.root, &dir, NULL), 0);
		assert_int_equal(catalog_dir_next(&dir, &entry, NULL), 0);
		assert_true(entry.size == size && entry.mtime == mtimes[i]);
		assert_int_equal(catalog_dir_next(&dir, &entry, NULL), 1);
	}
}

/* Root at 8: table length, count, entries. */
static void refuses_numbers_that_are_too_long(void **state)
{
	(void)state;
	/* a size of 2^64 */
	check_refused("0f0166" "0178" "80808080808080808002" "00", 8, "ends inside an entry");
	/* a size in eleven bytes */
	check_refused("100166" "0178" "8080808080808080808000" "00", 8, "ends inside an entry");
	/* mtimes of 2^63, of -2^63 - 1, and without an end */
	check_refused("0f0166" "0178" "00" "80808080808080808001", 8, "ends inside an entry");
	check_refused("100166" "0178" "00" "8180808080808080808100", 8, "ends inside an entry");
	check_refused("110166" "0178" "00" "808080808080808080808000", 8, "ends inside an entry");
}

static void refuses_bad_names(void **state)
{
	(void)state;
	check_refused("03016c00", 8, "name is empty");
	check_refused("05016c02612f", 8, "name is empty or holds '/'");
	check_refused("05016c026100", 8, "or NUL");
	check_refused("04016c012e", 8, "'.' or '..'");
	check_refused("05016c022e2e", 8, "'.' or '..'");
	check_refused("05016c80206161", 8, "name too long");
	check_refused("06016c036161", 8, "cut off");
	check_refused("04016c036161", 8, "ends inside a name");
}

static void refuses_damaged_directories(void **state)
{
	(void)state;
	check_refused("00", 8, "cut off"); /* no table */
	check_refused("0100", 7, "root points outside");
	check_refused("0100", 10, "root points outside");
	check_refused("0100", UINT64_MAX, "root points outside");
	check_refused("0200", 8, "cut off");
	check_refused("ffffffffffffffffff01", 8, "cut off");
	check_refused("020000", 8, "bytes left over");
	check_refused("0101", 8, "ends before its last entry");
	check_refused("04017a0161", 8, "unknown type");
	check_refused("0401000161", 8, "unknown type");
}

static void refuses_directories_that_lie_outside(void **state)
{
	(void)state;
	check_refused("0100" "0501640161" "00", 10, "member lies outside"); /* itself */
	check_refused("0100" "0501640161" "03", 10, "member lies outside"); /* the magic */
}

/* Each level names the one below twice: 2^16 entries in 16 small blocks. */
static void refuses_directories_that_share_their_members(void **state)
{
	AUTO(wbuf) struct wbuf file = WBUF_INIT(TEXT_SIZE_MAX);
	AUTO(wbuf) struct wbuf text = WBUF_INIT(TEXT_SIZE_MAX);
	static const uint8_t first[] = { 1, 0 };
	struct err err = ERR_INIT;

	(void)state;
	wbuf_put(&file, CATALOG_MAGIC, sizeof(CATALOG_MAGIC));
	wbuf_put(&file, first, sizeof(first));
	for (uint8_t i = 0; i < 16; i++) {
		uint8_t distance = i == 0 ? 2 : 10;
		uint8_t block[] = { 9, 2, 'd', 1, 'a', distance, 'd', 1, 'b', distance };

		wbuf_put(&file, block, sizeof(block));
	}
	wbuf_put_u64(&file, file.size - 10);
	assert_int_equal(walk_as_text(file.data, file.size, &text, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "share their members"));
}

static void refuses_names_it_cannot_hold(void **state)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(TEXT_SIZE_MAX);
	AUTO(catalog_writer) struct catalog_writer w;
	char name[CATALOG_NAME_SIZE_MAX + 2];

	(void)state;
	memset(name, 'n', sizeof(name));
	name[CATALOG_NAME_SIZE_MAX + 1] = '\0';
	assert_int_equal(catalog_writer_init(&w, sink, &out, NULL), 0);
	assert_int_equal(catalog_writer_entry(&w, 'l', "", 0, 0, NULL), -EINVAL);
	assert_int_equal(catalog_writer_entry(&w, 'l', name, 0, 0, NULL), -EINVAL);
	assert_int_equal(catalog_writer_dir_begin(&w, name, NULL), -EINVAL);
	assert_int_equal(catalog_writer_entry(&w, 'd', "x", 0, 0, NULL), -EINVAL);
	assert_int_equal(catalog_writer_entry(&w, '\0', "x", 0, 0, NULL), -EINVAL);
	name[CATALOG_NAME_SIZE_MAX] = '\0';
	assert_int_equal(catalog_writer_entry(&w, 'l', name, 0, 0, NULL), 0);
	assert_int_equal(catalog_writer_finish(&w, NULL), 0);
}

static void passes_on_a_failing_sink(void **state)
{
	AUTO(wbuf) struct wbuf small = WBUF_INIT(8);
	AUTO(catalog_writer) struct catalog_writer w;
	AUTO(wbuf) struct wbuf none = WBUF_INIT(7);
	struct catalog_writer never;

	(void)state;
	assert_int_equal(catalog_writer_init(&never, sink, &none, NULL), -E2BIG);
	assert_int_equal(catalog_writer_init(&w, sink, &small, NULL), 0);
	assert_int_equal(catalog_writer_dir_begin(&w, "d", NULL), 0);
	assert_int_equal(catalog_writer_dir_end(&w, NULL), -E2BIG);
}

static void refuses_input_cut_at_every_byte(void **state)
{
	uint8_t bytes[128];
	size_t size = vector_bytes(bytes);

	(void)state;
	for (size_t cut = 0; cut < size; cut++) {
		AUTO(wbuf) struct wbuf text = WBUF_INIT(TEXT_SIZE_MAX);
		AUTO(free) uint8_t *exact = malloc(cut + 1);

		memcpy(exact, bytes, cut);
		assert_int_equal(walk_as_text(exact, cut, &text, NULL), -EBADMSG);
	}
}

static void survives_any_byte_changed(void **state)
{
	uint8_t bytes[128];
	size_t size = vector_bytes(bytes);

	(void)state;
	for (size_t at = 0; at < size; at++) {
		for (unsigned v = 0; v < 256; v++) {
			AUTO(wbuf) struct wbuf text = WBUF_INIT(TEXT_SIZE_MAX);
			AUTO(free) uint8_t *exact = malloc(size);
			int rc;

			memcpy(exact, bytes, size);
			exact[at] = (uint8_t)v;
			rc = walk_as_text(exact, size, &text, NULL);
			assert_true(rc == 0 || rc == -EBADMSG);
		}
	}
}

/* Decode a golden catalog and push what it holds through the writer. */
static bool rewrite(void *arg, const struct golden *tar, const struct golden_member *index)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf file = WBUF_INIT(TEXT_SIZE_MAX);
	AUTO(wbuf) struct wbuf out = WBUF_INIT(TEXT_SIZE_MAX);
	AUTO(catalog_writer) struct catalog_writer w = { 0 };
	struct catalog_visitor visitor = { catalog_writer_dir_begin, catalog_writer_dir_end,
					   catalog_writer_entry, &w };
	char hex[DIGEST_HEX_SIZE];
	struct golden_member m;
	uint64_t begin, end;
	struct catalog c;
	struct digest d;
	struct didx ix;

	(void)arg;
	if (!golden_ends_with(index->name, "/" CATALOG_INDEX_NAME))
		return false;
	assert_int_equal(catalog_writer_init(&w, sink, &out, NULL), 0);
	assert_int_equal(didx_open(&ix, index->data, index->size, NULL), 0);
	assert_int_equal(ix.count, 1);
	didx_chunk(&ix, 0, &begin, &end, &d);
	digest_to_hex(&d, hex);
	m = golden_find(tar, hex);
	if (blob_decode(codec, m.data, m.size, CHUNK_SIZE_MAX, &file, NULL) == -ENOKEY)
		return false;
	assert_int_equal(file.size, ix.size);
	assert_int_equal(catalog_open(&c, file.data, file.size, NULL), 0);
	assert_int_equal(catalog_walk(&c, c.root, &visitor, NULL), 0);
	assert_int_equal(catalog_writer_finish(&w, NULL), 0);
	assert_int_equal(out.size, file.size);
	assert_memory_equal(out.data, file.data, file.size);
	return true;
}

static void rewrites_every_golden_catalog(void **state)
{
	(void)state;
	assert_int_equal(golden_each(rewrite, NULL), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_vector),
		cmocka_unit_test(writes_the_vector),
		cmocka_unit_test(keeps_numbers_of_every_size),
		cmocka_unit_test(refuses_numbers_that_are_too_long),
		cmocka_unit_test(refuses_bad_names),
		cmocka_unit_test(refuses_damaged_directories),
		cmocka_unit_test(refuses_directories_that_lie_outside),
		cmocka_unit_test(refuses_directories_that_share_their_members),
		cmocka_unit_test(refuses_names_it_cannot_hold),
		cmocka_unit_test(passes_on_a_failing_sink),
		cmocka_unit_test(refuses_input_cut_at_every_byte),
		cmocka_unit_test(survives_any_byte_changed),
		cmocka_unit_test(rewrites_every_golden_catalog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
