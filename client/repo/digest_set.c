/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/digest_set.h"

#include "archive/base/le.h"

#include <sys/random.h>

enum { CAPACITY_MIN = 1024 };

int digest_set_init(struct digest_set *s, struct err *err)
{
	*s = (struct digest_set){ .capacity = CAPACITY_MIN };
	if (getrandom(s->secret, sizeof(s->secret), 0) != sizeof(s->secret))
		return err_sys(err, errno, "no random numbers");
	s->slots = calloc(s->capacity, sizeof(*s->slots));
	return s->slots ? 0 : err_set(err, ENOMEM, "out of memory");
}

void digest_set_release(struct digest_set *s)
{
	free(s->slots);
	*s = (struct digest_set){ 0 };
}

static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_of(const struct digest_set *s, const struct digest *d)
{
	const uint8_t *p = d->bytes;
	uint64_t h = mix(le64_get(p) ^ s->secret[0], le64_get(p + 8) ^ s->secret[1]) ^
		     mix(le64_get(p + 16) ^ s->secret[2], le64_get(p + 24) ^ s->secret[3]);

	return h ? h : 1;
}

static size_t slot_of(const uint64_t *slots, size_t capacity, uint64_t hash)
{
	size_t i = hash & (capacity - 1);

	while (slots[i] && slots[i] != hash)
		i = (i + 1) & (capacity - 1);
	return i;
}

bool digest_set_has(const struct digest_set *s, const struct digest *d)
{
	return s->slots[slot_of(s->slots, s->capacity, hash_of(s, d))] != 0;
}

static int grow(struct digest_set *s)
{
	size_t capacity = s->capacity * 2;
	uint64_t *slots = calloc(capacity, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < s->capacity; i++)
		if (s->slots[i])
			slots[slot_of(slots, capacity, s->slots[i])] = s->slots[i];
	free(s->slots);
	s->slots = slots;
	s->capacity = capacity;
	return 0;
}

int digest_set_add(struct digest_set *s, const struct digest *d)
{
	uint64_t hash = hash_of(s, d);
	size_t i = slot_of(s->slots, s->capacity, hash);

	if (s->slots[i])
		return 0;
	if (s->count >= s->capacity / 4 * 3) {
		if (grow(s) < 0)
			return -ENOMEM;
		i = slot_of(s->slots, s->capacity, hash);
	}
	s->slots[i] = hash;
	s->count++;
	return 0;
}
