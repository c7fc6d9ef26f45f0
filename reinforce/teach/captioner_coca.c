#include "reinforce/teach/captioner_coca.h"

#include "reinforce/models/coca_beam.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/teach/clip_text.h"
#include "reinforce/teach/decode_rows.h"

#include <stdlib.h>

struct coca_captioner {
    struct captioner base;
    struct weights *weights;
    struct coca coca;
    struct clip_text text;
};

static void coca_close(struct captioner *captioner)
{
    struct coca_captioner *own = CONTAINER_OF(captioner, struct coca_captioner, base);

    clip_text_close(&own->text);
    coca_release(&own->coca);
    weights_destroy(&own->weights);
    free(own);
}

static enum status coca_open(const struct captioner_options *options, struct captioner **out,
                             struct error *err)
{
    struct coca_captioner *own = calloc(1, sizeof *own);
    struct snapshot snapshot;
    enum status st;

    if (options->kv_type != KV_FLOAT32) {
        free(own);
        return error_set(
            err, ST_INVALID,
            "a kv_cache that is not float32 is for PaliGemma, the model \"%s\" is a coca model",
            options->model_dir);
    }
    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a captioner");
    own->base.ops = &captioner_coca;
    st = gemm_init(err);
    if (st == ST_OK)
        st = snapshot_read(options->model_dir, options->activation, &snapshot, err);
    snapshot.vision.matrices = snapshot.text.matrices = snapshot.multimodal.matrices =
        options->matrices;
    if (st == ST_OK)
        st = snapshot_open_weights(&snapshot, &own->weights, own->base.info.weights_digest, err);
    if (st == ST_OK)
        st = coca_load(&snapshot, own->weights, &own->coca, err);
    if (st == ST_OK)
        st = clip_text_open(&snapshot, TEACHER_CLEAN_AUTO, false, own->coca.context_length,
                            &own->text, err);
    if (st != ST_OK) {
        error_add_context(err, "model \"%s\"", options->model_dir);
        coca_close(&own->base);
        return st;
    }
    memcpy(own->base.info.family, "coca", sizeof "coca");
    own->base.info.context_length = (int)own->coca.context_length;
    own->base.info.weights_type = tensor_dtype_name(matrix_form_dtype(options->matrices));
    own->base.info.preprocess = snapshot.preprocess;
    *out = &own->base;
    return ST_OK;
}

static enum status encode(const struct coca_captioner *own, const struct image *image_b, size_t B,
                          struct arena *memory, struct arena *scratch, struct coca_image *encoded,
                          struct error *err)
{
    const struct preprocess *pre = &own->base.info.preprocess;
    size_t n = 3 * (size_t)pre->size * (size_t)pre->size;
    enum status st = ST_OK;

    for (size_t b = 0; b < B && st == ST_OK; b++) {
        struct arena mark = *scratch;
        struct image crop;
        float *pixels;

        st = preprocess_pixels(pre, &image_b[b], scratch, &crop, err);
        if (st == ST_OK)
            st = arena_alloc(scratch, n * sizeof *pixels, &pixels, err);
        if (st == ST_OK) {
            preprocess_tensor(&crop, pre->mean, pre->std, pixels);
            st = coca_encode_image(&own->coca, pixels, true, memory, scratch, NULL, &encoded[b],
                                   err);
        }
        arena_rewind(scratch, &mark);
    }
    return st;
}

/* One call's decoding; the context of the callbacks. */
struct coca_decoding {
    const struct coca_captioner *own;
    const struct coca_image *encoded; /* [B] */
    struct coca_decoder decoder;
};

/* Text as the model said it: decoded ids, nothing trimmed. */
static enum status say(void *context, const int32_t *ids, int n_ids, struct arena *results,
                       char **text, size_t *text_len, struct error *err)
{
    const struct coca_decoding *d = context;

    return tokenizer_decode(d->own->text.tokenizer, ids, (size_t)n_ids, true, results, text,
                            text_len, err);
}

static enum status step(void *context, const struct decode_sequence *rows, size_t n, float *logits,
                        struct error *err)
{
    struct coca_decoding *d = context;
    size_t row[DECODE_MAX_ROWS], position[DECODE_MAX_ROWS];
    const struct coca_image *image[DECODE_MAX_ROWS];
    int32_t token[DECODE_MAX_ROWS];

    (void)err;
    for (size_t i = 0; i < n; i++) {
        row[i] = rows[i].cache_row;
        position[i] = (size_t)rows[i].row.n_ids - 1;
        token[i] = rows[i].row.ids[position[i]];
        image[i] = &d->encoded[rows[i].image];
    }
    coca_decoder_step(&d->decoder, n, row, position, token, image, logits);
    return ST_OK;
}

static enum status search(const struct decode_model *model, const struct caption_options *how,
                          const struct coca_image *image, struct arena *results,
                          struct arena *scratch, struct caption *captions, struct error *err)
{
    const struct coca_decoding *d = model->context;
    struct beam_hypothesis best[BEAM_MAX_BEAMS];
    struct beam_config config;
    int n = 0;
    enum status st = decode_beam_config(model, how, &config, err);

    if (st == ST_OK)
        st = coca_beam_search(&d->own->coca, image, &config,
                              MIN(how->n_captions, beam_group_size(&config)), scratch, best, &n,
                              err);
    return st == ST_OK ? decode_say_best(model, best, n, how->n_captions, results, captions, err)
                       : st;
}

static enum status coca_caption_images(const struct captioner *captioner,
                                       const struct image *image_b, const struct bytes_view *uid_b,
                                       size_t B, const struct caption_options *how,
                                       struct arena *results, struct arena *scratch,
                                       struct caption *captions, struct error *err)
{
    const struct coca_captioner *own = (const struct coca_captioner *)captioner;
    struct arena mark = *scratch, memory;
    struct coca_image *encoded = NULL;
    struct coca_decoding decoding = {.own = own};
    const struct decode_model model = {.context = &decoding,
                                       .vocab_size = own->coca.vocab_size,
                                       .start = own->text.start,
                                       .end = own->text.end,
                                       .pad = 0,
                                       .mask_pad = how->mask_pad,
                                       .step = step,
                                       .say = say};
    enum status st = caption_options_check(how, &captioner->info, err);

    if (st != ST_OK)
        return st;
    arena_init(
        &memory,
        scratch->max_bytes); /* the images' keys and values outlive the scratch of their making */
    st = arena_calloc(scratch, B, sizeof *encoded, &encoded, err);
    if (st == ST_OK)
        st = encode(own, image_b, B, &memory, scratch, encoded, err);
    decoding.encoded = encoded;
    if (st == ST_OK && (how->strategy == CAPTION_GREEDY || how->strategy == CAPTION_SAMPLE)) {
        size_t per_image = how->strategy == CAPTION_GREEDY ? 1 : (size_t)how->n_captions;
        size_t rows = MIN(B * per_image, (size_t)DECODE_MAX_ROWS);

        st = coca_decoder_init(&decoding.decoder, &own->coca, rows, (size_t)how->max_tokens,
                               scratch, err);
        if (st == ST_OK)
            st = decode_rows(&model, how, uid_b, B, per_image, rows, results, scratch, captions,
                             err);
    } else {
        for (size_t b = 0; b < B && st == ST_OK; b++) {
            struct arena here = *scratch;

            st = search(&model, how, &encoded[b], results, scratch,
                        captions + b * (size_t)how->n_captions, err);
            arena_rewind(scratch, &here);
        }
    }
    arena_release(&memory);
    arena_rewind(scratch, &mark);
    return st;
}

const struct captioner_ops captioner_coca = {
    .kind = "coca",
    .open = coca_open,
    .caption_images = coca_caption_images,
    .close = coca_close,
};
