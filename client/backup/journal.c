/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/journal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	MAGIC_SIZE = 8,
	BOOT_ID_SIZE = 36,
	OWNER_SIZE = 20, /* as much of its digest as there is room for */
	HEADER_SIZE = 64,
	LOAD_COUNT = 1024, /* digests read at a time */
	NAME_SIZE = DIGEST_HEX_SIZE,
};

static_assert(MAGIC_SIZE + BOOT_ID_SIZE + OWNER_SIZE == HEADER_SIZE, "header");

static const char MAGIC[MAGIC_SIZE + 1] = "pxarfsJ2";
static const char MAGIC_DOUBT[MAGIC_SIZE + 1] = "pxarfsD2"; /* the same, and no digest counts */

struct journal {
	int folder_fd, fd;
	struct digest owner; /* whose it is: also its name */
	char name[NAME_SIZE];
	atomic_size_t count; /* digests in the file; JOURNAL_DIGESTS_MAX once there shall be no more */
	bool is_doubted;
};

/* --- the file --- */

static int find_owner(const char *repository, const struct snapshot_group *g,
		      const struct crypt_key *key, struct digest *out)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	const char *const parts[] = { repository, g->ns, g->type, g->id };

	if (!ctx)
		return -ENOMEM;
	digest_ctx_begin(ctx);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		digest_ctx_update(ctx, parts[i], strlen(parts[i]) + 1);
	if (key)
		digest_ctx_update(ctx, crypt_key_fingerprint(key)->bytes, DIGEST_SIZE);
	digest_ctx_end(ctx, out);
	return 0;
}

static int make_folders(const char *path)
{
	AUTO(free) char *copy = strdup(path);
	int fd;

	for (char *p = copy ? strchr(copy + 1, '/') : NULL; p; p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(copy, 0700);
		*p = '/';
	}
	mkdir(path, 0700);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A finished backup may remove the file while we wait for it: look whether it is still there. */
static int open_file(int folder_fd, const char *name)
{
	const int flags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
	AUTO(fd) int fd = openat(folder_fd, name, flags, 0600);
	struct stat st, named;

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0 ||
	    fstatat(folder_fd, name, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return st.st_ino == named.st_ino && S_ISREG(st.st_mode) ? steal_fd(&fd) : -EAGAIN;
}

/* --- others' files --- */

static bool is_forgotten(int folder_fd, const char *name, time_t now)
{
	struct stat st;

	return strlen(name) == NAME_SIZE - 1 &&
	       strspn(name, "0123456789abcdef") == NAME_SIZE - 1 &&
	       fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode) && now - st.st_mtime > JOURNAL_DAYS_MAX * 86400L;
}

static void remove_forgotten(int folder_fd)
{
	int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const time_t now = time(NULL);
	struct dirent *e;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(dir)) != NULL) {
		int file = is_forgotten(folder_fd, e->d_name, now) ?
				   open_file(folder_fd, e->d_name) :
				   -1;

		if (file < 0)
			continue;
		unlinkat(folder_fd, e->d_name, 0); /* nobody has it: we hold its lock */
		close(file);
	}
	closedir(dir);
}

/* --- header --- */

/* False: it cannot be known whether the machine was restarted, so nothing can be believed. */
static bool make_header(const struct journal *j, uint8_t header[HEADER_SIZE])
{
	AUTO(fd) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memcpy(header, MAGIC, MAGIC_SIZE);
	memcpy(header + MAGIC_SIZE + BOOT_ID_SIZE, j->owner.bytes, OWNER_SIZE);
	return fd >= 0 && read(fd, header + MAGIC_SIZE, BOOT_ID_SIZE) == BOOT_ID_SIZE;
}

static int begin_with(struct journal *j, const uint8_t header[HEADER_SIZE])
{
	if (ftruncate(j->fd, 0) < 0 || write(j->fd, header, HEADER_SIZE) != HEADER_SIZE)
		return -EIO;
	return 0;
}

/* Whichever boot it is of: the disk has no more by now. */
static bool is_doubt(const struct journal *j, const uint8_t header[HEADER_SIZE])
{
	return memcmp(header, MAGIC_DOUBT, MAGIC_SIZE) == 0 &&
	       memcmp(header + MAGIC_SIZE + BOOT_ID_SIZE, j->owner.bytes, OWNER_SIZE) == 0;
}

/* Go on behind what is there, or begin anew. */
static int begin(struct journal *j)
{
	uint8_t expected[HEADER_SIZE], found[HEADER_SIZE];
	struct stat st;
	size_t count;

	if (!make_header(j, expected) || fstat(j->fd, &st) < 0)
		return -EIO;
	if (st.st_size < HEADER_SIZE || pread(j->fd, found, HEADER_SIZE, 0) != HEADER_SIZE)
		return begin_with(j, expected);
	if (is_doubt(j, found)) {
		j->is_doubted = true;
		atomic_store(&j->count, JOURNAL_DIGESTS_MAX);
		return 0;
	}
	if (memcmp(found, expected, HEADER_SIZE) != 0)
		return begin_with(j, expected);
	count = (size_t)(st.st_size - HEADER_SIZE) / DIGEST_SIZE;
	if (count > JOURNAL_DIGESTS_MAX)
		count = JOURNAL_DIGESTS_MAX;
	atomic_store(&j->count, count);
	/* What was cut off in the middle of a digest goes. */
	return ftruncate(j->fd, (off_t)(HEADER_SIZE + count * DIGEST_SIZE));
}

struct journal *journal_open(const char *folder, const char *repository,
			     const struct snapshot_group *group, const struct crypt_key *key)
{
	AUTO(journal) struct journal *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->fd = -1;
	j->folder_fd = make_folders(folder);
	if (j->folder_fd < 0 || find_owner(repository, group, key, &j->owner) < 0)
		return NULL;
	digest_to_hex(&j->owner, j->name);
	remove_forgotten(j->folder_fd);
	j->fd = open_file(j->folder_fd, j->name);
	if (j->fd < 0 || begin(j) < 0)
		return NULL;
	return steal(&j);
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		close(j->fd);
	if (j->folder_fd >= 0)
		close(j->folder_fd);
	free(j);
}

/* --- content --- */

long journal_load(struct journal *j, struct known_set *set)
{
	AUTO(free) struct digest *digests = calloc(LOAD_COUNT, sizeof(*digests));
	const size_t count = j->is_doubted ? 0 : atomic_load(&j->count);
	size_t done = 0;

	if (!digests)
		return -ENOMEM;
	while (done < count) {
		ssize_t n = pread(j->fd, digests, LOAD_COUNT * sizeof(*digests),
				  (off_t)(HEADER_SIZE + done * DIGEST_SIZE));

		if (n < DIGEST_SIZE)
			break;
		for (size_t i = 0; i < (size_t)n / DIGEST_SIZE && done < count; i++, done++)
			if (known_add(set, &digests[i]) < 0)
				return -ENOMEM;
	}
	return (long)done;
}

void journal_add(struct journal *j, const struct digest *digest)
{
	if (!j || atomic_load_explicit(&j->count, memory_order_relaxed) >= JOURNAL_DIGESTS_MAX)
		return;
	/* Appending is one step: threads do not tear each other's digests. */
	if (write(j->fd, digest->bytes, DIGEST_SIZE) == DIGEST_SIZE)
		atomic_fetch_add_explicit(&j->count, 1, memory_order_relaxed);
	else
		atomic_store(&j->count, JOURNAL_DIGESTS_MAX);
}

void journal_doubt(struct journal *j)
{
	uint8_t header[HEADER_SIZE];

	j->is_doubted = true;
	atomic_store(&j->count, JOURNAL_DIGESTS_MAX);
	if (make_header(j, header)) {
		memcpy(header, MAGIC_DOUBT, MAGIC_SIZE);
		begin_with(j, header);
	}
}

bool journal_is_doubted(const struct journal *j)
{
	return j->is_doubted;
}

void journal_finish(struct journal *j)
{
	unlinkat(j->folder_fd, j->name, 0);
}
