/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd - the table of sub-commands that need no kernel, and what they share.
 *
 * fuse/main.c adds its own ("mount") and runs one.
 */
#ifndef PXARFS_CMD_H
#define PXARFS_CMD_H

#include "archive/match.h"
#include "client/cmd/opts.h"
#include "client/repo/repo_name.h"

#include <jansson.h>
#include <stdatomic.h>

extern const struct cmd cmd_init, cmd_snapshots, cmd_files; /* cmd_snapshot.c */
extern const struct cmd cmd_backup; /* cmd_backup.c */
extern const struct cmd cmd_ls; /* cmd_browse.c */
extern const struct cmd cmd_create; /* cmd_archive.c */
extern const struct cmd cmd_list; /* cmd_archive_list.c */
extern const struct cmd cmd_key; /* cmd_key.c */
extern const struct cmd cmd_forget, cmd_notes, cmd_protect, cmd_upload_log; /* cmd_care.c */
extern const struct cmd cmd_namespaces, cmd_status; /* cmd_store.c */

/* Run the command argv[1] names out of `commands` (NULL ends it); prints help and errors. */
int cmd_main(const struct cmd *const *commands, int argc, char **argv);

/* Run the command of a family that argv[1] names: `commands` are called "FAMILY NAME".  `note`
 * (may be NULL) is a line for the family's --help. */
int cmd_run_family(const struct cmd *family, const struct cmd *commands, size_t count,
		   const char *note, int argc, char **argv);

/* Report why a command failed; returns EXIT_FAILED. */
int cmd_failed(const struct err *err, int rc);

/* A repo's `warning`: to the log. */
void cmd_warn(void *arg, const char *text);

/* The patterns of --exclude, and of --skip-lost-and-found.  -1, or an exit status. */
int cmd_take_patterns(const struct cmd *self, const struct opt_list *exclude,
		      bool skip_lost_and_found, struct match_list *out);

/* From now on SIGINT, SIGTERM and SIGHUP ask the command to end cleanly, but for one that whoever
 * started us has set to be ignored (nohup); a second one of the same kind kills.  `flags`:
 * SA_RESTART, or 0.  A file over the limit of its size (ulimit -f) does not kill, but is an error. */
void cmd_stop_on_signals(int flags);
extern atomic_bool cmd_stop_requested;

/* A value as pretty JSON on standard output; -> exit status. */
int cmd_print_json(const json_t *value);

/* Options that many commands have; put these lines into a command's table. */
#define CMD_OPT_REPOSITORY(variable)                                          \
	{ "repository", 'r', OPT_STRING, &(variable), "REPOSITORY",            \
	  "where snapshots live (default: $PXARFS_REPOSITORY, $PBS_REPOSITORY)" }
#define CMD_OPT_NS(variable)                                                  \
	{ "ns", 0, OPT_NS, &(variable), "NAMESPACE", "namespace, a/b/c (default: the root)" }
#define CMD_OPT_OUTPUT_FORMAT(variable)                                       \
	{ "output-format", 0, OPT_FORMAT, &(variable), "FORMAT", "text (default) or json" }

/* Whether a word can be one, for opts_check(). */
int cmd_check_ns(const char *text, struct err *err);
int cmd_check_group(const char *text, struct err *err);
int cmd_check_snapshot(const char *text, struct err *err);
int cmd_check_notes(const char *text, struct err *err);

/* The repository that is meant, `spelling` or that of the environment (repo_name_find()), and the
 * same, opened.  -1, or an exit status: that of bad usage when it is none. */
int cmd_find_repository(const struct cmd *self, const char *spelling, char out[REPO_NAME_SIZE]);
int cmd_open_repository(const struct cmd *self, const char *spelling, struct repo **out);

/* Print `bytes` of a name so that a terminal survives it: backslash escapes for control
 * characters when stdout is a terminal, raw otherwise. */
void cmd_print_name(const char *name);

/* "4194304", "4MiB", "1.5 GB", "64 k": a number, blanks, a unit, "B", each but the number left out
 * if one likes; K to P are powers of 1000, Ki to Pi of 1024, in letters of any case.  False:
 * something else, or too much. */
bool cmd_parse_size(const char *text, uint64_t *bytes);

/* "1.235 MiB", archive/FORMAT.md "Human-readable sizes". */
void cmd_format_size(uint64_t bytes, char *out, size_t size);

#endif
