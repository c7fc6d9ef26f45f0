#include "coordinator/curator/computed_rows.h"

#include "reinforce/nn/convert.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    KEY_AT = 8,
    HEADER_BYTES = 128,
    KIND_IN_ROW = 4,
    ID_IN_ROW = 8,
    VALUES_IN_ROW = 24,
};

static const char magic[KEY_AT + 1] = "RCURROW1";

struct computed_rows {
    int fd;
    const uint8_t *file; /* mapped */
    size_t bytes, row_bytes, D;
    uint64_t n;
};

static uint64_t get_u32(const uint8_t *from)
{
    return (uint64_t)from[0] | (uint64_t)from[1] << 8 | (uint64_t)from[2] << 16 |
           (uint64_t)from[3] << 24;
}

/* Checksum and kind in one. */
static uint64_t head_of(const uint8_t *row, size_t row_bytes, uint64_t kind)
{
    uint64_t sum = crc32_z(0, row + KIND_IN_ROW, row_bytes - KIND_IN_ROW);

    return sum | kind << 32;
}

static enum status write_header(struct computed_rows *rows, const char *key, struct error *err)
{
    uint8_t header[HEADER_BYTES] = {0};

    memcpy(header, magic, KEY_AT);
    memcpy(header + KEY_AT, key, SHA256_HEX_LEN);
    if (pwrite(rows->fd, header, sizeof header, 0) != (ssize_t)sizeof header)
        return error_set_errno(err, ST_UNAVAILABLE, "could not be written");
    return ST_OK;
}

/* A new file gets its header and, as a hole, its length. */
static enum status make_or_check(struct computed_rows *rows, const char *key, struct error *err)
{
    struct stat info;
    enum status st = ST_OK;

    if (fstat(rows->fd, &info) != 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not be looked at");
    if (info.st_size == 0)
        st = write_header(rows, key, err);
    if (st == ST_OK && info.st_size < (off_t)rows->bytes &&
        (info.st_size == 0 || info.st_size == HEADER_BYTES)) {
        if (ftruncate(rows->fd, (off_t)rows->bytes) != 0)
            return error_set_errno(err, ST_UNAVAILABLE, "could not be made %zu bytes long",
                                   rows->bytes);
        info.st_size = (off_t)rows->bytes;
    }
    if (st == ST_OK && info.st_size != (off_t)rows->bytes)
        st = error_set(err, ST_CORRUPT, "it has %lld bytes, expected %zu; remove it",
                       (long long)info.st_size, rows->bytes);
    return st;
}

static enum status map(struct computed_rows *rows, const char *key, struct error *err)
{
    void *file = mmap(NULL, rows->bytes, PROT_READ, MAP_SHARED, rows->fd, 0);

    if (file == MAP_FAILED)
        return error_set_errno(err, ST_NO_MEMORY, "could not map %zu bytes", rows->bytes);
    rows->file = file;
    if (memcmp(rows->file, magic, KEY_AT) != 0 ||
        memcmp(rows->file + KEY_AT, key, SHA256_HEX_LEN) != 0)
        return error_set(err, ST_CORRUPT, "it is no file of these rows; remove it");
    return ST_OK;
}

enum status computed_rows_open(const char *path, const char key[SHA256_HEX_LEN + 1], uint64_t n,
                               size_t D, struct computed_rows **out, struct error *err)
{
    struct computed_rows *rows = calloc(1, sizeof *rows);
    enum status st = ST_OK;

    *out = rows;
    if (rows == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a file of rows");
    rows->D = D;
    rows->n = n;
    rows->row_bytes = (VALUES_IN_ROW + 4 * D + 7) / 8 * 8;
    rows->bytes = HEADER_BYTES + n * rows->row_bytes;
    rows->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (rows->fd < 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not be opened");
    if (st == ST_OK)
        st = make_or_check(rows, key, err);
    if (st == ST_OK)
        st = map(rows, key, err);
    if (st != ST_OK) {
        error_add_context(err, "computed references \"%s\"", path);
        computed_rows_close(out);
    }
    return st;
}

void computed_rows_close(struct computed_rows **out)
{
    struct computed_rows *rows = *out;

    if (rows == NULL)
        return;
    if (rows->file != NULL)
        (void)munmap((void *)(uintptr_t)rows->file, rows->bytes);
    if (rows->fd >= 0)
        (void)close(rows->fd);
    free(rows);
    *out = NULL;
}

enum computed_row computed_rows_get(const struct computed_rows *rows, uint64_t place,
                                    struct example_id id, void *image, void *text)
{
    const uint8_t *row = rows->file + HEADER_BYTES + place * rows->row_bytes;
    uint64_t kind;

    assert(place < rows->n);
    kind = get_u32(row + KIND_IN_ROW);
    if (kind != COMPUTED_ROW && kind != COMPUTED_IMPOSSIBLE)
        return COMPUTED_NONE;
    if (bytes_get_u64(row + ID_IN_ROW) != id.low || bytes_get_u64(row + ID_IN_ROW + 8) != id.high)
        return COMPUTED_NONE;
    if (bytes_get_u64(row) != head_of(row, rows->row_bytes, kind))
        return COMPUTED_NONE;
    if (kind == COMPUTED_ROW && image != NULL) {
        memcpy(image, row + VALUES_IN_ROW, 2 * rows->D);
        memcpy(text, row + VALUES_IN_ROW + 2 * rows->D, 2 * rows->D);
    }
    return (enum computed_row)kind;
}

enum status computed_rows_put(const struct computed_rows *rows, uint64_t place,
                              struct example_id id, const float *image, const float *text,
                              struct arena *scratch, struct error *err)
{
    uint64_t kind = image != NULL ? COMPUTED_ROW : COMPUTED_IMPOSSIBLE;
    size_t D = rows->D;
    uint16_t *halves;
    ssize_t written;
    uint8_t *row;
    enum status st = arena_calloc(scratch, 1, rows->row_bytes, &row, err);

    assert(place < rows->n);
    if (st == ST_OK)
        st = arena_alloc(scratch, 4 * D, &halves, err);
    if (st != ST_OK)
        return st;
    bytes_put_u64(row, kind << 32);
    bytes_put_u64(row + ID_IN_ROW, id.low);
    bytes_put_u64(row + ID_IN_ROW + 8, id.high);
    if (kind == COMPUTED_ROW) {
        convert_to_f16(image, D, halves);
        convert_to_f16(text, D, halves + D);
        memcpy(row + VALUES_IN_ROW, halves, 4 * D);
    }
    bytes_put_u64(row, head_of(row, rows->row_bytes, kind));
    written =
        pwrite(rows->fd, row, rows->row_bytes, (off_t)(HEADER_BYTES + place * rows->row_bytes));
    if (written < 0)
        return error_set_errno(err, ST_UNAVAILABLE, "a row could not be written");
    if (written != (ssize_t)rows->row_bytes)
        return error_set(err, ST_UNAVAILABLE, "a row could not be written: the disk is full");
    return ST_OK;
}
