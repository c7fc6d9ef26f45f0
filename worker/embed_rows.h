/* A teacher's embeddings of one sample, for the stages that need them. */
#ifndef REINFORCE_WORKER_EMBED_ROWS_H
#define REINFORCE_WORKER_EMBED_ROWS_H

#include "worker/stage.h"

/**
 * Embeds texts, or with NULL the sample's views, under teacher t, and charges the sample for it.
 * out  float32 [rows, dim of t]
 * `scratch` may be reset afterwards. ST_CORRUPT: what came out is no embedding; the context names
 * the teacher.
 */
NODISCARD enum status embed_rows(const struct stage_context *context, struct sample *sample,
                                 size_t t, const struct bytes_view *texts, size_t rows, float *out,
                                 struct arena *scratch, struct error *err);

/**
 * Mean over the views of the cosine of view and text, in double and in a fixed order.
 * views  float32 [n_views, dim], rows `stride` apart; text float32 [dim]; unit rows
 */
double embed_rows_score(const float *views, size_t n_views, size_t stride, const float *text,
                        size_t dim);

#endif
