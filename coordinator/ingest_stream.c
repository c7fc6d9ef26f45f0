#include "coordinator/ingest_stream.h"

#include "reinforce/job/job_stream.h"

#include <stdio.h>

static enum status make(const char *brokers, const struct job_stream_property *properties, size_t n,
                        struct arena *arena, struct ingest_stream *out, struct error *err)
{
    static const char scheme[] = "kafka://";
    size_t len = strlen(scheme) + strlen(brokers) + 1;
    struct stream_property *list;
    char *url;
    enum status st = arena_calloc(arena, n, sizeof *list, &list, err);

    if (st == ST_OK)
        st = arena_alloc(arena, len, &url, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        list[i] =
            (struct stream_property){.name = properties[i].name, .value = properties[i].value};
    (void)snprintf(url, len, "%s%s", scheme, brokers);
    *out = (struct ingest_stream){.url = url, .properties = list, .n_properties = n};
    return ST_OK;
}

enum status ingest_stream_of(const struct job *job, struct arena *arena, struct ingest_stream *out,
                             struct error *err)
{
    struct job_stream stream;
    enum status st = job_stream_parse(job, arena, &stream, err);

    if (st == ST_OK)
        st = make(job->kafka.brokers, stream.properties, stream.n_properties, arena, out, err);
    if (st != ST_OK)
        return st;
    out->topics = stream.topics;
    out->n_topics = stream.n_topics;
    return ST_OK;
}

enum status ingest_stream_of_events(const struct job *job, struct arena *arena,
                                    struct ingest_stream *out, struct error *err)
{
    struct job_events events;
    enum status st = job_events_parse(job, arena, &events, err);

    return st == ST_OK
               ? make(events.brokers, events.properties, events.n_properties, arena, out, err)
               : st;
}
