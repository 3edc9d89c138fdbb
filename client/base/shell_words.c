/* SPDX-License-Identifier: Apache-2.0 */
#include "client/base/shell_words.h"

#include <stdlib.h>
#include <string.h>

static const char BLANKS[] = " \t\n";

void shell_words_release(struct shell_words *w)
{
	free(w->items);
	free(w->text);
	w->items = NULL;
	w->text = NULL;
}

static const char *skip_blanks(const char *in)
{
	for (;;) {
		in += strspn(in, BLANKS);
		if (*in != '#')
			return in;
		in += strcspn(in, "\n");
	}
}

/* A backslash and what it protects: a line's end goes with it, in double quotes it is an ordinary
 * character before most others. */
static const char *take_escaped(const char *in, const char *special, char **out)
{
	in++;
	if (*in == '\n')
		return in + 1;
	if (!*in || (special && !strchr(special, *in))) {
		*(*out)++ = '\\';
		return in;
	}
	*(*out)++ = *in;
	return in + 1;
}

/* From behind the opening quote to behind the closing one; NULL: there is none. */
static const char *take_quoted(const char *in, char quote, char **out)
{
	while (*in && *in != quote) {
		if (quote == '"' && *in == '\\')
			in = take_escaped(in, "$`\"\\", out);
		else
			*(*out)++ = *in++;
	}
	return *in ? in + 1 : NULL;
}

static const char *take_word(const char *in, char **out)
{
	while (in && *in && !strchr(BLANKS, *in)) {
		if (*in == '\'' || *in == '"')
			in = take_quoted(in + 1, *in, out);
		else if (*in == '\\')
			in = take_escaped(in, NULL, out);
		else
			*(*out)++ = *in++;
	}
	*(*out)++ = '\0';
	return in;
}

int shell_words_split(struct shell_words *w, const char *text, struct err *err)
{
	const size_t size = strlen(text);
	AUTO(shell_words) struct shell_words made = {
		.items = calloc(size / 2 + 2, sizeof(*made.items)), /* a blank between any two */
		.text = malloc(size + 1),
	};
	char *out = made.text;

	if (!made.items || !made.text)
		return err_set(err, ENOMEM, "out of memory");
	for (const char *in = skip_blanks(text); *in; in = skip_blanks(in)) {
		made.items[made.count++] = out;
		in = take_word(in, &out);
		if (!in)
			return err_set(err, EINVAL, "a quote is not closed");
	}
	*w = made;
	made = (struct shell_words){ .count = 0 };
	return 0;
}
