#include "storage/format/dataset_keys.h"

#include "reinforce/base/sha256.h"

enum { FIRST_SLOTS = 1024 };

static uint64_t hash_of(struct bytes_view key)
{
    char hex[SHA256_HEX_LEN + 1];
    uint64_t hash = 0;

    sha256_of(key, hex);
    for (int i = 0; i < 16; i++)
        hash = hash << 4 | (uint64_t)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    return hash != 0 ? hash : 1;
}

/* True if it was not there. */
static bool put(uint64_t *slots, size_t n_slots, uint64_t hash)
{
    size_t at = (size_t)hash & (n_slots - 1);

    while (slots[at] != 0 && slots[at] != hash)
        at = (at + 1) & (n_slots - 1);
    if (slots[at] == hash)
        return false;
    slots[at] = hash;
    return true;
}

enum status dataset_keys_add(struct dataset_keys *keys, struct bytes_view key, bool *added,
                             struct error *err)
{
    *added = false;
    if (keys->n * 2 >= keys->n_slots) {
        size_t n_slots = MAX(keys->n_slots * 2, (size_t)FIRST_SLOTS);
        uint64_t *slots = calloc(n_slots, sizeof *slots);

        if (slots == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu keys", n_slots);
        for (size_t i = 0; i < keys->n_slots; i++)
            if (keys->slots[i] != 0)
                (void)put(slots, n_slots, keys->slots[i]);
        free(keys->slots);
        keys->slots = slots;
        keys->n_slots = n_slots;
    }
    *added = put(keys->slots, keys->n_slots, hash_of(key));
    keys->n += *added;
    return ST_OK;
}

void dataset_keys_release(struct dataset_keys *keys)
{
    free(keys->slots);
    memset(keys, 0, sizeof *keys);
}
