#include "reinforce/teach/captioner_paligemma.h"

#include "reinforce/base/memory.h"
#include "reinforce/models/gemma_beam.h"
#include "reinforce/models/paligemma.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/teach/decode_rows.h"
#include "reinforce/teach/paligemma_text.h"

#include <stdlib.h>

enum {
    MAX_ROWS = INT8_ROWS, /* decoded together: a tile of int8's; each has its cache */
    MAX_NEW_TOKENS = 512,
    PREFIX_TOKENS = 128, /* of text, in the estimate of memory: the most in pre-training */
};

static const char default_prompt[] = "caption en";

struct paligemma_captioner {
    struct captioner base;
    struct weights *weights;
    struct paligemma model;
    struct paligemma_text text;
};

static void paligemma_close(struct captioner *captioner)
{
    struct paligemma_captioner *own = CONTAINER_OF(captioner, struct paligemma_captioner, base);

    paligemma_text_close(&own->text);
    paligemma_release(&own->model);
    weights_destroy(&own->weights);
    free(own);
}

/* Refuses what would not fit, before anything is read but the tensors' names. */
static enum status check_memory(const struct snapshot *snapshot, size_t limit, struct error *err)
{
    struct paligemma_memory memory;
    struct weights *weights = NULL;
    size_t available = limit > 0 ? limit : memory_available(), needed, capacity;
    enum status st = weights_open(snapshot->weights_path, &weights, err);

    if (st != ST_OK)
        return st;
    capacity =
        PREFIX_TOKENS + (size_t)(snapshot->vision.image_size / snapshot->vision.patch_size *
                                 (snapshot->vision.image_size / snapshot->vision.patch_size));
    paligemma_memory(snapshot, weights, 2, capacity, &memory);
    weights_destroy(&weights);
    needed = memory.weights + memory.cache + memory.activations;
    if (needed <= available)
        return ST_OK;
    return error_set(err, ST_NO_MEMORY,
                     "%.1f GB of memory are needed (weights %.1f, caches of one caption %.1f, "
                     "activations %.1f), %.1f GB are %s",
                     (double)needed / 1e9, (double)memory.weights / 1e9, (double)memory.cache / 1e9,
                     (double)memory.activations / 1e9, (double)available / 1e9,
                     limit > 0 ? "allowed" : "available");
}

/* As it was trained, unless asked otherwise. */
static void choose_settings(const struct captioner_options *options, struct snapshot *snapshot)
{
    struct gemma_config *decoder = &snapshot->decoder;

    decoder->matrices = snapshot->vision.matrices = options->matrices;
    decoder->kv_type = options->kv_type;
    if (options->no_attention_cap)
        decoder->attention_cap = 0;
    if (!options->final_cap)
        decoder->final_cap = 0;
    if (!options->sliding_window)
        decoder->window = 0;
}

static enum status paligemma_open(const struct captioner_options *options, struct captioner **out,
                                  struct error *err)
{
    struct paligemma_captioner *own = calloc(1, sizeof *own);
    struct captioner_info *info;
    struct snapshot snapshot;
    enum status st;

    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a captioner");
    info = &own->base.info;
    own->base.ops = &captioner_paligemma;
    st = gemm_init(err);
    if (st == ST_OK)
        st = snapshot_read(options->model_dir, options->activation, &snapshot, err);
    if (st == ST_OK)
        choose_settings(options, &snapshot);
    if (st == ST_OK)
        st = check_memory(&snapshot, options->memory_limit_bytes, err);
    if (st == ST_OK)
        st = snapshot_open_weights(&snapshot, &own->weights, info->weights_digest, err);
    if (st == ST_OK)
        st = paligemma_load(&snapshot, own->weights, &own->model, err);
    if (st == ST_OK)
        st = paligemma_text_open(&snapshot, &own->text, err);
    if (st != ST_OK) {
        error_add_context(err, "model \"%s\"", options->model_dir);
        paligemma_close(&own->base);
        return st;
    }
    memcpy(info->family, "paligemma", sizeof "paligemma");
    info->context_length = 1 + MAX_NEW_TOKENS + 1; /* the newline, what is said, the end */
    info->takes_prompt = true;
    info->weights_type = tensor_dtype_name(own->model.gemma.layers[0].q.dtype);
    info->has_caps = true;
    info->attention_cap = (double)own->model.gemma.config.attention_cap;
    info->final_cap = (double)own->model.gemma.config.final_cap;
    info->sliding_window = own->model.gemma.config.window;
    info->preprocess = snapshot.preprocess;
    *out = &own->base;
    return ST_OK;
}

/* <bos> prompt \n, without the image's tokens in front. */
struct prompt {
    int32_t *ids;
    size_t n;
};

/* One call's decoding; the context of the callbacks. Cache row 0 holds the prefix made last, from
 * which the captions of the same image and prompt begin: none of it depends on what they say. */
struct decoding {
    const struct paligemma_captioner *own;
    const struct image *image_b;
    struct prompt prompts[CAPTION_MAX_PROMPTS];
    size_t n_prompts, per_image;
    size_t image, prompt; /* of row 0; SIZE_MAX: none yet */
    size_t image_of_tokens;
    float *tokens; /* [n, D]: the image as the decoder sees it, whatever the prompt */
    float *x;      /* [capacity, D] */
    struct gemma_decoder decoder;
    struct arena *scratch;
};

static enum status encode_image(struct decoding *d, size_t image, struct error *err)
{
    const struct preprocess *pre = &d->own->base.info.preprocess;
    size_t n = 3 * (size_t)pre->size * (size_t)pre->size;
    struct arena mark = *d->scratch;
    struct image square;
    float *pixels;
    enum status st = preprocess_pixels(pre, &d->image_b[image], d->scratch, &square, err);

    if (st == ST_OK)
        st = arena_alloc(d->scratch, n * sizeof *pixels, &pixels, err);
    if (st == ST_OK) {
        preprocess_tensor(&square, pre->mean, pre->std, pixels);
        st = paligemma_encode_image(&d->own->model, pixels, d->scratch, d->tokens, err);
    }
    arena_rewind(d->scratch, &mark);
    d->image_of_tokens = st == ST_OK ? image : SIZE_MAX;
    return st;
}

/* Makes row 0 the prefix of an image and a prompt; the tower runs once for all its prompts. */
static enum status prefill(struct decoding *d, size_t image, size_t prompt, struct error *err)
{
    const struct paligemma *model = &d->own->model;
    const struct prompt *text = &d->prompts[prompt];
    size_t S = model->n_image_tokens + text->n;
    enum status st = ST_OK;

    if (d->image == image && d->prompt == prompt)
        return ST_OK;
    d->image = SIZE_MAX;
    if (d->image_of_tokens != image)
        st = encode_image(d, image, err);
    if (st == ST_OK)
        st = paligemma_prefix(model, d->tokens, text->ids, text->n, d->x, err);
    if (st == ST_OK)
        st = gemma_prefill(&model->gemma, d->x, S, S, &d->decoder.cache, 0, false, d->scratch, err);
    if (st == ST_OK) {
        d->image = image;
        d->prompt = prompt;
    }
    return st;
}

static size_t prompt_of(const struct decoding *d, size_t caption)
{
    return caption * d->n_prompts / d->per_image;
}

/* Where the newline stands, the first token of decoding: what the prefix holds of it is made again,
 * together with other rows' tokens, which costs less than a row of logits of its own. */
static size_t newline_at(const struct decoding *d, size_t prompt)
{
    return d->own->model.n_image_tokens + d->prompts[prompt].n - 1;
}

static enum status begin(void *context, const struct decode_sequence *sequence, struct error *err)
{
    struct decoding *d = context;
    size_t prompt = prompt_of(d, sequence->caption);
    enum status st = prefill(d, sequence->image, prompt, err);

    if (st == ST_OK)
        kv_cache_copy_row(&d->decoder.cache, 0, 1 + sequence->cache_row, 0, newline_at(d, prompt));
    return st;
}

static enum status step(void *context, const struct decode_sequence *rows, size_t n, float *logits,
                        struct error *err)
{
    struct decoding *d = context;
    size_t row[MAX_ROWS], position[MAX_ROWS];
    int32_t token[MAX_ROWS];

    (void)err;
    for (size_t i = 0; i < n; i++) {
        size_t said = (size_t)rows[i].row.n_ids - 1;

        row[i] = 1 + rows[i].cache_row;
        position[i] = newline_at(d, prompt_of(d, rows[i].caption)) + said;
        token[i] = rows[i].row.ids[said];
    }
    gemma_decoder_step(&d->decoder, n, row, position, token, logits);
    return ST_OK;
}

/* Everything that was said between the newline and the end; places as their literal text. */
static enum status say(void *context, const int32_t *ids, int n_ids, struct arena *results,
                       char **text, size_t *text_len, struct error *err)
{
    enum { UNKNOWN = 3 }; /* <pad>, <eos>, <bos>, <unk> */
    const struct decoding *d = context;
    const struct gemma_config *config = &d->own->model.gemma.config;
    int32_t said[1 + MAX_NEW_TOKENS + 1];
    size_t n = 0;

    for (int i = 1; i < n_ids; i++)
        if (ids[i] > UNKNOWN && !(i + 1 == n_ids && ids[i] == config->other_end_id))
            said[n++] = ids[i];
    return tokenizer_decode(d->own->text.tokenizer, said, n, false, results, text, text_len, err);
}

/* As many rows as half of the free scratch has room for: at least one, at most MAX_ROWS. */
static size_t choose_rows(const struct decoding *d, size_t wanted, size_t capacity)
{
    const struct gemma_config *config = &d->own->model.gemma.config;
    size_t room = (d->scratch->max_bytes - d->scratch->used_bytes) / 2;
    size_t each = gemma_decoder_bytes(config, 1, capacity) + config->vocab_size * sizeof(float);

    return MAX(MIN(MIN(wanted, (size_t)MAX_ROWS), room / each), (size_t)1);
}

static enum status search(struct decoding *d, const struct decode_model *model,
                          const struct caption_options *how, size_t B, size_t capacity,
                          struct arena *results, struct caption *captions, struct error *err)
{
    struct beam_hypothesis best[BEAM_MAX_BEAMS];
    struct beam_config config;
    size_t N = (size_t)how->n_captions;
    enum status st = decode_beam_config(model, how, &config, err);

    if (st == ST_OK)
        st = gemma_decoder_init(&d->decoder, &d->own->model.gemma, gemma_beam_rows(&config),
                                capacity, d->scratch, err);
    for (size_t b = 0; b < B; b++)
        for (size_t p = 0; p < d->n_prompts && st == ST_OK; p++) {
            size_t first = (p * N + d->n_prompts - 1) / d->n_prompts;
            int wanted = (int)(((p + 1) * N + d->n_prompts - 1) / d->n_prompts - first), n = 0;
            struct arena mark = *d->scratch;

            st = prefill(d, b, p, err);
            if (st == ST_OK)
                st = gemma_beam_search(&d->decoder, newline_at(d, p), &config,
                                       MIN(wanted, config.n_beams), d->scratch, best, &n, err);
            if (st == ST_OK)
                st =
                    decode_say_best(model, best, n, wanted, results, captions + b * N + first, err);
            arena_rewind(d->scratch, &mark);
        }
    return st;
}

static enum status decode(struct decoding *d, const struct bytes_view *uid_b, size_t B,
                          const struct caption_options *how, struct arena *results,
                          struct caption *captions, struct error *err)
{
    const struct gemma *gemma = &d->own->model.gemma;
    const struct gemma_config *config = &gemma->config;
    const struct decode_model model = {
        .context = d,
        .vocab_size = config->vocab_size,
        .start = d->own->text.newline,
        .end = config->end_id,
        .pad = config->other_end_id >= 0 ? config->other_end_id : config->end_id,
        .begin = begin,
        .step = step,
        .say = say,
    };
    size_t longest = 0, capacity, rows;
    enum status st;

    for (size_t p = 0; p < d->n_prompts; p++)
        longest = MAX(longest, newline_at(d, p) + 1);
    capacity = longest + (size_t)how->max_tokens;
    st = arena_alloc(d->scratch,
                     (d->own->model.n_image_tokens + capacity) * config->width * sizeof(float),
                     &d->tokens, err);
    if (st != ST_OK)
        return st;
    d->x = d->tokens + d->own->model.n_image_tokens * config->width;
    if (how->strategy != CAPTION_GREEDY && how->strategy != CAPTION_SAMPLE)
        return search(d, &model, how, B, capacity, results, captions, err);
    rows = choose_rows(d, B * d->per_image, capacity);
    st = gemma_decoder_init(&d->decoder, gemma, 1 + rows, capacity, d->scratch, err);
    if (st == ST_NO_MEMORY)
        error_add_context(err,
                          "caches of %zu captions of up to %zu tokens (%zu MB; a job's "
                          "workers.memory must have room for them)",
                          1 + rows, capacity,
                          gemma_decoder_bytes(config, 1 + rows, capacity) >> 20);
    return st == ST_OK ? decode_rows(&model, how, uid_b, B, d->per_image, rows, results, d->scratch,
                                     captions, err)
                       : st;
}

static enum status paligemma_caption_images(const struct captioner *captioner,
                                            const struct image *image_b,
                                            const struct bytes_view *uid_b, size_t B,
                                            const struct caption_options *how,
                                            struct arena *results, struct arena *scratch,
                                            struct caption *captions, struct error *err)
{
    struct bytes_view prompts[CAPTION_MAX_PROMPTS];
    struct arena mark = *scratch;
    struct decoding *d;
    enum status st = caption_options_check(how, &captioner->info, err);

    if (st == ST_OK && how->strategy == CAPTION_BEAM_OPEN_CLIP)
        st = error_set(err, ST_INVALID,
                       "open_clip's beam search is for CoCa: use beam or beam_big_vision");
    if (st == ST_OK)
        st = arena_calloc(scratch, 1, sizeof *d, &d, err);
    if (st != ST_OK)
        return st;
    d->own = (const struct paligemma_captioner *)captioner;
    d->image_b = image_b;
    d->scratch = scratch;
    d->image = d->image_of_tokens = SIZE_MAX;
    st = caption_prompts(how, default_prompt, prompts, &d->n_prompts, err);
    for (size_t p = 0; p < d->n_prompts && st == ST_OK; p++)
        st = paligemma_text_row(&d->own->text, prompts[p], scratch, &d->prompts[p].ids,
                                &d->prompts[p].n, err);
    d->per_image = how->strategy == CAPTION_GREEDY ? d->n_prompts : (size_t)how->n_captions;
    if (st == ST_OK)
        st = decode(d, uid_b, B, how, results, captions, err);
    for (size_t i = 0; i < B * (size_t)how->n_captions && st == ST_OK; i++)
        captions[i].prompt =
            prompts[caption_prompt_of(how, d->n_prompts, i % (size_t)how->n_captions)];
    arena_rewind(scratch, &mark);
    return st;
}

const struct captioner_ops captioner_paligemma = {
    .kind = "paligemma",
    .open = paligemma_open,
    .caption_images = paligemma_caption_images,
    .close = paligemma_close,
};
