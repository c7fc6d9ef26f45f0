#include "reinforce/teach/captioner.h"

#include "reinforce/models/snapshot.h"
#include "reinforce/nn/beam.h"
#include "reinforce/teach/captioner_coca.h"
#include "reinforce/teach/captioner_paligemma.h"

#include <math.h>

static const struct {
    enum snapshot_family family;
    const struct captioner_ops *ops;
} kinds[] = {
    {SNAPSHOT_COCA, &captioner_coca},
    {SNAPSHOT_PALIGEMMA, &captioner_paligemma},
};

static const struct captioner_ops *ops_of(int family)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if ((int)kinds[i].family == family)
            return kinds[i].ops;
    return NULL;
}

bool captioner_is_family(int family)
{
    return ops_of(family) != NULL;
}

void caption_options_default(struct caption_options *how)
{
    *how = (struct caption_options){.strategy = CAPTION_SAMPLE,
                                    .n_captions = 1,
                                    .max_tokens = 30,
                                    .min_tokens = 5,
                                    .temperature = 1,
                                    .top_p = 0.9,
                                    .repetition_penalty = 1,
                                    .n_beams = 6,
                                    .length_penalty = 1,
                                    .mask_pad = true};
}

const char *caption_stop_name(enum caption_stop stop)
{
    if (stop == CAPTION_STOP_UNKNOWN)
        return NULL;
    return stop == CAPTION_STOP_END ? "end" : "length";
}

enum status caption_prompts(const struct caption_options *how, const char *otherwise,
                            struct bytes_view prompts[CAPTION_MAX_PROMPTS], size_t *n_prompts,
                            struct error *err)
{
    const char *text = how->prompt != NULL && how->prompt[0] != '\0' ? how->prompt : otherwise;
    size_t end = strlen(text);

    while (end > 0 && text[end - 1] == '\n')
        end--;
    *n_prompts = 0;
    for (size_t begin = 0; begin <= end;) {
        size_t len = MIN(strcspn(text + begin, "\n"), end - begin);

        if (*n_prompts == CAPTION_MAX_PROMPTS)
            return error_set(err, ST_INVALID, "prompt has more than %d lines",
                             (int)CAPTION_MAX_PROMPTS);
        prompts[(*n_prompts)++] = bytes_view_of(text + begin, len);
        begin += len + 1;
    }
    if (*n_prompts > (size_t)how->n_captions)
        return error_set(err, ST_INVALID, "%zu prompts share %d captions", *n_prompts,
                         how->n_captions);
    return ST_OK;
}

size_t caption_prompt_of(const struct caption_options *how, size_t n_prompts, size_t caption)
{
    return caption * n_prompts / (size_t)how->n_captions;
}

enum status caption_options_check(const struct caption_options *how,
                                  const struct captioner_info *info, struct error *err)
{
    bool beam = how->strategy >= CAPTION_BEAM;

    if (how->n_captions < 1 || how->n_captions > 1 << 16)
        return error_set(err, ST_INVALID, "count is %d, outside 1..65536", how->n_captions);
    if (how->max_tokens < 3 || how->max_tokens > info->context_length)
        return error_set(err, ST_INVALID, "max_tokens is %d, the model takes 3..%d",
                         how->max_tokens, info->context_length);
    if (how->min_tokens < 0 || how->min_tokens >= how->max_tokens)
        return error_set(err, ST_INVALID, "min_tokens %d must be less than max_tokens %d",
                         how->min_tokens, how->max_tokens);
    if (!(how->temperature > 0) || !isfinite(how->temperature))
        return error_set(err, ST_INVALID, "temperature is %g, must be above 0", how->temperature);
    if (how->top_k < 0)
        return error_set(err, ST_INVALID, "top_k is %d, must not be negative", how->top_k);
    if (!(how->top_p >= 0))
        return error_set(err, ST_INVALID, "top_p is %g, must not be negative", how->top_p);
    if (!(how->repetition_penalty > 0))
        return error_set(err, ST_INVALID, "repetition_penalty is %g, must be above 0",
                         how->repetition_penalty);
    if (beam && (how->n_beams < 1 || how->n_beams > BEAM_MAX_BEAMS))
        return error_set(err, ST_INVALID, "num_beams is %d, outside 1..%d", how->n_beams,
                         (int)BEAM_MAX_BEAMS);
    if (how->prompt != NULL && how->prompt[0] != '\0' && !info->takes_prompt)
        return error_set(err, ST_INVALID, "a %s model takes no prompt", info->family);
    return ST_OK;
}

enum status captioner_open(const struct captioner_options *options, struct captioner **out,
                           struct error *err)
{
    struct snapshot snapshot;
    enum status st = snapshot_read(options->model_dir, options->activation, &snapshot, err);

    *out = NULL;
    if (st != ST_OK)
        return st;
    if (captioner_is_family((int)snapshot.family))
        return ops_of((int)snapshot.family)->open(options, out, err);
    return error_set(err, ST_INVALID, "model \"%s\" is a %s model, which cannot caption",
                     options->model_dir, snapshot_family_name(snapshot.family));
}

const struct captioner_info *captioner_info(const struct captioner *captioner)
{
    return &captioner->info;
}

enum status captioner_caption_images(const struct captioner *captioner, const struct image *image_b,
                                     const struct bytes_view *uid_b, size_t B,
                                     const struct caption_options *how, struct arena *results,
                                     struct arena *scratch, struct caption *captions,
                                     struct error *err)
{
    return captioner->ops->caption_images(captioner, image_b, uid_b, B, how, results, scratch,
                                          captions, err);
}

void captioner_close(struct captioner **captioner)
{
    if (*captioner != NULL)
        (*captioner)->ops->close(*captioner);
    *captioner = NULL;
}
