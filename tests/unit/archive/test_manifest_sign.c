/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/blob.h"
#include "archive/keyfile.h"
#include "archive/manifest_sign.h"
#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct crypt_key *key_from(uint8_t first)
{
	uint8_t bytes[CRYPT_KEY_SIZE];
	struct crypt_key *key = NULL;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(first + i);
	assert_int_equal(crypt_key_new(&key, bytes, NULL), 0);
	return key;
}

static struct manifest *example(void)
{
	struct manifest *m = manifest_new("host", "elsa", 1593179765);
	struct digest ones, twos;

	memset(&ones, 1, sizeof(ones));
	memset(&twos, 2, sizeof(twos));
	assert_int_equal(manifest_add_file(m, "test1.img.fidx", 200, &ones, CRYPT_MODE_ENCRYPT,
					   NULL), 0);
	assert_int_equal(manifest_add_file(m, "abc.blob", 200, &twos, CRYPT_MODE_NONE, NULL), 0);
	return m;
}

static void signs_as_the_format_s_example(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = key_from(0);
	AUTO(manifest) struct manifest *m = example();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);

	(void)state;
	assert_int_equal(manifest_sign(m, key, NULL), 0);
	assert_string_equal(m->signature,
			    "9034ba9371746b0173222e4bcab78b58447348430a555bf296ed3ea94f80afef");
	assert_int_equal(manifest_encode(m, &text, NULL), 0);
	assert_int_equal(manifest_verify(text.data, text.size, key, NULL), 0);
}

static int verify_edited(const char *from, const char *to, struct err *err)
{
	AUTO(crypt_key) struct crypt_key *key = key_from(0);
	AUTO(manifest) struct manifest *m = example();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(wbuf) struct wbuf edited = WBUF_INIT(MANIFEST_SIZE_MAX);
	char *at;

	assert_int_equal(manifest_sign(m, key, NULL), 0);
	assert_int_equal(manifest_encode(m, &text, NULL), 0);
	assert_int_equal(wbuf_put_u8(&text, 0), 0);
	at = strstr((char *)text.data, from);
	assert_non_null(at);
	wbuf_put(&edited, text.data, (size_t)(at - (char *)text.data));
	wbuf_put_text(&edited, to);
	wbuf_put_text(&edited, at + strlen(from));
	return manifest_verify(edited.data, edited.size, key, err);
}

static void refuses_whatever_was_changed(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(verify_edited("elsa", "elsb", &err), -EBADMSG);
	assert_string_equal(err.text, "wrong signature in manifest");
	assert_int_equal(verify_edited("\"size\": 200", "\"size\": 201", &err), -EBADMSG);
	assert_int_equal(verify_edited("\"none\"", "\"encrypt\"", &err), -EBADMSG);
	assert_int_equal(verify_edited("\"backup-id\"", "\"extra\": 1, \"backup-id\"", &err),
			 -EBADMSG);
	assert_int_equal(verify_edited("9034ba", "9034bb", &err), -EBADMSG);
	/* white space and what is unprotected are not covered */
	assert_int_equal(verify_edited("  \"files\"", " \"files\"", &err), 0);
	assert_int_equal(verify_edited("\"unprotected\": {", "\"unprotected\": {\"notes\": \"x\",",
				       &err), 0);
}

/* There is no canonical form of null. */
static void refuses_a_null_in_what_is_signed(void **state)
{
	static const char *const values[] = { "null", "[1, null]", "{\"a\": {\"b\": null}}" };
	struct err err = ERR_INIT;
	char text[64];

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		snprintf(text, sizeof(text), "\"extra\": %s, \"backup-id\"", values[i]);
		assert_int_equal(verify_edited("\"backup-id\"", text, &err), -EBADMSG);
		assert_string_equal(err.text, "manifest: a null in what the signature covers");
		snprintf(text, sizeof(text), "\"unprotected\": {\"extra\": %s,", values[i]);
		assert_int_equal(verify_edited("\"unprotected\": {", text, &err), 0);
	}
}

static void tells_a_wrong_key_from_a_wrong_signature(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = key_from(0);
	AUTO(crypt_key) struct crypt_key *other = key_from(1);
	AUTO(manifest) struct manifest *m = example();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(manifest_check_fingerprint(m, NULL, &err), 0);
	assert_int_equal(manifest_sign(m, key, NULL), 0);
	assert_int_equal(manifest_encode(m, &text, NULL), 0);
	assert_int_equal(manifest_verify(text.data, text.size, other, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.text, "wrong key - unable to verify signature since"));
	assert_int_equal(manifest_check_fingerprint(m, key, &err), 0);
	assert_int_equal(manifest_check_fingerprint(m, other, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.text, "0e:ab:d4:46:0b:6e:b9:ca"));
	assert_int_equal(manifest_check_fingerprint(m, NULL, &err), -ENOKEY);
	assert_string_equal(err.text, "missing key - manifest was created with key "
				      "0e:ab:d4:46:0b:6e:b9:ca");
}

static void passes_a_manifest_without_a_signature(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = key_from(0);
	AUTO(manifest) struct manifest *m = example();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);

	(void)state;
	assert_int_equal(manifest_encode(m, &text, NULL), 0);
	assert_int_equal(manifest_verify(text.data, text.size, key, NULL), 0);
	assert_int_equal(manifest_verify("[]", 2, key, NULL), -EBADMSG);
}

static void verifies_and_remakes_every_golden_signature(void **state)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	struct golden tar = golden_read("tests/golden/datastore.tar");
	struct golden file = golden_read("tests/golden/keys/none.json");
	AUTO(crypt_key) struct crypt_key *key = NULL;
	struct golden_member member;
	unsigned verified = 0, other = 0;
	size_t offset = 0;
	struct keyfile k;

	(void)state;
	assert_int_equal(keyfile_decode(file.data, file.size, &k, NULL), 0);
	assert_int_equal(keyfile_open(&k, NULL, 0, &key, NULL), 0);
	while (golden_next(&tar, &offset, &member)) {
		AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
		AUTO(manifest) struct manifest *m = NULL;
		AUTO(free) char *signature = NULL;
		int rc;

		if (!golden_ends_with(member.name, MANIFEST_BLOB_NAME))
			continue;
		assert_int_equal(blob_decode(codec, member.data, member.size, MANIFEST_SIZE_MAX,
					     &text, NULL), 0);
		assert_int_equal(manifest_decode(text.data, text.size, &m, NULL), 0);
		if (!m->signature)
			continue;
		rc = manifest_verify(text.data, text.size, key, NULL);
		if (rc == -EKEYREJECTED) {
			other++;
			continue;
		}
		assert_int_equal(rc, 0);
		verified++;
		signature = strdup(m->signature);
		assert_int_equal(manifest_sign(m, key, NULL), 0);
		assert_string_equal(m->signature, signature);
	}
	assert_int_equal(verified, 3);
	assert_int_equal(other, 1);
	golden_free(&tar);
	golden_free(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signs_as_the_format_s_example),
		cmocka_unit_test(refuses_whatever_was_changed),
		cmocka_unit_test(refuses_a_null_in_what_is_signed),
		cmocka_unit_test(tells_a_wrong_key_from_a_wrong_signature),
		cmocka_unit_test(passes_a_manifest_without_a_signature),
		cmocka_unit_test(verifies_and_remakes_every_golden_signature),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
