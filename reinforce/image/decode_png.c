/* PNG through libpng; which transforms are asked for decides that the pixels are Pillow's. */
#include "reinforce/image/decoders.h"

#include <assert.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>

/* Chunks beside the pixels (profiles, texts) are skipped; the palette is far below this. */
enum { MAX_CHUNK_BYTES = 1 << 20, MAX_SIDE_WITHOUT_LIMIT = 1000000 };

struct png_job {
    const struct decode_request *request;
    struct image_info *info;
    struct image_stored *out;
    struct error *err;
    enum status st;
    png_structp reader;
    png_infop header;
    size_t pos;
};

static _Noreturn void fail(struct png_job *job, enum status st)
{
    job->st = st;
    png_longjmp(job->reader, 1);
}

static _Noreturn void on_error(png_structp reader, png_const_charp reason)
{
    struct png_job *job = png_get_error_ptr(reader);

    fail(job, error_set(job->err, ST_CORRUPT, "cannot decode PNG: %s", reason));
}

static void on_warning(png_structp reader, png_const_charp reason)
{
    (void)reader;
    (void)reason;
}

static void on_read(png_structp reader, png_bytep to, size_t len)
{
    struct png_job *job = png_get_io_ptr(reader);

    if (len > job->request->encoded.len - job->pos)
        fail(job, error_set(job->err, ST_CORRUPT, "PNG is truncated after %zu bytes",
                            job->request->encoded.len));
    memcpy(to, job->request->encoded.data + job->pos, len);
    job->pos += len;
}

static const char *mode_name(int color_type, int bit_depth)
{
    switch (color_type) {
    case PNG_COLOR_TYPE_GRAY:
        return bit_depth == 1 ? "1" : bit_depth == 16 ? "I;16" : "L";
    case PNG_COLOR_TYPE_PALETTE:
        return "P";
    case PNG_COLOR_TYPE_GRAY_ALPHA:
        return bit_depth == 16 ? "RGBA" : "LA";
    case PNG_COLOR_TYPE_RGB_ALPHA:
        return "RGBA";
    default:
        return "RGB";
    }
}

static void read_header(struct png_job *job)
{
    const struct image_limits *limits = job->request->limits;
    uint32_t max_side = limits != NULL && limits->max_side > 0 ? (uint32_t)limits->max_side
                                                               : (uint32_t)MAX_SIDE_WITHOUT_LIMIT;

    png_set_read_fn(job->reader, job, on_read);
    png_set_chunk_malloc_max(job->reader, MAX_CHUNK_BYTES);
    png_set_keep_unknown_chunks(job->reader, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    /* libpng's own limit only guards what lies between the header and our check. */
    png_set_user_limits(job->reader, MAX(max_side, (uint32_t)MAX_SIDE_WITHOUT_LIMIT),
                        MAX(max_side, (uint32_t)MAX_SIDE_WITHOUT_LIMIT));
    png_read_info(job->reader, job->header);
    job->st = decode_header(job->request, job->info, png_get_image_width(job->reader, job->header),
                            png_get_image_height(job->reader, job->header),
                            mode_name(png_get_color_type(job->reader, job->header),
                                      png_get_bit_depth(job->reader, job->header)),
                            job->err);
    if (job->st != ST_OK)
        fail(job, job->st);
}

static void read_palette(struct png_job *job)
{
    png_colorp palette;
    int n = 0;

    memset(job->out->palette, 0, sizeof job->out->palette);
    (void)png_get_PLTE(job->reader, job->header, &palette, &n);
    for (int i = 0; i < n; i++) {
        job->out->palette[i][0] = palette[i].red;
        job->out->palette[i][1] = palette[i].green;
        job->out->palette[i][2] = palette[i].blue;
    }
}

static void read_rows(struct png_job *job, const struct image *image)
{
    int n_passes = png_set_interlace_handling(job->reader);
    size_t row_bytes = (size_t)image->width * (size_t)image->channels;

    png_read_update_info(job->reader, job->header);
    assert(png_get_rowbytes(job->reader, job->header) == row_bytes);
    for (int pass = 0; pass < n_passes; pass++)
        for (int y = 0; y < image->height; y++)
            png_read_row(job->reader, image->pixels + (size_t)y * row_bytes, NULL);
}

/* Big-endian pairs become one byte each, in place; 16-bit grey is clipped, not shifted. */
static void clip_to_8_bits(struct image *image)
{
    size_t n = (size_t)image->width * (size_t)image->height;

    for (size_t i = 0; i < n; i++)
        image->pixels[i] = image->pixels[2 * i] != 0 ? 255 : image->pixels[2 * i + 1];
    image->channels = 1;
}

static void spread_grey(struct image *image)
{
    size_t n = (size_t)image->width * (size_t)image->height;

    for (size_t i = n; i-- > 0;) {
        uint8_t grey = image->pixels[2 * i], alpha = image->pixels[2 * i + 1];

        memset(image->pixels + 4 * i, grey, 3);
        image->pixels[4 * i + 3] = alpha;
    }
    image->channels = 4;
}

static void read_pixels(struct png_job *job)
{
    int color_type = png_get_color_type(job->reader, job->header);
    int bit_depth = png_get_bit_depth(job->reader, job->header);
    bool has_alpha = (color_type & PNG_COLOR_MASK_ALPHA) != 0;
    bool is_grey16 = color_type == PNG_COLOR_TYPE_GRAY && bit_depth == 16;
    bool is_grey_alpha16 = color_type == PNG_COLOR_TYPE_GRAY_ALPHA && bit_depth == 16;
    struct image *image = &job->out->image;
    int channels = png_get_channels(job->reader, job->header);

    if (color_type == PNG_COLOR_TYPE_PALETTE)
        png_set_packing(job->reader);
    else if (bit_depth < 8)
        png_set_expand_gray_1_2_4_to_8(job->reader);
    else if (bit_depth == 16 && !is_grey16)
        png_set_strip_16(job->reader);
    if (has_alpha && !job->request->keep_alpha) {
        png_set_strip_alpha(job->reader);
        has_alpha = false;
        channels--;
    }
    if (is_grey16)
        channels = 2;
    job->st =
        image_alloc(image, job->info->width, job->info->height,
                    is_grey_alpha16 && has_alpha ? 4 : channels, job->request->arena, job->err);
    if (job->st != ST_OK)
        fail(job, job->st);
    image->channels = channels; /* as the rows come; spread_grey() needs the room above */
    read_rows(job, image);
    if (is_grey16)
        clip_to_8_bits(image);
    if (is_grey_alpha16 && has_alpha)
        spread_grey(image);
    if (color_type == PNG_COLOR_TYPE_PALETTE) {
        read_palette(job);
        job->out->mode = IMAGE_MODE_INDEXED;
    } else if (image->channels == 1) {
        job->out->mode = bit_depth == 1 ? IMAGE_MODE_BILEVEL : IMAGE_MODE_L;
    } else {
        job->out->mode = image->channels == 2   ? IMAGE_MODE_LA
                         : image->channels == 3 ? IMAGE_MODE_RGB
                                                : IMAGE_MODE_RGBA;
    }
}

/* A function of its own, so that nothing local to it changes between setjmp and longjmp. What
 * follows the last row (IEND among it) is not read, as Pillow does without it too. */
static void run(struct png_job *job)
{
    if (setjmp(png_jmpbuf(job->reader)) != 0)
        return;
    read_header(job);
    if (job->request->arena != NULL)
        read_pixels(job);
}

enum status png_decode(const struct decode_request *request, struct image_info *info,
                       struct image_stored *out, struct error *err)
{
    struct png_job job = {.request = request, .info = info, .out = out, .err = err, .st = ST_OK};

    job.reader = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning);
    if (job.reader == NULL)
        return error_set(err, ST_NO_MEMORY, "could not create a PNG reader");
    job.header = png_create_info_struct(job.reader);
    if (job.header != NULL)
        run(&job);
    else
        job.st = error_set(err, ST_NO_MEMORY, "could not create a PNG header");
    png_destroy_read_struct(&job.reader, &job.header, NULL);
    return job.st;
}
