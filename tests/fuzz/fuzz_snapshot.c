/* Bytes as a model config in both dialects: what is accepted must have sizes a loader can multiply.
 */
#include "reinforce/models/snapshot_config.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_shape(const struct transformer_shape *shape)
{
    assert(shape->n_heads > 0 && shape->width % shape->n_heads == 0);
    assert(shape->n_layers > 0 && shape->mlp_width > 0);
    assert(shape->eps > 0 && shape->eps < 1);
    assert(shape->activation >= ACTIVATION_GELU && shape->activation <= ACTIVATION_GELU_TANH);
}

static void check_decoder(const struct gemma_config *c)
{
    struct error err = {0};

    assert(gemma_config_check(c, &err) == ST_OK);
    assert(c->n_layers > 0 && c->width > 0 && c->mlp_width > 0 && c->vocab_size > 0);
    assert(c->end_id >= 0 && (size_t)c->end_id < c->vocab_size && c->other_end_id >= -1);
    assert(isfinite(c->query_scale) && isfinite(c->attention_cap) && isfinite(c->final_cap));
}

static void check(const struct snapshot *s)
{
    if (s->vision.fastvit == NULL)
        check_shape(&s->vision.shape);
    if (s->family == SNAPSHOT_PALIGEMMA)
        check_decoder(&s->decoder);
    else
        check_shape(&s->text.shape);
    if (s->family == SNAPSHOT_COCA)
        check_shape(&s->multimodal.shape);
    assert(s->embed_dim > 0 && s->text.context_length > 0 && s->text.vocab_size > 0);
    assert(s->vision.image_size > 0 && s->vision.image_size <= 8192);
    assert(s->vision.fastvit != NULL || s->vision.patch_size > 0);
    if (s->preprocess.mode == PREPROCESS_NAFLEX)
        assert(s->preprocess.patch == s->vision.patch_size && s->preprocess.max_patches > 0 &&
               s->preprocess.size > 0 && s->preprocess.size <= 8192 &&
               s->vision.image_size % s->vision.patch_size == 0);
    else
        assert(s->preprocess.size == s->vision.image_size);
    for (int c = 0; c < 3; c++)
        assert(isfinite(s->preprocess.mean[c]) && s->preprocess.std[c] != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *json = NULL;
    struct snapshot *s = calloc(1, sizeof *s);
    struct error err = {0};

    if (s != NULL && size <= 64 * 1024 &&
        json_parse(bytes_view_of(data, size), &json, &err) == ST_OK && json_is_object(json)) {
        if (snapshot_config_open_clip(json, s, &err) == ST_OK)
            check(s);
        memset(s, 0, sizeof *s);
        if (snapshot_config_transformers(json, json_object_get(json, "processor"), s, &err) ==
            ST_OK)
            check(s);
    }
    json_decref(json);
    free(s);
    return 0;
}
