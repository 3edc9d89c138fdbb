/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib/repo_memory.h"

#include "tests/support/lib/repo_fill.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A snapshot of one stream "abcdefgh", two bytes a chunk. */
struct bench {
	struct repo *repo;
	struct snapshot_name name;
	struct digest first; /* chunk "ab" */
	struct repo_reader *reader;
};

static void bench_init(struct bench *b)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "test", 1800000000);

	b->repo = repo_memory_new();
	b->name = repo_fill_name();
	repo_fill_stream(b->repo, &b->name, m, "root.pxar.didx", "abcdefgh", 8, 2);
	repo_fill_manifest(b->repo, &b->name, m);
	b->first = repo_fill_chunk(b->repo, "ab", 2);
	assert_int_equal(repo_read(b->repo, &b->name, &b->reader, NULL), 0);
}

static void bench_release(struct bench *b)
{
	repo_reader_free(b->reader);
	repo_free(b->repo);
}
DEFINE_AUTO_STRUCT(bench)

static int get_first(struct bench *b, struct wbuf *out, struct err *err)
{
	return repo_reader_get_chunk(b->reader, &b->first, out, err);
}

static int get(struct bench *b)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(1000);

	return get_first(b, &out, NULL);
}

static const struct repo_memory_match any_chunk = { .call = REPO_MEMORY_GET_CHUNK };

static void counts_what_is_asked_for(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_memory_match first = { .call = REPO_MEMORY_GET_CHUNK };
	struct repo_memory_match file = { .call = REPO_MEMORY_GET_FILE, .file = "root.pxar.didx" };
	AUTO(repo_file) struct repo_file index = { 0 };

	(void)state;
	bench_init(&b);
	first.chunk = &b.first;
	assert_int_equal(repo_memory_chunk_count(b.repo), 4);
	assert_int_equal(get(&b), 0);
	assert_int_equal(get(&b), 0);
	assert_int_equal(repo_reader_get_file(b.reader, "root.pxar.didx", &index, NULL), 0);
	assert_int_equal(index.size, 4096 + 4 * 40);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 2);
	assert_int_equal(repo_memory_count(b.repo, &first), 2);
	assert_int_equal(repo_memory_count(b.repo, &file), 1);
	assert_int_equal(repo_memory_distinct_chunks(b.repo), 1);
	file.file = "other";
	assert_int_equal(repo_memory_count(b.repo, &file), 0);
	repo_memory_forget_counts(b.repo);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 0);
}

static void fails_as_often_as_told(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_memory_fault fault = { any_chunk, REPO_MEMORY_FAIL, EIO, 1, 2 };

	(void)state;
	bench_init(&b);
	repo_memory_add_fault(b.repo, &fault);
	assert_int_equal(get(&b), 0);
	assert_int_equal(get(&b), -EIO);
	assert_int_equal(get(&b), -EIO);
	assert_int_equal(get(&b), 0);
}

static void fails_until_it_is_healed(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_memory_fault fault = { any_chunk, REPO_MEMORY_FAIL, ETIMEDOUT, 0, 0 };

	(void)state;
	bench_init(&b);
	repo_memory_add_fault(b.repo, &fault);
	for (int i = 0; i < 10; i++)
		assert_int_equal(get(&b), -ETIMEDOUT);
	repo_memory_heal(b.repo);
	assert_int_equal(get(&b), 0);
}

static void spares_what_does_not_match(void **state)
{
	AUTO(bench) struct bench b;
	struct digest other = { { 1 } };
	struct repo_memory_fault fault = { { REPO_MEMORY_GET_CHUNK, NULL, &other },
					   REPO_MEMORY_FAIL, EIO, 0, 0 };

	(void)state;
	bench_init(&b);
	repo_memory_add_fault(b.repo, &fault);
	assert_int_equal(get(&b), 0);
}

static void truncates_and_flips(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(wbuf) struct wbuf good = WBUF_INIT(1000), cut = WBUF_INIT(1000), bad = WBUF_INIT(1000);
	struct repo_memory_fault truncate = { any_chunk, REPO_MEMORY_TRUNCATE, 5, 0, 1 };
	struct repo_memory_fault flip = { any_chunk, REPO_MEMORY_FLIP, 12, 0, 1 };

	(void)state;
	bench_init(&b);
	assert_int_equal(get_first(&b, &good, NULL), 0);
	repo_memory_add_fault(b.repo, &truncate);
	repo_memory_add_fault(b.repo, &flip);
	assert_int_equal(get_first(&b, &cut, NULL), 0);
	assert_int_equal(cut.size, 5);
	assert_memory_equal(cut.data, good.data, 5);
	assert_int_equal(get_first(&b, &bad, NULL), 0);
	assert_int_equal(bad.size, good.size);
	assert_int_equal(bad.data[12], 'a' ^ 1);
	assert_int_equal(bad.data[13], 'b');
}

static void a_missing_chunk_is_named(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(wbuf) struct wbuf out = WBUF_INIT(1000);
	struct err err = ERR_INIT;
	char hex[DIGEST_HEX_SIZE];

	(void)state;
	bench_init(&b);
	repo_memory_remove_chunk(b.repo, &b.first);
	assert_false(repo_memory_has_chunk(b.repo, &b.first));
	assert_int_equal(get_first(&b, &out, &err), -ENOENT);
	digest_to_hex(&b.first, hex);
	assert_non_null(strstr(err.text, hex));
}

static void a_store_that_is_gone_fails_and_comes_back(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_reader *reader;

	(void)state;
	bench_init(&b);
	repo_memory_set_gone(b.repo, true);
	assert_int_equal(get(&b), -EIO);
	assert_int_equal(repo_read(b.repo, &b.name, &reader, NULL), -EIO);
	repo_memory_set_gone(b.repo, false);
	assert_int_equal(get(&b), 0);
}

struct caller {
	struct bench *bench;
	pthread_t thread;
	int rc;
};

static void *call(void *arg)
{
	struct caller *c = arg;

	c->rc = get(c->bench);
	return NULL;
}

static void callers_start(struct bench *b, struct caller *callers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		callers[i] = (struct caller){ .bench = b };
		pthread_create(&callers[i].thread, NULL, call, &callers[i]);
	}
}

static size_t callers_join(struct caller *callers, size_t count, int rc)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		pthread_join(callers[i].thread, NULL);
		n += callers[i].rc == rc;
	}
	return n;
}

static void a_gate_stops_calls_until_it_is_opened(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_memory_gate *gate;
	struct caller callers[5];

	(void)state;
	bench_init(&b);
	gate = repo_memory_gate(b.repo, &any_chunk);
	callers_start(&b, callers, 5);
	repo_memory_gate_await(gate, 5);
	repo_memory_gate_open(gate);
	assert_int_equal(callers_join(callers, 5, 0), 5);
	repo_memory_gate_close(gate);
	callers_start(&b, callers, 2);
	repo_memory_gate_await(gate, 2);
	repo_memory_gate_let(gate, 2);
	assert_int_equal(callers_join(callers, 2, 0), 2);
}

static void a_fault_set_at_a_gate_takes_effect(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_memory_fault fault = { any_chunk, REPO_MEMORY_FAIL, EIO, 0, 1 };
	struct repo_memory_gate *gate;
	struct caller callers[3];

	(void)state;
	bench_init(&b);
	gate = repo_memory_gate(b.repo, &any_chunk);
	callers_start(&b, callers, 3);
	repo_memory_gate_await(gate, 3);
	repo_memory_add_fault(b.repo, &fault);
	repo_memory_gate_open(gate);
	assert_int_equal(callers_join(callers, 3, -EIO), 1);
}

static void an_abort_frees_who_stands_at_a_gate(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_memory_gate *gate;
	struct caller callers[3];

	(void)state;
	bench_init(&b);
	gate = repo_memory_gate(b.repo, &any_chunk);
	callers_start(&b, callers, 3);
	repo_memory_gate_await(gate, 3);
	repo_reader_abort(b.reader);
	assert_int_equal(callers_join(callers, 3, -ECANCELED), 3);
	repo_memory_gate_open(gate);
	assert_int_equal(get(&b), -ECANCELED);
}

static void a_store_that_goes_frees_who_stands_at_a_gate(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_memory_gate *gate;
	struct caller callers[3];

	(void)state;
	bench_init(&b);
	gate = repo_memory_gate(b.repo, &any_chunk);
	callers_start(&b, callers, 3);
	repo_memory_gate_await(gate, 3);
	repo_memory_set_gone(b.repo, true);
	assert_int_equal(callers_join(callers, 3, -EIO), 3);
}

static void copies_a_snapshot(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(repo) struct repo *copy = repo_memory_new();
	size_t size, copied_size;
	const void *index, *copied;

	(void)state;
	bench_init(&b);
	assert_int_equal(repo_memory_copy(copy, b.repo, &b.name, NULL), 0);
	assert_int_equal(repo_memory_chunk_count(copy), 4);
	index = repo_memory_file(b.repo, &b.name, "root.pxar.didx", &size);
	copied = repo_memory_file(copy, &b.name, "root.pxar.didx", &copied_size);
	assert_int_equal(size, copied_size);
	assert_memory_equal(index, copied, size);
}

static struct repo_writer *begin(struct repo *r, int64_t time)
{
	struct repo_writer_params params = { .name = repo_fill_name(), .owner = "root@pam" };
	struct repo_writer *w = NULL;

	params.name.time = time;
	assert_int_equal(repo_write(r, &params, &w, NULL), 0);
	return w;
}

static void an_index_takes_only_chunks_of_its_session(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(repo_writer) struct repo_writer *w = NULL;
	struct repo_index *ix;

	(void)state;
	bench_init(&b);
	w = begin(b.repo, 1800000001);
	assert_int_equal(repo_writer_previous(w)->time, 1800000000);
	assert_int_equal(repo_writer_index_open(w, "a.pxar.didx", &ix, NULL), 0);
	assert_int_equal(repo_index_add(w, ix, 2, &b.first, NULL), -EINVAL);
	assert_int_equal(repo_writer_reuse_chunk(w, &b.first, NULL), 0);
	assert_int_equal(repo_index_add(w, ix, 2, &b.first, NULL), 0);
}

static void a_session_that_ends_early_leaves_no_snapshot(void **state)
{
	AUTO(bench) struct bench b;
	struct snapshot_name name = repo_fill_name();
	struct repo_writer *w;
	struct repo_reader *reader;
	struct repo_index *ix;
	struct digest csum;
	uint64_t size;

	(void)state;
	bench_init(&b);
	name.time++;
	w = begin(b.repo, name.time);
	assert_int_equal(repo_writer_index_open(w, "a.pxar.didx", &ix, NULL), 0);
	assert_int_equal(repo_writer_reuse_chunk(w, &b.first, NULL), 0);
	assert_int_equal(repo_index_add(w, ix, 2, &b.first, NULL), 0);
	assert_int_equal(repo_index_close(w, ix, &size, &csum, NULL), 0);
	repo_writer_free(w);
	assert_int_equal(repo_read(b.repo, &name, &reader, NULL), -ENOENT);
	repo_writer_free(begin(b.repo, name.time));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_what_is_asked_for),
		cmocka_unit_test(fails_as_often_as_told),
		cmocka_unit_test(fails_until_it_is_healed),
		cmocka_unit_test(spares_what_does_not_match),
		cmocka_unit_test(truncates_and_flips),
		cmocka_unit_test(a_missing_chunk_is_named),
		cmocka_unit_test(a_store_that_is_gone_fails_and_comes_back),
		cmocka_unit_test(a_gate_stops_calls_until_it_is_opened),
		cmocka_unit_test(a_fault_set_at_a_gate_takes_effect),
		cmocka_unit_test(an_abort_frees_who_stands_at_a_gate),
		cmocka_unit_test(a_store_that_goes_frees_who_stands_at_a_gate),
		cmocka_unit_test(copies_a_snapshot),
		cmocka_unit_test(an_index_takes_only_chunks_of_its_session),
		cmocka_unit_test(a_session_that_ends_early_leaves_no_snapshot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
