#include "coordinator/dispatcher.h"
#include "proto/wire.h"
#include "storage/catalog/catalog.h"
#include "tests/support/small_run.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

#define ENDPOINT "inproc://dispatcher-test"

enum { ANSWER_MS = 20000, LEASE_MS = 60000, MAX_ATTEMPTS = 3, START_MS = 1000000, N_SHARDS = 3 };

/* The time that leases expire by. The dispatcher takes a function, so the value is global. */
static atomic_llong now_ms;

/* Of the job that the tests' workers work for. */
static int64_t job_id;

static int64_t fake_wall_ms(void)
{
    return (int64_t)atomic_load(&now_ms);
}

/* A dispatcher over a planned job of N_SHARDS, which is never worked on. */
struct fixture {
    struct small_run run;
    void *zmq;
    struct dispatcher *dispatcher;
};

static struct fixture *setup(const char *const *sets)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};

    assert_non_null(f);
    small_run_init(&f->run, sets);
    for (int s = 0; s < N_SHARDS; s++) {
        char key[16];

        (void)snprintf(key, sizeof key, "%d.jsonl", s);
        small_run_put_text(&f->run, key, "{}\n");
    }
    small_run_plan(&f->run);
    job_id = f->run.row.job;
    atomic_store(&now_ms, START_MS);
    f->zmq = zmq_ctx_new();
    assert_non_null(f->zmq);
    {
        const struct dispatcher_options options = {.zmq = f->zmq,
                                                   .endpoint = ENDPOINT,
                                                   .job = f->run.job,
                                                   .job_id = f->run.row.job,
                                                   .catalog_url = f->run.catalog_url,
                                                   .wall_ms = fake_wall_ms};

        assert_ok(dispatcher_create(&options, &f->dispatcher, &err));
    }
    return f;
}

static void teardown(struct fixture *f)
{
    dispatcher_destroy(&f->dispatcher);
    assert_null(f->dispatcher);
    assert_int_equal(zmq_ctx_term(f->zmq), 0);
    small_run_release(&f->run);
    free(f);
}

/* A worker is a socket here; the test speaks for it. */
static void *come(struct fixture *f, const char *endpoint)
{
    void *socket = zmq_socket(f->zmq, ZMQ_DEALER);
    int linger = 0;

    assert_non_null(socket);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal(zmq_connect(socket, endpoint), 0);
    return socket;
}

static void leave(void *socket)
{
    assert_int_equal(zmq_close(socket), 0);
}

static void say(void *socket, const struct wire_message *message)
{
    struct error err = {0};
    struct byte_buf buf;

    byte_buf_init(&buf, 1 << 16);
    assert_ok(wire_encode(message, &buf, &err));
    assert_int_equal(zmq_send(socket, buf.data, buf.len, 0), (int)buf.len);
    byte_buf_release(&buf);
}

static struct wire_message hear(void *socket)
{
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    struct wire_message message;
    struct error err = {0};
    zmq_msg_t frame;

    assert_int_equal(zmq_poll(&item, 1, ANSWER_MS), 1);
    assert_int_equal(zmq_msg_init(&frame), 0);
    assert_true(zmq_msg_recv(&frame, socket, 0) >= 0);
    assert_ok(
        wire_decode(bytes_view_of(zmq_msg_data(&frame), zmq_msg_size(&frame)), &message, &err));
    assert_int_equal(zmq_msg_close(&frame), 0);
    return message;
}

static void greet(void *socket, const char *name)
{
    struct wire_message hello = {.kind = WIRE_HELLO};

    hello.u.hello.protocol = WIRE_PROTOCOL;
    (void)snprintf(hello.u.hello.worker, sizeof hello.u.hello.worker, "%s", name);
    say(socket, &hello);
    assert_int_equal(hear(socket).kind, WIRE_WELCOME);
}

static void *join(struct fixture *f)
{
    void *socket = come(f, ENDPOINT);

    greet(socket, "w");
    return socket;
}

static struct wire_message ask_as(void *socket, uint64_t number)
{
    struct wire_message request = {.kind = WIRE_LEASE_REQUEST};

    request.u.lease_request.number = number;
    request.u.lease_request.job = job_id;
    say(socket, &request);
    return hear(socket);
}

static struct wire_message ask(void *socket)
{
    static uint64_t number = 100;
    struct wire_message answer = ask_as(socket, ++number);

    assert_int_equal(answer.kind == WIRE_LEASE_GRANT ? answer.u.lease_grant.number
                                                     : answer.u.no_work.number,
                     number);
    return answer;
}

static struct catalog_lease take(struct fixture *f, void *socket)
{
    struct wire_message answer = ask(socket);

    assert_int_equal(answer.kind, WIRE_LEASE_GRANT);
    return (struct catalog_lease){.job = f->run.row.job,
                                  .shard = answer.u.lease_grant.shard,
                                  .epoch = answer.u.lease_grant.epoch,
                                  .expires_ms = answer.u.lease_grant.expires_ms,
                                  .n_parts = answer.u.lease_grant.n_parts,
                                  .next_index = answer.u.lease_grant.next_index};
}

static bool beat_is_lost(void *socket, const struct catalog_lease *lease, uint64_t done,
                         uint64_t quarantined)
{
    struct wire_message message = {.kind = WIRE_HEARTBEAT};

    message.u.heartbeat.job = job_id;
    message.u.heartbeat.shard = lease->shard;
    message.u.heartbeat.epoch = lease->epoch;
    message.u.heartbeat.samples_done = done;
    message.u.heartbeat.samples_quarantined = quarantined;
    say(socket, &message);
    message = hear(socket);
    assert_int_equal(message.kind, WIRE_HEARTBEAT_REPLY);
    assert_int_equal(message.u.heartbeat_reply.shard, lease->shard);
    assert_int_equal(message.u.heartbeat_reply.epoch, lease->epoch);
    return message.u.heartbeat_reply.lost;
}

static void end(void *socket, const struct catalog_lease *lease, enum wire_outcome outcome,
                uint64_t done, uint64_t quarantined)
{
    struct wire_message message = {.kind = WIRE_LEASE_RESULT};

    message.u.lease_result.job = job_id;
    message.u.lease_result.shard = lease->shard;
    message.u.lease_result.epoch = lease->epoch;
    message.u.lease_result.outcome = outcome;
    message.u.lease_result.samples_done = done;
    message.u.lease_result.samples_quarantined = quarantined;
    say(socket, &message);
    message = hear(socket);
    assert_int_equal(message.kind, WIRE_RESULT_TAKEN);
    assert_int_equal(message.u.result_taken.shard, lease->shard);
    assert_int_equal(message.u.result_taken.epoch, lease->epoch);
}

static enum status commit_part(struct fixture *f, struct catalog_lease *lease, struct error *err)
{
    const struct catalog_sample sample = {.uid = bytes_of_string("a"),
                                          .index = (int64_t)lease->next_index,
                                          .state = CATALOG_SAMPLE_DONE};
    const struct catalog_part part = {.object_key = "p",
                                      .written = {.bytes = 1, .sha256 = "00"},
                                      .next_offset = 3,
                                      .next_index = lease->next_index + 1,
                                      .n_samples = 1,
                                      .samples = &sample};

    return catalog_part_commit(f->run.catalog, lease, &part, err);
}

static void a_worker_of_another_job_or_release_is_refused(void **state)
{
    struct fixture *f = setup(NULL);
    struct wire_message hello = {.kind = WIRE_HELLO}, answer;
    void *worker = join(f);

    (void)state;
    hello.u.hello.protocol = WIRE_PROTOCOL + 1; /* one release ahead: it will speak ours */
    hello.u.hello.job = f->run.row.job;
    memcpy(hello.u.hello.worker, "w", 2);
    memcpy(hello.u.hello.config_digest, f->run.job->digest, sizeof f->run.job->digest);
    say(worker, &hello);
    answer = hear(worker);
    assert_int_equal(answer.kind, WIRE_WELCOME);
    assert_int_equal(answer.u.welcome.protocol, WIRE_PROTOCOL);
    assert_int_equal(answer.u.welcome.job, f->run.row.job);
    hello.u.hello.protocol = WIRE_PROTOCOL + 2;
    say(worker, &hello);
    answer = hear(worker);
    assert_int_equal(answer.kind, WIRE_REFUSED);
    assert_non_null(strstr(answer.u.refused.reason, "protocol 3"));
    hello.u.hello.protocol = WIRE_PROTOCOL;
    memcpy(hello.u.hello.config_digest, "another", sizeof "another");
    say(worker, &hello);
    answer = hear(worker);
    assert_int_equal(answer.kind, WIRE_REFUSED);
    assert_non_null(strstr(answer.u.refused.reason, "another job file"));
    hello.u.hello.worker[0] = '\0';
    say(worker, &hello);
    answer = hear(worker);
    assert_int_equal(answer.kind, WIRE_REFUSED);
    assert_non_null(strstr(answer.u.refused.reason, "name"));
    leave(worker);
    teardown(f);
}

/* A request is a credit: one answer each, and none without. */
static void each_request_has_one_answer(void **state) /* DR 40 */
{
    struct fixture *f = setup(NULL);
    void *a = join(f), *b = join(f);
    zmq_pollitem_t idle[] = {{.socket = a, .events = ZMQ_POLLIN},
                             {.socket = b, .events = ZMQ_POLLIN}};
    struct wire_message none;

    (void)state;
    for (int64_t s = 0; s < N_SHARDS; s++)
        assert_int_equal(take(f, s == 1 ? b : a).shard, s);
    none = ask(b);
    assert_int_equal(none.kind, WIRE_NO_WORK);
    assert_false(none.u.no_work.finished); /* a lease may still come back */
    assert_true(none.u.no_work.wait_ms > 0 && none.u.no_work.wait_ms <= 1000);
    assert_int_equal(zmq_poll(idle, 2, 0), 0);
    leave(a);
    leave(b);
    teardown(f);
}

static void a_lease_expires_when_heartbeats_stop(void **state) /* DR 40 */
{
    struct fixture *f = setup(NULL);
    void *alive = join(f), *dead = join(f), *new = join(f);
    struct catalog_lease kept = take(f, alive), lost = take(f, dead), other = take(f, alive), again;
    struct error err = {0};

    (void)state;
    assert_ok(commit_part(f, &lost, &err)); /* stays, whoever goes on */
    assert_int_equal(lost.expires_ms, START_MS + LEASE_MS);
    atomic_store(&now_ms, START_MS + LEASE_MS - 1);
    assert_false(beat_is_lost(alive, &kept, 0, 0));
    assert_false(beat_is_lost(alive, &other, 0, 0));
    assert_int_equal(ask(new).kind, WIRE_NO_WORK); /* not yet */
    atomic_store(&now_ms, START_MS + LEASE_MS + 1);
    again = take(f, new);
    assert_int_equal(again.shard, lost.shard);
    assert_true(again.epoch > lost.epoch);
    assert_int_equal(again.n_parts, 1);
    assert_int_equal(again.next_index, 1);

    /* The dead one wakes up: it is told so, and what it commits is refused. */
    assert_true(beat_is_lost(dead, &lost, 1, 0));
    lost.n_parts = 1;
    lost.next_index = 1;
    assert_status(commit_part(f, &lost, &err), ST_CONFLICT);
    end(dead, &lost, WIRE_OUTCOME_FAILED, 1, 0);
    assert_false(beat_is_lost(new, &again, 1, 0)); /* the stale result has taken nothing away */
    assert_ok(commit_part(f, &again, &err));
    assert_false(beat_is_lost(alive, &kept, 0, 0));
    leave(alive);
    leave(dead);
    leave(new);
    teardown(f);
}

static void a_drained_shard_goes_to_the_next_worker_at_once(void **state) /* DR 40 */
{
    struct fixture *f = setup(NULL);
    void *a = join(f), *b = join(f);
    struct catalog_lease first = take(f, a), again;
    struct wire_message grant;
    struct error err = {0};

    (void)state;
    assert_ok(commit_part(f, &first, &err));
    end(a, &first, WIRE_OUTCOME_RELEASED, 1, 0);
    assert_true(beat_is_lost(a, &first, 1, 0)); /* answered in order: the shard is given back */
    leave(a);
    again = take(f, b);
    assert_int_equal(again.shard, first.shard);
    assert_int_equal(again.next_index, 1);
    end(b, &again, WIRE_OUTCOME_RELEASED, 0, 0);
    for (int i = 0; i < 2 * MAX_ATTEMPTS; i++) { /* a release is no attempt */
        grant = ask(b);
        assert_int_equal(grant.kind, WIRE_LEASE_GRANT);
        again.epoch = grant.u.lease_grant.epoch;
        end(b, &again, WIRE_OUTCOME_RELEASED, 0, 0);
    }
    leave(b);
    teardown(f);
}

static void a_shard_that_fails_each_time_is_given_up(void **state)
{
    struct fixture *f = setup(NULL);
    void *worker = join(f);
    struct wire_message answer;
    int n = 0;

    (void)state;
    while ((answer = ask(worker)).kind == WIRE_LEASE_GRANT) {
        const struct catalog_lease lease = {.shard = answer.u.lease_grant.shard,
                                            .epoch = answer.u.lease_grant.epoch};

        end(worker, &lease, WIRE_OUTCOME_FAILED, 0, 0);
        assert_true(++n <= N_SHARDS * MAX_ATTEMPTS);
    }
    assert_int_equal(n, N_SHARDS * MAX_ATTEMPTS);
    assert_int_equal(answer.kind, WIRE_NO_WORK);
    assert_true(answer.u.no_work.finished);
    leave(worker);
    teardown(f);
}

static void all_shards_done_is_the_end(void **state)
{
    const struct object_written written = {.bytes = 1, .sha256 = "00"};
    struct fixture *f = setup(NULL);
    void *worker = join(f);
    struct wire_message answer;
    struct error err = {0};

    (void)state;
    for (int s = 0; s < N_SHARDS; s++) {
        struct catalog_lease lease = take(f, worker);

        assert_ok(catalog_shard_commit(f->run.catalog, &lease, "o", &written, &err));
        end(worker, &lease, WIRE_OUTCOME_DONE, 1, 0);
    }
    answer = ask(worker);
    assert_int_equal(answer.kind, WIRE_NO_WORK);
    assert_true(answer.u.no_work.finished);
    leave(worker);
    teardown(f);
}

/* A shard may begin and end between two heartbeats, so its result counts too. */
static void the_failure_budget_counts_each_sample_once(void **state)
{
    static const char *const sets[] = {"budget.failure_fraction=0.25", "budget.failure_window=20",
                                       NULL};
    static const struct {
        const char *name;
        int beats; /* before the result */
        uint64_t done, quarantined;
        enum dispatcher_verdict want;
    } cases[] = {
        {"too many, by the result alone", 0, 14, 6, DISPATCHER_OVER_BUDGET},
        {"just few enough", 0, 15, 5, DISPATCHER_WORKING},
        {"no full window", 0, 0, 19, DISPATCHER_WORKING},
        {"the same count reported again", 3, 4, 6, DISPATCHER_WORKING},
        {"too many, by a heartbeat", 1, 14, 6, DISPATCHER_OVER_BUDGET},
    };

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct fixture *f = setup(sets);
        void *worker = join(f);
        struct catalog_lease lease = take(f, worker);
        struct wire_message answer;

        for (int b = 0; b < cases[c].beats; b++)
            (void)beat_is_lost(worker, &lease, cases[c].done, cases[c].quarantined);
        end(worker, &lease, WIRE_OUTCOME_DONE, cases[c].done, cases[c].quarantined);
        answer = ask(worker); /* after it, in order: the result has been taken */
        if (dispatcher_verdict(f->dispatcher) != cases[c].want)
            fail_msg("%s: verdict %d", cases[c].name, (int)dispatcher_verdict(f->dispatcher));
        if (cases[c].want == DISPATCHER_OVER_BUDGET)
            assert_true(answer.kind == WIRE_NO_WORK && answer.u.no_work.finished);
        else
            assert_int_equal(answer.kind, WIRE_LEASE_GRANT);
        leave(worker);
        teardown(f);
    }
}

/* More frames than one: were they read on, the second and third would be a message of `other`. */
static void speak_for(void *worker, void *other)
{
    const struct wire_message request = {.kind = WIRE_LEASE_REQUEST};
    struct error err = {0};
    struct byte_buf buf;
    char id[256];
    size_t id_len = sizeof id;

    byte_buf_init(&buf, 1 << 16);
    assert_ok(wire_encode(&request, &buf, &err));
    assert_int_equal(zmq_getsockopt(other, ZMQ_ROUTING_ID, id, &id_len), 0);
    assert_true(zmq_send(worker, "x", 1, ZMQ_SNDMORE) == 1);
    assert_true(zmq_send(worker, id, id_len, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(worker, buf.data, buf.len, 0) >= 0);
    byte_buf_release(&buf);
}

/* A heartbeat and its answer. */
static void beat(void *socket, const struct catalog_lease *lease, uint64_t left)
{
    struct wire_message message = {.kind = WIRE_HEARTBEAT};

    message.u.heartbeat.job = job_id;
    message.u.heartbeat.shard = lease->shard;
    message.u.heartbeat.epoch = lease->epoch;
    message.u.heartbeat.samples_left = left;
    say(socket, &message);
    message = hear(socket);
    assert_int_equal(message.kind, WIRE_HEARTBEAT_REPLY);
    assert_false(message.u.heartbeat_reply.split);
}

/* What is asked of `socket` while `idle` asks for work. */
static void assert_asked_to_split(void *idle, void *socket, const struct catalog_lease *lease)
{
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    struct wire_message message;

    do
        assert_int_equal(ask(idle).kind, WIRE_NO_WORK);
    while (zmq_poll(&item, 1, 30) == 0);
    message = hear(socket);
    assert_int_equal(message.kind, WIRE_HEARTBEAT_REPLY);
    assert_int_equal(message.u.heartbeat_reply.shard, lease->shard);
    assert_int_equal(message.u.heartbeat_reply.epoch, lease->epoch);
    assert_true(message.u.heartbeat_reply.split);
    assert_false(message.u.heartbeat_reply.lost || message.u.heartbeat_reply.stop);
}

/* Who has most left is asked, down to what is too little to share; then nobody. */
static void an_idle_worker_lets_the_one_with_most_left_be_asked_to_share(void **state) /* DR 40 */
{
    struct fixture *f = setup(NULL);
    void *a = join(f), *b = come(f, ENDPOINT), *idle = come(f, ENDPOINT);
    zmq_pollitem_t quiet[] = {{.socket = a, .events = ZMQ_POLLIN},
                              {.socket = b, .events = ZMQ_POLLIN}};
    struct catalog_lease first, second, third, piece;
    struct wire_message answer;
    struct error err = {0};

    (void)state;
    greet(b, "b");
    greet(idle, "idle");
    first = take(f, a);
    second = take(f, b);
    third = take(f, idle);
    assert_int_equal(ask(idle).kind, WIRE_NO_WORK);
    assert_int_equal(zmq_poll(quiet, 2, 20), 0); /* nobody has said what is left */
    beat(a, &first, 2 * WIRE_SPLIT_MIN);
    beat(b, &second, 3 * WIRE_SPLIT_MIN);
    assert_asked_to_split(idle, b, &second);
    assert_asked_to_split(idle, a, &first); /* b has half of it now, as far as we know */
    assert_asked_to_split(idle, b, &second);
    assert_asked_to_split(idle, a, &first);
    assert_int_equal(ask(idle).kind, WIRE_NO_WORK);
    assert_int_equal(zmq_poll(quiet, 2, 20), 0);
    beat(a, &first, UINT64_MAX); /* not known: it may be much */
    assert_asked_to_split(idle, a, &first);
    assert_ok(catalog_lease_split(f->run.catalog, &first, 100, 50, &err));
    piece = take(f, idle);
    assert_int_equal(piece.shard, -1);
    assert_int_equal(piece.next_index, 50);
    end(a, &first, WIRE_OUTCOME_RELEASED, 0, 0);
    answer = ask(a);
    assert_int_equal(answer.kind, WIRE_LEASE_GRANT);
    assert_int_equal(answer.u.lease_grant.shard, first.shard);
    assert_int_equal(answer.u.lease_grant.end_index, 50);
    (void)third;
    leave(a);
    leave(b);
    leave(idle);
    teardown(f);
}

/* DR 40: one that lives and does not get on, while others do. */
static void a_straggler_gets_a_rival_and_the_first_to_commit_wins(void **state)
{
    struct fixture *f = setup(NULL);
    void *workers[N_SHARDS], *idle = come(f, ENDPOINT);
    struct catalog_lease leases[N_SHARDS], second;
    struct catalog_progress progress;
    struct error err = {0};

    (void)state;
    greet(idle, "idle");
    for (int i = 0; i < N_SHARDS; i++) {
        workers[i] = join(f);
        leases[i] = take(f, workers[i]);
    }
    for (int64_t s = 1; s <= 61; s += 20) { /* the first commits once, the others always */
        atomic_store(&now_ms, START_MS + s * 1000);
        for (int i = 0; i < N_SHARDS; i++)
            assert_false(beat_is_lost(workers[i], &leases[i], i == 0 ? 1 : (uint64_t)s, 0));
        assert_int_equal(s < 61 ? (int)ask(idle).kind : (int)WIRE_NO_WORK, WIRE_NO_WORK);
    }
    second = (struct catalog_lease){0};
    while (second.epoch == 0) { /* who has something to share is looked for first */
        struct wire_message answer = ask(idle);

        if (answer.kind == WIRE_LEASE_GRANT)
            second = (struct catalog_lease){.job = f->run.row.job,
                                            .shard = answer.u.lease_grant.shard,
                                            .epoch = answer.u.lease_grant.epoch};
    }
    assert_int_equal(second.shard, leases[0].shard);
    assert_true(second.epoch > leases[0].epoch);
    assert_ok(catalog_read_progress(f->run.catalog, f->run.row.job, &progress, &err));
    assert_int_equal(progress.rivals, 1);
    assert_int_equal(ask(idle).kind, WIRE_NO_WORK); /* one is enough */
    assert_false(beat_is_lost(workers[0], &leases[0], 1, 0));
    assert_false(beat_is_lost(idle, &second, 0, 0));
    assert_ok(commit_part(f, &second, &err));
    assert_true(beat_is_lost(workers[0], &leases[0], 1, 0));
    assert_false(beat_is_lost(idle, &second, 1, 0));
    assert_status(commit_part(f, &leases[0], &err), ST_CONFLICT);
    for (int i = 0; i < N_SHARDS; i++)
        leave(workers[i]);
    leave(idle);
    teardown(f);
}

static void what_is_no_message_of_a_worker_is_ignored(void **state)
{
    struct fixture *f = setup(NULL);
    void *worker = join(f), *other = zmq_socket(f->zmq, ZMQ_DEALER);
    const struct wire_message wrong = {.kind = WIRE_NO_WORK};
    zmq_pollitem_t item = {.socket = other, .events = ZMQ_POLLIN};

    (void)state;
    assert_non_null(other);
    assert_int_equal(zmq_setsockopt(other, ZMQ_ROUTING_ID, "other", 5), 0);
    assert_int_equal(zmq_connect(other, ENDPOINT), 0);
    greet(other, "other");
    assert_int_equal(zmq_send(worker, "\xff\xff\xff", 3, 0), 3);
    assert_int_equal(zmq_send(worker, "", 0, 0), 0);
    say(worker, &wrong);
    speak_for(worker, other);
    /* The next answer is to the next message. */
    assert_true(beat_is_lost(worker, &(struct catalog_lease){.shard = 99, .epoch = 1}, 0, 0));
    assert_int_equal(take(f, worker).shard, 0);
    assert_int_equal(zmq_poll(&item, 1, 0), 0); /* the other one never asked */
    assert_int_equal(dispatcher_verdict(f->dispatcher), DISPATCHER_WORKING);
    leave(worker);
    leave(other);
    teardown(f);
}

/* As after a coordinator has begun anew: nothing of what was said was heard. */
static void a_worker_that_is_not_known_is_asked_who_it_is(void **state)
{
    struct fixture *f = setup(NULL);
    const struct catalog_lease lease = {.shard = 0, .epoch = 1};
    void *worker = come(f, ENDPOINT);
    struct wire_message result = {.kind = WIRE_LEASE_RESULT};

    (void)state;
    assert_int_equal(ask_as(worker, 1).kind, WIRE_WHO_ARE_YOU);
    result.u.lease_result.job = job_id;
    result.u.lease_result.outcome = WIRE_OUTCOME_RELEASED;
    say(worker, &result);
    assert_int_equal(hear(worker).kind, WIRE_WHO_ARE_YOU);
    greet(worker, "w");
    assert_int_equal(ask_as(worker, 1).kind, WIRE_LEASE_GRANT);
    assert_false(beat_is_lost(worker, &lease, 0, 0));
    leave(worker);
    teardown(f);
}

/* The first answer was lost, or is late. */
static void the_same_request_has_the_same_lease(void **state)
{
    struct fixture *f = setup(NULL);
    void *worker = join(f), *other = join(f);
    struct wire_message first = ask_as(worker, 1), again, third;
    struct catalog_lease lease = {.shard = first.u.lease_grant.shard,
                                  .epoch = first.u.lease_grant.epoch};

    (void)state;
    assert_int_equal(first.kind, WIRE_LEASE_GRANT);
    again = ask_as(worker, 1);
    assert_memory_equal(&again, &first, sizeof first);
    third = ask_as(other, 1); /* numbers are each worker's own */
    assert_int_equal(third.kind, WIRE_LEASE_GRANT);
    assert_int_not_equal(third.u.lease_grant.shard, lease.shard);
    greet(worker, "w"); /* the connection was lost, the worker is the same */
    again = ask_as(worker, 1);
    assert_memory_equal(&again, &first, sizeof first);
    end(worker, &lease, WIRE_OUTCOME_RELEASED, 0, 0);
    again = ask_as(worker, 1); /* it has ended: a new one */
    assert_int_equal(again.kind, WIRE_LEASE_GRANT);
    assert_true(again.u.lease_grant.epoch > first.u.lease_grant.epoch);
    leave(worker);
    leave(other);
    teardown(f);
}

static enum status keep_owner(void *ctx, const struct catalog_shard_row *row, struct error *err)
{
    (void)err;
    (void)snprintf(ctx, 128, "%s", row->owner);
    return ST_OK;
}

static void a_lease_belongs_to_the_worker_by_name(void **state)
{
    struct fixture *f = setup(NULL);
    void *worker = come(f, ENDPOINT);
    struct error err = {0};
    char owner[128] = "";

    (void)state;
    greet(worker, "host:1:0-abcd");
    (void)take(f, worker);
    assert_ok(catalog_shards(f->run.catalog, job_id, CATALOG_SHARD_LEASED, START_MS, keep_owner,
                             owner, &err));
    assert_string_equal(owner, "host:1:0-abcd");
    leave(worker);
    teardown(f);
}

/* Its acknowledgement was lost. */
static void a_result_that_is_said_twice_counts_once(void **state)
{
    static const char *const sets[] = {"budget.failure_fraction=0.25", "budget.failure_window=20",
                                       NULL};
    struct fixture *f = setup(sets);
    void *worker = join(f);
    struct catalog_lease lease = take(f, worker);

    (void)state;
    for (int i = 0; i < 5; i++)
        end(worker, &lease, WIRE_OUTCOME_DONE, 4, 6);
    assert_int_equal(dispatcher_verdict(f->dispatcher), DISPATCHER_WORKING);
    leave(worker);
    teardown(f);
}

static void the_longest_key_arrives_whole(void **state)
{
    struct fixture *f = setup(NULL);
    struct small_run *run = &f->run;
    struct catalog_shard_plan shard = {.source = CATALOG_INPUT_JOB, .input_format = "jsonl"};
    char key[OBJECT_KEY_MAX + 1];
    const char *stored;
    struct catalog_job row;
    struct dispatcher *dispatcher;
    struct error err = {0};
    void *worker;

    (void)state;
    memset(key, 'k', sizeof key - 1);
    for (size_t i = 127; i < sizeof key - 2; i += 128)
        key[i] = '/';
    key[sizeof key - 1] = '\0';
    assert_ok(object_key_check(key, &err));
    shard.input_key = key;
    assert_ok(catalog_job_begin(run->catalog, "long", run->job->digest, "{}", 1, &run->arena, &row,
                                &stored, &err));
    assert_ok(catalog_plan_commit(run->catalog, &row, &shard, 1, true, &err));
    job_id = row.job;
    {
        const struct dispatcher_options options = {.zmq = f->zmq,
                                                   .endpoint = ENDPOINT "-long",
                                                   .job = run->job,
                                                   .job_id = row.job,
                                                   .catalog_url = run->catalog_url,
                                                   .wall_ms = fake_wall_ms};

        assert_ok(dispatcher_create(&options, &dispatcher, &err));
    }
    worker = come(f, ENDPOINT "-long");
    greet(worker, "w");
    assert_string_equal(ask(worker).u.lease_grant.input_key, key);
    leave(worker);
    dispatcher_destroy(&dispatcher);
    teardown(f);
}

static void what_cannot_be_started_says_why(void **state)
{
    struct fixture *f = setup(NULL);
    struct dispatcher *second;
    struct error err = {0};
    struct dispatcher_options options = {.zmq = f->zmq,
                                         .endpoint = ENDPOINT, /* taken */
                                         .job = f->run.job,
                                         .job_id = f->run.row.job,
                                         .catalog_url = f->run.catalog_url};

    (void)state;
    assert_status(dispatcher_create(&options, &second, &err), ST_UNAVAILABLE);
    assert_null(second);
    assert_non_null(strstr(err.message, ENDPOINT));
    options.endpoint = ENDPOINT "-free";
    options.catalog_url = "nosuch:x";
    assert_status(dispatcher_create(&options, &second, &err), ST_INVALID);
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_of_another_job_or_release_is_refused),
        cmocka_unit_test(each_request_has_one_answer),
        cmocka_unit_test(a_lease_expires_when_heartbeats_stop),
        cmocka_unit_test(a_drained_shard_goes_to_the_next_worker_at_once),
        cmocka_unit_test(a_shard_that_fails_each_time_is_given_up),
        cmocka_unit_test(all_shards_done_is_the_end),
        cmocka_unit_test(the_failure_budget_counts_each_sample_once),
        cmocka_unit_test(a_straggler_gets_a_rival_and_the_first_to_commit_wins),
        cmocka_unit_test(an_idle_worker_lets_the_one_with_most_left_be_asked_to_share),
        cmocka_unit_test(what_is_no_message_of_a_worker_is_ignored),
        cmocka_unit_test(a_worker_that_is_not_known_is_asked_who_it_is),
        cmocka_unit_test(the_same_request_has_the_same_lease),
        cmocka_unit_test(a_lease_belongs_to_the_worker_by_name),
        cmocka_unit_test(a_result_that_is_said_twice_counts_once),
        cmocka_unit_test(the_longest_key_arrives_whole),
        cmocka_unit_test(what_cannot_be_started_says_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
