/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/disk_cache.h"

#include "client/base/clock.h"
#include "client/repo/repo_dir_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

enum {
	FOLDER_COUNT = 256,
	FOLDER_MODE = 0700,
	FILE_MODE = 0600,
	HEX_SIZE = 2 * DIGEST_SIZE,
	BLOCK_SIZE = 4096,
	NAME_SIZE = 80, /* "5f/HEX" with what a temporary name adds */
	ROOM_SHARE = 10, /* room is made for one part in so many */
	/* A lock that another process holds is waited for in steps; then the chunk is let go. */
	LOCK_ATTEMPTS = 50,
	LOCK_PAUSE_MS = 2,
	AGE_SUB_BITS = 4, /* ages are told apart to a sixteenth */
	AGE_BUCKET_COUNT = 1024,
};

#define USAGE_UNKNOWN UINT64_MAX
#define TMP_SUFFIX ".tmp_"

struct disk_cache {
	char *path;
	int dir_fd; /* one number for all its life; what it leads to may be replaced */
	uint64_t bytes_max;
	void (*warn)(const char *text);

	pthread_mutex_t room_lock; /* one thread at a time makes room, or the folder anew */
	atomic_bool measured; /* by this process, once */
	atomic_bool failing; /* and told */

	atomic_uint_least64_t hits, misses, damaged, stored, failures, bytes;
};

static uint64_t footprint(uint64_t size)
{
	return (size + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
}

static void chunk_name(const struct digest *key, char out[NAME_SIZE])
{
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(key, hex);
	snprintf(out, NAME_SIZE, "%.2s/%s", hex, hex);
}

/* --- the folder --- */

/* Open DIR, making it if need be, and prove that it is ours alone. */
static int open_folder(const char *path, int *out, struct err *err)
{
	AUTO(fd) int fd = -1;
	struct stat st;

	if (mkdir(path, FOLDER_MODE) < 0 && errno != EEXIST)
		return err_sys(err, errno, "%s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "%s", path);
	if (st.st_uid != geteuid())
		return err_set(err, EPERM, "%s: belongs to user %u", path, (unsigned)st.st_uid);
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return err_set(err, EPERM, "%s: others may enter it (its mode is %04o, not 0700)",
			       path, (unsigned)st.st_mode & 07777);
	*out = steal_fd(&fd);
	return 0;
}

/* For programs that back up folders; https://bford.info/cachedir/ */
static void put_tag(int dir_fd)
{
	static const char text[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
				   "# Chunks kept by pxarfs; may be removed at any time.\n";
	AUTO(fd) int fd = openat(dir_fd, "CACHEDIR.TAG",
				 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);

	if (fd >= 0 && write(fd, text, sizeof(text) - 1) < 0)
		unlinkat(dir_fd, "CACHEDIR.TAG", 0);
}

int disk_cache_open(struct disk_cache **out, const struct disk_cache_params *params,
		    struct err *err)
{
	AUTO(disk_cache) struct disk_cache *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return err_set(err, ENOMEM, "out of memory");
	d->dir_fd = -1;
	d->bytes_max = params->bytes_max;
	d->warn = params->warn;
	pthread_mutex_init(&d->room_lock, NULL);
	d->path = strdup(params->path);
	if (!d->path)
		return err_set(err, ENOMEM, "out of memory");
	rc = open_folder(d->path, &d->dir_fd, err);
	if (rc < 0)
		return rc;
	put_tag(d->dir_fd);
	*out = steal(&d);
	return 0;
}

void disk_cache_free(struct disk_cache *d)
{
	if (!d)
		return;
	if (d->dir_fd >= 0)
		close(d->dir_fd);
	pthread_mutex_destroy(&d->room_lock);
	free(d->path);
	free(d);
}

/* Somebody removed DIR: make it again, for all who use its descriptor. */
static int renew_folder(struct disk_cache *d, struct err *err)
{
	AUTO(fd) int fd = -1;
	struct stat st;
	int rc = 0;

	pthread_mutex_lock(&d->room_lock);
	if (fstat(d->dir_fd, &st) == 0 && st.st_nlink == 0) {
		rc = open_folder(d->path, &fd, err);
		if (rc == 0 && dup3(fd, d->dir_fd, O_CLOEXEC) < 0)
			rc = err_sys(err, errno, "%s", d->path);
		if (rc == 0)
			put_tag(d->dir_fd);
		atomic_store(&d->measured, false);
	}
	pthread_mutex_unlock(&d->room_lock);
	return rc;
}

/* --- locks between processes --- */

/* A descriptor that holds the lock of DIR/name until it is closed; -EBUSY. */
static int lock_file(struct disk_cache *d, const char *name, struct err *err)
{
	static const struct timespec pause = { .tv_nsec = LOCK_PAUSE_MS * 1000000L };
	AUTO(fd) int fd = openat(d->dir_fd, name,
				 O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, FILE_MODE);

	if (fd < 0 && errno == ENOENT)
		return -ENOENT; /* DIR is gone */
	if (fd < 0)
		return err_sys(err, errno, "%s/%s", d->path, name);
	for (int i = 0; i < LOCK_ATTEMPTS; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return steal_fd(&fd);
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys(err, errno, "%s/%s", d->path, name);
		nanosleep(&pause, NULL);
	}
	return -EBUSY;
}

/* --- how much there is --- */

static uint64_t usage_read(int fd)
{
	char text[32], *end;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	unsigned long long value;

	if (n <= 0 || text[0] < '0' || text[0] > '9')
		return USAGE_UNKNOWN;
	text[n] = '\0';
	errno = 0;
	value = strtoull(text, &end, 10);
	return errno || *end != '\n' ? USAGE_UNKNOWN : value;
}

/* On a full disk the old number stays, and is put right when room is made next. */
static void usage_write(struct disk_cache *d, int fd, uint64_t bytes)
{
	char text[32];
	int size = snprintf(text, sizeof(text), "%020" PRIu64 "\n", bytes);

	if (pwrite(fd, text, (size_t)size, 0) == size)
		atomic_store(&d->bytes, bytes);
}

/* 0: so many bytes may be written; 1: there is no room for them, or that is not known yet. */
static int try_reserve(struct disk_cache *d, uint64_t bytes, struct err *err)
{
	AUTO(fd) int fd = -1;
	uint64_t used;

	if (!atomic_load(&d->measured))
		return 1;
	fd = lock_file(d, "usage", err);
	if (fd < 0)
		return fd;
	used = usage_read(fd);
	if (used == USAGE_UNKNOWN || used > d->bytes_max || bytes > d->bytes_max - used)
		return 1;
	usage_write(d, fd, used + bytes);
	return 0;
}

static void unreserve(struct disk_cache *d, uint64_t bytes)
{
	AUTO(fd) int fd = lock_file(d, "usage", NULL);
	uint64_t used = fd >= 0 ? usage_read(fd) : USAGE_UNKNOWN;

	if (used != USAGE_UNKNOWN)
		usage_write(d, fd, used > bytes ? used - bytes : 0);
}

/* --- making room --- */

/* What is there, by age: going through it twice needs no list of it. */
struct survey {
	uint64_t now_ns;
	uint64_t bytes;
	uint64_t by_age[AGE_BUCKET_COUNT];

	/* The second time: */
	unsigned oldest_kept; /* buckets from here on go, */
	uint64_t excess; /* until so many bytes */
	uint64_t freed; /* have gone */
};

typedef void survey_visit(struct survey *s, int folder_fd, const char *name,
			  const struct stat *st);

/* A logarithm with AGE_SUB_BITS bits behind the point. */
static unsigned age_bucket(const struct survey *s, const struct stat *st)
{
	uint64_t then = (uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec;
	uint64_t age = s->now_ns > then ? s->now_ns - then : 0;
	unsigned log2;

	if (age >> AGE_SUB_BITS == 0)
		return (unsigned)age;
	log2 = 63 - (unsigned)__builtin_clzll(age);
	return ((log2 - AGE_SUB_BITS + 1) << AGE_SUB_BITS) +
	       (unsigned)(age >> (log2 - AGE_SUB_BITS) & ((1 << AGE_SUB_BITS) - 1));
}

static bool is_ours(const char *name)
{
	size_t hex = strspn(name, "0123456789abcdef");

	return hex == HEX_SIZE &&
	       (name[hex] == '\0' || strncmp(name + hex, TMP_SUFFIX, strlen(TMP_SUFFIX)) == 0);
}

static void visit_folder(struct survey *s, DIR *folder, survey_visit *visit)
{
	struct dirent *e;
	struct stat st;

	while ((e = readdir(folder)) != NULL)
		if (is_ours(e->d_name) &&
		    fstatat(dirfd(folder), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			visit(s, dirfd(folder), e->d_name, &st);
}

static void visit_all(struct disk_cache *d, struct survey *s, survey_visit *visit)
{
	char name[8];

	for (unsigned i = 0; i < FOLDER_COUNT; i++) {
		DIR *folder;
		int fd;

		snprintf(name, sizeof(name), "%02x", i);
		if (repo_dir_file_open_dir(d->dir_fd, name, &fd, NULL) < 0)
			continue;
		folder = fdopendir(fd);
		if (!folder) {
			close(fd);
			continue;
		}
		visit_folder(s, folder, visit);
		closedir(folder);
	}
}

static void count_file(struct survey *s, int folder_fd, const char *name, const struct stat *st)
{
	uint64_t bytes = footprint((uint64_t)st->st_size);

	(void)folder_fd;
	(void)name;
	s->bytes += bytes;
	s->by_age[age_bucket(s, st)] += bytes;
}

static void remove_file(struct survey *s, int folder_fd, const char *name,
			const struct stat *st)
{
	if (s->freed < s->excess && age_bucket(s, st) >= s->oldest_kept &&
	    unlinkat(folder_fd, name, 0) == 0)
		s->freed += footprint((uint64_t)st->st_size);
}

/* Remove the longest unused until at most `most` bytes are left. */
static void shrink(struct disk_cache *d, struct survey *s, uint64_t most)
{
	uint64_t old = 0;

	if (s->bytes <= most)
		return;
	s->excess = s->bytes - most;
	s->oldest_kept = AGE_BUCKET_COUNT;
	while (old < s->excess && s->oldest_kept > 0)
		old += s->by_age[--s->oldest_kept];
	visit_all(d, s, remove_file);
}

/* What others have written since a survey began comes on top of what it found. */
static void usage_set(struct disk_cache *d, uint64_t before, uint64_t found)
{
	AUTO(fd) int fd = lock_file(d, "usage", NULL);
	uint64_t now;

	if (fd < 0)
		return;
	now = usage_read(fd);
	if (before != USAGE_UNKNOWN && now != USAGE_UNKNOWN && now > before)
		found += now - before;
	usage_write(d, fd, found);
	atomic_store(&d->measured, true);
}

/* Count what is there, and bring it down to `most`.  Under room_lock.  -EBUSY: somebody else
 * is at it. */
static int make_room(struct disk_cache *d, uint64_t most, struct err *err)
{
	AUTO(free) struct survey *s = calloc(1, sizeof(*s));
	AUTO(fd) int lock = lock_file(d, "lock", err);
	uint64_t before;
	int fd;

	if (!s)
		return err_set(err, ENOMEM, "out of memory");
	if (lock < 0)
		return lock;
	fd = lock_file(d, "usage", err);
	if (fd < 0)
		return fd;
	before = usage_read(fd);
	close(fd);
	s->now_ns = (uint64_t)clock_ns_of(CLOCK_REALTIME);
	visit_all(d, s, count_file);
	shrink(d, s, most);
	usage_set(d, before, s->bytes - s->freed);
	return 0;
}

/* What may stay when so many bytes shall come: the first time it is only counted. */
static uint64_t room_target(const struct disk_cache *d, uint64_t bytes)
{
	uint64_t most = d->bytes_max - bytes, usual = d->bytes_max - d->bytes_max / ROOM_SHARE;

	return atomic_load(&d->measured) && usual < most ? usual : most;
}

/* 0, 1: no room, as try_reserve(); making some when there is none. */
static int reserve(struct disk_cache *d, uint64_t bytes, struct err *err)
{
	int rc = try_reserve(d, bytes, err);

	if (rc != 1)
		return rc;
	pthread_mutex_lock(&d->room_lock);
	rc = try_reserve(d, bytes, err); /* another thread may have made some */
	if (rc == 1) {
		rc = make_room(d, room_target(d, bytes), err);
		if (rc == 0)
			rc = try_reserve(d, bytes, err);
	}
	pthread_mutex_unlock(&d->room_lock);
	return rc;
}

/* The disk is full: others need the room more. */
static void give_way(struct disk_cache *d)
{
	uint64_t bytes = atomic_load(&d->bytes);

	pthread_mutex_lock(&d->room_lock);
	make_room(d, bytes - bytes / ROOM_SHARE, NULL);
	pthread_mutex_unlock(&d->room_lock);
}

/* --- chunks --- */

int disk_cache_get(struct disk_cache *d, const struct digest *key, struct wbuf *encoded)
{
	AUTO(fd) int fd = -1;
	char name[NAME_SIZE];
	uint8_t *to;
	size_t size;
	int rc;

	chunk_name(key, name);
	rc = repo_dir_file_open(d->dir_fd, name, encoded->size_max - encoded->size, &fd, &size,
				NULL);
	to = rc == 0 ? wbuf_reserve(encoded, size) : NULL;
	if (!to || repo_dir_file_read_fd(fd, to, size, NULL) < 0) {
		atomic_fetch_add(&d->misses, 1);
		return -ENOENT;
	}
	encoded->size += size;
	futimens(fd, NULL); /* used now; that it cannot be noted is no reason not to use it */
	atomic_fetch_add(&d->hits, 1);
	return 0;
}

void disk_cache_drop(struct disk_cache *d, const struct digest *key)
{
	char name[NAME_SIZE];
	struct stat st;

	chunk_name(key, name);
	atomic_fetch_add(&d->damaged, 1);
	if (fstatat(d->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    unlinkat(d->dir_fd, name, 0) == 0)
		unreserve(d, footprint((uint64_t)st.st_size));
}

/* -ENOENT: a folder is missing. */
static int write_file(struct disk_cache *d, const char *name, const void *data, size_t size,
		      struct err *err)
{
	static const struct repo_dir_owner owner = { .set = false };
	AUTO(repo_dir_file_tmp) struct repo_dir_file_tmp tmp = REPO_DIR_FILE_TMP_INIT;
	int rc = repo_dir_file_tmp_open(&tmp, d->dir_fd, name, &owner, err);

	if (rc == 0)
		rc = repo_dir_file_tmp_write(&tmp, data, size, err);
	if (rc == 0)
		rc = repo_dir_file_tmp_commit(&tmp, name, false, err);
	return rc;
}

static int write_chunk(struct disk_cache *d, const char *name, const void *data, size_t size,
		       struct err *err)
{
	char folder[] = { name[0], name[1], '\0' };
	int rc = write_file(d, name, data, size, err);

	if (rc != -ENOENT)
		return rc;
	if (mkdirat(d->dir_fd, folder, FOLDER_MODE) < 0 && errno != EEXIST)
		return err_sys(err, errno, "%s/%s", d->path, folder);
	return write_file(d, name, data, size, err);
}

/* 0: stored; 1: not now, which is nothing to talk about. */
static int put(struct disk_cache *d, const char *name, const void *data, size_t size,
	       struct err *err)
{
	uint64_t bytes = footprint(size);
	int rc;

	if (bytes > d->bytes_max || faccessat(d->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	rc = reserve(d, bytes, err);
	if (rc == -ENOENT) {
		rc = renew_folder(d, err);
		if (rc == 0)
			rc = reserve(d, bytes, err);
	}
	if (rc != 0)
		return rc == -EBUSY ? 1 : rc;
	rc = write_chunk(d, name, data, size, err);
	if (rc < 0)
		unreserve(d, bytes);
	if (rc == -ENOSPC || rc == -EDQUOT)
		give_way(d);
	/* Whoever made room meanwhile took the file away half written: to it that is one more that
	 * nobody has used of late. */
	return rc == -ENOENT ? 1 : rc;
}

static void complain(struct disk_cache *d, int rc, const struct err *err)
{
	struct err text = *err;

	atomic_fetch_add(&d->failures, 1);
	if (atomic_exchange(&d->failing, true) || !d->warn)
		return;
	err_wrap(&text, rc, "%s: cannot keep chunks", d->path);
	d->warn(err_text(&text, rc));
}

void disk_cache_put(struct disk_cache *d, const struct digest *key, const void *encoded,
		    size_t size)
{
	char name[NAME_SIZE];
	struct err err = ERR_INIT;
	int rc;

	chunk_name(key, name);
	rc = put(d, name, encoded, size, &err);
	if (rc < 0) {
		complain(d, rc, &err);
	} else if (rc == 0) {
		atomic_fetch_add(&d->stored, 1);
		atomic_store(&d->failing, false);
	}
}

void disk_cache_stats(struct disk_cache *d, struct disk_cache_stats *out)
{
	*out = (struct disk_cache_stats){
		.hits = atomic_load(&d->hits),
		.misses = atomic_load(&d->misses),
		.damaged = atomic_load(&d->damaged),
		.stored = atomic_load(&d->stored),
		.failures = atomic_load(&d->failures),
		.bytes = atomic_load(&d->bytes),
	};
}
