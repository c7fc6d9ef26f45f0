/* Scores, gains and what must not change a selection. Numbers are those of the specification's
 * checklist; the sampling laws are in test_selection_laws.c, what is done with odd examples in
 * test_selection_examples.c, a whole independent implementation in test_selection_golden.c. */
#include "reinforce/curate/joint.h"
#include "tests/support/selections.h"

#include <string.h>

/* Section 4.6 of the specification. */
struct micro {
    struct super_batch batch;
    float rows[2][PAIR_SIDES][6][2];
    struct example_id ids[6];
};

static void make_micro(struct micro *micro)
{
    *micro = (struct micro){.batch = {.B = 6, .ids = micro->ids}};
    for (int i = 0; i < 6; i++) {
        const double angles[2][PAIR_SIDES] = {{0.3 * i, 0.3 * i + 0.10 * (i % 3)},
                                              {0.5 * i, 0.5 * i + 0.02 * (i % 2)}};

        micro->ids[i].low = (uint64_t)i;
        for (int m = 0; m < 2; m++)
            for (int s = 0; s < PAIR_SIDES; s++) {
                micro->rows[m][s][i][0] = (float)cos(angles[m][s]);
                micro->rows[m][s][i][1] = (float)sin(angles[m][s]);
            }
    }
    for (int m = 0; m < 2; m++) {
        struct pair_model *model = m == 0 ? &micro->batch.learner : &micro->batch.reference;

        *model = (struct pair_model){
            .dtype = TENSOR_F32, .D = 2, .scale = m == 0 ? 10 : 20, .bias = m == 0 ? -8 : -16};
        for (int s = 0; s < PAIR_SIDES; s++)
            model->rows[s] = bytes_view_of(micro->rows[m][s], sizeof micro->rows[m][s]);
    }
}

static void start(struct joint *joint, const struct super_batch *batch,
                  const struct selection_options *options)
{
    const struct pair_model models[] = {batch->learner, batch->reference};
    struct error err = {0};
    bool *usable;

    assert_ok(arena_alloc(&arena, batch->B * sizeof *usable, &usable, &err));
    memset(usable, true, batch->B * sizeof *usable);
    assert_ok(joint_init(joint, options, models, batch->ids, batch->strata, 0, batch->B, usable,
                         &arena, &err));
}

/* Adds examples to the chosen ones, in either precision. */
static void take(struct joint *joint, const uint32_t *index, size_t n)
{
    struct chosen_rows chosen;
    struct pick *picks;
    struct error err = {0};

    assert_ok(arena_calloc(&arena, n, sizeof *picks, &picks, &err));
    for (size_t p = 0; p < n; p++)
        picks[p].index = index[p];
    joint_remove(joint, picks, n);
    if (joint->options->exact) {
        assert_ok(joint_take_exact(joint, picks, n, &arena, &err));
    } else {
        assert_ok(chosen_rows_init(&chosen, joint, n, &arena, &err));
        assert_ok(chosen_rows_pack(&chosen, joint, picks, n, &arena, &err));
        assert_ok(joint_take(joint, &chosen, &arena, &err));
    }
    joint->n_chosen += n;
}

/* CURATE 1 */
static void the_worked_example_comes_out(void **state)
{
    static const double own[] = {0.108778, 0.114794, 0.134733, 0.108706, 0.114866, 0.134661};
    static const double gains[] = {1.230820, -0.389980, 0, 1.728263, 1.886586, 0};
    struct micro micro;

    (void)state;
    make_micro(&micro);
    assert_true(fabs(pairs_score(&micro.batch, 0, 1) - -0.114135) < 1e-5);
    assert_true(fabs(pairs_score(&micro.batch, 1, 0) - 0.001414) < 1e-5);
    assert_true(fabs(pairs_score(&micro.batch, 0, 2) - 0.298976) < 1e-5);
    assert_true(fabs(pairs_score(&micro.batch, 2, 0) - 0.822293) < 1e-5);
    for (int exact = 0; exact < 2; exact++) {
        double tolerance = exact ? 1e-6 : 1e-5, score = 0;
        struct selection_options options = options_of(3, 2);
        struct selection selection;
        struct joint joint;

        options.exact = exact != 0;
        options.top_k = true;
        start(&joint, &micro.batch, &options);
        for (size_t i = 0; i < 6; i++)
            assert_true(fabs(joint.marginal[i] - own[i]) < tolerance);
        take(&joint, (const uint32_t[]){2, 5}, 2);
        for (size_t i = 0; i < 6; i++)
            if (gains[i] != 0 && !(fabs(joint_gain(&joint, i) - gains[i]) < tolerance))
                fail_msg("%zu gains %.7f, want %.7f", i, joint_gain(&joint, i), gains[i]);
        /* F({2, 5}), and with the best of the rest */
        options.batch_scores = true;
        options.n_selected = 2;
        options.n_chunks = 1;
        selection = run(&micro.batch, &options);
        score = selection.stats.batch_score * 2;
        assert_true(selection.index[0] == 2 && selection.index[1] == 5);
        assert_true(fabs(score - 0.832947) < 1e-5);
        options.n_selected = 3;
        options.n_chunks = 2; /* one, then two */
        selection = run(&micro.batch, &options);
        assert_int_equal(selection.index[0], 2);
    }
}

/* CURATE 2 */
static void a_gain_is_the_difference_of_two_batch_scores(void **state)
{
    enum { B = 40, ROUNDS = 1000 };
    struct pairs pairs;
    struct philox rng;

    (void)state;
    pairs_draw(&pairs, B, 8, 5, 1);
    philox_init(&rng, 1, bytes_of_string("subsets"), PHILOX_STAGE_SELECT, 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct selection_options options = options_of(B, 2);
        uint32_t set[B], k;
        double before = 0, after = 0;
        struct joint joint;
        size_t n = 0;

        arena_reset(&arena);
        options.exact = round % 2 == 0;
        k = philox_below(&rng, B);
        for (uint32_t i = 0; i < B; i++)
            if (i != k && philox_below(&rng, 3) == 0)
                set[n++] = i;
        for (size_t a = 0; a < n; a++)
            for (size_t b = 0; b < n; b++)
                before += pairs_score(&pairs.batch, set[a], set[b]);
        set[n] = k;
        for (size_t a = 0; a <= n; a++)
            for (size_t b = 0; b <= n; b++)
                after += pairs_score(&pairs.batch, set[a], set[b]);
        start(&joint, &pairs.batch, &options);
        take(&joint, set, n);
        if (!(fabs(joint_gain(&joint, k) - (after - before)) <=
              (options.exact ? 1e-6 : 1e-5) * (1 + fabs(after - before))))
            fail_msg("round %d: %.9g, want %.9g", round, joint_gain(&joint, k), after - before);
    }
    pairs_release(&pairs);
}

/* The sampler with a full matrix, as the specification writes it. */
static void naive(const struct super_batch *batch, const struct selection_options *options,
                  uint32_t *out)
{
    size_t B = batch->B, m = options->n_selected / options->n_chunks, n = 0;
    double *s = calloc(B * B, sizeof *s), *key = calloc(B, sizeof *key);
    bool *taken = calloc(B, sizeof *taken);

    assert_true(s != NULL && key != NULL && taken != NULL);
    for (size_t i = 0; i < B; i++)
        for (size_t j = 0; j < B; j++)
            s[i * B + j] = pairs_score(batch, i, j);
    for (uint32_t k = 0; k < options->n_chunks; k++) {
        size_t before = n;

        for (size_t i = 0; i < B; i++) {
            double gain = s[i * B + i];

            for (size_t p = 0; p < before; p++)
                gain += s[i * B + out[p]] + s[out[p] * B + i];
            key[i] =
                options->gain * gain + joint_noise(options->seed, options->step, k, batch->ids[i]);
        }
        for (; n < before + m; n++) {
            size_t best = B;

            for (size_t i = 0; i < B; i++)
                if (!taken[i] && (best == B || key[i] > key[best]))
                    best = i;
            taken[best] = true;
            out[n] = (uint32_t)best;
        }
    }
    free(s);
    free(key);
    free(taken);
}

/* CURATE 3, 7 */
static void blocks_give_what_a_full_matrix_gives(void **state)
{
    struct selection_options options = options_of(128, 8);
    uint32_t want[128];
    bool seen[512] = {false};
    struct selection selection;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 512, 24, 24, 1);
    naive(&pairs.batch, &options, want);
    selection = run(&pairs.batch, &options);
    for (size_t i = 0; i < 128; i++) {
        assert_int_equal(selection.index[i], want[i]);
        assert_int_equal(selection.chunk[i], i / 16);
        assert_true(!seen[want[i]]);
        seen[want[i]] = true;
    }
    options.n_selected = 131; /* the last chunk takes what is left */
    selection = run(&pairs.batch, &options);
    assert_int_equal(selection.chunk[111], 6);
    assert_int_equal(selection.chunk[112], 7);
    assert_int_equal(selection.chunk[130], 7);
    pairs_release(&pairs);
}

/* CURATE 4 */
static void tiles_and_threads_change_nothing(void **state)
{
    static const size_t tiles[] = {64, 256, 1024, 1, 97}, threads[] = {1, 2, 8};
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 700, 33, 20, 1);
    for (int loss = PAIR_SIGMOID; loss <= PAIR_SOFTMAX; loss++) {
        struct selection_options options = options_of(300, 4);
        struct selection first, other;

        options.loss = (enum pair_loss)loss;
        options.batch_scores = true;
        first = run(&pairs.batch, &options);
        for (size_t t = 0; t < ARRAY_LEN(tiles); t++)
            for (size_t n = 0; n < ARRAY_LEN(threads); n++) {
                options.tile_rows = tiles[t];
                options.n_threads = threads[n];
                other = run(&pairs.batch, &options);
                assert_same(&first, &other);
                if (loss == PAIR_SIGMOID)
                    assert_true(first.stats.batch_score == other.stats.batch_score);
            }
    }
    pairs_release(&pairs);
}

static struct pair_model part_of(const struct pair_model *model, size_t first, size_t n)
{
    size_t row_bytes = model->D * sizeof(float);
    struct pair_model part = *model;

    for (int s = 0; s < PAIR_SIDES; s++)
        part.rows[s] = bytes_view_of(model->rows[s].data + first * row_bytes, n * row_bytes);
    return part;
}

/* CURATE 5: every place proposes its best, sees who was chosen, and updates its own. */
static void places_change_nothing(void **state)
{
    enum { B = 512, N = 4, M = 40, PLACES = 4 };
    struct selection_options options = options_of(N * M, N);
    struct selection whole;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, 16, 24, 1);
    whole = run(&pairs.batch, &options);
    for (size_t n_places = 1; n_places <= PLACES; n_places *= 2) {
        static struct pick picks[B];
        size_t share = B / n_places, at = 0;
        struct joint places[PLACES];
        struct error err = {0};

        for (size_t p = 0; p < n_places; p++) {
            const struct pair_model models[] = {part_of(&pairs.batch.learner, p * share, share),
                                                part_of(&pairs.batch.reference, p * share, share)};
            bool *usable;

            assert_ok(arena_alloc(&arena, share * sizeof *usable, &usable, &err));
            memset(usable, true, share * sizeof *usable);
            assert_ok(joint_init(&places[p], &options, models, pairs.ids + p * share, NULL,
                                 p * share, share, usable, &arena, &err));
        }
        for (uint32_t k = 0; k < N; k++) {
            struct chosen_rows chosen;
            size_t n = 0;

            for (size_t p = 0; p < n_places; p++) {
                static struct pick own[B];
                size_t n_own = joint_best(&places[p], k, M, NULL, own);

                memcpy(picks + n, own, n_own * sizeof *own);
                n += n_own;
            }
            assert_int_equal(picks_keep(picks, n, M, NULL, NULL), M);
            for (size_t i = 0; i < M; i++) {
                assert_int_equal(picks[i].index, whole.index[at]);
                assert_true((float)picks[i].gain == whole.conditional[at++]);
            }
            assert_ok(chosen_rows_init(&chosen, &places[0], M, &arena, &err));
            for (size_t p = 0; p < n_places; p++) {
                joint_remove(&places[p], picks, M);
                assert_ok(chosen_rows_pack(&chosen, &places[p], picks, M, &arena, &err));
            }
            for (size_t p = 0; p < n_places; p++)
                assert_ok(joint_take(&places[p], &chosen, &arena, &err));
        }
    }
    pairs_release(&pairs);
}

/* CURATE 6; and B = 65,536 is the same for other tiles and threads (in full: bench/bench_select) */
static void memory_does_not_grow_with_the_square(void **state)
{
    enum { B = LARGE_B, D = 8 };
    struct selection_options options = options_of(B / 32, 4);
    struct selection one, two;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, D, D, 1);
    one = run(&pairs.batch, &options);
    assert_true(arena.peak_bytes < 64 << 20);
    options.n_threads = 2;
    options.tile_rows = 512;
    two = run(&pairs.batch, &options);
    assert_same(&one, &two);
    pairs_release(&pairs);
}

/* CURATE 11 */
static void scores_of_ten_thousand_stay_in_order(void **state)
{
    static const float logits[] = {1e4f, -1e4f, 0, 9999, -9999, 50};
    static const uint32_t want[] = {1, 4, 2, 5, 3, 0}; /* hard: the lowest logits; 5 is e^-50 */
    struct selection_options options = options_of(6, 1);
    struct pairs pairs;
    struct selection selection;

    (void)state;
    pairs_draw(&pairs, 6, 4, 4, 1);
    options.criterion = SELECT_HARD_LEARNER;
    options.top_k = true;
    pairs.batch.learner = (struct pair_model){.logits = logits, .scale = 1};
    selection = run(&pairs.batch, &options);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(selection.index[i], want[i]);
    pairs_release(&pairs);
    pairs_draw(&pairs, 300, 16, 16, 1);
    pairs.batch.learner.scale = 1e4f;
    pairs.batch.reference.scale = -1e4f;
    for (int loss = PAIR_SIGMOID; loss <= PAIR_SOFTMAX; loss++) {
        options = options_of(200, 8);
        options.loss = (enum pair_loss)loss;
        selection = run(&pairs.batch, &options);
        for (size_t i = 0; i < 200; i++)
            assert_true(isfinite(selection.conditional[i]));
        for (size_t i = 1; i < 200; i++) /* noise is nothing beside such gains */
            if (selection.chunk[i] == selection.chunk[i - 1])
                assert_true(selection.conditional[i] <= selection.conditional[i - 1] + 40);
    }
    pairs_release(&pairs);
}

/* CURATE 13 */
static void the_same_model_twice_teaches_nothing(void **state)
{
    struct selection_options options = options_of(60, 4);
    struct selection selection, uniform;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 200, 16, 16, 1);
    pairs.batch.reference = pairs.batch.learner;
    for (int loss = PAIR_SIGMOID; loss <= PAIR_SOFTMAX; loss++) {
        options.loss = (enum pair_loss)loss;
        options.gain = 1;
        selection = run(&pairs.batch, &options);
        options.gain = 0;
        uniform = run(&pairs.batch, &options);
        assert_memory_equal(selection.index, uniform.index, 60 * sizeof *selection.index);
        for (size_t i = 0; i < 60; i++)
            assert_true(selection.marginal[i] == 0 && selection.conditional[i] == 0);
    }
    pairs_release(&pairs);
}

/* CURATE 14: under the softmax loss a hard learner's own score is its logit's negative. */
static void a_constant_in_all_scores_changes_no_independent_selection(void **state)
{
    enum { B = 300 };
    struct selection_options options = options_of(100, 1);
    struct selection first, shifted;
    struct pairs pairs;
    float logits[B];

    (void)state;
    pairs_draw(&pairs, B, 4, 4, 1);
    options.criterion = SELECT_HARD_LEARNER;
    options.loss = PAIR_SOFTMAX;
    pairs.batch.learner = (struct pair_model){.logits = logits, .scale = 1};
    for (size_t i = 0; i < B; i++)
        logits[i] = (float)(i * 37 % 101) / 8;
    first = run(&pairs.batch, &options);
    for (size_t i = 0; i < B; i++)
        logits[i] += 64;
    shifted = run(&pairs.batch, &options);
    assert_memory_equal(first.index, shifted.index, 100 * sizeof *first.index);
    pairs_release(&pairs);
}

/* CURATE 15 */
static void a_criterion_reads_only_the_models_it_names(void **state)
{
    static const struct pair_model none = {.scale = NAN};
    struct selection_options options = options_of(20, 4);
    struct selection selection, with_both;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 64, 16, 8, 1);
    for (int easy = 0; easy < 2; easy++) {
        struct super_batch batch = pairs.batch;

        options.criterion = easy ? SELECT_EASY_REFERENCE : SELECT_HARD_LEARNER;
        with_both = run(&batch, &options);
        if (easy)
            batch.learner = none;
        else
            batch.reference = none;
        selection = run(&batch, &options);
        assert_same(&with_both, &selection);
    }
    pairs_release(&pairs);
}

/* CURATE 16 */
static void models_may_differ_in_width_and_not_in_rows(void **state)
{
    struct selection_options options = options_of(20, 4);
    struct selection selection;
    struct error err = {0};
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 64, 768, 1152, 1);
    selection = run(&pairs.batch, &options);
    assert_int_equal(selection.n, 20);
    pairs.batch.learner.D = 1152;
    assert_status(selection_run(&pairs.batch, &options, &selection, &arena, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "learner's images have 196608 bytes, expected 64 rows of "
                                        "1152 F32 values: 294912 bytes"));
    pairs.batch.learner.D = 768;
    pairs.batch.reference.rows[PAIR_TEXT].len -= 4;
    assert_status(selection_run(&pairs.batch, &options, &selection, &arena, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "reference's texts"));
    pairs_release(&pairs);
}

/* CURATE 17 */
static void a_logarithmic_scale_is_noticed(void **state)
{
    struct selection_options options = options_of(20, 4);
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 64, 16, 16, 1);
    assert_false(run(&pairs.batch, &options).stats.scale_looks_logarithmic);
    pairs.batch.learner.scale = logf(20);
    assert_true(run(&pairs.batch, &options).stats.scale_looks_logarithmic);
    pairs_release(&pairs);
}

/* CURATE 18 */
static void a_higher_bias_helps_pairs_and_hurts_strangers(void **state)
{
    struct selection_options options = options_of(16, 2);
    double own[2] = {0}, added[2] = {0};
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 128, 16, 16, 1);
    for (int higher = 0; higher < 2; higher++) {
        const uint32_t chosen[] = {3, 14, 15, 92, 65};
        struct joint joint;

        start(&joint, &pairs.batch, &options);
        take(&joint, chosen, ARRAY_LEN(chosen));
        for (size_t i = 0; i < 128; i++) {
            own[higher] += joint.marginal[i];
            added[higher] += joint_gain(&joint, i) - joint.marginal[i];
        }
        pairs.batch.learner.bias += 1;
    }
    assert_true(own[1] < own[0]);
    assert_true(added[1] > added[0]);
    pairs_release(&pairs);
}

static double direct_log_sum(const struct pair_model *model, enum pair_side side, size_t i,
                             size_t n)
{
    double most = -INFINITY, sum = 0;

    for (int pass = 0; pass < 2; pass++)
        for (size_t j = 0; j < n; j++) {
            double x = side == PAIR_IMAGE ? pairs_logit(model, i, j) : pairs_logit(model, j, i);

            if (pass == 0)
                most = fmax(most, x);
            else
                sum += exp(x - most);
        }
    return most + log(sum);
}

/* CURATE 19 */
static void running_log_sums_equal_direct_ones(void **state)
{
    enum { B = 400, CHUNK = 90, CHUNKS = 3 };
    struct selection_options options = options_of(300, 5);
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, 16, 24, 1);
    pairs.batch.learner.scale = 50;
    pairs.batch.learner.bias = pairs.batch.reference.bias = 0;
    options.loss = PAIR_SOFTMAX;
    for (int exact = 0; exact < 2; exact++) {
        struct joint joint;

        options.exact = exact != 0;
        start(&joint, &pairs.batch, &options);
        for (uint32_t k = 0; k < CHUNKS; k++) {
            uint32_t index[CHUNK];

            for (uint32_t p = 0; p < CHUNK; p++)
                index[p] = k * CHUNK + p;
            take(&joint, index, CHUNK);
        }
        for (size_t i = CHUNK * CHUNKS; i < B; i++)
            for (int m = 0; m < JOINT_MODELS; m++)
                for (int side = 0; side < PAIR_SIDES; side++) {
                    const struct running_log_sum *log_sum = &joint.logs[m][side][i];
                    double got = log_sum->most + log(log_sum->sum);
                    double want =
                        direct_log_sum(m == 0 ? &pairs.batch.learner : &pairs.batch.reference,
                                       (enum pair_side)side, i, CHUNK * CHUNKS);

                    if (!(fabs(got - want) <= (exact ? 1e-9 : 1e-5)))
                        fail_msg("%zu: %.9g, want %.9g", i, got, want);
                }
    }
    pairs_release(&pairs);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_arena, release_arena)
    const struct CMUnitTest tests[] = {
        TEST(the_worked_example_comes_out),
        TEST(a_gain_is_the_difference_of_two_batch_scores),
        TEST(blocks_give_what_a_full_matrix_gives),
        TEST(tiles_and_threads_change_nothing),
        TEST(places_change_nothing),
        TEST(memory_does_not_grow_with_the_square),
        TEST(scores_of_ten_thousand_stay_in_order),
        TEST(the_same_model_twice_teaches_nothing),
        TEST(a_constant_in_all_scores_changes_no_independent_selection),
        TEST(a_criterion_reads_only_the_models_it_names),
        TEST(models_may_differ_in_width_and_not_in_rows),
        TEST(a_logarithmic_scale_is_noticed),
        TEST(a_higher_bias_helps_pairs_and_hurts_strangers),
        TEST(running_log_sums_equal_direct_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
