#include "reinforce/curate/selection_options.h"

#include <math.h>
#include <string.h>

enum { MAX_THREADS = 64 };

void selection_options_default(struct selection_options *options)
{
    *options = (struct selection_options){.criterion = SELECT_LEARNABILITY,
                                          .loss = PAIR_SIGMOID,
                                          .n_chunks = 16,
                                          .gain = 1,
                                          .n_threads = 1};
}

size_t selection_options_preset(struct selection_options *options, enum selection_preset preset)
{
    selection_options_default(options);
    options->n_selected = 32768;
    return preset == SELECT_ACID_HALF ? 65536 : 131072;
}

enum status selection_options_check(const struct selection_options *options, size_t B,
                                    struct error *err)
{
    const struct selection_options *o = options;

    if (B == 0 || B > UINT32_MAX)
        return error_set(err, ST_INVALID, "a super-batch has %zu examples", B);
    if (o->criterion < SELECT_LEARNABILITY || o->criterion > SELECT_UNIFORM)
        return error_set(err, ST_INVALID, "no criterion has the number %d", (int)o->criterion);
    if (o->loss != PAIR_SIGMOID && o->loss != PAIR_SOFTMAX)
        return error_set(err, ST_INVALID, "no loss has the number %d", (int)o->loss);
    if (o->n_selected == 0 || o->n_selected > B)
        return error_set(err, ST_INVALID, "%zu examples are to be selected from %zu", o->n_selected,
                         B);
    if (o->n_chunks == 0 || o->n_chunks > o->n_selected || o->n_chunks >= UINT16_MAX)
        return error_set(err, ST_INVALID, "%zu examples are to be selected in %zu chunks",
                         o->n_selected, o->n_chunks);
    if (!(o->gain >= 0) || !isfinite(o->gain))
        return error_set(err, ST_INVALID, "the gain is %g; it is 0 or more", o->gain);
    if (!(o->uniform_share >= 0 && o->uniform_share <= 1))
        return error_set(err, ST_INVALID, "the uniform share is %g; it is 0 to 1",
                         o->uniform_share);
    if (o->normalise_by_count && o->loss == PAIR_SOFTMAX)
        return error_set(err, ST_INVALID,
                         "normalise_by_count is for sums; a softmax's scores are none");
    if (o->n_threads == 0 || o->n_threads > MAX_THREADS)
        return error_set(err, ST_INVALID, "%zu threads; 1 to %d can select", o->n_threads,
                         MAX_THREADS);
    if ((o->quotas != NULL) != (o->n_strata > 0) || o->n_strata > (size_t)UINT16_MAX + 1)
        return error_set(err, ST_INVALID, "%zu strata and %s", o->n_strata,
                         o->quotas != NULL ? "quotas" : "no quotas");
    return ST_OK;
}

double selection_learner_sign(const struct selection_options *options)
{
    return options->criterion == SELECT_LEARNABILITY || options->criterion == SELECT_HARD_LEARNER
               ? 1
               : 0;
}

double selection_reference_sign(const struct selection_options *options)
{
    return options->criterion == SELECT_LEARNABILITY || options->criterion == SELECT_EASY_REFERENCE
               ? -1
               : 0;
}
