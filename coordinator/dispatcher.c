#include "coordinator/dispatcher.h"

#include "coordinator/dispatch_leases.h"
#include "coordinator/roster.h"
#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    IDLE_WAIT_MS = 2000, /* for workers without a job: there may be thousands */
    REFRESH_MS = 1000,
    PATIENCE_MS = 2000,  /* with a catalog that is away: heartbeats wait */
    FORGET_MS = 3600000, /* a worker that was silent for so long says hello again */
    LEASE_ARENA_BYTES = 1 << 20
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

enum status dispatcher_reply(struct dispatcher *d, const struct peer *peer,
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
            st = dispatch_share(d, d->jobs.list[i], &asked, err);
        answer.u.no_work.number = request->u.job_request.number;
        answer.u.no_work.wait_ms = IDLE_WAIT_MS;
        return st == ST_OK ? dispatcher_reply(d, peer, &answer, err) : st;
    }
    job->n_ready--;
    answer.kind = WIRE_JOB_OFFER;
    answer.u.job_offer.number = request->u.job_request.number;
    answer.u.job_offer.job = job->id;
    memcpy(answer.u.job_offer.name, job->name, sizeof answer.u.job_offer.name);
    memcpy(answer.u.job_offer.config_digest, job->digest, sizeof answer.u.job_offer.config_digest);
    (void)snprintf(answer.u.job_offer.catalog_url, sizeof answer.u.job_offer.catalog_url, "%s",
                   d->options.catalog_url);
    return dispatcher_reply(d, peer, &answer, err);
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
        return dispatch_grant(d, peer, &message, err);
    case WIRE_HEARTBEAT:
        return dispatch_renew(d, peer, &message, err);
    case WIRE_LEASE_RESULT:
        return dispatch_take_result(d, peer, &message, err);
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
            enum status answered = dispatch_answer_waiting(d, &err);

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
