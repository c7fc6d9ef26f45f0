/* Random pairs of unit embeddings that mostly match, for tests of curation. */
#ifndef REINFORCE_TESTS_PAIRS_H
#define REINFORCE_TESTS_PAIRS_H

#include "reinforce/curate/selection.h"
#include "reinforce/nn/convert.h"
#include "reinforce/nn/ops.h"
#include "tests/support/floats.h"

/** B pairs under two models of D_L and D_R dimensions, float32, with ids 1..B and sigmoid scales of
 * SigLIP's order; release with pairs_release(). */
struct pairs {
    struct super_batch batch;
    float *rows[2][PAIR_SIDES]; /* learner, reference */
    struct example_id *ids;
};

static inline void pairs_draw(struct pairs *pairs, size_t B, size_t D_L, size_t D_R,
                              uint32_t stream)
{
    const size_t D[2] = {D_L, D_R};
    struct pair_model *models[2] = {&pairs->batch.learner, &pairs->batch.reference};

    *pairs = (struct pairs){.batch = {.B = B}, .ids = calloc(B, sizeof *pairs->ids)};
    assert_non_null(pairs->ids);
    for (size_t i = 0; i < B; i++)
        pairs->ids[i].low = i + 1;
    pairs->batch.ids = pairs->ids;
    for (int m = 0; m < 2; m++) {
        float *image = random_floats(B * D[m], stream + 4 * (uint32_t)m, 2);
        float *text = random_floats(B * D[m], stream + 4 * (uint32_t)m + 1, 2);

        for (size_t e = 0; e < B * D[m]; e++)
            text[e] += image[e];
        for (size_t i = 0; i < B; i++) {
            (void)ops_l2_normalize(image + i * D[m], D[m]);
            (void)ops_l2_normalize(text + i * D[m], D[m]);
        }
        *models[m] = (struct pair_model){
            .rows = {bytes_view_of(image, B * D[m] * sizeof *image),
                     bytes_view_of(text, B * D[m] * sizeof *text)},
            .dtype = TENSOR_F32,
            .D = D[m],
            .scale = m == 0 ? 20 : 30,
            .bias = m == 0 ? -10 : -15,
        };
        pairs->rows[m][PAIR_IMAGE] = image;
        pairs->rows[m][PAIR_TEXT] = text;
    }
}

static inline void pairs_release(struct pairs *pairs)
{
    for (int m = 0; m < 2; m++)
        for (int s = 0; s < PAIR_SIDES; s++)
            free(pairs->rows[m][s]);
    free(pairs->ids);
}

/** Logit of image i with text j in double, from rows as they are. */
static inline double pairs_logit(const struct pair_model *model, size_t i, size_t j)
{
    const float *u = (const float *)(const void *)model->rows[PAIR_IMAGE].data + i * model->D;
    const float *v = (const float *)(const void *)model->rows[PAIR_TEXT].data + j * model->D;
    double uv = 0, uu = 0, vv = 0;

    for (size_t d = 0; d < model->D; d++) {
        uv += (double)u[d] * (double)v[d];
        uu += (double)u[d] * (double)u[d];
        vv += (double)v[d] * (double)v[d];
    }
    return (double)model->scale * uv / sqrt(uu * vv) + (double)model->bias;
}

/** s_ij of the learnability criterion under the sigmoid loss, in double. */
static inline double pairs_score(const struct super_batch *batch, size_t i, size_t j)
{
    double x = pairs_logit(&batch->learner, i, j), y = pairs_logit(&batch->reference, i, j);

    return i == j ? pair_softplus(-x) - pair_softplus(-y) : pair_softplus(x) - pair_softplus(y);
}

#endif
