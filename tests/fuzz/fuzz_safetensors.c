/* Bytes as a safetensors file: what opens must hold every byte it claims, and nothing twice. */
#include "reinforce/nn/weights.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *file = NULL;
    struct weights *weights = NULL;
    struct error err = {0};
    const struct tensor *tensors;
    volatile uint8_t sink = 0;
    size_t n = 0, total = 0;

    if (size > 64 * 1024 || safetensors_open_bytes(bytes_view_of(data, size), &file, &err) != ST_OK)
        return 0;
    tensors = safetensors_view(file, &n);
    for (size_t i = 0; i < n; i++) {
        total += tensors[i].data.len;
        for (size_t b = 0; b < tensors[i].data.len; b++)
            sink = (uint8_t)(sink + tensors[i].data.data[b]);
        assert(safetensors_peek(file, tensors[i].name) == &tensors[i]);
    }
    assert(total <= size);
    if (weights_create(tensors, n, &weights, &err) == ST_OK) {
        for (size_t i = 0; i < n; i++) {
            size_t shape[TENSOR_MAX_RANK + 1] = {0};
            const float *values;
            bool zero = false;

            for (size_t d = 0; d < tensors[i].rank; d++) {
                shape[d] = tensors[i].shape[d];
                zero = zero || shape[d] == 0;
            }
            if (!zero && weights_get(weights, "", tensors[i].name, shape, &values, &err) == ST_OK)
                sink = (uint8_t)(sink + (values[tensor_count(&tensors[i]) - 1] > 0));
        }
        weights_destroy(&weights);
    }
    safetensors_close(&file);
    return 0;
}
