/* SPDX-License-Identifier: Apache-2.0 */
#include "client/base/secret.h"

#include "archive/crypt.h"
#include "archive/json_text.h"
#include "archive/keyfile.h"
#include "client/base/shell_words.h"

#include <fcntl.h>
#include <malloc.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

enum { VARIABLE_SIZE_MAX = 128 };

void secret_release(struct secret *s)
{
	crypt_wipe(s, sizeof(*s));
}

static void wipe_and_free(void *p)
{
	if (p)
		crypt_wipe(p, malloc_usable_size(p));
	free(p);
}

void secret_guard_process(void)
{
	prctl(PR_SET_DUMPABLE, 0);
	/* Key files are JSON, and jansson keeps copies of a text while it parses it. */
	json_set_alloc_funcs(malloc, wipe_and_free);
}

static void keep_first_line(struct secret *s)
{
	const char *end = memchr(s->bytes, '\n', s->size);

	if (end)
		s->size = (size_t)(end - s->bytes);
	if (end && s->size && s->bytes[s->size - 1] == '\r')
		s->size--;
}

static bool has_line(const struct secret *s)
{
	return memchr(s->bytes, '\n', s->size) != NULL;
}

/* The first line of what comes, which may be a pipe's that nobody ends, or all of it. */
static int read_secret(int fd, const char *from, bool whole, struct secret *out, struct err *err)
{
	for (out->size = 0; whole || !has_line(out);) {
		ssize_t n = read(fd, out->bytes + out->size, sizeof(out->bytes) - out->size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "%s", from);
		if (n == 0)
			return 0;
		out->size += (size_t)n;
		if (out->size == sizeof(out->bytes) && (whole || !has_line(out)))
			return err_set(err, E2BIG, "%s: a secret of more than %d bytes", from,
				       SECRET_SIZE_MAX - 1);
	}
	return 0;
}

static int read_path(const char *path, const char *from, bool whole, struct secret *out,
		     struct err *err)
{
	AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return err_sys(err, errno, "%s: %s", from, path);
	return read_secret(fd, from, whole, out, err);
}

static int read_file(const char *path, const char *from, struct secret *out, struct err *err)
{
	return read_path(path, from, false, out, err);
}

int secret_parse_fd(const char *number, const char *from, struct err *err)
{
	char *end;
	long fd = strtol(number, &end, 10);

	if (end == number || *end || fd < 0 || fd > 1 << 20)
		return err_set(err, EINVAL, "%s: '%s' is no descriptor's number", from, number);
	return (int)fd;
}

void secret_close_fd(int fd)
{
	if (fd > STDERR_FILENO)
		close(fd);
}

static int read_fd(const char *number, const char *from, struct secret *out, struct err *err)
{
	int fd = secret_parse_fd(number, from, err);
	int rc = fd < 0 ? fd : read_secret(fd, from, false, out, err);

	secret_close_fd(fd);
	return rc;
}

/* Not through a shell, as the official client does not either, nor popen(), whose pipe would
 * reach other children. */
static int start_command(const char *command, const char *from, pid_t *pid, int *reading,
			 struct err *err)
{
	AUTO(shell_words) struct shell_words words = { .count = 0 };
	posix_spawn_file_actions_t actions;
	int ends[2], rc = shell_words_split(&words, command, err);

	if (rc < 0)
		return err_wrap(err, rc, "%s", from);
	if (words.count == 0)
		return err_set(err, EINVAL, "%s: no command", from);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, errno, "%s", from);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	rc = posix_spawnp(pid, words.items[0], &actions, NULL, words.items, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	*reading = ends[0];
	return rc ? err_sys(err, rc, "%s: %s", from, words.items[0]) : 0;
}

/* To its end, so that it does not fail for want of a reader. */
static void drain(int fd)
{
	char bytes[512];
	ssize_t n;

	do
		n = read(fd, bytes, sizeof(bytes));
	while (n > 0 || (n < 0 && errno == EINTR));
	crypt_wipe(bytes, sizeof(bytes));
}

static int read_command(const char *command, const char *from, struct secret *out,
			struct err *err)
{
	AUTO(fd) int reading = -1;
	int status = 0;
	pid_t pid;
	int rc = start_command(command, from, &pid, &reading, err);

	if (rc < 0)
		return rc;
	rc = read_secret(reading, from, false, out, err);
	drain(reading);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
		return err_set(err, EIO, "%s: the command failed", from);
	return rc;
}

static const char *variable(const char *name, const char *suffix, char out[VARIABLE_SIZE_MAX])
{
	snprintf(out, VARIABLE_SIZE_MAX, "%s%s", name, suffix);
	return getenv(out);
}

static int read_value(const char *value, const char *from, struct secret *out, struct err *err)
{
	out->size = strlen(value);
	if (out->size >= sizeof(out->bytes))
		return err_set(err, E2BIG, "%s: too long", from);
	memcpy(out->bytes, value, out->size);
	return 0;
}

static int read_credential(const char *credential, struct secret *out, struct err *err)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");
	AUTO(free) char *path = NULL;

	struct stat st;

	if (!folder || !credential)
		return 1;
	if (asprintf(&path, "%s/%s", folder, credential) < 0) {
		path = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	if (stat(path, &st) < 0 && errno == ENOENT)
		return 1;
	return read_path(path, credential, true, out, err);
}

int secret_from_environment(const char *name, const char *credential, struct secret *out,
			    struct err *err)
{
	static const struct {
		const char *suffix;
		int (*read)(const char *value, const char *from, struct secret *out,
			    struct err *err);
	} sources[] = { { "", read_value },
			{ "_FD", read_fd },
			{ "_FILE", read_file },
			{ "_CMD", read_command } };

	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		char from[VARIABLE_SIZE_MAX];
		const char *value = variable(name, sources[i].suffix, from);
		int rc;

		if (!value)
			continue;
		rc = sources[i].read(value, from, out, err);
		if (rc == 0)
			keep_first_line(out);
		return rc;
	}
	return read_credential(credential, out, err);
}

enum { CONTROL_C = 3, CONTROL_D = 4 };

/* Reads a line with echo and signals off, so that ^C cannot leave the terminal mute. */
static int read_line(struct secret *out, struct err *err)
{
	for (out->size = 0;;) {
		char c;
		ssize_t n = read(STDIN_FILENO, &c, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "terminal");
		if (n == 0 || c == CONTROL_C || (c == CONTROL_D && out->size == 0))
			return err_set(err, ECANCELED, "nothing was given");
		if (c == '\n' || c == '\r')
			return 0;
		if (out->size == sizeof(out->bytes) - 1)
			return err_set(err, E2BIG, "passphrase too long");
		out->bytes[out->size++] = c;
	}
}

int secret_ask(const char *name, const char *prompt, struct secret *out, struct err *err)
{
	struct termios before, quiet;
	int rc;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0)
		return err_set(err, ENOTTY, "%s: standard input is no terminal, and $%s is not set", prompt,
			       name);
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
	quiet.c_cc[VEOL] = CONTROL_C; /* ends the line, so that it is noticed at once */
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) < 0)
		return err_sys(err, errno, "terminal");
	fprintf(stderr, "%s: ", prompt);
	rc = read_line(out, err);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	fputc('\n', stderr);
	return rc;
}

#define ENCRYPTION_PASSWORD "PBS_ENCRYPTION_PASSWORD"

int secret_encryption_password(struct secret *out, struct err *err)
{
	int rc = secret_from_environment(ENCRYPTION_PASSWORD,
					 "proxmox-backup-client.encryption-password", out, err);

	return rc == 1 ? secret_ask(ENCRYPTION_PASSWORD, "Encryption Key Password", out, err) : rc;
}

static int ask_twice(const char *name, const char *what, struct secret *out, struct err *err)
{
	AUTO(secret) struct secret again = { .size = 0 };
	int rc = secret_ask(name, what, out, err);

	if (rc == 0)
		rc = secret_ask(name, "Verify Password", &again, err);
	if (rc < 0)
		return rc;
	if (out->size != again.size || memcmp(out->bytes, again.bytes, out->size) != 0)
		return err_set(err, EINVAL, "Passwords do not match!");
	return 0;
}

int secret_new_password(const char *name, const char *what, struct secret *out,
			struct err *err)
{
	int rc = secret_from_environment(name, NULL, out, err);

	if (rc == 1)
		rc = ask_twice(name, what, out, err);
	if (rc < 0)
		return rc;
	if (out->size < KEYFILE_PASSPHRASE_SIZE_MIN)
		return err_set(err, EINVAL, "the new passphrase is too short: it needs %d bytes",
			       KEYFILE_PASSPHRASE_SIZE_MIN);
	if (!json_text_is_utf8(out->bytes, out->size))
		return err_set(err, EINVAL,
			       "Password is not UTF-8: the official client could not use it");
	return 0;
}
