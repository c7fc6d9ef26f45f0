#include "reinforce/curate/subset.h"

#include "reinforce/base/parse.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC_BYTES = 8, PREFIX_BYTES = 10, ALIGNMENT = 64, ROW_BYTES = 16, MAX_HEADER = 256 };

static const uint8_t magic[MAGIC_BYTES] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
static const char before_count[] =
    "{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (";
static const char behind_count[] = ",), }";

static int descending(const void *a, const void *b)
{
    const float *x = a, *y = b;

    if (isnan(*x) || isnan(*y))
        return isnan(*x) - isnan(*y);
    return (*x < *y) - (*x > *y);
}

enum status subset_threshold(const float *scores, size_t n, double fraction, float *threshold,
                             struct arena *arena, struct error *err)
{
    struct arena mark = *arena;
    size_t at;
    float *sorted;
    enum status st;

    if (!(fraction >= 0 && fraction <= 1))
        return error_set(err, ST_INVALID, "the fraction is %g; it is 0 to 1", fraction);
    st = arena_alloc(arena, n * sizeof *sorted, &sorted, err);
    if (st != ST_OK)
        return st;
    memcpy(sorted, scores, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, descending);
    at = (size_t)((double)n * fraction);
    *threshold = at < n && !isnan(sorted[at]) ? sorted[at] : -INFINITY;
    arena_rewind(arena, &mark);
    return ST_OK;
}

static int by_id(const void *a, const void *b)
{
    const struct example_id *x = a, *y = b;

    return example_id_compare(*x, *y);
}

enum status subset_encode(struct example_id *ids, size_t *n, struct byte_buf *out,
                          struct error *err)
{
    char header[MAX_HEADER];
    size_t n_unique = 0, len, padded;
    uint8_t *to;
    enum status st;

    qsort(ids, *n, sizeof *ids, by_id);
    for (size_t i = 0; i < *n; i++)
        if (i == 0 || example_id_compare(ids[n_unique - 1], ids[i]) != 0)
            ids[n_unique++] = ids[i];
    *n = n_unique;
    len = (size_t)snprintf(header, sizeof header, "%s%zu%s", before_count, n_unique, behind_count);
    padded = (PREFIX_BYTES + len + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    st = byte_buf_extend(out, padded + n_unique * ROW_BYTES, &to, err);
    if (st != ST_OK)
        return st;
    memcpy(to, magic, sizeof magic);
    to[8] = (uint8_t)(padded - PREFIX_BYTES);
    to[9] = (uint8_t)((padded - PREFIX_BYTES) >> 8);
    memset(to + PREFIX_BYTES, ' ', padded - PREFIX_BYTES);
    memcpy(to + PREFIX_BYTES, header, len);
    to[padded - 1] = '\n';
    for (size_t i = 0; i < n_unique; i++) {
        bytes_put_u64(to + padded + i * ROW_BYTES, ids[i].high);
        bytes_put_u64(to + padded + i * ROW_BYTES + 8, ids[i].low);
    }
    return ST_OK;
}

/* The header's count of rows. */
static enum status read_header(struct bytes_view header, int64_t *n, struct error *err)
{
    char text[MAX_HEADER + 1], *count, *end;

    if (header.len > MAX_HEADER)
        return error_set(err, ST_CORRUPT, "the array's header has %zu bytes", header.len);
    memcpy(text, header.data, header.len);
    text[header.len] = '\0';
    count = text + strlen(before_count);
    if (strncmp(text, before_count, strlen(before_count)) != 0 ||
        (end = strstr(count, behind_count)) == NULL ||
        strspn(end + strlen(behind_count), " \n") != strlen(end + strlen(behind_count)))
        return error_set(err, ST_CORRUPT, "the array is not a row of pairs of uint64: %.80s", text);
    *end = '\0';
    if (parse_i64(count, 0, INT64_MAX / ROW_BYTES, n, err) != ST_OK)
        return error_set(err, ST_CORRUPT, "the array has %.40s rows", count);
    return ST_OK;
}

enum status subset_decode(struct bytes_view file, struct example_id **ids, size_t *n,
                          struct arena *arena, struct error *err)
{
    size_t header_bytes;
    int64_t rows = 0;
    const uint8_t *at;
    enum status st;

    *ids = NULL;
    *n = 0;
    if (file.len < PREFIX_BYTES || memcmp(file.data, magic, sizeof magic) != 0)
        return error_set(err, ST_CORRUPT, "not a NumPy file of version 1");
    header_bytes = file.data[8] | (size_t)file.data[9] << 8;
    if (file.len - PREFIX_BYTES < header_bytes)
        return error_set(err, ST_CORRUPT, "the file ends within its header");
    st = read_header(bytes_view_of(file.data + PREFIX_BYTES, header_bytes), &rows, err);
    if (st != ST_OK)
        return st;
    at = file.data + PREFIX_BYTES + header_bytes;
    if (file.len - PREFIX_BYTES - header_bytes != (size_t)rows * ROW_BYTES)
        return error_set(err, ST_CORRUPT, "%zu bytes of ids, expected %lld",
                         file.len - PREFIX_BYTES - header_bytes, (long long)rows * ROW_BYTES);
    st = arena_alloc(arena, (size_t)rows * sizeof **ids, ids, err);
    for (size_t i = 0; i < (size_t)rows && st == ST_OK; i++) {
        (*ids)[i] = (struct example_id){bytes_get_u64(at + i * ROW_BYTES),
                                        bytes_get_u64(at + i * ROW_BYTES + 8)};
        if (i > 0 && example_id_compare((*ids)[i - 1], (*ids)[i]) >= 0)
            st = error_set(err, ST_CORRUPT, "id %zu is not above the one before it", i);
    }
    if (st == ST_OK)
        *n = (size_t)rows;
    return st;
}

bool subset_holds(const struct example_id *ids, size_t n, struct example_id id)
{
    return n > 0 && bsearch(&id, ids, n, sizeof *ids, by_id) != NULL;
}
