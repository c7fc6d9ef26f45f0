/* Jobs that read a stream or tell their results to one: topics and properties as lists. */
#ifndef REINFORCE_JOB_JOB_STREAM_H
#define REINFORCE_JOB_JOB_STREAM_H

#include "reinforce/job/job.h"

struct job_stream_property {
    const char *name, *value;
};

struct job_stream {
    const char **topics; /* names, or "^..." patterns */
    size_t n_topics;
    struct job_stream_property *properties;
    size_t n_properties;
};

/** True when input.url begins with "kafka:". */
bool job_is_stream(const struct job *job);

/** Takes input.url and kafka.properties apart; all of it lives in `arena`. ST_INVALID: a name that
 * no topic can have, a line that is not NAME=VALUE, a secret that is written out. */
NODISCARD enum status job_stream_parse(const struct job *job, struct arena *arena,
                                       struct job_stream *out, struct error *err);

/** Where a job's events go. */
struct job_events {
    const char *brokers;
    struct job_stream_property *properties; /* of kafka, when the brokers are its, then its own */
    size_t n_properties;
};

/** True when the job tells its results. */
bool job_has_events(const struct job *job);

/** As job_stream_parse(), of a job that passes job_has_events(). ST_INVALID also: no broker. */
NODISCARD enum status job_events_parse(const struct job *job, struct arena *arena,
                                       struct job_events *out, struct error *err);

#endif
