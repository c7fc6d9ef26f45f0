#include "reinforce/image/jpeg_pixels.h"

#include "reinforce/image/jpeg_huffman.h"

#if defined(KERNEL_TARGET)
#include <immintrin.h>

/* 2^13 times the constants of jidctint.c and jidctred.c, and 2^16 times those of jdcolor.c, modulo
 * 1 and with signs that let products fit. */
enum {
    CONST_BITS = 13,
    PASS1_BITS = 2,
    F_0_211 = 1730,
    F_0_298 = 2446,
    F_0_390 = 3196,
    F_0_509 = 4176,
    F_0_541 = 4433,
    F_0_601 = 4926,
    F_0_720 = 5906,
    F_0_765 = 6270,
    F_0_850 = 6967,
    F_0_899 = 7373,
    F_1_061 = 8697,
    F_1_175 = 9633,
    F_1_272 = 10426,
    F_1_451 = 11893,
    F_1_501 = 12299,
    F_1_847 = 15137,
    F_1_961 = 16069,
    F_2_053 = 16819,
    F_2_172 = 17799,
    F_2_562 = 20995,
    F_3_072 = 25172,
    F_3_624 = 29692,

    F_0_344 = 22554,
    F_0_285 = 18734, /* 1 - 0.71414 */
    F_0_402 = 26345, /* 1.40200 - 1 */
    F_0_228 = 14942, /* 2 - 1.77200 */

    /* libjpeg shifts the first row by PASS1_BITS when the others are empty, and drops what does not
     * fit; the whole transform would saturate. */
    TOO_WIDE = -8192,
    TOO_WIDE_REDUCED = -16384, /* the same of the rows between the passes of a smaller transform */
};

/* Bytes of columns 0, 4, 2, 6, 1, 3, 5, 7 of a row of coefficients. */
static const int8_t pairs[16] = {0, 1, 8, 9, 4, 5, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};

/* Columns of four samples to rows. */
static const int8_t turned_4[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};

/* Bytes of 16 pixels' red, green or blue in the i-th 16 of their 48 bytes. */
#define NO (-128)
static const int8_t interleave[3][3][16] = {
    {{0, NO, NO, 1, NO, NO, 2, NO, NO, 3, NO, NO, 4, NO, NO, 5},
     {NO, 0, NO, NO, 1, NO, NO, 2, NO, NO, 3, NO, NO, 4, NO, NO},
     {NO, NO, 0, NO, NO, 1, NO, NO, 2, NO, NO, 3, NO, NO, 4, NO}},
    {{NO, NO, 6, NO, NO, 7, NO, NO, 8, NO, NO, 9, NO, NO, 10, NO},
     {5, NO, NO, 6, NO, NO, 7, NO, NO, 8, NO, NO, 9, NO, NO, 10},
     {NO, 5, NO, NO, 6, NO, NO, 7, NO, NO, 8, NO, NO, 9, NO, NO}},
    {{NO, 11, NO, NO, 12, NO, NO, 13, NO, NO, 14, NO, NO, 15, NO, NO},
     {NO, NO, 11, NO, NO, 12, NO, NO, 13, NO, NO, 14, NO, NO, 15, NO},
     {10, NO, NO, 11, NO, NO, 12, NO, NO, 13, NO, NO, 14, NO, NO, 15}},
};

#define LOAD_16(p) _mm_loadu_si128((const __m128i_u *)(const void *)(p))

#define TARGET           KERNEL_TARGET("avx2")
#define NAME(x)          avx2_##x
#define KERNEL           "avx2"
#define VECTOR           __m256i
#define VECTOR_BYTES     32
#define OP(x)            _mm256_##x
#define LOAD(p)          _mm256_loadu_si256((const __m256i_u *)(const void *)(p))
#define STORE(p, v)      _mm256_storeu_si256((__m256i_u *)(void *)(p), v)
#define LOAD_LANE(p)     _mm256_broadcastsi128_si256(LOAD_16(p))
#define WIDEN(p)         _mm256_cvtepu8_epi16(LOAD_16(p))
#define BLOCK_ROWS(v)    _mm256_permute4x64_epi64(v, 0xd8)
#define LOWER(v)         _mm256_castsi256_si128(v)
#define UPPER(v)         _mm256_extracti128_si256(v, 1)
#define STORE_HALF(p, v) _mm_storeu_si128((__m128i_u *)(void *)(p), v)
#define LANE(v, i)       _mm256_extracti128_si256(v, i)
#define ANY_BIT(v, mask) (!_mm256_testz_si256(v, _mm256_set1_epi16(mask)))
#include "reinforce/image/jpeg_pixels_kernel.h"

#define TARGET           KERNEL_TARGET("avx512f,avx512bw")
#define NAME(x)          avx512_##x
#define KERNEL           "avx512"
#define VECTOR           __m512i
#define VECTOR_BYTES     64
#define OP(x)            _mm512_##x
#define LOAD(p)          _mm512_loadu_si512(p)
#define STORE(p, v)      _mm512_storeu_si512(p, v)
#define LOAD_LANE(p)     _mm512_broadcast_i32x4(LOAD_16(p))
#define WIDEN(p)         _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i_u *)(const void *)(p)))
#define BLOCK_ROWS(v)    _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), v)
#define LOWER(v)         _mm512_castsi512_si256(v)
#define UPPER(v)         _mm512_extracti64x4_epi64(v, 1)
#define STORE_HALF(p, v) _mm256_storeu_si256((__m256i_u *)(void *)(p), v)
#define LANE(v, i)       _mm512_extracti32x4_epi32(v, i)
#define ANY_BIT(v, mask) (_mm512_test_epi16_mask(v, _mm512_set1_epi16(mask)) != 0)
#include "reinforce/image/jpeg_pixels_kernel.h"

static const struct jpeg_pixels *const kernels[] = {&avx512_kernel, &avx2_kernel};
#endif

const struct jpeg_pixels *const *jpeg_pixels_kernels(size_t *n)
{
    *n = 0;
#if defined(KERNEL_TARGET)
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2"))
        return NULL;
    *n = __builtin_cpu_supports("avx512bw") ? 2 : 1;
    return kernels + ARRAY_LEN(kernels) - *n;
#else
    return NULL;
#endif
}
