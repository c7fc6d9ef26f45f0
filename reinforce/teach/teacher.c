#include "reinforce/teach/teacher.h"

#include "reinforce/models/snapshot.h"
#include "reinforce/teach/teacher_clip.h"
#include "reinforce/teach/teacher_siglip.h"

#include <assert.h>

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

enum status teacher_embed_images(const struct teacher *teacher, const struct image *view_b,
                                 size_t B, struct arena *scratch, float *emb, struct error *err)
{
    for (size_t b = 0; b < B; b++)
        assert(view_b[b].channels == 3 &&
               preprocess_fits(&teacher->info.preprocess, view_b[b].width, view_b[b].height));
    return teacher->ops->embed_images(teacher, view_b, B, scratch, emb, err);
}

enum status teacher_embed_texts(const struct teacher *teacher, const struct bytes_view *text_b,
                                size_t B, struct arena *scratch, float *emb, struct error *err)
{
    return teacher->ops->embed_texts(teacher, text_b, B, scratch, emb, err);
}

void teacher_close(struct teacher **teacher)
{
    if (*teacher != NULL)
        (*teacher)->ops->close(*teacher);
    *teacher = NULL;
}
