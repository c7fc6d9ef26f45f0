#include "reinforce/teach/teacher_clip.h"

#include "reinforce/models/clip.h"
#include "reinforce/nn/ops.h"
#include "reinforce/teach/clip_text.h"

#include <stdio.h>
#include <stdlib.h>

struct clip_teacher {
    struct teacher base;
    struct clip *clip;
    struct clip_text text;
};

static void clip_close(struct teacher *teacher)
{
    struct clip_teacher *own = CONTAINER_OF(teacher, struct clip_teacher, base);

    clip_text_close(&own->text);
    clip_destroy(&own->clip);
    free(own);
}

static enum status clip_open(const struct teacher_options *options, struct teacher **out,
                             struct error *err)
{
    struct clip_teacher *own = calloc(1, sizeof *own);
    struct weights *weights = NULL;
    struct snapshot snapshot;
    enum status st;

    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a teacher");
    own->base.ops = &teacher_clip;
    st = snapshot_read(options->model_dir, options->activation, &snapshot, err);
    snapshot.vision.matrices = snapshot.text.matrices = options->matrices;
    if (st == ST_OK)
        st = snapshot_open_weights(&snapshot, &weights, own->base.info.weights_digest, err);
    if (st == ST_OK)
        st = clip_create(&snapshot, &weights, &own->clip, err);
    if (st == ST_OK)
        st = clip_text_open(&snapshot, options->clean, options->special_tokens_in_text,
                            own->clip->context_length, &own->text, err);
    if (st != ST_OK) {
        clip_close(&own->base);
        return st;
    }
    (void)snprintf(own->base.info.family, sizeof own->base.info.family, "%s",
                   snapshot_family_name(snapshot.family));
    own->base.info.dim = own->clip->dim;
    own->base.info.context_length = (int)own->clip->context_length;
    own->base.info.preprocess = snapshot.preprocess;
    own->base.info.logit_scale = own->clip->logit_scale;
    own->base.info.weights_type = tensor_dtype_name(matrix_form_dtype(options->matrices));
    *out = &own->base;
    return ST_OK;
}

static enum status clip_embed_images(const struct teacher *teacher, const struct image *view_b,
                                     size_t B, struct arena *scratch, float *emb, struct error *err)
{
    const struct clip_teacher *own = (const void *)teacher;
    const struct preprocess *pre = &teacher->info.preprocess;
    size_t n = 3 * (size_t)pre->size * (size_t)pre->size, dim = own->clip->dim;
    size_t at_once = MIN(clip_images_at_once(own->clip), B);
    struct arena mark = *scratch;
    float *pixels;
    enum status st = arena_alloc(scratch, at_once * n * sizeof *pixels, &pixels, err);

    for (size_t b = 0; b < B && st == ST_OK; b += at_once) {
        size_t together = MIN(at_once, B - b);

        for (size_t i = 0; i < together; i++)
            preprocess_tensor(&view_b[b + i], pre->mean, pre->std, pixels + i * n);
        st = clip_encode_images(own->clip, pixels, together, scratch, emb + b * dim, err);
    }
    for (size_t b = 0; b < B && st == ST_OK; b++)
        (void)ops_l2_normalize(emb + b * dim, dim);
    arena_rewind(scratch, &mark);
    return st;
}

static enum status clip_embed_texts(const struct teacher *teacher, const struct bytes_view *text_b,
                                    size_t B, struct arena *scratch, float *emb, struct error *err)
{
    const struct clip_teacher *own = (const void *)teacher;
    struct arena mark = *scratch;
    const int32_t **ids_b;
    size_t *n_b;
    enum status st = arena_calloc(scratch, B, sizeof *ids_b, &ids_b, err);

    if (st == ST_OK)
        st = arena_calloc(scratch, B, sizeof *n_b, &n_b, err);
    for (size_t b = 0; b < B && st == ST_OK; b++) {
        int32_t *ids = NULL;

        st = clip_text_row(&own->text, text_b[b], scratch, &ids, &n_b[b], err);
        ids_b[b] = ids;
    }
    if (st == ST_OK)
        st = clip_encode_texts(own->clip, ids_b, n_b, B, scratch, emb, err);
    for (size_t b = 0; b < B && st == ST_OK; b++)
        (void)ops_l2_normalize(emb + b * own->clip->dim, own->clip->dim);
    arena_rewind(scratch, &mark);
    return st;
}

const struct teacher_ops teacher_clip = {
    .kind = "clip",
    .open = clip_open,
    .embed_images = clip_embed_images,
    .embed_texts = clip_embed_texts,
    .close = clip_close,
};
