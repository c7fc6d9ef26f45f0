#include "storage/catalog/catalog_outbox.h"

enum status catalog_job_set_events(struct catalog *c, int64_t job, enum catalog_events events,
                                   struct error *err)
{
    return c->ops->job_set_events(c, job, events, err);
}

enum status catalog_outbox_claim(struct catalog *c, int64_t job, struct error *err)
{
    return c->ops->outbox_claim(c, job, err);
}

enum status catalog_outbox_read(struct catalog *c, int64_t job, int64_t max_rows,
                                struct arena *arena, struct catalog_outbox_row **rows,
                                size_t *n_rows, struct error *err)
{
    *rows = NULL;
    *n_rows = 0;
    return c->ops->outbox_read(c, job, max_rows, arena, rows, n_rows, err);
}

enum status catalog_outbox_remove(struct catalog *c, int64_t job,
                                  const struct catalog_outbox_row *rows, size_t n_rows,
                                  struct error *err)
{
    return n_rows > 0 ? c->ops->outbox_remove(c, job, rows, n_rows, err) : ST_OK;
}

enum status catalog_outbox_count(struct catalog *c, int64_t job, struct catalog_outbox *outbox,
                                 struct error *err)
{
    memset(outbox, 0, sizeof *outbox);
    return c->ops->outbox_count(c, job, outbox, err);
}
