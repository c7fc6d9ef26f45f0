#include "worker/stage.h"

#include "reinforce/base/clock.h"

int64_t stage_begin(void)
{
    return clock_monotonic_ns();
}

void stage_end(const struct stage_context *context, enum sample_stage stage, int64_t begun)
{
    (void)atomic_fetch_add(&context->stats->busy_ns[stage], clock_monotonic_ns() - begun);
}
