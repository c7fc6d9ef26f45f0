#include "reinforce/image/perceptual_hash.h"

#include "reinforce/image/resample.h"

#include <math.h>
#include <stdlib.h>

#define ROUNDING 1e-6

enum { SIDE = 32, LOW = 8 };

/* As Pillow's convert("L"). */
static enum status to_luma(const struct image *image, struct arena *arena, struct image *luma,
                           struct error *err)
{
    size_t n = (size_t)image->width * (size_t)image->height;
    enum status st = image_alloc(luma, image->width, image->height, 1, arena, err);

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        const uint8_t *rgb = image->pixels + 3 * i;

        luma->pixels[i] =
            (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
    }
    return st;
}

/* 2 sum x_k cos(pi u (2k + 1) / 2n): the lowest of DCT-II, unscaled. */
static void low_frequencies(const double *x, size_t stride, double basis[LOW][SIDE], double *out,
                            size_t out_stride)
{
    for (size_t u = 0; u < LOW; u++) {
        double sum = 0;

        for (size_t k = 0; k < SIDE; k++)
            sum += x[k * stride] * basis[u][k];
        out[u * out_stride] = 2 * sum;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

enum status perceptual_hash(const struct image *image, struct arena *arena, uint64_t *hash,
                            struct error *err)
{
    double pixels[SIDE * SIDE], columns[LOW * SIDE], low[LOW * LOW], sorted[LOW * LOW], median;
    double basis[LOW][SIDE];
    struct arena mark = *arena;
    struct image luma, small;
    enum status st = to_luma(image, arena, &luma, err);

    if (st == ST_OK)
        st = image_resize(&luma, 0, 0, luma.height, luma.width, SIDE, SIDE, RESAMPLE_LANCZOS, arena,
                          &small, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < (size_t)SIDE * SIDE; i++)
        pixels[i] = small.pixels[i];
    arena_rewind(arena, &mark);
    for (size_t u = 0; u < LOW; u++)
        for (size_t k = 0; k < SIDE; k++)
            basis[u][k] = cos(acos(-1.0) * (double)u * (2.0 * (double)k + 1) / (2 * SIDE));
    for (size_t x = 0; x < SIDE; x++)
        low_frequencies(pixels + x, SIDE, basis, columns + x, SIDE);
    for (size_t v = 0; v < LOW; v++)
        low_frequencies(columns + v * SIDE, 1, basis, low + v * LOW, 1);
    for (size_t i = 0; i < (size_t)LOW * LOW; i++) {
        low[i] = fabs(low[i]) > ROUNDING ? low[i] : 0; /* of one colour, all but the first are 0 */
        sorted[i] = low[i];
    }
    qsort(sorted, (size_t)LOW * LOW, sizeof *sorted, ascending);
    median = (sorted[LOW * LOW / 2 - 1] + sorted[LOW * LOW / 2]) / 2;
    *hash = 0;
    for (size_t i = 0; i < (size_t)LOW * LOW; i++)
        *hash = *hash << 1 | (low[i] > median);
    return ST_OK;
}
