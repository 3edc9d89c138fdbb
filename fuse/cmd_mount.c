/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/cmd_mount.h"

#include "client/cmd/cmd.h"
#include "client/cmd/keys.h"
#include "client/cmd/log.h"
#include "fuse/mount_source.h"
#include "fuse/notify.h"
#include "fuse/serve.h"
#include "fuse/session.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
	READY_FD_NONE = -1,
	/* For a service manager that does not read: signals are not looked at meanwhile. */
	TELL_READY_MS = 10 * 1000,
	TELL_STOPPING_MS = 300,
};

/* --- the process that stays --- */

/* Standard input, output and error must not keep a terminal, or a pipe's reader waiting.  Not
 * before the mount: who answers for an automount point lets his own process group, and nobody
 * else, come near it while it is being mounted on. */
static int let_go(struct err *err)
{
	AUTO(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	if (null < 0 || chdir("/") < 0)
		return err_sys(err, errno, "/dev/null");
	fflush(NULL);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (dup2(null, fd) < 0)
			return err_sys(err, errno, "dup2");
	return 0;
}

/* To who waits for a mount in the background: how it ended, 0 or a negative errno. */
static void report(int *ready_fd, int rc)
{
	if (*ready_fd == READY_FD_NONE)
		return;
	if (write(*ready_fd, &rc, sizeof(rc)) < 0)
		log_warn("nobody waits for the mount");
	close(*ready_fd);
	*ready_fd = READY_FD_NONE;
}

static void tell_service_manager(const char *text, unsigned wait_ms)
{
	int rc = notify_send(text, wait_ms);

	if (rc < 0)
		log_warn("$NOTIFY_SOCKET: %s", strerror(-rc));
}

/* Ready: from here on nobody listens; say so to who waits. */
static void on_ready(void *arg)
{
	int *ready_fd = arg;
	struct err err = ERR_INIT;
	char text[64];
	int rc = 0;

	if (*ready_fd != READY_FD_NONE) {
		log_to_syslog();
		rc = let_go(&err);
	}
	if (rc < 0)
		log_warn("%s", err_text(&err, rc));
	snprintf(text, sizeof(text), "READY=1\nMAINPID=%d\n", (int)getpid());
	tell_service_manager(text, TELL_READY_MS);
	report(ready_fd, 0);
}

static void on_stopping(void *arg)
{
	(void)arg;
	tell_service_manager("STOPPING=1\n", TELL_STOPPING_MS);
}

static void on_failed(void *arg, int rc, const struct err *err)
{
	log_error("%s", err_text(err, rc));
	report(arg, rc);
}

static int serve_here(struct serve_params *params, int ready_fd)
{
	params->ready = on_ready;
	params->stopping = on_stopping;
	params->failed = on_failed;
	params->arg = &ready_fd;
	return serve(params);
}

/* The child of the child serves; its parent goes away, so that it is nobody's. */
static int fork_server(struct serve_params *params, int ready_fd)
{
	pid_t pid = fork();

	if (pid < 0) {
		log_error("fork: %s", strerror(errno));
		report(&ready_fd, -errno);
	}
	if (pid != 0)
		_exit(pid < 0 ? EXIT_FAILED : EXIT_DONE);
	return serve_here(params, ready_fd);
}

/* What the process that serves reports; it ended without a word: -EIO. */
static int await_report(int fd)
{
	ssize_t n;
	int rc;

	do
		n = read(fd, &rc, sizeof(rc));
	while (n < 0 && errno == EINTR);
	return n == sizeof(rc) ? rc : -EIO;
}

/* Serve in the background; returns, in the process that was called, when it is ready, and in
 * the one that serves at its end. */
static int serve_behind(struct serve_params *params)
{
	int fds[2], rc = 0;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		rc = -errno;
		log_error("pipe: %s", strerror(errno));
		return rc;
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		return fork_server(params, fds[1]);
	}
	if (pid < 0) {
		rc = -errno;
		log_error("fork: %s", strerror(errno));
	}
	close(fds[1]);
	if (pid > 0) {
		waitpid(pid, NULL, 0);
		rc = await_report(fds[0]);
	}
	close(fds[0]);
	return rc;
}

/* --- arguments --- */

/* What a mount is made of, with the memory that its parameters point to. */
struct arguments {
	struct serve_params params;
	struct mount_source source;
	char repository[REPO_NAME_SIZE];
	char mount_point[PATH_MAX];
	char file[2 * PATH_MAX];
	bool foreground;

	/* Of mount(8)'s helper: */
	bool fake, sloppy, verbose;
};

/* A mount whose server has died answers nothing ever again: a new one takes its place, and is not
 * put on top of it. */
static int clear_dead(const char *path, struct err *err)
{
	if (session_clear_dead(path) < 0)
		return err_set(err, ENOTCONN, "%s: a mount that has died is still there; "
			       "unmount it first: fusermount3 -u %s", path, path);
	return 0;
}

static int find_mount_point(struct arguments *a, const char *text, struct err *err)
{
	struct stat st;
	int rc;

	if (!realpath(text, a->mount_point))
		return err_sys(err, errno, "%s", text);
	rc = clear_dead(a->mount_point, err);
	if (rc < 0)
		return rc;
	if (stat(a->mount_point, &st) < 0)
		return err_sys(err, errno, "%s", text);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "%s: not a directory", text);
	a->params.mount_point = a->mount_point;
	return 0;
}

/* An absolute path to the file under the name it was given: its other half has that name. */
static int find_file(struct arguments *a, const char *text, struct err *err)
{
	char folder[PATH_MAX] = "";

	if (text[0] != '/' && !getcwd(folder, sizeof(folder)))
		return err_sys(err, errno, "current directory");
	if ((size_t)snprintf(a->file, sizeof(a->file), "%s%s%s", folder, folder[0] ? "/" : "",
			     text) >= sizeof(a->file))
		return err_set(err, ENAMETOOLONG, "%s: too long", text);
	a->params.file = a->file;
	return 0;
}

static bool is_regular_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static const char *unless_empty(const char *text)
{
	return text[0] ? text : NULL;
}

/* One word that is an archive's file, or a repository with or without something of it. */
static int find_source(struct arguments *a, const char *text, struct err *err)
{
	struct serve_params *p = &a->params;
	int rc;

	if (p->repository || p->ns)
		return err_set(err, EINVAL, "%s: a source says itself which repository and "
			       "namespace are meant", text);
	if (mount_source_is_file(text) || is_regular_file(text))
		return find_file(a, text, err);
	rc = mount_source_parse(text, &a->source, err);
	if (rc < 0)
		return rc;
	p->repository = a->source.repository;
	p->ns = a->source.ns;
	p->snapshot = unless_empty(a->source.snapshot);
	p->archive = unless_empty(a->source.archive);
	return 0;
}

/* "host/web1": a snapshot of the repository that the options or the environment name; such a word
 * is no repository's. */
static bool is_snapshot(const char *text)
{
	struct snapshot_name name;
	bool latest;

	return snapshot_parse(text, NULL, &name, &latest, NULL) == 0 && !is_regular_file(text);
}

/* What stands before the mount point. */
static int find_what(struct arguments *a, char *const *words, size_t count, struct err *err)
{
	if (count == 1 && !is_snapshot(words[0]))
		return find_source(a, words[0], err);
	a->params.snapshot = count > 0 ? words[0] : NULL;
	a->params.archive = count > 1 ? words[1] : NULL;
	return 0;
}

/* 0, or a negative errno that has been told about. */
static int run_mount(struct arguments *a)
{
	if (a->fake)
		return 0;
	return a->foreground ? serve_here(&a->params, READY_FD_NONE) : serve_behind(&a->params);
}

static int parse_options(struct arguments *a, const struct opt_list *list, struct err *err)
{
	mount_opts_init(&a->params.opts, geteuid() == 0);
	a->params.opts.sloppy = a->sloppy;
	for (size_t i = 0; i < list->count; i++) {
		int rc = mount_opts_parse(&a->params.opts, list->items[i], err);

		if (rc < 0)
			return rc;
	}
	return mount_opts_check(&a->params.opts, err);
}

/* A file has neither a cache of chunks nor a key, and a repository is spelled like one.  -EINVAL. */
static int check_source(struct arguments *a, struct keys_options *keys, struct err *err)
{
	struct serve_params *p = &a->params;
	int rc;

	if (p->opts.keyfile[0] && keys->keyfile)
		return err_set(err, EINVAL, "--keyfile and -o keyfile= exclude each other");
	if (p->opts.keyfile[0])
		keys->keyfile = p->opts.keyfile;
	if (p->file && p->opts.cache_dir[0])
		return err_set(err, EINVAL, "-o cache_dir= keeps chunks of a repository: %s is a file",
			       p->file);
	if (p->file)
		return keys->keyfile || keys->keyfd ?
			       err_set(err, EINVAL, "archive files are never encrypted: no key is "
				       "needed") : 0;
	rc = repo_name_find(p->repository, a->repository, err);
	p->repository = a->repository;
	return rc;
}

static void opt_list_cleanup(struct opt_list *l)
{
	opt_list_release(l);
}

static int run(const struct cmd *self, int argc, char **argv)
{
	AUTO(opt_list) struct opt_list options = { 0 };
	struct arguments a = { 0 };
	struct keys_options keys = { 0 };
	struct err err = ERR_INIT;
	const struct opt table[] = {
		CMD_OPT_REPOSITORY(a.params.repository),
		CMD_OPT_NS(a.params.ns),
		{ "options", 'o', OPT_LIST, &options, "OPTION[,...]",
		  "mount options, see mount.pxarfs(8)" },
		KEYS_OPT_READ(keys),
		{ "foreground", 'f', OPT_FLAG, &a.foreground, NULL,
		  "stay in the foreground, log to standard error" },
		{ 0 },
	};
	char **args;
	size_t count;
	int rc, status = opts_parse(self, table, argc, argv, 1, 3, &args, &count);

	if (status >= 0)
		return status;
	if (parse_options(&a, &options, &err) < 0 || keys_check(&keys, &err) < 0)
		return opts_usage(self, "%s", err.text);
	if (count == 3)
		status = opts_check(self, cmd_check_snapshot, args[0]);
	if (count == 3 && status < 0)
		status = opts_check(self, archive_name_check, args[1]);
	if (status >= 0)
		return status;
	rc = find_what(&a, args, count - 1, &err);
	if (rc == 0)
		rc = check_source(&a, &keys, &err);
	if (rc == -EINVAL)
		return opts_usage(self, "%s", err.text);
	if (rc == 0)
		rc = find_mount_point(&a, args[count - 1], &err);
	if (rc == 0) /* while there still is a terminal to ask for its passphrase on */
		rc = keys_given(&keys, &a.params.key, &err);
	if (rc < 0) {
		log_error("%s", err_text(&err, rc));
		return EXIT_FAILED;
	}
	return run_mount(&a) < 0 ? EXIT_FAILED : EXIT_DONE;
}

const struct cmd cmd_mount = {
	.name = "mount",
	.synopsis = "MOUNTPOINT | SNAPSHOT [ARCHIVE] MOUNTPOINT | FILE MOUNTPOINT | "
		    "SOURCE MOUNTPOINT",
	.summary = "Show all snapshots, an archive of one, or an archive file, as a file system",
	.description =
		"With MOUNTPOINT alone, all snapshots: [ns/NAME/]TYPE/ID/TIME/ARCHIVE/PATH.\n"
		"SNAPSHOT is TYPE/ID/TIME, TYPE/ID/latest or TYPE/ID; ARCHIVE is NAME.pxar: without\n"
		"it all archives of the snapshot, as folders.\n"
		"FILE is a .pxar, or a .mpxar with its .ppxar beside it.\n"
		"SOURCE is REPOSITORY[::[ns/NAMESPACE/]SNAPSHOT[/ARCHIVE]], as in fstab.\n"
		"Nothing is read before it is asked for.  Unmount with umount(8).",
	.run = run,
};

/* --- mount(8) --- */

/* What mount(8) gives on as its own exit status. */
enum helper_status {
	HELPER_DONE = 0,
	HELPER_USAGE = 1, /* incorrect invocation */
	HELPER_SYSTEM = 2, /* out of memory, processes, descriptors */
	HELPER_FAILED = 32,
};

static int helper_status(int rc)
{
	switch (rc) {
	case 0:
		return HELPER_DONE;
	case -EINVAL:
		return HELPER_USAGE;
	case -ENOMEM:
	case -EAGAIN:
	case -EMFILE:
	case -ENFILE:
		return HELPER_SYSTEM;
	default:
		return HELPER_FAILED;
	}
}

bool cmd_mount_is_helper(const char *program)
{
	const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;

	return strcmp(name, "mount.pxarfs") == 0 || strcmp(name, "mount.fuse.pxarfs") == 0;
}

static int helper_usage(const char *message, const char *word)
{
	fprintf(stderr, "mount.pxarfs: %s%s\n"
			"usage: mount.pxarfs SOURCE MOUNTPOINT [-sfnv] [-o OPTION[,...]]\n",
		message, word);
	return HELPER_USAGE;
}

/* mount(8) puts the options behind the arguments or before them; -n, -N and -t do not concern
 * us. */
static int parse_helper(struct arguments *a, int argc, char **argv, struct opt_list *options)
{
	int letter;

	opterr = 0;
	while ((letter = getopt(argc, argv, "sfnvN:t:o:")) != -1) {
		if (letter == '?')
			return helper_usage("bad option ", argv[optind - 1]);
		a->fake |= letter == 'f';
		a->sloppy |= letter == 's';
		a->verbose |= letter == 'v';
		if (letter == 'o')
			options->items[options->count++] = optarg;
	}
	return argc - optind == 2 ? 0 : helper_usage("expected a source and a mount point", "");
}

int cmd_mount_helper(int argc, char **argv)
{
	AUTO(opt_list) struct opt_list options = { 0 };
	struct arguments a = { 0 };
	struct keys_options keys = { 0 };
	struct err err = ERR_INIT;
	int rc;

	options.items = calloc((size_t)argc + 1, sizeof(*options.items));
	if (!options.items)
		return HELPER_SYSTEM;
	rc = parse_helper(&a, argc, argv, &options);
	if (rc != 0)
		return rc;
	rc = parse_options(&a, &options, &err);
	if (rc == 0)
		rc = find_source(&a, argv[optind], &err);
	if (rc == 0)
		rc = check_source(&a, &keys, &err);
	if (rc == 0)
		rc = find_mount_point(&a, argv[optind + 1], &err);
	if (rc == 0)
		rc = keys_given(&keys, &a.params.key, &err);
	if (rc < 0) {
		fprintf(stderr, "mount.pxarfs: %s\n", err_text(&err, rc));
		return helper_status(rc);
	}
	rc = run_mount(&a);
	/* In the process that served nobody reads it any more. */
	if (rc == 0 && a.verbose)
		printf("mount.pxarfs: %s mounted on %s.\n", argv[optind], a.mount_point);
	return helper_status(rc);
}
