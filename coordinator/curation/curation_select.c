/* The step that selects jointly; part of curation_steps.h. */
#include "coordinator/curation/curation_steps.h"
#include "coordinator/curation/dataset_images.h"
#include "reinforce/base/scratch.h"
#include "reinforce/curate/selection.h"
#include "worker/model_record.h"

#include <stdio.h>

enum { MAX_THREADS = 64, ARRAYS = 4, ARRAY_NAME = 128 };

/* Images and captions under learner and reference, in the order of the dataset. */
struct rows {
    struct dataset_embeddings arrays[ARRAYS]; /* learner's images, captions; the reference's */
    struct scratch scratch[ARRAYS];
    const struct dataset_embeddings *models[2]; /* their first array; NULL: not read */
    char caption[ARRAY_NAME];
    struct dataset_images images;
};

static enum status want_model(struct curation_run *run, const struct score_model *model,
                              const uint32_t *rank, size_t n, struct rows *rows, size_t role,
                              struct error *err)
{
    const char *const names[PAIR_SIDES] = {"image_emb", rows->caption};
    struct model_teacher teacher;
    enum status st = model_record_teacher(run->out->store, model->teacher, &teacher, err);

    for (size_t side = 0; side < PAIR_SIDES && st == ST_OK; side++) {
        struct dataset_embeddings *to = &rows->arrays[rows->images.n_embeddings];

        to->first = teacher.first;
        to->dim = teacher.dim;
        st = scratch_open(&rows->scratch[rows->images.n_embeddings], n * to->dim * sizeof(float),
                          err);
        to->array = names[side];
        to->rank = rank;
        to->rows = rows->scratch[rows->images.n_embeddings].memory;
        if (side == PAIR_IMAGE)
            rows->models[role] = to;
        rows->images.n_embeddings++;
    }
    return st;
}

static enum status read_rows(struct curation_run *run, const struct curation_ranking *kept,
                             struct rows *rows, struct error *err)
{
    const struct curation_select *how = &run->curation->select;
    const struct score_model *const models[] = {&how->learner, &how->reference};
    size_t n = run->pool.pool.n;
    uint32_t *rank;
    bool *wanted;
    enum status st = arena_calloc(&run->arena, n, sizeof *rank, &rank, err);

    if (st == ST_OK)
        st = arena_calloc(&run->arena, n, sizeof *wanted, &wanted, err);
    for (size_t r = 0; r < kept->n && st == ST_OK; r++) {
        rank[kept->rows[r]] = (uint32_t)r;
        wanted[kept->rows[r]] = true;
    }
    (void)snprintf(rows->caption, sizeof rows->caption, "%.100s_emb", how->caption);
    rows->images.embeddings = rows->arrays;
    for (size_t role = 0; role < ARRAY_LEN(models) && st == ST_OK; role++)
        if (models[role]->teacher != NULL)
            st = want_model(run, models[role], rank, kept->n, rows, role, err);
    return st == ST_OK ? dataset_images_read(run->out, &run->pool, wanted,
                                             curation_n_threads(run->curation), &rows->images, err)
                       : st;
}

/* Rows [begin, begin + B) as one model sees them. */
static struct pair_model model_at(const struct dataset_embeddings *arrays,
                                  const struct score_model *model, size_t begin, size_t B)
{
    struct pair_model pairs = {.dtype = TENSOR_F32};

    if (arrays == NULL)
        return pairs;
    pairs.D = arrays->dim;
    pairs.scale = (float)model->scale;
    pairs.bias = (float)model->bias;
    for (size_t side = 0; side < PAIR_SIDES; side++)
        pairs.rows[side] =
            bytes_view_of(arrays[side].rows + begin * arrays->dim, B * arrays->dim * sizeof(float));
    return pairs;
}

static void set_options(const struct curation_run *run, size_t B, uint32_t step,
                        struct selection_options *options)
{
    const struct curation_select *how = &run->curation->select;

    selection_options_default(options);
    options->criterion = how->criterion;
    options->n_selected = MAX((size_t)((double)B * how->keep), (size_t)1);
    options->n_chunks = MIN((size_t)how->chunks, options->n_selected);
    options->gain = how->gain;
    options->top_k = how->top_k;
    options->seed = run->curation->seed;
    options->step = step;
    options->n_threads = MIN(curation_n_threads(run->curation), (size_t)MAX_THREADS);
}

static enum status select_batch(struct curation_run *run, const struct curation_ranking *kept,
                                const struct rows *rows, size_t begin, size_t B, uint32_t step,
                                struct error *err)
{
    const struct curation_select *how = &run->curation->select;
    struct arena mark = run->arena;
    struct super_batch batch = {.B = B,
                                .learner = model_at(rows->models[0], &how->learner, begin, B),
                                .reference = model_at(rows->models[1], &how->reference, begin, B)};
    struct selection_options options;
    struct selection selection;
    struct example_id *ids;
    bool *chosen;
    enum status st = arena_alloc(&run->arena, B * sizeof *ids, &ids, err);

    if (st == ST_OK)
        st = arena_calloc(&run->arena, B, sizeof *chosen, &chosen, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < B; i++)
        ids[i] = run->pool.pool.ids[kept->rows[begin + i]];
    batch.ids = ids;
    set_options(run, B, step, &options);
    st = selection_run(&batch, &options, &selection, &run->arena, err);
    for (size_t i = 0; st == ST_OK && i < selection.n; i++)
        chosen[selection.index[i]] = true;
    for (size_t i = 0; i < B && st == ST_OK; i++) {
        uint32_t row = kept->rows[begin + i];

        if (chosen[i])
            continue;
        curation_decide(run, row, curation_decision(run->curation, CURATION_STEP_SELECT, 0));
        run->values[row] = selection.marginals[i];
    }
    arena_rewind(&run->arena, &mark);
    return st;
}

enum status curation_select(struct curation_run *run, struct error *err)
{
    size_t B = (size_t)run->curation->select.super_batch;
    struct rows rows = {.models = {NULL, NULL}};
    struct curation_ranking kept;
    uint32_t step = 0;
    enum status st = curation_rank(run, CURATION_NO_SCORE, &kept, err);

    if (st == ST_OK && kept.n > 0)
        st = read_rows(run, &kept, &rows, err);
    for (size_t at = 0; at < kept.n && st == ST_OK; at += B, step++)
        st = select_batch(run, &kept, &rows, at, MIN(B, kept.n - at), step, err);
    for (size_t i = 0; i < ARRAYS; i++)
        scratch_close(&rows.scratch[i]);
    if (st != ST_OK)
        error_add_context(err, "select");
    return st;
}
