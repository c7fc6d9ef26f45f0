#include "coordinator/dispatcher.h"
#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "tests/support/small_run.h"
#include "tests/support/test.h"
#include "worker/agent.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

#define ENDPOINT "inproc://agent-test"

enum { DEADLINE_MS = 60000, N_SHARDS = 4, SHARD_SAMPLES = 21 };

/* An agent on a thread of its own, over models and stores that workers share. */
struct worker {
    struct agent_options options;
    const char *address;
    struct stage_context context;
    struct worker_stats stats; /* its own, to see what it has done */
    struct wake wake;
    atomic_bool drain;
    pthread_t thread;
    enum status status;
    struct error error;
};

static void *run_agent(void *arg)
{
    struct worker *worker = arg;

    worker->status = agent_run(&worker->options, &worker->error);
    return NULL;
}

static void launch(struct worker *worker, struct small_run *run, void *zmq, const char *name,
                   const char *address, int64_t answer_ms)
{
    struct error err = {0};

    memset(worker, 0, sizeof *worker);
    assert_ok(wake_init(&worker->wake, &err));
    worker->context = run->context;
    worker->context.stats = &worker->stats;
    worker->address = address;
    worker->options = (struct agent_options){.zmq = zmq,
                                             .addresses = &worker->address,
                                             .n_addresses = 1,
                                             .name = name,
                                             .job_id = run->row.job,
                                             .context = &worker->context,
                                             .catalog_url = run->catalog_url,
                                             .threads = 2,
                                             .drain = &worker->drain,
                                             .wake = &worker->wake,
                                             .answer_ms = answer_ms};
    assert_int_equal(pthread_create(&worker->thread, NULL, run_agent, worker), 0);
}

static void start(struct worker *worker, struct small_run *run, void *zmq, const char *name)
{
    launch(worker, run, zmq, name, ENDPOINT, 0);
}

static void drain(struct worker *worker)
{
    atomic_store(&worker->drain, true);
    wake_signal(&worker->wake);
}

static void join(struct worker *worker, enum status want)
{
    assert_int_equal(pthread_join(worker->thread, NULL), 0);
    if (worker->status != want)
        fail_msg("%s ended with %s: %s", worker->options.name, status_name(worker->status),
                 worker->error.message);
    wake_release(&worker->wake);
}

static void await_samples(const struct worker *worker, long long n)
{
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;

    while (atomic_load(&worker->stats.samples_done) < n) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        (void)sched_yield();
    }
}

static void put_input(struct small_run *run)
{
    for (int s = 0; s < N_SHARDS; s++) {
        char name[16];

        (void)snprintf(name, sizeof name, "part-%d", s);
        small_run_put_samples(run, name, SHARD_SAMPLES);
    }
    small_run_put_text(run, "img/part-2-007.png", "no picture"); /* one to quarantine */
    small_run_plan(run);
}

static struct dispatcher *dispatch(struct small_run *run, void *zmq)
{
    const struct dispatcher_options options = {.zmq = zmq,
                                               .endpoint = ENDPOINT,
                                               .job = run->job,
                                               .job_id = run->row.job,
                                               .catalog_url = run->catalog_url};
    struct dispatcher *dispatcher;
    struct error err = {0};

    assert_ok(dispatcher_create(&options, &dispatcher, &err));
    return dispatcher;
}

/* DR 40: one worker begins, others come, the first leaves in the middle of a shard: the bytes are
 * those of one that did it all alone. */
static void workers_that_come_and_go_change_nothing(void **state)
{
    static const char *const sets[] = {"workers.part_samples=2", "workers.queue_items=4", NULL};
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct small_run alone, together;
    struct catalog_progress progress;
    struct dispatcher *dispatcher;
    struct worker first, second, third;
    struct error err = {0};
    void *zmq = zmq_ctx_new();

    (void)state;
    assert_non_null(zmq);
    small_run_init(&alone, NULL);
    put_input(&alone);
    small_run_work(&alone, 1, WIRE_OUTCOME_DONE);

    small_run_init(&together, sets);
    put_input(&together);
    dispatcher = dispatch(&together, zmq);
    start(&first, &together, zmq, "first");
    await_samples(&first, 2);
    start(&second, &together, zmq, "second");
    drain(&first);
    join(&first, ST_OK);
    start(&third, &together, zmq, "third");
    join(&second, ST_OK);
    join(&third, ST_OK);
    assert_int_equal(dispatcher_verdict(dispatcher), DISPATCHER_WORKING);
    dispatcher_destroy(&dispatcher);
    assert_int_equal(zmq_ctx_term(zmq), 0);

    assert_ok(catalog_read_progress(together.catalog, together.row.job, &progress, &err));
    assert_int_equal(progress.shards_done, N_SHARDS);
    assert_int_equal(progress.samples_done, N_SHARDS * SHARD_SAMPLES - 1);
    assert_int_equal(progress.samples_quarantined, 1);
    assert_int_equal(small_run_samples(&together, samples), N_SHARDS * SHARD_SAMPLES);
    small_run_assert_same(&alone, &together, N_SHARDS);
    small_run_release(&together);
    small_run_release(&alone);
}

static void a_worker_of_another_job_learns_why_it_is_refused(void **state)
{
    static const char *const sets[] = {"seed=6", NULL};
    struct small_run run, other;
    struct dispatcher *dispatcher;
    struct worker worker;
    void *zmq = zmq_ctx_new();

    (void)state;
    assert_non_null(zmq);
    small_run_init(&run, NULL);
    small_run_init(&other, sets);
    put_input(&run);
    other.row.job = run.row.job;
    dispatcher = dispatch(&run, zmq);
    start(&worker, &other, zmq, "stranger");
    join(&worker, ST_INVALID);
    assert_non_null(strstr(worker.error.message, "another job file"));
    assert_non_null(strstr(worker.error.context, "stranger"));
    dispatcher_destroy(&dispatcher);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&other);
    small_run_release(&run);
}

/* The coordinator's side of the socket, spoken by the test. */
struct coordinator {
    void *socket; /* ROUTER */
    char address[256];
    char id[256];
    size_t id_len;
};

static void coordinator_open_at(struct coordinator *c, void *zmq, const char *address)
{
    struct error err = {0};

    assert_ok(endpoint_bind(zmq, address, NULL, NULL, &c->socket, &err));
    assert_ok(endpoint_bound(c->socket, c->address, &err));
}

static void coordinator_open(struct coordinator *c, void *zmq)
{
    coordinator_open_at(c, zmq, ENDPOINT);
}

static struct wire_message hear(struct coordinator *c)
{
    zmq_pollitem_t item = {.socket = c->socket, .events = ZMQ_POLLIN};
    struct wire_message message;
    struct error err = {0};
    zmq_msg_t frame;
    int n;

    assert_int_equal(zmq_poll(&item, 1, DEADLINE_MS), 1);
    n = zmq_recv(c->socket, c->id, sizeof c->id, 0);
    assert_true(n > 0);
    c->id_len = (size_t)n;
    assert_int_equal(zmq_msg_init(&frame), 0);
    assert_true(zmq_msg_recv(&frame, c->socket, 0) >= 0);
    assert_ok(
        wire_decode(bytes_view_of(zmq_msg_data(&frame), zmq_msg_size(&frame)), &message, &err));
    assert_int_equal(zmq_msg_close(&frame), 0);
    return message;
}

static void say(struct coordinator *c, const struct wire_message *message)
{
    struct error err = {0};
    struct byte_buf buf;

    byte_buf_init(&buf, 1 << 16);
    assert_ok(wire_encode(message, &buf, &err));
    assert_true(zmq_send(c->socket, c->id, c->id_len, ZMQ_SNDMORE) >= 0);
    assert_true(zmq_send(c->socket, buf.data, buf.len, 0) >= 0);
    byte_buf_release(&buf);
}

static void welcome(struct coordinator *c, const struct small_run *run)
{
    struct wire_message message = hear(c);

    assert_int_equal(message.kind, WIRE_HELLO);
    assert_string_equal(message.u.hello.config_digest, run->job->digest);
    message = (struct wire_message){.kind = WIRE_WELCOME};
    message.u.welcome.protocol = WIRE_PROTOCOL;
    message.u.welcome.job = run->row.job;
    say(c, &message);
}

/* The worker's next request. */
static uint64_t hear_request(struct coordinator *c)
{
    struct wire_message message = hear(c);

    assert_int_equal(message.kind, WIRE_LEASE_REQUEST);
    return message.u.lease_request.number;
}

/* A grant of the run's next lease, as the answer to request `number`. */
static struct wire_message grant_of(struct small_run *run, uint64_t number)
{
    struct shard_work *work = small_run_lease(run, clock_wall_ms());
    struct wire_message grant = {.kind = WIRE_LEASE_GRANT};

    assert_non_null(work);
    grant.u.lease_grant.number = number;
    grant.u.lease_grant.job = run->row.job;
    grant.u.lease_grant.shard = work->lease.shard;
    grant.u.lease_grant.epoch = work->lease.epoch;
    grant.u.lease_grant.input_source = WIRE_SOURCE_INPUT;
    grant.u.lease_grant.input_end = work->lease.plan.input_end;
    (void)snprintf(grant.u.lease_grant.input_key, sizeof grant.u.lease_grant.input_key, "%s",
                   work->lease.plan.input_key);
    (void)snprintf(grant.u.lease_grant.input_format, sizeof grant.u.lease_grant.input_format, "%s",
                   work->lease.plan.input_format);
    free(work);
    return grant;
}

/* Answers the worker's next request: there is no more. */
static void send_home(struct coordinator *c)
{
    struct wire_message finished = {.kind = WIRE_NO_WORK}, message;

    do
        message = hear(c);
    while (message.kind != WIRE_LEASE_REQUEST);
    finished.u.no_work.number = message.u.lease_request.number;
    finished.u.no_work.finished = true;
    say(c, &finished);
}

static void acknowledge(struct coordinator *c, const struct wire_message *result)
{
    struct wire_message taken = {.kind = WIRE_RESULT_TAKEN};

    taken.u.result_taken.job = result->u.lease_result.job;
    taken.u.result_taken.shard = result->u.lease_result.shard;
    taken.u.result_taken.epoch = result->u.lease_result.epoch;
    say(c, &taken);
}

static struct wire_message hear_result(struct coordinator *c)
{
    for (;;) {
        struct wire_message message = hear(c);

        if (message.kind == WIRE_LEASE_RESULT) {
            acknowledge(c, &message);
            return message;
        }
    }
}

static void a_result_tells_what_was_committed(void **state)
{
    struct wire_message message;
    struct coordinator c;
    struct small_run run;
    struct worker worker;
    void *zmq = zmq_ctx_new();

    (void)state;
    assert_non_null(zmq);
    coordinator_open(&c, zmq);
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "s", 9);
    small_run_put_text(&run, "img/s-003.png", "no picture");
    small_run_plan(&run);
    launch(&worker, &run, zmq, "w", ENDPOINT, 300);
    welcome(&c, &run);
    message = grant_of(&run, hear_request(&c));
    say(&c, &message);
    message = hear_result(&c);
    assert_int_equal(message.u.lease_result.outcome, WIRE_OUTCOME_DONE);
    assert_int_equal(message.u.lease_result.samples_done, 8);
    assert_int_equal(message.u.lease_result.samples_quarantined, 1);
    send_home(&c);
    join(&worker, ST_OK);
    assert_int_equal(zmq_close(c.socket), 0);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
}

/* The answer is lost, then late, then said twice: one lease is worked on, once. Frames that make no
 * sense change nothing. */
static void a_lost_answer_is_asked_for_again(void **state)
{
    struct wire_message message, grant = {0};
    struct coordinator c;
    struct small_run run;
    struct worker worker;
    const struct wire_message nonsense = {.kind = WIRE_LEASE_REQUEST};
    int n_requests = 0;
    uint64_t first = 0;
    void *zmq = zmq_ctx_new();

    (void)state;
    assert_non_null(zmq);
    coordinator_open(&c, zmq);
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "s", 5);
    small_run_plan(&run);
    launch(&worker, &run, zmq, "w", ENDPOINT, 300);
    welcome(&c, &run);
    say(&c, &nonsense);
    assert_true(zmq_send(c.socket, c.id, c.id_len, ZMQ_SNDMORE) >= 0);
    assert_int_equal(zmq_send(c.socket, "\xff\xff", 2, 0), 2);
    do {
        message = hear(&c);
        if (message.kind != WIRE_LEASE_REQUEST)
            continue;
        n_requests++;
        if (first == 0)
            first = message.u.lease_request.number;
        if (message.u.lease_request.number == first && grant.kind == 0)
            grant = grant_of(&run, first);
        if (message.u.lease_request.number == first && n_requests > 1) {
            say(&c, &grant);
            say(&c, &grant);
        }
    } while (message.kind != WIRE_LEASE_RESULT);
    assert_true(n_requests >= 2);
    assert_int_equal(message.u.lease_result.outcome, WIRE_OUTCOME_DONE);
    assert_int_equal(message.u.lease_result.samples_done, 5);
    message = hear_result(&c); /* it was not acknowledged */
    assert_int_equal(message.u.lease_result.outcome, WIRE_OUTCOME_DONE);
    send_home(&c);
    join(&worker, ST_OK);
    assert_int_equal(zmq_close(c.socket), 0);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
}

/* What is held when the coordinator goes is finished and committed; the next one hears of it. */
static void a_worker_works_on_while_the_coordinator_is_away(void **state)
{
    static const char *const sets[] = {"workers.lease=1s", NULL};
    struct wire_message message;
    struct catalog_progress progress;
    struct coordinator c;
    struct small_run run;
    struct worker worker;
    struct error err = {0};
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;
    void *zmq = zmq_ctx_new();

    (void)state;
    assert_non_null(zmq);
    coordinator_open_at(&c, zmq, "tcp://127.0.0.1:*");
    small_run_init(&run, sets);
    small_run_put_samples(&run, "s", 30);
    small_run_plan(&run);
    launch(&worker, &run, zmq, "w", c.address, 300);
    welcome(&c, &run);
    memory_budget_reserve(&run.budget,
                          (size_t)run.job->workers.memory_bytes); /* it cannot decode */
    message = grant_of(&run, hear_request(&c));
    say(&c, &message);
    assert_int_equal(hear(&c).kind, WIRE_HEARTBEAT); /* it has the lease */
    assert_int_equal(zmq_close(c.socket), 0);
    memory_budget_free(&run.budget, (size_t)run.job->workers.memory_bytes);
    do {
        assert_true(clock_monotonic_ms() < deadline_ms);
        assert_ok(catalog_read_progress(run.catalog, run.row.job, &progress, &err));
    } while (progress.shards_done == 0);
    coordinator_open_at(&c, zmq, c.address);
    welcome(&c, &run);
    message = hear_result(&c);
    assert_int_equal(message.u.lease_result.outcome, WIRE_OUTCOME_DONE);
    assert_int_equal(message.u.lease_result.samples_done, 30);
    send_home(&c);
    join(&worker, ST_OK);
    assert_int_equal(zmq_close(c.socket), 0);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
}

/* The job is paused: what is finished is committed, the rest of the shard goes back. */
static void a_worker_told_to_stop_hands_the_rest_back(void **state)
{
    static const char *const sets[] = {"workers.queue_items=1", "workers.lease=1s", NULL};
    struct wire_message message, stop = {.kind = WIRE_HEARTBEAT_REPLY};
    struct coordinator c;
    struct small_run run;
    struct worker worker;
    void *zmq = zmq_ctx_new();

    (void)state;
    assert_non_null(zmq);
    coordinator_open(&c, zmq);
    small_run_init(&run, sets);
    small_run_put_samples(&run, "s", 40);
    small_run_plan(&run);
    launch(&worker, &run, zmq, "w", ENDPOINT, 300);
    welcome(&c, &run);
    memory_budget_reserve(&run.budget,
                          (size_t)run.job->workers.memory_bytes); /* it cannot decode */
    message = grant_of(&run, hear_request(&c));
    say(&c, &message);
    stop.u.heartbeat_reply.shard = message.u.lease_grant.shard;
    stop.u.heartbeat_reply.epoch = message.u.lease_grant.epoch;
    stop.u.heartbeat_reply.stop = true;
    assert_int_equal(hear(&c).kind, WIRE_HEARTBEAT);
    say(&c, &stop);
    for (int i = 0; i < 2; i++) /* the second is sent after the answer was read */
        assert_int_equal(hear(&c).kind, WIRE_HEARTBEAT);
    memory_budget_free(&run.budget, (size_t)run.job->workers.memory_bytes);
    message = hear_result(&c);
    assert_int_equal(message.u.lease_result.outcome, WIRE_OUTCOME_RELEASED);
    assert_true(message.u.lease_result.samples_done < 40);
    join(&worker, ST_OK);
    assert_int_equal(zmq_close(c.socket), 0);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
}

/* The coordinator says that the shard has gone to another: the worker drops it and goes on. */
static void a_lost_lease_is_dropped(void **state)
{
    static const char *const sets[] = {"workers.queue_items=1", "workers.lease=1s", NULL};
    struct wire_message message, lost = {.kind = WIRE_HEARTBEAT_REPLY};
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct coordinator c;
    struct small_run run;
    struct worker worker;
    uint64_t number;
    void *zmq = zmq_ctx_new();

    (void)state;
    assert_non_null(zmq);
    coordinator_open(&c, zmq);
    small_run_init(&run, sets);
    small_run_put_samples(&run, "s", 40);
    small_run_plan(&run);
    launch(&worker, &run, zmq, "w", ENDPOINT, 300);
    welcome(&c, &run);
    number = hear_request(&c);
    memory_budget_reserve(&run.budget,
                          (size_t)run.job->workers.memory_bytes); /* it cannot decode */
    message = grant_of(&run, number);
    say(&c, &message);
    lost.u.heartbeat_reply.shard = message.u.lease_grant.shard;
    lost.u.heartbeat_reply.epoch = message.u.lease_grant.epoch;
    lost.u.heartbeat_reply.lost = true;
    assert_int_equal(hear(&c).kind, WIRE_HEARTBEAT);
    say(&c, &lost);
    for (int i = 0; i < 2; i++) /* the second is sent after the answer was read */
        assert_int_equal(hear(&c).kind, WIRE_HEARTBEAT);
    memory_budget_free(&run.budget, (size_t)run.job->workers.memory_bytes);
    message = hear_result(&c);
    assert_int_equal(message.u.lease_result.outcome, WIRE_OUTCOME_LOST);
    send_home(&c);
    join(&worker, ST_OK);
    assert_int_equal(small_run_samples(&run, samples), 0);
    assert_int_equal(zmq_close(c.socket), 0);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers_that_come_and_go_change_nothing),
        cmocka_unit_test(a_worker_of_another_job_learns_why_it_is_refused),
        cmocka_unit_test(a_result_tells_what_was_committed),
        cmocka_unit_test(a_lost_answer_is_asked_for_again),
        cmocka_unit_test(a_worker_works_on_while_the_coordinator_is_away),
        cmocka_unit_test(a_worker_told_to_stop_hands_the_rest_back),
        cmocka_unit_test(a_lost_lease_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
