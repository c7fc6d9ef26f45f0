#include "worker/sample_score.h"

#include "reinforce/text/language.h"
#include "reinforce/text/measure.h"

#include <math.h>

enum status sample_score_tools_open(const struct score_spec *specs, size_t n,
                                    struct sample_score_tools *tools, struct error *err)
{
    enum status st = ST_OK;

    for (size_t k = 0; k < n && st == ST_OK; k++) {
        if (specs[k].kind == SCORE_SCRIPT)
            tools[k].script = text_script_find(specs[k].script);
        if (specs[k].kind == SCORE_LANGUAGE)
            tools[k].language = text_language_find(specs[k].language);
        if (specs[k].kind == SCORE_TOKENS)
            st = tokenizer_open(specs[k].tokenizer, TOKENIZER_RULES_OF_FILE, &tools[k].tokenizer,
                                err);
    }
    return st;
}

void sample_score_tools_close(struct sample_score_tools *tools, size_t n)
{
    for (size_t k = 0; k < n; k++)
        tokenizer_destroy(&tools[k].tokenizer);
}

/* A caption's cosine under a teacher; NULL: the mean of all that have one. */
static double cosine(const struct catalog_sample *sample, const struct catalog_caption *caption,
                     const char *teacher)
{
    double sum = 0;
    size_t n = 0;

    for (size_t i = 0; i < sample->n_scores; i++) {
        const struct catalog_score *score = &sample->scores[i];

        if (score->index != caption->index || strcmp(score->column, caption->column) != 0 ||
            (teacher != NULL && strcmp(score->teacher, teacher) != 0))
            continue;
        sum += score->value;
        n++;
    }
    return n > 0 ? sum / (double)n : (double)NAN;
}

static enum status count_tokens(const struct sample_score_tools *tools, struct bytes_view text,
                                struct arena *arena, double *value, struct error *err)
{
    const struct tokenizer_encoding plain = {.add_special_tokens = false};
    struct arena mark = *arena;
    int32_t *ids;
    size_t n = 0;
    enum status st = tokenizer_encode(tools->tokenizer, text, &plain, arena, &ids, &n, err);

    *value = (double)n;
    arena_rewind(arena, &mark);
    return st;
}

static enum status of_caption(const struct score_spec *spec, const struct sample_score_tools *tools,
                              const struct catalog_sample *sample,
                              const struct catalog_caption *caption, struct arena *arena,
                              double *value, struct error *err)
{
    switch (spec->kind) {
    case SCORE_SIMILARITY:
        *value = cosine(sample, caption, spec->teacher);
        break;
    case SCORE_LEARNABILITY: /* NaN when a cosine is */
        *value = score_learnability(spec, cosine(sample, caption, spec->learner.teacher),
                                    cosine(sample, caption, spec->reference.teacher));
        break;
    case SCORE_LOG_PROBABILITY:
        *value = caption->score;
        break;
    case SCORE_WORDS:
        *value = (double)text_words(caption->text);
        break;
    case SCORE_CHARACTERS:
        *value = (double)text_characters(caption->text);
        break;
    case SCORE_TOKENS:
        return count_tokens(tools, caption->text, arena, value, err);
    case SCORE_SCRIPT:
        *value = text_script_share(caption->text, tools->script);
        break;
    case SCORE_LANGUAGE:
        *value = text_language_share(caption->text, tools->language);
        break;
    case SCORE_WIDTH:
    case SCORE_HEIGHT:
    case SCORE_MIN_SIDE:
    case SCORE_MAX_SIDE:
    case SCORE_PIXELS:
    case SCORE_ASPECT_RATIO:
        break;
    }
    return ST_OK;
}

static double of_image(enum score_kind kind, double width, double height)
{
    if (width <= 0 || height <= 0)
        return (double)NAN;
    switch (kind) {
    case SCORE_WIDTH:
        return width;
    case SCORE_HEIGHT:
        return height;
    case SCORE_MIN_SIDE:
        return fmin(width, height);
    case SCORE_MAX_SIDE:
        return fmax(width, height);
    case SCORE_PIXELS:
        return width * height;
    case SCORE_ASPECT_RATIO:
        return fmax(width, height) / fmin(width, height);
    case SCORE_SIMILARITY:
    case SCORE_LEARNABILITY:
    case SCORE_LOG_PROBABILITY:
    case SCORE_WORDS:
    case SCORE_CHARACTERS:
    case SCORE_TOKENS:
    case SCORE_SCRIPT:
    case SCORE_LANGUAGE:
        break;
    }
    return (double)NAN;
}

enum status sample_score(const struct score_spec *spec, const struct sample_score_tools *tools,
                         const struct catalog_sample *sample, struct arena *arena, float *score,
                         struct error *err)
{
    double sum = 0, best = (double)NAN;
    size_t n = 0;

    if (!score_kind_is_of_captions(spec->kind)) {
        *score = (float)of_image(spec->kind, sample->width, sample->height);
        return ST_OK;
    }
    for (size_t i = 0; i < sample->n_captions; i++) { /* in order of index */
        double value = (double)NAN;
        enum status st;

        if (strcmp(sample->captions[i].column, spec->caption) != 0)
            continue;
        st = of_caption(spec, tools, sample, &sample->captions[i], arena, &value, err);
        if (st != ST_OK)
            return st;
        if (isnan(value))
            continue;
        if (n++ == 0)
            best = value;
        else if (spec->take == SCORE_TAKE_MAX)
            best = fmax(best, value);
        else if (spec->take == SCORE_TAKE_MIN)
            best = fmin(best, value);
        sum += value;
    }
    *score = (float)(spec->take == SCORE_TAKE_MEAN && n > 0 ? sum / (double)n : best);
    return ST_OK;
}
