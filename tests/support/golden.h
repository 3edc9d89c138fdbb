/* SPDX-License-Identifier: Apache-2.0 */
/*
 * golden - read golden files, and the members of golden tar files, into memory.
 *
 * Header only: the tests of archive/ link the library under test and nothing else.  Paths are
 * relative to the top of the repository.  Whatever goes wrong ends the test program.
 */
#ifndef PXARFS_TESTS_GOLDEN_H
#define PXARFS_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct golden {
	uint8_t *data;
	size_t size;
};

static inline __attribute__((unused)) struct golden golden_read(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct golden g = { .data = NULL };

	if (!f || fseek(f, 0, SEEK_END) != 0) {
		perror(path);
		exit(1);
	}
	g.size = (size_t)ftell(f);
	g.data = malloc(g.size + 1);
	rewind(f);
	if (!g.data || fread(g.data, 1, g.size, f) != g.size) {
		perror(path);
		exit(1);
	}
	g.data[g.size] = '\0';
	fclose(f);
	return g;
}

static inline __attribute__((unused)) void golden_free(struct golden *g)
{
	free(g->data);
	*g = (struct golden){ .data = NULL };
}

/* One regular file of a tar; borrowed from the golden file it lies in. */
struct golden_member {
	char name[101];
	const uint8_t *data;
	size_t size;
};

/* The next regular file at or after *offset (0 at first); false at the end. */
static inline __attribute__((unused)) bool golden_next(const struct golden *tar, size_t *offset,
						       struct golden_member *out)
{
	while (*offset + 512 <= tar->size) {
		const uint8_t *header = tar->data + *offset;
		char size_text[13] = "";

		if (header[0] == '\0')
			return false;
		memcpy(size_text, header + 124, 12);
		memcpy(out->name, header, 100);
		out->name[100] = '\0';
		out->data = header + 512;
		out->size = strtoull(size_text, NULL, 8);
		*offset += 512 + (out->size + 511) / 512 * 512;
		if (header[156] == '0')
			return true;
	}
	return false;
}

static inline __attribute__((unused)) bool golden_ends_with(const char *name, const char *end)
{
	size_t name_size = strlen(name), end_size = strlen(end);

	return name_size >= end_size && strcmp(name + name_size - end_size, end) == 0;
}

/* The member whose name ends in `end`. */
static inline __attribute__((unused)) struct golden_member
golden_find(const struct golden *tar, const char *end)
{
	struct golden_member m;
	size_t offset = 0;

	while (golden_next(tar, &offset, &m))
		if (golden_ends_with(m.name, end))
			return m;
	fprintf(stderr, "no golden member %s\n", end);
	exit(1);
}

/* Visit all files of both golden datastores; how often `visit` said true. */
static inline __attribute__((unused)) unsigned
golden_each(bool visit(void *arg, const struct golden *tar, const struct golden_member *m),
	    void *arg)
{
	static const char *const tars[] = { "tests/golden/datastore.tar",
					    "tests/golden/datastore2.tar" };
	unsigned count = 0;

	for (size_t i = 0; i < 2; i++) {
		struct golden tar = golden_read(tars[i]);
		struct golden_member m;
		size_t offset = 0;

		while (golden_next(&tar, &offset, &m))
			count += visit(arg, &tar, &m);
		golden_free(&tar);
	}
	return count;
}

#endif
