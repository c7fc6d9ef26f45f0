#include "worker/shard_reader.h"

#include "worker/sample_list.h"

enum status shard_reader_open(const struct shard_stores *stores,
                              const struct catalog_shard_plan *plan, struct dataset_position from,
                              struct dataset_reader **out, struct error *err)
{
    const struct dataset_format *format = dataset_format_by_name(plan->input_format);
    const struct dataset_read_options options = {
        .max_sample_bytes = (size_t)stores->job->workers.max_sample_bytes,
        .begin_offset = plan->input_begin,
        .end_offset = plan->input_end,
        .references = stores->input,
        .web = stores->web,
    };

    *out = NULL;
    if (plan->source == CATALOG_INPUT_LIST)
        return sample_list_open(stores->input, stores->output, plan->input_key, &options, &from,
                                out, err);
    if (format == NULL)
        return error_set(err, ST_INVALID, "no reader for format \"%s\"", plan->input_format);
    if (from.index == 0)
        from.offset = plan->input_begin;
    return dataset_reader_open(format,
                               plan->source == CATALOG_INPUT_JOB ? stores->input : stores->output,
                               plan->input_key, &options, &from, out, err);
}
