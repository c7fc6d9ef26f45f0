#include "coordinator/dispatch_leases.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/job/job_stream.h"

#include <inttypes.h>

enum { MAX_WAIT_MS = 1000, FED_WAIT_MS = 200 };

/* Somebody is idle and no shard is ready. *asked: somebody is giving a part of a shard away. */
enum status dispatch_share(struct dispatcher *d, const struct served_job *job, bool *asked,
                           struct error *err)
{
    struct wire_message ask = {.kind = WIRE_HEARTBEAT_REPLY};
    const struct peer *holder;
    const struct peer_lease *lease =
        tail_find_long(&d->tail, &d->peers, job, d->options.wall_ms(), &holder, asked);

    if (lease == NULL)
        return ST_OK;
    *asked = true;
    ask.u.heartbeat_reply.shard = lease->shard;
    ask.u.heartbeat_reply.epoch = lease->epoch;
    ask.u.heartbeat_reply.split = true;
    return dispatcher_reply(d, holder, &ask, err);
}

_Static_assert((int)CATALOG_INPUT_JOB == (int)WIRE_SOURCE_INPUT &&
                   (int)CATALOG_INPUT_PLAN == (int)WIRE_SOURCE_PLAN &&
                   (int)CATALOG_INPUT_PREVIOUS == (int)WIRE_SOURCE_PREVIOUS &&
                   (int)CATALOG_INPUT_LIST == (int)WIRE_SOURCE_LIST,
               "a source has the same number in the catalog and in messages");

static void fill_grant(const struct catalog_lease *lease, uint64_t number,
                       struct wire_message *grant)
{
    grant->kind = WIRE_LEASE_GRANT;
    grant->u.lease_grant.number = number;
    grant->u.lease_grant.job = lease->job;
    grant->u.lease_grant.shard = lease->shard;
    grant->u.lease_grant.epoch = lease->epoch;
    grant->u.lease_grant.expires_ms = lease->expires_ms;
    (void)snprintf(grant->u.lease_grant.input_key, sizeof grant->u.lease_grant.input_key, "%s",
                   lease->plan.input_key);
    (void)snprintf(grant->u.lease_grant.input_format, sizeof grant->u.lease_grant.input_format,
                   "%s", lease->plan.input_format);
    grant->u.lease_grant.input_source = (enum wire_source)lease->plan.source;
    grant->u.lease_grant.input_samples = (uint64_t)lease->plan.input_samples;
    grant->u.lease_grant.input_begin = lease->plan.input_begin;
    grant->u.lease_grant.input_end = lease->plan.input_end;
    grant->u.lease_grant.next_offset = lease->next_offset;
    grant->u.lease_grant.next_index = lease->next_index;
    grant->u.lease_grant.n_parts = lease->n_parts;
    grant->u.lease_grant.attempts = (uint32_t)MAX(lease->attempts, 0);
    grant->u.lease_grant.suspect_end = lease->suspect_end;
    grant->u.lease_grant.probe_samples = (uint64_t)lease->probe_samples;
    grant->u.lease_grant.is_poison = lease->is_poison;
    grant->u.lease_grant.end_index = lease->end_index;
}

/* A worker has died of one of these samples, perhaps. */
static void tell_suspects(const struct catalog_lease *lease)
{
    if (lease->next_index < lease->suspect_end)
        log_at(LOG_WARN, lease->is_poison ? "sample_named" : "samples_suspected",
               "job=%" PRId64 " shard=%" PRId64 " from=%" PRIu64 " to=%" PRIu64 " at_once=%" PRId64,
               lease->job, lease->shard, lease->next_index, lease->suspect_end - 1,
               lease->probe_samples);
}

/* Whether a worker of `job` should go to another: one of higher priority, or, when its own has
 * nothing for it, any. */
static bool is_wanted_elsewhere(struct dispatcher *d, const struct served_job *job, bool is_idle)
{
    struct served_job *other = served_jobs_pick(&d->jobs, &job->id, 1);

    if (other == NULL || (!is_idle && other->priority <= job->priority))
        return false;
    other->n_ready--; /* it comes, but not everybody should */
    return true;
}

/* Whether a job may get more shards than it has. */
static bool is_fed(const struct dispatcher *d, const struct served_job *job)
{
    return d->options.job == NULL ? job_is_stream(job->job)
                                  : d->options.is_fed != NULL && atomic_load(d->options.is_fed);
}

/* A request whose answer is known is answered at once; the others wait for each other. */
enum status dispatch_grant(struct dispatcher *d, struct peer *peer,
                           const struct wire_message *request, struct error *err)
{
    struct wire_message answer = {.kind = WIRE_NO_WORK};
    const struct served_job *job = served_jobs_find(&d->jobs, request->u.lease_request.job);

    /* It was granted, and the answer was lost or is late: the same again. */
    if (peer->grant.kind != 0 && peer->grant.u.lease_grant.job == request->u.lease_request.job &&
        peer->grant.u.lease_grant.number == request->u.lease_request.number)
        return dispatcher_reply(d, peer, &peer->grant, err);
    if (waiting_has(&d->requests, peer)) /* made again meanwhile */
        return ST_OK;
    if (job == NULL || !job->is_running || job->is_spent || is_wanted_elsewhere(d, job, false)) {
        answer.u.no_work.number = request->u.lease_request.number;
        answer.u.no_work.finished = true;
        return dispatcher_reply(d, peer, &answer, err);
    }
    peer_leases_are_read(peer);
    waiting_add(&d->requests, &(struct waiting_one){.peer = peer,
                                                    .job = job->id,
                                                    .number = request->u.lease_request.number});
    return ST_OK;
}

/* A straggler gets a rival: whichever of the two commits first has the shard. ST_NOT_FOUND: there
 * is none. */
static enum status rival(struct dispatcher *d, const struct waiting_one *request,
                         const struct served_job *job, const struct catalog_terms *terms,
                         struct catalog_lease *lease, struct error *err)
{
    int64_t now_ms = d->options.wall_ms();
    const struct peer_lease *slow = tail_find_slow(&d->peers, job, now_ms, request->peer);
    enum status st;

    if (slow == NULL)
        return ST_NOT_FOUND;
    st = catalog_lease_rival(d->catalog, job->id, slow->shard, slow->epoch, request->peer->name,
                             now_ms, terms, &d->arena, lease, err);
    if (st == ST_OK)
        log_at(LOG_WARN, "straggler",
               "job=%" PRId64 " shard=%" PRId64 " epoch=%" PRId64 " rival=%" PRId64 " pace_ms=%.0f",
               job->id, slow->shard, slow->epoch, lease->epoch, job->pace_ms);
    return st;
}

/* Nothing is ready for this worker: somebody shares with it, which takes a moment, or it gets the
 * shard of a straggler, too: true, and that is the answer. */
static bool help(struct dispatcher *d, const struct waiting_one *request,
                 const struct served_job *job, const struct catalog_terms *terms,
                 struct wire_message *answer, enum status *sent, struct error *err)
{
    struct catalog_lease lease;
    struct error why;
    bool asked;
    enum status st;

    *sent = dispatch_share(d, job, &asked, err);
    if (*sent != ST_OK || asked)
        return false;
    st = rival(d, request, job, terms, &lease, &why);
    if (st == ST_OK) {
        fill_grant(&lease, request->number, answer);
        tail_note_grant(request->peer, &lease, d->options.wall_ms());
    } else if (st != ST_NOT_FOUND) {
        log_at(LOG_WARN, "straggler_not_helped", "cause=\"%s\"", why.message);
    }
    return st == ST_OK;
}

/* Of requests for leases of one job. */
static enum status answer_requests(struct dispatcher *d, const struct waiting_one *list, size_t n,
                                   struct error *err)
{
    const struct served_job *job = served_jobs_find(&d->jobs, list[0].job);
    bool fed = is_fed(d, job); /* asked first: a shard that comes later is seen by the next look */
    const struct catalog_terms terms = {.lease_ms = job->job->workers.lease_ms,
                                        .max_attempts = (int)job->job->workers.max_attempts,
                                        .part_samples = job->job->workers.part_samples,
                                        .samples_at_work = job->job->workers.queue_items};
    struct catalog_take takes[CATALOG_BATCH_MAX];
    enum status st, sent = ST_OK;

    for (size_t i = 0; i < n; i++)
        takes[i].owner = list[i].peer->name;
    arena_reset(&d->arena);
    st = catalog_leases_take(d->catalog, job->id, takes, n, d->options.wall_ms(), &terms, &d->arena,
                             err);
    if (st != ST_OK && !status_is_retryable(st))
        return st;
    if (st != ST_OK) {
        d->is_away = true;
        log_at(LOG_WARN, "leases_not_taken", "n=%zu cause=\"%s\"", n, err->message);
    }
    for (size_t i = 0; i < n && sent == ST_OK; i++) {
        struct wire_message answer = {.kind = WIRE_NO_WORK};
        int64_t wait_ms = takes[i].wait_ms;

        answer.u.no_work.number = list[i].number;
        if (st != ST_OK) {
            answer.u.no_work.wait_ms = MAX_WAIT_MS;
        } else if (takes[i].status == ST_OK) {
            tell_suspects(&takes[i].lease);
            fill_grant(&takes[i].lease, list[i].number, &answer);
            list[i].peer->grant = answer;
            tail_note_grant(list[i].peer, &takes[i].lease, d->options.wall_ms());
        } else if (wait_ms >= 0 && help(d, &list[i], job, &terms, &answer, &sent, err)) {
            list[i].peer->grant = answer;
        } else {
            answer.u.no_work.finished = (wait_ms < 0 && !fed) || is_wanted_elsewhere(d, job, true);
            answer.u.no_work.wait_ms =
                fed ? FED_WAIT_MS : MAX(MIN(wait_ms, (int64_t)MAX_WAIT_MS), (int64_t)0);
        }
        if (sent == ST_OK)
            sent = dispatcher_reply(d, list[i].peer, &answer, err);
    }
    return sent;
}

static enum status count(struct dispatcher *d, struct peer *peer, struct served_job *job,
                         int64_t shard, int64_t epoch, uint64_t done, uint64_t quarantined,
                         struct error *err)
{
    uint64_t before = job->window.n_samples;
    bool is_spent = served_job_count(job, shard, epoch, done, quarantined);

    peer->n_samples += job->window.n_samples - before;
    if (!is_spent)
        return ST_OK;
    if (d->options.job != NULL)
        atomic_store(&d->verdict, DISPATCHER_OVER_BUDGET);
    return served_job_pause(job, d->catalog, err); /* again at the next look, if it failed */
}

static enum status answer_beat(struct dispatcher *d, const struct waiting_one *beat,
                               const struct served_job *job, bool lost, struct error *err)
{
    struct wire_message answer = {.kind = WIRE_HEARTBEAT_REPLY};

    answer.u.heartbeat_reply.shard = beat->shard;
    answer.u.heartbeat_reply.epoch = beat->epoch;
    answer.u.heartbeat_reply.lost = lost;
    answer.u.heartbeat_reply.stop = job != NULL && !job->is_running;
    return dispatcher_reply(d, beat->peer, &answer, err);
}

/* Nobody wants a lease of a job that is done or cancelled; the others wait for each other. */
enum status dispatch_renew(struct dispatcher *d, struct peer *peer, const struct wire_message *beat,
                           struct error *err)
{
    struct served_job *job = served_jobs_find(&d->jobs, beat->u.heartbeat.job);
    const struct waiting_one one = {.peer = peer,
                                    .job = beat->u.heartbeat.job,
                                    .shard = beat->u.heartbeat.shard,
                                    .epoch = beat->u.heartbeat.epoch,
                                    .samples_done = beat->u.heartbeat.samples_done,
                                    .samples_quarantined = beat->u.heartbeat.samples_quarantined};

    if (job == NULL || job->job == NULL)
        return answer_beat(d, &one, job, true, err);
    tail_note_beat(peer, job, beat, d->options.wall_ms());
    waiting_add(&d->beats, &one);
    return ST_OK;
}

/* Of leases of one job. */
static enum status answer_beats(struct dispatcher *d, const struct waiting_one *list, size_t n,
                                struct error *err)
{
    struct served_job *job = served_jobs_find(&d->jobs, list[0].job);
    struct catalog_lease leases[CATALOG_BATCH_MAX];
    bool lost[CATALOG_BATCH_MAX];
    enum status st;

    for (size_t i = 0; i < n; i++)
        leases[i] = (struct catalog_lease){
            .job = list[i].job, .shard = list[i].shard, .epoch = list[i].epoch};
    st = catalog_leases_renew(d->catalog, leases, n, d->options.wall_ms(),
                              job->job->workers.lease_ms, lost, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        if (lost[i])
            peer_lease_drop(list[i].peer, job->id, list[i].shard, list[i].epoch);
        else
            st = count(d, list[i].peer, job, list[i].shard, list[i].epoch, list[i].samples_done,
                       list[i].samples_quarantined, err);
        if (st == ST_OK)
            st = answer_beat(d, &list[i], job, lost[i], err);
    }
    return st;
}

/* While the catalog was away nobody could renew: before anybody takes what has run out, leases get
 * their full time again. */
static enum status come_back(struct dispatcher *d, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < d->jobs.n && st == ST_OK; i++)
        if (d->jobs.list[i]->job != NULL)
            st = catalog_leases_extend(d->catalog, d->jobs.list[i]->id, d->options.wall_ms(),
                                       d->jobs.list[i]->job->workers.lease_ms, err);
    d->is_away = st != ST_OK;
    peers_leases_have_moved(&d->peers, d->options.wall_ms());
    if (st == ST_OK)
        log_at(LOG_INFO, "catalog_back", "jobs=%zu", d->jobs.n);
    return st;
}

/* Heartbeats first: a lease that is renewed does not run out meanwhile. */
enum status dispatch_answer_waiting(struct dispatcher *d, struct error *err)
{
    struct waiting_one list[CATALOG_BATCH_MAX];
    enum status st = d->is_away && d->beats.n + d->requests.n > 0 ? come_back(d, err) : ST_OK;

    while (d->beats.n > 0 && st == ST_OK)
        st = answer_beats(d, list, waiting_take(&d->beats, list), err);
    while (d->requests.n > 0 && st == ST_OK)
        st = answer_requests(d, list, waiting_take(&d->requests, list), err);
    d->beats.n = d->requests.n = 0; /* what has no answer is said again */
    return st;
}

/* What a result means for the catalog and the counts. */
static enum status end_lease(struct dispatcher *d, struct peer *peer, struct served_job *job,
                             const struct wire_message *result, struct error *err)
{
    const struct catalog_lease lease = {.job = result->u.lease_result.job,
                                        .shard = result->u.lease_result.shard,
                                        .epoch = result->u.lease_result.epoch};
    enum wire_outcome outcome = result->u.lease_result.outcome;
    enum status st = ST_OK;

    if (outcome == WIRE_OUTCOME_RELEASED || outcome == WIRE_OUTCOME_FAILED) {
        st = catalog_lease_release(d->catalog, &lease, outcome == WIRE_OUTCOME_FAILED,
                                   result->u.lease_result.why, err);
        job->n_ready += st == ST_OK;
    }
    if (st == ST_CONFLICT) /* it was taken over meanwhile: nothing to give back */
        st = ST_OK;
    if (st == ST_OK)
        st = count(d, peer, job, lease.shard, lease.epoch, result->u.lease_result.samples_done,
                   result->u.lease_result.samples_quarantined, err);
    if (st == ST_OK)
        failure_window_forget(&job->window, lease.shard, lease.epoch);
    return st;
}

/* Acknowledged when it is where it belongs; until then the worker says it again. */
enum status dispatch_take_result(struct dispatcher *d, struct peer *peer,
                                 const struct wire_message *result, struct error *err)
{
    int64_t id = result->u.lease_result.job, shard = result->u.lease_result.shard,
            epoch = result->u.lease_result.epoch;
    struct served_job *job = served_jobs_find(&d->jobs, id);
    struct wire_message answer = {.kind = WIRE_RESULT_TAKEN};
    enum status st = ST_OK;

    if (job != NULL && job->job != NULL && !peer_has_ended(peer, id, shard, epoch))
        st = end_lease(d, peer, job, result, err);
    peer->is_draining =
        job != NULL && job->is_running && result->u.lease_result.outcome == WIRE_OUTCOME_RELEASED;
    if (st != ST_OK)
        return st;
    peer_end(peer, id, shard, epoch);
    answer.u.result_taken.job = id;
    answer.u.result_taken.shard = shard;
    answer.u.result_taken.epoch = epoch;
    return dispatcher_reply(d, peer, &answer, err);
}
