#include "coordinator/side_objects.h"

#include "reinforce/base/clock.h"
#include "storage/format/dataset.h"
#include "storage/format/side_files.h"
#include "worker/model_record.h"

#include <stdlib.h>

enum { MAX_BYTES = 1 << 30, ARENA_BYTES = 1 << 30 };

/* The shards while the walk over the outputs gathers them. */
struct gathering {
    struct arena arena;
    struct side_shard *shards;
    size_t n, capacity;
};

static enum status add_output(void *ctx, const struct catalog_output *output, struct error *err)
{
    struct gathering *g = ctx;
    char *key, *sha256;
    enum status st;

    if (g->n == g->capacity) {
        size_t capacity = MAX(g->capacity * 2, (size_t)64);
        struct side_shard *grown = realloc(g->shards, capacity * sizeof *grown);

        if (grown == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu shards", capacity);
        g->shards = grown;
        g->capacity = capacity;
    }
    st = arena_strndup(&g->arena, output->object_key, strlen(output->object_key), &key, err);
    if (st == ST_OK)
        st = arena_strndup(&g->arena, output->sha256, strlen(output->sha256), &sha256, err);
    if (st == ST_OK)
        g->shards[g->n++] = (struct side_shard){.number = output->shard,
                                                .object_key = key,
                                                .bytes = output->bytes,
                                                .sha256 = sha256,
                                                .n_done = output->n_done,
                                                .n_quarantined = output->n_quarantined,
                                                .n_filtered = output->n_filtered};
    return st;
}

typedef enum status render_fn(const struct side_dataset *dataset, struct byte_buf *out,
                              struct error *err);

static enum status put(struct object_store *output, const char *key, render_fn *render,
                       const struct side_dataset *dataset, struct error *err)
{
    struct object_written written;
    struct byte_buf text;
    enum status st;

    byte_buf_init(&text, MAX_BYTES);
    st = render(dataset, &text, err);
    if (st == ST_OK)
        st = object_store_put(output, key, byte_buf_view(&text), &written, err);
    byte_buf_release(&text);
    return st;
}

static enum status put_all(const struct job *job, struct object_store *output,
                           const struct side_dataset *dataset, struct error *err)
{
    enum status st = put(output, SIDE_FILES_MANIFEST, side_files_manifest, dataset, err);

    if (st == ST_OK)
        st = put(output, "info.json", side_files_info, dataset, err);
    if (st == ST_OK)
        st = put(output, "sizes.json", side_files_sizes, dataset, err);
    if (st == ST_OK && job->n_teachers > 0)
        st = put(output, "config.json", side_files_config, dataset, err);
    if (st == ST_OK && job->n_teachers > 0)
        st = put(output, "trainer_config.json", side_files_trainer_config, dataset, err);
    return st;
}

enum status side_objects_write(const struct job *job, const struct catalog_job *row,
                               struct catalog *catalog, struct object_store *output,
                               struct error *err)
{
    struct gathering g = {0};
    struct augment_config augment = job->views.augment;
    struct model_facts facts;
    struct side_dataset dataset = {.name = job->name,
                                   .config_digest = job->digest,
                                   .extension =
                                       dataset_format_by_name(job->output.format)->extension,
                                   .augment = &augment,
                                   .n_models = job->n_teachers,
                                   .n_views = job->views.count};
    const char **models;
    char date[CLOCK_TEXT_LEN + 1];
    enum status st = model_record_read(output, &facts, err);

    if (st != ST_OK)
        return st;
    arena_init(&g.arena, ARENA_BYTES);
    clock_text(row->created_ms, date);
    date[19] = '\0'; /* upstream's form has no fraction */
    dataset.date = date;
    if (augment.size == 0)
        augment.size = facts.image_size;
    memcpy(dataset.mean, facts.mean, sizeof dataset.mean);
    memcpy(dataset.std, facts.std, sizeof dataset.std);
    st = arena_calloc(&g.arena, job->n_teachers + 1, sizeof *models, &models, err);
    for (size_t t = 0; t < job->n_teachers && st == ST_OK; t++)
        models[t] = job->teachers[t].model;
    if (st == ST_OK)
        st = catalog_outputs(catalog, row->job, add_output, &g, err);
    if (st == ST_OK) {
        dataset.models = models;
        dataset.shards = g.shards;
        dataset.n_shards = g.n;
        st = put_all(job, output, &dataset, err);
    }
    free(g.shards);
    arena_release(&g.arena);
    return st;
}
