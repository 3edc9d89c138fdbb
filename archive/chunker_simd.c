/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/chunker_simd.h"

#include "archive/chunker.h"
#include "archive/chunker_table.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_X86 1
#include <immintrin.h>
#else
#define HAVE_X86 0
#endif

enum { WINDOW = CHUNKER_WINDOW_SIZE };

static inline uint32_t rotate(uint32_t hash)
{
	return hash << 1 | hash >> 31;
}

/* --- plain: what the others are measured by, and the one for short rests --- */

static size_t find_plain(const uint8_t *data, size_t size, uint32_t mask, uint32_t limit)
{
	uint32_t hash = 0;

	for (ptrdiff_t i = -WINDOW; i < 0; i++)
		hash = rotate(hash) ^ chunker_table[data[i]];
	for (size_t i = 0; i < size; i++) {
		hash = rotate(hash) ^
		       (chunker_table[data[(ptrdiff_t)i - WINDOW]] ^ chunker_table[data[i]]);
		if ((hash & mask) >= limit)
			return i;
	}
	return size;
}

/*
 * --- stripes ---
 *
 * Let the sum S of a stripe be the hash over all its bytes so far, with none leaving:
 * S(i) = rotate(S(i - 1)) ^ T[byte i].  64 more bytes rotate what was in it 64 times, which is
 * not at all, so the hash of a window is S(i) ^ S(i - 64).  A sum is one step of two dependent
 * instructions: stripes side by side keep the processor busy meanwhile.  Their sums are kept,
 * and then compared in vectors.
 */
enum {
	STRIPE_COUNT = 4,
	STRIPE_SIZE_MAX = 1024, /* small: it is what a cut makes be hashed in vain */
	STRIPE_STEP = 32,	/* their sizes are multiples of it */
	STRIPES_SIZE_MIN = STRIPE_COUNT * 2 * STRIPE_STEP, /* below it plain is as fast */
};

/* Of one stripe: those of the 64 bytes before it, then its own. */
typedef uint32_t stripe_sums[WINDOW + STRIPE_SIZE_MAX];

typedef bool has_cut_fn(const uint32_t *sums, size_t size, uint32_t mask, uint32_t limit);

static void sum_stripes(const uint8_t *data, size_t size, stripe_sums sums[STRIPE_COUNT])
{
	const uint8_t *bytes[STRIPE_COUNT];
	uint32_t a = 0, b = 0, c = 0, d = 0;

	static_assert(STRIPE_COUNT == 4, "four are written out");
	for (size_t s = 0; s < STRIPE_COUNT; s++)
		bytes[s] = data + s * size - WINDOW;
	for (size_t i = 0; i < WINDOW + size; i++) {
		a = rotate(a) ^ chunker_table[bytes[0][i]];
		b = rotate(b) ^ chunker_table[bytes[1][i]];
		c = rotate(c) ^ chunker_table[bytes[2][i]];
		d = rotate(d) ^ chunker_table[bytes[3][i]];
		sums[0][i] = a;
		sums[1][i] = b;
		sums[2][i] = c;
		sums[3][i] = d;
	}
}

static size_t first_cut(const uint32_t *sums, size_t size, uint32_t mask, uint32_t limit)
{
	size_t i = 0;

	while (i < size && ((sums[i] ^ sums[i + WINDOW]) & mask) < limit)
		i++;
	return i;
}

static size_t find_striped(const uint8_t *data, size_t size, uint32_t mask, uint32_t limit,
			   has_cut_fn *has_cut)
{
	stripe_sums sums[STRIPE_COUNT];
	size_t at = 0;

	while (size - at >= STRIPES_SIZE_MIN) {
		size_t n = (size - at) / STRIPE_COUNT / STRIPE_STEP * STRIPE_STEP;

		n = n < STRIPE_SIZE_MAX ? n : STRIPE_SIZE_MAX;
		sum_stripes(data + at, n, sums);
		for (size_t s = 0; s < STRIPE_COUNT; s++, at += n)
			if (has_cut(sums[s], n, mask, limit))
				return at + first_cut(sums[s], n, mask, limit);
	}
	return at + find_plain(data + at, size - at, mask, limit);
}

/* Vectors of the compiler: whatever the processor has.  The mask spares the sign, so that ones
 * in place of the bits outside of it make hash and limit negative: signed comparison, which is
 * all that some processors have, is then right. */
typedef int32_t lanes __attribute__((vector_size(16)));

static inline lanes load(const uint32_t *words)
{
	lanes v;

	memcpy(&v, words, sizeof(v));
	return v;
}

static inline lanes cuts(const uint32_t *sums, lanes outside, lanes below)
{
	return ((load(sums) ^ load(sums + WINDOW)) | outside) > below;
}

static bool has_cut(const uint32_t *sums, size_t size, uint32_t mask, uint32_t limit)
{
	const lanes outside = (lanes){ 0 } + (int32_t)~mask;
	const lanes below = outside | (int32_t)(limit - 1);
	lanes found = { 0 };
	uint64_t halves[2];

	for (size_t i = 0; i < size; i += 16)
		found |= cuts(sums + i, outside, below) | cuts(sums + i + 4, outside, below) |
			 cuts(sums + i + 8, outside, below) | cuts(sums + i + 12, outside, below);
	memcpy(halves, &found, sizeof(halves));
	return (halves[0] | halves[1]) != 0;
}

static size_t find_scalar(const uint8_t *data, size_t size, uint32_t mask, uint32_t limit)
{
	return find_striped(data, size, mask, limit, has_cut);
}

#if HAVE_X86

/* --- AVX2: for the comparison alone; a gather of T is slower than four stripes of loads --- */

#define AVX2 __attribute__((target("avx2")))

AVX2 static inline __m256i cuts_avx2(const uint32_t *sums, __m256i outside, __m256i below)
{
	__m256i hash = _mm256_xor_si256(_mm256_loadu_si256((const __m256i_u *)sums),
					_mm256_loadu_si256((const __m256i_u *)(sums + WINDOW)));

	return _mm256_cmpgt_epi32(_mm256_or_si256(hash, outside), below);
}

AVX2 static bool has_cut_avx2(const uint32_t *sums, size_t size, uint32_t mask, uint32_t limit)
{
	const __m256i outside = _mm256_set1_epi32((int32_t)~mask);
	const __m256i below = _mm256_or_si256(outside, _mm256_set1_epi32((int32_t)(limit - 1)));
	__m256i found = _mm256_setzero_si256();

	for (size_t i = 0; i < size; i += STRIPE_STEP)
		for (size_t k = 0; k < STRIPE_STEP; k += 8)
			found = _mm256_or_si256(found, cuts_avx2(sums + i + k, outside, below));
	return !_mm256_testz_si256(found, found);
}

static size_t find_avx2(const uint8_t *data, size_t size, uint32_t mask, uint32_t limit)
{
	return find_striped(data, size, mask, limit, has_cut_avx2);
}

/*
 * --- AVX-512 with VBMI: blocks of 256 bytes as 16 pieces of 16 bytes, a lane for each ---
 *
 * Gathers are slow, so T is looked up in registers: VPERMI2B picks 64 bytes out of 128, hence
 * two of them, under masks, look up one of the four bytes of T's words for 64 bytes of data.
 *
 * The sums S of a piece begin with its first byte.  The window that ends with byte j of piece p
 * is made of that piece up to j, pieces p - 1 to p - 3, and the end of piece p - 4; with H(p) as
 * the hash of the four pieces before p, rolled on over j + 1 bytes:
 *
 *	h(p, j) = rotl(H(p), j + 1) ^ S(p, j) ^ S(p - 4, j)
 *	H(p) = S(p - 1, 15) ^ rotl(S(p - 2, 15), 16) ^ S(p - 3, 15) ^ rotl(S(p - 4, 15), 16)
 *
 * 16 pieces in a row begin in four registers; transposed as a matrix of 4 x 4 words within each
 * quarter of a register, piece p = 4 * word + quarter.  So p - 4 is the next lower word of the
 * same quarter, or the highest word of the block before.
 */
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vbmi")))

enum { BLOCK = 256, PIECE = 16, PIECE_COUNT = BLOCK / PIECE };

/* The bytes number i of T's words, for the data bytes 64 k and up: part[i][k]. */
struct planes {
	__m512i part[4][4];
};

/* Where block sums are found, one vector for each byte of the pieces. */
typedef __m512i block_sums[PIECE];

AVX512 static void load_planes(struct planes *t)
{
	for (size_t k = 0; k < 4; k++) {
		uint8_t bytes[4][64];

		for (size_t q = 0; q < 4; q++) {
			__m512i words = _mm512_loadu_si512(chunker_table + 64 * k + 16 * q);

			for (size_t i = 0; i < 4; i++) {
				_mm_storeu_si128((__m128i_u *)(bytes[i] + 16 * q),
						 _mm512_cvtepi32_epi8(words));
				words = _mm512_srli_epi32(words, 8);
			}
		}
		for (size_t i = 0; i < 4; i++)
			t->part[i][k] = _mm512_loadu_si512(bytes[i]);
	}
}

AVX512 static inline __m512i look_up_plane(const __m512i part[4], __m512i bytes, __mmask64 high)
{
	__m512i low = _mm512_mask2_permutex2var_epi8(part[0], bytes, ~high, part[1]);

	return _mm512_mask2_permutex2var_epi8(part[2], low, high, part[3]);
}

/* words[r], word w of quarter q: T of the byte r of word w of quarter q of `bytes`. */
AVX512 static inline void look_up(const struct planes *t, __m512i bytes, __m512i words[4])
{
	const __m512i by_place = _mm512_broadcast_i32x4(
		_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
	__m512i b = _mm512_shuffle_epi8(bytes, by_place);
	__mmask64 high = _mm512_movepi8_mask(b);
	__m512i p0 = look_up_plane(t->part[0], b, high), p1 = look_up_plane(t->part[1], b, high);
	__m512i p2 = look_up_plane(t->part[2], b, high), p3 = look_up_plane(t->part[3], b, high);
	__m512i low0 = _mm512_unpacklo_epi8(p0, p1), low1 = _mm512_unpackhi_epi8(p0, p1);
	__m512i high0 = _mm512_unpacklo_epi8(p2, p3), high1 = _mm512_unpackhi_epi8(p2, p3);

	words[0] = _mm512_unpacklo_epi16(low0, high0);
	words[1] = _mm512_unpackhi_epi16(low0, high0);
	words[2] = _mm512_unpacklo_epi16(low1, high1);
	words[3] = _mm512_unpackhi_epi16(low1, high1);
}

/* columns[c]: word c of each piece, in the order given above. */
AVX512 static inline void transpose(const uint8_t *block, __m512i columns[4])
{
	__m512i r0 = _mm512_loadu_si512(block), r1 = _mm512_loadu_si512(block + 64);
	__m512i r2 = _mm512_loadu_si512(block + 128), r3 = _mm512_loadu_si512(block + 192);
	__m512i a = _mm512_unpacklo_epi32(r0, r1), b = _mm512_unpackhi_epi32(r0, r1);
	__m512i c = _mm512_unpacklo_epi32(r2, r3), d = _mm512_unpackhi_epi32(r2, r3);

	columns[0] = _mm512_unpacklo_epi64(a, c);
	columns[1] = _mm512_unpackhi_epi64(a, c);
	columns[2] = _mm512_unpacklo_epi64(b, d);
	columns[3] = _mm512_unpackhi_epi64(b, d);
}

AVX512 static inline __m512i add(__m512i sum, __m512i word)
{
	return _mm512_xor_si512(_mm512_rol_epi32(sum, 1), word);
}

AVX512 static inline void sum_block(const struct planes *t, const uint8_t *block, block_sums sums)
{
	__m512i columns[4], words[4], sum = _mm512_setzero_si512();

	transpose(block, columns);
#pragma GCC unroll 4
	for (size_t c = 0; c < 4; c++) {
		look_up(t, columns[c], words);
		sums[4 * c] = sum = add(sum, words[0]);
		sums[4 * c + 1] = sum = add(sum, words[1]);
		sums[4 * c + 2] = sum = add(sum, words[2]);
		sums[4 * c + 3] = sum = add(sum, words[3]);
	}
}

/* The same of the pieces four before: the next lower word, or the highest of the block before. */
AVX512 static inline __m512i four_before(__m512i sum, __m512i sum_before)
{
	return _mm512_alignr_epi8(sum, sum_before, 12);
}

/* H of each piece, from the whole pieces' sums in this block and the one before. */
AVX512 static inline __m512i hashes_before(__m512i last, __m512i last_before)
{
	__m512i back4 = four_before(last, last_before);
	__m512i back3 = _mm512_alignr_epi32(last, back4, 4); /* quarters now */
	__m512i back2 = _mm512_alignr_epi32(last, back4, 8);
	__m512i back1 = _mm512_alignr_epi32(last, back4, 12);
	__m512i turned = _mm512_rol_epi32(_mm512_xor_si512(back2, back4), 16);

	return _mm512_xor_si512(_mm512_xor_si512(back1, back3), turned);
}

/* As in has_cut(), bits outside of the mask are ones here. */
AVX512 static inline bool block_has_cut(const block_sums sums, const block_sums before,
					uint32_t mask, uint32_t limit)
{
	const __m512i outside = _mm512_set1_epi32((int32_t)~mask);
	__m512i rolled = hashes_before(sums[PIECE - 1], before[PIECE - 1]);
	__m512i highest = _mm512_setzero_si512();

#pragma GCC unroll 16
	for (size_t j = 0; j < PIECE; j++) {
		__m512i leaving = four_before(sums[j], before[j]), hash;

		rolled = _mm512_rol_epi32(rolled, 1);
		hash = _mm512_ternarylogic_epi32(rolled, sums[j], leaving, 0x96); /* xor */
		highest = _mm512_max_epu32(highest, _mm512_or_si512(hash, outside));
	}
	return _mm512_cmpge_epu32_mask(highest, _mm512_set1_epi32((int32_t)(limit | ~mask))) != 0;
}

AVX512 static size_t find_avx512(const uint8_t *data, size_t size, uint32_t mask, uint32_t limit)
{
	block_sums sums[2];
	uint8_t head[BLOCK] = { 0 }; /* only the 64 bytes before `data` matter in it */
	struct planes planes;
	size_t at = 0, turn = 0;

	if (size < BLOCK)
		return find_plain(data, size, mask, limit);
	load_planes(&planes);
	memcpy(head + BLOCK - WINDOW, data - WINDOW, WINDOW);
	sum_block(&planes, head, sums[1]);
	for (; size - at >= BLOCK; at += BLOCK, turn ^= 1) {
		sum_block(&planes, data + at, sums[turn]);
		if (block_has_cut(sums[turn], sums[turn ^ 1], mask, limit))
			break;
	}
	/* gcc 12 leaves this out here; then all SSE code to come, SHA-256 first, is slower */
	_mm256_zeroupper();
	return at + find_plain(data + at, size - at, mask, limit);
}

#endif

/* --- which --- */

enum { PLAIN, SCALAR, WITH_AVX2, WITH_AVX512 };

static const struct chunker_simd variants[CHUNKER_SIMD_COUNT] = {
	[PLAIN] = { "plain", find_plain },
	[SCALAR] = { "scalar", find_scalar },
#if HAVE_X86
	[WITH_AVX2] = { "avx2", find_avx2 },
	[WITH_AVX512] = { "avx512", find_avx512 },
#endif
};

/* Of the processor and of the system, which must save the registers. */
static bool is_supported(size_t i)
{
#if HAVE_X86
	if (i == WITH_AVX2)
		return __builtin_cpu_supports("avx2");
	if (i == WITH_AVX512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		       __builtin_cpu_supports("avx512vbmi");
#endif
	return i < WITH_AVX2;
}

const struct chunker_simd *chunker_simd_variant(size_t i)
{
	assert(i < CHUNKER_SIMD_COUNT);
	return is_supported(i) ? &variants[i] : NULL;
}

const struct chunker_simd *chunker_simd_best(void)
{
	size_t i = CHUNKER_SIMD_COUNT - 1;

	while (!is_supported(i))
		i--;
	return &variants[i];
}
