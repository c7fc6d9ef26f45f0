#include "storage/format/tar.h"

#include <assert.h>
#include <inttypes.h>

/* Where the fields are: the layout is drawn in the header. */
enum {
    NAME = 0,
    NAME_LEN = 100,
    MODE = 100,
    UID = 108,
    GID = 116,
    SIZE = 124,
    SIZE_LEN = 12,
    MTIME = 136,
    CHECKSUM = 148,
    CHECKSUM_LEN = 8,
    TYPE = 156,
    MAGIC = 257,
    UNAME = 265,
    GNAME = 297,
    PREFIX = 345,
    PREFIX_LEN = 155,
};

/* How far behind an end mark to look for members that nobody would read. */
enum { TRAILER_BYTES = 1 << 20 };

/* What extended headers say of the next member. */
struct extended {
    bool has_name, has_size, sparse;
    uint64_t bytes;
};

static bool is_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* Octal text: blanks, digits, then blanks or NULs; or GNU's binary. */
static bool parse_number(const uint8_t *field, size_t n, uint64_t *out)
{
    size_t i = 0;

    *out = 0;
    if (field[0] == 0x80) {
        for (i = 1; i < n; i++) {
            if (*out >> 56)
                return false;
            *out = *out << 8 | field[i];
        }
        return *out <= INT64_MAX;
    }
    while (i < n && field[i] == ' ')
        i++;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++)
        *out = *out << 3 | (uint64_t)(field[i] - '0'); /* 12 digits are 36 bits */
    for (; i < n; i++)
        if (field[i] != ' ' && field[i] != '\0')
            return false;
    return true;
}

/* Old tars summed signed bytes; both sums are accepted. */
static bool checksum_matches(const uint8_t block[TAR_BLOCK], uint64_t *want, uint64_t *found)
{
    int64_t with_sign = 0;

    *found = 0;
    for (int i = 0; i < TAR_BLOCK; i++) {
        uint8_t c = i >= CHECKSUM && i < CHECKSUM + CHECKSUM_LEN ? (uint8_t)' ' : block[i];

        *found += c;
        with_sign += (int8_t)c;
    }
    return parse_number(block + CHECKSUM, CHECKSUM_LEN, want) &&
           (*want == *found || (int64_t)*want == with_sign);
}

bool tar_matches(struct bytes_view head)
{
    uint64_t want, found;

    return head.len >= TAR_BLOCK && !is_zero(head.data, TAR_BLOCK) &&
           checksum_matches(head.data, &want, &found);
}

enum status tar_reader_open(struct tar_reader *reader, struct object_store *store, const char *key,
                            size_t buffer_bytes, struct error *err)
{
    memset(reader, 0, sizeof *reader);
    byte_buf_init(&reader->extended, TAR_MAX_EXTENDED_BYTES + 1);
    return dataset_stream_open(&reader->stream, store, key, buffer_bytes, err);
}

void tar_reader_close(struct tar_reader *reader)
{
    dataset_stream_close(&reader->stream);
    byte_buf_release(&reader->extended);
}

static size_t field_len(const uint8_t *field, size_t n)
{
    const uint8_t *nul = memchr(field, 0, n);

    return nul == NULL ? n : (size_t)(nul - field);
}

static void header_name(const uint8_t block[TAR_BLOCK], char name[TAR_MAX_NAME + 1])
{
    size_t len = 0, n;

    if (memcmp(block + MAGIC, "ustar", 6) == 0 && block[PREFIX] != 0) {
        len = field_len(block + PREFIX, PREFIX_LEN);
        memcpy(name, block + PREFIX, len);
        name[len++] = '/';
    }
    n = field_len(block + NAME, NAME_LEN);
    memcpy(name + len, block + NAME, n);
    name[len + n] = '\0';
}

static enum status set_name(char name[TAR_MAX_NAME + 1], const uint8_t *text, size_t len,
                            struct error *err)
{
    if (len > TAR_MAX_NAME)
        return error_set(err, ST_CORRUPT, "member name of %zu bytes is longer than %d", len,
                         (int)TAR_MAX_NAME);
    if (memchr(text, 0, len) != NULL)
        return error_set(err, ST_CORRUPT, "member name holds a NUL");
    memcpy(name, text, len);
    name[len] = '\0';
    return ST_OK;
}

static enum status parse_decimal(const uint8_t *text, size_t len, uint64_t *out, struct error *err)
{
    *out = 0;
    for (size_t i = 0; i < len; i++)
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(*out, 10u, out) ||
            __builtin_add_overflow(*out, (uint64_t)(text[i] - '0'), out))
            return error_set(err, ST_CORRUPT, "extended header has the number \"%.*s\"", (int)len,
                             (const char *)text);
    if (len == 0 || *out > INT64_MAX)
        return error_set(err, ST_CORRUPT, "extended header has the number \"%.*s\"", (int)len,
                         (const char *)text);
    return ST_OK;
}

/* One "KEY=VALUE". Unknown keys (mtime as a float, xattrs, comments) do not change what is read. */
static enum status take_pax_record(struct tar_reader *reader, bool is_global,
                                   struct extended *extended, struct bytes_view record,
                                   struct error *err)
{
    const uint8_t *equals = memchr(record.data, '=', record.len);
    const uint8_t *value;
    size_t key_len, len;
    uint64_t bytes;
    enum status st = ST_OK;

    if (equals == NULL)
        return error_set(err, ST_CORRUPT, "extended header has a record without \"=\"");
    key_len = (size_t)(equals - record.data);
    value = equals + 1;
    len = record.len - key_len - 1;
    if (key_len == 4 && memcmp(record.data, "path", 4) == 0) {
        st = set_name(is_global ? reader->global_name : reader->name, value, len, err);
        if (st == ST_OK && !is_global)
            extended->has_name = len > 0;
    } else if (key_len == 4 && memcmp(record.data, "size", 4) == 0) {
        st = parse_decimal(value, len, &bytes, err);
        if (st == ST_OK && is_global) {
            reader->has_global_size = true;
            reader->global_bytes = bytes;
        } else if (st == ST_OK) {
            extended->has_size = true;
            extended->bytes = bytes;
        }
    } else if (key_len > 11 && memcmp(record.data, "GNU.sparse.", 11) == 0) {
        if (is_global)
            reader->global_sparse = true;
        else
            extended->sparse = true;
    }
    return st;
}

static enum status take_pax(struct tar_reader *reader, bool is_global, struct extended *extended,
                            struct error *err)
{
    struct bytes_view body = byte_buf_view(&reader->extended);

    for (size_t at = 0; at < body.len;) {
        const uint8_t *blank = memchr(body.data + at, ' ', MIN(body.len - at, (size_t)20));
        uint64_t len;
        size_t digits;
        enum status st;

        if (is_zero(body.data + at, body.len - at))
            break;
        if (blank == NULL)
            return error_set(err, ST_CORRUPT, "extended header has a record without a length");
        digits = (size_t)(blank - (body.data + at));
        st = parse_decimal(body.data + at, digits, &len, err);
        if (st != ST_OK)
            return st;
        if (len > body.len - at || len < digits + 2 || body.data[at + len - 1] != '\n')
            return error_set(err, ST_CORRUPT, "extended header has a record of length %" PRIu64,
                             len);
        st = take_pax_record(reader, is_global, extended,
                             bytes_view_of(blank + 1, (size_t)len - digits - 2), err);
        if (st != ST_OK)
            return st;
        at += (size_t)len;
    }
    return ST_OK;
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

/* The body of an 'x', 'g' or 'L' header. */
static enum status take_extended(struct tar_reader *reader, uint8_t type, uint64_t body,
                                 uint64_t bytes, struct extended *extended, struct error *err)
{
    uint8_t *to;
    enum status st;

    if (bytes > TAR_MAX_EXTENDED_BYTES)
        return error_set(err, ST_CORRUPT,
                         "extended header of %" PRIu64 " bytes; at most %d are read", bytes,
                         (int)TAR_MAX_EXTENDED_BYTES);
    byte_buf_reset(&reader->extended);
    st = byte_buf_extend(&reader->extended, (size_t)bytes, &to, err);
    if (st == ST_OK)
        st = dataset_stream_read(&reader->stream, body, (size_t)bytes, to, err);
    if (st != ST_OK)
        return st;
    if (type != 'L')
        return take_pax(reader, type == 'g', extended, err);
    st = set_name(reader->name, to, field_len(to, (size_t)bytes), err);
    extended->has_name = st == ST_OK;
    return st;
}

/* Behind an end mark: only zeros may follow, or members would be lost in silence (`cat a.tar
 * b.tar`). */
static enum status check_trailer(struct tar_reader *reader, struct error *err)
{
    uint64_t at = reader->next, end = MIN(reader->stream.size, at + TRAILER_BYTES);

    while (at < end) {
        struct bytes_view view;
        enum status st = dataset_stream_view(&reader->stream, at, &view, err);

        if (st != ST_OK)
            return st;
        for (size_t i = 0; i < view.len && at < end; i++, at++)
            if (view.data[i] != 0)
                return error_set(err, ST_CORRUPT,
                                 "archive goes on at byte %" PRIu64
                                 " behind its end mark at %" PRIu64,
                                 at, reader->next);
    }
    return ST_END;
}

/* The header at reader->next. ST_END: there is none. */
static enum status read_header(struct tar_reader *reader, uint8_t block[TAR_BLOCK],
                               struct error *err)
{
    uint64_t left = reader->stream.size - MIN(reader->next, reader->stream.size);
    uint64_t want, found;
    enum status st;

    if (left == 0)
        return ST_END;
    memset(block, 0, TAR_BLOCK);
    st = dataset_stream_read(&reader->stream, reader->next, (size_t)MIN(left, (uint64_t)TAR_BLOCK),
                             block, err);
    if (st != ST_OK)
        return st;
    if (is_zero(block, TAR_BLOCK))
        return check_trailer(reader, err);
    if (left < TAR_BLOCK)
        return error_set(err, ST_CORRUPT,
                         "archive is cut: it ends at byte %" PRIu64
                         " inside a header that begins at %" PRIu64,
                         reader->stream.size, reader->next);
    if (!checksum_matches(block, &want, &found))
        return error_set(err, ST_CORRUPT,
                         "header at byte %" PRIu64 " is damaged: its checksum is %" PRIu64
                         ", its bytes give %" PRIu64,
                         reader->next, want, found);
    return ST_OK;
}

static bool has_body(uint8_t type)
{
    return type < '1' || type > '6'; /* links, devices, folders and pipes have none */
}

static bool is_file(uint8_t type, const char *name)
{
    size_t len = strlen(name);

    if (type == '\0') /* before POSIX a folder was a file whose name ends in "/" */
        return len > 0 && name[len - 1] != '/';
    return type == '0' || type == '7' || type == 'S';
}

static enum status read_member(struct tar_reader *reader, struct tar_member *member,
                               struct error *err)
{
    struct extended extended = {.sparse = reader->global_sparse};
    uint8_t block[TAR_BLOCK] = {0};

    reader->name[0] = '\0';
    member->offset = reader->next;
    for (;;) {
        uint64_t bytes, body = reader->next + TAR_BLOCK;
        enum status st = read_header(reader, block, err);
        uint8_t type = block[TYPE];
        bool is_extended = type == 'x' || type == 'g' || type == 'L' || type == 'K';

        if (st == ST_END && reader->next != member->offset)
            return error_set(err, ST_CORRUPT,
                             "archive is cut: it ends at byte %" PRIu64
                             " behind an extended header",
                             reader->next);
        if (st != ST_OK)
            return st;
        if (!parse_number(block + SIZE, SIZE_LEN, &bytes))
            return error_set(err, ST_CORRUPT, "header at byte %" PRIu64 " has no readable size",
                             reader->next);
        if (!is_extended) {
            if (!extended.has_name && reader->global_name[0] != '\0')
                memcpy(reader->name, reader->global_name, sizeof reader->name);
            else if (!extended.has_name)
                header_name(block, reader->name);
            if (extended.has_size)
                bytes = extended.bytes;
            else if (reader->has_global_size)
                bytes = reader->global_bytes;
            if (!has_body(type))
                bytes = 0;
        }
        if (body > reader->stream.size || bytes > reader->stream.size - body)
            return error_set(err, ST_CORRUPT,
                             "archive is cut: it ends at byte %" PRIu64 ", a member of %" PRIu64
                             " bytes begins at %" PRIu64,
                             reader->stream.size, bytes, body);
        if (type == 'x' || type == 'g' || type == 'L') {
            st = take_extended(reader, type, body, bytes, &extended, err);
            if (st != ST_OK) {
                error_add_context(err, "extended header at byte %" PRIu64, reader->next);
                return st;
            }
            if (type == 'g')
                extended.sparse |= reader->global_sparse;
        }
        reader->next = body + padded(bytes);
        if (is_extended)
            continue;
        member->bytes = bytes;
        member->body = body;
        member->sparse = extended.sparse || type == 'S';
        if (is_file(type, reader->name))
            return ST_OK;
        extended = (struct extended){.sparse = reader->global_sparse};
        reader->name[0] = '\0';
        member->offset = reader->next;
    }
}

enum status tar_reader_next(struct tar_reader *reader, struct tar_member *member, struct error *err)
{
    enum status st;

    memset(member, 0, sizeof *member);
    member->name = reader->name;
    if (reader->ended)
        return ST_END;
    st = read_member(reader, member, err);
    if (st == ST_END || st == ST_CORRUPT)
        reader->ended = true;
    return st;
}

enum status tar_reader_body(struct tar_reader *reader, const struct tar_member *member, void *out,
                            struct error *err)
{
    return dataset_stream_read(&reader->stream, member->body, (size_t)member->bytes, out, err);
}

static void put_octal(uint8_t *field, size_t n, uint64_t value)
{
    field[n - 1] = '\0';
    for (size_t i = n - 1; i-- > 0; value >>= 3)
        field[i] = (uint8_t)('0' + (value & 7));
}

static void put_checksum(uint8_t block[TAR_BLOCK])
{
    uint64_t want, found;

    (void)checksum_matches(block, &want, &found);
    put_octal(block + CHECKSUM, CHECKSUM_LEN - 1, found);
    block[CHECKSUM + CHECKSUM_LEN - 1] = ' ';
}

/* Fields are padded with NULs and need none at their end. */
static void put_text(uint8_t *field, struct bytes_view text)
{
    memcpy(field, text.data, text.len);
}

static void fill_header(uint8_t block[TAR_BLOCK], const char *name, uint8_t type)
{
    size_t len = MIN(strlen(name), (size_t)NAME_LEN);

    memset(block, 0, TAR_BLOCK);
    put_text(block + NAME, bytes_view_of(name, len));
    put_octal(block + MODE, 8, 0444);
    put_octal(block + UID, 8, 0);
    put_octal(block + GID, 8, 0);
    put_octal(block + SIZE, SIZE_LEN, 0);
    put_octal(block + MTIME, 12, 0);
    block[TYPE] = type;
    put_text(block + MAGIC, bytes_view_of("ustar\00000", 8));
    put_text(block + UNAME, bytes_of_string("bigdata"));
    put_text(block + GNAME, bytes_of_string("bigdata"));
}

/* "LEN path=NAME\n": LEN counts its own digits too. */
static enum status append_pax_path(struct byte_buf *out, const char *name, struct error *err)
{
    size_t rest = strlen(" path=\n") + strlen(name), len = rest + 1;
    size_t mark;
    enum status st;

    while (len != rest + (size_t)snprintf(NULL, 0, "%zu", len))
        len = rest + (size_t)snprintf(NULL, 0, "%zu", len);
    st = tar_write_begin(out, "././@PaxHeader", &mark, err);
    if (st != ST_OK)
        return st;
    out->data[mark + TYPE] = 'x';
    st = byte_buf_printf(out, err, "%zu path=%s\n", len, name);
    return st == ST_OK ? tar_write_end(out, mark, err) : st;
}

enum status tar_write_begin(struct byte_buf *out, const char *name, size_t *mark, struct error *err)
{
    uint8_t *block;
    enum status st = ST_OK;

    *mark = out->len;
    if (name[0] == '\0' || strlen(name) > TAR_MAX_NAME)
        return error_set(err, ST_INVALID, "member name of %zu bytes; 1 to %d can be written",
                         strlen(name), (int)TAR_MAX_NAME);
    if (strlen(name) > NAME_LEN)
        st = append_pax_path(out, name, err);
    *mark = out->len;
    if (st == ST_OK)
        st = byte_buf_extend(out, TAR_BLOCK, &block, err);
    if (st == ST_OK)
        fill_header(block, name, '0');
    return st;
}

enum status tar_write_end(struct byte_buf *out, size_t mark, struct error *err)
{
    uint64_t bytes = out->len - mark - TAR_BLOCK;
    size_t padding = (size_t)(padded(bytes) - bytes);
    uint8_t *to;
    enum status st;

    if (bytes >= (uint64_t)1 << 33)
        return error_set(err, ST_INVALID, "member of %" PRIu64 " bytes is too large for a tar",
                         bytes);
    st = byte_buf_extend(out, padding, &to, err);
    if (st != ST_OK)
        return st;
    memset(to, 0, padding);
    put_octal(out->data + mark + SIZE, SIZE_LEN, bytes);
    put_checksum(out->data + mark);
    return ST_OK;
}

enum status tar_write_tail(uint64_t body_bytes, struct byte_buf *out, struct error *err)
{
    uint64_t total = (body_bytes + 2 * TAR_BLOCK + TAR_RECORD - 1) / TAR_RECORD * TAR_RECORD;
    size_t zeros = (size_t)(total - body_bytes);
    uint8_t *to;
    enum status st = byte_buf_extend(out, zeros, &to, err);

    if (st == ST_OK)
        memset(to, 0, zeros);
    return st;
}
