/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_pbs_upload.h"

#include "archive/blob.h"
#include "archive/chunker.h"
#include "archive/fidx.h"

#include <inttypes.h>
#include <string.h>

enum {
	PATH_SIZE = 256,
	ANSWER_SIZE_MAX = 4096,
	STORED_SIZE_MIN = 13,
	CAPACITY_UNIT = 64 << 10,
	SPARE_BYTES_MAX = 16 << 20,
};

/* A chunk that was put. */
struct upload_call {
	struct h2_call call;
	struct repo_pbs_upload *upload;
	struct upload_call *previous, *next;
	struct repo_pbs_target *target; /* NULL: none takes it yet, so it is not sent */
	uint64_t number;
	struct digest digest;
	size_t plain_size, size, capacity; /* of data */
	struct wbuf answer;
	char path[PATH_SIZE];
	uint8_t data[];
};

/* --- their memory, which is used again while it is warm: new one costs more than the copy into it --- */

static bool fits(const struct upload_call *c, size_t size)
{
	return c->capacity >= size && c->capacity / 2 <= size + CAPACITY_UNIT;
}

static struct upload_call *take_spare(struct repo_pbs_upload *u, size_t size)
{
	struct upload_call **at, *c;

	pthread_mutex_lock(&u->spare_lock);
	for (at = &u->spare; *at && !fits(*at, size); at = &(*at)->next)
		continue;
	c = *at;
	if (c) {
		*at = c->next;
		u->spare_bytes -= c->capacity;
	}
	pthread_mutex_unlock(&u->spare_lock);
	return c;
}

static struct upload_call *new_call(struct repo_pbs_upload *u, size_t size)
{
	size_t capacity = (size + CAPACITY_UNIT - 1) / CAPACITY_UNIT * CAPACITY_UNIT;
	struct upload_call *c = take_spare(u, size);

	if (!c) {
		c = malloc(sizeof(*c) + capacity);
		if (c)
			c->capacity = capacity;
	}
	return c;
}

static void free_call(struct upload_call *c)
{
	struct repo_pbs_upload *u = c->upload;
	bool is_kept;

	wbuf_release(&c->answer);
	pthread_mutex_lock(&u->spare_lock);
	is_kept = u->spare_bytes + c->capacity <= SPARE_BYTES_MAX;
	if (is_kept) {
		c->next = u->spare;
		u->spare = c;
		u->spare_bytes += c->capacity;
	}
	pthread_mutex_unlock(&u->spare_lock);
	if (!is_kept)
		free(c);
}

static void free_spare(struct repo_pbs_upload *u)
{
	while (u->spare) {
		struct upload_call *c = u->spare;

		u->spare = c->next;
		free(c);
	}
}

/* --- life --- */

int repo_pbs_upload_init(struct repo_pbs_upload *u, struct err *err)
{
	*u = (struct repo_pbs_upload){ .next_number = 0 };
	pthread_mutex_init(&u->lock, NULL);
	pthread_mutex_init(&u->spare_lock, NULL);
	pthread_cond_init(&u->changed, NULL);
	return digest_set_init(&u->known, err);
}

void repo_pbs_upload_release(struct repo_pbs_upload *u)
{
	while (u->first) { /* what no index took */
		struct upload_call *c = u->first;

		u->first = c->next;
		free_call(c);
	}
	free_spare(u);
	digest_set_release(&u->known);
	pthread_cond_destroy(&u->changed);
	pthread_mutex_destroy(&u->spare_lock);
	pthread_mutex_destroy(&u->lock);
}

/* --- with the lock held --- */

static void fail(struct repo_pbs_upload *u, int rc, const struct err *why)
{
	if (u->rc == 0) {
		u->rc = rc;
		u->why = *why;
		h2_conn_abort(u->conn, -ECANCELED); /* the session is worth nothing any more */
	}
	pthread_cond_broadcast(&u->changed);
}

static int check_failed(const struct repo_pbs_upload *u, struct err *err)
{
	if (u->rc < 0 && err)
		*err = u->why;
	return u->rc;
}

static void unlink_call(struct repo_pbs_upload *u, struct upload_call *c)
{
	*(c->previous ? &c->previous->next : &u->first) = c->next;
	*(c->next ? &c->next->previous : &u->last) = c->previous;
	u->bytes -= c->size;
	u->count--;
}

static void link_call(struct repo_pbs_upload *u, struct upload_call *c)
{
	c->number = u->next_number++;
	c->previous = u->last;
	*(u->last ? &u->last->next : &u->first) = c;
	u->last = c;
	u->bytes += c->size;
	u->count++;
}

/* An image takes whole chunks, and once the shorter one at its end. */
static bool takes(struct repo_pbs_target *t, size_t plain_size)
{
	if (t->is_closing)
		return false;
	if (t->image_size == 0 || plain_size == FIDX_CHUNK_SIZE)
		return true;
	if (t->took_rest || plain_size != t->image_size % FIDX_CHUNK_SIZE)
		return false;
	t->took_rest = true;
	return true;
}

static struct repo_pbs_target *choose(struct repo_pbs_upload *u, size_t plain_size)
{
	struct repo_pbs_target *t;

	for (t = u->targets; t; t = t->next)
		if (t->image_size == 0 && takes(t, plain_size))
			return t;
	for (t = u->targets; t; t = t->next)
		if (t->image_size != 0 && takes(t, plain_size))
			return t;
	return NULL;
}

/* --- sending --- */

static void on_answer(struct h2_call *call)
{
	struct upload_call *c = call->arg;
	struct repo_pbs_upload *u = c->upload;
	struct err why = ERR_INIT;
	int rc = call->rc;

	if (rc < 0)
		pbs_session_failed(u->conn, call, rc, &why);
	else if (call->status != 200)
		rc = pbs_session_refused(call, &why);
	pthread_mutex_lock(&u->lock);
	if (rc < 0)
		fail(u, rc, &why);
	unlink_call(u, c);
	c->target->in_flight--;
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
	free_call(c);
}

/* With the lock held: it gets its answer on another thread, and may be gone after this. */
static void send_call(struct upload_call *c, struct repo_pbs_target *t)
{
	struct repo_pbs_upload *u = c->upload;
	char hex[DIGEST_HEX_SIZE];
	int rc;

	digest_to_hex(&c->digest, hex);
	snprintf(c->path, sizeof(c->path),
		 "/%s_chunk?wid=%" PRId64 "&digest=%s&size=%zu&encoded-size=%zu",
		 t->image_size ? "fixed" : "dynamic", t->wid, hex, c->plain_size, c->size);
	wbuf_init(&c->answer, ANSWER_SIZE_MAX);
	c->call = (struct h2_call){ .method = "POST",
				    .path = c->path,
				    .content_type = "application/octet-stream",
				    .body = c->data,
				    .body_size = c->size,
				    .reply = &c->answer,
				    .done = on_answer,
				    .arg = c };
	c->target = t;
	t->in_flight++;
	rc = h2_conn_submit(u->conn, &c->call);
	if (rc < 0) {
		struct err why = ERR_INIT;

		pbs_session_failed(u->conn, &c->call, rc, &why);
		fail(u, rc, &why);
		unlink_call(u, c);
		t->in_flight--;
		free_call(c);
	}
}

/* --- targets --- */

void repo_pbs_upload_add_target(struct repo_pbs_upload *u, struct repo_pbs_target *t)
{
	struct upload_call *c, *next;

	pthread_mutex_lock(&u->lock);
	t->next = u->targets;
	u->targets = t;
	for (c = u->first; c; c = next) {
		struct repo_pbs_target *taker = c->target ? NULL : choose(u, c->plain_size);

		next = c->next;
		if (taker)
			send_call(c, taker);
	}
	pthread_mutex_unlock(&u->lock);
}

int repo_pbs_upload_end_target(struct repo_pbs_upload *u, struct repo_pbs_target *t,
			       struct err *err)
{
	int rc;

	pthread_mutex_lock(&u->lock);
	t->is_closing = true;
	while (t->in_flight > 0 && u->rc == 0)
		pthread_cond_wait(&u->changed, &u->lock);
	rc = check_failed(u, err);
	pthread_mutex_unlock(&u->lock);
	return rc;
}

void repo_pbs_upload_drop_target(struct repo_pbs_upload *u, struct repo_pbs_target *t)
{
	struct repo_pbs_target **at = &u->targets;

	pthread_mutex_lock(&u->lock);
	while (*at && *at != t)
		at = &(*at)->next;
	if (*at)
		*at = t->next;
	t->is_closing = true;
	while (t->in_flight > 0) /* they have failed, or fail soon: nobody ends them with success */
		pthread_cond_wait(&u->changed, &u->lock);
	pthread_mutex_unlock(&u->lock);
}

/* --- chunks --- */

static int check_chunk(const void *data, size_t size, size_t plain_size, struct err *err)
{
	enum blob_kind kind;

	if (size < STORED_SIZE_MIN || size > BLOB_ENCODED_SIZE_MAX(CHUNK_SIZE_MAX) ||
	    plain_size < 1 || plain_size > CHUNK_SIZE_MAX)
		return err_set(err, EINVAL, "a chunk cannot have %zu bytes, %zu stored", plain_size,
			       size);
	return blob_kind(data, size, &kind, err);
}

/* Nothing is on its way: what is there waits for an index. */
static bool is_stuck(const struct repo_pbs_upload *u)
{
	for (const struct upload_call *c = u->first; c; c = c->next)
		if (c->target)
			return false;
	return true;
}

/* With the lock held: room for it, or the server knows it (1) by now. */
static int wait_for_room(struct repo_pbs_upload *u, const struct digest *digest, size_t size,
			 struct err *err)
{
	while (u->rc == 0 && !digest_set_has(&u->known, digest) && u->count > 0 &&
	       (u->bytes + size > REPO_PBS_UPLOAD_BYTES_MAX ||
		u->count >= REPO_PBS_UPLOAD_COUNT_MAX)) {
		if (is_stuck(u))
			return err_set(err, EINVAL, "chunks are put, but no index is open that takes them");
		pthread_cond_wait(&u->changed, &u->lock);
	}
	if (u->rc < 0)
		return check_failed(u, err);
	return digest_set_has(&u->known, digest);
}

static struct upload_call *copy_chunk(struct repo_pbs_upload *u, const struct digest *digest,
				      const void *data, size_t size, size_t plain_size)
{
	struct upload_call *c = new_call(u, size);

	if (!c)
		return NULL;
	*c = (struct upload_call){ .upload = u, .digest = *digest, .size = size,
				   .plain_size = plain_size, .capacity = c->capacity };
	memcpy(c->data, data, size);
	return c;
}

int repo_pbs_upload_put(struct repo_pbs_upload *u, const struct digest *digest, const void *data,
			size_t size, size_t plain_size, bool *duplicate, struct err *err)
{
	struct upload_call *c;
	struct repo_pbs_target *t;
	int rc = check_chunk(data, size, plain_size, err);

	if (rc < 0)
		return rc;
	c = copy_chunk(u, digest, data, size, plain_size);
	if (!c)
		return err_set(err, ENOMEM, "out of memory");
	pthread_mutex_lock(&u->lock);
	rc = wait_for_room(u, digest, size, err);
	if (rc == 0 && digest_set_add(&u->known, digest) < 0)
		rc = err_set(err, ENOMEM, "out of memory");
	if (rc == 0) {
		link_call(u, c);
		t = choose(u, plain_size);
		if (t)
			send_call(steal(&c), t);
		else
			c = NULL; /* waits in the list */
	}
	pthread_mutex_unlock(&u->lock);
	if (c)
		free_call(c);
	if (rc >= 0 && duplicate)
		*duplicate = rc == 1;
	return rc < 0 ? rc : 0;
}

int repo_pbs_upload_know(struct repo_pbs_upload *u, const struct digest *digest)
{
	int rc;

	pthread_mutex_lock(&u->lock);
	rc = digest_set_add(&u->known, digest);
	pthread_mutex_unlock(&u->lock);
	return rc;
}

bool repo_pbs_upload_knows(struct repo_pbs_upload *u, const struct digest *digest)
{
	bool knows;

	pthread_mutex_lock(&u->lock);
	knows = digest_set_has(&u->known, digest);
	pthread_mutex_unlock(&u->lock);
	return knows;
}

int repo_pbs_upload_wait(struct repo_pbs_upload *u, struct err *err)
{
	uint64_t end;
	int rc = 0;

	pthread_mutex_lock(&u->lock);
	end = u->next_number;
	while (rc == 0 && u->rc == 0 && u->first && u->first->number < end) {
		if (!u->first->target)
			rc = err_set(err, EINVAL, "a chunk of %zu bytes fits into no index that is open",
				     u->first->plain_size);
		else
			pthread_cond_wait(&u->changed, &u->lock);
	}
	if (rc == 0)
		rc = check_failed(u, err);
	pthread_mutex_unlock(&u->lock);
	return rc;
}

int repo_pbs_upload_failed(struct repo_pbs_upload *u, struct err *err)
{
	int rc;

	pthread_mutex_lock(&u->lock);
	rc = check_failed(u, err);
	pthread_mutex_unlock(&u->lock);
	return rc;
}
