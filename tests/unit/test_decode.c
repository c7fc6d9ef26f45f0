#include "reinforce/base/file.h"
#include "reinforce/base/philox.h"
#include "reinforce/image/decode.h"
#include "reinforce/image/exif.h"
#include "reinforce/image/preprocess.h"
#include "tests/support/image_patterns.h"

#include <stdio.h>

#define GOLDEN "tests/golden/image/"

enum { ARENA_BYTES = 64 << 20, MAX_FIELDS = 11 };

/* A line of index.txt: what Pillow makes of one file; make_image.py has the columns. */
struct golden {
    char *name;
    bool ok;
    int width, height;
    char *mode;
    int orientation;
    char *digest;
    char *fitted[4]; /* shortest in open_clip's order, converted first; squash likewise. May be NULL
                      */
    struct byte_buf encoded;
};

static int to_int(const char *text)
{
    int value = 0;

    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + *text - '0';
    return value;
}

static void read_encoded(const char *name, struct byte_buf *buf)
{
    struct error err = {0};
    char path[256];

    (void)snprintf(path, sizeof path, GOLDEN "%s", name);
    byte_buf_init(buf, 1 << 20);
    assert_ok(file_read(path, buf, &err));
}

/* Calls `check` for every line; there must be at least `min_count`. */
static void for_each_golden(size_t min_count,
                            void (*check)(const struct golden *golden, struct arena *arena))
{
    struct byte_buf index;
    struct error err = {0};
    struct arena arena;
    const char *text;
    char *line, *rest;
    size_t n = 0;

    byte_buf_init(&index, 1 << 20);
    assert_ok(file_read(GOLDEN "index.txt", &index, &err));
    assert_ok(byte_buf_c_str(&index, &text, &err));
    arena_init(&arena, ARENA_BYTES);
    rest = (char *)index.data;
    while ((line = strtok_r(rest, "\n", &rest)) != NULL) {
        char *field[MAX_FIELDS] = {NULL};
        struct golden golden = {0};

        for (size_t i = 0; i < MAX_FIELDS; i++)
            field[i] = strtok_r(line, " ", &line);
        golden.name = field[0];
        golden.ok = strcmp(field[1], "ok") == 0;
        if (golden.ok) {
            golden.width = to_int(field[2]);
            golden.height = to_int(field[3]);
            golden.mode = field[4];
            golden.orientation = to_int(field[5]);
            golden.digest = field[6];
            memcpy(golden.fitted, &field[7], sizeof golden.fitted);
        }
        read_encoded(golden.name, &golden.encoded);
        arena_reset(&arena);
        check(&golden, &arena);
        byte_buf_release(&golden.encoded);
        n++;
    }
    assert_true(n >= min_count);
    arena_release(&arena);
    byte_buf_release(&index);
}

static void check_pixels(const struct golden *golden, struct arena *arena)
{
    struct error err = {0};
    struct image image;
    enum status st = image_decode(byte_buf_view(&golden->encoded), NULL, arena, &image, &err);

    if (!golden->ok) {
        if (st != ST_CORRUPT)
            fail_msg("%s: got %s, expected corrupt", golden->name, status_name(st));
        assert_true(strlen(err.message) > 10);
        return;
    }
    if (st != ST_OK)
        fail_msg("%s: %s: %s", golden->name, status_name(st), err.message);
    assert_int_equal(image.width, golden->width);
    assert_int_equal(image.height, golden->height);
    assert_int_equal(image.channels, 3);
    assert_digest_begins(golden->name, image.pixels, image_bytes(&image), golden->digest);
}

/* DR 21, IM-1, IM-3, PALI 19 */
static void every_kind_of_file_decodes_to_pillows_rgb(void **state)
{
    (void)state;
    for_each_golden(100, check_pixels);
}

/* The files of reduced.txt; what is not JPEG comes whole. */
static void reduced_jpeg_has_the_pixels_of_pillows_draft(void **state)
{
    struct byte_buf index;
    struct error err = {0};
    struct arena arena;
    const char *text;
    char *line, *rest;
    struct image whole, image;
    size_t n = 0;

    (void)state;
    byte_buf_init(&index, 1 << 16);
    assert_ok(file_read(GOLDEN "reduced.txt", &index, &err));
    assert_ok(byte_buf_c_str(&index, &text, &err));
    arena_init(&arena, ARENA_BYTES);
    rest = (char *)index.data;
    while ((line = strtok_r(rest, "\n", &rest)) != NULL) {
        const char *name = strtok_r(line, " ", &line);
        struct byte_buf encoded;

        arena_reset(&arena);
        read_encoded(name, &encoded);
        assert_ok(image_decode(byte_buf_view(&encoded), NULL, &arena, &whole, &err));
        for (int reduction = 2; reduction <= 4; reduction *= 2) {
            assert_ok(image_decode_reduced(byte_buf_view(&encoded), NULL, reduction, &arena, &image,
                                           &err));
            assert_int_equal(image.width, (whole.width + reduction - 1) / reduction);
            assert_int_equal(image.height, (whole.height + reduction - 1) / reduction);
            assert_int_equal(image_stored_width(&image), whole.width);
            assert_int_equal(image_stored_height(&image), whole.height);
            assert_digest_begins(name, image.pixels, image_bytes(&image),
                                 strtok_r(line, " ", &line));
        }
        byte_buf_release(&encoded);
        n++;
    }
    assert_true(n > 20);
    byte_buf_release(&index);
    read_encoded("png_3x5_interlaced.png", &index);
    assert_ok(image_decode_reduced(byte_buf_view(&index), NULL, 4, &arena, &image, &err));
    assert_true(image.width == 3 && image.height == 5 && image.reduction == 0);
    arena_release(&arena);
    byte_buf_release(&index);
}

static void check_info(const struct golden *golden, struct arena *arena)
{
    static const char *const extensions[] = {".jpg", ".png", ".webp", ".gif"};
    struct error err = {0};
    struct image_info info;
    enum status st = image_read_info(byte_buf_view(&golden->encoded), NULL, &info, &err);

    (void)arena;
    if (!golden->ok)
        return;
    if (st != ST_OK)
        fail_msg("%s: %s: %s", golden->name, status_name(st), err.message);
    assert_int_equal(info.width, golden->width);
    assert_int_equal(info.height, golden->height);
    if (strcmp(info.mode, golden->mode) != 0)
        fail_msg("%s: mode is %s, Pillow's %s", golden->name, info.mode, golden->mode);
    if (info.exif_orientation != golden->orientation)
        fail_msg("%s: orientation is %d, Pillow's %d", golden->name, info.exif_orientation,
                 golden->orientation);
    assert_string_equal(strchr(golden->name, '.'), extensions[info.format - IMAGE_FORMAT_JPEG]);
    assert_string_equal(strchr(golden->name, '.') + 1, image_format_extension(info.format));
}

static void headers_tell_format_size_mode_and_orientation(void **state)
{
    (void)state;
    for_each_golden(100, check_info);
    assert_null(image_format_extension(IMAGE_FORMAT_UNKNOWN));
}

static void check_orders(const struct golden *golden, struct arena *arena)
{
    static const enum preprocess_mode modes[] = {PREPROCESS_SHORTEST, PREPROCESS_SQUASH};
    struct error err = {0};

    if (golden->fitted[0] == NULL)
        return;
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct preprocess pre = {.size = 32, .mode = modes[i], .filter = RESAMPLE_BICUBIC};
        struct image_stored stored;
        struct image image, out;

        assert_ok(image_decode_stored(byte_buf_view(&golden->encoded), NULL, arena, &stored, &err));
        assert_ok(preprocess_pixels_stored(&pre, &stored, arena, &out, &err));
        assert_digest_begins(golden->name, out.pixels, image_bytes(&out), golden->fitted[2 * i]);
        assert_ok(image_decode(byte_buf_view(&golden->encoded), NULL, arena, &image, &err));
        assert_ok(preprocess_pixels(&pre, &image, arena, &out, &err));
        assert_digest_begins(golden->name, out.pixels, image_bytes(&out),
                             golden->fitted[2 * i + 1]);
    }
}

/* CLIP 16 */
static void both_orders_of_conversion_give_pillows_pixels(void **state)
{
    (void)state;
    for_each_golden(100, check_orders);
}

static void padding_in_stored_mode_pads_what_is_stored(void **state)
{
    uint8_t indices[] = {1, 1}, bits[] = {255, 255};
    struct image_stored indexed = {.image = image_of(2, 1, 1, indices),
                                   .mode = IMAGE_MODE_INDEXED,
                                   .palette = {[1] = {9, 8, 7}, [2] = {60, 50, 40}}};
    struct image_stored bilevel = {.image = image_of(2, 1, 1, bits), .mode = IMAGE_MODE_BILEVEL};
    struct preprocess pre = {
        .size = 4, .mode = PREPROCESS_LONGEST, .filter = RESAMPLE_BICUBIC, .fill = 2};
    struct arena arena;
    struct error err = {0};
    struct image out;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    assert_ok(preprocess_pixels_stored(&pre, &indexed, &arena, &out, &err));
    assert_memory_equal(out.pixels, "\x3c\x32\x28", 3);
    assert_memory_equal(out.pixels + 4 * 3, "\x09\x08\x07", 3);
    assert_ok(preprocess_pixels_stored(&pre, &bilevel, &arena, &out, &err));
    assert_int_equal(out.pixels[0], 255); /* any fill but 0 is white there */
    arena_release(&arena);
}

/* IM-5, DR 35 */
static void limits_are_checked_from_the_header(void **state)
{
    static const struct {
        struct image_limits limits;
        enum status want;
        const char *reason;
    } cases[] = {
        {{0}, ST_OK, NULL},
        {{.max_bytes = 1000000,
          .max_pixels = 61 * 47,
          .max_side = 61,
          .max_ratio = 2,
          .min_side = 47},
         ST_OK,
         NULL},
        {{.max_bytes = 100}, ST_INVALID, "the limit is 100"},
        {{.max_pixels = 61 * 47 - 1}, ST_INVALID, "has 2867 pixels, the limit is 2866"},
        {{.max_side = 60}, ST_INVALID, "longer side is 61 pixels, the limit is 60"},
        {{.max_ratio = 1}, ST_INVALID, "aspect ratio of 61 x 47 is beyond 1 to 1"},
        {{.min_side = 48}, ST_INVALID, "shorter side is 47 pixels, the minimum is 48"},
    };
    static const char *const names[] = {"jpeg_420.jpg", "webp_lossy.webp",
                                        "webp_animated_offset.webp"};
    struct error err = {0};

    (void)state;
    for (size_t n = 0; n < ARRAY_LEN(names); n++) {
        struct byte_buf encoded;

        read_encoded(names[n], &encoded);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            struct image_info info;
            struct image image;
            struct arena arena;

            arena_init(&arena, ARENA_BYTES);
            assert_status(image_read_info(byte_buf_view(&encoded), &cases[i].limits, &info, &err),
                          cases[i].want);
            assert_status(
                image_decode(byte_buf_view(&encoded), &cases[i].limits, &arena, &image, &err),
                cases[i].want);
            if (cases[i].want != ST_OK) {
                if (strstr(err.message, cases[i].reason) == NULL)
                    fail_msg("%s: %s", names[n], err.message);
                assert_int_equal(arena.total_bytes, 0); /* nothing was allocated */
            }
            arena_release(&arena);
        }
        byte_buf_release(&encoded);
    }
}

/* Headers that promise gigabytes. */
static void bombs_are_refused_by_limit_or_arena(void **state)
{
    static const uint8_t gif[] =
        "GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2L\1\0;";
    static const uint8_t webp[] =
        "RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f\0\0\0\0\0\0\0\0";
    struct image_limits limits = {.max_pixels = 1 << 24};
    struct byte_buf png;
    struct bytes_view cases[3];
    struct error err = {0};

    (void)state;
    read_encoded("png_rgb.png", &png);
    memcpy(png.data + 16, "\0\1\x86\xa0\0\1\x86\xa0", 8); /* 100000 x 100000 */
    memcpy(png.data + 29, "\x27\x30\x9c\x9f", 4);
    cases[0] = byte_buf_view(&png);
    cases[1] = bytes_view_of(gif, sizeof gif - 1);
    cases[2] = bytes_view_of(webp, sizeof webp - 1);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena;
        struct image image;
        enum status st;

        arena_init(&arena, 1 << 20);
        assert_status(image_decode(cases[i], &limits, &arena, &image, &err), ST_INVALID);
        st = image_decode(cases[i], NULL, &arena, &image, &err);
        if (st != ST_NO_MEMORY)
            fail_msg("case %zu: %s: %s", i, status_name(st), err.message);
        arena_release(&arena);
    }
    byte_buf_release(&png);
}

static void check_every_arena_size(const struct golden *golden, struct arena *arena)
{
    struct error err = {0};
    enum status st = ST_NO_MEMORY;
    size_t bytes = 1;

    (void)arena;
    if (!golden->ok)
        return;
    for (; st != ST_OK; bytes = bytes * 3 / 2 + 1) {
        struct arena small;
        struct image image;

        arena_init(&small, bytes);
        st = image_decode(byte_buf_view(&golden->encoded), NULL, &small, &image, &err);
        if (st != ST_OK && st != ST_NO_MEMORY)
            fail_msg("%s in %zu bytes: %s: %s", golden->name, bytes, status_name(st), err.message);
        arena_release(&small);
    }
    /* The scratch that a caller must plan for. */
    assert_true(bytes < (size_t)golden->width * (size_t)golden->height * 8 * 3 / 2 + 1024);
}

static void a_small_arena_is_an_error_at_every_step(void **state)
{
    (void)state;
    for_each_golden(100, check_every_arena_size);
}

static void check_every_cut(const struct golden *golden, struct arena *arena)
{
    struct bytes_view whole = byte_buf_view(&golden->encoded);
    struct error err = {0};

    for (size_t len = 0; len < whole.len; len += whole.len / 40 + 1) {
        struct image image;
        struct image_info info;
        enum status st;

        arena_reset(arena);
        st = image_decode(bytes_view_of(whole.data, len), NULL, arena, &image, &err);
        if (st != ST_OK && st != ST_CORRUPT)
            fail_msg("%s cut to %zu: %s: %s", golden->name, len, status_name(st), err.message);
        /* Of an animation only the first frame is needed. */
        if (st == ST_OK && len < whole.len * 3 / 4 && strstr(golden->name, "animated") == NULL)
            fail_msg("%s cut to %zu of %zu was taken for whole", golden->name, len, whole.len);
        st = image_read_info(bytes_view_of(whole.data, len), NULL, &info, &err);
        assert_true(st == ST_OK || st == ST_CORRUPT);
    }
}

static void truncated_files_are_refused_wherever_they_are_cut(void **state)
{
    (void)state;
    for_each_golden(100, check_every_cut);
}

static size_t n_mutants, n_refused;

static void check_mutants(const struct golden *golden, struct arena *arena)
{
    enum { MUTANTS_PER_FILE = 40 };
    static const struct image_limits limits = {
        .max_bytes = 1 << 20, .max_pixels = 1 << 20, .max_side = 4096};
    struct bytes_view whole = byte_buf_view(&golden->encoded);
    struct philox rng;
    uint8_t *mutant = malloc(whole.len + 1);

    assert_non_null(mutant);
    philox_init(&rng, 4, bytes_of_string(golden->name), PHILOX_STAGE_AUGMENT, 0);
    for (int i = 0; i < MUTANTS_PER_FILE && whole.len > 0; i++) {
        uint32_t n_changes = 1 + philox_below(&rng, 8);
        /* Headers decide more than pixels: half of the changes go there. */
        uint32_t range = (uint32_t)(i % 2 == 0 ? whole.len : MIN(whole.len, (size_t)64));
        struct error err = {0};
        struct image image;
        enum status st;

        memcpy(mutant, whole.data, whole.len);
        while (n_changes-- > 0)
            mutant[philox_below(&rng, range)] = (uint8_t)philox_u32(&rng);
        arena_reset(arena);
        st = image_decode(bytes_view_of(mutant, whole.len), &limits, arena, &image, &err);
        if (st == ST_OK) {
            assert_true(image.channels == 3 && image.width >= 1 && image.height >= 1);
        } else {
            if (st != ST_CORRUPT && st != ST_INVALID)
                fail_msg("%s, mutant %d: %s: %s", golden->name, i, status_name(st), err.message);
            if (strlen(err.message) < 10)
                fail_msg("%s, mutant %d: no reason given", golden->name, i);
            n_refused++;
        }
        n_mutants++;
    }
    free(mutant);
}

/* IM-4, DR 35 */
static void thousands_of_mutants_decode_or_give_a_reason(void **state)
{
    (void)state;
    n_mutants = n_refused = 0;
    for_each_golden(100, check_mutants);
    assert_true(n_mutants >= 4000);
    assert_true(n_refused >= n_mutants / 10 && n_refused < n_mutants);
}

static void orientation_turns_the_image_upright(void **state)
{
    /* Pillow's ImageOps.exif_transpose of "abc/def". */
    static const struct {
        int orientation, width;
        const char *want;
    } cases[] = {
        {0, 3, "abcdef"}, {1, 3, "abcdef"}, {2, 3, "cbafed"}, {3, 3, "fedcba"}, {4, 3, "defabc"},
        {5, 2, "adbecf"}, {6, 2, "daebfc"}, {7, 2, "fcebda"}, {8, 2, "cfbead"}, {9, 3, "abcdef"},
    };
    uint8_t pixels[] = "abcdef";
    struct image image = image_of(3, 2, 1, pixels), out;
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_ok(image_apply_orientation(&image, cases[i].orientation, &arena, &out, &err));
        assert_int_equal(out.width, cases[i].width);
        assert_int_equal(out.height, 6 / cases[i].width);
        assert_memory_equal(out.pixels, cases[i].want, 6);
    }
    arena_release(&arena);
}

/* DR 21: the orientation tag changes no pixel. */
static void orientation_is_ignored_by_decoding(void **state)
{
    struct byte_buf encoded;
    struct arena arena;
    struct error err = {0};
    struct image turned, plain;
    size_t at;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    read_encoded("jpeg_orientation_6.jpg", &encoded);
    assert_ok(image_decode(byte_buf_view(&encoded), NULL, &arena, &turned, &err));
    for (at = 0; memcmp(encoded.data + at, "Exif", 4) != 0;)
        at++;
    memcpy(encoded.data + at, "none", 4);
    assert_int_equal(exif_orientation(byte_buf_view(&encoded), IMAGE_FORMAT_JPEG), 1);
    assert_ok(image_decode(byte_buf_view(&encoded), NULL, &arena, &plain, &err));
    assert_int_equal(turned.width, plain.width);
    assert_memory_equal(turned.pixels, plain.pixels, image_bytes(&plain));
    byte_buf_release(&encoded);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_file_decodes_to_pillows_rgb),
        cmocka_unit_test(reduced_jpeg_has_the_pixels_of_pillows_draft),
        cmocka_unit_test(headers_tell_format_size_mode_and_orientation),
        cmocka_unit_test(both_orders_of_conversion_give_pillows_pixels),
        cmocka_unit_test(padding_in_stored_mode_pads_what_is_stored),
        cmocka_unit_test(limits_are_checked_from_the_header),
        cmocka_unit_test(bombs_are_refused_by_limit_or_arena),
        cmocka_unit_test(a_small_arena_is_an_error_at_every_step),
        cmocka_unit_test(truncated_files_are_refused_wherever_they_are_cut),
        cmocka_unit_test(thousands_of_mutants_decode_or_give_a_reason),
        cmocka_unit_test(orientation_turns_the_image_upright),
        cmocka_unit_test(orientation_is_ignored_by_decoding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
