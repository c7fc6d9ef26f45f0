/* How the commands that take a dataset's URL are told where its store is. */
#ifndef REINFORCE_CLI_STORE_ARGS_H
#define REINFORCE_CLI_STORE_ARGS_H

#include "reinforce/job/job.h"
#include "storage/object/object_store.h"

/** For a command's table of long options, and the text of --help for them. */
#define STORE_ARGS_OPTIONS                                                                         \
    {"endpoint", required_argument, NULL, 'E'}, {"region", required_argument, NULL, 'R'},          \
    {                                                                                              \
        "profile", required_argument, NULL, 'P'                                                    \
    }
#define STORE_ARGS_HELP                                                                            \
    "  --endpoint URL, --region NAME, --profile NAME\n"                                            \
    "                of a dataset in a bucket, where a job file sets storage.endpoint,\n"          \
    "                storage.region, output.profile; default: as the AWS_* variables say\n"

/** Takes option `c` with its argument; false when it is none of these. */
bool store_args_take(int c, const char *argument, struct object_store_options *options);

/** Prints " --endpoint URL ..." of what the job sets. */
void store_args_print(const struct job *job);

#endif
