/* One score of one sample, from what the catalog knows of it, or will. */
#ifndef REINFORCE_WORKER_SAMPLE_SCORE_H
#define REINFORCE_WORKER_SAMPLE_SCORE_H

#include "reinforce/curate/pool.h"
#include "reinforce/text/tokenizer.h"
#include "storage/catalog/catalog.h"

/** What a score is measured with besides the sample. */
struct sample_score_tools {
    struct tokenizer *tokenizer; /* SCORE_TOKENS */
    int script;                  /* SCORE_SCRIPT: text_script_find() */
    int language;                /* SCORE_LANGUAGE: text_language_find() */
};

/** Those of n scores into a zeroed array; they must be closed whatever happens. Errors are the
 * tokenizer's. */
NODISCARD enum status sample_score_tools_open(const struct score_spec *specs, size_t n,
                                              struct sample_score_tools *tools, struct error *err);
void sample_score_tools_close(struct sample_score_tools *tools, size_t n);

/**
 * *score is NaN when the sample has none: no such caption, a caption without letters, an image that
 * was never decoded. `arena` is scratch. Errors are the tokenizer's.
 */
NODISCARD enum status sample_score(const struct score_spec *spec,
                                   const struct sample_score_tools *tools,
                                   const struct catalog_sample *sample, struct arena *arena,
                                   float *score, struct error *err);

#endif
