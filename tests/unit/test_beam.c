#include "reinforce/nn/beam.h"
#include "reinforce/nn/sampler.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

enum { V = 8, MAX_LEN = 8, MAX_ROWS = 64, START = 6, END = 7, PAD = 0 };

/* A model whose logits are a pure function of the whole prefix, which it keeps per row. */
struct table_model {
    int32_t prefix[MAX_ROWS][MAX_LEN];
    float end_bonus; /* added to END */
    int n_calls;
};

static void prefix_logits(const int32_t *prefix, int len, float end_bonus, float logits[V])
{
    struct philox rng;

    philox_init(&rng, 7, bytes_view_of(prefix, (size_t)len * sizeof *prefix), PHILOX_STAGE_CAPTION,
                0);
    for (int i = 0; i < V; i++)
        logits[i] = 4.0f * philox_f32(&rng) - 1.0f;
    logits[END] += end_bonus;
}

static enum status table_step(void *context, const int *parent, const int32_t *token, int n_rows,
                              int position, float *logits, struct error *err)
{
    struct table_model *model = context;
    int32_t before[MAX_ROWS][MAX_LEN];

    (void)err;
    assert_in_range(n_rows, 1, MAX_ROWS);
    memcpy(before, model->prefix, sizeof before);
    for (int r = 0; r < n_rows; r++) {
        if (position > 0)
            memcpy(model->prefix[r], before[parent[r]], sizeof before[r]);
        model->prefix[r][position] = token[r];
        prefix_logits(model->prefix[r], position + 1, model->end_bonus, logits + r * V);
    }
    model->n_calls++;
    return ST_OK;
}

static struct beam_config proper(int n_beams)
{
    return (struct beam_config){
        .n_beams = n_beams,
        .n_groups = 1,
        .length_penalty = 1.0,
        .repetition_penalty = 1.0,
        .min_tokens = 2,
        .max_tokens = MAX_LEN,
        .start = START,
        .end = END,
        .pad = PAD,
    };
}

/* Sum of log-probabilities (or of raw logits) of a finished row, by the definition. */
static double row_sum(const struct beam_hypothesis *row, float end_bonus, bool raw)
{
    double sum = 0;

    for (int i = 1; i < row->n_ids; i++) {
        float logits[V];
        double norm = 0;

        prefix_logits(row->ids, i, end_bonus, logits);
        for (int j = 0; j < V; j++)
            norm += exp((double)logits[j]);
        sum += (double)logits[row->ids[i]] - (raw ? 0.0 : log(norm));
    }
    return sum;
}

/* Best score over every possible row, by recursion. */
static double best_of_all(int32_t *ids, int len, const struct beam_config *config, float end_bonus)
{
    double best = -INFINITY;

    for (int32_t id = 0; id < V; id++) {
        bool ends = id == END;
        struct beam_hypothesis row = {.ids = ids, .n_ids = len + 1};

        if (ends && len < config->min_tokens)
            continue;
        ids[len] = id;
        if (ends || len + 1 == config->max_tokens)
            best = MAX(best, row_sum(&row, end_bonus, false) / pow(len, config->length_penalty));
        else
            best = MAX(best, best_of_all(ids, len + 1, config, end_bonus));
    }
    return best;
}

static void a_beam_as_wide_as_the_tree_finds_the_best_row(void **state)
{
    (void)state;
    for (int variant = 0; variant < 8; variant++) {
        struct table_model model = {.end_bonus = (float)variant - 3.0f};
        struct beam_config config = proper(MAX_ROWS);
        struct beam_hypothesis best;
        struct arena arena;
        struct error err = {0};
        int32_t ids[MAX_LEN] = {START};
        int n;

        config.max_tokens = 4; /* 7 * 7 open rows of three: all fit into 64 beams */
        config.length_penalty = 0.5 * variant;
        arena_init(&arena, 1 << 20);
        assert_ok(beam_search(&config, V, table_step, &model, 1, &arena, &best, &n, &err));
        assert_int_equal(n, 1);
        assert_true(fabs(best.score - best_of_all(ids, 1, &config, model.end_bonus)) < 1e-5);
        assert_true(fabs(best.log_prob_sum - row_sum(&best, model.end_bonus, false)) < 1e-5);
        arena_release(&arena);
    }
}

static void one_beam_without_early_ends_is_greedy(void **state)
{
    struct table_model model = {.end_bonus = -20.0f};
    struct beam_config config = proper(1);
    struct beam_hypothesis best;
    struct arena arena;
    struct error err = {0};
    int32_t ids[MAX_LEN] = {START};
    int n;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(beam_search(&config, V, table_step, &model, 3, &arena, &best, &n, &err));
    assert_int_equal(n, 1);
    for (int len = 1; len < MAX_LEN; len++) {
        float logits[V];

        prefix_logits(ids, len, -20.0f, logits);
        assert_ok(sampler_argmax(logits, V, &ids[len], &err));
    }
    assert_int_equal(best.n_ids, MAX_LEN);
    assert_false(best.ended);
    assert_memory_equal(best.ids, ids, sizeof ids);
    arena_release(&arena);
}

/* CLIP 33: three groups of two are two beams; scores are sums of raw logits over length. */
static void open_clips_groups_give_what_one_of_them_gives(void **state)
{
    (void)state;
    for (int variant = 0; variant < 6; variant++) {
        struct table_model model = {.end_bonus = 0.7f * (float)variant - 2.0f};
        struct beam_config config = proper(6);
        struct beam_hypothesis grouped[2], single[2];
        struct arena arena;
        struct error err = {0};
        int n_grouped, n_single;

        config.raw_logits = true;
        config.n_groups = 3;
        arena_init(&arena, 1 << 20);
        assert_int_equal(beam_group_size(&config), 2);
        assert_ok(
            beam_search(&config, V, table_step, &model, 2, &arena, grouped, &n_grouped, &err));
        config.n_beams = 2;
        config.n_groups = 1;
        assert_ok(beam_search(&config, V, table_step, &model, 2, &arena, single, &n_single, &err));
        assert_int_equal(n_grouped, n_single);
        for (int i = 0; i < n_grouped; i++) {
            assert_int_equal(grouped[i].n_ids, single[i].n_ids);
            assert_memory_equal(grouped[i].ids, single[i].ids,
                                (size_t)grouped[i].n_ids * sizeof *grouped[i].ids);
            assert_true(fabs(grouped[i].score - row_sum(&grouped[i], model.end_bonus, true) /
                                                    grouped[i].n_ids) < 1e-5);
            assert_true(i == 0 || grouped[i].score <= grouped[i - 1].score);
        }
        arena_release(&arena);
    }
}

static void hypotheses_are_distinct_ordered_and_keep_the_minimum_length(void **state)
{
    struct table_model model = {.end_bonus = 3.0f};
    struct beam_config config = proper(6);
    struct beam_hypothesis rows[6];
    struct arena arena;
    struct error err = {0};
    int n;

    (void)state;
    config.min_tokens = 5;
    config.mask_pad = true;
    arena_init(&arena, 1 << 20);
    assert_ok(beam_search(&config, V, table_step, &model, 6, &arena, rows, &n, &err));
    assert_int_equal(n, 6);
    for (int i = 0; i < n; i++) {
        assert_int_equal(rows[i].ids[0], START);
        assert_true(rows[i].ended);
        assert_true(rows[i].n_ids >= 6);
        assert_int_equal(rows[i].ids[rows[i].n_ids - 1], END);
        for (int t = 1; t < rows[i].n_ids; t++)
            assert_int_not_equal(rows[i].ids[t], PAD);
        assert_true(i == 0 || rows[i].score <= rows[i - 1].score);
        for (int j = 0; j < i; j++)
            assert_true(
                rows[i].n_ids != rows[j].n_ids ||
                memcmp(rows[i].ids, rows[j].ids, (size_t)rows[i].n_ids * sizeof *rows[i].ids) != 0);
    }
    arena_release(&arena);
}

static void the_search_stops_when_no_open_beam_can_win(void **state)
{
    struct table_model model = {.end_bonus = 10.0f};
    struct beam_config config = proper(2);
    struct beam_hypothesis best;
    struct arena arena;
    struct error err = {0};
    int n;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(beam_search(&config, V, table_step, &model, 1, &arena, &best, &n, &err));
    assert_true(best.ended);
    assert_int_equal(best.n_ids, 3);
    assert_int_equal(model.n_calls, 3); /* the third shows that nothing better can come */
    arena_release(&arena);
}

struct open_row {
    int32_t ids[MAX_LEN];
    double sum;
};

/* The rules of big_vision's search by plain enumeration of every continuation: the best sequence's
 * score and ids. */
static double search_plainly(int n_beams, int max_tokens, float end_bonus, int32_t *ids, int *n_ids)
{
    struct open_row open[MAX_ROWS] = {{.ids = {START}}}, next[MAX_ROWS * V];
    int n_open = 1, len = 1;
    double best = -INFINITY;

    for (; len < max_tokens; len++) {
        int n_next = 0;

        for (int b = 0; b < n_open; b++) {
            float logits[V];
            double norm;

            prefix_logits(open[b].ids, len, end_bonus, logits);
            norm = sampler_log_sum_exp(logits, V);
            if (len >= 2 && open[b].sum + (double)logits[END] - norm > best) { /* min_tokens */
                best = open[b].sum + (double)logits[END] - norm;
                memcpy(ids, open[b].ids, sizeof open[b].ids);
                ids[len] = END;
                *n_ids = len + 1;
            }
            for (int32_t v = 0; v < V; v++) {
                struct open_row row = open[b];
                int at = n_next++;

                row.ids[len] = v;
                row.sum += (double)logits[v] - norm;
                if (v == END) {
                    n_next--;
                    continue;
                }
                for (; at > 0 && row.sum > next[at - 1].sum; at--)
                    next[at] = next[at - 1];
                next[at] = row;
            }
        }
        n_open = MIN(n_beams, n_next);
        memcpy(open, next, (size_t)n_open * sizeof *open);
        if (open[0].sum < best)
            return best;
    }
    if (open[0].sum > best) {
        best = open[0].sum;
        memcpy(ids, open[0].ids, sizeof open[0].ids);
        *n_ids = len;
    }
    return best;
}

/* PALI 30 */
static void ends_that_are_always_considered_give_what_plain_enumeration_does(void **state)
{
    (void)state;
    for (int n_beams = 1; n_beams <= 3; n_beams++)
        for (int variant = 0; variant < 9; variant++) {
            struct table_model model = {.end_bonus = 0.5f * (float)variant - 2.0f};
            struct beam_config config = proper(n_beams);
            struct beam_hypothesis best;
            struct arena arena;
            struct error err = {0};
            int32_t ids[MAX_LEN];
            int n, n_ids = 0;
            double want;

            config.ends_always = true;
            config.length_penalty = 0;
            want = search_plainly(n_beams, MAX_LEN, model.end_bonus, ids, &n_ids);
            arena_init(&arena, 1 << 20);
            assert_ok(beam_search(&config, V, table_step, &model, 1, &arena, &best, &n, &err));
            assert_int_equal(n, 1);
            assert_true(fabs(best.score - want) < 1e-5);
            assert_true(fabs(best.log_prob_sum - want) < 1e-5);
            assert_int_equal(best.n_ids, n_ids);
            assert_memory_equal(best.ids, ids, (size_t)n_ids * sizeof *ids);
            arena_release(&arena);
        }
}

static enum status failing_step(void *context, const int *parent, const int32_t *token, int n_rows,
                                int position, float *logits, struct error *err)
{
    const bool *nan = context;

    (void)parent;
    (void)token;
    if (position == 2)
        return error_set(err, ST_NO_MEMORY, "the model stopped");
    for (int i = 0; i < n_rows * V; i++)
        logits[i] = *nan && position == 1 && i == 3 ? NAN : 0.0f;
    return ST_OK;
}

static void failures_of_the_model_pass_through_and_nan_is_corrupt(void **state)
{
    struct beam_config config = proper(2);
    struct beam_hypothesis best;
    struct arena arena;
    struct error err = {0};
    bool nan;
    int n;

    (void)state;
    arena_init(&arena, 1 << 20);
    nan = true;
    assert_status(beam_search(&config, V, failing_step, &nan, 1, &arena, &best, &n, &err),
                  ST_CORRUPT);
    nan = false;
    assert_status(beam_search(&config, V, failing_step, &nan, 1, &arena, &best, &n, &err),
                  ST_NO_MEMORY);
    assert_int_equal(n, 0);
    arena_release(&arena);
}

static void configurations_that_cannot_be_are_refused(void **state)
{
    struct error err = {0};
    struct beam_config bad[6];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = proper(6);
    assert_ok(beam_config_check(&bad[0], V, &err));
    bad[0].n_beams = 0;
    bad[1].n_groups = 4;
    bad[2].n_groups = 3; /* without raw logits */
    bad[3].start = V;
    bad[4].max_tokens = 2;
    bad[5].length_penalty = NAN;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_status(beam_config_check(&bad[i], V, &err), ST_INVALID);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_beam_as_wide_as_the_tree_finds_the_best_row),
        cmocka_unit_test(one_beam_without_early_ends_is_greedy),
        cmocka_unit_test(open_clips_groups_give_what_one_of_them_gives),
        cmocka_unit_test(hypotheses_are_distinct_ordered_and_keep_the_minimum_length),
        cmocka_unit_test(the_search_stops_when_no_open_beam_can_win),
        cmocka_unit_test(ends_that_are_always_considered_give_what_plain_enumeration_does),
        cmocka_unit_test(failures_of_the_model_pass_through_and_nan_is_corrupt),
        cmocka_unit_test(configurations_that_cannot_be_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
