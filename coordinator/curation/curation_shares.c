/* Steps that set shares, by lot or by score; part of curation_steps.h. */
#include "coordinator/curation/curation_steps.h"
#include "reinforce/base/philox.h"
#include "reinforce/curate/balance.h"
#include "reinforce/curate/mix.h"

#include <math.h>
#include <stdlib.h>

static uint64_t draw(const struct curation_run *run, size_t row, enum philox_stage stage,
                     size_t step)
{
    struct philox rng;
    uint64_t high;

    philox_init(&rng, run->curation->seed, dataset_pool_uid(&run->pool, row), stage,
                (uint32_t)step);
    high = philox_u32(&rng);
    return high << 32 | philox_u32(&rng);
}

/* Attributes and concepts of the rows that are kept so far. */
static void fill_patterns(const struct curation_run *run, const struct curation_balance *how,
                          const struct curation_ranking *kept, uint32_t *patterns)
{
    const struct pool *pool = &run->pool.pool;

    for (size_t r = 0; r < kept->n; r++) {
        uint32_t bits = 0, row = kept->rows[r];

        for (size_t i = 0; i < how->n_attributes; i++)
            bits |= (uint32_t)rule_holds(&how->attributes[i], pool, row) << i;
        for (size_t i = 0; i < how->n_concepts; i++)
            bits |= (uint32_t)rule_holds(&how->concepts[i], pool, row) << (how->n_attributes + i);
        patterns[r] = bits;
    }
}

enum status curation_balance(struct curation_run *run, size_t k, struct error *err)
{
    const struct curation_balance *how = &run->curation->balances[k];
    const struct balance_options options = {.n_attributes = how->n_attributes,
                                            .n_concepts = how->n_concepts,
                                            .targets = how->targets,
                                            .representation = how->representation,
                                            .association = how->association,
                                            .strength = how->strength};
    struct arena mark = run->arena;
    struct curation_ranking kept;
    uint32_t *patterns;
    double *q;
    enum status st = curation_rank(run, CURATION_NO_SCORE, &kept, err);

    if (st == ST_OK)
        st = arena_alloc(&run->arena, kept.n * sizeof *patterns, &patterns, err);
    if (st == ST_OK)
        st = arena_alloc(&run->arena, kept.n * sizeof *q, &q, err);
    if (st == ST_OK) {
        fill_patterns(run, how, &kept, patterns);
        st = balance_probabilities(patterns, kept.n, &options, q, &run->violations[k], &run->arena,
                                   err);
    }
    for (size_t r = 0; r < kept.n && st == ST_OK; r++) {
        uint32_t row = kept.rows[r];

        /* uniform in [0, 1): 53 bits */
        if ((double)(draw(run, row, PHILOX_STAGE_BALANCE, k) >> 11) * 0x1p-53 < q[r])
            continue;
        curation_decide(run, row, curation_decision(run->curation, CURATION_STEP_BALANCE, k));
        run->values[row] = (float)q[r];
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
static enum status shuffle(struct curation_run *run, size_t step, struct curation_ranking *ranking,
                           struct error *err)
{
    struct lot *lots;
    enum status st = arena_alloc(&run->arena, ranking->n * sizeof *lots, &lots, err);

    if (st != ST_OK)
        return st;
    for (size_t r = 0; r < ranking->n; r++) {
        lots[r].row = ranking->rows[r];
        lots[r].number = draw(run, lots[r].row, PHILOX_STAGE_MIX, step);
    }
    qsort(lots, ranking->n, sizeof *lots, by_number);
    for (size_t r = 0; r < ranking->n; r++)
        ranking->rows[r] = lots[r].row;
    return ST_OK;
}

enum status curation_mix(struct curation_run *run, size_t k, struct error *err)
{
    const struct curation_mix *how = &run->curation->mixes[k];
    const struct pool *pool = &run->pool.pool;
    struct arena mark = run->arena;
    size_t n[2] = {0, 0}, keep[2] = {0, 0}, seen[2] = {0, 0};
    struct curation_ranking ranking;
    enum status st = curation_rank(run, how->best, &ranking, err);

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
        curation_decide(run, row, curation_decision(run->curation, CURATION_STEP_MIX, k));
        run->values[row] = how->best == CURATION_NO_SCORE ? NAN : pool->scores[how->best][row];
    }
    arena_rewind(&run->arena, &mark);
    if (st != ST_OK)
        error_add_context(err, "%s", how->name);
    return st;
}
