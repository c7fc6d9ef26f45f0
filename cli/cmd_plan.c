#include "cli/command.h"
#include "cli/job_args.h"
#include "coordinator/estimate.h"

#include <inttypes.h>

enum { TRIAL_SAMPLES = 32 };

/* What one model takes of the whole job. */
static void print_model(const struct estimate *e, const char *role, const char *name, int64_t ns,
                        int64_t all_ns)
{
    double n = (double)MAX(e->trial.progress.samples_this_run, (int64_t)1);
    double seconds = (double)ns / 1e9 / n;
    char total[32];

    job_args_format_seconds(seconds * e->samples, total);
    (void)printf("    %-9s %-20s %9.2f ms a sample, %s of one thread, %.0f%% of model time\n", role,
                 name, 1000 * seconds, total, 100 * (double)ns / (double)MAX(all_ns, (int64_t)1));
}

static void print_models(const struct job *job, const struct estimate *e)
{
    int64_t all_ns = 0;

    for (size_t c = 0; c < job->n_captioners; c++)
        all_ns += e->trial.captioner_ns[c];
    for (size_t t = 0; t < job->n_teachers; t++)
        all_ns += e->trial.teacher_ns[t];
    (void)printf("  models       loaded in %.1f s\n", (double)e->trial.models_ms / 1000);
    for (size_t c = 0; c < job->n_captioners; c++)
        print_model(e, "captioner", job->captioners[c].name, e->trial.captioner_ns[c], all_ns);
    for (size_t t = 0; t < job->n_teachers; t++)
        print_model(e, "teacher", job->teachers[t].name, e->trial.teacher_ns[t], all_ns);
}

static void print_estimate(const struct job *job, const struct estimate *e)
{
    const struct run_summary *trial = &e->trial;
    double n = (double)MAX(trial->progress.samples_this_run, (int64_t)1);
    char seconds[32], bytes[32];

    job_args_format_seconds(e->seconds, seconds);
    job_args_format_bytes(e->output_bytes, bytes);
    (void)printf("%s: %s -> %s\n", job->name, job->input.url, job->output.url);
    (void)printf("  input        %.0f samples%s in %" PRId64 " shards\n", e->samples,
                 e->samples_exact ? "" : " (estimated from the first shard)", e->shards);
    (void)printf("  per sample   %d views, captions %.1f, texts embedded %.1f, captioners %zu, "
                 "teachers %zu\n",
                 job->views.count, (double)trial->captions / n, (double)trial->texts_embedded / n,
                 job->n_captioners, job->n_teachers);
    (void)printf("  measured     %.1f samples/s over %" PRId64
                 " samples, limit: %s (%.0f%% busy)\n",
                 trial->progress.samples_per_second, trial->progress.samples_this_run,
                 sample_stage_name(trial->progress.limit),
                 100 * trial->progress.busy[trial->progress.limit]);
    (void)printf("  expected     %s with %d workers on this machine, %s of output, %.0f samples "
                 "quarantined, %.0f filtered\n",
                 seconds, job->workers.count, bytes, e->quarantined, e->filtered);
    print_models(job, e);
}

static int run(int argc, char **argv)
{
    struct estimate estimate;
    struct error err = {0};
    struct job *job;
    int code = EXIT_DONE;

    if (!job_args_load(&cmd_plan, argc, argv, &job, &code))
        return code;
    if (estimate_job(job, TRIAL_SAMPLES, job_args_catch_signals(), &estimate, &err) == ST_OK)
        print_estimate(job, &estimate);
    else
        code = command_fail(&cmd_plan, &err);
    job_destroy(&job);
    return code;
}

/* clang-format off: as it is printed */
const struct command cmd_plan = {
    .name = "plan",
    .synopsis = "reinforce plan [--set PATH=VALUE]... [-v] JOB.yaml",
    .summary = "says what a job would do and what it would cost, from a small measured sample",
    .help =
        "Lists the input, cuts it into shards as `run` would, and runs the first samples\n"
        "through every captioner and teacher, in memory. Time, bytes and the quarantined\n"
        "and filtered samples of the whole job are scaled up from that, and so is what each model\n"
        "takes. Writes nothing to the job's output or catalog.\n"
        "\n"
        "Options:\n" JOB_ARGS_HELP "\n"
        "Examples:\n"
        "  reinforce plan configs/quickstart.yaml\n"
        "  reinforce plan --set workers.count=4 configs/quickstart.yaml\n"
        "\n"
        "Exit codes:\n"
        "  0  done\n"
        "  1  anything else\n"
        "  2  usage or job file\n",
    .run = run,
};
/* clang-format on */
