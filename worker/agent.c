#include "worker/agent.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "worker/pipeline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    MAX_HELD = 4,
    HELLO_TIMEOUT_MS = 10000,
    MAX_MESSAGE_BYTES = 1 << 16,
    RELEASED_PAUSE_MS = 2000, /* a lease was handed back: word that all stops is on its way */
};

struct agent {
    const struct agent_options *options;
    void *socket; /* DEALER */
    struct pipeline *pipeline;
    struct queue *ended; /* struct shard_work *, from the writer */
    struct shard_work *held[MAX_HELD];
    size_t n_held;
    int64_t job;
    bool asked;    /* a request is on its way */
    bool finished; /* the coordinator has no more work */
    int64_t ask_at_ms, beat_at_ms;
};

static enum status send_message(struct agent *agent, const struct wire_message *message,
                                struct error *err)
{
    struct byte_buf buf;
    enum status st;

    byte_buf_init(&buf, MAX_MESSAGE_BYTES);
    st = wire_encode(message, &buf, err);
    if (st == ST_OK && zmq_send(agent->socket, buf.data, buf.len, 0) < 0)
        st = error_set(err, ST_UNAVAILABLE, "could not send to the coordinator: %s",
                       zmq_strerror(errno));
    byte_buf_release(&buf);
    return st;
}

/* ST_FULL: nothing there now. */
static enum status receive_message(struct agent *agent, struct wire_message *message,
                                   struct error *err)
{
    zmq_msg_t frame;
    enum status st;

    (void)zmq_msg_init(&frame);
    if (zmq_msg_recv(&frame, agent->socket, ZMQ_DONTWAIT) < 0)
        st = errno == EAGAIN
                 ? ST_FULL
                 : error_set(err, ST_UNAVAILABLE, "could not receive from the coordinator: %s",
                             zmq_strerror(errno));
    else
        st = wire_decode(bytes_view_of(zmq_msg_data(&frame), zmq_msg_size(&frame)), message, err);
    (void)zmq_msg_close(&frame);
    return st;
}

static enum status say_hello(struct agent *agent, struct error *err)
{
    struct wire_message message = {.kind = WIRE_HELLO};
    zmq_pollitem_t item = {.socket = agent->socket, .events = ZMQ_POLLIN};
    enum status st;

    message.u.hello.protocol = WIRE_PROTOCOL;
    (void)snprintf(message.u.hello.worker, sizeof message.u.hello.worker, "%s",
                   agent->options->name);
    (void)snprintf(message.u.hello.config_digest, sizeof message.u.hello.config_digest, "%s",
                   agent->options->context->job->digest);
    st = send_message(agent, &message, err);
    if (st != ST_OK)
        return st;
    if (zmq_poll(&item, 1, HELLO_TIMEOUT_MS) <= 0)
        return error_set(err, ST_TIMEOUT, "no answer from the coordinator at %s within %d ms",
                         agent->options->endpoint, HELLO_TIMEOUT_MS);
    st = receive_message(agent, &message, err);
    if (st == ST_OK && message.kind == WIRE_REFUSED)
        return error_set(err, ST_INVALID, "the coordinator refused this worker: %s",
                         message.u.refused.reason);
    if (st == ST_OK && message.kind != WIRE_WELCOME)
        return error_set(err, ST_CORRUPT, "the coordinator answered hello with message %d",
                         (int)message.kind);
    if (st == ST_OK)
        agent->job = message.u.welcome.job;
    return st;
}

static enum status begin_lease(struct agent *agent, const struct wire_message *grant,
                               struct error *err)
{
    struct shard_work *work;

    if (agent->n_held == MAX_HELD)
        return error_set(err, ST_CORRUPT,
                         "the coordinator granted a lease beyond the %d we can hold",
                         (int)MAX_HELD);
    work = calloc(1, sizeof *work);
    if (work == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a lease");
    work->grant = *grant;
    work->lease = (struct catalog_lease){
        .job = agent->job,
        .shard = grant->u.lease_grant.shard,
        .epoch = grant->u.lease_grant.epoch,
        .expires_ms = grant->u.lease_grant.expires_ms,
        .attempts = (int)grant->u.lease_grant.attempts,
        .next_offset = grant->u.lease_grant.next_offset,
        .next_index = grant->u.lease_grant.next_index,
        .n_parts = grant->u.lease_grant.n_parts,
        .plan = {.shard = grant->u.lease_grant.shard,
                 .input_key = work->grant.u.lease_grant.input_key,
                 .input_format = work->grant.u.lease_grant.input_format,
                 .input_begin = grant->u.lease_grant.input_begin,
                 .input_end = grant->u.lease_grant.input_end},
    };
    agent->held[agent->n_held++] = work;
    pipeline_submit(agent->pipeline, work);
    return ST_OK;
}

static void mark_lost(struct agent *agent, int64_t shard, int64_t epoch)
{
    for (size_t i = 0; i < agent->n_held; i++) {
        struct shard_work *work = agent->held[i];

        if (work->lease.shard == shard && work->lease.epoch == epoch &&
            !atomic_exchange(&work->abandoned, true))
            log_at(LOG_WARN, "lease_lost", "shard=%" PRId64 " epoch=%" PRId64, shard, epoch);
    }
}

static enum status take_messages(struct agent *agent, struct error *err)
{
    struct wire_message message;
    enum status st;

    while ((st = receive_message(agent, &message, err)) == ST_OK) {
        switch (message.kind) {
        case WIRE_LEASE_GRANT:
            agent->asked = false;
            st = begin_lease(agent, &message, err);
            break;
        case WIRE_NO_WORK:
            agent->asked = false;
            agent->finished = message.u.no_work.finished;
            agent->ask_at_ms = clock_monotonic_ms() + message.u.no_work.wait_ms;
            break;
        case WIRE_HEARTBEAT_REPLY:
            if (message.u.heartbeat_reply.lost)
                mark_lost(agent, message.u.heartbeat_reply.shard, message.u.heartbeat_reply.epoch);
            break;
        case WIRE_REFUSED:
            st = error_set(err, ST_INVALID, "the coordinator refused this worker: %s",
                           message.u.refused.reason);
            break;
        case WIRE_HELLO:
        case WIRE_WELCOME:
        case WIRE_LEASE_REQUEST:
        case WIRE_HEARTBEAT:
        case WIRE_LEASE_RESULT:
            st = error_set(err, ST_CORRUPT,
                           "the coordinator sent message %d, which is not for workers",
                           (int)message.kind);
            break;
        }
        if (st != ST_OK)
            return st;
    }
    return st == ST_FULL ? ST_OK : st;
}

/* On the writer's thread. */
static void work_ended(void *ctx, struct shard_work *work)
{
    struct agent *agent = ctx;
    enum status st = queue_push(agent->ended, work, 0);

    (void)st; /* the queue holds every lease and is closed after the pipeline */
    wake_signal(agent->options->wake);
}

static enum status report_ended(struct agent *agent, struct error *err)
{
    void *item;
    enum status st = ST_OK;

    while (st == ST_OK && queue_try_pop(agent->ended, &item) == ST_OK) {
        struct shard_work *work = item;
        struct wire_message message = {.kind = WIRE_LEASE_RESULT};

        message.u.lease_result.shard = work->lease.shard;
        message.u.lease_result.epoch = work->lease.epoch;
        message.u.lease_result.outcome = work->outcome;
        message.u.lease_result.samples_done = atomic_load(&work->samples_done);
        message.u.lease_result.samples_quarantined = atomic_load(&work->samples_quarantined);
        memcpy(message.u.lease_result.why, work->why, sizeof work->why);
        st = send_message(agent, &message, err);
        agent->ask_at_ms = work->outcome == WIRE_OUTCOME_RELEASED
                               ? clock_monotonic_ms() + RELEASED_PAUSE_MS
                               : 0; /* it may have been the last of the job */
        for (size_t i = 0; i < agent->n_held; i++)
            if (agent->held[i] == work)
                agent->held[i--] = agent->held[--agent->n_held];
        free(work);
    }
    return st;
}

static enum status beat(struct agent *agent, struct error *err)
{
    enum status st = ST_OK;

    if (clock_monotonic_ms() < agent->beat_at_ms)
        return ST_OK;
    agent->beat_at_ms = clock_monotonic_ms() + agent->options->context->job->workers.lease_ms / 3;
    for (size_t i = 0; i < agent->n_held && st == ST_OK; i++) {
        struct wire_message message = {.kind = WIRE_HEARTBEAT};

        message.u.heartbeat.shard = agent->held[i]->lease.shard;
        message.u.heartbeat.epoch = agent->held[i]->lease.epoch;
        message.u.heartbeat.samples_done = atomic_load(&agent->held[i]->samples_done);
        message.u.heartbeat.samples_quarantined = atomic_load(&agent->held[i]->samples_quarantined);
        st = send_message(agent, &message, err);
    }
    return st;
}

/* The next lease is fetched while the last one's samples are still in the pipeline, but not
 * earlier. */
static enum status ask(struct agent *agent, struct error *err)
{
    const struct wire_message message = {.kind = WIRE_LEASE_REQUEST};

    if (agent->asked || agent->finished || atomic_load(agent->options->drain) ||
        agent->n_held >= MAX_HELD || pipeline_unread(agent->pipeline) > 0 ||
        clock_monotonic_ms() < agent->ask_at_ms)
        return ST_OK;
    agent->asked = true;
    return send_message(agent, &message, err);
}

static enum status loop(struct agent *agent, struct error *err)
{
    enum status st = ST_OK;

    for (;;) {
        bool draining = atomic_load(agent->options->drain);
        zmq_pollitem_t items[] = {{.socket = agent->socket, .events = ZMQ_POLLIN},
                                  {.fd = agent->options->wake->fds[0], .events = ZMQ_POLLIN}};
        int64_t until;

        st = report_ended(agent, err);
        if (st == ST_OK)
            st = beat(agent, err);
        if (st == ST_OK)
            st = ask(agent, err);
        if (st != ST_OK || (agent->n_held == 0 && (agent->finished || draining)))
            return st;
        until = agent->beat_at_ms - clock_monotonic_ms();
        if (!agent->asked && !agent->finished && agent->ask_at_ms > clock_monotonic_ms())
            until = MIN(until, agent->ask_at_ms - clock_monotonic_ms());
        (void)zmq_poll(items, 2, (long)MAX(until, (int64_t)0));
        wake_drain(agent->options->wake);
        st = take_messages(agent, err);
        if (st != ST_OK)
            return st;
    }
}

enum status agent_run(const struct agent_options *options, struct error *err)
{
    struct agent agent = {.options = options};
    const struct pipeline_options pipeline = {.context = options->context,
                                              .catalog_url = options->catalog_url,
                                              .threads = options->threads,
                                              .drain = options->drain,
                                              .done = work_ended,
                                              .done_ctx = &agent,
                                              .idle = options->wake};
    struct error ignored;
    int linger = 1000;
    enum status st = queue_create(MAX_HELD, SIZE_MAX, &agent.ended, err);

    if (st != ST_OK)
        return st;
    agent.socket = zmq_socket(options->zmq, ZMQ_DEALER);
    if (agent.socket == NULL ||
        zmq_setsockopt(agent.socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_connect(agent.socket, options->endpoint) != 0)
        st = error_set(err, ST_UNAVAILABLE, "could not connect to %s: %s", options->endpoint,
                       zmq_strerror(errno));
    if (st == ST_OK)
        st = say_hello(&agent, err);
    if (st == ST_OK)
        st = pipeline_create(&pipeline, &agent.pipeline, err);
    if (st == ST_OK)
        st = loop(&agent, err);
    for (size_t i = 0; i < agent.n_held;
         i++) /* only after a failure: nobody can commit for us any more */
        atomic_store(&agent.held[i]->abandoned, true);
    pipeline_destroy(&agent.pipeline);
    (void)report_ended(&agent, &ignored);
    queue_close(agent.ended);
    queue_destroy(&agent.ended);
    if (agent.socket != NULL)
        (void)zmq_close(agent.socket);
    if (st != ST_OK)
        error_add_context(err, "worker %s", options->name);
    return st;
}
