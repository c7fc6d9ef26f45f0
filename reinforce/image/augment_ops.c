#include "reinforce/image/augment_ops.h"

#include <float.h>
#include <math.h>

enum status augment_op_check(enum augment_op op, double magnitude, struct error *err)
{
    if (op < AUGMENT_IDENTITY || op >= AUGMENT_OP_COUNT)
        return error_set(err, ST_INVALID, "augmentation operator %d is unknown, 0 to %d are known",
                         (int)op, AUGMENT_OP_COUNT - 1);
    if (!(fabs(magnitude) < FLT_MAX)) /* blending factors are float32 */
        return error_set(err, ST_INVALID,
                         "magnitude of augmentation operator %d is %g, not a finite float32",
                         (int)op, magnitude);
    if (op == AUGMENT_POSTERIZE && !(magnitude >= 0.0 && magnitude < 9.0))
        return error_set(err, ST_INVALID, "posterize cannot keep %g bits of 8", magnitude);
    return ST_OK;
}

bool augment_op_is_pointwise(enum augment_op op)
{
    switch (op) {
    case AUGMENT_IDENTITY:
    case AUGMENT_BRIGHTNESS:
    case AUGMENT_COLOR:
    case AUGMENT_CONTRAST:
    case AUGMENT_POSTERIZE:
    case AUGMENT_SOLARIZE:
    case AUGMENT_AUTO_CONTRAST:
    case AUGMENT_EQUALIZE:
        return true;
    case AUGMENT_SHEAR_X:
    case AUGMENT_SHEAR_Y:
    case AUGMENT_TRANSLATE_X:
    case AUGMENT_TRANSLATE_Y:
    case AUGMENT_ROTATE:
    case AUGMENT_SHARPNESS:
    case AUGMENT_OP_COUNT:
        break;
    }
    return false;
}

/* Pillow truncates within 0..1 and clamps, then truncates, outside. Clamping changes nothing
 * within, and after truncation it is one of integers, which vectorises. */
static inline uint8_t clip(float v)
{
    int i = (int)v;

    return (uint8_t)MIN(MAX(i, 0), 255);
}

static inline uint8_t blend(int p, int q, float alpha)
{
    return clip((float)p + alpha * (float)(q - p));
}

/* Beyond 2^20 every difference saturates already; so bounded, a blend fits in an int. */
static float blending_factor(double magnitude)
{
    return (float)MIN(MAX(1.0 + magnitude, -0x1p20), 0x1p20);
}

BYTE_KERNEL_CLONES static void blend_with_constant(const uint8_t *from, size_t n, int p,
                                                   float alpha, uint8_t *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = blend(p, from[i], alpha);
}

static inline uint32_t luma(const uint8_t *rgb)
{
    return (19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16;
}

BYTE_KERNEL_CLONES static void blend_with_grey(const uint8_t *from, size_t n_pixels, float alpha,
                                               uint8_t *to)
{
    for (size_t i = 0; i < n_pixels; i++) {
        int grey = (int)luma(from + i * 3);
        int r = from[i * 3], g = from[i * 3 + 1], b = from[i * 3 + 2];

        to[i * 3] = blend(grey, r, alpha);
        to[i * 3 + 1] = blend(grey, g, alpha);
        to[i * 3 + 2] = blend(grey, b, alpha);
    }
}

BYTE_KERNEL_CLONES static uint64_t sum_of_luma(const uint8_t *from, size_t n_pixels)
{
    enum { BLOCK = 1 << 16 }; /* 255 * BLOCK fits in 32 bits */
    uint64_t total = 0;

    for (size_t begin = 0; begin < n_pixels; begin += BLOCK) {
        size_t end = MIN(begin + BLOCK, n_pixels);
        uint32_t sum = 0;

        for (size_t i = begin; i < end; i++)
            sum += luma(from + i * 3);
        total += sum;
    }
    return total;
}

/* In two loops: together they are not vectorised by gcc 12. */
BYTE_KERNEL_CLONES static void sharpen_row(const uint8_t *restrict above,
                                           const uint8_t *restrict here,
                                           const uint8_t *restrict below, size_t n, float alpha,
                                           uint8_t *restrict to)
{
    static const float side = 1.0f / 13.0f, middle = 5.0f / 13.0f;

    for (size_t i = 3; i < n - 3; i++) {
        float sum = 0.5f;

        sum += (float)below[i - 3] * side + (float)below[i] * side + (float)below[i + 3] * side;
        sum += (float)here[i - 3] * side + (float)here[i] * middle + (float)here[i + 3] * side;
        sum += (float)above[i - 3] * side + (float)above[i] * side + (float)above[i + 3] * side;
        to[i] = clip(sum);
    }
    for (size_t i = 3; i < n - 3; i++)
        to[i] = blend(to[i], here[i], alpha);
}

/* The border is not smoothed, and blending a pixel with itself leaves it. */
static void sharpen(const struct image *src, float alpha, uint8_t *to)
{
    size_t row = (size_t)src->width * 3;

    memcpy(to, src->pixels, image_bytes(src));
    if (src->width < 3)
        return;
    for (int y = 1; y < src->height - 1; y++) {
        const uint8_t *here = src->pixels + (size_t)y * row;

        sharpen_row(here - row, here, here + row, row, alpha, to + (size_t)y * row);
    }
}

BYTE_KERNEL_CLONES static void mask_bits(const uint8_t *from, size_t n, uint8_t mask, uint8_t *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = from[i] & mask;
}

BYTE_KERNEL_CLONES static void invert_from(const uint8_t *from, size_t n, int threshold,
                                           uint8_t *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t)(from[i] < threshold ? from[i] : 255 - from[i]);
}

static void look_up(const uint8_t *from, size_t n_pixels, uint8_t table[3][256], uint8_t *to)
{
    for (size_t i = 0; i < n_pixels * 3; i += 3) {
        to[i] = table[0][from[i]];
        to[i + 1] = table[1][from[i + 1]];
        to[i + 2] = table[2][from[i + 2]];
    }
}

BYTE_KERNEL_CLONES static void find_range(const uint8_t *from, size_t n_pixels, uint8_t lo[3],
                                          uint8_t hi[3])
{
    enum { LANES = 192 };
    uint8_t least[LANES], most[LANES];
    size_t n = n_pixels * 3, i = 0;

    memset(least, 255, sizeof least);
    memset(most, 0, sizeof most);
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            least[l] = MIN(least[l], from[i + (size_t)l]);
            most[l] = MAX(most[l], from[i + (size_t)l]);
        }
    for (int l = 0; i < n; i++, l++) {
        least[l] = MIN(least[l], from[i]);
        most[l] = MAX(most[l], from[i]);
    }
    for (int l = 0; l < LANES; l++) {
        lo[l % 3] = l < 3 ? least[l] : MIN(lo[l % 3], least[l]);
        hi[l % 3] = l < 3 ? most[l] : MAX(hi[l % 3], most[l]);
    }
}

static void auto_contrast(const struct image *src, uint8_t *to)
{
    size_t n_pixels = (size_t)src->width * (size_t)src->height;
    uint8_t lo[3], hi[3], table[3][256];

    find_range(src->pixels, n_pixels, lo, hi);
    for (int c = 0; c < 3; c++) {
        double scale = 255.0 / (hi[c] - lo[c]), offset = -lo[c] * scale;

        for (int v = 0; v < 256; v++)
            table[c][v] =
                (uint8_t)(hi[c] <= lo[c] ? v : MIN(MAX((int)(v * scale + offset), 0), 255));
    }
    look_up(src->pixels, n_pixels, table, to);
}

/* Two counters per value: equal neighbours do not wait for each other's store. */
static void count_values(const uint8_t *from, size_t n_pixels, uint32_t count[3][256])
{
    uint32_t odd[3][256] = {{0}};
    size_t i = 0;

    memset(count, 0, 3 * sizeof count[0]);
    for (; i + 2 <= n_pixels; i += 2) {
        const uint8_t *rgb = from + i * 3;

        count[0][rgb[0]]++;
        count[1][rgb[1]]++;
        count[2][rgb[2]]++;
        odd[0][rgb[3]]++;
        odd[1][rgb[4]]++;
        odd[2][rgb[5]]++;
    }
    for (int c = 0; c < 3; c++) {
        if (i < n_pixels)
            count[c][from[i * 3 + (size_t)c]]++;
        for (int v = 0; v < 256; v++)
            count[c][v] += odd[c][v];
    }
}

static void equalize(const struct image *src, uint8_t *to)
{
    size_t n_pixels = (size_t)src->width * (size_t)src->height;
    uint32_t count[3][256];
    uint8_t table[3][256];

    count_values(src->pixels, n_pixels, count);
    for (int c = 0; c < 3; c++) {
        int last = 255;
        uint64_t step, n;

        while (last > 0 && count[c][last] == 0)
            last--;
        step = (n_pixels - count[c][last]) / 255; /* 0 also when there is one value only */
        n = step / 2;
        for (int v = 0; v < 256; v++) {
            table[c][v] = (uint8_t)(step == 0 ? (uint64_t)v : MIN(n / step, (uint64_t)255));
            n += count[c][v];
        }
    }
    look_up(src->pixels, n_pixels, table, to);
}

static int64_t ceil_div(int64_t a, int64_t b) /* b > 0 */
{
    return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

/* Cuts [*begin, *end) down to the x for which 0 <= start + step x < limit. */
static void cut_range(int64_t start, int64_t step, int64_t limit, int *begin, int *end)
{
    int64_t from, to; /* first inside, first behind */

    if (step == 0) {
        from = start >= 0 && start < limit ? 0 : *end;
        to = *end;
    } else if (step > 0) {
        from = ceil_div(-start, step);
        to = ceil_div(limit - start, step);
    } else {
        from = ceil_div(start - (limit - 1), -step);
        to = ceil_div(start + 1, -step);
    }
    *begin = (int)MIN(MAX(from, (int64_t)*begin), (int64_t)*end);
    *end = (int)MAX(MIN(to, (int64_t)*end), (int64_t)*begin);
}

static void affine_in_fixed_point(const double m[6], const struct image *src, uint8_t *to)
{
    int64_t step_x = affine_fixed(m[0]), step_y = affine_fixed(m[3]);
    int64_t row_x = affine_fixed(m[2] + m[0] * 0.5 + m[1] * 0.5);
    int64_t row_y = affine_fixed(m[5] + m[3] * 0.5 + m[4] * 0.5);
    size_t row_bytes = (size_t)src->width * 3;

    for (int y = 0; y < src->height; y++, to += row_bytes) {
        int begin = 0, end = src->width;
        int64_t x_in, y_in;

        cut_range(row_x, step_x, (int64_t)src->width << 16, &begin, &end);
        cut_range(row_y, step_y, (int64_t)src->height << 16, &begin, &end);
        x_in = row_x + step_x * begin;
        y_in = row_y + step_y * begin;
        memset(to, 0, (size_t)begin * 3);
        memset(to + (size_t)end * 3, 0, row_bytes - (size_t)end * 3);
        if (step_x == 1 << 16 && step_y == 0 && begin < end)
            memcpy(to + (size_t)begin * 3,
                   src->pixels + (size_t)(y_in >> 16) * row_bytes + (size_t)(x_in >> 16) * 3,
                   (size_t)(end - begin) * 3);
        else
            for (int x = begin; x < end; x++, x_in += step_x, y_in += step_y)
                memcpy(to + (size_t)x * 3,
                       src->pixels + (size_t)(y_in >> 16) * row_bytes + (size_t)(x_in >> 16) * 3,
                       3);
        row_x += affine_fixed(m[1]);
        row_y += affine_fixed(m[4]);
    }
}

/* Pillow's way for corners beyond 16.16, and, exact for steps of one, for pure translations. */
static void affine_in_double(const double m[6], const struct image *src, uint8_t *to)
{
    size_t row_bytes = (size_t)src->width * 3;
    double row_x = m[2] + m[1] * 0.5 + m[0] * 0.5, row_y = m[5] + m[4] * 0.5 + m[3] * 0.5;

    for (int y = 0; y < src->height; y++, row_x += m[1], row_y += m[4]) {
        double x_in = row_x, y_in = row_y;

        for (int x = 0; x < src->width; x++, to += 3, x_in += m[0], y_in += m[3]) {
            if (x_in >= 0.0 && x_in < src->width && y_in >= 0.0 && y_in < src->height)
                memcpy(to, src->pixels + (size_t)y_in * row_bytes + (size_t)x_in * 3, 3);
            else
                memset(to, 0, 3);
        }
    }
}

static void transform(enum augment_op op, double magnitude, const struct image *src, uint8_t *to)
{
    struct affine_map map;

    affine_map_of(op, magnitude, src->width, src->height, &map);
    if (affine_map_fits_fixed(&map, src->width, src->height))
        affine_in_fixed_point(map.m, src, to);
    else
        affine_in_double(map.m, src, to);
}

void augment_op_run(enum augment_op op, double magnitude, const struct image *src, uint8_t *to)
{
    size_t n_pixels = (size_t)src->width * (size_t)src->height, n = n_pixels * 3;
    float alpha = blending_factor(magnitude);
    double mean;

    switch (op) {
    case AUGMENT_SHEAR_X:
    case AUGMENT_SHEAR_Y:
    case AUGMENT_TRANSLATE_X:
    case AUGMENT_TRANSLATE_Y:
    case AUGMENT_ROTATE:
        transform(op, magnitude, src, to);
        return;
    case AUGMENT_BRIGHTNESS:
        blend_with_constant(src->pixels, n, 0, alpha, to);
        return;
    case AUGMENT_COLOR:
        blend_with_grey(src->pixels, n_pixels, alpha, to);
        return;
    case AUGMENT_CONTRAST:
        mean = (double)sum_of_luma(src->pixels, n_pixels) / (double)n_pixels;
        blend_with_constant(src->pixels, n, (int)(mean + 0.5), alpha, to);
        return;
    case AUGMENT_SHARPNESS:
        sharpen(src, alpha, to);
        return;
    case AUGMENT_POSTERIZE:
        mask_bits(src->pixels, n, (uint8_t)(0xFF00u >> (int)magnitude), to);
        return;
    case AUGMENT_SOLARIZE:
        invert_from(src->pixels, n, (int)MIN(MAX(ceil(magnitude), 0.0), 256.0), to);
        return;
    case AUGMENT_AUTO_CONTRAST:
        auto_contrast(src, to);
        return;
    case AUGMENT_EQUALIZE:
        equalize(src, to);
        return;
    case AUGMENT_IDENTITY:
    case AUGMENT_OP_COUNT:
        break;
    }
    if (to != src->pixels)
        memcpy(to, src->pixels, n);
}
