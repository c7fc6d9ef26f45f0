#include "cli/model_fidelity.h"

#include "cli/tool_io.h"
#include "reinforce/base/clock.h"
#include "reinforce/models/snapshot.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/teach/fidelity.h"
#include "reinforce/teach/teacher.h"

enum { N_FORMS = 2 };

static const enum matrix_form forms[N_FORMS] = {MATRIX_FLOAT32, MATRIX_INT8};

/* Both runs of the same inputs. */
struct pair {
    float *emb[N_FORMS]; /* [n, dim] */
    int64_t ns[N_FORMS];
    size_t n, dim;
};

static double ms_each(int64_t ns, size_t n)
{
    return (double)ns / 1e6 / (double)n;
}

/* Figures, which are taken over, and what one took. */
static enum status report(json_t *answer, const char *what, json_t *figures,
                          const int64_t ns[N_FORMS], size_t n, struct error *err)
{
    enum status st = tool_json_set(answer, what, figures, err);

    if (st == ST_OK)
        st = tool_json_set(figures, "float32_ms", json_real(ms_each(ns[0], n)), err);
    if (st == ST_OK)
        st = tool_json_set(figures, "int8_ms", json_real(ms_each(ns[1], n)), err);
    return st;
}

static enum status report_rows(const struct pair *pair, const char *what, json_t *answer,
                               struct arena *arena, struct error *err)
{
    struct fidelity_cosines cosines;
    enum status st =
        fidelity_of_rows(pair->emb[0], pair->emb[1], pair->n, pair->dim, arena, &cosines, err);

    return st == ST_OK
               ? report(answer, what, fidelity_cosines_json(&cosines), pair->ns, pair->n, err)
               : st;
}

static enum status embed_images(struct teacher *const teachers[N_FORMS], char **paths,
                                struct pair *pair, struct error *err)
{
    const struct preprocess *pre = &teacher_info(teachers[0])->preprocess;
    struct arena work;
    enum status st = ST_OK;

    arena_init(&work, TOOL_ARENA_BYTES);
    for (size_t i = 0; i < pair->n && st == ST_OK; i++) {
        struct image image, crop;

        arena_reset(&work);
        st = tool_read_image(paths[i], &work, &image, err);
        if (st == ST_OK)
            st = preprocess_pixels(pre, &image, &work, &crop, err);
        for (int f = 0; f < N_FORMS && st == ST_OK; f++) {
            int64_t begun = clock_monotonic_ns();

            st = teacher_embed_images(teachers[f], &crop, 1, &work, pair->emb[f] + i * pair->dim,
                                      err);
            pair->ns[f] += clock_monotonic_ns() - begun;
        }
    }
    arena_release(&work);
    return st;
}

static enum status embed_texts(struct teacher *const teachers[N_FORMS],
                               const struct bytes_view *texts, struct pair *pair, struct error *err)
{
    struct arena work;
    enum status st = ST_OK;

    arena_init(&work, TOOL_ARENA_BYTES);
    for (int f = 0; f < N_FORMS && st == ST_OK; f++) {
        int64_t begun = clock_monotonic_ns();

        arena_reset(&work);
        st = teacher_embed_texts(teachers[f], texts, pair->n, &work, pair->emb[f], err);
        pair->ns[f] = clock_monotonic_ns() - begun;
    }
    arena_release(&work);
    return st;
}

static enum status pair_init(struct pair *pair, size_t n, size_t dim, struct arena *arena,
                             struct error *err)
{
    enum status st = ST_OK;

    *pair = (struct pair){.n = n, .dim = dim};
    for (int f = 0; f < N_FORMS && st == ST_OK; f++)
        st = arena_calloc(arena, n * dim, sizeof(float), &pair->emb[f], err);
    return st;
}

static enum status compare_teachers(struct teacher *const teachers[N_FORMS],
                                    const struct model_fidelity_input *input, json_t *answer,
                                    struct arena *arena, struct error *err)
{
    size_t dim = teacher_info(teachers[0])->dim, n_texts = 0;
    struct bytes_view *texts = NULL;
    struct pair pair;
    enum status st = ST_OK;

    if (input->n_images > 0) {
        st = pair_init(&pair, input->n_images, dim, arena, err);
        if (st == ST_OK)
            st = embed_images(teachers, input->images, &pair, err);
        if (st == ST_OK)
            st = report_rows(&pair, "images", answer, arena, err);
    }
    if (st == ST_OK && input->texts != NULL)
        st = tool_read_lines(input->texts, arena, &texts, &n_texts, err);
    if (st == ST_OK && n_texts > 0) {
        st = pair_init(&pair, n_texts, dim, arena, err);
        if (st == ST_OK)
            st = embed_texts(teachers, texts, &pair, err);
        if (st == ST_OK)
            st = report_rows(&pair, "texts", answer, arena, err);
    }
    return st;
}

static enum status of_teacher(const char *dir, const struct model_fidelity_input *input,
                              json_t *answer, struct error *err)
{
    struct teacher *teachers[N_FORMS] = {NULL};
    struct arena arena;
    enum status st = ST_OK;

    arena_init(&arena, TOOL_ARENA_BYTES);
    for (int f = 0; f < N_FORMS && st == ST_OK; f++)
        st = teacher_open(&(struct teacher_options){.model_dir = dir, .matrices = forms[f]},
                          &teachers[f], err);
    if (st == ST_OK)
        st = compare_teachers(teachers, input, answer, &arena, err);
    for (int f = 0; f < N_FORMS; f++)
        teacher_close(&teachers[f]);
    arena_release(&arena);
    return st;
}

/* What captions have in common so far. */
struct tally {
    int64_t ns[N_FORMS];
    struct fidelity_captions captions;
};

static enum status caption_one(struct captioner *const captioners[N_FORMS],
                               const struct caption_options *how, const char *path,
                               struct arena *results, struct arena *scratch, struct tally *tally,
                               struct error *err)
{
    const struct bytes_view uid = bytes_of_string(path);
    struct caption captions[N_FORMS];
    struct image image;
    enum status st = tool_read_image(path, results, &image, err);

    for (int f = 0; f < N_FORMS && st == ST_OK; f++) {
        int64_t begun = clock_monotonic_ns();

        st = captioner_caption_images(captioners[f], &image, &uid, 1, how, results, scratch,
                                      &captions[f], err);
        tally->ns[f] += clock_monotonic_ns() - begun;
    }
    if (st == ST_OK)
        fidelity_add_captions(&tally->captions, &captions[0], &captions[1]);
    return st;
}

static enum status compare_captioners(struct captioner *const captioners[N_FORMS],
                                      const struct model_fidelity_input *input, json_t *answer,
                                      struct error *err)
{
    struct tally tally = {.ns = {0}};
    struct caption_options how;
    struct arena results, scratch;
    size_t n = input->n_images;
    enum status st = ST_OK;

    caption_options_default(&how);
    how.strategy = CAPTION_GREEDY;
    how.max_tokens = MIN(how.max_tokens, captioner_info(captioners[0])->context_length);
    arena_init(&results, TOOL_ARENA_BYTES);
    arena_init(&scratch, TOOL_SCRATCH_BYTES);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        arena_reset(&results);
        arena_reset(&scratch);
        st = caption_one(captioners, &how, input->images[i], &results, &scratch, &tally, err);
    }
    arena_release(&scratch);
    arena_release(&results);
    return st == ST_OK ? report(answer, "captions", fidelity_captions_json(&tally.captions),
                                tally.ns, n, err)
                       : st;
}

static enum status of_captioner(const char *dir, const struct model_fidelity_input *input,
                                json_t *answer, struct error *err)
{
    struct captioner *captioners[N_FORMS] = {NULL};
    enum status st = ST_OK;

    if (input->n_images == 0)
        return error_set(err, ST_INVALID, "a captioner is compared on images; name some");
    for (int f = 0; f < N_FORMS && st == ST_OK; f++)
        st = captioner_open(&(struct captioner_options){.model_dir = dir, .matrices = forms[f]},
                            &captioners[f], err);
    if (st == ST_OK)
        st = compare_captioners(captioners, input, answer, err);
    for (int f = 0; f < N_FORMS; f++)
        captioner_close(&captioners[f]);
    return st;
}

enum status model_fidelity(const char *dir, const struct model_fidelity_input *input,
                           json_t *answer, struct error *err)
{
    struct snapshot s;
    enum status st = snapshot_read(dir, NULL, &s, err);

    if (st != ST_OK)
        return st;
    st = tool_json_set(answer, "int8_kernel", json_string(int8_kernel_name()), err);
    if (st != ST_OK)
        return st;
    return captioner_is_family((int)s.family) ? of_captioner(dir, input, answer, err)
                                              : of_teacher(dir, input, answer, err);
}
