#include "worker/stage.h"

#include "reinforce/base/clock.h"

bool stage_wants(const struct sample *sample)
{
    return !sample->ends_shard && !sample->failed && !atomic_load(&sample->work->abandoned);
}

void stage_free_pixels(const struct stage_context *context, struct sample *sample)
{
    if (sample->reserved_bytes > 0)
        memory_budget_free(context->budget, sample->reserved_bytes);
    sample->reserved_bytes = 0;
    arena_reset(&sample->pixels);
}

int64_t stage_begin(void)
{
    return clock_monotonic_ns();
}

void stage_end(const struct stage_context *context, enum sample_stage stage, int64_t begun)
{
    (void)atomic_fetch_add(&context->stats->busy_ns[stage], clock_monotonic_ns() - begun);
}
