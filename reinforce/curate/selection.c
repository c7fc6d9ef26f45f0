#include "reinforce/curate/selection.h"

#include "reinforce/curate/joint.h"

#include <math.h>
#include <string.h>

/* A selection under way. */
struct run {
    const struct super_batch *batch;
    const struct selection_options *options;
    struct selection *selection;
    struct joint joint;
    struct chosen_rows chosen;
    struct pick *picks; /* [B] */
    uint32_t *left;     /* [n_strata] of quotas; NULL without */
    double score;       /* F(S): sum of s_ij so far; NaN when not asked for */
    struct arena *arena;
};

static enum status check_strata(const struct super_batch *batch,
                                const struct selection_options *options, struct error *err)
{
    if (options->n_strata > 0 && batch->strata == NULL)
        return error_set(err, ST_INVALID, "quotas are given, and no strata of the examples");
    for (size_t i = 0; i < batch->B && options->n_strata > 0; i++)
        if (batch->strata[i] >= options->n_strata)
            return error_set(err, ST_INVALID, "example %zu is of stratum %u of %zu", i,
                             (unsigned)batch->strata[i], options->n_strata);
    return ST_OK;
}

/* How many could be selected, quotas considered. */
static size_t count_available(const struct run *run, size_t *n_usable)
{
    const struct super_batch *batch = run->batch;
    uint32_t *room = run->joint.room;
    size_t n = 0;

    *n_usable = 0;
    if (run->left != NULL)
        memcpy(room, run->left, run->options->n_strata * sizeof *room);
    for (size_t i = 0; i < batch->B; i++) {
        if (!run->joint.usable[i])
            continue;
        (*n_usable)++;
        if (run->left == NULL || room[batch->strata[i]] > 0) {
            n++;
            if (run->left != NULL)
                room[batch->strata[i]]--;
        }
    }
    return n;
}

static enum status check_available(struct run *run, struct error *err)
{
    struct selection_stats *stats = &run->selection->stats;
    size_t n = count_available(run, &stats->n_usable);

    stats->n_invalid = run->batch->B - stats->n_usable - stats->n_duplicates;
    if (n >= run->options->n_selected)
        return ST_OK;
    return error_set(err, ST_INVALID,
                     "%zu of %zu examples can be selected (%zu invalid, %zu duplicates%s), %zu are "
                     "wanted",
                     n, run->batch->B, stats->n_invalid, stats->n_duplicates,
                     n < stats->n_usable ? ", quotas" : "", run->options->n_selected);
}

/* Allocates what stays for the whole run: the result's arrays first. */
static enum status allocate(struct run *run, bool **usable, struct error *err)
{
    struct selection *selection = run->selection;
    struct arena *arena = run->arena;
    size_t B = run->batch->B, b = run->options->n_selected, n_strata = run->options->n_strata;
    const struct {
        void *out;
        size_t count, size;
    } arrays[] = {
        {&selection->index, b, sizeof *selection->index},
        {&selection->chunk, b, sizeof *selection->chunk},
        {&selection->marginal, b, sizeof *selection->marginal},
        {&selection->conditional, b, sizeof *selection->conditional},
        {&selection->marginals, B, sizeof *selection->marginals},
        {usable, B, sizeof **usable},
        {&run->picks, B, sizeof *run->picks},
        {&selection->stats.share_before, n_strata, sizeof(double)},
        {&selection->stats.share_after, n_strata, sizeof(double)},
        {&run->left, n_strata, sizeof *run->left},
    };
    enum status st = ST_OK;

    for (size_t a = 0; a < ARRAY_LEN(arrays) && st == ST_OK; a++)
        if (arrays[a].count > 0)
            st = arena_calloc(arena, arrays[a].count, arrays[a].size, arrays[a].out, err);
    if (st == ST_OK)
        memset(*usable, true, B * sizeof **usable);
    if (st == ST_OK && n_strata > 0)
        memcpy(run->left, run->options->quotas, n_strata * sizeof *run->left);
    return st;
}

/* Scores every pair by itself and sorts out what cannot be selected. */
static enum status begin(struct run *run, struct error *err)
{
    const struct super_batch *batch = run->batch;
    const struct pair_model models[JOINT_MODELS] = {batch->learner, batch->reference};
    size_t n_same_id = 0, n_same_content = 0;
    bool *usable = NULL;
    enum status st = check_strata(batch, run->options, err);

    if (st == ST_OK)
        st = allocate(run, &usable, err);
    /* Invalid ones first, lest one of them stands for its valid twin. */
    if (st == ST_OK)
        st = joint_init(&run->joint, run->options, models, batch->ids, batch->strata, 0, batch->B,
                        usable, run->arena, err);
    if (st == ST_OK)
        st = example_drop_duplicates(batch->ids, batch->B, usable, &n_same_id, run->arena, err);
    if (st == ST_OK && batch->content != NULL)
        st = example_drop_duplicates(batch->content, batch->B, usable, &n_same_content, run->arena,
                                     err);
    run->selection->stats.n_duplicates = n_same_id + n_same_content;
    return st == ST_OK ? check_available(run, err) : st;
}

/* The chosen rows of one chunk, block by block, into gains and, when asked for, the score. */
static enum status take(struct run *run, size_t n, bool is_last, struct error *err)
{
    struct joint *joint = &run->joint;
    bool scored = !isnan(run->score);
    enum status st = ST_OK;

    for (size_t p = 0; p < n && scored; p++) {
        run->score += run->picks[p].gain;
        for (int m = 0; m < JOINT_MODELS; m++) /* joint_sum_negatives() takes it for a negative */
            if (joint->sign[m] != 0)
                run->score -=
                    joint->sign[m] * pair_softplus(joint->rows[m].logit[run->picks[p].index]);
    }
    if (run->options->exact && !is_last)
        st = joint_take_exact(joint, run->picks, n, run->arena, err);
    for (size_t begin = 0; begin < n && st == ST_OK && (scored || !is_last); begin += JOINT_BLOCK) {
        size_t rows = MIN(n - begin, (size_t)JOINT_BLOCK);
        double sum = 0;

        st = chosen_rows_pack(&run->chosen, joint, run->picks + begin, rows, run->arena, err);
        if (st == ST_OK && scored)
            st = joint_sum_negatives(joint, run->picks, n, &run->chosen, &sum, run->arena, err);
        run->score += sum;
        if (st == ST_OK && !is_last && !run->options->exact)
            st = joint_take(joint, &run->chosen, run->arena, err);
    }
    joint->n_chosen += n;
    return st;
}

static enum status draw(struct run *run, uint32_t chunk, size_t n, struct error *err)
{
    struct selection *selection = run->selection;
    bool is_last = selection->n + n == run->options->n_selected;

    if (joint_best(&run->joint, chunk, n, run->left, run->picks) < n)
        return error_set(err, ST_INVALID,
                         "scores became infinite: no %zu examples are left to be selected", n);
    joint_remove(&run->joint, run->picks, n);
    for (size_t p = 0; p < n; p++) {
        const struct pick *pick = &run->picks[p];
        size_t to = selection->n++;

        selection->index[to] = pick->index;
        selection->chunk[to] = (uint16_t)chunk;
        selection->marginal[to] = (float)pick->marginal;
        selection->conditional[to] = (float)pick->gain;
        if (run->left != NULL)
            run->left[run->batch->strata[pick->index]]--;
    }
    return take(run, n, is_last, err);
}

static enum status draw_chunks(struct run *run, struct error *err)
{
    const struct selection_options *options = run->options;
    size_t b = options->n_selected, n_uniform = (size_t)((double)b * options->uniform_share);
    size_t rest = b - n_uniform, n_chunks = MIN(options->n_chunks, rest);
    size_t largest = n_chunks == 0 ? n_uniform : MAX(n_uniform, rest / n_chunks + rest % n_chunks);
    /* Without rows nothing is taken: pairs' own logits, or nothing that is scored. */
    bool has_rows = n_chunks + (n_uniform > 0) > 1 || options->batch_scores;
    enum status st = ST_OK;

    if (has_rows)
        st = chosen_rows_init(&run->chosen, &run->joint, largest, run->arena, err);
    if (st == ST_OK && n_uniform > 0)
        st = draw(run, SELECTION_UNIFORM_CHUNK, n_uniform, err);
    for (size_t k = 0; k < n_chunks && st == ST_OK; k++)
        st = draw(run, (uint32_t)k,
                  k + 1 < n_chunks ? rest / n_chunks : rest / n_chunks + rest % n_chunks, err);
    return st;
}

/* What a uniform batch's score is on average, from pairs of a uniform sample. */
static enum status expect_score(struct run *run, struct error *err)
{
    struct joint *joint = &run->joint;
    size_t n = joint_best(joint, SELECTION_UNIFORM_CHUNK, 1024, NULL, run->picks);
    double b = (double)run->options->n_selected, sum = 0, diagonal = 0, marginal = 0;
    struct arena mark = *run->arena;
    enum status st = chosen_rows_init(&run->chosen, joint, n, run->arena, err);

    if (st == ST_OK)
        st = chosen_rows_pack(&run->chosen, joint, run->picks, n, run->arena, err);
    if (st == ST_OK)
        st = joint_sum_negatives(joint, run->picks, n, &run->chosen, &sum, run->arena, err);
    arena_rewind(run->arena, &mark);
    if (st != ST_OK)
        return st;
    for (size_t p = 0; p < n; p++) {
        marginal += run->picks[p].marginal;
        for (int m = 0; m < JOINT_MODELS; m++)
            if (joint->sign[m] != 0)
                diagonal +=
                    joint->sign[m] * pair_softplus(joint->rows[m].logit[run->picks[p].index]);
    }
    run->selection->stats.uniform_batch_score =
        marginal / (double)n +
        (n > 1 ? (b - 1) * (sum - diagonal) / ((double)n * ((double)n - 1)) : 0);
    return ST_OK;
}

static bool looks_logarithmic(const struct pair_model *model)
{
    return model->scale < 10 && fabsf(model->bias) > 5;
}

/* What is known before the first draw. */
static enum status describe(struct run *run, struct error *err)
{
    const struct super_batch *batch = run->batch;
    const struct joint *joint = &run->joint;
    struct selection_stats *stats = &run->selection->stats;

    for (size_t i = 0; i < batch->B; i++)
        if (joint->usable[i])
            run->selection->marginals[i] = (float)joint->marginal[i];
    for (int m = 0; m < JOINT_MODELS; m++)
        if (joint->sign[m] != 0 && looks_logarithmic(&joint->rows[m].model))
            stats->scale_looks_logarithmic = true;
    if (run->options->n_strata > 0)
        selection_stats_shares(stats->share_before, run->options->n_strata, batch->strata, batch->B,
                               NULL, joint->usable);
    return selection_stats_scores(stats, joint->marginal, joint->usable, batch->B,
                                  run->options->gain, run->arena, err);
}

static enum status run_all(struct run *run, struct error *err)
{
    const struct selection_options *options = run->options;
    struct selection *selection = run->selection;
    struct selection_stats *stats = &selection->stats;
    enum status st = begin(run, err);

    if (st == ST_OK)
        st = describe(run, err);
    if (st == ST_OK && !isnan(run->score))
        st = expect_score(run, err);
    if (st == ST_OK)
        st = draw_chunks(run, err);
    if (st != ST_OK)
        return st;
    stats->batch_score = run->score / (double)options->n_selected;
    stats->multiply_adds = run->joint.multiply_adds;
    if (options->n_strata > 0)
        selection_stats_shares(stats->share_after, options->n_strata, run->batch->strata,
                               selection->n, selection->index, NULL);
    return ST_OK;
}

enum status selection_run(const struct super_batch *batch, const struct selection_options *options,
                          struct selection *selection, struct arena *arena, struct error *err)
{
    struct selection_options uniform;
    struct run run = {
        .batch = batch, .options = options, .selection = selection, .arena = arena, .score = NAN};
    enum status st = selection_options_check(options, batch->B, err);

    *selection = (struct selection){0};
    selection->stats.batch_score = selection->stats.uniform_batch_score = NAN;
    if (options->criterion == SELECT_UNIFORM) {
        uniform = *options;
        uniform.uniform_share = 1;
        uniform.batch_scores = false;
        run.options = &uniform;
    } else if (options->batch_scores && options->loss == PAIR_SIGMOID) {
        run.score = 0;
    }
    if (st == ST_OK)
        st = run_all(&run, err);
    if (st != ST_OK)
        *selection = (struct selection){.stats = selection->stats};
    return st;
}

enum status selection_uniform(const struct super_batch *batch,
                              const struct selection_options *options, struct selection *selection,
                              struct arena *arena, struct error *err)
{
    struct selection_options uniform = *options;

    uniform.criterion = SELECT_UNIFORM;
    return selection_run(batch, &uniform, selection, arena, err);
}
