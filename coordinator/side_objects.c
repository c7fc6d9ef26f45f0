#include "coordinator/side_objects.h"

#include "reinforce/base/clock.h"
#include "storage/format/dataset.h"
#include "storage/format/side_files.h"
#include "worker/model_record.h"

#include <stdio.h>

enum { MAX_BYTES = 1 << 20, ARENA_BYTES = 1 << 30, PART_BYTES = 8 << 20 };

/* A list's text is put in parts, which are joined at its end. */
struct list_object {
    const char *key;
    struct byte_buf *text; /* not put yet */
    size_t n_parts;
};

enum { N_LISTS = 3 };

/* The lists while the walk over the outputs makes them. */
struct writing {
    struct object_store *output;
    struct side_lists lists;
    struct list_object objects[N_LISTS];
};

/* Where a sweep finds it, should we die. */
static void part_key(const struct list_object *list, size_t part, char key[64])
{
    (void)snprintf(key, 64, "_reinforce/parts/0/%s-%zu", list->key, part);
}

static enum status put_part(struct object_store *output, struct list_object *list,
                            struct error *err)
{
    struct object_written written;
    char key[64];
    enum status st;

    part_key(list, list->n_parts, key);
    st = object_store_put(output, key, byte_buf_view(list->text), &written, err);
    byte_buf_reset(list->text);
    list->n_parts++;
    return st;
}

static enum status join_parts(struct object_store *output, struct list_object *list,
                              struct arena *arena, struct error *err)
{
    struct object_written written;
    char(*keys)[64];
    const char **names;
    enum status st = arena_calloc(arena, list->n_parts + 1, sizeof *keys, &keys, err);

    if (st == ST_OK)
        st = arena_calloc(arena, list->n_parts + 1, sizeof *names, &names, err);
    for (size_t i = 0; i < list->n_parts && st == ST_OK; i++) {
        part_key(list, i, keys[i]);
        names[i] = keys[i];
    }
    if (st == ST_OK)
        st = object_store_join(output, names, list->n_parts, byte_buf_view(list->text), list->key,
                               &written, err);
    for (size_t i = 0; i < list->n_parts && st == ST_OK; i++)
        st = object_store_remove(output, keys[i], err);
    return st;
}

static enum status add_output(void *ctx, const struct catalog_output *output, struct error *err)
{
    struct writing *w = ctx;
    const struct side_shard shard = {.number = output->shard,
                                     .object_key = output->object_key,
                                     .bytes = output->bytes,
                                     .sha256 = output->sha256,
                                     .n_done = output->n_done,
                                     .n_quarantined = output->n_quarantined,
                                     .n_filtered = output->n_filtered};
    enum status st = side_lists_add(&w->lists, &shard, err);

    for (size_t i = 0; i < N_LISTS && st == ST_OK; i++)
        if (w->objects[i].text->len >= PART_BYTES)
            st = put_part(w->output, &w->objects[i], err);
    return st;
}

static enum status put_lists(int64_t job, struct catalog *catalog, struct object_store *output,
                             const struct side_dataset *dataset, struct arena *arena,
                             struct error *err)
{
    struct writing w = {.output = output};
    enum status st;

    w.objects[0] = (struct list_object){.key = SIDE_FILES_MANIFEST, .text = &w.lists.manifest};
    w.objects[1] = (struct list_object){.key = "info.json", .text = &w.lists.info};
    w.objects[2] = (struct list_object){.key = "sizes.json", .text = &w.lists.sizes};
    st = side_lists_begin(&w.lists, dataset, err);
    if (st == ST_OK)
        st = catalog_outputs(catalog, job, add_output, &w, err);
    if (st == ST_OK)
        st = side_lists_end(&w.lists, err);
    for (size_t i = 0; i < N_LISTS && st == ST_OK; i++)
        st = join_parts(output, &w.objects[i], arena, err);
    side_lists_release(&w.lists);
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

enum status side_objects_write(const struct job *job, const struct catalog_job *row,
                               struct catalog *catalog, struct object_store *output,
                               struct error *err)
{
    struct augment_config augment = job->views.augment;
    struct arena arena;
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
    arena_init(&arena, ARENA_BYTES);
    clock_text(row->created_ms, date);
    date[19] = '\0'; /* upstream's form has no fraction */
    dataset.date = date;
    if (augment.size == 0)
        augment.size = facts.image_size;
    memcpy(dataset.mean, facts.mean, sizeof dataset.mean);
    memcpy(dataset.std, facts.std, sizeof dataset.std);
    st = arena_calloc(&arena, job->n_teachers + 1, sizeof *models, &models, err);
    for (size_t t = 0; t < job->n_teachers && st == ST_OK; t++)
        models[t] = job->teachers[t].model;
    dataset.models = models;
    if (st == ST_OK)
        st = put_lists(row->job, catalog, output, &dataset, &arena, err);
    if (st == ST_OK && job->n_teachers > 0)
        st = put(output, "config.json", side_files_config, &dataset, err);
    if (st == ST_OK && job->n_teachers > 0)
        st = put(output, "trainer_config.json", side_files_trainer_config, &dataset, err);
    arena_release(&arena);
    return st;
}
