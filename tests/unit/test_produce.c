/* Samples of every kind of input become records, on librdkafka's mock brokers. */
#include "coordinator/produce.h"
#include "reinforce/base/file.h"
#include "reinforce/base/json.h"
#include "tests/support/stream_contract.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>

struct fixture {
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *mock;
    struct temp_folder folder;
    char url[256];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    assert_non_null(f);
    (void)rd_kafka_conf_set(conf, "log_level", "0", why, sizeof why);
    f->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    assert_non_null(f->rk);
    f->mock = rd_kafka_mock_cluster_new(f->rk, 1);
    assert_int_equal(rd_kafka_mock_topic_create(f->mock, "records", 1, 1), 0);
    (void)snprintf(f->url, sizeof f->url, "kafka://%s", rd_kafka_mock_cluster_bootstraps(f->mock));
    temp_folder_init(&f->folder);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    temp_folder_release(&f->folder);
    rd_kafka_mock_cluster_destroy(f->mock);
    rd_kafka_destroy(f->rk);
    free(f);
    return 0;
}

static void put(struct fixture *f, const char *name, const char *text)
{
    char path[256];
    struct error err = {0};

    temp_folder_name(&f->folder, name, path, sizeof path);
    assert_ok(file_write_atomic(path, bytes_of_string(text), &err));
}

static struct produce_options options_of(struct fixture *f)
{
    return (struct produce_options){.stream_url = f->url,
                                    .topic = "records",
                                    .schema = STREAM_SCHEMA_JSON,
                                    .input_url = f->folder.path,
                                    .input_format = "auto",
                                    .max_sample_bytes = 1 << 20,
                                    .connect_ms = 20000};
}

/* The next record's key is `key` and its value JSON whose `field` is `want`. */
static void expect(struct stream_consumer *c, const char *key, const char *field, const char *want)
{
    struct stream_event event;
    struct error err = {0};
    json_t *value;

    stream_wait(c, STREAM_MESSAGE, &event);
    assert_true(bytes_equal(event.message.key, bytes_of_string(key)));
    assert_ok(json_parse(event.message.value, &value, &err));
    assert_string_equal(json_string_value(json_object_get(value, field)), want);
    json_decref(value);
}

static struct stream_consumer *read_from_the_beginning(const struct fixture *f)
{
    struct stream_consumer *c = stream_open_consumer(f->url, "g", "records");

    stream_join(c, 1, STREAM_OFFSET_BEGINNING);
    return c;
}

static void samples_become_records_and_bad_ones_are_skipped(void **state)
{
    struct fixture *f = *state;
    struct produce_options options = options_of(f);
    struct produce_summary summary;
    struct stream_consumer *c;
    struct error err = {0};

    put(f, "a.jsonl",
        "{\"uid\": \"a\", \"image\": \"cGl4ZWxz\", \"text\": \"one\"}\n"
        "{\"uid\": \"b\"}\n"
        "{\"uid\": \"c\", \"image\": \"cGl4ZWxz\", \"text\": \"three\"}\n"
        "{\"uid\": \"d\", \"image\": \"cGl4ZWxz\", \"text\": \"four\"}\n");
    options.limit = 2;
    assert_ok(produce_run(&options, &summary, &err));
    assert_int_equal(summary.n_sent, 2);
    assert_int_equal(summary.n_delivered, 2);
    assert_int_equal(summary.n_skipped, 1);
    c = read_from_the_beginning(f);
    expect(c, "a", "text", "one");
    expect(c, "c", "text", "three");
    stream_consumer_close(&c);
}

static void a_folder_goes_as_images_or_as_keys(void **state)
{
    struct fixture *f = *state;
    struct produce_options options = options_of(f);
    struct produce_summary summary;
    struct stream_consumer *c;
    struct error err = {0};

    put(f, "x.jpg", "pixels");
    put(f, "x.txt", "a caption\n");
    assert_ok(produce_run(&options, &summary, &err));
    options.keys = true;
    assert_ok(produce_run(&options, &summary, &err));
    c = read_from_the_beginning(f);
    expect(c, "x", "image", "cGl4ZWxz");
    expect(c, "x", "image_key", "x.jpg");
    stream_consumer_close(&c);
}

static void lines_of_jsonl_go_as_they_are(void **state)
{
    struct fixture *f = *state;
    struct produce_options options = options_of(f);
    struct produce_summary summary;
    struct stream_consumer *c;
    struct error err = {0};

    put(f, "a.jsonl",
        "{\"uid\": \"a\", \"image_url\": \"https://h/a.jpg\"}\n\n{\"uid\":\n"
        "{\"image_key\": \"k\"}\n{\"id\": 7, \"image_key\": \"b.jpg\"}");
    options.keys = true;
    assert_ok(produce_run(&options, &summary, &err));
    assert_int_equal(summary.n_delivered, 2);
    assert_int_equal(summary.n_skipped, 2);
    c = read_from_the_beginning(f);
    expect(c, "a", "image_url", "https://h/a.jpg");
    expect(c, "7", "image_key", "b.jpg");
    stream_consumer_close(&c);
}

static void what_a_broker_refuses_ends_it(void **state)
{
    struct fixture *f = *state;
    struct produce_options options = options_of(f);
    struct produce_summary summary;
    struct error err = {0};

    put(f, "a.jsonl", "{\"uid\": \"a\", \"image\": \"cGl4ZWxz\"}\n");
    rd_kafka_mock_push_request_errors(f->mock, 0 /* Produce */, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert_status(produce_run(&options, &summary, &err), ST_INVALID);
    assert_int_equal(summary.n_delivered, 0);
    assert_non_null(strstr(err.context, "records"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(samples_become_records_and_bad_ones_are_skipped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_folder_goes_as_images_or_as_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_of_jsonl_go_as_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_broker_refuses_ends_it, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
