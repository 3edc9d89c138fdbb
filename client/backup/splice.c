/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/splice.h"

#include "archive/base/grow.h"
#include "archive/pxar.h"

#include <assert.h>
#include <string.h>

enum chunk_state { CHUNK_UNKNOWN, CHUNK_THERE, CHUNK_GONE };

/* A chunk that is to be injected next. */
struct pending {
	struct upload_chunk chunk;
	size_t number; /* in the old index */
	size_t used; /* bytes that are of use */
};

struct splice {
	struct change *change;
	const struct didx *old;
	struct upload *payload;
	struct splice_stats *stats;
	struct walk_reuse hooks;

	/* Files that wait: files[taken..decided) can be encoded, files[decided..count) are yet to
	 * be decided on. */
	struct reuse reuse;
	struct reuse_file *files;
	size_t taken, decided, count, capacity;
	uint8_t *chunk_states; /* of the old index's chunks */

	/* What is encoded. */
	struct reuse_run run;
	struct pending *pending;
	size_t pending_count, pending_capacity;
	uint64_t position; /* of the payload stream: behind what was written and injected */
	uint8_t marker[PXAR_HEADER_SIZE];
	bool has_begun;
	bool holds_marker; /* the start marker is not written yet */
	bool drops_tail; /* the old tail marker is the new one */
};

/* --- files that wait --- */

static int dir_begin(void *arg, const char *name, struct err *err)
{
	struct splice *s = arg;

	(void)err;
	change_dir_begin(s->change, name);
	return 0;
}

static int dir_end(void *arg, struct err *err)
{
	struct splice *s = arg;

	(void)err;
	change_dir_end(s->change);
	return 0;
}

/* Content between the markers. */
static bool is_inside(const struct splice *s, uint64_t begin, uint64_t content_size)
{
	uint64_t size = s->old->size;

	return size >= 3 * PXAR_HEADER_SIZE && begin >= PXAR_HEADER_SIZE &&
	       begin <= size - 2 * PXAR_HEADER_SIZE &&
	       content_size <= size - 2 * PXAR_HEADER_SIZE - begin;
}

static int find(void *arg, const char *name, const struct stat *st, uint64_t *old_offset,
		struct err *err)
{
	struct splice *s = arg;

	(void)err;
	return change_find(s->change, name, st, old_offset) &&
	       is_inside(s, *old_offset, (uint64_t)st->st_size);
}

static void check_states(const struct splice *s, struct reuse_file *f)
{
	for (size_t i = f->chunk_first; f->is_unchanged && i <= f->chunk_last; i++)
		f->is_unchanged = s->chunk_states[i] != CHUNK_GONE;
}

/* Room for one more, at the end of files that are still needed. */
static int make_room(struct splice *s, struct err *err)
{
	if (s->count < s->capacity)
		return 0;
	if (s->taken >= s->capacity / 2 && s->taken) {
		memmove(s->files, s->files + s->taken, (s->count - s->taken) * sizeof(*s->files));
		s->decided -= s->taken;
		s->count -= s->taken;
		s->taken = 0;
		return 0;
	}
	if (grow(&s->files, &s->capacity, s->count + 1, SIZE_MAX, sizeof(*s->files)) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

static int add(void *arg, uint64_t content_size, bool is_unchanged, uint64_t old_offset,
	       struct err *err)
{
	struct splice *s = arg;
	int rc = make_room(s, err);
	struct reuse_file *f;

	if (rc < 0)
		return rc;
	f = &s->files[s->count++];
	*f = (struct reuse_file){ .size = PXAR_HEADER_SIZE + content_size };
	if (!is_unchanged)
		return 0;
	f->old_begin = old_offset;
	if (reuse_locate(&s->reuse, f))
		check_states(s, f);
	return 0;
}

static int check_chunk(struct splice *s, size_t i, bool *lost, struct err *err)
{
	struct err why = ERR_INIT;
	struct digest digest;
	uint64_t begin, end;
	int rc;

	if (s->chunk_states[i] != CHUNK_UNKNOWN)
		return 0;
	didx_chunk(s->old, i, &begin, &end, &digest);
	rc = upload_reuse_chunk(s->payload, &digest, &why);
	s->chunk_states[i] = rc == -ENOENT ? CHUNK_GONE : CHUNK_THERE;
	if (rc == -ENOENT) {
		s->stats->gone_chunks++;
		*lost = true;
		return 0;
	}
	if (rc < 0)
		*err = why;
	return rc;
}

/* Make sure of the chunks of the first `count` undecided files; `*lost`: some are gone, so that
 * the decision must be made again. */
static int check_chunks(struct splice *s, size_t count, bool *lost, struct err *err)
{
	struct reuse_file *files = s->files + s->decided;
	int rc = 0;

	*lost = false;
	for (size_t i = 0; i < count && rc == 0; i++)
		for (size_t n = files[i].chunk_first;
		     files[i].splice && n <= files[i].chunk_last && rc == 0; n++)
			rc = check_chunk(s, n, lost, err);
	for (size_t i = s->decided; *lost && i < s->count; i++)
		if (s->files[i].is_unchanged)
			check_states(s, &s->files[i]);
	return rc;
}

static int decide(void *arg, bool is_last, size_t *count, struct err *err)
{
	struct splice *s = arg;
	size_t waiting = s->count - s->decided, part = is_last ? waiting : (waiting + 1) / 2;
	bool lost = true;

	while (lost) {
		int rc;

		reuse_decide(&s->reuse, s->files + s->decided, waiting, !is_last);
		rc = check_chunks(s, part, &lost, err);
		if (rc < 0)
			return rc;
	}
	reuse_commit(&s->reuse, s->files + s->decided, part);
	s->decided += part;
	*count = part;
	return 0;
}

/* --- chunks on their way --- */

static int write_marker(struct splice *s, struct err *err)
{
	if (!s->holds_marker)
		return 0;
	s->holds_marker = false;
	s->position += sizeof(s->marker);
	return upload_write(s->payload, s->marker, sizeof(s->marker), err);
}

int splice_write(void *splice, const void *data, size_t size, struct err *err)
{
	struct splice *s = splice;
	int rc;

	if (!s->has_begun) {
		assert(size == sizeof(s->marker));
		memcpy(s->marker, data, size);
		s->has_begun = s->holds_marker = true;
		return 0;
	}
	if (s->drops_tail)
		return 0;
	assert(!s->pending_count);
	rc = write_marker(s, err);
	s->position += size;
	return rc < 0 ? rc : upload_write(s->payload, data, size, err);
}

static void count_pending(struct splice *s, const struct pending *p)
{
	s->stats->padding_bytes += p->chunk.size - p->used;
	s->stats->partial_chunks += p->used < p->chunk.size;
}

/* Inject all but the last `kept` of what is pending. */
static int inject(struct splice *s, struct encoder *e, size_t kept, struct err *err)
{
	size_t count = s->pending_count - kept;
	uint64_t at = encoder_payload_offset(e);
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++) {
		rc = upload_inject(s->payload, &s->pending[i].chunk, 1, err);
		s->position += s->pending[i].chunk.size;
		count_pending(s, &s->pending[i]);
	}
	if (rc < 0 || !count)
		return rc;
	memmove(s->pending, s->pending + count, kept * sizeof(*s->pending));
	s->pending_count = kept;
	return encoder_payload_advance(e, s->position - at, err);
}

static int append_chunk(struct splice *s, size_t number, struct err *err)
{
	struct pending *p;
	uint64_t begin, end;

	if (grow(&s->pending, &s->pending_capacity, s->pending_count + 1, SIZE_MAX,
		 sizeof(*s->pending)) < 0)
		return err_set(err, ENOMEM, "out of memory");
	p = &s->pending[s->pending_count++];
	*p = (struct pending){ .number = number };
	didx_chunk(s->old, number, &begin, &end, &p->chunk.digest);
	p->chunk.size = (size_t)(end - begin);
	return 0;
}

/* At the very beginning: the start marker is the old one, or it is written. */
static int begin_stream(struct splice *s, size_t chunk, struct err *err)
{
	if (!s->holds_marker)
		return 0;
	if (chunk != 0)
		return write_marker(s, err);
	s->holds_marker = false;
	s->pending[0].used += sizeof(s->marker);
	return 0;
}

static void count_used(struct splice *s, const struct reuse_file *f)
{
	uint64_t file_end = f->old_begin + f->size;

	for (size_t i = 0; i < s->pending_count; i++) {
		struct pending *p = &s->pending[i];
		struct digest digest;
		uint64_t begin, end;

		didx_chunk(s->old, p->number, &begin, &end, &digest);
		begin = begin > f->old_begin ? begin : f->old_begin;
		end = end < file_end ? end : file_end;
		if (begin < end)
			p->used += (size_t)(end - begin);
	}
}

/* The first pending chunk is that in which the file begins; the others hold the rest of it. */
static int place(struct splice *s, struct encoder *e, const struct reuse_file *f,
		 uint64_t *payload_offset, struct err *err)
{
	const bool goes_on = reuse_continues(&s->run, f);
	int rc = inject(s, e, goes_on, err);

	for (size_t i = f->chunk_first + goes_on; i <= f->chunk_last && rc == 0; i++)
		rc = append_chunk(s, i, err);
	if (rc == 0)
		rc = begin_stream(s, f->chunk_first, err);
	if (rc < 0)
		return rc;
	count_used(s, f);
	reuse_run_take(&s->run, f);
	*payload_offset = s->position + (f->old_begin - f->chunks_begin);
	return 1;
}

static int take(void *arg, struct encoder *e, uint64_t *payload_offset, struct err *err)
{
	struct splice *s = arg;
	const struct reuse_file *f = &s->files[s->taken];

	assert(s->taken < s->decided);
	s->taken++;
	return f->splice ? place(s, e, f, payload_offset, err) : 0;
}

static int before_payload(void *arg, struct encoder *e, struct err *err)
{
	struct splice *s = arg;

	s->run.is_open = false;
	return inject(s, e, 0, err);
}

static int finish(void *arg, struct encoder *e, struct err *err)
{
	struct splice *s = arg;

	if (s->pending_count) {
		struct pending *last = &s->pending[s->pending_count - 1];

		s->drops_tail = last->number == s->old->count - 1;
		last->used += s->drops_tail ? PXAR_HEADER_SIZE : 0;
	}
	return inject(s, e, 0, err);
}

/* --- begin and end --- */

int splice_new(struct splice **out, const struct splice_params *params, struct err *err)
{
	AUTO(splice) struct splice *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, ENOMEM, "out of memory");
	s->change = params->change;
	s->old = params->old;
	s->payload = params->payload;
	s->stats = params->stats;
	s->hooks = (struct walk_reuse){ dir_begin, dir_end, find, add, decide,
					take, before_payload, finish, s };
	reuse_init(&s->reuse, s->old, params->padding_percent_max);
	s->chunk_states = calloc(s->old->count, 1);
	if (!s->chunk_states)
		return err_set(err, ENOMEM, "out of memory");
	*out = steal(&s);
	return 0;
}

void splice_free(struct splice *s)
{
	if (!s)
		return;
	free(s->files);
	free(s->pending);
	free(s->chunk_states);
	free(s);
}

const struct walk_reuse *splice_hooks(struct splice *s)
{
	return &s->hooks;
}
