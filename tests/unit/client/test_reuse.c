/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/reuse.h"

#include "archive/didx_writer.h"
#include "archive/pxar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { HDR = PXAR_HEADER_SIZE, FILES_MAX = 4096, MARKERS = 2 * HDR, MIB = 1 << 20 };

/* --- an old payload stream: files one behind the other, and where its chunks end --- */

struct old {
	struct didx_writer writer;
	struct didx ix;
};

static void add_chunk(struct old *o, uint64_t size)
{
	struct digest digest = { .bytes = { (uint8_t)o->writer.count,
					    (uint8_t)(o->writer.count >> 8), 1 } };

	assert_int_equal(didx_writer_add(&o->writer, size, &digest, NULL), 0);
}

static void old_begin(struct old *o)
{
	static const uint8_t uuid[16] = { 0 };

	memset(o, 0, sizeof(*o));
	assert_int_equal(didx_writer_init(&o->writer, uuid, 0, NULL), 0);
}

static void old_end(struct old *o)
{
	struct digest csum;

	assert_int_equal(didx_writer_finish(&o->writer, &csum, NULL), 0);
	assert_int_equal(didx_open(&o->ix, o->writer.bytes.data, o->writer.bytes.size, NULL), 0);
}

static void old_make(struct old *o, const uint64_t *chunks, size_t count)
{
	old_begin(o);
	for (size_t i = 0; i < count; i++)
		add_chunk(o, chunks[i]);
	old_end(o);
}

static struct reuse_file unchanged(uint64_t begin, uint64_t content)
{
	return (struct reuse_file){ .size = HDR + content, .is_unchanged = true, .old_begin = begin };
}

static struct reuse_file changed(uint64_t content)
{
	return (struct reuse_file){ .size = HDR + content };
}

/* --- what a decision comes to, worked out without reuse's own arithmetic --- */

struct outcome {
	uint64_t read, spliced; /* payload bytes of files read and taken over */
	uint64_t injected; /* bytes of chunks */
	size_t files_read;
	uint64_t size; /* of the new payload stream */
};

static uint64_t chunk_size(const struct didx *ix, size_t i)
{
	struct digest digest;
	uint64_t begin, end;

	didx_chunk(ix, i, &begin, &end, &digest);
	return end - begin;
}

/* Lay the new stream out and check that every reference is right, and that they rise. */
static struct outcome lay_out(const struct old *o, const struct reuse_file *files, size_t count)
{
	struct outcome out = { .size = HDR };
	uint64_t reference_end = 0, at = 0, old_end = 0;
	size_t last = SIZE_MAX; /* the chunk that ends at out.size; SIZE_MAX: none */

	for (size_t i = 0; i < count; i++) {
		const struct reuse_file *f = &files[i];
		uint64_t begin, end, place;
		struct digest digest;
		size_t first;

		if (!f->splice) {
			place = out.size;
			out.size += f->size;
			last = SIZE_MAX;
			if (f->is_unchanged) {
				out.read += f->size;
				out.files_read++;
			}
		} else {
			assert_true(f->is_unchanged);
			assert_int_equal(didx_find(&o->ix, f->old_begin, &first), 0);
			if (first != last || f->old_begin < old_end) {
				at = out.size;
				last = first;
				out.size += chunk_size(&o->ix, first);
				out.injected += chunk_size(&o->ix, first);
			}
			didx_chunk(&o->ix, first, &begin, &end, &digest);
			place = at + f->old_begin - begin;
			/* Further chunks, none of which is useless. */
			while (end < f->old_begin + f->size) {
				last++;
				didx_chunk(&o->ix, last, &begin, &end, &digest);
				at = out.size;
				out.size += end - begin;
				out.injected += end - begin;
			}
			old_end = f->old_begin + f->size;
			out.spliced += f->size;
			assert_true(place + f->size <= out.size);
		}
		assert_true(place >= reference_end);
		reference_end = place + f->size;
	}
	out.size += HDR;
	return out;
}

static uint64_t padding_of(const struct outcome *o)
{
	return o->injected - o->spliced;
}

static void assert_within(const struct outcome *o, unsigned percent)
{
	uint64_t padding = padding_of(o);

	assert_true(padding <= MARKERS || (padding - MARKERS) * 100 <= o->size * percent);
}

/* Decide on everything at once. */
static struct outcome decide(const struct old *o, struct reuse_file *files, size_t count,
			     unsigned percent)
{
	struct outcome out;
	struct reuse r;

	reuse_init(&r, &o->ix, percent);
	for (size_t i = 0; i < count; i++)
		if (files[i].is_unchanged)
			assert_true(reuse_locate(&r, &files[i]));
	reuse_decide(&r, files, count, false);
	reuse_commit(&r, files, count);
	out = lay_out(o, files, count);
	assert_int_equal(r.size, out.size);
	assert_int_equal(r.padding, padding_of(&out));
	assert_within(&out, percent);
	return out;
}

/* --- the examples of the specification --- */

static void takes_over_what_the_official_client_does(void **state)
{
	struct reuse_file files[] = { unchanged(16, 3000000), unchanged(3000032, 3000000),
				      unchanged(6000048, 2000000), changed(2100000) };
	struct old o;
	struct outcome out;

	(void)state;
	old_make(&o, (uint64_t[]){ 4194304, 4194304, 1611424 }, 3);
	out = decide(&o, files, 4, 10);
	assert_int_equal(out.read, 0);
	assert_int_equal(out.injected, 8388608);
	assert_int_equal(padding_of(&out), 388560);
	didx_writer_release(&o.writer);
}

static void splices_a_chunk_with_a_hole_once(void **state)
{
	struct reuse_file files[] = { unchanged(16, 3900000), unchanged(3950048, 4400000) };
	struct old o;
	struct outcome out;

	(void)state;
	old_make(&o, (uint64_t[]){ 4194304, 4194304 }, 2);
	out = decide(&o, files, 2, 10);
	assert_int_equal(out.read, 0);
	assert_int_equal(out.injected, 8388608);
	didx_writer_release(&o.writer);
}

/* Where the official client takes a fourth, useless chunk, and then reads everything. */
static void takes_no_useless_chunk_at_an_aligned_end(void **state)
{
	struct reuse_file files[] = { unchanged(16, 2999968), unchanged(3000000, 2499984),
				      unchanged(5500000, 2499984), changed(2000000) };
	struct old o;
	struct outcome out;

	(void)state;
	old_make(&o, (uint64_t[]){ 3000000, 2500000, 2500000, 2000016 }, 4);
	out = decide(&o, files, 4, 10);
	assert_int_equal(out.read, 0);
	assert_int_equal(out.injected, 8000000);
	didx_writer_release(&o.writer);
}

/* One changed file costs its neighbours in the chunk at most, not the whole run. */
static void reads_only_the_neighbours_of_a_change(void **state)
{
	struct reuse_file files[62];
	struct old o;
	struct outcome out;

	(void)state;
	old_begin(&o);
	for (int i = 0; i < 31; i++)
		add_chunk(&o, 2 * (MIB + HDR) + (i == 0 ? HDR : 0) + (i == 30 ? HDR : 0));
	old_end(&o);
	for (int n = 1; n < 62; n += 3) {
		for (int i = 0; i < 62; i++) {
			files[i] = unchanged(HDR + (uint64_t)i * (MIB + HDR), MIB);
			files[i].is_unchanged = i % 10 != n % 10;
		}
		out = decide(&o, files, 62, 10);
		assert_true(out.read <= 7 * (MIB + HDR));
	}
	didx_writer_release(&o.writer);
}

static void splices_a_chunk_twice_around_a_change(void **state)
{
	struct reuse_file files[43];
	struct old o;
	struct outcome out;

	(void)state;
	/* Small changes in the middle of two of twenty chunks, of two files each. */
	old_begin(&o);
	for (int i = 0; i < 20; i++)
		add_chunk(&o, 2 * MIB + (i == 0 ? HDR : 0));
	old_end(&o);
	for (size_t i = 0, n = 0; n < 43; n++) {
		if (n == 9 || n == 30 || n == 42)
			files[n] = changed(100);
		else
			files[n] = unchanged(HDR + i++ * MIB, MIB - HDR);
	}
	out = decide(&o, files, 43, 10);
	assert_int_equal(out.read, 0);
	assert_int_equal(out.injected, o.ix.size + 2 * 2 * MIB);
	assert_int_equal(padding_of(&out), HDR + 4 * MIB);
	didx_writer_release(&o.writer);
}

/* --- bounds --- */

static void refuses_a_file_past_the_end_of_the_old_stream(void **state)
{
	struct reuse_file inside = unchanged(900, 84), past = unchanged(900, 85),
			  wild = unchanged(UINT64_MAX - 5, 100), empty = { .is_unchanged = true };
	struct old o;
	struct reuse r;

	(void)state;
	old_make(&o, (uint64_t[]){ 1000 }, 1);
	reuse_init(&r, &o.ix, 10);
	assert_true(reuse_locate(&r, &inside));
	assert_false(reuse_locate(&r, &past));
	assert_false(past.is_unchanged);
	assert_false(reuse_locate(&r, &wild));
	assert_false(reuse_locate(&r, &empty));
	didx_writer_release(&o.writer);
}

static void splices_an_unchanged_stream_whatever_the_limit(void **state)
{
	struct reuse_file files[100];
	struct outcome out;
	struct old o;

	(void)state;
	old_begin(&o);
	for (int i = 0; i < 25; i++)
		add_chunk(&o, 4000 + (i == 0 ? HDR : 0) + (i == 24 ? HDR : 0));
	old_end(&o);
	for (size_t i = 0; i < 100; i++)
		files[i] = unchanged(HDR + i * 1000, 1000 - HDR);
	out = decide(&o, files, 100, 0);
	assert_int_equal(out.files_read, 0);
	assert_int_equal(out.size, o.ix.size + MARKERS);
	didx_writer_release(&o.writer);
}

static void reads_rather_than_keeping_a_chunk_for_little(void **state)
{
	struct reuse_file files[] = { unchanged(16, 1000), changed(100 * MIB) };
	struct outcome out;
	struct old o;

	(void)state;
	old_make(&o, (uint64_t[]){ 4 * MIB }, 1);
	out = decide(&o, files, 2, 10);
	assert_int_equal(out.files_read, 1);
	didx_writer_release(&o.writer);
}

/* --- random trees --- */

static uint32_t seed;

static uint32_t any(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)(((uint64_t)(seed >> 4) * below) >> 28);
}

/* Files in a stream with chunks of any size; some are gone or changed, some out of order. */
static size_t random_tree(struct old *o, struct reuse_file *files, size_t count)
{
	uint64_t at = HDR, size, cut;
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t content = any(4) ? any(3000) : any(40000);

		switch (any(10)) {
		case 0: /* deleted */
			break;
		case 1:
		case 2:
			files[n++] = changed(any(3000));
			break;
		default:
			files[n++] = unchanged(at, content);
		}
		at += HDR + content;
	}
	for (size_t i = 0; n && i < count / 20; i++) {
		size_t a = any((uint32_t)n), b = any((uint32_t)n);
		struct reuse_file swap = files[a];

		files[a] = files[b];
		files[b] = swap;
	}
	old_begin(o);
	for (size = at + HDR; size; size -= cut) {
		cut = 1 + any(9000);
		cut = cut < size ? cut : size;
		add_chunk(o, cut);
	}
	old_end(o);
	return n;
}

static void keeps_the_bound_and_the_order_in_random_trees(void **state)
{
	static struct reuse_file files[FILES_MAX];

	(void)state;
	for (seed = 1; seed < 400000000; seed += 1000003) {
		size_t count = 1 + any(300);
		struct old o;

		count = random_tree(&o, files, count);
		decide(&o, files, count, any(3) ? 10 : any(50));
		didx_writer_release(&o.writer);
	}
}

/* Nothing else reads less with as little padding, and nothing is cheaper when there is no
 * need to save padding. */
static void no_other_choice_is_better(void **state)
{
	struct reuse_file files[FILES_MAX], other[FILES_MAX];

	(void)state;
	for (seed = 7; seed < 300000000; seed += 1500007) {
		struct old o;
		size_t count = random_tree(&o, files, 11);
		struct outcome best = decide(&o, files, count, 10), out;

		for (unsigned choice = 0; choice < 1u << count; choice++) {
			bool possible = true;

			memcpy(other, files, sizeof(*files) * count);
			for (size_t i = 0; i < count; i++) {
				other[i].splice = choice >> i & 1;
				possible = possible && (!other[i].splice || other[i].is_unchanged);
			}
			if (!possible)
				continue;
			out = lay_out(&o, other, count);
			assert_false(out.read < best.read && out.files_read <= best.files_read &&
				     padding_of(&out) <= padding_of(&best));
		}
		didx_writer_release(&o.writer);
	}
}

/* The way it is used: decide on a window, commit a part of it, go on with the rest. */
static struct outcome decide_by_windows(const struct old *o, struct reuse_file *files,
					size_t count, size_t window)
{
	struct outcome out;
	size_t done = 0;
	struct reuse r;

	reuse_init(&r, &o->ix, 10);
	for (size_t i = 0; i < count; i++)
		if (files[i].is_unchanged)
			assert_true(reuse_locate(&r, &files[i]));
	while (done < count) {
		bool more = count - done > window;
		size_t n = more ? window : count - done, part = more ? n / 2 : n;

		reuse_decide(&r, files + done, n, more);
		reuse_commit(&r, files + done, part);
		done += part;
	}
	out = lay_out(o, files, count);
	assert_int_equal(r.padding, padding_of(&out));
	assert_int_equal(r.size, out.size);
	return out;
}

/* But for the rest of one chunk, if it came at the end. */
static void keeps_the_bound_window_by_window(void **state)
{
	static struct reuse_file files[FILES_MAX];

	(void)state;
	for (seed = 3; seed < 200000000; seed += 1000003) {
		struct outcome out;
		struct old o;
		size_t count = random_tree(&o, files, 1 + any(600));
		uint64_t padding, chunk_max = 0;

		for (size_t i = 0; i < o.ix.count; i++)
			if (chunk_size(&o.ix, i) > chunk_max)
				chunk_max = chunk_size(&o.ix, i);
		out = decide_by_windows(&o, files, count, 2 + any(60));
		padding = padding_of(&out);
		assert_true(padding <= MARKERS + chunk_max + out.size / 10);
		didx_writer_release(&o.writer);
	}
}

/* More small files in a chunk than in a window. */
static void splices_chunks_that_are_longer_than_a_window(void **state)
{
	static struct reuse_file files[FILES_MAX];
	struct outcome out;
	struct old o;

	(void)state;
	old_make(&o, (uint64_t[]){ MIB / 2, MIB / 2, MIB / 2 }, 3);
	for (size_t i = 0; i < FILES_MAX; i++)
		files[i] = unchanged(HDR + i * (HDR + 300), 300);
	out = decide_by_windows(&o, files, FILES_MAX, 100);
	assert_int_equal(out.files_read, 0);
	didx_writer_release(&o.writer);
}

/* The rest of each chunk was written anew: that is padding once, and not again. */
static void a_rest_that_did_not_come_costs_the_bound_once(void **state)
{
	static struct reuse_file files[FILES_MAX];
	struct outcome out;
	struct old o;
	size_t count = 0;

	(void)state;
	old_begin(&o);
	for (size_t i = 0; i < 8; i++) {
		add_chunk(&o, MIB);
		for (size_t k = 0; k < 200; k++)
			files[count++] = unchanged(i * MIB + HDR + k * (HDR + 100), 100);
		files[count++] = changed(MIB);
	}
	old_end(&o);
	out = decide_by_windows(&o, files, count, 50);
	assert_true(padding_of(&out) < 2 * MIB);
	didx_writer_release(&o.writer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_over_what_the_official_client_does),
		cmocka_unit_test(splices_a_chunk_with_a_hole_once),
		cmocka_unit_test(takes_no_useless_chunk_at_an_aligned_end),
		cmocka_unit_test(reads_only_the_neighbours_of_a_change),
		cmocka_unit_test(splices_a_chunk_twice_around_a_change),
		cmocka_unit_test(refuses_a_file_past_the_end_of_the_old_stream),
		cmocka_unit_test(splices_an_unchanged_stream_whatever_the_limit),
		cmocka_unit_test(reads_rather_than_keeping_a_chunk_for_little),
		cmocka_unit_test(keeps_the_bound_and_the_order_in_random_trees),
		cmocka_unit_test(no_other_choice_is_better),
		cmocka_unit_test(keeps_the_bound_window_by_window),
		cmocka_unit_test(splices_chunks_that_are_longer_than_a_window),
		cmocka_unit_test(a_rest_that_did_not_come_costs_the_bound_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
