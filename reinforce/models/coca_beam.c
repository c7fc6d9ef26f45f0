#include "reinforce/models/coca_beam.h"

/* The beams' rows move between the two halves of the caches as beams split. */
struct beam_model {
    struct coca_decoder decoder;
    const struct coca_image *image;
    size_t half;   /* rows in each half */
    size_t offset; /* the current rows are [offset, offset + half) */
};

static enum status step(void *context, const int *parent, const int32_t *token, int n_rows,
                        int position, float *logits, struct error *err)
{
    struct beam_model *model = context;
    const struct coca_image *image[BEAM_MAX_BEAMS];
    size_t row[BEAM_MAX_BEAMS], where[BEAM_MAX_BEAMS];
    size_t to = model->offset == 0 ? model->half : 0;

    (void)err;
    for (int r = 0; r < n_rows; r++) {
        if (position > 0)
            coca_decoder_copy_row(&model->decoder, model->offset + (size_t)parent[r],
                                  to + (size_t)r, (size_t)position);
        row[r] = to + (size_t)r;
        where[r] = (size_t)position;
        image[r] = model->image;
    }
    coca_decoder_step(&model->decoder, (size_t)n_rows, row, where, token, image, logits);
    model->offset = to;
    return ST_OK;
}

enum status coca_beam_search(const struct coca *coca, const struct coca_image *image,
                             const struct beam_config *config, int n_wanted, struct arena *arena,
                             struct beam_hypothesis *out, int *n_out, struct error *err)
{
    struct beam_model model = {.image = image, .half = (size_t)beam_group_size(config)};
    enum status st = coca_decoder_init(&model.decoder, coca, 2 * model.half,
                                       (size_t)config->max_tokens, arena, err);

    *n_out = 0;
    return st == ST_OK ? beam_search(config, coca->vocab_size, step, &model, n_wanted, arena, out,
                                     n_out, err)
                       : st;
}
