/* The elementwise and row-wise pieces of a transformer. All work on float32, row-major; none can
 * fail. */
#ifndef REINFORCE_NN_OPS_H
#define REINFORCE_NN_OPS_H

#include "reinforce/base/macros.h"

#include <stdbool.h>
#include <stdint.h>

/**
 * y[T, N] = x[T, K] w[N, K]^T + bias[N] (NULL: none); rows ldx apart in x, packed in y. The bits of
 * gemm_run(): a row's depend on that row alone.
 */
void ops_linear(float *y, const float *x, size_t ldx, const float *w, const float *bias, size_t T,
                size_t N, size_t K);

/**
 * The same for few rows (decoding): every output is one dot product summed in a fixed order of 16
 * lanes, so a row's bits do not depend on M or on the machine, and are not ops_linear()'s. Weights
 * are read once per call and not packed. y must not overlap x.
 */
void ops_linear_rows(float *y, const float *x, const float *w, const float *bias, size_t M,
                     size_t N, size_t K);
/** Plain twin of ops_linear_rows(), bit-equal. */
void ops_linear_rows_ref(float *y, const float *x, const float *w, const float *bias, size_t M,
                         size_t N, size_t K);

/** The same with bfloat16 w, widened on the way: bit-equal to ops_linear_rows() with w as float32.
 */
void ops_linear_rows_bf16(float *y, const float *x, const uint16_t *w, size_t M, size_t N,
                          size_t K);

/** y[T, D] = (x - mean) / sqrt(var + eps) * weight + bias; biased variance, two passes. y may be x.
 */
void ops_layer_norm(float *y, const float *x, const float *weight, const float *bias, float eps,
                    size_t T, size_t D);
void ops_layer_norm_ref(float *y, const float *x, const float *weight, const float *bias, float eps,
                        size_t T, size_t D);

/** y[T, D] = x / sqrt(mean(x^2) + eps) * (1 + weight): Gemma's form, whose stored weight is what
 * the gain has more than 1. y may be x. Source: Gemma. */
void ops_rms_norm(float *y, const float *x, const float *weight, float eps, size_t T, size_t D);
void ops_rms_norm_ref(float *y, const float *x, const float *weight, float eps, size_t T, size_t D);

/** x * Phi(x) with erf, within 2e-7 |x|; in place, n elements. */
void ops_gelu(float *x, size_t n);
void ops_gelu_ref(float *x, size_t n);

/** 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), GELU's approximation by tanh, within
 * 1e-6 of max(|x|, 1); in place. */
void ops_gelu_tanh(float *x, size_t n);
void ops_gelu_tanh_ref(float *x, size_t n);

/** x * sigmoid(1.702 x); in place. */
void ops_quick_gelu(float *x, size_t n);
void ops_quick_gelu_ref(float *x, size_t n);

/** The same three, in place, within 4e-4 of max(|x|, 1): for results that become int8, in steps of
 * 1/127 of the largest. NaN stays NaN. */
void ops_gelu_coarse(float *x, size_t n);
void ops_gelu_tanh_coarse(float *x, size_t n);
void ops_quick_gelu_coarse(float *x, size_t n);

/** gate = gelu_tanh(gate) * up, n elements, where gelu_tanh(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x +
 * 0.044715 x^3))): the gated unit of Gemma. */
void ops_gelu_tanh_gate(float *gate, const float *up, size_t n);
void ops_gelu_tanh_gate_ref(float *gate, const float *up, size_t n);

/** x = cap tanh(scale x / cap), n elements, in place; cap > 0. Within 1e-6 of cap. */
void ops_soft_cap(float *x, size_t n, float scale, float cap);
void ops_soft_cap_ref(float *x, size_t n, float scale, float cap);

/** x += y, n elements. */
void ops_add(float *x, const float *y, size_t n);

/** Softmax of scale * x over n elements, in place; -inf gives 0. At least one element is finite. */
void ops_softmax(float *x, size_t n, float scale);
void ops_softmax_ref(float *x, size_t n, float scale);

/** Sum of log(1 + e^z), z = scale * x + shift, over n finite elements: each within 1e-6 of itself
 * for |z| <= 80, added up in 16 lanes. */
float ops_softplus_sum(const float *x, size_t n, float scale, float shift);
float ops_softplus_sum_ref(const float *x, size_t n, float scale, float shift);

/** The log of the sum of e^(scale * x) over n >= 1 finite elements, as scale * *max + log(*sum),
 * *max being the element whose product is largest. */
void ops_max_sum_exp(const float *x, size_t n, float scale, float *max, float *sum);
void ops_max_sum_exp_ref(const float *x, size_t n, float scale, float *max, float *sum);

/** x / max(|x|, 1e-12), D elements, in place; returns the norm. A zero vector stays zero. */
float ops_l2_normalize(float *x, size_t D);

/** False if any of n is NaN or infinite. */
bool ops_all_finite(const float *x, size_t n);

#endif
