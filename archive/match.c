/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/match.h"

#include "archive/base/grow.h"

#include <string.h>

/*
 * A glob is kept as text and run as a nondeterministic automaton whose states are offsets into
 * that text: state i means "what came so far is matched by glob[0..i)".  One pass over the path
 * moves a set of states; nothing is ever tried twice, so no pattern can make it slow.
 */

enum token_kind {
	TOKEN_END,
	TOKEN_BYTE,
	TOKEN_ANY, /* ? */
	TOKEN_CLASS, /* [...] */
	TOKEN_STAR, /* any bytes but slashes */
	TOKEN_DOUBLE_STAR, /* any bytes */
	TOKEN_FOLDERS, /* a double star and the slash behind it: nothing, or up to a slash */
};

struct token {
	enum token_kind kind;
	unsigned char byte;
	size_t size; /* in the glob */
};

/* --- classes --- */

static bool in_range(unsigned char c, unsigned char first, unsigned char last)
{
	return c >= first && c <= last;
}

static bool is_alpha(unsigned char c)
{
	return in_range(c, 'a', 'z') || in_range(c, 'A', 'Z');
}

static bool is_punct(unsigned char c)
{
	return in_range(c, 0x21, 0x7e) && !is_alpha(c) && !in_range(c, '0', '9');
}

static bool is_xdigit(unsigned char c)
{
	return in_range(c, '0', '9') || in_range(c, 'a', 'f') || in_range(c, 'A', 'F');
}

/* Is `c` in the class `name`?  -1: there is no such class. */
static int named_class_has(const char *name, size_t size, unsigned char c)
{
	static const char names[][8] = { "alnum", "alpha", "blank", "cntrl", "digit", "graph",
					 "lower", "print", "punct", "space", "upper", "xdigit" };
	const bool has[] = {
		is_alpha(c) || in_range(c, '0', '9'),
		is_alpha(c),
		c == ' ' || c == '\t',
		c < 0x20 || c == 0x7f,
		in_range(c, '0', '9'),
		in_range(c, 0x21, 0x7e),
		in_range(c, 'a', 'z'),
		in_range(c, 0x20, 0x7f), /* as the official tool has it */
		is_punct(c),
		c == ' ' || in_range(c, '\t', '\r'),
		in_range(c, 'A', 'Z'),
		is_xdigit(c),
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == size && memcmp(names[i], name, size) == 0)
			return has[i];
	return -1;
}

/* One byte of a class, possibly escaped; steps over it.  False: the text ends. */
static bool class_byte(const char **p, unsigned char *byte)
{
	if (**p == '\\')
		(*p)++;
	if (!**p)
		return false;
	*byte = (unsigned char)*(*p)++;
	return true;
}

/* A "[:name:]" at *p: steps over it and says whether it holds `c`; -1: malformed. */
static int class_name_has(const char **p, unsigned char c)
{
	const char *name = *p + 2;
	const char *end = strstr(name, ":]");
	int has = end ? named_class_has(name, (size_t)(end - name), c) : -1;

	if (has >= 0)
		*p = end + 2;
	return has;
}

/* A byte or a range at *p: steps over it and says whether it holds `c`; -1: malformed. */
static int class_range_has(const char **p, unsigned char c)
{
	unsigned char first, last;

	if (!class_byte(p, &first))
		return -1;
	last = first;
	if (**p == '-') {
		(*p)++;
		/* A bracket here is the range's end and closes nothing, as in the official
		 * tool, which then crashes for want of another one. */
		if (!class_byte(p, &last))
			return -1;
	}
	return first <= last ? in_range(c, first, last) : in_range(c, last, first);
}

/* Is `c` in the class that begins with the bracket at `glob`?  `*size` is what the class takes
 * up.  -1: malformed. */
static int class_has(const char *glob, unsigned char c, size_t *size)
{
	const char *p = glob + 1;
	bool negated = *p == '^';
	int found = 0;

	p += negated;
	while (*p != ']') {
		int has = p[0] == '[' && p[1] == ':' ? class_name_has(&p, c) :
						       class_range_has(&p, c);

		if (has < 0)
			return -1;
		found |= has;
	}
	*size = (size_t)(p + 1 - glob);
	return found != negated;
}

/* --- tokens --- */

static struct token star_token(const char *glob, size_t at)
{
	size_t run = strspn(glob + at, "*");
	char after = glob[at + run];
	bool alone = (at == 0 || glob[at - 1] == '/') && (!after || after == '/');

	if (run < 2 || !alone)
		return (struct token){ .kind = TOKEN_STAR, .size = run };
	if (after)
		return (struct token){ .kind = TOKEN_FOLDERS, .size = run + 1 };
	return (struct token){ .kind = TOKEN_DOUBLE_STAR, .size = run };
}

/* The token at offset `at` of a glob that parsed; a class has size 0 here, for class_has()
 * finds it. */
static struct token token_at(const char *glob, size_t at)
{
	switch (glob[at]) {
	case '\0':
		return (struct token){ .kind = TOKEN_END };
	case '?':
		return (struct token){ .kind = TOKEN_ANY, .size = 1 };
	case '[':
		return (struct token){ .kind = TOKEN_CLASS };
	case '*':
		return star_token(glob, at);
	case '\\':
		return (struct token){ .kind = TOKEN_BYTE,
				       .byte = (unsigned char)glob[at + 1],
				       .size = 2 };
	default:
		return (struct token){ .kind = TOKEN_BYTE,
				       .byte = (unsigned char)glob[at],
				       .size = 1 };
	}
}

/* Check the glob from `at` on and find how many slashes a text must have that it matches. */
static int glob_parse(const char *glob, size_t at, size_t *slash_count, struct err *err)
{
	struct token t;
	size_t count = 0;
	bool vary = false;

	for (; t = token_at(glob, at), t.kind != TOKEN_END; at += t.size) {
		if (t.kind == TOKEN_BYTE && !t.byte)
			return err_set(err, EINVAL, "pattern \"%s\": nothing behind the '\\'",
				       glob);
		if (t.kind == TOKEN_CLASS) {
			int has = class_has(glob + at, '/', &t.size);

			if (has < 0)
				return err_set(err, EINVAL,
					       "pattern \"%s\": missing ']' or unknown [:class:]",
					       glob);
			vary |= has;
		}
		vary |= t.kind == TOKEN_DOUBLE_STAR || t.kind == TOKEN_FOLDERS;
		count += t.kind == TOKEN_BYTE && t.byte == '/';
	}
	*slash_count = vary ? MATCH_SLASHES_VARY : count;
	return 0;
}

/* Folders in front say nothing of a glob that may match behind any slash. */
static size_t leading_folders(const char *glob)
{
	struct token t;
	size_t at = 0;

	while (t = token_at(glob, at), t.kind == TOKEN_FOLDERS)
		at += t.size;
	return at;
}

/* --- matching --- */

enum { STATE_WORDS_MAX = MATCH_PATTERN_SIZE_MAX / 64 + 1 };

struct states {
	uint64_t at[STATE_WORDS_MAX];
	uint64_t within[STATE_WORDS_MAX]; /* TOKEN_FOLDERS that need a slash by now */
};

static void states_clear(struct states *s, size_t words)
{
	memset(s->at, 0, words * sizeof(s->at[0]));
	memset(s->within, 0, words * sizeof(s->within[0]));
}

/* Enter state `at`, and those behind it that need no byte. */
static void states_enter(struct states *s, const char *glob, size_t at)
{
	for (;;) {
		uint64_t bit = (uint64_t)1 << (at % 64);

		if (s->at[at / 64] & bit)
			return;
		s->at[at / 64] |= bit;
		if (glob[at] != '*')
			return;
		at += star_token(glob, at).size;
	}
}

/* Where the byte `c` leads from within the folders at `at`. */
static void step_within(struct states *next, const char *glob, size_t at, unsigned char c)
{
	next->within[at / 64] |= (uint64_t)1 << (at % 64);
	if (c == '/')
		states_enter(next, glob, at + star_token(glob, at).size);
}

/* Where the byte `c` leads from state `at`. */
static void step(struct states *next, const char *glob, size_t at, unsigned char c)
{
	struct token t = token_at(glob, at);
	bool on = false;

	switch (t.kind) {
	case TOKEN_END:
		return;
	case TOKEN_BYTE:
		on = c == t.byte;
		break;
	case TOKEN_ANY:
		on = c != '/';
		break;
	case TOKEN_CLASS:
		on = class_has(glob + at, c, &t.size) > 0;
		break;
	case TOKEN_STAR:
		if (c != '/')
			states_enter(next, glob, at);
		return;
	case TOKEN_DOUBLE_STAR:
		states_enter(next, glob, at);
		return;
	case TOKEN_FOLDERS:
		step_within(next, glob, at, c);
		return;
	}
	if (on)
		states_enter(next, glob, at + t.size);
}

/* All states one byte on; false: none is left. */
static bool step_all(const struct states *now, struct states *next, size_t words,
		     const char *glob, unsigned char c)
{
	uint64_t any = 0;

	states_clear(next, words);
	for (size_t w = 0; w < words; w++) {
		for (uint64_t left = now->at[w]; left; left &= left - 1)
			step(next, glob, w * 64 + (size_t)__builtin_ctzll(left), c);
		for (uint64_t left = now->within[w]; left; left &= left - 1)
			step_within(next, glob, w * 64 + (size_t)__builtin_ctzll(left), c);
	}
	for (size_t w = 0; w < words; w++)
		any |= next->at[w] | next->within[w];
	return any;
}

/* No state is left: go on before the next slash, for another begin is behind it. */
static const char *next_begin(const char *text, bool anywhere)
{
	const char *slash = anywhere ? strchr(text + 1, '/') : NULL;

	return slash ? slash - 1 : NULL;
}

/* Does the glob match the text from its begin, or (`anywhere`) from behind any slash? */
static bool glob_matches(const char *glob, const char *text, bool anywhere)
{
	size_t glob_size = strlen(glob);
	size_t words = glob_size / 64 + 1;
	struct states sets[2];
	unsigned now = 0;

	states_clear(&sets[now], words);
	states_enter(&sets[now], glob, 0);
	for (; *text; text++) {
		struct states *next = &sets[!now];
		bool alive = step_all(&sets[now], next, words, glob, (unsigned char)*text);

		now = !now;
		if (anywhere && *text == '/')
			states_enter(next, glob, 0);
		else if (!alive && !(text = next_begin(text, anywhere)))
			return false;
	}
	return sets[now].at[glob_size / 64] >> (glob_size % 64) & 1;
}

/* The end of `path` that has exactly `slash_count` slashes and begins behind one or is all of
 * it; NULL: there is none. */
static const char *path_end(const char *path, size_t path_size, size_t slash_count)
{
	const char *slash = path + path_size;

	for (size_t i = 0; i <= slash_count; i++) {
		slash = memrchr(path, '/', (size_t)(slash - path));
		if (!slash)
			return i == slash_count ? path : NULL;
	}
	return slash + 1;
}

static bool pattern_matches(const struct match_pattern *p, const char *path, size_t path_size,
			    bool is_directory)
{
	if (p->directories_only && !is_directory)
		return false;
	if (p->anchored)
		return p->base_size <= path_size &&
		       glob_matches(p->glob, path + p->base_size, false);
	/* No end of a path but all of it begins with a slash. */
	if (p->slash_count == MATCH_SLASHES_VARY)
		return glob_matches(p->glob + p->skip, path, p->glob[p->skip] != '/');
	path = path_end(path, path_size, p->slash_count);
	return path && glob_matches(p->glob + p->skip, path, false);
}

enum match_result match_list_apply(const struct match_list *l, const char *path,
				   bool is_directory)
{
	size_t path_size = l->count ? strlen(path) : 0;

	for (size_t i = l->count; i-- > 0;) {
		const struct match_pattern *p = &l->patterns[i];

		if (pattern_matches(p, path, path_size, is_directory))
			return p->include ? MATCH_INCLUDE : MATCH_EXCLUDE;
	}
	return MATCH_NONE;
}

/* --- lists --- */

void match_list_truncate(struct match_list *l, size_t count)
{
	while (l->count > count) {
		struct match_pattern *p = &l->patterns[--l->count];

		l->glob_bytes -= strlen(p->glob);
		free(p->glob);
	}
}

void match_list_release(struct match_list *l)
{
	match_list_truncate(l, 0);
	free(l->patterns);
	*l = (struct match_list){ 0 };
}

static int list_grow(struct match_list *l, size_t glob_size, struct err *err)
{
	int rc = grow(&l->patterns, &l->capacity, l->count + 1, MATCH_PATTERN_COUNT_MAX,
		      sizeof(*l->patterns));

	if (rc == -E2BIG)
		return err_set(err, E2BIG, "more than %d patterns", MATCH_PATTERN_COUNT_MAX);
	if (rc < 0)
		return err_set(err, ENOMEM, "out of memory");
	if (glob_size > MATCH_LIST_SIZE_MAX - l->glob_bytes)
		return err_set(err, E2BIG, "patterns take more than %d bytes",
			       MATCH_LIST_SIZE_MAX);
	return 0;
}

/* Parse `text` on top of what `p` says already and append it.  -EINVAL: it does not parse. */
static int list_append(struct match_list *l, struct match_pattern p, const char *text,
		       size_t size, struct err *err)
{
	AUTO(free) char *glob = NULL;
	int rc;

	if (size && *text == '!') {
		p.include = !p.include;
		text++;
		size--;
	}
	while (size && text[size - 1] == '/') {
		p.directories_only = true;
		size--;
	}
	if (!size) {
		p.directories_only = true;
		text = "/";
		size = 1;
	}
	if (size > MATCH_PATTERN_SIZE_MAX - 1)
		return err_set(err, EINVAL, "pattern of %zu bytes: at most %d", size,
			       MATCH_PATTERN_SIZE_MAX - 1);
	if (memchr(text, '\0', size))
		return err_set(err, EINVAL, "pattern holds a NUL byte");
	rc = list_grow(l, size, err);
	if (rc < 0)
		return rc;
	glob = strndup(text, size);
	if (!glob)
		return err_set(err, ENOMEM, "out of memory");
	p.skip = p.anchored ? 0 : leading_folders(glob);
	rc = glob_parse(glob, p.skip, &p.slash_count, err);
	if (rc < 0)
		return rc;
	p.glob = steal(&glob);
	l->patterns[l->count++] = p;
	l->glob_bytes += size;
	return 0;
}

int match_list_add(struct match_list *l, const char *pattern, struct err *err)
{
	return list_append(l, (struct match_pattern){ 0 }, pattern, strlen(pattern), err);
}

static bool is_line_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f';
}

static int add_line(struct match_list *l, size_t base_size, const char *line, size_t size,
		    struct err *err)
{
	struct match_pattern p = { 0 };

	while (size && is_line_blank(*line)) {
		line++;
		size--;
	}
	while (size && is_line_blank(line[size - 1]))
		size--;
	if (!size || *line == '#')
		return 0;
	if (*line == '!') {
		p.include = true;
		line++;
		size--;
	}
	if (size && *line == '/') {
		p.anchored = true;
		p.base_size = base_size;
	}
	return list_append(l, p, line, size, err);
}

int match_list_add_file(struct match_list *l, const char *dir_path, const void *text,
			size_t size, size_t *bad, struct err *err)
{
	size_t base_size = *dir_path ? 1 + strlen(dir_path) : 0;
	const char *line = text, *end = line + size;

	*bad = 0;
	while (line < end) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		const char *line_end = newline ? newline : end;
		int rc = add_line(l, base_size, line, (size_t)(line_end - line), err);

		if (rc == -EINVAL)
			++*bad;
		else if (rc < 0)
			return rc;
		line = newline ? newline + 1 : end;
	}
	return 0;
}

int match_list_text(const struct match_list *l, struct wbuf *out)
{
	for (size_t i = 0; i < l->count; i++) {
		const struct match_pattern *p = &l->patterns[i];
		size_t size = strlen(p->glob);

		if (p->include)
			wbuf_put_u8(out, '!');
		wbuf_put(out, p->glob, size);
		if (p->directories_only && p->glob[size - 1] != '/')
			wbuf_put_u8(out, '/');
		wbuf_put_u8(out, '\n');
	}
	return out->failed;
}
