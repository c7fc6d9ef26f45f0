#include "reinforce/models/siglip.h"

#include "reinforce/nn/attention.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum status load_scale(struct weights *weights, struct siglip *siglip, struct error *err)
{
    const float *scale, *bias;
    enum status st = weights_get(weights, "", "logit_scale", WEIGHTS_SCALAR, &scale, err);

    if (st == ST_OK)
        st = weights_get(weights, "", "logit_bias", WEIGHTS_SCALAR, &bias, err);
    if (st != ST_OK)
        return st;
    siglip->logit_scale = (float)exp((double)*scale);
    siglip->logit_bias = *bias;
    return ST_OK;
}

static enum status load(struct siglip *siglip, const struct snapshot *snapshot, struct error *err)
{
    struct weights *weights = siglip->weights;
    bool timm = weights_peek(weights, "visual.trunk.pos_embed") != NULL;
    enum naming image = timm ? NAMING_TIMM : NAMING_TRANSFORMERS;
    enum naming text = timm ? NAMING_OPEN_CLIP : NAMING_TRANSFORMERS;
    enum status st = gemm_init(err);

    if (st == ST_OK)
        st = vit_load(weights, "", image, &snapshot->vision, &siglip->vit, err);
    if (st == ST_OK)
        st = map_pool_load(weights, timm ? "visual.trunk.attn_pool." : "vision_model.head.", image,
                           &snapshot->vision.shape, &siglip->pool, err);
    if (st == ST_OK)
        st = text_tower_load(weights, text, timm ? text_tower_prefix(weights) : "", &snapshot->text,
                             snapshot->text.context_length, siglip->dim, &siglip->text, err);
    if (st == ST_OK)
        st = load_scale(weights, siglip, err);
    return st == ST_OK ? weights_check_all_used(weights, err) : st;
}

enum status siglip_create(const struct snapshot *snapshot, struct weights **weights,
                          struct siglip **out, struct error *err)
{
    struct siglip *siglip = calloc(1, sizeof *siglip);
    enum status st;

    *out = NULL;
    if (siglip == NULL) {
        weights_destroy(weights);
        return error_set(err, ST_NO_MEMORY, "could not allocate a model");
    }
    siglip->weights = *weights;
    *weights = NULL;
    siglip->dim = snapshot->embed_dim;
    siglip->context_length = snapshot->text.context_length;
    siglip->naflex_patches = snapshot->vision.naflex_patches;
    st = load(siglip, snapshot, err);
    if (st != ST_OK) {
        error_add_context(err, "model \"%s\"", snapshot->dir);
        siglip_destroy(&siglip);
    }
    *out = siglip;
    return st;
}

void siglip_destroy(struct siglip **siglip)
{
    if (*siglip == NULL)
        return;
    vit_release(&(*siglip)->vit);
    map_pool_release(&(*siglip)->pool);
    text_tower_release(&(*siglip)->text);
    weights_destroy(&(*siglip)->weights);
    free(*siglip);
    *siglip = NULL;
}

/* Row i of [n, grid]: how much of each stored cell is in cell i of n. Samples outside the grid are
 * left out and the rest weighs more. */
static void triangle_weights(size_t i, size_t n, size_t grid, float *row)
{
    double step = (double)grid / (double)n, reach = MAX(step, 1.0), sum = 0;
    double centre = ((double)i + 0.5) * step;

    for (size_t j = 0; j < grid; j++)
        sum += MAX(0.0, 1 - fabs(centre - ((double)j + 0.5)) / reach);
    for (size_t j = 0; j < grid; j++)
        row[j] = (float)(MAX(0.0, 1 - fabs(centre - ((double)j + 0.5)) / reach) / sum);
}

/* out[d] = sum_j weight[j] cell_j[d], cells `stride` apart. */
static void mix_cells(const float *weight, const float *cells, size_t n, size_t stride, size_t D,
                      float *out)
{
    memset(out, 0, D * sizeof *out);
    for (size_t j = 0; j < n; j++) {
        const float *cell = cells + j * stride;

        for (size_t d = 0; d < D && weight[j] != 0; d++)
            out[d] += weight[j] * cell[d];
    }
}

enum status siglip_resample_positions(const float *table, size_t grid, size_t rows, size_t columns,
                                      size_t D, struct arena *scratch, float *out,
                                      struct error *err)
{
    struct arena mark = *scratch;
    float *weight, *band;
    enum status st = arena_alloc(scratch, grid * sizeof *weight, &weight, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, rows * grid * D * sizeof *band, &band, err);
    for (size_t r = 0; r < rows && st == ST_OK; r++) {
        triangle_weights(r, rows, grid, weight);
        mix_cells(weight, table, grid, grid * D, grid * D, band + r * grid * D);
    }
    for (size_t c = 0; c < columns && st == ST_OK; c++) {
        triangle_weights(c, columns, grid, weight);
        for (size_t r = 0; r < rows; r++)
            mix_cells(weight, band + r * grid * D, grid, D, D, out + (r * columns + c) * D);
    }
    arena_rewind(scratch, &mark);
    return st;
}

/* Patch after patch, each in the linear embedding's order: row, column, channel. */
static void cut_patches(const float *pixels, size_t rows, size_t columns, size_t p, float *patches)
{
    size_t W = columns * p, plane = rows * p * W;

    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            for (size_t y = 0; y < p; y++)
                for (size_t x = 0; x < p; x++)
                    for (size_t ch = 0; ch < 3; ch++)
                        *patches++ = pixels[ch * plane + (r * p + y) * W + c * p + x];
}

/* The images' own tokens and nothing else: what padding and masks come to. */
static enum status run_naflex(const struct siglip *siglip, const float *pixels, size_t n,
                              size_t rows, size_t columns, struct arena *scratch, float *tokens,
                              struct error *err)
{
    const struct vit *vit = &siglip->vit;
    size_t P = rows * columns, K = 3 * vit->patch_size * vit->patch_size;
    float *patches, *position;
    enum status st = arena_alloc(scratch, n * P * K * sizeof *patches, &patches, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, P * vit->width * sizeof *position, &position, err);
    if (st == ST_OK)
        st = siglip_resample_positions(vit->position, vit->grid, rows, columns, vit->width, scratch,
                                       position, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        cut_patches(pixels + i * P * K, rows, columns, vit->patch_size, patches + i * P * K);
    return vit_run_patches(vit, patches, n, P, position, false, scratch, tokens, err);
}

static enum status check_size(const struct siglip *siglip, size_t height, size_t width,
                              struct error *err)
{
    size_t p = siglip->vit.patch_size, S = siglip->vit.image_size;

    if (siglip->naflex_patches == 0) {
        if (height == S && width == S)
            return ST_OK;
        return error_set(err, ST_INVALID, "an image is %zux%zu pixels, the model reads %zux%zu",
                         height, width, S, S);
    }
    if (height % p == 0 && width % p == 0 && height > 0 && width > 0 &&
        (height / p) * (width / p) <= siglip->naflex_patches)
        return ST_OK;
    return error_set(err, ST_INVALID,
                     "an image is %zux%zu pixels, the model reads at most %zu patches of %zu",
                     height, width, siglip->naflex_patches, p);
}

size_t siglip_images_at_once(const struct siglip *siglip, size_t height, size_t width)
{
    return transformer_samples_at_once(height / siglip->vit.patch_size *
                                       (width / siglip->vit.patch_size));
}

enum status siglip_encode_images(const struct siglip *siglip, const float *pixels, size_t n,
                                 size_t height, size_t width, struct arena *scratch, float *out,
                                 struct error *err)
{
    const struct vit *vit = &siglip->vit;
    size_t rows = height / vit->patch_size, columns = width / vit->patch_size, P = rows * columns;
    struct arena mark = *scratch;
    float *tokens;
    enum status st = check_size(siglip, height, width, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, n * P * vit->width * sizeof *tokens, &tokens, err);
    if (st == ST_OK)
        st = siglip->naflex_patches > 0
                 ? run_naflex(siglip, pixels, n, rows, columns, scratch, tokens, err)
                 : vit_run(vit, pixels, n, false, scratch, tokens, err);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = map_pool_run(&siglip->pool, tokens + i * P * vit->width, P, scratch,
                          out + i * siglip->dim, err);
    arena_rewind(scratch, &mark);
    return st;
}

/* Texts that are worth running together. */
static size_t texts_at_once(const struct siglip *siglip)
{
    return transformer_samples_at_once(siglip->context_length);
}

static enum status encode_pass(const struct siglip *siglip, const int32_t *const *ids, size_t n,
                               struct arena *scratch, float *out, struct error *err)
{
    const struct text_tower *text = &siglip->text;
    size_t T = siglip->context_length, D = text->width;
    struct arena mark = *scratch;
    float *x;
    enum status st = arena_alloc(scratch, n * T * D * sizeof *x, &x, err);

    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = text_tower_embed(text, ids[i], T, 0, x + i * T * D, err);
    if (st == ST_OK) /* no mask, neither causal nor of pads */
        st = transformer_run_pooled(&text->blocks, x, n, T, T - 1, scratch, err);
    if (st == ST_OK) {
        ops_layer_norm(x, x, text->ln_final.w, text->ln_final.b, text->blocks.eps, n, D);
        if (text->projection != NULL)
            ops_linear_rows(out, x, text->projection, text->projection_bias, n, siglip->dim, D);
        else
            memcpy(out, x, n * D * sizeof *out);
    }
    arena_rewind(scratch, &mark);
    return st;
}

enum status siglip_encode_texts(const struct siglip *siglip, const int32_t *const *ids_b, size_t B,
                                struct arena *scratch, float *out, struct error *err)
{
    size_t at_once = texts_at_once(siglip);
    enum status st = ST_OK;

    for (size_t b = 0; b < B && st == ST_OK; b += at_once)
        st = encode_pass(siglip, ids_b + b, MIN(at_once, B - b), scratch, out + b * siglip->dim,
                         err);
    return st;
}

size_t siglip_scratch_bytes(const struct siglip *siglip)
{
    const struct vit *vit = &siglip->vit;
    size_t T = MAX(siglip->naflex_patches, vit->n_tokens), D = vit->width;
    size_t naflex = siglip->naflex_patches > 0 ? T * D + T * vit->grid * D : 0;
    size_t rows =
        MAX(T, transformer_samples_at_once(1)); /* whole images, of any number of patches */
    size_t patches = rows * 3 * vit->patch_size * vit->patch_size;
    size_t image = rows * D + naflex + patches + transformer_scratch_floats(&vit->blocks, rows);
    size_t n_text = texts_at_once(siglip) * siglip->context_length;
    size_t text =
        n_text * siglip->text.width + transformer_scratch_floats(&siglip->text.blocks, n_text);

    /* an arena's chunk may stay unused up to the size of the allocation that did not fit */
    return 2 * MAX(image, text) * sizeof(float) + (128 << 10);
}

double siglip_probability(double logit)
{
    double e = exp(-fabs(logit)); /* never overflows */

    return logit >= 0 ? 1 / (1 + e) : e / (1 + e);
}
