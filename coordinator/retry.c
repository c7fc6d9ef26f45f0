#include "coordinator/retry.h"

#include "reinforce/base/unique.h"
#include "worker/sample_list.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARENA_BYTES = 1 << 30, LIST_MAX_BYTES = 256 << 20, TRIES = 5 };

/* Samples by where they were read first. */
struct gathering {
    struct arena arena; /* of strings */
    struct catalog_source *list;
    size_t n, capacity;
};

static void gathering_release(struct gathering *g)
{
    free(g->list);
    arena_release(&g->arena);
}

static enum status copy(struct arena *arena, const char **text, struct error *err)
{
    char *to;
    enum status st = arena_strndup(arena, *text, strlen(*text), &to, err);

    *text = to;
    return st;
}

static enum status gather(void *ctx, const struct catalog_source *source, struct error *err)
{
    struct gathering *g = ctx;
    struct catalog_source *to;
    const struct catalog_source *last = g->n > 0 ? &g->list[g->n - 1] : NULL;
    enum status st = ST_OK;

    if (source->source.source == CATALOG_INPUT_PREVIOUS)
        return error_set(err, ST_INVALID,
                         "shard %" PRId64 " was extended by an earlier release, which did not keep "
                         "where its samples came from",
                         source->source_shard);
    if (g->n == g->capacity) {
        size_t capacity = MAX(g->capacity * 2, (size_t)256);
        struct catalog_source *grown = realloc(g->list, capacity * sizeof *grown);

        if (grown == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu samples", capacity);
        last = g->n > 0 ? &grown[g->n - 1] : NULL;
        g->list = grown;
        g->capacity = capacity;
    }
    to = &g->list[g->n];
    *to = *source;
    if (last != NULL && last->source_shard == source->source_shard) {
        to->source.input_key = last->source.input_key;
        to->source.input_format = last->source.input_format;
    } else {
        st = copy(&g->arena, &to->source.input_key, err);
        if (st == ST_OK)
            st = copy(&g->arena, &to->source.input_format, err);
    }
    g->n += st == ST_OK;
    return st;
}

/* Writes a list under a name of its own: of two who plan at once one is told that it is too late,
 * and removes what it has written, never what the other has. */
static enum status put_list(struct output *out, int64_t shard, const struct catalog_source *sources,
                            size_t n, char key[96], struct object_written *written,
                            struct error *err)
{
    struct byte_buf text;
    char unique[UNIQUE_TEXT_LEN + 1];
    enum status st;

    byte_buf_init(&text, LIST_MAX_BYTES);
    st = sample_list_write(sources, n, &text, err);
    unique_text(unique);
    (void)snprintf(key, 96, "_reinforce/plan/%08" PRId64 "-%s.json", shard, unique);
    if (st == ST_OK)
        st = object_store_put(out->store, key, byte_buf_view(&text), written, err);
    byte_buf_release(&text);
    return st;
}

/* The shards and retries of one plan. */
struct retry_plan {
    struct catalog_shard_plan *shards;
    char (*keys)[96];
    struct catalog_retry *retries;
    size_t n_shards;
};

static enum status make_plan(struct output *out, const struct gathering *g, int64_t first,
                             int64_t shard_samples, struct retry_plan *plan, struct error *err)
{
    size_t per_shard = (size_t)shard_samples;
    enum status st = ST_OK;

    for (size_t at = 0; at < g->n && st == ST_OK; at += per_shard) {
        size_t n = MIN(per_shard, g->n - at);
        struct catalog_shard_plan *shard = &plan->shards[plan->n_shards];
        char *key = plan->keys[plan->n_shards];
        struct object_written written;

        *shard = (struct catalog_shard_plan){.shard = first + (int64_t)plan->n_shards,
                                             .source = CATALOG_INPUT_LIST,
                                             .input_key = key,
                                             .input_format = SAMPLE_LIST_FORMAT};
        st = put_list(out, shard->shard, &g->list[at], n, key, &written, err);
        if (st != ST_OK)
            break;
        (void)snprintf(shard->input_etag, sizeof shard->input_etag, "%s", written.sha256);
        for (size_t i = 0; i < n; i++)
            plan->retries[at + i] =
                (struct catalog_retry){.shard = shard->shard,
                                       .index = (int64_t)i,
                                       .old_shard = g->list[at + i].shard,
                                       .old_index = g->list[at + i].index,
                                       .source_shard = g->list[at + i].source_shard,
                                       .source_index = g->list[at + i].source_index};
        plan->n_shards++;
    }
    return st;
}

/* One try: somebody else may add shards meanwhile. */
static enum status plan_once(struct output *out, const char *reason, int64_t shard_samples,
                             struct retry_summary *summary, struct error *err)
{
    const struct catalog_source_query query = {
        .state = CATALOG_SAMPLE_QUARANTINED, .reason = reason, .shard = -1};
    struct gathering g = {0};
    struct retry_plan plan = {0};
    struct catalog_progress progress;
    size_t n_shards;
    struct error ignored;
    enum status st;

    arena_init(&g.arena, ARENA_BYTES);
    *summary = (struct retry_summary){0};
    /* In this order: what is planned between the two is missing from the second, or makes the first
     * number wrong. */
    st = catalog_read_progress(out->catalog, out->row.job, &progress, err);
    if (st == ST_OK)
        st = catalog_sources(out->catalog, out->row.job, &query, gather, &g, err);
    if (st != ST_OK || g.n == 0)
        goto out;
    n_shards = (g.n + (size_t)shard_samples - 1) / (size_t)shard_samples;
    st = arena_calloc(&g.arena, n_shards, sizeof *plan.shards, &plan.shards, err);
    if (st == ST_OK)
        st = arena_calloc(&g.arena, n_shards, sizeof *plan.keys, &plan.keys, err);
    if (st == ST_OK)
        st = arena_calloc(&g.arena, g.n, sizeof *plan.retries, &plan.retries, err);
    if (st == ST_OK)
        st = make_plan(out, &g, progress.shards_total, shard_samples, &plan, err);
    if (st == ST_OK)
        st = catalog_retry_commit(out->catalog, out->row.job, plan.shards, plan.n_shards,
                                  plan.retries, g.n, err);
    if (st == ST_CONFLICT) /* nobody will read these */
        for (size_t i = 0; i < plan.n_shards; i++)
            (void)!object_store_remove(out->store, plan.keys[i], &ignored);
    if (st == ST_OK)
        *summary =
            (struct retry_summary){.samples = (int64_t)g.n, .shards = (int64_t)plan.n_shards};
out:
    gathering_release(&g);
    return st;
}

enum status retry_samples(struct output *out, const char *reason, int64_t shard_samples,
                          struct retry_summary *summary, struct error *err)
{
    enum status st = ST_CONFLICT;

    for (int i = 0; i < TRIES && st == ST_CONFLICT; i++)
        st = plan_once(out, reason, shard_samples, summary, err);
    return st;
}

/* Shards whose objects are bad, as output_verify() finds them. */
struct damage {
    output_problem_fn *problem;
    void *ctx;
    int64_t *shards;
    size_t n, capacity;
    bool no_memory;
};

static void note_damage(void *ctx, int64_t shard, const char *object, const char *problem)
{
    struct damage *damage = ctx;

    damage->problem(damage->ctx, shard, object, problem);
    if (shard < 0 || (damage->n > 0 && damage->shards[damage->n - 1] == shard))
        return; /* an object may have several problems, one after the other */
    if (damage->n == damage->capacity) {
        size_t capacity = MAX(damage->capacity * 2, (size_t)16);
        int64_t *grown = realloc(damage->shards, capacity * sizeof *grown);

        damage->no_memory |= grown == NULL;
        if (grown == NULL)
            return;
        damage->shards = grown;
        damage->capacity = capacity;
    }
    damage->shards[damage->n++] = shard;
}

static enum status redo_shard(struct output *out, int64_t shard, struct retry_summary *summary,
                              struct error *err)
{
    const struct catalog_source_query query = {.state = CATALOG_SAMPLE_DONE, .shard = shard};
    struct gathering g = {0};
    struct object_written written;
    struct error ignored;
    char key[96];
    enum status st;

    arena_init(&g.arena, ARENA_BYTES);
    st = catalog_sources(out->catalog, out->row.job, &query, gather, &g, err);
    if (st == ST_OK)
        st = put_list(out, shard, g.list, g.n, key, &written, err);
    if (st == ST_OK)
        st = catalog_shard_redo(out->catalog, out->row.job, shard, key, (int64_t)g.n, err);
    if (st == ST_OK) {
        summary->shards++;
        summary->samples += (int64_t)g.n;
    } else if (st == ST_CONFLICT) { /* somebody else has it made again */
        (void)!object_store_remove(out->store, key, &ignored);
        st = ST_OK;
    }
    gathering_release(&g);
    if (st != ST_OK)
        error_add_context(err, "shard %" PRId64, shard);
    return st;
}

enum status retry_shards(struct output *out, output_problem_fn *problem, void *ctx,
                         struct output_verdict *verdict, struct retry_summary *summary,
                         struct error *err)
{
    struct damage damage = {.problem = problem, .ctx = ctx};
    enum status st;

    *summary = (struct retry_summary){0};
    if (out->row.state == CATALOG_JOB_CANCELLED)
        return error_set(err, ST_CONFLICT, "the job is cancelled; resume it");
    st = output_verify(out, note_damage, &damage, verdict, err);
    if (st == ST_OK && damage.no_memory)
        st = error_set(err, ST_NO_MEMORY, "could not allocate a list of shards");
    for (size_t i = 0; i < damage.n && st == ST_OK; i++)
        st = redo_shard(out, damage.shards[i], summary, err);
    /* What is wrong beside the shards is written again when the job ends once more. */
    if (st == ST_OK && verdict->problems > 0 && damage.n == 0 &&
        out->row.state == CATALOG_JOB_DONE) {
        st = catalog_job_move(out->catalog, out->row.job, CATALOG_JOB_DONE, CATALOG_JOB_RUNNING, "",
                              err);
        if (st == ST_CONFLICT) /* it runs again already */
            st = ST_OK;
    }
    free(damage.shards);
    return st;
}
