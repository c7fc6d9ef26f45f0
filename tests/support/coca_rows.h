/* Whole rows of ids from CoCa, by the plainest use of decoder, sampler and beam search. */
#ifndef REINFORCE_TESTS_COCA_ROWS_H
#define REINFORCE_TESTS_COCA_ROWS_H

#include "reinforce/models/coca_beam.h"
#include "reinforce/nn/sampler.h"

/** One row for one image; ids int32 [config->max_tokens]. Returns how many it holds. Greedy: `rng`
 * may be NULL. Fails the test on an error. */
int coca_sample_row(const struct coca *coca, const struct coca_image *image,
                    const struct sampler_config *config, int32_t start, const struct philox *rng,
                    int32_t *ids);

/** The best row of a beam search. */
int coca_beam_row(const struct coca *coca, const struct coca_image *image,
                  const struct beam_config *config, int32_t *ids);

#endif
