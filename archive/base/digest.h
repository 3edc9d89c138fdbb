/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest - SHA-256: the name of a chunk and the checksum of an index or blob.
 *
 * Layout:  archive/FORMAT.md, "Chunk digest".
 * Threads: a context belongs to one thread at a time; struct digest is plain data.
 * Errors:  -ENOMEM from digest_ctx_new() only; OpenSSL's SHA-256 itself cannot fail.
 */
#ifndef PXARFS_BASE_DIGEST_H
#define PXARFS_BASE_DIGEST_H

#include "archive/base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { DIGEST_SIZE = 32, DIGEST_HEX_SIZE = 2 * DIGEST_SIZE + 1 };

struct digest {
	uint8_t bytes[DIGEST_SIZE];
};

/* A reusable hashing context: making one costs more than hashing a small chunk. */
struct digest_ctx;
struct digest_ctx *digest_ctx_new(void);
void digest_ctx_free(struct digest_ctx *ctx);
DEFINE_AUTO_PTR(digest_ctx)

/* Start over; then any number of updates; then the result, after which the context may be
 * started over again. */
void digest_ctx_begin(struct digest_ctx *ctx);
void digest_ctx_update(struct digest_ctx *ctx, const void *data, size_t size);
void digest_ctx_end(struct digest_ctx *ctx, struct digest *out);

/* The three in one. */
void digest_ctx_of(struct digest_ctx *ctx, const void *data, size_t size,
		   struct digest *out);

static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

/* 64 lower-case hex digits and NUL. */
void digest_to_hex(const struct digest *d, char out[DIGEST_HEX_SIZE]);

/* Exactly 64 hex digits (either case) and the end of the string; -EBADMSG otherwise. */
int digest_from_hex(struct digest *out, const char *text);

#endif
