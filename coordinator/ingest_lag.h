/* How far a job is in the partitions of the stream it reads: what the catalog says beside what the
 * brokers have. */
#ifndef REINFORCE_COORDINATOR_INGEST_LAG_H
#define REINFORCE_COORDINATOR_INGEST_LAG_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"

struct ingest_partition {
    struct catalog_ingest_partition row; /* next_offset CATALOG_INGEST_UNKNOWN: never read */
    int64_t end;                         /* of the brokers; -1: not known */
    int64_t lag;                         /* messages still to be read; -1: not known */
};

struct ingest_lag {
    struct ingest_partition *partitions; /* by topic and partition, in the arena given */
    size_t n;
    enum status asked; /* how asking the brokers went; unless ST_OK ends are not known, and */
    struct error why;
};

/** `job` reads a stream. Fails for the catalog alone; see `asked` for the brokers. */
NODISCARD enum status ingest_lag_read(const struct job *job, struct catalog *catalog,
                                      int64_t job_id, struct arena *arena, struct ingest_lag *lag,
                                      struct error *err);

/** Whether the catalog has every record that the brokers had when they were asked. */
bool ingest_lag_is_none(const struct ingest_lag *lag);

#endif
