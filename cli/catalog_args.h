/* What the commands share that look at or steer jobs in a catalog: [--catalog URL] [--json] [JOB].
 */
#ifndef REINFORCE_CLI_CATALOG_ARGS_H
#define REINFORCE_CLI_CATALOG_ARGS_H

#include "cli/command.h"
#include "reinforce/base/json.h"
#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"

/** The text of --help for these options. */
#define CATALOG_ARGS_URL_HELP                                                                      \
    "  --catalog URL   postgres://USER@HOST:PORT/DATABASE, or sqlite:PATH; default: what the "     \
    "job\n"                                                                                        \
    "                  file says, or the one beside its output\n"
#define CATALOG_ARGS_HELP CATALOG_ARGS_URL_HELP "  --json          prints JSON\n"

struct catalog_args {
    struct arena arena;
    struct catalog *catalog;
    const char *url;  /* in the arena, as `name` */
    const char *name; /* of the job; NULL: none was given */
    bool json;
};

/** An option of one command: --NAME VALUE, or, with `flag`, --NAME; both stay as they are without
 * it. */
struct catalog_args_option {
    const char *name;
    const char **value;
    bool *flag;
};

/**
 * JOB is a job file, or, with --catalog, the name of a job. `own` is an option of the command's
 * own; NULL: it has none. Opens the catalog. On failure prints
 * why and returns the exit code; else EXIT_DONE, and *args is to be closed.
 */
int catalog_args_open(const struct command *command, int argc, char **argv, bool needs_job,
                      const struct catalog_args_option *own, struct catalog_args *args);
void catalog_args_close(struct catalog_args *args);

/** The row of the job that was named. */
NODISCARD enum status catalog_args_find(struct catalog_args *args, struct catalog_job_row *row,
                                        struct error *err);

/** The job as it was begun, from the catalog; the caller's. */
NODISCARD enum status catalog_args_load(struct catalog_args *args, struct job **job,
                                        struct error *err);

/** Prints one JSON value and its line end; takes the reference. ST_NO_MEMORY also when it is NULL.
 */
NODISCARD enum status catalog_args_print_json(json_t *value, struct error *err);

#endif
