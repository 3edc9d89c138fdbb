/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/json_text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

/* --- reading --- */

/* Count before parsing, as jansson builds its tree without asking how large it gets.  Text that
 * is no JSON may be counted wrong; the parser refuses it anyway. */
static int check_bounds(const char *text, size_t size, struct err *err)
{
	size_t depth = 0, count = 0;
	bool in_string = false;

	for (size_t i = 0; i < size; i++) {
		switch (text[i]) {
		case '"':
			in_string = !in_string;
			break;
		case '\\':
			i += in_string;
			break;
		case '{':
		case '[':
			depth += !in_string;
			count += !in_string;
			break;
		case '}':
		case ']':
			depth -= !in_string && depth > 0;
			break;
		case ',':
			count += !in_string;
			break;
		default:
			break;
		}
		if (depth > JSON_TEXT_DEPTH_MAX)
			return err_set(err, EBADMSG, "JSON nested too deep at byte %zu", i);
		if (count > JSON_TEXT_VALUE_COUNT_MAX)
			return err_set(err, EBADMSG, "JSON with too many values at byte %zu", i);
	}
	return 0;
}

int json_text_decode(const void *text, size_t size, json_t **out, struct err *err)
{
	json_error_t why;
	json_t *value;
	int rc = check_bounds(text, size, err);

	if (rc < 0)
		return rc;
	value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
	if (value) {
		*out = value;
		return 0;
	}
	if (json_error_code(&why) == json_error_out_of_memory)
		return err_set(err, ENOMEM, "out of memory");
	return err_set(err, EBADMSG, "bad JSON, line %d: %s", why.line, why.text);
}

bool json_text_is_utf8(const void *text, size_t size)
{
	AUTO(json) json_t *string = json_stringn(text, size);

	return string != NULL;
}

/* --- writing --- */

static void put_escaped(struct wbuf *out, uint8_t c)
{
	static const uint8_t named[] = { '\b', 'b', '\t', 't', '\n', 'n', '\f', 'f', '\r', 'r' };

	for (size_t i = 0; i < sizeof(named); i += 2) {
		if (c == named[i]) {
			wbuf_put_u8(out, '\\');
			wbuf_put_u8(out, named[i + 1]);
			return;
		}
	}
	wbuf_printf(out, "\\u%04x", c);
}

static void put_string(struct wbuf *out, const char *text, size_t size)
{
	wbuf_put_u8(out, '"');
	for (size_t i = 0; i < size; i++) {
		uint8_t c = (uint8_t)text[i];

		if (c == '"' || c == '\\')
			wbuf_put_u8(out, '\\');
		if (c < 0x20)
			put_escaped(out, c);
		else
			wbuf_put_u8(out, c);
	}
	wbuf_put_u8(out, '"');
}

enum { DOUBLE_DIGITS_MAX = 17 };

/* The fewest decimal digits that read back as `value` (> 0), and the exponent of the first. */
static int shortest_digits(double value, char digits[DOUBLE_DIGITS_MAX + 1], int *exponent)
{
	char text[40];
	int precision = 0, count = 1;
	char *mark;

	do
		snprintf(text, sizeof(text), "%.*e", precision, value);
	while (strtod(text, NULL) != value && ++precision < DOUBLE_DIGITS_MAX);
	mark = strchr(text, 'e');
	*exponent = (int)strtol(mark + 1, NULL, 10);
	digits[0] = text[0];
	/* text[1], if it is not the mark, is the decimal point of whatever locale. */
	for (const char *p = text + 1; p < mark; p++)
		if (*p >= '0' && *p <= '9' && count < DOUBLE_DIGITS_MAX)
			digits[count++] = *p;
	digits[count] = '\0';
	return count;
}

/* As the server's float printer: plain between 1e-5 and 1e16, and never without a point. */
static void put_real(struct wbuf *out, double value)
{
	char digits[DOUBLE_DIGITS_MAX + 1];
	int exponent, count;

	if (__builtin_signbit(value)) {
		wbuf_put_u8(out, '-');
		value = -value;
	}
	if (value == 0) {
		wbuf_put_text(out, "0.0");
		return;
	}
	count = shortest_digits(value, digits, &exponent);
	if (exponent >= 16 || exponent < -5) {
		wbuf_printf(out, "%c%s%se%d", digits[0], count > 1 ? "." : "", digits + 1,
			    exponent);
	} else if (exponent < 0) {
		wbuf_printf(out, "0.%.*s%s", -exponent - 1, "0000", digits);
	} else if (count <= exponent + 1) {
		wbuf_printf(out, "%s%.*s.0", digits, exponent + 1 - count,
			    "0000000000000000");
	} else {
		wbuf_printf(out, "%.*s.%s", exponent + 1, digits, digits + exponent + 1);
	}
}

/* Depth of a value that is written without any white space. */
enum { COMPACT = -1 };

static int deeper(int depth)
{
	return depth == COMPACT ? COMPACT : depth + 1;
}

static void put_value(struct wbuf *out, const json_t *value, int depth);

static void put_line(struct wbuf *out, int depth)
{
	if (depth == COMPACT)
		return;
	wbuf_put_u8(out, '\n');
	for (int i = 0; i < depth; i++)
		wbuf_put_text(out, "  ");
}

static void put_array(struct wbuf *out, const json_t *array, int depth)
{
	size_t i;
	json_t *element;

	wbuf_put_u8(out, '[');
	json_array_foreach(array, i, element) {
		if (i > 0)
			wbuf_put_u8(out, ',');
		put_line(out, deeper(depth));
		put_value(out, element, deeper(depth));
	}
	if (json_array_size(array) > 0)
		put_line(out, depth);
	wbuf_put_u8(out, ']');
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The member names in order; NULL without memory (or without members). */
static const char **sorted_names(const json_t *object)
{
	size_t count = 0, room = json_object_size(object);
	const char **names = calloc(room, sizeof(*names));
	json_t *lender = (json_t *)object; /* jansson's iterators lack const, they change nothing */

	if (!names)
		return NULL;
	for (void *i = json_object_iter(lender); i && count < room;
	     i = json_object_iter_next(lender, i))
		names[count++] = json_object_iter_key(i);
	qsort(names, count, sizeof(*names), compare_names);
	return names;
}

static void put_object(struct wbuf *out, const json_t *object, int depth)
{
	size_t count = json_object_size(object);
	AUTO(free) const char **names = NULL;

	if (count == 0) {
		wbuf_put_text(out, "{}");
		return;
	}
	names = sorted_names(object);
	if (!names) {
		out->failed = -ENOMEM;
		return;
	}
	wbuf_put_u8(out, '{');
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			wbuf_put_u8(out, ',');
		put_line(out, deeper(depth));
		put_string(out, names[i], strlen(names[i]));
		wbuf_put_text(out, depth == COMPACT ? ":" : ": ");
		put_value(out, json_object_get(object, names[i]), deeper(depth));
	}
	put_line(out, depth);
	wbuf_put_u8(out, '}');
}

/* Recursion is bounded: values come from json_text_decode() or were built by us. */
static void put_value(struct wbuf *out, const json_t *value, int depth)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		put_object(out, value, depth);
		break;
	case JSON_ARRAY:
		put_array(out, value, depth);
		break;
	case JSON_STRING:
		put_string(out, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
		wbuf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		put_real(out, json_real_value(value));
		break;
	case JSON_TRUE:
		wbuf_put_text(out, "true");
		break;
	case JSON_FALSE:
		wbuf_put_text(out, "false");
		break;
	case JSON_NULL:
		wbuf_put_text(out, "null");
		break;
	}
}

int json_text_pretty(const json_t *value, struct wbuf *out)
{
	put_value(out, value, 0);
	return out->failed;
}

int json_text_canonical(const json_t *value, struct wbuf *out)
{
	put_value(out, value, COMPACT);
	return out->failed;
}
