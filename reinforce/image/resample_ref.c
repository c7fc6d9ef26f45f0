/* The plain twin of resample.c: whole passes over whole images, one sample at a time. */
#include "reinforce/image/resample.h"
#include "reinforce/image/resample_axis.h"

static uint8_t weigh(const uint8_t *from, size_t step, const int32_t *k, int n)
{
    int32_t sum = 1 << (RESAMPLE_PRECISION_BITS - 1);

    for (int j = 0; j < n; j++)
        sum += k[j] * from[(size_t)j * step];
    sum >>= RESAMPLE_PRECISION_BITS;
    return (uint8_t)MIN(MAX(sum, 0), 255);
}

static enum status crop(const struct image *src, const struct image_box *box, struct arena *arena,
                        struct image *out, struct error *err)
{
    size_t channels = (size_t)src->channels;
    enum status st = image_alloc(out, box->width, box->height, src->channels, arena, err);

    for (int y = 0; y < box->height && st == ST_OK; y++)
        memcpy(out->pixels + (size_t)y * (size_t)box->width * channels,
               src->pixels +
                   ((size_t)(box->top + y) * (size_t)src->width + (size_t)box->left) * channels,
               (size_t)box->width * channels);
    return st;
}

static enum status nearest(const struct image *src, const struct resample_span *vertical,
                           const struct resample_span *horizontal, int out_height, int out_width,
                           struct arena *arena, struct image *out, struct error *err)
{
    size_t channels = (size_t)src->channels;
    double step_y = (double)(float)vertical->length / out_height;
    double step_x = (double)(float)horizontal->length / out_width;
    double at_y = step_y * 0.5;
    enum status st = image_alloc(out, out_width, out_height, src->channels, arena, err);

    for (int y = 0; y < out_height && st == ST_OK; y++, at_y += step_y) {
        double at_x = step_x * 0.5;

        for (int x = 0; x < out_width; x++, at_x += step_x)
            for (size_t c = 0; c < channels; c++)
                out->pixels[((size_t)y * (size_t)out_width + (size_t)x) * channels + c] =
                    at_y < vertical->length && at_x < horizontal->length
                        ? src->pixels[((size_t)(vertical->offset + at_y) * (size_t)src->width +
                                       (size_t)(horizontal->offset + at_x)) *
                                          channels +
                                      c]
                        : 0;
    }
    return st;
}

static enum status pass(const struct image *src, bool along_x, const struct resample_span *span,
                        int out_size, enum resample_filter filter, struct arena *arena,
                        struct image *out, struct error *err)
{
    size_t channels = (size_t)src->channels, src_row = (size_t)src->width * channels;
    struct resample_axis axis;
    enum status st = image_alloc(out, along_x ? out_size : src->width,
                                 along_x ? src->height : out_size, src->channels, arena, err);

    if (st == ST_OK)
        st = resample_axis_init(&axis, span, out_size, 0, out_size, filter, arena, err);
    for (int y = 0; y < out->height && st == ST_OK; y++)
        for (int x = 0; x < out->width; x++)
            for (size_t c = 0; c < channels; c++) {
                int i = along_x ? x : y;
                size_t from = along_x ? (size_t)y * src_row + (size_t)axis.lo[i] * channels + c
                                      : (size_t)axis.lo[i] * src_row + (size_t)x * channels + c;

                out->pixels[((size_t)y * (size_t)out->width + (size_t)x) * channels + c] =
                    weigh(src->pixels + from, along_x ? channels : src_row,
                          axis.k + (size_t)i * (size_t)axis.stride, axis.n[i]);
            }
    return st;
}

enum status image_resize_window_ref(const struct image *src, const struct image_box *box,
                                    int out_height, int out_width, const struct image_box *window,
                                    enum resample_filter filter, struct arena *arena,
                                    struct image *out, struct error *err)
{
    int reduction = MAX(src->reduction, 1);
    struct image cropped, wide, resized;
    struct resample_span vertical, horizontal;
    struct image_box own = {.top = resample_span_of(box->top, box->height, reduction, &vertical),
                            .left = resample_span_of(box->left, box->width, reduction, &horizontal),
                            .height = vertical.n,
                            .width = horizontal.n};
    enum status st = crop(src, &own, arena, &cropped, err);

    if (st != ST_OK)
        return st;
    wide = cropped;
    if (filter == RESAMPLE_NEAREST) {
        st = nearest(&cropped, &vertical, &horizontal, out_height, out_width, arena, &resized, err);
    } else {
        if (!resample_span_is_copy(&horizontal, out_width))
            st = pass(&cropped, true, &horizontal, out_width, filter, arena, &wide, err);
        resized = wide;
        if (st == ST_OK && !resample_span_is_copy(&vertical, out_height))
            st = pass(&wide, false, &vertical, out_height, filter, arena, &resized, err);
    }
    return st == ST_OK ? crop(&resized, window, arena, out, err) : st;
}
