/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/manifest_sign.h"

#include "archive/json_text.h"

#include <openssl/crypto.h>

/* Whether a null is anywhere in it; json_text_decode() bounds the depth. */
static bool holds_null(const json_t *value)
{
	json_t *json = (json_t *)value, *member;
	const char *name;
	size_t i;

	json_array_foreach(json, i, member)
		if (holds_null(member))
			return true;
	json_object_foreach(json, name, member)
		if (holds_null(member))
			return true;
	return json_is_null(json);
}

/* HMAC over the canonical text of the object without what it does not cover. */
static int signature_of(const json_t *manifest, const struct crypt_key *key, struct digest *out,
			struct err *err)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(json) json_t *covered = json_copy((json_t *)manifest);

	if (!covered)
		return err_set(err, ENOMEM, "manifest: out of memory");
	json_object_del(covered, "unprotected");
	json_object_del(covered, "signature");
	if (holds_null(covered))
		return err_set(err, EBADMSG, "manifest: a null in what the signature covers");
	if (json_text_canonical(covered, &text) < 0)
		return err_sys(err, -text.failed, "manifest");
	if (crypt_sign(key, text.data, text.size, out) < 0)
		return err_set(err, ENOMEM, "manifest: out of memory");
	return 0;
}

static int decode(const void *text, size_t size, json_t **out, struct err *err)
{
	int rc;

	if (size > MANIFEST_SIZE_MAX)
		return err_set(err, EBADMSG, "manifest: too large (%zu bytes)", size);
	rc = json_text_decode(text, size, out, err);
	if (rc < 0)
		return err_wrap(err, rc, "manifest");
	if (!json_is_object(*out))
		return err_set(err, EBADMSG, "manifest: not a JSON object");
	return 0;
}

int manifest_sign(struct manifest *m, const struct crypt_key *key, struct err *err)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(json) json_t *json = NULL;
	char fingerprint[CRYPT_FINGERPRINT_TEXT_SIZE], hex[DIGEST_HEX_SIZE];
	struct digest signature;
	int rc = manifest_encode(m, &text, err);

	if (rc == 0)
		rc = decode(text.data, text.size, &json, err);
	if (rc == 0)
		rc = signature_of(json, key, &signature, err);
	if (rc < 0)
		return rc;
	digest_to_hex(&signature, hex);
	crypt_fingerprint_text(crypt_key_fingerprint(key), fingerprint);
	return manifest_set_signature(m, hex, fingerprint, err);
}

/* "wrong key": the manifest names another one; `effect` says what cannot be done. */
static int check_named_key(const char *named, const struct crypt_key *key, const char *effect,
			   struct err *err)
{
	char theirs[CRYPT_FINGERPRINT_SHORT_SIZE], ours[CRYPT_FINGERPRINT_SHORT_SIZE];
	struct digest fingerprint;

	if (crypt_fingerprint_parse(named, &fingerprint) < 0)
		return err_set(err, EBADMSG, "manifest: bad key fingerprint");
	if (key && digest_equal(&fingerprint, crypt_key_fingerprint(key)))
		return 0;
	crypt_fingerprint_short(&fingerprint, theirs);
	if (!key)
		return err_set(err, ENOKEY, "missing key - manifest was created with key %s", theirs);
	crypt_fingerprint_short(crypt_key_fingerprint(key), ours);
	return err_set(err, EKEYREJECTED,
		       "wrong key - %smanifest's key %s does not match provided key %s", effect,
		       theirs, ours);
}

int manifest_verify(const void *text, size_t size, const struct crypt_key *key, struct err *err)
{
	AUTO(json) json_t *json = NULL;
	const char *signature, *named;
	char wanted[DIGEST_HEX_SIZE];
	struct digest found;
	int rc = decode(text, size, &json, err);

	if (rc < 0)
		return rc;
	signature = json_string_value(json_object_get(json, "signature"));
	if (!signature)
		return 0;
	named = json_string_value(
		json_object_get(json_object_get(json, "unprotected"), "key-fingerprint"));
	if (named)
		rc = check_named_key(named, key,
				     "unable to verify signature since ", err);
	if (rc == 0)
		rc = signature_of(json, key, &found, err);
	if (rc < 0)
		return rc;
	digest_to_hex(&found, wanted);
	if (strlen(signature) != sizeof(wanted) - 1 ||
	    CRYPTO_memcmp(signature, wanted, sizeof(wanted) - 1) != 0)
		return err_set(err, EBADMSG, "wrong signature in manifest");
	return 0;
}

int manifest_check_fingerprint(const struct manifest *m, const struct crypt_key *key,
			       struct err *err)
{
	if (!m->key_fingerprint)
		return 0;
	return check_named_key(m->key_fingerprint, key, "", err);
}

bool manifest_has_key(const struct manifest *m)
{
	for (size_t i = 0; i < m->file_count; i++)
		if (m->files[i].crypt_mode != CRYPT_MODE_NONE)
			return true;
	return m->signature || m->key_fingerprint;
}

int manifest_check_key(const struct manifest *m, const void *text, size_t size,
		       const struct crypt_key *key, struct err *err)
{
	int rc = manifest_check_fingerprint(m, key, err);

	if (rc < 0)
		return rc;
	if (!key && manifest_has_key(m))
		return err_set(err, ENOKEY, "made with a key: needs a key");
	if (key && !m->signature)
		return err_set(err, EBADMSG,
			       "the manifest is not signed, but a key is given: the snapshot was made "
			       "without one, or its signature was taken away");
	return key ? manifest_verify(text, size, key, err) : 0;
}
