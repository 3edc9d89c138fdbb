/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/client/upload_fixture.h"

#include "archive/base/le.h"
#include "archive/chunker.h"
#include "archive/didx_writer.h"
#include "tests/support/golden.h"

/* What the plain chunker and SHA-256 say of `data`. */
static void check_entries(const uint8_t *data, size_t size)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct chunker chunker;
	size_t begin = 0, i = 0;

	chunker_init(&chunker, AVG);
	while (begin < size) {
		size_t cut = chunker_scan(&chunker, data + begin, size - begin);
		struct digest digest;

		cut = cut ? cut : size - begin;
		digest_ctx_of(ctx, data + begin, cut, &digest);
		assert_true(i < last_closed.count);
		assert_int_equal(last_closed.entries[i].size, cut);
		assert_memory_equal(&last_closed.entries[i++].digest, &digest, sizeof(digest));
		begin += cut;
	}
	assert_int_equal(i, last_closed.count);
}

static void indexes_what_the_chunker_cuts(void **state)
{
	static const size_t steps[] = { 7777, 16, 262144, 262143, 300000, 5 << 20 };
	const size_t size = 3 << 20;
	AUTO(free) uint8_t *data = noise(size, 1);

	(void)state;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		AUTO(fake) struct fake w;
		AUTO(upload_pool) struct upload_pool *pool = new_pool(1 + (unsigned)i % 3);
		struct upload_stats stats = { 0 };
		struct err err = ERR_INIT;

		fake_init(&w);
		AUTO(upload) struct upload *u = new_upload(pool, &w, "a.mpxar.didx", &stats);

		assert_int_equal(send(u, data, size, steps[i], &err), 0);
		check_entries(data, size);
		assert_int_equal(stats.bytes, size);
		assert_int_equal(stats.chunks, last_closed.count);
		assert_int_equal(stats.new_bytes, size);
		assert_int_equal(stats.new_chunks, w.stored_count);
		assert_int_equal(stats.reused_chunks, 0);
		assert_true(stats.stored_bytes > size);
	}
}

static void an_empty_stream_has_no_chunks(void **state)
{
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(1);
	struct upload_stats stats = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	fake_init(&w);
	AUTO(upload) struct upload *u = new_upload(pool, &w, "a.pxar.didx", &stats);

	assert_int_equal(send(u, (const uint8_t *)"", 0, 1, &err), 0);
	assert_int_equal(last_closed.count, 0);
}

/* Zeros are cut into equal chunks of the largest size; only the first is stored. */
static void stores_a_repeated_chunk_once(void **state)
{
	const size_t size = 5 << 20;
	AUTO(free) uint8_t *data = calloc(1, size);
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(3);
	struct upload_stats stats = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	fake_init(&w);
	AUTO(upload) struct upload *u = new_upload(pool, &w, "a.pxar.didx", &stats);

	assert_int_equal(send(u, data, size, 100000, &err), 0);
	check_entries(data, size);
	assert_int_equal(last_closed.count, 20);
	assert_int_equal(w.stored_count, 1);
	assert_int_equal(stats.new_chunks, 1);
	assert_int_equal(stats.reused_chunks, 19);
	assert_int_equal(stats.reused_bytes, 19 * 4 * AVG);
}

/* An index of the stream `data`, as a previous snapshot would have it. */
static struct didx index_of(struct didx_writer *out, const uint8_t *data, size_t size)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	const uint8_t uuid[16] = { 0 };
	struct chunker chunker;
	struct digest digest;
	struct didx ix;

	chunker_init(&chunker, AVG);
	assert_int_equal(didx_writer_init(out, uuid, 0, NULL), 0);
	for (size_t begin = 0, cut; begin < size; begin += cut) {
		cut = chunker_scan(&chunker, data + begin, size - begin);
		cut = cut ? cut : size - begin;
		digest_ctx_of(ctx, data + begin, cut, &digest);
		assert_int_equal(didx_writer_add(out, cut, &digest, NULL), 0);
	}
	assert_int_equal(didx_writer_finish(out, &digest, NULL), 0);
	assert_int_equal(didx_open(&ix, out->bytes.data, out->bytes.size, NULL), 0);
	return ix;
}

static void send_known(struct fake *w, struct upload_stats *stats)
{
	const size_t size = 2 << 20;
	AUTO(free) uint8_t *data = noise(size, 2);
	AUTO(didx_writer) struct didx_writer previous = { 0 };
	struct didx ix = index_of(&previous, data, size);
	AUTO(upload_pool) struct upload_pool *pool = new_pool(2);
	AUTO(upload) struct upload *u = new_upload(pool, w, "a.mpxar.didx", stats);
	struct err err = ERR_INIT;

	assert_int_equal(upload_know_index(u, &ix, &err), 0);
	assert_int_equal(send(u, data, size, 4096, &err), 0);
	if (w)
		check_entries(data, size);
	assert_int_equal(stats->chunks, ix.count);
	assert_int_equal(stats->bytes, size);
}

static void known_chunks_are_touched_and_not_stored(void **state)
{
	AUTO(fake) struct fake w;
	struct upload_stats stats = { 0 };

	(void)state;
	fake_init(&w);
	send_known(&w, &stats);
	assert_int_equal(w.reused_count, stats.chunks);
	assert_int_equal(stats.reused_bytes, stats.bytes);
	assert_int_equal(stats.new_chunks, 0);
	assert_int_equal(stats.stored_bytes, 0);
}

static void known_chunks_that_are_gone_are_stored(void **state)
{
	AUTO(fake) struct fake w;
	struct upload_stats stats = { 0 };

	(void)state;
	fake_init(&w);
	w.nothing_there = true;
	send_known(&w, &stats);
	assert_int_equal(w.reused_count, 0);
	assert_int_equal(stats.new_bytes, stats.bytes);
	assert_int_equal(stats.reused_chunks, 0);
}

static void a_dry_run_counts_and_stores_nothing(void **state)
{
	struct upload_stats stats = { 0 };

	(void)state;
	send_known(NULL, &stats);
	assert_int_equal(stats.reused_bytes, stats.bytes);
	assert_int_equal(stats.stored_bytes, 0);
}

/* --- chunks put in unseen --- */

static struct upload *new_payload(struct upload_pool *pool, struct fake *w,
				  struct upload_stats *stats)
{
	const struct upload_params params = { .writer = w ? &w->base : NULL,
					      .index_name = "a.ppxar.didx",
					      .chunk_size_avg = AVG,
					      .suggestions = true,
					      .stats = stats };
	struct upload *u = NULL;

	assert_int_equal(upload_new(&u, pool, &params, NULL), 0);
	return u;
}

static struct upload_chunk old_chunk(unsigned number)
{
	return (struct upload_chunk){ .digest = { .bytes = { 0xff, (uint8_t)number,
							     (uint8_t)(number >> 8) } },
				      .size = 1 + number * 977 % 300000 };
}

/* Every entry up to the next injected chunk is what was written there. */
static void check_raw(const uint8_t *data, size_t *at, size_t end, size_t *entry)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest digest;

	while (*at < end) {
		const struct entry *e = &last_closed.entries[(*entry)++];

		assert_true(*entry <= last_closed.count && e->size <= end - *at);
		digest_ctx_of(ctx, data + *at, e->size, &digest);
		assert_memory_equal(&e->digest, &digest, sizeof(digest));
		*at += e->size;
	}
}

/* Writes of any size, suggestions, and injections of 0 to 300 chunks, anywhere. */
static void injected_chunks_lie_where_they_were_put(void **state)
{
	const size_t size = 6 << 20;
	AUTO(free) uint8_t *data = noise(size, 4);

	(void)state;
	for (unsigned seed = 1; seed < 12; seed++) {
		AUTO(fake) struct fake w;
		AUTO(upload_pool) struct upload_pool *pool = new_pool(1 + seed % 3);
		struct upload_stats stats = { 0 };
		struct err err = ERR_INIT;
		static size_t places[4000];
		unsigned chunks = 0, random = seed;
		uint64_t injected = 0, total;
		struct digest csum;
		size_t at = 0, entry = 0;

		fake_init(&w);
		AUTO(upload) struct upload *u = new_payload(pool, &w, &stats);

		while (at < size) {
			size_t step = (random = random * 1103515245 + 12345) >> 8;

			step %= random >> 4 & 1 ? 400000 : 9000;
			step = step < size - at ? step : size - at;
			upload_suggest_cut(u, at + injected);
			assert_int_equal(upload_write(u, data + at, step, &err), 0);
			at += step;
			if (random >> 5 & 3)
				continue;
			for (unsigned n = random >> 8 & 1 ? 1 : random >> 9 & 255; n && chunks < 4000;
			     n--) {
				struct upload_chunk c = old_chunk(chunks);

				assert_int_equal(upload_reuse_chunk(u, &c.digest, &err), 0);
				assert_int_equal(upload_inject(u, &c, 1, &err), 0);
				injected += c.size;
				places[chunks++] = at;
			}
		}
		assert_int_equal(upload_end(u, &err), 0);
		assert_int_equal(upload_finish(u, &total, &csum, &err), 0);
		assert_int_equal(total, size + injected);
		assert_int_equal(stats.bytes, size + injected);
		assert_int_equal(stats.injected_bytes, injected);
		assert_int_equal(stats.injected_chunks, chunks);
		assert_int_equal(stats.new_bytes, size);
		at = 0;
		for (unsigned i = 0; i < chunks; i++) {
			struct upload_chunk c = old_chunk(i);

			check_raw(data, &at, places[i], &entry);
			assert_true(entry < last_closed.count);
			assert_int_equal(last_closed.entries[entry].size, c.size);
			assert_memory_equal(&last_closed.entries[entry++].digest, &c.digest,
					    sizeof(c.digest));
		}
		check_raw(data, &at, size, &entry);
		assert_int_equal(entry, last_closed.count);
	}
}

/* Send `data` in writes of many sizes, some of them by way of reserved places. */
static void send_reserved(struct upload *u, const uint8_t *data, size_t size, unsigned seed)
{
	struct err err = ERR_INIT;
	unsigned random = seed;

	for (size_t at = 0, step; at < size; at += step) {
		void *place = NULL;

		random = random * 1103515245 + 12345;
		step = (random >> 8) % (random >> 4 & 1 ? UPLOAD_PIECE_SIZE_MAX : 9000) + 1;
		step = step < size - at ? step : size - at;
		upload_suggest_cut(u, at);
		if (seed && random >> 5 & 3)
			place = upload_reserve(u, step + 1); /* what is not used is no matter */
		if (place)
			memcpy(place, data + at, step);
		/* A place that is not used either. */
		if (place && !(random >> 7 & 3))
			place = NULL;
		assert_int_equal(upload_write(u, place ? place : data + at, step, &err), 0);
	}
}

/* Whatever the places, the same sizes of writes make the same chunks. */
static void bytes_in_a_reserved_place_are_as_good_as_copied_ones(void **state)
{
	const size_t size = 60 << 20;
	AUTO(free) uint8_t *data = noise(size, 6);

	(void)state;
	for (unsigned seed = 0; seed < 6; seed++) {
		AUTO(fake) struct fake w;
		AUTO(upload_pool) struct upload_pool *pool = new_pool(2);
		struct upload_stats stats = { 0 };
		struct err err = ERR_INIT;
		struct digest csum;
		size_t at = 0, entry = 0;
		uint64_t total;

		fake_init(&w);
		AUTO(upload) struct upload *u = new_payload(pool, &w, &stats);

		assert_null(upload_reserve(u, UPLOAD_RESERVE_SIZE_MAX + 1));
		send_reserved(u, data, size, seed);
		assert_int_equal(upload_end(u, &err), 0);
		assert_int_equal(upload_finish(u, &total, &csum, &err), 0);
		assert_int_equal(total, size);
		check_raw(data, &at, size, &entry);
		assert_int_equal(entry, last_closed.count);
	}
}

static void there_is_no_place_in_a_stream_that_failed(void **state)
{
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(1);
	struct upload_stats stats = { 0 };

	(void)state;
	fake_init(&w);
	AUTO(upload) struct upload *u = new_payload(pool, &w, &stats);

	assert_non_null(upload_reserve(u, 1 << 20));
	upload_abort(u);
	/* Once what was known to be free is used up. */
	for (int i = 0; i < 100 && upload_reserve(u, 4 << 20); i++) {
		static const uint8_t zeros[4 << 20];
		struct err err = ERR_INIT;

		if (upload_write(u, zeros, sizeof(zeros), &err) < 0)
			return;
	}
	assert_null(upload_reserve(u, 4 << 20));
}

static void many_chunks_are_injected_at_once(void **state)
{
	static struct upload_chunk chunks[1000];
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(2);
	struct upload_stats stats = { 0 };
	struct err err = ERR_INIT;
	struct digest csum;
	uint64_t total;

	(void)state;
	fake_init(&w);
	AUTO(upload) struct upload *u = new_payload(pool, &w, &stats);

	for (unsigned i = 0; i < 1000; i++) {
		chunks[i] = old_chunk(i);
		assert_int_equal(upload_reuse_chunk(u, &chunks[i].digest, &err), 0);
	}
	assert_int_equal(upload_inject(u, chunks, 1000, &err), 0);
	assert_int_equal(upload_end(u, &err), 0);
	assert_int_equal(upload_finish(u, &total, &csum, &err), 0);
	assert_int_equal(last_closed.count, 1000);
	assert_int_equal(total, stats.injected_bytes);
}

static void refuses_to_reuse_a_chunk_that_is_gone(void **state)
{
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(1);
	struct upload_stats stats = { 0 };
	struct upload_chunk c = old_chunk(1);
	struct err err = ERR_INIT;

	(void)state;
	fake_init(&w);
	w.nothing_there = true;
	AUTO(upload) struct upload *u = new_payload(pool, &w, &stats);

	assert_int_equal(upload_reuse_chunk(u, &c.digest, &err), -ENOENT);
	w.nothing_there = false;
	assert_int_equal(upload_reuse_chunk(u, &c.digest, &err), 0);
	assert_int_equal(upload_reuse_chunk(u, &c.digest, &err), 0);
	assert_int_equal(w.reused_count, 1);
}

/* --- golden streams --- */

static struct golden_member chunk_file(const struct golden *tar, const struct digest *digest)
{
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(digest, hex);
	return golden_find(tar, hex);
}

/* The plain bytes of a stream. */
static void load_stream(const struct golden *tar, const struct didx *ix, struct wbuf *out)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();

	wbuf_init(out, ix->size);
	for (size_t i = 0; i < ix->count; i++) {
		struct digest digest;
		struct golden_member m;
		uint64_t begin, end;

		didx_chunk(ix, i, &begin, &end, &digest);
		m = chunk_file(tar, &digest);
		assert_int_equal(blob_decode(codec, m.data, m.size, CHUNK_SIZE_MAX, out, NULL), 0);
	}
	assert_int_equal(out->size, ix->size);
}

static size_t count_equal(const struct didx *ix)
{
	size_t equal = 0;

	for (size_t i = 0; i < ix->count; i++) {
		struct digest digest;
		uint64_t begin, end;

		didx_chunk(ix, i, &begin, &end, &digest);
		for (size_t j = 0; j < last_closed.count; j++) {
			if (digest_equal(&digest, &last_closed.entries[j].digest)) {
				equal++;
				break;
			}
		}
	}
	return equal;
}

static void check_golden(const struct golden *tar, const char *name, size_t step)
{
	struct golden_member file = golden_find(tar, name);
	AUTO(wbuf) struct wbuf stream = { 0 };
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(2);
	struct upload_stats stats = { 0 };
	struct err err = ERR_INIT;
	struct didx ix;

	fake_init(&w);
	AUTO(upload) struct upload *u = new_upload(pool, &w, name, &stats);

	assert_int_equal(didx_open(&ix, file.data, file.size, &err), 0);
	load_stream(tar, &ix, &stream);
	assert_int_equal(send(u, stream.data, stream.size, step, &err), 0);
	assert_int_equal(last_closed.count, ix.count);
	assert_int_equal(count_equal(&ix), ix.count);
}

static void cuts_golden_streams_as_the_official_client_does(void **state)
{
	struct golden tar = golden_read("tests/golden/datastore.tar");

	(void)state;
	check_golden(&tar, "host/legacy/2027-01-15T08:00:01Z/root.pxar.didx", 16);
	check_golden(&tar, "host/legacy/2027-01-15T08:00:01Z/root.pxar.didx", 4 << 20);
	check_golden(&tar, "host/split/2027-01-15T08:00:02Z/root.mpxar.didx", 100);
	check_golden(&tar, "host/split/2027-01-15T08:00:09Z/root.mpxar.didx", 1000);
	check_golden(&tar, "host/split/2027-01-15T08:00:10Z/root.mpxar.didx", 300000);
	check_golden(&tar, "host/data/2027-01-15T08:00:03Z/root.mpxar.didx", 1 << 20);
	golden_free(&tar);
}

/* Write a payload stream as the official encoder does: marker, then header and content of
 * each file, a place for a cut suggested before each. */
static int send_payload(struct upload *u, const struct wbuf *s, bool jitter, struct err *err)
{
	const uint8_t *p = s->data;
	size_t at = 16;
	int rc = upload_write(u, p, 16, err);

	while (rc == 0 && at < s->size) {
		size_t size = (size_t)le64_get(p + at + 8) - 16;
		bool is_file = at + 16 < s->size;

		must(size < s->size);
		if (jitter && at % 11 == 0)
			usleep(200);
		if (is_file)
			upload_suggest_cut(u, at);
		rc = upload_write(u, p + at, 16, err);
		at += 16;
		for (size_t end = at + size; rc == 0 && at < end;) {
			size_t part = end - at < 4 << 20 ? end - at : 4 << 20;

			rc = upload_write(u, p + at, part, err);
			at += part;
		}
	}
	return rc;
}

static void cut_payload(const struct wbuf *stream, unsigned threads, bool jitter)
{
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(threads);
	AUTO(upload) struct upload *u = NULL;
	struct upload_stats stats = { 0 };
	const struct upload_params params = { .writer = &w.base,
					      .index_name = "root.ppxar.didx",
					      .chunk_size_avg = AVG,
					      .suggestions = true,
					      .stats = &stats };
	struct err err = ERR_INIT;
	struct digest csum;
	uint64_t total;

	fake_init(&w);
	w.slow = jitter;
	assert_int_equal(upload_new(&u, pool, &params, &err), 0);
	assert_int_equal(send_payload(u, stream, jitter, &err), 0);
	assert_int_equal(upload_end(u, &err), 0);
	assert_int_equal(upload_finish(u, &total, &csum, &err), 0);
}

struct kept {
	struct entry *entries;
	size_t count;
};

/* The official client's cuts depend on a race in a few places, ours never do; nearly all are
 * the same. */
static void cuts_payload_the_same_way_every_time(void **state)
{
	struct golden tar = golden_read("tests/golden/datastore.tar");
	struct golden_member file =
		golden_find(&tar, "host/data/2027-01-15T08:00:03Z/root.ppxar.didx");
	AUTO(wbuf) struct wbuf stream = { 0 };
	struct kept first = { 0 };
	struct err err = ERR_INIT;
	struct didx ix;

	(void)state;
	assert_int_equal(didx_open(&ix, file.data, file.size, &err), 0);
	load_stream(&tar, &ix, &stream);
	for (unsigned round = 0; round < 6; round++) {
		cut_payload(&stream, 1 + round % 3, round % 2);
		if (round == 0) {
			assert_true(count_equal(&ix) * 100 >= ix.count * 95);
			first.count = last_closed.count;
			first.entries = malloc(first.count * sizeof(*first.entries));
			must(first.entries);
			memcpy(first.entries, last_closed.entries,
			       first.count * sizeof(*first.entries));
		}
		assert_int_equal(last_closed.count, first.count);
		assert_memory_equal(last_closed.entries, first.entries,
				    first.count * sizeof(*first.entries));
	}
	free(first.entries);
	golden_free(&tar);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(indexes_what_the_chunker_cuts),
		cmocka_unit_test(an_empty_stream_has_no_chunks),
		cmocka_unit_test(stores_a_repeated_chunk_once),
		cmocka_unit_test(known_chunks_are_touched_and_not_stored),
		cmocka_unit_test(known_chunks_that_are_gone_are_stored),
		cmocka_unit_test(a_dry_run_counts_and_stores_nothing),
		cmocka_unit_test(injected_chunks_lie_where_they_were_put),
		cmocka_unit_test(bytes_in_a_reserved_place_are_as_good_as_copied_ones),
		cmocka_unit_test(there_is_no_place_in_a_stream_that_failed),
		cmocka_unit_test(many_chunks_are_injected_at_once),
		cmocka_unit_test(refuses_to_reuse_a_chunk_that_is_gone),
		cmocka_unit_test(cuts_golden_streams_as_the_official_client_does),
		cmocka_unit_test(cuts_payload_the_same_way_every_time),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	forget_last();
	return failed;
}
