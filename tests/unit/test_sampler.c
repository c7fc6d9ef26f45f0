#include "reinforce/nn/sampler.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

enum { VOCAB = 49408, START = 49406, END = 49407, PAD = 0, SMALL = 300 };

static struct sampler_config recipe(void)
{
    return (struct sampler_config){
        .temperature = 1.0,
        .top_p = 0.9,
        .repetition_penalty = 1.0,
        .min_tokens = 5,
        .max_tokens = 30,
        .end = END,
        .pad = PAD,
    };
}

/* Standard normal by Box and Muller. */
static double normal(struct philox *rng)
{
    double u = 1.0 - sampler_uniform(rng), v = sampler_uniform(rng);

    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

struct oracle_item {
    double logit;
    int32_t id;
    double p;
};

static int by_logit_ascending(const void *a, const void *b)
{
    const struct oracle_item *x = a, *y = b;

    if (x->logit != y->logit)
        return x->logit < y->logit ? -1 : 1;
    return x->id > y->id ? -1 : 1; /* of equals the higher id is dropped first */
}

static int by_id(const void *a, const void *b)
{
    const struct oracle_item *x = a, *y = b;

    return x->id < y->id ? -1 : 1;
}

/*
 * The references' procedure written down plainly: sort everything ascending, softmax with libm,
 * cumulative sum, drop while it is <= 1 - p, keep at least one; then the inverse of the cumulative
 * distribution over ids.
 */
static int32_t oracle_draw(const struct sampler_config *config, const float *logits, size_t n,
                           double u, struct oracle_item *items)
{
    double sum = 0, running = 0, before = config->temperature_first ? config->temperature : 1.0;
    double after = config->temperature_first ? 1.0 : config->temperature;
    int32_t id = -1;

    for (size_t i = 0; i < n; i++)
        items[i] = (struct oracle_item){(double)logits[i] / before, (int32_t)i, 0};
    qsort(items, n, sizeof *items, by_logit_ascending);
    if (config->top_k > 0 && (size_t)config->top_k < n)
        for (size_t i = 0; i < n; i++)
            if (items[i].logit < items[n - (size_t)config->top_k].logit)
                items[i].logit = -INFINITY;
    for (size_t i = 0; i < n; i++)
        sum += exp(items[i].logit - items[n - 1].logit);
    for (size_t i = 0; i < n; i++) {
        running += exp(items[i].logit - items[n - 1].logit) / sum;
        if (config->top_p < 1.0 && running <= 1.0 - config->top_p && i + 1 < n)
            items[i].logit = -INFINITY;
    }
    sum = 0;
    for (size_t i = 0; i < n; i++) {
        items[i].p = exp((items[i].logit - items[n - 1].logit) / after);
        sum += items[i].p;
    }
    qsort(items, n, sizeof *items, by_id);
    running = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(items[i].p > 0))
            continue;
        id = items[i].id;
        running += items[i].p / sum;
        if (running > u)
            break;
    }
    return id;
}

struct fixture {
    struct arena arena;
    struct sampler_scratch scratch;
    float *logits;
    struct oracle_item *items;
};

static void setup(struct fixture *f, size_t n)
{
    struct error err = {0};

    arena_init(&f->arena, 16 << 20);
    assert_ok(sampler_scratch_init(&f->scratch, n, &f->arena, &err));
    assert_ok(arena_calloc(&f->arena, n, sizeof *f->logits, &f->logits, &err));
    assert_ok(arena_calloc(&f->arena, n, sizeof *f->items, &f->items, &err));
}

/* A different spread per row: from nearly flat to one token that has nearly all. */
static void fill_row(float *logits, size_t n, int row, struct philox *rng)
{
    double spread = 0.25 + 0.05 * (double)(row % 100);

    for (size_t i = 0; i < n; i++)
        logits[i] = (float)(spread * normal(rng));
    if (row % 7 == 0)
        for (size_t i = 0; i < n; i += 3)
            logits[i] = -INFINITY;
}

/* CLIP 34 */
static void draws_equal_a_double_oracle_on_1000_random_rows(void **state)
{
    struct fixture f;
    struct philox rng;
    struct error err = {0};
    struct sampler_config config = recipe();
    size_t n = VOCAB;

    (void)state;
    setup(&f, n);
    philox_init(&rng, 34, bytes_of_string("oracle"), PHILOX_STAGE_CAPTION, 0);
    for (int row = 0; row < 1000; row++) {
        double u;
        int32_t id;

        /* A full sort of all tokens per row costs the oracle most of the time: mostly short rows.
         */
        n = row % 40 == 0 ? VOCAB : SMALL + (size_t)row;
        f.scratch.n_vocab = n;
        fill_row(f.logits, n, row, &rng);
        u = sampler_uniform(&rng);
        config.temperature = row % 3 == 0 ? 0.7 : 1.0;
        config.temperature_first = row % 2 == 1;
        config.top_k = row % 5 == 4 ? 50 : 0;
        assert_ok(sampler_draw(&config, f.logits, u, &f.scratch, &id, &err));
        assert_int_equal(id, oracle_draw(&config, f.logits, n, u, f.items));
    }
    arena_release(&f.arena);
}

/* CLIP 34 */
static void p_of_1_keeps_all_and_p_of_0_keeps_the_largest(void **state)
{
    struct fixture f;
    struct philox rng;
    struct error err = {0};
    struct sampler_config config = recipe();
    int32_t id, largest;
    bool seen[SMALL] = {false};
    int n_seen = 0;

    (void)state;
    setup(&f, SMALL);
    philox_init(&rng, 35, bytes_of_string("p"), PHILOX_STAGE_CAPTION, 0);
    fill_row(f.logits, SMALL, 8, &rng);
    assert_ok(sampler_argmax(f.logits, SMALL, &largest, &err));
    for (int i = 0; i < 20000; i++) {
        config.top_p = 1.0;
        assert_ok(sampler_draw(&config, f.logits, i / 20000.0, &f.scratch, &id, &err));
        n_seen += !seen[id];
        seen[id] = true;
        config.top_p = 0.0;
        assert_ok(sampler_draw(&config, f.logits, i / 20000.0, &f.scratch, &id, &err));
        assert_int_equal(id, largest);
    }
    assert_int_equal(n_seen, SMALL);
    arena_release(&f.arena);
}

static void a_cut_through_equal_logits_keeps_the_lower_ids_for_top_p_and_all_for_top_k(void **state)
{
    struct fixture f;
    struct error err = {0};
    struct sampler_config config = recipe();
    int32_t id, max_id = -1;

    (void)state;
    setup(&f, 100);
    for (size_t i = 0; i < 100; i++)
        f.logits[i] = 1.5f;
    config.top_p = 0.255; /* 25 tokens hold 0.25, so 26 stay */
    for (int i = 0; i < 5000; i++) {
        assert_ok(sampler_draw(&config, f.logits, i / 5000.0, &f.scratch, &id, &err));
        max_id = MAX(max_id, id);
    }
    assert_int_equal(max_id, 25);
    config.top_p = 1.0;
    config.top_k = 3;
    assert_ok(sampler_draw(&config, f.logits, 0.999, &f.scratch, &id, &err));
    assert_int_equal(id, 99);
    config.greedy = true;
    assert_ok(sampler_argmax(f.logits, 100, &id, &err));
    assert_int_equal(id, 0);
    arena_release(&f.arena);
}

static void rules_are_minimum_length_then_repetition_then_pad(void **state)
{
    struct sampler_config config = recipe();
    float logits[6] = {1, 2, -3, 4, 5, 6};
    const int32_t ids[] = {4, 2, 2, 4};

    (void)state;
    config.end = 5;
    config.repetition_penalty = 2.0;
    config.mask_pad = true;
    sampler_apply_rules(&config, ids, 4, logits, 6);
    assert_true(isinf(logits[0]) && logits[0] < 0);
    assert_true(logits[1] == 2);
    assert_true(logits[2] == -6);  /* once per distinct id */
    assert_true(logits[4] == 2.5); /* the start counts */
    assert_true(isinf(logits[5]) && logits[5] < 0);
    logits[5] = 6;
    config.min_tokens = 4;
    sampler_apply_rules(&config, ids, 4, logits, 6);
    assert_true(logits[5] == 6);
}

/* CLIP 35, DR 25 */
static void rows_end_no_earlier_than_index_5_and_no_later_than_the_maximum(void **state)
{
    struct fixture f;
    struct philox rng, stream;
    struct error err = {0};
    struct sampler_config config = recipe();
    int n_forced = 0, n_by_end = 0, n_by_pad = 0;
    int32_t ids[30];

    (void)state;
    setup(&f, SMALL);
    config.end = SMALL - 1;
    philox_init(&rng, 36, bytes_of_string("rows"), PHILOX_STAGE_CAPTION, 0);
    for (uint32_t r = 0; r < 400; r++) {
        struct sampler_row row;
        int end_at;

        config.mask_pad = r % 2 == 1;
        philox_init(&stream, 36, bytes_of_string("row"), PHILOX_STAGE_CAPTION, r);
        sampler_row_init(&row, ids, SMALL - 2, &stream);
        while (!row.ended) {
            if (sampler_row_is_forced(&config, &row)) {
                sampler_row_force_end(&config, &row);
                n_forced++;
                break;
            }
            fill_row(f.logits, SMALL, 1, &rng);
            f.logits[config.end] = 2.5f;
            f.logits[config.pad] = 2.5f;
            assert_ok(sampler_row_step(&config, &row, f.logits, &f.scratch, &err));
        }
        end_at = row.n_ids - 1;
        assert_in_range(end_at, 1, 29);
        if (ids[end_at] == config.end) {
            assert_true(end_at >= 5);
            n_by_end++;
        } else {
            assert_int_equal(ids[end_at], config.pad);
            assert_false(config.mask_pad);
            n_by_pad++;
        }
        for (int i = 0; i < end_at; i++)
            assert_true(ids[i] != config.end && ids[i] != config.pad);
        assert_true(row.log_prob_sum < 0);
        sampler_row_pad(&config, &row);
        assert_int_equal(row.n_ids, 30);
        for (int i = end_at + 1; i < 30; i++)
            assert_int_equal(ids[i], config.pad);
    }
    assert_true(n_forced > 0 && n_by_end > n_forced && n_by_pad > 0);
    arena_release(&f.arena);
}

static void log_probability_is_that_of_the_models_own_softmax(void **state)
{
    struct fixture f;
    struct philox rng;
    struct error err = {0};
    struct sampler_config config = recipe();
    struct sampler_row row;
    int32_t ids[30];
    double sum = 0;

    (void)state;
    setup(&f, SMALL);
    config.end = SMALL - 1;
    config.repetition_penalty = 3.0;
    philox_init(&rng, 37, bytes_of_string("lp"), PHILOX_STAGE_CAPTION, 0);
    fill_row(f.logits, SMALL, 5, &rng);
    for (size_t i = 0; i < SMALL; i++)
        sum += exp((double)f.logits[i]);
    assert_true(fabs(sampler_log_sum_exp(f.logits, SMALL) - log(sum)) < 1e-12);
    sampler_row_init(&row, ids, 7, &rng);
    assert_ok(sampler_row_step(&config, &row, f.logits, &f.scratch, &err));
    assert_true(fabs(row.log_prob_sum - ((double)f.logits[ids[1]] - log(sum))) < 1e-12);
    arena_release(&f.arena);
}

static void draws_follow_the_distribution(void **state)
{
    struct fixture f;
    struct philox rng;
    struct error err = {0};
    struct sampler_config config = recipe();
    int counts[4] = {0};
    int32_t id;

    (void)state;
    setup(&f, 4);
    for (size_t i = 0; i < 4; i++)
        f.logits[i] = (float)log((double)(i + 1) / 10.0);
    config.top_p = 1.0;
    philox_init(&rng, 38, bytes_of_string("freq"), PHILOX_STAGE_CAPTION, 0);
    for (int i = 0; i < 100000; i++) {
        assert_ok(sampler_draw(&config, f.logits, sampler_uniform(&rng), &f.scratch, &id, &err));
        counts[id]++;
    }
    for (int i = 0; i < 4; i++) /* five standard deviations */
        assert_true(abs(counts[i] - 10000 * (i + 1)) < 800);
    arena_release(&f.arena);
}

static void broken_logits_are_refused(void **state)
{
    struct fixture f;
    struct error err = {0};
    struct sampler_config config = recipe();
    int32_t id;

    (void)state;
    setup(&f, SMALL);
    f.logits[17] = NAN;
    assert_status(sampler_draw(&config, f.logits, 0.5, &f.scratch, &id, &err), ST_CORRUPT);
    assert_status(sampler_argmax(f.logits, SMALL, &id, &err), ST_CORRUPT);
    f.logits[17] = INFINITY;
    assert_status(sampler_draw(&config, f.logits, 0.5, &f.scratch, &id, &err), ST_CORRUPT);
    for (size_t i = 0; i < SMALL; i++)
        f.logits[i] = -INFINITY;
    assert_status(sampler_draw(&config, f.logits, 0.5, &f.scratch, &id, &err), ST_CORRUPT);
    arena_release(&f.arena);
}

static void configurations_that_cannot_be_are_refused(void **state)
{
    struct error err = {0};
    struct sampler_config bad[9];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = recipe();
    assert_ok(sampler_config_check(&bad[0], VOCAB, &err));
    bad[0].temperature = 0;
    bad[1].top_k = -1;
    bad[2].top_p = -0.1;
    bad[3].repetition_penalty = 0;
    bad[4].max_tokens = 5;
    bad[5].min_tokens = -1;
    bad[6].end = VOCAB;
    bad[7].pad = -1;
    bad[8].top_p = NAN;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_status(sampler_config_check(&bad[i], VOCAB, &err), ST_INVALID);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_equal_a_double_oracle_on_1000_random_rows),
        cmocka_unit_test(p_of_1_keeps_all_and_p_of_0_keeps_the_largest),
        cmocka_unit_test(
            a_cut_through_equal_logits_keeps_the_lower_ids_for_top_p_and_all_for_top_k),
        cmocka_unit_test(rules_are_minimum_length_then_repetition_then_pad),
        cmocka_unit_test(rows_end_no_earlier_than_index_5_and_no_later_than_the_maximum),
        cmocka_unit_test(log_probability_is_that_of_the_models_own_softmax),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(broken_logits_are_refused),
        cmocka_unit_test(configurations_that_cannot_be_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
