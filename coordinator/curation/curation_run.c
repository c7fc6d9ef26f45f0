#include "coordinator/curation/curation_run.h"

#include "coordinator/curation/curation_steps.h"
#include "reinforce/curate/duplicates.h"
#include "worker/model_record.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define RUN_ARENA_BYTES ((size_t)1 << 42) /* an address range */

size_t curation_decision(const struct curation *curation, enum curation_step_kind kind, size_t k)
{
    const size_t counts[] = {[CURATION_STEP_DUPLICATES] = curation->n_duplicates,
                             [CURATION_STEP_SELECT] = curation->has_select,
                             [CURATION_STEP_BALANCE] = curation->n_balances};
    size_t decision = CURATION_FIRST_STEP + k;

    for (size_t before = 0; before < (size_t)kind; before++)
        decision += counts[before];
    return decision;
}

enum curation_step_kind curation_step(const struct curation *curation, size_t decision, size_t *k)
{
    enum curation_step_kind kind = CURATION_STEP_DUPLICATES;

    while (kind < CURATION_STEP_MIX &&
           decision >= curation_decision(curation, (enum curation_step_kind)(kind + 1), 0))
        kind = (enum curation_step_kind)(kind + 1);
    *k = decision - curation_decision(curation, kind, 0);
    return kind;
}

size_t curation_n_steps(const struct curation *curation)
{
    return curation_decision(curation, CURATION_STEP_MIX, curation->n_mixes) - CURATION_FIRST_STEP;
}

const char *curation_step_name(const struct curation *curation, size_t decision)
{
    size_t k;

    if (decision < CURATION_FIRST_STEP)
        return "keep";
    switch (curation_step(curation, decision, &k)) {
    case CURATION_STEP_DUPLICATES:
        return curation->duplicates[k].name;
    case CURATION_STEP_SELECT:
        return "select";
    case CURATION_STEP_BALANCE:
        return curation->balances[k].name;
    case CURATION_STEP_MIX:
        return curation->mixes[k].name;
    }
    return "";
}

size_t curation_n_threads(const struct curation *curation)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    return curation->threads > 0 ? (size_t)curation->threads : (size_t)MAX(processors, 1L);
}

const struct rule *curation_run_rule(const struct curation_run *run, size_t row)
{
    const struct rule *keep = &run->curation->keep;

    for (size_t k = 0; k < keep->n_children; k++)
        if (!rule_holds(&keep->children[k], &run->pool.pool, row))
            return &keep->children[k];
    return keep;
}

enum status curation_rank(struct curation_run *run, uint32_t best, struct curation_ranking *ranking,
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

void curation_decide(struct curation_run *run, size_t row, size_t decision)
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
    for (size_t k = 0; k < run->curation->n_balances && st == ST_OK; k++) {
        const struct curation_balance *how = &run->curation->balances[k];

        for (size_t i = 0; i < how->n_attributes && st == ST_OK; i++)
            st = rules_resolve(&how->attributes[i], pool, &run->arena, err);
        for (size_t i = 0; i < how->n_concepts && st == ST_OK; i++)
            st = rules_resolve(&how->concepts[i], pool, &run->arena, err);
    }
    for (size_t row = 0; row < pool->n && st == ST_OK; row++)
        if (!rule_holds(&run->curation->keep, pool, row))
            curation_decide(run, row, CURATION_DROPPED_BY_RULE);
    return st;
}

static enum status run_steps(struct curation_run *run, struct error *err)
{
    const struct curation *curation = run->curation;
    enum status st = apply_rules(run, err);

    if (st == ST_OK && curation->n_duplicates > 0)
        st = curation_drop_duplicates(run, err);
    if (st == ST_OK && curation->has_select)
        st = curation_select(run, err);
    for (size_t k = 0; k < curation->n_balances && st == ST_OK; k++)
        st = curation_balance(run, k, err);
    for (size_t k = 0; k < curation->n_mixes && st == ST_OK; k++)
        st = curation_mix(run, k, err);
    return st;
}

/* What the file leaves open of a model, from the dataset's own record. */
static enum status complete(const struct output *out, struct score_model *model, const char *role,
                            struct error *err)
{
    struct model_teacher teacher;
    enum status st;

    if (model->teacher == NULL || (!isnan(model->scale) && !isnan(model->bias)))
        return ST_OK;
    st = model_record_teacher(out->store, model->teacher, &teacher, err);
    if (st == ST_OK && isnan(model->bias) && teacher.logit_bias == 0)
        st = error_set(err, ST_INVALID,
                       "%s_bias must be given: teacher \"%s\" has none, as it was not trained with "
                       "a sigmoid loss",
                       role, model->teacher);
    if (isnan(model->scale))
        model->scale = (double)teacher.logit_scale;
    if (isnan(model->bias))
        model->bias = (double)teacher.logit_bias;
    return st;
}

static enum status complete_models(struct curation *curation, const struct output *out,
                                   struct error *err)
{
    enum status st = complete(out, &curation->select.learner, "learner", err);

    if (st == ST_OK)
        st = complete(out, &curation->select.reference, "reference", err);
    for (size_t i = 0; i < curation->refs.n_scores && st == ST_OK; i++) {
        st = complete(out, &curation->refs.scores[i].learner, "learner", err);
        if (st == ST_OK)
            st = complete(out, &curation->refs.scores[i].reference, "reference", err);
    }
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
    st = complete_models(curation, out, err);
    if (st == ST_OK)
        st =
            dataset_pool_read(out, curation->refs.scores, curation->refs.n_scores, &run->pool, err);
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
