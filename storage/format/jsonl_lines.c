#include "storage/format/jsonl_lines.h"

#include "storage/format/dataset_stream.h"

#define ZLIB_CONST /* next_in points to const */
#include <inttypes.h>
#include <zlib.h>
#include <zstd.h>

enum { CHUNK_BYTES = 1 << 20 };

struct jsonl_lines {
    struct dataset_stream stream;
    enum jsonl_packing packing;
    uint64_t packed; /* offset of the next byte of the object */
    z_stream gzip;
    ZSTD_DStream *zstd;
    bool has_gzip, in_member; /* in_member: a member or frame has begun and not ended */
    uint8_t *chunk_memory;    /* decompressed bytes; NULL for a plain object */
    struct bytes_view chunk;  /* what is not consumed yet */
    uint64_t offset;          /* of chunk.data[0] in the text */
    struct byte_buf line;     /* a line that lies in more than one chunk */
    size_t max_line_bytes;
    bool ended;
};

enum status jsonl_lines_open(struct object_store *store, const char *key,
                             enum jsonl_packing packing, size_t max_line_bytes,
                             struct jsonl_lines **out, struct error *err)
{
    struct jsonl_lines *lines = calloc(1, sizeof *lines);
    enum status st;

    *out = NULL;
    if (lines == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a line reader");
    lines->packing = packing;
    lines->max_line_bytes = max_line_bytes;
    byte_buf_init(&lines->line, max_line_bytes);
    st = dataset_stream_open(&lines->stream, store, key, DATASET_STREAM_BYTES, err);
    if (st == ST_OK && packing != JSONL_PLAIN) {
        lines->chunk_memory = malloc(CHUNK_BYTES);
        if (packing == JSONL_GZIP)
            lines->has_gzip = inflateInit2(&lines->gzip, 15 + 16) == Z_OK;
        else
            lines->zstd = ZSTD_createDStream();
        if (lines->chunk_memory == NULL || (!lines->has_gzip && lines->zstd == NULL))
            st = error_set(err, ST_NO_MEMORY, "could not allocate a decompressor");
    }
    if (st != ST_OK) {
        jsonl_lines_close(&lines);
        return st;
    }
    *out = lines;
    return ST_OK;
}

void jsonl_lines_close(struct jsonl_lines **lines)
{
    struct jsonl_lines *l = *lines;

    *lines = NULL;
    if (l == NULL)
        return;
    if (l->has_gzip)
        (void)inflateEnd(&l->gzip);
    (void)ZSTD_freeDStream(l->zstd); /* NULL is fine */
    free(l->chunk_memory);
    byte_buf_release(&l->line);
    dataset_stream_close(&l->stream);
    free(l);
}

/* One step of zlib over `in`; *used and *made say how far it came. */
static enum status inflate_some(struct jsonl_lines *lines, struct bytes_view in, size_t *used,
                                size_t *made, struct error *err)
{
    z_stream *z = &lines->gzip;
    int rc;

    if (!lines->in_member) {
        (void)inflateReset(z);
        lines->in_member = true;
    }
    z->next_in = in.data;
    z->avail_in = (uInt)MIN(in.len, (size_t)CHUNK_BYTES);
    z->next_out = lines->chunk_memory;
    z->avail_out = CHUNK_BYTES;
    rc = inflate(z, Z_NO_FLUSH);
    *used = (size_t)(z->next_in - in.data);
    *made = CHUNK_BYTES - z->avail_out;
    if (rc == Z_STREAM_END)
        lines->in_member = false;
    else if (rc == Z_MEM_ERROR)
        return error_set(err, ST_NO_MEMORY, "could not allocate memory to decompress");
    else if (rc != Z_OK && rc != Z_BUF_ERROR)
        return error_set(err, ST_CORRUPT, "gzip data is damaged near byte %" PRIu64 ": %s",
                         lines->packed + *used, z->msg != NULL ? z->msg : "no reason given");
    return ST_OK;
}

static enum status unzstd_some(struct jsonl_lines *lines, struct bytes_view in, size_t *used,
                               size_t *made, struct error *err)
{
    ZSTD_inBuffer from = {.src = in.data, .size = in.len};
    ZSTD_outBuffer to = {.dst = lines->chunk_memory, .size = CHUNK_BYTES};
    size_t rc = ZSTD_decompressStream(lines->zstd, &to, &from);

    *used = from.pos;
    *made = to.pos;
    if (ZSTD_isError(rc))
        return error_set(err, ST_CORRUPT, "zstd data is damaged near byte %" PRIu64 ": %s",
                         lines->packed + *used, ZSTD_getErrorName(rc));
    lines->in_member = rc != 0;
    return ST_OK;
}

/* Zeros behind the last member are padding, as gzip(1) sees it. */
static enum status only_zeros_left(struct jsonl_lines *lines, bool *zeros, struct error *err)
{
    *zeros = true;
    for (uint64_t at = lines->packed; at < lines->stream.size && *zeros;) {
        struct bytes_view view;
        enum status st = dataset_stream_view(&lines->stream, at, &view, err);

        if (st != ST_OK)
            return st;
        for (size_t i = 0; i < view.len && *zeros; i++)
            *zeros = view.data[i] == 0;
        at += view.len;
    }
    return ST_OK;
}

static enum status fill_packed(struct jsonl_lines *lines, struct error *err)
{
    size_t used = 0, made = 0;

    while (made == 0) {
        struct bytes_view in = {0};
        enum status st;

        if (lines->packed < lines->stream.size) {
            st = dataset_stream_view(&lines->stream, lines->packed, &in, err);
            if (st != ST_OK)
                return st;
            if (!lines->in_member && lines->packing == JSONL_GZIP && in.data[0] == 0) {
                bool zeros;

                st = only_zeros_left(lines, &zeros, err);
                if (st != ST_OK || zeros)
                    return st != ST_OK ? st : ST_END;
                st = dataset_stream_view(&lines->stream, lines->packed, &in, err);
                if (st != ST_OK)
                    return st;
            }
        } else if (!lines->in_member) {
            return ST_END;
        }
        st = lines->packing == JSONL_GZIP ? inflate_some(lines, in, &used, &made, err)
                                          : unzstd_some(lines, in, &used, &made, err);
        if (st != ST_OK)
            return st;
        if (made == 0 && used == 0 && lines->in_member && in.len == 0)
            return error_set(err, ST_CORRUPT,
                             "compressed data is cut: it ends at byte %" PRIu64
                             " inside a member or frame",
                             lines->stream.size);
        lines->packed += used;
    }
    lines->chunk = bytes_view_of(lines->chunk_memory, made);
    return ST_OK;
}

/* More text into the empty chunk. */
static enum status fill(struct jsonl_lines *lines, struct error *err)
{
    enum status st;

    if (lines->packing != JSONL_PLAIN)
        return fill_packed(lines, err);
    if (lines->packed >= lines->stream.size)
        return ST_END;
    st = dataset_stream_view(&lines->stream, lines->packed, &lines->chunk, err);
    if (st == ST_OK)
        lines->packed += lines->chunk.len;
    return st;
}

static void consume(struct jsonl_lines *lines, size_t n)
{
    lines->chunk = bytes_view_of(lines->chunk.data + n, lines->chunk.len - n);
    lines->offset += n;
}

enum status jsonl_lines_seek(struct jsonl_lines *lines, uint64_t offset, struct error *err)
{
    if (lines->packing == JSONL_PLAIN) {
        if (offset > lines->stream.size)
            return error_set(err, ST_INVALID, "text ends at byte %" PRIu64 ", before %" PRIu64,
                             lines->stream.size, offset);
        lines->packed = lines->offset = offset;
        lines->chunk.len = 0;
        return ST_OK;
    }
    while (lines->offset < offset) {
        enum status st = lines->chunk.len > 0 ? ST_OK : fill(lines, err);

        if (st == ST_END)
            return error_set(err, ST_INVALID, "text ends at byte %" PRIu64 ", before %" PRIu64,
                             lines->offset, offset);
        if (st != ST_OK)
            return st;
        consume(lines, (size_t)MIN(offset - lines->offset, (uint64_t)lines->chunk.len));
    }
    return ST_OK;
}

/* Adds to the line what lies before the newline or the chunk's end. */
static enum status take(struct jsonl_lines *lines, struct jsonl_line *line, size_t n,
                        struct error *err)
{
    if (n > lines->max_line_bytes - lines->line.len)
        line->too_long = true;
    if (line->too_long)
        return ST_OK;
    return byte_buf_append(&lines->line, lines->chunk.data, n, err);
}

enum status jsonl_lines_next(struct jsonl_lines *lines, struct jsonl_line *line, struct error *err)
{
    bool complete = false;
    enum status st = ST_OK;

    *line = (struct jsonl_line){.begin = lines->offset};
    byte_buf_reset(&lines->line);
    while (!complete && !lines->ended) {
        const uint8_t *newline;
        size_t n;

        if (lines->chunk.len == 0) {
            st = fill(lines, err);
            if (st == ST_CORRUPT)
                line->begin = lines->offset;
            if (st != ST_OK && st != ST_END)
                break;
            if (st == ST_END) {
                lines->ended = true;
                break;
            }
        }
        newline = memchr(lines->chunk.data, '\n', lines->chunk.len);
        n = newline != NULL ? (size_t)(newline - lines->chunk.data) : lines->chunk.len;
        complete = newline != NULL;
        if (complete && lines->line.len == 0 && n <= lines->max_line_bytes && !line->too_long)
            line->text = bytes_view_of(lines->chunk.data, n); /* the usual case: no copy */
        else
            st = take(lines, line, n, err);
        if (st != ST_OK)
            return st;
        consume(lines, n + (complete ? 1 : 0));
    }
    if (st == ST_CORRUPT)
        lines->ended = true;
    if (st != ST_OK && st != ST_END)
        return st;
    line->end = lines->offset;
    if (line->end == line->begin)
        return ST_END;
    if (lines->line.len > 0 && !line->too_long)
        line->text = byte_buf_view(&lines->line);
    if (line->text.len > 0 && line->text.data[line->text.len - 1] == '\r')
        line->text.len--;
    return ST_OK;
}
