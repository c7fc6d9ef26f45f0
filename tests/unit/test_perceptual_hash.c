#include "reinforce/base/file.h"
#include "reinforce/image/decode.h"
#include "reinforce/image/perceptual_hash.h"
#include "reinforce/image/resample.h"
#include "tests/support/image_patterns.h"

#include <inttypes.h>

enum { ARENA_BYTES = 64 << 20 };

static void assert_hash(const char *what, const struct image *image, uint64_t want)
{
    struct arena arena;
    struct error err = {0};
    uint64_t hash;

    arena_init(&arena, ARENA_BYTES);
    assert_ok(perceptual_hash(image, &arena, &hash, &err));
    if (hash != want)
        fail_msg("%s: %016" PRIx64 ", want %016" PRIx64, what, hash, want);
    arena_release(&arena);
}

/* phash() of imagehash 4.3.2 (scipy, Pillow 12.1) over Image.convert("RGB") */
static void hashes_equal_those_of_imagehash(void **state)
{
    static const struct {
        int width, height;
        uint64_t want;
    } patterns[] = {
        {64, 64, 0x85350f23eaca0e3f},  {200, 113, 0x83050709031fbfff},
        {33, 500, 0xad0d22153f2b3a67}, {32, 32, 0x8a318537ee62ad5a},
        {5, 7, 0xaf2dd1532d0cd3a2},    {640, 480, 0xd943045328fd597d},
    };
    static const struct {
        const char *file;
        uint64_t want;
    } files[] = {
        {"tests/golden/image/jpeg_rgb.jpg", 0xf8f05a0fc7acd608},
        {"tests/golden/image/jpeg_420.jpg", 0xf8f05a0f87acd708},
        {"tests/golden/image/png_rgb.png", 0xc2b5170717d9b907},
    };
    struct arena arena;
    struct byte_buf bytes;
    struct error err = {0};
    struct image image;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    byte_buf_init(&bytes, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        pattern_g(patterns[i].width, patterns[i].height, &arena, &image);
        assert_hash("pattern", &image, patterns[i].want);
    }
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        byte_buf_reset(&bytes);
        assert_ok(file_read(files[i].file, &bytes, &err));
        assert_ok(image_decode(byte_buf_view(&bytes), NULL, &arena, &image, &err));
        assert_hash(files[i].file, &image, files[i].want);
    }
    byte_buf_release(&bytes);
    arena_release(&arena);
}

static void one_colour_has_no_other_frequency(void **state)
{
    struct arena arena;
    struct error err = {0};
    struct image image;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    assert_ok(image_alloc(&image, 40, 30, 3, &arena, &err));
    memset(image.pixels, 77, image_bytes(&image));
    assert_hash("grey", &image, 0x8000000000000000);
    memset(image.pixels, 0, image_bytes(&image));
    assert_hash("black", &image, 0);
    arena_release(&arena);
}

static void a_smaller_copy_is_near_and_another_image_is_not(void **state)
{
    struct arena arena;
    struct error err = {0};
    struct image image, small;
    uint64_t a, b, c;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    pattern_g(640, 480, &arena, &image);
    assert_ok(
        image_resize(&image, 0, 0, 480, 640, 300, 400, RESAMPLE_BICUBIC, &arena, &small, &err));
    assert_ok(perceptual_hash(&image, &arena, &a, &err));
    assert_ok(perceptual_hash(&small, &arena, &b, &err));
    pattern_p(480, 640, 3, &arena, &image);
    assert_ok(perceptual_hash(&image, &arena, &c, &err));
    assert_true(__builtin_popcountll(a ^ b) <= 8);
    assert_true(__builtin_popcountll(a ^ c) > 16);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_equal_those_of_imagehash),
        cmocka_unit_test(one_colour_has_no_other_frequency),
        cmocka_unit_test(a_smaller_copy_is_near_and_another_image_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
