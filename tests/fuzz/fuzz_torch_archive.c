/* Checkpoints: whatever is read lies within the input or the arena. */
#include "reinforce/nn/torch_archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct tensor *tensors;
    struct error err;
    uint8_t sum = 0;
    size_t n;

    if (size > 65536)
        return 0;
    arena_init(&arena, 32u << 20);
    if (torch_archive_read(bytes_view_of(data, size), 64, &arena, &tensors, &n, &err) == ST_OK)
        for (size_t t = 0; t < n; t++)
            for (size_t i = 0; i < tensors[t].data.len; i++)
                sum = (uint8_t)(sum + tensors[t].data.data[i]);
    arena_release(&arena);
    return sum == 1 && size == 0;
}
