/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/snapshot.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* In the order of lists. */
static const char *const TYPES[] = { "ct", "host", "vm" };
enum { TYPE_COUNT = sizeof(TYPES) / sizeof(TYPES[0]) };

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_safe_id(const char *text, size_t size)
{
	if (size == 0 || (!is_alnum(text[0]) && text[0] != '_'))
		return false;
	for (size_t i = 1; i < size; i++)
		if (!is_alnum(text[i]) && (text[i] == '\0' || !strchr("._-", text[i])))
			return false;
	return true;
}

bool snapshot_is_safe_id(const char *text)
{
	return is_safe_id(text, strlen(text));
}

static int type_rank(const char *type)
{
	for (int i = 0; i < TYPE_COUNT; i++)
		if (strcmp(type, TYPES[i]) == 0)
			return i;
	return TYPE_COUNT;
}

bool snapshot_is_type(const char *text)
{
	return type_rank(text) < TYPE_COUNT;
}

const char *snapshot_type(unsigned i)
{
	return i < TYPE_COUNT ? TYPES[i] : NULL;
}

/* --- parsing --- */

int snapshot_ns_parse(const char *text, char ns[SNAPSHOT_NS_SIZE_MAX + 1], struct err *err)
{
	size_t size = strlen(text);
	size_t begin = 0;
	int depth = 0;

	if (size > SNAPSHOT_NS_SIZE_MAX)
		return err_set(err, EINVAL, "namespace is longer than %d bytes",
			       SNAPSHOT_NS_SIZE_MAX);
	while (size > 0 && begin <= size) {
		size_t part = strcspn(text + begin, "/");

		if (!is_safe_id(text + begin, part))
			return err_set(err, EINVAL,
				       "'%s' is no namespace: expected names of letters, digits, "
				       "'_', '-' and '.', joined by '/'",
				       text);
		if (++depth > SNAPSHOT_NS_DEPTH_MAX)
			return err_set(err, EINVAL, "namespace is deeper than %d levels",
				       SNAPSHOT_NS_DEPTH_MAX);
		begin += part + 1;
	}
	memcpy(ns, text, size + 1);
	return 0;
}

/* The parts of "TYPE/ID[/TIME]" in place. */
struct parts {
	const char *type, *id, *time; /* time NULL: absent */
	size_t type_size, id_size;
};

static bool split(const char *text, struct parts *p)
{
	const char *slash = strchr(text, '/');

	if (!slash)
		return false;
	p->type = text;
	p->type_size = (size_t)(slash - text);
	p->id = slash + 1;
	p->id_size = strcspn(p->id, "/");
	p->time = p->id[p->id_size] == '/' ? p->id + p->id_size + 1 : NULL;
	return true;
}

static int parse_group(const struct parts *p, const char *ns, struct snapshot_group *out,
		       struct err *err)
{
	struct snapshot_group g = { .ns = "" };
	int rc = snapshot_ns_parse(ns ? ns : "", g.ns, err);

	if (rc < 0)
		return rc;
	if (p->type_size < sizeof(g.type))
		memcpy(g.type, p->type, p->type_size);
	if (!snapshot_is_type(g.type))
		return err_set(err, EINVAL, "'%.*s' is no backup type: expected host, vm or ct",
			       (int)(p->type_size > 64 ? 64 : p->type_size), p->type);
	if (p->id_size > SNAPSHOT_ID_SIZE_MAX)
		return err_set(err, EINVAL, "backup id is longer than %d bytes",
			       SNAPSHOT_ID_SIZE_MAX);
	if (!is_safe_id(p->id, p->id_size))
		return err_set(err, EINVAL,
			       "'%.*s' is no backup id: expected letters, digits, '_', '-' "
			       "and '.', the first of them a letter, digit or '_'",
			       (int)p->id_size, p->id);
	memcpy(g.id, p->id, p->id_size);
	*out = g;
	return 0;
}

int snapshot_group_parse(const char *text, const char *ns, struct snapshot_group *out,
			 struct err *err)
{
	struct parts p;

	if (!split(text, &p) || p.time)
		return err_set(err, EINVAL, "'%s' is no backup group: expected TYPE/ID", text);
	return parse_group(&p, ns, out, err);
}

int snapshot_parse(const char *text, const char *ns, struct snapshot_name *out, bool *latest,
		   struct err *err)
{
	struct snapshot_name s = { .time = 0 };
	struct parts p;

	if (!split(text, &p))
		return err_set(err, EINVAL,
			       "'%s' is no snapshot: expected TYPE/ID/TIME, TYPE/ID/latest "
			       "or TYPE/ID",
			       text);
	int rc = parse_group(&p, ns, &s.group, err);
	if (rc < 0)
		return rc;
	bool newest = !p.time || strcmp(p.time, "latest") == 0;
	if (!newest && snapshot_time_parse(p.time, &s.time) < 0)
		return err_set(err, EINVAL,
			       "'%s' is no backup time: expected YYYY-MM-DDTHH:MM:SSZ or latest",
			       p.time);
	*out = s;
	*latest = newest;
	return 0;
}

/* --- times --- */

int snapshot_time_format(int64_t time, char out[SNAPSHOT_TIME_TEXT_SIZE])
{
	const int64_t year_10000 = 253402300800;
	struct tm tm;
	time_t t = (time_t)time;

	if (time < 1 || time >= year_10000 || !gmtime_r(&t, &tm) ||
	    strftime(out, SNAPSHOT_TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return -EINVAL;
	return 0;
}

static int two_digits(const char *p)
{
	return (p[0] - '0') * 10 + (p[1] - '0');
}

int snapshot_time_parse(const char *text, int64_t *time)
{
	static const char shape[] = "0000-00-00T00:00:00Z";
	char again[SNAPSHOT_TIME_TEXT_SIZE];

	for (size_t i = 0; i < sizeof(shape); i++)
		if (shape[i] == '0' ? text[i] < '0' || text[i] > '9' : text[i] != shape[i])
			return -EINVAL;
	struct tm tm = {
		.tm_year = two_digits(text) * 100 + two_digits(text + 2) - 1900,
		.tm_mon = two_digits(text + 5) - 1,
		.tm_mday = two_digits(text + 8),
		.tm_hour = two_digits(text + 11),
		.tm_min = two_digits(text + 14),
		.tm_sec = two_digits(text + 17),
	};
	int64_t t = timegm(&tm);
	/* timegm() carries "02-30" over into March: only what reads back the same is a date. */
	if (snapshot_time_format(t, again) < 0 || strcmp(text, again) != 0)
		return -EINVAL;
	*time = t;
	return 0;
}

/* --- paths --- */

/* Append at `used`, cutting at the end; returns the new end. */
static size_t append(char *out, size_t size, size_t used, const char *text, size_t text_size)
{
	if (text_size > size - 1 - used)
		text_size = size - 1 - used;
	memcpy(out + used, text, text_size);
	out[used + text_size] = '\0';
	return used + text_size;
}

void snapshot_ns_path(const char *ns, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	while (*ns) {
		size_t part = strcspn(ns, "/");

		used = append(out, size, used, used ? "/ns/" : "ns/", used ? 4 : 3);
		used = append(out, size, used, ns, part);
		ns += part + (ns[part] == '/');
	}
}

void snapshot_group_path(const struct snapshot_group *g, char *out, size_t size)
{
	snapshot_ns_path(g->ns, out, size);
	size_t used = strlen(out);

	snprintf(out + used, size - used, "%s%s/%s", used ? "/" : "", g->type, g->id);
}

void snapshot_path(const struct snapshot_name *s, char *out, size_t size)
{
	char time[SNAPSHOT_TIME_TEXT_SIZE];

	snapshot_group_path(&s->group, out, size);
	size_t used = strlen(out);

	if (snapshot_time_format(s->time, time) == 0)
		snprintf(out + used, size - used, "/%s", time);
	else
		snprintf(out + used, size - used, "/@%lld", (long long)s->time);
}

/* --- order --- */

static bool as_number(const char *id, uint64_t *number)
{
	uint64_t n = 0;

	for (; *id; id++) {
		if (*id < '0' || *id > '9' || n > (UINT64_MAX - (uint64_t)(*id - '0')) / 10)
			return false;
		n = n * 10 + (uint64_t)(*id - '0');
	}
	*number = n;
	return true;
}

static int compare_ids(const char *a, const char *b)
{
	uint64_t na = 0, nb = 0;
	bool a_is_number = as_number(a, &na), b_is_number = as_number(b, &nb);

	if (a_is_number != b_is_number)
		return a_is_number ? -1 : 1;
	if (a_is_number && na != nb)
		return na < nb ? -1 : 1;
	return strcmp(a, b);
}

int snapshot_group_compare(const struct snapshot_group *a, const struct snapshot_group *b)
{
	int order = strcmp(a->ns, b->ns);

	if (order == 0)
		order = type_rank(a->type) - type_rank(b->type);
	return order ? order : compare_ids(a->id, b->id);
}

int snapshot_compare(const struct snapshot_name *a, const struct snapshot_name *b)
{
	int order = snapshot_group_compare(&a->group, &b->group);

	return order ? order : (a->time > b->time) - (a->time < b->time);
}
