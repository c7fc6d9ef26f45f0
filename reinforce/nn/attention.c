#include "reinforce/nn/attention.h"

#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <math.h>

static size_t n_kv_heads(const struct attention *a)
{
    return a->n_kv_heads > 0 ? a->n_kv_heads : a->n_heads;
}

struct attention attention_of_qkv(const float *qkv, size_t T, size_t width, size_t n_heads)
{
    return (struct attention){.q = qkv,
                              .k = qkv + width,
                              .v = qkv + 2 * width,
                              .q_stride = 3 * width,
                              .kv_stride = 3 * width,
                              .Tq = T,
                              .Tk = T,
                              .n_heads = n_heads,
                              .head_dim = width / n_heads};
}

float attention_scale(const struct attention *a)
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
    const float *k = a->k, *v = a->v;
    float scale = attention_scale(a), *scores;
    size_t D = a->n_heads * a->head_dim, group = a->n_heads / n_kv_heads(a);
    size_t n_tiles = (a->Tq + ATTENTION_TILE - 1) / ATTENTION_TILE, tile;
    enum status st = arena_alloc(
        scratch, MIN(a->Tq, (size_t)ATTENTION_TILE) * a->Tk * sizeof *scores, &scores, err);

    if (st != ST_OK)
        return st;
    tile = n_tiles > 0 ? (a->Tq + n_tiles - 1) / n_tiles : 0;
    for (size_t h = 0; h < a->n_heads; h++) {
        size_t kv = h / group * a->head_dim;

        for (size_t first = 0; first < a->Tq; first += tile) { /* each packs all keys and values */
            size_t n = MIN(a->Tq - first, tile);
            /* later ones are hidden from the whole tile */
            size_t keys = visible_keys(a, a->Tk - a->Tq + first + n - 1).end;

            gemm_run(&(struct gemm){.M = n,
                                    .N = keys,
                                    .K = a->head_dim,
                                    .a = a->q + first * a->q_stride + h * a->head_dim,
                                    .lda = a->q_stride,
                                    .b = k + kv,
                                    .ldb = a->kv_stride,
                                    .c = scores,
                                    .ldc = a->Tk});
            for (size_t i = 0; i < n; i++)
                mask_and_normalize(a, first + i, scores + i * a->Tk, scale);
            gemm_run(&(struct gemm){.M = n,
                                    .N = a->head_dim,
                                    .K = keys,
                                    .a = scores,
                                    .lda = a->Tk,
                                    .b = v + kv,
                                    .ldb = a->kv_stride,
                                    .layout = GEMM_COLUMNS,
                                    .c = out + first * D + h * a->head_dim,
                                    .ldc = D});
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
            size_t i = a->Tk - a->Tq + t;
            double max = -INFINITY, sum = 0;

            for (size_t d = 0; d < a->head_dim; d++)
                out[t * D + h * a->head_dim + d] = 0;
            for (int pass = 0; pass < 3; pass++) {
                for (size_t j = 0; j < a->Tk; j++) {
                    size_t at = j * a->kv_stride + h / group * a->head_dim;
                    const float *k = (const float *)a->k + at, *v = (const float *)a->v + at;
                    double score = 0;

                    if ((a->causal && j > i && j >= a->n_prefix) ||
                        (a->window > 0 && j + a->window <= i) ||
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
