#include "coordinator/dispatcher.h"
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

static void start(struct worker *worker, struct small_run *run, void *zmq, const char *name)
{
    struct error err = {0};

    memset(worker, 0, sizeof *worker);
    assert_ok(wake_init(&worker->wake, &err));
    worker->context = run->context;
    worker->context.stats = &worker->stats;
    worker->options = (struct agent_options){.zmq = zmq,
                                             .endpoint = ENDPOINT,
                                             .name = name,
                                             .context = &worker->context,
                                             .catalog_url = run->catalog_url,
                                             .threads = 2,
                                             .drain = &worker->drain,
                                             .wake = &worker->wake};
    assert_int_equal(pthread_create(&worker->thread, NULL, run_agent, worker), 0);
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
    char id[256];
    size_t id_len;
};

static void coordinator_open(struct coordinator *c, void *zmq)
{
    int linger = 0;

    c->socket = zmq_socket(zmq, ZMQ_ROUTER);
    assert_non_null(c->socket);
    assert_int_equal(zmq_setsockopt(c->socket, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal(zmq_bind(c->socket, ENDPOINT), 0);
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

/* A grant of the run's next lease. */
static struct wire_message grant_of(struct small_run *run)
{
    struct shard_work *work = small_run_lease(run, clock_wall_ms());
    struct wire_message grant = {.kind = WIRE_LEASE_GRANT};

    assert_non_null(work);
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

static struct wire_message hear_result(struct coordinator *c)
{
    for (;;) {
        struct wire_message message = hear(c);

        if (message.kind == WIRE_LEASE_RESULT)
            return message;
    }
}

static void a_result_tells_what_was_committed(void **state)
{
    struct wire_message message, finished = {.kind = WIRE_NO_WORK};
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
    start(&worker, &run, zmq, "w");
    welcome(&c, &run);
    assert_int_equal(hear(&c).kind, WIRE_LEASE_REQUEST);
    message = grant_of(&run);
    say(&c, &message);
    message = hear_result(&c);
    assert_int_equal(message.u.lease_result.outcome, WIRE_OUTCOME_DONE);
    assert_int_equal(message.u.lease_result.samples_done, 8);
    assert_int_equal(message.u.lease_result.samples_quarantined, 1);
    finished.u.no_work.finished = true;
    say(&c, &finished);
    join(&worker, ST_OK);
    assert_int_equal(zmq_close(c.socket), 0);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
}

/* A coordinator that grants unasked cannot make a worker hold more than it has room for. */
static void leases_beyond_what_can_be_held_are_refused(void **state)
{
    struct coordinator c;
    struct small_run run;
    struct wire_message grant;
    struct worker worker;
    void *zmq = zmq_ctx_new();

    (void)state;
    assert_non_null(zmq);
    coordinator_open(&c, zmq);
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "s", 40);
    small_run_plan(&run);
    start(&worker, &run, zmq, "w");
    welcome(&c, &run);
    assert_int_equal(hear(&c).kind, WIRE_LEASE_REQUEST);
    grant = grant_of(&run);
    for (int i = 0; i < 8; i++)
        say(&c, &grant);
    join(&worker, ST_CORRUPT);
    assert_non_null(strstr(worker.error.message, "granted a lease beyond"));
    assert_int_equal(zmq_close(c.socket), 0);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
}

/* The coordinator says that the shard has gone to another: the worker drops it and goes on. */
static void a_lost_lease_is_dropped(void **state)
{
    static const char *const sets[] = {"workers.queue_items=1", "workers.lease=1s", NULL};
    struct wire_message message, lost = {.kind = WIRE_HEARTBEAT_REPLY},
                                 finished = {.kind = WIRE_NO_WORK};
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
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
    start(&worker, &run, zmq, "w");
    welcome(&c, &run);
    assert_int_equal(hear(&c).kind, WIRE_LEASE_REQUEST);
    memory_budget_reserve(&run.budget,
                          (size_t)run.job->workers.memory_bytes); /* it cannot decode */
    message = grant_of(&run);
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
    finished.u.no_work.finished = true;
    say(&c, &finished);
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
        cmocka_unit_test(leases_beyond_what_can_be_held_are_refused),
        cmocka_unit_test(a_lost_lease_is_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
