/* Publishing on librdkafka's mock brokers, from the outbox of a SQLite catalog: nothing is lost,
 * whatever brokers say and whoever is killed. */
#include "coordinator/courier.h"
#include "coordinator/publisher.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/json.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEADLINE_MS = 60000, STEP_MS = 100, MAX_EVENTS = 2000, ID_LEN = 32 };

static const struct catalog_terms terms = {
    .lease_ms = 1000000, .max_attempts = 3, .part_samples = 10};

struct fixture {
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *mock;
    struct temp_folder folder;
    struct arena arena;
    struct catalog *catalog;
    struct job *job;
    struct catalog_job row;
    struct publisher *publisher;
    char url[256], config[1024];
};

static void load(struct fixture *f, const char *options)
{
    struct job_override overrides[2] = {{.text = options}};
    struct error err = {0};

    publisher_destroy(&f->publisher);
    job_destroy(&f->job);
    assert_ok(job_load_text(bytes_of_string(f->config), "p.yaml", overrides, options != NULL,
                            &f->job, &err));
}

static enum status try_open(struct fixture *f, struct error *err)
{
    const struct publisher_options options = {.job = f->job,
                                              .job_id = f->row.job,
                                              .catalog_url = f->job->catalog.url,
                                              .catalog = f->catalog};

    publisher_destroy(&f->publisher);
    return publisher_create(&options, &f->publisher, err);
}

static void open_publisher(struct fixture *f, const char *options)
{
    struct error err = {0};

    load(f, options);
    assert_ok(try_open(f, &err));
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256], path[128];
    const char *config;
    struct error err = {0};

    assert_non_null(f);
    (void)rd_kafka_conf_set(conf, "log_level", "0", why, sizeof why);
    f->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    f->mock = rd_kafka_mock_cluster_new(f->rk, 1);
    assert_int_equal(rd_kafka_mock_topic_create(f->mock, "events", 1, 1), 0);
    (void)snprintf(f->url, sizeof f->url, "kafka://%s", rd_kafka_mock_cluster_bootstraps(f->mock));
    temp_folder_init(&f->folder);
    temp_folder_name(&f->folder, "catalog.sqlite", path, sizeof path);
    (void)snprintf(f->config, sizeof f->config,
                   "{name: p, input: {url: images}, output: {url: 's3://b/out'}, catalog: {url: "
                   "'sqlite:%s'}, teachers: [{model: m}], events: {topic: events, brokers: '%s', "
                   "samples: true}}",
                   path, f->url + strlen("kafka://"));
    arena_init(&f->arena, 64 << 20);
    load(f, NULL);
    assert_ok(catalog_open(f->job->catalog.url, &f->catalog, &err));
    assert_ok(catalog_job_begin(f->catalog, "p", f->job->digest, f->job->effective_json, 1,
                                &f->arena, &f->row, &config, &err));
    assert_ok(courier_enable(f->catalog, f->row.job, f->job, &err));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    publisher_destroy(&f->publisher);
    catalog_close(&f->catalog);
    job_destroy(&f->job);
    arena_release(&f->arena);
    temp_folder_release(&f->folder);
    rd_kafka_mock_cluster_destroy(f->mock);
    rd_kafka_destroy(f->rk);
    free(f);
    return 0;
}

/* Shards of one sample each: two events a shard. */
static void finish_shards(struct fixture *f, int64_t n)
{
    struct catalog_shard_plan *plan = calloc((size_t)n, sizeof *plan);
    const struct object_written written = {.bytes = 7, .sha256 = "abc"};
    struct error err = {0};

    assert_non_null(plan);
    for (int64_t i = 0; i < n; i++)
        plan[i] = (struct catalog_shard_plan){.shard = i,
                                              .source = CATALOG_INPUT_JOB,
                                              .input_key = "a",
                                              .input_format = "webdataset"};
    assert_ok(catalog_plan_commit(f->catalog, &f->row, plan, (size_t)n, true, &err));
    free(plan);
    for (int64_t i = 0; i < n; i++) {
        struct catalog_lease lease;
        struct catalog_sample sample = {.state = CATALOG_SAMPLE_DONE};
        const struct catalog_part part = {.object_key = "p",
                                          .written = {.sha256 = "abc"},
                                          .next_index = 1,
                                          .n_samples = 1,
                                          .samples = &sample};
        char uid[16];
        int64_t wait;

        (void)snprintf(uid, sizeof uid, "u%d", (int)i);
        sample.uid = bytes_of_string(uid);
        assert_ok(catalog_lease_take(f->catalog, f->row.job, "w", 0, &terms, &f->arena, &lease,
                                     &wait, &err));
        assert_ok(catalog_part_commit(f->catalog, &lease, &part, &err));
        lease.n_parts = 1;
        assert_ok(catalog_shard_commit(f->catalog, &lease, "o", &written, &err));
    }
}

static int64_t n_waiting(struct fixture *f)
{
    struct catalog_outbox outbox;
    struct error err = {0};

    assert_ok(catalog_outbox_count(f->catalog, f->row.job, &outbox, &err));
    return outbox.n_waiting;
}

static void publish_all(struct fixture *f)
{
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS, wait_ms;

    while ((wait_ms = publisher_step(f->publisher, STEP_MS)) >= 0) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(wait_ms, NULL);
    }
    assert_int_equal(n_waiting(f), 0);
}

/* Reads the topic from its beginning, without a group. */
static rd_kafka_t *open_topic(struct fixture *f)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];
    rd_kafka_t *rk;

    (void)rd_kafka_conf_set(conf, "bootstrap.servers", f->url + strlen("kafka://"), why,
                            sizeof why);
    (void)rd_kafka_conf_set(conf, "group.id", "none", why, sizeof why);
    rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    assert_non_null(rk);
    rd_kafka_topic_partition_list_add(list, "events", 0)->offset = 0;
    assert_int_equal(rd_kafka_assign(rk, list), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    return rk;
}

static rd_kafka_message_t *read_message(rd_kafka_t *rk)
{
    rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, DEADLINE_MS);

    assert_non_null(message);
    assert_int_equal(message->err, RD_KAFKA_RESP_ERR_NO_ERROR);
    return message;
}

static struct bytes_view header(const rd_kafka_message_t *message, const char *name)
{
    rd_kafka_headers_t *headers;
    const void *value;
    size_t len;

    assert_int_equal(rd_kafka_message_headers(message, &headers), RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_int_equal(rd_kafka_header_get_last(headers, name, &value, &len),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    return bytes_view_of(value, len);
}

/* Reads all messages, which have `n` different ids; returns how many there are. New ones are in
 * order: the sample of a shard, then the shard. */
static int read_topic(struct fixture *f, int n)
{
    static char ids[MAX_EVENTS][ID_LEN];
    rd_kafka_t *rk = open_topic(f);
    int64_t low, high;
    int n_ids = 0;

    assert_int_equal(rd_kafka_query_watermark_offsets(rk, "events", 0, &low, &high, DEADLINE_MS),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    for (int64_t at = low; at < high; at++) {
        rd_kafka_message_t *message = read_message(rk);
        struct bytes_view id = header(message, "reinforce.id");
        char key[32];
        int i = 0;

        assert_int_equal(id.len, ID_LEN);
        while (i < n_ids && memcmp(ids[i], id.data, ID_LEN) != 0)
            i++;
        if (i == n_ids) {
            (void)snprintf(key, sizeof key, n_ids % 2 == 0 ? "u%d" : "p/%08d", n_ids / 2);
            assert_true(
                bytes_equal(bytes_view_of(message->key, message->key_len), bytes_of_string(key)));
            memcpy(ids[n_ids++], id.data, ID_LEN);
        }
        rd_kafka_message_destroy(message);
    }
    rd_kafka_destroy(rk);
    assert_int_equal(n_ids, n);
    return (int)(high - low);
}

static void what_waits_is_published_in_order_and_leaves_the_outbox(void **state)
{
    struct fixture *f = *state;
    rd_kafka_message_t *message;
    rd_kafka_t *rk;
    json_t *value;
    struct error err = {0};

    open_publisher(f, NULL);
    assert_int_equal(publisher_step(f->publisher, STEP_MS), -1);
    finish_shards(f, 600); /* more than a batch */
    assert_int_equal(n_waiting(f), 1200);
    publish_all(f);
    assert_int_equal(publisher_count(f->publisher), 1200);
    assert_int_equal(read_topic(f, 1200), 1200);
    rk = open_topic(f);
    rd_kafka_message_destroy(read_message(rk)); /* the sample's */
    message = read_message(rk);
    assert_ok(json_parse(bytes_view_of(message->payload, message->len), &value, &err));
    assert_string_equal(json_string_value(json_object_get(value, "kind")), "shard_done");
    assert_string_equal(json_string_value(json_object_get(value, "object")), "s3://b/out/o");
    assert_true(bytes_equal(header(message, "reinforce.kind"), bytes_of_string("shard_done")));
    json_decref(value);
    rd_kafka_message_destroy(message);
    rd_kafka_destroy(rk);
}

static void refusals_cost_no_event(void **state)
{
    struct fixture *f = *state;

    finish_shards(f, 3);
    open_publisher(f, NULL);
    rd_kafka_mock_push_request_errors(
        f->mock, 0 /* Produce */, 4, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    publish_all(f);
    assert_int_equal(read_topic(f, 6), 6);
}

static void brokers_that_are_away_are_waited_for(void **state)
{
    struct fixture *f = *state;

    finish_shards(f, 2);
    open_publisher(f, NULL);
    (void)rd_kafka_mock_broker_set_down(f->mock, 1);
    for (int i = 0; i < 8; i++)
        assert_true(publisher_step(f->publisher, 10) >= 0);
    assert_int_equal(n_waiting(f), 4);
    (void)rd_kafka_mock_broker_set_up(f->mock, 1);
    publish_all(f);
    assert_int_equal(read_topic(f, 4), 4);
}

/* Killed after the brokers have acknowledged and before the outbox knows. */
static void what_comes_twice_has_one_id(void **state)
{
    struct fixture *f = *state;

    finish_shards(f, 2);
    for (int i = 0; i < 2; i++) {
        open_publisher(f, i == 0 ? NULL : "events.transactional=true");
        for (int step = 0; step < 5;) { /* read, begin, send, flush, commit */
            int64_t wait_ms = publisher_step(f->publisher, 1000);

            step += wait_ms == 0;
            clock_sleep_ms(wait_ms, NULL);
        }
        assert_int_equal(n_waiting(f), 4);
        publisher_destroy(&f->publisher);
    }
    open_publisher(f, NULL);
    publish_all(f);
    assert_int_equal(read_topic(f, 4), 12);
}

static void transactions_are_begun_and_ended(void **state)
{
    struct fixture *f = *state;

    finish_shards(f, 2);
    open_publisher(f, "events.transactional=true");
    rd_kafka_mock_push_request_errors(f->mock, 22 /* InitProducerId */, 2,
                                      RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
                                      RD_KAFKA_RESP_ERR_NOT_COORDINATOR);
    rd_kafka_mock_push_request_errors(f->mock, 26 /* EndTxn */, 1,
                                      RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    publish_all(f);
    assert_int_equal(read_topic(f, 4), 4);
}

static void what_cannot_be_published_to_is_said_at_once(void **state)
{
    static const struct {
        const char *option, *says;
    } cases[] = {
        {"events.properties=no.such.thing=1", "no.such.thing"},
        {"events.properties=transactional.id=x", "not yours"},
        {"events.properties=sasl.password=env:REINFORCE_NO_SUCH_VARIABLE", "REINFORCE_NO_SUCH"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};

        load(f, cases[i].option);
        assert_int_not_equal(try_open(f, &err), ST_OK);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("\"%s\" says nothing of \"%s\"", err.message, cases[i].says);
        assert_non_null(strstr(err.context, "events"));
    }
}

static void a_courier_finds_the_jobs_whose_events_wait(void **state)
{
    struct fixture *f = *state;
    const struct courier_options options = {.catalog_url = f->job->catalog.url};
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;
    struct courier *courier;
    struct error err = {0};

    assert_ok(courier_start(&options, &courier, &err));
    finish_shards(f, 3);
    while (n_waiting(f) > 0) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        clock_sleep_ms(20, NULL);
    }
    courier_stop(&courier);
    assert_null(courier);
    assert_int_equal(read_topic(f, 6), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_waits_is_published_in_order_and_leaves_the_outbox,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_cost_no_event, setup, teardown),
        cmocka_unit_test_setup_teardown(brokers_that_are_away_are_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_comes_twice_has_one_id, setup, teardown),
        cmocka_unit_test_setup_teardown(transactions_are_begun_and_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_published_to_is_said_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_courier_finds_the_jobs_whose_events_wait, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
