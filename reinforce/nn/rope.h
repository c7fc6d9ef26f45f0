/* Rotary positions: pairs (i, i + c / 2) of a head turned by an angle that grows with the position.
 */
#ifndef REINFORCE_NN_ROPE_H
#define REINFORCE_NN_ROPE_H

#include "reinforce/base/error.h"

/** Sines and cosines; immutable after rope_init(). */
struct rope {
    size_t n_positions, head_dim;
    float *cos, *sin; /* [n_positions, head_dim / 2], owned */
};

/** Angles t * base^(-2 i / head_dim), in double. head_dim is even. ST_NO_MEMORY. */
NODISCARD enum status rope_init(struct rope *rope, size_t n_positions, size_t head_dim, double base,
                                struct error *err);
void rope_release(struct rope *rope);

/** x float32 [n_heads, head_dim], in place: the heads of one token at `position`. Cannot fail.
 * Source: Su et al. 2021, in the half-split form of GPT-NeoX and Gemma. */
void rope_turn(const struct rope *rope, float *x, size_t n_heads, size_t position);
void rope_turn_ref(float *x, size_t n_heads, size_t head_dim, double base, size_t position);

#endif
