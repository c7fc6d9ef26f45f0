#include "reinforce/base/file.h"
#include "reinforce/image/encode.h"
#include "reinforce/image/exif.h"
#include "tests/support/image_patterns.h"

#include <stdlib.h>

enum { ARENA_BYTES = 64 << 20 };

static void png_keeps_every_pixel(void **state)
{
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    for (int channels = 1; channels <= 4; channels++) {
        struct image image;
        struct image_stored again;
        struct byte_buf out;

        pattern_p(23, 37, channels, &arena, &image);
        byte_buf_init(&out, 1 << 20);
        assert_ok(byte_buf_append(&out, "kept", 4, &err));
        assert_ok(image_write_png(&image, &out, &err));
        assert_memory_equal(out.data, "kept", 4);
        assert_ok(image_decode_stored(bytes_view_of(out.data + 4, out.len - 4), NULL, &arena,
                                      &again, &err));
        assert_int_equal(again.image.channels, channels);
        assert_int_equal(again.image.width, 37);
        assert_memory_equal(again.image.pixels, image.pixels, image_bytes(&image));
        byte_buf_release(&out);
    }
    arena_release(&arena);
}

static void jpeg_is_close_and_repeatable(void **state)
{
    struct arena arena;
    struct error err = {0};
    struct image image, again;
    struct byte_buf out, twice;
    long difference = 0;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    assert_ok(image_alloc(&image, 50, 40, 3, &arena, &err));
    for (int i = 0; i < 50 * 40 * 3; i++)
        image.pixels[i] = (uint8_t)(i / 3 % 50 * 4 + i % 3 * 20);
    byte_buf_init(&out, 1 << 20);
    byte_buf_init(&twice, 1 << 20);
    assert_ok(image_write_jpeg(&image, 95, &out, &err));
    assert_ok(image_write_jpeg(&image, 95, &twice, &err));
    assert_true(bytes_equal(byte_buf_view(&out), byte_buf_view(&twice)));
    assert_ok(image_decode(byte_buf_view(&out), NULL, &arena, &again, &err));
    assert_int_equal(image_bytes(&again), image_bytes(&image));
    for (size_t i = 0; i < image_bytes(&image); i++)
        difference += labs((long)image.pixels[i] - again.pixels[i]);
    assert_true(difference < 3 * (long)image_bytes(&image));
    byte_buf_release(&out);
    byte_buf_release(&twice);
    arena_release(&arena);
}

static void a_full_buffer_is_left_as_it_was(void **state)
{
    struct arena arena;
    struct error err = {0};
    struct image image;
    struct byte_buf out;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    pattern_p(60, 60, 3, &arena, &image);
    byte_buf_init(&out, 200);
    assert_ok(byte_buf_append(&out, "kept", 4, &err));
    assert_status(image_write_png(&image, &out, &err), ST_NO_MEMORY);
    assert_int_equal(out.len, 4);
    assert_status(image_write_jpeg(&image, 90, &out, &err), ST_NO_MEMORY);
    assert_int_equal(out.len, 4);
    byte_buf_release(&out);
    arena_release(&arena);
}

static void what_jpeg_cannot_hold_is_refused(void **state)
{
    static uint8_t pixels[70000];
    const struct image rgb = image_of(10, 10, 3, pixels), rgba = image_of(10, 10, 4, pixels);
    const struct image wide = image_of(70000, 1, 1, pixels);
    struct error err = {0};
    struct byte_buf out;

    (void)state;
    byte_buf_init(&out, 1 << 20);
    assert_status(image_write_jpeg(&rgba, 90, &out, &err), ST_INVALID);
    assert_status(image_write_jpeg(&rgb, 0, &out, &err), ST_INVALID);
    assert_status(image_write_jpeg(&rgb, 101, &out, &err), ST_INVALID);
    assert_status(image_write_jpeg(&wide, 90, &out, &err), ST_INVALID);
    assert_int_equal(out.len, 0);
    byte_buf_release(&out);
}

/* The stored bytes and the pixels we embed must be what a trainer decodes. */
static void upright_files_decode_to_the_pixels_that_were_returned(void **state)
{
    static const struct {
        const char *path;
        bool changed;
        enum image_format format;
    } cases[] = {
        {"tests/golden/image/jpeg_orientation_6.jpg", true, IMAGE_FORMAT_JPEG},
        {"tests/golden/image/jpeg_orientation_3.jpg", true, IMAGE_FORMAT_JPEG},
        {"tests/golden/image/png_orientation_8.png", true, IMAGE_FORMAT_PNG},
        {"tests/golden/image/webp_orientation_5.webp", true, IMAGE_FORMAT_PNG},
        {"tests/golden/image/jpeg_420.jpg", false, IMAGE_FORMAT_UNKNOWN},
    };
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct byte_buf encoded, out;
        struct arena arena;
        struct image original, upright, again;
        struct image_info info;
        bool changed;

        arena_init(&arena, ARENA_BYTES);
        byte_buf_init(&encoded, 1 << 20);
        byte_buf_init(&out, 1 << 20);
        assert_ok(file_read(cases[i].path, &encoded, &err));
        assert_ok(image_decode(byte_buf_view(&encoded), NULL, &arena, &original, &err));
        assert_ok(image_write_upright(byte_buf_view(&encoded), NULL, 90, &arena, &out, &upright,
                                      &changed, &err));
        assert_int_equal(changed, cases[i].changed);
        if (changed) {
            assert_ok(image_read_info(byte_buf_view(&out), NULL, &info, &err));
            assert_int_equal(info.format, cases[i].format);
            assert_int_equal(info.exif_orientation, 1);
            assert_ok(image_decode(byte_buf_view(&out), NULL, &arena, &again, &err));
            assert_int_equal(again.width, upright.width);
            assert_memory_equal(again.pixels, upright.pixels, image_bytes(&again));
        } else {
            assert_int_equal(out.len, 0);
            assert_memory_equal(original.pixels, upright.pixels, image_bytes(&original));
        }
        byte_buf_release(&encoded);
        byte_buf_release(&out);
        arena_release(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_keeps_every_pixel),
        cmocka_unit_test(jpeg_is_close_and_repeatable),
        cmocka_unit_test(a_full_buffer_is_left_as_it_was),
        cmocka_unit_test(what_jpeg_cannot_hold_is_refused),
        cmocka_unit_test(upright_files_decode_to_the_pixels_that_were_returned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
