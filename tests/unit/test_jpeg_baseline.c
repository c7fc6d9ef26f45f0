#include "reinforce/base/philox.h"
#include "reinforce/image/jpeg_baseline.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>

/* jpeglib.h needs size_t and FILE. */
#include <jerror.h>
#include <jpeglib.h>

enum { ARENA_BYTES = 64 << 20, MAX_SIDE = 300 };

static const int reductions[] = {1, 2, 4};

struct variant {
    int h, v; /* sampling of luma */
    int width, height, quality;
    unsigned restart_interval; /* MCUs */
    bool optimal;              /* Huffman tables of its own */
    int noise;                 /* of 256 levels */
    bool grey;
};

struct file {
    unsigned char *bytes;
    unsigned long len;
};

struct reader {
    struct jpeg_decompress_struct decoder;
    struct jpeg_error_mgr errors;
    jmp_buf escape;
};

static uint32_t draw(struct philox *philox, uint32_t below)
{
    return philox_below(philox, below);
}

static void fill_row(uint8_t *row, int y, const struct variant *v, struct philox *philox)
{
    for (int x = 0; x < v->width; x++)
        for (int c = 0; c < 3; c++) {
            int level = 128 + (x * (c + 1) + y * (3 - c)) % 97 - 48 + (x / 9 + y / 7) % 2 * 40;

            level += (int)draw(philox, (uint32_t)v->noise + 1) - v->noise / 2;
            row[3 * x + c] = (uint8_t)MIN(MAX(level, 0), 255);
        }
}

static void encode(const struct variant *v, struct philox *philox, struct file *file)
{
    struct jpeg_compress_struct encoder;
    struct jpeg_error_mgr errors;
    uint8_t row[3 * MAX_SIDE];
    JSAMPROW rows[1] = {row};

    *file = (struct file){NULL, 0};
    encoder.err = jpeg_std_error(&errors);
    jpeg_create_compress(&encoder);
    jpeg_mem_dest(&encoder, &file->bytes, &file->len);
    encoder.image_width = (JDIMENSION)v->width;
    encoder.image_height = (JDIMENSION)v->height;
    encoder.input_components = 3;
    encoder.in_color_space = JCS_RGB;
    jpeg_set_defaults(&encoder);
    if (v->grey)
        jpeg_set_colorspace(&encoder, JCS_GRAYSCALE);
    jpeg_set_quality(&encoder, v->quality, TRUE);
    encoder.comp_info[0].h_samp_factor = v->h;
    encoder.comp_info[0].v_samp_factor = v->v;
    encoder.restart_interval = v->restart_interval;
    encoder.optimize_coding = v->optimal;
    jpeg_start_compress(&encoder, TRUE);
    for (int y = 0; y < v->height; y++) {
        fill_row(row, y, v, philox);
        (void)jpeg_write_scanlines(&encoder, rows, 1);
    }
    jpeg_finish_compress(&encoder);
    jpeg_destroy_compress(&encoder);
}

static void on_error(j_common_ptr decoder)
{
    longjmp(((struct reader *)decoder->client_data)->escape, 1);
}

static void on_message(j_common_ptr decoder, int level)
{
    if (level < 0 && decoder->err->msg_code == JWRN_JPEG_EOF)
        on_error(decoder);
}

static void open_reader(struct reader *reader)
{
    reader->decoder.err = jpeg_std_error(&reader->errors);
    reader->decoder.client_data = reader;
    reader->errors.error_exit = on_error;
    reader->errors.emit_message = on_message;
}

/* With libjpeg; false: an error. `ours` is decoded from the same reader before. */
static bool decode(struct reader *reader, const struct file *file, const struct jpeg_pixels *kernel,
                   int reduction, struct arena *arena, struct image *ours, bool *is_ours,
                   struct image *want)
{
    struct error err = {0};

    *is_ours = false;
    if (setjmp(reader->escape) != 0)
        return false;
    jpeg_create_decompress(&reader->decoder);
    jpeg_mem_src(&reader->decoder, file->bytes, file->len);
    (void)jpeg_read_header(&reader->decoder, TRUE);
    if (reader->decoder.image_width > MAX_SIDE || reader->decoder.image_height > MAX_SIDE)
        return false;
    reader->decoder.scale_num = 1;
    reader->decoder.scale_denom = (unsigned)reduction;
    jpeg_calc_output_dimensions(&reader->decoder);
    for (struct image *image = ours; image != NULL; image = image == ours ? want : NULL)
        assert_ok(image_alloc(image, (int)reader->decoder.output_width,
                              (int)reader->decoder.output_height, 3, arena, &err));
    *is_ours = jpeg_baseline_decode(&reader->decoder, kernel, reduction, ours);
    if (reader->decoder.num_components == 4)
        return false;
    reader->decoder.out_color_space = JCS_RGB;
    (void)jpeg_start_decompress(&reader->decoder);
    while (reader->decoder.output_scanline < reader->decoder.output_height) {
        JSAMPROW row =
            want->pixels + (size_t)reader->decoder.output_scanline * (size_t)want->width * 3;

        (void)jpeg_read_scanlines(&reader->decoder, &row, 1);
    }
    return true;
}

/* Whether ours took it; what it took libjpeg must decode to the same. */
static bool check(const struct file *file, const struct jpeg_pixels *kernel, int reduction,
                  struct arena *arena, const char *what, size_t n)
{
    struct reader reader = {0};
    struct image ours = {0}, want = {0};
    bool is_ours, is_valid;

    arena_reset(arena);
    open_reader(&reader);
    is_valid = decode(&reader, file, kernel, reduction, arena, &ours, &is_ours, &want);
    jpeg_destroy_decompress(&reader.decoder);
    if (!is_ours)
        return false;
    if (!is_valid)
        fail_msg("%s %zu, %s, 1/%d: libjpeg refuses it", what, n, kernel->name, reduction);
    for (size_t i = 0; i < image_bytes(&want); i++)
        if (ours.pixels[i] != want.pixels[i])
            fail_msg("%s %zu, %s, 1/%d: byte %zu of %d x %d is %d, not %d", what, n, kernel->name,
                     reduction, i, want.width, want.height, ours.pixels[i], want.pixels[i]);
    return true;
}

static void draw_variant(struct philox *philox, struct variant *v)
{
    static const int sampling[][2] = {{1, 1}, {2, 1}, {2, 2}};
    const int *hv = sampling[draw(philox, 3)];

    *v = (struct variant){
        .h = hv[0],
        .v = hv[1],
        .width = 5 + (int)draw(philox, draw(philox, 2) == 0 ? 40 : MAX_SIDE - 5),
        .height = 1 + (int)draw(philox, draw(philox, 2) == 0 ? 40 : MAX_SIDE - 5),
        .quality = 1 + (int)draw(philox, 100),
        .restart_interval = draw(philox, 3) == 0 ? 1 + draw(philox, 20) : 0,
        .optimal = draw(philox, 2) == 0,
        .noise = (int)draw(philox, draw(philox, 2) == 0 ? 16 : 256),
        .grey = draw(philox, 8) == 0,
    };
}

static void for_each_kernel(void (*run)(const struct jpeg_pixels *kernel, struct arena *arena))
{
    size_t n;
    const struct jpeg_pixels *const *kernels = jpeg_pixels_kernels(&n);
    struct arena arena;

    if (n == 0)
        skip();
    arena_init(&arena, ARENA_BYTES);
    for (size_t i = 0; i < n; i++)
        run(kernels[i], &arena);
    arena_release(&arena);
}

/* libjpeg upsamples narrower ones in another way, which is left to it. */
static bool is_wide_enough(const struct variant *v, int reduction)
{
    return v->grey || v->h == 1 || v->width > 4 * reduction;
}

static void check_whole_files(const struct jpeg_pixels *kernel, struct arena *arena)
{
    struct philox philox;
    struct variant v;
    struct file file;

    philox_init(&philox, 1, bytes_of_string("whole"), 0, 0);
    for (size_t i = 0; i < 400; i++) {
        draw_variant(&philox, &v);
        encode(&v, &philox, &file);
        for (size_t r = 0; r < ARRAY_LEN(reductions); r++)
            if (!check(&file, kernel, reductions[r], arena, "file", i) &&
                is_wide_enough(&v, reductions[r]) &&
                file.len < 3ul * (size_t)v.width * (size_t)v.height)
                fail_msg("file %zu (%d x %d, %dx%d, quality %d) was left to libjpeg at 1/%d", i,
                         v.width, v.height, v.h, v.v, v.quality, reductions[r]);
        free(file.bytes);
    }
}

static void files_have_the_pixels_of_libjpeg(void **state)
{
    (void)state;
    for_each_kernel(check_whole_files);
}

/* One to four bytes changed anywhere behind the first tables, or the end cut off. */
static void damage(struct file *file, struct philox *philox)
{
    if (draw(philox, 8) == 0)
        file->len = 2 + draw(philox, (uint32_t)file->len - 2);
    for (uint32_t i = 1 + draw(philox, 4); i > 0; i--)
        file->bytes[draw(philox, (uint32_t)file->len)] = (unsigned char)philox_u32(philox);
}

static void check_damaged_files(const struct jpeg_pixels *kernel, struct arena *arena)
{
    struct philox philox;
    size_t n_ours = 0;

    philox_init(&philox, 2, bytes_of_string("damaged"), 0, 0);
    for (size_t i = 0; i < 3000; i++) {
        struct variant v;
        struct file file;

        draw_variant(&philox, &v);
        v.width = MIN(v.width, 60);
        v.height = MIN(v.height, 60);
        encode(&v, &philox, &file);
        damage(&file, &philox);
        for (size_t r = 0; r < ARRAY_LEN(reductions); r++)
            n_ours += check(&file, kernel, reductions[r], arena, "damaged file", i);
        free(file.bytes);
    }
    if (n_ours < 900)
        fail_msg("only %zu damaged files were taken", n_ours);
}

static void damaged_files_are_left_to_libjpeg_or_have_its_pixels(void **state)
{
    (void)state;
    for_each_kernel(check_damaged_files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_have_the_pixels_of_libjpeg),
        cmocka_unit_test(damaged_files_are_left_to_libjpeg_or_have_its_pixels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
