#include "bench/fleet/crowd.h"

#include "bench/fleet/committers.h"
#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "worker/conversation.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <zmq.h>

enum {
    ANSWER_MS = 10000, /* as worker/agent has it */
    TICK_MS = 5,
    JOINS_PER_TICK = 10, /* a fleet is not switched on in one moment */
    MAX_EVENTS = 512,
    IO_THREADS = 8,       /* for their heartbeats' timers, each of which libzmq seeks among all */
    SOCKETS_APART = 1024, /* of workers that are gone and not yet reaped */
};

static const double read_share = 0.8; /* of a shard's time, after which the next is asked for */

/* Times are those of the crowd's clock. */
struct member_lease {
    int64_t shard, epoch, n_parts;
    int64_t begin_ms, read_ms, end_ms;
    bool is_committing, is_lost;
};

struct member {
    struct conversation talk; /* by the member's own clock */
    void *socket;
    char name[64];
    struct member_lease held[CONVERSATION_MAX_LEASES];
    size_t n_held;
    double rate; /* of its clock */
    int64_t ahead_ms;
    uint64_t number;  /* of its last request, */
    int64_t asked_ns; /* and when that was made first */
    atomic_uint life;
};

struct crowd {
    const struct crowd_options *options;
    void *zmq;
    int epoll;
    struct wake wake;
    struct committers *committers;
    struct member *members;
    int64_t *due_ms; /* [n_workers]: when a member has something to do */
    size_t n_joined, n_finished;
    int64_t now_ms;
    double deaths; /* owed */
    uint64_t random;
};

/* SplitMix64. */
static uint64_t draw(struct crowd *crowd)
{
    uint64_t z = crowd->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double draw_share(struct crowd *crowd)
{
    return (double)(draw(crowd) >> 11) / (double)(UINT64_C(1) << 53);
}

static int64_t own_ms(const struct member *m, int64_t ms)
{
    return (int64_t)((double)ms * m->rate) + m->ahead_ms;
}

static int64_t crowd_ms(const struct member *m, int64_t own)
{
    return own == INT64_MAX ? own : (int64_t)((double)(own - m->ahead_ms) / m->rate) + 1;
}

static enum status join(struct crowd *crowd, struct member *m, struct error *err)
{
    const struct crowd_options *o = crowd->options;
    const struct endpoint_target target = {
        .addresses = &o->coordinator, .n_addresses = 1, .id = m->name};
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)(m - crowd->members)};
    size_t len = sizeof(int);
    int fd;
    enum status st;

    (void)snprintf(m->name, sizeof m->name, "sim:%d:%zu-%08x", (int)getpid(),
                   o->first + (size_t)(m - crowd->members), (unsigned)draw(crowd));
    m->rate = 1 + o->skew * (2 * draw_share(crowd) - 1);
    m->ahead_ms = o->skew > 0 ? (int64_t)(draw_share(crowd) * 1e7) : 0;
    m->n_held = 0;
    m->number = 0;
    conversation_init(&m->talk, m->name, o->job, o->digest, ANSWER_MS, o->lease_ms);
    st = endpoint_connect(crowd->zmq, &target, &m->socket, NULL, err);
    if (st == ST_OK && (zmq_getsockopt(m->socket, ZMQ_FD, &fd, &len) != 0 ||
                        epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, fd, &event) != 0))
        st = error_set_errno(err, ST_UNAVAILABLE, "could not poll a socket");
    crowd->due_ms[m - crowd->members] = 0;
    return st;
}

static void leave(struct crowd *crowd, struct member *m)
{
    size_t len = sizeof(int);
    int fd;

    atomic_fetch_add(&m->life, 1);
    if (zmq_getsockopt(m->socket, ZMQ_FD, &fd, &len) == 0)
        (void)epoll_ctl(crowd->epoll, EPOLL_CTL_DEL, fd, NULL);
    (void)zmq_setsockopt(m->socket, ZMQ_LINGER, &(int){0}, sizeof(int));
    (void)zmq_close(m->socket);
    m->socket = NULL;
}

static bool wants_lease(const struct crowd *crowd, const struct member *m)
{
    for (size_t i = 0; i < m->n_held; i++)
        if (crowd->now_ms < m->held[i].read_ms)
            return false;
    return true;
}

static struct member_lease *find_lease(struct member *m, int64_t shard, int64_t epoch)
{
    for (size_t i = 0; i < m->n_held; i++)
        if (m->held[i].shard == shard && m->held[i].epoch == epoch)
            return &m->held[i];
    return NULL;
}

static void begin_lease(struct crowd *crowd, struct member *m, const struct wire_message *grant)
{
    struct member_lease *lease = &m->held[m->n_held++];
    double ms = crowd->options->compute_ms * (0.5 + draw_share(crowd));
    int64_t begin_ms = crowd->now_ms;

    for (size_t i = 0; i + 1 < m->n_held; i++)
        begin_ms = MAX(begin_ms, m->held[i].end_ms);
    *lease = (struct member_lease){.shard = grant->u.lease_grant.shard,
                                   .epoch = grant->u.lease_grant.epoch,
                                   .n_parts = grant->u.lease_grant.n_parts,
                                   .begin_ms = begin_ms,
                                   .read_ms = begin_ms + (int64_t)(ms * read_share),
                                   .end_ms = begin_ms + (int64_t)ms};
    fleet_stats_add_latency(crowd->options->stats, clock_monotonic_ns() - m->asked_ns);
    atomic_fetch_add(&crowd->options->stats->grants, 1);
}

static void end_lease(struct crowd *crowd, struct member *m, struct member_lease *lease,
                      enum wire_outcome outcome)
{
    struct wire_message result = {.kind = WIRE_LEASE_RESULT};

    result.u.lease_result.job = crowd->options->job;
    result.u.lease_result.shard = lease->shard;
    result.u.lease_result.epoch = lease->epoch;
    result.u.lease_result.outcome = outcome;
    if (outcome == WIRE_OUTCOME_DONE)
        result.u.lease_result.samples_done = (uint64_t)crowd->options->n_samples;
    *lease = m->held[--m->n_held];
    conversation_end(&m->talk, own_ms(m, crowd->now_ms), &result);
}

static void hear(struct crowd *crowd, struct member *m, const struct wire_message *message)
{
    struct fleet_stats *stats = crowd->options->stats;
    struct member_lease *lease;
    bool was_finished = m->talk.is_finished;

    atomic_fetch_add(&stats->renewals, message->kind == WIRE_HEARTBEAT_REPLY);
    atomic_fetch_add(&stats->results, message->kind == WIRE_RESULT_TAKEN);
    switch (conversation_hear(&m->talk, own_ms(m, crowd->now_ms), message)) {
    case CONVERSATION_LEASE:
        begin_lease(crowd, m, message);
        break;
    case CONVERSATION_BEAT:
        lease = find_lease(m, message->u.heartbeat_reply.shard, message->u.heartbeat_reply.epoch);
        if (lease != NULL && message->u.heartbeat_reply.lost)
            lease->is_lost = true;
        break;
    case CONVERSATION_REFUSED:
    case CONVERSATION_UNEXPECTED:
        atomic_fetch_add(&stats->errors, 1);
        log_at(LOG_ERROR, "unexpected_answer", "kind=%d", (int)message->kind);
        break;
    case CONVERSATION_NOTHING:
        break;
    }
    crowd->n_finished += m->talk.is_finished && !was_finished;
}

static bool is_dropped(struct crowd *crowd)
{
    bool dropped = crowd->options->loss > 0 && draw_share(crowd) < crowd->options->loss;

    atomic_fetch_add(&crowd->options->stats->dropped, dropped);
    return dropped;
}

static enum status say(struct crowd *crowd, struct member *m, struct wire_message *message,
                       struct error *err)
{
    enum status st = ST_OK;

    if (message->kind == WIRE_HEARTBEAT) {
        const struct member_lease *lease =
            find_lease(m, message->u.heartbeat.shard, message->u.heartbeat.epoch);

        if (lease != NULL && crowd->now_ms > lease->begin_ms)
            message->u.heartbeat.samples_done =
                (uint64_t)(crowd->options->n_samples * (crowd->now_ms - lease->begin_ms) /
                           (lease->end_ms - lease->begin_ms + 1));
    }
    if (!is_dropped(crowd))
        st = endpoint_send(m->socket, message, err);
    if (st == ST_FULL) {
        conversation_unsent(&m->talk, own_ms(m, crowd->now_ms));
        st = ST_OK;
    }
    return st;
}

/* What is over goes to the committers; a lost one is only reported. */
static int64_t work(struct crowd *crowd, struct member *m)
{
    int64_t due_ms = INT64_MAX;

    for (size_t i = 0; i < m->n_held; i++) {
        struct member_lease *lease = &m->held[i];
        struct commit *commit;

        if (lease->is_committing)
            continue;
        if (lease->is_lost) {
            atomic_fetch_add(&crowd->options->stats->lost, 1);
            end_lease(crowd, m, lease, WIRE_OUTCOME_LOST);
            i--;
            continue;
        }
        if (crowd->now_ms < lease->read_ms)
            due_ms = MIN(due_ms, lease->read_ms);
        if (crowd->now_ms < lease->end_ms) {
            due_ms = MIN(due_ms, lease->end_ms);
            continue;
        }
        commit = malloc(sizeof *commit);
        assert(commit != NULL);
        *commit = (struct commit){.worker = (size_t)(m - crowd->members),
                                  .life = atomic_load(&m->life),
                                  .lives = &m->life,
                                  .job = crowd->options->job,
                                  .shard = lease->shard,
                                  .epoch = lease->epoch,
                                  .n_parts = lease->n_parts};
        lease->is_committing = true;
        committers_push(crowd->committers, commit);
    }
    return due_ms;
}

/* All there is to hear, do and say. A socket's descriptor tells of nothing that was there when it
 * was last used, so nothing may be left behind. */
static enum status tend(struct crowd *crowd, struct member *m, struct error *err)
{
    struct wire_message message;
    int64_t due_ms = 0, talk_ms;
    bool again = true;
    enum status st = ST_OK;

    while (again && st == ST_OK) {
        again = false;
        while ((st = endpoint_receive(m->socket, &message, err)) == ST_OK) {
            again = true;
            if (!is_dropped(crowd))
                hear(crowd, m, &message);
        }
        st = st == ST_FULL ? ST_OK : st;
        due_ms = work(crowd, m);
        while (st == ST_OK && conversation_next(&m->talk, own_ms(m, crowd->now_ms),
                                                wants_lease(crowd, m), &message)) {
            uint64_t number = message.u.lease_request.number;

            again = true;
            if (message.kind == WIRE_LEASE_REQUEST && number != m->number) {
                m->number = number;
                m->asked_ns = clock_monotonic_ns();
            }
            st = say(crowd, m, &message, err);
        }
    }
    talk_ms = crowd_ms(m, conversation_due_ms(&m->talk, wants_lease(crowd, m)));
    crowd->due_ms[m - crowd->members] = MIN(due_ms, talk_ms);
    return st;
}

static enum status take_committed(struct crowd *crowd, struct error *err)
{
    enum status st = ST_OK;

    for (struct commit *commit = committers_next(crowd->committers); commit != NULL && st == ST_OK;
         commit = committers_next(crowd->committers)) {
        struct member *m = &crowd->members[commit->worker];

        if (atomic_load(&m->life) == commit->life) {
            struct member_lease *lease = find_lease(m, commit->shard, commit->epoch);

            assert(lease != NULL);
            end_lease(crowd, m, lease, commit->outcome);
            st = tend(crowd, m, err);
        }
        free(commit);
    }
    return st;
}

/* Somebody vanishes without a word, and another comes; until the job's end. */
static enum status replace_some(struct crowd *crowd, double seconds, struct error *err)
{
    enum status st = ST_OK;

    if (crowd->n_finished == 0)
        crowd->deaths += crowd->options->deaths * seconds;
    for (; crowd->deaths >= 1 && st == ST_OK; crowd->deaths--) {
        struct member *m = &crowd->members[draw(crowd) % crowd->n_joined];

        leave(crowd, m);
        st = join(crowd, m, err);
        atomic_fetch_add(&crowd->options->stats->deaths, 1);
    }
    return st;
}

/* Joins, deaths, and whoever has waited long enough. */
static enum status tick(struct crowd *crowd, double seconds, struct error *err)
{
    enum status st = ST_OK;

    for (int i = 0;
         i < JOINS_PER_TICK && crowd->n_joined < crowd->options->n_workers && st == ST_OK; i++)
        st = join(crowd, &crowd->members[crowd->n_joined++], err);
    if (st == ST_OK)
        st = replace_some(crowd, seconds, err);
    for (size_t i = 0; i < crowd->n_joined && st == ST_OK; i++)
        if (crowd->due_ms[i] <= crowd->now_ms)
            st = tend(crowd, &crowd->members[i], err);
    return st;
}

static bool is_over(const struct crowd *crowd)
{
    if (atomic_load(&crowd->options->stats->stop))
        return true;
    if (crowd->n_finished < crowd->options->n_workers)
        return false;
    for (size_t i = 0; i < crowd->n_joined; i++)
        if (crowd->members[i].n_held > 0 || conversation_is_open(&crowd->members[i].talk))
            return false;
    return true;
}

static enum status loop(struct crowd *crowd, struct error *err)
{
    struct epoll_event events[MAX_EVENTS];
    int64_t ticked_ms = clock_monotonic_ms();
    enum status st = ST_OK;

    while (st == ST_OK && !is_over(crowd)) {
        int n = epoll_wait(crowd->epoll, events, MAX_EVENTS, TICK_MS);

        crowd->now_ms = clock_monotonic_ms();
        for (int i = 0; i < n && st == ST_OK; i++) {
            struct member *m = &crowd->members[events[i].data.u64];

            if (events[i].data.u64 == crowd->options->n_workers)
                wake_drain(&crowd->wake);
            else if (m->socket != NULL)
                st = tend(crowd, m, err);
        }
        if (st == ST_OK)
            st = take_committed(crowd, err);
        if (st == ST_OK && crowd->now_ms - ticked_ms >= TICK_MS) {
            st = tick(crowd, (double)(crowd->now_ms - ticked_ms) / 1000, err);
            ticked_ms = crowd->now_ms;
        }
    }
    return st;
}

static enum status prepare(struct crowd *crowd, struct error *err)
{
    const struct crowd_options *o = crowd->options;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = o->n_workers};
    const struct committers_options committers = {.catalog_url = o->catalog_url,
                                                  .n_threads = o->n_committers,
                                                  .n_samples = o->n_samples,
                                                  .max_commits = (o->n_workers + SOCKETS_APART) *
                                                                 CONVERSATION_MAX_LEASES,
                                                  .wake = &crowd->wake,
                                                  .stats = o->stats};
    enum status st = wake_init(&crowd->wake, err);

    crowd->members = calloc(o->n_workers, sizeof *crowd->members);
    crowd->due_ms = calloc(o->n_workers, sizeof *crowd->due_ms);
    crowd->zmq = zmq_ctx_new();
    crowd->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (st == ST_OK && (crowd->members == NULL || crowd->due_ms == NULL || crowd->zmq == NULL))
        st = error_set(err, ST_NO_MEMORY, "could not allocate %zu workers", o->n_workers);
    if (st == ST_OK &&
        (zmq_ctx_set(crowd->zmq, ZMQ_MAX_SOCKETS, (int)(o->n_workers + SOCKETS_APART)) != 0 ||
         zmq_ctx_set(crowd->zmq, ZMQ_IO_THREADS, IO_THREADS) != 0 ||
         epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, crowd->wake.fds[0], &event) != 0))
        st = error_set_errno(err, ST_UNAVAILABLE, "could not prepare to poll");
    return st == ST_OK ? committers_start(&committers, &crowd->committers, err) : st;
}

/* In the reverse order; what is still to be said is not. */
static void dismiss(struct crowd *crowd)
{
    if (crowd->committers != NULL)
        committers_stop(&crowd->committers);
    for (size_t i = 0; i < crowd->n_joined; i++)
        if (crowd->members[i].socket != NULL)
            leave(crowd, &crowd->members[i]);
    if (crowd->zmq != NULL)
        (void)zmq_ctx_term(crowd->zmq);
    (void)close(crowd->epoll);
    wake_release(&crowd->wake);
    free(crowd->members);
    free(crowd->due_ms);
}

enum status crowd_run(const struct crowd_options *options, struct error *err)
{
    struct crowd crowd = {.options = options, .random = options->seed, .wake = {{-1, -1}}};
    enum status st = prepare(&crowd, err);

    if (st == ST_OK)
        st = loop(&crowd, err);
    dismiss(&crowd);
    return st;
}
