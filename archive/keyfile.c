/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/keyfile.h"

#include "archive/base/ckd.h"
#include "archive/json_text.h"

#include <openssl/evp.h>

enum { BASE64_TEXT_SIZE_MAX = 1024 };

void keyfile_wipe(struct keyfile *k)
{
	crypt_wipe(k, sizeof(*k));
}

/* --- base64 --- */

/* Standard alphabet, with or without padding; returns the byte count or -EBADMSG. */
static int base64_decode(const char *text, uint8_t *out, size_t out_size)
{
	uint8_t padded[BASE64_TEXT_SIZE_MAX + 4], bytes[BASE64_TEXT_SIZE_MAX + 4];
	size_t size = strcspn(text, "=");
	size_t whole, count;

	if (size > BASE64_TEXT_SIZE_MAX || size % 4 == 1 || strlen(text + size) > 2 ||
	    strspn(text + size, "=") != strlen(text + size))
		return -EBADMSG;
	memcpy(padded, text, size);
	whole = (size + 3) / 4 * 4;
	memset(padded + size, '=', whole - size);
	count = whole / 4 * 3 - (whole - size);
	/* It passes over blanks at both ends, and gives that much less. */
	if (count > out_size || EVP_DecodeBlock(bytes, padded, (int)whole) != (int)(whole / 4 * 3))
		return -EBADMSG;
	memcpy(out, bytes, count);
	crypt_wipe(bytes, sizeof(bytes));
	crypt_wipe(padded, sizeof(padded));
	return (int)count;
}

static json_t *base64_json(const uint8_t *data, size_t size)
{
	char text[BASE64_TEXT_SIZE_MAX];
	json_t *json;

	EVP_EncodeBlock((unsigned char *)text, data, (int)size);
	json = json_string(text);
	crypt_wipe(text, sizeof(text));
	return json;
}

/* --- reading --- */

/* A member that must be a string of less than `size` bytes, without NUL or control characters.
 * 1: it is missing (or null). */
static int take_text(const json_t *object, const char *name, char *out, size_t size,
		     struct err *err)
{
	const json_t *value = json_object_get(object, name);
	const char *text;

	if (!value || json_is_null(value))
		return 1;
	if (!json_is_string(value) || json_string_length(value) >= size)
		return err_set(err, EBADMSG, "key file: '%s' is not a short string", name);
	text = json_string_value(value);
	for (size_t i = 0; i < json_string_length(value); i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return err_set(err, EBADMSG, "key file: control character in '%s'", name);
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

/* A member in base64; -EBADMSG also when it is missing, or a NUL ends it early. */
static int take_base64(const json_t *object, const char *name, uint8_t *out, size_t out_size)
{
	const json_t *value = json_object_get(object, name);
	const char *text = json_string_value(value);

	if (!text || strlen(text) != json_string_length(value))
		return -EBADMSG;
	return base64_decode(text, out, out_size);
}

static int take_number(const json_t *object, const char *name, uint64_t max, uint64_t *out,
		       struct err *err)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_integer(value) || json_integer_value(value) < 1 ||
	    (uint64_t)json_integer_value(value) > max)
		return err_set(err, EBADMSG, "key file: '%s' is not a number from 1 to %llu", name,
			       (unsigned long long)max);
	*out = (uint64_t)json_integer_value(value);
	return 0;
}

static int take_salt(const json_t *object, struct keyfile *k, struct err *err)
{
	int n = take_base64(object, "salt", k->salt, sizeof(k->salt));

	if (n < 1)
		return err_set(err, EBADMSG, "key file: bad salt");
	k->salt_size = (size_t)n;
	return 0;
}

/* scrypt takes 128 * r * (N + p) bytes and a little. */
static int check_scrypt(const struct keyfile *k, struct err *err)
{
	uint64_t memory;

	if (k->scrypt_n < 2 || (k->scrypt_n & (k->scrypt_n - 1)))
		return err_set(err, EBADMSG, "key file: scrypt 'n' is not a power of two");
	if (ckd_add(&memory, k->scrypt_n, k->scrypt_p) ||
	    ckd_mul(&memory, memory, 128 * k->scrypt_r) || memory > KEYFILE_SCRYPT_MEMORY_MAX)
		return err_set(err, EBADMSG, "key file: scrypt wants more than 1025 MiB of memory");
	return 0;
}

static int take_kdf(const json_t *kdf, struct keyfile *k, struct err *err)
{
	const json_t *scrypt = json_object_get(kdf, "Scrypt");
	const json_t *pbkdf2 = json_object_get(kdf, "PBKDF2");
	int rc;

	if (!kdf || json_is_null(kdf)) {
		k->kdf = KEYFILE_KDF_NONE;
		return 0;
	}
	if (json_is_object(scrypt) && json_object_size(kdf) == 1) {
		k->kdf = KEYFILE_KDF_SCRYPT;
		if ((rc = take_number(scrypt, "n", 1 << 30, &k->scrypt_n, err)) < 0 ||
		    (rc = take_number(scrypt, "r", 1 << 20, &k->scrypt_r, err)) < 0 ||
		    (rc = take_number(scrypt, "p", KEYFILE_SCRYPT_P_MAX, &k->scrypt_p, err)) < 0 ||
		    (rc = check_scrypt(k, err)) < 0)
			return rc;
		return take_salt(scrypt, k, err);
	}
	if (json_is_object(pbkdf2) && json_object_size(kdf) == 1) {
		k->kdf = KEYFILE_KDF_PBKDF2;
		rc = take_number(pbkdf2, "iter", KEYFILE_PBKDF2_ITERATIONS_MAX,
				 &k->pbkdf2_iterations, err);
		return rc < 0 ? rc : take_salt(pbkdf2, k, err);
	}
	return err_set(err, EBADMSG, "key file: unknown key derivation");
}

static int take_data(const json_t *object, struct keyfile *k, struct err *err)
{
	size_t wanted = k->kdf == KEYFILE_KDF_NONE ? CRYPT_KEY_SIZE : KEYFILE_SEALED_SIZE;
	int n = take_base64(object, "data", k->data, sizeof(k->data));

	if (n < 0 || (size_t)n != wanted)
		return err_set(err, EBADMSG, "key file: 'data' is not %zu bytes in base64", wanted);
	k->data_size = wanted;
	return 0;
}

static int take_members(const json_t *object, struct keyfile *k, struct err *err)
{
	char fingerprint[4 * DIGEST_SIZE] = "";
	int rc;

	if ((rc = take_kdf(json_object_get(object, "kdf"), k, err)) < 0 ||
	    (rc = take_data(object, k, err)) < 0 ||
	    (rc = take_text(object, "created", k->created, sizeof(k->created), err)) < 0 ||
	    (rc = take_text(object, "modified", k->modified, sizeof(k->modified), err)) < 0 ||
	    (rc = take_text(object, "hint", k->hint, sizeof(k->hint), err)) < 0 ||
	    (rc = take_text(object, "fingerprint", fingerprint, sizeof(fingerprint), err)) < 0)
		return rc;
	k->has_fingerprint = rc == 0;
	if (k->has_fingerprint && crypt_fingerprint_parse(fingerprint, &k->fingerprint) < 0)
		return err_set(err, EBADMSG, "key file: bad fingerprint");
	return 0;
}

int keyfile_decode(const void *text, size_t size, struct keyfile *out, struct err *err)
{
	AUTO(json) json_t *json = NULL;
	struct keyfile k = { 0 };
	int rc;

	if (size > KEYFILE_SIZE_MAX)
		return err_set(err, EBADMSG, "key file: larger than %d bytes", KEYFILE_SIZE_MAX);
	rc = json_text_decode(text, size, &json, err);
	if (rc < 0)
		return err_wrap(err, rc, "key file");
	if (!json_is_object(json))
		return err_set(err, EBADMSG, "key file: not a JSON object");
	rc = take_members(json, &k, err);
	if (rc == 0)
		*out = k;
	keyfile_wipe(&k);
	return rc;
}

/* --- writing --- */

static json_t *kdf_json(const struct keyfile *k)
{
	switch (k->kdf) {
	case KEYFILE_KDF_SCRYPT:
		return json_pack("{s:{s:I,s:I,s:I,s:o}}", "Scrypt", "n", (json_int_t)k->scrypt_n,
				 "r", (json_int_t)k->scrypt_r, "p", (json_int_t)k->scrypt_p, "salt",
				 base64_json(k->salt, k->salt_size));
	case KEYFILE_KDF_PBKDF2:
		return json_pack("{s:{s:I,s:o}}", "PBKDF2", "iter",
				 (json_int_t)k->pbkdf2_iterations, "salt",
				 base64_json(k->salt, k->salt_size));
	case KEYFILE_KDF_NONE:
		break;
	}
	return json_null();
}

int keyfile_encode(const struct keyfile *k, bool pretty, struct wbuf *out, struct err *err)
{
	size_t flags = JSON_PRESERVE_ORDER | (pretty ? JSON_INDENT(2) : JSON_COMPACT);
	AUTO(json) json_t *json = json_pack("{s:o,s:s,s:s,s:o}", "kdf", kdf_json(k), "created",
					    k->created, "modified", k->modified, "data",
					    base64_json(k->data, k->data_size));
	char fingerprint[CRYPT_FINGERPRINT_TEXT_SIZE];
	char *text;
	int rc = json ? 0 : -1;

	if (rc == 0 && k->has_fingerprint) {
		crypt_fingerprint_text(&k->fingerprint, fingerprint);
		rc = json_object_set_new(json, "fingerprint", json_string(fingerprint));
	}
	if (rc == 0 && k->hint[0])
		rc = json_object_set_new(json, "hint", json_string(k->hint));
	text = rc == 0 ? json_dumps(json, flags) : NULL;
	if (!text)
		return err_set(err, ENOMEM, "no memory for a key file");
	rc = wbuf_put_text(out, text);
	crypt_wipe(text, strlen(text));
	free(text);
	return rc < 0 ? err_set(err, -rc, "no room for a key file") : 0;
}

/* --- passphrases --- */

static int derive(const struct keyfile *k, const void *passphrase, size_t size,
		  uint8_t key[CRYPT_KEY_SIZE], struct err *err)
{
	int ok;

	if (size < KEYFILE_PASSPHRASE_SIZE_MIN)
		return err_set(err, EINVAL, "the passphrase is too short to be right");
	if (k->kdf == KEYFILE_KDF_SCRYPT)
		ok = EVP_PBE_scrypt(passphrase, size, k->salt, k->salt_size, k->scrypt_n,
				    k->scrypt_r, k->scrypt_p, KEYFILE_SCRYPT_MEMORY_MAX, key,
				    CRYPT_KEY_SIZE);
	else
		ok = PKCS5_PBKDF2_HMAC(passphrase, (int)size, k->salt, (int)k->salt_size,
				       (int)k->pbkdf2_iterations, EVP_sha256(), CRYPT_KEY_SIZE,
				       key);
	return ok == 1 ? 0 : err_set(err, ENOMEM, "deriving a key from the passphrase failed");
}

/* Seal or open the 32 key bytes under a passphrase; `crypt` wants its own kind of key. */
static int passphrase_key(const struct keyfile *k, const void *passphrase, size_t size,
			  struct crypt_key **out, struct err *err)
{
	uint8_t derived[CRYPT_KEY_SIZE];
	int rc = derive(k, passphrase, size, derived, err);

	if (rc == 0)
		rc = crypt_key_new(out, derived, err);
	crypt_wipe(derived, sizeof(derived));
	return rc;
}

static int unseal(const struct keyfile *k, const void *passphrase, size_t passphrase_size,
		  uint8_t enc_key[CRYPT_KEY_SIZE], struct err *err)
{
	AUTO(crypt_key) struct crypt_key *wrapping = NULL;
	AUTO(crypt_cipher) struct crypt_cipher *cipher = crypt_cipher_new();
	const uint8_t *iv = k->data, *tag = iv + CRYPT_IV_SIZE, *sealed = tag + CRYPT_TAG_SIZE;
	int rc;

	if (!cipher)
		return err_set(err, ENOMEM, "no memory to open a key file");
	rc = passphrase_key(k, passphrase, passphrase_size, &wrapping, err);
	if (rc < 0)
		return rc;
	rc = crypt_open(cipher, wrapping, iv, tag, sealed, CRYPT_KEY_SIZE, enc_key, err);
	if (rc == -EBADMSG && k->hint[0])
		return err_set(err, EKEYREJECTED, "wrong passphrase (hint: %s)", k->hint);
	if (rc == -EBADMSG)
		return err_set(err, EKEYREJECTED, "wrong passphrase");
	return rc;
}

int keyfile_open(const struct keyfile *k, const void *passphrase, size_t passphrase_size,
		 struct crypt_key **out, struct err *err)
{
	AUTO(crypt_key) struct crypt_key *key = NULL;
	uint8_t enc_key[CRYPT_KEY_SIZE];
	int rc = 0;

	if (k->kdf == KEYFILE_KDF_NONE)
		memcpy(enc_key, k->data, CRYPT_KEY_SIZE);
	else
		rc = unseal(k, passphrase, passphrase_size, enc_key, err);
	if (rc == 0)
		rc = crypt_key_new(&key, enc_key, err);
	crypt_wipe(enc_key, sizeof(enc_key));
	if (rc < 0)
		return rc;
	if (k->has_fingerprint && !digest_equal(&k->fingerprint, crypt_key_fingerprint(key)))
		return err_set(err, EKEYREJECTED, "key file contains wrong fingerprint");
	*out = steal(&key);
	return 0;
}

static int seal(struct keyfile *k, const struct crypt_key *key, const void *passphrase,
		size_t passphrase_size, const struct keyfile_random *random, struct err *err)
{
	AUTO(crypt_key) struct crypt_key *wrapping = NULL;
	AUTO(crypt_cipher) struct crypt_cipher *cipher = crypt_cipher_new();
	uint8_t *iv = k->data, *tag = iv + CRYPT_IV_SIZE, *sealed = tag + CRYPT_TAG_SIZE;
	int rc;

	if (!cipher)
		return err_set(err, ENOMEM, "no memory to seal a key file");
	memcpy(k->salt, random->salt, KEYFILE_SALT_SIZE);
	k->salt_size = KEYFILE_SALT_SIZE;
	k->scrypt_n = KEYFILE_SCRYPT_N;
	k->scrypt_r = KEYFILE_SCRYPT_R;
	k->scrypt_p = KEYFILE_SCRYPT_P;
	k->pbkdf2_iterations = KEYFILE_PBKDF2_ITERATIONS;
	rc = passphrase_key(k, passphrase, passphrase_size, &wrapping, err);
	if (rc < 0)
		return rc;
	memcpy(iv, random->iv, CRYPT_IV_SIZE);
	k->data_size = KEYFILE_SEALED_SIZE;
	return crypt_seal(cipher, wrapping, iv, crypt_key_bytes(key), CRYPT_KEY_SIZE, sealed, tag,
			  err);
}

/* Characters, not bytes: a UTF-8 sequence's later bytes do not count. */
static bool hint_fits(const char *hint)
{
	size_t count = 0;

	for (const char *p = hint; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
		count += (*p & 0xc0) != 0x80;
	}
	return count >= 1 && count <= KEYFILE_HINT_SIZE_MAX &&
	       json_text_is_utf8(hint, strlen(hint));
}

int keyfile_check_hint(enum keyfile_kdf kdf, const char *hint, struct err *err)
{
	if (hint && kdf == KEYFILE_KDF_NONE)
		return err_set(err, EINVAL, "a password hint needs a passphrase (kdf is none)");
	if (hint && !hint_fits(hint))
		return err_set(err, EINVAL, "a password hint has 1 to %d characters in UTF-8, none "
			       "of them a control character", KEYFILE_HINT_SIZE_MAX);
	return 0;
}

int keyfile_seal(struct keyfile *out, const struct crypt_key *key, enum keyfile_kdf kdf,
		 const void *passphrase, size_t passphrase_size,
		 const struct keyfile_random *random, const char *created, const char *modified,
		 const char *hint, struct err *err)
{
	struct keyfile k = { .kdf = kdf, .has_fingerprint = true };
	int rc = keyfile_check_hint(kdf, hint, err);

	if (rc < 0)
		return rc;
	k.fingerprint = *crypt_key_fingerprint(key);
	snprintf(k.created, sizeof(k.created), "%s", created);
	snprintf(k.modified, sizeof(k.modified), "%s", modified);
	snprintf(k.hint, sizeof(k.hint), "%s", hint ? hint : "");
	if (kdf == KEYFILE_KDF_NONE) {
		memcpy(k.data, crypt_key_bytes(key), CRYPT_KEY_SIZE);
		k.data_size = CRYPT_KEY_SIZE;
	} else {
		rc = seal(&k, key, passphrase, passphrase_size, random, err);
	}
	if (rc == 0)
		*out = k;
	keyfile_wipe(&k);
	return rc;
}
