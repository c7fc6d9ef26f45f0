#include "coordinator/curator/dataset_references.h"

#include "reinforce/base/file.h"
#include "reinforce/base/json.h"
#include "reinforce/base/log.h"
#include "reinforce/curate/example_id.h"
#include "storage/format/dataset.h"
#include "storage/format/side_files.h"
#include "worker/model_record.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MANIFEST_MAX_BYTES = 1 << 30, JOB_MAX_BYTES = 256 << 20, SAMPLE_MAX_BYTES = 1 << 30 };

/* A shard that the manifest names. */
struct source {
    const char *object;
    uint64_t n;
};

/* A dataset while its references are gathered. */
struct gathering {
    const struct dataset_references_options *options;
    struct object_store *store;
    const struct dataset_format *format;
    struct model_teacher teacher;
    char text_name[256]; /* of the array with the captions' embeddings */
    struct arena arena;
    struct source *sources; /* [n_sources] */
    size_t n_sources;
    uint64_t n_samples;
    struct reference_facts facts;
    struct reference_writer *writer;
    float *image, *text; /* [D] */
    uint64_t n_without, n_twice;
};

static enum status take_line(struct gathering *g, struct bytes_view text, struct error *err)
{
    struct source *source = &g->sources[g->n_sources];
    json_t *line = NULL;
    const char *object;
    char *copy;
    json_int_t n;
    enum status st = json_parse(text, &line, err);

    object = json_string_value(json_object_get(line, "object"));
    n = json_integer_value(json_object_get(line, "n_done"));
    if (st == ST_OK && (object == NULL || n < 0 || n > INT32_MAX))
        st = error_set(err, ST_CORRUPT, "\"object\" or \"n_done\" is missing");
    if (st == ST_OK)
        st = arena_strndup(&g->arena, object, strlen(object), &copy, err);
    if (st == ST_OK) {
        *source = (struct source){copy, (uint64_t)n};
        g->n_samples += source->n;
        g->n_sources++;
    }
    json_decref(line);
    return st;
}

/* Lines to sources; *digest is of the whole. */
static enum status read_manifest(struct gathering *g, char digest[SHA256_HEX_LEN + 1],
                                 struct error *err)
{
    struct bytes_view body = {0};
    size_t n_lines = 1;
    enum status st =
        object_store_get(g->store, SIDE_FILES_MANIFEST, MANIFEST_MAX_BYTES, &g->arena, &body, err);

    if (st == ST_NOT_FOUND)
        return error_set(err, ST_NOT_FOUND,
                         "there is no " SIDE_FILES_MANIFEST ": its job has not ended yet");
    if (st != ST_OK)
        return st;
    sha256_of(body, digest);
    for (size_t i = 0; i < body.len; i++)
        n_lines += body.data[i] == '\n';
    st = arena_calloc(&g->arena, n_lines, sizeof *g->sources, &g->sources, err);
    for (size_t at = 0, line = 1; st == ST_OK && at < body.len; line++) {
        const uint8_t *begin = body.data + at, *end = memchr(begin, '\n', body.len - at);
        size_t len = end != NULL ? (size_t)(end - begin) : body.len - at;

        st = take_line(g, bytes_view_of(begin, len), err);
        if (st != ST_OK)
            error_add_context(err, SIDE_FILES_MANIFEST ": line %zu", line);
        at += len + 1;
    }
    return st;
}

static enum status read_format(struct gathering *g, struct error *err)
{
    struct bytes_view body;
    json_t *job = NULL;
    const char *name;
    enum status st =
        object_store_get(g->store, "_reinforce/job.json", JOB_MAX_BYTES, &g->arena, &body, err);

    if (st == ST_NOT_FOUND)
        return error_set(err, ST_NOT_FOUND,
                         "`reinforce run` has not written it: there is no _reinforce/job.json");
    if (st == ST_OK)
        st = json_parse(body, &job, err);
    name = json_string_value(json_object_get(json_object_get(job, "output"), "format"));
    g->format = dataset_format_by_name(name != NULL ? name : "webdataset");
    if (st == ST_OK && g->format == NULL)
        st = error_set(err, ST_CORRUPT, "_reinforce/job.json names an unknown output.format");
    json_decref(job);
    return st;
}

/* What the references are of, and its key. */
static enum status describe(struct gathering *g, struct error *err)
{
    const char *column = g->options->column != NULL ? g->options->column : "text";
    char manifest[SHA256_HEX_LEN + 1], text[1024];
    enum status st = read_format(g, err);

    if (st == ST_OK)
        st = model_record_teacher(g->store, g->options->teacher, &g->teacher, err);
    if (st == ST_OK)
        st = read_manifest(g, manifest, err);
    if (st != ST_OK)
        return st;
    if (snprintf(g->text_name, sizeof g->text_name, "%s_emb", column) >= (int)sizeof g->text_name)
        return error_set(err, ST_INVALID, "\"%.40s...\" is no column", column);
    (void)snprintf(text, sizeof text, "1 %s %s %s %zu", manifest, g->teacher.digest, g->text_name,
                   g->teacher.first);
    g->facts = (struct reference_facts){
        .D = g->teacher.dim, .scale = g->teacher.logit_scale, .bias = g->teacher.logit_bias};
    sha256_of(bytes_of_string(text), g->facts.key);
    (void)snprintf(g->facts.version, sizeof g->facts.version, "%.100s@%.16s", g->teacher.name,
                   g->facts.key);
    return ST_OK;
}

bool dataset_reference_mean(const struct record_embedding *from, size_t first, size_t D, float *out)
{
    double square = 0, inverse;

    for (size_t d = 0; d < D; d++) {
        double sum = 0;

        for (size_t r = 0; r < from->rows; r++) {
            size_t at = r * from->dim + first + d;
            float value;

            if (from->dtype == RECORD_BF16)
                record_f32_from_bf16((const uint16_t *)from->data + at, 1, &value);
            else
                value = ((const float *)from->data)[at];
            sum += (double)value;
        }
        out[d] = (float)(sum / (double)from->rows);
        square += (double)out[d] * (double)out[d];
    }
    inverse = 1 / sqrt(square);
    for (size_t d = 0; d < D; d++)
        out[d] = (float)((double)out[d] * inverse);
    return isfinite(inverse);
}

static enum status take_record(struct gathering *g, const struct record *record, struct error *err)
{
    const struct record_embedding *image = record_find_embedding(record, "image_emb"),
                                  *text = record_find_embedding(record, g->text_name);
    size_t first = g->teacher.first, D = g->teacher.dim;
    bool is_real = g->options->column == NULL;
    struct record_embedding caption;
    enum status st;

    if (image == NULL || image->rows == 0 || text == NULL || text->rows == 0 ||
        (is_real && record->n_captions == 0)) {
        g->n_without++;
        return ST_OK;
    }
    if (image->dim < g->teacher.first + g->teacher.dim || text->dim != image->dim)
        return error_set(err, ST_CORRUPT,
                         "rows have %zu and %zu values, teacher \"%s\" ends at %zu", image->dim,
                         text->dim, g->teacher.name, g->teacher.first + g->teacher.dim);
    caption = *text;
    caption.rows = 1;
    if (!dataset_reference_mean(image, first, D, g->image) ||
        !dataset_reference_mean(&caption, first, D, g->text)) {
        g->n_without++;
        return ST_OK;
    }
    st = reference_writer_add(g->writer, example_id_of_uid(record->uid), g->image, g->text, err);
    g->n_twice += st == ST_CONFLICT;
    return st == ST_CONFLICT ? ST_OK : st;
}

static enum status take_shard(struct gathering *g, const struct source *source, struct error *err)
{
    const struct dataset_read_options options = {.max_sample_bytes = SAMPLE_MAX_BYTES,
                                                 .allow_missing_image = true};
    const struct dataset_position from = {0};
    struct dataset_reader *reader;
    struct arena arena;
    enum status st =
        dataset_reader_open(g->format, g->store, source->object, &options, &from, &reader, err);

    if (st != ST_OK)
        return st;
    arena_init(&arena, SAMPLE_MAX_BYTES);
    while (st == ST_OK) {
        struct record record = {0};
        struct dataset_reject reject;

        arena_reset(&arena);
        st = dataset_reader_next(reader, &arena, &record, &reject, err);
        if (st == ST_CORRUPT) {
            (void)error_set(err, ST_CORRUPT, "%s; `reinforce verify` says more", reject.detail);
            error_add_context(err, "sample \"%s\"", reject.uid);
        } else if (st == ST_OK) {
            st = take_record(g, &record, err);
            if (st != ST_OK)
                error_add_context(err, "sample \"%.*s\"", (int)record.uid.len,
                                  (const char *)record.uid.data);
        }
        record_release(&record);
        if (st == ST_OK && g->options->stop != NULL && atomic_load(g->options->stop))
            st = error_set(err, ST_CANCELLED, "told to stop");
    }
    arena_release(&arena);
    dataset_reader_close(&reader);
    return st == ST_END ? ST_OK : st;
}

static enum status make(struct gathering *g, const char *path, struct error *err)
{
    enum status st = file_make_dirs(g->options->cache, err);

    log_at(LOG_INFO, "caching_references", "samples=%" PRIu64 " path=\"%s\"", g->n_samples, path);
    if (st == ST_OK)
        st = arena_calloc(&g->arena, g->teacher.dim, sizeof *g->image, &g->image, err);
    if (st == ST_OK)
        st = arena_calloc(&g->arena, g->teacher.dim, sizeof *g->text, &g->text, err);
    if (st == ST_OK)
        st = reference_writer_open(path, &g->facts, g->n_samples, &g->writer, err);
    for (size_t s = 0; s < g->n_sources && st == ST_OK; s++) {
        st = take_shard(g, &g->sources[s], err);
        if (st != ST_OK)
            error_add_context(err, "shard %s", g->sources[s].object);
    }
    if (st == ST_OK && g->n_without == g->n_samples)
        st = error_set(err, ST_INVALID,
                       "none of %" PRIu64 " samples has both image_emb and %s: give --column",
                       g->n_samples, g->text_name);
    if (st == ST_OK)
        st = reference_writer_finish(&g->writer, err);
    reference_writer_abandon(&g->writer);
    if (st == ST_OK && g->n_without + g->n_twice > 0)
        log_at(LOG_WARN, "references_missing", "without_embeddings=%" PRIu64 " uid_twice=%" PRIu64,
               g->n_without, g->n_twice);
    return st;
}

enum status dataset_references_open(const struct dataset_references_options *options,
                                    struct reference_cache **out, struct error *err)
{
    struct gathering g = {.options = options};
    char path[PATH_MAX];
    enum status st = object_store_open_with(options->url, options->store, &g.store, err);

    *out = NULL;
    arena_init(&g.arena, 2 * (size_t)MANIFEST_MAX_BYTES);
    if (st == ST_OK)
        st = describe(&g, err);
    if (st == ST_OK &&
        snprintf(path, sizeof path, "%s/%.32s.references", options->cache, g.facts.key) >= PATH_MAX)
        st = error_set(err, ST_INVALID, "the cache's path is too long");
    if (st == ST_OK && reference_cache_open(path, g.facts.key, out, err) != ST_OK) {
        if (err->code != ST_NOT_FOUND)
            log_at(LOG_WARN, "cache_made_again", "at=\"%s\" cause=\"%s\"", err->context,
                   err->message);
        *err = (struct error){0};
        st = make(&g, path, err);
        if (st == ST_OK)
            st = reference_cache_open(path, g.facts.key, out, err);
    }
    if (st != ST_OK)
        error_add_context(err, "dataset \"%s\"", options->url);
    object_store_close(&g.store);
    arena_release(&g.arena);
    return st;
}
