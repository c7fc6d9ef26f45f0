/* Beam search with Gemma as the model, behind a prefix. */
#ifndef REINFORCE_MODELS_GEMMA_BEAM_H
#define REINFORCE_MODELS_GEMMA_BEAM_H

#include "reinforce/models/gemma.h"
#include "reinforce/nn/beam.h"

/** Rows of a decoder's cache that gemma_beam_search() uses, row 0 among them. */
size_t gemma_beam_rows(const struct beam_config *config);

/**
 * The best `n_wanted` sequences behind the first n_prefix positions of the cache's row 0, best
 * first, in out[0..*n_out); see beam_search(). The start of each, config->start, stands at position
 * n_prefix. `config` has passed beam_config_check(). Ids and working memory are in `arena`.
 */
NODISCARD enum status gemma_beam_search(struct gemma_decoder *decoder, size_t n_prefix,
                                        const struct beam_config *config, int n_wanted,
                                        struct arena *arena, struct beam_hypothesis *out,
                                        int *n_out, struct error *err);

#endif
