#include "coordinator/dispatcher.h"

#include "coordinator/peers.h"
#include "coordinator/roster.h"
#include "coordinator/served_jobs.h"
#include "coordinator/tail.h"
#include "coordinator/waiting.h"
#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/wake.h"
#include "reinforce/job/job_stream.h"
#include "storage/catalog/catalog.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    MAX_WAIT_MS = 1000,
    FED_WAIT_MS = 200,
    IDLE_WAIT_MS = 2000, /* for workers without a job: there may be thousands */
    REFRESH_MS = 1000,
    PATIENCE_MS = 2000,  /* with a catalog that is away: heartbeats wait */
    FORGET_MS = 3600000, /* a worker that was silent for so long says hello again */
    LEASE_ARENA_BYTES = 1 << 20
};

struct dispatcher {
    struct dispatcher_options options;
    void *socket; /* ROUTER; the thread's once it runs */
    char address[256];
    struct catalog *catalog;
    pthread_t thread;
    bool started;
    struct wake stop;
    atomic_bool stopping;
    atomic_int verdict;
    struct error error;
    struct arena arena;
    struct served_jobs jobs;
    struct peers peers;
    struct waiting requests, beats;
    struct tail tail;
    uint64_t n_ignored;    /* messages that made no sense */
    int64_t refresh_at_ms; /* monotonic */
    bool is_away;          /* the catalog was, when it was asked last */
};

/* Who has sent the message at hand. */
struct sender {
    uint8_t id[PEER_MAX_ID];
    size_t id_len;
    char address[64]; /* "" when it is not known */
};

static enum status send(struct dispatcher *d, const uint8_t *id, size_t id_len,
                        const struct wire_message *message, struct error *err)
{
    struct byte_buf buf;
    enum status st;

    byte_buf_init(&buf, ENDPOINT_MAX_MESSAGE);
    st = wire_encode(message, &buf, err);
    if (st == ST_OK && (zmq_send(d->socket, id, id_len, ZMQ_SNDMORE) < 0 ||
                        zmq_send(d->socket, buf.data, buf.len, 0) < 0))
        st = error_set(err, ST_UNAVAILABLE, "could not answer a worker: %s", zmq_strerror(errno));
    byte_buf_release(&buf);
    return st;
}

static enum status reply(struct dispatcher *d, const struct peer *peer,
                         const struct wire_message *message, struct error *err)
{
    return send(d, peer->id, peer->id_len, message, err);
}

static enum status welcome(struct dispatcher *d, const struct sender *sender,
                           const struct wire_message *hello, struct error *err)
{
    struct wire_message answer = {.kind = WIRE_REFUSED};
    const struct served_job *job = served_jobs_find(&d->jobs, hello->u.hello.job);
    uint32_t protocol = wire_protocol_agree(hello->u.hello.protocol);
    struct peer *peer;
    enum status st = ST_OK;

    if (protocol == 0) {
        (void)snprintf(answer.u.refused.reason, sizeof answer.u.refused.reason,
                       "worker speaks protocol %u, coordinator %u; they may be one release apart",
                       hello->u.hello.protocol, (unsigned)WIRE_PROTOCOL);
    } else if (hello->u.hello.worker[0] == '\0') {
        (void)snprintf(answer.u.refused.reason, sizeof answer.u.refused.reason,
                       "worker says no name, by which its leases would be known");
    } else if (job != NULL && strcmp(hello->u.hello.config_digest, job->digest) != 0) {
        (void)snprintf(answer.u.refused.reason, sizeof answer.u.refused.reason,
                       "worker has another job file: its digest is %.12s, the coordinator's %.12s",
                       hello->u.hello.config_digest, job->digest);
    } else {
        answer.kind = WIRE_WELCOME;
        answer.u.welcome.protocol = protocol;
        answer.u.welcome.job = hello->u.hello.job;
        st = peers_add(&d->peers, sender->id, sender->id_len, hello->u.hello.worker,
                       clock_monotonic_ms(), &peer, err);
        if (st == ST_OK) {
            memcpy(peer->version, hello->u.hello.version, sizeof peer->version);
            memcpy(peer->address, sender->address, sizeof peer->address);
        }
        log_at(LOG_INFO, "worker_joined", "worker=\"%s\" job=%" PRId64, hello->u.hello.worker,
               hello->u.hello.job);
    }
    return st == ST_OK ? send(d, sender->id, sender->id_len, &answer, err) : st;
}

/* Somebody is idle and no shard is ready. *asked: somebody is giving a part of a shard away. */
static enum status share(struct dispatcher *d, const struct served_job *job, bool *asked,
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
    return reply(d, holder, &ask, err);
}

/* The first of the jobs, by priority and age, that can use a worker. */
static enum status offer(struct dispatcher *d, const struct peer *peer,
                         const struct wire_message *request, struct error *err)
{
    struct wire_message answer = {.kind = WIRE_NO_WORK};
    struct served_job *job =
        served_jobs_pick(&d->jobs, request->u.job_request.except, request->u.job_request.n_except);

    if (job == NULL) {
        enum status st = ST_OK;
        bool asked = false;

        for (size_t i = 0; i < d->jobs.n && st == ST_OK && !asked; i++)
            st = share(d, d->jobs.list[i], &asked, err);
        answer.u.no_work.number = request->u.job_request.number;
        answer.u.no_work.wait_ms = IDLE_WAIT_MS;
        return st == ST_OK ? reply(d, peer, &answer, err) : st;
    }
    job->n_ready--;
    answer.kind = WIRE_JOB_OFFER;
    answer.u.job_offer.number = request->u.job_request.number;
    answer.u.job_offer.job = job->id;
    memcpy(answer.u.job_offer.name, job->name, sizeof answer.u.job_offer.name);
    memcpy(answer.u.job_offer.config_digest, job->digest, sizeof answer.u.job_offer.config_digest);
    (void)snprintf(answer.u.job_offer.catalog_url, sizeof answer.u.job_offer.catalog_url, "%s",
                   d->options.catalog_url);
    return reply(d, peer, &answer, err);
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
static enum status grant(struct dispatcher *d, struct peer *peer,
                         const struct wire_message *request, struct error *err)
{
    struct wire_message answer = {.kind = WIRE_NO_WORK};
    const struct served_job *job = served_jobs_find(&d->jobs, request->u.lease_request.job);

    /* It was granted, and the answer was lost or is late: the same again. */
    if (peer->grant.kind != 0 && peer->grant.u.lease_grant.job == request->u.lease_request.job &&
        peer->grant.u.lease_grant.number == request->u.lease_request.number)
        return reply(d, peer, &peer->grant, err);
    if (waiting_has(&d->requests, peer)) /* made again meanwhile */
        return ST_OK;
    if (job == NULL || !job->is_running || job->is_spent || is_wanted_elsewhere(d, job, false)) {
        answer.u.no_work.number = request->u.lease_request.number;
        answer.u.no_work.finished = true;
        return reply(d, peer, &answer, err);
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

    *sent = share(d, job, &asked, err);
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
            sent = reply(d, list[i].peer, &answer, err);
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
    return reply(d, beat->peer, &answer, err);
}

/* Nobody wants a lease of a job that is done or cancelled; the others wait for each other. */
static enum status renew(struct dispatcher *d, struct peer *peer, const struct wire_message *beat,
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
static enum status answer_waiting(struct dispatcher *d, struct error *err)
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
static enum status take_result(struct dispatcher *d, struct peer *peer,
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
    return reply(d, peer, &answer, err);
}

/* What makes no sense has no answer: it may be anybody's. Told when its number doubles. */
static enum status ignore(struct dispatcher *d, const char *cause)
{
    d->n_ignored++;
    if ((d->n_ignored & (d->n_ignored - 1)) == 0)
        log_at(LOG_WARN, "message_ignored", "n=%" PRIu64 " cause=\"%s\"", d->n_ignored, cause);
    return ST_OK;
}

static enum status serve(struct dispatcher *d, const struct sender *sender, struct bytes_view body,
                         struct error *err)
{
    struct wire_message message, who = {.kind = WIRE_WHO_ARE_YOU};
    struct peer *peer = peers_find(&d->peers, sender->id, sender->id_len);

    if (wire_decode(body, &message, err) != ST_OK)
        return ignore(d, err->message);
    if (message.kind == WIRE_HELLO)
        return welcome(d, sender, &message, err);
    if (peer == NULL) /* we are new here; or it was away for long */
        return send(d, sender->id, sender->id_len, &who, err);
    peer->heard_ms = clock_monotonic_ms();
    if (message.kind == WIRE_JOB_REQUEST || message.kind == WIRE_LEASE_REQUEST)
        peer->is_draining = false;
    switch (message.kind) {
    case WIRE_JOB_REQUEST:
        return offer(d, peer, &message, err);
    case WIRE_LEASE_REQUEST:
        return grant(d, peer, &message, err);
    case WIRE_HEARTBEAT:
        return renew(d, peer, &message, err);
    case WIRE_LEASE_RESULT:
        return take_result(d, peer, &message, err);
    case WIRE_HELLO:
    case WIRE_WELCOME:
    case WIRE_WHO_ARE_YOU:
    case WIRE_REFUSED:
    case WIRE_JOB_OFFER:
    case WIRE_LEASE_GRANT:
    case WIRE_NO_WORK:
    case WIRE_HEARTBEAT_REPLY:
    case WIRE_RESULT_TAKEN:
        break;
    }
    return ignore(d, "it is not for coordinators");
}

static bool has_more(void *socket)
{
    int more = 0;
    size_t len = sizeof more;

    return zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &len) == 0 && more != 0;
}

/* One message, if there is one: ST_FULL when not. A message is one frame behind the peer's id;
 * what has more is read to its end and taken for none, or the rest would pass for a message of
 * whatever peer it names. */
static enum status receive(struct dispatcher *d, struct error *err)
{
    struct sender sender;
    const char *address;
    zmq_msg_t body;
    int n = zmq_recv(d->socket, sender.id, sizeof sender.id, ZMQ_DONTWAIT), n_frames = 0;
    enum status st = ST_OK;

    if (n < 0)
        return ST_FULL;
    sender.id_len = MIN((size_t)n, sizeof sender.id);
    (void)zmq_msg_init(&body);
    while (has_more(d->socket) && zmq_msg_recv(&body, d->socket, 0) >= 0)
        n_frames++;
    address = n_frames > 0 ? zmq_msg_gets(&body, "Peer-Address") : NULL; /* not over inproc */
    (void)snprintf(sender.address, sizeof sender.address, "%s",
                   address != NULL ? endpoint_peer(address) : "");
    if (n_frames > 0)
        st =
            serve(d, &sender,
                  bytes_view_of(zmq_msg_data(&body), n_frames == 1 ? zmq_msg_size(&body) : 0), err);
    (void)zmq_msg_close(&body);
    return st;
}

/* Retryable failures are logged, and the worker asks again; others end the dispatcher. */
static enum status endure(struct dispatcher *d, enum status st, const struct error *err)
{
    if (st == ST_OK)
        return ST_OK;
    if (status_is_retryable(st)) {
        d->is_away = true;
        log_at(LOG_WARN, "dispatch_failed", "cause=\"%s\"", err->message);
        return ST_OK;
    }
    d->error = *err;
    log_at(LOG_ERROR, "dispatcher_stopped", "cause=\"%s\"", err->message);
    atomic_store(&d->verdict, DISPATCHER_BROKEN);
    return st;
}

static enum status look(struct dispatcher *d, struct error *err)
{
    enum status st;

    d->refresh_at_ms = clock_monotonic_ms() + REFRESH_MS;
    peers_forget(&d->peers, clock_monotonic_ms() - FORGET_MS);
    st = roster_write(&d->peers, d->catalog, clock_monotonic_ms(), d->options.wall_ms(), err);
    return st == ST_OK ? served_jobs_refresh(&d->jobs, d->catalog, d->options.wall_ms(), err) : st;
}

static void *run(void *arg)
{
    struct dispatcher *d = arg;
    bool all = d->options.job == NULL;
    enum status st = ST_OK;

    while (!atomic_load(&d->stopping) && st == ST_OK) {
        zmq_pollitem_t items[] = {{.socket = d->socket, .events = ZMQ_POLLIN},
                                  {.fd = d->stop.fds[0], .events = ZMQ_POLLIN}};
        struct error err = {0};
        int64_t until = d->refresh_at_ms - clock_monotonic_ms();

        (void)zmq_poll(items, 2, all ? (long)MAX(until, (int64_t)0) : -1);
        while ((!all || clock_monotonic_ms() < d->refresh_at_ms) &&
               !waiting_is_full(&d->requests) && !waiting_is_full(&d->beats) &&
               (st = receive(d, &err)) == ST_OK)
            continue;
        st = endure(d, st == ST_FULL ? ST_OK : st, &err);
        if (st == ST_OK) {
            enum status answered = answer_waiting(d, &err);

            st = endure(d, answered, &err);
        }
        if (st == ST_OK && all && clock_monotonic_ms() >= d->refresh_at_ms) {
            enum status looked = look(d, &err);

            st = endure(d, looked, &err);
        }
    }
    return NULL;
}

enum status dispatcher_create(const struct dispatcher_options *options, struct dispatcher **out,
                              struct error *err)
{
    struct dispatcher *d = calloc(1, sizeof *d);
    enum status st;

    *out = NULL;
    if (d == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the dispatcher");
    d->options = *options;
    if (d->options.wall_ms == NULL)
        d->options.wall_ms = clock_wall_ms;
    arena_init(&d->arena, LEASE_ARENA_BYTES);
    st = wake_init(&d->stop, err);
    if (st == ST_OK)
        st = catalog_open(options->catalog_url, &d->catalog, err);
    if (st == ST_OK)
        catalog_set_patience(d->catalog, PATIENCE_MS);
    /* Before anybody can ask: a worker must not hear that its job is unknown. */
    if (st == ST_OK)
        st = options->job != NULL
                 ? served_jobs_init_one(&d->jobs, options->job, options->job_id, err)
                 : look(d, err);
    if (st == ST_OK)
        st = endpoint_bind(options->zmq, options->endpoint, options->keys, NULL, &d->socket, err);
    if (st == ST_OK)
        st = endpoint_bound(d->socket, d->address, err);
    if (st == ST_OK && pthread_create(&d->thread, NULL, run, d) != 0)
        st = error_set(err, ST_UNAVAILABLE, "could not start the dispatcher");
    d->started = st == ST_OK;
    if (st != ST_OK) {
        dispatcher_destroy(&d);
        return st;
    }
    *out = d;
    return ST_OK;
}

const char *dispatcher_address(const struct dispatcher *dispatcher)
{
    return dispatcher->address;
}

enum dispatcher_verdict dispatcher_verdict(const struct dispatcher *dispatcher)
{
    return (enum dispatcher_verdict)atomic_load(&dispatcher->verdict);
}

const struct error *dispatcher_error(const struct dispatcher *dispatcher)
{
    return &dispatcher->error;
}

void dispatcher_destroy(struct dispatcher **dispatcher)
{
    struct dispatcher *d = *dispatcher;

    if (d == NULL)
        return;
    if (d->started) {
        atomic_store(&d->stopping, true);
        wake_signal(&d->stop);
        (void)pthread_join(d->thread, NULL);
    }
    if (d->socket != NULL)
        (void)zmq_close(d->socket);
    catalog_close(&d->catalog);
    wake_release(&d->stop);
    arena_release(&d->arena);
    served_jobs_release(&d->jobs);
    peers_release(&d->peers);
    free(d);
    *dispatcher = NULL;
}
