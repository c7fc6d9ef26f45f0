/* Many sequences decoded together: waiting captions take the rows of finished ones. Shared by the
 * captioners that decode with caches; the model is three callbacks. Private to reinforce/teach. */
#ifndef REINFORCE_TEACH_DECODE_ROWS_H
#define REINFORCE_TEACH_DECODE_ROWS_H

#include "reinforce/nn/beam.h"
#include "reinforce/nn/sampler.h"
#include "reinforce/teach/captioner.h"

enum { DECODE_MAX_ROWS = 64 };

/** One sequence while it is decoded: which caption it will be, and where it lives in the caches. */
struct decode_sequence {
    size_t image, caption; /* indices; caption < per_image */
    int redraw;
    size_t cache_row;
    struct sampler_row row;
};

/** `ids` of a finished sequence, the start first, as a NUL-terminated text in `results`; the
 * model's own rules. */
typedef enum status decode_say_fn(void *context, const int32_t *ids, int n_ids,
                                  struct arena *results, char **text, size_t *text_len,
                                  struct error *err);

/** What decodes. Plain data. */
struct decode_model {
    void *context;
    size_t vocab_size;  /* V */
    int32_t start, end; /* ids; the start is the row's first and not said */
    int32_t pad;        /* another id that ends a row; `end` if there is none */
    bool mask_pad;      /* never draw it */

    /* Optional: `sequence` begins in its cache row. Not called for a redraw: what the cache holds
     * in front of the row's start is still there. */
    enum status (*begin)(void *context, const struct decode_sequence *sequence, struct error *err);

    /* Required: logits [n, V] behind the last id of each of n sequences. */
    enum status (*step)(void *context, const struct decode_sequence *rows, size_t n, float *logits,
                        struct error *err);

    /* Required. */
    decode_say_fn *say;
};

/**
 * Greedy or sampled captions of B images: `per_image` different ones each, begun in order, at most
 * `capacity` (<= DECODE_MAX_ROWS) together; one that comes out empty is drawn again, a bounded
 * number of times. captions [B, N]: the N = how->n_captions of an image are its `per_image` in
 * order, each repeated N / per_image times. All memory is in `scratch`, texts are in `results`.
 */
NODISCARD enum status decode_rows(const struct decode_model *model,
                                  const struct caption_options *how, const struct bytes_view *uid_b,
                                  size_t B, size_t per_image, size_t capacity,
                                  struct arena *results, struct arena *scratch,
                                  struct caption *captions, struct error *err);

/** The settings of a beam search for `how`, checked. */
NODISCARD enum status decode_beam_config(const struct decode_model *model,
                                         const struct caption_options *how,
                                         struct beam_config *config, struct error *err);

/** `n_wanted` captions from n (>= 1) hypotheses, best first; fewer than wanted: the best is
 * repeated. */
NODISCARD enum status decode_say_best(const struct decode_model *model,
                                      const struct beam_hypothesis *best, int n, int n_wanted,
                                      struct arena *results, struct caption *captions,
                                      struct error *err);

#endif
