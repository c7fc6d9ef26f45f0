#include "reinforce/teach/decode_rows.h"

#include "reinforce/text/clean.h"

#include <assert.h>

enum {
    MAX_REDRAWS = 8, /* of a caption that came out empty */
    BEAM_GROUPS = 3, /* open_clip's default */
};

/* Everything a call needs; lives in the scratch arena. */
struct decoding {
    const struct decode_model *model;
    const struct caption_options *how;
    const struct bytes_view *uid_b;
    struct sampler_config config;
    struct sampler_scratch sampler;
    struct decode_sequence rows[DECODE_MAX_ROWS];
    size_t n_rows, capacity;
    size_t next, total; /* captions begun, to make */
    size_t per_image;
    int32_t *ids;  /* [capacity, max_tokens] */
    float *logits; /* [capacity, V] */
};

/* The stream of one caption; redraws take indices behind those of the first draws. */
static void begin_row(const struct decoding *d, int32_t *ids, struct decode_sequence *sequence)
{
    struct philox rng;
    size_t draw = sequence->caption + (size_t)sequence->redraw * (size_t)d->how->n_captions;
    uint32_t index = d->how->stream << 16 | (uint32_t)(draw & 0xffff);

    philox_init(&rng, d->how->seed, d->uid_b[sequence->image], PHILOX_STAGE_CAPTION, index);
    sampler_row_init(&sequence->row, ids, d->model->start, &rng);
}

/* Puts waiting captions into free cache rows. */
static enum status refill(struct decoding *d, struct error *err)
{
    enum status st = ST_OK;

    while (d->n_rows < d->capacity && d->next < d->total && st == ST_OK) {
        struct decode_sequence *sequence = &d->rows[d->n_rows];
        bool taken[DECODE_MAX_ROWS] = {false};
        size_t free_row = 0;

        for (size_t i = 0; i < d->n_rows; i++)
            taken[d->rows[i].cache_row] = true;
        while (taken[free_row])
            free_row++;
        *sequence = (struct decode_sequence){.image = d->next / d->per_image,
                                             .caption = d->next % d->per_image,
                                             .cache_row = free_row};
        begin_row(d, d->ids + free_row * (size_t)d->how->max_tokens, sequence);
        if (d->model->begin != NULL)
            st = d->model->begin(d->model->context, sequence, err);
        d->n_rows++;
        d->next++;
    }
    return st;
}

/* What is known of a sequence whose first `n_drawn` ids behind the start the model chose. */
static enum status say(const struct decode_model *model, const int32_t *ids, int n_ids, int n_drawn,
                       double log_prob_sum, struct arena *results, struct caption *out,
                       struct error *err)
{
    size_t bytes = (size_t)n_drawn * sizeof *ids;
    int32_t *chosen;
    char *text;
    enum status st = model->say(model->context, ids, n_ids, results, &text, &out->text_len, err);

    if (st == ST_OK)
        st = arena_alloc(results, bytes, &chosen, err);
    if (st != ST_OK)
        return st;
    memcpy(chosen, ids + 1, bytes);
    *out = (struct caption){.text = text,
                            .text_len = out->text_len,
                            .n_tokens = n_ids - 1,
                            .ids = chosen,
                            .n_ids = (size_t)n_drawn,
                            .log_prob_sum = log_prob_sum,
                            .score = n_drawn > 0 ? log_prob_sum / n_drawn : 0};
    return ST_OK;
}

/* A finished row becomes a caption, or begins again if it came out empty. */
static enum status finish_row(struct decoding *d, size_t i, struct arena *results,
                              struct caption *captions, struct error *err)
{
    struct decode_sequence *sequence = &d->rows[i];
    struct caption *out = &captions[sequence->image * d->per_image + sequence->caption];
    const struct sampler_row *row = &sequence->row;
    enum status st =
        say(d->model, row->ids, row->n_ids, row->n_drawn, row->log_prob_sum, results, out, err);

    if (st != ST_OK)
        return st;
    out->stop = row->n_drawn + 1 < row->n_ids ? CAPTION_STOP_LENGTH : CAPTION_STOP_END;
    if (d->how->strategy == CAPTION_SAMPLE && sequence->redraw < MAX_REDRAWS &&
        clean_trim(bytes_view_of(out->text, out->text_len)).len == 0) {
        sequence->redraw++;
        begin_row(d, sequence->row.ids, sequence);
        return ST_OK;
    }
    d->rows[i] = d->rows[--d->n_rows];
    return ST_OK;
}

static enum status step_rows(struct decoding *d, struct arena *results, struct caption *captions,
                             struct error *err)
{
    size_t V = d->model->vocab_size;
    enum status st = d->model->step(d->model->context, d->rows, d->n_rows, d->logits, err);

    for (size_t i = 0; i < d->n_rows && st == ST_OK; i++) {
        struct sampler_row *row = &d->rows[i].row;

        st = sampler_row_step(&d->config, row, d->logits + i * V, &d->sampler, err);
        if (st == ST_OK && !row->ended && sampler_row_is_forced(&d->config, row))
            sampler_row_force_end(&d->config, row);
    }
    for (size_t i = d->n_rows; i-- > 0 && st == ST_OK;)
        if (d->rows[i].row.ended)
            st = finish_row(d, i, results, captions, err);
    return st;
}

static enum status decoding_init(struct decoding *d, struct arena *scratch, struct error *err)
{
    const struct caption_options *how = d->how;
    size_t V = d->model->vocab_size;
    enum status st;

    d->config = (struct sampler_config){.greedy = how->strategy == CAPTION_GREEDY,
                                        .temperature = how->temperature,
                                        .temperature_first = how->temperature_first,
                                        .top_k = how->top_k,
                                        .top_p = how->top_p,
                                        .repetition_penalty = how->repetition_penalty,
                                        .min_tokens = how->min_tokens,
                                        .max_tokens = how->max_tokens,
                                        .end = d->model->end,
                                        .pad = d->model->pad,
                                        .mask_pad = d->model->mask_pad};
    st = sampler_config_check(&d->config, V, err);
    if (st == ST_OK)
        st = sampler_scratch_init(&d->sampler, V, scratch, err);
    if (st == ST_OK)
        st = arena_calloc(scratch, d->capacity * (size_t)how->max_tokens, sizeof *d->ids, &d->ids,
                          err);
    if (st == ST_OK)
        st = arena_alloc(scratch, d->capacity * V * sizeof *d->logits, &d->logits, err);
    return st;
}

/* From [B, per_image] to [B, N] in place: from the end, so that none is overwritten unread. */
static void repeat(struct caption *captions, size_t B, size_t per_image, size_t N)
{
    for (size_t at = B * N; at-- > 0;)
        captions[at] = captions[at / N * per_image + at % N * per_image / N];
}

enum status decode_rows(const struct decode_model *model, const struct caption_options *how,
                        const struct bytes_view *uid_b, size_t B, size_t per_image, size_t capacity,
                        struct arena *results, struct arena *scratch, struct caption *captions,
                        struct error *err)
{
    struct decoding *d;
    enum status st = arena_calloc(scratch, 1, sizeof *d, &d, err);

    if (st != ST_OK)
        return st;
    d->model = model;
    d->how = how;
    d->uid_b = uid_b;
    d->per_image = per_image;
    d->total = B * per_image;
    d->capacity = MIN(d->total, capacity);
    assert(per_image >= 1 && per_image <= (size_t)how->n_captions &&
           d->capacity <= DECODE_MAX_ROWS);
    st = decoding_init(d, scratch, err);
    while (st == ST_OK) {
        st = refill(d, err);
        if (st != ST_OK || d->n_rows == 0)
            break;
        st = step_rows(d, results, captions, err);
    }
    if (st == ST_OK)
        repeat(captions, B, per_image, (size_t)how->n_captions);
    return st;
}

enum status decode_beam_config(const struct decode_model *model, const struct caption_options *how,
                               struct beam_config *config, struct error *err)
{
    bool raw = how->strategy == CAPTION_BEAM_OPEN_CLIP;
    bool sums = how->strategy == CAPTION_BEAM_BIG_VISION;

    *config =
        (struct beam_config){.n_beams = how->n_beams,
                             .n_groups = raw && how->n_beams % BEAM_GROUPS == 0 ? BEAM_GROUPS : 1,
                             .raw_logits = raw,
                             .ends_always = sums,
                             .length_penalty = sums ? 0 : how->length_penalty,
                             .repetition_penalty = how->repetition_penalty,
                             .min_tokens = how->min_tokens,
                             .max_tokens = how->max_tokens,
                             .start = model->start,
                             .end = model->end,
                             .pad = model->pad,
                             .mask_pad = model->mask_pad};
    return beam_config_check(config, model->vocab_size, err);
}

enum status decode_say_best(const struct decode_model *model, const struct beam_hypothesis *best,
                            int n, int n_wanted, struct arena *results, struct caption *captions,
                            struct error *err)
{
    enum status st = ST_OK;

    assert(n > 0);
    for (int i = 0; i < n_wanted && st == ST_OK; i++) {
        const struct beam_hypothesis *h = &best[i < n ? i : 0];

        st =
            say(model, h->ids, h->n_ids, h->n_ids - 1, h->log_prob_sum, results, &captions[i], err);
        captions[i].stop = h->ended ? CAPTION_STOP_END : CAPTION_STOP_LENGTH;
    }
    return st;
}
