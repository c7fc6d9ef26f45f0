#include "reinforce/base/clock.h"
#include "reinforce/base/parallel.h"
#include "reinforce/curate/joint.h"
#include "reinforce/nn/dots.h"
#include "reinforce/nn/ops.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { TILE_ROWS = 96, EXACT_LANES = 8 };

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

enum status chosen_rows_init(struct chosen_rows *chosen, const struct joint *joint, size_t n,
                             struct arena *arena, struct error *err)
{
    size_t columns = round_up(MIN(n, (size_t)JOINT_BLOCK), DOTS_COLUMNS);
    enum status st = ST_OK;

    *chosen = (struct chosen_rows){0};
    for (int m = 0; m < JOINT_MODELS; m++)
        for (int s = 0; s < PAIR_SIDES && joint->sign[m] != 0 && st == ST_OK; s++) {
            chosen->D[m] = joint->rows[m].model.D;
            st = arena_calloc(arena, columns * chosen->D[m], sizeof(float), &chosen->strips[m][s],
                              err);
        }
    return st;
}

static void pack(float *packed, size_t width, size_t r, const struct pair_rows *rows,
                 enum pair_side side, size_t i, float *row)
{
    pair_rows_get(rows, side, i, row);
    dots_pack(packed, width, r, row, (float)rows->inverse[side][i], rows->model.D);
}

static size_t widest(const struct joint *joint)
{
    return MAX(joint->rows[JOINT_LEARNER].model.D, joint->rows[JOINT_REFERENCE].model.D);
}

enum status chosen_rows_pack(struct chosen_rows *chosen, const struct joint *joint,
                             const struct pick *picks, size_t n, struct arena *arena,
                             struct error *err)
{
    struct arena mark = *arena;
    float *row;
    enum status st = arena_alloc(arena, widest(joint) * sizeof *row, &row, err);

    chosen->n = n;
    for (int m = 0; m < JOINT_MODELS && st == ST_OK; m++)
        for (int s = 0; s < PAIR_SIDES && chosen->strips[m][s] != NULL; s++)
            for (size_t p = 0; p < n; p++) {
                size_t i = picks[p].index - joint->first;

                if (picks[p].index >= joint->first && i < joint->n)
                    pack(chosen->strips[m][s] + p / DOTS_COLUMNS * DOTS_COLUMNS * chosen->D[m],
                         DOTS_COLUMNS, p % DOTS_COLUMNS, &joint->rows[m], (enum pair_side)s, i,
                         row);
            }
    arena_rewind(arena, &mark);
    return st;
}

/* One pass over rows of this place; shared by its threads. */
struct pass {
    struct joint *joint;
    const struct chosen_rows *chosen;
    const uint32_t *rows; /* [n] of this place */
    size_t n, tile_rows;
    int n_sides;    /* 1: images of the rows with texts of the chosen ones alone */
    double *sums;   /* [n] sums of losses; NULL: into the joint's gains */
    float *scratch; /* [n_threads][scratch_floats] */
    double *totals; /* [n_threads][2 tile_rows] */
    size_t scratch_floats;
    atomic_size_t next;
    atomic_bool late;
    atomic_ullong multiply_adds;
};

static void log_sum_add(struct running_log_sum *log_sum, double most, double sum)
{
    if (log_sum->sum == 0)
        *log_sum = (struct running_log_sum){most, sum};
    else if (most > log_sum->most)
        *log_sum = (struct running_log_sum){most, sum + log_sum->sum * exp(log_sum->most - most)};
    else
        log_sum->sum += sum * exp(most - log_sum->most);
}

/* What one model says about a tile of rows, one side of them, and all chosen ones. */
static void score_side(struct pass *pass, int m, int side, const uint32_t *rows, size_t n,
                       float *scratch, double *sums)
{
    struct joint *joint = pass->joint;
    const struct pair_rows *model = &joint->rows[m];
    const float *strips = pass->chosen->strips[m][1 - side];
    size_t D = model->model.D, panel_rows = dots_rows(), padded = round_up(n, panel_rows);
    float *panels = scratch, *row = panels + padded * D, *products = row + D;
    struct running_log_sum *logs = joint->logs[m][side];
    float scale = (float)model->scale, bias = (float)model->bias;

    memset(panels + (padded - panel_rows) * D, 0, panel_rows * D * sizeof *panels);
    for (size_t r = 0; r < n; r++)
        pack(panels + r / panel_rows * panel_rows * D, panel_rows, r % panel_rows, model,
             (enum pair_side)side, rows[r], row);
    for (size_t group = 0; group < pass->chosen->n; group += JOINT_GROUP) {
        size_t columns = MIN(pass->chosen->n - group, (size_t)JOINT_GROUP);

        for (size_t panel = 0; panel < padded; panel += panel_rows) {
            for (size_t c = 0; c < columns; c += DOTS_COLUMNS)
                dots_product(products + c, JOINT_GROUP, panels + panel * D,
                             strips + (group + c) * D, D);
            for (size_t r = panel; r < MIN(panel + panel_rows, n); r++) {
                const float *product = products + (r - panel) * JOINT_GROUP;
                float most, sum;

                if (logs == NULL) {
                    sums[r] += (double)ops_softplus_sum(product, columns, scale, bias);
                } else {
                    ops_max_sum_exp(product, columns, scale, &most, &sum);
                    log_sum_add(&logs[rows[r]], model->scale * (double)most, (double)sum);
                }
            }
        }
    }
    (void)atomic_fetch_add(&pass->multiply_adds,
                           padded * round_up(pass->chosen->n, DOTS_COLUMNS) * D);
}

static enum status score_tiles(void *ctx, size_t thread, struct error *err)
{
    struct pass *pass = ctx;
    struct joint *joint = pass->joint;
    int64_t deadline = joint->options->deadline_ns;
    float *scratch = pass->scratch + thread * pass->scratch_floats;
    double *total = pass->totals + thread * 2 * pass->tile_rows, *sums = total + pass->tile_rows;
    size_t begin;

    while ((begin = atomic_fetch_add(&pass->next, pass->tile_rows)) < pass->n) {
        const uint32_t *rows = pass->rows + begin;
        size_t n = MIN(pass->n - begin, pass->tile_rows);

        if (deadline != 0 && clock_monotonic_ns() > deadline)
            return error_set(err, ST_TIMEOUT, "the deadline passed while selecting");
        memset(total, 0, n * sizeof *total);
        for (int m = 0; m < JOINT_MODELS; m++) {
            memset(sums, 0, n * sizeof *sums);
            for (int s = 0; s < pass->n_sides && joint->sign[m] != 0; s++)
                score_side(pass, m, s, rows, n, scratch, sums);
            for (size_t r = 0; r < n; r++)
                total[r] += joint->sign[m] * sums[r];
        }
        for (size_t r = 0; r < n; r++)
            if (pass->sums != NULL)
                pass->sums[begin + r] = total[r];
            else
                joint->gain[rows[r]] += total[r];
    }
    return ST_OK;
}

/* The rest of `pass` is filled; scratch comes and goes. */
static enum status run(struct pass *pass, struct arena *arena, struct error *err)
{
    struct joint *joint = pass->joint;
    size_t threads = joint->options->n_threads;
    size_t tile = joint->options->tile_rows != 0 ? joint->options->tile_rows : TILE_ROWS;
    enum status st;

    pass->tile_rows = MIN(tile, MAX(pass->n, (size_t)1));
    pass->scratch_floats = (round_up(pass->tile_rows, dots_rows()) + 1) * widest(joint) +
                           (size_t)DOTS_MAX_ROWS * JOINT_GROUP;
    st = arena_alloc(arena, threads * pass->scratch_floats * sizeof(float), &pass->scratch, err);
    if (st == ST_OK)
        st = arena_alloc(arena, threads * 2 * pass->tile_rows * sizeof(double), &pass->totals, err);
    if (st == ST_OK)
        st = parallel_run(threads, threads, score_tiles, pass, err);
    joint->multiply_adds += atomic_load(&pass->multiply_adds);
    return st;
}

static enum status list_usable(const struct joint *joint, uint32_t **rows, size_t *n,
                               struct arena *arena, struct error *err)
{
    enum status st = arena_alloc(arena, joint->n * sizeof **rows, rows, err);

    *n = 0;
    for (size_t i = 0; i < joint->n && st == ST_OK; i++)
        if (joint->usable[i])
            (*rows)[(*n)++] = (uint32_t)i;
    return st;
}

enum status joint_take(struct joint *joint, const struct chosen_rows *chosen, struct arena *arena,
                       struct error *err)
{
    struct pass pass = {.joint = joint, .chosen = chosen, .n_sides = PAIR_SIDES};
    struct arena mark = *arena;
    uint32_t *rows;
    enum status st = list_usable(joint, &rows, &pass.n, arena, err);

    if (st == ST_OK) {
        pass.rows = rows;
        st = run(&pass, arena, err);
    }
    arena_rewind(arena, &mark);
    return st;
}

enum status joint_sum_negatives(struct joint *joint, const struct pick *picks, size_t n,
                                const struct chosen_rows *chosen, double *sum, struct arena *arena,
                                struct error *err)
{
    struct pass pass = {.joint = joint, .chosen = chosen, .n = n, .n_sides = 1};
    struct arena mark = *arena;
    uint32_t *rows;
    enum status st = arena_alloc(arena, n * sizeof *rows, &rows, err);

    *sum = 0;
    if (st == ST_OK)
        st = arena_alloc(arena, n * sizeof *pass.sums, &pass.sums, err);
    if (st == ST_OK) {
        for (size_t p = 0; p < n; p++)
            rows[p] = picks[p].index - (uint32_t)joint->first;
        pass.rows = rows;
        st = run(&pass, arena, err);
    }
    for (size_t p = 0; p < n && st == ST_OK; p++)
        *sum += pass.sums[p];
    arena_rewind(arena, &mark);
    return st;
}

/* The same in double, pair by pair. */
struct exact_pass {
    struct joint *joint;
    const uint32_t *rows; /* [n] candidates */
    size_t n;
    const struct pick *picks;
    size_t n_picks;
    const float *chosen[JOINT_MODELS][PAIR_SIDES]; /* [n_picks, D] */
    float *scratch;                                /* [n_threads][2 widest] */
    atomic_size_t next;
};

KERNEL_CLONES static double dot(const float *u, const float *v, size_t D)
{
    double lane[EXACT_LANES] = {0};
    size_t d = 0;

    for (; d + EXACT_LANES <= D; d += EXACT_LANES)
        for (size_t l = 0; l < EXACT_LANES; l++)
            lane[l] += (double)u[d + l] * (double)v[d + l];
    for (size_t l = 0; d < D; d++, l++)
        lane[l] += (double)u[d] * (double)v[d];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static void score_exactly(struct exact_pass *pass, int m, size_t i, float *own[PAIR_SIDES],
                          double *total)
{
    struct joint *joint = pass->joint;
    const struct pair_rows *rows = &joint->rows[m];
    size_t D = rows->model.D;
    double sum = 0;

    for (int s = 0; s < PAIR_SIDES; s++)
        pair_rows_get(rows, (enum pair_side)s, i, own[s]);
    for (size_t p = 0; p < pass->n_picks; p++)
        for (int s = 0; s < PAIR_SIDES; s++) {
            size_t j = pass->picks[p].index - joint->first;
            double cos = dot(own[s], pass->chosen[m][1 - s] + p * D, D) * rows->inverse[s][i] *
                         rows->inverse[1 - s][j];
            double logit = rows->scale * cos + rows->bias;

            if (joint->logs[m][s] != NULL)
                log_sum_add(&joint->logs[m][s][i], logit, 1);
            else
                sum += pair_softplus(logit);
        }
    *total += joint->sign[m] * sum;
}

static enum status score_rows_exactly(void *ctx, size_t thread, struct error *err)
{
    struct exact_pass *pass = ctx;
    size_t width = widest(pass->joint), r;
    float *own[PAIR_SIDES] = {pass->scratch + thread * 2 * width,
                              pass->scratch + (thread * 2 + 1) * width};

    (void)err;
    while ((r = atomic_fetch_add(&pass->next, 1)) < pass->n) {
        double total = 0;

        for (int m = 0; m < JOINT_MODELS; m++)
            if (pass->joint->sign[m] != 0)
                score_exactly(pass, m, pass->rows[r], own, &total);
        pass->joint->gain[pass->rows[r]] += total;
    }
    return ST_OK;
}

enum status joint_take_exact(struct joint *joint, const struct pick *picks, size_t n,
                             struct arena *arena, struct error *err)
{
    struct exact_pass pass = {.joint = joint, .picks = picks, .n_picks = n};
    size_t threads = joint->options->n_threads;
    struct arena mark = *arena;
    uint32_t *rows;
    enum status st = list_usable(joint, &rows, &pass.n, arena, err);

    pass.rows = rows;
    if (st == ST_OK)
        st = arena_alloc(arena, threads * 2 * widest(joint) * sizeof(float), &pass.scratch, err);
    for (int m = 0; m < JOINT_MODELS && st == ST_OK; m++)
        for (int s = 0; s < PAIR_SIDES && joint->sign[m] != 0 && st == ST_OK; s++) {
            size_t D = joint->rows[m].model.D;
            float *copy;

            st = arena_alloc(arena, n * D * sizeof *copy, &copy, err);
            pass.chosen[m][s] = copy;
            for (size_t p = 0; p < n && st == ST_OK; p++)
                pair_rows_get(&joint->rows[m], (enum pair_side)s, picks[p].index - joint->first,
                              copy + p * D);
        }
    if (st == ST_OK)
        st = parallel_run(threads, threads, score_rows_exactly, &pass, err);
    arena_rewind(arena, &mark);
    return st;
}
