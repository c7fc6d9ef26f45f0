/* One number of a key or a value, as a cache keeps it. Private to reinforce/nn. */
#ifndef REINFORCE_NN_KV_VALUE_H
#define REINFORCE_NN_KV_VALUE_H

#include "reinforce/nn/attention.h"

#include <stdint.h>
#include <string.h>

static ALWAYS_INLINE size_t kv_value_bytes(enum kv_type type)
{
    return type == KV_FLOAT32 ? sizeof(float) : type == KV_BFLOAT16 ? sizeof(uint16_t) : 1;
}

/* The i-th; of KV_INT8 without its scale. */
static ALWAYS_INLINE float kv_value(enum kv_type type, const void *data, size_t i)
{
    uint32_t bits;
    float value;

    if (type == KV_INT8)
        return (float)((const int8_t *)data)[i];
    if (type == KV_FLOAT32)
        return ((const float *)data)[i];
    bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
