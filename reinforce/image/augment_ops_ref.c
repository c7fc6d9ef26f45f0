/* Plain twins of augment_ops.c. */
#include "reinforce/image/augment_ops.h"

#include <math.h>

static uint8_t clip(float v)
{
    return v <= 0.0f ? 0 : v >= 255.0f ? 255 : (uint8_t)v;
}

static uint8_t blend(int p, int q, float alpha)
{
    return clip((float)p + alpha * (float)(q - p));
}

static uint8_t luma(const uint8_t *rgb)
{
    return (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
}

static void affine(const struct affine_map *map, const struct image *src, uint8_t *to)
{
    const double *m = map->m;
    int width = src->width, height = src->height;
    bool fixed = affine_map_fits_fixed(map, width, height);
    bool scales = m[1] == 0.0 && m[3] == 0.0; /* then Pillow steps in double */
    double from_x = m[2] + m[1] * 0.5 + m[0] * 0.5, from_y = m[5] + m[4] * 0.5 + m[3] * 0.5;

    for (int y = 0; y < height; y++, from_x += m[1], from_y += m[4]) {
        double at_x = from_x, at_y = from_y;

        for (int x = 0; x < width; x++, to += 3, at_x += m[0], at_y += m[3]) {
            double xin = at_x, yin = at_y;

            if (fixed && !scales) {
                xin = (double)((affine_fixed(m[2] + m[0] * 0.5 + m[1] * 0.5) +
                                affine_fixed(m[0]) * x + affine_fixed(m[1]) * y) >>
                               16);
                yin = (double)((affine_fixed(m[5] + m[3] * 0.5 + m[4] * 0.5) +
                                affine_fixed(m[3]) * x + affine_fixed(m[4]) * y) >>
                               16);
            }
            if (xin >= 0.0 && xin < width && yin >= 0.0 && yin < height)
                memcpy(to, src->pixels + ((size_t)(int)yin * (size_t)width + (size_t)(int)xin) * 3,
                       3);
            else
                memset(to, 0, 3);
        }
    }
}

static void sharpness(const struct image *src, float alpha, uint8_t *to)
{
    static const float side = 1.0f / 13.0f, middle = 5.0f / 13.0f;
    int row = src->width * 3;

    memcpy(to, src->pixels, image_bytes(src));
    for (int y = 1; y < src->height - 1; y++)
        for (int i = 3; i < row - 3; i++) {
            const uint8_t *here = src->pixels + (size_t)y * (size_t)row + i;
            const uint8_t *above = here - row, *below = here + row;
            float sum = 0.5f;

            sum += (float)below[-3] * side + (float)below[0] * side + (float)below[3] * side;
            sum += (float)here[-3] * side + (float)here[0] * middle + (float)here[3] * side;
            sum += (float)above[-3] * side + (float)above[0] * side + (float)above[3] * side;
            to[(size_t)y * (size_t)row + (size_t)i] = blend(clip(sum), here[0], alpha);
        }
}

static void histogram(const struct image *src, int channel, uint32_t count[256])
{
    memset(count, 0, 256 * sizeof count[0]);
    for (size_t i = (size_t)channel; i < image_bytes(src); i += 3)
        count[src->pixels[i]]++;
}

static void auto_contrast_table(const uint32_t count[256], uint8_t table[256])
{
    int lo = 0, hi = 255;

    while (lo < 255 && count[lo] == 0)
        lo++;
    while (hi > 0 && count[hi] == 0)
        hi--;
    for (int v = 0; v < 256; v++) {
        double scale = 255.0 / (hi - lo), offset = -lo * scale;

        table[v] = (uint8_t)(hi <= lo ? v : MIN(MAX((int)(v * scale + offset), 0), 255));
    }
}

static void equalize_table(const uint32_t count[256], uint8_t table[256])
{
    uint64_t total = 0, last = 0, step, n;

    for (int v = 0; v < 256; v++)
        if (count[v] != 0) {
            total += count[v];
            last = count[v];
        }
    step = (total - last) / 255;
    n = step / 2;
    for (int v = 0; v < 256; v++) {
        table[v] = (uint8_t)(step == 0 ? (uint64_t)v : MIN(n / step, (uint64_t)255));
        n += count[v];
    }
}

void augment_op_run_ref(enum augment_op op, double magnitude, const struct image *src, uint8_t *to)
{
    size_t n_pixels = (size_t)src->width * (size_t)src->height, n = n_pixels * 3;
    float alpha = (float)(1.0 + magnitude);
    struct affine_map map;
    uint64_t sum = 0;
    int mean;

    switch (op) {
    case AUGMENT_SHEAR_X:
    case AUGMENT_SHEAR_Y:
    case AUGMENT_TRANSLATE_X:
    case AUGMENT_TRANSLATE_Y:
    case AUGMENT_ROTATE:
        affine_map_of(op, magnitude, src->width, src->height, &map);
        affine(&map, src, to);
        return;
    case AUGMENT_BRIGHTNESS:
        for (size_t i = 0; i < n; i++)
            to[i] = blend(0, src->pixels[i], alpha);
        return;
    case AUGMENT_COLOR:
        for (size_t i = 0; i < n; i++)
            to[i] = blend(luma(src->pixels + i / 3 * 3), src->pixels[i], alpha);
        return;
    case AUGMENT_CONTRAST:
        for (size_t i = 0; i < n; i += 3)
            sum += luma(src->pixels + i);
        mean = (int)((double)sum / (double)n_pixels + 0.5);
        for (size_t i = 0; i < n; i++)
            to[i] = blend(mean, src->pixels[i], alpha);
        return;
    case AUGMENT_SHARPNESS:
        sharpness(src, alpha, to);
        return;
    case AUGMENT_POSTERIZE:
        for (size_t i = 0; i < n; i++)
            to[i] = (uint8_t)(src->pixels[i] & ~((1u << (8 - (int)magnitude)) - 1u));
        return;
    case AUGMENT_SOLARIZE:
        for (size_t i = 0; i < n; i++)
            to[i] = (uint8_t)(src->pixels[i] < magnitude ? src->pixels[i] : 255 - src->pixels[i]);
        return;
    case AUGMENT_AUTO_CONTRAST:
    case AUGMENT_EQUALIZE:
        for (int c = 0; c < 3; c++) {
            uint32_t count[256];
            uint8_t table[256];

            histogram(src, c, count);
            if (op == AUGMENT_AUTO_CONTRAST)
                auto_contrast_table(count, table);
            else
                equalize_table(count, table);
            for (size_t i = (size_t)c; i < n; i += 3)
                to[i] = table[src->pixels[i]];
        }
        return;
    case AUGMENT_IDENTITY:
    case AUGMENT_OP_COUNT:
        break;
    }
    memcpy(to, src->pixels, n);
}
