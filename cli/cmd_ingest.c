#include "cli/catalog_args.h"
#include "cli/job_args.h"
#include "coordinator/ingest_lag.h"
#include "reinforce/base/clock.h"
#include "reinforce/job/job_stream.h"

#include <inttypes.h>
#include <stdio.h>

static json_t *integer_or_null(int64_t value)
{
    return value >= 0 ? json_integer(value) : json_null();
}

static json_t *partition_json(const struct ingest_partition *partition)
{
    const struct catalog_ingest_partition *row = &partition->row;

    return json_pack("{s:s, s:i, s:o, s:I, s:I, s:I, s:I, s:o}", "topic", row->topic, "partition",
                     (int)row->partition, "next_offset", integer_or_null(row->next_offset),
                     "records", (json_int_t)row->n_records, "duplicates",
                     (json_int_t)row->n_duplicates, "refused", (json_int_t)row->n_refused,
                     "updated_ms", (json_int_t)row->updated_ms, "lag",
                     integer_or_null(partition->lag));
}

static enum status print_json(const struct job *job, const struct ingest_lag *lag,
                              const struct catalog_ingest_pace *pace, struct error *err)
{
    json_t *list = json_array();

    for (size_t i = 0; i < lag->n; i++)
        (void)json_array_append_new(list, partition_json(&lag->partitions[i]));
    return catalog_args_print_json(
        json_pack("{s:s, s:o, s:f, s:{s:I, s:I, s:I, s:I}, s:{s:I, s:I}}", "job", job->name,
                  "partitions", list, "records_per_second", catalog_ingest_rate(pace), "lease_wait",
                  "shards", (json_int_t)pace->n_leased, "p50_ms", (json_int_t)pace->p50_ms,
                  "p99_ms", (json_int_t)pace->p99_ms, "target_ms",
                  (json_int_t)job->kafka.latency_ms, "waiting", "shards",
                  (json_int_t)pace->n_waiting, "oldest_ms", (json_int_t)pace->oldest_ms),
        err);
}

static void format_number(int64_t value, const char *unknown, char out[32])
{
    (void)snprintf(out, 32, "%s", unknown);
    if (value >= 0)
        (void)snprintf(out, 32, "%" PRId64, value);
}

static void print_table(const struct ingest_lag *lag)
{
    int64_t sum = 0, records = 0, duplicates = 0, refused = 0, now_ms = clock_wall_ms();
    bool known = true;

    (void)printf("%-24s %9s %12s %10s %12s %10s %8s  %s\n", "topic", "partition", "next offset",
                 "lag", "records", "duplicates", "refused", "last commit");
    for (size_t i = 0; i < lag->n; i++) {
        const struct catalog_ingest_partition *row = &lag->partitions[i].row;
        bool is_read = row->next_offset != CATALOG_INGEST_UNKNOWN;
        char next[32], left[32], ago[32] = "never";

        format_number(row->next_offset, "-", next);
        format_number(lag->partitions[i].lag, "?", left);
        known = known && lag->partitions[i].lag >= 0;
        if (is_read)
            job_args_format_seconds((double)MAX(now_ms - row->updated_ms, (int64_t)0) / 1000, ago);
        (void)printf("%-24s %9" PRId32 " %12s %10s %12" PRId64 " %10" PRId64 " %8" PRId64
                     "  %s%s\n",
                     row->topic, row->partition, next, left, row->n_records, row->n_duplicates,
                     row->n_refused, ago, is_read ? " ago" : "");
        sum += MAX(lag->partitions[i].lag, (int64_t)0);
        records += row->n_records;
        duplicates += row->n_duplicates;
        refused += row->n_refused;
    }
    (void)printf("%-24s %9zu %12s %s%" PRId64 " %12" PRId64 " %10" PRId64 " %8" PRId64 "\n", "all",
                 lag->n, "", known ? "" : "at least ", sum, records, duplicates, refused);
}

static void print_pace(const struct job *job, const struct catalog_ingest_pace *pace)
{
    int64_t target_ms = job->kafka.latency_ms;

    (void)printf("\n  rate         %.1f records/s over the last minute\n",
                 catalog_ingest_rate(pace));
    if (pace->n_leased > 0)
        (void)printf("  lease        after %.1f s for half, %.1f s for 99 of 100 of the last "
                     "%" PRId64 " shards\n",
                     (double)pace->p50_ms / 1000, (double)pace->p99_ms / 1000, pace->n_leased);
    if (pace->n_waiting > 0)
        (void)printf("  waiting      %" PRId64 " shards, the oldest for %.1f s\n", pace->n_waiting,
                     (double)pace->oldest_ms / 1000);
    if (target_ms > 0)
        (void)printf("  target       %.1f s: %s\n", (double)target_ms / 1000,
                     MAX(pace->p99_ms, pace->oldest_ms) <= target_ms ? "kept" : "missed");
}

static enum status show(struct catalog_args *args, struct error *err)
{
    struct ingest_lag lag;
    struct catalog_ingest_pace pace;
    struct catalog_job_row row;
    struct job *job = NULL;
    enum status st = catalog_args_find(args, &row, err);

    if (st == ST_OK)
        st = catalog_args_load(args, &job, err);
    if (st == ST_OK && !job_is_stream(job))
        st = error_set(err, ST_INVALID, "job \"%s\" reads no stream; its input is \"%.100s\"",
                       job->name, job->input.url);
    if (st == ST_OK)
        st = catalog_ingest_read_pace(args->catalog, row.job.job, &pace, err);
    if (st == ST_OK)
        st = ingest_lag_read(job, args->catalog, row.job.job, &args->arena, &lag, err);
    if (st == ST_OK && lag.asked != ST_OK)
        (void)fprintf(stderr, "reinforce ingest: lag is not known: %s: %s\n", lag.why.context,
                      lag.why.message);
    if (st == ST_OK && args->json) {
        st = print_json(job, &lag, &pace, err);
    } else if (st == ST_OK) {
        print_table(&lag);
        print_pace(job, &pace);
    }
    job_destroy(&job);
    return st;
}

static int run(int argc, char **argv)
{
    struct catalog_args args;
    struct error err = {0};
    enum status st;
    int code;

    if (argc < 2 || strcmp(argv[1], "status") != 0)
        return command_usage(&cmd_ingest, "say status");
    code = catalog_args_open(&cmd_ingest, argc - 1, argv + 1, true, NULL, &args);
    if (code != EXIT_DONE)
        return code;
    st = show(&args, &err);
    catalog_args_close(&args);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_ingest, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_ingest = {
    .name = "ingest",
    .synopsis = "reinforce ingest status [--catalog URL] [--json] JOB",
    .summary = "says how far a job is in the topics it reads",
    .help = "For every partition of the topics of JOB, a job file or with --catalog the name of a\n"
            "job: the offset where reading goes on, as the catalog has it; the lag, which is how\n"
            "many records the brokers have behind it; records taken, duplicates dropped and\n"
            "records refused; and when a shard was last committed from it. Below that the rate,\n"
            "and how long records have waited from being read until somebody leased their\n"
            "shard, beside kafka.latency_target. Reading itself is done by `reinforce run`, or\n"
            "by the coordinators that serve the job's catalog.\n"
            "\n"
            "Options:\n" CATALOG_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce ingest status configs/kafka.yaml\n"
            "\n"
            "Exit codes:\n"
            "  0  done, also when the brokers could not be asked\n"
            "  1  there is no such job, or the catalog could not be read\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
