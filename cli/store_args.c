#include "cli/store_args.h"

#include <stdio.h>

bool store_args_take(int c, const char *argument, struct object_store_options *options)
{
    if (c == 'E')
        options->endpoint = argument;
    else if (c == 'R')
        options->region = argument;
    else if (c == 'P')
        options->profile = argument;
    else
        return false;
    return true;
}

void store_args_print(const struct job *job)
{
    const struct {
        const char *name, *value;
    } set[] = {{"endpoint", job->storage.endpoint},
               {"region", job->storage.region},
               {"profile", job->output.profile}};

    for (size_t i = 0; i < ARRAY_LEN(set); i++)
        if (set[i].value != NULL && strncmp(job->output.url, "s3:", 3) == 0)
            (void)printf(" --%s %s", set[i].name, set[i].value);
}
