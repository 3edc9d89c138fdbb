/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/known.h"

#include "archive/base/le.h"

#include <assert.h>
#include <pthread.h>
#include <sys/random.h>

enum { CAPACITY_MIN = 1024 };

enum state { STATE_ABSENT, STATE_BEFORE, STATE_CLAIMED, STATE_STORED };

/* An open table.  A digest once entered keeps its slot for ever, even when a failed claim
 * makes it absent again, so probing needs no tombstones. */
struct table {
	struct digest *digests;
	uint8_t *states; /* enum state */
	bool *used;
	size_t capacity; /* a power of two */
	size_t count; /* of used slots */
};

struct known_set {
	pthread_mutex_t lock;
	pthread_cond_t settled;
	uint64_t secret[4]; /* immutable */
	struct table table; /* lock */
};

static void table_release(struct table *t)
{
	free(t->digests);
	free(t->states);
	free(t->used);
	*t = (struct table){ 0 };
}

static int table_init(struct table *t, size_t capacity)
{
	t->digests = calloc(capacity, sizeof(*t->digests));
	t->states = calloc(capacity, sizeof(*t->states));
	t->used = calloc(capacity, sizeof(*t->used));
	t->capacity = capacity;
	t->count = 0;
	if (t->digests && t->states && t->used)
		return 0;
	table_release(t);
	return -ENOMEM;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Over the whole digest: a hostile index may list digests that begin or end alike. */
static size_t place_of(const struct known_set *k, const struct digest *d)
{
	const uint8_t *p = d->bytes;
	const uint64_t *s = k->secret;

	return (size_t)(mix(le64_get(p) ^ s[0], le64_get(p + 8) ^ s[1]) ^
			mix(le64_get(p + 16) ^ s[2], le64_get(p + 24) ^ s[3]));
}

static size_t slot_of(const struct known_set *k, const struct table *t, const struct digest *d)
{
	size_t i = place_of(k, d) & (t->capacity - 1);

	while (t->used[i] && !digest_equal(&t->digests[i], d))
		i = (i + 1) & (t->capacity - 1);
	return i;
}

static int grow(struct known_set *k)
{
	struct table *old = &k->table;
	struct table bigger = { 0 };
	int rc = table_init(&bigger, old->capacity * 2);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < old->capacity; i++) {
		size_t to;

		if (!old->used[i])
			continue;
		to = slot_of(k, &bigger, &old->digests[i]);
		bigger.used[to] = true;
		bigger.digests[to] = old->digests[i];
		bigger.states[to] = old->states[i];
	}
	bigger.count = old->count;
	table_release(old);
	*old = bigger;
	return 0;
}

/* With the lock held: the slot of `d`, entered when it is new. */
static int find_or_enter(struct known_set *k, const struct digest *d, size_t *slot)
{
	struct table *t = &k->table;
	size_t i = slot_of(k, t, d);

	if (!t->used[i]) {
		if (t->count >= t->capacity / 4 * 3) {
			int rc = grow(k);

			if (rc < 0)
				return rc;
			i = slot_of(k, t, d);
		}
		t->used[i] = true;
		t->digests[i] = *d;
		t->states[i] = STATE_ABSENT;
		t->count++;
	}
	*slot = i;
	return 0;
}

int known_set_new(struct known_set **out, struct err *err)
{
	AUTO(free) struct known_set *k = calloc(1, sizeof(*k));

	if (!k)
		return err_set(err, ENOMEM, "out of memory");
	if (getrandom(k->secret, sizeof(k->secret), 0) != sizeof(k->secret))
		return err_sys(err, errno, "no random numbers");
	if (table_init(&k->table, CAPACITY_MIN) < 0)
		return err_set(err, ENOMEM, "out of memory");
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->settled, NULL);
	*out = steal(&k);
	return 0;
}

void known_set_free(struct known_set *k)
{
	if (!k)
		return;
	table_release(&k->table);
	pthread_cond_destroy(&k->settled);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

int known_add(struct known_set *k, const struct digest *digest)
{
	size_t slot;
	int rc;

	pthread_mutex_lock(&k->lock);
	rc = find_or_enter(k, digest, &slot);
	if (rc == 0 && k->table.states[slot] == STATE_ABSENT)
		k->table.states[slot] = STATE_BEFORE;
	pthread_mutex_unlock(&k->lock);
	return rc;
}

void known_forget(struct known_set *k)
{
	pthread_mutex_lock(&k->lock);
	for (size_t i = 0; i < k->table.capacity; i++)
		if (k->table.states[i] == STATE_BEFORE)
			k->table.states[i] = STATE_ABSENT;
	pthread_mutex_unlock(&k->lock);
}

int known_claim(struct known_set *k, const struct digest *digest, enum known *out)
{
	size_t slot;
	int rc;

	pthread_mutex_lock(&k->lock);
	rc = find_or_enter(k, digest, &slot);
	while (rc == 0 && k->table.states[slot] == STATE_CLAIMED) {
		pthread_cond_wait(&k->settled, &k->lock);
		slot = slot_of(k, &k->table, digest); /* the table may have grown */
	}
	if (rc == 0) {
		enum state state = k->table.states[slot];

		*out = state == STATE_STORED ? KNOWN_STORED :
		       state == STATE_BEFORE ? KNOWN_BEFORE :
					       KNOWN_NEW;
		if (state != STATE_STORED)
			k->table.states[slot] = STATE_CLAIMED;
	}
	pthread_mutex_unlock(&k->lock);
	return rc;
}

void known_settle(struct known_set *k, const struct digest *digest, bool stored)
{
	size_t slot;

	pthread_mutex_lock(&k->lock);
	slot = slot_of(k, &k->table, digest);
	assert(k->table.used[slot] && k->table.states[slot] == STATE_CLAIMED);
	k->table.states[slot] = stored ? STATE_STORED : STATE_ABSENT;
	pthread_cond_broadcast(&k->settled);
	pthread_mutex_unlock(&k->lock);
}
