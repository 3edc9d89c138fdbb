/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every single bit of an encrypted snapshot, flipped: by accident, and by somebody who then puts
 * the checksums right that need no key.  Reading must fail each time, with a message.
 */
#include "tests/unit/client/crypt_fixture.h"

#include "archive/base/crc32.h"
#include "archive/base/le.h"
#include "tests/support/lib/repo_fill.h"

enum { TIME = 1000, STORED_MAX = 1 << 20, CRC_OFFSET = 8 };

static const char META[] = "root.pxar.meta.didx", PAYLOAD[] = "root.pxar.pld.didx";

static int set_up_encrypted(void **state)
{
	fixture_set_up(state);
	fixture_run(*state, TIME);
	return 0;
}

/* A writable copy of a stored file. */
static void copy_file(struct crypt_fixture *f, const char *name, struct wbuf *out)
{
	size_t size;
	const uint8_t *data = fixture_file(f, TIME, name, &size);

	assert_int_equal(wbuf_put(out, data, size), 0);
}

static void replace_file(struct crypt_fixture *f, const char *name, const struct wbuf *data)
{
	const struct snapshot_name snapshot = fixture_name(TIME);

	repo_memory_add_file(f->repo, &snapshot, name, data->data, data->size);
}

static void heal_crc(struct wbuf *blob, size_t header)
{
	le32_put(blob->data + CRC_OFFSET,
		 crc32_update(0, blob->data + header, blob->size - header));
}

static void expect_refusal(struct crypt_fixture *f, const char *what, size_t bit)
{
	struct err err = ERR_INIT;

	if (fixture_read(f, TIME, f->key, &err) >= 0)
		fail_msg("%s: bit %zu flipped, and nobody noticed", what, bit);
	assert_true(err.text[0]);
}

/* --- chunks --- */

/* Raw flips, and those behind the header with the CRC put right. */
static void try_chunk_bit(struct blob_codec *codec, const struct wbuf *good,
			  const struct digest *digest, size_t plain_size, size_t bit, bool heal)
{
	AUTO(wbuf) struct wbuf bad = WBUF_INIT(STORED_MAX);
	uint8_t plain[4096];
	struct err err = ERR_INIT;

	assert_true(plain_size <= sizeof(plain));
	assert_int_equal(wbuf_put(&bad, good->data, good->size), 0);
	bad.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	if (heal)
		heal_crc(&bad, BLOB_ENCRYPTED_HEADER_SIZE);
	if (blob_decode_chunk(codec, bad.data, bad.size, digest, plain, plain_size, &err) !=
		    -EBADMSG ||
	    !err.text[0])
		fail_msg("bit %zu of a chunk flipped, and nobody noticed", bit);
}

static void flip_all_of_chunks(struct crypt_fixture *f, const char *index, size_t *count)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	struct didx ix = fixture_index(f, TIME, index);
	uint64_t begin = 0;

	blob_codec_set_key(codec, f->key);
	for (size_t i = 0; i < ix.count; i++) {
		AUTO(wbuf) struct wbuf good = WBUF_INIT(STORED_MAX);
		struct digest digest;
		uint64_t end;

		didx_chunk(&ix, i, &begin, &end, &digest);
		fixture_chunk(f, TIME, &digest, &good);
		for (size_t bit = 0; bit < good.size * 8; bit++) {
			try_chunk_bit(codec, &good, &digest, (size_t)(end - begin), bit, false);
			if (bit >= 12 * 8)
				try_chunk_bit(codec, &good, &digest, (size_t)(end - begin), bit,
					      true);
			++*count;
		}
	}
}

static void every_bit_of_every_chunk_counts(void **state)
{
	struct crypt_fixture *f = *state;
	size_t count = 0;

	flip_all_of_chunks(f, META, &count);
	flip_all_of_chunks(f, PAYLOAD, &count);
	assert_true(count > 2 * 8 * BLOB_ENCRYPTED_HEADER_SIZE);
}

/* The whole way of a reader, one bit of each byte. */
static void flip_in_place(struct crypt_fixture *f, const char *index)
{
	struct didx ix = fixture_index(f, TIME, index);

	for (size_t i = 0; i < ix.count; i++) {
		AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
		struct digest digest = fixture_digest(&ix, i);

		fixture_chunk(f, TIME, &digest, &stored);
		for (size_t at = 0; at < stored.size; at++) {
			uint8_t good = stored.data[at];

			stored.data[at] ^= (uint8_t)(1 << at % 8);
			if (at >= BLOB_ENCRYPTED_HEADER_SIZE)
				heal_crc(&stored, BLOB_ENCRYPTED_HEADER_SIZE);
			repo_memory_add_chunk(f->repo, &digest, stored.data, stored.size);
			expect_refusal(f, index, at * 8 + at % 8);
			stored.data[at] = good;
		}
		heal_crc(&stored, BLOB_ENCRYPTED_HEADER_SIZE);
		repo_memory_add_chunk(f->repo, &digest, stored.data, stored.size);
	}
	assert_int_equal(fixture_read(f, TIME, f->key, &f->err), 0);
}

static void a_reader_of_a_damaged_chunk_is_told(void **state)
{
	flip_in_place(*state, META);
	flip_in_place(*state, PAYLOAD);
}

/* Another chunk of the same key, whole and well encrypted, in the place of the right one. */
static void a_chunk_in_the_place_of_another_is_refused(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	struct didx meta = fixture_index(f, TIME, META), payload = fixture_index(f, TIME, PAYLOAD);
	struct digest from = fixture_digest(&meta, 0), to = fixture_digest(&payload, 0);

	fixture_chunk(f, TIME, &from, &stored);
	repo_memory_add_chunk(f->repo, &to, stored.data, stored.size);
	expect_refusal(f, PAYLOAD, 0);
}

/* --- indexes --- */

/* Of the header the magic: nothing depends on its time, its uuid and its checksum, as that of the
 * entries is computed and held against the manifest. */
static bool index_byte_counts(size_t at)
{
	return at < sizeof(DIDX_MAGIC) || at >= DIDX_HEADER_SIZE;
}

static void flip_all_of_an_index(struct crypt_fixture *f, const char *name)
{
	AUTO(wbuf) struct wbuf good = WBUF_INIT(STORED_MAX);

	copy_file(f, name, &good);
	for (size_t bit = 0; bit < good.size * 8; bit++) {
		AUTO(wbuf) struct wbuf bad = WBUF_INIT(STORED_MAX);

		if (!index_byte_counts(bit / 8))
			continue;
		assert_int_equal(wbuf_put(&bad, good.data, good.size), 0);
		bad.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		replace_file(f, name, &bad);
		expect_refusal(f, name, bit);
	}
	replace_file(f, name, &good);
	assert_int_equal(fixture_read(f, TIME, f->key, &f->err), 0);
}

static void every_bit_of_the_indexes_counts(void **state)
{
	flip_all_of_an_index(*state, META);
	flip_all_of_an_index(*state, PAYLOAD);
}

/* --- manifest --- */

static void every_bit_of_the_stored_manifest_counts(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(STORED_MAX);

	copy_file(f, MANIFEST_BLOB_NAME, &blob);
	for (size_t bit = 0; bit < blob.size * 8; bit++) {
		blob.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		replace_file(f, MANIFEST_BLOB_NAME, &blob);
		expect_refusal(f, MANIFEST_BLOB_NAME, bit);
		blob.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* What of the text the signature cannot cover: the value of "unprotected", but for the key's
 * fingerprint in it, whose hexadecimal digits alone count (and not whether they are capitals). */
static bool text_byte_counts(const char *text, size_t at, size_t bit)
{
	static const char unprotected[] = "\"unprotected\": ", name[] = "\"key-fingerprint\": \"";
	const char *begin = strstr(text, unprotected) + strlen(unprotected);
	const char *named = strstr(text, name) + strlen(name);
	const char *p = text + at;

	if (p < begin)
		return true;
	if (p < named || p >= named + CRYPT_FINGERPRINT_TEXT_SIZE - 1 || *p == ':')
		return false;
	return bit != 5; /* 'a' and 'A' */
}

/* The text changed and stored as the blob that it should be. */
static void every_bit_of_the_signed_text_counts(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	AUTO(wbuf) struct wbuf text = WBUF_INIT(STORED_MAX);
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(STORED_MAX);
	size_t count = 0;

	copy_file(f, MANIFEST_BLOB_NAME, &stored);
	assert_int_equal(blob_decode(codec, stored.data, stored.size, STORED_MAX, &text, NULL), 0);
	AUTO(free) char *good = strndup((const char *)text.data, text.size);

	for (size_t bit = 0; bit < text.size * 8; bit++) {
		if (!text_byte_counts(good, bit / 8, bit % 8))
			continue;
		text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		wbuf_clear(&blob);
		assert_int_equal(blob_encode(codec, text.data, text.size, true, &blob, NULL), 0);
		replace_file(f, MANIFEST_BLOB_NAME, &blob);
		expect_refusal(f, "the manifest's text", bit);
		text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		count++;
	}
	assert_true(count > 4000);
}

/* --- a snapshot of somebody who has no key --- */

static void list_as_plain(struct crypt_fixture *f, const struct snapshot_name *theirs,
			  struct manifest *m, const char *name)
{
	struct didx ix = fixture_index(f, TIME, name);
	size_t size;
	const uint8_t *data = fixture_file(f, TIME, name, &size);

	repo_memory_add_file(f->repo, theirs, name, data, size);
	assert_int_equal(manifest_add_file(m, name, ix.size, &ix.csum, CRYPT_MODE_NONE, NULL), 0);
}

/* Its indexes are those of the encrypted one; its manifest says that they are of plain chunks. */
static void forge_plain_snapshot(struct crypt_fixture *f, const struct snapshot_name *name)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "test", name->time);

	list_as_plain(f, name, m, META);
	list_as_plain(f, name, m, PAYLOAD);
	repo_fill_manifest(f->repo, name, m);
}

static int read_through(struct crypt_fixture *f, struct fetch *fetch, int64_t time,
			const struct crypt_key *key, struct err *err)
{
	const struct snapshot_name name = fixture_name(time);
	AUTO(repo_reader) struct repo_reader *reader = NULL;
	AUTO(archive) struct archive *archive = NULL;
	struct stream *payload;
	uint8_t byte;
	int rc = repo_read(f->repo, &name, &reader, err);

	if (rc == 0)
		rc = archive_open(&archive, fetch, reader, key, "root.pxar", err);
	if (rc < 0)
		return rc;
	reader = NULL; /* the archive's now */
	rc = archive_payload(archive, &payload, err);
	if (rc == 0)
		rc = read_at_exact(stream_read_at(payload), &byte, 1, 0, err);
	return rc;
}

static void what_is_decrypted_in_memory_is_not_given_to_a_plain_index(void **state)
{
	struct crypt_fixture *f = *state;
	AUTO(chunk_cache) struct chunk_cache *cache = chunk_cache_new(1 << 20);
	AUTO(fetch) struct fetch *fetch = fetch_new(cache, 1);
	const struct snapshot_name forged = fixture_name(TIME + 1);
	const struct repo_memory_match chunks = { .call = REPO_MEMORY_GET_CHUNK };
	struct err err = ERR_INIT;

	forge_plain_snapshot(f, &forged);
	assert_int_equal(read_through(f, fetch, TIME, f->key, &err), 0);
	assert_int_equal(read_through(f, fetch, forged.time, NULL, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "the chunk is encrypted, its index is not"));
	/* and who has the key finds it there still */
	repo_memory_forget_counts(f->repo);
	assert_int_equal(read_through(f, fetch, TIME, f->key, &err), 0);
	assert_int_equal(repo_memory_count(f->repo, &chunks), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_encrypted, fixture_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_bit_of_every_chunk_counts),
		TEST(a_reader_of_a_damaged_chunk_is_told),
		TEST(a_chunk_in_the_place_of_another_is_refused),
		TEST(every_bit_of_the_indexes_counts),
		TEST(every_bit_of_the_stored_manifest_counts),
		TEST(every_bit_of_the_signed_text_counts),
		TEST(what_is_decrypted_in_memory_is_not_given_to_a_plain_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
