#include "reinforce/text/token_map.h"

enum { MIN_SLOTS = 16, TOKEN_ID_MAX = (1 << 24) - 1, SPARE_IDS = 4096 };

struct token_spelling {
    size_t start;
    uint32_t len;
    bool used;
};

struct merge_slot {
    int32_t left; /* -1: empty */
    int32_t right;
    struct merge merge;
};

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash_bytes(struct bytes_view text)
{
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */

    for (size_t i = 0; i < text.len; i++)
        h = (h ^ text.data[i]) * 0x100000001B3u;
    return mix(h);
}

/* Slots for n entries at a load of at most one half; 0 when that overflows. */
static size_t slots_for(size_t n)
{
    size_t slots = MIN_SLOTS;

    while (slots / 2 < n) {
        if (slots > SIZE_MAX / 2)
            return 0;
        slots *= 2;
    }
    return slots;
}

static struct bytes_view spelling_of(const struct token_map *map, int32_t id)
{
    return bytes_view_of(map->bytes.data + map->ids[id].start, map->ids[id].len);
}

static size_t find_slot(const struct token_map *map, struct bytes_view token)
{
    size_t i = (size_t)hash_bytes(token) & (map->n_slots - 1);

    while (map->slots[i] >= 0 && !bytes_equal(spelling_of(map, map->slots[i]), token))
        i = (i + 1) & (map->n_slots - 1);
    return i;
}

static enum status grow_slots(struct token_map *map, size_t n_tokens, struct error *err)
{
    size_t n = slots_for(n_tokens);
    int32_t *slots = n == 0 || n > SIZE_MAX / sizeof *slots ? NULL : malloc(n * sizeof *slots);

    if (slots == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a table for %zu tokens", n_tokens);
    memset(slots, 0xFF, n * sizeof *slots);
    free(map->slots);
    map->slots = slots;
    map->n_slots = n;
    for (size_t id = 0; id < map->n_ids; id++)
        if (map->ids[id].used)
            slots[find_slot(map, spelling_of(map, (int32_t)id))] = (int32_t)id;
    return ST_OK;
}

static enum status grow_ids(struct token_map *map, size_t n_ids, struct error *err)
{
    if (n_ids > map->ids_capacity) {
        size_t capacity = MAX(n_ids, map->ids_capacity * 2);
        struct token_spelling *ids = realloc(map->ids, capacity * sizeof *ids);

        if (ids == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu token ids", capacity);
        map->ids = ids;
        map->ids_capacity = capacity;
    }
    if (n_ids > map->n_ids) {
        memset(map->ids + map->n_ids, 0, (n_ids - map->n_ids) * sizeof *map->ids);
        map->n_ids = n_ids;
    }
    return ST_OK;
}

enum status token_map_init(struct token_map *map, size_t n_tokens, struct error *err)
{
    memset(map, 0, sizeof *map);
    byte_buf_init(&map->bytes, (size_t)1 << 30);
    map->max_id = n_tokens >= TOKEN_ID_MAX / 2
                      ? TOKEN_ID_MAX
                      : MIN((int64_t)n_tokens * 2 + SPARE_IDS, (int64_t)TOKEN_ID_MAX);
    return grow_slots(map, n_tokens, err);
}

void token_map_release(struct token_map *map)
{
    byte_buf_release(&map->bytes);
    free(map->ids);
    free(map->slots);
    memset(map, 0, sizeof *map);
}

enum status token_map_add(struct token_map *map, struct bytes_view token, int64_t id,
                          struct error *err)
{
    size_t slot, start = map->bytes.len;
    enum status st = ST_OK;

    if (id < 0 || id > map->max_id)
        return error_set(err, ST_CORRUPT, "token \"%.*s\" has id %lld, outside 0..%lld",
                         (int)MIN(token.len, 60), token.data, (long long)id,
                         (long long)map->max_id);
    if (map->n_tokens >= map->n_slots / 2)
        st = grow_slots(map, (map->n_tokens + 1) * 2, err);
    if (st == ST_OK)
        st = grow_ids(map, (size_t)id + 1, err);
    if (st != ST_OK)
        return st;
    slot = find_slot(map, token);
    if (map->slots[slot] >= 0 || map->ids[id].used)
        return error_set(err, ST_CORRUPT, "token \"%.*s\": %s %lld is taken",
                         (int)MIN(token.len, 60), token.data,
                         map->slots[slot] >= 0 ? "the spelling of id" : "id", (long long)id);
    st = byte_buf_append(&map->bytes, token.data, token.len, err);
    if (st != ST_OK)
        return st;
    map->ids[id] = (struct token_spelling){start, (uint32_t)token.len, true};
    map->slots[slot] = (int32_t)id;
    map->n_tokens++;
    return ST_OK;
}

int32_t token_map_find(const struct token_map *map, struct bytes_view token)
{
    return map->slots[find_slot(map, token)];
}

bool token_map_spelling(const struct token_map *map, int64_t id, struct bytes_view *token)
{
    if (id < 0 || (uint64_t)id >= map->n_ids || !map->ids[id].used)
        return false;
    *token = spelling_of(map, (int32_t)id);
    return true;
}

enum status merge_map_init(struct merge_map *map, size_t n_merges, struct error *err)
{
    size_t n = slots_for(n_merges);

    map->n_slots = 0;
    map->slots =
        n == 0 || n > SIZE_MAX / sizeof *map->slots ? NULL : malloc(n * sizeof *map->slots);
    if (map->slots == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a table for %zu merges", n_merges);
    map->n_slots = n;
    for (size_t i = 0; i < n; i++)
        map->slots[i].left = -1;
    return ST_OK;
}

void merge_map_release(struct merge_map *map)
{
    free(map->slots);
    memset(map, 0, sizeof *map);
}

static size_t pair_slot(const struct merge_map *map, int32_t left, int32_t right)
{
    size_t i = (size_t)mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & (map->n_slots - 1);

    while (map->slots[i].left >= 0 && (map->slots[i].left != left || map->slots[i].right != right))
        i = (i + 1) & (map->n_slots - 1);
    return i;
}

void merge_map_put(struct merge_map *map, int32_t left, int32_t right, struct merge merge)
{
    map->slots[pair_slot(map, left, right)] = (struct merge_slot){left, right, merge};
}

const struct merge *merge_map_find(const struct merge_map *map, int32_t left, int32_t right)
{
    const struct merge_slot *slot = &map->slots[pair_slot(map, left, right)];

    return slot->left >= 0 ? &slot->merge : NULL;
}
