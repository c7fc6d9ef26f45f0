#include "storage/catalog/catalog_ingest.h"

#include "storage/catalog/catalog.h"

#include <assert.h>

enum status catalog_ingest_commit(struct catalog *c, int64_t job,
                                  const struct catalog_ingest *ingest, int64_t now_ms,
                                  int64_t *shard, struct error *err)
{
    assert(ingest->n_ranges > 0);
    *shard = -1;
    return c->ops->ingest_commit(c, job, ingest, now_ms, shard, err);
}

enum status catalog_ingest_read(struct catalog *c, int64_t job, const char *topic,
                                int32_t partition, int64_t window, struct arena *arena,
                                struct catalog_ingest_position *position, struct error *err)
{
    *position = (struct catalog_ingest_position){.next_offset = CATALOG_INGEST_UNKNOWN};
    return c->ops->ingest_read(c, job, topic, partition, window, arena, position, err);
}

enum status catalog_ingest_list(struct catalog *c, int64_t job, catalog_ingest_fn *each, void *ctx,
                                struct error *err)
{
    return c->ops->ingest_list(c, job, each, ctx, err);
}

enum status catalog_ingest_read_pace(struct catalog *c, int64_t job,
                                     struct catalog_ingest_pace *pace, struct error *err)
{
    memset(pace, 0, sizeof *pace);
    return c->ops->ingest_pace(c, job, pace, err);
}
