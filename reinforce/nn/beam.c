#include "reinforce/nn/beam.h"

#include "reinforce/nn/sampler.h"

#include <math.h>
#include <string.h>

/* The references give beams that may not be used yet this score: any real one beats it. */
#define BEAM_UNUSED_SCORE (-1e9f)

struct candidate {
    float score;
    float log_prob;
    int beam;
    int32_t token;
};

struct search {
    const struct beam_config *config;
    size_t n_vocab;
    int g;                            /* beams that are run */
    float *logits;                    /* [g, V] from the model */
    float *scores;                    /* [V] of one row, after the rules */
    int32_t *ids, *next_ids;          /* [g, max_tokens] */
    float *score, *next_score;        /* [g] */
    double *log_prob, *next_log_prob; /* [g] */
    int *parent;                      /* [g] */
    int32_t *token;                   /* [g] */
    struct candidate *best;           /* [2g], best first */
    struct beam_hypothesis *kept;     /* [g + 1], in order of arrival */
    int n_kept;
    double worst_kept;
};

enum status beam_config_check(const struct beam_config *config, size_t n_vocab, struct error *err)
{
    struct sampler_config rules = {
        .temperature = 1.0,
        .top_p = 1.0,
        .repetition_penalty = config->repetition_penalty,
        .min_tokens = config->min_tokens,
        .max_tokens = config->max_tokens,
        .end = config->end,
        .pad = config->pad,
    };

    if (config->n_beams < 1 || config->n_beams > BEAM_MAX_BEAMS)
        return error_set(err, ST_INVALID, "n_beams is %d, must be 1 to %d", config->n_beams,
                         BEAM_MAX_BEAMS);
    if (config->n_groups < 1 || config->n_beams % config->n_groups != 0)
        return error_set(err, ST_INVALID, "%d beams cannot be divided into %d groups",
                         config->n_beams, config->n_groups);
    if (config->n_groups > 1 && !config->raw_logits)
        return error_set(err, ST_INVALID, "groups of beams exist only in open_clip's search");
    if (config->ends_always && config->raw_logits)
        return error_set(err, ST_INVALID, "a beam search is open_clip's or big_vision's, not both");
    if (!isfinite(config->length_penalty))
        return error_set(err, ST_INVALID, "length_penalty is %g", config->length_penalty);
    if (config->start < 0 || (size_t)config->start >= n_vocab)
        return error_set(err, ST_INVALID, "start id %d is outside 0..%zu", config->start,
                         n_vocab - 1);
    return sampler_config_check(&rules, n_vocab, err);
}

int beam_group_size(const struct beam_config *config)
{
    return config->n_beams / config->n_groups;
}

static enum status search_init(struct search *s, const struct beam_config *config, size_t n_vocab,
                               struct arena *arena, struct error *err)
{
    size_t g = (size_t)beam_group_size(config), cells = g * (size_t)config->max_tokens;
    struct {
        void *slot;
        size_t count, size;
    } parts[] = {
        {&s->logits, g * n_vocab, sizeof *s->logits},
        {&s->scores, n_vocab, sizeof *s->scores},
        {&s->ids, cells, sizeof *s->ids},
        {&s->next_ids, cells, sizeof *s->next_ids},
        {&s->score, g, sizeof *s->score},
        {&s->next_score, g, sizeof *s->next_score},
        {&s->log_prob, g, sizeof *s->log_prob},
        {&s->next_log_prob, g, sizeof *s->next_log_prob},
        {&s->parent, g, sizeof *s->parent},
        {&s->token, g, sizeof *s->token},
        {&s->best, 2 * g, sizeof *s->best},
        {&s->kept, g + 1, sizeof *s->kept},
    };

    memset(s, 0, sizeof *s);
    s->config = config;
    s->n_vocab = n_vocab;
    s->g = (int)g;
    s->worst_kept = 1e9;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        enum status st = arena_calloc(arena, parts[i].count, parts[i].size, parts[i].slot, err);

        if (st != ST_OK)
            return st;
    }
    for (size_t i = 0; i <= g; i++) {
        enum status st = arena_calloc(arena, (size_t)config->max_tokens + 1, sizeof *s->kept[i].ids,
                                      &s->kept[i].ids, err);

        if (st != ST_OK)
            return st;
    }
    for (size_t i = 0; i < g; i++) {
        s->ids[i * (size_t)config->max_tokens] = config->start;
        s->token[i] = config->start;
        s->score[i] = i == 0 ? 0.0f : BEAM_UNUSED_SCORE;
    }
    return ST_OK;
}

static int32_t *row_ids(struct search *s, int beam)
{
    return s->ids + (size_t)beam * (size_t)s->config->max_tokens;
}

/* Puts a candidate into best[0..*n), at most `max` of them; later equals stay behind. */
static void candidate_insert(struct candidate *best, int *n, int max, struct candidate candidate)
{
    int at = *n < max ? (*n)++ : max - 1;

    for (; at > 0 && candidate.score > best[at - 1].score; at--)
        best[at] = best[at - 1];
    best[at] = candidate;
}

/* n tokens count: raw_logits counts the start, the other search does not. */
static double final_score(const struct beam_config *config, double sum, int n_with_start)
{
    int n = config->raw_logits ? n_with_start : n_with_start - 1;

    return sum / pow(n, config->length_penalty);
}

/* Keeps the g best finished sequences; of equal scores the older goes. */
static void keep(struct search *s, int beam, int len, bool ended, double sum, double log_prob,
                 int n_with_start)
{
    double score = final_score(s->config, sum, n_with_start);
    struct beam_hypothesis *slot;

    if (s->n_kept >= s->g && !(score > s->worst_kept))
        return;
    slot = &s->kept[s->n_kept++];
    memcpy(slot->ids, row_ids(s, beam), (size_t)len * sizeof *slot->ids);
    slot->n_ids = len;
    slot->ended = ended;
    slot->score = score;
    slot->log_prob_sum = log_prob;
    if (s->n_kept > s->g) {
        int worst = 0;
        struct beam_hypothesis spare;

        for (int i = 1; i < s->n_kept; i++)
            if (s->kept[i].score < s->kept[worst].score)
                worst = i;
        spare = s->kept[worst];
        s->n_kept--;
        memmove(&s->kept[worst], &s->kept[worst + 1],
                (size_t)(s->n_kept - worst) * sizeof *s->kept);
        s->kept[s->n_kept] = spare; /* its memory is for the next one */
    }
    s->worst_kept = INFINITY;
    for (int i = 0; i < s->n_kept; i++)
        s->worst_kept = MIN(s->worst_kept, s->kept[i].score);
}

/* big_vision's end: beam b's sequence as it is, finished, if its rules let it end. */
static void keep_ended(struct search *s, int b, int len, double end_log_prob)
{
    float score = s->scores[s->config->end] + s->score[b];

    if (s->score[b] > BEAM_UNUSED_SCORE && isfinite(score))
        keep(s, b, len, true, (double)score, s->log_prob[b] + end_log_prob, len + 1);
    s->scores[s->config->end] = -INFINITY;
}

/* The 2g best continuations of all beams. In the first step all beams are the start: one row. */
static enum status find_candidates(struct search *s, int len, int n_rows, struct error *err)
{
    const struct beam_config *config = s->config;
    struct sampler_config rules = {
        .repetition_penalty = config->repetition_penalty,
        .min_tokens = config->min_tokens,
        .end = config->end,
        .pad = config->pad,
        .mask_pad = config->mask_pad,
    };
    int n = 0, max = 2 * s->g;

    for (int b = 0; b < s->g; b++) {
        const float *logits = s->logits + (size_t)(n_rows == 1 ? 0 : b) * s->n_vocab;
        int32_t top;
        double norm;
        enum status st = sampler_argmax(logits, s->n_vocab, &top, err);

        if (st != ST_OK)
            return st;
        norm = sampler_log_sum_exp(logits, s->n_vocab);
        if (config->raw_logits)
            memcpy(s->scores, logits, s->n_vocab * sizeof *logits);
        else
            for (size_t i = 0; i < s->n_vocab; i++)
                s->scores[i] = (float)((double)logits[i] - norm);
        sampler_apply_rules(&rules, row_ids(s, b), len, s->scores, s->n_vocab);
        if (config->ends_always)
            keep_ended(s, b, len, (double)logits[config->end] - norm);
        for (size_t i = 0; i < s->n_vocab; i++) {
            float score = s->scores[i] + s->score[b];

            if (n < max || score > s->best[max - 1].score)
                candidate_insert(s->best, &n, max,
                                 (struct candidate){.score = score,
                                                    .log_prob = (float)((double)logits[i] - norm),
                                                    .beam = b,
                                                    .token = (int32_t)i});
        }
    }
    return ST_OK;
}

/* Of equal scores the later kept. */
static int best_kept(const struct search *s)
{
    int best = 0;

    for (int i = 1; i < s->n_kept; i++)
        if (s->kept[i].score >= s->kept[best].score)
            best = i;
    return best;
}

/* Turns the candidates into the next beams; returns true when the search is over. */
static bool advance(struct search *s, int len)
{
    const struct beam_config *config = s->config;
    size_t row_bytes = (size_t)config->max_tokens * sizeof *s->ids;
    int filled = 0;

    for (int rank = 0; rank < 2 * s->g && filled < s->g; rank++) {
        const struct candidate *c = &s->best[rank];
        double log_prob = s->log_prob[c->beam] + (double)c->log_prob;

        if (c->token == config->end) {
            if (rank < s->g)
                keep(s, c->beam, len, true, (double)c->score, log_prob, len + 1);
            continue;
        }
        memcpy((char *)s->next_ids + (size_t)filled * row_bytes, row_ids(s, c->beam), row_bytes);
        s->next_ids[(size_t)filled * (size_t)config->max_tokens + (size_t)len] = c->token;
        s->next_score[filled] = c->score;
        s->next_log_prob[filled] = log_prob;
        s->parent[filled] = c->beam;
        s->token[filled] = c->token;
        filled++;
    }
    memcpy(s->ids, s->next_ids, (size_t)s->g * row_bytes);
    memcpy(s->score, s->next_score, (size_t)s->g * sizeof *s->score);
    memcpy(s->log_prob, s->next_log_prob, (size_t)s->g * sizeof *s->log_prob);
    if (config->ends_always)
        return s->n_kept > 0 &&
               s->kept[best_kept(s)].score > final_score(config, (double)s->score[0], len + 1);
    return s->n_kept >= s->g &&
           s->worst_kept >= final_score(config, (double)s->best[0].score, len + 1);
}

/* Best first into `out`. */
static int hand_out(struct search *s, int n_wanted, struct beam_hypothesis *out)
{
    int n = MIN(n_wanted, s->n_kept);

    for (int i = 0; i < n; i++) {
        int best = best_kept(s);

        out[i] = s->kept[best];
        if (out[i].ended && out[i].n_ids < s->config->max_tokens)
            out[i].ids[out[i].n_ids++] = s->config->end;
        memmove(&s->kept[best], &s->kept[best + 1], (size_t)(--s->n_kept - best) * sizeof *s->kept);
    }
    return n;
}

enum status beam_search(const struct beam_config *config, size_t n_vocab, beam_step_fn *step,
                        void *context, int n_wanted, struct arena *arena,
                        struct beam_hypothesis *out, int *n_out, struct error *err)
{
    struct search s;
    enum status st = search_init(&s, config, n_vocab, arena, err);
    bool done = false;
    int len = 1;

    *n_out = 0;
    while (st == ST_OK && !done && len < config->max_tokens) {
        int n_rows = len == 1 ? 1 : s.g;

        st = step(context, s.parent, s.token, n_rows, len - 1, s.logits, err);
        if (st == ST_OK)
            st = find_candidates(&s, len, n_rows, err);
        if (st != ST_OK)
            break;
        done = advance(&s, len);
        len++;
    }
    if (st != ST_OK)
        return st;
    for (int b = 0; b < s.g && !done; b++)
        keep(&s, b, len, false, (double)s.score[b], s.log_prob[b], len);
    *n_out = hand_out(&s, n_wanted, out);
    return ST_OK;
}
