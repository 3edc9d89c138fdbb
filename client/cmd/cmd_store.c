/* SPDX-License-Identifier: Apache-2.0 */
/* A repository as a whole: namespaces, status. */
#include "archive/base/cleanup.h"
#include "archive/json_text.h"
#include "client/cmd/cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- namespaces --- */

enum { LIST_SIZE_MAX = 256 << 20 };

struct ns_row {
	char ns[SNAPSHOT_NS_SIZE_MAX + 1];
};

static int keep_ns(void *arg, const char *ns)
{
	struct ns_row row = { "" };

	snprintf(row.ns, sizeof(row.ns), "%s", ns);
	return wbuf_put(arg, &row, sizeof(row));
}

static int compare_rows(const void *a, const void *b)
{
	return strcmp(((const struct ns_row *)a)->ns, ((const struct ns_row *)b)->ns);
}

static int print_namespaces(const struct ns_row *rows, size_t count, bool as_json)
{
	AUTO(json) json_t *all = json_array();

	for (size_t i = 0; i < count; i++)
		if (!as_json)
			puts(rows[i].ns);
		else if (json_array_append_new(all, json_pack("{s:s}", "ns", rows[i].ns)) < 0)
			return cmd_failed(NULL, -ENOMEM);
	return as_json ? cmd_print_json(all) : EXIT_DONE;
}

/* The repository, for a command about the namespace `ns`; -1, or an exit status. */
static int open_for(const struct cmd *self, const char *repository, const char *ns,
		    struct repo **out)
{
	int status = opts_check(self, cmd_check_ns, ns);

	return status < 0 ? cmd_open_repository(self, repository, out) : status;
}

static int run_list(const struct cmd *self, int argc, char **argv)
{
	const char *repository = NULL;
	bool as_json = false;
	AUTO(wbuf) struct wbuf rows = WBUF_INIT(LIST_SIZE_MAX);
	AUTO(repo) struct repo *repo = NULL;
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	const struct opt table[] = {
		CMD_OPT_REPOSITORY(repository),
		CMD_OPT_OUTPUT_FORMAT(as_json),
		{ 0 },
	};
	int status = opts_parse(self, table, argc, argv, 0, 1, &args, &count);

	if (status < 0)
		status = open_for(self, repository, count ? args[0] : "", &repo);
	if (status >= 0)
		return status;
	int rc = repo_list_ns(repo, count ? args[0] : "", keep_ns, &rows, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	count = rows.size / sizeof(struct ns_row);
	if (count)
		qsort(rows.data, count, sizeof(struct ns_row), compare_rows);
	return print_namespaces((const struct ns_row *)rows.data, count, as_json);
}

static int run_create(const struct cmd *self, int argc, char **argv)
{
	const char *repository = NULL;
	AUTO(repo) struct repo *repo = NULL;
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	const struct opt table[] = { CMD_OPT_REPOSITORY(repository), { 0 } };
	int status = opts_parse(self, table, argc, argv, 1, 1, &args, &count);

	if (status < 0)
		status = open_for(self, repository, args[0], &repo);
	if (status >= 0)
		return status;
	int rc = repo_make_ns(repo, args[0], &err);
	return rc < 0 ? cmd_failed(&err, rc) : EXIT_DONE;
}

static int run_delete(const struct cmd *self, int argc, char **argv)
{
	const char *repository = NULL;
	AUTO(repo) struct repo *repo = NULL;
	struct err err = ERR_INIT;
	bool with_groups = false;
	char **args;
	size_t count;
	const struct opt table[] = {
		CMD_OPT_REPOSITORY(repository),
		{ "delete-groups", 0, OPT_FLAG, &with_groups, NULL,
		  "also forget every snapshot in it and below; what is protected or in use stays" },
		{ 0 },
	};
	int status = opts_parse(self, table, argc, argv, 1, 1, &args, &count);

	if (status < 0 && !args[0][0])
		status = opts_usage(self, "the root namespace cannot be removed");
	if (status < 0)
		status = open_for(self, repository, args[0], &repo);
	if (status >= 0)
		return status;
	int rc = repo_remove_ns(repo, args[0], with_groups, &err);
	return rc < 0 ? cmd_failed(&err, rc) : EXIT_DONE;
}

static const struct cmd namespace_commands[] = {
	{ "namespaces list", "[NAMESPACE]", "List the namespaces below one",
	  "Without NAMESPACE all of them, a line each.", run_list },
	{ "namespaces create", "NAMESPACE", "Make a namespace and those it is in",
	  "One that is there already is left as it is.", run_create },
	{ "namespaces delete", "NAMESPACE", "Remove a namespace and those below it",
	  "One that has ever held a group is removed only with --delete-groups.", run_delete },
};

/* What is asked most needs no command of its own. */
static bool is_list(int argc, char **argv)
{
	return argc < 2 || (argv[1][0] == '-' && strcmp(argv[1], "-h") != 0 &&
			    strcmp(argv[1], "--help") != 0);
}

static int run_namespaces(const struct cmd *self, int argc, char **argv)
{
	if (is_list(argc, argv))
		return run_list(&namespace_commands[0], argc, argv);
	return cmd_run_family(self, namespace_commands,
			      sizeof(namespace_commands) / sizeof(namespace_commands[0]),
			      "NAMESPACE is a path of up to seven names, as in prod/eu.  Without\n"
			      "COMMAND all of them are listed.", argc, argv);
}

const struct cmd cmd_namespaces = {
	.name = "namespaces",
	.synopsis = "[COMMAND]",
	.summary = "List, make and remove namespaces",
	.run = run_namespaces,
};

/* --- status --- */

static int print_space(const struct repo_space *space, bool as_json)
{
	const struct {
		const char *label, *member;
		uint64_t bytes;
	} rows[] = { { "Total", "total", space->total },
		     { "Used", "used", space->used },
		     { "Available", "avail", space->available } };
	AUTO(json) json_t *all = json_object();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char size[32];

		cmd_format_size(rows[i].bytes, size, sizeof(size));
		if (!as_json)
			printf("%-10s %12s  %5.1f %%\n", rows[i].label, size,
			       space->total ?
				       100.0 * (double)rows[i].bytes / (double)space->total :
				       0.0);
		else if (json_object_set_new(all, rows[i].member,
					     json_integer((json_int_t)rows[i].bytes)) < 0)
			return cmd_failed(NULL, -ENOMEM);
	}
	return as_json ? cmd_print_json(all) : EXIT_DONE;
}

static int run_status(const struct cmd *self, int argc, char **argv)
{
	const char *repository = NULL;
	bool as_json = false;
	AUTO(repo) struct repo *repo = NULL;
	struct repo_space space;
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	const struct opt table[] = {
		CMD_OPT_REPOSITORY(repository),
		CMD_OPT_OUTPUT_FORMAT(as_json),
		{ 0 },
	};
	int status = opts_parse(self, table, argc, argv, 0, 0, &args, &count);

	if (status < 0)
		status = cmd_open_repository(self, repository, &repo);
	if (status >= 0)
		return status;
	int rc = repo_space(repo, &space, &err);
	return rc ? cmd_failed(&err, rc) : print_space(&space, as_json);
}

const struct cmd cmd_status = {
	.name = "status",
	.synopsis = "",
	.summary = "Show how full a repository is",
	.description = "Sizes are those of the file system that the datastore is on.",
	.run = run_status,
};
