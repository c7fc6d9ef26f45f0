#include "cli/model_fidelity.h"

#include "cli/tool_io.h"
#include "reinforce/base/clock.h"
#include "reinforce/models/snapshot.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/teach/captioner.h"
#include "reinforce/teach/teacher.h"

#include <math.h>
#include <stdlib.h>

enum { N_FORMS = 2 };

static const enum matrix_form forms[N_FORMS] = {MATRIX_FLOAT32, MATRIX_INT8};

/* Both runs of the same inputs. */
struct pair {
    float *emb[N_FORMS]; /* [n, dim] */
    int64_t ns[N_FORMS];
    size_t n, dim;
};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double ms_each(int64_t ns, size_t n)
{
    return (double)ns / 1e6 / (double)n;
}

/* Rows are of unit length. */
static enum status report(const struct pair *pair, const char *what, json_t *answer,
                          struct arena *arena, struct error *err)
{
    double *cosine, sum = 0;
    enum status st = arena_calloc(arena, pair->n, sizeof *cosine, &cosine, err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < pair->n; i++) {
        for (size_t d = 0; d < pair->dim; d++)
            cosine[i] +=
                (double)pair->emb[0][i * pair->dim + d] * (double)pair->emb[1][i * pair->dim + d];
        sum += cosine[i];
    }
    qsort(cosine, pair->n, sizeof *cosine, ascending);
    return tool_json_set(answer, what,
                         json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "n", (json_int_t)pair->n,
                                   "cosine_mean", sum / (double)pair->n, "cosine_p01",
                                   cosine[(pair->n - 1) / 100], "cosine_min", cosine[0],
                                   "float32_ms", ms_each(pair->ns[0], pair->n), "int8_ms",
                                   ms_each(pair->ns[1], pair->n)),
                         err);
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
            st = report(&pair, "images", answer, arena, err);
    }
    if (st == ST_OK && input->texts != NULL)
        st = tool_read_lines(input->texts, arena, &texts, &n_texts, err);
    if (st == ST_OK && n_texts > 0) {
        st = pair_init(&pair, n_texts, dim, arena, err);
        if (st == ST_OK)
            st = embed_texts(teachers, texts, &pair, err);
        if (st == ST_OK)
            st = report(&pair, "texts", answer, arena, err);
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
    size_t n_same;
    double difference; /* of mean log-probabilities, of those that are the same */
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
    if (st == ST_OK && strcmp(captions[0].text, captions[1].text) == 0) {
        tally->n_same++;
        tally->difference += fabs(captions[0].score - captions[1].score);
    }
    return st;
}

static enum status compare_captioners(struct captioner *const captioners[N_FORMS],
                                      const struct model_fidelity_input *input, json_t *answer,
                                      struct error *err)
{
    struct tally tally = {.n_same = 0};
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
    if (st != ST_OK)
        return st;
    return tool_json_set(answer, "captions",
                         json_pack("{s:I, s:f, s:f, s:f, s:f}", "n", (json_int_t)n, "same",
                                   (double)tally.n_same / (double)n, "log_probability_difference",
                                   tally.n_same > 0 ? tally.difference / (double)tally.n_same : 0.0,
                                   "float32_ms", ms_each(tally.ns[0], n), "int8_ms",
                                   ms_each(tally.ns[1], n)),
                         err);
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
