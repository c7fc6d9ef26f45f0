#include "reinforce/models/clip.h"

#include "reinforce/nn/attention.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Tokens of several texts that go through the tower together: each pass reads all weights, and more
 * tokens no longer pay for that once their rows leave the cache. */
enum { PASS_TOKENS = 80 };

static const float apple_largest_scale = 100; /* ml-mobileclip's own limit */

static enum status load_image_head(struct weights *weights, enum naming naming,
                                   const struct vision_config *config, struct clip *clip,
                                   struct error *err)
{
    static const char *const norms[] = {[NAMING_OPEN_CLIP] = "visual.ln_post.",
                                        [NAMING_TRANSFORMERS] = "vision_model.post_layernorm.",
                                        [NAMING_TIMM] = "visual.trunk.norm."};
    size_t D = clip->vit.width;
    enum status st = ST_OK;

    if (config->form == VIT_CLIP)
        st = layer_norm_load(weights, norms[naming], D, &clip->ln_post, err);
    if (st != ST_OK)
        return st;
    if (naming == NAMING_OPEN_CLIP) /* stored [in, out] */
        return weights_get_transposed(weights, "visual.", "proj", D, clip->dim,
                                      &clip->image_projection, err);
    if (naming == NAMING_APPLE)
        return weights_get_transposed(weights, "image_encoder.model.", "classifier.proj", D,
                                      clip->dim, &clip->image_projection, err);
    if (naming == NAMING_TRANSFORMERS)
        return weights_get(weights, "", "visual_projection.weight", WEIGHTS_SHAPE(clip->dim, D),
                           &clip->image_projection, err);
    st = weights_get(weights, "visual.trunk.", "head.weight", WEIGHTS_SHAPE(clip->dim, D),
                     &clip->image_projection, err);
    return st == ST_OK ? weights_get(weights, "visual.trunk.", "head.bias",
                                     WEIGHTS_SHAPE(clip->dim), &clip->image_bias, err)
                       : st;
}

static enum status load_image_tower(struct weights *weights, enum naming naming,
                                    const struct vision_config *config, struct clip *clip,
                                    struct error *err)
{
    enum status st;

    clip->is_fastvit = config->fastvit != NULL;
    if (clip->is_fastvit)
        return fastvit_load(weights, naming, config->fastvit, (size_t)config->image_size, clip->dim,
                            config->matrices, &clip->fastvit, err);
    st = vit_load(weights, "", naming, config, &clip->vit, err);
    return st == ST_OK ? load_image_head(weights, naming, config, clip, err) : st;
}

static enum status load(struct clip *clip, const struct snapshot *snapshot, struct error *err)
{
    struct weights *weights = clip->weights;
    enum naming naming = snapshot->naming, image_naming;
    const float *logit_scale;
    enum status st = gemm_init(err);

    if (weights_peek(weights, "visual.conv1.weight") != NULL)
        naming = NAMING_OPEN_CLIP;
    else if (weights_peek(weights, "vision_model.embeddings.patch_embedding.weight") != NULL)
        naming = NAMING_TRANSFORMERS;
    image_naming = snapshot->family == SNAPSHOT_MOBILECLIP && naming == NAMING_OPEN_CLIP
                       ? NAMING_TIMM
                       : naming;
    if (st == ST_OK)
        st = load_image_tower(weights, image_naming, &snapshot->vision, clip, err);
    if (st == ST_OK)
        st = text_tower_load(
            weights, naming, naming == NAMING_TRANSFORMERS ? "" : text_tower_prefix(weights),
            &snapshot->text, snapshot->text.context_length, clip->dim, &clip->text, err);
    if (st == ST_OK)
        st = weights_get(weights, "", "logit_scale", WEIGHTS_SCALAR, &logit_scale, err);
    if (st == ST_OK)
        clip->logit_scale = (float)exp((double)*logit_scale);
    if (st == ST_OK && naming == NAMING_APPLE)
        clip->logit_scale = MIN(clip->logit_scale, apple_largest_scale);
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
    clip->bidirectional = snapshot->text.bidirectional;
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
    fastvit_release(&(*clip)->fastvit);
    text_tower_release(&(*clip)->text);
    weights_destroy(&(*clip)->weights);
    free(*clip);
    *clip = NULL;
}

size_t clip_images_at_once(const struct clip *clip)
{
    return clip->is_fastvit ? FASTVIT_IMAGES_AT_ONCE
                            : transformer_samples_at_once(clip->vit.n_tokens);
}

enum status clip_encode_images(const struct clip *clip, const float *pixels, size_t n,
                               struct arena *scratch, float *out, struct error *err)
{
    size_t D = clip->vit.width;
    struct arena mark = *scratch;
    float *tokens;
    enum status st;

    if (clip->is_fastvit)
        return fastvit_run(&clip->fastvit, pixels, n, scratch, out, err);
    st = arena_alloc(scratch, n * clip->vit.n_tokens * D * sizeof *tokens, &tokens, err);
    if (st == ST_OK)
        st = vit_run(&clip->vit, pixels, n, true, scratch, tokens, err);
    if (st == ST_OK && clip->ln_post.w != NULL) /* only class tokens go on */
        ops_layer_norm(tokens, tokens, clip->ln_post.w, clip->ln_post.b, clip->vit.blocks.eps, n,
                       D);
    if (st == ST_OK)
        ops_linear_rows(out, tokens, clip->image_projection, clip->image_bias, n, clip->dim, D);
    arena_rewind(scratch, &mark);
    return st;
}

/* Tokens up to and with the end, which is what has to run. */
static enum status text_length(const struct clip *clip, const int32_t *ids, size_t n,
                               size_t *length, struct error *err)
{
    size_t end = 0;

    if (clip->eos_id != SNAPSHOT_EOS_LARGEST) {
        while (end < n && ids[end] != clip->eos_id)
            end++;
    } else {
        for (size_t i = 1; i < n; i++)
            if (ids[i] > ids[end])
                end = i;
    }
    if (end >= n)
        return error_set(err, ST_INVALID, "a row of %zu token ids holds no end of text", n);
    if (n > clip->context_length)
        return error_set(err, ST_INVALID, "%zu tokens are more than the model's context of %zu", n,
                         clip->context_length);
    *length = end + 1;
    return ST_OK;
}

/* `n` texts of `T` tokens in all, through the tower together. */
static enum status encode_pass(const struct clip *clip, const int32_t *const *ids,
                               const size_t *length, size_t n, size_t T, struct arena *scratch,
                               float *out, struct error *err)
{
    size_t D = clip->text.width, first = 0;
    struct arena mark = *scratch;
    float *x;
    enum status st = arena_alloc(scratch, T * D * sizeof *x, &x, err);

    for (size_t i = 0; i < n && st == ST_OK; first += length[i], i++)
        st = text_tower_embed(&clip->text, ids[i], length[i], 0, x + first * D, err);
    if (st == ST_OK)
        st = transformer_run_last_rows(&clip->text.blocks, x, length, n, scratch, err);
    if (st == ST_OK) {
        ops_layer_norm(x, x, clip->text.ln_final.w, clip->text.ln_final.b, clip->text.blocks.eps, n,
                       D);
        ops_linear_rows(out, x, clip->text.projection, NULL, n, clip->dim, D);
    }
    arena_rewind(scratch, &mark);
    return st;
}

/* One text with its padding: what follows the end is seen too. */
static enum status encode_whole(const struct clip *clip, const int32_t *ids, size_t n,
                                size_t length, struct arena *scratch, float *out, struct error *err)
{
    size_t D = clip->text.width, T = clip->context_length;
    struct arena mark = *scratch;
    int32_t *row;
    float *x;
    enum status st = arena_calloc(scratch, T, sizeof *row, &row, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, T * D * sizeof *x, &x, err);
    if (st == ST_OK) {
        memcpy(row, ids, n * sizeof *row);
        st = text_tower_embed(&clip->text, row, T, 0, x, err);
    }
    if (st == ST_OK)
        st = text_tower_run_whole(&clip->text, x, T, length - 1, scratch, err);
    if (st == ST_OK) {
        ops_layer_norm(x, x, clip->text.ln_final.w, clip->text.ln_final.b, clip->text.blocks.eps, 1,
                       D);
        ops_linear_rows(out, x, clip->text.projection, NULL, 1, clip->dim, D);
    }
    arena_rewind(scratch, &mark);
    return st;
}

enum status clip_encode_texts(const struct clip *clip, const int32_t *const *ids_b,
                              const size_t *n_b, size_t B, struct arena *scratch, float *out,
                              struct error *err)
{
    size_t length[PASS_TOKENS + 1] = {0}; /* and the one that does not fit */
    enum status st = ST_OK;

    for (size_t b = 0; b < B && st == ST_OK;) {
        size_t n = 0, T = 0;

        while (st == ST_OK && b + n < B) {
            st = text_length(clip, ids_b[b + n], n_b[b + n], &length[n], err);
            if (st != ST_OK || (n > 0 && T + length[n] > PASS_TOKENS))
                break;
            T += length[n++];
            if (clip->bidirectional)
                break;
        }
        if (st == ST_OK && clip->bidirectional)
            st = encode_whole(clip, ids_b[b], n_b[b], length[0], scratch, out + b * clip->dim, err);
        else if (st == ST_OK)
            st = encode_pass(clip, ids_b + b, length, n, T, scratch, out + b * clip->dim, err);
        b += n;
    }
    return st;
}

size_t clip_scratch_bytes(const struct clip *clip)
{
    const struct vit *vit = &clip->vit;
    size_t n = clip_images_at_once(clip), rows = n * vit->n_tokens;
    size_t stem = vit->stem.first.w != NULL ? 5 * vit->image_size * vit->image_size * 3 : 0;
    size_t patches = rows * (3 * vit->patch_size * vit->patch_size + vit->width);
    size_t image = clip->is_fastvit
                       ? fastvit_scratch_floats(&clip->fastvit)
                       : stem + patches + transformer_scratch_floats(&vit->blocks, rows);
    size_t n_text = MAX(clip->context_length, (size_t)PASS_TOKENS);
    size_t text =
        n_text * clip->text.width + transformer_scratch_floats(&clip->text.blocks, n_text);

    /* an arena's chunk may stay unused up to the size of the allocation that did not fit */
    return 2 * MAX(image, text) * sizeof(float) + (128 << 10);
}
