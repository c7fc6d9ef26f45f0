#include "reinforce/curate/pool.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool score_kind_is_of_captions(enum score_kind kind)
{
    return kind <= SCORE_LANGUAGE;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_number(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static bool same_model(const struct score_model *a, const struct score_model *b)
{
    return same_text(a->teacher, b->teacher) && same_number(a->scale, b->scale) &&
           same_number(a->bias, b->bias);
}

bool score_spec_equal(const struct score_spec *a, const struct score_spec *b)
{
    return a->kind == b->kind && a->take == b->take && same_text(a->caption, b->caption) &&
           same_text(a->teacher, b->teacher) && same_text(a->script, b->script) &&
           same_text(a->language, b->language) && same_text(a->tokenizer, b->tokenizer) &&
           same_model(&a->learner, &b->learner) && same_model(&a->reference, &b->reference);
}

void score_spec_describe(const struct score_spec *spec, char text[192])
{
    static const char *const kinds[] = {
        [SCORE_SIMILARITY] = "similarity",
        [SCORE_LEARNABILITY] = "learnability",
        [SCORE_LOG_PROBABILITY] = "log-probability",
        [SCORE_WORDS] = "words",
        [SCORE_CHARACTERS] = "characters",
        [SCORE_TOKENS] = "tokens",
        [SCORE_SCRIPT] = "script",
        [SCORE_LANGUAGE] = "language",
        [SCORE_WIDTH] = "width",
        [SCORE_HEIGHT] = "height",
        [SCORE_MIN_SIDE] = "shorter side",
        [SCORE_MAX_SIDE] = "longer side",
        [SCORE_PIXELS] = "pixels",
        [SCORE_ASPECT_RATIO] = "aspect ratio",
    };
    static const char *const takes[] = {
        [SCORE_TAKE_MEAN] = "mean",
        [SCORE_TAKE_MAX] = "max",
        [SCORE_TAKE_MIN] = "min",
        [SCORE_TAKE_FIRST] = "first",
    };
    const char *of = spec->script != NULL ? spec->script : spec->language;
    char by[96] = "";

    if (!score_kind_is_of_captions(spec->kind)) {
        (void)snprintf(text, 192, "%s", kinds[spec->kind]);
        return;
    }
    if (spec->kind == SCORE_LEARNABILITY)
        (void)snprintf(by, sizeof by, " for %s after %s", spec->learner.teacher,
                       spec->reference.teacher);
    else if (spec->teacher != NULL)
        (void)snprintf(by, sizeof by, " by %s", spec->teacher);
    (void)snprintf(text, 192, "%s%s%s of %s (%s)%s", kinds[spec->kind], of != NULL ? " " : "",
                   of != NULL ? of : "", spec->caption, takes[spec->take], by);
}

double score_learnability(const struct score_spec *spec, double learner_cosine,
                          double reference_cosine)
{
    return pair_softplus(-(spec->learner.scale * learner_cosine + spec->learner.bias)) -
           pair_softplus(-(spec->reference.scale * reference_cosine + spec->reference.bias));
}
