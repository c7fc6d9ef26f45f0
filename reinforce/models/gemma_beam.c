#include "reinforce/models/gemma_beam.h"

#include <assert.h>

/* The beams' rows move between the two halves of the cache as beams split; all have the prefix. */
struct beam_model {
    struct gemma_decoder *decoder;
    size_t n_prefix;
    size_t half;   /* rows in each half */
    size_t offset; /* the current rows are [1 + offset, 1 + offset + half) */
};

static enum status step(void *context, const int *parent, const int32_t *token, int n_rows,
                        int position, float *logits, struct error *err)
{
    struct beam_model *model = context;
    size_t row[BEAM_MAX_BEAMS], where[BEAM_MAX_BEAMS];
    size_t to = 1 + (model->offset == 0 ? model->half : 0), at = model->n_prefix + (size_t)position;

    (void)err;
    for (int r = 0; r < n_rows; r++) {
        if (position > 0)
            kv_cache_copy_row(&model->decoder->cache, 1 + model->offset + (size_t)parent[r],
                              to + (size_t)r, model->n_prefix, at);
        row[r] = to + (size_t)r;
        where[r] = at;
    }
    gemma_decoder_step(model->decoder, (size_t)n_rows, row, where, token, logits);
    model->offset = to - 1;
    return ST_OK;
}

size_t gemma_beam_rows(const struct beam_config *config)
{
    return 1 + 2 * (size_t)beam_group_size(config);
}

enum status gemma_beam_search(struct gemma_decoder *decoder, size_t n_prefix,
                              const struct beam_config *config, int n_wanted, struct arena *arena,
                              struct beam_hypothesis *out, int *n_out, struct error *err)
{
    struct beam_model model = {
        .decoder = decoder, .n_prefix = n_prefix, .half = (size_t)beam_group_size(config)};

    assert(decoder->max_rows >= gemma_beam_rows(config));
    for (size_t row = 1; row < gemma_beam_rows(config); row++)
        kv_cache_copy_row(&decoder->cache, 0, row, 0, n_prefix);
    return beam_search(config, decoder->gemma->config.vocab_size, step, &model, n_wanted, arena,
                       out, n_out, err);
}
