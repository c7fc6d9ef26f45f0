#include "cli/command.h"
#include "cli/job_args.h"
#include "cli/store_args.h"
#include "coordinator/local_run.h"

#include <inttypes.h>
#include <unistd.h>

static void print_progress(void *ctx, const struct run_progress *p)
{
    const bool *terminal = ctx;
    char eta[32] = "not known yet", line[256];
    int n;

    if (p->eta_seconds >= 0)
        job_args_format_seconds(p->eta_seconds, eta);
    n = snprintf(line, sizeof line,
                 "%" PRId64 " done, %" PRId64 " failed, %" PRId64
                 " filtered, %.1f samples/s, shards %" PRId64 "/%" PRId64
                 ", ETA %s, limit: %s (%.0f%% busy)",
                 p->catalog.samples_done, p->catalog.samples_quarantined,
                 p->catalog.samples_filtered, p->samples_per_second, p->catalog.shards_done,
                 p->catalog.shards_total, eta, sample_stage_name(p->limit),
                 100 * p->busy[p->limit]);
    if (*terminal)
        (void)fprintf(stderr, "\r%-110.*s", n, line);
    else if (p->elapsed_ms / 1000 % 10 == 0)
        (void)fprintf(stderr, "%s\n", line);
}

/* A list with its heading in front of the first line. */
struct reasons {
    const char *heading;
    bool with_stage;
    int n_shown;
};

static enum status print_reason(void *ctx, const char *reason, const char *stage, int64_t n,
                                struct error *err)
{
    struct reasons *list = ctx;

    (void)err;
    if (list->n_shown++ == 0)
        (void)printf("  %s\n", list->heading);
    (void)printf("    %-20s %" PRId64 "%s%s%s\n", reason, n, list->with_stage ? " (" : "",
                 list->with_stage ? stage : "", list->with_stage ? ")" : "");
    return ST_OK;
}

static enum status print_reasons(const struct job *job, struct error *err)
{
    struct reasons quarantined = {"quarantined by reason", true, 0};
    struct reasons filtered = {"filtered by rule", false, 0};
    struct arena arena;
    struct catalog *catalog = NULL;
    struct catalog_job row;
    const char *url, *config;
    enum status st;

    arena_init(&arena, 64u << 20);
    st = local_run_catalog_url(job, &arena, &url, err);
    if (st == ST_OK)
        st = catalog_open(url, &catalog, err);
    if (st == ST_OK)
        st = catalog_job_find(catalog, job->name, &arena, &row, &config, err);
    if (st == ST_OK)
        st = catalog_reasons(catalog, row.job, CATALOG_SAMPLE_QUARANTINED, print_reason,
                             &quarantined, err);
    if (st == ST_OK)
        st = catalog_reasons(catalog, row.job, CATALOG_SAMPLE_FILTERED, print_reason, &filtered,
                             err);
    if (st == ST_OK)
        (void)printf("  output       %s\n  catalog      %s\n", job->output.url, url);
    catalog_close(&catalog);
    arena_release(&arena);
    return st;
}

static enum status print_summary(const struct job *job, const struct run_summary *s,
                                 struct error *err)
{
    static const char *const next[] = {"verify", "inspect"};
    const struct run_progress *p = &s->progress;
    double seconds = (double)MAX(p->elapsed_ms, (int64_t)1) / 1000;
    char bytes[32], elapsed[32], pixels[32], waiting[64] = "";
    enum status st;

    if (s->events_waiting > 0)
        (void)snprintf(waiting, sizeof waiting, ", %lld wait; run again to publish them",
                       s->events_waiting);
    job_args_format_bytes((double)p->catalog.bytes_written, bytes);
    job_args_format_seconds(seconds, elapsed);
    job_args_format_bytes((double)s->peak_pixel_bytes, pixels);
    (void)printf("%s: %s\n", job->name,
                 s->nothing_to_do ? "finished before, nothing to do"
                 : s->over_budget
                     ? "paused: too many samples are quarantined (budget.failure_fraction)"
                 : s->drained  ? "stopped before the end; run the same command to go on"
                 : s->extended ? "extended"
                               : "finished");
    (void)printf("  samples      %" PRId64 " done, %" PRId64 " quarantined, %" PRId64 " filtered\n",
                 p->catalog.samples_done, p->catalog.samples_quarantined,
                 p->catalog.samples_filtered);
    (void)printf("  shards       %" PRId64 " of %" PRId64 ", %s\n", p->catalog.shards_done,
                 p->catalog.shards_total, bytes);
    if (s->is_stream)
        (void)printf(
            "  records      %lld taken by this run, %lld duplicates dropped, %lld refused\n",
            s->records, s->duplicates, s->refused);
    if (s->has_events)
        (void)printf("  events       %lld published by this run%s\n", s->events_published, waiting);
    if (!s->nothing_to_do) {
        (void)printf("  this run     %" PRId64
                     " samples, captions %lld, views embedded %lld, texts embedded %lld\n",
                     p->samples_this_run, s->captions, s->views_embedded, s->texts_embedded);
        (void)printf(
            "  speed        %.1f images/s, %.1f captions/s over %s (models loaded in %.1f s)\n",
            p->samples_per_second, (double)s->captions / seconds, elapsed,
            (double)s->models_ms / 1000);
        (void)printf("  pixels       %s in flight at most\n", pixels);
        for (size_t i = 0; i < s->n_fidelity; i++)
            (void)printf("  dtype        %s %s\n", s->fidelity[i].name, s->fidelity[i].text);
    }
    st = print_reasons(job, err);
    for (size_t i = 0; i < ARRAY_LEN(next) && st == ST_OK; i++) {
        (void)printf("%s  reinforce %s", i == 0 ? "next:\n" : "", next[i]);
        store_args_print(job);
        (void)printf(" %s\n", job->output.url);
    }
    return st;
}

static int run(int argc, char **argv)
{
    struct local_run_options options = {.progress = print_progress};
    bool terminal = isatty(STDERR_FILENO) == 1;
    struct run_summary summary;
    struct error err = {0};
    struct job *job;
    int code = EXIT_DONE;
    enum status st;

    if (!job_args_load(&cmd_run, argc, argv, &job, &code))
        return code;
    options.job = job;
    options.stop = job_args_catch_signals();
    options.progress_ctx = &terminal;
    st = local_run(&options, &summary, &err);
    if (terminal)
        (void)fputc('\n', stderr);
    if (st == ST_OK)
        st = print_summary(job, &summary, &err);
    if (st != ST_OK)
        code = command_fail(&cmd_run, &err);
    else if (summary.drained || summary.over_budget || summary.events_waiting > 0)
        code = EXIT_OTHER;
    else if (summary.progress.catalog.samples_quarantined > 0)
        code = EXIT_QUARANTINED;
    job_destroy(&job);
    return code;
}

/* clang-format off: as it is printed */
const struct command cmd_run = {
    .name = "run",
    .synopsis = "reinforce run [--set PATH=VALUE]... [-v] JOB.yaml",
    .summary = "makes the reinforced dataset that a job file describes",
    .help = "Reads the images of the job's input, runs every captioner and teacher over them,\n"
            "and writes a reinforced dataset: the images as they were, synthetic captions,\n"
            "augmentation parameters, and the teachers' embeddings of every view and caption.\n"
            "\n"
            "State is kept in the catalog: a run that was stopped or killed goes on after its\n"
            "last committed part when the same command is given again, and the output is the\n"
            "same, byte for byte. A finished job does nothing.\n"
            "\n"
            "When captioners or teachers have been appended to the file of a finished job,\n"
            "only what is missing is computed. Any other change that would change results is\n"
            "refused and named.\n"
            "\n"
            "A model with `dtype: auto` is first compared with itself in float32, once, on the\n"
            "job's first images; what was found and chosen is printed, and kept with the output.\n"
            "\n"
            "A model may be served elsewhere (keys protocol and server). What a server has said\n"
            "is stored once and not asked for again, but another run may hear something else;\n"
            "tokens come from the environment variables that the job file names.\n"
            "docs/remote-models.md has more.\n"
            "\n"
            "A sample that cannot be used (a broken image, a missing caption) is quarantined\n"
            "with its reason, and the rest goes on. The first Ctrl-C or SIGTERM commits what\n"
            "is finished and stops.\n"
            "\n"
            "Options:\n" JOB_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce run configs/quickstart.yaml\n"
            "  reinforce run --set workers.count=2 --set seed=7 job.yaml\n"
            "\n"
            "`reinforce help --job-file` explains every key of a job file.\n"
            "\n"
            "Exit codes:\n"
            "  0  all samples done\n"
            "  1  anything else; stopping early, and events that wait for a broker, too\n"
            "  2  usage or job file\n"
            "  3  finished, some samples quarantined\n",
    .run = run,
};
/* clang-format on */
