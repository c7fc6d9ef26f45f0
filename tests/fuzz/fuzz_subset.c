/* A list of ids that decodes survives encoding and decoding unchanged. */
#include "reinforce/curate/subset.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct example_id *first, *second;
    size_t n_first, n_second;
    struct byte_buf buf;
    struct arena arena;
    struct error err;

    if (size > 4096)
        return 0;
    arena_init(&arena, 1 << 20);
    byte_buf_init(&buf, 1 << 16);
    if (subset_decode(bytes_view_of(data, size), &first, &n_first, &arena, &err) == ST_OK &&
        subset_encode(first, &n_first, &buf, &err) == ST_OK) {
        enum status st = subset_decode(byte_buf_view(&buf), &second, &n_second, &arena, &err);

        assert(st == ST_OK && n_first == n_second);
        assert(n_first == 0 || memcmp(first, second, n_first * sizeof *first) == 0);
    }
    byte_buf_release(&buf);
    arena_release(&arena);
    return 0;
}
