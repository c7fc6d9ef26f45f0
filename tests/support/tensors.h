/* Stored tensors for tests of what is loaded from them. */
#ifndef TESTS_SUPPORT_TENSORS_H
#define TESTS_SUPPORT_TENSORS_H

#include "reinforce/nn/safetensors.h"

/** Rows of w float32 [n * out, in] as n tensors [out, in] in its memory, called names[i]. */
static inline void cut_tensors(const float *w, const char *const *names, size_t n, size_t out,
                               size_t in, struct tensor *tensors)
{
    for (size_t i = 0; i < n; i++)
        tensors[i] = (struct tensor){
            .name = names[i],
            .dtype = TENSOR_F32,
            .rank = 2,
            .shape = {out, in},
            .data = bytes_view_of(w + i * out * in, out * in * sizeof *w),
        };
}

#endif
