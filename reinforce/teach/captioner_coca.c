#include "reinforce/teach/captioner_coca.h"

#include "reinforce/models/coca_beam.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/sampler.h"
#include "reinforce/teach/clip_text.h"
#include "reinforce/text/clean.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum {
    MAX_ROWS = 64,   /* sequences decoded together */
    MAX_REDRAWS = 8, /* of a caption that came out empty */
    BEAM_GROUPS = 3, /* open_clip's default */
};

struct coca_captioner {
    struct captioner base;
    struct weights *weights;
    struct coca coca;
    struct clip_text text;
};

/* One sequence while it is decoded: which caption it will be, and where it lives in the caches. */
struct sequence {
    size_t image, caption; /* indices */
    int redraw;
    size_t cache_row;
    struct sampler_row row;
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

    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a captioner");
    own->base.ops = &captioner_coca;
    st = gemm_init(err);
    if (st == ST_OK)
        st = snapshot_read(options->model_dir, options->activation, &snapshot, err);
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

/* Text as the model said it: decoded ids, nothing trimmed. */
static enum status say(const struct coca_captioner *own, const int32_t *ids, int n_ids,
                       double log_prob_sum, int n_drawn, struct arena *results, struct caption *out,
                       struct error *err)
{
    char *text;
    size_t len;
    enum status st =
        tokenizer_decode(own->text.tokenizer, ids, (size_t)n_ids, true, results, &text, &len, err);

    if (st == ST_OK)
        *out = (struct caption){.text = text,
                                .text_len = len,
                                .n_tokens = n_ids - 1,
                                .score = n_drawn > 0 ? log_prob_sum / (double)n_drawn : 0};
    return st;
}

static void sampler_settings(const struct coca_captioner *own, const struct caption_options *how,
                             struct sampler_config *config)
{
    *config = (struct sampler_config){.greedy = how->strategy == CAPTION_GREEDY,
                                      .temperature = how->temperature,
                                      .temperature_first = how->temperature_first,
                                      .top_k = how->top_k,
                                      .top_p = how->top_p,
                                      .repetition_penalty = how->repetition_penalty,
                                      .min_tokens = how->min_tokens,
                                      .max_tokens = how->max_tokens,
                                      .end = own->text.end,
                                      .pad = 0,
                                      .mask_pad = how->mask_pad};
}

/* The stream of one caption; redraws take indices behind those of the first draws. */
static void begin_row(const struct coca_captioner *own, const struct caption_options *how,
                      struct bytes_view uid, int32_t *ids, struct sequence *sequence)
{
    struct philox rng;
    size_t draw = sequence->caption + (size_t)sequence->redraw * (size_t)how->n_captions;
    uint32_t index = how->stream << 16 | (uint32_t)(draw & 0xffff);

    philox_init(&rng, how->seed, uid, PHILOX_STAGE_CAPTION, index);
    sampler_row_init(&sequence->row, ids, own->text.start, &rng);
}

/* Everything a sampling call needs; lives in the scratch arena. */
struct sampling {
    const struct coca_captioner *own;
    const struct caption_options *how;
    const struct bytes_view *uid_b;
    struct coca_image *encoded;
    struct sampler_config config;
    struct sampler_scratch sampler;
    struct coca_decoder decoder;
    struct sequence rows[MAX_ROWS];
    size_t n_rows, capacity;
    size_t next, total; /* captions begun, to make */
    size_t per_image;   /* distinct captions per image */
    int32_t *ids;       /* [capacity, max_tokens] */
    float *logits;      /* [capacity, V] */
};

/* Puts the next waiting caption into a free cache row. */
static void refill(struct sampling *s)
{
    while (s->n_rows < s->capacity && s->next < s->total) {
        struct sequence *sequence = &s->rows[s->n_rows];
        bool taken[MAX_ROWS] = {false};
        size_t free_row = 0;

        for (size_t i = 0; i < s->n_rows; i++)
            taken[s->rows[i].cache_row] = true;
        while (taken[free_row])
            free_row++;
        *sequence = (struct sequence){.image = s->next / s->per_image,
                                      .caption = s->next % s->per_image,
                                      .cache_row = free_row};
        begin_row(s->own, s->how, s->uid_b[sequence->image],
                  s->ids + free_row * (size_t)s->how->max_tokens, sequence);
        s->n_rows++;
        s->next++;
    }
}

/* A finished row becomes a caption, or begins again if it came out empty. */
static enum status finish_row(struct sampling *s, size_t i, struct arena *results,
                              struct caption *captions, struct error *err)
{
    struct sequence *sequence = &s->rows[i];
    struct caption *out =
        &captions[sequence->image * (size_t)s->how->n_captions + sequence->caption];
    enum status st = say(s->own, sequence->row.ids, sequence->row.n_ids, sequence->row.log_prob_sum,
                         sequence->row.n_drawn, results, out, err);

    if (st != ST_OK)
        return st;
    if (s->how->strategy == CAPTION_SAMPLE && sequence->redraw < MAX_REDRAWS &&
        clean_trim(bytes_view_of(out->text, out->text_len)).len == 0) {
        sequence->redraw++;
        begin_row(s->own, s->how, s->uid_b[sequence->image], sequence->row.ids, sequence);
        return ST_OK;
    }
    s->rows[i] = s->rows[--s->n_rows];
    return ST_OK;
}

static enum status step_rows(struct sampling *s, struct arena *results, struct caption *captions,
                             struct error *err)
{
    size_t row[MAX_ROWS], position[MAX_ROWS], V = s->own->coca.vocab_size;
    const struct coca_image *image[MAX_ROWS];
    int32_t token[MAX_ROWS];
    enum status st = ST_OK;

    for (size_t i = 0; i < s->n_rows; i++) {
        row[i] = s->rows[i].cache_row;
        position[i] = (size_t)s->rows[i].row.n_ids - 1;
        token[i] = s->rows[i].row.ids[position[i]];
        image[i] = &s->encoded[s->rows[i].image];
    }
    coca_decoder_step(&s->decoder, s->n_rows, row, position, token, image, s->logits);
    for (size_t i = 0; i < s->n_rows && st == ST_OK; i++) {
        st = sampler_row_step(&s->config, &s->rows[i].row, s->logits + i * V, &s->sampler, err);
        if (st == ST_OK && !s->rows[i].row.ended &&
            sampler_row_is_forced(&s->config, &s->rows[i].row))
            sampler_row_force_end(&s->config, &s->rows[i].row);
    }
    for (size_t i = s->n_rows; i-- > 0 && st == ST_OK;)
        if (s->rows[i].row.ended)
            st = finish_row(s, i, results, captions, err);
    return st;
}

static enum status sample(const struct coca_captioner *own, const struct bytes_view *uid_b,
                          size_t B, const struct caption_options *how, struct coca_image *encoded,
                          struct arena *results, struct arena *scratch, struct caption *captions,
                          struct error *err)
{
    size_t V = own->coca.vocab_size;
    struct sampling *s;
    enum status st = arena_calloc(scratch, 1, sizeof *s, &s, err);

    if (st != ST_OK)
        return st;
    s->own = own;
    s->how = how;
    s->uid_b = uid_b;
    s->encoded = encoded;
    s->per_image = how->strategy == CAPTION_GREEDY ? 1 : (size_t)how->n_captions;
    s->total = B * s->per_image;
    s->capacity = MIN(s->total, (size_t)MAX_ROWS);
    sampler_settings(own, how, &s->config);
    st = sampler_config_check(&s->config, V, err);
    if (st == ST_OK)
        st = sampler_scratch_init(&s->sampler, V, scratch, err);
    if (st == ST_OK)
        st = coca_decoder_init(&s->decoder, &own->coca, s->capacity, (size_t)how->max_tokens,
                               scratch, err);
    if (st == ST_OK)
        st = arena_calloc(scratch, s->capacity * (size_t)how->max_tokens, sizeof *s->ids, &s->ids,
                          err);
    if (st == ST_OK)
        st = arena_alloc(scratch, s->capacity * V * sizeof *s->logits, &s->logits, err);
    while (st == ST_OK) {
        refill(s);
        if (s->n_rows == 0)
            break;
        st = step_rows(s, results, captions, err);
    }
    for (size_t b = 0; b < B && st == ST_OK; b++) /* greedy says one thing; it is repeated */
        for (size_t i = s->per_image; i < (size_t)how->n_captions; i++)
            captions[b * (size_t)how->n_captions + i] = captions[b * (size_t)how->n_captions];
    return st;
}

static enum status search(const struct coca_captioner *own, const struct caption_options *how,
                          const struct coca_image *image, struct arena *results,
                          struct arena *scratch, struct caption *captions, struct error *err)
{
    bool raw = how->strategy == CAPTION_BEAM_OPEN_CLIP;
    const struct beam_config config = {.n_beams = how->n_beams,
                                       .n_groups =
                                           raw && how->n_beams % BEAM_GROUPS == 0 ? BEAM_GROUPS : 1,
                                       .raw_logits = raw,
                                       .length_penalty = how->length_penalty,
                                       .repetition_penalty = how->repetition_penalty,
                                       .min_tokens = how->min_tokens,
                                       .max_tokens = how->max_tokens,
                                       .start = own->text.start,
                                       .end = own->text.end,
                                       .pad = 0,
                                       .mask_pad = how->mask_pad};
    int wanted = MIN(how->n_captions, beam_group_size(&config)), n = 0;
    struct beam_hypothesis best[BEAM_MAX_BEAMS];
    enum status st = beam_config_check(&config, own->coca.vocab_size, err);

    if (st == ST_OK)
        st = coca_beam_search(&own->coca, image, &config, wanted, scratch, best, &n, err);
    assert(st != ST_OK || n > 0);
    for (int i = 0; i < how->n_captions && st == ST_OK;
         i++) { /* fewer than asked for: the best is repeated */
        const struct beam_hypothesis *h = &best[i < n ? i : 0];

        st = say(own, h->ids, h->n_ids, h->log_prob_sum, h->n_ids - 1, results, &captions[i], err);
    }
    return st;
}

static enum status coca_caption_images(const struct captioner *captioner,
                                       const struct image *image_b, const struct bytes_view *uid_b,
                                       size_t B, const struct caption_options *how,
                                       struct arena *results, struct arena *scratch,
                                       struct caption *captions, struct error *err)
{
    const struct coca_captioner *own = (const struct coca_captioner *)captioner;
    struct arena mark = *scratch, memory;
    struct coca_image *encoded;
    enum status st = caption_options_check(how, &captioner->info, err);

    if (st != ST_OK)
        return st;
    arena_init(
        &memory,
        scratch->max_bytes); /* the images' keys and values outlive the scratch of their making */
    st = arena_calloc(scratch, B, sizeof *encoded, &encoded, err);
    if (st == ST_OK)
        st = encode(own, image_b, B, &memory, scratch, encoded, err);
    if (st == ST_OK && (how->strategy == CAPTION_GREEDY || how->strategy == CAPTION_SAMPLE)) {
        st = sample(own, uid_b, B, how, encoded, results, scratch, captions, err);
    } else {
        for (size_t b = 0; b < B && st == ST_OK; b++) {
            struct arena here = *scratch;

            st = search(own, how, &encoded[b], results, scratch,
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
