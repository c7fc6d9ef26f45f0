/* Kafka on librdkafka's mock brokers: what every stream does, and what real brokers cannot be made
 * to show on demand. */
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "reinforce/base/secret.h"
#include "storage/stream/kafka_token.h"
#include "tests/support/stream_contract.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>

struct cluster {
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *mock;
    char url[256];
};

static int setup(void **state)
{
    struct cluster *c = calloc(1, sizeof *c);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    assert_non_null(c);
    (void)rd_kafka_conf_set(conf, "log_level", "0", why, sizeof why);
    c->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    assert_non_null(c->rk);
    c->mock = rd_kafka_mock_cluster_new(c->rk, 3);
    assert_non_null(c->mock);
    (void)snprintf(c->url, sizeof c->url, "kafka://%s", rd_kafka_mock_cluster_bootstraps(c->mock));
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct cluster *c = *state;

    rd_kafka_mock_cluster_destroy(c->mock);
    rd_kafka_destroy(c->rk);
    free(c);
    return 0;
}

static void create_topic(void *ctx, const char *topic, int n_partitions)
{
    struct cluster *c = ctx;

    assert_int_equal(rd_kafka_mock_topic_create(c->mock, topic, n_partitions, 1),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
}

static void the_contract_is_kept_on_mock_brokers(void **state)
{
    struct cluster *c = *state;

    stream_contract(&(struct stream_target){.url = c->url, .create_topic = create_topic, .ctx = c});
}

static void errors_of_brokers_are_survived_without_loss_or_repetition(void **state)
{
    struct cluster *c = *state;
    struct stream_producer *p = NULL;
    struct stream_consumer *consumer;

    create_topic(c, "errors", 1);
    p = stream_open_producer(c->url);
    rd_kafka_mock_push_request_errors(
        c->mock, 0 /* Produce */, 5, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR__TRANSPORT, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    stream_produce(p, "errors", 0, 0, 100);
    rd_kafka_mock_push_request_errors(c->mock, 10 /* FindCoordinator */, 2,
                                      RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
                                      RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    rd_kafka_mock_push_request_errors(c->mock, 1 /* Fetch */, 2,
                                      RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                                      RD_KAFKA_RESP_ERR__TRANSPORT);
    consumer = stream_open_consumer(c->url, "errors", "errors");
    stream_join(consumer, 1, 0);
    for (int i = 0; i < 100; i++)
        stream_expect(consumer, i, i);
    /* the group's coordinator moves to another broker */
    (void)rd_kafka_mock_coordinator_set(c->mock, "group", "errors", 2);
    rd_kafka_mock_push_request_errors(c->mock, 12 /* Heartbeat */, 1,
                                      RD_KAFKA_RESP_ERR_NOT_COORDINATOR);
    stream_produce(p, "errors", 0, 100, 110);
    for (int i = 100; i < 110; i++)
        stream_expect(consumer, i, i);
    stream_consumer_close(&consumer);
    stream_producer_close(&p);
}

/* Every answer late, as of brokers that throttle us. */
static void slow_brokers_lose_and_repeat_nothing(void **state)
{
    struct cluster *c = *state;
    struct stream_producer *p;
    struct stream_consumer *consumer;

    create_topic(c, "slow", 1);
    p = stream_open_producer(c->url);
    consumer = stream_open_consumer(c->url, "slow", "slow");
    stream_join(consumer, 1, 0);
    for (int id = 1; id <= 3; id++)
        (void)rd_kafka_mock_broker_set_rtt(c->mock, id, 250);
    stream_produce(p, "slow", 0, 0, 40);
    for (int i = 0; i < 40; i++)
        stream_expect(consumer, i, i);
    for (int id = 1; id <= 3; id++)
        (void)rd_kafka_mock_broker_set_rtt(c->mock, id, 0);
    stream_produce(p, "slow", 0, 40, 45);
    for (int i = 40; i < 45; i++)
        stream_expect(consumer, i, i);
    stream_consumer_close(&consumer);
    stream_producer_close(&p);
}

static void brokers_that_come_back_are_found_without_a_restart(void **state)
{
    struct cluster *c = *state;
    struct stream_producer *p;
    struct stream_consumer *consumer;

    create_topic(c, "down", 1);
    p = stream_open_producer(c->url);
    consumer = stream_open_consumer(c->url, "down", "down");
    stream_join(consumer, 1, 0);
    stream_produce(p, "down", 0, 0, 3);
    for (int i = 0; i < 3; i++)
        stream_expect(consumer, i, i);
    for (int id = 1; id <= 3; id++)
        (void)rd_kafka_mock_broker_set_down(c->mock, id);
    for (int i = 0; i < 20; i++) {
        struct stream_event event;
        struct error err = {0};
        enum status st = stream_consumer_poll(consumer, 50, &event, &err);

        assert_true(st == ST_OK || status_is_retryable(st));
        assert_true(event.kind == STREAM_NOTHING || event.kind == STREAM_CAUGHT_UP);
    }
    for (int id = 1; id <= 3; id++)
        (void)rd_kafka_mock_broker_set_up(c->mock, id);
    stream_produce(p, "down", 0, 3, 6);
    for (int i = 3; i < 6; i++)
        stream_expect(consumer, i, i);
    stream_consumer_close(&consumer);
    stream_producer_close(&p);
}

/* The group throws out members that do not ask for their events; asking has to count. */
static void a_member_that_polls_stays_in_the_group(void **state)
{
    struct cluster *c = *state;
    static const char *const topics[] = {"stay"};
    const struct stream_property properties[] = {
        {"session.timeout.ms", "4000"},
        {"max.poll.interval.ms", "4000"},
    };
    const struct stream_consumer_options options = {.group = "stay",
                                                    .topics = topics,
                                                    .n_topics = 1,
                                                    .properties = properties,
                                                    .n_properties = ARRAY_LEN(properties),
                                                    .connect_ms = 20000};
    struct stream_consumer *consumer;
    struct stream_event event;
    struct error err = {0};
    int64_t until_ms;

    create_topic(c, "stay", 1);
    assert_ok(stream_consumer_open(c->url, &options, &consumer, &err));
    stream_join(consumer, 1, STREAM_OFFSET_BEGINNING);
    for (until_ms = clock_monotonic_ms() + 5000; clock_monotonic_ms() < until_ms;) {
        assert_ok(stream_consumer_poll(consumer, 100, &event, &err));
        assert_true(event.kind == STREAM_NOTHING || event.kind == STREAM_CAUGHT_UP);
    }
    stream_consumer_close(&consumer);
}

/* librdkafka before 2.2.0 aborts when a member that has joined is destroyed before it was assigned
 * anything. */
static void a_member_may_leave_before_it_has_got_anything(void **state)
{
    struct cluster *c = *state;

    create_topic(c, "leave", 1);
    rd_kafka_mock_push_request_errors(
        c->mock, 14 /* SyncGroup */, 3, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS);
    for (int i = 0; i < 2; i++) {
        struct stream_consumer *consumer = stream_open_consumer(c->url, "leave", "leave");
        struct stream_event event;
        struct error err = {0};

        assert_ok(stream_consumer_poll(consumer, 6000, &event, &err));
        assert_int_equal(event.kind, STREAM_NOTHING);
        stream_consumer_close(&consumer);
    }
}

static void a_full_queue_is_back_pressure(void **state)
{
    struct cluster *c = *state;
    static uint8_t body[64 << 10];
    const struct stream_producer_options options = {.max_bytes = 1 << 20, .connect_ms = 20000};
    const struct stream_message message = {
        .topic = "full", .partition = 0, .value = bytes_view_of(body, sizeof body)};
    struct stream_producer *p;
    struct error err = {0};
    enum status st = ST_OK;
    int n = 0;

    create_topic(c, "full", 1);
    assert_ok(stream_producer_open(c->url, &options, &p, &err));
    for (int id = 1; id <= 3; id++)
        (void)rd_kafka_mock_broker_set_down(c->mock, id);
    while (st == ST_OK && n < 100) {
        st = stream_producer_send(p, &message, NULL, &err);
        n += st == ST_OK;
    }
    assert_status(st, ST_FULL);
    assert_true(n >= 15 && n <= 17);
    st = stream_producer_flush(p, 100, &err);
    assert_true(st == ST_TIMEOUT || st == ST_UNAVAILABLE);
    for (int id = 1; id <= 3; id++)
        (void)rd_kafka_mock_broker_set_up(c->mock, id);
    for (int tries = 0; stream_producer_flush(p, 1000, &err) != ST_OK; tries++)
        assert_true(tries < 60);
    assert_ok(stream_producer_send(p, &message, NULL, &err));
    stream_producer_close(&p);
}

static void properties_that_cannot_be_are_refused_by_name(void **state)
{
    static const struct {
        const char *name, *value;
        enum status want;
        const char *says;
    } cases[] = {
        {"no.such.thing", "1", ST_INVALID, "no.such.thing"},
        {"enable.auto.commit", "true", ST_INVALID, "not yours"},
        {"group.id", "x", ST_INVALID, "not yours"},
        {"fetch.min.bytes", "many", ST_INVALID, "fetch.min.bytes"},
        {"sasl.password", "hunter2", ST_INVALID, "env:NAME"},
        {"sasl.password", "env:REINFORCE_NO_SUCH_VARIABLE", ST_NOT_FOUND, "REINFORCE_NO_SUCH"},
        {"ssl.key.pem", "file:/no/such/file", ST_NOT_FOUND, "/no/such/file"},
        {"oauthbearer.token", "abc", ST_INVALID, "env:NAME"},
    };
    static const char *const topics[] = {"t"};
    struct cluster *c = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct stream_property property = {cases[i].name, cases[i].value};
        const struct stream_consumer_options options = {.group = "g",
                                                        .topics = topics,
                                                        .n_topics = 1,
                                                        .properties = &property,
                                                        .n_properties = 1,
                                                        .connect_ms = 1000};
        struct stream_consumer *consumer;
        struct error err = {0};
        enum status st = stream_consumer_open(c->url, &options, &consumer, &err);

        if (st != cases[i].want)
            fail_msg("%s: %s: %s", cases[i].name, status_name(st), err.message);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("%s: \"%s\" says nothing of \"%s\"", cases[i].name, err.message,
                     cases[i].says);
        assert_null(strstr(err.message, "hunter2"));
    }
}

static void secrets_come_from_the_environment_or_a_file(void **state)
{
    struct temp_folder folder;
    char path[128], source[160];
    struct byte_buf out;
    struct error err = {0};

    (void)state;
    temp_folder_init(&folder);
    temp_folder_name(&folder, "secret", path, sizeof path);
    (void)snprintf(source, sizeof source, "file:%s", path);
    assert_ok(file_write_atomic(path, bytes_of_string("s3cret\n"), &err));
    byte_buf_init(&out, 1 << 16);
    assert_ok(secret_resolve("sasl.password", source, &out, &err));
    assert_string_equal((const char *)out.data, "s3cret");
    byte_buf_reset(&out);
    assert_int_equal(setenv("REINFORCE_TEST_SECRET", "from env", 1), 0);
    assert_ok(secret_resolve("sasl.password", "env:REINFORCE_TEST_SECRET", &out, &err));
    assert_string_equal((const char *)out.data, "from env");
    byte_buf_release(&out);
    temp_folder_release(&folder);
}

static void a_token_says_whose_it_is_and_until_when(void **state)
{
    static const struct {
        const char *token;
        enum status want;
    } cases[] = {
        /* {"sub":"a~?>","exp":1900000000} */
        {"e30.eyJzdWIiOiJhfj8-IiwiZXhwIjoxOTAwMDAwMDAwfQ.c2ln", ST_OK},
        {"e30.eyJleHAiOjE5MDAwMDAwMDB9.c2ln", ST_CORRUPT}, /* no subject */
        {"e30.eyJzdWIiOiJhIn0.c2ln", ST_CORRUPT},          /* no end */
        {"e30.!!!.c2ln", ST_CORRUPT},
        {"opaque", ST_CORRUPT},
        {"", ST_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct kafka_token token;
        struct error err = {0};

        if (kafka_token_read(cases[i].token, &token, &err) != cases[i].want)
            fail_msg("case %zu: %s", i, err.message);
        if (cases[i].want == ST_OK) {
            assert_string_equal(token.principal, "a~?>");
            assert_int_equal(token.expires_ms, 1900000000000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_contract_is_kept_on_mock_brokers, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_of_brokers_are_survived_without_loss_or_repetition,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(slow_brokers_lose_and_repeat_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(brokers_that_come_back_are_found_without_a_restart, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_member_that_polls_stays_in_the_group, setup, teardown),
        cmocka_unit_test_setup_teardown(a_member_may_leave_before_it_has_got_anything, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_is_back_pressure, setup, teardown),
        cmocka_unit_test_setup_teardown(properties_that_cannot_be_are_refused_by_name, setup,
                                        teardown),
        cmocka_unit_test(secrets_come_from_the_environment_or_a_file),
        cmocka_unit_test(a_token_says_whose_it_is_and_until_when),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
