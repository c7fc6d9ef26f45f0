/* Memory behind a file that nobody sees: for working sets that may be larger than memory. */
#ifndef REINFORCE_BASE_SCRATCH_H
#define REINFORCE_BASE_SCRATCH_H

#include "reinforce/base/error.h"

/** A zeroed one is closed safely. */
struct scratch {
    void *memory;
    size_t bytes;
};

/**
 * `bytes` > 0 of zeros in an unlinked file of $TMPDIR, or /tmp: pages that do not fit into memory
 * go to the disk. ST_FULL: the disk has no room for them; ST_UNAVAILABLE.
 */
NODISCARD enum status scratch_open(struct scratch *scratch, size_t bytes, struct error *err);
void scratch_close(struct scratch *scratch);

#endif
