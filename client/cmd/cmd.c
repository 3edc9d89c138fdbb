/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/cmd.h"

#include "archive/base/cleanup.h"
#include "archive/json_text.h"
#include "client/cmd/log.h"
#include "client/cmd/text.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OUTPUT_SIZE_MAX = 1 << 30 };

static void print_overview(FILE *out, const struct cmd *const *commands)
{
	fprintf(out, "Usage: pxarfs COMMAND [OPTION]... [ARGUMENT]...\n\n"
		     "Look into, restore from and make backup archives.\n\nCommands:\n");
	for (; *commands; commands++)
		fprintf(out, "  %-12s %s\n", (*commands)->name, (*commands)->summary);
	fprintf(out, "\n'pxarfs COMMAND --help' describes a command's options.\n"
		     "'pxarfs --version' prints the version.\n"
		     "Exit status: 0 done, 1 failed, 2 bad usage, 3 done, but files were skipped.\n");
}

static int flush_output(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	log_error("standard output: %s", strerrordesc_np(errno));
	return status == EXIT_DONE ? EXIT_FAILED : status;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* How many words `text` has, if the command line begins with them; else 0. */
static int count_words(const char *text, int argc, char **argv)
{
	for (int n = 0; n < argc; n++) {
		size_t size = strlen(argv[n]);

		if (size == 0 || strncmp(text, argv[n], size) != 0)
			return 0;
		text += size;
		if (*text == '\0')
			return n + 1;
		if (*text++ != ' ')
			return 0;
	}
	return 0;
}

/* The official client's names for commands that we have, too, in the order of their replacing. */
static void use_our_names(int *argc, char ***argv)
{
	static const struct {
		const char *typed, *ours[2];
	} rows[] = {
		{ "snapshot list", { "snapshots" } },
		{ "snapshot files", { "files" } },
		{ "snapshot forget", { "forget" } },
		{ "snapshot notes", { "notes" } },
		{ "snapshot protected", { "protect" } },
		{ "snapshot upload-log", { "upload-log" } },
		{ "namespace", { "namespaces" } },
		{ "notes update", { "notes", "set" } },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		int typed = count_words(rows[i].typed, *argc, *argv);
		int ours = rows[i].ours[1] ? 2 : 1;

		if (typed == 0)
			continue;
		*argc -= typed - ours;
		*argv += typed - ours;
		memcpy(*argv, rows[i].ours, (size_t)ours * sizeof(**argv));
	}
}

/* What users of other backup programs type, and how it is done here. */
static const char *known_elsewhere(int argc, char **argv)
{
	static const char *const rows[][2] = {
		{ "snapshot", "the commands are 'snapshots', 'files', 'forget', 'notes', 'protect' and "
			      "'upload-log'" },
		{ "restore", "copy out of a mount: 'pxarfs mount SNAPSHOT MOUNTPOINT'" },
		{ "extract", "copy out of a mount: 'pxarfs mount SNAPSHOT|FILE MOUNTPOINT'" },
		{ "umount", "a mount ends by umount(8) or 'fusermount3 -u MOUNTPOINT'" },
		{ "unmount", "a mount ends by umount(8) or 'fusermount3 -u MOUNTPOINT'" },
		{ "map", "images are files in a mount: 'pxarfs mount SNAPSHOT MOUNTPOINT'" },
		{ "unmap", "a mount ends by umount(8) or 'fusermount3 -u MOUNTPOINT'" },
		{ "catalog", "'pxarfs ls -R SNAPSHOT ARCHIVE' lists an archive" },
		{ "diff", "compare in a mount: 'diff -r MOUNTPOINT/TYPE/ID/TIME/ARCHIVE ...'" },
		{ "group", "'pxarfs forget --group TYPE/ID' removes one" },
		{ "protected", "the command is 'protect'" },
		{ "protect update", "'protect set SNAPSHOT' or 'protect clear SNAPSHOT'" },
		{ "prune", "'forget' removes snapshots; rules for it are the server's" },
		{ "garbage-collect", "that is the server's" },
		{ "change-owner", "that is the server's" },
		{ "task", "that is the server's" },
		{ "login", "every command logs in by itself" },
		{ "logout", "a ticket ends by itself, after two hours" },
		{ "key show-master-pubkey", "'openssl rsa -pubin -noout -text -in FILE' shows one" },
	};

	if (argv[0][0] == '-')
		return "options stand behind the command, as in 'pxarfs snapshots -r REPOSITORY'";
	for (size_t i = 0; i < COUNT(rows); i++)
		if (count_words(rows[i][0], argc, argv))
			return rows[i][1];
	return NULL;
}

/* The command that argv[0] names. */
static int run(const struct cmd *const *commands, int argc, char **argv)
{
	const char *hint;

	use_our_names(&argc, &argv);
	for (; *commands; commands++)
		if (strcmp((*commands)->name, argv[0]) == 0)
			return flush_output((*commands)->run(*commands, argc, argv));
	hint = known_elsewhere(argc, argv);
	fprintf(stderr, "pxarfs: unknown command '%s'%s%s\nTry 'pxarfs --help'.\n", argv[0],
		hint ? ": " : "", hint ? hint : "");
	return EXIT_USAGE;
}

/* "help COMMAND [SUB-COMMAND]": the same as "COMMAND [SUB-COMMAND] --help". */
static int help(const struct cmd *const *commands, int argc, char **argv)
{
	static char option[] = "--help";

	for (int i = 0; i < argc - 2; i++)
		argv[i] = argv[i + 2];
	argv[argc - 2] = option;
	return run(commands, argc - 1, argv);
}

int cmd_main(const struct cmd *const *commands, int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;

	if (!name) {
		print_overview(stderr, commands);
		return EXIT_USAGE;
	}
	if (strcmp(name, "help") == 0 && argc > 2)
		return help(commands, argc, argv);
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		print_overview(stdout, commands);
		return flush_output(EXIT_DONE);
	}
	if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
		printf("pxarfs %s\n", PXARFS_VERSION);
		return flush_output(EXIT_DONE);
	}
	return run(commands, argc - 1, argv + 1);
}

int cmd_failed(const struct err *err, int rc)
{
	log_error("%s", err_text(err, rc));
	return EXIT_FAILED;
}

void cmd_warn(void *arg, const char *text)
{
	(void)arg;
	log_warn("%s", text);
}

int cmd_take_patterns(const struct cmd *self, const struct opt_list *exclude,
		      bool skip_lost_and_found, struct match_list *out)
{
	struct err err = ERR_INIT;
	int rc = 0;

	for (size_t i = 0; i < exclude->count && rc == 0; i++)
		rc = exclude->items[i][0] ? match_list_add(out, exclude->items[i], &err) :
					    err_set(&err, EINVAL, "the pattern is empty");
	if (rc == 0 && skip_lost_and_found)
		rc = match_list_add(out, "lost+found", &err);
	return rc < 0 ? opts_usage(self, "--exclude: %s", err_text(&err, rc)) : -1;
}

atomic_bool cmd_stop_requested;

static void on_signal(int number)
{
	(void)number;
	atomic_store(&cmd_stop_requested, true);
}

void cmd_stop_on_signals(int flags)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal,
				    .sa_flags = flags | (int)SA_RESETHAND };
	struct sigaction old;

	for (size_t i = 0; i < COUNT(numbers); i++)
		if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
	signal(SIGXFSZ, SIG_IGN);
}

int cmd_print_json(const json_t *value)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(OUTPUT_SIZE_MAX);

	if (json_text_pretty(value, &text) < 0 || wbuf_put_u8(&text, '\n') < 0)
		return cmd_failed(NULL, text.failed);
	/* What went wrong is asked of the stream at the end, by cmd_main(). */
	return fwrite(text.data, 1, text.size, stdout) == text.size ? EXIT_DONE : EXIT_FAILED;
}

static void print_family(FILE *out, const struct cmd *family, const struct cmd *commands,
			 size_t count, const char *note)
{
	fprintf(out, "Usage: pxarfs %s COMMAND [OPTION]... [ARGUMENT]...\n\n%s.\n", family->name,
		family->summary);
	if (note)
		fprintf(out, "%s\n", note);
	fprintf(out, "\nCommands:\n");
	for (size_t i = 0; i < count; i++)
		fprintf(out, "  %-28s %s\n", commands[i].name, commands[i].summary);
	fprintf(out, "\n'pxarfs %s COMMAND --help' describes a command's options.\n", family->name);
}

int cmd_run_family(const struct cmd *family, const struct cmd *commands, size_t count,
		   const char *note, int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL, *hint;
	size_t skip = strlen(family->name) + 1;

	if (name && (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)) {
		print_family(stdout, family, commands, count, note);
		return EXIT_DONE;
	}
	for (size_t i = 0; name && i < count; i++)
		if (strcmp(commands[i].name + skip, name) == 0)
			return commands[i].run(&commands[i], argc - 1, argv + 1);
	if (!name) {
		print_family(stderr, family, commands, count, note);
		return EXIT_USAGE;
	}
	fprintf(stderr, "pxarfs %s: unknown command '%s': ", family->name, name);
	hint = known_elsewhere(argc, argv);
	if (hint)
		fputs(hint, stderr);
	for (size_t i = 0; !hint && i < count; i++)
		fprintf(stderr, "%s %s", i ? "," : "expected", commands[i].name + skip);
	fprintf(stderr, "\nTry 'pxarfs %s --help'.\n", family->name);
	return EXIT_USAGE;
}

int cmd_check_ns(const char *text, struct err *err)
{
	char ns[SNAPSHOT_NS_SIZE_MAX + 1];

	return snapshot_ns_parse(text, ns, err);
}

int cmd_check_group(const char *text, struct err *err)
{
	struct snapshot_group group;

	return snapshot_group_parse(text, NULL, &group, err);
}

int cmd_check_snapshot(const char *text, struct err *err)
{
	struct snapshot_name name;
	bool latest;

	return snapshot_parse(text, NULL, &name, &latest, err);
}

int cmd_check_notes(const char *text, struct err *err)
{
	return json_text_is_utf8(text, strlen(text)) ? 0 :
						       err_set(err, EINVAL, "the notes are not UTF-8");
}

int cmd_find_repository(const struct cmd *self, const char *spelling, char out[REPO_NAME_SIZE])
{
	struct err err = ERR_INIT;
	int rc = repo_name_find(spelling, out, &err);

	if (rc == -EINVAL)
		return opts_usage(self, "%s", err.text);
	return rc < 0 ? cmd_failed(&err, rc) : -1;
}

int cmd_open_repository(const struct cmd *self, const char *spelling, struct repo **out)
{
	char found[REPO_NAME_SIZE];
	struct err err = ERR_INIT;
	int status = cmd_find_repository(self, spelling, found);

	if (status >= 0)
		return status;
	int rc = repo_open(found, out, &err);
	return rc < 0 ? cmd_failed(&err, rc) : -1;
}

void cmd_print_name(const char *name)
{
	if (isatty(STDOUT_FILENO))
		text_print_escaped(name);
	else
		fputs(name, stdout);
}

/* The power of 1000 or 1024 that a unit stands for. */
static bool parse_unit(const char *text, double *factor)
{
	static const char letters[] = "kmgtp";
	const char *at = *text ? strchr(letters, *text | 0x20) : NULL;
	double base = 1000;

	*factor = 1;
	if (at) {
		text++;
		if ((*text | 0x20) == 'i') {
			base = 1024;
			text++;
		}
		for (const char *p = letters; p <= at; p++)
			*factor *= base;
	}
	if ((*text | 0x20) == 'b')
		text++;
	return *text == '\0';
}

bool cmd_parse_size(const char *text, uint64_t *bytes)
{
	size_t digits = strspn(text, "0123456789"), size = digits;
	double value, factor;
	char *end;

	if (text[size] == '.')
		size += 1 + strspn(text + size + 1, "0123456789");
	if (digits == 0 || text[size - 1] == '.' || size > 30)
		return false;
	value = strtod(text, &end);
	if (end != text + size || !parse_unit(end + strspn(end, " \t"), &factor))
		return false;
	value *= factor;
	if (value >= 9e18)
		return false;
	*bytes = (uint64_t)value;
	return true;
}

void cmd_format_size(uint64_t bytes, char *out, size_t size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	unsigned unit = 0;
	char number[32];
	size_t n;

	for (; value >= 1024 && unit + 1 < COUNT(units); unit++)
		value /= 1024;
	n = (size_t)snprintf(number, sizeof(number), "%.3f", value);
	while (number[n - 1] == '0')
		n--;
	if (number[n - 1] == '.')
		n--;
	snprintf(out, size, "%.*s %s", (int)n, number, units[unit]);
}
