/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/stream.h"

#include "archive/base/le.h"
#include "client/base/clock.h"
#include "client/base/io.h"
#include "client/read/chunk_load.h"
#include "client/read/readahead.h"

#include <assert.h>
#include <sys/stat.h>

enum {
	HINT_SHARE = 8, /* hints of one request take at most this part of the cache */
	READAHEAD_SHARE = 4, /* read-ahead: what the cache keeps of payload in any case */
};

/* Bytes of chunks that one request may hold, over what the cache keeps.  What a table needs that is read
 * at once is less than that; but a hostile one leads to a chunk of 16 MiB for each of its slots. */
#define VIEW_BYTES_MORE (UINT64_C(1) << 30)

/* What a plain file was when it was opened. */
struct file_state {
	struct stat st;
	int fd; /* -1: the stream is over an index */
};

struct stream {
	struct fetch_source source;
	struct read_at blocking;
	struct fetch *fetch;
	enum chunk_class class_;
	char *name; /* for messages */

	/* Over an index: */
	struct repo_reader *reader;
	struct repo_file index_file; /* what `didx` or `fidx` borrows */
	const struct crypt_key *key; /* of encrypted chunks; NULL: they are plain */
	struct digest mask; /* over the digests, where they are names in the cache */
	struct didx didx;
	struct fidx fidx; /* count 0: the index is a dynamic one */

	struct file_state file;

	struct readahead readahead; /* has its lock */
}; /* the rest is fixed once open */

static struct stream *stream_of_source(struct fetch_source *source)
{
	return (struct stream *)((char *)source - offsetof(struct stream, source));
}

static struct stream *stream_of_read_at(struct read_at *read_at)
{
	return (struct stream *)((char *)read_at - offsetof(struct stream, blocking));
}

static bool is_file(const struct stream *s)
{
	return s->file.fd >= 0;
}

static bool is_fixed(const struct stream *s)
{
	return s->fidx.count > 0;
}

/* --- which chunk is where --- */

/* One chunk's place in the stream. */
struct place {
	uint64_t index, begin, end;
};

/*
 * The key of a piece of a plain file: device, inode, time of the last change, number.  The top
 * bits of the last word are a mark; that a SHA-256 digest equals all 256 bits is as unlikely
 * as two digests meeting.
 */
static void file_key(const struct stat *st, uint64_t index, struct digest *key)
{
	uint64_t mtime_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000 +
			    (uint64_t)st->st_mtim.tv_nsec;

	le64_put(key->bytes, (uint64_t)st->st_dev);
	le64_put(key->bytes + 8, (uint64_t)st->st_ino);
	le64_put(key->bytes + 16, mtime_ns);
	le64_put(key->bytes + 24, UINT64_C(0xf17e) << 48 | index);
}

static void file_chunk(const struct stream *s, uint64_t index, struct place *place,
		       struct digest *key)
{
	uint64_t begin = index * STREAM_FILE_PIECE_SIZE, left = s->blocking.size - begin;

	place->index = index;
	place->begin = begin;
	place->end = begin + (left < STREAM_FILE_PIECE_SIZE ? left : STREAM_FILE_PIECE_SIZE);
	file_key(&s->file.st, index, key);
}

static void chunk_at(const struct stream *s, uint64_t index, struct place *place,
		     struct digest *key)
{
	if (is_file(s)) {
		file_chunk(s, index, place, key);
		return;
	}
	place->index = index;
	if (is_fixed(s))
		fidx_chunk(&s->fidx, (size_t)index, &place->begin, &place->end, key);
	else
		didx_chunk(&s->didx, (size_t)index, &place->begin, &place->end, key);
}

/* The index of the chunk that holds `offset`, which lies inside the stream. */
static uint64_t chunk_index_of(const struct stream *s, uint64_t offset)
{
	size_t index = 0;

	if (is_file(s))
		return offset / STREAM_FILE_PIECE_SIZE;
	if (is_fixed(s))
		fidx_find(&s->fidx, offset, &index);
	else
		didx_find(&s->didx, offset, &index);
	return index;
}

/*
 * Digests come out of indexes, which anybody can write.  Listed by an index that says its chunks
 * are plain, that of an encrypted chunk must not find the bytes that were decrypted for somebody
 * else; nor may a made-up digest meet the name of something that is no chunk.  So the cache
 * knows plain chunks by digests under a mask of its own, decrypted ones under one that is made
 * with the key.
 */
static void cache_name(const struct stream *s, struct digest *digest)
{
	for (size_t i = 0; i < DIGEST_SIZE; i++)
		digest->bytes[i] ^= s->mask.bytes[i];
}

static int mask_of(struct fetch *fetch, const struct crypt_key *key, struct digest *out)
{
	static const char PURPOSE[] = "names of chunks in memory";

	if (key)
		return crypt_sign(key, PURPOSE, sizeof(PURPOSE) - 1, out);
	*out = *chunk_cache_mask(fetch_cache(fetch));
	return 0;
}

static void want_chunk(struct stream *s, uint64_t index, struct place *place,
		       struct fetch_want *want)
{
	*want = (struct fetch_want){
		.source = &s->source,
		.index = index,
		.class_ = s->class_,
	};
	chunk_at(s, index, place, &want->key);
	cache_name(s, &want->key);
	want->size = (size_t)(place->end - place->begin);
}

/* --- loading; on a fetch thread --- */

/* Codes that mean something else to who reads: a missing chunk is no missing file, and -EAGAIN
 * is a view's word for "ask the fetcher". */
static int plain_code(int rc)
{
	return rc == -ENOENT || rc == -EAGAIN ? -EIO : rc;
}

static int stream_wrap(struct fetch_source *source, uint64_t index, int rc, struct err *err)
{
	struct stream *s = stream_of_source(source);
	char hex[DIGEST_HEX_SIZE];
	struct place place;
	struct digest key;

	chunk_at(s, index, &place, &key);
	digest_to_hex(&key, hex);
	rc = plain_code(rc);
	if (is_file(s))
		return err_wrap(err, rc, "%s: bytes %llu to %llu", s->name,
				(unsigned long long)place.begin, (unsigned long long)place.end);
	return err_wrap(err, rc, "%s: chunk %llu at offset %llu, digest %s", s->name,
			(unsigned long long)index, (unsigned long long)place.begin, hex);
}

static void learn_costs(struct stream *s, uint64_t begin_us, uint64_t got_us)
{
	struct readahead_costs costs = { .wait_us = got_us - begin_us,
					 .work_us = clock_now_us() - got_us };

	readahead_learn(&s->readahead, &costs);
}

static int load_indexed(struct fetch_source *source, struct fetch_worker *worker, uint64_t index,
			struct chunk *chunk, struct err *err)
{
	struct stream *s = stream_of_source(source);
	struct readahead_costs costs;
	struct place place;
	int rc;

	chunk_at(s, index, &place, &worker->digest);
	rc = chunk_load(worker, s->reader, s->key, chunk, &costs, err);
	if (rc == 0)
		readahead_learn(&s->readahead, &costs);
	return rc < 0 ? rc : 0;
}

static int read_fully(int fd, uint8_t *to, size_t size, uint64_t offset, struct err *err)
{
	ssize_t n = io_pread(fd, to, size, offset);

	if (n < 0)
		return err_sys(err, (int)-n, "cannot read");
	if ((size_t)n < size)
		return err_set(err, EIO, "the file was cut off while it was open");
	return 0;
}

/* Old and new bytes must never be mixed. */
static int check_unchanged(const struct file_state *file, struct err *err)
{
	const struct stat *old = &file->st;
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return err_sys(err, errno, "cannot stat");
	if (st.st_size != old->st_size || st.st_mtim.tv_sec != old->st_mtim.tv_sec ||
	    st.st_mtim.tv_nsec != old->st_mtim.tv_nsec)
		return err_set(err, EIO, "the file changed while it was open");
	return 0;
}

static int load_file(struct fetch_source *source, struct fetch_worker *worker, uint64_t index,
		     struct chunk *chunk, struct err *err)
{
	struct stream *s = stream_of_source(source);
	uint64_t begin_us = clock_now_us();
	int rc = read_fully(s->file.fd, chunk->data, chunk->size, index * STREAM_FILE_PIECE_SIZE,
			    err);

	(void)worker;
	if (rc < 0)
		return rc;
	learn_costs(s, begin_us, clock_now_us());
	return check_unchanged(&s->file, err);
}

/* --- open and close --- */

static const struct read_at_ops blocking_ops;

static struct stream *stream_new(struct fetch *fetch, uint64_t size, enum chunk_class class_,
				 const char *name)
{
	AUTO(stream) struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->file.fd = -1;
	s->fetch = fetch;
	s->class_ = class_;
	s->source.wrap = stream_wrap;
	s->blocking.ops = &blocking_ops;
	s->blocking.size = size;
	s->name = strdup(name);
	return s->name ? steal(&s) : NULL;
}

/* Once it is known what its chunks are. */
static void init_readahead(struct stream *s, uint64_t chunk_size)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct readahead_params params = { .stream_size = s->blocking.size,
					   .chunk_size = chunk_size > 0 ? chunk_size : 1,
					   .cpu_count = cpus > 0 ? (unsigned)cpus : 1 };

	readahead_init(&s->readahead, &params);
}

void stream_set_readahead(struct stream *s, uint64_t bytes)
{
	uint64_t most = chunk_cache_bytes_max(fetch_cache(s->fetch)) / READAHEAD_SHARE;

	s->readahead.params.bytes_max = bytes < most ? bytes : most;
}

/* A stream over an index, that is yet to be told of it. */
static struct stream *stream_new_indexed(struct fetch *fetch, struct repo_reader *reader,
					 struct repo_file *index_file, uint64_t size,
					 const struct crypt_key *key, enum chunk_class class_,
					 const char *archive_name, struct err *err)
{
	AUTO(stream) struct stream *s = stream_new(fetch, size, class_, archive_name);

	if (!s || mask_of(fetch, key, &s->mask) < 0) {
		err_set(err, ENOMEM, "%s: out of memory", archive_name);
		return NULL;
	}
	s->source.load = load_indexed;
	s->reader = reader;
	s->key = key;
	s->index_file = *index_file;
	*index_file = (struct repo_file){ 0 };
	return steal(&s);
}

int stream_new_didx(struct stream **out, struct fetch *fetch, struct repo_reader *reader,
		    struct repo_file *index_file, const struct didx *ix,
		    const struct crypt_key *key, enum chunk_class class_,
		    const char *archive_name, struct err *err)
{
	struct stream *s = stream_new_indexed(fetch, reader, index_file, ix->size, key, class_,
					      archive_name, err);

	if (!s)
		return -ENOMEM;
	s->didx = *ix;
	init_readahead(s, ix->size / ix->count);
	*out = s;
	return 0;
}

int stream_new_fidx(struct stream **out, struct fetch *fetch, struct repo_reader *reader,
		    struct repo_file *index_file, const struct fidx *ix,
		    const struct crypt_key *key, enum chunk_class class_,
		    const char *archive_name, struct err *err)
{
	struct stream *s = stream_new_indexed(fetch, reader, index_file, ix->size, key, class_,
					      archive_name, err);

	if (!s)
		return -ENOMEM;
	s->fidx = *ix;
	init_readahead(s, ix->chunk_size);
	*out = s;
	return 0;
}

int stream_new_file(struct stream **out, struct fetch *fetch, int fd, enum chunk_class class_,
		    const char *file_name, struct err *err)
{
	struct stream *s;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "%s", file_name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s: not a regular file", file_name);
	s = stream_new(fetch, (uint64_t)st.st_size, class_, file_name);
	if (!s)
		return err_set(err, ENOMEM, "%s: out of memory", file_name);
	s->source.load = load_file;
	s->file = (struct file_state){ .st = st, .fd = fd };
	init_readahead(s, STREAM_FILE_PIECE_SIZE);
	*out = s;
	return 0;
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	fetch_drain(s->fetch, &s->source);
	repo_file_release(&s->index_file);
	if (is_file(s))
		close(s->file.fd);
	readahead_release(&s->readahead);
	free(s->name);
	free(s);
}

uint64_t stream_size(const struct stream *s)
{
	return s->blocking.size;
}

/* Of an index, its checksum; of a file, what makes it the one it is. */
uint32_t stream_fingerprint(const struct stream *s)
{
	struct digest key;
	uint64_t mixed = 0;

	if (is_file(s))
		file_key(&s->file.st, s->blocking.size, &key);
	else
		key = is_fixed(s) ? s->fidx.csum : s->didx.csum;
	for (size_t i = 0; i < DIGEST_SIZE; i += 8)
		mixed = (mixed ^ le64_get(key.bytes + i)) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(mixed >> 32) | 1;
}

size_t stream_memory(const struct stream *s)
{
	return sizeof(*s) + s->index_file.size;
}

struct fetch *stream_fetch(const struct stream *s)
{
	return s->fetch;
}

/* --- reading --- */

/* Somebody reads there; what will be next? */
static void look_ahead(struct stream *s, uint64_t offset, size_t size)
{
	struct readahead_range ask;

	if (readahead_note(&s->readahead, offset, offset + size, &ask))
		stream_hint(s, ask.begin, ask.end);
}

/* The part of a chunk that a read touches. */
static size_t part_size(const struct place *place, uint64_t offset, size_t size)
{
	uint64_t left = place->end - offset;

	return left < size ? (size_t)left : size;
}

/* A chunk out of memory: NULL in *out when it is not there. */
static int chunk_in_memory(struct stream *s, const struct fetch_want *want, struct chunk **out,
			   struct err *err)
{
	struct chunk *chunk = chunk_cache_get(fetch_cache(s->fetch), &want->key);
	int rc;

	if (!chunk || chunk->size == want->size) {
		*out = chunk;
		return 0;
	}
	rc = err_set(err, EBADMSG, "the chunk has %zu bytes, the index says %zu", chunk->size,
		     want->size);
	chunk_unref(chunk);
	return stream_wrap(&s->source, want->index, rc, err);
}

static int blocking_chunk(struct stream *s, const struct fetch_want *want, struct chunk **out,
			  struct err *err)
{
	int rc = chunk_in_memory(s, want, out, err);

	if (rc < 0 || *out)
		return rc;
	return fetch_wait_for(s->fetch, want, out, err);
}

static int blocking_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
			 struct err *err)
{
	struct stream *s = stream_of_read_at(self);
	uint8_t *to = buf;

	look_ahead(s, offset, size);
	while (size > 0) {
		struct fetch_want want;
		struct chunk *chunk;
		struct place place;
		size_t n;
		int rc;

		want_chunk(s, chunk_index_of(s, offset), &place, &want);
		rc = blocking_chunk(s, &want, &chunk, err);
		if (rc < 0)
			return rc;
		n = part_size(&place, offset, size);
		memcpy(to, chunk->data + (offset - place.begin), n);
		chunk_unref(chunk);
		to += n;
		size -= n;
		offset += n;
	}
	return 0;
}

static const struct read_at_ops blocking_ops = { .read = blocking_read };

struct read_at *stream_read_at(struct stream *s)
{
	return &s->blocking;
}

void stream_hint(struct stream *s, uint64_t begin, uint64_t end)
{
	struct place place = { .end = begin };
	uint64_t first;

	if (end > s->blocking.size)
		end = s->blocking.size;
	if (begin >= end)
		return;
	first = chunk_index_of(s, begin);
	for (uint64_t i = first; place.end < end && i - first < FETCH_HINT_COUNT_MAX; i++) {
		struct fetch_want want;

		want_chunk(s, i, &place, &want);
		fetch_hint(s->fetch, &want);
	}
}

/* --- views --- */

static int view_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
		     struct err *err);

static const struct read_at_ops view_ops = { .read = view_read };

void stream_view_init(struct stream_view *v, struct stream *s)
{
	v->base = (struct read_at){ .ops = &view_ops, .size = s->blocking.size };
	v->stream = s;
	v->held = v->held_inline;
	v->held_count = 0;
	v->held_bytes = 0;
	v->held_capacity = STREAM_VIEW_INLINE;
	v->missing = v->missing_end = 0;
	v->is_missing = false;
}

void stream_view_forget(struct stream_view *v)
{
	for (size_t i = 0; i < v->held_count; i++)
		chunk_unref(v->held[i].chunk);
	v->held_count = 0;
	v->held_bytes = 0;
}

void stream_view_release(struct stream_view *v)
{
	stream_view_forget(v);
	if (v->held != v->held_inline)
		free(v->held);
	v->held = v->held_inline;
	v->held_capacity = STREAM_VIEW_INLINE;
}

static bool view_grow(struct stream_view *v)
{
	size_t capacity = v->held_capacity * 2;
	struct stream_held *held = malloc(capacity * sizeof(*held));

	if (!held)
		return false;
	memcpy(held, v->held, v->held_count * sizeof(*held));
	if (v->held != v->held_inline)
		free(v->held);
	v->held = held;
	v->held_capacity = capacity;
	return true;
}

/* How many of the held chunks begin at or before `offset`: they are in the stream's order.  A
 * hostile index has chunks of one byte, so a request may hold very many. */
static size_t view_rank(const struct stream_view *v, uint64_t offset)
{
	size_t low = 0, high = v->held_count;

	/* Reads mostly go on where the last one ended. */
	if (high > 0 && v->held[high - 1].begin <= offset)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (v->held[middle].begin <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Takes the reference. */
static int view_hold(struct stream_view *v, struct chunk *chunk, uint64_t begin,
		     const struct stream_held **out)
{
	struct stream_held *at;

	if (v->held_count == v->held_capacity && !view_grow(v)) {
		chunk_unref(chunk);
		return -ENOMEM;
	}
	at = &v->held[view_rank(v, begin)];
	memmove(at + 1, at, (size_t)(&v->held[v->held_count] - at) * sizeof(*at));
	*at = (struct stream_held){ .chunk = chunk, .begin = begin };
	v->held_count++;
	v->held_bytes += chunk->size;
	*out = at;
	return 0;
}

static const struct stream_held *view_find(const struct stream_view *v, uint64_t offset)
{
	size_t rank = view_rank(v, offset);
	const struct stream_held *held = rank > 0 ? &v->held[rank - 1] : NULL;

	return held && offset - held->begin < held->chunk->size ? held : NULL;
}

static int check_room(const struct stream_view *v, struct err *err)
{
	uint64_t bytes_max = chunk_cache_bytes_max(fetch_cache(v->stream->fetch)) +
			     VIEW_BYTES_MORE;

	if (v->held_count == STREAM_VIEW_HELD_MAX)
		return err_set(err, E2BIG, "%s: more than %d chunks are needed at once",
			       v->stream->name, STREAM_VIEW_HELD_MAX);
	if (v->held_bytes > bytes_max)
		return err_set(err, E2BIG, "%s: chunks of more than %llu MiB are needed at once",
			       v->stream->name, (unsigned long long)(bytes_max >> 20));
	return 0;
}

/* The chunk that holds byte `offset` of a read that goes up to `end`. */
static int view_chunk(struct stream_view *v, uint64_t offset, uint64_t end,
		      const struct stream_held **out, struct err *err)
{
	struct fetch_want want;
	struct chunk *chunk = NULL;
	struct place place;
	int rc;

	*out = view_find(v, offset);
	if (*out)
		return 0;
	rc = check_room(v, err);
	if (rc < 0)
		return rc;
	want_chunk(v->stream, chunk_index_of(v->stream, offset), &place, &want);
	rc = chunk_in_memory(v->stream, &want, &chunk, err);
	if (rc)
		return rc;
	if (!chunk) {
		v->missing = place.index;
		v->missing_end = end;
		v->is_missing = true;
		return -EAGAIN;
	}
	return view_hold(v, chunk, place.begin, out);
}

/* The next part of a read: *size bytes at *data. */
static int view_part(struct stream_view *v, uint64_t offset, uint64_t end, uint8_t **data,
		     size_t *size, struct err *err)
{
	const struct stream_held *held;
	struct place place;
	int rc = view_chunk(v, offset, end, &held, err);

	if (rc < 0)
		return rc;
	place = (struct place){ .begin = held->begin, .end = held->begin + held->chunk->size };
	*data = held->chunk->data + (offset - held->begin);
	*size = part_size(&place, offset, (size_t)(end - offset));
	return 0;
}

/* Metadata is read here and there by many at once: no order to go by. */
static void view_look_ahead(struct stream_view *v, uint64_t offset, size_t size)
{
	if (v->stream->class_ == CHUNK_PAYLOAD)
		look_ahead(v->stream, offset, size);
}

static int view_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
		     struct err *err)
{
	struct stream_view *v = (struct stream_view *)self;
	uint64_t end = offset + size;
	uint8_t *to = buf, *data;

	view_look_ahead(v, offset, size);
	for (size_t n; offset < end; offset += n, to += n) {
		int rc = view_part(v, offset, end, &data, &n, err);

		if (rc < 0)
			return rc;
		memcpy(to, data, n);
	}
	return 0;
}

int stream_view_map(struct stream_view *v, uint64_t offset, size_t size, struct iovec *iov,
		    size_t *iov_count, struct err *err)
{
	uint64_t end;
	size_t count = 0;

	if (offset > v->base.size || size > v->base.size - offset)
		return err_set(err, EBADMSG, "%s: read past the end", v->stream->name);
	end = offset + size;
	view_look_ahead(v, offset, size);
	for (size_t n; offset < end; offset += n, count++) {
		uint8_t *data;
		int rc = view_part(v, offset, end, &data, &n, err);

		if (rc < 0)
			return rc;
		if (count == *iov_count)
			return -E2BIG;
		iov[count] = (struct iovec){ .iov_base = data, .iov_len = n };
	}
	*iov_count = count;
	return 0;
}

/* How far ahead hints pay: what comes must still be there when the request runs again. */
static uint64_t hint_end(const struct stream *s, uint64_t begin, uint64_t end)
{
	uint64_t most = chunk_cache_bytes_max(fetch_cache(s->fetch)) / HINT_SHARE;

	return end > begin && end - begin > most ? begin + most : end;
}

void stream_view_wait(struct stream_view *v, struct fetch_wait *wait)
{
	struct stream *s = v->stream;
	struct fetch_want want;
	struct place place;

	assert(v->is_missing);
	v->is_missing = false;
	want_chunk(s, v->missing, &place, &want);
	/* The hints first: when fetch_get() returns, the view may be gone. */
	stream_hint(s, place.end, hint_end(s, place.end, v->missing_end));
	fetch_get(s->fetch, &want, wait);
}

int stream_view_hold(struct stream_view *v, struct chunk *chunk)
{
	const struct stream_held *held;
	struct fetch_want want;
	struct place place;

	want_chunk(v->stream, v->missing, &place, &want);
	assert(digest_equal(&want.key, &chunk->key) && chunk->size == want.size);
	return view_hold(v, chunk, place.begin, &held);
}
