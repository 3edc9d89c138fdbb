/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/opts.h"

#include "client/repo/snapshot.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	OPTS_COUNT_MAX = 64, /* of one command's table */
	OPTS_LONG_BASE = 1000, /* getopt's value of table row 0 */
	HELP_VALUE = OPTS_LONG_BASE + OPTS_COUNT_MAX,
	HELP_COLUMN = 32,
	HELP_WIDTH = 79,
};

void opt_list_release(struct opt_list *l)
{
	free(l->items);
	*l = (struct opt_list){ 0 };
}

int opts_usage(const struct cmd *cmd, const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "pxarfs %s: ", cmd->name);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "\nTry 'pxarfs %s --help'.\n", cmd->name);
	return EXIT_USAGE;
}

/* Print `text` from column `column` on, broken at blanks, the first line being at `used`. */
static void print_wrapped(const char *text, int used, int column)
{
	while (*text) {
		int room = HELP_WIDTH - column;
		int n = (int)strlen(text);

		if (n > room) {
			n = room;
			while (n > 0 && text[n] != ' ')
				n--;
			if (n == 0)
				n = room;
		}
		printf("%*s%.*s\n", used < column ? column - used : 0, "", n, text);
		used = 0;
		text += n;
		while (*text == ' ')
			text++;
	}
}

static void print_option(const struct opt *o)
{
	int n = o->letter ? printf("  -%c, --%s", o->letter, o->name) :
			    printf("      --%s", o->name);

	if (o->argument)
		n += printf(" %s", o->argument);
	if (n >= HELP_COLUMN - 1) {
		putchar('\n');
		n = 0;
	}
	print_wrapped(o->help, n, HELP_COLUMN);
}

static void print_help(const struct cmd *cmd, const struct opt *table)
{
	static const struct opt help = { .name = "help",
					 .letter = 'h',
					 .help = "show this help" };

	printf("Usage: pxarfs %s [OPTION]...%s%s\n\n%s.\n", cmd->name, cmd->synopsis[0] ? " " : "",
	       cmd->synopsis, cmd->summary);
	if (cmd->description)
		printf("\n%s\n", cmd->description);
	printf("\nOptions:\n");
	for (const struct opt *o = table; o->name; o++)
		print_option(o);
	print_option(&help);
}

static int list_add(struct opt_list *l, const char *item)
{
	const char **items = realloc(l->items, (l->count + 1) * sizeof(*items));

	if (!items)
		return -ENOMEM;
	items[l->count++] = item;
	l->items = items;
	return 0;
}

int opts_parse_uint(const char *text, uint64_t *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno || *end ? -EINVAL : 0;
}

int opts_check(const struct cmd *cmd, opt_check *check, const char *text)
{
	struct err err = ERR_INIT;
	int rc = check(text, &err);

	return rc < 0 ? opts_usage(cmd, "%s", err_text(&err, rc)) : -1;
}

/* As the official client spells them. */
static bool parse_bool(const char *text, bool *out)
{
	static const char *const words[] = { "0", "off", "no", "false", "1", "on", "yes", "true" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasecmp(text, words[i]) == 0) {
			*out = i >= 4;
			return true;
		}
	return false;
}

/* -1, or an exit status. */
static int take_option(const struct cmd *cmd, const struct opt *o, const char *value)
{
	char ns[SNAPSHOT_NS_SIZE_MAX + 1];
	struct err err = ERR_INIT;

	switch (o->type) {
	case OPT_FLAG:
		*(bool *)o->value = true;
		if (value && !parse_bool(value, o->value))
			return opts_usage(cmd, "--%s is true or false, not '%s'", o->name, value);
		break;
	case OPT_FORMAT:
		/* Ours is indented anyway. */
		*(bool *)o->value = strcmp(value, "json") == 0 || strcmp(value, "json-pretty") == 0;
		if (!*(bool *)o->value && strcmp(value, "text") != 0)
			return opts_usage(cmd, "--%s is text or json, not '%s'", o->name, value);
		break;
	case OPT_NS:
		if (snapshot_ns_parse(value, ns, &err) < 0)
			return opts_usage(cmd, "--%s: %s", o->name, err.text);
		*(const char **)o->value = value;
		break;
	case OPT_STRING:
		*(const char **)o->value = value;
		break;
	case OPT_UINT:
		if (opts_parse_uint(value, o->value) < 0)
			return opts_usage(cmd, "--%s: '%s' is not a number", o->name, value);
		break;
	case OPT_LIST:
		if (list_add(o->value, value) < 0) {
			fprintf(stderr, "pxarfs: out of memory\n");
			return EXIT_FAILED;
		}
		break;
	}
	return -1;
}

/* getopt's two tables from ours; returns the count of rows. */
static size_t build_getopt(const struct opt *table, struct option *longs, char *shorts)
{
	size_t n = 0;

	*shorts++ = ':'; /* a missing argument is told apart from an unknown option */
	*shorts++ = 'h';
	for (; table[n].name && n < OPTS_COUNT_MAX; n++) {
		bool argument = table[n].type != OPT_FLAG;

		longs[n] = (struct option){ table[n].name,
					    argument ? required_argument : optional_argument, NULL,
					    OPTS_LONG_BASE + (int)n };
		if (table[n].letter) {
			*shorts++ = table[n].letter;
			if (argument)
				*shorts++ = ':';
		}
	}
	longs[n] = (struct option){ "help", no_argument, NULL, HELP_VALUE };
	longs[n + 1] = (struct option){ 0 };
	*shorts = '\0';
	return n;
}

static const struct opt *find_option(const struct opt *table, size_t count, int value)
{
	if (value >= OPTS_LONG_BASE && value < OPTS_LONG_BASE + (int)count)
		return &table[value - OPTS_LONG_BASE];
	for (size_t i = 0; i < count; i++)
		if (table[i].letter == value)
			return &table[i];
	return NULL;
}

static int bad_option(const struct cmd *cmd, char **argv, int value)
{
	/* optopt is 0 for an unknown long option, and a table row's value for a known one. */
	const char *word = argv[optind - 1];

	if (value == ':')
		return opts_usage(cmd, "'%s' needs an argument", word);
	if (optopt > 0 && optopt < 256)
		return opts_usage(cmd, "unknown option '-%c'", optopt);
	if (optopt == HELP_VALUE)
		return opts_usage(cmd, "'%s' takes no argument", word);
	return opts_usage(cmd, "unknown option '%s'", word);
}

int opts_parse(const struct cmd *cmd, const struct opt *table, int argc, char **argv,
	       size_t min, size_t max, char ***args, size_t *count)
{
	struct option longs[OPTS_COUNT_MAX + 2];
	char shorts[2 * OPTS_COUNT_MAX + 3];
	size_t rows = build_getopt(table, longs, shorts);
	int value;

	optind = 0; /* glibc: start over, whatever was parsed before */
	opterr = 0;
	while ((value = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct opt *o = find_option(table, rows, value);
		int status;

		if (value == 'h' || value == HELP_VALUE) {
			print_help(cmd, table);
			return EXIT_DONE;
		}
		if (!o)
			return bad_option(cmd, argv, value);
		status = take_option(cmd, o, optarg);
		if (status >= 0)
			return status;
	}
	*args = argv + optind;
	*count = (size_t)(argc - optind);
	if (*count < min)
		return opts_usage(cmd, "missing argument; usage: pxarfs %s %s", cmd->name,
				  cmd->synopsis);
	if (*count > max)
		return opts_usage(cmd, "too many arguments: '%s'", (*args)[max]);
	return -1;
}
