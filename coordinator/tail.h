/* A job's last shards: who of those at work should share with the idle, and who is a straggler. */
#ifndef REINFORCE_COORDINATOR_TAIL_H
#define REINFORCE_COORDINATOR_TAIL_H

#include "coordinator/peers.h"
#include "coordinator/served_jobs.h"

/* Zeroed is as good as new. */
struct tail {
    int64_t look_at_ms; /* monotonic: nobody is looked for before */
};

/** What a heartbeat tells of its lease, for what follows and for the job's pace. Wall clock. */
void tail_note_beat(struct peer *peer, struct served_job *job, const struct wire_message *beat,
                    int64_t wall_ms);
/** The same of a lease that was granted just now. */
void tail_note_grant(struct peer *peer, const struct catalog_lease *lease, int64_t wall_ms);

/**
 * Somebody is idle and no shard is ready: the lease of which a part should be given away, which is
 * ready then. Workers say how much they have not begun; until they say it again it is thought to be
 * half. NULL: none now; with *is_early somebody was asked just before, which takes a moment.
 */
const struct peer_lease *tail_find_long(struct tail *tail, const struct peers *peers,
                                        const struct served_job *job, int64_t wall_ms,
                                        const struct peer **holder, bool *is_early);

/** The lease that is alive and has not committed anything for much longer than others do, but not
 * `except`'s. NULL: there is none. It is not found again at once. */
const struct peer_lease *tail_find_slow(const struct peers *peers, const struct served_job *job,
                                        int64_t wall_ms, const struct peer *except);

#endif
