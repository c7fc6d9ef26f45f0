#include "reinforce/teach/teacher_siglip.h"

#include "reinforce/models/siglip.h"
#include "reinforce/nn/ops.h"
#include "reinforce/teach/siglip_text.h"

#include <stdio.h>
#include <stdlib.h>

struct siglip_teacher {
    struct teacher base;
    struct siglip *siglip;
    struct siglip_text text;
};

static void siglip_close(struct teacher *teacher)
{
    struct siglip_teacher *own = CONTAINER_OF(teacher, struct siglip_teacher, base);

    siglip_text_close(&own->text);
    siglip_destroy(&own->siglip);
    free(own);
}

static void describe(struct siglip_teacher *own, const struct snapshot *snapshot)
{
    struct teacher_info *info = &own->base.info;

    (void)snprintf(info->family, sizeof info->family, "%s", snapshot_family_name(snapshot->family));
    info->dim = own->siglip->dim;
    info->context_length = (int)own->siglip->context_length;
    info->preprocess = snapshot->preprocess;
    info->logit_scale = own->siglip->logit_scale;
    info->has_logit_bias = true;
    info->logit_bias = own->siglip->logit_bias;
}

static enum status siglip_open(const struct teacher_options *options, struct teacher **out,
                               struct error *err)
{
    struct siglip_teacher *own = calloc(1, sizeof *own);
    struct weights *weights = NULL;
    struct snapshot snapshot;
    enum status st;

    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a teacher");
    own->base.ops = &teacher_siglip;
    st = snapshot_read(options->model_dir, options->activation, &snapshot, err);
    snapshot.vision.matrices = snapshot.text.matrices = options->matrices;
    if (st == ST_OK)
        st = snapshot_open_weights(&snapshot, &weights, own->base.info.weights_digest, err);
    if (st == ST_OK)
        st = siglip_create(&snapshot, &weights, &own->siglip, err);
    if (st == ST_OK)
        st = siglip_text_open(&snapshot, options->clean, options->special_tokens_in_text,
                              &own->text, err);
    if (st != ST_OK) {
        siglip_close(&own->base);
        return st;
    }
    describe(own, &snapshot);
    own->base.info.weights_type = tensor_dtype_name(matrix_form_dtype(options->matrices));
    *out = &own->base;
    return ST_OK;
}

/* The first of n views and those behind it that are as large. */
static size_t of_one_size(const struct image *views, size_t n)
{
    size_t same = 1;

    while (same < n && views[same].height == views[0].height && views[same].width == views[0].width)
        same++;
    return same;
}

static enum status siglip_embed_images(const struct teacher *teacher, const struct image *view_b,
                                       size_t B, struct arena *scratch, float *emb,
                                       struct error *err)
{
    const struct siglip_teacher *own = (const void *)teacher;
    const struct preprocess *pre = &teacher->info.preprocess;
    size_t dim = own->siglip->dim;
    struct arena mark = *scratch;
    enum status st = ST_OK;

    for (size_t b = 0, together; b < B && st == ST_OK; b += together) {
        size_t height = (size_t)view_b[b].height, width = (size_t)view_b[b].width;
        size_t n = 3 * height * width, most = siglip_images_at_once(own->siglip, height, width);
        float *pixels;

        together = of_one_size(view_b + b, MIN(most, B - b));
        st = arena_alloc(scratch, together * n * sizeof *pixels, &pixels, err);
        for (size_t i = 0; i < together && st == ST_OK; i++)
            preprocess_tensor(&view_b[b + i], pre->mean, pre->std, pixels + i * n);
        if (st == ST_OK)
            st = siglip_encode_images(own->siglip, pixels, together, height, width, scratch,
                                      emb + b * dim, err);
        arena_rewind(scratch, &mark);
    }
    for (size_t b = 0; b < B && st == ST_OK; b++)
        (void)ops_l2_normalize(emb + b * dim, dim);
    return st;
}

static enum status siglip_embed_texts(const struct teacher *teacher,
                                      const struct bytes_view *text_b, size_t B,
                                      struct arena *scratch, float *emb, struct error *err)
{
    const struct siglip_teacher *own = (const void *)teacher;
    size_t dim = own->siglip->dim;
    struct arena mark = *scratch;
    const int32_t **ids_b;
    enum status st = arena_calloc(scratch, B, sizeof *ids_b, &ids_b, err);

    for (size_t b = 0; b < B && st == ST_OK; b++) {
        int32_t *row = NULL;

        st = siglip_text_row(&own->text, text_b[b], scratch, &row, err);
        ids_b[b] = row;
    }
    if (st == ST_OK)
        st = siglip_encode_texts(own->siglip, ids_b, B, scratch, emb, err);
    for (size_t b = 0; b < B && st == ST_OK; b++)
        (void)ops_l2_normalize(emb + b * dim, dim);
    arena_rewind(scratch, &mark);
    return st;
}

const struct teacher_ops teacher_siglip = {
    .kind = "siglip",
    .open = siglip_open,
    .embed_images = siglip_embed_images,
    .embed_texts = siglip_embed_texts,
    .close = siglip_close,
};
