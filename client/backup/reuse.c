/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/reuse.h"

#include "archive/base/ckd.h"
#include "archive/pxar.h"

#include <math.h>

enum {
	/* Opening a file costs about as much as reading so many bytes of it. */
	OPEN_COST = 4096,
	BISECTIONS = 24,
	/* The markers in the first and the last old chunk; nobody can do anything about them. */
	PADDING_FREE = 2 * PXAR_HEADER_SIZE,
};

/* Bytes read that one byte of padding is worth.  Padding costs no space at first: what it
 * keeps alive is stored already.  It costs who reads the archive, and whoever comes when the
 * bound is reached. */
static const double PRICE_MIN = 0.125;
static const double PRICE_MAX = 0x1p40;

void reuse_init(struct reuse *r, const struct didx *old, unsigned padding_percent_max)
{
	*r = (struct reuse){
		.old = old,
		.padding_percent_max = padding_percent_max,
		.size = 2 * PXAR_HEADER_SIZE,
	};
}

bool reuse_locate(const struct reuse *r, struct reuse_file *f)
{
	uint64_t end, unused;
	struct digest digest;

	f->is_unchanged = false;
	if (!f->size || ckd_add(&end, f->old_begin, f->size) || end > r->old->size)
		return false;
	if (didx_find(r->old, f->old_begin, &f->chunk_first) < 0 ||
	    didx_find(r->old, end - 1, &f->chunk_last) < 0)
		return false;
	didx_chunk(r->old, f->chunk_first, &f->chunks_begin, &unused, &digest);
	didx_chunk(r->old, f->chunk_last, &unused, &f->chunks_end, &digest);
	f->is_unchanged = true;
	return true;
}

bool reuse_continues(const struct reuse_run *run, const struct reuse_file *f)
{
	return run->is_open && f->chunk_first == run->chunk_last && f->old_begin >= run->old_end;
}

void reuse_run_take(struct reuse_run *run, const struct reuse_file *f)
{
	*run = (struct reuse_run){
		.is_open = true,
		.chunk_last = f->chunk_last,
		.old_end = f->old_begin + f->size,
		.chunks_end = f->chunks_end,
	};
}

/* What the padding grows by when `f` is spliced in; negative when it lies in a chunk that is
 * there already. */
static int64_t padding_of(const struct reuse_run *run, const struct reuse_file *f)
{
	uint64_t begin = reuse_continues(run, f) ? run->chunks_end : f->chunks_begin;

	return (int64_t)(f->chunks_end - begin) - (int64_t)f->size;
}

/* The cheapest way to the file at hand, by what becomes of it. */
struct cost {
	double read, splice;
};

static struct cost step(const struct cost *before, const struct reuse_run *run,
			struct reuse_file *f, double price)
{
	static const struct reuse_run closed = { 0 };
	struct cost after = { .splice = INFINITY };
	double fresh, on;

	f->from_splice[false] = before->splice < before->read;
	after.read = f->from_splice[false] ? before->splice : before->read;
	if (!f->is_unchanged)
		return after;
	after.read += (double)f->size + OPEN_COST;

	on = before->splice + price * (double)padding_of(run, f);
	fresh = before->read + price * (double)padding_of(&closed, f);
	f->from_splice[true] = on <= fresh;
	after.splice = f->from_splice[true] ? on : fresh;
	return after;
}

/* What of the last chunk is still free for the files to come. */
static uint64_t rest_of(const struct reuse_run *run)
{
	return run->is_open ? run->chunks_end - run->old_end : 0;
}

/* The cheapest choice at that price. */
static void choose(const struct reuse *r, struct reuse_file *files, size_t count, bool more,
		   double price)
{
	struct reuse_run run = r->run;
	struct cost cost = { .read = run.is_open ? INFINITY : 0,
			     .splice = run.is_open ? 0 : INFINITY };
	bool splice;

	for (size_t i = 0; i < count; i++) {
		cost = step(&cost, &run, &files[i], price);
		run.is_open = false;
		if (files[i].is_unchanged)
			reuse_run_take(&run, &files[i]);
	}
	if (more)
		cost.splice -= price * (double)rest_of(&run);
	splice = cost.splice <= cost.read;
	for (size_t i = count; i-- > 0;) {
		files[i].splice = splice;
		splice = files[i].from_splice[splice];
	}
}

static bool is_within_bound(const struct reuse *r, const struct reuse_file *files, size_t count,
			    bool more)
{
	struct reuse after = *r;

	reuse_commit(&after, files, count);
	after.padding -= PADDING_FREE;
	if (more)
		after.padding -= (int64_t)rest_of(&after.run);
	return after.padding <= 0 || (unsigned __int128)after.padding * 100 <=
					     (unsigned __int128)after.size * r->padding_percent_max;
}

static bool try_price(const struct reuse *r, struct reuse_file *files, size_t count, bool more,
		      double price)
{
	choose(r, files, count, more, price);
	return is_within_bound(r, files, count, more);
}

void reuse_decide(const struct reuse *r, struct reuse_file *files, size_t count, bool more)
{
	double low = PRICE_MIN, high = PRICE_MIN;

	/* No second rest before the first one is made up for. */
	more = more && is_within_bound(r, NULL, 0, true);
	if (try_price(r, files, count, more, low))
		return;
	while (!try_price(r, files, count, more, high) && high < PRICE_MAX) {
		low = high;
		high *= 4;
	}
	for (int i = 0; i < BISECTIONS; i++) {
		double middle = (low + high) / 2;

		if (try_price(r, files, count, more, middle))
			high = middle;
		else
			low = middle;
	}
	choose(r, files, count, more, high);
}

void reuse_commit(struct reuse *r, const struct reuse_file *files, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct reuse_file *f = &files[i];
		int64_t padding = f->splice ? padding_of(&r->run, f) : 0;

		r->padding += padding;
		r->size += f->size + (uint64_t)padding;
		r->run.is_open = false;
		if (f->splice)
			reuse_run_take(&r->run, f);
	}
}
