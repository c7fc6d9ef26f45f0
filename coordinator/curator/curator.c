#include "coordinator/curator/curator.h"

#include "reinforce/base/clock.h"
#include "reinforce/curate/agreement.h"
#include "reinforce/curate/joint.h"
#include "reinforce/curate/selection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The numbers on the wire are the library's. */
_Static_assert((int)CURATOR_QUANTILES == (int)SELECTION_QUANTILES, "quantiles");

enum { DEFAULT_CHUNKS = 16, LEAST_COVERAGE_PERCENT = 90, NS_A_MS = 1000000 };

struct curator {
    struct curator_options options;
    struct arena arena;
};

enum status curator_create(const struct curator_options *options, struct curator **out,
                           struct error *err)
{
    struct curator *curator = calloc(1, sizeof *curator);

    *out = curator;
    if (curator == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a curator");
    curator->options = *options;
    arena_init(&curator->arena, options->max_bytes);
    return ST_OK;
}

void curator_destroy(struct curator **curator)
{
    if (*curator == NULL)
        return;
    arena_release(&(*curator)->arena);
    free(*curator);
    *curator = NULL;
}

/* A request as the library wants it. */
struct task {
    const struct curator_request *request;
    int64_t deadline_ns; /* 0: none */
    struct super_batch batch;
    struct selection_options options;
    struct selection selection;
    struct references_missing missing;
    enum answer_cause cause;
};

static enum status convert(struct task *task, struct arena *arena, struct error *err)
{
    const struct curator_request *request = task->request;
    struct example_id *ids;
    uint16_t *strata;
    enum status st = curator_ids(request->ids, request->B, &ids, arena, err);

    if (st == ST_OK)
        st = arena_alloc(arena, request->B * sizeof *strata, &strata, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < request->B && request->n_strata > 0; i++)
        strata[i] = (uint16_t)(request->strata.data[2 * i] | request->strata.data[2 * i + 1] << 8);
    task->batch = (struct super_batch){.B = request->B,
                                       .ids = ids,
                                       .strata = request->n_strata > 0 ? strata : NULL,
                                       .learner = curator_pair_model(&request->learner),
                                       .reference = curator_pair_model(&request->reference)};
    selection_options_default(&task->options);
    task->options.criterion = (enum selection_criterion)request->criterion;
    task->options.loss = (enum pair_loss)request->loss;
    task->options.n_selected = request->n_selected;
    task->options.n_chunks = request->n_chunks != 0
                                 ? request->n_chunks
                                 : MIN((size_t)DEFAULT_CHUNKS, request->n_selected);
    task->options.gain = request->gain;
    task->options.normalise_by_count = request->normalise_by_count;
    task->options.top_k = request->top_k;
    task->options.uniform_share = request->uniform_share;
    task->options.quotas = request->quotas;
    task->options.n_strata = request->n_strata;
    task->options.seed = request->seed;
    task->options.step = (uint32_t)request->step;
    task->options.batch_scores = request->batch_scores;
    task->options.deadline_ns = task->deadline_ns;
    return ST_OK;
}

static void reply_with_batch(const struct task *task, struct curator_reply *reply)
{
    const struct selection *selection = &task->selection;
    const struct selection_stats *stats = &selection->stats;
    size_t b = selection->n, B = task->request->all_marginals ? task->request->B : 0;

    reply->n_selected = b;
    reply->n_marginals = B;
    reply->index = bytes_view_of(selection->index, b * sizeof *selection->index);
    reply->chunk = bytes_view_of(selection->chunk, b * sizeof *selection->chunk);
    reply->marginal = bytes_view_of(selection->marginal, b * sizeof *selection->marginal);
    reply->conditional = bytes_view_of(selection->conditional, b * sizeof *selection->conditional);
    reply->marginals = bytes_view_of(selection->marginals, B * sizeof *selection->marginals);
    reply->statistics.n_strata = task->options.n_strata;
    reply->statistics.share_before = stats->share_before;
    reply->statistics.share_after = stats->share_after;
}

static void reply_with_statistics(const struct task *task, struct curator_reply *reply)
{
    const struct selection_stats *stats = &task->selection.stats;
    struct curator_statistics *to = &reply->statistics;

    to->n_usable = stats->n_usable;
    to->n_invalid = stats->n_invalid;
    to->n_duplicates = stats->n_duplicates;
    to->marginal_mean = stats->marginal_mean;
    memcpy(to->marginal_quantiles, stats->marginal_quantiles, sizeof to->marginal_quantiles);
    to->effective_sample_size = stats->effective_sample_size;
    to->batch_score = stats->batch_score;
    to->uniform_batch_score = stats->uniform_batch_score;
    to->scale_looks_logarithmic = stats->scale_looks_logarithmic;
}

static enum status fall_back(struct task *task, enum answer_cause cause, const char *reason,
                             struct curator_reply *reply, struct arena *arena, struct error *err)
{
    enum status st = selection_uniform(&task->batch, &task->options, &task->selection, arena, err);

    if (st == ST_OK) {
        task->cause = cause;
        reply->status = CURATOR_FALLBACK_UNIFORM;
        (void)snprintf(reply->reason, sizeof reply->reason, "%s", reason);
    }
    return st;
}

static bool is_late(const struct task *task)
{
    return task->deadline_ns != 0 && clock_monotonic_ns() >= task->deadline_ns;
}

/* ST_INVALID: what the criterion reads is not there. */
static enum status check_models(const struct curator *curator, const struct task *task, bool *own,
                                struct error *err)
{
    const struct curator_request *request = task->request;

    *own = selection_reference_sign(&task->options) != 0 && request->reference.D == 0;
    if (*own && curator->options.references == NULL)
        return error_set(err, ST_INVALID,
                         "the request brings no reference, and this curator has none");
    if (selection_learner_sign(&task->options) != 0 && request->learner.D == 0)
        return error_set(err, ST_INVALID, "the criterion reads the learner, which is not there");
    return ST_OK;
}

static enum status score_and_select(struct curator *curator, struct task *task, bool own,
                                    struct curator_reply *reply, struct error *err)
{
    const struct curator_references *references = curator->options.references;
    size_t B = task->request->B;
    char reason[128];
    enum status st = ST_OK;

    if (is_late(task)) /* before gigabytes are looked up and measured */
        return error_set(err, ST_TIMEOUT, "the deadline has passed before the selection began");
    if (own) {
        (void)snprintf(reply->reference_version, sizeof reply->reference_version, "%s",
                       references->version);
        st = references_fetch(references, task->batch.ids, B, &task->batch.reference,
                              &task->missing, &curator->arena, err);
        if (st != ST_OK)
            return st;
        references_missing_text(&task->missing, B, reason);
        if ((B - task->missing.n) * 100 < B * LEAST_COVERAGE_PERCENT)
            return fall_back(task, ANSWER_NO_REFERENCE, reason, reply, &curator->arena, err);
        if (task->missing.n > 0)
            (void)snprintf(reply->reason, sizeof reply->reason, "%s", reason);
    }
    st = selection_run(&task->batch, &task->options, &task->selection, &curator->arena, err);
    if (st == ST_OK)
        reply->status = task->selection.stats.n_usable < B ? CURATOR_OK_PARTIAL : CURATOR_OK;
    return st;
}

static enum status select_batch(struct curator *curator, struct task *task,
                                struct curator_fallback fallback, struct curator_reply *reply,
                                struct error *err)
{
    struct arena mark;
    bool own = false;
    enum status st = convert(task, &curator->arena, err);

    task->options.n_threads = curator->options.n_threads;
    if (st == ST_OK)
        st = selection_options_check(&task->options, task->request->B, err);
    if (st == ST_OK)
        st = check_models(curator, task, &own, err);
    if (st != ST_OK)
        return st;
    if (fallback.cause != ANSWER_SELECTED)
        return fall_back(task, fallback.cause, fallback.reason, reply, &curator->arena, err);
    mark = curator->arena;
    st = score_and_select(curator, task, own, reply, err);
    if (st != ST_TIMEOUT && st != ST_NO_MEMORY)
        return st;
    arena_rewind(&curator->arena, &mark);
    return fall_back(task, st == ST_TIMEOUT ? ANSWER_LATE : ANSWER_BUSY, err->message, reply,
                     &curator->arena, err);
}

enum status curator_answer(struct curator *curator, const struct curator_request *request,
                           int64_t received_ns, struct curator_fallback fallback,
                           struct curator_answer *answer, struct error *err)
{
    struct curator_reply reply = {.status = CURATOR_REJECTED};
    struct task task = {.request = request};
    enum status st;

    arena_reset(&curator->arena);
    memcpy(reply.job, request->job, sizeof reply.job);
    reply.super_batch = request->super_batch;
    reply.learner_step = request->learner_step;
    reply.staleness = request->step - MIN(request->step, request->learner_step);
    if (request->deadline_ms != 0)
        task.deadline_ns = received_ns + (int64_t)request->deadline_ms * NS_A_MS;
    st = select_batch(curator, &task, fallback, &reply, err);
    if (st == ST_INVALID) {
        reply.status = CURATOR_REJECTED;
        (void)snprintf(reply.reason, sizeof reply.reason, "%s", err->message);
    } else if (st != ST_OK) {
        return st;
    } else {
        reply_with_batch(&task, &reply);
    }
    reply_with_statistics(&task, &reply);
    reply.statistics.n_without_reference = task.missing.n;
    reply.statistics.select_ms = (uint64_t)((clock_monotonic_ns() - received_ns) / NS_A_MS);
    st = curator_answer_set(answer, &reply, curator->options.max_bytes, err);
    answer->cause = st == ST_OK ? task.cause : ANSWER_SELECTED;
    return st;
}

/* Every example's own score under a learner and the reference. */
static enum status score(const struct curator_probe_request *request,
                         const struct selection_options *options,
                         const struct pair_model models[JOINT_MODELS], const struct example_id *ids,
                         bool *usable, double **scores, struct arena *arena, struct error *err)
{
    struct joint joint;
    enum status st =
        joint_init(&joint, options, models, ids, NULL, 0, request->n, usable, arena, err);

    *scores = st == ST_OK ? joint.marginal : NULL;
    return st;
}

static enum status compare(const struct curator_probe_request *request, const bool *usable,
                           double *used, double *fresh, struct arena *arena,
                           struct curator_probe_reply *reply, struct error *err)
{
    struct score_agreement agreement;
    size_t n = 0;
    enum status st;

    for (size_t i = 0; i < request->n; i++)
        if (usable[i]) {
            used[n] = used[i];
            fresh[n++] = fresh[i];
        }
    if (n < request->n_top)
        return error_set(err, ST_INVALID,
                         "%zu of %zu examples can be compared, the overlap is to be of %zu", n,
                         request->n, request->n_top);
    st = score_agreement(&agreement, used, fresh, n, request->n_top, request->gain, arena, err);
    reply->n_compared = n;
    if (st == ST_OK) {
        reply->sigma = agreement.sigma;
        reply->spearman = agreement.spearman;
        reply->overlap = agreement.overlap;
        reply->alarm = agreement.alarm;
    }
    return st;
}

enum status curator_probe(struct curator *curator, const struct curator_probe_request *request,
                          struct curator_probe_reply *reply, struct error *err)
{
    const struct curator_references *references = curator->options.references;
    struct pair_model models[JOINT_MODELS] = {[JOINT_LEARNER] = curator_pair_model(&request->used),
                                              [JOINT_REFERENCE] =
                                                  curator_pair_model(&request->reference)};
    struct arena *arena = &curator->arena;
    struct references_missing missing;
    struct selection_options options;
    struct example_id *ids = NULL;
    double *used = NULL, *fresh = NULL;
    bool *usable = NULL;
    enum status st;

    arena_reset(arena);
    *reply = (struct curator_probe_reply){.step = request->step};
    memcpy(reply->job, request->job, sizeof reply->job);
    reply->staleness = request->step - MIN(request->step, request->learner_step);
    selection_options_default(&options);
    options.criterion = (enum selection_criterion)request->criterion;
    options.loss = (enum pair_loss)request->loss;
    options.gain = request->gain;
    options.n_selected = options.n_chunks = 1;
    options.n_threads = curator->options.n_threads;
    st = selection_options_check(&options, request->n, err);
    if (st == ST_OK && selection_learner_sign(&options) == 0)
        st = error_set(err, ST_INVALID, "the criterion does not read the learner");
    if (st == ST_OK)
        st = curator_ids(request->ids, request->n, &ids, arena, err);
    if (st == ST_OK && selection_reference_sign(&options) != 0 && request->reference.D == 0)
        st = references != NULL
                 ? references_fetch(references, ids, request->n, &models[JOINT_REFERENCE], &missing,
                                    arena, err)
                 : error_set(err, ST_INVALID,
                             "the probe brings no reference, and this curator has none");
    if (st == ST_OK)
        st = arena_alloc(arena, request->n * sizeof *usable, &usable, err);
    if (st != ST_OK)
        return st;
    memset(usable, true, request->n * sizeof *usable);
    st = score(request, &options, models, ids, usable, &used, arena, err);
    models[JOINT_LEARNER] = curator_pair_model(&request->fresh);
    if (st == ST_OK)
        st = score(request, &options, models, ids, usable, &fresh, arena, err);
    return st == ST_OK ? compare(request, usable, used, fresh, arena, reply, err) : st;
}
