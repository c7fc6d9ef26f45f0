#include "reinforce/nn/attention.h"

#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <math.h>

enum { LANES = 16 };

static size_t n_kv_heads(const struct attention *a)
{
    return a->n_kv_heads > 0 ? a->n_kv_heads : a->n_heads;
}

static float scale_of(const struct attention *a)
{
    return a->scale > 0 ? a->scale : 1.0f / sqrtf((float)a->head_dim);
}

/* The keys [first, end) that the query at position i sees. */
struct span {
    size_t first, end;
};

static struct span visible_keys(const struct attention *a, size_t i)
{
    return (struct span){
        .first = a->window > 0 && i + 1 > a->window ? i + 1 - a->window : 0,
        .end = a->causal ? MIN(MAX(i + 1, a->n_prefix), a->Tk) : a->Tk,
    };
}

/* From q k^T to probabilities: scale, cap, mask, softmax. Row t of the queries. */
static void mask_and_normalize(const struct attention *a, size_t t, float *scores, float scale)
{
    struct span keys = visible_keys(a, a->Tk - a->Tq + t);

    if (a->soft_cap > 0) {
        ops_soft_cap(scores + keys.first, keys.end - keys.first, scale, a->soft_cap);
        scale = 1;
    }
    if (a->hide_last != NULL && t + 1 == a->Tq)
        for (size_t j = 0; j < keys.end; j++)
            if (a->hide_last[j])
                scores[j] = -INFINITY;
    ops_softmax(scores + keys.first, keys.end - keys.first, scale);
    memset(scores, 0, keys.first * sizeof *scores);
    memset(scores + keys.end, 0, (a->Tk - keys.end) * sizeof *scores);
}

enum status attention_run(const struct attention *a, float *out, struct arena *scratch,
                          struct error *err)
{
    float scale = scale_of(a), *scores;
    size_t D = a->n_heads * a->head_dim, group = a->n_heads / n_kv_heads(a);
    enum status st = arena_alloc(
        scratch, MIN(a->Tq, (size_t)ATTENTION_TILE) * a->Tk * sizeof *scores, &scores, err);

    if (st != ST_OK)
        return st;
    for (size_t h = 0; h < a->n_heads; h++) {
        size_t kv = h / group * a->head_dim;

        for (size_t first = 0; first < a->Tq; first += ATTENTION_TILE) {
            size_t n = MIN(a->Tq - first, (size_t)ATTENTION_TILE);
            /* later ones are hidden from the whole tile */
            size_t keys = visible_keys(a, a->Tk - a->Tq + first + n - 1).end;

            gemm(GEMM_PLAIN, GEMM_TRANSPOSED, (int)n, (int)keys, (int)a->head_dim, 1,
                 a->q + first * a->q_stride + h * a->head_dim, (int)a->q_stride, a->k + kv,
                 (int)a->kv_stride, 0, scores, (int)a->Tk);
            for (size_t i = 0; i < n; i++)
                mask_and_normalize(a, first + i, scores + i * a->Tk, scale);
            gemm(GEMM_PLAIN, GEMM_PLAIN, (int)n, (int)a->head_dim, (int)keys, 1, scores, (int)a->Tk,
                 a->v + kv, (int)a->kv_stride, 0, out + first * D + h * a->head_dim, (int)D);
        }
    }
    return ST_OK;
}

void attention_ref(const struct attention *a, float *out)
{
    double scale = a->scale > 0 ? (double)a->scale : 1 / sqrt((double)a->head_dim);
    size_t D = a->n_heads * a->head_dim, group = a->n_heads / n_kv_heads(a);

    for (size_t h = 0; h < a->n_heads; h++) {
        for (size_t t = 0; t < a->Tq; t++) {
            const float *q = a->q + t * a->q_stride + h * a->head_dim;
            size_t at = a->Tk - a->Tq + t;
            double max = -INFINITY, sum = 0;

            for (size_t d = 0; d < a->head_dim; d++)
                out[t * D + h * a->head_dim + d] = 0;
            for (int pass = 0; pass < 3; pass++) {
                for (size_t j = 0; j < a->Tk; j++) {
                    const float *k = a->k + j * a->kv_stride + h / group * a->head_dim;
                    const float *v = a->v + j * a->kv_stride + h / group * a->head_dim;
                    double score = 0;

                    if ((a->causal && j > at && j >= a->n_prefix) ||
                        (a->window > 0 && j + a->window <= at) ||
                        (a->hide_last != NULL && t + 1 == a->Tq && a->hide_last[j]))
                        continue;
                    for (size_t d = 0; d < a->head_dim; d++)
                        score += (double)q[d] * (double)k[d];
                    score *= scale;
                    if (a->soft_cap > 0)
                        score = (double)a->soft_cap * tanh(score / (double)a->soft_cap);
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

void attention_cached(const struct attention *a, float *out, float *scores)
{
    struct span keys = visible_keys(a, a->Tk - 1);
    size_t n = keys.end - keys.first, group = a->n_heads / n_kv_heads(a);
    float scale = scale_of(a);

    for (size_t h = 0; h < a->n_heads; h++) {
        size_t kv = keys.first * a->kv_stride + h / group * a->head_dim;
        const float *q = a->q + h * a->head_dim;
        float *to = out + h * a->head_dim;

        for (size_t j = 0; j < n; j++)
            scores[j] = dot(q, a->k + kv + j * a->kv_stride, a->head_dim);
        if (a->soft_cap > 0)
            ops_soft_cap(scores, n, scale, a->soft_cap);
        ops_softmax(scores, n, a->soft_cap > 0 ? 1 : scale);
        memset(to, 0, a->head_dim * sizeof *to);
        for (size_t j = 0; j < n; j++)
            add_scaled(to, a->v + kv + j * a->kv_stride, scores[j], a->head_dim);
    }
}
