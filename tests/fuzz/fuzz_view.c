/* Any bytes as a view's manifest: shards whose bits can be asked for, or a reason. */
#include "coordinator/curation/view.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct view view = {.lines = {data, size}};
    struct view_shard shard;
    struct error err = {0};
    size_t at = 0;
    enum status st;

    if (size > 16384)
        return 0;
    while ((st = view_next_shard(&view, &at, &shard, &err)) == ST_OK) {
        size_t n = 0;

        for (size_t i = 0; i < shard.n_records + 9; i++)
            n += view_shard_keeps(&shard, i);
        assert(n == shard.n_kept && shard.object_key != NULL);
        view_shard_release(&shard);
    }
    assert(st == ST_END || (err.message[0] != '\0' && shard.line == NULL));
    return 0;
}
