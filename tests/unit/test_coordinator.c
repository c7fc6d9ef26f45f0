/* A coordinator of every job of a catalog, in this process: jobs are submitted, planned, worked on
 * by agents with fake models, and finished. */
#include "coordinator/coordinator.h"
#include "coordinator/submit.h"
#include "proto/endpoint.h"
#include "reinforce/base/clock.h"
#include "tests/support/small_run.h"
#include "tests/support/test.h"
#include "worker/model_record.h"
#include "worker/worker_group.h"

#include <stdio.h>
#include <zmq.h>

enum { DEADLINE_MS = 60000, N_SAMPLES = 9 };

/* coordinator_run() on a thread of its own. */
struct coordinator {
    struct coordinator_options options;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards what follows */
    char address[256];    /* "": not serving */
    pthread_t thread;
    enum status status;
    struct error error;
};

static void told(void *ctx, const char *address)
{
    struct coordinator *c = ctx;

    assert_int_equal(pthread_mutex_lock(&c->lock), 0);
    (void)snprintf(c->address, sizeof c->address, "%s", address != NULL ? address : "");
    assert_int_equal(pthread_mutex_unlock(&c->lock), 0);
}

static void *run_coordinator(void *arg)
{
    struct coordinator *c = arg;

    c->status = coordinator_run(&c->options, &c->error);
    return NULL;
}

static void start(struct coordinator *c, const char *catalog_url, const char *address)
{
    memset(c, 0, sizeof *c);
    assert_int_equal(pthread_mutex_init(&c->lock, NULL), 0);
    c->options = (struct coordinator_options){.catalog_url = catalog_url,
                                              .address = address,
                                              .stop = &c->stop,
                                              .told = told,
                                              .told_ctx = c};
    assert_int_equal(pthread_create(&c->thread, NULL, run_coordinator, c), 0);
}

static void stop(struct coordinator *c)
{
    atomic_store(&c->stop, true);
    assert_int_equal(pthread_join(c->thread, NULL), 0);
    assert_int_equal(pthread_mutex_destroy(&c->lock), 0);
    if (c->status != ST_OK)
        fail_msg("the coordinator ended with %s: %s", status_name(c->status), c->error.message);
}

static void await_service(struct coordinator *c, char address[256])
{
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;

    for (address[0] = '\0'; address[0] == '\0';) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        (void)zmq_poll(NULL, 0, 10);
        assert_int_equal(pthread_mutex_lock(&c->lock), 0);
        memcpy(address, c->address, sizeof c->address);
        assert_int_equal(pthread_mutex_unlock(&c->lock), 0);
    }
}

struct search {
    int64_t job;
    struct catalog_job_row row;
};

static enum status find(void *ctx, const struct catalog_job_row *row, struct error *err)
{
    struct search *search = ctx;

    (void)err;
    if (row->job.job == search->job)
        search->row = *row;
    return ST_OK;
}

static struct catalog_job_row await_state(struct small_run *run, enum catalog_job_state state)
{
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;
    struct search search = {.job = run->row.job};
    struct error err = {0};

    do {
        if (clock_monotonic_ms() > deadline_ms)
            fail_msg("the job is %s, not %s: %s", catalog_job_state_name(search.row.job.state),
                     catalog_job_state_name(state), search.row.note);
        (void)zmq_poll(NULL, 0, 10);
        assert_ok(catalog_jobs(run->catalog, clock_wall_ms(), find, &search, &err));
    } while (search.row.job.state != state);
    return search.row;
}

static void submit(struct small_run *run, int32_t priority)
{
    struct submission made;
    struct error err = {0};

    assert_ok(submit_job(run->job, run->catalog_url, &priority, NULL, &made, &err));
    assert_true(made.is_new);
    run->row = made.row;
}

/* A worker process, asking for jobs; the test speaks for it. */
static struct wire_message ask(void *socket, const struct wire_message *message)
{
    struct wire_message answer;
    struct error err = {0};
    zmq_pollitem_t out = {.socket = socket, .events = ZMQ_POLLOUT},
                   in = {.socket = socket, .events = ZMQ_POLLIN};

    assert_int_equal(zmq_poll(&out, 1, DEADLINE_MS), 1);
    assert_ok(endpoint_send(socket, message, &err));
    assert_int_equal(zmq_poll(&in, 1, DEADLINE_MS), 1);
    assert_ok(endpoint_receive(socket, &answer, &err));
    return answer;
}

static struct wire_message ask_job(void *socket, const int64_t *except)
{
    struct wire_message request = {.kind = WIRE_JOB_REQUEST};

    if (except != NULL)
        request.u.job_request.except[request.u.job_request.n_except++] = *except;
    return ask(socket, &request);
}

/* Asks again and again, for states are looked at once a second. */
static void await_offer(void *socket, const int64_t *except, int64_t job)
{
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;
    struct wire_message answer;

    do {
        assert_true(clock_monotonic_ms() < deadline_ms);
        answer = ask_job(socket, except);
    } while (job == 0 ? answer.kind != WIRE_NO_WORK
                      : answer.kind != WIRE_JOB_OFFER || answer.u.job_offer.job != job);
}

/* A socket of a worker that has said hello. */
static void *join(void *zmq, const char *const *address)
{
    const struct endpoint_target target = {address, 1, "asks", NULL};
    struct wire_message hello = {.kind = WIRE_HELLO};
    struct error err = {0};
    void *socket;

    assert_ok(endpoint_connect(zmq, &target, &socket, NULL, &err));
    assert_int_equal(ask_job(socket, NULL).kind, WIRE_WHO_ARE_YOU);
    hello.u.hello.protocol = WIRE_PROTOCOL;
    memcpy(hello.u.hello.worker, "asks", 5);
    assert_int_equal(ask(socket, &hello).kind, WIRE_WELCOME);
    return socket;
}

/* Workers of this process with the run's fake models, when the job is offered. */
static struct worker_group *work_for(struct small_run *run, void *zmq, const char *const *address,
                                     int count)
{
    struct agent_options like = {.zmq = zmq,
                                 .addresses = address,
                                 .n_addresses = 1,
                                 .job_id = run->row.job,
                                 .context = &run->context,
                                 .catalog_url = run->catalog_url,
                                 .threads = 1,
                                 .answer_ms = 500};
    struct worker_group *group;
    struct error err = {0};
    void *socket = join(zmq, address);

    await_offer(socket, NULL, run->row.job);
    assert_int_equal(zmq_close(socket), 0);
    assert_ok(model_record_write(run->engine, run->output, &err));
    assert_ok(worker_group_start(&like, count, &group, &err));
    return group;
}

static void a_submitted_job_is_planned_worked_on_and_finished(void **state)
{
    struct small_run run, alone;
    struct coordinator c;
    struct worker_group *workers;
    char text[256];
    const char *address = text;
    struct error err = {0};
    void *zmq = zmq_ctx_new();

    (void)state;
    small_run_init(&alone, NULL);
    small_run_put_samples(&alone, "a", N_SAMPLES);
    small_run_put_samples(&alone, "b", N_SAMPLES);
    small_run_plan(&alone);
    small_run_work(&alone, 1, WIRE_OUTCOME_DONE);

    small_run_init(&run, NULL);
    small_run_put_samples(&run, "a", N_SAMPLES);
    small_run_put_samples(&run, "b", N_SAMPLES);
    start(&c, run.catalog_url, "tcp://127.0.0.1:*");
    await_service(&c, text);
    submit(&run, 0);
    (void)await_state(&run, CATALOG_JOB_RUNNING);
    workers = work_for(&run, zmq, &address, 2);
    (void)await_state(&run, CATALOG_JOB_DONE);
    assert_true(worker_group_wait(workers, DEADLINE_MS)); /* they hear of it */
    assert_ok(worker_group_join(&workers, &err));
    stop(&c);
    small_run_assert_same(&alone, &run, 2);
    assert_non_null(strstr(small_run_text(&run, "manifest.jsonl"), "00000001"));
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
    small_run_release(&alone);
}

/* What the first has left goes on under the second. That one waits for the other's end is for
 * processes to show (tests/e2e/test_fleet.py): within one, the lock of a file is nobody's. */
static void what_one_coordinator_leaves_another_goes_on_with(void **state)
{
    static const char *const sets[] = {"workers.queue_items=1", NULL};
    struct small_run run;
    struct coordinator first, second;
    struct worker_group *workers;
    char text[256];
    const char *address = text;
    struct error err = {0};
    void *zmq = zmq_ctx_new();

    (void)state;
    small_run_init(&run, sets);
    small_run_put_samples(&run, "a", N_SAMPLES);
    small_run_put_samples(&run, "b", N_SAMPLES);
    start(&first, run.catalog_url, "tcp://127.0.0.1:*");
    await_service(&first, text);
    submit(&run, 0);
    (void)await_state(&run, CATALOG_JOB_RUNNING);
    memory_budget_reserve(&run.budget,
                          (size_t)run.job->workers.memory_bytes); /* nothing can be decoded */
    workers = work_for(&run, zmq, &address, 1);
    for (struct catalog_progress progress = {0}; progress.shards_leased == 0;)
        assert_ok(catalog_read_progress(run.catalog, run.row.job, &progress, &err));
    stop(&first);
    start(&second, run.catalog_url, text); /* where the first was */
    memory_budget_free(&run.budget, (size_t)run.job->workers.memory_bytes);
    (void)await_state(&run, CATALOG_JOB_DONE);
    assert_true(worker_group_wait(workers, DEADLINE_MS));
    assert_ok(worker_group_join(&workers, &err));
    stop(&second);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
}

/* Nothing was planned, so that another configuration takes its place. */
static void a_job_that_cannot_be_planned_is_paused_and_may_be_mended(void **state)
{
    struct small_run run;
    struct coordinator c;
    struct catalog_job_row row;
    struct submission made;
    struct job mended;
    struct error err = {0};

    (void)state;
    small_run_init(&run, NULL); /* nothing in its input */
    start(&c, run.catalog_url, "tcp://127.0.0.1:*");
    submit(&run, 0);
    row = await_state(&run, CATALOG_JOB_PAUSED);
    assert_non_null(strstr(row.note, run.job->input.url));
    small_run_put_samples(&run, "a", N_SAMPLES);
    mended = *run.job;
    memset(mended.digest, 'd', sizeof mended.digest - 1);
    assert_ok(submit_job(&mended, run.catalog_url, NULL, NULL, &made, &err));
    assert_int_equal(made.row.job, run.row.job);
    assert_false(made.is_new || made.is_extended);
    row = await_state(&run, CATALOG_JOB_RUNNING);
    assert_string_equal(row.job.config_digest, mended.digest);
    assert_string_equal(row.note, "");
    stop(&c);
    small_run_release(&run);
}

static void a_spent_budget_pauses_the_job_with_a_diagnosis(void **state)
{
    static const char *const sets[] = {"budget.failure_fraction=0.25", "budget.failure_window=8",
                                       NULL};
    struct small_run run;
    struct coordinator c;
    struct worker_group *workers;
    struct catalog_job_row row;
    char text[256];
    const char *address = text;
    struct error err = {0};
    void *zmq = zmq_ctx_new();

    (void)state;
    small_run_init(&run, sets);
    small_run_put_samples(&run, "s", N_SAMPLES);
    for (int i = 0; i < N_SAMPLES; i += 2) {
        char key[32];

        (void)snprintf(key, sizeof key, "img/s-%03d.png", i);
        small_run_put_text(&run, key, "no picture");
    }
    start(&c, run.catalog_url, "tcp://127.0.0.1:*");
    await_service(&c, text);
    submit(&run, 0);
    (void)await_state(&run, CATALOG_JOB_RUNNING);
    workers = work_for(&run, zmq, &address, 1);
    row = await_state(&run, CATALOG_JOB_PAUSED);
    assert_non_null(strstr(row.note, "5 of 9 samples were quarantined"));
    assert_non_null(strstr(row.note, "decode"));
    assert_ok(worker_group_join(&workers, &err));
    stop(&c);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&run);
}

static void jobs_are_offered_by_priority_and_while_they_run(void **state)
{
    static const char *const sets[] = {"name=urgent", NULL};
    struct wire_message offer;
    struct small_run run, urgent;
    struct coordinator c;
    char text[256];
    const char *address = text;
    struct error err = {0};
    void *zmq = zmq_ctx_new(), *socket;

    (void)state;
    small_run_init(&run, NULL);
    small_run_init(&urgent, sets);
    (void)memcpy(urgent.catalog_url, run.catalog_url, sizeof urgent.catalog_url);
    small_run_put_samples(&run, "s", N_SAMPLES);
    small_run_put_samples(&urgent, "s", N_SAMPLES);
    start(&c, run.catalog_url, "tcp://127.0.0.1:*");
    await_service(&c, text);
    socket = join(zmq, &address);
    assert_int_equal(ask_job(socket, NULL).kind, WIRE_NO_WORK);

    submit(&run, 0);
    await_offer(socket, NULL, run.row.job);
    offer = ask_job(socket, &run.row.job); /* it cannot do that one */
    assert_int_equal(offer.kind, WIRE_NO_WORK);
    submit(&urgent, 5);
    await_offer(socket, NULL, urgent.row.job);
    await_offer(socket, &urgent.row.job, run.row.job);
    assert_ok(catalog_job_move(run.catalog, urgent.row.job, CATALOG_JOB_RUNNING, CATALOG_JOB_PAUSED,
                               "", &err));
    await_offer(socket, NULL, run.row.job);
    assert_ok(catalog_job_move(run.catalog, run.row.job, CATALOG_JOB_RUNNING, CATALOG_JOB_CANCELLED,
                               "", &err));
    await_offer(socket, NULL, 0);
    assert_int_equal(zmq_close(socket), 0);
    stop(&c);
    assert_int_equal(zmq_ctx_term(zmq), 0);
    small_run_release(&urgent);
    small_run_release(&run);
}

static void what_cannot_be_served_says_why(void **state)
{
    struct coordinator_options options = {.catalog_url = "nosuch:x",
                                          .address = "tcp://127.0.0.1:*"};
    struct small_run run;
    atomic_bool never = false;
    struct error err = {0};

    (void)state;
    options.stop = &never;
    assert_status(coordinator_run(&options, &err), ST_INVALID);
    small_run_init(&run, NULL);
    options.catalog_url = run.catalog_url;
    options.address = "nonsense";
    assert_status(coordinator_run(&options, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "nonsense"));
    small_run_release(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_submitted_job_is_planned_worked_on_and_finished),
        cmocka_unit_test(what_one_coordinator_leaves_another_goes_on_with),
        cmocka_unit_test(a_job_that_cannot_be_planned_is_paused_and_may_be_mended),
        cmocka_unit_test(a_spent_budget_pauses_the_job_with_a_diagnosis),
        cmocka_unit_test(jobs_are_offered_by_priority_and_while_they_run),
        cmocka_unit_test(what_cannot_be_served_says_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
