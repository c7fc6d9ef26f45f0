#include "reinforce/image/resample_vnni.h"

#include <assert.h>
#include <string.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>

#define VNNI KERNEL_TARGET("avx512f,avx512bw,avx512vnni")
#endif

enum { PARTS = 3, VECTOR = 64, VECTORS = 4, QUAD_BYTES = VECTOR * VECTORS, PIXELS_BYTES = 12 };

bool resample_vnni_is_there(void)
{
#if defined(KERNEL_TARGET)
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");
#else
    return false;
#endif
}

/* Tap `tap` of quads: a byte of each part. False: does not fit. */
static ALWAYS_INLINE bool split(int32_t k, int tap, int32_t *parts)
{
    int8_t *bytes = (int8_t *)(parts + tap / RESAMPLE_QUAD * PARTS) + tap % RESAMPLE_QUAD;
    int8_t low = (int8_t)(k & 255), middle = (int8_t)((k - low) / 256 & 255);
    int32_t high = ((k - low) / 256 - middle) / 256;

    bytes[0] = low;
    bytes[sizeof *parts] = middle;
    bytes[2 * sizeof *parts] = (int8_t)high;
    return high >= INT8_MIN && high <= INT8_MAX;
}

enum status resample_quads_init(struct resample_quads *quads, const struct resample_axis *axis,
                                bool aligned, bool *fits, struct arena *arena, struct error *err)
{
    int most = (axis->stride + 2 * (RESAMPLE_QUAD - 1)) / RESAMPLE_QUAD;
    enum status st;

    *fits = true;
    *quads = (struct resample_quads){.count = axis->count, .stride = (size_t)most * PARTS};
    st = arena_calloc(arena, (size_t)axis->count, sizeof *quads->lo, &quads->lo, err);
    if (st == ST_OK)
        st = arena_calloc(arena, (size_t)axis->count, sizeof *quads->n, &quads->n, err);
    if (st == ST_OK)
        st = arena_calloc(arena, (size_t)axis->count * quads->stride, sizeof *quads->k, &quads->k,
                          err);
    for (int i = 0; i < axis->count && st == ST_OK; i++) {
        const int32_t *k = axis->k + (size_t)i * (size_t)axis->stride;
        int32_t *parts = quads->k + (size_t)i * quads->stride;
        int shift = aligned ? axis->lo[i] % RESAMPLE_QUAD : 0;

        quads->lo[i] = axis->lo[i] - shift;
        quads->n[i] = (shift + axis->n[i] + RESAMPLE_QUAD - 1) / RESAMPLE_QUAD * RESAMPLE_QUAD;
        quads->max_n = MAX(quads->max_n, quads->n[i]);
        for (int j = 0; j < axis->n[i]; j++)
            *fits &= split(k[j], shift + j, parts);
    }
    return st;
}

#if defined(KERNEL_TARGET)
VNNI static ALWAYS_INLINE __m128i quad_of(const uint8_t *pixels)
{
    const __m128i by_channel =
        _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -128, -128, -128, -128);

    return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i_u *)(const void *)pixels), by_channel);
}

/* Sixteen bytes are moved for twelve: the last four are overwritten by the next row, or are the
 * unused 64th lane. */
VNNI void resample_vnni_turn(const uint8_t *const *rows, int columns, int n_quads, uint8_t *turned)
{
    enum { TOGETHER = 7 }; /* their addresses stay in registers */
    int whole = MIN(n_quads, MAX(columns * 3 - 4, 0) / PIXELS_BYTES);

    for (int first = 0; first < RESAMPLE_VNNI_ROWS; first += TOGETHER) {
        const uint8_t *row[TOGETHER];
        uint8_t *to = turned + (size_t)first * PIXELS_BYTES;

        memcpy(row, rows + first, sizeof row);
        for (size_t x = 0; x < (size_t)whole * PIXELS_BYTES; x += PIXELS_BYTES, to += QUAD_BYTES)
            for (int r = 0; r < TOGETHER; r++)
                _mm_storeu_si128((__m128i_u *)(void *)(to + (size_t)r * PIXELS_BYTES),
                                 quad_of(row[r] + x));
    }
    for (int q = whole; q < n_quads; q++)
        for (size_t r = 0; r < RESAMPLE_VNNI_ROWS; r++) {
            uint8_t pixels[16] = {0};
            int left = MIN(columns - q * RESAMPLE_QUAD, (int)RESAMPLE_QUAD);

            if (left > 0)
                memcpy(pixels, rows[r] + (size_t)q * PIXELS_BYTES, (size_t)left * 3);
            _mm_storeu_si128(
                (__m128i_u *)(void *)(turned + (size_t)q * QUAD_BYTES + r * PIXELS_BYTES),
                quad_of(pixels));
        }
}

struct sums {
    __m512i part[PARTS][VECTORS];
};

VNNI static ALWAYS_INLINE void begin_sums(struct sums *sums)
{
    for (int p = 0; p < PARTS; p++)
        for (int v = 0; v < VECTORS; v++)
            sums->part[p][v] = _mm512_set1_epi32(p == 0 ? 1 << (RESAMPLE_PRECISION_BITS - 1) : 0);
}

VNNI static ALWAYS_INLINE void add_quad(struct sums *sums, const __m512i data[VECTORS],
                                        const int32_t *k)
{
    for (int p = 0; p < PARTS; p++)
        for (int v = 0; v < VECTORS; v++)
            sums->part[p][v] =
                _mm512_dpbusd_epi32(sums->part[p][v], data[v], _mm512_set1_epi32(k[p]));
}

/* The sums together, shifted, not yet clipped. */
VNNI static ALWAYS_INLINE __m512i end_sums(const struct sums *sums, int v)
{
    __m512i sum = _mm512_add_epi32(sums->part[0][v],
                                   _mm512_add_epi32(_mm512_slli_epi32(sums->part[1][v], 8),
                                                    _mm512_slli_epi32(sums->part[2][v], 16)));

    return _mm512_srai_epi32(sum, RESAMPLE_PRECISION_BITS);
}

VNNI void resample_vnni_columns(const uint8_t *turned, int base, const struct resample_quads *quads,
                                int begin, int end, uint8_t *to)
{
    for (int i = begin; i < end; i++, to += RESAMPLE_VNNI_LANES) {
        const uint8_t *from = turned + (size_t)((quads->lo[i] - base) / RESAMPLE_QUAD) * QUAD_BYTES;
        const int32_t *k = quads->k + (size_t)i * quads->stride;
        struct sums sums;

        begin_sums(&sums);
        for (int j = 0; j < quads->n[i]; j += RESAMPLE_QUAD, k += PARTS, from += QUAD_BYTES) {
            __m512i data[VECTORS];

            for (int v = 0; v < VECTORS; v++)
                data[v] = _mm512_loadu_si512(from + (size_t)v * VECTOR);
            add_quad(&sums, data, k);
        }
        for (int v = 0; v < VECTORS; v++)
            _mm_storeu_si128((__m128i_u *)(void *)(to + (size_t)v * 16),
                             _mm512_cvtusepi32_epi8(
                                 _mm512_max_epi32(end_sums(&sums, v), _mm512_setzero_si512())));
    }
}

/* Rows four by four, their bytes side by side. */
VNNI static ALWAYS_INLINE void interleave(const uint8_t *const rows[RESAMPLE_QUAD], size_t x,
                                          __mmask64 mask, __m512i data[VECTORS])
{
    __m512i row[RESAMPLE_QUAD], low01, high01, low23, high23;

    for (int r = 0; r < RESAMPLE_QUAD; r++)
        row[r] = _mm512_maskz_loadu_epi8(mask, rows[r] + x);
    low01 = _mm512_unpacklo_epi8(row[0], row[1]);
    high01 = _mm512_unpackhi_epi8(row[0], row[1]);
    low23 = _mm512_unpacklo_epi8(row[2], row[3]);
    high23 = _mm512_unpackhi_epi8(row[2], row[3]);
    data[0] = _mm512_unpacklo_epi16(low01, low23);
    data[1] = _mm512_unpackhi_epi16(low01, low23);
    data[2] = _mm512_unpacklo_epi16(high01, high23);
    data[3] = _mm512_unpackhi_epi16(high01, high23);
}

VNNI void resample_vnni_rows(const uint8_t *from, size_t stride, const struct resample_quads *quads,
                             int i, int n, size_t bytes, uint8_t *to)
{
    for (size_t x = 0; x < bytes; x += VECTOR) {
        const int32_t *k = quads->k + (size_t)i * quads->stride;
        __mmask64 mask = bytes - x >= VECTOR ? ~(__mmask64)0 : ((__mmask64)1 << (bytes - x)) - 1;
        struct sums sums;

        begin_sums(&sums);
        for (int j = 0; j < n; j += RESAMPLE_QUAD, k += PARTS) {
            const uint8_t *rows[RESAMPLE_QUAD];
            __m512i data[VECTORS];

            for (int r = 0; r < RESAMPLE_QUAD; r++) /* those behind the last have zeros for k */
                rows[r] = from + (size_t)MIN(j + r, n - 1) * stride;
            interleave(rows, x, mask, data);
            add_quad(&sums, data, k);
        }
        _mm512_mask_storeu_epi8(
            to + x, mask,
            _mm512_packus_epi16(_mm512_packs_epi32(end_sums(&sums, 0), end_sums(&sums, 1)),
                                _mm512_packs_epi32(end_sums(&sums, 2), end_sums(&sums, 3))));
    }
}
#else
void resample_vnni_turn(const uint8_t *const *rows, int columns, int n_quads, uint8_t *turned)
{
    (void)rows, (void)columns, (void)n_quads, (void)turned;
    assert(false);
}

void resample_vnni_columns(const uint8_t *turned, int base, const struct resample_quads *quads,
                           int begin, int end, uint8_t *to)
{
    (void)turned, (void)base, (void)quads, (void)begin, (void)end, (void)to;
    assert(false);
}

void resample_vnni_rows(const uint8_t *from, size_t stride, const struct resample_quads *quads,
                        int i, int n, size_t bytes, uint8_t *to)
{
    (void)from, (void)stride, (void)quads, (void)i, (void)n, (void)bytes, (void)to;
    assert(false);
}
#endif
