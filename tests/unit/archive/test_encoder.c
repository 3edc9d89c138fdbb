/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/encoder.h"

#include "archive/base/digest.h"
#include "archive/base/le.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { STREAM_MAX = 16 << 20, WRITES_MAX = 64 };

/* A sink that keeps what it gets, the size of each write, and can fail at the n-th. */
struct kept {
	struct wbuf bytes;
	size_t writes[WRITES_MAX];
	size_t write_count;
	size_t fail_at; /* 1: the first write; 0: none */
};

struct streams {
	struct kept meta, payload;
	uint64_t cuts[WRITES_MAX];
	size_t cut_count;
};

static int keep(void *arg, const void *data, size_t size, struct err *err)
{
	struct kept *k = arg;

	assert_true(size > 0);
	if (k->write_count < WRITES_MAX)
		k->writes[k->write_count] = size;
	if (++k->write_count == k->fail_at)
		return err_set(err, EIO, "sink is full");
	return wbuf_put(&k->bytes, data, size);
}

static void note_cut(void *arg, uint64_t payload_offset)
{
	struct streams *s = arg;

	assert_true(s->cut_count < WRITES_MAX);
	s->cuts[s->cut_count++] = payload_offset;
}

static void streams_init(struct streams *s)
{
	memset(s, 0, sizeof(*s));
	wbuf_init(&s->meta.bytes, STREAM_MAX);
	wbuf_init(&s->payload.bytes, STREAM_MAX);
}

static void streams_release(struct streams *s)
{
	wbuf_release(&s->meta.bytes);
	wbuf_release(&s->payload.bytes);
}
DEFINE_AUTO_STRUCT(streams)

static struct encoder_params params_of(struct streams *s, bool split)
{
	return (struct encoder_params){
		.meta = { keep, &s->meta },
		.payload = { split ? keep : NULL, &s->payload },
		.suggest_cut = note_cut,
		.suggest_arg = s,
	};
}

static struct encoder *start(struct streams *s, bool split, const struct metadata *root)
{
	struct encoder_params params = params_of(s, split);
	struct encoder *e = NULL;

	assert_int_equal(encoder_new(&e, &params, root, NULL), 0);
	return e;
}

/* Metadata without attributes needs no release. */
static struct metadata stat_of(uint64_t mode)
{
	struct metadata m;

	metadata_init(&m);
	m.mode = mode;
	m.uid = m.gid = 1000;
	m.mtime_sec = 1704164645;
	m.mtime_nsec = 678901234;
	return m;
}

static const struct metadata *directory(void)
{
	static struct metadata m;

	m = stat_of(PXAR_MODE_DIRECTORY | 0755);
	return &m;
}

static const struct metadata *file(void)
{
	static struct metadata m;

	m = stat_of(PXAR_MODE_REGULAR | 0644);
	return &m;
}

static const struct metadata *link_meta(void)
{
	static struct metadata m;

	m = stat_of(PXAR_MODE_SYMLINK | 0777);
	return &m;
}

static void put_file(struct encoder *e, const char *name, const char *content,
		     uint64_t *filename_offset)
{
	assert_int_equal(encoder_file_begin(e, name, file(), strlen(content), filename_offset,
					    NULL),
			 0);
	assert_int_equal(encoder_file_write(e, content, strlen(content), NULL), 0);
	assert_int_equal(encoder_file_end(e, NULL), 0);
}

static void assert_stream(const struct wbuf *b, size_t size, const char *sha256)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest d;
	char hex[DIGEST_HEX_SIZE];

	assert_int_equal(b->size, size);
	digest_ctx_of(ctx, b->data, b->size, &d);
	digest_to_hex(&d, hex);
	assert_string_equal(hex, sha256);
}

/* The example that the official tool made: a.txt, b.txt (hard link), c (symlink). */
static void encode_example(struct streams *s, bool split)
{
	AUTO(encoder) struct encoder *e = start(s, split, directory());
	uint64_t a = 0;

	put_file(e, "a.txt", "Hello\n", &a);
	assert_int_equal(encoder_hardlink(e, "b.txt", "a.txt", a, NULL), 0);
	assert_int_equal(encoder_symlink(e, "c", link_meta(), "a.txt", NULL), 0);
	assert_int_equal(encoder_finish(e, NULL), 0);
	assert_int_equal(encoder_meta_offset(e), s->meta.bytes.size);
	assert_int_equal(encoder_payload_offset(e), s->payload.bytes.size);
}

static void makes_the_official_version_1_example(void **state)
{
	AUTO(streams) struct streams s;

	(void)state;
	streams_init(&s);
	encode_example(&s, false);
	assert_stream(&s.meta.bytes, 416,
		      "e78c227cbbfdad03f229b541e9b8507220e028858ac4ac0242a4de71f74f587d");
	assert_int_equal(s.payload.write_count, 0);
	assert_int_equal(s.cut_count, 0);
}

static void makes_the_official_split_example(void **state)
{
	AUTO(streams) struct streams s;

	(void)state;
	streams_init(&s);
	encode_example(&s, true);
	assert_stream(&s.meta.bytes, 450,
		      "cf4d202835b92af99897a8a91d44ddaf003dc740cc5b3c17b7ba0be115b423fc");
	assert_stream(&s.payload.bytes, 54,
		      "47b2160d8aad3a33539aaa2aa3d8fe46e7cffc121eb38cf7be1169a7eca2bd86");
	assert_int_equal(s.cut_count, 1);
	assert_int_equal(s.cuts[0], 16);
}

static void makes_the_smallest_archives(void **state)
{
	for (int split = 0; split < 2; split++) {
		AUTO(streams) struct streams s;
		AUTO(encoder) struct encoder *e = NULL;
		const uint8_t *tail;

		(void)state;
		streams_init(&s);
		e = start(&s, split, directory());
		assert_int_equal(encoder_finish(e, NULL), 0);
		assert_int_equal(s.meta.bytes.size, split ? 120 : 96);
		assert_int_equal(s.payload.bytes.size, split ? 32 : 0);
		tail = s.meta.bytes.data + s.meta.bytes.size - 24;
		assert_true(le64_get(tail) == PXAR_GOODBYE_TAIL);
		assert_int_equal(le64_get(tail + 8), split ? 80 : 56);
		assert_int_equal(le64_get(tail + 16), 40);
	}
}

static void payload_stream_sees_one_write_for_each_thing(void **state)
{
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;
	static const size_t want[] = { 16, 16, 3, 4, 16, 16 };

	(void)state;
	streams_init(&s);
	e = start(&s, true, directory());
	assert_int_equal(encoder_file_begin(e, "a", file(), 7, NULL, NULL), 0);
	assert_int_equal(encoder_file_write(e, "123", 3, NULL), 0);
	assert_int_equal(encoder_file_write(e, "", 0, NULL), 0);
	assert_int_equal(encoder_file_write(e, "4567", 4, NULL), 0);
	assert_int_equal(encoder_file_end(e, NULL), 0);
	put_file(e, "empty", "", NULL);
	assert_int_equal(encoder_finish(e, NULL), 0);
	assert_int_equal(s.payload.write_count, 6);
	assert_memory_equal(s.payload.writes, want, sizeof(want));
	assert_int_equal(s.meta.write_count, 4); /* root, two heads, table */
	assert_int_equal(s.cut_count, 2);
	assert_int_equal(s.cuts[1], 16 + 16 + 7);
}

static void prelude_follows_the_version(void **state)
{
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;
	struct encoder_params params;

	(void)state;
	streams_init(&s);
	params = params_of(&s, true);
	params.prelude = "{}";
	params.prelude_size = 2;
	assert_int_equal(encoder_new(&e, &params, directory(), NULL), 0);
	assert_true(le64_get(s.meta.bytes.data + 24) == PXAR_PRELUDE);
	assert_int_equal(le64_get(s.meta.bytes.data + 32), 18);
	assert_memory_equal(s.meta.bytes.data + 40, "{}", 2);
	assert_true(le64_get(s.meta.bytes.data + 42) == PXAR_ENTRY);
	assert_int_equal(encoder_finish(e, NULL), 0);
	/* The root's tail counts from the start of the stream, not from its ENTRY. */
	assert_int_equal(le64_get(s.meta.bytes.data + s.meta.bytes.size - 16),
			 s.meta.bytes.size - 40);
}

static void refuses_a_prelude_in_version_1(void **state)
{
	AUTO(streams) struct streams s;
	struct encoder_params params;
	struct encoder *e = NULL;

	(void)state;
	streams_init(&s);
	params = params_of(&s, false);
	params.prelude = "{}";
	params.prelude_size = 2;
	assert_int_equal(encoder_new(&e, &params, directory(), NULL), -EINVAL);
	assert_null(e);
	assert_int_equal(s.meta.write_count, 0);
}

/* The size that the slot of the root's only member says. */
static uint64_t only_slot_size(const struct streams *s)
{
	return le64_get(s->meta.bytes.data + s->meta.bytes.size - 24 - 8);
}

static void reused_file_refers_without_counting_its_content(void **state)
{
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;
	uint64_t offset = 0;

	(void)state;
	streams_init(&s);
	e = start(&s, true, directory());
	assert_int_equal(encoder_file_reuse(e, "a", file(), 32, 1000, &offset, NULL), 0);
	assert_int_equal(offset, 80);
	assert_int_equal(encoder_payload_offset(e), 16);
	assert_int_equal(encoder_payload_advance(e, 5000, NULL), 0);
	assert_int_equal(encoder_payload_offset(e), 5016);
	assert_int_equal(encoder_finish(e, NULL), 0);
	assert_int_equal(only_slot_size(&s), 18 + 56 + 32);
	assert_int_equal(s.payload.bytes.size, 32);
	assert_int_equal(s.cut_count, 1);
}

static void slot_size_can_be_set_to_either_form(void **state)
{
	static const uint64_t head = 18 + 56 + 32;

	(void)state;
	for (int reuse = 0; reuse < 2; reuse++) {
		AUTO(streams) struct streams s;
		AUTO(encoder) struct encoder *e = NULL;

		streams_init(&s);
		e = start(&s, true, directory());
		if (reuse)
			assert_int_equal(encoder_file_reuse(e, "a", file(), 16, 6, NULL, NULL),
					 0);
		else
			put_file(e, "a", "Hello\n", NULL);
		assert_int_equal(encoder_member_size(e, 0, head - 1, NULL), -EINVAL);
		assert_int_equal(encoder_member_size(e, 1, head, NULL), -EINVAL);
		assert_int_equal(encoder_member_size(e, 0, reuse ? head + 6 : head, NULL), 0);
		assert_int_equal(encoder_finish(e, NULL), 0);
		assert_int_equal(only_slot_size(&s), reuse ? head + 6 : head);
	}
}

static void refuses_references_that_go_back(void **state)
{
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;

	(void)state;
	streams_init(&s);
	e = start(&s, true, directory());
	assert_int_equal(encoder_file_reuse(e, "a", file(), 15, 10, NULL, NULL), -EINVAL);
	assert_int_equal(encoder_file_reuse(e, "a", file(), 100, 10, NULL, NULL), 0);
	assert_int_equal(encoder_file_reuse(e, "b", file(), 125, 10, NULL, NULL), -EINVAL);
	assert_int_equal(encoder_file_reuse(e, "b", file(), 126, 10, NULL, NULL), 0);
	assert_int_equal(encoder_payload_advance(e, 1000, NULL), 0);
	assert_int_equal(encoder_file_reuse(e, "c", file(), 1015, 10, NULL, NULL), -EINVAL);
	put_file(e, "c", "x", NULL);
	assert_int_equal(encoder_file_reuse(e, "d", file(), 1032, 1, NULL, NULL), -EINVAL);
	assert_int_equal(encoder_file_reuse(e, "d", file(), UINT64_MAX - 20, 10, NULL, NULL),
			 -E2BIG);
}

static void refuses_references_in_version_1(void **state)
{
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;

	(void)state;
	streams_init(&s);
	e = start(&s, false, directory());
	assert_int_equal(encoder_file_reuse(e, "a", file(), 16, 10, NULL, NULL), -EINVAL);
	assert_int_equal(encoder_payload_advance(e, 10, NULL), -EINVAL);
}

static void refuses_calls_out_of_order(void **state)
{
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;

	(void)state;
	streams_init(&s);
	e = start(&s, true, directory());
	assert_int_equal(encoder_dir_end(e, NULL), -EINVAL);
	assert_int_equal(encoder_file_write(e, "x", 1, NULL), -EINVAL);
	assert_int_equal(encoder_file_end(e, NULL), -EINVAL);
	assert_int_equal(encoder_file_begin(e, "a", file(), 2, NULL, NULL), 0);
	assert_int_equal(encoder_file_write(e, "xyz", 3, NULL), -EINVAL);
	assert_int_equal(encoder_file_end(e, NULL), -EINVAL);
	assert_int_equal(encoder_dir_begin(e, "b", directory(), NULL), -EINVAL);
	assert_int_equal(encoder_finish(e, NULL), -EINVAL);
	assert_int_equal(encoder_file_write(e, "xy", 2, NULL), 0);
	assert_int_equal(encoder_file_end(e, NULL), 0);
	assert_int_equal(encoder_dir_begin(e, "b", directory(), NULL), 0);
	assert_int_equal(encoder_finish(e, NULL), -EINVAL);
	assert_int_equal(encoder_hardlink(e, "c", "a", encoder_meta_offset(e), NULL), -EINVAL);
	assert_int_equal(encoder_dir_end(e, NULL), 0);
	assert_int_equal(encoder_finish(e, NULL), 0);
	assert_int_equal(encoder_finish(e, NULL), -EINVAL);
	assert_int_equal(encoder_dir_begin(e, "c", directory(), NULL), -EINVAL);
}

static void refuses_a_type_that_does_not_fit(void **state)
{
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;
	struct encoder_params params;
	struct encoder *none = NULL;

	(void)state;
	streams_init(&s);
	params = params_of(&s, true);
	assert_int_equal(encoder_new(&none, &params, file(), NULL), -EINVAL);
	e = start(&s, true, directory());
	assert_int_equal(encoder_dir_begin(e, "a", file(), NULL), -EINVAL);
	assert_int_equal(encoder_file_begin(e, "a", directory(), 0, NULL, NULL), -EINVAL);
	assert_int_equal(encoder_symlink(e, "a", file(), "t", NULL), -EINVAL);
	assert_int_equal(encoder_device(e, "a", file(), 1, 2, NULL), -EINVAL);
	assert_int_equal(encoder_special(e, "a", file(), NULL), -EINVAL);
}

/* Whatever one object has wrong, the next one goes on as if it had not been there. */
static void refused_object_leaves_no_trace(void **state)
{
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;
	char longer[4098];
	uint64_t a = 0;

	(void)state;
	memset(longer, 'x', 4097);
	longer[4097] = 0;
	streams_init(&s);
	e = start(&s, true, directory());
	assert_int_equal(encoder_file_begin(e, longer, file(), 1, NULL, NULL), -E2BIG);
	assert_int_equal(encoder_file_begin(e, "..", file(), 1, NULL, NULL), -EINVAL);
	assert_int_equal(encoder_file_begin(e, "big", file(), UINT64_MAX - 20, NULL, NULL), -E2BIG);
	assert_int_equal(encoder_symlink(e, "l", link_meta(), longer, NULL), -E2BIG);
	put_file(e, "a.txt", "Hello\n", &a);
	assert_int_equal(encoder_hardlink(e, "b", longer, a, NULL), -E2BIG);
	assert_int_equal(encoder_hardlink(e, "b", "../a", a, NULL), -EINVAL);
	assert_int_equal(encoder_hardlink(e, "b.txt", "a.txt", a, NULL), 0);
	assert_int_equal(encoder_symlink(e, "c", link_meta(), "a.txt", NULL), 0);
	assert_int_equal(encoder_finish(e, NULL), 0);
	assert_stream(&s.meta.bytes, 450,
		      "cf4d202835b92af99897a8a91d44ddaf003dc740cc5b3c17b7ba0be115b423fc");
	assert_int_equal(s.cut_count, 1);
}

static int run_with_failing_sinks(size_t meta_at, size_t payload_at)
{
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;
	struct encoder_params params;
	struct err err = ERR_INIT;
	int rc;

	streams_init(&s);
	s.meta.fail_at = meta_at;
	s.payload.fail_at = payload_at;
	params = params_of(&s, true);
	rc = encoder_new(&e, &params, directory(), &err);
	if (!rc)
		rc = encoder_dir_begin(e, "d", directory(), &err);
	if (!rc)
		rc = encoder_file_begin(e, "f", file(), 3, NULL, &err);
	if (!rc)
		rc = encoder_file_write(e, "abc", 3, &err);
	if (!rc)
		rc = encoder_file_end(e, &err);
	if (!rc)
		rc = encoder_dir_end(e, &err);
	if (!rc)
		rc = encoder_finish(e, &err);
	if (rc && e) {
		assert_string_equal(err.text, "sink is full");
		assert_int_equal(encoder_dir_begin(e, "x", directory(), NULL), -EIO);
		assert_int_equal(encoder_finish(e, NULL), -EIO);
	}
	return rc;
}

static void error_of_a_sink_is_handed_on_and_final(void **state)
{
	(void)state;
	for (size_t at = 1; at <= 5; at++)
		assert_int_equal(run_with_failing_sinks(at, 0), -EIO);
	for (size_t at = 1; at <= 4; at++)
		assert_int_equal(run_with_failing_sinks(0, at), -EIO);
	assert_int_equal(run_with_failing_sinks(6, 5), 0);
}

/* More members than a piece of the table and many nested folders: sizes must add up. */
static void large_tables_and_deep_trees_add_up(void **state)
{
	enum { MEMBERS = 20000, DEPTH = 300 };
	AUTO(streams) struct streams s;
	AUTO(encoder) struct encoder *e = NULL;
	const uint8_t *end;
	char name[16];

	(void)state;
	streams_init(&s);
	e = start(&s, false, directory());
	for (int i = 0; i < MEMBERS; i++) {
		struct metadata m = stat_of(PXAR_MODE_FIFO | 0600);

		snprintf(name, sizeof(name), "%08d", i);
		assert_int_equal(encoder_special(e, name, &m, NULL), 0);
	}
	for (int i = 0; i < DEPTH; i++)
		assert_int_equal(encoder_dir_begin(e, "d", directory(), NULL), 0);
	for (int i = 0; i < DEPTH; i++)
		assert_int_equal(encoder_dir_end(e, NULL), 0);
	assert_int_equal(encoder_finish(e, NULL), 0);

	assert_int_equal(s.meta.bytes.size, 56 + MEMBERS * (25 + 56) + DEPTH * (18 + 56) + 40 +
						    (DEPTH - 1) * 64 + 40 + 24 * (MEMBERS + 1));
	end = s.meta.bytes.data + s.meta.bytes.size;
	assert_int_equal(le64_get(end - 8), 40 + 24 * (MEMBERS + 1));
	assert_int_equal(le64_get(end - 16), s.meta.bytes.size - 40 - 24 * (MEMBERS + 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_the_official_version_1_example),
		cmocka_unit_test(makes_the_official_split_example),
		cmocka_unit_test(makes_the_smallest_archives),
		cmocka_unit_test(payload_stream_sees_one_write_for_each_thing),
		cmocka_unit_test(prelude_follows_the_version),
		cmocka_unit_test(refuses_a_prelude_in_version_1),
		cmocka_unit_test(reused_file_refers_without_counting_its_content),
		cmocka_unit_test(slot_size_can_be_set_to_either_form),
		cmocka_unit_test(refuses_references_that_go_back),
		cmocka_unit_test(refuses_references_in_version_1),
		cmocka_unit_test(refuses_calls_out_of_order),
		cmocka_unit_test(refuses_a_type_that_does_not_fit),
		cmocka_unit_test(refused_object_leaves_no_trace),
		cmocka_unit_test(error_of_a_sink_is_handed_on_and_final),
		cmocka_unit_test(large_tables_and_deep_trees_add_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
