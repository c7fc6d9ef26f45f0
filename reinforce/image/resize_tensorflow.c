#include "reinforce/image/resize_tensorflow.h"

#include <math.h>

/* The two samples on either side of an output pixel's centre, and how far it is to the second. */
struct between {
    size_t lower, upper;
    float weight;
};

static struct between between_at(int i, int from, int to)
{
    float at = ((float)i + 0.5f) * ((float)from / (float)to) - 0.5f, below = floorf(at);

    return (struct between){.lower = below > 0 ? (size_t)below : 0,
                            .upper = (size_t)MIN(below + 1 > 0 ? (int)below + 1 : 0, from - 1),
                            .weight = at - below};
}

enum status image_resize_tensorflow(const struct image *src, int out_height, int out_width,
                                    struct arena *arena, struct image *out, struct error *err)
{
    size_t channels = (size_t)src->channels, row_bytes = (size_t)src->width * channels;
    enum status st;

    if (src->width <= 0 || src->height <= 0 || out_width <= 0 || out_height <= 0)
        return error_set(err, ST_INVALID, "cannot resize %dx%d to %dx%d", src->height, src->width,
                         out_height, out_width);
    st = image_alloc(out, out_width, out_height, src->channels, arena, err);
    if (st != ST_OK)
        return st;
    for (int y = 0; y < out_height; y++) {
        struct between v = between_at(y, src->height, out_height);
        const uint8_t *top = src->pixels + v.lower * row_bytes,
                      *bottom = src->pixels + v.upper * row_bytes;
        uint8_t *to = out->pixels + (size_t)y * (size_t)out_width * channels;

        for (int x = 0; x < out_width; x++) {
            struct between h = between_at(x, src->width, out_width);

            for (size_t c = 0; c < channels; c++) {
                size_t left = h.lower * channels + c, right = h.upper * channels + c;
                float upper = (float)top[left] + ((float)top[right] - (float)top[left]) * h.weight;
                float lower =
                    (float)bottom[left] + ((float)bottom[right] - (float)bottom[left]) * h.weight;

                *to++ = (uint8_t)(upper + (lower - upper) * v.weight);
            }
        }
    }
    return ST_OK;
}
