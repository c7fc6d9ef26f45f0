#include "reinforce/base/philox.h"
#include "reinforce/image/augment.h"
#include "reinforce/image/augment_ops.h"
#include "reinforce/image/preprocess.h"
#include "tests/support/image_patterns.h"

#include <math.h>
#include <stdio.h>

enum { ARENA_BYTES = 64 << 20 };

static const char *const op_names[AUGMENT_OP_COUNT] = {
    "Identity", "ShearX",   "ShearY",    "TranslateX", "TranslateY", "Rotate",       "Brightness",
    "Color",    "Contrast", "Sharpness", "Posterize",  "Solarize",   "AutoContrast", "Equalize",
};

/* DR 13 */
static void pattern_image_has_the_published_hash(void **state)
{
    static const uint8_t at_17_5[] = {184, 22, 140}, at_319_239[] = {220, 174, 56};
    struct arena arena;
    struct image image;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    pattern_g(320, 240, &arena, &image);
    assert_digest_begins("G(320,240)", image.pixels, image_bytes(&image),
                         "bb85d7750eacab7116e1098edfaab0d4536fd17d1d0765eb8af7a2af3dd597fb");
    assert_memory_equal(image.pixels + (5 * 320 + 17) * 3, at_17_5, 3);
    assert_memory_equal(image.pixels + (239 * 320 + 319) * 3, at_319_239, 3);
    pattern_g(224, 224, &arena, &image);
    assert_digest_begins("G(224,224)", image.pixels, image_bytes(&image),
                         "c52f43085bde40ad3dbfda607a055962f1b785e2760c2ca003e1d114facdb52e");
    arena_release(&arena);
}

/* DR 14 */
static void every_operator_gives_the_published_bytes(void **state)
{
    static const struct {
        enum augment_op op;
        double magnitude;
        bool dim; /* on floor(G/3)+40 */
        const char *digest;
    } cases[] = {
        {AUGMENT_IDENTITY, 0.0, false, "c52f43085bde40ad3dbfda607a055962"},
        {AUGMENT_SHEAR_X, 0.09000000357627869, false, "f94a12bf531918d4634abb3933c5b662"},
        {AUGMENT_SHEAR_X, -0.09000000357627869, false, "df3f1c79aa615c84a470050201f090db"},
        {AUGMENT_SHEAR_Y, 0.09000000357627869, false, "fa81b69d2a82a71f56a44c25f2a69693"},
        {AUGMENT_SHEAR_Y, -0.09000000357627869, false, "ae3c4ef05f3d47369739337fbc72eb67"},
        {AUGMENT_TRANSLATE_X, 30.45317268371582, false, "782b9ff21262e5e8f82e1d2a53629b35"},
        {AUGMENT_TRANSLATE_X, -30.45317268371582, false, "4c2a801712ed7334fbeabc96e2b6752f"},
        {AUGMENT_TRANSLATE_Y, 30.45317268371582, false, "01dadea64a1b2c263688e17540a37952"},
        {AUGMENT_TRANSLATE_Y, -30.45317268371582, false, "9bec5ce4aa631eedb1bb59ae82344046"},
        {AUGMENT_ROTATE, 9.0, false, "457ff1702b2720f209a4b7c828baf161"},
        {AUGMENT_ROTATE, -9.0, false, "6cb9fe14c4c5ab954652102921795dcb"},
        {AUGMENT_BRIGHTNESS, 0.26999998092651367, false, "da2fc44caaaa5133dcbe44f6964478e3"},
        {AUGMENT_BRIGHTNESS, -0.26999998092651367, false, "3f3458219384821d533ba5b0f6d4e230"},
        {AUGMENT_COLOR, 0.26999998092651367, false, "84e37049a592cdf1a353a8353a889c66"},
        {AUGMENT_COLOR, -0.26999998092651367, false, "1233e9eb73e89b846723586861550770"},
        {AUGMENT_CONTRAST, 0.26999998092651367, false, "bc41d69b09af190bf38d7a0922886c3e"},
        {AUGMENT_CONTRAST, -0.26999998092651367, false, "e694c0cb6cad6034170cfd8f876c11d1"},
        {AUGMENT_SHARPNESS, 0.26999998092651367, false, "fa10cab1bab0638c304b54e1be2261f4"},
        {AUGMENT_SHARPNESS, -0.26999998092651367, false, "1dc24f05d12159e1d69182ec00f9fb65"},
        {AUGMENT_POSTERIZE, 7.0, false, "1ae6e91148761da16528ec24f323a30a"},
        {AUGMENT_SOLARIZE, 178.5, false, "7442c00b63839d7461ef04cf29400807"},
        {AUGMENT_AUTO_CONTRAST, 0.0, false, "c52f43085bde40ad3dbfda607a055962"},
        {AUGMENT_EQUALIZE, 0.0, false, "db14f23fceba19456f9b7cde00fae841"},
        {AUGMENT_AUTO_CONTRAST, 0.0, true, "ba92ec57afa3a4a438a186393b7e6679"},
        {AUGMENT_EQUALIZE, 0.0, true, "6c3b9c942784073091ca051efe5dd3bf"},
    };
    struct arena arena;
    struct error err = {0};
    struct image bright, dim, out;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    pattern_g(224, 224, &arena, &bright);
    pattern_g(224, 224, &arena, &dim);
    for (size_t i = 0; i < image_bytes(&dim); i++)
        dim.pixels[i] = (uint8_t)(dim.pixels[i] / 3 + 40);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_ok(augment_apply_op(cases[i].op, cases[i].magnitude, cases[i].dim ? &dim : &bright,
                                   &arena, &out, &err));
        assert_digest_begins(op_names[cases[i].op], out.pixels, image_bytes(&out), cases[i].digest);
    }
    arena_release(&arena);
}

/* DR 15 */
static void crops_give_the_published_bytes(void **state)
{
    static const struct {
        int box[4], size;
        const char *digest;
    } cases[] = {
        {{0, 0, 240, 320}, 224, "5fa0d6e21a140f919cf94db1fca85268"},
        {{13, 27, 180, 200}, 224, "0a9183abfd62d3f3c6907ee151bbfb6d"},
        {{10, 300, 100, 20}, 224, "4bee8d0bfa7b95cb04d7abf90c086ee1"},
        {{0, 0, 224, 224}, 224, "c52f43085bde40ad3dbfda607a055962"}, /* a pure copy */
        {{200, 5, 30, 310}, 224, "4499544a7b18b5e52a7678d2ee02603b"},
        {{13, 27, 180, 200}, 256, "04f1c7a26f3599234830a73d1182a7f4"},
    };
    struct arena arena;
    struct error err = {0};
    struct image image, out;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    pattern_g(320, 240, &arena, &image);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const int *box = cases[i].box;

        assert_ok(image_resize(&image, box[0], box[1], box[2], box[3], cases[i].size, cases[i].size,
                               RESAMPLE_BICUBIC, &arena, &out, &err));
        assert_digest_begins("crop", out.pixels, image_bytes(&out), cases[i].digest);
    }
    arena_release(&arena);
}

static void assert_params_print_as(const struct augment_params *params, const char *want)
{
    struct byte_buf buf;
    struct error err = {0};
    json_t *value = augment_params_to_json(params);
    const char *text;

    byte_buf_init(&buf, 4096);
    assert_non_null(value);
    assert_ok(json_write(value, &buf, &err));
    assert_ok(byte_buf_c_str(&buf, &text, &err));
    assert_string_equal(text, want);
    json_decref(value);
    byte_buf_release(&buf);
}

/* DR 16, DR 17 */
static void seeded_torch_chains_are_reproduced(void **state)
{
    static const struct {
        uint64_t seed;
        const char *params[3], *digests[3];
    } cases[] = {
        {0,
         {"[[28, 84, 188, 219], [[9, -0.26999998092651367], [3, -30.45317268371582]]]",
          "[[2, 36, 235, 216], [[2, 0.09000000357627869], [4, 30.45317268371582]]]",
          "[[26, 95, 141, 124], [[2, 0.09000000357627869], [11, 178.5]]]"},
         {"c6811c4c3732f718955850d9aaf06bb9", "4c604ca1e1d7bddee6a79a97ce481d4b",
          "7b65c76ff10801ed6aaf754fc8067cec"}},
        {1,
         {"[[19, 41, 174, 199], [[5, -9.0], [10, 7.0]]]",
          "[[12, 5, 225, 228], [[12, 0.0], [6, -0.26999998092651367]]]",
          "[[17, 30, 184, 154], [[12, 0.0], [12, 0.0]]]"},
         {"c38243b0da8b8a349dee36d95e392daf", "c686514786f55e052340f011b93ae339",
          "221ffb20242a3c33c5193e585bef7f18"}},
        {42,
         {"[[7, 4, 232, 295], [[3, 30.45317268371582], [12, 0.0]]]",
          "[[86, 22, 152, 164], [[3, -30.45317268371582], [5, -9.0]]]",
          "[[90, 174, 140, 144], [[7, -0.26999998092651367], [5, 9.0]]]"},
         {"e17cf6b89fef61f3e9a766b4973298aa", "23ca02c06cb5f6fd034537be60ffcc9f",
          "547f1c0137bee7d93dd9d6a7457cedec"}},
    };
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
    static const float std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    struct augment_config config;
    struct arena arena;
    struct error err = {0};
    struct image image, out;
    float *tensor;

    (void)state;
    augment_config_default(&config);
    arena_init(&arena, ARENA_BYTES);
    pattern_g(320, 240, &arena, &image);
    assert_ok(arena_calloc(&arena, 3 * 224 * 224, sizeof *tensor, &tensor, &err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct torch_rng rng;

        torch_rng_init(&rng, cases[i].seed);
        for (size_t a = 0; a < 3; a++) {
            struct augment_params params;

            augment_sample_torch(&config, &rng, 320, 240, &params);
            assert_params_print_as(&params, cases[i].params[a]);
            assert_ok(augment_apply(&config, &params, &image, &arena, &out, &err));
            preprocess_tensor(&out, mean, std, tensor);
            assert_digest_begins("tensor", tensor, (size_t)3 * 224 * 224 * sizeof *tensor,
                                 cases[i].digests[a]);
        }
    }
    arena_release(&arena);
}

/* DR 16 */
static void ten_missed_crops_fall_back_to_the_centre(void **state)
{
    static const char *const want[] = {
        "[[0, 460, 60, 80], [[10, 7.0], [3, -30.45317268371582]]]",
        "[[0, 460, 60, 80], [[5, 9.0], [12, 0.0]]]",
        "[[0, 460, 60, 80], [[13, 0.0], [3, 30.45317268371582]]]",
    };
    struct augment_config config;
    struct augment_params params;
    struct torch_rng rng;

    (void)state;
    augment_config_default(&config);
    torch_rng_init(&rng, 7);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        augment_sample_torch(&config, &rng, 1000, 60, &params);
        assert_params_print_as(&params, want[i]);
    }
}

static void torch_generator_gives_the_published_numbers(void **state)
{
    static const uint32_t below_14[] = {4, 3, 7, 2, 1, 9, 13, 3};
    struct torch_rng rng;

    (void)state;
    torch_rng_init(&rng, 0);
    assert_true(torch_rng_uniform(&rng, 0.0f, 1.0f) == 0.49625658988952637f);
    assert_true(torch_rng_uniform(&rng, 0.0f, 1.0f) == 0.7682217955589294f);
    assert_true(torch_rng_uniform(&rng, 0.0f, 1.0f) == 0.08847743272781372f);
    torch_rng_init(&rng, 0);
    for (size_t i = 0; i < ARRAY_LEN(below_14); i++)
        assert_int_equal(torch_rng_below(&rng, 14), below_14[i]);
}

/* DR 18: table 3.5, and the translations of other crop sizes. */
static void magnitudes_print_with_the_published_digits(void **state)
{
    static const struct {
        enum augment_op op;
        int size;
        bool is_signed;
        double magnitude;
    } cases[] = {
        {AUGMENT_IDENTITY, 224, false, 0.0},
        {AUGMENT_SHEAR_X, 224, true, 0.09000000357627869},
        {AUGMENT_SHEAR_Y, 224, true, 0.09000000357627869},
        {AUGMENT_TRANSLATE_X, 224, true, 30.45317268371582},
        {AUGMENT_TRANSLATE_Y, 224, true, 30.45317268371582},
        {AUGMENT_ROTATE, 224, true, 9.0},
        {AUGMENT_BRIGHTNESS, 224, true, 0.26999998092651367},
        {AUGMENT_COLOR, 224, true, 0.26999998092651367},
        {AUGMENT_CONTRAST, 224, true, 0.26999998092651367},
        {AUGMENT_SHARPNESS, 224, true, 0.26999998092651367},
        {AUGMENT_POSTERIZE, 224, false, 7.0},
        {AUGMENT_SOLARIZE, 224, false, 178.5},
        {AUGMENT_AUTO_CONTRAST, 224, false, 0.0},
        {AUGMENT_EQUALIZE, 224, false, 0.0},
        {AUGMENT_TRANSLATE_X, 256, true, 34.803627014160156},
        {AUGMENT_TRANSLATE_Y, 336, true, 45.67975616455078},
        {AUGMENT_TRANSLATE_X, 378, true, 51.38972473144531},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct augment_config config;
        bool is_signed;

        augment_config_default(&config);
        config.size = cases[i].size;
        assert_true(augment_magnitude(&config, cases[i].op, &is_signed) == cases[i].magnitude);
        assert_int_equal(is_signed, cases[i].is_signed);
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Largest distance between the empirical distribution of `sorted` and the uniform one on [0, 1]. */
static double kolmogorov_smirnov(const double *sorted, size_t n)
{
    double worst = 0.0;

    for (size_t i = 0; i < n; i++)
        worst = MAX(worst, MAX(fabs(sorted[i] - (double)i / (double)n),
                               fabs((double)(i + 1) / (double)n - sorted[i])));
    return worst;
}

/* DR 19. The image is large and the scale small enough that no crop is rejected. */
static void draws_follow_their_distributions(void **state)
{
    enum { VIEWS = 500000, SIDE = 100000 };
    struct augment_config config;
    size_t op_count[AUGMENT_OP_COUNT] = {0}, negative = 0, with_sign = 0;
    double *scale = calloc(VIEWS, sizeof *scale), *aspect = calloc(VIEWS, sizeof *aspect);
    double n = 2.0 * VIEWS, p = 1.0 / AUGMENT_OP_COUNT, critical;

    (void)state;
    assert_non_null(scale);
    assert_non_null(aspect);
    augment_config_default(&config);
    config.scale_max = 0.5;
    for (uint32_t i = 0; i < VIEWS; i++) {
        struct augment_params params;

        augment_sample(&config, 3, bytes_of_string("uid"), i, SIDE, SIDE, &params);
        assert_int_equal(params.n_ops, 2);
        for (int j = 0; j < 2; j++) {
            bool is_signed;
            double magnitude = augment_magnitude(&config, params.ops[j].op, &is_signed);

            op_count[params.ops[j].op]++;
            assert_true(fabs(params.ops[j].magnitude) == magnitude);
            with_sign += is_signed;
            negative += is_signed && params.ops[j].magnitude < 0;
            assert_true(is_signed || params.ops[j].magnitude >= 0);
        }
        scale[i] = ((double)params.width * params.height / SIDE / SIDE - config.scale_min) /
                   (config.scale_max - config.scale_min);
        aspect[i] = (log((double)params.width / params.height) - log(config.ratio_min)) /
                    (log(config.ratio_max) - log(config.ratio_min));
    }
    for (int op = 0; op < AUGMENT_OP_COUNT; op++)
        if (fabs((double)op_count[op] - n * p) > 4.0 * sqrt(n * p * (1.0 - p)))
            fail_msg("%s was drawn %zu times of %g", op_names[op], op_count[op], n);
    if (fabs((double)negative - (double)with_sign / 2.0) > 4.0 * sqrt((double)with_sign) / 2.0)
        fail_msg("%zu of %zu signs are negative", negative, with_sign);
    qsort(scale, VIEWS, sizeof *scale, compare_doubles);
    qsort(aspect, VIEWS, sizeof *aspect, compare_doubles);
    critical = 1.63 / sqrt(VIEWS) + 2.0 / SIDE; /* 1 %, and the rounding to whole pixels */
    assert_true(kolmogorov_smirnov(scale, VIEWS) < critical);
    assert_true(kolmogorov_smirnov(aspect, VIEWS) < critical);
    free(scale);
    free(aspect);
}

/* DR 23 */
static void project_mode_depends_on_seed_uid_and_view_only(void **state)
{
    static const char *const uids[] = {"a", "b", "a longer uid"};
    struct augment_config config;
    struct augment_params forward[3][4], params;
    size_t n_equal = 0;

    (void)state;
    augment_config_default(&config);
    for (size_t u = 0; u < 3; u++)
        for (uint32_t view = 0; view < 4; view++)
            augment_sample(&config, 11, bytes_of_string(uids[u]), view, 500, 400,
                           &forward[u][view]);
    for (size_t u = 3; u-- > 0;) /* another order */
        for (uint32_t view = 4; view-- > 0;) {
            augment_sample(&config, 11, bytes_of_string(uids[u]), view, 500, 400, &params);
            assert_memory_equal(&params, &forward[u][view], sizeof params);
            augment_sample(&config, 12, bytes_of_string(uids[u]), view, 500, 400, &params);
            n_equal += memcmp(&params, &forward[u][view], sizeof params) == 0;
            augment_sample(&config, 11, bytes_of_string(uids[u]), view + 1, 500, 400, &params);
            n_equal += memcmp(&params, &forward[u][view], sizeof params) == 0;
            augment_sample(&config, 11, bytes_of_string(uids[(u + 1) % 3]), view, 500, 400,
                           &params);
            n_equal += memcmp(&params, &forward[u][view], sizeof params) == 0;
        }
    assert_int_equal(n_equal, 0);
    /* Stored datasets depend on these numbers. */
    assert_params_print_as(&forward[0][0],
                           "[[52, 114, 137, 149], [[11, 178.5], [4, 30.45317268371582]]]");
    assert_params_print_as(&forward[2][3],
                           "[[19, 28, 369, 464], [[9, -0.26999998092651367], [5, -9.0]]]");
}

static void crops_of_every_image_size_lie_inside(void **state)
{
    static const int sides[] = {1, 2, 3, 7, 60, 1000, 65535};
    struct augment_config config;

    (void)state;
    augment_config_default(&config);
    for (size_t w = 0; w < ARRAY_LEN(sides); w++)
        for (size_t h = 0; h < ARRAY_LEN(sides); h++)
            for (uint32_t view = 0; view < 50; view++) {
                struct augment_params p;

                augment_sample(&config, 5, bytes_of_string("x"), view, sides[w], sides[h], &p);
                assert_in_range(p.height, 1, sides[h]);
                assert_in_range(p.width, 1, sides[w]);
                assert_in_range(p.top, 0, sides[h] - p.height);
                assert_in_range(p.left, 0, sides[w] - p.width);
            }
}

/* DR 14: the kernels against their plain twins, on ragged and degenerate shapes. */
static void operators_agree_with_their_plain_twins(void **state)
{
    static const int sizes[][2] = {{1, 1},  {2, 1},   {1, 2},     {2, 2},    {3, 3},    {3, 1},
                                   {4, 2},  {5, 7},   {16, 16},   {17, 3},   {64, 1},   {65, 33},
                                   {2, 70}, {129, 5}, {224, 224}, {37, 100}, {333, 250}};
    static const double magnitudes[AUGMENT_OP_COUNT][8] = {
        [AUGMENT_SHEAR_X] = {0.09, -0.09, 0.3, -0.3, 0.0, 3.0, -50.0, 1e6},
        [AUGMENT_SHEAR_Y] = {0.09, -0.09, 0.3, -0.3, 0.0, 3.0, -50.0, 1e6},
        [AUGMENT_TRANSLATE_X] = {30.45, -30.45, 0.0, -0.9, 1.0, 400.0, -1e9, 1e38},
        [AUGMENT_TRANSLATE_Y] = {30.45, -30.45, 0.0, -0.9, 1.0, 400.0, -1e9, 1e38},
        [AUGMENT_ROTATE] = {9.0, -9.0, 30.0, -30.0, 0.0, 90.0, 180.0, 359.0},
        [AUGMENT_BRIGHTNESS] = {0.27, -0.27, 0.9, -0.9, 0.0, -1.0, -2.0, 1e30},
        [AUGMENT_COLOR] = {0.27, -0.27, 0.9, -0.9, 0.0, -1.0, -2.0, 1e30},
        [AUGMENT_CONTRAST] = {0.27, -0.27, 0.9, -0.9, 0.0, -1.0, -2.0, 1e30},
        [AUGMENT_SHARPNESS] = {0.27, -0.27, 0.9, -0.9, 0.0, -1.0, -2.0, 1e30},
        [AUGMENT_POSTERIZE] = {7.0, 8.0, 0.0, 4.0, 1.0, 2.5, 6.0, 3.0},
        [AUGMENT_SOLARIZE] = {178.5, 255.0, 256.0, 0.0, -1.0, 1e9, 127.0, 0.5},
    };
    struct arena arena;
    struct error err = {0};
    struct philox rng;

    (void)state;
    philox_init(&rng, 1, bytes_of_string("operators"), PHILOX_STAGE_AUGMENT, 0);
    arena_init(&arena, ARENA_BYTES);
    for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
        for (int op = 0; op < AUGMENT_OP_COUNT; op++)
            for (size_t m = 0; m < 8; m++) {
                struct image image, fast, plain;
                uint32_t span = m % 3 == 0 ? 256 : m % 3 == 1 ? 1 : 40;

                arena_reset(&arena);
                assert_ok(image_alloc(&image, sizes[s][0], sizes[s][1], 3, &arena, &err));
                plain = image;
                for (size_t i = 0; i < image_bytes(&image); i++)
                    image.pixels[i] = (uint8_t)(philox_below(&rng, span) + (m % 4) * 50);
                assert_ok(arena_alloc(&arena, image_bytes(&image), &plain.pixels, &err));
                augment_op_run_ref((enum augment_op)op, magnitudes[op][m], &image, plain.pixels);
                assert_ok(augment_apply_op((enum augment_op)op, magnitudes[op][m], &image, &arena,
                                           &fast, &err));
                if (memcmp(fast.pixels, plain.pixels, image_bytes(&image)) != 0)
                    fail_msg("%s %g differs on %d x %d", op_names[op], magnitudes[op][m],
                             image.width, image.height);
                if (augment_op_is_pointwise((enum augment_op)op)) {
                    augment_op_run((enum augment_op)op, magnitudes[op][m], &image, image.pixels);
                    assert_memory_equal(image.pixels, plain.pixels, image_bytes(&image));
                }
            }
    arena_release(&arena);
}

/* DR 20: what is stored is enough to make the view again. */
static void stored_parameters_replay_the_same_view(void **state)
{
    struct augment_config config;
    struct arena arena;
    struct error err = {0};
    struct image image, first, again;

    (void)state;
    augment_config_default(&config);
    arena_init(&arena, ARENA_BYTES);
    pattern_g(320, 240, &arena, &image);
    for (uint32_t view = 0; view < 30; view++) {
        struct augment_params params, read;
        struct byte_buf buf;
        json_t *value;

        augment_sample(&config, 9, bytes_of_string("replay"), view, 320, 240, &params);
        value = augment_params_to_json(&params);
        assert_non_null(value);
        byte_buf_init(&buf, 4096);
        assert_ok(json_write(value, &buf, &err));
        json_decref(value);
        assert_ok(json_parse(byte_buf_view(&buf), &value, &err));
        assert_ok(augment_params_from_json(value, &read, &err));
        assert_memory_equal(&read, &params, sizeof read);
        assert_ok(augment_apply(&config, &params, &image, &arena, &first, &err));
        assert_ok(augment_apply(&config, &read, &image, &arena, &again, &err));
        assert_memory_equal(first.pixels, again.pixels, image_bytes(&first));
        json_decref(value);
        byte_buf_release(&buf);
    }
    arena_release(&arena);
}

/* DR 22 */
static void box_outside_the_image_is_reported(void **state)
{
    static const int32_t boxes[][4] = {{0, 0, 241, 320},
                                       {0, 0, 240, 321},
                                       {1, 0, 240, 320},
                                       {0, 319, 1, 2},
                                       {-1, 0, 10, 10},
                                       {0, 0, 0, 10},
                                       {INT32_MAX, 0, INT32_MAX, 1}};
    struct augment_config config;
    struct arena arena;
    struct error err = {0};
    struct image image, out;

    (void)state;
    augment_config_default(&config);
    arena_init(&arena, ARENA_BYTES);
    pattern_g(320, 240, &arena, &image);
    for (size_t i = 0; i < ARRAY_LEN(boxes); i++) {
        struct augment_params params = {
            .top = boxes[i][0], .left = boxes[i][1], .height = boxes[i][2], .width = boxes[i][3]};

        assert_status(augment_apply(&config, &params, &image, &arena, &out, &err), ST_INVALID);
        assert_non_null(strstr(err.message, "is not inside the image of width 320, height 240"));
    }
    arena_release(&arena);
}

static void impossible_operators_are_refused(void **state)
{
    static const struct {
        int op;
        double magnitude;
        const char *reason;
    } cases[] = {
        {-1, 0.0, "operator -1 is unknown"},
        {14, 0.0, "operator 14 is unknown"},
        {AUGMENT_ROTATE, (double)INFINITY, "not a finite float32"},
        {AUGMENT_ROTATE, (double)NAN, "not a finite float32"},
        {AUGMENT_COLOR, 1e300, "1e+300, not a finite float32"}, /* found by fuzzing: 0 * inf */
        {AUGMENT_POSTERIZE, 9.0, "9 bits of 8"},
        {AUGMENT_POSTERIZE, -1.0, "-1 bits of 8"},
    };
    struct augment_config config;
    struct arena arena;
    struct error err = {0};
    struct image image, out;

    (void)state;
    augment_config_default(&config);
    arena_init(&arena, ARENA_BYTES);
    pattern_g(32, 24, &arena, &image);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct augment_params params = {.height = 24, .width = 32, .n_ops = 1};

        params.ops[0].op = (enum augment_op)cases[i].op;
        params.ops[0].magnitude = cases[i].magnitude;
        assert_status(augment_apply(&config, &params, &image, &arena, &out, &err), ST_INVALID);
        assert_non_null(strstr(err.message, cases[i].reason));
    }
    image.channels = 1;
    assert_status(augment_apply_op(AUGMENT_COLOR, 0.0, &image, &arena, &out, &err), ST_INVALID);
    arena_release(&arena);
}

static void param_aug_is_read_in_all_its_forms(void **state)
{
    static const struct {
        const char *text, *again; /* NULL: refused */
        const char *reason;
    } cases[] = {
        {"[[1,2,3,4],[[5,-9.0],[10,7]]]", "[[1, 2, 3, 4], [[5, -9.0], [10, 7.0]]]", NULL},
        {"[[1.0,2,3,4],[[5.0,9]]]", "[[1, 2, 3, 4], [[5, 9.0]]]", NULL},
        {"[[1,2,3,4],null]", "[[1, 2, 3, 4], null]", NULL},
        {"[[1,2,3,4],[]]", "[[1, 2, 3, 4], []]", NULL},
        {"[[1,2,3,4]]", "[[1, 2, 3, 4]]", NULL},
        {"[[1,2,3],null]", NULL, "the box is not"},
        {"[[1,2,3,4.5],null]", NULL, "width of the box is 4.5"},
        {"[[-1,2,3,4],null]", NULL, "top of the box is -1"},
        {"[[1,2,0,4],null]", NULL, "height of the box is 0"},
        {"[[1,2,3,1e300],null]", NULL, "width of the box is 1e+300"},
        {"[[1,2,3,\"4\"],null]", NULL, "width of the box is not a number"},
        {"[[1,2,3,4],[[14,0.0]]]", NULL, "operator index is 14"},
        {"[[1,2,3,4],[[0.5,0.0]]]", NULL, "operator index is 0.5"},
        {"[[1,2,3,4],[[0]]]", NULL, "operator 0 is not [index, magnitude]"},
        {"[[1,2,3,4],[[0,null]]]", NULL, "operator 0 is not [index, magnitude]"},
        {"[[1,2,3,4],[{}]]", NULL, "operator 0 is not [index, magnitude]"},
        {"[[1,2,3,4],7]", NULL, "neither null nor an array"},
        {"[[1,2,3,4],true,[5]]", NULL, "another length"},
        {"{}", NULL, "no array"},
        {"[]", NULL, "another length"},
    };
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct augment_params params;
        json_t *value;

        assert_ok(json_parse(bytes_of_string(cases[i].text), &value, &err));
        if (cases[i].again != NULL) {
            assert_ok(augment_params_from_json(value, &params, &err));
            assert_params_print_as(&params, cases[i].again);
        } else {
            assert_status(augment_params_from_json(value, &params, &err), ST_CORRUPT);
            if (strstr(err.message, cases[i].reason) == NULL)
                fail_msg("%s: %s", cases[i].text, err.message);
        }
        json_decref(value);
    }
}

static void rand_augment_is_skipped_or_absent_as_configured(void **state)
{
    struct augment_config config;
    struct augment_params params;
    size_t n_skipped = 0;

    (void)state;
    augment_config_default(&config);
    config.rand_augment_p = 0.25;
    for (uint32_t view = 0; view < 4000; view++) {
        augment_sample(&config, 1, bytes_of_string("x"), view, 100, 100, &params);
        n_skipped += params.n_ops == AUGMENT_OPS_SKIPPED;
    }
    assert_in_range(n_skipped, 2870, 3130); /* 3000 +- 4.7 sigma */
    config.rand_augment = false;
    augment_sample(&config, 1, bytes_of_string("x"), 0, 100, 100, &params);
    assert_int_equal(params.n_ops, AUGMENT_OPS_ABSENT);
}

/* As torchvision's RandAugment._augmentation_space() gives them; the last bit needs torch's fused
 * multiply-add. */
static void magnitudes_of_other_bins_are_torchs(void **state)
{
    static const struct {
        int n_bins, bin;
        enum augment_op op;
        double magnitude;
    } cases[] = {
        {30, 16, AUGMENT_ROTATE, 16.551725387573242},
        {30, 17, AUGMENT_BRIGHTNESS, 0.5275861620903015},
        {30, 9, AUGMENT_SOLARIZE, 175.86207580566406},
        {30, 14, AUGMENT_SOLARIZE, 131.8965606689453},
        {31, 30, AUGMENT_SHEAR_X, 0.30000001192092896},
        {31, 0, AUGMENT_SOLARIZE, 255.0},
        {31, 30, AUGMENT_SOLARIZE, 0.0},
        {31, 0, AUGMENT_POSTERIZE, 8.0},
        {31, 30, AUGMENT_POSTERIZE, 4.0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct augment_config config;

        augment_config_default(&config);
        config.n_bins = cases[i].n_bins;
        config.magnitude = cases[i].bin;
        assert_true(augment_magnitude(&config, cases[i].op, NULL) == cases[i].magnitude);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pattern_image_has_the_published_hash),
        cmocka_unit_test(every_operator_gives_the_published_bytes),
        cmocka_unit_test(crops_give_the_published_bytes),
        cmocka_unit_test(seeded_torch_chains_are_reproduced),
        cmocka_unit_test(ten_missed_crops_fall_back_to_the_centre),
        cmocka_unit_test(torch_generator_gives_the_published_numbers),
        cmocka_unit_test(magnitudes_print_with_the_published_digits),
        cmocka_unit_test(magnitudes_of_other_bins_are_torchs),
        cmocka_unit_test(draws_follow_their_distributions),
        cmocka_unit_test(project_mode_depends_on_seed_uid_and_view_only),
        cmocka_unit_test(crops_of_every_image_size_lie_inside),
        cmocka_unit_test(operators_agree_with_their_plain_twins),
        cmocka_unit_test(stored_parameters_replay_the_same_view),
        cmocka_unit_test(box_outside_the_image_is_reported),
        cmocka_unit_test(impossible_operators_are_refused),
        cmocka_unit_test(param_aug_is_read_in_all_its_forms),
        cmocka_unit_test(rand_augment_is_skipped_or_absent_as_configured),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
