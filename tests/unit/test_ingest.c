/* Ingest on librdkafka's mock brokers, a SQLite catalog and an output in memory: what it does when
 * others were there before, when stores and brokers refuse, and when it starts again. */
#include "coordinator/ingest.h"
#include "reinforce/base/clock.h"
#include "storage/catalog/catalog.h"
#include "tests/support/stream_contract.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_PARTITIONS = 2, MAX_UIDS = 200 };

struct fixture {
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *mock;
    struct temp_folder folder;
    struct object_store *output;
    struct catalog *catalog;
    struct arena arena;
    struct job *job;
    struct catalog_job row;
    struct stream_producer *producer;
    char url[256];
    struct ingest_stats stats;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256], path[128], text[1024];
    const char *config;
    struct error err = {0};

    assert_non_null(f);
    (void)rd_kafka_conf_set(conf, "log_level", "0", why, sizeof why);
    f->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    assert_non_null(f->rk);
    f->mock = rd_kafka_mock_cluster_new(f->rk, 1);
    assert_int_equal(rd_kafka_mock_topic_create(f->mock, "t", N_PARTITIONS, 1), 0);
    assert_int_equal(rd_kafka_mock_topic_create(f->mock, "dead", 1, 1), 0);
    (void)snprintf(f->url, sizeof f->url, "kafka://%s", rd_kafka_mock_cluster_bootstraps(f->mock));
    temp_folder_init(&f->folder);
    temp_folder_name(&f->folder, "catalog.sqlite", path, sizeof path);
    (void)snprintf(
        text, sizeof text,
        "{name: i, input: {url: 'kafka:t', shard_samples: 10}, output: {url: 'mem:i'}, "
        "catalog: {url: 'sqlite:%s'}, teachers: [{model: m}], kafka: {brokers: '%s', "
        "follow: false, dead_letters: dead, shard_age: 1h, properties: 'session.timeout.ms=4000'}}",
        path, f->url + strlen("kafka://"));
    assert_ok(job_load_text(bytes_of_string(text), "i.yaml", NULL, 0, &f->job, &err));
    arena_init(&f->arena, 64 << 20);
    assert_ok(object_store_open("mem:i", &f->output, &err));
    assert_ok(catalog_open(f->job->catalog.url, &f->catalog, &err));
    assert_ok(catalog_job_begin(f->catalog, "i", f->job->digest, "{}", 1, &f->arena, &f->row,
                                &config, &err));
    assert_ok(catalog_plan_commit(f->catalog, &f->row, NULL, 0, true, &err));
    f->producer = stream_open_producer(f->url);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    stream_producer_close(&f->producer);
    catalog_close(&f->catalog);
    object_store_close(&f->output);
    job_destroy(&f->job);
    arena_release(&f->arena);
    temp_folder_release(&f->folder);
    rd_kafka_mock_cluster_destroy(f->mock);
    rd_kafka_destroy(f->rk);
    free(f);
    return 0;
}

/* Records "u<from>" .. into one partition; "" makes bad ones. */
static void produce(struct fixture *f, int partition, const char *prefix, int from, int to)
{
    struct error err = {0};

    for (int i = from; i < to; i++) {
        struct stream_message message = {.topic = "t", .partition = partition};
        char text[96];

        if (prefix[0] != '\0')
            (void)snprintf(text, sizeof text, "{\"uid\": \"%s%d\", \"image_key\": \"%s%d\"}",
                           prefix, i, prefix, i);
        else
            (void)snprintf(text, sizeof text, "{\"bad\": %d}", i);
        message.value = bytes_of_string(text);
        assert_ok(stream_producer_send(f->producer, &message, NULL, &err));
    }
    assert_ok(stream_producer_flush(f->producer, 20000, &err));
}

static enum status ingest(struct fixture *f, struct error *err)
{
    const struct ingest_options options = {.job = f->job,
                                           .job_id = f->row.job,
                                           .catalog_url = f->job->catalog.url,
                                           .output = f->output,
                                           .connect_ms = 20000};

    memset(&f->stats, 0, sizeof f->stats);
    return ingest_run(&options, &f->stats, err);
}

/* How many lines all shards of the catalog have together; fails when a uid comes twice. */
static int count_lines(struct fixture *f)
{
    const struct catalog_terms terms = {
        .lease_ms = 1000000, .max_attempts = 3, .part_samples = 4, .samples_at_work = 8};
    char *uids[MAX_UIDS];
    int n = 0;
    struct error err = {0};

    for (;;) {
        struct catalog_lease lease;
        struct bytes_view body;
        int64_t wait_ms;
        enum status st = catalog_lease_take(f->catalog, f->row.job, "w", 0, &terms, &f->arena,
                                            &lease, &wait_ms, &err);

        if (st == ST_NOT_FOUND)
            break;
        assert_int_equal(st, ST_OK);
        assert_ok(
            object_store_get(f->output, lease.plan.input_key, 1 << 20, &f->arena, &body, &err));
        assert_int_equal(body.len, lease.plan.input_end);
        for (size_t at = 0; at < body.len;) {
            size_t len = (size_t)((const uint8_t *)memchr(body.data + at, '\n', body.len - at) -
                                  (body.data + at));
            json_t *line;

            assert_true(n < MAX_UIDS);
            assert_ok(json_parse(bytes_view_of(body.data + at, len), &line, &err));
            uids[n] = strdup(json_string_value(json_object_get(line, "uid")));
            for (int i = 0; i < n; i++)
                assert_string_not_equal(uids[i], uids[n]);
            n++;
            json_decref(line);
            at += len + 1;
        }
    }
    for (int i = 0; i < n; i++)
        free(uids[i]);
    assert_ok(catalog_leases_reset(f->catalog, f->row.job, &err));
    return n;
}

static void each_run_goes_on_where_the_catalog_says(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};

    produce(f, 0, "a", 0, 23);
    produce(f, 1, "b", 0, 4);
    produce(f, 1, "", 0, 2);
    produce(f, 1, "b", 1, 3); /* again */
    assert_ok(ingest(f, &err));
    assert_int_equal(f->stats.n_records, 27);
    assert_int_equal(f->stats.n_duplicates, 2);
    assert_int_equal(f->stats.n_refused, 2);
    assert_int_equal(f->stats.n_shards, 3);
    assert_int_equal(count_lines(f), 27);
    assert_ok(ingest(f, &err));
    assert_int_equal(f->stats.n_records, 0);
    produce(f, 0, "a", 20, 26); /* three are seconds of what the first run took */
    assert_ok(ingest(f, &err));
    assert_int_equal(f->stats.n_records, 3);
    assert_int_equal(f->stats.n_duplicates, 3);
    assert_int_equal(count_lines(f), 30);
}

static void what_another_has_read_is_left_to_it(void **state)
{
    struct fixture *f = *state;
    const struct catalog_ingest_range theirs = {.topic = "t",
                                                .partition = 0,
                                                .begin = CATALOG_INGEST_UNKNOWN,
                                                .end = 5,
                                                .seen = bytes_of_string("")};
    const struct catalog_ingest other = {.input_etag = "", .ranges = &theirs, .n_ranges = 1};
    struct error err = {0};
    int64_t shard;

    produce(f, 0, "a", 0, 12);
    assert_ok(catalog_ingest_commit(f->catalog, f->row.job, &other, 1, &shard, &err));
    assert_ok(ingest(f, &err));
    assert_int_equal(f->stats.n_records, 7);
    assert_int_equal(count_lines(f), 7);
}

static void a_dead_letter_that_is_refused_holds_the_offsets(void **state)
{
    struct fixture *f = *state;
    struct catalog_ingest_position position;
    struct error err = {0};

    produce(f, 0, "a", 0, 3);
    produce(f, 0, "", 0, 1);
    rd_kafka_mock_push_request_errors(f->mock, 0 /* Produce */, 1,
                                      RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert_status(ingest(f, &err), ST_INVALID);
    assert_non_null(strstr(err.context, "kafka.dead_letters"));
    assert_ok(catalog_ingest_read(f->catalog, f->row.job, "t", 0, 0, &f->arena, &position, &err));
    assert_int_equal(position.next_offset, CATALOG_INGEST_UNKNOWN);
    assert_ok(ingest(f, &err));
    assert_int_equal(f->stats.n_refused, 1);
    assert_int_equal(count_lines(f), 3);
}

static void a_topic_shorter_than_what_was_read_needs_somebody_to_look(void **state)
{
    struct fixture *f = *state;
    const struct catalog_ingest_range theirs = {.topic = "t",
                                                .partition = 0,
                                                .begin = CATALOG_INGEST_UNKNOWN,
                                                .end = 500,
                                                .seen = bytes_of_string("")};
    const struct catalog_ingest other = {.input_etag = "", .ranges = &theirs, .n_ranges = 1};
    struct error err = {0};
    int64_t shard;

    produce(f, 0, "a", 0, 3);
    assert_ok(catalog_ingest_commit(f->catalog, f->row.job, &other, 1, &shard, &err));
    assert_status(ingest(f, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "made anew"));
}

static void a_cancelled_job_takes_no_more(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};

    produce(f, 0, "a", 0, 3);
    assert_ok(catalog_job_set_state(f->catalog, f->row.job, CATALOG_JOB_CANCELLED, &err));
    assert_status(ingest(f, &err), ST_CANCELLED);
    assert_int_equal(count_lines(f), 0);
}

static void brokers_that_are_not_there_are_said_so(void **state)
{
    struct fixture *f = *state;
    struct job_override nowhere = {.text = "kafka.brokers=127.0.0.1:1"};
    struct ingest_options options = {.job_id = f->row.job,
                                     .catalog_url = f->job->catalog.url,
                                     .output = f->output,
                                     .connect_ms = 1000};
    struct job *job;
    struct error err = {0};

    assert_ok(job_load_text(bytes_of_string(f->job->effective_json), "i", &nowhere, 1, &job, &err));
    options.job = job;
    assert_status(ingest_run(&options, &f->stats, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.context, "127.0.0.1:1"));
    job_destroy(&job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_run_goes_on_where_the_catalog_says, setup, teardown),
        cmocka_unit_test_setup_teardown(what_another_has_read_is_left_to_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dead_letter_that_is_refused_holds_the_offsets, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_topic_shorter_than_what_was_read_needs_somebody_to_look,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_job_takes_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(brokers_that_are_not_there_are_said_so, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
