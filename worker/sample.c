#include "worker/sample.h"

#include <assert.h>
#include <stdio.h>

const char *sample_stage_name(enum sample_stage stage)
{
    static const char *const names[] = {"read",  "decode", "curate", "caption",
                                        "embed", "write",  "any"};

    assert(stage >= STAGE_READ && stage <= STAGE_ANY);
    return names[stage];
}

static bool is_suspect(const struct shard_work *work, int64_t index)
{
    return (uint64_t)index < work->lease.suspect_end;
}

bool shard_work_probes_alone(const struct shard_work *work, int64_t index)
{
    return is_suspect(work, index) && work->lease.probe_samples == 1;
}

bool shard_work_ends_probe(const struct shard_work *work, int64_t index)
{
    uint64_t next = (uint64_t)index + 1;

    return is_suspect(work, index) &&
           (next == work->lease.suspect_end ||
            (next - work->begin_index) % (uint64_t)work->lease.probe_samples == 0);
}

void sample_init(struct sample *sample, size_t max_bytes)
{
    memset(sample, 0, sizeof *sample);
    arena_init(&sample->arena, max_bytes);
    arena_init(&sample->pixels, max_bytes);
}

void sample_reset(struct sample *sample)
{
    struct arena arena = sample->arena, pixels = sample->pixels;

    assert(sample->reserved_bytes == 0);
    record_release(&sample->record);
    memset(sample, 0, sizeof *sample);
    arena_reset(&arena);
    arena_reset(&pixels);
    sample->arena = arena;
    sample->pixels = pixels;
}

void sample_release(struct sample *sample)
{
    record_release(&sample->record);
    arena_release(&sample->arena);
    arena_release(&sample->pixels);
}

static void add_cost(struct model_cost *sum, const struct model_cost *cost)
{
    sum->ns += cost->ns;
    sum->images += cost->images;
    sum->texts += cost->texts;
    sum->tokens += cost->tokens;
}

void model_costs_add(struct model_costs *sum, const struct model_costs *costs)
{
    for (size_t c = 0; c < ARRAY_LEN(sum->captioners); c++)
        add_cost(&sum->captioners[c], &costs->captioners[c]);
    for (size_t t = 0; t < ARRAY_LEN(sum->teachers); t++)
        add_cost(&sum->teachers[t], &costs->teachers[t]);
}

void sample_fail(struct sample *sample, enum sample_stage stage, const char *reason,
                 const struct error *err)
{
    sample->failed = true;
    sample->retry = status_is_retryable(err->code);
    sample->undone = err->code == ST_CANCELLED;
    sample->failed_stage = stage;
    (void)snprintf(sample->reason, sizeof sample->reason, "%s", reason);
    (void)snprintf(sample->detail, sizeof sample->detail, "%s%s%s", err->context,
                   err->context[0] ? ": " : "", err->message);
}
