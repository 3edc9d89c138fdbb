/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/delay.h"

#include <string.h>

enum { DELAY_COUNT_MIN = 64 };

int delay_init(struct delay *d, struct emit *emit)
{
	*d = (struct delay){ .emit = emit };
	return delay_next(d) ? 0 : -ENOMEM;
}

void delay_release(struct delay *d)
{
	for (size_t i = 0; i < d->capacity; i++)
		entry_release(&d->ring[i]);
	free(d->ring);
}

static struct entry *entry_at(const struct delay *d, size_t i)
{
	return &d->ring[(d->begin + i) & (d->capacity - 1)];
}

/* With the ring full: twice as many, the first one at the beginning. */
static int grow(struct delay *d)
{
	size_t capacity = d->capacity ? 2 * d->capacity : DELAY_COUNT_MIN;
	struct entry *ring = reallocarray(NULL, capacity, sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	for (size_t i = 0; i < d->capacity; i++)
		ring[i] = *entry_at(d, i);
	for (size_t i = d->capacity; i < capacity; i++)
		entry_init(&ring[i]);
	free(d->ring);
	d->ring = ring;
	d->begin = 0;
	d->capacity = capacity;
	return 0;
}

struct entry *delay_next(struct delay *d)
{
	if (d->count == d->capacity && grow(d) < 0)
		return NULL;
	return entry_at(d, d->count);
}

static void add_up(struct delay *d, const struct entry *e, int sign)
{
	d->bytes += (size_t)sign * entry_bytes(e);
	if (e->kind == ENTRY_FILE && !e->is_unchanged)
		d->unread += (uint64_t)sign * (uint64_t)e->st.st_size;
}

/* Emit those that were decided on, and what is between them. */
static int emit_decided(struct delay *d, size_t decided, bool all)
{
	while (d->count) {
		struct entry *e = entry_at(d, 0);
		int rc;

		if (e->is_counted && decided-- == 0 && !all)
			break;
		rc = emit_entry(d->emit, e, -1);
		if (rc < 0)
			return rc;
		add_up(d, e, -1);
		d->begin = (d->begin + 1) & (d->capacity - 1);
		d->count--;
	}
	return 0;
}

static int decide(struct delay *d, bool is_last)
{
	const struct walk_reuse *reuse = d->emit->params->reuse;
	size_t decided;
	int rc = reuse->decide(reuse->arg, is_last, &decided, d->emit->why);

	return rc < 0 ? rc : emit_decided(d, decided, is_last);
}

/* A file that waits; a further name of one that is archived, or waits, has no content. */
static int count_file(struct delay *d, struct entry *e)
{
	const struct walk_reuse *reuse = d->emit->params->reuse;
	int rc;

	if (emit_is_link(d->emit, e))
		return 0;
	rc = emit_expect_link(d->emit, e);
	if (rc < 0)
		return rc;
	e->is_counted = true;
	return reuse->add(reuse->arg, (uint64_t)e->st.st_size, e->is_unchanged,
			  e->old_payload_offset, d->emit->why);
}

int delay_push(struct delay *d, int dir_fd)
{
	struct entry *e = delay_next(d);
	int rc = 0;

	if (!d->count && !e->is_unchanged)
		return emit_entry(d->emit, e, dir_fd);
	if (e->kind == ENTRY_FILE)
		rc = count_file(d, e);
	if (rc < 0)
		return rc;
	add_up(d, e, 1);
	d->count++;
	if (d->count < DELAY_COUNT_MAX && d->bytes < DELAY_BYTES_MAX &&
	    d->unread < DELAY_UNREAD_MAX)
		return 0;
	return decide(d, false);
}

int delay_finish(struct delay *d)
{
	return d->count ? decide(d, true) : 0;
}
