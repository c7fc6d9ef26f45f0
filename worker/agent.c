#include "worker/agent.h"

#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "worker/conversation.h"
#include "worker/pipeline.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <zmq.h>

enum {
    MAX_HELD = CONVERSATION_MAX_LEASES,
    ANSWER_MS = 10000,    /* of silence, then a request is made again */
    DESERTED_ANSWERS = 3, /* so many answers' time without a word: try a fresh socket */
    LEAVE_MS = 2000,      /* for the coordinator's last answers, when all else is done */
};

struct agent {
    const struct agent_options *options;
    void *socket; /* DEALER */
    struct conversation talk;
    int64_t heard_ms; /* when a message came last, or a socket was made */
    struct pipeline *pipeline;
    struct queue *ended; /* struct shard_work *, from the writer */
    struct shard_work *held[MAX_HELD];
    size_t n_held;
    atomic_bool drain;     /* options->drain, or the job is paused; read by the pipeline */
    int64_t leave_by_ms;   /* 0: there is work yet */
    uint64_t n_unexpected; /* frames that made no sense */
    struct error refusal;  /* why the coordinator will not have us */
};

static bool must_drain(struct agent *agent)
{
    if (atomic_load(agent->options->drain) || agent->talk.is_refused)
        atomic_store(&agent->drain, true);
    return atomic_load(&agent->drain);
}

/* The next lease is fetched while the last one's samples are still in the pipeline, but not
 * earlier. */
static bool wants_lease(struct agent *agent)
{
    return !must_drain(agent) && agent->pipeline != NULL && pipeline_unread(agent->pipeline) == 0;
}

/* Waits for something on the socket or the wake. */
static void wait(struct agent *agent, int64_t until_ms)
{
    zmq_pollitem_t items[] = {{.socket = agent->socket, .events = ZMQ_POLLIN},
                              {.fd = agent->options->wake->fds[0], .events = ZMQ_POLLIN}};
    int64_t timeout_ms =
        until_ms == INT64_MAX ? -1 : MAX(until_ms - clock_monotonic_ms(), (int64_t)0);

    (void)zmq_poll(items, 2, (long)timeout_ms);
    wake_drain(agent->options->wake);
}

/* A socket may have given up on an address for good, where something else had answered once. */
static enum status connect_anew(struct agent *agent, struct error *err)
{
    const struct endpoint_target target = {agent->options->addresses, agent->options->n_addresses,
                                           agent->options->name, agent->options->keys};

    if (agent->socket != NULL)
        (void)zmq_close(agent->socket);
    agent->heard_ms = clock_monotonic_ms();
    return endpoint_connect(agent->options->zmq, &target, &agent->socket, NULL, err);
}

static bool is_deserted(const struct agent *agent)
{
    return !agent->talk.is_known &&
           clock_monotonic_ms() - agent->heard_ms > DESERTED_ANSWERS * agent->talk.answer_ms;
}

static struct shard_work *find_held(struct agent *agent, int64_t shard, int64_t epoch)
{
    for (size_t i = 0; i < agent->n_held; i++)
        if (agent->held[i]->lease.shard == shard && agent->held[i]->lease.epoch == epoch)
            return agent->held[i];
    return NULL;
}

_Static_assert((int)CATALOG_INPUT_JOB == (int)WIRE_SOURCE_INPUT &&
                   (int)CATALOG_INPUT_PLAN == (int)WIRE_SOURCE_PLAN &&
                   (int)CATALOG_INPUT_PREVIOUS == (int)WIRE_SOURCE_PREVIOUS &&
                   (int)CATALOG_INPUT_LIST == (int)WIRE_SOURCE_LIST,
               "a source has the same number in the catalog and in messages");

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
        .suspect_end = grant->u.lease_grant.suspect_end,
        .probe_samples = (int64_t)grant->u.lease_grant.probe_samples,
        .is_poison = grant->u.lease_grant.is_poison,
        .end_index = grant->u.lease_grant.end_index,
        .plan = {.shard = grant->u.lease_grant.shard,
                 .source = (enum catalog_input)grant->u.lease_grant.input_source,
                 .input_key = work->grant.u.lease_grant.input_key,
                 .input_format = work->grant.u.lease_grant.input_format,
                 .input_begin = grant->u.lease_grant.input_begin,
                 .input_end = grant->u.lease_grant.input_end},
    };
    atomic_init(&work->samples_left, UINT64_MAX);
    agent->held[agent->n_held++] = work;
    pipeline_submit(agent->pipeline, work);
    return ST_OK;
}

static void take_beat(struct agent *agent, const struct wire_message *reply)
{
    int64_t shard = reply->u.heartbeat_reply.shard, epoch = reply->u.heartbeat_reply.epoch;
    struct shard_work *work = find_held(agent, shard, epoch);

    if (reply->u.heartbeat_reply.lost && work != NULL && !atomic_exchange(&work->abandoned, true))
        log_at(LOG_WARN, "lease_lost", "shard=%" PRId64 " epoch=%" PRId64, shard, epoch);
    if (reply->u.heartbeat_reply.split && work != NULL)
        atomic_store(&work->split, true);
    if (reply->u.heartbeat_reply.stop && !atomic_exchange(&agent->drain, true))
        log_at(LOG_INFO, "job_paused", "job=%" PRId64, agent->options->job_id);
}

/* A frame that makes no sense costs nothing: what matters is said again. Told when their number
 * doubles. */
static void count_unexpected(struct agent *agent, const char *cause)
{
    agent->n_unexpected++;
    if ((agent->n_unexpected & (agent->n_unexpected - 1)) == 0)
        log_at(LOG_WARN, "message_ignored", "worker=\"%s\" n=%" PRIu64 " cause=\"%s\"",
               agent->options->name, agent->n_unexpected, cause);
}

static enum status take(struct agent *agent, const struct wire_message *message, struct error *err)
{
    switch (conversation_hear(&agent->talk, clock_monotonic_ms(), message)) {
    case CONVERSATION_NOTHING:
        break;
    case CONVERSATION_LEASE:
        return begin_lease(agent, message, err);
    case CONVERSATION_BEAT:
        take_beat(agent, message);
        break;
    case CONVERSATION_REFUSED:
        (void)error_set(&agent->refusal, ST_INVALID, "the coordinator refused this worker: %s",
                        message->u.refused.reason);
        break;
    case CONVERSATION_UNEXPECTED:
        count_unexpected(agent, "it is not for workers");
        break;
    }
    return ST_OK;
}

static enum status take_messages(struct agent *agent, struct error *err)
{
    struct wire_message message;
    enum status st = ST_OK;

    while (st == ST_OK || st == ST_CORRUPT) {
        st = endpoint_receive(agent->socket, &message, err);
        if (st == ST_OK) {
            agent->heard_ms = clock_monotonic_ms();
            st = take(agent, &message, err);
        } else if (st == ST_CORRUPT) {
            count_unexpected(agent, err->message);
        }
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

static void take_ended(struct agent *agent)
{
    void *item;

    while (queue_try_pop(agent->ended, &item) == ST_OK) {
        struct shard_work *work = item;
        struct wire_message result = {.kind = WIRE_LEASE_RESULT};

        result.u.lease_result.job = work->lease.job;
        result.u.lease_result.shard = work->lease.shard;
        result.u.lease_result.epoch = work->lease.epoch;
        result.u.lease_result.outcome = work->outcome;
        result.u.lease_result.samples_done = atomic_load(&work->samples_done);
        result.u.lease_result.samples_quarantined = atomic_load(&work->samples_quarantined);
        memcpy(result.u.lease_result.why, work->why, sizeof work->why);
        conversation_end(&agent->talk, clock_monotonic_ms(), &result);
        for (size_t i = 0; i < agent->n_held; i++)
            if (agent->held[i] == work)
                agent->held[i--] = agent->held[--agent->n_held];
        free(work);
    }
}

/* All that is to be said now, as long as somebody is there. */
static enum status speak(struct agent *agent, struct error *err)
{
    struct wire_message message;
    enum status st = ST_OK;

    while (st == ST_OK &&
           conversation_next(&agent->talk, clock_monotonic_ms(), wants_lease(agent), &message)) {
        if (message.kind == WIRE_HEARTBEAT) {
            const struct shard_work *work =
                find_held(agent, message.u.heartbeat.shard, message.u.heartbeat.epoch);

            if (work != NULL) { /* NULL: there was no memory for it */
                message.u.heartbeat.samples_done = atomic_load(&work->samples_done);
                message.u.heartbeat.samples_quarantined = atomic_load(&work->samples_quarantined);
                message.u.heartbeat.samples_left = atomic_load(&work->samples_left);
            }
        }
        st = endpoint_send(agent->socket, &message, err);
        if (st == ST_FULL) {
            conversation_unsent(&agent->talk, clock_monotonic_ms());
            st = ST_OK;
        }
    }
    return st;
}

/* Whether all is done; the coordinator's last answers are waited for, but not for ever. */
static bool may_leave(struct agent *agent)
{
    if (agent->n_held > 0 || !(agent->talk.is_finished || must_drain(agent))) {
        agent->leave_by_ms = 0;
        return false;
    }
    if (agent->leave_by_ms == 0)
        agent->leave_by_ms = clock_monotonic_ms() + LEAVE_MS;
    return !conversation_is_open(&agent->talk) || clock_monotonic_ms() >= agent->leave_by_ms;
}

static enum status loop(struct agent *agent, struct error *err)
{
    enum status st = ST_OK;

    while (st == ST_OK) {
        int64_t until_ms;

        take_ended(agent);
        if (is_deserted(agent))
            st = connect_anew(agent, err);
        if (st == ST_OK)
            st = speak(agent, err);
        if (st != ST_OK || may_leave(agent))
            break;
        until_ms = conversation_due_ms(&agent->talk, wants_lease(agent));
        wait(agent, agent->leave_by_ms > 0 ? MIN(until_ms, agent->leave_by_ms) : until_ms);
        st = take_messages(agent, err);
    }
    if (st == ST_OK && agent->talk.is_refused) {
        *err = agent->refusal;
        st = ST_INVALID;
    }
    return st;
}

enum status agent_run(const struct agent_options *options, struct error *err)
{
    struct agent agent = {.options = options};
    const struct pipeline_options pipeline = {.context = options->context,
                                              .catalog_url = options->catalog_url,
                                              .threads = options->threads,
                                              .drain = &agent.drain,
                                              .done = work_ended,
                                              .done_ctx = &agent,
                                              .idle = options->wake};
    enum status st = queue_create(MAX_HELD, SIZE_MAX, &agent.ended, err);

    if (st != ST_OK)
        return st;
    conversation_init(&agent.talk, options->name, options->job_id, options->context->job->digest,
                      options->answer_ms > 0 ? options->answer_ms : ANSWER_MS,
                      options->context->job->workers.lease_ms);
    st = connect_anew(&agent, err);
    if (st == ST_OK)
        st = pipeline_create(&pipeline, &agent.pipeline, err);
    if (st == ST_OK)
        st = loop(&agent, err);
    for (size_t i = 0; i < agent.n_held; i++) /* only after a failure of our own */
        atomic_store(&agent.held[i]->abandoned, true);
    pipeline_destroy(&agent.pipeline);
    if (agent.socket != NULL) {
        struct error ignored;
        enum status said;

        take_ended(&agent);
        said = speak(&agent, &ignored);
        (void)said;
        (void)zmq_close(agent.socket);
    }
    queue_close(agent.ended);
    queue_destroy(&agent.ended);
    if (st != ST_OK)
        error_add_context(err, "worker %s", options->name);
    return st;
}
