#include "worker/embed_rows.h"

#include "reinforce/base/clock.h"

enum status embed_rows(const struct stage_context *context, struct sample *sample, size_t t,
                       const struct bytes_view *texts, size_t rows, float *out,
                       struct arena *scratch, struct error *err)
{
    const struct engine *engine = context->engine;
    const struct image *views = sample->views + engine->teacher_size[t] * sample->record.n_views;
    struct model_cost *cost = &sample->costs.teachers[t];
    int64_t begun = clock_monotonic_ns(), ns;
    enum status st = texts == NULL
                         ? teacher_embed_images(engine->teachers[t], views, rows, scratch, out, err)
                         : teacher_embed_texts(engine->teachers[t], texts, rows, scratch, out, err);

    ns = clock_monotonic_ns() - begun;
    cost->ns += ns;
    (void)atomic_fetch_add(&context->stats->teacher_ns[t], ns);
    if (st != ST_OK) {
        error_add_context(err, "teacher \"%s\"", context->job->teachers[t].name);
        return st;
    }
    *(texts == NULL ? &cost->images : &cost->texts) += (int64_t)rows;
    (void)atomic_fetch_add(texts == NULL ? &context->stats->views_embedded
                                         : &context->stats->texts_embedded,
                           (long long)rows);
    return ST_OK;
}

double embed_rows_score(const float *views, size_t n_views, size_t stride, const float *text,
                        size_t dim)
{
    double sum = 0;

    for (size_t a = 0; a < n_views; a++)
        for (size_t d = 0; d < dim; d++)
            sum += (double)views[a * stride + d] * (double)text[d];
    return sum / (double)n_views;
}
