#include "worker/conversation.h"

#include <assert.h>

enum {
    AWAY_MS = 500,            /* nobody is there: try again then */
    RELEASED_PAUSE_MS = 2000, /* a lease was handed back: word that all stops is on its way */
};

void conversation_init(struct conversation *c, const char *name, int64_t job, const char *digest,
                       int64_t answer_ms, int64_t lease_ms)
{
    memset(c, 0, sizeof *c);
    c->name = name;
    c->job = job;
    c->digest = digest;
    c->answer_ms = answer_ms;
    c->beat_ms = lease_ms / 3;
}

static bool may_ask(const struct conversation *c, bool wants_lease)
{
    return (wants_lease || c->is_asked) && !c->is_finished &&
           c->n_held + c->n_results < CONVERSATION_MAX_LEASES;
}

bool conversation_next(struct conversation *c, int64_t now_ms, bool wants_lease,
                       struct wire_message *message)
{
    memset(message, 0, sizeof *message);
    if (c->is_refused)
        return false;
    if (!c->is_known) {
        if (now_ms < c->hello_at_ms)
            return false;
        wire_hello(message, c->name, c->job, c->digest);
        c->hello_at_ms = now_ms + c->answer_ms;
        return true;
    }
    for (size_t i = 0; i < c->n_results; i++)
        if (now_ms >= c->results[i].send_at_ms) {
            c->results[i].send_at_ms = now_ms + c->answer_ms;
            *message = c->results[i].message;
            return true;
        }
    for (size_t i = 0; i < c->n_held; i++)
        if (now_ms >= c->held[i].beat_at_ms) {
            c->held[i].beat_at_ms = now_ms + c->beat_ms;
            message->kind = WIRE_HEARTBEAT;
            message->u.heartbeat.job = c->job;
            message->u.heartbeat.shard = c->held[i].shard;
            message->u.heartbeat.epoch = c->held[i].epoch;
            return true;
        }
    if (!may_ask(c, wants_lease) || now_ms < c->ask_at_ms)
        return false;
    /* Under the same number as long as it has no answer: a coordinator that has granted a lease
     * and was not heard says it again. */
    c->number += !c->is_asked;
    c->is_asked = true;
    c->ask_at_ms = now_ms + c->answer_ms;
    message->kind = WIRE_LEASE_REQUEST;
    message->u.lease_request.number = c->number;
    message->u.lease_request.job = c->job;
    return true;
}

void conversation_unsent(struct conversation *c, int64_t now_ms)
{
    c->is_known = false;
    c->hello_at_ms = now_ms + AWAY_MS;
}

/* All that is open is said to whoever has welcomed us. */
static void become_known(struct conversation *c)
{
    c->is_known = true;
    for (size_t i = 0; i < c->n_results; i++)
        c->results[i].send_at_ms = 0;
    for (size_t i = 0; i < c->n_held; i++)
        c->held[i].beat_at_ms = 0;
    if (c->is_asked)
        c->ask_at_ms = 0;
}

static size_t find_held(const struct conversation *c, int64_t shard, int64_t epoch)
{
    size_t i = 0;

    while (i < c->n_held && (c->held[i].shard != shard || c->held[i].epoch != epoch))
        i++;
    return i;
}

static size_t find_result(const struct conversation *c, int64_t shard, int64_t epoch)
{
    size_t i = 0;

    while (i < c->n_results && (c->results[i].message.u.lease_result.shard != shard ||
                                c->results[i].message.u.lease_result.epoch != epoch))
        i++;
    return i;
}

static void add_result(struct conversation *c, const struct wire_message *result)
{
    c->results[c->n_results].message = *result;
    c->results[c->n_results++].send_at_ms = 0;
}

/* A lease that we did not wait for any more is handed back unharmed, or it would have to run out;
 * one that we have, or had, was only said twice. */
static void refuse(struct conversation *c, const struct wire_message *grant)
{
    struct wire_message result = {.kind = WIRE_LEASE_RESULT};

    if (c->n_held + c->n_results + 1 >= CONVERSATION_MAX_RESULTS) /* it will run out */
        return;
    if (find_held(c, grant->u.lease_grant.shard, grant->u.lease_grant.epoch) < c->n_held ||
        find_result(c, grant->u.lease_grant.shard, grant->u.lease_grant.epoch) < c->n_results)
        return;
    result.u.lease_result.job = grant->u.lease_grant.job;
    result.u.lease_result.shard = grant->u.lease_grant.shard;
    result.u.lease_result.epoch = grant->u.lease_grant.epoch;
    result.u.lease_result.outcome = WIRE_OUTCOME_RELEASED;
    add_result(c, &result);
}

static enum conversation_heard hear_grant(struct conversation *c, int64_t now_ms,
                                          const struct wire_message *grant)
{
    if (!c->is_asked || grant->u.lease_grant.number != c->number) {
        refuse(c, grant);
        return CONVERSATION_NOTHING;
    }
    c->is_asked = false;
    c->ask_at_ms = 0;
    assert(c->n_held < CONVERSATION_MAX_LEASES); /* or we had not asked */
    c->held[c->n_held].shard = grant->u.lease_grant.shard;
    c->held[c->n_held].epoch = grant->u.lease_grant.epoch;
    c->held[c->n_held++].beat_at_ms = now_ms + c->beat_ms;
    return CONVERSATION_LEASE;
}

static void hear_taken(struct conversation *c, const struct wire_message *taken)
{
    size_t i = find_result(c, taken->u.result_taken.shard, taken->u.result_taken.epoch);

    if (i == c->n_results)
        return;
    c->n_results--;
    memmove(&c->results[i], &c->results[i + 1], (c->n_results - i) * sizeof c->results[0]);
}

enum conversation_heard conversation_hear(struct conversation *c, int64_t now_ms,
                                          const struct wire_message *message)
{
    switch (message->kind) {
    case WIRE_WELCOME:
        if (!c->is_known)
            become_known(c);
        return CONVERSATION_NOTHING;
    case WIRE_REFUSED:
        c->is_refused = true;
        return CONVERSATION_REFUSED;
    case WIRE_WHO_ARE_YOU:
        if (c->is_known) { /* else the hello is on its way */
            c->is_known = false;
            c->hello_at_ms = now_ms;
        }
        return CONVERSATION_NOTHING;
    case WIRE_LEASE_GRANT:
        return hear_grant(c, now_ms, message);
    case WIRE_NO_WORK:
        if (c->is_asked && message->u.no_work.number == c->number) {
            c->is_asked = false;
            c->is_finished = message->u.no_work.finished;
            c->ask_at_ms = now_ms + message->u.no_work.wait_ms;
        }
        return CONVERSATION_NOTHING;
    case WIRE_HEARTBEAT_REPLY:
        return CONVERSATION_BEAT;
    case WIRE_RESULT_TAKEN:
        hear_taken(c, message);
        return CONVERSATION_NOTHING;
    case WIRE_HELLO:
    case WIRE_JOB_REQUEST:
    case WIRE_JOB_OFFER:
    case WIRE_LEASE_REQUEST:
    case WIRE_HEARTBEAT:
    case WIRE_LEASE_RESULT:
        break;
    }
    return CONVERSATION_UNEXPECTED;
}

void conversation_end(struct conversation *c, int64_t now_ms, const struct wire_message *result)
{
    size_t i = find_held(c, result->u.lease_result.shard, result->u.lease_result.epoch);

    assert(i < c->n_held && c->n_results < CONVERSATION_MAX_RESULTS);
    c->held[i] = c->held[--c->n_held];
    add_result(c, result);
    if (!c->is_asked) /* at once, for it may have been the last of the job */
        c->ask_at_ms = result->u.lease_result.outcome == WIRE_OUTCOME_RELEASED
                           ? now_ms + RELEASED_PAUSE_MS
                           : 0;
}

int64_t conversation_due_ms(const struct conversation *c, bool wants_lease)
{
    int64_t at = INT64_MAX;

    if (c->is_refused)
        return at;
    if (!c->is_known)
        return c->hello_at_ms;
    for (size_t i = 0; i < c->n_results; i++)
        at = MIN(at, c->results[i].send_at_ms);
    for (size_t i = 0; i < c->n_held; i++)
        at = MIN(at, c->held[i].beat_at_ms);
    return may_ask(c, wants_lease) ? MIN(at, c->ask_at_ms) : at;
}

bool conversation_is_open(const struct conversation *c)
{
    return !c->is_refused && (c->is_asked || c->n_results > 0);
}
