/* The stream that a job reads, and the one its events go to, as storage/stream is told of them. */
#ifndef REINFORCE_COORDINATOR_INGEST_STREAM_H
#define REINFORCE_COORDINATOR_INGEST_STREAM_H

#include "reinforce/job/job.h"
#include "storage/stream/stream.h"

struct ingest_stream {
    const char *url;           /* "kafka://HOST:PORT,..." */
    const char *const *topics; /* of one that is read */
    size_t n_topics;
    const struct stream_property *properties;
    size_t n_properties;
};

/** Of a job that passes job_is_stream(). All of it lives in `arena` or is the job's. ST_INVALID: as
 * job_stream_parse(). */
NODISCARD enum status ingest_stream_of(const struct job *job, struct arena *arena,
                                       struct ingest_stream *out, struct error *err);

/** The same of a job that passes job_has_events(). ST_INVALID: as job_events_parse(). */
NODISCARD enum status ingest_stream_of_events(const struct job *job, struct arena *arena,
                                              struct ingest_stream *out, struct error *err);

#endif
