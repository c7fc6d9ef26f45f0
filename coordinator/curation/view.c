#include "coordinator/curation/view.h"

#include "reinforce/curate/example_id.h"
#include "reinforce/curate/subset.h"
#include "storage/format/base64.h"

#include <inttypes.h>

#define MAX_OBJECT_BYTES ((size_t)1 << 36)

enum { MAX_LINE_BYTES = 64 << 20 };

enum status view_open(const char *url, const struct object_store_options *options,
                      struct view *view, struct error *err)
{
    struct bytes_view body;
    enum status st;

    memset(view, 0, sizeof *view);
    arena_init(&view->arena, MAX_OBJECT_BYTES);
    st = object_store_open_with(url, options, &view->store, err);
    if (st == ST_OK)
        st = object_store_get(view->store, VIEW_KEY, MAX_LINE_BYTES, &view->arena, &body, err);
    if (st == ST_NOT_FOUND)
        st = error_set(err, ST_NOT_FOUND, "\"%s\" is no view: it has no " VIEW_KEY, url);
    if (st == ST_OK)
        st = json_parse(body, &view->about, err);
    view->dataset = json_string_value(json_object_get(view->about, "dataset"));
    if (st == ST_OK && view->dataset == NULL)
        st = error_set(err, ST_CORRUPT, VIEW_KEY " does not say of what dataset it is");
    if (st == ST_OK)
        st = object_store_get(view->store, VIEW_MANIFEST_KEY, MAX_OBJECT_BYTES / 2, &view->arena,
                              &view->lines, err);
    if (st == ST_NOT_FOUND && view->about != NULL)
        st = error_set(err, ST_CORRUPT, "it has no " VIEW_MANIFEST_KEY);
    if (st != ST_OK) {
        error_add_context(err, "view \"%s\"", url);
        view_close(view);
    }
    return st;
}

void view_close(struct view *view)
{
    json_decref(view->about);
    object_store_close(&view->store);
    arena_release(&view->arena);
    memset(view, 0, sizeof *view);
}

static enum status read_shard(struct view_shard *shard, struct error *err)
{
    const char *bits = json_string_value(json_object_get(shard->line, "kept"));
    json_int_t bytes = json_integer_value(json_object_get(shard->line, "bytes"));
    json_int_t n_records = json_integer_value(json_object_get(shard->line, "n_records"));
    json_int_t n_kept = json_integer_value(json_object_get(shard->line, "num_uids"));
    size_t n = 0;
    enum status st;

    shard->name = json_string_value(json_object_get(shard->line, "shard"));
    shard->object_key = json_string_value(json_object_get(shard->line, "object"));
    shard->sha256 = json_string_value(json_object_get(shard->line, "sha256"));
    if (shard->name == NULL || shard->object_key == NULL || shard->sha256 == NULL || bits == NULL ||
        bytes < 0 || n_records < 0 || n_kept < 0)
        return error_set(err, ST_CORRUPT,
                         "lacks one of shard, object, sha256, bytes, n_records, "
                         "num_uids, kept");
    shard->bytes = (uint64_t)bytes;
    shard->n_records = (size_t)n_records;
    shard->n_kept = (size_t)n_kept;
    st = base64_decode(bytes_of_string(bits), &shard->bits, err);
    if (st != ST_OK)
        return st;
    if (shard->bits.len != (shard->n_records + 7) / 8)
        return error_set(err, ST_CORRUPT, "has bits for %zu bytes of records, not for %zu records",
                         shard->bits.len, shard->n_records);
    for (size_t i = 0; i < shard->n_records; i++)
        n += view_shard_keeps(shard, i);
    return n == shard->n_kept ? ST_OK
                              : error_set(err, ST_CORRUPT, "keeps %zu records, num_uids says %zu",
                                          n, shard->n_kept);
}

enum status view_next_shard(const struct view *view, size_t *at, struct view_shard *shard,
                            struct error *err)
{
    const uint8_t *begin = view->lines.data + *at, *end;
    size_t len;
    enum status st;

    memset(shard, 0, sizeof *shard);
    byte_buf_init(&shard->bits, MAX_LINE_BYTES);
    if (*at == view->lines.len)
        return ST_END;
    end = memchr(begin, '\n', view->lines.len - *at);
    len = end != NULL ? (size_t)(end - begin) : view->lines.len - *at;
    st = json_parse(bytes_view_of(begin, len), &shard->line, err);
    if (st == ST_OK)
        st = read_shard(shard, err);
    if (st != ST_OK) {
        error_add_context(err, VIEW_MANIFEST_KEY ": byte %zu", *at);
        view_shard_release(shard);
        return st;
    }
    *at += len + (end != NULL);
    return ST_OK;
}

void view_shard_release(struct view_shard *shard)
{
    json_decref(shard->line);
    byte_buf_release(&shard->bits);
    memset(shard, 0, sizeof *shard);
}

static enum status find_drop(struct bytes_view lines, struct bytes_view uid, json_t **drop,
                             struct error *err)
{
    struct byte_buf begin; /* of the line: {"uid": "...", */
    enum status st;

    byte_buf_init(&begin, MAX_LINE_BYTES);
    st = byte_buf_append_string(&begin, "{\"uid\": ", err);
    if (st == ST_OK)
        st = json_write_string(uid, &begin, err);
    if (st == ST_OK)
        st = byte_buf_append(&begin, ",", 1, err);
    for (size_t at = 0; at < lines.len && st == ST_OK && *drop == NULL;) {
        const uint8_t *end = memchr(lines.data + at, '\n', lines.len - at);
        size_t len = end != NULL ? (size_t)(end - (lines.data + at)) : lines.len - at;

        if (len >= begin.len && memcmp(lines.data + at, begin.data, begin.len) == 0)
            st = json_parse(bytes_view_of(lines.data + at, len), drop, err);
        at += len + (end != NULL);
    }
    byte_buf_release(&begin);
    return st;
}

/* kept.npy, in `arena`. */
static enum status read_ids(struct view *view, struct arena *arena, struct example_id **ids,
                            size_t *n, struct error *err)
{
    struct bytes_view body;
    enum status st =
        object_store_get(view->store, VIEW_IDS_KEY, MAX_OBJECT_BYTES / 4, arena, &body, err);

    if (st == ST_OK)
        st = subset_decode(body, ids, n, arena, err);
    if (st != ST_OK)
        error_add_context(err, VIEW_IDS_KEY);
    return st;
}

enum status view_find(struct view *view, struct bytes_view uid, bool *kept, json_t **drop,
                      struct error *err)
{
    struct example_id *ids;
    struct bytes_view lines;
    struct arena arena;
    size_t n;
    enum status st;

    *drop = NULL;
    *kept = false;
    arena_init(&arena, MAX_OBJECT_BYTES);
    st = read_ids(view, &arena, &ids, &n, err);
    if (st == ST_OK)
        *kept = subset_holds(ids, n, example_id_of_uid(uid));
    if (st == ST_OK && !*kept)
        st = object_store_get(view->store, VIEW_DROPS_KEY, MAX_OBJECT_BYTES / 4, &arena, &lines,
                              err);
    if (st == ST_OK && !*kept)
        st = find_drop(lines, uid, drop, err);
    arena_release(&arena);
    return st;
}

static enum status verify_shard(const struct view_shard *shard, struct object_store *dataset,
                                output_problem_fn *problem, void *ctx,
                                struct output_verdict *verdict, struct error *err)
{
    struct object_written is;
    char text[320] = "";
    enum status st = object_store_hash(dataset, shard->object_key, &is, err);

    verdict->objects++;
    verdict->samples += (int64_t)shard->n_kept;
    if (st == ST_NOT_FOUND)
        (void)snprintf(text, sizeof text, "is missing from the dataset");
    else if (st != ST_OK)
        return st;
    else if (is.bytes != shard->bytes || strcmp(is.sha256, shard->sha256) != 0)
        (void)snprintf(text, sizeof text,
                       "is not what the view was made of (%" PRIu64 " bytes, SHA-256 %.12s...); "
                       "curate again",
                       is.bytes, is.sha256);
    else
        verdict->bytes += is.bytes;
    if (text[0] != '\0') {
        verdict->problems++;
        problem(ctx, -1, shard->object_key, text);
    }
    return ST_OK;
}

enum status view_verify(struct view *view, struct object_store *dataset, output_problem_fn *problem,
                        void *ctx, struct output_verdict *verdict, struct error *err)
{
    struct example_id *ids;
    struct view_shard shard;
    struct arena arena;
    char text[160];
    size_t at = 0, n;
    enum status st;

    memset(verdict, 0, sizeof *verdict);
    while ((st = view_next_shard(view, &at, &shard, err)) == ST_OK) {
        st = verify_shard(&shard, dataset, problem, ctx, verdict, err);
        view_shard_release(&shard);
        if (st != ST_OK)
            return st;
    }
    arena_init(&arena, MAX_OBJECT_BYTES);
    if (st == ST_END)
        st = read_ids(view, &arena, &ids, &n, err);
    if (st == ST_OK && n > (size_t)verdict->samples) {
        (void)snprintf(text, sizeof text, "has %zu ids, " VIEW_MANIFEST_KEY " keeps %" PRId64, n,
                       verdict->samples);
        verdict->problems++;
        problem(ctx, -1, VIEW_IDS_KEY, text);
    }
    arena_release(&arena);
    return st;
}
