/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_archive - archives as plain files: create.
 */
#include "client/cmd/cmd.h"
#include "client/cmd/log.h"
#include "client/fs/walk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

enum { OUTPUT_BUFFER_SIZE = 1 << 20, OUTPUT_MODE = 0640 };

struct create {
	const char *payload_output;
	struct opt_list exclude, include_dev;
	bool all_file_systems, skip_lost_and_found, skip_e2big_xattr;
	uint64_t entries_max;
	struct match_list patterns;
};

static void create_release(struct create *c)
{
	opt_list_release(&c->exclude);
	opt_list_release(&c->include_dev);
	match_list_release(&c->patterns);
}
DEFINE_AUTO_STRUCT(create)

/* --- output --- */

struct output {
	const char *path; /* NULL: standard output */
	FILE *file;
	bool made; /* by us, so ours to remove */
};

static int output_open(struct output *o, const char *path, struct err *err)
{
	int fd;

	if (strcmp(path, "-") == 0) {
		if (isatty(STDOUT_FILENO))
			return err_set(err, EINVAL, "an archive is not for a terminal");
		fd = dup(STDOUT_FILENO);
	} else {
		o->path = path;
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, OUTPUT_MODE);
		o->made = fd >= 0;
	}
	o->file = fd >= 0 ? fdopen(fd, "wb") : NULL;
	if (!o->file)
		return err_sys(err, errno, "%s", path);
	setvbuf(o->file, NULL, _IOFBF, OUTPUT_BUFFER_SIZE);
	return 0;
}

/* An encoder_sink. */
static int output_write(void *arg, const void *data, size_t size, struct err *err)
{
	struct output *o = arg;

	if (fwrite(data, 1, size, o->file) != size)
		return err_sys(err, errno, "%s", o->path ? o->path : "standard output");
	return 0;
}

static int output_finish(struct output *o, struct err *err)
{
	FILE *file = o->file;
	int failed = fflush(file) < 0 || (o->path && fsync(fileno(file)) < 0) ? errno : 0;

	o->file = NULL;
	if (fclose(file) < 0 && !failed)
		failed = errno;
	return failed ? err_sys(err, failed, "%s", o->path ? o->path : "standard output") : 0;
}

/* Close what is open and leave nothing half done. */
static void output_discard(struct output *o)
{
	if (o->file)
		fclose(o->file);
	if (o->made)
		unlink(o->path);
	*o = (struct output){ 0 };
}

/* --- create --- */

static void on_warning(void *arg, bool lost, const char *message)
{
	(void)arg;
	if (lost)
		log_warn("%s", message);
	else
		log_info("%s", message);
}

static int write_archive(const struct create *c, const char *source, struct output *meta,
			 struct output *payload, struct walk_stats *stats, struct err *err)
{
	const struct walk_params params = {
		.source = source,
		.no_follow_source = true,
		.patterns = &c->patterns,
		.include_devs = c->include_dev.items,
		.include_dev_count = c->include_dev.count,
		.all_file_systems = c->all_file_systems,
		.entries_max = c->entries_max,
		.skip_e2big_xattr = c->skip_e2big_xattr,
		.split = c->payload_output != NULL,
		.encoder = {
			.meta = { output_write, meta },
			.payload = { c->payload_output ? output_write : NULL, payload },
		},
		.warn = on_warning,
		.stop = &cmd_stop_requested,
	};
	int rc = walk_encode(&params, stats, err);

	if (rc == 0)
		rc = output_finish(meta, err);
	if (rc == 0 && c->payload_output)
		rc = output_finish(payload, err);
	return rc;
}

static int create(const struct create *c, const char *archive, const char *source)
{
	struct output meta = { 0 }, payload = { 0 };
	struct walk_stats stats = { 0 };
	struct err err = ERR_INIT;
	int rc = output_open(&meta, archive, &err);

	if (rc == 0 && c->payload_output)
		rc = output_open(&payload, c->payload_output, &err);
	if (rc == 0)
		rc = write_archive(c, source, &meta, &payload, &stats, &err);
	if (rc < 0) {
		output_discard(&meta);
		output_discard(&payload);
		return cmd_failed(&err, rc);
	}
	if (!stats.skipped)
		return EXIT_DONE;
	log_warn("%" PRIuFAST64 " entr%s", stats.skipped,
		 stats.skipped == 1 ? "y could not be archived as it is" :
				      "ies could not be archived as they are");
	return EXIT_INCOMPLETE;
}

static int run_create(const struct cmd *self, int argc, char **argv)
{
	AUTO(create) struct create c = { .entries_max = WALK_ENTRIES_MAX_DEFAULT };
	const struct opt table[] = {
		{ "payload-output", 0, OPT_STRING, &c.payload_output, "FILE",
		  "write a split archive: the content of its files goes here" },
		{ "exclude", 0, OPT_LIST, &c.exclude, "PATTERN",
		  "leave out what matches; \"!PATTERN\" takes it in again" },
		{ "include-dev", 0, OPT_LIST, &c.include_dev, "PATH",
		  "enter mount points of the file system that PATH is on, too" },
		{ "all-file-systems", 0, OPT_FLAG, &c.all_file_systems, NULL,
		  "enter all mount points (but those of /proc and the like)" },
		{ "skip-lost-and-found", 0, OPT_FLAG, &c.skip_lost_and_found, NULL,
		  "leave out lost+found, as --exclude lost+found does" },
		{ "skip-e2big-xattr", 0, OPT_FLAG, &c.skip_e2big_xattr, NULL,
		  "leave out extended attributes that are too large, instead of failing" },
		{ "entries-max", 0, OPT_UINT, &c.entries_max, "N",
		  "entries at most in all folders on one path (default: 1048576)" },
		{ 0 },
	};
	char **args;
	size_t count;
	int status = opts_parse(self, table, argc, argv, 2, 2, &args, &count);

	if (status >= 0)
		return status;
	if (c.all_file_systems && c.include_dev.count)
		return opts_usage(self, "--include-dev says nothing beside --all-file-systems");
	if (c.payload_output && strcmp(c.payload_output, "-") == 0 && strcmp(args[0], "-") == 0)
		return opts_usage(self, "both streams cannot go to standard output");
	status = cmd_take_patterns(self, &c.exclude, c.skip_lost_and_found, &c.patterns);
	if (status >= 0)
		return status;
	cmd_stop_on_signals(0);
	signal(SIGPIPE, SIG_IGN); /* a reader that leaves is an error to clean up after */
	return create(&c, args[0], args[1]);
}

const struct cmd cmd_create = {
	.name = "create",
	.synopsis = "FILE DIR",
	.summary = "Make an archive file of a folder",
	.description =
		"Writes the tree DIR as one archive to FILE, which must not exist (\"-\" is the\n"
		"standard output). With --payload-output it is split: what describes the files\n"
		"goes to FILE (NAME.mpxar), their content to the other one (NAME.ppxar).\n\n"
		"The exit status is 3 when entries could not be read and were left out.",
	.run = run_create,
};
