/* Readers: a coordinator as a member of the groups of all running jobs that read streams. Serving
 * takes the catalog's lock, reading does not: those that stand by share the partitions. */
#ifndef REINFORCE_COORDINATOR_READERS_H
#define REINFORCE_COORDINATOR_READERS_H

#include "reinforce/base/error.h"

struct readers;

/** Looks at the catalog every second, on a thread of its own. A stream that cannot be read pauses
 * its job, with the reason as its note; what may work later is tried again. `catalog_url` outlives
 * it. */
NODISCARD enum status readers_start(const char *catalog_url, struct readers **out,
                                    struct error *err);

/** What is read and not committed is read again by others. *readers may be NULL. */
void readers_stop(struct readers **readers);

#endif
