/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/base/siphash.h"

#include "archive/base/le.h"

static const uint64_t NAME_K0 = 0x83ac3f1cfbb450db;
static const uint64_t NAME_K1 = 0xaa4f1b6879369fbd;

static inline uint64_t rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline void rounds(uint64_t v[4], int count)
{
	while (count--) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] = rotl(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] = rotl(v[2], 32);
	}
}

uint64_t siphash_name(const void *name, size_t size)
{
	const uint8_t *p = name;
	uint64_t last = (uint64_t)size << 56;
	uint64_t v[4] = {
		NAME_K0 ^ 0x736f6d6570736575,
		NAME_K1 ^ 0x646f72616e646f6d,
		NAME_K0 ^ 0x6c7967656e657261,
		NAME_K1 ^ 0x7465646279746573,
	};

	for (; size >= 8; size -= 8, p += 8) {
		uint64_t m = le64_get(p);

		v[3] ^= m;
		rounds(v, 2);
		v[0] ^= m;
	}
	for (size_t i = 0; i < size; i++)
		last |= (uint64_t)p[i] << (8 * i);
	v[3] ^= last;
	rounds(v, 2);
	v[0] ^= last;
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
