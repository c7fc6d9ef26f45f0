#include "reinforce/image/encode.h"

#include "reinforce/image/exif.h"

#include <setjmp.h>
#include <stdio.h>

/* jpeglib.h needs size_t and FILE. */
#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

struct png_job {
    const struct image *image;
    struct byte_buf *out;
    struct error *err;
    enum status st;
    png_structp writer;
    png_infop header;
};

static _Noreturn void on_png_error(png_structp writer, png_const_charp reason)
{
    struct png_job *job = png_get_error_ptr(writer);

    if (job->st == ST_OK)
        job->st = error_set(job->err, ST_INTERNAL, "cannot write PNG: %s", reason);
    png_longjmp(writer, 1);
}

static void on_png_warning(png_structp writer, png_const_charp reason)
{
    (void)writer;
    (void)reason;
}

static void on_png_write(png_structp writer, png_bytep data, size_t len)
{
    struct png_job *job = png_get_io_ptr(writer);

    job->st = byte_buf_append(job->out, data, len, job->err);
    if (job->st != ST_OK)
        png_error(writer, "buffer");
}

static void on_png_flush(png_structp writer)
{
    (void)writer;
}

/* A function of its own, so that nothing local to it changes between setjmp and longjmp. */
static void run_png(struct png_job *job)
{
    static const int color_types[] = {PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA,
                                      PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGB_ALPHA};
    const struct image *image = job->image;
    size_t row_bytes = (size_t)image->width * (size_t)image->channels;

    if (setjmp(png_jmpbuf(job->writer)) != 0)
        return;
    png_set_write_fn(job->writer, job, on_png_write, on_png_flush);
    png_set_IHDR(job->writer, job->header, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 color_types[image->channels - 1], PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE,
                 PNG_FILTER_TYPE_BASE);
    png_write_info(job->writer, job->header);
    for (int y = 0; y < image->height; y++)
        png_write_row(job->writer, image->pixels + (size_t)y * row_bytes);
    png_write_end(job->writer, NULL);
}

enum status image_write_png(const struct image *image, struct byte_buf *out, struct error *err)
{
    struct png_job job = {.image = image, .out = out, .err = err, .st = ST_OK};
    size_t len = out->len;

    job.writer = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, on_png_error, on_png_warning);
    if (job.writer == NULL)
        return error_set(err, ST_NO_MEMORY, "could not create a PNG writer");
    job.header = png_create_info_struct(job.writer);
    if (job.header != NULL)
        run_png(&job);
    else
        job.st = error_set(err, ST_NO_MEMORY, "could not create a PNG header");
    png_destroy_write_struct(&job.writer, &job.header);
    if (job.st != ST_OK)
        out->len = len;
    return job.st;
}

struct jpeg_job {
    const struct image *image;
    int quality;
    struct error *err;
    enum status st;
    struct jpeg_compress_struct writer;
    struct jpeg_error_mgr errors;
    unsigned char *data; /* libjpeg's, freed here */
    unsigned long len;
    jmp_buf escape;
};

static _Noreturn void on_jpeg_error(j_common_ptr writer)
{
    struct jpeg_job *job = writer->client_data;
    char reason[JMSG_LENGTH_MAX];

    writer->err->format_message(writer, reason);
    job->st =
        error_set(job->err, writer->err->msg_code == JERR_OUT_OF_MEMORY ? ST_NO_MEMORY : ST_INVALID,
                  "cannot write JPEG: %s", reason);
    longjmp(job->escape, 1);
}

static void on_jpeg_message(j_common_ptr writer, int level)
{
    (void)writer;
    (void)level;
}

static void run_jpeg(struct jpeg_job *job)
{
    struct jpeg_compress_struct *writer = &job->writer;
    const struct image *image = job->image;
    size_t row_bytes = (size_t)image->width * (size_t)image->channels;

    if (setjmp(job->escape) != 0)
        return;
    jpeg_create_compress(writer); /* clears all but err and client_data */
    jpeg_mem_dest(writer, &job->data, &job->len);
    writer->image_width = (JDIMENSION)image->width;
    writer->image_height = (JDIMENSION)image->height;
    writer->input_components = image->channels;
    writer->in_color_space = image->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(writer);
    jpeg_set_quality(writer, job->quality, TRUE);
    writer->dct_method = JDCT_ISLOW;
    jpeg_start_compress(writer, TRUE);
    while (writer->next_scanline < writer->image_height) {
        JSAMPROW row = image->pixels + writer->next_scanline * row_bytes;

        (void)jpeg_write_scanlines(writer, &row, 1);
    }
    jpeg_finish_compress(writer);
}

enum status image_write_jpeg(const struct image *image, int quality, struct byte_buf *out,
                             struct error *err)
{
    struct jpeg_job job = {.image = image, .quality = quality, .err = err, .st = ST_OK};

    if (image->channels != 1 && image->channels != 3)
        return error_set(err, ST_INVALID, "cannot write JPEG with %d channels", image->channels);
    if (quality < 1 || quality > 100)
        return error_set(err, ST_INVALID, "JPEG quality is %d, it must be from 1 to 100", quality);
    job.writer.err = jpeg_std_error(&job.errors);
    job.writer.client_data = &job;
    job.errors.error_exit = on_jpeg_error;
    job.errors.emit_message = on_jpeg_message;
    run_jpeg(&job);
    jpeg_destroy_compress(&job.writer);
    if (job.st == ST_OK)
        job.st = byte_buf_append(out, job.data, job.len, err);
    free(job.data);
    return job.st;
}

enum status image_write_upright(struct bytes_view encoded, const struct image_limits *limits,
                                int quality, struct arena *arena, struct byte_buf *out,
                                struct image *image, bool *changed, struct error *err)
{
    enum image_format format = image_sniff(encoded);
    int orientation = exif_orientation(encoded, format);
    size_t before = out->len;
    struct image stored;
    enum status st = image_decode(encoded, limits, arena, image, err);

    *changed = orientation != 1;
    if (st != ST_OK || !*changed)
        return st;
    st = image_apply_orientation(image, orientation, arena, &stored, err);
    if (st != ST_OK)
        return st;
    *image = stored;
    if (format != IMAGE_FORMAT_JPEG)
        return image_write_png(&stored, out, err);
    st = image_write_jpeg(&stored, quality, out, err);
    if (st != ST_OK)
        return st;
    return image_decode(bytes_view_of(out->data + before, out->len - before), limits, arena, image,
                        err);
}
