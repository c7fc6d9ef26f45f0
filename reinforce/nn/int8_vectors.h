/* What AVX-512 does for rows of int8. Private to reinforce/nn. */
#ifndef REINFORCE_NN_INT8_VECTORS_H
#define REINFORCE_NN_INT8_VECTORS_H

#include "reinforce/base/macros.h"

#include <stddef.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>

#define INT8_AVX512 KERNEL_TARGET("avx512f,avx512bw")
enum { INT8_LANES = 16 };

/* x [n] from k on, and `other` behind its end. */
INT8_AVX512 static ALWAYS_INLINE __m512 int8_some(const float *x, size_t n, size_t k, float other)
{
    size_t from = MIN(k, n), left = MIN(n - from, (size_t)INT8_LANES);

    return _mm512_mask_loadu_ps(_mm512_set1_ps(other), (__mmask16)((1u << left) - 1), x + from);
}

/* Two vectors of words, each packed from two of 32 bits, as one of bytes, all in order: packing
 * goes by quarters of a vector. */
INT8_AVX512 static ALWAYS_INLINE __m512i int8_bytes_of(__m512i first, __m512i second)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);

    return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(first, second));
}
#endif

#endif
