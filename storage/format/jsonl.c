#include "storage/format/jsonl.h"

#include "reinforce/base/deflate.h"
#include "reinforce/record/record_json.h"
#include "storage/format/dataset_keys.h"
#include "storage/format/dataset_reject.h"
#include "storage/format/jsonl_lines.h"

#include <inttypes.h>
#include <zstd.h>

enum { ZSTD_LEVEL = 3, MAX_LINE_OUT = 1 << 30 };

struct jsonl_reader {
    struct dataset_reader base;
    struct dataset_read_options options;
    struct jsonl_lines *lines;
    struct dataset_keys seen;
    struct byte_buf scratch;
    struct dataset_position position;
    uint64_t
        line_number; /* of the line read last; right when no blank line came before the start */
    bool ended;
};

static bool is_blank(struct bytes_view text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] != ' ' && text.data[i] != '\t' && text.data[i] != '\r')
            return false;
    return true;
}

static struct bytes_view without_mark(const struct jsonl_line *line)
{
    if (line->begin == 0 && line->text.len >= 3 && memcmp(line->text.data, "\xef\xbb\xbf", 3) == 0)
        return bytes_view_of(line->text.data + 3, line->text.len - 3);
    return line->text;
}

static enum status reject_no_uid(const struct jsonl_reader *reader, const json_t *object,
                                 uint64_t begin, struct dataset_reject *reject)
{
    const union {
        const json_t *in;
        json_t *object; /* jansson's iterator changes nothing */
    } cast = {.in = object};
    char where[32], found[160] = "";
    size_t len = 0;
    const char *name;
    json_t *value;

    json_object_foreach(cast.object, name, value)
    {
        if (len < sizeof found - 1)
            len += (size_t)snprintf(found + len, sizeof found - len, "%s%s", len > 0 ? ", " : "",
                                    name);
    }
    (void)snprintf(where, sizeof where, "line %" PRIu64, reader->line_number);
    return dataset_reject_set(reject, bytes_of_string(where), ST_CORRUPT, "missing_uid",
                              "no field uid or id at byte %" PRIu64 "; found %s", begin, found);
}

/* A parsed line. */
static enum status read_object(struct jsonl_reader *reader, json_t *object, uint64_t begin,
                               struct arena *arena, struct record *record,
                               struct dataset_reject *reject, struct error *err)
{
    struct jsonl_uid uid;
    bool added;
    enum status st;

    if (!jsonl_read_uid(object, &uid))
        return reject_no_uid(reader, object, begin, reject);
    st = dataset_keys_add(&reader->seen, bytes_of_string(uid.key), &added, err);
    if (st != ST_OK)
        return st;
    if (!added)
        return dataset_reject_set(reject, bytes_of_string(uid.key), ST_CORRUPT, "repeated_key",
                                  "uid was there before line %" PRIu64, reader->line_number);
    return jsonl_read_object(object, &uid, &reader->options, &reader->scratch, arena, record,
                             reject, err);
}

static struct jsonl_reader *reader_of(struct dataset_reader *base)
{
    return CONTAINER_OF(base, struct jsonl_reader, base);
}

/* The next line that is not blank, unless it begins behind the slice. */
static enum status next_line(struct jsonl_reader *reader, struct jsonl_line *line,
                             struct error *err)
{
    enum status st;

    do {
        st = jsonl_lines_next(reader->lines, line, err);
        if (st != ST_OK)
            return st;
        if (reader->options.end_offset > 0 && line->begin >= reader->options.end_offset)
            return ST_END;
        reader->line_number++;
    } while (!line->too_long && is_blank(line->text));
    return ST_OK;
}

static enum status reader_next(struct dataset_reader *base, struct arena *arena,
                               struct record *record, struct dataset_reject *reject,
                               struct error *err)
{
    struct jsonl_reader *reader = reader_of(base);
    struct jsonl_line line;
    json_t *object = NULL;
    char where[32];
    enum status st;

    if (reader->ended)
        return ST_END;
    st = next_line(reader, &line, err);
    if (st != ST_OK) {
        reader->ended = true;
        if (st != ST_CORRUPT)
            return st;
        reader->position.index++;
        reader->position.offset = line.begin + 1; /* resuming there ends: it was reported */
        (void)snprintf(where, sizeof where, "line %" PRIu64, reader->line_number + 1);
        return dataset_reject_set(reject, bytes_of_string(where), ST_CORRUPT, "damaged_archive",
                                  "%s; nothing behind it was read", err->message);
    }
    reader->position.index++;
    reader->position.offset = line.end;
    (void)snprintf(where, sizeof where, "line %" PRIu64, reader->line_number);
    if (line.too_long)
        return dataset_reject_set(
            reject, bytes_of_string(where), ST_CORRUPT, "sample_too_large",
            "line of %" PRIu64 " bytes at byte %" PRIu64 "; at most %zu are read",
            line.end - line.begin, line.begin, reader->options.max_sample_bytes);
    memset(err->context, 0, sizeof err->context);
    st = record_json_parse(without_mark(&line), &object, err);
    if (st != ST_OK) {
        error_add_context(err, "at byte %" PRIu64, line.begin);
        return dataset_reject_error(reject, bytes_of_string(where), "bad_json", err);
    }
    st = read_object(reader, object, line.begin, arena, record, reject, err);
    json_decref(object);
    return st;
}

static enum status reader_skip(struct dataset_reader *base, struct error *err)
{
    struct jsonl_reader *reader = reader_of(base);
    struct jsonl_line line;
    enum status st = reader->ended ? ST_END : next_line(reader, &line, err);

    if (st == ST_OK) {
        reader->position.index++;
        reader->position.offset = line.end;
    }
    return st == ST_CORRUPT ? ST_END : st;
}

static uint64_t reader_end(const struct dataset_reader *base)
{
    return ((const struct jsonl_reader *)base)->options.end_offset; /* its first member */
}

static void reader_tell(const struct dataset_reader *base, struct dataset_position *position)
{
    const struct jsonl_reader *reader = (const struct jsonl_reader *)base; /* its first member */

    *position = reader->position;
}

static void reader_close(struct dataset_reader *base)
{
    struct jsonl_reader *reader = reader_of(base);

    jsonl_lines_close(&reader->lines);
    dataset_keys_release(&reader->seen);
    byte_buf_release(&reader->scratch);
    free(reader);
}

static const struct dataset_reader_ops reader_ops = {
    .next = reader_next,
    .skip = reader_skip,
    .end = reader_end,
    .tell = reader_tell,
    .close = reader_close,
};

/* Learns the uids of the slice before `from`, as if it were read at once. */
static enum status skip_to(struct jsonl_reader *reader, uint64_t from, struct error *err)
{
    struct jsonl_line line = {.end = reader->options.begin_offset};
    enum status st = jsonl_lines_seek(reader->lines, reader->options.begin_offset, err);

    while (st == ST_OK && line.end < from) {
        json_t *object;
        struct jsonl_uid uid;
        bool added;

        st = jsonl_lines_next(reader->lines, &line, err);
        if (st == ST_CORRUPT && from == line.begin + 1) {
            reader->ended = true; /* was reported by whoever came here before */
            return ST_OK;
        }
        if (st != ST_OK)
            break;
        if (line.too_long)
            continue;
        st = record_json_parse(without_mark(&line), &object, err);
        if (st == ST_CORRUPT) {
            st = ST_OK;
            continue;
        }
        if (st != ST_OK)
            break;
        if (jsonl_read_uid(object, &uid))
            st = dataset_keys_add(&reader->seen, bytes_of_string(uid.key), &added, err);
        json_decref(object);
    }
    if (st == ST_OK ? line.end == from || from == 0 : st == ST_END && line.end == from)
        return ST_OK;
    return st == ST_OK || st == ST_END
               ? error_set(err, ST_INVALID, "no line begins at byte %" PRIu64, from)
               : st;
}

static enum status open_packed(struct object_store *store, const char *key,
                               enum jsonl_packing packing,
                               const struct dataset_read_options *options,
                               const struct dataset_position *from, struct dataset_reader **out,
                               struct error *err)
{
    struct jsonl_reader *reader = calloc(1, sizeof *reader);
    enum status st;

    if (reader == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a JSONL reader");
    reader->base.ops = &reader_ops;
    reader->options = *options;
    reader->position = *from;
    reader->line_number = from->index;
    byte_buf_init(&reader->scratch, options->max_sample_bytes);
    st = jsonl_lines_open(store, key, packing, options->max_sample_bytes, &reader->lines, err);
    if (st == ST_OK)
        st = skip_to(reader, from->offset, err);
    if (st != ST_OK) {
        reader_close(&reader->base);
        return st;
    }
    *out = &reader->base;
    return ST_OK;
}

static enum status open_plain(struct object_store *store, const char *key,
                              const struct dataset_read_options *options,
                              const struct dataset_position *from, struct dataset_reader **out,
                              struct error *err)
{
    return open_packed(store, key, JSONL_PLAIN, options, from, out, err);
}

static enum status open_gzip(struct object_store *store, const char *key,
                             const struct dataset_read_options *options,
                             const struct dataset_position *from, struct dataset_reader **out,
                             struct error *err)
{
    return open_packed(store, key, JSONL_GZIP, options, from, out, err);
}

static enum status open_zstd(struct object_store *store, const char *key,
                             const struct dataset_read_options *options,
                             const struct dataset_position *from, struct dataset_reader **out,
                             struct error *err)
{
    return open_packed(store, key, JSONL_ZSTD, options, from, out, err);
}

/* One frame that holds `text`, and its size in the header. */
static enum status zstd_compress(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    size_t bound = ZSTD_compressBound(text.len), before = out->len, n;
    uint8_t *to;
    enum status st = byte_buf_extend(out, bound, &to, err);

    if (st != ST_OK)
        return st;
    n = ZSTD_compress(to, bound, text.data, text.len, ZSTD_LEVEL);
    out->len = before + (ZSTD_isError(n) ? 0 : n);
    return ZSTD_isError(n) ? error_set(err, ST_NO_MEMORY, "could not compress %zu bytes: %s",
                                       text.len, ZSTD_getErrorName(n))
                           : ST_OK;
}

static enum status compress(enum jsonl_packing packing, struct bytes_view text,
                            struct byte_buf *out, struct error *err)
{
    return packing == JSONL_GZIP ? gzip_compress(text, out, err) : zstd_compress(text, out, err);
}

/* A member or frame per line: parts join by concatenation. */
static enum status append_packed(enum jsonl_packing packing, const struct record *record,
                                 const struct dataset_write_options *options, struct byte_buf *out,
                                 struct error *err)
{
    struct byte_buf line;
    enum status st;

    byte_buf_init(&line, MAX_LINE_OUT);
    st = jsonl_write_line(record, options, &line, err);
    if (st == ST_OK)
        st = compress(packing, byte_buf_view(&line), out, err);
    byte_buf_release(&line);
    return st;
}

static enum status append_gzip(const struct record *record,
                               const struct dataset_write_options *options, struct byte_buf *out,
                               struct error *err)
{
    return append_packed(JSONL_GZIP, record, options, out, err);
}

static enum status append_zstd(const struct record *record,
                               const struct dataset_write_options *options, struct byte_buf *out,
                               struct error *err)
{
    return append_packed(JSONL_ZSTD, record, options, out, err);
}

static enum status tail_plain(uint64_t body_bytes, struct byte_buf *out, struct error *err)
{
    (void)body_bytes;
    (void)out;
    (void)err;
    return ST_OK;
}

/* Nothing at all is no gzip file: a shard without samples is one empty member. */
static enum status tail_gzip(uint64_t body_bytes, struct byte_buf *out, struct error *err)
{
    return body_bytes > 0 ? ST_OK : compress(JSONL_GZIP, bytes_of_string(""), out, err);
}

static enum status tail_zstd(uint64_t body_bytes, struct byte_buf *out, struct error *err)
{
    return body_bytes > 0 ? ST_OK : compress(JSONL_ZSTD, bytes_of_string(""), out, err);
}

static bool has_suffix(const char *key, const char *const *suffixes, size_t n)
{
    size_t len = strlen(key);

    for (size_t i = 0; i < n; i++) {
        size_t suffix = strlen(suffixes[i]);

        if (len >= suffix && strcmp(key + len - suffix, suffixes[i]) == 0)
            return true;
    }
    return false;
}

/* Compressed tars begin with the same bytes and are not ours to read. */
static bool is_packed_tar(const char *key)
{
    static const char *const suffixes[] = {".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst"};

    return has_suffix(key, suffixes, ARRAY_LEN(suffixes));
}

static bool matches_plain(const char *key, struct bytes_view head)
{
    static const char *const suffixes[] = {".jsonl", ".ndjson", ".json"};

    if (head.len == 0)
        return has_suffix(key, suffixes, ARRAY_LEN(suffixes));
    if (head.len >= 3 && memcmp(head.data, "\xef\xbb\xbf", 3) == 0)
        head = bytes_view_of(head.data + 3, head.len - 3);
    for (size_t i = 0; i < head.len; i++)
        if (head.data[i] != ' ' && head.data[i] != '\t' && head.data[i] != '\r' &&
            head.data[i] != '\n')
            return head.data[i] == '{';
    return false;
}

static bool matches_gzip(const char *key, struct bytes_view head)
{
    static const char *const suffixes[] = {".jsonl.gz", ".json.gz"};

    if (head.len == 0)
        return has_suffix(key, suffixes, ARRAY_LEN(suffixes));
    return gzip_matches(head) && !is_packed_tar(key);
}

static bool matches_zstd(const char *key, struct bytes_view head)
{
    static const char *const suffixes[] = {".jsonl.zst", ".jsonl.zstd", ".json.zst", ".json.zstd"};

    if (head.len == 0)
        return has_suffix(key, suffixes, ARRAY_LEN(suffixes));
    return head.len >= 4 && memcmp(head.data, "\x28\xb5\x2f\xfd", 4) == 0 && !is_packed_tar(key);
}

const struct dataset_format dataset_jsonl = {
    .name = "jsonl",
    .extension = ".jsonl",
    .matches = matches_plain,
    .open = open_plain,
    .append = jsonl_write_line,
    .tail = tail_plain,
};

const struct dataset_format dataset_jsonl_gz = {
    .name = "jsonl.gz",
    .extension = ".jsonl.gz",
    .matches = matches_gzip,
    .open = open_gzip,
    .append = append_gzip,
    .tail = tail_gzip,
};

const struct dataset_format dataset_jsonl_zst = {
    .name = "jsonl.zst",
    .extension = ".jsonl.zst",
    .matches = matches_zstd,
    .open = open_zstd,
    .append = append_zstd,
    .tail = tail_zstd,
};
