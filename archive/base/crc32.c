/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/base/crc32.h"

#include <zlib.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

enum {
	LANES_SIZE = 64,
	FOLD_SIZE_MIN = 4 * LANES_SIZE, /* below it zlib is as fast */
};

/*
 * Carry-less multiplication: 64 bytes at a time, as four remainders side by side that are brought
 * forward by 512 bits, then into one another by 128.  ("Fast CRC Computation for Generic
 * Polynomials Using PCLMULQDQ", Gopal and others, Intel, 2009; the constants are powers of x
 * modulo the polynomial, reflected, as there.)  What is left, 128 bits whose remainder is that of
 * all before, zlib takes as 16 bytes more.
 */
__attribute__((target("pclmul,sse4.1"))) static inline __m128i fold(__m128i sum, __m128i powers,
								    __m128i next)
{
	__m128i low = _mm_clmulepi64_si128(sum, powers, 0x00);
	__m128i high = _mm_clmulepi64_si128(sum, powers, 0x11);

	return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

static inline __m128i load(const uint8_t *data)
{
	return _mm_loadu_si128((const __m128i *)(const void *)data);
}

/* `size`: a multiple of LANES_SIZE, and not 0. */
__attribute__((target("pclmul,sse4.1"))) static uint32_t
crc32_folded(uint32_t crc, const uint8_t *data, size_t size)
{
	const __m128i by_512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
	const __m128i by_128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
	__m128i sum[4];
	uint8_t rest[16];

	for (int i = 0; i < 4; i++)
		sum[i] = load(data + 16 * i);
	/* zlib's is inverted before and after; so is what comes first here, once */
	sum[0] = _mm_xor_si128(sum[0], _mm_cvtsi32_si128((int)~crc));
	for (size_t at = LANES_SIZE; at < size; at += LANES_SIZE)
		for (int i = 0; i < 4; i++)
			sum[i] = fold(sum[i], by_512, load(data + at + 16 * i));
	for (int i = 1; i < 4; i++)
		sum[0] = fold(sum[0], by_128, sum[i]);
	_mm_storeu_si128((__m128i *)(void *)rest, sum[0]);
	return (uint32_t)crc32_z(~0U, rest, sizeof(rest));
}

uint32_t crc32_update(uint32_t crc, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	size_t folded = size / LANES_SIZE * LANES_SIZE;

	if (folded < FOLD_SIZE_MIN || !__builtin_cpu_supports("pclmul"))
		return (uint32_t)crc32_z(crc, bytes, size);
	crc = crc32_folded(crc, bytes, folded);
	return (uint32_t)crc32_z(crc, bytes + folded, size - folded);
}

#else

uint32_t crc32_update(uint32_t crc, const void *data, size_t size)
{
	return (uint32_t)crc32_z(crc, data, size);
}

#endif
