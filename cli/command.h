/* Subcommands: one file each, cmd_<name>.c. They parse and print; the work is elsewhere. */
#ifndef REINFORCE_CLI_COMMAND_H
#define REINFORCE_CLI_COMMAND_H

#include "reinforce/base/error.h"

#include <stdint.h>

/** What the process exits with. */
enum exit_code {
    EXIT_DONE = 0,        /* all samples done */
    EXIT_OTHER = 1,       /* anything else */
    EXIT_USAGE = 2,       /* usage or job file */
    EXIT_QUARANTINED = 3, /* finished, some samples quarantined */
};

struct option;

struct command {
    const char *name;     /* "run" */
    const char *synopsis; /* "reinforce run [--set PATH=VALUE]... JOB.yaml" */
    const char *summary;  /* one line for the overview */
    const char *help; /* man-page quality: what it does, options, examples, exit codes. Lines that
                         end with ":" and are not indented become the page's headings */
    /* argv[0] is the command's name; returns an exit_code. */
    int (*run)(int argc, char **argv);
};

extern const struct command cmd_run, cmd_plan, cmd_verify, cmd_inspect, cmd_embed, cmd_caption,
    cmd_tokenize, cmd_preprocess, cmd_augment, cmd_model, cmd_bench, cmd_db, cmd_keys,
    cmd_coordinator, cmd_worker, cmd_submit, cmd_status, cmd_workers, cmd_pause, cmd_resume,
    cmd_cancel, cmd_retry, cmd_repair, cmd_produce, cmd_ingest, cmd_metrics, cmd_curator,
    cmd_curate, cmd_cat;

/** Prints "reinforce NAME: context: message" to standard error; returns the exit code for it. */
int command_fail(const struct command *command, const struct error *err);

/** Prints a usage error and where help is; returns EXIT_USAGE. */
int command_usage(const struct command *command, const char *fmt, ...) PRINTF_LIKE(2, 3);

/**
 * getopt_long() with our messages: the next option's value, -1 behind the last one, or '?' when the
 * command line is wrong, which has then been said. `options` as for getopt_long(); there are no
 * short options but those in `letters` ("" for none). Begin with optind = 1.
 */
int command_next_option(const struct command *command, int argc, char **argv, const char *letters,
                        const struct option *options);

/** Reads the number that option `name` ("views") was given. ST_INVALID names option, value and
 * range. */
NODISCARD enum status command_number(const char *name, const char *text, int64_t min, int64_t max,
                                     int64_t *out, struct error *err);

#endif
