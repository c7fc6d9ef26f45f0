/* Float elements of any width and order to float32, and what every reader of arrays checks alike.
 */
#ifndef REINFORCE_STORAGE_ARRAY_FLOATS_H
#define REINFORCE_STORAGE_ARRAY_FLOATS_H

#include "storage/format/array_limits.h"

enum array_float {
    ARRAY_F2 = 2,
    ARRAY_F4 = 4,
    ARRAY_F8 = 8,
};

/** "<f4" and its kin. False: not a float type we take. */
bool array_float_parse(const char *descr, size_t len, enum array_float *type, bool *big_endian);

/**
 * raw holds rows x dim elements, row-major or (fortran) column-major. array->data, float32,
 * row-major, in `arena`. ST_CORRUPT when raw has another length, or the array or a side of an empty
 * one passes max_bytes.
 */
NODISCARD enum status array_floats_read(struct bytes_view raw, enum array_float type,
                                        bool big_endian, bool fortran, uint64_t rows, uint64_t dim,
                                        const struct array_limits *limits, struct arena *arena,
                                        struct record_embedding *array, struct error *err);

/** Appends the elements as little-endian float32; bfloat16 is widened. */
NODISCARD enum status array_floats_write(const struct record_embedding *array, struct byte_buf *out,
                                         struct error *err);

/** Takes a float32 array that was read off what is left of max_bytes: the limit is for all of a
 * container's arrays together. */
NODISCARD enum status array_floats_count(const struct record_embedding *array,
                                         struct array_limits *left, struct error *err);

/** ST_INVALID: a name that no container can carry, one that is there twice, or a size beyond 2 GiB.
 */
NODISCARD enum status array_list_check(const struct record_embedding *arrays, size_t n,
                                       struct error *err);

#endif
