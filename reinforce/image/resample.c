/* Both passes run the same inner loop, 64 neighbouring bytes at a time, each byte its own sum. The
 * vertical pass finds them along a row. For the horizontal pass a block of rows is turned so that
 * the pixels of one column lie side by side:
 *
 *     turned[column] = 64 bytes = 64, 32, 21 or 16 rows x 1, 2, 3 or 4 channels
 *
 * RGB on processors with AVX-512 VNNI is turned by fours of columns instead (resample_vnni.h).
 *
 * Horizontal results go to a band of rows just high enough for the vertical pass, so that
 * everything stays in the cache whatever the size of the image. */
#include "reinforce/image/resample.h"

#include "reinforce/image/resample_axis.h"
#include "reinforce/image/resample_vnni.h"

enum {
    LANES = 64,
    TURNED_COLUMNS = 512, /* 32 KiB: the first-level cache */
    BAND_SLACK_ROWS = 64,
    MAX_SIDE = 1 << 27, /* so that six times a side is an int */
};

int resample_reduction(int height, int width, int out_height, int out_width,
                       enum resample_filter filter)
{
    enum { LEFT = 2 };

    if (filter == RESAMPLE_NEAREST)
        return 1;
    for (int reduction = RESAMPLE_LARGEST_REDUCTION; reduction > 1; reduction /= 2)
        if (height / reduction >= LEFT * out_height && width / reduction >= LEFT * out_width)
            return reduction;
    return 1;
}

static bool box_is_inside(const struct image_box *box, int height, int width)
{
    return box->top >= 0 && box->left >= 0 && box->height >= 1 && box->width >= 1 &&
           box->top <= height - box->height && box->left <= width - box->width;
}

static enum status check_request(const struct image *src, const struct image_box *box,
                                 int out_height, int out_width, const struct image_box *window,
                                 enum resample_filter filter, struct error *err)
{
    if (filter < RESAMPLE_NEAREST || filter > RESAMPLE_BOX)
        return error_set(err, ST_INVALID, "resampling filter %d is unknown", (int)filter);
    if (out_height < 1 || out_width < 1 || src->width > MAX_SIDE || src->height > MAX_SIDE)
        return error_set(err, ST_INVALID, "cannot resize %d x %d to %d x %d pixels", src->width,
                         src->height, out_width, out_height);
    if (!box_is_inside(box, image_stored_height(src), image_stored_width(src)))
        return error_set(err, ST_INVALID,
                         "box [top %d, left %d, height %d, width %d] is not inside the image of "
                         "width %d, height %d",
                         box->top, box->left, box->height, box->width, image_stored_width(src),
                         image_stored_height(src));
    if (!box_is_inside(window, out_height, out_width))
        return error_set(err, ST_INVALID,
                         "window [top %d, left %d, height %d, width %d] is not inside the resized "
                         "image of width %d, height %d",
                         window->top, window->left, window->height, window->width, out_width,
                         out_height);
    return ST_OK;
}

static const uint8_t *pixel_at(const struct image *src, int y, int x)
{
    return src->pixels + ((size_t)y * (size_t)src->width + (size_t)x) * (size_t)src->channels;
}

static void copy_window(const struct image *src, const struct image_box *box,
                        const struct image_box *window, struct image *out)
{
    size_t row_bytes = (size_t)out->width * (size_t)out->channels;

    for (int y = 0; y < window->height; y++)
        memcpy(out->pixels + (size_t)y * row_bytes,
               pixel_at(src, box->top + window->top + y, box->left + window->left), row_bytes);
}

/* The part of an image that is read, in its own pixels. */
struct source {
    const struct image *image;
    struct image_box box;
    struct resample_span vertical, horizontal;
    bool keeps_height, keeps_width; /* the result has the same rows, columns */
};

static struct source find_source(const struct image *src, const struct image_box *box,
                                 int out_height, int out_width)
{
    int reduction = MAX(src->reduction, 1);
    struct source source = {.image = src};

    source.box.top = resample_span_of(box->top, box->height, reduction, &source.vertical);
    source.box.left = resample_span_of(box->left, box->width, reduction, &source.horizontal);
    source.box.height = source.vertical.n;
    source.box.width = source.horizontal.n;
    source.keeps_height = resample_span_is_copy(&source.vertical, out_height);
    source.keeps_width = resample_span_is_copy(&source.horizontal, out_width);
    return source;
}

/* Input index of each output in the window; -1 is outside. Pillow steps by repeated addition, so
 * the rounding error of the steps before the window belongs to the result. */
static void nearest_indices(const struct resample_span *span, int out, int first, int count,
                            int *index)
{
    double step = (double)(float)span->length / out;
    double at = step * 0.5;

    for (int i = 0; i < first + count; i++) {
        if (i >= first)
            index[i - first] = at < 0.0 || at >= span->length ? -1 : (int)(span->offset + at);
        at += step;
    }
}

static enum status resize_nearest(const struct source *source, int out_height, int out_width,
                                  const struct image_box *window, struct arena *arena,
                                  struct image *out, struct error *err)
{
    const struct image *src = source->image;
    const struct image_box *box = &source->box;
    size_t channels = (size_t)src->channels;
    int *xs, *ys;
    uint8_t *to = out->pixels;
    enum status st = arena_calloc(arena, (size_t)window->width, sizeof *xs, &xs, err);

    if (st == ST_OK)
        st = arena_calloc(arena, (size_t)window->height, sizeof *ys, &ys, err);
    if (st != ST_OK)
        return st;
    nearest_indices(&source->horizontal, out_width, window->left, window->width, xs);
    nearest_indices(&source->vertical, out_height, window->top, window->height, ys);
    for (int y = 0; y < window->height; y++)
        for (int x = 0; x < window->width; x++, to += channels) {
            if (ys[y] < 0 || xs[x] < 0)
                memset(to, 0, channels);
            else
                memcpy(to, pixel_at(src, box->top + ys[y], box->left + xs[x]), channels);
        }
    return ST_OK;
}

static uint8_t clip8(int32_t sum)
{
    int32_t v = sum >> RESAMPLE_PRECISION_BITS;

    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static inline void weighted_sum(const uint8_t *from, size_t stride, const int32_t *k, int n,
                                uint8_t *restrict to)
{
    int32_t sum[LANES];

    for (int l = 0; l < LANES; l++)
        sum[l] = 1 << (RESAMPLE_PRECISION_BITS - 1);
    for (int j = 0; j < n; j++, from += stride)
        for (int l = 0; l < LANES; l++)
            sum[l] += k[j] * from[l];
    for (int l = 0; l < LANES; l++)
        to[l] = clip8(sum[l]);
}

/* Outputs [begin, end) of the axis from turned columns, the first of which is column `base`. */
BYTE_KERNEL_CLONES static void sum_columns(const uint8_t *turned, int base,
                                           const struct resample_axis *axis, int begin, int end,
                                           uint8_t *restrict to)
{
    for (int i = begin; i < end; i++)
        weighted_sum(turned + (size_t)(axis->lo[i] - base) * LANES, LANES,
                     axis->k + (size_t)i * (size_t)axis->stride, axis->n[i],
                     to + (size_t)(i - begin) * LANES);
}

/* One output row of `bytes` bytes from n rows, `stride` apart. */
BYTE_KERNEL_CLONES static void sum_rows(const uint8_t *from, size_t stride, const int32_t *k, int n,
                                        size_t bytes, uint8_t *restrict to)
{
    size_t x = 0;

    for (; x + LANES <= bytes; x += LANES)
        weighted_sum(from + x, stride, k, n, to + x);
    for (; x < bytes; x++) {
        int32_t sum = 1 << (RESAMPLE_PRECISION_BITS - 1);

        for (int j = 0; j < n; j++)
            sum += k[j] * from[(size_t)j * stride + x];
        to[x] = clip8(sum);
    }
}

/* State of the horizontal pass: rows come out in order, a block at a time. */
struct turner {
    const struct image *src;
    const struct image_box *box;
    const struct resample_axis *axis;
    bool by_quads;
    struct resample_quads quads;
    const int *lo, *n; /* of the axis or the quads */
    int rows_per_block;
    int columns_per_chunk;
    uint8_t *turned; /* [columns_per_chunk, LANES] */
    uint8_t *sums;   /* [axis->count, LANES] */
};

static enum status turner_init(struct turner *turner, const struct image *src,
                               const struct image_box *box, const struct resample_axis *axis,
                               bool may_use_quads, struct arena *arena, struct error *err)
{
    enum status st = ST_OK;

    *turner = (struct turner){.src = src, .box = box, .axis = axis, .lo = axis->lo, .n = axis->n};
    turner->rows_per_block = LANES / src->channels;
    turner->columns_per_chunk = MAX(axis->max_n, (int)TURNED_COLUMNS);
    if (may_use_quads && src->channels == 3)
        st = resample_quads_init(&turner->quads, axis, true, &turner->by_quads, arena, err);
    if (turner->by_quads) {
        turner->lo = turner->quads.lo;
        turner->n = turner->quads.n;
        turner->columns_per_chunk = MAX(turner->quads.max_n, (int)TURNED_COLUMNS);
    }
    if (st == ST_OK)
        st = arena_calloc(arena, (size_t)turner->columns_per_chunk, LANES, &turner->turned, err);
    if (st == ST_OK)
        st = arena_alloc(arena, (size_t)axis->count * LANES, &turner->sums, err);
    return st;
}

/* Four bytes are moved for the three of RGB: the fourth is overwritten by the next row's pixel, or
 * lies in the unused 64th byte. Seven rows at a time: their addresses stay in registers. */
static void turn_rgb(const uint8_t *const rows[LANES], int n_columns, uint8_t *turned)
{
    enum { ROWS = LANES / 3, TOGETHER = 7 };

    for (int first = 0; first < ROWS; first += TOGETHER) {
        const uint8_t *row[TOGETHER];
        uint8_t *to = turned + (size_t)first * 3;

        memcpy(row, rows + first, sizeof row);
        for (size_t x = 0; x < (size_t)n_columns * 3; x += 3, to += LANES)
            for (int r = 0; r < TOGETHER; r++)
                memcpy(to + (size_t)r * 3, row[r] + x, 4);
    }
}

/* `rows` point at the first pixel of the chunk. Nothing behind the image is read: its last column
 * is copied apart. */
static void turn(const struct turner *turner, const uint8_t *const rows[LANES], int n_columns,
                 bool at_right_edge)
{
    size_t channels = (size_t)turner->src->channels;
    int x = 0;

    if (channels == 3) {
        x = n_columns - (at_right_edge ? 1 : 0);
        turn_rgb(rows, x, turner->turned);
    }
    for (; x < n_columns; x++)
        for (int r = 0; r < turner->rows_per_block; r++)
            memcpy(turner->turned + (size_t)x * LANES + (size_t)r * channels,
                   rows[r] + (size_t)x * channels, channels);
}

/* Back from sums to rows; an RGB pixel is written with the byte behind it, which the next one
 * overwrites, so rows of `to` need a spare byte. */
static void turn_back(const struct turner *turner, int n_rows, int begin, int end, uint8_t *to,
                      size_t to_stride)
{
    size_t channels = (size_t)turner->src->channels;

    for (int r = 0; r < n_rows; r++) {
        uint8_t *row = to + (size_t)r * to_stride + (size_t)begin * channels;
        const uint8_t *sums = turner->sums + (size_t)r * channels;

        if (channels == 3)
            for (int i = 0; i < end - begin; i++)
                memcpy(row + (size_t)i * 3, sums + (size_t)i * LANES, 4);
        else
            for (int i = 0; i < end - begin; i++)
                memcpy(row + (size_t)i * channels, sums + (size_t)i * LANES, channels);
    }
}

/* Rows [first, first + n_rows) of the box, n_rows <= rows_per_block, resized horizontally. */
static void turner_run(const struct turner *turner, int first, int n_rows, uint8_t *to,
                       size_t to_stride)
{
    const struct resample_axis *axis = turner->axis;
    int begin = 0;

    while (begin < axis->count) {
        int base = turner->lo[begin];
        int end = begin;
        int last;
        const uint8_t *rows[LANES];

        while (end < axis->count &&
               turner->lo[end] + turner->n[end] - base <= turner->columns_per_chunk)
            end++;
        last = turner->lo[end - 1] + turner->n[end - 1];
        for (int r = 0; r < turner->rows_per_block; r++)
            rows[r] = pixel_at(turner->src, turner->box->top + first + MIN(r, n_rows - 1),
                               turner->box->left + base);
        if (turner->by_quads) {
            resample_vnni_turn(rows, turner->src->width - turner->box->left - base,
                               (last - base) / RESAMPLE_QUAD, turner->turned);
            resample_vnni_columns(turner->turned, base, &turner->quads, begin, end, turner->sums);
        } else {
            turn(turner, rows, last - base, turner->box->left + last == turner->src->width);
            sum_columns(turner->turned, base, axis, begin, end, turner->sums);
        }
        turn_back(turner, n_rows, begin, end, to, to_stride);
        begin = end;
    }
}

static enum status resize_horizontally(const struct turner *turner, const struct image_box *window,
                                       struct arena *arena, struct image *out, struct error *err)
{
    size_t row_bytes = (size_t)out->width * (size_t)out->channels;
    size_t stride = row_bytes + LANES;
    uint8_t *band;
    enum status st = arena_alloc(arena, (size_t)turner->rows_per_block * stride, &band, err);

    for (int y = 0; y < window->height && st == ST_OK; y += turner->rows_per_block) {
        int n_rows = MIN(turner->rows_per_block, window->height - y);

        turner_run(turner, window->top + y, n_rows, band, stride);
        for (int r = 0; r < n_rows; r++)
            memcpy(out->pixels + (size_t)(y + r) * row_bytes, band + (size_t)r * stride, row_bytes);
    }
    return st;
}

/* The vertical axis, and its quads where they are used. */
struct vertical {
    struct resample_axis axis;
    bool by_quads;
    struct resample_quads quads;
};

/* Row y of the window from the rows at `from`, the first that it needs. */
static void sum_row(const struct vertical *vertical, int y, const uint8_t *from, size_t stride,
                    size_t bytes, uint8_t *to)
{
    const struct resample_axis *axis = &vertical->axis;

    if (vertical->by_quads)
        resample_vnni_rows(from, stride, &vertical->quads, y, axis->n[y], bytes, to);
    else
        sum_rows(from, stride, axis->k + (size_t)y * (size_t)axis->stride, axis->n[y], bytes, to);
}

static void resize_vertically(const struct image *src, const struct image_box *box,
                              const struct vertical *vertical, const struct image_box *window,
                              struct image *out)
{
    const struct resample_axis *axis = &vertical->axis;
    size_t row_bytes = (size_t)out->width * (size_t)out->channels;

    for (int y = 0; y < axis->count; y++)
        sum_row(vertical, y, pixel_at(src, box->top + axis->lo[y], box->left + window->left),
                (size_t)src->width * (size_t)src->channels, row_bytes,
                out->pixels + (size_t)y * row_bytes);
}

static enum status resize_both(const struct turner *turner, const struct vertical *sums,
                               struct arena *arena, struct image *out, struct error *err)
{
    const struct resample_axis *vertical = &sums->axis;
    size_t row_bytes = (size_t)out->width * (size_t)out->channels;
    size_t stride = (row_bytes + LANES) / LANES * LANES; /* at least one spare byte */
    int capacity = vertical->max_n + turner->rows_per_block + BAND_SLACK_ROWS;
    /* The band holds rows [base, made) of the box. The caller has made the axis. */
    int base = vertical->lo[0]; /* NOLINT(clang-analyzer-core.NullDereference) */
    int made = base;
    int needed = vertical->lo[vertical->count - 1] + vertical->n[vertical->count - 1];
    uint8_t *band;
    enum status st = arena_alloc(arena, (size_t)capacity * stride, &band, err);

    if (st != ST_OK)
        return st;
    for (int y = 0; y < vertical->count; y++) {
        int lo = vertical->lo[y];

        while (made < lo + vertical->n[y]) {
            int n_rows = MIN(turner->rows_per_block, needed - made);

            if (made - base + n_rows > capacity) {
                memmove(band, band + (size_t)(lo - base) * stride, (size_t)(made - lo) * stride);
                base = lo;
            }
            turner_run(turner, made, n_rows, band + (size_t)(made - base) * stride, stride);
            made += n_rows;
        }
        sum_row(sums, y, band + (size_t)(lo - base) * stride, stride, row_bytes,
                out->pixels + (size_t)y * row_bytes);
    }
    return ST_OK;
}

static enum status resize_weighted(const struct source *source, int out_height, int out_width,
                                   const struct image_box *window, enum resample_filter filter,
                                   bool by_quads, struct arena *arena, struct image *out,
                                   struct error *err)
{
    struct resample_axis horizontal = {0};
    struct vertical vertical = {0};
    struct turner turner;
    enum status st = ST_OK;

    if (!source->keeps_height)
        st = resample_axis_init(&vertical.axis, &source->vertical, out_height, window->top,
                                window->height, filter, arena, err);
    if (st == ST_OK && !source->keeps_height && by_quads)
        st = resample_quads_init(&vertical.quads, &vertical.axis, false, &vertical.by_quads, arena,
                                 err);
    if (st == ST_OK && !source->keeps_width) {
        st = resample_axis_init(&horizontal, &source->horizontal, out_width, window->left,
                                window->width, filter, arena, err);
        if (st == ST_OK)
            st = turner_init(&turner, source->image, &source->box, &horizontal, by_quads, arena,
                             err);
    }
    if (st != ST_OK)
        return st;
    if (source->keeps_height)
        return resize_horizontally(&turner, window, arena, out, err);
    if (source->keeps_width) {
        resize_vertically(source->image, &source->box, &vertical, window, out);
        return ST_OK;
    }
    return resize_both(&turner, &vertical, arena, out, err);
}

static enum status resize_window(const struct image *src, const struct image_box *box,
                                 int out_height, int out_width, const struct image_box *window,
                                 enum resample_filter filter, bool by_quads, struct arena *arena,
                                 struct image *out, struct error *err)
{
    struct source source;
    struct arena mark;
    enum status st = check_request(src, box, out_height, out_width, window, filter, err);

    if (st == ST_OK)
        st = image_alloc(out, window->width, window->height, src->channels, arena, err);
    if (st != ST_OK)
        return st;
    mark = *arena;
    source = find_source(src, box, out_height, out_width);
    if (source.keeps_height && source.keeps_width)
        copy_window(src, &source.box, window, out);
    else if (filter == RESAMPLE_NEAREST)
        st = resize_nearest(&source, out_height, out_width, window, arena, out, err);
    else
        st = resize_weighted(&source, out_height, out_width, window, filter, by_quads, arena, out,
                             err);
    arena_rewind(arena, &mark);
    return st;
}

enum status image_resize_window(const struct image *src, const struct image_box *box,
                                int out_height, int out_width, const struct image_box *window,
                                enum resample_filter filter, struct arena *arena, struct image *out,
                                struct error *err)
{
    return resize_window(src, box, out_height, out_width, window, filter, resample_vnni_is_there(),
                         arena, out, err);
}

enum status image_resize_window_plain(const struct image *src, const struct image_box *box,
                                      int out_height, int out_width, const struct image_box *window,
                                      enum resample_filter filter, struct arena *arena,
                                      struct image *out, struct error *err)
{
    return resize_window(src, box, out_height, out_width, window, filter, false, arena, out, err);
}

enum status image_resize(const struct image *src, int top, int left, int height, int width,
                         int out_height, int out_width, enum resample_filter filter,
                         struct arena *arena, struct image *out, struct error *err)
{
    struct image_box box = {top, left, height, width};
    struct image_box window = {0, 0, out_height, out_width};

    return image_resize_window(src, &box, out_height, out_width, &window, filter, arena, out, err);
}
