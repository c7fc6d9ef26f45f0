#include "reinforce/text/language.h"
#include "reinforce/text/measure.h"
#include "tests/support/test.h"
#include "worker/sample_score.h"

#include <math.h>

enum { ARENA_BYTES = 1 << 20 };

#define TEXT(s)                                                                                    \
    {                                                                                              \
        (const uint8_t *)(s), sizeof(s) - 1                                                        \
    }

static const struct catalog_caption captions[] = {
    {"syn_text", 0, TEXT("a brown dog"), -1.5},
    {"syn_text", 1, TEXT("12"), -0.5},
    {"long", 0, TEXT("un petit chien brun qui court dans un champ d'herbe"), NAN},
    {"text", 0, TEXT("dog \xd0\xbf\xd1\x91\xd1\x81"), NAN},
};
static const struct catalog_score scores[] = {
    {"a", "syn_text", 0, 0.5},  {"b", "syn_text", 0, 0.25}, {"a", "syn_text", 1, 0.125},
    {"b", "syn_text", 1, 0.25}, {"a", "text", 0, 0.75},
};
static const struct catalog_sample sample = {.state = CATALOG_SAMPLE_DONE,
                                             .width = 300,
                                             .height = 200,
                                             .n_captions = ARRAY_LEN(captions),
                                             .captions = captions,
                                             .n_scores = ARRAY_LEN(scores),
                                             .scores = scores};

static float score(struct score_spec spec, const struct catalog_sample *of)
{
    struct sample_score_tools tools = {
        .script = spec.script != NULL ? text_script_find(spec.script) : -1,
        .language = spec.language != NULL ? text_language_find(spec.language) : -1};
    struct arena arena;
    struct error err = {0};
    float value;

    arena_init(&arena, ARENA_BYTES);
    assert_ok(sample_score(&spec, &tools, of, &arena, &value, &err));
    arena_release(&arena);
    return value;
}

static void a_score_of_captions_takes_what_is_asked(void **state)
{
    const struct {
        struct score_spec spec;
        float want;
    } cases[] = {
        {{.kind = SCORE_SIMILARITY, .caption = "syn_text"}, 0.28125f},
        {{.kind = SCORE_SIMILARITY, .caption = "syn_text", .teacher = "a"}, 0.3125f},
        {{.kind = SCORE_SIMILARITY, .caption = "syn_text", .teacher = "a", .take = SCORE_TAKE_MAX},
         0.5f},
        {{.kind = SCORE_SIMILARITY, .caption = "syn_text", .teacher = "a", .take = SCORE_TAKE_MIN},
         0.125f},
        {{.kind = SCORE_SIMILARITY, .caption = "syn_text", .take = SCORE_TAKE_FIRST}, 0.375f},
        {{.kind = SCORE_SIMILARITY, .caption = "text"}, 0.75f},
        {{.kind = SCORE_LOG_PROBABILITY, .caption = "syn_text"}, -1},
        {{.kind = SCORE_WORDS, .caption = "syn_text", .take = SCORE_TAKE_MAX}, 3},
        {{.kind = SCORE_CHARACTERS, .caption = "text"}, 7},
        {{.kind = SCORE_SCRIPT, .caption = "text", .script = "Latin"}, 0.5f},
        {{.kind = SCORE_SCRIPT, .caption = "syn_text", .script = "Latin"},
         1}, /* of one with letters */
        {{.kind = SCORE_LANGUAGE, .caption = "long", .language = "en"}, 0},
        {{.kind = SCORE_LANGUAGE, .caption = "syn_text", .language = "en"},
         0.92f}, /* of the one that has letters */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (score(cases[i].spec, &sample) != cases[i].want)
            fail_msg("case %zu: %g", i, (double)score(cases[i].spec, &sample));
}

static void a_score_of_images_is_of_their_size(void **state)
{
    static const struct {
        enum score_kind kind;
        float want;
    } cases[] = {{SCORE_WIDTH, 300},    {SCORE_HEIGHT, 200},   {SCORE_MIN_SIDE, 200},
                 {SCORE_MAX_SIDE, 300}, {SCORE_PIXELS, 60000}, {SCORE_ASPECT_RATIO, 1.5f}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_true(score((struct score_spec){.kind = cases[i].kind}, &sample) == cases[i].want);
}

static void what_is_not_there_has_no_score(void **state)
{
    const struct score_spec cases[] = {
        {.kind = SCORE_SIMILARITY, .caption = "syn_text", .teacher = "c"},
        {.kind = SCORE_SIMILARITY, .caption = "other"},
        {.kind = SCORE_LEARNABILITY,
         .caption = "text",
         .learner = {"a", 1, 0},
         .reference = {"b", 1, 0}}, /* b has not seen it */
        {.kind = SCORE_LOG_PROBABILITY, .caption = "text"},
        {.kind = SCORE_SCRIPT, .caption = "syn_text", .script = "Han", .take = SCORE_TAKE_FIRST},
    };
    const struct catalog_sample undecoded = {.state = CATALOG_SAMPLE_DONE};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases) - 1; i++)
        if (!isnan(score(cases[i], &sample)))
            fail_msg("case %zu: %g", i, (double)score(cases[i], &sample));
    assert_true(score(cases[4], &sample) == 0);
    assert_true(isnan(score((struct score_spec){.kind = SCORE_WIDTH}, &undecoded)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_score_of_captions_takes_what_is_asked),
        cmocka_unit_test(a_score_of_images_is_of_their_size),
        cmocka_unit_test(what_is_not_there_has_no_score),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
