#include "coordinator/planner.h"

#include "storage/format/dataset.h"
#include "storage/format/folder.h"
#include "storage/format/side_files.h"

#include <inttypes.h>

#define PLAN_PREFIX "_reinforce/plan/"

enum { LIST_MAX_BYTES = 1 << 30, SCAN_BYTES = 1 << 20 };

/* What an input folder holds, counted by kind while it is listed. */
struct survey {
    struct plan *plan;
    size_t n_tars, n_jsonl, n_images;
    const char *first_tar, *first_jsonl;
};

static enum status add_shard(struct plan *plan, const struct catalog_shard_plan *shard,
                             struct error *err)
{
    struct catalog_shard_plan *to;
    char *key;
    enum status st;

    if (plan->n_shards == plan->capacity) {
        size_t capacity = MAX(plan->capacity * 2, (size_t)64);
        struct catalog_shard_plan *shards;

        st = arena_calloc(plan->arena, capacity, sizeof *shards, &shards, err);
        if (st != ST_OK)
            return st;
        if (plan->n_shards > 0)
            memcpy(shards, plan->shards, plan->n_shards * sizeof *shards);
        plan->shards = shards;
        plan->capacity = capacity;
    }
    st = arena_strndup(plan->arena, shard->input_key, strlen(shard->input_key), &key, err);
    if (st != ST_OK)
        return st;
    to = &plan->shards[plan->n_shards];
    *to = *shard;
    to->shard = (int64_t)plan->n_shards++;
    to->input_key = key;
    return ST_OK;
}

/* Cuts a plain JSONL object at line starts, every shard_samples lines. */
static enum status add_jsonl(struct plan *plan, const char *key, const char *format,
                             const char *etag, uint64_t bytes, struct error *err)
{
    struct catalog_shard_plan shard = {
        .source = CATALOG_INPUT_JOB, .input_key = key, .input_format = format};
    int64_t lines = 0;
    enum status st = ST_OK;
    uint8_t *buffer;

    (void)snprintf(shard.input_etag, sizeof shard.input_etag, "%s", etag);
    if (strcmp(format, "jsonl") != 0)
        return add_shard(plan, &shard, err);
    st = arena_alloc(plan->arena, SCAN_BYTES, &buffer, err);
    for (uint64_t at = 0; at < bytes && st == ST_OK; at += SCAN_BYTES) {
        size_t n = (size_t)MIN(bytes - at, (uint64_t)SCAN_BYTES);

        st = object_store_read_range(plan->input.store, key, at, n, buffer, err);
        for (size_t i = 0; i < n && st == ST_OK; i++) {
            if (buffer[i] != '\n')
                continue;
            plan->n_samples++;
            if (++lines < plan->job->input.shard_samples || at + i + 1 >= bytes)
                continue;
            lines = 0;
            shard.input_end = at + i + 1;
            st = add_shard(plan, &shard, err);
            shard.input_begin = shard.input_end;
        }
    }
    shard.input_end = bytes;
    return st == ST_OK && (bytes > shard.input_begin || bytes == 0) ? add_shard(plan, &shard, err)
                                                                    : st;
}

/* One more of a kind; the first is remembered. */
static enum status count(struct survey *survey, const char *key, size_t *n, const char **first,
                         struct error *err)
{
    char *copy;
    enum status st;

    if ((*n)++ > 0)
        return ST_OK;
    st = arena_strndup(survey->plan->arena, key, strlen(key), &copy, err);
    if (st == ST_OK)
        *first = copy;
    return st;
}

static enum status survey_object(void *ctx, const struct object_info *info, struct error *err)
{
    struct survey *survey = ctx;
    const char *format;

    if (strcmp(info->key, SIDE_FILES_VIEW) == 0)
        return error_set(err, ST_INVALID,
                         "is a view of a dataset, which a job cannot read; name the dataset");
    if (strncmp(info->key, "_reinforce/", 11) == 0)
        return ST_OK;
    format = input_format(info->key);
    if (format != NULL && strcmp(format, "webdataset") == 0)
        return count(survey, info->key, &survey->n_tars, &survey->first_tar, err);
    if (format != NULL && !folder_is_captions_file(info->key))
        return count(survey, info->key, &survey->n_jsonl, &survey->first_jsonl, err);
    survey->n_images += folder_is_image(info->key);
    return ST_OK;
}

/* input.format "jsonl" stands for its compressed forms too. */
static bool is_wanted(const char *wanted, const char *format)
{
    return strcmp(wanted, "auto") == 0 || strncmp(format, wanted, strlen(wanted)) == 0;
}

static enum status add_object(void *ctx, const struct object_info *info, struct error *err)
{
    struct plan *plan = ctx;
    const char *format = input_format(info->key);
    struct catalog_shard_plan shard = {
        .source = CATALOG_INPUT_JOB, .input_key = info->key, .input_format = format};

    if (format == NULL || strncmp(info->key, "_reinforce/", 11) == 0 ||
        !is_wanted(plan->job->input.format, format))
        return ST_OK;
    if (strcmp(format, "webdataset") != 0)
        return add_jsonl(plan, info->key, format, info->etag, info->bytes, err);
    (void)snprintf(shard.input_etag, sizeof shard.input_etag, "%s", info->etag);
    return add_shard(plan, &shard, err);
}

/* The objects that the job's URL names; each must be there. */
static enum status add_named(struct plan *plan, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < plan->input.n_keys && st == ST_OK; i++) {
        struct object_info info = {0};

        st = object_store_head(plan->input.store, plan->input.keys[i], &info, err);
        info.key = plan->input.keys[i];
        if (st == ST_OK)
            st = add_object(plan, &info, err);
    }
    return st;
}

/* The list of images that becomes one shard's input. */
struct image_list {
    struct plan *plan;
    struct byte_buf body;
    int64_t n_lines;
};

static enum status flush_list(struct image_list *list, struct error *err)
{
    struct plan *plan = list->plan;
    char key[64];
    struct object_written written;
    struct catalog_shard_plan shard = {
        .source = CATALOG_INPUT_PLAN, .input_key = key, .input_format = "jsonl"};
    enum status st;

    if (list->n_lines == 0)
        return ST_OK;
    (void)snprintf(key, sizeof key, PLAN_PREFIX "%08zu.jsonl", plan->n_shards);
    st = object_store_put(plan->output, key, byte_buf_view(&list->body), &written, err);
    if (st != ST_OK)
        return st;
    shard.input_end = written.bytes;
    (void)snprintf(shard.input_etag, sizeof shard.input_etag, "%s", written.sha256);
    list->n_lines = 0;
    byte_buf_reset(&list->body);
    return add_shard(plan, &shard, err);
}

static enum status take_line(void *ctx, struct bytes_view line, struct error *err)
{
    struct image_list *list = ctx;
    enum status st = byte_buf_append(&list->body, line.data, line.len, err);

    list->plan->n_samples++;
    if (st == ST_OK && ++list->n_lines >= list->plan->job->input.shard_samples)
        st = flush_list(list, err);
    return st;
}

static enum status plan_folder(struct plan *plan, struct error *err)
{
    struct image_list list = {.plan = plan};
    enum status st;

    byte_buf_init(&list.body, LIST_MAX_BYTES);
    st = folder_list(plan->input.store, "", take_line, &list, err);
    if (st == ST_OK)
        st = flush_list(&list, err);
    byte_buf_release(&list.body);
    return st;
}

enum status planner_run(struct plan *plan, struct error *err)
{
    const char *format = plan->job->input.format, *url = plan->job->input.url;
    struct survey survey = {.plan = plan};
    bool automatic = strcmp(format, "auto") == 0;
    enum status st;

    if (plan->input.n_keys > 0)
        st = add_named(plan, err);
    else
        st = object_store_list(plan->input.store, "", survey_object, &survey, err);
    if (st == ST_OK && plan->input.n_keys == 0) {
        if (automatic && survey.n_tars > 0 && survey.n_jsonl > 0)
            return error_set(
                err, ST_INVALID,
                "input \"%s\" holds both tars (\"%s\") and JSONL (\"%s\"); set input.format to one",
                url, survey.first_tar, survey.first_jsonl);
        if (strcmp(format, "folder") == 0 ||
            (automatic && survey.n_tars == 0 && survey.n_jsonl == 0))
            st = plan_folder(plan, err);
        else
            st = object_store_list(plan->input.store, "", add_object, plan, err);
    }
    if (st == ST_OK && plan->n_shards == 0)
        return error_set(
            err, ST_NOT_FOUND,
            "input \"%s\" holds nothing to read; expected .tar or .jsonl shards, or images "
            "(.jpg .jpeg .png .webp .gif)",
            url);
    if (st != ST_OK)
        error_add_context(err, "input \"%s\"", url);
    return st;
}
