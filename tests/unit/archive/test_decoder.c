/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/decoder.h"

#include "archive/base/le.h"
#include "tests/support/build_archive.h"
#include "tests/support/copy_archive.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/decode_all.h"

static int decode_built(struct build *a)
{
	struct pipe meta = { .data = a->b.data, .size = a->b.size };

	assert_int_equal(a->b.failed, 0);
	return decode(&meta, NULL, true, NULL, NULL);
}

/* --- the examples of the official tool, by way of the encoder --- */

struct example {
	struct wbuf meta, payload;
};

static int append(void *arg, const void *data, size_t size, struct err *err)
{
	(void)err;
	return wbuf_put(arg, data, size);
}

static void example_init(struct example *x, bool split)
{
	AUTO(encoder) struct encoder *e = NULL;
	struct encoder_params params = { .meta = { append, &x->meta } };
	struct metadata m;
	uint64_t a;

	wbuf_init(&x->meta, 4096);
	wbuf_init(&x->payload, 4096);
	if (split)
		params.payload = (struct encoder_sink){ append, &x->payload };
	metadata_init(&m);
	m.uid = m.gid = 1000;
	m.mtime_sec = 1704164645;
	m.mtime_nsec = 678901234;
	m.mode = PXAR_MODE_DIRECTORY | 0755;
	assert_int_equal(encoder_new(&e, &params, &m, NULL), 0);
	m.mode = PXAR_MODE_REGULAR | 0644;
	assert_int_equal(encoder_file_begin(e, "a.txt", &m, 6, &a, NULL), 0);
	assert_int_equal(encoder_file_write(e, "Hello\n", 6, NULL), 0);
	assert_int_equal(encoder_file_end(e, NULL), 0);
	assert_int_equal(encoder_hardlink(e, "b.txt", "a.txt", a, NULL), 0);
	m.mode = PXAR_MODE_SYMLINK | 0777;
	assert_int_equal(encoder_symlink(e, "c", &m, "a.txt", NULL), 0);
	assert_int_equal(encoder_finish(e, NULL), 0);
}

static void example_release(struct example *x)
{
	wbuf_release(&x->meta);
	wbuf_release(&x->payload);
}
DEFINE_AUTO_STRUCT(example)

#define ID " 1000:1000 1704164645.678901234"

static const char EXAMPLE_V1[] = "root 0 '' @0+0 040755" ID "\n"
				 "entry 1 'a.txt' @56+22 100644" ID " 6 at 134 'Hello\n'\n"
				 "hardlink 1 'b.txt' @156+22 -> 'a.txt' @56\n"
				 "entry 1 'c' @208+18 120777" ID " -> 'a.txt' @0\n"
				 "end 0 @304 56:100 156:52 208:96\n";

static const char EXAMPLE_V2[] = "root 0 '' @24+0 040755" ID "\n"
				 "entry 1 'a.txt' @80+22 100644" ID " 6 at 16 'Hello\n'\n"
				 "hardlink 1 'b.txt' @190+22 -> 'a.txt' @80\n"
				 "entry 1 'c' @242+18 120777" ID " -> 'a.txt' @0\n"
				 "end 0 @338 80:116 190:52 242:96\n";

static void assert_text(const struct wbuf *b, const char *want)
{
	assert_int_equal(b->failed, 0);
	assert_int_equal(b->size, strlen(want));
	assert_memory_equal(b->data, want, b->size);
}

static void gives_the_events_of_the_official_examples(void **state)
{
	(void)state;
	for (int split = 0; split < 2; split++) {
		AUTO(example) struct example x;
		AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);

		example_init(&x, split);
		struct pipe meta = { .data = x.meta.data, .size = x.meta.size };
		struct pipe payload = { .data = x.payload.data, .size = x.payload.size };
		assert_int_equal(decode(&meta, &payload, true, &text, NULL), 0);
		assert_text(&text, split ? EXAMPLE_V2 : EXAMPLE_V1);
	}
}

static void gives_the_same_events_byte_by_byte(void **state)
{
	(void)state;
	for (int split = 0; split < 2; split++) {
		AUTO(example) struct example x;
		AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);

		example_init(&x, split);
		struct pipe meta = { .data = x.meta.data, .size = x.meta.size, .piece = 1 };
		struct pipe payload = { .data = x.payload.data,
					.size = x.payload.size,
					.piece = 1 };
		assert_int_equal(decode(&meta, &payload, true, &text, NULL), 0);
		assert_text(&text, split ? EXAMPLE_V2 : EXAMPLE_V1);
	}
}

static void hands_on_the_error_of_a_source(void **state)
{
	AUTO(example) struct example x;

	(void)state;
	example_init(&x, true);
	for (size_t at = 1; at <= x.meta.size; at++) {
		struct pipe meta = { .data = x.meta.data, .size = x.meta.size, .piece = 7 };
		struct err err = ERR_INIT;

		meta.fail_at = at;
		assert_int_equal(decode(&meta, NULL, true, NULL, &err), -EIO);
		assert_non_null(strstr(err.text, "metadata stream: the pipe broke"));
	}
	for (size_t at = 1; at <= x.payload.size; at++) {
		struct pipe meta = { .data = x.meta.data, .size = x.meta.size };
		struct pipe payload = { .data = x.payload.data,
					.size = x.payload.size,
					.piece = 7 };
		struct err err = ERR_INIT;

		payload.fail_at = at;
		assert_int_equal(decode(&meta, &payload, true, NULL, &err), -EIO);
		assert_non_null(strstr(err.text, "payload stream: the pipe broke"));
	}
}

/* --- golden archives --- */

static void assert_cuts_refused(const struct golden *meta, const struct golden *payload)
{
	for (size_t cut = 0; cut < meta->size; cut++) {
		struct pipe m = { .data = meta->data, .size = cut };

		assert_int_equal(decode(&m, NULL, false, NULL, NULL), -EBADMSG);
	}
	for (size_t cut = 0; payload && cut < payload->size; cut++) {
		struct pipe m = { .data = meta->data, .size = meta->size };
		struct pipe p = { .data = payload->data, .size = cut };

		assert_int_equal(decode(&m, &p, false, NULL, NULL), -EBADMSG);
	}
}

static void refuses_golden_archives_cut_at_every_byte(void **state)
{
	struct golden legacy = golden_read("tests/golden/files/legacy.pxar");
	struct golden meta = golden_read("tests/golden/files/split.mpxar");
	struct golden payload = golden_read("tests/golden/files/split.ppxar");

	(void)state;
	assert_cuts_refused(&legacy, NULL);
	assert_cuts_refused(&meta, &payload);
	free(legacy.data);
	free(meta.data);
	free(payload.data);
}

static void refuses_examples_cut_at_every_byte_read_in_pieces(void **state)
{
	(void)state;
	for (int split = 0; split < 2; split++) {
		AUTO(example) struct example x;

		example_init(&x, split);
		for (size_t cut = 0; cut < x.meta.size; cut++) {
			AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);
			struct pipe meta = { .data = x.meta.data, .size = cut, .piece = 3 };
			struct pipe payload = { .data = x.payload.data, .size = x.payload.size };

			assert_int_equal(decode(&meta, &payload, true, &text, NULL), -EBADMSG);
		}
		for (size_t cut = 0; cut < x.payload.size; cut++) {
			AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);
			struct pipe meta = { .data = x.meta.data, .size = x.meta.size };
			struct pipe payload = { .data = x.payload.data, .size = cut, .piece = 3 };

			assert_int_equal(decode(&meta, &payload, true, &text, NULL), -EBADMSG);
		}
	}
}

static void assert_copied(const struct golden *meta, const struct golden *payload, bool padding)
{
	AUTO(wbuf) struct wbuf out_meta = WBUF_INIT(1 << 24), out_payload = WBUF_INIT(1 << 24);
	struct pipe m = { .data = meta->data, .size = meta->size, .piece = 1000 };
	struct pipe p = { .data = payload ? payload->data : NULL,
			  .size = payload ? payload->size : 0,
			  .piece = 999 };
	struct copy c = { .meta = pipe_source(&m),
			  .payload = pipe_source(&p),
			  .payload_bytes = padding ? p.data : NULL,
			  .payload_size = p.size,
			  .tables = true,
			  .out_meta = { append, &out_meta },
			  .out_payload = { append, &out_payload } };

	assert_int_equal(copy_archive(&c, NULL), 0);
	assert_int_equal(out_meta.size, meta->size);
	assert_memory_equal(out_meta.data, meta->data, meta->size);
	if (payload) {
		assert_int_equal(out_payload.size, payload->size);
		assert_memory_equal(out_payload.data, payload->data, payload->size);
	}
}

static void copies_golden_archives_to_the_same_bytes(void **state)
{
	struct golden legacy = golden_read("tests/golden/files/legacy.pxar");
	struct golden meta = golden_read("tests/golden/files/split.mpxar");
	struct golden payload = golden_read("tests/golden/files/split.ppxar");

	(void)state;
	assert_copied(&legacy, NULL, false);
	assert_copied(&meta, &payload, false);
	assert_copied(&meta, NULL, false);
	free(legacy.data);
	free(meta.data);
	free(payload.data);
}

/* --- what must be accepted --- */

static void start_root(struct build *a, unsigned version)
{
	if (version == PXAR_VERSION_2)
		build_version(a, 2);
	build_entry(a, PXAR_MODE_DIRECTORY | 0755);
}

static void accepts_the_old_entry_and_any_padding(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);
	uint8_t body[40] = { 0 };

	(void)state;
	start_root(&a, 1);
	build_filename(&a, "old");
	le64_put(body, PXAR_MODE_FIFO | 0600);
	le64_put(body + 24, 1000000007);
	build_item(&a, PXAR_ENTRY_V1, body, 32);
	build_filename(&a, "padded");
	le64_put(body + 24, 5);
	le32_put(body + 36, 0xffffffff);
	build_item(&a, PXAR_ENTRY, body, 40);
	build_goodbye(&a);

	struct pipe meta = { .data = a.b.data, .size = a.b.size };
	assert_int_equal(decode(&meta, NULL, true, &text, NULL), 0);
	assert_text(&text, "root 0 '' @0+0 040755 0:0 0.000000000\n"
			   "entry 1 'old' @56+20 010600 0:0 1.000000007\n"
			   "entry 1 'padded' @124+23 010600 0:0 5.000000000\n"
			   "end 0 @203 56:68 124:79\n");
}

static void accepts_an_old_root(void **state)
{
	AUTO(wbuf) struct wbuf b = WBUF_INIT(4096);
	uint8_t body[32] = { 0 };
	struct goodbye_slot tail = { PXAR_GOODBYE_TAIL, 48, 40 };

	(void)state;
	le64_put(body, PXAR_MODE_DIRECTORY | 0700);
	item_header_encode(&b, PXAR_ENTRY_V1, 32);
	wbuf_put(&b, body, 32);
	item_header_encode(&b, PXAR_GOODBYE, 24);
	goodbye_slot_encode(&b, &tail);
	struct pipe meta = { .data = b.data, .size = b.size };
	assert_int_equal(decode(&meta, NULL, true, NULL, NULL), 0);
}

static void accepts_preludes_of_any_content(void **state)
{
	static const char *const preludes[] = { "", "{\"exclude-patterns\":\"a\\n\"}", "no json" };

	(void)state;
	for (uint64_t version = 1; version <= 2; version++) {
		for (size_t i = 0; i < 3; i++) {
			AUTO(build) struct build a = BUILD_INIT;
			AUTO(decoder) struct decoder *d = NULL;
			const struct decoder_event *ev;
			const uint8_t *prelude;
			size_t size;

			build_version(&a, version);
			build_item(&a, PXAR_PRELUDE, preludes[i], strlen(preludes[i]));
			build_entry(&a, PXAR_MODE_DIRECTORY);
			build_goodbye(&a);
			assert_int_equal(decode_built(&a), 0);

			struct input_memory m = { .data = a.b.data, .size = a.b.size };
			struct decoder_params params = { .meta = input_memory_source(&m) };
			assert_int_equal(decoder_new(&d, &params, NULL), 0);
			assert_int_equal(decoder_next(d, &ev, NULL), 0);
			assert_int_equal(decoder_version(d), version);
			prelude = decoder_prelude(d, &size);
			assert_non_null(prelude);
			assert_int_equal(size, strlen(preludes[i]));
			assert_memory_equal(prelude, preludes[i], size);
		}
	}
}

static void tells_no_prelude_from_an_empty_one(void **state)
{
	AUTO(example) struct example x;
	AUTO(decoder) struct decoder *d = NULL;
	const struct decoder_event *ev;
	size_t size = 1;

	(void)state;
	example_init(&x, true);
	struct input_memory m = { .data = x.meta.data, .size = x.meta.size };
	struct decoder_params params = { .meta = input_memory_source(&m) };
	assert_int_equal(decoder_new(&d, &params, NULL), 0);
	assert_int_equal(decoder_next(d, &ev, NULL), 0);
	assert_null(decoder_prelude(d, &size));
	assert_int_equal(size, 0);
}

static void accepts_a_large_prelude(void **state)
{
	enum { SIZE = 1 << 20 };
	AUTO(build) struct build a = BUILD_INIT;
	AUTO(free) char *text = calloc(1, SIZE);

	(void)state;
	build_version(&a, 2);
	build_item(&a, PXAR_PRELUDE, text, SIZE);
	build_entry(&a, PXAR_MODE_DIRECTORY);
	build_goodbye(&a);
	assert_int_equal(decode_built(&a), 0);
}

static void accepts_unsorted_members_repeated_names_and_attributes_in_any_order(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;
	static const uint8_t zeros[32];

	(void)state;
	start_root(&a, 1);
	build_filename(&a, "z");
	build_entry(&a, PXAR_MODE_REGULAR);
	build_item(&a, PXAR_QUOTA_PROJID, zeros, 8);
	build_item(&a, PXAR_FCAPS, zeros, 20);
	build_item(&a, PXAR_XATTR, "user.b\0v", 8);
	build_item(&a, PXAR_ACL_DEFAULT_GROUP, zeros, 16);
	build_item(&a, PXAR_ACL_DEFAULT, zeros, 32);
	build_item(&a, PXAR_ACL_USER, zeros, 16);
	build_item(&a, PXAR_XATTR, "user.a\0v", 8);
	build_payload(&a, "");
	build_filename(&a, "a");
	build_entry(&a, PXAR_MODE_SOCKET);
	build_filename(&a, "a");
	build_entry(&a, PXAR_MODE_DIRECTORY);
	build_goodbye(&a);
	build_goodbye(&a);
	assert_int_equal(decode_built(&a), 0);
}

static void accepts_mode_bits_that_nobody_knows(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;

	(void)state;
	start_root(&a, 1);
	build_filename(&a, "a");
	build_entry(&a, PXAR_MODE_FIFO | (uint64_t)1 << 40);
	build_goodbye(&a);
	assert_int_equal(decode_built(&a), 0);
}

static void accepts_a_root_tail_that_leads_to_its_entry(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;

	(void)state;
	start_root(&a, 2);
	build_goodbye(&a);
	assert_int_equal(le64_get(a.b.data + a.b.size - 16), 80);
	le64_put(a.b.data + a.b.size - 16, 56);
	assert_int_equal(decode_built(&a), 0);
	le64_put(a.b.data + a.b.size - 16, 57);
	assert_int_equal(decode_built(&a), -EBADMSG);
}

static void accepts_every_type_nested_and_closed(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);
	uint8_t device[16] = { 8, [8] = 1 };

	(void)state;
	start_root(&a, 1);
	build_filename(&a, "d");
	build_entry(&a, PXAR_MODE_DIRECTORY | 0755);
	build_filename(&a, "block");
	build_entry(&a, PXAR_MODE_BLOCK | 0600);
	build_item(&a, PXAR_DEVICE, device, 16);
	build_filename(&a, "e");
	build_entry(&a, PXAR_MODE_DIRECTORY | 0700);
	build_filename(&a, "fifo");
	build_entry(&a, PXAR_MODE_FIFO | 0600);
	build_goodbye(&a);
	build_goodbye(&a);
	build_filename(&a, "link");
	build_entry(&a, PXAR_MODE_SYMLINK | 0777);
	build_item(&a, PXAR_SYMLINK, "", 1);
	build_goodbye(&a);

	struct pipe meta = { .data = a.b.data, .size = a.b.size };
	assert_int_equal(decode(&meta, NULL, true, &text, NULL), 0);
	assert_text(&text, "root 0 '' @0+0 040755 0:0 0.000000000\n"
			   "entry 1 'd' @56+18 040755 0:0 0.000000000\n"
			   "entry 2 'block' @130+22 060600 0:0 0.000000000\n"
			   "entry 2 'e' @240+18 040700 0:0 0.000000000\n"
			   "entry 3 'fifo' @314+21 010600 0:0 0.000000000\n"
			   "end 2 @391 314:77\n"
			   "end 1 @455 130:110 240:215/\n"
			   "entry 1 'link' @543+21 120777 0:0 0.000000000 -> '' @0\n"
			   "end 0 @637 56:487/ 543:94\n");
}

static int decode_loosely(struct build *a)
{
	struct pipe meta = { .data = a->b.data, .size = a->b.size };

	return decode(&meta, NULL, false, NULL, NULL);
}

/* --- payload streams --- */

/* Two files, "one" and "three", at the given offsets. */
static void build_split(struct build *a, uint64_t first, uint64_t second)
{
	start_root(a, 2);
	build_filename(a, "a");
	build_entry(a, PXAR_MODE_REGULAR);
	build_payload_ref(a, first, 3);
	build_filename(a, "b");
	build_entry(a, PXAR_MODE_REGULAR);
	build_payload_ref(a, second, 5);
	build_goodbye(a);
}

/* start, 40 bytes of padding, "one", 10 more, "three", 300,000 more, tail */
static void build_payloads(struct build *a)
{
	static const uint8_t padding[300000];

	build_header(a, PXAR_PAYLOAD_START_MARKER, 16);
	build_header(a, PXAR_PAYLOAD_START_MARKER, 16);
	wbuf_put(&a->b, padding, 24);
	build_payload(a, "one");
	wbuf_put(&a->b, padding, 10);
	build_payload(a, "three");
	wbuf_put(&a->b, padding, sizeof(padding));
	build_header(a, PXAR_PAYLOAD_TAIL_MARKER, 16);
}

enum { FIRST = 56, SECOND = 85 };

static int decode_both(const struct build *a, const struct build *p, struct wbuf *text)
{
	struct pipe meta = { .data = a->b.data, .size = a->b.size };
	struct pipe payload = { .data = p->b.data, .size = p->b.size, .piece = 11111 };

	return decode(&meta, &payload, true, text, NULL);
}

static void skips_padding_in_the_payload_stream(void **state)
{
	AUTO(build) struct build a = BUILD_INIT, p = BUILD_INIT;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);

	(void)state;
	build_split(&a, FIRST, SECOND);
	build_payloads(&p);
	assert_int_equal(decode_both(&a, &p, &text), 0);
	assert_text(&text, "root 0 '' @24+0 040755 0:0 0.000000000\n"
			   "entry 1 'a' @80+18 100000 0:0 0.000000000 3 at 56 'one'\n"
			   "entry 1 'b' @186+18 100000 0:0 0.000000000 5 at 85 'three'\n"
			   "end 0 @292 80:106 186:106\n");
	assert_int_equal(decode_both(&a, &p, NULL), 0); /* nothing read */
}

static void refuses_references_that_lead_astray(void **state)
{
	static const struct {
		uint64_t first, second;
	} v[] = {
		{ FIRST + 1, SECOND }, { FIRST - 1, SECOND }, { FIRST, SECOND + 1 },
		{ FIRST, SECOND - 20 }, { SECOND, FIRST },    { FIRST, FIRST },
		{ FIRST, 1 << 20 },	{ SECOND, SECOND },   { FIRST, 300000 },
	};
	AUTO(build) struct build p = BUILD_INIT;

	(void)state;
	build_payloads(&p);
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		AUTO(build) struct build a = BUILD_INIT;
		AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);

		build_split(&a, v[i].first, v[i].second);
		assert_int_equal(decode_both(&a, &p, &text), -EBADMSG);
		assert_int_equal(decode_both(&a, &p, NULL), -EBADMSG);
		/* A listing needs no payload stream and says nothing of this. */
		assert_int_equal(decode_loosely(&a), 0);
	}
}

static void refuses_a_payload_stream_without_its_markers(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;

	(void)state;
	build_split(&a, FIRST, SECOND);
	for (int fault = 0; fault < 5; fault++) {
		AUTO(build) struct build p = BUILD_INIT;

		build_payloads(&p);
		switch (fault) {
		case 1:
			p.b.data[0] ^= 1;
			break;
		case 2:
			p.b.data[8] = 17;
			break;
		case 3:
			p.b.data[p.b.size - 16] ^= 1;
			break;
		case 4:
			wbuf_put_u8(&p.b, 0);
			break;
		}
		assert_int_equal(decode_both(&a, &p, NULL), fault ? -EBADMSG : 0);
	}
}

static void refuses_a_payload_header_that_says_otherwise(void **state)
{
	AUTO(build) struct build a = BUILD_INIT, p = BUILD_INIT;

	(void)state;
	build_split(&a, FIRST, SECOND);
	build_payloads(&p);
	for (size_t at = FIRST; at < FIRST + 16; at++) {
		p.b.data[at] ^= 1;
		assert_int_equal(decode_both(&a, &p, NULL), -EBADMSG);
		p.b.data[at] ^= 1;
	}
	assert_int_equal(decode_both(&a, &p, NULL), 0);
}

static void copies_archives_with_padding_to_the_same_bytes(void **state)
{
	AUTO(build) struct build a = BUILD_INIT, p = BUILD_INIT;

	(void)state;
	build_split(&a, FIRST, SECOND);
	build_payloads(&p);
	struct golden meta = { a.b.data, a.b.size }, payload = { p.b.data, p.b.size };
	assert_copied(&meta, &payload, true);
	assert_copied(&meta, NULL, false);
}

static void refuses_a_payload_stream_with_version_1(void **state)
{
	AUTO(build) struct build a = BUILD_INIT, p = BUILD_INIT;

	(void)state;
	start_root(&a, 1);
	build_goodbye(&a);
	build_payloads(&p);
	assert_int_equal(decode_both(&a, &p, NULL), -EINVAL);
}

static void reads_content_in_pieces_and_only_of_files(void **state)
{
	for (int split = 0; split < 2; split++) {
		AUTO(example) struct example x;
		AUTO(decoder) struct decoder *d = NULL;
		const struct decoder_event *ev;
		char buf[8];
		size_t got = 99;

		(void)state;
		example_init(&x, split);
		struct pipe meta = { .data = x.meta.data, .size = x.meta.size, .piece = 1 };
		struct pipe payload = { .data = x.payload.data, .size = x.payload.size };
		struct decoder_params params = { .meta = pipe_source(&meta),
						 .payload = pipe_source(&payload) };
		assert_int_equal(decoder_new(&d, &params, NULL), 0);
		assert_int_equal(decoder_next(d, &ev, NULL), 0);
		assert_int_equal(decoder_read(d, buf, 8, &got, NULL), -EINVAL);
		assert_int_equal(decoder_next(d, &ev, NULL), 0);
		assert_int_equal(decoder_read(d, buf, 4, &got, NULL), 0);
		assert_int_equal(got, 4);
		assert_memory_equal(buf, "Hell", 4);
		assert_string_equal(ev->name, "a.txt"); /* still there */
		assert_int_equal(decoder_read(d, buf, 0, &got, NULL), 0);
		assert_int_equal(got, 0);
		assert_int_equal(decoder_read(d, buf, 8, &got, NULL), 0);
		assert_int_equal(got, 2);
		assert_memory_equal(buf, "o\n", 2);
		assert_int_equal(decoder_read(d, buf, 8, &got, NULL), 0);
		assert_int_equal(got, 0);
		assert_int_equal(decoder_next(d, &ev, NULL), 0);
		assert_int_equal(ev->kind, DECODER_HARDLINK);
		assert_int_equal(decoder_read(d, buf, 8, &got, NULL), -EINVAL);
	}
}

static void refuses_content_without_a_payload_stream(void **state)
{
	AUTO(example) struct example x;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);

	(void)state;
	example_init(&x, true);
	struct pipe meta = { .data = x.meta.data, .size = x.meta.size };
	assert_int_equal(decode(&meta, NULL, true, NULL, NULL), 0);
	meta.position = 0;
	assert_int_equal(decode(&meta, NULL, true, &text, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_the_events_of_the_official_examples),
		cmocka_unit_test(gives_the_same_events_byte_by_byte),
		cmocka_unit_test(hands_on_the_error_of_a_source),
		cmocka_unit_test(refuses_golden_archives_cut_at_every_byte),
		cmocka_unit_test(refuses_examples_cut_at_every_byte_read_in_pieces),
		cmocka_unit_test(copies_golden_archives_to_the_same_bytes),
		cmocka_unit_test(accepts_the_old_entry_and_any_padding),
		cmocka_unit_test(accepts_an_old_root),
		cmocka_unit_test(accepts_preludes_of_any_content),
		cmocka_unit_test(tells_no_prelude_from_an_empty_one),
		cmocka_unit_test(accepts_a_large_prelude),
		cmocka_unit_test(
			accepts_unsorted_members_repeated_names_and_attributes_in_any_order),
		cmocka_unit_test(accepts_mode_bits_that_nobody_knows),
		cmocka_unit_test(accepts_a_root_tail_that_leads_to_its_entry),
		cmocka_unit_test(accepts_every_type_nested_and_closed),
		cmocka_unit_test(skips_padding_in_the_payload_stream),
		cmocka_unit_test(refuses_references_that_lead_astray),
		cmocka_unit_test(refuses_a_payload_stream_without_its_markers),
		cmocka_unit_test(refuses_a_payload_header_that_says_otherwise),
		cmocka_unit_test(copies_archives_with_padding_to_the_same_bytes),
		cmocka_unit_test(refuses_a_payload_stream_with_version_1),
		cmocka_unit_test(reads_content_in_pieces_and_only_of_files),
		cmocka_unit_test(refuses_content_without_a_payload_stream),
	};

	/* The decoder's buffers come and go some 150,000 times here. */
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 16 << 20);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
