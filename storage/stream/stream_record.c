#include "storage/stream/stream_record.h"

#include "reinforce/base/sha256.h"
#include "reinforce/base/utf8.h"
#include "reinforce/record/record_json.h"
#include "reinforce/record/record_key.h"
#include "storage/format/base64.h"
#include "storage/format/jsonl.h"
#include "storage/object/object_store.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum { URL_MAX = 8 << 10 };

/* A record on its way from bytes to a line. */
struct reading {
    struct bytes_view value;
    const struct stream_origin *origin;
    size_t max_bytes;
    struct arena *arena;
    struct byte_buf *line;
    struct stream_record *out;
    struct stream_refusal *refusal;
    struct error *err;
    json_t *object;
    struct bytes_view image; /* decoded, when it is bytes */
};

static enum status refuse(struct reading *r, const char *reason, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

static enum status refuse(struct reading *r, const char *reason, const char *fmt, ...)
{
    va_list ap;

    (void)snprintf(r->refusal->reason, sizeof r->refusal->reason, "%s", reason);
    va_start(ap, fmt);
    (void)vsnprintf(r->refusal->detail, sizeof r->refusal->detail, fmt, ap);
    va_end(ap);
    return error_set(r->err, ST_CORRUPT, "%s: %.200s", reason, r->refusal->detail);
}

/* The same for what a parser said; running out of memory is nobody's fault. */
static enum status refuse_error(struct reading *r, const char *reason)
{
    if (r->err->code != ST_CORRUPT && r->err->code != ST_INVALID)
        return r->err->code;
    return refuse(r, reason, "%.250s", r->err->message);
}

static const json_t *field_of(const struct reading *r, const char *name)
{
    const json_t *value = json_object_get(r->object, name);

    return json_is_null(value) ? NULL : value;
}

static struct bytes_view text_of(const json_t *value)
{
    return bytes_view_of(json_string_value(value), json_string_length(value));
}

static uint64_t hash_of(struct bytes_view bytes)
{
    char hex[SHA256_HEX_LEN + 1];
    uint64_t hash = 0;

    sha256_of(bytes, hex);
    for (int i = 0; i < 16; i++)
        hash = hash << 4 | (uint64_t)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    return hash;
}

static enum status check_version(struct reading *r)
{
    const json_t *version = field_of(r, "record_version");

    if (version == NULL ||
        (json_is_integer(version) && json_integer_value(version) == STREAM_RECORD_VERSION))
        return ST_OK;
    return refuse(r, "bad_version", "record_version is not %d, the one that is read here",
                  (int)STREAM_RECORD_VERSION);
}

static enum status check_uid(struct reading *r)
{
    struct jsonl_uid uid;

    if (!jsonl_read_uid(r->object, &uid))
        return refuse(r, "missing_uid", "no field uid, or one that names nothing");
    memcpy(r->out->key, uid.key, sizeof r->out->key);
    r->out->uid_hash = hash_of(bytes_of_string(r->out->key));
    return ST_OK;
}

static enum status check_captions(struct reading *r)
{
    const json_t *value = field_of(r, "text");
    size_t n;

    if (value == NULL)
        value = field_of(r, "caption");
    n = json_is_array(value) ? json_array_size(value) : value != NULL;
    if (n > RECORD_MAX_TEXTS)
        return refuse(r, "bad_caption", "%zu captions; at most %d are read", n,
                      (int)RECORD_MAX_TEXTS);
    for (size_t i = 0; i < n; i++) {
        const json_t *text = json_is_array(value) ? json_array_get(value, i) : value;

        if (!json_is_string(text))
            return refuse(r, "bad_caption", "caption %zu is not a string", i);
        if (memchr(json_string_value(text), '\0', json_string_length(text)) != NULL)
            return refuse(r, "bad_caption", "caption %zu has a NUL character in it", i);
    }
    return ST_OK;
}

/* Decodes base64, so that one image is one image whatever it came as. */
static enum status take_bytes(struct reading *r, const json_t *value)
{
    struct byte_buf bytes;
    uint8_t *copy;
    enum status st = ST_OK;

    if (r->image.data != NULL)
        return ST_OK; /* came as bytes */
    byte_buf_init(&bytes, r->max_bytes);
    st = base64_decode(text_of(value), &bytes, r->err);
    if (st != ST_OK)
        st = refuse_error(r, "bad_image");
    if (st == ST_OK)
        st = arena_alloc(r->arena, bytes.len, &copy, r->err);
    if (st == ST_OK) {
        if (bytes.len > 0)
            memcpy(copy, bytes.data, bytes.len);
        r->image = bytes_view_of(copy, bytes.len);
    }
    byte_buf_release(&bytes);
    return st;
}

static enum status check_url(struct reading *r, struct bytes_view url)
{
    static const char *const schemes[] = {"http://", "https://"};

    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t len = strlen(schemes[i]);

        if (url.len <= len || url.len > URL_MAX || memcmp(url.data, schemes[i], len) != 0)
            continue;
        for (size_t c = 0; c < url.len; c++)
            if (url.data[c] <= ' ' || url.data[c] >= 0x7f)
                return refuse(r, "bad_url", "image_url has byte 0x%02x in it; write it as %%%02X",
                              url.data[c], url.data[c]);
        return ST_OK;
    }
    return refuse(r, "bad_url", "image_url is no http or https URL of at most %d bytes",
                  (int)URL_MAX);
}

static enum status check_key(struct reading *r, struct bytes_view key)
{
    if (memchr(key.data, '\0', key.len) != NULL)
        return refuse(r, "bad_key", "image_key has a NUL character in it");
    return object_key_check((const char *)key.data, r->err) == ST_OK ? ST_OK
                                                                     : refuse_error(r, "bad_key");
}

static enum status check_image(struct reading *r)
{
    static const struct {
        const char *field;
        enum ingest_image kind;
    } kinds[] = {{"image", INGEST_IMAGE_BYTES},
                 {"image_url", INGEST_IMAGE_URL},
                 {"image_key", INGEST_IMAGE_KEY}};
    const json_t *value = NULL;
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const json_t *found = field_of(r, kinds[i].field);

        if (found != NULL && value != NULL)
            return refuse(r, "several_images",
                          "more than one of image, image_url and image_key; one is to be there");
        if (found == NULL)
            continue;
        if (!json_is_string(found))
            return refuse(r, "bad_image", "field %s is not a string", kinds[i].field);
        value = found;
        r->out->kind = kinds[i].kind;
    }
    if (value == NULL)
        return refuse(r, "missing_image", "none of image, image_url and image_key");
    if (r->out->kind == INGEST_IMAGE_URL)
        st = check_url(r, text_of(value));
    else if (r->out->kind == INGEST_IMAGE_KEY)
        st = check_key(r, text_of(value));
    else
        st = take_bytes(r, value);
    if (st == ST_OK && r->out->kind == INGEST_IMAGE_BYTES && r->image.len == 0)
        return refuse(r, "empty_image", "the image has no bytes");
    if (st == ST_OK)
        r->out->content_hash =
            hash_of(r->out->kind == INGEST_IMAGE_BYTES ? r->image : text_of(value));
    return st;
}

static enum status check_object(struct reading *r)
{
    enum status st;

    if (json_object_get(r->object, STREAM_RECORD_ORIGIN) != NULL)
        return refuse(r, "reserved_field", "field %s is for the record's origin",
                      STREAM_RECORD_ORIGIN);
    st = check_version(r);
    if (st == ST_OK)
        st = check_uid(r);
    if (st == ST_OK && field_of(r, "url") != NULL && !json_is_string(field_of(r, "url")))
        st = refuse(r, "bad_url", "field url is not a string");
    if (st == ST_OK)
        st = check_captions(r);
    return st == ST_OK ? check_image(r) : st;
}

/* The JSON text without its last brace and blanks; its line ends, which can only be between values,
 * become blanks. */
static enum status append_open(struct reading *r, struct bytes_view text)
{
    size_t from = r->line->len, len = text.len;
    enum status st;

    while (len > 0 && text.data[len - 1] != '}')
        len--;
    st = byte_buf_append(r->line, text.data, len > 0 ? len - 1 : 0, r->err);
    for (size_t i = from; i < r->line->len && st == ST_OK; i++)
        if (r->line->data[i] == '\n' || r->line->data[i] == '\r')
            r->line->data[i] = ' ';
    return st;
}

static enum status append_line(struct reading *r, struct bytes_view text)
{
    size_t before = r->line->len;
    enum status st = append_open(r, text);

    if (st == ST_OK) /* a topic's name needs no escapes */
        st = byte_buf_printf(r->line, r->err,
                             ", \"" STREAM_RECORD_ORIGIN "\": \"%s/%" PRId32 "/%" PRId64 "\"}\n",
                             r->origin->topic, r->origin->partition, r->origin->offset);
    if (st != ST_OK)
        r->line->len = before;
    return st;
}

static enum status read_json(struct reading *r)
{
    enum status st = record_json_parse(r->value, &r->object, r->err);

    if (st != ST_OK)
        return refuse_error(r, "bad_json");
    st = check_object(r);
    return st == ST_OK ? append_line(r, r->value) : st;
}

static enum status set(struct reading *r, const char *name, json_t *value)
{
    return json_object_set_new(r->object, name, value) == 0
               ? ST_OK
               : error_set(r->err, ST_NO_MEMORY, "could not keep field %s", name);
}

/* A new reference; NULL: not UTF-8, or no memory. */
static json_t *string_of(struct bytes_view text)
{
    return json_stringn(text.len > 0 ? (const char *)text.data : "", text.len);
}

static enum status set_text(struct reading *r, const char *name, struct bytes_view text,
                            const char *reason)
{
    if (text.len == 0)
        return ST_OK;
    if (!utf8_is_valid(text))
        return refuse(r, reason, "field %s is not UTF-8", name);
    return set(r, name, string_of(text));
}

static enum status set_captions(struct reading *r, const struct ingest_record *record)
{
    json_t *texts = record->n_captions > 0 ? json_array() : NULL;
    enum status st = ST_OK;

    if (record->n_captions == 0)
        return ST_OK;
    for (size_t i = 0; i < record->n_captions && st == ST_OK; i++) {
        if (!utf8_is_valid(record->captions[i]))
            st = refuse(r, "bad_caption", "caption %zu is not UTF-8", i);
        else if (json_array_append_new(texts, string_of(record->captions[i])) != 0)
            st = error_set(r->err, ST_NO_MEMORY, "could not keep a caption");
    }
    if (st == ST_OK)
        return set(r, "text", texts);
    json_decref(texts);
    return st;
}

static enum status set_image(struct reading *r, const struct ingest_record *record)
{
    static const char *const names[] = {NULL, "image", "image_url", "image_key"};
    struct byte_buf text;
    enum status st;

    if (record->kind == INGEST_IMAGE_NONE)
        return ST_OK;
    if (record->kind != INGEST_IMAGE_BYTES)
        return record->image.len == 0
                   ? refuse(r, "bad_image", "%s is empty", names[record->kind])
                   : set_text(r, names[record->kind], record->image, "bad_image");
    r->image = record->image;
    if (r->image.data == NULL)
        r->image.data = (const uint8_t *)"";
    byte_buf_init(&text, r->max_bytes / 3 * 4 + 8);
    st = base64_encode(record->image, &text, r->err);
    if (st == ST_OK)
        st = set(r, names[record->kind], string_of(byte_buf_view(&text)));
    byte_buf_release(&text);
    return st;
}

/* Fields of the user's that would be taken for the record's own. */
static enum status check_fields(struct reading *r)
{
    static const char *const own[] = {"uid", "id",    "text",      "caption",
                                      "url", "image", "image_url", "image_key"};

    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (json_object_get(r->object, own[i]) != NULL)
            return refuse(r, "bad_fields", "fields has \"%s\", which has a place of its own",
                          own[i]);
    return ST_OK;
}

static enum status object_of(struct reading *r, const struct ingest_record *record)
{
    enum status st = ST_OK;

    if (record->fields.len > 0) {
        st = record_json_parse(record->fields, &r->object, r->err);
        if (st != ST_OK)
            return refuse_error(r, "bad_fields");
        st = check_fields(r);
    } else {
        r->object = json_object();
        if (r->object == NULL)
            st = error_set(r->err, ST_NO_MEMORY, "could not allocate a record");
    }
    if (st == ST_OK && record->version > STREAM_RECORD_VERSION)
        st = refuse(r, "bad_version", "version is %" PRIu32 "; up to %d are read", record->version,
                    (int)STREAM_RECORD_VERSION);
    if (st == ST_OK)
        st = set_text(r, "uid", record->uid, "missing_uid");
    if (st == ST_OK)
        st = set_captions(r, record);
    if (st == ST_OK)
        st = set_text(r, "url", record->url, "bad_url");
    return st == ST_OK ? set_image(r, record) : st;
}

static enum status read_protobuf(struct reading *r)
{
    struct ingest_record record;
    struct byte_buf text;
    enum status st = ingest_decode(r->value, r->arena, &record, r->err);

    if (st != ST_OK)
        return refuse_error(r, "bad_protobuf");
    st = object_of(r, &record);
    if (st == ST_OK)
        st = check_object(r);
    byte_buf_init(&text, r->line->max_len);
    if (st == ST_OK)
        st = json_write(r->object, &text, r->err);
    if (st == ST_OK)
        st = append_line(r, byte_buf_view(&text));
    byte_buf_release(&text);
    return st;
}

static bool begins_with_brace(struct bytes_view value)
{
    size_t i = 0;

    while (i < value.len && (value.data[i] == ' ' || value.data[i] == '\t' ||
                             value.data[i] == '\n' || value.data[i] == '\r'))
        i++;
    return i < value.len && value.data[i] == '{';
}

enum status stream_record_read(enum stream_schema schema, struct bytes_view value,
                               const struct stream_origin *origin, size_t max_bytes,
                               struct arena *arena, struct byte_buf *line,
                               struct stream_record *out, struct stream_refusal *refusal,
                               struct error *err)
{
    struct reading r = {.value = value,
                        .origin = origin,
                        .max_bytes = max_bytes,
                        .arena = arena,
                        .line = line,
                        .out = out,
                        .refusal = refusal,
                        .err = err};
    enum status st;

    memset(out, 0, sizeof *out);
    memset(refusal, 0, sizeof *refusal);
    if (value.len == 0)
        st = refuse(&r, "empty_record", "the message has no value");
    else if (value.len > max_bytes)
        st = refuse(&r, "too_large", "%zu bytes; at most %zu are read", value.len, max_bytes);
    else if (schema == STREAM_SCHEMA_JSON ||
             (schema == STREAM_SCHEMA_AUTO && begins_with_brace(value)))
        st = read_json(&r);
    else
        st = read_protobuf(&r);
    json_decref(r.object);
    return st;
}

/* A copy of the record without the fields that would be taken for a record's own: where an earlier
 * reader found its image, and where an earlier record stood. Its meta is to be let go. */
static enum status without_places(const struct record *record, struct record *copy,
                                  struct error *err)
{
    static const char *const places[] = {STREAM_RECORD_ORIGIN, "image_key", "image_url"};

    *copy = *record;
    copy->meta = record->meta != NULL ? json_copy(record->meta) : json_object();
    if (copy->meta == NULL)
        return error_set(err, ST_NO_MEMORY, "could not copy a record");
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        (void)json_object_del(copy->meta, places[i]);
    return ST_OK;
}

/* What is left when everything with a place of its own in protobuf is taken out. */
static enum status write_fields(struct record *rest, struct byte_buf *out, struct error *err)
{
    const struct dataset_write_options options = {.layout = DATASET_LAYOUT_CURRENT,
                                                  .dtype = RECORD_F32};
    struct byte_buf line;
    json_t *object = NULL;
    enum status st;

    rest->image = rest->url = (struct bytes_view){0};
    rest->n_captions = 0;
    byte_buf_init(&line, out->max_len);
    st = jsonl_write_line(rest, &options, &line, err);
    if (st == ST_OK)
        st = json_parse(byte_buf_view(&line), &object, err);
    if (st == ST_OK) {
        (void)json_object_del(object, "uid");
        if (json_object_size(object) > 0)
            st = json_write(object, out, err);
    }
    json_decref(object);
    byte_buf_release(&line);
    return st;
}

static enum status write_protobuf(struct record *record, const char *image_key, struct arena *arena,
                                  struct byte_buf *out, struct error *err)
{
    struct ingest_record message = {
        .version = STREAM_RECORD_VERSION,
        .uid = record->uid,
        .kind = image_key != NULL ? INGEST_IMAGE_KEY : INGEST_IMAGE_BYTES,
        .image = image_key != NULL ? bytes_of_string(image_key) : record->image,
        .n_captions = record->n_captions,
        .captions = record->captions,
        .url = record->url,
    };
    struct byte_buf fields;
    enum status st;

    byte_buf_init(&fields, out->max_len);
    st = write_fields(record, &fields, err);
    message.fields = byte_buf_view(&fields);
    if (st == ST_OK)
        st = ingest_encode(&message, arena, out, err);
    byte_buf_release(&fields);
    return st;
}

static enum status write_json(struct record *record, const char *image_key, struct byte_buf *out,
                              struct error *err)
{
    const struct dataset_write_options options = {.layout = DATASET_LAYOUT_CURRENT,
                                                  .dtype = RECORD_F32};
    enum status st;

    if (image_key != NULL) {
        record->image = (struct bytes_view){0};
        if (json_object_set_new(record->meta, "image_key", json_string(image_key)) != 0)
            return error_set(err, ST_NO_MEMORY, "could not keep an image's key");
    }
    st = jsonl_write_line(record, &options, out, err);
    if (st == ST_OK)
        out->len--; /* its newline */
    return st;
}

enum status stream_record_write(enum stream_schema schema, const struct record *record,
                                const char *image_key, struct arena *arena, struct byte_buf *out,
                                struct error *err)
{
    size_t before = out->len;
    struct record copy;
    enum status st;

    if (image_key == NULL && record->image.len == 0)
        return error_set(err, ST_INVALID, "the sample has no image");
    st = without_places(record, &copy, err);
    if (st != ST_OK)
        return st;
    st = schema == STREAM_SCHEMA_PROTOBUF ? write_protobuf(&copy, image_key, arena, out, err)
                                          : write_json(&copy, image_key, out, err);
    json_decref(copy.meta);
    if (st != ST_OK)
        out->len = before;
    return st;
}
