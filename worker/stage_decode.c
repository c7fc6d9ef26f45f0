#include "worker/stage_decode.h"

#include "reinforce/image/decode.h"
#include "reinforce/image/encode.h"

/* Decoders and resampling need scratch beside the pixels they return. */
enum { DECODE_BYTES_PER_PIXEL = 8, FIXED_BYTES = 1 << 20, UPRIGHT_JPEG_QUALITY = 95 };

static size_t views_bytes(const struct engine *engine, size_t n_views)
{
    size_t bytes = 0;

    for (size_t k = 0; k < engine->n_sizes; k++) {
        size_t side = (size_t)MAX(engine->sizes[k], engine->augment.size);

        bytes += side * side * 12; /* crop, resized and one operator's output */
    }
    return bytes * n_views;
}

/* Draws the views of a new sample's image of this size; one that is being extended keeps those it
 * has. */
static enum status draw_views(const struct stage_context *context, struct sample *sample, int width,
                              int height, struct error *err)
{
    struct record *record = &sample->record;
    size_t n_views = (size_t)context->job->views.count;
    enum status st = ST_OK;

    if (context->engine->n_teachers == 0)
        return ST_OK;
    if (sample->work->grant.u.lease_grant.input_source == WIRE_SOURCE_PREVIOUS &&
        record->n_views == n_views)
        return ST_OK;
    record->n_views = 0;
    st = arena_calloc(&sample->arena, n_views, sizeof *record->views, &record->views, err);
    if (st != ST_OK)
        return st;
    record->n_views = n_views;
    for (size_t a = 0; a < n_views; a++)
        augment_sample(&context->engine->augment, context->job->seed, record->uid, (uint32_t)a,
                       width, height, &record->views[a]);
    return ST_OK;
}

/* By how much an image of this size may be reduced, for every captioner and every view. */
static int reduction_of(const struct stage_context *context, const struct record *record, int width,
                        int height)
{
    const struct engine *engine = context->engine;
    struct augment_config config = engine->augment;
    int reduction = context->job->fast_decode ? RESAMPLE_LARGEST_REDUCTION : 1;

    for (size_t i = 0; i < engine->n_captioners; i++)
        reduction =
            MIN(reduction, preprocess_reduction(&captioner_info(engine->captioners[i])->preprocess,
                                                width, height));
    for (size_t k = 0; k < engine->n_sizes; k++) {
        config.size = engine->sizes[k];
        for (size_t a = 0; a < record->n_views; a++)
            reduction = MIN(reduction, augment_reduction(&config, &record->views[a]));
    }
    return reduction;
}

static enum status cut_views(const struct stage_context *context, struct sample *sample,
                             struct error *err)
{
    const struct engine *engine = context->engine;
    size_t n_views = sample->record.n_views;
    enum status st = arena_calloc(&sample->pixels, MAX(engine->n_sizes * n_views, (size_t)1),
                                  sizeof *sample->views, &sample->views, err);

    for (size_t k = 0; k < engine->n_sizes && st == ST_OK; k++) {
        struct augment_config config = engine->augment;

        config.size = engine->sizes[k]; /* as a trainer at another resolution replays it */
        for (size_t a = 0; a < n_views && st == ST_OK; a++)
            st = augment_apply(&config, &sample->record.views[a], &sample->image, &sample->pixels,
                               &sample->views[k * n_views + a], err);
    }
    return st;
}

/* Turned images are stored anew, since trainers replay boxes on the pixels they decode. */
static enum status decode_upright(const struct stage_context *context, struct sample *sample,
                                  struct error *err)
{
    struct record *record = &sample->record;
    struct byte_buf file;
    bool changed;
    char *copy;
    enum status st;

    byte_buf_init(&file, (size_t)context->job->workers.memory_bytes);
    st = image_write_upright(record->image, &context->job->limits, UPRIGHT_JPEG_QUALITY,
                             &sample->pixels, &file, &sample->image, &changed, err);
    if (st == ST_OK)
        st = arena_strndup(&sample->arena, (const char *)file.data, file.len, &copy, err);
    if (st == ST_OK) {
        record->image = bytes_view_of(copy, file.len);
        record->image_ext = image_format_extension(image_sniff(record->image));
    }
    byte_buf_release(&file);
    return st == ST_OK ? draw_views(context, sample, sample->image.width, sample->image.height, err)
                       : st;
}

static enum status decode_stored(const struct stage_context *context, struct sample *sample,
                                 const struct image_info *info, struct error *err)
{
    struct record *record = &sample->record;
    enum status st = draw_views(context, sample, info->width, info->height, err);

    if (st != ST_OK)
        return st;
    return image_decode_reduced(record->image, &context->job->limits,
                                reduction_of(context, record, info->width, info->height),
                                &sample->pixels, &sample->image, err);
}

static void decode(const struct stage_context *context, struct sample *sample)
{
    struct record *record = &sample->record;
    struct image_info info;
    struct error err = {0};
    enum status st;
    size_t bytes;

    if (context->job->input.require_caption && record->n_captions == 0) {
        (void)error_set(
            &err, ST_INVALID,
            "the sample has no caption; set input.require_caption to false to take such samples");
        sample_fail(sample, STAGE_DECODE, "missing_caption", &err);
        return;
    }
    st = image_read_info(record->image, &context->job->limits, &info, &err);
    if (st != ST_OK) {
        sample_fail(sample, STAGE_DECODE,
                    st == ST_INVALID ? "image_over_limit" : "undecodable_image", &err);
        return;
    }
    bytes = (size_t)info.width * (size_t)info.height * DECODE_BYTES_PER_PIXEL + FIXED_BYTES +
            views_bytes(context->engine, (size_t)context->job->views.count);
    memory_budget_reserve(context->budget, bytes);
    sample->reserved_bytes = bytes;
    st = context->job->apply_exif_orientation && info.exif_orientation != 1
             ? decode_upright(context, sample, &err)
             : decode_stored(context, sample, &info, &err);
    if (st != ST_OK) {
        sample_fail(sample, STAGE_DECODE, "undecodable_image", &err);
        return;
    }
    if (context->engine->n_teachers > 0) {
        st = cut_views(context, sample, &err);
        if (st != ST_OK)
            sample_fail(sample, STAGE_DECODE, "augment_failed", &err);
    }
}

void stage_decode_run(struct stage_decode *stage)
{
    void *item;

    while (queue_pop(stage->in, &item) == ST_OK) {
        struct sample *sample = item;
        int64_t begun = stage_begin();

        if (stage_wants(sample))
            decode(stage->context, sample);
        stage_end(stage->context, STAGE_DECODE, begun);
        if (queue_push(stage->out, sample, 0) != ST_OK)
            break;
    }
}
