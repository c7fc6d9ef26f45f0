#include "reinforce/nn/attention.h"

#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <math.h>

enum { LANES = 16 };

/* Query t of a tile sees keys before its end, less the hidden ones. */
static void mask_and_normalize(const struct attention *a, size_t t, float *scores, float scale)
{
    size_t visible = a->causal ? t + 1 : a->Tk;

    if (a->hide_last != NULL && t + 1 == a->Tq)
        for (size_t j = 0; j < visible; j++)
            if (a->hide_last[j])
                scores[j] = -INFINITY;
    ops_softmax(scores, visible, scale);
    if (visible < a->Tk)
        memset(scores + visible, 0, (a->Tk - visible) * sizeof *scores);
}

enum status attention_run(const struct attention *a, float *out, struct arena *scratch,
                          struct error *err)
{
    float scale = 1.0f / sqrtf((float)a->head_dim), *scores;
    size_t D = a->n_heads * a->head_dim;
    enum status st = arena_alloc(
        scratch, MIN(a->Tq, (size_t)ATTENTION_TILE) * a->Tk * sizeof *scores, &scores, err);

    if (st != ST_OK)
        return st;
    for (size_t h = 0; h < a->n_heads; h++) {
        for (size_t first = 0; first < a->Tq; first += ATTENTION_TILE) {
            size_t n = MIN(a->Tq - first, (size_t)ATTENTION_TILE);
            size_t keys = a->causal ? MIN(first + n, a->Tk)
                                    : a->Tk; /* later ones are hidden from the whole tile */

            gemm(GEMM_PLAIN, GEMM_TRANSPOSED, (int)n, (int)keys, (int)a->head_dim, 1,
                 a->q + first * a->q_stride + h * a->head_dim, (int)a->q_stride,
                 a->k + h * a->head_dim, (int)a->kv_stride, 0, scores, (int)a->Tk);
            for (size_t i = 0; i < n; i++)
                mask_and_normalize(a, first + i, scores + i * a->Tk, scale);
            gemm(GEMM_PLAIN, GEMM_PLAIN, (int)n, (int)a->head_dim, (int)keys, 1, scores, (int)a->Tk,
                 a->v + h * a->head_dim, (int)a->kv_stride, 0, out + first * D + h * a->head_dim,
                 (int)D);
        }
    }
    return ST_OK;
}

void attention_ref(const struct attention *a, float *out)
{
    double scale = 1 / sqrt((double)a->head_dim);
    size_t D = a->n_heads * a->head_dim;

    for (size_t h = 0; h < a->n_heads; h++) {
        for (size_t t = 0; t < a->Tq; t++) {
            const float *q = a->q + t * a->q_stride + h * a->head_dim;
            size_t visible = a->causal ? t + 1 : a->Tk;
            double max = -INFINITY, sum = 0;

            for (size_t d = 0; d < a->head_dim; d++)
                out[t * D + h * a->head_dim + d] = 0;
            for (int pass = 0; pass < 3; pass++) {
                for (size_t j = 0; j < visible; j++) {
                    const float *k = a->k + j * a->kv_stride + h * a->head_dim;
                    const float *v = a->v + j * a->kv_stride + h * a->head_dim;
                    double score = 0;

                    if (a->hide_last != NULL && t + 1 == a->Tq && a->hide_last[j])
                        continue;
                    for (size_t d = 0; d < a->head_dim; d++)
                        score += (double)q[d] * (double)k[d];
                    score *= scale;
                    if (pass == 0)
                        max = fmax(max, score);
                    else if (pass == 1)
                        sum += exp(score - max);
                    for (size_t d = 0; pass == 2 && d < a->head_dim; d++) {
                        float *to = &out[t * D + h * a->head_dim + d];

                        *to = (float)((double)*to + exp(score - max) / sum * (double)v[d]);
                    }
                }
            }
        }
    }
}

KERNEL_CLONES static float dot(const float *a, const float *b, size_t n)
{
    float lane[LANES] = {0}, sum = 0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += a[i + (size_t)l] * b[i + (size_t)l];
    for (size_t j = i; j < n; j++)
        lane[j - i] += a[j] * b[j];
    for (int l = 0; l < LANES; l++)
        sum += lane[l];
    return sum;
}

KERNEL_CLONES static void add_scaled(float *out, const float *v, float weight, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] += weight * v[i];
}

void attention_cached(float *out, const float *q, const float *k, const float *v, size_t Tk,
                      size_t n_heads, size_t head_dim, float *scores)
{
    float scale = 1.0f / sqrtf((float)head_dim);
    size_t D = n_heads * head_dim;

    for (size_t h = 0; h < n_heads; h++) {
        float *to = out + h * head_dim;

        for (size_t j = 0; j < Tk; j++)
            scores[j] = dot(q + h * head_dim, k + j * D + h * head_dim, head_dim);
        ops_softmax(scores, Tk, scale);
        memset(to, 0, head_dim * sizeof *to);
        for (size_t j = 0; j < Tk; j++)
            add_scaled(to, v + j * D + h * head_dim, scores[j], head_dim);
    }
}
