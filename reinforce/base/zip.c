#include "reinforce/base/zip.h"

#include "reinforce/base/deflate.h"

#include <zlib.h>

/*
 *     local header   50 4b 03 04, version 2, flags 2, method 2, time 2, date 2, crc 4, packed 4,
 * size 4, name 2, extra 2 directory      50 4b 01 02, version 2+2, flags 2, method 2, time 2, date
 * 2, crc 4, packed 4, size 4, name 2, extra 2, comment 2, disk 2, internal 2, external 4, offset 4
 *     end            50 4b 05 06, disk 2+2, members 2+2, directory size 4, offset 4, comment 2
 */
enum {
    LOCAL_BYTES = 30,
    DIRECTORY_BYTES = 46,
    END_BYTES = 22,
    MAX_COMMENT = 65535,
    METHOD_STORED = 0,
    METHOD_DEFLATED = 8,
    DATE_1980 = 0x21, /* 1980-01-01, the earliest there is */
    FLAG_ENCRYPTED = 1,
    FLAG_UTF8 = 0x800, /* without it readers take a name for code page 437 */
};

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v);
    put16(p + 2, v >> 16);
}

static const uint8_t *find_end(struct bytes_view archive)
{
    for (size_t back = END_BYTES; back <= archive.len && back <= END_BYTES + MAX_COMMENT; back++) {
        const uint8_t *p = archive.data + archive.len - back;

        if (memcmp(p, "PK\5\6", 4) == 0 && get16(p + 20) == back - END_BYTES)
            return p;
    }
    return NULL;
}

static bool is_plain_name(struct bytes_view name)
{
    if (name.len == 0 || name.data[0] == '/')
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] < 0x20 || name.data[i] == '\\' ||
            (name.data[i] == '.' && i + 1 < name.len && name.data[i + 1] == '.' &&
             (i == 0 || name.data[i - 1] == '/')))
            return false;
    return true;
}

/* One directory entry at p, which has `left` bytes behind it; its local header must agree. */
static enum status read_entry(struct bytes_view archive, const uint8_t *p, size_t left,
                              struct zip_member *m, size_t *used, struct error *err)
{
    size_t name, packed, offset, at, local_name, local_extra;
    uint32_t method;

    if (left < DIRECTORY_BYTES || memcmp(p, "PK\1\2", 4) != 0)
        return error_set(err, ST_CORRUPT, "zip directory is broken at offset %zu",
                         (size_t)(p - archive.data));
    name = get16(p + 28);
    *used = DIRECTORY_BYTES + name + get16(p + 30) + get16(p + 32);
    if (*used > left)
        return error_set(err, ST_CORRUPT, "zip directory is cut at offset %zu",
                         (size_t)(p - archive.data));
    m->name = bytes_view_of(p + DIRECTORY_BYTES, name);
    method = get32(p + 10) & 0xffff;
    packed = get32(p + 20);
    m->size = get32(p + 24);
    m->crc = get32(p + 16);
    offset = get32(p + 42);
    m->deflated = method == METHOD_DEFLATED;
    if (!is_plain_name(m->name))
        return error_set(err, ST_CORRUPT, "zip member has no plain name at offset %zu",
                         (size_t)(p - archive.data));
    if ((get16(p + 8) & FLAG_ENCRYPTED) != 0 ||
        (method != METHOD_STORED && method != METHOD_DEFLATED))
        return error_set(err, ST_CORRUPT, "zip member \"%.*s\" is encrypted or of method %u",
                         (int)name, (const char *)m->name.data, method);
    if (packed == UINT32_MAX || m->size == UINT32_MAX || offset == UINT32_MAX)
        return error_set(err, ST_CORRUPT, "zip member \"%.*s\" is zip64, too large for arrays",
                         (int)name, (const char *)m->name.data);
    if (offset > archive.len || archive.len - offset < LOCAL_BYTES ||
        memcmp(archive.data + offset, "PK\3\4", 4) != 0)
        return error_set(err, ST_CORRUPT, "zip member \"%.*s\" has no header at offset %zu",
                         (int)name, (const char *)m->name.data, offset);
    local_name = get16(archive.data + offset + 26);
    local_extra = get16(archive.data + offset + 28);
    at = offset + LOCAL_BYTES + local_name + local_extra;
    if (at > archive.len || packed > archive.len - at || local_name != name ||
        memcmp(archive.data + offset + LOCAL_BYTES, m->name.data, name) != 0)
        return error_set(err, ST_CORRUPT,
                         "zip member \"%.*s\" does not fit its header at offset %zu", (int)name,
                         (const char *)m->name.data, offset);
    if (!m->deflated && packed != m->size)
        return error_set(err, ST_CORRUPT, "zip member \"%.*s\" is stored with two sizes", (int)name,
                         (const char *)m->name.data);
    m->packed = bytes_view_of(archive.data + at, packed);
    m->offset = offset;
    return ST_OK;
}

/* Whether a local header or body belongs to both: the same bytes would count once and unpack twice.
 */
static bool overlap(struct bytes_view archive, const struct zip_member *a,
                    const struct zip_member *b)
{
    size_t a_end = (size_t)(a->packed.data - archive.data) + a->packed.len;
    size_t b_end = (size_t)(b->packed.data - archive.data) + b->packed.len;

    return a->offset < b_end && b->offset < a_end;
}

enum status zip_read(struct bytes_view archive, size_t max_members, struct arena *arena,
                     struct zip_member **members, size_t *n, struct error *err)
{
    const uint8_t *end = archive.len > 0 ? find_end(archive) : NULL;
    size_t count, size, offset, at = 0;
    enum status st;

    *n = 0;
    *members = NULL;
    if (end == NULL)
        return error_set(err, ST_CORRUPT, "not a zip archive: it has no end record");
    count = get16(end + 10);
    size = get32(end + 12);
    offset = get32(end + 16);
    if (get32(end + 4) != 0 || get16(end + 8) != count)
        return error_set(err, ST_CORRUPT, "zip archive is spanned over several files");
    if (count > max_members)
        return error_set(err, ST_CORRUPT, "zip archive has %zu members, at most %zu are accepted",
                         count, max_members);
    if (offset > (size_t)(end - archive.data) || size > (size_t)(end - archive.data) - offset)
        return error_set(err, ST_CORRUPT, "zip directory lies outside the archive");
    st = arena_calloc(arena, count + 1, sizeof **members, members, err);
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        size_t used = 0;

        st = read_entry(archive, archive.data + offset + at, size - at, &(*members)[i], &used, err);
        at += used;
        for (size_t k = 0; k < i && st == ST_OK; k++) {
            const struct zip_member *a = &(*members)[k], *b = &(*members)[i];

            if (bytes_equal(a->name, b->name))
                st = error_set(err, ST_CORRUPT, "zip member \"%.*s\" is there twice",
                               (int)b->name.len, (const char *)b->name.data);
            else if (overlap(archive, a, b))
                st = error_set(err, ST_CORRUPT, "zip members \"%.*s\" and \"%.*s\" overlap",
                               (int)MIN(a->name.len, (size_t)80), (const char *)a->name.data,
                               (int)MIN(b->name.len, (size_t)80), (const char *)b->name.data);
        }
    }
    if (st == ST_OK)
        *n = count;
    return st;
}

enum status zip_unpack(const struct zip_member *m, size_t max_bytes, struct arena *arena,
                       struct bytes_view *out, struct error *err)
{
    uint8_t *memory;
    enum status st;

    *out = m->packed;
    if (m->size > max_bytes)
        return error_set(
            err, ST_CORRUPT, "zip member \"%.*s\" has %llu bytes, at most %zu are accepted",
            (int)m->name.len, (const char *)m->name.data, (unsigned long long)m->size, max_bytes);
    if (m->deflated) {
        if (m->size / DEFLATE_MAX_RATIO > m->packed.len + 64) /* gets no memory */
            return error_set(err, ST_CORRUPT, "zip member \"%.*s\" declares more than it can hold",
                             (int)m->name.len, (const char *)m->name.data);
        st = arena_alloc(arena, (size_t)m->size, &memory, err);
        if (st == ST_OK)
            st = inflate_raw(m->packed, memory, (size_t)m->size, err);
        if (st != ST_OK) {
            error_add_context(err, "zip member \"%.*s\"", (int)m->name.len,
                              (const char *)m->name.data);
            return st;
        }
        *out = bytes_view_of(memory, (size_t)m->size);
    }
    if ((uint32_t)crc32_z(0, out->data, out->len) != m->crc)
        return error_set(err, ST_CORRUPT, "zip member \"%.*s\" has a wrong checksum",
                         (int)m->name.len, (const char *)m->name.data);
    return ST_OK;
}

static bool is_ascii(const char *name)
{
    while (*name != '\0' && (unsigned char)*name < 0x80)
        name++;
    return *name == '\0';
}

void zip_writer_init(struct zip_writer *writer, struct byte_buf *out)
{
    memset(writer, 0, sizeof *writer);
    writer->out = out;
    writer->start = out->len;
    byte_buf_init(&writer->directory, 16u << 20);
}

enum status zip_writer_add(struct zip_writer *w, const char *name, struct bytes_view body,
                           bool deflate, struct error *err)
{
    size_t header = w->out->len, name_len = strlen(name), offset = header - w->start, packed;
    uint8_t local[LOCAL_BYTES] = {'P', 'K', 3, 4}, entry[DIRECTORY_BYTES] = {'P', 'K', 1, 2};
    enum status st = byte_buf_append(w->out, local, sizeof local, err);

    if (st == ST_OK)
        st = byte_buf_append(w->out, name, name_len, err);
    if (st == ST_OK)
        st = deflate ? deflate_raw(body, w->out, err)
                     : byte_buf_append(w->out, body.data, body.len, err);
    if (st != ST_OK)
        return st;
    packed = w->out->len - header - LOCAL_BYTES - name_len;
    if (w->out->len - w->start > UINT32_MAX - (16u << 20) || body.len > UINT32_MAX - 1 ||
        w->n_members >= 65535)
        return error_set(err, ST_INVALID, "zip archive would be too large");
    put16(local + 4, 20);
    put16(local + 6, is_ascii(name) ? 0 : FLAG_UTF8);
    put16(local + 8, deflate ? METHOD_DEFLATED : METHOD_STORED);
    put16(local + 12, DATE_1980);
    put32(local + 14, (uint32_t)crc32_z(0, body.data, body.len));
    put32(local + 18, (uint32_t)packed);
    put32(local + 22, (uint32_t)body.len);
    put16(local + 26, (uint32_t)name_len);
    memcpy(w->out->data + header, local, sizeof local);
    put16(entry + 4, 20);
    memcpy(entry + 6, local + 4,
           26); /* version to extra length: the same fields in the same order */
    put32(entry + 42, (uint32_t)offset);
    st = byte_buf_append(&w->directory, entry, sizeof entry, err);
    if (st == ST_OK)
        st = byte_buf_append(&w->directory, name, name_len, err);
    w->n_members++;
    return st;
}

enum status zip_writer_finish(struct zip_writer *w, enum status st, struct error *err)
{
    uint8_t end[END_BYTES] = {'P', 'K', 5, 6};

    put16(end + 8, w->n_members);
    put16(end + 10, w->n_members);
    put32(end + 12, (uint32_t)w->directory.len);
    put32(end + 16, (uint32_t)(w->out->len - w->start));
    if (st == ST_OK)
        st = byte_buf_append(w->out, w->directory.data, w->directory.len, err);
    if (st == ST_OK)
        st = byte_buf_append(w->out, end, sizeof end, err);
    if (st != ST_OK)
        w->out->len = w->start;
    byte_buf_release(&w->directory);
    return st;
}
