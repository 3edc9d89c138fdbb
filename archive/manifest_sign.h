/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_sign - the signature of a manifest: who made the snapshot, and that nobody changed
 * what it lists.
 *
 * Layout:  archive/FORMAT.md, "Manifest signature".
 * Errors:  -ENOKEY: made with a key, none given; -EKEYREJECTED: made with another key;
 *          -EBADMSG: the signature does not fit.
 */
#ifndef PXARFS_MANIFEST_SIGN_H
#define PXARFS_MANIFEST_SIGN_H

#include "archive/crypt.h"
#include "archive/manifest.h"

#include <stdbool.h>

/* Sign what `m` says now; sets its signature and key fingerprint. */
int manifest_sign(struct manifest *m, const struct crypt_key *key, struct err *err);

/* Check the signature over the text as it was received, members that we do not know included.
 * A manifest without a signature passes. */
int manifest_verify(const void *text, size_t size, const struct crypt_key *key, struct err *err);

/* Hold the fingerprint that the manifest names against the key at hand (NULL: none).  A
 * manifest that names none passes. */
int manifest_check_fingerprint(const struct manifest *m, const struct crypt_key *key,
			       struct err *err);

/* Whether anything of it says that it was made with a key. */
bool manifest_has_key(const struct manifest *m);

/* All that is to be proved before anything of a snapshot is believed: key and signature of `m`,
 * decoded from `text`.  With a key an unsigned manifest is refused, too: whoever makes a snapshot
 * with a key signs it, so a signature that is not there was taken away. */
int manifest_check_key(const struct manifest *m, const void *text, size_t size,
		       const struct crypt_key *key, struct err *err);

#endif
