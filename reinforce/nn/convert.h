/* Half-width floats to float32, exactly. */
#ifndef REINFORCE_NN_CONVERT_H
#define REINFORCE_NN_CONVERT_H

#include "reinforce/base/macros.h"

#include <stdint.h>

/** src n bfloat16, little endian, any alignment; out float32 [n]. Exact, NaN payloads kept. */
void convert_bf16(const uint8_t *src, size_t n, float *out);

/** src n IEEE half, little endian, any alignment; out float32 [n]. Exact, subnormals included. */
void convert_f16(const uint8_t *src, size_t n, float *out);

#endif
