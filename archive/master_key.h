/* SPDX-License-Identifier: Apache-2.0 */
/*
 * master_key - the RSA key pair that can recover the data keys of backups.
 *
 * A backup stores its data key, as a key file without passphrase, encrypted to the public half;
 * whoever has the private half gets at it when the key file is lost.
 *
 * Layout:  archive/FORMAT.md, "Master key".
 * Errors:  -EBADMSG: not such a key or block; -EKEYREJECTED: wrong passphrase or private key.
 */
#ifndef PXARFS_MASTER_KEY_H
#define PXARFS_MASTER_KEY_H

#include "archive/keyfile.h"

/* Of the blob that holds the block in a snapshot; it is neither compressed nor encrypted. */
#define MASTER_KEY_BLOB_NAME "rsa-encrypted.key.blob"

enum {
	MASTER_KEY_BITS = 4096, /* of ours */
	/* In bytes: the key file that it wraps has 255, padding takes 11. */
	MASTER_KEY_SIZE_MIN = 255 + 11,
};

/* Append a new pair in PEM form; the private half (PKCS#8) under the passphrase. */
int master_key_new(const void *passphrase, size_t passphrase_size, struct wbuf *public_pem,
		   struct wbuf *private_pem, struct err *err);

/* Whether the bytes are a public key that can be used.  -EINVAL: it is too small. */
int master_key_check(const void *public_pem, size_t pem_size, struct err *err);

/* Append the RSA block (PKCS#1 v1.5) that holds `key` as a key file without passphrase.
 * -EINVAL: the master key is too small for that. */
int master_key_wrap(const void *public_pem, size_t pem_size, const struct crypt_key *key,
		    const char *created, const char *modified, struct wbuf *out,
		    struct err *err);

/* Recover the key file from an RSA block with the private key (PEM, PKCS#8 or traditional). */
int master_key_unwrap(const void *private_pem, size_t pem_size, const void *passphrase,
		      size_t passphrase_size, const void *block, size_t block_size,
		      struct keyfile *out, struct err *err);

#endif
