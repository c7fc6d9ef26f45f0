#include "coordinator/curator/teacher_worker.h"

#include "coordinator/curator/computed_rows.h"
#include "coordinator/curator/dataset_references.h"
#include "coordinator/curator/input_index.h"
#include "reinforce/base/log.h"
#include "reinforce/curate/example_id.h"
#include "reinforce/image/encode.h"
#include "storage/format/dataset.h"
#include "worker/storage.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { UPRIGHT_JPEG_QUALITY = 95 };

struct worker {
    const struct teacher_worker_options *options;
    const struct job *job;
    const struct teacher *teacher;
    size_t D;
    struct input_index in;
    struct computed_rows *rows;
    struct http *web;
    atomic_ullong n_not_embedded;
};

/* One that embeds. */
struct embedder {
    struct worker *worker;
    pthread_t thread;
    struct arena arena, scratch;
    float *image, *text; /* [D], in the arena, of the example at hand */
};

enum status teacher_rows_path(const char *cache, const char *key, char *path, size_t size,
                              struct error *err)
{
    return snprintf(path, size, "%s/%.32s.rows", cache, key) < (int)size
               ? ST_OK
               : error_set(err, ST_INVALID, "the cache's path is too long");
}

/* Of the pipeline's decoding. */
static enum status decode(struct embedder *e, const struct record *record, struct image *image,
                          struct error *err)
{
    const struct job *job = e->worker->job;
    struct byte_buf file;
    bool changed;
    enum status st;

    if (!job->apply_exif_orientation)
        return image_decode(record->image, &job->limits, &e->arena, image, err);
    byte_buf_init(&file, (size_t)job->workers.memory_bytes);
    st = image_write_upright(record->image, &job->limits, UPRIGHT_JPEG_QUALITY, &e->arena, &file,
                             image, &changed, err);
    byte_buf_release(&file);
    return st;
}

/* What a reader of the job's dataset would see of these rows, in one. */
static enum status make_row(struct embedder *e, float *emb, size_t rows, float *out,
                            struct error *err)
{
    const struct worker *worker = e->worker;
    struct record_embedding from = {
        .dtype = worker->job->output.embedding_dtype, .rows = rows, .dim = worker->D, .data = emb};
    uint16_t *bits;
    enum status st = ST_OK;

    if (from.dtype == RECORD_BF16) {
        st = arena_alloc(&e->arena, rows * worker->D * sizeof *bits, &bits, err);
        if (st == ST_OK)
            record_bf16_from_f32(emb, rows * worker->D, bits);
        from.data = bits;
    }
    if (st == ST_OK && !dataset_reference_mean(&from, 0, worker->D, out))
        st = error_set(err, ST_CORRUPT, "the mean of its rows has no length");
    return st;
}

static enum status embed_views(struct embedder *e, const struct record *record,
                               const struct image *image, struct error *err)
{
    const struct worker *worker = e->worker;
    struct augment_config config = worker->options->engine->augment;
    size_t n = (size_t)worker->job->views.count;
    struct image *views;
    float *emb;
    enum status st = arena_calloc(&e->arena, n, sizeof *views, &views, err);

    if (st == ST_OK)
        st = arena_calloc(&e->arena, n * worker->D, sizeof *emb, &emb, err);
    for (size_t a = 0; a < n && st == ST_OK; a++) {
        struct augment_params params;

        augment_sample(&worker->options->engine->augment, worker->job->seed, record->uid,
                       (uint32_t)a, image->width, image->height, &params);
        config.size = worker->options->engine->sizes[0];
        st = augment_apply(&config, &params, image, &e->arena, &views[a], err);
    }
    if (st == ST_OK)
        st = teacher_embed_images(worker->teacher, views, n, &e->scratch, emb, err);
    return st == ST_OK ? make_row(e, emb, n, e->image, err) : st;
}

static enum status embed_record(struct embedder *e, const struct record *record, struct error *err)
{
    const struct worker *worker = e->worker;
    struct image image;
    float *emb;
    enum status st;

    if (record->n_captions == 0)
        return error_set(err, ST_INVALID, "it has no caption");
    st = decode(e, record, &image, err);
    if (st == ST_OK)
        st = embed_views(e, record, &image, err);
    if (st == ST_OK)
        st = arena_calloc(&e->arena, worker->D, sizeof *emb, &emb, err);
    if (st == ST_OK)
        st = teacher_embed_texts(worker->teacher, record->captions, 1, &e->scratch, emb, err);
    return st == ST_OK ? make_row(e, emb, 1, e->text, err) : st;
}

/* The example at a place. ST_CORRUPT, ST_INVALID: it is bad; anything else: it cannot be had now.
 */
static enum status read_example(struct embedder *e, const struct example_source *source,
                                struct dataset_reader **reader, struct record *record,
                                struct error *err)
{
    const struct input_index *in = &e->worker->in;
    const struct dataset_read_options options = {
        .max_sample_bytes = (size_t)e->worker->job->workers.max_sample_bytes,
        .begin_offset = source->offset,
        .end_offset = source->end,
        .references = in->input.store,
        .web = e->worker->web,
    };
    const struct dataset_position from = {.offset = source->offset};
    struct dataset_reject reject;
    enum status st = dataset_reader_open(dataset_format_by_name(source->format),
                                         source->is_listed ? in->lists : in->input.store,
                                         source->key, &options, &from, reader, err);

    if (st != ST_OK) /* of the shard, not of the example */
        return st == ST_CORRUPT || st == ST_INVALID ? ST_UNAVAILABLE : st;
    st = dataset_reader_next(*reader, &e->arena, record, &reject, err);
    if (st == ST_CORRUPT) {
        st = status_is_retryable(reject.code) ? ST_UNAVAILABLE : ST_CORRUPT;
        return error_set(err, st, "%s: %s", reject.reason, reject.detail);
    }
    if (st == ST_OK) {
        struct example_id id = example_id_of_uid(record->uid);

        if (id.low == source->id.low && id.high == source->id.high)
            return ST_OK;
    }
    if (st == ST_OK || st == ST_END)
        return error_set(err, ST_CONFLICT, "the input is no longer what was indexed");
    return st == ST_INVALID ? ST_UNAVAILABLE : st; /* of a store */
}

static void log_failure(struct worker *worker, const struct example_source *source, bool is_bad,
                        const struct error *err)
{
    unsigned long long n = atomic_fetch_add(&worker->n_not_embedded, 1) + 1;

    if ((n & (n - 1)) == 0) /* its number doubles */
        log_at(LOG_WARN, is_bad ? "example_bad" : "example_failed",
               "n=%llu id=%016" PRIx64 "%016" PRIx64 " shard=\"%s\" offset=%" PRIu64
               " cause=\"%s\"",
               n, source->id.high, source->id.low, source->key, source->offset, err->message);
}

static enum teacher_word embed_example(struct embedder *e, uint64_t place)
{
    struct example_source source = example_index_get(e->worker->in.index, place);
    struct dataset_reader *reader = NULL;
    struct record record = {0};
    struct error err = {0}, why = {0};
    bool is_bad;
    enum status st;

    arena_reset(&e->arena);
    arena_reset(&e->scratch);
    st = arena_calloc(&e->arena, e->worker->D, sizeof *e->image, &e->image, &err);
    if (st == ST_OK)
        st = arena_calloc(&e->arena, e->worker->D, sizeof *e->text, &e->text, &err);
    if (st == ST_OK)
        st = read_example(e, &source, &reader, &record, &err);
    if (st == ST_OK)
        st = embed_record(e, &record, &err);
    is_bad = st == ST_CORRUPT || st == ST_INVALID;
    if (st != ST_OK)
        log_failure(e->worker, &source, is_bad, &err);
    if (st == ST_OK || is_bad)
        st = computed_rows_put(e->worker->rows, place, source.id, is_bad ? NULL : e->image,
                               is_bad ? NULL : e->text, &e->scratch, &why);
    if (why.code != ST_OK)
        log_at(LOG_WARN, "row_not_written", "cause=\"%s\"", why.message);
    record_release(&record);
    dataset_reader_close(&reader);
    return st != ST_OK ? TEACHER_FAILED : is_bad ? TEACHER_CANNOT : TEACHER_HAS_WRITTEN;
}

/* False: nobody listens. */
static bool say(const struct embedder *e, uint64_t place, enum teacher_word word)
{
    const struct teacher_said said = {.place = place, .word = word};

    return send(e->worker->options->socket, &said, sizeof said, MSG_NOSIGNAL) == sizeof said;
}

static bool take(const struct embedder *e, uint64_t *place)
{
    ssize_t n;

    do
        n = recv(e->worker->options->socket, place, sizeof *place, 0);
    while (n < 0 && errno == EINTR);
    return n == sizeof *place && *place < example_index_count(e->worker->in.index);
}

static void *embed_examples(void *ctx)
{
    struct embedder *e = ctx;
    uint64_t place;

    while (take(e, &place) && say(e, place, TEACHER_BEGINS) &&
           say(e, place, embed_example(e, place)))
        ;
    return NULL;
}

/* What the rows depend on: the input, the job without what does not change results, the weights. */
static enum status describe(const struct worker *worker, struct teacher_hello *hello,
                            struct error *err)
{
    const struct teacher_info *info = teacher_info(worker->teacher);
    char text[512];
    int len = snprintf(text, sizeof text, "1 %s %s %s %zu %d", worker->in.key, worker->job->digest,
                       info->weights_digest, info->dim, info->preprocess.size);

    assert(len > 0 && (size_t)len < sizeof text);
    *hello = (struct teacher_hello){.D = info->dim,
                                    .n_threads = (uint32_t)worker->options->n_threads,
                                    .scale = info->logit_scale,
                                    .bias = info->has_logit_bias ? info->logit_bias : 0};
    (void)snprintf(hello->name, sizeof hello->name, "%s", worker->job->teachers[0].name);
    memcpy(hello->index_key, worker->in.key, sizeof hello->index_key);
    sha256_of(bytes_of_string(text), hello->rows_key);
    return info->dim > 0 ? ST_OK : error_set(err, ST_INVALID, "the teacher has no dimensions");
}

static enum status begin(struct worker *worker, struct teacher_hello *hello, struct error *err)
{
    const struct teacher_worker_options *options = worker->options;
    char path[PATH_MAX];
    enum status st = input_index_open(worker->job, options->cache, &worker->in, err);

    if (st == ST_OK)
        st = describe(worker, hello, err);
    if (st == ST_OK)
        st = teacher_rows_path(options->cache, hello->rows_key, path, sizeof path, err);
    if (st == ST_OK)
        st = computed_rows_open(path, hello->rows_key, example_index_count(worker->in.index),
                                worker->D, &worker->rows, err);
    if (st == ST_OK)
        st = storage_open_web(worker->job, options->n_threads, NULL, &worker->web, err);
    if (st == ST_OK &&
        send(options->socket, hello, sizeof *hello, MSG_NOSIGNAL) != (ssize_t)sizeof *hello)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not speak to the curator");
    return st;
}

enum status teacher_worker_run(const struct teacher_worker_options *options, struct error *err)
{
    struct worker worker = {.options = options,
                            .job = options->engine->job,
                            .teacher = options->engine->teachers[0],
                            .D = engine_dim(options->engine)};
    struct embedder *embedders = NULL;
    struct teacher_hello hello;
    struct arena arena;
    size_t n = 0;
    enum status st = begin(&worker, &hello, err);

    arena_init(&arena, 1 << 20);
    if (st == ST_OK)
        st = arena_calloc(&arena, (size_t)options->n_threads, sizeof *embedders, &embedders, err);
    for (; st == ST_OK && n < (size_t)options->n_threads; n++) {
        struct embedder *e = &embedders[n];

        e->worker = &worker;
        arena_init(&e->arena, (size_t)worker.job->workers.memory_bytes);
        arena_init(&e->scratch, (size_t)worker.job->workers.memory_bytes);
        if (pthread_create(&e->thread, NULL, embed_examples, e) != 0) {
            st = error_set(err, ST_UNAVAILABLE, "could not start a thread");
            (void)shutdown(options->socket, SHUT_RDWR);
            break;
        }
    }
    for (size_t i = 0; i < n; i++) {
        (void)pthread_join(embedders[i].thread, NULL);
        arena_release(&embedders[i].arena);
        arena_release(&embedders[i].scratch);
    }
    arena_release(&arena);
    http_close(&worker.web);
    computed_rows_close(&worker.rows);
    input_index_close(&worker.in);
    return st;
}
