/* Steward: plans jobs that were submitted and finishes those whose last shard is done, on a thread
 * of its own, so that a long listing keeps no worker waiting. */
#ifndef REINFORCE_COORDINATOR_STEWARD_H
#define REINFORCE_COORDINATOR_STEWARD_H

#include "reinforce/base/error.h"

struct steward;

/** Looks after every job of the catalog. What fails for good pauses its job, with the reason as its
 * note; what may work later is tried again. */
NODISCARD enum status steward_start(const char *catalog_url, struct steward **out,
                                    struct error *err);

/** Waits for the job it is at. */
void steward_stop(struct steward **steward);

#endif
