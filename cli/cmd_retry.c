#include "cli/catalog_args.h"
#include "coordinator/retry.h"

#include <inttypes.h>
#include <stdio.h>

/* What a command has found and planned. */
struct outcome {
    struct retry_summary made;
    int64_t failed_shards; /* that are ready again */
    struct output_verdict verdict;
    json_t *problems; /* with --json */
    bool looked;      /* repair: the verdict counts */
};

typedef enum status plan_fn(struct catalog_args *args, struct output *out, const struct job *job,
                            const char *reason, struct outcome *outcome, struct error *err);

static enum status plan_retry(struct catalog_args *args, struct output *out, const struct job *job,
                              const char *reason, struct outcome *outcome, struct error *err)
{
    enum status st = retry_samples(out, reason, job->input.shard_samples, &outcome->made, err);

    if (st == ST_OK && reason == NULL)
        st = catalog_shards_retry(args->catalog, out->row.job, &outcome->failed_shards, err);
    if (st == ST_OK && outcome->made.samples + outcome->failed_shards > 0 &&
        out->row.state == CATALOG_JOB_PAUSED)
        st = catalog_job_move(args->catalog, out->row.job, CATALOG_JOB_PAUSED, CATALOG_JOB_RUNNING,
                              "", err);
    return st;
}

static void show_problem(void *ctx, int64_t shard, const char *object, const char *problem)
{
    struct outcome *outcome = ctx;

    (void)shard;
    if (outcome->problems != NULL)
        (void)json_array_append_new(outcome->problems,
                                    json_pack("{s:s, s:s}", "object", object, "problem", problem));
    else
        (void)printf("  %s %s\n", object, problem);
}

static enum status plan_repair(struct catalog_args *args, struct output *out, const struct job *job,
                               const char *reason, struct outcome *outcome, struct error *err)
{
    (void)job;
    (void)reason;
    outcome->looked = true;
    outcome->problems = args->json ? json_array() : NULL;
    return retry_shards(out, show_problem, outcome, &outcome->verdict, &outcome->made, err);
}

static enum status print_json(struct catalog_args *args, const struct outcome *outcome,
                              struct error *err)
{
    json_t *value =
        json_pack("{s:s, s:I, s:I, s:I}", "job", args->name, "samples",
                  (json_int_t)outcome->made.samples, "shards", (json_int_t)outcome->made.shards,
                  "failed_shards", (json_int_t)outcome->failed_shards);

    if (outcome->looked)
        (void)json_object_set(value, "problems", outcome->problems);
    return catalog_args_print_json(value, err);
}

static enum status print(struct catalog_args *args, const struct outcome *outcome,
                         struct error *err)
{
    bool any = outcome->made.shards + outcome->failed_shards > 0 || outcome->verdict.problems > 0;

    if (args->json)
        return print_json(args, outcome, err);
    if (outcome->looked && outcome->verdict.problems == 0)
        (void)printf("%s: nothing to repair\n", args->name);
    else if (outcome->looked)
        (void)printf("%s: %" PRId64 " problems; %" PRId64 " shards will be made again\n",
                     args->name, outcome->verdict.problems, outcome->made.shards);
    else
        (void)printf("%s: %" PRId64 " samples will be tried again in %" PRId64
                     " new shards, and %" PRId64 " failed shards\n",
                     args->name, outcome->made.samples, outcome->made.shards,
                     outcome->failed_shards);
    if (any)
        (void)printf("next:\n  a coordinator of the catalog goes on by itself; without one:\n"
                     "  reinforce run JOB.yaml\n");
    return ST_OK;
}

static int plan(const struct command *command, int argc, char **argv, bool has_reason, plan_fn *how)
{
    const char *reason = NULL;
    struct catalog_args args;
    struct outcome outcome = {.looked = false};
    struct output out = {0};
    struct job *job = NULL;
    struct error err = {0};
    const struct catalog_args_option own = {.name = "reason", .value = &reason};
    int code = catalog_args_open(command, argc, argv, true, has_reason ? &own : NULL, &args);
    enum status st;

    if (code != EXIT_DONE)
        return code;
    st = catalog_args_load(&args, &job, &err);
    if (st == ST_OK)
        st = output_open_job(job, args.url, &out, &err);
    if (st == ST_OK) {
        st = how(&args, &out, job, reason, &outcome, &err);
        if (st == ST_OK)
            st = print(&args, &outcome, &err);
        output_close(&out);
    }
    json_decref(outcome.problems);
    job_destroy(&job);
    catalog_args_close(&args);
    return st == ST_OK ? EXIT_DONE : command_fail(command, &err);
}

static int run_retry(int argc, char **argv)
{
    return plan(&cmd_retry, argc, argv, true, plan_retry);
}

static int run_repair(int argc, char **argv)
{
    return plan(&cmd_repair, argc, argv, false, plan_repair);
}

/* clang-format off: as it is printed */
const struct command cmd_retry = {
    .name = "retry",
    .synopsis = "reinforce retry [--reason REASON] [--catalog URL] [--json] JOB",
    .summary = "tries quarantined samples and failed shards of a job again",
    .help = "Quarantined samples, all or those with REASON (`reinforce status` lists reasons),\n"
            "go into new shards behind the others; good samples are not touched. What comes of\n"
            "a sample takes the place of its old state when it is committed. Samples that the\n"
            "job's curate rules have filtered are no failures, and stay as they are. Without\n"
            "--reason, shards that failed workers.max_attempts times are ready again, too. A\n"
            "finished job runs again; one that paused for its failures goes on.\n"
            "JOB is a job file, or with --catalog the name of a job.\n"
            "\n"
            "Options:\n"
            "  --reason REASON only samples with this reason, as in "
            "undecodable_image\n" CATALOG_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce retry --reason caption_failed job.yaml\n"
            "  reinforce run job.yaml\n"
            "\n"
            "Exit codes:\n"
            "  0  planned, or there is nothing to try again\n"
            "  1  there is no such job, or its state does not allow it\n"
            "  2  usage\n",
    .run = run_retry,
};

const struct command cmd_repair = {
    .name = "repair",
    .synopsis = "reinforce repair [--catalog URL] [--json] JOB",
    .summary = "makes the shards again that are missing or damaged",
    .help = "Looks at a job's output as `reinforce verify` does. A shard whose object is\n"
            "missing, damaged, or not what the catalog says is made again from the job's input,\n"
            "with the same samples, so that its bytes are the same; manifest.jsonl and the\n"
            "other side files follow when the job ends. Objects that the catalog does not know\n"
            "are named and left alone.\n"
            "JOB is a job file, or with --catalog the name of a job.\n"
            "\n"
            "Options:\n" CATALOG_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce repair job.yaml\n"
            "  reinforce run job.yaml\n"
            "\n"
            "Exit codes:\n"
            "  0  planned, or there is nothing to repair\n"
            "  1  there is no such job, or it could not be read\n"
            "  2  usage\n",
    .run = run_repair,
};
/* clang-format on */
