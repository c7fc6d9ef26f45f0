#include "coordinator/curation/dataset_images.h"

#include "reinforce/base/parallel.h"
#include "reinforce/curate/example_id.h"
#include "reinforce/image/decode.h"
#include "reinforce/image/perceptual_hash.h"

#include <math.h>

enum { SAMPLE_MAX_BYTES = 1 << 30 };

struct pass {
    struct output *out;
    const struct dataset_pool *pool;
    const bool *wanted;
    const struct dataset_images *images;
};

static enum status hash_image(const struct record *record, struct arena *arena, uint64_t *hash,
                              struct error *err)
{
    struct image image;
    enum status st = image_decode(record->image, NULL, arena, &image, err);

    return st == ST_OK ? perceptual_hash(&image, arena, hash, err) : st;
}

static float value_at(const struct record_embedding *from, size_t i)
{
    float value;

    if (from->dtype == RECORD_BF16) {
        uint16_t bits;

        memcpy(&bits, (const uint8_t *)from->data + i * sizeof bits, sizeof bits);
        record_f32_from_bf16(&bits, 1, &value);
    } else {
        memcpy(&value, (const uint8_t *)from->data + i * sizeof value, sizeof value);
    }
    return value;
}

/* The unit mean of an array's rows, summed in double in their order. */
static enum status mean_row(const struct record *record, const struct dataset_embeddings *to,
                            float *row, struct error *err)
{
    const struct record_embedding *from = record_find_embedding(record, to->array);
    double norm = 0;

    if (from == NULL || from->rows == 0)
        return error_set(err, ST_NOT_FOUND, "has no %s", to->array);
    if (from->dim < to->first + to->dim)
        return error_set(err, ST_CORRUPT, "%s has %zu columns, the teacher's end at %zu", to->array,
                         from->dim, to->first + to->dim);
    for (size_t d = 0; d < to->dim; d++) {
        double sum = 0;

        for (size_t a = 0; a < from->rows; a++)
            sum += (double)value_at(from, a * from->dim + to->first + d);
        row[d] = (float)(sum / (double)from->rows);
        norm += (double)row[d] * (double)row[d];
    }
    for (size_t d = 0; d < to->dim && norm > 0; d++)
        row[d] = (float)((double)row[d] / sqrt(norm));
    return ST_OK;
}

static enum status take_record(const struct pass *pass, size_t row, const struct record *record,
                               struct arena *arena, struct error *err)
{
    const struct dataset_images *images = pass->images;
    enum status st = ST_OK;

    if ((images->content != NULL || images->hashes != NULL) && record->image.len == 0)
        return error_set(err, ST_NOT_FOUND, "has no image");
    if (images->content != NULL) {
        char hex[SHA256_HEX_LEN + 1];

        sha256_of(record->image, hex);
        hex[32] = '\0';
        images->content[row] = example_id_of_uid(bytes_of_string(hex));
    }
    if (images->hashes != NULL)
        st = hash_image(record, arena, &images->hashes[row], err);
    for (size_t e = 0; e < images->n_embeddings && st == ST_OK; e++) {
        const struct dataset_embeddings *to = &images->embeddings[e];

        st = mean_row(record, to, to->rows + (size_t)to->rank[row] * to->dim, err);
    }
    return st;
}

static enum status read_rows(const struct pass *pass, const struct dataset_shard *shard,
                             struct dataset_reader *reader, struct arena *arena, struct error *err)
{
    enum status st = ST_OK;

    for (size_t row = shard->begin; row < shard->end && st == ST_OK; row++) {
        struct record record = {0};
        struct dataset_reject reject;
        struct bytes_view uid = dataset_pool_uid(pass->pool, row);

        arena_reset(arena);
        st = dataset_reader_next(reader, arena, &record, &reject, err);
        if (st == ST_CORRUPT)
            st = error_set(err, ST_CORRUPT, "sample \"%s\": %s", reject.uid, reject.detail);
        else if (st == ST_END || (st == ST_OK && !bytes_equal(record.uid, uid)))
            st = error_set(err, ST_CORRUPT, "sample %zu is not \"%.*s\", as the catalog says",
                           row - shard->begin, (int)uid.len, (const char *)uid.data);
        else if (st == ST_OK && pass->wanted[row]) {
            st = take_record(pass, row, &record, arena, err);
            if (st != ST_OK)
                error_add_context(err, "sample \"%.*s\"", (int)uid.len, (const char *)uid.data);
        }
        record_release(&record);
    }
    return st;
}

static enum status read_shard(void *ctx, size_t i, struct error *err)
{
    const struct pass *pass = ctx;
    const struct dataset_shard *shard = &pass->pool->shards[i];
    const struct dataset_read_options options = {.max_sample_bytes = SAMPLE_MAX_BYTES,
                                                 .allow_missing_image = true};
    const struct dataset_position from = {0};
    struct dataset_reader *reader;
    struct arena arena;
    bool any = false;
    enum status st;

    for (size_t row = shard->begin; row < shard->end; row++)
        any = any || pass->wanted[row];
    if (!any)
        return ST_OK;
    st = dataset_reader_open(pass->out->format, pass->out->store, shard->object_key, &options,
                             &from, &reader, err);
    if (st != ST_OK)
        return st;
    arena_init(&arena, (size_t)4 * SAMPLE_MAX_BYTES);
    st = read_rows(pass, shard, reader, &arena, err);
    arena_release(&arena);
    dataset_reader_close(&reader);
    if (st != ST_OK)
        error_add_context(err, "shard %s", shard->object_key);
    return st;
}

enum status dataset_images_read(struct output *out, const struct dataset_pool *pool,
                                const bool *wanted, size_t n_threads,
                                const struct dataset_images *images, struct error *err)
{
    struct pass pass = {.out = out, .pool = pool, .wanted = wanted, .images = images};

    return parallel_run(pool->n_shards, n_threads, read_shard, &pass, err);
}
