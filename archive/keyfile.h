/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyfile - the file a data key is kept in, plain or under a passphrase.
 *
 * Layout:  archive/FORMAT.md, "Key files".
 * Owner:   struct keyfile is plain data without secrets but for kdf "none", where `data` is the
 *          key itself: wipe it with keyfile_wipe().
 * Threads: one owner at a time; one that nobody changes may be read by any number.
 * Trust:   key files are hostile: sizes, KDF costs and memory are bounded.
 * Errors:  -EBADMSG: no key file or a damaged one; -EKEYREJECTED: wrong passphrase; -EINVAL: a
 *          passphrase that is too short, a hint that is none.
 */
#ifndef PXARFS_KEYFILE_H
#define PXARFS_KEYFILE_H

#include "archive/base/wbuf.h"
#include "archive/crypt.h"

#include <stdbool.h>

enum {
	KEYFILE_SIZE_MAX = 64 << 10, /* text */
	KEYFILE_SALT_SIZE = 32, /* of ours; readers take 1..KEYFILE_SALT_SIZE_MAX */
	KEYFILE_SALT_SIZE_MAX = 256,
	KEYFILE_SEALED_SIZE = CRYPT_IV_SIZE + CRYPT_TAG_SIZE + CRYPT_KEY_SIZE,
	KEYFILE_HINT_SIZE_MAX = 64,
	KEYFILE_TIME_SIZE = 40,
	KEYFILE_PASSPHRASE_SIZE_MIN = 5,
	KEYFILE_PBKDF2_ITERATIONS = 65535,
	KEYFILE_PBKDF2_ITERATIONS_MAX = 100 << 20,
	KEYFILE_SCRYPT_N = 65536,
	KEYFILE_SCRYPT_R = 8,
	KEYFILE_SCRYPT_P = 1,
	KEYFILE_SCRYPT_P_MAX = 64,
};

/* What deriving a key may take of memory. */
#define KEYFILE_SCRYPT_MEMORY_MAX ((uint64_t)1025 << 20)

enum keyfile_kdf { KEYFILE_KDF_NONE, KEYFILE_KDF_SCRYPT, KEYFILE_KDF_PBKDF2 };

struct keyfile {
	enum keyfile_kdf kdf;
	uint64_t scrypt_n, scrypt_r, scrypt_p;
	uint64_t pbkdf2_iterations;
	uint8_t salt[KEYFILE_SALT_SIZE_MAX];
	size_t salt_size;
	char created[KEYFILE_TIME_SIZE], modified[KEYFILE_TIME_SIZE]; /* RFC 3339, as found */
	uint8_t data[KEYFILE_SEALED_SIZE]; /* kdf none: the key; else IV, tag, sealed key */
	size_t data_size;
	bool has_fingerprint;
	struct digest fingerprint;
	char hint[4 * KEYFILE_HINT_SIZE_MAX + 1]; /* "" for none; characters may be UTF-8 */
};

void keyfile_wipe(struct keyfile *k);

int keyfile_decode(const void *text, size_t size, struct keyfile *out, struct err *err);

/* Append the compact JSON text, without a final newline; `pretty`: indented by two spaces, as
 * on paper. */
int keyfile_encode(const struct keyfile *k, bool pretty, struct wbuf *out, struct err *err);

/* The key, its fingerprint proved.  The passphrase is not looked at for kdf none. */
int keyfile_open(const struct keyfile *k, const void *passphrase, size_t passphrase_size,
		 struct crypt_key **out, struct err *err);

/* Whether a key file can have this hint, NULL for none: -EINVAL. */
int keyfile_check_hint(enum keyfile_kdf kdf, const char *hint, struct err *err);

/* What keyfile_seal() needs that is not a function of its other arguments. */
struct keyfile_random {
	uint8_t salt[KEYFILE_SALT_SIZE];
	uint8_t iv[CRYPT_IV_SIZE];
};

/* A new key file around `key`.  `created` and `modified` are copied, `hint` may be NULL. */
int keyfile_seal(struct keyfile *out, const struct crypt_key *key, enum keyfile_kdf kdf,
		 const void *passphrase, size_t passphrase_size,
		 const struct keyfile_random *random, const char *created, const char *modified,
		 const char *hint, struct err *err);

#endif
