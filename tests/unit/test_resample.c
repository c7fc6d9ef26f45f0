#include "reinforce/base/philox.h"
#include "reinforce/image/resample.h"
#include "reinforce/image/resample_axis.h"
#include "reinforce/image/resample_vnni.h"
#include "reinforce/image/resize_tensorflow.h"
#include "tests/support/image_patterns.h"

#include <stdio.h>

enum { ARENA_BYTES = 256 << 20 };

/* CLIP 11 */
static void a_row_is_resized_to_the_published_values(void **state)
{
    static uint8_t row[8] = {0, 255, 0, 0, 128, 200, 17, 99};
    static const struct {
        enum resample_filter filter;
        int width;
        uint8_t want[12];
    } cases[] = {
        {RESAMPLE_BICUBIC, 3, {94, 79, 99}},
        {RESAMPLE_BICUBIC, 5, {109, 68, 61, 146, 61}},
        {RESAMPLE_BICUBIC, 12, {0, 135, 239, 34, 0, 15, 108, 183, 181, 35, 50, 104}},
        {RESAMPLE_BILINEAR, 3, {101, 79, 93}},
        {RESAMPLE_BILINEAR, 5, {104, 66, 67, 139, 65}},
        {RESAMPLE_BILINEAR, 12, {0, 128, 212, 43, 0, 21, 107, 164, 169, 48, 58, 99}},
    };
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct image flat = image_of(8, 1, 1, row), upright = image_of(1, 8, 1, row), out;

        assert_ok(image_resize(&flat, 0, 0, 1, 8, 1, cases[i].width, cases[i].filter, &arena, &out,
                               &err));
        assert_memory_equal(out.pixels, cases[i].want, (size_t)cases[i].width);
        assert_ok(image_resize(&upright, 0, 0, 8, 1, cases[i].width, 1, cases[i].filter, &arena,
                               &out, &err));
        assert_memory_equal(out.pixels, cases[i].want, (size_t)cases[i].width);
    }
    arena_release(&arena);
}

/* SIGLIP 16, 17: one row by Pillow's bilinear filter and by TensorFlow's. */
static void a_row_is_halved_as_each_library_does(void **state)
{
    static uint8_t row[4] = {0, 100, 200, 50};
    const struct image flat = image_of(4, 1, 1, row), upright = image_of(1, 4, 1, row);
    struct arena arena;
    struct image out;
    struct error err = {0};

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    assert_ok(image_resize(&flat, 0, 0, 1, 4, 1, 2, RESAMPLE_BILINEAR, &arena, &out, &err));
    assert_memory_equal(out.pixels, ((const uint8_t[]){71, 121}), 2);
    assert_ok(image_resize_tensorflow(&flat, 1, 2, &arena, &out, &err));
    assert_memory_equal(out.pixels, ((const uint8_t[]){50, 125}), 2);
    assert_ok(image_resize_tensorflow(&upright, 2, 1, &arena, &out, &err));
    assert_memory_equal(out.pixels, ((const uint8_t[]){50, 125}), 2);
    assert_ok(image_resize_tensorflow(&flat, 1, 4, &arena, &out, &err));
    assert_memory_equal(out.pixels, row, 4);
    assert_ok(image_resize_tensorflow(&flat, 1, 8, &arena, &out, &err)); /* edges repeat */
    assert_memory_equal(out.pixels, ((const uint8_t[]){0, 25, 75, 125, 175, 162, 87, 50}), 8);
    assert_status(image_resize_tensorflow(&flat, 0, 8, &arena, &out, &err), ST_INVALID);
    arena_release(&arena);
}

/* CLIP 11 */
static void a_grey_image_is_resized_to_the_published_values(void **state)
{
    static const uint8_t want[] = {107, 132, 139, 112, 144, 122, 128, 155, 153, 134, 130, 146};
    struct arena arena;
    struct error err = {0};
    struct image image, out;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    pattern_p(7, 9, 1, &arena, &image);
    assert_ok(image_resize(&image, 0, 0, 7, 9, 3, 4, RESAMPLE_BICUBIC, &arena, &out, &err));
    assert_memory_equal(out.pixels, want, sizeof want);
    arena_release(&arena);
}

/* CLIP 12: one row sums to 2^22 + 1. */
static void bicubic_coefficients_are_the_published_integers(void **state)
{
    static const struct {
        int in, out;
        int lo[5], n[5];
        int32_t k[5][6];
    } cases[] = {
        {5,
         3,
         {0, 0, 1},
         {4, 5, 4},
         {{2452055, 1871305, 0, -129056},
          {-156067, 1033945, 2438549, 1033945, -156067},
          {-129056, 0, 1871305, 2452055}}},
        {3,
         5,
         {0, 0, 0, 0, 1},
         {2, 3, 3, 3, 2},
         {{4510855, -316551},
          {2723168, 1658941, -187805},
          {0, 4194304, 0},
          {-187805, 1658941, 2723168},
          {-316551, 4510855}}},
    };
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        const struct resample_span span = {cases[c].in, 0, cases[c].in};
        struct resample_axis axis;

        assert_ok(resample_axis_init(&axis, &span, cases[c].out, 0, cases[c].out, RESAMPLE_BICUBIC,
                                     &arena, &err));
        for (int i = 0; i < cases[c].out; i++) {
            assert_int_equal(axis.lo[i], cases[c].lo[i]);
            assert_int_equal(axis.n[i], cases[c].n[i]);
            assert_memory_equal(axis.k + i * axis.stride, cases[c].k[i],
                                (size_t)axis.n[i] * sizeof axis.k[0]);
        }
    }
    arena_release(&arena);
}

static void coefficients_are_split_to_bytes_that_make_them_up(void **state)
{
    static int32_t k[] = {0,        1,       -1,       127,     128,      -128, -129, 32639,
                          -2097152, 4194304, -4194305, 8355711, -8421504, 255,  256,  2438549};
    int lo[] = {5}, n[] = {ARRAY_LEN(k)};
    struct resample_axis axis = {0, 1, ARRAY_LEN(k), ARRAY_LEN(k), lo, n, k};
    struct resample_quads quads;
    struct arena arena;
    struct error err = {0};
    bool fits;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    assert_ok(resample_quads_init(&quads, &axis, true, &fits, &arena, &err));
    assert_true(fits);
    assert_int_equal(quads.lo[0], 4);
    assert_int_equal(quads.n[0], 20);
    for (int j = 0; j < quads.n[0]; j++) {
        int32_t sum = 0;

        for (int part = 2; part >= 0; part--)
            sum = sum * 256 + (int8_t)((uint32_t)quads.k[j / 4 * 3 + part] >> 8 * (j % 4));
        assert_int_equal(sum, j < 1 || j > n[0] ? 0 : k[j - 1]);
    }
    assert_ok(resample_quads_init(&quads, &axis, false, &fits, &arena, &err));
    assert_int_equal(quads.lo[0], 5);
    assert_int_equal(quads.n[0], 16);
    k[3] = 8355712; /* one more than three bytes hold */
    assert_ok(resample_quads_init(&quads, &axis, false, &fits, &arena, &err));
    assert_false(fits);
    arena_release(&arena);
}

struct request {
    int channels;
    int width, height; /* of the source, stored */
    struct image_box box;
    int out_height, out_width;
    struct image_box window;
    enum resample_filter filter;
    int reduction; /* 0: none */
};

static void assert_same(const struct request *r, const struct image *got, const struct image *want)
{
    assert_int_equal(got->width, r->window.width);
    assert_int_equal(got->height, r->window.height);
    assert_int_equal(got->channels, r->channels);
    if (memcmp(got->pixels, want->pixels, image_bytes(got)) != 0)
        fail_msg("filter %d, %d channels, box %d,%d,%d,%d of %d x %d, reduced by %d, to %d x %d, "
                 "window %d,%d,%d,%d differs",
                 (int)r->filter, r->channels, r->box.top, r->box.left, r->box.height, r->box.width,
                 r->width, r->height, r->reduction, r->out_width, r->out_height, r->window.top,
                 r->window.left, r->window.height, r->window.width);
}

static void assert_agrees_with_plain_twin(const struct request *r, struct philox *rng,
                                          struct arena *arena)
{
    struct error err = {0};
    struct image image, fast, plain, want;
    uint8_t *edge;

    arena_reset(arena);
    /* The heap, so that a sanitizer sees a read behind the last pixel. */
    image = (struct image){
        .width = r->width, .height = r->height, .channels = r->channels, .reduction = r->reduction};
    if (r->reduction > 1) {
        image.stored_width = r->width;
        image.stored_height = r->height;
        image.width = (r->width + r->reduction - 1) / r->reduction;
        image.height = (r->height + r->reduction - 1) / r->reduction;
    }
    image.pixels = edge = malloc(image_bytes(&image));
    assert_non_null(edge);
    for (size_t i = 0; i < image_bytes(&image); i++)
        image.pixels[i] = (uint8_t)(philox_u32(rng) >> 24);
    assert_ok(image_resize_window(&image, &r->box, r->out_height, r->out_width, &r->window,
                                  r->filter, arena, &fast, &err));
    assert_ok(image_resize_window_plain(&image, &r->box, r->out_height, r->out_width, &r->window,
                                        r->filter, arena, &plain, &err));
    assert_ok(image_resize_window_ref(&image, &r->box, r->out_height, r->out_width, &r->window,
                                      r->filter, arena, &want, &err));
    assert_same(r, &fast, &want);
    assert_same(r, &plain, &want);
    free(edge);
}

static int side(struct philox *rng)
{
    static const uint32_t ranges[] = {1, 3, 20, 90, 300};

    return 1 + (int)philox_below(rng, ranges[philox_below(rng, ARRAY_LEN(ranges))]);
}

static struct image_box box_within(int height, int width, bool whole, struct philox *rng)
{
    struct image_box box = {0, 0, height, width};

    if (!whole) {
        box.height = 1 + (int)philox_below(rng, (uint32_t)height);
        box.width = 1 + (int)philox_below(rng, (uint32_t)width);
        box.top = (int)philox_below(rng, (uint32_t)(height - box.height + 1));
        box.left = (int)philox_below(rng, (uint32_t)(width - box.width + 1));
    }
    return box;
}

static void resizing_agrees_with_the_plain_twin_on_random_shapes(void **state)
{
    struct arena arena;
    struct philox rng;

    (void)state;
    philox_init(&rng, 2, bytes_of_string("resample"), PHILOX_STAGE_AUGMENT, 0);
    arena_init(&arena, ARENA_BYTES);
    for (int i = 0; i < 1500; i++) {
        struct request r = {.channels = 1 + (int)philox_below(&rng, 4),
                            .width = side(&rng),
                            .height = side(&rng),
                            .out_height = side(&rng),
                            .out_width = side(&rng),
                            .filter = (enum resample_filter)philox_below(&rng, 5)};

        if (i % 5 < 2)
            r.reduction = 2 << i % 5;
        r.box = box_within(r.height, r.width, i % 2 == 0, &rng);
        if (i % 7 == 0)
            r.out_width = r.box.width; /* one pass only */
        if (i % 7 < 2)
            r.out_height = r.box.height;
        r.window = box_within(r.out_height, r.out_width, i % 3 == 0, &rng);
        assert_agrees_with_plain_twin(&r, &rng, &arena);
    }
    arena_release(&arena);
}

static void resizing_agrees_with_the_plain_twin_on_extreme_shapes(void **state)
{
    static const int sizes[][4] = {
        /* width, height to width, height */
        {1, 1, 1, 1},    {1, 1, 224, 224},  {1, 1, 1, 5},     {5000, 1, 1, 1},  {5000, 2, 3, 3},
        {1, 5000, 1, 1}, {2, 5000, 3, 3},   {3000, 40, 7, 9}, {40, 3000, 9, 7}, {2, 2, 1000, 1},
        {1, 2, 1, 1000}, {700, 500, 1, 1},  {64, 64, 63, 65}, {65, 63, 64, 64}, {511, 16, 512, 17},
        {513, 17, 9, 9}, {1024, 9, 512, 5}, {16, 16, 16, 15}, {16, 16, 15, 16},
    };
    struct arena arena;
    struct philox rng;

    (void)state;
    philox_init(&rng, 3, bytes_of_string("resample"), PHILOX_STAGE_AUGMENT, 0);
    arena_init(&arena, ARENA_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (int filter = 0; filter < 5; filter++)
            for (int channels = 1; channels <= 4; channels++) {
                const int *size = sizes[i];
                struct request r = {channels,
                                    size[0],
                                    size[1],
                                    {0, 0, size[1], size[0]},
                                    size[3],
                                    size[2],
                                    {0, 0, size[3], size[2]},
                                    (enum resample_filter)filter,
                                    0};

                assert_agrees_with_plain_twin(&r, &rng, &arena);
            }
    arena_release(&arena);
}

/* A picture that any average of neighbours leaves what it is: 3 x + 2 y, in quarters of a level. */
static void ramp(int width, int height, int reduction, struct arena *arena, struct image *out)
{
    struct error err = {0};

    assert_ok(image_alloc(out, (width + reduction - 1) / reduction,
                          (height + reduction - 1) / reduction, 3, arena, &err));
    out->reduction = reduction;
    out->stored_width = width;
    out->stored_height = height;
    for (int y = 0; y < out->height; y++)
        for (int x = 0; x < out->width; x++)
            memset(out->pixels + 3 * (y * out->width + x),
                   (3 * (2 * x + 1) + 2 * (2 * y + 1)) * reduction / 8, 3);
}

/* Boxes that begin and end inside of reduced pixels are not moved to their edges. */
static void boxes_of_reduced_images_lie_where_they_lie_in_stored_ones(void **state)
{
    enum { WIDTH = 131, HEIGHT = 97, SIDE = 6 };
    struct arena arena;
    struct philox rng;

    (void)state;
    philox_init(&rng, 4, bytes_of_string("resample"), PHILOX_STAGE_AUGMENT, 0);
    arena_init(&arena, ARENA_BYTES);
    for (int i = 0; i < 300; i++) {
        struct image_box box = box_within(HEIGHT - 60, WIDTH - 60, false, &rng);
        struct image whole, reduced, want, got;
        struct error err = {0};

        arena_reset(&arena);
        box.height += 60;
        box.width += 60;
        ramp(WIDTH, HEIGHT, 1, &arena, &whole);
        ramp(WIDTH, HEIGHT, 2 << i % 2, &arena, &reduced);
        assert_ok(image_resize(&whole, box.top, box.left, box.height, box.width, SIDE, SIDE,
                               RESAMPLE_BILINEAR, &arena, &want, &err));
        assert_ok(image_resize(&reduced, box.top, box.left, box.height, box.width, SIDE, SIDE,
                               RESAMPLE_BILINEAR, &arena, &got, &err));
        for (int y = 1; y < SIDE - 1; y++) /* edges average less, by part of a pixel */
            for (int x = 1; x < SIDE - 1; x++)
                assert_in_range(
                    got.pixels[3 * (y * SIDE + x)] + 1 - want.pixels[3 * (y * SIDE + x)], 0, 2);
    }
    arena_release(&arena);
}

static void impossible_requests_are_refused(void **state)
{
    static const struct {
        struct image_box box;
        int out_height, out_width;
        struct image_box window;
        int filter;
        const char *reason;
    } cases[] = {
        {{0, 0, 5, 4}, 2, 2, {0, 0, 2, 2}, RESAMPLE_BOX, "is not inside the image"},
        {{0, 0, 4, 5}, 2, 2, {0, 0, 2, 2}, RESAMPLE_BOX, "is not inside the image"},
        {{0, -1, 4, 4}, 2, 2, {0, 0, 2, 2}, RESAMPLE_BOX, "is not inside the image"},
        {{0, 0, 0, 4}, 2, 2, {0, 0, 2, 2}, RESAMPLE_BOX, "is not inside the image"},
        {{0, 0, 4, 4}, 2, 2, {0, 1, 2, 2}, RESAMPLE_BOX, "is not inside the resized image"},
        {{0, 0, 4, 4}, 0, 2, {0, 0, 2, 2}, RESAMPLE_BOX, "cannot resize"},
        {{0, 0, 4, 4}, 2, 2, {0, 0, 2, 2}, 5, "filter 5 is unknown"},
        {{0, 0, 4, 4}, 2, 2, {0, 0, 2, 2}, -1, "filter -1 is unknown"},
    };
    struct arena arena;
    struct error err = {0};
    struct image image, out;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    pattern_p(4, 4, 3, &arena, &image);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_status(image_resize_window(&image, &cases[i].box, cases[i].out_height,
                                          cases[i].out_width, &cases[i].window,
                                          (enum resample_filter)cases[i].filter, &arena, &out,
                                          &err),
                      ST_INVALID);
        if (strstr(err.message, cases[i].reason) == NULL)
            fail_msg("case %zu: %s", i, err.message);
    }
    arena_release(&arena);
}

static void a_small_arena_is_an_error_at_every_step(void **state)
{
    struct error err = {0};
    struct arena arena;
    struct image image, out;
    size_t n_failed = 0, bytes = 64;
    enum status st = ST_NO_MEMORY;
    static uint8_t pixels[60 * 50 * 3];

    (void)state;
    image = image_of(60, 50, 3, pixels);
    for (; st != ST_OK; bytes += 512) {
        arena_init(&arena, bytes);
        st = image_resize(&image, 0, 0, 50, 60, 20, 20, RESAMPLE_BICUBIC, &arena, &out, &err);
        if (st != ST_OK) {
            assert_int_equal(st, ST_NO_MEMORY);
            n_failed++;
        }
        arena_release(&arena);
    }
    assert_true(n_failed > 5);
}

/* Views pile up in a sample's arena; their scratch must not. */
static void only_the_result_stays_in_the_arena(void **state)
{
    struct arena arena;
    struct error err = {0};
    struct image image, out;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    pattern_p(100, 90, 3, &arena, &image);
    for (int filter = 0; filter < 5; filter++) {
        size_t before = arena.used_bytes;

        assert_ok(image_resize(&image, 10, 10, 70, 70, 32, 48, (enum resample_filter)filter, &arena,
                               &out, &err));
        assert_int_equal(arena.used_bytes - before, 32 * 48 * 3);
    }
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_halved_as_each_library_does),
        cmocka_unit_test(a_row_is_resized_to_the_published_values),
        cmocka_unit_test(a_grey_image_is_resized_to_the_published_values),
        cmocka_unit_test(bicubic_coefficients_are_the_published_integers),
        cmocka_unit_test(coefficients_are_split_to_bytes_that_make_them_up),
        cmocka_unit_test(resizing_agrees_with_the_plain_twin_on_random_shapes),
        cmocka_unit_test(resizing_agrees_with_the_plain_twin_on_extreme_shapes),
        cmocka_unit_test(boxes_of_reduced_images_lie_where_they_lie_in_stored_ones),
        cmocka_unit_test(impossible_requests_are_refused),
        cmocka_unit_test(only_the_result_stays_in_the_arena),
        cmocka_unit_test(a_small_arena_is_an_error_at_every_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
