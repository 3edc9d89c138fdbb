/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/manifest.h"

#include "archive/blob.h"
#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CSUM "0101010101010101010101010101010101010101010101010101010101010101"
#define HEAD "\"backup-type\":\"host\",\"backup-id\":\"web1\",\"backup-time\":1800000000"
#define FILE_A "{\"filename\":\"a.blob\",\"size\":7,\"csum\":\"" CSUM "\"}"

static int decode(const char *text, struct manifest **out, struct err *err)
{
	return manifest_decode(text, strlen(text), out, err);
}

static void check_refused(const char *text, const char *why)
{
	AUTO(manifest) struct manifest *m = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(decode(text, &m, &err), -EBADMSG);
	assert_null(m);
	if (!strstr(err.text, why))
		fail_msg("'%s' lacks '%s'", err.text, why);
}

static struct digest ones(void)
{
	struct digest d;

	memset(d.bytes, 1, sizeof(d.bytes));
	return d;
}

static void reads_every_member(void **state)
{
	AUTO(manifest) struct manifest *m = NULL;
	struct digest expected = ones();

	(void)state;
	assert_int_equal(decode("{" HEAD ",\"files\":[" FILE_A
				",{\"filename\":\"b.didx\",\"crypt-mode\":\"sign-only\","
				"\"size\":9223372036854775807,\"csum\":\"" CSUM "\"}],"
				"\"signature\":\"" CSUM "\",\"unprotected\":{"
				"\"key-fingerprint\":\"aa:bb\",\"verify_state\":{\"state\":\"failed\"}}}",
				&m, NULL), 0);
	assert_string_equal(m->backup_type, "host");
	assert_string_equal(m->backup_id, "web1");
	assert_int_equal(m->backup_time, 1800000000);
	assert_int_equal(m->file_count, 2);
	assert_string_equal(m->files[0].name, "a.blob");
	assert_int_equal(m->files[0].size, 7);
	assert_int_equal(m->files[0].crypt_mode, CRYPT_MODE_NONE);
	assert_true(digest_equal(&m->files[0].csum, &expected));
	assert_int_equal(m->files[1].crypt_mode, CRYPT_MODE_SIGN_ONLY);
	assert_true(m->files[1].size == INT64_MAX);
	assert_string_equal(m->signature, CSUM);
	assert_string_equal(m->key_fingerprint, "aa:bb");
	assert_string_equal(m->verify_state, "failed");
}

static void reads_a_very_old_one_without_unprotected(void **state)
{
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(wbuf) struct wbuf out = WBUF_INIT(1 << 20);

	(void)state;
	assert_int_equal(decode("{" HEAD ",\"files\":[]}", &m, NULL), 0);
	assert_null(m->signature);
	assert_int_equal(manifest_encode(m, &out, NULL), 0);
	wbuf_put_u8(&out, 0);
	assert_string_equal((char *)out.data, "{\n"
					      "  \"backup-id\": \"web1\",\n"
					      "  \"backup-time\": 1800000000,\n"
					      "  \"backup-type\": \"host\",\n"
					      "  \"files\": [],\n"
					      "  \"signature\": null,\n"
					      "  \"unprotected\": {}\n"
					      "}");
}

static void writes_what_it_was_given(void **state)
{
	AUTO(manifest) struct manifest *m = manifest_new("ct", "7", 1);
	AUTO(manifest) struct manifest *again = NULL;
	AUTO(wbuf) struct wbuf out = WBUF_INIT(1 << 20);
	struct manifest_upload_stats stats = { 1, 2, 3, 4 };
	struct digest d = ones();

	(void)state;
	assert_int_equal(manifest_add_file(m, "a.pxar.didx", 5, &d, CRYPT_MODE_NONE, NULL), 0);
	assert_int_equal(manifest_add_file(m, "b.blob", 6, &d, CRYPT_MODE_ENCRYPT, NULL), 0);
	assert_int_equal(manifest_set_upload_stats(m, &stats, NULL), 0);
	assert_int_equal(manifest_encode(m, &out, NULL), 0);
	assert_int_equal(manifest_decode(out.data, out.size, &again, NULL), 0);
	assert_int_equal(again->file_count, 2);
	assert_int_equal(again->files[1].crypt_mode, CRYPT_MODE_ENCRYPT);
	wbuf_put_u8(&out, 0);
	assert_non_null(strstr((char *)out.data, "    \"chunk_upload_stats\": {\n"
						 "      \"compressed_size\": 3,\n"
						 "      \"count\": 1,\n"
						 "      \"duplicates\": 4,\n"
						 "      \"size\": 2\n"
						 "    }"));
}

static void refuses_to_add_bad_names(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", ".hidden", "-x", "a b", "\xc3\xa9" };
	AUTO(manifest) struct manifest *m = manifest_new("ct", "7", 1);
	struct digest d = ones();

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(manifest_add_file(m, bad[i], 5, &d, CRYPT_MODE_NONE, NULL),
				 -EBADMSG);
	assert_int_equal(manifest_add_file(m, "a.blob", 5, &d, CRYPT_MODE_NONE, NULL), 0);
	assert_int_equal(manifest_add_file(m, "a.blob", 5, &d, CRYPT_MODE_NONE, NULL), -EEXIST);
	assert_int_equal(m->file_count, 1);
}

static void compares_files_with_what_was_found(void **state)
{
	AUTO(manifest) struct manifest *m = NULL;
	struct digest d = ones();
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(decode("{" HEAD ",\"files\":[" FILE_A "]}", &m, NULL), 0);
	assert_int_equal(manifest_check(m, "a.blob", 7, &d, &err), 0);
	assert_int_equal(manifest_check(m, "b.blob", 7, &d, &err), -ENOENT);
	assert_string_equal(err.text, "manifest does not contain file 'b.blob'");
	assert_int_equal(manifest_check(m, "a.blob", 8, &d, &err), -EBADMSG);
	assert_string_equal(err.text, "wrong size for file 'a.blob' (7 != 8)");
	d.bytes[31] = 0;
	assert_int_equal(manifest_check(m, "a.blob", 7, &d, &err), -EBADMSG);
	assert_string_equal(err.text, "wrong checksum for file 'a.blob'");
}

static void refuses_missing_and_mistyped_members(void **state)
{
	(void)state;
	check_refused("[]", "not a JSON object");
	check_refused("{}", "lacks 'backup-type'");
	check_refused("{\"backup-type\":1}", "'backup-type' is not a string");
	check_refused("{\"backup-type\":\"host\"}", "lacks 'backup-id'");
	check_refused("{\"backup-type\":\"host\",\"backup-id\":\"x\"}", "lacks 'backup-time'");
	check_refused("{\"backup-type\":\"host\",\"backup-id\":\"x\",\"backup-time\":\"1\"}",
		      "'backup-time' is not an integer");
	check_refused("{\"backup-type\":\"host\",\"backup-id\":\"x\",\"backup-time\":1.0}",
		      "'backup-time' is not an integer");
	check_refused("{" HEAD "}", "'files' is not an array");
	check_refused("{" HEAD ",\"files\":{}}", "'files' is not an array");
	check_refused("{" HEAD ",\"files\":[1]}", "a file is not an object");
	check_refused("{" HEAD ",\"files\":[{}]}", "lacks 'filename'");
	check_refused("{" HEAD ",\"files\":[{\"filename\":\"a.blob\"}]}",
		      "file 'a.blob': lacks 'csum'");
	check_refused("{" HEAD ",\"files\":[{\"filename\":\"a.blob\",\"csum\":\"" CSUM "\"}]}",
		      "lacks 'size'");
	check_refused("{" HEAD ",\"files\":[],\"signature\":7}", "'signature' is not a string");
	check_refused("{" HEAD ",\"files\":[],\"signature\":\"7\"}",
		      "'signature' is not 64 hex digits");
	check_refused("{" HEAD ",\"files\":[],\"unprotected\":[]}",
		      "'unprotected' is not an object");
	check_refused("{" HEAD ",\"files\":[],\"unprotected\":{\"key-fingerprint\":1}}",
		      "'key-fingerprint' is not a string");
}

static void refuses_values_out_of_range(void **state)
{
	(void)state;
	check_refused("{\"backup-type\":\"pod\",\"backup-id\":\"x\",\"backup-time\":1}",
		      "unknown backup type 'pod'");
	check_refused("{\"backup-type\":\"host\",\"backup-id\":\"../x\",\"backup-time\":1}",
		      "bad backup id '../x'");
	check_refused("{\"backup-type\":\"host\",\"backup-id\":\"x\\u0000\",\"backup-time\":1}",
		      "'backup-id' is not free of NUL");
	check_refused("{\"backup-type\":\"host\",\"backup-id\":\"x\","
		      "\"backup-time\":253402300800}", "'backup-time' is not in range");
	check_refused("{" HEAD ",\"files\":[{\"filename\":\"a/b.blob\",\"size\":7,\"csum\":\"" CSUM
		      "\"}]}", "'a/b.blob' is no file name");
	check_refused("{" HEAD ",\"files\":[{\"filename\":\"\",\"size\":7,\"csum\":\"" CSUM
		      "\"}]}", "'' is no file name");
	check_refused("{" HEAD ",\"files\":[{\"filename\":\"a.blob\",\"size\":-1,\"csum\":\"" CSUM
		      "\"}]}", "'size' is not in range");
	check_refused("{" HEAD ",\"files\":[{\"filename\":\"a.blob\",\"size\":1,\"csum\":\"01\"}]}",
		      "'csum' is not 64 hex digits");
	check_refused("{" HEAD ",\"files\":[{\"filename\":\"a.blob\",\"size\":1,\"csum\":\"" CSUM
		      "\",\"crypt-mode\":\"rot13\"}]}", "unknown crypt mode 'rot13'");
	check_refused("{" HEAD ",\"files\":[" FILE_A "," FILE_A "]}", "lists 'a.blob' twice");
}

static void refuses_hostile_json(void **state)
{
	static const char start[] = "{\"unprotected\":";
	AUTO(free) char *deep = malloc(100000);
	AUTO(free) char *huge = calloc(1, MANIFEST_SIZE_MAX + 1);
	AUTO(manifest) struct manifest *m = NULL;
	struct err err = ERR_INIT;

	(void)state;
	check_refused("{" HEAD ",\"files\":[],\"files\":[]}", "duplicate");
	check_refused("{" HEAD ",\"files\":[]} x", "bad JSON");
	memset(deep, '[', 100000);
	memcpy(deep, start, strlen(start));
	assert_int_equal(manifest_decode(deep, 100000, &m, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "nested too deep"));
	assert_int_equal(manifest_decode(huge, MANIFEST_SIZE_MAX + 1, &m, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "too large"));
}

static void bounds_the_count_of_files(void **state)
{
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(manifest) struct manifest *none = NULL;
	struct err err = ERR_INIT;

	(void)state;
	for (int extra = 0; extra < 2; extra++) {
		AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);

		wbuf_put_text(&text, "{" HEAD ",\"files\":[");
		for (int i = 0; i < MANIFEST_FILE_COUNT_MAX + extra; i++)
			wbuf_printf(&text, "%s{\"filename\":\"%d.blob\",\"size\":1,\"csum\":\""
				    CSUM "\"}", i ? "," : "", i);
		wbuf_put_text(&text, "]}");
		assert_int_equal(text.failed, 0);
		if (!extra) {
			assert_int_equal(manifest_decode(text.data, text.size, &m, &err), 0);
			assert_int_equal(m->file_count, MANIFEST_FILE_COUNT_MAX);
		} else {
			assert_int_equal(manifest_decode(text.data, text.size, &none, &err), -E2BIG);
		}
	}
}

static void keeps_what_it_does_not_know_of_unprotected(void **state)
{
	static const char text[] = "{\n"
				   "  \"backup-id\": \"web1\",\n"
				   "  \"backup-time\": -5,\n"
				   "  \"backup-type\": \"host\",\n"
				   "  \"files\": [],\n"
				   "  \"signature\": null,\n"
				   "  \"unprotected\": {\n"
				   "    \"colour\": [\n"
				   "      1.5,\n"
				   "      {},\n"
				   "      []\n"
				   "    ],\n"
				   "    \"notes\": \"line \\\"1\\\"\\nline \xc3\xa9\\u0000\"\n"
				   "  }\n"
				   "}";
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(wbuf) struct wbuf out = WBUF_INIT(1 << 20);

	(void)state;
	assert_int_equal(decode(text, &m, NULL), 0);
	assert_int_equal(manifest_encode(m, &out, NULL), 0);
	assert_int_equal(out.size, strlen(text));
	assert_memory_equal(out.data, text, out.size);
}

static void remembers_that_content_was_lost_or_shrunk(void **state)
{
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(manifest) struct manifest *again = NULL;
	AUTO(wbuf) struct wbuf out = WBUF_INIT(1 << 20);

	(void)state;
	assert_int_equal(decode("{" HEAD ",\"files\":[],\"signature\":null,\"unprotected\":{"
				"\"pxarfs-lost-content\":1}}", &m, NULL), 0);
	assert_false(m->lost_content);
	assert_false(m->shrunk_content);
	assert_int_equal(manifest_set_lost_content(m, NULL), 0);
	assert_int_equal(manifest_set_shrunk_content(m, NULL), 0);
	assert_int_equal(manifest_encode(m, &out, NULL), 0);
	assert_int_equal(manifest_decode(out.data, out.size, &again, NULL), 0);
	assert_true(again->lost_content);
	assert_true(again->shrunk_content);
}

static void refuses_input_cut_at_every_byte(void **state)
{
	static const char text[] = "{" HEAD ",\"files\":[" FILE_A "],\"signature\":null,"
				   "\"unprotected\":{\"notes\":\"x\\ny\",\"n\":-1.5e3}}";
	AUTO(manifest) struct manifest *whole = NULL;

	(void)state;
	for (size_t cut = 0; cut < strlen(text); cut++) {
		AUTO(manifest) struct manifest *m = NULL;
		AUTO(free) char *exact = malloc(cut + 1);

		memcpy(exact, text, cut);
		assert_int_equal(manifest_decode(exact, cut, &m, NULL), -EBADMSG);
		assert_null(m);
	}
	assert_int_equal(decode(text, &whole, NULL), 0);
}

static bool rewrite(void *arg, const struct golden *tar, const struct golden_member *member)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(wbuf) struct wbuf again = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(manifest) struct manifest *m = NULL;

	(void)arg;
	(void)tar;
	if (!golden_ends_with(member->name, "/" MANIFEST_BLOB_NAME))
		return false;
	assert_int_equal(manifest_decode_blob(member->data, member->size, &text, &m, NULL), 0);
	assert_int_equal(manifest_encode(m, &again, NULL), 0);
	assert_int_equal(again.size, text.size);
	assert_memory_equal(again.data, text.data, text.size);
	return true;
}

static void rewrites_every_golden_manifest(void **state)
{
	(void)state;
	assert_int_equal(golden_each(rewrite, NULL), 14);
}

static void check_notes(const char *text, const char *notes, const char *wanted)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(manifest) struct manifest *m = NULL;
	size_t size;

	assert_int_equal(manifest_text_set_notes(text, strlen(text), notes, &out, NULL), 0);
	assert_int_equal(manifest_decode(out.data, out.size, &m, NULL), 0);
	const char *found = manifest_notes(m, &size);
	assert_int_equal(size, strlen(notes));
	if (size)
		assert_memory_equal(found, notes, size);
	assert_int_equal(wbuf_put_u8(&out, 0), 0);
	assert_non_null(strstr((const char *)out.data, wanted));
}

static void changes_notes_and_nothing_else(void **state)
{
	static const char rest[] = "{" HEAD ",\"files\":[],\"unknown\":{\"b\":1},\"unprotected\":";
	char text[512];

	(void)state;
	snprintf(text, sizeof(text), "%s{\"x\":2}}", rest);
	check_notes(text, "a\nb", "\"notes\": \"a\\nb\",\n    \"x\": 2\n");
	check_notes(text, "a", "\"unknown\": {\n    \"b\": 1\n  },");
	snprintf(text, sizeof(text), "%s{\"notes\":\"old\"}}", rest);
	check_notes(text, "", "\"unprotected\": {}");
	snprintf(text, sizeof(text), "%snull}", rest);
	check_notes(text, "new", "\"notes\": \"new\"");
	check_notes("{" HEAD ",\"files\":[]}", "new", "\"notes\": \"new\"");
}

static void refuses_notes_that_are_not_utf8_and_text_that_is_no_manifest(void **state)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(MANIFEST_SIZE_MAX);
	static const char text[] = "{" HEAD ",\"files\":[]}";

	(void)state;
	assert_int_equal(manifest_text_set_notes(text, strlen(text), "\xff", &out, NULL), -EINVAL);
	for (size_t size = 0; size < strlen(text); size++)
		assert_int_equal(manifest_text_set_notes(text, size, "a", &out, NULL), -EBADMSG);
	assert_int_equal(out.size, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_every_member),
		cmocka_unit_test(reads_a_very_old_one_without_unprotected),
		cmocka_unit_test(writes_what_it_was_given),
		cmocka_unit_test(refuses_to_add_bad_names),
		cmocka_unit_test(compares_files_with_what_was_found),
		cmocka_unit_test(refuses_missing_and_mistyped_members),
		cmocka_unit_test(refuses_values_out_of_range),
		cmocka_unit_test(refuses_hostile_json),
		cmocka_unit_test(bounds_the_count_of_files),
		cmocka_unit_test(keeps_what_it_does_not_know_of_unprotected),
		cmocka_unit_test(remembers_that_content_was_lost_or_shrunk),
		cmocka_unit_test(refuses_input_cut_at_every_byte),
		cmocka_unit_test(rewrites_every_golden_manifest),
		cmocka_unit_test(changes_notes_and_nothing_else),
		cmocka_unit_test(refuses_notes_that_are_not_utf8_and_text_that_is_no_manifest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
