/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_dir_chunk.h"

#include "archive/blob.h"
#include "client/repo/repo_dir_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PREFIX_SIZE = 4, PATH_SIZE = PREFIX_SIZE + 1 + DIGEST_HEX_SIZE };

struct chunk_path {
	char text[PATH_SIZE]; /* "abcd/abcdef..." */
};

static const char *hex_of(const struct chunk_path *p)
{
	return p->text + PREFIX_SIZE + 1;
}

static struct chunk_path path_of(const struct digest *digest)
{
	struct chunk_path p;

	digest_to_hex(digest, p.text + PREFIX_SIZE + 1);
	memcpy(p.text, p.text + PREFIX_SIZE + 1, PREFIX_SIZE);
	p.text[PREFIX_SIZE] = '/';
	return p;
}

/* --- reading --- */

static int missing(int chunks_fd, const struct chunk_path *p, struct err *err)
{
	char bad[PATH_SIZE + 8];

	snprintf(bad, sizeof(bad), "%s.0.bad", p->text);
	if (faccessat(chunks_fd, bad, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(err, ENOENT,
			       "chunk %s is missing: a verification found it damaged and set it "
			       "aside",
			       hex_of(p));
	return err_set(err, ENOENT, "chunk %s is missing", hex_of(p));
}

/* Open a chunk of at most `size_max` bytes, and not of none. */
static int open_chunk(int chunks_fd, const struct chunk_path *p, size_t size_max, int *fd,
		      size_t *size, struct err *err)
{
	int rc = repo_dir_file_open(chunks_fd, p->text, size_max, fd, size, err);

	if (rc == -ENOENT)
		return missing(chunks_fd, p, err);
	if (rc < 0)
		return err_wrap(err, rc, "chunk");
	if (*size == 0)
		return err_set(err, EBADMSG, "chunk %s is an empty file", hex_of(p));
	return 0;
}

int repo_dir_chunk_read(int chunks_fd, const struct digest *digest, struct wbuf *out,
			struct err *err)
{
	struct chunk_path p = path_of(digest);
	size_t room = out->size_max - out->size, size;
	AUTO(fd) int fd = -1;
	int rc = open_chunk(chunks_fd, &p,
			    room < REPO_DIR_CHUNK_SIZE_MAX ? room : REPO_DIR_CHUNK_SIZE_MAX, &fd,
			    &size, err);

	if (rc < 0)
		return rc;
	uint8_t *data = wbuf_reserve(out, size);
	if (!data)
		return err_set(err, -out->failed, "chunk %s: no room for %zu bytes", hex_of(&p),
			       size);
	rc = repo_dir_file_read_fd(fd, data, size, err);
	if (rc < 0)
		return err_wrap(err, rc, "chunk %s", hex_of(&p));
	out->size += size;
	return 0;
}

int repo_dir_chunk_read_exact(int chunks_fd, const struct digest *digest, void *to, size_t size,
			      struct err *err)
{
	struct chunk_path p = path_of(digest);
	AUTO(fd) int fd = -1;
	size_t found;
	int rc = open_chunk(chunks_fd, &p, REPO_DIR_CHUNK_SIZE_MAX, &fd, &found, err);

	if (rc < 0)
		return rc;
	if (found != size)
		return 1;
	rc = repo_dir_file_read_fd(fd, to, size, err);
	return rc < 0 ? err_wrap(err, rc, "chunk %s", hex_of(&p)) : 0;
}

/* --- marking as in use --- */

/* Touch first, look second: between a look and a touch a collection could take it. */
static int touch(int chunks_fd, const struct chunk_path *p, struct stat *st, struct err *err)
{
	static const struct timespec times[2] = { { .tv_nsec = UTIME_NOW },
						  { .tv_nsec = UTIME_OMIT } };

	if (utimensat(chunks_fd, p->text, times, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstatat(chunks_fd, p->text, st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT)
			return err_set(err, ENOENT, "chunk %s is missing", hex_of(p));
		return err_sys(err, errno, "chunk %s: set access time", hex_of(p));
	}
	if (!S_ISREG(st->st_mode))
		return err_set(err, EBADMSG, "chunk %s is not a regular file", hex_of(p));
	return 0;
}

int repo_dir_chunk_touch(int chunks_fd, const struct digest *digest, struct err *err)
{
	struct chunk_path p = path_of(digest);
	struct stat st;
	int rc = touch(chunks_fd, &p, &st, err);

	if (rc == 0 && st.st_size == 0)
		return err_set(err, ENOENT, "chunk %s is an empty file", hex_of(&p));
	return rc;
}

/* --- inserting --- */

static bool is_encrypted(enum blob_kind kind)
{
	return kind == BLOB_ENCRYPTED || kind == BLOB_ENCRYPTED_ZSTD;
}

/* The kind of the stored file by its magic; false: unreadable or none of ours. */
static bool stored_kind(int chunks_fd, const struct chunk_path *p, enum blob_kind *kind)
{
	uint8_t head[BLOB_ENCRYPTED_HEADER_SIZE];
	size_t size;
	AUTO(fd) int fd = -1;

	if (repo_dir_file_open(chunks_fd, p->text, REPO_DIR_CHUNK_SIZE_MAX, &fd, &size, NULL) < 0)
		return false;
	if (size > sizeof(head))
		size = sizeof(head);
	return repo_dir_file_read_fd(fd, head, size, NULL) == 0 &&
	       blob_kind(head, size, kind, NULL) == 0;
}

/* A new encrypted chunk meets a file of another size.  0: keep the file. */
static int check_encrypted(int chunks_fd, const struct chunk_path *p, enum blob_kind new_kind,
			   struct err *err)
{
	enum blob_kind old_kind;

	if (!stored_kind(chunks_fd, p, &old_kind))
		return err_set(err, EEXIST, "chunk %s is stored already, but damaged", hex_of(p));
	if (!is_encrypted(old_kind))
		return err_set(err, EEXIST,
			       "chunk %s is stored unencrypted: an encrypted one may not take "
			       "its place",
			       hex_of(p));
	if (old_kind == BLOB_ENCRYPTED && new_kind == BLOB_ENCRYPTED)
		return err_set(err, EEXIST,
			       "chunk %s is stored with another size, though neither is compressed",
			       hex_of(p));
	return 0;
}

/* On the disk, that is: what could not be written there may still be in memory. */
static bool is_whole(int chunks_fd, const struct chunk_path *p)
{
	AUTO(free) uint8_t *data = NULL;
	AUTO(fd) int fd = -1;
	size_t size;

	if (repo_dir_file_open(chunks_fd, p->text, REPO_DIR_CHUNK_SIZE_MAX, &fd, &size, NULL) < 0)
		return false;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	data = malloc(size + 1);
	return data && repo_dir_file_read_fd(fd, data, size, NULL) == 0 &&
	       blob_verify_crc(data, size, NULL) == 0;
}

static bool is_doubted(const struct repo_dir_chunk_rules *r, const struct stat *st)
{
	return r->doubts_all ||
	       (st->st_mtim.tv_sec >= r->doubt_begin && st->st_mtim.tv_sec < r->doubt_end);
}

/* Is the file there good enough?  1: yes, it was touched; 0: write; negative: refuse.  `*there`: it
 * is, and not empty. */
static int keep_existing(int chunks_fd, const struct chunk_path *p, size_t size,
			 enum blob_kind kind, const struct repo_dir_chunk_rules *rules,
			 bool *there, struct err *err)
{
	struct stat st;
	int rc = touch(chunks_fd, p, &st, err);

	*there = rc == 0 && st.st_size > 0;
	if (!*there)
		return rc == -ENOENT ? 0 : rc;
	if ((uint64_t)st.st_size == size)
		return !is_doubted(rules, &st) || is_whole(chunks_fd, p);
	if (!is_encrypted(kind) && (uint64_t)st.st_size > size)
		return 0;
	/* A smaller one may have been compressed better, or have lost its end with the power, before
	 * anybody synced it. */
	if (!is_whole(chunks_fd, p))
		return 0;
	rc = is_encrypted(kind) ? check_encrypted(chunks_fd, p, kind, err) : 0;
	return rc < 0 ? rc : 1;
}

struct chunk_folder {
	char text[PREFIX_SIZE + 1];
};

static struct chunk_folder folder_of(const struct chunk_path *p)
{
	struct chunk_folder f = { 0 };

	memcpy(f.text, p->text, PREFIX_SIZE);
	return f;
}

static int sync_folder(int chunks_fd, const struct chunk_path *p, struct err *err)
{
	AUTO(fd) int fd = -1;
	int rc = repo_dir_file_open_dir(chunks_fd, folder_of(p).text, &fd, err);

	return rc < 0 ? rc : repo_dir_file_sync_dir(fd, err);
}

/* Create the temporary file, and the chunk's folder if a lazy init left it out. */
static int open_tmp(struct repo_dir_file_tmp *tmp, int chunks_fd, const struct chunk_path *p,
		    const struct repo_dir_owner *o, struct err *err)
{
	int rc = repo_dir_file_tmp_open(tmp, chunks_fd, p->text, o, err);

	if (rc != -ENOENT)
		return rc;
	rc = repo_dir_file_mkdir(chunks_fd, folder_of(p).text, REPO_DIR_CHUNKS_MODE, o, NULL, err);
	if (rc == 0)
		rc = repo_dir_file_tmp_open(tmp, chunks_fd, p->text, o, err);
	return rc;
}

int repo_dir_chunk_put(int chunks_fd, const struct digest *digest, const void *data, size_t size,
		       const struct repo_dir_chunk_rules *rules, const struct repo_dir_owner *o,
		       bool *duplicate, struct err *err)
{
	AUTO(repo_dir_file_tmp) struct repo_dir_file_tmp tmp = REPO_DIR_FILE_TMP_INIT;
	struct chunk_path p = path_of(digest);
	enum blob_kind kind;
	bool replaces;

	if (size < REPO_DIR_CHUNK_SIZE_MIN || size > REPO_DIR_CHUNK_SIZE_MAX)
		return err_set(err, EINVAL, "chunk %s: a stored size of %zu bytes is out of range",
			       hex_of(&p), size);
	int rc = blob_kind(data, size, &kind, err);
	if (rc < 0)
		return err_wrap(err, rc, "chunk %s", hex_of(&p));
	rc = keep_existing(chunks_fd, &p, size, kind, rules, &replaces, err);
	if (rc < 0)
		return rc;
	if (duplicate)
		*duplicate = rc > 0;
	if (rc > 0)
		return 0;

	const bool syncs = replaces || rules->syncs_each;
	rc = open_tmp(&tmp, chunks_fd, &p, o, err);
	if (rc == 0)
		rc = repo_dir_file_tmp_write_through(&tmp, data, size, err);
	/* The session's syncfs() takes care of all of them at once.  It waits for less if the disk
	 * begins now with what did not go past the cache; where it cannot, that is left to the end.
	 * But one that others refer to is given up only for one that is on the disk. */
	if (rc == 0 && !syncs)
		(void)sync_file_range(tmp.fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	if (rc == 0)
		rc = repo_dir_file_tmp_commit(&tmp, p.text, syncs, err);
	if (rc == 0 && rules->syncs_each)
		rc = sync_folder(chunks_fd, &p, err);
	return rc < 0 ? err_wrap(err, rc, "chunk") : 0;
}
