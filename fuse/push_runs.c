/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/push_runs.h"

enum {
	/* In a window of this size or more one file is left out, this far in it. */
	LEAVE_OUT_MIN = 64,
	LEAVE_OUT_NUMERATOR = 3,
	LEAVE_OUT_DENOMINATOR = 4,
};

static struct push_run *find(struct push_runs *r, const struct push_file *file)
{
	for (int i = 0; i < PUSH_RUNS_MAX; i++) {
		struct push_run *run = &r->runs[i];

		if (run->used && run->slot == file->slot && file->begin >= run->base &&
		    file->begin <= run->next + PUSH_NEAR_SIZE)
			return run;
	}
	return NULL;
}

/* The one that was idle for longest gives its place; none when all are busy. */
static void begin_run(struct push_runs *r, const struct push_file *file)
{
	struct push_run *oldest = NULL;

	for (int i = 0; i < PUSH_RUNS_MAX; i++)
		if (!r->runs[i].busy && (!oldest || r->runs[i].used < oldest->used))
			oldest = &r->runs[i];
	if (oldest)
		*oldest = (struct push_run){ .slot = file->slot,
					     .base = file->begin,
					     .next = file->end,
					     .read = file->end,
					     .last_entry = file->entry_offset,
					     .used = r->clock };
}

static unsigned next_window(const struct push_runs *r, const struct push_run *run)
{
	unsigned window = run->window ? run->window * 2 : PUSH_WINDOW_MIN;

	return window < r->window_max ? window : r->window_max;
}

struct push_run *push_runs_saw(struct push_runs *r, const struct push_file *file,
			       bool *in_order)
{
	struct push_run *run = find(r, file);
	bool caught_up, told;

	r->clock++;
	*in_order = run && file->size <= PUSH_FILE_SIZE_MAX;
	if (!run) {
		begin_run(r, file);
		return NULL;
	}
	run->used = r->clock;
	caught_up = file->begin >= run->next;
	told = run->left_out && file->begin == run->left_out;
	if (run->read < file->end)
		run->read = file->end;
	if (caught_up) {
		run->next = file->end;
		run->last_entry = file->entry_offset;
	}
	if (run->busy || !(caught_up || told))
		return NULL;
	run->window = next_window(r, run);
	run->base = file->begin;
	run->left_out = 0;
	run->count = 0;
	run->bytes = 0;
	run->busy = true;
	return run;
}

static bool is_left_out(const struct push_run *run)
{
	return run->window >= LEAVE_OUT_MIN &&
	       run->count == run->window / LEAVE_OUT_DENOMINATOR * LEAVE_OUT_NUMERATOR;
}

enum push_verdict push_runs_next(struct push_run *run, const struct push_file *file)
{
	if (file->begin < run->read)
		return PUSH_NOT;
	if (file->begin > run->next + PUSH_NEAR_SIZE ||
	    file->end > run->next + 2 * PUSH_NEAR_SIZE || run->count == run->window ||
	    run->bytes + file->size > PUSH_WINDOW_BYTES_MAX)
		return PUSH_ENOUGH;
	run->next = file->end;
	if (file->size == 0 || file->size > PUSH_FILE_SIZE_MAX)
		return PUSH_NOT;
	run->count++;
	if (is_left_out(run)) {
		run->left_out = file->begin;
		return PUSH_NOT;
	}
	run->bytes += file->size;
	run->last_entry = file->entry_offset;
	return PUSH_IT;
}
