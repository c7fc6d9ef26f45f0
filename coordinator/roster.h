/* The workers a dispatcher knows, as rows of the catalog: for people to look at. */
#ifndef REINFORCE_COORDINATOR_ROSTER_H
#define REINFORCE_COORDINATOR_ROSTER_H

#include "coordinator/peers.h"
#include "storage/catalog/catalog.h"

/**
 * Writes the rows that are due, a few at a time, so that ten thousand workers do not keep leases
 * waiting: each about every ten seconds, or as often as its turn comes. A worker that has been
 * silent for long is gone, and said to be once. `now_ms` is monotonic.
 */
NODISCARD enum status roster_write(struct peers *peers, struct catalog *catalog, int64_t now_ms,
                                   int64_t wall_ms, struct error *err);

#endif
