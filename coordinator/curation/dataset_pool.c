#include "coordinator/curation/dataset_pool.h"

#include "reinforce/curate/example_id.h"
#include "worker/sample_score.h"

#include <inttypes.h>
#include <math.h>

/* Address ranges: what is touched counts. */
#define POOL_ARENA_BYTES ((size_t)1 << 42)
#define MAX_UID_BYTES    ((size_t)1 << 40)

#define MAX_ROWS ((size_t)UINT32_MAX - 1)

enum { SCRATCH_BYTES = 64 << 20, MAX_NAMES = 512 };

/* The names under `key` of the job's models, for messages and look-ups. */
static bool names_hold(const struct output *out, const char *list, const char *key,
                       const char *name, char names[MAX_NAMES])
{
    const json_t *model;
    bool found = false;
    size_t i, len = 0;

    names[0] = '\0';
    json_array_foreach(json_object_get(out->config, list), i, model)
    {
        const char *text = json_string_value(json_object_get(model, key));

        if (text == NULL)
            continue;
        found = found || strcmp(text, name) == 0;
        if (len < MAX_NAMES)
            len +=
                (size_t)snprintf(names + len, MAX_NAMES - len, "%s%s", len > 0 ? ", " : "", text);
    }
    return found;
}

static enum status check_spec(const struct output *out, const struct score_spec *spec,
                              struct error *err)
{
    const char *const teachers[] = {spec->teacher, spec->learner.teacher, spec->reference.teacher};
    char names[MAX_NAMES];
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(teachers) && st == ST_OK; i++)
        if (teachers[i] != NULL && !names_hold(out, "teachers", "name", teachers[i], names))
            st = error_set(err, ST_INVALID, "the dataset has no teacher \"%s\"; it has %s",
                           teachers[i], names[0] != '\0' ? names : "none");
    if (st == ST_OK && spec->kind == SCORE_SIMILARITY &&
        json_array_size(json_object_get(out->config, "teachers")) == 0)
        st = error_set(err, ST_INVALID, "the dataset has no teachers and so no similarities");
    if (st == ST_OK && spec->caption != NULL && strcmp(spec->caption, "text") != 0 &&
        !names_hold(out, "captioners", "column", spec->caption, names))
        st = error_set(err, ST_INVALID, "the dataset has no captions \"%s\"; it has text%s%s",
                       spec->caption, names[0] != '\0' ? ", " : "", names);
    return st;
}

/* What a walk carries along. */
struct walk {
    struct dataset_pool *pool;
    struct output *out;
    const struct sample_score_tools *tools; /* [n_scores] */
    struct arena scratch;
    size_t row, capacity; /* of samples */
    size_t shard_capacity;
};

static enum status take_output(void *ctx, const struct catalog_output *output, struct error *err)
{
    struct walk *walk = ctx;
    struct dataset_pool *pool = walk->pool;
    struct dataset_shard *shard;
    enum status st;
    char *key;

    if (pool->n_shards == walk->shard_capacity) {
        struct dataset_shard *grown;

        walk->shard_capacity = MAX(2 * walk->shard_capacity, (size_t)64);
        st = arena_alloc(&pool->arena, walk->shard_capacity * sizeof *grown, &grown, err);
        if (st != ST_OK)
            return st;
        if (pool->n_shards > 0)
            memcpy(grown, pool->shards, pool->n_shards * sizeof *grown);
        pool->shards = grown;
    }
    st = arena_strndup(&pool->arena, output->object_key, strlen(output->object_key), &key, err);
    if (st != ST_OK)
        return st;
    shard = &pool->shards[pool->n_shards++];
    *shard = (struct dataset_shard){.shard = output->shard,
                                    .object_key = key,
                                    .bytes = output->bytes,
                                    .begin = walk->capacity,
                                    .end = walk->capacity + (size_t)output->n_done};
    memcpy(shard->sha256, output->sha256, sizeof shard->sha256);
    walk->capacity = shard->end;
    return ST_OK;
}

static enum status take_sample(void *ctx, int64_t shard, const struct catalog_sample *sample,
                               struct error *err)
{
    struct walk *walk = ctx;
    struct dataset_pool *pool = walk->pool;
    size_t row = walk->row;
    enum status st;

    if (row == walk->capacity)
        return error_set(err, ST_CORRUPT, "shard %" PRId64 " has more samples than its output says",
                         shard);
    st = byte_buf_append(&pool->uids, sample->uid.data, sample->uid.len, err);
    for (size_t k = 0; k < pool->pool.n_scores && st == ST_OK; k++)
        st = sample_score(&pool->pool.specs[k], &walk->tools[k], sample, &walk->scratch,
                          &pool->pool.scores[k][row], err);
    if (st != ST_OK)
        return st;
    pool->pool.ids[row] = example_id_of_uid(sample->uid);
    pool->indices[row] = (uint32_t)sample->index;
    pool->uid_begins[row + 1] = pool->uids.len;
    walk->row++;
    return ST_OK;
}

static enum status allocate(struct dataset_pool *pool, size_t n, struct error *err)
{
    enum status st;

    if (n > MAX_ROWS)
        return error_set(err, ST_INVALID, "the dataset has %zu samples; the limit is %zu", n,
                         MAX_ROWS);
    pool->pool.n = n;
    st = arena_alloc(&pool->arena, n * sizeof *pool->pool.ids, &pool->pool.ids, err);
    if (st == ST_OK)
        st = arena_alloc(&pool->arena, n * sizeof *pool->indices, &pool->indices, err);
    if (st == ST_OK)
        st = arena_calloc(&pool->arena, n + 1, sizeof *pool->uid_begins, &pool->uid_begins, err);
    if (st == ST_OK)
        st = arena_calloc(&pool->arena, pool->pool.n_scores, sizeof *pool->pool.scores,
                          &pool->pool.scores, err);
    for (size_t k = 0; k < pool->pool.n_scores && st == ST_OK; k++)
        st = arena_alloc(&pool->arena, n * sizeof(float), &pool->pool.scores[k], err);
    return st;
}

static enum status walk_shards(struct walk *walk, struct error *err)
{
    struct dataset_pool *pool = walk->pool;
    enum status st = allocate(pool, walk->capacity, err);

    for (size_t i = 0; i < pool->n_shards && st == ST_OK; i++) {
        const struct dataset_shard *shard = &pool->shards[i];

        st = catalog_shard_samples(walk->out->catalog, walk->out->row.job, shard->shard,
                                   take_sample, walk, err);
        if (st == ST_OK && walk->row != shard->end)
            st = error_set(err, ST_CORRUPT,
                           "shard %" PRId64 " has %zu done samples in the catalog, its output "
                           "says %zu; `reinforce verify` looks closer",
                           shard->shard, walk->row - shard->begin, shard->end - shard->begin);
    }
    return st;
}

enum status dataset_pool_read(struct output *out, struct score_spec *specs, size_t n_specs,
                              struct dataset_pool *pool, struct error *err)
{
    struct walk walk = {.pool = pool, .out = out};
    struct sample_score_tools *tools = NULL;
    enum status st = ST_OK;

    memset(pool, 0, sizeof *pool);
    arena_init(&pool->arena, POOL_ARENA_BYTES);
    arena_init(&walk.scratch, SCRATCH_BYTES);
    byte_buf_init(&pool->uids, MAX_UID_BYTES);
    pool->pool.specs = specs;
    pool->pool.n_scores = n_specs;
    for (size_t k = 0; k < n_specs && st == ST_OK; k++)
        st = check_spec(out, &specs[k], err);
    if (st == ST_OK)
        st = arena_calloc(&pool->arena, n_specs, sizeof *tools, &tools, err);
    if (st == ST_OK)
        st = sample_score_tools_open(specs, n_specs, tools, err);
    walk.tools = tools;
    if (st == ST_OK)
        st = catalog_outputs(out->catalog, out->row.job, take_output, &walk, err);
    if (st == ST_OK)
        st = walk_shards(&walk, err);
    if (tools != NULL)
        sample_score_tools_close(tools, n_specs);
    arena_release(&walk.scratch);
    if (st != ST_OK)
        dataset_pool_release(pool);
    return st;
}

void dataset_pool_release(struct dataset_pool *pool)
{
    byte_buf_release(&pool->uids);
    arena_release(&pool->arena);
    memset(pool, 0, sizeof *pool);
}

struct bytes_view dataset_pool_uid(const struct dataset_pool *pool, size_t row)
{
    return bytes_view_of(pool->uids.data + pool->uid_begins[row],
                         (size_t)(pool->uid_begins[row + 1] - pool->uid_begins[row]));
}

const struct dataset_shard *dataset_pool_shard(const struct dataset_pool *pool, size_t row)
{
    size_t low = 0, high = pool->n_shards - 1;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (row < pool->shards[middle].end)
            high = middle;
        else
            low = middle + 1;
    }
    return &pool->shards[low];
}
