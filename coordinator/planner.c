#include "coordinator/planner.h"

#include "storage/format/dataset.h"
#include "storage/format/folder.h"

#include <inttypes.h>

#define PLAN_PREFIX "_reinforce/plan/"

enum { LIST_MAX_BYTES = 1 << 30, SCAN_BYTES = 1 << 20 };

/* What an input folder holds, counted by kind while it is listed. */
struct survey {
    struct plan *plan;
    size_t n_tars, n_jsonl, n_images;
    const char *first_tar, *first_jsonl;
};

static bool ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);

    return n >= m && strcmp(text + n - m, suffix) == 0;
}

static bool is_tar(const char *key)
{
    return ends_with(key, ".tar");
}

static const char *jsonl_format(const char *key)
{
    static const struct {
        const char *suffix, *format;
    } suffixes[] = {
        {".jsonl", "jsonl"},          {".jsonl.gz", "jsonl.gz"}, {".jsonl.zst", "jsonl.zst"},
        {".jsonl.zstd", "jsonl.zst"}, {".json.gz", "jsonl.gz"},  {".json.zst", "jsonl.zst"},
    };

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (ends_with(key, suffixes[i].suffix))
            return suffixes[i].format;
    return NULL;
}

enum status planner_open_input(const char *url, struct arena *arena, struct object_store **store,
                               const char **key, struct error *err)
{
    const char *slash = strrchr(url, '/');
    const char *folder = url;
    char *parent;
    enum status st;

    *key = NULL;
    *store = NULL;
    if (is_tar(url) || jsonl_format(url) != NULL) {
        const char *colon = strchr(url, ':');
        const char *name = slash != NULL ? slash + 1 : colon != NULL ? colon + 1 : url;

        st = arena_strndup(arena, url, (size_t)(name - url), &parent, err);
        if (st != ST_OK)
            return st;
        if (slash != NULL && slash > url && slash[-1] != ':' && slash[-1] != '/')
            parent[slash - url] = '\0';
        folder = parent[0] == '\0' ? "." : parent;
        *key = name;
    }
    return object_store_open(folder, store, err);
}

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
    struct catalog_shard_plan shard = {.input_key = key, .input_format = format};
    int64_t lines = 0;
    enum status st = ST_OK;
    uint8_t *buffer;

    (void)snprintf(shard.input_etag, sizeof shard.input_etag, "%s", etag);
    if (strcmp(format, "jsonl") != 0)
        return add_shard(plan, &shard, err);
    st = arena_alloc(plan->arena, SCAN_BYTES, &buffer, err);
    for (uint64_t at = 0; at < bytes && st == ST_OK; at += SCAN_BYTES) {
        size_t n = (size_t)MIN(bytes - at, (uint64_t)SCAN_BYTES);

        st = object_store_read_range(plan->input, key, at, n, buffer, err);
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

static enum status survey_object(void *ctx, const struct object_info *info, struct error *err)
{
    struct survey *survey = ctx;
    char *copy;

    if (strncmp(info->key, "_reinforce/", 11) == 0)
        return ST_OK;
    if (is_tar(info->key) && survey->n_tars++ == 0) {
        if (arena_strndup(survey->plan->arena, info->key, strlen(info->key), &copy, err) != ST_OK)
            return err->code;
        survey->first_tar = copy;
    }
    if (jsonl_format(info->key) != NULL && !folder_is_captions_file(info->key) &&
        survey->n_jsonl++ == 0) {
        if (arena_strndup(survey->plan->arena, info->key, strlen(info->key), &copy, err) != ST_OK)
            return err->code;
        survey->first_jsonl = copy;
    }
    survey->n_images += folder_is_image(info->key);
    return ST_OK;
}

static enum status add_object(void *ctx, const struct object_info *info, struct error *err)
{
    struct plan *plan = ctx;
    const char *format = is_tar(info->key) ? "webdataset" : jsonl_format(info->key);
    struct catalog_shard_plan shard = {.input_key = info->key, .input_format = format};

    if (format == NULL || strncmp(info->key, "_reinforce/", 11) == 0)
        return ST_OK;
    if (plan->input_key != NULL && strcmp(plan->input_key, info->key) != 0)
        return ST_OK;
    if (strcmp(format, "webdataset") != 0)
        return add_jsonl(plan, info->key, format, info->etag, info->bytes, err);
    (void)snprintf(shard.input_etag, sizeof shard.input_etag, "%s", info->etag);
    return add_shard(plan, &shard, err);
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
        .input_key = key, .input_format = "jsonl", .input_is_plan = true};
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
    st = folder_list(plan->input, "", take_line, &list, err);
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

    if (plan->input_key != NULL)
        st = object_store_list(plan->input, plan->input_key, add_object, plan, err);
    else
        st = object_store_list(plan->input, "", survey_object, &survey, err);
    if (st == ST_OK && plan->input_key == NULL) {
        if (automatic && survey.n_tars > 0 && survey.n_jsonl > 0)
            return error_set(
                err, ST_INVALID,
                "input \"%s\" holds both tars (\"%s\") and JSONL (\"%s\"); set input.format to one",
                url, survey.first_tar, survey.first_jsonl);
        if (strcmp(format, "folder") == 0 ||
            (automatic && survey.n_tars == 0 && survey.n_jsonl == 0))
            st = plan_folder(plan, err);
        else
            st = object_store_list(plan->input, "", add_object, plan, err);
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
