#include "reinforce/base/utf8.h"
#include "reinforce/record/record_json.h"
#include "storage/format/dataset_embeddings.h"
#include "storage/format/dataset_reject.h"
#include "storage/format/npz.h"
#include "storage/format/torch_pth.h"
#include "storage/format/webdataset.h"

/* The sample being read: what every step needs. */
struct sample {
    struct bytes_view uid;
    const struct dataset_read_options *options;
    struct arena *arena;
    struct record *record;
    struct dataset_reject *reject;
    struct error *err;
};

/* In the order in which trainers look for an image. */
static const char *const image_exts[] = {"jpg", "png", "jpeg", "webp", "gif"};

static enum status bad(struct sample *sample, const char *reason, const char *ext)
{
    error_add_context(sample->err, "member %s", ext);
    return dataset_reject_error(sample->reject, sample->uid, reason, sample->err);
}

static enum status keep_member(struct sample *sample, const struct webdataset_member *member)
{
    struct record *record = sample->record;

    /* read_members() made room for all */
    record->members[record->n_members++] =
        (struct record_member){.ext = member->ext, .body = member->body};
    return ST_OK;
}

static enum status take_caption(struct sample *sample, const struct webdataset_member *member)
{
    struct bytes_view *captions;
    enum status st;

    if (!utf8_is_valid(member->body))
        return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "bad_caption",
                                  "member txt is not UTF-8");
    st = arena_alloc(sample->arena, sizeof *captions, &captions, sample->err);
    if (st != ST_OK)
        return st;
    *captions = member->body;
    sample->record->captions = captions;
    sample->record->n_captions = 1;
    return ST_OK;
}

/* json, syn.json and paug.json: each gives what it is for, and the rest goes to meta. */
static enum status take_json(struct sample *sample, const struct webdataset_member *member)
{
    bool is_syn = strcmp(member->ext, "syn.json") == 0;
    bool is_paug = strcmp(member->ext, "paug.json") == 0;
    json_t *object = NULL;
    enum status st;

    st = record_json_parse(member->body, &object, sample->err);
    if (st != ST_OK)
        return bad(sample, "bad_json", member->ext);
    if (is_syn)
        st = record_json_take_columns(sample->record, object, sample->arena, sample->err);
    else if (is_paug)
        st = record_json_take_views(sample->record, object, sample->arena, sample->err);
    if (st != ST_OK)
        st = bad(sample, is_syn ? "bad_captions" : "bad_param_aug", member->ext);
    else if (record_json_take_rest(sample->record, object, sample->err) != ST_OK)
        st = bad(sample, "bad_json", member->ext);
    json_decref(object);
    return st;
}

static bool contains(struct bytes_view bytes, const char *text)
{
    size_t len = strlen(text);

    for (size_t i = 0; i + len <= bytes.len; i++)
        if (bytes.data[i] == (uint8_t)text[0] && memcmp(bytes.data + i, text, len) == 0)
            return true;
    return false;
}

/* An npz that is not of embeddings (masks, boxes) is carried through like any other member. */
static enum status take_embeddings(struct sample *sample, const struct webdataset_member *member)
{
    struct array_limits limits = ARRAY_LIMITS_DEFAULT;
    bool is_npz = strcmp(member->ext, "npz") == 0;
    struct record_embedding *arrays;
    size_t n;
    enum status st;

    limits.max_bytes = MIN(limits.max_bytes, sample->options->max_sample_bytes);
    st = is_npz ? npz_read(member->body, &limits, sample->arena, &arrays, &n, sample->err)
                : torch_pth_read(member->body, &limits, sample->arena, &arrays, &n, sample->err);
    if (st == ST_CORRUPT && is_npz && !contains(member->body, "_emb.npy"))
        return keep_member(sample, member);
    if (st != ST_OK)
        return bad(sample, "bad_embedding", member->ext);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        /* the trainers prefer npz where a sample has both */
        if (!is_npz && record_find_embedding(sample->record, arrays[i].name) != NULL)
            continue;
        st = record_set_embedding(sample->record, &arrays[i], sample->arena, sample->err);
    }
    return st;
}

static enum status take_member(struct sample *sample, const struct webdataset_member *member)
{
    const char *ext = member->ext;

    if (strcmp(ext, "txt") == 0)
        return take_caption(sample, member);
    if (strcmp(ext, "url.txt") == 0) {
        if (!utf8_is_valid(member->body)) /* of no use as a URL, and not JSON: carried as it is */
            return keep_member(sample, member);
        sample->record->url = member->body;
        return ST_OK;
    }
    if (strcmp(ext, "json") == 0 && member->body.len > 0 && member->body.data[0] == '[')
        return keep_member(sample, member); /* some corpora have a list there */
    if (strcmp(ext, "json") == 0 || strcmp(ext, "syn.json") == 0 || strcmp(ext, "paug.json") == 0)
        return take_json(sample, member);
    if (strcmp(ext, "npz") == 0 || strcmp(ext, "pth.gz") == 0)
        return take_embeddings(sample, member);
    return keep_member(sample, member);
}

/* The image a trainer would take; others are carried through. NULL: none. */
static const struct webdataset_member *find_image(const struct webdataset_member *members, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(image_exts); i++)
        for (size_t j = 0; j < n; j++)
            if (strcmp(members[j].ext, image_exts[i]) == 0)
                return &members[j];
    return NULL;
}

static enum status reject_no_image(struct sample *sample, const struct webdataset_member *members,
                                   size_t n)
{
    char found[160] = "";
    size_t len = 0;

    for (size_t i = 0; i < n && len < sizeof found - 1; i++)
        len += (size_t)snprintf(found + len, sizeof found - len, "%s%s", i > 0 ? ", " : "",
                                members[i].ext);
    return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "missing_image",
                              "no member jpg, jpeg, png, webp or gif; found %s", found);
}

enum status webdataset_read_members(const struct webdataset_member *members, size_t n,
                                    struct bytes_view uid,
                                    const struct dataset_read_options *options, struct arena *arena,
                                    struct record *record, struct dataset_reject *reject,
                                    struct error *err)
{
    struct sample sample = {.uid = uid,
                            .options = options,
                            .arena = arena,
                            .record = record,
                            .reject = reject,
                            .err = err};
    const struct webdataset_member *image = find_image(members, n);
    enum status st;

    memset(err->context, 0, sizeof err->context); /* details quote it */
    record->uid = uid;
    if (image == NULL && !options->allow_missing_image)
        return reject_no_image(&sample, members, n);
    if (image != NULL && image->body.len == 0)
        return dataset_reject_set(reject, uid, ST_CORRUPT, "empty_image", "member %s has no bytes",
                                  image->ext);
    if (image != NULL) {
        record->image = image->body;
        record->image_ext = image->ext;
    }
    st = arena_calloc(arena, n, sizeof *record->members, &record->members, err);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        if (&members[i] != image)
            st = take_member(&sample, &members[i]);
    return st == ST_OK ? dataset_embeddings_normalize(record, arena, err) : st;
}
