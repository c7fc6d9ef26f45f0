#include "worker/dtype/comparison.h"

#include "reinforce/base/parallel.h"
#include "reinforce/image/decode.h"

#include <string.h>

/* Address ranges, not allocations: caches of a large model take what they need of it. */
#define SCRATCH_BYTES ((size_t)16 << 30)
#define RESULTS_BYTES ((size_t)1 << 30)

/* One run, seen by all its threads. */
struct run {
    const struct comparison *comparison;
    const struct teacher *teacher;
    struct comparison_rows *rows;
    const struct captioner *captioner;
    const struct caption_options *how;
    struct comparison_captions *captions;
};

/* What one sample is quarantined for in a job costs one sample here, too. */
static enum status forgive(enum status st)
{
    return st == ST_CORRUPT || st == ST_INVALID ? ST_OK : st;
}

static enum status check_stop(const struct comparison *comparison, struct error *err)
{
    if (comparison->stop != NULL && atomic_load(comparison->stop))
        return error_set(err, ST_CANCELLED, "comparing was stopped");
    return ST_OK;
}

static enum status embed_image(const struct run *run, size_t i, struct arena *scratch,
                               struct error *err)
{
    const struct first_image *first = &run->comparison->first->images[i];
    struct comparison_rows *rows = run->rows;
    float *row = rows->images + i * rows->dim;
    struct image image, crop;
    enum status st = image_decode(first->file, &run->comparison->job->limits, scratch, &image, err);

    if (st == ST_OK)
        st =
            preprocess_pixels(&teacher_info(run->teacher)->preprocess, &image, scratch, &crop, err);
    if (st == ST_OK)
        st = teacher_embed_images(run->teacher, &crop, 1, scratch, row, err);
    rows->image_done[i] = st == ST_OK;
    if (st != ST_OK)
        memset(row, 0, rows->dim * sizeof *row);
    return forgive(st);
}

static enum status embed_text(const struct run *run, size_t i, struct arena *scratch,
                              struct error *err)
{
    const struct bytes_view *text = &run->comparison->first->images[i].text;
    struct comparison_rows *rows = run->rows;
    float *row = rows->texts + i * rows->dim;
    enum status st;

    if (text->data == NULL)
        return ST_OK;
    st = teacher_embed_texts(run->teacher, text, 1, scratch, row, err);
    rows->text_done[i] = st == ST_OK;
    if (st != ST_OK)
        memset(row, 0, rows->dim * sizeof *row);
    return forgive(st);
}

static enum status embed(void *ctx, size_t i, struct error *err)
{
    const struct run *run = ctx;
    struct arena scratch;
    enum status st = check_stop(run->comparison, err);

    arena_init(&scratch, SCRATCH_BYTES);
    if (st == ST_OK)
        st = embed_image(run, i, &scratch, err);
    arena_reset(&scratch);
    if (st == ST_OK)
        st = embed_text(run, i, &scratch, err);
    arena_release(&scratch);
    return st;
}

enum status comparison_embed(const struct comparison *comparison, const struct teacher *teacher,
                             struct arena *arena, struct comparison_rows *rows, struct error *err)
{
    struct run run = {.comparison = comparison, .teacher = teacher, .rows = rows};
    size_t dim = teacher_info(teacher)->dim;
    enum status st;

    *rows = (struct comparison_rows){.dim = dim};
    st = arena_calloc(arena, FIRST_IMAGES * dim, sizeof(float), &rows->images, err);
    if (st == ST_OK)
        st = arena_calloc(arena, FIRST_IMAGES * dim, sizeof(float), &rows->texts, err);
    return st == ST_OK ? parallel_run(comparison->first->n, comparison->threads, embed, &run, err)
                       : st;
}

/* Rows that are `done` move to the front of both; their number. */
static size_t compact(float *a, float *b, const bool *done, size_t n, size_t dim)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        if (!done[i])
            continue;
        memmove(a + kept * dim, a + i * dim, dim * sizeof *a);
        memmove(b + kept * dim, b + i * dim, dim * sizeof *b);
        kept++;
    }
    return kept;
}

enum status comparison_of_rows(const struct comparison *comparison,
                               struct comparison_rows *reference, struct comparison_rows *other,
                               struct arena *arena, struct fidelity_cosines *images,
                               struct fidelity_cosines *texts, struct error *err)
{
    size_t dim = reference->dim, n = comparison->first->n;
    size_t n_images = compact(reference->images, other->images, reference->image_done, n, dim);
    size_t n_texts = compact(reference->texts, other->texts, reference->text_done, n, dim);
    enum status st =
        fidelity_of_rows(reference->images, other->images, n_images, dim, arena, images, err);

    return st == ST_OK
               ? fidelity_of_rows(reference->texts, other->texts, n_texts, dim, arena, texts, err)
               : st;
}

static enum status caption(void *ctx, size_t i, struct error *err)
{
    const struct run *run = ctx;
    const struct first_image *first = &run->comparison->first->images[i];
    struct comparison_captions *to = run->captions;
    struct caption *captions = to->captions + i * to->n_prompts;
    struct arena scratch, pixels;
    struct image image;
    enum status st = check_stop(run->comparison, err);

    arena_init(&scratch, SCRATCH_BYTES);
    arena_init(&pixels, SCRATCH_BYTES);
    if (st == ST_OK)
        st = image_decode(first->file, &run->comparison->job->limits, &pixels, &image, err);
    if (st == ST_OK)
        st = captioner_caption_images(run->captioner, &image, &first->uid, 1, run->how,
                                      &to->results[i], &scratch, captions, err);
    to->done[i] = st == ST_OK;
    for (size_t p = 0; p < to->n_prompts && st != ST_OK; p++)
        captions[p] = (struct caption){.text = ""};
    arena_release(&pixels);
    arena_release(&scratch);
    return forgive(st);
}

/* One caption of each prompt. */
static enum status greedily(const struct caption_options *how, struct caption_options *greedy,
                            struct error *err)
{
    struct bytes_view prompts[CAPTION_MAX_PROMPTS];
    size_t n;
    enum status st;

    *greedy = *how;
    greedy->strategy = CAPTION_GREEDY;
    greedy->n_captions = CAPTION_MAX_PROMPTS;
    st = caption_prompts(greedy, "", prompts, &n, err);
    greedy->n_captions = (int)n;
    return st;
}

enum status comparison_caption(const struct comparison *comparison,
                               const struct captioner *captioner, const struct caption_options *how,
                               struct arena *arena, struct comparison_captions *captions,
                               struct error *err)
{
    struct caption_options greedy;
    struct run run = {
        .comparison = comparison, .captioner = captioner, .how = &greedy, .captions = captions};
    enum status st = greedily(how, &greedy, err);

    memset(captions, 0, sizeof *captions);
    for (size_t i = 0; i < FIRST_IMAGES; i++)
        arena_init(&captions->results[i], RESULTS_BYTES);
    if (st == ST_OK)
        st = caption_options_check(&greedy, captioner_info(captioner), err);
    if (st != ST_OK)
        return st;
    captions->n_prompts = (size_t)greedy.n_captions;
    st = arena_calloc(arena, FIRST_IMAGES * captions->n_prompts, sizeof *captions->captions,
                      &captions->captions, err);
    return st == ST_OK ? parallel_run(comparison->first->n, comparison->threads, caption, &run, err)
                       : st;
}

void comparison_of_captions(const struct comparison *comparison,
                            const struct comparison_captions *reference,
                            const struct comparison_captions *other,
                            struct fidelity_captions *figures)
{
    *figures = (struct fidelity_captions){.n = 0};
    for (size_t i = 0; i < comparison->first->n; i++)
        for (size_t p = 0; p < reference->n_prompts && reference->done[i]; p++)
            fidelity_add_captions(figures, &reference->captions[i * reference->n_prompts + p],
                                  &other->captions[i * reference->n_prompts + p]);
}

void comparison_captions_release(struct comparison_captions *captions)
{
    for (size_t i = 0; i < FIRST_IMAGES; i++)
        arena_release(&captions->results[i]);
    memset(captions, 0, sizeof *captions);
}
