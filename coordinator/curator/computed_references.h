/* References by id from two places: a dataset's, and what a teacher has computed so far. */
#ifndef REINFORCE_COORDINATOR_CURATOR_COMPUTED_REFERENCES_H
#define REINFORCE_COORDINATOR_CURATOR_COMPUTED_REFERENCES_H

#include "coordinator/curator/computed_rows.h"
#include "coordinator/curator/example_index.h"
#include "coordinator/curator/inputs.h"
#include "coordinator/curator/teacher_worker.h"

struct computed_references {
    const struct curator_references *dataset; /* asked first; NULL: none */
    struct example_index *index;
    struct computed_rows *rows;
    char version[128];
    struct curator_references references;
};

/**
 * Maps what a worker has said it writes to; `dataset` may be NULL and is borrowed. ST_INVALID: the
 * dataset's teacher is another one. On failure it is released.
 */
NODISCARD enum status computed_references_open(const struct teacher_hello *hello, const char *cache,
                                               const struct curator_references *dataset,
                                               struct computed_references *out, struct error *err);
/** Safe on a zeroed one. */
void computed_references_close(struct computed_references *computed);

enum computed_found {
    COMPUTED_IS_THERE = 1,
    COMPUTED_CAN_BE = 2, /* *place is where */
    COMPUTED_CANNOT = 3, /* the input has no such example, or it cannot be embedded */
};

/** Whether an example has a reference. Any thread. */
enum computed_found computed_references_find(const struct computed_references *computed,
                                             struct example_id id, uint64_t *place);

#endif
