#include "storage/catalog/catalog.h"

#include "storage/catalog/catalog_postgres.h"
#include "storage/catalog/catalog_sqlite.h"

#include <assert.h>
#include <inttypes.h>

static const struct catalog_ops *const kinds[] = {&catalog_sqlite, &catalog_postgres};

const char *catalog_job_state_name(enum catalog_job_state state)
{
    static const char *const names[] = {"?", "planning", "running", "paused", "done", "cancelled"};

    return (size_t)state < ARRAY_LEN(names) ? names[state] : names[0];
}

const char *catalog_sample_state_name(enum catalog_sample_state state)
{
    static const char *const names[] = {"?", "done", "quarantined", "retried", "filtered"};

    return (size_t)state < ARRAY_LEN(names) ? names[state] : names[0];
}

int64_t catalog_part_count(const struct catalog_part *part, enum catalog_sample_state state)
{
    int64_t n = 0;

    for (size_t i = 0; i < part->n_samples; i++)
        n += part->samples[i].state == state;
    return n;
}

const char *catalog_worker_state_name(enum catalog_worker_state state)
{
    static const char *const names[] = {"?", "working", "draining", "gone"};

    return (size_t)state < ARRAY_LEN(names) ? names[state] : names[0];
}

/* The kind of `url`, and in *rest what follows its scheme. */
static enum status find_kind(const char *url, const struct catalog_ops **kind, const char **rest,
                             struct error *err)
{
    size_t len = strcspn(url, ":");
    /* libpq's own word for the scheme is as good */
    const char *scheme = len == 10 && strncmp(url, "postgresql", len) == 0 ? "postgres" : url;
    size_t scheme_len = scheme == url ? len : strlen(scheme);

    for (size_t i = 0; i < ARRAY_LEN(kinds) && url[len] == ':'; i++)
        if (strlen(kinds[i]->scheme) == scheme_len &&
            strncmp(scheme, kinds[i]->scheme, scheme_len) == 0) {
            *kind = kinds[i];
            *rest = url + len + 1;
            return ST_OK;
        }
    return error_set(err, ST_INVALID,
                     "catalog \"%.*s\" is of no kind we know; write sqlite:PATH or "
                     "postgres://USER@HOST:PORT/DATABASE",
                     (int)MIN(len, (size_t)32), url);
}

enum status catalog_open(const char *url, struct catalog **out, struct error *err)
{
    const struct catalog_ops *kind;
    const char *rest;
    enum status st = find_kind(url, &kind, &rest, err);

    *out = NULL;
    return st == ST_OK ? kind->open(rest, out, err) : st;
}

void catalog_set_patience(struct catalog *c, int64_t ms)
{
    if (c->ops->set_patience != NULL)
        c->ops->set_patience(c, ms);
}

enum status catalog_migrate(const char *url, struct catalog_schema *before, struct error *err)
{
    const struct catalog_ops *kind;
    const char *rest;
    enum status st = find_kind(url, &kind, &rest, err);

    memset(before, 0, sizeof *before);
    return st == ST_OK ? kind->migrate(rest, before, err) : st;
}

enum status catalog_read_schema(const char *url, struct catalog_schema *schema, struct error *err)
{
    const struct catalog_ops *kind;
    const char *rest;
    enum status st = find_kind(url, &kind, &rest, err);

    memset(schema, 0, sizeof *schema);
    return st == ST_OK ? kind->schema(rest, schema, err) : st;
}

void catalog_close(struct catalog **c)
{
    if (*c != NULL)
        (*c)->ops->close(*c);
    *c = NULL;
}

enum status catalog_job_begin(struct catalog *c, const char *name, const char *config_digest,
                              const char *config_json, int64_t now_ms, struct arena *arena,
                              struct catalog_job *job, const char **stored_config,
                              struct error *err)
{
    memset(job, 0, sizeof *job);
    *stored_config = NULL;
    return c->ops->job_begin(c, name, config_digest, config_json, now_ms, arena, job, stored_config,
                             err);
}

enum status catalog_job_set_state(struct catalog *c, int64_t job, enum catalog_job_state state,
                                  struct error *err)
{
    return c->ops->job_set_state(c, job, state, err);
}

enum status catalog_plan_commit(struct catalog *c, const struct catalog_job *job,
                                const struct catalog_shard_plan *shards, size_t n_shards,
                                bool is_all, struct error *err)
{
    return c->ops->plan_commit(c, job, shards, n_shards, is_all, err);
}

enum status catalog_leases_take(struct catalog *c, int64_t job, struct catalog_take *takes,
                                size_t n, int64_t now_ms, const struct catalog_terms *terms,
                                struct arena *arena, struct error *err)
{
    assert(terms->lease_ms > 0 && terms->part_samples > 0 && terms->samples_at_work >= 0);
    assert(n >= 1 && n <= CATALOG_BATCH_MAX);
    for (size_t i = 0; i < n; i++)
        takes[i] = (struct catalog_take){.owner = takes[i].owner, .status = ST_NOT_FOUND};
    return c->ops->leases_take(c, job, takes, n, now_ms, terms, arena, err);
}

enum status catalog_lease_take(struct catalog *c, int64_t job, const char *owner, int64_t now_ms,
                               const struct catalog_terms *terms, struct arena *arena,
                               struct catalog_lease *lease, int64_t *wait_ms, struct error *err)
{
    struct catalog_take take = {.owner = owner};
    enum status st = catalog_leases_take(c, job, &take, 1, now_ms, terms, arena, err);

    *lease = take.lease;
    *wait_ms = take.wait_ms;
    if (st == ST_OK && take.status != ST_OK)
        st = error_set(err, take.status, "no shard is ready");
    return st;
}

enum status catalog_lease_probe(struct catalog *c, const struct catalog_lease *lease,
                                struct error *err)
{
    return c->ops->lease_probe(c, lease, err);
}

enum status catalog_leases_renew(struct catalog *c, const struct catalog_lease *leases, size_t n,
                                 int64_t now_ms, int64_t lease_ms, bool *lost, struct error *err)
{
    assert(lease_ms > 0 && n >= 1 && n <= CATALOG_BATCH_MAX);
    return c->ops->leases_renew(c, leases, n, now_ms, lease_ms, lost, err);
}

enum status catalog_lease_renew(struct catalog *c, const struct catalog_lease *lease,
                                int64_t now_ms, int64_t lease_ms, struct error *err)
{
    bool lost = false;
    enum status st = catalog_leases_renew(c, lease, 1, now_ms, lease_ms, &lost, err);

    if (st == ST_OK && lost)
        st = error_set(err, ST_CONFLICT,
                       "the lease of shard %" PRId64 " at epoch %" PRId64 " is no longer ours",
                       lease->shard, lease->epoch);
    return st;
}

enum status catalog_lease_release(struct catalog *c, const struct catalog_lease *lease, bool failed,
                                  const char *why, struct error *err)
{
    return c->ops->lease_release(c, lease, failed, why, err);
}

enum status catalog_lease_rival(struct catalog *c, int64_t job, int64_t shard, int64_t epoch,
                                const char *owner, int64_t now_ms,
                                const struct catalog_terms *terms, struct arena *arena,
                                struct catalog_lease *lease, struct error *err)
{
    memset(lease, 0, sizeof *lease);
    return c->ops->lease_rival(c, job, shard, epoch, owner, now_ms, terms, arena, lease, err);
}

enum status catalog_part_commit(struct catalog *c, const struct catalog_lease *lease,
                                const struct catalog_part *part, struct error *err)
{
    return c->ops->part_commit(c, lease, part, err);
}

enum status catalog_parts(struct catalog *c, int64_t job, int64_t shard, struct arena *arena,
                          struct catalog_part_row **rows, size_t *n_rows, struct error *err)
{
    *rows = NULL;
    *n_rows = 0;
    return c->ops->parts(c, job, shard, arena, rows, n_rows, err);
}

enum status catalog_shard_commit(struct catalog *c, const struct catalog_lease *lease,
                                 const char *object_key, const struct object_written *written,
                                 struct error *err)
{
    return c->ops->shard_commit(c, lease, object_key, written, err);
}

enum status catalog_lease_split(struct catalog *c, const struct catalog_lease *lease,
                                uint64_t at_offset, uint64_t at_index, struct error *err)
{
    return c->ops->lease_split(c, lease, at_offset, at_index, err);
}

enum status catalog_piece_commit(struct catalog *c, const struct catalog_lease *lease,
                                 int64_t *shard, bool *is_last, struct error *err)
{
    *shard = lease->shard;
    *is_last = false;
    return c->ops->piece_commit(c, lease, shard, is_last, err);
}

enum status catalog_job_extend(struct catalog *c, int64_t job, const char *config_digest,
                               const char *config_json, const char *output_format,
                               struct error *err)
{
    return c->ops->job_extend(c, job, config_digest, config_json, output_format, err);
}

enum status catalog_leases_reset(struct catalog *c, int64_t job, struct error *err)
{
    return c->ops->leases_reset(c, job, err);
}

enum status catalog_coordinate(struct catalog *c, struct error *err)
{
    return c->ops->coordinate(c, err);
}

enum status catalog_job_move(struct catalog *c, int64_t job, enum catalog_job_state from,
                             enum catalog_job_state to, const char *note, struct error *err)
{
    return c->ops->job_move(c, job, from, to, note, err);
}

enum status catalog_job_set_priority(struct catalog *c, int64_t job, int32_t priority,
                                     struct error *err)
{
    return c->ops->job_set_priority(c, job, priority, err);
}

enum status catalog_job_set_quota(struct catalog *c, int64_t job, int64_t max_leases,
                                  struct error *err)
{
    return c->ops->job_set_quota(c, job, max_leases, err);
}

enum status catalog_job_set_rate(struct catalog *c, int64_t job, double samples_per_second,
                                 int64_t now_ms, struct error *err)
{
    return c->ops->job_set_rate(c, job, samples_per_second, now_ms, err);
}

enum status catalog_leases_extend(struct catalog *c, int64_t job, int64_t now_ms, int64_t lease_ms,
                                  struct error *err)
{
    return c->ops->leases_extend(c, job, now_ms, lease_ms, err);
}

enum status catalog_shards_retry(struct catalog *c, int64_t job, int64_t *n, struct error *err)
{
    *n = 0;
    return c->ops->shards_retry(c, job, n, err);
}

enum status catalog_jobs(struct catalog *c, int64_t now_ms, catalog_job_fn *each, void *ctx,
                         struct error *err)
{
    return c->ops->jobs(c, now_ms, each, ctx, err);
}

/* Rows on their way into an arena. */
struct job_rows {
    struct arena *arena;
    struct catalog_job_row *rows;
    size_t n, capacity;
};

static enum status keep_job(void *ctx, const struct catalog_job_row *row, struct error *err)
{
    struct job_rows *kept = ctx;

    if (kept->n == kept->capacity) {
        size_t capacity = MAX(kept->capacity * 2, (size_t)16);
        struct catalog_job_row *grown;
        enum status st = arena_calloc(kept->arena, capacity, sizeof *grown, &grown, err);

        if (st != ST_OK)
            return st;
        if (kept->n > 0)
            memcpy(grown, kept->rows, kept->n * sizeof *grown);
        kept->rows = grown;
        kept->capacity = capacity;
    }
    kept->rows[kept->n++] = *row;
    return ST_OK;
}

enum status catalog_read_jobs(struct catalog *c, int64_t now_ms, struct arena *arena,
                              struct catalog_job_row **rows, size_t *n, struct error *err)
{
    struct job_rows kept = {.arena = arena};
    enum status st = catalog_jobs(c, now_ms, keep_job, &kept, err);

    *rows = kept.rows;
    *n = kept.n;
    return st;
}

enum status catalog_shards(struct catalog *c, int64_t job, enum catalog_shard_state state,
                           int64_t now_ms, catalog_shard_fn *each, void *ctx, struct error *err)
{
    return c->ops->shards(c, job, state, now_ms, each, ctx, err);
}

enum status catalog_workers_seen(struct catalog *c, const struct catalog_worker *workers, size_t n,
                                 int64_t now_ms, struct error *err)
{
    assert(n >= 1 && n <= CATALOG_BATCH_MAX);
    return c->ops->workers_seen(c, workers, n, now_ms, err);
}

enum status catalog_workers(struct catalog *c, int64_t now_ms, catalog_worker_fn *each, void *ctx,
                            struct error *err)
{
    return c->ops->workers(c, now_ms, each, ctx, err);
}

enum status catalog_retry_commit(struct catalog *c, int64_t job,
                                 const struct catalog_shard_plan *shards, size_t n_shards,
                                 const struct catalog_retry *retries, size_t n_retries,
                                 struct error *err)
{
    assert(n_shards > 0);
    for (size_t i = 0; i < n_shards; i++)
        assert(shards[i].source == CATALOG_INPUT_LIST);
    return c->ops->retry_commit(c, job, shards, n_shards, retries, n_retries, err);
}

enum status catalog_shard_redo(struct catalog *c, int64_t job, int64_t shard, const char *list_key,
                               int64_t n_samples, struct error *err)
{
    return c->ops->shard_redo(c, job, shard, list_key, n_samples, err);
}

enum status catalog_sources(struct catalog *c, int64_t job,
                            const struct catalog_source_query *query, catalog_source_fn *each,
                            void *ctx, struct error *err)
{
    return c->ops->sources(c, job, query, each, ctx, err);
}

enum status catalog_accounts(struct catalog *c, int64_t job, catalog_account_fn *each, void *ctx,
                             struct error *err)
{
    return c->ops->accounts(c, job, each, ctx, err);
}

enum status catalog_job_find(struct catalog *c, const char *name, struct arena *arena,
                             struct catalog_job *job, const char **config_json, struct error *err)
{
    memset(job, 0, sizeof *job);
    *config_json = NULL;
    return c->ops->job_find(c, name, arena, job, config_json, err);
}

enum status catalog_shard_input(struct catalog *c, int64_t job, int64_t shard, struct arena *arena,
                                struct catalog_shard_plan *plan, struct error *err)
{
    memset(plan, 0, sizeof *plan);
    return c->ops->shard_input(c, job, shard, arena, plan, err);
}

enum status catalog_read_progress(struct catalog *c, int64_t job, struct catalog_progress *progress,
                                  struct error *err)
{
    memset(progress, 0, sizeof *progress);
    return c->ops->progress(c, job, progress, err);
}

enum status catalog_outputs(struct catalog *c, int64_t job, catalog_output_fn *each, void *ctx,
                            struct error *err)
{
    return c->ops->outputs(c, job, each, ctx, err);
}

enum status catalog_reasons(struct catalog *c, int64_t job, enum catalog_sample_state state,
                            catalog_reason_fn *each, void *ctx, struct error *err)
{
    return c->ops->reasons(c, job, state, each, ctx, err);
}

enum status catalog_sample_find(struct catalog *c, int64_t job, struct bytes_view uid,
                                catalog_sample_fn *each, void *ctx, struct error *err)
{
    return c->ops->sample_find(c, job, uid, each, ctx, err);
}

enum status catalog_samples(struct catalog *c, int64_t job, catalog_sample_fn *each, void *ctx,
                            struct error *err)
{
    return c->ops->samples(c, job, each, ctx, err);
}

enum status catalog_shard_samples(struct catalog *c, int64_t job, int64_t shard,
                                  catalog_sample_fn *each, void *ctx, struct error *err)
{
    return c->ops->shard_samples(c, job, shard, each, ctx, err);
}
