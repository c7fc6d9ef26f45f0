#include "reinforce/curate/duplicates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HASH_BITS = 64 };

struct ranked {
    float score;
    uint32_t i;
};

static int best_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (isnan(x->score) != isnan(y->score))
        return isnan(x->score) - isnan(y->score);
    if (!isnan(x->score) && x->score != y->score)
        return (x->score < y->score) - (x->score > y->score);
    return (x->i > y->i) - (x->i < y->i);
}

enum status duplicates_rank(const float *scores, size_t n, uint32_t *order, struct arena *arena,
                            struct error *err)
{
    struct arena mark = *arena;
    struct ranked *ranked;
    enum status st = arena_alloc(arena, n * sizeof *ranked, &ranked, err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        ranked[i] = (struct ranked){scores[i], (uint32_t)i};
    qsort(ranked, n, sizeof *ranked, best_first);
    for (size_t i = 0; i < n; i++)
        order[i] = ranked[i].i;
    arena_rewind(arena, &mark);
    return ST_OK;
}

static void keep_all(const struct duplicates *found, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        found->of[i] = DUPLICATE_OF_NONE;
        found->distance[i] = 0;
    }
}

struct keyed {
    struct example_id key;
    uint32_t i;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int by_id = example_id_compare(x->key, y->key);

    return by_id != 0 ? by_id : (x->i > y->i) - (x->i < y->i);
}

enum status duplicates_by_key(const struct example_id *keys, size_t n,
                              const struct duplicates *found, struct arena *arena,
                              struct error *err)
{
    struct arena mark = *arena;
    struct keyed *keyed;
    enum status st = arena_alloc(arena, n * sizeof *keyed, &keyed, err);

    if (st != ST_OK)
        return st;
    keep_all(found, n);
    for (size_t i = 0; i < n; i++)
        keyed[i] = (struct keyed){keys[i], (uint32_t)i};
    qsort(keyed, n, sizeof *keyed, by_key);
    for (size_t i = 1, first = 0; i < n; i++) {
        if (keyed[i].key.high == keyed[first].key.high && keyed[i].key.low == keyed[first].key.low)
            found->of[keyed[i].i] = keyed[first].i;
        else
            first = i;
    }
    arena_rewind(arena, &mark);
    return ST_OK;
}

/* Kept samples by the bits of one band: lists, the latest first. */
struct band {
    int shift;
    uint64_t mask;
    uint32_t *heads; /* [mask + 1] */
    uint32_t *next;  /* [n] */
};

static enum status make_bands(struct band *bands, int n_bands, size_t n, struct arena *arena,
                              struct error *err)
{
    enum status st = ST_OK;

    int useful = 1; /* more lists than samples would not make them shorter */

    while (((size_t)1 << useful) < n)
        useful++;
    for (int b = 0, shift = 0; b < n_bands && st == ST_OK; b++) {
        int width = (HASH_BITS - shift) / (n_bands - b);
        int indexed = MIN(width, useful);

        bands[b] = (struct band){.shift = shift, .mask = ((uint64_t)1 << indexed) - 1};
        shift += width;
        st = arena_alloc(arena, ((size_t)bands[b].mask + 1) * sizeof(uint32_t), &bands[b].heads,
                         err);
        if (st == ST_OK)
            st = arena_alloc(arena, n * sizeof(uint32_t), &bands[b].next, err);
        if (st == ST_OK)
            memset(bands[b].heads, 0xff, ((size_t)bands[b].mask + 1) * sizeof(uint32_t));
    }
    return st;
}

enum status duplicates_by_bits(const uint64_t *hashes, size_t n, int max_bits,
                               const struct duplicates *found, struct arena *arena,
                               struct error *err)
{
    struct band bands[DUPLICATES_MAX_BITS + 1];
    struct arena mark = *arena;
    int n_bands = max_bits + 1;
    enum status st;

    if (max_bits < 0 || max_bits > DUPLICATES_MAX_BITS)
        return error_set(err, ST_INVALID, "%d bits may differ; it is 0 to %d", max_bits,
                         (int)DUPLICATES_MAX_BITS);
    st = make_bands(bands, n_bands, n, arena, err);
    if (st != ST_OK)
        return st;
    keep_all(found, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t first = DUPLICATE_OF_NONE;

        for (int b = 0; b < n_bands; b++)
            for (uint32_t j = bands[b].heads[hashes[i] >> bands[b].shift & bands[b].mask];
                 j != DUPLICATE_OF_NONE; j = bands[b].next[j])
                if (j < first && __builtin_popcountll(hashes[i] ^ hashes[j]) <= max_bits)
                    first = j;
        found->of[i] = first;
        if (first != DUPLICATE_OF_NONE) {
            found->distance[i] = (float)__builtin_popcountll(hashes[i] ^ hashes[first]);
            continue;
        }
        for (int b = 0; b < n_bands; b++) {
            uint32_t *head = &bands[b].heads[hashes[i] >> bands[b].shift & bands[b].mask];

            bands[b].next[i] = *head;
            *head = i;
        }
    }
    arena_rewind(arena, &mark);
    return ST_OK;
}
