#include "reinforce/teach/teacher.h"

#include "reinforce/models/snapshot.h"
#include "reinforce/nn/ops.h"
#include "reinforce/teach/teacher_clip.h"
#include "reinforce/teach/teacher_siglip.h"

#include <assert.h>
#include <math.h>

#define NORM_TOLERANCE 1e-3

/* Which kind runs which family of snapshot. */
static const struct {
    enum snapshot_family family;
    const struct teacher_ops *ops;
} kinds[] = {
    {SNAPSHOT_CLIP, &teacher_clip},
    {SNAPSHOT_MOBILECLIP, &teacher_clip},
    {SNAPSHOT_SIGLIP, &teacher_siglip},
    {SNAPSHOT_SIGLIP2, &teacher_siglip},
};

enum status teacher_open(const struct teacher_options *options, struct teacher **out,
                         struct error *err)
{
    struct snapshot snapshot;
    enum status st = snapshot_read(options->model_dir, options->activation, &snapshot, err);

    *out = NULL;
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (kinds[i].family == snapshot.family)
            return kinds[i].ops->open(options, out, err);
    return error_set(err, ST_INVALID, "model \"%s\" is a %s model, which cannot be a teacher",
                     options->model_dir, snapshot_family_name(snapshot.family));
}

const struct teacher_info *teacher_info(const struct teacher *teacher)
{
    return &teacher->info;
}

/* A row that is not finite, or not of unit length, would poison every distance a trainer takes to
 * it. */
static enum status check_rows(const struct teacher *teacher, const float *emb, size_t B,
                              const char *what, struct error *err)
{
    size_t D = teacher->info.dim;

    for (size_t b = 0; b < B; b++) {
        double sum = 0;

        if (!ops_all_finite(emb + b * D, D))
            return error_set(err, ST_CORRUPT, "the embedding of %s %zu is not finite", what, b);
        for (size_t d = 0; d < D; d++)
            sum += (double)emb[b * D + d] * (double)emb[b * D + d];
        if (fabs(sqrt(sum) - 1) > NORM_TOLERANCE)
            return error_set(err, ST_CORRUPT, "the embedding of %s %zu has length %g, not 1", what,
                             b, sqrt(sum));
    }
    return ST_OK;
}

enum status teacher_embed_images(const struct teacher *teacher, const struct image *view_b,
                                 size_t B, struct arena *scratch, float *emb, struct error *err)
{
    enum status st;

    for (size_t b = 0; b < B; b++)
        assert(view_b[b].channels == 3 &&
               preprocess_fits(&teacher->info.preprocess, view_b[b].width, view_b[b].height));
    st = teacher->ops->embed_images(teacher, view_b, B, scratch, emb, err);
    return st == ST_OK ? check_rows(teacher, emb, B, "view", err) : st;
}

enum status teacher_embed_texts(const struct teacher *teacher, const struct bytes_view *text_b,
                                size_t B, struct arena *scratch, float *emb, struct error *err)
{
    enum status st = teacher->ops->embed_texts(teacher, text_b, B, scratch, emb, err);

    return st == ST_OK ? check_rows(teacher, emb, B, "text", err) : st;
}

void teacher_close(struct teacher **teacher)
{
    if (*teacher != NULL)
        (*teacher)->ops->close(*teacher);
    *teacher = NULL;
}
