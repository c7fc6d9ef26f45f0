/* How many workers one coordinator carries: see bench/README.md. Made-up computing; sockets,
 * protocol, coordinator process and catalog are real. */
#include "bench/fleet/crowd.h"
#include "bench/fleet/proxy.h"
#include "coordinator/accounts.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/parse.h"
#include "reinforce/job/job.h"
#include "worker/model_record.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_CROWDS = 16,
    CROWD_SIZE = 5000, /* a socket takes two descriptors, and a process may have 20,000 */
    REPORT_MS = 10000,
    FINISH_MS = 900000, /* the coordinator reads a million accounts */
    CONFIG_BYTES = 4096,
};

static const double nearly = 0.95; /* of the shards: after that there is not work for all */

struct bench {
    const char *program, *catalog_url, *folder;
    double workers, shards, samples, compute_ms, lease_s, seconds, deaths, loss, skew, slow_db_ms,
        cuts, committers, seed;
    struct fleet_stats *stats;
    struct job *job;
    int64_t job_id;
    pid_t coordinator, proxies[2], crowds[MAX_CROWDS];
    size_t n_crowds, n_proxies;
    char address[256], url[1024]; /* as workers have them */
    int64_t begun_ms;
};

static const struct {
    const char *name;
    size_t offset;
    double value;
    const char *help;
} knobs[] = {
    {"workers", offsetof(struct bench, workers), 1000, "simulated workers"},
    {"shards", offsetof(struct bench, shards), 20000, "of the job"},
    {"samples", offsetof(struct bench, samples), 4, "of a shard, with a caption and a score each"},
    {"compute", offsetof(struct bench, compute_ms), 10000, "ms a shard takes, on average"},
    {"lease", offsetof(struct bench, lease_s), 60, "seconds; a third of it is a heartbeat"},
    {"seconds", offsetof(struct bench, seconds), 0, "to run; 0: until the job is done"},
    {"deaths", offsetof(struct bench, deaths), 0, "workers a second that vanish and are replaced"},
    {"loss", offsetof(struct bench, loss), 0, "share of messages that vanish, each way"},
    {"cuts", offsetof(struct bench, cuts), 0, "connections to the coordinator cut a second"},
    {"skew", offsetof(struct bench, skew), 0, "share by which workers' clocks run wrong"},
    {"slow-db", offsetof(struct bench, slow_db_ms), 0, "ms by which the database answers later"},
    {"committers", offsetof(struct bench, committers), 8, "connections that workers commit by"},
    {"seed", offsetof(struct bench, seed), 1, "of all draws"},
};

static enum status put_text(struct object_store *store, const char *key, const char *text,
                            struct error *err)
{
    struct object_written written;

    return object_store_put(store, key, bytes_of_string(text), &written, err);
}

/* What a first worker would have left there. */
static enum status write_record(const struct job *job, struct error *err)
{
    struct object_store *output;
    enum status st = object_store_open(job->output.url, &output, err);

    if (st == ST_OK)
        st = put_text(
            output, MODEL_RECORD_KEY,
            "{\"captioners\": [], \"teachers\": [{\"name\": \"clip\", \"model\": \"clip\", "
            "\"family\": \"clip\", \"digest\": \"\", \"image_size\": 224, "
            "\"mean\": [0, 0, 0], \"std\": [1, 1, 1]}]}",
            err);
    object_store_close(&output);
    return st;
}

static enum status plan(struct bench *b, struct error *err)
{
    size_t n = (size_t)b->shards;
    struct catalog_shard_plan *shards = calloc(n, sizeof *shards);
    struct catalog_schema before;
    struct catalog_job row;
    struct catalog *catalog = NULL;
    struct arena arena;
    const char *stored;
    enum status st =
        shards != NULL ? ST_OK : error_set(err, ST_NO_MEMORY, "could not allocate %zu shards", n);

    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        shards[i] = (struct catalog_shard_plan){.shard = (int64_t)i,
                                                .source = CATALOG_INPUT_JOB,
                                                .input_key = "train/00000.tar",
                                                .input_format = "webdataset"};
    if (st == ST_OK)
        st = catalog_migrate(b->catalog_url, &before, err);
    if (st == ST_OK)
        st = catalog_open(b->catalog_url, &catalog, err);
    if (st == ST_OK)
        st = catalog_job_begin(catalog, b->job->name, b->job->digest, b->job->effective_json,
                               clock_wall_ms(), &arena, &row, &stored, err);
    if (st == ST_OK)
        st = catalog_plan_commit(catalog, &row, shards, n, true, err);
    b->job_id = row.job;
    catalog_close(&catalog);
    arena_release(&arena);
    free(shards);
    return st;
}

static enum status make_job(struct bench *b, struct error *err)
{
    char text[CONFIG_BYTES];
    enum status st;

    (void)snprintf(text, sizeof text,
                   "{\"name\": \"bench\", \"input\": {\"url\": \"%s/in\"}, "
                   "\"output\": {\"url\": \"%s/out\"}, \"catalog\": {\"url\": \"%s\"}, "
                   "\"teachers\": [{\"name\": \"clip\", \"model\": \"/none\"}], "
                   "\"workers\": {\"lease\": \"%.0fs\", \"max_attempts\": 100}, "
                   "\"budget\": {\"failure_fraction\": 1.0}}",
                   b->folder, b->folder, b->catalog_url, b->lease_s);
    st = job_load_text(bytes_of_string(text), "bench", NULL, 0, &b->job, err);
    if (st == ST_OK)
        st = write_record(b->job, err);
    return st == ST_OK ? plan(b, err) : st;
}

/* Its first line says where it serves. */
static enum status start_coordinator(struct bench *b, struct error *err)
{
    char line[256] = "";
    int fds[2];
    FILE *from;

    if (pipe(fds) != 0 || (b->coordinator = fork()) < 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not start the coordinator");
    if (b->coordinator == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)close(fds[0]);
        (void)execl(b->program, b->program, "coordinator", "--catalog", b->url, "--bind",
                    "tcp://127.0.0.1:*", (char *)NULL);
        _exit(127);
    }
    (void)close(fds[1]);
    from = fdopen(fds[0], "r");
    if (from == NULL || fgets(line, sizeof line, from) == NULL ||
        sscanf(line, "serving at %255s", b->address) != 1)
        return error_set(err, ST_UNAVAILABLE, "the coordinator does not serve: \"%s\"", line);
    (void)fclose(from);
    return ST_OK;
}

/* A proxy before `url`, which is changed to lead to it. */
static enum status start_proxy(struct bench *b, char *url, size_t size, int delay_ms, double cuts,
                               struct error *err)
{
    int port, listener;
    pid_t pid;
    enum status st = proxy_place(url, size, &listener, &port, err);

    if (st != ST_OK)
        return st;
    pid = fork();
    if (pid < 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not start a proxy");
    if (pid == 0) {
        const struct proxy_options options = {.listener = listener,
                                              .port = port,
                                              .delay_ms = delay_ms,
                                              .cuts = cuts,
                                              .seed = (uint64_t)b->seed};

        st = proxy_run(&options, err);
        (void)fprintf(stderr, "bench_fleet: proxy: %s\n", err->message);
        _exit(1);
    }
    (void)close(listener);
    b->proxies[b->n_proxies++] = pid;
    return ST_OK;
}

static enum status start_crowds(struct bench *b, struct error *err)
{
    size_t n = (size_t)b->workers;
    size_t n_crowds = MAX((n + CROWD_SIZE - 1) / CROWD_SIZE, (size_t)MIN(n, (size_t)2));

    for (size_t i = 0; i < n_crowds && i < MAX_CROWDS; i++) {
        struct crowd_options options = {
            .coordinator = b->address,
            .catalog_url = b->url,
            .job = b->job_id,
            .digest = b->job->digest,
            .first = n * i / n_crowds,
            .n_committers = MAX((size_t)b->committers / n_crowds, (size_t)1),
            .n_samples = (int)b->samples,
            .lease_ms = b->job->workers.lease_ms,
            .compute_ms = b->compute_ms,
            .deaths = b->deaths / (double)n_crowds,
            .loss = b->loss,
            .skew = b->skew,
            .seed = (uint64_t)b->seed * 1000 + i,
            .stats = b->stats,
        };

        options.n_workers = n * (i + 1) / n_crowds - options.first;
        b->crowds[i] = fork();
        if (b->crowds[i] < 0)
            return error_set_errno(err, ST_UNAVAILABLE, "could not start a crowd");
        if (b->crowds[i] == 0) {
            enum status st = crowd_run(&options, err);

            if (st != ST_OK)
                (void)fprintf(stderr, "bench_fleet: workers: %s\n", err->message);
            _exit(st != ST_OK);
        }
        b->n_crowds++;
    }
    return ST_OK;
}

static void pause_ms(int64_t ms)
{
    const struct timespec pause = {.tv_sec = (time_t)(ms / 1000),
                                   .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&pause, NULL);
}

struct usage {
    double rss_mib, peak_mib, cpu_s;
};

static struct usage read_usage(pid_t pid)
{
    struct usage usage = {0};
    char path[64], line[512];
    unsigned long user, system;
    FILE *from;

    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    from = fopen(path, "r");
    while (from != NULL && fgets(line, sizeof line, from) != NULL) {
        (void)sscanf(line, "VmRSS: %lf", &usage.rss_mib);
        (void)sscanf(line, "VmHWM: %lf", &usage.peak_mib);
    }
    if (from != NULL)
        (void)fclose(from);
    usage.rss_mib /= 1024;
    usage.peak_mib /= 1024;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    from = fopen(path, "r");
    if (from != NULL && fgets(line, sizeof line, from) != NULL &&
        sscanf(line, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &system) == 2)
        usage.cpu_s = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    if (from != NULL)
        (void)fclose(from);
    return usage;
}

/* What there was at a moment, to tell what came after it. */
struct mark {
    int64_t ms;
    struct fleet_stats stats;
    struct usage coordinator;
};

static void take_mark(const struct bench *b, struct mark *mark)
{
    mark->ms = clock_monotonic_ms();
    mark->stats = *b->stats;
    mark->coordinator = read_usage(b->coordinator);
}

static void report(const struct bench *b, const struct mark *from, const struct mark *to,
                   const char *what)
{
    double s = (double)(to->ms - from->ms) / 1000;
    double grants = (double)(to->stats.grants - from->stats.grants) / s;
    double renewals = (double)(to->stats.renewals - from->stats.renewals) / s;
    double results = (double)(to->stats.results - from->stats.results) / s;

    (void)printf("%s: lease operations/s %.0f (grants %.0f, renewals %.0f, results %.0f); request "
                 "to grant p50 %.1f ms, p99 %.1f ms; coordinator %.0f MiB, %.2f cores; shards done "
                 "%llu, leases lost %llu, deaths %llu, messages dropped %llu, errors %llu\n",
                 what, grants + renewals + results, grants, renewals, results,
                 fleet_stats_latency_ms(&to->stats, &from->stats, 0.5),
                 fleet_stats_latency_ms(&to->stats, &from->stats, 0.99), to->coordinator.rss_mib,
                 (to->coordinator.cpu_s - from->coordinator.cpu_s) / s, to->stats.committed,
                 to->stats.lost, to->stats.deaths, to->stats.dropped, to->stats.errors);
    (void)fflush(stdout);
    (void)b;
}

static bool have_crowds_ended(struct bench *b, bool *failed)
{
    bool ended = true;

    for (size_t i = 0; i < b->n_crowds; i++) {
        int status;

        if (b->crowds[i] == 0)
            continue;
        if (waitpid(b->crowds[i], &status, WNOHANG) != b->crowds[i]) {
            ended = false;
            continue;
        }
        *failed = *failed || status != 0;
        b->crowds[i] = 0;
    }
    return ended;
}

/* Until the workers are gone. The figures that count begin when all work and end when there is not
 * work for all. */
static enum status watch(struct bench *b, struct error *err)
{
    struct mark *marks = calloc(4, sizeof *marks);
    struct mark *last = &marks[0], *now = &marks[1], *begin = &marks[2], *end = &marks[3];
    int64_t settled_ms = b->begun_ms + (int64_t)(b->workers + 2 * b->compute_ms);
    bool failed = false;

    if (marks == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate marks");
    take_mark(b, last);
    while (!have_crowds_ended(b, &failed)) {
        int64_t ms = clock_monotonic_ms();
        bool is_full = (double)b->stats->committed < nearly * b->shards;

        if (begin->ms == 0 && ms >= settled_ms)
            take_mark(b, begin);
        if (begin->ms != 0 && is_full)
            take_mark(b, end);
        if (b->seconds > 0 && (double)(ms - b->begun_ms) >= b->seconds * 1000)
            atomic_store(&b->stats->stop, true);
        if (ms - last->ms >= REPORT_MS) {
            char what[32];

            take_mark(b, now);
            (void)snprintf(what, sizeof what, "%4.0f s", (double)(ms - b->begun_ms) / 1000);
            report(b, last, now, what);
            *last = *now;
        }
        pause_ms(100);
    }
    if (end->ms > begin->ms)
        report(b, begin, end, "sustained");
    free(marks);
    return failed ? error_set(err, ST_INTERNAL, "a crowd failed") : ST_OK;
}

/* The coordinator finishes a job that is done by itself. */
static enum status check(struct bench *b, struct error *err)
{
    int64_t until_ms = clock_monotonic_ms() + (b->seconds > 0 ? 0 : FINISH_MS);
    struct catalog_progress progress;
    struct catalog_job job = {0};
    struct accounts accounts;
    struct catalog *catalog;
    struct arena arena;
    const char *config;
    enum status st = catalog_open(b->catalog_url, &catalog, err);

    arena_init(&arena, 1 << 20);
    do {
        pause_ms(100);
        arena_reset(&arena);
        if (st == ST_OK)
            st = catalog_job_find(catalog, b->job->name, &arena, &job, &config, err);
    } while (st == ST_OK && job.state == CATALOG_JOB_RUNNING && clock_monotonic_ms() < until_ms);
    if (st == ST_OK)
        st = catalog_read_progress(catalog, b->job_id, &progress, err);
    if (st == ST_OK)
        st = accounts_read(catalog, b->job_id, &accounts, err);
    if (st == ST_OK)
        (void)printf("accounts: job %s; shards %" PRId64 " of %" PRId64 " done, %" PRId64
                     " failed; samples read %" PRId64 ", done %" PRId64 ", quarantined %" PRId64
                     ", filtered %" PRId64 "; they %s%s%s; coordinator's peak %.0f MiB\n",
                     catalog_job_state_name(job.state), progress.shards_done, progress.shards_total,
                     progress.shards_failed, accounts.read, accounts.done, accounts.quarantined,
                     accounts.filtered, accounts.agree ? "agree" : "DISAGREE",
                     accounts.agree ? "" : ": ", accounts.agree ? "" : accounts.why,
                     read_usage(b->coordinator).peak_mib);
    if (st == ST_OK && (!accounts.agree || b->stats->errors > 0 ||
                        (b->seconds == 0 && job.state != CATALOG_JOB_DONE)))
        st = error_set(err, ST_INTERNAL, "there were errors");
    catalog_close(&catalog);
    arena_release(&arena);
    return st;
}

static void end(pid_t pid, int signal)
{
    if (pid > 0 && kill(pid, signal) == 0)
        (void)waitpid(pid, NULL, 0);
}

static enum status run(struct bench *b, struct error *err)
{
    enum status st = fleet_stats_create(&b->stats, err);

    (void)snprintf(b->url, sizeof b->url, "%s", b->catalog_url);
    if (st == ST_OK)
        st = make_job(b, err);
    if (st == ST_OK && b->slow_db_ms > 0)
        st = start_proxy(b, b->url, sizeof b->url, (int)b->slow_db_ms, 0, err);
    if (st == ST_OK)
        st = start_coordinator(b, err);
    if (st == ST_OK && b->cuts > 0)
        st = start_proxy(b, b->address, sizeof b->address, 0, b->cuts, err);
    b->begun_ms = clock_monotonic_ms();
    if (st == ST_OK)
        st = start_crowds(b, err);
    if (st == ST_OK)
        st = watch(b, err);
    if (st == ST_OK)
        st = check(b, err);
    for (size_t i = 0; i < b->n_crowds; i++)
        end(b->crowds[i], SIGKILL);
    end(b->coordinator, SIGTERM);
    for (size_t i = 0; i < b->n_proxies; i++)
        end(b->proxies[i], SIGKILL);
    job_destroy(&b->job);
    return st;
}

static int usage(void)
{
    (void)fprintf(stderr, "usage: bench_fleet [OPTIONS] REINFORCE CATALOG_URL FOLDER\n");
    for (size_t i = 0; i < ARRAY_LEN(knobs); i++)
        (void)fprintf(stderr, "  --%-11s %-6g %s\n", knobs[i].name, knobs[i].value, knobs[i].help);
    return 2;
}

int main(int argc, char **argv)
{
    struct option known[ARRAY_LEN(knobs) + 1] = {{0}};
    struct bench b = {0};
    struct rlimit files;
    struct error err = {0};
    int c;

    for (size_t i = 0; i < ARRAY_LEN(knobs); i++) {
        known[i] = (struct option){knobs[i].name, required_argument, NULL, (int)i};
        *(double *)(void *)((char *)&b + knobs[i].offset) = knobs[i].value;
    }
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        char *rest = NULL;
        double value = c != '?' ? strtod(optarg, &rest) : -1;

        if (c == '?' || *rest != '\0' || value < 0)
            return usage();
        *(double *)(void *)((char *)&b + knobs[c].offset) = value;
    }
    if (argc - optind != 3 || b.workers < 1 || b.workers > (double)CROWD_SIZE * MAX_CROWDS)
        return usage();
    b.program = argv[optind];
    b.catalog_url = argv[optind + 1];
    b.folder = argv[optind + 2];
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (run(&b, &err) == ST_OK)
        return 0;
    (void)fprintf(stderr, "bench_fleet: %s%s%s\n", err.context, err.context[0] != '\0' ? ": " : "",
                  err.message);
    return 1;
}
