/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opts - GNU long options from a table: parsing, --help, bad usage.
 *
 * "--name VALUE", "--name=VALUE", short options where given, options anywhere among the
 * positional arguments, "--" ends them.  Every command gets --help from its table.
 */
#ifndef PXARFS_OPTS_H
#define PXARFS_OPTS_H

#include "archive/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether `text` can be what it is meant to be, whatever there is: 0, or a
 * negative errno and why not. */
typedef int opt_check(const char *text, struct err *err);

enum opt_type {
	OPT_FLAG, /* bool *: set to true; "--name=VALUE": 1, on, yes, true or 0, off, no, false */
	OPT_STRING, /* const char **: the argument, borrowed from argv */
	OPT_NS, /* the same, a namespace */
	OPT_FORMAT, /* bool *: "text", or "json": true */
	OPT_UINT, /* uint64_t *: decimal, nothing behind it */
	OPT_LIST, /* struct opt_list *: may be given more than once */
};

struct opt_list {
	const char **items; /* free with opt_list_release() */
	size_t count;
};
void opt_list_release(struct opt_list *l);

struct opt {
	const char *name; /* "repository"; NULL ends the table */
	char letter; /* 'r' or 0 */
	enum opt_type type;
	void *value;
	const char *argument; /* "REPOSITORY", for --help; NULL for flags */
	const char *help;
};

/* Exit status of the whole program (design: command line). */
enum exit_status {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_INCOMPLETE = 3, /* done, with files skipped or warnings that cost data */
};

/* One sub-command. */
struct cmd {
	const char *name;
	const char *synopsis; /* "SNAPSHOT ARCHIVE [PATH]" */
	const char *summary; /* one line, for "pxarfs --help" */
	const char *description; /* paragraphs, for "pxarfs NAME --help"; may be NULL */
	int (*run)(const struct cmd *self, int argc, char **argv); /* -> exit status */
};

/*
 * Parse argv[1..argc) into the table's values; on return `*args` and `*count` are the
 * positional arguments (in argv, reordered).  Returns -1 to go on, or an exit status when
 * --help was printed (EXIT_DONE) or the usage was bad and has been reported (EXIT_USAGE:
 * unknown option, missing or impossible argument, fewer than `min` or more than `max` positionals).
 */
int opts_parse(const struct cmd *cmd, const struct opt *table, int argc, char **argv,
	       size_t min, size_t max, char ***args, size_t *count);

/* What OPT_UINT takes, for an option that must be told from one that was not given.  -EINVAL. */
int opts_parse_uint(const char *text, uint64_t *out);

/* An argument that cannot be what `check` says: bad usage, EXIT_USAGE; else -1. */
int opts_check(const struct cmd *cmd, opt_check *check, const char *text);

/* Report "pxarfs NAME: MESSAGE" and where help is; returns EXIT_USAGE. */
int opts_usage(const struct cmd *cmd, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
