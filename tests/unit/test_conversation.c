#include "tests/support/test.h"
#include "worker/conversation.h"

#include <stdio.h>

enum { ANSWER_MS = 1000, LEASE_MS = 30000, BEAT_MS = LEASE_MS / 3, JOB = 7 };

/* A worker at a made-up time, in which a whole night is over at once. */
struct talk {
    struct conversation c;
    int64_t now_ms;
    bool wants;
};

static void begin(struct talk *t)
{
    t->now_ms = 1000000;
    t->wants = true;
    conversation_init(&t->c, "w", JOB, "digest", ANSWER_MS, LEASE_MS);
}

/* What is said now, which must be of `kind`. */
static struct wire_message expect(struct talk *t, enum wire_kind kind)
{
    struct wire_message message;

    if (!conversation_next(&t->c, t->now_ms, t->wants, &message))
        fail_msg("nothing is said, not %d", (int)kind);
    assert_int_equal(message.kind, kind);
    return message;
}

static void expect_silence(struct talk *t)
{
    struct wire_message message;

    if (conversation_next(&t->c, t->now_ms, t->wants, &message))
        fail_msg("message %d is said", (int)message.kind);
}

/* Time passes until there is something to say, which must be so long. */
static void pass(struct talk *t, int64_t want_ms)
{
    int64_t due_ms = conversation_due_ms(&t->c, t->wants);

    expect_silence(t);
    assert_int_equal(due_ms - t->now_ms, want_ms);
    t->now_ms = due_ms;
}

static enum conversation_heard hear(struct talk *t, enum wire_kind kind)
{
    const struct wire_message message = {.kind = kind};

    return conversation_hear(&t->c, t->now_ms, &message);
}

static enum conversation_heard hear_grant(struct talk *t, uint64_t number, int64_t shard)
{
    struct wire_message grant = {.kind = WIRE_LEASE_GRANT};

    grant.u.lease_grant.number = number;
    grant.u.lease_grant.job = JOB;
    grant.u.lease_grant.shard = shard;
    grant.u.lease_grant.epoch = 1;
    return conversation_hear(&t->c, t->now_ms, &grant);
}

static void hear_no_work(struct talk *t, uint64_t number, int64_t wait_ms, bool finished)
{
    struct wire_message answer = {.kind = WIRE_NO_WORK};

    answer.u.no_work.number = number;
    answer.u.no_work.wait_ms = wait_ms;
    answer.u.no_work.finished = finished;
    assert_int_equal(conversation_hear(&t->c, t->now_ms, &answer), CONVERSATION_NOTHING);
}

static void hear_taken(struct talk *t, int64_t shard)
{
    struct wire_message taken = {.kind = WIRE_RESULT_TAKEN};

    taken.u.result_taken.job = JOB;
    taken.u.result_taken.shard = shard;
    taken.u.result_taken.epoch = 1;
    assert_int_equal(conversation_hear(&t->c, t->now_ms, &taken), CONVERSATION_NOTHING);
}

static void end(struct talk *t, int64_t shard, enum wire_outcome outcome)
{
    struct wire_message result = {.kind = WIRE_LEASE_RESULT};

    result.u.lease_result.job = JOB;
    result.u.lease_result.shard = shard;
    result.u.lease_result.epoch = 1;
    result.u.lease_result.outcome = outcome;
    conversation_end(&t->c, t->now_ms, &result);
}

static void greet(struct talk *t)
{
    struct wire_message hello = expect(t, WIRE_HELLO);

    assert_int_equal(hello.u.hello.protocol, WIRE_PROTOCOL);
    assert_int_equal(hello.u.hello.job, JOB);
    assert_string_equal(hello.u.hello.worker, "w");
    assert_string_equal(hello.u.hello.config_digest, "digest");
    assert_int_equal(hear(t, WIRE_WELCOME), CONVERSATION_NOTHING);
}

/* Up to a lease of `shard`. */
static void take(struct talk *t, int64_t shard)
{
    struct wire_message request = expect(t, WIRE_LEASE_REQUEST);

    assert_int_equal(request.u.lease_request.job, JOB);
    assert_int_equal(hear_grant(t, request.u.lease_request.number, shard), CONVERSATION_LEASE);
}

static void a_hello_is_said_until_it_is_heard(void **state)
{
    struct talk t;

    (void)state;
    begin(&t);
    for (int i = 0; i < 3; i++) {
        (void)expect(&t, WIRE_HELLO);
        pass(&t, ANSWER_MS);
    }
    greet(&t);
    (void)expect(&t, WIRE_LEASE_REQUEST);
    assert_int_equal(hear(&t, WIRE_WELCOME), CONVERSATION_NOTHING); /* to an earlier one */
    pass(&t, ANSWER_MS);
}

/* Lost on its way there or back: the same number, and the answer is taken once. */
static void a_request_without_an_answer_is_made_again_under_its_number(void **state)
{
    struct talk t;
    struct wire_message first, second;

    (void)state;
    begin(&t);
    greet(&t);
    first = expect(&t, WIRE_LEASE_REQUEST);
    pass(&t, ANSWER_MS);
    second = expect(&t, WIRE_LEASE_REQUEST);
    assert_int_equal(second.u.lease_request.number, first.u.lease_request.number);
    assert_int_equal(hear_grant(&t, first.u.lease_request.number, 3), CONVERSATION_LEASE);
    assert_int_equal(hear_grant(&t, first.u.lease_request.number, 3), CONVERSATION_NOTHING);
    assert_int_equal(t.c.n_held, 1);
    assert_int_equal(t.c.n_results, 0);
    second = expect(&t, WIRE_LEASE_REQUEST); /* the next */
    assert_int_equal(second.u.lease_request.number, first.u.lease_request.number + 1);
}

static void a_lease_that_is_not_waited_for_any_more_is_handed_back(void **state)
{
    struct talk t;
    struct wire_message request, result;

    (void)state;
    begin(&t);
    greet(&t);
    request = expect(&t, WIRE_LEASE_REQUEST);
    hear_no_work(&t, request.u.lease_request.number, 50, false);
    assert_int_equal(hear_grant(&t, request.u.lease_request.number, 3), CONVERSATION_NOTHING);
    result = expect(&t, WIRE_LEASE_RESULT);
    assert_int_equal(result.u.lease_result.outcome, WIRE_OUTCOME_RELEASED);
    assert_int_equal(result.u.lease_result.job, JOB);
    assert_int_equal(result.u.lease_result.shard, 3);
    assert_int_equal(hear_grant(&t, request.u.lease_request.number, 3), CONVERSATION_NOTHING);
    assert_int_equal(t.c.n_results, 1); /* said once */
    hear_taken(&t, 3);
    assert_int_equal(t.c.n_results, 0);
    pass(&t, 50);
    take(&t, 4);
    for (int64_t shard = 10; shard < 100; shard++) /* and never more than there is room for */
        assert_int_equal(hear_grant(&t, 1, shard), CONVERSATION_NOTHING);
    end(&t, 4, WIRE_OUTCOME_DONE);
    assert_true(t.c.n_results <= CONVERSATION_MAX_RESULTS);
}

static void a_result_is_said_until_it_is_taken(void **state)
{
    struct talk t;

    (void)state;
    begin(&t);
    greet(&t);
    take(&t, 3);
    t.wants = false;
    end(&t, 3, WIRE_OUTCOME_FAILED);
    assert_true(conversation_is_open(&t.c));
    for (int i = 0; i < 3; i++) {
        struct wire_message result = expect(&t, WIRE_LEASE_RESULT);

        assert_int_equal(result.u.lease_result.outcome, WIRE_OUTCOME_FAILED);
        pass(&t, ANSWER_MS);
    }
    hear_taken(&t, 4); /* another's */
    (void)expect(&t, WIRE_LEASE_RESULT);
    hear_taken(&t, 3);
    hear_taken(&t, 3);
    expect_silence(&t);
    assert_false(conversation_is_open(&t.c));
    assert_true(conversation_due_ms(&t.c, false) == INT64_MAX);
}

static void a_lease_is_renewed_every_third_of_its_time(void **state)
{
    struct talk t;
    struct wire_message beat;

    (void)state;
    begin(&t);
    greet(&t);
    take(&t, 3);
    t.wants = false;
    for (int i = 0; i < 3; i++) {
        pass(&t, BEAT_MS);
        beat = expect(&t, WIRE_HEARTBEAT);
        assert_int_equal(beat.u.heartbeat.shard, 3);
        assert_int_equal(beat.u.heartbeat.epoch, 1);
        assert_int_equal(beat.u.heartbeat.job, JOB);
        assert_int_equal(hear(&t, WIRE_HEARTBEAT_REPLY), CONVERSATION_BEAT);
    }
}

static void no_more_is_asked_for_than_can_be_held(void **state)
{
    struct talk t;

    (void)state;
    begin(&t);
    greet(&t);
    for (int64_t shard = 0; shard < CONVERSATION_MAX_LEASES; shard++)
        take(&t, shard);
    pass(&t, BEAT_MS);
    for (int64_t shard = 0; shard < CONVERSATION_MAX_LEASES; shard++)
        (void)expect(&t, WIRE_HEARTBEAT);
    end(&t, 1, WIRE_OUTCOME_DONE);
    (void)expect(&t, WIRE_LEASE_RESULT);
    pass(&t, ANSWER_MS); /* it counts until it is taken */
    hear_taken(&t, 1);
    take(&t, 9);
}

static void after_a_shard_was_handed_back_it_asks_later(void **state)
{
    struct talk t;

    (void)state;
    begin(&t);
    greet(&t);
    take(&t, 3);
    end(&t, 3, WIRE_OUTCOME_RELEASED);
    (void)expect(&t, WIRE_LEASE_RESULT);
    hear_taken(&t, 3);
    pass(&t, 2000);
    take(&t, 3);
    end(&t, 3, WIRE_OUTCOME_DONE);
    (void)expect(&t, WIRE_LEASE_RESULT);
    hear_taken(&t, 3);
    (void)expect(&t, WIRE_LEASE_REQUEST);
}

/* A coordinator that has begun anew knows nobody; or nobody was there for a while. Either way all
 * that is open is said again, after a hello. */
static void whoever_comes_is_told_all_that_is_open(void **state)
{
    (void)state;
    for (int lost = 0; lost < 2; lost++) {
        struct talk t;
        struct wire_message request;

        begin(&t);
        greet(&t);
        take(&t, 3);
        take(&t, 4);
        request = expect(&t, WIRE_LEASE_REQUEST);
        end(&t, 3, WIRE_OUTCOME_DONE);
        (void)expect(&t, WIRE_LEASE_RESULT);
        if (lost) {
            conversation_unsent(&t.c, t.now_ms);
            pass(&t, 500);
            (void)expect(&t, WIRE_HELLO); /* still nobody */
            conversation_unsent(&t.c, t.now_ms);
            pass(&t, 500);
        } else {
            assert_int_equal(hear(&t, WIRE_WHO_ARE_YOU), CONVERSATION_NOTHING);
        }
        (void)expect(&t, WIRE_HELLO);
        assert_int_equal(hear(&t, WIRE_WHO_ARE_YOU), CONVERSATION_NOTHING); /* to another message */
        expect_silence(&t);
        assert_int_equal(hear(&t, WIRE_WELCOME), CONVERSATION_NOTHING);
        assert_int_equal(expect(&t, WIRE_LEASE_RESULT).u.lease_result.shard, 3);
        assert_int_equal(expect(&t, WIRE_HEARTBEAT).u.heartbeat.shard, 4);
        assert_int_equal(expect(&t, WIRE_LEASE_REQUEST).u.lease_request.number,
                         request.u.lease_request.number);
        expect_silence(&t);
    }
}

static void the_end_of_a_job_is_the_end_of_asking(void **state)
{
    struct talk t;

    (void)state;
    begin(&t);
    greet(&t);
    take(&t, 3);
    hear_no_work(&t, expect(&t, WIRE_LEASE_REQUEST).u.lease_request.number, 0, true);
    assert_true(t.c.is_finished);
    pass(&t, BEAT_MS);
    (void)expect(&t, WIRE_HEARTBEAT);
    end(&t, 3, WIRE_OUTCOME_DONE);
    (void)expect(&t, WIRE_LEASE_RESULT);
    hear_taken(&t, 3);
    expect_silence(&t);
    assert_false(conversation_is_open(&t.c));
}

/* Told to leave while a request is on its way: its answer may be a lease. */
static void an_answer_is_owed_until_it_comes(void **state)
{
    struct talk t;

    (void)state;
    begin(&t);
    greet(&t);
    (void)expect(&t, WIRE_LEASE_REQUEST);
    t.wants = false;
    assert_true(conversation_is_open(&t.c));
    pass(&t, ANSWER_MS);
    assert_int_equal(expect(&t, WIRE_LEASE_REQUEST).u.lease_request.number, 1);
    hear_no_work(&t, 1, 0, false);
    assert_false(conversation_is_open(&t.c));
    expect_silence(&t);
}

static void a_refusal_is_final(void **state)
{
    struct talk t;

    (void)state;
    begin(&t);
    greet(&t);
    take(&t, 3);
    assert_int_equal(hear(&t, WIRE_WHO_ARE_YOU), CONVERSATION_NOTHING); /* a newer release */
    (void)expect(&t, WIRE_HELLO);
    assert_int_equal(hear(&t, WIRE_REFUSED), CONVERSATION_REFUSED);
    end(&t, 3, WIRE_OUTCOME_DONE);
    expect_silence(&t);
    assert_false(conversation_is_open(&t.c));
    assert_true(conversation_due_ms(&t.c, true) == INT64_MAX);
}

static void what_coordinators_do_not_say_changes_nothing(void **state)
{
    static const enum wire_kind kinds[] = {WIRE_HELLO,         WIRE_JOB_REQUEST, WIRE_JOB_OFFER,
                                           WIRE_LEASE_REQUEST, WIRE_HEARTBEAT,   WIRE_LEASE_RESULT};
    struct talk t;
    struct conversation before;

    (void)state;
    begin(&t);
    greet(&t);
    take(&t, 3);
    before = t.c;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        assert_int_equal(hear(&t, kinds[i]), CONVERSATION_UNEXPECTED);
    assert_memory_equal(&before, &t.c, sizeof before);
}

enum { N_SHARDS = 12, MAX_LATE = 256 };

/* A coordinator and its catalog, in the middle of a network that loses, doubles and delays. */
struct other_side {
    unsigned random;
    bool knows_us;
    struct {
        int64_t epoch;
        bool is_out, is_done;
    } shards[N_SHARDS];
    struct wire_message grant; /* its last; kind 0: none */
    struct wire_message late[MAX_LATE];
    size_t n_late;
};

static unsigned draw(struct other_side *o, unsigned n)
{
    o->random = o->random * 1664525u + 1013904223u;
    return (o->random >> 16) % n;
}

static struct wire_message grant_next(struct other_side *o, uint64_t number)
{
    struct wire_message answer = {.kind = WIRE_NO_WORK};
    bool all_done = true;

    if (o->grant.kind != 0 && o->grant.u.lease_grant.number == number)
        return o->grant;
    for (int64_t i = 0; i < N_SHARDS; i++) {
        all_done = all_done && o->shards[i].is_done;
        if (o->shards[i].is_out || o->shards[i].is_done)
            continue;
        o->shards[i].is_out = true;
        answer.kind = WIRE_LEASE_GRANT;
        answer.u.lease_grant.number = number;
        answer.u.lease_grant.shard = i;
        answer.u.lease_grant.epoch = ++o->shards[i].epoch;
        o->grant = answer;
        return answer;
    }
    answer.u.no_work.number = number;
    answer.u.no_work.wait_ms = 100;
    answer.u.no_work.finished = all_done;
    return answer;
}

static struct wire_message take_result(struct other_side *o, const struct wire_message *result)
{
    struct wire_message answer = {.kind = WIRE_RESULT_TAKEN};
    int64_t shard = result->u.lease_result.shard, epoch = result->u.lease_result.epoch;

    if (o->shards[shard].epoch == epoch && o->shards[shard].is_out) {
        o->shards[shard].is_out = false;
        o->shards[shard].is_done = result->u.lease_result.outcome == WIRE_OUTCOME_DONE;
    }
    if (o->grant.kind != 0 && o->grant.u.lease_grant.shard == shard)
        o->grant.kind = 0;
    answer.u.result_taken.shard = shard;
    answer.u.result_taken.epoch = epoch;
    return answer;
}

static struct wire_message answer_of(struct other_side *o, const struct wire_message *message)
{
    if (message->kind == WIRE_HELLO)
        o->knows_us = true;
    if (message->kind == WIRE_HELLO)
        return (struct wire_message){.kind = WIRE_WELCOME};
    if (!o->knows_us)
        return (struct wire_message){.kind = WIRE_WHO_ARE_YOU};
    if (message->kind == WIRE_LEASE_REQUEST)
        return grant_next(o, message->u.lease_request.number);
    if (message->kind == WIRE_LEASE_RESULT)
        return take_result(o, message);
    return (struct wire_message){.kind = WIRE_HEARTBEAT_REPLY};
}

/* Another takes over: it remembers nothing but the catalog, and what nobody holds has run out. */
static void replace(struct other_side *o, const struct conversation *c)
{
    o->knows_us = false;
    o->grant.kind = 0;
    for (int64_t i = 0; i < N_SHARDS; i++) {
        bool held = false;

        for (size_t k = 0; k < c->n_held; k++)
            held = held || (c->held[k].shard == i && c->held[k].epoch == o->shards[i].epoch);
        for (size_t k = 0; k < c->n_results; k++)
            held = held || (c->results[k].message.u.lease_result.shard == i &&
                            c->results[k].message.u.lease_result.epoch == o->shards[i].epoch);
        o->shards[i].is_out = o->shards[i].is_out && held;
    }
}

/* Whatever is lost, doubled or late: every shard is done, and no lease is begun twice. */
static void any_loss_and_delay_is_survived(void **state)
{
    enum { SEEDS = 300, MAX_STEPS = 50000, MAX_EPOCH = 1000 };

    (void)state;
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        struct other_side o = {.random = seed};
        static bool begun[N_SHARDS][MAX_EPOCH];
        struct talk t;
        int step = 0;

        memset(begun, 0, sizeof begun);
        begin(&t);
        while (!t.c.is_finished || conversation_is_open(&t.c) || t.c.n_held > 0) {
            struct wire_message message, answer;

            if (++step > MAX_STEPS)
                fail_msg("seed %u: it does not come to an end", seed);
            t.now_ms += draw(&o, 300);
            if (draw(&o, 97) == 0)
                replace(&o, &t.c);
            if (conversation_next(&t.c, t.now_ms, true, &message) && draw(&o, 5) != 0) {
                answer = answer_of(&o, &message);
                for (unsigned n = draw(&o, 3); n > 0 && o.n_late < MAX_LATE; n--)
                    o.late[o.n_late++] = answer;
            }
            if (o.n_late > 0 && draw(&o, 2) == 0) {
                unsigned i = draw(&o, (unsigned)o.n_late);

                message = o.late[i];
                o.late[i] = o.late[--o.n_late];
                if (conversation_hear(&t.c, t.now_ms, &message) == CONVERSATION_LEASE) {
                    bool *once = &begun[message.u.lease_grant.shard][message.u.lease_grant.epoch];

                    if (*once)
                        fail_msg("seed %u: a lease was begun twice", seed);
                    *once = true;
                }
            }
            if (t.c.n_held > 0 && draw(&o, 8) == 0) {
                message = (struct wire_message){.kind = WIRE_LEASE_RESULT};
                message.u.lease_result.shard = t.c.held[0].shard;
                message.u.lease_result.epoch = t.c.held[0].epoch;
                message.u.lease_result.outcome = WIRE_OUTCOME_DONE;
                conversation_end(&t.c, t.now_ms, &message);
            }
        }
        for (int64_t i = 0; i < N_SHARDS; i++)
            if (!o.shards[i].is_done)
                fail_msg("seed %u: shard %d is not done", seed, (int)i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hello_is_said_until_it_is_heard),
        cmocka_unit_test(a_request_without_an_answer_is_made_again_under_its_number),
        cmocka_unit_test(a_lease_that_is_not_waited_for_any_more_is_handed_back),
        cmocka_unit_test(a_result_is_said_until_it_is_taken),
        cmocka_unit_test(a_lease_is_renewed_every_third_of_its_time),
        cmocka_unit_test(no_more_is_asked_for_than_can_be_held),
        cmocka_unit_test(after_a_shard_was_handed_back_it_asks_later),
        cmocka_unit_test(whoever_comes_is_told_all_that_is_open),
        cmocka_unit_test(the_end_of_a_job_is_the_end_of_asking),
        cmocka_unit_test(an_answer_is_owed_until_it_comes),
        cmocka_unit_test(a_refusal_is_final),
        cmocka_unit_test(what_coordinators_do_not_say_changes_nothing),
        cmocka_unit_test(any_loss_and_delay_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
