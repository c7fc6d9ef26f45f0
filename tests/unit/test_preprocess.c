#include "reinforce/image/naflex.h"
#include "reinforce/image/preprocess.h"
#include "tests/support/image_patterns.h"

#include <stdio.h>

enum { ARENA_BYTES = 256 << 20 };

static const struct preprocess openai = {
    .size = 224,
    .mode = PREPROCESS_SHORTEST,
    .filter = RESAMPLE_BICUBIC,
    .mean = {0.48145466f, 0.4578275f, 0.40821073f},
    .std = {0.26862954f, 0.26130258f, 0.27577711f},
};

/* CLIP 11, CLIP 14 */
static void images_of_all_aspects_give_the_published_bytes(void **state)
{
    static const struct {
        int height, width, resized_height, resized_width, top, left;
        const char *digests[4]; /* shortest bicubic, bilinear, squash bicubic, bilinear */
    } cases[] = {
        {480,
         640,
         224,
         298,
         0,
         37,
         {"f25dff6d912dd6d8", "e2378d5d7a8fa1af", "579f3c38d4bdcef2", "f0ec2096940df154"}},
        {640,
         427,
         335,
         224,
         56,
         0,
         {"c1f9456d988a478a", "b2bc8d36622a8de4", "6cdd32b114cb8014", "bb9a98798c2ca98c"}},
        {333,
         500,
         224,
         336,
         0,
         56,
         {"b194070b8a7a5118", "4987d56da84d727c", "a9b17359a242f744", "c85061dd1ab41538"}},
        {225,
         224,
         225,
         224,
         0,
         0,
         {"07dd77b00aa8e91b", "07dd77b00aa8e91b", "1fe436fd52263058", "fad1b6267afe9bf1"}},
        {224,
         226,
         224,
         226,
         0,
         1,
         {"d18ac3b657ba12b2", "d18ac3b657ba12b2", "a418205314cb239e", "f2fde2f94abf7b1e"}},
        {100,
         150,
         224,
         336,
         0,
         56,
         {"1f64c1e3aa26cb25", "f12d185451dccc4b", "c0dfc63535168d4d", "31322be25401b2cb"}},
        {37,
         1000,
         224,
         6054,
         0,
         2915,
         {"17fda0f8acb14a4f", "124a7715fc9384fc", "f0f5a3d33b3c15cc", "90f9c8692b3e0e2c"}},
    };
    struct arena arena;
    struct error err = {0};
    struct image image, out;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct preprocess_plan plan;

        arena_reset(&arena);
        pattern_p(cases[i].height, cases[i].width, 3, &arena, &image);
        preprocess_plan_of(&openai, image.width, image.height, &plan);
        assert_int_equal(plan.height, cases[i].resized_height);
        assert_int_equal(plan.width, cases[i].resized_width);
        assert_int_equal(plan.window.top, cases[i].top);
        assert_int_equal(plan.window.left, cases[i].left);
        for (int k = 0; k < 4; k++) {
            struct preprocess pre = openai;

            pre.mode = k < 2 ? PREPROCESS_SHORTEST : PREPROCESS_SQUASH;
            pre.filter = k % 2 == 0 ? RESAMPLE_BICUBIC : RESAMPLE_BILINEAR;
            assert_ok(preprocess_pixels(&pre, &image, &arena, &out, &err));
            assert_int_equal(image_bytes(&out), 224 * 224 * 3);
            assert_digest_begins("preprocessed", out.pixels, image_bytes(&out),
                                 cases[i].digests[k]);
        }
    }
    arena_release(&arena);
}

/* CLIP 13 */
static void margins_are_halved_by_the_rule_of_each_library(void **state)
{
    static const int margins[][3] = {{0, 0, 0}, {1, 0, 0}, {2, 1, 1},
                                     {3, 2, 1}, {5, 2, 2}, {7, 4, 3}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(margins); i++) {
        struct preprocess pre = openai;
        struct preprocess_plan plan;

        preprocess_plan_of(&pre, 224 + margins[i][0], 224, &plan);
        assert_int_equal(plan.window.left, margins[i][1]);
        preprocess_plan_of(&pre, 224, 224 + margins[i][0], &plan);
        assert_int_equal(plan.window.top, margins[i][1]);
        pre.crop = PREPROCESS_CROP_FLOOR;
        preprocess_plan_of(&pre, 224 + margins[i][0], 224, &plan);
        assert_int_equal(plan.window.left, margins[i][2]);
    }
}

/* CLIP 15 */
static void normalised_values_equal_the_published_ones_bit_for_bit(void **state)
{
    static const struct {
        uint8_t value;
        float want[3];
    } cases[] = {
        {0, {-1.79226255f, -1.75209713f, -1.48021984f}},
        {1, {-1.77766407f, -1.73708928f, -1.46599972f}},
        {127, {0.0617376044f, 0.153889433f, 0.325728595f}},
        {128, {0.0763361454f, 0.168897316f, 0.339948773f}},
        {255, {1.93033612f, 2.0748837f, 2.14589691f}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t pixel[3] = {cases[i].value, cases[i].value, cases[i].value};
        struct image image = image_of(1, 1, 3, pixel);
        float out[3];

        preprocess_tensor(&image, openai.mean, openai.std, out);
        assert_memory_equal(out, cases[i].want, sizeof out);
    }
}

static void assert_every_step_is_rounded(int height, int width, const float mean[3],
                                         const float std[3], struct arena *arena)
{
    struct error err = {0};
    size_t n = (size_t)height * (size_t)width;
    struct image image;
    float *out;

    arena_reset(arena);
    pattern_p(height, width, 3, arena, &image);
    assert_ok(arena_calloc(arena, 3 * n, sizeof *out, &out, &err));
    preprocess_tensor(&image, mean, std, out);
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++) {
            float unit = (float)image.pixels[i * 3 + c] / 255.0f;
            float centred = unit - mean[c];
            float want = centred / std[c];

            assert_memory_equal(&out[c * n + i], &want, sizeof want);
        }
}

static void tensor_is_planar_and_every_step_is_rounded(void **state)
{
    static const float usual[][2][3] = {
        {{0.48145466f, 0.4578275f, 0.40821073f}, {0.26862954f, 0.26130258f, 0.27577711f}},
        {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}},
        {{0.5f, 0.5f, 0.5f}, {0.5f, 0.5f, 0.5f}},
        {{0.0f, 0.0f, 0.0f}, {1.0f, 1.0f, 1.0f}},
        {{0.1f, -7.0f, 1e9f}, {-3.0f, 1e-38f, 1e-45f}}, /* whose inverses do not exist */
    };
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(usual); i++) {
        assert_every_step_is_rounded(13, 29, usual[i][0], usual[i][1], &arena);
        assert_every_step_is_rounded(83, 91, usual[i][0], usual[i][1], &arena);
    }
    arena_release(&arena);
}

/* CLIP 18: a 2:1 image keeps both ends. */
static void squash_keeps_both_ends_and_shortest_cuts_them(void **state)
{
    struct arena arena;
    struct error err = {0};
    struct image image, out;
    struct preprocess pre = openai;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    assert_ok(image_alloc(&image, 600, 300, 3, &arena, &err));
    memset(image.pixels, 0, image_bytes(&image));
    for (int y = 0; y < 300; y++) { /* red left edge, blue right edge */
        for (int x = 0; x < 60; x++) {
            image.pixels[(y * 600 + x) * 3] = 255;
            image.pixels[(y * 600 + 599 - x) * 3 + 2] = 255;
        }
    }
    pre.mode = PREPROCESS_SQUASH;
    assert_ok(preprocess_pixels(&pre, &image, &arena, &out, &err));
    assert_int_equal(out.pixels[0], 255);
    assert_int_equal(out.pixels[223 * 3 + 2], 255);
    pre.mode = PREPROCESS_SHORTEST;
    assert_ok(preprocess_pixels(&pre, &image, &arena, &out, &err));
    for (size_t i = 0; i < image_bytes(&out); i++)
        assert_int_equal(out.pixels[i], 0);
    arena_release(&arena);
}

static void longest_pads_the_other_side(void **state)
{
    static const struct {
        int width, height, resized_width, resized_height, top, left;
    } cases[] = {
        {448, 224, 224, 112, 56, 0}, {224, 448, 112, 224, 0, 56}, {448, 447, 224, 224, 0, 0},
        {448, 445, 224, 222, 1, 0},  {448, 443, 224, 222, 1, 0},  {448, 442, 224, 221, 1, 0},
        {1000, 1, 224, 1, 111, 0},   {10, 20, 112, 224, 0, 56},
    };
    struct arena arena;
    struct error err = {0};
    struct preprocess pre = openai;

    (void)state;
    pre.mode = PREPROCESS_LONGEST;
    pre.fill = 77;
    arena_init(&arena, ARENA_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct preprocess_plan plan;
        struct image image, out, inner;

        arena_reset(&arena);
        preprocess_plan_of(&pre, cases[i].width, cases[i].height, &plan);
        assert_int_equal(plan.width, cases[i].resized_width);
        assert_int_equal(plan.height, cases[i].resized_height);
        assert_int_equal(plan.pad_top, cases[i].top);
        assert_int_equal(plan.pad_left, cases[i].left);
        pattern_p(cases[i].height, cases[i].width, 3, &arena, &image);
        assert_ok(preprocess_pixels(&pre, &image, &arena, &out, &err));
        assert_ok(image_resize(&image, 0, 0, image.height, image.width, plan.height, plan.width,
                               pre.filter, &arena, &inner, &err));
        for (int y = 0; y < 224; y++)
            for (int x = 0; x < 224; x++) {
                int iy = y - plan.pad_top, ix = x - plan.pad_left;
                bool inside = iy >= 0 && iy < plan.height && ix >= 0 && ix < plan.width;
                uint8_t want = inside ? inner.pixels[(iy * plan.width + ix) * 3] : 77;

                assert_int_equal(out.pixels[(y * 224 + x) * 3], want);
            }
    }
    arena_release(&arena);
}

/* SIGLIP 19: big_vision's own cases, and the spec's by budget. */
static void naflex_sizes_are_the_published_ones(void **state)
{
    static const struct {
        int height, width, patch, budget, want_height, want_width;
    } cases[] = {
        {48, 48, 3, 121, 33, 33},          {112, 109, 7, 225, 105, 105},
        {176, 176, 11, 64, 88, 88},        {256, 64, 16, 12, 96, 32},
        {256, 64, 8, 15, 56, 16},          {63, 241, 16, 16, 32, 128},
        {16, 512, 16, 16, 16, 256},        {480, 640, 16, 256, 224, 288},
        {480, 640, 16, 64, 112, 144},      {480, 640, 16, 128, 144, 192},
        {480, 640, 16, 576, 336, 432},     {480, 640, 16, 784, 384, 512},
        {480, 640, 16, 1024, 432, 576},    {640, 480, 16, 256, 288, 224},
        {1080, 1920, 16, 256, 192, 336},   {1080, 1920, 16, 576, 288, 512},
        {1080, 1920, 16, 1024, 384, 672},  {224, 224, 16, 256, 256, 256},
        {20000, 20000, 16, 256, 256, 256}, {224, 224, 16, 1024, 512, 512},
        {224, 1024, 16, 256, 112, 512},    {224, 1024, 16, 1024, 240, 1088},
        {100, 1000, 16, 256, 80, 800},     {333, 500, 16, 256, 208, 304},
        {427, 640, 16, 256, 208, 304},     {1, 1, 16, 256, 112, 112},
        {1, 1, 16, 64, 112, 112},          {1, 1000, 16, 256, 16, 4096},
        {512, 1024, 16, 128, 128, 256},    {1000, 2853, 16, 1024, 304, 848},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int height, width;

        naflex_target(cases[i].height, cases[i].width, cases[i].patch, cases[i].budget, &height,
                      &width);
        if (height != cases[i].want_height || width != cases[i].want_width)
            fail_msg("%dx%d, %d patches of %d: %dx%d", cases[i].height, cases[i].width,
                     cases[i].budget, cases[i].patch, height, width);
    }
}

/* SIGLIP 19 */
static void naflex_sizes_are_whole_patches_within_the_budget(void **state)
{
    static const int budgets[] = {64, 128, 256, 576, 784, 1024};
    uint32_t seed = 1;

    (void)state;
    for (int i = 0; i < 1000000; i++) {
        int h, w, out_h, out_w, turned_h, turned_w, budget = budgets[i % 6];

        seed = seed * 1664525u + 1013904223u;
        h = 1 + (int)(seed >> 21);
        seed = seed * 1664525u + 1013904223u;
        w = 1 + (int)(seed >> 21);
        naflex_target(h, w, 16, budget, &out_h, &out_w);
        assert_true(out_h % 16 == 0 && out_w % 16 == 0 && out_h >= 16 && out_w >= 16);
        assert_true((out_h / 16) * (out_w / 16) <= budget);
        if (i % 8 != 0)
            continue;
        naflex_target(w, h, 16, budget, &turned_h, &turned_w);
        assert_true(turned_h == out_w && turned_w == out_h);
    }
}

static void naflex_views_keep_their_shape(void **state)
{
    const struct preprocess pre = {.size = 256,
                                   .mode = PREPROCESS_NAFLEX,
                                   .filter = RESAMPLE_BILINEAR,
                                   .patch = 16,
                                   .max_patches = 256};
    uint8_t pixels[3 * 30 * 40];
    const struct image image = image_of(40, 30, 3, pixels);
    struct image out;
    struct arena arena;
    struct error err = {0};

    (void)state;
    memset(pixels, 77, sizeof pixels);
    arena_init(&arena, ARENA_BYTES);
    assert_ok(preprocess_pixels(&pre, &image, &arena, &out, &err));
    assert_int_equal(out.height, 224);
    assert_int_equal(out.width, 288);
    assert_true(preprocess_fits(&pre, out.width, out.height));
    assert_true(preprocess_fits(&pre, 256, 256));
    assert_false(preprocess_fits(&pre, 272, 256));
    assert_false(preprocess_fits(&pre, 250, 256));
    assert_false(preprocess_fits(&openai, 224, 225));
    assert_true(preprocess_fits(&openai, 224, 224));
    arena_release(&arena);
}

/* Two pixels or more are left for one of the result, cut or not; none where they are picked. */
static void images_are_reduced_to_two_pixels_for_one_at_least(void **state)
{
    static const struct {
        struct preprocess pre;
        int width, height, want;
    } cases[] = {
        {{.size = 224, .mode = PREPROCESS_SHORTEST, .filter = RESAMPLE_BICUBIC}, 2400, 1792, 4},
        {{.size = 224, .mode = PREPROCESS_SHORTEST, .filter = RESAMPLE_BICUBIC}, 2400, 1791, 2},
        {{.size = 224, .mode = PREPROCESS_SHORTEST, .filter = RESAMPLE_BICUBIC}, 895, 4000, 1},
        {{.size = 224, .mode = PREPROCESS_SQUASH, .filter = RESAMPLE_BICUBIC}, 896, 4000, 2},
        {{.size = 224, .mode = PREPROCESS_SQUASH, .tensorflow = true}, 4000, 4000, 1},
        {{.size = 224, .mode = PREPROCESS_SQUASH, .filter = RESAMPLE_NEAREST}, 4000, 4000, 1},
        {{.size = 512, .mode = PREPROCESS_LONGEST, .filter = RESAMPLE_BICUBIC}, 4096, 1000, 4},
        {{.size = 0, .mode = PREPROCESS_LONGEST, .filter = RESAMPLE_BICUBIC}, 4096, 1000, 1},
        {{.size = 256,
          .mode = PREPROCESS_NAFLEX,
          .filter = RESAMPLE_BILINEAR,
          .patch = 16,
          .max_patches = 256},
         4096,
         1024,
         4},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int got = preprocess_reduction(&cases[i].pre, cases[i].width, cases[i].height);

        if (got != cases[i].want)
            fail_msg("case %zu: %d", i, got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(naflex_sizes_are_the_published_ones),
        cmocka_unit_test(naflex_sizes_are_whole_patches_within_the_budget),
        cmocka_unit_test(naflex_views_keep_their_shape),
        cmocka_unit_test(images_of_all_aspects_give_the_published_bytes),
        cmocka_unit_test(margins_are_halved_by_the_rule_of_each_library),
        cmocka_unit_test(normalised_values_equal_the_published_ones_bit_for_bit),
        cmocka_unit_test(tensor_is_planar_and_every_step_is_rounded),
        cmocka_unit_test(squash_keeps_both_ends_and_shortest_cuts_them),
        cmocka_unit_test(longest_pads_the_other_side),
        cmocka_unit_test(images_are_reduced_to_two_pixels_for_one_at_least),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
