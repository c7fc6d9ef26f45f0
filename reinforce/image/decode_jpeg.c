/* JPEG through libjpeg-turbo with the settings every Pillow decode has: accurate integer DCT, fancy
 * upsampling, block smoothing. */
#include "reinforce/image/decoders.h"
#include "reinforce/image/jpeg_baseline.h"

#include <setjmp.h>
#include <stdio.h>

/* jpeglib.h needs size_t and FILE. */
#include <jerror.h>
#include <jpeglib.h>

/* A progressive file may repeat scans without end, each as costly as a whole image. */
enum { MAX_SCANS = 100, MIN_MEMORY_BYTES = 16 << 20, MEMORY_BYTES_PER_PIXEL = 20 };

struct jpeg_job {
    const struct decode_request *request;
    struct image_info *info;
    struct image_stored *out;
    struct error *err;
    enum status st;
    struct jpeg_decompress_struct decoder;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
};

static _Noreturn void fail(struct jpeg_job *job, enum status st)
{
    job->st = st;
    longjmp(job->escape, 1);
}

static _Noreturn void on_error(j_common_ptr decoder)
{
    struct jpeg_job *job = decoder->client_data;
    bool no_memory = decoder->err->msg_code == JERR_OUT_OF_MEMORY ||
                     decoder->err->msg_code == JERR_NO_BACKING_STORE;
    char reason[JMSG_LENGTH_MAX];

    decoder->err->format_message(decoder, reason);
    fail(job, error_set(job->err, no_memory ? ST_NO_MEMORY : ST_CORRUPT, "cannot decode JPEG: %s",
                        reason));
}

/* Pillow lives with every warning but the one for missing bytes, which it turns into an error. */
static void on_message(j_common_ptr decoder, int level)
{
    struct jpeg_job *job = decoder->client_data;

    if (level < 0 && decoder->err->msg_code == JWRN_JPEG_EOF)
        fail(job, error_set(job->err, ST_CORRUPT, "JPEG is truncated after %zu bytes",
                            job->request->encoded.len));
}

static void on_output(j_common_ptr decoder)
{
    (void)decoder;
}

static void on_progress(j_common_ptr decoder)
{
    struct jpeg_job *job = decoder->client_data;

    if (job->decoder.input_scan_number > MAX_SCANS)
        fail(job, error_set(job->err, ST_CORRUPT, "JPEG has more than %d scans", (int)MAX_SCANS));
}

static void read_header(struct jpeg_job *job)
{
    struct jpeg_decompress_struct *decoder = &job->decoder;
    const char *mode = "RGB";
    size_t n_pixels;

    jpeg_mem_src(decoder, job->request->encoded.data, job->request->encoded.len);
    (void)jpeg_read_header(decoder, TRUE);
    if (decoder->data_precision != 8)
        fail(job, error_set(job->err, ST_CORRUPT, "JPEG with %d bits per sample is not supported",
                            decoder->data_precision));
    if (decoder->num_components == 1)
        mode = "L";
    else if (decoder->num_components == 4)
        mode = "CMYK";
    else if (decoder->num_components != 3)
        fail(job, error_set(job->err, ST_CORRUPT, "JPEG with %d components is not supported",
                            decoder->num_components));
    job->st = decode_header(job->request, job->info, decoder->image_width, decoder->image_height,
                            mode, job->err);
    if (job->st != ST_OK)
        fail(job, job->st);
    n_pixels = (size_t)decoder->image_width * decoder->image_height;
    decoder->mem->max_memory_to_use =
        (long)MAX(n_pixels * MEMORY_BYTES_PER_PIXEL, (size_t)MIN_MEMORY_BYTES);
}

/* Most files by the vector code of our own; it leaves the decoder as it found it. */
static bool read_fast(const struct jpeg_job *job)
{
    size_t n;
    const struct jpeg_pixels *const *kernels = jpeg_pixels_kernels(&n);

    return n > 0 && jpeg_baseline_decode(&job->decoder, kernels[0], job->request->reduction,
                                         &job->out->image);
}

static void read_pixels(struct jpeg_job *job)
{
    struct jpeg_decompress_struct *decoder = &job->decoder;
    struct image *image = &job->out->image;
    int reduction = job->request->reduction;
    size_t row_bytes;

    decoder->scale_num = 1;
    decoder->scale_denom = (unsigned)reduction;
    jpeg_calc_output_dimensions(decoder);
    job->out->mode = decoder->num_components == 4 ? IMAGE_MODE_CMYK : IMAGE_MODE_RGB;
    job->st = image_alloc(image, (int)decoder->output_width, (int)decoder->output_height,
                          job->out->mode == IMAGE_MODE_CMYK ? 4 : 3, job->request->arena, job->err);
    if (job->st != ST_OK)
        fail(job, job->st);
    image->reduction = reduction;
    image->stored_width = (int)decoder->image_width;
    image->stored_height = (int)decoder->image_height;
    if (read_fast(job))
        return;
    decoder->out_color_space = decoder->num_components == 4 ? JCS_CMYK : JCS_RGB;
    decoder->dct_method = JDCT_ISLOW;
    decoder->do_fancy_upsampling = TRUE;
    decoder->do_block_smoothing = TRUE;
    (void)jpeg_start_decompress(decoder);
    row_bytes = (size_t)image->width * (size_t)image->channels;
    while (decoder->output_scanline < decoder->output_height) {
        JSAMPROW row = image->pixels + decoder->output_scanline * row_bytes;

        (void)jpeg_read_scanlines(decoder, &row, 1);
    }
    if (job->out->mode == IMAGE_MODE_CMYK) /* stored inverted by every program, Pillow assumes */
        for (size_t i = 0; i < image_bytes(image); i++)
            image->pixels[i] = (uint8_t)(255 - image->pixels[i]);
}

/* A function of its own, so that nothing local to it changes between setjmp and longjmp. */
static void run(struct jpeg_job *job)
{
    if (setjmp(job->escape) != 0)
        return;
    jpeg_create_decompress(&job->decoder); /* clears all but err and client_data */
    job->progress.progress_monitor = on_progress;
    job->decoder.progress = &job->progress;
    read_header(job);
    if (job->request->arena != NULL)
        read_pixels(job);
}

enum status jpeg_decode(const struct decode_request *request, struct image_info *info,
                        struct image_stored *out, struct error *err)
{
    struct jpeg_job job = {.request = request, .info = info, .out = out, .err = err, .st = ST_OK};

    job.decoder.err = jpeg_std_error(&job.errors);
    job.decoder.client_data = &job;
    job.errors.error_exit = on_error;
    job.errors.emit_message = on_message;
    job.errors.output_message = on_output;
    run(&job);
    jpeg_destroy_decompress(&job.decoder);
    return job.st;
}
