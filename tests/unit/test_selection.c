/* Scores and selections. Numbers are those of the specification's checklist; the sampling laws are
 * in test_selection_laws.c, a whole independent implementation in test_selection_golden.c. */
#include "reinforce/base/clock.h"
#include "reinforce/curate/joint.h"
#include "reinforce/nn/dots.h"
#include "tests/support/oom.h"
#include "tests/support/pairs.h"

#include <string.h>

enum { ARENA_BYTES = 512 << 20 };

/* A sanitizer leaves only the plain kernels, which take minutes for SigLIP 2's super-batch. */
#if defined(REINFORCE_SANITIZED)
enum { LARGE_B = 4096 };
#else
enum { LARGE_B = 65536 };
#endif

static struct arena arena;

static int make_arena(void **state)
{
    (void)state;
    arena_init(&arena, ARENA_BYTES);
    return 0;
}

static int release_arena(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

static struct selection_options options_of(size_t n_selected, size_t n_chunks)
{
    struct selection_options options;

    selection_options_default(&options);
    options.n_selected = n_selected;
    options.n_chunks = n_chunks;
    options.seed = 5;
    options.step = 7;
    return options;
}

static struct selection run(const struct super_batch *batch,
                            const struct selection_options *options)
{
    struct selection selection;
    struct error err = {0};

    assert_ok(selection_run(batch, options, &selection, &arena, &err));
    assert_int_equal(selection.n, options->n_selected);
    return selection;
}

static void assert_same(const struct selection *a, const struct selection *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->index, b->index, a->n * sizeof *a->index);
    assert_memory_equal(a->chunk, b->chunk, a->n * sizeof *a->chunk);
    assert_memory_equal(a->marginal, b->marginal, a->n * sizeof *a->marginal);
    assert_memory_equal(a->conditional, b->conditional, a->n * sizeof *a->conditional);
}

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

/* CURATE 20 */
static void broken_examples_are_counted_and_never_selected(void **state)
{
    struct selection_options options = options_of(30, 3);
    struct selection selection;
    struct error err = {0};
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 40, 16, 16, 1);
    pairs.rows[0][PAIR_TEXT][3 * 16 + 5] = NAN;
    memset(pairs.rows[1][PAIR_IMAGE] + (size_t)7 * 16, 0, 16 * sizeof(float));
    pairs.rows[0][PAIR_IMAGE][9 * 16] = INFINITY;
    for (size_t d = 0; d < 16; d++) /* half a norm is no unit row */
        pairs.rows[1][PAIR_TEXT][12 * 16 + d] *= 0.5f;
    selection = run(&pairs.batch, &options);
    assert_int_equal(selection.stats.n_invalid, 4);
    assert_int_equal(selection.stats.n_usable, 36);
    for (size_t i = 0; i < 30; i++)
        assert_true(selection.index[i] != 3 && selection.index[i] != 7 && selection.index[i] != 9 &&
                    selection.index[i] != 12);
    options.n_selected = 37;
    assert_status(selection_run(&pairs.batch, &options, &selection, &arena, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "36 of 40 examples can be selected (4 invalid, 0 "
                                        "duplicates), 37 are wanted"));
    assert_null(selection.index);
    pairs_release(&pairs);
}

/* CURATE 21 */
static void a_duplicate_is_selected_once(void **state)
{
    struct example_id content[40];
    struct selection_options options = options_of(36, 3);
    struct selection selection;
    size_t n_first = 0;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 40, 16, 16, 1);
    pairs.ids[20] = pairs.ids[31] = pairs.ids[4]; /* one of these, the first */
    for (size_t i = 0; i < 40; i++)
        content[i] = (struct example_id){i, i == 39 ? 38 : i};
    content[39].high = 38;
    pairs.batch.content = content;
    selection = run(&pairs.batch, &options);
    assert_int_equal(selection.stats.n_duplicates, 3);
    for (size_t i = 0; i < 36; i++) {
        assert_true(selection.index[i] != 20 && selection.index[i] != 31 &&
                    selection.index[i] != 39);
        n_first += selection.index[i] == 4;
    }
    assert_true(n_first <= 1);
    /* an invalid one does not stand for its valid twin */
    pairs.rows[0][PAIR_TEXT][4 * 16] = NAN;
    options.n_selected = 37;
    options.n_chunks = 1;
    assert_int_equal(run(&pairs.batch, &options).stats.n_duplicates, 2);
    pairs_release(&pairs);
}

/* CURATE 22, the library's half */
static void without_scores_a_seeded_permutation_is_left(void **state)
{
    struct selection_options options = options_of(1000, 16);
    struct selection first, again, other;
    struct error err = {0};
    struct pairs pairs;
    size_t n_same = 0;

    (void)state;
    pairs_draw(&pairs, 4000, 4, 4, 1);
    options.deadline_ns = clock_monotonic_ns() - 1;
    assert_status(selection_run(&pairs.batch, &options, &first, &arena, &err), ST_TIMEOUT);
    assert_int_equal(first.n, 0);
    pairs.batch.learner = pairs.batch.reference = (struct pair_model){0};
    assert_ok(selection_uniform(&pairs.batch, &options, &first, &arena, &err));
    assert_ok(selection_uniform(&pairs.batch, &options, &again, &arena, &err));
    assert_same(&first, &again);
    options.step++;
    assert_ok(selection_uniform(&pairs.batch, &options, &other, &arena, &err));
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(first.chunk[i], SELECTION_UNIFORM_CHUNK);
        n_same += first.index[i] == other.index[i];
    }
    assert_true(n_same < 10);
    pairs_release(&pairs);
}

/* The half nearest to x, as a trainer's tensor would hold. */
static uint16_t to_half(float x)
{
    double a = fabs((double)x);
    int exponent = a < 0x1p-14 ? -14 : (int)floor(log2(a));
    uint32_t steps = (uint32_t)nearbyint(ldexp(a, 10 - exponent));

    if (steps == 2048) {
        steps = 1024;
        exponent++;
    }
    return (uint16_t)((x < 0 ? 0x8000u : 0) +
                      (steps < 1024 ? steps : ((uint32_t)(exponent + 15) << 10) + steps - 1024));
}

static void make_half(struct pair_model *model, uint16_t *halves[PAIR_SIDES], size_t B,
                      enum tensor_dtype dtype)
{
    size_t n = B * model->D;

    for (int s = 0; s < PAIR_SIDES; s++) {
        const float *rows = (const float *)(const void *)model->rows[s].data;

        halves[s] = malloc(n * sizeof *halves[s]);
        assert_non_null(halves[s]);
        if (dtype == TENSOR_BF16)
            convert_to_bf16(rows, n, halves[s]);
        for (size_t i = 0; i < n && dtype == TENSOR_F16; i++)
            halves[s][i] = to_half(rows[i]);
        model->rows[s] = bytes_view_of(halves[s], n * sizeof *halves[s]);
    }
    model->dtype = dtype;
}

static double overlap(const struct selection *a, const struct selection *b, size_t B)
{
    static bool in[LARGE_B];
    size_t n = 0;

    memset(in, false, B * sizeof *in);
    for (size_t i = 0; i < a->n; i++)
        in[a->index[i]] = true;
    for (size_t i = 0; i < b->n; i++)
        n += in[b->index[i]];
    return (double)n / (double)a->n;
}

/* CURATE 26 */
static void half_precision_references_change_gains_by_little(void **state)
{
    enum { B = LARGE_B / 32, D = 768 };
    struct selection_options options = options_of(B / 4, 2);
    struct selection full, half;
    uint16_t *halves[PAIR_SIDES];
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, D, D, 1);
    pairs.batch.reference.scale = 110;
    pairs.batch.reference.bias = -16;
    options.top_k = true;
    full = run(&pairs.batch, &options);
    make_half(&pairs.batch.reference, halves, B, TENSOR_F16);
    half = run(&pairs.batch, &options);
    assert_true(overlap(&full, &half, B) >= 0.99);
    for (size_t i = 0; i < B; i++)
        assert_true(fabsf(full.marginals[i] - half.marginals[i]) < 1e-2f);
    for (size_t i = 0; i < B / 4; i++)
        for (size_t k = 0; k < B / 4; k++)
            if (full.index[i] == half.index[k] && full.chunk[i] == half.chunk[k])
                assert_true(fabsf(full.conditional[i] - half.conditional[k]) < 1e-2f);
    free(halves[0]);
    free(halves[1]);
    pairs_release(&pairs);
}

/* CURATE 27, and bfloat16 */
static void half_precision_learners_select_the_same(void **state)
{
    enum { B = LARGE_B, D = 64 };
    static const enum tensor_dtype dtypes[] = {TENSOR_F16, TENSOR_BF16};
    struct selection_options options = options_of(B / 16, 2);
    struct selection full, half;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, D, D, 1);
    options.top_k = true;
    options.n_threads = 2;
    full = run(&pairs.batch, &options);
    for (size_t t = 0; t < ARRAY_LEN(dtypes); t++) {
        struct super_batch batch = pairs.batch;
        uint16_t *halves[PAIR_SIDES];

        make_half(&batch.learner, halves, B, dtypes[t]);
        half = run(&batch, &options);
        if (!(overlap(&full, &half, B) >= (dtypes[t] == TENSOR_F16 ? 0.99 : 0.95)))
            fail_msg("%s: overlap %g", tensor_dtype_name(dtypes[t]), overlap(&full, &half, B));
        free(halves[0]);
        free(halves[1]);
    }
    pairs_release(&pairs);
}

/* CURATE 28 */
static void quotas_are_met_exactly_or_refused(void **state)
{
    static const uint32_t quotas[] = {50, 5, 25}, impossible[] = {50, 200, 25};
    size_t counts[3] = {0};
    double before = 0, after = 0;
    struct selection_options options = options_of(80, 4);
    struct selection selection;
    struct error err = {0};
    uint16_t strata[300];
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 300, 16, 16, 1);
    for (size_t i = 0; i < 300; i++)
        strata[i] = (uint16_t)(i % 10 == 0 ? 2 : i % 2);
    pairs.batch.strata = strata;
    options.quotas = quotas;
    options.n_strata = 3;
    selection = run(&pairs.batch, &options);
    for (size_t i = 0; i < 80; i++)
        counts[strata[selection.index[i]]]++;
    for (size_t s = 0; s < 3; s++) {
        assert_int_equal(counts[s], quotas[s]);
        before += selection.stats.share_before[s];
        after += selection.stats.share_after[s];
    }
    assert_true(fabs(before - 1) < 1e-12 && fabs(after - 1) < 1e-12);
    assert_true(selection.stats.share_after[1] == 5.0 / 80);
    options.quotas = impossible;
    options.n_selected = 275;
    assert_status(selection_run(&pairs.batch, &options, &selection, &arena, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "quotas"));
    strata[17] = 3;
    assert_status(selection_run(&pairs.batch, &options, &selection, &arena, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "example 17 is of stratum 3 of 3"));
    pairs_release(&pairs);
}

/* CURATE 30, the operations; the time is bench/bench_select's. */
static void products_cost_what_the_model_says(void **state)
{
    enum { B = 4096, D = 32, N = 16 };
    struct selection_options options = options_of(B / 2, N);
    double b = B / 2, model = 2.0 * (D + D) * b * (N - 1) / N * (B - b / 2);
    struct selection selection;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, D, D, 1);
    options.n_threads = 2;
    selection = run(&pairs.batch, &options);
    assert_true((double)selection.stats.multiply_adds >= 0.9 * model);
    assert_true((double)selection.stats.multiply_adds <= 1.1 * model);
    pairs_release(&pairs);
}

static void presets_are_siglip_2s(void **state)
{
    struct selection_options options;

    (void)state;
    assert_int_equal(selection_options_preset(&options, SELECT_ACID_HALF), 65536);
    assert_int_equal(options.n_selected, 32768);
    assert_int_equal(options.criterion, SELECT_LEARNABILITY);
    assert_int_equal(options.loss, PAIR_SIGMOID);
    assert_int_equal(selection_options_preset(&options, SELECT_ACID_THREE_QUARTERS), 131072);
    assert_int_equal(options.n_selected, 32768);
}

static void options_out_of_range_are_named(void **state)
{
    struct selection_options options[9];
    static const char *const words[] = {"to be selected", "to be selected", "chunks",
                                        "gain",           "uniform share",  "threads",
                                        "normalise",      "strata",         "criterion"};
    struct error err = {0};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(options); c++)
        options[c] = options_of(10, 2);
    options[0].n_selected = 0;
    options[1].n_selected = 21;
    options[2].n_chunks = 11;
    options[3].gain = NAN;
    options[4].uniform_share = 1.5;
    options[5].n_threads = 0;
    options[6].normalise_by_count = true;
    options[6].loss = PAIR_SOFTMAX;
    options[7].n_strata = 2;
    options[8].criterion = 0;
    for (size_t c = 0; c < ARRAY_LEN(options); c++) {
        assert_status(selection_options_check(&options[c], 20, &err), ST_INVALID);
        if (strstr(err.message, words[c]) == NULL)
            fail_msg("case %zu: %s", c, err.message);
    }
}

/* Shares and estimates of a batch's score. */
static void statistics_describe_the_batch(void **state)
{
    enum { B = 300, N_SELECTED = 90 };
    struct selection_options options = options_of(N_SELECTED, 3);
    double score = 0, mean = 0, own = 0;
    struct selection selection;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, 16, 16, 1);
    options.batch_scores = true;
    options.uniform_share = 0.2;
    selection = run(&pairs.batch, &options);
    for (size_t i = 0; i < N_SELECTED; i++) {
        assert_int_equal(selection.chunk[i],
                         i < 18 ? SELECTION_UNIFORM_CHUNK : (uint16_t)((i - 18) / 24));
        for (size_t j = 0; j < N_SELECTED; j++)
            score += pairs_score(&pairs.batch, selection.index[i], selection.index[j]);
    }
    for (size_t i = 0; i < B; i++) {
        own += pairs_score(&pairs.batch, i, i) / B;
        for (size_t j = 0; j < B; j++)
            if (i != j)
                mean += pairs_score(&pairs.batch, i, j) / (B * (B - 1.0));
    }
    assert_true(fabs(selection.stats.batch_score - score / N_SELECTED) <= 1e-4 * fabs(score));
    assert_true(fabs(selection.stats.uniform_batch_score - (own + (N_SELECTED - 1) * mean)) <=
                1e-3);
    assert_true(selection.stats.batch_score > selection.stats.uniform_batch_score);
    assert_true(fabs(selection.stats.marginal_mean - own) < 1e-6);
    assert_true(selection.stats.effective_sample_size >= 1 &&
                selection.stats.effective_sample_size <= B);
    for (int q = 1; q < SELECTION_QUANTILES; q++)
        assert_true(selection.stats.marginal_quantiles[q] >=
                    selection.stats.marginal_quantiles[q - 1]);
    pairs_release(&pairs);
}

static void every_allocation_may_fail(void **state)
{
    struct selection_options options = options_of(20, 4);
    struct pairs pairs;
    bool fired = true;

    (void)state;
    pairs_draw(&pairs, 64, 8, 8, 1);
    for (unsigned n = 1; fired; n++) {
        struct arena own;
        struct selection selection;
        struct error err = {0};
        enum status st;

        arena_init(&own, ARENA_BYTES);
        oom_fail_at(n);
        st = selection_run(&pairs.batch, &options, &selection, &own, &err);
        fired = oom_fired();
        oom_fail_at(0);
        assert_status(st, fired ? ST_NO_MEMORY : ST_OK);
        arena_release(&own);
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
        TEST(broken_examples_are_counted_and_never_selected),
        TEST(a_duplicate_is_selected_once),
        TEST(without_scores_a_seeded_permutation_is_left),
        TEST(half_precision_references_change_gains_by_little),
        TEST(half_precision_learners_select_the_same),
        TEST(quotas_are_met_exactly_or_refused),
        TEST(products_cost_what_the_model_says),
        TEST(presets_are_siglip_2s),
        TEST(options_out_of_range_are_named),
        TEST(statistics_describe_the_batch),
        TEST(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
