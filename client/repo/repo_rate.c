/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_rate.h"

#include "client/base/clock.h"
#include "client/base/token_bucket.h"

#include <stdlib.h>
#include <time.h>

enum { STOP_POLL_NS = 100000000 };

struct limited {
	struct repo_writer base; /* first: the interface casts */
	struct repo_writer_ops ops; /* those of the inner one, but for what is below */
	struct repo_writer *inner;
	const atomic_bool *stop;
	struct token_bucket sent, received;
};

static struct limited *self(struct repo_writer *w)
{
	return (struct limited *)w;
}

static int take(struct limited *l, struct token_bucket *bucket, uint64_t bytes, struct err *err)
{
	const uint64_t until = token_bucket_take(bucket, bytes, clock_now_ns());

	for (uint64_t now = clock_now_ns(); now < until; now = clock_now_ns()) {
		uint64_t wait = until - now < STOP_POLL_NS ? until - now : STOP_POLL_NS;
		const struct timespec t = { .tv_nsec = (long)wait };

		if (l->stop && atomic_load_explicit(l->stop, memory_order_relaxed))
			return err_set(err, ECANCELED, "stopped");
		nanosleep(&t, NULL);
	}
	return 0;
}

static const struct snapshot_name *limited_previous(struct repo_writer *w)
{
	return repo_writer_previous(self(w)->inner);
}

static int limited_get_previous(struct repo_writer *w, const char *name, struct repo_file *out,
				struct err *err)
{
	struct repo_file file = { 0 };
	int rc = repo_writer_get_previous(self(w)->inner, name, &file, err);

	if (rc == 0)
		rc = take(self(w), &self(w)->received, file.size, err);
	if (rc < 0) {
		repo_file_release(&file);
		return rc;
	}
	*out = file;
	return 0;
}

static int limited_reuse_chunk(struct repo_writer *w, const struct digest *digest,
			       struct err *err)
{
	return repo_writer_reuse_chunk(self(w)->inner, digest, err);
}

static void limited_distrust(struct repo_writer *w)
{
	repo_writer_distrust(self(w)->inner);
}

static int limited_put_chunk(struct repo_writer *w, const struct digest *digest,
			     const void *data, size_t size, size_t plain_size, bool *duplicate,
			     struct err *err)
{
	int rc = take(self(w), &self(w)->sent, size, err);

	return rc < 0 ? rc : repo_writer_put_chunk(self(w)->inner, digest, data, size, plain_size,
						   duplicate, err);
}

static int limited_index_open(struct repo_writer *w, const char *name, uint64_t image_size,
			      struct repo_index **out, struct err *err)
{
	struct repo_writer *inner = self(w)->inner;

	return inner->ops->index_open(inner, name, image_size, out, err);
}

static int limited_put_blob(struct repo_writer *w, const char *name, const void *data,
			    size_t size, struct err *err)
{
	int rc = take(self(w), &self(w)->sent, size, err);

	return rc < 0 ? rc : repo_writer_put_blob(self(w)->inner, name, data, size, err);
}

static int limited_finish(struct repo_writer *w, const void *manifest_blob, size_t size,
			  struct err *err)
{
	int rc = take(self(w), &self(w)->sent, size, err);

	return rc < 0 ? rc : repo_writer_finish(self(w)->inner, manifest_blob, size, err);
}

static void limited_free(struct repo_writer *w)
{
	struct limited *l = self(w);

	repo_writer_free(l->inner);
	token_bucket_release(&l->sent);
	token_bucket_release(&l->received);
	free(l);
}

int repo_rate_limit(struct repo_writer **w, const struct repo_rate *rate, struct err *err)
{
	struct limited *l = calloc(1, sizeof(*l));

	if (!l)
		return err_set(err, ENOMEM, "out of memory");
	/* What is done to an index needs no session: those stay the inner one's own. */
	l->ops = (struct repo_writer_ops){
		.previous = limited_previous,
		.get_previous = limited_get_previous,
		.reuse_chunk = limited_reuse_chunk,
		.distrust = (*w)->ops->distrust ? limited_distrust : NULL,
		.put_chunk = limited_put_chunk,
		.index_open = limited_index_open,
		.index_add = (*w)->ops->index_add,
		.index_close = (*w)->ops->index_close,
		.put_blob = limited_put_blob,
		.finish = limited_finish,
		.free = limited_free,
	};
	l->base.ops = &l->ops;
	l->inner = *w;
	l->stop = rate->stop;
	token_bucket_init(&l->sent, rate->rate, rate->burst, clock_now_ns());
	token_bucket_init(&l->received, rate->rate, rate->burst, clock_now_ns());
	*w = &l->base;
	return 0;
}
