#include "coordinator/planner.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/sha256.h"
#include "storage/format/dataset.h"
#include "storage/format/folder.h"
#include "storage/format/side_files.h"

#include <inttypes.h>
#include <stdlib.h>

#define PLAN_PREFIX "_reinforce/plan/"

enum {
    LIST_MAX_BYTES = 1 << 30,
    SCAN_BYTES = 1 << 20,
    PORTION_SHARDS = 1000,
    PORTION_MS = 1000,
    SURVEY_OBJECTS = 10000,
};

/* What an input folder holds, counted by kind while it is listed. */
struct survey {
    size_t n_objects, n_tars, n_jsonl;
    char first_tar[OBJECT_KEY_MAX + 1], first_jsonl[OBJECT_KEY_MAX + 1];
};

static enum status hand_over(struct plan *plan, struct error *err)
{
    enum status st = plan->commit(plan->commit_ctx, plan->shards, plan->n_open, err);

    arena_reset(plan->arena);
    plan->shards = NULL;
    plan->n_open = plan->capacity = 0;
    plan->handed_ms = clock_monotonic_ms();
    return st;
}

static enum status add_shard(struct plan *plan, const struct catalog_shard_plan *shard,
                             struct error *err)
{
    struct catalog_shard_plan *to;
    char *key;
    enum status st = ST_OK;

    if (plan->commit != NULL && plan->n_open > 0 &&
        (plan->n_open >= PORTION_SHARDS || clock_monotonic_ms() - plan->handed_ms >= PORTION_MS))
        st = hand_over(plan, err);
    if (st != ST_OK)
        return st;
    if (plan->n_open == plan->capacity) {
        size_t capacity = MAX(plan->capacity * 2, (size_t)64);
        struct catalog_shard_plan *shards;

        st = arena_calloc(plan->arena, capacity, sizeof *shards, &shards, err);
        if (st != ST_OK)
            return st;
        if (plan->n_open > 0)
            memcpy(shards, plan->shards, plan->n_open * sizeof *shards);
        plan->shards = shards;
        plan->capacity = capacity;
    }
    st = arena_strndup(plan->arena, shard->input_key, strlen(shard->input_key), &key, err);
    if (st != ST_OK)
        return st;
    to = &plan->shards[plan->n_open++];
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

    (void)snprintf(shard.input_etag, sizeof shard.input_etag, "%s", etag);
    if (strcmp(format, "jsonl") != 0)
        return add_shard(plan, &shard, err);
    if (plan->scan == NULL && (plan->scan = malloc(SCAN_BYTES)) == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %d bytes", (int)SCAN_BYTES);
    for (uint64_t at = 0; at < bytes && st == ST_OK; at += SCAN_BYTES) {
        size_t n = (size_t)MIN(bytes - at, (uint64_t)SCAN_BYTES);

        st = object_store_read_range(plan->input.store, key, at, n, plan->scan, err);
        for (size_t i = 0; i < n && st == ST_OK; i++) {
            if (plan->scan[i] != '\n')
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
static void count(const char *key, size_t *n, char first[OBJECT_KEY_MAX + 1])
{
    if ((*n)++ == 0)
        (void)snprintf(first, OBJECT_KEY_MAX + 1, "%s", key);
}

static enum status refuse_view(struct error *err)
{
    return error_set(err, ST_INVALID,
                     "is a view of a dataset, which a job cannot read; name the dataset");
}

static enum status survey_object(void *ctx, const struct object_info *info, struct error *err)
{
    struct survey *survey = ctx;
    const char *format = input_format(info->key);

    if (strcmp(info->key, SIDE_FILES_VIEW) == 0)
        return refuse_view(err);
    if (strncmp(info->key, "_reinforce/", 11) == 0)
        return ST_OK;
    if (format != NULL && strcmp(format, "webdataset") == 0)
        count(info->key, &survey->n_tars, survey->first_tar);
    else if (format != NULL && !folder_is_captions_file(info->key))
        count(info->key, &survey->n_jsonl, survey->first_jsonl);
    survey->n_objects++;
    return survey->n_objects >= SURVEY_OBJECTS && survey->n_tars + survey->n_jsonl > 0 ? ST_END
                                                                                       : ST_OK;
}

/* input.format "jsonl" stands for its compressed forms too. */
static bool is_wanted(const char *wanted, const char *format)
{
    return strcmp(wanted, "auto") == 0 || strncmp(format, wanted, strlen(wanted)) == 0;
}

static enum status refuse_both(const struct plan *plan, const char *key, struct error *err)
{
    return error_set(err, ST_INVALID,
                     "input \"%s\" holds both tars and JSONL, \"%s\" for one; set input.format to "
                     "one of the two",
                     plan->job->input.url, key);
}

static enum status add_object(void *ctx, const struct object_info *info, struct error *err)
{
    struct plan *plan = ctx;
    const char *format = input_format(info->key);
    struct catalog_shard_plan shard = {
        .source = CATALOG_INPUT_JOB, .input_key = info->key, .input_format = format};

    if (strcmp(info->key, SIDE_FILES_VIEW) == 0)
        return refuse_view(err);
    if (format == NULL || strncmp(info->key, "_reinforce/", 11) == 0 ||
        !is_wanted(plan->job->input.format, format))
        return ST_OK;
    if (plan->family != NULL && strncmp(format, plan->family, strlen(plan->family)) != 0)
        return folder_is_captions_file(info->key) ? ST_OK : refuse_both(plan, info->key, err);
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
    if (plan->n_shards < plan->n_known) { /* somebody may be reading it */
        written.bytes = byte_buf_view(&list->body).len;
        sha256_of(byte_buf_view(&list->body), written.sha256);
        st = ST_OK;
    } else {
        st = object_store_put(plan->output, key, byte_buf_view(&list->body), &written, err);
    }
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

/* What an input of format "auto" is: *is_folder, or plan->family. */
static enum status survey_input(struct plan *plan, bool *is_folder, struct error *err)
{
    struct survey survey = {0};
    enum status st = object_store_list(plan->input.store, "", survey_object, &survey, err);

    if (st != ST_OK && st != ST_END)
        return st;
    if (survey.n_tars > 0 && survey.n_jsonl > 0)
        return error_set(
            err, ST_INVALID,
            "input \"%s\" holds both tars (\"%s\") and JSONL (\"%s\"); set input.format to one",
            plan->job->input.url, survey.first_tar, survey.first_jsonl);
    *is_folder = survey.n_tars == 0 && survey.n_jsonl == 0;
    plan->family = survey.n_tars > 0 ? "webdataset" : "jsonl";
    return ST_OK;
}

static enum status run(struct plan *plan, struct error *err)
{
    const char *format = plan->job->input.format;
    bool is_folder = strcmp(format, "folder") == 0;
    enum status st = ST_OK;

    if (plan->input.n_keys > 0)
        return add_named(plan, err);
    if (strcmp(format, "auto") == 0)
        st = survey_input(plan, &is_folder, err);
    if (st != ST_OK)
        return st;
    return is_folder ? plan_folder(plan, err)
                     : object_store_list(plan->input.store, "", add_object, plan, err);
}

enum status planner_run(struct plan *plan, struct error *err)
{
    enum status st;

    plan->n_shards = plan->n_open = 0;
    plan->n_samples = 0;
    plan->handed_ms = clock_monotonic_ms();
    st = run(plan, err);
    free(plan->scan);
    plan->scan = NULL;
    if (st == ST_OK && plan->n_shards == 0)
        return error_set(
            err, ST_NOT_FOUND,
            "input \"%s\" holds nothing to read; expected .tar or .jsonl shards, or images "
            "(.jpg .jpeg .png .webp .gif)",
            plan->job->input.url);
    if (st != ST_OK)
        error_add_context(err, "input \"%s\"", plan->job->input.url);
    return st;
}
