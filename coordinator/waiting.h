/* Workers whose lease request or heartbeat waits for its answer while the messages behind it are
 * read: the catalog is asked once for all of them. */
#ifndef REINFORCE_COORDINATOR_WAITING_H
#define REINFORCE_COORDINATOR_WAITING_H

#include "coordinator/peers.h"
#include "storage/catalog/catalog.h"

struct waiting_one {
    struct peer *peer; /* borrowed */
    int64_t job;
    uint64_t number;      /* of a request */
    int64_t shard, epoch; /* of a heartbeat */
    uint64_t samples_done, samples_quarantined;
};

/* Zeroed is empty. */
struct waiting {
    struct waiting_one list[CATALOG_BATCH_MAX];
    size_t n;
};

bool waiting_is_full(const struct waiting *waiting);

/** There must be room. */
void waiting_add(struct waiting *waiting, const struct waiting_one *one);

bool waiting_has(const struct waiting *waiting, const struct peer *peer);

/** Takes out those of the first one's job, in order; returns how many, 0: nobody waits. */
size_t waiting_take(struct waiting *waiting, struct waiting_one out[CATALOG_BATCH_MAX]);

#endif
