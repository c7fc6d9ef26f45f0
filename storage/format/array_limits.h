/* What the readers of embedding containers accept before they allocate, and the rules they share.
 */
#ifndef REINFORCE_STORAGE_ARRAY_LIMITS_H
#define REINFORCE_STORAGE_ARRAY_LIMITS_H

#include "reinforce/record/record.h"

/** Declared sizes are outside input: checked against these before memory is taken for them. */
struct array_limits {
    size_t max_arrays; /* in one container */
    size_t max_bytes;  /* of one container when decompressed, and of its arrays together */
};

/** Far above any published sample (30 views and 6 texts of width 1536 are 216 KiB) and below harm.
 */
#define ARRAY_LIMITS_DEFAULT                                                                       \
    (struct array_limits)                                                                          \
    {                                                                                              \
        .max_arrays = 64, .max_bytes = (size_t)64 << 20                                            \
    }

enum { ARRAY_MAX_NAME = 255 };

#endif
