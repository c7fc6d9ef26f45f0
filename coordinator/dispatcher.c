#include "coordinator/dispatcher.h"

#include "proto/wire.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/wake.h"
#include "storage/catalog/catalog.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    MAX_ID_BYTES = 255,
    MAX_MESSAGE_BYTES = 1 << 16,
    MAX_WAIT_MS = 1000,
    LEASE_ARENA_BYTES = 1 << 20
};

/* What a lease has reported, to turn running totals into increments. */
struct reported {
    int64_t shard, epoch;
    uint64_t done, quarantined;
};

struct dispatcher {
    struct dispatcher_options options;
    void *socket; /* ROUTER; the thread's once it runs */
    struct catalog *catalog;
    pthread_t thread;
    bool started;
    struct wake stop;
    atomic_bool stopping;
    atomic_int verdict;
    struct error error;
    struct arena arena;
    struct reported *reported;
    size_t n_reported, capacity;
    uint64_t window_done, window_quarantined; /* since the failure window began */
};

struct peer {
    uint8_t id[MAX_ID_BYTES];
    size_t id_len;
};

static enum status reply(struct dispatcher *d, const struct peer *peer,
                         const struct wire_message *message, struct error *err)
{
    struct byte_buf buf;
    enum status st;

    byte_buf_init(&buf, MAX_MESSAGE_BYTES);
    st = wire_encode(message, &buf, err);
    if (st == ST_OK && (zmq_send(d->socket, peer->id, peer->id_len, ZMQ_SNDMORE) < 0 ||
                        zmq_send(d->socket, buf.data, buf.len, 0) < 0))
        st = error_set(err, ST_UNAVAILABLE, "could not answer a worker: %s", zmq_strerror(errno));
    byte_buf_release(&buf);
    return st;
}

static enum status welcome(struct dispatcher *d, const struct peer *peer,
                           const struct wire_message *hello, struct error *err)
{
    struct wire_message answer = {.kind = WIRE_WELCOME};

    if (hello->u.hello.protocol != WIRE_PROTOCOL) {
        answer.kind = WIRE_REFUSED;
        (void)snprintf(answer.u.refused.reason, sizeof answer.u.refused.reason,
                       "worker speaks protocol %u, coordinator %u; run the same release on both",
                       hello->u.hello.protocol, (unsigned)WIRE_PROTOCOL);
    } else if (strcmp(hello->u.hello.config_digest, d->options.job->digest) != 0) {
        answer.kind = WIRE_REFUSED;
        (void)snprintf(answer.u.refused.reason, sizeof answer.u.refused.reason,
                       "worker has another job file: its digest is %.12s, the coordinator's %.12s",
                       hello->u.hello.config_digest, d->options.job->digest);
    } else {
        answer.u.welcome.protocol = WIRE_PROTOCOL;
        answer.u.welcome.job = d->options.job_id;
        log_at(LOG_INFO, "worker_joined", "worker=\"%s\"", hello->u.hello.worker);
    }
    return reply(d, peer, &answer, err);
}

static void fill_grant(const struct catalog_lease *lease, struct wire_message *grant)
{
    grant->kind = WIRE_LEASE_GRANT;
    grant->u.lease_grant.shard = lease->shard;
    grant->u.lease_grant.epoch = lease->epoch;
    grant->u.lease_grant.expires_ms = lease->expires_ms;
    (void)snprintf(grant->u.lease_grant.input_key, sizeof grant->u.lease_grant.input_key, "%s",
                   lease->plan.input_key);
    (void)snprintf(grant->u.lease_grant.input_format, sizeof grant->u.lease_grant.input_format,
                   "%s", lease->plan.input_format);
    grant->u.lease_grant.input_source = lease->plan.input_is_previous ? WIRE_SOURCE_PREVIOUS
                                        : lease->plan.input_is_plan   ? WIRE_SOURCE_PLAN
                                                                      : WIRE_SOURCE_INPUT;
    grant->u.lease_grant.input_samples = (uint64_t)lease->plan.input_samples;
    grant->u.lease_grant.input_begin = lease->plan.input_begin;
    grant->u.lease_grant.input_end = lease->plan.input_end;
    grant->u.lease_grant.next_offset = lease->next_offset;
    grant->u.lease_grant.next_index = lease->next_index;
    grant->u.lease_grant.n_parts = lease->n_parts;
    grant->u.lease_grant.attempts = (uint32_t)MAX(lease->attempts, 0);
}

static enum status grant(struct dispatcher *d, const struct peer *peer, struct error *err)
{
    struct wire_message answer = {.kind = WIRE_NO_WORK};
    struct catalog_lease lease;
    char owner[2 * MAX_ID_BYTES + 1];
    int64_t wait_ms = 0;
    enum status st;

    for (size_t i = 0; i < peer->id_len; i++)
        (void)snprintf(owner + 2 * i, 3, "%02x", peer->id[i]);
    if (atomic_load(&d->verdict) != DISPATCHER_WORKING) {
        answer.u.no_work.finished = true;
        return reply(d, peer, &answer, err);
    }
    arena_reset(&d->arena);
    st = catalog_lease_take(d->catalog, d->options.job_id, owner, d->options.wall_ms(),
                            d->options.job->workers.lease_ms,
                            (int)d->options.job->workers.max_attempts, &d->arena, &lease, &wait_ms,
                            err);
    if (st == ST_OK) {
        fill_grant(&lease, &answer);
    } else if (status_is_retryable(st)) {
        log_at(LOG_WARN, "lease_not_taken", "cause=\"%s\"", err->message);
        answer.u.no_work.wait_ms = MAX_WAIT_MS;
    } else if (st == ST_NOT_FOUND) {
        answer.u.no_work.finished = wait_ms < 0;
        answer.u.no_work.wait_ms = MAX(MIN(wait_ms, (int64_t)MAX_WAIT_MS), (int64_t)0);
    } else {
        return st;
    }
    return reply(d, peer, &answer, err);
}

/* Adds what a lease has committed since its last report; spends the failure budget. */
static void account(struct dispatcher *d, int64_t shard, int64_t epoch, uint64_t done,
                    uint64_t quarantined)
{
    const struct job *job = d->options.job;
    struct reported *entry = NULL;
    uint64_t total;

    if (atomic_load(&d->verdict) != DISPATCHER_WORKING)
        return; /* said once; workers are finishing what they hold */
    for (size_t i = 0; i < d->n_reported && entry == NULL; i++)
        if (d->reported[i].shard == shard && d->reported[i].epoch == epoch)
            entry = &d->reported[i];
    if (entry == NULL) {
        if (d->n_reported == d->capacity) {
            size_t capacity = MAX(d->capacity * 2, (size_t)16);
            struct reported *grown = realloc(d->reported, capacity * sizeof *grown);

            if (grown == NULL)
                return; /* a window counts a little less; nothing else depends on it */
            d->reported = grown;
            d->capacity = capacity;
        }
        entry = &d->reported[d->n_reported++];
        *entry = (struct reported){.shard = shard, .epoch = epoch};
    }
    d->window_done += done - MIN(entry->done, done);
    d->window_quarantined += quarantined - MIN(entry->quarantined, quarantined);
    entry->done = done;
    entry->quarantined = quarantined;
    total = d->window_done + d->window_quarantined;
    if (total < (uint64_t)job->budget.failure_window)
        return;
    if ((double)d->window_quarantined > job->budget.failure_fraction * (double)total) {
        log_at(LOG_ERROR, "failure_budget_spent", "quarantined=%" PRIu64 " of=%" PRIu64,
               d->window_quarantined, total);
        atomic_store(&d->verdict, DISPATCHER_OVER_BUDGET);
    }
    d->window_done = d->window_quarantined = 0;
}

static enum status renew(struct dispatcher *d, const struct peer *peer,
                         const struct wire_message *beat, struct error *err)
{
    const struct catalog_lease lease = {.job = d->options.job_id,
                                        .shard = beat->u.heartbeat.shard,
                                        .epoch = beat->u.heartbeat.epoch};
    struct wire_message answer = {.kind = WIRE_HEARTBEAT_REPLY};
    enum status st = catalog_lease_renew(d->catalog, &lease, d->options.wall_ms(),
                                         d->options.job->workers.lease_ms, err);

    if (st != ST_OK && st != ST_CONFLICT)
        return st;
    account(d, lease.shard, lease.epoch, beat->u.heartbeat.samples_done,
            beat->u.heartbeat.samples_quarantined);
    answer.u.heartbeat_reply.shard = lease.shard;
    answer.u.heartbeat_reply.epoch = lease.epoch;
    answer.u.heartbeat_reply.lost = st == ST_CONFLICT;
    return reply(d, peer, &answer, err);
}

static enum status end_lease(struct dispatcher *d, const struct wire_message *result,
                             struct error *err)
{
    const struct catalog_lease lease = {.job = d->options.job_id,
                                        .shard = result->u.lease_result.shard,
                                        .epoch = result->u.lease_result.epoch};
    enum wire_outcome outcome = result->u.lease_result.outcome;
    enum status st = ST_OK;

    account(d, lease.shard, lease.epoch, result->u.lease_result.samples_done,
            result->u.lease_result.samples_quarantined);
    for (size_t i = 0; i < d->n_reported; i++)
        if (d->reported[i].shard == lease.shard && d->reported[i].epoch == lease.epoch)
            d->reported[i--] = d->reported[--d->n_reported];
    if (outcome == WIRE_OUTCOME_RELEASED || outcome == WIRE_OUTCOME_FAILED)
        st = catalog_lease_release(d->catalog, &lease, outcome == WIRE_OUTCOME_FAILED,
                                   result->u.lease_result.why, err);
    return st == ST_CONFLICT ? ST_OK : st; /* it was taken over meanwhile: nothing to give back */
}

static enum status serve(struct dispatcher *d, const struct peer *peer, struct bytes_view body,
                         struct error *err)
{
    struct wire_message message, answer = {.kind = WIRE_REFUSED};

    if (wire_decode(body, &message, err) != ST_OK) {
        log_at(LOG_WARN, "bad_message", "cause=\"%s\"", err->message);
        (void)snprintf(answer.u.refused.reason, sizeof answer.u.refused.reason, "%.200s",
                       err->message);
        return reply(d, peer, &answer, err);
    }
    switch (message.kind) {
    case WIRE_HELLO:
        return welcome(d, peer, &message, err);
    case WIRE_LEASE_REQUEST:
        return grant(d, peer, err);
    case WIRE_HEARTBEAT:
        return renew(d, peer, &message, err);
    case WIRE_LEASE_RESULT:
        return end_lease(d, &message, err);
    case WIRE_WELCOME:
    case WIRE_REFUSED:
    case WIRE_LEASE_GRANT:
    case WIRE_NO_WORK:
    case WIRE_HEARTBEAT_REPLY:
        break;
    }
    (void)snprintf(answer.u.refused.reason, sizeof answer.u.refused.reason,
                   "message %d is not for coordinators", (int)message.kind);
    return reply(d, peer, &answer, err);
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
    struct peer peer;
    zmq_msg_t body;
    int n = zmq_recv(d->socket, peer.id, sizeof peer.id, ZMQ_DONTWAIT), n_frames = 0;
    enum status st = ST_OK;

    if (n < 0)
        return ST_FULL;
    peer.id_len = MIN((size_t)n, sizeof peer.id);
    (void)zmq_msg_init(&body);
    while (has_more(d->socket) && zmq_msg_recv(&body, d->socket, 0) >= 0)
        n_frames++;
    if (n_frames > 0)
        st =
            serve(d, &peer,
                  bytes_view_of(zmq_msg_data(&body), n_frames == 1 ? zmq_msg_size(&body) : 0), err);
    (void)zmq_msg_close(&body);
    return st;
}

static void *run(void *arg)
{
    struct dispatcher *d = arg;
    enum status st = ST_OK;

    while (!atomic_load(&d->stopping) && st == ST_OK) {
        zmq_pollitem_t items[] = {{.socket = d->socket, .events = ZMQ_POLLIN},
                                  {.fd = d->stop.fds[0], .events = ZMQ_POLLIN}};
        struct error err = {0};

        (void)zmq_poll(items, 2, -1);
        while ((st = receive(d, &err)) == ST_OK)
            continue;
        if (st == ST_FULL) {
            st = ST_OK;
        } else if (status_is_retryable(st)) {
            log_at(LOG_WARN, "dispatch_failed", "cause=\"%s\"", err.message);
            st = ST_OK; /* the worker asks again */
        } else {
            d->error = err;
            log_at(LOG_ERROR, "dispatcher_stopped", "cause=\"%s\"", err.message);
            atomic_store(&d->verdict, DISPATCHER_BROKEN);
        }
    }
    return NULL;
}

enum status dispatcher_create(const struct dispatcher_options *options, struct dispatcher **out,
                              struct error *err)
{
    struct dispatcher *d = calloc(1, sizeof *d);
    int linger = 0;
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
    if (st == ST_OK) {
        d->socket = zmq_socket(options->zmq, ZMQ_ROUTER);
        if (d->socket == NULL ||
            zmq_setsockopt(d->socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
            zmq_bind(d->socket, options->endpoint) != 0)
            st = error_set(err, ST_UNAVAILABLE, "could not bind %s: %s", options->endpoint,
                           zmq_strerror(errno));
    }
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
    free(d->reported);
    free(d);
    *dispatcher = NULL;
}
