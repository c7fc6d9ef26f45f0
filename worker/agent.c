#include "worker/agent.h"

#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "worker/pipeline.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    MAX_HELD = 4,
    ANSWER_MS = 10000,        /* of silence, then a request is made again */
    AWAY_MS = 500,            /* nobody is there: try again then */
    RELEASED_PAUSE_MS = 2000, /* a lease was handed back: word that all stops is on its way */
};

struct agent {
    const struct agent_options *options;
    void *socket; /* DEALER */
    struct pipeline *pipeline;
    struct queue *ended; /* struct shard_work *, from the writer */
    struct shard_work *held[MAX_HELD];
    size_t n_held;
    struct wire_message unsent[MAX_HELD]; /* results that nobody was there to take */
    size_t n_unsent;
    int64_t answer_ms;
    uint64_t number;      /* of the last request */
    bool asked;           /* it is on its way */
    bool finished;        /* the coordinator has no more work of this job for us */
    atomic_bool drain;    /* options->drain, or the job is paused; read by the pipeline */
    int64_t answer_by_ms; /* when asked */
    int64_t ask_at_ms, beat_at_ms, send_at_ms;
};

/* False when nobody is there, which is no failure: what matters is said again. */
static enum status try_send(struct agent *agent, const struct wire_message *message, bool *sent,
                            struct error *err)
{
    enum status st = endpoint_send(agent->socket, message, err);

    *sent = st == ST_OK;
    return st == ST_FULL ? ST_OK : st;
}

static bool must_drain(struct agent *agent)
{
    if (atomic_load(agent->options->drain))
        atomic_store(&agent->drain, true);
    return atomic_load(&agent->drain);
}

/* Waits for something on the socket or the wake; < 0: without end. */
static void wait(struct agent *agent, int64_t timeout_ms)
{
    zmq_pollitem_t items[] = {{.socket = agent->socket, .events = ZMQ_POLLIN},
                              {.fd = agent->options->wake->fds[0], .events = ZMQ_POLLIN}};

    (void)zmq_poll(items, 2, (long)timeout_ms);
    wake_drain(agent->options->wake);
}

static enum status check_welcome(const struct wire_message *message, struct error *err)
{
    if (message->kind == WIRE_REFUSED)
        return error_set(err, ST_INVALID, "the coordinator refused this worker: %s",
                         message->u.refused.reason);
    if (message->kind != WIRE_WELCOME)
        return error_set(err, ST_CORRUPT, "the coordinator answered hello with message %d",
                         (int)message->kind);
    if (wire_protocol_agree(message->u.welcome.protocol) == 0)
        return error_set(err, ST_INVALID,
                         "the coordinator speaks protocol %u, this worker %u; they may be one "
                         "release apart",
                         message->u.welcome.protocol, (unsigned)WIRE_PROTOCOL);
    return ST_OK;
}

/* Until it is answered, or we are told to stop: *welcome says which. */
static enum status say_hello(struct agent *agent, bool *welcome, struct error *err)
{
    struct wire_message hello = {.kind = WIRE_HELLO}, answer;
    enum status st = ST_OK;

    hello.u.hello.protocol = WIRE_PROTOCOL;
    hello.u.hello.job = agent->options->job_id;
    (void)snprintf(hello.u.hello.worker, sizeof hello.u.hello.worker, "%s", agent->options->name);
    (void)snprintf(hello.u.hello.config_digest, sizeof hello.u.hello.config_digest, "%s",
                   agent->options->context->job->digest);
    *welcome = false;
    while (st == ST_OK && !must_drain(agent)) {
        int64_t until = clock_monotonic_ms() + agent->answer_ms;
        bool sent;

        st = try_send(agent, &hello, &sent, err);
        while (st == ST_OK && sent && clock_monotonic_ms() < until && !must_drain(agent)) {
            wait(agent, MAX(until - clock_monotonic_ms(), (int64_t)0));
            st = endpoint_receive(agent->socket, &answer, err);
            if (st == ST_OK) {
                *welcome = true;
                return check_welcome(&answer, err);
            }
            if (st == ST_FULL)
                st = ST_OK;
        }
        if (st == ST_OK && !sent)
            wait(agent, AWAY_MS);
    }
    return st;
}

static enum status begin_lease(struct agent *agent, const struct wire_message *grant,
                               struct error *err)
{
    struct shard_work *work = calloc(1, sizeof *work);

    if (work == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a lease");
    assert(agent->n_held < MAX_HELD); /* or we had not asked */
    work->grant = *grant;
    work->lease = (struct catalog_lease){
        .job = agent->options->job_id,
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

/* An answer that came late, after we had asked again, or twice. What we do not hold is handed back
 * unharmed, or it would have to run out. */
static enum status refuse_lease(struct agent *agent, const struct wire_message *grant,
                                struct error *err)
{
    struct wire_message result = {.kind = WIRE_LEASE_RESULT};
    bool sent;

    for (size_t i = 0; i < agent->n_held; i++)
        if (agent->held[i]->lease.shard == grant->u.lease_grant.shard &&
            agent->held[i]->lease.epoch == grant->u.lease_grant.epoch)
            return ST_OK;
    result.u.lease_result.job = grant->u.lease_grant.job;
    result.u.lease_result.shard = grant->u.lease_grant.shard;
    result.u.lease_result.epoch = grant->u.lease_grant.epoch;
    result.u.lease_result.outcome = WIRE_OUTCOME_RELEASED;
    return try_send(agent, &result, &sent, err);
}

/* The next lease, or none: an answer to our last request, and nothing else. */
static enum status take_answer(struct agent *agent, const struct wire_message *answer,
                               struct error *err)
{
    bool is_grant = answer->kind == WIRE_LEASE_GRANT;
    uint64_t number = is_grant ? answer->u.lease_grant.number : answer->u.no_work.number;

    if (!agent->asked || number != agent->number)
        return is_grant ? refuse_lease(agent, answer, err) : ST_OK;
    agent->asked = false;
    if (is_grant)
        return begin_lease(agent, answer, err);
    agent->finished = answer->u.no_work.finished;
    agent->ask_at_ms = clock_monotonic_ms() + answer->u.no_work.wait_ms;
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

    while ((st = endpoint_receive(agent->socket, &message, err)) == ST_OK) {
        switch (message.kind) {
        case WIRE_LEASE_GRANT:
        case WIRE_NO_WORK:
            st = take_answer(agent, &message, err);
            break;
        case WIRE_HEARTBEAT_REPLY:
            if (message.u.heartbeat_reply.lost)
                mark_lost(agent, message.u.heartbeat_reply.shard, message.u.heartbeat_reply.epoch);
            if (message.u.heartbeat_reply.stop && !atomic_exchange(&agent->drain, true))
                log_at(LOG_INFO, "job_paused", "job=%" PRId64, agent->options->job_id);
            break;
        case WIRE_WELCOME: /* to a hello that was said twice */
            break;
        case WIRE_REFUSED:
            st = error_set(err, ST_INVALID, "the coordinator refused this worker: %s",
                           message.u.refused.reason);
            break;
        case WIRE_HELLO:
        case WIRE_JOB_REQUEST:
        case WIRE_JOB_OFFER:
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

/* Results that were not taken yet; they go first. */
static enum status send_results(struct agent *agent, struct error *err)
{
    size_t n = 0;
    bool sent = true;
    enum status st = ST_OK;

    if (agent->n_unsent == 0 || clock_monotonic_ms() < agent->send_at_ms)
        return ST_OK;
    while (n < agent->n_unsent && st == ST_OK) {
        st = try_send(agent, &agent->unsent[n], &sent, err);
        if (!sent)
            break;
        n++;
    }
    agent->n_unsent -= n;
    memmove(agent->unsent, agent->unsent + n, agent->n_unsent * sizeof *agent->unsent);
    agent->send_at_ms = clock_monotonic_ms() + AWAY_MS;
    return st;
}

static enum status report_ended(struct agent *agent, struct error *err)
{
    void *item;

    while (queue_try_pop(agent->ended, &item) == ST_OK) {
        struct shard_work *work = item;
        struct wire_message *message = &agent->unsent[agent->n_unsent++];

        assert(agent->n_unsent <= MAX_HELD); /* held and unsent together are no more */
        *message = (struct wire_message){.kind = WIRE_LEASE_RESULT};
        message->u.lease_result.job = work->lease.job;
        message->u.lease_result.shard = work->lease.shard;
        message->u.lease_result.epoch = work->lease.epoch;
        message->u.lease_result.outcome = work->outcome;
        message->u.lease_result.samples_done = atomic_load(&work->samples_done);
        message->u.lease_result.samples_quarantined = atomic_load(&work->samples_quarantined);
        memcpy(message->u.lease_result.why, work->why, sizeof work->why);
        agent->send_at_ms = 0;
        agent->ask_at_ms = work->outcome == WIRE_OUTCOME_RELEASED
                               ? clock_monotonic_ms() + RELEASED_PAUSE_MS
                               : 0; /* it may have been the last of the job */
        for (size_t i = 0; i < agent->n_held; i++)
            if (agent->held[i] == work)
                agent->held[i--] = agent->held[--agent->n_held];
        free(work);
    }
    return send_results(agent, err);
}

static enum status beat(struct agent *agent, struct error *err)
{
    enum status st = ST_OK;

    if (clock_monotonic_ms() < agent->beat_at_ms)
        return ST_OK;
    agent->beat_at_ms = clock_monotonic_ms() + agent->options->context->job->workers.lease_ms / 3;
    for (size_t i = 0; i < agent->n_held && st == ST_OK; i++) {
        struct wire_message message = {.kind = WIRE_HEARTBEAT};
        bool sent;

        message.u.heartbeat.job = agent->held[i]->lease.job;
        message.u.heartbeat.shard = agent->held[i]->lease.shard;
        message.u.heartbeat.epoch = agent->held[i]->lease.epoch;
        message.u.heartbeat.samples_done = atomic_load(&agent->held[i]->samples_done);
        message.u.heartbeat.samples_quarantined = atomic_load(&agent->held[i]->samples_quarantined);
        st = try_send(agent, &message, &sent, err);
        if (!sent) /* whoever comes should hear of us at once */
            agent->beat_at_ms = MIN(agent->beat_at_ms, clock_monotonic_ms() + AWAY_MS);
    }
    return st;
}

/* The next lease is fetched while the last one's samples are still in the pipeline, but not
 * earlier. A request that is not answered is made again under another number. */
static enum status ask(struct agent *agent, struct error *err)
{
    struct wire_message message = {.kind = WIRE_LEASE_REQUEST};
    enum status st;

    if (agent->finished || must_drain(agent) || agent->n_held + agent->n_unsent >= MAX_HELD ||
        pipeline_unread(agent->pipeline) > 0 ||
        clock_monotonic_ms() < (agent->asked ? agent->answer_by_ms : agent->ask_at_ms))
        return ST_OK;
    message.u.lease_request.number = ++agent->number;
    message.u.lease_request.job = agent->options->job_id;
    st = try_send(agent, &message, &agent->asked, err);
    agent->answer_by_ms = clock_monotonic_ms() + agent->answer_ms;
    if (!agent->asked)
        agent->ask_at_ms = clock_monotonic_ms() + AWAY_MS;
    return st;
}

/* When there is something to do though nothing arrives. */
static int64_t next_ms(const struct agent *agent)
{
    int64_t at = INT64_MAX, now_ms = clock_monotonic_ms();

    if (agent->n_held > 0)
        at = agent->beat_at_ms;
    if (agent->n_unsent > 0)
        at = MIN(at, agent->send_at_ms);
    if (!agent->finished && pipeline_unread(agent->pipeline) == 0 &&
        agent->n_held + agent->n_unsent < MAX_HELD)
        at = MIN(at, agent->asked ? agent->answer_by_ms : agent->ask_at_ms);
    return at == INT64_MAX ? -1 : MAX(at - now_ms, (int64_t)0);
}

static enum status loop(struct agent *agent, struct error *err)
{
    enum status st = ST_OK;

    for (;;) {
        st = report_ended(agent, err);
        if (st == ST_OK)
            st = beat(agent, err);
        if (st == ST_OK)
            st = ask(agent, err);
        if (st != ST_OK || (agent->n_held == 0 && (agent->finished || must_drain(agent))))
            return st;
        wait(agent, next_ms(agent));
        st = take_messages(agent, err);
        if (st != ST_OK)
            return st;
    }
}

enum status agent_run(const struct agent_options *options, struct error *err)
{
    struct agent agent = {.options = options,
                          .answer_ms = options->answer_ms > 0 ? options->answer_ms : ANSWER_MS};
    const struct pipeline_options pipeline = {.context = options->context,
                                              .catalog_url = options->catalog_url,
                                              .threads = options->threads,
                                              .drain = &agent.drain,
                                              .done = work_ended,
                                              .done_ctx = &agent,
                                              .idle = options->wake};
    struct error ignored;
    bool welcome = false;
    enum status st = queue_create(MAX_HELD, SIZE_MAX, &agent.ended, err);

    if (st != ST_OK)
        return st;
    st = endpoint_connect(options->zmq, options->addresses, options->n_addresses, options->name,
                          options->keys, &agent.socket, err);
    if (st == ST_OK)
        st = say_hello(&agent, &welcome, err);
    if (st == ST_OK && welcome)
        st = pipeline_create(&pipeline, &agent.pipeline, err);
    if (st == ST_OK && welcome)
        st = loop(&agent, err);
    for (size_t i = 0; i < agent.n_held;
         i++) /* only after a failure: nobody can commit for us any more */
        atomic_store(&agent.held[i]->abandoned, true);
    pipeline_destroy(&agent.pipeline);
    if (agent.socket != NULL) {
        (void)report_ended(&agent, &ignored);
        (void)zmq_close(agent.socket);
    }
    queue_close(agent.ended);
    queue_destroy(&agent.ended);
    if (st != ST_OK)
        error_add_context(err, "worker %s", options->name);
    return st;
}
