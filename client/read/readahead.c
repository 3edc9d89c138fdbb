/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/readahead.h"

enum {
	PROVEN_MATCHES = 2,
	/* A reader may go on this far before or behind where it was: the kernel's own requests
	 * overtake each other, and not every file of a folder is read. */
	NEAR_SIZE = 1 << 20,
	BACK_SIZE = 4 << 20,
	/* For each byte read a reader may leave out this many, and save that up. */
	SKIP_FACTOR = 4,
	CREDIT_MAX = 16 << 20,
	/* Bytes asked ahead for each byte read so far. */
	GROWTH = 4,
	/* A reader that did nothing for so many reads of all has no share of the depth. */
	ACTIVE_READS = 64,
	/* Asking is worth while from this part of the depth on. */
	STEP_SHARE = 4,
	/* What is asked for, over what is being worked on: the next must be at hand. */
	SLACK_FACTOR = 2,
	/* Chunks that what is known of the costs reaches back. */
	MEMORY = 8,
	WAIT_US_MAX = 60 * 1000000,
};

void readahead_init(struct readahead *ra, const struct readahead_params *params)
{
	*ra = (struct readahead){ .params = *params };
	pthread_mutex_init(&ra->lock, NULL);
}

void readahead_release(struct readahead *ra)
{
	pthread_mutex_destroy(&ra->lock);
}

uint64_t readahead_depth(const struct readahead_params *params,
			 const struct readahead_costs *costs)
{
	uint64_t work_us = costs->work_us > 0 ? costs->work_us : 1;
	uint64_t wait_us = costs->wait_us < WAIT_US_MAX ? costs->wait_us : WAIT_US_MAX;
	uint64_t count = SLACK_FACTOR * params->cpu_count * (work_us + wait_us) / work_us;

	if (params->bytes_max < params->chunk_size)
		return 0;
	if (count > READAHEAD_CHUNKS_MAX)
		count = READAHEAD_CHUNKS_MAX;
	if (count > params->bytes_max / params->chunk_size)
		return params->bytes_max;
	return count * params->chunk_size;
}

static uint64_t average(uint64_t old, uint64_t sample)
{
	return old == 0 ? sample : (old * (MEMORY - 1) + sample) / MEMORY;
}

void readahead_learn(struct readahead *ra, const struct readahead_costs *costs)
{
	pthread_mutex_lock(&ra->lock);
	ra->costs.wait_us = average(ra->costs.wait_us, costs->wait_us);
	ra->costs.work_us = average(ra->costs.work_us, costs->work_us);
	pthread_mutex_unlock(&ra->lock);
}

/* --- readers; under the lock --- */

static bool goes_on(const struct readahead_reader *r, uint64_t begin)
{
	uint64_t first = r->end > BACK_SIZE ? r->end - BACK_SIZE : 0;

	return r->used && begin >= first && begin <= r->asked + NEAR_SIZE;
}

static struct readahead_reader *find(struct readahead_reader *readers, int count,
				     uint64_t begin)
{
	for (int i = 0; i < count; i++)
		if (goes_on(&readers[i], begin))
			return &readers[i];
	return NULL;
}

static struct readahead_reader *oldest(struct readahead_reader *readers, int count)
{
	struct readahead_reader *best = &readers[0];

	for (int i = 1; i < count; i++)
		if (readers[i].used < best->used)
			best = &readers[i];
	return best;
}

static unsigned active_count(const struct readahead *ra)
{
	unsigned count = 0;

	for (int i = 0; i < READAHEAD_PROVEN_MAX; i++)
		if (ra->proven[i].used && ra->clock - ra->proven[i].used < ACTIVE_READS)
			count++;
	return count > 0 ? count : 1;
}

/* Go on to `end`; false: it leapt too often. */
static bool advance(struct readahead_reader *r, uint64_t begin, uint64_t end)
{
	uint64_t skipped = begin > r->end ? begin - r->end : 0, read;

	if (end <= r->end)
		return true; /* told already, or overtaken */
	read = end - (begin > r->end ? begin : r->end);
	if (skipped > r->credit)
		return false;
	r->credit += read * SKIP_FACTOR;
	r->credit -= skipped;
	if (r->credit > CREDIT_MAX)
		r->credit = CREDIT_MAX;
	r->consumed += read;
	r->end = end;
	if (r->asked < end)
		r->asked = end;
	r->matches++;
	return true;
}

static struct readahead_reader *begin_reader(struct readahead *ra, uint64_t end, uint64_t size)
{
	struct readahead_reader *r = oldest(ra->fresh, READAHEAD_NEW_MAX);

	*r = (struct readahead_reader){ .end = end,
					.asked = end,
					.consumed = size,
					.credit = NEAR_SIZE };
	return r;
}

/* The reader that this read is of, or a new one. */
static struct readahead_reader *reader_of(struct readahead *ra, uint64_t begin, uint64_t end)
{
	struct readahead_reader *r = find(ra->proven, READAHEAD_PROVEN_MAX, begin);

	if (r && advance(r, begin, end))
		return r;
	if (r)
		r->used = 0;
	r = find(ra->fresh, READAHEAD_NEW_MAX, begin);
	if (!r || !advance(r, begin, end))
		return begin_reader(ra, end, end - begin);
	if (r->matches >= PROVEN_MATCHES) {
		struct readahead_reader *place = oldest(ra->proven,
							READAHEAD_PROVEN_MAX);

		*place = *r;
		*r = (struct readahead_reader){ .used = 0 };
		return place;
	}
	return r;
}

/* What this reader should have asked for by now. */
static bool ask_ahead(struct readahead_reader *r, uint64_t depth, uint64_t stream_size,
		      struct readahead_range *ask)
{
	uint64_t want = r->consumed < depth / GROWTH ? r->consumed * GROWTH : depth;
	uint64_t end = want < stream_size - r->end ? r->end + want : stream_size;

	if (end <= r->asked || (end < stream_size && end - r->asked < want / STEP_SHARE))
		return false;
	*ask = (struct readahead_range){ .begin = r->asked, .end = end };
	r->asked = end;
	return true;
}

bool readahead_note(struct readahead *ra, uint64_t begin, uint64_t end,
		    struct readahead_range *ask)
{
	uint64_t depth = 0;
	struct readahead_reader *r;
	bool wanted = false;

	if (begin >= end || end > ra->params.stream_size || ra->params.bytes_max == 0)
		return false;
	pthread_mutex_lock(&ra->lock);
	ra->clock++;
	r = reader_of(ra, begin, end);
	r->used = ra->clock;
	if (r->matches >= PROVEN_MATCHES)
		depth = readahead_depth(&ra->params, &ra->costs) / active_count(ra);
	if (depth > 0)
		wanted = ask_ahead(r, depth, ra->params.stream_size, ask);
	pthread_mutex_unlock(&ra->lock);
	return wanted;
}
