/* Selects again what a log says was selected, and tells whether it is the same. */
#ifndef REINFORCE_COORDINATOR_CURATOR_REPLAY_H
#define REINFORCE_COORDINATOR_CURATOR_REPLAY_H

#include "coordinator/curator/inputs.h"
#include "coordinator/curator/selection_log.h"

#include <stdatomic.h>

enum replay_outcome {
    REPLAY_SAME = 0,            /* index by index */
    REPLAY_DIFFERENT = 1,       /* another index, chunk or number of them */
    REPLAY_NO_INPUTS = 2,       /* the log has not what it was selected from */
    REPLAY_OTHER_REFERENCE = 3, /* it was selected with the curator's own, and this is not that */
    REPLAY_OUTCOMES = 4,
};

/** One selection; `detail` says what differs. Both live until the callback returns. */
typedef void replay_told_fn(void *ctx, const struct logged_selection *logged,
                            enum replay_outcome outcome, const char *detail);

struct replay_options {
    const char *path;
    const struct curator_references *references; /* NULL: none */
    size_t n_threads, max_bytes;                 /* as curator_options */
    const atomic_bool *stop;
    replay_told_fn *told;
    void *told_ctx;
};

/** ST_NOT_FOUND: no such file. ST_CORRUPT: from a byte on it cannot be read; what was before it has
 * been told. ST_CANCELLED. */
NODISCARD enum status replay_log(const struct replay_options *options,
                                 uint64_t counts[REPLAY_OUTCOMES], struct error *err);

#endif
