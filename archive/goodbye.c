/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/goodbye.h"

#include "archive/base/cursor.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

static_assert(3 * sizeof(uint64_t) == PXAR_GOODBYE_SLOT_SIZE, "slot");

static bool slot_less(const struct goodbye_slot *a, const struct goodbye_slot *b)
{
	return a->hash < b->hash || (a->hash == b->hash && a->offset < b->offset);
}

static void sift_down(struct goodbye_slot *slots, size_t i, size_t count)
{
	struct goodbye_slot moved = slots[i];

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= count)
			break;
		if (child + 1 < count && slot_less(&slots[child], &slots[child + 1]))
			child++;
		if (!slot_less(&moved, &slots[child]))
			break;
		slots[i] = slots[child];
		i = child;
	}
	slots[i] = moved;
}

/* A heap sort, since it needs no memory (glibc's qsort() copies what it sorts, which a folder
 * of a million members would feel) and no chosen set of names makes it slow. */
void goodbye_sort(struct goodbye_slot *slots, size_t count)
{
	for (size_t i = count / 2; i-- > 0;)
		sift_down(slots, i, count);
	for (size_t end = count; end > 1; end--) {
		struct goodbye_slot last = slots[end - 1];

		slots[end - 1] = slots[0];
		slots[0] = last;
		sift_down(slots, 0, end - 1);
	}
}

static unsigned log2_floor(uint64_t v)
{
	return 63 - (unsigned)__builtin_clzll(v);
}

/* In a perfect tree of `levels` levels, node `place` of level `level` is number
 * place * 2^(levels - level) + 2^(levels - level - 1) - 1 in order, and its leaves are the even
 * numbers.  Ours lacks the last leaves: count those that would stand before the node. */
uint64_t goodbye_rank(uint64_t slot, uint64_t count)
{
	unsigned levels = log2_floor(count) + 1;
	unsigned level = log2_floor(slot + 1);
	uint64_t place = slot + 1 - ((uint64_t)1 << level);
	uint64_t step = (uint64_t)1 << (levels - level - 1);
	uint64_t perfect = place * 2 * step + step - 1;
	uint64_t leaves = count - (((uint64_t)1 << (levels - 1)) - 1);
	uint64_t leaves_before = (perfect + 1) / 2;

	return leaves_before > leaves ? perfect - (leaves_before - leaves) : perfect;
}

/* Compare each slot with the one before it in order: its greatest descendant on the left, or
 * the nearest ancestor that it lies to the right of. */
bool goodbye_is_search_tree(const struct goodbye_slot *slots, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t before = 2 * i + 1;

		if (before < count) {
			while (2 * before + 2 < count)
				before = 2 * before + 2;
		} else {
			before = i;
			while (before && before % 2) /* a left child */
				before = (before - 1) / 2;
			if (!before)
				continue; /* the smallest of all */
			before = (before - 1) / 2;
		}
		if (slots[before].hash > slots[i].hash)
			return false;
	}
	return true;
}

int goodbye_slot_encode(struct wbuf *b, const struct goodbye_slot *slot)
{
	uint8_t *p = wbuf_reserve(b, PXAR_GOODBYE_SLOT_SIZE);

	if (!p)
		return b->failed;
	le64_put(p, slot->hash);
	le64_put(p + 8, slot->offset);
	le64_put(p + 16, slot->size);
	b->size += PXAR_GOODBYE_SLOT_SIZE;
	return 0;
}

void goodbye_slot_decode(const uint8_t *bytes, struct goodbye_slot *out)
{
	struct cursor c = cursor_of(bytes, PXAR_GOODBYE_SLOT_SIZE);

	out->hash = cursor_u64(&c);
	out->offset = cursor_u64(&c);
	out->size = cursor_u64(&c);
}

int goodbye_tail_decode(const uint8_t *bytes, struct goodbye_slot *out, uint64_t *count,
			struct err *err)
{
	struct goodbye_slot tail;
	uint64_t n;

	goodbye_slot_decode(bytes, &tail);
	if (tail.hash != PXAR_GOODBYE_TAIL)
		return err_set(err, EBADMSG,
			       "goodbye table has no tail marker (found %016" PRIx64 ")",
			       tail.hash);
	if (tail.size < goodbye_item_size(0) ||
	    (tail.size - PXAR_HEADER_SIZE) % PXAR_GOODBYE_SLOT_SIZE)
		return err_set(err, EBADMSG, "goodbye table gives its size as %" PRIu64,
			       tail.size);
	n = (tail.size - PXAR_HEADER_SIZE) / PXAR_GOODBYE_SLOT_SIZE - 1;
	if (n > PXAR_MEMBER_COUNT_MAX)
		return err_set(err, E2BIG,
			       "goodbye table has %" PRIu64 " members, more than %" PRIu64, n,
			       PXAR_MEMBER_COUNT_MAX);
	*out = tail;
	*count = n;
	return 0;
}

static void search_push(struct goodbye_search *s, uint64_t slot)
{
	if (slot < s->count && s->depth < GOODBYE_SEARCH_STACK_MAX)
		s->stack[s->depth++] = slot;
}

void goodbye_search_init(struct goodbye_search *s, uint64_t hash, uint64_t count)
{
	s->hash = hash;
	s->count = count;
	s->depth = 0;
	search_push(s, 0);
}

bool goodbye_search_next(struct goodbye_search *s, uint64_t *slot)
{
	if (!s->depth)
		return false;
	*slot = s->stack[--s->depth];
	return true;
}

bool goodbye_search_seen(struct goodbye_search *s, uint64_t slot, uint64_t hash)
{
	if (s->hash >= hash)
		search_push(s, 2 * slot + 2);
	if (s->hash <= hash)
		search_push(s, 2 * slot + 1);
	return s->hash == hash;
}
