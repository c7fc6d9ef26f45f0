#include "coordinator/curator/reference_cache.h"

#include "reinforce/base/file.h"
#include "reinforce/base/unique.h"
#include "reinforce/nn/convert.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    HEADER_BYTES = 256,
    N_AT = 8,
    N_SLOTS_AT = 16,
    D_AT = 24,
    SCALE_AT = 32,
    BIAS_AT = 36,
    KEY_AT = 40,
    VERSION_AT = 104,
    VERSION_BYTES = 128,
    ID_BYTES = 16,
    MAX_D = 1 << 16,
};

static const char magic[N_AT + 1] = "RCURREF1";

/* Where things lie in a file. */
struct layout {
    uint64_t n_slots;
    size_t D, row_bytes, rows_at;
};

static struct layout layout_of(uint64_t n_slots, size_t D)
{
    return (struct layout){.n_slots = n_slots,
                           .D = D,
                           .row_bytes = (ID_BYTES + 4 * D + 15) / 16 * 16,
                           .rows_at = HEADER_BYTES + 8 * n_slots};
}

static uint64_t hash(struct example_id id)
{
    uint64_t x = id.low ^ id.high * 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    return x ^ x >> 33;
}

/* The id's row and NULL, or the slot where it would be named; n: rows there are. */
static const uint8_t *find(const uint8_t *file, const struct layout *layout, uint64_t n,
                           struct example_id id, uint64_t *slot)
{
    *slot = hash(id) & (layout->n_slots - 1);
    for (uint64_t tried = 0; tried < layout->n_slots; tried++) {
        uint64_t row = bytes_get_u64(file + HEADER_BYTES + 8 * *slot);
        const uint8_t *at;

        if (row == 0 || row > n)
            return NULL;
        at = file + layout->rows_at + (row - 1) * layout->row_bytes;
        if (bytes_get_u64(at) == id.low && bytes_get_u64(at + 8) == id.high)
            return at;
        *slot = (*slot + 1) & (layout->n_slots - 1);
    }
    return NULL;
}

struct reference_cache {
    struct file_map map;
    struct layout layout;
    struct curator_references references;
    char version[VERSION_BYTES];
};

static bool get_row(const void *ctx, struct example_id id, void *image, void *text)
{
    const struct reference_cache *cache = ctx;
    uint64_t slot;
    const uint8_t *row =
        find(cache->map.bytes.data, &cache->layout, cache->references.n, id, &slot);

    if (row == NULL)
        return false;
    if (image == NULL)
        return true;
    memcpy(image, row + ID_BYTES, 2 * cache->layout.D);
    memcpy(text, row + ID_BYTES + 2 * cache->layout.D, 2 * cache->layout.D);
    return true;
}

static enum status read_header(struct reference_cache *cache, const char *key, struct error *err)
{
    struct bytes_view file = cache->map.bytes;
    uint64_t n, n_slots, D;

    if (file.len < HEADER_BYTES || memcmp(file.data, magic, N_AT) != 0)
        return error_set(err, ST_CORRUPT, "not a cache of references");
    n = bytes_get_u64(file.data + N_AT);
    n_slots = bytes_get_u64(file.data + N_SLOTS_AT);
    D = bytes_get_u64(file.data + D_AT);
    if (D == 0 || D > MAX_D || n_slots == 0 || (n_slots & (n_slots - 1)) != 0 ||
        n_slots > file.len / 8 || n > n_slots)
        return error_set(err, ST_CORRUPT, "its header makes no sense");
    cache->layout = layout_of(n_slots, D);
    if (file.len < cache->layout.rows_at ||
        (file.len - cache->layout.rows_at) / cache->layout.row_bytes != n ||
        (file.len - cache->layout.rows_at) % cache->layout.row_bytes != 0)
        return error_set(err, ST_CORRUPT, "it has %zu bytes, not those of %llu rows", file.len,
                         (unsigned long long)n);
    if (strlen(key) != SHA256_HEX_LEN || memcmp(file.data + KEY_AT, key, SHA256_HEX_LEN) != 0)
        return error_set(err, ST_CORRUPT, "it was made of something else");
    memcpy(cache->version, file.data + VERSION_AT, VERSION_BYTES - 1);
    cache->references = (struct curator_references){.D = D,
                                                    .dtype = TENSOR_F16,
                                                    .version = cache->version,
                                                    .n = n,
                                                    .ctx = cache,
                                                    .row = get_row};
    memcpy(&cache->references.scale, file.data + SCALE_AT, sizeof(float));
    memcpy(&cache->references.bias, file.data + BIAS_AT, sizeof(float));
    return ST_OK;
}

enum status reference_cache_open(const char *path, const char *key, struct reference_cache **out,
                                 struct error *err)
{
    struct reference_cache *cache = calloc(1, sizeof *cache);
    enum status st;

    *out = cache;
    if (cache == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a cache of references");
    st = file_map_open(path, &cache->map, err);
    if (st == ST_OK)
        st = read_header(cache, key, err);
    if (st != ST_OK) {
        error_add_context(err, "cache of references \"%s\"", path);
        reference_cache_close(out);
    }
    return st;
}

void reference_cache_close(struct reference_cache **cache)
{
    if (*cache == NULL)
        return;
    file_map_close(&(*cache)->map);
    free(*cache);
    *cache = NULL;
}

const struct curator_references *reference_cache_get(const struct reference_cache *cache)
{
    return &cache->references;
}

struct reference_writer {
    char path[PATH_MAX], temporary[PATH_MAX];
    int fd;
    uint8_t *file; /* mapped */
    size_t bytes;
    struct layout layout;
    uint64_t n, max_n;
    uint16_t *halves; /* [2 D] */
};

static enum status map_new(struct reference_writer *writer, struct error *err)
{
    int failed;

    writer->fd = open(writer->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (writer->fd < 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not create it");
    failed = posix_fallocate(writer->fd, 0, (off_t)writer->bytes); /* or a full disk is a signal */
    if (failed != 0) {
        errno = failed;
        return error_set_errno(err, ST_UNAVAILABLE, "could not make room for %zu bytes",
                               writer->bytes);
    }
    writer->file = mmap(NULL, writer->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, writer->fd, 0);
    if (writer->file == MAP_FAILED) {
        writer->file = NULL;
        return error_set_errno(err, ST_NO_MEMORY, "could not map %zu bytes", writer->bytes);
    }
    return ST_OK;
}

static void write_header(struct reference_writer *writer, const struct reference_facts *facts)
{
    uint8_t *file = writer->file;

    assert(file != NULL);
    memcpy(file, magic, N_AT);
    bytes_put_u64(file + N_SLOTS_AT, writer->layout.n_slots);
    bytes_put_u64(file + D_AT, facts->D);
    memcpy(file + SCALE_AT, &facts->scale, sizeof(float));
    memcpy(file + BIAS_AT, &facts->bias, sizeof(float));
    memcpy(file + KEY_AT, facts->key, SHA256_HEX_LEN);
    memcpy(file + VERSION_AT, facts->version, strlen(facts->version));
}

enum status reference_writer_open(const char *path, const struct reference_facts *facts,
                                  uint64_t max_n, struct reference_writer **out, struct error *err)
{
    struct reference_writer *writer = calloc(1, sizeof *writer);
    char unique[UNIQUE_TEXT_LEN + 1];
    uint64_t n_slots = 2;
    enum status st = ST_OK;

    *out = writer;
    if (writer == NULL || (writer->halves = calloc(2 * facts->D, sizeof(uint16_t))) == NULL) {
        free(writer);
        *out = NULL;
        return error_set(err, ST_NO_MEMORY, "could not allocate a cache of references");
    }
    while (n_slots < 2 * max_n)
        n_slots *= 2;
    writer->fd = -1;
    writer->max_n = max_n;
    writer->layout = layout_of(n_slots, facts->D);
    writer->bytes = writer->layout.rows_at + max_n * writer->layout.row_bytes;
    unique_text(unique);
    if (snprintf(writer->path, sizeof writer->path, "%s", path) >= PATH_MAX ||
        snprintf(writer->temporary, sizeof writer->temporary, "%s.%s", path, unique) >= PATH_MAX)
        st = error_set(err, ST_INVALID, "its path is too long");
    if (st == ST_OK)
        st = map_new(writer, err);
    if (st == ST_OK)
        write_header(writer, facts);
    if (st != ST_OK) {
        error_add_context(err, "cache of references \"%s\"", path);
        reference_writer_abandon(out);
    }
    return st;
}

enum status reference_writer_add(struct reference_writer *writer, struct example_id id,
                                 const float *image, const float *text, struct error *err)
{
    size_t D = writer->layout.D;
    uint64_t slot;
    uint8_t *row;

    assert(writer->file != NULL);
    if (find(writer->file, &writer->layout, writer->n, id, &slot) != NULL)
        return error_set(err, ST_CONFLICT, "the id is there already");
    if (writer->n == writer->max_n)
        return error_set(err, ST_FULL, "there are %llu rows already",
                         (unsigned long long)writer->n);
    row = writer->file + writer->layout.rows_at + writer->n * writer->layout.row_bytes;
    bytes_put_u64(row, id.low);
    bytes_put_u64(row + 8, id.high);
    convert_to_f16(image, D, writer->halves);
    convert_to_f16(text, D, writer->halves + D);
    memcpy(row + ID_BYTES, writer->halves, 4 * D);
    bytes_put_u64(writer->file + HEADER_BYTES + 8 * slot, ++writer->n);
    return ST_OK;
}

enum status reference_writer_finish(struct reference_writer **out, struct error *err)
{
    struct reference_writer *writer = *out;
    size_t bytes = writer->layout.rows_at + writer->n * writer->layout.row_bytes;
    enum status st = ST_OK;

    bytes_put_u64(writer->file + N_AT, writer->n);
    if (msync(writer->file, writer->bytes, MS_SYNC) != 0 ||
        ftruncate(writer->fd, (off_t)bytes) != 0 || fsync(writer->fd) != 0 ||
        rename(writer->temporary, writer->path) != 0)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not be written");
    else
        writer->temporary[0] = '\0';
    if (st != ST_OK)
        error_add_context(err, "cache of references \"%s\"", writer->path);
    reference_writer_abandon(out);
    return st;
}

void reference_writer_abandon(struct reference_writer **out)
{
    struct reference_writer *writer = *out;

    if (writer == NULL)
        return;
    if (writer->file != NULL)
        (void)munmap(writer->file, writer->bytes);
    if (writer->fd >= 0) {
        (void)close(writer->fd);
        if (writer->temporary[0] != '\0')
            (void)unlink(writer->temporary);
    }
    free(writer->halves);
    free(writer);
    *out = NULL;
}
