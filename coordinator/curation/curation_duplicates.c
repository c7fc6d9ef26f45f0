/* Steps that drop duplicates; part of curation_steps.h. */
#include "coordinator/curation/curation_steps.h"
#include "coordinator/curation/dataset_images.h"
#include "reinforce/base/scratch.h"
#include "reinforce/curate/duplicates.h"
#include "worker/model_record.h"

#include <assert.h>

/* What the steps that look for duplicates need of the images, and where it is put. */
struct evidence {
    struct dataset_images images;
    struct dataset_embeddings embeddings[CURATION_MAX_STEPS];
    struct scratch scratch[CURATION_MAX_STEPS];         /* by step */
    struct curation_ranking ranked[CURATION_MAX_STEPS]; /* by step: how its rows were ranked */
    size_t place[CURATION_MAX_STEPS];                   /* by step: in embeddings */
};

static void release_evidence(struct evidence *evidence)
{
    for (size_t k = 0; k < CURATION_MAX_STEPS; k++)
        scratch_close(&evidence->scratch[k]);
}

static enum status want_embeddings(struct curation_run *run, size_t step, struct evidence *evidence,
                                   struct error *err)
{
    const struct curation_duplicates *how = &run->curation->duplicates[step];
    struct dataset_embeddings *to = &evidence->embeddings[evidence->images.n_embeddings];
    struct model_teacher teacher;
    uint32_t *rank;
    enum status st = model_record_teacher(run->out->store, how->teacher, &teacher, err);

    to->first = teacher.first;
    to->dim = teacher.dim;
    if (st == ST_OK)
        st = curation_rank(run, how->best, &evidence->ranked[step], err);
    if (st == ST_OK)
        st = arena_calloc(&run->arena, run->pool.pool.n, sizeof *rank, &rank, err);
    if (st == ST_OK && evidence->ranked[step].n > 0)
        st = scratch_open(&evidence->scratch[step],
                          evidence->ranked[step].n * to->dim * sizeof(float), err);
    if (st != ST_OK)
        return st;
    for (size_t r = 0; r < evidence->ranked[step].n; r++)
        rank[evidence->ranked[step].rows[r]] = (uint32_t)r;
    to->array = "image_emb";
    to->rank = rank;
    to->rows = evidence->scratch[step].memory;
    evidence->place[step] = evidence->images.n_embeddings++;
    return ST_OK;
}

/* One pass over the shards for all steps. */
static enum status gather(struct curation_run *run, struct evidence *evidence, struct error *err)
{
    const struct curation *curation = run->curation;
    size_t n = run->pool.pool.n;
    bool *wanted;
    enum status st = arena_alloc(&run->arena, n * sizeof *wanted, &wanted, err);

    evidence->images.embeddings = evidence->embeddings;
    for (size_t k = 0; k < curation->n_duplicates && st == ST_OK; k++) {
        enum curation_alike alike = curation->duplicates[k].alike;

        if (alike == CURATION_ALIKE_CONTENT && evidence->images.content == NULL)
            st = arena_calloc(&run->arena, n, sizeof *evidence->images.content,
                              &evidence->images.content, err);
        else if (alike == CURATION_ALIKE_PERCEPTUAL && evidence->images.hashes == NULL)
            st = arena_calloc(&run->arena, n, sizeof *evidence->images.hashes,
                              &evidence->images.hashes, err);
        else if (alike == CURATION_ALIKE_EMBEDDING)
            st = want_embeddings(run, k, evidence, err);
        if (st != ST_OK)
            error_add_context(err, "%s", curation->duplicates[k].name);
    }
    if (st != ST_OK)
        return st;
    for (size_t row = 0; row < n; row++)
        wanted[row] = run->decisions[row] == CURATION_KEPT;
    return dataset_images_read(run->out, &run->pool, wanted, curation_n_threads(curation),
                               &evidence->images, err);
}

/* Embeddings of rows that an earlier step has dropped are left out; order stays. */
static void close_ranks(const struct curation_run *run, size_t step, struct evidence *evidence,
                        struct curation_ranking *ranking)
{
    const struct dataset_embeddings *from = &evidence->embeddings[evidence->place[step]];

    *ranking = evidence->ranked[step];
    ranking->n = 0;
    for (size_t r = 0; r < evidence->ranked[step].n; r++) {
        uint32_t row = ranking->rows[r];

        if (run->decisions[row] != CURATION_KEPT)
            continue;
        if (ranking->n != r)
            memcpy(from->rows + ranking->n * from->dim, from->rows + r * from->dim,
                   from->dim * sizeof(float));
        ranking->rows[ranking->n++] = row;
    }
}

static enum status compare(struct curation_run *run, size_t step, struct evidence *evidence,
                           const struct curation_ranking *ranking, const struct duplicates *found,
                           struct error *err)
{
    const struct curation_duplicates *how = &run->curation->duplicates[step];
    struct example_id *keys;
    uint64_t *hashes;
    enum status st;

    switch (how->alike) {
    case CURATION_ALIKE_CONTENT:
        assert(evidence->images.content != NULL); /* gather() has seen the step */
        st = arena_alloc(&run->arena, ranking->n * sizeof *keys, &keys, err);
        for (size_t r = 0; r < ranking->n && st == ST_OK; r++)
            keys[r] = evidence->images.content[ranking->rows[r]];
        return st == ST_OK ? duplicates_by_key(keys, ranking->n, found, &run->arena, err) : st;
    case CURATION_ALIKE_PERCEPTUAL:
        assert(evidence->images.hashes != NULL);
        st = arena_alloc(&run->arena, ranking->n * sizeof *hashes, &hashes, err);
        for (size_t r = 0; r < ranking->n && st == ST_OK; r++)
            hashes[r] = evidence->images.hashes[ranking->rows[r]];
        return st == ST_OK
                   ? duplicates_by_bits(hashes, ranking->n, how->bits, found, &run->arena, err)
                   : st;
    case CURATION_ALIKE_EMBEDDING:
        return duplicates_by_embedding(evidence->scratch[step].memory, ranking->n,
                                       evidence->embeddings[evidence->place[step]].dim, how->radius,
                                       curation_n_threads(run->curation), found, &run->arena, err);
    }
    return error_set(err, ST_INTERNAL, "unknown kind of duplicates %d", (int)how->alike);
}

static enum status drop_step(struct curation_run *run, size_t step, struct evidence *evidence,
                             struct error *err)
{
    const struct curation_duplicates *how = &run->curation->duplicates[step];
    struct arena mark = run->arena;
    struct duplicates found = {.of = NULL};
    struct curation_ranking ranking = {NULL, 0};
    enum status st = ST_OK;

    if (how->alike == CURATION_ALIKE_EMBEDDING)
        close_ranks(run, step, evidence, &ranking);
    else
        st = curation_rank(run, how->best, &ranking, err);
    if (st == ST_OK)
        st = arena_alloc(&run->arena, ranking.n * sizeof *found.of, &found.of, err);
    if (st == ST_OK)
        st = arena_alloc(&run->arena, ranking.n * sizeof *found.distance, &found.distance, err);
    if (st == ST_OK)
        st = compare(run, step, evidence, &ranking, &found, err);
    for (size_t r = 0; r < ranking.n && st == ST_OK; r++) {
        uint32_t row = ranking.rows[r];

        if (found.of[r] == DUPLICATE_OF_NONE)
            continue;
        curation_decide(run, row, curation_decision(run->curation, CURATION_STEP_DUPLICATES, step));
        run->twins[row] = ranking.rows[found.of[r]];
        run->values[row] = found.distance[r];
    }
    arena_rewind(&run->arena, &mark);
    if (st != ST_OK)
        error_add_context(err, "%s", how->name);
    return st;
}

enum status curation_drop_duplicates(struct curation_run *run, struct error *err)
{
    struct evidence evidence = {.images = {0}};
    enum status st = gather(run, &evidence, err);

    for (size_t k = 0; k < run->curation->n_duplicates && st == ST_OK; k++)
        st = drop_step(run, k, &evidence, err);
    release_evidence(&evidence);
    return st;
}
