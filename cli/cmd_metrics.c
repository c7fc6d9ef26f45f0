#include "cli/catalog_args.h"
#include "coordinator/ingest_lag.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "reinforce/job/job_stream.h"
#include "storage/catalog/catalog_outbox.h"
#include "worker/stored_job.h"

#include <inttypes.h>
#include <stdio.h>

enum { FAMILY_MAX_BYTES = 64 << 20, RATE_FRESH_MS = 60000 };

enum family {
    SHARDS,
    SAMPLES,
    SAMPLE_RATE,
    OUTPUT_BYTES,
    EVENTS_WAITING,
    EVENTS_AGE,
    RECORDS,
    DUPLICATES,
    REFUSED,
    OFFSET,
    LAG,
    RECORD_RATE,
    SHARDS_WAITING,
    SHARD_AGE,
    LEASE_WAIT,
    LATENCY_TARGET,
    N_FAMILIES,
};

static const struct {
    const char *name, *type, *help;
} families[N_FAMILIES] = {
    [SHARDS] = {"reinforce_shards", "gauge", "Shards of a job by state."},
    [SAMPLES] = {"reinforce_samples", "gauge", "Samples of a job by state."},
    [SAMPLE_RATE] = {"reinforce_samples_per_second", "gauge",
                     "Speed as a coordinator has last measured it."},
    [OUTPUT_BYTES] = {"reinforce_output_bytes", "gauge", "Bytes of finished shards."},
    [EVENTS_WAITING] = {"reinforce_events_waiting", "gauge", "Events that are not published yet."},
    [EVENTS_AGE] = {"reinforce_events_oldest_seconds", "gauge",
                    "How long the first of them has waited."},
    [RECORDS] = {"reinforce_stream_records_total", "counter",
                 "Records of a partition that were taken."},
    [DUPLICATES] = {"reinforce_stream_duplicates_total", "counter", "Seconds that were dropped."},
    [REFUSED] = {"reinforce_stream_refused_total", "counter",
                 "Records that were refused: dead letters, where there is a topic for them."},
    [OFFSET] = {"reinforce_stream_offset", "gauge", "Where reading goes on."},
    [LAG] = {"reinforce_stream_lag", "gauge",
             "Records behind that offset; missing while the brokers cannot be asked."},
    [RECORD_RATE] = {"reinforce_stream_records_per_second", "gauge",
                     "Records taken, over the last minute."},
    [SHARDS_WAITING] = {"reinforce_stream_shards_waiting", "gauge",
                        "Shards of a stream that nobody has leased yet."},
    [SHARD_AGE] = {"reinforce_stream_shard_age_seconds", "gauge",
                   "How long the oldest record of those has waited."},
    [LEASE_WAIT] = {"reinforce_stream_lease_wait_seconds", "gauge",
                    "From the reading of a shard's oldest record to the shard's lease, over the "
                    "last shards."},
    [LATENCY_TARGET] = {"reinforce_stream_latency_target_seconds", "gauge",
                        "What a record may wait (kafka.latency_target)."},
};

/* A family's lines stand together, whatever the order they are found in. */
struct metrics {
    struct catalog_args *args;
    struct byte_buf lines[N_FAMILIES];
};

/* `labels` follows job="..."; "" for none. */
static enum status add(struct metrics *m, enum family family, const char *job, const char *labels,
                       double value, struct error *err)
{
    return byte_buf_printf(&m->lines[family], err, "%s{job=\"%s\"%s} %.15g\n",
                           families[family].name, job, labels, value);
}

static enum status add_counts(struct metrics *m, const char *job, const struct catalog_progress *p,
                              const struct catalog_outbox *outbox, double events_age,
                              struct error *err)
{
    const struct {
        enum family family;
        const char *labels;
        int64_t value;
    } lines[] = {
        {SHARDS, ",state=\"ready\"",
         p->shards_total - p->shards_done - p->shards_leased - p->shards_failed},
        {SHARDS, ",state=\"leased\"", p->shards_leased},
        {SHARDS, ",state=\"done\"", p->shards_done},
        {SHARDS, ",state=\"failed\"", p->shards_failed},
        {SAMPLES, ",state=\"done\"", p->samples_done},
        {SAMPLES, ",state=\"quarantined\"", p->samples_quarantined},
        {SAMPLES, ",state=\"filtered\"", p->samples_filtered},
        {OUTPUT_BYTES, "", (int64_t)p->bytes_written},
        {EVENTS_WAITING, "", outbox->n_waiting},
    };
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(lines) && st == ST_OK; i++)
        st = add(m, lines[i].family, job, lines[i].labels, (double)lines[i].value, err);
    return st == ST_OK ? add(m, EVENTS_AGE, job, "", events_age, err) : st;
}

static enum status add_job(struct metrics *m, const struct catalog_job_row *row, struct error *err)
{
    struct catalog_progress progress;
    struct catalog_outbox outbox;
    int64_t now_ms = clock_wall_ms(), age_ms = 0;
    enum status st = catalog_read_progress(m->args->catalog, row->job.job, &progress, err);

    if (st == ST_OK)
        st = catalog_outbox_count(m->args->catalog, row->job.job, &outbox, err);
    if (st != ST_OK)
        return st;
    if (outbox.n_waiting > 0)
        age_ms = MAX(now_ms - outbox.oldest_ms, (int64_t)0);
    st = add_counts(m, row->job.name, &progress, &outbox, (double)age_ms / 1000, err);
    if (st == ST_OK && row->rated_ms > 0 && now_ms - row->rated_ms < RATE_FRESH_MS)
        st = add(m, SAMPLE_RATE, row->job.name, "", row->samples_per_second, err);
    return st;
}

static enum status add_partition(struct metrics *m, const char *job,
                                 const struct ingest_partition *partition, struct error *err)
{
    const struct catalog_ingest_partition *row = &partition->row;
    const struct {
        enum family family;
        int64_t value; /* < 0: not known */
    } lines[] = {{RECORDS, row->n_records},
                 {DUPLICATES, row->n_duplicates},
                 {REFUSED, row->n_refused},
                 {OFFSET, row->next_offset},
                 {LAG, partition->lag}};
    char labels[320];
    enum status st = ST_OK;

    (void)snprintf(labels, sizeof labels, ",topic=\"%s\",partition=\"%" PRId32 "\"", row->topic,
                   row->partition);
    for (size_t i = 0; i < ARRAY_LEN(lines) && st == ST_OK; i++)
        if (lines[i].value >= 0)
            st = add(m, lines[i].family, job, labels, (double)lines[i].value, err);
    return st;
}

static enum status add_pace(struct metrics *m, const struct job *job,
                            const struct catalog_ingest_pace *pace, struct error *err)
{
    const struct {
        const char *labels;
        double value;
        enum family family;
        bool is_known;
    } lines[] = {
        {"", catalog_ingest_rate(pace), RECORD_RATE, true},
        {"", (double)pace->n_waiting, SHARDS_WAITING, true},
        {"", (double)pace->oldest_ms / 1000, SHARD_AGE, true},
        {",quantile=\"0.5\"", (double)pace->p50_ms / 1000, LEASE_WAIT, pace->n_leased > 0},
        {",quantile=\"0.99\"", (double)pace->p99_ms / 1000, LEASE_WAIT, pace->n_leased > 0},
        {"", (double)job->kafka.latency_ms / 1000, LATENCY_TARGET, job->kafka.latency_ms > 0},
    };
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(lines) && st == ST_OK; i++)
        if (lines[i].is_known)
            st = add(m, lines[i].family, job->name, lines[i].labels, lines[i].value, err);
    return st;
}

static enum status add_stream(struct metrics *m, int64_t job_id, const struct job *job,
                              struct error *err)
{
    struct arena arena;
    struct ingest_lag lag;
    struct catalog_ingest_pace pace;
    enum status st;

    arena_init(&arena, 64 << 20);
    st = catalog_ingest_read_pace(m->args->catalog, job_id, &pace, err);
    if (st == ST_OK)
        st = ingest_lag_read(job, m->args->catalog, job_id, &arena, &lag, err);
    if (st == ST_OK && lag.asked != ST_OK)
        (void)fprintf(stderr, "reinforce metrics: lag of job %s is not known: %s: %s\n", job->name,
                      lag.why.context, lag.why.message);
    for (size_t i = 0; st == ST_OK && i < lag.n; i++)
        st = add_partition(m, job->name, &lag.partitions[i], err);
    if (st == ST_OK)
        st = add_pace(m, job, &pace, err);
    arena_release(&arena);
    return st;
}

static enum status gather(struct metrics *m, struct error *err)
{
    struct catalog_args *args = m->args;
    struct catalog_job_row *rows;
    size_t n, n_found = 0;
    enum status st =
        catalog_read_jobs(args->catalog, clock_wall_ms(), &args->arena, &rows, &n, err);

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        struct catalog_job found;
        struct job *job = NULL;

        if (args->name != NULL && strcmp(args->name, rows[i].job.name) != 0)
            continue;
        n_found++;
        st = add_job(m, &rows[i], err);
        if (st == ST_OK)
            st = stored_job_load(args->catalog, rows[i].job.name, &found, &job, err);
        if (st == ST_OK && job_is_stream(job))
            st = add_stream(m, rows[i].job.job, job, err);
        job_destroy(&job);
    }
    if (st == ST_OK && args->name != NULL && n_found == 0)
        st = error_set(err, ST_NOT_FOUND, "no job \"%s\" in the catalog", args->name);
    return st;
}

static enum status join(const struct metrics *m, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (int f = 0; f < N_FAMILIES && st == ST_OK; f++) {
        if (m->lines[f].len == 0)
            continue;
        st = byte_buf_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", families[f].name,
                             families[f].help, families[f].name, families[f].type);
        if (st == ST_OK)
            st = byte_buf_append(out, m->lines[f].data, m->lines[f].len, err);
    }
    return st;
}

static enum status show(struct catalog_args *args, const char *path, struct error *err)
{
    struct metrics m = {.args = args};
    struct byte_buf text;
    enum status st;

    byte_buf_init(&text, (size_t)N_FAMILIES * FAMILY_MAX_BYTES);
    for (int f = 0; f < N_FAMILIES; f++)
        byte_buf_init(&m.lines[f], FAMILY_MAX_BYTES);
    st = gather(&m, err);
    if (st == ST_OK)
        st = join(&m, &text, err);
    if (st == ST_OK && path != NULL)
        st = file_write_atomic(path, byte_buf_view(&text), err);
    else if (st == ST_OK)
        (void)fwrite(text.data, 1, text.len, stdout);
    for (int f = 0; f < N_FAMILIES; f++)
        byte_buf_release(&m.lines[f]);
    byte_buf_release(&text);
    return st;
}

static int run(int argc, char **argv)
{
    const char *path = NULL;
    const struct catalog_args_option output = {.name = "output", .value = &path};
    struct catalog_args args;
    struct error err = {0};
    int code = catalog_args_open(&cmd_metrics, argc, argv, false, &output, &args);
    enum status st;

    if (code != EXIT_DONE)
        return code;
    if (args.json) {
        catalog_args_close(&args);
        return command_usage(&cmd_metrics, "there is one form, and it is not JSON");
    }
    st = show(&args, path, &err);
    catalog_args_close(&args);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_metrics, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_metrics = {
    .name = "metrics",
    .synopsis = "reinforce metrics [--catalog URL] [--output FILE] [JOB]",
    .summary = "says how the jobs of a catalog are doing, for Prometheus",
    .help = "Without JOB every job of the catalog; with JOB, a job file or with --catalog the\n"
            "name of a job, that one. Shards and samples by state, speed, events that wait to\n"
            "be published; of a stream also offsets, lag, duplicates and refused records of\n"
            "each partition, the rate, and how long records wait for a lease.\n"
            "\n"
            "All of it is read from the catalog, and the lag from the brokers, whoever does\n"
            "the work. Run it every 15 seconds or so, by a timer, into a folder that\n"
            "node_exporter's textfile collector reads.\n"
            "\n"
            "Options:\n" CATALOG_ARGS_URL_HELP
            "  --output FILE   written whole or not at all, instead of standard output\n"
            "\n"
            "Examples:\n"
            "  reinforce metrics configs/kafka.yaml\n"
            "  reinforce metrics --catalog postgres://reinforce@db/reinforce \\\n"
            "      --output /var/lib/prometheus/node-exporter/reinforce.prom\n"
            "\n"
            "Exit codes:\n"
            "  0  done, also when the brokers could not be asked\n"
            "  1  there is no such job, or the catalog could not be read\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
