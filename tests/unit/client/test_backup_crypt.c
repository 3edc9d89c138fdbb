/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/client/crypt_fixture.h"

#include "archive/master_key.h"

static struct manifest *manifest_of(struct crypt_fixture *f, int64_t time, struct wbuf *text)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	struct manifest *m = NULL;
	size_t size;
	const void *data = fixture_file(f, time, MANIFEST_BLOB_NAME, &size);

	wbuf_clear(text);
	assert_int_equal(blob_decode(codec, data, size, MANIFEST_SIZE_MAX, text, NULL), 0);
	assert_int_equal(manifest_decode(text->data, text->size, &m, NULL), 0);
	return m;
}

static bool is_encrypted(const void *data, size_t size)
{
	enum blob_kind kind;

	assert_int_equal(blob_kind(data, size, &kind, NULL), 0);
	return blob_kind_is_encrypted(kind);
}

static void check_chunks(struct crypt_fixture *f, int64_t time, const char *index,
			 bool encrypted)
{
	struct didx ix = fixture_index(f, time, index);

	assert_true(ix.count > 0);
	for (size_t i = 0; i < ix.count; i++) {
		AUTO(wbuf) struct wbuf stored = WBUF_INIT(1 << 20);
		struct digest digest = fixture_digest(&ix, i);

		fixture_chunk(f, time, &digest, &stored);
		assert_int_equal(is_encrypted(stored.data, stored.size), encrypted);
	}
}

static uint64_t reused(struct crypt_fixture *f)
{
	return backup_stream(f->backup, 0)->stats.reused_chunks +
	       backup_stream(f->backup, 1)->stats.reused_chunks;
}

static uint64_t stored_anew(struct crypt_fixture *f)
{
	return backup_stream(f->backup, 0)->stats.new_chunks +
	       backup_stream(f->backup, 1)->stats.new_chunks;
}

/* --- what is made --- */

static void encrypts_chunks_and_blobs_and_signs(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	size_t size;

	fixture_run(f, 1000);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000, &text);

	assert_int_equal(m->file_count, 3);
	for (size_t i = 0; i < m->file_count; i++)
		assert_int_equal(m->files[i].crypt_mode, CRYPT_MODE_ENCRYPT);
	assert_int_equal(manifest_check_key(m, text.data, text.size, f->key, &f->err), 0);
	assert_int_equal(manifest_check_key(m, text.data, text.size, f->other, NULL),
			 -EKEYREJECTED);
	assert_int_equal(manifest_check_key(m, text.data, text.size, NULL, NULL), -ENOKEY);
	check_chunks(f, 1000, "root.pxar.pld.didx", true);
	check_chunks(f, 1000, "root.pxar.meta.didx", true);
	const void *blob = fixture_file(f, 1000, "etc.conf.blob", &size);

	assert_true(is_encrypted(blob, size));
	assert_string_equal(f->messages, "");
	assert_int_equal(fixture_read(f, 1000, f->key, &f->err), 0);
}

static void opens_its_blobs_with_the_key_alone(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(1000);
	size_t size;

	fixture_run(f, 1000);
	const void *blob = fixture_file(f, 1000, "etc.conf.blob", &size);

	assert_int_equal(blob_decode(codec, blob, size, 1000, &text, NULL), -ENOKEY);
	blob_codec_set_key(codec, f->other);
	assert_int_equal(blob_decode(codec, blob, size, 1000, &text, NULL), -EBADMSG);
	blob_codec_set_key(codec, f->key);
	assert_int_equal(blob_decode(codec, blob, size, 1000, &text, NULL), 0);
	assert_int_equal(text.size, 12);
	assert_memory_equal(text.data, "key = value\n", 12);
}

static void sign_only_stores_plain_and_signs(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	size_t size;

	fixture_use(f, CRYPT_MODE_SIGN_ONLY, f->key);
	fixture_run(f, 1000);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000, &text);

	for (size_t i = 0; i < m->file_count; i++)
		assert_int_equal(m->files[i].crypt_mode, CRYPT_MODE_SIGN_ONLY);
	assert_int_equal(manifest_check_key(m, text.data, text.size, f->key, &f->err), 0);
	check_chunks(f, 1000, "root.pxar.pld.didx", false);
	const void *blob = fixture_file(f, 1000, "etc.conf.blob", &size);

	assert_false(is_encrypted(blob, size));
	assert_int_equal(fixture_read(f, 1000, f->key, &f->err), 0);
}

static void encrypts_the_catalog_of_legacy_archives(void **state)
{
	struct crypt_fixture *f = *state;

	f->params.mode = BACKUP_MODE_LEGACY;
	wbuf_put_text(&f->wrapped, "some block");
	f->params.wrapped_key = &f->wrapped;
	fixture_run(f, 1000);
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000, &text);

	assert_int_equal(m->file_count, 4);
	assert_string_equal(m->files[0].name, "root.pxar.didx");
	assert_string_equal(m->files[1].name, "etc.conf.blob");
	assert_string_equal(m->files[2].name, "catalog.pcat1.didx");
	assert_string_equal(m->files[3].name, MASTER_KEY_BLOB_NAME);
	check_chunks(f, 1000, "root.pxar.didx", true);
	check_chunks(f, 1000, "catalog.pcat1.didx", true);
}

static void the_wrapped_key_comes_last_and_as_it_is(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	enum blob_kind kind;
	size_t size;

	/* Well compressible, which a blob of this name must not be. */
	for (int i = 0; i < 512; i++)
		wbuf_put_u8(&f->wrapped, 'x');
	f->params.wrapped_key = &f->wrapped;
	fixture_use(f, CRYPT_MODE_SIGN_ONLY, f->key);
	fixture_run(f, 1000);
	const uint8_t *blob = fixture_file(f, 1000, MASTER_KEY_BLOB_NAME, &size);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000, &text);

	assert_int_equal(size, BLOB_HEADER_SIZE + 512);
	assert_int_equal(blob_kind(blob, size, &kind, NULL), 0);
	assert_int_equal(kind, BLOB_PLAIN);
	assert_memory_equal(blob + BLOB_HEADER_SIZE, f->wrapped.data, 512);
	assert_string_equal(m->files[m->file_count - 1].name, MASTER_KEY_BLOB_NAME);
	assert_int_equal(m->files[m->file_count - 1].crypt_mode, CRYPT_MODE_SIGN_ONLY);
	assert_int_equal(m->files[m->file_count - 1].size, size);
}

static void a_dry_run_stores_nothing_encrypted_either(void **state)
{
	struct crypt_fixture *f = *state;

	fixture_run(f, 1000);
	size_t count = repo_memory_chunk_count(f->repo);

	f->params.dry_run = true;
	fixture_run(f, 2000);
	assert_int_equal(repo_memory_chunk_count(f->repo), count);
	assert_int_equal(stored_anew(f), 0); /* all of it is known */
	fixture_use(f, CRYPT_MODE_ENCRYPT, f->other);
	fixture_run(f, 2000);
	assert_int_equal(repo_memory_chunk_count(f->repo), count);
	assert_int_equal(reused(f), 0);
}

/* --- what is taken over --- */

static void the_same_key_reuses_all_chunks(void **state)
{
	struct crypt_fixture *f = *state;
	const struct repo_memory_match puts = { .call = REPO_MEMORY_PUT_CHUNK };

	fixture_run(f, 1000);
	repo_memory_forget_counts(f->repo);
	fixture_run(f, 2000);
	assert_int_equal(repo_memory_count(f->repo, &puts), 0);
	assert_int_equal(stored_anew(f), 0);
	assert_string_equal(f->messages, "");
	assert_int_equal(fixture_read(f, 2000, f->key, &f->err), 0);
}

static void expect_no_reuse(struct crypt_fixture *f, int64_t time, const char *message)
{
	fixture_run(f, time);
	assert_int_equal(reused(f), 0);
	if (!strstr(f->messages, message))
		fail_msg("'%s' does not say '%s'", f->messages, message);
	assert_int_equal(fixture_read(f, time, f->params.key, &f->err), 0);
}

static void another_way_of_making_it_reuses_nothing(void **state)
{
	struct crypt_fixture *f = *state;

	fixture_use(f, CRYPT_MODE_NONE, NULL);
	fixture_run(f, 1000);
	fixture_use(f, CRYPT_MODE_ENCRYPT, f->key);
	expect_no_reuse(f, 1001, "the previous snapshot is not used: it was made without a key");
	fixture_use(f, CRYPT_MODE_ENCRYPT, f->other);
	expect_no_reuse(f, 1002, "the previous snapshot is not used: wrong key");
	fixture_use(f, CRYPT_MODE_SIGN_ONLY, f->other);
	expect_no_reuse(f, 1003, "its crypt mode is encrypt, not sign-only");
	fixture_use(f, CRYPT_MODE_ENCRYPT, f->other);
	expect_no_reuse(f, 1004, "its crypt mode is sign-only, not encrypt");
	fixture_use(f, CRYPT_MODE_NONE, NULL);
	expect_no_reuse(f, 1005, "the previous snapshot is not used: missing key");
	fixture_use(f, CRYPT_MODE_SIGN_ONLY, f->key);
	expect_no_reuse(f, 1006, "the previous snapshot is not used: it was made without a key");
	/* And all of them are still what they were. */
	assert_int_equal(fixture_read(f, 1000, NULL, &f->err), 0);
	assert_int_equal(fixture_read(f, 1001, f->key, &f->err), 0);
	assert_int_equal(fixture_read(f, 1002, f->other, &f->err), 0);
}

static void names_stay_when_nothing_else_can_be_used(void **state)
{
	struct crypt_fixture *f = *state;

	f->params.names_given = true;
	f->params.names = ARCHIVE_NAMES_PBS;
	fixture_run(f, 1000);
	f->params.names_given = false;
	fixture_use(f, CRYPT_MODE_ENCRYPT, f->other);
	fixture_run(f, 1001);
	assert_int_equal(backup_names(f->backup), ARCHIVE_NAMES_PBS);
}

/* What somebody without the key can make of a manifest. */
static void store_manifest(struct crypt_fixture *f, int64_t time, struct manifest *m)
{
	const struct snapshot_name name = fixture_name(time);
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(MANIFEST_SIZE_MAX));

	assert_int_equal(manifest_encode(m, &text, NULL), 0);
	assert_int_equal(blob_encode(codec, text.data, text.size, true, &blob, NULL), 0);
	repo_memory_add_file(f->repo, &name, MANIFEST_BLOB_NAME, blob.data, blob.size);
}

static void a_changed_previous_manifest_is_not_believed(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);

	fixture_run(f, 1000);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000, &text);

	m->files[0].csum.bytes[7] ^= 1;
	store_manifest(f, 1000, m);
	expect_no_reuse(f, 1001, "the previous snapshot is not used: wrong signature");
}

static void a_stripped_signature_is_not_believed(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);

	fixture_run(f, 1000);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000, &text);

	free(m->signature);
	m->signature = NULL;
	store_manifest(f, 1000, m);
	expect_no_reuse(f, 1001, "the previous snapshot is not used: the manifest is not signed");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(encrypts_chunks_and_blobs_and_signs),
		TEST(opens_its_blobs_with_the_key_alone),
		TEST(sign_only_stores_plain_and_signs),
		TEST(encrypts_the_catalog_of_legacy_archives),
		TEST(the_wrapped_key_comes_last_and_as_it_is),
		TEST(a_dry_run_stores_nothing_encrypted_either),
		TEST(the_same_key_reuses_all_chunks),
		TEST(another_way_of_making_it_reuses_nothing),
		TEST(names_stay_when_nothing_else_can_be_used),
		TEST(a_changed_previous_manifest_is_not_believed),
		TEST(a_stripped_signature_is_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
