#include "reinforce/nn/ops.h"

#include "reinforce/nn/exp_f32.h"
#include "reinforce/nn/gemm.h"

#include <math.h>
#include <stdint.h>

enum { LANES = 16 };

/* Adds 16 lanes in a fixed tree. */
static inline float sum_lanes(const float *lane)
{
    float s[LANES / 2];

    for (int i = 0; i < 8; i++)
        s[i] = lane[i] + lane[i + 8];
    for (int i = 0; i < 4; i++)
        s[i] = s[i] + s[i + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

void ops_linear(float *y, const float *x, size_t ldx, const float *w, const float *bias, size_t T,
                size_t N, size_t K)
{
    gemm_run(&(struct gemm){.M = T,
                            .N = N,
                            .K = K,
                            .a = x,
                            .lda = ldx,
                            .b = w,
                            .ldb = K,
                            .c = y,
                            .ldc = N,
                            .then = {.bias = bias}});
}

KERNEL_CLONES void ops_layer_norm(float *y, const float *x, const float *weight, const float *bias,
                                  float eps, size_t T, size_t D)
{
    for (size_t t = 0; t < T; t++) {
        const float *row = x + t * D;
        float *to = y + t * D, lane[LANES] = {0}, mean, scale;
        size_t d = 0;

        for (; d + LANES <= D; d += LANES)
            for (int i = 0; i < LANES; i++)
                lane[i] += row[d + (size_t)i];
        for (size_t j = d; j < D; j++)
            lane[j - d] += row[j];
        mean = sum_lanes(lane) / (float)D;
        for (int i = 0; i < LANES; i++)
            lane[i] = 0;
        for (d = 0; d + LANES <= D; d += LANES)
            for (int i = 0; i < LANES; i++)
                lane[i] += (row[d + (size_t)i] - mean) * (row[d + (size_t)i] - mean);
        for (size_t j = d; j < D; j++)
            lane[j - d] += (row[j] - mean) * (row[j] - mean);
        scale = 1.0f / sqrtf(sum_lanes(lane) / (float)D + eps);
        for (d = 0; d < D; d++)
            to[d] = (row[d] - mean) * scale * weight[d] + bias[d];
    }
}

void ops_layer_norm_ref(float *y, const float *x, const float *weight, const float *bias, float eps,
                        size_t T, size_t D)
{
    for (size_t t = 0; t < T; t++) {
        double mean = 0, var = 0;

        for (size_t d = 0; d < D; d++)
            mean += (double)x[t * D + d];
        mean /= (double)D;
        for (size_t d = 0; d < D; d++)
            var += ((double)x[t * D + d] - mean) * ((double)x[t * D + d] - mean);
        var /= (double)D;
        for (size_t d = 0; d < D; d++)
            y[t * D + d] = (float)(((double)x[t * D + d] - mean) / sqrt(var + (double)eps) *
                                       (double)weight[d] +
                                   (double)bias[d]);
    }
}

KERNEL_CLONES void ops_rms_norm(float *y, const float *x, const float *weight, float eps, size_t T,
                                size_t D)
{
    for (size_t t = 0; t < T; t++) {
        const float *row = x + t * D;
        float *to = y + t * D, lane[LANES] = {0}, scale;
        size_t d = 0;

        for (; d + LANES <= D; d += LANES)
            for (int i = 0; i < LANES; i++)
                lane[i] += row[d + (size_t)i] * row[d + (size_t)i];
        for (size_t j = d; j < D; j++)
            lane[j - d] += row[j] * row[j];
        scale = 1.0f / sqrtf(sum_lanes(lane) / (float)D + eps);
        for (d = 0; d < D; d++)
            to[d] = row[d] * scale * (1.0f + weight[d]);
    }
}

void ops_rms_norm_ref(float *y, const float *x, const float *weight, float eps, size_t T, size_t D)
{
    for (size_t t = 0; t < T; t++) {
        double sum = 0;

        for (size_t d = 0; d < D; d++)
            sum += (double)x[t * D + d] * (double)x[t * D + d];
        for (size_t d = 0; d < D; d++)
            y[t * D + d] = (float)((double)x[t * D + d] / sqrt(sum / (double)D + (double)eps) *
                                   (1 + (double)weight[d]));
    }
}

/* x, of a magnitude of at most `most`, which a NaN gets too. By bits: GCC 12 makes masks and blends
 * of comparisons that follow each other. */
static ALWAYS_INLINE float within(float x, float most)
{
    uint32_t bits, limit, magnitude;

    memcpy(&bits, &x, sizeof bits);
    memcpy(&limit, &most, sizeof limit);
    magnitude = MIN(bits & 0x7fffffffu, limit);
    bits = (bits & 0x80000000u) | magnitude;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x (1/2 + g(x)) with erf(x / sqrt 2) / 2 = g(x) = x times a minimax polynomial of x^2, shifted to
 * -1..1, up to where it is 1/2 in float32: within 1.6e-7 |x|. */
KERNEL_CLONES void ops_gelu(float *x, size_t n)
{
    static const float p[] = {0.129161507f,    -0.0644695833f,  0.0479348339f,  -0.0388995074f,
                              0.0320975706f,   -0.0260250196f,  0.0201262776f,  -0.0144944051f,
                              0.0102637457f,   -0.007416429f,   0.00407056278f, -0.00122341129f,
                              0.000993149704f, -0.00127223693f, 0.000493829604f};

    for (size_t i = 0; i < n; i++) {
        float v = within(x[i], 5.474f), s = fmaf(v * v, 0.06674526f, -1.0f), g = p[14];

        for (int j = 13; j >= 0; j--)
            g = fmaf(g, s, p[j]);
        x[i] *= fmaf(v, g, 0.5f);
    }
}

void ops_gelu_ref(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(0.5 * (double)x[i] * (1 + erf((double)x[i] * 0.70710678118654752440)));
}

/* (1 + tanh(u)) / 2 is the logistic function of 2 u. */
KERNEL_CLONES void ops_gelu_tanh(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i], z = -1.5957691216057308f * (v + 0.044715f * v * v * v);

        z = z > 80.0f ? 80.0f : z;
        x[i] = v / (1.0f + exp_f32(z));
    }
}

void ops_gelu_tanh_ref(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];

        x[i] = (float)(0.5 * v * (1 + tanh(0.79788456080286536 * (v + 0.044715 * v * v * v))));
    }
}

KERNEL_CLONES void ops_quick_gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i], z = -1.702f * v;

        z = z > 80.0f ? 80.0f : z;
        x[i] = v / (1.0f + exp_f32(z));
    }
}

void ops_quick_gelu_ref(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] / (1 + exp(-1.702 * (double)x[i])));
}

/* Both forms of GELU, g by fewer coefficients, of x, x^3..., up to |x| = 3.2, behind which it
 * hardly changes any more. */
static ALWAYS_INLINE float gelu_by(const float p[5], float x)
{
    float v = within(x, 3.2f), t = v * v, g = p[4];

    for (int i = 3; i >= 0; i--)
        g = fmaf(g, t, p[i]);
    return x * fmaf(v, g, 0.5f);
}

KERNEL_CLONES void ops_gelu_coarse(float *x, size_t n)
{
    static const float p[] = {0.396795022f, -0.0624809915f, 0.00756811582f, -0.000521166961f,
                              1.50231337e-05f};

    for (size_t i = 0; i < n; i++)
        x[i] = gelu_by(p, x[i]);
}

KERNEL_CLONES void ops_gelu_tanh_coarse(float *x, size_t n)
{
    static const float p[] = {0.396651015f, -0.0625138761f, 0.00760538271f, -0.000527031927f,
                              1.52877358e-05f};

    for (size_t i = 0; i < n; i++)
        x[i] = gelu_by(p, x[i]);
}

/* 1 / (1 + e): a division takes as long as all else, so from 12 % by three of Newton's steps. */
KERNEL_CLONES void ops_quick_gelu_coarse(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i], z = -2.45546696f * v, d, r; /* 1.702 log2(e) */
        uint32_t bits;

        z = z > 60.0f ? 60.0f : z;
        d = 1.0f + exp2_coarse(z);
        memcpy(&bits, &d, sizeof bits);
        bits = 0x7ef311c3u - bits;
        memcpy(&r, &bits, sizeof r);
        r = r * (2.0f - d * r);
        r = r * (2.0f - d * r);
        r = r * (2.0f - d * r);
        x[i] = v * r;
    }
}

/* tanh(x) = 1 - 2 / (e^2x + 1). */
static inline float tanh_f32(float x)
{
    x = x > 20.0f ? 20.0f : x;
    return 1.0f - 2.0f / (exp_f32(2.0f * x) + 1.0f);
}

KERNEL_CLONES void ops_gelu_tanh_gate(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = gate[i], z = 0.7978845608028654f * (x + 0.044715f * x * x * x);

        z = z > 40.0f ? 40.0f : z; /* x / 2 (1 + tanh z) = x / (1 + e^-2z) */
        z = z < -40.0f ? -40.0f : z;
        gate[i] = x / (1.0f + exp_f32(-2.0f * z)) * up[i];
    }
}

void ops_gelu_tanh_gate_ref(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double x = (double)gate[i];

        gate[i] =
            (float)(0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))) *
                    (double)up[i]);
    }
}

KERNEL_CLONES void ops_soft_cap(float *x, size_t n, float scale, float cap)
{
    float in = scale / cap;

    for (size_t i = 0; i < n; i++)
        x[i] = cap * tanh_f32(x[i] * in);
}

void ops_soft_cap_ref(float *x, size_t n, float scale, float cap)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)cap * tanh((double)x[i] * (double)scale / (double)cap));
}

void ops_add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

KERNEL_CLONES void ops_softmax(float *x, size_t n, float scale)
{
    float lane[LANES], max = -INFINITY, sum;
    size_t i = 0;

    for (int l = 0; l < LANES; l++)
        lane[l] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] = x[i + (size_t)l] > lane[l] ? x[i + (size_t)l] : lane[l];
    for (; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (int l = 0; l < LANES; l++)
        max = lane[l] > max ? lane[l] : max;
    for (i = 0; i < n; i++) {
        float z = (x[i] - max) * scale;

        x[i] = z < -87.0f ? 0 : exp_f32(z);
    }
    for (int l = 0; l < LANES; l++)
        lane[l] = 0;
    for (i = 0; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += x[i + (size_t)l];
    for (size_t j = i; j < n; j++)
        lane[j - i] += x[j];
    sum = 1.0f / sum_lanes(lane);
    for (i = 0; i < n; i++)
        x[i] *= sum;
}

void ops_softmax_ref(float *x, size_t n, float scale)
{
    float max = x[0];
    double sum = 0;

    for (size_t i = 1; i < n; i++)
        max = fmaxf(max, x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp(((double)x[i] - (double)max) * (double)scale);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(exp(((double)x[i] - (double)max) * (double)scale) / sum);
}

/* max(z, 0) + log(1 + e^-|z|), the log by 2 atanh(w), w = e / (2 + e) <= 1/3: a minimax polynomial
 * in w^2 of relative error 4e-9, so that small values keep their digits. */
static inline float softplus_f32(float z)
{
    float e = exp_f32(z < 0 ? z : -z), w = e / (2.0f + e), t = w * w, p;

    p = 0.14089167f;
    p = p * t + 0.13980302f;
    p = p * t + 0.20012455f;
    p = p * t + 0.33333158f;
    p = p * t + 1.0f;
    return (z > 0 ? z : 0) + 2.0f * w * p;
}

KERNEL_CLONES float ops_softplus_sum(const float *x, size_t n, float scale, float shift)
{
    float lane[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += softplus_f32(x[i + (size_t)l] * scale + shift);
    for (size_t j = i; j < n; j++)
        lane[j - i] += softplus_f32(x[j] * scale + shift);
    return sum_lanes(lane);
}

float ops_softplus_sum_ref(const float *x, size_t n, float scale, float shift)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        double z = (double)x[i] * (double)scale + (double)shift;

        sum += fmax(z, 0) + log1p(exp(-fabs(z)));
    }
    return (float)sum;
}

KERNEL_CLONES void ops_max_sum_exp(const float *x, size_t n, float scale, float *max, float *sum)
{
    float lane[LANES], most = -INFINITY, sign = scale < 0 ? -1.0f : 1.0f;
    size_t i = 0;

    for (int l = 0; l < LANES; l++)
        lane[l] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] = MAX(x[i + (size_t)l] * sign, lane[l]);
    for (; i < n; i++)
        most = MAX(x[i] * sign, most);
    for (int l = 0; l < LANES; l++)
        most = MAX(lane[l], most);
    most *= sign;
    for (int l = 0; l < LANES; l++)
        lane[l] = 0;
    for (i = 0; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += exp_f32((x[i + (size_t)l] - most) * scale);
    for (size_t j = i; j < n; j++)
        lane[j - i] += exp_f32((x[j] - most) * scale);
    *max = most;
    *sum = sum_lanes(lane);
}

void ops_max_sum_exp_ref(const float *x, size_t n, float scale, float *max, float *sum)
{
    double total = 0;

    *max = x[0];
    for (size_t i = 1; i < n; i++)
        if ((double)x[i] * (double)scale > (double)*max * (double)scale)
            *max = x[i];
    for (size_t i = 0; i < n; i++)
        total += exp(((double)x[i] - (double)*max) * (double)scale);
    *sum = (float)total;
}

float ops_l2_normalize(float *x, size_t D)
{
    double sum = 0;
    float norm;

    for (size_t d = 0; d < D; d++)
        sum += (double)x[d] * (double)x[d];
    norm = (float)sqrt(sum);
    for (size_t d = 0; d < D; d++)
        x[d] /= fmaxf(norm, 1e-12f);
    return norm;
}

bool ops_all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}
