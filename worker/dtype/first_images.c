#include "worker/dtype/first_images.h"

#include "reinforce/image/decode.h"
#include "worker/shard_reader.h"
#include "worker/storage.h"

#include <string.h>

enum { PLAN_BYTES = 1 << 20 };

/* Address ranges, not allocations. */
#define SAMPLE_BYTES_EACH  ((size_t)4)
#define SAMPLE_BYTES_FIXED ((size_t)1 << 20)
#define PIXELS_BYTES       ((size_t)4 << 30)

static enum status find_shard(const struct job_place *place, struct arena *arena,
                              struct catalog_shard_plan *plan, struct error *err)
{
    struct catalog *catalog;
    struct error why;
    enum status st = catalog_open(place->catalog_url, &catalog, err);

    if (st != ST_OK)
        return st;
    st = catalog_shard_input(catalog, place->job_id, 0, arena, plan, &why);
    catalog_close(&catalog);
    if (st == ST_NOT_FOUND)
        return error_set(err, ST_UNAVAILABLE, "the job's first shard is not planned yet");
    if (st != ST_OK)
        *err = why;
    return st;
}

/* As the decode stage would. */
static bool is_taken(const struct job *job, const struct record *record, struct arena *pixels)
{
    struct image image;
    struct error why;

    arena_reset(pixels);
    if (job->input.require_caption && record->n_captions == 0)
        return false;
    return image_decode(record->image, &job->limits, pixels, &image, &why) == ST_OK;
}

static enum status copy(struct arena *arena, struct bytes_view from, struct bytes_view *to,
                        struct error *err)
{
    char *bytes;
    enum status st = arena_strndup(arena, (const char *)from.data, from.len, &bytes, err);

    if (st == ST_OK)
        *to = bytes_view_of(bytes, from.len);
    return st;
}

static enum status keep(struct first_images *first, const struct record *record, struct error *err)
{
    struct first_image *image = &first->images[first->n];
    enum status st = copy(&first->arena, record->uid, &image->uid, err);

    if (st == ST_OK)
        st = copy(&first->arena, record->image, &image->file, err);
    if (st == ST_OK && record->n_captions > 0)
        st = copy(&first->arena, record->captions[0], &image->text, err);
    if (st == ST_OK)
        first->n++;
    return st;
}

/* ST_END: there are enough. */
static enum status take_sample(const struct job *job, struct dataset_reader *reader,
                               struct arena *sample, struct arena *pixels,
                               struct first_images *first, struct error *err)
{
    struct dataset_reject reject;
    struct record record;
    enum status st;

    arena_reset(sample);
    st = dataset_reader_next(reader, sample, &record, &reject, err);
    if (st == ST_CORRUPT)
        return ST_OK;
    if (st != ST_OK)
        return st;
    if (is_taken(job, &record, pixels)) {
        if (first->n > 0 && first->arena.used_bytes + record.image.len > FIRST_IMAGES_BYTES)
            st = ST_END;
        else
            st = keep(first, &record, err);
    }
    record_release(&record);
    return st == ST_OK && first->n == FIRST_IMAGES ? ST_END : st;
}

static enum status read_shard(const struct shard_stores *stores,
                              const struct catalog_shard_plan *plan, const atomic_bool *stop,
                              struct first_images *first, struct error *err)
{
    const struct dataset_position from = {0};
    struct arena sample, pixels;
    struct dataset_reader *reader;
    enum status st = shard_reader_open(stores, plan, from, &reader, err);

    arena_init(&sample, SAMPLE_BYTES_EACH * (size_t)stores->job->workers.max_sample_bytes +
                            SAMPLE_BYTES_FIXED);
    arena_init(&pixels, PIXELS_BYTES);
    while (st == ST_OK) {
        if (stop != NULL && atomic_load(stop))
            st = error_set(err, ST_CANCELLED, "comparing was stopped");
        else
            st = take_sample(stores->job, reader, &sample, &pixels, first, err);
    }
    dataset_reader_close(&reader);
    arena_release(&pixels);
    arena_release(&sample);
    return st == ST_END ? ST_OK : st;
}

enum status first_images_read(const struct job *job, const struct job_place *place,
                              const atomic_bool *stop, struct first_images *first,
                              struct error *err)
{
    struct shard_stores stores = {.job = job, .input = place->input, .output = place->output};
    struct catalog_shard_plan plan;
    struct arena arena;
    enum status st;

    memset(first, 0, sizeof *first);
    arena_init(&first->arena, FIRST_IMAGES_BYTES + 2 * (size_t)job->workers.max_sample_bytes);
    arena_init(&arena, PLAN_BYTES);
    st = find_shard(place, &arena, &plan, err);
    if (st == ST_OK)
        st = storage_open_web(job, 1, stop, &stores.web, err);
    if (st == ST_OK) {
        st = read_shard(&stores, &plan, stop, first, err);
        if (st != ST_OK)
            error_add_context(err, "the first shard's input \"%s\"", plan.input_key);
    }
    http_close(&stores.web);
    arena_release(&arena);
    if (st != ST_OK)
        first_images_release(first);
    return st;
}

void first_images_release(struct first_images *first)
{
    arena_release(&first->arena);
    memset(first, 0, sizeof *first);
}
