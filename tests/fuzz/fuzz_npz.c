/* Arrays that can be read survive writing and reading. */
#include "storage/format/npz.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct array_limits limits = {.max_arrays = 16, .max_bytes = 1 << 20};
    struct record_embedding *first, *second;
    struct arena arena;
    struct byte_buf buf;
    struct error err;
    size_t n, m;

    if (size > 65536)
        return 0;
    arena_init(&arena, 64u << 20);
    byte_buf_init(&buf, 16u << 20);
    if (npz_read(bytes_view_of(data, size), &limits, &arena, &first, &n, &err) == ST_OK &&
        npz_write(first, n, &buf, &err) == ST_OK &&
        npz_read(byte_buf_view(&buf), &limits, &arena, &second, &m, &err) == ST_OK)
        assert(n == m);
    byte_buf_release(&buf);
    arena_release(&arena);
    return 0;
}
