#include "coordinator/ingest_stream.h"

#include "reinforce/job/job_stream.h"

#include <stdio.h>

enum status ingest_stream_of(const struct job *job, struct arena *arena, struct ingest_stream *out,
                             struct error *err)
{
    static const char scheme[] = "kafka://";
    size_t len = strlen(scheme) + strlen(job->kafka.brokers) + 1;
    struct stream_property *properties;
    struct job_stream stream;
    char *url;
    enum status st = job_stream_parse(job, arena, &stream, err);

    if (st == ST_OK)
        st = arena_calloc(arena, stream.n_properties, sizeof *properties, &properties, err);
    if (st == ST_OK)
        st = arena_alloc(arena, len, &url, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < stream.n_properties; i++)
        properties[i] = (struct stream_property){.name = stream.properties[i].name,
                                                 .value = stream.properties[i].value};
    (void)snprintf(url, len, "%s%s", scheme, job->kafka.brokers);
    *out = (struct ingest_stream){.url = url,
                                  .topics = stream.topics,
                                  .n_topics = stream.n_topics,
                                  .properties = properties,
                                  .n_properties = stream.n_properties};
    return ST_OK;
}
