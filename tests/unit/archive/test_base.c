/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/base/ckd.h"
#include "archive/base/crc32.h"
#include "archive/base/cursor.h"
#include "archive/base/digest.h"
#include "archive/base/err.h"
#include "archive/base/hex.h"
#include "archive/base/siphash.h"
#include "archive/base/wbuf.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <zlib.h>

static void cursor_reads_what_is_there(void **state)
{
	const uint8_t bytes[] = { 1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9 };
	struct cursor c = cursor_of(bytes, sizeof(bytes));

	(void)state;
	assert_int_equal(cursor_u8(&c), 1);
	assert_int_equal(cursor_u16(&c), 2);
	assert_int_equal(cursor_u32(&c), 3);
	assert_int_equal(cursor_u64(&c), 4);
	assert_false(cursor_done(&c));
	assert_int_equal(cursor_left(&c), 1);
	assert_int_equal(cursor_u8(&c), 9);
	assert_true(cursor_done(&c));
}

static void cursor_remembers_an_overrun(void **state)
{
	const uint8_t bytes[] = { 1, 2, 3 };
	struct cursor c = cursor_of(bytes, sizeof(bytes));

	(void)state;
	assert_int_equal(cursor_u32(&c), 0);
	assert_true(c.overrun);
	/* what would still fit is refused too: decoding has lost its place */
	assert_int_equal(cursor_u8(&c), 0);
	assert_null(cursor_bytes(&c, 0));
	assert_false(cursor_done(&c));
}

static void cursor_sub_is_bounded_by_its_parent(void **state)
{
	const uint8_t bytes[] = { 1, 2, 3, 4 };
	struct cursor c = cursor_of(bytes, sizeof(bytes));
	struct cursor sub = cursor_sub(&c, 2);

	(void)state;
	assert_int_equal(cursor_u16(&sub), 0x0201);
	assert_true(cursor_done(&sub));
	assert_int_equal(cursor_u8(&sub), 0);
	assert_true(sub.overrun);
	assert_false(c.overrun);
	sub = cursor_sub(&c, 3);
	assert_true(sub.overrun);
	assert_true(c.overrun);
	assert_int_equal(cursor_left(&sub), 0);
}

static void wbuf_stops_at_its_maximum(void **state)
{
	AUTO(wbuf) struct wbuf b = WBUF_INIT(10);

	(void)state;
	assert_int_equal(wbuf_put_u64(&b, 1), 0);
	assert_int_equal(wbuf_put_u32(&b, 2), -E2BIG);
	assert_int_equal(b.size, 8);
	assert_int_equal(wbuf_put_u8(&b, 3), -E2BIG); /* it would fit, but the order is lost */
	wbuf_clear(&b);
	assert_int_equal(wbuf_put_text(&b, "0123456789"), 0);
	assert_int_equal(b.size, 10);
}

static void wbuf_grows_and_hands_over(void **state)
{
	AUTO(wbuf) struct wbuf b = WBUF_INIT(1 << 20);
	AUTO(free) uint8_t *data = NULL;
	size_t size;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(wbuf_printf(&b, "%04u,", i), 0);
	assert_int_equal(wbuf_put_zero(&b, 3), 0);
	data = wbuf_detach(&b, &size);
	assert_int_equal(size, 5003);
	assert_memory_equal(data + 4995, "0999,\0\0\0", 8);
	assert_null(b.data);
	assert_int_equal(b.size, 0);
}

static void checked_arithmetic_notices_overflow(void **state)
{
	uint64_t r;
	uint32_t small;

	(void)state;
	assert_false(ckd_add(&r, UINT64_MAX - 1, 1));
	assert_true(ckd_add(&r, UINT64_MAX, 1));
	assert_true(ckd_sub(&r, (uint64_t)1, (uint64_t)2));
	assert_true(ckd_mul(&r, UINT64_MAX, 2));
	assert_true(ckd_add(&small, UINT32_MAX, 1));
}

static void errors_are_wrapped_from_the_inside_out(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(err_set(&err, EBADMSG, "item %d ends early", 7), -EBADMSG);
	assert_int_equal(err_wrap(&err, -EBADMSG, "%s", "root.mpxar"), -EBADMSG);
	assert_string_equal(err_text(&err, -EBADMSG), "root.mpxar: item 7 ends early");
	err = (struct err)ERR_INIT;
	err_wrap(&err, -ENOENT, "x");
	assert_string_equal(err.text, "x: No such file or directory");
	assert_int_equal(err_sys(&err, EACCES, "y"), -EACCES);
	assert_string_equal(err.text, "y: Permission denied");
	assert_int_equal(err_set(NULL, EIO, "nobody listens"), -EIO);
	assert_string_equal(err_text(NULL, -EIO), "Input/output error");
}

static void long_messages_are_cut_not_overrun(void **state)
{
	struct err err = ERR_INIT;
	char longer[2 * ERR_TEXT_SIZE];

	(void)state;
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	err_set(&err, EIO, "%s", longer);
	assert_int_equal(strlen(err.text), ERR_TEXT_SIZE - 1);
	err_wrap(&err, -EIO, "%s", longer);
	assert_int_equal(strlen(err.text), ERR_TEXT_SIZE - 1);
}

static void hex_refuses_what_is_no_digit(void **state)
{
	uint8_t bytes[2];
	char text[5];

	(void)state;
	assert_int_equal(hex_decode("a0Ff", bytes, 2), 0);
	hex_encode(bytes, 2, text);
	assert_string_equal(text, "a0ff");
	assert_int_equal(hex_decode("a0fg", bytes, 2), -EBADMSG);
	assert_int_equal(hex_decode("a0f", bytes, 2), -EBADMSG);
}

static void name_hash_gives_the_format_s_values(void **state)
{
	static const struct {
		const char *name;
		uint64_t hash;
	} rows[] = {
		{ "", 0x76614015f8d1bb6c },	     { "a", 0x0c26e9067c2c7bcf },
		{ "dir", 0x2a98c23ed399e2bc },	     { "0123456", 0xe72ff47567a4e7e2 },
		{ "01234567", 0xf908965382193a1f },  { "file.txt", 0x967764f630c3da14 },
		{ "lost+found", 0xedc93cb8247896c7 }, { ".pxarexclude-cli", 0x046975ce672e09eb },
		{ "\xff\xfe", 0xd40f34bd0209240a },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_true(siphash_name(rows[i].name, strlen(rows[i].name)) == rows[i].hash);
}

static void crc32_is_zlib_s_in_any_pieces(void **state)
{
	const char *text = "hello world\n";
	uint32_t crc = 0;

	(void)state;
	assert_int_equal(crc32_update(0, text, strlen(text)), 0xaf083b2d);
	for (const char *p = text; *p; p++)
		crc = crc32_update(crc, p, 1);
	assert_int_equal(crc, 0xaf083b2d);
	assert_int_equal(crc32_update(0, "", 0), 0);
}

static void crc32_is_zlib_s_at_any_length(void **state)
{
	uint8_t bytes[2000];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * i >> 3);
	for (size_t size = 0; size < sizeof(bytes) - 3; size++)
		for (size_t at = 0; at < 3; at++) {
			uint32_t begin = (uint32_t)(size * 2654435761u * at);

			assert_int_equal(crc32_update(begin, bytes + at, size),
					 crc32_z(begin, bytes + at, size));
		}
}

static void digest_context_can_be_reused(void **state)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest d, parsed;
	char hex[DIGEST_HEX_SIZE];

	(void)state;
	assert_non_null(ctx);
	for (int i = 0; i < 2; i++) {
		digest_ctx_begin(ctx);
		digest_ctx_update(ctx, "hello ", 6);
		digest_ctx_update(ctx, "world\n", 6);
		digest_ctx_end(ctx, &d);
		digest_to_hex(&d, hex);
		assert_string_equal(hex, "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d"
					 "299a192a447");
	}
	assert_int_equal(digest_from_hex(&parsed, hex), 0);
	assert_true(digest_equal(&d, &parsed));
	hex[63] = '\0';
	assert_int_equal(digest_from_hex(&parsed, hex), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cursor_reads_what_is_there),
		cmocka_unit_test(cursor_remembers_an_overrun),
		cmocka_unit_test(cursor_sub_is_bounded_by_its_parent),
		cmocka_unit_test(wbuf_stops_at_its_maximum),
		cmocka_unit_test(wbuf_grows_and_hands_over),
		cmocka_unit_test(checked_arithmetic_notices_overflow),
		cmocka_unit_test(errors_are_wrapped_from_the_inside_out),
		cmocka_unit_test(long_messages_are_cut_not_overrun),
		cmocka_unit_test(hex_refuses_what_is_no_digit),
		cmocka_unit_test(name_hash_gives_the_format_s_values),
		cmocka_unit_test(crc32_is_zlib_s_in_any_pieces),
		cmocka_unit_test(crc32_is_zlib_s_at_any_length),
		cmocka_unit_test(digest_context_can_be_reused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
