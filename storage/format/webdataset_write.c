#include "reinforce/record/record_json.h"
#include "reinforce/record/record_key.h"
#include "storage/format/dataset_embeddings.h"
#include "storage/format/npz.h"
#include "storage/format/tar.h"
#include "storage/format/torch_pth.h"
#include "storage/format/webdataset.h"

enum {
    OWN_MEMBERS = 7,
    MAX_EXT = 255,
    SCRATCH_BYTES = 256 << 20, /* converted embeddings */
};

enum member_kind {
    MEMBER_BYTES, /* body as it is */
    MEMBER_META,
    MEMBER_VIEWS,
    MEMBER_COLUMNS,
    MEMBER_EMBEDDINGS,
};

struct planned_member {
    const char *ext;
    enum member_kind kind;
    struct bytes_view body;
};

/* The record on its way out. */
struct writing {
    const struct record *record;
    struct arena scratch;
    struct record_embedding *arrays;
    size_t n_arrays;
    enum record_dtype dtype;
    struct planned_member *members;
    size_t n;
};

static void plan(struct writing *writing, const char *ext, enum member_kind kind,
                 struct bytes_view body)
{
    writing->members[writing->n++] =
        (struct planned_member){.ext = ext, .kind = kind, .body = body};
}

static int by_ext(const void *a, const void *b)
{
    const struct planned_member *left = a, *right = b;

    return strcmp(left->ext, right->ext);
}

static enum status check_exts(const struct writing *writing, struct error *err)
{
    for (size_t i = 0; i < writing->n; i++) {
        const char *ext = writing->members[i].ext;

        if (ext[0] == '\0' || strlen(ext) > MAX_EXT || strchr(ext, '/') != NULL)
            return error_set(err, ST_INVALID, "a member cannot have the extension \"%.60s\"", ext);
        if (i > 0 && strcmp(writing->members[i - 1].ext, ext) == 0)
            return error_set(
                err, ST_INVALID, "member %s comes from the input and would be written again%s", ext,
                strcmp(ext, "npz") == 0 ? ": store embeddings as bfloat16, which go to pth.gz"
                                        : "");
    }
    return ST_OK;
}

/* All members in the order they are written: by bytes of the extension. */
static enum status plan_members(struct writing *writing, struct error *err)
{
    const struct record *record = writing->record;
    const struct bytes_view none = {0};
    bool has_json = false;
    enum status st = arena_calloc(&writing->scratch, record->n_members + OWN_MEMBERS,
                                  sizeof *writing->members, &writing->members, err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < record->n_members; i++) {
        plan(writing, record->members[i].ext, MEMBER_BYTES, record->members[i].body);
        has_json |= strcmp(record->members[i].ext, "json") == 0;
    }
    if (record->image.len > 0)
        plan(writing, record->image_ext, MEMBER_BYTES, record->image);
    if (!has_json || json_object_size(record->meta) > 0)
        plan(writing, "json", MEMBER_META, none);
    if (writing->n_arrays > 0)
        plan(writing, writing->dtype == RECORD_BF16 ? "pth.gz" : "npz", MEMBER_EMBEDDINGS, none);
    if (record->n_views > 0)
        plan(writing, "paug.json", MEMBER_VIEWS, none);
    if (record->n_columns > 0)
        plan(writing, "syn.json", MEMBER_COLUMNS, none);
    if (record->n_captions > 0)
        plan(writing, "txt", MEMBER_BYTES, record->captions[0]);
    if (record->url.data != NULL)
        plan(writing, "url.txt", MEMBER_BYTES, record->url);
    qsort(writing->members, writing->n, sizeof *writing->members, by_ext);
    return check_exts(writing, err);
}

static enum status write_columns(const struct record *record, struct byte_buf *out,
                                 struct error *err)
{
    enum status st = byte_buf_append_string(out, "{", err);

    for (size_t i = 0; i < record->n_columns && st == ST_OK; i++) {
        const struct record_column *column = &record->columns[i];

        if (i > 0)
            st = byte_buf_append_string(out, ", ", err);
        if (st == ST_OK)
            st = json_write_string(bytes_of_string(column->name), out, err);
        if (st == ST_OK)
            st = byte_buf_append_string(out, ": ", err);
        if (st == ST_OK)
            st = record_json_write_texts(column->texts, column->n_texts, out, err);
    }
    return st == ST_OK ? byte_buf_append_string(out, "}", err) : st;
}

static enum status write_body(struct writing *writing, const struct planned_member *member,
                              struct byte_buf *out, struct error *err)
{
    const struct record *record = writing->record;
    enum status st;

    switch (member->kind) {
    case MEMBER_BYTES:
        return byte_buf_append(out, member->body.data, member->body.len, err);
    case MEMBER_META:
        return record->meta != NULL ? json_write(record->meta, out, err)
                                    : byte_buf_append_string(out, "{}", err);
    case MEMBER_VIEWS:
        st = byte_buf_append_string(out, "{\"param_aug\": ", err);
        if (st == ST_OK)
            st = record_json_write_views(record, out, err);
        return st == ST_OK ? byte_buf_append_string(out, "}", err) : st;
    case MEMBER_COLUMNS:
        return write_columns(record, out, err);
    case MEMBER_EMBEDDINGS:
        return writing->dtype == RECORD_BF16
                   ? torch_pth_write(writing->arrays, writing->n_arrays, out, err)
                   : npz_write(writing->arrays, writing->n_arrays, out, err);
    }
    return error_set(err, ST_INTERNAL, "unknown member kind %d", (int)member->kind);
}

static enum status write_members(struct writing *writing, struct byte_buf *out, struct error *err)
{
    struct bytes_view uid = writing->record->uid;
    char name[RECORD_KEY_MAX + MAX_EXT + 2];
    enum status st = ST_OK;

    for (size_t i = 0; i < writing->n && st == ST_OK; i++) {
        const struct planned_member *member = &writing->members[i];
        size_t mark;

        (void)snprintf(name, sizeof name, "%.*s.%s", (int)uid.len, (const char *)uid.data,
                       member->ext);
        st = tar_write_begin(out, name, &mark, err);
        if (st == ST_OK)
            st = write_body(writing, member, out, err);
        if (st == ST_OK)
            st = tar_write_end(out, mark, err);
        if (st != ST_OK)
            error_add_context(err, "member %s", member->ext);
    }
    return st;
}

enum status webdataset_append(const struct record *record,
                              const struct dataset_write_options *options, struct byte_buf *out,
                              struct error *err)
{
    struct writing writing = {.record = record, .dtype = options->dtype};
    size_t before = out->len;
    enum status st = record_key_check(record->uid, err);

    if (st == ST_OK && record->n_captions > 1)
        st = error_set(err, ST_INVALID,
                       "a tar holds one real caption per sample; the record has %zu: write JSONL",
                       record->n_captions);
    arena_init(&writing.scratch, SCRATCH_BYTES);
    if (st == ST_OK)
        st = dataset_embeddings_prepare(record, options, &writing.scratch, &writing.arrays,
                                        &writing.n_arrays, err);
    if (st == ST_OK)
        st = plan_members(&writing, err);
    if (st == ST_OK)
        st = write_members(&writing, out, err);
    arena_release(&writing.scratch);
    if (st != ST_OK)
        out->len = before;
    return st;
}
