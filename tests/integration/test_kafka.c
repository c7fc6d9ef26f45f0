/* Kafka on a real broker, which tests/support/kafka.sh runs this beside. */
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "storage/format/base64.h"
#include "tests/support/stream_contract.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>

static const char *setting(const char *name)
{
    const char *value = getenv(name);

    if (value == NULL)
        fail_msg("run by tests/support/kafka.sh");
    return value;
}

static const char *url_of(const char *variable, char url[128])
{
    (void)snprintf(url, 128, "kafka://%s", setting(variable));
    return url;
}

static void create_topic(void *ctx, const char *topic, int n_partitions)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_NewTopic_t *wanted = rd_kafka_NewTopic_new(topic, n_partitions, 1, why, sizeof why);
    const rd_kafka_topic_result_t **results;
    rd_kafka_event_t *event;
    rd_kafka_queue_t *queue;
    rd_kafka_t *rk;
    size_t n;

    (void)ctx;
    (void)rd_kafka_conf_set(conf, "bootstrap.servers", setting("KAFKA_BROKERS"), why, sizeof why);
    rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    assert_non_null(rk);
    queue = rd_kafka_queue_new(rk);
    rd_kafka_CreateTopics(rk, &wanted, 1, NULL, queue);
    event = rd_kafka_queue_poll(queue, 30000);
    assert_non_null(event);
    assert_int_equal(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR);
    results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
    assert_int_equal(n, 1);
    assert_int_equal(rd_kafka_topic_result_error(results[0]), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(wanted);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

static void the_contract_is_kept_by_a_real_broker(void **state)
{
    char url[128];

    (void)state;
    stream_contract(
        &(struct stream_target){.url = url_of("KAFKA_BROKERS", url), .create_topic = create_topic});
}

static void of_producers_of_one_transaction_the_last_gets_through(void **state)
{
    char url[128];
    struct stream_producer *first, *second;
    struct stream_consumer *c;
    struct error err = {0};
    enum status st;

    (void)state;
    create_topic(NULL, "fence", 1);
    first = stream_open_transactions(url_of("KAFKA_BROKERS", url), "fence");
    stream_produce(first, "fence", 0, 70, 75); /* never committed */
    second = stream_open_transactions(url, "fence");
    stream_produce(second, "fence", 0, 0, 2);
    assert_ok(stream_producer_commit(second, 20000, &err));
    st = stream_producer_commit(first, 20000, &err);
    assert_status(st, ST_CONFLICT);
    stream_producer_close(&first);
    assert_ok(stream_producer_begin(second, 20000, &err));
    stream_produce(second, "fence", 0, 2, 4);
    assert_ok(stream_producer_commit(second, 20000, &err));
    stream_producer_close(&second);
    c = stream_open_consumer(url, "fence", "fence");
    stream_join(c, 1, STREAM_OFFSET_BEGINNING);
    stream_expect_values(c, 4);
    stream_consumer_close(&c);
}

/* "kill" or "start" the broker. */
static void broker(const char *verb)
{
    char command[512];

    (void)snprintf(command, sizeof command, "'%s' %s '%s'", setting("KAFKA_SH"), verb,
                   setting("KAFKA_DIR"));
    assert_int_equal(system(command), 0);
}

struct reports {
    int n_delivered, n_failed;
};

static void count_report(void *ctx, void *tag, const struct error *err)
{
    struct reports *reports = ctx;

    (void)tag;
    reports->n_delivered += err == NULL;
    reports->n_failed += err != NULL;
}

/* SIGKILL while messages are under way: each arrives, once, in order, and nobody has to be started
 * again. */
static void a_killed_broker_costs_no_message_and_repeats_none(void **state)
{
    enum { N = 20000, KILL_AT = 7000 };
    struct reports reports = {0};
    const struct stream_property property = {"linger.ms", "1"};
    const struct stream_producer_options options = {.max_bytes = 16 << 20,
                                                    .connect_ms = 20000,
                                                    .properties = &property,
                                                    .n_properties = 1,
                                                    .delivered = count_report,
                                                    .ctx = &reports};
    struct stream_message message = {.topic = "killed", .partition = 0};
    struct stream_producer *p;
    struct stream_consumer *c;
    struct error err = {0};
    enum status st;
    char url[128];

    (void)state;
    create_topic(NULL, "killed", 1);
    assert_ok(stream_producer_open(url_of("KAFKA_BROKERS", url), &options, &p, &err));
    c = stream_open_consumer(url, "killed", "killed");
    stream_join(c, 1, STREAM_OFFSET_BEGINNING);
    for (int i = 0; i < N; i++) {
        message.value = bytes_view_of(&i, sizeof i);
        assert_ok(stream_producer_send(p, &message, NULL, &err));
        if (i % 100 == 0 && stream_producer_poll(p, 0, &err) != ST_OK)
            assert_true(status_is_retryable(err.code));
        if (i == KILL_AT)
            broker("kill");
    }
    broker("start");
    for (int tries = 0; (st = stream_producer_flush(p, 1000, &err)) != ST_OK; tries++)
        if (tries > 60 || !status_is_retryable(st))
            fail_msg("flush: %s", err.message);
    assert_int_equal(reports.n_delivered, N);
    assert_int_equal(reports.n_failed, 0);
    for (int i = 0; i < N; i++) {
        struct stream_event event;
        int found;

        do { /* the group may have lost its member meanwhile */
            st = stream_consumer_poll(c, 30000, &event, &err);
            assert_true(st == ST_OK || status_is_retryable(st));
            if (event.kind == STREAM_REVOKED)
                assert_ok(stream_consumer_unassign(c, event.partitions, 1, &err));
            if (event.kind == STREAM_ASSIGNED) {
                const struct stream_partition at = {.topic = "killed", .offset = i};

                assert_ok(stream_consumer_assign(c, &at, 1, &err));
            }
        } while (event.kind != STREAM_MESSAGE);
        assert_int_equal(event.message.value.len, sizeof found);
        memcpy(&found, event.message.value.data, sizeof found);
        assert_int_equal(event.message.offset, i);
        assert_int_equal(found, i);
    }
    stream_consumer_close(&c);
    stream_producer_close(&p);
}

static enum status log_in(const struct stream_property *login, size_t n, struct error *err)
{
    struct stream_property properties[8] = {
        {"security.protocol", "SASL_SSL"},
        {"ssl.ca.location", setting("KAFKA_CA")},
    };
    const struct stream_producer_options options = {
        .connect_ms = 10000, .properties = properties, .n_properties = n + 2};
    struct stream_message message = {.topic = "secure", .partition = 0};
    struct stream_producer *p;
    char url[128];
    enum status st;

    assert_true(n + 2 <= ARRAY_LEN(properties));
    memcpy(properties + 2, login, n * sizeof *login);
    st = stream_producer_open(url_of("KAFKA_SECURE", url), &options, &p, err);
    if (st != ST_OK)
        return st;
    message.value = bytes_of_string("x");
    st = stream_producer_send(p, &message, NULL, err);
    if (st == ST_OK)
        st = stream_producer_flush(p, 10000, err);
    stream_producer_close(&p);
    return st;
}

static void users_log_in_over_tls(void **state)
{
    const struct stream_property plain[] = {{"sasl.mechanisms", "PLAIN"},
                                            {"sasl.username", "alice"},
                                            {"sasl.password", "env:KAFKA_PASSWORD"}};
    const struct stream_property scram[] = {{"sasl.mechanisms", "SCRAM-SHA-256"},
                                            {"sasl.username", "bob"},
                                            {"sasl.password", "env:KAFKA_PASSWORD"}};
    const struct stream_property wrong[] = {
        {"sasl.mechanisms", "PLAIN"}, {"sasl.username", "alice"}, {"sasl.password", "env:HOME"}};
    bool refuses_old_scram = setting("KAFKA_VERSION")[0] >= '4' && rd_kafka_version() < 0x020601ff;
    struct error err = {0};

    (void)state;
    create_topic(NULL, "secure", 1);
    assert_ok(log_in(plain, ARRAY_LEN(plain), &err));
    assert_status(log_in(wrong, ARRAY_LEN(wrong), &err), ST_INVALID);
    assert_non_null(strstr(err.message, "uthentication failed"));
    if (refuses_old_scram) {
        assert_status(log_in(scram, ARRAY_LEN(scram), &err), ST_INVALID);
        assert_non_null(strstr(err.message, "2.6.1"));
    } else {
        assert_ok(log_in(scram, ARRAY_LEN(scram), &err));
    }
}

/* base64 as tokens have it: URL-safe, no padding. */
static void append_part(struct byte_buf *token, const char *text)
{
    struct error err = {0};
    size_t from = token->len;

    assert_ok(base64_encode(bytes_of_string(text), token, &err));
    for (size_t i = from; i < token->len; i++)
        token->data[i] = token->data[i] == '+' ? '-' : token->data[i] == '/' ? '_' : token->data[i];
    while (token->data[token->len - 1] == '=')
        token->len--;
    assert_ok(byte_buf_append_string(token, ".", &err));
}

static void a_bearer_token_is_read_from_its_file(void **state)
{
    struct temp_folder folder;
    char path[128], source[160], claims[160];
    const struct stream_property bearer[] = {{"sasl.mechanisms", "OAUTHBEARER"},
                                             {"oauthbearer.token", source}};
    int64_t now = clock_wall_ms() / 1000;
    struct byte_buf token;
    struct error err = {0};

    (void)state;
    temp_folder_init(&folder);
    temp_folder_name(&folder, "token", path, sizeof path);
    (void)snprintf(source, sizeof source, "file:%s", path);
    (void)snprintf(claims, sizeof claims, "{\"sub\":\"carol\",\"iat\":%lld,\"exp\":%lld}",
                   (long long)now, (long long)now + 600);
    byte_buf_init(&token, 4096);
    append_part(&token, "{\"alg\":\"none\"}");
    append_part(&token, claims);
    assert_ok(file_write_atomic(path, byte_buf_view(&token), &err));
    byte_buf_release(&token);
    assert_ok(log_in(bearer, ARRAY_LEN(bearer), &err));
    assert_ok(file_write_atomic(path, bytes_of_string("no token"), &err));
    assert_status(log_in(bearer, ARRAY_LEN(bearer), &err), ST_INVALID);
    assert_non_null(strstr(err.message, "no JWT"));
    temp_folder_release(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_contract_is_kept_by_a_real_broker),
        cmocka_unit_test(of_producers_of_one_transaction_the_last_gets_through),
        cmocka_unit_test(users_log_in_over_tls),
        cmocka_unit_test(a_bearer_token_is_read_from_its_file),
        cmocka_unit_test(a_killed_broker_costs_no_message_and_repeats_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
