/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/chunker.h"

#include "archive/chunker_simd.h"
#include "archive/chunker_table.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	WINDOW = CHUNKER_WINDOW_SIZE,
	AVG_SIZE_MIN = 512, /* below it the first window would reach over the smallest chunk */
	SEARCH_SIZE_MIN = 256,
};

static_assert((WINDOW & (WINDOW - 1)) == 0, "positions are taken modulo the window");
static_assert(WINDOW % 32 == 0, "then the leaving byte needs no rotation");
static_assert(CHUNKER_AVG_SIZE_MAX * 4 == CHUNK_SIZE_MAX, "largest chunk");

void chunker_init(struct chunker *c, size_t avg_size)
{
	assert((avg_size & (avg_size - 1)) == 0);
	assert(avg_size >= AVG_SIZE_MIN && avg_size <= CHUNKER_AVG_SIZE_MAX);
	*c = (struct chunker){
		.mask = (uint32_t)avg_size * 2 - 1,
		.limit = (uint32_t)avg_size * 2 - 3,
		.size_min = avg_size / 4,
		.size_max = avg_size * 4,
		.simd = chunker_simd_best(),
	};
}

void chunker_reset(struct chunker *c)
{
	c->hash = 0;
	c->size = 0;
}

static inline uint32_t rotate(uint32_t hash)
{
	return hash << 1 | hash >> 31;
}

static inline bool is_cut(const struct chunker *c, uint32_t hash)
{
	return (hash & c->mask) >= c->limit;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* The hash depends on the last 64 bytes alone and is not looked at before size_min, so the
 * bytes before the first window that matters are passed over. */
static size_t skip(struct chunker *c, size_t size)
{
	size_t first = c->size_min - WINDOW, n;

	if (c->size >= first)
		return 0;
	n = smaller(size, first - c->size);
	c->size += n;
	return n;
}

/* Fill the window up to size_min; *cut when the smallest chunk is already one. */
static size_t fill(struct chunker *c, const uint8_t *data, size_t size, bool *cut)
{
	size_t n = 0;

	if (c->size >= c->size_min)
		return 0;
	while (n < size && c->size < c->size_min) {
		c->hash = rotate(c->hash) ^ chunker_table[data[n]];
		c->window[c->size % WINDOW] = data[n];
		c->size++;
		n++;
	}
	*cut = c->size == c->size_min && is_cut(c, c->hash);
	return n;
}

/* Roll while the leaving byte is one of an earlier call, known from the window only. */
static size_t roll_window(struct chunker *c, const uint8_t *data, size_t size, bool *cut)
{
	size_t n = 0;

	while (n < size && !*cut) {
		uint8_t *slot = &c->window[c->size % WINDOW];

		c->hash = rotate(c->hash) ^ chunker_table[*slot] ^ chunker_table[data[n]];
		*slot = data[n];
		c->size++;
		n++;
		*cut = is_cut(c, c->hash);
	}
	return n;
}

/* The hash of the 64 bytes before `end`. */
static uint32_t hash_before(const uint8_t *end)
{
	uint32_t hash = 0;

	for (const uint8_t *p = end - WINDOW; p < end; p++)
		hash = rotate(hash) ^ chunker_table[*p];
	return hash;
}

static void keep_window(struct chunker *c, const uint8_t *end)
{
	for (size_t i = 1; i <= WINDOW; i++)
		c->window[(c->size - i) % WINDOW] = *(end - i);
}

/* Search where the 64 bytes before `data` are at hand; nearly all bytes pass through here. */
static size_t search(struct chunker *c, const uint8_t *data, size_t size, bool *cut)
{
	size_t n = c->simd->find(data, size, c->mask, c->limit);

	*cut = n < size;
	if (*cut)
		return n + 1;
	c->size += size;
	c->hash = hash_before(data + size);
	keep_window(c, data + size);
	return size;
}

/* How many bytes at `n` of `size` are rolled over: until there is a window before them, or all
 * when a search would not pay. */
static size_t rolled_size(size_t n, size_t size)
{
	size_t head = n < WINDOW ? WINDOW - n : 0;

	return size - n < head + SEARCH_SIZE_MIN ? size - n : head;
}

size_t chunker_scan(struct chunker *c, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	size_t room = smaller(size, c->size_max - c->size), n;
	bool cut = false;

	n = skip(c, room);
	n += fill(c, bytes + n, room - n, &cut);
	if (!cut)
		n += roll_window(c, bytes + n, rolled_size(n, room), &cut);
	if (n < room && !cut)
		n += search(c, bytes + n, room - n, &cut);
	if (!cut && c->size < c->size_max)
		return 0;
	chunker_reset(c);
	return n;
}

/* --- with suggestions --- */

void chunker_suggest_init(struct chunker_suggest *c, size_t avg_size)
{
	*c = (struct chunker_suggest){ .count = 0 };
	chunker_init(&c->plain, avg_size);
}

void chunker_suggest_release(struct chunker_suggest *c)
{
	free(c->offsets);
	c->offsets = NULL;
	c->begin = c->count = c->capacity = 0;
}

void chunker_suggest_reset(struct chunker_suggest *c)
{
	chunker_reset(&c->plain);
}

static uint64_t *pending(const struct chunker_suggest *c, size_t i)
{
	return &c->offsets[(c->begin + i) % c->capacity];
}

static int grow(struct chunker_suggest *c)
{
	size_t capacity = c->capacity > 0 ? c->capacity * 2 : 64;
	uint64_t *offsets = reallocarray(NULL, capacity, sizeof(*offsets));

	if (!offsets)
		return -ENOMEM;
	for (size_t i = 0; i < c->count; i++)
		offsets[i] = *pending(c, i);
	free(c->offsets);
	c->offsets = offsets;
	c->capacity = capacity;
	c->begin = 0;
	return 0;
}

int chunker_suggest_add(struct chunker_suggest *c, uint64_t stream_offset)
{
	if (c->count > 0 && *pending(c, c->count - 1) == stream_offset)
		return 0;
	if (c->count == c->capacity && grow(c) < 0)
		return -ENOMEM;
	*pending(c, c->count) = stream_offset;
	c->count++;
	return 0;
}

static void drop_first(struct chunker_suggest *c)
{
	c->begin = (c->begin + 1) % c->capacity;
	c->count--;
}

/* The next suggestion that may be cut at in [chunk_begin + scanned, chunk_begin + total], as a
 * chunk size; 0: none, which leaves those that may be used later in the queue. */
static size_t next_suggestion(struct chunker_suggest *c, uint64_t chunk_begin, size_t scanned,
			      size_t total)
{
	while (c->count > 0) {
		uint64_t offset = *pending(c, 0);
		size_t size;

		if (offset < chunk_begin + scanned) {
			drop_first(c);
			continue;
		}
		if (offset > chunk_begin + total || offset - chunk_begin > c->plain.size_max)
			return 0;
		size = (size_t)(offset - chunk_begin);
		drop_first(c);
		if (size >= c->plain.size_min) /* just behind the last scan it is too late */
			return size > scanned ? size : 0;
	}
	return 0;
}

size_t chunker_suggest_scan(struct chunker_suggest *c, uint64_t chunk_begin, size_t scanned,
			    const void *data, size_t size)
{
	size_t cut = next_suggestion(c, chunk_begin, scanned, scanned + size);

	if (cut == 0)
		return chunker_scan(&c->plain, data, size);
	chunker_reset(&c->plain);
	return cut - scanned;
}

enum chunker_cut chunker_suggest_scan_forced(struct chunker_suggest *c, uint64_t chunk_begin,
					     size_t scanned, const void *data, size_t size,
					     const uint64_t *boundary, size_t *chunk_size)
{
	size_t n = size > 0 ? chunker_suggest_scan(c, chunk_begin, scanned, data, size) : 0;
	size_t reach = scanned + (n > 0 ? n : size);

	assert(!boundary || *boundary >= chunk_begin);
	if (boundary && *boundary - chunk_begin <= reach) {
		chunker_suggest_reset(c);
		*chunk_size = (size_t)(*boundary - chunk_begin);
		return CHUNKER_CUT_FORCED;
	}
	if (n == 0)
		return CHUNKER_CUT_NONE;
	*chunk_size = reach;
	return CHUNKER_CUT_FOUND;
}
