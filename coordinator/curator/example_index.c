#include "coordinator/curator/example_index.h"

#include "reinforce/base/file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    N_AT = 8,
    SHARD_BYTES_AT = 16,
    SUM_AT = 24,
    KEY_AT = 32,
    HEADER_BYTES = 128,
    ENTRY_BYTES = 40,
    HIGH_IN_ENTRY = 8,
    OFFSET_IN_ENTRY = 16,
    END_IN_ENTRY = 24,
    SHARD_IN_ENTRY = 32,
    MAX_SHARD_BYTES = 1 << 30,
};

static const char magic[N_AT + 1] = "RCUREXI1";

struct example_index {
    struct file_map map;
    const uint8_t *entries; /* [n], of the map */
    uint64_t n;
    const char **shards; /* [n_shards], of the map */
    uint64_t n_shards;
};

static struct example_id id_of(const uint8_t *entry)
{
    return (struct example_id){.low = bytes_get_u64(entry),
                               .high = bytes_get_u64(entry + HIGH_IN_ENTRY)};
}

static int compare_ids(struct example_id a, struct example_id b)
{
    if (a.high != b.high)
        return a.high < b.high ? -1 : 1;
    return a.low == b.low ? 0 : a.low < b.low ? -1 : 1;
}

/* By id; of one id in the order they were added, which is that of shards and offsets. */
static int compare_entries(const void *a, const void *b)
{
    static const size_t then[] = {SHARD_IN_ENTRY, OFFSET_IN_ENTRY};
    int order = compare_ids(id_of(a), id_of(b));

    for (size_t f = 0; f < ARRAY_LEN(then) && order == 0; f++) {
        uint64_t x = bytes_get_u64((const uint8_t *)a + then[f]);
        uint64_t y = bytes_get_u64((const uint8_t *)b + then[f]);

        order = x == y ? 0 : x < y ? -1 : 1;
    }
    return order;
}

static uint64_t sum_of(struct bytes_view file)
{
    return crc32_z(0, file.data + HEADER_BYTES, file.len - HEADER_BYTES);
}

static enum status read_shards(struct example_index *index, const char *text, size_t bytes,
                               struct error *err)
{
    size_t n = 0, at = 0;

    for (size_t i = 0; i < bytes; i++)
        n += text[i] == '\0';
    if (n % 2 != 0 || (bytes > 0 && text[bytes - 1] != '\0'))
        return error_set(err, ST_CORRUPT, "its list of shards makes no sense");
    index->shards = calloc(n / 2 + 1, sizeof *index->shards);
    if (index->shards == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu shards", n / 2);
    for (; at < bytes; at += strlen(text + at) + 1) { /* behind the format */
        if (text[at] == '\0')
            return error_set(err, ST_CORRUPT, "its list of shards makes no sense");
        index->shards[index->n_shards++] = text + at;
        at += strlen(text + at) + 1;
    }
    for (uint64_t i = 0; i < index->n; i++)
        if (bytes_get_u64(index->entries + i * ENTRY_BYTES + SHARD_IN_ENTRY) >= index->n_shards)
            return error_set(err, ST_CORRUPT, "it names a shard that it does not list");
    return ST_OK;
}

static enum status read_file(struct example_index *index, const char *key, struct error *err)
{
    struct bytes_view file = index->map.bytes;
    uint64_t shard_bytes;

    if (file.len < HEADER_BYTES || memcmp(file.data, magic, N_AT) != 0)
        return error_set(err, ST_CORRUPT, "not an index of examples");
    index->n = bytes_get_u64(file.data + N_AT);
    shard_bytes = bytes_get_u64(file.data + SHARD_BYTES_AT);
    if (shard_bytes > file.len - HEADER_BYTES ||
        (file.len - HEADER_BYTES - shard_bytes) % ENTRY_BYTES != 0 ||
        (file.len - HEADER_BYTES - shard_bytes) / ENTRY_BYTES != index->n)
        return error_set(err, ST_CORRUPT, "it has %zu bytes, not those of %llu examples", file.len,
                         (unsigned long long)index->n);
    if (strlen(key) != SHA256_HEX_LEN || memcmp(file.data + KEY_AT, key, SHA256_HEX_LEN) != 0)
        return error_set(err, ST_CORRUPT, "it is of another input");
    if (bytes_get_u64(file.data + SUM_AT) != sum_of(file))
        return error_set(err, ST_CORRUPT, "it has another checksum than it says");
    index->entries = file.data + HEADER_BYTES;
    return read_shards(index, (const char *)index->entries + index->n * ENTRY_BYTES,
                       (size_t)shard_bytes, err);
}

enum status example_index_open(const char *path, const char *key, struct example_index **out,
                               struct error *err)
{
    struct example_index *index = calloc(1, sizeof *index);
    enum status st;

    *out = index;
    if (index == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate an index");
    st = file_map_open(path, &index->map, err);
    if (st == ST_OK)
        st = read_file(index, key, err);
    if (st != ST_OK) {
        error_add_context(err, "index of examples \"%s\"", path);
        example_index_close(out);
    }
    return st;
}

void example_index_close(struct example_index **index)
{
    if (*index == NULL)
        return;
    free((*index)->shards);
    file_map_close(&(*index)->map);
    free(*index);
    *index = NULL;
}

uint64_t example_index_count(const struct example_index *index)
{
    return index->n;
}

bool example_index_find(const struct example_index *index, struct example_id id, uint64_t *place)
{
    uint64_t low = 0, high = index->n;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = compare_ids(id_of(index->entries + middle * ENTRY_BYTES), id);

        if (order == 0) {
            *place = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

struct example_source example_index_get(const struct example_index *index, uint64_t place)
{
    const uint8_t *entry = index->entries + place * ENTRY_BYTES;
    const char *shard;

    assert(place < index->n);
    shard = index->shards[bytes_get_u64(entry + SHARD_IN_ENTRY)];
    return (struct example_source){.id = id_of(entry),
                                   .is_listed = shard[0] == 'p',
                                   .format = shard + 1,
                                   .key = shard + strlen(shard) + 1,
                                   .offset = bytes_get_u64(entry + OFFSET_IN_ENTRY),
                                   .end = bytes_get_u64(entry + END_IN_ENTRY)};
}

void example_index_builder_init(struct example_index_builder *builder)
{
    *builder = (struct example_index_builder){0};
    byte_buf_init(&builder->file, SIZE_MAX / 2);
    byte_buf_init(&builder->shards, MAX_SHARD_BYTES);
}

void example_index_builder_release(struct example_index_builder *builder)
{
    byte_buf_release(&builder->file);
    byte_buf_release(&builder->shards);
}

enum status example_index_add_shard(struct example_index_builder *builder, bool is_listed,
                                    const char *format, const char *key, struct error *err)
{
    enum status st = byte_buf_append_string(&builder->shards, is_listed ? "p" : "i", err);

    if (st == ST_OK)
        st = byte_buf_append(&builder->shards, format, strlen(format) + 1, err);
    if (st == ST_OK)
        st = byte_buf_append(&builder->shards, key, strlen(key) + 1, err);
    builder->n_shards += st == ST_OK;
    return st;
}

enum status example_index_add(struct example_index_builder *builder, struct example_id id,
                              uint64_t offset, uint64_t end, struct error *err)
{
    uint8_t *entry;
    enum status st = ST_OK;

    assert(builder->n_shards > 0);
    if (builder->file.len == 0) {
        st = byte_buf_extend(&builder->file, HEADER_BYTES, &entry, err);
        if (st == ST_OK)
            memset(entry, 0, HEADER_BYTES);
    }
    if (st == ST_OK)
        st = byte_buf_extend(&builder->file, ENTRY_BYTES, &entry, err);
    if (st != ST_OK)
        return st;
    bytes_put_u64(entry, id.low);
    bytes_put_u64(entry + HIGH_IN_ENTRY, id.high);
    bytes_put_u64(entry + OFFSET_IN_ENTRY, offset);
    bytes_put_u64(entry + END_IN_ENTRY, end);
    bytes_put_u64(entry + SHARD_IN_ENTRY, builder->n_shards - 1);
    builder->n++;
    return ST_OK;
}

/* Keeps the first of every id, which are in order. */
static void drop_twice(struct example_index_builder *builder)
{
    uint8_t *entries = builder->file.data + HEADER_BYTES;
    uint64_t n = 0;

    for (uint64_t i = 0; i < builder->n; i++)
        if (n == 0 || compare_ids(id_of(entries + (n - 1) * ENTRY_BYTES),
                                  id_of(entries + i * ENTRY_BYTES)) != 0)
            memmove(entries + n++ * ENTRY_BYTES, entries + i * ENTRY_BYTES, ENTRY_BYTES);
    builder->n = n;
    builder->file.len = HEADER_BYTES + n * ENTRY_BYTES;
}

enum status example_index_write(struct example_index_builder *builder, const char *path,
                                const char key[SHA256_HEX_LEN + 1], uint64_t *n_twice,
                                struct error *err)
{
    uint64_t n = builder->n;
    uint8_t *file;
    enum status st;

    *n_twice = 0;
    if (n == 0)
        return error_set(err, ST_NOT_FOUND, "the input has no example");
    qsort(builder->file.data + HEADER_BYTES, n, ENTRY_BYTES, compare_entries);
    drop_twice(builder);
    *n_twice = n - builder->n;
    st = byte_buf_append(&builder->file, builder->shards.data, builder->shards.len, err);
    if (st != ST_OK)
        return st;
    file = builder->file.data;
    memcpy(file, magic, N_AT);
    bytes_put_u64(file + N_AT, builder->n);
    bytes_put_u64(file + SHARD_BYTES_AT, builder->shards.len);
    bytes_put_u64(file + SUM_AT, sum_of(byte_buf_view(&builder->file)));
    memcpy(file + KEY_AT, key, SHA256_HEX_LEN);
    return file_write_atomic(path, byte_buf_view(&builder->file), err);
}
