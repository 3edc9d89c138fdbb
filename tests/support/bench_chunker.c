/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_chunker - how fast the chunker's variants are, beside SHA-256 and memcpy of the same
 * bytes in the same run.
 *
 * Usage: bench_chunker [MIB [ROUNDS]]
 *
 * Incompressible bytes, in pieces of 256 KiB as a backup's streams are cut, average chunk
 * 4 MiB.  For each line: name, best time of a round in seconds of this thread (what other
 * processes take is not counted), bytes of the stream, bytes of it that have to be hashed: not
 * those at a chunk's begin where no cut can be.
 */
#include "archive/base/cleanup.h"
#include "archive/base/digest.h"
#include "archive/chunker.h"
#include "archive/chunker_simd.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECE_SIZE = 256 << 10, SHA256 = CHUNKER_SIMD_COUNT, MEMCPY, TASK_COUNT };

struct bench {
	uint8_t *data, *copy;
	size_t size, hashed;
	double best[TASK_COUNT]; /* seconds; 0: not yet */
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fill_random(uint8_t *data, size_t size)
{
	uint64_t x = 88172645463325252;

	for (size_t i = 0; i < size; i += sizeof(x)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(data + i, &x, sizeof(x));
	}
}

/* The bytes that had to be hashed. */
static size_t cut_all(const struct bench *b, const struct chunker_simd *simd)
{
	struct chunker c;
	size_t at = 0, begin = 0, hashed = b->size, first;

	chunker_init(&c, CHUNKER_AVG_SIZE_DEFAULT);
	c.simd = simd;
	first = c.size_min - CHUNKER_WINDOW_SIZE;
	while (at < b->size) {
		size_t left = PIECE_SIZE - at % PIECE_SIZE;
		size_t cut = chunker_scan(&c, b->data + at, left);

		at += cut ? cut : left;
		if (cut || at == b->size) {
			hashed -= at - begin < first ? at - begin : first;
			begin = at;
		}
	}
	return hashed;
}

static void run(struct bench *b, size_t task)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest digest;
	double begin = now(), seconds;

	if (task == SHA256 && ctx)
		digest_ctx_of(ctx, b->data, b->size, &digest);
	else if (task == MEMCPY)
		memcpy(b->copy, b->data, b->size);
	else if (chunker_simd_variant(task))
		b->hashed = cut_all(b, chunker_simd_variant(task));
	else
		return;
	seconds = now() - begin;
	if (b->best[task] <= 0 || seconds < b->best[task])
		b->best[task] = seconds;
}

static void print(const struct bench *b)
{
	for (size_t i = 0; i < CHUNKER_SIMD_COUNT; i++)
		if (chunker_simd_variant(i))
			printf("%s %.6f %zu %zu\n", chunker_simd_variant(i)->name, b->best[i],
			       b->size, b->hashed);
	printf("sha256 %.6f %zu %zu\n", b->best[SHA256], b->size, b->size);
	printf("memcpy %.6f %zu %zu\n", b->best[MEMCPY], b->size, b->size);
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
	unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 15;
	AUTO(free) uint8_t *data = NULL, *copy = NULL;
	struct bench b = { .size = mib << 20 };

	if (mib < 1 || mib > 4096 || rounds < 1) {
		fprintf(stderr, "usage: bench_chunker [MIB [ROUNDS]]\n");
		return 2;
	}
	b.data = data = malloc(b.size);
	b.copy = copy = calloc(1, b.size);
	if (!data || !copy) {
		fprintf(stderr, "bench_chunker: out of memory\n");
		return 1;
	}
	fill_random(data, b.size);
	while (rounds-- > 0)
		for (size_t task = 0; task < TASK_COUNT; task++)
			run(&b, task);
	print(&b);
	return 0;
}
