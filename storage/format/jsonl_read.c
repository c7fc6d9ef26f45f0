#include "reinforce/base/utf8.h"
#include "reinforce/image/decode.h"
#include "reinforce/record/record_json.h"
#include "reinforce/record/record_key.h"
#include "storage/format/base64.h"
#include "storage/format/dataset_embeddings.h"
#include "storage/format/dataset_reject.h"
#include "storage/format/jsonl.h"
#include "storage/format/numpy_pickle.h"
#include "storage/http/http.h"

#include <inttypes.h>

enum {
    SIDECAR_BYTES = 1 << 20,
    MAX_MEMBERS = 1024,
    MAX_EMBEDDINGS = 64,
};

/* The sample being read: what every step needs. */
struct sample {
    json_t *object;
    struct bytes_view uid;
    const struct dataset_read_options *options;
    struct byte_buf *scratch;
    struct arena *arena;
    struct record *record;
    struct dataset_reject *reject;
    struct error *err;
};

bool jsonl_read_uid(const json_t *object, struct jsonl_uid *uid)
{
    static const char *const fields[] = {"uid", "id"};

    memset(uid, 0, sizeof *uid);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const json_t *value = json_object_get(object, fields[i]);

        if (value == NULL || json_is_null(value))
            continue;
        uid->field = fields[i];
        if (json_is_string(value)) {
            uid->source = bytes_view_of(json_string_value(value), json_string_length(value));
        } else if (json_is_integer(value)) {
            (void)snprintf(uid->digits, sizeof uid->digits, "%" JSON_INTEGER_FORMAT,
                           json_integer_value(value));
            uid->source = bytes_of_string(uid->digits);
        }
        return record_key_make(uid->source, RECORD_KEY_OF_SAMPLE, uid->key) > 0;
    }
    return false;
}

static enum status bad(struct sample *sample, const char *reason, const char *field)
{
    error_add_context(sample->err, "field %s", field);
    return dataset_reject_error(sample->reject, sample->uid, reason, sample->err);
}

/* The value of a field that may be absent; null is absent, and so is a list of nothing. */
static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

static json_t *field_of(const struct sample *sample, const char *name)
{
    json_t *value = json_object_get(sample->object, name);

    return is_absent(value) ? NULL : value;
}

static enum status take_captions(struct sample *sample)
{
    const char *name = field_of(sample, "text") != NULL ? "text" : "caption";
    json_t *value = field_of(sample, name);
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    struct bytes_view *captions;
    enum status st;

    if (value == NULL)
        return ST_OK;
    if (n > RECORD_MAX_TEXTS)
        return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "bad_caption",
                                  "field %s has %zu texts; at most %d are read", name, n,
                                  (int)RECORD_MAX_TEXTS);
    st = arena_calloc(sample->arena, n, sizeof *captions, &captions, sample->err);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = record_json_text(json_is_array(value) ? json_array_get(value, i) : value, "caption",
                              sample->arena, &captions[i], sample->err);
    if (st != ST_OK)
        return bad(sample, "bad_caption", name);
    sample->record->captions = captions;
    sample->record->n_captions = n;
    (void)json_object_del(sample->object, name);
    return ST_OK;
}

/* An object that the line refers to. */
static enum status read_reference(struct sample *sample, const char *field, const char *reason,
                                  size_t max_bytes, const char **key, struct bytes_view *body)
{
    json_t *value = field_of(sample, field);
    struct object_store *store = sample->options->references;
    enum status st;

    *key = json_string_value(value);
    if (*key == NULL)
        return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, reason,
                                  "field %s is not a string", field);
    if (store == NULL)
        return dataset_reject_set(sample->reject, sample->uid, ST_INVALID, reason,
                                  "field %s refers to \"%.100s\", but there is no place to look",
                                  field, *key);
    st = object_key_check(*key, sample->err);
    if (st != ST_OK)
        return bad(sample, reason, field);
    st = object_store_get(store, *key, max_bytes, sample->arena, body, sample->err);
    if (st != ST_OK)
        return bad(sample, st == ST_INVALID ? "sample_too_large" : reason, field);
    return ST_OK;
}

static enum status take_text_file(struct sample *sample)
{
    struct bytes_view text = {0}, *captions;
    const char *key;
    enum status st;

    if (field_of(sample, "text_key") == NULL)
        return ST_OK;
    st = read_reference(sample, "text_key", "bad_sidecar", SIDECAR_BYTES, &key, &text);
    if (st != ST_OK)
        return st;
    /* editors end files with a newline; it is no part of the caption */
    while (text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
        text.len--;
    if (!utf8_is_valid(text))
        return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "bad_sidecar",
                                  "\"%.150s\" is not UTF-8", key);
    st = arena_alloc(sample->arena, sizeof *captions, &captions, sample->err);
    if (st != ST_OK)
        return st;
    *captions = text;
    sample->record->captions = captions;
    sample->record->n_captions = 1;
    return ST_OK;
}

/* The sidecar's fields join the line's, which win; those that name the sample stay out. */
static enum status take_json_file(struct sample *sample)
{
    static const char *const ours[] = {"uid", "id", "image", "image_key", "text_key", "json_key"};
    struct bytes_view body = {0};
    json_t *object;
    const char *key;
    enum status st;

    if (field_of(sample, "json_key") == NULL)
        return ST_OK;
    st = read_reference(sample, "json_key", "bad_sidecar", SIDECAR_BYTES, &key, &body);
    if (st != ST_OK)
        return st;
    st = record_json_parse(body, &object, sample->err);
    if (st != ST_OK) {
        error_add_context(sample->err, "\"%.150s\"", key);
        return bad(sample, "bad_sidecar", "json_key");
    }
    (void)json_object_del(sample->object, "json_key");
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        (void)json_object_del(object, ours[i]);
    if (json_object_update_missing(sample->object, object) != 0)
        st = error_set(sample->err, ST_NO_MEMORY, "could not join a sidecar's fields");
    json_decref(object);
    return st;
}

/* The bytes of a base64 string, in the arena. */
static enum status read_base64(struct sample *sample, const json_t *value, struct bytes_view *bytes)
{
    struct byte_buf *scratch = sample->scratch;
    uint8_t *copy;
    enum status st;

    byte_buf_reset(scratch);
    st = base64_decode(bytes_view_of(json_string_value(value), json_string_length(value)), scratch,
                       sample->err);
    if (st == ST_OK)
        st = arena_alloc(sample->arena, scratch->len, &copy, sample->err);
    if (st != ST_OK)
        return st;
    if (scratch->len > 0)
        memcpy(copy, scratch->data, scratch->len);
    *bytes = bytes_view_of(copy, scratch->len);
    return ST_OK;
}

/* By its first bytes; a trainer then says what is wrong with one that is nothing known. */
static const char *ext_of(struct bytes_view image)
{
    const char *ext = image_format_extension(image_sniff(image));

    return ext != NULL ? ext : "jpg";
}

static enum status take_image(struct sample *sample)
{
    json_t *value = field_of(sample, "image");
    struct record *record = sample->record;
    enum status st;

    if (!json_is_string(value))
        return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "bad_image",
                                  "field image is not a string of base64");
    st = read_base64(sample, value, &record->image);
    if (st != ST_OK)
        return bad(sample, "bad_image", "image");
    record->image_ext = ext_of(record->image);
    (void)json_object_del(sample->object, "image");
    return ST_OK;
}

/* The key stays among the fields: it says where the bytes came from. */
static enum status take_image_reference(struct sample *sample)
{
    struct record *record = sample->record;
    const char *key, *dot;
    char lower[8];
    enum status st = read_reference(sample, "image_key", "missing_image",
                                    sample->options->max_sample_bytes, &key, &record->image);

    if (st != ST_OK)
        return st;
    dot = strrchr(key, '.');
    if (dot != NULL && dataset_is_image_ext(dot + 1)) {
        char *copy;

        dataset_lower(dot + 1, lower, sizeof lower);
        st = arena_strndup(sample->arena, lower, strlen(lower), &copy, sample->err);
        record->image_ext = copy;
        return st;
    }
    record->image_ext = ext_of(record->image);
    return ST_OK;
}

/* A host that does not answer costs the samples it has, not the shard. */
static enum status fetch_image(struct sample *sample, const char *url,
                               struct http_response *response)
{
    const struct http_request request = {.method = "GET", .url = url, .follow_redirects = true};
    struct record *record = sample->record;
    uint8_t *copy;
    enum status st = http_run(sample->options->web, &request, sample->options->max_sample_bytes,
                              NULL, NULL, response, sample->err);

    if (st == ST_CANCELLED || st == ST_NO_MEMORY)
        return st;
    if (st != ST_OK)
        return dataset_reject_set(sample->reject, sample->uid, st,
                                  st == ST_NOT_FOUND ? "missing_image" : "fetch_failed", "%s",
                                  sample->err->message);
    st = arena_alloc(sample->arena, response->body.len, &copy, sample->err);
    if (st != ST_OK)
        return st;
    if (response->body.len > 0)
        memcpy(copy, response->body.data, response->body.len);
    record->image = bytes_view_of(copy, response->body.len);
    record->image_ext = ext_of(record->image);
    return ST_OK;
}

/* The URL stays among the fields, as an object's key does. */
static enum status take_image_url(struct sample *sample)
{
    const char *url = json_string_value(field_of(sample, "image_url"));
    struct http_response response = {0};
    enum status st;

    if (url == NULL)
        return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "bad_image",
                                  "field image_url is not a string");
    if (sample->options->web == NULL)
        return dataset_reject_set(sample->reject, sample->uid, ST_INVALID, "fetch_failed",
                                  "field image_url is there, but nothing is fetched here");
    st = fetch_image(sample, url, &response);
    http_response_release(&response);
    return st;
}

static enum status reject_no_image(struct sample *sample)
{
    char found[160] = "";
    size_t len = 0;
    const char *name;
    json_t *value;

    json_object_foreach(sample->object, name, value)
    {
        if (len < sizeof found - 1)
            len += (size_t)snprintf(found + len, sizeof found - len, "%s%s", len > 0 ? ", " : "",
                                    name);
    }
    return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "missing_image",
                              "no field image, image_key or image_url; found %s", found);
}

static enum status take_any_image(struct sample *sample)
{
    enum status st = ST_OK;

    if (field_of(sample, "image") != NULL)
        st = take_image(sample);
    else if (field_of(sample, "image_key") != NULL)
        st = take_image_reference(sample);
    else if (field_of(sample, "image_url") != NULL)
        st = take_image_url(sample);
    else
        return sample->options->allow_missing_image ? ST_OK : reject_no_image(sample);
    if (st == ST_OK && sample->record->image.len == 0)
        return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "empty_image",
                                  "the image has no bytes");
    return st;
}

/* Names whose value must be an embedding, whatever it looks like. */
static bool is_own_embedding(const struct sample *sample, const char *name)
{
    size_t len = strlen(name);

    if (strcmp(name, "image_emb") == 0 || strcmp(name, "text_emb") == 0)
        return true;
    for (size_t i = 0; i < sample->record->n_columns; i++) {
        const char *column = sample->record->columns[i].name;
        size_t column_len = strlen(column);

        if (len == column_len + 4 && memcmp(name, column, column_len) == 0 &&
            strcmp(name + column_len, "_emb") == 0)
            return true;
    }
    return false;
}

/* *taken: the field was an embedding. One that only looks so stays as it is. */
static enum status take_embedding(struct sample *sample, const char *name, const json_t *value,
                                  bool *taken)
{
    struct bytes_view text = bytes_view_of(json_string_value(value), json_string_length(value));
    struct array_limits limits = ARRAY_LIMITS_DEFAULT;
    struct record_embedding array;
    bool own = is_own_embedding(sample, name);
    char *copy;
    enum status st;

    *taken = own && is_absent(value);
    if (!json_is_string(value) || !numpy_pickle_text_matches(text))
        return own && !is_absent(value)
                   ? dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "bad_embedding",
                                        "field %.60s is not base64 of a gzip'd array", name)
                   : ST_OK;
    limits.max_bytes = MIN(limits.max_bytes, sample->options->max_sample_bytes);
    st = numpy_pickle_read_text(text, &limits, sample->arena, &array, sample->err);
    if (st == ST_CORRUPT && !own)
        return ST_OK;
    if (st != ST_OK)
        return bad(sample, "bad_embedding", name);
    st = arena_strndup(sample->arena, name, strlen(name), &copy, sample->err);
    if (st != ST_OK)
        return st;
    array.name = copy;
    *taken = true;
    return record_set_embedding(sample->record, &array, sample->arena, sample->err);
}

static enum status take_embeddings(struct sample *sample)
{
    size_t n = 0;
    const char *name;
    json_t *value;
    void *next;

    json_object_foreach_safe(sample->object, next, name, value)
    {
        bool taken = false;
        enum status st = ST_OK;

        if (strstr(name, "emb") != NULL && n < MAX_EMBEDDINGS)
            st = take_embedding(sample, name, value, &taken);
        if (st != ST_OK)
            return st;
        n += taken;
        if (taken)
            (void)json_object_del(sample->object, name);
    }
    return ST_OK;
}

static enum status take_member(struct sample *sample, const char *ext, const json_t *value)
{
    struct record *record = sample->record;
    struct bytes_view body;
    char *copy;
    enum status st;

    if (!json_is_string(value))
        return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "bad_member",
                                  "member %.60s in tar_members is not a string of base64", ext);
    st = read_base64(sample, value, &body);
    if (st != ST_OK)
        return bad(sample, "bad_member", "tar_members");
    st = arena_strndup(sample->arena, ext, strlen(ext), &copy, sample->err);
    if (st != ST_OK)
        return st;
    record->members[record->n_members++] = (struct record_member){.ext = copy, .body = body};
    return ST_OK;
}

static enum status take_members(struct sample *sample)
{
    json_t *members = field_of(sample, "tar_members"), *value;
    size_t n = json_object_size(members);
    const char *ext;
    enum status st;

    if (!json_is_object(members))
        return ST_OK; /* somebody else's field */
    if (n > MAX_MEMBERS)
        return dataset_reject_set(sample->reject, sample->uid, ST_CORRUPT, "too_many_members",
                                  "tar_members has %zu; at most %d are read", n, (int)MAX_MEMBERS);
    st = arena_calloc(sample->arena, n, sizeof *sample->record->members, &sample->record->members,
                      sample->err);
    json_object_foreach(members, ext, value)
    {
        if (st == ST_OK)
            st = take_member(sample, ext, value);
    }
    if (st == ST_OK)
        (void)json_object_del(sample->object, "tar_members");
    return st;
}

static enum status take_url(struct sample *sample)
{
    json_t *value = field_of(sample, "url");
    enum status st = ST_OK;

    if (value == NULL)
        return ST_OK;
    st = record_json_text(value, "url", sample->arena, &sample->record->url, sample->err);
    if (st != ST_OK)
        return bad(sample, "bad_url", "url");
    (void)json_object_del(sample->object, "url");
    return ST_OK;
}

/* A key that had to be made flat: its source would else be lost (a hash has no way back). */
static enum status keep_source(struct sample *sample, const struct jsonl_uid *uid)
{
    json_t *value;
    enum status st = ST_OK;

    if (!bytes_equal(uid->source, sample->uid) &&
        json_object_get(sample->object, "source_key") == NULL) {
        value = json_stringn((const char *)uid->source.data, uid->source.len);
        if (json_object_set_new(sample->object, "source_key", value) != 0)
            st = error_set(sample->err, ST_NO_MEMORY, "could not keep the source key");
    }
    (void)json_object_del(sample->object, uid->field); /* `source` may point into it */
    return st;
}

static enum status read_all(struct sample *sample)
{
    static const char *const own[] = {"image", "text", "caption", "url", "param_aug"};
    enum status st = take_json_file(sample);

    if (st == ST_OK)
        st = take_captions(sample);
    if (st == ST_OK && sample->record->n_captions == 0)
        st = take_text_file(sample);
    if (st == ST_OK)
        st = take_url(sample);
    if (st == ST_OK) {
        st = record_json_take_columns(sample->record, sample->object, sample->arena, sample->err);
        if (st != ST_OK)
            return bad(sample, "bad_captions", "syn_text");
        st = record_json_take_views(sample->record, sample->object, sample->arena, sample->err);
        if (st != ST_OK)
            return bad(sample, "bad_param_aug", "param_aug");
        st = take_embeddings(sample);
    }
    if (st == ST_OK)
        st = take_members(sample);
    if (st == ST_OK)
        st = take_any_image(sample);
    if (st == ST_OK)
        st = dataset_embeddings_normalize(sample->record, sample->arena, sample->err);
    (void)json_object_del(sample->object, "text_key");
    for (size_t i = 0; i < ARRAY_LEN(own) && st == ST_OK; i++)
        if (is_absent(json_object_get(sample->object, own[i])))
            (void)json_object_del(sample->object, own[i]);
    return st == ST_OK ? record_json_take_rest(sample->record, sample->object, sample->err) : st;
}

enum status jsonl_read_object(json_t *object, const struct jsonl_uid *uid,
                              const struct dataset_read_options *options, struct byte_buf *scratch,
                              struct arena *arena, struct record *record,
                              struct dataset_reject *reject, struct error *err)
{
    struct sample sample = {.object = object,
                            .options = options,
                            .scratch = scratch,
                            .arena = arena,
                            .record = record,
                            .reject = reject,
                            .err = err};
    char *key;
    enum status st = arena_strndup(arena, uid->key, strlen(uid->key), &key, err);

    if (st != ST_OK)
        return st;
    memset(err->context, 0, sizeof err->context); /* details quote it */
    record->uid = sample.uid = bytes_of_string(key);
    st = keep_source(&sample, uid);
    return st == ST_OK ? read_all(&sample) : st;
}
