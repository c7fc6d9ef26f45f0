#include "worker/storage.h"

#include "reinforce/job/job_stream.h"

enum { WEB_MAX_TRIES = 3, WEB_BACKOFF_MS = 5000 };

static void common(const struct job *job, struct object_store_options *options)
{
    *options = (struct object_store_options){
        .endpoint = job->storage.endpoint,
        .region = job->storage.region,
        .addressing = job->storage.addressing,
        .allow_private = job->storage.allow_private,
        .part_bytes = (size_t)job->storage.part_bytes,
        .connections = job->storage.connections,
        .max_tries = job->storage.max_tries,
        .stale_ms = job->storage.stale_ms,
    };
}

void storage_input_options(const struct job *job, struct object_store_options *options)
{
    common(job, options);
    options->profile = job->input.profile;
    options->anonymous = job->input.anonymous;
}

void storage_output_options(const struct job *job, bool sole_writer,
                            struct object_store_options *options)
{
    common(job, options);
    options->profile = job->output.profile;
    options->sole_writer = sole_writer;
}

enum status storage_open_input(const struct job *job, struct arena *arena, struct input *out,
                               struct error *err)
{
    struct object_store_options options;
    enum status st;

    *out = (struct input){0};
    storage_input_options(job, &options);
    if (!job_is_stream(job))
        return input_open(job->input.url, &options, arena, out, err);
    if (job->kafka.objects == NULL)
        return ST_OK;
    st = object_store_open_with(job->kafka.objects, &options, &out->store, err);
    if (st != ST_OK)
        error_add_context(err, "kafka.objects");
    return st;
}

enum status storage_open_web(const struct job *job, int max_connections, const atomic_bool *stop,
                             struct http **out, struct error *err)
{
    struct http_options options;

    http_options_default(&options);
    options.max_connections = max_connections;
    options.max_tries = MIN(job->storage.max_tries, WEB_MAX_TRIES);
    options.backoff_max_ms = WEB_BACKOFF_MS;
    options.public_only = !job->storage.allow_private;
    options.stop = stop;
    return http_open(&options, out, err);
}
