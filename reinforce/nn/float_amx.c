/* Products of float32 rows and bfloat16 columns by AMX, whose tiles multiply bfloat16 and add up in
 * float32: a row's value is the sum of three bfloat16, each the nearest to what those before it
 * leave, which is exact. */
#include "reinforce/nn/amx.h"
#include "reinforce/nn/float_kernels.h"

#include <string.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>

#define AMX     KERNEL_TARGET("amx-tile,amx-bf16,avx512f,avx512bw")
#define VECTORS KERNEL_TARGET("avx512f,avx512bw,avx512bf16")

enum {
    STEP = 32, /* values of k that a tile holds */
    PARTS = FLOAT_PARTS,
    HALF = 16,         /* of a strip: columns of a tile */
    TILE_BYTES = 1024, /* 16 rows of 32 bfloat16 */
    ROW_BYTES = 64,    /* a cache line */
};

/* A panel is one tile of rows or two, of this height. */
static ALWAYS_INLINE size_t tile_rows(size_t tallest)
{
    return tallest <= HALF ? tallest : (tallest + 1) / 2;
}

static ALWAYS_INLINE size_t n_tiles(size_t tallest)
{
    return tallest <= HALF ? 1 : 2;
}

/* The nearest bfloat16 of 32 values, which become what it leaves. */
VECTORS static ALWAYS_INLINE __m512i take_part(__m512 *low, __m512 *high)
{
    __m512i part = (__m512i)_mm512_cvtne2ps_pbh(*high, *low);
    __m512i low_bits = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(part));
    __m512i high_bits = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(part, 1));

    *low = _mm512_sub_ps(*low, _mm512_castsi512_ps(_mm512_slli_epi32(low_bits, 16)));
    *high = _mm512_sub_ps(*high, _mm512_castsi512_ps(_mm512_slli_epi32(high_bits, 16)));
    return part;
}

/* Lanes below n of 16. */
static ALWAYS_INLINE __mmask16 lanes_below(size_t n)
{
    return (__mmask16)(n >= HALF ? 0xffffu : (1u << n) - 1);
}

/* Part after part of a step, tile after tile of it; rows that fill up are zeros. */
VECTORS static void amx_rows(void *panel, const float *x, size_t ldx, size_t rows, size_t tallest,
                             size_t K)
{
    size_t height = tile_rows(tallest), tiles = n_tiles(tallest);

    for (size_t r = 0; r < tiles * height; r++, x += ldx) {
        char *to = (char *)panel + r / height * TILE_BYTES + r % height * ROW_BYTES;

        for (size_t k = 0; k < K; k += STEP) {
            size_t n = r < rows ? K - k : 0;
            __m512 low = _mm512_maskz_loadu_ps(lanes_below(n), x + k);
            __m512 high = _mm512_maskz_loadu_ps(lanes_below(n > HALF ? n - HALF : 0), x + k + HALF);

            for (int part = 0; part < PARTS; part++, to += tiles * TILE_BYTES)
                _mm512_store_si512(to, take_part(&low, &high));
        }
    }
}

/* Values of two k lie side by side, as the instruction takes them. */
VECTORS static void amx_strip(void *tiles, const float *strip, size_t K)
{
    const __m512i in_pairs =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    char *to = tiles;

    for (size_t k = 0; k < K; k += STEP, to += 2 * TILE_BYTES)
        for (size_t pair = 0; pair < STEP; pair += 2)
            for (size_t half = 0; half < 2; half++) {
                const float *at = strip + (k + pair) * FLOAT_COLUMNS + half * HALF;
                __m512 even = _mm512_setzero_ps(), odd = even;

                if (k + pair < K)
                    even = _mm512_loadu_ps(at);
                if (k + pair + 1 < K)
                    odd = _mm512_loadu_ps(at + FLOAT_COLUMNS);
                _mm512_store_si512(
                    to + half * TILE_BYTES + pair / 2 * ROW_BYTES,
                    _mm512_permutexvar_epi16(in_pairs, (__m512i)_mm512_cvtne2ps_pbh(odd, even)));
            }
}

AMX static void amx_begin(size_t tallest)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } tiles = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}};

    for (int i = 0; i < 6; i++) /* sums, then rows */
        tiles.rows[i] = (uint8_t)tile_rows(tallest);
    tiles.rows[6] = tiles.rows[7] = HALF;          /* pairs of k in a step */
    __asm__ volatile("" ::"r"(&tiles) : "memory"); /* GCC's intrinsic reads its first 8 bytes */
    _tile_loadconfig(&tiles);
}

AMX static void amx_end(void)
{
    _tile_release();
}

/* Of a part of the rows, which stream past the first cache: the strip of columns stays there. */
#define LOAD(part)                                                                                 \
    _tile_stream_loadd(4, rows + (part)*tiles * TILE_BYTES, ROW_BYTES);                            \
    if (tiles == 2)                                                                                \
        _tile_stream_loadd(5, rows + (part)*tiles * TILE_BYTES + TILE_BYTES, ROW_BYTES);
#define MULTIPLY                                                                                   \
    _tile_dpbf16ps(0, 4, 6);                                                                       \
    _tile_dpbf16ps(1, 4, 7);                                                                       \
    if (tiles == 2) {                                                                              \
        _tile_dpbf16ps(2, 5, 6);                                                                   \
        _tile_dpbf16ps(3, 5, 7);                                                                   \
    }

/* sums [32, 32] of `tiles` tiles of rows, a constant when inlined. */
AMX static ALWAYS_INLINE void multiply(float *sums, size_t height, const char *rows,
                                       const struct float_strip *strip, const size_t tiles)
{
    const char *columns = strip->data, *ahead = strip->ahead;
    size_t ahead_bytes = STEP * strip->ahead_step;

    _tile_zero(0);
    _tile_zero(1);
    if (tiles == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t k = 0; k < strip->K; k += STEP, ahead += ahead_bytes) {
        for (size_t i = 0; i < ahead_bytes; i += ROW_BYTES)
            __builtin_prefetch(ahead + i, 0, 2);
        _tile_loadd(6, columns, ROW_BYTES);
        _tile_loadd(7, columns + TILE_BYTES, ROW_BYTES);
        LOAD(2)
        MULTIPLY
        LOAD(1)
        MULTIPLY
        LOAD(0)
        MULTIPLY
        rows += PARTS * tiles * TILE_BYTES;
        columns += 2 * TILE_BYTES;
    }
    _tile_stored(0, sums, FLOAT_COLUMNS * sizeof *sums);
    _tile_stored(1, sums + HALF, FLOAT_COLUMNS * sizeof *sums);
    if (tiles == 2) {
        _tile_stored(2, sums + height * FLOAT_COLUMNS, FLOAT_COLUMNS * sizeof *sums);
        _tile_stored(3, sums + height * FLOAT_COLUMNS + HALF, FLOAT_COLUMNS * sizeof *sums);
    }
}

AMX static void amx_tile(float *y, size_t ldy, const struct float_panel *panel,
                         const struct float_strip *strip, bool add)
{
    _Alignas(64) float sums[2 * HALF * FLOAT_COLUMNS];
    size_t height = tile_rows(panel->tallest);

    if (n_tiles(panel->tallest) == 2)
        multiply(sums, height, panel->data, strip, 2);
    else
        multiply(sums, height, panel->data, strip, 1);
    for (size_t r = 0; r < panel->rows; r++, y += ldy)
        for (size_t c = 0; c < FLOAT_COLUMNS; c += HALF) {
            __m512 sum = _mm512_load_ps(sums + r * FLOAT_COLUMNS + c);

            _mm512_storeu_ps(y + c, add ? _mm512_add_ps(_mm512_loadu_ps(y + c), sum) : sum);
        }
}

static const struct float_parts parts = {amx_begin, amx_end, amx_rows, amx_strip};

const struct float_kernel *float_amx(void)
{
    static const struct float_kernel amx = {.name = "amx",
                                            .rows = FLOAT_MAX_ROWS,
                                            .block_rows = (size_t)FLOAT_AMX_PANELS * FLOAT_MAX_ROWS,
                                            .group = FLOAT_AMX_GROUP,
                                            .tile = amx_tile,
                                            .parts = &parts};

    return amx_is_there(AMX_BF16) ? &amx : NULL;
}
#else
const struct float_kernel *float_amx(void)
{
    return NULL;
}
#endif
