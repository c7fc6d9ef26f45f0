/* One score of one sample, from what the catalog knows of it. */
#ifndef REINFORCE_COORDINATOR_CURATION_DATASET_SCORE_H
#define REINFORCE_COORDINATOR_CURATION_DATASET_SCORE_H

#include "reinforce/curate/pool.h"
#include "reinforce/text/tokenizer.h"
#include "storage/catalog/catalog.h"

/** What a score is measured with besides the sample. */
struct dataset_score_tools {
    struct tokenizer *tokenizer; /* SCORE_TOKENS */
    int script;                  /* SCORE_SCRIPT: text_script_find() */
    int language;                /* SCORE_LANGUAGE: text_language_find() */
};

/**
 * *score is NaN when the sample has none: no such caption, a caption without letters, an image that
 * was never decoded. `arena` is scratch. Errors are the tokenizer's.
 */
NODISCARD enum status dataset_score(const struct score_spec *spec,
                                    const struct dataset_score_tools *tools,
                                    const struct catalog_sample *sample, struct arena *arena,
                                    float *score, struct error *err);

#endif
