/* Half-width floats to float32, exactly, and back. */
#ifndef REINFORCE_NN_CONVERT_H
#define REINFORCE_NN_CONVERT_H

#include "reinforce/base/macros.h"

#include <stdint.h>

/** src n bfloat16, little endian, any alignment; out float32 [n]. Exact, NaN payloads kept. */
void convert_bf16(const uint8_t *src, size_t n, float *out);

/** out bfloat16 [n]: the nearest, ties to even; a NaN stays one. */
void convert_to_bf16(const float *src, size_t n, uint16_t *out);

/** src n IEEE half, little endian, any alignment; out float32 [n]. Exact, subnormals included. */
void convert_f16(const uint8_t *src, size_t n, float *out);

/** out IEEE half [n]: the nearest, ties to even, infinite from 65,520 on; a NaN stays one. */
void convert_to_f16(const float *src, size_t n, uint16_t *out);

#endif
