/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream - one stream of an archive as bytes at offsets: an index (or a plain file cut into
 * equal pieces) over chunk cache and fetcher.
 *
 * Two ways to read it.  stream_read_at() gives a blocking read_at for tools.  A `stream_view`
 * gives a read_at that never waits: for the mount, one view a request and stream.  On a miss
 * it answers -EAGAIN and remembers the chunk; stream_view_wait() asks the fetcher for it, and
 * when it has come the request runs again from its start.  Chunks once seen stay held by the
 * view, so that a request makes progress whatever is evicted.
 *
 * Owner:   a stream is freed with stream_free() after all its views were released.
 * Threads: a stream: any number; a view: one at a time.
 * Errors:  what cannot be had or is not what the index says: -EBADMSG, -EIO, -ENOKEY,
 *          -ECANCELED and others, never -ENOENT, and -EAGAIN from a view only.  The message
 *          names archive, chunk, offset and digest.  From a view, -E2BIG: over STREAM_VIEW_HELD_MAX,
 *          or 1 GiB more than the cache keeps.
 */
#ifndef PXARFS_STREAM_H
#define PXARFS_STREAM_H

#include "archive/crypt.h"
#include "archive/didx.h"
#include "archive/fidx.h"
#include "archive/read_at.h"
#include "client/read/fetch.h"
#include "client/repo/repo.h"

#include <sys/uio.h>

enum { STREAM_FILE_PIECE_SIZE = 256 << 10 }; /* what plain files are cut into */

struct stream;

/* Over a dynamic index whose chunks are all encrypted with `key`, or, when it is NULL, all
 * plain: any other chunk is damage.  Takes `index_file` over (whose bytes `ix` borrows) on
 * success; `reader` and `key` are lent and must outlive the stream.  `archive_name` is for
 * messages, copied. */
int stream_new_didx(struct stream **out, struct fetch *fetch, struct repo_reader *reader,
		    struct repo_file *index_file, const struct didx *ix,
		    const struct crypt_key *key, enum chunk_class class_,
		    const char *archive_name, struct err *err);

/* Over a fixed index: an image.  The rest as above. */
int stream_new_fidx(struct stream **out, struct fetch *fetch, struct repo_reader *reader,
		    struct repo_file *index_file, const struct fidx *ix,
		    const struct crypt_key *key, enum chunk_class class_,
		    const char *archive_name, struct err *err);

/* Over a plain file, which must not change while it is open: what is read after it did is
 * -EIO.  Takes `fd` over on success.  May be empty. */
int stream_new_file(struct stream **out, struct fetch *fetch, int fd,
		    enum chunk_class class_, const char *file_name, struct err *err);

/* Waits for loads in progress. */
void stream_free(struct stream *s);
DEFINE_AUTO_PTR(stream)

uint64_t stream_size(const struct stream *s);
size_t stream_memory(const struct stream *s); /* bytes it keeps, its index above all */
/* Not 0, the same whenever this stream is opened, and another for another one, but for one in
 * 2^31. */
uint32_t stream_fingerprint(const struct stream *s);

struct fetch *stream_fetch(const struct stream *s);

/* Ask ahead of who reads in order, at most `bytes` and what the cache keeps (readahead.h);
 * 0, the default: never.  Of metadata, only ahead of who reads the blocking way.  Before the
 * stream is read. */
void stream_set_readahead(struct stream *s, uint64_t bytes);

/* The blocking way; lives as long as the stream, any number of threads. */
struct read_at *stream_read_at(struct stream *s);

/* Read-ahead: ask for the chunks of [begin, end) that are not in memory. */
void stream_hint(struct stream *s, uint64_t begin, uint64_t end);

enum {
	STREAM_VIEW_INLINE = 4,
	/* Chunks that one request may need: a folder's table of 8 million slots in chunks of 16 KiB is
	 * 12,288.  An index is hostile, and a chunk of one byte takes some hundred to keep. */
	STREAM_VIEW_HELD_MAX = 1 << 16,
};

struct stream_held {
	struct chunk *chunk;
	uint64_t begin; /* stream offset of its first byte */
};

/* Lives at one address: it points into itself.  Costs no allocation up to STREAM_VIEW_INLINE
 * chunks. */
struct stream_view {
	struct read_at base; /* first: a view is a read_at */
	struct stream *stream;
	struct stream_held *held; /* chunks seen by this request */
	size_t held_count, held_capacity;
	uint64_t held_bytes; /* of these chunks */
	struct stream_held held_inline[STREAM_VIEW_INLINE];
	uint64_t missing; /* chunk index, valid after -EAGAIN */
	uint64_t missing_end; /* the read that missed goes up to this stream offset */
	bool is_missing;
};

void stream_view_init(struct stream_view *v, struct stream *s);
void stream_view_release(struct stream_view *v);
DEFINE_AUTO_STRUCT(stream_view)

/* Let go of all chunks, for a long request that has got a part of its work done for good and
 * will not ask for what it read so far again. */
void stream_view_forget(struct stream_view *v);

/* Like read, but without a copy: fill `iov` (room for *iov_count) with pieces of held chunks
 * that make up [offset, offset + size); valid until the view is released.  -EAGAIN on a miss,
 * -E2BIG when more pieces are needed than there is room for, -EBADMSG past the end. */
int stream_view_map(struct stream_view *v, uint64_t offset, size_t size, struct iovec *iov,
		    size_t *iov_count, struct err *err);

/* After -EAGAIN: ask for the missing chunk (and give hints for the rest of the read that
 * missed it).  wait->done gets it, perhaps before this returns; hand it to stream_view_hold()
 * and run the request again. */
void stream_view_wait(struct stream_view *v, struct fetch_wait *wait);

/* Keep a chunk that the last stream_view_wait() brought (takes its reference, also when it
 * fails with -ENOMEM). */
int stream_view_hold(struct stream_view *v, struct chunk *chunk);

#endif
