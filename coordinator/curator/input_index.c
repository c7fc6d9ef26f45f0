#include "coordinator/curator/input_index.h"

#include "coordinator/planner.h"
#include "reinforce/base/file.h"
#include "reinforce/base/log.h"
#include "reinforce/curate/example_id.h"
#include "reinforce/job/job_stream.h"
#include "storage/format/dataset.h"
#include "worker/storage.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { ARENA_BYTES = 1 << 30, ARENA_BYTES_PER_SAMPLE_BYTE = 4 };

static enum status digest_object(void *ctx, const struct object_info *info, struct error *err)
{
    struct sha256 *digest = ctx;
    char line[160];

    (void)err;
    (void)snprintf(line, sizeof line, " %" PRIu64 " %.80s\n", info->bytes, info->etag);
    sha256_update(digest, info->key, strlen(info->key));
    sha256_update(digest, line, strlen(line));
    return ST_OK;
}

static enum status digest_input(const struct job *job, struct input_index *in, struct error *err)
{
    struct sha256 *digest = NULL;
    char line[64];
    enum status st = sha256_create(&digest, err);

    if (st != ST_OK)
        return st;
    (void)snprintf(line, sizeof line, "1 %.20s %" PRId64 " ", job->input.format,
                   job->input.shard_samples);
    sha256_update(digest, line, strlen(line));
    sha256_update(digest, job->input.url, strlen(job->input.url));
    if (in->input.n_keys == 0)
        st = object_store_list(in->input.store, "", digest_object, digest, err);
    for (size_t k = 0; k < in->input.n_keys && st == ST_OK; k++) {
        struct object_info info;

        st = object_store_head(in->input.store, in->input.keys[k], &info, err);
        info.key = in->input.keys[k];
        if (st == ST_OK)
            st = digest_object(digest, &info, err);
    }
    sha256_hex(digest, in->key);
    sha256_destroy(&digest);
    if (st != ST_OK)
        error_add_context(err, "input \"%s\"", job->input.url);
    return st;
}

static enum status index_shard(const struct job *job, const struct input_index *in,
                               const struct catalog_shard_plan *shard,
                               struct example_index_builder *builder, struct error *err)
{
    bool is_listed = shard->source == CATALOG_INPUT_PLAN;
    const struct dataset_read_options options = {
        .max_sample_bytes = (size_t)job->workers.max_sample_bytes,
        .begin_offset = shard->input_begin,
        .end_offset = shard->input_end,
        .allow_missing_image =
            true, /* and what lines refer to is not fetched: a reject has a uid */
    };
    const struct dataset_position from = {.offset = shard->input_begin};
    struct dataset_position at = from, next;
    struct dataset_reader *reader;
    struct arena arena;
    enum status st =
        example_index_add_shard(builder, is_listed, shard->input_format, shard->input_key, err);

    if (st == ST_OK)
        st = dataset_reader_open(dataset_format_by_name(shard->input_format),
                                 is_listed ? in->lists : in->input.store, shard->input_key,
                                 &options, &from, &reader, err);
    if (st != ST_OK)
        return st;
    arena_init(&arena, ARENA_BYTES_PER_SAMPLE_BYTE * options.max_sample_bytes);
    while (st == ST_OK) {
        struct record record = {0};
        struct dataset_reject reject;
        enum status read;

        arena_reset(&arena);
        read = dataset_reader_next(reader, &arena, &record, &reject, err);
        dataset_reader_tell(reader, &next);
        if (read == ST_OK || read == ST_CORRUPT)
            st = example_index_add(
                builder,
                example_id_of_uid(read == ST_OK ? record.uid : bytes_of_string(reject.uid)),
                at.offset, next.offset, err);
        else
            st = read;
        at = next;
        record_release(&record);
    }
    arena_release(&arena);
    dataset_reader_close(&reader);
    return st == ST_END ? ST_OK : st;
}

static enum status make(const struct job *job, struct input_index *in, const char *path,
                        struct error *err)
{
    struct example_index_builder builder;
    struct plan plan = {.job = job, .input = in->input, .output = in->lists, .arena = &in->arena};
    uint64_t n_twice = 0;
    enum status st = planner_run(&plan, err);

    log_at(LOG_INFO, "indexing_input", "url=\"%s\" shards=%zu path=\"%s\"", job->input.url,
           plan.n_shards, path);
    example_index_builder_init(&builder);
    for (size_t s = 0; s < plan.n_open && st == ST_OK; s++) {
        st = index_shard(job, in, &plan.shards[s], &builder, err);
        if (st != ST_OK)
            error_add_context(err, "shard \"%s\"", plan.shards[s].input_key);
        log_at(LOG_INFO, "shard_indexed", "shard=\"%s\" number=%zu of=%zu examples=%" PRIu64,
               plan.shards[s].input_key, s + 1, plan.n_open, builder.n);
    }
    if (st == ST_OK)
        st = example_index_write(&builder, path, in->key, &n_twice, err);
    if (st == ST_OK && n_twice > 0)
        log_at(LOG_WARN, "uids_twice", "n=%" PRIu64, n_twice);
    example_index_builder_release(&builder);
    return st;
}

enum status input_index_path(const char *cache, const char *key, char *path, size_t size,
                             struct error *err)
{
    return snprintf(path, size, "%s/%.32s.index", cache, key) < (int)size
               ? ST_OK
               : error_set(err, ST_INVALID, "the cache's path is too long");
}

static enum status open_index(const struct job *job, const char *cache, struct input_index *in,
                              struct error *err)
{
    char path[PATH_MAX], lists[PATH_MAX];
    enum status st = storage_open_input(job, &in->arena, &in->input, err);

    if (st == ST_OK)
        st = digest_input(job, in, err);
    if (st == ST_OK)
        st = input_index_path(cache, in->key, path, sizeof path, err);
    if (st == ST_OK &&
        snprintf(lists, sizeof lists, "file:%s/%.32s.lists", cache, in->key) >= (int)sizeof lists)
        st = error_set(err, ST_INVALID, "the cache's path is too long");
    if (st == ST_OK)
        st = file_make_dirs(cache, err);
    if (st == ST_OK)
        st = object_store_open(lists, &in->lists, err);
    if (st != ST_OK || example_index_open(path, in->key, &in->index, err) == ST_OK)
        return st;
    if (err->code != ST_NOT_FOUND)
        log_at(LOG_WARN, "index_made_again", "at=\"%s\" cause=\"%s\"", err->context, err->message);
    *err = (struct error){0};
    st = make(job, in, path, err);
    return st == ST_OK ? example_index_open(path, in->key, &in->index, err) : st;
}

enum status input_index_open(const struct job *job, const char *cache, struct input_index *out,
                             struct error *err)
{
    enum status st;

    *out = (struct input_index){0};
    if (job_is_stream(job))
        return error_set(err, ST_INVALID,
                         "\"%.100s\" is a stream, which has no examples to look up",
                         job->input.url);
    arena_init(&out->arena, ARENA_BYTES);
    st = open_index(job, cache, out, err);
    if (st != ST_OK)
        input_index_close(out);
    return st;
}

void input_index_close(struct input_index *in)
{
    example_index_close(&in->index);
    object_store_close(&in->lists);
    input_close(&in->input);
    arena_release(&in->arena);
    *in = (struct input_index){0};
}
