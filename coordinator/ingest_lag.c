#include "coordinator/ingest_lag.h"

#include "coordinator/ingest_stream.h"

#include <stdlib.h>

enum { MAX_PARTITIONS = 65536, CONNECT_MS = 5000 };

/* What is being put together. */
struct look {
    struct arena *arena;
    struct ingest_lag *lag;
};

static enum status add(struct look *look, const struct catalog_ingest_partition *row,
                       struct ingest_partition **out, struct error *err)
{
    char *topic;
    enum status st = arena_strndup(look->arena, row->topic, strlen(row->topic), &topic, err);

    if (st == ST_OK && look->lag->n == MAX_PARTITIONS)
        st = error_set(err, ST_FULL, "the job reads more than %d partitions", MAX_PARTITIONS);
    if (st != ST_OK)
        return st;
    *out = &look->lag->partitions[look->lag->n++];
    **out = (struct ingest_partition){.row = *row, .end = -1, .lag = -1};
    (*out)->row.topic = topic;
    return ST_OK;
}

static enum status keep_row(void *ctx, const struct catalog_ingest_partition *row,
                            struct error *err)
{
    struct ingest_partition *partition;

    return add(ctx, row, &partition, err);
}

static int compare(const void *a, const void *b)
{
    const struct catalog_ingest_partition *x = &((const struct ingest_partition *)a)->row;
    const struct catalog_ingest_partition *y = &((const struct ingest_partition *)b)->row;
    int by_topic = strcmp(x->topic, y->topic);

    return by_topic != 0 ? by_topic : (x->partition > y->partition) - (x->partition < y->partition);
}

static enum status keep_extent(struct look *look, size_t n_rows, const struct stream_extent *extent,
                               struct error *err)
{
    const struct ingest_partition key = {.row = {.topic = extent->topic,
                                                 .partition = extent->partition,
                                                 .next_offset = CATALOG_INGEST_UNKNOWN}};
    struct ingest_partition *found = NULL;
    enum status st = ST_OK;

    if (n_rows > 0)
        found = bsearch(&key, look->lag->partitions, n_rows, sizeof key, compare);
    if (found == NULL)
        st = add(look, &key.row, &found, err);
    if (st != ST_OK)
        return st;
    found->end = extent->end;
    found->lag = MAX(extent->end - MAX(found->row.next_offset, extent->begin), (int64_t)0);
    return ST_OK;
}

static enum status ask_brokers(const struct job *job, struct look *look, struct error *err)
{
    struct stream_consumer_options options = {.client = "reinforce-status",
                                              .connect_ms = CONNECT_MS};
    struct ingest_stream stream;
    struct stream_extent *extents;
    size_t n, n_rows = look->lag->n;
    enum status st = ingest_stream_of(job, look->arena, &stream, err);

    if (st != ST_OK)
        return st;
    options.topics = stream.topics;
    options.n_topics = stream.n_topics;
    options.properties = stream.properties;
    options.n_properties = stream.n_properties;
    st = stream_read_extents(stream.url, &options, look->arena, &extents, &n, err);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = keep_extent(look, n_rows, &extents[i], err);
    return st;
}

enum status ingest_lag_read(const struct job *job, struct catalog *catalog, int64_t job_id,
                            struct arena *arena, struct ingest_lag *lag, struct error *err)
{
    struct look look = {.arena = arena, .lag = lag};
    enum status st;

    memset(lag, 0, sizeof *lag);
    st = arena_calloc(arena, MAX_PARTITIONS, sizeof *lag->partitions, &lag->partitions, err);
    if (st == ST_OK)
        st = catalog_ingest_list(catalog, job_id, keep_row, &look, err);
    if (st != ST_OK)
        return st;
    qsort(lag->partitions, lag->n, sizeof *lag->partitions, compare);
    lag->asked = ask_brokers(job, &look, &lag->why);
    qsort(lag->partitions, lag->n, sizeof *lag->partitions, compare);
    return ST_OK;
}

bool ingest_lag_is_none(const struct ingest_lag *lag)
{
    for (size_t i = 0; i < lag->n; i++)
        if (lag->partitions[i].lag > 0)
            return false;
    return lag->asked == ST_OK;
}
