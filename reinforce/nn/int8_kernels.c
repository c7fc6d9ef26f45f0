#include "reinforce/nn/int8_kernels.h"

#include "reinforce/nn/amx.h"
#include "reinforce/nn/int8.h"

#include <pthread.h>
#include <string.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>
#endif

enum { QUAD_BYTES = INT8_QUAD * INT8_COLUMNS, CHUNK_QUADS = INT8_CHUNK / INT8_QUAD };

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

static ALWAYS_INLINE struct group group_at(const int8_t *at, size_t rows, size_t n_values)
{
    return (struct group){.scales = at,
                          .offsets = at + 4 * rows,
                          .values = at + int8_head_bytes(rows),
                          .n_quads = (n_values + 3) / 4};
}

/* A tile's groups, each with its part of a panel. */
struct walk {
    const struct int8_tile *x;
    const int8_t *at;
    const uint8_t *w;
    size_t n_values; /* of this group; 0: there are no more */
    size_t left;
};

static ALWAYS_INLINE struct walk walk_of(const struct int8_tile *x, const uint8_t *w)
{
    size_t n = MIN(x->K, x->group);

    return (struct walk){.x = x, .at = x->data, .w = w, .n_values = n, .left = x->K - n};
}

static ALWAYS_INLINE void walk_on(struct walk *walk)
{
    walk->at += int8_group_bytes(walk->x->rows, walk->n_values);
    walk->w += int8_panel_bytes(walk->n_values);
    walk->n_values = MIN(walk->left, walk->x->group);
    walk->left -= walk->n_values;
}

/* A panel's columns from totals [rows][INT8_COLUMNS]. */
KERNEL_CLONES static void finish_panel(const struct int8_result *to, size_t panel,
                                       const float *total, size_t rows)
{
    const float *scale = to->scale + panel * INT8_COLUMNS, *bias = to->bias + panel * INT8_COLUMNS;

    for (size_t r = 0; r < rows; r++, total += INT8_COLUMNS) {
        float *restrict y = to->y + r * to->ldy + panel * INT8_COLUMNS;

        for (size_t c = 0; c < INT8_COLUMNS; c++) {
            float sum = total[c] * scale[c] + bias[c];

            y[c] = to->add ? y[c] + sum : sum;
        }
    }
}

enum { TOTALS = INT8_ROWS * INT8_COLUMNS };

/* A tile, panel by panel. */
#define TILE_OF_PANELS(name, one)                                                                  \
    static void name(const struct int8_result *to, const struct int8_tile *x, const uint8_t *w,    \
                     size_t n_panels)                                                              \
    {                                                                                              \
        _Alignas(64) float total[TOTALS];                                                          \
                                                                                                   \
        for (size_t p = 0; p < n_panels; p++) {                                                    \
            memset(total, 0, sizeof total);                                                        \
            one(total, x, w + p * int8_panel_bytes(x->K));                                         \
            finish_panel(to, p, total, x->rows);                                                   \
        }                                                                                          \
    }

/* Quad q of row r. */
static ALWAYS_INLINE const int8_t *quad_at(const struct group *group, size_t rows, size_t r,
                                           size_t q)
{
    return group->values + (q / CHUNK_QUADS * rows + r) * INT8_CHUNK + q % CHUNK_QUADS * 4;
}

BYTE_KERNEL_CLONES static void plain_panel(float *total, const struct int8_tile *x,
                                           const uint8_t *w)
{
    size_t rows = x->rows;

    for (struct walk walk = walk_of(x, w); walk.n_values > 0; walk_on(&walk)) {
        const struct group group = group_at(walk.at, rows, walk.n_values);

        for (size_t r = 0; r < rows; r++) {
            const uint8_t *columns = walk.w;
            int32_t sum[INT8_COLUMNS];
            float scale;

            memcpy(&scale, group.scales + 4 * r, sizeof scale);
            for (size_t c = 0; c < INT8_COLUMNS; c++)
                sum[c] = four_at(group.offsets + 4 * r);
            for (size_t q = 0; q < group.n_quads; q++, columns += QUAD_BYTES) {
                const int8_t *quad = quad_at(&group, rows, r, q);

                for (size_t c = 0; c < INT8_COLUMNS; c++)
                    sum[c] += quad[0] * columns[4 * c] + quad[1] * columns[4 * c + 1] +
                              quad[2] * columns[4 * c + 2] + quad[3] * columns[4 * c + 3];
            }
            for (size_t c = 0; c < INT8_COLUMNS; c++)
                total[r * INT8_COLUMNS + c] += (float)sum[c] * scale;
        }
    }
}

TILE_OF_PANELS(plain_tile, plain_panel)

#if defined(KERNEL_TARGET)
#define AVX2 KERNEL_TARGET("avx2")

/* Products of bytes in pairs of 16 bits, even and odd ones apart: the instruction that takes bytes
 * saturates. */
AVX2 static void avx2_panel(float *total, const struct int8_tile *x, const uint8_t *w)
{
    enum { VECTORS = INT8_COLUMNS / 8 };
    const __m256i low_bytes = _mm256_set1_epi16(255);
    size_t rows = x->rows;

    for (struct walk walk = walk_of(x, w); walk.n_values > 0; walk_on(&walk)) {
        const struct group group = group_at(walk.at, rows, walk.n_values);

        for (size_t r = 0; r < rows; r++) {
            const __m256 scale =
                _mm256_castsi256_ps(_mm256_set1_epi32(four_at(group.scales + 4 * r)));
            __m256i sum[VECTORS];

            for (int v = 0; v < VECTORS; v++)
                sum[v] = _mm256_set1_epi32(four_at(group.offsets + 4 * r));
            for (size_t q = 0; q < group.n_quads; q++) {
                const __m256i quad = _mm256_set1_epi32(four_at(quad_at(&group, rows, r, q)));
                const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(quad, 8), 8);
                const __m256i odd = _mm256_srai_epi16(quad, 8);

                for (int v = 0; v < VECTORS; v++) {
                    const __m256i bytes = _mm256_load_si256(
                        (const __m256i *)(const void *)(walk.w + (q * VECTORS + (size_t)v) * 32));

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
enum { VNNI_ROWS = 14 }; /* at most at once: what 32 registers hold beside a quad of a panel */

/* Sums are variables of their own, as those of an array go through memory, and the instruction is
 * spelt out, as GCC moves the intrinsic's operand about. */
#define EACH_ROW(DO)                                                                               \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13)
#define BEGIN(r)                                                                                   \
    __m512i low##r = _mm512_set1_epi32((r) < n ? four_at(group.offsets + 4 * (r)) : 0),            \
            high##r = low##r;
#define MULTIPLY(r)                                                                                \
    if ((r) < n) {                                                                                 \
        const __m512i quad = _mm512_set1_epi32(four_at(values + (r)*INT8_CHUNK));                  \
        __asm__("vpdpbusd %2, %1, %0" : "+v"(low##r) : "v"(w_low), "v"(quad));                     \
        __asm__("vpdpbusd %2, %1, %0" : "+v"(high##r) : "v"(w_high), "v"(quad));                   \
    }
#define ADD(r)                                                                                     \
    if ((r) < n) {                                                                                 \
        add_scaled(total + (r)*INT8_COLUMNS, low##r, group.scales + 4 * (r));                      \
        add_scaled(total + (r)*INT8_COLUMNS + 16, high##r, group.scales + 4 * (r));                \
    }

/* `n` rows, a constant when inlined, from row `first` of a tile on. */
VNNI static ALWAYS_INLINE void vnni_rows(float *total, const struct int8_tile *x, size_t first,
                                         const size_t n, const uint8_t *w)
{
    for (struct walk walk = walk_of(x, w); walk.n_values > 0; walk_on(&walk)) {
        struct group group = group_at(walk.at, x->rows, walk.n_values);
        const int8_t *chunk = group.values + first * INT8_CHUNK;
        const uint8_t *at = walk.w;

        group.scales += 4 * first;
        group.offsets += 4 * first;
        EACH_ROW(BEGIN)
        for (size_t q = 0; q < group.n_quads; q += CHUNK_QUADS, chunk += x->rows * INT8_CHUNK) {
            const int8_t *end = chunk + 4 * MIN(group.n_quads - q, (size_t)CHUNK_QUADS);

            for (const int8_t *values = chunk; values < end; values += 4, at += QUAD_BYTES) {
                const __m512i w_low = _mm512_load_si512(at), w_high = _mm512_load_si512(at + 64);

                EACH_ROW(MULTIPLY)
            }
        }
        EACH_ROW(ADD)
        __asm__ volatile("" ::: "memory"); /* totals stay there: registers are for sums */
    }
}

VNNI static void vnni_panel(float *total, const struct int8_tile *x, const uint8_t *w)
{
    size_t n_passes = (x->rows + VNNI_ROWS - 1) / VNNI_ROWS, first = 0;

#define CASE(r)                                                                                    \
    case (r) + 1:                                                                                  \
        vnni_rows(total + first * INT8_COLUMNS, x, first, (r) + 1, w);                             \
        break;
    for (size_t pass = 1; pass <= n_passes; pass++) {
        size_t end = x->rows * pass / n_passes;

        switch (end - first) {
            EACH_ROW(CASE)
        default:
            break;
        }
        first = end;
    }
}

TILE_OF_PANELS(vnni_panels, vnni_panel)

/* One or two rows wait for memory, which four panels side by side deliver faster than one after the
 * other; a processor does not look past a page. */
enum { FEW_ROWS = 2, STREAMS = 4, STREAM_AHEAD = 1024 };

/* `rows` is a constant when inlined. */
VNNI static ALWAYS_INLINE void vnni_streams(float total[STREAMS][FEW_ROWS * INT8_COLUMNS],
                                            const struct int8_tile *x, const uint8_t *w,
                                            const size_t rows)
{
    size_t panel_bytes = int8_panel_bytes(x->K);

    for (struct walk walk = walk_of(x, w); walk.n_values > 0; walk_on(&walk)) {
        const struct group group = group_at(walk.at, rows, walk.n_values);
        __m512i sum[STREAMS][FEW_ROWS][2];

        for (size_t s = 0; s < STREAMS; s++)
            for (size_t r = 0; r < rows; r++)
                sum[s][r][0] = sum[s][r][1] = _mm512_set1_epi32(four_at(group.offsets + 4 * r));
        for (size_t q = 0; q < group.n_quads; q++) {
            const uint8_t *at = walk.w + q * QUAD_BYTES;
            __m512i quad[FEW_ROWS];

            for (size_t r = 0; r < rows; r++)
                quad[r] = _mm512_set1_epi32(four_at(quad_at(&group, rows, r, q)));
            for (size_t s = 0; s < STREAMS; s++, at += panel_bytes) {
                const __m512i low = _mm512_load_si512(at), high = _mm512_load_si512(at + 64);

                __builtin_prefetch(at + STREAM_AHEAD);
                __builtin_prefetch(at + STREAM_AHEAD + 64);
                for (size_t r = 0; r < rows; r++) {
                    sum[s][r][0] = _mm512_dpbusd_epi32(sum[s][r][0], low, quad[r]);
                    sum[s][r][1] = _mm512_dpbusd_epi32(sum[s][r][1], high, quad[r]);
                }
            }
        }
        for (size_t s = 0; s < STREAMS; s++)
            for (size_t r = 0; r < rows; r++) {
                add_scaled(total[s] + r * INT8_COLUMNS, sum[s][r][0], group.scales + 4 * r);
                add_scaled(total[s] + r * INT8_COLUMNS + 16, sum[s][r][1], group.scales + 4 * r);
            }
    }
}

VNNI static void vnni_tile(const struct int8_result *to, const struct int8_tile *x,
                           const uint8_t *w, size_t n_panels)
{
    struct int8_result rest = *to;
    size_t p = 0;

    for (; x->rows <= FEW_ROWS && p + STREAMS <= n_panels; p += STREAMS) {
        _Alignas(64) float total[STREAMS][FEW_ROWS * INT8_COLUMNS] = {{0}};
        const uint8_t *panels = w + p * int8_panel_bytes(x->K);

        if (x->rows == 1)
            vnni_streams(total, x, panels, 1);
        else
            vnni_streams(total, x, panels, 2);
        for (size_t s = 0; s < STREAMS; s++)
            finish_panel(to, p + s, total[s], x->rows);
    }
    rest.y += p * INT8_COLUMNS;
    rest.scale += p * INT8_COLUMNS;
    rest.bias += p * INT8_COLUMNS;
    if (p < n_panels)
        vnni_panels(&rest, x, w + p * int8_panel_bytes(x->K), n_panels - p);
}

/*
 * AMX multiplies a tile of up to 16 rows of 64 bytes, a step, by one of 16 quads of 16 columns.
 * Tiles 0 to 3 are sums: of the low and the high columns times the first half of the rows, then the
 * second. Tiles 4 and 5 hold a step of the halves of the rows, 6 and 7 of the halves of the
 * columns. A group's sums are stored when it is multiplied; those of a few groups are scaled and
 * added up together, during the steps of the next few, also of another panel.
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

/* Values of a row that stay in the first cache while panels stream by, and how many groups of them
 * are added up together. */
enum { SLICE = 512, ADDED_AT_ONCE = SLICE / INT8_CHUNK };

/* Groups of a panel whose sums are not in the totals yet. */
struct pending {
    struct group groups[ADDED_AT_ONCE];
    size_t n;            /* 0: there are none */
    const int32_t *sums; /* [n][TOTALS] */
    float *total;
    size_t panel;
    bool first, whole; /* of the panel: totals begin with them, or are finished */
};

/* Panels to come, asked for step by step: a little more than all of them. */
struct asking {
    const uint8_t *at;
    size_t lines_per_step;
};

/* A tile of rows while panels pass by. */
struct amx_run {
    const struct int8_result *to;
    const struct int8_tile *x;
    struct pending last;
    size_t added; /* rows of `last` that are in the totals */
    struct asking next;
};

/* 32 columns of row r, one group's. */
struct amx_row {
    __m512 low, high;
};

AMX static ALWAYS_INLINE struct amx_row amx_scaled(const struct pending *pending, size_t g,
                                                   size_t r)
{
    const struct group *group = &pending->groups[g];
    const int32_t *sums = pending->sums + g * TOTALS + r * INT8_COLUMNS;
    const __m512i offset = _mm512_set1_epi32(four_at(group->offsets + 4 * r));
    const __m512 scale = _mm512_castsi512_ps(_mm512_set1_epi32(four_at(group->scales + 4 * r)));
    __m512i low = _mm512_add_epi32(_mm512_load_si512(sums), offset);
    __m512i high = _mm512_add_epi32(_mm512_load_si512(sums + 16), offset);

    return (struct amx_row){_mm512_mul_ps(_mm512_cvtepi32_ps(low), scale),
                            _mm512_mul_ps(_mm512_cvtepi32_ps(high), scale)};
}

/* Rows of the sums that a step adds to the totals. */
enum { STEP_ROWS = 4 };

/* 16 columns, what they are multiplied by and what is added. */
struct amx_columns {
    __m512 scale, bias;
};

AMX static ALWAYS_INLINE struct amx_columns amx_columns_at(const struct int8_result *to,
                                                           size_t column)
{
    return (struct amx_columns){_mm512_loadu_ps(to->scale + column),
                                _mm512_loadu_ps(to->bias + column)};
}

AMX static ALWAYS_INLINE void amx_finish(float *y, __m512 total, const struct amx_columns *columns,
                                         const bool add)
{
    __m512 sum = _mm512_add_ps(_mm512_mul_ps(total, columns->scale), columns->bias);

    _mm512_storeu_ps(y, add ? _mm512_add_ps(_mm512_loadu_ps(y), sum) : sum);
}

/* Rows [begin, end) of the sums, added to the totals or, with the `whole` panel, finished. */
AMX static ALWAYS_INLINE void amx_add_as(const struct int8_result *to,
                                         const struct pending *pending, size_t begin, size_t end,
                                         const bool several, const bool first, const bool whole,
                                         const bool add)
{
    size_t column = pending->panel * INT8_COLUMNS, ldy = to->ldy, n = several ? pending->n : 1;
    float *totals = pending->total, *y = to->y + column;
    const struct amx_columns left = amx_columns_at(to, column),
                             right = amx_columns_at(to, column + 16);

    for (size_t r = begin; r < end; r++) {
        float *total = totals + r * INT8_COLUMNS;
        struct amx_row sum =
            first ? amx_scaled(pending, 0, r)
                  : (struct amx_row){_mm512_load_ps(total), _mm512_load_ps(total + 16)};

        for (size_t g = first ? 1 : 0; g < n; g++) {
            const struct amx_row scaled = amx_scaled(pending, g, r);

            sum.low = _mm512_add_ps(sum.low, scaled.low);
            sum.high = _mm512_add_ps(sum.high, scaled.high);
        }
        if (whole) {
            amx_finish(y + r * ldy, sum.low, &left, add);
            amx_finish(y + r * ldy + 16, sum.high, &right, add);
        } else {
            _mm512_store_ps(total, sum.low);
            _mm512_store_ps(total + 16, sum.high);
        }
    }
}

/* As many rows of the last groups as a step takes. */
AMX static ALWAYS_INLINE void amx_add(struct amx_run *run, const bool several)
{
    const struct int8_result *to = run->to;
    const struct pending *last = &run->last;
    size_t begin = run->added, end = MIN(begin + STEP_ROWS, run->x->rows);

    if (!last->whole && last->first)
        amx_add_as(to, last, begin, end, several, true, false, false);
    else if (!last->whole)
        amx_add_as(to, last, begin, end, several, false, false, false);
    else if (last->first && to->add)
        amx_add_as(to, last, begin, end, several, true, true, true);
    else if (last->first)
        amx_add_as(to, last, begin, end, several, true, true, false);
    else if (to->add)
        amx_add_as(to, last, begin, end, several, false, true, true);
    else
        amx_add_as(to, last, begin, end, several, false, true, false);
    run->added = end;
}

AMX static ALWAYS_INLINE void amx_add_rest(struct amx_run *run, const bool several)
{
    while (run->last.n > 0 && run->added < run->x->rows)
        amx_add(run, several);
}

#define STORE(tile)                                                                                \
    _tile_stored(tile, sums + (tile) / 2 * AMX_ROWS * INT8_COLUMNS + (tile) % 2 * 16,              \
                 INT8_COLUMNS * sizeof *sums);

/* How far ahead memory is asked for: tiles are not what a processor foresees. */
enum { AMX_AHEAD = 6144 };

/* The sums of a group times a panel's part, `both` halves of the rows or the first alone. Meanwhile
 * those of the last group, or of `several`, are added up. Both are constants when inlined. */
AMX static ALWAYS_INLINE void amx_group(struct amx_run *run, int32_t *sums,
                                        const struct group *group, const uint8_t *w,
                                        const bool both, const bool several)
{
    size_t n_steps = (group->n_quads * INT8_QUAD + AMX_BYTES - 1) / AMX_BYTES;
    size_t rows = run->x->rows;

    _tile_zero(0);
    _tile_zero(1);
    if (both) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t step = 0; step < n_steps; step++, w += AMX_BYTES * INT8_COLUMNS) {
        const int8_t *values = quad_at(group, rows, 0, step * AMX_BYTES / INT8_QUAD);

        for (size_t i = 0; run->x->w_is_far && i < AMX_BYTES * INT8_COLUMNS; i += 64)
            __builtin_prefetch(w + AMX_AHEAD + i);
        for (size_t i = 0; i < run->next.lines_per_step; i++, run->next.at += 64)
            __builtin_prefetch(run->next.at, 0, 2);
        /* loads first: where a neighbour uses the core they and products take turns */
        _tile_stream_loadd(6, w, QUAD_BYTES);
        _tile_loadd(4, values, INT8_CHUNK);
        _tile_stream_loadd(7, w + 64, QUAD_BYTES);
        if (both)
            _tile_loadd(5, values + AMX_ROWS * INT8_CHUNK, INT8_CHUNK);
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        if (both) {
            _tile_dpbsud(2, 5, 6);
            _tile_dpbsud(3, 5, 7);
        }
        if (run->last.n > 0 && run->added < rows)
            amx_add(run, several);
    }
    if (run->last.sums == sums) /* before they are overwritten */
        amx_add_rest(run, several);
    STORE(0)
    STORE(1)
    if (both) {
        STORE(2)
        STORE(3)
    }
}

/* Slices of the rows stay in the first cache while panels stream by. What comes from memory wants
 * long pieces of a panel, and few instructions between what is asked for. */
AMX static ALWAYS_INLINE void amx_panels(const struct int8_result *to, const struct int8_tile *x,
                                         const uint8_t *w, size_t n_panels, const bool both,
                                         const bool several)
{
    _Alignas(64) int32_t sums[2][ADDED_AT_ONCE * TOTALS];
    _Alignas(64) float total[INT8_PANELS * TOTALS];
    struct walk end = walk_of(x, w);
    size_t n_steps = n_panels * ((x->K + AMX_BYTES - 1) / AMX_BYTES), turn = 0;
    size_t slice = x->w_is_far ? 2 * SLICE : SLICE;
    size_t at_once = several ? SLICE / x->group : 1;
    struct amx_run run = {
        .to = to, .x = x, .next = {x->next, (x->next_lines + n_steps - 1) / n_steps}};

    for (struct walk begin = end; begin.n_values > 0; begin = end)
        for (size_t p = 0; p < n_panels; p++) {
            end = begin;
            for (size_t k = 0; k < slice && end.n_values > 0;) {
                struct pending now = {.sums = sums[turn],
                                      .total = total + p * TOTALS,
                                      .panel = p,
                                      .first = end.at == x->data};

                for (run.added = 0; now.n < at_once && end.n_values > 0; now.n++) {
                    now.groups[now.n] = group_at(end.at, x->rows, end.n_values);
                    now.whole = end.left == 0;
                    amx_group(&run, sums[turn] + now.n * TOTALS, &now.groups[now.n],
                              end.w + p * int8_panel_bytes(x->K), both, several);
                    k += x->group;
                    walk_on(&end);
                }
                amx_add_rest(&run, several);
                run.last = now;
                if (several) /* else rows are added before sums are overwritten */
                    turn ^= 1;
            }
        }
    run.added = 0;
    amx_add_rest(&run, several);
}

AMX static void amx_tile(const struct int8_result *to, const struct int8_tile *x, const uint8_t *w,
                         size_t n_panels)
{
    bool both = x->rows > AMX_ROWS, several = !x->w_is_far && x->group < SLICE;

    if (both && several)
        amx_panels(to, x, w, n_panels, true, true);
    else if (both)
        amx_panels(to, x, w, n_panels, true, false);
    else if (several)
        amx_panels(to, x, w, n_panels, false, true);
    else
        amx_panels(to, x, w, n_panels, false, false);
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
    if (amx_is_there(AMX_INT8))
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
