#include "reinforce/nn/int8_kernels.h"

#include "reinforce/nn/int8.h"

#include <pthread.h>
#include <string.h>

#if defined(KERNEL_TARGET)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { QUAD_BYTES = 4 * INT8_COLUMNS, GROUP_PANEL_BYTES = INT8_GROUP * INT8_COLUMNS };

static ALWAYS_INLINE int32_t four_at(const int8_t *at)
{
    int32_t four;

    memcpy(&four, at, sizeof four);
    return four;
}

/* A group of a tile's rows. */
struct group {
    const int8_t *scales, *offsets, *values;
    size_t n_quads; /* of a row; those behind are zeros */
};

static ALWAYS_INLINE struct group group_at(const int8_t *x, size_t rows, size_t n_values)
{
    return (struct group){.scales = x,
                          .offsets = x + 4 * rows,
                          .values = x + int8_head_bytes(rows),
                          .n_quads = (MIN(n_values, (size_t)INT8_GROUP) + 3) / 4};
}

static ALWAYS_INLINE const int8_t *next_group(const int8_t *x, size_t rows)
{
    return x + int8_group_bytes(rows);
}

/* A tile, panel by panel. */
#define EACH_PANEL(one)                                                                            \
    for (size_t p = 0; p < n_panels; p++)                                                          \
        one(total + p * INT8_TOTALS, x, rows, w + p * int8_panel_bytes(K), K);
#define TILE_OF_PANELS(name, one)                                                                  \
    static void name(float *total, const int8_t *x, size_t rows, const uint8_t *w,                 \
                     size_t n_panels, size_t K)                                                    \
    {                                                                                              \
        EACH_PANEL(one)                                                                            \
    }

BYTE_KERNEL_CLONES static void plain_panel(float *total, const int8_t *x, size_t rows,
                                           const uint8_t *w, size_t K)
{
    memset(total, 0, rows * INT8_COLUMNS * sizeof *total);
    for (size_t k = 0; k < K; k += INT8_GROUP) {
        const struct group group = group_at(x, rows, K - k);

        for (size_t r = 0; r < rows; r++) {
            const int8_t *quad = group.values + r * INT8_GROUP;
            const uint8_t *columns = w;
            int32_t sum[INT8_COLUMNS];
            float scale;

            memcpy(&scale, group.scales + 4 * r, sizeof scale);
            for (size_t c = 0; c < INT8_COLUMNS; c++)
                sum[c] = four_at(group.offsets + 4 * r);
            for (size_t q = 0; q < group.n_quads; q++, quad += 4, columns += QUAD_BYTES)
                for (size_t c = 0; c < INT8_COLUMNS; c++)
                    sum[c] += quad[0] * columns[4 * c] + quad[1] * columns[4 * c + 1] +
                              quad[2] * columns[4 * c + 2] + quad[3] * columns[4 * c + 3];
            for (size_t c = 0; c < INT8_COLUMNS; c++)
                total[r * INT8_COLUMNS + c] += (float)sum[c] * scale;
        }
        x = next_group(x, rows);
        w += GROUP_PANEL_BYTES;
    }
}

TILE_OF_PANELS(plain_tile, plain_panel)

#if defined(KERNEL_TARGET)
#define AVX2 KERNEL_TARGET("avx2")

/* Products of bytes in pairs of 16 bits, even and odd ones apart: the instruction that takes bytes
 * saturates. */
AVX2 static void avx2_panel(float *total, const int8_t *x, size_t rows, const uint8_t *w, size_t K)
{
    enum { VECTORS = INT8_COLUMNS / 8 };
    const __m256i low_bytes = _mm256_set1_epi16(255);

    memset(total, 0, rows * INT8_COLUMNS * sizeof *total);
    for (size_t k = 0; k < K; k += INT8_GROUP) {
        const struct group group = group_at(x, rows, K - k);

        for (size_t r = 0; r < rows; r++) {
            const __m256 scale = _mm256_castsi256_ps(_mm256_set1_epi32(four_at(x + 4 * r)));
            __m256i sum[VECTORS];

            for (int v = 0; v < VECTORS; v++)
                sum[v] = _mm256_set1_epi32(four_at(group.offsets + 4 * r));
            for (size_t q = 0; q < group.n_quads; q++) {
                const __m256i quad =
                    _mm256_set1_epi32(four_at(group.values + r * INT8_GROUP + 4 * q));
                const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(quad, 8), 8);
                const __m256i odd = _mm256_srai_epi16(quad, 8);

                for (int v = 0; v < VECTORS; v++) {
                    const __m256i bytes = _mm256_load_si256(
                        (const __m256i *)(const void *)(w + (q * VECTORS + (size_t)v) * 32));

                    sum[v] = _mm256_add_epi32(
                        sum[v], _mm256_madd_epi16(_mm256_and_si256(bytes, low_bytes), even));
                    sum[v] = _mm256_add_epi32(sum[v],
                                              _mm256_madd_epi16(_mm256_srli_epi16(bytes, 8), odd));
                }
            }
            for (int v = 0; v < VECTORS; v++) {
                float *to = total + r * INT8_COLUMNS + 8 * v;

                _mm256_storeu_ps(to,
                                 _mm256_add_ps(_mm256_loadu_ps(to),
                                               _mm256_mul_ps(_mm256_cvtepi32_ps(sum[v]), scale)));
            }
        }
        x = next_group(x, rows);
        w += GROUP_PANEL_BYTES;
    }
}

TILE_OF_PANELS(avx2_tile, avx2_panel)

/* Sums of 16 columns of a row, as float32, times the row's scale. */
#define AVX512 KERNEL_TARGET("avx512f,avx512bw")
AVX512 static ALWAYS_INLINE void add_scaled(float *total, __m512i sum, const int8_t *scale)
{
    const __m512 scales = _mm512_castsi512_ps(_mm512_set1_epi32(four_at(scale)));

    _mm512_storeu_ps(total, _mm512_add_ps(_mm512_loadu_ps(total),
                                          _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales)));
}

#define VNNI KERNEL_TARGET("avx512f,avx512bw,avx512vnni")
enum { VNNI_ROWS = 14 }; /* what 32 registers hold beside a quad of a panel */

/* Sums are variables of their own, as those of an array go through memory, and the instruction is
 * spelt out, as GCC moves the intrinsic's operand about. */
#define EACH_ROW(DO)                                                                               \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13)
#define BEGIN(r)                                                                                   \
    __m512i low##r = _mm512_set1_epi32((r) < n ? four_at(group.offsets + 4 * (r)) : 0),            \
            high##r = low##r;
#define MULTIPLY(r)                                                                                \
    if ((r) < n) {                                                                                 \
        const __m512i quad = _mm512_set1_epi32(four_at(values + (r)*INT8_GROUP));                  \
        __asm__("vpdpbusd %2, %1, %0" : "+v"(low##r) : "v"(w_low), "v"(quad));                     \
        __asm__("vpdpbusd %2, %1, %0" : "+v"(high##r) : "v"(w_high), "v"(quad));                   \
    }
#define ADD(r)                                                                                     \
    if ((r) < n) {                                                                                 \
        add_scaled(total + (r)*INT8_COLUMNS, low##r, group.scales + 4 * (r));                      \
        add_scaled(total + (r)*INT8_COLUMNS + 16, high##r, group.scales + 4 * (r));                \
    }

/* `n` rows, a constant when inlined, from row `first` of a tile of `rows` on. */
VNNI static ALWAYS_INLINE void vnni_rows(float *total, const int8_t *x, size_t first,
                                         const size_t n, size_t rows, const uint8_t *w, size_t K)
{
    memset(total, 0, n * INT8_COLUMNS * sizeof *total);
    for (size_t k = 0; k < K; k += INT8_GROUP) {
        struct group group = group_at(x, rows, K - k);
        const int8_t *values = group.values + first * INT8_GROUP;
        const int8_t *end = values + 4 * group.n_quads;

        group.scales += 4 * first;
        group.offsets += 4 * first;
        EACH_ROW(BEGIN)
        for (const uint8_t *at = w; values < end; values += 4, at += QUAD_BYTES) {
            const __m512i w_low = _mm512_load_si512(at), w_high = _mm512_load_si512(at + 64);

            EACH_ROW(MULTIPLY)
        }
        EACH_ROW(ADD)
        __asm__ volatile("" ::: "memory"); /* totals stay there: registers are for sums */
        x = next_group(x, rows);
        w += GROUP_PANEL_BYTES;
    }
}

VNNI static void vnni_panel(float *total, const int8_t *x, size_t rows, const uint8_t *w, size_t K)
{
    size_t n_passes = (rows + VNNI_ROWS - 1) / VNNI_ROWS, first = 0;

#define CASE(r)                                                                                    \
    case (r) + 1:                                                                                  \
        vnni_rows(total + first * INT8_COLUMNS, x, first, (r) + 1, rows, w, K);                    \
        break;
    for (size_t pass = 1; pass <= n_passes; pass++) {
        size_t end = rows * pass / n_passes;

        switch (end - first) {
            EACH_ROW(CASE)
        default:
            break;
        }
        first = end;
    }
}

TILE_OF_PANELS(vnni_tile, vnni_panel)

/*
 * AMX multiplies a tile of up to 16 rows of 64 bytes by one of 16 quads of 16 columns. Tiles 0 to 3
 * are sums: of the low and the high columns times the first half of the rows, then the second. Two
 * tiles, 4 and 5, hold a group of half of the rows, 6 and 7 one of half of the columns. Sums are
 * finished one after the other, and stored when the next is under way: a tile that is just being
 * multiplied would be waited for.
 */
#define AMX KERNEL_TARGET("amx-tile,amx-int8,avx512f,avx512bw")
_Static_assert(INT8_ROWS == 2 * AMX_ROWS, "a tile of rows is two of AMX's");

AMX static void amx_begin(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } tiles = {.palette = 1,
               .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
               .rows = {AMX_ROWS, AMX_ROWS, AMX_ROWS, AMX_ROWS, AMX_ROWS, AMX_ROWS, 16, 16}};

    _tile_loadconfig(&tiles);
}

AMX static void amx_end(void)
{
    _tile_release();
}

/* Halves of a group's values and of a panel's columns, and where the sums of a tile go. */
#define VALUES(half)  (group.values + (half)*AMX_ROWS * INT8_GROUP)
#define COLUMNS(half) (w + (half)*64)
#define SUMS(tile)    (sums + (tile) / 2 * AMX_ROWS * INT8_COLUMNS + (tile) % 2 * 16)

#define LOAD_ROWS(half)                                                                            \
    _tile_loadd(4, VALUES(half), INT8_GROUP);                                                      \
    _tile_loadd(5, VALUES(half) + AMX_BYTES, INT8_GROUP);
#define LOAD_COLUMNS(half)                                                                         \
    _tile_loadd(6, COLUMNS(half), QUAD_BYTES);                                                     \
    _tile_loadd(7, COLUMNS(half) + AMX_BYTES * INT8_COLUMNS, QUAD_BYTES);
#define SUM(tile)                                                                                  \
    _tile_zero(tile);                                                                              \
    _tile_dpbsud(tile, 4, 6);                                                                      \
    _tile_dpbsud(tile, 5, 7);
#define STORE(tile) _tile_stored(tile, SUMS(tile), INT8_COLUMNS * sizeof *sums);

/* What tile `tile` has summed of the group `of`, to the totals; of `rows` rows in all. */
AMX static ALWAYS_INLINE void amx_add(float *total, const int32_t *sums, const struct group *of,
                                      size_t tile, size_t rows)
{
    size_t first = tile / 2 * AMX_ROWS, end = MIN(first + AMX_ROWS, rows);

    for (size_t r = first; r < end; r++) {
        size_t at = r * INT8_COLUMNS + tile % 2 * 16;
        const __m512i offset = _mm512_set1_epi32(four_at(of->offsets + 4 * r));

        add_scaled(total + at, _mm512_add_epi32(_mm512_load_si512(sums + at), offset),
                   of->scales + 4 * r);
    }
}

/* A group whose sums are not in the totals yet. */
struct pending {
    struct group group;
    float *total; /* NULL: there is none */
};

AMX static ALWAYS_INLINE void add_pending(const struct pending *pending, const int32_t *sums,
                                          size_t tile, size_t rows)
{
    if (pending->total != NULL)
        amx_add(pending->total, sums, &pending->group, tile, rows);
}

/* More than half a tile's rows. What a group leaves over is done during the next one, also of
 * another panel. */
AMX static void amx_all(float *total, const int8_t *x, size_t rows, const uint8_t *w,
                        size_t n_panels, size_t K)
{
    _Alignas(64) int32_t sums[INT8_TOTALS];
    struct pending last = {.total = NULL};

    for (size_t p = 0; p < n_panels; p++, total += INT8_TOTALS) {
        const int8_t *at = x;

        memset(total, 0, rows * INT8_COLUMNS * sizeof *total);
        for (size_t k = 0; k < K; k += INT8_GROUP) {
            const struct group group = group_at(at, rows, K - k);

            LOAD_ROWS(0)
            LOAD_COLUMNS(0)
            SUM(0)
            STORE(3)
            add_pending(&last, sums, 0, rows);
            LOAD_COLUMNS(1)
            SUM(1)
            STORE(2)
            add_pending(&last, sums, 1, rows);
            LOAD_ROWS(1)
            SUM(3)
            STORE(0)
            add_pending(&last, sums, 3, rows);
            LOAD_COLUMNS(0)
            SUM(2)
            STORE(1)
            add_pending(&last, sums, 2, rows);
            last = (struct pending){group, total};
            at = next_group(at, rows);
            w += GROUP_PANEL_BYTES;
        }
    }
    STORE(3)
    STORE(2)
    for (size_t tile = 0; tile < 4; tile++)
        add_pending(&last, sums, tile, rows);
}

AMX static void amx_half(float *total, const int8_t *x, size_t rows, const uint8_t *w, size_t K)
{
    _Alignas(64) int32_t sums[AMX_ROWS * INT8_COLUMNS];

    memset(total, 0, rows * INT8_COLUMNS * sizeof *total);
    for (size_t k = 0; k < K; k += INT8_GROUP) {
        const struct group group = group_at(x, rows, K - k);

        LOAD_ROWS(0)
        LOAD_COLUMNS(0)
        SUM(0)
        LOAD_COLUMNS(1)
        SUM(1)
        STORE(0)
        STORE(1)
        amx_add(total, sums, &group, 0, rows);
        amx_add(total, sums, &group, 1, rows);
        x = next_group(x, rows);
        w += GROUP_PANEL_BYTES;
    }
}

static void amx_tile(float *total, const int8_t *x, size_t rows, const uint8_t *w, size_t n_panels,
                     size_t K)
{
    if (rows > AMX_ROWS)
        amx_all(total, x, rows, w, n_panels, K);
    else
        EACH_PANEL(amx_half)
}

/* The processor has them, and the kernel lets this process use them. */
static bool amx_is_there(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18, AMX_INT8 = 1 << 25 };
    unsigned a, b, c, d;

    return __builtin_cpu_supports("avx512bw") && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (d & AMX_INT8) != 0 && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#endif

static const struct int8_kernel kernels[] = {
#if defined(KERNEL_TARGET)
    {"amx", amx_tile, amx_begin, amx_end},
    {"avx512vnni", vnni_tile, NULL, NULL},
    {"avx2", avx2_tile, NULL, NULL},
#endif
    {"plain", plain_tile, NULL, NULL},
};

static size_t first_kernel;

static void find_first(void)
{
#if defined(KERNEL_TARGET)
    if (amx_is_there())
        first_kernel = 0;
    else if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"))
        first_kernel = 1;
    else
        first_kernel = __builtin_cpu_supports("avx2") ? 2 : 3;
#endif
}

const struct int8_kernel *int8_kernels(size_t *n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, find_first);
    *n = ARRAY_LEN(kernels) - first_kernel;
    return kernels + first_kernel;
}
