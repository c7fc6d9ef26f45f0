/* Subcommands: one file each, cmd_<name>.c. They parse and print; the work is elsewhere. */
#ifndef REINFORCE_CLI_COMMAND_H
#define REINFORCE_CLI_COMMAND_H

#include "reinforce/base/error.h"

/** What the process exits with. */
enum exit_code {
    EXIT_DONE = 0,        /* all samples done */
    EXIT_OTHER = 1,       /* anything else */
    EXIT_USAGE = 2,       /* usage or job file */
    EXIT_QUARANTINED = 3, /* finished, some samples quarantined */
};

struct command {
    const char *name;     /* "run" */
    const char *synopsis; /* "reinforce run [--set PATH=VALUE]... JOB.yaml" */
    const char *summary;  /* one line for the overview */
    const char *help;     /* man-page quality: what it does, options, examples, exit codes */
    /* argv[0] is the command's name; returns an exit_code. */
    int (*run)(int argc, char **argv);
};

extern const struct command cmd_run, cmd_plan, cmd_verify, cmd_inspect, cmd_embed, cmd_caption,
    cmd_tokenize, cmd_preprocess, cmd_augment, cmd_model;

/** Prints "reinforce NAME: context: message" and the next step to standard error; returns the exit
 * code for it. */
int command_fail(const struct command *command, const struct error *err);

/** Prints a usage error and where help is; returns EXIT_USAGE. */
int command_usage(const struct command *command, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
