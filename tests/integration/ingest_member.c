/* One member of a group that gathers a topic into a job's shards, without any work done on them:
 * for tests and benchmarks that kill it.
 *
 *   ingest_member JOB.yaml             reads until SIGTERM, or to the end when the job does not
 * follow ingest_member --create BROKERS TOPIC PARTITIONS
 */
#include "coordinator/ingest.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/parse.h"
#include "storage/catalog/catalog.h"

#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static atomic_bool stop;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&stop, true);
}

static int fail(const struct error *err)
{
    (void)fprintf(stderr, "ingest_member: %s: %s\n", err->context, err->message);
    return EXIT_FAILURE;
}

/* Waits for what an administrator's request comes to. */
static int administer(const char *brokers, rd_kafka_NewTopic_t *topic,
                      rd_kafka_DeleteRecords_t *records)
{
    char why[256] = "";
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_event_t *event;
    rd_kafka_queue_t *queue;
    rd_kafka_t *rk;
    bool done;

    (void)rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);
    rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (rk == NULL) {
        (void)fprintf(stderr, "ingest_member: %s\n", why);
        return EXIT_FAILURE;
    }
    queue = rd_kafka_queue_new(rk);
    if (topic != NULL)
        rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    else
        rd_kafka_DeleteRecords(rk, &records, 1, NULL, queue);
    event = rd_kafka_queue_poll(queue, 30000);
    done = event != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    return done ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int create_topic(const char *brokers, const char *name, int n_partitions)
{
    char why[256];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, n_partitions, 1, why, sizeof why);
    int code = topic != NULL ? administer(brokers, topic, NULL) : EXIT_FAILURE;

    if (topic != NULL)
        rd_kafka_NewTopic_destroy(topic);
    return code;
}

/* What retention does: records of partition 0 before `offset` are gone. */
static int delete_before(const char *brokers, const char *topic, int64_t offset)
{
    rd_kafka_topic_partition_list_t *until = rd_kafka_topic_partition_list_new(1);
    rd_kafka_DeleteRecords_t *records;
    int code;

    rd_kafka_topic_partition_list_add(until, topic, 0)->offset = offset;
    records = rd_kafka_DeleteRecords_new(until);
    code = administer(brokers, NULL, records);
    rd_kafka_DeleteRecords_destroy(records);
    rd_kafka_topic_partition_list_destroy(until);
    return code;
}

/* The job in the catalog, planned with no shards; whoever comes second finds it so. */
static enum status begin(const struct job *job, struct arena *arena, int64_t *id, struct error *err)
{
    struct catalog *catalog;
    struct catalog_job row;
    const char *config;
    enum status st = catalog_open(job->catalog.url, &catalog, err);

    if (st != ST_OK)
        return st;
    st = catalog_job_begin(catalog, job->name, job->digest, job->effective_json, clock_wall_ms(),
                           arena, &row, &config, err);
    if (st == ST_OK && row.state == CATALOG_JOB_PLANNING) {
        st = catalog_plan_commit(catalog, &row, NULL, 0, true, err);
        st = st == ST_CONFLICT ? ST_OK : st;
    }
    *id = row.job;
    catalog_close(&catalog);
    return st;
}

static int gather(const char *path)
{
    struct ingest_options options = {.stop = &stop, .connect_ms = 30000};
    struct ingest_stats stats = {0};
    struct job *job;
    struct arena arena;
    struct error err = {0};
    int64_t begun_ms = clock_monotonic_ms();
    enum status st = job_load(path, NULL, 0, &job, &err);

    if (st != ST_OK)
        return fail(&err);
    arena_init(&arena, 64 << 20);
    options.job = job;
    options.catalog_url = job->catalog.url;
    st = object_store_open(job->output.url, &options.output, &err);
    if (st == ST_OK)
        st = begin(job, &arena, &options.job_id, &err);
    if (st == ST_OK)
        st = ingest_run(&options, &stats, &err);
    object_store_close(&options.output);
    arena_release(&arena);
    job_destroy(&job);
    (void)printf("{\"records\": %lld, \"duplicates\": %lld, \"refused\": %lld, \"shards\": %lld, "
                 "\"conflicts\": %lld, \"gone\": %lld, \"ms\": %lld}\n",
                 atomic_load(&stats.n_records), atomic_load(&stats.n_duplicates),
                 atomic_load(&stats.n_refused), atomic_load(&stats.n_shards),
                 atomic_load(&stats.n_conflicts), atomic_load(&stats.n_gone),
                 (long long)(clock_monotonic_ms() - begun_ms));
    return st == ST_OK ? EXIT_SUCCESS : fail(&err);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct error err = {0};
    int64_t n;

    log_set_level(LOG_INFO);
    (void)sigaction(SIGTERM, &action, NULL);
    if (argc == 2)
        return gather(argv[1]);
    if (argc == 5 && parse_i64(argv[4], 1, 1000000000, &n, &err) == ST_OK) {
        if (strcmp(argv[1], "--create") == 0)
            return create_topic(argv[2], argv[3], (int)n);
        if (strcmp(argv[1], "--delete-before") == 0)
            return delete_before(argv[2], argv[3], n);
    }
    (void)fprintf(stderr, "usage: ingest_member JOB.yaml | --create BROKERS TOPIC PARTITIONS | "
                          "--delete-before BROKERS TOPIC OFFSET\n");
    return 2;
}
