/* An array that can be read survives writing and reading. */
#include "storage/format/numpy_pickle.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct array_limits limits = {.max_arrays = 1, .max_bytes = 1 << 20};
    struct record_embedding first, second;
    struct arena arena;
    struct byte_buf buf;
    struct error err;

    if (size > 65536)
        return 0;
    arena_init(&arena, 64u << 20);
    byte_buf_init(&buf, 16u << 20);
    if (numpy_pickle_read(bytes_view_of(data, size), &limits, &arena, &first, &err) == ST_OK &&
        numpy_pickle_write(&first, &buf, &err) == ST_OK) {
        enum status st = numpy_pickle_read(byte_buf_view(&buf), &limits, &arena, &second, &err);

        assert(st == ST_OK && first.rows == second.rows && first.dim == second.dim);
    }
    byte_buf_release(&buf);
    arena_release(&arena);
    return 0;
}
