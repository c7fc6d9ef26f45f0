/* The jobs a dispatcher serves: one that it was given, or all of a catalog, looked at every second.
 * Soft state, owned by the dispatcher's thread. */
#ifndef REINFORCE_COORDINATOR_SERVED_JOBS_H
#define REINFORCE_COORDINATOR_SERVED_JOBS_H

#include "coordinator/failure_window.h"
#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"

struct served_job {
    int64_t id;
    char name[128], digest[SHA256_HEX_LEN + 1];
    const struct job *job;
    struct job *loaded; /* `job` when it is ours; NULL when it was given */
    int32_t priority;
    int64_t max_leases; /* at once; 0: any number */
    bool is_running;    /* leases go out; else it is paused */
    bool is_spent;      /* the failure budget: no more leases, whatever the catalog says */
    int64_t n_ready;    /* about how many more workers it could use; a guess between two looks */
    struct failure_window window;
    uint64_t n_rated; /* samples that the rate has seen */
    int64_t rated_ms; /* monotonic */
    double rate;      /* samples per second, smoothed over a minute */
    double pace_ms; /* how long a lease takes from one commit to the next, smoothed; 0: not known */
    bool seen;      /* by the look under way */
};

struct served_jobs {
    struct served_job **list; /* by priority, then age */
    size_t n, capacity;
};

/** `job` alone, for ever running. It stays the caller's. */
NODISCARD enum status served_jobs_init_one(struct served_jobs *jobs, const struct job *job,
                                           int64_t id, struct error *err);
void served_jobs_release(struct served_jobs *jobs);

/**
 * Looks which jobs of the catalog run or pause, reads the configuration of new and changed ones,
 * and stores rates. Leases of a job that is new to us get their full time again: perhaps nobody was
 * there to renew them. A job whose configuration cannot be read is left out, and that is logged.
 */
NODISCARD enum status served_jobs_refresh(struct served_jobs *jobs, struct catalog *catalog,
                                          int64_t wall_ms, struct error *err);

/** By id; NULL: it is not served (done, cancelled, unknown). */
struct served_job *served_jobs_find(const struct served_jobs *jobs, int64_t id);

/** The first that could use a worker and is not among `except`, or NULL. */
struct served_job *served_jobs_pick(const struct served_jobs *jobs, const int64_t *except,
                                    size_t n_except);

/** Counts a lease's report; true when the failure budget is spent by it, once. */
bool served_job_count(struct served_job *job, int64_t shard, int64_t epoch, uint64_t done,
                      uint64_t quarantined);

/** Pauses a job whose budget is spent, in the catalog, with a diagnosis as its note. */
NODISCARD enum status served_job_pause(const struct served_job *job, struct catalog *catalog,
                                       struct error *err);

#endif
