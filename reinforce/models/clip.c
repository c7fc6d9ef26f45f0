#include "reinforce/models/clip.h"

#include "reinforce/nn/attention.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum status load_image_head(struct weights *weights, enum naming naming, struct clip *clip,
                                   struct error *err)
{
    size_t D = clip->vit.width;
    enum status st = layer_norm_load(
        weights, naming == NAMING_OPEN_CLIP ? "visual.ln_post." : "vision_model.post_layernorm.", D,
        &clip->ln_post, err);

    if (st != ST_OK)
        return st;
    if (naming == NAMING_OPEN_CLIP) /* stored [in, out] */
        return weights_get_transposed(weights, "visual.", "proj", D, clip->dim,
                                      &clip->image_projection, err);
    return weights_get(weights, "", "visual_projection.weight", WEIGHTS_SHAPE(clip->dim, D),
                       &clip->image_projection, err);
}

static enum status load(struct clip *clip, const struct snapshot *snapshot, struct error *err)
{
    struct weights *weights = clip->weights;
    enum naming naming = snapshot->naming;
    const float *logit_scale;
    enum status st = gemm_init(err);

    if (weights_peek(weights, "visual.conv1.weight") != NULL)
        naming = NAMING_OPEN_CLIP;
    else if (weights_peek(weights, "vision_model.embeddings.patch_embedding.weight") != NULL)
        naming = NAMING_TRANSFORMERS;
    if (st == ST_OK)
        st = vit_load(weights, naming, &snapshot->vision, &clip->vit, err);
    if (st == ST_OK)
        st = load_image_head(weights, naming, clip, err);
    if (st == ST_OK)
        st = text_tower_load(
            weights, naming, naming == NAMING_OPEN_CLIP ? text_tower_prefix(weights) : "",
            &snapshot->text, snapshot->text.context_length, clip->dim, &clip->text, err);
    if (st == ST_OK)
        st = weights_get(weights, "", "logit_scale", WEIGHTS_SCALAR, &logit_scale, err);
    if (st == ST_OK)
        clip->logit_scale = (float)exp((double)*logit_scale);
    return st == ST_OK ? weights_check_all_used(weights, err) : st;
}

enum status clip_create(const struct snapshot *snapshot, struct weights **weights,
                        struct clip **out, struct error *err)
{
    struct clip *clip = calloc(1, sizeof *clip);
    enum status st;

    *out = NULL;
    if (clip == NULL) {
        weights_destroy(weights);
        return error_set(err, ST_NO_MEMORY, "could not allocate a model");
    }
    clip->weights = *weights;
    *weights = NULL;
    clip->dim = snapshot->embed_dim;
    clip->context_length = snapshot->text.context_length;
    clip->eos_id = snapshot->text.eos_id;
    st = load(clip, snapshot, err);
    if (st != ST_OK) {
        error_add_context(err, "model \"%s\"", snapshot->dir);
        clip_destroy(&clip);
    }
    *out = clip;
    return st;
}

void clip_destroy(struct clip **clip)
{
    if (*clip == NULL)
        return;
    vit_release(&(*clip)->vit);
    text_tower_release(&(*clip)->text);
    weights_destroy(&(*clip)->weights);
    free(*clip);
    *clip = NULL;
}

enum status clip_encode_image(const struct clip *clip, const float *pixels, struct arena *scratch,
                              float *out, struct error *err)
{
    size_t D = clip->vit.width;
    struct arena mark = *scratch;
    float *tokens;
    enum status st = arena_alloc(scratch, clip->vit.n_tokens * D * sizeof *tokens, &tokens, err);

    if (st == ST_OK)
        st = vit_run(&clip->vit, pixels, true, scratch, tokens, err);
    if (st == ST_OK) { /* only the class token goes on: the norm is row by row */
        ops_layer_norm(tokens, tokens, clip->ln_post.w, clip->ln_post.b, clip->vit.blocks.eps, 1,
                       D);
        ops_linear_rows(out, tokens, clip->image_projection, NULL, 1, clip->dim, D);
    }
    arena_rewind(scratch, &mark);
    return st;
}

/* First position of the end, or n. */
static size_t find_end(const struct clip *clip, const int32_t *ids, size_t n)
{
    size_t end = 0;

    if (clip->eos_id != SNAPSHOT_EOS_LARGEST) {
        while (end < n && ids[end] != clip->eos_id)
            end++;
        return end;
    }
    for (size_t i = 1; i < n; i++)
        if (ids[i] > ids[end])
            end = i;
    return end;
}

enum status clip_encode_text(const struct clip *clip, const int32_t *ids, size_t n,
                             struct arena *scratch, float *out, struct error *err)
{
    size_t D = clip->text.width, end = find_end(clip, ids, n), T = end + 1;
    struct arena mark = *scratch;
    float *x, *last;
    enum status st;

    if (n == 0 || end == n)
        return error_set(err, ST_INVALID, "a row of %zu token ids holds no end of text", n);
    if (n > clip->context_length)
        return error_set(err, ST_INVALID, "%zu tokens are more than the model's context of %zu", n,
                         clip->context_length);
    st = arena_alloc(scratch, T * D * sizeof *x, &x, err);
    if (st == ST_OK)
        st = text_tower_embed(&clip->text, ids, T, 0, x, err);
    if (st == ST_OK)
        st = transformer_run_pooled(&clip->text.blocks, x, T, true, end, scratch, err);
    if (st == ST_OK) {
        last = x + end * D;
        ops_layer_norm(last, last, clip->text.ln_final.w, clip->text.ln_final.b,
                       clip->text.blocks.eps, 1, D);
        ops_linear_rows(out, last, clip->text.projection, NULL, 1, clip->dim, D);
    }
    arena_rewind(scratch, &mark);
    return st;
}

static size_t tower_floats(const struct transformer *t, size_t T)
{
    size_t D = t->width;

    return 3 * T * D + T * MAX(3 * D, t->mlp_width) + MIN(T, (size_t)ATTENTION_TILE) * T;
}

size_t clip_scratch_bytes(const struct clip *clip)
{
    const struct vit *vit = &clip->vit;
    size_t patches = vit->n_tokens * (3 * vit->patch_size * vit->patch_size + vit->width);
    size_t image = MAX(patches, tower_floats(&vit->blocks, vit->n_tokens));
    size_t text = tower_floats(&clip->text.blocks, clip->context_length);

    /* an arena's chunk may stay unused up to the size of the allocation that did not fit */
    return 2 * MAX(image, text) * sizeof(float) + (128 << 10);
}
