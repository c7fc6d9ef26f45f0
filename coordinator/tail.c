#include "coordinator/tail.h"

#include "reinforce/base/clock.h"

enum {
    LOOK_MS = 20,        /* between two workers that are asked to share */
    LOOK_AGAIN_MS = 500, /* when nobody had anything */
    STRAGGLES = 4,       /* times as long without a commit as it takes the others */
};

static const double pace_weight = 0.1; /* of one more commit */

void tail_note_beat(struct peer *peer, struct served_job *job, const struct wire_message *beat,
                    int64_t wall_ms)
{
    const struct peer_lease told = {.job = beat->u.heartbeat.job,
                                    .shard = beat->u.heartbeat.shard,
                                    .epoch = beat->u.heartbeat.epoch,
                                    .left = beat->u.heartbeat.samples_left,
                                    .n_samples = beat->u.heartbeat.samples_done +
                                                 beat->u.heartbeat.samples_quarantined,
                                    .told_ms = wall_ms};
    double took_ms = (double)peer_lease_note(peer, &told);

    if (took_ms > 0)
        job->pace_ms += (took_ms - job->pace_ms) * (job->pace_ms > 0 ? pace_weight : 1);
}

void tail_note_grant(struct peer *peer, const struct catalog_lease *lease, int64_t wall_ms)
{
    const struct peer_lease told = {
        .job = lease->job, .shard = lease->shard, .epoch = lease->epoch, .told_ms = wall_ms};

    (void)peer_lease_note(peer, &told);
}

/* A job with a quota may have nothing ready for that reason. */
static bool may_help(const struct served_job *job)
{
    return job->job != NULL && job->is_running && !job->is_spent && job->max_leases == 0;
}

const struct peer_lease *tail_find_long(struct tail *tail, const struct peers *peers,
                                        const struct served_job *job, int64_t wall_ms,
                                        const struct peer **holder, bool *is_early)
{
    int64_t now_ms = clock_monotonic_ms();
    struct peer_lease *lease;

    *is_early = now_ms < tail->look_at_ms;
    if (*is_early || !may_help(job))
        return NULL;
    lease = peers_longest_lease(peers, job->id, wall_ms - job->job->workers.lease_ms, holder);
    tail->look_at_ms = now_ms + (lease != NULL ? LOOK_MS : LOOK_AGAIN_MS);
    if (lease != NULL)
        lease->left = lease->left == UINT64_MAX ? 0 : lease->left / 2;
    return lease;
}

const struct peer_lease *tail_find_slow(const struct peers *peers, const struct served_job *job,
                                        int64_t wall_ms, const struct peer *except)
{
    int64_t lease_ms, stalled_ms;
    struct peer_lease *lease;

    if (!may_help(job) || job->pace_ms == 0)
        return NULL;
    lease_ms = job->job->workers.lease_ms;
    lease = peers_slowest_lease(peers, job->id, wall_ms - lease_ms, except);
    if (lease == NULL)
        return NULL;
    stalled_ms = wall_ms - lease->moved_ms;
    if (stalled_ms < lease_ms || (double)stalled_ms < STRAGGLES * job->pace_ms)
        return NULL;
    lease->moved_ms = wall_ms; /* whatever comes of it, it is the next one's turn */
    return lease;
}
