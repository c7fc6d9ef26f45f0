/* What the commands that take a job file share: --set, loading, catching signals. */
#ifndef REINFORCE_CLI_JOB_ARGS_H
#define REINFORCE_CLI_JOB_ARGS_H

#include "cli/command.h"
#include "reinforce/job/job.h"

#include <stdatomic.h>

enum { JOB_ARGS_MAX_OVERRIDES = 256 };

/** The text of --help for these options. */
#define JOB_ARGS_HELP                                                                              \
    "  --set PATH=VALUE   overrides one value of the job file, as in --set workers.count=4;\n"     \
    "                     may be repeated\n"                                                       \
    "  -v, --verbose      logs every shard and lease to standard error\n"

/**
 * Parses [--set PATH=VALUE]... [-v] JOB.yaml and loads the job. On failure prints why and sets
 * *exit_code. *job is the caller's.
 */
bool job_args_load(const struct command *command, int argc, char **argv, struct job **job,
                   int *exit_code);

/** The first SIGINT or SIGTERM sets the flag, the second ends the process. */
const atomic_bool *job_args_catch_signals(void);

/** From the first signal on, the process has so many seconds; then it ends where it is. */
void job_args_limit_grace(unsigned seconds);

/** "12.3 MB", "1.2 GB" */
void job_args_format_bytes(double bytes, char text[32]);

/** "42 s", "3 min 5 s", "2 h 10 min" */
void job_args_format_seconds(double seconds, char text[32]);

#endif
