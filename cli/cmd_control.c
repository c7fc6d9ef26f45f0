#include "cli/catalog_args.h"

#include <inttypes.h>
#include <stdio.h>

typedef enum status act_fn(struct catalog_args *args, const struct catalog_job_row *row,
                           struct error *err);

static bool is_one_of(enum catalog_job_state state, unsigned states)
{
    return (states >> (unsigned)state & 1u) != 0;
}

#define STATE(name) (1u << CATALOG_JOB_##name)

/* From any of `from`; a job that is in state `to` already stays there. */
static enum status move(struct catalog_args *args, const struct catalog_job_row *row, unsigned from,
                        enum catalog_job_state to, const char *note, struct error *err)
{
    if (row->job.state == to)
        return ST_OK;
    if (!is_one_of(row->job.state, from))
        return error_set(err, ST_CONFLICT, "job \"%s\" is %s", row->job.name,
                         catalog_job_state_name(row->job.state));
    return catalog_job_move(args->catalog, row->job.job, row->job.state, to, note, err);
}

static enum status pause_job(struct catalog_args *args, const struct catalog_job_row *row,
                             struct error *err)
{
    return move(args, row, STATE(PLANNING) | STATE(RUNNING), CATALOG_JOB_PAUSED, "by command", err);
}

/* To where it was: a job whose shards are not all there is planned to its end. */
static enum status resume_job(struct catalog_args *args, const struct catalog_job_row *row,
                              struct error *err)
{
    struct catalog_progress progress;
    int64_t n;
    enum status st = catalog_read_progress(args->catalog, row->job.job, &progress, err);

    if (st == ST_OK && progress.shards_failed > 0)
        st = catalog_shards_retry(args->catalog, row->job.job, &n, err);
    if (st != ST_OK || row->job.state == CATALOG_JOB_PLANNING)
        return st;
    return move(args, row, STATE(PAUSED) | STATE(CANCELLED),
                row->job.is_planned ? CATALOG_JOB_RUNNING : CATALOG_JOB_PLANNING, "", err);
}

static enum status cancel_job(struct catalog_args *args, const struct catalog_job_row *row,
                              struct error *err)
{
    return move(args, row, STATE(PLANNING) | STATE(RUNNING) | STATE(PAUSED), CATALOG_JOB_CANCELLED,
                "by command", err);
}

static enum status report(struct catalog_args *args, struct error *err)
{
    struct catalog_job_row row;
    enum status st = catalog_args_find(args, &row, err);

    if (st == ST_OK && args->json)
        return catalog_args_print_json(json_pack("{s:s, s:s}", "job", row.job.name, "state",
                                                 catalog_job_state_name(row.job.state)),
                                       err);
    if (st == ST_OK)
        (void)printf("%s: %s\n", row.job.name, catalog_job_state_name(row.job.state));
    return st;
}

static int control(const struct command *command, int argc, char **argv, act_fn *act)
{
    struct catalog_args args;
    struct catalog_job_row row;
    struct error err = {0};
    int code = catalog_args_open(command, argc, argv, true, NULL, &args);
    enum status st;

    if (code != EXIT_DONE)
        return code;
    st = catalog_args_find(&args, &row, &err);
    if (st == ST_OK)
        st = act(&args, &row, &err);
    if (st == ST_OK)
        st = report(&args, &err);
    catalog_args_close(&args);
    return st == ST_OK ? EXIT_DONE : command_fail(command, &err);
}

static int run_pause(int argc, char **argv)
{
    return control(&cmd_pause, argc, argv, pause_job);
}

static int run_resume(int argc, char **argv)
{
    return control(&cmd_resume, argc, argv, resume_job);
}

static int run_cancel(int argc, char **argv)
{
    return control(&cmd_cancel, argc, argv, cancel_job);
}

#define TAIL                                                                                       \
    "JOB is a job file, or with --catalog the name of a job.\n"                                    \
    "\n"                                                                                           \
    "Options:\n" CATALOG_ARGS_HELP "\n"                                                            \
    "Exit codes:\n"                                                                                \
    "  0  done\n"                                                                                  \
    "  1  there is no such job, or its state does not allow it\n"                                  \
    "  2  usage\n"

/* clang-format off: as it is printed */
const struct command cmd_pause = {
    .name = "pause",
    .synopsis = "reinforce pause [--catalog URL] [--json] JOB",
    .summary = "stops handing out a job's work",
    .help = "Workers commit the samples they have begun, hand the rest back, and go to other\n"
            "jobs; they hear of it with their next heartbeat.\n" TAIL,
    .run = run_pause,
};

const struct command cmd_resume = {
    .name = "resume",
    .synopsis = "reinforce resume [--catalog URL] [--json] JOB",
    .summary = "goes on with a job that was paused or cancelled",
    .help = "The job goes on behind its last committed part. After a spent failure budget the\n"
            "count starts anew, and so do the attempts of failed shards.\n" TAIL,
    .run = run_resume,
};

const struct command cmd_cancel = {
    .name = "cancel",
    .synopsis = "reinforce cancel [--catalog URL] [--json] JOB",
    .summary = "ends a job where it is",
    .help = "Workers drop what they hold of it. What is committed stays, and `reinforce resume`\n"
            "goes on from there.\n" TAIL,
    .run = run_cancel,
};
/* clang-format on */
