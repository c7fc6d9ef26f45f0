#include "coordinator/curation/curation_run.h"

#include "coordinator/curation/dataset_images.h"
#include "reinforce/base/philox.h"
#include "reinforce/base/scratch.h"
#include "reinforce/curate/duplicates.h"
#include "reinforce/curate/mix.h"
#include "worker/model_record.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define RUN_ARENA_BYTES ((size_t)1 << 42) /* an address range */

const char *curation_step_name(const struct curation *curation, size_t decision)
{
    size_t step = decision - CURATION_FIRST_STEP;

    if (decision < CURATION_FIRST_STEP)
        return "keep";
    return step < curation->n_duplicates ? curation->duplicates[step].name
                                         : curation->mixes[step - curation->n_duplicates].name;
}

const struct rule *curation_run_rule(const struct curation_run *run, size_t row)
{
    const struct rule *keep = &run->curation->keep;

    for (size_t k = 0; k < keep->n_children; k++)
        if (!rule_holds(&keep->children[k], &run->pool.pool, row))
            return &keep->children[k];
    return keep;
}

static size_t n_threads(const struct curation *curation)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    return curation->threads > 0 ? (size_t)curation->threads : (size_t)MAX(processors, 1L);
}

/* Rows that are kept so far, the best first by a score, and what embeddings rank by. */
struct ranking {
    uint32_t *rows; /* [n] by rank */
    size_t n;
};

static enum status rank_kept(struct curation_run *run, uint32_t best, struct ranking *ranking,
                             struct error *err)
{
    const struct pool *pool = &run->pool.pool;
    size_t n = run->counts[CURATION_KEPT], at = 0;
    uint32_t *kept, *order;
    float *scores;
    enum status st = arena_alloc(&run->arena, n * sizeof *kept, &kept, err);

    ranking->n = n;
    if (st == ST_OK)
        st = arena_alloc(&run->arena, n * sizeof *order, &order, err);
    if (st == ST_OK)
        st = arena_alloc(&run->arena, n * sizeof *scores, &scores, err);
    if (st != ST_OK)
        return st;
    for (size_t row = 0; row < pool->n; row++)
        if (run->decisions[row] == CURATION_KEPT) {
            scores[at] = best == CURATION_NO_SCORE ? 0 : pool->scores[best][row];
            kept[at++] = (uint32_t)row;
        }
    st = duplicates_rank(scores, n, order, &run->arena, err);
    for (size_t r = 0; r < n && st == ST_OK; r++)
        order[r] = kept[order[r]];
    ranking->rows = order;
    return st;
}

static void decide(struct curation_run *run, size_t row, size_t decision)
{
    run->counts[run->decisions[row]]--;
    run->counts[decision]++;
    run->decisions[row] = (uint8_t)decision;
}

static enum status apply_rules(struct curation_run *run, struct error *err)
{
    const struct pool *pool = &run->pool.pool;
    enum status st = rules_resolve(&run->curation->keep, pool, &run->arena, err);

    for (size_t k = 0; k < run->curation->n_mixes && st == ST_OK; k++)
        st = rules_resolve(&run->curation->mixes[k].which, pool, &run->arena, err);
    for (size_t row = 0; row < pool->n && st == ST_OK; row++)
        if (!rule_holds(&run->curation->keep, pool, row))
            decide(run, row, CURATION_DROPPED_BY_RULE);
    return st;
}

/* What the steps that look for duplicates need of the images, and where it is put. */
struct evidence {
    struct dataset_images images;
    struct dataset_embeddings embeddings[CURATION_MAX_STEPS];
    struct scratch scratch[CURATION_MAX_STEPS]; /* by step */
    struct ranking ranked[CURATION_MAX_STEPS];  /* by step: how its rows were ranked */
    size_t place[CURATION_MAX_STEPS];           /* by step: in embeddings */
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
        st = rank_kept(run, how->best, &evidence->ranked[step], err);
    if (st == ST_OK)
        st = arena_calloc(&run->arena, run->pool.pool.n, sizeof *rank, &rank, err);
    if (st == ST_OK && evidence->ranked[step].n > 0)
        st = scratch_open(&evidence->scratch[step],
                          evidence->ranked[step].n * to->dim * sizeof(float), err);
    if (st != ST_OK)
        return st;
    for (size_t r = 0; r < evidence->ranked[step].n; r++)
        rank[evidence->ranked[step].rows[r]] = (uint32_t)r;
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
    return dataset_images_read(run->out, &run->pool, wanted, n_threads(curation), &evidence->images,
                               err);
}

/* Embeddings of rows that an earlier step has dropped are left out; order stays. */
static void close_ranks(const struct curation_run *run, size_t step, struct evidence *evidence,
                        struct ranking *ranking)
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
                           const struct ranking *ranking, const struct duplicates *found,
                           struct error *err)
{
    const struct curation_duplicates *how = &run->curation->duplicates[step];
    struct example_id *keys;
    uint64_t *hashes;
    enum status st;

    switch (how->alike) {
    case CURATION_ALIKE_CONTENT:
        st = arena_alloc(&run->arena, ranking->n * sizeof *keys, &keys, err);
        for (size_t r = 0; r < ranking->n && st == ST_OK; r++)
            keys[r] = evidence->images.content[ranking->rows[r]];
        return st == ST_OK ? duplicates_by_key(keys, ranking->n, found, &run->arena, err) : st;
    case CURATION_ALIKE_PERCEPTUAL:
        st = arena_alloc(&run->arena, ranking->n * sizeof *hashes, &hashes, err);
        for (size_t r = 0; r < ranking->n && st == ST_OK; r++)
            hashes[r] = evidence->images.hashes[ranking->rows[r]];
        return st == ST_OK
                   ? duplicates_by_bits(hashes, ranking->n, how->bits, found, &run->arena, err)
                   : st;
    case CURATION_ALIKE_EMBEDDING:
        return duplicates_by_embedding(evidence->scratch[step].memory, ranking->n,
                                       evidence->embeddings[evidence->place[step]].dim, how->radius,
                                       n_threads(run->curation), found, &run->arena, err);
    }
    return error_set(err, ST_INTERNAL, "unknown kind of duplicates %d", (int)how->alike);
}

static enum status drop_duplicates(struct curation_run *run, size_t step, struct evidence *evidence,
                                   struct error *err)
{
    const struct curation_duplicates *how = &run->curation->duplicates[step];
    struct arena mark = run->arena;
    struct duplicates found = {NULL};
    struct ranking ranking = {NULL, 0};
    enum status st = ST_OK;

    if (how->alike == CURATION_ALIKE_EMBEDDING)
        close_ranks(run, step, evidence, &ranking);
    else
        st = rank_kept(run, how->best, &ranking, err);
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
        decide(run, row, CURATION_FIRST_STEP + step);
        run->twins[row] = ranking.rows[found.of[r]];
        run->values[row] = found.distance[r];
    }
    arena_rewind(&run->arena, &mark);
    if (st != ST_OK)
        error_add_context(err, "%s", how->name);
    return st;
}

struct lot {
    uint64_t number;
    uint32_t row;
};

static int by_number(const void *a, const void *b)
{
    const struct lot *x = a, *y = b;

    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Rows in the order of numbers that depend on seed, uid and step alone. */
static enum status shuffle(struct curation_run *run, size_t step, struct ranking *ranking,
                           struct error *err)
{
    struct lot *lots;
    enum status st = arena_alloc(&run->arena, ranking->n * sizeof *lots, &lots, err);

    if (st != ST_OK)
        return st;
    for (size_t r = 0; r < ranking->n; r++) {
        uint32_t row = ranking->rows[r];
        struct philox rng;

        philox_init(&rng, run->curation->seed, dataset_pool_uid(&run->pool, row), PHILOX_STAGE_MIX,
                    (uint32_t)step);
        lots[r].number = (uint64_t)philox_u32(&rng) << 32;
        lots[r].number |= philox_u32(&rng);
        lots[r].row = row;
    }
    qsort(lots, ranking->n, sizeof *lots, by_number);
    for (size_t r = 0; r < ranking->n; r++)
        ranking->rows[r] = lots[r].row;
    return ST_OK;
}

static enum status mix(struct curation_run *run, size_t k, struct error *err)
{
    const struct curation_mix *how = &run->curation->mixes[k];
    const struct pool *pool = &run->pool.pool;
    struct arena mark = run->arena;
    size_t n[2] = {0, 0}, keep[2] = {0, 0}, seen[2] = {0, 0};
    struct ranking ranking;
    enum status st = rank_kept(run, how->best, &ranking, err);

    if (st == ST_OK && how->best == CURATION_NO_SCORE)
        st = shuffle(run, k, &ranking, err);
    for (size_t r = 0; r < ranking.n && st == ST_OK; r++)
        n[rule_holds(&how->which, pool, ranking.rows[r])]++;
    if (st == ST_OK)
        st = mix_quotas(n[1], n[0], how->share, &keep[1], &keep[0], err);
    for (size_t r = 0; r < ranking.n && st == ST_OK; r++) {
        uint32_t row = ranking.rows[r];
        bool which = rule_holds(&how->which, pool, row);

        if (seen[which]++ < keep[which])
            continue;
        decide(run, row, CURATION_FIRST_STEP + run->curation->n_duplicates + k);
        run->values[row] = how->best == CURATION_NO_SCORE ? NAN : pool->scores[how->best][row];
    }
    arena_rewind(&run->arena, &mark);
    if (st != ST_OK)
        error_add_context(err, "%s", how->name);
    return st;
}

static enum status run_steps(struct curation_run *run, struct error *err)
{
    const struct curation *curation = run->curation;
    struct evidence evidence = {.images = {0}};
    enum status st = apply_rules(run, err);

    if (st == ST_OK && curation->n_duplicates > 0)
        st = gather(run, &evidence, err);
    for (size_t k = 0; k < curation->n_duplicates && st == ST_OK; k++)
        st = drop_duplicates(run, k, &evidence, err);
    for (size_t k = 0; k < curation->n_mixes && st == ST_OK; k++)
        st = mix(run, k, err);
    release_evidence(&evidence);
    return st;
}

enum status curation_run(struct curation_run *run, struct curation *curation, struct output *out,
                         struct error *err)
{
    size_t n;
    enum status st;

    memset(run, 0, sizeof *run);
    run->curation = curation;
    run->out = out;
    arena_init(&run->arena, RUN_ARENA_BYTES);
    st = dataset_pool_read(out, curation->scores, curation->n_scores, &run->pool, err);
    n = run->pool.pool.n;
    if (st == ST_OK)
        st = arena_calloc(&run->arena, n, sizeof *run->decisions, &run->decisions, err);
    if (st == ST_OK)
        st = arena_calloc(&run->arena, n, sizeof *run->twins, &run->twins, err);
    if (st == ST_OK)
        st = arena_calloc(&run->arena, n, sizeof *run->values, &run->values, err);
    run->counts[CURATION_KEPT] = n;
    if (st == ST_OK)
        st = run_steps(run, err);
    if (st != ST_OK)
        curation_run_release(run);
    return st;
}

void curation_run_release(struct curation_run *run)
{
    dataset_pool_release(&run->pool);
    arena_release(&run->arena);
    memset(run, 0, sizeof *run);
}
