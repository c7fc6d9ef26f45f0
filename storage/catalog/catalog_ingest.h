/* What a catalog knows of streams: which records have become shards, and where reading goes on. */
#ifndef REINFORCE_STORAGE_CATALOG_INGEST_H
#define REINFORCE_STORAGE_CATALOG_INGEST_H

#include "reinforce/base/bytes.h"

enum { CATALOG_INGEST_UNKNOWN = -1 }; /* the catalog has not heard of a partition */

/** What was read of one partition since the last commit. Strings are borrowed. */
struct catalog_ingest_range {
    const char *topic;
    int32_t partition;
    int64_t begin; /* what the catalog says now, or CATALOG_INGEST_UNKNOWN */
    int64_t end;   /* offset of the next record: what it says afterwards */
    int64_t n_records, n_duplicates, n_refused;
    struct bytes_view seen; /* to know duplicates by after a restart; the gatherer's own form */
};

#endif
