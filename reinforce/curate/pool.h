/* The samples that filters choose from, and the scores that they are judged by. */
#ifndef REINFORCE_CURATE_POOL_H
#define REINFORCE_CURATE_POOL_H

#include "reinforce/curate/super_batch.h"

/** What is measured of a sample. */
enum score_kind {
    SCORE_SIMILARITY = 0,      /* a teacher's cosine of image and caption */
    SCORE_LEARNABILITY = 1,    /* score_learnability() of two teachers' cosines */
    SCORE_LOG_PROBABILITY = 2, /* per token, as the captioner said it; synthetic captions only */
    SCORE_WORDS = 3,           /* of a caption */
    SCORE_CHARACTERS = 4,
    SCORE_TOKENS = 5,   /* by a tokenizer that is named */
    SCORE_SCRIPT = 6,   /* share of a caption's letters */
    SCORE_LANGUAGE = 7, /* share of a caption */
    SCORE_WIDTH = 8,    /* of the image, pixels */
    SCORE_HEIGHT = 9,
    SCORE_MIN_SIDE = 10,
    SCORE_MAX_SIDE = 11,
    SCORE_PIXELS = 12,
    SCORE_ASPECT_RATIO = 13, /* longer side / shorter side */
};

/** Which of a column's captions counts. */
enum score_take {
    SCORE_TAKE_MEAN = 0,
    SCORE_TAKE_MAX = 1,
    SCORE_TAKE_MIN = 2,
    SCORE_TAKE_FIRST = 3,
};

/** A model as a sigmoid loss sees it: logit = scale * cosine + bias. */
struct score_model {
    const char *teacher;
    double scale, bias; /* NaN: as the model itself has it */
};

/** One score; strings are borrowed. Fields that its kind does not look at are zero. */
struct score_spec {
    enum score_kind kind;
    enum score_take take;
    const char *caption;   /* column: "text" for the real caption */
    const char *teacher;   /* SCORE_SIMILARITY; NULL: the mean of all */
    const char *script;    /* SCORE_SCRIPT: a name for text_script_find() */
    const char *language;  /* SCORE_LANGUAGE: a code for text_language_find() */
    const char *tokenizer; /* SCORE_TOKENS: folder of the model */
    struct score_model learner, reference;
};

/** n samples with their scores, column by column; plain data, memory is the owner's. */
struct pool {
    size_t n;
    struct example_id *ids; /* [n] */
    size_t n_scores;
    struct score_spec *specs; /* [n_scores] */
    float **scores;           /* [n_scores][n]; NaN: the sample has no such score */
};

/** Whether a score is of captions: has `caption` and `take`. */
bool score_kind_is_of_captions(enum score_kind kind);

bool score_spec_equal(const struct score_spec *a, const struct score_spec *b);

/** "similarity of syn_text (max) by clip-a": for people. Cut when it does not fit. */
void score_spec_describe(const struct score_spec *spec, char text[192]);

/**
 * Learner's loss less reference's of a pair by itself, under the sigmoid loss: softplus(-x_L) -
 * softplus(-x_R). High: wrong for the learner, right for the reference. Source: JEST and ACID with
 * frozen models and one chunk.
 */
double score_learnability(const struct score_spec *spec, double learner_cosine,
                          double reference_cosine);

#endif
